//! Metered time as rows, and the question that every cost report asks.

use crate::domain::gpu::GpuModel;
use crate::domain::ids::{ConsumerId, ProviderId, SessionId};
use crate::domain::meter::{Segment, Window};
use crate::domain::money::Rate;
use crate::domain::offer::Component;
use crate::domain::session::{EndReason, State};
use crate::domain::time::Time;
use crate::store::Store;
use crate::store::error::Error;
use crate::store::schema::{instances, segments, session_labels, sessions};
use diesel::connection::DefaultLoadingMode;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel::sqlite::Sqlite;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which segments to list. Absent fields don't filter.
#[derive(Clone, Debug)]
pub struct SegmentQuery {
    /// Only those that may have cost something in this window: from the last moment known off before to the first
    /// moment known off after.
    pub window: Window,
    /// Only of this consumer's sessions.
    pub consumer: Option<ConsumerId>,
    /// Only of machines at this provider.
    pub provider: Option<ProviderId>,
    /// Only of attempts with this GPU model.
    pub gpu: Option<GpuModel>,
    /// Only of this session.
    pub session: Option<SessionId>,
    /// Only of sessions with all of these labels, key and value equal.
    pub labels: BTreeMap<String, String>,
    /// Only those behind this one (session, attempt, ordinal): the last one of the page before.
    pub after: Option<(SessionId, u8, u32)>,
    /// At most this many; `None` = all.
    pub limit: Option<u32>,
}

impl Default for SegmentQuery {
    fn default() -> Self {
        Self { window: Window::ALWAYS, consumer: None, provider: None, gpu: None, session: None, labels: BTreeMap::new(), after: None, limit: None }
    }
}

/// A segment with what a report groups by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRow {
    /// The segment.
    pub segment: Segment,
    /// Whose session.
    pub consumer: ConsumerId,
    /// Where the attempt's machine is or was.
    pub provider: ProviderId,
    /// The attempt's GPU model, where its session tells it.
    pub gpu: Option<GpuModel>,
    /// Why the session ended, from STOPPING on.
    pub end_reason: Option<EndReason>,
    /// The session's labels; one map shared by all rows of a session.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Whether the session's cost can't change any more.
    pub cost_final: bool,
    /// The session's state.
    pub state: State,
}

/// What a report needs of a row's session and instance: consumer, provider, GPU, end reason, labels, final, status.
type Facts = (String, String, Option<String>, Option<String>, String, bool, String);

impl Store {
    /// Segments that match, by session (oldest first), attempt and ordinal.
    ///
    /// # Errors
    /// When the database fails or a row is unreadable.
    pub async fn segment_list(&self, query: SegmentQuery) -> Result<Vec<SegmentRow>, Error> {
        let limit = query.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let mut rows = self.segment_fold(query, Vec::new(), |rows, row| rows.push(row)).await?;
        rows.sort_by_key(|row: &SegmentRow| (row.segment.session, row.segment.attempt, row.segment.ordinal));
        rows.truncate(limit);
        Ok(rows)
    }

    /// Gives each segment that matches to `each`, one after the other and in no order, and gives back what they were put into: for
    /// sums, which take no room for each row. All are of one moment. With a limit and a window that begins somewhere, more than that
    /// many may come.
    ///
    /// # Errors
    /// When the database fails or a row is unreadable.
    pub async fn segment_fold<All, Each>(&self, query: SegmentQuery, mut all: All, mut each: Each) -> Result<All, Error>
    where
        All: Send + 'static,
        Each: FnMut(&mut All, SegmentRow) + Send + 'static,
    {
        self.read(move |conn| {
            let machine = instances::session_id.eq(segments::session_id).and(instances::attempt.eq(segments::attempt));
            let mut found = segments::table
                .inner_join(instances::table.on(machine))
                .inner_join(sessions::table.on(sessions::id.eq(segments::session_id)))
                .select((
                    Row::as_select(),
                    (
                        sessions::consumer_id,
                        instances::provider,
                        instances::gpu_type,
                        sessions::end_reason,
                        sessions::labels,
                        sessions::cost_final,
                        sessions::status,
                    ),
                ))
                .into_boxed::<Sqlite>();
            // Of a window, what may cost something in it is read along an index and put in order here: to have the database do
            // that leads it through the whole history instead. Without one, the history is what is wanted, in its own order.
            let windowed = query.window.from > Time::default();
            found = match query.limit.filter(|_| !windowed) {
                _ if windowed => found.filter(segments::over_at.gt(query.window.from.millis())),
                Some(limit) => found.order((segments::session_id, segments::attempt, segments::ordinal)).limit(limit.into()),
                None => found.order((segments::session_id, segments::attempt, segments::ordinal)),
            };
            if query.window.to < Window::ALWAYS.to {
                let to = query.window.to.millis();
                found = found.filter(segments::from_low.lt(to).or(segments::from_at.lt(to)));
            }
            found = match query.consumer {
                // The plus keeps the database from reading all that the consumer ever rented for the little in the window.
                Some(consumer) if windowed => found.filter(sql::<Bool>("+`sessions`.`consumer_id` = ").bind::<Text, _>(consumer.to_string())),
                Some(consumer) => found.filter(sessions::consumer_id.eq(consumer.to_string())),
                None => found,
            };
            if let Some(provider) = query.provider {
                found = found.filter(instances::provider.eq(provider.to_string()));
            }
            if let Some(gpu) = query.gpu {
                found = found.filter(instances::gpu_type.eq(gpu.to_string()));
            }
            if let Some(session) = query.session {
                found = found.filter(segments::session_id.eq(session.to_string()));
            }
            for (key, value) in query.labels {
                let with = session_labels::table.filter(session_labels::key.eq(key).and(session_labels::value.eq(value)));
                found = found.filter(segments::session_id.eq_any(with.select(session_labels::session_id)));
            }
            if let Some((session, attempt, ordinal)) = query.after {
                let (id, attempt, ordinal) = (session.to_string(), i64::from(attempt), i64::from(ordinal));
                let later = segments::attempt.gt(attempt).or(segments::attempt.eq(attempt).and(segments::ordinal.gt(ordinal)));
                let behind = segments::session_id.gt(id.clone()).or(later);
                found = found.filter(segments::session_id.ge(id)).filter(behind);
            }
            // Mostly the rows of a session come one after the other.
            let mut last: Option<(String, Arc<BTreeMap<String, String>>)> = None;
            for told in found.load_iter::<(Row, Facts), DefaultLoadingMode>(conn)? {
                let (row, facts) = told?;
                let id = row.session_id.clone();
                let labels = last.take().filter(|(of, _)| *of == id).map(|(_, labels)| labels);
                let row = joined(row, facts, labels)?;
                last = Some((id, Arc::clone(&row.labels)));
                each(&mut all, row);
            }
            Ok(all)
        })
        .await
    }
}

fn joined(row: Row, facts: Facts, labels: Option<Arc<BTreeMap<String, String>>>) -> Result<SegmentRow, Error> {
    let (consumer, provider, gpu, end_reason, text, cost_final, status) = facts;
    let odd = |what: &str| Error::Unreadable(format!("session {}: unknown {what}", row.session_id));
    let labels = match labels {
        Some(labels) => labels,
        None => Arc::new(serde_json::from_str(&text).map_err(|e| Error::unreadable("labels of session", &row.session_id, &e))?),
    };
    let state = State::from_word(&status).ok_or_else(|| odd("status"))?;
    let end_reason = end_reason.map(|word| EndReason::from_word(&word).ok_or_else(|| odd("end reason"))).transpose()?;
    Ok(SegmentRow {
        segment: row.restore()?,
        consumer: ConsumerId::new(&consumer),
        provider: ProviderId::new(&provider),
        // Stored names are canonical, and a canonical name stays what it is.
        gpu: gpu.as_deref().map(GpuModel::canonical),
        end_reason,
        labels,
        cost_final,
        state,
    })
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = segments, treat_none_as_default_value = false)]
pub(super) struct Row {
    session_id: String,
    attempt: i64,
    ordinal: i64,
    component: String,
    rate_picos: i64,
    from_low: i64,
    from_at: i64,
    to_at: i64,
    to_high: Option<i64>,
    presumed: bool,
}

impl Row {
    pub(super) fn of(segment: &Segment) -> Self {
        Self {
            session_id: segment.session.to_string(),
            attempt: segment.attempt.into(),
            ordinal: segment.ordinal.into(),
            component: segment.component.word().to_owned(),
            rate_picos: segment.rate.0,
            from_low: segment.from_low.millis(),
            from_at: segment.from.millis(),
            to_at: segment.to.millis(),
            to_high: segment.to_high.map(Time::millis),
            presumed: segment.presumed,
        }
    }

    pub(super) fn restore(&self) -> Result<Segment, Error> {
        let odd = |what: &str| Error::Unreadable(format!("segment {}-{}-{}: {what}", self.session_id, self.attempt, self.ordinal));
        Ok(Segment {
            session: self.session_id.parse().map_err(|_| odd("no session id"))?,
            attempt: u8::try_from(self.attempt).map_err(|_| odd("attempt out of range"))?,
            ordinal: u32::try_from(self.ordinal).map_err(|_| odd("ordinal out of range"))?,
            component: Component::from_word(&self.component).ok_or_else(|| odd("unknown component"))?,
            rate: Rate(self.rate_picos),
            from_low: Time::from_millis(self.from_low),
            from: Time::from_millis(self.from_at),
            to: Time::from_millis(self.to_at),
            to_high: self.to_high.map(Time::from_millis),
            presumed: self.presumed,
        })
    }

    pub(super) fn upsert(&self, conn: &mut SqliteConnection) -> Result<(), Error> {
        // Nothing refers to a segment, so it can be replaced; unlike an update, that statement is prepared only once.
        diesel::replace_into(segments::table).values(self).execute(conn)?;
        Ok(())
    }
}
