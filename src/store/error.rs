//! What can go wrong in the store, in words for whoever reads it, and whether a write may have happened all the same.
//!
//! Texts name tables, files and ids, never the content of a row.

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Whether a write that reported an error is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It certainly is not.
    NotCommitted,
    /// It may be: read before doing anything about it.
    MayBeCommitted,
}

/// An error of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database could not be opened or brought up to date.
    #[error("failed to open database {}: {cause}; {advice}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What happened.
        cause: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// Another server has this database open.
    #[error(
        "failed to open database {}: another server has it open ({holder}); one server per database: \
         stop that one or set DATABASE_PATH to another file",
        path.display()
    )]
    Locked {
        /// Which file.
        path: PathBuf,
        /// Who: process id, address, since when.
        holder: String,
    },
    /// The file holds tables that this program did not make: an earlier Cloud GPU Shopper, or something else. It was
    /// not touched.
    #[error("failed to open database {}: {}", path.display(), foreign(sessions.as_ref()))]
    ForeignSchema {
        /// Which file.
        path: PathBuf,
        /// An earlier Cloud GPU Shopper's sessions by status; `None` when it is not such a database.
        sessions: Option<BTreeMap<String, i64>>,
    },
    /// A newer version of this program has changed the schema.
    #[error(
        "failed to open database {}: a newer version of this program made it (unknown migrations: {}); use that version or a backup from before it",
        path.display(), migrations.join(", ")
    )]
    NewerSchema {
        /// Which file.
        path: PathBuf,
        /// The migrations that this program does not know.
        migrations: Vec<String>,
    },
    /// What is stored does not allow the change: another version, a gap in the revisions, a key that is taken, a
    /// reference to nothing.
    #[error("conflict in the store: {0}")]
    Conflict(String),
    /// The value can't be stored as it is.
    #[error("not storable: {0}")]
    Invalid(String),
    /// A row can't be read back.
    #[error("unreadable row in the store: {0}")]
    Unreadable(String),
    /// The database failed: disk full, I/O error, file damaged.
    #[error("the database failed: {text}")]
    Database {
        /// What it said.
        text: String,
        /// Whether the write may be on disk.
        certainty: Certainty,
    },
    /// The store's threads are gone.
    #[error("the store is closed")]
    Closed {
        /// Whether the write may be on disk.
        certainty: Certainty,
    },
}

impl Error {
    /// Whether the write that met this error may be on disk. Always [`Certainty::NotCommitted`] for reads.
    #[must_use]
    pub const fn certainty(&self) -> Certainty {
        match self {
            Self::Database { certainty, .. } | Self::Closed { certainty } => *certainty,
            Self::Open { .. }
            | Self::Locked { .. }
            | Self::ForeignSchema { .. }
            | Self::NewerSchema { .. }
            | Self::Conflict(_)
            | Self::Invalid(_)
            | Self::Unreadable(_) => Certainty::NotCommitted,
        }
    }

    /// Whether the database itself failed, so that nothing else of the same transaction can be trusted.
    pub(super) const fn is_fault(&self) -> bool {
        matches!(self, Self::Database { .. } | Self::Closed { .. })
    }

    /// A row that can't be read: says which one and where in it, not what it holds.
    pub(super) fn unreadable(what: &str, id: &dyn std::fmt::Display, cause: &serde_json::Error) -> Self {
        Self::Unreadable(format!("{what} {id}: {:?} error at line {}, column {}", cause.classify(), cause.line(), cause.column()))
    }
}

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        use DatabaseErrorKind as Kind;
        match error {
            DieselError::DatabaseError(Kind::UniqueViolation | Kind::ForeignKeyViolation | Kind::NotNullViolation | Kind::CheckViolation, told) => {
                Self::Conflict(told.message().to_owned())
            }
            other => Self::Database { text: other.to_string(), certainty: Certainty::NotCommitted },
        }
    }
}

fn foreign(sessions: Option<&BTreeMap<String, i64>>) -> String {
    let Some(sessions) = sessions else {
        return "it holds tables of some other program; it was not touched; set DATABASE_PATH to another file".to_owned();
    };
    let mut text = "it belongs to an earlier version of Cloud GPU Shopper with another schema; ".to_owned();
    let open = ["pending", "provisioning", "running", "stopping"];
    let list = |wanted: bool| {
        let parts: Vec<String> = sessions
            .iter()
            .filter(|(status, _)| open.contains(&status.as_str()) == wanted)
            .map(|(status, count)| format!("{count} {status}"))
            .collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    };
    let _ = write!(text, "sessions open in it: {}; ended: {}; it was not touched. ", list(true), list(false));
    text.push_str("End its sessions with the program that made it and check the providers' consoles, ");
    text.push_str("then move the file away or set DATABASE_PATH to another one");
    text
}
