//! `chaos`: many seeds of the deterministic simulation, and what came of them.

use crate::chaos::{self, FaultChoice, Outcome, Settings, Wrong};
use crate::cli::output::{Console, Format};
use crate::clock::Stopwatch;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

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
pub fn run(args: &ChaosArgs, format: Format) -> ExitCode {
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let watch = Stopwatch::start();
    let mut console = Console::standard(format);
    let mut report = Report::default();
    // A reader that has closed its end has what it wanted; the code tells the rest.
    chaos::run(&args.settings(), args.seed..args.seed.saturating_add(args.seeds), jobs, |outcome| {
        if format != Format::Json && !outcome.wrong.is_empty() {
            let _ = console.line(&Failed::of(&outcome, args).text(report.failures.len() < TOLD_WHOLE));
        }
        report.take(outcome, args);
        report.passed(watch.elapsed());
        console.busy(&format!("{} of {} seeds ({} per second): {}", report.seeds, args.seeds, report.seeds_per_second, report.verdict()));
        true
    });
    report.passed(watch.elapsed());
    console.rest();
    let _ = if format == Format::Json { console.json(&report) } else { console.line(&report.text()) };
    // Whatever became of the others: what was not played is not called fine.
    if report.failed == 0 && report.seeds == args.seeds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Failed {
    fn of(outcome: &Outcome, args: &ChaosArgs) -> Self {
        Self { seed: outcome.seed, replay: args.replay(outcome.seed), wrong: outcome.wrong.clone(), tail: outcome.tail.clone() }
    }

    /// `whole` = with all that was wrong and the last of its story.
    fn text(&self, whole: bool) -> String {
        let mut text = format!("seed {} broke a law; to see it again:\n  {}\n", self.seed, self.replay);
        let mut lines = |lines: &[String]| lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        lines(if whole { &self.wrong } else { self.wrong.get(..1).unwrap_or_default() });
        if whole {
            lines(&["the last of its story:".to_owned()]);
            lines(&self.tail);
        }
        text
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

    /// So much time has passed since the beginning.
    fn passed(&mut self, elapsed: Duration) {
        self.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let thousandths = self.seeds.saturating_mul(1_000_000) / self.elapsed_ms;
        self.seeds_per_second = format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000);
    }

    fn verdict(&self) -> String {
        match self.failed {
            0 => "no law was broken".to_owned(),
            1 => "1 seed broke a law".to_owned(),
            many => format!("{many} seeds broke a law"),
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
            self.verdict()
        ));
        text
    }
}
