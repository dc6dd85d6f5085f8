//! Floor 3, the HTTP side: one port for gRPC, gRPC-Web and JSON.
//!
//! * [`port`]: listens, speaks TLS, HTTP/1.1 and HTTP/2, ends well.
//! * [`ops`]: `/health`, `/ready`, `/metrics`, and what every request goes through.
//! * [`api`]: the JSON face: `/api/v1` and `/openapi.json`.
//! * [`access`]: who calls.
//! * [`browser`]: who may call from a web page.
//! * [`json`]: the shape of errors.
//!
//! Decides nothing, knows no store and no provider.

pub mod access;
pub mod api;
pub mod browser;
pub mod json;
pub mod ops;
pub mod port;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;

/// Puts the faces together: `grpc` as tonic's `Routes::into_axum_router` gives it (gRPC-Web included), `json` with
/// the JSON routes, and the operators' routes. What nothing matches is UNIMPLEMENTED for gRPC and a JSON 404 otherwise.
pub fn assemble(grpc: Router, json: Router, ops: ops::Ops) -> Router {
    let (allowed, unknown) = (ops.allowed_hosts.clone(), ops.unknown_rpc);
    // tonic's own fallback would answer every unknown path with 200 and a gRPC status.
    let grpc = grpc.reset_fallback();
    let rest = json.reset_fallback().merge(ops::routes(ops)).method_not_allowed_fallback(ops::method_not_allowed);
    grpc.merge(rest)
        .fallback(move |request, headers, uri| ops::not_found(unknown, request, headers, uri))
        .layer(DefaultBodyLimit::max(ops::BODY_LIMIT))
        .layer(middleware::from_fn_with_state(allowed, ops::guard))
        .layer(middleware::from_fn(ops::observe))
}
