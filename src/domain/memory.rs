//! What launches taught us about offers, machines, hosts and providers: how likely the next launch comes to a usable
//! machine, and what is better left alone for a while.
//!
//! **The estimate.** By the field's shares, about half of what fails is bound to the machine and fails there again; the
//! other half strikes any machine. So a chance is a product of two equal parts of the prior: `luck × soundness`, each
//! `√prior`. Luck is the same for all and can't be learnt away: no machine is ever believed more than `√prior`. Soundness is
//! the mean of a Beta distribution that learns: first from its host's other machines, then from its own past. The prior
//! ([`prior`], from the adapter) is itself moved by how its provider's launches went. How much the general weighs against
//! the particular is a number of launches at each step; old evidence fades by half-lives.
//!
//! **Setting aside** is apart from it: what failed is not offered again for a time that depends on what failed, and grows
//! while nothing good comes of it. See [`Blame`] for the times.
//!
//! It is a pure fold over [`Lesson`]s, so that what was persisted gives the same memory again. It knows no clock and
//! touches no money: a chance meets a price in [`crate::domain::offer::Offer::expected_cost`] alone, as an integer.

use crate::domain::event::{Event, EventType};
use crate::domain::gpu::GpuModel;
use crate::domain::ids::{HostId, MachineId, OfferId, ProviderId, SessionId};
use crate::domain::offer::{Offer, RentalKind};
use crate::domain::session::{Attempt, AttemptFailure, EndReason, Session, State};
use crate::domain::time::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Lessons older than this are forgotten: hosts are rebuilt, places restocked.
pub const HORIZON: Duration = Duration::from_secs(30 * 24 * 3600);
/// So many lessons at most; the oldest are forgotten first. Some 20 MiB.
pub const MOST_LESSONS: u32 = 50_000;

/// What a machine did in the past counts for half after this long.
const HALF_LIFE: Duration = Duration::from_secs(72 * 3600);
/// That an offer was taken or a place sold out says something about its demand, which changes by the hour.
const HALF_LIFE_GONE: Duration = Duration::from_secs(6 * 3600);

/// How many launches the general expectation weighs against a machine's own. One: a machine is sound or it is not, and a
/// single launch says much about which. In a market where one launch in two works, one that failed once then works one
/// time in three, and one that worked once three times in five.
const MACHINE_WEIGHT: f64 = 1.0;
/// How much of a failure speaks against the machine: where one launch in two works, it was bad luck two times in five.
const MACHINE_SHARE: f64 = 0.6;
/// The same against a host's other machines, or a place's other kinds of GPU: weak evidence.
const HOST_WEIGHT: f64 = 10.0;
/// The same for a whole provider: its adapter's prior counts for this many launches.
const PROVIDER_WEIGHT: f64 = 25.0;

/// No chance is told as less or more than this: there is always something that no row shows.
const SURELY: (f64, f64) = (0.01, 0.99);

/// Offers this young are as good as new.
const FRESH: Duration = Duration::from_secs(120);
/// Offers this old have lost half of their chance; nothing is rented unseen beyond it.
const STALE: Duration = Duration::from_secs(300);

/// A prior: the chance that a launch of an offer comes to a usable machine, before anything was learnt here.
///
/// `base` is the market's average, 0 to 1, as its adapter states it. A host that the vendor calls unreliable is believed to
/// be, in proportion below 0.95 (nearly all are above; above it the vendor's measure, of uptime, says little about
/// launches); an unverified one loses a twentieth, and one on a bid as much, because it may be outbid before it is up.
#[must_use]
pub fn prior(base: f64, reliability: Option<f64>, verified: Option<bool>, rental: RentalKind) -> f64 {
    const RELIABLE: f64 = 0.95;
    let host = reliability.map_or(1.0, |r| (r / RELIABLE).clamp(0.1, 1.0));
    let unverified = if verified == Some(false) { 0.95 } else { 1.0 };
    let bid = if rental == RentalKind::Interruptible { 0.95 } else { 1.0 };
    base * host * unverified * bid
}

/// What is left of an offer's chance when its provider told of it so long ago: all of it for two minutes, half after five.
#[must_use]
pub fn freshness(age: Duration) -> f64 {
    let late = age.saturating_sub(FRESH).as_secs_f64() / (STALE - FRESH).as_secs_f64();
    1.0 - 0.5 * late.min(1.0)
}

/// What became of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It came to a machine that was handed over.
    Usable,
    /// It did not, and this is why.
    Failed(AttemptFailure),
    /// It was handed over, and then its host went away or its provider took it.
    Lost,
    /// It was handed over, and its user called it bad.
    BadMachine,
}

impl Outcome {
    /// The word in tables and on the wire: a failure's own, or `usable`, `lost`, `bad_machine`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Usable => "usable",
            Self::Failed(failure) => failure.word(),
            Self::Lost => "lost",
            Self::BadMachine => "bad_machine",
        }
    }

    /// The reverse of [`Outcome::word`].
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let plain = [Self::Usable, Self::Lost, Self::BadMachine].into_iter().find(|o| o.word() == word);
        plain.or_else(|| AttemptFailure::from_word(word).map(Self::Failed))
    }

    /// Whether it is the end of a launch; the others are complaints about a machine that was handed over.
    #[must_use]
    pub const fn is_launch(self) -> bool {
        matches!(self, Self::Usable | Self::Failed(_))
    }
}

/// Whose fault a failure is, and so what is set aside, for how long, and how that grows while nothing good comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// The offer was taken, or the place sold out: the offer, 10 min, doubling up to 2 h.
    Gone,
    /// A machine came and did not get through with an image or start script of the consumer's own, which may as well be at
    /// fault: the machine, 10 min, doubling up to 2 h, and a quarter of the evidence.
    Doubtful,
    /// It never came up, was stopped, vanished, or cost more than offered: the machine, 1 h, fourfold up to 24 h.
    Stuck,
    /// It refused keys, lied about its GPU, or its driver does not work. That takes hands to repair: the machine, 6 h,
    /// fourfold up to 24 h.
    Broken,
    /// Its user called it bad: the machine, 24 h.
    Condemned,
}

impl Blame {
    /// First wait, growth, longest wait.
    const fn terms(self) -> (Duration, u32, Duration) {
        const fn minutes(n: u64) -> Duration {
            Duration::from_secs(n * 60)
        }
        match self {
            Self::Gone | Self::Doubtful => (minutes(10), 2, minutes(120)),
            Self::Stuck => (minutes(60), 4, minutes(24 * 60)),
            Self::Broken => (minutes(6 * 60), 4, minutes(24 * 60)),
            Self::Condemned => (minutes(24 * 60), 1, minutes(24 * 60)),
        }
    }

    /// What is set aside after `failures` in a row.
    fn time(self, failures: u32) -> Duration {
        let (first, growth, most) = self.terms();
        first.saturating_mul(growth.saturating_pow(failures.saturating_sub(1).min(12))).min(most)
    }
}

/// What one launch taught.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// Whose launch it was.
    pub session: SessionId,
    /// Which attempt of that session.
    pub attempt: u8,
    /// What became of it.
    pub outcome: Outcome,
    /// Where.
    pub provider: ProviderId,
    /// Of which offer.
    pub offer: OfferId,
    /// On which machine.
    pub machine: MachineId,
    /// Of which host, where the vendor tells.
    pub host: Option<HostId>,
    /// With which GPU; `None` = learnt before that was kept.
    pub gpu: Option<GpuModel>,
    /// It ran an image or start script of its consumer.
    pub own_image: bool,
    /// When that was known.
    pub at: Time,
    /// The failure in words, cleaned and capped; empty for a success.
    pub text: String,
}

impl Lesson {
    /// What an event teaches; `None` for most, and for failures that say nothing about the offer: a limit on our calls, our
    /// credentials, our credit, an unreachable provider, a wrong request, an end from outside.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        let session = &*event.session;
        let attempt = session.attempts.last()?;
        let outcome = match event.kind {
            EventType::AttemptEnded => Outcome::Failed(attempt.failure?),
            EventType::StateChanged if event.to_state == State::Running && event.from_state == State::Provisioning => Outcome::Usable,
            EventType::StateChanged if event.to_state == State::Stopping && session.running_at.is_some() => {
                matches!(session.end_reason, Some(EndReason::HostLost | EndReason::ProviderTerminated)).then_some(Outcome::Lost)?
            }
            _ => return None,
        };
        Self::new(session, attempt, outcome, event.at)
    }

    /// That a session's user called its machine bad.
    #[must_use]
    pub fn complaint(session: &Session, now: Time) -> Option<Self> {
        session.attempts.last().and_then(|attempt| Self::new(session, attempt, Outcome::BadMachine, now))
    }

    fn new(session: &Session, attempt: &Attempt, outcome: Outcome, at: Time) -> Option<Self> {
        let text = match outcome {
            Outcome::Usable => String::new(),
            Outcome::Failed(_) => crate::domain::ids::clip(&attempt.text, 200),
            Outcome::Lost => crate::domain::ids::clip(&session.status_message, 200),
            Outcome::BadMachine => "its user called it bad".to_owned(),
        };
        let lesson = Self {
            session: session.id,
            attempt: attempt.number,
            outcome,
            provider: attempt.offer.provider.clone(),
            offer: attempt.offer.id.clone(),
            machine: attempt.offer.machine.clone(),
            host: attempt.offer.host.clone(),
            gpu: Some(attempt.offer.gpu.clone()),
            own_image: session.request.image().is_some() || session.request.start.on_start_sha256.is_some(),
            at,
            text,
        };
        (outcome == Outcome::Usable || lesson.blame().is_some()).then_some(lesson)
    }

    fn blame(&self) -> Option<Blame> {
        use AttemptFailure as F;
        let blame = match self.outcome {
            Outcome::Usable => return None,
            Outcome::Lost => return Some(Blame::Stuck),
            Outcome::BadMachine => return Some(Blame::Condemned),
            Outcome::Failed(failure) => match failure {
                F::OfferGone | F::Outbid => return Some(Blame::Gone),
                F::NeverAppeared | F::PriceChanged => return Some(Blame::Stuck),
                F::StageTimeout | F::AttemptTimeout | F::InstanceStopped | F::InstanceFailed | F::InstanceVanished => Blame::Stuck,
                F::AuthFailed | F::SshAlgorithmMismatch | F::GpuBroken => Blame::Broken,
                F::GpuMismatch => return Some(Blame::Broken),
                F::RateLimited | F::ProviderAuth | F::ProviderCredit | F::Invalid | F::ProviderUnavailable | F::SessionEnded | F::SecretLost => {
                    return None;
                }
            },
        };
        Some(if self.own_image { Blame::Doubtful } else { blame })
    }
}

/// What something is remembered by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A provider.
    Provider(ProviderId),
    /// A host or place.
    Host(HostId),
    /// A machine.
    Machine(MachineId),
    /// An offer and its twin by a bid.
    Offer(OfferId),
}

/// What kind of thing is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubjectKind {
    /// A provider.
    Provider,
    /// A host or place.
    Host,
    /// A machine, or a place's GPUs of one model.
    Machine,
    /// An offer.
    Offer,
}

impl Subject {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> SubjectKind {
        match self {
            Self::Provider(_) => SubjectKind::Provider,
            Self::Host(_) => SubjectKind::Host,
            Self::Machine(_) => SubjectKind::Machine,
            Self::Offer(_) => SubjectKind::Offer,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Provider(id) => id.as_str(),
            Self::Host(id) => id.as_str(),
            Self::Machine(id) => id.as_str(),
            Self::Offer(id) => id.as_str(),
        }
    }

    /// What an offer is remembered by, but for its provider.
    pub fn of_offer(offer: &Offer) -> impl Iterator<Item = Self> {
        Self::of(&offer.id, &offer.machine, offer.host.as_ref())
    }

    /// What a lesson is about, but for its provider.
    pub fn of_lesson(lesson: &Lesson) -> impl Iterator<Item = Self> {
        Self::of(&lesson.offer, &lesson.machine, lesson.host.as_ref())
    }

    fn of(offer: &OfferId, machine: &MachineId, host: Option<&HostId>) -> impl Iterator<Item = Self> {
        [Self::Machine(machine.clone()), Self::Offer(offer.slice())].into_iter().chain(host.cloned().map(Self::Host))
    }

    fn all(lesson: &Lesson) -> impl Iterator<Item = Self> {
        std::iter::once(Self::Provider(lesson.provider.clone())).chain(Self::of_lesson(lesson))
    }
}

/// Successes and failures, fading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    usable: f64,
    gone: f64,
    failed: f64,
    at: Time,
}

impl Tally {
    fn at(self, now: Time) -> Self {
        let past = now.since(self.at).as_secs_f64();
        let left = |half: Duration| (-past / half.as_secs_f64()).exp2();
        let (slow, fast) = (left(HALF_LIFE), left(HALF_LIFE_GONE));
        Self { usable: self.usable * slow, failed: self.failed * slow, gone: self.gone * fast, at: self.at.max(now) }
    }

    fn add(&mut self, lesson: &Lesson, weight: f64) {
        *self = self.at(lesson.at);
        match lesson.blame() {
            None => self.usable += weight,
            Some(Blame::Gone) => self.gone += weight,
            Some(Blame::Doubtful) => self.failed += weight / 4.0,
            Some(Blame::Stuck | Blame::Broken | Blame::Condemned) => self.failed += weight,
        }
    }

    fn bad(&self) -> f64 {
        self.gone + self.failed
    }

    fn all(&self) -> f64 {
        self.usable + self.bad()
    }

    fn less(self, other: Self) -> Self {
        let rest = |a: f64, b: f64| (a - b).max(0.0);
        Self { usable: rest(self.usable, other.usable), gone: rest(self.gone, other.gone), failed: rest(self.failed, other.failed), at: self.at }
    }

    /// The posterior mean of a chance that was expected to be `mean`, an expectation worth `weight` launches, when so much
    /// of each failure speaks against it.
    fn posterior(&self, mean: f64, weight: f64, share: f64) -> f64 {
        if self.all() > 0.0 { (weight * mean + self.usable) / (weight + self.usable + share * self.bad()) } else { mean }
    }
}

/// That something is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Until then.
    pub until: Time,
    /// For this.
    pub why: Outcome,
}

/// What is remembered of one subject.
#[derive(Clone, Debug, Default)]
struct Record {
    tally: Tally,
    counts: BTreeMap<Outcome, u32>,
    /// Failures since the last success.
    in_a_row: u32,
    last: Option<(Outcome, Time, String)>,
    provider: Option<ProviderId>,
    host: Option<HostId>,
    machine: Option<MachineId>,
    gpus: BTreeSet<GpuModel>,
}

/// What is remembered of one subject, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Of what.
    pub subject: Subject,
    /// At which provider.
    pub provider: ProviderId,
    /// Launches that ended, well or not.
    pub launches: u32,
    /// Launches that came to a usable machine.
    pub usable: u32,
    /// Everything else, by what it was.
    pub failures: BTreeMap<Outcome, u32>,
    /// The last lesson, when it was learnt, and in words.
    pub last: Option<(Outcome, Time, String)>,
    /// Whether it is left alone now.
    pub aside: Option<Aside>,
    /// The GPU models that were launched there, in order.
    pub gpus: Vec<GpuModel>,
    /// The chance that the next launch of its kind comes to a usable machine, 0 to 1.
    pub confidence: f64,
}

/// Everything that is remembered. See the module's header.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    log: VecDeque<Lesson>,
    known: BTreeSet<(SessionId, u8, Outcome)>,
    records: BTreeMap<Subject, Record>,
    asides: BTreeMap<Subject, Aside>,
    /// Per provider, the mean of its adapter's priors, to which the provider's own record is compared.
    means: BTreeMap<ProviderId, f64>,
}

impl Memory {
    /// Learns. The same lesson twice is one. Lessons come in the order of their times.
    pub fn learn(&mut self, lesson: Lesson) {
        if !self.known.insert((lesson.session, lesson.attempt, lesson.outcome)) {
            return;
        }
        let own = self.tally(&Subject::Machine(lesson.machine.clone()), lesson.at);
        for subject in Subject::all(&lesson) {
            // A known machine's next launch says little about its provider, or good machines that are rented again and again
            // would speak for all the others.
            let weight = if matches!(subject, Subject::Provider(_)) { MACHINE_WEIGHT / (MACHINE_WEIGHT + own.all()) } else { 1.0 };
            let blamed = match (&subject, lesson.blame()) {
                (Subject::Offer(_), Some(Blame::Gone)) => lesson.blame(),
                (Subject::Machine(_), blame) => blame.filter(|b| *b != Blame::Gone),
                (Subject::Provider(_) | Subject::Host(_) | Subject::Offer(_), _) => None,
            };
            let record = self.records.entry(subject.clone()).or_default();
            record.provider = Some(lesson.provider.clone());
            record.host.clone_from(&lesson.host);
            record.machine = Some(lesson.machine.clone());
            record.gpus.extend(lesson.gpu.clone());
            record.tally.add(&lesson, weight);
            *record.counts.entry(lesson.outcome).or_default() += 1;
            record.last = Some((lesson.outcome, lesson.at, lesson.text.clone()));
            if lesson.outcome == Outcome::Usable {
                record.in_a_row = 0;
            }
            if let Some(blame) = blamed {
                record.in_a_row = record.in_a_row.saturating_add(1);
                let until = lesson.at + blame.time(record.in_a_row);
                if self.asides.get(&subject).is_none_or(|aside| aside.until < until) {
                    self.asides.insert(subject, Aside { until, why: lesson.outcome });
                }
            }
        }
        self.log.push_back(lesson);
    }

    /// Forgets what is older than [`HORIZON`], or more than is kept.
    pub fn forget(&mut self, now: Time) {
        self.asides.retain(|_, aside| aside.until > now);
        let most = usize::try_from(MOST_LESSONS).unwrap_or(usize::MAX);
        while self.log.front().is_some_and(|first| self.log.len() > most || now.since(first.at) > HORIZON) {
            let Some(old) = self.log.pop_front() else { return };
            self.known.remove(&(old.session, old.attempt, old.outcome));
            for subject in Subject::all(&old) {
                let Some(record) = self.records.get_mut(&subject) else { continue };
                let left = record.counts.get_mut(&old.outcome).map_or(0, |n| {
                    *n = n.saturating_sub(1);
                    *n
                });
                if left == 0 {
                    record.counts.remove(&old.outcome);
                }
                if record.counts.is_empty() {
                    self.records.remove(&subject);
                }
            }
        }
    }

    /// Takes note of what an adapter expects of its offers: the mean of their priors.
    pub fn note_mean(&mut self, provider: &ProviderId, mean: f64) {
        self.means.insert(provider.clone(), mean);
    }

    fn tally(&self, subject: &Subject, now: Time) -> Tally {
        self.records.get(subject).map(|r| r.tally.at(now)).unwrap_or_default()
    }

    /// The chance that a launch of this offer comes to a usable machine, from [`Offer::prior`] and what was learnt.
    #[must_use]
    pub fn confidence(&self, offer: &Offer, now: Time) -> f64 {
        self.posterior(offer.prior.0, &offer.provider, offer.host.as_ref(), Some(&offer.machine), now)
    }

    fn posterior(&self, prior: f64, provider: &ProviderId, host: Option<&HostId>, machine: Option<&MachineId>, now: Time) -> f64 {
        let machine = machine.map(|m| self.tally(&Subject::Machine(m.clone()), now)).unwrap_or_default();
        let host = host.map(|h| self.tally(&Subject::Host(h.clone()), now).less(machine)).unwrap_or_default();
        let general = self.shifted(prior, provider, now);
        if machine.all() == 0.0 && host.all() == 0.0 {
            return general;
        }
        let luck = general.sqrt();
        let sound = machine.posterior(host.posterior(luck, HOST_WEIGHT, MACHINE_SHARE), MACHINE_WEIGHT, MACHINE_SHARE);
        (luck * sound).clamp(SURELY.0, SURELY.1)
    }

    /// A prior moved as its provider's launches moved the mean of all its priors: the odds of both change by one factor.
    fn shifted(&self, prior: f64, provider: &ProviderId, now: Time) -> f64 {
        let tally = self.tally(&Subject::Provider(provider.clone()), now);
        let Some(mean) = self.means.get(provider).copied().filter(|_| tally.all() > 0.0) else { return prior };
        let odds = |p: f64| {
            let p = p.clamp(SURELY.0, SURELY.1);
            p / (1.0 - p)
        };
        let moved = odds(prior) * odds(tally.posterior(mean, PROVIDER_WEIGHT, 1.0)) / odds(mean);
        moved / (1.0 + moved)
    }

    /// Whether an offer is left alone now, for its own or its machine's sake.
    #[must_use]
    pub fn aside(&self, offer: &Offer, now: Time) -> Option<Aside> {
        if self.asides.is_empty() {
            return None;
        }
        let of = |subject: &Subject| self.asides.get(subject).copied().filter(|aside| aside.until > now);
        let (machine, own) = (of(&Subject::Machine(offer.machine.clone())), of(&Subject::Offer(offer.id.slice())));
        machine.into_iter().chain(own).max_by_key(|aside| aside.until)
    }

    /// Everything that is remembered, by subject.
    #[must_use]
    pub fn health(&self, now: Time) -> Vec<Health> {
        let told = self.records.iter().filter_map(|(subject, record)| {
            let provider = record.provider.clone()?;
            let mean = self.means.get(&provider).copied().unwrap_or(0.5);
            let (host, machine) = match subject {
                Subject::Provider(_) => (None, None),
                Subject::Host(host) => (Some(host), None),
                // Of an offer all that matters is its machine.
                Subject::Machine(_) | Subject::Offer(_) => (record.host.as_ref(), record.machine.as_ref()),
            };
            let count = |wanted: &dyn Fn(Outcome) -> bool| record.counts.iter().filter(|(o, _)| wanted(**o)).map(|(_, n)| *n).sum();
            Some(Health {
                subject: subject.clone(),
                launches: count(&Outcome::is_launch),
                usable: count(&|o| o == Outcome::Usable),
                failures: record.counts.iter().filter(|(o, _)| **o != Outcome::Usable).map(|(o, n)| (*o, *n)).collect(),
                last: record.last.clone(),
                aside: self.asides.get(subject).copied().filter(|aside| aside.until > now),
                gpus: record.gpus.iter().cloned().collect(),
                confidence: self.posterior(mean, &provider, host, machine, now),
                provider,
            })
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests;
