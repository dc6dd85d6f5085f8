//! Waits that double up to a cap. Jitter is added by whoever has the chance to (see `ports::Chance`).

use std::time::Duration;

/// The wait before try number `tries + 1`: `first × 2^(tries−1)`, at most `cap`; zero before the first try.
#[must_use]
pub fn doubling(first: Duration, cap: Duration, tries: u32) -> Duration {
    if tries == 0 {
        return Duration::ZERO;
    }
    let factor = 1_u32.checked_shl((tries - 1).min(31)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap() {
        let wait = |tries| doubling(Duration::from_secs(5), Duration::from_secs(300), tries).as_secs();
        assert_eq!([0, 1, 2, 3, 7, 8, 4_000_000_000].map(wait), [0, 5, 10, 20, 300, 300, 300]);
    }
}
