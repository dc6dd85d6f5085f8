//! Waiting for a session with its progress on standard error: `provision` until it runs, `done` and `destroy` until
//! it is proven gone.

use crate::cli::Desk;
use crate::cli::client::Clients;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Tint;
use crate::cli::watch::{Start, Subject, Told, Watch, is_over};
use crate::cli::words;
use crate::domain::time::Time;
use crate::grpc::pb;
use std::time::Duration;

/// How a wait ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Followed {
    /// The session is in the state waited for, or over.
    Reached(Box<pb::Session>),
    /// Ctrl-C; the session as it was last seen goes on without us.
    Left(Box<pb::Session>),
}

/// Follows `session` from `token` until it is as `until` says or over, with a line for each change, counted from `begin`.
///
/// # Errors
/// When the watch fails for good.
pub async fn follow(
    desk: &mut Desk,
    clients: &Clients,
    session: pb::Session,
    token: String,
    until: impl Fn(&pb::Session) -> bool,
    begin: Option<Time>,
) -> Result<Followed, Failure> {
    let mut last = session;
    let mut watch = Watch::new(clients.clone(), Subject::One(last.session_id.clone()), Start::After(token));
    let interrupt = desk.interrupt.clone();
    let interrupted = interrupt.wait();
    tokio::pin!(interrupted);
    let outcome = loop {
        if until(&last) || is_over(last.state) {
            break Ok(Followed::Reached(Box::new(last)));
        }
        let waiting = format!("{}  {}  {}", last.session_id, words::state(last.state), last.status_message);
        desk.console.busy(&waiting);
        let told = tokio::select! {
            biased;
            () = &mut interrupted => break Ok(Followed::Left(Box::new(last))),
            told = watch.next() => told,
        };
        match told {
            Err(failure) => break Err(failure),
            Ok(None) => break Ok(Followed::Reached(Box::new(last))),
            Ok(Some(Told::Event(event))) => {
                let line = progress(&event, begin);
                desk.console.note(&line);
                last = event.session.unwrap_or(last);
            }
            Ok(Some(Told::Snapshot(session))) => last = *session,
            Ok(Some(Told::Lost { why, wait })) => lost(desk, &why, wait),
            Ok(Some(Told::Anew | Told::SnapshotEnd(_) | Told::Bookmark(_))) => {}
        }
    };
    desk.console.rest();
    outcome
}

/// Tells that the connection is lost and the watch goes on.
pub fn lost(desk: &mut Desk, why: &str, wait: Duration) {
    desk.console.warn(&format!("connection lost ({why}); trying again in {:.1} s", wait.as_secs_f64()));
}

/// `+12.3s  provisioning  image_pulling  pulling the image`.
#[must_use]
pub fn progress(event: &pb::SessionEvent, begin: Option<Time>) -> String {
    let at = words::time(event.occur_time.as_ref());
    let elapsed = match (begin, at) {
        (Some(begin), Some(at)) => format!("+{:.1}s", at.since(begin).as_secs_f64()),
        _ => words::moment(event.occur_time.as_ref()),
    };
    format!("{elapsed:>9}  {}", what(event, |word, _| word.to_owned()))
}

/// State, stage and story of an event in columns; `tint` dresses the state.
pub fn what(event: &pb::SessionEvent, tint: impl Fn(&str, Tint) -> String) -> String {
    let state = words::state(event.to_state);
    let padded = format!("{state:<12}");
    let line = format!("{}  {:<13}  {}", tint(&padded, Tint::of_state(&state)), words::stage(event.stage), story(event));
    line.trim_end().to_owned()
}

/// Whether a session is in a state, for [`follow`].
pub fn is_in(state: pb::session::State) -> impl Fn(&pb::Session) -> bool {
    move |session| session.state == i32::from(state)
}

/// What happened, with the reason of an ending.
fn story(event: &pb::SessionEvent) -> String {
    let message = if event.message.is_empty() { words::event(event.r#type) } else { crate::cli::failure::clean(&event.message) };
    match words::end_reason(event.end_reason).as_str() {
        words::NOTHING => message,
        reason if message.contains(reason) => message,
        reason => format!("{message} [{reason}]"),
    }
}

/// The failure of a session that ended against its user's will.
#[must_use]
pub fn ended_badly(session: &pb::Session) -> Failure {
    let reason = words::end_reason(session.end_reason);
    let exit = if session.end_reason == i32::from(pb::EndReason::NoCapacity) { Exit::Exhausted } else { Exit::Failed };
    let why = [&session.error, &session.status_message].into_iter().find(|t| !t.is_empty()).map(|t| format!(": {t}"));
    let message = format!("session {} {} [{reason}]{}", session.session_id, words::state(session.state), why.unwrap_or_default());
    Failure::new(exit, "SESSION_ENDED", crate::cli::failure::clean(&message))
        .hint(format!("what was tried: gpu-shopper sessions get {}", session.session_id))
}
