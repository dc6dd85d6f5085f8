//! A whole core in this process: a real database file, a simulated market without waits, real time.

use gpu_shopper::app::{Core, CoreParts};
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::ids::{ConsumerId, ProviderId, SessionId};
use gpu_shopper::domain::offer::{OfferFilter, OfferOrder};
use gpu_shopper::domain::policy::Policy;
use gpu_shopper::domain::session::{Request, StartSecrets, State, Target};
use gpu_shopper::ports::{Provider, SystemChance};
use gpu_shopper::server::vault;
use gpu_shopper::services::api::{Caller, Create};
use gpu_shopper::services::lookout::Rhythm;
use gpu_shopper::services::sweeper::SweepPolicy;
use gpu_shopper::sim::{Credentials, Dialect, Faults, Market, MarketConfig, SimProbe, SimProvider};
use gpu_shopper::ssh::keys::Secret;
use gpu_shopper::store::{Mode, Options, Store};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub fn caller() -> Caller {
    Caller { principal: "bench".to_owned(), scope: None, admin: true, request: String::new() }
}

pub fn open(folder: &Path) -> Store {
    Store::open(Options { path: folder.join("bench.db"), mode: Mode::Threaded, holder: "bench".to_owned() }).unwrap()
}

pub async fn core(store: Store) -> Core {
    let market = Market::sized(MarketConfig { seed: 1, faults: Faults::none(), clock: Clock::System, fabricated_addresses: true }, 4);
    let account = market.add_account(Dialect::Tensordock, Credentials::Pair { id: "id".to_owned(), token: "token".to_owned() }, None);
    let provider: Arc<dyn Provider> = Arc::new(SimProvider::new(Arc::clone(&market), account, Dialect::Tensordock));
    let providers: BTreeMap<ProviderId, Arc<dyn Provider>> = [(provider.facts().id.clone(), provider)].into();
    let secret = [5; 32];
    Core::start(CoreParts {
        store,
        deployment_id: "bench".to_owned(),
        private_addresses: providers.keys().cloned().collect(),
        providers,
        probe: Arc::new(SimProbe::new(market, secret)),
        chance: Arc::new(SystemChance),
        clock: Clock::System,
        policy: Policy::default(),
        rhythm: Rhythm { close: Duration::from_millis(200), steady: Duration::from_secs(60), idle: Duration::from_secs(60) },
        refresh: None,
        drain: Duration::from_secs(5),
        vault: vault(Secret::from_bytes(secret), Arc::new(SystemChance)),
        offer_ids: Vec::new(),
        vendor_calls: BTreeMap::new(),
        sweep: SweepPolicy::default(),
        frozen: None,
    })
    .await
    .unwrap()
}

/// A session that runs.
pub async fn running(core: &Core) -> SessionId {
    core.wait_swept().await;
    for _ in 0..500 {
        if core.inventory.freshness().iter().all(|f| f.offers > 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let target = Target::Requirements { filter: Box::new(OfferFilter::default()), order: OfferOrder::Price };
    let public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFv1PqLqPAQ8j2WUbVVlXDqIHKLZQsa2kEVmoxh0vDOm".to_owned();
    let create = Create {
        request: Request { public_key, ..Request::plain(ConsumerId::new("bench"), target) },
        labels: BTreeMap::new(),
        secrets: StartSecrets::default(),
        template: None,
        validate_only: false,
        idempotency: None,
        private_key: None,
    };
    let id = core.lifecycle.create(caller(), create).await.unwrap().session.id;
    let (session, reached) = core.sessions.wait(&caller(), id, &[State::Running], Duration::from_secs(60)).await.unwrap();
    assert!(reached, "{}: {}", session.state, session.status_message);
    id
}
