//! `load unary`: calls with one answer, as fast as they are answered, then at a fixed rate.
//!
//! At a fixed rate each call is sent when its time has come, and earlier answers are not waited for: what a stall delays is
//! measured, not left out (no coordinated omission). How late the sending itself was is told beside it.

use crate::cli::Desk;
use crate::cli::client::{Clients, asking};
use crate::cli::failure::{Exit, Failure};
use crate::cli::load::process::Process;
use crate::cli::load::report::{Part, Report};
use crate::cli::load::timing::Timings;
use crate::cli::load::{LABEL, connections, subjects};
use crate::cli::values::{FilterArgs, Order, duration};
use crate::clock::Stopwatch;
use crate::domain::time::Time;
use crate::grpc::pb;
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::Status;

/// No load is longer.
const LONGEST: Duration = Duration::from_secs(600);
/// Calls that may be unanswered at once at a fixed rate; what would come on top is told as an error.
const MOST_UNANSWERED: u64 = 10_000;
/// The share of the highest rate that calls come at without `--rate`, in percent.
const SHARE: u64 = 70;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Call {
    /// A page of offers.
    ListOffers,
    /// One offer.
    GetOffer,
    /// All GPU models.
    ListGpuModels,
    /// A page of sessions.
    ListSessions,
    /// One session.
    GetSession,
    /// Another label of a session that `load sessions --keep` has made: a decision, on disk before it is answered.
    UpdateSession,
    /// One session's cost.
    GetSessionCost,
    /// What is being spent.
    GetSpendRate,
}

/// Arguments of `load unary`.
#[derive(Args, Clone, Debug)]
pub struct UnaryArgs {
    /// Which calls, and how many of each in turn: list-offers, get-offer, list-gpu-models, list-sessions, get-session,
    /// update-session, get-session-cost, get-spend-rate
    #[arg(long, default_value = "list-offers=1", value_name = "CALL=N", value_delimiter = ',', value_parser = weighted)]
    pub mix: Vec<(Call, u32)>,
    /// How long, for each part: up to 10m
    #[arg(long = "for", default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub time: Duration,
    /// Calls per second; without it, first as fast as they are answered, then at 70 % of that
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=200_000))]
    pub rate: Option<u64>,
    /// Calls that wait for their answers at once, while they are sent as fast as they are answered
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub in_flight: u32,
    /// Connections to share
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub connections: u32,
    /// Offers and sessions on a page
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub page: i32,
    /// Which offers come first
    #[arg(long, value_enum, default_value_t = Order::Price)]
    pub order_by: Order,
    /// Which offers are listed
    #[command(flatten)]
    pub filter: FilterArgs,
}

fn weighted(text: &str) -> Result<(Call, u32), String> {
    let (name, count) = text.split_once('=').unwrap_or((text, "1"));
    let call = Call::from_str(name.trim(), true)?;
    let count = count.trim().parse().ok().filter(|n| (1..=1000).contains(n));
    Ok((call, count.ok_or("write it as CALL=N with N from 1 to 1000")?))
}

/// What is asked about.
struct Plan {
    turn: Vec<Call>,
    list: pb::ListOffersRequest,
    page: i32,
    offers: Vec<String>,
    sessions: Vec<String>,
    /// Those whose labels may be changed.
    own: Vec<String>,
    /// The head of this run's labels: one that a session has already would be no change.
    run: String,
}

impl Plan {
    async fn new(args: &UnaryArgs, clients: &mut Clients, now: Time) -> Result<Self, Failure> {
        let turn: Vec<Call> = args.mix.iter().flat_map(|(call, count)| std::iter::repeat_n(*call, *count as usize)).collect();
        let list = pb::ListOffersRequest {
            filter: (!args.filter.is_empty()).then(|| args.filter.filter(None)),
            order_by: args.order_by.word().to_owned(),
            page_size: args.page,
            page_token: String::new(),
        };
        let needs = |wanted: &[Call]| turn.iter().any(|call| wanted.contains(call));
        let (needs_offers, needs_sessions) = (needs(&[Call::GetOffer]), needs(&[Call::GetSession, Call::GetSessionCost]));
        let needs_own = needs(&[Call::UpdateSession]);
        let (mut offers, mut sessions, mut own) = (Vec::new(), Vec::new(), Vec::new());
        if needs_offers {
            let page = clients.inventory.list_offers(asking(pb::ListOffersRequest::default())).await?.into_inner();
            offers.extend(page.read_offers()?.into_iter().map(|o| o.offer_id));
        }
        if needs_sessions {
            let page = clients.sessions.list_sessions(asking(pb::ListSessionsRequest::default())).await?.into_inner();
            sessions.extend(page.read_sessions()?.into_iter().map(|s| s.session_id));
        }
        if needs_own {
            own = subjects(clients).await?;
        }
        let plan = Self { turn, list, page: args.page, offers, sessions, own, run: format!("{}-", now.millis()) };
        let lacking = match () {
            () if needs_offers && plan.offers.is_empty() => Some("offer"),
            () if needs_sessions && plan.sessions.is_empty() => Some("session"),
            () => None,
        };
        match lacking {
            Some(what) => Err(Failure::local("NOTHING_THERE", format!("--mix asks for one {what}, and the server has none"))),
            None => Ok(plan),
        }
    }

    fn call(&self, number: u64) -> Call {
        let at = number % u64::try_from(self.turn.len()).unwrap_or(1).max(1);
        self.turn.get(usize::try_from(at).unwrap_or(0)).copied().unwrap_or(Call::ListOffers)
    }

    async fn perform(&self, call: Call, number: u64, clients: &mut Clients) -> Result<(), Status> {
        let one = |all: &[String]| {
            let at = number % u64::try_from(all.len()).unwrap_or(1).max(1);
            all.get(usize::try_from(at).unwrap_or(0)).cloned().unwrap_or_default()
        };
        match call {
            Call::ListOffers => clients.inventory.list_offers(asking(self.list.clone())).await.map(drop),
            Call::GetOffer => {
                let request = pb::GetOfferRequest { offer_id: one(&self.offers), ..Default::default() };
                clients.inventory.get_offer(asking(request)).await.map(drop)
            }
            Call::ListGpuModels => clients.inventory.list_gpu_models(asking(pb::ListGpuModelsRequest {})).await.map(drop),
            Call::ListSessions => {
                let request = pb::ListSessionsRequest { page_size: self.page, ..Default::default() };
                clients.sessions.list_sessions(asking(request)).await.map(drop)
            }
            Call::GetSession => clients.sessions.get_session(asking(pb::GetSessionRequest { session_id: one(&self.sessions) })).await.map(drop),
            Call::UpdateSession => {
                let labels = [(LABEL.to_owned(), format!("{}{number}", self.run))].into();
                let request = pb::UpdateSessionRequest { session_id: one(&self.own), labels, ..Default::default() };
                clients.sessions.update_session(asking(request)).await.map(drop)
            }
            Call::GetSessionCost => {
                clients.costs.get_session_cost(asking(pb::GetSessionCostRequest { session_id: one(&self.sessions) })).await.map(drop)
            }
            Call::GetSpendRate => clients.costs.get_spend_rate(asking(pb::GetSpendRateRequest::default())).await.map(drop),
        }
    }
}

/// What came of many calls.
struct Outcome {
    times: BTreeMap<Call, Timings>,
    errors: BTreeMap<String, u64>,
    /// How late calls were sent.
    late: Timings,
}

impl Outcome {
    fn new() -> Result<Self, Failure> {
        Ok(Self { times: BTreeMap::new(), errors: BTreeMap::new(), late: Timings::new()? })
    }

    fn take(&mut self, call: Call, took: Duration, answer: Result<(), Status>) -> Result<(), Failure> {
        match answer {
            Ok(()) => {
                let times = match self.times.entry(call) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(Timings::new()?),
                };
                times.record(took);
            }
            Err(status) => *self.errors.entry(format!("{:?}: {}", status.code(), status.message())).or_default() += 1,
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), Failure> {
        for (call, times) in other.times {
            match self.times.get_mut(&call) {
                Some(mine) => mine.merge(&times),
                None => drop(self.times.insert(call, times)),
            }
        }
        other.errors.into_iter().for_each(|(text, count)| *self.errors.entry(text).or_default() += count);
        self.late.merge(&other.late);
        Ok(())
    }

    fn count(&self) -> u64 {
        self.times.values().map(Timings::count).sum()
    }
}

/// Loads and tells.
///
/// # Errors
/// What the server says before it begins. Errors of the calls themselves are counted.
pub async fn run(args: &UnaryArgs, process: Process, desk: &mut Desk) -> Result<Exit, Failure> {
    let time = args.time.min(LONGEST);
    let mut clients = connections(desk, args.connections as usize).await?;
    let first = clients.first_mut().ok_or_else(|| Failure::local("LOAD", "no connection"))?;
    let plan = Arc::new(Plan::new(args, first, desk.clock.now()).await?);
    let mut report = Report { load: "unary", ..Report::default() };
    report.facts.insert("connections", args.connections.into());
    let rate = match args.rate {
        Some(rate) => rate,
        None => {
            desk.console.busy("calling as fast as the answers come");
            let part = measured(process, &format!("{} at once", args.in_flight), as_fast(&plan, &clients, args.in_flight, time), &mut report).await?;
            report.facts.insert("in_flight", args.in_flight.into());
            (part.saturating_mul(SHARE) / 100 / 100).max(1)
        }
    };
    desk.console.busy(&format!("calling {rate} times a second"));
    measured(process, &format!("{rate} a second"), at_rate(&plan, &clients, rate, time), &mut report).await?;
    report.write(desk)?;
    Ok(Exit::Ok)
}

/// Runs one part and puts it into the report; returns how many calls it made per second, in hundredths.
async fn measured(process: Process, name: &str, work: impl Future<Output = Result<Outcome, Failure>>, report: &mut Report) -> Result<u64, Failure> {
    let (before, watch) = (process.used()?, Stopwatch::start());
    let outcome = work.await?;
    let elapsed = watch.elapsed();
    let usage = before.zip(process.used()?).map(|(before, after)| after.since(before, elapsed));
    let mut part = Part::new(name, outcome.count(), elapsed, usage);
    for (call, times) in &outcome.times {
        let word = call.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        part.times.push((word, times.percentiles()));
    }
    if outcome.late.count() > 0 {
        part.times.push(("(sent late by)".to_owned(), outcome.late.percentiles()));
    }
    outcome.errors.into_iter().for_each(|(text, count)| *report.errors.entry(text).or_default() += count);
    let rate = part.per_second_hundredths;
    report.parts.push(part);
    Ok(rate)
}

async fn as_fast(plan: &Arc<Plan>, clients: &[Clients], in_flight: u32, time: Duration) -> Result<Outcome, Failure> {
    let next = Arc::new(AtomicU64::new(0));
    let watch = Stopwatch::start();
    let mut workers = JoinSet::new();
    for mut own in clients.iter().cycle().take(in_flight as usize).cloned() {
        let (plan, next) = (Arc::clone(plan), Arc::clone(&next));
        workers.spawn(async move {
            let mut outcome = Outcome::new()?;
            while watch.elapsed() < time {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let (call, begun) = (plan.call(number), Stopwatch::start());
                let answer = plan.perform(call, number, &mut own).await;
                outcome.take(call, begun.elapsed(), answer)?;
            }
            Ok::<_, Failure>(outcome)
        });
    }
    joined(workers).await
}

async fn joined(mut workers: JoinSet<Result<Outcome, Failure>>) -> Result<Outcome, Failure> {
    let mut all = Outcome::new()?;
    while let Some(done) = workers.join_next().await {
        all.merge(done.map_err(|e| Failure::local("LOAD", format!("a worker broke: {e}")))??)?;
    }
    Ok(all)
}

/// One sender for each connection; each call is a task of its own.
async fn at_rate(plan: &Arc<Plan>, clients: &[Clients], rate: u64, time: Duration) -> Result<Outcome, Failure> {
    let unanswered = Arc::new(AtomicU64::new(0));
    let mut senders = JoinSet::new();
    let count = u64::try_from(clients.len()).unwrap_or(1).max(1);
    for (first, own) in (0_u64..).zip(clients.iter().cloned()) {
        let (plan, unanswered) = (Arc::clone(plan), Arc::clone(&unanswered));
        senders.spawn(async move { send(plan, own, (first, count), rate, time, unanswered).await });
    }
    joined(senders).await
}

/// Sends every `count`-th call from `first` on, each at its time.
async fn send(
    plan: Arc<Plan>,
    own: Clients,
    (first, count): (u64, u64),
    rate: u64,
    time: Duration,
    unanswered: Arc<AtomicU64>,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::new()?;
    let mut calls: JoinSet<(Call, Duration, Result<(), Status>)> = JoinSet::new();
    let watch = Stopwatch::start();
    let mut number = first;
    loop {
        let due = Duration::from_nanos(number.saturating_mul(1_000_000_000) / rate.max(1));
        if due >= time {
            break;
        }
        let now = watch.elapsed();
        if due > now {
            tokio::time::sleep(due - now).await;
        }
        outcome.late.record(watch.elapsed().saturating_sub(due));
        if unanswered.load(Ordering::Relaxed) >= MOST_UNANSWERED {
            *outcome.errors.entry(format!("not sent: {MOST_UNANSWERED} calls wait for their answers")).or_default() += 1;
        } else {
            unanswered.fetch_add(1, Ordering::Relaxed);
            let (plan, mut own, unanswered, call) = (Arc::clone(&plan), own.clone(), Arc::clone(&unanswered), plan.call(number));
            calls.spawn(async move {
                let answer = plan.perform(call, number, &mut own).await;
                unanswered.fetch_sub(1, Ordering::Relaxed);
                // From when it was due: that it was sent late is part of what its caller waits.
                (call, watch.elapsed().saturating_sub(due), answer)
            });
        }
        while let Some(done) = calls.try_join_next() {
            let (call, took, answer) = done.map_err(|e| Failure::local("LOAD", format!("a call broke: {e}")))?;
            outcome.take(call, took, answer)?;
        }
        number += count;
    }
    while let Some(done) = calls.join_next().await {
        let (call, took, answer) = done.map_err(|e| Failure::local("LOAD", format!("a call broke: {e}")))?;
        outcome.take(call, took, answer)?;
    }
    Ok(outcome)
}
