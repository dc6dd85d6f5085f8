//! TensorDock's offers: places where a number of GPUs of one kind may be had, made into one offer per number.
//!
//! `price_per_hr` is *one GPU alone*; cores, memory and disk are billed apart, and so they are priced apart here. Memory of
//! a GPU stands only in its name (`…-24gb`). A place's `tier` is no probability and is not made into one.

use crate::domain::gpu::{GpuModel, snap_memory_mib};
use crate::domain::ids::{HostId, MachineId, OfferId, ProviderId, clip};
use crate::domain::memo::Memo;
use crate::domain::memory::prior;
use crate::domain::money::Rate;
use crate::domain::offer::{DiskTerms, Offer, Price, Prior, Region, RentalKind, Traffic};
use crate::domain::time::Time;
use crate::ports::OfferBatch;
use crate::providers::call::Fault;
use crate::providers::lenient::{Object, Value};
use crate::providers::place;
use crate::providers::rows::{Arriving, Keep, Reading, Spot};
use std::sync::Arc;

/// Virtual cores rented with each GPU.
pub const VCPUS_PER_GPU: u32 = 8;
/// Main memory rented with each GPU, GB.
pub const MEMORY_GB_PER_GPU: u32 = 32;
/// The smallest disk, which is also the default, GB.
pub const MIN_DISK_GB: u32 = 100;
/// Disks grow in steps of this many GB.
pub const DISK_STEP_GB: u32 = 50;
/// The most GPUs in one offer.
const MOST_GPUS: u32 = 64;
/// The chance of a launch, before anything was learnt. By the shares that field campaigns saw: 45 % end with "No available
/// nodes found", whatever the place tells, 12 % for want of a public address, 6 % never get one, and 8 % come without a
/// working driver: 0.55 × 0.88 × 0.94 × 0.92.
const USUAL_CHANCE: f64 = 0.42;

/// The offer id of `count` GPUs of a kind at a place.
#[must_use]
pub fn offer_id(location: &str, gpu: &str, count: u32) -> String {
    format!("tensordock-{location}-{gpu}-{count}x")
}

/// Whether a text is an offer id in canonical form. Where the place ends and the GPU begins only the vendor's list tells,
/// unless the place is a UUID; offers carry both in their [`MachineId`].
#[must_use]
pub fn owns(text: &str) -> bool {
    let Some((place_and_gpu, count)) = text.strip_prefix("tensordock-").and_then(|rest| rest.strip_suffix('x')?.rsplit_once('-')) else {
        return false;
    };
    let counted = count.parse::<u32>().is_ok_and(|n| (1..=MOST_GPUS).contains(&n) && n.to_string() == count);
    counted && is_name(place_and_gpu) && place_and_gpu.contains('-')
}

/// Lower-case letters and digits in words joined by single dashes.
fn is_name(text: &str) -> bool {
    text.len() <= 200 && text.split('-').all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

/// Place and GPU of an offer of ours, taken from its machine id and checked against its offer id.
#[must_use]
pub fn place_and_gpu(offer: &Offer) -> Option<(String, String)> {
    let (location, gpu) = offer.machine.as_str().strip_prefix("tensordock:")?.split_once(':')?;
    (offer_id(location, gpu, offer.gpu_count) == offer.id.as_str() && owns(offer.id.as_str())).then(|| (location.to_owned(), gpu.to_owned()))
}

/// Reads a complete list of places.
///
/// # Errors
/// As those of [`end`].
pub fn read(body: &[u8], seen_at: Time) -> Result<OfferBatch, Fault> {
    let (mut reading, mut rest) = (begin(seen_at), Vec::new());
    reading.take(body, &mut rest);
    end(reading, &rest)
}

/// Begins to read the list of places, as seen at this moment. Places and GPUs that make no sense are counted as skipped.
#[must_use]
pub fn begin(seen_at: Time) -> Reading<Kept> {
    Reading::new(SPOTS, Kept { seen_at, provider: ProviderId::new(super::NAME), batch: OfferBatch::default() })
}

/// All offers, now that the answer is complete.
///
/// # Errors
/// When it is none.
pub fn end(reading: Reading<Kept>, rest: &[u8]) -> Result<OfferBatch, Fault> {
    Ok(reading.end(rest, "locations", locations)?.batch)
}

/// What places have become.
#[derive(Debug)]
pub struct Kept {
    seen_at: Time,
    provider: ProviderId,
    batch: OfferBatch,
}

impl Keep for Kept {
    fn take(&mut self, location: Option<Object<'_>>) {
        let Some(location) = location.and_then(|row| Place::read(&row)) else {
            self.batch.skipped += 1;
            return;
        };
        for (name, gpu) in location.gpus() {
            match gpu.and_then(|gpu| Gpu::read(&name, &gpu)) {
                Some(gpu) => self.batch.offers.extend(gpu.offers(&location, &self.provider, self.seen_at).map(Arc::new)),
                None => self.batch.skipped += 1,
            }
        }
    }
}

/// Where the places may stand; [`locations`] says the same of the whole body.
const SPOTS: &[Spot] = &[("", 1), ("locations", 2), ("data", 2), ("locations", 3)];

fn locations(body: Value<'_>) -> Option<Vec<Option<Object<'_>>>> {
    let direct = body.rows().or_else(|| body.field("locations")?.rows());
    direct.or_else(|| body.field("data")?.rows()).or_else(|| body.field("data")?.field("locations")?.rows())
}

/// A place as told.
struct Place<'a> {
    id: String,
    host: HostId,
    region: Arc<Region>,
    gpus: Value<'a>,
}

impl<'a> Place<'a> {
    fn read(row: &Object<'a>) -> Option<Self> {
        let id = row.first(&["id", "uuid"]).and_then(Value::id).filter(|id| is_name(id))?;
        let text = |names: &[&str]| row.first(names).and_then(Value::text).unwrap_or_default();
        let region = place::from_parts(&text(&["city"]), &text(&["stateprovince", "stateProvince", "state"]), &text(&["country"]));
        let host = HostId::new(&format!("tensordock:{id}"));
        Some(Self { id, host, region: Arc::new(region), gpus: row.get("gpus")? })
    }

    /// Its GPUs with the names they are listed under, in an array or a map.
    fn gpus(&self) -> Vec<(String, Option<Object<'a>>)> {
        if let Some(rows) = self.gpus.rows() {
            return rows.into_iter().map(|row| (String::new(), row)).collect();
        }
        let Some(map) = self.gpus.object() else {
            return vec![(String::new(), None)];
        };
        map.entries().map(|(name, gpu)| (name.to_owned(), gpu.object())).collect()
    }
}

/// What a virtual processor, a GB of memory and one of disk cost an hour where a list does not tell, as some do: the vendor's own
/// example of a price in its documentation of `/locations`. A machine is never had for its GPU alone.
const USUAL: (Rate, Rate, Rate) = (Rate(3_000_000_000), Rate(2_000_000_000), Rate(50_000_000));

/// One kind of GPU at a place as told.
struct Gpu {
    name: String,
    model: GpuModel,
    raw: Arc<str>,
    memory_mib: u32,
    most: u32,
    price: Rate,
    per_vcpu: Rate,
    per_memory_gb: Rate,
    per_disk_gb: Rate,
    max_vcpus: Option<i64>,
    max_memory_gb: Option<i64>,
    max_disk_gb: Option<i64>,
    dedicated_ip: Option<bool>,
    forwarding: Option<bool>,
}

impl Gpu {
    /// `None` when it lacks what no offer can be without: a name with the memory in it, a number, a price.
    fn read(listed_as: &str, row: &Object<'_>) -> Option<Self> {
        let told = row.first(&["v0Name", "v0_name", "v0name"]).and_then(Value::text);
        let name = told.map_or_else(|| listed_as.to_owned(), |name| name.trim().to_owned());
        let memory_mib = memory_mib(&name).filter(|_| is_name(&name))?;
        let display = row.first(&["displayName", "display_name"]).and_then(Value::text);
        let price = rate(row, &["price_per_hr", "pricePerHr"]).filter(|price| price.0 > 0)?;
        let pricing = row.object("pricing").unwrap_or_default();
        let limits = row.object("resources").unwrap_or_default();
        let network = row.first(&["network_features", "networkFeatures"]).and_then(Value::object).unwrap_or_default();
        let part = |names: &[&str], usual: Rate| rate(&pricing, names).filter(|rate| rate.0 >= 0).unwrap_or(usual);
        Some(Self {
            model: GpuModel::canonical(&name),
            raw: clip(display.as_deref().map(str::trim).filter(|text| !text.is_empty()).unwrap_or(&name), 100).into(),
            memory_mib,
            most: row.first(&["max_count", "maxCount"]).and_then(Value::int).and_then(|n| u32::try_from(n.max(0)).ok())?.min(MOST_GPUS),
            price,
            per_vcpu: part(&["per_vcpu_hr", "perVcpuHr"], USUAL.0),
            per_memory_gb: part(&["per_gb_ram_hr", "perGbRamHr"], USUAL.1),
            per_disk_gb: part(&["per_gb_storage_hr", "perGbStorageHr"], USUAL.2),
            max_vcpus: limits.first(&["max_vcpus", "maxVcpus"]).and_then(Value::int),
            max_memory_gb: limits.first(&["max_ram_gb", "maxRamGb"]).and_then(Value::int),
            max_disk_gb: limits.first(&["max_storage_gb", "maxStorageGb"]).and_then(Value::int),
            dedicated_ip: network.first(&["dedicated_ip_available", "dedicatedIpAvailable"]).and_then(Value::boolean),
            forwarding: network.first(&["port_forwarding_available", "portForwardingAvailable"]).and_then(Value::boolean),
            name,
        })
    }

    /// Which numbers are offered: 1, 2, 4, 8 … and all there are, as far as cores, memory and disk suffice. Without any way
    /// to reach the machine, none.
    fn counts(&self) -> Vec<u32> {
        if self.dedicated_ip == Some(false) && self.forwarding == Some(false) {
            return Vec::new();
        }
        let fits = |most: Option<i64>, need: u32| most.is_none_or(|most| i64::from(need) <= most);
        let mut counts: Vec<u32> = (0..7).map(|power| 1 << power).filter(|n| *n < self.most).chain([self.most]).filter(|n| *n > 0).collect();
        counts.retain(|n| fits(self.max_vcpus, n * VCPUS_PER_GPU) && fits(self.max_memory_gb, n * MEMORY_GB_PER_GPU));
        if fits(self.max_disk_gb, MIN_DISK_GB) { counts } else { Vec::new() }
    }

    /// One offer for each number; all share their names.
    fn offers(&self, place: &Place<'_>, provider: &ProviderId, seen_at: Time) -> impl Iterator<Item = Offer> {
        let machine = MachineId::new(&format!("tensordock:{}:{}", place.id, self.name));
        self.counts().into_iter().map(move |count| self.offer(place, provider, &machine, count, seen_at))
    }

    fn offer(&self, place: &Place<'_>, provider: &ProviderId, machine: &MachineId, count: u32, seen_at: Time) -> Offer {
        Offer {
            id: OfferId::new(&offer_id(&place.id, &self.name, count)),
            provider: provider.clone(),
            machine: machine.clone(),
            host: Some(place.host.clone()),
            gpu: self.model.clone(),
            gpu_raw: Arc::clone(&self.raw),
            gpu_count: count,
            gpu_memory_mib: self.memory_mib,
            region: Arc::clone(&place.region),
            rental: RentalKind::OnDemand,
            min_bid: None,
            base: Price {
                gpu: self.price.times(count),
                cpu: self.per_vcpu.times(count * VCPUS_PER_GPU),
                memory: self.per_memory_gb.times(count * MEMORY_GB_PER_GPU),
                disk: Rate::ZERO,
            },
            disk: DiskTerms {
                per_gb: self.per_disk_gb,
                min_gb: MIN_DISK_GB,
                step_gb: DISK_STEP_GB,
                max_gb: self.max_disk_gb.and_then(|gb| u32::try_from(gb).ok()).unwrap_or(0),
                default_gb: MIN_DISK_GB,
            },
            traffic: Traffic::default(),
            reliability: None,
            verified: None,
            cuda: None,
            cpu_millis: Some(count * VCPUS_PER_GPU * 1000),
            memory_mib: Some(count * MEMORY_GB_PER_GPU * 1024),
            // Here: whether the machine gets an address of its own; otherwise ports are forwarded to it.
            direct_ports: self.dedicated_ip,
            host_end: None,
            slots: None,
            confidence: prior(USUAL_CHANCE, None, None, RentalKind::OnDemand),
            prior: Prior::default(),
            seen_at,
            memo: Memo::default(),
        }
    }
}

fn rate(row: &Object<'_>, names: &[&str]) -> Option<Rate> {
    Rate::parse(&row.first(names)?.decimal()?)
}

/// The memory in a GPU's name: `geforcertx4090-pcie-24gb` → 24 576 MiB.
fn memory_mib(name: &str) -> Option<u32> {
    let gb: u32 = name.rsplit('-').find_map(|word| word.strip_suffix("gb")?.parse().ok())?;
    (1..=4096).contains(&gb).then(|| snap_memory_mib(gb * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1_764_000_000_000);

    fn fixture() -> OfferBatch {
        read(include_str!("../../../tests/fixtures/tensordock/locations.json").as_bytes(), NOW).unwrap()
    }

    fn ids(batch: &OfferBatch) -> Vec<&str> {
        batch.offers.iter().map(|offer| offer.id.as_str()).collect()
    }

    #[test]
    fn offer_ids_are_canonical_or_none() {
        for good in ["tensordock-loc-1-rtxa4000-pcie-16gb-1x", "tensordock-8dd95ff0-dff9-489c-9b02-b38a366b6ab1-h100-sxm5-80gb-8x"] {
            assert!(owns(good), "{good}");
        }
        for bad in [
            "tensordock-loc-1-a4000-16gb-0x",
            "tensordock-loc-1-a4000-16gb-01x",
            "tensordock-loc-1-a4000-16gb-1",
            "tensordock-loc-1-a4000-16gb-+1x",
            "tensordock-loc-1-A4000-16gb-1x",
            "tensordock-loc--a4000-1x",
            "tensordock-loc-1x",
            "tensordock--1x",
            "tensordock-a b-c-1x",
            "vastai-1",
        ] {
            assert!(!owns(bad), "{bad}");
        }
    }

    #[test]
    fn each_place_and_number_is_an_offer() {
        let batch = fixture();
        assert_eq!(
            ids(&batch),
            [
                "tensordock-0c0ffee0-1111-4222-8333-444455556666-h100-sxm5-80gb-1x",
                "tensordock-0c0ffee0-1111-4222-8333-444455556666-h100-sxm5-80gb-2x",
                "tensordock-0c0ffee0-1111-4222-8333-444455556666-h100-sxm5-80gb-4x",
                "tensordock-0c0ffee0-1111-4222-8333-444455556666-h100-sxm5-80gb-6x",
                "tensordock-0c0ffee0-1111-4222-8333-444455556666-geforcertx4090-pcie-24gb-1x",
                "tensordock-loc-2-rtxa6000-pcie-48gb-1x",
            ]
        );
        assert_eq!(batch.skipped, 5);
        for offer in &batch.offers {
            let (location, gpu) = place_and_gpu(offer).unwrap();
            assert_eq!(offer_id(&location, &gpu, offer.gpu_count), offer.id.as_str());
        }
    }

    #[test]
    fn all_parts_are_in_the_price() {
        let batch = fixture();
        let two = &batch.offers[1];
        // 2 × 2.2 + 16 × 0.003 + 64 × 0.002 + 100 × 0.00005
        assert_eq!(two.price(None).total(), Rate::parse("4.581").unwrap());
        assert_eq!(two.price(Some(120)).disk, Rate::parse("0.0075").unwrap());
        assert_eq!((two.gpu.as_str(), two.gpu_memory_mib, two.gpu_count), ("H100 SXM", 81_920, 2));
        assert_eq!((two.cpu_millis, two.memory_mib, two.disk.max_gb, two.direct_ports), (Some(16_000), Some(65_536), 1000, Some(true)));
        assert_eq!((two.reliability, two.slots, two.region.country.as_deref()), (None, None, Some("US")));
        let forwarded = &batch.offers[4];
        assert_eq!(forwarded.direct_ports, Some(false));
        let bare = &batch.offers[5];
        // 0.5 + 8 × 0.003 + 32 × 0.002 + 100 × 0.00005
        assert_eq!(bare.price(None).total(), Rate::parse("0.593").unwrap(), "no pricing block: what is usual is added");
        assert_eq!((bare.region.country.as_deref(), bare.direct_ports, bare.disk.max_gb), (Some("DE"), None, 0));
    }

    #[test]
    fn other_wrappings_are_taken_and_others_are_errors() {
        let place = r#"{"id":"l-1","gpus":[{"v0Name":"l4-pcie-24gb","maxCount":1,"pricePerHr":"0.4"}]}"#;
        for body in [
            format!("[{place}]"),
            format!(r#"{{"locations":[{place}]}}"#),
            format!(r#"{{"data":[{place}]}}"#),
            format!(r#"{{"data":{{"locations":[{place}]}}}}"#),
        ] {
            assert_eq!(ids(&read(body.as_bytes(), NOW).unwrap()), ["tensordock-l-1-l4-pcie-24gb-1x"], "{body}");
        }
        for body in ["", "<html>", "{}", r#"{"data":null}"#, r#"{"data":{"locations":{}}}"#, "3"] {
            assert_eq!(read(body.as_bytes(), NOW).unwrap_err().kind, crate::ports::ErrorKind::Garbled, "{body}");
        }
    }
}
