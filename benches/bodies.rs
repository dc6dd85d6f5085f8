//! From a vendor's body to offers: bodies as the simulated market writes them, in the vendors' dialects.

use crate::sizes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::offer::{Offer, RentalKind};
use gpu_shopper::domain::time::Time;
use gpu_shopper::providers::{tensordock, vastai};
use gpu_shopper::sim::{Credentials, Dialect, Faults, Market, MarketConfig, tensordock_router, vastai_router};
use std::sync::{Arc, Mutex, PoisonError};
use tower::ServiceExt;

/// 2026-11-23 21:58:45.
pub const NOW: Time = Time::from_millis(1_795_471_125_000);

const KEY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The answer to a search with so many rows.
pub fn body(rows: usize) -> Vec<u8> {
    let search = format!(r#"{{"rentable":{{"eq":true}},"type":"on-demand","order":[["dph_total","asc"]],"limit":{rows},"allocated_storage":50}}"#);
    let request = http::Request::post("/api/v0/bundles/").header("authorization", format!("Bearer {KEY}"));
    answer(Dialect::Vastai, rows.div_ceil(250), request.body(search.into()).unwrap())
}

/// The list of places, which is open to all, of a market so many times as large as the usual one.
fn places(times: usize) -> Vec<u8> {
    answer(Dialect::Tensordock, times, http::Request::get("/api/v2/locations").body(axum::body::Body::empty()).unwrap())
}

fn answer(dialect: Dialect, times: usize, request: http::Request<axum::body::Body>) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = MarketConfig { seed: 7, faults: Faults::none(), clock: Clock::System, fabricated_addresses: true };
        let market = Market::sized(config, times);
        market.add_account(dialect, Credentials::Key(KEY.to_owned()), None);
        let router = if dialect == Dialect::Vastai { vastai_router(market) } else { tensordock_router(market) };
        let answer = router.oneshot(request).await.unwrap();
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
    for times in sizes(&[1, 10, 100]) {
        let body = places(times);
        let offers = tensordock::offers::read(&body, NOW).unwrap().offers.len();
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("tensordock", offers), &body, |bencher, body| {
            bencher.iter_batched(|| (), |()| tensordock::offers::read(body, NOW).unwrap(), BatchSize::PerIteration);
        });
    }
    group.finish();
}
