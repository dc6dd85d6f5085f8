//! The simulation's own teeth: rules that a service might follow and must not. A world with one of them is a world in
//! which something must be found.
//!
//! None of them is in the service: each is a provider, a probe, a disk or a setting that makes the service behave, to all who
//! look, as if it followed the wrong rule. They exist for simulated worlds only.

use crate::chaos::life::Aside;
use crate::clock::Clock;
use crate::domain::ids::{Label, MachineId, OfferId, SessionId};
use crate::domain::instance::{Desired, Evidence, Instance, InstanceStatus, Launch, Sighting};
use crate::domain::policy::Policy;
use crate::domain::template::Template;
use crate::domain::time::Time;
use crate::ports::{
    Account, ApiTarget, Certainty, DestroyAnswer, GpuAnswer, LaunchSpec, Launched, LinkState, Measured, OfferBatch, ProbeFailure, ProbeReport,
    ProbeTarget, Provider, ProviderError, ProviderFacts, SshProbe,
};
use crate::store::{Batch, Point};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A wrong rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// A launch of unknown outcome is launched again.
    LaunchAgain,
    /// A list that failed counts as complete.
    PartialListIsComplete,
    /// A label that begins like one of ours is ours.
    PrefixIsOurs,
    /// A label that no row knows is destroyed.
    UnknownIsDestroyed,
    /// Events are told before they are on disk.
    ToldBeforeCommit,
    /// The launch is made before its intent is on disk.
    EffectBeforeIntent,
    /// One list without it is enough to know that a machine never came to be.
    QuorumOfOne,
    /// Every account is the same account.
    AccountIgnored,
    /// The vendor's id is forgotten when a machine is given up.
    IdDropped,
    /// A destroy that was answered well has been carried out.
    AcceptedIsGone,
    /// Credentials that are changed while the service runs are of the same account.
    RenewedUnheard,
    /// A provider can be taken out while machines are owed there.
    DebtsLeftBehind,
    /// A debt is over by an operator's word, and nobody has given it.
    WordForNothing,
    /// Nobody looks which GPU a machine has.
    GpuUnasked,
    /// Another ask is another machine.
    MachineForgotten,
    /// What has run for forty minutes is taken for stopped.
    StateMisread,
}

impl Wrong {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::LaunchAgain,
        Self::PartialListIsComplete,
        Self::PrefixIsOurs,
        Self::UnknownIsDestroyed,
        Self::ToldBeforeCommit,
        Self::EffectBeforeIntent,
        Self::QuorumOfOne,
        Self::AccountIgnored,
        Self::IdDropped,
        Self::AcceptedIsGone,
        Self::RenewedUnheard,
        Self::DebtsLeftBehind,
        Self::WordForNothing,
        Self::GpuUnasked,
        Self::MachineForgotten,
        Self::StateMisread,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::LaunchAgain => "launch-again",
            Self::PartialListIsComplete => "partial-list-is-complete",
            Self::PrefixIsOurs => "prefix-is-ours",
            Self::UnknownIsDestroyed => "unknown-is-destroyed",
            Self::ToldBeforeCommit => "told-before-commit",
            Self::EffectBeforeIntent => "effect-before-intent",
            Self::QuorumOfOne => "quorum-of-one",
            Self::AccountIgnored => "account-ignored",
            Self::IdDropped => "id-dropped",
            Self::AcceptedIsGone => "accepted-is-gone",
            Self::RenewedUnheard => "renewed-unheard",
            Self::DebtsLeftBehind => "debts-left-behind",
            Self::WordForNothing => "word-for-nothing",
            Self::GpuUnasked => "gpu-unasked",
            Self::MachineForgotten => "machine-forgotten",
            Self::StateMisread => "state-misread",
        }
    }

    /// The reverse of [`Wrong::word`].
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.word() == word)
    }

    /// What is told of the laws that it breaks.
    #[must_use]
    pub const fn breaks(self) -> &'static [&'static str] {
        const OUTLIVED: &[&str] = &["while machine", "its debt is settled"];
        match self {
            Self::LaunchAgain => &["launched again"],
            Self::PrefixIsOurs | Self::UnknownIsDestroyed => &["which is not ours"],
            Self::ToldBeforeCommit => &["was told before it was committed", "was answered and is not on disk"],
            Self::EffectBeforeIntent => &["launched before its intent was on disk"],
            Self::IdDropped => &["became None"],
            Self::DebtsLeftBehind => &["at which it owes"],
            Self::WordForNothing => &["nobody has given it"],
            Self::GpuUnasked => &["was handed over"],
            Self::MachineForgotten => &["and so was attempt"],
            Self::StateMisread => &["has been running since"],
            // What it has forgotten it neither tells of nor ends.
            Self::PartialListIsComplete => &["nobody is told", "while machine", "its debt is settled"],
            // Its ledger ends when it believes the machine gone.
            Self::AcceptedIsGone => &["while machine", "its debt is settled", "the market bills"],
            Self::QuorumOfOne | Self::AccountIgnored | Self::RenewedUnheard => OUTLIVED,
        }
    }

    /// Settings under which the service follows the rule.
    pub fn bend(self, policy: &mut Policy) {
        if self == Self::QuorumOfOne {
            policy.absence_quorum = 1;
        }
    }

    /// A disk on which the service follows the rule: each commit that matters to it arrives one commit late, or changed.
    #[must_use]
    pub fn disk(self) -> Option<Aside> {
        match self {
            // What comes to be with an intent stays with it: that is the other rule.
            Self::ToldBeforeCommit => Some(late(|batch| !batch.events.is_empty() && !batch.instances.iter().any(intended))),
            Self::EffectBeforeIntent => Some(late_intents()),
            Self::IdDropped => Some(Arc::new(|point, batch| {
                if let Point::BeforeCommit(_) = point {
                    batch.instances.iter_mut().filter(|row| row.desired == Desired::Gone).for_each(|row| row.native_id = None);
                }
            })),
            Self::WordForNothing => Some(Arc::new(|point, batch| {
                if let Point::BeforeCommit(_) = point {
                    let settled = batch.instances.iter_mut().filter_map(|row| row.settled.as_mut());
                    settled.filter(|s| s.evidence == Evidence::NotFoundTwice).for_each(|s| s.evidence = Evidence::Operator);
                }
            })),
            _ => None,
        }
    }

    /// A probe through which the service follows the rule.
    #[must_use]
    pub fn probe(self, inner: Arc<dyn SshProbe>) -> Arc<dyn SshProbe> {
        if self == Self::GpuUnasked { Arc::new(Unasked(inner)) } else { inner }
    }

    /// A provider through which the service follows the rule.
    #[must_use]
    pub fn provider(self, inner: Arc<dyn Provider>, memory: &Arc<Memory>, clock: &Clock) -> Arc<dyn Provider> {
        Arc::new(Crooked { inner, rule: self, memory: Arc::clone(memory), clock: clock.clone() })
    }
}

/// Whether a launch is intended, and no more than that.
fn intended(row: &Instance) -> bool {
    row.launch == Launch::Intended && row.open()
}

/// A disk to which a batch that `matters` comes with the next one only.
fn late(matters: fn(&Batch) -> bool) -> Aside {
    let held: Mutex<Batch> = Mutex::default();
    Arc::new(move |point, batch| {
        let Point::BeforeCommit(_) = point else { return };
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        let late = matters(batch);
        let mut due = std::mem::take(&mut *held);
        if late {
            *held = std::mem::take(batch);
        }
        due.sessions.append(&mut batch.sessions);
        due.instances.append(&mut batch.instances);
        due.events.append(&mut batch.events);
        due.requests.append(&mut batch.requests);
        due.lessons.append(&mut batch.lessons);
        *batch = due;
    })
}

/// A disk to which intended launches come with the next batch only.
fn late_intents() -> Aside {
    let held: Mutex<Vec<Instance>> = Mutex::default();
    Arc::new(move |point, batch| {
        let Point::BeforeCommit(_) = point else { return };
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        let (late, mut rest): (Vec<Instance>, Vec<Instance>) = std::mem::take(&mut batch.instances).into_iter().partition(intended);
        let mut due = std::mem::replace(&mut *held, late);
        due.append(&mut rest);
        batch.instances = due;
    })
}

/// What a wrong rule remembers of a deployment, over all lives.
#[derive(Default)]
pub struct Memory(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    launched: BTreeSet<Label>,
    destroyed: BTreeSet<String>,
    /// Since when a machine runs, by its id.
    running: BTreeMap<String, Time>,
}

impl Memory {
    fn open(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logins after which no GPU answers.
struct Unasked(Arc<dyn SshProbe>);

#[async_trait]
impl SshProbe for Unasked {
    fn verifier_key(&self, session: SessionId) -> String {
        self.0.verifier_key(session)
    }

    async fn api(&self, target: &ApiTarget) -> Result<u16, ProbeFailure> {
        self.0.api(target).await
    }

    async fn install_key(&self, target: &ProbeTarget, add: &str, remove: &[String]) -> Result<(), ProbeFailure> {
        self.0.install_key(target, add, remove).await
    }

    async fn probe(&self, target: &ProbeTarget) -> Result<ProbeReport, ProbeFailure> {
        let report = self.0.probe(target).await?;
        Ok(ProbeReport { gpu: report.gpu.map(|_| GpuAnswer::Silent("nobody looked".to_owned())), ..report })
    }

    async fn measure(&self, target: &ProbeTarget) -> Result<Measured, ProbeFailure> {
        self.0.measure(target).await
    }
}

struct Crooked {
    inner: Arc<dyn Provider>,
    rule: Wrong,
    memory: Arc<Memory>,
    clock: Clock,
}

impl Crooked {
    fn misread(&self, sighting: &mut Sighting) {
        if self.rule == Wrong::StateMisread && sighting.status == InstanceStatus::Running {
            let now = self.clock.now();
            let since = *self.memory.open().running.entry(sighting.native_id.clone()).or_insert(now);
            if now.since(since) > Duration::from_secs(2_400) {
                sighting.status = InstanceStatus::Stopped;
            }
        }
    }
}

#[async_trait]
impl Provider for Crooked {
    fn facts(&self) -> &ProviderFacts {
        self.inner.facts()
    }

    fn owns_offer_id(&self, id: &OfferId) -> bool {
        self.inner.owns_offer_id(id)
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        let account = self.inner.account().await?;
        Ok(if self.rule == Wrong::AccountIgnored { Account { identity: "the account".to_owned(), ..account } } else { account })
    }

    async fn offers(&self) -> Result<OfferBatch, ProviderError> {
        let mut batch = self.inner.offers().await?;
        if self.rule == Wrong::MachineForgotten {
            batch.offers.iter_mut().map(Arc::make_mut).for_each(|offer| offer.machine = MachineId::new(offer.id.as_str()));
        }
        Ok(batch)
    }

    async fn templates(&self) -> Result<Vec<Template>, ProviderError> {
        self.inner.templates().await
    }

    async fn template(&self, hash_id: &str) -> Result<Option<Template>, ProviderError> {
        self.inner.template(hash_id).await
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Launched, ProviderError> {
        self.memory.open().launched.insert(spec.label);
        match self.inner.launch(spec).await {
            Err(error) if self.rule == Wrong::LaunchAgain && error.certainty == Certainty::MayHaveHappened => self.inner.launch(spec).await,
            answer => answer,
        }
    }

    async fn attach_key(&self, native_id: &str, public_key: &str) -> Result<(), ProviderError> {
        self.inner.attach_key(native_id, public_key).await
    }

    async fn instance(&self, native_id: &str) -> Result<Option<Sighting>, ProviderError> {
        if self.rule == Wrong::AcceptedIsGone && self.memory.open().destroyed.contains(native_id) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            return Ok(None);
        }
        let mut seen = self.inner.instance(native_id).await?;
        seen.iter_mut().for_each(|sighting| self.misread(sighting));
        Ok(seen)
    }

    async fn instances(&self) -> Result<Vec<Sighting>, ProviderError> {
        let mut sightings = match self.inner.instances().await {
            Err(_) if self.rule == Wrong::PartialListIsComplete => Vec::new(),
            answer => answer?,
        };
        match self.rule {
            Wrong::PrefixIsOurs => {
                let launched: Vec<String> = self.memory.open().launched.iter().map(Label::to_string).collect();
                for label in sightings.iter_mut().filter_map(|s| s.label.as_mut()) {
                    if let Some(ours) = launched.iter().find(|ours| label.starts_with(*ours)) {
                        label.clone_from(ours);
                    }
                }
            }
            Wrong::UnknownIsDestroyed => {
                for sighting in &sightings {
                    let known = sighting.label.as_deref().and_then(Label::parse).is_some_and(|l| self.memory.open().launched.contains(&l));
                    if !known {
                        let _ = self.inner.destroy(&sighting.native_id).await;
                    }
                }
            }
            Wrong::AcceptedIsGone => {
                let gone = self.memory.open().destroyed.clone();
                sightings.retain(|s| !gone.contains(&s.native_id));
            }
            Wrong::StateMisread => sightings.iter_mut().for_each(|sighting| self.misread(sighting)),
            _ => {}
        }
        Ok(sightings)
    }

    async fn start(&self, native_id: &str) -> Result<(), ProviderError> {
        self.inner.start(native_id).await
    }

    async fn destroy(&self, native_id: &str) -> Result<DestroyAnswer, ProviderError> {
        let answer = self.inner.destroy(native_id).await;
        if self.rule == Wrong::AcceptedIsGone && matches!(answer, Ok(DestroyAnswer::Accepted)) {
            self.memory.open().destroyed.insert(native_id.to_owned());
        }
        answer
    }

    fn link(&self) -> LinkState {
        self.inner.link()
    }
}
