//! `load watch`: many streams, and what they take. Labels of the watched sessions are changed at a fixed rate, and each watcher
//! notes how long a change took to it: from the call that made it, and from the moment that its event bears, which lies just
//! before its commit.

use crate::cli::Desk;
use crate::cli::client::{Clients, asking};
use crate::cli::failure::{Exit, Failure};
use crate::cli::load::process::Process;
use crate::cli::load::report::{Part, Report};
use crate::cli::load::timing::Timings;
use crate::cli::load::{LABEL, connections, ours, subjects};
use crate::cli::values::duration;
use crate::cli::words;
use crate::clock::{Clock, Stopwatch};
use crate::grpc::pb;
use clap::Args;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::{Request, Status, Streaming};

/// No load is longer.
const LONGEST: Duration = Duration::from_secs(600);
/// Streams over one connection: half of what a server allows.
const PER_CONNECTION: usize = 500;
/// Streams that are opened at once.
const OPENING: usize = 64;
/// What is under way after the last change has this long to come.
const LAST_WAIT: Duration = Duration::from_secs(10);
/// How often memory and arrivals are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// A server has this long to come to rest before its memory is read.
const REST: Duration = Duration::from_millis(1500);

/// Arguments of `load watch`.
#[derive(Args, Clone, Debug)]
pub struct WatchArgs {
    /// How many streams
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub streams: u32,
    /// Each stream watches all sessions of the consumer `load` instead of one
    #[arg(long)]
    pub everything: bool,
    /// Beside them, so many streams of everything whose reader opens them and reads nothing; what they cost the others is told by
    /// a run without
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub stalled: u32,
    /// Changes a second
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub rate: u64,
    /// How long changes are made: up to 10m
    #[arg(long = "for", default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub time: Duration,
}

/// What all watchers share.
struct Shared {
    watch: Stopwatch,
    clock: Clock,
    /// The head of this run's labels: one that a session has already would be no change.
    run: String,
    /// When each change was asked for.
    asked: Mutex<Vec<Duration>>,
    opened: AtomicU64,
    arrived: AtomicU64,
    broken: AtomicU64,
    times: Mutex<(Timings, Timings)>,
    errors: Mutex<BTreeMap<String, u64>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn error(&self, status: &Status) {
        *held(&self.errors).entry(format!("{:?}: {}", status.code(), status.message())).or_default() += 1;
    }

    fn met(&self, event: &pb::SessionEvent) {
        let label = event.session.as_ref().and_then(|s| s.labels.get(LABEL)).and_then(|label| label.strip_prefix(&self.run));
        let Some(number) = label.and_then(|number| number.parse::<usize>().ok()) else { return };
        let Some(asked) = held(&self.asked).get(number).copied() else { return };
        let now = self.watch.elapsed();
        let since = words::time(event.occur_time.as_ref()).map(|at| self.clock.now().since(at));
        {
            let mut times = held(&self.times);
            times.0.record(now.saturating_sub(asked));
            times.1.record(since.unwrap_or_default());
        }
        self.arrived.fetch_add(1, Ordering::Relaxed);
    }
}

/// A message of either kind of watch: whether it ends the beginning, and its event.
trait Told {
    fn parts(self) -> (bool, Option<pb::SessionEvent>);
}

macro_rules! told {
    ($($answer:ident in $module:ident),+) => {
        $(impl Told for pb::$answer {
            fn parts(self) -> (bool, Option<pb::SessionEvent>) {
                match self.message {
                    Some(pb::$module::Message::Event(event)) => (false, pb::read(&event).ok()),
                    Some(pb::$module::Message::SnapshotEnd(_)) => (true, None),
                    _ => (false, None),
                }
            }
        })+
    };
}

told!(WatchSessionResponse in watch_session_response, WatchSessionsResponse in watch_sessions_response);

async fn follow<T: Told>(mut stream: Streaming<T>, shared: &Shared) {
    loop {
        match stream.message().await {
            Ok(Some(message)) => match message.parts() {
                (_, Some(event)) => shared.met(&event),
                (true, None) => drop(shared.opened.fetch_add(1, Ordering::Relaxed)),
                (false, None) => {}
            },
            Ok(None) => break,
            Err(status) => {
                shared.error(&status);
                break;
            }
        }
    }
    shared.broken.fetch_add(1, Ordering::Relaxed);
}

/// Opens streams that nobody reads, over connections of their own: a full one would hold up what is beside it.
async fn stall(count: u32, desk: &mut Desk) -> Result<Vec<Streaming<pb::WatchSessionsResponse>>, Failure> {
    let mut streams = Vec::new();
    for number in 0..count {
        let mut own = desk.connect().await?;
        let start = pb::watch_sessions_request::Start::FromNow(true);
        let request = pb::WatchSessionsRequest { filter: Some(ours()), start: Some(start), ..Default::default() };
        streams.push(own.sessions.watch_sessions(Request::new(request)).await?.into_inner());
        desk.console.busy(&format!("{number} streams are open that nobody reads"));
    }
    Ok(streams)
}

/// Opens streams, makes changes, tells.
///
/// # Errors
/// What the server says before it begins. What happens to single streams is counted.
pub async fn run(args: &WatchArgs, process: Process, desk: &mut Desk) -> Result<Exit, Failure> {
    let count = args.streams as usize;
    let mut clients = connections(desk, count.div_ceil(PER_CONNECTION)).await?;
    let mut changer = desk.connect().await?;
    let sessions = Arc::new(subjects(clients.first_mut().unwrap_or(&mut changer)).await?);
    let shared = Arc::new(Shared {
        watch: Stopwatch::start(),
        clock: desk.clock.clone(),
        run: format!("{}-", desk.clock.now().millis()),
        asked: Mutex::default(),
        opened: AtomicU64::new(0),
        arrived: AtomicU64::new(0),
        broken: AtomicU64::new(0),
        times: Mutex::new((Timings::new()?, Timings::new()?)),
        errors: Mutex::default(),
    });
    let mut report = Report { load: "watch", ..Report::default() };
    report.facts.insert("streams", args.streams.into());
    report.facts.insert("streams_not_read", args.stalled.into());
    let unread = stall(args.stalled, desk).await?;
    report.facts.insert("sessions", u64::try_from(sessions.len()).unwrap_or(0));
    let mut streams = JoinSet::new();
    report.parts.push(open(args, process, &clients, &sessions, &shared, &mut streams, desk).await?);
    report.parts.push(change(args, process, &mut changer, &sessions, &shared, &mut report.facts, desk).await?);
    streams.shutdown().await;
    drop(unread);
    report.errors = held(&shared.errors).clone();
    report.write(desk)?;
    Ok(Exit::Ok)
}

async fn open(
    args: &WatchArgs,
    process: Process,
    clients: &[Clients],
    sessions: &Arc<Vec<String>>,
    shared: &Arc<Shared>,
    streams: &mut JoinSet<()>,
    desk: &mut Desk,
) -> Result<Part, Failure> {
    let (before, watch) = (process.used()?, Stopwatch::start());
    let places = Arc::new(tokio::sync::Semaphore::new(OPENING));
    for number in 0..args.streams as usize {
        let Some(mut own) = clients.get(number % clients.len().max(1)).cloned() else { break };
        let Some(session_id) = sessions.get(number % sessions.len().max(1)).cloned() else { break };
        let (shared, places, everything) = (Arc::clone(shared), Arc::clone(&places), args.everything);
        streams.spawn(async move {
            let place = places.acquire().await;
            if everything {
                let start = pb::watch_sessions_request::Start::FromNow(true);
                let request = pb::WatchSessionsRequest { filter: Some(ours()), start: Some(start), ..Default::default() };
                let answer = own.sessions.watch_sessions(Request::new(request)).await;
                drop(place);
                match answer {
                    Ok(stream) => {
                        shared.opened.fetch_add(1, Ordering::Relaxed);
                        follow(stream.into_inner(), &shared).await;
                    }
                    Err(status) => lost(&shared, &status),
                }
            } else {
                let request = pb::WatchSessionRequest { session_id, ..Default::default() };
                let answer = own.sessions.watch_session(Request::new(request)).await;
                drop(place);
                match answer {
                    Ok(stream) => follow(stream.into_inner(), &shared).await,
                    Err(status) => lost(&shared, &status),
                }
            }
        });
    }
    let wanted = u64::from(args.streams);
    let done = || shared.opened.load(Ordering::Relaxed) + shared.broken.load(Ordering::Relaxed);
    while done() < wanted && watch.elapsed() < LONGEST {
        desk.console.busy(&format!("{} of {wanted} streams are open", done()));
        tokio::time::sleep(LOOK).await;
    }
    let elapsed = watch.elapsed();
    tokio::time::sleep(REST).await;
    let usage = before.zip(process.used()?).map(|(before, after)| after.since(before, elapsed));
    let opened = shared.opened.load(Ordering::Relaxed);
    let mut part = Part::new("open the streams", opened, elapsed, usage);
    part.memory_bytes_each = usage.map(|u| u.memory_after_kib.saturating_sub(u.memory_before_kib) * 1024 / opened.max(1));
    Ok(part)
}

fn lost(shared: &Shared, status: &Status) {
    shared.error(status);
    shared.broken.fetch_add(1, Ordering::Relaxed);
}

async fn change(
    args: &WatchArgs,
    process: Process,
    changer: &mut Clients,
    sessions: &[String],
    shared: &Arc<Shared>,
    facts: &mut BTreeMap<&'static str, u64>,
    desk: &mut Desk,
) -> Result<Part, Failure> {
    let (before, watch) = (process.used()?, Stopwatch::start());
    let mut expected = 0_u64;
    let mut calls: JoinSet<Result<(), Status>> = JoinSet::new();
    for number in 0_usize.. {
        let due = Duration::from_nanos(u64::try_from(number).unwrap_or(u64::MAX).saturating_mul(1_000_000_000) / args.rate.max(1));
        if due >= args.time.min(LONGEST) {
            break;
        }
        tokio::time::sleep(due.saturating_sub(watch.elapsed())).await;
        desk.console.busy(&format!("{number} changes, {} arrivals", shared.arrived.load(Ordering::Relaxed)));
        let at = number % sessions.len().max(1);
        let Some(session_id) = sessions.get(at).cloned() else { break };
        let label = format!("{}{number}", shared.run);
        let request = pb::UpdateSessionRequest { session_id, labels: [(LABEL.to_owned(), label)].into(), ..Default::default() };
        held(&shared.asked).push(shared.watch.elapsed());
        let streams = args.streams as usize;
        let watchers = if args.everything { streams } else { streams / sessions.len() + usize::from(streams % sessions.len() > at) };
        expected += u64::try_from(watchers).unwrap_or(0);
        let mut own = changer.clone();
        calls.spawn(async move { own.sessions.update_session(asking(request)).await.map(drop) });
    }
    while let Some(done) = calls.join_next().await {
        if let Ok(Err(status)) = done {
            shared.error(&status);
        }
    }
    let last = watch.elapsed();
    while shared.arrived.load(Ordering::Relaxed) < expected && watch.elapsed() < last + LAST_WAIT {
        tokio::time::sleep(LOOK).await;
    }
    let elapsed = watch.elapsed();
    let usage = before.zip(process.used()?).map(|(before, after)| after.since(before, elapsed));
    let arrived = shared.arrived.load(Ordering::Relaxed);
    facts.insert("changes", u64::try_from(held(&shared.asked).len()).unwrap_or(0));
    facts.insert("arrivals", arrived);
    facts.insert("arrivals_expected", expected);
    facts.insert("streams_broken", shared.broken.load(Ordering::Relaxed));
    let mut part = Part::new("arrivals", arrived, elapsed, usage);
    let times = held(&shared.times);
    part.times = vec![("from the call".to_owned(), times.0.percentiles()), ("from its event's time".to_owned(), times.1.percentiles())];
    Ok(part)
}
