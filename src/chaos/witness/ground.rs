//! What the world has done beside a deployment's back, and what people have ordered or asked: what the laws of
//! [`super::Witness`] depend on beside the disk.

use super::{Past, Seen, Witness};
use crate::domain::event::{Event, EventType};
use crate::domain::ids::{Label, ProviderId, SessionId};
use crate::domain::instance::{Desired, Instance};
use crate::domain::session::State;
use crate::domain::time::Time;
use crate::services::sweeper::{Hold, HoldKind};
use crate::sim::{Market, Workload};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a machine is that the deployment did not launch, or does not know to have launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// It has the label of an attempt that has, or had, another machine.
    Twin,
    /// It has a label of the deployment that no row knows.
    Stray,
}

/// Such a machine.
#[derive(Clone, Debug)]
pub(super) struct Planted {
    pub label: Label,
    pub provider: ProviderId,
    /// Since when it is that for the present disk.
    pub at: Time,
    /// Since when it may be known as that: an earlier disk may have had it already.
    pub since: Time,
    pub kind: Plant,
}

#[derive(Default)]
pub(super) struct Ground {
    /// By native id.
    pub planted: BTreeMap<String, Planted>,
    /// Machines about which an operator has ordered something.
    pub permitted: BTreeSet<String>,
    /// Debts that an operator has called settled.
    words: BTreeSet<Label>,
    /// Machines whose launch was answered.
    pub answered: BTreeSet<String>,
    /// Holds that are known to be in force: until when, if that was said.
    holds: BTreeMap<(ProviderId, HoldKind), Option<Time>>,
    /// When a hold was last lifted, or may have been in force.
    lifted: BTreeMap<(ProviderId, HoldKind), Time>,
    /// The database is in doubt, and no operator has accepted it.
    frozen: bool,
    /// Sessions that somebody has asked something of since it is in doubt, and when last.
    pub asked: BTreeMap<SessionId, Time>,
    /// Sessions about a debt of which an operator has ordered something meanwhile: that wakes no session that goes on.
    ordered: BTreeSet<SessionId>,
    pub accepted_at: Option<Time>,
    /// When the present process began.
    pub up_since: Time,
    /// Machines of open debts that do not exist, since when.
    pub missed: BTreeMap<String, Time>,
    /// What users do with machines, since when.
    pub uses: BTreeMap<String, (Workload, Time)>,
    /// Accounts that the deployment is given by mistake for a while.
    pub elsewhere: BTreeSet<String>,
    /// Sessions that were on a disk that was lost.
    lost: BTreeSet<SessionId>,
    /// Attempts that were on a disk that was lost.
    gone: BTreeSet<Label>,
    restores: u32,
}

impl Ground {
    pub fn frozen(&self) -> bool {
        self.frozen
    }

    /// Whether nothing may happen to a session by itself.
    fn asleep(&self, id: SessionId) -> bool {
        self.frozen && !self.asked.contains_key(&id)
    }

    /// Whether nothing may be done about the machines of a session.
    pub fn untouchable(&self, id: SessionId) -> bool {
        self.asleep(id) && !self.ordered.contains(&id)
    }

    /// Sees which machines of open debts are no more.
    pub fn miss(&mut self, past: &Past, market: &Market, now: Time) {
        let alive: BTreeSet<String> = market.alive().into_iter().collect();
        let ids = past.rows.values().filter(|row| row.open && row.named).filter_map(|row| row.native_id.as_ref());
        let gone: BTreeSet<&String> = ids.filter(|id| !alive.contains(*id)).collect();
        self.missed.retain(|id, _| gone.contains(id));
        for id in gone {
            self.missed.entry(id.clone()).or_insert(now);
        }
    }

    /// Whether a hold is surely in force.
    pub fn held(&self, provider: &ProviderId, kind: HoldKind, now: Time) -> bool {
        self.holds.get(&(provider.clone(), kind)).is_some_and(|until| until.is_none_or(|until| now < until))
    }

    /// Since when no such hold can be in force; `None` while one may be.
    pub fn freed(&self, provider: &ProviderId, kind: HoldKind, now: Time) -> Option<Time> {
        let key = (provider.clone(), kind);
        let lifted = self.lifted.get(&key).copied().unwrap_or_default();
        match self.holds.get(&key) {
            Some(Some(until)) if now >= *until => Some(lifted.max(*until)),
            Some(_) => None,
            None => Some(lifted),
        }
    }
}

impl Seen {
    /// What is wrong with a debt's being settled by word: nobody has given it, or its machine is in use.
    pub(super) fn by_word(&self, label: Label, told: &[Arc<Event>]) -> Option<&'static str> {
        if !self.ground.words.contains(&label) {
            return Some("it is settled by an operator's word, and nobody has given it");
        }
        // Its session may have been ended in the same commit, before the word.
        let of_it = || told.iter().filter(|event| event.session_id == label.session);
        let ended = of_it().position(|event| event.kind == EventType::StateChanged && event.to_state == State::Stopping);
        let word = of_it().position(|event| event.kind == EventType::Updated && event.message.contains("settled by word"));
        let in_time = ended.zip(word).is_some_and(|(ended, word)| ended < word);
        let wanted = !in_time && self.past.rows.get(&label).is_some_and(|row| row.desired == Desired::Present);
        wanted.then_some("it is settled by an operator's word while its machine is wanted")
    }
}

impl Witness {
    /// The world has put a machine with a label of the deployment on its account.
    pub fn planted(&self, native_id: &str, label: Label, provider: ProviderId, kind: Plant) {
        let at = self.now();
        self.seen().ground.planted.insert(native_id.to_owned(), Planted { label, provider, at, since: at, kind });
    }

    /// The deployment is given these accounts by mistake for a while: what it launches there it can't prove to be gone later.
    pub fn given_by_mistake(&self, accounts: BTreeSet<String>) {
        self.seen().ground.elsewhere = accounts;
    }

    /// Whether a debt is on an account that the deployment was given by mistake.
    #[must_use]
    pub fn is_elsewhere(&self, debt: &Instance) -> bool {
        self.seen().ground.elsewhere.contains(&debt.account)
    }

    /// Takes over what the world has put beside another's back: a copy of a deployment has its machines beside it, too.
    pub fn inherit(&self, other: &Self) {
        let planted = other.seen().ground.planted.clone();
        self.seen().ground.planted = planted;
    }

    /// Machines that the deployment did not launch, or does not know to have launched.
    #[must_use]
    pub fn not_launched(&self) -> BTreeSet<String> {
        self.seen().ground.planted.keys().cloned().collect()
    }

    /// An operator is about to order something about a machine with this label.
    pub fn permitted(&self, native_id: &str, label: Option<Label>) {
        let now = self.now();
        let mut seen = self.seen();
        seen.ground.permitted.insert(native_id.to_owned());
        let Some(id) = label.map(|label| label.session) else { return };
        if seen.past.sessions.get(&id).is_some_and(|known| known.state != State::Stopping && !known.state.is_final()) {
            seen.ground.ordered.insert(id);
        } else {
            seen.ground.asked.insert(id, now);
        }
    }

    /// Somebody does that with a machine from now on.
    pub fn used(&self, native_id: &str, workload: Workload) {
        let now = self.now();
        self.seen().ground.uses.insert(native_id.to_owned(), (workload, now));
    }

    /// An operator is about to call a debt settled.
    pub fn word(&self, label: Label) {
        self.seen().ground.words.insert(label);
    }

    /// Sessions some of whose debts an operator has called settled: when their machines went nobody has seen.
    #[must_use]
    pub fn by_word(&self) -> BTreeSet<SessionId> {
        self.seen().ground.words.iter().map(|label| label.session).collect()
    }

    /// Somebody is about to ask something of a session.
    pub fn asked(&self, id: SessionId) {
        let now = self.now();
        self.seen().ground.asked.insert(id, now);
    }

    /// An operator is about to order something about a debt.
    pub fn ordered(&self, label: Label) {
        self.seen().ground.ordered.insert(label.session);
    }

    /// Such a hold may be in force now: an operator orders it, or the service has set it by itself.
    pub fn may_hold(&self, provider: &ProviderId, kind: HoldKind) {
        let now = self.now();
        self.seen().ground.lifted.insert((provider.clone(), kind), now);
    }

    /// These holds, and no others, are in force.
    pub fn holding(&self, holds: &[Hold]) {
        let now = self.now();
        let mut seen = self.seen();
        let in_force: BTreeMap<_, _> = holds.iter().filter(|h| h.in_force(now)).map(|h| ((h.provider.clone(), h.kind), h.until)).collect();
        let over: Vec<_> = seen.ground.holds.keys().filter(|key| !in_force.contains_key(key)).cloned().collect();
        for key in over {
            seen.ground.lifted.insert(key, now);
        }
        seen.ground.holds = in_force;
    }

    /// A hold is about to be lifted.
    pub fn lifting(&self, provider: &ProviderId, kind: HoldKind) {
        let now = self.now();
        let mut seen = self.seen();
        let key = (provider.clone(), kind);
        seen.ground.holds.remove(&key);
        seen.ground.lifted.insert(key, now);
    }

    /// A process begins, on a database that is in doubt or not.
    pub fn begun(&self, frozen: bool) {
        let now = self.now();
        let mut seen = self.seen();
        seen.ground.up_since = now;
        seen.ground.frozen = frozen;
    }

    /// An operator is about to accept the database.
    pub fn accepting(&self) {
        let now = self.now();
        let mut seen = self.seen();
        seen.ground.frozen = false;
        seen.ground.accepted_at = Some(now);
    }

    /// The database is in doubt still: its acceptance did not come to be.
    pub fn not_accepted(&self) {
        self.seen().ground.frozen = true;
    }

    /// When an operator last accepted the database.
    #[must_use]
    pub fn accepted_at(&self) -> Option<Time> {
        self.seen().ground.accepted_at
    }

    /// Whether the database is in doubt.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.seen().ground.frozen
    }

    /// What is on disk now, for the day on which it is put back.
    #[must_use]
    pub fn past(&self) -> Past {
        let seen = self.seen();
        let asked = if seen.ground.frozen { seen.ground.asked.clone() } else { BTreeMap::new() };
        Past { asked, ..seen.past.clone() }
    }

    /// The disk holds an earlier time again: what came after it is lost, and its machines are strays.
    pub fn rewind(&self, past: Past) {
        let now = self.now();
        let beginning = format!("gs-{}-", self.tag);
        let machines = self.market.truth().into_iter().filter(|t| t.label.starts_with(&beginning));
        let labels: Vec<_> = machines.filter_map(|t| Some((t.native_id, Label::parse(&t.label)?, ProviderId::new(t.dialect.word())))).collect();
        let mut held = self.seen();
        let seen = &mut *held;
        let ground = &mut seen.ground;
        ground.lost.extend(seen.past.sessions.keys().filter(|id| !past.sessions.contains_key(id)));
        ground.gone.extend(seen.past.launched.difference(&past.launched).copied());
        for (native_id, label, provider) in labels {
            if !past.rows.contains_key(&label) {
                // What was a stray before may be known as one on this disk, and since when.
                let before = ground.planted.get(&native_id).filter(|planted| planted.kind == Plant::Stray);
                let since = before.map_or(now, |planted| planted.since);
                ground.planted.insert(native_id, Planted { label, provider, at: now, since, kind: Plant::Stray });
            } else if let Some(planted) = ground.planted.get_mut(&native_id) {
                planted.at = now;
            }
        }
        ground.holds.clear();
        for kind in HoldKind::ALL {
            for provider in crate::sim::Dialect::ALL {
                ground.lifted.insert((ProviderId::new(provider.word()), kind), now);
            }
        }
        ground.restores += 1;
        // What was asked before it was copied is on the copy.
        ground.asked = past.asked.clone();
        seen.past = past;
    }

    /// How often the disk was put back.
    #[must_use]
    pub fn restores(&self) -> u32 {
        self.seen().ground.restores
    }

    /// Whether a session was on a disk that was lost.
    #[must_use]
    pub fn lost(&self, id: SessionId) -> bool {
        self.seen().ground.lost.contains(&id)
    }

    /// Sessions some of whose machines no disk knows any more: what they cost nobody can say.
    #[must_use]
    pub fn unbillable(&self) -> BTreeSet<SessionId> {
        self.seen().ground.gone.iter().map(|label| label.session).collect()
    }
}
