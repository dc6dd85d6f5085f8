//! A watch that survives what happens to connections: it resumes after the last token it was given, proves by the numbers
//! of the events that nothing is missing and nothing comes twice, and begins anew where the server no longer keeps what came
//! after the token.

use crate::client::Client;
use crate::error::{Error, Refusal};
use crate::pb;
use crate::pb::session::State;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Streaming};

const BOOKMARK: Duration = Duration::from_secs(15);
/// A silence in which two bookmarks should have come, and this much longer: the connection is lost.
const LATE: Duration = Duration::from_secs(5);
/// How often a gap is resumed over before it is told.
const GAPS: u32 = 3;
/// Streams that are opened in a row after one was lost on which the session's end was told already.
const AFTER_END: u32 = 3;

/// Where a watch begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WatchStart {
    /// With what is now.
    #[default]
    Snapshot,
    /// With what happens next; no snapshot is told.
    Now,
    /// Strictly after this token, of an earlier message or a create answer; an empty one is none.
    After(String),
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// All sessions at the beginning; it is told once, when it is complete.
    Snapshot(Vec<pb::Session>, pb::SnapshotEnd),
    /// Something happened. Each event comes once, in order.
    Event(Box<pb::SessionEvent>),
    /// Nothing happened for a while.
    Bookmark(pb::Bookmark),
    /// The server no longer keeps what came after the last token (the reason is `WATCH_COMPACTED` or `WATCH_STORE_REPLACED`): a
    /// fresh snapshot follows, and what happened between may be missing.
    Reset(String),
}

/// What is watched.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    One(String),
    All(Box<pb::SessionFilter>),
}

impl Subject {
    /// No session can leave and come back, so that the numbers of its events are without gaps.
    fn is_whole(&self) -> bool {
        match self {
            Self::One(_) => true,
            Self::All(filter) => filter.provider.is_none() && filter.states.is_empty() && filter.labels.is_empty(),
        }
    }
}

enum Stream {
    One(Streaming<pb::WatchSessionResponse>),
    All(Streaming<pb::WatchSessionsResponse>),
}

/// One message, of either kind of watch.
enum Heard {
    Snapshot(Box<pb::Session>),
    SnapshotEnd(pb::SnapshotEnd),
    Event(Box<pb::SessionEvent>),
    Bookmark(pb::Bookmark),
    Nothing,
}

/// Numbers of what was told, to see repeats and gaps.
#[derive(Default)]
struct Ledger {
    revision: i64,
    sequences: HashMap<String, i64>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Next,
    Repeat,
    Gap { told: i64 },
}

impl Ledger {
    fn judge(&self, event: &pb::SessionEvent, whole: bool) -> Verdict {
        let last = self.sequences.get(&event.session_id).copied();
        match last {
            _ if event.revision <= self.revision => Verdict::Repeat,
            Some(last) if event.sequence <= last => Verdict::Repeat,
            Some(last) if whole && event.sequence != last + 1 => Verdict::Gap { told: last },
            _ => Verdict::Next,
        }
    }

    fn told(&mut self, event: &pb::SessionEvent) {
        self.revision = event.revision;
        // After its end almost nothing follows: it need not be remembered for that.
        if is_over(event.to_state()) {
            self.sequences.remove(&event.session_id);
        } else {
            self.sequences.insert(event.session_id.clone(), event.sequence);
        }
    }
}

fn is_over(state: State) -> bool {
    matches!(state, State::Stopped | State::Failed)
}

/// Is told of lost connections.
type OnLost = Box<dyn FnMut(&Refusal, Duration) + Send>;

/// A running watch, which its methods change before the first message. Dropping the future of [`Watch::next`] loses nothing.
pub struct Watch {
    client: Client,
    subject: Subject,
    token: Option<String>,
    hide_snapshot: bool,
    stream: Option<Stream>,
    /// Held back until it is complete: a connection lost on the way leaves no half of a snapshot behind.
    snapshot: Vec<pb::Session>,
    ledger: Ledger,
    wait_until: Option<Instant>,
    ended_since: Option<SystemTime>,
    bookmark: Duration,
    give_up: Option<Duration>,
    on_lost: Option<OnLost>,
    last_word: Instant,
    tries: u32,
    gaps: u32,
    heard_something: bool,
    ended: bool,
    over: bool,
}

impl Watch {
    pub(crate) fn new(client: Client, subject: Subject, start: WatchStart) -> Self {
        // It begins with a snapshot that is not told: the server would say nothing, and so give no token, before the first event.
        let hide_snapshot = start == WatchStart::Now;
        let token = match start {
            WatchStart::After(token) if !token.is_empty() => Some(token),
            _ => None,
        };
        Self {
            client,
            subject,
            token,
            hide_snapshot,
            stream: None,
            snapshot: Vec::new(),
            ledger: Ledger::default(),
            wait_until: None,
            ended_since: None,
            bookmark: BOOKMARK,
            give_up: None,
            on_lost: None,
            last_word: Instant::now(),
            tries: 0,
            gaps: 0,
            heard_something: false,
            ended: false,
            over: false,
        }
    }

    /// Has sessions in the snapshot of many, too, that ended since then; also in one that follows a [`Message::Reset`]. Default: open ones only.
    #[must_use]
    pub fn ended_since(mut self, time: SystemTime) -> Self {
        self.ended_since = Some(time);
        self
    }

    /// Has a bookmark after this much silence, 5 to 60 seconds. Twice as much silence, and 5 seconds more, is a lost connection. Default: 15 seconds.
    #[must_use]
    pub fn bookmarks_after(mut self, silence: Duration) -> Self {
        self.bookmark = silence;
        self
    }

    /// Tells why each further stream is opened, and how long the wait before it is.
    #[must_use]
    pub fn on_lost(mut self, told: impl FnMut(&Refusal, Duration) + Send + 'static) -> Self {
        self.on_lost = Some(Box::new(told));
        self
    }

    /// Gives up when the server is away for so long. Default: never.
    #[must_use]
    pub fn give_up_after(mut self, away: Duration) -> Self {
        self.give_up = Some(away);
        self
    }

    /// The token after which this watch would resume: keep it to go on in another process. Empty before the first.
    #[must_use]
    pub fn resume_token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// What comes next; `None` after the last event of a watched session.
    ///
    /// # Errors
    /// [`Error::Refused`] for good; [`Error::Gap`].
    pub async fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            if self.over {
                return Ok(None);
            }
            if let Some(until) = self.wait_until {
                sleep_until(until).await;
                self.wait_until = None;
            }
            match self.hear().await {
                Ok(Some((heard, token))) => {
                    self.heard_something = true;
                    self.last_word = Instant::now();
                    if let Some(message) = self.take(heard, token)? {
                        return Ok(Some(message));
                    }
                }
                Ok(None) => match self.is_over().await {
                    Ok(true) => self.over = true,
                    Ok(false) => self.lose(Error::lost("the server ended the stream early"))?,
                    Err(error) => self.lose(error)?,
                },
                Err(Error::Refused(refusal))
                    if self.token.is_some() && !self.told_end() && matches!(refusal.reason.as_str(), "WATCH_COMPACTED" | "WATCH_STORE_REPLACED") =>
                {
                    self.disconnect();
                    self.token = None;
                    self.ledger = Ledger::default();
                    let wait = self.client.patience.wait(self.tries, refusal.retry_after);
                    self.again(&refusal, wait);
                    return Ok(Some(Message::Reset(refusal.reason)));
                }
                Err(error) => self.lose(error)?,
            }
        }
    }

    /// Whether the one session's end was told. The watch of many never ends by itself.
    fn told_end(&self) -> bool {
        self.ended && matches!(self.subject, Subject::One(_))
    }

    /// Whether a stream that ended in order was the last. Where the end was told before the token, nothing tells it again, so it is asked for.
    async fn is_over(&mut self) -> Result<bool, Error> {
        let Subject::One(session_id) = &self.subject else { return Ok(false) };
        if self.ended || self.heard_something || self.token.is_none() {
            return Ok(self.ended);
        }
        let request = pb::GetSessionRequest { session_id: session_id.clone() };
        let answer = self.client.get_session(request).await?;
        Ok(answer.session.is_some_and(|session| is_over(session.state())))
    }

    fn take(&mut self, heard: Heard, token: String) -> Result<Option<Message>, Error> {
        let message = match heard {
            Heard::Nothing => None,
            Heard::Snapshot(session) => {
                self.snapshot.push(*session);
                return Ok(None);
            }
            Heard::SnapshotEnd(end) => {
                let sessions = std::mem::take(&mut self.snapshot);
                self.ended = sessions.iter().any(|session| is_over(session.state()));
                self.ledger.sequences.extend(sessions.iter().map(|s| (s.session_id.clone(), s.sequence)));
                self.ledger.revision = self.ledger.revision.max(end.revision);
                (!std::mem::take(&mut self.hide_snapshot)).then_some(Message::Snapshot(sessions, end))
            }
            Heard::Bookmark(mark) => {
                self.tries = 0;
                self.ledger.revision = self.ledger.revision.max(mark.revision);
                Some(Message::Bookmark(mark))
            }
            Heard::Event(event) => match self.ledger.judge(&event, self.subject.is_whole()) {
                Verdict::Repeat => return Ok(None),
                Verdict::Gap { told } => {
                    self.gaps += 1;
                    if self.gaps > GAPS {
                        return Err(Error::Gap { session_id: event.session_id, told, got: event.sequence });
                    }
                    self.lose(Error::lost("an event is missing from the stream"))?;
                    return Ok(None);
                }
                Verdict::Next => {
                    self.ledger.told(&event);
                    self.gaps = 0;
                    self.tries = 0;
                    self.ended = is_over(event.to_state());
                    Some(Message::Event(event))
                }
            },
        };
        if !token.is_empty() {
            self.token = Some(token);
        }
        Ok(message)
    }

    async fn hear(&mut self) -> Result<Option<(Heard, String)>, Error> {
        let limit = self.bookmark.saturating_mul(2) + LATE;
        if self.stream.is_none() {
            self.stream = Some(silence(limit, self.open()).await?);
        }
        match &mut self.stream {
            Some(Stream::One(stream)) => {
                use pb::watch_session_response::Message as Wire;
                let Some(answer) = silence(limit, async { Ok(stream.message().await?) }).await? else { return Ok(None) };
                let heard = match answer.message {
                    Some(Wire::Snapshot(session)) => Heard::Snapshot(Box::new(session)),
                    Some(Wire::SnapshotEnd(end)) => Heard::SnapshotEnd(end),
                    Some(Wire::Event(event)) => Heard::Event(Box::new(event)),
                    Some(Wire::Bookmark(mark)) => Heard::Bookmark(mark),
                    None => Heard::Nothing,
                };
                Ok(Some((heard, answer.resume_token)))
            }
            Some(Stream::All(stream)) => {
                use pb::watch_sessions_response::Message as Wire;
                let Some(answer) = silence(limit, async { Ok(stream.message().await?) }).await? else { return Ok(None) };
                let heard = match answer.message {
                    Some(Wire::Snapshot(session)) => Heard::Snapshot(Box::new(session)),
                    Some(Wire::SnapshotEnd(end)) => Heard::SnapshotEnd(end),
                    Some(Wire::Event(event)) => Heard::Event(Box::new(event)),
                    Some(Wire::Bookmark(mark)) => Heard::Bookmark(mark),
                    None => Heard::Nothing,
                };
                Ok(Some((heard, answer.resume_token)))
            }
            None => Ok(None),
        }
    }

    async fn open(&mut self) -> Result<Stream, Error> {
        let bookmark_interval = prost_types::Duration::try_from(self.bookmark).ok();
        let mut sessions = self.client.sessions();
        let token = self.token.clone();
        match &self.subject {
            Subject::One(id) => {
                let start = token.map(pb::watch_session_request::Start::ResumeToken);
                let request = pb::WatchSessionRequest { session_id: id.clone(), start, bookmark_interval };
                Ok(Stream::One(sessions.watch_session(request).await?.into_inner()))
            }
            Subject::All(filter) => {
                use pb::watch_sessions_request::Start;
                let since = self.ended_since.filter(|_| !self.hide_snapshot).map(|time| Start::EndedSince(time.into()));
                let start = token.map(Start::ResumeToken).or(since);
                let request = pb::WatchSessionsRequest { filter: Some((**filter).clone()), start, bookmark_interval };
                Ok(Stream::All(sessions.watch_sessions(request).await?.into_inner()))
            }
        }
    }

    fn disconnect(&mut self) {
        self.stream = None;
        self.snapshot.clear();
        self.heard_something = false;
    }

    /// Plans the next try, or says why there is none. After the session's end that is no error: what may still follow it is not worth
    /// waiting for a server that has gone for good.
    fn lose(&mut self, error: Error) -> Result<(), Error> {
        self.disconnect();
        let told_end = self.told_end();
        let refusal = error.refusal().filter(|r| is_resumable(r) && !(told_end && self.tries >= AFTER_END));
        let next = refusal.map(|refusal| (refusal, self.client.patience.wait(self.tries, refusal.retry_after)));
        let next = next.filter(|(_, wait)| self.give_up.is_none_or(|away| self.last_word.elapsed() + *wait <= away));
        let Some((refusal, wait)) = next else {
            self.over = told_end;
            return if told_end { Ok(()) } else { Err(error) };
        };
        self.again(refusal, wait);
        Ok(())
    }

    fn again(&mut self, why: &Refusal, wait: Duration) {
        if let Some(told) = &mut self.on_lost {
            told(why, wait);
        }
        self.tries += 1;
        self.wait_until = Some(Instant::now() + wait);
    }
}

/// Whether a further stream may help: the connection broke, the server is away, or it asks to come back later.
fn is_resumable(refusal: &Refusal) -> bool {
    refusal.is_transient() || (refusal.code == Code::ResourceExhausted && refusal.retry_after.is_some())
}

/// The server promises a bookmark: a longer silence is a lost connection.
async fn silence<T>(limit: Duration, word: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(limit, word).await.unwrap_or_else(|_| {
        let message = format!("not a word for {} s: the connection is lost", limit.as_secs());
        Err(Error::from(tonic::Status::new(Code::Unavailable, message)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(session: &str, revision: i64, sequence: i64) -> pb::SessionEvent {
        pb::SessionEvent { session_id: session.to_owned(), revision, sequence, ..Default::default() }
    }

    #[test]
    fn repeats_and_gaps_are_seen() {
        let mut ledger = Ledger::default();
        for next in [event("a", 1, 1), event("b", 2, 1), event("a", 3, 2)] {
            assert_eq!(ledger.judge(&next, true), Verdict::Next);
            ledger.told(&next);
        }
        assert_eq!(ledger.judge(&event("a", 3, 2), true), Verdict::Repeat);
        assert_eq!(ledger.judge(&event("b", 2, 1), true), Verdict::Repeat);
        assert_eq!(ledger.judge(&event("a", 5, 4), true), Verdict::Gap { told: 2 });
        assert_eq!(ledger.judge(&event("a", 5, 4), false), Verdict::Next);
        assert_eq!(ledger.judge(&event("c", 5, 7), true), Verdict::Next);
    }
}
