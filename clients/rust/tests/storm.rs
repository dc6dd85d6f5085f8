//! The connection is cut at random a thousand times while sessions change: what the watches tell is exactly the log.

use gpu_shopper_client::{Client, Error, Message, Options, Patience, Watch, WatchStart, pb};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch::Receiver;
use tokio::time::timeout;
use world::World;

mod world;

async fn rent(client: &Client) -> pb::CreateSessionResponse {
    let filter = pb::OfferFilter { providers: vec!["tensordock".into()], gpu_models: vec!["RTX 4090".into()], ..Default::default() };
    let target = pb::create_session_request::Target::Requirements(pb::Requirements { filter: Some(filter), ..Default::default() });
    client.create_session(pb::CreateSessionRequest { target: Some(target), ..Default::default() }).await.unwrap()
}

/// All events up to the end, or to the revision that is told when it is known.
async fn follow(mut watch: Watch, until: Receiver<i64>, heard: Arc<AtomicU32>) -> Result<Vec<pb::SessionEvent>, Error> {
    let mut events: Vec<pb::SessionEvent> = Vec::new();
    let mut known = until.clone();
    loop {
        let last = *until.borrow();
        if last > 0 && events.last().is_some_and(|e| e.revision >= last) {
            return Ok(events);
        }
        tokio::select! {
            message = watch.next() => match message? {
                Some(Message::Event(event)) => {
                    heard.fetch_add(1, Ordering::Relaxed);
                    events.push(*event);
                }
                Some(_) => {}
                None => return Ok(events),
            },
            Ok(()) = known.changed() => {}
        }
    }
}

/// Waits for some work as long as a number moves, however slow the machine is; fails when it stands for a minute.
async fn while_moving<T>(mut work: tokio::task::JoinHandle<T>, count: &AtomicU32) -> T {
    loop {
        let before = count.load(Ordering::Relaxed);
        match timeout(Duration::from_secs(60), &mut work).await {
            Ok(done) => return done.unwrap(),
            Err(_) => assert_ne!(before, count.load(Ordering::Relaxed), "nothing has happened for a minute"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_thousand_cuts_the_union_of_events_is_exactly_the_log() {
    let cuts: u32 = std::env::var("STORM_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let world = World::begin().await;
    let direct = Client::new(world.at("direct")).unwrap();
    let patience = Patience { first_wait: Duration::from_millis(2), longest_wait: Duration::from_millis(50), ..Patience::default() };
    let cut_off = || Client::with(world.at("url"), Options { patience: patience.clone(), ..Options::default() }).unwrap();

    let (tell, until) = tokio::sync::watch::channel(0);
    let mut all = cut_off().watch_all(pb::SessionFilter::default(), WatchStart::Snapshot);
    assert!(matches!(all.next().await, Ok(Some(Message::Snapshot(sessions, _))) if sessions.is_empty()));
    let created = rent(&direct).await;
    let id = created.session.unwrap().session_id;
    let (heard, lost) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let counting = |watch: Watch| {
        let lost = Arc::clone(&lost);
        watch.on_lost(move |_, _| {
            lost.fetch_add(1, Ordering::Relaxed);
        })
    };
    let all = tokio::spawn(follow(counting(all), until.clone(), Arc::clone(&heard)));
    let one = cut_off().watch(&id, WatchStart::After(created.resume_token));
    let one = tokio::spawn(follow(counting(one), until, Arc::clone(&heard)));

    world.order(&format!("storm?cuts={cuts}")).await;
    let mut sessions = vec![id.clone()];
    let mut n = 0;
    while world.order("storm-left").await != "0" {
        let session_id = sessions[n % sessions.len()].clone();
        let labels = [("n".to_owned(), n.to_string())].into();
        direct.update_session(pb::UpdateSessionRequest { session_id, labels, ..Default::default() }).await.unwrap();
        if n % 500 == 50 {
            sessions.push(rent(&direct).await.session.unwrap().session_id);
        }
        n += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for session_id in sessions.clone() {
        direct.destroy_session(pb::DestroySessionRequest { session_id, ..Default::default() }).await.unwrap();
    }
    let mut log = Vec::new();
    for session_id in &sessions {
        direct.wait_for_end(session_id).await.unwrap();
    }
    for session_id in &sessions {
        log.extend(direct.events(session_id, 0).collect().await.unwrap());
    }
    log.sort_by_key(|e| e.revision);
    let one = while_moving(one, &heard).await.unwrap();
    tell.send(log.last().unwrap().revision).unwrap();
    let all = while_moving(all, &heard).await.unwrap();

    let numbers = |events: &[pb::SessionEvent]| events.iter().map(|e| (e.revision, e.sequence, e.session_id.clone())).collect::<Vec<_>>();
    let own: Vec<pb::SessionEvent> = log.iter().filter(|e| e.session_id == id).cloned().collect();
    assert_eq!(numbers(&one), numbers(&own));
    assert_eq!(numbers(&all), numbers(&log));
    assert!(one.iter().zip(1..).all(|(event, sequence)| event.sequence == sequence));
    let lost = lost.load(Ordering::Relaxed);
    assert!(lost >= cuts / 2, "only {lost} lost connections were noticed");
    println!("{cuts} cuts, {lost} noticed; {} events of {} sessions, none lost, none twice", all.len(), sessions.len());
    world.end().await;
}
