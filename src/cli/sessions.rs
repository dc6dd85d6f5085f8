//! `sessions`: look at them, use their machines, change and end them.

mod changes;
mod keys;
mod looks;
mod streams;
mod uses;

pub use looks::facts;

use crate::cli::Desk;
use crate::cli::client::{Clients, asking};
use crate::cli::failure::{Exit, Failure};
use crate::cli::values::{DayOrMoment, PageArgs, State, day_or_moment, duration, duration_or_off, moment, pair};
use crate::domain::time::Time;
use crate::grpc::pb;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Sessions.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  gpu-shopper sessions list --state running
  gpu-shopper sessions watch 01kaphz700fay8vvr14d2pf2db
  gpu-shopper sessions done 01kaphz700fay8vvr14d2pf2db")]
pub struct SessionsArgs {
    /// What to do
    #[command(subcommand)]
    pub command: SessionsCommand,
}

/// What to do with sessions.
#[derive(Subcommand, Clone, Debug)]
pub enum SessionsCommand {
    /// Sessions, newest first
    #[command(after_help = "Examples:
  gpu-shopper sessions list
  gpu-shopper sessions list -c alice --state running --state stopping
  gpu-shopper sessions list --label team=vision --all -o json")]
    List {
        /// Which
        #[command(flatten)]
        filter: WhichArgs,
        /// How many
        #[command(flatten)]
        page: PageArgs,
    },
    /// One session with all that is known about it
    #[command(
        after_help = "Examples:\n  gpu-shopper sessions get 01kaphz700fay8vvr14d2pf2db\n  gpu-shopper sessions get 01kaphz700fay8vvr14d2pf2db -o json"
    )]
    Get {
        /// The session's id
        session: String,
    },
    /// Every event as it happens: of one session until its end, or of all
    #[command(after_help = "Examples:
  gpu-shopper sessions watch 01kaphz700fay8vvr14d2pf2db
  gpu-shopper sessions watch 01kaphz700fay8vvr14d2pf2db --until running
  gpu-shopper sessions watch -c alice -o json
  gpu-shopper sessions watch --ended-since 2026-11-23

A lost connection is resumed without gaps. The exit code is 0 when the session ended as its user wanted (or reached
--until), 1 when it ended as FAILED, 6 when there was nothing to rent.")]
    Watch(WatchArgs),
    /// What happened to a session, oldest first
    #[command(after_help = "Examples:\n  gpu-shopper sessions events 01kaphz700fay8vvr14d2pf2db --all")]
    Events {
        /// The session's id
        session: String,
        /// How many
        #[command(flatten)]
        page: PageArgs,
    },
    /// A fresh look at a session's machine and clocks
    #[command(after_help = "Examples:\n  gpu-shopper sessions diagnostics 01kaphz700fay8vvr14d2pf2db")]
    Diagnostics {
        /// The session's id
        session: String,
    },
    /// The work is done: end the session
    #[command(
        visible_alias = "complete",
        after_help = "Examples:
  gpu-shopper sessions done 01kaphz700fay8vvr14d2pf2db
  gpu-shopper sessions done 01kaphz700fay8vvr14d2pf2db --bad-machine
  gpu-shopper sessions done 01kaphz700fay8vvr14d2pf2db --no-wait"
    )]
    Done {
        /// How to end it
        #[command(flatten)]
        end: EndArgs,
        /// The machine was bad: remembered when offers are chosen
        #[arg(long)]
        bad_machine: bool,
    },
    /// End a session at once, from any state
    #[command(
        visible_alias = "delete",
        after_help = "Examples:
  gpu-shopper sessions destroy 01kaphz700fay8vvr14d2pf2db
  gpu-shopper sessions destroy 01kaphz700fay8vvr14d2pf2db --wait=false"
    )]
    Destroy {
        /// How to end it
        #[command(flatten)]
        end: EndArgs,
    },
    /// Move a session's expiry
    #[command(after_help = "Examples:
  gpu-shopper sessions extend 01kaphz700fay8vvr14d2pf2db 2h
  gpu-shopper sessions extend 01kaphz700fay8vvr14d2pf2db --until 2026-11-23T22:00:00Z")]
    Extend(ExtendArgs),
    /// Replace a session's labels
    #[command(after_help = "Examples:
  gpu-shopper sessions label 01kaphz700fay8vvr14d2pf2db team=vision run=17
  gpu-shopper sessions label 01kaphz700fay8vvr14d2pf2db --clear")]
    Label {
        /// The session's id
        session: String,
        /// All labels after the change
        #[arg(value_name = "KEY=VALUE", value_parser = pair, required_unless_present = "clear")]
        labels: Vec<(String, String)>,
        /// No labels after the change
        #[arg(long, conflicts_with = "labels")]
        clear: bool,
    },
    /// Change the key that logs in to a session's machine
    #[command(after_help = "Examples:
  gpu-shopper sessions rotate-key 01kaphz700fay8vvr14d2pf2db --save-key key.pem
  gpu-shopper sessions rotate-key 01kaphz700fay8vvr14d2pf2db --ssh-key ~/.ssh/id_ed25519.pub

Without --ssh-key the server makes a key pair and tells the private key: to the file of --save-key, or to standard
output. Ends when the machine takes the new key, and the one before no more.")]
    RotateKey(RotateArgs),
    /// Change after how long without use a session ends, or switch that off
    #[command(after_help = "Examples:
  gpu-shopper sessions idle 01kaphz700fay8vvr14d2pf2db 30m
  gpu-shopper sessions idle 01kaphz700fay8vvr14d2pf2db off

Use is an SSH connection, something on the GPUs, or keep-alive. What can't be told counts as use.")]
    Idle {
        /// The session's id
        session: String,
        /// How long, 1m to 24h, or off
        #[arg(value_name = "DURATION", value_parser = duration_or_off)]
        threshold: Duration,
    },
    /// Say that a session's machine is in use: idleness is counted anew
    #[command(after_help = "Examples:\n  gpu-shopper sessions keep-alive 01kaphz700fay8vvr14d2pf2db")]
    KeepAlive {
        /// The session's id
        session: String,
    },
    /// Log in to a session's machine, its host key pinned
    #[command(after_help = "Examples:
  gpu-shopper sessions ssh 01kaphz700fay8vvr14d2pf2db -i key.pem
  gpu-shopper sessions ssh 01kaphz700fay8vvr14d2pf2db -i key.pem -- -L 8000:localhost:8000

What follows -- goes to ssh itself. With -o json nothing is run: the address and the ssh command are written.")]
    Ssh {
        /// The login
        #[command(flatten)]
        login: LoginArgs,
        /// Options for ssh
        #[arg(last = true, value_name = "SSH OPTION")]
        options: Vec<String>,
    },
    /// Run a command on a session's machine
    #[command(after_help = "Examples:
  gpu-shopper sessions exec 01kaphz700fay8vvr14d2pf2db -i key.pem -- nvidia-smi -L
  gpu-shopper sessions exec 01kaphz700fay8vvr14d2pf2db -i key.pem -- 'cd /workspace && ls'

Several words reach the command unchanged; a single one is a line for the machine's shell. The exit code is the
command's (255: ssh itself failed). With -o json its output is written as one document.")]
    Exec {
        /// The login
        #[command(flatten)]
        login: LoginArgs,
        /// The command
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// A block for ~/.ssh/config
    #[command(after_help = "Examples:
  gpu-shopper sessions ssh-config 01kaphz700fay8vvr14d2pf2db -i key.pem --alias gpu --known-hosts ~/.ssh/known_hosts_gpu
  gpu-shopper sessions ssh-config 01kaphz700fay8vvr14d2pf2db -i key.pem >> ~/.ssh/config")]
    SshConfig {
        /// The session's id
        session: String,
        /// The private key
        #[arg(short = 'i', long, value_name = "FILE")]
        identity: Option<PathBuf>,
        /// The name to log in by; default: gpu-<session id>
        #[arg(long, value_name = "NAME")]
        alias: Option<String>,
        /// Put the machine's host key into this file and name it in the block
        #[arg(long, value_name = "FILE")]
        known_hosts: Option<PathBuf>,
    },
    /// The line for known_hosts of a session's machine
    #[command(after_help = "Examples:\n  gpu-shopper sessions known-hosts 01kaphz700fay8vvr14d2pf2db >> ~/.ssh/known_hosts")]
    KnownHosts {
        /// The session's id
        session: String,
    },
}

/// Which sessions.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct WhichArgs {
    /// Only of this consumer
    #[arg(short, long, value_name = "NAME")]
    pub consumer: Option<String>,
    /// Only at this provider
    #[arg(short, long, value_name = "NAME")]
    pub provider: Option<String>,
    /// Only in this state (repeatable)
    #[arg(short, long = "state", value_enum, value_delimiter = ',')]
    pub states: Vec<State>,
    /// Only with this label (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    pub labels: Vec<(String, String)>,
}

impl WhichArgs {
    fn filter(&self) -> pb::SessionFilter {
        pb::SessionFilter {
            consumer_id: self.consumer.clone(),
            provider: self.provider.clone(),
            states: self.states.iter().map(|s| s.wire().into()).collect(),
            labels: crate::cli::values::pairs(&self.labels),
        }
    }
}

/// What to watch.
#[derive(Args, Clone, Debug)]
pub struct WatchArgs {
    /// One session's id; without it all sessions that match are watched
    pub session: Option<String>,
    /// Which
    #[command(flatten)]
    pub filter: WhichArgs,
    /// Begin with the next event
    #[arg(long, conflicts_with_all = ["resume", "ended_since"])]
    pub from_now: bool,
    /// Begin after this token of an earlier message
    #[arg(long, value_name = "TOKEN", conflicts_with = "ended_since")]
    pub resume: Option<String>,
    /// Begin with the open sessions and those that ended since then: a UTC day or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = day_or_moment, conflicts_with = "session")]
    pub ended_since: Option<DayOrMoment>,
    /// Stop when the session is in this state
    #[arg(long, value_enum, value_name = "STATE", requires = "session")]
    pub until: Option<State>,
}

/// How to end a session.
#[derive(Args, Clone, Debug)]
pub struct EndArgs {
    /// The session's id
    pub session: String,
    /// Wait until every machine of it is proven gone
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        action = clap::ArgAction::Set)]
    pub wait: bool,
    /// Don't wait
    #[arg(long)]
    pub no_wait: bool,
    /// Your name for this request: repeating it does nothing new; default: a fresh one
    #[arg(long, value_name = "TEXT")]
    pub request_id: Option<String>,
}

/// A new expiry.
#[derive(Args, Clone, Debug)]
pub struct ExtendArgs {
    /// The session's id
    pub session: String,
    /// Later by this much: 30m, 2h
    #[arg(value_name = "DURATION", value_parser = duration, required_unless_present = "until", conflicts_with = "until")]
    pub by: Option<Duration>,
    /// Exactly then (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Time>,
    /// Go beyond the hard limit (operators only)
    #[arg(long)]
    pub override_hard_max: bool,
    /// Your name for this request: repeating it does nothing new; default: a fresh one
    #[arg(long, value_name = "TEXT")]
    pub request_id: Option<String>,
}

/// A new key.
#[derive(Args, Clone, Debug)]
pub struct RotateArgs {
    /// The session's id
    pub session: String,
    /// Your public key, the file that ends with .pub
    #[arg(long, value_name = "FILE")]
    pub ssh_key: Option<PathBuf>,
    /// Where to put the private key that the server makes; the file must not exist yet
    #[arg(long, value_name = "FILE", conflicts_with = "ssh_key")]
    pub save_key: Option<PathBuf>,
    /// Don't wait until the machine takes it
    #[arg(long)]
    pub no_wait: bool,
    /// Your name for this request: repeating it gives the same key; default: a fresh one
    #[arg(long, value_name = "TEXT")]
    pub request_id: Option<String>,
}

/// How to log in.
#[derive(Args, Clone, Debug)]
pub struct LoginArgs {
    /// The session's id
    pub session: String,
    /// The private key; default: what ssh finds by itself
    #[arg(short = 'i', long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The program that logs in
    #[arg(long, env = "GPU_SHOPPER_SSH", value_name = "PROGRAM", default_value = "ssh")]
    pub ssh_program: PathBuf,
}

/// Runs `sessions`.
///
/// # Errors
/// What the server says; when a session ends badly; when a file or the output can't be written.
pub async fn run(args: SessionsArgs, desk: &mut Desk) -> Result<u8, Failure> {
    let mut clients = desk.connect().await?;
    let done = match args.command {
        SessionsCommand::List { filter, page } => looks::list(&filter, &page, desk, &mut clients).await,
        SessionsCommand::Get { session } => looks::get(session, desk, &mut clients).await,
        SessionsCommand::Events { session, page } => looks::events(session, &page, desk, &mut clients).await,
        SessionsCommand::Diagnostics { session } => looks::diagnostics(session, desk, &mut clients).await,
        SessionsCommand::Watch(args) => streams::watch(args, desk, &clients).await,
        SessionsCommand::Done { end, bad_machine } => changes::done(end, bad_machine, desk, &clients).await,
        SessionsCommand::Destroy { end } => changes::destroy(end, desk, &clients).await,
        SessionsCommand::Extend(args) => changes::extend(args, desk, &clients).await,
        SessionsCommand::Label { session, labels, .. } => changes::label(session, &labels, desk, &clients).await,
        SessionsCommand::RotateKey(args) => keys::rotate(args, desk, &clients).await,
        SessionsCommand::Idle { session, threshold } => changes::idle(session, threshold, desk, &clients).await,
        SessionsCommand::KeepAlive { session } => changes::keep_alive(session, desk, &clients).await,
        SessionsCommand::Ssh { login, options } => return uses::ssh(&login, &options, desk, &mut clients).await,
        SessionsCommand::Exec { login, command } => return uses::exec(&login, &command, desk, &mut clients).await,
        SessionsCommand::SshConfig { session, identity, alias, known_hosts } => {
            uses::ssh_config(session, identity, alias, known_hosts, desk, &mut clients).await
        }
        SessionsCommand::KnownHosts { session } => uses::known_hosts(session, desk, &mut clients).await,
    };
    done.map(Exit::code)
}

/// The session as it is now.
///
/// # Errors
/// What the server says.
pub async fn fetch(session_id: String, clients: &mut Clients) -> Result<pb::Session, Failure> {
    let answer = clients.sessions.get_session(asking(pb::GetSessionRequest { session_id })).await?;
    Ok(answer.into_inner().read_session()?)
}
