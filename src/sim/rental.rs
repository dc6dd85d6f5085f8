//! One machine of the simulated market, from the accepted create until it is gone: what it does, what its vendor
//! says of it, whom it lets in, and which meters run.

use crate::domain::money::Rate;
use crate::domain::offer::Price;
use crate::domain::time::Time;
use crate::sim::billing::{Meter, On};
use crate::sim::catalogue::{Kind, Listing};
use crate::sim::keys::key_blob;
use crate::sim::{Dialect, Order};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a server program loads before its API is ready.
const LOADS: Duration = Duration::from_secs(2);

/// What a machine does, in no vendor's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Accepted; nothing to be seen yet.
    Scheduled,
    /// Pulling its image, or booting.
    Starting,
    /// Up.
    Running,
    /// Stopped by its user, a higher bid, an empty account or its host's end.
    Stopped,
    /// It could not be started.
    Failed,
    /// Its destroy was accepted and is under way.
    Deleting,
    /// No more.
    Gone,
}

/// What is really in the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuTruth {
    /// These GPUs answer: name and MiB of each, driver version, CUDA version ("12.4").
    Present {
        /// Name and memory in MiB of each.
        gpus: Vec<(String, u32)>,
        /// The driver's version.
        driver: String,
        /// The driver's highest CUDA version.
        cuda: String,
    },
    /// There is no `nvidia-smi`.
    NoTool,
    /// `nvidia-smi` can't reach its driver.
    NoDriver,
}

/// What its user does with a machine. Those after the first four are seen by one signal alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Nothing.
    #[default]
    Idle,
    /// It computes.
    Busy,
    /// Somebody is logged in, or forwards a port, and does nothing else.
    LoggedIn,
    /// Who is logged in can't be told.
    Hidden,
    /// A process on the GPU that holds next to nothing and computes nothing.
    Process,
    /// Memory is held by a process that the container does not show.
    Holding,
    /// Short computations of processes that the container does not show.
    Computing,
    /// Only the provider sees that the GPU computes.
    Reported,
}

impl Workload {
    /// Every one.
    pub const ALL: [Self; 8] = [Self::Idle, Self::Busy, Self::LoggedIn, Self::Hidden, Self::Process, Self::Holding, Self::Computing, Self::Reported];

    /// Its word in the simulation's own paths.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::LoggedIn => "logged_in",
            Self::Hidden => "hidden",
            Self::Process => "process",
            Self::Holding => "holding",
            Self::Computing => "computing",
            Self::Reported => "reported",
        }
    }

    /// How much of the time each GPU computes, percent, as the machine tells it.
    #[must_use]
    pub const fn gpu_percent(self) -> u32 {
        if matches!(self, Self::Busy | Self::Computing) { 97 } else { 0 }
    }

    /// The same as the provider tells it.
    #[must_use]
    pub const fn reported_percent(self) -> u32 {
        if matches!(self, Self::Busy | Self::Reported) { 97 } else { 0 }
    }

    /// Memory in use on each GPU, MiB.
    #[must_use]
    pub const fn gpu_memory_mib(self) -> u32 {
        if matches!(self, Self::Busy | Self::Holding) { 6_002 } else { 4 }
    }

    /// Processes that compute on the GPUs.
    #[must_use]
    pub const fn gpu_processes(self) -> u32 {
        matches!(self, Self::Busy | Self::Process) as u32
    }

    /// Users' SSH connections; `None` = they can't be seen.
    #[must_use]
    pub const fn connections(self) -> Option<u32> {
        match self {
            Self::Hidden => None,
            Self::LoggedIn => Some(1),
            _ => Some(0),
        }
    }
}

/// What was decided about a machine when it was created.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate {
    pub stuck: bool,
    pub fails: bool,
    pub no_address: bool,
    pub key_never: bool,
    pub key_lost_once: bool,
    pub start_unavailable: bool,
    pub undeletable_until: Option<Time>,
    pub pull: Duration,
    pub boot: Duration,
    pub address: Duration,
    pub ssh_up: Duration,
    /// From the first run: what happens then.
    pub vanishes: Option<Duration>,
    pub outbid: Option<Duration>,
    pub offline: Option<(Duration, Duration)>,
}

/// A key on a machine; without a time it never becomes effective.
#[derive(Clone, Debug)]
struct Key {
    blob: Vec<u8>,
    effective: Option<Time>,
    tries: u32,
}

/// A machine.
pub(super) struct Rental {
    pub serial: u64,
    pub native_id: String,
    pub account: u32,
    pub listing: Arc<Listing>,
    /// Where the listing stands in the catalogue, and the ask's id when it was rented.
    pub place: (usize, u64),
    pub gpu_count: u32,
    pub order: Order,
    pub price: Price,
    pub phase: Phase,
    pub offline: bool,
    /// When it last came to run, or its host came back.
    pub sound_from: Time,
    pub wants_running: bool,
    pub status_text: String,
    /// Counts starts and stops; what was planned before the last one is void.
    pub epoch: u32,
    pub created: Time,
    pub visible_from: Time,
    /// It was destroyed, denied, and came back: now only another destroy ends it. That it came back and went between two looks
    /// nobody could know, or bill.
    pub denied: bool,
    pub first_run: Option<Time>,
    pub gone: Option<Time>,
    pub fate: Fate,
    pub gpu: GpuTruth,
    pub workload: Workload,
    pub address_at: Option<Time>,
    pub ssh_at: Option<Time>,
    /// Since when a real SSH server listens for it.
    pub ssh_since: Option<Time>,
    pub direct: Option<(String, u16)>,
    pub proxy: Option<(String, u16)>,
    pub ports: BTreeMap<u16, u16>,
    pub meter: Meter,
    /// How often its host key was made anew.
    pub host_keys: u32,
    keys: Vec<Key>,
}

/// A machine as its vendor shows it to its owner.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The vendor's id.
    pub native_id: String,
    /// What was ordered.
    pub order: Order,
    /// The listing behind it.
    pub listing: Arc<Listing>,
    /// The ask's id when it was rented; 0 at TensorDock.
    pub ask_id: u64,
    /// How many GPUs.
    pub gpu_count: u32,
    /// What it does.
    pub phase: Phase,
    /// Whether it has ever run.
    pub ran: bool,
    /// Its host has no contact.
    pub offline: bool,
    /// Whether it is meant to run.
    pub wants_running: bool,
    /// The vendor's text about it.
    pub status_text: String,
    /// What it costs per hour, by component.
    pub price: Price,
    /// When it was accepted.
    pub created: Time,
    /// Its own address, when it has one.
    pub direct: Option<(String, u16)>,
    /// The proxy's address for it, when there is one.
    pub proxy: Option<(String, u16)>,
    /// Ports mapped beside SSH: inside → outside.
    pub ports: BTreeMap<u16, u16>,
    /// What its user does with it.
    pub workload: Workload,
}

/// What a machine is made of when it is created.
pub(super) struct Made {
    pub serial: u64,
    pub native_id: String,
    pub account: u32,
    pub listing: Arc<Listing>,
    pub place: (usize, u64),
    pub gpu_count: u32,
    pub order: Order,
    pub price: Price,
    pub fate: Fate,
    pub gpu: GpuTruth,
}

impl Rental {
    pub fn new(made: Made, now: Time) -> Self {
        let Made { serial, native_id, account, listing, place, gpu_count, order, price, fate, gpu } = made;
        let mut rental = Self {
            serial,
            native_id,
            account,
            listing,
            place,
            gpu_count,
            order,
            price,
            phase: Phase::Scheduled,
            offline: false,
            sound_from: now,
            wants_running: true,
            status_text: String::new(),
            epoch: 0,
            created: now,
            visible_from: now,
            denied: false,
            first_run: None,
            gone: None,
            fate,
            gpu,
            workload: Workload::default(),
            address_at: None,
            ssh_at: None,
            ssh_since: None,
            direct: None,
            proxy: None,
            ports: BTreeMap::new(),
            meter: Meter::default(),
            host_keys: 0,
            keys: Vec::new(),
        };
        rental.read_meter(now);
        rental
    }

    /// Whether its vendor hides it, or has just shown it again. Then it stays for a while: nobody could tell one absence from
    /// the other.
    pub fn is_veiled(&self, now: Time) -> bool {
        self.visible_from > self.created && now < self.visible_from + Duration::from_secs(60)
    }

    /// Notes which meters run from `at` on, by its vendor's rule. Called after every change.
    pub fn read_meter(&mut self, at: Time) {
        let exists = self.phase != Phase::Gone;
        let on = match self.listing.dialect() {
            Dialect::Vastai => On { compute: self.phase == Phase::Running && !self.offline, disk: exists && !self.offline },
            Dialect::Tensordock => On { compute: exists, disk: exists },
        };
        self.meter.set(at, on, self.price);
    }

    pub fn alive(&self) -> bool {
        self.phase != Phase::Gone
    }

    /// Whether it has a way in at all, though its SSH server may not answer yet.
    pub fn addressed(&self, now: Time) -> bool {
        self.phase == Phase::Running && !self.offline && self.address_at.is_some_and(|at| at <= now)
    }

    /// Whether its SSH server answers.
    pub fn answers(&self, now: Time) -> bool {
        self.addressed(now) && self.ssh_at.is_some_and(|at| at <= now)
    }

    /// What its API answers: a server takes some seconds to load its model.
    pub fn api_status(&self, now: Time) -> u16 {
        let loaded = self.ssh_at.is_some_and(|at| at + LOADS <= now);
        if loaded { 200 } else { 503 }
    }

    /// Whether only the vendor's proxy reaches it.
    pub fn proxy_only(&self) -> bool {
        matches!(&self.listing.kind, Kind::Ask(ask) if ask.direct_ports == 0)
    }

    /// Its host loses contact, or has it again.
    pub fn set_offline(&mut self, offline: bool, now: Time) {
        if self.offline && !offline {
            self.sound_from = now;
        }
        self.offline = offline;
    }

    /// Puts a key on it, effective after `delay`.
    pub fn add_key(&mut self, line: &str, now: Time, delay: Duration) {
        let Some(blob) = key_blob(line) else { return };
        let lost_first = self.fate.key_lost_once;
        let effective = |tries: u32| (!lost_first || tries > 1).then(|| now + delay);
        let never = self.fate.key_never;
        match self.keys.iter_mut().find(|key| key.blob == blob) {
            Some(key) => {
                key.tries += 1;
                if key.effective.is_none() && !never {
                    key.effective = effective(key.tries);
                }
            }
            None => self.keys.push(Key { blob, effective: if never { None } else { effective(1) }, tries: 1 }),
        }
    }

    /// Its `authorized_keys` is rewritten by somebody who is logged in: effective at once, and only as long as it lasts.
    pub fn rewrite_keys(&mut self, add: &[String], gone: &[Vec<u8>], now: Time) {
        self.keys.retain(|key| !gone.contains(&key.blob));
        for blob in add.iter().filter_map(|line| key_blob(line)) {
            self.keys.retain(|key| key.blob != blob);
            self.keys.push(Key { blob, effective: Some(now), tries: 1 });
        }
    }

    /// Its `authorized_keys` is lost; what is attached from now on counts again.
    pub fn lose_keys(&mut self) {
        self.keys.clear();
    }

    /// Whether it lets this key in.
    pub fn admits(&self, blob: &[u8], now: Time) -> bool {
        self.answers(now) && self.keys.iter().any(|key| key.blob == blob && key.effective.is_some_and(|at| at <= now))
    }

    pub fn shown(&self, now: Time) -> Shown {
        let addressed = self.addressed(now);
        Shown {
            native_id: self.native_id.clone(),
            order: self.order.clone(),
            listing: Arc::clone(&self.listing),
            ask_id: self.place.1,
            gpu_count: self.gpu_count,
            phase: self.phase,
            ran: self.first_run.is_some(),
            offline: self.offline,
            wants_running: self.wants_running,
            status_text: self.status(now),
            price: self.price,
            created: self.created,
            direct: self.direct.clone().filter(|_| addressed),
            proxy: self.proxy.clone().filter(|_| addressed),
            ports: if addressed { self.ports.clone() } else { BTreeMap::new() },
            workload: self.workload,
        }
    }

    /// The vendor's text: layers that arrive while the image is pulled (and stand still when it is stuck).
    fn status(&self, now: Time) -> String {
        if self.phase != Phase::Starting || !self.status_text.is_empty() {
            return self.status_text.clone();
        }
        let limit = if self.fate.stuck { Duration::from_secs(40) } else { Duration::MAX };
        let layer = now.since(self.created).min(limit).as_secs() / 10;
        let id = (self.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20).wrapping_add(layer.wrapping_mul(0x0101_4567)) & 0xffff_ffff_ffff;
        format!("{id:012x}: {}", if layer % 2 == 0 { "Download complete" } else { "Pull complete" })
    }
}

/// What an order costs per hour at a listing; `bid` replaces the GPU's price.
pub(super) fn price_of(listing: &Listing, gpu_count: u32, order: &Order) -> Price {
    match &listing.kind {
        Kind::Ask(ask) => {
            Price { gpu: order.bid.unwrap_or(ask.base), disk: ask.disk_per_gb.times(order.disk_gb), cpu: Rate::ZERO, memory: Rate::ZERO }
        }
        Kind::Place(place) => Price {
            gpu: place.per_gpu.times(gpu_count),
            cpu: place.per_part.0.times(order.vcpus),
            memory: place.per_part.1.times(order.ram_gb),
            disk: place.per_part.2.times(order.disk_gb),
        },
    }
}

/// What is in a machine, honest or not: `lie` picks the kind of lie.
pub(super) fn gpu_of(listing: &Listing, gpu_count: u32, lie: Option<u64>, broken: Option<u64>) -> GpuTruth {
    if let Some(kind) = broken {
        return if kind % 2 == 0 { GpuTruth::NoTool } else { GpuTruth::NoDriver };
    }
    let (driver, cuda) = match &listing.kind {
        Kind::Ask(ask) => ask.driver,
        Kind::Place(_) => ("550.127.05", 124),
    };
    let (mut name, mut mib, mut count) = (listing.card.smi, listing.gpu_mib, gpu_count);
    match lie.map(|kind| (kind % 3, count)) {
        Some((1, 2..)) => count -= 1,
        Some((2, _)) => mib = mib / 2 - 36,
        Some(_) => {
            let other = listing.card.other_than(lie.unwrap_or(0) / 3);
            (name, mib) = (other.smi, other.mib);
        }
        None => {}
    }
    let gpus = (0..count).map(|_| (name.to_owned(), mib)).collect();
    GpuTruth::Present { gpus, driver: driver.to_owned(), cuda: format!("{}.{}", cuda / 10, cuda % 10) }
}
