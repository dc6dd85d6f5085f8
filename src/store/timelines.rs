//! Timelines: each start of the server opens one, so that a resume token of a database that was replaced by a backup
//! is known for what it is.

use crate::domain::time::Time;
use crate::store::Store;
use crate::store::error::Error;
use crate::store::events;
use crate::store::schema::timelines;
use diesel::prelude::*;

/// One start of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Its random id.
    pub id: u64,
    /// The first revision that it can give out: one more than the last one before it. A token of this timeline names a
    /// revision from `first_revision - 1` on, up to the `first_revision - 1` of the timeline that follows it.
    pub first_revision: i64,
    /// When it was opened.
    pub opened_at: Time,
}

impl Store {
    /// Opens a timeline after the last revision.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the id is taken; otherwise when the database fails.
    pub async fn timeline_open(&self, random_id: u64, now: Time) -> Result<Timeline, Error> {
        self.write(move |conn| {
            let timeline = Timeline { id: random_id, first_revision: events::last_revision(conn)? + 1, opened_at: now };
            diesel::insert_into(timelines::table)
                .values((
                    timelines::id.eq(random_id.cast_signed()),
                    timelines::first_revision.eq(timeline.first_revision),
                    timelines::opened_at.eq(now.millis()),
                ))
                .execute(conn)?;
            Ok(timeline)
        })
        .await
    }

    /// Every timeline, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn timeline_list(&self) -> Result<Vec<Timeline>, Error> {
        self.read(|conn| {
            let rows: Vec<(i64, i64, i64)> = timelines::table.order((timelines::first_revision, timelines::opened_at, timelines::id)).load(conn)?;
            let timeline = |(id, first_revision, opened_at): (i64, i64, i64)| Timeline {
                id: id.cast_unsigned(),
                first_revision,
                opened_at: Time::from_millis(opened_at),
            };
            Ok(rows.into_iter().map(timeline).collect())
        })
        .await
    }
}
