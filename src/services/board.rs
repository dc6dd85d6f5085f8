//! The board: what the lifecycle actor has committed, for everybody who reads.
//!
//! Two things under one lock, so that a snapshot and its revision always agree: the live sessions as of the last
//! commit, and a bounded ring of the last events, also by session, so that a watch over one session costs what that
//! session does and not what the whole house does. Beside them doorbells, one per watched session and one for all.
//! Watchers hold a cursor, never a queue: a slow one costs the others nothing.
//!
//! Not here: deciding or writing. Only the actor publishes.

use crate::domain::event::Event;
use crate::domain::ids::SessionId;
use crate::domain::instance::Instance;
use crate::domain::money::Rate;
use crate::domain::session::Session;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Events kept in memory; older ones are read from the table.
const RING: usize = 1_024;
/// Doorbells that nobody listens to are looked for when there are this many, and at each doubling.
const MANY_BELLS: usize = 1024;

/// A session that is open or still owes something, with its machines.
#[derive(Clone, Debug)]
pub struct Live {
    /// The session.
    pub session: Arc<Session>,
    /// Its debts.
    pub instances: Arc<Vec<Instance>>,
}

impl Live {
    /// What its machines may cost per hour now.
    #[must_use]
    pub fn at_risk(&self) -> Rate {
        self.instances.iter().map(Instance::at_risk).sum()
    }
}

#[derive(Debug)]
struct State {
    live: BTreeMap<SessionId, Live>,
    /// The last events; their revisions follow each other without a gap, up to `last`.
    ring: VecDeque<Arc<Event>>,
    /// The revisions in the ring, by session.
    of: BTreeMap<SessionId, VecDeque<i64>>,
    last: i64,
}

impl State {
    fn push(&mut self, event: &Arc<Event>) {
        self.last = event.revision;
        self.of.entry(event.session_id).or_default().push_back(event.revision);
        self.ring.push_back(Arc::clone(event));
        if self.ring.len() > RING
            && let Some(old) = self.ring.pop_front()
            && let Some(left) = self.of.get_mut(&old.session_id)
        {
            left.pop_front();
            if left.is_empty() {
                self.of.remove(&old.session_id);
            }
        }
    }
}

#[derive(Debug)]
struct Bells {
    by_session: BTreeMap<SessionId, watch::Sender<i64>>,
    /// With so many, those that nobody listens to are taken down.
    sweep_at: usize,
}

impl Default for Bells {
    fn default() -> Self {
        Self { by_session: BTreeMap::new(), sweep_at: MANY_BELLS }
    }
}

/// See the module's header.
#[derive(Clone, Debug)]
pub struct Board {
    state: Arc<Mutex<State>>,
    bells: Arc<Mutex<Bells>>,
    bell: watch::Sender<i64>,
    loaded: watch::Sender<bool>,
}

/// What a cursor finds.
#[derive(Debug)]
pub enum Ahead {
    /// Events after the cursor, in order, and where the cursor is after them: everything up to there has been looked at.
    Events(Vec<Arc<Event>>, i64),
    /// The ring does not reach back that far: read the table.
    TooOld,
}

impl Board {
    /// An empty board whose last revision is `last`.
    #[must_use]
    pub fn new(last: i64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State { live: BTreeMap::new(), ring: VecDeque::new(), of: BTreeMap::new(), last })),
            bells: Arc::default(),
            bell: watch::Sender::new(last),
            loaded: watch::Sender::new(false),
        }
    }

    /// Resolves when the live sessions are there: until the actor has read them, an empty board says nothing.
    pub async fn loaded(&self) {
        let _ = self.loaded.subscribe().wait_for(|loaded| *loaded).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bells(&self) -> MutexGuard<'_, Bells> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the live sessions there as the actor found them at its start. Everybody is woken: what the actor committed
    /// before it stopped may not have been published.
    pub(super) fn reset(&self, live: BTreeMap<SessionId, Live>, last: i64) {
        {
            let mut state = self.lock();
            state.live = live;
            if state.last != last {
                state.ring.clear();
                state.of.clear();
                state.last = last;
            }
        }
        for bell in self.bells().by_session.values() {
            bell.send_replace(last);
        }
        self.bell.send_replace(last);
        self.loaded.send_replace(true);
    }

    /// After a commit: the changed sessions (`None` = nothing is owed any more), the events; then the bells.
    pub(super) fn publish(&self, changed: Vec<(SessionId, Option<Live>)>, events: &[Arc<Event>]) {
        {
            let mut state = self.lock();
            for (id, live) in changed {
                match live {
                    Some(live) => state.live.insert(id, live),
                    None => state.live.remove(&id),
                };
            }
            events.iter().for_each(|event| state.push(event));
        }
        let Some(last) = events.last().map(|e| e.revision) else { return };
        {
            let mut bells = self.bells();
            for event in events {
                if let Some(bell) = bells.by_session.get(&event.session_id) {
                    if bell.receiver_count() == 0 {
                        bells.by_session.remove(&event.session_id);
                    } else {
                        bell.send_replace(event.revision);
                    }
                }
            }
        }
        self.bell.send_replace(last);
    }

    /// The revision of the last commit.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.lock().last
    }

    /// A live session.
    #[must_use]
    pub fn live(&self, id: SessionId) -> Option<Live> {
        self.lock().live.get(&id).cloned()
    }

    /// All live sessions and the revision that they show.
    #[must_use]
    pub fn snapshot(&self) -> (Vec<Live>, i64) {
        let state = self.lock();
        (state.live.values().cloned().collect(), state.last)
    }

    /// One live session, if it is one, and the revision that it shows.
    #[must_use]
    pub fn snapshot_of(&self, id: SessionId) -> (Vec<Live>, i64) {
        let state = self.lock();
        (state.live.get(&id).cloned().into_iter().collect(), state.last)
    }

    /// A bell that rings when an event of this session (or any) is committed. Mark it seen before reading.
    #[must_use]
    pub fn subscribe(&self, session: Option<SessionId>) -> watch::Receiver<i64> {
        let Some(id) = session else { return self.bell.subscribe() };
        let mut bells = self.bells();
        if bells.by_session.len() >= bells.sweep_at {
            // Sessions that have ended ring no more, so that their bells would hang for ever.
            bells.by_session.retain(|_, bell| bell.receiver_count() > 0);
            bells.sweep_at = MANY_BELLS.max(bells.by_session.len() * 2);
        }
        bells.by_session.entry(id).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Up to `most` events after `cursor`, of one session or of all.
    #[must_use]
    pub fn ahead(&self, cursor: i64, session: Option<SessionId>, most: usize) -> Ahead {
        let state = self.lock();
        if cursor >= state.last {
            return Ahead::Events(Vec::new(), cursor);
        }
        let Some(first) = state.ring.front().map(|e| e.revision).filter(|first| *first <= cursor + 1) else { return Ahead::TooOld };
        let at = |revision: i64| usize::try_from(revision - first).unwrap_or(0);
        let events: Vec<Arc<Event>> = match session {
            None => state.ring.iter().skip(at(cursor + 1)).take(most).cloned().collect(),
            Some(id) => {
                let told = state.of.get(&id).map(|all| all.iter().skip(all.partition_point(|r| *r <= cursor)));
                told.into_iter().flatten().take(most).filter_map(|r| state.ring.get(at(*r)).cloned()).collect()
            }
        };
        // A page that is not full has reached the end.
        let reached = events.last().filter(|_| events.len() >= most).map_or(state.last, |e| e.revision);
        Ahead::Events(events, reached)
    }
}
