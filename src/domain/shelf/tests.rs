//! However a shelf came about, it answers as one that was laid out with the same offers.

use super::*;
use crate::domain::ids::{MachineId, ProviderId};
use crate::domain::offer::{DiskTerms, Price, RentalKind, sample};
use proptest::prelude::*;

const REGIONS: [(&str, &str); 3] = [("US", "Texas, US"), ("US", "California, US"), ("NO", "Norway")];

fn region((country, raw): (&str, &str)) -> Region {
    Region { country: Some(country.to_owned()), area: None, raw: raw.to_owned() }
}

const MODELS: [&str; 4] = ["RTX 4090", "A100 PCIE", "H100 SXM", "L4"];

fn offers() -> impl Strategy<Value = Vec<Offer>> {
    let one = (0..MODELS.len(), 1..4_i64, 1..3_u32, 1..=10_u32, 0..6_usize, 10..60_u32);
    proptest::collection::vec(one, 0..24).prop_map(|all| {
        let offer = |(number, (model, cents, count, tenths, place, default_gb)): (usize, (usize, i64, u32, u32, usize, u32))| Offer {
            provider: ProviderId::new(["vastai", "tensordock"][place % 2]),
            region: Arc::new(region(REGIONS[place / 2])),
            machine: MachineId::new(&format!("vastai:{}", number / 2)),
            gpu: GpuModel::canonical(MODELS[model]),
            gpu_count: count,
            confidence: f64::from(tenths) / 10.0,
            base: Price { gpu: Rate(cents * 10_000_000_000), ..Price::default() },
            disk: DiskTerms { per_gb: Rate(100_000_000), default_gb, ..sample("").disk },
            rental: if number % 3 == 0 { RentalKind::Interruptible } else { RentalKind::OnDemand },
            ..sample(&number.to_string())
        };
        all.into_iter().enumerate().map(offer).collect()
    })
}

/// What happens to a place: its offer is gone, or stands there with another chance.
fn happenings() -> impl Strategy<Value = Vec<Vec<(Place, Option<u32>)>>> {
    let one = (0..26_usize, proptest::option::of(1..=10_u32));
    proptest::collection::vec(proptest::collection::vec(one, 1..6), 0..5)
}

fn ids<'a>(offers: impl IntoIterator<Item = &'a Arc<Offer>>) -> Vec<&'a OfferId> {
    offers.into_iter().map(|offer| &offer.id).collect()
}

proptest! {
    #[test]
    fn a_shelf_that_changed_is_one_laid_out_anew(offers in offers(), happenings in happenings(), skip in 0..8_usize, size in 0..9_usize, disk in proptest::option::of(1..80_u32)) {
        let laid: Vec<Arc<Offer>> = offers.into_iter().map(Arc::new).collect();
        let mut stands: Vec<Option<Arc<Offer>>> = laid.iter().cloned().map(Some).collect();
        let mut shelf = Shelf::new(laid.clone());
        for happens in happenings {
            // Asked before, too: what was worked out for the shelf before this one is shared with it.
            let _ = shelf.page(&OfferFilter::default(), OfferOrder::ExpectedCost, 0, 5);
            let now = |(place, tenths): (Place, Option<u32>)| {
                let offer = laid.get(place).zip(tenths).map(|(offer, n)| Arc::new(Offer { confidence: f64::from(n) / 10.0, ..(**offer).clone() }));
                (place, offer)
            };
            let changes: Vec<_> = happens.into_iter().map(now).collect();
            for (place, offer) in &changes {
                if let Some(stand) = stands.get_mut(*place) {
                    stand.clone_from(offer);
                }
            }
            shelf = shelf.but(changes);
        }
        let all: Vec<Arc<Offer>> = stands.iter().flatten().cloned().collect();
        prop_assert_eq!((shelf.len(), shelf.is_empty()), (all.len(), all.is_empty()));
        prop_assert_eq!(ids(shelf.iter()), ids(&all));
        for (place, offer) in stands.iter().enumerate() {
            prop_assert_eq!(shelf.at(place), offer.as_ref());
        }
        for offer in &laid {
            prop_assert_eq!(shelf.get_by_id(&offer.id), all.iter().find(|o| o.id == offer.id));
        }
        let anew = Shelf::new(all.clone());
        let row = |r: &GpuModelRow| (r.model.clone(), r.memory_mib, r.offers, r.gpus, r.min_price_per_gpu, r.providers.clone());
        prop_assert_eq!(shelf.models().iter().map(row).collect::<Vec<_>>(), anew.models().iter().map(row).collect::<Vec<_>>());
        let model = |name: &str| OfferFilter { gpu_models: vec![GpuModel::canonical(name)], ..OfferFilter::default() };
        let filters = [
            OfferFilter { disk_gb: disk, ..OfferFilter::default() },
            OfferFilter { disk_gb: disk, ..model("A100") },
            OfferFilter { rental: Some(RentalKind::OnDemand), disk_gb: disk, ..OfferFilter::default() },
            OfferFilter { regions: vec!["california".to_owned(), "NO".to_owned()], disk_gb: disk, ..OfferFilter::default() },
            OfferFilter { regions: vec!["texas".to_owned()], disk_gb: disk, ..model("A100") },
        ];
        for (filter, (_, order)) in filters.iter().flat_map(|filter| OfferOrder::WORDS.map(|order| (filter, order))) {
            let mut passing: Vec<&Arc<Offer>> = all.iter().filter(|o| filter.check(o).is_ok()).collect();
            passing.sort_by_key(|o| order.rank(o, disk));
            let (total, page) = shelf.page(filter, order, skip, size);
            prop_assert_eq!((total, ids(&page)), (passing.len(), ids(passing.iter().skip(skip).take(size).copied())));
            prop_assert_eq!(shelf.best(filter, order, &|o| filter.check(o).is_ok()), passing.first().copied());
        }
    }
}

/// Sizes of disks that nobody has asked for before are answered as well when no more of their orders are kept.
#[test]
fn any_number_of_disk_sizes_is_answered() {
    let dear = Offer { disk: DiskTerms { per_gb: Rate(1_000_000_000), ..sample("").disk }, ..sample("dear-disk") };
    let cheap = Offer { base: Price { gpu: Rate(370_000_000_000), ..Price::default() }, ..sample("no-disk-price") };
    let shelf = Shelf::new(vec![Arc::new(dear), Arc::new(cheap)]);
    for gb in 1..100 {
        let filter = OfferFilter { disk_gb: Some(gb), ..OfferFilter::default() };
        let best = shelf.best(&filter, OfferOrder::Price, &|_| true).map(|o| o.id.to_string());
        assert_eq!(best.as_deref(), Some(if gb <= 10 { "vastai-dear-disk" } else { "vastai-no-disk-price" }), "{gb} GB");
    }
}
