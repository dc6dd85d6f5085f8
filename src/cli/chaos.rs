//! `chaos`: many seeds of the deterministic simulation, and what came of them.

use crate::chaos::{self, FaultChoice, Outcome, Settings, Wrong};
use crate::clock::Stopwatch;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::process::ExitCode;

/// Failing seeds that are told with their whole tail.
const TOLD_WHOLE: usize = 3;

/// Arguments of `chaos`.
#[derive(Args, Clone, Debug)]
pub struct ChaosArgs {
    /// How many seeds: each is a whole world
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// Simulated hours in which callers come; afterwards everything ends
    #[arg(long, default_value_t = 24, value_name = "H", value_parser = clap::value_parser!(u32).range(1..=240))]
    pub hours: u32,
    /// The first seed
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub seed: u64,
    /// What goes wrong: none, gentle (crashes only), field (as in the field) or all (drawn from the seed)
    #[arg(long, default_value = "all", value_name = "FAULTS", value_parser = PossibleValuesParser::new(FaultChoice::ALL.map(FaultChoice::word)))]
    pub faults: String,
    /// Worlds at a time (default: one for each processor)
    #[arg(long, value_name = "J")]
    pub jobs: Option<NonZeroUsize>,
    /// Let the simulated service follow this wrong rule, to see that it is found
    #[arg(long, value_name = "RULE", value_parser = PossibleValuesParser::new(Wrong::ALL.map(Wrong::word)))]
    pub wrong: Option<String>,
    /// How many of the last lines of a failing seed's story are shown
    #[arg(long, default_value_t = 60, value_name = "LINES")]
    pub tail: usize,
}

/// What came of all seeds.
#[derive(Debug, Default, Serialize)]
struct Report {
    seeds: u64,
    failed: u64,
    /// Fewest offers on a market.
    offers: u64,
    simulated_hours: u64,
    elapsed_ms: u64,
    /// Thousandths.
    seeds_per_second: String,
    counts: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, u64>,
    calls: BTreeMap<&'static str, u64>,
    ends: BTreeMap<&'static str, u64>,
    failures: Vec<Failed>,
}

#[derive(Debug, Serialize)]
struct Failed {
    seed: u64,
    replay: String,
    wrong: Vec<String>,
    tail: Vec<String>,
}

impl ChaosArgs {
    fn settings(&self) -> Settings {
        Settings {
            hours: self.hours,
            faults: FaultChoice::from_word(&self.faults).unwrap_or_default(),
            wrong: self.wrong.as_deref().and_then(Wrong::from_word),
            tail: self.tail,
        }
    }

    fn replay(&self, seed: u64) -> String {
        let rule = self.wrong.as_ref().map_or_else(String::new, |rule| format!(" --wrong {rule}"));
        format!("gpu-shopper chaos --seed {seed} --seeds 1 --hours {} --faults {}{rule}", self.hours, self.faults)
    }
}

/// Plays the seeds; exit code 1 when a law was broken.
#[must_use]
pub fn run(args: &ChaosArgs, json: bool) -> ExitCode {
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let watch = Stopwatch::start();
    let mut report = Report::default();
    chaos::run(&args.settings(), args.seed..args.seed.saturating_add(args.seeds), jobs, |outcome| {
        if !json && !outcome.wrong.is_empty() {
            tell(&Failed::of(&outcome, args), report.failures.len() < TOLD_WHOLE);
        }
        report.take(outcome, args);
        true
    });
    report.elapsed_ms = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    let thousandths = report.seeds.saturating_mul(1_000_000) / report.elapsed_ms;
    report.seeds_per_second = format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000);
    let text = if json { serde_json::to_string_pretty(&report).unwrap_or_default() } else { report.text() };
    // A reader that has closed its end has what it wanted.
    let _ = writeln!(std::io::stdout(), "{text}");
    if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(failed: &Failed, whole: bool) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "seed {} broke a law; to see it again:\n  {}", failed.seed, failed.replay);
    for wrong in failed.wrong.iter().take(if whole { usize::MAX } else { 1 }) {
        let _ = writeln!(out, "  {wrong}");
    }
    if whole {
        let _ = writeln!(out, "the last of its story:");
        for line in &failed.tail {
            let _ = writeln!(out, "  {line}");
        }
    }
    let _ = writeln!(out);
}

impl Failed {
    fn of(outcome: &Outcome, args: &ChaosArgs) -> Self {
        Self { seed: outcome.seed, replay: args.replay(outcome.seed), wrong: outcome.wrong.clone(), tail: outcome.tail.clone() }
    }
}

impl Report {
    fn take(&mut self, outcome: Outcome, args: &ChaosArgs) {
        self.offers = if self.seeds == 0 { outcome.offers } else { self.offers.min(outcome.offers) };
        self.seeds += 1;
        self.simulated_hours += outcome.simulated_ms / 3_600_000;
        chaos::add(&mut self.counts, &outcome.counts);
        chaos::add(&mut self.faults, &outcome.faults);
        chaos::add(&mut self.calls, &outcome.calls);
        chaos::add(&mut self.ends, &outcome.ends);
        if !outcome.wrong.is_empty() {
            self.failed += 1;
            self.failures.push(Failed::of(&outcome, args));
        }
    }

    fn text(&self) -> String {
        let line = |name: &str, counts: &BTreeMap<&'static str, u64>| {
            let all: Vec<String> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
            format!("{name:<9} {}\n", all.join(", "))
        };
        let mut text = format!("{:<9} at least {} on each market\n", "offers", self.offers);
        for (name, counts) in [("counts", &self.counts), ("ends", &self.ends), ("faults", &self.faults), ("calls", &self.calls)] {
            text.push_str(&line(name, counts));
        }
        text.push_str(&format!(
            "{} seeds, {} simulated hours in {}.{} s ({} seeds per second): {}",
            self.seeds,
            self.simulated_hours,
            self.elapsed_ms / 1000,
            self.elapsed_ms % 1000 / 100,
            self.seeds_per_second,
            match self.failed {
                0 => "no law was broken".to_owned(),
                1 => "1 seed broke a law".to_owned(),
                many => format!("{many} seeds broke a law"),
            }
        ));
        text
    }
}
