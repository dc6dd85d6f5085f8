//! Ids: sessions, deployments, labels, offers, providers, consumers. Each is parsed once, at the door.

use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Why a text is not an id. The message is for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadId(pub String);

/// A session's id: a UUIDv7, written as 26 lower-case Crockford base-32 characters. Sorts by creation time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u128);

impl SessionId {
    /// A version 7 id from a time and 74 random bits.
    #[must_use]
    pub fn new(at: Time, random: u128) -> Self {
        let ms = u128::try_from(at.millis().max(0)).unwrap_or(0) & 0xffff_ffff_ffff;
        let rand_a = (random >> 62) & 0xfff;
        let rand_b = random & 0x3fff_ffff_ffff_ffff;
        Self(ms << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b)
    }

    /// A part of this time, evenly spread over sessions and always the same for one: so that not all do something at once.
    #[must_use]
    pub fn share(self, of: Duration) -> Duration {
        let random = u64::try_from(self.0 & 0x3fff_ffff_ffff_ffff).unwrap_or_default();
        let millis = u64::try_from(of.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(random % millis)
    }

    /// The time in it: when the session was created, to the millisecond.
    #[must_use]
    pub fn time(self) -> Time {
        Time::from_millis(i64::try_from(self.0 >> 80).unwrap_or(0))
    }

    /// The 128 bits.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 26];
        for (place, letter) in text.iter_mut().rev().enumerate() {
            *letter = ALPHABET[(self.0 >> (place * 5) & 31) as usize];
        }
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = BadId;

    /// Accepts the 26-character form (strictly lower case) and the UUID form.
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId(format!("`{}` is no session id: 26 characters of 0-9 a-z without i, l, o, u, or a UUID", clip(text, 64)));
        if text.len() == 36 {
            let mut bits = 0_u128;
            for (at, byte) in text.bytes().enumerate() {
                match (at, byte) {
                    (8 | 13 | 18 | 23, b'-') => {}
                    (8 | 13 | 18 | 23, _) => return Err(bad()),
                    _ => bits = bits << 4 | u128::from(char::from(byte).to_digit(16).ok_or_else(bad)?),
                }
            }
            return Ok(Self(bits));
        }
        if text.len() != 26 {
            return Err(bad());
        }
        let mut bits = 0_u128;
        for (at, byte) in text.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|c| *c == byte).ok_or_else(bad)?;
            if at == 0 && digit > 7 {
                return Err(bad());
            }
            bits = bits << 5 | u128::try_from(digit).unwrap_or(0);
        }
        Ok(Self(bits))
    }
}

impl Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A deployment's mark in labels: the first 40 bits of the SHA-256 of its id, 8 base-32 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag([u8; 8]);

impl Tag {
    /// From the first five bytes of the hash of the deployment id.
    #[must_use]
    pub fn from_hash(hash: [u8; 5]) -> Self {
        let bits = hash.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        let mut text = [0; 8];
        for (at, slot) in text.iter_mut().enumerate() {
            *slot = ALPHABET[usize::try_from(bits >> (35 - at * 5) & 31).unwrap_or(0)];
        }
        Self(text)
    }

    /// Parses a tag; `None` for anything that is not exactly one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 8] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|b| ALPHABET.contains(b)).then_some(Self(bytes))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{}", char::from(*b)))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The label (or name) of an instance at its vendor: `gs-<tag>-<session id>-<attempt>`. It alone proves whose an
/// instance is, so it is parsed whole; a label that merely begins like ours is not ours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// The deployment's tag.
    pub tag: Tag,
    /// The session.
    pub session: SessionId,
    /// The attempt, 1…99.
    pub attempt: u8,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gs-{}-{}-{}", self.tag, self.session, self.attempt)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Label {
    /// Parses a whole label; `None` for anything that is not exactly one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        if parts.next() != Some("gs") {
            return None;
        }
        let tag = Tag::parse(parts.next()?)?;
        let session = parts.next().filter(|s| s.len() == 26)?.parse().ok()?;
        let number = parts.next()?;
        let attempt: u8 = number.parse().ok()?;
        let canonical = (1..=99).contains(&attempt) && attempt.to_string() == number && parts.next().is_none();
        canonical.then_some(Self { tag, session, attempt })
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a text that was checked where it came in.
            #[must_use]
            pub fn new(text: &str) -> Self {
                Self(Arc::from(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether another copy of it is in use: copies share their text.
            #[must_use]
            pub fn is_shared(&self) -> bool {
                Arc::strong_count(&self.0) > 1
            }
        }

        /// Equal and in the same order as its text.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// A provider's name, as in the register: `vastai`, `tensordock`.
    ProviderId
}
text_id! {
    /// Who uses a session: free text of 1 to 128 characters, by default `default`.
    ConsumerId
}
text_id! {
    /// An offer's id: `<provider>-<rest>`. The rest is canonical and belongs to the provider; users treat it as opaque.
    OfferId
}
text_id! {
    /// What identifies the physical machine (or the place) behind an offer: failures are remembered by it.
    MachineId
}
text_id! {
    /// Who runs a machine, or the data centre it stands in, as far as a vendor tells: `vastai:host-123`,
    /// `tensordock:<location>`. What fails on one of its machines is weak evidence against the others.
    HostId
}

/// What the id of an offer by a bid ends with; the rest is that of the same slice of the same machine at a fixed price.
const BY_BID: &str = "-spot";

impl OfferId {
    /// What is taken when the offer is: an offer and its twin by a bid (`vastai-1`, `vastai-1-spot`) are one slice of one
    /// machine, and whoever has one has both. It is the id at a fixed price.
    #[must_use]
    pub fn slice(&self) -> Self {
        self.as_str().strip_suffix(BY_BID).map_or_else(|| self.clone(), Self::new)
    }

    /// The text of [`OfferId::slice`].
    #[must_use]
    pub fn slice_str(&self) -> &str {
        self.as_str().strip_suffix(BY_BID).unwrap_or(&self.0)
    }
}

impl ConsumerId {
    /// Checks length and characters.
    ///
    /// # Errors
    /// When it is empty, longer than 128 characters or has control characters.
    pub fn parse(text: &str) -> Result<Self, BadId> {
        if text.is_empty() || text.chars().count() > 128 || text.chars().any(char::is_control) {
            return Err(BadId(format!("`{}` is no consumer id: 1 to 128 characters, no control characters", clip(text, 64))));
        }
        Ok(Self::new(text))
    }
}

/// At most `max` characters of a text, control characters replaced: for repeating foreign text in messages.
#[must_use]
pub fn clip(text: &str, max: usize) -> String {
    let mut out: String = text.chars().take(max).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(max).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_have_two_forms_of_one_value() {
        let short: SessionId = "01kaphz700fay8vvr14d2pf2db".parse().unwrap();
        let long: SessionId = "019aad1f-9c00-7abc-8def-0123456789ab".parse().unwrap();
        assert_eq!(short, long);
        assert_eq!(long.to_string(), "01kaphz700fay8vvr14d2pf2db");
        for bad in ["", "01KAPHZ700FAY8VVR14D2PF2DB", "81kaphz700fay8vvr14d2pf2db", "01kaphz700fay8vvr14d2pf2di", "nope"] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn new_ids_are_version_7_and_sort_by_time() {
        let early = SessionId::new(Time::from_millis(1_000), u128::MAX);
        let late = SessionId::new(Time::from_millis(1_001), 0);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.bits() >> 76 & 0xf, 7);
        assert_eq!(early.bits() >> 62 & 3, 2);
    }

    #[test]
    fn labels_are_ours_only_when_whole() {
        let label = Label { tag: Tag::from_hash([1, 2, 3, 4, 5]), session: SessionId::new(Time::from_millis(5), 9), attempt: 12 };
        let text = label.to_string();
        assert!(text.len() <= 41);
        assert_eq!(Label::parse(&text), Some(label));
        for bad in
            [format!("{text}0"), format!("{text}-x"), format!("x{text}"), text.replace("-12", "-012"), text.replace("-12", "-0"), text.to_uppercase()]
        {
            assert_ne!(Label::parse(&bad), Some(label), "{bad}");
        }
    }
}
