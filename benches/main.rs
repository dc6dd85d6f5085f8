//! What the parts cost, by criterion: `cargo bench` measures all of them, `cargo bench -- NAME` one, and
//! `cargo bench -- --test` only lets each run once on little data. README.md beside this file has results and conditions.
//!
//! Whole servers are measured by `gpu-shopper load` instead; `benches/measure` does both.

mod bodies;
mod encode;
mod hello;
mod ledger;
mod listing;
mod machine;
#[path = "../tests/it/store/samples.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod samples;
mod store;
mod watch;
mod world;

use criterion::Criterion;
use std::time::Duration;
use tikv_jemallocator::Jemalloc;

/// The program's.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Whether everything is only to run once.
fn only_tries() -> bool {
    std::env::args().any(|arg| arg == "--test")
}

/// The sizes that are measured, or a small one where everything is only to run once.
fn sizes(wanted: &[usize]) -> Vec<usize> {
    if only_tries() { vec![wanted[0].min(1000)] } else { wanted.to_vec() }
}

/// Whether a group is asked for: what it needs takes long to make, so that a group that is not asked for makes nothing.
fn asked_for(group: &str) -> bool {
    let mut filters = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
    filters.peek().is_none() || filters.any(|filter| filter.contains(group) || group.contains(&filter))
}

/// Measures a group.
type Measure = fn(&mut Criterion);

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if let Some(at) = words.iter().position(|word| word == "hello-server") {
        return hello::serve(words[at + 1].parse().unwrap());
    }
    let mut criterion =
        Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3)).configure_from_args();
    let groups: [(&str, Measure); 7] = [
        ("parse", bodies::measure),
        ("list_offers", listing::measure),
        ("encode", encode::measure),
        ("step", machine::measure),
        ("commit", store::measure),
        ("watch", watch::measure),
        ("history", ledger::measure),
    ];
    groups.into_iter().filter(|(name, _)| asked_for(name)).for_each(|(_, measure)| measure(&mut criterion));
    criterion.final_summary();
}
