//! A whole service in memory: simulated market, paused time, inline store, one seed. Its end checks that nothing is left.

mod altered;
mod doctored;
mod echo;
pub mod real;

pub use altered::Altered;
use doctored::Doctored;
pub use doctored::{Script, Told};
pub use echo::Echo;
use gpu_shopper::app::{Core, CoreParts, tag_of};
use gpu_shopper::chaos::audit::{self, Books};
pub use gpu_shopper::chaos::{Doom, silence};
use gpu_shopper::chaos::{Life, Story, Watched, Witness};
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::event::Event;
use gpu_shopper::domain::ids::{ConsumerId, OfferId, ProviderId, SessionId};
use gpu_shopper::domain::money::Nanos;
use gpu_shopper::domain::offer::{OfferFilter, OfferOrder};
use gpu_shopper::domain::policy::Policy;
use gpu_shopper::domain::session::{Request, Session, StartSecrets, State, Target};
use gpu_shopper::domain::time::Time;
use gpu_shopper::ports::{Chance, Provider, SeededChance, SshProbe};
use gpu_shopper::providers;
use gpu_shopper::server::vault;
use gpu_shopper::services::api::{Caller, Command, Create, Created, Idempotency};
use gpu_shopper::services::error::Error;
use gpu_shopper::services::lookout::Rhythm;
use gpu_shopper::services::sweeper::SweepPolicy;
use gpu_shopper::sim::{AccountId, Credentials, Dialect, Faults, Market, MarketConfig, SimProbe, SimProvider};
use gpu_shopper::ssh::keys::Secret;
use gpu_shopper::store::{Error as StoreError, Mode, Options, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
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
    /// Sees all calls and commits, over all lives.
    pub witness: Arc<Witness>,
    /// How providers are wrapped at the next start.
    pub wrap: Option<Wrap>,
    /// What its probe tells instead of the truth.
    pub script: Script,
    /// How often offers are fetched; `None` = as each provider says.
    pub refresh: Option<Duration>,
    /// What the server's own keys come from, in the next life.
    pub secret: [u8; 32],
    life: Arc<Life>,
    store: Store,
    file: Option<(tempfile::TempDir, PathBuf)>,
    starts: u64,
    seed: u64,
    sweep: SweepPolicy,
    /// Why its next start is frozen.
    pub frozen: Option<String>,
}

/// Puts something between the service and a provider.
pub type Wrap = Arc<dyn Fn(Arc<dyn Provider>) -> Arc<dyn Provider> + Send + Sync>;

/// What a house is like.
pub struct Plan {
    pub seed: u64,
    pub faults: Faults,
    pub policy: Policy,
    pub dialects: Vec<Dialect>,
    /// Whether its store is a file, so that it can die and come back.
    pub on_disk: bool,
    pub doom: Option<Doom>,
    pub wrap: Option<Wrap>,
    pub deployment: String,
    pub refresh: Option<Duration>,
    pub sweep: SweepPolicy,
}

impl Plan {
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            seed,
            faults,
            policy: Policy::default(),
            dialects: Dialect::ALL.to_vec(),
            on_disk: false,
            doom: None,
            wrap: None,
            deployment: DEPLOYMENT.to_owned(),
            refresh: None,
            sweep: SweepPolicy::default(),
        }
    }

    pub fn on_disk(self) -> Self {
        Self { on_disk: true, ..self }
    }

    pub fn at(self, dialect: Dialect) -> Self {
        Self { dialects: vec![dialect], ..self }
    }

    pub fn wrapped(self, wrap: Wrap) -> Self {
        Self { wrap: Some(wrap), ..self }
    }

    pub async fn build(self) -> House {
        let clock = Clock::simulated(BEGIN);
        let market = Market::new(MarketConfig { seed: self.seed, faults: self.faults.clone(), clock: clock.clone(), fabricated_addresses: true });
        let mut accounts = BTreeMap::new();
        for dialect in &self.dialects {
            let credentials = match dialect {
                Dialect::Vastai => Credentials::Key("0".repeat(64)),
                Dialect::Tensordock => Credentials::Pair { id: "id".to_owned(), token: "token".to_owned() },
            };
            accounts.insert(*dialect, market.add_account(*dialect, credentials, None));
        }
        self.build_on(market, accounts, clock).await
    }

    /// A house on a market that is there already.
    pub async fn build_on(self, market: Arc<Market>, accounts: BTreeMap<Dialect, AccountId>, clock: Clock) -> House {
        let file = self.on_disk.then(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("house.db");
            (folder, path)
        });
        let store = match &file {
            Some((_, path)) => open(path).unwrap(),
            None => Store::open_memory().unwrap(),
        };
        let mut policy = self.policy;
        if self.refresh.is_some() {
            // Where offers are seldom fetched, to save time, their age must not matter.
            policy.max_offer_age = Duration::from_secs(365 * 24 * 3600);
        }
        let story = Arc::new(Story::new(clock.clone(), 200));
        let witness = Witness::new(&self.deployment, tag_of(&self.deployment), Arc::clone(&market), story, policy.clone(), SweepPolicy::default());
        let mut house = House {
            market,
            accounts,
            clock,
            policy,
            deployment: self.deployment,
            sweep: self.sweep,
            frozen: None,
            core: None,
            life: Life::new(None, Arc::clone(&witness)),
            witness,
            wrap: self.wrap,
            script: Script::default(),
            refresh: self.refresh,
            secret: [7; 32],
            store,
            file,
            starts: 0,
            seed: self.seed,
        };
        house.start(self.doom).await;
        house
    }
}

fn open(path: &Path) -> Result<Store, StoreError> {
    Store::open(Options { path: path.to_owned(), mode: Mode::Inline, holder: "test".to_owned() })
}

impl House {
    /// A house in memory.
    pub async fn new(seed: u64, faults: Faults) -> Self {
        Plan::new(seed, faults).build().await
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn core(&self) -> &Core {
        self.core.as_ref().unwrap()
    }

    /// The present life of the process.
    pub fn life(&self) -> Arc<Life> {
        Arc::clone(&self.life)
    }

    /// Begins a new life. It returns when every provider has been looked at and offers are there, or when that life is over.
    pub async fn start(&mut self, doom: Option<Doom>) {
        self.starts += 1;
        self.life = Life::new(doom, Arc::clone(&self.witness));
        self.store.set_gate(self.life.gate(None));
        let mut map: BTreeMap<ProviderId, Arc<dyn Provider>> = BTreeMap::new();
        for (dialect, account) in &self.accounts {
            let mut provider: Arc<dyn Provider> = Arc::new(SimProvider::new(Arc::clone(&self.market), *account, *dialect));
            if let Some(wrap) = &self.wrap {
                provider = wrap(provider);
            }
            map.insert(provider.facts().id.clone(), Arc::new(Watched { inner: provider, life: self.life() }));
        }
        let chance: Arc<dyn Chance> = Arc::new(SeededChance::new(self.seed.wrapping_mul(1000) + self.starts));
        let of: Arc<dyn SshProbe> = Arc::new(SimProbe::new(Arc::clone(&self.market), self.secret));
        let core = Core::start(CoreParts {
            sweep: self.sweep,
            frozen: self.frozen.clone(),
            store: self.store.clone(),
            deployment_id: self.deployment.clone(),
            providers: map,
            probe: Arc::new(Doctored { of, script: self.script.clone() }),
            chance,
            clock: self.clock.clone(),
            policy: self.policy.clone(),
            rhythm: Rhythm { close: Duration::from_secs(5), steady: Duration::from_secs(30), idle: Duration::from_secs(120) },
            refresh: self.refresh,
            drain: Duration::from_secs(20),
            vault: vault(Secret::from_bytes(self.secret), Arc::new(SeededChance::new(self.starts))),
            private_addresses: Vec::new(),
            offer_ids: providers::REGISTER.iter().map(|e| e.offer_id).collect(),
            vendor_calls: providers::REGISTER.iter().map(|e| (ProviderId::new(e.name), (e.base_url.to_owned(), e.destroy_line))).collect(),
        })
        .await
        .unwrap();
        let life = self.life();
        let ready = async {
            core.wait_swept().await;
            for unread in core.inventory.freshness().into_iter().filter(|f| f.fetched_at.is_none()) {
                core.inventory.refresh(&unread.provider).await.ok();
            }
        };
        tokio::select! {
            biased;
            () = life.died() => {}
            () = ready => {}
        }
        self.core = Some(core);
    }

    /// Dies, is away for a while and starts again on the same file.
    pub async fn crash(&mut self, down: Duration) {
        self.die().await;
        self.pass(down).await;
        self.start(None).await;
    }

    /// Ends as it is asked to, in good order.
    pub async fn stop(&mut self) {
        self.core.take().unwrap().stop().await.unwrap();
    }

    /// Dies without a word; returns when nothing of it is left, its hold on the file included.
    pub async fn die(&mut self) {
        self.life.die();
        self.core.take().unwrap().kill();
        let Some((_, path)) = &self.file else { return };
        self.store = Store::open_memory().unwrap();
        // Aborted tasks are dropped when the runtime gets to them; time stands still meanwhile.
        for round in 0..10_000 {
            tokio::task::yield_now().await;
            if round > 1_000 {
                // Another test's child process may hold a copy of the lock between its fork and its exec: real time has to pass.
                std::thread::park_timeout(Duration::from_millis(1));
            }
            match open(path) {
                Ok(store) => {
                    self.store = store;
                    return;
                }
                Err(StoreError::Locked { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the dead process still holds its file");
    }

    /// Lets go of the file, has something done to it, and takes it again. For between two lives.
    pub fn with_closed_file(&mut self, work: impl FnOnce(&Path)) {
        self.store = Store::open_memory().unwrap();
        work(self.path());
        for _ in 0..2_000 {
            match open(self.path()) {
                Err(StoreError::Locked { .. }) => std::thread::park_timeout(Duration::from_millis(1)),
                opened => {
                    self.store = opened.unwrap();
                    return;
                }
            }
        }
        panic!("somebody holds the file");
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.file.as_ref().unwrap().1
    }

    /// What a caller does, through as many deaths as there are: after each the process is down for a while and lives
    /// again until the next doom, and its caller begins anew, repeating its calls with the same request ids.
    pub async fn survive<T>(&mut self, mut dooms: impl Iterator<Item = Doom>, down: Duration, caller: impl AsyncFn(&Self) -> T) -> (T, usize) {
        let mut deaths = 0;
        loop {
            let life = self.life();
            let done = tokio::select! {
                biased;
                () = life.died() => None,
                done = caller(self) => Some(done),
            };
            if let Some(done) = done {
                return (done, deaths);
            }
            deaths += 1;
            self.die().await;
            self.pass(down).await;
            self.start(dooms.next()).await;
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

    fn creating(request: Request, request_id: Option<&str>) -> Create {
        Create {
            idempotency: request_id.map(|id| Idempotency { request_id: id.to_owned(), hash: format!("{request:?}") }),
            request,
            labels: BTreeMap::new(),
            secrets: StartSecrets::default(),
            template: None,
            validate_only: false,
            private_key: None,
        }
    }

    /// What a create would be told, if it were asked for now.
    pub async fn would_create(&self, request: Request) -> Result<(), Error> {
        let create = Create { validate_only: true, ..Self::creating(request, None) };
        self.core().lifecycle.create(caller(), create).await.map(drop)
    }

    pub async fn create_as(&self, request: Request, request_id: Option<&str>) -> Result<Created, Error> {
        let create = Self::creating(request, request_id);
        let patience = self.now() + Duration::from_secs(600);
        loop {
            match self.core().lifecycle.create(caller(), create.clone()).await {
                // As any client does with UNAVAILABLE.
                Err(error) if matches!(error.reason, "STARTING" | "PROVIDER_UNREACHABLE") && self.now() < patience => {
                    self.clock.sleep(error.retry_after.unwrap()).await
                }
                answer => return answer,
            }
        }
    }

    pub async fn command(&self, id: SessionId, command: Command) -> Result<Arc<Session>, Error> {
        Ok(self.core().lifecycle.command(caller(), id, command, None, false).await?.session)
    }

    pub async fn command_as(&self, id: SessionId, command: Command, request_id: &str) -> Result<Arc<Session>, Error> {
        let idempotency = Idempotency { request_id: request_id.to_owned(), hash: format!("{command:?}") };
        Ok(self.core().lifecycle.command(caller(), id, command, Some(idempotency), false).await?.session)
    }

    pub async fn get(&self, id: SessionId) -> Arc<Session> {
        self.core().sessions.get(&caller(), id).await.unwrap()
    }

    /// Everything that is wrong now that all should be over.
    pub async fn audit(&self) -> Vec<String> {
        let books = Books {
            market: &self.market,
            tag: tag_of(&self.deployment),
            store: self.store(),
            costs: &self.core().costs,
            launches: self.witness.launches(),
            foreign: &BTreeSet::new(),
            planted: &BTreeSet::new(),
            unbillable: &BTreeSet::new(),
            by_word: &BTreeSet::new(),
            repriced: &BTreeSet::new(),
            exact: false,
            story: None,
        };
        books.audit().await.unwrap()
    }

    /// The whole log.
    pub async fn events(&self) -> Vec<Event> {
        audit::events(self.store()).await.unwrap()
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

    /// Waits (in simulated time) until the session is in the state or final, at most so long; then whatever it is.
    pub async fn reach(&self, id: SessionId, state: Option<State>, within: Duration) -> Arc<Session> {
        let deadline = self.now() + within;
        loop {
            let left = deadline.since(self.now());
            let (session, reached) = self.core().sessions.wait(&caller(), id, state.as_slice(), left).await.unwrap();
            if reached || session.state.is_final() || left.is_zero() {
                return session;
            }
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
    Caller { principal: "tester".to_owned(), scope: None, admin: true, request: String::new() }
}

pub fn any(provider: Option<&str>) -> Target {
    let filter = OfferFilter { providers: provider.map(ProviderId::new).into_iter().collect(), ..OfferFilter::default() };
    Target::Requirements { filter: Box::new(filter), order: OfferOrder::Price }
}

pub fn exactly(offer: &OfferId) -> Target {
    Target::Offer(offer.clone())
}

pub fn request(target: Target) -> Request {
    let public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFv1PqLqPAQ8j2WUbVVlXDqIHKLZQsa2kEVmoxh0vDOm".to_owned();
    Request { public_key, ..Request::plain(ConsumerId::new("tester"), target) }
}
