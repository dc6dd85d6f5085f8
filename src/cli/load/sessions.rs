//! `load sessions`: many sessions from create to their proven end. They rent machines, so whoever runs this has to say that the
//! market is a simulated one.

use crate::cli::Desk;
use crate::cli::client::{Clients, asking};
use crate::cli::failure::{Exit, Failure};
use crate::cli::load::process::Process;
use crate::cli::load::report::{Part, Report};
use crate::cli::load::timing::Timings;
use crate::cli::load::{CONSUMER, connections};
use crate::cli::values::{FilterArgs, duration, to_wire};
use crate::clock::{Clock, Stopwatch};
use crate::domain::ids::Label;
use crate::domain::time::Time;
use crate::grpc::pb;
use crate::grpc::pb::session::State;
use crate::http::browser::is_loopback_name;
use clap::Args;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::{Request, Status};

/// No load is longer, and no session of it may live longer.
const LONGEST: Duration = Duration::from_secs(3600);
/// One long poll; a session that needs longer is asked for again.
const POLL: Duration = Duration::from_secs(60);
/// The end of a session is waited for as long as this after the time is up.
const ENDING: Duration = Duration::from_secs(120);

/// Arguments of `load sessions`.
#[derive(Args, Clone, Debug)]
pub struct SessionsArgs {
    /// How many sessions
    #[arg(long = "count", default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub sessions: u32,
    /// How many at once
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub in_flight: u32,
    /// Leave them running: for `load watch` and `load idle`; `gpu-shopper drain --yes` ends them
    #[arg(long)]
    pub keep: bool,
    /// What is not over by then is ended: up to 1h
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = duration)]
    pub limit: Duration,
    /// Yes, the server's market is a simulated one: this rents machines
    #[arg(long)]
    pub market_is_simulated: bool,
    /// A simulated market, to be asked since when each machine's SSH server listened: then the time from there to RUNNING is told
    /// as well
    #[arg(long, value_name = "URL")]
    pub market: Vec<reqwest::Url>,
    /// Which offers are taken, cheapest first
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// A market that takes longer to tell its truth is not waited for.
const MARKET: Duration = Duration::from_secs(30);

/// A session that came to run.
#[derive(Clone)]
struct Ran {
    /// It, and which attempt of it.
    attempt: (String, usize),
    /// It is reached by its vendor's proxy.
    proxied: bool,
    /// When it was known here.
    at: Time,
}

/// The steps that are measured, in order.
const STEPS: [&str; 4] = ["create answered", "create to RUNNING", "complete answered", "complete to proven gone"];
/// What only a market can tell the beginning of.
const FROM_SSH: [(&str, bool); 2] = [("SSH server to RUNNING", false), ("the same by a proxy", true)];

#[derive(Default)]
struct Outcome {
    steps: [Option<Duration>; 4],
    ran: Option<Ran>,
    error: Option<String>,
    over: bool,
}

/// Lives sessions and tells.
///
/// # Errors
/// Nobody said that the market is simulated; what the server says before it begins. Sessions that fail are counted.
pub async fn run(args: &SessionsArgs, process: Process, desk: &mut Desk) -> Result<Exit, Failure> {
    if !args.market_is_simulated {
        let text = "load sessions rents machines: say --market-is-simulated when the server's providers are simulated ones";
        return Err(Failure::new(Exit::Usage, "REAL_MARKET", text).hint("`gpu-shopper sim` runs two of them"));
    }
    // A wrong address is told before anything is rented.
    since_ssh(&args.market, Vec::new()).await?;
    let limit = args.limit.min(LONGEST);
    let clients = connections(desk, (args.in_flight as usize).div_ceil(200)).await?;
    let places = Arc::new(Semaphore::new(args.in_flight as usize));
    let (before, watch) = (process.used()?, Stopwatch::start());
    let mut lives = JoinSet::new();
    for (number, own) in (0..args.sessions).zip(clients.iter().cycle()) {
        let (own, places, args) = (own.clone(), Arc::clone(&places), args.clone());
        lives.spawn(async move {
            let Ok(_place) = places.acquire_owned().await else { return Outcome::default() };
            let mut life = Life { clients: own, keep: args.keep, id: None, outcome: Outcome::default() };
            let left = limit.saturating_sub(watch.elapsed());
            if tokio::time::timeout(left, life.live(&args, number)).await.is_err() {
                life.outcome.error = Some("not over in time, and ended".to_owned());
                life.end().await;
            }
            life.outcome
        });
    }
    let mut times: Vec<Timings> = STEPS.iter().map(|_| Timings::new()).collect::<Result<_, _>>()?;
    let mut report = Report { load: "sessions", ..Report::default() };
    let (mut done, mut over, mut ran) = (0_u64, 0_u64, Vec::new());
    while let Some(outcome) = lives.join_next().await {
        let outcome = outcome.map_err(|e| Failure::local("LOAD", format!("a session's task broke: {e}")))?;
        for (took, times) in outcome.steps.iter().zip(&mut times) {
            if let Some(took) = took {
                times.record(*took);
            }
        }
        if let Some(error) = outcome.error {
            *report.errors.entry(error).or_default() += 1;
        }
        ran.extend(outcome.ran);
        (done, over) = (done + 1, over + u64::from(outcome.over));
        desk.console.busy(&format!("{done} of {} sessions", args.sessions));
    }
    let elapsed = watch.elapsed();
    let usage = before.zip(process.used()?).map(|(before, after)| after.since(before, elapsed));
    let mut part = Part::new(if args.keep { "sessions to RUNNING" } else { "whole sessions" }, over, elapsed, usage);
    part.memory_bytes_each = usage.filter(|_| args.keep).map(|u| u.memory_after_kib.saturating_sub(u.memory_before_kib) * 1024 / over.max(1));
    let measured = STEPS.iter().zip(&times).filter(|(_, times)| times.count() > 0);
    part.times = measured.map(|(name, times)| ((*name).to_owned(), times.percentiles())).collect();
    if !args.market.is_empty() {
        match since_ssh(&args.market, ran).await {
            Ok(times) => part
                .times
                .extend(times.into_iter().filter(|(_, times)| times.count() > 0).map(|(name, times)| (name.to_owned(), times.percentiles()))),
            Err(failure) => drop(report.errors.insert(failure.message.clone(), 1)),
        }
    }
    report.facts.insert("sessions", args.sessions.into());
    report.facts.insert("in_flight", args.in_flight.into());
    report.facts.insert("succeeded", over);
    report.parts.push(part);
    report.write(desk)?;
    Ok(if over == u64::from(args.sessions) { Exit::Ok } else { Exit::Failed })
}

/// A simulated market's truth, as far as it matters here.
#[derive(Deserialize)]
struct Told {
    machines: Vec<Machine>,
}

#[derive(Deserialize)]
struct Machine {
    label: String,
    ssh_since: Option<Time>,
}

/// How long after its machine's SSH server began to listen each session was known to run, by how it is reached.
async fn since_ssh(markets: &[reqwest::Url], ran: Vec<Ran>) -> Result<Vec<(&'static str, Timings)>, Failure> {
    let mut since = BTreeMap::new();
    let client = reqwest::Client::builder().no_proxy().timeout(MARKET).redirect(reqwest::redirect::Policy::none()).build();
    let client = client.map_err(|e| Failure::local("MARKET", format!("no HTTP client can be made: {e}")))?;
    for market in markets {
        if !market.host_str().is_some_and(is_loopback_name) {
            let text = format!("--market {market} is not on this machine: load goes to loopback addresses only (127.0.0.1, ::1, localhost)");
            return Err(Failure::new(Exit::Usage, "NOT_LOOPBACK", text));
        }
        let ask = async |url: reqwest::Url| client.get(url).send().await?.error_for_status()?.json::<Told>().await;
        let mut url = market.clone();
        url.set_path("/_sim/truth");
        let told = ask(url).await.map_err(|e| Failure::local("MARKET", format!("--market {market}: {}", e.without_url())))?;
        let known = told.machines.into_iter().filter_map(|machine| Some((Label::parse(&machine.label)?, machine.ssh_since?)));
        since.extend(known.map(|(label, at)| ((label.session.to_string(), usize::from(label.attempt)), at)));
    }
    let mut all = Vec::new();
    for (name, proxied) in FROM_SSH {
        let mut times = Timings::new()?;
        let these = ran.iter().filter(|ran| ran.proxied == proxied);
        these.filter_map(|ran| Some(ran.at.since(*since.get(&ran.attempt)?))).for_each(|took| times.record(took));
        all.push((name, times));
    }
    Ok(all)
}

struct Life {
    clients: Clients,
    keep: bool,
    id: Option<String>,
    outcome: Outcome,
}

impl Life {
    async fn live(&mut self, args: &SessionsArgs, number: u32) {
        if let Err(status) = self.steps(args, number).await {
            self.outcome.error = Some(format!("{:?}: {}", status.code(), status.message()));
            self.end().await;
        }
    }

    async fn steps(&mut self, args: &SessionsArgs, number: u32) -> Result<(), Status> {
        let begun = Stopwatch::start();
        let requirements = pb::Requirements { filter: Some(args.filter.filter(None)), order_by: "price".to_owned() };
        let request = pb::CreateSessionRequest {
            consumer_id: Some(CONSUMER.to_owned()),
            target: Some(pb::create_session_request::Target::Requirements(requirements)),
            reservation: Some(to_wire(LONGEST)),
            labels: BTreeMap::from([("number".to_owned(), number.to_string())]),
            ..Default::default()
        };
        let created = self.clients.sessions.create_session(asking(request)).await?.into_inner();
        self.outcome.steps[0] = Some(begun.elapsed());
        let id = created.session.map(|s| s.session_id).unwrap_or_default();
        self.id = Some(id.clone());
        let session = self.wait(&id, &[State::Running]).await?;
        if session.state != i32::from(State::Running) {
            self.outcome.error = Some(format!("ended before it ran: {}", session.status_message));
            return Ok(());
        }
        self.outcome.steps[1] = Some(begun.elapsed());
        let attempt = (id.clone(), session.attempts.len());
        self.outcome.ran = Some(Ran { attempt, proxied: session.ssh_proxied, at: Clock::System.now() });
        if self.keep {
            self.outcome.over = true;
            return Ok(());
        }
        let ending = Stopwatch::start();
        self.clients.sessions.complete_session(asking(pb::CompleteSessionRequest { session_id: id.clone(), ..Default::default() })).await?;
        self.outcome.steps[2] = Some(ending.elapsed());
        self.wait(&id, &[]).await?;
        self.outcome.steps[3] = Some(ending.elapsed());
        self.outcome.over = true;
        Ok(())
    }

    /// Waits until it is in one of these states, or over.
    async fn wait(&mut self, id: &str, until: &[State]) -> Result<pb::Session, Status> {
        loop {
            let request = pb::WaitSessionRequest {
                session_id: id.to_owned(),
                until: until.iter().map(|s| i32::from(*s)).collect(),
                timeout: Some(to_wire(POLL)),
            };
            let answer = self.clients.sessions.wait_session(Request::new(request)).await?.into_inner();
            let session = answer.session.unwrap_or_default();
            let over = [State::Stopped, State::Failed].map(i32::from).contains(&session.state);
            if answer.reached || over {
                return Ok(session);
            }
        }
    }

    /// Whatever became of it: no machine of a load is left behind.
    async fn end(&mut self) {
        let Some(session_id) = self.id.clone() else { return };
        let asked =
            self.clients.sessions.destroy_session(asking(pb::DestroySessionRequest { session_id: session_id.clone(), ..Default::default() })).await;
        if asked.is_ok() {
            let _ = tokio::time::timeout(ENDING, self.wait(&session_id, &[])).await;
        }
    }
}
