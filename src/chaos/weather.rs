//! What goes wrong in a world: faults and waits drawn from its seed, and episodes that come and go.
//!
//! Everything drawn here can be lived with: where nothing tells that a list lacks something (TensorDock), that lasts less
//! long than the lists that make a verdict, and is over for long before it happens again; what hides a machine hides it for less than the looks that prove
//! its absence are apart; a host is without contact for longer than a machine may go unseen and count as having run.
//! Beyond that no service could know better.

use crate::chaos::FaultChoice;
use crate::chaos::life::silence;
use crate::clock::Clock;
use crate::domain::ids::{Label, OfferId, Tag};
use crate::domain::instance::Sighting;
use crate::domain::template::Template;
use crate::domain::time::Time;
use crate::ports::{Account, Certainty, DestroyAnswer, LaunchSpec, Launched, LinkState, OfferBatch, Provider, ProviderError, ProviderFacts};
use crate::sim::{ALWAYS, Delay, Dialect, Fault, Faults, Profile};
use async_trait::async_trait;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const MINUTE: u64 = 60_000;
/// The shortest time that a host is without contact, milliseconds.
const OFFLINE: u64 = 310_000;

/// Something that lasts for a while at one vendor, or happens to its machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Episode {
    /// Nothing reaches the vendor.
    Outage,
    /// Everything reaches the vendor, no answer arrives.
    Mute,
    /// Every list of machines fails.
    ListsFail,
    /// Every list of machines lacks one; shorter than a verdict of absence takes.
    ListsPartial,
    /// Every look at one machine fails.
    LooksFail,
    /// Destroys are answered well and nothing happens.
    DestroysIgnored,
    /// Offers can't be fetched.
    OffersFail,
    /// The credentials are refused.
    Refused,
    /// The account has no credit.
    NoCredit,
    /// A host disappears.
    Vanish,
    /// A machine is stopped because somebody else paid more.
    Outbid,
    /// A host has no contact for a while.
    Offline,
    /// A machine's price changes.
    Reprice,
    /// Somebody else rents a machine on the same account, with a label that looks like ours or not at all.
    Stranger,
    /// The answer to a launch is lost; lists fail until the machine should surely be seen, and then, for less time than a
    /// verdict of absence takes, they lack it.
    Ambush,
    /// A machine more than was ordered comes of one create, at once or long after.
    Twin,
    /// Several of them at once: more than the sweeper destroys without being asked.
    Twins,
}

impl Episode {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Outage,
        Self::Mute,
        Self::ListsFail,
        Self::ListsPartial,
        Self::LooksFail,
        Self::DestroysIgnored,
        Self::OffersFail,
        Self::Refused,
        Self::NoCredit,
        Self::Vanish,
        Self::Outbid,
        Self::Offline,
        Self::Reprice,
        Self::Stranger,
        Self::Ambush,
        Self::Twin,
        Self::Twins,
    ];

    /// The word in the counts.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Outage => "episode_outage",
            Self::Mute => "episode_mute",
            Self::ListsFail => "episode_lists_fail",
            Self::ListsPartial => "episode_lists_partial",
            Self::LooksFail => "episode_looks_fail",
            Self::DestroysIgnored => "episode_destroys_ignored",
            Self::OffersFail => "episode_offers_fail",
            Self::Refused => "episode_credentials_refused",
            Self::NoCredit => "episode_no_credit",
            Self::Vanish => "episode_vanish",
            Self::Outbid => "episode_outbid",
            Self::Offline => "episode_offline",
            Self::Reprice => "episode_reprice",
            Self::Stranger => "episode_stranger",
            Self::Ambush => "episode_ambush",
            Self::Twin => "episode_twin",
            Self::Twins => "episode_twins",
        }
    }

    /// Shortest and longest, minutes; for lists that lack something, see the module's header.
    fn length(self, dice: &mut ChaCha8Rng) -> Duration {
        let (from, to) = match self {
            Self::Outage | Self::Refused => (MINUTE, 40 * MINUTE),
            Self::ListsFail | Self::LooksFail | Self::OffersFail => (2 * MINUTE, 30 * MINUTE),
            Self::Mute | Self::DestroysIgnored => (MINUTE, 8 * MINUTE),
            Self::Ambush => (30 * MINUTE, 120 * MINUTE),
            Self::ListsPartial => (20_000, 100_000),
            Self::NoCredit => (2 * MINUTE, 20 * MINUTE),
            Self::Offline => (OFFLINE, 25 * MINUTE),
            Self::Vanish | Self::Outbid | Self::Reprice | Self::Stranger | Self::Twin | Self::Twins => (0, 0),
        };
        Duration::from_millis(dice.random_range(from..=to))
    }

    /// The fault that strikes always meanwhile.
    #[must_use]
    pub fn fault(self) -> Option<Fault> {
        match self {
            Self::ListsFail => Some(Fault::ListFails),
            Self::ListsPartial => Some(Fault::ListPartial),
            Self::LooksFail => Some(Fault::GetFails),
            Self::DestroysIgnored => Some(Fault::DestroyIgnored),
            Self::OffersFail => Some(Fault::OffersFail),
            _ => None,
        }
    }
}

/// An episode, its vendor, its beginning and end.
#[derive(Clone, Copy, Debug)]
pub struct Spell {
    /// What.
    pub episode: Episode,
    /// Where.
    pub dialect: Dialect,
    /// From.
    pub from: Time,
    /// To.
    pub to: Time,
}

/// Between two times at which lists lack something unnoticed: the longest ambush and many lists after it.
const LISTS_REST: Duration = Duration::from_secs(900);

/// The episodes of a world, by their beginnings: about one an hour by lot; and every day some that put the most at stake
/// at the vendor that tells the least.
pub fn episodes(dice: &mut ChaCha8Rng, begin: Time, hours: u32) -> Vec<Spell> {
    const SURE: [(Episode, Dialect); 10] = [
        (Episode::Ambush, Dialect::Tensordock),
        (Episode::Ambush, Dialect::Tensordock),
        (Episode::Ambush, Dialect::Tensordock),
        (Episode::Ambush, Dialect::Tensordock),
        (Episode::Twin, Dialect::Tensordock),
        (Episode::Twin, Dialect::Vastai),
        (Episode::Twins, Dialect::Vastai),
        (Episode::Stranger, Dialect::Vastai),
        (Episode::Stranger, Dialect::Vastai),
        (Episode::Stranger, Dialect::Tensordock),
    ];
    let span = u64::from(hours) * 60 * MINUTE;
    let spell = |episode: Episode, dialect: Dialect, dice: &mut ChaCha8Rng| {
        let from = begin + Duration::from_millis(dice.random_range(0..span));
        Spell { episode, dialect, from, to: from + episode.length(dice) }
    };
    let mut spells = Vec::new();
    for _ in 0..hours.max(3) * 2 / 3 {
        let episode = Episode::ALL[dice.random_range(0..Episode::ALL.len())];
        let dialect = Dialect::ALL[dice.random_range(0..2)];
        spells.push(spell(episode, dialect, dice));
    }
    for _ in 0..hours.div_ceil(24) {
        spells.extend(SURE.map(|(episode, dialect)| spell(episode, dialect, dice)));
    }
    for _ in 0..hours.div_ceil(12) {
        spells.push(spell(Episode::ListsPartial, Dialect::Tensordock, dice));
    }
    spells.sort_by_key(|spell| (spell.from, spell.to));
    apart(spells)
}

/// Leaves out lists that lack something unnoticed, where others were or will be soon: together they would last longer than a
/// verdict of absence takes.
fn apart(spells: Vec<Spell>) -> Vec<Spell> {
    let unnoticed = |spell: &Spell| spell.dialect == Dialect::Tensordock && matches!(spell.episode, Episode::ListsPartial | Episode::Ambush);
    let near = |a: &Spell, b: &Spell| a.from <= b.to + LISTS_REST && b.from <= a.to + LISTS_REST;
    let ambushes: Vec<Spell> = spells.iter().filter(|spell| unnoticed(spell) && spell.episode == Episode::Ambush).copied().collect();
    let mut out: Vec<Spell> = Vec::with_capacity(spells.len());
    for spell in spells {
        let partial = unnoticed(&spell) && spell.episode == Episode::ListsPartial;
        let mut others = ambushes.iter().chain(out.iter().filter(|other| unnoticed(other)));
        if !partial || !others.any(|other| near(&spell, other)) {
            out.push(spell);
        }
    }
    out
}

/// The faults and waits of a world.
pub fn faults(choice: FaultChoice, dice: &mut ChaCha8Rng) -> Faults {
    let mut faults = match choice {
        FaultChoice::None => return Faults::none(),
        FaultChoice::Gentle => return Faults::gentle(),
        FaultChoice::Field | FaultChoice::All => Faults::field_mix(),
    };
    if choice == FaultChoice::All {
        draw(&mut faults.vastai, Dialect::Vastai, dice);
        draw(&mut faults.tensordock, Dialect::Tensordock, dice);
    }
    faults
}

/// The highest rate at which a fault can be drawn, parts per million.
fn highest(fault: Fault, dialect: Dialect) -> u32 {
    match fault {
        // Its lists lack something in episodes only, so that one does not follow another.
        Fault::ListPartial if dialect == Dialect::Tensordock => 0,
        // What the limits of the vendors do to a service that does not pace itself is shown with the real adapters.
        Fault::Throttled => 0,
        Fault::ImageStuck | Fault::BootFails | Fault::NoAddress | Fault::KeyNever | Fault::Vanishes => 120_000,
        Fault::StaleAsk => 600_000,
        Fault::AnswerAstray => 100_000,
        Fault::DestroyIgnored => 150_000,
        Fault::StartUnavailable | Fault::DestroyRefused | Fault::LateVisible => 500_000,
        _ => 250_000,
    }
}

/// Each fault is off beyond the field's rate, or drawn; so are some waits.
fn draw(profile: &mut Profile, dialect: Dialect, dice: &mut ChaCha8Rng) {
    for fault in Fault::ALL {
        let most = highest(*fault, dialect);
        // The throw is made whatever comes of it, so that a change of one bound leaves the other faults of a seed alone.
        let (on, rate) = (dice.random_bool(0.5), dice.random_range(0..=ALWAYS));
        let drawn = u32::try_from(u64::from(rate) * u64::from(most) / u64::from(ALWAYS)).unwrap_or(0);
        if on && drawn > profile.rate(*fault) {
            profile.set_rate(*fault, drawn);
        }
    }
    let slow = dice.random_range(1..=8);
    profile.set_delay_ms(Delay::Latency, 20, 400 * slow);
    profile.set_delay_ms(Delay::Destroy, 0, dice.random_range(0..60_000));
    profile.set_delay_ms(Delay::Offline, OFFLINE, 15 * MINUTE);
    if dice.random_bool(0.5) {
        // Longer than any answer is waited for.
        profile.set_delay_ms(Delay::CreateHang, 61_000, 240_000);
    }
}

/// How the lines to the vendors are, for everybody who calls them.
#[derive(Default)]
pub struct Sky(Mutex<BTreeMap<Dialect, Vendor>>);

#[derive(Default)]
struct Vendor {
    /// What goes on there.
    going_on: BTreeSet<(Episode, Time)>,
    /// When the last trouble ended.
    quiet_since: Option<Time>,
    /// Launches that were ambushed, and when.
    ambushed: Vec<(Label, Time)>,
}

/// How long lists fail after an ambush: longer than any vendor's visibility window.
const AMBUSH_FAILS: Duration = Duration::from_secs(250);
/// Until when, counted from the ambush, they lack the machine: less than a quorum of spaced lists.
const AMBUSH_LACKS: Duration = Duration::from_secs(340);
/// The next one is not ambushed before this time is over.
const AMBUSH_REST: Duration = Duration::from_secs(1_200);

impl Sky {
    fn vendors(&self) -> MutexGuard<'_, BTreeMap<Dialect, Vendor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An episode begins; `until` tells it from others of its kind.
    pub fn begin(&self, spell: &Spell) {
        self.vendors().entry(spell.dialect).or_default().going_on.insert((spell.episode, spell.to));
    }

    /// It is over.
    pub fn end(&self, spell: &Spell, now: Time) {
        let mut vendors = self.vendors();
        let vendor = vendors.entry(spell.dialect).or_default();
        vendor.going_on.remove(&(spell.episode, spell.to));
        vendor.quiet_since = Some(now);
    }

    /// Whether such an episode is going on there.
    #[must_use]
    pub fn is(&self, dialect: Dialect, episode: Episode) -> bool {
        self.vendors().get(&dialect).is_some_and(|v| v.going_on.iter().any(|(e, _)| *e == episode))
    }

    /// Whether the answer to this launch is to be lost with all that follows.
    fn ambushes(&self, dialect: Dialect, label: Label, now: Time) -> bool {
        let on = self.is(dialect, Episode::Ambush);
        let mut vendors = self.vendors();
        let ambushed = &mut vendors.entry(dialect).or_default().ambushed;
        let rested = ambushed.iter().filter(|(other, _)| other.tag == label.tag).all(|(_, at)| now.since(*at) > AMBUSH_REST);
        if on && rested {
            ambushed.push((label, now));
        }
        on && rested
    }

    /// What an ambush does to a deployment's list now: `Some(None)` = it fails, `Some(label)` = it lacks this one.
    fn ambushed(&self, dialect: Dialect, tag: Tag, now: Time) -> Option<Option<Label>> {
        let vendors = self.vendors();
        let last = vendors.get(&dialect)?.ambushed.iter().rev().find(|(label, _)| label.tag == tag)?;
        match now.since(last.1) {
            early if early < AMBUSH_FAILS => Some(None),
            late if late < AMBUSH_LACKS => Some(Some(last.0)),
            _ => None,
        }
    }

    /// Since when nothing has disturbed a vendor; `None` while something does.
    #[must_use]
    pub fn quiet_since(&self, dialect: Dialect, begun: Time) -> Option<Time> {
        match self.vendors().get(&dialect) {
            None => Some(begun),
            Some(vendor) if vendor.going_on.is_empty() => Some(vendor.quiet_since.unwrap_or(begun)),
            Some(_) => None,
        }
    }
}

/// A provider at the end of a line that may be dead or mute.
pub struct Line {
    /// The provider.
    pub inner: Arc<dyn Provider>,
    /// The same with the credentials of another account, where there is one.
    pub other: Option<Arc<dyn Provider>>,
    /// Which vendor's.
    pub dialect: Dialect,
    /// How the lines are.
    pub sky: Arc<Sky>,
    /// Whose line it is.
    pub tag: Tag,
    /// The time.
    pub clock: Clock,
    /// It leads to another account than it should, now. Nothing is on offer there: what may have been launched on an
    /// account that is then gone for good is a case for an operator.
    pub astray: Arc<AtomicBool>,
}

impl Line {
    /// The provider with the credentials of now.
    fn there(&self) -> &Arc<dyn Provider> {
        self.other.as_ref().filter(|_| self.astray.load(Ordering::Relaxed)).unwrap_or(&self.inner)
    }

    async fn call<T>(&self, name: &'static str, call: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
        if self.sky.is(self.dialect, Episode::Outage) {
            // As an adapter whose connection is accepted and cut: it can't know.
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Err(silence(name));
        }
        let mute = self.sky.is(self.dialect, Episode::Mute);
        let answer = call.await;
        match answer {
            Ok(_) if mute => Err(silence(name)),
            Err(error) if mute => Err(ProviderError { certainty: Certainty::MayHaveHappened, ..error }),
            answer => answer,
        }
    }
}

#[async_trait]
impl Provider for Line {
    fn facts(&self) -> &ProviderFacts {
        self.inner.facts()
    }

    fn owns_offer_id(&self, id: &OfferId) -> bool {
        self.inner.owns_offer_id(id)
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        self.call("account", self.there().account()).await
    }

    async fn offers(&self) -> Result<OfferBatch, ProviderError> {
        if self.astray.load(Ordering::Relaxed) {
            return Ok(OfferBatch::default());
        }
        self.call("offers", self.there().offers()).await
    }

    async fn templates(&self) -> Result<Vec<Template>, ProviderError> {
        self.call("templates", self.there().templates()).await
    }

    async fn template(&self, hash_id: &str) -> Result<Option<Template>, ProviderError> {
        self.call("template", self.there().template(hash_id)).await
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Launched, ProviderError> {
        let launched = self.call("launch", self.there().launch(spec)).await?;
        if self.sky.ambushes(self.dialect, spec.label, self.clock.now()) {
            return Err(silence("launch"));
        }
        Ok(launched)
    }

    async fn attach_key(&self, native_id: &str, public_key: &str) -> Result<(), ProviderError> {
        self.call("attach_key", self.there().attach_key(native_id, public_key)).await
    }

    async fn instance(&self, native_id: &str) -> Result<Option<Sighting>, ProviderError> {
        self.call("instance", self.there().instance(native_id)).await
    }

    async fn instances(&self) -> Result<Vec<Sighting>, ProviderError> {
        let mut sightings = self.call("instances", self.there().instances()).await?;
        match self.sky.ambushed(self.dialect, self.tag, self.clock.now()) {
            None => {}
            // Where the vendor tells how many there are, a list that lacks one is known to.
            Some(lacks) if lacks.is_none() || self.dialect == Dialect::Vastai => return Err(silence("instances")),
            Some(lacks) => {
                let label = lacks.map(|label| label.to_string());
                sightings.retain(|sighting| sighting.label != label);
            }
        }
        Ok(sightings)
    }

    async fn start(&self, native_id: &str) -> Result<(), ProviderError> {
        self.call("start", self.there().start(native_id)).await
    }

    async fn destroy(&self, native_id: &str) -> Result<DestroyAnswer, ProviderError> {
        self.call("destroy", self.there().destroy(native_id)).await
    }

    fn link(&self) -> LinkState {
        self.inner.link()
    }
}
