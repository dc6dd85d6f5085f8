//! What is on the simulated market: a catalogue made from a seed, in sizes and prices as they are met in the field,
//! with the oddities of real listings (regions like `", CN"`, modified cards, hosts without direct ports, missing
//! fields, sold-out places).
//!
//! Disk prices are whole micro-dollars per GB and hour, so that monthly prices have few decimals and nothing is
//! rounded between what a listing states and what its bill charges.

use crate::domain::money::{Nanos, Rate};
use crate::sim::Dialect;
use crate::sim::cards::{CARDS, Card};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Hours in a vendor's month of storage.
pub const HOURS_PER_MONTH: i64 = 720;

/// One thing that can be rented, with its host's hidden quality.
#[derive(Debug)]
pub struct Listing {
    /// Decides which bound faults strike here, and how fast the host is.
    pub quality: u64,
    /// The GPU model.
    pub card: &'static Card,
    /// GPU memory that is reported, MiB: a modified card has more than its model.
    pub gpu_mib: u32,
    /// What the vendor tells beyond that.
    pub kind: Kind,
}

/// A slice of a machine, or a place with stock.
#[derive(Debug)]
pub enum Kind {
    /// Vast.ai: one slice of one machine.
    Ask(AskFacts),
    /// TensorDock: a GPU model at a location.
    Place(PlaceFacts),
}

/// A slice of a machine at Vast.ai.
#[derive(Debug)]
pub struct AskFacts {
    /// The machine.
    pub machine_id: u64,
    /// Its owner.
    pub host_id: u64,
    /// GPUs of this slice, and of the whole machine.
    pub gpus: (u32, u32),
    /// Dollars per hour for the slice without disk.
    pub base: Rate,
    /// The lowest winning bid.
    pub min_bid: Rate,
    /// Dollars per GB of disk and hour.
    pub disk_per_gb: Rate,
    /// Dollars per GB sent and received.
    pub traffic: (Nanos, Nanos),
    /// Free disk, GB.
    pub disk_gb: u32,
    /// Where it stands, in the vendor's words.
    pub geolocation: Option<&'static str>,
    /// `verified`, `unverified` or `deverified`.
    pub verification: &'static str,
    /// In millionths.
    pub reliability_ppm: u32,
    /// Ports of the host that can be mapped; 0 means that only the proxy reaches it.
    pub direct_ports: u32,
    /// Whether the address is static.
    pub static_ip: bool,
    /// Its address.
    pub address: String,
    /// CPU cores of the whole machine; `None` as some hosts report it.
    pub cpu_cores: Option<u32>,
    /// Memory of the whole machine, MB.
    pub cpu_ram_mb: u32,
    /// CPU model.
    pub cpu_name: &'static str,
    /// Driver version and highest CUDA version × 10.
    pub driver: (&'static str, u32),
    /// Seconds from the market's beginning to the end of the host's listing.
    pub listed_s: u64,
    /// Megabits per second up and down.
    pub inet: (u32, u32),
}

/// A GPU model at a TensorDock location.
#[derive(Debug)]
pub struct PlaceFacts {
    /// The location.
    pub location: Arc<Location>,
    /// How many there are.
    pub stock: u32,
    /// One GPU, per hour.
    pub per_gpu: Rate,
    /// One virtual CPU, one GB of memory and one GB of disk, per hour.
    pub per_part: (Rate, Rate, Rate),
    /// Whether the location tells those three at all.
    pub tells_parts: bool,
    /// Whether a dedicated address can be had.
    pub dedicated_ip: bool,
}

/// A TensorDock location.
#[derive(Debug)]
pub struct Location {
    /// Its id, a UUID.
    pub id: String,
    /// City.
    pub city: &'static str,
    /// State or province.
    pub state: &'static str,
    /// Country, as the vendor writes it.
    pub country: &'static str,
    /// 0 (residential) to 4.
    pub tier: u32,
    /// Whether its GPUs come as a map instead of an array.
    pub gpus_as_map: bool,
}

impl Listing {
    /// Which vendor lists it.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self.kind {
            Kind::Ask(_) => Dialect::Vastai,
            Kind::Place(_) => Dialect::Tensordock,
        }
    }

    /// What identifies the machine or place in reports.
    #[must_use]
    pub fn machine(&self) -> String {
        match &self.kind {
            Kind::Ask(ask) => ask.machine_id.to_string(),
            Kind::Place(place) => format!("{}:{}", place.location.id, self.card.tensordock.0),
        }
    }
}

/// Everything on the market for a seed: at least 260 asks and 40 locations, or `times` as many of each.
#[must_use]
pub fn catalogue(seed: u64, times: usize) -> Vec<Arc<Listing>> {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
    let mut listings = asks(&mut dice, times);
    for _ in 0..times.max(1) {
        listings.extend(places(&mut dice));
    }
    listings.into_iter().map(Arc::new).collect()
}

/// Numbers from the seed.
pub(super) struct Dice(pub ChaCha8Rng);

impl Dice {
    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `end`; 0 for 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end.max(1)
    }

    /// A number of both bounds' range.
    pub fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    fn small(&mut self, from: u32, to: u32) -> u32 {
        u32::try_from(self.within(from.into(), to.into())).unwrap_or(from)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = self.below(u64::try_from(from.len()).unwrap_or(0));
        from.get(usize::try_from(index).unwrap_or(0)).copied()
    }

    /// A price changed to between `from` and `to` percent of itself, to the hundredth of a cent or, as real ones are,
    /// with many decimals.
    fn vary(&mut self, price: Rate, from: u64, to: u64) -> Rate {
        let varied = price.scaled(i64::try_from(self.within(from * 100, to * 100)).unwrap_or(10_000), 10_000);
        if self.below(3) == 0 { varied.scaled(2, 3) } else { Rate(varied.0 / 100_000_000 * 100_000_000) }
    }

    /// A version 4 UUID.
    pub fn uuid(&mut self) -> String {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    fn card(&mut self, wanted: impl Fn(&Card) -> bool) -> &'static Card {
        let all: u64 = CARDS.iter().filter(|card| wanted(card)).map(|card| u64::from(card.weight)).sum();
        let mut at = self.below(all);
        for card in CARDS.iter().filter(|card| wanted(card)) {
            match at.checked_sub(card.weight.into()) {
                Some(rest) => at = rest,
                None => return card,
            }
        }
        &CARDS[0]
    }
}

/// Enough for every filter to have something left.
const ASKS: usize = 264;
/// What a place takes for its parts that does not tell it.
const USUAL_PARTS: (Rate, Rate, Rate) = (Rate(3_000_000_000), Rate(2_000_000_000), Rate(50_000_000));

fn asks(dice: &mut Dice, times: usize) -> Vec<Listing> {
    let mut listings = Vec::new();
    let mut machine_id = 4_000;
    while listings.len() < ASKS * times.max(1) {
        machine_id += dice.within(3, 211);
        // The commonest cards come first, so that a small look always finds them; the rest by chance.
        let first = CARDS.get(listings.len()).filter(|_| listings.len() < CARDS.len());
        let card = first.unwrap_or_else(|| dice.card(|_| true));
        let most = if card.millicents > 60_000 { 8 } else { 4 };
        let whole = [1, 1, 2, 4, 8].iter().copied().filter(|n| *n <= most).collect::<Vec<u32>>();
        let whole = dice.pick(&whole).unwrap_or(1);
        let slice = if dice.below(3) == 0 { whole.div_ceil(2) } else { whole };
        let host = Host::of(dice, machine_id, card, whole);
        (0..whole / slice).for_each(|_| listings.push(host.slice(dice, slice)));
    }
    odd_asks(&mut listings);
    listings
}

/// What the slices of one machine have in common.
struct Host {
    machine_id: u64,
    card: &'static Card,
    whole: u32,
    per_gpu: Rate,
    min_bid_percent: i64,
    cpu_name: &'static str,
    quality: u64,
    geolocation: Option<&'static str>,
    verification: &'static str,
    reliability_ppm: u32,
    direct_ports: u32,
    disk_per_gb: Rate,
    traffic: (Nanos, Nanos),
    address: String,
    driver: (&'static str, u32),
    cpu: (u32, u32),
    inet: (u32, u32),
    disk_gb: u32,
    listed_s: u64,
    host_id: u64,
}

impl Host {
    fn of(dice: &mut Dice, machine_id: u64, card: &'static Card, whole: u32) -> Self {
        let cheap_disk = [100, 125, 139, 150, 200, 209, 250];
        let reliable = dice.below(10);
        let new_driver = card.capability >= 1000 || dice.below(3) > 0;
        Self {
            machine_id,
            card,
            whole,
            per_gpu: dice.vary(card.price(), 72, 150),
            min_bid_percent: i64::try_from(dice.within(40, 85)).unwrap_or(60),
            cpu_name: dice.pick(CPUS).unwrap_or("AMD EPYC 7642 48-Core Processor"),
            quality: dice.bits(),
            geolocation: dice.pick(REGIONS).flatten(),
            verification: dice
                .pick(&["verified", "verified", "verified", "verified", "unverified", "unverified", "deverified"])
                .unwrap_or("verified"),
            reliability_ppm: if reliable == 0 { dice.small(610_000, 950_000) } else { dice.small(950_000, 999_900) },
            direct_ports: if dice.below(9) == 0 { 0 } else { dice.small(10, 400) },
            disk_per_gb: Rate(i64::from(dice.pick(&cheap_disk).unwrap_or(150)) * 1_000_000),
            traffic: dice
                .pick(&[(0, 0), (0, 0), (2, 2), (5, 5), (20, 20), (39, 20)])
                .map_or((Nanos(0), Nanos(0)), |(up, down)| (Nanos(up * 1_000_000), Nanos(down * 1_000_000))),
            address: format!("203.0.113.{}", dice.within(1, 254)),
            driver: if new_driver {
                dice.pick(&[("570.133.20", 128), ("575.57.08", 129), ("580.95.05", 130)]).unwrap_or(("570.133.20", 128))
            } else {
                dice.pick(&[("535.183.01", 122), ("550.54.15", 124), ("560.35.05", 126)]).unwrap_or(("550.54.15", 124))
            },
            cpu: (dice.small(4, 32) * 4, dice.small(1, 8) * 64_393),
            inet: (dice.small(50, 2_200), dice.small(80, 8_000)),
            disk_gb: dice.small(120, 3_800),
            listed_s: if dice.below(12) == 0 { dice.within(3_600, 40_000) } else { dice.within(200_000, 14_000_000) },
            host_id: dice.within(1_000, 310_000),
        }
    }

    fn slice(&self, dice: &mut Dice, gpus: u32) -> Listing {
        let base = self.per_gpu.times(gpus);
        let facts = AskFacts {
            machine_id: self.machine_id,
            host_id: self.host_id,
            gpus: (gpus, self.whole),
            base,
            min_bid: Rate(base.scaled(self.min_bid_percent, 100).0 / 100_000_000 * 100_000_000),
            disk_per_gb: self.disk_per_gb,
            traffic: self.traffic,
            disk_gb: self.disk_gb.max(120),
            geolocation: self.geolocation,
            verification: self.verification,
            reliability_ppm: self.reliability_ppm,
            direct_ports: self.direct_ports,
            static_ip: dice.below(3) == 0,
            address: self.address.clone(),
            cpu_cores: Some(self.cpu.0),
            cpu_ram_mb: self.cpu.1,
            cpu_name: self.cpu_name,
            driver: self.driver,
            listed_s: self.listed_s,
            inet: self.inet,
        };
        Listing { quality: self.quality, card: self.card, gpu_mib: self.card.mib, kind: Kind::Ask(facts) }
    }
}

/// Oddities that must be there whatever the seed says.
fn odd_asks(listings: &mut [Listing]) {
    let last = listings.len().saturating_sub(1);
    let mut change = |index: usize, with: &dyn Fn(&mut AskFacts)| {
        if let Some(Listing { kind: Kind::Ask(facts), .. }) = listings.get_mut(index.min(last)) {
            with(facts);
        }
    };
    change(40, &|ask| ask.cpu_cores = None);
    change(41, &|ask| ask.geolocation = None);
    change(42, &|ask| ask.geolocation = Some(", CN"));
    change(43, &|ask| ask.geolocation = Some("Hafnarfjarðarkaupstaður, IS"));
    change(44, &|ask| ask.direct_ports = 0);
    change(45, &|ask| ask.verification = "deverified");
    change(46, &|ask| ask.listed_s = 5_400);
    change(47, &|ask| ask.address.push_str(" \n"));
    // A 4090 with doubled memory: the name doesn't tell.
    if let Some(modified) = listings.iter_mut().rev().find(|listing| listing.card.vastai == "RTX 4090") {
        modified.gpu_mib = 49_140;
    }
}

fn places(dice: &mut Dice) -> Vec<Listing> {
    let mut listings = Vec::new();
    for (index, (city, state, country)) in CITIES.iter().enumerate() {
        let location = Arc::new(Location { id: dice.uuid(), city, state, country, tier: dice.small(0, 4), gpus_as_map: index == 5 });
        let mut cards: Vec<&'static Card> = Vec::new();
        for _ in 0..dice.within(1, 5) {
            let card = dice.card(|card| !card.tensordock.0.is_empty());
            if !cards.contains(&card) {
                cards.push(card);
            }
        }
        let parts = (Rate(i64::from(dice.small(2, 5)) * 1_000_000_000), Rate(i64::from(dice.small(1, 3)) * 1_000_000_000), Rate(50_000_000));
        for card in cards {
            let stock = if dice.below(8) == 0 { 0 } else { dice.small(1, 8) };
            let facts = PlaceFacts {
                location: Arc::clone(&location),
                stock: if index == 0 { stock.max(4) } else { stock },
                per_gpu: dice.vary(card.price(), 85, 140),
                // One does not tell what they cost, and takes what is usual.
                per_part: if index == 7 { USUAL_PARTS } else { parts },
                tells_parts: index != 7,
                dedicated_ip: dice.below(3) > 0,
            };
            listings.push(Listing { quality: dice.bits(), card, gpu_mib: card.mib, kind: Kind::Place(facts) });
        }
    }
    // One place that is surely sold out.
    if let Some(Listing { kind: Kind::Place(facts), .. }) = listings.last_mut() {
        facts.stock = 0;
    }
    listings
}

const CPUS: &[&str] = &["AMD EPYC 7642 48-Core Processor", "AMD Ryzen 9 7950X 16-Core Processor", "Xeon® Gold 6248R", "Core™ i9-13900K"];

const REGIONS: &[Option<&str>] = &[
    Some("California, US"),
    Some("Texas, US"),
    Some("Washington, US"),
    Some("Michigan, US, NA"),
    Some(", US, NA"),
    Some("Quebec, CA"),
    Some("Germany, DE"),
    Some("France, FR, EU"),
    Some("Norway"),
    Some("Norway, NO"),
    Some("Sofia-Capital, BG"),
    Some("Bács-Kiskun, HU, EU"),
    Some("Czechia, CZ"),
    Some("Poland, PL"),
    Some("United Kingdom, GB"),
    Some("Sweden, SE"),
    Some("Guangxi, CN"),
    Some(", CN"),
    Some("Hong Kong, HK"),
    Some("Taiwan, TW"),
    Some("Vietnam, VN"),
    Some("Thailand, TH"),
    Some("Japan, JP"),
    Some("South Korea, KR"),
    Some("Maharashtra, IN"),
    Some("Australia, AU"),
    Some("São Paulo, BR"),
    None,
];

const CITIES: &[(&str, &str, &str)] = &[
    ("Chubbuck", "Idaho", "United States"),
    ("Austin", "Texas", "United States"),
    ("Dallas", "Texas", "United States"),
    ("Ashburn", "VA", "USA"),
    ("Wilmington", "Delaware", "United States"),
    ("Frankfurt", "", "Germany"),
    ("Manassas", "Virginia", "United States"),
    ("Joplin", "Missouri", "United States"),
    ("Orlando", "Florida", "United States"),
    ("New York City", "New York", "United States"),
    ("Los Angeles", "California", "United States"),
    ("San Jose", "California", "United States"),
    ("Seattle", "Washington", "United States"),
    ("Chicago", "Illinois", "United States"),
    ("Las Vegas", "Nevada", "United States"),
    ("Phoenix", "Arizona", "United States"),
    ("Atlanta", "Georgia", "United States"),
    ("Montreal", "Quebec", "Canada"),
    ("Toronto", "Ontario", "Canada"),
    ("Winnipeg", "Manitoba", "Canada"),
    ("London", "England", "United Kingdom"),
    ("Manchester", "England", "United Kingdom"),
    ("Paris", "Île-de-France", "France"),
    ("Amsterdam", "North Holland", "Netherlands"),
    ("Groningen", "Groningen", "Netherlands"),
    ("Warsaw", "Masovia", "Poland"),
    ("Prague", "", "Czech Republic"),
    ("Vienna", "", "Austria"),
    ("Zürich", "Zürich", "Switzerland"),
    ("Oslo", "", "Norway"),
    ("Stockholm", "", "Sweden"),
    ("Helsinki", "Uusimaa", "Finland"),
    ("Tallinn", "Harju", "Estonia"),
    ("Madrid", "", "Spain"),
    ("Lisbon", "", "Portugal"),
    ("Sofia", "", "Bulgaria"),
    ("Singapore", "", "Singapore"),
    ("Tokyo", "", "Japan"),
    ("Mumbai", "Maharashtra", "India"),
    ("Sydney", "New South Wales", "Australia"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_catalogue() {
        let text = |seed| format!("{:?}", catalogue(seed, 1));
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn some_hundreds_of_listings_with_the_known_oddities() {
        for seed in [0, 1, 42, 20_260_301] {
            let all = catalogue(seed, 1);
            let asks: Vec<(&Listing, &AskFacts)> =
                all.iter().filter_map(|l| if let Kind::Ask(ask) = &l.kind { Some((&**l, ask)) } else { None }).collect();
            let places: Vec<&PlaceFacts> = all.iter().filter_map(|l| if let Kind::Place(place) = &l.kind { Some(place) } else { None }).collect();
            assert!(asks.len() >= 260 && places.len() >= 60, "{} asks, {} places", asks.len(), places.len());
            assert!(asks.iter().any(|(l, _)| l.card.vastai == "RTX 4090" && l.gpu_mib == 49_140));
            assert!(asks.iter().any(|(_, a)| a.cpu_cores.is_none()) && asks.iter().any(|(_, a)| a.geolocation.is_none()));
            assert!(asks.iter().any(|(_, a)| a.direct_ports == 0) && asks.iter().any(|(_, a)| a.direct_ports > 0));
            assert!(asks.iter().any(|(_, a)| a.verification == "deverified") && asks.iter().any(|(_, a)| a.gpus.0 < a.gpus.1));
            assert!(asks.iter().all(|(_, a)| a.base > Rate::ZERO && a.min_bid > Rate::ZERO && a.min_bid < a.base));
            assert!(places.iter().any(|p| p.stock == 0) && places.iter().any(|p| !p.tells_parts) && places.iter().any(|p| !p.dedicated_ip));
            assert!(places.iter().any(|p| p.location.gpus_as_map));
            for card in CARDS {
                assert!(asks.iter().any(|(l, _)| l.card == card), "{}", card.smi);
            }
        }
    }

    #[test]
    fn monthly_disk_prices_are_exact() {
        for listing in catalogue(3, 1) {
            if let Kind::Ask(ask) = &listing.kind {
                let monthly = Rate(ask.disk_per_gb.0 * HOURS_PER_MONTH).decimal();
                assert!(monthly.len() <= 8, "{monthly}");
            }
        }
    }
}
