//! The offers of one moment, laid out for asking: what many questions need is worked out once, when the first of them comes.
//!
//! A shelf on which little changed shares everything else with the one before ([`Shelf::but`]): each launch takes an offer
//! away and each machine that came to be, or did not, moves the chances of a few, and none of that is worth laying out
//! tens of thousands anew. Nothing here changes what an answer is, only how long it takes.

use crate::domain::gpu::GpuModel;
use crate::domain::ids::{OfferId, ProviderId};
use crate::domain::memo::Memo;
use crate::domain::money::Rate;
use crate::domain::offer::{Offer, OfferFilter, OfferOrder, Rank, Region};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Where an offer stands on its shelf: the same on all that share a lay-out.
pub type Place = usize;

/// What is on offer of one GPU model and memory size.
#[derive(Clone, Debug)]
pub struct GpuModelRow {
    /// Canonical model.
    pub model: String,
    /// Memory of one GPU, MiB.
    pub memory_mib: u32,
    /// Offers with it.
    pub offers: usize,
    /// GPUs in those offers.
    pub gpus: u64,
    /// The cheapest price per GPU and hour, all in.
    pub min_price_per_gpu: Rate,
    /// Providers that have it.
    pub providers: Vec<ProviderId>,
    /// For whoever tells of it.
    pub memo: Memo,
}

/// See the module's header. Clones are the same shelf.
#[derive(Clone, Debug, Default)]
pub struct Shelf(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    laid: Arc<Laid>,
    /// What stands elsewhere than it was laid: another version of the offer, or nothing any more.
    changes: BTreeMap<Place, Option<Arc<Offer>>>,
    count: usize,
    models: OnceLock<Vec<GpuModelRow>>,
    pinned: AtomicBool,
}

/// Places that are looked at, in no order.
type Candidates<'a> = Box<dyn Iterator<Item = Place> + 'a>;

/// All that was laid out in one order: which place comes at which position, and at which position each place comes.
#[derive(Clone, Debug)]
struct Sorted {
    places: Arc<[u32]>,
    positions: Arc<[u32]>,
}

#[derive(Debug, Default)]
struct Laid {
    offers: Vec<Arc<Offer>>,
    /// All of them in each order, for each size of disk that was asked for.
    sorted: Mutex<HashMap<(OfferOrder, Option<u32>), Sorted>>,
    by_id: OnceLock<HashMap<OfferId, Place>>,
    by_model: OnceLock<BTreeMap<GpuModel, Vec<Place>>>,
    by_region: OnceLock<BTreeMap<Arc<Region>, Vec<Place>>>,
}

/// Sizes of disks and orders for which the places are kept; whoever asks for one more has every offer looked at.
const MOST_SORTED: usize = 16;

impl Laid {
    fn sorted(&self, order: OfferOrder, disk: Option<u32>) -> Option<Sorted> {
        let mut all = self.sorted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sorted) = all.get(&(order, disk)) {
            return Some(sorted.clone());
        }
        if all.len() >= MOST_SORTED {
            return None;
        }
        let mut ranked: Vec<(Rank<'_>, u32)> = self.offers.iter().zip(0..).map(|(o, place)| (order.rank(o, disk), place)).collect();
        ranked.sort_unstable();
        let places: Arc<[u32]> = ranked.into_iter().map(|(_, place)| place).collect();
        let mut positions = vec![0; places.len()];
        for (place, position) in places.iter().zip(0..) {
            positions[*place as Place] = position;
        }
        let sorted = Sorted { places, positions: positions.into() };
        all.insert((order, disk), sorted.clone());
        Some(sorted)
    }

    fn by_model(&self) -> &BTreeMap<GpuModel, Vec<Place>> {
        self.by_model.get_or_init(|| grouped(&self.offers, |offer| &offer.gpu))
    }

    fn by_region(&self) -> &BTreeMap<Arc<Region>, Vec<Place>> {
        self.by_region.get_or_init(|| grouped(&self.offers, |offer| &offer.region))
    }
}

/// The places of offers by something that many of them share.
fn grouped<K: Clone + Ord>(offers: &[Arc<Offer>], key: impl Fn(&Offer) -> &K) -> BTreeMap<K, Vec<Place>> {
    let mut all: BTreeMap<K, Vec<Place>> = BTreeMap::new();
    for (place, offer) in offers.iter().enumerate() {
        match all.get_mut(key(offer)) {
            Some(places) => places.push(place),
            None => drop(all.insert(key(offer).clone(), vec![place])),
        }
    }
    all
}

impl Shelf {
    /// A shelf with these, each at the place that it has among them.
    #[must_use]
    pub fn new(offers: Vec<Arc<Offer>>) -> Self {
        let count = offers.len();
        let laid = Arc::new(Laid { offers, ..Laid::default() });
        Self(Arc::new(Inner { laid, count, ..Inner::default() }))
    }

    /// The same shelf but for these places: another version of what stood there, of the same GPU model, region and id, or nothing.
    #[must_use]
    pub fn but(&self, changed: impl IntoIterator<Item = (Place, Option<Arc<Offer>>)>) -> Self {
        let (laid, mut changes, mut count) = (Arc::clone(&self.0.laid), self.0.changes.clone(), self.0.count);
        for (place, now) in changed.into_iter().filter(|(place, _)| *place < laid.offers.len()) {
            let is = now.is_some();
            let was = changes.insert(place, now).is_none_or(|was| was.is_some());
            count = count + usize::from(is) - usize::from(was);
        }
        Self(Arc::new(Inner { laid, changes, count, ..Inner::default() }))
    }

    /// What was laid out, by place, whatever stands there now.
    #[must_use]
    pub fn laid(&self) -> &[Arc<Offer>] {
        &self.0.laid.offers
    }

    /// On how many places something else stands than was laid there.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.0.changes.len()
    }

    /// Whether both were laid out once, and differ in their changes alone.
    #[must_use]
    pub fn shares_lay_out(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.laid, &other.0.laid)
    }

    /// A page token leads back to this shelf from now on.
    pub fn pin(&self) {
        self.0.pinned.store(true, Ordering::Relaxed);
    }

    /// Whether a page token leads back to it.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.0.pinned.load(Ordering::Relaxed)
    }

    /// How many offers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What stands at a place.
    #[must_use]
    pub fn at(&self, place: Place) -> Option<&Arc<Offer>> {
        match self.0.changes.get(&place) {
            None => self.0.laid.offers.get(place),
            Some(now) => now.as_ref(),
        }
    }

    /// All offers, by place.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Offer>> {
        let mut changes = self.0.changes.iter().peekable();
        self.0.laid.offers.iter().enumerate().filter_map(move |(place, offer)| match changes.next_if(|(at, _)| **at == place) {
            None => Some(offer),
            Some((_, now)) => now.as_ref(),
        })
    }

    /// An offer by its id.
    #[must_use]
    pub fn get_by_id(&self, id: &OfferId) -> Option<&Arc<Offer>> {
        // Of an id that a provider told twice, the first counts.
        let made = || self.0.laid.offers.iter().enumerate().rev().map(|(place, offer)| (offer.id.clone(), place)).collect();
        self.0.laid.by_id.get_or_init(made).get(id).and_then(|place| self.at(*place))
    }

    /// The best offer in this order that fits, for the filter's disk. Of the filter its GPU models and regions may be looked at first,
    /// to look at fewer offers; whether an offer passes it is for `fits` to say.
    #[must_use]
    pub fn best<'a>(&'a self, filter: &'a OfferFilter, order: OfferOrder, fits: &dyn Fn(&Offer) -> bool) -> Option<&'a Arc<Offer>> {
        let disk = filter.disk_gb;
        let sorted = if filter.gpu_models.is_empty() { self.0.laid.sorted(order, disk) } else { None };
        let Some(sorted) = sorted else {
            return self.candidates(filter).0.filter_map(|place| self.at(place)).filter(|o| fits(o)).min_by_key(|o| order.rank(o, disk));
        };
        let Inner { laid, changes, .. } = &*self.0;
        let places = sorted.places.iter().map(|place| *place as Place).filter(|place| !changes.contains_key(place));
        let laid = places.filter_map(|place| laid.offers.get(place)).find(|o| fits(o));
        laid.into_iter().chain(changes.values().flatten().filter(|o| fits(o))).min_by_key(|o| order.rank(o, disk))
    }

    /// How many offers pass a filter, and those from the `skip`-th on in this order, at most `size`.
    #[must_use]
    pub fn page(&self, filter: &OfferFilter, order: OfferOrder, skip: usize, size: usize) -> (usize, Vec<Arc<Offer>>) {
        let (sieve, disk) = (filter.sieve(), filter.disk_gb);
        let Inner { laid, changes, .. } = &*self.0;
        let Some(sorted) = laid.sorted(order, disk) else {
            return self.page_unsorted(filter, order, skip, size);
        };
        let mut changed: Vec<(Rank<'_>, &Arc<Offer>)> =
            changes.values().flatten().filter(|o| sieve.passes(o)).map(|o| (order.rank(o, disk), o)).collect();
        changed.sort_unstable_by_key(|(rank, _)| *rank);
        if sieve.is_open() {
            let places = sorted.places.iter().map(|place| *place as Place).filter(|place| !changes.contains_key(place));
            let offers = places.filter_map(|place| laid.offers.get(place));
            return (self.len(), merged(offers, changed, order, disk).skip(skip).take(size).cloned().collect());
        }
        let (candidates, passed) = self.candidates(filter);
        let sieve = sieve.without(passed);
        let passes = |place: &Place| !changes.contains_key(place) && laid.offers.get(*place).is_some_and(|o| sieve.passes(o));
        let mut positions: Vec<u32> = candidates.filter(passes).map(|place| sorted.positions[place]).collect();
        let total = positions.len() + changed.len();
        // Only what may come up to the page's end is put in order.
        let most = skip.saturating_add(size).min(positions.len());
        if most > 0 && most < positions.len() {
            positions.select_nth_unstable(most - 1);
        }
        positions.truncate(most);
        positions.sort_unstable();
        let offers = positions.iter().filter_map(|position| laid.offers.get(sorted.places[*position as usize] as Place));
        (total, merged(offers, changed, order, disk).skip(skip).take(size).cloned().collect())
    }

    /// The same for a disk that is one size too many to keep its order: each offer is ranked.
    fn page_unsorted(&self, filter: &OfferFilter, order: OfferOrder, skip: usize, size: usize) -> (usize, Vec<Arc<Offer>>) {
        let (sieve, disk) = (filter.sieve(), filter.disk_gb);
        let offers = self.candidates(filter).0.filter_map(|place| self.at(place)).filter(|o| sieve.passes(o));
        let mut matching: Vec<(Rank<'_>, &Arc<Offer>)> = offers.map(|o| (order.rank(o, disk), o)).collect();
        let next = skip.saturating_add(size).min(matching.len());
        if next > 0 && next < matching.len() {
            matching.select_nth_unstable_by_key(next - 1, |(rank, _)| *rank);
        }
        matching[..next].sort_unstable_by_key(|(rank, _)| *rank);
        (matching.len(), matching[..next].iter().skip(skip).map(|(_, o)| Arc::clone(o)).collect())
    }

    /// The places that a filter's GPU models leave, or else its regions; and the name of the field that they have passed thereby.
    fn candidates<'a>(&'a self, filter: &'a OfferFilter) -> (Candidates<'a>, &'static str) {
        let laid = &self.0.laid;
        if !filter.gpu_models.is_empty() {
            let wanted = |model: &GpuModel| filter.gpu_models.iter().any(|asked| model.answers(asked));
            return (Box::new(laid.by_model().iter().filter(move |(model, _)| wanted(model)).flat_map(|(_, places)| places).copied()), "gpu_models");
        }
        if !filter.regions.is_empty() {
            return (Box::new(laid.by_region().iter().filter(|(region, _)| filter.wants(region)).flat_map(|(_, places)| places).copied()), "regions");
        }
        (Box::new(0..laid.offers.len()), "")
    }

    /// What is on offer by GPU model and memory, in that order.
    #[must_use]
    pub fn models(&self) -> &[GpuModelRow] {
        self.0.models.get_or_init(|| {
            let mut rows: BTreeMap<(&GpuModel, u32), GpuModelRow> = BTreeMap::new();
            for offer in self.iter() {
                let per_gpu = offer.price(None).total().scaled(1, i64::from(offer.gpu_count));
                let row = rows.entry((&offer.gpu, offer.gpu_memory_mib)).or_insert_with(|| GpuModelRow {
                    model: offer.gpu.to_string(),
                    memory_mib: offer.gpu_memory_mib,
                    offers: 0,
                    gpus: 0,
                    min_price_per_gpu: per_gpu,
                    providers: Vec::new(),
                    memo: Memo::default(),
                });
                row.offers += 1;
                row.gpus += u64::from(offer.gpu_count);
                row.min_price_per_gpu = row.min_price_per_gpu.min(per_gpu);
                if !row.providers.contains(&offer.provider) {
                    row.providers.push(offer.provider.clone());
                }
            }
            rows.into_values().collect()
        })
    }
}

/// Offers as they were laid, in an order, and between them those that changed, in the same.
fn merged<'a>(
    laid: impl Iterator<Item = &'a Arc<Offer>>,
    changed: Vec<(Rank<'a>, &'a Arc<Offer>)>,
    order: OfferOrder,
    disk: Option<u32>,
) -> impl Iterator<Item = &'a Arc<Offer>> {
    let (mut laid, mut changed) = (laid.peekable(), changed.into_iter().peekable());
    std::iter::from_fn(move || match (laid.peek(), changed.peek()) {
        (Some(offer), Some((rank, _))) if order.rank(offer, disk) > *rank => changed.next().map(|(_, offer)| offer),
        (Some(_), _) => laid.next(),
        (None, _) => changed.next().map(|(_, offer)| offer),
    })
}

#[cfg(test)]
mod tests;
