//! Money: integer nano-dollars and integer pico-dollars per hour. No float anywhere.
//!
//! Vendors' decimals are read as text ([`Rate::parse`]); one rounding rule (half to even) is used once, where an
//! amount is drawn from a rate and a time ([`Rate::accrued`]).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

const PICOS_PER_DOLLAR: i128 = 1_000_000_000_000;
const NANOS_PER_DOLLAR: i64 = 1_000_000_000;

/// An amount in nano-dollars (1e-9 USD).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub i64);

/// A rate in pico-dollars per hour (1e-12 USD/h): fine enough for a disk's hourly share of a monthly price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(pub i64);

impl Nanos {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The decimal text of the amount in dollars without trailing zeros: `0.36`, `0.246666667`.
    #[must_use]
    pub fn decimal(self) -> String {
        decimal(i128::from(self.0), 9)
    }

    /// Whole dollars and the rest in nanos, both of one sign, as `google.type.Money` wants them.
    #[must_use]
    pub fn parts(self) -> (i64, i32) {
        (self.0 / NANOS_PER_DOLLAR, i32::try_from(self.0 % NANOS_PER_DOLLAR).unwrap_or(0))
    }

    /// From whole dollars and nanos; `None` when the signs differ, nanos are out of range or it does not fit.
    #[must_use]
    pub fn from_parts(units: i64, nanos: i32) -> Option<Self> {
        let nanos = i64::from(nanos);
        if nanos.abs() >= NANOS_PER_DOLLAR || (units > 0 && nanos < 0) || (units < 0 && nanos > 0) {
            return None;
        }
        units.checked_mul(NANOS_PER_DOLLAR)?.checked_add(nanos).map(Self)
    }
}

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.decimal())
    }
}

impl Add for Nanos {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Nanos {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Nanos {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Nanos {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl Rate {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Reads a decimal number of dollars per hour, with optional sign and exponent, exactly up to 1e-12 and
    /// rounded half to even beyond. `None` when it is no number or does not fit.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        i64::try_from(scaled(text, 12)?).ok().map(Self)
    }

    /// A rate from nano-dollars per hour.
    #[must_use]
    pub fn from_nanos(nanos: i64) -> Self {
        Self(nanos.saturating_mul(1000))
    }

    /// Rounded half to even to nano-dollars per hour, for places that carry no picos.
    #[must_use]
    pub fn nanos(self) -> Nanos {
        Nanos(clamp(div_half_even(i128::from(self.0), 1000)))
    }

    /// What this rate amounts to over `millis` milliseconds: `round_half_even(rate × ms / 3 600 000 / 1000)`.
    #[must_use]
    pub fn accrued(self, millis: i64) -> Nanos {
        Nanos(clamp(div_half_even(i128::from(self.0) * i128::from(millis), 3_600_000_000)))
    }

    /// This rate times `count`.
    #[must_use]
    pub fn times(self, count: u32) -> Self {
        Self(self.0.saturating_mul(i64::from(count)))
    }

    /// This rate times `num / den`, rounded half to even.
    #[must_use]
    pub fn scaled(self, num: i64, den: i64) -> Self {
        Self(clamp(div_half_even(i128::from(self.0) * i128::from(num), i128::from(den.max(1)))))
    }

    /// The decimal text in dollars per hour without trailing zeros.
    #[must_use]
    pub fn decimal(self) -> String {
        decimal(i128::from(self.0), 12)
    }
}

impl fmt::Display for Rate {
    /// `$0.2467/h`: at most four decimals, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = div_half_even(i128::from(self.0), PICOS_PER_DOLLAR / 10_000);
        write!(f, "${}/h", decimal(rounded, 4))
    }
}

impl Add for Rate {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Rate {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Rate {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

/// Reads a decimal text as an integer of `digits` decimals (`"0.36"`, 9 → 360 000 000), rounding half to even.
#[must_use]
pub fn scaled(text: &str, digits: u32) -> Option<i128> {
    let text = text.trim();
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], rest[at + 1..].parse::<i32>().ok()?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if (whole.is_empty() && fraction.is_empty()) || whole.len() + fraction.len() > 400 || exponent.abs() > 400 {
        return None;
    }
    let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if !all.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // value = all × 10^(exponent − fraction.len()); wanted: all × 10^shift
    let shift = i64::from(exponent) - i64::try_from(fraction.len()).ok()? + i64::from(digits);
    let mut value: i128 = 0;
    let keep = i64::try_from(all.len()).ok()? + shift.min(0);
    for (position, digit) in all.iter().enumerate() {
        if i64::try_from(position).ok()? < keep {
            value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
        }
    }
    if shift >= 0 {
        value = if value == 0 { 0 } else { value.checked_mul(10_i128.checked_pow(u32::try_from(shift).ok()?)?)? };
    } else if keep >= 0 {
        let dropped = &all[usize::try_from(keep).ok()?..];
        let half = dropped.first().map_or(std::cmp::Ordering::Less, |first| first.cmp(&b'5'));
        let beyond = dropped.iter().skip(1).any(|d| *d != b'0');
        if half.is_gt() || (half.is_eq() && (beyond || value % 2 == 1)) {
            value += 1;
        }
    }
    Some(if negative { -value } else { value })
}

fn decimal(value: i128, digits: usize) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let scale = 10_u128.pow(u32::try_from(digits).unwrap_or(0));
    let magnitude = value.unsigned_abs();
    let fraction = format!("{:0digits$}", magnitude % scale);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{dot}{fraction}", magnitude / scale)
}

fn div_half_even(value: i128, by: i128) -> i128 {
    let (quotient, rest) = (value.div_euclid(by), value.rem_euclid(by));
    match (rest * 2).cmp(&by) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + quotient.rem_euclid(2),
    }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly() {
        assert_eq!(Rate::parse("0.24666666666666665"), Some(Rate(246_666_666_667)));
        assert_eq!(Rate::parse("9.25925925925926e-06"), Some(Rate(9_259_259)));
        assert_eq!(Rate::parse("1.5E1"), Some(Rate(15_000_000_000_000)));
        assert_eq!(Rate::parse("-0.0000000000005"), Some(Rate(0)));
        assert_eq!(Rate::parse("0.0000000000015"), Some(Rate(2)));
        assert_eq!(Rate::parse("0.0000000000025"), Some(Rate(2)));
        assert_eq!(Rate::parse("1e-300"), Some(Rate(0)));
        for bad in ["", "-", "NaN", "1e999", "0x10", "1,5", "9999999999999999999"] {
            assert_eq!(Rate::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn accrual_is_per_millisecond_and_adds_up() {
        let rate = Rate::parse("0.60").unwrap();
        assert_eq!(rate.accrued(61_000).decimal(), "0.010166667");
        assert_eq!(Rate::parse("1").unwrap().accrued(120_000).decimal(), "0.033333333");
        let whole = rate.accrued(7_654_321);
        let parts: Nanos = [0, 1_000, 999_999, 7_000_000, 7_654_321].windows(2).map(|w| rate.accrued(w[1]) - rate.accrued(w[0])).sum();
        assert_eq!(parts, whole);
    }

    #[test]
    fn text_for_people_and_machines() {
        assert_eq!(Nanos(360_000_000).decimal(), "0.36");
        assert_eq!(Nanos(-1).decimal(), "-0.000000001");
        assert_eq!(Rate::parse("0.24667").unwrap().to_string(), "$0.2467/h");
        assert_eq!(Nanos::from_parts(1, -1), None);
        assert_eq!(Nanos::from_parts(0, 360_000_000), Some(Nanos(360_000_000)));
    }
}
