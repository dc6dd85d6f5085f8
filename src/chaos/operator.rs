//! The operator of a deployment: comes now and then, looks at what was found, adopts or destroys strays or leaves them be,
//! sets holds and lifts them, tries debts again or calls them settled, rightly or not, changes credentials while the service
//! runs, and accepts a database that is in doubt, soon, late or never. In the end it ends everything.

use crate::chaos::deployment::{Deployment, Doors, operator};
use crate::chaos::story::Story;
use crate::clock::Clock;
use crate::domain::ids::{ConsumerId, ProviderId};
use crate::domain::instance::Instance;
use crate::domain::lifecycle::Fate;
use crate::domain::time::Time;
use crate::services::error::Code;
use crate::services::lifecycle::{Done, Order};
use crate::services::sweeper::{BY_ITSELF, FindingKind, HoldKind};
use crate::sim::Dialect;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What is refused because it makes no sense (any more), beside what is not ours.
const SENSELESS: [&str; 7] =
    ["STRAY_NOT_FOUND", "SESSION_EXISTS", "INSTANCE_NOT_FOUND", "DEBT_SETTLED", "INSTANCE_IN_USE", "HOLD_NOT_FOUND", "DATABASE_ACCEPTED"];
/// Between two visits, while everybody ends what they have.
const CLOSING: Duration = Duration::from_secs(300);

/// Who looks after one deployment.
pub struct Keeper {
    /// Which.
    pub deployment: Arc<Deployment>,
    /// The world's story.
    pub story: Arc<Story>,
    /// The time.
    pub clock: Clock,
    /// From here on everybody ends what they have.
    pub closing: CancellationToken,
    /// Whether holds are set and strays decided about; otherwise only the end is seen to.
    pub busy: bool,
}

impl Keeper {
    /// Comes until the world ends.
    pub async fn keep(self, mut dice: ChaCha8Rng) {
        // From when on a database in doubt is accepted; `None` while none is, or never.
        let mut accepts: Option<Time> = None;
        loop {
            let pause = Duration::from_secs(dice.random_range(120..3_000));
            tokio::select! {
                biased;
                () = self.closing.cancelled() => self.clock.sleep(CLOSING).await,
                () = self.clock.sleep(pause) => {}
            }
            let doors = self.deployment.open().await;
            let closing = self.closing.is_cancelled();
            self.holds(&doors);
            if self.deployment.witness().is_frozen() {
                let now = self.clock.now();
                let patience = Duration::from_secs(60 * [5, 60, 300, 100_000][dice.random_range(0..4)]);
                if closing || now >= *accepts.get_or_insert(now + patience) {
                    self.accept(&doors).await;
                    accepts = None;
                }
            }
            if closing {
                self.close(&doors).await;
            } else if self.busy {
                self.visit(&doors, &mut dice).await;
            }
        }
    }

    /// Sees which holds are in force, whoever set them.
    fn holds(&self, doors: &Doors) {
        let holds = doors.operator.findings().holds;
        for hold in holds.iter().filter(|hold| hold.by == BY_ITSELF) {
            self.story.tell(self.deployment.name(), &format!("holds its sweeper at {}: {}", hold.provider, hold.reason));
        }
        self.deployment.witness().holding(&holds);
    }

    async fn order(&self, doors: &Doors, order: Order) -> Option<Done> {
        self.story.tell(self.deployment.name(), &format!("its operator orders {order:?}"));
        self.story.count("orders");
        match doors.ask(doors.operator.order(operator(), order.clone())).await {
            Some(Ok(done)) => Some(done),
            Some(Err(error)) => {
                if error.code != Code::Unavailable && !SENSELESS.contains(&error.reason) {
                    self.story.wrong(format!("{}: {order:?} is answered with {error:?}", self.deployment.name()));
                }
                None
            }
            None => None,
        }
    }

    /// Providers about which something can be ordered now.
    fn enabled(&self) -> Vec<ProviderId> {
        let without = self.deployment.without();
        Dialect::ALL.into_iter().filter(|dialect| !without.contains(dialect)).map(|dialect| ProviderId::new(dialect.word())).collect()
    }

    async fn accept(&self, doors: &Doors) {
        let witness = self.deployment.witness();
        witness.accepting();
        self.story.count("databases_accepted");
        let _ = self.order(doors, Order::Accept).await;
        // Whoever died over it has its database in doubt or not; the next start tells.
        if doors.operator.findings().frozen.is_some() {
            witness.not_accepted();
        }
    }

    async fn visit(&self, doors: &Doors, dice: &mut ChaCha8Rng) {
        let witness = self.deployment.witness();
        let findings = doors.operator.findings();
        let enabled = self.enabled();
        for hold in &findings.holds {
            if dice.random_bool(0.6) && enabled.contains(&hold.provider) {
                witness.lifting(&hold.provider, hold.kind);
                self.order(doors, Order::Lift { provider: hold.provider.clone(), kind: hold.kind, reason: String::new() }).await;
            }
        }
        for finding in &findings.machines {
            let (provider, native_id) = (finding.provider.clone(), finding.sighting.native_id.clone());
            let chance = dice.random_range(0..10);
            let minutes: u64 = dice.random_range(5..90);
            match finding.kind {
                FindingKind::Foreign if chance == 0 => self.not_ours(doors, provider, native_id).await,
                FindingKind::Stray if chance < 6 => {
                    let keep = Fate::Keep { consumer: ConsumerId::new("finder"), reservation: Duration::from_secs(60 * minutes) };
                    let fate = if chance < 4 { keep } else { Fate::Destroy };
                    witness.permitted(&native_id, finding.label);
                    if self.order(doors, Order::Stray { provider, native_id, fate }).await.is_some() {
                        self.story.count(if chance < 4 { "adopted" } else { "strays_destroyed" });
                    }
                }
                _ => {}
            }
        }
        let dialect = Dialect::ALL[dice.random_range(0..2)];
        let provider = ProviderId::new(dialect.word());
        let kind = HoldKind::ALL[dice.random_range(0..3)];
        let (holds, sweeps, retries) = (dice.random_bool(0.1), dice.random_bool(0.2), dice.random_bool(0.2));
        let until = dice.random_bool(0.5).then(|| self.clock.now() + Duration::from_secs(dice.random_range(60..7_200)));
        if holds && enabled.contains(&provider) {
            witness.may_hold(&provider, kind);
            if let Some(done) = self.order(doors, Order::Hold { provider, kind, until, reason: "to be sure".to_owned() }).await {
                self.story.count("holds");
                witness.holding(&done.holds);
            }
        }
        if sweeps {
            let _ = doors.ask(doors.operator.sweep_now(None)).await;
        }
        if retries {
            let owed = doors.operator.unconfirmed_destroys().await.unwrap_or_default();
            if let Some(debt) = owed.first() {
                witness.ordered(debt.instance.label);
                self.order(doors, Order::Retry(debt.instance.label)).await;
            }
        }
        self.words(doors, dice).await;
        self.credentials(doors, dice).await;
    }

    /// Debts that an operator calls settled: of machines that are not in the vendor's console, of some that are, and of one
    /// that somebody uses, which is refused.
    async fn words(&self, doors: &Doors, dice: &mut ChaCha8Rng) {
        let witness = self.deployment.witness();
        let (right, chosen, used) = (dice.random_bool(0.7), dice.random::<u32>() as usize, dice.random_bool(0.03));
        let owed = doors.operator.unconfirmed_destroys().await.unwrap_or_default();
        // Wrong words are about machines that carry the label of their record: what was a stray before is one again then.
        let console = self.deployment.console();
        let fits = |debt: &Instance| match debt.native_id.as_ref().and_then(|id| console.get(id)) {
            Some(label) => !right && *label == debt.label.to_string(),
            None => true,
        };
        let called: Vec<_> = owed.iter().filter(|debt| fits(&debt.instance)).collect();
        if !called.is_empty() {
            let debt = &called[chosen % called.len()].instance;
            witness.word(debt.label);
            witness.ordered(debt.label);
            if let Some(native_id) = &debt.native_id {
                witness.permitted(native_id, None);
            }
            let order = Order::Settle { label: debt.label, reason: "it is not in the console".to_owned() };
            if self.order(doors, order).await.is_some() {
                self.story.count("settled_by_word");
            }
        }
        let wanted = witness.wanted();
        if used && !wanted.is_empty() {
            let label = wanted[chosen % wanted.len()];
            witness.word(label);
            self.order(doors, Order::Settle { label, reason: "a slip".to_owned() }).await;
        }
    }

    /// Somebody changes the credentials at a vendor to another account's, and notices, or is told to, after a while.
    async fn credentials(&self, doors: &Doors, dice: &mut ChaCha8Rng) {
        let (slips, dialect, minutes) = (dice.random_bool(0.2), Dialect::ALL[dice.random_range(0..2)], dice.random_range(0..20_u64));
        let (soon, seconds) = (dice.random_bool(0.5), dice.random_range(1..90_u64));
        if !slips || self.deployment.astray().contains(&dialect) {
            return;
        }
        self.deployment.renew(doors, dialect, true).await;
        self.clock.sleep(if soon { Duration::from_secs(seconds) } else { Duration::from_secs(60 * minutes) }).await;
        // Whoever started meanwhile has read whatever is in the settings now.
        let doors = self.deployment.open().await;
        if self.deployment.astray().contains(&dialect) {
            self.deployment.renew(&doors, dialect, false).await;
        }
    }

    /// What is somebody else's is not adopted and not destroyed, whoever orders it.
    async fn not_ours(&self, doors: &Doors, provider: ProviderId, native_id: String) {
        let order = Order::Stray { provider, native_id: native_id.clone(), fate: Fate::Destroy };
        match doors.ask(doors.operator.order(operator(), order)).await {
            Some(Err(error)) if error.reason == "NOT_OURS" || error.reason == "STRAY_NOT_FOUND" || error.code == Code::Unavailable => {}
            None => {}
            Some(other) => {
                self.story.wrong(format!("{}: {native_id} is somebody else's, and is ordered destroyed: {other:?}", self.deployment.name()))
            }
        }
    }

    /// Lifts every hold, has every stray destroyed, settles what may be on an account that was a mistake, ends every session.
    async fn close(&self, doors: &Doors) {
        let witness = self.deployment.witness();
        let findings = doors.operator.findings();
        let enabled = self.enabled();
        for hold in findings.holds.iter().filter(|hold| enabled.contains(&hold.provider)) {
            witness.lifting(&hold.provider, hold.kind);
            self.order(doors, Order::Lift { provider: hold.provider.clone(), kind: hold.kind, reason: String::new() }).await;
        }
        for finding in findings.machines.iter().filter(|f| f.kind == FindingKind::Stray) {
            let (provider, native_id) = (finding.provider.clone(), finding.sighting.native_id.clone());
            witness.permitted(&native_id, finding.label);
            self.order(doors, Order::Stray { provider, native_id, fate: Fate::Destroy }).await;
        }
        let owed = doors.operator.unconfirmed_destroys().await.unwrap_or_default();
        for debt in owed.iter().map(|debt| &debt.instance).filter(|debt| witness.is_elsewhere(debt)) {
            witness.word(debt.label);
            witness.ordered(debt.label);
            self.order(doors, Order::Settle { label: debt.label, reason: "that account is not ours".to_owned() }).await;
        }
        for live in doors.winding_up.open() {
            witness.asked(live.session.id);
        }
        if let Some(Err(error)) = doors.ask(doors.winding_up.end_all(&operator(), false)).await
            && error.code != Code::Unavailable
        {
            self.story.wrong(format!("{}: ending all is answered with {error:?}", self.deployment.name()));
        }
    }
}
