//! US dollars, exact to the nano-dollar.

use crate::error::Error;
use crate::pb;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Mul, Neg, Sub};
use std::str::FromStr;

const NANOS: i128 = 1_000_000_000;

/// An exact amount of US dollars, or a price in US dollars per hour.
///
/// Reads and writes plain decimals (`0.36`), so that it goes to and from any decimal type by its text. Amounts are counted in
/// nano-dollars; nothing is ever rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i128);

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many nano-dollars.
    #[must_use]
    pub const fn from_nanos(nanos: i128) -> Self {
        Self(nanos)
    }

    /// In nano-dollars.
    #[must_use]
    pub const fn nanos(self) -> i128 {
        self.0
    }
}

impl TryFrom<&pb::Money> for Usd {
    type Error = Error;

    /// Refuses another currency; all money of the service is in US dollars.
    fn try_from(money: &pb::Money) -> Result<Self, Error> {
        if !matches!(money.currency_code.as_str(), "" | "USD") {
            return Err(Error::Invalid(format!("{} is no currency of this service; allowed: USD", money.currency_code)));
        }
        Ok(Self(i128::from(money.units) * NANOS + i128::from(money.nanos)))
    }
}

impl TryFrom<pb::Money> for Usd {
    type Error = Error;

    fn try_from(money: pb::Money) -> Result<Self, Error> {
        Self::try_from(&money)
    }
}

impl TryFrom<Option<&pb::Money>> for Usd {
    type Error = Error;

    /// An absent amount is zero.
    fn try_from(money: Option<&pb::Money>) -> Result<Self, Error> {
        money.map_or(Ok(Self::ZERO), Self::try_from)
    }
}

impl TryFrom<Option<pb::Money>> for Usd {
    type Error = Error;

    /// An absent amount is zero.
    fn try_from(money: Option<pb::Money>) -> Result<Self, Error> {
        Self::try_from(money.as_ref())
    }
}

impl From<Usd> for pb::Money {
    /// Beyond what the wire can hold (2⁶³ dollars), the most that it can.
    fn from(amount: Usd) -> Self {
        let most = i128::from(i64::MAX) * NANOS + (NANOS - 1);
        let nanos = amount.0.clamp(-most, most);
        Self {
            currency_code: "USD".to_owned(),
            units: i64::try_from(nanos / NANOS).unwrap_or_default(),
            nanos: i32::try_from(nanos % NANOS).unwrap_or_default(),
        }
    }
}

impl FromStr for Usd {
    type Err = Error;

    /// Reads `0.36`, `-1.75`, `$12`; at most nine decimals.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong =
            || Error::Invalid(format!("`{text}` is no amount; allowed: US dollars as a decimal number with at most nine decimals, such as 0.36"));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let trimmed = text.trim();
        let (negative, rest) = trimmed.strip_prefix('-').map_or((false, trimmed), |rest| (true, rest));
        let rest = rest.strip_prefix('$').unwrap_or(rest);
        let (units, fraction) = rest.split_once('.').map_or((rest, "0"), |(units, fraction)| (units, fraction));
        if units.is_empty() || fraction.is_empty() || fraction.len() > 9 || !digits(units) || !digits(fraction) {
            return Err(wrong());
        }
        let units: i128 = units.parse().map_err(|_| wrong())?;
        let fraction: i128 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
        let nanos = units.checked_mul(NANOS).and_then(|n| n.checked_add(fraction)).ok_or_else(wrong)?;
        Ok(Self(if negative { -nanos } else { nanos }))
    }
}

impl fmt::Display for Usd {
    /// Plain digits, as few as say it exactly: `0.36`, `12`, `-1.75`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.unsigned_abs();
        let (units, fraction) = (size / NANOS.unsigned_abs(), size % NANOS.unsigned_abs());
        let fraction = format!("{fraction:09}");
        let fraction = fraction.trim_end_matches('0');
        let sign = if self.0 < 0 { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        f.pad(&format!("{sign}{units}{point}{fraction}"))
    }
}

impl Add for Usd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Usd {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Mul<i64> for Usd {
    type Output = Self;

    fn mul(self, count: i64) -> Self {
        Self(self.0 * i128::from(count))
    }
}

impl Neg for Usd {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_go_to_the_wire_and_back_without_loss() {
        for (text, units, nanos) in [
            ("0", 0, 0),
            ("0.36", 0, 360_000_000),
            ("12", 12, 0),
            ("-1.75", -1, -750_000_000),
            ("0.000000001", 0, 1),
            ("-0.000000001", 0, -1),
            ("9223372036854775807.999999999", i64::MAX, 999_999_999),
        ] {
            let amount: Usd = text.parse().unwrap();
            let money = pb::Money::from(amount);
            assert_eq!((money.units, money.nanos, money.currency_code.as_str()), (units, nanos, "USD"), "{text}");
            assert_eq!(Usd::try_from(&money).unwrap(), amount);
            assert_eq!(amount.to_string(), text);
        }
        assert_eq!(Usd::try_from(None::<&pb::Money>).unwrap(), Usd::ZERO);
    }

    #[test]
    fn what_is_no_exact_amount_is_refused() {
        for text in ["", ".", "1.", ".5", "0.0000000001", "1e3", "1,5", "--1", "1 2", "0.3.6", "NaN", &"9".repeat(40)] {
            assert!(text.parse::<Usd>().is_err(), "{text}");
        }
        let foreign = pb::Money { currency_code: "EUR".into(), units: 1, nanos: 0 };
        assert_eq!(Usd::try_from(foreign).unwrap_err().to_string(), "EUR is no currency of this service; allowed: USD");
        assert_eq!("$0.36".parse::<Usd>().unwrap(), Usd::from_nanos(360_000_000));
    }

    #[test]
    fn amounts_add_up_and_are_ordered() {
        let tenth: Usd = "0.1".parse().unwrap();
        assert_eq!([tenth; 3].into_iter().sum::<Usd>(), "0.3".parse().unwrap());
        assert!(tenth * 3 > tenth + tenth && -tenth < Usd::ZERO);
        assert_eq!((tenth - tenth).to_string(), "0");
        assert_eq!(format!("{tenth:>6}"), "   0.1");
    }
}
