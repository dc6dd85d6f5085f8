//! The server: a core behind one port. `serve` and `demo` both run it; they differ in which marketplaces they hand in.
//!
//! Order of the start: everything that can be wrong with the settings is found before anything happens; then the port is
//! bound, the database is opened, the port is answered (NOT_SERVING, 503), and only then the providers are looked at.
//! Order of the end: no new work, streams end, what is under way at providers is written down, connections are drained.

mod access;
mod ending;
mod renewal;
mod start;

pub use ending::{Left, LeftSession};
pub(crate) use start::require_owing;

use crate::app::{Core, CoreParts, tag_of};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::ids::ProviderId;
use crate::grpc;
use crate::http::{self, body, ops, port};
use crate::ports::{Chance, Provider, SystemChance};
use crate::providers::{self, Context, Renewable, Tuning};
use crate::services::access::Access;
use crate::services::board::Board;
use crate::services::costs::Accrued;
use crate::services::counters;
use crate::services::drain::Drain;
use crate::services::error::Error as ServiceError;
use crate::services::lifecycle::{Content, Standing, Vault};
use crate::services::lookout::{Outlook, Rhythm};
use crate::services::operator::VendorCall;
use crate::ssh::keys::{self, NONCE_BYTES, Secret};
use crate::ssh::{ThrusshProbe, keys as ssh_keys};
use crate::store::{Keep, Mode, Options, Store};
use crate::telemetry::Telemetry;
use anyhow::Context as _;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often what is no longer kept is deleted.
const TRIM_EVERY: Duration = Duration::from_secs(3600);
/// How often it is noted how far the database has come, when it has moved.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// And it never gets so many revisions ahead of the note.
const HEARTBEAT_REVISIONS: i64 = 1000;

/// A server that answers.
pub struct Server {
    /// Where.
    pub addr: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Why nothing happens by itself until an operator accepts the database, with what is open in it; `None` = it may be
    /// believed.
    pub frozen: Option<String>,
    /// Where an admin's token lies and how it is sent, without it; empty where callers need none.
    pub login: String,
    token: Option<SecretString>,
    core: Arc<Core>,
    health: grpc::Health,
    shutdown: CancellationToken,
    port: tokio::task::JoinHandle<port::Drained>,
    trim: tokio::task::JoinHandle<()>,
    heartbeat: tokio::task::JoinHandle<()>,
    store: Store,
    drain: Drain,
    clock: Clock,
    renewable: BTreeMap<ProviderId, Arc<Renewable>>,
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
            Some(files) => Some(port::Tls::load(&files.cert, &files.key, files.client_ca.as_deref())?),
            None => None,
        };
        // The port comes first: a server that can't have it leaves nothing behind, and the lock names the real one.
        let listener = port::bind(&config.server.host, config.server.port).await?;
        let addr = listener.local_addr().context("the port's address")?;
        let holder = addr.to_string();
        let store = Store::open(Options { path: config.database_path.clone(), mode: Mode::Threaded, holder })?;
        let secret = Secret::load_or_create(&beside(&config.database_path, "secret"))?;
        start::keep_apart(&store, config.simulated).await?;
        let deployment_id = start::deployment_id(&store, config.deployment_id.as_deref(), &*chance).await?;
        start::compare_secret(&store, &secret, &config.database_path).await?;
        start::require_owing(&store, &enabled.providers.keys().cloned().collect()).await?;
        let access::Opened { access, token, hint } = access::open(config, &store, &chance, &clock).await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let name = u128::from(chance.bits()) << 64 | u128::from(chance.bits());
        let frozen = match store.epoch_check(name, clock.now()).await? {
            Some(doubt) => Some(start::frozen(&store, &doubt, &format!("{scheme}://{addr}")).await?),
            None => None,
        };
        if let Some(why) = &frozen {
            tracing::error!("frozen: {why}");
        }
        let (tag, to_compare) = (tag_of(&deployment_id), enabled.providers.clone());
        let core = Core::start(CoreParts {
            sweep: config.sweep,
            store: store.clone(),
            deployment_id,
            providers: enabled.providers,
            probe: Arc::new(ThrusshProbe::new(secret.clone())),
            chance: Arc::clone(&chance),
            clock: clock.clone(),
            policy: config.policy(),
            rhythm: Rhythm {
                close: config.lifecycle.poll_interval,
                steady: config.lifecycle.check_interval,
                idle: config.lifecycle.reconciliation_interval,
            },
            refresh: config.inventory.refresh_interval,
            drain: config.shutdown_drain,
            vault: vault(secret, Arc::clone(&chance)),
            private_addresses: enabled.private,
            offer_ids: providers::REGISTER.iter().map(|e| e.offer_id).collect(),
            vendor_calls: enabled.destroy_lines,
            frozen: frozen.clone(),
        })
        .await?;
        let core = Arc::new(core);
        let health = grpc::Health::new().await;
        let shutdown = CancellationToken::new();
        let faces = faces(config, &core, &store, &health, telemetry, &clock, chance, access)?;
        let limits = port::Limits { streams: config.limits.streams_per_connection, header_bytes: config.limits.header_bytes };
        let port = tokio::spawn(port::serve(listener, tls, limits, faces, config.shutdown_drain, shutdown.clone()));
        let trim = tokio::spawn(trim(store.clone(), clock.clone(), config.keep));
        let heartbeat = tokio::spawn(heartbeat(store.clone(), core.board.clone(), clock.clone()));
        tracing::info!(%addr, database = %config.database_path.display(), "listening; looking at the providers");
        let (swept, serving, database, doubted) = (Arc::clone(&core), health.clone(), store.clone(), frozen.is_some());
        tokio::spawn(async move {
            // A server that stops before that must not be held by this.
            tokio::select! {
                biased;
                () = swept.drain.cancelled() => return,
                () = swept.wait_looked() => {}
            }
            if !swept.lifecycle.is_retired() {
                serving.set(true).await;
                tracing::info!("ready");
            }
            if doubted {
                let stop = swept.drain.clone();
                drop(swept);
                let compared = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    compared = start::compared(&database, &to_compare, tag) => compared,
                };
                match compared {
                    Ok(text) => tracing::error!("frozen; compared with what the providers show:{text}"),
                    Err(error) => tracing::error!(%error, "frozen; the database could not be compared with the providers"),
                }
            }
        });
        let drain = core.winding_up.clone();
        Ok(Self {
            addr,
            scheme,
            frozen,
            login: hint,
            token,
            core,
            health,
            shutdown,
            port,
            trim,
            heartbeat,
            store,
            drain,
            clock,
            renewable: enabled.renewable,
        })
    }

    /// The base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }

    /// An admin's token, for those who live in the same process; `None` where callers need none.
    #[must_use]
    pub fn token(&self) -> Option<&SecretString> {
        self.token.as_ref()
    }

    /// The core, for those who live in the same process.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Resolves when every provider has been looked at, its machines and its offers.
    pub async fn ready(&self) {
        self.core.wait_looked().await;
    }
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
    renewable: BTreeMap<ProviderId, Arc<Renewable>>,
    private: Vec<ProviderId>,
    destroy_lines: BTreeMap<ProviderId, (String, VendorCall)>,
}

fn enabled(config: &Config, clock: &Clock, chance: &Arc<dyn Chance>, pace: u32) -> anyhow::Result<Enabled> {
    let mut all = Enabled { providers: BTreeMap::new(), renewable: BTreeMap::new(), private: Vec::new(), destroy_lines: BTreeMap::new() };
    for entry in providers::REGISTER {
        let Some(settings) = config.providers.get(entry.name) else {
            let wanted: Vec<String> = entry.credentials().map(|setting| entry.env(setting.key)).collect();
            tracing::info!(provider = entry.name, "{} is not enabled: {} not set", entry.title, wanted.join(" and "));
            continue;
        };
        let mut context = Context::new(clock.clone(), Arc::clone(chance));
        context.tuning =
            Tuning { pace_percent: pace, call_deadline: config.calls.deadline, launch_deadline: config.calls.launch_deadline, ..context.tuning };
        let provider = Arc::new(Renewable::new(entry, settings.values.clone(), context)?);
        let id = ProviderId::new(entry.name);
        tracing::info!(provider = entry.name, base_url = %settings.base_url, "{} is enabled", entry.title);
        if settings.allow_private_addresses {
            all.private.push(id.clone());
        }
        all.destroy_lines.insert(id.clone(), (settings.base_url.clone(), entry.destroy_line));
        all.providers.insert(id.clone(), Arc::clone(&provider) as Arc<dyn Provider>);
        all.renewable.insert(id, provider);
    }
    Ok(all)
}

/// Seals and opens with keys derived from the server's secret.
pub fn vault(secret: Secret, chance: Arc<dyn Chance>) -> Vault {
    fn purpose(content: Content) -> &'static str {
        match content {
            Content::ConsumerKey => "consumer private key",
            Content::Start => "start of a machine",
        }
    }
    let opening = secret.clone();
    Vault {
        seal: Arc::new(move |content, id, key: &SecretString| {
            let mut nonce = [0; NONCE_BYTES];
            for chunk in nonce.chunks_mut(8) {
                chunk.copy_from_slice(&chance.bits().to_be_bytes()[..chunk.len()]);
            }
            keys::seal(&secret, purpose(content), &id.bits().to_be_bytes(), nonce, key.expose_secret().as_bytes()).ok()
        }),
        open: Arc::new(move |content, id, sealed| {
            let plain = keys::open(&opening, purpose(content), &id.bits().to_be_bytes(), sealed).ok()?;
            String::from_utf8(plain.expose_secret().to_vec()).ok().map(SecretString::from)
        }),
    }
}

#[allow(clippy::too_many_arguments, reason = "what they are made of")]
fn faces(
    config: &Config,
    core: &Arc<Core>,
    store: &Store,
    health: &grpc::Health,
    telemetry: &Telemetry,
    clock: &Clock,
    chance: Arc<dyn Chance>,
    access: Access,
) -> anyhow::Result<http::Faces<grpc::Rpcs>> {
    let body_limit = usize::try_from(config.limits.body_bytes).unwrap_or(usize::MAX);
    let services = grpc::Services {
        inventory: core.inventory.clone(),
        templates: core.templates.clone(),
        lifecycle: core.lifecycle.clone(),
        sessions: core.sessions.clone(),
        costs: core.costs.clone(),
        operator: core.operator.clone(),
        drain: core.winding_up.clone(),
        access: access.clone(),
    };
    let settings = grpc::Settings {
        hard_max: config.lifecycle.hard_max,
        providers: core.providers.clone(),
        default_max_attempts: config.failover.max_attempts,
        bookmark: config.watch_bookmark,
        offer_ids: providers::REGISTER.iter().map(|e| e.offer_id).collect(),
        parse_public_key: |text| ssh_keys::parse_public_key(text).map(|key| key.line).map_err(|e| e.to_string()),
        make_key_pair: Arc::new(move |comment| make_key_pair(comment, &*chance)),
        fingerprint: |line| ssh_keys::fingerprint(line).ok(),
        known_hosts_line: |host, port, key| ssh_keys::known_hosts_line(host, port, key),
        largest_request: body_limit,
    };
    let json = http::api::routes(services.clone(), settings.clone());
    let rpcs = grpc::rpcs(services, settings, health)?;
    let (board, names, handle, accrued) = (core.board.clone(), core.providers.clone(), telemetry.handle(), Accrued::new(core.costs.clone()));
    let operator = core.operator.clone();
    let (seen, database) = (Arc::downgrade(core), store.clone());
    let ops = ops::Ops {
        health: Arc::new(move || match seen.upgrade() {
            Some(core) => report(&core, database.epoch_doubtful()),
            None => ops::HealthReport { status: ops::Health::Draining, ready: false, services: BTreeMap::new() },
        }),
        scrape: Arc::new(move || {
            let (board, names, handle, accrued, operator) = (board.clone(), names.clone(), handle.clone(), accrued.clone(), operator.clone());
            Box::pin(async move {
                counters::scrape(&board, &names);
                counters::watched(&operator).await;
                if let Some(sums) = accrued.by_provider().await {
                    counters::accrued(&sums, &names);
                }
                handle.render()
            })
        }),
        allowed_hosts: config.server.allowed_hosts.clone().into(),
        clock: clock.clone(),
        unknown_rpc: grpc::status::unknown_service,
        access,
        refused_rpc: grpc::status::refused,
        allowed_origins: config.server.allowed_origins.clone().into(),
        body_limit,
        body_period: body::PERIOD,
    };
    Ok(http::assemble(rpcs, json, ops))
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
fn report(core: &Core, frozen: bool) -> ops::HealthReport {
    let (alive, looked, draining) = (core.alive(), core.looked(), core.drain.is_cancelled() || core.lifecycle.is_retired());
    let mut services = BTreeMap::new();
    services.insert("lifecycle".to_owned(), if alive { "running" } else { "stopped" }.to_owned());
    services.insert("database".to_owned(), if frozen { "frozen" } else { "ok" }.to_owned());
    let freshness = core.inventory.freshness();
    let offers: usize = freshness.iter().map(|f| f.offers).sum();
    let failing = freshness.iter().filter(|f| f.error.is_some()).count();
    let inventory = if freshness.iter().any(|f| f.fetched_at.is_none() && f.error.is_none()) {
        "fetching"
    } else if offers > 0 && failing == 0 {
        "ok"
    } else if offers > 0 {
        "degraded"
    } else {
        "empty"
    };
    services.insert("inventory".to_owned(), inventory.to_owned());
    let outlook = core.outlook.borrow().clone();
    let mut degraded = frozen;
    for provider in &core.providers {
        let seen = outlook.get(provider);
        let word = Outlook::word(seen, Standing::refusal(&core.standing, provider).as_ref());
        degraded |= word != "ok";
        services.insert(provider.to_string(), word.to_owned());
    }
    let status = if draining {
        ops::Health::Draining
    } else if !alive {
        ops::Health::Unavailable
    } else if !looked {
        ops::Health::Starting
    } else if degraded || failing > 0 {
        ops::Health::Degraded
    } else {
        ops::Health::Ok
    };
    ops::HealthReport { ready: alive && looked && !draining, status, services }
}

async fn trim(store: Store, clock: Clock, keep: Keep) {
    loop {
        clock.sleep(TRIM_EVERY).await;
        if let Err(error) = store.trim(clock.now(), keep).await {
            tracing::warn!(%error, "deleting what is no longer kept failed; it is tried again");
        }
    }
}

/// Notes how far the database has come, now and then, and the sooner the faster it moves.
async fn heartbeat(store: Store, board: Board, clock: Clock) {
    let mut bell = board.subscribe(None);
    let mut told = Duration::from_secs(1);
    loop {
        let noted = board.last();
        let back = clock.set_back();
        if back < Duration::from_secs(1) {
            told = Duration::from_secs(1);
        }
        if back > told {
            told = back + Duration::from_secs(1);
            tracing::warn!(
                by_seconds = back.as_secs(),
                "this machine's clock was set back; what is told, waited for and metered goes by the old one until the server starts again"
            );
        }
        if let Err(error) = store.epoch_note(clock.now()).await {
            tracing::warn!(%error, "noting the epoch failed; it is tried again");
        }
        tokio::select! {
            () = clock.sleep(HEARTBEAT) => {}
            _ = bell.wait_for(|last| *last >= noted + HEARTBEAT_REVISIONS) => {}
        }
    }
}
