//! The server: a core behind one port. `serve` and `demo` both run it; they differ in which marketplaces they hand in.
//!
//! Order of the start: everything that can be wrong with the settings is found before anything happens; then the port is
//! bound, the database is opened, the port is answered (NOT_SERVING, 503), and only then the providers are looked at.
//! Order of the end: no new work, streams end, what is under way at providers is written down, connections are drained.

use crate::app::{Core, CoreParts};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::ids::{ProviderId, SessionId};
use crate::domain::money::Rate;
use crate::domain::session::State;
use crate::grpc;
use crate::http::{self, ops, port};
use crate::ports::{Chance, Provider, SystemChance};
use crate::providers::{self, Context, Tuning};
use crate::services::api::{Caller, CostQuery, GroupBy};
use crate::services::counters;
use crate::services::error::Error as ServiceError;
use crate::services::lifecycle::Vault;
use crate::services::lookout::Rhythm;
use crate::services::operator::VendorCall;
use crate::services::sweeper::SweepPolicy;
use crate::ssh::keys::{self, NONCE_BYTES, Secret};
use crate::ssh::{ThrusshProbe, keys as ssh_keys};
use crate::store::{Keep, Mode, Options, Store};
use crate::telemetry::Telemetry;
use anyhow::{Context as _, bail};
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often what is no longer kept is deleted.
const TRIM_EVERY: Duration = Duration::from_secs(3600);
/// Lists while something begins or is searched for.
const CLOSE_LOOK: Duration = Duration::from_secs(5);

/// A server that answers.
pub struct Server {
    /// Where.
    pub addr: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    core: Arc<Core>,
    health: grpc::Health,
    shutdown: CancellationToken,
    port: tokio::task::JoinHandle<port::Drained>,
    trim: tokio::task::JoinHandle<()>,
}

/// What still runs, and costs, when the server stops.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// Sessions that are not final, with their state.
    pub sessions: Vec<(SessionId, State)>,
    /// What they cost per hour together.
    pub rate: Rate,
}

impl Server {
    /// Starts a server. Returns when the port answers; the providers are looked at afterwards.
    ///
    /// # Errors
    /// Each with what to do about it: the port is taken, the database can't be opened, another server holds it, a
    /// provider's settings make no sense.
    ///
    /// `pace` is the share (percent) of the vendors' minimum intervals between calls that is kept: 100 at a vendor, 0 at
    /// a simulated one that asks for none.
    pub async fn start(config: &Config, telemetry: &Telemetry, pace: u32) -> anyhow::Result<Self> {
        let clock = Clock::System;
        let chance: Arc<dyn Chance> = Arc::new(SystemChance);
        let enabled = enabled(config, &clock, &chance, pace)?;
        let tls = match &config.server.tls {
            Some(files) => Some(port::Tls::load(&files.cert, &files.key)?),
            None => None,
        };
        // The port comes first: a server that can't have it leaves nothing behind, and the lock names the real one.
        let listener = port::bind(&config.server.host, config.server.port).await?;
        let addr = listener.local_addr().context("the port's address")?;
        let holder = addr.to_string();
        let store = Store::open(Options { path: config.database_path.clone(), mode: Mode::Threaded, holder })?;
        let secret = Secret::load_or_create(&beside(&config.database_path, "secret"))?;
        keep_apart(&store, config.simulated).await?;
        let deployment_id = deployment_id(&store, config.deployment_id.as_deref(), &*chance).await?;
        let core = Core::start(CoreParts {
            sweep: SweepPolicy::default(),
            frozen: None,
            accept: Arc::new(|| ()),
            store: store.clone(),
            deployment_id,
            providers: enabled.providers,
            probe: Arc::new(ThrusshProbe::new(secret.clone())),
            chance: Arc::clone(&chance),
            clock: clock.clone(),
            policy: config.policy(),
            rhythm: Rhythm { close: CLOSE_LOOK, steady: config.lifecycle.check_interval, idle: config.lifecycle.reconciliation_interval },
            refresh: config.inventory.refresh_interval,
            drain: config.shutdown_drain,
            vault: vault(secret, Arc::clone(&chance)),
            private_addresses: enabled.private,
            offer_ids: providers::REGISTER.iter().map(|e| e.offer_id).collect(),
            vendor_calls: enabled.destroy_lines,
        })
        .await?;
        let core = Arc::new(core);
        let health = grpc::Health::new().await;
        let shutdown = CancellationToken::new();
        let router = router(config, &core, &health, telemetry, &clock, chance)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let port = tokio::spawn(port::serve(listener, tls, router, config.shutdown_drain, shutdown.clone()));
        let trim = tokio::spawn(trim(store, clock));
        tracing::info!(%addr, database = %config.database_path.display(), "listening; looking at the providers");
        let swept = (Arc::clone(&core), health.clone());
        tokio::spawn(async move {
            swept.0.wait_swept().await;
            if !swept.0.drain.is_cancelled() {
                swept.1.set(true).await;
                tracing::info!("ready");
            }
        });
        Ok(Self { addr, scheme, core, health, shutdown, port, trim })
    }

    /// The base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }

    /// The core, for those who live in the same process.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Resolves when every provider has been looked at.
    pub async fn ready(&self) {
        self.core.wait_swept().await;
    }

    /// Drains and stops. Nothing is destroyed; what is left is told.
    pub async fn stop(self) -> Left {
        self.health.set(false).await;
        self.core.drain.cancel();
        self.health.close().await;
        self.shutdown.cancel();
        let _ = self.port.await;
        self.trim.abort();
        let left = left(&self.core);
        if let Some(core) = Arc::into_inner(self.core)
            && let Err(error) = core.stop().await
        {
            tracing::error!(%error, "the lifecycle did not end well");
        }
        left
    }
}

fn left(core: &Core) -> Left {
    let mut left = Left::default();
    for live in core.board.snapshot().0 {
        if !live.session.state.is_final() {
            left.sessions.push((live.session.id, live.session.state));
            left.rate = left.rate + live.session.price.total();
        }
    }
    left
}

/// The file beside the database with another ending: `<db>.secret`.
#[must_use]
pub fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

struct Enabled {
    providers: BTreeMap<ProviderId, Arc<dyn Provider>>,
    private: Vec<ProviderId>,
    destroy_lines: BTreeMap<ProviderId, (String, VendorCall)>,
}

fn enabled(config: &Config, clock: &Clock, chance: &Arc<dyn Chance>, pace: u32) -> anyhow::Result<Enabled> {
    let mut all = Enabled { providers: BTreeMap::new(), private: Vec::new(), destroy_lines: BTreeMap::new() };
    for entry in providers::REGISTER {
        let Some(settings) = config.providers.get(entry.name) else {
            tracing::info!(provider = entry.name, "not enabled");
            continue;
        };
        let mut context = Context::new(clock.clone(), Arc::clone(chance));
        context.tuning = Tuning { pace_percent: pace, ..context.tuning };
        let provider = (entry.build)(&settings.values, &context)?;
        let id = ProviderId::new(entry.name);
        tracing::info!(provider = entry.name, base_url = %settings.base_url, "enabled");
        if settings.allow_private_addresses {
            all.private.push(id.clone());
        }
        all.destroy_lines.insert(id.clone(), (settings.base_url.clone(), entry.destroy_line));
        all.providers.insert(id, provider);
    }
    Ok(all)
}

/// Real machines and simulated ones never share a database: to either side the other's machines would be gone.
async fn keep_apart(store: &Store, simulated: bool) -> anyhow::Result<()> {
    const KEY: &str = "simulated";
    let marked = store.meta_get(KEY).await?.is_some();
    if !simulated && marked {
        bail!("the database belongs to a demo with simulated marketplaces: take another one (DATABASE_PATH)");
    }
    if simulated && !marked {
        if store.session_count_by_state().await?.iter().any(|count| count.count > 0) {
            bail!("the database has sessions of a real server, and a demo would take their machines for gone: take another one (DATABASE_PATH)");
        }
        store.meta_set(KEY, "true").await?;
    }
    Ok(())
}

/// The id of this deployment: the stored one, the configured one, or a new one.
async fn deployment_id(store: &Store, configured: Option<&str>, chance: &dyn Chance) -> anyhow::Result<String> {
    const KEY: &str = "deployment_id";
    let stored = store.meta_get(KEY).await?;
    let id = match (stored, configured) {
        (Some(stored), None) => return Ok(stored),
        (Some(stored), Some(wanted)) if stored == wanted => return Ok(stored),
        (Some(stored), Some(wanted)) => {
            let open: BTreeSet<SessionId> = store.instances_unsettled().await?.iter().map(|i| i.label.session).collect();
            if !open.is_empty() {
                let list: Vec<String> = open.iter().map(ToString::to_string).collect();
                bail!(
                    "DEPLOYMENT_ID is `{wanted}`, but this database belongs to deployment `{stored}` and still has machines under that name \
                     (sessions {}): start with DEPLOYMENT_ID={stored}, end them, then change it",
                    list.join(", ")
                );
            }
            wanted.to_owned()
        }
        (None, Some(wanted)) => wanted.to_owned(),
        (None, None) => format!("{:016x}", chance.bits()),
    };
    store.meta_set(KEY, &id).await?;
    Ok(id)
}

fn vault(secret: Secret, chance: Arc<dyn Chance>) -> Vault {
    const PURPOSE: &str = "consumer private key";
    let opening = secret.clone();
    Vault {
        seal: Arc::new(move |id, key: &SecretString| {
            let mut nonce = [0; NONCE_BYTES];
            for chunk in nonce.chunks_mut(8) {
                chunk.copy_from_slice(&chance.bits().to_be_bytes()[..chunk.len()]);
            }
            keys::seal(&secret, PURPOSE, &id.bits().to_be_bytes(), nonce, key.expose_secret().as_bytes()).ok()
        }),
        open: Arc::new(move |id, sealed| {
            let plain = keys::open(&opening, PURPOSE, &id.bits().to_be_bytes(), sealed).ok()?;
            String::from_utf8(plain.expose_secret().to_vec()).ok().map(SecretString::from)
        }),
    }
}

fn router(
    config: &Config,
    core: &Arc<Core>,
    health: &grpc::Health,
    telemetry: &Telemetry,
    clock: &Clock,
    chance: Arc<dyn Chance>,
) -> anyhow::Result<axum::Router> {
    let services = grpc::Services {
        inventory: core.inventory.clone(),
        lifecycle: core.lifecycle.clone(),
        sessions: core.sessions.clone(),
        costs: core.costs.clone(),
        operator: core.operator.clone(),
    };
    let settings = grpc::Settings {
        hard_max: config.lifecycle.hard_max,
        providers: core.providers.clone(),
        default_max_attempts: config.failover.max_attempts,
        bookmark: config.watch_bookmark,
        parse_public_key: |text| ssh_keys::parse_public_key(text).map(|key| key.line).map_err(|e| e.to_string()),
        make_key_pair: Arc::new(move |comment| make_key_pair(comment, &*chance)),
        fingerprint: |line| ssh_keys::fingerprint(line).ok(),
        known_hosts_line: |host, port, key| ssh_keys::known_hosts_line(host, port, key),
        allowed_origins: Vec::new(),
    };
    let grpc = grpc::routes(services, settings, health)?;
    let (board, names, handle, costs) = (core.board.clone(), core.providers.clone(), telemetry.handle(), core.costs.clone());
    let seen = Arc::downgrade(core);
    let ops = ops::Ops {
        health: Arc::new(move || match seen.upgrade() {
            Some(core) => report(&core),
            None => ops::HealthReport { status: ops::Health::Draining, ready: false, services: BTreeMap::new() },
        }),
        scrape: Arc::new(move || {
            let (board, names, handle, costs) = (board.clone(), names.clone(), handle.clone(), costs.clone());
            Box::pin(async move {
                counters::scrape(&board, &names);
                let everybody = Caller { principal: "metrics".to_owned(), scope: None, admin: true };
                let query = CostQuery { group_by: vec![GroupBy::Provider], ..CostQuery::default() };
                if let Ok(report) = costs.report(&everybody, query).await {
                    counters::accrued(&report.groups, &names);
                }
                handle.render()
            })
        }),
        allowed_hosts: config.server.allowed_hosts.clone().into(),
        clock: clock.clone(),
        unknown_rpc: grpc::status::unknown_service,
    };
    Ok(http::assemble(grpc, axum::Router::new(), ops))
}

fn make_key_pair(comment: &str, chance: &dyn Chance) -> Result<grpc::KeyPair, ServiceError> {
    let mut seed = [0; 32];
    for chunk in seed.chunks_mut(8) {
        chunk.copy_from_slice(&chance.bits().to_be_bytes());
    }
    let pair = keys::generate_consumer_key(seed, comment);
    let private_key = pair.private_pem().map_err(|_| ServiceError::internal("making a key pair"))?;
    Ok(grpc::KeyPair { public_key: pair.public_line(), private_key })
}

/// How the server is, from memory.
fn report(core: &Core) -> ops::HealthReport {
    let (alive, swept, draining) = (core.alive(), core.swept(), core.drain.is_cancelled());
    let mut services = BTreeMap::new();
    services.insert("lifecycle".to_owned(), if alive { "running" } else { "stopped" }.to_owned());
    let freshness = core.inventory.freshness();
    let offers: usize = freshness.iter().map(|f| f.offers).sum();
    let failing = freshness.iter().filter(|f| f.error.is_some()).count();
    let inventory = if offers > 0 && failing == 0 {
        "ok"
    } else if offers > 0 {
        "degraded"
    } else {
        "empty"
    };
    services.insert("inventory".to_owned(), inventory.to_owned());
    let outlook = core.outlook.borrow().clone();
    let mut degraded = false;
    for provider in &core.providers {
        let seen = outlook.get(provider);
        let word = match seen {
            None => "starting",
            Some(o) if o.account_error.is_some() => "credentials not proven",
            Some(o) if o.list_error.is_some() => "unreachable",
            Some(_) => "ok",
        };
        degraded |= word != "ok";
        services.insert(provider.to_string(), word.to_owned());
    }
    let status = if draining {
        ops::Health::Draining
    } else if !alive {
        ops::Health::Unavailable
    } else if !swept {
        ops::Health::Starting
    } else if degraded || failing > 0 {
        ops::Health::Degraded
    } else {
        ops::Health::Ok
    };
    ops::HealthReport { ready: alive && swept && !draining, status, services }
}

async fn trim(store: Store, clock: Clock) {
    loop {
        clock.sleep(TRIM_EVERY).await;
        if let Err(error) = store.trim(clock.now(), Keep::default()).await {
            tracing::warn!(%error, "deleting what is no longer kept failed; it is tried again");
        }
    }
}
