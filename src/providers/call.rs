//! What passes between an adapter and the link to its vendor: the call to be made, its complete answer, and the failure
//! before it is told whose it is. No I/O here.

use crate::domain::time::Look;
use crate::ports::{Certainty, ErrorKind};
use crate::providers::http::Tuning;
use crate::providers::words;
use reqwest::Method;
use std::time::Duration;

/// The most that an ordinary body may have, unpacked.
const BODY_CAP: usize = 4 * 1024 * 1024;
/// The most that a list of machines in one answer may have, unpacked: tens of thousands at one to two KB each.
const MACHINES_CAP: usize = 64 * 1024 * 1024;
/// The most that a list of offers may have, unpacked: an unfiltered one was seen at 70 MB.
const OFFERS_CAP: usize = 128 * 1024 * 1024;

/// One call to be made.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it is for, one of [`crate::providers::http::OPERATIONS`].
    pub operation: &'static str,
    /// Which rate lane it takes.
    pub lane: &'static str,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Vec<u8>>,
    pub(super) deadline: Option<Duration>,
    pub(super) cap: usize,
    pub(super) kind: CallKind,
    pub(super) past_breaker: bool,
    pub(super) hidden: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    /// May be repeated at will.
    Read,
    /// Sent once; repeating is the caller's decision.
    Write,
    /// Sent once, on a fresh connection, with a long wait for its turn.
    Launch,
}

impl Call {
    fn new(operation: &'static str, lane: &'static str, method: Method, path: String, kind: CallKind) -> Self {
        Self {
            operation,
            lane,
            method,
            path,
            query: Vec::new(),
            body: None,
            deadline: None,
            cap: BODY_CAP,
            kind,
            past_breaker: false,
            hidden: Vec::new(),
        }
    }

    /// A GET, repeated after throttles, server errors and broken connections.
    #[must_use]
    pub fn get(operation: &'static str, lane: &'static str, path: impl Into<String>) -> Self {
        Self::new(operation, lane, Method::GET, path.into(), CallKind::Read)
    }

    /// What the words of a refusal must not repeat, not even in part: vendors tell what they were sent.
    #[must_use]
    pub fn hiding(mut self, secrets: Vec<String>) -> Self {
        self.hidden = secrets;
        self
    }

    /// Something that only reads, or may be said twice without harm, but is no GET; repeated like one.
    #[must_use]
    pub fn repeatable(operation: &'static str, lane: &'static str, method: Method, path: impl Into<String>) -> Self {
        Self::new(operation, lane, method, path.into(), CallKind::Read)
    }

    /// Something that changes things: sent once.
    #[must_use]
    pub fn write(operation: &'static str, lane: &'static str, method: Method, path: impl Into<String>) -> Self {
        Self::new(operation, lane, method, path.into(), CallKind::Write)
    }

    /// The creation of a machine: sent once, over a fresh connection.
    #[must_use]
    pub fn launch(lane: &'static str, method: Method, path: impl Into<String>) -> Self {
        Self::new("launch", lane, method, path.into(), CallKind::Launch)
    }

    /// With a query parameter.
    #[must_use]
    pub fn with_query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// With a JSON body.
    #[must_use]
    pub fn with_json(mut self, body: Vec<u8>) -> Self {
        self.body = Some(body);
        self
    }

    /// As a list of offers: with its deadline and size.
    #[must_use]
    pub fn with_offers(mut self, tuning: &Tuning) -> Self {
        self.deadline = Some(tuning.offers_deadline);
        self.cap = OFFERS_CAP;
        self
    }

    /// As a list of all machines in one answer: with its size.
    #[must_use]
    pub fn with_machines(mut self) -> Self {
        self.cap = MACHINES_CAP;
        self
    }

    /// Goes out although the breaker is open.
    #[must_use]
    pub fn past_breaker(mut self) -> Self {
        self.past_breaker = true;
        self
    }
}

/// A complete answer of any status.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body, unpacked; of one that was taken while it arrived, the rest.
    pub body: Vec<u8>,
    /// When the call was sent and the answer complete.
    pub look: Look,
    /// How long the vendor asks us to wait.
    pub retry_after: Option<Duration>,
}

impl Reply {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A short excerpt of the body for messages, cleaned.
    #[must_use]
    pub fn excerpt(&self) -> String {
        words::clean(&String::from_utf8_lossy(&self.body[..self.body.len().min(2000)]), &[])
    }
}

/// A failure before it is told whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind.
    pub kind: ErrorKind,
    /// Whether it may have happened.
    pub certainty: Certainty,
    /// In words; cleaned when it becomes an error.
    pub text: String,
    /// How long the vendor asks us to wait.
    pub retry_after: Option<Duration>,
    /// Whether a read may be tried again at once.
    pub again: bool,
}

impl Fault {
    /// It certainly did not happen.
    #[must_use]
    pub fn refused(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, certainty: Certainty::DidNotHappen, text: text.into(), retry_after: None, again: false }
    }

    /// It may have happened.
    #[must_use]
    pub fn maybe(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, certainty: Certainty::MayHaveHappened, text: text.into(), retry_after: None, again: false }
    }

    /// The answer made no sense; what was asked for may have happened.
    #[must_use]
    pub fn garbled(text: impl Into<String>) -> Self {
        Self::maybe(ErrorKind::Garbled, text)
    }

    /// What a status means when the body says nothing that we know. `said` = the vendor's words.
    #[must_use]
    pub fn by_status(reply: &Reply, said: &str) -> Self {
        let said = if said.is_empty() { reply.excerpt() } else { said.to_owned() };
        let text = format!("HTTP {}: {said}", reply.status);
        match reply.status {
            401 | 403 => Self::refused(ErrorKind::Auth, said),
            402 => Self::refused(ErrorKind::Credit, text),
            404 | 410 => Self::refused(ErrorKind::NotFound, text),
            408 => Self { again: true, ..Self::maybe(ErrorKind::Unavailable, text) },
            429 => Self { retry_after: reply.retry_after, again: true, ..Self::refused(ErrorKind::RateLimited, text) },
            400..=499 => Self::refused(ErrorKind::Invalid, text),
            500..=599 => Self { retry_after: reply.retry_after, again: true, ..Self::maybe(ErrorKind::Unavailable, text) },
            200..=299 => Self::garbled(format!("an answer that makes no sense: {said}")),
            _ => Self::maybe(ErrorKind::Unavailable, format!("unexpected {text}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Time;

    fn reply(status: u16) -> Reply {
        let at = Time::from_millis(0);
        Reply { status, body: b"words".to_vec(), look: Look { sent: at, answered: at }, retry_after: None }
    }

    #[test]
    fn statuses_have_a_kind_and_a_certainty() {
        use Certainty::{DidNotHappen as No, MayHaveHappened as Maybe};
        for (status, kind, certainty) in [
            (200, ErrorKind::Garbled, Maybe),
            (302, ErrorKind::Unavailable, Maybe),
            (400, ErrorKind::Invalid, No),
            (401, ErrorKind::Auth, No),
            (402, ErrorKind::Credit, No),
            (403, ErrorKind::Auth, No),
            (404, ErrorKind::NotFound, No),
            (408, ErrorKind::Unavailable, Maybe),
            (422, ErrorKind::Invalid, No),
            (429, ErrorKind::RateLimited, No),
            (500, ErrorKind::Unavailable, Maybe),
            (503, ErrorKind::Unavailable, Maybe),
        ] {
            let fault = Fault::by_status(&reply(status), "");
            assert_eq!((fault.kind, fault.certainty), (kind, certainty), "{status}");
            assert!(fault.text.contains("words"));
        }
    }
}
