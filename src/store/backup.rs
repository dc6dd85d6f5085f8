//! Copies of the whole database as it is at one moment, made while everything goes on, or while no server runs.
//!
//! A copy is marked as one: a server that is started on it doubts it (see `epoch`) until a person has looked. It appears
//! under its name only when it is whole.

use crate::clock::Clock;
use crate::domain::ids::clip;
use crate::store::error::{Certainty, Error};
use crate::store::open::{Access, beside, connect, inspect, private};
use crate::store::schema::{meta, sessions};
use crate::store::{Store, epoch, events};
use diesel::prelude::*;
use diesel::sql_types::Text;
use std::fs::{File, OpenOptions};
use std::path::Path;

/// A copy that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The revision of its last event.
    pub revision: i64,
    /// The sessions in it.
    pub sessions: i64,
    /// Its size.
    pub bytes: u64,
}

/// Copies the database at `source` to a new file, readable by its owner only, whether or not a server has it open. The
/// copy is checked and on disk when this returns. Blocks for as long as that takes.
///
/// # Errors
/// [`Error::Open`] when there is no database at `source`; [`Error::ForeignSchema`] and [`Error::NewerSchema`] when it is
/// not ours to understand; [`Error::Invalid`] when `target` exists or can't be made; otherwise when the database fails. No
/// file is left then.
pub fn backup(source: &Path, target: &Path) -> Result<Copied, Error> {
    let missing = |cause: std::io::Error| Error::Open {
        path: source.to_owned(),
        cause: cause.to_string(),
        advice: "name the database with --database or DATABASE_PATH",
    };
    let real = std::fs::canonicalize(source).map_err(missing)?;
    inspect(&real, source)?;
    copy(&mut connect(&real, Access::Write)?, target)
}

impl Store {
    /// The same for the database that is open here.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the file exists or can't be made; otherwise when the database fails. No file is left then.
    pub async fn backup(&self, target: &Path) -> Result<Copied, Error> {
        let target = target.to_owned();
        self.inner.engine.bare(move |conn| copy(conn, &target)).await
    }
}

fn copy(conn: &mut SqliteConnection, target: &Path) -> Result<Copied, Error> {
    let failed = |e: std::io::Error| Error::Invalid(format!("backup to {}: {e}", target.display()));
    let target = std::path::absolute(target).map_err(failed)?;
    // The name is taken first, so that nothing is ever written over; an empty file is no database yet.
    private(OpenOptions::new().write(true).create_new(true)).open(&target).map_err(failed)?;
    let partial = beside(&target, "partial");
    let copied = fill(conn, &partial).and_then(|copied| {
        std::fs::rename(&partial, &target).and_then(|()| epoch::sync_folder(&target)).map_err(failed)?;
        Ok(copied)
    });
    if copied.is_err() {
        let _ = std::fs::remove_file(&partial);
        let _ = std::fs::remove_file(&target);
    }
    copied
}

/// Makes the copy at `partial`, marks it and checks it.
fn fill(conn: &mut SqliteConnection, partial: &Path) -> Result<Copied, Error> {
    let failed = |e: std::io::Error| Error::Invalid(format!("backup to {}: {e}", partial.display()));
    let broke = |e: diesel::result::Error| Error::Database { text: clip(&e.to_string(), 300), certainty: Certainty::NotCommitted };
    let text = partial.to_str().ok_or_else(|| Error::Invalid(format!("backup to {}: the path is not UTF-8", partial.display())))?;
    private(OpenOptions::new().write(true).create(true).truncate(true)).open(partial).map_err(failed)?;
    diesel::sql_query("VACUUM INTO ?").bind::<Text, _>(text).execute(conn).map_err(broke)?;
    let mut copy = connect(partial, Access::Write)?;
    let revision = events::last_revision(&mut copy)?;
    let mark = format!("this database is a backup, taken at {} at revision {revision}", Clock::System.now().rfc3339());
    diesel::insert_into(meta::table)
        .values((meta::key.eq(epoch::DOUBT), meta::value.eq(&mark)))
        .on_conflict(meta::key)
        .do_update()
        .set(meta::value.eq(&mark))
        .execute(&mut copy)
        .map_err(broke)?;
    let sessions = sessions::table.count().get_result(&mut copy).map_err(broke)?;
    let verdict: Verdict = diesel::sql_query("PRAGMA quick_check(1)").get_result(&mut copy).map_err(broke)?;
    if verdict.quick_check != "ok" {
        let text = format!("the copy is damaged: {}", clip(&verdict.quick_check, 200));
        return Err(Error::Database { text, certainty: Certainty::NotCommitted });
    }
    // One file, whole: what SQLite keeps beside it while it is open is folded in when it is closed.
    drop(copy);
    let file = File::open(partial).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(Copied { revision, sessions, bytes: file.metadata().map_err(failed)?.len() })
}

#[derive(QueryableByName)]
struct Verdict {
    #[diesel(sql_type = Text)]
    quick_check: String,
}
