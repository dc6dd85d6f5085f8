//! Many watches, and many things at once: sleepers, thousands, commits between any two messages, real threads.

use super::*;

#[tokio::test(start_paused = true)]
async fn two_thousand_watchers_and_one_who_sleeps() {
    const MANY: usize = 2_000;
    let clock = Clock::simulated(crate::support::BEGIN);
    let providers: [Arc<dyn Provider>; 1] = [Warehouse::new("vastai", &clock, vec![offer("vastai", "1")])];
    let store = Store::open_memory().unwrap();
    let mut parts = yard::parts(store.clone(), &providers, &clock, Policy::default(), 1);
    // Each look touches every session; here nothing is to be seen by looking.
    parts.rhythm = Rhythm { close: 10 * MINUTE, steady: 10 * MINUTE, idle: 10 * MINUTE };
    let core = yard::start(parts).await;
    let mut sleeper = all(&core, SessionFilter::default(), WatchStart::Now).await;
    let mut watchers = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..MANY / 100 {
        for created in join_all((0..100).map(|_| rent(&core))).await {
            ids.push(created.session.id);
            let watch = one(&core, created.session.id, WatchStart::After(created.resume_token)).await;
            watchers.push(tokio::spawn(watch.collect::<Vec<Told>>()));
        }
    }
    for round in 0..3 {
        for some in ids.chunks(100) {
            let labels = BTreeMap::from([("round".to_owned(), round.to_string())]);
            let commands = some
                .iter()
                .map(|id| core.lifecycle.command(caller(), *id, Command::Update { labels: Some(labels.clone()), idle_threshold: None }, None, false));
            assert!(join_all(commands).await.iter().all(Result::is_ok));
        }
    }
    for some in ids.chunks(100) {
        assert!(join_all(some.iter().map(|id| core.lifecycle.command(caller(), *id, Command::Destroy, None, false))).await.iter().all(Result::is_ok));
    }
    // Every watcher hears its own session whole, and ends; nobody has read from the one that sleeps.
    let mut total = 0;
    for (id, watcher) in ids.iter().zip(join_all(watchers).await) {
        let told: Vec<Told> = watcher.unwrap().into_iter().filter(|t| word(t) != "bookmark").collect();
        assert!(told.iter().filter_map(event).zip(1..).all(|(e, n)| (e.session_id, e.sequence) == (*id, n)), "{:?}", words(&told));
        assert_eq!(word(told.last().unwrap()), "stopping to stopped");
        total += told.len();
    }
    assert!(total >= 20_000, "{total}");
    // It wakes up: everything in order, first from the table, then from memory, then live.
    let told = heard(&mut sleeper);
    assert_eq!(revisions(&told), (1..=i64::try_from(total).unwrap()).collect::<Vec<_>>());
    assert_eq!(told.len(), total + 1, "with the bookmark that came first");
    let late = rent(&core).await;
    assert_eq!(event(&sleeper.next().await.unwrap()).unwrap().session_id, late.session.id);
    core.stop().await.unwrap();
}

// === everything at once ===

/// Each session's events follow on what the snapshot said of it, or on nothing, one by one.
fn no_gap_no_repetition(told: &[Told]) {
    let mut at: BTreeMap<SessionId, i64> = BTreeMap::new();
    let mut revision = 0;
    for message in told {
        match message.as_ref().unwrap() {
            WatchMessage::Snapshot(s) => assert!(at.insert(s.id, s.sequence).is_none(), "{} is told twice", s.id),
            WatchMessage::SnapshotEnd { revision: end, .. } => revision = *end,
            WatchMessage::Event { event: e, .. } => {
                assert!(e.revision > revision, "{} after {revision}", e.revision);
                revision = e.revision;
                let last = at.insert(e.session_id, e.sequence);
                assert_eq!(e.sequence, last.unwrap_or(0) + 1, "session {}, revision {}", e.session_id, e.revision);
            }
            WatchMessage::Bookmark { revision: mark, .. } => {
                assert!(*mark >= revision);
                revision = *mark;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_amid_commits_repeats_nothing_and_loses_nothing() {
    let house = House::new(43, Faults::none()).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(house.rent(None).await.session.id);
    }
    for id in &ids {
        house.until(*id, State::Running, 10 * MINUTE).await;
    }
    let chance = SeededChance::new(43);
    let steps = |most: u64| chance.bits() % most;
    for round in 0..300_u64 {
        let mut commands = Vec::new();
        for (n, id) in ids.iter().enumerate() {
            let (lifecycle, id, wait) = (house.core().lifecycle.clone(), *id, steps(12));
            let labels = BTreeMap::from([("round".to_owned(), format!("{round}.{n}"))]);
            commands.push(tokio::spawn(async move {
                for _ in 0..wait {
                    tokio::task::yield_now().await;
                }
                lifecycle.command(caller(), id, Command::Update { labels: Some(labels), idle_threshold: None }, None, false).await.unwrap();
            }));
        }
        let mut watches = Vec::new();
        for n in 0..4 {
            let (sessions, wait, slow) = (house.core().sessions.clone(), steps(12), steps(4));
            let session = (n % 2 == 1).then(|| ids[usize::try_from(steps(4)).unwrap()]);
            watches.push(tokio::spawn(async move {
                for _ in 0..wait {
                    tokio::task::yield_now().await;
                }
                let mut watch = sessions.watch(&caller(), watching(session, SessionFilter::default(), SNAPSHOT)).await.unwrap();
                let mut told = Vec::new();
                // Heard bit by bit, so that commits fall between any two messages.
                for _ in 0..30 {
                    if let Some(Some(message)) = watch.next().now_or_never() {
                        told.push(message);
                    }
                    for _ in 0..slow {
                        tokio::task::yield_now().await;
                    }
                }
                (session, told, watch)
            }));
        }
        join_all(commands).await;
        for watch in watches {
            let (session, mut told, mut rest) = watch.await.unwrap();
            told.extend(heard(&mut rest));
            no_gap_no_repetition(&told);
            // Snapshot and events together come to what is true now.
            let mut known: BTreeMap<SessionId, Arc<_>> = BTreeMap::new();
            for message in &told {
                match message.as_ref().unwrap() {
                    WatchMessage::Snapshot(s) => drop(known.insert(s.id, Arc::clone(s))),
                    WatchMessage::Event { event, .. } => drop(known.insert(event.session_id, Arc::clone(&event.session))),
                    _ => {}
                }
            }
            for id in ids.iter().filter(|id| session.is_none_or(|s| s == **id)) {
                let (told, now) = (&known[id], house.get(*id).await);
                assert_eq!((told.sequence, &told.labels), (now.sequence, &now.labels));
            }
        }
    }
    for id in ids {
        house.command(id, Command::Destroy).await.unwrap();
        house.until(id, State::Stopped, 10 * MINUTE).await;
    }
    house.close().await;
}

/// Real threads, a real file: watches that begin at any moment of any session end with it, whichever way they begin.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn watches_that_begin_at_any_moment_end_with_their_session() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Options { path: folder.path().join("watch.db"), mode: Mode::Threaded, holder: "test".to_owned() }).unwrap();
    let clock = Clock::System;
    let providers: [Arc<dyn Provider>; 1] = [Warehouse::new("vastai", &clock, vec![offer("vastai", "1")])];
    let quick = Duration::from_millis(5);
    let policy = Policy {
        gone_spacing: quick,
        look_interval: quick,
        probe_interval: quick,
        destroy_backoff: quick,
        destroy_backoff_max: quick,
        ..Policy::default()
    };
    let mut parts = yard::parts(store, &providers, &clock, policy, 2);
    parts.rhythm = Rhythm { close: 4 * quick, steady: 4 * quick, idle: 4 * quick };
    let core = Arc::new(yard::start(parts).await);
    let whole = tokio::spawn(
        all(&core, SessionFilter::default(), WatchStart::Now).await.take_while(|t| futures::future::ready(t.is_ok())).collect::<Vec<Told>>(),
    );
    let mut tasks = Vec::new();
    for n in 0..60_u64 {
        let core = Arc::clone(&core);
        tasks.push(tokio::spawn(async move {
            let created = rent(&core).await;
            let id = created.session.id;
            let over = tokio::spawn({
                let core = Arc::clone(&core);
                async move {
                    core.sessions.wait(&caller(), id, &[State::Running], MINUTE).await.unwrap();
                    core.lifecycle.command(caller(), id, Command::Destroy, None, false).await.unwrap();
                    core.sessions.wait(&caller(), id, &[State::Stopped], MINUTE).await.unwrap()
                }
            });
            let chance = SeededChance::new(n);
            let mut watches = Vec::new();
            while !over.is_finished() {
                let start = match chance.bits() % 3 {
                    0 => SNAPSHOT,
                    1 => WatchStart::Now,
                    _ => WatchStart::After(created.resume_token.clone()),
                };
                let watch = one(&core, id, start).await;
                watches.push(tokio::spawn(watch.collect::<Vec<Told>>()));
                // Often enough that some begin in the very moment of the end.
                for _ in 0..chance.bits() % 8 {
                    tokio::task::yield_now().await;
                }
            }
            assert!(over.await.unwrap().1);
            for watch in watches {
                // A watch that misses its session's end would never end.
                let told = tokio::time::timeout(MINUTE, watch).await.expect("it ends").unwrap();
                let last = told.iter().filter_map(event).next_back().map(|e| e.to_state);
                assert!(last.is_none_or(State::is_final), "{:?}", words(&told));
                let own: Vec<i64> = told.iter().filter_map(event).map(|e| e.sequence).collect();
                assert!(own.windows(2).all(|pair| pair[1] == pair[0] + 1), "{own:?}");
                if let Some(Ok(WatchMessage::Snapshot(s))) = told.first() {
                    assert!(own.first().is_none_or(|first| *first == s.sequence + 1), "{} then {own:?}", s.sequence);
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let last = core.board.last();
    core.drain.cancel();
    let told = whole.await.unwrap();
    assert_eq!(revisions(&told), (1..=last).collect::<Vec<_>>());
    no_gap_no_repetition(&told);
    Arc::into_inner(core).unwrap().stop().await.unwrap();
}
