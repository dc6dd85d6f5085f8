//! From our words to the wire's bytes.

use crate::{bodies, samples};
use criterion::{BatchSize, Criterion, Throughput};
use gpu_shopper::domain::event::Event;
use gpu_shopper::grpc::convert::answers;
use gpu_shopper::grpc::{KeyPair, Settings};
use gpu_shopper::services::api::WatchMessage;
use prost::Message;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

pub fn settings() -> Settings {
    Settings {
        hard_max: Duration::from_secs(12 * 3600),
        default_max_attempts: 8,
        bookmark: Duration::from_secs(15),
        providers: Vec::new(),
        offer_ids: gpu_shopper::providers::REGISTER.iter().map(|e| e.offer_id).collect(),
        parse_public_key: |text| Ok(text.to_owned()),
        make_key_pair: Arc::new(|_| Ok(KeyPair { public_key: String::new(), private_key: String::new().into() })),
        fingerprint: |line| gpu_shopper::ssh::keys::fingerprint(line).ok(),
        known_hosts_line: |host, port, key| gpu_shopper::ssh::keys::known_hosts_line(host, port, key),
        largest_request: 1024 * 1024,
    }
}

/// An event of a session with something in every field.
pub fn event() -> Arc<Event> {
    let mut session = samples::rich();
    Arc::new(samples::event(&mut session, 1))
}

pub fn measure(criterion: &mut Criterion) {
    let (settings, event) = (settings(), event());
    let offers = bodies::offers(1000);
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    let tell = |event: Arc<Event>| {
        let told = WatchMessage::Event { resume_token: String::from("djEuNDIuNDIuNDIuNDI"), event };
        black_box(answers::watched(told, &settings).encode_to_vec())
    };
    group.bench_function("event_to_the_first", |b| b.iter_batched(|| Arc::new((*event).clone()), tell, BatchSize::SmallInput));
    group.bench_function("event_to_each_further", |b| b.iter(|| tell(Arc::clone(&event))));
    group.throughput(Throughput::Elements(50));
    group.bench_function("fifty_offers", |b| {
        b.iter(|| offers.iter().take(50).map(|o| answers::offer(o, None).encode_to_vec().len()).sum::<usize>());
    });
    group.finish();
}
