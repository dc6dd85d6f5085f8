//! Ending every session of this deployment: by an operator's call, or before the server itself ends.
//!
//! Nothing here destroys a machine: the sessions end as any session does, with the reason ADMIN, and each is over when its
//! machines are proven gone.

use crate::clock::Clock;
use crate::domain::money::Rate;
use crate::domain::session::{Session, State};
use crate::services::api::{Caller, Command};
use crate::services::board::{Board, Live};
use crate::services::error::{Code, Error};
use crate::services::lifecycle::Handle;
use futures::future::join_all;
use std::sync::Arc;
use std::time::Duration;

/// Silence on the board after which it is looked at again: not every end of a debt rings.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The sessions that a drain ends, and what they cost together.
#[derive(Clone, Debug, Default)]
pub struct Drained {
    /// Each as it is after the call; those that end already are among them.
    pub sessions: Vec<Arc<Session>>,
    /// What their machines may cost per hour until they are proven gone.
    pub rate: Rate,
}

/// The service's handle. See the module's header.
#[derive(Clone)]
pub struct Drain {
    lifecycle: Handle,
    board: Board,
    clock: Clock,
}

impl Drain {
    /// Ends what is on this board through this handle.
    #[must_use]
    pub fn new(lifecycle: Handle, board: Board, clock: Clock) -> Self {
        Self { lifecycle, board, clock }
    }

    /// Everything that is not over: open sessions, and ended ones of which a machine is not proven gone.
    #[must_use]
    pub fn open(&self) -> Vec<Live> {
        self.board.snapshot().0
    }

    /// Ends every session that is not over, or only tells which it would end.
    ///
    /// # Errors
    /// The caller is no operator. When the lifecycle can't take the commands; some may be taken then, and calling again does no harm.
    pub async fn end_all(&self, caller: &Caller, validate_only: bool) -> Result<Drained, Error> {
        if !caller.admin {
            return Err(Error::new(Code::PermissionDenied, "ROLE_REQUIRED", "only operators may do this"));
        }
        let open: Vec<Live> = self.open().into_iter().filter(|live| !live.session.state.is_final()).collect();
        let rate = open.iter().map(Live::at_risk).sum();
        let sessions = join_all(open.into_iter().map(|live| async {
            if validate_only || live.session.state == State::Stopping {
                return Ok(live.session);
            }
            let ended = self.lifecycle.command(caller.clone(), live.session.id, Command::EndByOperator, None, false).await?;
            Ok(ended.session)
        }))
        .await;
        Ok(Drained { sessions: sessions.into_iter().collect::<Result<_, Error>>()?, rate })
    }

    /// Takes no new sessions from now on, ends those that there are, and returns when nothing is left of them. `told`
    /// hears what is left whenever that changes.
    pub async fn wind_up(&self, caller: &Caller, mut told: impl FnMut(&[Live])) {
        self.lifecycle.retire();
        self.board.loaded().await;
        let mut bell = self.board.subscribe(None);
        let mut before = None;
        loop {
            bell.borrow_and_update();
            // What slipped in before the door was shut is ended in a later round.
            if let Err(error) = self.end_all(caller, false).await {
                tracing::warn!(%error, "ending the sessions failed; it is tried again");
            }
            let open = self.open();
            if open.is_empty() {
                return;
            }
            let sum = (open.len(), machines(&open));
            if before != Some(sum) {
                told(&open);
                before = Some(sum);
            }
            tokio::select! {
                biased;
                _ = bell.changed() => {}
                () = self.clock.sleep(LOOK_AGAIN) => {}
            }
        }
    }
}

/// Machines that are not proven gone.
#[must_use]
pub fn machines(open: &[Live]) -> usize {
    open.iter().flat_map(|live| live.instances.iter()).filter(|instance| instance.open()).count()
}
