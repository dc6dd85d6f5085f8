//! The program as a child process: how it is started, listened to, spoken to and ended.

use gpu_shopper::cli::client::{Bearer, Link};
use gpu_shopper::domain::instance::SshEndpoint;
use gpu_shopper::grpc::pb;
use gpu_shopper::grpc::pb::inventory_service_client::InventoryServiceClient;
use gpu_shopper::grpc::pb::session::State;
use gpu_shopper::grpc::pb::session_service_client::SessionServiceClient;
use gpu_shopper::sim::{World, WorldConfig};
use gpu_shopper::ssh;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;

/// Nothing in these tests takes longer; what does has hung.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// A proxy that nobody is. What a test starts is told of it, and so asks no vendor and nobody else beyond this machine.
pub const NOBODY: &str = "http://127.0.0.1:9";

pub type Env = BTreeMap<String, String>;

/// What a process has written so far.
#[derive(Clone)]
struct Heard {
    text: Arc<Mutex<String>>,
    more: watch::Receiver<usize>,
    deaf: Arc<AtomicBool>,
}

impl Heard {
    fn listen(mut pipe: impl AsyncRead + Unpin + Send + 'static) -> (Self, tokio::task::JoinHandle<()>) {
        let text = Arc::new(Mutex::new(String::new()));
        let (bell, more) = watch::channel(0);
        let (written, deaf) = (Arc::clone(&text), Arc::<AtomicBool>::default());
        let unheard = Arc::clone(&deaf);
        let task = tokio::spawn(async move {
            let mut chunk = vec![0; 16 * 1024];
            while let Ok(n) = pipe.read(&mut chunk).await {
                if n == 0 {
                    break;
                }
                if unheard.load(Ordering::Relaxed) {
                    // The pipe stays open, and full.
                    std::future::pending::<()>().await;
                }
                written.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&chunk[..n]));
                bell.send_modify(|count| *count += n);
            }
        });
        (Self { text, more, deaf }, task)
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A child process; killed when dropped.
pub struct Child {
    process: tokio::process::Child,
    out: Heard,
    err: Heard,
    readers: Vec<tokio::task::JoinHandle<()>>,
}

/// How a process ended, and what it had said.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Child {
    /// Starts the program in a folder, with nothing but this environment and no way beyond this machine.
    pub fn start(args: &[&str], folder: &Path, env: &Env) -> Self {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_gpu-shopper"));
        command.args(args).current_dir(folder).env_clear().envs([("http_proxy", NOBODY), ("https_proxy", NOBODY)]).envs(env).kill_on_drop(true);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, out_task) = Heard::listen(process.stdout.take().unwrap());
        let (err, err_task) = Heard::listen(process.stderr.take().unwrap());
        Self { process, out, err, readers: vec![out_task, err_task] }
    }

    pub fn out(&self) -> String {
        self.out.text()
    }

    pub fn err(&self) -> String {
        self.err.text()
    }

    pub fn id(&self) -> u32 {
        self.process.id().expect("it still runs")
    }

    /// Waits until standard error has this in it; gives the rest of that line.
    pub async fn says(&self, words: &str) -> String {
        self.heard(&self.err, words).await
    }

    /// Waits until standard output has this in it; gives the rest of that line.
    pub async fn prints(&self, words: &str) -> String {
        self.heard(&self.out, words).await
    }

    async fn heard(&self, pipe: &Heard, words: &str) -> String {
        let mut more = pipe.more.clone();
        let found = async {
            loop {
                more.borrow_and_update();
                let rest = pipe.text().split_once(words).and_then(|(_, rest)| rest.split_once('\n').map(|(line, _)| line.to_owned()));
                if let Some(rest) = rest {
                    return Some(rest);
                }
                if more.changed().await.is_err() {
                    return None;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(Some(rest)) => rest,
            _ => panic!("`{words}` never came:\n{}\n{}", self.out(), self.err()),
        }
    }

    /// Closes its standard output and error, as the end of a terminal does.
    pub async fn stop_listening(&mut self) {
        for reader in self.readers.drain(..) {
            reader.abort();
            let _ = reader.await;
        }
    }

    /// Reads nothing more of what it says, and leaves its pipes open: they fill, as those of a pager do.
    pub fn stop_reading(&mut self) {
        [&self.out, &self.err].into_iter().for_each(|pipe| pipe.deaf.store(true, Ordering::Relaxed));
        // Nobody waits for them to end.
        self.readers.clear();
    }

    /// Ends it as a power cut would.
    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        assert!(std::process::Command::new("kill").args(["-TERM", &self.id().to_string()]).status().unwrap().success());
    }

    /// Waits until it has ended by itself.
    pub async fn end(mut self) -> Ended {
        let Ok(status) = tokio::time::timeout(PATIENCE, self.process.wait()).await else {
            panic!("it does not end:\n{}\n{}", self.out(), self.err())
        };
        for reader in self.readers.drain(..) {
            reader.await.unwrap();
        }
        Ended { status: status.unwrap(), out: self.out(), err: self.err() }
    }
}

pub fn env(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The environment that points a server at a world; any port, the database in `folder`.
pub fn pointed_at(world: &World, folder: &Path) -> Env {
    let mut all = env(&[
        ("VASTAI_API_KEY", &world.keys.vastai_key),
        ("VASTAI_BASE_URL", &world.vastai_url),
        ("TENSORDOCK_AUTH_ID", &world.keys.tensordock_auth_id),
        ("TENSORDOCK_API_TOKEN", &world.keys.tensordock_token),
        ("TENSORDOCK_BASE_URL", &world.tensordock_url),
        ("SERVER_PORT", "0"),
        ("LOG_LEVEL", "debug"),
        ("LOG_FORMAT", "text"),
        ("ABSENCE_SPACING", "1s"),
    ]);
    all.insert("DATABASE_PATH".to_owned(), folder.join("house.db").display().to_string());
    all
}

/// `serve` as a child, and clients that speak to it.
pub struct Served {
    pub child: Child,
    /// `http://127.0.0.1:port`, or with `https`.
    pub url: String,
    /// What its clients here send: the token beside its database, where it asks for one.
    pub token: Option<SecretString>,
}

impl Served {
    /// Starts it and waits until the port answers.
    pub async fn start(folder: &Path, env: &Env) -> Self {
        let child = Child::start(&["serve"], folder, env);
        // In a line of JSON more follows.
        let url = child.says("gpu-shopper listens on ").await.split('"').next().unwrap_or_default().to_owned();
        let asks = child.says("callers need ").await.starts_with("a token");
        let token = asks.then(|| std::fs::read_to_string(format!("{}.token", env["DATABASE_PATH"])).unwrap().trim().into());
        Self { child, url, token }
    }

    /// Starts it and waits until it is ready and knows offers of each provider that it can reach.
    pub async fn ready(folder: &Path, env: &Env, providers: usize) -> Self {
        let server = Self::start(folder, env).await;
        let mut inventory = InventoryServiceClient::new(server.channel().await);
        for _ in 0..1000 {
            let (status, _) = server.get("/ready").await;
            if status == 200
                && let Ok(page) = inventory.list_offers(pb::ListOffersRequest::default()).await
                && page.get_ref().providers.iter().filter(|p| p.offer_count > 0).count() >= providers
            {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not become ready: {}", server.child.err())
    }

    /// Why nothing happens by itself, as it was told at the start; `None` = it was told of no such thing.
    pub fn frozen(&self) -> Option<String> {
        self.child.err().split_once("frozen: ").map(|(_, why)| why.to_owned())
    }

    pub async fn channel(&self) -> Link {
        let channel = Endpoint::from_shared(self.url.clone()).unwrap().connect().await.unwrap();
        InterceptedService::new(channel, Bearer::new(self.token.as_ref()).unwrap())
    }

    pub async fn sessions(&self) -> SessionServiceClient<Link> {
        SessionServiceClient::new(self.channel().await)
    }

    /// Status and body of a GET.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let mut request = http().get(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn get_session(&self, id: &str) -> pb::Session {
        let asked = pb::GetSessionRequest { session_id: id.to_owned() };
        self.sessions().await.get_session(asked).await.unwrap().into_inner().read_session().unwrap()
    }

    /// Waits until a session is in a state.
    pub async fn until(&self, id: &str, state: State) -> pb::Session {
        let asked = pb::WaitSessionRequest {
            session_id: id.to_owned(),
            until: vec![state.into()],
            timeout: Some(prost_types::Duration { seconds: PATIENCE.as_secs() as i64, nanos: 0 }),
        };
        let answer = self.sessions().await.wait_session(asked).await.unwrap().into_inner();
        let session = answer.session.unwrap();
        assert!(answer.reached, "{id} is {}, not {}: {}\n{}", word(session.state()), word(state), session.status_message, self.child.err());
        session
    }

    pub async fn complete(&self, id: &str) -> pb::Session {
        let asked = pb::CompleteSessionRequest { session_id: id.to_owned(), ..Default::default() };
        self.sessions().await.complete_session(asked).await.unwrap().into_inner().session.unwrap()
    }

    /// Asks it to end and checks that it ends well.
    pub async fn stop(self) -> Ended {
        self.child.terminate();
        let ended = self.child.end().await;
        assert_eq!(ended.status.code(), Some(0), "{}", ended.err);
        ended
    }
}

pub fn word(state: State) -> &'static str {
    state.as_str_name()
}

/// A client that is blind to the proxies of its environment.
pub fn http() -> reqwest::Client {
    gpu_shopper::providers::install_crypto();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Any machine of a provider.
pub fn wanted(provider: &str) -> pb::CreateSessionRequest {
    let filter = pb::OfferFilter { providers: vec![provider.to_owned()], ..Default::default() };
    pb::CreateSessionRequest {
        consumer_id: Some("tester".to_owned()),
        target: Some(pb::create_session_request::Target::Requirements(pb::Requirements { filter: Some(filter), order_by: "price".to_owned() })),
        ..Default::default()
    }
}

/// Logs in with the key that was handed out and asks for the GPUs.
pub async fn log_in(session: &pb::Session, private_key: &str) -> String {
    let endpoint = SshEndpoint {
        host: session.ssh_host.clone(),
        port: u16::try_from(session.ssh_port).unwrap(),
        user: session.ssh_user.clone(),
        proxied: session.ssh_proxied,
    };
    let key = SecretString::from(private_key.to_owned());
    let said = ssh::login_and_exec(&endpoint, &key, "nvidia-smi -L", true).await.unwrap_or_else(|f| panic!("{}: {}", f.kind.word(), f.text));
    assert_eq!(said.exit, Some(0), "{}", said.stderr);
    said.stdout
}

/// A world on any ports.
pub async fn world(seed: u64, faults: gpu_shopper::sim::Faults) -> World {
    World::start(WorldConfig::local(seed, faults)).await.unwrap()
}

/// Labels of the machines that are alive; fails the test when one label was ever given to two machines.
pub fn alive(world: &World) -> Vec<String> {
    let mut seen = BTreeMap::new();
    for machine in world.market.truth() {
        if let Some(other) = seen.insert(machine.label.clone(), machine.native_id.clone()) {
            panic!("{} and {other} both carry the label {}", machine.native_id, machine.label);
        }
    }
    world.market.truth().into_iter().filter(|machine| machine.alive).map(|machine| machine.label).collect()
}
