//! What can go wrong for a caller: one error type, few codes, chosen by the caller's next move.
//!
//! `grpc/status.rs` turns it into a `google.rpc.Status`, `http/json.rs` into the JSON error body; nobody else does.

use std::collections::BTreeMap;
use std::time::Duration;

/// What the caller should do next decides the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Correct the request.
    InvalidArgument,
    /// A value lies beyond a limit: choose another one.
    OutOfRange,
    /// Say who you are.
    Unauthenticated,
    /// The caller's role does not allow it.
    PermissionDenied,
    /// There is no such thing, or it is not yours.
    NotFound,
    /// It exists already.
    AlreadyExists,
    /// The thing's state forbids it now.
    FailedPrecondition,
    /// Something else changed it meanwhile: read again.
    Aborted,
    /// Nothing left of it: relax, wait.
    ResourceExhausted,
    /// Try again soon.
    Unavailable,
    /// It took too long.
    DeadlineExceeded,
    /// Our fault.
    Internal,
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field's path as in the proto: `requirements.filter.min_cuda`.
    pub field: String,
    /// What is wrong with which value, and what is allowed.
    pub description: String,
}

/// A refusal or failure, complete for its reader.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The code.
    pub code: Code,
    /// UPPER_SNAKE, stable, for programs.
    pub reason: &'static str,
    /// For people, with the next step.
    pub message: String,
    /// Every variable part of the message.
    pub metadata: BTreeMap<String, String>,
    /// All wrong fields at once.
    pub violations: Vec<Violation>,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// An error without details.
    #[must_use]
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), metadata: BTreeMap::new(), violations: Vec::new(), retry_after: None }
    }

    /// With one more variable part.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// With an invitation to try again.
    #[must_use]
    pub fn retry(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// A request with wrong fields.
    #[must_use]
    pub fn fields(violations: Vec<Violation>) -> Self {
        let list: Vec<String> = violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
        let mut error = Self::new(Code::InvalidArgument, "INVALID_FIELD", list.join("; "));
        error = error.with("fields", violations.iter().map(|v| v.field.as_str()).collect::<Vec<_>>().join(","));
        error.violations = violations;
        error
    }

    /// A request with one wrong field.
    #[must_use]
    pub fn field(field: &str, description: impl Into<String>) -> Self {
        Self::fields(vec![Violation { field: field.to_owned(), description: description.into() }])
    }

    /// There is no such session, or it is not the caller's.
    #[must_use]
    pub fn session_not_found(id: impl ToString) -> Self {
        let id = id.to_string();
        Self::new(Code::NotFound, "SESSION_NOT_FOUND", format!("there is no session {id}")).with("session_id", id)
    }

    /// Something of ours broke; details are in the log under the request id.
    #[must_use]
    pub fn internal(what: &str) -> Self {
        Self::new(Code::Internal, "INTERNAL", format!("{what} failed; the server's log has the details"))
    }
}
