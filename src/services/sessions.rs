//! The reading side of sessions: get, list, wait, watch, events, diagnostics. Writes nothing; what a fresh look at a
//! machine shows, it tells the lifecycle.
//!
//! A watch is a cursor over the event log plus a doorbell. The watcher takes its bell, marks it seen, then reads the
//! board's ring from its cursor, or the table where the ring no longer reaches back. Flow control holds its cursor and
//! nothing else.

use crate::clock::Clock;
use crate::domain::event::{Event, Matchable};
use crate::domain::idle::{self, Reading};
use crate::domain::ids::{ProviderId, SessionId};
use crate::domain::instance::SshEndpoint;
use crate::domain::lifecycle::{Input, stage_deadline};
use crate::domain::money::Rate;
use crate::domain::policy::Rules;
use crate::domain::session::{Session, State};
use crate::domain::time::Time;
use crate::domain::verify::{GpuAnswer, GpuReport};
use crate::ports::{ProbeFailure, ProbeFailureKind, ProbeReport, ProbeTarget};
use crate::services::api::{Caller, Diagnostics, EventPage, SessionFilter, SessionPage, WatchMessage, WatchRequest, WatchStart};
use crate::services::board::{Ahead, Board, Live};
use crate::services::error::{Code, Error};
use crate::services::inventory::{hash_of, page_size};
use crate::services::lifecycle::Handle;
use crate::services::provisioner::Tools;
use crate::services::tokens::{self, PageOf, Tokens};
use crate::store::{SessionQuery, Store};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::stream::{self, BoxStream, StreamExt};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Events read at a time.
const CHUNK: usize = 256;
/// A wait never lasts longer than this.
pub const MAX_WAIT: Duration = Duration::from_secs(600);

struct Inner {
    store: Store,
    board: Board,
    tokens: Tokens,
    tools: Tools,
    rules: Rules,
    lifecycle: Handle,
    drain: CancellationToken,
}

/// The service's handle. See the module's header.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

impl Inner {
    /// Whether all events after a revision are still kept. Asked after a page was read: what was kept then was in the page.
    async fn still_kept(&self, after: i64) -> Result<(), Error> {
        let bounds = self.store.event_bounds().await.map_err(|e| broken(&e))?;
        if after + 1 >= bounds.oldest {
            return Ok(());
        }
        let text = format!("events after revision {after} are no longer kept (the oldest is {}): start afresh with a snapshot", bounds.oldest);
        Err(Error::new(Code::OutOfRange, "WATCH_COMPACTED", text).with("oldest_revision", bounds.oldest).with("current_revision", bounds.last))
    }
}

impl Sessions {
    /// Reads from these.
    #[must_use]
    pub fn new(store: Store, board: Board, tokens: Tokens, tools: Tools, rules: Rules, lifecycle: Handle, drain: CancellationToken) -> Self {
        Self(Arc::new(Inner { store, board, tokens, tools, rules, lifecycle, drain }))
    }

    fn clock(&self) -> &Clock {
        &self.0.tools.clock
    }

    /// One session.
    ///
    /// # Errors
    /// NOT_FOUND when there is none or it is not the caller's.
    pub async fn get(&self, caller: &Caller, id: SessionId) -> Result<Arc<Session>, Error> {
        let session = match self.0.board.live(id) {
            Some(live) => Some(live.session),
            None => self.0.store.session_get(id).await.map_err(|e| broken(&e))?.map(Arc::new),
        };
        session.filter(|s| visible(caller, s)).ok_or_else(|| Error::session_not_found(id))
    }

    /// A page of sessions, newest first.
    ///
    /// # Errors
    /// A page token that is garbage or of another filter.
    pub async fn list(&self, caller: &Caller, filter: SessionFilter, size: u32, token: &str) -> Result<SessionPage, Error> {
        let filter = scoped(caller, filter)?;
        let hash = hash_of(&format!("{filter:?}"));
        let before = match token {
            "" => None,
            token => Some(read_list_token(token, hash)?),
        };
        let size = page_size(size);
        let query = SessionQuery {
            consumer: filter.consumer,
            provider: filter.provider,
            states: filter.states,
            labels: filter.labels,
            created_from: None,
            created_before: None,
            before,
            limit: u32::try_from(size + 1).unwrap_or(u32::MAX),
        };
        // A session's cost and clocks are up to the minute on the board; but a commit is on disk a moment before it is there.
        let board = self.0.board.clone();
        let at_hand = move |id, version| board.live(id).map(|live| live.session).filter(|s| s.version >= version);
        let mut found = self.0.store.session_list(query, at_hand).await.map_err(|e| broken(&e))?;
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token = match found.last() {
            Some(last) if more => URL_SAFE_NO_PAD.encode(format!("{}{hash:x}.{}", PageOf::Sessions.mark(), last.id)),
            _ => String::new(),
        };
        Ok(SessionPage { sessions: found, next_page_token })
    }

    /// How many sessions match.
    ///
    /// # Errors
    /// A consumer that is not the caller's.
    pub async fn count(&self, caller: &Caller, filter: SessionFilter) -> Result<usize, Error> {
        let filter = scoped(caller, filter)?;
        let query = SessionQuery {
            consumer: filter.consumer,
            provider: filter.provider,
            states: filter.states,
            labels: filter.labels,
            ..SessionQuery::default()
        };
        let found = self.0.store.session_count(query).await.map_err(|e| broken(&e))?;
        Ok(usize::try_from(found).unwrap_or(usize::MAX))
    }

    /// Waits until a session is in one of these states (or final), at most `timeout`. A wait that expires is no error:
    /// the present session and `false`.
    ///
    /// # Errors
    /// NOT_FOUND; UNAVAILABLE when the server is drained meanwhile.
    pub async fn wait(&self, caller: &Caller, id: SessionId, until: &[State], timeout: Duration) -> Result<(Arc<Session>, bool), Error> {
        let deadline = self.clock().now() + timeout.min(MAX_WAIT);
        // Before a bell is hung up for it: whoever asks for what is not there leaves nothing behind.
        self.get(caller, id).await?;
        let mut bell = self.0.board.subscribe(Some(id));
        loop {
            bell.borrow_and_update();
            let session = self.get(caller, id).await?;
            let reached = until.contains(&session.state) || (until.is_empty() && session.state.is_final());
            if reached || session.state.is_final() {
                return Ok((session, reached));
            }
            tokio::select! {
                biased;
                rung = bell.changed() => if rung.is_err() { bell = self.0.board.subscribe(Some(id)) },
                () = self.0.drain.cancelled() => return Err(draining()),
                () = self.clock().sleep_until(deadline) => return Ok((session, false)),
            }
        }
    }

    /// A page of a session's events, oldest first.
    ///
    /// # Errors
    /// NOT_FOUND; a page token that is garbage.
    pub async fn events(&self, caller: &Caller, id: SessionId, size: u32, token: &str) -> Result<EventPage, Error> {
        self.get(caller, id).await?;
        let subject = tokens::subject(Some(id), &SessionFilter::default());
        let after = match token {
            "" => 0,
            token => self.0.tokens.read(token, subject, self.0.board.last()).map_err(|e| page_token(&e))?,
        };
        let size = page_size(size);
        let limit = u32::try_from(size + 1).unwrap_or(u32::MAX);
        let mut events = self.0.store.event_list(Some(id), after, limit).await.map_err(|e| broken(&e))?;
        if after > 0 {
            self.0.still_kept(after).await?;
        }
        let more = events.len() > size;
        events.truncate(size);
        let next_page_token = match events.last() {
            Some(last) if more => self.0.tokens.at(last.revision, subject),
            _ => String::new(),
        };
        Ok(EventPage { events: events.into_iter().map(Arc::new).collect(), next_page_token })
    }

    /// What is known about a session's machine, with a fresh look at its GPU when it runs.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub async fn diagnostics(&self, caller: &Caller, id: SessionId) -> Result<Diagnostics, Error> {
        let session = self.get(caller, id).await?;
        let instances = match self.0.board.live(id) {
            Some(live) => (*live.instances).clone(),
            None => self.0.store.instance_list(id).await.map_err(|e| broken(&e))?,
        };
        let now = self.clock().now();
        let open = !session.state.is_final();
        let (fresh_gpu, fresh_use) = match (session.state, &session.endpoint, session.provider()) {
            (State::Running, Some(endpoint), Some(provider)) => {
                let target = self.0.tools.target(&session, endpoint, provider, true);
                let gpu = self.fresh_gpu(&target, &session).await;
                // A machine that takes no login takes no second one either.
                let used = match &gpu {
                    Err((Some(_), text)) => Err(text.clone()),
                    Ok(_) | Err((None, _)) => self.fresh_use(&target, &session).await,
                };
                (Some(gpu.map_err(|(_, text)| text)), Some(used))
            }
            _ => (None, None),
        };
        Ok(Diagnostics {
            stage_since: session.stage_at,
            stage_deadline: stage_deadline(&session, &instances, &self.0.rules),
            uptime: session.running_at.map(|at| session.stopped_at.unwrap_or(now).since(at)),
            time_to_expiry: open.then(|| session.expires_at.since(now)),
            session,
            instances,
            fresh_gpu,
            fresh_use,
            at: now,
        })
    }

    /// What the GPU says now; an error names the failure of the login, when it was that.
    async fn fresh_gpu(&self, target: &ProbeTarget, session: &Session) -> Result<GpuReport, (Option<ProbeFailureKind>, String)> {
        let answer = self.0.tools.probe.probe(target).await;
        if let Some(attempt) = session.attempt().map(|a| a.number) {
            self.0.lifecycle.learnt(session.id, seen(attempt, &target.endpoint, &answer));
        }
        match answer {
            Ok(report) => match report.gpu {
                Some(GpuAnswer::Report(report)) => Ok(report),
                Some(GpuAnswer::Broken(text) | GpuAnswer::Silent(text)) => Err((None, text)),
                None => Err((None, "the GPU was not asked".to_owned())),
            },
            Err(failure) => Err((Some(failure.kind), worded(&failure))),
        }
    }

    async fn fresh_use(&self, target: &ProbeTarget, session: &Session) -> Result<Vec<Reading>, String> {
        let measured = self.0.tools.probe.measure(target).await.map_err(|failure| worded(&failure))?;
        Ok(idle::readings(&measured.activity, session.idle.provider_percent()))
    }

    /// A watch of one session or of all that match a filter. See `WatchSession` in the proto for the protocol.
    ///
    /// # Errors
    /// NOT_FOUND for an unknown session; a token that is garbage, of another watch or of another history.
    pub async fn watch(&self, caller: &Caller, request: WatchRequest) -> Result<BoxStream<'static, Result<WatchMessage, Error>>, Error> {
        let filter = scoped(caller, request.filter.clone())?;
        let subject = tokens::subject(request.session, &filter);
        let after = match &request.start {
            WatchStart::After(token) => Some(self.0.tokens.read(token, subject, self.0.board.last())),
            WatchStart::Snapshot { .. } | WatchStart::Now => None,
        };
        if let Some(id) = request.session
            && let Err(unknown) = self.get(caller, id).await
        {
            // After a database was replaced its sessions are unknown, and that it was says more.
            return Err(after.and_then(Result::err).filter(|e| e.code == Code::OutOfRange).unwrap_or(unknown));
        }
        let after = after.transpose()?;
        let bell = self.0.board.subscribe(request.session);
        let mut watcher = Watcher {
            of: self.clone(),
            session: request.session,
            filter,
            subject,
            cursor: after.unwrap_or_default(),
            told: BTreeMap::new(),
            pending: VecDeque::new(),
            phase: Phase::Live,
            bell,
            bookmark: request.bookmark.clamp(Duration::from_secs(5), Duration::from_secs(60)),
            last_word: self.clock().now(),
        };
        match request.start {
            WatchStart::Snapshot { ended_since } => watcher.snapshot(ended_since).await?,
            WatchStart::Now => {
                watcher.cursor = self.0.board.last();
                // So that who is cut off before the first event has a token to go on from.
                let mark = watcher.mark();
                watcher.pending.push_back(mark);
            }
            WatchStart::After(_) => {}
        }
        if let Some(id) = request.session {
            // Looked at after the cursor was set: what ends the session from here on is an event that the watch meets.
            let session = self.get(caller, id).await?;
            if session.state.is_final() && watcher.cursor >= session.revision {
                watcher.phase = Phase::Ending;
            }
        }
        Ok(stream::unfold(watcher, |mut watcher| async move { watcher.next().await.map(|message| (message, watcher)) }).boxed())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Events follow.
    Live,
    /// What is pending is the last.
    Ending,
    /// What is pending is the last, then the drain is told.
    Draining,
    /// Nothing follows.
    Over,
}

struct Watcher {
    of: Sessions,
    session: Option<SessionId>,
    filter: SessionFilter,
    subject: u64,
    cursor: i64,
    /// Sessions whose snapshot is newer than the cursor: their events up to there have been told by it.
    told: BTreeMap<SessionId, i64>,
    pending: VecDeque<WatchMessage>,
    phase: Phase,
    bell: watch::Receiver<i64>,
    bookmark: Duration,
    last_word: Time,
}

impl Watcher {
    async fn snapshot(&mut self, ended_since: Option<Time>) -> Result<(), Error> {
        let inner = Arc::clone(&self.of.0);
        let (live, revision) = match self.session {
            Some(id) => inner.board.snapshot_of(id),
            None => inner.board.snapshot(),
        };
        let mut spend_rate = Rate::ZERO;
        let mut shown: Vec<Arc<Session>> = match self.session {
            Some(id) => match live.into_iter().next() {
                Some(live) => {
                    spend_rate = live.at_risk();
                    vec![live.session]
                }
                None => inner.store.session_get(id).await.map_err(|e| broken(&e))?.map(Arc::new).into_iter().collect(),
            },
            None => {
                let wanted = |s: &Session| matches(&self.filter, s.request.consumer.as_str(), &Matchable::of(s));
                let open = |s: &Session| !s.state.is_final() || !self.filter.states.is_empty();
                let told: Vec<_> = live.into_iter().filter(|l| open(&l.session) && wanted(&l.session)).collect();
                spend_rate = told.iter().map(Live::at_risk).sum();
                told.into_iter().map(|l| l.session).collect()
            }
        };
        if self.session.is_none() {
            shown.extend(self.ended(ended_since, revision, &shown).await?);
        }
        self.cursor = revision;
        let mut counts: BTreeMap<State, usize> = BTreeMap::new();
        for session in shown {
            *counts.entry(session.state).or_default() += 1;
            if session.revision > revision {
                self.told.insert(session.id, session.revision);
            }
            self.pending.push_back(WatchMessage::Snapshot(session));
        }
        self.pending.push_back(WatchMessage::SnapshotEnd {
            resume_token: inner.tokens.at(revision, self.subject),
            revision,
            counts: counts.into_iter().collect(),
            spend_rate,
        });
        Ok(())
    }

    /// Ended sessions that belong into the snapshot.
    async fn ended(&self, since: Option<Time>, revision: i64, shown: &[Arc<Session>]) -> Result<Vec<Arc<Session>>, Error> {
        let final_states: Vec<State> = if self.filter.states.is_empty() {
            vec![State::Stopped, State::Failed]
        } else {
            self.filter.states.iter().copied().filter(|s| s.is_final()).collect()
        };
        if final_states.is_empty() || (since.is_none() && self.filter.states.is_empty()) {
            return Ok(Vec::new());
        }
        let known: BTreeSet<SessionId> = shown.iter().map(|s| s.id).collect();
        let mut query = SessionQuery {
            consumer: self.filter.consumer.clone(),
            provider: self.filter.provider.clone(),
            labels: self.filter.labels.clone(),
            limit: 500,
            ..SessionQuery::default()
        };
        let fits = |s: &Session| s.revision <= revision && !known.contains(&s.id) && final_states.contains(&s.state);
        let mut found = Vec::new();
        if let Some(since) = since {
            let ended = self.of.0.store.session_list_ended(query, since).await.map_err(|e| broken(&e))?;
            found.extend(ended.into_iter().filter(fits).map(Arc::new));
            return Ok(found);
        }
        query.states.clone_from(&final_states);
        loop {
            let page = self.of.0.store.session_list(query.clone(), |_, _| None).await.map_err(|e| broken(&e))?;
            let Some(last) = page.last() else { return Ok(found) };
            query.before = Some(last.id);
            found.extend(page.into_iter().filter(|s| fits(s)));
        }
    }

    async fn next(&mut self) -> Option<Result<WatchMessage, Error>> {
        loop {
            if let Some(message) = self.pending.pop_front() {
                self.last_word = self.of.clock().now();
                return Some(Ok(message));
            }
            match self.phase {
                Phase::Over => return None,
                Phase::Ending => {
                    self.phase = Phase::Over;
                    return None;
                }
                Phase::Draining => {
                    self.phase = Phase::Over;
                    return Some(Err(draining()));
                }
                Phase::Live => {}
            }
            // The bell is marked seen before reading: a ring between here and the read is never lost.
            self.bell.borrow_and_update();
            match self.read().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    self.phase = Phase::Over;
                    return Some(Err(error));
                }
            }
            // Nothing to tell up to the cursor, which has moved over what concerns others.
            self.rest().await;
        }
    }

    /// Waits for the bell, the time for a bookmark, or the drain.
    async fn rest(&mut self) {
        let inner = Arc::clone(&self.of.0);
        tokio::select! {
            biased;
            () = inner.drain.cancelled() => {
                // What is published by now is told before the end.
                if !matches!(self.read().await, Ok(false)) {
                    return;
                }
                let mark = self.mark();
                self.pending.push_back(mark);
                self.phase = Phase::Draining;
            }
            () = inner.tools.clock.sleep_until(self.last_word + self.bookmark) => {
                // The bell of one session is silent while others move on; the bookmark tells how far this watch has come.
                match self.read().await {
                    Ok(_) if self.pending.is_empty() && self.phase == Phase::Live => {
                        let mark = self.mark();
                        self.pending.push_back(mark);
                    }
                    // The next turn meets what was found, or the error again.
                    Ok(_) | Err(_) => {}
                }
            }
            // The bell comes last: one that never falls silent keeps nobody from a bookmark or from draining.
            rung = self.bell.changed() => if rung.is_err() { self.bell = inner.board.subscribe(self.session) },
        }
    }

    fn mark(&self) -> WatchMessage {
        WatchMessage::Bookmark { resume_token: self.of.0.tokens.at(self.cursor, self.subject), revision: self.cursor }
    }

    /// Moves the cursor over what has been published; true when it should be called again.
    async fn read(&mut self) -> Result<bool, Error> {
        let (events, reached) = match self.of.0.board.ahead(self.cursor, self.session, CHUNK) {
            Ahead::Events(events, reached) => (events, reached),
            Ahead::TooOld => self.read_table().await?,
        };
        let moved = reached > self.cursor;
        self.cursor = reached;
        for event in events {
            self.meet(event);
            if self.phase == Phase::Ending {
                break;
            }
        }
        Ok(moved)
    }

    /// What the ring no longer has: a page of events from the table, and how far it reaches.
    async fn read_table(&self) -> Result<(Vec<Arc<Event>>, i64), Error> {
        let inner = &self.of.0;
        // Not beyond what is published: a token for more would be of no known revision yet.
        let last = inner.board.last();
        let limit = u32::try_from(CHUNK).unwrap_or(256);
        let mut events = inner.store.event_list(self.session, self.cursor, limit).await.map_err(|e| broken(&e))?;
        inner.still_kept(self.cursor).await?;
        let full = events.len() >= CHUNK;
        events.retain(|event| event.revision <= last);
        let reached = events.last().filter(|_| full).map_or(last, |event| event.revision);
        Ok((events.into_iter().map(Arc::new).collect(), reached))
    }

    fn meet(&mut self, event: Arc<Event>) {
        let mine = match self.session {
            Some(id) => event.session_id == id,
            None => concerns(&self.filter, &event),
        };
        if !mine {
            return;
        }
        if self.session.is_some() && event.to_state.is_final() {
            self.phase = Phase::Ending;
        }
        if self.told.get(&event.session_id).is_some_and(|told| event.revision <= *told) {
            return;
        }
        self.pending.push_back(WatchMessage::Event { resume_token: self.of.0.tokens.at(event.revision, self.subject), event });
    }
}

/// A session that matched before *or* after the change is told, so that one that leaves is seen leaving.
fn concerns(filter: &SessionFilter, event: &Event) -> bool {
    let consumer = event.session.request.consumer.as_str();
    matches(filter, consumer, &Matchable::of(&event.session)) || event.before.as_ref().is_some_and(|before| matches(filter, consumer, before))
}

fn matches(filter: &SessionFilter, consumer: &str, seen: &Matchable) -> bool {
    filter.consumer.as_ref().is_none_or(|c| c.as_str() == consumer)
        && filter.provider.as_ref().is_none_or(|p| seen.provider.as_deref() == Some(p.as_str()))
        && (filter.states.is_empty() || filter.states.contains(&seen.state))
        && filter.labels.iter().all(|(key, value)| seen.labels.get(key) == Some(value))
}

fn visible(caller: &Caller, session: &Session) -> bool {
    caller.scope.as_ref().is_none_or(|scope| *scope == session.request.consumer)
}

/// The filter narrowed to what the caller may see.
fn scoped(caller: &Caller, mut filter: SessionFilter) -> Result<SessionFilter, Error> {
    if let Some(scope) = &caller.scope {
        if filter.consumer.as_ref().is_some_and(|asked| asked != scope) {
            return Err(Error::new(Code::NotFound, "CONSUMER_NOT_FOUND", "there is no such consumer for this token"));
        }
        filter.consumer = Some(scope.clone());
    }
    // Tokens belong to a filter, in whichever order its states were named.
    filter.states.sort_unstable();
    filter.states.dedup();
    Ok(filter)
}

fn read_list_token(token: &str, hash: u64) -> Result<SessionId, Error> {
    let garbage = || Error::field("page_token", "this is no token of ours: pass next_page_token as it came");
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).map_err(|_| garbage())?).map_err(|_| garbage())?;
    let (of, id) = text.strip_prefix(PageOf::Sessions.mark()).and_then(|rest| rest.split_once('.')).ok_or_else(garbage)?;
    if u64::from_str_radix(of, 16).ok() != Some(hash) {
        return Err(Error::field("page_token", "it belongs to another filter: keep the other fields as they were"));
    }
    id.parse().map_err(|_| garbage())
}

fn page_token(error: &Error) -> Error {
    let mut error = error.clone();
    for violation in &mut error.violations {
        "page_token".clone_into(&mut violation.field);
    }
    error
}

/// What a login, or none, says to the lifecycle.
fn seen(attempt: u8, endpoint: &SshEndpoint, answer: &Result<ProbeReport, ProbeFailure>) -> Input {
    let endpoint = endpoint.clone();
    match answer {
        Ok(report) => Input::Probed { attempt, endpoint, host_key: report.host_key.clone(), gpu: None, disk_free_gb: report.disk_free_gb },
        Err(failure) => Input::ProbeFailed { attempt, endpoint, kind: failure.kind, text: failure.text.clone() },
    }
}

fn worded(failure: &ProbeFailure) -> String {
    format!("{}: {}", failure.kind.word(), failure.text)
}

fn draining() -> Error {
    Error::new(Code::Unavailable, "SERVER_DRAINING", "the server is shutting down: resume with the last token at its successor")
        .retry(Duration::from_secs(2))
}

pub(super) fn broken(error: &crate::store::Error) -> Error {
    tracing::error!(%error, "reading the database failed");
    Error::internal("reading the database")
}

/// How many sessions are open at a provider.
pub(super) fn open_at(board: &Board, provider: &ProviderId) -> usize {
    board.snapshot().0.iter().filter(|l| !l.session.state.is_final() && l.session.provider() == Some(provider)).count()
}
