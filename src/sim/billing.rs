//! The simulated vendor's own meter: when each part of a machine was billed, and what it comes to.
//!
//! Deliberately not the product's meter and not its rounding: this is the truth that the product's ledger is
//! compared with. Exact integers over all intervals, rounded once per component and machine, half to even.

use crate::domain::money::Nanos;
use crate::domain::offer::{Component, Price};
use crate::domain::time::Time;
use serde::Serialize;

/// What a machine has cost, traffic excluded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bill {
    /// By component, those with a price only.
    pub parts: Vec<(Component, Nanos)>,
    /// Their sum.
    pub total: Nanos,
}

/// Which meters run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct On {
    /// GPU, CPU and memory.
    pub compute: bool,
    /// Disk.
    pub disk: bool,
}

/// Readings in the order of time; each holds until the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Vec<(Time, On, Price)>);

impl Meter {
    /// From `at` on these meters run at this price.
    pub fn set(&mut self, at: Time, on: On, price: Price) {
        let last = self.0.last();
        if last.is_none_or(|(_, was, old)| *was != on || *old != price) {
            // Events are worked off in the order of time; a late one counts from the last reading.
            let at = last.map_or(at, |(earlier, ..)| at.max(*earlier));
            self.0.push((at, on, price));
        }
    }

    /// The bill up to a moment.
    pub fn bill(&self, until: Time) -> Bill {
        let mut bill = Bill::default();
        for component in Component::ALL {
            let mut pico_millis: i128 = 0;
            let mut priced = false;
            for (index, (from, on, price)) in self.0.iter().enumerate() {
                let end = self.0.get(index + 1).map_or(until, |next| next.0.min(until));
                let runs = if component == Component::Disk { on.disk } else { on.compute };
                let millis = end.millis().saturating_sub(from.millis()).max(0);
                let rate = price.of(component).0;
                priced |= rate != 0;
                if runs {
                    pico_millis += i128::from(rate) * i128::from(millis);
                }
            }
            if priced {
                let amount = Nanos(i64::try_from(rounded(pico_millis)).unwrap_or(i64::MAX));
                bill.parts.push((component, amount));
                bill.total += amount;
            }
        }
        bill
    }
}

/// Pico-dollars per hour times milliseconds, as nano-dollars.
fn rounded(pico_millis: i128) -> i128 {
    const PER_NANO: i128 = 3_600_000 * 1_000;
    let (whole, rest) = (pico_millis / PER_NANO, pico_millis % PER_NANO);
    let up = rest * 2 > PER_NANO || (rest * 2 == PER_NANO && whole % 2 == 1);
    whole + i128::from(up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::Rate;

    const fn at(ms: i64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn a_bill_is_exact_over_intervals_and_rounded_once() {
        let price = Price { gpu: Rate::parse("0.333333333333").unwrap(), disk: Rate::parse("0.01").unwrap(), ..Price::default() };
        let mut meter = Meter::default();
        meter.set(at(1_000), On { compute: false, disk: true }, price);
        meter.set(at(11_000), On { compute: true, disk: true }, price);
        meter.set(at(12_000), On { compute: false, disk: true }, price);
        meter.set(at(20_000), On { compute: true, disk: false }, price);
        meter.set(at(22_000), On::default(), price);
        let bill = meter.bill(at(99_000));
        // GPU for 3 s: 0.333333333333 × 3 / 3600 = 0.00027777777… ; disk for 19 s: 0.01 × 19 / 3600.
        assert_eq!(bill.parts, [(Component::Gpu, Nanos(277_778)), (Component::Disk, Nanos(52_778))]);
        assert_eq!(bill.total, Nanos(330_556));
        assert_eq!(meter.bill(at(1_000)).total, Nanos::ZERO);
    }

    #[test]
    fn halves_go_to_the_even_neighbour() {
        assert_eq!([1_800_000_000, 5_400_000_000, 5_400_000_001].map(rounded), [0, 2, 2]);
        assert_eq!(rounded(9_000_000_001), 3);
        assert_eq!(rounded(9_000_000_000), 2);
    }
}
