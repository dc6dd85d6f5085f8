//! The one place that reads a clock.
//!
//! Everything else takes time as an argument or asks a [`Clock`]. The simulated clock follows tokio's own
//! (pausable) time, so a test that pauses tokio lives through a rental day in milliseconds and `sleep` and
//! `now` can never disagree.

use crate::domain::time::Time;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where "now" comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock, which follows it forward and never goes back while the process lives: deadlines, waits and what is
    /// metered go on as time passes, whatever somebody sets the clock to.
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
    pub fn now(&self) -> Time {
        match self {
            Self::System => system().0,
            Self::Simulated { begin, origin } => *begin + origin.elapsed(),
        }
    }

    /// How far the machine's clock was set back since the process began: by so much it is behind [`Clock::now`].
    #[must_use]
    pub fn set_back(&self) -> Duration {
        match self {
            Self::System => {
                let (now, wall) = system();
                now.since(wall)
            }
            Self::Simulated { .. } => Duration::ZERO,
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

/// Now, and what the machine's clock says.
#[allow(clippy::disallowed_methods, reason = "the one place")]
fn system() -> (Time, Time) {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    static BEGAN: AtomicI64 = AtomicI64::new(i64::MIN);
    let first = *FIRST;
    // In this order: what passes between the two readings never takes the clock ahead.
    let wall = SystemTime::now();
    let passed = i64::try_from(first.elapsed().as_micros()).unwrap_or(i64::MAX);
    let micros = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let now = onward(&BEGAN, i64::try_from(micros).unwrap_or(i64::MAX), passed);
    (Time::from_millis(now / 1000), time_of(wall))
}

/// Now: what the clock says, or what it said at its furthest and the time that has passed since, in microseconds. `began` is when
/// the process began, by the clock at its furthest; `passed` the time since.
fn onward(began: &AtomicI64, wall: i64, passed: i64) -> i64 {
    let by_wall = wall.saturating_sub(passed);
    began.fetch_max(by_wall, Ordering::Relaxed).max(by_wall).saturating_add(passed)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_goes_on_and_one_that_is_set_forward_is_followed() {
        let began = AtomicI64::new(i64::MIN);
        let now = |wall: i64, passed: i64| onward(&began, wall, passed);
        assert_eq!((now(1_000_000, 0), now(1_000_500, 500)), (1_000_000, 1_000_500));
        // Set back by an hour: it goes on at its pace.
        assert_eq!((now(1_000_600 - 3_600_000, 600), now(1_001_000 - 3_600_000, 1_000)), (1_000_600, 1_001_000));
        // Set right again, and then forward, as after a sleep in which no time passed for the process.
        assert_eq!((now(1_002_000, 2_000), now(1_603_000, 3_000)), (1_002_000, 1_603_000));
        assert_eq!(now(1_004_000, 4_000), 1_604_000);
    }
}
