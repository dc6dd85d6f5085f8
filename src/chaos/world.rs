//! One seed, from its beginning to the verdict.

use crate::chaos::FaultChoice;
use crate::chaos::audit::Books;
use crate::chaos::callers::Visitor;
use crate::chaos::deployment::{Deployment, Doors, Plan};
use crate::chaos::operator::Keeper;
use crate::chaos::panics;
use crate::chaos::story::Story;
use crate::chaos::watchers::OfAll;
use crate::chaos::weather::{self, Episode, Sky, Spell};
use crate::chaos::witness::Plant;
use crate::chaos::wrong::Wrong;
use crate::clock::Clock;
use crate::domain::ids::{Label, ProviderId, SessionId};
use crate::domain::money::Nanos;
use crate::domain::policy::Policy;
use crate::domain::time::Time;
use crate::services::sweeper::{Strays, SweepPolicy};
use crate::sim::{ALWAYS, AccountId, Credentials, Dialect, Faults, Market, MarketConfig};
use crate::store::Error;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// When every world begins.
const BEGIN: Time = Time::from_millis(1_795_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Callers that come to one deployment in a day.
const VISITORS: u32 = 26;
/// Ends of a deployment's process in a day, asked for or not.
const ENDS: u32 = 4;
/// How often the costs of what runs are held against the bill.
const AUDIT_EVERY: u32 = 120;
/// How long after the last hour everything may take to be over: the longest stages of the vendors, and what is proven.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// What worlds are like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many simulated hours callers come; what they have is ended then.
    pub hours: u32,
    /// What goes wrong.
    pub faults: FaultChoice,
    /// The wrong rule that the service follows, if any.
    pub wrong: Option<Wrong>,
    /// How many of the last lines of a story are kept in words.
    pub tail: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { hours: 24, faults: FaultChoice::All, wrong: None, tail: 60 }
    }
}

/// What came of a seed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Which.
    pub seed: u64,
    /// What was wrong; empty = nothing.
    pub wrong: Vec<String>,
    /// The last lines of its story.
    pub tail: Vec<String>,
    /// The fingerprint of its story.
    pub fingerprint: String,
    /// The most offers that a deployment knew at a time.
    pub offers: u64,
    /// Simulated time, milliseconds.
    pub simulated_ms: u64,
    /// Creates, crashes, events and the like.
    pub counts: BTreeMap<&'static str, u64>,
    /// Faults that struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// Calls to providers.
    pub calls: BTreeMap<&'static str, u64>,
    /// How sessions ended.
    pub ends: BTreeMap<&'static str, u64>,
}

/// Plays one seed on the caller's thread.
#[must_use]
pub fn play(seed: u64, settings: &Settings) -> Outcome {
    play_watched(seed, settings, |_| {})
}

/// The same; `enter` gets the story as soon as there is one.
pub(super) fn play_watched(seed: u64, settings: &Settings, enter: impl FnOnce(&Arc<Story>)) -> Outcome {
    let (outcome, panics) = panics::heard(|| in_runtime(seed, settings, enter));
    let mut outcome = outcome.unwrap_or_else(|| Outcome { seed, ..Outcome::default() });
    outcome.wrong.extend(panics.into_iter().map(|text| format!("a panic: {text}")));
    outcome
}

fn in_runtime(seed: u64, settings: &Settings, enter: impl FnOnce(&Arc<Story>)) -> Outcome {
    let failed = |text: String| Outcome { seed, wrong: vec![text], ..Outcome::default() };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(format!("no runtime: {error}")),
    };
    runtime.block_on(async {
        match World::new(seed, settings) {
            Ok(world) => {
                enter(&world.story);
                world.run().await
            }
            Err(error) => failed(format!("no database: {error}")),
        }
    })
}

/// Machines that are not like others, by their ids.
#[derive(Clone, Default)]
struct Apart {
    /// Somebody else's.
    strangers: BTreeSet<String>,
    /// Their price was changed.
    repriced: BTreeSet<String>,
    /// With a label of a deployment that did not launch them.
    planted: BTreeSet<String>,
    /// Sessions whose machines are not all on a disk.
    unbillable: BTreeSet<SessionId>,
    /// Sessions some of whose debts an operator has called settled.
    by_word: BTreeSet<SessionId>,
}

struct World {
    seed: u64,
    hours: u32,
    market: Arc<Market>,
    clock: Clock,
    story: Arc<Story>,
    sky: Arc<Sky>,
    deployments: Vec<Arc<Deployment>>,
    accounts: BTreeMap<Dialect, AccountId>,
    base: Faults,
    /// Nothing goes wrong and nothing takes time: the ledger is the bill.
    exact: bool,
    /// More than the way up of machines goes wrong.
    rough: bool,
    crashes: bool,
    spells: Vec<Spell>,
    /// The most offers that a deployment knew at a time.
    offers: AtomicU64,
    apart: Mutex<Apart>,
    closing: CancellationToken,
    ending: CancellationToken,
}

/// A generator for one purpose, so that what one part of a world draws leaves the others alone.
fn dice(seed: u64, purpose: u64) -> ChaCha8Rng {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    dice.set_stream(100 + purpose);
    dice
}

fn credentials(dialect: Dialect, number: u8) -> Credentials {
    match dialect {
        Dialect::Vastai => Credentials::Key(format!("{number:064}")),
        Dialect::Tensordock => Credentials::Pair { id: format!("id {number}"), token: format!("token {number}") },
    }
}

impl World {
    fn new(seed: u64, settings: &Settings) -> Result<Arc<Self>, Error> {
        let mut plan = dice(seed, 0);
        // Every twelfth world is calm, or nobody would notice a ledger that is only roughly right.
        let calm = plan.random_ratio(1, 12) && settings.wrong.is_none();
        let choice = if calm && settings.faults == FaultChoice::All { FaultChoice::None } else { settings.faults };
        let base = weather::faults(choice, &mut plan);
        let clock = Clock::simulated(BEGIN);
        let market = Market::new(MarketConfig { seed, faults: base.clone(), clock: clock.clone(), fabricated_addresses: true });
        let story = Arc::new(Story::new(clock.clone(), settings.tail));
        let sky = Arc::new(Sky::default());
        let accounts: BTreeMap<Dialect, AccountId> = Dialect::ALL.into_iter().map(|d| (d, market.add_account(d, credentials(d, 0), None))).collect();
        let rough = matches!(choice, FaultChoice::Field | FaultChoice::All);
        if choice == FaultChoice::None {
            story.count("worlds_calm");
        }
        let others: BTreeMap<Dialect, AccountId> = if rough {
            Dialect::ALL.into_iter().map(|d| (d, market.add_account(d, credentials(d, 1), Some(Nanos::ZERO)))).collect()
        } else {
            BTreeMap::new()
        };
        let refresh = MINUTE * plan.random_range(10..40);
        let mut houses = dice(seed, 3);
        let deployments = (0..2)
            .map(|number| {
                let strays = if rough && houses.random_bool(0.3) { Strays::Destroy } else { Strays::Report };
                let hard_max = HOUR * [2, 4, 12, 12][houses.random_range(0..4)];
                Deployment::new(Plan {
                    name: format!("house-{number}-{seed}"),
                    market: Arc::clone(&market),
                    accounts: accounts.clone(),
                    other_accounts: others.clone(),
                    clock: clock.clone(),
                    policy: Policy { hard_max, ..Policy::default() },
                    sweep: SweepPolicy { strays, ..SweepPolicy::default() },
                    restores: rough && houses.random_bool(0.5),
                    refresh,
                    seed: seed.wrapping_mul(2).wrapping_add(number),
                    sky: Arc::clone(&sky),
                    story: Arc::clone(&story),
                    wrong: settings.wrong,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let spells = if rough { weather::episodes(&mut dice(seed, 1), BEGIN + MINUTE * 5, settings.hours) } else { Vec::new() };
        Ok(Arc::new(Self {
            seed,
            hours: settings.hours,
            market,
            clock,
            story,
            sky,
            deployments,
            accounts,
            base,
            exact: choice == FaultChoice::None,
            rough,
            crashes: choice != FaultChoice::None,
            spells,
            offers: AtomicU64::new(0),
            apart: Mutex::default(),
            closing: CancellationToken::new(),
            ending: CancellationToken::new(),
        }))
    }

    fn apart(&self) -> Apart {
        self.apart.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn run(self: Arc<Self>) -> Outcome {
        let mut tasks = JoinSet::new();
        for (number, deployment) in (0_u64..).zip(&self.deployments) {
            let mut drawn = dice(self.seed, 10 + number);
            let ends = self.moments(&mut drawn, if self.crashes { ENDS } else { 0 });
            let (deployment, stop) = (Arc::clone(deployment), self.ending.clone());
            let story = Arc::clone(&self.story);
            tasks.spawn(async move {
                if let Err(error) = deployment.live(drawn, ends, stop).await {
                    story.wrong(format!("{}: its database can't be read: {error}", deployment.name()));
                }
            });
        }
        let reached: Vec<Arc<AtomicI64>> = self.deployments.iter().map(|_| Arc::default()).collect();
        for (number, (deployment, reached)) in (0_u64..).zip(self.deployments.iter().zip(&reached)) {
            let watcher =
                OfAll { deployment: Arc::clone(deployment), story: Arc::clone(&self.story), clock: self.clock.clone(), reached: Arc::clone(reached) };
            tasks.spawn(watcher.watch(dice(self.seed, 20 + number)));
        }
        for (number, deployment) in (0_u64..).zip(&self.deployments) {
            let (deployment, story) = (Arc::clone(deployment), Arc::clone(&self.story));
            let keeper = Keeper { deployment, story, clock: self.clock.clone(), closing: self.closing.clone(), busy: self.rough };
            tasks.spawn(keeper.keep(dice(self.seed, 40 + number)));
        }
        if self.rough {
            tasks.spawn(Arc::clone(&self).copies());
        }
        let mut visits = self.visitors();
        tasks.spawn(Arc::clone(&self).weather());
        tokio::select! {
            biased;
            () = self.story.broken() => {}
            () = self.course(&mut visits, &reached) => {}
        }
        self.ending.cancel();
        let outcome = self.outcome();
        tasks.abort_all();
        outcome
    }

    /// From the first hour to the last audit.
    async fn course(&self, visits: &mut JoinSet<()>, reached: &[Arc<AtomicI64>]) {
        let end = BEGIN + HOUR * self.hours;
        let (mut minute, mut audited) = (0, BTreeSet::new());
        while self.clock.now() < end {
            self.step(&mut minute, &mut audited).await;
        }
        self.story.tell("world", "everybody ends what they have");
        self.closing.cancel();
        let patience = self.clock.now() + PATIENCE;
        let left = |d: &Deployment| {
            let strangers = self.apart().strangers;
            self.market.living(&format!("gs-{}-", d.tag())).into_iter().any(|(id, label)| !strangers.contains(&id) && Label::parse(&label).is_some())
        };
        // Who comes up with an old disk has much to end.
        let busy = || self.deployments.iter().any(|d| !d.is_up() || d.witness().owes() || !d.witness().open().is_empty() || left(d));
        while (busy() || !visits.is_empty()) && self.clock.now() < patience {
            self.step(&mut minute, &mut audited).await;
            while visits.try_join_next().is_some() {}
        }
        if !visits.is_empty() {
            self.story.wrong(format!("{} visitors wait for ever", visits.len()));
        }
        self.last(reached).await;
    }

    /// A minute, and a look at everything that should be over.
    async fn step(&self, minute: &mut u32, audited: &mut BTreeSet<(usize, SessionId)>) {
        self.clock.sleep(MINUTE).await;
        *minute += 1;
        for deployment in &self.deployments {
            // The sweeper may hold itself at any time, and an operator's order may be carried out without an answer.
            for hold in deployment.holds() {
                deployment.witness().may_hold(&hold.provider, hold.kind);
            }
            let reported = deployment.reported();
            deployment.witness().look(|provider| deployment.quiet_since(provider), reported.as_ref());
            self.offers.fetch_max(deployment.offers(), Ordering::Relaxed);
        }
        if minute.is_multiple_of(AUDIT_EVERY) {
            for (number, deployment) in self.deployments.iter().enumerate() {
                let doors = deployment.open().await;
                let apart = self.apart_for(deployment);
                // A bill is whole when the last machine is gone: one that a held sweeper must leave alone still costs.
                let over = |id: &SessionId| self.market.living(&format!("gs-{}-{id}-", deployment.tag())).is_empty();
                let fresh = deployment.witness().settled().into_iter().filter(|id| !audited.contains(&(number, *id)) && over(id));
                let fresh: Vec<SessionId> = fresh.collect();
                if let Some(wrong) = doors.ask(self.books(deployment, &doors, &apart).bills(&fresh)).await {
                    wrong.into_iter().for_each(|what| self.story.wrong(format!("{}: {what}", deployment.name())));
                    audited.extend(fresh.into_iter().map(|id| (number, id)));
                }
            }
        }
    }

    /// The same as one deployment sees it.
    fn apart_for(&self, deployment: &Deployment) -> Apart {
        let witness = deployment.witness();
        Apart { planted: witness.not_launched(), unbillable: witness.unbillable(), by_word: witness.by_word(), ..self.apart() }
    }

    fn books<'a>(&'a self, deployment: &Deployment, doors: &'a Doors, apart: &'a Apart) -> Books<'a> {
        Books {
            market: &self.market,
            tag: deployment.tag(),
            store: &doors.store,
            costs: &doors.costs,
            launches: deployment.witness().launches(),
            foreign: &apart.strangers,
            planted: &apart.planted,
            unbillable: &apart.unbillable,
            by_word: &apart.by_word,
            repriced: &apart.repriced,
            exact: self.exact,
            story: Some(&self.story),
        }
    }

    /// All should be over now.
    async fn last(&self, reached: &[Arc<AtomicI64>]) {
        let apart = self.apart();
        let alive: BTreeSet<String> = self.market.alive().into_iter().collect();
        for gone in apart.strangers.difference(&alive) {
            self.story.wrong(format!("machine {gone}, which is somebody else's, is gone"));
        }
        for (deployment, reached) in self.deployments.iter().zip(reached) {
            // No process may die in the middle of it: none does after the last hour's ends.
            let doors = deployment.open().await;
            let apart = self.apart_for(deployment);
            match self.books(deployment, &doors, &apart).audit().await {
                Ok(wrong) => wrong.into_iter().for_each(|what| self.story.wrong(format!("{}: {what}", deployment.name()))),
                Err(error) => self.story.wrong(format!("{}: its books can't be read: {error}", deployment.name())),
            }
            // A watcher may be away; it comes back and is told the rest, to which a latecomer may add.
            let both = || (reached.load(Ordering::Relaxed), deployment.witness().last_revision());
            let patience = self.clock.now() + HOUR;
            while both().0 != both().1 && self.clock.now() < patience {
                self.clock.sleep(MINUTE).await;
            }
            let (told, last) = both();
            if told != last {
                self.story.wrong(format!("{}: {last} events are on disk, and who watches all was told {told}", deployment.name()));
            }
        }
    }

    /// So many moments a day, by lot, in order.
    fn moments(&self, dice: &mut ChaCha8Rng, a_day: u32) -> Vec<Time> {
        let span = u64::from(self.hours) * 3_600_000;
        let number = (a_day * self.hours).div_ceil(24);
        let mut moments: Vec<Time> = (0..number).map(|_| BEGIN + Duration::from_millis(dice.random_range(60_000..span.max(60_001)))).collect();
        moments.sort();
        moments
    }

    fn visitors(&self) -> JoinSet<()> {
        let mut visits = JoinSet::new();
        for (number, deployment) in (0_u64..).zip(&self.deployments) {
            let mut drawn = dice(self.seed, 30 + number);
            for (index, at) in self.moments(&mut drawn, VISITORS).into_iter().enumerate() {
                let own = ChaCha8Rng::seed_from_u64(drawn.random());
                let name = format!("visitor-{number}-{index}");
                let (deployment, story) = (Arc::clone(deployment), Arc::clone(&self.story));
                visits.spawn(Visitor::new(deployment, story, self.clock.clone(), name, own, self.closing.clone()).visit(at));
            }
        }
        visits
    }

    /// Lets episodes come and go.
    async fn weather(self: Arc<Self>) {
        let mut dice = dice(self.seed, 2);
        // Beginnings and ends in the order of time; ends first, so that nothing seems to last longer than it does.
        let mut agenda: BTreeMap<(Time, bool, usize), Spell> = BTreeMap::new();
        for (index, spell) in self.spells.iter().enumerate() {
            agenda.insert((spell.from, true, index), *spell);
            agenda.insert((spell.to, false, index), *spell);
        }
        // What does not last ends at the moment it begins.
        let mut touched: BTreeMap<usize, String> = BTreeMap::new();
        for ((at, begins, index), spell) in agenda {
            self.clock.sleep_until(at).await;
            let word = spell.episode.word();
            if begins && spell.to > spell.from {
                self.story.tell(spell.dialect.word(), &format!("{word} begins"));
                self.sky.begin(&spell);
            }
            if begins {
                self.story.count(word);
                self.strike(&spell, &mut dice, &mut touched, index);
            } else if spell.to > spell.from {
                self.story.tell(spell.dialect.word(), &format!("{word} ends"));
                self.sky.end(&spell, self.clock.now());
                if let Some(machine) = touched.remove(&index) {
                    self.market.set_offline(&machine, false);
                }
            }
            self.apply(spell.dialect);
        }
    }

    /// Somebody starts a copy of a deployment beside it, once in some days.
    async fn copies(self: Arc<Self>) {
        let mut dice = dice(self.seed, 4);
        for at in self.moments(&mut dice, 1) {
            let (number, minutes, comes) = (dice.random_range(0..self.deployments.len()), dice.random_range(5..120), dice.random_bool(0.4));
            self.clock.sleep_until(at).await;
            if comes && let Err(error) = self.deployments[number].beside(MINUTE * minutes).await {
                self.story.wrong(format!("a copy of {}: {error}", self.deployments[number].name()));
            }
        }
    }

    /// Brings the market in line with what goes on at a vendor.
    fn apply(&self, dialect: Dialect) {
        let account = self.accounts[&dialect];
        self.market.set_valid(account, !self.sky.is(dialect, Episode::Refused));
        self.market.set_credit(account, self.sky.is(dialect, Episode::NoCredit).then_some(Nanos::ZERO));
        let mut faults = self.base.clone();
        for dialect in Dialect::ALL {
            for fault in Episode::ALL.into_iter().filter(|e| self.sky.is(dialect, *e)).filter_map(Episode::fault) {
                match dialect {
                    Dialect::Vastai => faults.vastai.set_rate(fault, ALWAYS),
                    Dialect::Tensordock => faults.tensordock.set_rate(fault, ALWAYS),
                }
            }
        }
        self.market.set_faults(faults);
    }

    /// What happens to one machine.
    fn strike(&self, spell: &Spell, dice: &mut ChaCha8Rng, touched: &mut BTreeMap<usize, String>, index: usize) {
        let strangers = self.apart().strangers;
        let here: BTreeSet<String> = self.market.truth().into_iter().filter(|t| t.alive && t.dialect == spell.dialect).map(|t| t.native_id).collect();
        let ours: Vec<&String> = here.difference(&strangers).collect();
        let chosen = dice.random::<u32>() as usize;
        let one = (!ours.is_empty()).then(|| ours[chosen % ours.len()].clone());
        let percent = dice.random_range(80..200);
        match spell.episode {
            Episode::Stranger => return self.plant(spell.dialect, dice),
            Episode::Twin => return self.twins(spell.dialect, 1, dice),
            Episode::Twins => return self.twins(spell.dialect, 5, dice),
            _ => {}
        }
        let Some(machine) = one else { return };
        let done = match spell.episode {
            Episode::Vanish => self.market.vanish(&machine),
            Episode::Outbid => self.market.preempt(&machine),
            Episode::Reprice => {
                self.apart.lock().unwrap_or_else(PoisonError::into_inner).repriced.insert(machine.clone());
                self.market.reprice(&machine, percent)
            }
            Episode::Offline => {
                touched.insert(index, machine.clone());
                self.market.set_offline(&machine, true)
            }
            _ => return,
        };
        self.story.tell(spell.dialect.word(), &format!("{} of {machine}: {done}", spell.episode.word()));
    }

    /// Machines beyond those that were ordered, with the labels of some of the last attempts of one deployment there.
    fn twins(&self, dialect: Dialect, number: usize, dice: &mut ChaCha8Rng) {
        let house = &self.deployments[dice.random_range(0..self.deployments.len())];
        let provider = ProviderId::new(dialect.word());
        let labels = house.witness().attempts_at(&provider);
        let recent = labels.len().min(8);
        for _ in 0..number.min(recent) {
            let label = labels[labels.len() - 1 - dice.random_range(0..recent)];
            if let Some(native_id) = self.market.plant(self.accounts[&dialect], &label.to_string()) {
                house.witness().planted(&native_id, label, provider.clone(), Plant::Twin);
                self.story.tell(dialect.word(), &format!("{native_id} comes to be as {label}, beyond what was ordered"));
            }
        }
    }

    /// Somebody else's machine on the account, with a label that is not ours, or not quite.
    fn plant(&self, dialect: Dialect, dice: &mut ChaCha8Rng) {
        let house = &self.deployments[dice.random_range(0..self.deployments.len())];
        let launched = house.witness().launches();
        let like = |dice: &mut ChaCha8Rng| (!launched.is_empty()).then(|| launched[dice.random_range(0..launched.len())]);
        let label = match (dice.random_range(0..4), like(dice)) {
            (0, Some(label)) => format!("{label}x"),
            (1, Some(label)) => format!("{label}-copy"),
            // Of ours by all its parts, and no row knows it: as after a lost database.
            (2, _) => Label { tag: house.tag(), session: SessionId::new(self.clock.now(), dice.random()), attempt: 1 }.to_string(),
            // As made in the vendor's console.
            (3, _) => String::new(),
            _ => "my training box".to_owned(),
        };
        if let Some(native_id) = self.market.plant(self.accounts[&dialect], &label) {
            self.story.tell(dialect.word(), &format!("somebody rents {native_id} as {label}"));
            if let Some(label) = Label::parse(&label).filter(|label| label.tag == house.tag()) {
                return house.witness().planted(&native_id, label, ProviderId::new(dialect.word()), Plant::Stray);
            }
            self.apart.lock().unwrap_or_else(PoisonError::into_inner).strangers.insert(native_id);
        }
    }

    fn outcome(&self) -> Outcome {
        let mut counts = self.story.counts();
        let mut ends = BTreeMap::new();
        for deployment in &self.deployments {
            let (commits, events, sessions) = deployment.witness().counts();
            let (ran, ended) = deployment.witness().ends();
            for (what, count) in [("commits", commits), ("events", events as u64), ("sessions", sessions as u64), ("sessions_running", ran as u64)] {
                *counts.entry(what).or_default() += count;
            }
            super::add(&mut ends, &ended);
        }
        let machines = self.market.truth();
        counts.insert("machines", machines.len() as u64);
        let told: Vec<String> = machines.iter().map(|t| format!("{t:?}")).collect();
        self.story.tell("world", &format!("ends with {} machines {}", machines.len(), told.join(" ")));
        let mut tail = self.story.tail();
        tail.pop();
        Outcome {
            seed: self.seed,
            wrong: self.story.wrongs(),
            tail,
            fingerprint: self.story.fingerprint(),
            offers: self.offers.load(Ordering::Relaxed),
            simulated_ms: u64::try_from(self.clock.now().since(BEGIN).as_millis()).unwrap_or(u64::MAX),
            counts,
            faults: self.market.struck().into_iter().map(|(fault, count)| (fault.word(), count)).collect(),
            calls: self.story.calls(),
            ends,
        }
    }
}
