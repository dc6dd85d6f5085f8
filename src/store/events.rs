//! The event log: rows in commit order, numbered without gaps, written in the transaction that changes the session.
//! `detail` restores an event, and an open session that it is the last one of; the other columns show it.

use crate::domain::event::{Actor, Event, EventType, Matchable};
use crate::domain::ids::SessionId;
use crate::domain::meter::Amount;
use crate::domain::session::{EndReason, Stage, State};
use crate::domain::time::Time;
use crate::store::error::Error;
use crate::store::schema::events;
use crate::store::{MAX_PAGE, Store};
use diesel::dsl::{max, min};
use diesel::prelude::*;
use diesel::sqlite::Sqlite;
use serde::Serialize;
use serde_with::skip_serializing_none;

/// Which revisions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventBounds {
    /// The oldest one that can still be read; one more than `last` when there is none.
    pub oldest: i64,
    /// The last one given out; 0 before the first.
    pub last: i64,
}

impl Store {
    /// Events after a revision, of one session or of all, in revision order; at most `limit`, capped at [`MAX_PAGE`].
    ///
    /// # Errors
    /// When the database fails or a row is unreadable.
    pub async fn event_list(&self, session: Option<SessionId>, after_revision: i64, limit: u32) -> Result<Vec<Event>, Error> {
        self.read(move |conn| {
            let mut found = events::table
                .select((events::revision, events::detail))
                .filter(events::revision.gt(after_revision))
                .order(events::revision)
                .limit(limit.min(MAX_PAGE).into())
                .into_boxed::<Sqlite>();
            if let Some(session) = session {
                found = found.filter(events::session_id.eq(session.to_string()));
            }
            let rows: Vec<(i64, String)> = found.load(conn)?;
            rows.iter().map(|(revision, detail)| serde_json::from_str(detail).map_err(|e| Error::unreadable("event", revision, &e))).collect()
        })
        .await
    }

    /// Which revisions can be read. Both ends come from the same state of the log.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn event_bounds(&self) -> Result<EventBounds, Error> {
        self.read(|conn| {
            let last = last_revision(conn)?;
            let oldest: Option<i64> = events::table.select(min(events::revision)).get_result(conn)?;
            Ok(EventBounds { oldest: oldest.unwrap_or(last + 1), last })
        })
        .await
    }

    /// The last revision given out; 0 before the first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn last_revision(&self) -> Result<i64, Error> {
        self.read(last_revision).await
    }
}

/// Trimming always leaves the last event, so the log itself knows how far it has come.
pub(super) fn last_revision(conn: &mut SqliteConnection) -> Result<i64, Error> {
    let last: Option<i64> = events::table.select(max(events::revision)).get_result(conn)?;
    Ok(last.unwrap_or(0))
}

#[derive(Insertable)]
#[diesel(table_name = events, treat_none_as_default_value = false)]
pub(super) struct Row {
    revision: i64,
    session_id: String,
    sequence: i64,
    kind: &'static str,
    from_state: &'static str,
    to_state: &'static str,
    stage: &'static str,
    end_reason: Option<&'static str>,
    actor: String,
    at: i64,
    message: String,
    cost_nanos: i64,
    detail: String,
}

/// An event's JSON, around that of its session: its last field, which is most of it and mostly known already.
#[skip_serializing_none]
#[derive(Serialize)]
struct Around<'a> {
    revision: i64,
    sequence: i64,
    session_id: SessionId,
    kind: EventType,
    from_state: State,
    to_state: State,
    stage: Stage,
    end_reason: Option<EndReason>,
    actor: &'a Actor,
    at: Time,
    message: &'a str,
    cost: Amount,
    before: Option<&'a Matchable>,
}

/// The JSON of an event whose session's JSON is known.
fn around(event: &Event, session: &str) -> serde_json::Result<String> {
    let Event { revision, sequence, session_id, kind, from_state, to_state, stage, end_reason, .. } = *event;
    let Event { actor, at, message, cost, before, session: _, memo: _, .. } = event;
    let (at, cost, before) = (*at, *cost, before.as_ref());
    let rest = Around { revision, sequence, session_id, kind, from_state, to_state, stage, end_reason, actor, at, message, cost, before };
    let mut text = serde_json::to_string(&rest)?;
    // In place of the closing brace.
    text.pop();
    text.reserve(session.len() + 16);
    text.push_str(",\"session\":");
    text.push_str(session);
    text.push('}');
    Ok(text)
}

impl Row {
    /// An event as a row. `session` = the JSON of its session, where that is known.
    pub(super) fn of(event: &Event, session: Option<&str>) -> Result<Self, Error> {
        let detail = session.map_or_else(|| serde_json::to_string(event), |session| around(event, session));
        let detail = detail.map_err(|_| Error::Invalid(format!("event {}: no JSON can be made of it", event.revision)))?;
        Ok(Self {
            revision: event.revision,
            session_id: event.session_id.to_string(),
            sequence: event.sequence,
            kind: event.kind.word(),
            from_state: event.from_state.word(),
            to_state: event.to_state.word(),
            stage: event.stage.word(),
            end_reason: event.end_reason.map(|r| r.word()),
            actor: event.actor.text(),
            at: event.at.millis(),
            message: event.message.clone(),
            cost_nanos: event.cost.cost.0,
            detail,
        })
    }
}

/// Appends events whose revisions follow on the last one.
pub(super) fn append(conn: &mut SqliteConnection, rows: &[Row]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut last = last_revision(conn)?;
    for row in rows {
        if row.revision != last + 1 {
            return Err(Error::Conflict(format!("revision {} was expected, not {}", last + 1, row.revision)));
        }
        last = row.revision;
        diesel::insert_into(events::table).values(row).execute(conn)?;
    }
    Ok(())
}
