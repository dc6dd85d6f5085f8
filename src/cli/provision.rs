//! `provision`: rents a machine and waits until it is ready, or leaves it to itself.
//!
//! The private key is told once: it is put in its file, or shown, before anything else can go wrong.

use crate::cli::Desk;
use crate::cli::client::{asking, insist};
use crate::cli::failure::{Exit, Failure};
use crate::cli::follow::{Followed, ended_badly, follow, is_in};
use crate::cli::json::Message;
use crate::cli::output::Cell;
use crate::cli::sessions::{facts, fetch};
use crate::cli::values::{FilterArgs, Order, duration, duration_or_off, gigabytes, money, pair, pairs, to_wire};
use crate::cli::{ssh, words};
use crate::grpc::pb;
use crate::grpc::pb::create_session_request::Target;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to rent and how.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  gpu-shopper provision -g 'RTX 4090' --max-price 0.40 -t 2h --save-key key.pem
  gpu-shopper provision -i vastai-12345678 -c alice --ssh-key ~/.ssh/id_ed25519.pub
  gpu-shopper provision -g h100 --gpus 2 -w training -t 8h --max-total-cost 40 --failover same-gpu --label team=vision
  gpu-shopper provision --min-vram 24 --order-by price --detach -o json
  gpu-shopper provision -w llm-vllm --launch-mode entrypoint --model Qwen/Qwen2.5-7B-Instruct --min-vram 24 --secret-env HF_TOKEN
  gpu-shopper provision --template 1b2c3d4e5f60718293a4b5c6d7e8f90a --max-price 0.60
  gpu-shopper provision -g a100 --dry-run

Without --ssh-key the server makes a key pair and tells the private key once: to the file of --save-key, or to
standard output. Ctrl-C stops the waiting, not the session.")]
pub struct ProvisionArgs {
    /// Who uses it
    #[arg(short, long, env = "GPU_SHOPPER_CONSUMER", value_name = "NAME")]
    pub consumer: Option<String>,
    /// Rent this offer
    #[arg(short = 'i', long, value_name = "ID")]
    pub offer: Option<String>,
    /// Rent the best that fits
    #[command(flatten)]
    pub filter: FilterArgs,
    /// What is best
    #[arg(long, value_enum, default_value_t = Order::ExpectedCost, conflicts_with = "offer", help_heading = "Which offers")]
    pub order_by: Order,
    /// For what work
    #[arg(short, long, value_enum, default_value_t = Workload::Ssh)]
    pub workload: Workload,
    /// How long, from when it is ready: 90m, 2h, 1h30m; default: 1h
    #[arg(short = 't', long = "for", value_name = "DURATION", value_parser = duration)]
    pub reservation: Option<Duration>,
    /// End it when nobody used its machine for so long, 1m to 24h: 30m; default: off
    #[arg(long, visible_alias = "idle-timeout", value_name = "DURATION", value_parser = duration_or_off)]
    pub idle_threshold: Option<Duration>,
    /// Disk in GB; default: the provider's
    #[arg(long, value_name = "GB", value_parser = gigabytes)]
    pub disk: Option<i32>,
    /// Container or system image; default: the provider's
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Shell commands to run at start
    #[arg(long, value_name = "COMMANDS")]
    pub on_start: Option<String>,
    /// A variable of the machine's environment (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
    /// A variable whose value is read from this program's own environment, so that no command line shows it (repeatable)
    #[arg(long, value_name = "NAME")]
    pub secret_env: Vec<String>,
    /// What the machine does when it is up
    #[arg(long, value_enum, default_value_t = Mode::Ssh)]
    pub launch_mode: Mode,
    /// The model that runs on it: Qwen/Qwen2.5-7B-Instruct
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// How the model's weights are stored; default: as its name tells, else 16 bits
    #[arg(long, value_enum, value_name = "HOW")]
    pub quantization: Option<Weights>,
    /// A port inside the machine to be reachable from outside; the API's first (repeatable)
    #[arg(long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
    /// Who may fetch the image; the password is read from REGISTRY_PASSWORD
    #[arg(long, value_name = "USER", requires = "image")]
    pub registry_user: Option<String>,
    /// The registry's host; default: the usual one
    #[arg(long, value_name = "HOST", requires = "registry_user")]
    pub registry_server: Option<String>,
    /// Your public key, the file that ends with .pub
    #[arg(long, value_name = "FILE")]
    pub ssh_key: Option<PathBuf>,
    /// Where to put the private key that the server makes; the file must not exist yet
    #[arg(long, value_name = "FILE", conflicts_with = "ssh_key")]
    pub save_key: Option<PathBuf>,
    /// How long the first login may take, 1m to 30m; default: the provider's
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub ssh_timeout: Option<Duration>,
    /// What is proven before it counts as ready
    #[arg(long, value_enum, default_value_t = Verify::Gpu)]
    pub verify: Verify,
    /// The bid for a machine rented by a bid, US dollars per hour; default: the lowest that wins
    #[arg(long, value_name = "USD", value_parser = money)]
    pub bid: Option<pb::Money>,
    /// End it when it would cost more than this in all, US dollars
    #[arg(long, value_name = "USD", value_parser = money)]
    pub max_total_cost: Option<pb::Money>,
    /// How widely to look for another offer when one fails; default: none for an offer, any otherwise
    #[arg(long, value_enum, value_name = "SCOPE")]
    pub failover: Option<Scope>,
    /// At most this many attempts
    #[arg(long, value_name = "N")]
    pub max_attempts: Option<i32>,
    /// No next offer above this price, US dollars per hour; default: --max-price
    #[arg(long, value_name = "USD", value_parser = money)]
    pub failover_max_price: Option<pb::Money>,
    /// A label to find it by (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    pub labels: Vec<(String, String)>,
    /// Allow a second session of this consumer on the same offer
    #[arg(long)]
    pub allow_same_offer: bool,
    /// Your name for this request: repeating it does nothing new; default: a fresh one
    #[arg(long, value_name = "TEXT")]
    pub request_id: Option<String>,
    /// Don't wait until it is ready
    #[arg(long)]
    pub detach: bool,
    /// Only check: rent nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// For what work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// A shell
    Ssh,
    /// A language model
    Llm,
    /// A language model served by vLLM
    #[value(alias = "llm_vllm")]
    LlmVllm,
    /// A language model served by TGI
    #[value(alias = "llm_tgi")]
    LlmTgi,
    /// Training
    Training,
    /// A batch job
    Batch,
    /// Interactive work
    Interactive,
    /// Inference
    Inference,
    /// A benchmark
    Benchmark,
}

/// What a machine does when it is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// It waits for logins
    Ssh,
    /// It starts a server program by itself, and takes logins as well
    Entrypoint,
}

/// How a model's weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Weights {
    /// 32 bits a parameter
    Fp32,
    /// 16 bits
    Fp16,
    /// 16 bits, with the exponent of 32
    Bf16,
    /// 8 bits, floating
    Fp8,
    /// 8 bits
    Int8,
    /// 4 bits and scales, by AWQ
    Awq,
    /// 4 bits and scales, by GPTQ
    Gptq,
    /// 4 bits
    Int4,
    /// 4 bits, in a GGUF file
    #[value(alias = "gguf_q4")]
    GgufQ4,
}

/// What is proven before a session counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Verify {
    /// A login is enough
    Ssh,
    /// A login, then a look at the GPUs; no answer leaves that open
    Gpu,
    /// Only with everything proven
    Strict,
}

/// How widely to look for another offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// No further attempt
    None,
    /// The same GPU model and count and at least the same memory
    #[value(alias = "same_gpu")]
    SameGpu,
    /// At least the same memory and count
    #[value(alias = "same_memory")]
    SameMemory,
    /// Anything that fits
    Any,
}

/// What `-o json` writes.
#[derive(Serialize)]
struct Provisioned {
    session: Message,
    /// `null` when the key was put in a file, or when it is the caller's own.
    ssh_private_key: Option<String>,
    ssh_private_key_file: Option<PathBuf>,
    replayed: bool,
    warnings: Vec<String>,
    request_id: String,
}

/// Runs `provision`.
///
/// # Errors
/// What the server refuses; when the session ends before it runs; when a key can't be read or written.
pub async fn run(args: ProvisionArgs, desk: &mut Desk) -> Result<Exit, Failure> {
    let request = request(&args)?;
    // The file comes first: a machine must not be rented for a key that can't be kept.
    let key_file = match args.save_key.as_deref().filter(|_| !args.dry_run) {
        Some(path) => Some(KeyFile::create(path)?),
        None => None,
    };
    let clients = desk.connect().await?;
    let answer = insist(&mut desk.console, &request.request_id, || {
        let (mut sessions, request) = (clients.sessions.clone(), request.clone());
        async move { sessions.create_session(asking(request)).await }
    })
    .await?;
    for warning in &answer.warnings {
        desk.console.warn(warning);
    }
    if answer.replayed {
        desk.console.note("this request was made before; here is its session");
    }
    let session = answer.session.unwrap_or_default();
    let mut told = Provisioned {
        session: Message::of("Session", &session)?,
        ssh_private_key: Some(answer.ssh_private_key).filter(|key| !key.is_empty() && !args.dry_run),
        ssh_private_key_file: None,
        replayed: answer.replayed,
        warnings: answer.warnings,
        request_id: request.request_id,
    };
    if let Some(file) = key_file {
        match told.ssh_private_key.take() {
            Some(key) => {
                // If the file fails now, the key is shown after all: it can't be had again.
                if let Err(failure) = file.fill(&key) {
                    desk.console.warn(&failure.message);
                    told.ssh_private_key = Some(key);
                } else {
                    desk.console.note(&format!("private key saved to {}", file.path.display()));
                    told.ssh_private_key_file = Some(file.keep());
                }
            }
            None => desk.console.warn("the server told no private key (it tells it once), so no file was written"),
        }
    }
    if args.dry_run {
        return would_be(desk, &told, &session);
    }
    if !desk.console.is_json()
        && let Some(key) = &told.ssh_private_key
    {
        desk.console.note("this is the private key; it is told only now, so save it (mode 0600), or use --save-key next time:");
        desk.console.raw(key.as_bytes())?;
    }
    let outcome = if args.detach {
        Ok(Followed::Left(Box::new(session.clone())))
    } else {
        desk.console.note(&format!("session {} (request {})", session.session_id, told.request_id));
        let begin = words::time(session.create_time.as_ref());
        follow(desk, &clients, session.clone(), answer.resume_token, is_in(pb::session::State::Running), begin).await
    };
    // What follows RUNNING at once (the expiry is counted anew from it) shall be in what we show.
    let outcome = match outcome {
        Ok(Followed::Reached(last)) if last.state == i32::from(pb::session::State::Running) => {
            Ok(Followed::Reached(fetch(last.session_id.clone(), &mut clients.clone()).await.map_or(last, Box::new)))
        }
        outcome => outcome,
    };
    let last = match &outcome {
        Ok(Followed::Reached(last) | Followed::Left(last)) => last.as_ref(),
        Err(_) => &session,
    };
    if desk.console.is_json() {
        told.session = Message::of("Session", last)?;
        desk.console.json(&told)?;
    }
    finish(desk, &args, told.ssh_private_key_file.as_deref(), outcome)
}

/// Tells how it ended.
fn finish(desk: &mut Desk, args: &ProvisionArgs, key: Option<&Path>, outcome: Result<Followed, Failure>) -> Result<Exit, Failure> {
    match outcome {
        Ok(Followed::Reached(session)) if session.state == i32::from(pb::session::State::Running) => {
            if !desk.console.is_json() {
                show(desk, &session, key.or(args.ssh_key.as_deref()))?;
            }
            Ok(Exit::Ok)
        }
        Ok(Followed::Reached(session)) => Err(ended_badly(&session)),
        Ok(Followed::Left(session)) => {
            let id = &session.session_id;
            if args.detach && !desk.console.is_json() {
                desk.console.line(id)?;
            }
            desk.console.note(&format!("session {id} goes on without us; see it with `gpu-shopper sessions watch {id}`"));
            desk.console.note(&format!("end it with `gpu-shopper sessions destroy {id}`"));
            Ok(if args.detach { Exit::Ok } else { Exit::Interrupted })
        }
        Err(failure) => Err(failure),
    }
}

fn would_be(desk: &mut Desk, told: &Provisioned, session: &pb::Session) -> Result<Exit, Failure> {
    if desk.console.is_json() {
        desk.console.json(told)?;
    } else {
        let table = facts(session, desk.clock.now());
        desk.console.table(&table, "")?;
    }
    desk.console.note("only checked; nothing was rented");
    Ok(Exit::Ok)
}

/// A session that can be used now.
fn show(desk: &mut Desk, session: &pb::Session, key: Option<&Path>) -> Result<(), Failure> {
    let mut table = facts(session, desk.clock.now());
    let identity = key.map(ssh::private_half).map(|k| format!(" -i {}", ssh::quoted(&k.display().to_string()))).unwrap_or_default();
    if !session.ssh_command.is_empty() {
        table.row(["Log in".into(), Cell::from(format!("{}{identity}", session.ssh_command))]);
    }
    table.fact("known_hosts", &session.known_hosts_line);
    table.row(["Or".into(), Cell::from(format!("gpu-shopper sessions ssh {}{identity}", session.session_id))]);
    table.row(["When done".into(), Cell::from(format!("gpu-shopper sessions done {}", session.session_id))]);
    desk.console.table(&table, "")
}

fn request(args: &ProvisionArgs) -> Result<pb::CreateSessionRequest, Failure> {
    let target = match &args.offer {
        Some(id) => {
            // The most to pay and a template go with an offer, too; all else would be a second choice.
            if !(FilterArgs { max_price: None, template: None, ..args.filter.clone() }).is_empty() {
                return Err(Failure::usage("--offer names what to rent; --gpu and the other filters don't go with it"));
            }
            Target::OfferId(id.clone())
        }
        None if args.filter.is_empty() => {
            return Err(Failure::usage("what to rent? Name an offer with -i, or what it must be with -g and the other filters")
                .hint("gpu-shopper inventory shows what there is"));
        }
        None => Target::Requirements(pb::Requirements {
            filter: Some(pb::OfferFilter { rental_kind: 0, ..args.filter.filter(None) }),
            order_by: args.order_by.word().to_owned(),
        }),
    };
    let rental_kind = if args.offer.is_none() && args.filter.spot { pb::RentalKind::Interruptible } else { pb::RentalKind::Unspecified };
    let wants_failover = args.failover.is_some() || args.max_attempts.is_some() || args.failover_max_price.is_some();
    Ok(pb::CreateSessionRequest {
        consumer_id: args.consumer.clone(),
        target: Some(target),
        workload_type: args.workload.wire().into(),
        reservation: args.reservation.map(to_wire),
        idle_threshold: args.idle_threshold.map(to_wire),
        storage_policy: pb::StoragePolicy::Unspecified.into(),
        docker_image: args.image.clone(),
        disk_gb: args.disk,
        on_start_cmd: args.on_start.clone(),
        env: pairs(&args.env),
        ssh_public_key: args.ssh_key.as_deref().map(public_key).transpose()?,
        ssh_timeout: args.ssh_timeout.map(to_wire),
        verify: args.verify.wire().into(),
        rental_kind: rental_kind.into(),
        bid: args.bid.clone(),
        failover: wants_failover.then(|| pb::Failover {
            scope: args.failover.map_or(pb::FailoverScope::Unspecified, Scope::wire).into(),
            max_attempts: args.max_attempts,
            max_price_per_hour: args.failover_max_price.clone(),
        }),
        max_price_per_hour: args.filter.max_price.clone(),
        max_total_cost: args.max_total_cost.clone(),
        allow_same_offer: args.allow_same_offer,
        labels: pairs(&args.labels),
        request_id: match &args.request_id {
            Some(id) => id.clone(),
            None => fresh_id()?,
        },
        validate_only: args.dry_run,
        template_hash_id: args.filter.template.clone(),
        launch_mode: match args.launch_mode {
            Mode::Ssh => pb::LaunchMode::Ssh,
            Mode::Entrypoint => pb::LaunchMode::Entrypoint,
        }
        .into(),
        model_id: args.model.clone(),
        quantization: args.quantization.map_or(pb::Quantization::Unspecified, Weights::wire).into(),
        exposed_ports: args.ports.iter().map(|port| i32::from(*port)).collect(),
        secret_env: args.secret_env.iter().map(|name| Ok((name.clone(), from_environment(name)?))).collect::<Result<_, Failure>>()?,
        registry_login: match &args.registry_user {
            None => None,
            Some(username) => Some(pb::RegistryLogin {
                server: args.registry_server.clone().unwrap_or_default(),
                username: username.clone(),
                password: from_environment("REGISTRY_PASSWORD")?,
            }),
        },
    })
}

/// A secret, from this program's own environment.
fn from_environment(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|_| Failure::usage(format!("{name} is not set in the environment (or is no text)")))
}

/// A random UUID (version 4).
///
/// # Errors
/// When the system has no randomness.
pub fn fresh_id() -> Result<String, Failure> {
    use rand::TryRngCore;
    let mut bytes = [0_u8; 16];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|e| Failure::local("RANDOM", format!("the system gives no random numbers: {e}")))?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
}

/// The one public key in a file.
///
/// # Errors
/// When the file can't be read, is a private key, or holds another number of keys.
pub(super) fn public_key(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::local("FILE", format!("cannot read {}: {e}", path.display())))?;
    if text.contains("PRIVATE KEY") {
        return Err(Failure::usage(format!("{} is a private key, which is nobody else's business; name the .pub file", path.display())));
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    match lines.as_slice() {
        [line] => Ok((*line).to_owned()),
        _ => Err(Failure::usage(format!("{} holds {} keys; one line is needed", path.display(), lines.len()))),
    }
}

/// A new, empty file for a private key, readable by its owner alone; removed again unless it is kept.
pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    file: File,
    kept: bool,
}

impl KeyFile {
    /// Makes the file; it must not be there yet.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Failure::local("FILE_EXISTS", format!("{} exists already and is not overwritten", path.display())),
            _ => Failure::local("FILE", format!("cannot write {}: {e}", path.display())),
        })?;
        Ok(Self { path: path.to_owned(), file, kept: false })
    }

    /// Puts the key in.
    pub(super) fn fill(&self, key: &str) -> Result<(), Failure> {
        let written = (&self.file).write_all(key.as_bytes()).and_then(|()| self.file.sync_all());
        written.map_err(|e| Failure::local("FILE", format!("cannot write {}: {e}", self.path.display())))
    }

    /// Keeps it for good.
    pub(super) fn keep(mut self) -> PathBuf {
        self.kept = true;
        self.path.clone()
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        if !self.kept {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

impl Workload {
    const fn wire(self) -> pb::WorkloadType {
        match self {
            Self::Ssh => pb::WorkloadType::Ssh,
            Self::Llm => pb::WorkloadType::Llm,
            Self::LlmVllm => pb::WorkloadType::LlmVllm,
            Self::LlmTgi => pb::WorkloadType::LlmTgi,
            Self::Training => pb::WorkloadType::Training,
            Self::Batch => pb::WorkloadType::Batch,
            Self::Interactive => pb::WorkloadType::Interactive,
            Self::Inference => pb::WorkloadType::Inference,
            Self::Benchmark => pb::WorkloadType::Benchmark,
        }
    }
}

impl Weights {
    const fn wire(self) -> pb::Quantization {
        match self {
            Self::Fp32 => pb::Quantization::Fp32,
            Self::Fp16 => pb::Quantization::Fp16,
            Self::Bf16 => pb::Quantization::Bf16,
            Self::Fp8 => pb::Quantization::Fp8,
            Self::Int8 => pb::Quantization::Int8,
            Self::Awq => pb::Quantization::Awq,
            Self::Gptq => pb::Quantization::Gptq,
            Self::Int4 => pb::Quantization::Int4,
            Self::GgufQ4 => pb::Quantization::GgufQ4,
        }
    }
}

impl Verify {
    const fn wire(self) -> pb::VerifyLevel {
        match self {
            Self::Ssh => pb::VerifyLevel::Ssh,
            Self::Gpu => pb::VerifyLevel::Gpu,
            Self::Strict => pb::VerifyLevel::Strict,
        }
    }
}

impl Scope {
    const fn wire(self) -> pb::FailoverScope {
        match self {
            Self::None => pb::FailoverScope::None,
            Self::SameGpu => pb::FailoverScope::SameGpu,
            Self::SameMemory => pb::FailoverScope::SameMemory,
            Self::Any => pb::FailoverScope::Any,
        }
    }
}
