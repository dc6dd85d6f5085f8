//! The offers of one snapshot, laid out for asking: what many questions need is worked out once, when the first of them comes.
//!
//! Nothing here changes what an answer is, only how long it takes. A snapshot that nobody asks costs nothing, which matters:
//! every launch makes one.

use crate::domain::gpu::GpuModel;
use crate::domain::ids::OfferId;
use crate::domain::memo::Memo;
use crate::domain::offer::{Offer, OfferFilter, OfferOrder, Rank};
use crate::services::api::GpuModelRow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Where an offer stands on its shelf.
type Place = usize;

/// See the module's header. Reads as a slice of its offers; clones are the same shelf.
#[derive(Clone, Debug, Default)]
pub struct Shelf(Arc<Laid>);

#[derive(Debug, Default)]
struct Laid {
    offers: Vec<Arc<Offer>>,
    /// All of them in each order, for the usual disk.
    sorted: [OnceLock<Vec<Place>>; OfferOrder::WORDS.len()],
    by_id: OnceLock<HashMap<OfferId, Place>>,
    by_model: OnceLock<BTreeMap<GpuModel, Vec<Place>>>,
    models: OnceLock<Vec<GpuModelRow>>,
    pinned: AtomicBool,
}

impl Deref for Shelf {
    type Target = [Arc<Offer>];
    fn deref(&self) -> &[Arc<Offer>] {
        &self.0.offers
    }
}

impl<'a> IntoIterator for &'a Shelf {
    type Item = &'a Arc<Offer>;
    type IntoIter = std::slice::Iter<'a, Arc<Offer>>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Shelf {
    /// A shelf with these.
    #[must_use]
    pub fn new(offers: Vec<Arc<Offer>>) -> Self {
        Self(Arc::new(Laid { offers, ..Laid::default() }))
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

    /// An offer by its id.
    #[must_use]
    pub fn get_by_id(&self, id: &OfferId) -> Option<Arc<Offer>> {
        // Of an id that a provider told twice, the first counts.
        let made = || self.iter().enumerate().rev().map(|(place, offer)| (offer.id.clone(), place)).collect();
        self.0.by_id.get_or_init(made).get(id).and_then(|place| self.get(*place)).cloned()
    }

    /// How many offers pass a filter, and those from the `skip`-th on in this order, at most `size`.
    #[must_use]
    pub fn page(&self, filter: &OfferFilter, order: OfferOrder, skip: usize, size: usize) -> (usize, Vec<Arc<Offer>>) {
        let sieve = filter.sieve();
        if sieve.is_open() {
            let places = self.sorted(order);
            let page = places.iter().skip(skip).take(size).filter_map(|place| self.get(*place)).cloned().collect();
            return (places.len(), page);
        }
        let disk = filter.disk_gb;
        let candidates: Box<dyn Iterator<Item = &Arc<Offer>>> = match self.of_models(filter) {
            Some(places) => Box::new(places.filter_map(|place| self.get(place))),
            None => Box::new(self.iter()),
        };
        let mut matching: Vec<(Rank<'_>, &Arc<Offer>)> = candidates.filter(|o| sieve.passes(o)).map(|o| (order.rank(o, disk), o)).collect();
        let next = skip.saturating_add(size).min(matching.len());
        // Only what comes up to the page's end is put in order.
        if next > 0 && next < matching.len() {
            matching.select_nth_unstable_by_key(next - 1, |(rank, _)| *rank);
        }
        matching[..next].sort_unstable_by_key(|(rank, _)| *rank);
        (matching.len(), matching[..next].iter().skip(skip).map(|(_, o)| Arc::clone(o)).collect())
    }

    fn sorted(&self, order: OfferOrder) -> &[Place] {
        static NONE: Vec<Place> = Vec::new();
        let make = || {
            let mut ranked: Vec<(Rank<'_>, Place)> = self.iter().enumerate().map(|(place, o)| (order.rank(o, None), place)).collect();
            ranked.sort_unstable();
            ranked.into_iter().map(|(_, place)| place).collect()
        };
        self.0.sorted.get(order.index()).map_or(&NONE, |made| made.get_or_init(make))
    }

    /// Where the offers of the wanted models stand; `None` when all models are wanted.
    fn of_models<'a>(&'a self, filter: &'a OfferFilter) -> Option<impl Iterator<Item = Place> + 'a> {
        if filter.gpu_models.is_empty() {
            return None;
        }
        let wanted = |model: &GpuModel| filter.gpu_models.iter().any(|asked| model.answers(asked));
        Some(self.by_model().iter().filter(move |(model, _)| wanted(model)).flat_map(|(_, places)| places.iter().copied()))
    }

    fn by_model(&self) -> &BTreeMap<GpuModel, Vec<Place>> {
        self.0.by_model.get_or_init(|| {
            let mut all: BTreeMap<GpuModel, Vec<Place>> = BTreeMap::new();
            for (place, offer) in self.iter().enumerate() {
                match all.get_mut(&offer.gpu) {
                    Some(places) => places.push(place),
                    None => drop(all.insert(offer.gpu.clone(), vec![place])),
                }
            }
            all
        })
    }

    /// What is on offer by GPU model and memory, in that order.
    #[must_use]
    pub fn models(&self) -> &[GpuModelRow] {
        self.0.models.get_or_init(|| {
            let mut rows: BTreeMap<(&GpuModel, u32), GpuModelRow> = BTreeMap::new();
            for offer in self {
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
