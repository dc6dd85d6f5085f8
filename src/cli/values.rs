//! What people type on the command line, read strictly: durations, money, sizes, days, labels, and the filters that
//! several commands share.

use crate::domain::money::{Nanos, scaled};
use crate::domain::time::Time;
use crate::grpc::pb;
use clap::{Args, ValueEnum};
use prost_types::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// Reads `90m`, `2h`, `1h30m`, `3600s`, `1d`.
///
/// # Errors
/// What is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; allowed: numbers with units d, h, m, s, such as 90m, 2h, 1h30m");
    let (mut total, mut number) = (Duration::ZERO, String::new());
    for c in text.trim().chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            'd' => 86_400,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(wrong()),
        };
        let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
        total = total.checked_add(Duration::from_secs(seconds)).ok_or_else(wrong)?;
        number.clear();
    }
    // Ten years: the wire's durations reach farther, nobody's patience does.
    if !number.is_empty() || text.trim().is_empty() || total > Duration::from_secs(10 * 366 * 86_400) {
        return Err(wrong());
    }
    Ok(total)
}

/// A duration, or `off` for none at all (zero).
///
/// # Errors
/// What is allowed.
pub fn duration_or_off(text: &str) -> Result<Duration, String> {
    if text.trim().eq_ignore_ascii_case("off") { Ok(Duration::ZERO) } else { duration(text).map_err(|wrong| format!("{wrong}, or off")) }
}

/// A duration on the wire.
#[must_use]
pub fn to_wire(d: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), nanos: i32::try_from(d.subsec_nanos()).unwrap_or(0) }
}

/// Reads US dollars exactly: `0.36`, `$12`. At most nine decimals.
///
/// # Errors
/// What is allowed.
pub fn money(text: &str) -> Result<pb::Money, String> {
    let wrong = || format!("`{text}` is no amount; allowed: US dollars as a decimal number, such as 0.36");
    let plain = text.trim().strip_prefix('$').unwrap_or(text.trim());
    let decimals = plain.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    if !plain.bytes().all(|b| b.is_ascii_digit() || b == b'.') || decimals > 9 {
        return Err(wrong());
    }
    let nanos = scaled(plain, 9).and_then(|n| i64::try_from(n).ok()).ok_or_else(wrong)?;
    let (units, nanos) = Nanos(nanos).parts();
    Ok(pb::Money { currency_code: "USD".to_owned(), units, nanos })
}

/// Reads a share: `0.98` or `98%`.
///
/// # Errors
/// What is allowed.
pub fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = text.trim().strip_suffix('%').map_or((text.trim(), 1.0), |n| (n, 100.0));
    let value = number.parse::<f64>().ok().map(|n| n / scale).filter(|n| (0.0..=1.0).contains(n));
    value.ok_or_else(|| format!("`{text}` is no share; allowed: 0 to 1, or 0% to 100%"))
}

/// Reads GB of GPU memory (`24`, `24GB`) as MiB, 1024 to a GB as the trade counts it.
///
/// # Errors
/// What is allowed.
pub fn gpu_memory(text: &str) -> Result<i32, String> {
    let mib = gigabytes(text)?.checked_mul(1024);
    mib.ok_or_else(|| format!("`{text}` is more memory than there is"))
}

/// Reads GB: `100`, `100GB`.
///
/// # Errors
/// What is allowed.
pub fn gigabytes(text: &str) -> Result<i32, String> {
    let upper = text.trim().to_ascii_uppercase();
    let number = ["GIB", "GB", "G"].iter().find_map(|unit| upper.strip_suffix(unit)).unwrap_or(&upper).trim();
    let value = number.parse::<i32>().ok().filter(|n| *n > 0);
    value.ok_or_else(|| format!("`{text}` is no size; allowed: whole GB, such as 24"))
}

/// Reads `key=value`.
///
/// # Errors
/// What is allowed.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is no pair; allowed: key=value")),
    }
}

/// Reads RFC 3339: `2026-11-23T22:00:00Z`.
///
/// # Errors
/// What is allowed.
pub fn moment(text: &str) -> Result<Time, String> {
    let read = text.trim().parse::<jiff::Timestamp>().map(|t| Time::from_millis(t.as_millisecond()));
    read.map_err(|_| format!("`{text}` is no time; allowed: RFC 3339, such as 2026-11-23T22:00:00Z"))
}

/// A day (all of it, UTC) or an exact moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayOrMoment {
    /// The first moment of the day, or the moment.
    pub first: Time,
    /// The first moment after the day, or the moment.
    pub end: Time,
}

/// Reads a UTC day (`2026-11-23`) or a moment (RFC 3339).
///
/// # Errors
/// What is allowed.
pub fn day_or_moment(text: &str) -> Result<DayOrMoment, String> {
    if let Ok(at) = moment(text) {
        return Ok(DayOrMoment { first: at, end: at });
    }
    let day = text.trim();
    let first = if day.len() == 10 { moment(&format!("{day}T00:00:00Z")).ok() } else { None };
    let first = first.ok_or_else(|| format!("`{text}` is no day; allowed: a UTC day such as 2026-11-23, or RFC 3339"))?;
    Ok(DayOrMoment { first, end: first.next_midnight() })
}

/// A moment on the wire.
#[must_use]
pub fn timestamp(at: Time) -> Timestamp {
    let nanos = at.millis().rem_euclid(1000) * 1_000_000;
    Timestamp { seconds: at.millis().div_euclid(1000), nanos: i32::try_from(nanos).unwrap_or(0) }
}

/// Pairs as a map; a key that comes twice keeps its last value.
#[must_use]
pub fn pairs(list: &[(String, String)]) -> BTreeMap<String, String> {
    list.iter().cloned().collect()
}

/// In which order offers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// Cheapest first.
    Price,
    /// Cheapest per GPU first.
    #[value(alias = "price_per_gpu")]
    PricePerGpu,
    /// Cheapest first when the risk that it doesn't work is counted in.
    #[value(alias = "expected_cost")]
    ExpectedCost,
    /// Most reliable first.
    Reliability,
    /// Most memory per GPU first.
    #[value(alias = "gpu_memory")]
    GpuMemory,
}

impl Order {
    /// The contract's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Price => "price",
            Self::PricePerGpu => "price_per_gpu",
            Self::ExpectedCost => "expected_cost",
            Self::Reliability => "reliability",
            Self::GpuMemory => "gpu_memory",
        }
    }
}

/// A session's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Nothing rented yet.
    Pending,
    /// An attempt is under way.
    Provisioning,
    /// Verified and handed over.
    Running,
    /// Ending; may still cost money.
    Stopping,
    /// Ended as wished.
    Stopped,
    /// Ended otherwise.
    Failed,
}

impl State {
    /// The contract's value.
    #[must_use]
    pub const fn wire(self) -> pb::session::State {
        match self {
            Self::Pending => pb::session::State::Pending,
            Self::Provisioning => pb::session::State::Provisioning,
            Self::Running => pb::session::State::Running,
            Self::Stopping => pb::session::State::Stopping,
            Self::Stopped => pb::session::State::Stopped,
            Self::Failed => pb::session::State::Failed,
        }
    }
}

/// Which offers.
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Which offers")]
pub struct FilterArgs {
    /// Only this provider: vastai, tensordock (repeatable)
    #[arg(short, long = "provider", value_name = "NAME")]
    pub providers: Vec<String>,
    /// Only this GPU model, in any usual spelling: "RTX 4090", h100_sxm; a family takes all its forms (repeatable)
    #[arg(short, long = "gpu", value_name = "MODEL", value_delimiter = ',')]
    pub gpus: Vec<String>,
    /// At least this much memory per GPU, GB
    #[arg(long, value_name = "GB", value_parser = gpu_memory)]
    pub min_vram: Option<i32>,
    /// At most this much memory per GPU, GB
    #[arg(long, value_name = "GB", value_parser = gpu_memory)]
    pub max_vram: Option<i32>,
    /// Exactly this many GPUs
    #[arg(long = "gpus", value_name = "N")]
    pub count: Option<i32>,
    /// At least this many GPUs
    #[arg(long = "min-gpus", value_name = "N")]
    pub min_count: Option<i32>,
    /// At most this all-in price of the whole machine, US dollars per hour
    #[arg(long, value_name = "USD", value_parser = money)]
    pub max_price: Option<pb::Money>,
    /// At most this all-in price per GPU, US dollars per hour
    #[arg(long, value_name = "USD", value_parser = money)]
    pub max_price_per_gpu: Option<pb::Money>,
    /// Only there: a country by its code or name, Europe, EU, or part of the place's name (repeatable)
    #[arg(long = "region", value_name = "PLACE")]
    pub regions: Vec<String>,
    /// At least this reliability: 0.98 or 98%
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub min_reliability: Option<f64>,
    /// At least this CUDA version of the driver
    #[arg(long, value_name = "MAJOR.MINOR")]
    pub min_cuda: Option<String>,
    /// At least this chance of becoming usable, from what happened before: 0.5 or 50%
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub min_confidence: Option<f64>,
    /// Only machines rented by a bid, which somebody who bids more takes away
    #[arg(long, conflicts_with = "on_demand")]
    pub spot: bool,
    /// Only machines at a fixed price
    #[arg(long)]
    pub on_demand: bool,
    /// Only hosts that the vendor has verified
    #[arg(long)]
    pub verified: bool,
    /// Not this machine, by the machine id of an offer (repeatable)
    #[arg(long = "exclude-machine", value_name = "ID")]
    pub excluded_machines: Vec<String>,
    /// Only machines whose host keeps them on the market until then: a UTC day or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = day_or_moment)]
    pub available_until: Option<DayOrMoment>,
    /// Only what this template can run on, by its hash; `provision` runs it
    #[arg(long, value_name = "HASH")]
    pub template: Option<String>,
}

impl FilterArgs {
    /// Nothing is filtered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The contract's filter.
    #[must_use]
    pub fn filter(&self, disk_gb: Option<i32>) -> pb::OfferFilter {
        let kind = match (self.spot, self.on_demand) {
            (true, _) => pb::RentalKind::Interruptible,
            (false, true) => pb::RentalKind::OnDemand,
            (false, false) => pb::RentalKind::Unspecified,
        };
        pb::OfferFilter {
            providers: self.providers.clone(),
            gpu_models: self.gpus.clone(),
            min_gpu_memory_mib: self.min_vram,
            max_gpu_memory_mib: self.max_vram,
            gpu_count: self.count,
            min_gpu_count: self.min_count,
            max_price_per_hour: self.max_price.clone(),
            max_price_per_gpu_hour: self.max_price_per_gpu.clone(),
            regions: self.regions.clone(),
            min_reliability: self.min_reliability,
            min_cuda: self.min_cuda.clone(),
            disk_gb,
            rental_kind: kind.into(),
            verified_only: self.verified,
            min_confidence: self.min_confidence,
            excluded_machines: self.excluded_machines.clone(),
            min_host_end_time: self.available_until.map(|t| timestamp(t.end)),
            template_hash_id: self.template.clone(),
        }
    }
}

/// How much of a long list.
#[derive(Args, Clone, Debug, Default)]
pub struct PageArgs {
    /// At most this many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// All there are
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

/// The most that the server puts on one page.
const LARGEST_PAGE: usize = 1000;

impl PageArgs {
    /// How many to ask for next when `have` are there already; `None` when that is enough.
    #[must_use]
    pub fn next(&self, have: usize) -> Option<i32> {
        let most = if self.all { usize::MAX } else { usize::try_from(self.limit).unwrap_or(usize::MAX) };
        let left = most.saturating_sub(have).min(LARGEST_PAGE);
        i32::try_from(left).ok().filter(|n| *n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, want) in [("90m", 5400), ("2h", 7200), ("1h30m", 5400), ("3600s", 3600), ("1d", 86_400), (" 1m1s ", 61), ("0s", 0)] {
            assert_eq!(duration(text).map(|d| d.as_secs()), Ok(want), "{text}");
        }
        for bad in ["", "2", "h", "-2h", "1.5h", "2 h", "2h30", "99999999999999999999h", "9999999d"] {
            assert!(duration(bad).unwrap_err().contains("1h30m"), "{bad}");
        }
    }

    #[test]
    fn money_is_exact() {
        let parts = |text: &str| money(text).map(|m| (m.units, m.nanos));
        assert_eq!(parts("0.36"), Ok((0, 360_000_000)));
        assert_eq!(parts("$12"), Ok((12, 0)));
        assert_eq!(parts("0.000000001"), Ok((0, 1)));
        for bad in ["", ".", "$", "-1", "1e3", "0.0000000001", "1,5", "99999999999999999999", "1.2.3"] {
            assert!(money(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_shares_pairs() {
        assert_eq!(gpu_memory("24"), Ok(24_576));
        assert_eq!(gpu_memory("80 GB"), Ok(81_920));
        assert_eq!(gigabytes("100GiB"), Ok(100));
        for bad in ["0", "-1", "24.5", "many", "9999999999"] {
            assert!(gpu_memory(bad).is_err(), "{bad}");
        }
        assert_eq!(share("0.98"), Ok(0.98));
        assert_eq!(share("98%"), Ok(0.98));
        for bad in ["98", "-0.1", "NaN", "x"] {
            assert!(share(bad).is_err(), "{bad}");
        }
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("=b").is_err() && pair("a").is_err());
    }

    #[test]
    fn a_last_day_is_included_whole() {
        let day = day_or_moment("2026-11-23").unwrap();
        assert_eq!((day.first.rfc3339().as_str(), day.end.rfc3339().as_str()), ("2026-11-23T00:00:00.000Z", "2026-11-24T00:00:00.000Z"));
        let at = day_or_moment("2026-11-23T22:58:45+01:00").unwrap();
        assert_eq!(at.first, at.end);
        assert_eq!(at.first.rfc3339(), "2026-11-23T21:58:45.000Z");
        for bad in ["2026-13-01", "23.11.2026", "2026-11-23T22:00", "20261123", ""] {
            assert!(day_or_moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pages_until_the_limit() {
        let limited = PageArgs { limit: 1500, all: false };
        assert_eq!([0, 1000, 1500].map(|have| limited.next(have)), [Some(1000), Some(500), None]);
        let all = PageArgs { limit: 50, all: true };
        assert_eq!(all.next(123_456), Some(1000));
    }
}
