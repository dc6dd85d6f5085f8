//! From a vendor's body to offers: bodies as the simulated market writes them, in the vendors' dialects.

use crate::sizes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::offer::{Offer, RentalKind};
use gpu_shopper::domain::time::Time;
use gpu_shopper::providers::vastai;
use gpu_shopper::sim::{Credentials, Dialect, Faults, Market, MarketConfig, vastai_router};
use std::sync::{Arc, Mutex, PoisonError};
use tower::ServiceExt;

/// 2026-11-23 21:58:45.
pub const NOW: Time = Time::from_millis(1_795_471_125_000);

const KEY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The answer to a search with so many rows.
pub fn body(rows: usize) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = MarketConfig { seed: 7, faults: Faults::none(), clock: Clock::System, fabricated_addresses: true };
        let market = Market::sized(config, rows.div_ceil(250));
        market.add_account(Dialect::Vastai, Credentials::Key(KEY.to_owned()), None);
        let search =
            format!(r#"{{"rentable":{{"eq":true}},"type":"on-demand","order":[["dph_total","asc"]],"limit":{rows},"allocated_storage":50}}"#);
        let request =
            http::Request::post("/api/v0/bundles/").header("authorization", format!("Bearer {KEY}")).body(axum::body::Body::from(search)).unwrap();
        let answer = vastai_router(market).oneshot(request).await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec()
    })
}

/// So many different offers.
pub fn offers(count: usize) -> Vec<Offer> {
    static MADE: Mutex<Vec<Offer>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if made.len() < count {
        *made = vastai::offers::read(&body(count), RentalKind::OnDemand, NOW).unwrap().offers.into_iter().map(Arc::unwrap_or_clone).collect();
        assert!(made.len() * 10 > count * 9, "{} of {count}", made.len());
    }
    made.iter().take(count).cloned().collect()
}

pub fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for rows in sizes(&[1_000, 20_000, 100_000]) {
        let body = body(rows);
        group.throughput(Throughput::Bytes(body.len() as u64));
        if rows > 20_000 {
            group.sample_size(10);
        }
        group.bench_with_input(BenchmarkId::new("vastai", rows), &body, |bencher, body| {
            bencher.iter_batched(|| (), |()| vastai::offers::read(body, RentalKind::OnDemand, NOW).unwrap(), BatchSize::PerIteration);
        });
    }
    group.finish();
}
