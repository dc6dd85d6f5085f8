//! Both simulated marketplaces on real sockets: an HTTP server for each vendor's dialect, and an SSH server behind
//! every machine that has an address. What demo, `sim` and the tests over the network run on.

use crate::clock::Clock;
use crate::sim::keys::rewrite_in;
use crate::sim::market::{AccountId, Credentials, Market, MarketConfig, Wanted};
use crate::sim::ssh_host::{ExecReply, GpuState, Machine, SshHost, machine_at_work};
use crate::sim::{Dialect, Faults, GpuTruth, tensordock_router, vastai_router};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often machines are compared with their SSH servers: well below what a second of start-up costs.
const COMPARE: Duration = Duration::from_millis(25);

/// The credentials of a world's two accounts.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// Vast.ai's key: 64 hexadecimal digits.
    pub vastai_key: String,
    /// TensorDock's authorization id: a UUID.
    pub tensordock_auth_id: String,
    /// TensorDock's API token.
    pub tensordock_token: String,
}

impl Keys {
    /// Keys made from a seed: always the same for the same seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let digest = |what: &str| -> [u8; 32] { Sha256::new().chain_update(seed.to_be_bytes()).chain_update(what).finalize().into() };
        let hex = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut id = [0; 16];
        id.copy_from_slice(&digest("tensordock id")[..16]);
        Self {
            vastai_key: hex(digest("vastai key")),
            tensordock_auth_id: uuid::Builder::from_random_bytes(id).into_uuid().to_string(),
            tensordock_token: hex(digest("tensordock token"))[..40].to_owned(),
        }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// How a world is made.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// Decides the catalogue and every throw.
    pub seed: u64,
    /// What goes wrong and how long things take.
    pub faults: Faults,
    /// Where everything listens.
    pub bind: IpAddr,
    /// Vast.ai's and TensorDock's HTTP ports; 0 = any.
    pub ports: (u16, u16),
    /// What machines are said to be reached at; `None` = where they listen.
    pub advertise_host: Option<String>,
    /// Ports for SSH servers; `None` = any.
    pub ssh_ports: Option<RangeInclusive<u16>>,
    /// The market's time.
    pub clock: Clock,
    /// The accounts' credentials; `None` = from the seed.
    pub keys: Option<Keys>,
    /// How many times the usual catalogue is on the market.
    pub times: usize,
}

impl WorldConfig {
    /// A world on the loopback interface, at any ports, in real time.
    #[must_use]
    pub fn local(seed: u64, faults: Faults) -> Self {
        Self {
            seed,
            faults,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ports: (0, 0),
            advertise_host: None,
            ssh_ports: None,
            clock: Clock::System,
            keys: None,
            times: 1,
        }
    }
}

/// A running world. [`World::stop`] waits until all of it has ended; dropping it ends it as well, without waiting.
pub struct World {
    /// Vast.ai's base URL, without slash at the end.
    pub vastai_url: String,
    /// TensorDock's base URL, without slash at the end.
    pub tensordock_url: String,
    /// What opens the accounts.
    pub keys: Keys,
    /// The account at the simulated Vast.ai.
    pub vastai_account: AccountId,
    /// The account at the simulated TensorDock.
    pub tensordock_account: AccountId,
    /// The market behind it all.
    pub market: Arc<Market>,
    stopping: CancellationToken,
    tasks: JoinSet<()>,
}

impl World {
    /// Opens the markets.
    ///
    /// # Errors
    /// When an HTTP port can't be bound.
    pub async fn start(config: WorldConfig) -> io::Result<Self> {
        let WorldConfig { seed, faults, bind, ports, advertise_host, ssh_ports, clock, keys, times } = config;
        let market = Market::sized(MarketConfig { seed, faults, clock, fabricated_addresses: false }, times);
        let keys = keys.unwrap_or_else(|| Keys::from_seed(seed));
        let vastai_account = market.add_account(Dialect::Vastai, Credentials::Key(keys.vastai_key.clone()), None);
        let pair = Credentials::Pair { id: keys.tensordock_auth_id.clone(), token: keys.tensordock_token.clone() };
        let tensordock_account = market.add_account(Dialect::Tensordock, pair, None);
        let vastai = TcpListener::bind(SocketAddr::new(bind, ports.0)).await?;
        let tensordock = TcpListener::bind(SocketAddr::new(bind, ports.1)).await?;
        let host = advertise_host.unwrap_or_else(|| if bind.is_unspecified() { Ipv4Addr::LOCALHOST.to_string() } else { bind.to_string() });
        let url = |listener: &TcpListener| listener.local_addr().map(|addr| format!("http://{}", authority(&host, addr.port())));
        let (vastai_url, tensordock_url) = (url(&vastai)?, url(&tensordock)?);
        let stopping = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(vastai, vastai_router(Arc::clone(&market)), stopping.clone()));
        tasks.spawn(serve(tensordock, tensordock_router(Arc::clone(&market)), stopping.clone()));
        let doors = Doors { market: Arc::clone(&market), bind, host, ports: ssh_ports, next: 0, open: BTreeMap::new() };
        tasks.spawn(doors.keep(stopping.clone()));
        Ok(Self { vastai_url, tensordock_url, keys, vastai_account, tensordock_account, market, stopping, tasks })
    }

    /// Ends everything and waits until it has ended.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Serves until told to stop; calls under way then are cut off, as a vendor's outage would.
async fn serve(listener: TcpListener, router: axum::Router, stopping: CancellationToken) {
    tokio::select! {
        biased;
        () = stopping.cancelled() => {}
        served = async { axum::serve(listener, router).await } => {
            if let Err(e) = served {
                tracing::warn!("a simulated market ended: {e}");
            }
        }
    }
}

/// A simulated machine's API: loading at first, then it answers whatever it is asked.
async fn serve_api(listener: TcpListener, market: Arc<Market>, id: String) {
    let answer = move || {
        let status = market.api_status_of(&id).unwrap_or(503);
        let body = axum::Json(serde_json::json!({"object": "list", "data": [{"id": "model", "object": "model"}]}));
        async move { (axum::http::StatusCode::from_u16(status).unwrap_or_default(), body) }
    };
    if let Err(e) = axum::serve(listener, axum::Router::new().fallback(answer)).await {
        tracing::debug!("a simulated API ended: {e}");
    }
}

/// The SSH servers of the machines.
struct Doors {
    market: Arc<Market>,
    bind: IpAddr,
    host: String,
    ports: Option<RangeInclusive<u16>>,
    next: u16,
    open: BTreeMap<String, Door>,
}

/// One machine's way in: its address, and the server behind it from when it answers.
struct Door {
    direct: SocketAddr,
    server: Option<SshHost>,
    /// The servers behind its mapped ports; they end with it.
    _apis: JoinSet<()>,
}

impl Doors {
    async fn keep(mut self, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(COMPARE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                _ = ticks.tick() => self.compare().await,
            }
        }
        for door in self.open.into_values() {
            if let Some(server) = door.server {
                server.stop().await;
            }
        }
    }

    async fn compare(&mut self) {
        let wanted: BTreeMap<String, Wanted> = self.market.wanted().into_iter().map(|one| (one.native_id.clone(), one)).collect();
        let closed: Vec<String> = self.open.keys().filter(|id| !wanted.contains_key(*id)).cloned().collect();
        for id in closed {
            if let Some(server) = self.open.remove(&id).and_then(|door| door.server) {
                server.stop().await;
            }
        }
        for (id, machine) in wanted {
            if !self.open.contains_key(&id) {
                match self.free_address().await {
                    Ok(direct) => drop(self.open.insert(id.clone(), Door { direct, server: None, _apis: JoinSet::new() })),
                    Err(e) => tracing::warn!("no port for a simulated machine: {e}"),
                }
            }
            if machine.answers && self.open.get(&id).is_some_and(|door| door.server.is_none()) {
                self.serve(&id, &machine).await;
            } else if let Some(door) = self.open.get(&id).filter(|door| door.server.is_none()) {
                // An address that nobody listens at yet.
                let end = Some((self.host.clone(), door.direct.port()));
                self.market.set_endpoint(&id, end.clone().filter(|_| machine.direct), end.filter(|_| !machine.direct));
            }
        }
    }

    /// Starts a machine's server, and a second listener where its vendor has a proxy beside the direct way.
    async fn serve(&mut self, id: &str, wanted: &Wanted) {
        let Some(mut at) = self.open.get(id).map(|door| door.direct) else { return };
        let behind = Arc::new(machine(&self.market, id));
        let seed = self.market.host_key_seed(id);
        let mut started = SshHost::start(at, seed, Arc::clone(&behind)).await;
        if started.is_err()
            && let Ok(other) = self.free_address().await
        {
            // Somebody took the port meanwhile; addresses do change in the life of a machine.
            at = other;
            started = SshHost::start(at, seed, behind).await;
        }
        let server = match started {
            Ok(server) => server,
            Err(e) => return tracing::warn!("no SSH server for a simulated machine: {e}"),
        };
        self.market.listens(id);
        let main = Some((self.host.clone(), server.addr().port()));
        let ends = match (wanted.direct, wanted.proxied) {
            (true, true) => {
                let second = match self.free_address().await {
                    Ok(address) => server.start_also(address).await.ok(),
                    Err(_) => None,
                };
                (main, second.map(|address| (self.host.clone(), address.port())))
            }
            (true, false) => (main, None),
            (false, _) => (None, main),
        };
        let mut apis = JoinSet::new();
        for inside in wanted.ports.iter().filter(|_| wanted.direct) {
            let Ok(address) = self.free_address().await else { continue };
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    self.market.set_port(id, *inside, address.port());
                    apis.spawn(serve_api(listener, Arc::clone(&self.market), id.to_owned()));
                }
                Err(e) => tracing::warn!("no port for a simulated machine's API: {e}"),
            }
        }
        self.market.set_endpoint(id, ends.0, ends.1);
        self.open.insert(id.to_owned(), Door { direct: server.addr(), server: Some(server), _apis: apis });
    }

    /// An address that is free now: from the given ports in turn, or any.
    async fn free_address(&mut self) -> io::Result<SocketAddr> {
        let Some(ports) = self.ports.clone() else {
            return TcpListener::bind(SocketAddr::new(self.bind, 0)).await?.local_addr();
        };
        let taken: Vec<u16> = self.open.values().map(|door| door.direct.port()).collect();
        for _ in ports.clone() {
            self.next = if ports.contains(&self.next) && self.next < *ports.end() { self.next + 1 } else { *ports.start() };
            let address = SocketAddr::new(self.bind, self.next);
            if !taken.contains(&self.next) && TcpListener::bind(address).await.is_ok() {
                return Ok(address);
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "all SSH ports are taken"))
    }
}

/// Whether a command is a script that rewrites `authorized_keys`; if so, it is done.
fn rewrites(market: &Market, id: &str, command: &str) -> bool {
    rewrite_in(command).is_some_and(|(add, gone)| market.rewrite_keys(id, &add, &gone))
}

/// What the market says of a machine, as its SSH server asks it.
fn machine(market: &Arc<Market>, id: &str) -> Machine {
    let (door, inside) = (Arc::clone(market), Arc::clone(market));
    let (door_id, inside_id) = (id.to_owned(), id.to_owned());
    Machine {
        authorized: Box::new(move |blob| door.admits(&door_id, blob)),
        exec: Box::new(move |command| {
            let workload = inside.workload(&inside_id);
            match inside.gpu_truth(&inside_id) {
                Some(_) if rewrites(&inside, &inside_id, command) => ExecReply::default(),
                Some(GpuTruth::Present { gpus, driver, cuda }) => {
                    let machine = inside.machine_number(&inside_id);
                    machine_at_work(command, &GpuState::Healthy { gpus: &gpus, driver: &driver, cuda: &cuda, machine }, workload)
                }
                Some(GpuTruth::NoDriver) => {
                    let words = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. \
                                 Make sure that the latest NVIDIA driver is installed and running.";
                    machine_at_work(command, &GpuState::Failing { words, exit: 9 }, workload)
                }
                Some(GpuTruth::NoTool) => machine_at_work(command, &GpuState::Absent, workload),
                None => ExecReply { hang: true, ..ExecReply::default() },
            }
        }),
    }
}
