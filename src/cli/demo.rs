//! `demo`: the main job from end to end, on a machine that has nothing but this program.
//!
//! Two simulated marketplaces with real SSH endpoints behind their machines, the real server wired to them through the
//! real adapters, and one rental played over gRPC as any client would. The demo makes its providers' settings itself:
//! real credentials and base URLs are never read, even when they are in the environment.

use crate::cli::client::{Bearer, Link};
use crate::cli::serve::{Signals, Voice, install};
use crate::cli::sim;
use crate::cli::words;
use crate::config::{self, Config, Sources};
use crate::domain::instance::SshEndpoint;
use crate::grpc::pb;
use crate::grpc::pb::cost_service_client::CostServiceClient;
use crate::grpc::pb::inventory_service_client::InventoryServiceClient;
use crate::grpc::pb::session::State;
use crate::grpc::pb::session_service_client::SessionServiceClient;
use crate::providers;
use crate::server::{Server, beside};
use crate::sim::{World, WorldConfig};
use crate::ssh;
use anyhow::{Context, bail};
use clap::Args;
use owo_colors::{OwoColorize, Stream};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

/// The whole job never takes longer than this; with the waits and faults of the field it takes minutes.
const JOB_LIMIT: Duration = Duration::from_secs(900);

/// Arguments of `demo`.
#[derive(Args, Clone, Debug, Default)]
pub struct DemoArgs {
    /// End after the job: exit code 0 when it is done, 1 with the reason when a step failed
    #[arg(long)]
    pub once: bool,
    /// Decides the simulated marketplaces
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// What goes wrong: none, gentle or field
    #[arg(long, default_value = "gentle", value_name = "PRESET")]
    pub preset: String,
    /// One fault's rate or wait on top, as name=value; may be repeated; `gpu-shopper sim --list-faults` names them
    #[arg(long = "fault", value_name = "NAME=VALUE", hide = true)]
    pub faults: Vec<String>,
}

/// A line on standard output. Whether anybody reads it must not matter.
macro_rules! line {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// Plays the job; keeps serving afterwards unless `--once`.
pub async fn run(args: DemoArgs) -> ExitCode {
    let mut voice = Voice::of(config::LogFormat::Text);
    match demo(args, &mut voice).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            voice.fail(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn demo(args: DemoArgs, voice: &mut Voice) -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let environment = std::env::vars_os().map(|(k, v)| (k.to_string_lossy().into_owned(), v.to_string_lossy().into_owned())).collect();
    let mut config = settings(environment, &folder.path.join("gpu-shopper.db"))?;
    let quiet = !std::env::vars_os().any(|(name, _)| name == "LOG_LEVEL");
    if quiet {
        config.log.level = config::Level::Warn;
    }
    if !std::env::vars_os().any(|(name, _)| name == "LOG_FORMAT") {
        config.log.format = config::LogFormat::Text;
    }
    *voice = Voice::of(config.log.format);
    let telemetry = install(&config)?;
    let mut signals = Signals::new()?;
    let faults = sim::faults(&args.preset, &args.faults)?;
    let world = World::start(WorldConfig::local(args.seed, faults)).await.context("starting the simulated marketplaces")?;
    enable(&mut config, &world);
    let server = match Server::start(&config, &telemetry, 0).await {
        Ok(server) => server,
        Err(error) => {
            world.stop().await;
            return Err(error);
        }
    };
    let mut stage = Stage::new(&server.url());
    stage.opening(&config, &world);
    let played = tokio::select! {
        played = tokio::time::timeout(JOB_LIMIT, stage.play(&server)) => played.unwrap_or_else(|_| bail!("the job took longer than {} s", JOB_LIMIT.as_secs())),
        () = signals.wait() => bail_interrupted(),
    };
    if played.is_ok() && !args.once {
        lines_to_paste(&server.url(), &config, &world);
        if !server.login.is_empty() {
            line!("\nThis server wants to know who calls: {}. The command line finds it by DATABASE_PATH, or take --token-file.", server.login);
        }
        signals.wait().await;
    }
    let left = server.stop().await;
    telemetry.shutdown().await;
    world.stop().await;
    if !args.once {
        let open = match left.sessions.len() {
            1 => "1 open session with its machine".to_owned(),
            many => format!("{many} open sessions with their machines"),
        };
        voice.tell(&format!("stopped; the simulated marketplaces are gone, and {open}"));
    }
    played
}

fn bail_interrupted() -> anyhow::Result<()> {
    bail!("interrupted before the job was done")
}

/// The demo's settings from an environment: SERVER_HOST, SERVER_PORT, DATABASE_PATH and LOG_* only.
///
/// # Errors
/// Faults in those few.
pub fn settings(environment: BTreeMap<String, String>, database: &Path) -> anyhow::Result<Config> {
    let sources = Sources { env: environment, ..Sources::default() };
    Ok(Config::demo(&sources, database)?)
}

/// Puts the simulated marketplaces in as the providers.
fn enable(config: &mut Config, world: &World) {
    let credentials = [
        (providers::vastai::NAME, &world.vastai_url, vec![("api_key", &world.keys.vastai_key)]),
        (
            providers::tensordock::NAME,
            &world.tensordock_url,
            vec![("auth_id", &world.keys.tensordock_auth_id), ("api_token", &world.keys.tensordock_token)],
        ),
    ];
    for (name, url, keys) in credentials {
        let values = keys.into_iter().fold(providers::Settings::new().with("base_url", url), |all, (key, value)| all.with(key, value));
        config.providers.insert(name, config::Provider { values, base_url: url.clone(), allow_private_addresses: true });
    }
    config.deployment_id = None;
}

/// A folder that goes away with the demo, for the database when none is named.
struct Folder {
    path: std::path::PathBuf,
}

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("gpu-shopper-demo-{}", uuid::Uuid::now_v7().simple()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Where the job is played, and its clock.
struct Stage {
    url: String,
    begun: tokio::time::Instant,
}

impl Stage {
    fn new(url: &str) -> Self {
        Self { url: url.to_owned(), begun: tokio::time::Instant::now() }
    }

    fn opening(&self, config: &Config, world: &World) {
        line!("{}", "Cloud GPU Shopper: the main job, end to end".if_supports_color(Stream::Stdout, |t| t.bold()));
        line!("  server       {}", self.url);
        line!("  database     {}", config.database_path.display());
        line!("  Vast.ai      {} (simulated)", world.vastai_url);
        line!("  TensorDock   {} (simulated)", world.tensordock_url);
        line!();
    }

    fn say(&self, what: &str, text: &str) {
        let at = format!("+{:>6.2}s", self.begun.elapsed().as_secs_f64());
        let what = format!("{what:<12}");
        line!("{}  {}  {text}", at.if_supports_color(Stream::Stdout, |t| t.dimmed()), what.if_supports_color(Stream::Stdout, |t| t.cyan()));
    }

    async fn play(&mut self, server: &Server) -> anyhow::Result<()> {
        server.ready().await;
        let channel = Channel::from_shared(self.url.clone())?.connect().await.context("connecting to the server")?;
        let bearer = Bearer::new(server.token()).map_err(|failure| anyhow::anyhow!("{}", failure.message))?;
        let channel = InterceptedService::new(channel, bearer);
        let mut inventory = InventoryServiceClient::new(channel.clone());
        let mut sessions = SessionServiceClient::new(channel.clone());
        let mut costs = CostServiceClient::new(channel);
        let offer = self.find(&mut inventory).await?;
        let create = pb::CreateSessionRequest {
            consumer_id: Some("demo".to_owned()),
            target: Some(pb::create_session_request::Target::Requirements(pb::Requirements {
                filter: Some(pb::OfferFilter { gpu_models: vec![offer.gpu_model.clone()], ..Default::default() }),
                order_by: "price".to_owned(),
            })),
            workload_type: pb::WorkloadType::Ssh.into(),
            request_id: uuid::Uuid::now_v7().to_string(),
            ..Default::default()
        };
        let created = sessions.create_session(create).await.context("CreateSession")?.into_inner();
        let session = created.session.clone().context("CreateSession answered without a session")?;
        self.say("create", &format!("session {} is durable", session.session_id));
        let watched = pb::WatchSessionRequest {
            session_id: session.session_id.clone(),
            start: Some(pb::watch_session_request::Start::ResumeToken(created.resume_token.clone())),
            ..Default::default()
        };
        let mut events = sessions.watch_session(watched).await.context("WatchSession")?.into_inner();
        let ready = self.watch_until_running(&mut events, &session).await?;
        self.log_in(&ready, &created.ssh_private_key).await?;
        sessions
            .complete_session(pb::CompleteSessionRequest { session_id: session.session_id.clone(), ..Default::default() })
            .await
            .context("CompleteSession")?;
        self.say("done", "the work is done: the machine is given back");
        self.watch_until_stopped(&mut events).await?;
        let cost = costs.get_session_cost(pb::GetSessionCostRequest { session_id: session.session_id }).await.context("GetSessionCost")?.into_inner();
        let total = cost.total.context("GetSessionCost answered without a total")?;
        if !cost.r#final {
            bail!("the cost of an ended session is not final");
        }
        let exactly = if total.estimated {
            let (low, high) = (words::exact(total.low.as_ref()), words::exact(total.high.as_ref()));
            format!("final; beginning and end are known by looking, so the bill lies between {low} and {high}")
        } else {
            "final, to the nano-dollar".to_owned()
        };
        self.say("cost", &format!("{} in all, {exactly}", total.text));
        for part in cost.components {
            let amount = part.amount.as_ref().map(|a| a.text.clone()).unwrap_or_default();
            line!("                         {:<8} {amount}", part.component().as_str_name().trim_start_matches("COST_COMPONENT_").to_lowercase());
        }
        Ok(())
    }

    /// Offers, and the model of the cheapest GPU worth showing.
    async fn find(&self, inventory: &mut InventoryServiceClient<Link>) -> anyhow::Result<pb::Offer> {
        // The first fetch of offers runs beside the first sweep.
        for _ in 0..200 {
            let page = inventory
                .list_offers(pb::ListOffersRequest {
                    filter: Some(pb::OfferFilter {
                        gpu_models: vec!["RTX 4090".to_owned()],
                        gpu_count: Some(1),
                        // What the create takes when it does not say.
                        rental_kind: pb::RentalKind::OnDemand.into(),
                        ..Default::default()
                    }),
                    order_by: "price".to_owned(),
                    page_size: 5,
                    ..Default::default()
                })
                .await;
            match page {
                Ok(page) if !page.get_ref().offers.is_empty() && page.get_ref().providers.iter().all(|p| p.fetch_time.is_some()) => {
                    return self.show_offers(page.into_inner());
                }
                Ok(_) => {}
                Err(status) if status.code() == tonic::Code::Unavailable => {}
                Err(status) => return Err(status).context("ListOffers"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("No offers available: the simulated marketplaces showed none")
    }

    fn show_offers(&self, page: pb::ListOffersResponse) -> anyhow::Result<pb::Offer> {
        self.say("offers", &format!("{} offers of one RTX 4090 at {} marketplaces; the cheapest:", page.total_size, page.providers.len()));
        let offers = page.read_offers()?;
        for offer in &offers {
            let price = offer.price.as_ref().map(|p| p.total_text.clone()).unwrap_or_default();
            line!(
                "                         {:<22} {}× {:<10} {:>10}  {}",
                shorten(&offer.offer_id, 22),
                offer.gpu_count,
                offer.gpu_model,
                price,
                offer.region.as_ref().map(|r| r.text.as_str()).unwrap_or_default()
            );
        }
        offers.into_iter().next().context("no offer")
    }

    /// Until it runs and its reservation counts from there, which the event after that of RUNNING tells.
    async fn watch_until_running(&self, events: &mut Events, created: &pb::Session) -> anyhow::Result<pb::Session> {
        while let Some(event) = next(events).await? {
            self.show(&event);
            let Some(session) = event.session else { continue };
            match session.state() {
                State::Running if session.expire_time != created.expire_time => return Ok(session),
                State::Failed | State::Stopped => bail!("the session ended as {} before it ran: {}", word(session.state()), session.status_message),
                _ => {}
            }
        }
        bail!("the stream ended before RUNNING")
    }

    async fn watch_until_stopped(&self, events: &mut Events) -> anyhow::Result<()> {
        let mut state = State::Unspecified;
        while let Some(event) = next(events).await? {
            self.show(&event);
            state = event.to_state();
        }
        if state == State::Stopped { Ok(()) } else { bail!("the session ended as {}", word(state)) }
    }

    fn show(&self, event: &pb::SessionEvent) {
        self.say(&word(event.to_state()), &event.message);
    }

    /// Logs in over SSH with the key that was handed out, as its owner would.
    async fn log_in(&self, session: &pb::Session, private_key: &str) -> anyhow::Result<()> {
        let endpoint = SshEndpoint {
            host: session.ssh_host.clone(),
            port: u16::try_from(session.ssh_port).context("the SSH port")?,
            user: session.ssh_user.clone(),
            proxied: false,
        };
        self.say("ssh", &session.ssh_command);
        let key = SecretString::from(private_key.to_owned());
        let result = ssh::login_and_exec(&endpoint, &key, "nvidia-smi -L", true)
            .await
            .map_err(|failure| anyhow::anyhow!("login failed: {}: {}", failure.kind.word(), failure.text))?;
        if result.exit != Some(0) {
            bail!("nvidia-smi -L ended with {:?}: {}", result.exit, result.stderr);
        }
        for line in result.stdout.lines() {
            line!("                         {line}");
        }
        Ok(())
    }
}

/// The stream that shows the session from its first event to its last.
type Events = tonic::Streaming<pb::WatchSessionResponse>;

async fn next(events: &mut Events) -> anyhow::Result<Option<pb::SessionEvent>> {
    while let Some(message) = events.message().await.context("WatchSession")? {
        if let Some(pb::watch_session_response::Message::Event(event)) = message.message {
            return Ok(Some(pb::read(&event)?));
        }
    }
    Ok(None)
}

fn word(state: State) -> String {
    state.as_str_name().trim_start_matches("STATE_").to_owned()
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { format!("{}…", text.chars().take(most - 1).collect::<String>()) }
}

fn lines_to_paste(url: &str, config: &Config, world: &World) {
    let host = url.trim_start_matches("http://").trim_start_matches("https://");
    let own = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.display().to_string())).unwrap_or_default();
    // Where callers must say who they are, every line does; the file is the one that the command line finds by this variable, too.
    let token = beside(&config.database_path, "token");
    let (token_file, login) = match std::path::absolute(&token) {
        Ok(file) if file.exists() => {
            (format!("export GPU_SHOPPER_TOKEN_FILE={}\n", file.display()), " -H \"Authorization: Bearer $(cat \"$GPU_SHOPPER_TOKEN_FILE\")\"")
        }
        Ok(_) | Err(_) => (String::new(), ""),
    };
    let (vast, dock, keys) = (&world.vastai_url, &world.tensordock_url, &world.keys);
    line!();
    line!("{}", "The server goes on. Lines to paste:".if_supports_color(Stream::Stdout, |t| t.bold()));
    line!(
        "
{token_file}# grpcurl
grpcurl -plaintext{login} {host} list
grpcurl -plaintext{login} {host} grpc.health.v1.Health/Check
grpcurl -plaintext{login} -d '{{\"pageSize\": 3, \"orderBy\": \"price\"}}' {host} gpushopper.v1.InventoryService/ListOffers
grpcurl -plaintext{login} -d '{{\"requirements\": {{\"filter\": {{\"gpuModels\": [\"RTX 4090\"]}}}}, \"consumerId\": \"me\", \"reservation\": \"3600s\"}}' {host} gpushopper.v1.SessionService/CreateSession
grpcurl -plaintext{login} {host} gpushopper.v1.SessionService/WatchSessions
grpcurl -plaintext{login} {host} gpushopper.v1.OperatorService/ListProviders

# the command line (this program)
export GPU_SHOPPER_URL={url} PATH=\"{own}:$PATH\"
gpu-shopper inventory --gpu \"RTX 4090\" --limit 5
gpu-shopper provision --gpu \"RTX 4090\" --for 1h --consumer me --save-key ./gpu-key
gpu-shopper sessions list
gpu-shopper costs --group-by provider

# curl
curl {url}/health
curl {url}/ready
curl{login} {url}/metrics
curl{login} \"{url}/api/v1/inventory?min_vram=16&limit=3\"
curl{login} -X POST \"{url}/api/v1/sessions?wait=25s\" -H 'Content-Type: application/json' -d '{{\"requirements\": {{\"filter\": {{\"gpu_models\": [\"RTX 4090\"]}}}}, \"consumer_id\": \"me\", \"reservation_hours\": 1}}'
curl{login} \"{url}/api/v1/sessions?consumer_id=me\"
curl{login} \"{url}/api/v1/costs?consumer_id=me\"

# the marketplaces themselves (simulated; their machines take ed25519 keys only, real ones any)
export VASTAI_API_KEY={}
curl -H \"Authorization: Bearer $VASTAI_API_KEY\" \"{vast}/api/v0/bundles/?q=%7B%22rentable%22%3Atrue%7D\"
curl -H \"Authorization: Bearer $VASTAI_API_KEY\" \"{vast}/api/v0/instances/\"
export TENSORDOCK_AUTH_ID={} TENSORDOCK_API_TOKEN={}
curl \"{dock}/api/v2/locations?api_key=$TENSORDOCK_AUTH_ID&api_token=$TENSORDOCK_API_TOKEN\"

# the database
sqlite3 {} \"SELECT id, status, gpu_type, created_at FROM sessions ORDER BY created_at DESC LIMIT 10;\"

Ctrl-C ends it.",
        keys.vastai_key,
        keys.tensordock_auth_id,
        keys.tensordock_token,
        config.database_path.display(),
    );
}
