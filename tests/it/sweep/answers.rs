//! What a launch's answer is worth: the machine is what carries the label, or what complete lists vouch for.

use super::{MINUTE, billed, clean, kinds};
use crate::support::{Altered, Plan};
use gpu_shopper::domain::event::EventType;
use gpu_shopper::domain::instance::Sighting;
use gpu_shopper::domain::session::State;
use gpu_shopper::services::api::Command;
use gpu_shopper::services::sweeper::FindingKind;
use gpu_shopper::sim::{ALWAYS, AccountId, Dialect, Fault, Faults, Market};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A launch is answered with another id than its label was seen under: what was seen is kept, and nothing is done to a machine
/// that nobody has seen with our label.
#[tokio::test(start_paused = true)]
async fn an_id_that_was_seen_is_not_forgotten_for_another() {
    let faults = Faults::gentle().with(Fault::CreateSlow, ALWAYS);
    let house = Plan::new(35, faults)
        .at(Dialect::Vastai)
        .wrapped(Arc::new(|provider| Arc::new(Altered { launched: Box::new(|_| "4711".to_owned()), ..Altered::of(provider) })));
    let house = house.build().await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 20 * MINUTE).await;
    // It runs by what lists show, long before its launch is answered.
    house.pass(10 * MINUTE).await;
    let rows = house.store().instance_list(id).await.unwrap();
    assert!(rows.len() == 1 && rows[0].native_id.as_deref() != Some("4711"), "{rows:?}");
    assert_eq!(house.alive().len(), 1);
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 20 * MINUTE).await;
    assert_eq!(house.alive().len(), 0);
}

/// A launch's answer names the machine of another session, and before anybody has looked at that, a list shows ours: it is
/// the attempt's machine, and not one too many.
#[tokio::test(start_paused = true)]
async fn what_carries_the_label_is_the_machine_and_not_what_an_answer_named() {
    let other: Arc<std::sync::Mutex<Option<String>>> = Arc::default();
    let astray = Arc::clone(&other);
    let wrap: crate::support::Wrap = Arc::new(move |provider| {
        let astray = Arc::clone(&astray);
        let launched = Box::new(move |id: String| astray.lock().unwrap().clone().unwrap_or(id));
        Arc::new(Altered { launched, look_takes: 40 * Duration::from_secs(1), ..Altered::of(provider) })
    });
    let house = Plan::new(45, Faults::gentle()).at(Dialect::Vastai).wrapped(wrap).build().await;
    let first = house.rent(None).await.session.id;
    house.until(first, State::Running, 20 * MINUTE).await;
    *other.lock().unwrap() = house.alive().pop();
    let second = house.rent(None).await.session.id;
    let session = house.until(second, State::Running, 20 * MINUTE).await;
    assert_eq!(session.attempts.len(), 1, "{:?}", session.attempts);
    house.pass(20 * MINUTE).await;
    assert_eq!(house.alive().len(), 2);
    assert!(house.events().await.iter().all(|event| event.kind != EventType::LatecomerDestroyed));
    for id in [first, second] {
        assert_eq!(house.store().instance_list(id).await.unwrap().len(), 1);
        house.command(id, Command::Destroy).await.unwrap();
        house.until(id, State::Stopped, 20 * MINUTE).await;
    }
    clean(&house).await;
}

/// A launch's answer names a machine without any label, as made in the vendor's console: one that was listed before, or one that
/// has just come to be, even where ours is not visible for minutes. It is nobody's of ours; ours is found by its label.
#[tokio::test(start_paused = true)]
async fn a_strangers_machine_without_a_label_is_not_taken_for_ours() {
    let late = || Faults::gentle().with(Fault::LateVisible, ALWAYS).with_delay(gpu_shopper::sim::Delay::Invisible, 2 * MINUTE);
    for (listed_before, faults) in [(true, Faults::gentle()), (false, Faults::gentle()), (false, late())] {
        let street: Arc<OnceLock<(Arc<Market>, AccountId)>> = Arc::default();
        let (named, destroys) = (Arc::new(OnceLock::<String>::new()), Arc::new(AtomicUsize::new(0)));
        let (there, names, counted) = (Arc::clone(&street), Arc::clone(&named), Arc::clone(&destroys));
        let wrap: crate::support::Wrap = Arc::new(move |provider| {
            let (there, names) = (Arc::clone(&there), Arc::clone(&names));
            let stranger = move || {
                let (market, account) = there.get().unwrap();
                market.plant(*account, "").unwrap()
            };
            let launched = Box::new(move |_| names.get_or_init(&stranger).clone());
            Arc::new(Altered { launched, destroys: Arc::clone(&counted), ..Altered::of(provider) })
        });
        let house = Plan::new(46, faults).at(Dialect::Vastai).wrapped(wrap).build().await;
        let account = house.accounts[&Dialect::Vastai];
        let _ = street.set((Arc::clone(&house.market), account));
        if listed_before {
            named.set(house.market.plant(account, "").unwrap()).unwrap();
            house.pass(2 * MINUTE).await;
        }
        let id = house.rent(None).await.session.id;
        let running = house.until(id, State::Running, 20 * MINUTE).await;
        let stranger = named.get().unwrap().clone();
        let rows = house.store().instance_list(id).await.unwrap();
        assert_eq!((rows.len(), running.attempts.len()), (1, 1), "{:?}", running.attempts);
        assert!(rows[0].native_id.as_ref().is_some_and(|native_id| *native_id != stranger), "before: {listed_before}");
        house.command(id, Command::Destroy).await.unwrap();
        house.until(id, State::Stopped, 20 * MINUTE).await;
        assert_eq!((house.alive(), destroys.load(Ordering::SeqCst)), (vec![stranger.clone()], 1), "before: {listed_before}");
        assert!(kinds(&house).contains(&(FindingKind::Foreign, stranger)));
        billed(&house, id).await;
        clean(&house).await;
    }
}

/// A vendor that tells no labels: a machine that a launch's answer named is ours when complete lists have shown nothing else for
/// long, also where no life of the server is that long.
#[tokio::test(start_paused = true)]
async fn where_no_label_is_told_complete_lists_vouch_for_what_an_answer_named() {
    for crashes in [false, true] {
        let blank = || Box::new(|sighting: &mut Sighting| sighting.label = None);
        let wrap: crate::support::Wrap = Arc::new(move |provider| Arc::new(Altered { machine: blank(), ..Altered::of(provider) }));
        let mut house = Plan::new(47, Faults::gentle()).at(Dialect::Vastai).on_disk().wrapped(wrap).build().await;
        let id = house.rent(None).await.session.id;
        while crashes && house.get(id).await.state != State::Running {
            assert!(house.now().since(house.get(id).await.created_at) < 20 * MINUTE, "it takes for ever");
            house.pass(MINUTE).await;
            house.crash(Duration::from_secs(1)).await;
        }
        let running = house.until(id, State::Running, 20 * MINUTE).await;
        assert_eq!(running.attempts.len(), 1, "{:?}", running.attempts);
        let again = house.rent(None).await.session.id;
        house.command(again, Command::Destroy).await.unwrap();
        house.command(id, Command::Destroy).await.unwrap();
        for id in [id, again] {
            house.until(id, State::Stopped, 40 * MINUTE).await;
            billed(&house, id).await;
        }
        clean(&house).await;
    }
}
