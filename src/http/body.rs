//! How the bodies of requests arrive: not too slowly, and to their end, whether or not somebody reads them.
//!
//! * A body that hardly moves holds a place that others need: it breaks off ([`TooSlow`]), and who waits for it says so.
//! * A body that nobody reads, since its request was refused by what came before it, is taken in and thrown away for a
//!   while: a connection (a stream in HTTP/2) that is closed with bytes unread is reset, and the reset overtakes the answer.
//!
//! Not for the few RPCs whose request is a stream ([`rules::takes_a_stream`]), over HTTP/2: it may be silent for as long as it
//! likes, and holds no connection. All others take one message and its end.

use super::rules;
use axum::body::Body;
use axum::extract::Request;
use futures::StreamExt;
use http::{Version, header};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep, timeout};

/// In each such time a body brings at least [`LEAST`], or its end.
pub const PERIOD: Duration = Duration::from_secs(30);
/// What a body brings at least in each [`PERIOD`], bytes: the slowest line still does, a client that only holds the place does not.
pub const LEAST: usize = 16 * 1024;
/// The most of a body without a reader that is taken in, bytes; beyond it, and after one [`PERIOD`], connection or stream is reset.
const THROWN_AWAY: usize = 16 * 1024 * 1024;

/// Why a body broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's body arrives too slowly: at least {} KiB or its end must come within each {} s; send it again, whole", LEAST / 1024, .0.as_secs_f32())]
pub struct TooSlow(Duration);

/// Whether this is why an error came about.
#[must_use]
pub fn too_slow(error: &(dyn Error + 'static)) -> Option<TooSlow> {
    let mut error = Some(error);
    while let Some(this) = error {
        if let Some(found) = this.downcast_ref::<TooSlow>() {
            return Some(*found);
        }
        error = this.source();
    }
    None
}

/// Watches over a request's body, with this as its [`PERIOD`]; takes in what is left when nobody reads it any more.
pub(super) fn watched<B: Arrives>(request: http::Request<B>, period: Duration) -> Request {
    let stream = request.version() > Version::HTTP_11 && rules::takes_a_stream(request.uri().path());
    if stream || request.body().is_end_stream() {
        return request.map(Body::new);
    }
    // Who asks whether to send the body has not sent it yet.
    let wanted = !request.headers().contains_key(header::EXPECT);
    request.map(|body| Body::new(Arriving { body: Some(body), brought: 0, period, ends: None, wanted }))
}

/// A body as the port or a test hands it in.
pub trait Arrives: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static {}

impl<B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static> Arrives for B {}

async fn throw_away<B: Arrives>(rest: B) {
    let (mut rest, mut taken) = (Body::new(rest).into_data_stream(), 0_usize);
    while let Some(Ok(bytes)) = rest.next().await {
        taken = taken.saturating_add(bytes.len());
        if taken > THROWN_AWAY {
            return;
        }
    }
}

/// A body under way.
struct Arriving<B: Arrives> {
    /// `None` = it is over.
    body: Option<B>,
    /// Since the period began, bytes.
    brought: usize,
    period: Duration,
    /// When the period does; `None` = nothing has been waited for yet.
    ends: Option<Pin<Box<Sleep>>>,
    /// The client sends it: it was not asked to wait, or was told to go on.
    wanted: bool,
}

impl<B: Arrives> HttpBody for Arriving<B> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.wanted = true;
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.brought = self.brought.saturating_add(frame.data_ref().map_or(0, Bytes::len));
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(over) => {
                self.body = None;
                return Poll::Ready(over.map(|broken| broken.map_err(axum::Error::new)));
            }
            Poll::Pending => {}
        }
        let period = self.period;
        while self.ends.get_or_insert_with(|| Box::pin(sleep(period))).as_mut().poll(cx).is_ready() {
            if self.brought < LEAST {
                self.body = None;
                return Poll::Ready(Some(Err(axum::Error::new(TooSlow(period)))));
            }
            self.brought = 0;
            self.ends = None;
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl<B: Arrives> Drop for Arriving<B> {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| self.wanted && !body.is_end_stream());
        // Where no runtime is left, no connection is.
        if let (Some(rest), Ok(runtime)) = (rest, Handle::try_current()) {
            runtime.spawn(timeout(self.period, throw_away(rest)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a body that brings so many bytes at once, so often, after such a wait each; the time is simulated.
    async fn brought(bytes: usize, every: Duration, times: usize) -> Result<usize, TooSlow> {
        let parts = futures::stream::iter(0..times).then(move |_| async move {
            sleep(every).await;
            Ok::<_, axum::Error>(Bytes::from(vec![b'x'; bytes]))
        });
        let body = Some(Body::from_stream(parts));
        let arriving = Arriving { body, brought: 0, period: PERIOD, ends: None, wanted: true };
        let whole = axum::body::to_bytes(Body::new(arriving), usize::MAX).await;
        whole.map(|bytes| bytes.len()).map_err(|error| too_slow(&error).expect("nothing else goes wrong"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_that_moves_arrives_and_one_that_hardly_does_breaks_off() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(brought(600, second, 1700).await, Ok(1_020_000), "a megabyte in half an hour");
        assert_eq!(brought(LEAST, Duration::from_secs(29), 3).await, Ok(3 * LEAST), "by fits and starts");
        assert_eq!(brought(3, second, 20).await, Ok(60), "a small one within the first period");
        assert_eq!(brought(1, minute, 3).await, Err(TooSlow(PERIOD)));
        assert_eq!(brought(100, second, 1000).await, Err(TooSlow(PERIOD)));
        assert_eq!(brought(LEAST, minute, 2).await, Err(TooSlow(PERIOD)), "silence");
        assert!(TooSlow(PERIOD).to_string().contains("16 KiB or its end must come within each 30 s"));
    }
}
