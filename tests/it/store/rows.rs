//! What goes into the store comes out as it was, and can be found.

use super::samples::*;
use futures::future::join_all;
use gpu_shopper::domain::event::Matchable;
use gpu_shopper::domain::ids::{ConsumerId, ProviderId};
use gpu_shopper::domain::instance::{Evidence, Settled};
use gpu_shopper::domain::meter::Window;
use gpu_shopper::domain::money::{Nanos, Rate};
use gpu_shopper::domain::offer::Component;
use gpu_shopper::domain::session::{EndReason, Session, Stage, State, Workload};
use gpu_shopper::domain::time::Time;
use gpu_shopper::store::{Batch, Error, Keep, SegmentQuery, SessionQuery, Store, Trimmed};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

fn memory() -> Store {
    Store::open_memory().unwrap()
}

#[tokio::test]
async fn a_session_with_everything_in_it_comes_back_exactly() {
    let store = memory();
    let mut session = rich();
    let batch = told(&mut session, 1);
    let event = batch.events[0].clone();
    store.commit(batch).await.unwrap();
    assert_eq!(store.session_get(session.id).await.unwrap(), Some(session.clone()), "told by its event");
    assert_eq!(store.event_list(None, 0, 10).await.unwrap(), vec![(*event).clone()]);
    session.version += 1;
    store.commit(only(&session)).await.unwrap();
    assert_eq!(store.session_get(session.id).await.unwrap(), Some(session.clone()), "by its row");
    assert_eq!(store.session_get(plain(99).id).await.unwrap(), None);

    // An update leaves nothing of the former row behind.
    let mut bare = plain(7);
    assert_eq!(bare.id, session.id);
    (bare.version, bare.revision, bare.sequence) = (session.version + 1, 1, 1);
    store.commit(only(&bare)).await.unwrap();
    assert_eq!(store.session_get(bare.id).await.unwrap(), Some(bare));
}

prop_compose! {
    fn sessions()(
        texts in prop::array::uniform6(".{0,20}"),
        labels in prop::collection::btree_map("[a-z]{1,4}", ".{0,8}", 0..4),
        env in prop::collection::btree_map(".{1,4}", ".{0,8}", 0..4),
        numbers in prop::array::uniform6(any::<i64>()),
        times in prop::array::uniform5(any::<i64>()),
        floats in prop::array::uniform2(-1e300..1e300_f64),
        small in any::<(u8, u16, u32, usize, bool, bool)>(),
        options in prop::array::uniform8(any::<bool>()),
        words in (0..State::ALL.len(), 0..Stage::ALL.len(), 0..EndReason::ALL.len(), 0..Workload::ALL.len()),
        attempts in 0..4_u8,
    ) -> Session {
        let [a, b, c, d, e, f] = texts;
        let mut session = rich();
        let time = |n: usize| Time::from_millis(times[n]);
        session.labels = labels;
        let request = Arc::make_mut(&mut session.request);
        request.start.env_names = env.into_keys().collect();
        request.image = options[0].then_some(a);
        request.start.sealed = options[1].then_some(b);
        request.workload = Workload::ALL[words.3];
        request.reservation = Duration::new(numbers[0].unsigned_abs(), small.2 % 1_000_000_000);
        request.max_price = options[2].then_some(Rate(numbers[1]));
        session.state = State::ALL[words.0];
        session.stage = Stage::ALL[words.1];
        session.end_reason = options[3].then_some(EndReason::ALL[words.2]);
        session.status_message = c;
        session.error = options[4].then_some(d);
        session.host_key = options[5].then_some(e);
        session.price.gpu = Rate(numbers[2]);
        session.cost.cost = Nanos(numbers[3]);
        session.created_at = time(0);
        session.expires_at = time(1);
        session.hard_max_at = time(2);
        session.running_at = options[6].then(|| time(3));
        session.stopped_at = options[7].then(|| time(4));
        session.cost_final = small.4;
        session.pace.progress = options[6].then_some(f);
        session.pace.refused_logins = small.0;
        session.pace.endpoint_index = small.3;
        session.ports = vec![(small.1, 1)];
        if !small.5 {
            session.endpoint = None;
            session.gpu_report = None;
        }
        session.attempts = (1..=attempts).map(|n| attempt(n, "vastai", "RTX 4090")).collect();
        for it in &mut session.attempts {
            let offer = Arc::make_mut(&mut it.offer);
            offer.reliability = Some(floats[0]);
            offer.confidence = floats[1];
            it.cost = Nanos(numbers[4]);
        }
        session.version = numbers[5];
        session
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_session_comes_back_exactly(session in sessions()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = memory();
            store.commit(only(&session)).await.unwrap();
            assert_eq!(store.session_get(session.id).await.unwrap(), Some(session));
        });
    }
}

#[tokio::test]
async fn what_json_cannot_carry_is_refused_before_it_is_lost() {
    let store = memory();
    let mut session = rich();
    Arc::make_mut(&mut session.attempts[0].offer).confidence = f64::NAN;
    assert!(matches!(store.commit(only(&session)).await, Err(Error::Invalid(_))));
    assert_eq!(store.session_get(session.id).await.unwrap(), None);
}

#[tokio::test]
async fn instances_come_back_with_their_segments() {
    let store = memory();
    let session = rich();
    let (one, mut two) = (instance(&session, 1, "tensordock", NOW), rich_instance(&session));
    store.commit(Batch { instances: vec![two.clone(), one.clone()], ..only(&session) }).await.unwrap();
    assert_eq!(store.instance_list(session.id).await.unwrap(), vec![one.clone(), two.clone()]);
    assert_eq!(store.instance_by_label(two.label).await.unwrap(), Some(two.clone()));
    assert_eq!(store.instance_by_label(label(&session, 3)).await.unwrap(), None);
    assert_eq!(store.instances_unsettled().await.unwrap(), vec![one.clone()]);

    // A latecomer opens the debt again; time goes on in a segment and a new one is added.
    two.settled = None;
    two.segments[0].to_high = Some(NOW + HOUR);
    let mut more = two.segments[0].clone();
    (more.ordinal, more.component) = (2, Component::Cpu);
    two.segments.push(more);
    store.commit(Batch { instances: vec![two.clone()], ..Batch::default() }).await.unwrap();
    assert_eq!(store.instances_unsettled().await.unwrap(), vec![one, two]);
}

#[tokio::test]
async fn an_instance_needs_its_session_and_its_own_segments() {
    let store = memory();
    let session = rich();
    let mut debt = instance(&session, 1, "vastai", NOW);
    let lone = store.commit(Batch { instances: vec![debt.clone()], ..Batch::default() }).await;
    assert!(matches!(lone, Err(Error::Conflict(_))), "{lone:?}");
    debt.segments[0].attempt = 2;
    let strange = store.commit(Batch { instances: vec![debt], ..only(&session) }).await;
    assert!(matches!(strange, Err(Error::Invalid(_))), "{strange:?}");
}

#[tokio::test]
async fn live_are_the_sessions_that_are_open_or_still_owe() {
    let store = memory();
    let open = plain(1);
    let (mut ended, mut owing) = (plain(2), plain(3));
    ended.state = State::Stopped;
    owing.state = State::Failed;
    let mut gone = instance(&ended, 1, "vastai", NOW);
    gone.settled = Some(Settled { at: NOW, evidence: Evidence::Vanished });
    let mut settled = instance(&owing, 1, "vastai", NOW);
    settled.settled = gone.settled;
    let debt = instance(&owing, 2, "vastai", NOW);
    let batch = Batch {
        sessions: [&open, &ended, &owing].map(|s| Arc::new(s.clone())).to_vec(),
        instances: vec![gone, settled.clone(), debt.clone()],
        ..Batch::default()
    };
    store.commit(batch).await.unwrap();
    assert_eq!(store.sessions_live().await.unwrap(), vec![(open, vec![]), (owing, vec![settled, debt])]);
}

async fn listed(store: &Store, query: SessionQuery) -> Vec<i64> {
    let found = store.session_list(query, |_, _| None).await.unwrap();
    found.iter().map(|s| (s.created_at.millis() - NOW.millis()) / 1000).collect()
}

#[tokio::test]
async fn lists_are_filtered_and_paged_newest_first() {
    let store = memory();
    for n in 0..10 {
        let mut session = plain(n);
        Arc::make_mut(&mut session.request).consumer = ConsumerId::new(if n % 2 == 0 { "even" } else { "odd" });
        session.labels = labels(&[("parity", if n % 2 == 0 { "even" } else { "odd" }), ("low", if n < 5 { "yes" } else { "no" })]);
        if n > 6 {
            session.state = State::Running;
            session.attempts = vec![attempt(1, "tensordock", "RTX A6000"), attempt(2, "vastai", "RTX 4090")];
        }
        store.commit(only(&session)).await.unwrap();
    }
    let all = SessionQuery::default;
    assert_eq!(listed(&store, all()).await, vec![9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(listed(&store, SessionQuery { limit: 3, ..all() }).await, vec![9, 8, 7]);
    assert_eq!(listed(&store, SessionQuery { limit: 3, before: Some(plain(7).id), ..all() }).await, vec![6, 5, 4]);
    assert_eq!(listed(&store, SessionQuery { limit: 3, before: Some(plain(0).id), ..all() }).await, Vec::<i64>::new());
    assert_eq!(listed(&store, SessionQuery { consumer: Some(ConsumerId::new("odd")), ..all() }).await, vec![9, 7, 5, 3, 1]);
    assert_eq!(listed(&store, SessionQuery { provider: Some(ProviderId::new("vastai")), ..all() }).await, vec![9, 8, 7]);
    assert_eq!(listed(&store, SessionQuery { provider: Some(ProviderId::new("tensordock")), ..all() }).await, Vec::<i64>::new());
    let states = vec![State::Running, State::Failed];
    assert_eq!(listed(&store, SessionQuery { states, ..all() }).await, vec![9, 8, 7]);
    let (from, before) = (Some(NOW + Duration::from_secs(2)), Some(NOW + Duration::from_secs(5)));
    assert_eq!(listed(&store, SessionQuery { created_from: from, created_before: before, ..all() }).await, vec![4, 3, 2]);
    let both = labels(&[("parity", "odd"), ("low", "yes")]);
    assert_eq!(listed(&store, SessionQuery { labels: both, ..all() }).await, vec![3, 1]);
    assert_eq!(listed(&store, SessionQuery { labels: labels(&[("parity", "%")]), ..all() }).await, Vec::<i64>::new());
    assert_eq!(listed(&store, SessionQuery { limit: 0, ..all() }).await, Vec::<i64>::new());
    assert!(store.has_sessions().await.unwrap() && !memory().has_sessions().await.unwrap());
}

#[tokio::test]
async fn changed_labels_are_found_and_former_ones_are_not() {
    let store = memory();
    let mut session = plain(1);
    session.labels = labels(&[("a", "1"), ("b", "2")]);
    store.commit(only(&session)).await.unwrap();
    session.labels = labels(&[("a", "3")]);
    session.version += 1;
    store.commit(only(&session)).await.unwrap();
    let with = |key: &str, value: &str| SessionQuery { labels: labels(&[(key, value)]), ..SessionQuery::default() };
    assert_eq!(listed(&store, with("a", "3")).await, vec![1]);
    assert_eq!(listed(&store, with("a", "1")).await, Vec::<i64>::new());
    assert_eq!(listed(&store, with("b", "2")).await, Vec::<i64>::new());
    // Told by an event that says what they were before, as the service tells it: then only what differs is written.
    let mut revision = 0;
    let mut change = |session: &mut Session, to: &[(&str, &str)], said: Option<&[(&str, &str)]>| {
        revision += 1;
        let before = said.map_or_else(|| session.labels.clone(), labels);
        session.labels = labels(to);
        let mut event = event(session, revision);
        event.before = Some(Matchable { labels: before, ..Matchable::of(session) });
        Batch { sessions: vec![event.session.clone()], events: vec![Arc::new(event)], ..Batch::default() }
    };
    store.commit(change(&mut session, &[("a", "3")], None)).await.unwrap();
    store.commit(change(&mut session, &[("a", "4"), ("c", "5"), ("d", "6")], None)).await.unwrap();
    store.commit(change(&mut session, &[("a", "4"), ("d", "7")], None)).await.unwrap();
    for (key, value, found) in [("a", "3", false), ("a", "4", true), ("c", "5", false), ("d", "6", false), ("d", "7", true)] {
        assert_eq!(!listed(&store, with(key, value)).await.is_empty(), found, "{key} {value}");
    }
    // An event that is mistaken in that is no harm: all are written then.
    store.commit(change(&mut session, &[("e", "8")], Some(&[("a", "none")]))).await.unwrap();
    for (key, value, found) in [("a", "4", false), ("d", "7", false), ("e", "8", true)] {
        assert_eq!(!listed(&store, with(key, value)).await.is_empty(), found, "{key} {value}");
    }
    assert_eq!(store.session_get(session.id).await.unwrap().unwrap().labels, labels(&[("e", "8")]));
}

#[tokio::test]
async fn events_are_read_by_session_and_from_a_revision_on() {
    let store = memory();
    let (mut one, mut two) = (plain(1), plain(2));
    for revision in 1..=6 {
        let batch = told(if revision % 3 == 0 { &mut two } else { &mut one }, revision);
        store.commit(batch).await.unwrap();
    }
    let revisions = async |session: Option<&Session>, after, limit| -> Vec<i64> {
        store.event_list(session.map(|s| s.id), after, limit).await.unwrap().iter().map(|e| e.revision).collect()
    };
    assert_eq!(revisions(None, 0, 100).await, vec![1, 2, 3, 4, 5, 6]);
    assert_eq!(revisions(None, 2, 3).await, vec![3, 4, 5]);
    assert_eq!(revisions(Some(&two), 0, 100).await, vec![3, 6]);
    assert_eq!(revisions(Some(&one), 2, 1).await, vec![4]);
    assert_eq!(revisions(None, 6, 100).await, Vec::<i64>::new());
}

#[tokio::test]
async fn segments_are_found_by_window_and_by_what_reports_group_by() {
    let store = memory();
    let at = |minutes: u64| NOW + Duration::from_secs(60 * minutes);
    let (mut one, mut two) = (plain(1), plain(2));
    Arc::make_mut(&mut one.request).consumer = ConsumerId::new("alice");
    one.labels = labels(&[("team", "vision")]);
    one.attempts = vec![attempt(1, "tensordock", "RTX A6000"), attempt(2, "vastai", "RTX 4090")];
    one.state = State::Stopped;
    one.end_reason = Some(EndReason::Expired);
    one.cost_final = true;
    two.attempts = vec![attempt(1, "vastai", "H100 SXM")];
    let mut first = instance(&one, 1, "tensordock", at(0));
    first.segments[0].to_high = Some(at(10));
    let mut second = instance(&one, 2, "vastai", at(20));
    (second.segments[0].to, second.segments[0].to_high) = (at(30), Some(at(31)));
    let running = instance(&two, 1, "vastai", at(25));
    store.commit(Batch { instances: vec![first.clone(), second.clone()], ..only(&one) }).await.unwrap();
    // The session first, its instance later and alone: the report still knows the model.
    store.commit(only(&two)).await.unwrap();
    store.commit(Batch { instances: vec![running.clone()], ..Batch::default() }).await.unwrap();

    let found = async |query: SegmentQuery| -> Vec<(String, u8)> {
        let rows = store.segment_list(query).await.unwrap();
        rows.iter().map(|row| (if row.segment.session == one.id { "one" } else { "two" }.to_owned(), row.segment.attempt)).collect()
    };
    let all = SegmentQuery::default;
    let named = |rows: &[(&str, u8)]| rows.iter().map(|(s, a)| ((*s).to_owned(), *a)).collect::<Vec<_>>();
    let window = |from, to| SegmentQuery { window: Window { from, to }, ..all() };
    assert_eq!(found(all()).await, named(&[("one", 1), ("one", 2), ("two", 1)]));
    assert_eq!(found(window(at(10), at(20))).await, named(&[]));
    assert_eq!(found(window(at(9), at(20))).await, named(&[("one", 1)]));
    assert_eq!(found(window(at(10), at(26))).await, named(&[("one", 2), ("two", 1)]));
    assert_eq!(found(window(at(9_000), at(9_001))).await, named(&[("two", 1)]));
    assert_eq!(found(SegmentQuery { consumer: Some(ConsumerId::new("alice")), ..all() }).await, named(&[("one", 1), ("one", 2)]));
    assert_eq!(found(SegmentQuery { provider: Some(ProviderId::new("vastai")), ..all() }).await, named(&[("one", 2), ("two", 1)]));
    assert_eq!(found(SegmentQuery { gpu: Some(two.attempts[0].offer.gpu.clone()), ..all() }).await, named(&[("two", 1)]));
    assert_eq!(found(SegmentQuery { session: Some(two.id), ..all() }).await, named(&[("two", 1)]));
    assert_eq!(found(SegmentQuery { labels: one.labels.clone(), ..all() }).await, named(&[("one", 1), ("one", 2)]));

    let rows = store.segment_list(all()).await.unwrap();
    assert_eq!(rows[0].segment, first.segments[0]);
    assert_eq!((rows[0].provider.as_str(), rows[1].provider.as_str()), ("tensordock", "vastai"));
    assert_eq!(rows[0].gpu.as_ref(), Some(&one.attempts[0].offer.gpu));
    assert_eq!((rows[1].end_reason, rows[1].cost_final, rows[1].state), (Some(EndReason::Expired), true, State::Stopped));
    assert_eq!((&*rows[1].labels, rows[1].consumer.as_str()), (&one.labels, "alice"));
    assert!(Arc::ptr_eq(&rows[0].labels, &rows[1].labels));
    assert_eq!((rows[2].end_reason, rows[2].cost_final, rows[2].state), (None, false, State::Pending));
    assert!(rows[2].labels.is_empty());
}

#[tokio::test]
async fn accepted_calls_are_remembered_once_and_their_keys_are_forgotten() {
    let store = memory();
    let session = plain(1);
    let record = accepted(&session, "r-1");
    store.commit(Batch { requests: vec![record.clone()], ..only(&session) }).await.unwrap();
    assert_eq!(store.request_get("default", "CreateSession", "r-1").await.unwrap(), Some(record.clone()));
    assert_eq!(store.request_get("other", "CreateSession", "r-1").await.unwrap(), None);
    assert_eq!(store.request_get("default", "ExtendSession", "r-1").await.unwrap(), None);
    assert!(!format!("{record:?}").contains("255"), "sealed bytes in a debug text");

    let other = plain(2);
    let again = store.commit(Batch { requests: vec![accepted(&other, "r-1")], ..only(&other) }).await;
    assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
    assert_eq!(store.session_get(other.id).await.unwrap(), None, "half a batch");

    // A key is kept while its session may still come to run, and for its age at least; then the call is known without it.
    let keys = async |at| store.trim(at, Keep::default()).await.unwrap().keys;
    let late = record.created_at + HOUR;
    assert_eq!(keys(late).await, 0, "the session is pending");
    let mut running = session.clone();
    (running.state, running.version) = (State::Running, session.version + 1);
    store.commit(only(&running)).await.unwrap();
    assert_eq!(keys(record.created_at + Keep::default().key_age).await, 0);
    assert_eq!(keys(late).await, 1);
    assert_eq!(keys(late).await, 0);
    let left = store.request_get("default", "CreateSession", "r-1").await.unwrap().unwrap();
    assert_eq!((left.sealed, left.hash), (Some(Vec::new()), record.hash));
}

#[tokio::test]
async fn timelines_begin_after_the_last_revision() {
    let store = memory();
    let first = store.timeline_open(u64::MAX, NOW).await.unwrap();
    let mut session = plain(1);
    for revision in 1..=2 {
        store.commit(told(&mut session, revision)).await.unwrap();
    }
    let second = store.timeline_open(7, NOW + HOUR).await.unwrap();
    assert_eq!((first.id, first.first_revision, second.first_revision), (u64::MAX, 1, 3));
    assert_eq!(store.timeline_list().await.unwrap(), vec![first, second]);
    assert!(matches!(store.timeline_open(7, NOW).await, Err(Error::Conflict(_))));
}

#[tokio::test]
async fn named_values_are_kept() {
    let store = memory();
    assert_eq!(store.meta_get("deployment_id").await.unwrap(), None);
    for value in ["a", "b"] {
        store.meta_set("deployment_id", value).await.unwrap();
        assert_eq!(store.meta_get("deployment_id").await.unwrap().as_deref(), Some(value));
    }
}

#[tokio::test]
async fn trimming_leaves_what_may_still_be_asked_for() {
    let store = memory();
    let (mut open, mut ended) = (plain(0), plain(1));
    ended.state = State::Stopped;
    for revision in 1..=20 {
        store.commit(told(if revision % 2 == 0 { &mut open } else { &mut ended }, revision)).await.unwrap();
    }
    let requests = vec![accepted(&open, "open"), accepted(&ended, "ended")];
    store.commit(Batch { requests, ..Batch::default() }).await.unwrap();
    let keep = |events| Keep { events, ..Keep::default() };

    // All young: nothing goes, whatever the number, but the key that its owner has had time to take.
    assert_eq!(store.trim(NOW + HOUR, keep(5)).await.unwrap(), Trimmed { keys: 1, ..Trimmed::default() });
    // All old, fewer than the number to keep: no event goes.
    let late = NOW + 30 * HOUR;
    assert_eq!(store.trim(late, Keep::default()).await.unwrap(), Trimmed { requests: 1, ..Trimmed::default() });
    assert!(store.request_get("default", "CreateSession", "open").await.unwrap().is_some());
    assert!(store.request_get("default", "CreateSession", "ended").await.unwrap().is_none());
    // The age counts from each event: half of them are a day old.
    let bounds = store.event_bounds().await.unwrap();
    assert_eq!((bounds.oldest, bounds.last), (1, 20));
    assert_eq!(store.trim(NOW + 24 * HOUR + Duration::from_secs(5), keep(1)).await.unwrap().events, 8);
    assert_eq!(store.event_bounds().await.unwrap().oldest, 9);
    assert_eq!(store.trim(late, keep(5)).await.unwrap().events, 7);
    // The last one stays in any case, so revisions go on from it.
    assert_eq!(store.trim(late, keep(0)).await.unwrap().events, 4);
    let bounds = store.event_bounds().await.unwrap();
    assert_eq!((bounds.oldest, bounds.last), (20, 20));
    store.commit(told(&mut open, 21)).await.unwrap();
    assert_eq!(store.session_list(SessionQuery::default(), |_, _| None).await.unwrap().len(), 2);
}

/// What an open session is may lie in its last event alone; it is not lost with that.
#[tokio::test]
async fn an_open_session_outlives_its_events() {
    let store = memory();
    let (mut silent, mut ended, mut busy) = (rich(), plain(1), plain(2));
    (silent.state, ended.state) = (State::Running, State::Stopped);
    store.commit(told(&mut silent, 1)).await.unwrap();
    store.commit(told(&mut ended, 2)).await.unwrap();
    for revision in 3..=9 {
        store.commit(told(&mut busy, revision)).await.unwrap();
    }
    let kept = async |what: &str| {
        for session in [&silent, &ended, &busy] {
            assert_eq!(store.session_get(session.id).await.unwrap().as_ref(), Some(session), "{what}");
        }
        let listed = store.session_list(SessionQuery::default(), |_, _| None).await.unwrap();
        assert_eq!(listed.len(), 3, "{what}");
        let live = store.sessions_live().await.unwrap();
        assert!(live.iter().any(|(session, _)| *session == silent) && live.len() == 2, "{what}");
    };
    kept("as written").await;
    assert_eq!(store.trim(NOW + 30 * HOUR, Keep { events: 1, ..Keep::default() }).await.unwrap().events, 8);
    kept("its event is gone").await;
    silent.version += 1;
    store.commit(only(&silent)).await.unwrap();
    assert_eq!(store.session_get(silent.id).await.unwrap(), Some(silent), "changed without an event");
}

#[tokio::test]
async fn an_empty_log_has_bounds_too() {
    let bounds = memory().event_bounds().await.unwrap();
    assert_eq!((bounds.oldest, bounds.last), (1, 0));
}

#[tokio::test]
async fn many_sessions_come_back_with_their_instances() {
    // More than one query's worth of ids.
    let store = memory();
    let sessions: Vec<Session> = (0..1100).map(plain).collect();
    let batch = Batch {
        sessions: sessions.iter().cloned().map(Arc::new).collect(),
        instances: sessions.iter().map(|s| instance(s, 1, "vastai", NOW)).collect(),
        ..Batch::default()
    };
    store.commit(batch).await.unwrap();
    let live = store.sessions_live().await.unwrap();
    assert_eq!(live.len(), 1100);
    assert!(live.iter().zip(&sessions).all(|((got, debts), put)| got.id == put.id && debts.len() == 1 && debts[0].segments.len() == 1));
    let single = join_all(sessions.iter().take(3).map(|s| store.instance_list(s.id))).await;
    assert!(single.into_iter().all(|all| all.unwrap().len() == 1));
}
