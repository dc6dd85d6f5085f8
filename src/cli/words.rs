//! The server's values as words for people: enum values, times, spans, amounts.

use crate::cli::failure::clean;
use crate::domain::money::Nanos;
use crate::domain::time::Time;
use crate::grpc::pb;
use prost_types::{Duration as Span, Timestamp};
use std::time::Duration;

/// What stands where there is nothing to tell.
pub const NOTHING: &str = "-";

/// `STATE_RUNNING` without `STATE_`, in lower case.
#[must_use]
pub fn lower(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

macro_rules! enum_words {
    ($($(#[$doc:meta])* $name:ident: $kind:ty, $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(number: i32) -> String {
            match <$kind>::try_from(number) {
                _ if number == 0 => NOTHING.to_owned(),
                Ok(value) => lower(value.as_str_name(), $prefix),
                Err(_) => number.to_string(),
            }
        }
    )*};
}

enum_words! {
    /// `running`.
    state: pb::session::State, "STATE_";
    /// `image_pulling`.
    stage: pb::Stage, "STAGE_";
    /// `expired`.
    end_reason: pb::EndReason, "END_REASON_";
    /// `state_changed`.
    event: pb::session_event::Type, "TYPE_";
    /// `stage_timeout`.
    attempt_failure: pb::AttemptFailure, "ATTEMPT_FAILURE_";
    /// `on_demand`.
    rental: pb::RentalKind, "RENTAL_KIND_";
    /// `ssh_reachable`.
    condition: pb::condition::Type, "TYPE_";
    /// `true`, `false` or `unknown`.
    condition_status: pb::condition::Status, "STATUS_";
    /// `closed`.
    breaker: pb::provider_status::Breaker, "BREAKER_";
    /// `gpu`.
    component: pb::CostComponent, "COST_COMPONENT_";
    /// `running`.
    instance_status: pb::instance::Status, "STATUS_";
    /// `accepted`.
    launch: pb::instance::Launch, "LAUNCH_";
    /// `gone`.
    desired: pb::instance::Desired, "DESIRED_";
    /// `not_found_twice`.
    evidence: pb::instance::Evidence, "EVIDENCE_";
    /// `orphan`.
    stray: pb::stray_instance::Kind, "KIND_";
    /// `launches`.
    hold: pb::HoldKind, "HOLD_KIND_";
    /// `training`.
    workload: pb::WorkloadType, "WORKLOAD_TYPE_";
}

/// `read-only`, as it is given on the command line.
#[must_use]
pub fn token_role(number: i32) -> String {
    pb::TokenRole::try_from(number).map_or_else(|_| number.to_string(), |role| lower(role.as_str_name(), "TOKEN_ROLE_").replace('_', "-"))
}

/// The text, cleaned of control characters, or the sign for nothing.
#[must_use]
pub fn text(value: &str) -> String {
    if value.is_empty() { NOTHING.to_owned() } else { clean(value) }
}

/// A moment from seconds and nanoseconds since the epoch.
#[must_use]
pub fn from_parts(seconds: i64, nanos: i64) -> Time {
    Time::from_millis(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}

/// A moment, when there is one.
#[must_use]
pub fn time(at: Option<&Timestamp>) -> Option<Time> {
    at.map(|t| from_parts(t.seconds, i64::from(t.nanos)))
}

/// A moment to the second in UTC: `2026-11-23 21:58:45Z`.
#[must_use]
pub fn moment(at: Option<&Timestamp>) -> String {
    time(at).map_or_else(|| NOTHING.to_owned(), |t| format!("{}Z", &t.sql()[..19]))
}

/// The UTC day: `2026-11-23`.
#[must_use]
pub fn day(at: Option<&Timestamp>) -> String {
    time(at).map_or_else(|| NOTHING.to_owned(), Time::day)
}

/// How long ago: `12s`; `0s` when it is not past.
#[must_use]
pub fn ago(now: Time, at: Option<&Timestamp>) -> String {
    time(at).map_or_else(|| NOTHING.to_owned(), |t| span(now.since(t)))
}

/// How long until then: `1h59m`; `now` when it has passed.
#[must_use]
pub fn until(now: Time, at: Option<&Timestamp>) -> String {
    match time(at) {
        None => NOTHING.to_owned(),
        Some(t) if t <= now => "now".to_owned(),
        Some(t) => span(t.since(now)),
    }
}

/// A span in its two largest units: `45s`, `3m12s`, `1h59m`, `12d4h`.
#[must_use]
pub fn span(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{}h", s / 86_400, s / 3600 % 24),
    }
}

/// A span of the wire in its two largest units.
#[must_use]
pub fn duration(d: Option<&Span>) -> String {
    d.map_or_else(|| NOTHING.to_owned(), |d| span(Duration::from_secs(u64::try_from(d.seconds).unwrap_or(0))))
}

/// A span of the wire as hours with two decimals: `1.50`.
#[must_use]
pub fn hours(d: Option<&Span>) -> String {
    let hundredths = d.map_or(0, |d| (i128::from(d.seconds) * 100 + 1800) / 3600);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// A span of the wire exactly, in seconds: `7200s`, `0.5s`.
#[must_use]
pub fn seconds(seconds: i64, nanos: i64) -> String {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let fraction = format!("{:09}", nanos.unsigned_abs());
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{dot}{fraction}s", seconds.unsigned_abs())
}

/// An amount as nano-dollars, when there is one that makes sense.
#[must_use]
pub fn nanos(money: Option<&pb::Money>) -> Option<Nanos> {
    money.and_then(|m| Nanos::from_parts(m.units, m.nanos))
}

/// An amount with exactly four decimals, rounded half to even, so that a column of them aligns: `$0.2467`.
#[must_use]
pub fn dollars(money: Option<&pb::Money>) -> String {
    nanos(money).map_or_else(|| NOTHING.to_owned(), |n| fixed(n, 4))
}

/// An amount with all its nine decimals, so that a column of them aligns: `$0.246666667`.
#[must_use]
pub fn exact(money: Option<&pb::Money>) -> String {
    nanos(money).map_or_else(|| NOTHING.to_owned(), |n| fixed(n, 9))
}

fn fixed(amount: Nanos, decimals: u32) -> String {
    let by = 10_i64.pow(9 - decimals.min(9));
    let (mut quotient, rest) = (amount.0.div_euclid(by), amount.0.rem_euclid(by));
    if rest * 2 > by || (rest * 2 == by && quotient % 2 != 0) {
        quotient += 1;
    }
    let scale = 10_u64.pow(decimals.min(9));
    let (sign, size) = (if quotient < 0 { "-" } else { "" }, quotient.unsigned_abs());
    let width = usize::try_from(decimals).unwrap_or(0);
    format!("{sign}${}.{:0width$}", size / scale, size % scale)
}

/// Memory in GB as the trade counts it: `24 GB` for 24576 MiB.
#[must_use]
pub fn memory(mib: i32) -> String {
    match mib {
        ..=0 => NOTHING.to_owned(),
        m if m % 1024 == 0 => format!("{} GB", m / 1024),
        m => format!("{:.1} GB", f64::from(m) / 1024.0).replace(".0 ", " "),
    }
}

/// A share as a percentage: `98.7%`.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Where a machine stands, in few letters: `US, Texas`.
#[must_use]
pub fn region(region: Option<&pb::Region>) -> String {
    let Some(r) = region else { return NOTHING.to_owned() };
    match (r.country_code.as_str(), r.area.as_str()) {
        ("", "") => text(&r.text),
        (code, "") => clean(code),
        ("", area) => clean(area),
        (code, area) => clean(&format!("{code}, {area}")),
    }
}

/// `RTX 4090, 24 GB` or `2 × RTX 4090, 24 GB each`.
#[must_use]
pub fn gpus_with_memory(count: i32, model: &str, memory_mib: i32) -> String {
    let each = if count > 1 { " each" } else { "" };
    if memory_mib > 0 { format!("{}, {}{each}", gpus(count, model), memory(memory_mib)) } else { gpus(count, model) }
}

/// `2 × RTX 4090`.
#[must_use]
pub fn gpus(count: i32, model: &str) -> String {
    match (count, model) {
        (_, "") => NOTHING.to_owned(),
        (0 | 1, model) => clean(model),
        (n, model) => format!("{n} × {}", clean(model)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_amounts() {
        let span = |s| super::span(Duration::from_secs(s));
        assert_eq!([0, 59, 60, 3599, 3600, 7199, 90_000].map(span), ["0s", "59s", "1m00s", "59m59s", "1h00m", "1h59m", "1d1h"]);
        assert_eq!(seconds(7200, 0), "7200s");
        assert_eq!(seconds(0, -500_000_000), "-0.5s");
        let money = |units, nanos| Some(pb::Money { currency_code: "USD".into(), units, nanos });
        assert_eq!(dollars(money(0, 246_650_000).as_ref()), "$0.2466");
        assert_eq!(dollars(money(0, 246_750_000).as_ref()), "$0.2468");
        assert_eq!(dollars(money(0, 999_960_000).as_ref()), "$1.0000");
        assert_eq!(dollars(money(-1, -500_000_000).as_ref()), "-$1.5000");
        assert_eq!(exact(money(12, 5).as_ref()), "$12.000000005");
        assert_eq!(dollars(None), "-");
        assert_eq!(hours(Some(&Span { seconds: 5400, nanos: 0 })), "1.50");
    }

    #[test]
    fn words_lose_their_prefix_and_unknown_numbers_stay_numbers() {
        assert_eq!(state(pb::session::State::Running.into()), "running");
        assert_eq!(stage(pb::Stage::ImagePulling.into()), "image_pulling");
        assert_eq!(end_reason(0), "-");
        assert_eq!(end_reason(4711), "4711");
        assert_eq!(memory(24_576), "24 GB");
        assert_eq!(memory(11_500), "11.2 GB");
        assert_eq!(memory(24_564), "24 GB");
        assert_eq!(gpus_with_memory(1, "L4", 24_576), "L4, 24 GB");
        assert_eq!(gpus(2, "H100 SXM"), "2 × H100 SXM");
    }
}
