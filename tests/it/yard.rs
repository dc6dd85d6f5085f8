//! A core over scripted parts, for tests that need what no market has: thousands of machines, calls that are counted, answers
//! that hang.

use crate::support::{DEPLOYMENT, House};
use async_trait::async_trait;
use gpu_shopper::app::{Core, CoreParts};
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::gpu::GpuModel;
use gpu_shopper::domain::idle::Activity;
use gpu_shopper::domain::ids::{MachineId, OfferId, ProviderId, SessionId};
use gpu_shopper::domain::instance::{Billed, InstanceStatus, PriceSeen, Sighting, SshEndpoint};
use gpu_shopper::domain::memo::Memo;
use gpu_shopper::domain::money::Rate;
use gpu_shopper::domain::offer::{Component, DiskTerms, Offer, Price, Prior, RentalKind, Traffic};
use gpu_shopper::domain::policy::Policy;
use gpu_shopper::domain::time::{Look, Time};
use gpu_shopper::ports::{
    Account, ApiTarget, Certainty, DestroyAnswer, ErrorKind, LaunchSpec, Launched, Measured, OfferBatch, ProbeFailure, ProbeReport, ProbeTarget,
    Provider, ProviderError, ProviderFacts, SeededChance, SshProbe, StageBudgets,
};
use gpu_shopper::services::lifecycle::Vault;
use gpu_shopper::services::lookout::Rhythm;
use gpu_shopper::services::sweeper::SweepPolicy;
use gpu_shopper::sim::{SimProbe, SimProvider};
use gpu_shopper::store::Store;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What a warehouse has and does; tests change it as they go.
#[derive(Default)]
pub struct Shelf {
    pub offers: Vec<Offer>,
    /// Offers can't be fetched.
    pub failing: bool,
    /// That is so because the credentials are refused.
    pub refusing: bool,
    /// How long offers take.
    pub takes: Duration,
    /// How often offers were asked for.
    pub asked: usize,
    machines: BTreeMap<String, Sighting>,
    made: u64,
}

/// A provider that always has room and whose machines are up at once.
pub struct Warehouse {
    facts: ProviderFacts,
    clock: Clock,
    shelf: Mutex<Shelf>,
}

impl Warehouse {
    pub fn new(name: &str, clock: &Clock, offers: Vec<Offer>) -> Arc<Self> {
        let minutes = |m: u64| Duration::from_secs(m * 60);
        let facts = ProviderFacts {
            id: ProviderId::new(name),
            title: "Warehouse",
            refresh_interval: minutes(1),
            visibility_window: Duration::ZERO,
            list_interval: Duration::ZERO,
            attaches_keys: false,
            billing: vec![(Component::Gpu, Billed::WhileRunning), (Component::Disk, Billed::WhileExisting)],
            budgets: StageBudgets { first_sign: minutes(5), boot: minutes(5), login: minutes(5), gpu: minutes(5), attempt: minutes(30) },
            preserves_storage: false,
            default_image: "image".to_owned(),
        };
        Arc::new(Self { facts, clock: clock.clone(), shelf: Mutex::new(Shelf { offers, ..Shelf::default() }) })
    }

    pub fn id(&self) -> ProviderId {
        self.facts.id.clone()
    }

    pub fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap()
    }
}

#[async_trait]
impl Provider for Warehouse {
    fn facts(&self) -> &ProviderFacts {
        &self.facts
    }

    fn owns_offer_id(&self, id: &OfferId) -> bool {
        id.as_str().starts_with(self.facts.id.as_str())
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        Ok(Account { identity: "1".to_owned(), balance: None })
    }

    async fn offers(&self) -> Result<OfferBatch, ProviderError> {
        let (answer, refusing, takes, now) = {
            let mut shelf = self.shelf();
            shelf.asked += 1;
            ((!shelf.failing).then(|| shelf.offers.clone()), shelf.refusing, shelf.takes, self.clock.now())
        };
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        match answer {
            Some(offers) => {
                let offers = offers.into_iter().map(|o| Arc::new(Offer { seen_at: now, ..o })).collect();
                Ok(OfferBatch { offers, truncated: false, skipped: 0 })
            }
            None => Err(ProviderError {
                provider: self.id(),
                operation: "offers",
                kind: if refusing { ErrorKind::Auth } else { ErrorKind::Unavailable },
                certainty: Certainty::DidNotHappen,
                text: if refusing { "no such key" } else { "out of order" }.to_owned(),
                retry_after: None,
            }),
        }
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Launched, ProviderError> {
        let sent = self.clock.now();
        tokio::task::yield_now().await;
        let mut shelf = self.shelf();
        shelf.made += 1;
        let native_id = format!("m{}", shelf.made);
        let sighting = Sighting {
            native_id: native_id.clone(),
            label: Some(spec.label.to_string()),
            status: InstanceStatus::Running,
            raw_status: "running".to_owned(),
            progress: None,
            endpoints: vec![SshEndpoint { host: "203.0.113.7".to_owned(), port: 22, user: "root".to_owned(), proxied: false }],
            ports: Vec::new(),
            public_host: None,
            price: Some(PriceSeen::Parts(spec.offer.price(Some(spec.disk_gb)))),
            interruptible: Some(false),
            machine: Some(spec.offer.machine.clone()),
            gpu_percent: None,
        };
        shelf.machines.insert(native_id.clone(), sighting);
        Ok(Launched { native_id, call: Look { sent, answered: self.clock.now() }, failed: None })
    }

    async fn attach_key(&self, _: &str, _: &str) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn instance(&self, native_id: &str) -> Result<Option<Sighting>, ProviderError> {
        tokio::task::yield_now().await;
        Ok(self.shelf().machines.get(native_id).cloned())
    }

    async fn instances(&self) -> Result<Vec<Sighting>, ProviderError> {
        tokio::task::yield_now().await;
        Ok(self.shelf().machines.values().cloned().collect())
    }

    async fn start(&self, _: &str) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn destroy(&self, native_id: &str) -> Result<DestroyAnswer, ProviderError> {
        tokio::task::yield_now().await;
        Ok(if self.shelf().machines.remove(native_id).is_some() { DestroyAnswer::Accepted } else { DestroyAnswer::NotThere })
    }
}

/// Lets everybody in.
pub struct OpenDoor;

#[async_trait]
impl SshProbe for OpenDoor {
    fn verifier_key(&self, _: SessionId) -> String {
        "ssh-ed25519 AAAA verifier".to_owned()
    }

    async fn probe(&self, _: &ProbeTarget) -> Result<ProbeReport, ProbeFailure> {
        tokio::task::yield_now().await;
        Ok(ProbeReport { host_key: "ssh-ed25519 AAAA host".to_owned(), gpu: None, disk_free_gb: None })
    }

    async fn api(&self, _: &ApiTarget) -> Result<u16, ProbeFailure> {
        Ok(200)
    }

    async fn install_key(&self, _: &ProbeTarget, _: &str, _: &[String]) -> Result<(), ProbeFailure> {
        Ok(())
    }

    async fn measure(&self, _: &ProbeTarget) -> Result<Measured, ProbeFailure> {
        tokio::task::yield_now().await;
        Ok(Measured { host_key: "ssh-ed25519 AAAA host".to_owned(), activity: Activity::default() })
    }
}

/// An offer of a place where any number of machines may be had: one RTX 4090 for $0.36 and a disk for $0.0001 a GB.
pub fn offer(provider: &str, name: &str) -> Offer {
    Offer {
        id: OfferId::new(&format!("{provider}-{name}")),
        provider: ProviderId::new(provider),
        machine: MachineId::new(&format!("{provider}:{name}")),
        host: None,
        gpu: GpuModel::canonical("RTX 4090"),
        gpu_raw: Arc::from("RTX 4090"),
        gpu_count: 1,
        gpu_memory_mib: 24_576,
        region: Arc::default(),
        rental: RentalKind::OnDemand,
        min_bid: None,
        base: Price { gpu: rate("0.36"), ..Price::default() },
        disk: DiskTerms { per_gb: rate("0.0001"), min_gb: 10, step_gb: 1, max_gb: 0, default_gb: 50 },
        traffic: Traffic::default(),
        reliability: None,
        verified: None,
        cuda: None,
        cpu_millis: None,
        memory_mib: None,
        direct_ports: None,
        host_end: None,
        slots: None,
        confidence: 1.0,
        prior: Prior::default(),
        seen_at: Time::default(),
        memo: Memo::default(),
    }
}

pub fn rate(dollars: &str) -> Rate {
    Rate::parse(dollars).unwrap()
}

/// Ends a house's server and starts another on the same database and market; nothing is left of what was in memory.
pub async fn restart(house: &mut House, seed: u64) {
    house.core.take().unwrap().stop().await.unwrap();
    let providers: Vec<Arc<dyn Provider>> = house
        .accounts
        .iter()
        .map(|(dialect, account)| Arc::new(SimProvider::new(Arc::clone(&house.market), *account, *dialect)) as Arc<dyn Provider>)
        .collect();
    let mut parts = parts(house.store().clone(), &providers, &house.clock, Policy::default(), seed);
    parts.deployment_id = DEPLOYMENT.to_owned();
    parts.probe = Arc::new(SimProbe::new(Arc::clone(&house.market), [7; 32]));
    house.core = Some(start(parts).await);
}

/// A core that has looked at its providers and has their offers.
pub async fn start(parts: CoreParts) -> Core {
    let core = Core::start(parts).await.unwrap();
    core.wait_swept().await;
    for provider in &core.providers {
        core.inventory.refresh(provider).await.ok();
    }
    core
}

/// What a core over these providers is made of; tests change what they care about.
pub fn parts(store: Store, providers: &[Arc<dyn Provider>], clock: &Clock, policy: Policy, seed: u64) -> CoreParts {
    CoreParts {
        sweep: SweepPolicy::default(),
        frozen: None,
        store,
        deployment_id: "yard".to_owned(),
        providers: providers.iter().map(|p| (p.facts().id.clone(), Arc::clone(p))).collect(),
        probe: Arc::new(OpenDoor),
        chance: Arc::new(SeededChance::new(seed)),
        clock: clock.clone(),
        policy,
        rhythm: Rhythm { close: Duration::from_secs(5), steady: Duration::from_secs(30), idle: Duration::from_secs(120) },
        refresh: None,
        drain: Duration::from_secs(5),
        vault: Vault { seal: Arc::new(|_, _, _| None), open: Arc::new(|_, _, _| None) },
        private_addresses: Vec::new(),
        offer_ids: vec![|text| text.starts_with("vastai-") || text.starts_with("tensordock-")],
        vendor_calls: BTreeMap::new(),
    }
}
