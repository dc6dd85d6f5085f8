//! The market: everything that a vendor's API can be asked, in no vendor's words, and what tests may know beyond it.
//!
//! No task of its own: every call first brings the market to the clock's present. Waits are returned, not slept, so
//! that each face sleeps in its own way.

use crate::clock::Clock;
use crate::domain::money::Nanos;
use crate::domain::offer::Price;
use crate::domain::time::Time;
use crate::sim::catalogue::{Dice, Kind, Listing, catalogue};
use crate::sim::faults::{BadFault, Delay, Fault, Faults};
use crate::sim::rental::{GpuTruth, Phase, Rental, Shown, Workload};
use crate::sim::state::{Account, Event, Order, Pick, Refusal, State};
use crate::sim::templates::{Made, TEMPLATES};
use crate::sim::{Bill, Dialect};
use rand::SeedableRng;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a market begins.
#[derive(Clone, Debug)]
pub struct MarketConfig {
    /// Decides the catalogue and every throw.
    pub seed: u64,
    /// What goes wrong and how long things take.
    pub faults: Faults,
    /// Its time.
    pub clock: Clock,
    /// Whether machines get made-up addresses; otherwise they have one when [`Market::set_endpoint`] gave it.
    pub fabricated_addresses: bool,
}

/// An account at one of the two vendors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub(super) u32);

impl AccountId {
    /// The vendor's user id.
    #[must_use]
    pub fn user_id(self) -> u32 {
        self.0
    }
}

/// What opens an account over HTTP.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Vast.ai: one key.
    Key(String),
    /// TensorDock: authorization id and API token.
    Pair {
        /// The UUID.
        id: String,
        /// The token.
        token: String,
    },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A machine that wants an SSH server of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The machine.
    pub native_id: String,
    /// Whether the machine itself can be reached.
    pub direct: bool,
    /// Whether the vendor has a proxy for it.
    pub proxied: bool,
    /// Whether its SSH server answers already.
    pub answers: bool,
    /// Ports inside that are mapped, beside SSH.
    pub ports: Vec<u16>,
}

/// All there is to know about a machine.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Truth {
    /// The vendor's id.
    pub native_id: String,
    /// Its label or name.
    pub label: String,
    /// Whose it is.
    pub account: u32,
    /// Which vendor's.
    pub dialect: Dialect,
    /// Whether it exists.
    pub alive: bool,
    /// What it does.
    pub phase: Phase,
    /// When it was accepted.
    pub created: Time,
    /// When it first ran.
    pub running: Option<Time>,
    /// Since when a real SSH server listens for it.
    pub ssh_since: Option<Time>,
    /// When it was gone.
    pub gone: Option<Time>,
    /// The machine or place behind it.
    pub machine: String,
    /// What it costs per hour.
    pub price: Price,
    /// What it has cost.
    pub bill: Bill,
}

/// Listings, each with its ask's id or its free units.
pub type Rows<K> = Vec<(K, Arc<Listing>)>;

/// What came of a create: the answer, how long it takes, and whether it arrives.
#[derive(Debug)]
pub struct CreateAnswer {
    /// The new id, or why not.
    pub result: Result<String, Refusal>,
    /// How long the answer takes.
    pub wait: Duration,
    /// Whether it never arrives.
    pub lost: bool,
}

/// A list of machines.
#[derive(Debug)]
pub struct ListAnswer {
    /// The machines, by age.
    pub rows: Vec<Shown>,
    /// How many there should be.
    pub total: usize,
    /// How long the answer takes.
    pub wait: Duration,
}

/// The market. Shared by its faces.
pub struct Market {
    seed: u64,
    clock: Clock,
    state: Mutex<State>,
    doors: Mutex<BTreeMap<u32, Credentials>>,
}

impl Market {
    /// A market with the catalogue of its seed.
    #[must_use]
    pub fn new(config: MarketConfig) -> Arc<Self> {
        Self::sized(config, 1)
    }

    /// The same with `times` as much on it: for measuring, where the usual few hundred offers are too few.
    #[must_use]
    pub fn sized(config: MarketConfig, times: usize) -> Arc<Self> {
        let mut run = rand_chacha::ChaCha8Rng::seed_from_u64(config.seed);
        run.set_stream(1);
        let state = State::new(catalogue(config.seed, times), config.faults, Dice(run), config.clock.now(), config.fabricated_addresses);
        Arc::new(Self { seed: config.seed, clock: config.clock, state: Mutex::new(state), doors: Mutex::default() })
    }

    /// The market's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// When the market began; hosts' listings count from there.
    #[must_use]
    pub fn begun(&self) -> Time {
        self.present().0.begun
    }

    /// Lets the time pass that an answer takes.
    pub async fn pause(&self, wait: Duration) {
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
        }
    }

    fn present(&self) -> (MutexGuard<'_, State>, Time) {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(now);
        (state, now)
    }

    /// Opens the door for one call of an account.
    fn called(&self, account: AccountId, endpoint: &'static str) -> Result<(MutexGuard<'_, State>, Time, Dialect), Refusal> {
        let (mut state, now) = self.present();
        let dialect = state.accounts.get(&account.0).filter(|account| account.valid).map(|account| account.dialect).ok_or(Refusal::Auth)?;
        state.let_through(account.0, dialect, endpoint, now)?;
        Ok((state, now, dialect))
    }

    /// Opens an account; `credit` is what is on it, `None` = as much as it takes.
    pub fn add_account(&self, dialect: Dialect, credentials: Credentials, credit: Option<Nanos>) -> AccountId {
        let (mut state, _) = self.present();
        let id = state.accounts.keys().next_back().map_or(190_001, |last| last + 17);
        state.accounts.insert(id, Account { dialect, valid: true, credit });
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).insert(id, credentials);
        AccountId(id)
    }

    /// Makes an account's credentials worthless, or good again.
    pub fn set_valid(&self, account: AccountId, valid: bool) {
        let (mut state, _) = self.present();
        state.accounts.entry(account.0).and_modify(|account| account.valid = valid);
    }

    /// Changes what is on an account, what was spent so far included.
    pub fn set_credit(&self, account: AccountId, credit: Option<Nanos>) {
        let (mut state, _) = self.present();
        state.accounts.entry(account.0).and_modify(|account| account.credit = credit);
    }

    /// The account that these credentials open. `Pair`s with an empty id are known by the token alone.
    #[must_use]
    pub fn account_of(&self, offered: &Credentials) -> Option<AccountId> {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |door: &Credentials| match (door, offered) {
            (Credentials::Pair { token, .. }, Credentials::Pair { id, token: told }) if id.is_empty() => token == told,
            _ => door == offered,
        };
        let found = doors.iter().find(|(_, door)| fits(door)).map(|(id, _)| AccountId(*id));
        drop(doors);
        found.filter(|id| self.present().0.accounts.get(&id.0).is_some_and(|account| account.valid))
    }

    /// What is left on an account; `None` = no limit.
    ///
    /// # Errors
    /// When the credentials are worthless or the call is too early.
    pub fn balance(&self, account: AccountId) -> Result<Option<Nanos>, Refusal> {
        let (state, now, _) = self.called(account, "user")?;
        let credit = state.accounts.get(&account.0).and_then(|account| account.credit);
        Ok(credit.map(|credit| credit - state.spent(account.0, now)))
    }

    /// The asks that can be rented now, by id, and how long the answer takes. Whoever asks without an account is let in too.
    ///
    /// # Errors
    /// When the vendor is broken or the call is too early.
    pub fn asks(&self, account: Option<AccountId>) -> Result<(Rows<u64>, Duration), Refusal> {
        let (mut state, now) = self.search(account, Dialect::Vastai)?;
        let listed = |listing: &Listing| matches!(&listing.kind, Kind::Ask(ask) if state.begun + Duration::from_secs(ask.listed_s) > now);
        let rows = state.asks.iter().map(|(id, index)| (*id, Arc::clone(&state.listings[*index]))).filter(|(_, l)| listed(l)).collect();
        Ok((rows, state.wait(Dialect::Vastai, Delay::Latency)))
    }

    /// The places with what is free there (possibly nothing), and how long the answer takes.
    ///
    /// # Errors
    /// When the vendor is broken or the call is too early.
    pub fn places(&self, account: Option<AccountId>) -> Result<(Rows<u32>, Duration), Refusal> {
        let (mut state, _) = self.search(account, Dialect::Tensordock)?;
        let rows = state.stock.iter().map(|(index, free)| (*free, Arc::clone(&state.listings[*index]))).collect();
        Ok((rows, state.wait(Dialect::Tensordock, Delay::Latency)))
    }

    fn search(&self, account: Option<AccountId>, dialect: Dialect) -> Result<(MutexGuard<'_, State>, Time), Refusal> {
        let (mut state, now) = match account {
            Some(account) => {
                let (state, now, _) = self.called(account, "offers")?;
                (state, now)
            }
            None => self.present(),
        };
        if state.strikes(dialect, Fault::OffersFail) {
            return Err(Refusal::ServerError);
        }
        Ok((state, now))
    }

    /// The vendor's templates, and how long the answer takes.
    ///
    /// # Errors
    /// When the credentials are worthless or the call is too early.
    pub fn templates(&self, account: AccountId) -> Result<(&'static [Made], Duration), Refusal> {
        let (mut state, _, dialect) = self.called(account, "templates")?;
        Ok((&TEMPLATES, state.wait(dialect, Delay::Latency)))
    }

    /// Whether rows with NaN are the fashion of the hour.
    #[must_use]
    pub fn draws_nan(&self) -> bool {
        self.present().0.strikes(Dialect::Vastai, Fault::NanRows)
    }

    /// Rents something.
    #[must_use]
    pub fn create(&self, account: AccountId, pick: &Pick, order: Order) -> CreateAnswer {
        let (mut state, now, dialect) = match self.called(account, "create") {
            Ok(called) => called,
            Err(refusal) => return CreateAnswer { result: Err(refusal), wait: Duration::ZERO, lost: false },
        };
        let created = state.create(account.0, dialect, pick, order, now);
        CreateAnswer { wait: state.wait(dialect, Delay::Latency) + created.hang, result: created.result, lost: created.lost }
    }

    /// The machines of an account.
    ///
    /// # Errors
    /// When the vendor is broken, the credentials are worthless or the call is too early.
    pub fn list(&self, account: AccountId) -> Result<ListAnswer, Refusal> {
        let (mut state, now, dialect) = self.called(account, "list")?;
        if state.strikes(dialect, Fault::ListFails) {
            return Err(Refusal::ServerError);
        }
        let mut rows: Vec<Shown> =
            state.rentals.values().filter(|r| r.account == account.0 && r.alive() && r.visible_from <= now).map(|r| r.shown(now)).collect();
        let total = rows.len();
        if total > 0 && state.strikes(dialect, Fault::ListPartial) {
            let lost = state.dice.below(u64::try_from(total).unwrap_or(1));
            rows.remove(usize::try_from(lost).unwrap_or(0));
        }
        let mut wait = state.wait(dialect, Delay::Latency);
        if state.strikes(dialect, Fault::ListSlow) {
            wait += state.wait(dialect, Delay::ListHang);
        }
        Ok(ListAnswer { rows, total, wait })
    }

    /// One machine of an account, and how long the answer takes.
    ///
    /// # Errors
    /// When the vendor is broken, the credentials are worthless or the call is too early.
    pub fn get(&self, account: AccountId, native_id: &str) -> Result<(Option<Shown>, Duration), Refusal> {
        let (mut state, now, dialect) = self.called(account, "instance")?;
        if state.strikes(dialect, Fault::GetFails) {
            return Err(Refusal::ServerError);
        }
        let wait = state.wait(dialect, Delay::Latency);
        Ok((owned(&mut state, account, native_id, now).ok().map(|rental| rental.shown(now)), wait))
    }

    /// Puts one more key on a machine.
    ///
    /// # Errors
    /// When there is no such machine, or for the reasons of every call.
    pub fn attach_key(&self, account: AccountId, native_id: &str, line: &str) -> Result<Duration, Refusal> {
        let (mut state, now, dialect) = self.called(account, "ssh")?;
        let delay = state.wait(dialect, Delay::KeyDelay);
        owned(&mut state, account, native_id, now)?.add_key(line, now, delay);
        Ok(state.wait(dialect, Delay::Latency))
    }

    /// Starts a stopped machine.
    ///
    /// # Errors
    /// When there is no such machine or its resources are taken, or for the reasons of every call.
    pub fn start(&self, account: AccountId, native_id: &str) -> Result<Duration, Refusal> {
        let (mut state, now, dialect) = self.called(account, "manage")?;
        let serial = owned(&mut state, account, native_id, now)?.serial;
        state.start(serial, now)?;
        Ok(state.wait(dialect, Delay::Latency))
    }

    /// Stops a machine; it goes on existing, and costing.
    ///
    /// # Errors
    /// When there is no such machine, or for the reasons of every call.
    pub fn stop(&self, account: AccountId, native_id: &str) -> Result<Duration, Refusal> {
        let (mut state, now, dialect) = self.called(account, "manage")?;
        State::stop(owned(&mut state, account, native_id, now)?, now, "");
        Ok(state.wait(dialect, Delay::Latency))
    }

    /// Changes a machine's label.
    ///
    /// # Errors
    /// When there is no such machine, or for the reasons of every call.
    pub fn label(&self, account: AccountId, native_id: &str, label: &str) -> Result<Duration, Refusal> {
        let (mut state, now, dialect) = self.called(account, "manage")?;
        label.clone_into(&mut owned(&mut state, account, native_id, now)?.order.label);
        Ok(state.wait(dialect, Delay::Latency))
    }

    /// Orders a machine to be destroyed.
    ///
    /// # Errors
    /// When there is no such machine, when it can't be deleted yet, when the vendor is broken (the order may have been
    /// carried out), or for the reasons of every call.
    pub fn destroy(&self, account: AccountId, native_id: &str) -> Result<Duration, Refusal> {
        let (mut state, now, dialect) = self.called(account, "destroy")?;
        let rental = owned(&mut state, account, native_id, now)?;
        let (serial, refused) = (rental.serial, rental.fate.undeletable_until.filter(|until| now < *until));
        let deleting = rental.phase == Phase::Deleting;
        if let Some(until) = refused {
            return Err(Refusal::NotReady(until));
        }
        let wait = state.wait(dialect, Delay::Latency);
        if state.strikes(dialect, Fault::DestroyIgnored) {
            return Ok(wait);
        }
        // What is on its way out does not come back.
        if !deleting && state.strikes(dialect, Fault::DestroyComesBack) {
            let back = now + state.wait(dialect, Delay::Invisible);
            state.rentals.entry(serial).and_modify(|rental| (rental.visible_from, rental.denied) = (back, true));
            return Ok(wait);
        }
        let gone = now + state.wait(dialect, Delay::Destroy);
        if let Some(rental) = state.rentals.get_mut(&serial).filter(|rental| rental.phase != Phase::Deleting) {
            (rental.phase, rental.wants_running) = (Phase::Deleting, false);
            rental.epoch += 1;
            rental.read_meter(now);
            state.plan_event(gone, serial, Event::Gone);
            state.advance(now);
        }
        if state.strikes(dialect, Fault::DestroyLostReply) { Err(Refusal::ServerError) } else { Ok(wait) }
    }

    // What no vendor tells.

    /// The faults and waits of the hour.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.present().0.faults.clone()
    }

    /// Changes all faults and waits; machines that exist keep what was decided about them.
    pub fn set_faults(&self, faults: Faults) {
        self.present().0.faults = faults;
    }

    /// Changes one by name (see [`Faults::set`]).
    ///
    /// # Errors
    /// When there is no such name or the value makes no sense.
    pub fn set_fault(&self, name: &str, value: &str) -> Result<(), BadFault> {
        self.present().0.faults.set(name, value)
    }

    /// What a machine has cost up to now.
    #[must_use]
    pub fn bill(&self, native_id: &str) -> Option<Bill> {
        let (state, now) = self.present();
        Some(by_native(&state, native_id)?.meter.bill(now))
    }

    /// What every machine that ever was has cost, by native id.
    #[must_use]
    pub fn bills(&self) -> BTreeMap<String, Bill> {
        let (state, now) = self.present();
        state.rentals.values().map(|rental| (rental.native_id.clone(), rental.meter.bill(now))).collect()
    }

    /// Every machine that ever was, by age.
    #[must_use]
    pub fn truth(&self) -> Vec<Truth> {
        let (state, now) = self.present();
        let told = |rental: &Rental| Truth {
            native_id: rental.native_id.clone(),
            label: rental.order.label.clone(),
            account: rental.account,
            dialect: rental.listing.dialect(),
            alive: rental.alive(),
            phase: rental.phase,
            created: rental.created,
            running: rental.first_run,
            ssh_since: rental.ssh_since,
            gone: rental.gone,
            machine: rental.listing.machine(),
            price: rental.price,
            bill: rental.meter.bill(now),
        };
        state.rentals.values().map(told).collect()
    }

    /// The ids of the machines that exist.
    #[must_use]
    pub fn alive(&self) -> Vec<String> {
        let (state, _) = self.present();
        state.rentals.values().filter(|rental| rental.alive()).map(|rental| rental.native_id.clone()).collect()
    }

    /// The machines that exist and whose label begins so: id and label, by age.
    #[must_use]
    pub fn living(&self, beginning: &str) -> Vec<(String, String)> {
        let (state, _) = self.present();
        let found = state.rentals.values().filter(|rental| rental.alive() && rental.order.label.starts_with(beginning));
        found.map(|rental| (rental.native_id.clone(), rental.order.label.clone())).collect()
    }

    /// The label of a machine that exists or did.
    #[must_use]
    pub fn label_of(&self, native_id: &str) -> Option<String> {
        let (state, _) = self.present();
        by_native(&state, native_id).map(|rental| rental.order.label.clone())
    }

    /// The machine or place behind a rented machine.
    #[must_use]
    pub fn hardware_of(&self, native_id: &str) -> Option<String> {
        let (state, _) = self.present();
        by_native(&state, native_id).map(|rental| rental.listing.machine())
    }

    /// What a machine has cost by now.
    #[must_use]
    pub fn bill_of(&self, native_id: &str) -> Option<Nanos> {
        let (state, now) = self.present();
        by_native(&state, native_id).map(|rental| rental.meter.bill(now).total)
    }

    /// How often each fault has struck, or was decided to strike a machine later on.
    #[must_use]
    pub fn struck(&self) -> BTreeMap<Fault, u64> {
        self.present().0.struck.clone()
    }

    /// Makes a machine's host disappear: later, if its vendor hides the machine now; never, if it came back from a destroy.
    pub fn vanish(&self, native_id: &str) -> bool {
        self.touch(native_id, |state, serial, now| {
            state.plan_event(now, serial, Event::Vanish);
            state.advance(now);
        })
    }

    /// Lets somebody else outbid a machine; one that is being deleted stays so.
    pub fn preempt(&self, native_id: &str) -> bool {
        self.touch(native_id, |state, serial, now| {
            if let Some(rental) = state.rentals.get_mut(&serial).filter(|rental| rental.phase != Phase::Deleting) {
                State::stop(rental, now, "outbid");
            }
        })
    }

    /// Rewrites who may log in to a machine, as somebody on it does: these keys may, those (their wire bytes) may not.
    pub fn rewrite_keys(&self, native_id: &str, add: &[String], gone: &[Vec<u8>]) -> bool {
        self.touch(native_id, |state, serial, now| {
            state.rentals.entry(serial).and_modify(|rental| rental.rewrite_keys(add, gone, now));
        })
    }

    /// Makes a machine forget all its keys, as a rebuilt container does.
    pub fn lose_keys(&self, native_id: &str) -> bool {
        self.touch(native_id, |state, serial, _| {
            state.rentals.entry(serial).and_modify(Rental::lose_keys);
        })
    }

    /// Reinstalls a machine: it shows another host key from now on.
    pub fn change_host_key(&self, native_id: &str) -> bool {
        self.touch(native_id, |state, serial, _| {
            state.rentals.entry(serial).and_modify(|rental| rental.host_keys += 1);
        })
    }

    /// Cuts a machine's host off, or connects it again.
    pub fn set_offline(&self, native_id: &str, offline: bool) -> bool {
        self.touch(native_id, |state, serial, now| {
            state.rentals.entry(serial).and_modify(|rental| {
                rental.set_offline(offline, now);
                rental.read_meter(now);
            });
        })
    }

    /// Changes what its user does with a machine.
    pub fn set_workload(&self, native_id: &str, workload: Workload) -> bool {
        self.touch(native_id, |state, serial, _| {
            state.rentals.entry(serial).and_modify(|rental| rental.workload = workload);
        })
    }

    /// What its user does with a machine.
    #[must_use]
    pub fn workload(&self, native_id: &str) -> Workload {
        let (state, _) = self.present();
        by_native(&state, native_id).map(|rental| rental.workload).unwrap_or_default()
    }

    /// Changes what a machine costs from now on to `percent` of its GPU price.
    pub fn reprice(&self, native_id: &str, percent: u32) -> bool {
        self.touch(native_id, |state, serial, now| {
            state.rentals.entry(serial).and_modify(|rental| {
                rental.price.gpu = rental.price.gpu.scaled(percent.into(), 100);
                rental.read_meter(now);
            });
        })
    }

    fn touch(&self, native_id: &str, with: impl FnOnce(&mut State, u64, Time)) -> bool {
        let (mut state, now) = self.present();
        let Some(serial) = by_native(&state, native_id).filter(|rental| rental.alive()).map(|rental| rental.serial) else { return false };
        with(&mut state, serial, now);
        true
    }

    /// Puts a machine with this label on an account behind everybody's back; its id, unless nothing is free.
    #[must_use]
    pub fn plant(&self, account: AccountId, label: &str) -> Option<String> {
        let (mut state, now) = self.present();
        let dialect = state.accounts.get(&account.0)?.dialect;
        let order = Order { label: label.to_owned(), image: "planted".to_owned(), disk_gb: 100, vcpus: 8, ram_gb: 32, ..Order::default() };
        let pick = match dialect {
            Dialect::Vastai => Pick::Ask(*state.asks.keys().next()?),
            Dialect::Tensordock => {
                let index = state.stock.iter().find(|(_, free)| **free > 0).map(|(index, _)| *index)?;
                let Kind::Place(place) = &state.listings[index].kind else { return None };
                Pick::Place { location: place.location.id.clone(), v0: state.listings[index].card.tensordock.0.to_owned(), count: 1 }
            }
        };
        let faults = std::mem::replace(&mut state.faults, Faults::none());
        let created = state.create(account.0, dialect, &pick, order, now);
        state.faults = faults;
        created.result.ok()
    }

    /// The first account of a vendor.
    #[must_use]
    pub fn first_account(&self, dialect: Dialect) -> Option<AccountId> {
        self.present().0.accounts.iter().find(|(_, account)| account.dialect == dialect).map(|(id, _)| AccountId(*id))
    }

    /// The machine that has this address now.
    #[must_use]
    pub fn endpoint_to_instance(&self, host: &str, port: u16) -> Option<String> {
        let (state, now) = self.present();
        let here = |end: &Option<(String, u16)>| end.as_ref().is_some_and(|(name, number)| name == host && *number == port);
        state.rentals.values().find(|r| r.addressed(now) && (here(&r.direct) || here(&r.proxy))).map(|r| r.native_id.clone())
    }

    /// What a machine's API answers at this address: nothing where nobody listens, 503 while it loads, then 200.
    #[must_use]
    pub fn api_status(&self, host: &str, port: u16) -> Option<u16> {
        let (state, now) = self.present();
        let here = |r: &&Rental| r.direct.as_ref().is_some_and(|(name, _)| name == host) && r.ports.values().any(|outside| *outside == port);
        let rental = state.rentals.values().filter(|r| r.answers(now)).find(here)?;
        Some(rental.api_status(now))
    }

    /// The same by machine.
    #[must_use]
    pub fn api_status_of(&self, native_id: &str) -> Option<u16> {
        let (state, now) = self.present();
        by_native(&state, native_id).filter(|r| r.answers(now)).map(|r| r.api_status(now))
    }

    /// Says where a machine's port inside is reached.
    pub fn set_port(&self, native_id: &str, inside: u16, outside: u16) -> bool {
        self.touch(native_id, |state, serial, _| {
            state.rentals.entry(serial).and_modify(|rental| {
                rental.ports.insert(inside, outside);
            });
        })
    }

    /// Machines that have, or should have, an address now.
    #[must_use]
    pub fn wanted(&self) -> Vec<Wanted> {
        let (state, now) = self.present();
        let wanted = |r: &Rental| Wanted {
            native_id: r.native_id.clone(),
            direct: !r.proxy_only(),
            proxied: r.listing.dialect() == Dialect::Vastai,
            answers: r.answers(now),
            ports: r.order.ports.clone(),
        };
        state.rentals.values().filter(|r| r.addressed(now)).map(wanted).collect()
    }

    /// Gives a machine its addresses.
    pub fn set_endpoint(&self, native_id: &str, direct: Option<(String, u16)>, proxy: Option<(String, u16)>) -> bool {
        self.touch(native_id, |state, serial, _| {
            state.rentals.entry(serial).and_modify(|rental| (rental.direct, rental.proxy) = (direct, proxy));
        })
    }

    /// Notes that a real SSH server listens for a machine from now on.
    pub fn listens(&self, native_id: &str) -> bool {
        self.touch(native_id, |state, serial, now| {
            state.rentals.entry(serial).and_modify(|rental| rental.ssh_since = rental.ssh_since.or(Some(now)));
        })
    }

    /// Since when a machine runs on a host that has contact; `None` when it does not.
    #[must_use]
    pub fn sound_since(&self, native_id: &str) -> Option<Time> {
        let (state, _) = self.present();
        by_native(&state, native_id).filter(|rental| rental.phase == Phase::Running && !rental.offline).map(|rental| rental.sound_from)
    }

    /// Whether a machine's SSH server answers now.
    #[must_use]
    pub fn answers(&self, native_id: &str) -> bool {
        let (state, now) = self.present();
        by_native(&state, native_id).is_some_and(|rental| rental.answers(now))
    }

    /// Whether a machine lets in who holds this key (OpenSSH wire bytes).
    #[must_use]
    pub fn admits(&self, native_id: &str, blob: &[u8]) -> bool {
        let (state, now) = self.present();
        by_native(&state, native_id).is_some_and(|rental| rental.admits(blob, now))
    }

    /// What is really in a machine.
    #[must_use]
    pub fn gpu_truth(&self, native_id: &str) -> Option<GpuTruth> {
        let (state, _) = self.present();
        by_native(&state, native_id).map(|rental| rental.gpu.clone())
    }

    /// A number of the machine's hardware: who rents the same ask again finds the same GPUs there; a place has many machines.
    #[must_use]
    pub fn machine_number(&self, native_id: &str) -> u64 {
        let ask = by_native(&self.present().0, native_id).and_then(|rental| matches!(rental.listing.kind, Kind::Ask(_)).then_some(rental.place.0));
        let digest = self.secret(&ask.map_or_else(|| native_id.to_owned(), |ask| format!("ask {ask}")), "hardware");
        digest.iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
    }

    /// The seed of a machine's Ed25519 host key.
    #[must_use]
    pub fn host_key_seed(&self, native_id: &str) -> [u8; 32] {
        let number = by_native(&self.present().0, native_id).map_or(0, |rental| rental.host_keys);
        self.secret(native_id, &if number == 0 { "host key".to_owned() } else { format!("host key {number}") })
    }

    /// 32 bytes that belong to a machine and a purpose.
    pub(super) fn secret(&self, native_id: &str, purpose: &str) -> [u8; 32] {
        let parts = [&self.seed.to_be_bytes()[..], native_id.as_bytes(), b"/", purpose.as_bytes()].concat();
        Sha256::digest(parts).into()
    }
}

fn by_native<'a>(state: &'a State, native_id: &str) -> Option<&'a Rental> {
    state.rentals.get(state.by_native.get(native_id)?)
}

/// A machine as its owner's calls find it.
fn owned<'a>(state: &'a mut State, account: AccountId, native_id: &str, now: Time) -> Result<&'a mut Rental, Refusal> {
    let serial = state.by_native.get(native_id).copied().ok_or(Refusal::NotFound)?;
    let rental = state.rentals.get_mut(&serial).ok_or(Refusal::NotFound)?;
    let there = rental.account == account.0 && rental.alive() && rental.visible_from <= now;
    if there { Ok(rental) } else { Err(Refusal::NotFound) }
}
