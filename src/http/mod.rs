//! Floor 3, the HTTP side: one port for gRPC, gRPC-Web and JSON.
//!
//! * [`port`]: listens, speaks TLS, HTTP/1.1 and HTTP/2, ends well.
//! * [`ops`]: `/health`, `/ready`, `/metrics`, and what every request goes through.
//! * [`api`]: the JSON face: `/api/v1` and `/openapi.json`.
//! * [`access`]: who calls: one gate before every route; [`rules`]: what each call needs.
//! * [`browser`]: who may call from a web page.
//! * [`body`]: how bodies arrive.
//! * [`json`]: the shape of errors.
//!
//! Decides nothing, knows no store and no provider.

pub mod access;
pub mod api;
pub mod body;
pub mod browser;
mod holder;
pub mod json;
pub mod ops;
pub mod port;
pub mod rules;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::{HeaderName, HeaderValue, Method};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceBuilder;
use tower_http::cors::CorsLayer;

/// Puts the faces together: `grpc` as tonic's `Routes::into_axum_router` gives it (gRPC-Web included), `json` with
/// the JSON routes, and the operators' routes. What nothing matches is UNIMPLEMENTED for gRPC and a JSON 404 otherwise.
pub fn assemble(grpc: Router, json: Router, ops: ops::Ops) -> Router {
    let unknown = ops.unknown_rpc;
    let gate = access::Gate { access: ops.access.clone(), refused: ops.refused_rpc };
    let checks = Arc::new(Checks { guard: ops::Guard::of(&ops), gate, body_period: ops.body_period });
    let body_limit = ops.body_limit;
    let ops_origins = ops.allowed_origins.clone();
    // tonic's own fallback would answer every unknown path with 200 and a gRPC status.
    let grpc = grpc.reset_fallback();
    let rest = json.reset_fallback().merge(ops::routes(ops)).method_not_allowed_fallback(ops::method_not_allowed);
    let cors = (!ops_origins.is_empty()).then(|| cors(&ops_origins));
    // One layer: each puts every route into a box of its own, which is copied for every request.
    let through = ServiceBuilder::new()
        .layer(middleware::from_fn_with_state(ops::Counts::default(), ops::observe))
        .option_layer(cors)
        .layer(middleware::from_fn_with_state(checks, checked))
        .layer(DefaultBodyLimit::max(body_limit));
    grpc.merge(rest).fallback(move |request, headers, uri| ops::not_found(unknown, request, headers, uri)).layer(through)
}

/// What every request is looked at for before its route has it, in this order.
struct Checks {
    guard: ops::Guard,
    gate: access::Gate,
    /// See [`body::PERIOD`].
    body_period: Duration,
}

async fn checked(State(checks): State<Arc<Checks>>, id: json::RequestId, request: Request, next: Next) -> Response {
    let (request, left) = body::watched(request, checks.body_period);
    let response = match checks.guard.refusal(&request, &id) {
        Some(refused) => {
            drop(request);
            refused
        }
        None => access::gate(&checks.gate, &id, request, next).await,
    };
    if let Some(left) = left {
        left.take_in();
    }
    response
}

/// Lets the pages of these origins call, by gRPC-Web and otherwise, and read the answers.
fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let exposed = ["grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id", "retry-after"].map(HeaderName::from_static);
    let allowed = ["content-type", "x-grpc-web", "x-user-agent", "grpc-timeout", "authorization", "x-request-id", "idempotency-key", "last-event-id"];
    CorsLayer::new()
        .allow_origin(origins.to_vec())
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(allowed.map(HeaderName::from_static))
        .expose_headers(exposed)
}
