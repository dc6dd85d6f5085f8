//! Where the work on the database is done: on threads of its own, or on the caller's.
//!
//! **Threaded** (a real server): one writer thread takes whole closures, runs all that are waiting in one transaction,
//! each but the first in a savepoint of its own, and replies after the one fsync. A few reader threads have read-only connections.
//! Since a closure once queued runs to its end whatever its caller does, no caller can leave a transaction open.
//!
//! **Inline** (simulated worlds): everything happens on the caller's thread, on one connection behind a mutex, without
//! a single await. So tokio's paused time stands still meanwhile and a seed replays.

use crate::store::error::{Certainty, Error};
use crate::store::open::{Access, connect};
use diesel::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Jobs that share one transaction at most. Beyond this the fsync is no longer what costs.
const GROUP: usize = 256;
/// Jobs that may wait; callers beyond it wait for a place.
const QUEUE: usize = 4096;
/// Readers: enough that one long report does not hold up the rest, few enough for a small machine.
const READERS: usize = 4;

pub(super) enum Engine {
    Inline(Inline),
    Threaded(Threaded),
}

pub(super) struct Inline {
    conn: Mutex<SqliteConnection>,
    groups: AtomicU64,
}

pub(super) struct Threaded {
    writer: Option<mpsc::Sender<Box<dyn WriteJob>>>,
    readers: Option<mpsc::Sender<ReadJob>>,
    writing: Option<JoinHandle<()>>,
    reading: Vec<JoinHandle<()>>,
    groups: Arc<AtomicU64>,
}

type ReadJob = Box<dyn FnOnce(&mut SqliteConnection) + Send>;

impl Engine {
    pub(super) fn inline(conn: SqliteConnection) -> Self {
        Self::Inline(Inline { conn: Mutex::new(conn), groups: AtomicU64::new(0) })
    }

    pub(super) fn threaded(path: &Path) -> Result<Self, Error> {
        let failed = |e: std::io::Error| Error::Open {
            path: path.to_owned(),
            cause: format!("starting a thread: {e}"),
            advice: "check the limits of this process",
        };
        let groups = Arc::new(AtomicU64::new(0));
        let (writer, jobs) = mpsc::channel(QUEUE);
        let (readers, questions) = mpsc::channel::<ReadJob>(QUEUE);
        let mut engine = Threaded { writer: Some(writer), readers: Some(readers), writing: None, reading: Vec::new(), groups: groups.clone() };
        let conn = connect(path, Access::Write)?;
        let writing = Writing { path: path.to_owned(), conn: Some(conn), jobs, groups };
        engine.writing = Some(std::thread::Builder::new().name("store-writer".to_owned()).spawn(|| writing.run()).map_err(failed)?);
        let questions = Arc::new(Mutex::new(questions));
        for number in 0..READERS {
            let (mut conn, questions) = (connect(path, Access::Read)?, questions.clone());
            let serve = move || {
                loop {
                    // Whoever holds the mutex waits for the next question; the others wait for the mutex.
                    let question = held(&questions).blocking_recv();
                    match question {
                        Some(question) => question(&mut conn),
                        None => return,
                    }
                }
            };
            engine.reading.push(std::thread::Builder::new().name(format!("store-reader-{number}")).spawn(serve).map_err(failed)?);
        }
        Ok(Self::Threaded(engine))
    }

    /// Runs `work` in a transaction; returns when it is on disk. When the caller's future is dropped before that, the
    /// work is either done whole or not at all.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut SqliteConnection) -> Result<T, Error> + Send + 'static,
    {
        match self {
            Self::Inline(inline) => {
                let mut ended = false;
                let result = held(&inline.conn).immediate_transaction(|conn| {
                    let value = work(conn)?;
                    ended = true;
                    Ok(value)
                });
                inline.groups.fetch_add(1, Ordering::Relaxed);
                result.map_err(|e| at_commit(e, ended))
            }
            Self::Threaded(threaded) => {
                let closed = |certainty| Error::Closed { certainty };
                let (reply, answer) = oneshot::channel();
                let job: Box<dyn WriteJob> = Box::new(Task { work: Some(work), outcome: None, reply });
                let writer = threaded.writer.as_ref().ok_or(closed(Certainty::NotCommitted))?;
                writer.send(job).await.map_err(|_| closed(Certainty::NotCommitted))?;
                answer.await.unwrap_or(Err(closed(Certainty::MayBeCommitted)))
            }
        }
    }

    /// Runs `work` on one consistent state of the database.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut SqliteConnection) -> Result<T, Error> + Send + 'static,
    {
        self.bare(|conn| conn.transaction(work)).await
    }

    /// Runs `work` outside of any transaction.
    pub(super) async fn bare<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut SqliteConnection) -> Result<T, Error> + Send + 'static,
    {
        match self {
            Self::Inline(inline) => work(&mut held(&inline.conn)),
            Self::Threaded(threaded) => {
                let closed = || Error::Closed { certainty: Certainty::NotCommitted };
                let (reply, answer) = oneshot::channel();
                let question: ReadJob = Box::new(move |conn| {
                    // Nobody may be waiting any more; then nobody needs the answer either.
                    let _ = if reply.is_closed() { Ok(()) } else { reply.send(work(conn)).map_err(drop) };
                });
                threaded.readers.as_ref().ok_or_else(closed)?.send(question).await.map_err(|_| closed())?;
                answer.await.unwrap_or_else(|_| Err(closed()))
            }
        }
    }

    /// Transactions tried so far for writing.
    pub(super) fn groups(&self) -> u64 {
        match self {
            Self::Inline(inline) => inline.groups.load(Ordering::Relaxed),
            Self::Threaded(threaded) => threaded.groups.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Threaded {
    /// Lets the threads finish what is queued: after this the files are closed.
    fn drop(&mut self) {
        self.readers = None;
        // The last connection to close tidies up the log, which a reader can't: so the writer ends last.
        for reader in self.reading.drain(..) {
            let _ = reader.join();
        }
        self.writer = None;
        if let Some(writer) = self.writing.take() {
            let _ = writer.join();
        }
    }
}

/// A poisoned mutex guards a connection whose transaction was rolled back; it serves on.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error of a transaction whose work had `ended` came from the commit itself, and nobody knows what is on disk.
fn at_commit(error: Error, ended: bool) -> Error {
    match error {
        Error::Database { text, .. } if ended => Error::Database { text, certainty: Certainty::MayBeCommitted },
        other => other,
    }
}

/// A write that waits for its turn.
trait WriteJob: Send {
    /// Does the work and keeps the outcome; in a savepoint, unless nothing else was done in the transaction yet: SQLite keeps
    /// a second copy of all that a savepoint changes.
    ///
    /// # Errors
    /// When the whole transaction must be given up: the database itself failed, or the work did and had no savepoint.
    fn run(&mut self, conn: &mut SqliteConnection, first: bool) -> Result<(), Error>;

    /// Tells the caller, now that the transaction has ended.
    fn reply(self: Box<Self>, group: &Result<(), Error>);
}

struct Task<T, F> {
    work: Option<F>,
    outcome: Option<Result<T, Error>>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> WriteJob for Task<T, F>
where
    T: Send,
    F: FnOnce(&mut SqliteConnection) -> Result<T, Error> + Send,
{
    fn run(&mut self, conn: &mut SqliteConnection, first: bool) -> Result<(), Error> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let outcome = if first { work(conn) } else { conn.transaction(work) };
        let fault = outcome.as_ref().err().filter(|e| first || e.is_fault()).cloned();
        self.outcome = Some(outcome);
        fault.map_or(Ok(()), Err)
    }

    fn reply(self: Box<Self>, group: &Result<(), Error>) {
        let answer = match (self.outcome, group) {
            (Some(outcome), Ok(())) => outcome,
            (Some(Err(own)), Err(_)) => Err(own),
            (_, Err(of_all)) => Err(of_all.clone()),
            (None, Ok(())) => Err(Error::Closed { certainty: Certainty::NotCommitted }),
        };
        // The caller may be gone; what it asked for stands all the same.
        let _ = self.reply.send(answer);
    }
}

struct Writing {
    path: PathBuf,
    conn: Option<SqliteConnection>,
    jobs: mpsc::Receiver<Box<dyn WriteJob>>,
    groups: Arc<AtomicU64>,
}

impl Writing {
    fn run(mut self) {
        while let Some(first) = self.jobs.blocking_recv() {
            let (group, result) = self.group(first);
            for job in group {
                job.reply(&result);
            }
        }
    }

    /// Runs `first` and whatever is waiting behind it in one transaction.
    fn group(&mut self, first: Box<dyn WriteJob>) -> (Vec<Box<dyn WriteJob>>, Result<(), Error>) {
        let mut conn = match self.conn.take().map_or_else(|| connect(&self.path, Access::Write), Ok) {
            Ok(conn) => conn,
            Err(e) => return (vec![first], Err(Error::Database { text: e.to_string(), certainty: Certainty::NotCommitted })),
        };
        let (mut group, mut next, mut ended) = (Vec::new(), Some(first), false);
        let result = conn.immediate_transaction(|conn| {
            while let Some(mut job) = next.take() {
                let ran = job.run(conn, group.is_empty());
                group.push(job);
                ran?;
                next = if group.len() < GROUP { self.jobs.try_recv().ok() } else { None };
            }
            ended = true;
            Ok(())
        });
        group.extend(next);
        self.groups.fetch_add(1, Ordering::Relaxed);
        let result = result.map_err(|e| at_commit(e, ended));
        // After a fault the connection's idea of its transaction may be wrong; the next group gets a fresh one.
        if result.as_ref().err().is_none_or(|e| !e.is_fault()) {
            self.conn = Some(conn);
        }
        (group, result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diesel::connection::SimpleConnection;
    use diesel::sql_query;
    use diesel::sql_types::BigInt;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::mpsc::sync_channel;
    use std::task::{Context, Waker};

    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }

    fn count(conn: &mut SqliteConnection) -> Result<i64, Error> {
        Ok(sql_query("SELECT COUNT(*) AS count FROM t").get_result::<Count>(conn)?.count)
    }

    fn insert(conn: &mut SqliteConnection, number: i64) -> Result<(), Error> {
        sql_query("INSERT INTO t (n) VALUES (?)").bind::<BigInt, _>(number).execute(conn)?;
        Ok(())
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.db");
        connect(&path, Access::Write).unwrap().batch_execute("CREATE TABLE t (n BIGINT PRIMARY KEY, blob BLOB)").unwrap();
        (dir, path)
    }

    type Work<T> = Box<dyn FnOnce(&mut SqliteConnection) -> Result<T, Error> + Send>;

    fn inserting(number: i64) -> Work<()> {
        Box::new(move |conn| insert(conn, number))
    }

    /// Queues writes behind one that holds the writer until all are queued; their results in order.
    fn together<T: Send + 'static>(engine: &Engine, works: Vec<Work<T>>) -> Vec<Result<T, Error>> {
        let (first, results) = behind(engine, Box::new(|_| Ok(())), works);
        assert_eq!(first.is_err(), results.iter().any(|r| r.as_ref().is_err_and(Error::is_fault)), "one transaction, one fate");
        results
    }

    /// The same behind this one, which does its work when all are queued.
    fn behind<T: Send + 'static>(engine: &Engine, first: Work<()>, works: Vec<Work<T>>) -> (Result<(), Error>, Vec<Result<T, Error>>) {
        let (started, go) = (sync_channel::<()>(1), sync_channel::<()>(1));
        let mut nobody = Context::from_waker(Waker::noop());
        let mut first = pin!(engine.write(move |conn| {
            let _ = started.0.send(());
            let _ = go.1.recv();
            first(conn)
        }));
        assert!(first.as_mut().poll(&mut nobody).is_pending());
        started.1.recv().unwrap();
        let mut waiting: Vec<_> = works.into_iter().map(|work| Box::pin(engine.write(work))).collect();
        for one in &mut waiting {
            assert!(one.as_mut().poll(&mut nobody).is_pending());
        }
        go.0.send(()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let first = runtime.block_on(first);
        (first, waiting.into_iter().map(|one| runtime.block_on(one)).collect())
    }

    fn rows(engine: &Engine) -> i64 {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(engine.read(count)).unwrap()
    }

    #[test]
    fn writes_that_wait_together_share_one_transaction() {
        let (_dir, path) = file();
        let engine = Engine::threaded(&path).unwrap();
        assert!(together(&engine, (0..64).map(inserting).collect()).into_iter().all(|r| r.is_ok()));
        assert_eq!((engine.groups(), rows(&engine)), (1, 64));
    }

    #[test]
    fn a_group_is_bounded() {
        let (_dir, path) = file();
        let engine = Engine::threaded(&path).unwrap();
        assert!(together(&engine, (0..600).map(inserting).collect()).into_iter().all(|r| r.is_ok()));
        assert_eq!((engine.groups(), rows(&engine)), (3, 600));
    }

    #[test]
    fn a_refused_write_takes_back_its_own_rows_only() {
        let (_dir, path) = file();
        let engine = Engine::threaded(&path).unwrap();
        let results = together::<()>(
            &engine,
            vec![
                Box::new(|c| insert(c, 1)),
                Box::new(|c| {
                    insert(c, 2)?;
                    insert(c, 1)
                }),
                Box::new(|c| {
                    insert(c, 3)?;
                    Err(Error::Conflict("own".to_owned()))
                }),
                Box::new(|c| insert(c, 4)),
            ],
        );
        assert!(results[0].is_ok() && results[3].is_ok());
        assert!(matches!(results[1], Err(Error::Conflict(_))) && matches!(results[2], Err(Error::Conflict(_))));
        assert_eq!((engine.groups(), rows(&engine)), (1, 2));
    }

    #[test]
    fn a_refused_first_one_ends_the_transaction_for_itself_alone() {
        let (_dir, path) = file();
        let engine = Engine::threaded(&path).unwrap();
        let first = |c: &mut SqliteConnection| {
            insert(c, 1)?;
            Err(Error::Conflict("own".to_owned()))
        };
        let (first, behind) = behind(&engine, Box::new(first), (2..5).map(inserting).collect());
        assert!(matches!(first, Err(Error::Conflict(_))) && behind.iter().all(Result::is_ok));
        assert_eq!((engine.groups(), rows(&engine)), (2, 3));
    }

    #[test]
    fn a_full_disk_fails_the_group_for_certain_and_the_next_one_works() {
        let (_dir, path) = file();
        let engine = Engine::threaded(&path).unwrap();
        let results = together::<()>(
            &engine,
            vec![
                Box::new(|c| insert(c, 1)),
                Box::new(|c| {
                    // SQLite's own way to have no room: the file may not grow.
                    c.batch_execute("PRAGMA max_page_count = 1; INSERT INTO t (n, blob) VALUES (2, zeroblob(1000000))")?;
                    Ok(())
                }),
                Box::new(|c| insert(c, 3)),
            ],
        );
        for result in &results[..2] {
            let error = result.as_ref().unwrap_err();
            assert!(error.is_fault() && error.certainty() == Certainty::NotCommitted, "{error:?}");
        }
        // The third was still waiting and came into a transaction of its own, on a fresh connection.
        assert!(results[2].is_ok());
        assert_eq!(rows(&engine), 1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(engine.write(|c| insert(c, 5))).unwrap();
        assert_eq!(rows(&engine), 2);
    }

    #[test]
    fn only_an_error_of_the_commit_itself_leaves_doubt() {
        let broken = || Error::Database { text: "disk I/O error".to_owned(), certainty: Certainty::NotCommitted };
        assert_eq!(at_commit(broken(), false).certainty(), Certainty::NotCommitted);
        assert_eq!(at_commit(broken(), true).certainty(), Certainty::MayBeCommitted);
    }

    #[test]
    fn inline_work_runs_on_the_callers_thread() {
        let (_dir, path) = file();
        let engine = Engine::inline(connect(&path, Access::WriteUnsynced).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let here = std::thread::current().id();
        let (wrote, read) = runtime.block_on(async {
            let on = |_: &mut SqliteConnection| Ok(std::thread::current().id());
            (engine.write(on).await.unwrap(), engine.read(on).await.unwrap())
        });
        assert_eq!((wrote, read), (here, here));
        let threaded = Engine::threaded(&path).unwrap();
        assert_ne!(runtime.block_on(threaded.write(|_| Ok(std::thread::current().id()))).unwrap(), here);
    }

    #[test]
    fn readers_cannot_write() {
        let (_dir, path) = file();
        let engine = Engine::threaded(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(engine.read(|c| insert(c, 1))).is_err());
        assert_eq!(rows(&engine), 0);
    }

    #[test]
    fn a_closed_engine_has_done_all_that_was_queued() {
        let (_dir, path) = file();
        let engine = Engine::threaded(&path).unwrap();
        let mut nobody = Context::from_waker(Waker::noop());
        for n in 0..10 {
            let _ = pin!(engine.write(move |c| insert(c, n))).poll(&mut nobody);
        }
        drop(engine);
        assert!(!path.with_extension("db-wal").exists(), "the log was tidied up");
        assert_eq!(count(&mut connect(&path, Access::Write).unwrap()), Ok(10));
    }
}
