//! A few small worlds of the deterministic simulation; and its teeth: a service that follows a wrong rule is found out.
//! The built program lives hundreds of days of it.

use crate::support::House;
use gpu_shopper::app::tag_of;
use gpu_shopper::chaos::{FaultChoice, Outcome, Settings, Story, Witness, Wrong, play};
use gpu_shopper::domain::money::{Nanos, Rate};
use gpu_shopper::domain::session::{Request, State};
use gpu_shopper::services::sweeper::SweepPolicy;
use gpu_shopper::sim::Faults;
use gpu_shopper::store::Batch;
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
    let (seeds, hours) = (2..=5, 6);
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
    told.iter().for_each(|((witness, _), _)| witness.look(|_| Some(begun)));
    house.pass(20 * MINUTE).await;
    for ((witness, story), law) in &told {
        witness.look(|_| Some(begun));
        let wrongs = story.wrongs();
        assert!(if law.is_empty() { wrongs.is_empty() } else { wrongs.len() == 1 && wrongs[0].contains(law) }, "{law}: {wrongs:?}");
    }
}
