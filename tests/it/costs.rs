//! What sessions cost: every report is the same integers, however it is cut; every way to end is paid for; and the market's
//! own bill lies between the bounds.

use crate::support::{BEGIN, House, any, caller, request};
use crate::yard;
use futures::future::join_all;
use gpu_shopper::app::Core;
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::ids::{ConsumerId, ProviderId, SessionId};
use gpu_shopper::domain::meter::{Amount, Segment, Window};
use gpu_shopper::domain::money::{Nanos, Rate};
use gpu_shopper::domain::offer::{Component, OfferFilter, OfferOrder, RentalKind};
use gpu_shopper::domain::policy::Policy;
use gpu_shopper::domain::session::{EndReason, FailoverScope, Request, State, Target};
use gpu_shopper::domain::time::Time;
use gpu_shopper::ports::Provider;
use gpu_shopper::services::api::{Caller, Command, CostQuery, CostReport, Create, GroupBy, LedgerEntry};
use gpu_shopper::services::costs::Accrued;
use gpu_shopper::services::error::Code;
use gpu_shopper::services::lookout::Rhythm;
use gpu_shopper::sim::{Credentials, Delay, Dialect, Fault, Faults, Market, MarketConfig, SimProbe, SimProvider};
use gpu_shopper::store::Store;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Without the yardstick for "estimated", which is no sum.
fn sums(amount: Amount) -> (Nanos, Nanos, Nanos) {
    (amount.cost, amount.low, amount.high)
}

fn added(report: &CostReport) -> (Nanos, Nanos, Nanos) {
    sums(report.groups.iter().map(|g| g.amount).sum())
}

/// Sums of what is over, kept from scrape to scrape, and the rest: the report, but for a nano where a segment was cut.
#[tokio::test(start_paused = true)]
async fn what_is_accrued_is_the_report_however_it_was_added_up() {
    let house = House::new(77, Faults::none()).await;
    let accrued = Accrued::new(house.core().costs.clone());
    for round in 0..14_u32 {
        let id = house.rent(Some(["vastai", "tensordock"][round as usize % 2])).await.session.id;
        house.until(id, State::Running, HOUR).await;
        house.pass(HOUR * (round % 5) + 20 * MINUTE).await;
        let told = accrued.by_provider().await.unwrap();
        let query = CostQuery { group_by: vec![GroupBy::Provider], ..CostQuery::default() };
        let report = house.core().costs.report(&caller(), query).await.unwrap();
        assert_eq!(told.len(), report.groups.len());
        for group in report.groups {
            let (told, reported) = (told[&ProviderId::new(&group.keys[0])], group.amount.cost);
            assert!(told.0.abs_diff(reported.0) <= 50 && told.0 > 0, "{round}: {told} {reported}");
        }
    }
}

// === a week ===

/// A market on which a week is lived: three consumers, two teams, both providers, sessions across every midnight and the end
/// of a month.
struct Week {
    market: Arc<Market>,
    clock: Clock,
    core: Arc<Core>,
    ended: Vec<SessionId>,
    running: Vec<SessionId>,
}

struct Plan {
    after: Duration,
    consumer: &'static str,
    team: Option<&'static str>,
    provider: Dialect,
    reservation: Duration,
    done_after: Option<Duration>,
}

fn plans() -> Vec<Plan> {
    (0..42_u32)
        .map(|n| Plan {
            after: 4 * HOUR * n + MINUTE * (n * 7 % 50),
            consumer: ["ana", "ben", "cleo"][(n % 3) as usize],
            team: [Some("red"), Some("blue"), None][(n / 2 % 3) as usize],
            provider: if n % 2 == 0 { Dialect::Vastai } else { Dialect::Tensordock },
            // The last ones still run when the week is over.
            reservation: HOUR * if n < 38 { 1 + n * 5 % 11 } else { 11 },
            done_after: (n % 4 == 1 && n < 38).then(|| 10 * MINUTE * (n + 1)),
        })
        .collect()
}

async fn week(faults: Faults) -> Week {
    // The clock's beginning is 2026-11-18; this is the 27th.
    let clock = Clock::simulated(BEGIN + 9 * DAY);
    let market = Market::new(MarketConfig { seed: 5, faults, clock: clock.clone(), fabricated_addresses: true });
    let accounts = [
        (Dialect::Vastai, Credentials::Key("0".repeat(64))),
        (Dialect::Tensordock, Credentials::Pair { id: "id".to_owned(), token: "token".to_owned() }),
    ];
    let providers = accounts.map(|(dialect, credentials)| {
        let account = market.add_account(dialect, credentials, None);
        Arc::new(SimProvider::new(Arc::clone(&market), account, dialect)) as Arc<dyn Provider>
    });
    let mut parts = yard::parts(Store::open_memory().unwrap(), &providers, &clock, Policy { unseen_after: HOUR, ..Policy::default() }, 5);
    parts.probe = Arc::new(SimProbe::new(Arc::clone(&market), [7; 32]));
    // A week is long: offers are fetched when somebody wants one.
    parts.refresh = Some(6 * HOUR);
    parts.rhythm = Rhythm { close: 5 * SECOND, steady: 5 * MINUTE, idle: HOUR };
    let core = Arc::new(yard::start(parts).await);
    let over = clock.now() + 7 * DAY;
    let lives = plans().into_iter().map(|plan| {
        let (core, clock) = (Arc::clone(&core), clock.clone());
        async move {
            clock.sleep(plan.after).await;
            let wanted =
                Request { consumer: ConsumerId::new(plan.consumer), reservation: plan.reservation, ..request(any(Some(plan.provider.word()))) };
            let labels = plan.team.map(|team| ("team".to_owned(), team.to_owned())).into_iter().collect();
            let create = Create {
                request: wanted,
                labels,
                secrets: Default::default(),
                template: None,
                validate_only: false,
                idempotency: None,
                private_key: None,
            };
            let id = core.lifecycle.create(caller(), create).await.unwrap().session.id;
            if let Some(wait) = plan.done_after {
                clock.sleep(wait).await;
                core.lifecycle.command(caller(), id, Command::Complete { bad_machine: false }, None, false).await.unwrap();
            }
            id
        }
    });
    let ids = join_all(lives).await;
    clock.sleep_until(over).await;
    let (mut ended, mut running) = (Vec::new(), Vec::new());
    for id in ids {
        let state = core.sessions.get(&caller(), id).await.unwrap().state;
        if state.is_final() { ended.push(id) } else { running.push(id) }
    }
    Week { market, clock, core, ended, running }
}

impl Week {
    async fn report(&self, query: CostQuery) -> CostReport {
        self.core.costs.report(&caller(), query).await.unwrap()
    }

    async fn ledger(&self, query: &CostQuery, size: u32) -> Vec<LedgerEntry> {
        let (mut entries, mut token) = (Vec::new(), String::new());
        loop {
            let page = self.core.costs.ledger(&caller(), query.clone(), size, &token).await.unwrap();
            assert!(page.entries.len() <= size as usize);
            entries.extend(page.entries);
            token = page.next_page_token;
            if token.is_empty() {
                return entries;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn however_a_week_is_cut_it_adds_up_to_the_nano() {
    let mut faults = Faults::gentle();
    for (fault, rate) in [(Fault::StaleAsk, 200_000), (Fault::Vanishes, 150_000), (Fault::GpuLies, 150_000), (Fault::ReplyLost, 60_000)] {
        faults = faults.with(fault, rate);
    }
    let week = week(faults).await;
    assert!(week.ended.len() >= 30 && week.running.len() >= 2, "{} and {}", week.ended.len(), week.running.len());
    let now = week.clock.now();
    let query = || CostQuery { to: Some(now), ..CostQuery::default() };
    let whole = week.report(query()).await;
    assert!(whole.total.cost > Nanos::ZERO && whole.groups.len() == 1);
    assert_eq!(added(&whole), sums(whole.total));

    // Every grouping, and some together.
    use GroupBy as G;
    let team = G::Label("team".to_owned());
    let single = [G::Consumer, G::Provider, G::Gpu, G::Day, G::Month, G::Session, G::EndReason, team.clone()];
    let mut reports = BTreeMap::new();
    for by in single.iter().cloned().map(|g| vec![g]).chain([vec![G::Consumer, G::Day], vec![G::Month, team.clone(), G::Provider], single.to_vec()]) {
        let report = week.report(CostQuery { group_by: by.clone(), ..query() }).await;
        assert_eq!(sums(report.total), sums(whole.total), "{by:?}");
        assert_eq!(added(&report), sums(whole.total), "{by:?}");
        assert!(report.groups.windows(2).all(|pair| pair[0].keys < pair[1].keys) && report.groups.iter().all(|g| g.keys.len() == by.len()));
        let gpu: i64 = report.groups.iter().map(|g| g.gpu_millis).sum();
        assert_eq!(gpu, whole.groups[0].gpu_millis, "{by:?}");
        assert_eq!(report.sessions, whole.sessions);
        if let [one] = &by[..] {
            reports.insert(format!("{one:?}"), report);
        }
    }
    let keys = |by: &GroupBy| -> Vec<String> { reports[&format!("{by:?}")].groups.iter().map(|g| g.keys[0].clone()).collect() };
    assert_eq!(keys(&G::Consumer), ["ana", "ben", "cleo"]);
    assert_eq!(keys(&G::Provider), ["tensordock", "vastai"]);
    assert_eq!(keys(&G::Month), ["2026-11", "2026-12"]);
    assert_eq!(keys(&team), ["", "blue", "red"]);
    let days = keys(&G::Day);
    assert_eq!((days.len(), days[0].as_str(), days[7].as_str()), (8, "2026-11-27", "2026-12-04"));
    let reasons = keys(&G::EndReason);
    assert!(["completed", "expired", "open"].iter().all(|r| reasons.contains(&(*r).to_owned())) && reasons.len() >= 4, "{reasons:?}");
    assert!(keys(&G::Gpu).len() >= 3);

    // A group is what the filter of its key gives.
    for by in &single {
        for group in &reports[&format!("{by:?}")].groups {
            let key = &group.keys[0];
            let narrowed = match by {
                G::Consumer => CostQuery { consumer: Some(ConsumerId::new(key)), ..query() },
                G::Provider => CostQuery { provider: Some(ProviderId::new(key)), ..query() },
                G::Gpu => CostQuery { gpu: Some(key.clone()), ..query() },
                G::Session => CostQuery { session: Some(key.parse().unwrap()), ..query() },
                G::Label(name) if !key.is_empty() => CostQuery { labels: BTreeMap::from([(name.clone(), key.clone())]), ..query() },
                G::Day | G::Month => {
                    let (month, day) = (key.get(..7).unwrap(), key.get(8..).unwrap_or("01"));
                    let from = Time::from_sql(&format!("{month}-{day} 00:00:00")).unwrap();
                    let to = match key.as_str() {
                        "2026-11" => Time::from_sql("2026-12-01 00:00:00").unwrap(),
                        "2026-12" => Time::from_sql("2027-01-01 00:00:00").unwrap(),
                        _ => from + DAY,
                    };
                    CostQuery { from: Some(from), to: Some(to.min(now)), ..CostQuery::default() }
                }
                G::EndReason | G::Label(_) => continue,
            };
            assert_eq!(sums(week.report(narrowed).await.total), sums(group.amount), "{by:?} {key}");
        }
    }

    // Session by session it is what the session itself says, and the market bills what lies between the bounds.
    let mut all = Amount::default();
    for id in week.ended.iter().chain(&week.running) {
        let cost = week.core.costs.session(&caller(), *id).await.unwrap();
        assert_eq!(sums(cost.components.iter().map(|(_, a)| *a).sum()), sums(cost.total));
        assert_eq!(sums(cost.attempts.iter().map(|(_, a)| *a).sum()), sums(cost.total));
        all += cost.total;
        assert_eq!(cost.is_final, week.ended.contains(id));
        assert_eq!(cost.rate > Rate::ZERO, week.running.contains(id));
        let bill: Nanos = week.market.truth().iter().filter(|t| t.label.contains(&id.to_string())).map(|t| t.bill.total).sum();
        assert!(cost.total.low <= bill && bill <= cost.total.high, "{id}: {bill} is not between {} and {}", cost.total.low, cost.total.high);
    }
    assert_eq!(sums(all), sums(whole.total));
}

#[tokio::test(start_paused = true)]
async fn ranges_are_half_open_and_what_may_change_is_not_final() {
    let week = week(Faults::gentle()).await;
    let now = week.clock.now();
    let range = |from: Option<Time>, to: Option<Time>| CostQuery { from, to, ..CostQuery::default() };
    let whole = week.report(range(None, Some(now))).await;
    // Wherever it is cut, even within a millisecond of a boundary, the parts add up; a range without length costs nothing.
    let segments: Vec<Segment> = week.ledger(&range(None, Some(now)), 1000).await.into_iter().map(|e| e.segment).collect();
    let edges: BTreeSet<Time> = segments.iter().take(12).flat_map(|s| [s.from_low, s.from, s.to, s.to_high.unwrap_or(now)]).collect();
    for cut in edges.into_iter().chain((1..20).map(|n| BEGIN + 9 * DAY + 8 * HOUR * n)) {
        let (before, after) = (week.report(range(None, Some(cut))).await, week.report(range(Some(cut), Some(now))).await);
        assert_eq!(sums(before.total + after.total), sums(whole.total), "{cut}");
        assert_eq!(sums(week.report(range(Some(cut), Some(cut))).await.total), sums(Amount::default()));
        assert_eq!((before.to, after.from), (cut, cut));
    }
    // What is over is final as soon as its sessions are; what runs, what nobody has seen yet and what lies ahead is not.
    let first = week.report(range(None, Some(BEGIN + 11 * DAY))).await;
    assert!(first.is_final && first.total.cost > Nanos::ZERO && !whole.is_final);
    assert!(!week.report(range(Some(now), Some(now + DAY))).await.is_final);
    assert!(!week.report(range(Some(now), Some(now + DAY))).await.total.cost.0.is_negative());
    let ended = CostQuery { session: Some(week.ended[0]), ..CostQuery::default() };
    let report = week.report(ended).await;
    assert!(report.is_final && report.from == Time::default() && report.to == Time::from_millis(now.millis() + 1));
    assert_eq!(report.unmetered, ["traffic"]);
    // Running sessions show what they cost so far.
    let running = CostQuery { session: Some(week.running[0]), ..CostQuery::default() };
    let earlier = week.report(running.clone()).await;
    week.clock.sleep(10 * MINUTE).await;
    let later = week.report(running).await;
    assert!(!later.is_final && earlier.total.cost < later.total.cost && later.total.low <= later.total.high);

    let refused = |query: CostQuery| async { week.core.costs.report(&caller(), query).await.unwrap_err() };
    let error = refused(range(Some(now), Some(now - SECOND))).await;
    assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, "end_time"));
    let error = refused(range(Some(now + DAY), None)).await;
    assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, "start_time"));
    let missing = CostQuery { session: Some(SessionId::new(now, 1)), ..CostQuery::default() };
    assert_eq!(refused(missing).await.reason, "SESSION_NOT_FOUND");

    // A consumer sees its own.
    let ana = Caller { principal: "ana".to_owned(), scope: Some(ConsumerId::new("ana")), admin: false, request: String::new() };
    let own = week.core.costs.report(&ana, range(None, Some(now))).await.unwrap();
    let narrowed = week.report(CostQuery { consumer: Some(ConsumerId::new("ana")), ..range(None, Some(now)) }).await;
    assert_eq!(sums(own.total), sums(narrowed.total));
    assert!(own.total.cost < whole.total.cost);
    let bens = CostQuery { consumer: Some(ConsumerId::new("ben")), ..CostQuery::default() };
    assert_eq!(week.core.costs.report(&ana, bens).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn the_ledger_is_paged_without_gap_while_it_grows() {
    let week = week(Faults::gentle()).await;
    let now = week.clock.now();
    let query = CostQuery { to: Some(now), ..CostQuery::default() };
    let whole = week.ledger(&query, 1000).await;
    let place = |e: &LedgerEntry| (e.segment.session, e.segment.attempt, e.segment.ordinal);
    assert!(whole.len() > 60 && whole.windows(2).all(|pair| place(&pair[0]) < place(&pair[1])));
    assert_eq!(sums(whole.iter().map(|e| e.amount).sum()), sums(week.report(query.clone()).await.total));
    assert!(whole.iter().any(|e| e.running) && whole.iter().any(|e| !e.running));
    for size in [1, 7, 50] {
        assert_eq!(week.ledger(&query, size).await.iter().map(place).collect::<Vec<_>>(), whole.iter().map(place).collect::<Vec<_>>());
    }
    // Between two pages an early session that still runs gets another line: nothing is told twice, nothing is left out.
    let first = week.core.costs.ledger(&caller(), query.clone(), 40, "").await.unwrap();
    let early: Vec<_> = first.entries.iter().map(place).collect();
    let native = |id: SessionId| week.market.truth().into_iter().find(|t| t.alive && t.label.contains(&id.to_string())).unwrap().native_id;
    for id in &week.running {
        assert!(week.market.reprice(&native(*id), 110));
    }
    week.clock.sleep(10 * MINUTE).await;
    let more = week.ledger(&query, 1000).await;
    assert!(more.len() >= whole.len());
    let rest = week.core.costs.ledger(&caller(), query.clone(), 1000, &first.next_page_token).await.unwrap();
    let told: Vec<_> = early.iter().copied().chain(rest.entries.iter().map(place)).collect();
    let expected: Vec<_> = more.iter().map(place).filter(|p| early.contains(p) || p > early.last().unwrap()).collect();
    assert_eq!(told, expected);
    // A token of another query, or none.
    let other = CostQuery { consumer: Some(ConsumerId::new("ana")), ..query.clone() };
    for (query, token) in [(&other, first.next_page_token.as_str()), (&query, "nonsense"), (&query, &first.next_page_token[2..])] {
        let error = week.core.costs.ledger(&caller(), query.clone(), 7, token).await.unwrap_err();
        assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, "page_token"));
    }
}

// === every way to end ===

struct Way {
    name: &'static str,
    faults: Faults,
    provider: &'static str,
    ends: EndReason,
    machine: bool,
}

/// Brings a session to its end in the way that is named, where it does not come there by itself.
async fn bring_to_an_end(house: &House, id: SessionId, way: &Way) {
    let native = || house.market.truth().into_iter().find(|t| t.label.contains(&id.to_string())).unwrap().native_id;
    match way.name {
        "destroyed while provisioning" => {
            house.pass(1_500 * SECOND / 1000).await;
            house.command(id, Command::Destroy).await.unwrap();
            return;
        }
        "completed" | "vanished" | "stopped" | "outbid" | "dearer" | "its reply was lost" => {
            house.until(id, State::Running, 20 * MINUTE).await;
            house.pass(7 * MINUTE).await;
        }
        _ => return,
    }
    match way.name {
        "vanished" => assert!(house.market.vanish(&native())),
        "stopped" => drop(house.market.stop(house.accounts[&Dialect::Vastai], &native()).unwrap()),
        "outbid" => assert!(house.market.preempt(&native())),
        "dearer" => assert!(house.market.reprice(&native(), 1_000)),
        _ => drop(house.command(id, Command::Complete { bad_machine: false }).await.unwrap()),
    }
}

#[tokio::test(start_paused = true)]
async fn every_way_to_end_is_paid_for() {
    use EndReason as E;
    const ALWAYS: u32 = 1_000_000;
    let with = |fault| Faults::gentle().with(fault, ALWAYS);
    let way = |name, faults, ends, machine| Way { name, faults, provider: "vastai", ends, machine };
    let tensordock = |name, faults, ends, machine| Way { name, faults, provider: "tensordock", ends, machine };
    let ways = [
        way("completed", Faults::gentle(), E::Completed, true),
        tensordock("completed", Faults::gentle(), E::Completed, true),
        way("expired", Faults::gentle(), E::Expired, true),
        tensordock("expired", Faults::gentle(), E::Expired, true),
        way("destroyed while provisioning", Faults::gentle(), E::DestroyedByUser, true),
        tensordock("destroyed while provisioning", Faults::gentle(), E::DestroyedByUser, true),
        way("vanished", Faults::gentle(), E::HostLost, true),
        tensordock("vanished", Faults::gentle(), E::HostLost, true),
        way("stopped", Faults::gentle(), E::ProviderTerminated, true),
        way("outbid", Faults::gentle(), E::Preempted, true),
        way("dearer", Faults::gentle(), E::CostLimit, true),
        way("its reply was lost", with(Fault::ReplyLost), E::Completed, true),
        way("price raised", with(Fault::PriceRaised), E::PriceChanged, true),
        way("the GPU lies", with(Fault::GpuLies), E::VerifyFailed, true),
        tensordock("no driver", with(Fault::DriverMissing), E::VerifyFailed, true),
        way("no key", with(Fault::KeyNever), E::VerifyFailed, true),
        way("image stuck", with(Fault::ImageStuck), E::ProvisionFailed, true),
        way("boot fails", with(Fault::BootFails), E::ProvisionFailed, true),
        tensordock("no address", with(Fault::NoAddress), E::ProvisionFailed, true),
        way("ask gone", with(Fault::StaleAsk), E::NoCapacity, false),
        tensordock("no nodes", with(Fault::StaleAsk), E::NoCapacity, false),
        way("too many calls", with(Fault::TooManyRequests), E::NoCapacity, false),
        way("never came to be", with(Fault::ServerError), E::NoCapacity, false),
        tensordock("never came to be", with(Fault::ServerError), E::NoCapacity, false),
    ];
    for (seed, way) in (50..).zip(&ways) {
        println!("{} at {}", way.name, way.provider); // shown when it fails
        // Calls take their time, so that no machine is there for none.
        let house = House::new(seed, way.faults.clone().with_delay(Delay::Latency, SECOND / 5)).await;
        let bid = way.name == "outbid";
        let filter = OfferFilter {
            providers: vec![ProviderId::new(way.provider)],
            rental: Some(if bid { RentalKind::Interruptible } else { RentalKind::OnDemand }),
            ..OfferFilter::default()
        };
        // A fifth more is too much only where it is more than a cent an hour.
        let order = if way.name == "price raised" { OfferOrder::GpuMemory } else { OfferOrder::Price };
        let mut wanted = request(Target::Requirements { filter: Box::new(filter), order });
        wanted.failover.scope = FailoverScope::None;
        if way.name == "dearer" {
            wanted.max_total_cost = Some(Nanos(1_000_000_000));
            wanted.reservation = 3 * HOUR;
        }
        let id = house.create(wanted).await.unwrap().session.id;
        bring_to_an_end(&house, id, way).await;
        let ended = house.until(id, way.ends.final_state(), 4 * HOUR).await;
        assert_eq!(ended.end_reason, Some(way.ends), "{} at {}: {}", way.name, way.provider, ended.status_message);
        let cost = house.core().costs.session(&caller(), id).await.unwrap();
        let machines = house.market.truth().iter().filter(|t| t.label.contains(&id.to_string())).count();
        let told = format!("{} at {}: {:?}, bill {}", way.name, way.provider, cost.total, house.bill(id));
        assert_eq!(machines > 0, way.machine, "{told}");
        assert_eq!(cost.total.cost > Nanos::ZERO, way.machine, "{told}");
        // A launch whose answer said neither yes nor no costs nothing when its machine was never seen; but it may have come and gone.
        let doubtful = way.name == "never came to be";
        assert_eq!(cost.total.high > Nanos::ZERO, way.machine || doubtful, "{told}");
        assert!(cost.total.low <= house.bill(id) && house.bill(id) <= cost.total.high, "{told}");
        assert!(cost.is_final && cost.rate == Rate::ZERO, "{told}");
        assert_eq!(sums(ended.cost), sums(cost.total), "{told}");
        house.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_is_held_to_the_cost_limit_before_and_after_running() {
    let house = House::new(80, Faults::gentle().with_delay(Delay::ImagePull, 5 * MINUTE)).await;
    let price = house.core().inventory.snapshot().offers.iter().find(|o| o.provider.as_str() == "vastai").unwrap().price(None).total();
    let mut wanted = request(any(Some("vastai")));
    // Twice what an hour of the dearest that may be taken costs, and a little for the way up.
    wanted.max_price = Some(price);
    wanted.max_total_cost = Some(price.accrued(2 * 3_600_000 + 600_000));
    let id = house.create(wanted).await.unwrap().session.id;
    let extend = |hours: u32| Command::Extend { by: Some(HOUR * hours), to: None, override_hard_max: false };
    house.pass(MINUTE).await;
    let provisioning = house.get(id).await;
    assert_eq!(provisioning.state, State::Provisioning);
    let hours = |s: &gpu_shopper::domain::session::Session| {
        let rate = s.price.total().accrued(3_600_000).0;
        u32::try_from((s.request.max_total_cost.unwrap().0 - s.cost.high.0) / rate).unwrap()
    };
    let room = hours(&provisioning);
    assert_eq!(house.command(id, extend(room)).await.unwrap_err().reason, "COST_LIMIT", "{room} beside the first");
    assert_eq!(house.get(id).await.expires_at, provisioning.expires_at);
    house.command(id, extend(room - 1)).await.unwrap();
    let running = house.until(id, State::Running, 20 * MINUTE).await;
    assert_eq!(running.expires_at, (running.running_at.unwrap() + HOUR * room).min(running.hard_max_at));
    assert_eq!(house.command(id, extend(1)).await.unwrap_err().reason, "COST_LIMIT");
    // It has become dearer, so that the rest is too dear already: shorter it may be made all the same.
    assert!(house.market.reprice(&house.alive()[0], 200));
    house.pass(5 * MINUTE).await;
    assert!(house.get(id).await.price.total() > running.price.total());
    let to = house.now() + 10 * MINUTE;
    house.command(id, Command::Extend { by: None, to: Some(to), override_hard_max: false }).await.unwrap();
    assert_eq!(house.get(id).await.expires_at, to);
    assert_eq!(house.command(id, extend(room)).await.unwrap_err().reason, "COST_LIMIT");
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn without_latency_the_bill_is_known_to_the_nano() {
    for dialect in Dialect::ALL {
        let house = House::new(90, Faults::none()).await;
        for run in [MINUTE, 17 * MINUTE, HOUR - 1_234 * SECOND / 1000] {
            let id = house.rent(Some(dialect.word())).await.session.id;
            house.until(id, State::Running, 10 * MINUTE).await;
            house.pass(run).await;
            house.command(id, Command::Complete { bad_machine: false }).await.unwrap();
            house.until(id, State::Stopped, 10 * MINUTE).await;
            let cost = house.core().costs.session(&caller(), id).await.unwrap();
            let bill = house.bill(id);
            assert_eq!(sums(cost.total), (bill, bill, bill), "{dialect:?} {run:?}");
            assert!(!cost.total.estimated());
            let truth = house.market.truth().into_iter().find(|t| t.label.contains(&id.to_string())).unwrap();
            let parts: Vec<(Component, Nanos)> = cost.components.iter().map(|(part, a)| (*part, a.cost)).collect();
            assert_eq!(parts, truth.bill.parts, "{dialect:?} {run:?}");
        }
        house.close().await;
    }
}

// === the law, for any segment ===

fn any_segment() -> impl Strategy<Value = (Segment, Time)> {
    let times = (0_i64..1_000_000_000, 0_i64..100_000, 0_i64..200_000_000, 0_i64..100_000, proptest::bool::ANY, 0_i64..10_000_000);
    (1_i64..50_000_000_000_000, times).prop_map(|(rate, (start, doubt, length, after, over, later))| {
        let at = Time::from_millis;
        let (from, to) = (start + doubt, start + doubt + length);
        let segment = Segment {
            session: SessionId::new(at(0), 1),
            attempt: 1,
            ordinal: 0,
            component: Component::Gpu,
            rate: Rate(rate),
            from_low: at(start),
            from: at(from),
            to: at(to),
            to_high: over.then(|| at(to + after)),
            presumed: false,
        };
        (segment, at(to + after + later))
    })
}

proptest! {
    #[test]
    fn windows_part_an_amount_without_rest((segment, now) in any_segment(), cuts in prop::collection::vec(-1_000_i64..1_400_000_000, 0..12)) {
        let whole = segment.amount(Window::ALWAYS, now);
        let mut cuts: Vec<Time> = cuts.into_iter().map(Time::from_millis).collect();
        cuts.sort();
        cuts.insert(0, Window::ALWAYS.from);
        cuts.push(Window::ALWAYS.to);
        let parts: Vec<Amount> = cuts.windows(2).map(|w| segment.amount(Window { from: w[0], to: w[1] }, now)).collect();
        prop_assert_eq!(sums(parts.iter().copied().sum()), sums(whole));
        for part in parts {
            prop_assert!(Nanos::ZERO <= part.low && part.low <= part.cost && part.cost <= part.high);
        }
    }

    #[test]
    fn a_bill_lies_between_the_bounds_whenever_it_began_and_ended(
        (segment, now) in any_segment(), on in 0_u32..=1_000_000, off in 0_u32..=1_000_000
    ) {
        let between = |a: Time, b: Time, share: u32| a.millis() + (b.millis() - a.millis()) * i64::from(share) / 1_000_000;
        let began = between(segment.from_low, segment.from, on);
        let ended = between(segment.to, segment.to_high.unwrap_or(now), off);
        // The vendor's own arithmetic: exact, rounded once, half to even.
        let exact = i128::from(segment.rate.0) * i128::from(ended - began);
        let (nanos, rest) = (exact / 3_600_000_000, exact % 3_600_000_000);
        let up = rest * 2 > 3_600_000_000 || (rest * 2 == 3_600_000_000 && nanos % 2 == 1);
        let bill = Nanos(i64::try_from(nanos + i128::from(up)).unwrap());
        let amount = segment.amount(Window::ALWAYS, now);
        prop_assert!(amount.low <= bill && bill <= amount.high, "{bill} is not between {} and {}", amount.low, amount.high);
    }
}
