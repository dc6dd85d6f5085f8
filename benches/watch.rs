//! From a change to all who watch it, without sockets: the command, its commit with a real fsync, the bell, and for each watcher
//! the bytes of its message.

use crate::world::{caller, core, open, running};
use crate::{encode, only_tries};
use criterion::{BenchmarkId, Criterion, Throughput};
use futures::StreamExt;
use gpu_shopper::grpc::convert::answers;
use gpu_shopper::services::api::{Command, SessionFilter, WatchMessage, WatchRequest, WatchStart};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

pub fn measure(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (core, id) = runtime.block_on(async {
        let core = core(open(folder.path())).await;
        let id = running(&core).await;
        (core, id)
    });
    let mut group = criterion.benchmark_group("watch");
    group.sample_size(10);
    let counts: &[usize] = if only_tries() { &[2] } else { &[1, 10, 100, 1_000, 10_000] };
    for everything in [false, true] {
        for count in counts {
            let name = if everything { "one_change_to_watchers_of_everything" } else { "one_change_to_watchers_of_its_session" };
            group.throughput(Throughput::Elements(*count as u64));
            let (told, mut heard) = mpsc::channel::<usize>(1 << 16);
            let watchers: Vec<_> = (0..*count)
                .map(|_| {
                    let (told, sessions, settings) = (told.clone(), core.sessions.clone(), Arc::new(encode::settings()));
                    runtime.spawn(async move {
                        let session = (!everything).then_some(id);
                        let filter = SessionFilter::default();
                        let request = WatchRequest { session, filter, start: WatchStart::Now, bookmark: Duration::from_secs(60) };
                        let mut stream = sessions.watch(&caller(), request).await.unwrap();
                        let _ = told.send(0).await;
                        while let Some(Ok(message)) = stream.next().await {
                            let event = matches!(message, WatchMessage::Event { .. });
                            let bytes = answers::watched(message, &settings).encode_to_vec();
                            if event && told.send(bytes.len()).await.is_err() {
                                return;
                            }
                        }
                    })
                })
                .collect();
            // Each has begun once it has said so.
            runtime.block_on(async {
                for _ in 0..*count {
                    heard.recv().await;
                }
            });
            let mut number = 0_u64;
            group.bench_with_input(BenchmarkId::new(name, count), count, |b, count| {
                b.iter(|| {
                    number += 1;
                    let labels = [("number".to_owned(), number.to_string())].into();
                    let change = Command::Update { labels: Some(labels), idle_threshold: None };
                    runtime.block_on(async {
                        core.lifecycle.command(caller(), id, change, None, false).await.unwrap();
                        for _ in 0..*count {
                            heard.recv().await.unwrap();
                        }
                    });
                });
            });
            watchers.iter().for_each(tokio::task::JoinHandle::abort);
        }
    }
    group.finish();
    runtime.block_on(async { core.stop().await.unwrap() });
}
