//! A whole service on everything real but the vendors: adapters over sockets, SSH, HTTP, sealed secrets, a database file.

use gpu_shopper::app::{Core, CoreParts};
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::ids::{ProviderId, SessionId};
use gpu_shopper::domain::policy::Policy;
use gpu_shopper::domain::session::{Session, State};
use gpu_shopper::ports::{Provider, SystemChance};
use gpu_shopper::providers::http::{Context, Tuning, install_crypto};
use gpu_shopper::providers::{self, Settings, entry};
use gpu_shopper::server::vault;
use gpu_shopper::services::api::{Command, Create};
use gpu_shopper::services::lookout::Rhythm;
use gpu_shopper::services::sweeper::SweepPolicy;
use gpu_shopper::sim::{Faults, World, WorldConfig};
use gpu_shopper::ssh::ThrusshProbe;
use gpu_shopper::ssh::keys::Secret;
use gpu_shopper::store::{Mode, Options, Store};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::caller;

/// See the module's header.
pub struct Real {
    pub core: Core,
    pub world: World,
    folder: tempfile::TempDir,
}

impl Real {
    /// With both vendors.
    pub async fn start(seed: u64) -> Self {
        install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let world = World::start(WorldConfig::local(seed, Faults::none())).await.unwrap();
        let tuning = Tuning { pace_percent: 0, ..Tuning::default() };
        let context = Context { tuning, ..Context::new(Clock::System, Arc::new(SystemChance)) };
        let vastai = Settings::new().with("api_key", &world.keys.vastai_key).with("base_url", &world.vastai_url);
        let tensordock = Settings::new()
            .with("auth_id", &world.keys.tensordock_auth_id)
            .with("api_token", &world.keys.tensordock_token)
            .with("base_url", &world.tensordock_url);
        let build = |name: &str, settings| -> (ProviderId, Arc<dyn Provider>) {
            (ProviderId::new(name), (entry(name).unwrap().build)(settings, &context).unwrap())
        };
        let providers: BTreeMap<_, _> = [build("vastai", &vastai), build("tensordock", &tensordock)].into();
        let secret = Secret::from_bytes([5; 32]);
        let path = folder.path().join("real.db");
        let core = Core::start(CoreParts {
            store: Store::open(Options { path, mode: Mode::Threaded, holder: "real".to_owned() }).unwrap(),
            deployment_id: "real".to_owned(),
            private_addresses: providers.keys().cloned().collect(),
            providers,
            probe: Arc::new(ThrusshProbe::new(secret.clone())),
            chance: Arc::new(SystemChance),
            clock: Clock::System,
            policy: Policy::default(),
            rhythm: Rhythm { close: Duration::from_millis(200), steady: Duration::from_secs(1), idle: Duration::from_secs(1) },
            refresh: None,
            drain: Duration::from_secs(5),
            vault: vault(secret, Arc::new(SystemChance)),
            offer_ids: providers::REGISTER.iter().map(|e| e.offer_id).collect(),
            vendor_calls: BTreeMap::new(),
            sweep: SweepPolicy::default(),
            frozen: None,
        })
        .await
        .unwrap();
        core.wait_swept().await;
        let real = Self { core, world, folder };
        real.soon("offers", || real.core.inventory.freshness().iter().all(|f| f.offers > 0)).await;
        real
    }

    /// Creates a session and waits until it runs.
    pub async fn run(&self, create: Create) -> Arc<Session> {
        let id = self.core.lifecycle.create(caller(), create).await.unwrap().session.id;
        self.until(id, State::Running).await
    }

    pub async fn until(&self, id: SessionId, state: State) -> Arc<Session> {
        let (session, reached) = self.core.sessions.wait(&caller(), id, &[state], Duration::from_secs(60)).await.unwrap();
        assert!(reached, "{}: {}", session.state, session.status_message);
        session
    }

    pub async fn get(&self, id: SessionId) -> Arc<Session> {
        self.core.sessions.get(&caller(), id).await.unwrap()
    }

    /// Waits until something is so.
    pub async fn soon(&self, what: &str, so: impl Fn() -> bool) {
        for _ in 0..1000 {
            if so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("never came: {what}");
    }

    /// Destroys the session, stops everything, and tells which of these texts lie on disk somewhere.
    pub async fn end(self, id: SessionId, texts: &[&str]) -> Vec<String> {
        self.core.lifecycle.command(caller(), id, Command::Destroy, None, false).await.unwrap();
        self.until(id, State::Stopped).await;
        self.core.stop().await.unwrap();
        self.world.stop().await;
        let mut found = Vec::new();
        let mut files = 0;
        for file in std::fs::read_dir(self.folder.path()).unwrap().map(|f| f.unwrap().path()) {
            files += 1;
            let bytes = std::fs::read(&file).unwrap();
            let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
            found.extend(texts.iter().filter(|text| holds(text)).map(|text| format!("{}: {text}", file.display())));
        }
        assert!(files > 0);
        found
    }
}
