//! The store as its users see it: what it refuses, what survives, and who may open it.

mod plans;
mod rows;
mod samples;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use futures::future::join_all;
use futures::poll;
use gpu_shopper::domain::event::Event;
use gpu_shopper::domain::session::{Session, State};
use gpu_shopper::store::{Batch, Certainty, Error, Mode, Options, Point, SessionQuery, Store};
use samples::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use tempfile::TempDir;

fn options(path: &Path, mode: Mode) -> Options {
    Options { path: path.to_owned(), mode, holder: "127.0.0.1:8080".to_owned() }
}

fn folder() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data dir/gpu-shopper.db");
    (dir, path)
}

fn open(path: &Path) -> Store {
    Store::open(options(path, Mode::Threaded)).unwrap()
}

/// Another session with so many events, on a store that may have others.
pub async fn some_history(store: &Store, session: u64, events: i64) {
    let (mut session, last) = (plain(session), store.last_revision().await.unwrap());
    for revision in last + 1..=last + events {
        store.commit(told(&mut session, revision)).await.unwrap();
    }
}

#[derive(QueryableByName, Debug, PartialEq)]
struct Shown {
    #[diesel(sql_type = Text)]
    text: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// Asks the file itself, as somebody at a shell would.
fn ask(path: &Path, sql: &str) -> Vec<Shown> {
    let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    diesel::sql_query(sql).load(&mut conn).unwrap()
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    for mode in [Mode::Threaded, Mode::Inline] {
        let (_dir, path) = folder();
        let mut session = rich();
        let debt = rich_instance(&session);
        {
            let store = Store::open(options(&path, mode)).unwrap();
            assert_eq!(store.path(), Some(path.as_path()));
            let mut batch = told(&mut session, 1);
            batch.instances = vec![debt.clone()];
            store.commit(batch).await.unwrap();
        }
        let store = Store::open(options(&path, mode)).unwrap();
        assert_eq!(store.session_get(session.id).await.unwrap().as_ref(), Some(&session));
        assert_eq!(store.instance_list(session.id).await.unwrap(), vec![debt]);
        assert_eq!(store.last_revision().await.unwrap(), 1);
        store.commit(told(&mut session, 2)).await.unwrap();
    }
}

/// An event as earlier versions wrote it, each `null` said.
const EVENT_WITH_NULLS: &str = include_str!("store/event_with_nulls.json");

/// Without the members that are `null`.
fn said(value: Value) -> Value {
    match value {
        Value::Object(members) => members.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key, said(value))).collect(),
        Value::Array(values) => values.into_iter().map(said).collect(),
        other => other,
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_written_and_rows_that_say_null_are_read() {
    let (_dir, path) = folder();
    let before: Value = serde_json::from_str(EVENT_WITH_NULLS).unwrap();
    let mut event: Event = serde_json::from_str(EVENT_WITH_NULLS).unwrap();
    assert_eq!(event.session.request.image, None);
    assert_eq!(serde_json::to_value(&event).unwrap(), said(before.clone()));

    let mut session = (*event.session).clone();
    (session.revision, session.sequence, event.revision, event.sequence) = (1, 1, 1, 1);
    event.session = Arc::new(session);
    // A copy: the row tells itself.
    let sessions = vec![Arc::new((*event.session).clone())];
    open(&path).commit(Batch { sessions, events: vec![Arc::new(event.clone())], ..Batch::default() }).await.unwrap();
    let stored = ask(&path, "SELECT detail AS text, length(detail) AS number FROM events UNION ALL SELECT request || detail, 0 FROM sessions");
    assert_eq!(stored.len(), 2);
    assert!(stored.iter().all(|row| !row.text.contains(":null")), "{stored:?}");
    // With what else its row has, it lies on one page of 4 096 bytes, no longer on two.
    assert!(EVENT_WITH_NULLS.len() > 4_000 && stored[0].number < 3_500, "{} bytes", stored[0].number);

    // A row with nulls is the same row.
    let mut old = before;
    old["revision"] = 1.into();
    old["sequence"] = 1.into();
    old["session"]["revision"] = 1.into();
    old["session"]["sequence"] = 1.into();
    let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    diesel::sql_query("UPDATE events SET detail = ?").bind::<Text, _>(old.to_string()).execute(&mut conn).unwrap();
    assert_eq!(open(&path).event_list(None, 0, 10).await.unwrap(), vec![event]);
}

#[tokio::test]
async fn the_second_server_is_told_who_holds_the_database() {
    let (dir, path) = folder();
    let first = open(&path);
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for other in [&path, &link] {
        let Err(error) = Store::open(options(other, Mode::Inline)) else { panic!("two servers on {}", other.display()) };
        assert!(matches!(error, Error::Locked { .. }), "{error:?}");
        let text = error.to_string();
        for part in ["failed to open database", other.to_str().unwrap(), &format!("pid {}", std::process::id()), "127.0.0.1:8080", "since 20"] {
            assert!(text.contains(part), "no `{part}` in `{text}`");
        }
    }
    drop(first);
    let lock = PathBuf::from(format!("{}.lock", path.display()));
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), "", "nobody holds it any more");
    open(&path);
}

#[test]
fn a_path_that_cannot_be_says_what_to_check() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    let noise = dir.path().join("noise.db");
    std::fs::write(&noise, "this is a letter, not a database, and long enough to look at. ".repeat(40)).unwrap();
    for bad in [file.join("gpu-shopper.db"), dir.path().join("folder"), noise.clone()] {
        let text = Store::open(options(&bad, Mode::Threaded)).unwrap_err().to_string();
        assert!(text.starts_with("failed to open database"), "{text}");
        assert!(text.contains(bad.to_str().unwrap()) && text.contains("DATABASE_PATH"), "{text}");
    }
    assert!(std::fs::read_to_string(&noise).unwrap().starts_with("this is a letter"));
}

/// Every file in a folder with its content.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

const PREDECESSOR: &str =
    "CREATE TABLE sessions (id TEXT PRIMARY KEY, consumer_id TEXT, provider_instance_id TEXT, status TEXT, price_per_hour REAL);
    INSERT INTO sessions VALUES ('a', 'c', '1', 'running', 0.3), ('b', 'c', '2', 'running', 0.3), ('c', 'c', NULL, 'stopped', 0.3);";

/// Makes a database as the predecessor leaves it.
pub fn predecessor(path: &Path) {
    SqliteConnection::establish(path.to_str().unwrap()).unwrap().batch_execute(PREDECESSOR).unwrap();
}

#[test]
fn the_predecessors_database_is_refused_untouched() {
    for mode in ["DELETE", "WAL"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gpu-shopper.db");
        let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        conn.batch_execute(&format!("PRAGMA journal_mode={mode}; {PREDECESSOR}")).unwrap();
        drop(conn);
        let before = content(dir.path());
        let error = Store::open(options(&path, Mode::Threaded)).unwrap_err();
        assert_eq!(content(dir.path()), before, "touched ({mode})");
        let Error::ForeignSchema { sessions: Some(sessions), .. } = &error else { panic!("{error:?}") };
        assert_eq!(sessions, &BTreeMap::from([("running".to_owned(), 2), ("stopped".to_owned(), 1)]));
        let text = error.to_string();
        for part in ["failed to open database", "open in it: 2 running", "ended: 1 stopped", "not touched", "DATABASE_PATH"] {
            assert!(text.contains(part), "no `{part}` in `{text}`");
        }
    }
}

#[test]
fn a_predecessor_that_is_still_running_keeps_its_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gpu-shopper.db");
    let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    conn.batch_execute(&format!("PRAGMA journal_mode=WAL; {PREDECESSOR}")).unwrap();
    let file = std::fs::read(&path).unwrap();
    // What it has written is still in its log only.
    let Err(Error::ForeignSchema { sessions: Some(sessions), .. }) = Store::open(options(&path, Mode::Threaded)) else { panic!("not recognised") };
    assert_eq!(sessions["running"], 2);
    assert_eq!(std::fs::read(&path).unwrap(), file);
    assert!(!dir.path().join("gpu-shopper.db.lock").exists());
    conn.batch_execute("INSERT INTO sessions VALUES ('d', 'c', '3', 'running', 0.3)").unwrap();
}

#[test]
fn another_programs_database_and_a_newer_one_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("books.db");
    let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    conn.batch_execute("CREATE TABLE books (title TEXT)").unwrap();
    drop(conn);
    let before = content(dir.path());
    assert!(matches!(Store::open(options(&path, Mode::Threaded)), Err(Error::ForeignSchema { sessions: None, .. })));
    assert_eq!(content(dir.path()), before);

    let path = dir.path().join("newer.db");
    drop(open(&path));
    let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    conn.batch_execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('29991231000000')").unwrap();
    drop(conn);
    let error = Store::open(options(&path, Mode::Threaded)).unwrap_err();
    assert!(matches!(&error, Error::NewerSchema { migrations, .. } if migrations == &["29991231000000"]), "{error:?}");
}

#[tokio::test]
async fn people_read_the_file_while_the_server_runs() {
    let (_dir, path) = folder();
    let store = open(&path);
    let mut failed = rich();
    store.commit(told(&mut failed, 1)).await.unwrap();
    store.commit(only(&plain(1))).await.unwrap();

    let shown = ask(&path, "SELECT id AS text, cost_nanos AS number FROM sessions WHERE status = 'failed' ORDER BY created_at DESC");
    assert_eq!(shown, vec![Shown { text: failed.id.to_string(), number: 246_666_667 }]);
    let row = "created_at || '|' || provider || '|' || gpu_type || '|' || end_reason || '|' || ssh_host || '|' || workload_type || '|' || labels";
    let shown = ask(&path, &format!("SELECT {row} AS text, ssh_port AS number FROM sessions WHERE error IS NOT NULL"));
    assert_eq!(shown[0].number, 41_022);
    let expected =
        "2026-11-23 21:58:52.123|vastai|RTX 4090|host_lost|203.0.113.7|llm_vllm|{\"run\":\"1'; DROP TABLE sessions; --\",\"team\":\"vision\"}";
    assert_eq!(shown[0].text, expected);
    let newest = ask(&path, "SELECT status AS text, 0 AS number FROM sessions ORDER BY created_at DESC LIMIT 10");
    assert_eq!(newest.iter().map(|s| s.text.as_str()).collect::<Vec<_>>(), ["failed", "pending"]);
    let dollars = ask(&path, "SELECT CAST(cost AS TEXT) AS text, price_per_hour > 0.2 AS number FROM sessions_usd WHERE status = 'failed'");
    assert_eq!(dollars, vec![Shown { text: "0.246666667".to_owned(), number: 1 }]);
    let columns = ask(&path, "SELECT '' AS text, COUNT(*) AS number FROM pragma_table_info('sessions')");
    assert!(columns[0].number <= 32);
    // And what such a reader does does not get in the way.
    store.commit(told(&mut failed, 2)).await.unwrap();
}

#[cfg(unix)]
#[test]
fn the_file_is_its_owners() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, path) = folder();
    let _store = open(&path);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn revisions_have_no_gap_and_no_repeat() {
    let store = Store::open_memory().unwrap();
    let mut session = plain(1);
    store.commit(told(&mut session, 1)).await.unwrap();
    for wrong in [0, 1, 3] {
        let mut copy = session.clone();
        let result = store.commit(told(&mut copy, wrong)).await;
        assert!(matches!(result, Err(Error::Conflict(_))), "revision {wrong}: {result:?}");
        assert_eq!(result.unwrap_err().certainty(), Certainty::NotCommitted);
    }
    // Nothing of the refused batches is there.
    assert_eq!(store.session_get(session.id).await.unwrap().as_ref(), Some(&session));
    // Several events of several sessions in one batch, the same session twice.
    let mut other = plain(2);
    let events = [event(&mut session, 2), event(&mut other, 3), event(&mut session, 4)].map(Arc::new);
    let sessions = events.iter().map(|e| e.session.clone()).collect();
    store.commit(Batch { sessions, events: events.to_vec(), ..Batch::default() }).await.unwrap();
    assert_eq!(store.last_revision().await.unwrap(), 4);
    assert_eq!(store.session_get(session.id).await.unwrap(), Some(session));
}

#[tokio::test]
async fn sequences_have_no_gap_either() {
    let store = Store::open_memory().unwrap();
    let mut session = plain(1);
    session.sequence = 1;
    let skipped = store.commit(told(&mut session.clone(), 1)).await;
    assert!(matches!(skipped, Err(Error::Conflict(_))), "{skipped:?}");
    let untold = store.commit(only(&session)).await;
    assert!(matches!(untold, Err(Error::Conflict(_))), "{untold:?}");
    session.sequence = 0;
    let mut alone = told(&mut session, 1);
    alone.sessions.clear();
    let alone = store.commit(alone).await;
    assert!(matches!(alone, Err(Error::Conflict(_))), "{alone:?}");
}

#[tokio::test]
async fn an_older_or_equal_version_never_overwrites() {
    let store = Store::open_memory().unwrap();
    let mut session = plain(1);
    session.version = 5;
    store.commit(only(&session)).await.unwrap();
    for stale in [4, 5] {
        let copy = Session { version: stale, state: State::Failed, ..session.clone() };
        let result = store.commit(only(&copy)).await;
        assert!(matches!(result, Err(Error::Conflict(_))), "{result:?}");
    }
    assert_eq!(store.session_get(session.id).await.unwrap().as_ref(), Some(&session));
    session.version = 9;
    store.commit(only(&session)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commits_from_many_tasks_all_succeed_in_order() {
    const TASKS: i64 = 64;
    const EACH: i64 = 10;
    let (_dir, path) = folder();
    let store = open(&path);
    let last = Arc::new(tokio::sync::Mutex::new(0));
    let tasks = (0..TASKS).map(|n| {
        let (store, last) = (store.clone(), last.clone());
        tokio::spawn(async move {
            let mut session = plain(n.unsigned_abs());
            for _ in 0..EACH {
                // Revisions are given out in the order in which commits are queued, as their one writer does.
                let mut next = last.lock().await;
                *next += 1;
                let batch = told(&mut session, *next);
                let mut commit = Box::pin(store.commit(batch));
                let first = poll!(&mut commit);
                drop(next);
                match first {
                    Poll::Ready(done) => done.unwrap(),
                    Poll::Pending => commit.await.unwrap(),
                }
                assert_eq!(store.session_get(session.id).await.unwrap().as_ref(), Some(&session), "read what was just written");
            }
        })
    });
    join_all(tasks).await.into_iter().for_each(|task| task.unwrap());
    let events = store.event_list(None, 0, 10_000).await.unwrap();
    assert!(events.iter().map(|e| e.revision).eq(1..=TASKS * EACH));
    let sessions = store.session_list(SessionQuery::default(), |_, _| None).await.unwrap();
    assert!(sessions.len() == 64 && sessions.iter().all(|s| s.sequence == EACH));
    assert!(store.transactions() <= u64::try_from(TASKS * EACH).unwrap());
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_transaction_open() {
    for mode in [Mode::Threaded, Mode::Inline] {
        let (_dir, path) = folder();
        let store = Store::open(options(&path, mode)).unwrap();
        let (mut gone, mut stays) = (plain(1), plain(2));
        let batch = told(&mut gone, 1);
        {
            let mut commit = Box::pin(store.commit(batch));
            let _ = poll!(&mut commit);
        }
        store.commit(told(&mut stays, 2)).await.unwrap();
        assert_eq!(store.session_get(gone.id).await.unwrap(), Some(gone), "what was queued is done whole");
        drop(store);
        assert_eq!(open(&path).last_revision().await.unwrap(), 2);
    }
}

#[tokio::test]
async fn a_gate_freezes_its_caller_as_a_dead_process_would() {
    let (_dir, path) = folder();
    let reopen = || Store::open(options(&path, Mode::Inline)).unwrap();
    let freeze = |store: &Store, at: Point| store.set_gate(Arc::new(move |point, _| point == at));
    let (mut session, mut revision) = (plain(1), 0);

    let store = reopen();
    freeze(&store, Point::BeforeCommit(2));
    revision += 1;
    store.commit(told(&mut session, revision)).await.unwrap();
    let lost = told(&mut session.clone(), revision + 1);
    let mut commit = Box::pin(store.commit(lost));
    assert!(poll!(&mut commit).is_pending() && poll!(&mut commit).is_pending());
    drop(commit);
    drop(store);
    let store = reopen();
    assert_eq!(store.last_revision().await.unwrap(), 1, "frozen before: nothing of it is on disk");

    freeze(&store, Point::AfterCommit(1));
    let kept = told(&mut session, revision + 1);
    let mut commit = Box::pin(store.commit(kept));
    assert!(poll!(&mut commit).is_pending());
    drop(commit);
    drop(store);
    let store = reopen();
    assert_eq!(store.last_revision().await.unwrap(), 2, "frozen after: it is on disk, and nobody was told");
    assert_eq!(store.session_get(session.id).await.unwrap(), Some(session));
}

#[tokio::test(start_paused = true)]
async fn inline_work_is_done_at_the_first_poll_and_takes_no_simulated_time() {
    let (_dir, path) = folder();
    for store in [Store::open_memory().unwrap(), Store::open(options(&path, Mode::Inline)).unwrap()] {
        let begin = tokio::time::Instant::now();
        let mut session = plain(1);
        assert_eq!(poll!(Box::pin(store.commit(told(&mut session, 1)))), Poll::Ready(Ok(())));
        assert_eq!(poll!(Box::pin(store.session_get(session.id))), Poll::Ready(Ok(Some(session))));
        assert_eq!(begin.elapsed(), std::time::Duration::ZERO);
    }
}

#[tokio::test]
async fn a_copy_in_memory_goes_its_own_way() {
    let store = Store::open_memory().unwrap();
    let mut session = plain(1);
    store.commit(told(&mut session, 1)).await.unwrap();
    let copy = store.copied().await.unwrap().expect("it is in memory");
    let mut later = session.clone();
    store.commit(told(&mut later, 2)).await.unwrap();
    drop(store);
    assert_eq!(copy.last_revision().await.unwrap(), 1);
    assert_eq!(copy.session_get(session.id).await.unwrap().as_ref(), Some(&session));
    // Another copy is another one still.
    let second = copy.copied().await.unwrap().expect("it is in memory");
    copy.commit(told(&mut session.clone(), 2)).await.unwrap();
    assert_eq!((copy.last_revision().await.unwrap(), second.last_revision().await.unwrap()), (2, 1));
    let (_folder, path) = folder();
    assert!(open(&path).copied().await.unwrap().is_none(), "a file is backed up instead");
}

#[tokio::test]
async fn a_backup_is_a_whole_database_of_its_own() {
    for mode in [Mode::Threaded, Mode::Inline] {
        let (dir, path) = folder();
        let store = Store::open(options(&path, mode)).unwrap();
        let mut session = rich();
        store.commit(told(&mut session, 1)).await.unwrap();
        let copy = dir.path().join("it's a copy?.db");
        store.backup(&copy).await.unwrap();
        store.commit(told(&mut session.clone(), 2)).await.unwrap();
        let again = store.backup(&copy).await;
        assert!(matches!(again, Err(Error::Invalid(_))), "{again:?}");
        let restored = open(&copy);
        assert_eq!(restored.last_revision().await.unwrap(), 1);
        assert_eq!(restored.session_get(session.id).await.unwrap(), Some(session));
    }
}
