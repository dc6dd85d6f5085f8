//! Whose account: what is not found with credentials of another one, or of nobody knows whom, is not gone; and a machine is
//! destroyed where it is. What an account is refused for closes its provider, is told, and lasts no longer than it is true.

use crate::faults::{clean, house, running};
use crate::support::{Altered, House, Plan, Wrap, any, caller, exactly, request};
use crate::sweep::planted;
use gpu_shopper::app::tag_of;
use gpu_shopper::domain::event::EventType;
use gpu_shopper::domain::ids::{Label, ProviderId, SessionId};
use gpu_shopper::domain::lifecycle::Fate;
use gpu_shopper::domain::money::Nanos;
use gpu_shopper::domain::session::{EndReason, State};
use gpu_shopper::services::api::Command;
use gpu_shopper::services::error::Code;
use gpu_shopper::services::lifecycle::Order;
use gpu_shopper::sim::{ALWAYS, Dialect, Fault, Faults};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A provider whose credentials open a stranger's account while the switch is on.
fn with_switch(stranger: &Arc<AtomicBool>, account_takes: Duration, look_takes: Duration) -> Wrap {
    let astray = Arc::clone(stranger);
    Arc::new(move |provider| {
        let (astray, stranger) = (Arc::clone(&astray), Some("stranger".to_owned()));
        Arc::new(Altered { astray, stranger, account_takes, look_takes, ..Altered::of(provider) })
    })
}

async fn still_runs(house: &House, id: SessionId) {
    assert_eq!((house.get(id).await.state, house.alive().len()), (State::Running, 1));
}

async fn ends(house: &House, id: SessionId) {
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 20 * MINUTE).await;
    let wrong = house.audit().await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(house.alive().is_empty());
}

/// At a start looks by id go out beside the question whose account it is, and may be answered first.
#[tokio::test(start_paused = true)]
async fn a_look_that_is_faster_than_the_account_does_not_make_a_machine_nobodys() {
    for dialect in Dialect::ALL {
        let stranger = Arc::new(AtomicBool::new(false));
        let wrap = with_switch(&stranger, 2 * SECOND, Duration::ZERO);
        let mut house = Plan::new(90, Faults::gentle()).on_disk().at(dialect).wrapped(wrap).build().await;
        let id = house.rent(None).await.session.id;
        house.until(id, State::Running, 10 * MINUTE).await;
        house.crash(SECOND).await;
        stranger.store(true, Ordering::Relaxed);
        house.crash(SECOND).await;
        house.pass(15 * MINUTE).await;
        still_runs(&house, id).await;
        stranger.store(false, Ordering::Relaxed);
        house.crash(SECOND).await;
        ends(&house, id).await;
    }
}

/// A call under way goes on with the credentials that it began with.
#[tokio::test(start_paused = true)]
async fn an_answer_to_the_credentials_before_says_nothing_of_those_of_now() {
    for dialect in Dialect::ALL {
        let stranger = Arc::new(AtomicBool::new(false));
        let wrap = with_switch(&stranger, Duration::ZERO, 8 * SECOND);
        let mut house = Plan::new(91, Faults::gentle()).on_disk().at(dialect).wrapped(wrap).build().await;
        let id = house.rent(None).await.session.id;
        house.until(id, State::Running, 10 * MINUTE).await;
        let provider = ProviderId::new(dialect.word());
        // Each time with looks by id under way: there, and back again.
        for other in [true, false] {
            house.crash(SECOND).await;
            house.pass(3 * SECOND).await;
            house.core().operator.renew(&provider, || stranger.store(other, Ordering::Relaxed)).await.unwrap();
            house.pass(15 * MINUTE).await;
            still_runs(&house, id).await;
        }
        ends(&house, id).await;
    }
}

/// Where nobody tells whose an account is, other credentials are another account, until they show a machine of ours. Then what is
/// owed there can be proven gone as well.
#[tokio::test(start_paused = true)]
async fn changed_credentials_that_show_a_machine_of_ours_are_of_the_same_account() {
    let renamed = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&renamed);
    let wrap: Wrap = Arc::new(move |provider| Arc::new(Altered { renamed: Arc::clone(&switch), ..Altered::of(provider) }));
    let mut house = Plan::new(93, Faults::gentle()).on_disk().at(Dialect::Tensordock).wrapped(wrap).build().await;
    let (kept, gone) = (house.rent(None).await.session.id, house.rent(None).await.session.id);
    for id in [kept, gone] {
        house.until(id, State::Running, 10 * MINUTE).await;
    }
    // Its machine is destroyed, and before anybody has looked the credentials are others.
    house.market.set_faults(Faults::gentle().with(Fault::GetFails, ALWAYS).with(Fault::ListFails, ALWAYS));
    house.command(gone, Command::Destroy).await.unwrap();
    house.pass(MINUTE).await;
    house.die().await;
    assert_eq!(house.alive().len(), 1);
    renamed.store(true, Ordering::Relaxed);
    house.market.set_faults(Faults::gentle());
    house.start(None).await;
    house.until(gone, State::Stopped, 20 * MINUTE).await;
    still_runs(&house, kept).await;
    ends(&house, kept).await;
}

/// A restored database may know a session and not the attempt of it that came later, at another provider.
#[tokio::test(start_paused = true)]
async fn a_forgotten_attempt_is_destroyed_where_it_is() {
    let house = Plan::new(92, Faults::gentle()).build().await;
    let id = house.rent(Some("tensordock")).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    let label = Label { attempt: 2, session: id, tag: tag_of(&house.deployment) };
    let forgotten = planted(&house, Dialect::Vastai, &label.to_string()).await;
    house.pass(5 * MINUTE).await;
    let order = Order::Stray { provider: ProviderId::new("vastai"), native_id: forgotten.clone(), fate: Fate::Destroy };
    house.core().operator.order(caller(), order).await.unwrap();
    house.pass(5 * MINUTE).await;
    assert!(!house.alive().iter().any(|machine| machine.contains(&forgotten)), "{:?}", house.alive());
    still_runs(&house, id).await;
    ends(&house, id).await;
}

/// What may have been launched on an account whose credentials are no longer there can't be proven never to have been: the
/// session says so, and an operator's word ends it.
#[tokio::test(start_paused = true)]
async fn a_launch_on_an_account_that_is_gone_waits_for_an_operator() {
    // Ended at once, or when another attempt has long worked.
    for (dialect, late) in Dialect::ALL.into_iter().flat_map(|dialect| [(dialect, false), (dialect, true)]) {
        let stranger = Arc::new(AtomicBool::new(false));
        let wrap = with_switch(&stranger, Duration::ZERO, Duration::ZERO);
        let house = Plan::new(93, Faults::gentle()).at(dialect).wrapped(wrap).build().await;
        let provider = ProviderId::new(dialect.word());
        let renewed = async |other| {
            house.core().operator.renew(&provider, || stranger.store(other, Ordering::Relaxed)).await.unwrap();
            house.pass(MINUTE).await;
        };
        renewed(true).await;
        let id = house.rent(None).await.session.id;
        house.pass(5 * SECOND).await;
        renewed(false).await;
        if late {
            house.until(id, State::Running, 120 * MINUTE).await;
        }
        house.command(id, Command::Destroy).await.unwrap();
        house.pass(30 * MINUTE).await;
        assert!(house.alive().is_empty());
        let waits = house.get(id).await;
        assert_eq!(waits.state, State::Stopping);
        let error = waits.error.clone().unwrap_or_default();
        assert!(error.contains("whether attempt 1 left a machine behind can't be seen: its account is stranger"), "{error}");
        let told = house.events().await.iter().filter(|event| event.message == error).count();
        assert_eq!(told, 1, "{error}");
        let owed = house.core().operator.unconfirmed_destroys().await.unwrap();
        assert!(owed[0].instance.destroy.last_error.as_ref().is_some_and(|text| error.contains(text.as_str())), "{owed:?}");
        let settle = Order::Settle { label: owed[0].instance.label, reason: "that account is closed".to_owned() };
        house.core().operator.order(caller(), settle).await.unwrap();
        let over = house.until(id, State::Stopped, MINUTE).await;
        assert_eq!(over.error, None);
        let wrong = house.audit().await;
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_close_a_provider_until_they_work() {
    for dialect in Dialect::ALL {
        let (house, session, _) = running(dialect, any(None)).await;
        let offer =
            house.core().inventory.snapshot().offers.iter().find(|o| session.offer().is_none_or(|s| s.machine != o.machine)).unwrap().id.clone();
        let account = house.accounts[&dialect];
        house.market.set_valid(account, false);
        house.pass(10 * MINUTE).await;
        let refused = house.create(request(exactly(&offer))).await.unwrap_err();
        assert_eq!((refused.code, refused.reason), (Code::FailedPrecondition, "PROVIDER_AUTH"));
        let anywhere = house.create(request(any(None))).await.unwrap_err();
        assert_eq!((anywhere.code, anywhere.reason), (Code::FailedPrecondition, "PROVIDER_AUTH"));
        assert!(anywhere.message.contains("Provider authentication failed"), "{}", anywhere.message);
        // Nothing is learnt about machines meanwhile, and nothing is concluded.
        assert_eq!(house.get(session.id).await.state, State::Running);
        house.command(session.id, Command::Destroy).await.unwrap();
        house.pass(10 * MINUTE).await;
        assert_eq!(house.get(session.id).await.state, State::Stopping);
        house.market.set_valid(account, true);
        house.until(session.id, State::Stopped, 10 * MINUTE).await;
        house.rent(None).await;
        house.pass(2 * HOUR).await;
        clean(&house).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_out_of_credit_ends_what_ran_on_it_and_takes_nothing_new() {
    let (house, session, _) = running(Dialect::Vastai, any(None)).await;
    house.pass(10 * MINUTE).await;
    house.market.set_credit(house.accounts[&Dialect::Vastai], Some(Nanos::ZERO));
    let ended = house.until(session.id, State::Failed, 15 * MINUTE).await;
    assert_eq!(ended.end_reason, Some(EndReason::ProviderCredit));
    house.pass(10 * MINUTE).await;
    let offer = house.core().inventory.snapshot().offers.iter().next().unwrap().id.clone();
    let refused = house.create(request(exactly(&offer))).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (Code::FailedPrecondition, "PROVIDER_CREDIT"));
    clean(&house).await;
}

/// What a launch is the first to meet: the only provider refuses our credentials, or has no more credit from us.
#[tokio::test(start_paused = true)]
async fn a_launch_that_the_account_is_refused_for_ends_its_session_for_that() {
    for (reason, code) in [(EndReason::ProviderAuth, "PROVIDER_AUTH"), (EndReason::ProviderCredit, "PROVIDER_CREDIT")] {
        for dialect in Dialect::ALL.into_iter().filter(|d| reason == EndReason::ProviderAuth || *d == Dialect::Vastai) {
            let house = house(dialect, 61, Faults::gentle()).await;
            house.pass(MINUTE).await;
            let account = house.accounts[&dialect];
            match reason {
                EndReason::ProviderAuth => house.market.set_valid(account, false),
                _ => house.market.set_credit(account, Some(Nanos::ZERO)),
            }
            let id = house.rent(None).await.session.id;
            let ended = house.until(id, State::Failed, 30 * MINUTE).await;
            assert_eq!((ended.end_reason, ended.attempts.len()), (Some(reason), 1), "{dialect:?} {:?}", ended.error);
            let events = house.events().await;
            let end = events.iter().rfind(|e| e.kind == EventType::StateChanged).unwrap();
            assert_eq!((end.to_state, end.end_reason, end.session.cost_final), (State::Failed, Some(reason), true));
            assert_eq!((ended.cost.high, house.bill(id)), (Nanos::ZERO, Nanos::ZERO));
            let refused = house.create(request(any(None))).await.unwrap_err();
            assert_eq!((refused.code, refused.reason), (Code::FailedPrecondition, code));
            house.market.set_valid(account, true);
            clean(&house).await;
        }
    }
}

/// A list that is refused has the credentials proven at once, and what refuses launches is asked about every half minute.
#[tokio::test(start_paused = true)]
async fn what_an_account_is_refused_for_is_known_within_a_minute_and_so_is_its_end() {
    let (house, session, _) = running(Dialect::Vastai, any(None)).await;
    let account = house.accounts[&Dialect::Vastai];
    let told = async || {
        let view = house.core().operator.providers().await.unwrap().remove(0);
        let refused = house.would_create(request(any(None))).await.map_err(|e| e.reason);
        (view.refused, view.account_error.is_some(), view.credit_error.is_some(), refused)
    };
    house.pass(MINUTE).await;
    assert_eq!(told().await, (false, false, false, Ok(())));
    house.market.set_valid(account, false);
    house.pass(70 * SECOND).await;
    assert_eq!(told().await, (true, true, false, Err("PROVIDER_AUTH")));
    house.market.set_valid(account, true);
    house.pass(70 * SECOND).await;
    assert_eq!(told().await, (false, false, false, Ok(())));
    assert_eq!(house.get(session.id).await.state, State::Running);
    // The last words of an account without credit come with a launch.
    house.market.set_credit(account, Some(Nanos::ZERO));
    let second = house.rent(None).await.session.id;
    house.until(second, State::Failed, MINUTE).await;
    assert_eq!(told().await, (false, false, true, Err("PROVIDER_CREDIT")));
    house.pass(10 * MINUTE).await;
    assert_eq!(told().await, (false, false, true, Err("PROVIDER_CREDIT")));
    house.market.set_credit(account, None);
    house.pass(70 * SECOND).await;
    assert_eq!(told().await, (false, false, false, Ok(())));
    clean(&house).await;
}

/// Nor does anybody have to wait for a quiet provider's next look, which is rare where nothing runs.
#[tokio::test(start_paused = true)]
async fn credit_that_was_missing_at_the_start_is_seen_within_half_a_minute_of_its_coming() {
    let mut house = house(Dialect::Vastai, 62, Faults::none()).await;
    let account = house.accounts[&Dialect::Vastai];
    house.stop().await;
    house.market.set_credit(account, Some(Nanos::ZERO));
    house.start(None).await;
    house.pass(20 * SECOND).await;
    let refused = async || house.would_create(request(any(None))).await.map_err(|e| e.reason);
    assert_eq!(refused().await, Err("PROVIDER_CREDIT"));
    house.market.set_credit(account, None);
    house.pass(35 * SECOND).await;
    assert_eq!(refused().await, Ok(()));
}
