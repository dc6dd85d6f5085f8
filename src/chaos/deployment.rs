//! One deployment in a world: a service that lives, dies at any moment, is away for a while, and lives again on the same
//! database, on one of an earlier time, or on an empty one; with all its providers or without one; and a copy of it that
//! somebody starts beside it.

use crate::app::{Core, CoreParts, tag_of};
use crate::chaos::life::{Doom, Life, Watched};
use crate::chaos::story::Story;
use crate::chaos::weather::{Line, Sky};
use crate::chaos::witness::{Past, Witness};
use crate::chaos::wrong::{Memory, Wrong};
use crate::clock::Clock;
use crate::domain::ids::{ProviderId, SessionId, Tag};
use crate::domain::policy::Policy;
use crate::domain::time::Time;
use crate::ports::{Chance, Provider, SeededChance, SshProbe};
use crate::providers;
use crate::server::require_owing;
use crate::services::api::Caller;
use crate::services::board::Board;
use crate::services::costs::Costs;
use crate::services::drain::Drain;
use crate::services::error::Code;
use crate::services::inventory::Inventory;
use crate::services::lifecycle::{Handle, Vault};
use crate::services::lookout::Rhythm;
use crate::services::operator::Operator;
use crate::services::sessions::Sessions;
use crate::services::sweeper::{Hold, SweepPolicy};
use crate::sim::{AccountId, Dialect, Market, SimProbe, SimProvider, Workload};
use crate::store::{Error, Store};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What callers reach of a deployment while it lives.
#[derive(Clone)]
pub struct Doors {
    /// Changes.
    pub lifecycle: Handle,
    /// Reading.
    pub sessions: Sessions,
    /// Money.
    pub costs: Costs,
    /// Offers.
    pub inventory: Inventory,
    /// What is committed.
    pub board: Board,
    /// For operators.
    pub operator: Operator,
    /// Ends everything.
    pub winding_up: Drain,
    /// Its disk.
    pub store: Store,
    /// The life behind them: when it is over, nobody answers any more.
    pub life: Arc<Life>,
}

impl Doors {
    /// A call; `None` when the process died meanwhile.
    pub async fn ask<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.life.died() => None,
            answer = call => Some(answer),
        }
    }
}

/// What a deployment is made of.
pub struct Plan {
    /// Its name in the story.
    pub name: String,
    /// The market.
    pub market: Arc<Market>,
    /// Its accounts.
    pub accounts: BTreeMap<Dialect, AccountId>,
    /// Accounts that it is given by mistake for a while: nothing can be rented on them.
    pub other_accounts: BTreeMap<Dialect, AccountId>,
    /// The time.
    pub clock: Clock,
    /// Settings.
    pub policy: Policy,
    /// What it may destroy without being asked.
    pub sweep: SweepPolicy,
    /// Whether its disk is put back to an earlier time now and then.
    pub restores: bool,
    /// How often offers are fetched.
    pub refresh: Duration,
    /// Decides ids and jitter.
    pub seed: u64,
    /// The lines to the vendors.
    pub sky: Arc<Sky>,
    /// The world's story.
    pub story: Arc<Story>,
    /// The wrong rule that it follows, if any.
    pub wrong: Option<Wrong>,
}

/// See the module's header.
pub struct Deployment {
    plan: Plan,
    tag: Tag,
    witness: Arc<Witness>,
    memory: Arc<Memory>,
    doors: Mutex<Option<Doors>>,
    /// Rings when they open. Whoever came first hears it first: the order of what follows is part of the story.
    bell: Notify,
    standing: Mutex<Standing>,
}

struct Standing {
    store: Store,
    starts: u64,
    up_since: Option<Time>,
    /// Vendors at which this life has the other account now.
    astray: BTreeSet<Dialect>,
    /// When credentials were last read again while it lived.
    renewed_at: Time,
    /// What leads this life's lines to the other account, by vendor.
    lines: BTreeMap<Dialect, Arc<AtomicBool>>,
    /// Vendors that this life does without.
    without: BTreeSet<Dialect>,
    /// A copy of its disk, and what was on it.
    backup: Option<(Store, Past)>,
}

/// Under this name a database keeps why it is in doubt; empty = it is not.
const DOUBT: &str = "doubt";

/// An operator of a deployment.
#[must_use]
pub fn operator() -> Caller {
    Caller { principal: "operator".to_owned(), scope: None, admin: true, request: String::new() }
}

impl Deployment {
    /// A deployment that has not begun to live.
    ///
    /// # Errors
    /// When there is no memory for its database.
    pub fn new(mut plan: Plan) -> Result<Arc<Self>, Error> {
        if let Some(rule) = plan.wrong {
            rule.bend(&mut plan.policy);
        }
        let tag = tag_of(&plan.name);
        let witness = Witness::new(&plan.name, tag, Arc::clone(&plan.market), Arc::clone(&plan.story), plan.policy.clone(), plan.sweep);
        witness.given_by_mistake(plan.other_accounts.values().map(|account| account.user_id().to_string()).collect());
        let standing = Standing {
            store: Store::open_memory()?,
            starts: 0,
            up_since: None,
            astray: BTreeSet::new(),
            renewed_at: Time::default(),
            lines: BTreeMap::new(),
            without: BTreeSet::new(),
            backup: None,
        };
        Ok(Arc::new(Self {
            plan,
            tag,
            witness,
            memory: Arc::default(),
            doors: Mutex::default(),
            bell: Notify::new(),
            standing: Mutex::new(standing),
        }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Its tag in labels.
    #[must_use]
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// Its witness.
    #[must_use]
    pub fn witness(&self) -> &Arc<Witness> {
        &self.witness
    }

    /// Offers that it knows now.
    #[must_use]
    pub fn offers(&self) -> u64 {
        self.doors().as_ref().map_or(0, |doors| doors.inventory.snapshot().offers.len() as u64)
    }

    /// Holds that are in force, whoever set them.
    #[must_use]
    pub fn holds(&self) -> Vec<Hold> {
        self.doors().as_ref().map_or_else(Vec::new, |doors| doors.operator.findings().holds)
    }

    /// The longest that a session may live.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.plan.policy.hard_max
    }

    /// Somebody uses the machines of a session so from now on.
    pub fn occupy(&self, id: SessionId, workload: Workload) {
        for (native_id, _) in self.plan.market.living(&format!("gs-{}-{id}-", self.tag)) {
            self.plan.market.set_workload(&native_id, workload);
            self.witness.used(&native_id, workload);
        }
    }

    /// Machines that it reports, by the vendors' ids; `None` while it is down.
    #[must_use]
    pub fn reported(&self) -> Option<BTreeSet<String>> {
        let doors = self.doors();
        let findings = doors.as_ref()?.operator.findings();
        Some(findings.machines.iter().map(|found| found.sighting.native_id.clone()).collect())
    }

    fn standing(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: &str) {
        self.plan.story.tell(&self.plan.name, what);
    }

    /// Its doors, as soon as it lives.
    pub async fn open(&self) -> Doors {
        loop {
            let mut bell = std::pin::pin!(self.bell.notified());
            bell.as_mut().enable();
            if let Some(open) = self.doors().clone().filter(|open| !open.life.is_dead()) {
                return open;
            }
            bell.await;
        }
    }

    fn doors(&self) -> std::sync::MutexGuard<'_, Option<Doors>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its process is there.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.standing().up_since.is_some()
    }

    /// Since when nothing has disturbed what it does at a provider; `None` while something does.
    #[must_use]
    pub fn quiet_since(&self, provider: &ProviderId) -> Option<Time> {
        let dialect = Dialect::from_word(provider.as_str())?;
        let standing = self.standing();
        if standing.astray.contains(&dialect) || standing.without.contains(&dialect) || self.witness.is_frozen() {
            return None;
        }
        let able = standing.up_since?.max(standing.renewed_at).max(self.witness.accepted_at().unwrap_or_default());
        Some(able.max(self.plan.sky.quiet_since(dialect, self.plan.story.begun())?))
    }

    /// Lives until `stop`: each of `ends` is a moment from which on the process dies, at whatever it does next.
    ///
    /// # Errors
    /// When its database can't be read.
    pub async fn live(&self, mut dice: ChaCha8Rng, ends: Vec<Time>, stop: CancellationToken) -> Result<(), Error> {
        let mut ends = ends.into_iter();
        loop {
            let end = ends.next();
            let (core, life) = self.start(&mut dice, end.is_none()).await?;
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = life.died() => {}
                () = self.plan.clock.sleep_until(end.unwrap_or_default()), if end.is_some() => {}
                () = std::future::pending() => {}
            }
            if stop.is_cancelled() {
                self.close();
                core.kill();
                return Ok(());
            }
            self.end(core, &life, &mut dice).await;
            let away = match dice.random_range(0..4) {
                0 => 0,
                1 => dice.random_range(0..10_000),
                2 => dice.random_range(0..120_000),
                _ => dice.random_range(0..1_500_000),
            };
            self.plan.clock.sleep(Duration::from_millis(away)).await;
            if self.plan.restores {
                self.keep_or_restore(&mut dice).await?;
            }
        }
    }

    /// Vendors that this life does without.
    #[must_use]
    pub fn without(&self) -> BTreeSet<Dialect> {
        self.standing().without.clone()
    }

    /// Machines that are there and their labels, by their ids: what a vendor's console shows.
    #[must_use]
    pub fn console(&self) -> BTreeMap<String, String> {
        self.plan.market.living("").into_iter().collect()
    }

    /// Vendors at which it has another account than its own now.
    #[must_use]
    pub fn astray(&self) -> BTreeSet<Dialect> {
        self.standing().astray.clone()
    }

    /// Its credentials at a vendor are changed while it lives, and it is told so: to those of the other account, or back to
    /// its own. Nothing happens where there is no other account, or this life does without the vendor.
    pub async fn renew(&self, doors: &Doors, dialect: Dialect, astray: bool) {
        let there = self.plan.other_accounts.contains_key(&dialect);
        let Some(line) = self.standing().lines.get(&dialect).filter(|_| there).cloned() else { return };
        self.tell(&format!("has the credentials of {} account at {dialect}", if astray { "another" } else { "its own" }, dialect = dialect.word()));
        self.plan.story.count("renewals");
        let take = || {
            line.store(astray, Ordering::Relaxed);
            let mut standing = self.standing();
            standing.renewed_at = self.plan.clock.now();
            let _ = if astray { standing.astray.insert(dialect) } else { standing.astray.remove(&dialect) };
        };
        if self.plan.wrong == Some(Wrong::RenewedUnheard) {
            return take();
        }
        let provider = ProviderId::new(dialect.word());
        if let Some(Err(error)) = doors.ask(doors.operator.renew(&provider, take)).await
            && error.code != Code::Unavailable
        {
            self.plan.story.wrong(format!("{}: new credentials are answered with {error:?}", self.plan.name));
        }
    }

    /// Somebody has taken the credentials of a vendor out of its settings: it must not start without one at which it owes.
    async fn disabled(&self, store: &Store, wanted: Dialect) -> BTreeSet<Dialect> {
        let enabled = Dialect::ALL.into_iter().filter(|d| *d != wanted).map(|d| ProviderId::new(d.word())).collect();
        let refuses = self.plan.wrong != Some(Wrong::DebtsLeftBehind) && require_owing(store, &enabled).await.is_err();
        let owes = self.witness.owes_at(&ProviderId::new(wanted.word()));
        let word = wanted.word();
        self.tell(&format!("{} without {word}", if refuses { "refuses to start" } else { "is to start" }));
        self.plan.story.count(if refuses { "starts_refused" } else { "starts_without_a_provider" });
        match (refuses, owes) {
            (false, true) => self.plan.story.wrong(format!("{}: starts without {word}, at which it owes", self.plan.name)),
            (true, false) => self.plan.story.wrong(format!("{}: refuses to start without {word}, at which it owes nothing", self.plan.name)),
            _ => {}
        }
        if refuses { BTreeSet::new() } else { BTreeSet::from([wanted]) }
    }

    /// While nobody is there its disk is copied, is put back to what was copied before, or is lost.
    async fn keep_or_restore(&self, dice: &mut ChaCha8Rng) -> Result<(), Error> {
        let (kept, put_back, lost, noticed) = (dice.random_bool(0.4), dice.random_bool(0.5), dice.random_bool(0.12), dice.random_bool(0.5));
        if lost {
            // With what tells how far it had come, or without: then nobody can know that it is not the first start.
            self.tell(&format!("has its disk lost{}", if noticed { ", and knows it" } else { "" }));
            self.plan.story.count("databases_lost");
            let empty = Store::open_memory()?;
            if noticed {
                empty.meta_set(DOUBT, "it is another database").await?;
            }
            self.standing().store = empty;
            self.witness.rewind(Past::default());
            return Ok(());
        }
        let (store, backup) = {
            let mut standing = self.standing();
            let backup = standing.backup.take_if(|_| put_back);
            (standing.store.clone(), backup)
        };
        if let Some((copy, past)) = backup {
            self.tell("has its disk put back");
            self.plan.story.count("restores");
            copy.meta_set(DOUBT, "it is a restored backup").await?;
            self.standing().store = copy;
            self.witness.rewind(past);
        } else if kept && let Some(copy) = store.copied().await? {
            self.tell("has its disk copied");
            self.standing().backup = Some((copy, self.witness.past()));
        }
        Ok(())
    }

    /// Somebody starts a copy of it beside it, for so long: it may look, and must not touch anything.
    ///
    /// # Errors
    /// When the copy can't be read.
    pub async fn beside(&self, long: Duration) -> Result<(), Error> {
        let (store, past, number) = {
            let standing = self.standing();
            (standing.store.clone(), self.witness.past(), standing.starts)
        };
        let Some(copy) = store.copied().await? else { return Ok(()) };
        copy.meta_set(DOUBT, "it is a copy").await?;
        let name = format!("copy of {}", self.plan.name);
        let (market, story) = (Arc::clone(&self.plan.market), Arc::clone(&self.plan.story));
        let witness = Witness::new(&name, self.tag, market, story, self.plan.policy.clone(), self.plan.sweep);
        witness.inherit(&self.witness);
        witness.rewind(past);
        witness.begun(true);
        self.plan.story.tell(&name, "is started");
        self.plan.story.count("copies");
        let life = Life::new(None, witness);
        let core = self.raise(copy, &life, &BTreeMap::new(), &BTreeSet::new(), 500 + number).await?;
        self.plan.clock.sleep(long).await;
        self.plan.story.tell(&name, "is stopped");
        life.die();
        core.kill();
        Ok(())
    }

    fn close(&self) {
        *self.doors() = None;
        self.standing().up_since = None;
    }

    /// Dies at one of the next commits or calls, or is asked to stop and given the time it takes.
    async fn end(&self, core: Core, life: &Arc<Life>, dice: &mut ChaCha8Rng) {
        let soon = dice.random_range(1..12);
        let (commit, call) = (life.commits() + soon, life.call_count() + soon);
        let doom = match dice.random_range(0..6) {
            0 => Some(Doom::BeforeCommit(commit)),
            1 => Some(Doom::AfterCommit(commit)),
            2 => Some(Doom::BeforeCall(call)),
            3 => Some(Doom::ReplyLost(call)),
            4 => Some(Doom::ReplyKept(call)),
            _ => None,
        };
        match doom {
            Some(doom) => {
                life.set_doom(doom);
                // Where nothing goes on there is nothing to die at.
                let patience = Duration::from_secs(dice.random_range(1..900));
                tokio::select! {
                    biased;
                    () = life.died() => {}
                    () = self.plan.clock.sleep(patience) => life.die(),
                }
                self.tell(&format!("crashes: {doom:?}"));
                self.plan.story.count("crashes");
                self.close();
                core.kill();
            }
            None => {
                self.tell("is stopped");
                self.plan.story.count("stops");
                *self.doors() = None;
                let stopped = tokio::time::timeout(Duration::from_secs(60), core.stop()).await;
                if !matches!(stopped, Ok(Ok(()))) {
                    self.plan.story.wrong(format!("{}: it did not stop when asked to: {stopped:?}", self.plan.name));
                }
                life.die();
                self.close();
            }
        }
    }

    async fn start(&self, dice: &mut ChaCha8Rng, last: bool) -> Result<(Core, Arc<Life>), Error> {
        let life = Life::new(None, Arc::clone(&self.witness));
        let rough = !self.plan.other_accounts.is_empty();
        let astray: BTreeSet<Dialect> = Dialect::ALL.into_iter().filter(|_| dice.random_bool(0.25) && rough).collect();
        let without = (dice.random_bool(0.4) && rough).then(|| Dialect::ALL[dice.random_range(0..2)]);
        let (store, starts) = {
            let mut standing = self.standing();
            standing.starts += 1;
            if let Some(heir) = standing.store.inherited() {
                standing.store = heir;
            }
            (standing.store.clone(), standing.starts)
        };
        // The first life has its own accounts, and all of them, and so has the last.
        let odd = starts > 1 && !last;
        let without = match without.filter(|_| odd) {
            Some(dialect) => self.disabled(&store, dialect).await,
            None => BTreeSet::new(),
        };
        let astray: BTreeSet<Dialect> = astray.into_iter().filter(|d| odd && !without.contains(d)).collect();
        let enabled = Dialect::ALL.into_iter().filter(|d| !without.contains(d));
        let lines: BTreeMap<Dialect, Arc<AtomicBool>> = enabled.map(|d| (d, Arc::new(AtomicBool::new(astray.contains(&d))))).collect();
        {
            let mut standing = self.standing();
            (standing.astray, standing.without, standing.lines) = (astray.clone(), without.clone(), lines.clone());
        }
        self.tell(&format!("starts for the {starts}. time{}", if astray.is_empty() { "" } else { ", with another account" }));
        let doubt = store.meta_get(DOUBT).await?.is_some_and(|text| !text.is_empty());
        self.witness.begun(doubt);
        let core = self.raise(store.clone(), &life, &lines, &without, starts).await?;
        self.standing().up_since = Some(self.plan.clock.now());
        *self.doors() = Some(Doors {
            lifecycle: core.lifecycle.clone(),
            sessions: core.sessions.clone(),
            costs: core.costs.clone(),
            inventory: core.inventory.clone(),
            board: core.board.clone(),
            operator: core.operator.clone(),
            winding_up: core.winding_up.clone(),
            store,
            life: Arc::clone(&life),
        });
        self.bell.notify_waiters();
        Ok((core, life))
    }

    /// A process of this deployment.
    async fn raise(
        &self,
        store: Store,
        life: &Arc<Life>,
        lines: &BTreeMap<Dialect, Arc<AtomicBool>>,
        without: &BTreeSet<Dialect>,
        number: u64,
    ) -> Result<Core, Error> {
        store.set_gate(life.gate(self.plan.wrong.and_then(Wrong::disk)));
        let mut map: BTreeMap<ProviderId, Arc<dyn Provider>> = BTreeMap::new();
        for (dialect, account) in self.plan.accounts.iter().filter(|(dialect, _)| !without.contains(dialect)) {
            let with = |account: &AccountId| -> Arc<dyn Provider> { Arc::new(SimProvider::new(Arc::clone(&self.plan.market), *account, *dialect)) };
            let line = Line {
                inner: with(account),
                other: self.plan.other_accounts.get(dialect).map(with),
                dialect: *dialect,
                sky: Arc::clone(&self.plan.sky),
                tag: self.tag,
                clock: self.plan.clock.clone(),
                astray: lines.get(dialect).cloned().unwrap_or_default(),
            };
            let mut provider: Arc<dyn Provider> = Arc::new(Watched { inner: Arc::new(line), life: Arc::clone(life) });
            if let Some(rule) = self.plan.wrong {
                provider = rule.provider(provider, &self.memory, &self.plan.clock);
            }
            map.insert(provider.facts().id.clone(), provider);
        }
        let probe: Arc<dyn SshProbe> = Arc::new(SimProbe::new(Arc::clone(&self.plan.market), [7; 32]));
        let chance: Arc<dyn Chance> = Arc::new(SeededChance::new(self.plan.seed.wrapping_mul(1000).wrapping_add(number)));
        let frozen = store.meta_get(DOUBT).await?.filter(|text| !text.is_empty());
        Core::start(CoreParts {
            store,
            deployment_id: self.plan.name.clone(),
            providers: map,
            probe: match self.plan.wrong {
                Some(rule) => rule.probe(probe),
                None => probe,
            },
            chance,
            clock: self.plan.clock.clone(),
            policy: self.plan.policy.clone(),
            rhythm: Rhythm { close: Duration::from_secs(5), steady: Duration::from_secs(30), idle: Duration::from_secs(120) },
            refresh: Some(self.plan.refresh),
            drain: Duration::from_secs(20),
            vault: Vault {
                seal: Arc::new(|_, _, key| Some(secrecy::ExposeSecret::expose_secret(key).as_bytes().to_vec())),
                open: Arc::new(|_, _, sealed| Some(String::from_utf8_lossy(sealed).into_owned().into())),
            },
            private_addresses: Vec::new(),
            offer_ids: providers::REGISTER.iter().map(|e| e.offer_id).collect(),
            vendor_calls: BTreeMap::new(),
            sweep: self.plan.sweep,
            frozen,
        })
        .await
    }
}
