//! What can go wrong, read from the details of the server's statuses.

use crate::pb;
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Whose reasons are the server's own.
const DOMAIN: &str = "gpushopper";

/// Why a call, a watch or a wait failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused, or could not be reached.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The session that was waited for has ended, or is ending, and will not be RUNNING.
    #[error("session {} has ended: {}: {}", .0.session_id, .0.end_reason().as_str_name(), if .0.error.is_empty() { &.0.status_message } else { &.0.error })]
    Ended(Box<pb::Session>),
    /// The time for waiting is over.
    #[error("session {} is not there after {} s: it is {}", .session.session_id, .waited.as_secs(), .session.state().as_str_name())]
    TimedOut {
        /// The session as it is.
        session: Box<pb::Session>,
        /// How long was waited.
        waited: Duration,
    },
    /// Events are missing from a stream, also after it was resumed. This never happens unless a server or a proxy is broken.
    #[error("events are missing from the stream, also after it was resumed: sequence {got} of session {session_id} came after {told}")]
    Gap {
        /// Whose.
        session_id: String,
        /// The last that was told.
        told: i64,
        /// What came then.
        got: i64,
    },
    /// An argument makes no sense; the text says what is allowed.
    #[error("{0}")]
    Invalid(String),
    /// A key could not be saved.
    #[error("{path}: {source}")]
    KeyFile {
        /// Where.
        path: String,
        /// Why; `AlreadyExists` when there is a file already.
        source: std::io::Error,
    },
}

impl Error {
    /// What the server said, when it was the server.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The stable reason of the server's refusal, such as `NO_CAPACITY`; empty for everything else.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.refusal().map_or("", |r| &r.reason)
    }

    pub(crate) fn lost(why: impl Into<String>) -> Self {
        Status::unavailable(why).into()
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status.into()))
    }
}

/// A status of the server, with its details.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}{}{message}", if reason.is_empty() { code.description() } else { reason }, if message.is_empty() { "" } else { ": " })]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The stable reason, such as `NO_CAPACITY`; empty when the status does not come from the server itself (a lost connection, a proxy).
    pub reason: String,
    /// For people, with the next step.
    pub message: String,
    /// The variable parts of the message.
    pub metadata: BTreeMap<String, String>,
    /// Every wrong field of the request.
    pub violations: Vec<Violation>,
    /// How long the server asks to wait before the next try.
    pub retry_after: Option<Duration>,
}

/// One field of a request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its path as in the proto: `requirements.filter.min_cuda`.
    pub field: String,
    /// What is wrong with which value, and what is allowed.
    pub description: String,
}

impl Refusal {
    /// The server invites to try again. Calls and watches of this client have already tried until their time was up.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.code == Code::Unavailable
    }

    /// It may have failed between here and the server: every error of the server's own has a reason. Repeating a call that
    /// carries a request id, or one that only reads, is then safe.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let between = matches!(self.code, Code::Unknown | Code::Internal | Code::Aborted | Code::Cancelled | Code::DeadlineExceeded | Code::DataLoss);
        self.is_retryable() || (self.reason.is_empty() && between)
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN).cloned();
        let violations = details.bad_request().map(|b| b.field_violations.clone()).unwrap_or_default();
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            retry_after: details.retry_info().and_then(|r| r.retry_delay),
            violations: violations.into_iter().map(|v| Violation { field: v.field, description: v.description }).collect(),
            reason: info.as_ref().map(|i| i.reason.clone()).unwrap_or_default(),
            metadata: info.map(|i| i.metadata.into_iter().collect()).unwrap_or_default(),
        }
    }
}
