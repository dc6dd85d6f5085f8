//! Trying again: what is safe to repeat is repeated while the server is away, within a time.

use crate::error::Error;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// How long to wait between tries, and how long to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A whole call with all its tries. Default: one minute.
    pub timeout: Duration,
    /// One try. Default: 20 seconds.
    pub one_try: Duration,
    /// About the first wait; it doubles from try to try. Default: 200 ms.
    pub first_wait: Duration,
    /// The longest wait of our own; what the server asks for is waited in full. Default: 10 seconds.
    pub longest_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            one_try: Duration::from_secs(20),
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(10),
        }
    }
}

impl Patience {
    /// The wait before the next try: doubled from try to try, half of it by chance, and not less than the server asks for.
    pub(crate) fn wait(&self, tries: u32, asked: Option<Duration>) -> Duration {
        let most = self.first_wait.saturating_mul(1 << tries.min(20)).min(self.longest_wait);
        let chance = u32::try_from(Uuid::new_v4().as_u128() % 1000).unwrap_or_default();
        (most / 2 + most / 2 * chance / 1000).max(asked.unwrap_or_default())
    }
}

/// Asks, and again while that may help. The request only reads, or carries a name that the server knows it by.
pub(crate) async fn insist<Q, A, F>(patience: &Patience, request: Q, ask: impl Fn(Request<Q>) -> F) -> Result<A, Error>
where
    Q: Clone,
    F: Future<Output = Result<Response<A>, Status>>,
{
    let end = Instant::now() + patience.timeout;
    let mut tries = 0;
    loop {
        let limit = patience.one_try.min(end.saturating_duration_since(Instant::now()));
        let mut asked = Request::new(request.clone());
        asked.set_timeout(limit);
        let answer = timeout(limit, ask(asked)).await;
        let error = match answer {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => Error::from(status),
            Err(_) => Status::deadline_exceeded(format!("no answer within {:.1} s", limit.as_secs_f64())).into(),
        };
        let Some(refusal) = error.refusal().filter(|r| r.is_transient()) else { return Err(error) };
        let wait = patience.wait(tries, refusal.retry_after);
        if Instant::now() + wait >= end {
            return Err(error);
        }
        tries += 1;
        sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_bounds_and_honour_what_the_server_asks_for() {
        let patience = Patience::default();
        for tries in 0..40 {
            let most = Duration::from_millis(200).saturating_mul(1 << tries.min(20)).min(Duration::from_secs(10));
            let wait = patience.wait(tries, None);
            assert!(wait >= most / 2 && wait <= most, "{tries}: {wait:?}");
        }
        assert_eq!(patience.wait(0, Some(Duration::from_secs(33))), Duration::from_secs(33));
    }
}
