//! Keeping the database small, and copying it while it is in use.

use crate::domain::ids::clip;
use crate::domain::memory;
use crate::domain::session::State;
use crate::domain::time::Time;
use crate::store::Store;
use crate::store::error::Error;
use crate::store::open::private;
use crate::store::schema::{events, requests, sessions};
use diesel::dsl::min;
use diesel::prelude::*;
use diesel::sql_types::Text;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

/// Events removed in one transaction: small enough that commits between two of them don't wait noticeably.
const CHUNK: i64 = 2_000;

/// What trimming must leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The newest events, however old. At least one is always left.
    pub events: u32,
    /// Events younger than this, however many.
    pub event_age: Duration,
    /// Accepted calls younger than this; and those of open sessions, however old.
    pub request_age: Duration,
    /// What launches taught, younger than this.
    pub lesson_age: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { events: 100_000, event_age: day, request_age: day, lesson_age: memory::HORIZON }
    }
}

/// What trimming removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Events.
    pub events: u64,
    /// Accepted calls.
    pub requests: u64,
    /// What launches taught.
    pub lessons: u64,
}

impl Store {
    /// Removes events, accepted calls and lessons that nobody may ask for any more. Sessions, instances and segments stay: they
    /// are the account. The log loses its oldest part only, so that what is left has no gap.
    ///
    /// # Errors
    /// When the database fails; what was removed by then stays removed.
    pub async fn trim(&self, now: Time, keep: Keep) -> Result<Trimmed, Error> {
        let mut trimmed = Trimmed::default();
        let through = self
            .read(move |conn| {
                let last = super::events::last_revision(conn)?;
                let young: Option<i64> = events::table
                    .select(events::revision)
                    .filter(events::at.gt((now - keep.event_age).millis()))
                    .order(events::revision)
                    .first(conn)
                    .optional()?;
                Ok(young.map_or(last, |first| first - 1).min(last - i64::from(keep.events.max(1))))
            })
            .await?;
        loop {
            let removed = self
                .write(move |conn| {
                    let oldest: Option<i64> = events::table.select(min(events::revision)).first(conn)?;
                    let Some(oldest) = oldest.filter(|oldest| *oldest <= through) else { return Ok(0) };
                    let up_to = through.min(oldest + CHUNK - 1);
                    Ok(diesel::delete(events::table.filter(events::revision.le(up_to))).execute(conn)?)
                })
                .await?;
            if removed == 0 {
                break;
            }
            trimmed.events += u64::try_from(removed).unwrap_or(0);
        }
        let removed = self
            .write(move |conn| {
                let ended = State::ALL.iter().filter(|s| s.is_final()).map(|s| s.word());
                let over = sessions::table.filter(sessions::status.eq_any(ended)).select(sessions::id);
                let old = requests::created_at.le((now - keep.request_age).millis());
                Ok(diesel::delete(requests::table.filter(old.and(requests::session_id.eq_any(over)))).execute(conn)?)
            })
            .await?;
        trimmed.requests = u64::try_from(removed).unwrap_or(0);
        let removed = self.write(move |conn| super::lessons::trim(conn, now - keep.lesson_age)).await?;
        trimmed.lessons = u64::try_from(removed).unwrap_or(0);
        Ok(trimmed)
    }

    /// Copies the whole database as it is at one moment to a new file, readable by its owner only, while everything
    /// goes on. The copy is on disk when this returns.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the file exists or can't be made; otherwise when the database fails. No file is left
    /// then.
    pub async fn backup(&self, path: &Path) -> Result<(), Error> {
        let path = path.to_owned();
        self.inner
            .engine
            .bare(move |conn| {
                let failed = |e: std::io::Error| Error::Invalid(format!("backup to {}: {e}", path.display()));
                let absolute = std::path::absolute(&path).map_err(failed)?;
                let text = absolute.to_str().ok_or_else(|| Error::Invalid(format!("backup to {}: the path is not UTF-8", path.display())))?;
                private(OpenOptions::new().write(true).create_new(true)).open(&path).map_err(failed)?;
                let copied = diesel::sql_query("VACUUM INTO ?")
                    .bind::<Text, _>(text)
                    .execute(conn)
                    .map_err(|e| Error::Database { text: clip(&e.to_string(), 300), certainty: crate::store::Certainty::NotCommitted });
                let copied = copied.and_then(|_| File::open(&path).and_then(|file| file.sync_all()).map_err(failed));
                if copied.is_err() {
                    let _ = std::fs::remove_file(&path);
                }
                copied
            })
            .await
    }
}
