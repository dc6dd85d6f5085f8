//! Floor 4: the deterministic simulation. One seed is one world: a market of hundreds of offers, two deployments on the
//! same accounts that crash and come back, callers and watchers who are as unreliable as they are, and everything that
//! goes wrong at vendors; days of it in seconds, and the same seed is the same days, to the word.
//!
//! Nothing of the service is replaced: it runs as it ships, on the simulated market, a database in memory and paused
//! time. Whatever could do harm is held against the truth at the moment it happens ([`witness`]); in the end, and every
//! few hours, the books are audited ([`audit`]). That these would find something is shown by worlds in which the service
//! follows a rule that is wrong ([`wrong`]).
//!
//! * [`world`]: one seed, from its beginning to the verdict.
//! * [`deployment`]: a service that dies and lives again; [`life`]: where it dies.
//! * [`callers`], [`watchers`]: those who use it.
//! * [`weather`]: what goes wrong.
//! * [`story`]: what happened, what was wrong, and the counts.
//!
//! Not here: real time, files, sockets, and death by a signal. Those are the process tests'.

pub mod audit;
pub mod callers;
pub mod deployment;
pub mod life;
pub mod story;
pub mod watchers;
pub mod weather;
pub mod witness;
pub mod world;
pub mod wrong;

pub use life::{Aside, Doom, Life, Watched, silence};
pub use story::Story;
pub use witness::Witness;
pub use world::{Outcome, Settings, play};
pub use wrong::Wrong;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

/// Which faults a world has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FaultChoice {
    /// None, no waits, no crashes, no episodes: the ledger must be the bill, to the nano.
    None,
    /// Machines take seconds; nothing goes wrong but crashes and callers.
    Gentle,
    /// As launches in the field went, with crashes and episodes.
    Field,
    /// Drawn from the seed: the field's rates or above for every fault there is; and a calm world now and then.
    #[default]
    All,
}

impl FaultChoice {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Gentle, Self::Field, Self::All];

    /// Its name on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gentle => "gentle",
            Self::Field => "field",
            Self::All => "all",
        }
    }

    /// The reverse of [`FaultChoice::word`].
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.word() == word)
    }
}

/// Plays many seeds on `jobs` threads and hands each outcome to `each` as it comes; when that says `false`, no further
/// seed is begun.
pub fn run(settings: &Settings, seeds: Range<u64>, jobs: usize, mut each: impl FnMut(Outcome) -> bool) {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let (done, outcomes) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let done = done.clone();
            let (next, stop, end) = (&next, &stop, seeds.end);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || done.send(play(seed, settings)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        for outcome in outcomes {
            if !each(outcome) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
}

/// Adds counts to counts.
pub fn add<K: Clone + Ord>(sum: &mut BTreeMap<K, u64>, counts: &BTreeMap<K, u64>) {
    for (what, count) in counts {
        *sum.entry(what.clone()).or_default() += count;
    }
}
