//! Who calls, for every face of the port: one gate before all routes, gRPC, gRPC-Web and JSON alike. It has the token
//! looked at, the call's rule kept, the caller's limits counted, and puts the [`Caller`] into the request's extensions; a
//! handler that finds none there refuses.
//!
//! Decides nothing: what a call needs is said in [`rules`](super::rules), who may in `services::access`.

use super::json::{self, RequestId};
use super::rules::rule;
use crate::domain::access::Need;
use crate::services::access::{Access, Pass};
use crate::services::api::Caller;
use crate::services::{Code, Error};
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;

/// Answers a gRPC call that is refused; `None` when the headers are not those of a gRPC call.
pub type RefusedRpc = fn(&HeaderMap, &Error) -> Option<Response>;

/// The caller of a request, as an argument of a handler. Where nobody has said who calls, the request is refused.
pub struct Who(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let unknown = || Error::new(Code::Unauthenticated, "TOKEN_MISSING", "nobody has said who calls: the request has not come through the port");
        let id = parts.extensions.get::<RequestId>().cloned().unwrap_or_default();
        parts.extensions.get::<Caller>().cloned().map(Self).ok_or_else(|| json::error(&unknown(), &id))
    }
}

/// What the gate needs.
#[derive(Clone)]
pub(super) struct Gate {
    pub access: Access,
    pub refused: RefusedRpc,
}

/// Lets a request through with its caller, or refuses it in its own language; ends one that waits when its token ends. What a
/// browser asks before it calls (OPTIONS, without a token) does not come here: CORS answers it where pages may call at all.
pub(super) async fn gate(State(gate): State<Gate>, id: RequestId, mut request: Request, next: Next) -> Response {
    let rule = rule(request.method(), request.uri().path(), request.uri().query());
    if rule.need == Need::Nothing {
        return next.run(request).await;
    }
    let given = request.headers().get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    match gate.access.admit(given, rule.need, rule.lasts) {
        Ok(pass) => {
            let grpc = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| {
                let kind = kind.as_bytes();
                kind.starts_with(b"application/grpc") && !kind.starts_with(b"application/grpc-web")
            });
            tracing::Span::current().record("caller", pass.caller.principal.as_str());
            request.extensions_mut().insert(pass.caller.clone());
            if !rule.lasts {
                return next.run(request).await;
            }
            let headers = request.headers().clone();
            tokio::select! {
                biased;
                () = pass.ended() => {
                    let error = Error::new(Code::Unauthenticated, "TOKEN_INVALID", NoLonger.to_string());
                    (gate.refused)(&headers, &error).unwrap_or_else(|| json::error(&error, &id))
                }
                answer = next.run(request) => answer.map(|body| Body::new(Held::new(body, pass, grpc))),
            }
        }
        Err(error) => {
            metrics::counter!("http_requests_refused_total", "reason" => error.reason).increment(1);
            // Strangers decide how often this happens: it is counted, and told where somebody looks closely.
            tracing::debug!(reason = error.reason, "refused");
            (gate.refused)(request.headers(), &error).unwrap_or_else(|| json::error(&error, &id))
        }
    }
}

/// A stream's body: it holds its caller's place, and ends when the caller's token does.
struct Held {
    body: Body,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
    grpc: bool,
    over: bool,
    _place: Option<OwnedSemaphorePermit>,
}

impl Held {
    fn new(body: Body, pass: Pass, grpc: bool) -> Self {
        Self { body, ended: Box::pin(pass.ended()), grpc, over: false, _place: pass.place }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.ended.as_mut().poll(cx).is_ready() {
            self.over = true;
            return Poll::Ready(Some(if self.grpc { Ok(Frame::trailers(no_longer())) } else { Err(axum::Error::new(NoLonger)) }));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a stream was cut.
#[derive(Debug, thiserror::Error)]
#[error("the token was revoked or has expired")]
struct NoLonger;

/// How a gRPC stream ends then: UNAUTHENTICATED.
fn no_longer() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("16"));
    trailers.insert("grpc-message", HeaderValue::from_static("the token was revoked or has expired"));
    trailers
}
