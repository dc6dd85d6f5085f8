//! Opening a database: whose is it, is it free, is it up to date; and the settings of every connection.
//!
//! The order matters: a foreign file is recognised by reading alone, before anything is written on or beside it.

use crate::clock::Clock;
use crate::domain::ids::clip;
use crate::store::error::Error;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const ADVICE: &str = "check DATABASE_PATH and the permissions of the file and its folder";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Writes that survive a power loss.
    Write,
    /// Writes that survive the end of the process only: for simulated worlds, which never lose power.
    WriteUnsynced,
    /// Reads.
    Read,
    /// Reads of a file that nobody writes, leaving not even a lock on it.
    Immutable,
}

/// The lock beside a database, held as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The text is for whoever meets a held lock; a stale one would only mislead.
        let _ = self.file.set_len(0);
    }
}

/// Takes the database at `path` for this process: refuses foreign files, makes the folder, takes the lock, makes the
/// file and brings it up to date.
pub(super) fn claim(path: &Path, holder: &str) -> Result<(PathBuf, Lock), Error> {
    let failed = |cause: &dyn std::fmt::Display| Error::Open { path: path.to_owned(), cause: cause.to_string(), advice: ADVICE };
    // A link and its file are one database: what lies beside it lies beside the file.
    let real = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).map_err(|e| failed(&e))?;
    let beside = beside(&real, "lock");

    if real.is_dir() {
        let advice = "set DATABASE_PATH to a file in it, which is made when it is missing";
        let cause = format!("it is a folder, and the database is a file, such as {}", path.join("gpu-shopper.db").display());
        return Err(Error::Open { path: path.to_owned(), cause, advice });
    }
    // A running server is named before its file is looked at.
    let mut lock = if beside.exists() { Some(lock_file(&beside, path)?) } else { None };
    inspect(&real, path)?;
    if let Some(folder) = real.parent() {
        std::fs::create_dir_all(folder).map_err(|e| failed(&e))?;
    }
    let mut file = match lock.take() {
        Some(file) => file,
        None => lock_file(&beside, path)?,
    };
    let text = format!("pid {}, {}, since {}\n", std::process::id(), clip(holder, 150), Clock::System.now());
    file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(|e| failed(&e))?;
    let lock = Lock { file };

    private(OpenOptions::new().create(true).append(true)).open(&real).map_err(|e| failed(&e))?;
    let mut conn = connect(&real, Access::Write)?;
    migrate(&mut conn, path)?;
    Ok((real, lock))
}

/// The file beside a database with another ending: `<db>.lock`.
pub(super) fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// For files that hold what only their owner should read.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn lock_file(beside: &Path, path: &Path) -> Result<File, Error> {
    let failed = |cause: String| Error::Open { path: path.to_owned(), cause, advice: ADVICE };
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(beside)
        .map_err(|e| failed(format!("the lock {}: {e}", beside.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            let holder = if text.trim().is_empty() { "it is just starting".to_owned() } else { clip(text.trim(), 300) };
            Err(Error::Locked { path: path.to_owned(), holder })
        }
        Err(TryLockError::Error(e)) => Err(failed(format!("locking {}: {e}", beside.display()))),
    }
}

/// Opens a connection and gives it its settings.
pub(super) fn connect(path: &Path, access: Access) -> Result<SqliteConnection, Error> {
    let failed = |cause: &dyn std::fmt::Display| Error::Open { path: path.to_owned(), cause: clip(&cause.to_string(), 300), advice: ADVICE };
    let text = path.to_str().ok_or_else(|| failed(&"the path is not UTF-8"))?;
    let escaped = text.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let query = match access {
        Access::Write | Access::WriteUnsynced => "mode=rwc",
        Access::Read => "mode=ro",
        Access::Immutable => "mode=ro&immutable=1",
    };
    let mut conn = SqliteConnection::establish(&format!("file://{escaped}?{query}")).map_err(|e| failed(&e))?;
    // Waiting comes first: what follows may already meet a lock.
    conn.batch_execute("PRAGMA busy_timeout=10000;").map_err(|e| failed(&e))?;
    let synced = match access {
        Access::Write => "FULL",
        Access::WriteUnsynced => "OFF",
        Access::Read | Access::Immutable => {
            // What they read lies in the system's memory; each keeps little of its own.
            conn.batch_execute("PRAGMA cache_size=-512;").map_err(|e| failed(&e))?;
            return Ok(conn);
        }
    };
    // What a savepoint may have to take back is kept in memory, not in a file of its own. A full group of writes fits into the cache.
    let settings =
        format!("PRAGMA journal_mode=WAL; PRAGMA synchronous={synced}; PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-4096;");
    conn.batch_execute(&settings).map_err(|e| failed(&e))?;
    Ok(conn)
}

/// A database in memory, up to date.
pub(super) fn memory() -> Result<SqliteConnection, Error> {
    let path = Path::new(":memory:");
    let failed = |cause: String| Error::Open { path: path.to_owned(), cause, advice: ADVICE };
    let mut conn = SqliteConnection::establish(":memory:").map_err(|e| failed(e.to_string()))?;
    conn.batch_execute("PRAGMA foreign_keys=ON;").map_err(|e| failed(e.to_string()))?;
    migrate(&mut conn, path)?;
    Ok(conn)
}

/// A database in memory with everything that another one in memory has.
pub(super) fn copy_in_memory(conn: &mut SqliteConnection) -> Result<SqliteConnection, Error> {
    /// Names the copies of this process: a database in memory that two connections share needs one.
    static COPIES: AtomicU64 = AtomicU64::new(0);
    let failed = |cause: String| Error::Open { path: PathBuf::from(":memory:"), cause: clip(&cause, 300), advice: ADVICE };
    let name = format!("file:copy-{}?mode=memory&cache=shared", COPIES.fetch_add(1, Ordering::Relaxed));
    // Opened first, or it would be gone before it could be opened.
    let mut copy = SqliteConnection::establish(&name).map_err(|e| failed(e.to_string()))?;
    diesel::sql_query("VACUUM INTO ?").bind::<Text, _>(&name).execute(conn).map_err(|e| failed(e.to_string()))?;
    copy.batch_execute("PRAGMA foreign_keys=ON;").map_err(|e| failed(e.to_string()))?;
    Ok(copy)
}

fn migrate(conn: &mut SqliteConnection, path: &Path) -> Result<(), Error> {
    let cause = |e: Box<dyn std::error::Error + Send + Sync>| Error::Open {
        path: path.to_owned(),
        cause: format!("bringing its schema up to date: {}", clip(&e.to_string(), 300)),
        advice: "nothing was changed by the failed step; restore a backup or report this",
    };
    conn.run_pending_migrations(MIGRATIONS).map_err(cause)?;
    Ok(())
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Refuses a file that is not ours, by reading alone.
pub(super) fn inspect(real: &Path, path: &Path) -> Result<(), Error> {
    let failed = |e: diesel::result::Error| Error::Open { path: path.to_owned(), cause: clip(&e.to_string(), 300), advice: ADVICE };
    if std::fs::metadata(real).map_or(0, |m| m.len()) == 0 {
        return Ok(());
    }
    // Reading a database in WAL mode makes files beside it, unless it is declared immutable; that in turn must not be
    // said while there is a log to read as well.
    let mut log = real.as_os_str().to_owned();
    log.push("-wal");
    let quiet = std::fs::metadata(PathBuf::from(log)).map_or(0, |m| m.len()) == 0;
    let mut conn = connect(real, if quiet { Access::Immutable } else { Access::Read }).map_err(|e| match e {
        Error::Open { cause, advice, .. } => Error::Open { path: path.to_owned(), cause, advice },
        other => other,
    })?;
    let tables: Vec<Named> =
        diesel::sql_query("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name")
            .load(&mut conn)
            .map_err(failed)?;
    let has = |wanted: &str| tables.iter().any(|t| t.name == wanted);
    if has("__diesel_schema_migrations") {
        return known_migrations(&mut conn, path);
    }
    if tables.is_empty() {
        return Ok(());
    }
    let sessions = has("sessions").then(|| {
        diesel::sql_query("SELECT COALESCE(CAST(status AS TEXT), '') AS name, COUNT(*) AS count FROM sessions GROUP BY 1 ORDER BY 1 LIMIT 20")
            .load::<Counted>(&mut conn)
            .map(|rows| rows.into_iter().map(|row| (clip(&row.name, 40), row.count)).collect::<BTreeMap<_, _>>())
            .ok()
    });
    Err(Error::ForeignSchema { path: path.to_owned(), sessions: sessions.flatten() })
}

fn known_migrations(conn: &mut SqliteConnection, path: &Path) -> Result<(), Error> {
    use diesel::migration::{Migration, MigrationSource};
    let failed = |cause: String| Error::Open { path: path.to_owned(), cause: clip(&cause, 300), advice: ADVICE };
    let known: Vec<Box<dyn Migration<diesel::sqlite::Sqlite>>> = MIGRATIONS.migrations().map_err(|e| failed(e.to_string()))?;
    let known: Vec<String> = known.iter().map(|m| m.name().version().to_string()).collect();
    let applied: Vec<Named> =
        diesel::sql_query("SELECT version AS name FROM __diesel_schema_migrations ORDER BY version").load(conn).map_err(|e| failed(e.to_string()))?;
    let unknown: Vec<String> = applied.into_iter().map(|row| clip(&row.name, 60)).filter(|version| !known.contains(version)).collect();
    if unknown.is_empty() { Ok(()) } else { Err(Error::NewerSchema { path: path.to_owned(), migrations: unknown }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_can_be_taken_back_and_applied_again() {
        let mut conn = memory().unwrap();
        conn.revert_all_migrations(MIGRATIONS).unwrap();
        let left: Vec<Named> =
            diesel::sql_query("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE '\\_\\_%' ESCAPE '\\'")
                .load(&mut conn)
                .unwrap();
        assert!(left.is_empty(), "{}", left[0].name);
        migrate(&mut conn, Path::new(":memory:")).unwrap();
    }

    /// A program of before restores what this one wrote, from the columns it knows.
    #[test]
    fn a_row_that_its_event_tells_has_its_own_json_again_when_that_is_taken_back() {
        #[derive(QueryableByName)]
        struct Told {
            #[diesel(sql_type = Text)]
            detail: String,
        }
        let mut conn = memory().unwrap();
        let columns = "'s','c','running','running','','other',1,1,0,'','','','',1,1,7,1,'{}','{}',''";
        conn.batch_execute(&format!(
            "INSERT INTO sessions (id, consumer_id, status, stage, status_message, workload_type, price_nanos, cost_nanos, cost_final,
                created_at, updated_at, expires_at, hard_max_at, attempt, version, revision, sequence, labels, request, detail)
            VALUES ({columns});
            INSERT INTO events (revision, session_id, sequence, kind, from_state, to_state, stage, actor, at, message, cost_nanos, detail)
            VALUES (7, 's', 1, 'updated', 'running', 'running', 'running', 'service', 1, '', 0,
                '{{\"at\":1,\"session\":{{\"price\":0.10,\"request\":{{\"x\":1}},\"labels\":{{}}}}}}');"
        ))
        .unwrap();
        conn.revert_last_migration(MIGRATIONS).unwrap();
        let row: Told = diesel::sql_query("SELECT detail FROM sessions").get_result(&mut conn).unwrap();
        assert_eq!(row.detail, r#"{"price":0.10}"#);
    }

    /// Of two with one version only the first would ever be applied.
    #[test]
    fn every_migration_has_a_version_of_its_own() {
        use diesel::migration::{Migration, MigrationSource};
        let all: Vec<Box<dyn Migration<diesel::sqlite::Sqlite>>> = MIGRATIONS.migrations().unwrap();
        let versions: std::collections::BTreeSet<String> = all.iter().map(|m| m.name().version().to_string()).collect();
        assert_eq!(versions.len(), all.len());
    }

    #[test]
    fn a_server_writes_to_the_disk_and_checks_references() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = connect(&dir.path().join("settings.db"), Access::Write).unwrap();
        let mut setting = |name: &str, sql: &str| {
            let row: Counted = diesel::sql_query(format!("SELECT '' AS name, {sql} AS count FROM pragma_{name}")).get_result(&mut conn).unwrap();
            row.count
        };
        assert_eq!(setting("synchronous", "synchronous"), 2);
        assert_eq!(setting("foreign_keys", "foreign_keys"), 1);
        assert_eq!(setting("busy_timeout", "timeout"), 10_000);
        assert_eq!(setting("journal_mode", "journal_mode = 'wal'"), 1);
    }
}
