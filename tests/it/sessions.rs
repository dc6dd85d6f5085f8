//! Sessions from create to end, in paused time, over the simulated market.

use crate::support::{House, caller, exactly, request};
use gpu_shopper::domain::ids::ConsumerId;
use gpu_shopper::domain::session::{EndReason, Request, State};
use gpu_shopper::services::api::Command;
use gpu_shopper::sim::{Delay, Faults};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_rental_hour_from_create_to_the_bill() {
    for provider in ["vastai", "tensordock"] {
        let house = House::new(1, Faults::none()).await;
        let id = house.rent(Some(provider)).await.session.id;
        let running = house.until(id, State::Running, 5 * MINUTE).await;
        assert_eq!(house.alive().len(), 1);
        assert!(running.endpoint.is_some() && running.host_key.is_some() && running.gpu_report.is_some());
        house.pass(20 * MINUTE).await;
        let ending = house.command(id, Command::Complete { bad_machine: false }).await.unwrap();
        assert_eq!((ending.state, ending.end_reason), (State::Stopping, Some(EndReason::Completed)));
        let stopped = house.until(id, State::Stopped, 5 * MINUTE).await;
        assert!(stopped.cost_final && stopped.stopped_at.is_some());
        let cost = house.core().costs.session(&caller(), id).await.unwrap();
        assert_eq!(cost.total.low, cost.total.high, "{provider}: {cost:?}");
        assert_eq!(cost.total.cost, house.bill(id), "{provider}: to the nano");
        assert!(cost.total.cost.0 > 0);
        house.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_by_itself_at_its_expiry() {
    let house = House::new(2, Faults::gentle()).await;
    let id = house.rent(None).await.session.id;
    let running = house.until(id, State::Running, 10 * MINUTE).await;
    assert_eq!(running.expires_at, running.running_at.unwrap() + Duration::from_secs(3600));
    house.pass(59 * MINUTE).await;
    assert_eq!(house.get(id).await.state, State::Running);
    house.pass(5 * MINUTE).await;
    let over = house.get(id).await;
    assert_eq!((over.state, over.end_reason), (State::Stopped, Some(EndReason::Expired)));
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn extend_is_checked_against_the_resulting_expiry() {
    let house = House::new(3, Faults::none()).await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 5 * MINUTE).await;
    let extend = |hours: u64| Command::Extend { by: Some(Duration::from_secs(hours * 3600)), to: None, override_hard_max: false };
    let before = house.get(id).await.expires_at;
    assert_eq!(house.command(id, extend(2)).await.unwrap().expires_at, before + Duration::from_secs(7200));
    let refused = house.command(id, extend(10)).await.unwrap_err();
    assert_eq!(refused.reason, "HARD_MAX_EXCEEDED");
    assert_eq!(house.get(id).await.expires_at, before + Duration::from_secs(7200));
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 5 * MINUTE).await;
    assert_eq!(house.command(id, extend(1)).await.unwrap_err().reason, "SESSION_ENDED");
    house.command(id, Command::Destroy).await.unwrap();
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn destroy_while_provisioning_leaves_nothing() {
    for wait in [0, 1, 20, 200, 900, 1700, 2600, 4000] {
        let house = House::new(4, Faults::gentle()).await;
        let id = house.rent(Some("vastai")).await.session.id;
        house.pass(Duration::from_millis(wait)).await;
        house.command(id, Command::Destroy).await.unwrap();
        let ended = house.until(id, State::Stopped, 10 * MINUTE).await;
        assert_eq!(ended.end_reason, Some(EndReason::DestroyedByUser));
        house.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_consumer_does_not_rent_one_ask_twice() {
    let house = House::new(5, Faults::none()).await;
    let offer = house.core().inventory.snapshot().offers.iter().find(|o| o.slots == Some(1)).unwrap().id.clone();
    let first = house.create(request(exactly(&offer))).await.unwrap().session.id;
    let second = house.create(request(exactly(&offer))).await.unwrap_err();
    assert_eq!((second.reason, second.metadata["session_id"].clone()), ("SESSION_EXISTS", first.to_string()));
    house.until(first, State::Running, 5 * MINUTE).await;
    // By now the vendor lists it no more; what it is to its consumer stays so.
    house.pass(10 * MINUTE).await;
    assert_eq!(house.core().inventory.get(&offer).unwrap_err().reason, "OFFER_NOT_FOUND");
    let later = house.create(request(exactly(&offer))).await.unwrap_err();
    assert_eq!((later.reason, later.metadata["session_id"].clone()), ("SESSION_EXISTS", first.to_string()));
    house.command(first, Command::Destroy).await.unwrap();
    house.until(first, State::Stopped, 5 * MINUTE).await;
    house.close().await;
}

/// Two want the same ask in the same moment: one of them gets it, the other one is told, and nothing is ordered twice.
#[tokio::test(start_paused = true)]
async fn two_creates_at_once_do_not_claim_one_ask() {
    let house = House::new(5, Faults::none().with_delay(Delay::Latency, 5 * SECOND)).await;
    let offer = house.core().inventory.snapshot().offers.iter().find(|o| o.slots == Some(1)).unwrap().id.clone();
    let by = |consumer: &str| house.create(Request { consumer: ConsumerId::new(consumer), ..request(exactly(&offer)) });
    let (first, second) = futures::future::join(by("one"), by("other")).await;
    let (got, refused) = match (first, second) {
        (Ok(got), Err(refused)) | (Err(refused), Ok(got)) => (got, refused),
        both => panic!("one of them gets it: {both:?}"),
    };
    assert_eq!(refused.reason, "NO_CAPACITY");
    house.until(got.session.id, State::Running, 10 * MINUTE).await;
    assert_eq!(house.life().calls().iter().filter(|call| **call == "launch").count(), 1);
    house.command(got.session.id, Command::Destroy).await.unwrap();
    house.until(got.session.id, State::Stopped, 5 * MINUTE).await;
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_same_ask_again_is_tried_when_its_consumer_says_so() {
    // Until the vendor has answered the first, the ask is still on everybody's list.
    let house = House::new(5, Faults::none().with_delay(Delay::Latency, 5 * SECOND)).await;
    let offer = house.core().inventory.snapshot().offers.iter().find(|o| o.slots == Some(1)).unwrap().id.clone();
    let wanted = || Request { allow_same_offer: true, ..request(exactly(&offer)) };
    let first = house.create(wanted()).await.unwrap().session.id;
    let stranger = house.create(Request { consumer: ConsumerId::new("stranger"), ..wanted() }).await.unwrap_err();
    assert_eq!(stranger.reason, "NO_CAPACITY", "another consumer's claim holds");
    let second = house.create(wanted()).await.unwrap().session.id;
    // The vendor decides who of the two gets it.
    let ends = [house.reach(first, Some(State::Running), HOUR).await, house.reach(second, Some(State::Running), HOUR).await];
    assert_eq!(ends.iter().filter(|s| s.state == State::Running).count(), 1);
    assert_eq!(ends.iter().find(|s| s.state == State::Failed).and_then(|s| s.end_reason), Some(EndReason::NoCapacity));
    for id in [first, second] {
        house.command(id, Command::Destroy).await.unwrap();
        house.reach(id, None, HOUR).await;
    }
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_create_is_the_same_session() {
    let house = House::new(6, Faults::none()).await;
    let wanted = || request(crate::support::any(None));
    let first = house.create_as(wanted(), Some("same")).await.unwrap();
    let again = house.create_as(wanted(), Some("same")).await.unwrap();
    assert_eq!((again.session.id, again.replayed, again.resume_token), (first.session.id, true, first.resume_token));
    let mut other = wanted();
    other.disk_gb = Some(200);
    assert_eq!(house.create_as(other, Some("same")).await.unwrap_err().reason, "REQUEST_ID_REUSED");
    house.command(first.session.id, Command::Destroy).await.unwrap();
    house.until(first.session.id, State::Stopped, 5 * MINUTE).await;
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_up_at_once_is_handed_over_at_once() {
    let house = House::new(7, Faults::gentle()).await;
    for provider in ["vastai", "tensordock"] {
        let id = house.rent(Some(provider)).await.session.id;
        let running = house.until(id, State::Running, 5 * MINUTE).await;
        let took = running.running_at.unwrap().since(running.created_at);
        assert!(took < Duration::from_secs(8), "{provider}: {took:?}");
        house.command(id, Command::Destroy).await.unwrap();
        house.until(id, State::Stopped, 5 * MINUTE).await;
    }
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_called_bad_is_not_offered_again() {
    let house = House::new(8, Faults::none()).await;
    let created = house.rent(Some("vastai")).await.session.id;
    let session = house.until(created, State::Running, 5 * MINUTE).await;
    let machine = session.offer().unwrap().machine.clone();
    let offered = || house.core().inventory.snapshot().offers.iter().any(|o| o.machine == machine);
    house.command(created, Command::Complete { bad_machine: true }).await.unwrap();
    house.until(created, State::Stopped, 5 * MINUTE).await;
    house.pass(10 * MINUTE).await;
    assert!(!offered(), "hidden for a day");
    house.close().await;
}
