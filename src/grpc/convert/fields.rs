//! Checks of single values of a request. Every check that fails leaves a violation and a stand-in value, so that one look
//! at a request finds everything that is wrong with it; the stand-ins never leave [`Fields::done`].

use super::words::Word;
use crate::domain::ids::{ConsumerId, Label, ProviderId, SessionId, Tag, clip};
use crate::domain::money::{Nanos, Rate};
use crate::domain::time::Time;
use crate::grpc::pb::Money;
use crate::services::templates;
use crate::services::tokens::PageOf;
use crate::services::{Error, Violation, api};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

/// No price or cost limit above a million dollars: who writes one has slipped.
const MOST_MONEY: Nanos = Nanos(1_000_000 * 1_000_000_000);
/// Labels of one session.
pub const MOST_LABELS: usize = 64;
/// Characters of a label's value.
pub const LONGEST_LABEL_VALUE: usize = 256;
/// Variables of one machine's environment.
pub const MOST_ENV: usize = 128;
/// Bytes of a variable's value.
pub const LONGEST_ENV_VALUE: usize = 4096;
/// Entries of a list in a filter.
pub const MOST_LISTED: usize = 100;
/// Characters of a foreign text repeated in a violation.
const QUOTED: usize = 64;

/// The violations of one request, collected.
#[derive(Debug, Default)]
pub struct Fields {
    violations: Vec<Violation>,
}

impl Fields {
    /// Notes that a field is wrong, and how.
    pub fn wrong(&mut self, field: &str, description: impl Into<String>) {
        self.violations.push(Violation { field: field.to_owned(), description: description.into() });
    }

    /// Takes over violations that were found elsewhere.
    pub fn add(&mut self, others: &mut Vec<Violation>) {
        self.violations.append(others);
    }

    /// Whether nothing is wrong so far.
    #[must_use]
    pub fn good(&self) -> bool {
        self.violations.is_empty()
    }

    /// The value, when nothing was wrong.
    ///
    /// # Errors
    /// INVALID_ARGUMENT `INVALID_FIELD` with every violation.
    pub fn done<T>(self, value: T) -> Result<T, Error> {
        if self.violations.is_empty() { Ok(value) } else { Err(Error::fields(self.violations)) }
    }

    /// A value of an enum; `None` when it is not said.
    pub fn word<T: Word>(&mut self, field: &str, number: i32) -> Option<T> {
        match T::Wire::try_from(number) {
            Ok(wire) => T::read(wire),
            Err(_) => {
                self.wrong(field, format!("{number} is no {}; allowed: {}", T::NAME, T::allowed().join(", ")));
                None
            }
        }
    }

    /// A value of an enum that must be said; `stand_in` when it is not.
    pub fn required_word<T: Word>(&mut self, field: &str, number: i32, stand_in: T) -> T {
        if number == 0 {
            self.wrong(field, format!("required; allowed: {}", T::allowed().join(", ")));
        }
        self.word(field, number).unwrap_or(stand_in)
    }

    /// Values of an enum in a list, where "not said" is as wrong as an unknown number.
    pub fn words<T: Word>(&mut self, field: &str, numbers: &[i32]) -> Vec<T> {
        let mut found = Vec::new();
        for number in numbers {
            match T::Wire::try_from(*number).ok().and_then(T::read) {
                Some(value) => found.push(value),
                None => self.wrong(field, format!("{number} is no {}; allowed: {}", T::NAME, T::allowed().join(", "))),
            }
        }
        found
    }

    /// A whole number in a range.
    pub fn whole(&mut self, field: &str, value: Option<i32>, range: RangeInclusive<u32>) -> Option<u32> {
        let value = value?;
        match u32::try_from(value) {
            Ok(fine) if range.contains(&fine) => Some(fine),
            _ => {
                self.outside(field, value, range.start(), range.end());
                None
            }
        }
    }

    /// A share, 0 to 1.
    pub fn share(&mut self, field: &str, value: Option<f64>) -> Option<f64> {
        let value = value?;
        if (0.0..=1.0).contains(&value) {
            return Some(value);
        }
        self.outside(field, value, 0, 1);
        None
    }

    fn outside(&mut self, field: &str, value: impl Display, least: impl Display, most: impl Display) {
        self.wrong(field, format!("{value} is out of range; allowed: {least} to {most}"));
    }

    /// A page's size: 0 means the default, more than the most means the most.
    pub fn page_size(&mut self, value: i32) -> u32 {
        u32::try_from(value).map(|v| v.min(1000)).unwrap_or_else(|_| {
            self.outside("page_size", value, 0, 1000);
            0
        })
    }

    /// Where to go on: a token of this list, by its form; empty = from the start.
    pub fn page_token(&mut self, list: PageOf, token: &str) {
        if !token.is_empty() && !list.has_form(token) {
            self.wrong("page_token", format!("`{}` is no token of this list: pass next_page_token as it came", clip(token, QUOTED)));
        }
    }

    /// Where a watch goes on: a token of a watch, by its form; empty = from the start.
    pub fn resume_token(&mut self, token: &str) {
        if !token.is_empty() && !PageOf::Events.has_form(token) {
            self.wrong("resume_token", format!("`{}` is no token of ours: pass resume_token as it came", clip(token, QUOTED)));
        }
    }

    /// A template's hash, by its form.
    pub fn template(&mut self, field: &str, hash: &str) {
        if let Some(rule) = templates::hash_fault(hash) {
            self.wrong(field, rule);
        }
    }

    /// An amount of memory in MiB. Its unit is said with every number, since other faces have it in GB.
    pub fn mebibytes(&mut self, field: &str, value: Option<i32>, range: RangeInclusive<u32>) -> Option<u32> {
        let value = value?;
        let found = u32::try_from(value).ok().filter(|mib| range.contains(mib));
        if found.is_none() {
            self.wrong(field, format!("{value} MiB is out of range; allowed: {} MiB to {} MiB", range.start(), range.end()));
        }
        found
    }

    /// A price or cost limit in US dollars, above 0.
    pub fn money(&mut self, field: &str, value: Option<&Money>) -> Option<Nanos> {
        let money = value?;
        if !matches!(money.currency_code.as_str(), "" | "USD") {
            self.wrong(&format!("{field}.currency_code"), format!("`{}`; allowed: `USD` or empty", clip(&money.currency_code, QUOTED)));
            return None;
        }
        let (units, nanos) = (money.units, money.nanos);
        let Some(amount) = Nanos::from_parts(units, nanos) else {
            let rule = if units.unsigned_abs() > 9_000_000_000 {
                "too much; allowed: above 0, at most 1000000 dollars"
            } else {
                "allowed: nanos from -999999999 to 999999999, of the same sign as units"
            };
            self.wrong(field, format!("units {units} and nanos {nanos}: {rule}"));
            return None;
        };
        if amount <= Nanos::ZERO || amount > MOST_MONEY {
            self.wrong(field, format!("{amount}; allowed: above 0, at most 1000000 dollars (absent = no limit)"));
            return None;
        }
        Some(amount)
    }

    /// The same per hour.
    pub fn rate(&mut self, field: &str, value: Option<&Money>) -> Option<Rate> {
        self.money(field, value).map(|n| Rate::from_nanos(n.0))
    }

    /// A duration in a range. A finer part than milliseconds is kept.
    pub fn duration(&mut self, field: &str, value: Option<&prost_types::Duration>, range: RangeInclusive<Duration>) -> Option<Duration> {
        let (least, most) = (seconds(*range.start()), seconds(*range.end()));
        let found = self.well_formed(field, value, &format!("{least} to {most}"))?;
        if range.contains(&found) {
            return Some(found);
        }
        self.outside(field, seconds(found), least, most);
        None
    }

    /// A duration that is not negative and well formed; `allowed` is the rule for the one that is not.
    pub fn well_formed(&mut self, field: &str, value: Option<&prost_types::Duration>, allowed: &str) -> Option<Duration> {
        let value = value?;
        match (u64::try_from(value.seconds), u32::try_from(value.nanos)) {
            (Ok(whole), Ok(nanos)) if nanos < 1_000_000_000 && whole <= 315_576_000_000 => Some(Duration::new(whole, nanos)),
            _ => {
                self.wrong(field, format!("seconds {} and nanos {}; allowed: {}", value.seconds, value.nanos, allowed));
                None
            }
        }
    }

    /// A point in time, to the millisecond (finer parts are cut off).
    pub fn time(&mut self, field: &str, value: Option<&prost_types::Timestamp>) -> Option<Time> {
        let value = value?;
        // The years 0001 to 9999, as the type itself promises.
        if !(-62_135_596_800..=253_402_300_799).contains(&value.seconds) || !(0..1_000_000_000).contains(&value.nanos) {
            self.wrong(field, format!("seconds {} and nanos {}; allowed: a time in the years 0001 to 9999", value.seconds, value.nanos));
            return None;
        }
        Some(Time::from_millis(value.seconds * 1000 + i64::from(value.nanos / 1_000_000)))
    }

    /// A session's id.
    pub fn session_id(&mut self, field: &str, text: &str) -> SessionId {
        text.parse().unwrap_or_else(|_| {
            self.wrong(field, required(text, "26 characters of 0-9 a-z without i, l, o, u, or a UUID"));
            SessionId::new(Time::default(), 0)
        })
    }

    /// A machine's label, whole.
    pub fn instance_label(&mut self, field: &str, text: &str) -> Label {
        Label::parse(text).unwrap_or_else(|| {
            self.wrong(field, required(text, "a whole label as in ListUnconfirmedDestroys: `gs-<deployment>-<session>-<attempt>`"));
            Label { tag: Tag::from_hash([0; 5]), session: SessionId::new(Time::default(), 0), attempt: 1 }
        })
    }

    /// A consumer, when one is named.
    pub fn consumer(&mut self, field: &str, text: Option<&str>) -> Option<ConsumerId> {
        let text = text?;
        match ConsumerId::parse(text) {
            Ok(id) => Some(id),
            Err(_) => {
                self.wrong(field, format!("`{}`; allowed: 1 to 128 characters, no control characters", clip(text, QUOTED)));
                None
            }
        }
    }

    /// A provider, when one is named; it must be one of those known.
    pub fn provider(&mut self, field: &str, text: Option<&str>, known: &[ProviderId]) -> Option<ProviderId> {
        let text = text?;
        let found = known.iter().find(|p| p.as_str() == text).cloned();
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(ProviderId::as_str).collect();
            self.wrong(field, format!("`{}` is no provider here; allowed: {}", clip(text, QUOTED), names.join(", ")));
        }
        found
    }

    /// A text of a certain length, counted in characters, without control characters.
    pub fn text(&mut self, field: &str, text: &str, length: RangeInclusive<usize>) {
        if !length.contains(&text.chars().count()) || text.chars().any(char::is_control) {
            self.wrong(field, format!("`{}`; allowed: {} to {} characters, no control characters", clip(text, QUOTED), length.start(), length.end()));
        }
    }

    /// A text that must be there, at most so many characters, without control characters.
    pub fn given(&mut self, field: &str, text: &str, most: usize) {
        if text.trim().is_empty() {
            self.wrong(field, format!("required; 1 to {most} characters"));
        } else {
            self.text(field, text, 1..=most);
        }
    }

    /// The entries of a list: not too many, each of a certain length.
    pub fn list(&mut self, field: &str, entries: &[String], length: RangeInclusive<usize>) {
        if entries.len() > MOST_LISTED {
            self.wrong(field, format!("{} entries; allowed: at most {MOST_LISTED}", entries.len()));
        }
        for entry in entries.iter().take(MOST_LISTED) {
            self.text(field, entry, length.clone());
        }
    }

    /// Labels: their number, keys and values.
    pub fn labels(&mut self, field: &str, labels: &BTreeMap<String, String>) {
        if labels.len() > MOST_LABELS {
            self.wrong(field, format!("{} labels; allowed: at most {MOST_LABELS}", labels.len()));
        }
        for (key, value) in labels.iter().take(MOST_LABELS) {
            if !is_label_key(key) {
                self.wrong(field, format!("key `{}`; {LABEL_KEY_RULE}", clip(key, QUOTED)));
            } else {
                self.text(&format!("{field}.{key}"), value, 0..=LONGEST_LABEL_VALUE);
            }
        }
    }

    /// A machine's environment. Values may be secrets and are not repeated.
    pub fn env(&mut self, field: &str, env: &BTreeMap<String, String>) {
        if env.len() > MOST_ENV {
            self.wrong(field, format!("{} variables; allowed: at most {MOST_ENV}", env.len()));
        }
        for (name, value) in env.iter().take(MOST_ENV) {
            let head = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
            if !head || name.len() > 128 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                let rule = "allowed: letters, digits and `_`, not beginning with a digit, at most 128 characters";
                self.wrong(field, format!("name `{}`; {rule}", clip(name, QUOTED)));
            } else if value.len() > LONGEST_ENV_VALUE || value.chars().any(|c| c == '\0' || c == '\n' || c == '\r') {
                let rule = format!("allowed: at most {LONGEST_ENV_VALUE} bytes, no line breaks");
                self.wrong(&format!("{field}.{name}"), format!("a value of {} bytes; {rule}", value.len()));
            }
        }
    }

    /// A caller's name for its request; `None` when it has none.
    pub fn idempotency(&mut self, request_id: &str, hash: String) -> Option<api::Idempotency> {
        if request_id.is_empty() {
            return None;
        }
        if request_id.len() > 128 || !request_id.bytes().all(|b| b.is_ascii_graphic()) {
            self.wrong("request_id", format!("`{}`; allowed: 1 to 128 visible ASCII characters", clip(request_id, QUOTED)));
        }
        Some(api::Idempotency { request_id: request_id.to_owned(), hash })
    }

    /// A CUDA version as major × 100 + minor.
    pub fn cuda(&mut self, field: &str, text: Option<&str>) -> Option<u32> {
        let text = text?;
        let number = |part: &str, most: u32| {
            let short = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            part.parse::<u32>().ok().filter(|n| short && *n <= most)
        };
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        match (number(major, 99), number(minor, 99)) {
            (Some(major), Some(minor)) => Some(major * 100 + minor),
            _ => {
                self.wrong(field, format!("`{}`; allowed: `major.minor`, such as `12.4`", clip(text, QUOTED)));
                None
            }
        }
    }
}

const LABEL_KEY_RULE: &str = "allowed: 1 to 63 letters, digits and `._/-`, beginning with a letter or digit";

/// Whether a text may be a label's key.
#[must_use]
pub fn is_label_key(key: &str) -> bool {
    let head = key.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    head && key.len() <= 63 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b))
}

/// What is wrong with an id: it is missing, or it is none.
pub(super) fn required(text: &str, allowed: &str) -> String {
    if text.is_empty() { format!("required; {allowed}") } else { format!("`{}`; allowed: {allowed}", clip(text, QUOTED)) }
}

/// A duration as it is written on the wire: `90s`, `1.5s`.
pub(super) fn seconds(duration: Duration) -> String {
    let fraction = format!("{:09}", duration.subsec_nanos());
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{}{dot}{fraction}s", duration.as_secs())
}
