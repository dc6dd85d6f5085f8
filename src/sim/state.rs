//! The inside of the market: what is listed, who rents what, and what is planned to happen. It moves only when it is
//! told the time, and works off what was planned in the order of time, so a run is a function of seed and calls.

use crate::domain::money::{Nanos, Rate};
use crate::domain::time::Time;
use crate::sim::Dialect;
use crate::sim::catalogue::{Dice, Kind, Listing};
use crate::sim::faults::{ALWAYS, Delay, Fault, Faults};
use crate::sim::rental::{Fate, Made, Phase, Rental, gpu_of, price_of};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What is to be rented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// An ask, by its present id.
    Ask(u64),
    /// GPUs of a model at a location.
    Place {
        /// The location's id.
        location: String,
        /// The model's name at TensorDock.
        v0: String,
        /// How many.
        count: u32,
    },
}

/// What somebody orders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The label or name.
    pub label: String,
    /// The image.
    pub image: String,
    /// Disk, GB.
    pub disk_gb: u32,
    /// A bid per hour; `None` = on demand.
    pub bid: Option<Rate>,
    /// Virtual CPUs (TensorDock).
    pub vcpus: u32,
    /// Memory, GB (TensorDock).
    pub ram_gb: u32,
    /// Whether a dedicated address is asked for (TensorDock).
    pub dedicated_ip: bool,
    /// Public keys, one a line, that the machine comes up with.
    pub keys: Vec<String>,
    /// Ports inside to be mapped, beside SSH.
    pub ports: Vec<u16>,
    /// Vast.ai's way of running the image, echoed.
    pub runtype: String,
    /// Environment, echoed.
    pub env: BTreeMap<String, String>,
}

/// Why the market says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The credentials open nothing (any more).
    Auth,
    /// Too frequent; the text is the vendor's threshold.
    Throttled(&'static str),
    /// The vendor is broken.
    ServerError,
    /// The account is out of credit.
    Credit,
    /// No such ask, or not any more.
    NoSuchAsk,
    /// No stock.
    NoNodes,
    /// No public address left there.
    NoPublicIp,
    /// No such location.
    UnknownPlace,
    /// That location does not have this model.
    UnknownGpu,
    /// The bid is below the least: a stopped machine was created all the same.
    BidTooLow(String),
    /// No such machine on this account.
    NotFound,
    /// What the machine needs is taken at the moment.
    ResourcesUnavailable,
    /// It can't be deleted before then.
    NotReady(Time),
}

/// What was planned.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// For a machine, in its epoch.
    Machine(u64, u32, Event),
    /// A listing comes back to the market with so many units.
    Relist(usize, u32),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Begin,
    Run,
    Vanish,
    Outbid,
    HostEnd,
    Offline(Duration),
    Online,
    Gone,
}

pub(super) struct Account {
    pub dialect: Dialect,
    pub valid: bool,
    pub credit: Option<Nanos>,
}

pub(super) struct State {
    pub faults: Faults,
    pub dice: Dice,
    pub begun: Time,
    pub listings: Vec<Arc<Listing>>,
    /// Asks that can be rented, by their present id.
    pub asks: BTreeMap<u64, usize>,
    /// Free units of places.
    pub stock: BTreeMap<usize, u32>,
    pub accounts: BTreeMap<u32, Account>,
    pub rentals: BTreeMap<u64, Rental>,
    pub by_native: BTreeMap<String, u64>,
    /// Whether fabricated addresses are given out; otherwise they come from outside.
    pub fabricates: bool,
    /// How often each fault has struck.
    pub struck: BTreeMap<Fault, u64>,
    agenda: BTreeMap<(Time, u64), Due>,
    planned: u64,
    next_ask: u64,
    next_serial: u64,
    next_port: u16,
    calls: BTreeMap<(u32, &'static str), VecDeque<Time>>,
}

impl State {
    pub fn new(listings: Vec<Arc<Listing>>, faults: Faults, dice: Dice, begun: Time, fabricates: bool) -> Self {
        let mut state = Self {
            faults,
            dice,
            begun,
            asks: BTreeMap::new(),
            stock: BTreeMap::new(),
            accounts: BTreeMap::new(),
            rentals: BTreeMap::new(),
            by_native: BTreeMap::new(),
            fabricates,
            struck: BTreeMap::new(),
            agenda: BTreeMap::new(),
            planned: 0,
            next_ask: 29_000_000,
            next_serial: 33_400_000,
            next_port: 20_000,
            calls: BTreeMap::new(),
            listings,
        };
        for index in 0..state.listings.len() {
            let units = match &state.listings[index].kind {
                Kind::Ask(_) => 1,
                Kind::Place(place) => place.stock,
            };
            state.relist(index, units);
        }
        state
    }

    /// Works off everything that was planned up to `now`.
    pub fn advance(&mut self, now: Time) {
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((at, _), due) = entry.remove_entry();
            match due {
                Due::Machine(serial, epoch, event) => self.happen(at, serial, epoch, event),
                Due::Relist(index, units) => self.relist(index, units),
            }
        }
        self.collect_debts(now);
    }

    fn plan(&mut self, at: Time, due: Due) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), due);
    }

    pub fn plan_event(&mut self, at: Time, serial: u64, event: Event) {
        let epoch = self.rentals.get(&serial).map_or(0, |rental| rental.epoch);
        self.plan(at, Due::Machine(serial, epoch, event));
    }

    fn relist(&mut self, index: usize, units: u32) {
        match &self.listings[index].kind {
            Kind::Ask(_) => {
                self.next_ask += self.dice.within(1, 40);
                self.asks.insert(self.next_ask, index);
            }
            Kind::Place(_) => *self.stock.entry(index).or_default() += units,
        }
    }

    fn happen(&mut self, at: Time, serial: u64, epoch: u32, event: Event) {
        let Some(rental) = self.rentals.get_mut(&serial) else { return };
        let keeps_epoch = matches!(event, Event::Vanish | Event::HostEnd | Event::Online | Event::Gone);
        if !rental.alive() || (rental.epoch != epoch && !keeps_epoch) {
            return;
        }
        match event {
            Event::Begin if rental.phase == Phase::Scheduled => rental.phase = Phase::Starting,
            Event::Run if matches!(rental.phase, Phase::Scheduled | Phase::Starting) => return self.run(at, serial),
            Event::Vanish if rental.denied => {}
            Event::Vanish if rental.is_veiled(at) => {
                let later = rental.visible_from + Duration::from_secs(1_200);
                self.plan_event(later, serial, Event::Vanish);
            }
            Event::Vanish => self.end(at, serial, Duration::from_secs(3_600)),
            Event::Outbid if rental.phase == Phase::Running => Self::stop(rental, at, "outbid"),
            Event::HostEnd => Self::stop(rental, at, "the host's contract has ended"),
            Event::Offline(long) if rental.phase == Phase::Running => {
                rental.offline = true;
                self.plan_event(at + long, serial, Event::Online);
            }
            Event::Online => rental.set_offline(false, at),
            Event::Gone => self.end(at, serial, Duration::ZERO),
            Event::Begin | Event::Run | Event::Outbid | Event::Offline(_) => {}
        }
        if let Some(rental) = self.rentals.get_mut(&serial) {
            rental.read_meter(at);
        }
    }

    fn run(&mut self, at: Time, serial: u64) {
        let Some(rental) = self.rentals.get_mut(&serial) else { return };
        (rental.phase, rental.sound_from) = (Phase::Running, at);
        rental.status_text = format!("success, running {}/ssh", rental.order.image);
        let first = rental.first_run.is_none();
        rental.first_run.get_or_insert(at);
        rental.address_at = (!rental.fate.no_address).then(|| at + rental.fate.address);
        rental.ssh_at = rental.address_at.map(|address| address + rental.fate.ssh_up);
        rental.read_meter(at);
        let fate = rental.fate.clone();
        if first {
            fate.vanishes.into_iter().for_each(|after| self.plan_event(at + after, serial, Event::Vanish));
            fate.outbid.into_iter().for_each(|after| self.plan_event(at + after, serial, Event::Outbid));
            fate.offline.into_iter().for_each(|(after, long)| self.plan_event(at + after, serial, Event::Offline(long)));
        }
    }

    /// Stops a machine; what was planned for its run is void.
    pub fn stop(rental: &mut Rental, at: Time, text: &str) {
        (rental.phase, rental.wants_running, rental.status_text) = (Phase::Stopped, false, text.to_owned());
        rental.epoch += 1;
        rental.read_meter(at);
    }

    /// Ends a machine; its listing comes back after `away`.
    pub fn end(&mut self, at: Time, serial: u64, away: Duration) {
        let Some(rental) = self.rentals.get_mut(&serial).filter(|rental| rental.alive()) else { return };
        rental.phase = Phase::Gone;
        rental.gone = Some(at);
        rental.read_meter(at);
        let (index, units) = (rental.place.0, rental.gpu_count);
        self.plan(at + away, Due::Relist(index, units));
    }

    /// Stops what runs on accounts that have used up their credit.
    fn collect_debts(&mut self, now: Time) {
        let limited: Vec<(u32, Nanos)> = self.accounts.iter().filter_map(|(id, account)| Some((*id, account.credit?))).collect();
        for (id, credit) in limited {
            if credit <= self.spent(id, now) {
                let running =
                    self.rentals.values_mut().filter(|r| r.account == id && matches!(r.phase, Phase::Running | Phase::Starting | Phase::Scheduled));
                running.for_each(|rental| Self::stop(rental, now, "account lacks credit"));
            }
        }
    }

    /// What an account has cost so far.
    pub fn spent(&self, account: u32, now: Time) -> Nanos {
        self.rentals.values().filter(|rental| rental.account == account).map(|rental| rental.meter.bill(now).total).sum()
    }

    /// Whether the vendor's limit lets this call through.
    pub fn let_through(&mut self, account: u32, dialect: Dialect, endpoint: &'static str, now: Time) -> Result<(), Refusal> {
        if self.faults.of(dialect).rate(Fault::Throttled) == 0 {
            return Ok(());
        }
        let (bucket, most, period, text) = limit(dialect, endpoint);
        let calls = self.calls.entry((account, bucket)).or_default();
        while calls.front().is_some_and(|first| now.since(*first) >= period) {
            calls.pop_front();
        }
        if calls.len() >= most {
            return Err(Refusal::Throttled(text));
        }
        calls.push_back(now);
        Ok(())
    }

    /// Whether a fault strikes a call, by chance alone. Draws nothing when it is off.
    pub fn strikes(&mut self, dialect: Dialect, fault: Fault) -> bool {
        let rate = self.faults.of(dialect).rate(fault);
        let strikes = rate > 0 && self.dice.below(u64::from(ALWAYS)) < u64::from(rate);
        if strikes {
            *self.struck.entry(fault).or_default() += 1;
        }
        strikes
    }

    /// A wait from its range. Draws nothing when there is no range.
    pub fn wait(&mut self, dialect: Dialect, delay: Delay) -> Duration {
        let (from, to) = self.faults.of(dialect).delay_ms(delay);
        Duration::from_millis(if from == to { from } else { self.dice.within(from, to) })
    }

    /// Creates a machine, or says why not, and how long the answer takes beyond the usual.
    pub fn create(&mut self, account: u32, dialect: Dialect, pick: &Pick, order: Order, now: Time) -> Created {
        let struck = RefCell::default();
        let created = self.cast_create(account, dialect, pick, order, now, &struck);
        for fault in struck.into_inner() {
            *self.struck.entry(fault).or_default() += 1;
        }
        created
    }

    fn cast_create(&mut self, account: u32, dialect: Dialect, pick: &Pick, order: Order, now: Time, struck: &RefCell<BTreeSet<Fault>>) -> Created {
        let cast = Cast::new(&mut self.dice);
        let profile = self.faults.of(dialect).clone();
        let noted = |fault: Fault, strikes: bool| {
            if strikes {
                struck.borrow_mut().insert(fault);
            }
            strikes
        };
        let chance = |fault: Fault| noted(fault, u64::from(cast.of(fault)) < u64::from(profile.rate(fault)));
        if chance(Fault::TooManyRequests) {
            return Created::refused(Refusal::Throttled(limit(dialect, "create").3));
        }
        if chance(Fault::ServerError) {
            return Created::refused(Refusal::ServerError);
        }
        if self.accounts.get(&account).and_then(|a| a.credit).is_some_and(|credit| credit <= self.spent(account, now)) {
            return Created::refused(Refusal::Credit);
        }
        let (index, ask_id, count) = match self.resolve(pick) {
            Ok(found) => found,
            Err(refusal) => return Created::refused(refusal),
        };
        let listing = Arc::clone(&self.listings[index]);
        let quality = listing.quality;
        let strikes = |fault: Fault| noted(fault, bound(quality, fault, profile.rate(fault)) || cast.by_chance(fault, profile.rate(fault)));
        if let Some(refusal) = self.refuse(&listing, index, ask_id, &order, &strikes, now) {
            return Created::refused(refusal);
        }
        if self.stock.get(&index).is_some_and(|free| *free < count) {
            return Created::refused(Refusal::NoNodes);
        }
        let mut price = price_of(&listing, count, &order);
        if strikes(Fault::PriceRaised) {
            price.gpu = price.gpu.scaled(120, 100);
        }
        let lie = strikes(Fault::GpuLies).then(|| u64::from(cast.of(Fault::GpuLies)));
        let broken = strikes(Fault::DriverMissing).then(|| u64::from(cast.of(Fault::DriverMissing)));
        let gpu = gpu_of(&listing, count, lie, broken);
        let fate = cast.fate(&listing, &profile, order.bid.is_some(), &strikes, now);
        let low_bid = match &listing.kind {
            Kind::Ask(ask) => order.bid.is_some_and(|bid| bid < ask.min_bid),
            Kind::Place(_) => false,
        };
        let visible_from = if strikes(Fault::LateVisible) { now + self.wait(dialect, Delay::Invisible) } else { now };
        let stopped = low_bid || strikes(Fault::StoppedAtCreate);
        self.next_serial += self.dice.within(1, 900);
        let serial = self.next_serial;
        let native_id = if dialect == Dialect::Vastai { serial.to_string() } else { self.dice.uuid() };
        let made = Made { serial, native_id: native_id.clone(), account, listing, place: (index, ask_id), gpu_count: count, order, price, fate, gpu };
        self.admit(Rental::new(made, now), visible_from, stopped, now);
        let told = if strikes(Fault::AnswerAstray) { self.another(account, dialect, &native_id) } else { None }.unwrap_or(native_id);
        Created {
            result: if low_bid { Err(Refusal::BidTooLow(told)) } else { Ok(told) },
            hang: if strikes(Fault::CreateSlow) { self.wait(dialect, Delay::CreateHang) } else { Duration::ZERO },
            lost: strikes(Fault::ReplyLost),
        }
    }

    /// Some other machine on the account, if there is one.
    fn another(&mut self, account: u32, dialect: Dialect, native_id: &str) -> Option<String> {
        let here = |r: &&Rental| r.account == account && r.listing.dialect() == dialect && r.alive() && r.native_id != native_id;
        let others: Vec<String> = self.rentals.values().filter(here).map(|r| r.native_id.clone()).collect();
        let at = self.dice.below(u64::try_from(others.len()).unwrap_or(0).max(1));
        others.into_iter().nth(usize::try_from(at).unwrap_or(0))
    }

    /// Which listing an order means: its index, the ask's id, and how many GPUs.
    fn resolve(&self, pick: &Pick) -> Result<(usize, u64, u32), Refusal> {
        match pick {
            Pick::Ask(id) => {
                let index = *self.asks.get(id).ok_or(Refusal::NoSuchAsk)?;
                let Kind::Ask(ask) = &self.listings[index].kind else { return Err(Refusal::NoSuchAsk) };
                Ok((index, *id, ask.gpus.0))
            }
            Pick::Place { location, v0, count } => {
                let here = |listing: &Listing| matches!(&listing.kind, Kind::Place(place) if place.location.id == *location);
                if !self.listings.iter().any(|listing| here(listing)) {
                    return Err(Refusal::UnknownPlace);
                }
                let index = self.listings.iter().position(|listing| here(listing) && listing.card.tensordock.0 == v0).ok_or(Refusal::UnknownGpu)?;
                Ok((index, 0, *count))
            }
        }
    }

    fn refuse(&mut self, listing: &Listing, index: usize, ask_id: u64, order: &Order, strikes: &dyn Fn(Fault) -> bool, now: Time) -> Option<Refusal> {
        match &listing.kind {
            Kind::Ask(_) if strikes(Fault::StaleAsk) => {
                // Somebody else has it; it comes back under a new id when they are done.
                self.asks.remove(&ask_id);
                let away = Duration::from_secs(self.dice.within(600, 3_600));
                self.plan(now + away, Due::Relist(index, 1));
                Some(Refusal::NoSuchAsk)
            }
            Kind::Place(_) if strikes(Fault::StaleAsk) => Some(Refusal::NoNodes),
            Kind::Place(place) if strikes(Fault::NoPublicIp) || (order.dedicated_ip && !place.dedicated_ip) => Some(Refusal::NoPublicIp),
            Kind::Ask(_) | Kind::Place(_) => None,
        }
    }

    /// Takes a new machine in and plans its way up.
    fn admit(&mut self, mut rental: Rental, visible_from: Time, stopped: bool, now: Time) {
        let (serial, dialect) = (rental.serial, rental.listing.dialect());
        self.asks.remove(&rental.place.1);
        if let Some(free) = self.stock.get_mut(&rental.place.0) {
            *free = free.saturating_sub(rental.gpu_count);
        }
        rental.visible_from = visible_from;
        let keys = rental.order.keys.clone();
        keys.iter().for_each(|key| rental.add_key(key, now, Duration::ZERO));
        if self.fabricates {
            self.fabricate(&mut rental);
        } else {
            for inside in rental.order.ports.clone() {
                rental.ports.insert(inside, self.port());
            }
        }
        let schedule = self.wait(dialect, Delay::Schedule);
        let (pull, boot, stuck, fails) = (rental.fate.pull, rental.fate.boot, rental.fate.stuck, rental.fate.fails);
        let host_end = match &rental.listing.kind {
            Kind::Ask(ask) => Some(self.begun + Duration::from_secs(ask.listed_s)),
            Kind::Place(_) => None,
        };
        if stopped {
            Self::stop(&mut rental, now, "");
        } else if fails {
            rental.phase = Phase::Failed;
            rental.wants_running = dialect == Dialect::Tensordock;
            rental.status_text =
                "Error response from daemon: failed to create task for container: OCI runtime create failed: failed to inject CDI devices".to_owned();
        }
        self.by_native.insert(rental.native_id.clone(), serial);
        self.rentals.insert(serial, rental);
        if !stopped && !fails {
            self.plan_event(now + schedule, serial, Event::Begin);
            if !stuck {
                self.plan_event(now + schedule + pull + boot, serial, Event::Run);
            }
        }
        host_end.into_iter().for_each(|end| self.plan_event(end, serial, Event::HostEnd));
        self.advance(now);
    }

    /// Starts a stopped machine.
    pub fn start(&mut self, serial: u64, now: Time) -> Result<(), Refusal> {
        let Some(rental) = self.rentals.get_mut(&serial) else { return Err(Refusal::NotFound) };
        if rental.fate.start_unavailable {
            return Err(Refusal::ResourcesUnavailable);
        }
        if rental.phase == Phase::Stopped {
            (rental.phase, rental.wants_running, rental.status_text) = (Phase::Starting, true, String::new());
            rental.epoch += 1;
            rental.read_meter(now);
            let at = now + rental.fate.boot;
            self.plan_event(at, serial, Event::Run);
            self.advance(now);
        }
        Ok(())
    }

    /// Gives a machine made-up addresses that nobody else has.
    fn fabricate(&mut self, rental: &mut Rental) {
        let outside = self.port();
        match &rental.listing.kind {
            Kind::Ask(ask) => {
                if ask.direct_ports > 0 {
                    rental.direct = Some((ask.address.trim().to_owned(), outside));
                }
                rental.proxy = Some((format!("ssh{}.market.test", rental.serial % 9 + 1), self.port()));
            }
            Kind::Place(_) if rental.order.dedicated_ip => rental.direct = Some((format!("198.51.100.{}", rental.serial % 254 + 1), 22)),
            Kind::Place(_) => rental.direct = Some((format!("192.0.2.{}", rental.serial % 254 + 1), outside)),
        }
        for inside in rental.order.ports.clone() {
            rental.ports.insert(inside, self.port());
        }
    }

    fn port(&mut self) -> u16 {
        self.next_port = if self.next_port >= 60_000 { 20_001 } else { self.next_port + 1 };
        self.next_port
    }
}

/// What came of a create.
pub(super) struct Created {
    /// The new id, or why not.
    pub result: Result<String, Refusal>,
    /// How long the answer hangs.
    pub hang: Duration,
    /// Whether the answer never arrives.
    pub lost: bool,
}

impl Created {
    fn refused(refusal: Refusal) -> Self {
        Self { result: Err(refusal), hang: Duration::ZERO, lost: false }
    }
}

/// One throw for every fault and wait of a launch, always as many: switching one fault leaves the others' luck alone.
struct Cast {
    faults: BTreeMap<Fault, u32>,
    spread: [u64; 8],
}

impl Cast {
    fn new(dice: &mut Dice) -> Self {
        let faults = Fault::ALL.iter().map(|fault| (*fault, u32::try_from(dice.below(u64::from(ALWAYS))).unwrap_or(0))).collect();
        Self { faults, spread: std::array::from_fn(|_| dice.bits()) }
    }

    fn of(&self, fault: Fault) -> u32 {
        self.faults.get(&fault).copied().unwrap_or(ALWAYS)
    }

    /// Strikes with what remains of a rate after the listings that it is bound to.
    fn by_chance(&self, fault: Fault, rate: u32) -> bool {
        let half = u64::from(rate / 2);
        let all = u64::from(ALWAYS);
        u64::from(self.of(fault)) < (u64::from(rate) - half) * all / (all - half)
    }

    /// Everything that is decided about a machine beforehand.
    fn fate(&self, listing: &Listing, profile: &crate::sim::Profile, bid: bool, strikes: &dyn Fn(Fault) -> bool, now: Time) -> Fate {
        let spread = |delay: Delay, throw: usize| {
            let (from, to) = profile.delay_ms(delay);
            // A host is fast or slow throughout, half of it; the rest is the day's luck.
            let luck = (self.spread[throw] % 1_000 + listing.quality % 1_000) / 2;
            Duration::from_millis(from + (to - from) * luck / 999)
        };
        let minutes = |from: u64, to: u64, throw: usize| Duration::from_millis(from * 60_000 + self.spread[throw] % ((to - from) * 60_000));
        Fate {
            stuck: strikes(Fault::ImageStuck),
            fails: strikes(Fault::BootFails),
            no_address: strikes(Fault::NoAddress),
            key_never: strikes(Fault::KeyNever),
            key_lost_once: strikes(Fault::KeyLostOnce),
            start_unavailable: strikes(Fault::StartUnavailable),
            undeletable_until: strikes(Fault::DestroyRefused).then(|| now + spread(Delay::Undeletable, 0)),
            pull: spread(Delay::ImagePull, 1),
            boot: spread(Delay::Boot, 2),
            address: spread(Delay::Address, 3),
            ssh_up: spread(Delay::SshUp, 4),
            vanishes: strikes(Fault::Vanishes).then(|| minutes(8, 15, 5)),
            outbid: (bid && strikes(Fault::Preempted)).then(|| minutes(5, 30, 6)),
            offline: strikes(Fault::HostOffline).then(|| (minutes(2, 10, 7), spread(Delay::Offline, 0))),
        }
    }
}

/// Whether a fault is bound to a listing: half of the rate is.
fn bound(quality: u64, fault: Fault, rate: u32) -> bool {
    let mut mixed = quality ^ (fault as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % u64::from(ALWAYS) < u64::from(rate / 2)
}

/// The vendors' limits: whose bucket, how many calls in which time, and the vendor's text.
fn limit(dialect: Dialect, endpoint: &'static str) -> (&'static str, usize, Duration, &'static str) {
    let ms = Duration::from_millis;
    match (dialect, endpoint) {
        (Dialect::Tensordock, _) => ("all", 100, ms(60_000), "100 a minute"),
        (_, "create") => ("create", 1, ms(4_500), "4.5*1.0"),
        (_, "destroy") => ("destroy", 1, ms(3_000), "3.0*1.0"),
        (_, "offers") => ("offers", 10, ms(60_000), "6.0*1.0"),
        (_, "instance") => ("instance", 1, ms(2_000), "2.0*1.0"),
        (_, other) => (other, 1, ms(1_000), "1.0*1.0"),
    }
}
