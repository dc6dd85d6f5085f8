//! Watches: the seven rules of `WatchSession` and `WatchSessions`, held against the event table.
//!
//! * `crowds`: many watches, and many things at once.

mod crowds;

use crate::support::{House, any, caller, request};
use crate::yard::{self, Warehouse, offer};
use futures::FutureExt;
use futures::future::join_all;
use futures::stream::{BoxStream, StreamExt};
use gpu_shopper::app::Core;
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::event::{Event, EventType};
use gpu_shopper::domain::ids::{ConsumerId, ProviderId, SessionId};
use gpu_shopper::domain::policy::Policy;
use gpu_shopper::domain::session::{Request, State};
use gpu_shopper::domain::time::Time;
use gpu_shopper::domain::verify::Verify;
use gpu_shopper::ports::{Chance, Provider, SeededChance};
use gpu_shopper::services::api::{Caller, Command, Create, Created, SessionFilter, WatchMessage, WatchRequest, WatchStart};
use gpu_shopper::services::error::{Code, Error};
use gpu_shopper::services::lookout::Rhythm;
use gpu_shopper::sim::Faults;
use gpu_shopper::store::{Keep, Mode, Options, Store};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const SNAPSHOT: WatchStart = WatchStart::Snapshot { ended_since: None };

type Told = Result<WatchMessage, Error>;
type Watch = BoxStream<'static, Told>;

fn watching(session: Option<SessionId>, filter: SessionFilter, start: WatchStart) -> WatchRequest {
    WatchRequest { session, filter, start, bookmark: 15 * SECOND }
}

async fn one(core: &Core, id: SessionId, start: WatchStart) -> Watch {
    core.sessions.watch(&caller(), watching(Some(id), SessionFilter::default(), start)).await.unwrap()
}

async fn all(core: &Core, filter: SessionFilter, start: WatchStart) -> Watch {
    core.sessions.watch(&caller(), watching(None, filter, start)).await.unwrap()
}

async fn refused(core: &Core, request: WatchRequest) -> Error {
    match core.sessions.watch(&caller(), request).await {
        Ok(_) => panic!("the watch was accepted"),
        Err(error) => error,
    }
}

/// What there is to hear now, without waiting.
fn heard(watch: &mut Watch) -> Vec<Told> {
    let mut told = Vec::new();
    while let Some(Some(message)) = watch.next().now_or_never() {
        told.push(message);
    }
    told
}

fn event(told: &Told) -> Option<&Arc<Event>> {
    match told.as_ref().unwrap() {
        WatchMessage::Event { event, .. } => Some(event),
        _ => None,
    }
}

fn revisions(told: &[Told]) -> Vec<i64> {
    told.iter().filter_map(event).map(|e| e.revision).collect()
}

fn token(told: &Told) -> String {
    match told.as_ref().unwrap() {
        WatchMessage::SnapshotEnd { resume_token, .. } | WatchMessage::Event { resume_token, .. } | WatchMessage::Bookmark { resume_token, .. } => {
            resume_token.clone()
        }
        WatchMessage::Snapshot(_) => panic!("a snapshot has no token"),
    }
}

fn word(told: &Told) -> String {
    match told {
        Ok(WatchMessage::Snapshot(s)) => format!("snapshot {}", s.state),
        Ok(WatchMessage::SnapshotEnd { .. }) => "snapshot_end".to_owned(),
        Ok(WatchMessage::Event { event, .. }) if event.kind == EventType::StateChanged => format!("{} to {}", event.from_state, event.to_state),
        Ok(WatchMessage::Event { event, .. }) => event.kind.word().to_owned(),
        Ok(WatchMessage::Bookmark { .. }) => "bookmark".to_owned(),
        Err(error) => error.reason.to_owned(),
    }
}

fn words(told: &[Told]) -> Vec<String> {
    told.iter().map(word).collect()
}

async fn table(store: &Store) -> Vec<Event> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = store.event_list(None, after, 10_000).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = last.revision;
        all.extend(page);
    }
}

/// A whole life: created, run for a while, done.
async fn life(house: &House, provider: Option<&str>) -> Created {
    let created = house.rent(provider).await;
    finish(house, created.session.id).await;
    created
}

async fn finish(house: &House, id: SessionId) {
    house.until(id, State::Running, 10 * MINUTE).await;
    house.pass(MINUTE).await;
    house.command(id, Command::Complete { bad_machine: false }).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
}

// === gap-free, in order, from the beginning ===

#[tokio::test(start_paused = true)]
async fn what_is_told_is_what_was_committed() {
    let house = House::new(31, Faults::gentle()).await;
    let mut watch = all(house.core(), SessionFilter::default(), WatchStart::Now).await;
    let lives = join_all([Some("vastai"), Some("tensordock"), None, None].map(|p| life(&house, p))).await;
    let told: Vec<Told> = heard(&mut watch).into_iter().filter(|t| event(t).is_some()).collect();
    let told: Vec<&Arc<Event>> = told.iter().filter_map(event).collect();
    let kept = table(house.store()).await;
    assert_eq!(told.iter().map(|e| (***e).clone()).collect::<Vec<_>>(), kept, "the same events, whole, in the same order");
    assert!(kept.iter().zip(1..).all(|(e, n)| e.revision == n), "revisions are 1 to n");
    for created in lives {
        let own: Vec<&&Arc<Event>> = told.iter().filter(|e| e.session_id == created.session.id).collect();
        assert!(own.iter().zip(1..).all(|(e, n)| e.sequence == n), "sequences are 1 to n");
        assert!(own.iter().all(|e| (e.session.revision, e.session.sequence) == (e.revision, e.sequence)));
        assert_eq!(own.last().unwrap().to_state, State::Stopped);
        // Each event takes up where the one before left off.
        for pair in own.windows(2) {
            assert_eq!(pair[1].from_state, pair[0].to_state);
            let seen = pair[1].before.as_ref().unwrap();
            assert_eq!((seen.state, &seen.labels), (pair[0].to_state, &pair[0].session.labels));
        }
    }
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_create_is_from_before_its_first_event() {
    let house = House::new(32, Faults::gentle()).await;
    let before = life(&house, None).await;
    let created = house.rent(None).await;
    house.until(created.session.id, State::Running, 10 * MINUTE).await;
    let mut watch = one(house.core(), created.session.id, WatchStart::After(created.resume_token)).await;
    let told = heard(&mut watch);
    let first = event(&told[0]).unwrap();
    assert_eq!((first.kind, first.sequence, first.session_id), (EventType::Created, 1, created.session.id));
    assert_eq!(words(&told)[..2], ["created", "pending to provisioning"]);
    // So is a command's.
    let done = house.core().lifecycle.command(caller(), created.session.id, Command::Destroy, None, false).await.unwrap();
    let told: Vec<Told> = one(house.core(), created.session.id, WatchStart::After(done.resume_token)).await.collect().await;
    assert_eq!(words(&told), ["running to stopping", "stopping to stopped"]);
    assert_ne!(before.session.id, created.session.id);
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn from_every_cut_the_rest_is_told_before_and_after_a_restart() {
    let mut house = House::new(33, Faults::gentle()).await;
    let created = house.rent(None).await;
    let id = created.session.id;
    let (whole, _) = tokio::join!(
        async { one(house.core(), id, WatchStart::After(created.resume_token.clone())).await.collect::<Vec<Told>>().await },
        finish(&house, id)
    );
    let whole: Vec<Told> = whole.into_iter().filter(|t| word(t) != "bookmark").collect();
    let expected = revisions(&whole);
    assert!(expected.len() >= 8, "{:?}", words(&whole));
    life(&house, None).await;
    for restarted in [false, true] {
        if restarted {
            yard::restart(&mut house, 901).await;
            life(&house, None).await;
        }
        let tokens = std::iter::once(created.resume_token.clone()).chain(whole.iter().map(token));
        for (at, token) in tokens.enumerate() {
            let rest: Vec<Told> = one(house.core(), id, WatchStart::After(token)).await.collect().await;
            assert_eq!(revisions(&rest), expected[at..], "after cut {at}, restarted: {restarted}");
            assert_eq!(rest.len(), expected.len() - at, "nothing but events, then the end");
        }
    }
    // The same over all sessions, where the others' events come in between.
    let mut watch = all(house.core(), SessionFilter::default(), SNAPSHOT).await;
    let end = token(heard(&mut watch).last().unwrap());
    life(&house, None).await;
    let whole = heard(&mut watch);
    let expected: Vec<i64> = revisions(&whole);
    for restarted in [false, true] {
        if restarted {
            yard::restart(&mut house, 902).await;
        }
        for (at, token) in std::iter::once(end.clone()).chain(whole.iter().map(token)).enumerate() {
            let mut watch = all(house.core(), SessionFilter::default(), WatchStart::After(token)).await;
            let told = revisions(&whole[at..]);
            assert_eq!(revisions(&heard(&mut watch)), told, "after cut {at} of {}, restarted: {restarted}", expected.len());
        }
    }
    house.close().await;
}

// === where it starts, and where it ends ===

#[tokio::test(start_paused = true)]
async fn a_watch_begins_with_what_is_open_and_goes_on_from_there() {
    let house = House::new(34, Faults::gentle()).await;
    let long_ago = life(&house, None).await.session.id;
    house.pass(60 * MINUTE).await;
    let ended = life(&house, None).await.session.id;
    let running = house.rent(None).await.session.id;
    house.until(running, State::Running, 10 * MINUTE).await;
    let fresh = house.rent(None).await.session.id;
    house.pass(SECOND / 10).await;

    let mut watch = all(house.core(), SessionFilter::default(), SNAPSHOT).await;
    let told = heard(&mut watch);
    assert_eq!(words(&told), ["snapshot running", "snapshot provisioning", "snapshot_end"]);
    let Ok(WatchMessage::SnapshotEnd { revision, counts, spend_rate, .. }) = told.last().unwrap() else { panic!() };
    assert_eq!(*revision, house.core().board.last());
    assert_eq!(*counts, [(State::Provisioning, 1), (State::Running, 1)]);
    let prices = house.get(running).await.price.total() + house.get(fresh).await.price.total();
    assert_eq!(*spend_rate, prices);
    house.until(fresh, State::Running, 10 * MINUTE).await;
    let later = heard(&mut watch);
    assert_eq!(revisions(&later), (revision + 1..=house.core().board.last()).collect::<Vec<_>>());

    let ids = |told: &[Told]| -> Vec<SessionId> {
        told.iter().filter_map(|t| if let Ok(WatchMessage::Snapshot(s)) = t { Some(s.id) } else { None }).collect()
    };
    let since = |at: Time| WatchStart::Snapshot { ended_since: Some(at) };
    let none = SessionFilter::default();
    for (name, filter, start, expected) in [
        ("ended since", none.clone(), since(house.now() - 30 * MINUTE), vec![running, fresh, ended]),
        ("ended since long ago", none.clone(), since(Time::default()), vec![running, fresh, ended, long_ago]),
        ("ended since now", none.clone(), since(house.now()), vec![running, fresh]),
        ("stopped ones", SessionFilter { states: vec![State::Stopped], ..none.clone() }, SNAPSHOT, vec![ended, long_ago]),
        ("failed ones", SessionFilter { states: vec![State::Failed], ..none.clone() }, SNAPSHOT, vec![]),
        (
            "some of both",
            SessionFilter { states: vec![State::Stopped, State::Running], ..none.clone() },
            SNAPSHOT,
            vec![running, fresh, ended, long_ago],
        ),
        ("a stranger's", SessionFilter { consumer: Some(ConsumerId::new("other")), ..none.clone() }, SNAPSHOT, vec![]),
    ] {
        assert_eq!(ids(&heard(&mut all(house.core(), filter, start).await)), expected, "{name}");
    }
    // One session: its own snapshot; an ended one ends the watch at once.
    let told = heard(&mut one(house.core(), running, SNAPSHOT).await);
    assert_eq!(words(&told), ["snapshot running", "snapshot_end"]);
    let told: Vec<Told> = one(house.core(), ended, SNAPSHOT).await.collect().await;
    assert_eq!(words(&told), ["snapshot stopped", "snapshot_end"]);
    let told: Vec<Told> = one(house.core(), ended, WatchStart::Now).await.collect().await;
    assert_eq!(words(&told), ["bookmark"]);
    // From now on: nothing of what was.
    let mut watch = one(house.core(), running, WatchStart::Now).await;
    let told = heard(&mut watch);
    assert_eq!(words(&told), ["bookmark"], "a token comes first");
    let resumed = one(house.core(), running, WatchStart::After(token(&told[0]))).await;
    for id in [running, fresh] {
        house.command(id, Command::Destroy).await.unwrap();
        house.until(id, State::Stopped, 10 * MINUTE).await;
    }
    for watch in [watch, resumed] {
        let told: Vec<Told> = watch.collect().await;
        assert_eq!(words(&told), ["running to stopping", "stopping to stopped"]);
    }
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn only_what_is_the_callers_can_be_watched() {
    let house = House::new(35, Faults::none()).await;
    let id = life(&house, None).await.session.id;
    let missing = SessionId::new(house.now(), 7);
    for start in [SNAPSHOT, WatchStart::Now, WatchStart::After("garbage".to_owned())] {
        let error = refused(house.core(), watching(Some(missing), SessionFilter::default(), start)).await;
        assert_eq!((error.code, error.reason), (Code::NotFound, "SESSION_NOT_FOUND"));
    }
    let stranger = Caller { principal: "s".to_owned(), scope: Some(ConsumerId::new("stranger")), admin: false, request: String::new() };
    let sessions = &house.core().sessions;
    let watch = |session, filter| sessions.watch(&stranger, watching(session, filter, WatchStart::Snapshot { ended_since: Some(Time::default()) }));
    assert_eq!(watch(Some(id), SessionFilter::default()).await.err().unwrap().code, Code::NotFound);
    let others = SessionFilter { consumer: Some(ConsumerId::new("tester")), ..SessionFilter::default() };
    assert_eq!(watch(None, others).await.err().unwrap().code, Code::NotFound);
    let mut own = watch(None, SessionFilter::default()).await.unwrap();
    assert_eq!(words(&heard(&mut own)), ["snapshot_end"]);
    life(&house, None).await;
    assert!(heard(&mut own).iter().all(|t| word(t) == "bookmark"), "nor does it hear of what happens to others");
    house.close().await;
}

// === filters ===

#[tokio::test(start_paused = true)]
async fn a_session_that_leaves_a_filter_is_seen_leaving() {
    let house = House::new(36, Faults::gentle()).await;
    let none = SessionFilter::default();
    let label = |value: &str| BTreeMap::from([("team".to_owned(), value.to_owned())]);
    let mut running = all(house.core(), SessionFilter { states: vec![State::Running], ..none.clone() }, WatchStart::Now).await;
    let mut pending = all(house.core(), SessionFilter { states: vec![State::Pending], ..none.clone() }, WatchStart::Now).await;
    let mut team = all(house.core(), SessionFilter { labels: label("red"), ..none.clone() }, WatchStart::Now).await;
    let mut vastai = all(house.core(), SessionFilter { provider: Some(ProviderId::new("vastai")), ..none.clone() }, WatchStart::Now).await;
    let mut other = all(house.core(), SessionFilter { provider: Some(ProviderId::new("tensordock")), ..none.clone() }, WatchStart::Now).await;
    let id = house.rent(Some("vastai")).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    for labels in [label("blue"), label("red"), label("blue"), label("green")] {
        house.command(id, Command::Update { labels: Some(labels), idle_threshold: None }).await.unwrap();
    }
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
    let kinds = |watch: &mut Watch| words(&heard(watch)).into_iter().filter(|w| w != "bookmark").collect::<Vec<_>>();
    assert_eq!(kinds(&mut pending), ["created", "pending to provisioning"]);
    let told = kinds(&mut running);
    assert_eq!((told.first().unwrap().as_str(), told.last().unwrap().as_str()), ("provisioning to running", "running to stopping"));
    assert_eq!(kinds(&mut team), ["updated", "updated"], "entering and leaving");
    let told = kinds(&mut vastai);
    assert_eq!((told.first().unwrap().as_str(), told.last().unwrap().as_str()), ("pending to provisioning", "stopping to stopped"));
    assert!(kinds(&mut other).is_empty());
    house.close().await;
}

// === silence ===

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_bookmarks_that_tell_how_far_it_is() {
    let house = House::new(37, Faults::none()).await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    house.pass(5 * MINUTE).await;
    for (asked, given) in [(1, 5), (5, 5), (15, 15), (60, 60), (300, 60)] {
        let request = WatchRequest { bookmark: Duration::from_secs(asked), ..watching(None, SessionFilter::default(), SNAPSHOT) };
        let mut watch = house.core().sessions.watch(&caller(), request).await.unwrap();
        assert_eq!(words(&heard(&mut watch)), ["snapshot running", "snapshot_end"]);
        let begun = house.now();
        for n in 1..=2_u32 {
            assert_eq!(word(&watch.next().await.unwrap()), "bookmark");
            assert_eq!(house.now(), begun + Duration::from_secs(given) * n, "asked for {asked} s");
        }
        // What happens begins the silence anew.
        house.pass(Duration::from_secs(given) / 2).await;
        house
            .command(id, Command::Update { labels: Some(BTreeMap::from([("n".to_owned(), asked.to_string())])), idle_threshold: None })
            .await
            .unwrap();
        assert_eq!(word(&watch.next().await.unwrap()), "updated");
        let event_at = house.now();
        let mark = watch.next().await.unwrap();
        assert_eq!((word(&mark), house.now()), ("bookmark".to_owned(), event_at + Duration::from_secs(given)));
        let mut resumed = all(house.core(), SessionFilter::default(), WatchStart::After(token(&mark))).await;
        assert!(heard(&mut resumed).is_empty(), "everything up to the bookmark has been told");
    }
    // A quiet session's watch keeps up with the house, so that its token does not grow old.
    let mut quiet = one(house.core(), id, WatchStart::Now).await;
    assert_eq!(words(&heard(&mut quiet)), ["bookmark"]);
    let before = house.core().board.last();
    life(&house, None).await;
    let marks = heard(&mut quiet);
    assert_eq!(words(&marks), ["bookmark"]);
    let Ok(WatchMessage::Bookmark { revision, .. }) = marks[0] else { panic!() };
    assert!(revision == house.core().board.last() && revision > before + 8);
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
    house.close().await;
}

// === tokens that no longer hold ===

#[tokio::test(start_paused = true)]
async fn a_token_from_before_what_is_kept_says_so() {
    let mut house = House::new(38, Faults::none()).await;
    let mut watch = all(house.core(), SessionFilter::default(), SNAPSHOT).await;
    let old = token(heard(&mut watch).last().unwrap());
    let first = life(&house, None).await;
    life(&house, None).await;
    let told = heard(&mut watch);
    let keep = Keep { events: 5, event_age: Duration::ZERO, request_age: MINUTE, ..Keep::default() };
    house.store().trim(house.now() + MINUTE, keep).await.unwrap();
    // While it is in memory nobody misses it.
    assert_eq!(revisions(&heard(&mut all(house.core(), SessionFilter::default(), WatchStart::After(old.clone())).await)), revisions(&told));
    yard::restart(&mut house, 903).await;
    let bounds = house.store().event_bounds().await.unwrap();
    assert_eq!(bounds.oldest, bounds.last - 4);
    let old_watches = [
        all(house.core(), SessionFilter::default(), WatchStart::After(old)).await,
        one(house.core(), first.session.id, WatchStart::After(first.resume_token)).await,
    ];
    for watch in old_watches {
        let told: Vec<Told> = watch.collect().await;
        let [Err(error)] = &told[..] else { panic!("{:?}", words(&told)) };
        assert_eq!((error.code, error.reason), (Code::OutOfRange, "WATCH_COMPACTED"));
        assert_eq!(error.metadata["oldest_revision"], bounds.oldest.to_string());
        assert!(error.message.contains("snapshot"), "{error}");
    }
    // The last token before the oldest event is good, the one before is not.
    for back in 0..3 {
        let at = told.iter().find(|t| event(t).is_some_and(|e| e.revision == bounds.oldest - 2 + back)).unwrap();
        let mut watch = all(house.core(), SessionFilter::default(), WatchStart::After(token(at))).await;
        let rest = heard(&mut watch);
        if back == 0 {
            assert_eq!(words(&rest), ["WATCH_COMPACTED"]);
        } else {
            assert_eq!(revisions(&rest), (bounds.oldest - 1 + back..=bounds.last).collect::<Vec<_>>());
        }
    }
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_belongs_to_its_watch() {
    let house = House::new(39, Faults::none()).await;
    let (a, b) = (life(&house, None).await, life(&house, None).await);
    let states = |states: &[State]| SessionFilter { states: states.to_vec(), ..SessionFilter::default() };
    let mut watch = all(house.core(), states(&[State::Running, State::Failed]), SNAPSHOT).await;
    let of_filter = token(heard(&mut watch).last().unwrap());
    let none = SessionFilter::default();
    let consumer = SessionFilter { consumer: Some(ConsumerId::new("tester")), ..SessionFilter::default() };
    for (name, session, filter, token) in [
        ("another session", Some(b.session.id), none.clone(), a.resume_token.clone()),
        ("a session's for all", None, none.clone(), a.resume_token.clone()),
        ("all for a session", Some(a.session.id), none.clone(), of_filter.clone()),
        ("no filter", None, none.clone(), of_filter.clone()),
        ("another filter", None, consumer, of_filter.clone()),
        ("fewer states", None, states(&[State::Running]), of_filter.clone()),
        ("garbage", None, none.clone(), "garbage".to_owned()),
        ("half a token", Some(a.session.id), none.clone(), a.resume_token[..20].to_owned()),
        ("more than a token", Some(a.session.id), none, format!("{}AAAA", a.resume_token)),
    ] {
        let error = refused(house.core(), watching(session, filter, WatchStart::After(token))).await;
        assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, "resume_token"), "{name}");
    }
    // The same states in another order are the same filter.
    let mut same = all(house.core(), states(&[State::Failed, State::Running, State::Failed]), WatchStart::After(of_filter)).await;
    assert!(heard(&mut same).is_empty());
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_from_a_future_that_was_undone_is_found_out() {
    let house = House::new(40, Faults::none()).await;
    let mut watch = all(house.core(), SessionFilter::default(), SNAPSHOT).await;
    heard(&mut watch);
    let kept = life(&house, None).await;
    let before = heard(&mut watch);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("restored.db");
    house.store().backup(&path).await.unwrap();
    let lost = life(&house, None).await;
    let after = heard(&mut watch);
    let lost = (lost.session.id, heard(&mut one(house.core(), lost.session.id, WatchStart::After(lost.resume_token)).await));
    house.close().await;

    // The copy is put in place; its server has told other things since.
    let store = Store::open(Options { path, mode: Mode::Inline, holder: "test".to_owned() }).unwrap();
    let clock = Clock::simulated(crate::support::BEGIN + 60 * MINUTE);
    let providers: [Arc<dyn Provider>; 1] = [Warehouse::new("vastai", &clock, vec![offer("vastai", "1")])];
    let restored = yard::start(yard::parts(store, &providers, &clock, Policy::default(), 41)).await;
    for _ in 0..3 {
        let id = rent(&restored).await.session.id;
        restored.sessions.wait(&caller(), id, &[State::Running], MINUTE).await.unwrap();
        restored.lifecycle.command(caller(), id, Command::Destroy, None, false).await.unwrap();
        restored.sessions.wait(&caller(), id, &[State::Stopped], MINUTE).await.unwrap();
    }
    assert!(restored.board.last() > event(after.last().unwrap()).unwrap().revision);
    for told in before.iter().filter(|t| event(t).is_some()) {
        let mut watch = all(&restored, SessionFilter::default(), WatchStart::After(token(told))).await;
        let rest = heard(&mut watch);
        assert_eq!(revisions(&rest).first(), Some(&(event(told).unwrap().revision + 1)), "what is common is told");
    }
    for told in after.iter().filter(|t| event(t).is_some()) {
        let error = refused(&restored, watching(None, SessionFilter::default(), WatchStart::After(token(told)))).await;
        assert_eq!((error.code, error.reason), (Code::OutOfRange, "WATCH_STORE_REPLACED"), "{}", event(told).unwrap().revision);
        assert!(error.message.contains("snapshot"), "{error}");
    }
    let last = lost.1.iter().rfind(|t| event(t).is_some()).unwrap();
    let error = refused(&restored, watching(Some(lost.0), SessionFilter::default(), WatchStart::After(token(last)))).await;
    assert_eq!(error.reason, "WATCH_STORE_REPLACED", "rather than that its session is unknown");
    assert!(one(&restored, kept.session.id, WatchStart::After(kept.resume_token)).await.next().await.is_some());
    restored.stop().await.unwrap();
}

// === draining ===

#[tokio::test(start_paused = true)]
async fn a_drain_ends_every_watch_with_a_token_to_go_on_with() {
    let mut house = House::new(42, Faults::none()).await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    let mut single = one(house.core(), id, SNAPSHOT).await;
    let mut every = all(house.core(), SessionFilter::default(), SNAPSHOT).await;
    heard(&mut single);
    heard(&mut every);
    house.command(id, Command::Update { labels: Some(BTreeMap::from([("a".to_owned(), "b".to_owned())])), idle_threshold: None }).await.unwrap();
    let waiting = tokio::spawn({
        let sessions = house.core().sessions.clone();
        async move { sessions.wait(&caller(), id, &[State::Stopped], MINUTE).await }
    });
    tokio::task::yield_now().await;
    house.core().drain.cancel();
    let mut tokens = Vec::new();
    for watch in [single, every] {
        let told: Vec<Told> = watch.collect().await;
        assert_eq!(words(&told), ["updated", "bookmark", "SERVER_DRAINING"]);
        let error = told[2].as_ref().unwrap_err();
        assert!(error.code == Code::Unavailable && error.retry_after.is_some());
        tokens.push(token(&told[1]));
    }
    assert_eq!(waiting.await.unwrap().unwrap_err().reason, "SERVER_DRAINING");
    yard::restart(&mut house, 904).await;
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
    let rest: Vec<Told> = one(house.core(), id, WatchStart::After(tokens[0].clone())).await.collect().await;
    assert_eq!(words(&rest).last().unwrap(), "stopping to stopped");
    let rest_of_all = heard(&mut all(house.core(), SessionFilter::default(), WatchStart::After(tokens[1].clone())).await);
    assert_eq!(revisions(&rest_of_all), revisions(&rest));
    house.close().await;
}

// === sessions without a house ===

fn plain() -> Request {
    Request { verify: Verify::Ssh, ..request(any(None)) }
}

async fn rent(core: &Core) -> Created {
    let create = Create {
        request: plain(),
        labels: BTreeMap::new(),
        secrets: Default::default(),
        template: None,
        validate_only: false,
        idempotency: None,
        private_key: None,
    };
    core.lifecycle.create(caller(), create).await.unwrap()
}
