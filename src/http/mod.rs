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
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method};
use hyper::body::{Body as HttpBody, Bytes};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::cors::CorsLayer;

/// All that one port answers. Every request goes through the same functions, whichever face it is for; a call of gRPC gets to
/// its service without a router, which costs more than most calls do.
pub struct Faces<G>(Arc<Inner<G>>);

struct Inner<G> {
    grpc: G,
    rest: Router,
    counts: ops::Counts,
    checks: Arc<Checks>,
    cors: Option<CorsLayer>,
    /// See [`body::PERIOD`].
    body_period: Duration,
}

/// Puts the faces together: `grpc` answers whatever is of a service ([`rules::RPCS`]), gRPC-Web included; `json` has the JSON
/// routes. What nothing matches is UNIMPLEMENTED for gRPC and a JSON 404 otherwise.
pub fn assemble<G>(grpc: G, json: Router, ops: ops::Ops) -> Faces<G> {
    let unknown = ops.unknown_rpc;
    let gate = access::Gate { access: ops.access.clone(), refused: ops.refused_rpc };
    let (counts, checks) = (ops::Counts::default(), Arc::new(Checks { guard: ops::Guard::of(&ops), gate }));
    let (body_limit, body_period) = (ops.body_limit, ops.body_period);
    let cors = (!ops.allowed_origins.is_empty()).then(|| cors(&ops.allowed_origins));
    let rest = json.reset_fallback().merge(ops::routes(ops)).method_not_allowed_fallback(ops::method_not_allowed);
    let through = ServiceBuilder::new()
        .layer(middleware::from_fn_with_state(counts.clone(), observed))
        .option_layer(cors.clone())
        .layer(middleware::from_fn_with_state(Arc::clone(&checks), checked))
        .layer(DefaultBodyLimit::max(body_limit));
    let rest = rest.fallback(move |request, headers, uri| ops::not_found(unknown, request, headers, uri)).layer(through);
    Faces(Arc::new(Inner { grpc, rest, counts, checks, cors, body_period }))
}

impl<G> Clone for Faces<G> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<G, B, Sent> Service<http::Request<Sent>> for Faces<G>
where
    Sent: body::Arrives,
    G: Service<Request, Response = http::Response<B>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static,
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Sent>) -> Self::Future {
        let request = body::watched(request, self.0.body_period);
        match rules::called(request.uri().path()) {
            Some(called) => {
                let inner = Arc::clone(&self.0);
                Box::pin(async move { Ok(inner.rpc(called, request).await) })
            }
            None => Box::pin(self.0.rest.clone().oneshot(request)),
        }
    }
}

impl<G, B> Inner<G>
where
    G: Service<Request, Response = http::Response<B>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static,
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
{
    async fn rpc(self: &Arc<Self>, called: rules::Called, request: Request) -> Response {
        let route = if called.known { request.uri().path().to_owned() } else { ops::UNMATCHED.to_owned() };
        let answered = |id: json::RequestId, request: Request| async move {
            let Some(cors) = &self.cors else { return self.checked_rpc(called.rule, &id, request).await };
            let inner = Arc::clone(self);
            let within = service_fn(move |request: Request| {
                let (inner, id) = (Arc::clone(&inner), id.clone());
                async move { Ok::<_, Infallible>(inner.checked_rpc(called.rule, &id, request).await) }
            });
            let Ok(answer) = cors.layer(within).oneshot(request).await;
            answer
        };
        ops::observe(&self.counts, &route, request, answered).await
    }

    async fn checked_rpc(&self, rule: rules::Rule, id: &json::RequestId, request: Request) -> Response {
        let served = |request: Request| async move {
            match ops::speaks_no_grpc(id, &request) {
                Some(refused) => refused,
                None => {
                    let Ok(answer) = self.grpc.clone().oneshot(request).await;
                    answer.map(Body::new)
                }
            }
        };
        self.checks.passed(rule, id, request, served).await
    }
}

/// What every request is looked at for before it is served, in this order.
struct Checks {
    guard: ops::Guard,
    gate: access::Gate,
}

impl Checks {
    async fn passed<F>(&self, rule: rules::Rule, id: &json::RequestId, request: Request, next: impl FnOnce(Request) -> F) -> Response
    where
        F: Future<Output = Response>,
    {
        match self.guard.refusal(&request, id) {
            Some(refused) => refused,
            None => access::gate(&self.gate, rule, id, request, next).await,
        }
    }
}

async fn observed(State(counts): State<ops::Counts>, route: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let route = route.as_ref().map_or(ops::UNMATCHED, MatchedPath::as_str);
    ops::observe(&counts, route, request, |_, request| next.run(request)).await
}

async fn checked(State(checks): State<Arc<Checks>>, route: Option<MatchedPath>, id: json::RequestId, request: Request, next: Next) -> Response {
    let uri = request.uri();
    let rule = rules::rule(request.method(), uri.path(), uri.query(), route.is_some());
    checks.passed(rule, &id, request, |request| next.run(request)).await
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
