//! `ListOffers` without the wire: filter, order, page, over a snapshot that stays.

use crate::{bodies, only_tries, sizes};
use criterion::{BenchmarkId, Criterion};
use gpu_shopper::clock::{Clock, Stopwatch};
use gpu_shopper::domain::gpu::GpuModel;
use gpu_shopper::domain::ids::{OfferId, ProviderId};
use gpu_shopper::domain::instance::Sighting;
use gpu_shopper::domain::offer::{Offer, OfferFilter, OfferOrder};
use gpu_shopper::grpc::convert::answers;
use gpu_shopper::ports::{Account, DestroyAnswer, LaunchSpec, Launched, OfferBatch, Provider, ProviderError, ProviderFacts};
use gpu_shopper::services::api::OfferQuery;
use gpu_shopper::services::inventory::Inventory;
use gpu_shopper::sim::{Credentials, Dialect, Faults, Market, MarketConfig, SimProvider};
use prost::Message;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// A provider that has these offers, and otherwise what a simulated one has.
pub struct Stocked {
    pub offers: Vec<Offer>,
    pub inner: SimProvider,
}

impl Stocked {
    pub fn new(offers: Vec<Offer>) -> Self {
        let market = Market::new(MarketConfig { seed: 1, faults: Faults::none(), clock: Clock::System, fabricated_addresses: true });
        let account = market.add_account(Dialect::Vastai, Credentials::Key("0".repeat(64)), None);
        Self { offers, inner: SimProvider::new(market, account, Dialect::Vastai) }
    }
}

#[async_trait::async_trait]
impl Provider for Stocked {
    fn facts(&self) -> &ProviderFacts {
        self.inner.facts()
    }
    fn owns_offer_id(&self, id: &OfferId) -> bool {
        self.inner.owns_offer_id(id)
    }
    async fn account(&self) -> Result<Account, ProviderError> {
        self.inner.account().await
    }
    async fn offers(&self) -> Result<OfferBatch, ProviderError> {
        Ok(OfferBatch { offers: self.offers.iter().cloned().map(Arc::new).collect(), ..OfferBatch::default() })
    }
    async fn launch(&self, spec: &LaunchSpec) -> Result<Launched, ProviderError> {
        self.inner.launch(spec).await
    }
    async fn attach_key(&self, native_id: &str, public_key: &str) -> Result<(), ProviderError> {
        self.inner.attach_key(native_id, public_key).await
    }
    async fn instance(&self, native_id: &str) -> Result<Option<Sighting>, ProviderError> {
        self.inner.instance(native_id).await
    }
    async fn instances(&self) -> Result<Vec<Sighting>, ProviderError> {
        self.inner.instances().await
    }
    async fn start(&self, native_id: &str) -> Result<(), ProviderError> {
        self.inner.start(native_id).await
    }
    async fn destroy(&self, native_id: &str) -> Result<DestroyAnswer, ProviderError> {
        self.inner.destroy(native_id).await
    }
}

fn query(filter: OfferFilter, order: OfferOrder) -> OfferQuery {
    OfferQuery { filter, order, page_size: 50, page_token: String::new() }
}

pub fn measure(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("list_offers");
    for count in sizes(&[2_000, 20_000, 200_000]) {
        let provider: Arc<dyn Provider> = Arc::new(Stocked::new(bodies::offers(count)));
        let id: ProviderId = provider.facts().id.clone();
        let inventory = Inventory::new([(id.clone(), provider)].into(), Vec::new(), Clock::System);
        runtime.block_on(inventory.refresh(&id)).unwrap();
        let one_model = OfferFilter { gpu_models: vec![GpuModel::canonical("RTX 4090")], ..OfferFilter::default() };
        let narrow = OfferFilter {
            gpu_models: vec![GpuModel::canonical("RTX 4090"), GpuModel::canonical("H100")],
            min_gpu_memory_mib: Some(20_000),
            regions: vec!["US".to_owned()],
            min_reliability: Some(0.95),
            min_cuda: Some(1204),
            ..OfferFilter::default()
        };
        let place = OfferFilter { regions: vec!["california".to_owned()], ..OfferFilter::default() };
        let big_disk = OfferFilter { disk_gb: Some(200), ..OfferFilter::default() };
        let cases = [
            ("all_by_price", query(OfferFilter::default(), OfferOrder::Price)),
            ("all_by_expected_cost", query(OfferFilter::default(), OfferOrder::ExpectedCost)),
            ("one_model_by_price", query(one_model, OfferOrder::Price)),
            ("five_filters_by_expected_cost", query(narrow, OfferOrder::ExpectedCost)),
            ("place_by_text", query(place, OfferOrder::Price)),
            ("with_another_disk", query(big_disk, OfferOrder::Price)),
        ];
        for (name, query) in &cases {
            let found = inventory.list(query).unwrap().total;
            assert!(found > 0, "{name} finds nothing");
            group.bench_with_input(BenchmarkId::new(*name, count), query, |b, query| b.iter(|| black_box(inventory.list(query).unwrap())));
        }
        group.bench_with_input(BenchmarkId::new("all_by_price_to_bytes", count), &cases[0].1, |b, query| {
            b.iter(|| black_box(answers::offers(inventory.list(query).unwrap(), None).encode_to_vec()));
        });
        if !only_tries() {
            for (name, query) in &cases {
                tail(name, count, || drop(black_box(inventory.list(query).unwrap())));
            }
        }
        // Where a provider's fetch ends: the price of a new snapshot.
        group.sample_size(10);
        group.bench_with_input(BenchmarkId::new("refresh", count), &id, |b, id| b.iter(|| runtime.block_on(inventory.refresh(id)).unwrap()));
        group.sample_size(20);
    }
    group.finish();
}

/// Prints how long each of many calls took, in a line that `benches/measure` keeps: criterion tells means only.
fn tail(name: &str, count: usize, call: impl Fn()) {
    const CALLS: usize = 20_000;
    const MOST: Duration = Duration::from_secs(10);
    let mut took = hdrhistogram::Histogram::<u64>::new(3).unwrap();
    let begun = Stopwatch::start();
    for _ in 0..CALLS {
        let at = Stopwatch::start();
        call();
        took.record(u64::try_from(at.elapsed().as_nanos()).unwrap()).unwrap();
        if begun.elapsed() > MOST {
            break;
        }
    }
    let at = |share: f64| took.value_at_quantile(share) as f64 / 1e3;
    println!("tail,list_offers/{name},{count},{},{:.1},{:.1},{:.1}", took.len(), at(0.5), at(0.99), at(0.999));
}
