//! The witness of one deployment: sees every commit and every call that could do harm, at the moment it happens, and
//! holds each against what is on disk and what the market knows.
//!
//! It outlives the process: what was committed or launched in an earlier life counts, unless the disk was put back to an
//! earlier time; then what came after that is lost to the deployment, and its machines are strays. It changes nothing.
//!
//! * [`warnings`]: what must have been told before an ending.
//! * [`endings`]: that an ending is what it is said to be.
//! * [`wares`]: what a session gets, and at what price.
//! * [`ground`]: what the world did beside the deployment's back, and what people ordered.

mod endings;
mod ground;
mod wares;
mod warnings;

pub use ground::Plant;

use crate::chaos::story::Story;
use crate::domain::event::{Event, EventType};
use crate::domain::ids::{Label, ProviderId, SessionId, Tag};
use crate::domain::instance::{Desired, Evidence, Instance, Launch, Sighting};
use crate::domain::money::Nanos;
use crate::domain::policy::Policy;
use crate::domain::session::{EndReason, Session, State};
use crate::domain::time::Time;
use crate::ports::LaunchSpec;
use crate::services::sweeper::{HoldKind, Strays, SweepPolicy};
use crate::sim::{Dialect, Market, key_blob};
use crate::store::Batch;
use ground::Ground;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a vendor may take for a destroy and its lists, at the most.
const VENDORS_OWN: Duration = Duration::from_secs(15 * 60);
/// From intending a launch to ending for want of offers or machines, while nothing disturbs.
const PROVISIONING: Duration = Duration::from_secs(8 * 3600);

/// A debt as it is on disk.
#[derive(Clone, Debug)]
struct Row {
    provider: ProviderId,
    account: String,
    native_id: Option<String>,
    /// That a look has shown that id with our label.
    named: bool,
    desired: Desired,
    open: bool,
    intended_at: Time,
    unwanted_at: Option<Time>,
    /// When it was settled by an operator's word, which may be wrong, if it was.
    word_at: Option<Time>,
}

/// A session as it is on disk.
#[derive(Clone, Debug)]
struct Known {
    state: State,
    state_at: Time,
    created_at: Time,
    expires_at: Time,
    hard_max_at: Time,
    provider: Option<ProviderId>,
    end_reason: Option<EndReason>,
    version: i64,
    sequence: i64,
    /// What it may have cost beyond what is accounted, since nobody could look.
    unsure: Nanos,
}

/// What is on a deployment's disk, and what it did while that was written.
#[derive(Clone, Default)]
pub struct Past {
    log: Vec<Arc<Event>>,
    sessions: BTreeMap<SessionId, Known>,
    rows: BTreeMap<Label, Row>,
    launches: Vec<Label>,
    launched: BTreeSet<Label>,
    /// Which session an accepted create is, by its caller and request id.
    requests: BTreeMap<(String, String), SessionId>,
    told: BTreeMap<SessionId, warnings::Told>,
    /// What sessions may cost.
    limits: BTreeMap<SessionId, wares::Limit>,
    /// Sessions that somebody has asked something of while the database was in doubt, and when last.
    asked: BTreeMap<SessionId, Time>,
    commits: u64,
}

#[derive(Default)]
struct Seen {
    past: Past,
    ground: Ground,
}

/// See the module's header.
pub struct Witness {
    name: String,
    tag: Tag,
    market: Arc<Market>,
    story: Arc<Story>,
    policy: Policy,
    sweep: SweepPolicy,
    seen: Mutex<Seen>,
}

impl Witness {
    /// The witness of the deployment with this tag.
    #[must_use]
    pub fn new(name: &str, tag: Tag, market: Arc<Market>, story: Arc<Story>, policy: Policy, sweep: SweepPolicy) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), tag, market, story, policy, sweep, seen: Mutex::default() })
    }

    /// From a machine's being unwanted to its being gone, and from a state's last moment to its end, while nothing disturbs:
    /// some of the longest waits between destroy calls, the vendor's own minutes, and the looks that prove it.
    fn settling(&self) -> Duration {
        self.policy.destroy_backoff_max * 6 + VENDORS_OWN
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrong(&self, what: String) {
        self.story.wrong(format!("{}: {what}", self.name));
    }

    fn now(&self) -> Time {
        self.market.clock().now()
    }

    /// The labels of all launch calls, in order.
    #[must_use]
    pub fn launches(&self) -> Vec<Label> {
        self.seen().past.launches.clone()
    }

    /// The labels of all attempts at a provider that are on disk, by their beginnings.
    #[must_use]
    pub fn attempts_at(&self, provider: &ProviderId) -> Vec<Label> {
        let seen = self.seen();
        let mut labels: Vec<(Time, Label)> =
            seen.past.rows.iter().filter(|(_, row)| row.provider == *provider).map(|(label, row)| (row.intended_at, *label)).collect();
        labels.sort();
        labels.into_iter().map(|(_, label)| label).collect()
    }

    /// The revision of the last commit.
    #[must_use]
    pub fn last_revision(&self) -> i64 {
        self.seen().past.log.last().map_or(0, |e| e.revision)
    }

    /// Commits, events and sessions so far.
    #[must_use]
    pub fn counts(&self) -> (u64, usize, usize) {
        let seen = &self.seen().past;
        (seen.commits, seen.log.len(), seen.sessions.len())
    }

    /// Whether a session is on disk.
    #[must_use]
    pub fn knows(&self, id: SessionId) -> bool {
        self.seen().past.sessions.contains_key(&id)
    }

    /// Sessions that are not over.
    #[must_use]
    pub fn open(&self) -> Vec<SessionId> {
        self.seen().past.sessions.iter().filter(|(_, s)| !s.state.is_final()).map(|(id, _)| *id).collect()
    }

    /// Sessions that are over and owe nothing any more.
    #[must_use]
    pub fn settled(&self) -> Vec<SessionId> {
        let seen = &self.seen().past;
        let owing: BTreeSet<SessionId> = seen.rows.iter().filter(|(_, row)| row.open).map(|(label, _)| label.session).collect();
        seen.sessions.iter().filter(|(id, s)| s.state.is_final() && !owing.contains(id)).map(|(id, _)| *id).collect()
    }

    /// Whether a debt is open.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.seen().past.rows.values().any(|r| r.open)
    }

    /// Whether a debt is open at a provider.
    #[must_use]
    pub fn owes_at(&self, provider: &ProviderId) -> bool {
        self.seen().past.rows.values().any(|r| r.open && r.provider == *provider)
    }

    /// Machines that are in use, by what is on disk.
    #[must_use]
    pub fn wanted(&self) -> Vec<Label> {
        self.seen().past.rows.iter().filter(|(_, r)| r.open && r.desired == Desired::Present).map(|(label, _)| *label).collect()
    }

    /// Sessions that ever ran, and how sessions ended.
    #[must_use]
    pub fn ends(&self) -> (usize, BTreeMap<&'static str, u64>) {
        let seen = &self.seen().past;
        let ran: BTreeSet<SessionId> = seen.log.iter().filter(|e| e.to_state == State::Running).map(|e| e.session_id).collect();
        let mut ends = BTreeMap::new();
        for session in seen.sessions.values() {
            *ends.entry(session.end_reason.map_or("open", EndReason::word)).or_default() += 1;
        }
        (ran.len(), ends)
    }

    /// Checks an event that somebody was told: it is on disk, word for word.
    pub fn told(&self, event: &Event) {
        let seen = self.seen();
        let at = usize::try_from(event.revision - 1).unwrap_or(usize::MAX);
        let known = seen.past.log.get(at).cloned();
        drop(seen);
        match known {
            None => self.wrong(format!("revision {} was told before it was committed", event.revision)),
            Some(known) if *known != *event => self.wrong(format!("revision {} was told otherwise than it is on disk", event.revision)),
            Some(_) => {}
        }
    }

    /// A call to a provider goes out; `false` when it must not, see [`Story::called`].
    pub fn called(&self, name: &'static str) -> bool {
        self.story.called(name)
    }

    /// A launch call goes out.
    pub fn launching(&self, spec: &LaunchSpec) {
        let label = spec.label;
        self.story.tell(&self.name, &format!("launches {label} on {}", spec.offer.id));
        let mut seen = self.seen();
        let again = !seen.past.launched.insert(label);
        seen.past.launches.push(label);
        let row = seen.past.rows.get(&label).cloned();
        let frozen = seen.ground.frozen();
        drop(seen);
        if again {
            self.wrong(format!("{label}: launched again"));
        }
        if frozen {
            self.wrong(format!("{label}: launched although the database is in doubt"));
        }
        match row {
            None => self.wrong(format!("{label}: launched before its intent was on disk")),
            Some(row) if !row.open || row.desired == Desired::Gone => self.wrong(format!("{label}: launched although it was given up")),
            Some(_) => {}
        }
    }

    /// A launch call was answered with this id.
    pub fn launched(&self, native_id: &str) {
        self.seen().ground.answered.insert(native_id.to_owned());
    }

    /// A look at one machine was answered.
    pub fn looked(&self, native_id: &str, sighting: Option<&Sighting>) {
        if sighting.is_none() {
            self.story.tell(&self.name, &format!("does not find {native_id}"));
        }
    }

    /// A call that changes one machine goes out.
    pub fn touching(&self, call: &'static str, native_id: &str) {
        self.story.tell(&self.name, &format!("{call} {native_id}"));
        let label = self.market.label_of(native_id);
        let whose = label.as_deref().and_then(Label::parse).filter(|l| l.tag == self.tag);
        let seen = self.seen();
        let row = whose.and_then(|label| seen.past.owner(native_id, label).cloned());
        let asleep = whose.is_some_and(|label| seen.ground.untouchable(label.session));
        drop(seen);
        let told = label.as_deref().unwrap_or("nothing");
        if asleep {
            self.wrong(format!("{call} of {native_id} ({told}) although the database is in doubt and nobody asked for it"));
        }
        match row {
            None => self.wrong(format!("{call} of {native_id} ({told}), which is not ours")),
            Some(row) if call == "destroy" && row.desired == Desired::Present => {
                self.wrong(format!("destroy of {native_id} ({told}), which is wanted"))
            }
            Some(_) => {}
        }
    }

    /// A call that destroys one machine goes out while another one is under way in the same process.
    pub fn destroyed_twice(&self, native_id: &str) {
        self.wrong(format!("two destroys of {native_id} at a time"));
    }

    /// A batch is on disk.
    pub fn committed(&self, batch: &Batch) {
        let now = self.now();
        let mut wrong = Vec::new();
        let mut over: Vec<Over> = Vec::new();
        let mut held = self.seen();
        let seen = &mut *held;
        seen.past.commits += 1;
        for event in &batch.events {
            let expected = seen.past.log.last().map_or(0, |e| e.revision) + 1;
            if event.revision != expected {
                wrong.push(format!("revision {} was committed where {expected} was expected", event.revision));
            }
            self.story.tell(&self.name, &told(event));
            seen.past.log.push(Arc::clone(event));
            wrong.extend(warnings::check(&mut seen.past, &seen.ground, event, &self.policy));
            wrong.extend(endings::check(&seen.past, &seen.ground, &self.market, event));
            if event.kind == EventType::KeyRotated {
                wrong.extend(self.rotated(&seen.past, event));
            }
            wrong.extend(wares::check(&mut seen.past, &seen.ground, &self.market, event));
        }
        for request in batch.requests.iter().filter(|r| r.method == "CreateSession") {
            let key = (request.principal.clone(), request.request_id.clone());
            if let Some(before) = seen.past.requests.insert(key, request.session).filter(|before| *before != request.session) {
                wrong.push(format!("request {} of {} made {before} and {}", request.request_id, request.principal, request.session));
            }
        }
        for session in &batch.sessions {
            let known = Known::of(session);
            let before = seen.past.sessions.insert(session.id, known);
            if let Some(before) = &before
                && (session.version <= before.version || session.sequence < before.sequence)
            {
                wrong.push(format!(
                    "{}: version {} and sequence {} after {} and {}",
                    session.id, session.version, session.sequence, before.version, before.sequence
                ));
            }
            if before.as_ref().is_some_and(|b| b.state.is_final() && (b.state != session.state || b.end_reason != session.end_reason)) {
                wrong.push(format!("{}: was over, and is {} now", session.id, session.state));
            }
            if session.state.is_final() && before.is_none_or(|b| !b.state.is_final()) {
                over.push(Over::Session(session.id, format!("{} is {} ({:?})", session.id, session.state, session.end_reason)));
            }
        }
        let known = |id: &String| seen.past.rows.values().any(|row| row.native_id.as_ref() == Some(id));
        let found: BTreeSet<String> = batch.instances.iter().filter_map(|row| row.native_id.clone()).filter(|id| !known(id)).collect();
        for instance in &batch.instances {
            if let Some(settled) = instance.settled.filter(|_| seen.past.rows.get(&instance.label).is_none_or(|row| row.open)) {
                let off_by = instance.off_by.map(Time::rfc3339).unwrap_or_default();
                self.story.tell(&self.name, &format!("{} is settled: {:?}, off by {off_by}", instance.label, settled.evidence));
                if settled.evidence == Evidence::Operator {
                    wrong.extend(seen.by_word(instance.label, &batch.events).map(|text| format!("{}: {text}", instance.label)));
                }
            }
            if let Some(text) = self.unasked(seen, instance, now).or_else(|| seen.past.debt(instance, now, &mut over, &|id| self.market.label_of(id)))
            {
                wrong.push(format!("{}: {text}", instance.label));
            }
        }
        let concerned: BTreeSet<SessionId> = batch.instances.iter().map(|row| row.label.session).collect();
        wrong.extend(concerned.into_iter().filter_map(|id| seen.past.doubled(id)));
        for over in over {
            wrong.extend(self.outlived(seen, &over, &found));
        }
        drop(held);
        wrong.into_iter().for_each(|what| self.wrong(what));
    }

    /// The machine takes the key that was asked for last.
    fn rotated(&self, past: &Past, event: &Event) -> Option<String> {
        let attempt = event.session.attempt()?.number;
        let row = past.rows.iter().find(|(label, _)| label.session == event.session_id && label.attempt == attempt)?.1;
        let native_id = row.native_id.as_deref()?;
        let blob = key_blob(&event.session.request.public_key)?;
        let there = self.market.alive().iter().any(|id| id == native_id);
        (there && !self.market.admits(native_id, &blob))
            .then(|| format!("{}: its key was changed, and {native_id} does not take it", event.session_id))
    }

    /// What is wrong with a row that nobody intended: for a second machine, a stray or a latecomer.
    fn unasked(&self, seen: &Seen, instance: &Instance, now: Time) -> Option<String> {
        let before = seen.past.rows.get(&instance.label);
        if let (None, Launch::Intended) = (before, instance.launch) {
            let held = seen.ground.held(&instance.provider, HoldKind::Launches, now);
            return held.then(|| format!("is intended although launches at {} are held", instance.provider));
        }
        let new = match before {
            None => true,
            Some(before) => !before.open && instance.open(),
        };
        let native_id = instance.native_id.as_deref().filter(|_| new)?;
        if seen.ground.permitted.contains(native_id) || seen.ground.answered.contains(native_id) {
            return None;
        }
        if seen.ground.untouchable(instance.label.session) {
            return Some(format!("{native_id} is to be destroyed although the database is in doubt and nobody asked for it"));
        }
        if seen.ground.held(&instance.provider, HoldKind::Sweeper, now) {
            return Some(format!("{native_id} is to be destroyed although the sweeper is held at {}", instance.provider));
        }
        let carried = self.market.label_of(native_id).as_deref().and_then(Label::parse);
        let stray = before.is_none() && carried.is_some_and(|label| !seen.past.rows.contains_key(&label));
        let ripe = || {
            let since = seen.ground.planted.get(native_id).map_or(now, |planted| planted.since);
            self.sweep.strays == Strays::Destroy && now.since(since) >= self.sweep.grace
        };
        (stray && !ripe()).then(|| format!("the stray {native_id} was taken over, and nobody ordered it"))
    }

    /// Machines that live on although what they belong to is over. What the world has put beside them and no row knew
    /// before it was `found` by this very commit is for [`Witness::look`].
    fn outlived(&self, seen: &Seen, over: &Over, found: &BTreeSet<String>) -> Vec<String> {
        let (beginning, what, row) = match over {
            Over::Session(id, what) => (format!("gs-{}-{id}-", self.tag), what, None),
            Over::Row(label, native_id, what) => (label.to_string(), what, Some((*label, native_id.as_deref()))),
        };
        let alive = self.market.living(&beginning).into_iter().filter(|(native_id, label)| {
            // Whole labels only: attempt 1 is the beginning of attempt 10, and whatever merely begins like ours is not ours.
            let Some(label) = Label::parse(label) else { return false };
            let known = !found.contains(native_id) && seen.past.rows.values().any(|r| r.native_id.as_ref() == Some(native_id));
            let unknown = seen.ground.planted.contains_key(native_id) && !known;
            match row {
                // Where a second machine has the row, the first is the one that no row knows yet.
                None => {
                    let doubled = seen.ground.planted.values().any(|planted| planted.label == label);
                    let owner = seen.past.owner(native_id, label);
                    // What an operator has called gone is looked at by the minute.
                    let owner = owner.filter(|row| row.open || row.word_at.is_none());
                    !unknown && owner.is_some_and(|row| !doubled || row.native_id.as_ref().is_none_or(|own| own == native_id))
                }
                Some((own, None)) => own == label && !unknown,
                Some((_, Some(own))) => own == native_id,
            }
        });
        let mut wrong: Vec<String> = alive.map(|(native_id, label)| format!("{what} while machine {native_id} ({label}) lives")).collect();
        // The row of a second machine has another label than the machine.
        if let Some((label, Some(own))) = row
            && wrong.is_empty()
            && self.market.living(&format!("gs-{}-{}-", self.tag, label.session)).iter().any(|(id, _)| id == own)
        {
            wrong.push(format!("{what} while machine {own} ({label}) lives"));
        }
        wrong
    }

    /// Looks at everything that should be over, or told, by now. `quiet` tells since when nothing has disturbed a provider, in the
    /// service's view; `None` while something does. `reported` = the machines that the service reports, if it can be asked.
    pub fn look(&self, quiet: impl Fn(&ProviderId) -> Option<Time>, reported: Option<&BTreeSet<String>>) {
        let now = self.now();
        // Asked before anything is held: it asks this witness, too.
        let quiet: BTreeMap<ProviderId, Option<Time>> =
            Dialect::ALL.into_iter().map(|dialect| ProviderId::new(dialect.word())).map(|provider| (provider.clone(), quiet(&provider))).collect();
        let late = |since: Time, provider: &ProviderId, bound: Duration| {
            quiet.get(provider).copied().flatten().is_some_and(|quiet| now.since(since.max(quiet)) > bound)
        };
        let mut wrong = Vec::new();
        let mut held = self.seen();
        let Seen { past, ground } = &mut *held;
        past.weigh(ground, &self.market, now);
        ground.miss(past, &self.market, now);
        let (seen, ground) = (&held.past, &held.ground);
        let alive = self.market.living(&format!("gs-{}-", self.tag));
        for (native_id, label) in alive.iter().filter_map(|(id, label)| Some((id, Label::parse(label)?))) {
            let swept = |since: Time, provider: &ProviderId, more: Duration| {
                let free = ground.freed(provider, HoldKind::Sweeper, now);
                free.is_some_and(|free| late(since.max(free), provider, self.settling() + more))
            };
            let planted = ground.planted.get(native_id);
            let known = seen.rows.values().any(|row| row.native_id.as_ref() == Some(native_id));
            match (seen.owner(native_id, label).filter(|_| known || planted.is_none()), planted) {
                // Launches without a row are caught on the spot.
                (None, None) => {}
                (None, Some(planted)) => {
                    let more = match planted.kind {
                        Plant::Twin => Some(Duration::ZERO),
                        Plant::Stray => (self.sweep.strays == Strays::Destroy).then_some(self.sweep.grace),
                    };
                    if more.is_some_and(|more| swept(planted.at, &planted.provider, more)) {
                        wrong.push(format!("{label}: machine {native_id}, which is one too many, is alive since {}", planted.at.rfc3339()));
                    }
                    if reported.is_some_and(|all| !all.contains(native_id)) && late(planted.at, &planted.provider, self.settling()) {
                        wrong.push(format!("{label}: machine {native_id} is there since {}, and nobody is told", planted.at.rfc3339()));
                    }
                }
                (Some(row), _) if row.native_id.as_ref().is_some_and(|own| own != native_id) => {
                    // Another machine has its row: one of the two is too many.
                    let since = ground.planted.values().filter(|p| p.label == label).map(|p| p.at).max().unwrap_or(row.intended_at);
                    if swept(since, &row.provider, Duration::ZERO) {
                        wrong.push(format!("{label}: machine {native_id}, whose row has another, is alive since {}", since.rfc3339()));
                    }
                }
                (Some(row), _) => match row.unwanted_at {
                    _ if !row.open && row.word_at.is_some() => {
                        // The word was wrong: whatever is seen of it is destroyed all the same.
                        let since = row.word_at.unwrap_or_default();
                        if swept(since, &row.provider, Duration::ZERO) {
                            wrong.push(format!("{label}: machine {native_id} is alive, called gone by an operator at {}", since.rfc3339()));
                        }
                    }
                    // One that came to be beyond what was ordered is found by its label, as soon as it can be.
                    _ if !row.open => {
                        if planted.is_none_or(|planted| swept(planted.at, &planted.provider, Duration::ZERO)) {
                            wrong.push(format!("{label}: machine {native_id} is alive and its debt is settled"));
                        }
                    }
                    Some(since) if late(since, &row.provider, self.settling()) => {
                        wrong.push(format!("{label}: machine {native_id} is alive, unwanted since {}", since.rfc3339()));
                    }
                    None if row.native_id.is_none() && late(row.intended_at, &row.provider, self.settling()) => {
                        wrong.push(format!("{label}: machine {native_id} is alive and was not found since {}", row.intended_at.rfc3339()));
                    }
                    Some(_) | None => {}
                },
            }
        }
        for (label, row) in seen.rows.iter().filter(|(_, row)| row.open && row.desired == Desired::Present) {
            let running = seen.sessions.get(&label.session).is_some_and(|s| s.state == State::Running);
            let missed = row.native_id.as_ref().and_then(|id| ground.missed.get(id)).filter(|_| running);
            if let Some(since) = missed.filter(|since| late(**since, &row.provider, self.settling())) {
                wrong.push(format!("{} runs on although its machine is gone since {}", label.session, since.rfc3339()));
            }
        }
        for (id, session) in &seen.sessions {
            let all = || seen.rows.iter().filter(|(label, _)| label.session == *id).map(|(_, row)| &row.provider).chain(&session.provider);
            // Since when the clock ends it, whatever it says; `None` while an operator holds that.
            let clock = session.provider.as_ref().map_or(Some(Time::default()), |p| ground.freed(p, HoldKind::Expiry, now));
            // What may be on an account that is gone for good is for its operator.
            let elsewhere = seen.rows.iter().any(|(label, row)| label.session == *id && row.open && ground.elsewhere.contains(&row.account));
            let overdue = match session.state {
                State::Pending | State::Provisioning => all().next().is_some() && all().all(|p| late(session.created_at, p, PROVISIONING)),
                State::Running => clock.is_some_and(|free| all().all(|p| late(session.expires_at.max(free), p, self.settling()))),
                State::Stopping => !elsewhere && all().all(|p| late(session.state_at, p, self.settling())),
                State::Stopped | State::Failed => false,
            };
            // Nothing but being away, doubt and an operator's hold keeps a session from being ended at its hard limit; what
            // the vendor does then is another thing.
            let open = session.state != State::Stopping && !session.state.is_final() && !ground.frozen();
            let limit = clock.map(|free| session.hard_max_at.max(free).max(ground.accepted_at.unwrap_or_default()) + self.settling());
            let awake = ground.accepted_at.unwrap_or_default();
            if let Some(exceeded) = seen.limits.get(id).and_then(|limit| limit.exceeded).filter(|_| session.state == State::Running)
                && !ground.frozen()
                && all().all(|p| late(exceeded.max(awake), p, VENDORS_OWN))
            {
                wrong.push(format!("{id} runs on although it has cost more than max_total_cost since {}", exceeded.rfc3339()));
            }
            if overdue || (open && limit.is_some_and(|limit| now > limit)) {
                wrong.push(format!("{id} is still {} since {}, expires {}", session.state, session.state_at.rfc3339(), session.expires_at.rfc3339()));
            }
        }
        drop(held);
        wrong.into_iter().for_each(|what| self.wrong(what));
    }
}

/// Something that is over from now on, in words.
enum Over {
    /// A session.
    Session(SessionId, String),
    /// A debt, with its machine's id where that is known.
    Row(Label, Option<String>, String),
}

impl Known {
    fn of(session: &Session) -> Self {
        Self {
            state: session.state,
            state_at: session.state_at,
            created_at: session.created_at,
            expires_at: session.expires_at,
            hard_max_at: session.hard_max_at,
            provider: session.provider().cloned(),
            end_reason: session.end_reason,
            version: session.version,
            sequence: session.sequence,
            unsure: session.cost.high - session.cost.cost,
        }
    }
}

impl Past {
    /// The debt that a machine belongs to: that with its id, or else that with its label.
    fn owner(&self, native_id: &str, label: Label) -> Option<&Row> {
        let (first, last) = (Label { attempt: 0, ..label }, Label { attempt: u8::MAX, ..label });
        let mut same = self.rows.range(first..=last).map(|(_, row)| row);
        same.find(|row| row.native_id.as_deref() == Some(native_id)).or_else(|| self.rows.get(&label))
    }

    /// What is wrong when a session wants more than one machine at a time.
    fn doubled(&self, id: SessionId) -> Option<String> {
        let wanted = |(label, row): &(&Label, &Row)| label.session == id && row.open && row.desired == Desired::Present;
        let wanted: Vec<u8> = self.rows.iter().filter(wanted).map(|(label, _)| label.attempt).collect();
        (wanted.len() > 1).then(|| format!("{id} wants the machines of attempts {wanted:?} at once"))
    }

    /// A debt as it was committed; what is wrong with how it follows on what was known. When it was settled, `over` gets
    /// what must not live any more.
    fn debt(&mut self, instance: &Instance, now: Time, over: &mut Vec<Over>, carries: &dyn Fn(&str) -> Option<String>) -> Option<String> {
        let unwanted = instance.desired == Desired::Gone;
        let mut row = Row {
            provider: instance.provider.clone(),
            account: instance.account.clone(),
            native_id: instance.native_id.clone(),
            named: instance.named,
            desired: instance.desired,
            open: instance.open(),
            intended_at: instance.intended_at,
            unwanted_at: unwanted.then_some(now),
            word_at: instance.settled.filter(|s| s.evidence == Evidence::Operator).map(|s| s.at),
        };
        let before = self.rows.get(&instance.label).cloned();
        if let Some(settled) = instance.settled.filter(|s| s.evidence != Evidence::Operator && before.as_ref().is_none_or(|b| b.open)) {
            over.push(Over::Row(instance.label, row.native_id.clone(), format!("{}: settled ({:?})", instance.label, settled.evidence)));
        }
        let wrong = before.as_ref().and_then(|before| {
            // An id that an answer gave and no look has shown with our label is dropped where its machine has another label, or
            // another machine has ours; no other ever is.
            let ours = |label: &str| Label::parse(label) == Some(instance.label);
            let theirs = |id: &String| carries(id).is_some_and(|label| !ours(&label));
            let given_way = row.native_id.as_ref().is_some_and(|id| carries(id).is_some_and(|label| ours(&label)));
            let may_go = |id: &String| !before.named && (given_way || theirs(id));
            if before.native_id.is_some() && before.native_id != row.native_id && !before.native_id.as_ref().is_some_and(may_go) {
                return Some(format!("the id {:?} became {:?}", before.native_id, row.native_id));
            }
            let back = before.desired == Desired::Gone && row.desired == Desired::Present;
            back.then(|| "it was given up and is wanted again".to_owned())
        });
        // A machine that was there before its row is a second one, or a stray: it has an id.
        let unknown = before.is_none() && instance.launch != Launch::Intended && instance.native_id.is_none();
        if let Some(before) = before
            && before.open
            && before.unwanted_at.is_some()
            && unwanted
        {
            row.unwanted_at = before.unwanted_at;
        }
        self.rows.insert(instance.label, row);
        wrong.or_else(|| unknown.then(|| format!("the first that is on disk of it is {:?}", instance.launch)))
    }
}

fn told(event: &Event) -> String {
    let why = event.end_reason.map_or("", EndReason::word);
    format!(
        "#{} {} .{} {} {} {} {why} {} [{} {} {}]",
        event.revision,
        event.session_id,
        event.sequence,
        event.kind.word(),
        event.to_state.word(),
        event.stage.word(),
        event.message,
        event.cost.low.0,
        event.cost.cost.0,
        event.cost.high.0
    )
}
