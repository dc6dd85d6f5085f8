//! `load`: loads a running server on this machine and measures what it takes: time, processor and memory.
//!
//! Bounded in count and time, and only against loopback addresses: it is an instrument, not a weapon. Times are those that a
//! caller meets, connection and decoding included. What it measures is written down by `benches/measure` beside the benches.

mod idle;
mod process;
mod report;
mod sessions;
mod timing;
mod unary;
mod watch;

use crate::cli::Desk;
use crate::cli::client::{Clients, asking};
use crate::cli::failure::{Exit, Failure};
use crate::grpc::pb;
use clap::{Args, Subcommand};
use process::Process;

/// Sessions that `load` makes and changes belong to this consumer; it touches no other.
const CONSUMER: &str = "load";
/// The label that is changed.
const LABEL: &str = "load";

/// What is to be loaded.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  gpu-shopper load unary --for 10s --pid 4711
  gpu-shopper load sessions --count 100 --in-flight 50 --market-is-simulated
  gpu-shopper load watch --streams 1000 --pid 4711 -o json

A server to load, with its market, and no real machine:
  gpu-shopper sim --preset none --times 10
  gpu-shopper serve --pace 0")]
pub struct LoadArgs {
    /// What to do to it
    #[command(subcommand)]
    pub what: What,
    /// The server's process on this machine: then its processor time and memory are told as well
    #[arg(long, global = true, value_name = "PID")]
    pub pid: Option<u32>,
}

/// What to do to a server.
#[derive(Subcommand, Clone, Debug)]
pub enum What {
    /// Calls with one answer: how many a second, and how long each takes
    #[command(after_help = "Examples:
  gpu-shopper load unary --mix list-offers=6,get-session=3,list-sessions=1 --for 20s
  gpu-shopper load unary --mix list-offers=1 --gpu 'RTX 4090' --order-by expected-cost --rate 500

Without --rate the calls first follow each other as fast as they are answered, which tells the highest rate; then they come at
70 % of it. At a fixed rate calls are sent when it is time for them, whether or not earlier ones have been answered, so that
a server that stalls can't hide it.")]
    Unary(unary::UnaryArgs),
    /// Streams of changes: memory for each, and the time from a commit to its watchers
    #[command(after_help = "Examples:
  gpu-shopper load watch --streams 1000 --rate 50 --for 10s --pid 4711
  gpu-shopper load watch --streams 1000 --everything

Watches the open sessions of the consumer `load`, which `load sessions --keep` makes, and changes a label of theirs.")]
    Watch(watch::WatchArgs),
    /// Sessions from create to their end, on a simulated market
    #[command(after_help = "Examples:
  gpu-shopper load sessions --count 200 --in-flight 100 --market-is-simulated
  gpu-shopper load sessions --count 1000 --keep --market-is-simulated
  gpu-shopper drain --yes")]
    Sessions(sessions::SessionsArgs),
    /// Nothing at all: what the server takes while nobody asks
    #[command(after_help = "Examples:\n  gpu-shopper load idle --for 60s --pid 4711")]
    Idle(idle::IdleArgs),
}

/// Runs `load`.
///
/// # Errors
/// An address that is not on this machine; what the server says; a process that can't be read.
pub async fn run(args: LoadArgs, desk: &mut Desk) -> Result<Exit, Failure> {
    if !desk.server.is_loopback() {
        let text = format!("{} is not on this machine: load goes to loopback addresses only (127.0.0.1, ::1, localhost)", desk.server);
        return Err(Failure::new(Exit::Usage, "NOT_LOOPBACK", text));
    }
    let process = Process::of(args.pid)?;
    let done = match args.what {
        What::Unary(args) => unary::run(&args, process, desk).await,
        What::Watch(args) => watch::run(&args, process, desk).await,
        What::Sessions(args) => sessions::run(&args, process, desk).await,
        What::Idle(args) => idle::run(&args, process, desk).await,
    };
    desk.console.rest();
    done
}

/// So many connections to the server.
async fn connections(desk: &Desk, count: usize) -> Result<Vec<Clients>, Failure> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        all.push(desk.connect().await?);
    }
    Ok(all)
}

fn ours() -> pb::SessionFilter {
    pb::SessionFilter { consumer_id: Some(CONSUMER.to_owned()), ..Default::default() }
}

/// The open sessions of our consumer.
async fn subjects(clients: &mut Clients) -> Result<Vec<String>, Failure> {
    let open = [pb::session::State::Pending, pb::session::State::Provisioning, pb::session::State::Running];
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let filter = pb::SessionFilter { states: open.iter().map(|s| i32::from(*s)).collect(), ..ours() };
        let request = pb::ListSessionsRequest { filter: Some(filter), page_size: 1000, page_token: token };
        let page = clients.sessions.list_sessions(asking(request)).await?.into_inner();
        all.extend(page.read_sessions()?.into_iter().map(|s| s.session_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    if all.is_empty() {
        let text = format!("the server has no open session of the consumer `{CONSUMER}`");
        return Err(Failure::local("NOTHING_THERE", text).hint("make some with `gpu-shopper load sessions --count 10 --keep --market-is-simulated`"));
    }
    Ok(all)
}
