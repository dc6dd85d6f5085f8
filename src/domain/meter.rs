//! Metering: from segments (who was billed for what, from when to when, at which rate) to amounts.
//!
//! A pure function of persisted boundaries, never an accumulation of ticks. Each boundary is an interval, because we
//! only learn of changes by looking: the amount runs from the first moment known on to the last moment known on; the
//! true bill lies between [`Amount::low`] and [`Amount::high`].

use crate::domain::ids::SessionId;
use crate::domain::money::{Nanos, Rate};
use crate::domain::offer::Component;
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use std::ops::{Add, AddAssign};

/// A stretch of metered time of one component at one rate.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The session.
    pub session: SessionId,
    /// Which attempt's instance.
    pub attempt: u8,
    /// Number within the instance, from 0.
    pub ordinal: u32,
    /// What is billed.
    pub component: Component,
    /// At which rate.
    pub rate: Rate,
    /// Last moment known off before it.
    pub from_low: Time,
    /// First moment known on.
    pub from: Time,
    /// Last moment known on.
    pub to: Time,
    /// First moment known off after it; `None` while it runs.
    pub to_high: Option<Time>,
    /// Nobody looked meanwhile: it was on before and after, so it is charged, and yet the true bill may lack it.
    #[serde(default)]
    pub presumed: bool,
}

/// A half-open window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Included.
    pub from: Time,
    /// Excluded.
    pub to: Time,
}

impl Window {
    /// All of time.
    pub const ALWAYS: Self = Self { from: Time::from_millis(i64::MIN / 4), to: Time::from_millis(i64::MAX / 4) };
}

/// What something costs, with the bounds that our knowledge of its boundaries gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// The amount we account: what is surely owed, and what was between two looks that both showed it on.
    pub cost: Nanos,
    /// The true bill is at least this.
    pub low: Nanos,
    /// The true bill is at most this.
    pub high: Nanos,
    /// What a second at these rates costs: the yardstick for [`Amount::estimated`].
    pub second: Nanos,
}

impl Amount {
    /// Whether the bounds differ by more than a second's worth.
    #[must_use]
    pub fn estimated(&self) -> bool {
        self.high - self.low > self.second
    }
}

impl Add for Amount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { cost: self.cost + other.cost, low: self.low + other.low, high: self.high + other.high, second: self.second.max(other.second) }
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

impl Segment {
    /// What of this segment falls into `window`. `now` bounds a running segment from above.
    ///
    /// The part inside [a, b) is `accrued(b) − accrued(a)`, so parts of any split add up to the whole, to the nano.
    #[must_use]
    pub fn amount(&self, window: Window, now: Time) -> Amount {
        let part = |from: Time, to: Time, draw: fn(Rate, i64) -> Nanos| {
            let accrued = |at: Time| draw(self.rate, (at.clamp(from, to.max(from)).millis() - from.millis()).max(0));
            accrued(window.to) - accrued(window.from)
        };
        let cost = part(self.from, self.to, Rate::accrued);
        // The doubtful stretches before and after are added to the sure one, so that bounds add up as amounts do; rounded
        // up, so that a vendor that rounds the whole once can't come out above.
        let before = part(self.from_low.min(self.from), self.from, rounded_up);
        let high = cost + before + part(self.to, self.to_high.unwrap_or(now), rounded_up);
        let low = if self.presumed { Nanos::ZERO } else { cost };
        Amount { cost, low, high, second: self.rate.accrued(1000) }
    }
}

/// What a rate amounts to at the most: the whole nano-dollar that the exact amount does not exceed.
fn rounded_up(rate: Rate, millis: i64) -> Nanos {
    let nearest = rate.accrued(millis);
    let short = i128::from(nearest.0) * 3_600_000_000 < i128::from(rate.0) * i128::from(millis);
    if short { nearest + Nanos(1) } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(from_low: i64, from: i64, to: i64, to_high: Option<i64>) -> Segment {
        let t = Time::from_millis;
        Segment {
            session: SessionId::new(t(0), 0),
            attempt: 1,
            ordinal: 0,
            component: Component::Gpu,
            rate: Rate::parse("0.123456789012").unwrap(),
            from_low: t(from_low),
            from: t(from),
            to: t(to),
            to_high: to_high.map(t),
            presumed: false,
        }
    }

    #[test]
    fn what_nobody_saw_is_charged_and_not_sure() {
        let s = Segment { presumed: true, ..segment(1_000, 1_000, 62_000, Some(62_000)) };
        let a = s.amount(Window::ALWAYS, Time::from_millis(0));
        assert_eq!((a.low, a.cost), (Nanos::ZERO, s.rate.accrued(61_000)));
        assert!(a.high >= a.cost && a.estimated());
    }

    #[test]
    fn windows_add_up_to_the_whole() {
        let s = segment(900, 1_000, 90_000_123, Some(90_000_400));
        let whole = s.amount(Window::ALWAYS, Time::from_millis(0));
        let cuts = [i64::MIN / 8, 950, 1_000, 5_000_001, 86_400_000, 90_000_123, i64::MAX / 8];
        let sum: Amount =
            cuts.windows(2).map(|w| s.amount(Window { from: Time::from_millis(w[0]), to: Time::from_millis(w[1]) }, Time::from_millis(0))).sum();
        assert_eq!(sum.cost, whole.cost);
        assert_eq!(sum.high, whole.high);
        assert_eq!(whole.cost, s.rate.accrued(89_999_123));
        assert!(whole.low == whole.cost && whole.cost < whole.high);
    }

    #[test]
    fn exact_boundaries_leave_no_doubt() {
        let a = segment(1_000, 1_000, 62_000, Some(62_000)).amount(Window::ALWAYS, Time::from_millis(0));
        assert_eq!((a.low, a.cost), (a.high, a.high));
        assert!(!a.estimated());
    }
}
