//! Every way in which a session that runs comes to its end by itself: what is told first, by which look it is known, which
//! reason it has, and that its final cost holds the market's bill.

use crate::support::{Altered, House, Plan, Wrap, any, request};
use gpu_shopper::domain::event::{Event, EventType};
use gpu_shopper::domain::ids::SessionId;
use gpu_shopper::domain::instance::{InstanceStatus, Sighting};
use gpu_shopper::domain::money::Nanos;
use gpu_shopper::domain::offer::RentalKind;
use gpu_shopper::domain::session::{AttemptFailure, ConditionType, EndReason, Request, Session, State, Target, Truth};
use gpu_shopper::domain::verify::ProbeFailureKind;
use gpu_shopper::ports::ProbeFailure;
use gpu_shopper::services::api::Command;
use gpu_shopper::sim::{ALWAYS, Dialect, Fault, Faults, Workload};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Any machine that nobody can outbid.
fn wanted(reservation: Duration) -> Request {
    let Target::Requirements { mut filter, order } = any(None) else { unreachable!() };
    filter.rental = Some(RentalKind::OnDemand);
    Request { reservation, ..request(Target::Requirements { filter, order }) }
}

fn idling(threshold: Duration) -> Request {
    Request { idle_threshold: threshold, ..wanted(6 * HOUR) }
}

fn plan(dialect: Dialect) -> Plan {
    Plan { refresh: Some(6 * HOUR), ..Plan::new(5, Faults::gentle()) }.at(dialect)
}

/// A session that runs, and its machine's id at the vendor.
async fn running(house: &House, wanted: Request) -> (Arc<Session>, String) {
    let id = house.create(wanted).await.unwrap().session.id;
    let session = house.until(id, State::Running, 10 * MINUTE).await;
    (session, house.alive().pop().unwrap())
}

async fn told(house: &House, id: SessionId) -> Vec<Event> {
    house.events().await.into_iter().filter(|e| e.session_id == id).collect()
}

/// The first event of a kind.
fn first(events: &[Event], kind: EventType) -> &Event {
    events
        .iter()
        .find(|e| e.kind == kind)
        .unwrap_or_else(|| panic!("no {kind:?} in {:?}", events.iter().map(|e| (e.kind, &e.message)).collect::<Vec<_>>()))
}

/// The event that begins the end.
fn ending(events: &[Event]) -> &Event {
    events.iter().find(|e| e.to_state == State::Stopping && e.from_state != State::Stopping).unwrap()
}

fn condition(session: &Session, kind: ConditionType) -> Option<(Truth, &str)> {
    session.condition(kind).map(|c| (c.status, c.reason.as_str()))
}

/// Everything is over and the books are right.
async fn clean(house: House) {
    let wrong = house.audit().await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    house.close().await;
}

// === idleness ===

#[tokio::test(start_paused = true)]
async fn a_machine_that_nobody_uses_ends_after_a_warning() {
    for dialect in Dialect::ALL {
        let house = plan(dialect).build().await;
        let (session, _) = running(&house, idling(30 * MINUTE)).await;
        house.pass(5 * MINUTE).await;
        let quiet = house.get(session.id).await;
        assert_eq!(condition(&quiet, ConditionType::Idle), Some((Truth::True, "no_activity")));
        let ended = house.until(session.id, State::Stopped, HOUR).await;
        assert_eq!((ended.end_reason, &ended.error), (Some(EndReason::Idle), &None));
        let events = told(&house, session.id).await;
        let (warning, end) = (first(&events, EventType::IdleWarning), ending(&events));
        let (begun, since) = (session.running_at.unwrap(), warning.session.idle.since.unwrap());
        assert!(since > begun && since.since(begun) < 2 * MINUTE, "{since}");
        assert!(warning.at >= since + 25 * MINUTE && warning.at < end.at, "{} {}", warning.at, end.at);
        assert!(end.at >= since + 30 * MINUTE && end.at <= since + 32 * MINUTE, "{} {}", since, end.at);
        assert!(warning.message.contains(&(since + 30 * MINUTE).to_string()), "it names the end: {}", warning.message);
        assert_eq!(events.iter().filter(|e| e.kind == EventType::IdleWarning).count(), 1);
        for told in [warning, end] {
            assert!(told.message.contains("(last: handed_over)"), "{}", told.message);
        }
        clean(house).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_seen_last_of_a_machine_in_use_is_named_when_it_ends_as_idle() {
    let house = plan(Dialect::Vastai).build().await;
    let (session, native) = running(&house, idling(10 * MINUTE)).await;
    assert!(house.market.set_workload(&native, Workload::LoggedIn));
    house.pass(30 * MINUTE).await;
    assert!(house.market.set_workload(&native, Workload::Idle));
    house.until(session.id, State::Stopped, HOUR).await;
    let events = told(&house, session.id).await;
    for told in [first(&events, EventType::IdleWarning), ending(&events)] {
        assert!(told.message.contains("(last: ssh_connections)"), "{}", told.message);
    }
    clean(house).await;
}

#[tokio::test(start_paused = true)]
async fn use_of_any_kind_keeps_it_and_so_does_what_can_not_be_told() {
    // All but the first are seen by one signal alone, and each one is enough.
    for (workload, holds, reason) in [
        (Workload::Busy, Truth::False, "gpu_processes"),
        (Workload::LoggedIn, Truth::False, "ssh_connections"),
        (Workload::Hidden, Truth::Unknown, "ssh_connections"),
        (Workload::Process, Truth::False, "gpu_processes"),
        (Workload::Holding, Truth::False, "gpu_memory"),
        (Workload::Computing, Truth::False, "gpu_utilization"),
        (Workload::Reported, Truth::False, "provider_utilization"),
    ] {
        let house = plan(Dialect::Vastai).build().await;
        let (session, native) = running(&house, idling(10 * MINUTE)).await;
        house.pass(4 * MINUTE).await;
        assert!(house.market.set_workload(&native, workload));
        house.pass(2 * HOUR).await;
        let now = house.get(session.id).await;
        assert_eq!((now.state, condition(&now, ConditionType::Idle)), (State::Running, Some((holds, reason))), "{workload:?}");
        let events = told(&house, session.id).await;
        assert!(events.iter().all(|e| e.kind != EventType::IdleWarning), "{workload:?}");
        let changes = events.iter().filter(|e| e.kind == EventType::ConditionChanged).count();
        assert!(changes < 8, "a condition that stays is told once: {changes}");
        // When it falls silent, the whole threshold counts from then.
        let silent = house.now();
        assert!(house.market.set_workload(&native, Workload::Idle));
        let ended = house.until(session.id, State::Stopped, HOUR).await;
        assert_eq!(ended.end_reason, Some(EndReason::Idle));
        assert!(ending(&told(&house, session.id).await).at >= silent + 10 * MINUTE);
        clean(house).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_takes_no_login_is_not_idle() {
    let house = plan(Dialect::Vastai).build().await;
    let (session, native) = running(&house, idling(5 * MINUTE)).await;
    // Its host is away for a while, again and again: nobody can look.
    for _ in 0..6 {
        house.market.set_offline(&native, true);
        house.pass(4 * MINUTE).await;
        let away = house.get(session.id).await;
        assert_eq!((away.state, condition(&away, ConditionType::Idle)), (State::Running, Some((Truth::Unknown, "connection_refused"))));
        house.market.set_offline(&native, false);
        house.pass(2 * MINUTE).await;
    }
    assert_eq!(house.get(session.id).await.state, State::Running);
    let ended = house.until(session.id, State::Stopped, HOUR).await;
    assert_eq!(ended.end_reason, Some(EndReason::Idle));
    clean(house).await;
}

#[tokio::test(start_paused = true)]
async fn keep_alive_counts_anew() {
    let house = plan(Dialect::Tensordock).build().await;
    let (session, _) = running(&house, idling(20 * MINUTE)).await;
    for _ in 0..6 {
        house.pass(18 * MINUTE).await;
        assert!(house.get(session.id).await.idle.warned);
        let kept = house.command(session.id, Command::KeepAlive).await.unwrap();
        assert_eq!((kept.idle.since, condition(&kept, ConditionType::Idle)), (None, Some((Truth::False, "keep_alive"))));
    }
    let last = house.now();
    let ended = house.until(session.id, State::Stopped, HOUR).await;
    assert_eq!(ended.end_reason, Some(EndReason::Idle));
    let events = told(&house, session.id).await;
    assert!(ending(&events).at >= last + 20 * MINUTE);
    assert_eq!(events.iter().filter(|e| e.kind == EventType::IdleWarning).count(), 7, "each idleness is warned of");
    assert_eq!(house.command(session.id, Command::KeepAlive).await.unwrap_err().reason, "SESSION_ENDED");
    clean(house).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_the_clock_and_does_not_count_what_it_did_not_see() {
    for down in [5 * SECOND, 3 * HOUR] {
        let mut house = plan(Dialect::Vastai).on_disk().build().await;
        let (session, _) = running(&house, idling(30 * MINUTE)).await;
        house.pass(20 * MINUTE).await;
        let before = house.now().since(house.get(session.id).await.idle.since.unwrap());
        house.crash(down).await;
        let back = house.now();
        house.pass(30 * SECOND).await;
        let idle = house.get(session.id).await.idle.clone();
        let counted = house.now().since(idle.since.unwrap());
        assert!(counted <= before + MINUTE && counted + 2 * MINUTE >= before, "{down:?}: {before:?} before, {counted:?} after");
        let ended = house.until(session.id, State::Stopped, HOUR).await;
        assert_eq!(ended.end_reason, Some(EndReason::Idle));
        let events = told(&house, session.id).await;
        let (warning, end) = (first(&events, EventType::IdleWarning), ending(&events));
        assert!(warning.at < end.at && end.at >= back + 8 * MINUTE && end.at <= back + 13 * MINUTE, "{down:?}: {} {back}", end.at);
        clean(house).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_threshold_is_off_until_it_is_set_and_can_be_switched_off() {
    let house = plan(Dialect::Vastai).build().await;
    let (session, _) = running(&house, idling(Duration::ZERO)).await;
    let set = |threshold| Command::Update { labels: None, idle_threshold: Some(threshold) };
    house.pass(2 * HOUR).await;
    let now = house.get(session.id).await;
    assert_eq!((now.state, now.idle.looked_at, now.condition(ConditionType::Idle)), (State::Running, None, None), "nobody looks unasked");
    house.command(session.id, set(30 * MINUTE)).await.unwrap();
    house.pass(28 * MINUTE).await;
    assert!(house.get(session.id).await.idle.warned);
    let off = house.command(session.id, set(Duration::ZERO)).await.unwrap();
    assert_eq!(off.condition(ConditionType::Idle), None);
    house.pass(HOUR).await;
    assert_eq!(house.get(session.id).await.state, State::Running);
    house.command(session.id, set(10 * MINUTE)).await.unwrap();
    let ended = house.until(session.id, State::Stopped, HOUR).await;
    assert_eq!(ended.end_reason, Some(EndReason::Idle));
    let updates = told(&house, session.id).await.iter().filter(|e| e.kind == EventType::Updated).count();
    assert_eq!(updates, 3);
    assert_eq!(house.command(session.id, set(HOUR)).await.unwrap_err().reason, "SESSION_ENDED");
    clean(house).await;
}

#[tokio::test(start_paused = true)]
async fn diagnostics_show_who_uses_the_machine() {
    let house = plan(Dialect::Vastai).build().await;
    let (session, native) = running(&house, idling(30 * MINUTE)).await;
    let ask = || async { house.core().sessions.diagnostics(&crate::support::caller(), session.id).await.unwrap() };
    let read = |fresh: Option<Result<Vec<gpu_shopper::domain::idle::Reading>, String>>| {
        fresh.unwrap().unwrap().into_iter().map(|r| (r.signal.word(), r.idle, r.value)).collect::<Vec<_>>()
    };
    let quiet = ask().await;
    assert!(quiet.fresh_gpu.unwrap().is_ok());
    assert!(read(quiet.fresh_use).iter().all(|(_, idle, value)| *idle == Truth::True && value.is_some()));
    house.market.set_workload(&native, Workload::Busy);
    house.pass(MINUTE).await;
    let busy = read(ask().await.fresh_use);
    assert_eq!(busy[0], ("ssh_connections", Truth::True, Some(0)), "our own logins are nobody's: {busy:?}");
    assert!(busy[1..].iter().all(|(_, idle, _)| *idle == Truth::False), "{busy:?}");
    house.market.set_offline(&native, true);
    let away = ask().await;
    assert!(away.fresh_gpu.unwrap().is_err() && away.fresh_use.unwrap().is_err());
    house.market.set_offline(&native, false);
    house.command(session.id, Command::Destroy).await.unwrap();
    house.until(session.id, State::Stopped, 10 * MINUTE).await;
    assert!(ask().await.fresh_use.is_none());
    clean(house).await;
}

// === time and money ===

#[tokio::test(start_paused = true)]
async fn an_expiry_is_announced_a_quarter_of_an_hour_before_and_again_when_it_was_moved() {
    for dialect in Dialect::ALL {
        let house = plan(dialect).build().await;
        let (session, _) = running(&house, wanted(HOUR)).await;
        house.pass(50 * MINUTE).await;
        let extend = Command::Extend { by: Some(HOUR), to: None, override_hard_max: false };
        let moved = house.command(session.id, extend).await.unwrap().expires_at;
        let ended = house.until(session.id, State::Stopped, 2 * HOUR).await;
        assert_eq!(ended.end_reason, Some(EndReason::Expired));
        let events = told(&house, session.id).await;
        let announced: Vec<_> = events.iter().filter(|e| e.kind == EventType::Expiring).map(|e| e.at).collect();
        assert_eq!(announced, [session.expires_at - 15 * MINUTE, moved - 15 * MINUTE]);
        assert_eq!(ending(&events).at, moved);
        clean(house).await;
    }
}

#[tokio::test(start_paused = true)]
async fn money_that_runs_out_is_announced_at_nine_tenths() {
    for dialect in Dialect::ALL {
        let house = plan(dialect).build().await;
        let limited = Request { max_total_cost: Some(Nanos(2_000_000_000)), ..wanted(HOUR) };
        let (session, native) = running(&house, limited).await;
        house.pass(10 * MINUTE).await;
        // Within what was asked for it would last: it becomes dearer meanwhile.
        assert!(house.market.reprice(&native, 10_000));
        let ended = house.until(session.id, State::Stopped, HOUR).await;
        assert_eq!(ended.end_reason, Some(EndReason::CostLimit), "{}", ended.status_message);
        let events = told(&house, session.id).await;
        let (warning, end) = (first(&events, EventType::CostWarning), ending(&events));
        assert!(warning.revision < end.revision && warning.at < end.at, "{} {}", warning.at, end.at);
        assert_eq!(events.iter().filter(|e| e.kind == EventType::CostWarning).count(), 1);
        assert!(ended.cost.cost >= Nanos(1_900_000_000), "{:?}", ended.cost);
        clean(house).await;
    }
}

/// What its vendor does not bill while it is offline does not use up its money.
#[tokio::test(start_paused = true)]
async fn a_host_that_is_offline_costs_nothing_and_no_limit_is_reached() {
    let called = Arc::default();
    let house = plan(Dialect::Vastai).wrapped(saying(&called, InstanceStatus::Offline, "offline")).build().await;
    let (session, native) = running(&house, Request { max_total_cost: Some(Nanos(2_000_000_000)), ..wanted(2 * HOUR) }).await;
    assert!(house.market.reprice(&native, 10_000));
    house.pass(MINUTE).await;
    called.store(true, Ordering::Relaxed);
    house.pass(HOUR).await;
    let offline = house.get(session.id).await;
    assert!(offline.state == State::Running && offline.cost.cost < Nanos(2_000_000_000), "{}: {:?}", offline.status_message, offline.cost);
    called.store(false, Ordering::Relaxed);
    let ended = house.until(session.id, State::Stopped, HOUR).await;
    assert!(ended.end_reason == Some(EndReason::CostLimit) && ended.cost.high >= Nanos(2_000_000_000), "{ended:?}");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_hard_limit_ends_whatever_was_asked_for_unless_an_operator_moves_it() {
    let house = plan(Dialect::Tensordock).build().await;
    let (first_one, _) = running(&house, wanted(12 * HOUR)).await;
    let (second, _) = running(&house, wanted(12 * HOUR)).await;
    let longer = |by, override_hard_max| Command::Extend { by: Some(by), to: None, override_hard_max };
    assert_eq!(house.command(second.id, longer(HOUR, false)).await.unwrap_err().reason, "HARD_MAX_EXCEEDED");
    let nobody = gpu_shopper::services::api::Caller { admin: false, ..crate::support::caller() };
    let refused = house.core().lifecycle.command(nobody, second.id, longer(HOUR, true), None, false).await.unwrap_err();
    assert_eq!(refused.reason, "ROLE_REQUIRED", "only operators may");
    let moved = house.command(second.id, longer(HOUR, true)).await.unwrap();
    assert_eq!(moved.hard_max_at, second.hard_max_at + HOUR);
    let ended = house.until(first_one.id, State::Stopped, 13 * HOUR).await;
    assert_eq!(ended.end_reason, Some(EndReason::HardMax));
    let events = told(&house, first_one.id).await;
    assert_eq!(ending(&events).at, first_one.created_at + 12 * HOUR);
    assert!(first(&events, EventType::Expiring).at < ending(&events).at);
    let ended = house.until(second.id, State::Stopped, 2 * HOUR).await;
    assert_eq!((ended.end_reason, ending(&told(&house, second.id).await).at), (Some(EndReason::HardMax), second.created_at + 13 * HOUR));
    clean(house).await;
}

// === what the provider takes away ===

/// By which question it comes to light.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    List,
    Get,
}

/// What the provider does to a machine in use.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mishap {
    Outbid,
    Stopped,
    OutOfCredit,
    Offline,
    Vanished,
}

impl Mishap {
    fn happen(self, house: &House, native: &str) {
        let account = *house.accounts.values().next().unwrap();
        match self {
            Self::Outbid => assert!(house.market.preempt(native)),
            Self::Stopped => drop(house.market.stop(account, native).unwrap()),
            Self::OutOfCredit => house.market.set_credit(account, Some(Nanos::ZERO)),
            Self::Offline => assert!(house.market.set_offline(native, true)),
            Self::Vanished => assert!(house.market.vanish(native)),
        }
    }
}

/// Brings a mishap about and sees it to its end.
async fn suffer(dialect: Dialect, mishap: Mishap, by: By, known: (Truth, &[&str]), ends: EndReason) {
    let blind = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&blind);
    let wrap: Wrap = Arc::new(move |inner| Arc::new(Altered { blind: Arc::clone(&switch), ..Altered::of(inner) }));
    let mut house = plan(dialect).on_disk().wrapped(wrap).build().await;
    let mut wanted = wanted(4 * HOUR);
    if let (Mishap::Outbid, Target::Requirements { filter, .. }) = (mishap, &mut wanted.target) {
        filter.rental = Some(RentalKind::Interruptible);
    }
    let (session, native) = running(&house, wanted).await;
    house.pass(10 * MINUTE).await;
    match by {
        By::List => mishap.happen(&house, &native),
        By::Get => {
            // The server is away meanwhile, and finds no list when it comes back: it asks by id, within some minutes.
            blind.store(true, Ordering::Relaxed);
            house.die().await;
            mishap.happen(&house, &native);
            house.start(None).await;
        }
    }
    let what = format!("{mishap:?} at {dialect:?} by {by:?}");
    house.pass(if by == By::List { 34 * SECOND } else { 6 * MINUTE }).await;
    let events = told(&house, session.id).await;
    let (status, reasons) = known;
    let tells = |e: &&Event| condition(&e.session, ConditionType::InstancePresent).is_some_and(|(now, why)| now == status && reasons.contains(&why));
    let change = events.iter().find(tells).unwrap_or_else(|| panic!("{what}: not told of in {:?}", events.last()));
    assert_eq!(change.kind, EventType::ConditionChanged, "{what}");
    assert_eq!(change.to_state, State::Running, "{what}: one look ends nothing");
    if mishap == Mishap::Vanished && by == By::Get {
        house.pass(HOUR).await;
        assert_eq!(house.get(session.id).await.state, State::Running, "without lists there is no quorum");
        blind.store(false, Ordering::Relaxed);
    }
    let ended = house.until(session.id, State::Failed, 30 * MINUTE).await;
    assert_eq!(ended.end_reason, Some(ends), "{what}: {}", ended.status_message);
    assert!(ended.error.is_some(), "{what}");
    let events = told(&house, session.id).await;
    assert!(change.at < ending(&events).at, "{what}");
    if mishap == Mishap::OutOfCredit {
        house.market.set_credit(*house.accounts.values().next().unwrap(), None);
    }
    clean(house).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_provider_takes_is_told_at_once_and_believed_at_a_second_look() {
    use EndReason as E;
    const GONE: Truth = Truth::False;
    for by in [By::List, By::Get] {
        suffer(Dialect::Vastai, Mishap::Outbid, by, (GONE, &["outbid"]), E::Preempted).await;
        suffer(Dialect::Vastai, Mishap::OutOfCredit, by, (GONE, &["stopped_by_provider", "out_of_credit"]), E::ProviderCredit).await;
        suffer(Dialect::Vastai, Mishap::Offline, by, (Truth::Unknown, &["host_offline"]), E::HostLost).await;
        for dialect in Dialect::ALL {
            suffer(dialect, Mishap::Stopped, by, (GONE, &["stopped_by_provider"]), E::ProviderTerminated).await;
            suffer(dialect, Mishap::Vanished, by, (GONE, &["not_listed"]), E::HostLost).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_over_at_the_next_look_is_forgotten() {
    let house = plan(Dialect::Vastai).build().await;
    let (session, native) = running(&house, wanted(2 * HOUR)).await;
    let account = house.accounts[&Dialect::Vastai];
    house.market.stop(account, &native).unwrap();
    let deadline = house.now() + MINUTE;
    while condition(&*house.get(session.id).await, ConditionType::InstancePresent) != Some((Truth::False, "stopped_by_provider")) {
        assert!(house.now() < deadline);
        house.pass(SECOND).await;
    }
    house.market.start(account, &native).unwrap();
    house.pass(10 * MINUTE).await;
    let now = house.get(session.id).await;
    assert_eq!((now.state, condition(&now, ConditionType::InstancePresent)), (State::Running, Some((Truth::True, "running"))));
    assert_eq!(now.pace.stopped_at, None);
    house.command(session.id, Command::Complete { bad_machine: false }).await.unwrap();
    house.until(session.id, State::Stopped, 10 * MINUTE).await;
    clean(house).await;
}

/// Stopped right after create: one start call, three minutes, then the next offer.
#[tokio::test(start_paused = true)]
async fn a_newborn_that_stays_stopped_is_started_once_and_given_up() {
    let faults = Faults::gentle().with(Fault::StoppedAtCreate, ALWAYS).with(Fault::StartUnavailable, ALWAYS);
    let house = Plan { refresh: Some(6 * HOUR), ..Plan::new(5, faults) }.at(Dialect::Vastai).build().await;
    let mut wanted = wanted(HOUR);
    wanted.failover.max_attempts = 3;
    let id = house.create(wanted).await.unwrap().session.id;
    let ended = house.until(id, State::Failed, HOUR).await;
    assert_eq!(ended.end_reason, Some(EndReason::ProvisionFailed), "{}", ended.status_message);
    assert!(ended.attempts.iter().all(|a| a.failure == Some(AttemptFailure::InstanceStopped)), "{:?}", ended.attempts);
    for attempt in &ended.attempts {
        let took = attempt.ended_at.unwrap().since(attempt.started_at);
        assert!(took >= 3 * MINUTE && took < 4 * MINUTE, "{took:?}");
    }
    assert_eq!((ended.attempts.len(), house.life().calls().iter().filter(|call| **call == "start").count()), (3, 3));
    clean(house).await;
}

/// A provider that says this of every machine while the switch is on.
fn saying(switch: &Arc<AtomicBool>, status: InstanceStatus, raw: &'static str) -> Wrap {
    let switch = Arc::clone(switch);
    Arc::new(move |provider| {
        let on = Arc::clone(&switch);
        let told = move |machine: &mut Sighting| {
            if on.load(Ordering::Relaxed) {
                (machine.status, machine.raw_status) = (status, raw.to_owned());
            }
        };
        Arc::new(Altered { machine: Box::new(told), ..Altered::of(provider) })
    })
}

/// Vendors list what is gone for a while and say so: that is as good as not listing it.
#[tokio::test(start_paused = true)]
async fn a_machine_that_is_listed_as_gone_is_missing() {
    for dialect in Dialect::ALL {
        let over = Arc::default();
        let house = plan(dialect).wrapped(saying(&over, InstanceStatus::Gone, "terminated")).build().await;
        let (session, native) = running(&house, wanted(6 * HOUR)).await;
        over.store(true, Ordering::Relaxed);
        assert!(house.market.vanish(&native));
        house.pass(MINUTE).await;
        let noticed = house.get(session.id).await;
        assert_eq!(condition(&noticed, ConditionType::InstancePresent), Some((Truth::False, "not_listed")));
        let ended = house.until(session.id, State::Failed, 20 * MINUTE).await;
        assert_eq!(ended.end_reason, Some(EndReason::HostLost));
        clean(house).await;
    }
}

/// The provider calls a host offline for half an hour, and its machine lets its user in all the while: what the vendor says of it
/// is a condition, and ends nothing.
#[tokio::test(start_paused = true)]
async fn a_host_that_is_called_offline_and_answers_is_not_lost() {
    let called = Arc::default();
    let house = plan(Dialect::Vastai).wrapped(saying(&called, InstanceStatus::Offline, "offline")).build().await;
    let (session, _) = running(&house, wanted(6 * HOUR)).await;
    called.store(true, Ordering::Relaxed);
    house.pass(35 * MINUTE).await;
    let offline = house.get(session.id).await;
    assert_eq!((offline.state, house.alive().len()), (State::Running, 1), "{}", offline.status_message);
    assert_eq!(condition(&offline, ConditionType::InstancePresent), Some((Truth::Unknown, "host_offline")));
    // Nobody can look, and its user is let in no more: that may be our own trouble.
    house.market.set_faults(Faults::none().with(Fault::ListFails, ALWAYS).with(Fault::GetFails, ALWAYS));
    house.pass(6 * MINUTE).await;
    house.script.say().login = Some(ProbeFailure { kind: ProbeFailureKind::Unreachable, text: "no route to host".to_owned() });
    house.pass(40 * MINUTE).await;
    assert_eq!(house.get(session.id).await.state, State::Running);
    house.script.say().login = None;
    house.market.set_faults(Faults::none());
    house.pass(15 * MINUTE).await;
    assert_eq!(house.get(session.id).await.state, State::Running);
    // It says so again, and its user is let in no more: now both say so.
    house.script.say().login = Some(ProbeFailure { kind: ProbeFailureKind::Unreachable, text: "no route to host".to_owned() });
    let ended = house.until(session.id, State::Failed, 20 * MINUTE).await;
    assert_eq!(ended.end_reason, Some(EndReason::HostLost));
    // What it cost is the vendor's word against its bill: nothing is billed while a host is offline, it says.
    assert!(house.alive().is_empty(), "{:?}", house.alive());
    house.close().await;
}

/// However it comes to its expiry, its user hears of it first.
#[tokio::test(start_paused = true)]
async fn nothing_expires_without_a_word_before() {
    // Nobody was there to say so.
    let mut house = plan(Dialect::Vastai).on_disk().build().await;
    let (session, _) = running(&house, wanted(20 * MINUTE)).await;
    house.pass(2 * MINUTE).await;
    house.crash(HOUR).await;
    house.until(session.id, State::Stopped, 10 * MINUTE).await;
    let events = told(&house, session.id).await;
    assert!(first(&events, EventType::Expiring).revision < ending(&events).revision);
    clean(house).await;
    // It never ran.
    let faults = Faults::gentle().with_delay(gpu_shopper::sim::Delay::ImagePull, 10 * MINUTE);
    let house = Plan::new(5, faults).at(Dialect::Vastai).build().await;
    let id = house.create(wanted(MINUTE)).await.unwrap().session.id;
    let ended = house.until(id, State::Stopped, 20 * MINUTE).await;
    assert_eq!(ended.end_reason, Some(EndReason::Expired));
    let events = told(&house, id).await;
    assert!(first(&events, EventType::Expiring).revision < ending(&events).revision);
    clean(house).await;
}

/// Also while no machine is there yet; and again before its real end when the reservation counts anew from RUNNING.
#[tokio::test(start_paused = true)]
async fn what_never_ran_is_announced_a_quarter_of_an_hour_before_too() {
    for dialect in Dialect::ALL {
        let slow = match dialect {
            Dialect::Vastai => Faults::gentle().with_delay(gpu_shopper::sim::Delay::ImagePull, 25 * MINUTE),
            Dialect::Tensordock => Faults::gentle().with_delay(gpu_shopper::sim::Delay::Boot, 8 * MINUTE),
        };
        let house = Plan { refresh: Some(6 * HOUR), ..Plan::new(5, slow) }.at(dialect).build().await;
        let ids = [house.create(wanted(20 * MINUTE)).await.unwrap().session.id, house.create(wanted(6 * HOUR)).await.unwrap().session.id];
        let begun = house.get(ids[0]).await.created_at;
        house.pass(6 * MINUTE).await;
        assert_eq!(house.get(ids[0]).await.state, State::Provisioning);
        let announced = |events: &[Event]| events.iter().filter(|e| e.kind == EventType::Expiring).map(|e| e.at).collect::<Vec<_>>();
        assert_eq!(announced(&told(&house, ids[0]).await), [begun + 5 * MINUTE], "while it is {}", house.get(ids[0]).await.state);
        assert!(announced(&told(&house, ids[1]).await).is_empty(), "its end is far");
        let ended = house.reach(ids[0], Some(State::Running), HOUR).await;
        if dialect == Dialect::Vastai {
            assert_eq!((ended.end_reason, ended.running_at), (Some(EndReason::Expired), None));
            let events = told(&house, ids[0]).await;
            assert_eq!((announced(&events).len(), ending(&events).at), (1, begun + 20 * MINUTE));
        } else {
            // It runs after all: its end is another one now.
            let moved = ended.running_at.unwrap() + 20 * MINUTE;
            house.until(ids[0], State::Stopped, HOUR).await;
            assert_eq!(announced(&told(&house, ids[0]).await), [begun + 5 * MINUTE, moved - 15 * MINUTE]);
        }
        house.command(ids[1], Command::Destroy).await.unwrap();
        house.until(ids[1], State::Stopped, HOUR).await;
        clean(house).await;
    }
}

/// A second machine of the same attempt costs what it costs, and its row does not stand for the one in use.
#[tokio::test(start_paused = true)]
async fn a_cost_limit_is_that_of_the_machine_in_use_and_not_of_a_twin() {
    let house = plan(Dialect::Vastai).build().await;
    let (session, _) = running(&house, Request { reservation: HOUR, ..wanted(HOUR) }).await;
    let hourly = session.price.total().accrued(HOUR.as_millis() as i64);
    house.command(session.id, Command::Destroy).await.unwrap();
    house.until(session.id, State::Stopped, 20 * MINUTE).await;
    let limited = Request { max_total_cost: Some(Nanos(hourly.0 * 3)), ..wanted(HOUR) };
    let (session, _) = running(&house, limited).await;
    let label = house.store().instance_list(session.id).await.unwrap()[0].label;
    crate::sweep::planted(&house, Dialect::Vastai, &label.to_string()).await;
    house.pass(55 * MINUTE).await;
    let now = house.get(session.id).await;
    assert_eq!((now.state, now.end_reason), (State::Running, None), "{}", now.status_message);
    assert!(told(&house, session.id).await.iter().all(|e| e.kind != EventType::CostWarning));
    let ended = house.until(session.id, State::Stopped, HOUR).await;
    assert_eq!(ended.end_reason, Some(EndReason::Expired));
    house.close().await;
}

/// However many ask at once, the vendor is told once, and everybody hears the same.
#[tokio::test(start_paused = true)]
async fn a_hundred_destroys_at_once_are_one() {
    let destroys = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&destroys);
    let wrap: Wrap = Arc::new(move |provider| Arc::new(Altered { destroys: Arc::clone(&counted), ..Altered::of(provider) }));
    let house = plan(Dialect::Vastai).wrapped(wrap).build().await;
    let (session, _) = running(&house, wanted(HOUR)).await;
    let all = futures::future::join_all((0..100).map(|_| house.command(session.id, Command::Destroy))).await;
    assert!(all.iter().all(|done| done.as_ref().is_ok_and(|session| session.state == State::Stopping)));
    house.until(session.id, State::Stopped, 10 * MINUTE).await;
    assert_eq!(destroys.load(Ordering::Relaxed), 1);
    let events = told(&house, session.id).await;
    assert_eq!(events.iter().filter(|e| e.to_state == State::Stopping && e.from_state == State::Running).count(), 1);
    // Who ordered it is written down once.
    let audit = house.core().operator.audit(None, 200).await.unwrap();
    assert_eq!(audit.iter().filter(|(_, record)| record.action == "destroy_session").count(), 1, "{audit:?}");
    clean(house).await;
}
