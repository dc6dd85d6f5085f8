//! Who may do what: the roles of tokens, what a call needs, how a token is named and presented, and how fast one
//! caller may ask. Pure; which call needs what is said where the calls are known.

use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The shortest token that may be configured, characters.
pub const SHORTEST_TOKEN: usize = 24;
/// The longest token that is looked at, characters.
pub const LONGEST_TOKEN: usize = 512;
/// The longest name of a token, characters.
const LONGEST_NAME: usize = 64;

/// What the bearer of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Rent, use and end sessions, and look at them.
    Consumer,
    /// Look.
    ReadOnly,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Consumer, Self::ReadOnly];

    /// In one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Consumer => "consumer",
            Self::ReadOnly => "read-only",
        }
    }

    /// The role of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a call needs. Within that, a token with a consumer scope sees and touches only what is its consumer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// Nothing: everybody may, and learns nothing secret.
    Nothing,
    /// Any token.
    Token,
    /// To see the whole: admin, or read-only without a consumer scope.
    Overview,
    /// To rent and end: admin or consumer.
    Consumer,
    /// Admin.
    Admin,
}

impl Need {
    /// Whether a token of this role, with or without a consumer scope, is enough.
    #[must_use]
    pub const fn met_by(self, role: Role, scoped: bool) -> bool {
        match (self, role) {
            (_, Role::Admin) | (Self::Nothing | Self::Token, _) | (Self::Consumer, Role::Consumer) => true,
            (Self::Overview, Role::ReadOnly) => !scoped,
            (Self::Overview | Self::Admin, Role::Consumer) | (Self::Consumer | Self::Admin, Role::ReadOnly) => false,
        }
    }

    /// Who is meant, to end a sentence that begins with "this call needs".
    #[must_use]
    pub const fn who(self) -> &'static str {
        match self {
            Self::Nothing => "no token",
            Self::Token => "any token",
            Self::Overview => "an admin's token, or a read-only one without a consumer",
            Self::Consumer => "a consumer's or an admin's token",
            Self::Admin => "an admin's token",
        }
    }
}

/// Whether this can be a token's name: 1 to 64 characters of `[a-z0-9._-]`, the first a letter or a digit.
#[must_use]
pub fn is_token_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= LONGEST_NAME && text.bytes().next().is_some_and(plain) && text.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'))
}

/// The token in an `Authorization` header: `Bearer`, in any case, and then 1 to 512 visible ASCII characters.
#[must_use]
pub fn bearer(header: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(header).ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    let token = rest.trim_matches(' ');
    let good = (1..=LONGEST_TOKEN).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && good).then_some(token)
}

/// How fast one caller may ask: so many requests per second, and as many at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Until when what was asked would take at that speed, microseconds.
    until: i64,
}

impl Pace {
    /// Takes one request, or says after which wait to ask again. `per_second` = 0: no limit.
    ///
    /// # Errors
    /// The wait.
    pub fn take(&mut self, per_second: u32, now: Time) -> Result<(), Duration> {
        const SECOND: i64 = 1_000_000;
        if per_second == 0 {
            return Ok(());
        }
        let now = now.millis().saturating_mul(1000);
        let step = (SECOND / i64::from(per_second)).max(1);
        // No more than a second's worth is ever owed: also when the clock was set back meanwhile.
        self.until = self.until.clamp(now, now.saturating_add(SECOND));
        let until = self.until.saturating_add(step);
        let late = until.saturating_sub(now).saturating_sub(SECOND);
        if late > 0 {
            return Err(Duration::from_micros(late.unsigned_abs()));
        }
        self.until = until;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_each_role_may() {
        let may = |need: Need| {
            let of = |role| [need.met_by(role, false), need.met_by(role, true)];
            [of(Role::Admin), of(Role::Consumer), of(Role::ReadOnly)]
        };
        assert_eq!(may(Need::Nothing), [[true; 2]; 3]);
        assert_eq!(may(Need::Token), [[true; 2]; 3]);
        assert_eq!(may(Need::Overview), [[true; 2], [false; 2], [true, false]]);
        assert_eq!(may(Need::Consumer), [[true; 2], [true; 2], [false; 2]]);
        assert_eq!(may(Need::Admin), [[true; 2], [false; 2], [false; 2]]);
    }

    #[test]
    fn names_words_and_headers() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.word()), Some(role));
        }
        for good in ["ci", "a", "9", "team-a.prod_1", &"x".repeat(64)] {
            assert!(is_token_name(good), "{good}");
        }
        for bad in ["", "-a", ".a", "A", "a b", "ä", "a\n", &"x".repeat(65)] {
            assert!(!is_token_name(bad), "{bad}");
        }
        assert_eq!(bearer(b"Bearer abc"), Some("abc"));
        assert_eq!(bearer(b"bEARER   abc "), Some("abc"));
        for bad in [&b"Bearer"[..], b"Bearer ", b"Basic abc", b"Bearer a b", b"abc", b"", b"Bearer a\xff", b"Bearer\tabc"] {
            assert_eq!(bearer(bad), None, "{bad:?}");
        }
        assert_eq!(bearer(format!("Bearer {}", "x".repeat(513)).as_bytes()), None);
    }

    #[test]
    fn a_pace_lets_a_second_s_worth_through_at_once_and_then_one_by_one() {
        let (mut pace, begin) = (Pace::default(), Time::from_millis(1_795_000_000_000));
        for n in 0..5 {
            assert_eq!(pace.take(5, begin), Ok(()), "{n}");
        }
        assert_eq!(pace.take(5, begin), Err(Duration::from_millis(200)));
        assert_eq!(pace.take(5, begin + Duration::from_millis(200)), Ok(()));
        assert_eq!(pace.take(5, begin + Duration::from_millis(200)), Err(Duration::from_millis(200)));
        // A clock that was set back by a day locks nobody out for a day.
        let back = Time::from_millis(begin.millis() - 86_400_000);
        assert!(pace.take(5, back).unwrap_err() <= Duration::from_millis(200));
        assert_eq!(pace.take(5, back + Duration::from_secs(1)), Ok(()));
        assert_eq!(pace.take(0, begin), Ok(()));
    }

    proptest! {
        #[test]
        fn no_header_and_no_name_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700), text in "\\PC{0,80}") {
            if let Some(token) = bearer(&bytes) {
                prop_assert!(token.len() <= LONGEST_TOKEN && token.bytes().all(|b| b.is_ascii_graphic()));
            }
            prop_assert!(!is_token_name(&text) || text.len() <= 64);
        }

        #[test]
        fn nobody_is_faster_than_allowed(per_second in 1_u32..2000, waits in proptest::collection::vec(0_u64..200, 1..400)) {
            let (mut pace, begin) = (Pace::default(), Time::from_millis(1_795_000_000_000));
            let (mut now, mut taken) = (begin, 0_u64);
            for wait in waits {
                now = now + Duration::from_millis(wait);
                if pace.take(per_second, now).is_ok() {
                    taken += 1;
                }
            }
            let most = u64::from(per_second) + (now.since(begin).as_micros() as u64).div_ceil(1_000_000 / u64::from(per_second));
            prop_assert!(taken <= most, "{taken} of {most}");
        }
    }
}
