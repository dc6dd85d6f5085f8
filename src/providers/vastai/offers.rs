//! Vast.ai's offers: the search we send and the rows that come back.
//!
//! Prices: `dph_base` is the GPU share of a slice, `storage_cost` is dollars per GB and *month* (720 hours), `min_bid`
//! stands on every row and does not make an offer interruptible: that is what was searched for, confirmed by `is_bid`.
//! The search's filters are applied again here, because the vendor is known to return rows that don't satisfy them.

use crate::domain::gpu::snap_memory_mib;
use crate::domain::ids::{OfferId, ProviderId, clip};
use crate::domain::memo::Memo;
use crate::domain::memory::prior;
use crate::domain::money::{Nanos, Rate};
use crate::domain::offer::{DiskTerms, Offer, Price, Prior, RentalKind, Traffic};
use crate::domain::time::Time;
use crate::ports::OfferBatch;
use crate::providers::call::Fault;
use crate::providers::lenient::Object;
use crate::providers::rows::{Arriving, Keep, Reading};
use crate::providers::vastai::alike::Alike;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows asked for by one search. As many rows in the answer mean that there may be more.
pub const SEARCH_LIMIT: usize = 5000;
/// The smallest disk that Vast.ai rents, GB.
pub const MIN_DISK_GB: u32 = 8;
/// The disk rented when nobody asks for a size, GB; also what offers are priced and ordered for.
pub const DEFAULT_DISK_GB: u32 = 50;
/// Hours in Vast.ai's month.
const MONTH_HOURS: i64 = 720;

/// The chance of a launch on an ordinary verified host, before anything was learnt. By the shares that field campaigns saw:
/// 35 % of asks are gone at create, and of the rest some are left stopped (4 % after a start call), stick in the image pull
/// (8 %), take no key (7 %) or lie about their GPU (3 %): 0.65 × 0.96 × 0.92 × 0.93 × 0.97.
const USUAL_CHANCE: f64 = 0.52;

/// The body of a search.
#[must_use]
pub fn search_body(rental: RentalKind) -> Vec<u8> {
    let kind = match rental {
        RentalKind::OnDemand => "on-demand",
        RentalKind::Interruptible => "bid",
    };
    let body = serde_json::json!({
        "rentable": {"eq": true},
        "type": kind,
        "order": [["dph_total", "asc"]],
        "limit": SEARCH_LIMIT,
        "allocated_storage": DEFAULT_DISK_GB,
    });
    body.to_string().into_bytes()
}

/// The offer id of an ask.
#[must_use]
pub fn offer_id(ask: i64, rental: RentalKind) -> OfferId {
    let tail = if rental == RentalKind::Interruptible { "-spot" } else { "" };
    OfferId::new(&format!("vastai-{ask}{tail}"))
}

/// The ask and the kind of rental behind an offer id; `None` unless it is canonical.
#[must_use]
pub fn parse_offer_id(text: &str) -> Option<(i64, RentalKind)> {
    let rest = text.strip_prefix("vastai-")?;
    let (digits, rental) = match rest.strip_suffix("-spot") {
        Some(digits) => (digits, RentalKind::Interruptible),
        None => (rest, RentalKind::OnDemand),
    };
    let ask: i64 = digits.parse().ok()?;
    (ask > 0 && ask.to_string() == digits).then_some((ask, rental))
}

/// Reads a complete answer to a search.
///
/// # Errors
/// As those of [`end`].
pub fn read(body: &[u8], rental: RentalKind, seen_at: Time) -> Result<OfferBatch, Fault> {
    let (mut reading, mut rest) = (begin(rental, seen_at, Arc::default()), Vec::new());
    reading.take(body, &mut rest);
    end(reading, &rest)
}

/// Begins to read the answer to a search for such offers, as seen at this moment. Rows that make no sense are counted as skipped;
/// rows that don't satisfy the search are left out silently. `alike`: what other offers say as well.
#[must_use]
pub fn begin(rental: RentalKind, seen_at: Time, alike: Arc<Mutex<Alike>>) -> Reading<Kept> {
    let kept = Kept { rental, seen_at, alike, provider: ProviderId::new(super::NAME), rows: 0, batch: OfferBatch::default() };
    Reading::new(&[(ROWS, 2)], kept)
}

/// All offers, now that the answer is complete.
///
/// # Errors
/// When it is none of a search.
pub fn end(reading: Reading<Kept>, rest: &[u8]) -> Result<OfferBatch, Fault> {
    let kept = reading.end(rest, ROWS, |body| body.field(ROWS)?.rows())?;
    Ok(OfferBatch { truncated: kept.rows >= SEARCH_LIMIT, ..kept.batch })
}

/// The field that has the rows.
const ROWS: &str = "offers";

/// What rows have become.
#[derive(Debug)]
pub struct Kept {
    rental: RentalKind,
    seen_at: Time,
    alike: Arc<Mutex<Alike>>,
    provider: ProviderId,
    rows: usize,
    batch: OfferBatch,
}

impl Keep for Kept {
    fn take(&mut self, row: Option<Object<'_>>) {
        self.rows += 1;
        if row.as_ref().is_some_and(|row| !wanted(row, self.rental)) {
            return;
        }
        let mut alike = self.alike.lock().unwrap_or_else(PoisonError::into_inner);
        match row.and_then(|row| offer(&row, self.rental, &self.provider, self.seen_at, &mut alike)) {
            Some(offer) => self.batch.offers.push(Arc::new(offer)),
            None => self.batch.skipped += 1,
        }
    }
}

/// Whether a row satisfies the search that it answers.
fn wanted(row: &Object<'_>, rental: RentalKind) -> bool {
    let bid = rental == RentalKind::Interruptible;
    row.boolean("rentable") != Some(false) && row.boolean("rented") != Some(true) && row.boolean("is_bid").is_none_or(|is_bid| is_bid == bid)
}

/// One row; `None` when it lacks what no offer can be without: id, GPU, memory, price, and at least one core where told.
fn offer(row: &Object<'_>, rental: RentalKind, provider: &ProviderId, seen_at: Time, alike: &mut Alike) -> Option<Offer> {
    let ask = row.int("id").or_else(|| row.int("ask_contract_id")).filter(|id| *id > 0)?;
    let gpu_raw = row.text("gpu_name")?;
    let gpu_raw = clip(gpu_raw.trim(), 100);
    let gpu_count = row.int("num_gpus").and_then(|n| u32::try_from(n).ok()).filter(|n| (1..=1024).contains(n))?;
    let memory = row.float("gpu_ram").or_else(|| row.float("gpu_total_ram").map(|all| all / f64::from(gpu_count)));
    let memory = memory.and_then(whole).filter(|mib| *mib > 0)?;
    if gpu_raw.is_empty() || row.float("cpu_cores").is_some_and(|cores| cores <= 0.0) {
        return None;
    }
    let per_gb = storage_rate(row);
    let gpu = gpu_rate(row, rental, per_gb)?;
    let min_bid = row.rate("min_bid").filter(|bid| bid.0 > 0);
    let machine = match row.get("machine_id").and_then(|id| id.id()) {
        Some(id) => format!("vastai:{}", clip(&id, 64)),
        None => format!("vastai:ask-{ask}"),
    };
    let reliability = row.float("reliability2").or_else(|| row.float("reliability")).map(|r| r.clamp(0.0, 1.0));
    let verified = row.text("verification").map(|word| word == "verified").or_else(|| row.boolean("verified"));
    let (gpu_raw, gpu_model) = alike.gpu(&gpu_raw);
    Some(Offer {
        id: offer_id(ask, rental),
        provider: provider.clone(),
        machine: alike.machine(&machine),
        host: row.get("host_id").and_then(|id| id.id()).map(|id| alike.host(&format!("vastai:host-{}", clip(&id, 64)))),
        gpu: gpu_model,
        gpu_raw,
        gpu_count,
        gpu_memory_mib: snap_memory_mib(memory),
        region: alike.region(&row.text("geolocation").unwrap_or_default()),
        rental,
        min_bid: min_bid.filter(|_| rental == RentalKind::Interruptible),
        base: Price { gpu, ..Price::default() },
        disk: DiskTerms {
            per_gb: per_gb.unwrap_or_default(),
            min_gb: MIN_DISK_GB,
            step_gb: 1,
            max_gb: row.float("disk_space").and_then(whole).unwrap_or(0),
            default_gb: DEFAULT_DISK_GB,
        },
        traffic: Traffic { up_per_gb: traffic(row, "inet_up_cost"), down_per_gb: traffic(row, "inet_down_cost") },
        reliability,
        verified,
        cuda: row.get("cuda_max_good").and_then(|value| cuda(&value.decimal()?)),
        cpu_millis: row.float("cpu_cores_effective").map(|cores| cores * 1000.0).and_then(whole).filter(|cores| *cores > 0),
        memory_mib: memory_share(row),
        direct_ports: row.int("direct_port_count").map(|ports| ports > 0),
        host_end: host_end(row, seen_at),
        slots: Some(1),
        confidence: prior(USUAL_CHANCE, reliability, verified, rental),
        prior: Prior::default(),
        seen_at,
        memo: Memo::default(),
    })
}

/// Dollars per GB and hour, where the row tells them in one way or the other.
fn storage_rate(row: &Object<'_>) -> Option<Rate> {
    let monthly = row.rate("storage_cost").filter(|rate| rate.0 >= 0);
    monthly.map(|rate| rate.scaled(1, MONTH_HOURS))
}

/// What the GPUs cost: of an interruptible offer the lowest bid and nothing else, since a bid is what will be paid. An
/// on-demand row that tells nothing but a sum is taken at that sum, less the disk in it.
fn gpu_rate(row: &Object<'_>, rental: RentalKind, per_gb: Option<Rate>) -> Option<Rate> {
    if rental == RentalKind::Interruptible {
        return row.rate("min_bid").filter(|bid| bid.0 > 0);
    }
    let by_sum = || {
        let told = || row.rate("storage_total_cost").or_else(|| row.object("search")?.rate("diskHour"));
        let disk = per_gb.map_or(Rate::ZERO, |per_gb| told().unwrap_or_else(|| per_gb.times(DEFAULT_DISK_GB)));
        let total = row.rate("dph_total").or_else(|| row.object("search")?.rate("totalHour"))?;
        Some(total - disk)
    };
    // Nobody gives machines away: a row that says so is broken, and would come first in every list.
    row.rate("dph_base").or_else(by_sum).filter(|rate| rate.0 > 0)
}

fn traffic(row: &Object<'_>, name: &str) -> Nanos {
    row.amount(name).filter(|amount| amount.0 >= 0).unwrap_or(Nanos::ZERO)
}

/// `12.4` → 1204. The minor version of CUDA has one digit.
pub(super) fn cuda(text: &str) -> Option<u32> {
    let tenths = u32::try_from(crate::domain::money::scaled(text, 1)?).ok()?;
    (1..=999).contains(&tenths).then_some(tenths / 10 * 100 + tenths % 10)
}

/// Main memory of the slice: the machine's, shared by cores.
fn memory_share(row: &Object<'_>) -> Option<u32> {
    let memory = row.float("cpu_ram")?;
    let share = match (row.float("cpu_cores_effective"), row.float("cpu_cores")) {
        (Some(mine), Some(all)) if all > 0.0 => (mine / all).clamp(0.0, 1.0),
        _ => return None,
    };
    whole(memory * share).filter(|mib| *mib > 0)
}

fn host_end(row: &Object<'_>, seen_at: Time) -> Option<Time> {
    let millis = |seconds: f64| (0.0..1e13).contains(&seconds).then_some((seconds * 1000.0) as i64);
    match row.float("end_date").and_then(millis) {
        Some(end) => Some(Time::from_millis(end)),
        None => row.float("duration").and_then(millis).map(|left| Time::from_millis(seen_at.millis().saturating_add(left))),
    }
}

/// The part before the point, where it fits.
fn whole(number: f64) -> Option<u32> {
    (0.0..f64::from(u32::MAX)).contains(&number).then_some(number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::HostId;

    const NOW: Time = Time::from_millis(1_764_000_000_000);

    fn batch(text: &str, rental: RentalKind) -> OfferBatch {
        read(text.as_bytes(), rental, NOW).unwrap()
    }

    fn fixture() -> &'static str {
        include_str!("../../../tests/fixtures/vastai/offers.json")
    }

    #[test]
    fn offer_ids_are_canonical_or_none() {
        assert_eq!(parse_offer_id("vastai-123"), Some((123, RentalKind::OnDemand)));
        assert_eq!(parse_offer_id("vastai-123-spot"), Some((123, RentalKind::Interruptible)));
        for bad in
            ["vastai-", "vastai-0", "vastai-012", "vastai-+1", "vastai--1", "vastai-1-Spot", "vastai-1-spot-spot", "Vastai-1", "vastai-1 ", "1"]
        {
            assert_eq!(parse_offer_id(bad), None, "{bad}");
        }
        assert_eq!(offer_id(5, RentalKind::Interruptible).as_str(), "vastai-5-spot");
    }

    #[test]
    fn a_full_row_is_read_to_the_pico() {
        let offers = batch(fixture(), RentalKind::OnDemand).offers;
        let full = &offers[0];
        assert_eq!(full.id.as_str(), "vastai-70000001");
        assert_eq!(full.machine.as_str(), "vastai:5101");
        assert_eq!((full.gpu.as_str(), full.gpu_count, full.gpu_memory_mib), ("RTX 4090", 1, 24_576));
        assert_eq!(full.base.gpu, Rate::parse("0.24666666666666665").unwrap());
        // 0.15 $/GB/month over 720 hours.
        assert_eq!(full.disk.per_gb, Rate::parse("0.000208333333").unwrap());
        assert_eq!(full.price(None).total(), Rate(246_666_666_667 + 50 * 208_333_333));
        assert_eq!((full.disk.min_gb, full.disk.max_gb, full.disk.default_gb), (8, 1607, 50));
        assert_eq!((full.cuda, full.cpu_millis, full.memory_mib), (Some(1202), Some(24_000), Some(16_098)));
        assert_eq!((full.region.country.as_deref(), full.verified, full.direct_ports, full.slots), (Some("CN"), Some(true), Some(true), Some(1)));
        assert_eq!(full.traffic.up_per_gb, Nanos(1_953_125));
        assert_eq!(full.host_end, Some(Time::from_millis(1_795_707_781_000)));
        assert_eq!(full.min_bid, None, "a row with min_bid is not a bid offer");
        assert!((full.confidence - 0.52).abs() < 1e-9, "{}", full.confidence);
        assert_eq!(full.host.as_ref().map(HostId::as_str), Some("vastai:host-811"));
    }

    #[test]
    fn rows_that_were_not_asked_for_or_make_no_sense_are_left_out() {
        let batch = batch(fixture(), RentalKind::OnDemand);
        let ids: Vec<_> = batch.offers.iter().map(|o| o.id.as_str()).collect();
        assert_eq!(ids, ["vastai-70000001", "vastai-70000002", "vastai-70000003"]);
        assert_eq!((batch.skipped, batch.truncated), (5, false));
        let sum_only = &batch.offers[1];
        assert_eq!(sum_only.price(None).total(), Rate::parse("0.2288").unwrap(), "a sum is taken as it stands");
        assert_eq!((sum_only.cuda, sum_only.reliability, sum_only.verified, sum_only.host_end), (None, None, None, None));
        let modified = &batch.offers[2];
        assert_eq!((modified.gpu_memory_mib, modified.cuda, modified.reliability), (49_152, Some(1208), Some(1.0)));
        assert_eq!(modified.host_end, Some(NOW + std::time::Duration::from_secs(3600)));
    }

    #[test]
    fn bids_are_priced_by_the_bid_plus_the_disk() {
        let body = r#"{"offers":[
            {"id":1,"gpu_name":"H100 SXM","num_gpus":2,"gpu_ram":81559,"min_bid":1.2,"dph_base":3.0,"storage_cost":0.36,"is_bid":true},
            {"id":3,"gpu_name":"H100 SXM","num_gpus":2,"gpu_ram":81559,"dph_base":3.0,"is_bid":true},
            {"id":2,"gpu_name":"H100 SXM","num_gpus":2,"gpu_ram":81559,"min_bid":1.2,"dph_base":3.0,"is_bid":false}]}"#;
        let batch = batch(body, RentalKind::Interruptible);
        let offers = batch.offers;
        assert_eq!((offers.len(), batch.skipped), (1, 1), "without a lowest bid nobody knows what to pay");
        assert_eq!(offers[0].id.as_str(), "vastai-1-spot");
        assert_eq!(offers[0].price(Some(100)).total(), Rate::parse("1.25").unwrap());
        assert_eq!(offers[0].min_bid, Rate::parse("1.2"));
        assert_eq!(offers[0].rental, RentalKind::Interruptible);
    }

    #[test]
    fn bare_nan_spoils_a_field_not_the_body() {
        let body =
            r#"{"offers":[{"id":1,"gpu_name":"A40","num_gpus":1,"gpu_ram":46068,"dph_base":0.3,"reliability2":NaN,"cuda_max_good":Infinity}]}"#;
        let offers = batch(body, RentalKind::OnDemand).offers;
        assert_eq!((offers[0].reliability, offers[0].cuda, offers[0].gpu_memory_mib), (None, None, 49_152));
    }

    #[test]
    fn a_body_that_is_none_is_an_error() {
        for (body, words) in [
            ("", "empty"),
            ("<html></html>", "HTML"),
            ("[]", "no array `offers`"),
            ("{}", "no array `offers`"),
            (r#"{"offers":null}"#, "no array `offers`"),
            (r#"{"offers":{"id":1}}"#, "no array `offers`"),
        ] {
            let fault = read(body.as_bytes(), RentalKind::OnDemand, NOW).unwrap_err();
            assert!(fault.text.contains(words), "{body}: {}", fault.text);
        }
        assert!(batch(r#"{"offers":[]}"#, RentalKind::OnDemand).offers.is_empty());
    }

    #[test]
    fn as_many_rows_as_asked_for_mean_that_there_may_be_more() {
        let row = r#"{"id":1,"gpu_name":"A40","num_gpus":1,"gpu_ram":46068,"dph_base":0.3}"#;
        let body = format!(r#"{{"offers":[{}]}}"#, vec![row; SEARCH_LIMIT].join(","));
        assert!(batch(&body, RentalKind::OnDemand).truncated);
    }

    #[test]
    fn the_search_asks_for_one_kind_cheapest_first() {
        let body = String::from_utf8(search_body(RentalKind::Interruptible)).unwrap();
        for part in [r#""type":"bid""#, r#""limit":5000"#, r#"[["dph_total","asc"]]"#, r#""allocated_storage":50"#] {
            assert!(body.contains(part), "{body}");
        }
    }
}
