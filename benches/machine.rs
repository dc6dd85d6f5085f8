//! The pure machine: one step of one session.

use crate::samples::{self, NOW};
use criterion::{BatchSize, Criterion, Throughput};
use gpu_shopper::app::{tag_of, terms_of};
use gpu_shopper::domain::lifecycle::{Ask, Input, step};
use gpu_shopper::domain::policy::{Policy, Rules};
use gpu_shopper::domain::session::State;
use gpu_shopper::ports::Provider;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub fn measure(criterion: &mut Criterion) {
    let provider = crate::listing::Stocked::new(Vec::new());
    let rules = Rules {
        tag: tag_of("bench"),
        policy: Policy::default(),
        secret: "own".to_owned(),
        terms: BTreeMap::from([(provider.facts().id.clone(), terms_of(&provider))]),
        expiry_held: BTreeSet::new(),
        asleep: false,
    };
    let begun = samples::plain(1);
    let mut running = samples::plain(2);
    running.state = State::Running;
    running.attempts = vec![samples::attempt(1, "vastai", "RTX 4090")];
    running.running_at = Some(NOW + Duration::from_secs(60));
    let rows = vec![samples::instance(&running, 1, "vastai", NOW)];
    let now = NOW + Duration::from_secs(90);
    let mut group = criterion.benchmark_group("step");
    group.throughput(Throughput::Elements(1));
    group.bench_function("begin", |b| {
        b.iter_batched(|| Input::Begin, |input| step(&begun, &[], input, &rules, now).unwrap(), BatchSize::SmallInput);
    });
    group.bench_function("tick_of_a_running_session", |b| {
        b.iter_batched(|| Input::Tick, |input| step(&running, &rows, input, &rules, now).unwrap(), BatchSize::SmallInput);
    });
    let labels = samples::labels(&[("team", "vision")]);
    let ask = || Input::Asked {
        ask: Ask::Update { labels: Some(labels.clone()), idle_threshold: None },
        actor: gpu_shopper::domain::event::Actor::Service,
    };
    group.bench_function("change_of_labels", |b| {
        b.iter_batched(ask, |input| step(&running, &rows, input, &rules, now).unwrap(), BatchSize::SmallInput);
    });
    group.finish();
}
