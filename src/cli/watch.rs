//! A watch that survives what happens to connections: it resumes after the last token it was given, waits longer
//! each time nobody answers, and begins anew when the server no longer keeps what came after the token.

use crate::cli::client::Clients;
use crate::cli::failure::{Exit, Failure};
use crate::cli::json::Message;
use crate::domain::backoff::doubling;
use crate::domain::time::Time;
use crate::grpc::pb;
use std::time::Duration;
use tonic::Streaming;

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Failures in a row before giving up: about two minutes without a server.
const PATIENCE: u32 = 16;

/// What is watched.
#[derive(Clone, Debug)]
pub enum Subject {
    /// One session, until its end.
    One(String),
    /// All sessions that match.
    All {
        /// Which.
        filter: pb::SessionFilter,
        /// Those that ended since then are told at the beginning, too.
        ended_since: Option<Time>,
    },
}

/// Where a watch begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With what is now.
    #[default]
    Snapshot,
    /// With the next event.
    Now,
    /// After this token.
    After(String),
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A session as it stands, at the beginning.
    Snapshot(Box<pb::Session>),
    /// The beginning is over.
    SnapshotEnd(pb::SnapshotEnd),
    /// Something happened.
    Event(Box<pb::SessionEvent>),
    /// Nothing happened.
    Bookmark(pb::Bookmark),
    /// The connection is lost; the next call waits this long and tries again.
    Lost {
        /// Why.
        why: String,
        /// How long the wait is.
        wait: Duration,
    },
    /// The server no longer keeps what came after the last token: the watch begins anew, and something may be missing.
    Anew,
}

enum Stream {
    One(Streaming<pb::WatchSessionResponse>),
    All(Streaming<pb::WatchSessionsResponse>),
}

/// One message, of either kind of watch.
struct Heard {
    told: Option<Told>,
    json: Message,
    token: String,
}

/// A running watch.
pub struct Watch {
    clients: Clients,
    subject: Subject,
    start: Start,
    stream: Option<Stream>,
    wait: Option<Duration>,
    tries: u32,
    ended: bool,
    last: Option<Message>,
}

/// Hears one message of a stream: the two kinds of watch differ by name only.
macro_rules! heard {
    ($stream:ident, $answer:ident, $module:ident) => {{
        use pb::$module::Message as Wire;
        let Some(message) = $stream.message().await? else { return Ok(None) };
        let json = Message::of(stringify!($answer), &message)?;
        let told = match message.message {
            Some(Wire::Snapshot(session)) => Some(Told::Snapshot(Box::new(session))),
            Some(Wire::SnapshotEnd(end)) => Some(Told::SnapshotEnd(end)),
            Some(Wire::Event(event)) => Some(Told::Event(Box::new(pb::read(&event)?))),
            Some(Wire::Bookmark(mark)) => Some(Told::Bookmark(mark)),
            None => None,
        };
        Ok(Some(Heard { told, json, token: message.resume_token }))
    }};
}

impl Watch {
    /// A watch; it connects when it is first asked.
    #[must_use]
    pub fn new(clients: Clients, subject: Subject, start: Start) -> Self {
        let start = if start == Start::After(String::new()) { Start::Snapshot } else { start };
        Self { clients, subject, start, stream: None, wait: None, tries: 0, ended: false, last: None }
    }

    /// The token after which this watch would resume, once it has one.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        match &self.start {
            Start::After(token) => Some(token),
            Start::Snapshot | Start::Now => None,
        }
    }

    /// The server's last message as it came.
    #[must_use]
    pub const fn message(&self) -> Option<&Message> {
        self.last.as_ref()
    }

    /// What comes next; `None` after the last event of a watched session. Dropping the future between two messages
    /// loses nothing.
    ///
    /// # Errors
    /// What the server refuses for good, or that it stayed away too long.
    pub async fn next(&mut self) -> Result<Option<Told>, Failure> {
        loop {
            if let Some(wait) = self.wait {
                tokio::time::sleep(wait).await;
                self.wait = None;
            }
            match self.hear().await {
                Ok(Some(heard)) => {
                    self.tries = 0;
                    if !heard.token.is_empty() {
                        self.start = Start::After(heard.token);
                    }
                    self.last = Some(heard.json);
                    let Some(told) = heard.told else { continue };
                    self.remember_end(&told);
                    return Ok(Some(told));
                }
                // Only a session's own watch ends by itself, and only after its end.
                Ok(None) if self.ended => return Ok(None),
                Ok(None) => return self.lost("the server ended the stream early".to_owned(), None).map(Some),
                Err(failure) if failure.transient => return self.lost(failure.message.clone(), failure.retry_after).map(Some),
                Err(failure) if matches!(failure.reason.as_str(), "WATCH_COMPACTED" | "WATCH_STORE_REPLACED") && self.token().is_some() => {
                    self.stream = None;
                    self.start = Start::Snapshot;
                    return Ok(Some(Told::Anew));
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn hear(&mut self) -> Result<Option<Heard>, Failure> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = self.open().await?;
                self.stream.insert(stream)
            }
        };
        match stream {
            Stream::One(stream) => heard!(stream, WatchSessionResponse, watch_session_response),
            Stream::All(stream) => heard!(stream, WatchSessionsResponse, watch_sessions_response),
        }
    }

    async fn open(&mut self) -> Result<Stream, Failure> {
        match &self.subject {
            Subject::One(id) => {
                use pb::watch_session_request::Start as Wire;
                let start = match &self.start {
                    Start::Snapshot => None,
                    Start::Now => Some(Wire::FromNow(true)),
                    Start::After(token) => Some(Wire::ResumeToken(token.clone())),
                };
                let request = pb::WatchSessionRequest { session_id: id.clone(), start, bookmark_interval: None };
                Ok(Stream::One(self.clients.sessions.watch_session(request).await?.into_inner()))
            }
            Subject::All { filter, ended_since } => {
                use pb::watch_sessions_request::Start as Wire;
                let start = match &self.start {
                    Start::Snapshot => ended_since.map(|at| Wire::EndedSince(crate::cli::values::timestamp(at))),
                    Start::Now => Some(Wire::FromNow(true)),
                    Start::After(token) => Some(Wire::ResumeToken(token.clone())),
                };
                let request = pb::WatchSessionsRequest { filter: Some(filter.clone()), start, bookmark_interval: None };
                Ok(Stream::All(self.clients.sessions.watch_sessions(request).await?.into_inner()))
            }
        }
    }

    fn lost(&mut self, why: String, asked: Option<Duration>) -> Result<Told, Failure> {
        self.stream = None;
        self.tries += 1;
        if self.tries > PATIENCE {
            let mut failure = Failure::new(Exit::Unreachable, "WATCH_LOST", format!("the watch is lost: {why}"));
            if let Some(token) = self.token() {
                failure = failure.hint(format!("resume it with --resume {token}"));
            }
            return Err(failure);
        }
        let wait = asked.unwrap_or_default().max(doubling(FIRST_WAIT, LONGEST_WAIT, self.tries)).min(LONGEST_WAIT);
        self.wait = Some(wait);
        Ok(Told::Lost { why, wait })
    }

    fn remember_end(&mut self, told: &Told) {
        let state = match told {
            Told::Snapshot(session) => session.state,
            Told::Event(event) => event.to_state,
            _ => return,
        };
        self.ended = matches!(self.subject, Subject::One(_)) && is_over(state);
    }
}

/// Nothing follows this state.
#[must_use]
pub fn is_over(state: i32) -> bool {
    matches!(pb::session::State::try_from(state), Ok(pb::session::State::Stopped | pb::session::State::Failed))
}
