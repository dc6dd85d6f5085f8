//! A few small worlds of the deterministic simulation; and its teeth: a service that follows a wrong rule is found out.
//! The built program lives hundreds of days of it.

use crate::support::{House, any, request};
use gpu_shopper::app::tag_of;
use gpu_shopper::chaos::{FaultChoice, Outcome, Plant, Settings, Story, Witness, Wrong, play};
use gpu_shopper::domain::event::{Event, EventType};
use gpu_shopper::domain::ids::Label;
use gpu_shopper::domain::instance::Instance;
use gpu_shopper::domain::money::{Nanos, Rate};
use gpu_shopper::domain::session::{EndReason, Request, State};
use gpu_shopper::services::sweeper::SweepPolicy;
use gpu_shopper::sim::{Faults, Workload};
use gpu_shopper::store::Batch;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

fn world(seed: u64, hours: u32, faults: FaultChoice) -> Outcome {
    play(seed, &Settings { hours, faults, ..Settings::default() })
}

#[track_caller]
fn sound(outcome: &Outcome) {
    assert!(outcome.wrong.is_empty(), "seed {}: {:#?}\n{}", outcome.seed, outcome.wrong, outcome.tail.join("\n"));
}

#[test]
fn whatever_goes_wrong_no_law_is_broken() {
    let (seeds, hours) = (42..=45, 6);
    let mut counts = std::collections::BTreeMap::new();
    for seed in seeds.clone() {
        let outcome = world(seed, hours, FaultChoice::All);
        sound(&outcome);
        assert!(outcome.offers >= 300, "{} offers", outcome.offers);
        outcome.counts.iter().chain(&outcome.faults).for_each(|(what, count)| *counts.entry(*what).or_insert(0) += count);
    }
    let a_day = |what: &str| counts.get(what).copied().unwrap_or(0) * 24 / (seeds.clone().count() as u64 * u64::from(hours));
    for (what, least) in [("creates", 40), ("crashes", 3), ("bills_in_bounds", 5)] {
        assert!(a_day(what) >= least, "{} {what} a day: {counts:?}", a_day(what));
    }
    assert!(counts["bills_in_bounds"] > 3 * counts["bills_unknowable"], "too little of the money is compared: {counts:?}");
    for fault in ["reply_lost", "late_visible", "list_fails", "destroy_ignored", "key_never", "image_stuck"] {
        assert!(a_day(fault) > 0, "no {fault} in a day: {counts:?}");
    }
}

#[test]
fn where_nothing_goes_wrong_the_ledger_is_the_bill_to_the_nano() {
    let outcome = world(1, 5, FaultChoice::None);
    sound(&outcome);
    assert!(outcome.counts["sessions_running"] > 5, "{:?}", outcome.counts);
}

#[test]
fn one_seed_is_one_world_to_the_word() {
    let (first, second, other) = (world(5, 4, FaultChoice::All), world(5, 4, FaultChoice::All), world(6, 4, FaultChoice::All));
    assert_eq!((&first.fingerprint, &first.tail, &first.counts), (&second.fingerprint, &second.tail, &second.counts));
    assert_ne!(first.fingerprint, other.fingerprint);
    assert!(first.counts["events"] > 20, "{:?}", first.counts);
}

#[test]
fn the_line_that_is_printed_replays_the_seed() {
    let run = |line: &str| -> serde_json::Value {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_gpu-shopper"));
        let ran = program.args(line.split_whitespace().skip(1)).args(["-o", "json"]).output().unwrap();
        assert_eq!(ran.status.code(), Some(1), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
        serde_json::from_slice(&ran.stdout).unwrap()
    };
    let told = run("gpu-shopper chaos --seed 3 --seeds 2 --hours 6 --wrong unknown-is-destroyed");
    let failures = told["failures"].as_array().unwrap();
    assert!(!failures.is_empty());
    for failed in failures {
        let again = run(failed["replay"].as_str().unwrap());
        assert_eq!(again["failures"][0], *failed, "to the word");
    }
}

/// Each wrong rule is found within so many days, beginning with the first, by the law that it breaks; the same worlds are
/// sound without it.
#[test]
fn every_wrong_rule_is_found_out_by_the_law_that_it_breaks() {
    for rule in Wrong::ALL {
        let found = (1..=12).find_map(|seed| {
            let outcome = play(seed, &Settings { hours: 24, wrong: Some(rule), ..Settings::default() });
            outcome.wrong.first().cloned().map(|what| (seed, what))
        });
        let (seed, what) = found.unwrap_or_else(|| panic!("{rule:?} is not found"));
        assert!(rule.breaks().iter().any(|law| what.contains(law)), "{}: seed {seed}: {what}", rule.word());
        println!("{}: seed {seed}: {what}", rule.word());
    }
}

/// A session that was as it was, and of which its witness is told that it was allowed less.
#[tokio::test(start_paused = true)]
async fn who_pays_more_than_is_allowed_is_found_out() {
    type Change = fn(&mut Request);
    const MINUTE: Duration = Duration::from_secs(60);
    let house = House::new(95, Faults::none()).await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    house.pass(30 * MINUTE).await;
    let (events, instances) = (house.events().await, house.store().instance_list(id).await.unwrap());
    let told = |change: Change| {
        let story = Arc::new(Story::new(house.clock.clone(), 0));
        let market = Arc::clone(&house.market);
        let witness = Witness::new("told", tag_of(&house.deployment), market, Arc::clone(&story), house.policy.clone(), SweepPolicy::default());
        let mut events = events.clone();
        for event in &mut events {
            change(Arc::make_mut(&mut Arc::make_mut(&mut event.session).request));
        }
        let sessions = events.last().map(|event| Arc::clone(&event.session)).into_iter().collect();
        instances.iter().filter_map(|row| row.native_id.as_deref()).for_each(|native_id| witness.launched(native_id));
        witness.committed(&Batch { sessions, events: events.into_iter().map(Arc::new).collect(), instances: instances.clone(), ..Batch::default() });
        (witness, story)
    };
    let begun = house.now();
    let cases: [(Change, &str); 5] = [
        (|_| {}, ""),
        (|request| request.max_price = Some(Rate::from_nanos(1)), "is allowed"),
        // That one counts from the second attempt.
        (|request| request.failover.max_price = Some(Rate::from_nanos(1)), ""),
        (|request| request.max_total_cost = Some(Nanos(1_000_000_000_000)), ""),
        (|request| request.max_total_cost = Some(Nanos(1)), "it has cost more than max_total_cost"),
    ];
    let told: Vec<_> = cases.iter().map(|(change, law)| (told(*change), *law)).collect();
    told.iter().for_each(|((witness, _), _)| witness.look(|_| Some(begun), None));
    house.pass(20 * MINUTE).await;
    for ((witness, story), law) in &told {
        witness.look(|_| Some(begun), None);
        let wrongs = story.wrongs();
        assert!(if law.is_empty() { wrongs.is_empty() } else { wrongs.len() == 1 && wrongs[0].contains(law) }, "{law}: {wrongs:?}");
    }
}

/// A session whose machine runs, and of which its witness is told that it ends: as what it can, and as what it does not.
#[tokio::test(start_paused = true)]
async fn who_ends_as_something_else_is_found_out() {
    let house = House::new(96, Faults::none()).await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, Duration::from_secs(600)).await;
    house.pass(Duration::from_secs(40 * 60)).await;
    let (events, instances) = (house.events().await, house.store().instance_list(id).await.unwrap());
    let laws = |reason: EndReason, change: fn(&mut Event)| {
        let (story, market) = (Arc::new(Story::new(house.clock.clone(), 0)), Arc::clone(&house.market));
        let witness = Witness::new("told", tag_of(&house.deployment), market, Arc::clone(&story), house.policy.clone(), SweepPolicy::default());
        let commit = |events: Vec<Event>| {
            let sessions = events.last().map(|event| Arc::clone(&event.session)).into_iter().collect();
            witness.committed(&Batch {
                sessions,
                events: events.into_iter().map(Arc::new).collect(),
                instances: instances.clone(),
                ..Batch::default()
            });
        };
        instances.iter().filter_map(|row| row.native_id.as_deref()).for_each(|native_id| witness.launched(native_id));
        commit(events.clone());
        assert_eq!(story.wrongs(), Vec::<String>::new());
        let mut end = events.last().unwrap().clone();
        (end.revision, end.sequence, end.at, end.kind) = (end.revision + 1, end.sequence + 1, house.now(), EventType::StateChanged);
        (end.from_state, end.to_state, end.end_reason) = (State::Running, State::Stopping, Some(reason));
        let session = Arc::make_mut(&mut end.session);
        (session.state, session.end_reason, session.version, session.sequence) = (State::Stopping, Some(reason), session.version + 1, end.sequence);
        change(&mut end);
        commit(vec![end]);
        story.wrongs()
    };
    let still: fn(&mut Event) = |_| {};
    let over: fn(&mut Event) = |end| {
        let session = Arc::make_mut(&mut end.session);
        (session.expires_at, session.hard_max_at) = (end.at, end.at);
    };
    let broke: fn(&mut Event) = |end| Arc::make_mut(&mut Arc::make_mut(&mut end.session).request).max_total_cost = Some(end.cost.high);
    let rich: fn(&mut Event) = |end| Arc::make_mut(&mut Arc::make_mut(&mut end.session).request).max_total_cost = Some(Nanos(end.cost.high.0 + 1));
    for (reason, change, law) in [
        (EndReason::DestroyedByUser, still, ""),
        (EndReason::Expired, still, "it expires at"),
        (EndReason::Expired, over, ""),
        (EndReason::HardMax, still, "its hard limit is at"),
        (EndReason::HardMax, over, ""),
        (EndReason::CostLimit, still, "it may cost what it will"),
        (EndReason::CostLimit, rich, "and may cost"),
        (EndReason::CostLimit, broke, ""),
        (EndReason::Preempted, still, "has been running since"),
        (EndReason::HostLost, still, "has been running since"),
        (EndReason::ProviderTerminated, still, "has been running since"),
        (EndReason::ProviderCredit, still, "has been running since"),
    ] {
        // That nobody was warned of it is another law.
        let found: Vec<String> =
            laws(reason, change).into_iter().filter(|wrong| !wrong.contains("told that it expires") && !wrong.contains("warned")).collect();
        assert!(if law.is_empty() { found.is_empty() } else { found.len() == 1 && found[0].contains(law) }, "{reason:?}, {law:?}: {found:?}");
    }
    // One that has really been taken for a moment is not sound yet.
    let native_id = instances[0].native_id.clone().unwrap();
    house.market.set_offline(&native_id, true);
    assert_eq!(laws(EndReason::HostLost, still), Vec::<String>::new());
    house.market.set_offline(&native_id, false);
    assert_eq!(laws(EndReason::HostLost, still), Vec::<String>::new());
}

/// A session that goes on without its machine, a stray of which nobody is told, a machine in use that ends as idle, and a second
/// machine for one session.
#[tokio::test(start_paused = true)]
async fn ghosts_untold_strays_busy_machines_that_end_as_idle_and_second_machines_are_found_out() {
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);
    let house = House::new(96, Faults::none()).await;
    let idle = Request { idle_threshold: 20 * MINUTE, ..request(any(None)) };
    let id = house.create(idle).await.unwrap().session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    let (begun, before) = (house.now(), (house.events().await, house.store().instance_list(id).await.unwrap()));
    let native_id = before.1[0].native_id.clone().unwrap();
    let witness = || {
        let story = Arc::new(Story::new(house.clock.clone(), 0));
        let market = Arc::clone(&house.market);
        let witness = Witness::new("told", tag_of(&house.deployment), market, Arc::clone(&story), house.policy.clone(), SweepPolicy::default());
        witness.launched(&native_id);
        (witness, story)
    };
    let batch = |events: &[Event], instances: &[Instance]| {
        let sessions = events.last().map(|event| Arc::clone(&event.session)).into_iter().collect();
        Batch { sessions, events: events.iter().cloned().map(Arc::new).collect(), instances: instances.to_vec(), ..Batch::default() }
    };
    let [ghost, idle, busy, double] = [(); 4].map(|()| witness());
    let label = before.1[0].label;
    busy.0.used(&native_id, Workload::Busy);
    idle.0.used(&native_id, Workload::Idle);
    for (witness, _) in [&ghost, &idle, &busy] {
        witness.committed(&batch(&before.0, &before.1));
    }
    let second = Instance { label: Label { attempt: 2, ..label }, native_id: Some("another".to_owned()), ..before.1[0].clone() };
    double.0.launched("another");
    double.0.committed(&batch(&before.0, &[before.1[0].clone(), second]));

    house.pass(2 * HOUR).await;
    assert_eq!(house.get(id).await.end_reason, Some(EndReason::Idle));
    let after = (house.events().await, house.store().instance_list(id).await.unwrap());
    for (witness, _) in [&idle, &busy] {
        witness.committed(&batch(&after.0[before.0.len()..], &after.1));
    }
    // The machine is gone by now: one witness heard of its end, and one did not.
    ghost.0.look(|_| Some(begun), None);
    house.pass(HOUR).await;
    for (witness, _) in [&ghost, &idle] {
        witness.look(|_| Some(begun), None);
    }
    let first = |(_, story): &(Arc<Witness>, Arc<Story>)| story.wrongs().first().cloned().unwrap_or_default();
    assert!(ghost.1.wrongs().iter().any(|wrong| wrong.contains("runs on although its machine is gone")), "{:?}", ghost.1.wrongs());
    assert!(first(&busy).contains("it was in use"), "{:?}", busy.1.wrongs());
    assert!(first(&double).contains("wants the machines of attempts [1, 2] at once"), "{:?}", double.1.wrongs());
    assert_eq!(first(&idle), "", "{:?}", idle.1.wrongs());

    // A machine that is there for long, and of which one witness believes that no row knows it.
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    let row = house.store().instance_list(id).await.unwrap().remove(0);
    let native_id = row.native_id.clone().unwrap();
    let [untold, told] = [(); 2].map(|()| witness());
    for (witness, _) in [&untold, &told] {
        witness.planted(&native_id, row.label, row.provider.clone(), Plant::Stray);
    }
    house.pass(HOUR).await;
    untold.0.look(|_| Some(begun), Some(&BTreeSet::new()));
    told.0.look(|_| Some(begun), Some(&BTreeSet::from([native_id])));
    assert!(first(&untold).contains("nobody is told"), "{:?}", untold.1.wrongs());
    assert_eq!(first(&told), "", "{:?}", told.1.wrongs());
}
