//! How long things took, as percentiles.

use crate::cli::failure::Failure;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// Many measured times: microseconds, to a thousandth of each.
#[derive(Clone, Debug)]
pub struct Timings(Histogram<u64>);

/// What many times come to, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// Half are not above.
    pub p50_us: u64,
    /// Nine of ten are not above.
    pub p90_us: u64,
    /// 99 of a hundred are not above.
    pub p99_us: u64,
    /// 999 of a thousand are not above.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Timings {
    /// None yet.
    ///
    /// # Errors
    /// Never with these bounds; the library asks for it.
    pub fn new() -> Result<Self, Failure> {
        // From a microsecond to an hour.
        let made = Histogram::new_with_bounds(1, 3_600_000_000, 3);
        made.map(Self).map_err(|e| Failure::local("HISTOGRAM", format!("no histogram can be made: {e}")))
    }

    /// One more.
    pub fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// Those of another as well.
    pub fn merge(&mut self, other: &Self) {
        // Both have the same bounds, so that nothing can be out of them.
        let _ = self.0.add(&other.0);
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// What they come to.
    pub fn percentiles(&self) -> Percentiles {
        let at = |share| self.0.value_at_quantile(share);
        Percentiles { count: self.0.len(), p50_us: at(0.5), p90_us: at(0.9), p99_us: at(0.99), p999_us: at(0.999), max_us: self.0.max() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_that_was_recorded() {
        let (mut one, mut other) = (Timings::new().unwrap(), Timings::new().unwrap());
        (1..=500).for_each(|ms| one.record(Duration::from_millis(ms)));
        (501..=1000).for_each(|ms| other.record(Duration::from_millis(ms)));
        one.merge(&other);
        let told = one.percentiles();
        let near = |value: u64, ms: u64| value.abs_diff(ms * 1000) <= ms * 2;
        assert_eq!(told.count, 1000);
        assert!(near(told.p50_us, 500) && near(told.p90_us, 900) && near(told.p99_us, 990) && near(told.max_us, 1000), "{told:?}");
    }
}
