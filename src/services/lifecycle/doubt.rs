//! A database in doubt: what is on record may long be untrue, so that nothing comes of it by itself. Only what somebody asks
//! for is done, and a session whose end somebody has asked for goes its way to that end, over restarts too.
//!
//! Not here: how a database comes to be in doubt, which is the store's ([`crate::store::Store::epoch_check`]).

use super::actor::Actor;
use crate::domain::ids::SessionId;
use crate::domain::instance::Instance;
use crate::domain::lifecycle::Input;
use crate::domain::session::{Session, State};
use crate::store::{Error as StoreError, Store};
use std::collections::BTreeSet;

/// Sessions whose users have ended them while the database was in doubt.
const THAWED: &str = "thawed";

/// What has been said while the database was in doubt, as it was written down.
pub(super) async fn thawed(store: &Store) -> Result<BTreeSet<SessionId>, StoreError> {
    let Some(text) = store.meta_get(THAWED).await? else { return Ok(BTreeSet::new()) };
    serde_json::from_str(&text).map_err(|e| StoreError::Unreadable(format!("the thawed sessions: {e}")))
}

/// Whether an input is somebody's wish, what came of one, what a machine does whose end somebody has ordered, or how an account is
/// called; everything else waits while the database is in doubt. `rows`: those of its session.
pub(super) fn asked_for(input: &Input, rows: &[Instance]) -> bool {
    use Input::{Asked, DestroyAnswered, Duplicate, LookFailed, Missing, Renamed, Retry, Seen, Settle, Tick, Unwanted};
    let ordered = |row: &Instance| row.open() && row.destroy.ordered;
    match input {
        Asked { .. } | Retry { .. } | Settle { .. } | Duplicate(_) | Unwanted { .. } | DestroyAnswered { .. } | Renamed { .. } => true,
        Seen { attempt, .. } | Missing { attempt, .. } | LookFailed { attempt, .. } => {
            rows.iter().any(|row| row.label.attempt == *attempt && ordered(row))
        }
        Tick => rows.iter().any(ordered),
        _ => false,
    }
}

/// What was ordered before a restart and is not done, to be ordered again.
pub(super) fn ordered(session: SessionId, rows: &[Instance]) -> impl Iterator<Item = (SessionId, Input)> {
    let open = rows.iter().filter(|row| row.open() && row.destroy.ordered);
    open.map(move |row| (session, Input::Retry { attempt: row.label.attempt }))
}

impl Actor {
    /// Whether nothing may happen to a session by itself: the database is in doubt, and nobody has said since what is wanted.
    pub(super) fn asleep(&self, id: SessionId) -> bool {
        self.sweeper.frozen().is_some() && !self.thawed.contains(&id)
    }

    /// Whether a session may be given another machine: not when the next start chooses, nor while the database is in doubt and may
    /// have forgotten what was rented under the same number; whoever accepts it lets choose.
    pub(super) fn may_choose(&self) -> bool {
        !self.draining && self.sweeper.frozen().is_none()
    }

    /// Somebody has said what is wanted of a session now: that is no old fact, whatever the database is.
    pub(super) async fn thaw_one(&mut self, id: SessionId) -> Result<(), StoreError> {
        if self.asleep(id) {
            self.thawed.insert(id);
            self.keep_thawed().await?;
            // Nothing was under way when the doubt began: what was due is due again.
            self.after_commit.push_back((id, Input::Resumed));
        }
        Ok(())
    }

    /// Writes down what has been said so, for the next start.
    async fn keep_thawed(&self) -> Result<(), StoreError> {
        let text = serde_json::to_string(&self.thawed).map_err(|e| StoreError::Unreadable(format!("the thawed sessions: {e}")))?;
        self.parts.store.meta_set(THAWED, &text).await
    }

    /// Everything goes on as after a restart.
    pub(super) async fn thaw(&mut self) -> Result<(), StoreError> {
        self.sweeper.thaw();
        // What was thawed has gone on by itself but for the choice of another machine.
        let chooses = |s: &Session| matches!(s.state, State::Pending | State::Provisioning) && s.attempts.last().is_none_or(|a| a.failure.is_some());
        let resumed = self.live.iter().filter(|(id, entry)| !self.thawed.contains(id) || chooses(&entry.session));
        let resumed: Vec<SessionId> = resumed.map(|(id, _)| *id).collect();
        self.after_commit.extend(resumed.into_iter().map(|id| (id, Input::Resumed)));
        self.thawed.clear();
        self.keep_standing();
        tracing::warn!("an operator has accepted the database: everything automatic goes on");
        self.keep_thawed().await
    }
}
