//! What explanations say, and that what they propose helps.

use super::*;
use crate::domain::gpu::GpuModel;
use crate::domain::ids::{MachineId, ProviderId};
use crate::domain::offer::{DiskTerms, Price, Region, sample};
use crate::domain::template::Needs;
use crate::domain::time::Time;
use proptest::prelude::*;

fn rate(cents: i64) -> Rate {
    Rate(cents * 10_000_000_000)
}

fn priced(name: &str, cents: i64) -> Offer {
    Offer { base: Price { gpu: rate(cents), ..Price::default() }, ..sample(name) }
}

fn shelf(offers: Vec<Offer>) -> Shelf {
    Shelf::new(offers.into_iter().map(Arc::new).collect())
}

#[test]
fn each_field_is_counted_in_order_alone_and_by_what_it_alone_keeps_out() {
    let offers = shelf(vec![
        Offer { gpu_memory_mib: 16_384, ..priced("small", 20) },
        Offer { gpu_memory_mib: 16_384, ..priced("small-dear", 50) },
        priced("dear", 39),
        priced("dearer", 60),
    ]);
    let filter = OfferFilter { min_gpu_memory_mib: Some(24_576), max_price: Some(rate(30)), ..OfferFilter::default() };
    let told = explain(&offers, &filter);
    assert_eq!((told.total, told.passing), (4, 0));
    let effects: Vec<_> = told.effects.iter().map(|e| (e.field, e.removed, e.removed_alone, e.left_without)).collect();
    assert_eq!(effects, [("min_gpu_memory_mib", 2, 2, 1), ("max_price_per_hour", 2, 3, 2)]);
    let relaxations: Vec<_> = told.relaxations.iter().map(|r| (r.field, r.value.as_str(), r.offers, r.from, r.change)).collect();
    assert_eq!(relaxations, [("max_price_per_hour", "$0.39/h", 1, rate(39), 300), ("min_gpu_memory_mib", "16384", 1, rate(20), 333)]);
    assert_eq!(
        told.summary(),
        "none of 4 offers meets the request (min_gpu_memory_mib turns away 2, max_price_per_hour turns away 2); with max_price_per_hour $0.39/h, 1 \
         would, from $0.39/h"
    );
}

#[test]
fn where_no_single_change_helps_the_closest_is_named() {
    let offers = shelf(vec![Offer { gpu_count: 1, ..priced("near", 40) }, Offer { gpu: GpuModel::canonical("L4"), ..priced("far", 30) }]);
    let filter =
        OfferFilter { gpu_models: vec![GpuModel::canonical("RTX 4090")], gpu_count: Some(2), max_price: Some(rate(10)), ..OfferFilter::default() };
    let told = explain(&offers, &filter);
    assert!(told.relaxations.is_empty());
    assert_eq!(told.closest, Some((OfferId::new("vastai-near"), vec!["gpu_count", "max_price_per_hour"])));
    assert!(told.summary().contains("the closest, vastai-near, fails gpu_count and max_price_per_hour"), "{}", told.summary());
    assert_eq!(explain(&Shelf::default(), &filter), Explanation::default());
}

#[test]
fn a_smaller_disk_is_found_though_it_changes_the_price() {
    let disk = |max_gb| DiskTerms { per_gb: Rate(1_000_000_000), max_gb, ..sample("").disk };
    let offers = shelf(vec![Offer { disk: disk(150), ..priced("a", 10) }, Offer { disk: disk(90), ..priced("b", 10) }]);
    // 150 GB would cost $0.25, 90 GB cost $0.19.
    let filter = OfferFilter { disk_gb: Some(200), max_price: Some(rate(20)), ..OfferFilter::default() };
    let told = explain(&offers, &filter);
    assert_eq!((told.relaxations[0].field, told.relaxations[0].value.as_str(), told.relaxations[0].from), ("disk_gb", "90 GB", rate(19)));
}

fn any_offer() -> impl Strategy<Value = Offer> {
    let numbers = (0..6_u32, 1..5_u32, 1..200_i64, 0..3_usize, 0..4_usize);
    let told = (proptest::option::of(0..=100_u32), proptest::option::of(1200..1210_u32), proptest::option::of(any::<bool>()), 0..=100_u32);
    (numbers, told, proptest::option::of(0..5_i64)).prop_map(|((id, count, cents, model, place), (reliability, cuda, verified, chance), end)| Offer {
        gpu: GpuModel::canonical(["RTX 4090", "A100 SXM4", "L4"][model]),
        gpu_count: count,
        gpu_memory_mib: [24_576, 81_920, 23_034][model],
        provider: ProviderId::new(["vastai", "tensordock"][place % 2]),
        region: Arc::new(
            [("NO", "Norway"), ("", "Narnia"), ("", ""), ("US", "Texas, US")].map(|(code, raw)| Region {
                country: Some(code.to_owned()).filter(|c| !c.is_empty()),
                area: None,
                raw: raw.to_owned(),
            })[place]
                .clone(),
        ),
        rental: if chance % 2 == 0 { RentalKind::OnDemand } else { RentalKind::Interruptible },
        base: Price { gpu: Rate(cents * 3_333_333_333), ..Price::default() },
        disk: DiskTerms { per_gb: Rate(123_456), max_gb: id * 40, ..sample("").disk },
        reliability: reliability.map(|r| f64::from(r) / 99.7),
        cuda,
        verified,
        confidence: f64::from(chance) / 100.3,
        host_end: end.map(|hours| Time::from_millis(hours * 3_600_000)),
        ..sample(&id.to_string())
    })
}

fn any_filter() -> impl Strategy<Value = OfferFilter> {
    let lists = (
        proptest::option::of(0..2_usize),
        proptest::option::of(0..3_usize),
        proptest::option::of(0..2_usize),
        proptest::option::of(0..6_u32),
        any::<bool>(),
    );
    let numbers = (
        proptest::option::of(20_000..90_000_u32),
        proptest::option::of(20_000..90_000_u32),
        proptest::option::of(1..5_u32),
        proptest::option::of(1..5_u32),
        proptest::option::of(1..100_i64),
        proptest::option::of(1..100_i64),
        proptest::option::of(1..250_u32),
    );
    let told = (
        proptest::option::of(0..=100_u32),
        proptest::option::of(1200..1210_u32),
        any::<bool>(),
        proptest::option::of(0..=100_u32),
        proptest::option::of(any::<bool>()),
        proptest::option::of(0..5_i64),
    );
    (lists, numbers, told).prop_map(|(lists, numbers, told)| OfferFilter {
        providers: lists.0.map(|n| ProviderId::new(["vastai", "tensordock"][n])).into_iter().collect(),
        gpu_models: lists.1.map(|n| GpuModel::canonical(["RTX 4090", "A100", "H100"][n])).into_iter().collect(),
        regions: lists.2.map(|n| ["NO", "texas"][n].to_owned()).into_iter().collect(),
        excluded_machines: lists.3.map(|n| MachineId::new(&format!("vastai:{n}"))).into_iter().collect(),
        min_gpu_memory_mib: numbers.0,
        max_gpu_memory_mib: numbers.1,
        gpu_count: numbers.2,
        min_gpu_count: numbers.3,
        max_price: numbers.4.map(|n| Rate(n * 3_000_000_000)),
        max_price_per_gpu: numbers.5.map(|n| Rate(n * 3_000_000_000)),
        disk_gb: numbers.6,
        min_reliability: told.0.map(|n| f64::from(n) / 100.0),
        min_cuda: told.1,
        verified_only: told.2,
        min_confidence: told.3.map(|n| f64::from(n) / 100.0),
        rental: told.4.map(|bid| if bid { RentalKind::Interruptible } else { RentalKind::OnDemand }),
        host_end_after: told.5.map(|hours| Time::from_millis(hours * 3_600_000)),
        template: lists.4.then(|| "ab12".to_owned()),
        needs: lists.4.then(|| Needs { min_cuda: Some(1204), ..Needs::of(ProviderId::new("vastai")) }),
    })
}

/// Sets a number halfway between what was asked and what is proposed; `None` where there is nothing between.
fn halfway(asked: &OfferFilter, r: &Relaxation) -> Option<OfferFilter> {
    let whole = |a: Option<u32>, b: Option<u32>| a.zip(b).and_then(|(a, b)| (a.abs_diff(b) > 1).then(|| u32::midpoint(a, b)));
    let price = |a: Option<Rate>, b: Option<Rate>| a.zip(b).and_then(|(a, b)| (b.0 - a.0 > 2_000).then(|| Rate(i64::midpoint(a.0, b.0))));
    let share = |a: Option<f64>, b: Option<f64>| a.zip(b).and_then(|(a, b)| (a - b > 0.001).then(|| f64::midpoint(a, b)));
    let mut half = asked.clone();
    let found = match r.field {
        "min_gpu_memory_mib" => whole(asked.min_gpu_memory_mib, r.filter.min_gpu_memory_mib).map(|v| half.min_gpu_memory_mib = Some(v)),
        "max_gpu_memory_mib" => whole(asked.max_gpu_memory_mib, r.filter.max_gpu_memory_mib).map(|v| half.max_gpu_memory_mib = Some(v)),
        "gpu_count" => whole(asked.gpu_count, r.filter.gpu_count).map(|v| half.gpu_count = Some(v)),
        "min_gpu_count" => whole(asked.min_gpu_count, r.filter.min_gpu_count).map(|v| half.min_gpu_count = Some(v)),
        "max_price_per_hour" => price(asked.max_price, r.filter.max_price).map(|v| half.max_price = Some(v)),
        "max_price_per_gpu_hour" => price(asked.max_price_per_gpu, r.filter.max_price_per_gpu).map(|v| half.max_price_per_gpu = Some(v)),
        "min_reliability" => share(asked.min_reliability, r.filter.min_reliability).map(|v| half.min_reliability = Some(v)),
        "min_confidence" => share(asked.min_confidence, r.filter.min_confidence).map(|v| half.min_confidence = Some(v)),
        _ => None,
    };
    found.map(|()| half)
}

proptest! {
    /// What is proposed lets more pass, as many as told; no smaller change of that field does; the counts add up.
    #[test]
    fn every_proposal_helps_and_none_smaller_does(offers in proptest::collection::vec(any_offer(), 0..14), filter in any_filter()) {
        let offers = shelf(offers);
        let told = explain(&offers, &filter);
        let passing = |f: &OfferFilter| offers.iter().filter(|o| f.check(o).is_ok()).count();
        prop_assert_eq!(told.passing, passing(&filter));
        prop_assert_eq!(told.effects.iter().map(|e| e.removed).sum::<usize>() + told.passing, offers.len());
        for r in &told.relaxations {
            prop_assert_eq!(r.offers, passing(&r.filter), "{:?}", r);
            prop_assert!(r.offers > told.passing, "{:?}", r);
            let cheapest = offers.iter().filter(|o| r.filter.check(o).is_ok()).map(|o| o.price(r.filter.disk_gb).total()).min();
            prop_assert_eq!(cheapest, Some(r.from));
            if let Some(half) = halfway(&filter, r) {
                prop_assert_eq!(passing(&half), told.passing, "half of {:?} would do", r);
            }
        }
        for pair in told.relaxations.windows(2) {
            prop_assert!(pair[0].change <= pair[1].change);
        }
        for e in &told.effects {
            // A field that alone keeps offers out has a proposal (but for a host's end that no host tells).
            let helps = told.relaxations.iter().any(|r| r.field == e.field);
            prop_assert!(helps || e.left_without == told.passing || e.field == "disk_gb" || e.field == "host_end", "{:?}", e);
        }
    }
}
