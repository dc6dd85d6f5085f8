//! Every fault that the simulated market knows, one at a time and as the field mixes them: sessions end or run, nothing
//! is left alive, no attempt is launched twice, and the bill lies within what was accounted.

use crate::support::{Altered, House, Plan, Wrap, any, caller, request};
use gpu_shopper::domain::event::EventType;
use gpu_shopper::domain::ids::SessionId;
use gpu_shopper::domain::instance::{DestroyAnswer, Evidence, InstanceStatus, Sighting};
use gpu_shopper::domain::money::Rate;
use gpu_shopper::domain::offer::RentalKind;
use gpu_shopper::domain::policy::Policy;
use gpu_shopper::domain::session::{AttemptFailure, ConditionType, EndReason, Request, Session, State, Target, Truth};
use gpu_shopper::domain::time::Time;
use gpu_shopper::services::api::Command;
use gpu_shopper::sim::{ALWAYS, Credentials, Delay, Dialect, Fault, Faults};
use gpu_shopper::store::SessionQuery;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const HALF: u32 = ALWAYS / 2;

pub async fn house(dialect: Dialect, seed: u64, faults: Faults) -> House {
    Plan { refresh: Some(6 * HOUR), ..Plan::new(seed, faults) }.at(dialect).build().await
}

/// Rents on such a market, works for twenty minutes and is done. It never hangs, and nothing is wrong in the end.
async fn live_with(dialect: Dialect, seed: u64, faults: Faults) -> Arc<Session> {
    let house = house(dialect, seed, Faults::gentle()).await;
    // Nothing is launched before the first complete list.
    house.pass(10 * SECOND).await;
    house.market.set_faults(faults);
    let mut wanted = request(any(None));
    wanted.reservation = 4 * HOUR;
    let id = loop {
        // Where offers can't be fetched there is nothing to rent yet.
        match house.create(wanted.clone()).await {
            Ok(created) => break created.session.id,
            Err(error) => assert_eq!(error.reason, "NO_CAPACITY"),
        }
        house.pass(MINUTE).await;
    };
    let session = house.reach(id, Some(State::Running), 3 * HOUR).await;
    assert!(session.state.is_final() || session.state == State::Running, "{dialect:?}, seed {seed} hangs: {}", session.status_message);
    if session.state == State::Running {
        house.pass(20 * MINUTE).await;
        house.command(id, Command::Complete { bad_machine: false }).await.unwrap();
    }
    house.reach(id, None, 3 * HOUR).await;
    house.pass(HOUR).await;
    let wrong = house.audit().await;
    assert!(wrong.is_empty(), "{dialect:?}, seed {seed}: {wrong:#?}");
    house.get(id).await
}

/// Half of all machines, or of all calls, have it: whoever asks for any machine gets one all the same.
#[tokio::test(start_paused = true)]
async fn what_strikes_half_the_time_is_overcome() {
    let faults = [
        Fault::StaleAsk,
        Fault::NoPublicIp,
        Fault::TooManyRequests,
        Fault::ServerError,
        Fault::ReplyLost,
        Fault::CreateSlow,
        Fault::StoppedAtCreate,
        Fault::ImageStuck,
        Fault::BootFails,
        Fault::NoAddress,
        Fault::KeyNever,
        Fault::KeyLostOnce,
        Fault::GpuLies,
        Fault::DriverMissing,
        Fault::LateVisible,
        Fault::PriceRaised,
        Fault::AnswerAstray,
        Fault::OffersFail,
        Fault::ListFails,
        Fault::ListPartial,
        Fault::ListSlow,
        Fault::GetFails,
        Fault::DestroyRefused,
        Fault::DestroyIgnored,
        Fault::DestroyLostReply,
        Fault::DestroyComesBack,
    ];
    let mut failures = Vec::new();
    for dialect in Dialect::ALL {
        for fault in faults {
            for seed in 1..=3 {
                let session = live_with(dialect, seed, Faults::gentle().with(fault, HALF)).await;
                if session.end_reason != Some(EndReason::Completed) {
                    failures.push(format!("{dialect:?} {}, seed {seed}: {:?}: {}", fault.word(), session.end_reason, session.status_message));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Each launch is answered with the id of another machine on the account: a stranger's, or another session's. Nothing is done
/// to those, and ours is found by its label.
#[tokio::test(start_paused = true)]
async fn an_answer_that_names_another_machine_touches_nobody() {
    for dialect in Dialect::ALL {
        let house = house(dialect, 3, Faults::gentle()).await;
        house.pass(10 * SECOND).await;
        let account = house.market.first_account(dialect).unwrap();
        let stranger = house.market.plant(account, "x-not-yours").unwrap();
        house.market.set_faults(Faults::gentle().with(Fault::AnswerAstray, ALWAYS));
        let mut sessions = Vec::new();
        for _ in 0..3 {
            sessions.push(house.rent(None).await.session.id);
        }
        for id in &sessions {
            let session = house.reach(*id, Some(State::Running), 3 * HOUR).await;
            assert_eq!(session.state, State::Running, "{dialect:?}: {}", session.status_message);
        }
        let told = house.events().await.iter().filter(|e| e.message.contains("is not this one's")).count();
        assert!(told >= 1, "{dialect:?}: nobody was told that an answer was wrong");
        let machines = house.alive().len();
        assert_eq!(machines, sessions.len() + 1, "{dialect:?}: each session has one machine, and the stranger has theirs");
        for id in &sessions {
            house.command(*id, Command::Complete { bad_machine: false }).await.unwrap();
            house.reach(*id, None, 3 * HOUR).await;
        }
        house.pass(HOUR).await;
        let wrong = house.audit().await;
        assert!(wrong.is_empty(), "{dialect:?}: {wrong:#?}");
        assert!(house.market.alive().contains(&stranger), "{dialect:?}: the stranger's machine is gone");
        assert!(house.market.vanish(&stranger));
        house.close().await;
    }
}

/// Every machine or call has it, and it can be lived with.
#[tokio::test(start_paused = true)]
async fn what_always_strikes_and_can_be_lived_with() {
    let faults = [
        Fault::AnswerAstray,
        Fault::ReplyLost,
        Fault::CreateSlow,
        Fault::StoppedAtCreate,
        Fault::LateVisible,
        Fault::ListFails,
        Fault::ListPartial,
        Fault::ListSlow,
        Fault::DestroyRefused,
        Fault::DestroyLostReply,
    ];
    for dialect in Dialect::ALL {
        for fault in faults {
            let session = live_with(dialect, 2, Faults::gentle().with(fault, ALWAYS)).await;
            assert_eq!(session.end_reason, Some(EndReason::Completed), "{dialect:?} {}: {}", fault.word(), session.status_message);
        }
    }
}

/// Every machine has it, and nobody can work with it: the session ends soon, and says why.
#[tokio::test(start_paused = true)]
async fn what_always_strikes_and_is_the_end() {
    let faults = [
        (Fault::StaleAsk, EndReason::NoCapacity),
        (Fault::TooManyRequests, EndReason::NoCapacity),
        (Fault::ServerError, EndReason::NoCapacity),
        (Fault::ImageStuck, EndReason::ProvisionFailed),
        (Fault::BootFails, EndReason::ProvisionFailed),
        (Fault::NoAddress, EndReason::ProvisionFailed),
        (Fault::KeyNever, EndReason::VerifyFailed),
        (Fault::GpuLies, EndReason::VerifyFailed),
        (Fault::DriverMissing, EndReason::VerifyFailed),
        (Fault::PriceRaised, EndReason::PriceChanged),
        (Fault::Vanishes, EndReason::HostLost),
    ];
    let policy = Policy { price_slack: Rate::ZERO, ..Policy::default() };
    let mut failures = Vec::new();
    for dialect in Dialect::ALL {
        for (fault, reason) in faults {
            let plan = Plan { refresh: Some(6 * HOUR), policy: policy.clone(), ..Plan::new(2, Faults::gentle().with(fault, ALWAYS)) };
            let house = plan.at(dialect).build().await;
            let mut wanted = request(any(None));
            (wanted.reservation, wanted.failover.max_attempts) = (4 * HOUR, 3);
            let id = house.create(wanted).await.unwrap().session.id;
            let session = house.reach(id, None, 3 * HOUR).await;
            if (session.state, session.end_reason) != (State::Failed, Some(reason)) || session.error.is_none() {
                failures.push(format!("{dialect:?} {}: {} {:?}: {}", fault.word(), session.state, session.end_reason, session.status_message));
            }
            house.pass(HOUR).await;
            failures.extend(house.audit().await);
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// A session that runs, and its machine's id at the vendor.
pub async fn running(dialect: Dialect, target: Target) -> (House, Arc<Session>, String) {
    let house = house(dialect, 5, Faults::gentle()).await;
    let id = house.create(request(target)).await.unwrap().session.id;
    let session = house.until(id, State::Running, 10 * MINUTE).await;
    let native = house.alive().pop().unwrap();
    (house, session, native)
}

fn present(session: &Session) -> Option<Truth> {
    session.condition(ConditionType::InstancePresent).map(|c| c.status)
}

pub async fn clean(house: &House) {
    let wrong = house.audit().await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_vanishes_is_noticed_at_once_and_lost_when_it_is_sure() {
    for dialect in Dialect::ALL {
        let (house, session, native) = running(dialect, any(None)).await;
        house.pass(10 * MINUTE).await;
        assert!(house.market.vanish(&native));
        house.pass(35 * SECOND).await;
        let now = house.get(session.id).await;
        assert_eq!((now.state, present(&now)), (State::Running, Some(Truth::False)), "within one look");
        let ended = house.until(session.id, State::Failed, 10 * MINUTE).await;
        assert_eq!(ended.end_reason, Some(EndReason::HostLost));
        clean(&house).await;
    }
}

/// Complete lists that lack a machine prove nothing while it is found by its id, nor while nobody can look by its id. It
/// is lost when both say so, several times and apart, and what was seen of it last is kept with its time.
#[tokio::test(start_paused = true)]
async fn lists_alone_end_nothing_and_the_last_look_is_kept() {
    for dialect in Dialect::ALL {
        let (lacking, destroys) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (lacks, counted) = (Arc::clone(&lacking), Arc::clone(&destroys));
        let wrap: Wrap = Arc::new(move |provider| {
            let lacks = Arc::clone(&lacks);
            let listed = Box::new(move |machine: &mut Sighting| {
                if lacks.load(Ordering::Relaxed) {
                    (machine.native_id, machine.label) = ("another".to_owned(), None);
                }
            });
            Arc::new(Altered { listed, destroys: Arc::clone(&counted), ..Altered::of(provider) })
        });
        let mut house = Plan { refresh: Some(6 * HOUR), ..Plan::new(5, Faults::gentle()) }.at(dialect).on_disk().wrapped(wrap).build().await;
        let id = house.create(Request { reservation: 6 * HOUR, ..request(any(None)) }).await.unwrap().session.id;
        house.until(id, State::Running, 10 * MINUTE).await;
        let native = house.alive().pop().unwrap();
        lacking.store(true, Ordering::Relaxed);
        house.pass(HOUR).await;
        assert_eq!(house.get(id).await.state, State::Running, "it is found by its id");
        house.market.set_faults(Faults::gentle().with(Fault::GetFails, ALWAYS));
        house.pass(HOUR).await;
        assert_eq!((house.get(id).await.state, house.alive(), destroys.load(Ordering::Relaxed)), (State::Running, vec![native.clone()], 0));
        lacking.store(false, Ordering::Relaxed);
        house.market.set_faults(Faults::gentle());
        house.pass(5 * MINUTE).await;
        let back = house.get(id).await;
        assert_eq!(present(&back), Some(Truth::True));

        // Now it is gone indeed.
        let vanished = house.now();
        assert!(house.market.vanish(&native));
        let ended = house.until(id, State::Failed, 10 * MINUTE).await;
        let policy = Policy::default();
        let surely = policy.absence_spacing * u32::from(policy.absence_quorum - 1);
        assert!(ended.stopped_at.unwrap() >= vanished + surely, "{} after {vanished}", ended.stopped_at.unwrap());
        for _ in 0..2 {
            let row = house.store().instance_list(id).await.unwrap().pop().unwrap();
            let seen = row.seen.unwrap();
            assert!(seen.look.answered <= vanished && vanished.since(seen.look.answered) <= 35 * SECOND, "{} {vanished}", seen.look.answered);
            assert_eq!((seen.status, seen.raw.is_empty()), (InstanceStatus::Running, false), "in the vendor's words: {}", seen.raw);
            assert_eq!(row.settled.map(|s| s.evidence), Some(Evidence::Vanished));
            house.crash(MINUTE).await;
        }
        clean(&house).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_on_a_bid_can_be_outbid() {
    let Target::Requirements { mut filter, order } = any(None) else { unreachable!() };
    filter.rental = Some(RentalKind::Interruptible);
    let (house, session, native) = running(Dialect::Vastai, Target::Requirements { filter, order }).await;
    house.pass(10 * MINUTE).await;
    assert!(house.market.preempt(&native));
    let ended = house.until(session.id, State::Failed, 5 * MINUTE).await;
    assert_eq!(ended.end_reason, Some(EndReason::Preempted));
    clean(&house).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_offline_for_a_while_is_a_condition() {
    let (house, session, native) = running(Dialect::Vastai, any(None)).await;
    assert!(house.market.set_offline(&native, true));
    house.pass(MINUTE).await;
    let away = house.get(session.id).await;
    assert_eq!((away.state, present(&away)), (State::Running, Some(Truth::Unknown)));
    house.pass(5 * MINUTE).await;
    assert!(house.market.set_offline(&native, false));
    house.pass(MINUTE).await;
    let back = house.get(session.id).await;
    assert_eq!((back.state, present(&back)), (State::Running, Some(Truth::True)));
    assert_eq!(house.alive(), [native]);
    house.command(session.id, Command::Destroy).await.unwrap();
    house.until(session.id, State::Stopped, 5 * MINUTE).await;
    clean(&house).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_stays_offline_and_silent_is_lost() {
    let (house, session, native) = running(Dialect::Vastai, any(None)).await;
    assert!(house.market.set_offline(&native, true));
    let ended = house.until(session.id, State::Failed, 20 * MINUTE).await;
    assert_eq!(ended.end_reason, Some(EndReason::HostLost));
    clean(&house).await;
}

/// Called offline once, and then nobody can look: neither silence nor time says that it is lost before a look does.
#[tokio::test(start_paused = true)]
async fn while_nobody_can_look_no_host_is_lost() {
    for restarts in [false, true] {
        let (mut house, session, native) = running(Dialect::Vastai, any(None)).await;
        assert!(house.market.set_offline(&native, true));
        house.pass(2 * MINUTE).await;
        assert_eq!(present(&*house.get(session.id).await), Some(Truth::Unknown));
        house.market.set_faults(Faults::gentle().with(Fault::ListFails, ALWAYS).with(Fault::GetFails, ALWAYS));
        if restarts {
            house.crash(MINUTE).await;
        }
        house.pass(40 * MINUTE).await;
        assert_eq!(house.get(session.id).await.state, State::Running, "restarts: {restarts}");
        house.market.set_faults(Faults::gentle());
        let ended = house.until(session.id, State::Failed, 20 * MINUTE).await;
        assert_eq!(ended.end_reason, Some(EndReason::HostLost));
        clean(&house).await;
    }
}

/// The credentials are exchanged for those of another account: what isn't found there is not gone, a destroy that
/// doesn't find it has destroyed nothing. Back on its account everything goes on.
#[tokio::test(start_paused = true)]
async fn another_account_proves_nothing() {
    for dialect in Dialect::ALL {
        let mut house = Plan::new(5, Faults::gentle()).on_disk().at(dialect).build().await;
        let id = house.rent(None).await.session.id;
        house.until(id, State::Running, 10 * MINUTE).await;
        house.pass(5 * MINUTE).await;
        house.die().await;
        let own = house.accounts[&dialect];
        let other = house.market.add_account(dialect, Credentials::Key("f".repeat(64)), None);
        house.accounts.insert(dialect, other);
        house.start(None).await;
        house.pass(20 * MINUTE).await;
        let away = house.get(id).await;
        assert_eq!((away.state, house.alive().len()), (State::Running, 1));
        let reachable = away.condition(ConditionType::ProviderReachable).unwrap();
        assert_eq!((reachable.status, reachable.reason.as_str()), (Truth::Unknown, "other_account"));
        house.command(id, Command::Destroy).await.unwrap();
        house.pass(20 * MINUTE).await;
        assert_eq!((house.get(id).await.state, house.alive().len()), (State::Stopping, 1));
        let owed = house.core().operator.unconfirmed_destroys().await.unwrap();
        assert!(owed[0].instance.destroy.last_error.as_ref().is_some_and(|e| e.contains("its account is ")));
        house.die().await;
        house.accounts.insert(dialect, own);
        house.start(None).await;
        house.until(id, State::Stopped, 10 * MINUTE).await;
        clean(&house).await;
    }
}

/// Lists that fail say nothing about machines, and that is said; nothing ends over it.
#[tokio::test(start_paused = true)]
async fn a_provider_that_can_not_be_asked_is_a_condition() {
    for dialect in Dialect::ALL {
        let (house, session, _) = running(dialect, any(None)).await;
        let reachable = |s: &Arc<Session>| s.condition(ConditionType::ProviderReachable).map(|c| (c.status, c.reason.clone()));
        house.pass(MINUTE).await;
        assert_eq!(reachable(&house.get(session.id).await).map(|c| c.0), Some(Truth::True));
        house.market.set_faults(Faults::gentle().with(Fault::ListFails, ALWAYS));
        house.pass(3 * MINUTE).await;
        let away = house.get(session.id).await;
        assert_eq!((away.state, reachable(&away).map(|c| c.0)), (State::Running, Some(Truth::Unknown)));
        assert_eq!(reachable(&away).map(|c| c.1.to_string()).as_deref(), Some("list_failed"));
        house.market.set_faults(Faults::gentle());
        house.pass(2 * MINUTE).await;
        assert_eq!(reachable(&house.get(session.id).await).map(|c| c.0), Some(Truth::True));
        house.command(session.id, Command::Destroy).await.unwrap();
        house.until(session.id, State::Stopped, 5 * MINUTE).await;
        clean(&house).await;
    }
}

/// A running machine becomes dearer: an event, a condition and a bill that holds; never its end. Where lists tell no
/// prices it takes longer to notice, and the doubt is in the bounds.
#[tokio::test(start_paused = true)]
async fn a_running_machine_that_becomes_dearer_is_told_and_kept() {
    for dialect in Dialect::ALL {
        let (house, session, native) = running(dialect, any(None)).await;
        house.pass(7 * MINUTE).await;
        assert!(house.market.reprice(&native, 300));
        let mut surely = gpu_shopper::domain::money::Nanos::ZERO;
        for _ in 0..40 {
            house.pass(MINUTE).await;
            let cost = house.core().costs.session(&caller(), session.id).await.unwrap().total.cost;
            assert!(cost >= surely, "{dialect:?}: what is owed was {surely} and is {cost}");
            surely = cost;
        }
        let now = house.get(session.id).await;
        assert_eq!(now.state, State::Running);
        assert_eq!(now.condition(ConditionType::PriceOk).map(|c| c.status), Some(Truth::False), "{dialect:?} {:?} {:?}", session.price, now.price);
        assert!(now.price.total() > session.price.total());
        let kinds: Vec<EventType> = house.events().await.iter().map(|e| e.kind).collect();
        assert_eq!(kinds.iter().filter(|k| **k == EventType::PriceChanged).count(), 1, "{kinds:?}");
        house.command(session.id, Command::Complete { bad_machine: false }).await.unwrap();
        house.until(session.id, State::Stopped, 5 * MINUTE).await;
        clean(&house).await;
    }
}

/// A machine that becomes cheaper: what is surely owed is the lower price, since the last look that told the higher one.
#[tokio::test(start_paused = true)]
async fn a_running_machine_that_becomes_cheaper_is_billed_so() {
    for dialect in Dialect::ALL {
        let (house, session, native) = running(dialect, any(None)).await;
        house.pass(7 * MINUTE).await;
        assert!(house.market.reprice(&native, 50));
        house.pass(40 * MINUTE).await;
        assert!(house.get(session.id).await.price.total() < session.price.total());
        house.command(session.id, Command::Complete { bad_machine: false }).await.unwrap();
        house.until(session.id, State::Stopped, 5 * MINUTE).await;
        let (cost, bill) = (house.core().costs.session(&caller(), session.id).await.unwrap().total, house.bill(session.id));
        assert!(cost.low <= bill && bill <= cost.high && cost.cost.0 > bill.0 * 3 / 4, "{dialect:?}: {cost:?} {bill}");
        clean(&house).await;
    }
}

/// Hosts lose contact at their own time and for their own while: the session goes on, or is lost; the bill holds.
#[tokio::test(start_paused = true)]
async fn hosts_that_come_and_go_do_not_spoil_the_bill() {
    for dialect in Dialect::ALL {
        for seed in 1..=8 {
            let session = live_with(dialect, seed, Faults::gentle().with(Fault::HostOffline, ALWAYS)).await;
            assert!(matches!(session.end_reason, Some(EndReason::Completed | EndReason::HostLost)), "{:?}", session.end_reason);
        }
    }
}

/// What nobody saw because the service was down is doubt in the bill, not certainty.
#[tokio::test(start_paused = true)]
async fn what_happened_while_we_were_away_is_within_the_bounds() {
    for dialect in Dialect::ALL {
        // It is off for a while and on again.
        let mut house = Plan::new(5, Faults::gentle()).on_disk().at(dialect).build().await;
        let id = house.rent(None).await.session.id;
        house.until(id, State::Running, 10 * MINUTE).await;
        let native = house.alive().pop().unwrap();
        house.pass(5 * MINUTE).await;
        house.die().await;
        house.pass(3 * MINUTE).await;
        house.market.set_offline(&native, true);
        house.pass(7 * MINUTE).await;
        house.market.set_offline(&native, false);
        house.pass(3 * MINUTE).await;
        house.start(None).await;
        house.pass(5 * MINUTE).await;
        assert_eq!(house.get(id).await.state, State::Running);
        house.command(id, Command::Complete { bad_machine: false }).await.unwrap();
        house.until(id, State::Stopped, 10 * MINUTE).await;
        clean(&house).await;
        // On before and on after: it is charged as if it had run, and said to be unsure.
        let whole = house.core().costs.session(&caller(), id).await.unwrap().total;
        let (bill, online_only) = (house.bill(id), dialect == Dialect::Vastai);
        assert!(bill <= whole.cost && whole.cost <= whole.high && (whole.low < bill) == online_only, "{whole:?} {bill}");

        // It comes up and vanishes.
        for wait in [300, 800, 2_000] {
            let mut house = Plan::new(5, Faults::gentle()).on_disk().at(dialect).build().await;
            let id = house.rent(None).await.session.id;
            house.pass(Duration::from_millis(wait)).await;
            let native = house.alive().pop().unwrap();
            house.die().await;
            house.pass(7 * MINUTE).await;
            assert!(house.market.vanish(&native));
            house.pass(7 * MINUTE).await;
            house.start(None).await;
            house.reach(id, None, 3 * HOUR).await;
            house.pass(HOUR).await;
            clean(&house).await;
        }
    }
}

/// Not found twice and yet there: the verdict was wrong, and what comes late is destroyed all the same.
#[tokio::test(start_paused = true)]
async fn what_comes_back_after_the_end_is_destroyed_and_paid() {
    for dialect in Dialect::ALL {
        let faults = Faults::gentle().with(Fault::DestroyComesBack, ALWAYS).with_delay(Delay::Invisible, 40 * SECOND);
        let house = house(dialect, 5, faults).await;
        let id = house.rent(None).await.session.id;
        house.until(id, State::Running, 10 * MINUTE).await;
        house.command(id, Command::Complete { bad_machine: false }).await.unwrap();
        let early = house.until(id, State::Stopped, 5 * MINUTE).await;
        assert_eq!(house.alive().len(), 1, "it only seemed to be gone");
        house.market.set_faults(Faults::gentle());
        house.pass(10 * MINUTE).await;
        let late = house.get(id).await;
        assert!(late.cost_final && late.cost.cost > early.cost.cost, "{:?} {:?}", early.cost, late.cost);
        let kinds: Vec<EventType> = house.events().await.iter().map(|e| e.kind).collect();
        assert!(kinds.ends_with(&[EventType::LatecomerDestroyed, EventType::CostAmended]), "{kinds:?}");
        let cost = house.core().costs.session(&caller(), id).await.unwrap().total;
        let bill = house.bill(id);
        assert!(cost.low <= bill && bill <= cost.high, "{cost:?} {bill}");
        house.close().await;
    }
}

/// The vendor refuses for an hour, and its lists are broken meanwhile: the debt stays, and the bill goes on.
#[tokio::test(start_paused = true)]
async fn a_destroy_is_wanted_until_it_is_done() {
    for dialect in Dialect::ALL {
        let stubborn = Faults::gentle().with(Fault::DestroyRefused, ALWAYS).with_delay(Delay::Undeletable, 2 * HOUR);
        let house = house(dialect, 5, stubborn.clone()).await;
        let id = house.rent(None).await.session.id;
        house.until(id, State::Running, 10 * MINUTE).await;
        house.market.set_faults(stubborn.with(Fault::ListFails, HALF));
        house.command(id, Command::Destroy).await.unwrap();
        house.pass(HOUR).await;
        let waiting = house.get(id).await;
        assert_eq!((waiting.state, house.alive().len()), (State::Stopping, 1));
        let owed = house.core().operator.unconfirmed_destroys().await.unwrap();
        assert_eq!(owed.len(), 1);
        assert!(owed[0].instance.destroy.tries > 5 && owed[0].instance.destroy.last_error.is_some(), "{:?}", owed[0].instance.destroy);
        house.until(id, State::Stopped, 2 * HOUR).await;
        clean(&house).await;
    }
}

/// The vendor answers no destroy of a machine that is no more: lists that lack it, several times and apart, and its id say so.
#[tokio::test(start_paused = true)]
async fn a_machine_that_is_no_more_is_settled_though_no_destroy_is_answered() {
    for dialect in Dialect::ALL {
        let mute = Arc::new(AtomicBool::new(true));
        let switch = Arc::clone(&mute);
        let wrap: Wrap = Arc::new(move |provider| Arc::new(Altered { destroy_fails: Arc::clone(&switch), ..Altered::of(provider) }));
        let house = Plan::new(5, Faults::gentle()).at(dialect).wrapped(wrap).build().await;
        let id = house.rent(None).await.session.id;
        house.until(id, State::Running, 10 * MINUTE).await;
        let native = house.alive().pop().unwrap();
        house.command(id, Command::Destroy).await.unwrap();
        house.pass(HOUR).await;
        assert_eq!((house.get(id).await.state, house.alive()), (State::Stopping, vec![native.clone()]), "it is there");
        assert!(house.market.vanish(&native));
        house.until(id, State::Stopped, 10 * MINUTE).await;
        let evidence = async |id| house.store().instance_list(id).await.unwrap().remove(0).settled.map(|s| s.evidence);
        assert_eq!(evidence(id).await, Some(Evidence::Vanished));
        // It is wanted until the moment in which its lists lack it often enough, and the look that this asks for fails.
        let id = house.rent(None).await.session.id;
        house.until(id, State::Running, 10 * MINUTE).await;
        assert!(house.market.vanish(&house.alive()[0]));
        house.market.set_faults(Faults::gentle().with(Fault::GetFails, ALWAYS));
        house.pass(5 * MINUTE).await;
        assert_eq!(house.get(id).await.state, State::Running, "nobody can look");
        house.command(id, Command::Destroy).await.unwrap();
        house.pass(SECOND).await;
        house.market.set_faults(Faults::gentle());
        house.until(id, State::Stopped, 10 * MINUTE).await;
        assert_eq!(evidence(id).await, Some(Evidence::Vanished));
        assert!(mute.load(Ordering::Relaxed));
        clean(&house).await;
    }
}

/// A look that panics, by a mistake of this program, is told of; the next one comes all the same.
#[tokio::test(start_paused = true)]
async fn a_look_that_panics_is_not_the_last_one() {
    let mistaken = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&mistaken);
    let wrap: Wrap = Arc::new(move |provider| {
        let switch = Arc::clone(&switch);
        let listed = Box::new(move |_: &mut Sighting| assert!(!switch.load(Ordering::Relaxed), "a mistake that was made for this test"));
        Arc::new(Altered { listed, ..Altered::of(provider) })
    });
    let house = Plan::new(5, Faults::gentle()).at(Dialect::Vastai).wrapped(wrap).build().await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    let said = || house.core().outlook.borrow().values().next().unwrap().list_error.clone();
    mistaken.store(true, Ordering::Relaxed);
    house.pass(5 * MINUTE).await;
    assert!(said().unwrap().contains("our own look broke"));
    let reachable = house.get(id).await.condition(ConditionType::ProviderReachable).map(|c| c.status);
    assert_eq!(reachable, Some(Truth::Unknown), "its session is told");
    mistaken.store(false, Ordering::Relaxed);
    house.pass(MINUTE).await;
    assert_eq!((said(), house.get(id).await.state), (None, State::Running));
    assert!(house.market.vanish(&house.alive()[0]));
    house.until(id, State::Failed, 10 * MINUTE).await;
    clean(&house).await;
}

/// A destroy that is refused is ordered again after waits that double up to their cap, each a fifth longer or shorter by chance.
#[tokio::test(start_paused = true)]
async fn the_waits_between_destroys_double_up_to_a_cap_and_are_spread() {
    let destroys = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&destroys);
    let wrap: Wrap = Arc::new(move |provider| {
        let refused = |answer: &mut DestroyAnswer| *answer = DestroyAnswer::Refused { until: None, text: "not today".to_owned() };
        Arc::new(Altered { destroys: Arc::clone(&counted), destroyed: Box::new(refused), ..Altered::of(provider) })
    });
    // It is not gone either: what was refused was not done.
    let faults = Faults::gentle().with(Fault::DestroyIgnored, ALWAYS);
    let house = Plan { refresh: Some(6 * HOUR), ..Plan::new(5, faults) }.at(Dialect::Vastai).wrapped(wrap).build().await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    house.command(id, Command::Destroy).await.unwrap();
    let (begun, mut at) = (house.now(), Vec::new());
    while at.len() < 24 {
        house.pass(SECOND / 4).await;
        if destroys.load(Ordering::Relaxed) > at.len() {
            at.push(house.now().since(begun).as_secs_f64());
        }
        assert!(house.now().since(begun) < 4 * HOUR, "{at:?}");
    }
    let policy = Policy::default();
    let cap = policy.destroy_backoff_max.as_secs_f64();
    let waits: Vec<f64> = at.windows(2).map(|two| two[1] - two[0]).collect();
    for (tries, wait) in waits.iter().enumerate() {
        let usual = (policy.destroy_backoff.as_secs_f64() * 2_f64.powi(i32::try_from(tries).unwrap())).min(cap);
        assert!((usual * 0.8 - 1.0..=usual * 1.2 + 1.0).contains(wait), "wait {tries} is {wait}, and {usual} is usual: {waits:?}");
    }
    let capped = &waits[8..];
    let spread = |far: f64| capped.iter().any(|wait| if far < 1.0 { *wait < cap * far } else { *wait > cap * far });
    assert!(spread(0.95) && spread(1.05), "{capped:?}");
}

#[tokio::test(start_paused = true)]
async fn two_deployments_on_one_account_leave_each_other_alone() {
    let mut first = Plan::new(9, Faults::gentle()).on_disk().build().await;
    let plan = Plan { deployment: "another-house".to_owned(), ..Plan::new(10, Faults::gentle()) };
    let second = plan.build_on(Arc::clone(&first.market), first.accounts.clone(), first.clock.clone()).await;
    let mut ids = Vec::new();
    for provider in ["vastai", "tensordock"] {
        let (a, b) = (first.rent(Some(provider)).await.session.id, second.rent(Some(provider)).await.session.id);
        first.until(a, State::Running, 10 * MINUTE).await;
        second.until(b, State::Running, 10 * MINUTE).await;
        ids.push((a, b));
    }
    first.crash(2 * MINUTE).await;
    first.pass(20 * MINUTE).await;
    assert_eq!(first.alive().len(), 4);
    for (a, b) in &ids {
        first.command(*a, Command::Destroy).await.unwrap();
        first.until(*a, State::Stopped, 10 * MINUTE).await;
        assert_eq!(second.get(*b).await.state, State::Running);
    }
    clean(&first).await;
    first.pass(10 * MINUTE).await;
    assert_eq!(second.alive().len(), 2, "the other's machines live");
    for (_, b) in &ids {
        second.command(*b, Command::Destroy).await.unwrap();
        second.until(*b, State::Stopped, 10 * MINUTE).await;
    }
    clean(&second).await;
}

/// A pull of an image has its half hour from when something last moved, and an attempt three quarters in all.
#[tokio::test(start_paused = true)]
async fn a_stage_has_its_time_from_the_last_progress_and_an_attempt_its_own() {
    for (moves, reason, took) in [
        (0, AttemptFailure::StageTimeout, 30 * MINUTE),
        (10, AttemptFailure::StageTimeout, 40 * MINUTE),
        (60, AttemptFailure::AttemptTimeout, 45 * MINUTE),
    ] {
        let layers = Arc::new(AtomicUsize::new(0));
        let told = Arc::clone(&layers);
        let wrap: Wrap = Arc::new(move |provider| {
            let told = Arc::clone(&told);
            let machine = Box::new(move |sighting: &mut Sighting| {
                sighting.status = InstanceStatus::Starting;
                sighting.progress = Some(format!("layer {}", told.load(Ordering::SeqCst)));
            });
            Arc::new(Altered { machine, ..Altered::of(provider) })
        });
        let house = Plan::new(62, Faults::gentle()).at(Dialect::Vastai).wrapped(wrap).build().await;
        let mut wanted = request(any(None));
        (wanted.reservation, wanted.failover.max_attempts) = (4 * HOUR, 1);
        let id = house.create(wanted).await.unwrap().session.id;
        for _ in 0..moves {
            house.pass(MINUTE).await;
            layers.fetch_add(1, Ordering::SeqCst);
        }
        house.reach(id, Some(State::Failed), HOUR).await;
        let ended = house.get(id).await;
        let attempt = &ended.attempts[0];
        let lasted = attempt.ended_at.unwrap().since(attempt.started_at);
        assert_eq!((attempt.failure, ended.attempts.len()), (Some(reason), 1), "{moves}: {}", attempt.text);
        assert!(lasted >= took && lasted < took + MINUTE, "{moves}: {lasted:?}");
    }
}

/// A day of the field: forty sessions, as launches in the field went.
async fn day(seed: u64, sessions: u64, crashes: usize) -> (House, BTreeMap<&'static str, usize>) {
    let mut house = Plan { refresh: Some(30 * MINUTE), ..Plan::new(seed, Faults::field_mix()).on_disk() }.build().await;
    let mut dice = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let begin = house.now();
    let every = 24 * HOUR / u32::try_from(sessions).unwrap();
    let mut done: BTreeMap<SessionId, Time> = BTreeMap::new();
    let mut next_crash = 1;
    for number in 0..=u32::try_from(sessions).unwrap() + 6 {
        if crashes > 0 && u64::from(number) * (crashes as u64 + 1) >= sessions * next_crash {
            next_crash += 1;
            house.crash(Duration::from_secs(dice.random_range(0..1_200))).await;
        }
        if u64::from(number) < sessions {
            let id = house.rent(None).await.session.id;
            done.insert(id, house.now() + Duration::from_secs(dice.random_range(1_200..3_000)));
        }
        house.clock.sleep_until(begin + every * (number + 1)).await;
        let now = house.now();
        for (id, _) in done.iter().filter(|(_, at)| **at <= now) {
            house.command(*id, Command::Complete { bad_machine: false }).await.unwrap();
        }
        done.retain(|_, at| *at > now);
    }
    house.pass(6 * HOUR).await;
    let mut ends: BTreeMap<&'static str, usize> = BTreeMap::new();
    for session in house.store().session_list(SessionQuery::default(), |_, _| None).await.unwrap() {
        *ends.entry(session.end_reason.map_or("open", |r| r.word())).or_default() += 1;
        *ends.entry("had a machine").or_default() += usize::from(session.running_at.is_some());
    }
    (house, ends)
}

#[tokio::test(start_paused = true)]
async fn a_day_of_the_field() {
    let (house, ends) = day(1, 40, 3).await;
    let machines = house.market.truth().len();
    let launches = house.witness.launches().len();
    println!("40 sessions, 3 crashes: {launches} launches, {machines} machines, ends {ends:?}");
    clean(&house).await;
    assert!(ends.get("had a machine").is_some_and(|n| *n >= 36), "{ends:?}");
}

/// One seed is one run, to the word.
#[tokio::test(start_paused = true)]
async fn a_seed_replays() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let (house, ends) = day(4, 8, 1).await;
        let told: Vec<_> =
            house.events().await.into_iter().map(|e| (e.revision, e.session_id, e.sequence, e.kind, e.at, e.message, e.cost)).collect();
        let truth: Vec<String> = house.market.truth().iter().map(|t| format!("{t:?}")).collect();
        runs.push((ends, told, truth));
    }
    assert!(runs[0].1.len() > 50);
    for (a, b) in runs[0].1.iter().zip(&runs[1].1) {
        assert_eq!(a, b);
    }
    assert!(runs[0] == runs[1]);
}
