//! How fast and whether calls go out: rate lanes and the circuit breaker of one provider.
//!
//! A lane keeps the vendor's shortest interval between two calls, first come first served, and stands still while the
//! vendor throttles. Destroy has a lane of its own, so that it never waits behind launches or looks. The breaker stops
//! calls after failures in a row; destroys and looks at one machine pass it, since a machine that nobody wants costs money.
//! Both live in tokio's time. Neither knows HTTP.

use crate::domain::backoff::doubling;
use crate::ports::Breaker as Position;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Failures in a row that open the breaker.
pub const OPENS_AFTER: u32 = 5;
/// How long it stays open the first time; doubles with each failed probe.
const FIRST_OPEN: Duration = Duration::from_secs(15);
/// The longest it stays open before the next probe.
const LONGEST_OPEN: Duration = Duration::from_secs(120);

/// One rate lane.
#[derive(Debug)]
pub struct Lane {
    /// Its name, for telling which lane a call takes.
    pub name: &'static str,
    interval: Duration,
    burst: u32,
    state: Mutex<LaneState>,
    /// Whose turn is next waits here, first come first served; who goes away leaves no gap.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct LaneState {
    /// When the lane would be empty again at one call per interval.
    busy_until: Option<Instant>,
    /// The vendor wants no call before then.
    held_until: Option<Instant>,
    /// How many wait for their turn.
    waiting: u32,
}

/// One who waits, until it is dropped.
struct Waiting<'a>(&'a Lane);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.waiting = state.waiting.saturating_sub(1);
    }
}

impl Lane {
    /// A lane with one call per `interval` in the long run and up to `burst` at once (at least 1).
    #[must_use]
    pub fn new(name: &'static str, interval: Duration, burst: u32) -> Self {
        Self { name, interval, burst: burst.max(1), state: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// The interval that the lane keeps.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Waits for its turn, but not longer than `patience`. Dropped meanwhile, it takes no turn.
    ///
    /// # Errors
    /// How long the wait would have been; no turn was taken.
    pub async fn enter(&self, patience: Duration) -> Result<(), Duration> {
        let begun = Instant::now();
        let give_up = begun + patience;
        let _waiting = {
            let mut state = lock(&self.state);
            let at = self.next(&state, begun, state.waiting);
            if at > give_up {
                return Err(at - begun);
            }
            state.waiting += 1;
            Waiting(self)
        };
        // The vendor may begin to throttle while we wait.
        let late = || self.next(&lock(&self.state), Instant::now(), 0) - begun;
        let Ok(_turn) = tokio::time::timeout_at(give_up, self.turn.lock()).await else { return Err(late()) };
        loop {
            let now = Instant::now();
            let at = {
                let mut state = lock(&self.state);
                let at = self.next(&state, now, 0);
                if at <= now {
                    state.busy_until = Some(state.busy_until.map_or(now, |until| until.max(now)) + self.interval);
                    return Ok(());
                }
                at
            };
            if at > give_up {
                return Err(at - begun);
            }
            tokio::time::sleep_until(at).await;
        }
    }

    /// When a call may go out that has so many before it.
    fn next(&self, state: &LaneState, now: Instant, before: u32) -> Instant {
        let busy = state.busy_until.map_or(now, |until| until.max(now)) + self.interval.saturating_mul(before);
        let allowance = self.interval.saturating_mul(self.burst - 1);
        let earliest = busy.checked_sub(allowance).map_or(now, |at| at.max(now));
        state.held_until.map_or(earliest, |until| until.max(earliest))
    }

    /// Stands still for `wait` from now on (the vendor throttles).
    pub fn hold(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut state = lock(&self.state);
        state.held_until = Some(state.held_until.map_or(until, |held| held.max(until)));
    }
}

/// A circuit breaker.
#[derive(Debug, Default)]
pub struct Breaker {
    state: Mutex<BreakerState>,
}

#[derive(Debug, Default)]
struct BreakerState {
    failures: u32,
    /// How often it opened or re-opened since the last success.
    openings: u32,
    open_until: Option<Instant>,
    probing: bool,
}

/// The right to make one call. Dropping it without a word (a cancelled call) gives a probe's place free again.
#[derive(Debug)]
pub struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    /// Asks for a pass; `past` = whatever the breaker says.
    ///
    /// # Errors
    /// How long until it is worth asking again.
    pub fn enter(&self, past: bool) -> Result<Pass<'_>, Duration> {
        let mut state = lock(&self.state);
        let Some(until) = state.open_until.filter(|_| !past) else {
            return Ok(Pass { breaker: self, probe: false });
        };
        let now = Instant::now();
        if now < until {
            return Err(until - now);
        }
        if state.probing {
            return Err(FIRST_OPEN);
        }
        state.probing = true;
        Ok(Pass { breaker: self, probe: true })
    }

    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Position {
        match lock(&self.state).open_until {
            None => Position::Closed,
            Some(until) if Instant::now() < until => Position::Open,
            Some(_) => Position::HalfOpen,
        }
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        lock(&self.state).failures
    }
}

impl Pass<'_> {
    /// The vendor answered: the breaker closes.
    pub fn answered(self) {
        *lock(&self.breaker.state) = BreakerState::default();
    }

    /// The vendor did not answer, or is broken.
    pub fn failed(self) {
        let mut state = lock(&self.breaker.state);
        state.failures = state.failures.saturating_add(1);
        let opens = state.open_until.is_none() && state.failures >= OPENS_AFTER;
        if opens || (self.probe && state.open_until.is_some()) {
            state.openings = state.openings.saturating_add(1);
            state.open_until = Some(Instant::now() + doubling(FIRST_OPEN, LONGEST_OPEN, state.openings));
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            lock(&self.breaker.state).probing = false;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_spaces_calls_in_the_order_they_came() {
        let lane = Lane::new("create", Duration::from_millis(4500), 1);
        let start = Instant::now();
        let mut at = Vec::new();
        for _ in 0..3 {
            lane.enter(LONG).await.unwrap();
            at.push(start.elapsed());
        }
        assert_eq!(at, [0, 4500, 9000].map(Duration::from_millis));
        tokio::time::sleep(secs(100)).await;
        let rested = Instant::now();
        lane.enter(LONG).await.unwrap();
        lane.enter(LONG).await.unwrap();
        assert_eq!(rested.elapsed(), Duration::from_millis(4500), "rest earns no burst");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_allowed_where_the_vendor_counts_by_the_minute() {
        let lane = Lane::new("destroy", secs(3), 4);
        let start = Instant::now();
        for _ in 0..4 {
            lane.enter(LONG).await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        lane.enter(LONG).await.unwrap();
        assert_eq!(start.elapsed(), secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn impatience_takes_no_turn() {
        let lane = Lane::new("list", secs(10), 1);
        lane.enter(LONG).await.unwrap();
        assert_eq!(lane.enter(secs(4)).await, Err(secs(10)));
        let start = Instant::now();
        lane.enter(LONG).await.unwrap();
        assert_eq!(start.elapsed(), secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_leaves_no_gap() {
        let lane = Lane::new("instance", secs(10), 1);
        let start = Instant::now();
        let brief = || tokio::time::timeout(secs(1), lane.enter(LONG));
        let (first, _, last, ..) = tokio::join!(lane.enter(LONG), brief(), lane.enter(LONG), brief(), brief());
        assert_eq!((first, last, start.elapsed()), (Ok(()), Ok(()), secs(10)));
        // Fifty who wait for a second each keep nobody from the turn that comes then.
        let crowd: Vec<_> = (0..50).map(|_| brief()).collect();
        assert!(futures::future::join_all(crowd).await.iter().all(Result::is_err));
        lane.enter(secs(9)).await.unwrap();
        assert_eq!(start.elapsed(), secs(20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_lane_stands_still_for_those_who_wait_too() {
        let lane = Lane::new("list", secs(1), 1);
        lane.enter(LONG).await.unwrap();
        let start = Instant::now();
        let (waited, ()) = tokio::join!(lane.enter(LONG), async { lane.hold(secs(30)) });
        waited.unwrap();
        assert_eq!(start.elapsed(), secs(30));
        lane.enter(LONG).await.unwrap();
        assert!(start.elapsed() >= secs(31));
    }

    #[tokio::test(start_paused = true)]
    async fn the_breaker_opens_and_lets_a_single_probe_through() {
        let breaker = Breaker::default();
        for _ in 0..OPENS_AFTER {
            assert_eq!(breaker.position(), Position::Closed);
            breaker.enter(false).unwrap().failed();
        }
        assert_eq!(breaker.position(), Position::Open);
        assert!(breaker.enter(false).is_err());
        breaker.enter(true).unwrap().failed();
        assert_eq!(breaker.failures(), OPENS_AFTER + 1);
        tokio::time::sleep(FIRST_OPEN).await;
        assert_eq!(breaker.position(), Position::HalfOpen);
        let probe = breaker.enter(false).unwrap();
        assert!(breaker.enter(false).is_err(), "one probe at a time");
        drop(probe);
        let probe = breaker.enter(false).unwrap();
        probe.failed();
        assert_eq!(breaker.position(), Position::Open);
        tokio::time::sleep(FIRST_OPEN).await;
        assert_eq!(breaker.position(), Position::Open, "the second time takes longer");
        tokio::time::sleep(FIRST_OPEN).await;
        breaker.enter(false).unwrap().answered();
        assert_eq!((breaker.position(), breaker.failures()), (Position::Closed, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_destroy_that_works_closes_the_breaker() {
        let breaker = Breaker::default();
        for _ in 0..OPENS_AFTER {
            breaker.enter(false).unwrap().failed();
        }
        breaker.enter(true).unwrap().answered();
        assert!(breaker.enter(false).is_ok());
    }
}
