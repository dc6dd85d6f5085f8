//! `drain`: ends every session of a server. Shows what that would be until it is told to do it; then waits until every
//! machine is proven gone.

use crate::cli::Desk;
use crate::cli::client::{Clients, asking, asking_slowly};
use crate::cli::failure::{Exit, Failure};
use crate::cli::json::Message;
use crate::cli::output::{Cell, Table};
use crate::cli::watch::is_over;
use crate::cli::words;
use crate::grpc::pb;
use clap::Args;
use serde::Serialize;
use std::time::Duration;

/// One wait for one session; there are as many as it takes.
const WAIT: i64 = 60;
/// Before asking again a server that is away.
const AWAY: Duration = Duration::from_secs(2);
/// So many times in a row it may be away.
const TRIES: u32 = 15;

/// Arguments of `drain`.
#[derive(Args, Clone, Debug)]
pub struct DrainArgs {
    /// Do it; without this only what would end is shown
    #[arg(long)]
    pub yes: bool,
    /// Don't wait until every machine is proven gone
    #[arg(long, requires = "yes")]
    pub no_wait: bool,
}

/// What `-o json` writes.
#[derive(Serialize)]
struct Told {
    /// Whether anything was done.
    drained: bool,
    /// Whether every session is over.
    over: bool,
    sessions: Vec<Message>,
}

/// Runs `drain`.
///
/// # Errors
/// What the server says; when the output can't be written.
pub async fn run(args: DrainArgs, desk: &mut Desk) -> Result<Exit, Failure> {
    let mut clients = desk.connect().await?;
    let answer = clients.operator.drain_sessions(asking(pb::DrainSessionsRequest { validate_only: !args.yes })).await.map_err(|status| {
        let failure = Failure::from(status);
        if failure.transient { failure.hint("some sessions may be ending; asking again does no harm") } else { failure }
    })?;
    let answer = answer.into_inner();
    let rate = words::dollars(answer.at_risk_per_hour.as_ref());
    let mut sessions = answer.sessions;
    if !args.yes {
        tell(desk, &sessions, false)?;
        if !sessions.is_empty() && !desk.console.is_json() {
            desk.console
                .note(&format!("that is {} at {rate} per hour; nothing was ended. To end all of it: gpu-shopper drain --yes", many(sessions.len())));
        }
        return Ok(Exit::Ok);
    }
    desk.console.note(&format!("ending {}, at {rate} per hour", many(sessions.len())));
    let interrupted = if args.no_wait { false } else { wait(desk, &mut clients, &mut sessions).await? };
    tell(desk, &sessions, true)?;
    if sessions.iter().any(|s| !is_over(s.state)) {
        desk.console.note("machines may cost money until they are proven gone; that goes on without us. See it with `gpu-shopper sessions list` and `gpu-shopper debts`");
    }
    Ok(if interrupted { Exit::Interrupted } else { Exit::Ok })
}

fn many(sessions: usize) -> String {
    if sessions == 1 { "1 session".to_owned() } else { format!("{sessions} sessions") }
}

/// Waits until all are over; true = interrupted before that.
async fn wait(desk: &mut Desk, clients: &mut Clients, sessions: &mut [pb::Session]) -> Result<bool, Failure> {
    let interrupt = desk.interrupt.clone();
    let interrupted = interrupt.wait();
    tokio::pin!(interrupted);
    let all = sessions.len();
    let mut away = 0;
    for (at, session) in sessions.iter_mut().enumerate() {
        while !is_over(session.state) {
            desk.console.busy(&format!("{at} of {all} are over; waiting for {}: {}", session.session_id, session.status_message));
            let asked = pb::WaitSessionRequest {
                session_id: session.session_id.clone(),
                until: vec![pb::session::State::Stopped.into(), pb::session::State::Failed.into()],
                timeout: Some(prost_types::Duration { seconds: WAIT, nanos: 0 }),
            };
            let answer = tokio::select! {
                biased;
                () = &mut interrupted => {
                    desk.console.rest();
                    return Ok(true);
                }
                answer = clients.sessions.wait_session(asking_slowly(asked)) => answer,
            };
            match answer.map_err(Failure::from) {
                Ok(answer) => {
                    away = 0;
                    *session = answer.into_inner().session.unwrap_or_default();
                }
                Err(failure) if failure.transient && away < TRIES => {
                    away += 1;
                    desk.console.warn(&format!("{}; asking again", failure.message));
                    tokio::time::sleep(AWAY).await;
                }
                Err(failure) => {
                    desk.console.rest();
                    return Err(failure);
                }
            }
        }
        let (state, reason) = (words::state(session.state), words::end_reason(session.end_reason));
        let line = format!("{} of {all}  {}  {state} [{reason}]", at + 1, session.session_id);
        desk.console.note(&line);
    }
    desk.console.rest();
    Ok(false)
}

fn tell(desk: &mut Desk, sessions: &[pb::Session], drained: bool) -> Result<(), Failure> {
    if desk.console.is_json() {
        let over = sessions.iter().all(|s| is_over(s.state));
        let sessions = sessions.iter().map(|s| Message::of("Session", s)).collect::<Result<_, _>>()?;
        return desk.console.json(&Told { drained, over, sessions });
    }
    let now = desk.clock.now();
    let mut table = Table::new(["SESSION", "STATE", "CONSUMER", "PROVIDER", "GPU", ">PRICE/H", ">COST", ">EXPIRES IN", "REASON"]);
    for session in sessions {
        let over = is_over(session.state);
        table.row([
            session.session_id.as_str().into(),
            Cell::state(&words::state(session.state)),
            words::text(&session.consumer_id).into(),
            words::text(&session.provider).into(),
            words::gpus(session.gpu_count, &session.gpu_model).into(),
            words::dollars(session.price.as_ref().and_then(|p| p.total_per_hour.as_ref())).into(),
            words::dollars(session.cost.as_ref().and_then(|c| c.cost.as_ref())).into(),
            words::until(now, session.expire_time.as_ref().filter(|_| !over)).into(),
            words::end_reason(session.end_reason).into(),
        ]);
    }
    desk.console.table(&table, "no session is open")
}
