//! A whole service in memory: simulated market, paused time, inline store, one seed. Its end checks that nothing is left.

use gpu_shopper::app::{Core, CoreParts};
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::ids::{ConsumerId, OfferId, ProviderId, SessionId};
use gpu_shopper::domain::money::Nanos;
use gpu_shopper::domain::offer::{OfferFilter, OfferOrder};
use gpu_shopper::domain::policy::Policy;
use gpu_shopper::domain::session::{Failover, FailoverScope, Request, Session, State, StoragePolicy, Target, Workload};
use gpu_shopper::domain::time::Time;
use gpu_shopper::domain::verify::Verify;
use gpu_shopper::ports::{Chance, Provider, SeededChance};
use gpu_shopper::providers;
use gpu_shopper::services::api::{Caller, Command, Create, Created, Idempotency};
use gpu_shopper::services::error::Error;
use gpu_shopper::services::lifecycle::Vault;
use gpu_shopper::services::lookout::Rhythm;
use gpu_shopper::sim::{AccountId, Credentials, Dialect, Faults, Market, MarketConfig, SimProbe, SimProvider};
use gpu_shopper::store::{Mode, Options, Store};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub const BEGIN: Time = Time::from_millis(1_795_000_000_000);
pub const DEPLOYMENT: &str = "test-house";

/// The service and its market.
pub struct House {
    pub market: Arc<Market>,
    pub accounts: BTreeMap<Dialect, AccountId>,
    pub clock: Clock,
    pub policy: Policy,
    pub deployment: String,
    pub core: Option<Core>,
    store: Store,
    file: Option<(tempfile::TempDir, PathBuf)>,
    starts: u64,
    seed: u64,
}

fn open(path: &PathBuf) -> Store {
    Store::open(Options { path: path.clone(), mode: Mode::Inline, holder: "test".to_owned() }).unwrap()
}

impl House {
    /// A house in memory.
    pub async fn new(seed: u64, faults: Faults) -> Self {
        Self::with(seed, faults, Policy::default(), None).await
    }

    /// A house whose store is a file, so that it can die and come back.
    pub async fn on_disk(seed: u64, faults: Faults) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("house.db");
        Self::with(seed, faults, Policy::default(), Some((folder, path))).await
    }

    pub async fn with(seed: u64, faults: Faults, policy: Policy, file: Option<(tempfile::TempDir, PathBuf)>) -> Self {
        let clock = Clock::simulated(BEGIN);
        let market = Market::new(MarketConfig { seed, faults, clock: clock.clone(), fabricated_addresses: true });
        let mut accounts = BTreeMap::new();
        accounts.insert(Dialect::Vastai, market.add_account(Dialect::Vastai, Credentials::Key("0".repeat(64)), None));
        let pair = Credentials::Pair { id: "id".to_owned(), token: "token".to_owned() };
        accounts.insert(Dialect::Tensordock, market.add_account(Dialect::Tensordock, pair, None));
        let store = match &file {
            Some((_, path)) => open(path),
            None => Store::open_memory().unwrap(),
        };
        let mut house = Self { market, accounts, clock, policy, deployment: DEPLOYMENT.to_owned(), core: None, store, file, starts: 0, seed };
        house.start().await;
        house
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn core(&self) -> &Core {
        self.core.as_ref().unwrap()
    }

    pub async fn start(&mut self) {
        self.starts += 1;
        let mut map: BTreeMap<ProviderId, Arc<dyn Provider>> = BTreeMap::new();
        for (dialect, account) in &self.accounts {
            let provider = SimProvider::new(Arc::clone(&self.market), *account, *dialect);
            map.insert(provider.facts().id.clone(), Arc::new(provider));
        }
        let chance: Arc<dyn Chance> = Arc::new(SeededChance::new(self.seed.wrapping_mul(1000) + self.starts));
        let core = Core::start(CoreParts {
            store: self.store.clone(),
            deployment_id: self.deployment.clone(),
            providers: map,
            probe: Arc::new(SimProbe::new(Arc::clone(&self.market), [7; 32])),
            chance,
            clock: self.clock.clone(),
            policy: self.policy.clone(),
            rhythm: Rhythm { close: Duration::from_secs(5), steady: Duration::from_secs(30), idle: Duration::from_secs(120) },
            refresh: None,
            drain: Duration::from_secs(20),
            vault: Vault {
                seal: Arc::new(|_, key| Some(secrecy::ExposeSecret::expose_secret(key).as_bytes().to_vec())),
                open: Arc::new(|_, sealed| Some(String::from_utf8_lossy(sealed).into_owned().into())),
            },
            private_addresses: Vec::new(),
            offer_ids: providers::REGISTER.iter().map(|e| e.offer_id).collect(),
            vendor_calls: BTreeMap::new(),
        })
        .await
        .unwrap();
        core.wait_swept().await;
        for provider in core.providers.clone() {
            core.inventory.refresh(&provider).await.ok();
        }
        self.core = Some(core);
    }

    /// Dies without a word and comes back on the same file.
    pub async fn crash(&mut self) {
        self.die();
        self.start().await;
    }

    /// Dies without a word.
    pub fn die(&mut self) {
        self.core.take().unwrap().kill();
        if let Some((_, path)) = &self.file {
            self.store = Store::open_memory().unwrap();
            self.store = open(path);
        }
    }

    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Creates a session by requirements: any offer, or one provider's.
    pub async fn rent(&self, provider: Option<&str>) -> Created {
        self.create(request(any(provider))).await.unwrap()
    }

    pub async fn create(&self, request: Request) -> Result<Created, Error> {
        self.create_as(request, None).await
    }

    pub async fn create_as(&self, request: Request, request_id: Option<&str>) -> Result<Created, Error> {
        let create = Create {
            idempotency: request_id.map(|id| Idempotency { request_id: id.to_owned(), hash: format!("{request:?}") }),
            request,
            labels: BTreeMap::new(),
            validate_only: false,
            private_key: None,
        };
        self.core().lifecycle.create(caller(), create).await
    }

    pub async fn command(&self, id: SessionId, command: Command) -> Result<Arc<Session>, Error> {
        Ok(self.core().lifecycle.command(caller(), id, command, None, false).await?.session)
    }

    pub async fn get(&self, id: SessionId) -> Arc<Session> {
        self.core().sessions.get(&caller(), id).await.unwrap()
    }

    /// Waits (in simulated time) until the session is in the state, or fails the test.
    pub async fn until(&self, id: SessionId, state: State, within: Duration) -> Arc<Session> {
        let deadline = self.now() + within;
        loop {
            let (session, reached) = self.core().sessions.wait(&caller(), id, &[state], Duration::from_secs(60)).await.unwrap();
            if reached {
                return session;
            }
            assert!(
                !session.state.is_final() && self.now() < deadline,
                "session {id} is {} ({:?}), not {state}: {} attempts: {:?}",
                session.state,
                session.end_reason,
                session.status_message,
                session.attempts.iter().map(|a| (a.stage, a.failure, a.text.clone())).collect::<Vec<_>>()
            );
        }
    }

    /// What the market bills for a session, over all its machines.
    pub fn bill(&self, id: SessionId) -> Nanos {
        self.market.truth().iter().filter(|t| t.label.contains(&id.to_string())).map(|t| t.bill.total).sum()
    }

    /// Machines that are alive on the market.
    pub fn alive(&self) -> Vec<String> {
        self.market.alive()
    }

    /// Nothing is alive, nothing is open; then everything stops.
    pub async fn close(mut self) {
        let alive = self.alive();
        assert!(alive.is_empty(), "machines are left alive: {alive:?}");
        let core = self.core.take().unwrap();
        let open: Vec<_> = core.board.snapshot().0.iter().map(|l| (l.session.id, l.session.state)).collect();
        assert!(open.is_empty(), "sessions are left open: {open:?}");
        core.stop().await.unwrap();
    }
}

pub fn caller() -> Caller {
    Caller { principal: "tester".to_owned(), scope: None, admin: true }
}

pub fn any(provider: Option<&str>) -> Target {
    let filter = OfferFilter { providers: provider.map(ProviderId::new).into_iter().collect(), ..OfferFilter::default() };
    Target::Requirements { filter: Box::new(filter), order: OfferOrder::Price }
}

pub fn exactly(offer: &OfferId) -> Target {
    Target::Offer(offer.clone())
}

pub fn request(target: Target) -> Request {
    let scope = if matches!(target, Target::Offer(_)) { FailoverScope::None } else { FailoverScope::Any };
    Request {
        consumer: ConsumerId::new("tester"),
        workload: Workload::Ssh,
        target,
        reservation: Duration::from_secs(3600),
        storage: StoragePolicy::Destroy,
        image: None,
        disk_gb: None,
        on_start: None,
        env: BTreeMap::new(),
        public_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFv1PqLqPAQ8j2WUbVVlXDqIHKLZQsa2kEVmoxh0vDOm".to_owned(),
        ssh_timeout: None,
        verify: Verify::Gpu,
        bid: None,
        failover: Failover { scope, max_attempts: 8, max_price: None },
        max_price: None,
        max_total_cost: None,
        allow_same_offer: false,
    }
}
