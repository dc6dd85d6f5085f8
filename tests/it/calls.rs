//! What sessions cost in calls to their providers: looking at them takes as many calls as lists have pages, not as there are
//! sessions. Only prices that a list does not tell are asked for by id, twice an hour at the most.

use crate::support::{Altered, BEGIN, House, Plan, Wrap, any, request};
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::session::{ConditionType, State, Truth};
use gpu_shopper::ports::ProviderFacts;
use gpu_shopper::services::api::Command;
use gpu_shopper::sim::{ALWAYS, Credentials, Dialect, Fault, Faults, Market, MarketConfig};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// So many calls a list of so many machines takes, and how long the vendor makes us wait between two of them.
fn pages(dialect: Dialect, machines: usize) -> (usize, Duration) {
    match dialect {
        Dialect::Vastai => (machines.div_ceil(25).max(1), Duration::from_millis(1_250)),
        Dialect::Tensordock => (1, Duration::ZERO),
    }
}

/// Calls by what they are, for so many sessions at once: until all run, while all run for an hour, and until all are over.
struct Counted {
    begin: BTreeMap<&'static str, usize>,
    hour: BTreeMap<&'static str, usize>,
    end: BTreeMap<&'static str, usize>,
}

fn sum(calls: &BTreeMap<&'static str, usize>) -> usize {
    calls.values().sum()
}

async fn counted(dialect: Dialect, sessions: usize) -> Counted {
    let clock = Clock::simulated(BEGIN);
    let faults = Faults::none();
    let config = MarketConfig { seed: 1, faults: faults.clone(), clock: clock.clone(), fabricated_addresses: true };
    let market = Market::sized(config, 1 + sessions / 50);
    let accounts = [(dialect, market.add_account(dialect, Credentials::Key("0".repeat(64)), None))].into();
    // The simulated market lists everything in one go.
    let (calls_a_list, apart) = pages(dialect, sessions);
    let list_takes = apart * u32::try_from(calls_a_list - 1).unwrap();
    let paged: Wrap = Arc::new(move |provider| Arc::new(Altered { list_takes, ..Altered::of(provider) }));
    let plan = Plan { refresh: Some(24 * HOUR), ..Plan::new(1, faults) };
    let house = plan.at(dialect).wrapped(paged).build_on(market, accounts, clock).await;
    let mut told = 0;
    let mut since = |house: &House| {
        let calls = house.life().calls();
        let mut by_name = BTreeMap::new();
        calls[told..].iter().for_each(|name| *by_name.entry(*name).or_default() += if *name == "instances" { calls_a_list } else { 1 });
        told = calls.len();
        by_name
    };
    since(&house);
    let mut ids = Vec::new();
    for _ in 0..sessions {
        ids.push(house.create(request(any(None))).await.unwrap().session.id);
    }
    for id in &ids {
        house.until(*id, State::Running, HOUR).await;
    }
    for id in &ids {
        house.command(*id, Command::Extend { by: Some(6 * HOUR), to: None, override_hard_max: false }).await.unwrap();
    }
    let begin = since(&house);
    house.pass(HOUR).await;
    let hour = since(&house);
    for id in &ids {
        house.command(*id, Command::Destroy).await.unwrap();
    }
    for id in &ids {
        house.until(*id, State::Stopped, HOUR).await;
    }
    let end = since(&house);
    house.close().await;
    Counted { begin, hour, end }
}

#[tokio::test(start_paused = true)]
async fn looking_at_sessions_takes_calls_by_lists_and_not_by_sessions() {
    for (dialect, by_id) in [(Dialect::Vastai, 0), (Dialect::Tensordock, 2)] {
        let (few, many) = (counted(dialect, 5).await, counted(dialect, 50).await);
        assert_eq!(few.hour.keys().collect::<Vec<_>>(), many.hour.keys().collect::<Vec<_>>());
        let lists = pages(dialect, 50).0;
        assert!(sum(&many.hour) <= sum(&few.hour) * lists + 2 + by_id * 45, "an hour of 5: {:?}; of 50: {:?}", few.hour, many.hour);
        // Beginning and ending are each machine's own: a few calls, the same for each, whatever else there is.
        for (few, many) in [(&few.begin, &many.begin), (&few.end, &many.end)] {
            assert!(sum(many) <= sum(few) * 10 + 20 * lists, "{few:?} {many:?}");
        }
    }
}

/// A vendor that wants to be asked for a list no more than every ten minutes, while machines are looked for every few seconds.
#[tokio::test(start_paused = true)]
async fn lists_keep_the_interval_of_the_vendor_however_closely_they_are_wanted() {
    const EVERY: Duration = Duration::from_secs(600);
    let rare: Wrap = Arc::new(|provider| {
        let facts = ProviderFacts { list_interval: EVERY, ..provider.facts().clone() };
        Arc::new(Altered { facts, ..Altered::of(provider) })
    });
    let faults = Faults::gentle().with(Fault::ImageStuck, ALWAYS);
    let house = Plan::new(3, faults).at(Dialect::Vastai).wrapped(rare).build().await;
    let lists = |house: &House| house.life().calls().iter().filter(|name| **name == "instances").count();
    // Machines that do not come up are looked for closely.
    house.create(request(any(None))).await.unwrap();
    let before = lists(&house);
    house.pass(HOUR).await;
    let asked = lists(&house) - before;
    assert!((4..=7).contains(&asked), "{asked} lists in an hour");
}

/// A vendor takes every order and does nothing: it is asked about each machine ever more seldom, and its end shows at once all the same.
#[tokio::test(start_paused = true)]
async fn machines_that_linger_after_their_destroy_are_not_asked_for_again_and_again() {
    for dialect in Dialect::ALL {
        let house = Plan::new(4, Faults::gentle()).at(dialect).build().await;
        let id = house.create(request(any(None))).await.unwrap().session.id;
        house.until(id, State::Running, HOUR).await;
        house.market.set_faults(Faults::gentle().with(Fault::DestroyIgnored, ALWAYS));
        house.command(id, Command::Destroy).await.unwrap();
        house.pass(Duration::from_secs(30 * 60)).await;
        let before = house.life().calls().len();
        house.pass(HOUR).await;
        let calls = house.life().calls();
        let named = |wanted: &str| calls[before..].iter().filter(|name| **name == wanted).count();
        let (looks, destroys) = (named("instance"), named("destroy"));
        assert!((10..=16).contains(&destroys) && (8..=32).contains(&looks), "{}: {looks} looks, {destroys} orders", dialect.word());
        assert!(house.market.vanish(&house.alive()[0]));
        house.until(id, State::Stopped, Duration::from_secs(90)).await;
    }
}

/// Neither lists nor looks by id tell what a machine costs: it is asked for now and then, and nobody is asked without a pause.
#[tokio::test(start_paused = true)]
async fn a_price_that_is_never_told_is_not_asked_for_again_and_again() {
    for dialect in Dialect::ALL {
        let silent: Wrap = Arc::new(|provider| Arc::new(Altered { machine: Box::new(|machine| machine.price = None), ..Altered::of(provider) }));
        let house = Plan::new(4, Faults::none()).at(dialect).wrapped(silent).build().await;
        let id = house.create(request(any(None))).await.unwrap().session.id;
        house.until(id, State::Running, HOUR).await;
        house.pass(Duration::from_secs(60)).await;
        let before = house.life().calls().len();
        // Less than its time, whose end takes looks of its own.
        house.pass(Duration::from_secs(50 * 60)).await;
        let looks = house.life().calls()[before..].iter().filter(|name| **name == "instance").count();
        assert_eq!(looks, 1, "{}: every half hour", dialect.word());
    }
}

/// Nobody can ask for a machine by its id: what lists tell of goes on, and its price is asked for now and then.
#[tokio::test(start_paused = true)]
async fn a_price_that_can_not_be_asked_for_is_tried_for_with_pauses() {
    let house = Plan::new(6, Faults::none()).at(Dialect::Tensordock).build().await;
    let id = house.create(request(any(None))).await.unwrap().session.id;
    house.until(id, State::Running, HOUR).await;
    house.market.set_faults(Faults::none().with(Fault::GetFails, ALWAYS));
    let before = house.life().calls().len();
    house.pass(Duration::from_secs(50 * 60)).await;
    let looks = house.life().calls()[before..].iter().filter(|name| **name == "instance").count();
    // From half an hour after it was told, every five to ten minutes.
    assert!((2..=5).contains(&looks), "{looks} looks by id");
    let session = house.get(id).await;
    assert_eq!(session.state, State::Running);
}

/// After a restart the lists tell of all that is wanted: nobody asks for each machine by itself.
#[tokio::test(start_paused = true)]
async fn a_restart_looks_by_lists_too() {
    let mut house = Plan::new(5, Faults::none()).at(Dialect::Vastai).build().await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(house.create(request(any(None))).await.unwrap().session.id);
    }
    for id in &ids {
        house.until(*id, State::Running, HOUR).await;
    }
    house.crash(Duration::from_secs(60)).await;
    house.pass(Duration::from_secs(300)).await;
    let calls = house.life().calls();
    let named = |wanted: &str| calls.iter().filter(|name| **name == wanted).count();
    assert!(named("instances") > 5 && named("instance") == 0, "{calls:?}");
    for id in ids {
        let session = house.get(id).await;
        assert_eq!(session.state, State::Running);
        let present = session.condition(ConditionType::InstancePresent).unwrap();
        assert_eq!((present.status, present.reason.as_str()), (Truth::True, "running"), "{session:?}");
    }
}

/// `cargo test --release --test it calls::table -- --ignored --nocapture` prints the table of the benches' README.
#[tokio::test(start_paused = true)]
#[ignore = "measures; the test above asserts"]
async fn table() {
    println!(
        "| provider | sessions | until all run, each | an hour, all | an hour, each | until all are over, each |\n| --- | --- | --- | --- | --- | --- |"
    );
    for (dialect, sessions) in Dialect::ALL.into_iter().flat_map(|dialect| [10, 100, 1000].map(|sessions| (dialect, sessions))) {
        let told = counted(dialect, sessions).await;
        let each = |calls: usize| format!("{}.{:02}", calls / sessions, calls * 100 / sessions % 100);
        let (begin, hour, end) = (sum(&told.begin), sum(&told.hour), sum(&told.end));
        println!("| {} | {sessions} | {} | {hour} | {} | {} |", dialect.word(), each(begin), each(hour), each(end));
    }
}
