//! What operators and their machines ask: `/health`, `/ready`, `/metrics`. And what every request on the port goes
//! through: a name, a span, metrics, the check against foreign web pages, a limit on its size, a net for panics. Who calls is
//! looked at right after ([`access`](super::access)).
//!
//! Knows no store: health and metrics are asked of closures that the wiring hands in.

use super::access::RefusedRpc;
use super::browser;
use super::json::{self, RequestId};
use crate::clock::{Clock, Stopwatch};
use crate::domain::ids::SessionId;
use crate::services::access::Access;
use crate::services::trail;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use opentelemetry::propagation::Extractor;
use opentelemetry::trace::TraceContextExt;
use serde_json::json;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tracing::Instrument;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const REQUEST_ID: &str = "x-request-id";
/// The route of what nothing matches.
pub(super) const UNMATCHED: &str = "unmatched";

/// How the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// In one word.
    pub status: Health,
    /// Whether calls are taken.
    pub ready: bool,
    /// Part by part: `lifecycle` → `running`, `inventory` → `ok`, a provider → `ok` or what is wrong. Says nothing
    /// secret: everybody may read it.
    pub services: BTreeMap<String, String>,
}

/// The server's health in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// All is well.
    Ok,
    /// It works, but not everywhere (a provider can't be reached).
    Degraded,
    /// The first sweep is not done.
    Starting,
    /// It is shutting down.
    Draining,
    /// It does not work.
    Unavailable,
}

impl Health {
    /// The word in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Starting => "starting",
            Self::Draining => "draining",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Tells how the server is, from memory, at once.
pub type HealthSource = Arc<dyn Fn() -> HealthReport + Send + Sync>;

/// Brings the gauges up to date and renders all metrics as Prometheus' text.
pub type ScrapeSource = Arc<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>;

/// Answers a gRPC call for which there is no method; `None` when the headers are not those of a gRPC call.
pub type UnknownRpc = fn(&HeaderMap, &str) -> Option<Response>;

/// What the routes and the checks need.
#[derive(Clone)]
pub struct Ops {
    /// How the server is.
    pub health: HealthSource,
    /// The metrics.
    pub scrape: ScrapeSource,
    /// Host names beside loopback ones that browsers may use; lower case.
    pub allowed_hosts: Arc<[String]>,
    /// Now, for timestamps.
    pub clock: Clock,
    /// What an unknown RPC is told.
    pub unknown_rpc: UnknownRpc,
    /// Who may call.
    pub access: Access,
    /// How a gRPC call is refused.
    pub refused_rpc: RefusedRpc,
    /// Origins whose pages may call, as browsers write them.
    pub allowed_origins: Arc<[HeaderValue]>,
    /// The largest request body that is taken, bytes.
    pub body_limit: usize,
    /// How long a body may take for each part of it: [`body::PERIOD`](super::body::PERIOD), but for tests.
    pub body_period: Duration,
}

/// What is checked of every request before anything else.
#[derive(Clone)]
pub(super) struct Guard {
    pages: browser::Pages,
    body_limit: usize,
}

impl Guard {
    pub(super) fn of(ops: &Ops) -> Self {
        let pages = browser::Pages { any_host: ops.access.required(), hosts: ops.allowed_hosts.clone(), origins: ops.allowed_origins.clone() };
        Self { pages, body_limit: ops.body_limit }
    }

    /// Refuses foreign web pages and requests that announce too large a body.
    pub(super) fn refusal(&self, request: &Request, id: &RequestId) -> Option<Response> {
        if let Some(why) = self.pages.refusal(request.uri(), request.headers()) {
            metrics::counter!("http_requests_refused_total", "reason" => "FOREIGN_PAGE").increment(1);
            return Some(json::refuse(StatusCode::FORBIDDEN, "forbidden", why, id));
        }
        let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
        // What is too large for a gRPC call is told in its own language, by whoever reads its messages.
        if !is_grpc(request.headers()) && announced.is_some_and(|bytes| bytes > self.body_limit) {
            let text = format!("a request's body may have at most {} bytes (limits.body_bytes)", self.body_limit);
            return Some(json::refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &text, id));
        }
        None
    }
}

/// The routes `/health`, `/ready` and `/metrics` (HEAD included).
pub(super) fn routes(ops: Ops) -> Router {
    Router::new().route("/health", get(health)).route("/ready", get(ready)).route("/metrics", get(scrape)).with_state(ops)
}

async fn health(State(ops): State<Ops>) -> Response {
    let report = (ops.health)();
    let works = matches!(report.status, Health::Ok | Health::Degraded);
    let mut services = report.services;
    services.insert("ready".to_owned(), report.ready.to_string());
    let body = json!({"status": report.status.word(), "timestamp": ops.clock.now().rfc3339(), "services": services});
    json::answer(if works { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}

async fn ready(State(ops): State<Ops>) -> Response {
    let ready = (ops.health)().ready;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json::answer(status, &json!({"ready": ready, "timestamp": ops.clock.now().rfc3339()}))
}

async fn scrape(State(ops): State<Ops>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (ops.scrape)().await).into_response()
}

/// What nothing matches: UNIMPLEMENTED for gRPC, a JSON 404 otherwise.
pub(super) async fn not_found(unknown: UnknownRpc, request: RequestId, headers: HeaderMap, uri: axum::http::Uri) -> Response {
    if let Some(answer) = unknown(&headers, uri.path()) {
        return answer;
    }
    json::refuse(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path", &request)
}

/// A known path asked by another method; the `Allow` header is axum's.
pub(super) async fn method_not_allowed(request: RequestId) -> Response {
    json::refuse(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method; see the Allow header", &request)
}

/// What is counted and timed of one kind of answer.
#[derive(Clone)]
struct Counted {
    answers: metrics::Counter,
    seconds: metrics::Histogram,
}

/// Of one route, by method and status.
type CountedByAnswer = HashMap<(&'static str, u16), Counted>;

/// By route: so that counting a request makes no text. There are few: a route is known, or `unmatched`.
#[derive(Clone, Default)]
pub(super) struct Counts(Arc<RwLock<HashMap<String, CountedByAnswer>>>);

impl Counts {
    fn of(&self, path: &str, method: &'static str, status: u16) -> Counted {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(path).and_then(|kinds| kinds.get(&(method, status))).cloned();
        known.unwrap_or_else(|| {
            let labels = [("method", method.to_owned()), ("path", path.to_owned()), ("status", status.to_string())];
            let counted = Counted {
                answers: metrics::counter!("http_requests_total", &labels),
                seconds: metrics::histogram!("http_request_duration_seconds", &labels),
            };
            let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
            all.entry(path.to_owned()).or_default().insert((method, status), counted.clone());
            counted
        })
    }
}

/// Gives the request its name and span, answers panics, counts and times. `route`: what it is counted as.
pub(super) async fn observe<F>(counts: &Counts, route: &str, mut request: Request, next: impl FnOnce(RequestId, Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let watch = Stopwatch::start();
    let id = RequestId(request_id(request.headers()));
    let method = method_label(request.method());
    let span = span(&request, method, route, &id);
    request.extensions_mut().insert(id.clone());
    let grpc = request.headers().get(header::CONTENT_TYPE).filter(|_| is_grpc(request.headers())).cloned();
    let answer = AssertUnwindSafe(next(id.clone(), request)).catch_unwind().instrument(span.clone()).await;
    let mut response = answer.unwrap_or_else(|_| {
        span.in_scope(|| tracing::error!("a request's handler panicked"));
        match grpc {
            Some(kind) => grpc_status(kind, 13, "internal server error"),
            None => json::refuse(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal server error", &id),
        }
    });
    if let Ok(mut value) = HeaderValue::from_str(&id.0) {
        // No two are alike: HTTP/2 need not remember it for later answers, and is told so by this.
        value.set_sensitive(true);
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    if trail::records() || tracing::enabled!(tracing::Level::DEBUG) {
        record(&span, status, response.headers());
    }
    let counted = counts.of(route, method, status);
    counted.answers.increment(1);
    let elapsed = watch.elapsed();
    counted.seconds.record(elapsed.as_secs_f64());
    span.in_scope(|| tracing::debug!(status, elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX), "answered"));
    response
}

/// What an answer says, for its trace and the line that tells of it.
fn record(span: &tracing::Span, status: u16, headers: &HeaderMap) {
    span.record("http.response.status_code", status);
    // A streaming answer tells its status at its end, after this.
    let grpc = headers.get("grpc-status").and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u16>().ok());
    if let Some(code) = grpc {
        span.record("rpc.grpc.status_code", code);
    }
    // What is the server's fault, not the caller's: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
    if status >= 500 || grpc.is_some_and(|code| matches!(code, 2 | 4 | 13 | 14 | 15)) {
        span.record("otel.status_code", "ERROR");
    }
}

/// The request's span: a part of the caller's trace, when it says which (W3C `traceparent`).
fn span(request: &Request, method: &'static str, route: &str, id: &RequestId) -> tracing::Span {
    let path = request.uri().path();
    let name =
        if is_grpc(request.headers()) && route != UNMATCHED { Cow::from(path.trim_start_matches('/')) } else { format!("{method} {route}").into() };
    let span = tracing::info_span!(
        "http",
        otel.name = &*name,
        otel.kind = "server",
        otel.status_code = Empty,
        method,
        path,
        request_id = %id.0,
        session_id = Empty,
        caller = Empty,
        trace_id = Empty,
        http.response.status_code = Empty,
        rpc.grpc.status_code = Empty,
    );
    let about = path.strip_prefix("/api/v1/sessions/").and_then(|rest| rest.split('/').next());
    if let Some(session) = about.and_then(|id| id.parse::<SessionId>().ok()) {
        span.record("session_id", tracing::field::display(session));
    }
    if trail::records() {
        let context = opentelemetry::global::get_text_map_propagator(|p| p.extract(&Headers(request.headers())));
        // Never refused: the span is new.
        let _ = span.set_parent(context);
        span.record("trace_id", tracing::field::display(span.context().span().span_context().trace_id()));
    }
    span
}

/// Refuses what is sent to an RPC's path and is no gRPC, in words that whoever sent it reads: JSON.
pub(super) fn speaks_no_grpc(id: &RequestId, request: &Request) -> Option<Response> {
    let web = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc-web"));
    if web || (is_grpc(request.headers()) && request.version() > Version::HTTP_11) {
        return None;
    }
    let text = "an RPC takes gRPC over HTTP/2 (`Content-Type: application/grpc`) or gRPC-Web (`Content-Type: application/grpc-web`); \
        for JSON see the routes below /api/v1";
    Some(json::refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text, id))
}

/// The caller's `X-Request-ID` when it is 1–128 characters of `[a-zA-Z0-9._-]`, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|v| v.to_str().ok());
    let good = |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    given.filter(good).map_or_else(|| format!("{:032x}", rand::random::<u128>()), str::to_owned)
}

fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

/// A gRPC answer that consists of its status alone, in the caller's dialect.
fn grpc_status(content_type: HeaderValue, code: u16, message: &'static str) -> Response {
    let mut response = StatusCode::OK.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().insert("grpc-status", HeaderValue::from(code));
    response.headers_mut().insert("grpc-message", HeaderValue::from_static(message));
    response
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|v| v.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
