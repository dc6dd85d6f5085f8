//! A long history: reports and pages over a million metered segments, lists of a hundred thousand sessions, and a start on them.

use crate::samples::{self, NOW, plain};
use crate::{only_tries, world};
use criterion::{BenchmarkId, Criterion};
use gpu_shopper::domain::instance::{Desired, Evidence, Settled};
use gpu_shopper::domain::session::{EndReason, State};
use gpu_shopper::services::api::{CostQuery, GroupBy, SessionFilter};
use gpu_shopper::store::{Batch, Store};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// Segments of each session.
const SEGMENTS: u32 = 10;

/// Puts ended sessions there, one every ten minutes, with ten segments of a minute each.
pub async fn history(store: &Store, sessions: u64) {
    let mut revision = 0;
    for chunk in (0..sessions).collect::<Vec<_>>().chunks(200) {
        let mut batch = Batch::default();
        for n in chunk {
            revision += 1;
            let mut session = plain(*n * 600);
            std::sync::Arc::make_mut(&mut session.request).consumer = gpu_shopper::domain::ids::ConsumerId::new(&format!("team-{}", n % 50));
            session.attempts = vec![samples::attempt(1, "vastai", if n % 3 == 0 { "H100" } else { "RTX 4090" })];
            session.state = State::Stopped;
            session.end_reason = Some(EndReason::Completed);
            session.cost_final = true;
            session.stopped_at = Some(session.created_at + Duration::from_secs(600));
            let from = session.created_at;
            let mut row = samples::instance(&session, 1, "vastai", from);
            row.desired = Desired::Gone;
            row.settled = Some(Settled { at: from + Duration::from_secs(600), evidence: Evidence::NotFoundTwice });
            let first = row.segments[0].clone();
            row.segments = (0..SEGMENTS)
                .map(|ordinal| {
                    let from = from + Duration::from_secs(60 * u64::from(ordinal));
                    let to = from + Duration::from_secs(60);
                    gpu_shopper::domain::meter::Segment { ordinal, from_low: from, from, to, to_high: Some(to), ..first.clone() }
                })
                .collect();
            let event = samples::event(&mut session, revision);
            batch.sessions.push(Arc::new(session));
            batch.instances.push(row);
            batch.events.push(Arc::new(event));
        }
        store.commit(batch).await.unwrap();
    }
}

pub fn measure(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let counts: &[u64] = if only_tries() { &[20] } else { &[1_000, 10_000, 100_000] };
    let mut group = criterion.benchmark_group("history");
    group.sample_size(10);
    for count in counts {
        let folder = tempfile::tempdir().unwrap();
        runtime.block_on(async { history(&world::open(folder.path()), *count).await });
        group.bench_with_input(BenchmarkId::new("open_and_start", count), count, |b, _| {
            b.iter(|| {
                runtime.block_on(async {
                    let core = world::core(world::open(folder.path())).await;
                    core.stop().await.unwrap();
                });
            });
        });
        let core = runtime.block_on(async { world::core(world::open(folder.path())).await });
        let last_day = CostQuery {
            from: Some(NOW + Duration::from_secs(*count * 600).saturating_sub(Duration::from_secs(24 * 3600))),
            to: Some(NOW + Duration::from_secs(*count * 600 + 3600)),
            group_by: vec![GroupBy::Provider],
            ..CostQuery::default()
        };
        let reports = [
            (
                "report_of_everything",
                CostQuery { to: Some(NOW + Duration::from_secs(*count * 600 + 3600)), group_by: vec![GroupBy::Consumer], ..CostQuery::default() },
            ),
            ("report_of_the_last_day", last_day.clone()),
            ("report_of_one_consumer", CostQuery { consumer: Some(gpu_shopper::domain::ids::ConsumerId::new("team-7")), ..last_day.clone() }),
        ];
        for (name, query) in reports {
            group.bench_with_input(BenchmarkId::new(name, count), &query, |b, query| {
                b.iter(|| runtime.block_on(async { black_box(core.costs.report(&world::caller(), query.clone()).await.unwrap()) }));
            });
        }
        group.bench_with_input(BenchmarkId::new("page_of_the_ledger", count), count, |b, _| {
            b.iter(|| runtime.block_on(async { black_box(core.costs.ledger(&world::caller(), CostQuery::default(), 50, "").await.unwrap()) }));
        });
        let filters = [
            ("page_of_sessions", SessionFilter::default()),
            ("page_of_open_sessions", SessionFilter { states: vec![State::Pending, State::Running], ..SessionFilter::default() }),
            ("page_of_ended_sessions", SessionFilter { states: vec![State::Stopped, State::Failed], ..SessionFilter::default() }),
        ];
        for (name, filter) in filters {
            group.bench_with_input(BenchmarkId::new(name, count), &filter, |b, filter| {
                b.iter(|| runtime.block_on(async { black_box(core.sessions.list(&world::caller(), filter.clone(), 50, "").await.unwrap()) }));
            });
        }
        runtime.block_on(async { core.stop().await.unwrap() });
    }
    group.finish();
}
