//! Points in time: UTC milliseconds, and their text forms. Reads no clock (see `clock.rs`).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(i64);

impl Time {
    /// From milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The database form of `sessions`: UTC text as SQLite itself writes it, `2026-11-23 21:58:45.123`.
    #[must_use]
    pub fn sql(self) -> String {
        let c = Civil::of(self);
        if !(0..=9999).contains(&c.year) {
            return format!("{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03}", c.year, c.month, c.day, c.hour, c.minute, c.second, c.milli);
        }
        let mut text = String::with_capacity(24);
        let parts =
            [(c.year, 4, '-'), (c.month, 2, '-'), (c.day, 2, ' '), (c.hour, 2, ':'), (c.minute, 2, ':'), (c.second, 2, '.'), (c.milli, 3, '\0')];
        for (number, digits, after) in parts {
            for place in (0..digits).rev() {
                text.push(char::from(b'0' + (number / 10_i64.pow(place) % 10) as u8));
            }
            text.extend(Some(after).filter(|after| *after != '\0'));
        }
        text
    }

    /// RFC 3339 in UTC with milliseconds.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let mut text = self.sql();
        text.replace_range(10..11, "T");
        text.push('Z');
        text
    }

    /// Reads the form that [`Time::sql`] writes (the fraction may be missing); `None` for anything else.
    #[must_use]
    pub fn from_sql(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() < 19 || bytes[4] != b'-' || bytes[7] != b'-' || bytes[13] != b':' || bytes[16] != b':' {
            return None;
        }
        let int = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
        let milli = match text.get(20..) {
            Some(frac) if !frac.is_empty() => frac.get(..3)?.parse::<i64>().ok()?,
            _ => 0,
        };
        let days = days_from_civil(int(0..4)?, int(5..7)?, int(8..10)?);
        Some(Self((((days * 24 + int(11..13)?) * 60 + int(14..16)?) * 60 + int(17..19)?) * 1000 + milli))
    }

    /// The UTC day as `2026-11-23`.
    #[must_use]
    pub fn day(self) -> String {
        self.sql()[..10].to_owned()
    }

    /// The UTC month as `2026-11`.
    #[must_use]
    pub fn month(self) -> String {
        self.sql()[..7].to_owned()
    }

    /// Midnight UTC of the day after the one this moment lies in.
    #[must_use]
    pub fn next_midnight(self) -> Self {
        Self((self.0.div_euclid(86_400_000) + 1) * 86_400_000)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// When something was looked at: true at some instant between sending the question and having the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// When the question was sent.
    pub sent: Time,
    /// When the answer was complete.
    pub answered: Time,
}

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    milli: i64,
}

impl Civil {
    fn of(time: Time) -> Self {
        let days = time.0.div_euclid(86_400_000);
        let ms = time.0.rem_euclid(86_400_000);
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        Self {
            year: yoe + era * 400 + i64::from(month <= 2),
            month,
            day: doy - (153 * mp + 2) / 5 + 1,
            hour: ms / 3_600_000,
            minute: ms / 60_000 % 60,
            second: ms / 1000 % 60,
            milli: ms % 1000,
        }
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_round_trip() {
        for ms in [0, 951_782_400_000, 1_764_000_000_123, 4_102_444_799_999] {
            let t = Time::from_millis(ms);
            assert_eq!(Time::from_sql(&t.sql()), Some(t), "{}", t.sql());
        }
        assert_eq!(Time::from_millis(1_795_471_125_123).sql(), "2026-11-23 21:58:45.123");
        assert_eq!(Time::from_millis(1_795_471_125_123).rfc3339(), "2026-11-23T21:58:45.123Z");
        assert_eq!(Time::from_millis(951_782_400_007).sql(), "2000-02-29 00:00:00.007");
        assert_eq!(Time::from_millis(300_000_000_000_000).sql(), "11476-08-15 05:20:00.000");
        assert_eq!(Time::from_sql("yesterday"), None);
    }
}
