//! The market as it is in the field: whatever goes wrong, every session ends, nothing is left alive, no attempt is launched
//! twice, and the market's bill lies within what was accounted.

use crate::support::{House, any, caller, request};
use gpu_shopper::services::api::Command;
use gpu_shopper::sim::Faults;
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn the_field_mix_is_overcome() {
    let (mut all, mut ran) = (0, 0);
    for seed in 0..3 {
        let house = House::new(seed, Faults::field_mix()).await;
        let mut ids = Vec::new();
        for number in 0..10 {
            let provider = if number % 2 == 0 { "vastai" } else { "tensordock" };
            ids.push(house.create(request(any(Some(provider)))).await.unwrap().session.id);
            house.pass(HOUR / 12).await;
        }
        house.pass(3 * HOUR).await;
        for id in &ids {
            all += 1;
            ran += usize::from(house.get(*id).await.running_at.is_some());
            house.command(*id, Command::Destroy).await.unwrap();
        }
        house.pass(HOUR).await;
        let mut labels: BTreeMap<String, usize> = BTreeMap::new();
        for truth in house.market.truth() {
            *labels.entry(truth.label).or_default() += 1;
        }
        assert!(labels.values().all(|count| *count == 1), "an attempt was launched twice: {labels:?}");
        for id in &ids {
            assert!(house.get(*id).await.state.is_final());
            let (cost, bill) = (house.core().costs.session(&caller(), *id).await.unwrap(), house.bill(*id));
            assert!(cost.total.low <= bill && bill <= cost.total.high, "{id}: {bill} is not in [{}, {}]", cost.total.low, cost.total.high);
        }
        house.close().await;
    }
    println!("{ran} of {all} sessions came to run");
    assert!(ran * 10 >= all * 9, "{ran} of {all} sessions came to run");
}
