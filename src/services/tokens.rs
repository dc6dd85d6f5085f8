//! Resume tokens of watches: opaque base64url text holding timeline, revision and a hash of what is watched.
//!
//! Each start of the server opens a *timeline*: a random id and the first revision it may write. A token is valid when
//! its timeline is known and its revision lies inside it; otherwise the database is not the one that the token was made
//! from (a restored backup).

use crate::domain::ids::SessionId;
use crate::services::api::SessionFilter;
use crate::services::error::{Code, Error};
use crate::services::inventory::hash_of;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::Arc;

pub use crate::store::Timeline;

/// A list with pages. Each has page tokens of its own form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOf {
    /// Offers.
    Offers,
    /// Sessions.
    Sessions,
    /// A session's events: their tokens are those of its watch.
    Events,
    /// Ledger entries.
    Ledger,
    /// Audit entries.
    Audit,
    /// What launches taught.
    Health,
}

impl PageOf {
    /// How a token's text begins, below its base64.
    pub(super) const fn mark(self) -> &'static str {
        match self {
            Self::Offers => "o1.",
            Self::Sessions => "s1.",
            Self::Events => "\u{1}",
            Self::Ledger => "l2.",
            Self::Audit => "a1.",
            Self::Health => "h1.",
        }
    }

    /// Whether a token is one of this list's, by its form alone: the list itself knows whether it fits the query.
    #[must_use]
    pub fn has_form(self, token: &str) -> bool {
        URL_SAFE_NO_PAD.decode(token).is_ok_and(|bytes| bytes.starts_with(self.mark().as_bytes()))
    }
}

/// Makes and reads tokens. The last timeline is the present one.
#[derive(Clone, Debug)]
pub struct Tokens {
    timelines: Arc<Vec<Timeline>>,
}

/// What a watch is about, hashed.
#[must_use]
pub fn subject(session: Option<SessionId>, filter: &SessionFilter) -> u64 {
    match session {
        Some(id) => hash_of(&format!("session {id}")),
        None => hash_of(&format!("filter {filter:?}")),
    }
}

impl Tokens {
    /// All timelines of this database in the order of their starts; the last is the present one.
    #[must_use]
    pub fn new(timelines: Vec<Timeline>) -> Self {
        Self { timelines: Arc::new(timelines) }
    }

    /// A token that resumes strictly after `revision`.
    #[must_use]
    pub fn at(&self, revision: i64, subject: u64) -> String {
        let timeline = self.timelines.iter().rev().find(|t| t.first_revision <= revision + 1).map_or(0, |t| t.id);
        let mut bytes = Vec::with_capacity(25);
        bytes.push(1);
        bytes.extend_from_slice(&timeline.to_be_bytes());
        bytes.extend_from_slice(&revision.to_be_bytes());
        bytes.extend_from_slice(&subject.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The revision that a token resumes after.
    ///
    /// # Errors
    /// Garbage or another subject (INVALID_ARGUMENT); a token of another database (OUT_OF_RANGE, `WATCH_STORE_REPLACED`).
    pub fn read(&self, token: &str, of: u64, last: i64) -> Result<i64, Error> {
        let garbage = || Error::field("resume_token", "this is no token of ours: pass resume_token as it came");
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| garbage())?;
        let take = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
        let (Some(timeline), Some(revision), Some(subject)) = (take(1), take(9), take(17)) else { return Err(garbage()) };
        if bytes.len() != 25 || bytes[0] != 1 {
            return Err(garbage());
        }
        let revision = revision.cast_signed();
        if subject != of {
            return Err(Error::field("resume_token", "it belongs to another watch: keep session and filter as they were, or start afresh"));
        }
        let position = self.timelines.iter().position(|t| t.id == timeline);
        let inside = position.is_some_and(|at| {
            let until = self.timelines.get(at + 1).map_or(last, |next| next.first_revision - 1);
            revision >= self.timelines[at].first_revision - 1 && revision <= until
        });
        if !inside {
            return Err(Error::new(
                Code::OutOfRange,
                "WATCH_STORE_REPLACED",
                "the token comes from another history of this database (a restored backup?): start afresh with a snapshot",
            ));
        }
        Ok(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_hold_within_their_history_only() {
        let line = |id, first_revision| Timeline { id, first_revision, opened_at: crate::domain::time::Time::default() };
        let old = line(7, 1);
        let tokens = Tokens::new(vec![old, line(8, 11)]);
        for revision in [0, 5, 10, 11, 15] {
            let token = tokens.at(revision, 3);
            assert_eq!(tokens.read(&token, 3, 15), Ok(revision), "{revision}");
            assert_eq!(tokens.read(&token, 4, 15).unwrap_err().code, Code::InvalidArgument);
        }
        // A restored backup: the same first timeline, but shorter, and another second one.
        let restored = Tokens::new(vec![old, line(9, 6)]);
        assert_eq!(restored.read(&tokens.at(4, 3), 3, 8), Ok(4));
        for revision in [8, 12] {
            assert_eq!(restored.read(&tokens.at(revision, 3), 3, 8).unwrap_err().reason, "WATCH_STORE_REPLACED", "{revision}");
        }
        assert_eq!(tokens.read("nonsense", 3, 15).unwrap_err().code, Code::InvalidArgument);
    }
}
