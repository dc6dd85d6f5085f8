//! The witness of one deployment: sees every commit and every call that could do harm, at the moment it happens, and
//! holds each against what is on disk and what the market knows.
//!
//! It outlives the process: what was committed or launched in an earlier life counts. It changes nothing.

use crate::chaos::story::Story;
use crate::domain::event::Event;
use crate::domain::ids::{Label, ProviderId, SessionId, Tag};
use crate::domain::instance::{Desired, Instance, Launch, Sighting};
use crate::domain::policy::Policy;
use crate::domain::session::{EndReason, Session, State};
use crate::domain::time::Time;
use crate::ports::LaunchSpec;
use crate::sim::Market;
use crate::store::Batch;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// From a machine's being unwanted to its being gone, and from a state's last moment to its end, while nothing disturbs:
/// several of the longest waits between destroy calls, the vendor's own minutes, and the looks that prove it.
const SETTLING: Duration = Duration::from_secs(45 * 60);
/// From intending a launch to ending for want of offers or machines, while nothing disturbs.
const PROVISIONING: Duration = Duration::from_secs(8 * 3600);

/// A debt as it is on disk.
#[derive(Clone, Debug)]
struct Row {
    provider: ProviderId,
    native_id: Option<String>,
    desired: Desired,
    open: bool,
    intended_at: Time,
    unwanted_at: Option<Time>,
}

/// A session as it is on disk.
#[derive(Clone, Debug)]
struct Known {
    state: State,
    state_at: Time,
    created_at: Time,
    expires_at: Time,
    provider: Option<ProviderId>,
    end_reason: Option<EndReason>,
    version: i64,
    sequence: i64,
}

#[derive(Default)]
struct Seen {
    log: Vec<Arc<Event>>,
    sessions: BTreeMap<SessionId, Known>,
    rows: BTreeMap<Label, Row>,
    launches: Vec<Label>,
    launched: BTreeSet<Label>,
    commits: u64,
}

/// See the module's header.
pub struct Witness {
    name: String,
    tag: Tag,
    market: Arc<Market>,
    story: Arc<Story>,
    policy: Policy,
    seen: Mutex<Seen>,
}

impl Witness {
    /// The witness of the deployment with this tag.
    #[must_use]
    pub fn new(name: &str, tag: Tag, market: Arc<Market>, story: Arc<Story>, policy: Policy) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), tag, market, story, policy, seen: Mutex::default() })
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
        self.seen().launches.clone()
    }

    /// The revision of the last commit.
    #[must_use]
    pub fn last_revision(&self) -> i64 {
        self.seen().log.last().map_or(0, |e| e.revision)
    }

    /// Commits, events and sessions so far.
    #[must_use]
    pub fn counts(&self) -> (u64, usize, usize) {
        let seen = self.seen();
        (seen.commits, seen.log.len(), seen.sessions.len())
    }

    /// Whether a session is on disk.
    #[must_use]
    pub fn knows(&self, id: SessionId) -> bool {
        self.seen().sessions.contains_key(&id)
    }

    /// Sessions that are not over.
    #[must_use]
    pub fn open(&self) -> Vec<SessionId> {
        self.seen().sessions.iter().filter(|(_, s)| !s.state.is_final()).map(|(id, _)| *id).collect()
    }

    /// Sessions that are over and owe nothing any more.
    #[must_use]
    pub fn settled(&self) -> Vec<SessionId> {
        let seen = self.seen();
        let owing: BTreeSet<SessionId> = seen.rows.iter().filter(|(_, row)| row.open).map(|(label, _)| label.session).collect();
        seen.sessions.iter().filter(|(id, s)| s.state.is_final() && !owing.contains(id)).map(|(id, _)| *id).collect()
    }

    /// Whether a debt is open.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.seen().rows.values().any(|r| r.open)
    }

    /// Sessions that ever ran, and how sessions ended.
    #[must_use]
    pub fn ends(&self) -> (usize, BTreeMap<&'static str, u64>) {
        let seen = self.seen();
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
        let known = seen.log.get(at).cloned();
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
        let again = !seen.launched.insert(label);
        seen.launches.push(label);
        let row = seen.rows.get(&label).cloned();
        drop(seen);
        if again {
            self.wrong(format!("{label}: launched again"));
        }
        match row {
            None => self.wrong(format!("{label}: launched before its intent was on disk")),
            Some(row) if !row.open || row.desired == Desired::Gone => self.wrong(format!("{label}: launched although it was given up")),
            Some(_) => {}
        }
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
        let row = whose.and_then(|l| self.seen().rows.get(&l).cloned());
        let told = label.as_deref().unwrap_or("nothing");
        match row {
            None => self.wrong(format!("{call} of {native_id} ({told}), which is not ours")),
            Some(row) if call == "destroy" && row.desired == Desired::Present => {
                self.wrong(format!("destroy of {native_id} ({told}), which is wanted"))
            }
            Some(_) => {}
        }
    }

    /// A batch is on disk.
    pub fn committed(&self, batch: &Batch) {
        let mut wrong = Vec::new();
        let mut over = Vec::new();
        let mut seen = self.seen();
        seen.commits += 1;
        for event in &batch.events {
            let expected = seen.log.last().map_or(0, |e| e.revision) + 1;
            if event.revision != expected {
                wrong.push(format!("revision {} was committed where {expected} was expected", event.revision));
            }
            self.story.tell(&self.name, &told(event));
            seen.log.push(Arc::clone(event));
        }
        for session in &batch.sessions {
            let known = Known::of(session);
            let before = seen.sessions.insert(session.id, known);
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
                over.push((format!("gs-{}-{}-", self.tag, session.id), format!("{} is {} ({:?})", session.id, session.state, session.end_reason)));
            }
        }
        for instance in &batch.instances {
            if let Some(settled) = instance.settled.filter(|_| seen.rows.get(&instance.label).is_none_or(|row| row.open)) {
                let off_by = instance.off_by.map(Time::rfc3339).unwrap_or_default();
                self.story.tell(&self.name, &format!("{} is settled: {:?}, off by {off_by}", instance.label, settled.evidence));
            }
            if let Some(text) = seen.debt(instance, self.now(), &mut over) {
                wrong.push(format!("{}: {text}", instance.label));
            }
        }
        drop(seen);
        for (beginning, what) in over {
            // Whole labels only: attempt 1 is the beginning of attempt 10, and whatever merely begins like ours is not ours.
            let whole = |label: &str| Label::parse(label).is_some() && (beginning.ends_with('-') || label == beginning);
            for (native_id, label) in self.market.living(&beginning).into_iter().filter(|(_, label)| whole(label)) {
                wrong.push(format!("{what} while machine {native_id} ({label}) lives"));
            }
        }
        wrong.into_iter().for_each(|what| self.wrong(what));
    }

    /// Looks at everything that should be over by now. `quiet` tells since when nothing has disturbed a provider, in the
    /// service's view; `None` while something does.
    pub fn look(&self, quiet: impl Fn(&ProviderId) -> Option<Time>) {
        let now = self.now();
        let late = |since: Time, provider: &ProviderId, bound: Duration| quiet(provider).is_some_and(|quiet| now.since(since.max(quiet)) > bound);
        let mut wrong = Vec::new();
        let seen = self.seen();
        let alive = self.market.living(&format!("gs-{}-", self.tag));
        for (native_id, label) in alive.iter().filter_map(|(id, label)| Some((id, Label::parse(label)?))) {
            // A label that no row knows is a stray that the world has put there: launches without a row are caught on the spot.
            let Some(row) = seen.rows.get(&label) else { continue };
            match row.unwanted_at {
                _ if !row.open => wrong.push(format!("{label}: machine {native_id} is alive and its debt is settled")),
                Some(since) if late(since, &row.provider, SETTLING) => {
                    wrong.push(format!("{label}: machine {native_id} is alive, unwanted since {}", since.rfc3339()));
                }
                None if row.native_id.is_none() && late(row.intended_at, &row.provider, SETTLING) => {
                    wrong.push(format!("{label}: machine {native_id} is alive and was not found since {}", row.intended_at.rfc3339()));
                }
                Some(_) | None => {}
            }
        }
        for (id, session) in &seen.sessions {
            let all = || seen.rows.iter().filter(|(label, _)| label.session == *id).map(|(_, row)| &row.provider).chain(&session.provider);
            let overdue = match session.state {
                State::Pending | State::Provisioning => all().next().is_some() && all().all(|p| late(session.created_at, p, PROVISIONING)),
                State::Running => all().all(|p| late(session.expires_at, p, SETTLING)),
                State::Stopping => all().all(|p| late(session.state_at, p, SETTLING)),
                State::Stopped | State::Failed => false,
            };
            // Nothing but being away keeps a session from being ended at its hard limit; what the vendor does then is another thing.
            let beyond = session.state != State::Stopping && !session.state.is_final() && now > session.created_at + self.policy.hard_max + SETTLING;
            if overdue || beyond {
                wrong.push(format!("{id} is still {} since {}, expires {}", session.state, session.state_at.rfc3339(), session.expires_at.rfc3339()));
            }
        }
        drop(seen);
        wrong.into_iter().for_each(|what| self.wrong(what));
    }
}

impl Known {
    fn of(session: &Session) -> Self {
        Self {
            state: session.state,
            state_at: session.state_at,
            created_at: session.created_at,
            expires_at: session.expires_at,
            provider: session.provider().cloned(),
            end_reason: session.end_reason,
            version: session.version,
            sequence: session.sequence,
        }
    }
}

impl Seen {
    /// A debt as it was committed; what is wrong with how it follows on what was known. When it was settled, `over` gets
    /// what must not live any more.
    fn debt(&mut self, instance: &Instance, now: Time, over: &mut Vec<(String, String)>) -> Option<String> {
        let unwanted = instance.desired == Desired::Gone;
        let mut row = Row {
            provider: instance.provider.clone(),
            native_id: instance.native_id.clone(),
            desired: instance.desired,
            open: instance.open(),
            intended_at: instance.intended_at,
            unwanted_at: unwanted.then_some(now),
        };
        let before = self.rows.get(&instance.label).cloned();
        if let Some(settled) = instance.settled.filter(|_| before.as_ref().is_none_or(|b| b.open)) {
            over.push((instance.label.to_string(), format!("{}: settled ({:?})", instance.label, settled.evidence)));
        }
        let wrong = before.as_ref().and_then(|before| {
            if before.native_id.is_some() && before.native_id != row.native_id {
                return Some(format!("the id {:?} became {:?}", before.native_id, row.native_id));
            }
            let back = before.desired == Desired::Gone && row.desired == Desired::Present;
            back.then(|| "it was given up and is wanted again".to_owned())
        });
        let unknown = before.is_none() && instance.launch != Launch::Intended;
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
