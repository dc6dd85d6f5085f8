//! The epoch: a note beside the database (`<db>.epoch`) of which database it is and how far it had come. A database that
//! is not as far as its note, or not the one it speaks of, is a copy of an earlier time: what it knows may long be untrue,
//! and nobody may act on it before a person has looked.
//!
//! Nor is a file that its note was not written for: a copied folder would have the same machines as its original.
//!
//! The note trails the database: it is written now and then, so a little loss at the end goes unnoticed. Copies made by
//! `backup` carry a mark of their own and are recognised without it. Doubt lasts, over restarts too, until it is settled
//! by [`Store::epoch_accept`]: a doubtful database may well outrun its note, and is no truer for that.

use crate::clock;
use crate::domain::ids::clip;
use crate::domain::time::Time;
use crate::store::error::Error;
use crate::store::open::{beside, private};
use crate::store::{Certainty, Store};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The random name of the database, in its own table.
const STORE_ID: &str = "store_id";
/// The name of the deployment, in the same table.
const DEPLOYMENT_ID: &str = "deployment_id";
/// Why the database is in doubt; empty = it is not.
pub(super) const DOUBT: &str = "doubt";

/// The content of the file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    store_id: String,
    revision: i64,
    written_at: String,
    /// Which file the database was, where the system tells: a copy of a folder has a note that fits, and is another file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// The name in the labels of its machines: whoever loses the database knows them by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deployment_id: Option<String>,
}

/// Where the note lies, and what of it is known in memory.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// `None` for a database in memory.
    path: Option<PathBuf>,
    doubtful: AtomicBool,
    /// The revision that was last noted; below zero = none by this process.
    noted: AtomicI64,
    /// Held while the file is written. A caller may be gone before its file is.
    writing: Arc<Mutex<()>>,
}

impl Keeper {
    pub(super) fn beside(database: &Path) -> Self {
        Self { path: Some(beside(database, "epoch")), noted: AtomicI64::new(-1), ..Self::default() }
    }
}

impl Store {
    /// Compares the database with its note. `Some` = why it is in doubt, as a sentence; the doubt is kept until it is
    /// settled. `None` = it is as it was left, or new: then it is noted at once. `random` names a database that has no
    /// name yet. A database in memory is never in doubt.
    ///
    /// # Errors
    /// When the database fails, or the note of a new database can't be written.
    pub async fn epoch_check(&self, random: u128, now: Time) -> Result<Option<String>, Error> {
        let Some(path) = self.inner.epoch.path.clone() else { return Ok(None) };
        let name = match self.meta_get(STORE_ID).await? {
            Some(name) => name,
            None => {
                let name = format!("{random:032x}");
                self.meta_set(STORE_ID, &name).await?;
                name
            }
        };
        let last = self.last_revision().await?;
        let database = self.path().unwrap_or(&path).display().to_string();
        let file = path.display().to_string();
        let identity = self.path().and_then(identity);
        let marked = self.meta_get(DOUBT).await?.filter(|text| !text.is_empty());
        let doubt = match blocking(move || Ok(read(&path))).await? {
            Err(cause) => Some(format!("{file} can't be read ({cause}), so nothing shows that {database} is as its server left it")),
            Ok(None) if last > 0 => Some(format!(
                "{database} has a history (revision {last}) but no epoch file {file}: it is a restored backup, or it was last used by a version that wrote none"
            )),
            Ok(Some(note)) if note.store_id != name => Some(format!(
                "{file} speaks of another database, which had come to revision {} at {}; {}: a database was lost, moved or replaced",
                note.revision,
                clip(&note.written_at, 40),
                if last == 0 { format!("{database} is a new one") } else { format!("{database} is at revision {last}") }
            )),
            Ok(Some(note)) if note.revision > last => Some(format!(
                "{database} is at revision {last}, but had come to revision {} at {}, says {file}: it is a restored backup",
                note.revision,
                clip(&note.written_at, 40)
            )),
            Ok(_) if marked.is_some() => marked,
            Ok(Some(note)) if note.file.is_some() && identity.is_some() && note.file != identity => Some(format!(
                "{database} is not the file that {file} was written for, but a copy of it, or it was moved to another disk: a server on the original may be at work on the same machines"
            )),
            Ok(_) => None,
        };
        match &doubt {
            Some(why) => {
                self.meta_set(DOUBT, why).await?;
                self.inner.epoch.doubtful.store(true, Ordering::Relaxed);
            }
            None => self.epoch_note(now).await?,
        }
        Ok(doubt)
    }

    /// The name of the deployment that this database is of: as it is stored, or else as the note says that was left beside it by a
    /// database that is lost. `None` = there was none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn deployment_id(&self) -> Result<Option<String>, Error> {
        if let Some(stored) = self.meta_get(DEPLOYMENT_ID).await? {
            return Ok(Some(stored));
        }
        let Some(path) = self.inner.epoch.path.clone() else { return Ok(None) };
        // One that can't be read is told of by the check.
        blocking(move || Ok(read(&path).ok().flatten().and_then(|note| note.deployment_id))).await
    }

    /// Names the deployment.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_deployment_id(&self, id: &str) -> Result<(), Error> {
        self.meta_set(DEPLOYMENT_ID, id).await
    }

    /// Whether the database is in doubt, as of the last check.
    #[must_use]
    pub fn epoch_doubtful(&self) -> bool {
        self.inner.epoch.doubtful.load(Ordering::Relaxed)
    }

    /// Notes how far the database has come. Does nothing when that is noted already or the database is in doubt.
    ///
    /// # Errors
    /// When the database fails or the file can't be written; the old note stays then.
    pub async fn epoch_note(&self, now: Time) -> Result<(), Error> {
        if self.epoch_doubtful() {
            return Ok(());
        }
        self.note(now, false).await
    }

    /// Settles the doubt: the database as it is now is the true one, and is noted as that.
    ///
    /// # Errors
    /// When the database fails or the file can't be written; the doubt stays then.
    pub async fn epoch_accept(&self, now: Time) -> Result<(), Error> {
        self.note(now, true).await?;
        self.meta_set(DOUBT, "").await?;
        self.inner.epoch.doubtful.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Writes the note; `anew` = also when the database has come less far than the note says.
    async fn note(&self, now: Time, anew: bool) -> Result<(), Error> {
        let keeper = &self.inner.epoch;
        let Some(path) = keeper.path.clone() else { return Ok(()) };
        let revision = self.last_revision().await?;
        if keeper.noted.load(Ordering::Relaxed) == revision && !self.epoch_doubtful() {
            return Ok(());
        }
        let store_id = self.meta_get(STORE_ID).await?.unwrap_or_default();
        let deployment_id = self.meta_get(DEPLOYMENT_ID).await?;
        let note = Note { store_id, revision, written_at: now.rfc3339(), file: self.path().and_then(identity), deployment_id };
        let writing = Arc::clone(&keeper.writing);
        blocking(move || {
            let _alone = writing.lock().unwrap_or_else(PoisonError::into_inner);
            // An earlier caller's note may come late.
            match read(&path) {
                Ok(Some(there)) if there.store_id == note.store_id && there.revision > note.revision && !anew => Ok(()),
                _ => write(&path, &note),
            }
        })
        .await?;
        keeper.noted.store(revision, Ordering::Relaxed);
        Ok(())
    }
}

/// What tells a file from its copy: its number on its disk and the moment it came to be there. `None` where it can't be told.
fn identity(database: &Path) -> Option<String> {
    let about = std::fs::metadata(database).ok()?;
    let born = about.created().map_or_else(|_| "untold".to_owned(), |at| clock::time_of(at).millis().to_string());
    Some(format!("{}:{born}", about.ino()))
}

/// Files are waited for on a thread of their own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or(Err(Error::Closed { certainty: Certainty::MayBeCommitted }))
}

/// The note; an `Err` says why there may be one that can't be understood.
fn read(path: &Path) -> Result<Option<Note>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|_| "its content is not ours".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Puts the note there, whole and durable, or leaves the old one.
fn write(path: &Path, note: &Note) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::Invalid(format!("the epoch file {}: {error}", path.display()));
    let text = serde_json::to_string_pretty(note).map_err(|e| failed(e.into()))?;
    let draft = beside(path, "new");
    let mut file = private(OpenOptions::new().write(true).create(true).truncate(true)).open(&draft).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&draft, path).map_err(failed)?;
    sync_folder(path).map_err(failed)
}

/// Makes a name in a folder durable.
pub(super) fn sync_folder(of: &Path) -> std::io::Result<()> {
    let folder = of.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
