//! What the memory makes of lessons.

use super::*;
use crate::domain::offer::sample;

const NOW: Time = Time::from_millis(1_764_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const GONE: Outcome = Outcome::Failed(AttemptFailure::OfferGone);
const STUCK: Outcome = Outcome::Failed(AttemptFailure::StageTimeout);
const BROKEN: Outcome = Outcome::Failed(AttemptFailure::GpuBroken);

fn lesson(number: u8, offer: &Offer, outcome: Outcome, at: Time) -> Lesson {
    Lesson {
        gpu: None,
        session: SessionId::new(NOW, number.into()),
        attempt: 1,
        outcome,
        provider: offer.provider.clone(),
        offer: offer.id.clone(),
        machine: offer.machine.clone(),
        host: offer.host.clone(),
        own_image: false,
        at,
        text: String::new(),
    }
}

fn memory(of: &[(&Offer, Outcome)]) -> Memory {
    let mut memory = Memory::default();
    for (number, (offer, outcome)) in (1..).zip(of) {
        memory.learn(lesson(number, offer, *outcome, NOW));
    }
    memory
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 0.02
}

#[test]
fn what_nothing_is_known_of_has_its_prior() {
    let (offer, other) = (sample("a"), Offer { provider: ProviderId::new("tensordock"), ..sample("b") });
    assert_eq!(memory(&[]).confidence(&offer, NOW).to_bits(), offer.confidence.to_bits());
    assert_eq!(memory(&[(&other, STUCK)]).confidence(&offer, NOW).to_bits(), offer.confidence.to_bits());
}

/// A market where one launch in two works, half of what fails being bound to the machine: seven machines in ten are sound,
/// and of their launches seven in ten work. What is then true of a machine is what is told, near enough.
#[test]
fn a_machine_is_known_by_its_launches() {
    let offer = sample("a");
    let told = |of: &[Outcome]| memory(&of.iter().map(|o| (&offer, *o)).collect::<Vec<_>>()).confidence(&offer, NOW);
    assert!(near(told(&[STUCK]), 0.31), "{}", told(&[STUCK]));
    assert!(near(told(&[Outcome::Usable]), 0.60), "{}", told(&[Outcome::Usable]));
    let mut last = told(&[]);
    for n in 1..6 {
        let now = told(&vec![STUCK; n]);
        assert!(now < last, "each failure tells more");
        last = now;
    }
    let best = told(&[Outcome::Usable; 200]);
    assert!(best > 0.69 && best < 0.5_f64.sqrt(), "bad luck is never learnt away: {best}");
    assert!(told(&[Outcome::Usable, STUCK]) < told(&[Outcome::Usable]) && told(&[Outcome::Usable, STUCK]) > told(&[STUCK]));
}

#[test]
fn old_lessons_fade_and_market_talk_fades_sooner() {
    let offer = sample("a");
    let after = |outcome, time| memory(&[(&offer, outcome)]).confidence(&offer, NOW + time);
    for outcome in [STUCK, GONE] {
        assert!(after(outcome, Duration::ZERO) < after(outcome, 24 * HOUR) && after(outcome, 24 * HOUR) < after(outcome, 20 * 24 * HOUR));
    }
    assert!(near(after(STUCK, 20 * 24 * HOUR), 0.5) && near(after(GONE, 2 * 24 * HOUR), 0.5) && !near(after(STUCK, 2 * 24 * HOUR), 0.5));
}

#[test]
fn a_host_speaks_weakly_for_its_other_machines() {
    let host = Some(HostId::new("vastai:host-1"));
    let (bad, sibling) = (Offer { host: host.clone(), ..sample("a") }, Offer { host, ..sample("b") });
    let one = memory(&[(&bad, BROKEN)]);
    let (own, other) = (one.confidence(&bad, NOW), one.confidence(&sibling, NOW));
    assert!(other < 0.5 && own < other - 0.1, "{own} {other}");
    assert!(one.aside(&bad, NOW).is_some() && one.aside(&sibling, NOW).is_none());
    let many = memory(&[(&bad, BROKEN); 8]);
    assert!(many.confidence(&sibling, NOW) < other && many.confidence(&sibling, NOW) > 0.25);
}

/// A provider whose launches go worse than its adapter believes moves all its offers; a machine that is rented again and
/// again does not speak for the others.
#[test]
fn a_provider_is_known_by_launches_on_machines_not_known_before() {
    let machines: Vec<Offer> = (0..40).map(|n| sample(&format!("m{n}"))).collect();
    let stranger = sample("stranger");
    let mut worse = memory(&machines.iter().map(|m| (m, STUCK)).collect::<Vec<_>>());
    worse.note_mean(&stranger.provider, 0.5);
    let told = worse.confidence(&stranger, NOW);
    assert!(told > 0.1 && told < 0.25, "{told}");
    let mut one = memory(&[(&machines[0], Outcome::Usable); 40]);
    one.note_mean(&stranger.provider, 0.5);
    let told = one.confidence(&stranger, NOW);
    assert!(told > 0.5 && told < 0.58, "{told}");
    // Whatever is told stays a chance.
    let sure = Offer { confidence: 1.0, ..stranger };
    assert!((0.0..=1.0).contains(&worse.confidence(&sure, NOW)) && (0.0..=1.0).contains(&one.confidence(&sure, NOW)));
}

#[test]
fn what_failed_is_left_alone_by_what_failed_and_how_often() {
    let offer = sample("a");
    let minutes = |of: &[Outcome]| {
        let memory = memory(&of.iter().map(|o| (&offer, *o)).collect::<Vec<_>>());
        memory.aside(&offer, NOW).map_or(0, |aside| aside.until.since(NOW).as_secs() / 60)
    };
    assert_eq!(minutes(&[]), 0);
    assert_eq!([1, 2, 3, 4, 5, 9].map(|n| minutes(&vec![GONE; n])), [10, 20, 40, 80, 120, 120]);
    assert_eq!([1, 2, 3, 4].map(|n| minutes(&vec![STUCK; n])), [60, 240, 960, 1440]);
    assert_eq!([1, 2, 9].map(|n| minutes(&vec![BROKEN; n])), [360, 1440, 1440]);
    assert_eq!(minutes(&[Outcome::BadMachine]), 1440);
    assert_eq!(minutes(&[Outcome::Usable, Outcome::Lost]), 60);
    // A shorter time never cuts a longer one; a success begins the count anew.
    assert_eq!(minutes(&[BROKEN, GONE]), 360);
    assert_eq!(minutes(&[STUCK, Outcome::Usable, STUCK]), 60);
}

#[test]
fn times_end_and_belong_to_who_is_to_blame() {
    let (offer, slice) = (sample("1"), sample("2"));
    let slice = Offer { machine: offer.machine.clone(), ..slice };
    let twin = Offer { id: OfferId::new("vastai-1-spot"), rental: RentalKind::Interruptible, ..offer.clone() };
    let gone = memory(&[(&offer, GONE)]);
    assert!(gone.aside(&offer, NOW).is_some() && gone.aside(&twin, NOW).is_some(), "they are one slice");
    assert!(gone.aside(&slice, NOW).is_none(), "another slice of the machine may be free");
    let stuck = memory(&[(&offer, STUCK)]);
    assert!(stuck.aside(&slice, NOW).is_some(), "it is the machine");
    assert_eq!(stuck.aside(&offer, NOW + 59 * MINUTE).map(|a| a.why), Some(STUCK));
    assert_eq!(stuck.aside(&offer, NOW + HOUR), None);
}

#[test]
fn an_image_of_ones_own_is_blamed_with_the_machine() {
    let offer = sample("a");
    let learnt = |own_image, outcome| {
        let mut memory = Memory::default();
        memory.learn(Lesson { own_image, ..lesson(1, &offer, outcome, NOW) });
        (memory.confidence(&offer, NOW), memory.aside(&offer, NOW).unwrap().until.since(NOW))
    };
    let (mine, ours) = (learnt(true, STUCK), learnt(false, STUCK));
    assert!(mine.0 > ours.0 && mine.0 < 0.5 && mine.1 == 10 * MINUTE && ours.1 == HOUR, "{mine:?} {ours:?}");
    let lie = Outcome::Failed(AttemptFailure::GpuMismatch);
    assert_eq!(learnt(true, lie), learnt(false, lie), "no image makes a GPU lie");
}

#[test]
fn the_same_twice_is_once_and_the_past_ends() {
    let offer = sample("a");
    let mut once = Memory::default();
    for _ in 0..3 {
        once.learn(lesson(1, &offer, STUCK, NOW));
    }
    let told = once.health(NOW);
    let names: Vec<&str> = told.iter().map(|h| h.subject.name()).collect();
    assert_eq!(names, ["vastai", "vastai:a", "vastai-a"]);
    assert!(told.iter().all(|h| h.launches == 1 && h.usable == 0 && h.failures[&STUCK] == 1), "{told:?}");
    once.learn(lesson(2, &offer, Outcome::Usable, NOW + HOUR));
    once.learn(lesson(2, &offer, Outcome::BadMachine, NOW + 2 * HOUR));
    let machine = once.health(NOW + 2 * HOUR).remove(1);
    assert_eq!((machine.launches, machine.usable, machine.failures.len()), (2, 1, 2), "a complaint is no launch");
    assert_eq!(machine.last.map(|(outcome, at, _)| (outcome, at)), Some((Outcome::BadMachine, NOW + 2 * HOUR)));
    assert!(machine.aside.is_some());
    once.forget(NOW + HORIZON + MINUTE);
    assert_eq!(once.health(NOW + HORIZON).remove(1).launches, 1);
    once.forget(NOW + HORIZON + 3 * HOUR);
    assert!(once.health(NOW).is_empty() && once.log.is_empty() && once.known.is_empty() && once.asides.is_empty());
}

/// What was persisted gives the same memory again.
#[test]
fn it_is_a_fold_over_its_lessons() {
    let offers: Vec<Offer> = (0..5).map(|n| Offer { host: Some(HostId::new("h")), ..sample(&format!("m{n}")) }).collect();
    let outcomes = [GONE, Outcome::Usable, STUCK, BROKEN, Outcome::Usable, Outcome::Lost];
    let lessons: Vec<Lesson> =
        (0..60_u8).map(|n| lesson(n, &offers[usize::from(n) % 5], outcomes[usize::from(n) % 6], NOW + MINUTE * u32::from(n))).collect();
    let fold = |lessons: &[Lesson]| {
        let mut memory = Memory::default();
        lessons.iter().cloned().for_each(|lesson| memory.learn(lesson));
        memory.health(NOW + HOUR)
    };
    assert_eq!(fold(&lessons), fold(&lessons));
    assert_eq!(fold(&lessons).len(), 1 + 1 + 5 + 5);
}

#[test]
fn priors_and_ages() {
    let plain = prior(0.5, Some(0.99), Some(true), RentalKind::OnDemand);
    assert!((plain - 0.5).abs() < 1e-12 && (prior(0.5, None, None, RentalKind::OnDemand) - 0.5).abs() < 1e-12);
    for worse in [
        prior(0.5, Some(0.9), Some(true), RentalKind::OnDemand),
        prior(0.5, Some(0.99), Some(false), RentalKind::OnDemand),
        prior(0.5, Some(0.99), Some(true), RentalKind::Interruptible),
    ] {
        assert!(worse < plain && worse > 0.4, "{worse}");
    }
    assert!(prior(0.5, Some(0.0), None, RentalKind::OnDemand) > 0.0);
    let at = |seconds| (freshness(Duration::from_secs(seconds)) * 100.0).round();
    assert_eq!([0, 120, 210, 300, 86_400].map(at), [100.0, 100.0, 75.0, 50.0, 50.0]);
}

#[test]
fn words_go_both_ways() {
    let all = AttemptFailure::ALL.iter().map(|f| Outcome::Failed(*f)).chain([Outcome::Usable, Outcome::Lost, Outcome::BadMachine]);
    let mut words = BTreeSet::new();
    for outcome in all {
        assert_eq!(Outcome::from_word(outcome.word()), Some(outcome));
        assert!(words.insert(outcome.word()), "{outcome:?}");
    }
    assert_eq!(Outcome::from_word("luck"), None);
}
