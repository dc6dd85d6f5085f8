//! Floor 1: our own disk. What the service has decided and what it has told, in one SQLite file.
//!
//! [`Store::commit`] writes sessions, debts, metered time, events and accepted calls in one transaction, and returns
//! when they are on disk: *intent before effect, event after commit* rests on that. Everything else reads.
//!
//! No word of SQL leaves this folder, and nothing above may assume one file or one process: another database follows.
//! What is not here: deciding anything (`domain/`), and telling watchers (`services/`).

mod audit;
mod backup;
mod engine;
mod epoch;
mod error;
mod events;
mod instances;
mod lessons;
mod meta;
mod open;
mod plans;
mod prepared;
mod requests;
mod schema;
mod segments;
mod sessions;
mod timelines;
mod tokens;
mod upkeep;

pub use audit::AuditRecord;
pub use backup::{Copied, backup};
pub use error::{Certainty, Error};
pub use events::EventBounds;
pub use requests::RequestRecord;
pub use segments::{SegmentQuery, SegmentRow};
pub use sessions::SessionQuery;
pub use timelines::Timeline;
pub use tokens::TokenRecord;
pub use upkeep::{Keep, Trimmed};

use crate::domain::event::Event;
use crate::domain::ids::SessionId;
use crate::domain::instance::Instance;
use crate::domain::memory::Lesson;
use crate::domain::session::Session;
use diesel::SqliteConnection;
use engine::Engine;
use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// At most this many rows are read in one page: about what one answer may reasonably carry.
pub const MAX_PAGE: u32 = 10_000;

/// How the work on the database is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// On threads of its own: a writer that shares one fsync among all who wait, and a few readers. For real servers.
    #[default]
    Threaded,
    /// On the caller's thread, without awaiting anything. For simulated worlds: paused time stands still meanwhile. A
    /// commit survives the end of the process but is not forced to the disk.
    Inline,
}

/// What to open, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database file. Its folder is made when missing.
    pub path: PathBuf,
    /// How the work is done.
    pub mode: Mode,
    /// Who opens it, for the second server's error: the address it serves. Process id and time are added.
    pub holder: String,
}

/// What is written together, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Sessions as they shall be. A session may occur more than once with rising versions; the last one is stored. Its
    /// version must be above the stored one; its revision and sequence must be those of its last event.
    pub sessions: Vec<Arc<Session>>,
    /// Instances as they shall be, with their segments. The last one of a label is stored; segments are added or
    /// overwritten by number, never removed.
    pub instances: Vec<Instance>,
    /// Events in order; the first one's revision follows on the last stored one, and so on. Each comes with its session.
    pub events: Vec<Arc<Event>>,
    /// Accepted calls.
    pub requests: Vec<RequestRecord>,
    /// What launches taught. One that is stored already is left as it is.
    pub lessons: Vec<Lesson>,
    /// Who ordered what of it.
    pub audit: Vec<AuditRecord>,
}

/// A point around a commit, with the number of that commit, counted from 1 since the store was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Before anything of it is written.
    BeforeCommit(u64),
    /// It is on disk; its caller does not know yet.
    AfterCommit(u64),
}

/// Sees every batch before and after its commit, and decides whether its caller is frozen there: `true` = it waits for
/// ever, as in a process that died at that point. What it changes of the batch before the commit is what is written: so a
/// simulation can have a disk that lies. This is the seam of the crash tests and of the chaos simulation; a server never
/// sets one.
pub type Gate = Arc<dyn Fn(Point, &mut Batch) -> bool + Send + Sync>;

/// The store. Clones are the same store; it is closed when the last one is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    // Dropped in this order: the files are closed before the lock is given back.
    engine: Arc<Engine>,
    _lock: Option<open::Lock>,
    path: Option<PathBuf>,
    epoch: epoch::Keeper,
    commits: AtomicU64,
    gate: RwLock<Option<Gate>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database, and makes and updates it as needed. Blocks for as long as that takes: for the start of a
    /// program.
    ///
    /// # Errors
    /// [`Error::Locked`] when another server has it; [`Error::ForeignSchema`] and [`Error::NewerSchema`] when it is not
    /// ours to change (it is untouched then); [`Error::Open`] for everything else, with what to do.
    pub fn open(options: Options) -> Result<Self, Error> {
        let (path, lock) = open::claim(&options.path, &options.holder)?;
        let engine = match options.mode {
            Mode::Threaded => Engine::threaded(&path)?,
            Mode::Inline => Engine::inline(open::connect(&path, open::Access::WriteUnsynced)?),
        };
        Ok(Self::new(engine, Some(lock), Some(options.path), epoch::Keeper::beside(&path)))
    }

    /// A store in memory, inline: for simulated worlds.
    ///
    /// # Errors
    /// [`Error::Open`] when there is no memory for it.
    pub fn open_memory() -> Result<Self, Error> {
        Ok(Self::new(Engine::inline(open::memory()?), None, None, epoch::Keeper::default()))
    }

    /// The same database in memory for the successor of a process that died: what was committed is there, the gate and
    /// the count of commits are new. `None` for a file, which is opened again instead.
    #[must_use]
    pub fn inherited(&self) -> Option<Self> {
        let inner = &self.inner;
        inner.path.is_none().then(|| Self::with(Arc::clone(&inner.engine), None, None, epoch::Keeper::default()))
    }

    /// A copy of a database in memory as it stands now: what a disk that was copied or restored would hold. `None` for a
    /// file, of which [`Store::backup`] makes one.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub async fn copied(&self) -> Result<Option<Self>, Error> {
        if self.inner.path.is_some() {
            return Ok(None);
        }
        let copy = self.inner.engine.bare(open::copy_in_memory).await?;
        Ok(Some(Self::new(Engine::inline(copy), None, None, epoch::Keeper::default())))
    }

    fn new(engine: Engine, lock: Option<open::Lock>, path: Option<PathBuf>, epoch: epoch::Keeper) -> Self {
        Self::with(Arc::new(engine), lock, path, epoch)
    }

    fn with(engine: Arc<Engine>, lock: Option<open::Lock>, path: Option<PathBuf>, epoch: epoch::Keeper) -> Self {
        Self { inner: Arc::new(Inner { engine, _lock: lock, path, epoch, commits: AtomicU64::new(0), gate: RwLock::new(None) }) }
    }

    /// The file, as it was named at opening; `None` in memory.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// Sets the gate of the crash tests; see [`Gate`].
    pub fn set_gate(&self, gate: Gate) {
        *self.inner.gate.write().unwrap_or_else(PoisonError::into_inner) = Some(gate);
    }

    /// Write transactions so far. Commits that waited together share one, so under load this grows more slowly than
    /// the number of commits.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.inner.engine.groups()
    }

    /// Writes a batch in one transaction; returns when it is on disk. When the caller's future is dropped before that,
    /// the batch is written whole or not at all.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a stored version is not older, revisions or sequences have a gap, or a key is taken;
    /// [`Error::Invalid`] when something can't be stored; otherwise when the database fails: [`Error::certainty`] then
    /// says whether the batch may be on disk all the same.
    pub async fn commit(&self, mut batch: Batch) -> Result<(), Error> {
        let number = self.inner.commits.fetch_add(1, Ordering::Relaxed) + 1;
        self.pass(Point::BeforeCommit(number), &mut batch).await;
        // Rows are made here, on the caller's side: the writer's time is what everybody waits for.
        let prepared = Prepared::of(&batch)?;
        self.write(|conn| prepared.apply(conn)).await?;
        self.pass(Point::AfterCommit(number), &mut batch).await;
        Ok(())
    }

    async fn pass(&self, point: Point, batch: &mut Batch) {
        let gate = self.inner.gate.read().unwrap_or_else(PoisonError::into_inner).clone();
        if gate.is_some_and(|freezes| freezes(point, batch)) {
            pending::<()>().await;
        }
    }

    async fn write<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut SqliteConnection) -> Result<T, Error> + Send + 'static,
    {
        self.inner.engine.write(work).await
    }

    async fn read<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut SqliteConnection) -> Result<T, Error> + Send + 'static,
    {
        self.inner.engine.read(work).await
    }
}

/// A batch as rows, in the order in which they refer to each other.
struct Prepared {
    sessions: Vec<sessions::Write>,
    instances: Vec<instances::Write>,
    events: Vec<events::Row>,
    requests: Vec<requests::Row>,
    lessons: Vec<lessons::Row>,
    audit: Vec<AuditRecord>,
}

impl Prepared {
    fn of(batch: &Batch) -> Result<Self, Error> {
        let mut sessions: BTreeMap<SessionId, &Arc<Session>> = BTreeMap::new();
        for session in &batch.sessions {
            if let Some(before) = sessions.insert(session.id, session)
                && before.version >= session.version
            {
                return Err(Error::Conflict(format!("session {}: version {} twice or backwards in one batch", session.id, session.version)));
            }
        }
        let mut told: BTreeMap<SessionId, Vec<&Event>> = BTreeMap::new();
        for event in &batch.events {
            if !sessions.contains_key(&event.session_id) {
                return Err(Error::Conflict(format!("revision {}: an event without its session", event.revision)));
            }
            told.entry(event.session_id).or_default().push(event);
        }
        let mut instances: BTreeMap<_, &Instance> = BTreeMap::new();
        instances.extend(batch.instances.iter().map(|instance| (instance.label, instance)));
        // The last event of a session mostly tells it as it is stored, and is most of what is written: its JSON is made once.
        let (mut writes, mut known) = (Vec::with_capacity(sessions.len()), BTreeMap::new());
        for session in sessions.values() {
            let events = told.get(&session.id).map_or(&[][..], Vec::as_slice);
            let last = events.last().is_some_and(|last| Arc::ptr_eq(session, &last.session));
            let (write, json) = sessions::Write::new(session, events, last)?;
            writes.push(write);
            known.insert(session.id, json);
        }
        let event = |event: &Arc<Event>| {
            let same = sessions.get(&event.session_id).is_some_and(|stored| Arc::ptr_eq(stored, &event.session));
            events::Row::of(event, known.get(&event.session_id).filter(|_| same).map(String::as_str))
        };
        let of = |instance: &Instance| sessions.get(&instance.label.session).map(|session| &***session);
        Ok(Self {
            sessions: writes,
            instances: instances.values().map(|i| instances::Write::new(i, of(i))).collect::<Result<_, _>>()?,
            events: batch.events.iter().map(event).collect::<Result<_, _>>()?,
            requests: batch.requests.iter().cloned().map(requests::Row::of).collect(),
            lessons: batch.lessons.iter().map(lessons::Row::of).collect(),
            audit: batch.audit.clone(),
        })
    }

    fn apply(self, conn: &mut SqliteConnection) -> Result<(), Error> {
        self.sessions.into_iter().try_for_each(|session| session.apply(conn))?;
        // Before whoever reads a session: they tell it.
        events::append(conn, &self.events)?;
        self.instances.into_iter().try_for_each(|instance| instance.apply(conn))?;
        self.requests.iter().try_for_each(|request| request.insert(conn))?;
        self.lessons.iter().try_for_each(|lesson| lesson.insert(conn))?;
        self.audit.iter().try_for_each(|record| record.insert(conn))
    }
}
