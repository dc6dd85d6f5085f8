//! Keeping the database small.

use crate::domain::memory;
use crate::domain::session::State;
use crate::domain::time::Time;
use crate::store::Store;
use crate::store::error::Error;
use crate::store::schema::{events, requests, sessions};
use diesel::dsl::{exists, min};
use diesel::prelude::*;
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
    /// Sealed private keys younger than this; and those of sessions that have not run yet.
    pub key_age: Duration,
    /// What launches taught, younger than this.
    pub lesson_age: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { events: 100_000, event_age: day, request_age: day, key_age: Duration::from_secs(600), lesson_age: memory::HORIZON }
    }
}

/// What trimming removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Events.
    pub events: u64,
    /// Accepted calls.
    pub requests: u64,
    /// Sealed private keys; the calls they came with are still known.
    pub keys: u64,
    /// What launches taught.
    pub lessons: u64,
}

impl Store {
    /// Removes events, accepted calls and lessons that nobody may ask for any more. Sessions, instances and segments stay: they
    /// are the account; a row that leaves its JSON to an event gets it back first. The log loses its oldest part only, so that
    /// what is left has no gap.
    ///
    /// # Errors
    /// When the database fails; what was removed by then stays removed.
    pub async fn trim(&self, now: Time, keep: Keep) -> Result<Trimmed, Error> {
        let mut trimmed = Trimmed::default();
        let through = self
            .read(move |conn| {
                let last = super::events::last_revision(conn)?;
                // What must stay in any case need not be looked at.
                let most = last - i64::from(keep.events.max(1));
                let young: Option<i64> = events::table
                    .select(events::revision)
                    .filter(events::revision.le(most))
                    .filter(events::at.gt((now - keep.event_age).millis()))
                    .order(events::revision)
                    .limit(1)
                    .get_result(conn)
                    .optional()?;
                Ok(young.map_or(most, |first| first - 1).min(most))
            })
            .await?;
        loop {
            let removed = self
                .write(move |conn| {
                    let oldest: Option<i64> = events::table.select(min(events::revision)).get_result(conn)?;
                    let Some(oldest) = oldest.filter(|oldest| *oldest <= through) else { return Ok(0) };
                    let up_to = through.min(oldest + CHUNK - 1);
                    super::sessions::tell_apart(conn, up_to)?;
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
                // By the session of each old call: a list of all that are over would be as long as history.
                let over = sessions::table.filter(sessions::id.eq(requests::session_id).and(sessions::status.eq_any(ended)));
                let old = requests::created_at.le((now - keep.request_age).millis());
                Ok(diesel::delete(requests::table.filter(old.and(exists(over)))).execute(conn)?)
            })
            .await?;
        trimmed.requests = u64::try_from(removed).unwrap_or(0);
        let emptied = self
            .write(move |conn| {
                let waiting = [State::Pending, State::Provisioning].map(State::word);
                let handed = sessions::table.filter(sessions::id.eq(requests::session_id).and(sessions::status.ne_all(waiting)));
                let told = requests::created_at.lt((now - keep.key_age).millis()).and(requests::sealed.ne(Vec::new()));
                let old = requests::table.filter(told.and(exists(handed)));
                Ok(diesel::update(old).set(requests::sealed.eq(Vec::new())).execute(conn)?)
            })
            .await?;
        trimmed.keys = u64::try_from(emptied).unwrap_or(0);
        let removed = self.write(move |conn| super::lessons::trim(conn, now - keep.lesson_age)).await?;
        trimmed.lessons = u64::try_from(removed).unwrap_or(0);
        Ok(trimmed)
    }
}
