//! Waits that double up to a cap. Jitter is added by whoever has the chance to (see `ports::Chance`); where there is none,
//! what waits is spread by what it is.

use std::hash::{DefaultHasher, Hash, Hasher};
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

/// The wait moved by up to a fifth, to the same place for the same thing: many that began to wait together do not end together.
#[must_use]
pub fn spread(wait: Duration, of: impl Hash) -> Duration {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    let thousandths = u32::try_from(hasher.finish() % 401).unwrap_or_default();
    wait * (800 + thousandths) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap() {
        let wait = |tries| doubling(Duration::from_secs(5), Duration::from_secs(300), tries).as_secs();
        assert_eq!([0, 1, 2, 3, 7, 8, 4_000_000_000].map(wait), [0, 5, 10, 20, 300, 300, 300]);
    }

    #[test]
    fn what_waits_is_spread_by_a_fifth_to_both_sides() {
        let all: Vec<u128> = (0..1000).map(|n| spread(Duration::from_secs(100), n).as_millis()).collect();
        assert!(all.iter().all(|ms| (80_000..=120_000).contains(ms)));
        assert!(all.iter().any(|ms| *ms < 85_000) && all.iter().any(|ms| *ms > 115_000));
        assert_eq!(spread(Duration::from_secs(7), "a"), spread(Duration::from_secs(7), "a"));
    }
}
