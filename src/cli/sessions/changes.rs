//! `sessions done`, `destroy`, `extend`, `label`, `idle`, `keep-alive`: changes. Each carries a request id, so that asking again is harmless.

use super::{EndArgs, ExtendArgs};
use crate::cli::Desk;
use crate::cli::client::{Clients, asking, insist};
use crate::cli::failure::{Exit, Failure};
use crate::cli::follow::{Followed, follow, is_in};
use crate::cli::json::Message;
use crate::cli::provision::fresh_id;
use crate::cli::values::{pairs, timestamp, to_wire};
use crate::cli::words;
use crate::grpc::pb;
use crate::grpc::pb::extend_session_request::Extension;
use serde::Serialize;
use std::time::Duration;

/// What `-o json` writes after a change.
#[derive(Serialize)]
struct Changed {
    session: Message,
    replayed: bool,
}

/// `sessions done`.
pub async fn done(end: EndArgs, bad_machine: bool, desk: &mut Desk, clients: &Clients) -> Result<Exit, Failure> {
    use pb::complete_session_request::Outcome;
    let outcome = if bad_machine { Outcome::BadMachine } else { Outcome::Ok };
    let request = pb::CompleteSessionRequest {
        session_id: end.session.clone(),
        outcome: outcome.into(),
        request_id: named(end.request_id.clone())?,
        validate_only: false,
    };
    let answer = insist(&mut desk.console, &request.request_id, || {
        let (mut sessions, request) = (clients.sessions.clone(), request.clone());
        async move { sessions.complete_session(asking(request)).await }
    })
    .await?;
    ending(&end, answer.session.unwrap_or_default(), answer.resume_token, answer.replayed, desk, clients).await
}

/// `sessions destroy`.
pub async fn destroy(end: EndArgs, desk: &mut Desk, clients: &Clients) -> Result<Exit, Failure> {
    let request = pb::DestroySessionRequest { session_id: end.session.clone(), request_id: named(end.request_id.clone())?, validate_only: false };
    let answer = insist(&mut desk.console, &request.request_id, || {
        let (mut sessions, request) = (clients.sessions.clone(), request.clone());
        async move { sessions.destroy_session(asking(request)).await }
    })
    .await?;
    ending(&end, answer.session.unwrap_or_default(), answer.resume_token, answer.replayed, desk, clients).await
}

/// Waits for the end unless it shall not. However a session ends, it was ended as asked: that is no failure here.
async fn ending(end: &EndArgs, session: pb::Session, token: String, replayed: bool, desk: &mut Desk, clients: &Clients) -> Result<Exit, Failure> {
    let followed = if end.wait && !end.no_wait {
        let begin = Some(desk.clock.now());
        follow(desk, clients, session, token, is_in(pb::session::State::Stopped), begin).await?
    } else {
        Followed::Reached(Box::new(session))
    };
    let (last, interrupted) = match followed {
        Followed::Reached(last) => (last, false),
        Followed::Left(last) => (last, true),
    };
    let over = crate::cli::watch::is_over(last.state);
    if desk.console.is_json() {
        desk.console.json(&Changed { session: Message::of("Session", &last)?, replayed })?;
    } else {
        let cost = words::exact(last.cost.as_ref().and_then(|c| c.cost.as_ref()));
        let cost = if cost == words::NOTHING { String::new() } else { format!("; cost {cost}{}", if last.cost_final { "" } else { " so far" }) };
        let line = format!("session {} {} [{}]{cost}", last.session_id, words::state(last.state), words::end_reason(last.end_reason));
        desk.console.line(&line)?;
    }
    if !over {
        desk.console.note("its machines may cost money until they are proven gone; that goes on without us");
        desk.console.note(&format!("see it with `gpu-shopper sessions watch {}`", last.session_id));
    }
    Ok(if interrupted { Exit::Interrupted } else { Exit::Ok })
}

/// `sessions extend`.
pub async fn extend(args: ExtendArgs, desk: &mut Desk, clients: &Clients) -> Result<Exit, Failure> {
    let by = args.by.map(|by| Extension::AdditionalDuration(to_wire(by)));
    let request = pb::ExtendSessionRequest {
        session_id: args.session,
        extension: by.or(args.until.map(|at| Extension::ExpireTime(timestamp(at)))),
        override_hard_max: args.override_hard_max,
        request_id: named(args.request_id)?,
        validate_only: false,
    };
    let answer = insist(&mut desk.console, &request.request_id, || {
        let (mut sessions, request) = (clients.sessions.clone(), request.clone());
        async move { sessions.extend_session(asking(request)).await }
    })
    .await?;
    let session = answer.session.unwrap_or_default();
    if desk.console.is_json() {
        desk.console.json(&Changed { session: Message::of("Session", &session)?, replayed: answer.replayed })?;
    } else {
        let (at, left) = (words::moment(session.expire_time.as_ref()), words::until(desk.clock.now(), session.expire_time.as_ref()));
        desk.console.line(&format!("session {} expires {at} (in {left})", session.session_id))?;
    }
    Ok(Exit::Ok)
}

/// `sessions label`.
pub async fn label(session_id: String, labels: &[(String, String)], desk: &mut Desk, clients: &Clients) -> Result<Exit, Failure> {
    let request = pb::UpdateSessionRequest {
        session_id,
        labels: pairs(labels),
        update_mask: Some(prost_types::FieldMask { paths: vec!["labels".to_owned()] }),
        request_id: fresh_id()?,
        ..Default::default()
    };
    let answer = update(request, desk, clients).await?;
    let session = answer.session.unwrap_or_default();
    if desk.console.is_json() {
        desk.console.json(&Changed { session: Message::of("Session", &session)?, replayed: answer.replayed })?;
    } else {
        let labels: Vec<String> = session.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        desk.console.line(&format!("session {} has labels: {}", session.session_id, words::text(&labels.join(" "))))?;
    }
    Ok(Exit::Ok)
}

/// `sessions idle`.
pub async fn idle(session_id: String, threshold: Duration, desk: &mut Desk, clients: &Clients) -> Result<Exit, Failure> {
    let request = pb::UpdateSessionRequest {
        session_id,
        idle_threshold: Some(to_wire(threshold)),
        update_mask: Some(prost_types::FieldMask { paths: vec!["idle_threshold".to_owned()] }),
        request_id: fresh_id()?,
        ..Default::default()
    };
    let answer = update(request, desk, clients).await?;
    let session = answer.session.unwrap_or_default();
    if desk.console.is_json() {
        desk.console.json(&Changed { session: Message::of("Session", &session)?, replayed: answer.replayed })?;
    } else if threshold.is_zero() {
        desk.console.line(&format!("session {} does not end for idleness", session.session_id))?;
    } else {
        desk.console.line(&format!("session {} ends when nobody used it for {}", session.session_id, words::span(threshold)))?;
    }
    Ok(Exit::Ok)
}

/// `sessions keep-alive`.
pub async fn keep_alive(session_id: String, desk: &mut Desk, clients: &Clients) -> Result<Exit, Failure> {
    let request = pb::KeepAliveRequest { session_id, request_id: fresh_id()?, validate_only: false };
    let answer = insist(&mut desk.console, &request.request_id, || {
        let (mut sessions, request) = (clients.sessions.clone(), request.clone());
        async move { sessions.keep_alive(asking(request)).await }
    })
    .await?;
    let session = answer.session.unwrap_or_default();
    if desk.console.is_json() {
        desk.console.json(&Changed { session: Message::of("Session", &session)?, replayed: answer.replayed })?;
    } else {
        desk.console.line(&format!("session {} is taken to be in use", session.session_id))?;
        if session.spec.as_ref().and_then(|spec| spec.idle_threshold.as_ref()).is_none_or(|t| t.seconds == 0) {
            desk.console.note("it has no idle threshold: it does not end for idleness anyway");
        }
    }
    Ok(Exit::Ok)
}

async fn update(request: pb::UpdateSessionRequest, desk: &mut Desk, clients: &Clients) -> Result<pb::UpdateSessionResponse, Failure> {
    insist(&mut desk.console, &request.request_id, || {
        let (mut sessions, request) = (clients.sessions.clone(), request.clone());
        async move { sessions.update_session(asking(request)).await }
    })
    .await
}

/// The caller's name for a request, or a fresh one.
pub(super) fn named(given: Option<String>) -> Result<String, Failure> {
    given.map_or_else(fresh_id, Ok)
}
