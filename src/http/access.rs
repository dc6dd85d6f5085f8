//! Who calls, for every face of the port: one gate before all routes, gRPC, gRPC-Web and JSON alike. It has the token
//! looked at, the call's rule kept, the caller's limits counted, and puts the [`Caller`] into the request's extensions; a
//! handler that finds none there refuses.
//!
//! Decides nothing: what a call needs is said in [`rules`](super::rules), who may in `services::access`.

use super::json::{self, RequestId};
use super::rules::Rule;
use crate::domain::access::Need;
use crate::services::access::{Access, Pass};
use crate::services::api::Caller;
use crate::services::{Code, Error};
use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use std::future::Future;
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
pub(super) async fn gate<F>(gate: &Gate, rule: Rule, id: &RequestId, mut request: Request, next: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    if rule.need == Need::Nothing && !rule.lasts {
        return next(request).await;
    }
    let given = request.headers().get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    match gate.access.admit(given, rule.need, rule.lasts) {
        Ok(mut pass) => {
            if let Some(caller) = pass.caller.take() {
                tracing::Span::current().record("caller", caller.principal.as_str());
                request.extensions_mut().insert(Caller { request: id.0.clone(), ..caller });
            }
            if !rule.lasts {
                return next(request).await;
            }
            // All that its last word depends on: streams are many, and live long.
            let headers: HeaderMap =
                request.headers().get(header::CONTENT_TYPE).map(|kind| (header::CONTENT_TYPE, kind.clone())).into_iter().collect();
            tokio::select! {
                biased;
                () = pass.ended() => (gate.refused)(&headers, &no_longer()).unwrap_or_else(|| json::error(&no_longer(), id)),
                answer = next(request) => {
                    let kind = answer.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_owned()).unwrap_or_default();
                    let (refused, id) = (gate.refused, id.clone());
                    let last = move || last_word(&kind, &headers, refused, &id);
                    answer.map(|body| Body::new(Held::new(body, pass, Box::new(last))))
                }
            }
        }
        Err(error) => {
            metrics::counter!("http_requests_refused_total", "reason" => error.reason).increment(1);
            // Strangers decide how often this happens: it is counted, and told where somebody looks closely.
            tracing::debug!(reason = error.reason, "refused");
            (gate.refused)(request.headers(), &error).unwrap_or_else(|| json::error(&error, id))
        }
    }
}

/// What a stream says at last when its caller's token has ended, in the stream's language.
type LastWord = Box<dyn Fn() -> Result<Frame<Bytes>, axum::Error> + Send>;

/// A stream's body: it holds its caller's place, and ends when the caller's token does.
struct Held {
    body: Body,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
    last: LastWord,
    over: bool,
    _place: Option<OwnedSemaphorePermit>,
}

impl Held {
    fn new(body: Body, pass: Pass, last: LastWord) -> Self {
        Self { body, ended: Box::pin(pass.ended()), last, over: false, _place: pass.place }
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
            return Poll::Ready(Some((self.last)()));
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

fn no_longer() -> Error {
    Error::new(Code::Unauthenticated, "TOKEN_INVALID", NoLonger.to_string())
}

/// UNAUTHENTICATED as a gRPC stream's trailers; as the last frame of a browser's, which can't read trailers; as an event
/// `failure` of server-sent events. Anything else, which is not whole without its rest, breaks off.
fn last_word(kind: &[u8], asked: &HeaderMap, refused: RefusedRpc, id: &RequestId) -> Result<Frame<Bytes>, axum::Error> {
    let status = || {
        let whole = refused(asked, &no_longer()).map(|answer| answer.headers().clone()).unwrap_or_default();
        whole.into_iter().filter_map(|(name, value)| Some((name?, value))).filter(|(name, _)| name.as_str().starts_with("grpc-"))
    };
    if kind.starts_with(b"text/event-stream") {
        let (_, body) = json::error_body(&no_longer(), id, Vec::new());
        return Ok(Frame::data(Bytes::from(format!("event: failure\ndata: {body}\n\n"))));
    }
    if kind.starts_with(b"application/grpc-web") {
        let mut lines = Vec::new();
        for (name, value) in status() {
            lines.extend_from_slice(&[name.as_str().as_bytes(), b":", value.as_bytes(), b"\r\n"].concat());
        }
        let length = u32::try_from(lines.len()).unwrap_or_default().to_be_bytes();
        let frame = [&[0x80][..], &length, &lines].concat();
        let text = kind.starts_with(b"application/grpc-web-text");
        return Ok(Frame::data(if text { Bytes::from(STANDARD.encode(frame)) } else { Bytes::from(frame) }));
    }
    if kind.starts_with(b"application/grpc") {
        return Ok(Frame::trailers(status().collect()));
    }
    Err(axum::Error::new(NoLonger))
}
