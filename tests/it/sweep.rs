//! Zero orphans: whatever an account shows, only what a row of ours says should be gone is destroyed unasked; strays,
//! duplicates, holds.

mod answers;
mod frozen;

use crate::support::{Altered, House, Plan, any, caller, exactly, request};
use gpu_shopper::app::tag_of;
use gpu_shopper::domain::event::EventType;
use gpu_shopper::domain::ids::{ConsumerId, Label, ProviderId, SessionId};
use gpu_shopper::domain::lifecycle::Fate;
use gpu_shopper::domain::session::{AttemptFailure, EndReason, FailoverScope, Request, State};
use gpu_shopper::domain::sweep::Caps;
use gpu_shopper::domain::time::Look;
use gpu_shopper::ports::{LaunchSpec, Provider};
use gpu_shopper::services::api::Command;
use gpu_shopper::services::lifecycle::Order;
use gpu_shopper::services::sweeper::{FindingKind, HoldKind, Strays, SweepPolicy};
use gpu_shopper::sim::{ALWAYS, Delay, Dialect, Fault, Faults, SimProvider};
use gpu_shopper::store::Batch;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn id_of(dialect: Dialect) -> ProviderId {
    ProviderId::new(dialect.word())
}

/// Somebody rents a machine on the account without telling the house.
pub async fn planted(house: &House, dialect: Dialect, label: &str) -> String {
    let provider = SimProvider::new(Arc::clone(&house.market), house.accounts[&dialect], dialect);
    let offer = provider.offers().await.unwrap().offers.into_iter().find(|o| o.min_bid.is_none() && o.gpu_count == 1).unwrap();
    let spec = LaunchSpec {
        label: Label { tag: tag_of("anything"), session: SessionId::new(house.now(), 1), attempt: 1 },
        disk_gb: offer.disk.rented_gb(None),
        offer,
        image: None,
        bid: None,
        public_keys: Vec::new(),
        env: BTreeMap::new(),
        on_start: None,
        ports: Vec::new(),
        template: None,
        service: None,
        registry: None,
    };
    let native = provider.launch(&spec).await.unwrap().native_id;
    house.market.label(house.accounts[&dialect], &native, label).unwrap();
    native
}

pub fn ours(house: &House, number: u128, attempt: u8) -> Label {
    Label { tag: tag_of(&house.deployment), session: SessionId::new(house.now(), number), attempt }
}

fn kinds(house: &House) -> Vec<(FindingKind, String)> {
    house.core().operator.findings().machines.into_iter().map(|m| (m.kind, m.sighting.native_id)).collect()
}

async fn order(house: &House, order: Order) -> Result<Option<SessionId>, &'static str> {
    house.core().operator.order(caller(), order).await.map(|done| done.session.map(|s| s.id)).map_err(|e| e.reason)
}

/// What operators have ordered; what users have is beside it.
async fn audited(house: &House) -> Vec<String> {
    let all = house.core().operator.audit(None, 100).await.unwrap().into_iter().rev().map(|(_, record)| record.action);
    all.filter(|action| !action.ends_with("_session")).collect()
}

async fn billed(house: &House, id: SessionId) {
    let (cost, bill) = (house.core().costs.session(&caller(), id).await.unwrap().total, house.bill(id));
    assert!(cost.low <= bill && bill <= cost.high, "{cost:?} {bill}");
}

async fn clean(house: &House) {
    let wrong = house.audit().await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(start_paused = true)]
async fn what_no_row_knows_is_reported_and_left_alone() {
    for dialect in Dialect::ALL {
        let house = Plan::new(21, Faults::gentle()).at(dialect).build().await;
        let label = ours(&house, 7, 1);
        let other = Label { tag: tag_of("somebody else"), ..label };
        let stray = planted(&house, dialect, &label.to_string()).await;
        let foreign = planted(&house, dialect, &other.to_string()).await;
        let near = planted(&house, dialect, &format!("{label}-x")).await;
        house.pass(3 * HOUR).await;
        let mut expected = vec![(FindingKind::Stray, stray.clone()), (FindingKind::Foreign, foreign.clone()), (FindingKind::Foreign, near)];
        let mut found = kinds(&house);
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        assert_eq!(house.alive().len(), 3, "nobody touches them");
        let shown = house.core().operator.findings().machines.into_iter().find(|m| m.kind == FindingKind::Stray).unwrap();
        assert!(shown.alarmed && shown.lists > 3 && shown.label == Some(label));
        let provider = id_of(dialect);
        let fate = Fate::Destroy;
        assert_eq!(order(&house, Order::Stray { provider: provider.clone(), native_id: foreign, fate: fate.clone() }).await, Err("NOT_OURS"));
        let nothing = Order::Stray { provider: provider.clone(), native_id: "4711".to_owned(), fate: fate.clone() };
        assert_eq!(order(&house, nothing).await, Err("STRAY_NOT_FOUND"));

        // An operator has it destroyed: its session is on record, and what it cost.
        let id = order(&house, Order::Stray { provider, native_id: stray.clone(), fate }).await.unwrap().unwrap();
        assert_eq!(id, label.session);
        let ended = house.until(id, State::Failed, 20 * MINUTE).await;
        assert_eq!((ended.end_reason, ended.cost_final), (Some(EndReason::Orphan), true));
        assert_eq!((house.alive().len(), audited(&house).await), (2, vec!["destroy_instance".to_owned()]));
        let (cost, bill) = (house.core().costs.session(&caller(), id).await.unwrap().total, house.market.bill(&stray).unwrap().total);
        assert!(cost.low <= bill && bill <= cost.high, "{cost:?} {bill}");
        assert!(house.core().operator.findings().machines.iter().all(|m| m.kind == FindingKind::Foreign));
        let rates = house.core().operator.spend_rate();
        assert!(rates[0].strays.0 == 0 && (rates[0].foreign.0 > 0 || rates[0].unpriced == 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stray_can_be_adopted() {
    for dialect in Dialect::ALL {
        let house = Plan::new(22, Faults::gentle()).at(dialect).build().await;
        let label = ours(&house, 7, 2);
        let native = planted(&house, dialect, &label.to_string()).await;
        house.pass(10 * MINUTE).await;
        let fate = Fate::Keep { consumer: ConsumerId::new("alice"), reservation: HOUR };
        let keep = || Order::Stray { provider: id_of(dialect), native_id: native.clone(), fate: fate.clone() };
        let id = order(&house, keep()).await.unwrap().unwrap();
        let kept = house.get(id).await;
        assert_eq!((kept.state, kept.request.consumer.as_str()), (State::Running, "alice"));
        assert!(kept.endpoint.is_some());
        assert_eq!(order(&house, keep()).await, Err("STRAY_NOT_FOUND"), "it is none any more");
        house.pass(HOUR + 10 * MINUTE).await;
        let ended = house.get(id).await;
        assert_eq!((ended.state, ended.end_reason), (State::Stopped, Some(EndReason::Expired)));
        clean(&house).await;
    }
}

/// Its list tells neither address nor price: both are asked for by id, and it can be used.
#[tokio::test(start_paused = true)]
async fn an_adopted_machine_is_found_by_its_id_where_the_list_says_little() {
    let house = Plan::new(36, Faults::gentle()).at(Dialect::Tensordock).wrapped(Arc::new(|provider| {
        let bare = |machine: &mut gpu_shopper::domain::instance::Sighting| {
            machine.endpoints.clear();
            machine.price = None;
        };
        Arc::new(Altered { listed: Box::new(bare), ..Altered::of(provider) })
    }));
    let house = house.build().await;
    let native = planted(&house, Dialect::Tensordock, &ours(&house, 7, 2).to_string()).await;
    house.pass(10 * MINUTE).await;
    let fate = Fate::Keep { consumer: ConsumerId::new("alice"), reservation: HOUR };
    let id = order(&house, Order::Stray { provider: id_of(Dialect::Tensordock), native_id: native, fate }).await.unwrap().unwrap();
    house.pass(5 * MINUTE).await;
    let kept = house.get(id).await;
    assert!(kept.endpoint.is_some() && kept.price.total() > gpu_shopper::domain::money::Rate::ZERO, "{kept:?}");
    let price = kept.condition(gpu_shopper::domain::session::ConditionType::PriceOk);
    assert!(price.is_none_or(|c| c.status != gpu_shopper::domain::session::Truth::False), "{price:?}");
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
    clean(&house).await;
}

/// Offline for long, and nobody has ever said where it could be knocked at: lost like one that is silent, and told of as that.
#[tokio::test(start_paused = true)]
async fn an_adopted_machine_without_an_address_is_lost_with_its_host() {
    let nowhere: crate::support::Wrap =
        Arc::new(|provider| Arc::new(Altered { machine: Box::new(|machine| machine.endpoints.clear()), ..Altered::of(provider) }));
    let house = Plan::new(37, Faults::gentle()).at(Dialect::Vastai).wrapped(nowhere).build().await;
    let native = planted(&house, Dialect::Vastai, &ours(&house, 7, 2).to_string()).await;
    house.pass(10 * MINUTE).await;
    let fate = Fate::Keep { consumer: ConsumerId::new("alice"), reservation: 2 * HOUR };
    let id = order(&house, Order::Stray { provider: id_of(Dialect::Vastai), native_id: native.clone(), fate }).await.unwrap().unwrap();
    house.pass(HOUR / 2).await;
    assert_eq!(house.get(id).await.state, State::Running, "as long as its vendor says that it runs");
    house.market.set_offline(&native, true);
    house.pass(8 * MINUTE).await;
    assert_eq!(house.get(id).await.state, State::Running, "not yet");
    house.market.set_offline(&native, false);
    house.pass(20 * MINUTE).await;
    assert_eq!(house.get(id).await.state, State::Running, "it came back");
    house.market.set_offline(&native, true);
    let ended = house.until(id, State::Failed, 20 * MINUTE).await;
    assert!(ended.end_reason == Some(EndReason::HostLost) && ended.endpoint.is_none(), "{ended:?}");
    clean(&house).await;
}

#[tokio::test(start_paused = true)]
async fn strays_are_destroyed_where_that_is_the_policy_after_their_grace() {
    let sweep = SweepPolicy { strays: Strays::Destroy, ..SweepPolicy::default() };
    let mut house = Plan { sweep, ..Plan::new(23, Faults::gentle()) }.build().await;
    let stray = ours(&house, 7, 1).to_string();
    planted(&house, Dialect::Vastai, &stray).await;
    let foreign = planted(&house, Dialect::Vastai, "somebody's own").await;
    house.pass(14 * MINUTE).await;
    assert_eq!(house.alive().len(), 2);
    house.pass(10 * MINUTE).await;
    assert_eq!(house.alive(), std::slice::from_ref(&foreign));
    // Restarts before it is over do not put it off.
    planted(&house, Dialect::Vastai, &ours(&house, 8, 1).to_string()).await;
    house.pass(8 * MINUTE).await;
    house.crash(MINUTE).await;
    assert_eq!(house.alive().len(), 2);
    house.pass(12 * MINUTE).await;
    assert_eq!(house.alive(), [foreign]);
}

#[tokio::test(start_paused = true)]
async fn one_of_two_machines_of_one_attempt_is_destroyed_and_paid() {
    for dialect in Dialect::ALL {
        let house = Plan::new(24, Faults::gentle()).at(dialect).build().await;
        let id = house.rent(None).await.session.id;
        let session = house.until(id, State::Running, 10 * MINUTE).await;
        let own = house.alive();
        let label = session.attempts[0].number;
        let twin = planted(&house, dialect, &Label { attempt: label, session: id, tag: tag_of(&house.deployment) }.to_string()).await;
        house.pass(10 * MINUTE).await;
        assert_eq!(house.alive(), own, "the one that is used stays");
        assert_eq!(house.get(id).await.state, State::Running);
        let told = house.events().await.into_iter().filter(|e| e.kind == EventType::LatecomerDestroyed).count();
        assert_eq!(told, 1);
        house.command(id, Command::Complete { bad_machine: false }).await.unwrap();
        house.until(id, State::Stopped, 10 * MINUTE).await;
        assert!(house.market.bill(&twin).is_some_and(|b| b.total.0 > 0));
        billed(&house, id).await;
    }
}

/// Whatever an operator can order reaches what is this deployment's, and nothing of another one on the same account; what
/// ends many things shows them first.
#[tokio::test(start_paused = true)]
async fn an_operators_tools_reach_their_own_deployment_only() {
    let first = Plan::new(9, Faults::gentle()).build().await;
    let plan = Plan { deployment: "another-house".to_owned(), ..Plan::new(10, Faults::gentle()) };
    let second = plan.build_on(Arc::clone(&first.market), first.accounts.clone(), first.clock.clone()).await;
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for provider in ["vastai", "tensordock"] {
        let (a, b) = (first.rent(Some(provider)).await.session.id, second.rent(Some(provider)).await.session.id);
        first.until(a, State::Running, 10 * MINUTE).await;
        second.until(b, State::Running, 10 * MINUTE).await;
        own.push(a);
        others.push(b);
    }
    first.pass(5 * MINUTE).await;
    for (provider, id) in ["vastai", "tensordock"].into_iter().zip(&others) {
        let row = second.store().instance_list(*id).await.unwrap().pop().unwrap();
        let (native_id, provider) = (row.native_id.unwrap(), ProviderId::new(provider));
        for fate in [Fate::Destroy, Fate::Keep { consumer: ConsumerId::new("alice"), reservation: HOUR }] {
            let stray = Order::Stray { provider: provider.clone(), native_id: native_id.clone(), fate };
            assert_eq!(order(&first, stray).await, Err("NOT_OURS"));
        }
        assert_eq!(order(&first, Order::Retry(row.label)).await, Err("INSTANCE_NOT_FOUND"));
        let reason = "it is not mine".to_owned();
        assert_eq!(order(&first, Order::Settle { label: row.label, reason }).await, Err("INSTANCE_NOT_FOUND"));
        assert_eq!(first.command(*id, Command::EndByOperator).await.unwrap_err().reason, "SESSION_NOT_FOUND");
    }
    let drain = &first.core().winding_up;
    let named = |drained: gpu_shopper::services::drain::Drained| drained.sessions.iter().map(|s| s.id).collect::<BTreeSet<_>>();
    let mine: BTreeSet<SessionId> = own.iter().copied().collect();
    assert_eq!(named(drain.end_all(&caller(), true).await.unwrap()), mine);
    first.pass(10 * MINUTE).await;
    assert_eq!(first.alive().len(), 4, "to be shown is not to be ended");
    assert_eq!(named(drain.end_all(&caller(), false).await.unwrap()), mine);
    for id in &own {
        first.until(*id, State::Stopped, 10 * MINUTE).await;
    }
    let _ = first.core().operator.sweep_now(None).await;
    first.pass(HOUR / 2).await;
    for id in &others {
        assert_eq!(second.get(*id).await.state, State::Running);
    }
    assert_eq!(second.alive().len(), 2);
}

/// A stray beside a session's own machines, ordered destroyed, called gone, and still there: its record says gone.
#[tokio::test(start_paused = true)]
async fn a_stray_that_was_called_gone_and_is_not_is_destroyed() {
    let refuses = Faults::gentle().with(Fault::DestroyRefused, ALWAYS);
    let house = Plan::new(24, refuses.with_delay(gpu_shopper::sim::Delay::Undeletable, HOUR)).at(Dialect::Vastai).build().await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    let own = house.alive();
    let label = Label { attempt: 4, session: id, tag: tag_of(&house.deployment) };
    let native_id = planted(&house, Dialect::Vastai, &label.to_string()).await;
    house.pass(5 * MINUTE).await;
    let provider = id_of(Dialect::Vastai);
    order(&house, Order::Stray { provider, native_id, fate: Fate::Destroy }).await.unwrap();
    house.pass(MINUTE).await;
    let owed = house.core().operator.unconfirmed_destroys().await.unwrap().pop().unwrap();
    order(&house, Order::Settle { label: owed.instance.label, reason: "I do not see it".to_owned() }).await.unwrap();
    house.market.set_faults(Faults::gentle());
    house.pass(20 * MINUTE).await;
    order(&house, Order::Lift { provider: id_of(Dialect::Vastai), kind: HoldKind::Sweeper, reason: String::new() }).await.ok();
    house.pass(HOUR).await;
    assert!(house.alive().iter().all(|id| own.contains(id)), "{:?}", house.alive());
}

/// A debt is as old as the wish: a second machine that turns up after hours is owed since it was found, not since its
/// session began.
#[tokio::test(start_paused = true)]
async fn what_is_owed_is_as_old_as_the_wish_that_it_were_gone() {
    for dialect in Dialect::ALL {
        let refuses = Faults::gentle().with(Fault::DestroyRefused, ALWAYS);
        let refuses = refuses.with_delay(gpu_shopper::sim::Delay::Undeletable, 4 * HOUR);
        let house = Plan::new(24, refuses).at(dialect).build().await;
        let id = house.create(Request { reservation: 6 * HOUR, ..request(any(None)) }).await.unwrap().session.id;
        house.until(id, State::Running, 10 * MINUTE).await;
        house.pass(2 * HOUR).await;
        let came = house.now();
        let twin = planted(&house, dialect, &Label { attempt: 1, session: id, tag: tag_of(&house.deployment) }.to_string()).await;
        house.pass(10 * MINUTE).await;
        let owed = house.core().operator.unconfirmed_destroys().await.unwrap().pop().unwrap();
        assert_eq!(owed.instance.native_id.as_ref(), Some(&twin));
        assert!(owed.since >= came && owed.age <= 10 * MINUTE, "since {}, it came at {came}", owed.since);
        house.pass(20 * MINUTE).await;
        let later = house.core().operator.unconfirmed_destroys().await.unwrap().pop().unwrap();
        assert_eq!((later.since, later.age), (owed.since, owed.age + 20 * MINUTE), "it counts on while it is tried");
        let done = house.now();
        house.command(id, Command::Destroy).await.unwrap();
        house.pass(MINUTE).await;
        let all = house.core().operator.unconfirmed_destroys().await.unwrap();
        let since = |own: bool| all.iter().find(|debt| (debt.instance.native_id.as_ref() != Some(&twin)) == own).map(|debt| debt.since);
        assert_eq!((since(true), since(false)), (Some(done), Some(owed.since)));
        house.until(id, State::Stopped, 6 * HOUR).await;
    }
}

/// A second machine of an attempt whose session is over: it comes late, and it is destroyed.
#[tokio::test(start_paused = true)]
async fn a_twin_that_comes_after_the_end_is_destroyed() {
    let house = Plan::new(25, Faults::gentle()).at(Dialect::Vastai).build().await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
    planted(&house, Dialect::Vastai, &Label { attempt: 1, session: id, tag: tag_of(&house.deployment) }.to_string()).await;
    house.pass(15 * MINUTE).await;
    assert!(house.alive().is_empty());
    let ended = house.get(id).await;
    assert_eq!((ended.state, ended.cost_final), (State::Stopped, true));
    billed(&house, id).await;
}

#[tokio::test(start_paused = true)]
async fn many_orphans_at_once_stop_the_sweeper_until_an_operator_lets_it_go_on() {
    let sweep = SweepPolicy { caps: Caps { at_least: 2, ..Caps::default() }, ..SweepPolicy::default() };
    let mut house = Plan { sweep, ..Plan::new(26, Faults::gentle()) }.on_disk().at(Dialect::Vastai).build().await;
    let mut labels = Vec::new();
    for _ in 0..3 {
        let id = house.rent(None).await.session.id;
        house.until(id, State::Running, 10 * MINUTE).await;
        house.command(id, Command::Destroy).await.unwrap();
        house.until(id, State::Stopped, 10 * MINUTE).await;
        labels.push(Label { attempt: 1, session: id, tag: tag_of(&house.deployment) });
    }
    house.core().operator.sweep_now(None).await.unwrap();
    for label in &labels {
        planted(&house, Dialect::Vastai, &label.to_string()).await;
    }
    house.pass(20 * MINUTE).await;
    assert_eq!(house.alive().len(), 3, "so many at once look like our mistake");
    let findings = house.core().operator.findings();
    assert_eq!((findings.holds.len(), findings.holds[0].kind, findings.holds[0].by.as_str()), (1, HoldKind::Sweeper, "sweeper"));
    assert!(findings.machines.iter().all(|m| m.kind == FindingKind::Orphan));
    // It survives a restart.
    house.crash(MINUTE).await;
    house.pass(20 * MINUTE).await;
    assert_eq!(house.alive().len(), 3);
    // A user's own destroy is not held.
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
    let native = house.alive();
    // Two of them are taken away by hand; the last is no longer too many.
    assert!(house.market.vanish(&native[0]) && house.market.vanish(&native[1]));
    let provider = id_of(Dialect::Vastai);
    order(&house, Order::Lift { provider: provider.clone(), kind: HoldKind::Sweeper, reason: String::new() }).await.unwrap();
    assert_eq!(order(&house, Order::Lift { provider, kind: HoldKind::Sweeper, reason: String::new() }).await, Err("HOLD_NOT_FOUND"));
    house.pass(20 * MINUTE).await;
    assert!(house.alive().is_empty());
}

#[tokio::test(start_paused = true)]
async fn holds_keep_clocks_and_launches_standing() {
    let house = Plan::new(27, Faults::gentle()).at(Dialect::Vastai).build().await;
    let provider = id_of(Dialect::Vastai);
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    let until = Some(house.now() + 3 * HOUR);
    let hold = |kind, until| Order::Hold { provider: id_of(Dialect::Vastai), kind, until, reason: "the vendor migrates".to_owned() };
    order(&house, hold(HoldKind::Expiry, until)).await.unwrap();
    order(&house, hold(HoldKind::Launches, None)).await.unwrap();
    let refused = house.create(request(any(None))).await.unwrap_err();
    assert_eq!(refused.reason, "LAUNCHES_HELD");
    assert!(refused.message.contains("the vendor migrates"));
    house.pass(2 * HOUR).await;
    assert_eq!(house.get(id).await.state, State::Running, "its reservation is over, and nothing ends by the clock");
    house.pass(HOUR + 10 * MINUTE).await;
    assert_eq!(house.get(id).await.end_reason, Some(EndReason::Expired), "the hold had an end");
    order(&house, Order::Lift { provider, kind: HoldKind::Launches, reason: String::new() }).await.unwrap();
    let next = house.rent(None).await.session.id;
    house.command(next, Command::Destroy).await.unwrap();
    house.until(next, State::Stopped, HOUR).await;
    assert_eq!(audited(&house).await, ["set_hold", "set_hold", "lift_hold"]);
    clean(&house).await;
}

/// A hold keeps a session alive beyond its end while one provider's machine does not come up; the next provider is not asked
/// for another one, which would be given up as soon as it was rented.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_its_session_ends_with_is_not_launched() {
    let mut faults = Faults::gentle();
    faults.tensordock.set_rate(Fault::ImageStuck, ALWAYS);
    let house = Plan::new(44, faults).build().await;
    let (provider, reason) = (id_of(Dialect::Tensordock), "looking".to_owned());
    order(&house, Order::Hold { provider, kind: HoldKind::Expiry, until: None, reason }).await.unwrap();
    let offer = house.core().inventory.snapshot().offers.iter().find(|o| o.provider == id_of(Dialect::Tensordock)).unwrap().id.clone();
    let mut asked = request(exactly(&offer));
    asked.failover.scope = FailoverScope::Any;
    asked.reservation = 10 * MINUTE;
    let id = house.create(asked).await.unwrap().session.id;
    house.pass(12 * MINUTE).await;
    assert_eq!(house.get(id).await.state, State::Provisioning, "its time is over, and held");
    let ended = house.until(id, State::Stopped, HOUR).await;
    assert_eq!(ended.end_reason, Some(EndReason::Expired));
    let vastai = house.market.truth().into_iter().filter(|machine| machine.dialect == Dialect::Vastai).count();
    assert_eq!((vastai, ended.attempts.len()), (0, 2), "the second attempt was intended, and nothing was launched for it");
    assert_eq!(ended.attempts[1].failure, Some(AttemptFailure::SessionEnded));
    clean(&house).await;
}

#[tokio::test(start_paused = true)]
async fn a_debt_can_be_tried_at_once_or_settled_by_word() {
    let faults = Faults::gentle().with(Fault::DestroyRefused, ALWAYS);
    let faults = faults.with_delay(gpu_shopper::sim::Delay::Undeletable, 10 * HOUR);
    let house = Plan::new(28, faults).at(Dialect::Vastai).build().await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    let label = Label { attempt: 1, session: id, tag: tag_of(&house.deployment) };
    let settle = || Order::Settle { label, reason: "seen in the console: it is gone".to_owned() };
    assert_eq!(order(&house, settle()).await, Err("INSTANCE_IN_USE"));
    assert_eq!(order(&house, Order::Retry(Label { attempt: 9, ..label })).await, Err("INSTANCE_NOT_FOUND"));
    house.command(id, Command::Destroy).await.unwrap();
    house.pass(HOUR).await;
    let tries = || async { house.core().operator.unconfirmed_destroys().await.unwrap()[0].instance.destroy.tries };
    let before = tries().await;
    order(&house, Order::Retry(label)).await.unwrap();
    house.pass(Duration::from_secs(2)).await;
    assert_eq!(tries().await, before + 1);
    order(&house, settle()).await.unwrap();
    let ended = house.until(id, State::Stopped, MINUTE).await;
    assert!(ended.cost_final);
    assert_eq!(order(&house, settle()).await, Err("DEBT_SETTLED"));
    assert_eq!(audited(&house).await, ["retry_destroy", "settle_instance"]);
    // The word was wrong: the machine is still listed, its record says gone, and it is destroyed all the same.
    house.market.set_faults(Faults::gentle());
    house.pass(11 * HOUR).await;
    assert!(house.alive().is_empty());
}

/// Other credentials in a running server may open another account: until they are proven, what is not found is not gone.
#[tokio::test(start_paused = true)]
async fn nothing_is_believed_gone_by_credentials_whose_account_is_unknown() {
    let astray = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&astray);
    let wrap: crate::support::Wrap = Arc::new(move |provider| Arc::new(Altered { astray: Arc::clone(&switch), ..Altered::of(provider) }));
    let house = Plan::new(38, Faults::gentle()).at(Dialect::Vastai).wrapped(wrap).build().await;
    let (kept, ended) = (house.rent(None).await.session.id, house.rent(None).await.session.id);
    for id in [kept, ended] {
        house.until(id, State::Running, 10 * MINUTE).await;
    }
    let renewed = async |wrong| {
        let take = || astray.store(wrong, Ordering::Relaxed);
        house.core().operator.renew(&id_of(Dialect::Vastai), take).await.unwrap();
    };
    renewed(true).await;
    house.command(ended, Command::Destroy).await.unwrap();
    house.pass(20 * MINUTE).await;
    assert_eq!(house.alive().len(), 2);
    assert_eq!((house.get(kept).await.state, house.get(ended).await.state), (State::Running, State::Stopping));
    assert_eq!(house.create(request(any(None))).await.unwrap_err().code, gpu_shopper::services::Code::Unavailable, "nothing is rented there");
    renewed(false).await;
    house.until(ended, State::Stopped, 10 * MINUTE).await;
    assert_eq!((house.alive().len(), house.get(kept).await.state), (1, State::Running));
    house.command(kept, Command::Destroy).await.unwrap();
    house.until(kept, State::Stopped, 10 * MINUTE).await;
    clean(&house).await;
}

/// A hold ends when its time is over, whether lists come or not.
#[tokio::test(start_paused = true)]
async fn a_hold_of_expiry_ends_in_time_while_lists_fail() {
    let house = Plan::new(39, Faults::gentle()).at(Dialect::Vastai).build().await;
    let id = house.rent(None).await.session.id;
    let session = house.until(id, State::Running, 10 * MINUTE).await;
    let until = Some(session.expires_at + 10 * MINUTE);
    let (provider, reason) = (id_of(Dialect::Vastai), "looking".to_owned());
    order(&house, Order::Hold { provider, kind: HoldKind::Expiry, until, reason }).await.unwrap();
    house.market.set_faults(Faults::gentle().with(Fault::ListFails, ALWAYS));
    house.pass(session.expires_at.since(house.now()) + 9 * MINUTE).await;
    assert_eq!(house.get(id).await.state, State::Running);
    house.pass(2 * MINUTE).await;
    assert_ne!(house.get(id).await.state, State::Running);
    house.market.set_faults(Faults::gentle());
    house.until(id, State::Stopped, 20 * MINUTE).await;
    clean(&house).await;
}

/// A list that takes longer than a start may is waited for all the same.
#[tokio::test(start_paused = true)]
async fn a_list_of_minutes_is_a_list() {
    let wrap: crate::support::Wrap = Arc::new(move |provider| Arc::new(Altered { list_takes: 3 * MINUTE, ..Altered::of(provider) }));
    let house = Plan::new(40, Faults::gentle()).at(Dialect::Vastai).wrapped(wrap).build().await;
    house.pass(10 * MINUTE).await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 20 * MINUTE).await;
    clean(&house).await;
}

/// A second machine that was destroyed, proven gone, and is there again after its session's end.
#[tokio::test(start_paused = true)]
async fn a_twin_that_comes_back_after_the_end_is_destroyed() {
    let house = Plan::new(41, Faults::gentle()).at(Dialect::Vastai).build().await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    let coming_back = Faults::gentle().with(Fault::DestroyComesBack, ALWAYS);
    house.market.set_faults(coming_back.with_delay(gpu_shopper::sim::Delay::Invisible, 10 * MINUTE));
    let twin = planted(&house, Dialect::Vastai, &Label { attempt: 1, session: id, tag: tag_of(&house.deployment) }.to_string()).await;
    house.pass(5 * MINUTE).await;
    house.market.set_faults(Faults::gentle());
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
    house.pass(20 * MINUTE).await;
    assert!(house.alive().is_empty(), "{twin} was there again, and is destroyed again: {:?}", house.alive());
}

/// An operator orders one of two strays with one label destroyed; lists that were under way by then show the other all the same.
#[tokio::test(start_paused = true)]
async fn of_two_strays_with_one_label_the_second_is_reported_until_it_is_gone() {
    let wrap: crate::support::Wrap =
        Arc::new(move |provider| Arc::new(Altered { answer_takes: 40 * Duration::from_secs(1), ..Altered::of(provider) }));
    let house = Plan::new(49, Faults::gentle()).at(Dialect::Vastai).wrapped(wrap).build().await;
    let label = Label { attempt: 1, session: SessionId::new(house.now(), 7), tag: tag_of(&house.deployment) }.to_string();
    let (first, second) = (planted(&house, Dialect::Vastai, &label).await, planted(&house, Dialect::Vastai, &label).await);
    house.pass(5 * MINUTE).await;
    let of = |native_id: &str| kinds(&house).iter().any(|(_, found)| found == native_id);
    assert!(of(&first) && of(&second), "{:?}", kinds(&house));
    let (provider, fate) = (id_of(Dialect::Vastai), Fate::Destroy);
    order(&house, Order::Stray { provider, native_id: first.clone(), fate }).await.unwrap();
    while house.alive().contains(&second) {
        assert!(of(&second), "alive, and nobody is told at {}: {:?}", house.now(), kinds(&house));
        house.pass(Duration::from_secs(1)).await;
    }
    house.pass(5 * MINUTE).await;
    assert_eq!((house.alive(), kinds(&house)), (vec![], vec![]));
}

/// Two servers of one deployment on one account: each has its own machines on record and sees the other's as strays.
#[tokio::test(start_paused = true)]
async fn two_servers_of_one_deployment_leave_each_others_machines_alone() {
    let one = Plan::new(33, Faults::gentle()).build().await;
    let other = Plan::new(34, Faults::gentle()).build_on(Arc::clone(&one.market), one.accounts.clone(), one.clock.clone()).await;
    let (mine, theirs) = (one.rent(Some("vastai")).await.session.id, other.rent(Some("vastai")).await.session.id);
    one.until(mine, State::Running, 10 * MINUTE).await;
    other.until(theirs, State::Running, 10 * MINUTE).await;
    one.pass(HOUR / 2).await;
    for house in [&one, &other] {
        assert_eq!(kinds(house).iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [FindingKind::Stray]);
        assert_eq!(house.alive().len(), 2);
    }
    for (house, id) in [(&one, mine), (&other, theirs)] {
        house.command(id, Command::Destroy).await.unwrap();
        house.until(id, State::Stopped, 10 * MINUTE).await;
    }
    assert_eq!(one.alive().len(), 0);
}

/// Looks have their own pace at a vendor, and their own queue: a destroy does not wait until one was answered.
#[tokio::test(start_paused = true)]
async fn a_destroy_does_not_wait_for_a_look() {
    let destroys = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&destroys);
    let wrap: crate::support::Wrap = Arc::new(move |provider| {
        let (look_takes, destroys) = (40 * Duration::from_secs(1), Arc::clone(&counted));
        Arc::new(Altered { look_takes, destroys, ..Altered::of(provider) })
    });
    let house = Plan::new(48, Faults::gentle()).at(Dialect::Vastai).wrapped(wrap).build().await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 20 * MINUTE).await;
    house.command(id, Command::Destroy).await.unwrap();
    house.pass(3 * Duration::from_secs(1)).await;
    assert_eq!((destroys.load(Ordering::SeqCst), house.alive().len()), (1, 0));
    house.until(id, State::Stopped, 20 * MINUTE).await;
    billed(&house, id).await;
    clean(&house).await;
}

#[tokio::test(start_paused = true)]
async fn a_sweep_can_be_asked_for() {
    let house = Plan::new(30, Faults::gentle()).build().await;
    planted(&house, Dialect::Vastai, "somebody's own").await;
    house.pass(Duration::from_secs(1)).await;
    assert!(kinds(&house).is_empty(), "nobody has looked since");
    let swept = house.core().operator.sweep_now(Some(&id_of(Dialect::Vastai))).await.unwrap();
    assert_eq!((swept.complete.len(), swept.findings.machines.len()), (1, 1));
    assert_eq!(house.core().operator.sweep_now(Some(&ProviderId::new("nobody"))).await.unwrap_err().reason, "INVALID_FIELD");
    house.market.set_faults(Faults::gentle().with(Fault::ListFails, ALWAYS));
    house.pass(Duration::from_secs(1)).await;
    let failed = house.core().operator.sweep_now(None).await.unwrap();
    assert_eq!((failed.complete.len(), failed.failed.len()), (0, 2));
}

/// A process whose clock was three hours ahead wrote a machine off that only seemed to be gone: in the next life, by the right time,
/// it is seen and destroyed as soon as any other.
#[tokio::test(start_paused = true)]
async fn what_a_fast_clock_has_noted_hides_no_machine() {
    let faults = Faults::gentle().with(Fault::DestroyComesBack, ALWAYS).with_delay(Delay::Invisible, 40 * Duration::from_secs(1));
    let mut house = Plan::new(43, faults).on_disk().at(Dialect::Vastai).build().await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 5 * MINUTE).await;
    house.die().await;
    let mut row = house.store().instance_list(id).await.unwrap().remove(0);
    row.settled.as_mut().unwrap().at = house.now() + 3 * HOUR;
    row.seen.as_mut().unwrap().look = Look { sent: house.now() + 3 * HOUR, answered: house.now() + 3 * HOUR };
    house.store().commit(Batch { instances: vec![row], ..Batch::default() }).await.unwrap();
    house.market.set_faults(Faults::gentle());
    house.start(None).await;
    house.pass(10 * MINUTE).await;
    assert!(house.alive().is_empty(), "{:?}", house.alive());
    let row = house.store().instance_list(id).await.unwrap().remove(0);
    assert!(row.settled.is_some_and(|settled| settled.at <= house.now()), "{row:?}");
    house.close().await;
}
