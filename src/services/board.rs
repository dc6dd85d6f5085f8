//! The board: what the lifecycle actor has committed, for everybody who reads.
//!
//! Two things under one lock, so that a snapshot and its revision always agree: the live sessions as of the last
//! commit, and a bounded ring of the last events. Beside them doorbells, one per watched session and one for all.
//! Watchers hold a cursor, never a queue: a slow one costs the others nothing.
//!
//! Not here: deciding or writing. Only the actor publishes.

use crate::domain::event::Event;
use crate::domain::ids::SessionId;
use crate::domain::instance::Instance;
use crate::domain::session::Session;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Events kept in memory; older ones are read from the table.
const RING: usize = 16_384;

/// A session that is open or still owes something, with its machines.
#[derive(Clone, Debug)]
pub struct Live {
    /// The session.
    pub session: Arc<Session>,
    /// Its debts.
    pub instances: Arc<Vec<Instance>>,
}

#[derive(Debug)]
struct State {
    live: BTreeMap<SessionId, Live>,
    ring: VecDeque<Arc<Event>>,
    last: i64,
}

/// See the module's header.
#[derive(Clone, Debug)]
pub struct Board {
    state: Arc<Mutex<State>>,
    bells: Arc<Mutex<BTreeMap<SessionId, watch::Sender<i64>>>>,
    bell: watch::Sender<i64>,
}

/// What a cursor finds.
#[derive(Debug)]
pub enum Ahead {
    /// Events after the cursor, in order; empty when there are none.
    Events(Vec<Arc<Event>>),
    /// The ring does not reach back that far: read the table.
    TooOld,
}

impl Board {
    /// An empty board whose last revision is `last`.
    #[must_use]
    pub fn new(last: i64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State { live: BTreeMap::new(), ring: VecDeque::new(), last })),
            bells: Arc::default(),
            bell: watch::Sender::new(last),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the live sessions there as the actor found them at its start.
    pub(super) fn reset(&self, live: BTreeMap<SessionId, Live>, last: i64) {
        let mut state = self.lock();
        state.live = live;
        if state.last != last {
            state.ring.clear();
            state.last = last;
        }
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
            for event in events {
                state.last = event.revision;
                state.ring.push_back(Arc::clone(event));
                if state.ring.len() > RING {
                    state.ring.pop_front();
                }
            }
        }
        let Some(last) = events.last().map(|e| e.revision) else { return };
        {
            let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events {
                if let Some(bell) = bells.get(&event.session_id) {
                    if bell.receiver_count() == 0 {
                        bells.remove(&event.session_id);
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

    /// A bell that rings when an event of this session (or any) is committed. Mark it seen before reading.
    #[must_use]
    pub fn subscribe(&self, session: Option<SessionId>) -> watch::Receiver<i64> {
        match session {
            None => self.bell.subscribe(),
            Some(id) => {
                let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
                bells.entry(id).or_insert_with(|| watch::Sender::new(0)).subscribe()
            }
        }
    }

    /// Up to `most` events after `cursor`.
    #[must_use]
    pub fn ahead(&self, cursor: i64, most: usize) -> Ahead {
        let state = self.lock();
        if cursor >= state.last {
            return Ahead::Events(Vec::new());
        }
        match state.ring.front() {
            Some(first) if first.revision <= cursor + 1 => {
                let skip = usize::try_from(cursor + 1 - first.revision).unwrap_or(0);
                Ahead::Events(state.ring.iter().skip(skip).take(most).cloned().collect())
            }
            _ => Ahead::TooOld,
        }
    }
}
