//! How the database goes about what the store asks of it: along indexes, whatever history holds. The statements are those that the
//! store really runs, heard while it runs them.

use super::samples::*;
use gpu_shopper::domain::access::Role;
use gpu_shopper::domain::event::Matchable;
use gpu_shopper::domain::gpu::GpuModel;
use gpu_shopper::domain::ids::{ConsumerId, ProviderId};
use gpu_shopper::domain::meter::Window;
use gpu_shopper::domain::session::State;
use gpu_shopper::store::{AuditRecord, Batch, Keep, SegmentQuery, SessionQuery, Store, TokenRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Tables that hold a handful of rows, and are read whole.
const SMALL: [&str; 3] = ["timelines", "meta", "tokens"];

/// A store that tells what it runs.
async fn heard() -> (Store, Arc<Mutex<BTreeSet<String>>>) {
    let store = Store::open_memory().unwrap();
    let statements = Arc::new(Mutex::new(BTreeSet::new()));
    let told = Arc::clone(&statements);
    let tell = move |statement| {
        told.lock().unwrap().insert(statement);
    };
    store.statements_told(tell).await.unwrap();
    (store, statements)
}

/// Everything that is read, with every field of every query set and unset.
async fn read_everything(store: &Store) {
    let session = rich();
    let labels = labels(&[("team", "vision"), ("run", "1")]);
    for bits in 0..64_u32 {
        let set = |bit: u32| bits & (1 << bit) != 0;
        let query = SessionQuery {
            consumer: set(0).then(|| ConsumerId::new("alice")),
            provider: set(1).then(|| ProviderId::new("vastai")),
            states: if set(2) { vec![State::Running, State::Stopped, State::Failed] } else { Vec::new() },
            labels: if set(3) { labels.clone() } else { BTreeMap::new() },
            created_from: set(4).then_some(NOW),
            created_before: set(4).then_some(NOW),
            before: set(5).then_some(session.id),
            limit: 51,
        };
        store.session_list(query.clone(), |_, _| None).await.unwrap();
        store.session_count(query.clone()).await.unwrap();
        store.session_list_ended(query, NOW).await.unwrap();
        let window = if set(4) { Window { from: NOW, to: NOW + HOUR } } else { Window::ALWAYS };
        let query = SegmentQuery {
            window,
            consumer: set(0).then(|| ConsumerId::new("alice")),
            provider: set(1).then(|| ProviderId::new("vastai")),
            gpu: set(2).then(|| GpuModel::canonical("RTX 4090")),
            session: set(3).then_some(session.id),
            labels: if set(5) { labels.clone() } else { BTreeMap::new() },
            after: set(5).then_some((session.id, 1, 2)),
            limit: set(5).then_some(51),
        };
        store.segment_list(query).await.unwrap();
    }
    store.session_get(session.id).await.unwrap();
    store.sessions_live().await.unwrap();
    store.instance_list(session.id).await.unwrap();
    store.instances_unsettled().await.unwrap();
    store.instance_by_label(label(&session, 1)).await.unwrap();
    store.event_list(None, 7, 256).await.unwrap();
    store.event_list(Some(session.id), 7, 256).await.unwrap();
    store.event_bounds().await.unwrap();
    store.last_revision().await.unwrap();
    store.lesson_list(NOW).await.unwrap();
    store.audit_list(None, 50).await.unwrap();
    store.request_get("alice", "CreateSession", "1").await.unwrap();
    store.timeline_list().await.unwrap();
    store.meta_get("x").await.unwrap();
    store.deployment_id().await.unwrap();
    store.has_sessions().await.unwrap();
    store.token_list().await.unwrap();
}

/// Everything that is written, trimming included.
async fn write_everything(store: &Store) {
    let mut session = rich();
    session.version = 0;
    for revision in 1..4 {
        let mut batch = told(&mut session, revision);
        batch.instances = vec![rich_instance(&session)];
        batch.requests = vec![accepted(&session, &revision.to_string())];
        store.commit(batch).await.unwrap();
    }
    // Changes of labels, told by an event that says what they were.
    for labels in [labels(&[("team", "vision"), ("run", "9")]), labels(&[("run", "10")])] {
        let before = Matchable::of(&session);
        session.labels = labels;
        let revision = session.revision + 1;
        let mut event = event(&mut session, revision);
        event.before = Some(before);
        store.commit(Batch { sessions: vec![event.session.clone()], events: vec![Arc::new(event)], ..Batch::default() }).await.unwrap();
    }
    let audit = || AuditRecord { at: NOW, actor: "a".to_owned(), action: "b".to_owned(), target: "c".to_owned(), detail: String::new() };
    store.audit_add(audit()).await.unwrap();
    let token = TokenRecord {
        name: "ci".to_owned(),
        role: Role::Admin,
        consumer: None,
        hash: [1; 32],
        created_at: NOW,
        created_by: "a".to_owned(),
        expires_at: None,
        revoked_at: None,
        revoked_by: None,
    };
    assert!(store.token_insert(token, audit()).await.unwrap());
    assert!(store.token_revoke("ci", audit()).await.unwrap());
    store.timeline_open(7, NOW).await.unwrap();
    store.set_deployment_id("d").await.unwrap();
    let nothing = Duration::ZERO;
    let keep = Keep { events: 1, event_age: nothing, request_age: nothing, key_age: nothing, lesson_age: nothing };
    store.trim(NOW + 24 * HOUR, keep).await.unwrap();
}

#[tokio::test]
async fn nothing_that_is_asked_or_written_reads_a_whole_table() {
    let (store, statements) = heard().await;
    write_everything(&store).await;
    read_everything(&store).await;
    let statements = statements.lock().unwrap().clone();
    let plain: Vec<&String> = statements.iter().filter(|s| ["SELECT", "UPDATE", "DELETE"].iter().any(|word| s.starts_with(word))).collect();
    assert!(plain.len() > 60, "{}", plain.len());
    let mut wrong = Vec::new();
    for statement in plain {
        let unfiltered = !statement.contains(" WHERE ");
        let mut first = true;
        for step in store.statement_plan(statement).await.unwrap() {
            let table = step.strip_prefix("SCAN ").map(|rest| rest.split(' ').next().unwrap_or_default());
            let whole = table.is_some_and(|table| !SMALL.contains(&table));
            // In the order of an index and for so many rows only, reading begins at the newest and ends after them.
            let in_order = statement.contains(" LIMIT ") && (step.contains(" USING INDEX ") || step.contains("USING COVERING INDEX"));
            // Only what owes something is in this index.
            let owing = step.contains("USING INDEX instances_unsettled") || step.contains("USING COVERING INDEX instances_unsettled");
            // What is asked for is everything: a report without a window, and the numbers at a table's ends.
            let report = statement.contains("FROM ((`segments`") && !statement.contains("`over_at` >");
            let everything = report || (unfiltered && ["min(", "max(", "COUNT("].iter().any(|word| statement.contains(word)));
            if whole && !(in_order || owing || everything) {
                wrong.push(format!("{statement}\n    {step}"));
            }
            // Of a window, what may cost something in it, or ended in it, is read, whosever it is; of one session or label, that.
            let narrow = ["`session_labels`", "`segments`.`session_id` ="].iter().any(|what| statement.contains(what));
            let window = !narrow && ["`over_at` >", "`stopped_at` >="].iter().any(|bound| statement.contains(bound));
            let (driving, along) = (step.contains("SCAN") || step.contains("SEARCH"), ["segments_by_over_at", "sessions_by_stopped_at"]);
            if window && first && driving && !step.contains("LIST SUBQUERY") && !along.iter().any(|index| step.contains(index)) {
                wrong.push(format!("not along its window:\n{statement}\n    {step}"));
            }
            first &= !driving;
            // What a range of creation times leaves is sorted, and no more than that; ties at one moment are as good as sorted.
            let bounded = statement.contains("`created_at` >=") || step.contains("FOR LAST");
            if step.contains("TEMP B-TREE") && statement.contains(" LIMIT ") && !bounded {
                wrong.push(format!("sorted before it is cut:\n{statement}\n    {step}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} plans\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn statements_of_every_commit_are_the_same_ones() {
    let (store, statements) = heard().await;
    let mut sessions: Vec<_> = (1..5).map(plain).collect();
    let mut counts = Vec::new();
    for revision in 1..13 {
        let session = &mut sessions[usize::try_from(revision).unwrap() % 4];
        session.error = (revision % 2 == 0).then(|| "odd".to_owned());
        store.commit(told(session, revision)).await.unwrap();
        counts.push(statements.lock().unwrap().len());
    }
    // Inserts of the first four, updates from the fifth on; after that nothing new is prepared.
    assert_eq!(counts[11], counts[5], "{:?}", statements.lock().unwrap());
}
