//! What is learnt from launches and how the next offer is found: the failure memory, failover with its limits, and what is
//! told to whom nothing fits.

use crate::support::{Altered, House, Plan, any, caller, exactly, request};
use crate::yard::{offer, rate};
use gpu_shopper::domain::attempt::{Choice, Market, choose};
use gpu_shopper::domain::ids::{ConsumerId, OfferId, ProviderId, SessionId};
use gpu_shopper::domain::memory::{Outcome, SubjectKind};
use gpu_shopper::domain::money::{Nanos, Rate};
use gpu_shopper::domain::offer::{DiskTerms, Offer, OfferFilter, OfferOrder, Price, RentalKind};
use gpu_shopper::domain::policy::Policy;
use gpu_shopper::domain::session::{Attempt, AttemptFailure, EndReason, FailoverScope, Request, Session, Stage, State, Target};
use gpu_shopper::domain::shelf::Shelf;
use gpu_shopper::services::api::{Command, Create, HealthQuery};
use gpu_shopper::sim::{ALWAYS, Delay, Dialect, Fault, Faults, key_blob};
use gpu_shopper::store::Keep;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A market of asks where offers are fetched once, so that only what happens changes them.
fn plan(faults: Faults) -> Plan {
    Plan { refresh: Some(24 * HOUR), ..Plan::new(5, faults) }.at(Dialect::Vastai)
}

fn offers(house: &House) -> Vec<Arc<Offer>> {
    house.core().inventory.snapshot().offers.iter().cloned().collect()
}

/// The cheapest offer at a fixed price that many others could stand in for.
fn plain(house: &House) -> Arc<Offer> {
    let all = offers(house);
    let like = |o: &Offer| all.iter().filter(|other| other.gpu == o.gpu && other.gpu_count == o.gpu_count && other.rental == o.rental).count();
    let fixed = all.iter().filter(|o| o.rental == RentalKind::OnDemand && like(o) >= 4);
    fixed.min_by_key(|o| o.price(None).total()).unwrap().clone()
}

fn machines(session: &Session) -> Vec<&str> {
    session.attempts.iter().map(|a| a.offer.machine.as_str()).collect()
}

fn health(house: &House, kind: SubjectKind) -> BTreeMap<String, gpu_shopper::domain::memory::Health> {
    let query = HealthQuery { kinds: vec![kind], page_size: 1000, ..HealthQuery::default() };
    let page = house.core().inventory.health(&query).unwrap();
    page.entries.into_iter().map(|h| (h.subject.name().to_owned(), h)).collect()
}

async fn clean(house: &House) {
    let wrong = house.audit().await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// After a failed attempt an offer must fit into what is left: its host stays for a whole reservation from now on, and the whole
/// still costs no more than it may.
#[test]
fn the_next_offer_fits_into_what_is_left_of_time_and_money() {
    let begin = gpu_shopper::domain::time::Time::from_millis(1_795_000_000_000);
    let at = |name: &str, price: &str, host_end| {
        let base = Price { gpu: rate(price), ..Price::default() };
        let disk = DiskTerms { per_gb: Rate::ZERO, ..offer("vastai", name).disk };
        Arc::new(Offer { base, disk, host_end, seen_at: begin, ..offer("vastai", name) })
    };
    let shelf = Shelf::new(vec![at("leaves", "0.30", Some(begin + 100 * MINUTE)), at("stays", "0.40", None), at("dear", "0.50", None)]);
    let chosen = |now, spent: i64, most: i64| {
        let request = Request { reservation: HOUR, max_total_cost: Some(Nanos(most * 1_000_000)), ..request(any(None)) };
        let mut session = Session::new(SessionId::new(begin, 1), request, BTreeMap::new(), 12 * HOUR, begin);
        session.cost.high = Nanos(spent * 1_000_000);
        if now > begin {
            let tried = Choice { offer: at("tried", "0.20", None), disk_gb: 10 };
            session.attempts.push(Attempt { failure: Some(AttemptFailure::StageTimeout), came_to_be: true, ..attempt(tried, begin) });
        }
        let market = Market { offers: &shelf, set_aside: &[], claimed: &|_| false, closed: &|_| false, not_before: begin };
        choose(&session, &market, now).map(|choice| choice.offer.machine.to_string()).map_err(|unmet| unmet.why)
    };
    let (stays, leaves) = (Ok("vastai:stays".to_owned()), Ok("vastai:leaves".to_owned()));
    assert_eq!(chosen(begin, 0, 1_000), leaves);
    // Forty minutes and a failed attempt later its host would leave before the hour is over.
    assert_eq!(chosen(begin + 40 * MINUTE, 100, 1_000), leaves);
    assert_eq!(chosen(begin + 41 * MINUTE, 100, 1_000), stays);
    assert_eq!(chosen(begin + 41 * MINUTE, 100, 500), stays);
    let refused = chosen(begin + 41 * MINUTE, 101, 500).unwrap_err();
    assert!(refused.contains("beyond the session's own price limits"), "{refused}");
}

fn attempt(choice: Choice, at: gpu_shopper::domain::time::Time) -> Attempt {
    let Choice { offer, disk_gb } = choice;
    let (stage, text) = (Stage::Accepted, String::new());
    Attempt { number: 1, offer, disk_gb, started_at: at, stage, came_to_be: true, failure: None, text, ended_at: Some(at), cost: Nanos::ZERO }
}

// === a limit on our calls ===

#[tokio::test(start_paused = true)]
async fn a_limit_on_our_calls_blames_no_offer_and_is_waited_out() {
    let house = plan(Faults::gentle().with(Fault::TooManyRequests, ALWAYS)).build().await;
    let offer = plain(&house);
    // No failover was asked for; but nothing of the offer failed.
    let id = house.create(request(exactly(&offer.id))).await.unwrap().session.id;
    house.pass(20 * SECOND).await;
    house.market.set_fault("too_many_requests", "0").unwrap();
    let running = house.until(id, State::Running, 5 * MINUTE).await;
    let tried: Vec<_> = running.attempts.iter().map(|a| (a.offer.id.clone(), a.failure)).collect();
    assert!(tried.len() >= 3 && tried.iter().all(|(id, _)| *id == offer.id), "the same one again: {tried:?}");
    assert!(tried[..tried.len() - 1].iter().all(|(_, f)| *f == Some(AttemptFailure::RateLimited)));
    for (pair, least) in running.attempts.windows(2).zip([5, 10, 20]) {
        let waited = pair[1].started_at.since(pair[0].ended_at.unwrap());
        assert!(waited >= least * SECOND && waited < (least + 2) * SECOND, "{waited:?}");
    }
    let known = health(&house, SubjectKind::Machine);
    let machine = &known[offer.machine.as_str()];
    assert_eq!((known.len(), machine.launches, machine.usable, machine.failures.len()), (1, 1, 1, 0));
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 5 * MINUTE).await;
    clean(&house).await;
}

/// By requirements, too, the best offer stays the best; and there is an end to the patience.
#[tokio::test(start_paused = true)]
async fn a_limit_that_never_ends_is_the_end() {
    let policy = Policy { max_refused_offers: 6, ..Policy::default() };
    let house = Plan { policy, ..plan(Faults::gentle().with(Fault::TooManyRequests, ALWAYS)) }.build().await;
    let id = house.rent(None).await.session.id;
    let ended = house.reach(id, None, HOUR).await;
    assert_eq!((ended.end_reason, ended.attempts.len()), (Some(EndReason::NoCapacity), 6));
    assert_eq!(machines(&ended).iter().collect::<BTreeSet<_>>().len(), 1, "no machine is at fault");
    assert_eq!(ended.stopped_at.unwrap().since(ended.created_at).as_secs() / 60, (5 + 10 + 20 + 40 + 60) / 60);
    assert!(health(&house, SubjectKind::Machine).is_empty());
    clean(&house).await;
}

// === one slice, two offers ===

#[tokio::test(start_paused = true)]
async fn an_offer_and_its_twin_by_a_bid_are_one() {
    // Answers take their time, so that there is one between the wish and the rental.
    let house = plan(Faults::gentle().with_delay(Delay::Latency, 2 * SECOND)).build().await;
    let offer = plain(&house);
    let twin = OfferId::new(&format!("{}-spot", offer.id));
    assert!(house.core().inventory.get(&twin).is_ok(), "both are offered");
    let id = house.create(request(exactly(&offer.id))).await.unwrap().session.id;
    let mut other = request(exactly(&twin));
    other.consumer = ConsumerId::new("somebody");
    let refused = house.create(other.clone()).await.unwrap_err();
    assert!(refused.reason == "NO_CAPACITY" && refused.message.contains("taken by another session"), "{refused:?}");
    let mine = house.create(request(exactly(&twin))).await.unwrap_err();
    assert_eq!((mine.reason, mine.metadata["session_id"].as_str()), ("SESSION_EXISTS", id.to_string().as_str()));
    // Once it is rented it is on nobody's list.
    house.until(id, State::Running, 5 * MINUTE).await;
    assert_eq!(house.create(other.clone()).await.unwrap_err().reason, "OFFER_NOT_FOUND");
    let mine = house.create(request(exactly(&twin))).await.unwrap_err();
    assert_eq!(mine.reason, "SESSION_EXISTS");
    // By requirements neither is chosen.
    let only = OfferFilter { gpu_models: vec![offer.gpu.clone()], rental: Some(RentalKind::Interruptible), ..OfferFilter::default() };
    other.target = Target::Requirements { filter: Box::new(only), order: OfferOrder::Price };
    let elsewhere = house.create(other).await.unwrap().session.id;
    let running = house.until(elsewhere, State::Running, 5 * MINUTE).await;
    assert_ne!(running.offer().unwrap().id, twin);
    for id in [id, elsewhere] {
        house.command(id, Command::Destroy).await.unwrap();
        house.until(id, State::Stopped, 5 * MINUTE).await;
    }
    clean(&house).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_ask_is_gone_from_every_view_with_its_twin() {
    let house = plan(Faults::gentle().with(Fault::StaleAsk, ALWAYS)).build().await;
    let offer = plain(&house);
    let id = house.create(request(exactly(&offer.id))).await.unwrap().session.id;
    assert_eq!(house.until(id, State::Failed, 5 * MINUTE).await.attempts[0].failure, Some(AttemptFailure::OfferGone));
    for gone in [offer.id.clone(), OfferId::new(&format!("{}-spot", offer.id))] {
        assert_eq!(house.core().inventory.get(&gone).unwrap_err().reason, "OFFER_NOT_FOUND");
        assert!(!offers(&house).iter().any(|o| o.id == gone));
    }
    clean(&house).await;
}

// === the memory ===

#[tokio::test(start_paused = true)]
async fn what_failed_is_set_aside_for_everybody_over_a_restart_and_comes_back() {
    let mut house = plan(Faults::gentle()).on_disk().build().await;
    let offer = plain(&house);
    house.market.set_fault("key_never", "1").unwrap();
    let id = house.create(request(exactly(&offer.id))).await.unwrap().session.id;
    let ended = house.until(id, State::Failed, HOUR).await;
    assert_eq!(ended.attempts[0].failure, Some(AttemptFailure::AuthFailed));
    house.market.set_fault("key_never", "0").unwrap();
    let failed_at = ended.attempts[0].ended_at.unwrap();
    house.core().inventory.refresh(&offer.provider).await.unwrap();
    let hidden = |house: &House| !offers(house).iter().any(|o| o.machine == offer.machine);
    // The ask itself comes back under a new id when its machine is free again; the machine is remembered.
    house.pass(5 * MINUTE).await;
    for restart in [false, true] {
        if restart {
            house.crash(MINUTE).await;
        }
        house.core().inventory.refresh(&offer.provider).await.unwrap();
        assert!(hidden(&house), "restarted: {restart}");
        let aside = house.core().inventory.snapshot().set_aside.iter().find(|o| o.machine == offer.machine).cloned().unwrap();
        let told = house.core().inventory.get(&aside.id).unwrap_err();
        assert!(told.reason == "OFFER_NOT_FOUND" && told.message.contains("set aside until") && told.message.contains("auth_failed"), "{told:?}");
        let machine = &health(&house, SubjectKind::Machine)[offer.machine.as_str()];
        assert_eq!((machine.launches, machine.usable), (1, 0));
        assert_eq!(machine.aside.unwrap().until, failed_at + 6 * HOUR);
        let host = health(&house, SubjectKind::Host);
        assert_eq!(host[offer.host.as_ref().unwrap().as_str()].failures[&Outcome::Failed(AttemptFailure::AuthFailed)], 1);
        assert_eq!(health(&house, SubjectKind::Provider)["vastai"].launches, 1);
    }
    house.clock.sleep_until(failed_at + 6 * HOUR).await;
    house.core().inventory.refresh(&offer.provider).await.unwrap();
    assert!(!hidden(&house));
    let back = offers(&house).iter().find(|o| o.machine == offer.machine && o.rental == offer.rental).unwrap().confidence;
    assert!(back < offer.confidence * 0.8, "shown again, and not trusted yet: {back} after {}", offer.confidence);
    // Nothing is learnt twice by having been on disk, and what is too old is not kept there.
    let lessons = house.store().lesson_list(ended.created_at).await.unwrap();
    assert_eq!(lessons.iter().map(|l| (l.session, l.attempt, l.outcome)).collect::<Vec<_>>(), [(id, 1, Outcome::Failed(AttemptFailure::AuthFailed))]);
    let trimmed = house.store().trim(house.now(), Keep { lesson_age: HOUR, ..Keep::default() }).await.unwrap();
    assert_eq!((trimmed.lessons, house.store().lesson_list(ended.created_at).await.unwrap().len()), (1, 0));
    clean(&house).await;
}

/// A vendor gives a machine that is free again another id; it is known by its own. Each time that it fails anew it is left alone
/// for longer and believed less, over restarts; once it has worked, that begins anew.
#[tokio::test(start_paused = true)]
async fn a_machine_that_fails_again_under_another_id_is_left_alone_for_longer() {
    let mut house = plan(Faults::gentle()).on_disk().build().await;
    let (all, stays) = (offers(&house), house.now() + 50 * HOUR);
    let slices = |o: &Offer| all.iter().filter(|other| other.machine == o.machine && other.rental == o.rental).count();
    let lasting = |o: &&Arc<Offer>| o.rental == RentalKind::OnDemand && slices(o) == 1 && o.host_end.is_none_or(|end| end > stays);
    let first = all.iter().filter(lasting).min_by_key(|o| o.price(None).total()).unwrap().clone();
    let (mut ids, mut chances, mut free_at) = (BTreeSet::new(), Vec::new(), house.now());
    // What becomes of each launch, and how many hours the machine is left alone for it.
    for (works, hours) in [(false, 6), (false, 24), (true, 0), (false, 6)] {
        house.clock.sleep_until(free_at).await;
        house.core().inventory.refresh(&first.provider).await.unwrap();
        let offer = offers(&house).into_iter().find(|o| o.machine == first.machine && o.rental == first.rental).unwrap();
        house.market.set_fault("driver_missing", if works { "0" } else { "1" }).unwrap();
        let id = house.create(request(exactly(&offer.id))).await.unwrap().session.id;
        let session = house.reach(id, Some(State::Running), HOUR).await;
        if works {
            assert_eq!(session.state, State::Running, "{}", session.status_message);
            house.command(id, Command::Complete { bad_machine: false }).await.unwrap();
            house.until(id, State::Stopped, 5 * MINUTE).await;
            free_at = house.now() + 2 * MINUTE;
        } else {
            assert_eq!((session.state, session.attempts[0].failure), (State::Failed, Some(AttemptFailure::GpuBroken)));
            free_at = session.attempts[0].ended_at.unwrap() + hours * HOUR;
        }
        house.crash(MINUTE).await;
        let machine = &health(&house, SubjectKind::Machine)[first.machine.as_str()];
        assert_eq!(machine.aside.map(|a| a.until), (!works).then_some(free_at), "launch {} of it", machine.launches);
        chances.push(machine.confidence);
        ids.insert(offer.id.clone());
    }
    assert_eq!(ids.len(), 4, "{ids:?}");
    assert!(chances[1] < chances[0] && chances[2] > chances[1] && chances[3] < chances[2], "{chances:?}");
    let machine = &health(&house, SubjectKind::Machine)[first.machine.as_str()];
    assert_eq!((machine.launches, machine.usable, machine.failures[&Outcome::Failed(AttemptFailure::GpuBroken)]), (4, 1, 3));
    clean(&house).await;
}

#[tokio::test(start_paused = true)]
async fn an_observing_memory_changes_nothing() {
    let policy = Policy { memory_acts: false, ..Policy::default() };
    let house = Plan { policy, ..plan(Faults::gentle().with(Fault::GpuLies, ALWAYS)) }.build().await;
    let offer = plain(&house);
    let id = house.create(request(exactly(&offer.id))).await.unwrap().session.id;
    assert_eq!(house.until(id, State::Failed, HOUR).await.attempts[0].failure, Some(AttemptFailure::GpuMismatch));
    house.pass(10 * MINUTE).await;
    house.core().inventory.refresh(&offer.provider).await.unwrap();
    let back = offers(&house).iter().find(|o| o.machine == offer.machine && o.rental == offer.rental).unwrap().confidence;
    assert_eq!(back.to_bits(), offer.confidence.to_bits());
    let page = house.core().inventory.health(&HealthQuery { kinds: vec![SubjectKind::Machine], ..HealthQuery::default() }).unwrap();
    assert!(!page.acts && page.entries.len() == 1 && page.entries[0].launches == 1, "{page:?}");
    clean(&house).await;
}

/// A machine that is handed over counts for it; one that is taken away or called bad, against it.
#[tokio::test(start_paused = true)]
async fn successes_and_complaints_count() {
    let house = plan(Faults::gentle()).build().await;
    let (mut good, mut told) = (Vec::new(), Vec::new());
    for complaint in [false, true] {
        let id = house.rent(None).await.session.id;
        let running = house.until(id, State::Running, 5 * MINUTE).await;
        good.push(running.offer().unwrap().clone());
        house.command(id, Command::Complete { bad_machine: complaint }).await.unwrap();
        house.until(id, State::Stopped, 5 * MINUTE).await;
        // Told twice is told once.
        house.command(id, Command::Complete { bad_machine: complaint }).await.unwrap();
    }
    let id = house.rent(None).await.session.id;
    good.push(house.until(id, State::Running, 5 * MINUTE).await.offer().unwrap().clone());
    assert!(house.market.vanish(&house.alive()[0]));
    house.until(id, State::Failed, HOUR).await;
    let known = health(&house, SubjectKind::Machine);
    for offer in &good {
        let machine = &known[offer.machine.as_str()];
        told.push((machine.launches, machine.usable, machine.failures.keys().copied().collect::<Vec<_>>(), machine.aside.is_some()));
    }
    assert_eq!(told, [(1, 1, vec![], false), (1, 1, vec![Outcome::BadMachine], true), (1, 1, vec![Outcome::Lost], true)]);
    assert!(known[good[0].machine.as_str()].confidence > known[good[2].machine.as_str()].confidence);
    assert_eq!(health(&house, SubjectKind::Provider)["vastai"].launches, 3);
    clean(&house).await;
}

#[tokio::test(start_paused = true)]
async fn the_memory_is_told_by_pages() {
    let house = plan(Faults::gentle().with(Fault::StaleAsk, ALWAYS)).build().await;
    let id = house.rent(None).await.session.id;
    let ended = house.reach(id, None, HOUR).await;
    assert_eq!(ended.attempts.len(), 25);
    let mut query = HealthQuery { page_size: 7, kinds: vec![SubjectKind::Machine, SubjectKind::Offer], ..HealthQuery::default() };
    let mut names = Vec::new();
    loop {
        let page = house.core().inventory.health(&query).unwrap();
        assert_eq!(page.total, 50);
        names.extend(page.entries.iter().map(|h| h.subject.name().to_owned()));
        query.page_token = page.next_page_token;
        if query.page_token.is_empty() {
            break;
        }
    }
    let mut expected: Vec<String> = machines(&ended).into_iter().map(str::to_owned).collect();
    expected.sort();
    let mut offers: Vec<String> = ended.attempts.iter().map(|a| a.offer.id.slice().to_string()).collect();
    offers.sort();
    expected.extend(offers);
    assert_eq!(names, expected);
    let aside = HealthQuery { set_aside_only: true, page_size: 1000, ..HealthQuery::default() };
    let page = house.core().inventory.health(&aside).unwrap();
    assert_eq!(page.total, 25, "an ask that is gone says little about its machine");
    assert!(page.entries.iter().all(|h| h.subject.kind() == SubjectKind::Offer));
    let gpu = ended.attempts[0].offer.gpu.clone();
    let launched = ended.attempts.iter().filter(|a| a.offer.gpu == gpu).count();
    let of_gpu = HealthQuery { gpu_models: vec![gpu.clone()], kinds: vec![SubjectKind::Offer], page_size: 1000, ..HealthQuery::default() };
    let page = house.core().inventory.health(&of_gpu).unwrap();
    assert_eq!((page.total, launched > 0), (launched, true));
    assert!(page.entries.iter().all(|h| h.gpus == [gpu.clone()]));
    let none = HealthQuery { provider: Some(ProviderId::new("tensordock")), ..HealthQuery::default() };
    assert_eq!(house.core().inventory.health(&none).unwrap().total, 0);
    for bad in ["x", "aDEuMC4w"] {
        let error = house.core().inventory.health(&HealthQuery { page_token: bad.to_owned(), ..HealthQuery::default() }).unwrap_err();
        assert_eq!(error.violations[0].field, "page_token");
    }
    clean(&house).await;
}

// === failover ===

/// Every ask is gone: all that may be tried is.
async fn exhausted(scope: FailoverScope, change: impl FnOnce(&mut gpu_shopper::domain::session::Request, &Offer)) -> (Arc<Session>, House) {
    let house = plan(Faults::gentle().with(Fault::StaleAsk, ALWAYS)).build().await;
    let offer = plain(&house);
    let mut wanted = request(exactly(&offer.id));
    wanted.failover.scope = scope;
    change(&mut wanted, &offer);
    let id = house.create(wanted).await.unwrap().session.id;
    let ended = house.reach(id, None, HOUR).await;
    assert_eq!((ended.state, ended.end_reason), (State::Failed, Some(EndReason::NoCapacity)));
    assert_eq!(ended.attempts[0].offer.id, offer.id);
    let labels = house.witness.launches();
    assert!(labels.len() == ended.attempts.len() && labels.iter().all(|l| l.session == id), "one session, whatever it tries");
    assert_eq!(machines(&ended).iter().collect::<BTreeSet<_>>().len(), ended.attempts.len(), "no machine twice");
    clean(&house).await;
    (ended, house)
}

#[tokio::test(start_paused = true)]
async fn each_scope_looks_as_widely_as_it_says() {
    let (ended, _) = exhausted(FailoverScope::None, |_, _| {}).await;
    assert_eq!(ended.attempts.len(), 1);
    let kinds = |ended: &Session| ended.attempts.iter().map(|a| a.offer.gpu.to_string()).collect::<BTreeSet<_>>().len();
    let (ended, _) = exhausted(FailoverScope::SameGpu, |_, _| {}).await;
    let first = &ended.attempts[0].offer;
    assert!(ended.attempts.len() > 3 && ended.attempts.iter().all(|a| a.offer.gpu == first.gpu && a.offer.gpu_count == first.gpu_count));
    let (ended, house) = exhausted(FailoverScope::SameMemory, |wanted, _| wanted.disk_gb = Some(20)).await;
    let first = &ended.attempts[0].offer;
    assert!(
        kinds(&ended) > 1 && ended.attempts.iter().all(|a| a.offer.gpu_memory_mib >= first.gpu_memory_mib && a.offer.gpu_count >= first.gpu_count)
    );
    let (wide, _) = exhausted(FailoverScope::Any, |_, _| {}).await;
    assert!(kinds(&wide) > 1 && wide.attempts.len() == 25, "as many refusals as are allowed");
    assert!(wide.attempts.iter().all(|a| a.offer.rental == RentalKind::OnDemand), "nobody asked for a bid");
    drop(house);
}

#[tokio::test(start_paused = true)]
async fn no_next_offer_is_dearer_than_allowed() {
    let limit = |offer: &Offer| Rate(offer.price(None).total().0 * 11 / 10);
    let (ended, _) = exhausted(FailoverScope::Any, |wanted, offer| wanted.failover.max_price = Some(limit(offer))).await;
    let most = limit(&ended.attempts[0].offer);
    assert!(ended.attempts.len() > 1 && ended.attempts.len() < 25, "{}", ended.attempts.len());
    assert!(ended.attempts.iter().all(|a| a.offer.price(Some(a.disk_gb)).total() <= most));
    assert!(ended.status_message.contains("beyond the session's own price limits"), "{}", ended.status_message);
}

/// The machine of one provider never comes up: the next attempt is at the other one, under the same session, and runs there; the
/// session costs what both have cost.
#[tokio::test(start_paused = true)]
async fn a_session_moves_to_the_other_provider_and_runs_there() {
    let mut faults = Faults::gentle();
    faults.tensordock.set_rate(Fault::BootFails, ALWAYS);
    let house = Plan::new(6, faults).build().await;
    let at = |offer: &Offer, dialect: Dialect| offer.provider.as_str() == dialect.word();
    let first = offers(&house).into_iter().find(|o| at(o, Dialect::Tensordock)).unwrap();
    let mut wanted = request(exactly(&first.id));
    (wanted.failover.scope, wanted.reservation) = (FailoverScope::Any, 6 * HOUR);
    let id = house.create(wanted).await.unwrap().session.id;
    let running = house.until(id, State::Running, 5 * HOUR).await;
    let (last, before) = running.attempts.split_last().unwrap();
    assert!(at(&last.offer, Dialect::Vastai) && at(&before[0].offer, Dialect::Tensordock));
    assert!(running.endpoint.is_some() && running.price == last.offer.price(Some(last.disk_gb)));
    let machine = house.store().instance_list(id).await.unwrap().into_iter().find(|row| row.label.attempt == last.number).unwrap();
    let key = key_blob(&running.request.public_key).unwrap();
    assert!(house.market.admits(machine.native_id.as_deref().unwrap(), &key), "the session's one key opens the last machine, too");
    house.pass(HOUR).await;
    house.command(id, Command::Complete { bad_machine: false }).await.unwrap();
    let ended = house.until(id, State::Stopped, 30 * MINUTE).await;
    let (cost, bill) = (ended.cost, house.bill(id));
    assert!(cost.low <= bill && bill <= cost.high, "{cost:?} {bill}");
    assert!(ended.attempts[0].came_to_be, "its machine was there, and is in the bill");
    assert_eq!(ended.attempts.iter().map(|a| a.cost).sum::<Nanos>(), cost.cost);
    clean(&house).await;
}

/// A machine that is gone while it starts ends its attempt when lists and a look agree, not when a budget is over.
#[tokio::test(start_paused = true)]
async fn a_machine_that_vanishes_while_it_starts_ends_its_attempt_within_minutes() {
    let house = Plan::new(7, Faults::gentle().with(Fault::ImageStuck, ALWAYS)).at(Dialect::Vastai).build().await;
    let mut wanted = request(any(None));
    wanted.failover.max_attempts = 2;
    let id = house.create(wanted).await.unwrap().session.id;
    house.pass(3 * MINUTE).await;
    let machine = house.store().instance_list(id).await.unwrap().remove(0).native_id.unwrap();
    assert!(house.market.vanish(&machine));
    house.market.set_faults(Faults::gentle());
    house.pass(5 * MINUTE).await;
    let session = house.get(id).await;
    assert_eq!(session.attempts[0].failure, Some(AttemptFailure::InstanceVanished), "{}", session.status_message);
    let running = house.until(id, State::Running, 20 * MINUTE).await;
    assert_eq!(running.attempts.len(), 2);
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 30 * MINUTE).await;
    clean(&house).await;
}

#[tokio::test(start_paused = true)]
async fn machines_and_refusals_are_counted_apart() {
    for most in [1, 3] {
        let house = plan(Faults::gentle().with(Fault::BootFails, ALWAYS)).build().await;
        let mut wanted = request(any(None));
        wanted.failover.max_attempts = most;
        let id = house.create(wanted).await.unwrap().session.id;
        let ended = house.reach(id, None, 2 * HOUR).await;
        assert_eq!((ended.end_reason, ended.attempts.len()), (Some(EndReason::ProvisionFailed), usize::from(most)));
        assert!(ended.attempts.iter().all(|a| a.came_to_be));
        clean(&house).await;
    }
    let policy = Policy { max_refused_offers: 4, ..Policy::default() };
    let house = Plan { policy, ..plan(Faults::gentle().with(Fault::StaleAsk, ALWAYS)) }.build().await;
    let mut wanted = request(any(None));
    wanted.failover.max_attempts = 1;
    let id = house.create(wanted).await.unwrap().session.id;
    let ended = house.reach(id, None, HOUR).await;
    assert_eq!((ended.end_reason, ended.attempts.len()), (Some(EndReason::NoCapacity), 4));
    clean(&house).await;
}

// === why not ===

#[tokio::test(start_paused = true)]
async fn who_gets_nothing_hears_what_would_help_and_it_does() {
    let house = plan(Faults::gentle()).build().await;
    let cheapest = offers(&house).iter().filter(|o| o.gpu_memory_mib >= 80_000).map(|o| o.price(None).total()).min().unwrap();
    let filter = OfferFilter { min_gpu_memory_mib: Some(80_000), max_price: Some(Rate(cheapest.0 / 2)), ..OfferFilter::default() };
    let ask = |filter: &OfferFilter| request(Target::Requirements { filter: Box::new(filter.clone()), order: OfferOrder::ExpectedCost });
    let refused = house.create(ask(&filter)).await.unwrap_err();
    assert_eq!(refused.reason, "NO_CAPACITY");
    assert!(refused.metadata["removed_by"].contains("min_gpu_memory_mib="), "{refused:?}");
    assert!(refused.message.contains("turns away") && refused.message.contains(&refused.metadata["relax_field"]), "{refused:?}");
    let told = house.core().inventory.explain(&filter).unwrap();
    assert_eq!((told.explanation.passing, told.set_aside), (0, 0));
    assert!(told.explanation.relaxations.iter().any(|r| r.field == "max_price_per_hour"));
    for r in &told.explanation.relaxations {
        let create = Create {
            request: ask(&r.filter),
            labels: BTreeMap::new(),
            secrets: Default::default(),
            template: None,
            validate_only: true,
            idempotency: None,
            private_key: None,
        };
        house.core().lifecycle.create(caller(), create).await.unwrap();
    }
    let unknown = OfferFilter { providers: vec![ProviderId::new("acme")], ..OfferFilter::default() };
    assert_eq!(house.core().inventory.explain(&unknown).unwrap_err().violations[0].field, "filter.providers");
    clean(&house).await;
}

/// What keeps out the offers that would pass is told by its name.
#[tokio::test(start_paused = true)]
async fn what_is_set_aside_tried_or_taken_is_said_so() {
    let house = plan(Faults::gentle().with(Fault::DriverMissing, ALWAYS)).build().await;
    let offer = plain(&house);
    let only = OfferFilter {
        gpu_models: vec![offer.gpu.clone()],
        gpu_count: Some(offer.gpu_count),
        rental: Some(RentalKind::OnDemand),
        ..OfferFilter::default()
    };
    let ask = || request(Target::Requirements { filter: Box::new(only.clone()), order: OfferOrder::Price });
    let there = offers(&house).iter().filter(|o| only.check(o).is_ok()).count();
    let mut wanted = ask();
    wanted.failover.max_attempts = 20;
    let id = house.create(wanted).await.unwrap().session.id;
    let ended = house.reach(id, None, 12 * HOUR).await;
    assert_eq!(ended.state, State::Failed);
    // Their machines are offered again, under other ids.
    house.pass(10 * MINUTE).await;
    house.core().inventory.refresh(&offer.provider).await.unwrap();
    let refused = house.create(ask()).await.unwrap_err();
    assert!(refused.message.contains("set aside for what happened there lately"), "{}", refused.message);
    let told = house.core().inventory.explain(&only).unwrap();
    assert!(told.set_aside >= 1 && told.set_aside <= there && told.set_aside_until.is_some_and(|t| t > house.now()));
    clean(&house).await;
}

// === bids and disks ===

/// The cheapest machine on a bid.
fn on_a_bid(house: &House) -> Arc<Offer> {
    let all = offers(house);
    let spots = all.iter().filter(|o| o.rental == RentalKind::Interruptible && o.min_bid.is_some_and(|least| least > Rate::from_nanos(20_000_000)));
    spots.min_by_key(|o| o.price(None).total()).unwrap().clone()
}

fn violation(error: &gpu_shopper::services::Error) -> (&str, &str) {
    (error.reason, error.violations.first().map_or("", |v| v.field.as_str()))
}

#[tokio::test(start_paused = true)]
async fn a_machine_on_a_bid_costs_what_is_bid_for_it() {
    let house = plan(Faults::gentle()).build().await;
    let offer = on_a_bid(&house);
    let least = offer.min_bid.unwrap();
    let bid = least.scaled(3, 2);
    let disk = offer.price(None).disk;
    let at = |bid: Rate| gpu_shopper::domain::session::Request { bid: Some(bid), ..request(exactly(&offer.id)) };

    // What would break a limit at this bid is refused, whatever the lowest bid is.
    let mut capped = at(bid);
    capped.max_price = Some(least + disk);
    assert_eq!(house.create(capped).await.unwrap_err().reason, "PRICE_ABOVE_LIMIT");
    let low = house.create(at(least.scaled(1, 2))).await.unwrap_err();
    assert_eq!(violation(&low), ("INVALID_FIELD", "bid"), "{low:?}");
    assert!(low.message.contains(&least.to_string()), "{low:?}");
    let mut fixed = request(exactly(&plain(&house).id));
    fixed.bid = Some(bid);
    let fixed = house.create(fixed).await.unwrap_err();
    assert_eq!(violation(&fixed), ("INVALID_FIELD", "bid"), "{fixed:?}");

    let id = house.create(at(bid)).await.unwrap().session.id;
    let running = house.until(id, State::Running, 20 * MINUTE).await;
    assert_eq!((running.attempts.len(), running.price.total()), (1, bid + disk));
    house.pass(HOUR / 2).await;
    house.command(id, Command::Complete { bad_machine: false }).await.unwrap();
    house.until(id, State::Stopped, 5 * MINUTE).await;
    clean(&house).await;
}

#[tokio::test(start_paused = true)]
async fn a_bid_that_wins_nothing_rents_nothing_and_blames_nobody() {
    let house = plan(Faults::gentle()).build().await;
    let filter = OfferFilter { rental: Some(RentalKind::Interruptible), ..OfferFilter::default() };
    let mut wanted = request(Target::Requirements { filter: Box::new(filter), order: OfferOrder::Price });
    wanted.bid = Some(Rate::from_nanos(1));
    let refused = house.create(wanted).await.unwrap_err();
    assert!(refused.reason == "NO_CAPACITY" && refused.message.contains("only higher bids"), "{refused:?}");
    assert!(house.market.truth().is_empty() && health(&house, SubjectKind::Machine).is_empty());
}

/// The machine came and never started: its bid was outdated, which is not its fault.
#[tokio::test(start_paused = true)]
async fn a_bid_that_has_been_overtaken_is_the_offers_end_and_not_the_machines() {
    let house = plan(Faults::gentle())
        .wrapped(Arc::new(|provider| {
            let overtaken = |offers: &mut Vec<Offer>| {
                for offer in offers.iter_mut().filter(|o| o.min_bid.is_some()) {
                    let was = offer.min_bid.unwrap_or_default().scaled(1, 2);
                    (offer.min_bid, offer.base.gpu) = (Some(was), was);
                }
            };
            Arc::new(Altered { offers: Box::new(overtaken), ..Altered::of(provider) })
        }))
        .build()
        .await;
    let offer = on_a_bid(&house);
    let id = house.create(request(exactly(&offer.id))).await.unwrap().session.id;
    let ended = house.until(id, State::Failed, 20 * MINUTE).await;
    assert_eq!((ended.end_reason, ended.attempts[0].failure), (Some(EndReason::NoCapacity), Some(AttemptFailure::Outbid)));
    let machine = &health(&house, SubjectKind::Machine)[offer.machine.as_str()];
    assert!(machine.aside.is_none(), "{machine:?}");
    assert!(house.core().inventory.get(&offer.id).is_err(), "the offer itself is gone for now");
    clean(&house).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_larger_than_an_offer_has_is_refused_where_it_is_asked_for() {
    let house = plan(Faults::gentle()).build().await;
    let offer = plain(&house);
    let too_much = offer.disk.max_gb + 1;
    let mut wanted = request(exactly(&offer.id));
    wanted.disk_gb = Some(too_much);
    let refused = house.create(wanted).await.unwrap_err();
    assert_eq!(violation(&refused), ("INVALID_FIELD", "disk_gb"), "{refused:?}");
    let shown = house.core().inventory.get_with_disk(&offer.id, Some(too_much)).unwrap_err();
    assert_eq!(violation(&shown), ("INVALID_FIELD", "disk_gb"));
    assert!(house.core().inventory.get_with_disk(&offer.id, Some(offer.disk.max_gb)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_rented_is_on_nobodys_list_from_then_on() {
    let house = plan(Faults::gentle()).build().await;
    let offer = plain(&house);
    let id = house.create(request(exactly(&offer.id))).await.unwrap().session.id;
    house.until(id, State::Running, 20 * MINUTE).await;
    assert!(!offers(&house).iter().any(|o| o.id.slice() == offer.id.slice()), "offers are fetched once a day here");
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 5 * MINUTE).await;
    clean(&house).await;
}
