//! The one place that reads a clock.
//!
//! Everything else takes time as an argument or asks a [`Clock`]. The simulated clock follows tokio's own
//! (pausable) time, so a test that pauses tokio lives through a rental day in milliseconds and `sleep` and
//! `now` can never disagree.

use crate::domain::time::Time;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where "now" comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A fixed beginning plus what tokio's clock says has passed since.
    Simulated {
        /// What the clock showed at `origin`.
        begin: Time,
        /// The tokio instant that corresponds to `begin`.
        origin: tokio::time::Instant,
    },
}

impl Clock {
    /// A clock that shows `begin` now and advances with tokio's (possibly paused) time.
    #[must_use]
    pub fn simulated(begin: Time) -> Self {
        Self::Simulated { begin, origin: tokio::time::Instant::now() }
    }

    /// The present moment, UTC.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the one place")]
    pub fn now(&self) -> Time {
        match self {
            Self::System => time_of(SystemTime::now()),
            Self::Simulated { begin, origin } => *begin + origin.elapsed(),
        }
    }

    /// By when what has just been answered is surely over: the present moment, not cut to milliseconds but rounded up.
    #[must_use]
    pub fn answered(&self) -> Time {
        match self {
            Self::System => self.now() + Duration::from_millis(1),
            Self::Simulated { .. } => self.now(),
        }
    }

    /// Sleeps until the clock shows `at`; returns at once when it already does.
    pub async fn sleep_until(&self, at: Time) {
        let wait = at.since(self.now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Sleeps for `wait`.
    pub async fn sleep(&self, wait: Duration) {
        tokio::time::sleep(wait).await;
    }
}

/// A moment as the system tells it, of a file perhaps, in our own words.
#[must_use]
pub fn time_of(at: SystemTime) -> Time {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Measures how long something takes, finer than milliseconds; for metrics, never for decisions.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(tokio::time::Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
