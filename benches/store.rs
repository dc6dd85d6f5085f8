//! Commits on a real file with a real fsync, against a bare loop over SQLite with the same durability: an update of a row with a
//! session's request and labels and an insert of one as large as an event's, statements prepared once, one transaction a batch.

use crate::samples::{self, plain};
use crate::{only_tries, world};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use gpu_shopper::domain::event::Matchable;
use gpu_shopper::domain::session::Session;
use gpu_shopper::store::{Batch, Store};
use libsqlite3_sys as ffi;
use std::ffi::CString;
use std::path::Path;
use std::ptr;
use std::sync::Arc;

pub fn measure(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sizes: &[usize] = if only_tries() { &[2] } else { &[1, 4, 16, 64, 256] };
    let mut group = criterion.benchmark_group("commit");
    for size in sizes {
        group.throughput(Throughput::Elements(*size as u64));
        let kinds: [(&str, Next); 2] = [("transitions_in_one_batch", Crowd::together), ("changes_of_labels_in_one_batch", Crowd::relabelled)];
        for (name, next) in kinds {
            let folder = tempfile::tempdir().unwrap();
            let store = world::open(folder.path());
            let mut crowd = Crowd::new(*size);
            group.bench_with_input(BenchmarkId::new(name, size), size, |b, _| {
                b.iter_batched(|| next(&mut crowd), |batch| runtime.block_on(store.commit(batch)).unwrap(), BatchSize::PerIteration);
            });
        }
        // More than the writer's queue holds would come in any order, and revisions come in theirs.
        if *size <= 64 {
            let folder = tempfile::tempdir().unwrap();
            let store = world::open(folder.path());
            let mut crowd = Crowd::new(*size);
            group.bench_with_input(BenchmarkId::new("callers_at_once", size), size, |b, _| {
                b.iter_batched(|| crowd.apart(), |batches| runtime.block_on(each(&store, batches)), BatchSize::PerIteration);
            });
        }
        let folder = tempfile::tempdir().unwrap();
        let mut bare = Bare::open(&folder.path().join("bare.db"), *size);
        group.bench_with_input(BenchmarkId::new("bare_sqlite", size), size, |b, size| b.iter(|| bare.batch(*size)));
    }
    group.finish();
}

async fn each(store: &Store, batches: Vec<Batch>) {
    for done in futures::future::join_all(batches.into_iter().map(|batch| store.commit(batch))).await {
        done.unwrap();
    }
}

/// The next batch of a crowd.
type Next = fn(&mut Crowd) -> Batch;

/// Sessions that change, one event each.
struct Crowd {
    sessions: Vec<Session>,
    revision: i64,
}

impl Crowd {
    fn new(size: usize) -> Self {
        let session = |n: usize| {
            let mut session = plain(n as u64);
            session.attempts = vec![samples::attempt(1, "vastai", "RTX 4090")];
            session
        };
        Self { sessions: (0..size).map(session).collect(), revision: 0 }
    }

    fn apart(&mut self) -> Vec<Batch> {
        let revision = &mut self.revision;
        let next = |session: &mut Session| {
            *revision += 1;
            samples::told(session, *revision)
        };
        self.sessions.iter_mut().map(next).collect()
    }

    fn together(&mut self) -> Batch {
        joined(self.apart())
    }

    /// Each with another value of a label of its own.
    fn relabelled(&mut self) -> Batch {
        let revision = &mut self.revision;
        let next = |session: &mut Session| {
            *revision += 1;
            let before = Matchable::of(session);
            session.labels.insert("step".to_owned(), revision.to_string());
            let mut event = samples::event(session, *revision);
            event.before = Some(before);
            Batch { sessions: vec![event.session.clone()], events: vec![Arc::new(event)], ..Batch::default() }
        };
        joined(self.sessions.iter_mut().map(next).collect())
    }
}

fn joined(batches: Vec<Batch>) -> Batch {
    let mut all = Batch::default();
    for batch in batches {
        all.sessions.extend(batch.sessions);
        all.events.extend(batch.events);
    }
    all
}

/// SQLite and nothing else.
struct Bare {
    db: *mut ffi::sqlite3,
    update: *mut ffi::sqlite3_stmt,
    insert: *mut ffi::sqlite3_stmt,
    session: Vec<u8>,
    event: Vec<u8>,
    revision: i64,
}

impl Bare {
    fn open(path: &Path, rows: usize) -> Self {
        let mut all = Crowd::new(1);
        let event = all.apart().remove(0).events.remove(0);
        let detail = serde_json::to_vec(&*event).unwrap();
        let session = serde_json::to_vec(&(&event.session.request, &event.session.labels)).unwrap();
        let mut bare = Self { db: ptr::null_mut(), update: ptr::null_mut(), insert: ptr::null_mut(), session, event: detail, revision: 0 };
        let name = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the handle is kept until `drop`; every pointer passed in lives longer than the call.
        unsafe { assert_eq!(ffi::sqlite3_open(name.as_ptr(), &mut bare.db), ffi::SQLITE_OK) };
        bare.run("PRAGMA journal_mode=WAL");
        bare.run("PRAGMA synchronous=FULL");
        bare.run("CREATE TABLE sessions (id INTEGER PRIMARY KEY, status TEXT, version INTEGER, detail BLOB)");
        bare.run("CREATE INDEX by_status ON sessions (status, id)");
        bare.run("CREATE TABLE events (revision INTEGER PRIMARY KEY, session INTEGER, detail BLOB)");
        bare.run("CREATE INDEX by_session ON events (session, revision)");
        for id in 0..rows {
            bare.run(&format!("INSERT INTO sessions VALUES ({id}, 'pending', 0, zeroblob(10))"));
        }
        bare.update = bare.prepare("UPDATE sessions SET version = ?1, detail = ?2 WHERE id = ?3");
        bare.insert = bare.prepare("INSERT INTO events VALUES (?1, ?3, ?2)");
        bare
    }

    fn run(&self, sql: &str) {
        let sql = CString::new(sql).unwrap();
        // SAFETY: see `open`.
        unsafe { assert_eq!(ffi::sqlite3_exec(self.db, sql.as_ptr(), None, ptr::null_mut(), ptr::null_mut()), ffi::SQLITE_OK) };
    }

    fn prepare(&self, sql: &str) -> *mut ffi::sqlite3_stmt {
        let (sql, mut statement) = (CString::new(sql).unwrap(), ptr::null_mut());
        // SAFETY: see `open`.
        unsafe { assert_eq!(ffi::sqlite3_prepare_v2(self.db, sql.as_ptr(), -1, &mut statement, ptr::null_mut()), ffi::SQLITE_OK) };
        statement
    }

    fn step(&self, statement: *mut ffi::sqlite3_stmt, number: i64, bytes: &[u8], id: i64) {
        let length = i32::try_from(bytes.len()).unwrap();
        // SAFETY: `bytes` lives until the statement is reset, which is before this returns.
        unsafe {
            ffi::sqlite3_bind_int64(statement, 1, number);
            ffi::sqlite3_bind_blob(statement, 2, bytes.as_ptr().cast(), length, ffi::SQLITE_STATIC());
            ffi::sqlite3_bind_int64(statement, 3, id);
            assert_eq!(ffi::sqlite3_step(statement), ffi::SQLITE_DONE);
            ffi::sqlite3_reset(statement);
        }
    }

    fn batch(&mut self, size: usize) {
        self.run("BEGIN IMMEDIATE");
        for id in 0..size {
            self.revision += 1;
            let id = i64::try_from(id).unwrap();
            self.step(self.update, self.revision, &self.session, id);
            self.step(self.insert, self.revision, &self.event, id);
        }
        self.run("COMMIT");
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // SAFETY: nothing uses them any more.
        unsafe {
            ffi::sqlite3_finalize(self.update);
            ffi::sqlite3_finalize(self.insert);
            ffi::sqlite3_close(self.db);
        }
    }
}
