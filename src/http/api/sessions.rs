//! Sessions: create, look, wait, change, end.

use super::Api;
use super::asked::{Asked, Given, Part};
use super::params::{Param, Unit, fields, pages, parts};
use super::reply::{add, around, kept, members, message, object};
use super::route::Route;
use super::shapes::{Kind, Member, PAGE, Shape};
use crate::domain::ids::{SessionId, clip};
use crate::domain::session::{EndReason, Session, State};
use crate::grpc::convert::{answers, requests};
use crate::grpc::json::tree::{Json, Map};
use crate::grpc::pb;
use crate::http::json;
use crate::services::api::{Caller, Commanded};
use crate::services::{Code, Error};
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;

const HIDDEN: &[&str] = &["session_id", "update_mask"];
const ONE: &str = "/api/v1/sessions/{session_id}";

const CREATED: &[Member] = &[("retries_attempted", Kind::Whole, "Further offers that were tried until this answer.")];
const DONE: &[Member] = &[("message", Kind::Text, "What becomes of it, a sentence for people."), ("session_id", Kind::Text, "The session.")];
const EXTENDED: &[Member] = &[
    ("message", Kind::Text, "What became of it, a sentence for people."),
    ("session_id", Kind::Text, "The session."),
    ("new_expires_at", Kind::TimeOrNull, "When it ends by itself now: `session.expires_at`."),
];

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/api/v1/sessions", "SessionService/CreateSession", create)
            .query(vec![wait_param("Wait so long until it runs, or has ended: one that ends failed meanwhile is told as an error.")])
            .body("CreateSessionRequest", true, create_names())
            .example(r#"{"requirements": {"filter": {"min_gpu_memory_mib": 24000}}, "consumer_id": "alice", "reservation_hours": 1}"#)
            .answers(201, Shape::With("CreateSessionResponse", CREATED))
            .answers(200, Shape::With("CreateSessionResponse", CREATED))
            .refuses(&[404, 409, 413, 415]),
        Route::get("/api/v1/sessions", "SessionService/ListSessions", list)
            .query(list_params())
            .answers(200, Shape::With("ListSessionsResponse", PAGE))
            .refuses(&[404]),
        Route::get(ONE, "SessionService/GetSession", get).answers(200, Shape::Message("Session")),
        Route::patch(ONE, "SessionService/UpdateSession", update)
            .body("UpdateSessionRequest", true, vec![idle_minutes()])
            .example(r#"{"labels": {"team": "vision"}}"#)
            .answers(200, Shape::With("UpdateSessionResponse", DONE))
            .refuses(&[409, 413, 415]),
        Route::delete(ONE, "SessionService/DestroySession", destroy)
            .query(destroy_params())
            .answers(202, Shape::With("DestroySessionResponse", DONE))
            .answers(200, Shape::With("DestroySessionResponse", DONE))
            .refuses(&[409, 415]),
        Route::post("/api/v1/sessions/{session_id}/done", "SessionService/CompleteSession", complete)
            .query(vec![wait_param(UNTIL_ENDED)])
            .body("CompleteSessionRequest", false, Vec::new())
            .answers(202, Shape::With("CompleteSessionResponse", DONE))
            .answers(200, Shape::With("CompleteSessionResponse", DONE))
            .refuses(&[409, 413, 415]),
        Route::post("/api/v1/sessions/{session_id}/extend", "SessionService/ExtendSession", extend)
            .body("ExtendSessionRequest", true, vec![additional_hours()])
            .example(r#"{"additional_hours": 1}"#)
            .answers(200, Shape::With("ExtendSessionResponse", EXTENDED))
            .refuses(&[409, 413, 415]),
        Route::post("/api/v1/sessions/{session_id}/keep-alive", "SessionService/KeepAlive", keep_alive)
            .body("KeepAliveRequest", false, Vec::new())
            .answers(200, Shape::With("KeepAliveResponse", DONE))
            .refuses(&[409, 413, 415]),
        Route::post("/api/v1/sessions/{session_id}/rotate-key", "SessionService/RotateSessionKey", rotate)
            .body("RotateSessionKeyRequest", false, Vec::new())
            .answers(200, Shape::With("RotateSessionKeyResponse", DONE))
            .refuses(&[409, 413, 415]),
        Route::get("/api/v1/sessions/{session_id}/diagnostics", "SessionService/GetSessionDiagnostics", diagnostics)
            .answers(200, Shape::Message("GetSessionDiagnosticsResponse")),
        Route::get("/api/v1/sessions/{session_id}/wait", "SessionService/WaitSession", wait)
            .query(fields("WaitSessionRequest"))
            .answers(200, Shape::Message("WaitSessionResponse")),
        Route::get("/api/v1/sessions/{session_id}/history", "SessionService/ListSessionEvents", history)
            .query(parts())
            .answers(200, Shape::With("ListSessionEventsResponse", PAGE)),
    ]
}

const UNTIL_ENDED: &str = "Wait so long until every machine of it is proven gone: the answer is then 200.";

fn wait_param(doc: &'static str) -> Param {
    Param::own("wait", Unit::Word, doc)
}

fn idle_minutes() -> Param {
    Param::other("idle_threshold_minutes", "idle_threshold", Unit::Minutes, "`idle_threshold` in minutes; 0 = never.")
}

fn additional_hours() -> Param {
    Param::other("additional_hours", "additional_duration", Unit::Hours, "`additional_duration` in hours.")
}

fn create_names() -> Vec<Param> {
    vec![
        Param::other("reservation_hours", "reservation", Unit::Hours, "`reservation` in hours."),
        idle_minutes(),
        Param::other("ssh_timeout_minutes", "ssh_timeout", Unit::Minutes, "`ssh_timeout` in minutes."),
        Param::own(
            "auto_retry",
            Unit::Truth,
            "Try other offers when one fails; in the place of `failover`. Default: true when one of the two below is given, else as `failover` says.",
        ),
        Param::own("retry_scope", Unit::Word, "How widely to look: same_gpu, same_vram or any. Default: same_gpu."),
        Param::own("max_retries", Unit::Whole, "At most this many further attempts, 0 to 19. Default: 3."),
    ]
}

fn list_params() -> Vec<Param> {
    let mut params = fields("ListSessionsRequest");
    params.extend(pages());
    params
}

fn destroy_params() -> Vec<Param> {
    vec![
        wait_param(UNTIL_ENDED),
        Param::other("validate_only", "validate_only", Unit::AsIs, "Only check: answer as if, change nothing. Default: false."),
    ]
}

/// The id in a path; what is none is the id of nothing.
pub(super) fn id_of(asked: &Asked) -> Result<SessionId, Error> {
    let text = asked.segment("session_id");
    requests::session_id(text).map_err(|_| Error::session_not_found(clip(text, 64)))
}

/// How long to wait, checked before anything is done.
fn patience(given: &mut Given) -> Option<Duration> {
    let text = given.own("wait")?.to_owned();
    let read = super::asked::span("wait", &text)
        .and_then(|timeout| requests::wait(&pb::WaitSessionRequest { session_id: "0".repeat(26), timeout: Some(timeout), ..Default::default() }));
    match read {
        Ok((_, _, timeout)) => Some(timeout),
        Err(error) => {
            error.violations.into_iter().for_each(|violation| given.wrong("wait", violation.description));
            None
        }
    }
}

async fn create(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let mut given = asked.body("CreateSessionRequest", &[], &create_names(), &[wait_param("")]);
    let patience = patience(&mut given);
    retries(&mut given);
    let wanted = given.checked(|message| requests::create(&requests::of_caller(message, &caller), &api.settings))?;
    let validate_only = wanted.validate_only;
    let mut created = api.services.lifecycle.create(caller.clone(), wanted).await.map_err(|e| given.named(e))?;
    if let Some(patience) = patience.filter(|_| !validate_only) {
        let until = [State::Running, State::Stopped, State::Failed];
        // It is created, whatever comes of the waiting: its key is told here or nowhere.
        if let Ok((session, _)) = api.services.sessions.wait(&caller, created.session.id, &until, patience).await {
            if session.state == State::Failed {
                return failed(&api, &session, &asked);
            }
            created.session = session;
        }
    }
    let retried = created.session.attempts.len().saturating_sub(1);
    let mut answer = members("CreateSessionResponse", &answers::created(created, &api.settings))?;
    add(&mut answer, "retries_attempted", Json::count(retried));
    Ok(object(if validate_only { StatusCode::OK } else { StatusCode::CREATED }, answer))
}

/// `auto_retry`, `retry_scope` and `max_retries`, as the earlier Go server took them, are a `failover`.
fn retries(given: &mut Given) {
    let mut wrong = Vec::new();
    let auto = match given.member("auto_retry") {
        None => None,
        Some(Json::Bool(auto)) => Some(*auto),
        Some(_) => {
            wrong.push(("auto_retry", "allowed: true, false".to_owned()));
            None
        }
    };
    let scope = match given.member("retry_scope").map(Json::as_text) {
        None => None,
        Some(Some("same_vram" | "same_memory")) => Some("same_memory"),
        Some(Some("same_gpu")) => Some("same_gpu"),
        Some(Some("any")) => Some("any"),
        Some(other) => {
            let shown = other.map_or_else(String::new, |text| format!("`{}`; ", clip(text, 64)));
            wrong.push(("retry_scope", format!("{shown}allowed: same_gpu, same_vram, any")));
            None
        }
    };
    let most = match given.member("max_retries") {
        None => None,
        Some(Json::Number(text)) => {
            let most = text.parse::<u8>().ok().filter(|n| *n <= 19);
            if most.is_none() {
                wrong.push(("max_retries", format!("`{}`; allowed: 0 to 19", clip(text, 64))));
            }
            most
        }
        Some(_) => {
            wrong.push(("max_retries", "allowed: a whole number from 0 to 19".to_owned()));
            None
        }
    };
    let said = ["auto_retry", "retry_scope", "max_retries"].iter().any(|name| given.member(name).is_some());
    if said && given.has("failover") {
        wrong.push(("failover", "goes not with `auto_retry`, `retry_scope` and `max_retries`; say it in one way".to_owned()));
    }
    let good = wrong.is_empty();
    wrong.into_iter().for_each(|(field, rule)| given.wrong(field, rule));
    if !said || !good {
        return;
    }
    let mut failover = Map::new();
    if auto == Some(false) {
        add(&mut failover, "scope", Json::text("none"));
    } else {
        add(&mut failover, "scope", Json::text(scope.unwrap_or("same_gpu")));
        add(&mut failover, "max_attempts", Json::whole(most.unwrap_or(3) + 1));
    }
    given.set("failover", Json::Map(failover), "auto_retry");
}

/// A session that failed while its creator waited: the error that its end comes to, with the session.
fn failed(api: &Api, session: &Session, asked: &Asked) -> Result<Response, Error> {
    let text = session.error.clone().unwrap_or_else(|| session.status_message.clone());
    let again = Duration::from_secs(30);
    let error = match session.end_reason {
        Some(EndReason::NoCapacity) => Error::new(Code::ResourceExhausted, "NO_CAPACITY", text).retry(again),
        Some(EndReason::ProviderAuth) => Error::new(Code::FailedPrecondition, "PROVIDER_AUTH", text),
        Some(EndReason::ProviderCredit) => Error::new(Code::FailedPrecondition, "PROVIDER_CREDIT", text),
        _ => Error::new(Code::Unavailable, "PROVISION_FAILED", text).retry(again),
    };
    let error = match session.offer() {
        Some(offer) => error.with("offer_id", &offer.id).with("provider", &offer.provider),
        None => error,
    };
    let error = error.with("session_id", session.id).with("end_reason", session.end_reason.map_or("", EndReason::word));
    Ok(json::error_with(&error, &asked.request, vec![("session".to_owned(), whole(api, session)?)]))
}

async fn list(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let mut given = asked.parameters("ListSessionsRequest", &list_params());
    let part = Part::of(&mut given);
    let paged = |m| pb::ListSessionsRequest { page_token: part.token.clone(), ..m };
    let (filter, _) = given.checked(|m| requests::sessions(&paged(m), &api.settings))?;
    let sessions = &api.services.sessions;
    let reach = part.reach();
    let size = u32::try_from(reach.min(1000)).unwrap_or(1000);
    let mut page = sessions.list(&caller, filter.clone(), size, &part.token).await?;
    while page.sessions.len() < reach && !page.next_page_token.is_empty() {
        let next = sessions.list(&caller, filter.clone(), size, &page.next_page_token).await?;
        page.sessions.extend(next.sessions);
        page.next_page_token = next.next_page_token;
    }
    // What is known to be all need not be counted.
    let all = page.next_page_token.is_empty() && part.token.is_empty();
    if page.sessions.len() > reach || part.offset > 0 {
        page.next_page_token = String::new();
    }
    let total = if all { page.sessions.len() } else { sessions.count(&caller, filter).await? };
    let cut = part.cut(std::mem::take(&mut page.sessions));
    let count = cut.len();
    let cut = cut.iter().map(|s| whole(&api, s)).collect::<Result<Vec<_>, Error>>()?;
    let mut answer = around("ListSessionsResponse", &answers::sessions(page, &api.settings), "sessions", cut)?;
    part.tell(&mut answer, count, total);
    Ok(object(StatusCode::OK, answer))
}

async fn get(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    asked.parameters("GetSessionRequest", &[]).sound()?;
    let session = api.services.sessions.get(&caller, id_of(&asked)?).await?;
    Ok(json::answer(StatusCode::OK, &whole(&api, &session)?))
}

/// A session. Each state of it is written once, however many ask.
pub(super) fn whole(api: &Api, session: &Session) -> Result<Json, Error> {
    kept("Session", &session.memo, || answers::session(session, &api.settings))
}

async fn command(api: &Api, caller: Caller, asked: requests::Asked, given: &Given) -> Result<Commanded, Error> {
    let requests::Asked { id, command, idempotency, validate_only } = asked;
    api.services.lifecycle.command(caller, id, command, idempotency, validate_only).await.map_err(|e| given.named(e))
}

/// The members of an answer to a command, with what every one of them has.
fn done<M: prost::Message>(name: &str, answer: &M, id: SessionId, text: String) -> Result<Map, Error> {
    let mut answer = members(name, answer)?;
    add(&mut answer, "message", Json::text(text));
    add(&mut answer, "session_id", Json::text(id.to_string()));
    Ok(answer)
}

async fn update(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let id = id_of(&asked)?;
    let given = asked.body("UpdateSessionRequest", HIDDEN, &[idle_minutes()], &[]);
    // In JSON a member that is there is meant: empty labels are no labels.
    let paths: Vec<String> = ["labels", "idle_threshold"].into_iter().filter(|name| given.has(name)).map(str::to_owned).collect();
    let update_mask = (!paths.is_empty()).then_some(prost_types::FieldMask { paths });
    let wanted = given.checked(|m| requests::update(&pb::UpdateSessionRequest { session_id: id.to_string(), update_mask, ..m }))?;
    let changed = command(&api, caller, wanted, &given).await?;
    let answer = done("UpdateSessionResponse", &answers::updated(changed, &api.settings), id, "session changed".to_owned())?;
    Ok(object(StatusCode::OK, answer))
}

async fn extend(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let id = id_of(&asked)?;
    let given = asked.body("ExtendSessionRequest", HIDDEN, &[additional_hours()], &[]);
    let wanted = given.checked(|m| requests::extend(&pb::ExtendSessionRequest { session_id: id.to_string(), ..m }))?;
    let changed = command(&api, caller, wanted, &given).await?;
    let expires = changed.session.expires_at;
    let mut answer = done("ExtendSessionResponse", &answers::extended(changed, &api.settings), id, format!("session extended until {expires}"))?;
    add(&mut answer, "new_expires_at", Json::text(expires.rfc3339()));
    Ok(object(StatusCode::OK, answer))
}

async fn keep_alive(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let id = id_of(&asked)?;
    let given = asked.body("KeepAliveRequest", HIDDEN, &[], &[]);
    let wanted = given.checked(|m| requests::keep_alive(&pb::KeepAliveRequest { session_id: id.to_string(), ..m }))?;
    let changed = command(&api, caller, wanted, &given).await?;
    let answer = done("KeepAliveResponse", &answers::kept_alive(changed, &api.settings), id, "session is in use".to_owned())?;
    Ok(object(StatusCode::OK, answer))
}

async fn rotate(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let id = id_of(&asked)?;
    let given = asked.body("RotateSessionKeyRequest", HIDDEN, &[], &[]);
    let wanted = given.checked(|m| requests::rotate(&pb::RotateSessionKeyRequest { session_id: id.to_string(), ..m }, &api.settings))?;
    let changed = command(&api, caller, wanted, &given).await?;
    let text = "the key is being changed; the condition key_installed tells when it is on the machine".to_owned();
    let answer = done("RotateSessionKeyResponse", &answers::rotated(changed, &api.settings), id, text)?;
    Ok(object(StatusCode::OK, answer))
}

async fn complete(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let id = id_of(&asked)?;
    let mut given = asked.body("CompleteSessionRequest", HIDDEN, &[], &[wait_param("")]);
    let patience = patience(&mut given);
    let wanted = given.checked(|m| requests::complete(&pb::CompleteSessionRequest { session_id: id.to_string(), ..m }))?;
    let validate_only = wanted.validate_only;
    let mut ended = command(&api, caller.clone(), wanted, &given).await?;
    let status = wait_for_end(&api, &caller, &mut ended, patience.filter(|_| !validate_only)).await;
    let text = ending(&ended.session, "session done");
    Ok(object(status, done("CompleteSessionResponse", &answers::completed(ended, &api.settings), id, text)?))
}

async fn destroy(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let id = id_of(&asked)?;
    let mut given = asked.ordered("DestroySessionRequest", &destroy_params());
    let patience = patience(&mut given);
    let wanted = given.checked(|m| requests::destroy(&pb::DestroySessionRequest { session_id: id.to_string(), ..m }))?;
    let validate_only = wanted.validate_only;
    let mut ended = command(&api, caller.clone(), wanted, &given).await?;
    let status = wait_for_end(&api, &caller, &mut ended, patience.filter(|_| !validate_only)).await;
    let text = ending(&ended.session, "session destroyed");
    Ok(object(status, done("DestroySessionResponse", &answers::destroyed(ended, &api.settings), id, text)?))
}

/// 200 when it is over, 202 while machines of it may still be there.
async fn wait_for_end(api: &Api, caller: &Caller, ended: &mut Commanded, patience: Option<Duration>) -> StatusCode {
    if let Some(patience) = patience
        && !ended.session.state.is_final()
        && let Ok((session, _)) = api.services.sessions.wait(caller, ended.session.id, &[State::Stopped, State::Failed], patience).await
    {
        ended.session = session;
    }
    if ended.session.state.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED }
}

fn ending(session: &Arc<Session>, over: &str) -> String {
    if session.state.is_final() {
        over.to_owned()
    } else {
        format!("{over}: accepted; it is over when every machine of it is proven gone, and stopping until then")
    }
}

async fn diagnostics(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    asked.parameters("GetSessionDiagnosticsRequest", &[]).sound()?;
    let known = api.services.sessions.diagnostics(&caller, id_of(&asked)?).await?;
    message("GetSessionDiagnosticsResponse", &answers::diagnostics(known, &api.settings))
}

async fn wait(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let id = id_of(&asked)?;
    let given = asked.parameters("WaitSessionRequest", &fields("WaitSessionRequest"));
    let (id, until, timeout) = given.checked(|m| requests::wait(&pb::WaitSessionRequest { session_id: id.to_string(), ..m }))?;
    let (session, reached) = api.services.sessions.wait(&caller, id, &until, timeout).await?;
    message("WaitSessionResponse", &pb::WaitSessionResponse { session: Some(answers::session(&session, &api.settings)), reached })
}

async fn history(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let id = id_of(&asked)?;
    let mut given = asked.parameters("ListSessionEventsRequest", &parts());
    let part = Part::of(&mut given);
    given.sound()?;
    let (mut events, mut next) = (Vec::new(), String::new());
    loop {
        // The whole of it is read for its number: a session has few events.
        let page = api.services.sessions.events(&caller, id, 1000, &next).await?;
        events.extend(page.events);
        next = page.next_page_token;
        if next.is_empty() {
            break;
        }
    }
    let total = events.len();
    let events: Vec<pb::SessionEvent> = part.cut(events).iter().map(|e| answers::event(e, &api.settings)).collect();
    let count = events.len();
    let mut answer = members("ListSessionEventsResponse", &pb::ListSessionEventsResponse { events, next_page_token: String::new() })?;
    part.tell(&mut answer, count, total);
    Ok(object(StatusCode::OK, answer))
}
