//! Sessions as rows. `request`, `labels` and `detail` restore a session exactly; the other columns show it, to people
//! and to queries, and are never read back.
//!
//! An open session's JSON is mostly told by its last event as well, and is most of what a commit writes: its `detail` is empty
//! then, and the event of the row's `revision` restores it. One that is over tells itself, so that history reads no events.

use crate::domain::event::Event;
use crate::domain::ids::{ConsumerId, ProviderId, SessionId};
use crate::domain::instance::Instance;
use crate::domain::session::{Session, State};
use crate::domain::time::Time;
use crate::store::error::Error;
use crate::store::prepared::rewrites;
use crate::store::schema::{events, instances, session_labels, sessions};
use crate::store::{MAX_PAGE, Store};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use diesel::sqlite::Sqlite;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which sessions to list, newest first. Absent fields don't filter.
#[derive(Clone, Debug)]
pub struct SessionQuery {
    /// Only of this consumer.
    pub consumer: Option<ConsumerId>,
    /// Only those whose current or last attempt is there.
    pub provider: Option<ProviderId>,
    /// Only in one of these states; empty = any.
    pub states: Vec<State>,
    /// Only those with all of these labels, key and value equal.
    pub labels: BTreeMap<String, String>,
    /// Created at this moment or later.
    pub created_from: Option<Time>,
    /// Created before this moment.
    pub created_before: Option<Time>,
    /// Only those older than this session: the last one of the page before.
    pub before: Option<SessionId>,
    /// At most this many, capped at [`MAX_PAGE`].
    pub limit: u32,
}

impl Default for SessionQuery {
    fn default() -> Self {
        Self {
            consumer: None,
            provider: None,
            states: Vec::new(),
            labels: BTreeMap::new(),
            created_from: None,
            created_before: None,
            before: None,
            limit: MAX_PAGE,
        }
    }
}

impl Store {
    /// A session by its id.
    ///
    /// # Errors
    /// When the database fails or the row is unreadable.
    pub async fn session_get(&self, id: SessionId) -> Result<Option<Session>, Error> {
        self.read(move |conn| get(conn, id)).await
    }

    /// Sessions that match, newest first. The next page begins before the last one's id. `at_hand` may know a session in
    /// this version or a later one: such are not read and restored.
    ///
    /// # Errors
    /// When the database fails or a row is unreadable.
    pub async fn session_list<AtHand>(&self, query: SessionQuery, at_hand: AtHand) -> Result<Vec<Arc<Session>>, Error>
    where
        AtHand: Fn(SessionId, i64) -> Option<Arc<Session>> + Send + 'static,
    {
        self.read(move |conn| {
            // Each state is read along its index and the newest of all are taken: several at once would have to be sorted, and
            // that takes as long as the history is.
            let mut found: Vec<(String, i64)> = Vec::new();
            for page in pages(&query) {
                found.extend(page.load::<(String, i64)>(conn)?);
            }
            found.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
            found.truncate(usize::try_from(query.limit.min(MAX_PAGE)).unwrap_or(usize::MAX));
            let mut sessions: Vec<Arc<Session>> = Vec::with_capacity(found.len());
            let mut missing = Vec::new();
            for (id, version) in found {
                match id.parse().ok().and_then(|known| at_hand(known, version)) {
                    Some(session) => sessions.push(session),
                    None => missing.push(id),
                }
            }
            if !missing.is_empty() {
                for row in everything().filter(sessions::id.eq_any(missing)).load::<Stored>(conn)? {
                    sessions.push(restore(conn, row)?);
                }
                sessions.sort_unstable_by_key(|s| std::cmp::Reverse(s.id));
            }
            Ok(sessions)
        })
        .await
    }

    /// Sessions that ended at this moment or later, newest first; of a query, consumer, provider and labels count.
    ///
    /// # Errors
    /// When the database fails or a row is unreadable.
    pub async fn session_list_ended(&self, query: SessionQuery, from: Time) -> Result<Vec<Session>, Error> {
        self.read(move |conn| {
            let mut found = ended(&query, from).load::<Stored>(conn)?;
            found.sort_unstable_by(|(a, ..), (b, ..)| b.cmp(a));
            found.into_iter().map(|row| restore(conn, row).map(Arc::unwrap_or_clone)).collect()
        })
        .await
    }

    /// How many sessions match, whatever the limit.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn session_count(&self, query: SessionQuery) -> Result<u64, Error> {
        self.read(move |conn| {
            let mut all = 0;
            for state in wanted(&query) {
                all += among(sessions::table.into_boxed(), &query, state).count().get_result::<i64>(conn)?.unsigned_abs();
            }
            Ok(all)
        })
        .await
    }

    /// Whether there is or ever was a session.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_sessions(&self) -> Result<bool, Error> {
        self.read(|conn| Ok(sessions::table.select(sessions::id).limit(1).get_result::<String>(conn).optional()?.is_some())).await
    }

    /// Every session that is not final or still owes a machine's end, with all its instances, oldest first: what the
    /// lifecycle starts from.
    ///
    /// # Errors
    /// When the database fails or a row is unreadable.
    pub async fn sessions_live(&self) -> Result<Vec<(Session, Vec<Instance>)>, Error> {
        self.read(|conn| {
            let mut live: Vec<Stored> = Vec::new();
            for question in live_ones() {
                live.extend(question.load::<Stored>(conn)?);
            }
            live.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
            live.dedup_by(|(a, ..), (b, ..)| a == b);
            let ids: Vec<String> = live.iter().map(|(id, ..)| id.clone()).collect();
            let mut of = super::instances::of_sessions(conn, &ids)?;
            live.into_iter()
                .map(|row| {
                    let session = Arc::unwrap_or_clone(restore(conn, row)?);
                    let instances = of.remove(&session.id).unwrap_or_default();
                    Ok((session, instances))
                })
                .collect()
        })
        .await
    }
}

/// A question for sessions.
type Question = sessions::BoxedQuery<'static, Sqlite, (Text, Text, Text, Text, BigInt)>;

/// All of what is stored of all sessions.
fn everything() -> Question {
    sessions::table.select(STORED).into_boxed()
}

/// What a query asks besides the states and the page.
fn matching<Selected>(
    mut found: sessions::BoxedQuery<'static, Sqlite, Selected>,
    query: &SessionQuery,
) -> sessions::BoxedQuery<'static, Sqlite, Selected> {
    if let Some(consumer) = &query.consumer {
        found = found.filter(sessions::consumer_id.eq(consumer.to_string()));
    }
    if let Some(provider) = &query.provider {
        found = found.filter(sessions::provider.eq(provider.to_string()));
    }
    for (key, value) in query.labels.clone() {
        let with = session_labels::table.filter(session_labels::key.eq(key).and(session_labels::value.eq(value)));
        found = found.filter(sessions::id.eq_any(with.select(session_labels::session_id)));
    }
    found
}

/// The same in one of the wanted states, or in any, from its page on.
fn among<Selected>(
    found: sessions::BoxedQuery<'static, Sqlite, Selected>,
    query: &SessionQuery,
    state: Option<State>,
) -> sessions::BoxedQuery<'static, Sqlite, Selected> {
    let mut found = matching(found, query);
    if let Some(state) = state {
        found = found.filter(sessions::status.eq(state.word()));
    }
    if let Some(from) = query.created_from {
        found = found.filter(sessions::created_at.ge(from.sql()));
    }
    if let Some(before) = query.created_before {
        found = found.filter(sessions::created_at.lt(before.sql()));
    }
    if let Some(before) = query.before {
        found = found.filter(sessions::id.lt(before.to_string()));
    }
    found
}

/// Each wanted state once; none said = one question for all.
fn wanted(query: &SessionQuery) -> Vec<Option<State>> {
    let mut states = query.states.clone();
    states.sort_unstable();
    states.dedup();
    if states.is_empty() { vec![None] } else { states.into_iter().map(Some).collect() }
}

/// The questions that a page takes, for ids and versions: one for each wanted state, or one for all.
fn pages(query: &SessionQuery) -> Vec<sessions::BoxedQuery<'static, Sqlite, (Text, BigInt)>> {
    let ids = || sessions::table.select((sessions::id, sessions::version)).into_boxed();
    let page = |state| among(ids(), query, state).order(sessions::id.desc()).limit(query.limit.min(MAX_PAGE).into());
    wanted(query).into_iter().map(page).collect()
}

/// What is open, and what owes a machine's end: history is not looked at.
fn live_ones() -> Vec<Question> {
    let plain = everything;
    let open = State::ALL.iter().filter(|s| !s.is_final()).map(|s| plain().filter(sessions::status.eq(s.word())));
    let owing = instances::table.filter(instances::settled_at.is_null()).select(instances::session_id);
    open.chain([plain().filter(sessions::id.eq_any(owing))]).collect()
}

/// What ended since, along the index of when. The plus keeps the database from reading all that a consumer or a provider ever had
/// for the little that ended lately.
fn ended(query: &SessionQuery, from: Time) -> Question {
    let plain = SessionQuery { consumer: None, provider: None, ..query.clone() };
    let mut found = matching(everything(), &plain).filter(sessions::stopped_at.ge(from.sql()));
    if let Some(consumer) = &query.consumer {
        found = found.filter(sql::<Bool>("+`sessions`.`consumer_id` = ").bind::<Text, _>(consumer.to_string()));
    }
    if let Some(provider) = &query.provider {
        found = found.filter(sql::<Bool>("+`sessions`.`provider` = ").bind::<Text, _>(provider.to_string()));
    }
    found
}

/// What restores a session: id, detail, request, labels, revision.
type Stored = (String, String, String, String, i64);
const STORED: (sessions::id, sessions::detail, sessions::request, sessions::labels, sessions::revision) =
    (sessions::id, sessions::detail, sessions::request, sessions::labels, sessions::revision);

pub(super) fn get(conn: &mut SqliteConnection, id: SessionId) -> Result<Option<Session>, Error> {
    let row = sessions::table.find(id.to_string()).select(STORED).get_result::<Stored>(conn).optional()?;
    row.map(|row| restore(conn, row).map(Arc::unwrap_or_clone)).transpose()
}

/// How a session's JSON ends: what is stored in columns of its own.
fn apart(request: &str, labels: &str) -> String {
    format!(r#","request":{request},"labels":{labels}}}"#)
}

/// What an event tells of its session.
#[derive(Deserialize)]
struct Told {
    session: Arc<Session>,
}

fn restore(conn: &mut SqliteConnection, (id, detail, request, labels, revision): Stored) -> Result<Arc<Session>, Error> {
    if detail.is_empty() {
        let told: Option<String> = events::table.find(revision).select(events::detail).get_result(conn).optional()?;
        let told = told.ok_or_else(|| Error::Unreadable(format!("session {id}: event {revision}, which tells it, is missing")))?;
        let told: Told = serde_json::from_str(&told).map_err(|e| Error::unreadable("event", &revision, &e))?;
        if told.session.id.to_string() != id {
            return Err(Error::Unreadable(format!("session {id}: event {revision} tells another one")));
        }
        return Ok(told.session);
    }
    // Put together as text and read once.
    let most = detail.trim_end().strip_suffix('}').unwrap_or_default();
    let whole = format!("{most}{}", apart(&request, &labels));
    serde_json::from_str(&whole).map(Arc::new).map_err(|e| Error::unreadable("session", &id, &e))
}

/// Gives the rows that leave their JSON to events up to this revision a JSON of their own, before those are removed.
pub(super) fn tell_apart(conn: &mut SqliteConnection, revision: i64) -> Result<(), Error> {
    let mut leaning: Vec<Stored> = Vec::new();
    for state in State::ALL.iter().filter(|s| !s.is_final()) {
        let open = everything().filter(sessions::status.eq(state.word()));
        leaning.extend(open.filter(sessions::revision.le(revision)).filter(sessions::detail.eq("")).load::<Stored>(conn)?);
    }
    for row in leaning {
        let session = restore(conn, row)?;
        let (write, _) = Write::new(&session, &[], false)?;
        diesel::update(sessions::table.find(&write.row.id)).set(sessions::detail.eq(&write.row.detail)).execute(conn)?;
    }
    Ok(())
}

#[derive(Insertable)]
#[diesel(table_name = sessions, treat_none_as_default_value = false)]
struct Row {
    id: String,
    consumer_id: String,
    provider: Option<String>,
    offer_id: Option<String>,
    gpu_type: Option<String>,
    gpu_count: Option<i64>,
    status: &'static str,
    stage: &'static str,
    end_reason: Option<&'static str>,
    error: Option<String>,
    status_message: String,
    workload_type: &'static str,
    price_nanos: i64,
    cost_nanos: i64,
    cost_final: bool,
    ssh_host: Option<String>,
    ssh_port: Option<i64>,
    ssh_user: Option<String>,
    created_at: String,
    updated_at: String,
    expires_at: String,
    hard_max_at: String,
    running_at: Option<String>,
    stopped_at: Option<String>,
    attempt: i64,
    version: i64,
    revision: i64,
    sequence: i64,
    labels: String,
    request: String,
    detail: String,
}

// Whose it is and when it was created never changes.
macro_rules! rewrites_session {
    ($name:ident, $($column:ident),*) => {
        rewrites!($name(Row) in sessions by id {
            $($column,)* offer_id, gpu_type, gpu_count, stage, end_reason, error, status_message, workload_type, price_nanos, cost_nanos,
            cost_final, ssh_host, ssh_port, ssh_user, updated_at, expires_at, hard_max_at, running_at, attempt, version, revision, sequence,
            labels, request, detail,
        });
    };
}
rewrites_session!(Rewrite, provider, status, stopped_at);
// What no index holds: SQLite writes each index anew that a column of an update is in, changed or not.
rewrites_session!(Refresh,);

/// The same where the stored row is what this one follows on: all that is asked of it is in the statement itself. `STILL` =
/// what indexes hold is as it was.
struct Follow<'a, const STILL: bool> {
    row: &'a Row,
    /// The number of the last stored event.
    sequence: i64,
    /// The stored labels.
    labels: &'a str,
}

impl<const STILL: bool> QueryId for Follow<'_, STILL> {
    type QueryId = Follow<'static, STILL>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<const STILL: bool> QueryFragment<Sqlite> for Follow<'_, STILL> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        if STILL {
            Refresh::of(self.row, &mut out)?
        } else {
            Rewrite::of(self.row, &mut out)?
        }
        out.push_sql(" AND version < ");
        out.push_bind_param::<BigInt, _>(&self.row.version)?;
        out.push_sql(" AND sequence = ");
        out.push_bind_param::<BigInt, _>(&self.sequence)?;
        // The text sorts as the time does.
        out.push_sql(" AND updated_at <= ");
        out.push_bind_param::<Text, _>(&self.row.updated_at)?;
        out.push_sql(" AND labels = ");
        out.push_bind_param::<Text, _>(self.labels)?;
        if STILL {
            out.push_sql(" AND status = ");
            out.push_bind_param::<Text, _>(self.row.status)?;
            out.push_sql(" AND provider IS ");
            out.push_bind_param::<Nullable<Text>, _>(&self.row.provider)?;
            out.push_sql(" AND stopped_at IS ");
            out.push_bind_param::<Nullable<Text>, _>(&self.row.stopped_at)?;
        }
        Ok(())
    }
}

impl<const STILL: bool> RunQueryDsl<SqliteConnection> for Follow<'_, STILL> {}

/// A session ready to be written, with the numbers of its events in the same batch.
pub(super) struct Write {
    row: Row,
    labels: BTreeMap<String, String>,
    /// What they were before these events, where that is something else, and as JSON.
    relabelled: Option<(BTreeMap<String, String>, String)>,
    /// Sequence and revision of each of its events.
    events: Vec<(i64, i64)>,
    /// None of them tells of another state.
    still: bool,
}

impl Write {
    /// A session as rows, and its whole JSON, for whatever else tells it. `told`: the last of these events does.
    pub(super) fn new(session: &Session, events: &[&Event], told: bool) -> Result<(Self, String), Error> {
        let odd = |what: &str| Error::Invalid(format!("session {}: {what}", session.id));
        // JSON knows no NaN: such a row could be written and never be read again.
        if session.attempts.iter().any(|a| !a.offer.confidence.is_finite() || a.offer.reliability.is_some_and(|r| !r.is_finite())) {
            return Err(odd("an offer's reliability or confidence is not a number"));
        }
        let json = |value: serde_json::Result<String>| value.map_err(|_| odd("no JSON can be made of it"));
        let labels = json(serde_json::to_string(&session.labels))?;
        let request = json(serde_json::to_string(&session.request))?;
        let whole = json(serde_json::to_string(session))?;
        let most = whole.strip_suffix(&apart(&request, &labels)).ok_or_else(|| odd("request and labels are not its last fields"))?;
        let detail = if told && !session.state.is_final() { String::new() } else { format!("{most}}}") };
        let offer = session.offer();
        let row = Row {
            id: session.id.to_string(),
            consumer_id: session.request.consumer.to_string(),
            provider: offer.map(|o| o.provider.to_string()),
            offer_id: offer.map(|o| o.id.to_string()),
            gpu_type: offer.map(|o| o.gpu.to_string()),
            gpu_count: offer.map(|o| o.gpu_count.into()),
            status: session.state.word(),
            stage: session.stage.word(),
            end_reason: session.end_reason.map(|r| r.word()),
            error: session.error.clone(),
            status_message: session.status_message.clone(),
            workload_type: session.request.workload.word(),
            price_nanos: session.price.total().nanos().0,
            cost_nanos: session.cost.cost.0,
            cost_final: session.cost_final,
            ssh_host: session.endpoint.as_ref().map(|e| e.host.clone()),
            ssh_port: session.endpoint.as_ref().map(|e| e.port.into()),
            ssh_user: session.endpoint.as_ref().map(|e| e.user.clone()),
            created_at: session.created_at.sql(),
            updated_at: updated_at(session, events).sql(),
            expires_at: session.expires_at.sql(),
            hard_max_at: session.hard_max_at.sql(),
            running_at: session.running_at.map(Time::sql),
            stopped_at: session.stopped_at.map(Time::sql),
            attempt: session.attempt().map_or(0, |a| a.number.into()),
            version: session.version,
            revision: session.revision,
            sequence: session.sequence,
            labels,
            request,
            detail,
        };
        let still = events.iter().all(|e| e.from_state == e.to_state);
        let before = events.iter().find_map(|e| e.before.as_ref()).map(|before| &before.labels).filter(|labels| **labels != session.labels);
        let text = before.map(|labels| json(serde_json::to_string(labels))).transpose()?;
        let relabelled = before.cloned().zip(text);
        let events = events.iter().map(|e| (e.sequence, e.revision)).collect();
        Ok((Self { row, labels: session.labels.clone(), relabelled, events, still }, whole))
    }

    /// Writes it, if the stored version is older and its events follow on the stored ones.
    pub(super) fn apply(self, conn: &mut SqliteConnection) -> Result<(), Error> {
        let told = i64::try_from(self.events.len()).unwrap_or(i64::MAX);
        let sequence = self.row.sequence.saturating_sub(told);
        let in_order = self.events.iter().zip(sequence + 1..).all(|((number, _), next)| *number == next);
        let last = self.events.last().is_none_or(|(_, revision)| *revision == self.row.revision);
        if sequence > 0 && in_order && last {
            let row = &self.row;
            let labels = self.relabelled.as_ref().map_or(row.labels.as_str(), |(_, stored)| stored);
            let refreshed = self.still && (Follow::<true> { row, sequence, labels }).execute(conn)? == 1;
            if refreshed || (Follow::<false> { row, sequence, labels }).execute(conn)? == 1 {
                return self.relabelled.as_ref().map_or(Ok(()), |(before, _)| self.relabel(conn, before));
            }
        }
        self.apply_looking(conn)
    }

    /// Writes which labels are others than before.
    fn relabel(&self, conn: &mut SqliteConnection, before: &BTreeMap<String, String>) -> Result<(), Error> {
        let id = &self.row.id;
        for (key, value) in self.labels.iter().filter(|(key, value)| before.get(*key) != Some(value)) {
            let row = (session_labels::session_id.eq(id), session_labels::key.eq(key), session_labels::value.eq(value));
            diesel::replace_into(session_labels::table).values(row).execute(conn)?;
        }
        for key in before.keys().filter(|key| !self.labels.contains_key(*key)) {
            diesel::delete(session_labels::table.find((id, key))).execute(conn)?;
        }
        Ok(())
    }

    /// The first time, and when something besides the row itself changes, or is wrong.
    fn apply_looking(mut self, conn: &mut SqliteConnection) -> Result<(), Error> {
        let stored: Option<(i64, i64, String, String)> = sessions::table
            .find(&self.row.id)
            .select((sessions::version, sessions::sequence, sessions::labels, sessions::updated_at))
            .get_result(conn)
            .optional()?;
        let known = stored.is_some();
        let (version, mut sequence, labels, updated_at) = stored.unwrap_or((i64::MIN, 0, "{}".to_owned(), String::new()));
        // The text sorts as the time does. What told of the last change may be gone from the session itself.
        if updated_at > self.row.updated_at {
            self.row.updated_at = updated_at;
        }
        let row = &self.row;
        if version >= row.version {
            return Err(Error::Conflict(format!("session {}: version {version} is stored, {} comes too late", row.id, row.version)));
        }
        for (number, _) in &self.events {
            if *number != sequence + 1 {
                return Err(Error::Conflict(format!("session {}: event {} was expected, not {number}", row.id, sequence + 1)));
            }
            sequence = *number;
        }
        let revision = self.events.last().map(|(_, revision)| *revision);
        if row.sequence != sequence || revision.is_some_and(|r| r != row.revision) {
            return Err(Error::Conflict(format!("session {}: its sequence or revision is not that of its last event", row.id)));
        }
        if known {
            Rewrite(row).execute(conn)?;
        } else {
            diesel::insert_into(sessions::table).values(row).execute(conn)?;
        }
        if labels == row.labels {
            return Ok(());
        }
        let before = serde_json::from_str(&labels).map_err(|e| Error::unreadable("labels of session", &row.id, &e))?;
        self.relabel(conn, &before)
    }
}

/// When the session last changed, as far as it tells: the store has no clock.
fn updated_at(session: &Session, events: &[&Event]) -> Time {
    let attempts = session.attempts.iter().flat_map(|a| [Some(a.started_at), a.ended_at]).flatten();
    let conditions = session.conditions.iter().map(|c| c.since);
    let own = [session.state_at, session.stage_at, session.pace.progress_at];
    own.into_iter().chain(attempts).chain(conditions).chain(events.iter().map(|e| e.at)).fold(session.created_at, Time::max)
}
