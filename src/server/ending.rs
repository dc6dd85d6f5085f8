//! The end of a server: what becomes of its sessions, and what it leaves behind.

use super::Server;
use crate::domain::ids::SessionId;
use crate::domain::instance::Instance;
use crate::domain::money::Rate;
use crate::domain::session::State;
use crate::domain::time::Time;
use crate::services::api::Caller;
use crate::services::board::Live;
use crate::services::drain::machines;
use std::time::Duration;

/// What still runs, and costs, when the server stops.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// Sessions that are not over, and ended ones of which a machine is not proven gone.
    pub sessions: Vec<LeftSession>,
    /// What they cost per hour together.
    pub rate: Rate,
}

/// A session that outlives the server.
#[derive(Clone, Debug)]
pub struct LeftSession {
    /// Its id.
    pub id: SessionId,
    /// Where it stands.
    pub state: State,
    /// Its GPUs, provider and the vendor's id: `1× RTX 4090 at vastai, id 4711`; empty while it has no machine.
    pub machine: String,
    /// What its machines may cost per hour.
    pub rate: Rate,
    /// When it should end by itself.
    pub expires_at: Time,
}

impl LeftSession {
    fn of(live: &Live) -> Self {
        let session = &live.session;
        let mut machine = String::new();
        if let Some(instance) = live.instances.iter().rev().find(|i| i.open()) {
            if let Some(offer) = session.offer() {
                machine = format!("{}× {} ", offer.gpu_count, offer.gpu);
            }
            machine.push_str(&format!("at {}, {}", instance.provider, name(instance)));
        }
        Self { id: session.id, state: session.state, machine, rate: live.at_risk(), expires_at: session.expires_at }
    }
}

/// How the vendor, or else we, call a machine.
fn name(instance: &Instance) -> String {
    instance.native_id.as_ref().map_or_else(|| format!("label {}", instance.label), |id| format!("id {id}"))
}

impl Left {
    pub(super) fn of(open: &[Live]) -> Self {
        let sessions: Vec<LeftSession> = open.iter().map(LeftSession::of).collect();
        Self { rate: sessions.iter().map(|s| s.rate).sum(), sessions }
    }
}

impl Server {
    /// Takes no new sessions any more, ends those that there are (reason ADMIN) and waits until every machine is proven
    /// gone: at most for `within`, and not longer than `enough` lets it. True when nothing is left. With a database that
    /// nobody has accepted nothing is ended. `tell` hears how it goes, line by line.
    pub async fn end_sessions(&self, within: Duration, enough: impl Future<Output = ()>, tell: impl Fn(&str)) -> bool {
        if self.store.epoch_doubtful() {
            tell("the database is in doubt, so its sessions are not ended: settle that with `gpu-shopper ops accept-database`");
            return self.drain.open().is_empty();
        }
        self.health.set(false).await;
        let operator = Caller { principal: "shutdown".to_owned(), scope: None, admin: true, request: String::new() };
        let progress = |open: &[Live]| {
            let ends = open.iter().filter(|live| !live.session.state.is_final()).count();
            let rate: Rate = open.iter().map(Live::at_risk).sum();
            tell(&format!("ending: {ends} sessions are not over, {} machines not proven gone, at most {rate}", machines(open)));
        };
        tokio::select! {
            biased;
            () = self.drain.wind_up(&operator, progress) => true,
            () = enough => {
                tell("no longer waiting");
                false
            }
            () = self.clock.sleep(within) => {
                tell(&format!("not over after {} s", within.as_secs()));
                false
            }
        }
    }

    /// Drains and stops: no new work, streams end, what is under way is finished or written down. Nothing is destroyed;
    /// what is left is told.
    pub async fn stop(self) -> Left {
        self.health.set(false).await;
        self.core.drain.cancel();
        self.health.close().await;
        self.shutdown.cancel();
        let _ = self.port.await;
        self.trim.abort();
        self.heartbeat.abort();
        if let Some(core) = std::sync::Arc::into_inner(self.core)
            && let Err(error) = core.stop().await
        {
            tracing::error!(%error, "the lifecycle did not end well");
        }
        if let Err(error) = self.store.epoch_note(self.clock.now()).await {
            tracing::warn!(%error, "the epoch could not be noted at the end");
        }
        Left::of(&self.drain.open())
    }
}
