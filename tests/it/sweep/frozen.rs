//! A database that must not kill by old facts: nothing ends unasked before an operator has accepted it.

use super::{HOUR, MINUTE, clean, id_of, order, planted};
use crate::support::{Plan, any, caller, request};
use gpu_shopper::app::tag_of;
use gpu_shopper::domain::ids::{ConsumerId, Label};
use gpu_shopper::domain::instance::Evidence;
use gpu_shopper::domain::lifecycle::Fate;
use gpu_shopper::domain::session::{AttemptFailure, EndReason, Request, State};
use gpu_shopper::services::api::Command;
use gpu_shopper::services::lifecycle::Order;
use gpu_shopper::services::sweeper::{FindingKind, HoldKind};
use gpu_shopper::sim::{ALWAYS, Delay, Dialect, Fault, Faults};
use std::time::Duration;

/// A database of which it is not sure that it tells the present truth: nothing is destroyed, launched or ended by it
/// until an operator accepts it; what users ask for now is done.
#[tokio::test(start_paused = true)]
async fn a_frozen_house_kills_nothing_by_old_facts() {
    let mut house = Plan::new(29, Faults::gentle()).on_disk().build().await;
    let (kept, ended) = (house.rent(Some("vastai")).await.session.id, house.rent(Some("tensordock")).await.session.id);
    for id in [kept, ended] {
        house.until(id, State::Running, 10 * MINUTE).await;
    }
    house.die().await;
    house.pass(5 * HOUR).await;
    house.frozen = Some("the database is older than its epoch".to_owned());
    house.start(None).await;
    house.pass(HOUR).await;
    assert_eq!(house.alive().len(), 2, "long expired by this database, and yet");
    assert_eq!(house.get(kept).await.state, State::Running);
    assert_eq!(house.create(request(any(None))).await.unwrap_err().reason, "DATABASE_NOT_ACCEPTED");
    assert_eq!(house.core().operator.findings().frozen.as_deref(), Some("the database is older than its epoch"));
    house.command(ended, Command::Destroy).await.unwrap();
    house.until(ended, State::Stopped, 10 * MINUTE).await;
    assert_eq!(house.alive().len(), 1);
    order(&house, Order::Accept).await.unwrap();
    assert_eq!(order(&house, Order::Accept).await, Err("DATABASE_ACCEPTED"));
    let over = house.until(kept, State::Stopped, 10 * MINUTE).await;
    assert_eq!(over.end_reason, Some(EndReason::Expired));
    clean(&house).await;
}

/// Whatever else reaches a frozen house, and whoever: its old facts come to nothing.
#[tokio::test(start_paused = true)]
async fn nothing_that_reaches_a_frozen_house_wakes_its_old_facts() {
    for reached_by in ["a label", "a sign of life", "a hold", "lists that fail", "diagnostics", "an extension"] {
        let mut house = Plan::new(31, Faults::gentle()).on_disk().build().await;
        let (kept, begun) = (house.rent(Some("vastai")).await.session.id, house.rent(Some("tensordock")).await.session.id);
        house.until(kept, State::Running, 10 * MINUTE).await;
        let before = house.until(begun, State::Running, 10 * MINUTE).await;
        house.die().await;
        house.pass(5 * HOUR).await;
        house.frozen = Some("a copy".to_owned());
        house.start(None).await;
        let (sessions, operator) = (house.core().sessions.clone(), house.core().operator.clone());
        match reached_by {
            "a label" => {
                let labels = Some([("k".to_owned(), "v".to_owned())].into());
                house.command(kept, Command::Update { labels, idle_threshold: None }).await.unwrap();
            }
            "a sign of life" => drop(house.command(kept, Command::KeepAlive).await.unwrap()),
            "a hold" => {
                let until = Some(house.now() + MINUTE);
                for dialect in Dialect::ALL {
                    let (provider, reason) = (id_of(dialect), "looking".to_owned());
                    order(&house, Order::Hold { provider, kind: HoldKind::Launches, until, reason }).await.unwrap();
                }
            }
            "lists that fail" => house.market.set_faults(Faults::gentle().with(Fault::ListFails, ALWAYS)),
            "diagnostics" => drop(sessions.diagnostics(&caller(), kept).await.unwrap()),
            _ => {
                let to = Some(house.now() + 2 * HOUR);
                house.command(kept, Command::Extend { by: None, to, override_hard_max: false }).await.unwrap();
            }
        }
        house.pass(HOUR).await;
        assert_eq!(house.alive().len(), 2, "{reached_by}");
        for id in [kept, begun] {
            let now = house.get(id).await;
            assert_eq!((now.state, now.attempts.len()), (State::Running, 1), "{reached_by}: {}", now.status_message);
        }
        assert!(before.end_reason.is_none() && operator.findings().frozen.is_some());
        order(&house, Order::Accept).await.unwrap();
        for id in [kept, begun] {
            house.until(id, State::Stopped, 6 * HOUR).await;
        }
    }
}

/// What an operator orders about one machine is no word about the others: a session that goes on is not ended by old facts, and
/// gets no other machine, since the database may have forgotten what had the number of its next attempt.
#[tokio::test(start_paused = true)]
async fn an_order_about_a_forgotten_machine_wakes_no_session_that_goes_on() {
    for state in [State::Provisioning, State::Running] {
        let key = if state == State::Provisioning { Faults::gentle().with(Fault::KeyNever, ALWAYS) } else { Faults::gentle() };
        let mut house = Plan::new(38, key).on_disk().at(Dialect::Vastai).build().await;
        let id = house.create(Request { reservation: HOUR, ..request(any(None)) }).await.unwrap().session.id;
        house.until(id, state, 10 * MINUTE).await;
        house.pass(30 * Duration::from_secs(1)).await;
        house.die().await;
        let label = Label { attempt: 6, session: id, tag: tag_of(&house.deployment) };
        let forgotten = planted(&house, Dialect::Vastai, &label.to_string()).await;
        house.frozen = Some("a restored backup".to_owned());
        house.start(None).await;
        house.pass(10 * MINUTE).await;
        let found = house.core().operator.findings();
        let stray = found.machines.iter().find(|f| f.sighting.native_id == forgotten).unwrap();
        assert_eq!((stray.kind, stray.adopt_command().as_str()), (FindingKind::Stray, ""), "it can't be kept, and nobody is told to");
        let keep = Fate::Keep { consumer: ConsumerId::new("me"), reservation: HOUR };
        let refused = order(&house, Order::Stray { provider: id_of(Dialect::Vastai), native_id: forgotten.clone(), fate: keep }).await.unwrap_err();
        assert_eq!(refused, "SESSION_EXISTS");
        order(&house, Order::Stray { provider: id_of(Dialect::Vastai), native_id: forgotten.clone(), fate: Fate::Destroy }).await.unwrap();
        // Its reservation is over by what is on record, which may long be untrue.
        house.pass(2 * HOUR).await;
        let session = house.get(id).await;
        assert_eq!((session.state, session.attempts.len()), (state, 1), "{}", session.status_message);
        assert!(session.attempts[0].failure.is_none(), "{:?}", session.attempts[0]);
        assert!(house.alive().len() == 1 && house.alive()[0] != forgotten, "{:?}", house.alive());
        house.market.set_faults(Faults::gentle());
        order(&house, Order::Accept).await.unwrap();
        house.until(id, State::Stopped, HOUR).await;
        clean(&house).await;
    }
}

/// A choice that was due while the house was frozen is made once when its database is believed: one machine at a time.
#[tokio::test(start_paused = true)]
async fn a_choice_that_was_due_in_a_frozen_house_is_made_once() {
    let mut house = Plan::new(40, Faults::gentle()).on_disk().at(Dialect::Vastai).build().await;
    house.market.set_faults(Faults::gentle().with(Fault::TooManyRequests, ALWAYS));
    let id = house.create(request(any(None))).await.unwrap().session.id;
    while house.get(id).await.attempts.last().is_none_or(|a| a.failure != Some(AttemptFailure::RateLimited)) {
        house.pass(Duration::from_secs(1)).await;
    }
    let before = house.get(id).await.attempts.len();
    house.die().await;
    house.frozen = Some("a copy".to_owned());
    house.market.set_faults(Faults::gentle());
    house.start(None).await;
    house.pass(5 * MINUTE).await;
    assert_eq!(house.get(id).await.attempts.len(), before, "nothing is chosen while it is in doubt");
    order(&house, Order::Accept).await.unwrap();
    let session = house.until(id, State::Running, 10 * MINUTE).await;
    assert_eq!((session.attempts.len(), house.alive().len()), (before + 1, 1), "{:?}", session.attempts);
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
    clean(&house).await;
}

/// A database in doubt whose last act was to order a machine's end: what is said again now is done, without a restart.
#[tokio::test(start_paused = true)]
async fn an_end_that_is_asked_for_again_in_a_frozen_house_comes_and_its_acceptance_forgets_nothing() {
    let mut house = Plan::new(37, Faults::gentle()).on_disk().at(Dialect::Vastai).build().await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    house.market.set_faults(Faults::gentle().with(Fault::DestroyIgnored, ALWAYS));
    house.command(id, Command::Destroy).await.unwrap();
    house.die().await;
    house.market.set_faults(Faults::gentle());
    house.pass(HOUR).await;
    house.frozen = Some("a copy".to_owned());
    house.start(None).await;
    house.pass(10 * MINUTE).await;
    assert_eq!((house.alive().len(), house.get(id).await.state), (1, State::Stopping), "nobody has said it since");
    house.command(id, Command::Destroy).await.unwrap();
    order(&house, Order::Accept).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
    clean(&house).await;
}

/// What a user has said of a doubtful database's session is remembered over a death.
#[tokio::test(start_paused = true)]
async fn a_destroy_in_a_frozen_house_goes_on_after_a_restart() {
    let mut house = Plan::new(32, Faults::gentle()).on_disk().build().await;
    let (ended, kept) = (house.rent(Some("vastai")).await.session.id, house.rent(Some("tensordock")).await.session.id);
    for id in [ended, kept] {
        house.until(id, State::Running, 10 * MINUTE).await;
    }
    house.die().await;
    house.pass(5 * HOUR).await;
    house.frozen = Some("a copy".to_owned());
    house.start(None).await;
    house.market.set_faults(Faults::gentle().with(Fault::DestroyIgnored, ALWAYS));
    house.command(ended, Command::Destroy).await.unwrap();
    house.pass(Duration::from_secs(30)).await;
    house.market.set_faults(Faults::gentle());
    house.crash(MINUTE).await;
    let over = house.until(ended, State::Stopped, HOUR).await;
    assert_eq!(over.end_reason, Some(EndReason::DestroyedByUser));
    house.pass(HOUR).await;
    assert_eq!((house.alive().len(), house.get(kept).await.state), (1, State::Running), "nobody has said anything of that one");
    order(&house, Order::Accept).await.unwrap();
    house.until(kept, State::Stopped, HOUR).await;
    clean(&house).await;
}

/// A machine that an attempt of a session in use never had, as far as is known, is there after all: an order to destroy it is
/// done at once, and the session's own machine goes on.
#[tokio::test(start_paused = true)]
async fn an_order_about_an_orphan_of_a_session_in_use_is_done() {
    let mut house = Plan::new(41, Faults::gentle()).on_disk().at(Dialect::Vastai).build().await;
    house.pass(10 * Duration::from_secs(1)).await;
    house.market.set_faults(Faults::gentle().with(Fault::ServerError, ALWAYS));
    let id = house.create(Request { reservation: 12 * HOUR, ..request(any(None)) }).await.unwrap().session.id;
    while house.get(id).await.attempts.first().is_none_or(|a| a.failure.is_none()) {
        house.pass(Duration::from_secs(1)).await;
    }
    house.market.set_faults(Faults::gentle());
    let session = house.until(id, State::Running, HOUR).await;
    let own = house.alive();
    let row = house.store().instance_list(id).await.unwrap().remove(0);
    assert!(row.native_id.is_none() && row.settled.is_some_and(|s| s.evidence == Evidence::NeverAppeared), "{row:?}");
    house.die().await;
    house.market.set_faults(Faults::gentle().with(Fault::DestroyRefused, ALWAYS).with_delay(Delay::Undeletable, 30 * MINUTE));
    let late = planted(&house, Dialect::Vastai, &row.label.to_string()).await;
    house.frozen = Some("a restored backup".to_owned());
    house.start(None).await;
    house.pass(5 * MINUTE).await;
    let found = house.core().operator.findings();
    assert!(found.machines.iter().any(|f| f.kind == FindingKind::Orphan && f.sighting.native_id == late), "{:?}", found.machines);
    assert_eq!(house.alive().len(), 2, "nobody has asked for it");
    // The vendor does not let it go at first, and the server starts anew meanwhile: what was ordered is done all the same.
    order(&house, Order::Stray { provider: id_of(Dialect::Vastai), native_id: late.clone(), fate: Fate::Destroy }).await.unwrap();
    house.pass(5 * MINUTE).await;
    house.crash(MINUTE).await;
    house.pass(5 * MINUTE).await;
    assert_eq!(house.alive().len(), 2, "{:?}", house.alive());
    house.pass(30 * MINUTE).await;
    assert_eq!(house.alive(), own);
    let row = house.store().instance_list(id).await.unwrap().remove(0);
    assert!(row.settled.is_some_and(|s| s.evidence == Evidence::NotFoundTwice), "{row:?}");
    let now = house.get(id).await;
    assert_eq!((now.state, now.attempts.len()), (State::Running, session.attempts.len()));
    order(&house, Order::Accept).await.unwrap();
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
    clean(&house).await;
}
