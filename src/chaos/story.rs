//! The story of one world: what happened, in order, as a fingerprint of all of it and the tail in words; what was found
//! wrong; and the counts.

use crate::clock::Clock;
use crate::domain::time::Time;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// So many calls to providers at one instant, and time stands still.
const STANDSTILL: u64 = 20_000;
/// What is found wrong beyond this many is not kept: the first is what matters.
const MOST_WRONG: usize = 20;

#[derive(Default)]
struct Told {
    hash: Sha256,
    lines: u64,
    tail: VecDeque<String>,
    wrong: Vec<String>,
    calls: BTreeMap<&'static str, u64>,
    /// Calls at the present instant.
    at_once: (Time, u64),
    counts: BTreeMap<&'static str, u64>,
}

/// See the module's header.
pub struct Story {
    clock: Clock,
    begun: Time,
    /// Lines that are kept in words.
    keep: usize,
    told: Mutex<Told>,
    alarm: Notify,
}

impl Story {
    /// A story that begins now, of which the last lines are kept.
    #[must_use]
    pub fn new(clock: Clock, keep: usize) -> Self {
        Self { begun: clock.now(), clock, keep, told: Mutex::default(), alarm: Notify::new() }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it began.
    #[must_use]
    pub fn begun(&self) -> Time {
        self.begun
    }

    /// Hours, minutes, seconds and milliseconds since the beginning.
    #[must_use]
    pub fn hour(&self) -> String {
        let ms = self.clock.now().since(self.begun).as_millis();
        format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000)
    }

    /// One thing that happened: `who` did or met `what`.
    pub fn tell(&self, who: &str, what: &str) {
        let mut line = self.hour();
        let _ = write!(line, " {who}: {what}");
        let mut told = self.told();
        told.hash.update(line.as_bytes());
        told.hash.update(b"\n");
        told.lines += 1;
        if told.tail.len() >= self.keep.max(1) {
            told.tail.pop_front();
        }
        told.tail.push_back(line);
    }

    /// A law that was broken. It is part of the story, and whoever waits for [`Story::broken`] is woken.
    pub fn wrong(&self, what: String) {
        self.tell("WRONG", &what);
        let mut told = self.told();
        if told.wrong.len() < MOST_WRONG {
            told.wrong.push(what);
        }
        drop(told);
        self.alarm.notify_waiters();
    }

    /// Resolves when something is wrong.
    pub async fn broken(&self) {
        loop {
            let mut alarm = std::pin::pin!(self.alarm.notified());
            alarm.as_mut().enable();
            if !self.told().wrong.is_empty() {
                return;
            }
            alarm.await;
        }
    }

    /// A call to a provider goes out. `false` when it must not: so many went out at this instant that nothing else would
    /// ever happen.
    pub fn called(&self, name: &'static str) -> bool {
        let now = self.clock.now();
        let mut told = self.told();
        *told.calls.entry(name).or_default() += 1;
        told.at_once = if told.at_once.0 == now { (now, told.at_once.1 + 1) } else { (now, 1) };
        let count = told.at_once.1;
        drop(told);
        if count == STANDSTILL {
            self.wrong(format!("time stands still: {STANDSTILL} calls to providers at one instant, the last one {name}"));
        }
        count < STANDSTILL
    }

    /// Counts something.
    pub fn count(&self, what: &'static str) {
        *self.told().counts.entry(what).or_default() += 1;
    }

    /// Everything that was found wrong so far.
    #[must_use]
    pub fn wrongs(&self) -> Vec<String> {
        self.told().wrong.clone()
    }

    /// How many lines it has.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.told().lines
    }

    /// When the last line was told, as [`Story::hour`] writes it; for those who live in another time.
    #[must_use]
    pub fn hour_told(&self) -> String {
        self.told().tail.back().and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned()
    }

    /// The last lines.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        self.told().tail.iter().cloned().collect()
    }

    /// Calls to providers, by name.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.told().calls.clone()
    }

    /// Other counts, by name.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.told().counts.clone()
    }

    /// A fingerprint of every line so far and of all counts: two runs of one seed have the same.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let told = self.told();
        let mut hash = told.hash.clone();
        hash.update(format!("{:?} {:?} {}", told.calls, told.counts, told.lines).as_bytes());
        hash.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}
