//! Offers: what can be rented now, at which all-in price; filters and orders over them.
//!
//! Not here: where offers come from (`providers/`) and how the snapshot is kept (`services/inventory.rs`).

use crate::domain::gpu::GpuModel;
use crate::domain::ids::{HostId, MachineId, OfferId, ProviderId};
use crate::domain::memo::Memo;
use crate::domain::money::{Nanos, Rate};
use crate::domain::region;
use crate::domain::template::Needs;
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use std::cmp::Ordering;
use std::sync::Arc;

/// A priced part of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// The GPUs.
    Gpu,
    /// CPU cores, where they are priced apart.
    Cpu,
    /// Main memory, where it is priced apart.
    Memory,
    /// Disk.
    Disk,
}

impl Component {
    /// Every component, in the order they are shown.
    pub const ALL: [Self; 4] = [Self::Gpu, Self::Cpu, Self::Memory, Self::Disk];

    /// The word used in tables, columns and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }

    /// The reverse of [`Component::word`].
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.word() == word)
    }
}

/// An hourly price by component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// All GPUs together.
    pub gpu: Rate,
    /// CPU, zero where it is included.
    pub cpu: Rate,
    /// Main memory, zero where it is included.
    pub memory: Rate,
    /// The disk asked for.
    pub disk: Rate,
}

impl Price {
    /// The sum of all components.
    #[must_use]
    pub fn total(&self) -> Rate {
        self.gpu + self.cpu + self.memory + self.disk
    }

    /// One component's rate.
    #[must_use]
    pub fn of(&self, component: Component) -> Rate {
        match component {
            Component::Gpu => self.gpu,
            Component::Cpu => self.cpu,
            Component::Memory => self.memory,
            Component::Disk => self.disk,
        }
    }

    /// This price with the GPU's share changed so that the sum is `total`: for vendors that state a sum only.
    #[must_use]
    pub fn with_total(mut self, total: Rate) -> Self {
        self.gpu = total - self.cpu - self.memory - self.disk;
        self
    }
}

/// What disks cost at an offer, and which sizes can be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskTerms {
    /// Dollars per GB and hour.
    pub per_gb: Rate,
    /// The smallest disk that can be rented, GB.
    pub min_gb: u32,
    /// Sizes are multiples of this many GB above the smallest.
    pub step_gb: u32,
    /// The largest disk, GB; 0 = not told.
    pub max_gb: u32,
    /// The disk taken when nobody asks for a size, GB.
    pub default_gb: u32,
}

impl DiskTerms {
    /// The disk that is rented for an asked size: at least the smallest, rounded up to a step; `None` = the default.
    #[must_use]
    pub fn rented_gb(&self, asked: Option<u32>) -> u32 {
        let wanted = asked.unwrap_or(self.default_gb).max(self.min_gb);
        let step = self.step_gb.max(1);
        wanted.div_ceil(step).saturating_mul(step)
    }

    /// Whether a disk of the asked size can be had; what is not told may be.
    #[must_use]
    pub fn has_room(&self, asked: Option<u32>) -> bool {
        self.max_gb == 0 || self.rented_gb(asked) <= self.max_gb
    }
}

/// What traffic costs. Shown as a rate and never metered: the vendors bill it by the byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Per GB sent by the machine.
    pub up_per_gb: Nanos,
    /// Per GB received by the machine.
    pub down_per_gb: Nanos,
}

/// How a machine is rented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RentalKind {
    /// At a fixed price until it is given back.
    #[default]
    OnDemand,
    /// By a bid; somebody who bids more takes it away.
    Interruptible,
}

/// Where a machine stands.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Region {
    /// ISO 3166-1 alpha-2 code in capitals; `None` when the vendor's text names no country we know.
    pub country: Option<String>,
    /// State, province or city as tidy text.
    pub area: Option<String>,
    /// The vendor's own text, trimmed.
    pub raw: String,
}

/// Minutes of its price that a launch which fails is paid for, on average: refusals cost nothing, a container is not billed
/// for its GPU before it is up, and a virtual machine is given up after some minutes.
const WASTED_MINUTES: i64 = 1;

/// One thing that can be rented.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The id to rent it by.
    pub id: OfferId,
    /// Who offers it.
    pub provider: ProviderId,
    /// The machine or place behind it.
    pub machine: MachineId,
    /// Who runs it, or the data centre it stands in, where the vendor tells.
    #[serde(default)]
    pub host: Option<HostId>,
    /// The canonical GPU model.
    pub gpu: GpuModel,
    /// The vendor's own name of the GPU.
    pub gpu_raw: Arc<str>,
    /// Number of GPUs.
    pub gpu_count: u32,
    /// Memory of one GPU, MiB, snapped to its nominal size.
    pub gpu_memory_mib: u32,
    /// Where it stands. Many offers stand in one place.
    pub region: Arc<Region>,
    /// On demand or by a bid.
    pub rental: RentalKind,
    /// The lowest bid that would win now (whole machine per hour), for interruptible offers.
    pub min_bid: Option<Rate>,
    /// Hourly price without the disk.
    pub base: Price,
    /// Disk sizes and price.
    pub disk: DiskTerms,
    /// Traffic price.
    pub traffic: Traffic,
    /// The vendor's measure of the host's reliability, 0 to 1.
    pub reliability: Option<f64>,
    /// Whether the vendor has verified the host.
    pub verified: Option<bool>,
    /// Highest CUDA version the driver can do, as major × 100 + minor (12.4 → 1204).
    pub cuda: Option<u32>,
    /// CPU cores in thousandths.
    pub cpu_millis: Option<u32>,
    /// Main memory, MiB.
    pub memory_mib: Option<u32>,
    /// Whether ports of the machine can be reached directly (otherwise through the vendor's proxy).
    pub direct_ports: Option<bool>,
    /// When the host takes the machine off the market: a rental can't outlive it.
    pub host_end: Option<Time>,
    /// How many rentals it takes: 1 for an ask of a marketplace; `None` for a place where any number may be tried.
    pub slots: Option<u32>,
    /// The chance that a launch of it comes to a usable machine, 0 to 1. As an adapter states it: the prior
    /// ([`crate::domain::memory::prior`]); as the inventory shows it: with all that was learnt since.
    pub confidence: f64,
    /// What the adapter stated, kept by the inventory.
    #[serde(skip)]
    pub prior: Prior,
    /// When the provider told us of it.
    pub seen_at: Time,
    /// For whoever tells of it.
    #[serde(skip)]
    pub memo: Memo,
}

/// The chance that an adapter stated of an offer. It is no part of the offer: two are equal whatever it was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prior(pub f64);

impl PartialEq for Prior {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Offer {
    /// The hourly price with the disk that is rented for `disk_gb`.
    #[must_use]
    pub fn price(&self, disk_gb: Option<u32>) -> Price {
        Price { disk: self.disk.per_gb.times(self.disk.rented_gb(disk_gb)), ..self.base }
    }

    /// The offer as it is for somebody who bids this much per hour for the machine without its disk: an interruptible machine
    /// costs what is bid for it. `None` when a machine at a fixed price takes no bids, or a higher one would win.
    #[must_use]
    pub fn at_bid(&self, bid: Rate) -> Option<Self> {
        let wins = self.rental == RentalKind::Interruptible && self.min_bid.is_none_or(|least| bid >= least);
        wins.then(|| Self { base: Price { gpu: bid, ..self.base }, ..self.clone() })
    }

    /// What an hour of a usable machine is expected to cost: `(price + waste) / p`, where `p` is [`Offer::confidence`]
    /// and `waste = price × (1 − p) × WASTED_MINUTES / 60` is what a launch that fails is paid for.
    ///
    /// `price / p` ranks by the hours that are really had: of launches that come to a machine one time in two, a usable
    /// hour is worth two of the price, for the time and patience that the other one takes. The waste is the money on top.
    #[must_use]
    pub fn expected_cost(&self, disk_gb: Option<u32>) -> Rate {
        // The chance enters as parts per million, so that money stays integer.
        let ppm = (self.confidence.clamp(0.01, 1.0) * 1e6) as i64;
        self.price(disk_gb).total().scaled(1_000_000 + (1_000_000 - ppm) * WASTED_MINUTES / 60, ppm)
    }
}

/// Which offers somebody wants. Absent fields don't filter; nothing is filtered by default.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OfferFilter {
    /// Only these providers.
    pub providers: Vec<ProviderId>,
    /// Only these models (a family name takes all its form factors).
    pub gpu_models: Vec<GpuModel>,
    /// At least this much memory per GPU, MiB.
    pub min_gpu_memory_mib: Option<u32>,
    /// At most this much memory per GPU, MiB.
    pub max_gpu_memory_mib: Option<u32>,
    /// Exactly this many GPUs.
    pub gpu_count: Option<u32>,
    /// At least this many GPUs.
    pub min_gpu_count: Option<u32>,
    /// At most this much per hour, all in.
    pub max_price: Option<Rate>,
    /// At most this much per GPU and hour, all in.
    pub max_price_per_gpu: Option<Rate>,
    /// Only these countries (by code or name), `Europe`, `EU`, or regions (part of the text; a country's name as a whole
    /// word only); in any case.
    pub regions: Vec<String>,
    /// At least this reliability, 0 to 1. Offers whose reliability is untold don't pass.
    pub min_reliability: Option<f64>,
    /// At least this CUDA version, as major × 100 + minor. Offers that don't tell don't pass.
    pub min_cuda: Option<u32>,
    /// Room for a disk of this many GB; the price is then for that disk.
    pub disk_gb: Option<u32>,
    /// Only this kind of rental.
    pub rental: Option<RentalKind>,
    /// Only hosts that the vendor has verified.
    pub verified_only: bool,
    /// At least this chance of becoming usable, 0 to 1.
    pub min_confidence: Option<f64>,
    /// Not these machines.
    pub excluded_machines: Vec<MachineId>,
    /// Only machines whose host keeps them at least until then.
    pub host_end_after: Option<Time>,
    /// Only what this template can run on, by its hash.
    pub template: Option<String>,
    /// What that template needs, once it was looked up.
    pub needs: Option<Needs>,
}

impl OfferFilter {
    /// Whether an offer passes; otherwise the name of the first field that turns it away.
    ///
    /// # Errors
    /// The name of that field, as in the proto.
    pub fn check(&self, offer: &Offer) -> Result<(), &'static str> {
        TESTS.iter().find(|test| (test.is_set)(self) && !(test.passes)(self, offer)).map_or(Ok(()), |test| Err(test.field))
    }

    /// Every field by name, in order, and whether an offer passes it. A field that is not set passes everything.
    #[must_use]
    pub fn tests(&self, offer: &Offer) -> [(&'static str, bool); 18] {
        TESTS.map(|test| (test.field, !(test.is_set)(self) || (test.passes)(self, offer)))
    }

    /// Whether it takes what stands there, for its `regions` alone.
    #[must_use]
    pub fn wants(&self, region: &Region) -> bool {
        self.regions.is_empty() || self.regions.iter().any(|asked| in_region(region, asked))
    }

    /// The same filter made ready for many offers: only what is set is looked at.
    #[must_use]
    pub fn sieve(&self) -> Sieve<'_> {
        Sieve { filter: self, tests: TESTS.iter().filter(|test| (test.is_set)(self)).collect() }
    }
}

/// A filter made ready for many offers; see [`OfferFilter::sieve`].
#[derive(Debug)]
pub struct Sieve<'a> {
    filter: &'a OfferFilter,
    tests: Vec<&'static Test>,
}

impl Sieve<'_> {
    /// Whether an offer passes.
    #[must_use]
    pub fn passes(&self, offer: &Offer) -> bool {
        self.tests.iter().all(|test| (test.passes)(self.filter, offer))
    }

    /// The same without the test of a field that all who come to it are known to pass.
    #[must_use]
    pub fn without(mut self, field: &str) -> Self {
        self.tests.retain(|test| test.field != field);
        self
    }

    /// Whether every offer passes, without looking at any.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.tests.is_empty()
    }
}

/// One field of a filter.
#[derive(Clone, Copy, Debug)]
struct Test {
    /// Its name in the proto.
    field: &'static str,
    /// Whether the filter says anything about it.
    is_set: fn(&OfferFilter) -> bool,
    /// Whether an offer passes it; asked only where it is set.
    passes: fn(&OfferFilter, &Offer) -> bool,
}

const fn test(field: &'static str, is_set: fn(&OfferFilter) -> bool, passes: fn(&OfferFilter, &Offer) -> bool) -> Test {
    Test { field, is_set, passes }
}

fn all_in(filter: &OfferFilter, offer: &Offer) -> Rate {
    offer.price(filter.disk_gb).total()
}

/// Every field, in the order in which they turn offers away.
static TESTS: [Test; 18] = [
    test("providers", |f| !f.providers.is_empty(), |f, o| f.providers.contains(&o.provider)),
    test("gpu_models", |f| !f.gpu_models.is_empty(), |f, o| f.gpu_models.iter().any(|asked| o.gpu.answers(asked))),
    test("min_gpu_memory_mib", |f| f.min_gpu_memory_mib.is_some(), |f, o| f.min_gpu_memory_mib.is_none_or(|least| o.gpu_memory_mib >= least)),
    test("max_gpu_memory_mib", |f| f.max_gpu_memory_mib.is_some(), |f, o| f.max_gpu_memory_mib.is_none_or(|most| o.gpu_memory_mib <= most)),
    test("gpu_count", |f| f.gpu_count.is_some(), |f, o| f.gpu_count.is_none_or(|count| o.gpu_count == count)),
    test("min_gpu_count", |f| f.min_gpu_count.is_some(), |f, o| f.min_gpu_count.is_none_or(|least| o.gpu_count >= least)),
    test("max_price_per_hour", |f| f.max_price.is_some(), |f, o| f.max_price.is_none_or(|most| all_in(f, o) <= most)),
    test(
        "max_price_per_gpu_hour",
        |f| f.max_price_per_gpu.is_some(),
        |f, o| f.max_price_per_gpu.is_none_or(|most| all_in(f, o) <= most.times(o.gpu_count)),
    ),
    test("regions", |f| !f.regions.is_empty(), |f, o| f.wants(&o.region)),
    test("min_reliability", |f| f.min_reliability.is_some(), |f, o| f.min_reliability.is_none_or(|least| o.reliability.is_some_and(|r| r >= least))),
    test("min_cuda", |f| f.min_cuda.is_some(), |f, o| f.min_cuda.is_none_or(|least| o.cuda.is_some_and(|c| c >= least))),
    test("disk_gb", |f| f.disk_gb.is_some(), |f, o| f.disk_gb.is_none_or(|gb| o.disk.has_room(Some(gb)))),
    test("rental_kind", |f| f.rental.is_some(), |f, o| f.rental.is_none_or(|kind| o.rental == kind)),
    test("verified_only", |f| f.verified_only, |_, o| o.verified == Some(true)),
    test("min_confidence", |f| f.min_confidence.is_some(), |f, o| f.min_confidence.is_none_or(|least| o.confidence >= least)),
    test("template_hash_id", |f| f.needs.is_some(), |f, o| f.needs.as_ref().is_none_or(|needs| needs.met_by(o).is_ok())),
    test("excluded_machines", |f| !f.excluded_machines.is_empty(), |f, o| !f.excluded_machines.contains(&o.machine)),
    test("host_end", |f| f.host_end_after.is_some(), |f, o| f.host_end_after.is_none_or(|end| o.host_end.is_none_or(|host| host >= end))),
];

fn in_region(region: &Region, asked: &str) -> bool {
    if region.country.as_deref().is_some_and(|code| region::names(asked.trim(), code)) {
        return true;
    }
    let asked = asked.trim();
    if asked.chars().count() <= 2 {
        return false;
    }
    let mut part = false;
    let mut is_whole = |text: &str, at: usize, length: usize| {
        let ends = |beside: Option<char>| beside.is_none_or(|c| !c.is_alphanumeric());
        part = true;
        ends(text[..at].chars().next_back()) && ends(text[at + length..].chars().next())
    };
    let whole = if asked.is_ascii() && region.raw.is_ascii() {
        // Without a copy of either.
        let mut places = region.raw.as_bytes().windows(asked.len()).enumerate();
        places.any(|(at, place)| place.eq_ignore_ascii_case(asked.as_bytes()) && is_whole(&region.raw, at, asked.len()))
    } else {
        let (text, asked) = (region.raw.to_lowercase(), asked.to_lowercase());
        text.match_indices(&asked).any(|(at, place)| is_whole(&text, at, place.len()))
    };
    // Indiana is not in India, nor Romania in Oman.
    whole || (part && region::country(asked).is_none())
}

/// What offers are ordered by, always ascending by what is better for the user; ties by price, then id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferOrder {
    /// Cheapest first, all in.
    #[default]
    Price,
    /// Cheapest per GPU first.
    PricePerGpu,
    /// Cheapest per hour of a *usable* machine first.
    ExpectedCost,
    /// Most reliable first; untold last.
    Reliability,
    /// Most memory per GPU first.
    GpuMemory,
}

impl OfferOrder {
    /// Every order with its word.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("price", Self::Price),
        ("price_per_gpu", Self::PricePerGpu),
        ("expected_cost", Self::ExpectedCost),
        ("reliability", Self::Reliability),
        ("gpu_memory", Self::GpuMemory),
    ];

    /// What an offer is ordered by for a rental with this disk: the smaller the better. Ties go by price, then by id.
    #[must_use]
    pub fn rank(self, offer: &Offer, disk_gb: Option<u32>) -> Rank<'_> {
        let price = offer.price(disk_gb).total();
        let first = match self {
            Self::Price => 0,
            Self::PricePerGpu => price.scaled(1, i64::from(offer.gpu_count)).0,
            Self::ExpectedCost => offer.expected_cost(disk_gb).0,
            // A share as an integer, far finer than any vendor states it.
            Self::Reliability => -((offer.reliability.unwrap_or(-1.0).clamp(-1.0, 1.0) * 1e15) as i64),
            Self::GpuMemory => -i64::from(offer.gpu_memory_mib),
        };
        Rank { first, price, id: &offer.id }
    }

    /// Compares two offers for a rental with this disk.
    #[must_use]
    pub fn compare(self, a: &Offer, b: &Offer, disk_gb: Option<u32>) -> Ordering {
        self.rank(a, disk_gb).cmp(&self.rank(b, disk_gb))
    }
}

/// An offer's place in an order; see [`OfferOrder::rank`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank<'a> {
    first: i64,
    price: Rate,
    id: &'a OfferId,
}

/// For tests of the domain: one RTX 4090 for $0.36, no disk price, one slot.
#[cfg(test)]
pub(crate) fn sample(name: &str) -> Offer {
    Offer {
        id: OfferId::new(&format!("vastai-{name}")),
        provider: ProviderId::new("vastai"),
        machine: MachineId::new(&format!("vastai:{name}")),
        host: None,
        gpu: GpuModel::canonical("RTX 4090"),
        gpu_raw: Arc::from("RTX 4090"),
        gpu_count: 1,
        gpu_memory_mib: 24_576,
        region: Arc::default(),
        rental: RentalKind::OnDemand,
        min_bid: None,
        base: Price { gpu: Rate(360_000_000_000), ..Price::default() },
        disk: DiskTerms { min_gb: 8, step_gb: 1, default_gb: 50, ..DiskTerms::default() },
        traffic: Traffic::default(),
        reliability: None,
        verified: None,
        cuda: None,
        cpu_millis: None,
        memory_mib: None,
        direct_ports: None,
        host_end: None,
        slots: Some(1),
        confidence: 0.5,
        prior: Prior(0.5),
        seen_at: Time::default(),
        memo: Memo::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_countrys_name_is_no_part_of_another_place() {
        let place = |country: Option<&str>, raw: &str| Region { country: country.map(str::to_owned), area: None, raw: raw.to_owned() };
        for (country, raw, asked, found) in [
            (Some("US"), "Indiana, US", "India", false),
            (Some("US"), "Indiana, US", "indiana", true),
            (Some("US"), "Indiana, US", "ndian", true),
            (Some("IN"), "Mumbai, IN", "India", true),
            (None, "Mumbai, India", "india", true),
            (Some("RO"), "Bucharest, Romania", "Oman", false),
            (Some("NG"), "Lagos, Nigeria", "Niger", false),
            (Some("US"), "Georgia, US", "Georgia", true),
            (None, "São Tomé, Omanéa", "Oman", false),
            (None, "São Tomé, Oman", "OMAN", true),
            (Some("US"), "Texas, US", "xa", false),
            (Some("US"), "Texas, US", " tex ", true),
            (Some("US"), "", "Texas", false),
        ] {
            assert_eq!(in_region(&place(country, raw), asked), found, "{asked} in {raw}");
        }
    }
}
