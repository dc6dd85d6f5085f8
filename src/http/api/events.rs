//! Watches as server-sent events: one message of the watch each, `id:` its resume token. `Last-Event-ID` goes on after it,
//! on this server or its successor.

use super::Api;
use super::asked::{Asked, Given};
use super::params::{Param, fields};
use super::reply::{kept, told};
use super::route::Route;
use super::sessions::{id_of, whole};
use super::shapes::Shape;
use crate::grpc::convert::{answers, requests};
use crate::grpc::pb;
use crate::grpc::pb::watch_session_response::Message;
use crate::http::json;
use crate::services::Error;
use crate::services::api::{Caller, WatchMessage, WatchRequest, WatchStart};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use http::{HeaderValue, StatusCode};
use std::convert::Infallible;
use std::time::Duration;

/// A browser that lost its stream comes back after this.
const COME_BACK: Duration = Duration::from_secs(2);

pub(super) fn routes() -> Vec<Route> {
    const ABOUT_ONE: &str = "Streams every event of one session as server-sent events and ends after its last one. An event's name is `snapshot`, \
        `snapshot_end`, `event`, `bookmark` or `failure` (the stream ends, with the error's body), its `id` the token to resume with. A watch that is \
        resumed where nothing can follow any more is answered with 204, on which a browser comes back no more.";
    const ABOUT_ALL: &str = "Streams every event of all sessions that match a filter before or after the event, as server-sent events. Never ends by \
        itself.";
    vec![
        Route::get("/api/v1/sessions/{session_id}/events", "SessionService/WatchSession", one)
            .about(ABOUT_ONE)
            .query(params("WatchSessionRequest"))
            .answers(200, Shape::Events)
            .answers(204, Shape::Empty)
            .refuses(&[410]),
        Route::get("/api/v1/events", "SessionService/WatchSessions", all)
            .about(ABOUT_ALL)
            .query(params("WatchSessionsRequest"))
            .answers(200, Shape::Events)
            .refuses(&[404, 410]),
    ]
}

fn params(of: &str) -> Vec<Param> {
    let mut params = fields(of);
    params.iter_mut().filter(|p| p.name == "resume_token").for_each(|p| {
        p.doc = "Strictly after this token of an earlier message or create answer; the header `Last-Event-ID` does the same and goes before it.";
    });
    params
}

/// The header by which a browser goes on takes the place of what the URL, which stays the same, says about the beginning.
fn start(last: Option<&str>, watch: WatchRequest) -> WatchRequest {
    match last {
        Some(token) => WatchRequest { start: WatchStart::After(token.to_owned()), ..watch },
        None => watch,
    }
}

async fn one(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let id = id_of(&asked)?;
    let mut given = asked.parameters("WatchSessionRequest", &params("WatchSessionRequest"));
    let last = asked.last_event_id(&mut given);
    let wanted = given.checked(|m| requests::watch(&pb::WatchSessionRequest { session_id: id.to_string(), ..m }, &api.settings))?;
    let watch = start(last, wanted);
    let resumed = matches!(watch.start, WatchStart::After(_));
    let over = api.services.sessions.get(&caller, id).await?.state.is_final();
    let mut messages = api.services.sessions.watch(&caller, watch).await.map_err(|e| named(last, &given, e))?;
    if resumed && over {
        // It does not wait: what ended has all its events.
        match messages.next().await {
            None => return Ok(StatusCode::NO_CONTENT.into_response()),
            Some(first) => messages = stream::once(async { first }).chain(messages).boxed(),
        }
    }
    Ok(streamed(api, &asked, messages))
}

async fn all(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let mut given = asked.parameters("WatchSessionsRequest", &params("WatchSessionsRequest"));
    let last = asked.last_event_id(&mut given);
    let watch = start(last, given.checked(|m| requests::watch_all(&m, &api.settings))?);
    let messages = api.services.sessions.watch(&caller, watch).await.map_err(|e| named(last, &given, e))?;
    Ok(streamed(api, &asked, messages))
}

fn named(last: Option<&str>, given: &Given, error: Error) -> Error {
    let mut error = given.named(error);
    if last.is_some() && error.violations.iter().any(|v| v.field == "resume_token") {
        error.violations.iter_mut().for_each(|v| "Last-Event-ID".clone_into(&mut v.field));
        error = Error { code: error.code, reason: error.reason, ..Error::fields(error.violations) };
    }
    error
}

fn streamed(api: Api, asked: &Asked, messages: BoxStream<'static, Result<WatchMessage, Error>>) -> Response {
    let request = asked.request.clone();
    let events = messages.map(move |message| {
        let told = message.and_then(|message| event(&api, message));
        Ok::<_, Infallible>(told.unwrap_or_else(|error| {
            let (_, body) = json::error_body(&error, &request, Vec::new());
            Event::default().event("failure").retry(COME_BACK).data(body.to_string())
        }))
    });
    let mut response = Sse::new(events).into_response();
    // A proxy in between must not gather events.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A message of a watch. Sessions and events are written once, however many watch.
fn event(api: &Api, message: WatchMessage) -> Result<Event, Error> {
    let (name, token, data) = match message {
        WatchMessage::Snapshot(session) => ("snapshot", String::new(), whole(api, &session)?),
        WatchMessage::Event { resume_token, event } => {
            ("event", resume_token, kept("SessionEvent", &event.memo, || answers::event(&event, &api.settings))?)
        }
        other => {
            let pb::WatchSessionResponse { message, resume_token } = answers::watched(other, &api.settings);
            match message {
                Some(Message::SnapshotEnd(end)) => ("snapshot_end", resume_token, told("SnapshotEnd", &end)?),
                Some(Message::Bookmark(bookmark)) => ("bookmark", resume_token, told("Bookmark", &bookmark)?),
                _ => return Err(Error::internal("writing a message of a watch")),
            }
        }
    };
    let event = Event::default().event(name).data(data.to_string());
    // Without a token the browser keeps the one before.
    Ok(if token.is_empty() { event } else { event.id(token) })
}
