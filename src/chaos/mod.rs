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
//! * [`callers`], [`watchers`], [`operator`]: those who use it, and who looks after it.
//! * [`weather`]: what goes wrong.
//! * [`panics`]: none goes unheard.
//! * [`story`]: what happened, what was wrong, and the counts.
//!
//! Not here: real time, files, sockets, and death by a signal. Those are the process tests'.

pub mod audit;
pub mod callers;
pub mod deployment;
pub mod life;
pub mod operator;
mod panics;
pub mod story;
pub mod watchers;
pub mod weather;
pub mod witness;
pub mod world;
pub mod wrong;

pub use life::{Aside, Doom, Life, Watched, silence};
pub use story::Story;
pub use witness::{Plant, Witness};
pub use world::{Outcome, Settings, play};
pub use wrong::Wrong;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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

/// How often it is looked whether the worlds that are being played go on.
const GLANCE: Duration = Duration::from_secs(15);
/// A world in whose story nothing is told for so many glances stands still.
const STILL: u32 = 6;

/// What one thread plays.
#[derive(Default)]
struct Stage {
    playing: Option<(u64, Arc<Story>)>,
    lines: u64,
    still: u32,
}

/// Plays many seeds on `jobs` threads and hands each outcome to `each` as it comes; when that says `false`, no further
/// seed is begun. A world that stands still is told as such, and its thread is left behind.
pub fn run(settings: &Settings, seeds: Range<u64>, jobs: usize, mut each: impl FnMut(Outcome) -> bool) {
    let next = Arc::new(AtomicU64::new(seeds.start));
    let stop = Arc::new(AtomicBool::new(false));
    let (done, outcomes) = mpsc::channel();
    let mut stages: Vec<Arc<Mutex<Stage>>> = Vec::new();
    for _ in 0..jobs.max(1) {
        let stage = Arc::new(Mutex::new(Stage::default()));
        stages.push(Arc::clone(&stage));
        let (done, next, stop, settings, end) = (done.clone(), Arc::clone(&next), Arc::clone(&stop), settings.clone(), seeds.end);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return;
                }
                let enter = |story: &Arc<Story>| *held(&stage) = Stage { playing: Some((seed, Arc::clone(story))), ..Stage::default() };
                let outcome = world::play_watched(seed, &settings, enter);
                *held(&stage) = Stage::default();
                if done.send(outcome).is_err() {
                    return;
                }
            }
        });
    }
    drop(done);
    let all = seeds.end.saturating_sub(seeds.start);
    let mut answered = 0;
    // Whoever is left behind holds the channel open, so outcomes are counted.
    while answered < all && !stages.is_empty() {
        let came: Vec<Outcome> = match outcomes.recv_timeout(GLANCE) {
            Ok(outcome) => vec![outcome],
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let still: Vec<Option<Outcome>> = stages.iter().map(|stage| held(stage).glance()).collect();
                let mut left = still.iter().map(Option::is_some);
                stages.retain(|_| !left.next().unwrap_or(false));
                still.into_iter().flatten().collect()
            }
        };
        for outcome in came {
            answered += 1;
            if !each(outcome) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn held(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stage {
    /// What to tell of a world that stands still.
    fn glance(&mut self) -> Option<Outcome> {
        let (seed, story) = self.playing.as_ref()?;
        let lines = story.lines();
        self.still = if lines == self.lines { self.still + 1 } else { 0 };
        self.lines = lines;
        let wrong = vec![format!("time stands still at {}", story.hour_told())];
        (self.still >= STILL).then(|| Outcome { seed: *seed, wrong, tail: story.tail(), ..Outcome::default() })
    }
}

/// Adds counts to counts.
pub fn add<K: Clone + Ord>(sum: &mut BTreeMap<K, u64>, counts: &BTreeMap<K, u64>) {
    for (what, count) in counts {
        *sum.entry(what.clone()).or_default() += count;
    }
}
