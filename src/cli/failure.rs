//! What went wrong, for whoever typed the command: readable lines, the same as JSON, and a stable exit code.
//!
//! The server's errors arrive as a `google.rpc.Status` with details; they are taken apart here and nowhere else.

use owo_colors::{OwoColorize, Style};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Exit codes. Scripts rely on them: they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// It worked.
    Ok = 0,
    /// It did not work: the session failed, a file could not be written, the server made a mistake.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// There is no such session or offer.
    NotFound = 3,
    /// The server finds a value wrong or beyond a limit.
    Invalid = 4,
    /// The session's state forbids it, or it exists already.
    Conflict = 5,
    /// Nothing to rent, or a limit is used up.
    Exhausted = 6,
    /// The server can't be reached, is starting or stopping, or took too long.
    Unreachable = 7,
    /// The server doesn't know the caller or doesn't allow it.
    Denied = 8,
    /// Ctrl-C. What was started goes on.
    Interrupted = 130,
}

impl Exit {
    /// Every code with what it means, as shown by `--help`.
    pub const TABLE: [(Self, &'static str); 10] = [
        (Self::Ok, "it worked"),
        (Self::Failed, "it failed: the session ended as FAILED, a file can't be written, the server made a mistake"),
        (Self::Usage, "the command line makes no sense"),
        (Self::NotFound, "no such session or offer"),
        (Self::Invalid, "the server refuses a value (every wrong field is named)"),
        (Self::Conflict, "the session's state forbids it, or it exists already"),
        (Self::Exhausted, "no capacity, or a limit is used up"),
        (Self::Unreachable, "the server can't be reached, is not ready, or took too long"),
        (Self::Denied, "not authenticated, or not allowed"),
        (Self::Interrupted, "interrupted; what was started goes on"),
    ];

    /// The number given to the shell.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What a gRPC code means for the shell.
    #[must_use]
    pub const fn of(code: Code) -> Self {
        match code {
            Code::Ok => Self::Ok,
            Code::InvalidArgument | Code::OutOfRange => Self::Invalid,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Self::Conflict,
            Code::ResourceExhausted => Self::Exhausted,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Self::Unreachable,
            Code::Unauthenticated | Code::PermissionDenied => Self::Denied,
            Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => Self::Failed,
        }
    }
}

/// One wrong field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Its path in the request: `filter.min_cuda`.
    pub field: String,
    /// What is wrong and what is allowed.
    pub description: String,
}

/// Why a command did not work. Small, since every step can return it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Failure(Box<Parts>);

/// What a [`Failure`] consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parts {
    /// The gRPC code's word: `NOT_FOUND`.
    pub code: &'static str,
    /// One stable word: `SESSION_NOT_FOUND`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// All wrong fields.
    pub violations: Vec<Violation>,
    /// The message's variables.
    pub metadata: BTreeMap<String, String>,
    /// When trying again makes sense.
    #[serde(rename = "retry_after_seconds", serialize_with = "seconds")]
    pub retry_after: Option<Duration>,
    /// What to do next.
    pub hint: Option<String>,
    /// The exit code.
    #[serde(rename = "exit_code", serialize_with = "number")]
    pub exit: Exit,
    /// The connection or the server went away; the same request may work in a moment.
    #[serde(skip)]
    pub transient: bool,
}

impl Deref for Failure {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

/// The reason of a failure that nobody wants to read about: the reader of our output has gone.
const READER_GONE: &str = "READER_GONE";

impl Failure {
    /// A failure of our own, without the server.
    #[must_use]
    pub fn new(exit: Exit, reason: &str, message: impl Into<String>) -> Self {
        let code = match exit {
            Exit::Ok => "OK",
            Exit::Failed | Exit::Conflict => "FAILED_PRECONDITION",
            Exit::Usage | Exit::Invalid => "INVALID_ARGUMENT",
            Exit::NotFound => "NOT_FOUND",
            Exit::Exhausted => "RESOURCE_EXHAUSTED",
            Exit::Unreachable => "UNAVAILABLE",
            Exit::Denied => "PERMISSION_DENIED",
            Exit::Interrupted => "CANCELLED",
        };
        Self(Box::new(Parts {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            violations: Vec::new(),
            metadata: BTreeMap::new(),
            retry_after: None,
            hint: None,
            exit,
            transient: false,
        }))
    }

    /// The command line makes no sense in a way that only shows once it is read as a whole.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "USAGE", message)
    }

    /// What clap says of a command line, without the usage that it prints below.
    #[must_use]
    pub fn misspelt(error: &clap::Error) -> Self {
        let text = match error.kind() {
            clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing".to_owned(),
            _ => error.to_string(),
        };
        let said = text.split("\n\nUsage:").next().unwrap_or_default().split("\n\nFor more information").next().unwrap_or_default();
        let said = said.replace("\n\n  tip:", ";");
        let words: Vec<&str> = said.split_whitespace().collect();
        let message = words.join(" ");
        Self::usage(message.strip_prefix("error: ").unwrap_or(&message)).hint("`--help` after the command lists what it takes, with examples")
    }

    /// Something on this machine did not work.
    #[must_use]
    pub fn local(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, reason, message)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Nothing to tell: the program that read our output has closed it (`… | head`).
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.reason == READER_GONE
    }

    /// Lines for people.
    #[must_use]
    pub fn text(&self, colour: bool) -> String {
        let bold = if colour { Style::new().red().bold() } else { Style::new() };
        // The server's message may already hold all violations in one line; each has its own below.
        let repeated = !self.violations.is_empty() && self.violations.iter().all(|v| self.message.contains(&v.description));
        let message = match self.violations.len() {
            1 if repeated => "one field is wrong",
            _ if repeated => &format!("{} fields are wrong", self.violations.len()),
            _ => &self.message,
        };
        let mut text = format!("{} {message}", "error:".style(bold));
        if !self.reason.is_empty() {
            let _ = write!(text, " ({})", self.reason);
        }
        text.push('\n');
        for violation in &self.violations {
            let _ = writeln!(text, "  {}: {}", violation.field, violation.description);
        }
        if let Some(after) = self.retry_after {
            let _ = writeln!(text, "  trying again may help after {} s", after.as_millis().div_ceil(1000));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "  hint: {hint}");
        }
        text
    }

    /// One JSON object: `{"error": {…}}`.
    #[must_use]
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(&BTreeMap::from([("error", self)])).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// TLS that answers one who speaks none looks like this, or hangs up before it was heard.
const UNHEARD: [&str; 5] = ["frame with invalid size", "broken pipe", "connection reset", "connection closed", "connection was not ready"];

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        // A status that was made on this side of the wire has a source: the connection broke.
        let broken = std::error::Error::source(&status).is_some();
        let connection = broken && matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled | Code::Unavailable);
        let exit = if connection { Exit::Unreachable } else { Exit::of(status.code()) };
        let mut message = clean(status.message());
        if connection {
            message = format!("the connection to the server broke: {}", causes(&status));
        } else if message.is_empty() {
            message = status.code().description().to_owned();
        }
        let unheard = UNHEARD.iter().any(|words| message.contains(words));
        let hint = (connection && unheard).then(|| "if the server speaks TLS, ask with https://".to_owned());
        Self(Box::new(Parts {
            code: word(status.code()),
            reason: info.map(|i| clean(&i.reason)).unwrap_or_default(),
            message,
            violations: details
                .bad_request()
                .map(|bad| {
                    let each = |v: &tonic_types::FieldViolation| Violation { field: clean(&v.field), description: clean(&v.description) };
                    bad.field_violations.iter().map(each).collect()
                })
                .unwrap_or_default(),
            metadata: info.map(|i| i.metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect()).unwrap_or_default(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            hint,
            exit,
            transient: connection || status.code() == Code::Unavailable,
        }))
    }
}

impl From<std::io::Error> for Failure {
    /// An error of writing our own output.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Ok, READER_GONE, "");
        }
        Self::local("OUTPUT", format!("cannot write the output: {error}"))
    }
}

/// The innermost words of an error that wraps others ("transport error" tells nobody anything).
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    clean(&innermost.to_string())
}

/// Text from elsewhere without control characters: it must not steer a terminal.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

const fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn seconds<S: serde::Serializer>(value: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        None => s.serialize_none(),
        Some(d) if d.subsec_nanos() == 0 => s.serialize_u64(d.as_secs()),
        Some(d) => s.serialize_f64(d.as_secs_f64()),
    }
}

fn number<S: serde::Serializer>(value: &Exit, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u8(value.code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn exit_codes_are_as_documented() {
        let codes: Vec<u8> = Exit::TABLE.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]);
        for (code, want) in [
            (Code::Ok, 0),
            (Code::Unknown, 1),
            (Code::Internal, 1),
            (Code::Unimplemented, 1),
            (Code::DataLoss, 1),
            (Code::NotFound, 3),
            (Code::InvalidArgument, 4),
            (Code::OutOfRange, 4),
            (Code::AlreadyExists, 5),
            (Code::FailedPrecondition, 5),
            (Code::Aborted, 5),
            (Code::ResourceExhausted, 6),
            (Code::Unavailable, 7),
            (Code::DeadlineExceeded, 7),
            (Code::Cancelled, 7),
            (Code::Unauthenticated, 8),
            (Code::PermissionDenied, 8),
        ] {
            assert_eq!(Exit::of(code).code(), want, "{code:?}");
        }
    }

    #[test]
    fn every_violation_has_its_line_and_nothing_steers_the_terminal() {
        let mut details = ErrorDetails::new();
        details.set_error_info("INVALID_FIELD", "gpushopper", [("fields".to_owned(), "2".to_owned())]);
        details.add_bad_request_violation("filter.min_cuda", "`x\u{1b}[31m`; allowed: `major.minor`");
        details.add_bad_request_violation("filter.gpu_count", "0; allowed: 1 to 1024");
        details.set_retry_info(Some(Duration::from_millis(1500)));
        let failure = Failure::from(Status::with_error_details(Code::InvalidArgument, "2 fields are wrong", details));
        assert_eq!(
            failure.text(false),
            "error: 2 fields are wrong (INVALID_FIELD)\n  filter.min_cuda: `x [31m`; allowed: `major.minor`\n  \
             filter.gpu_count: 0; allowed: 1 to 1024\n  trying again may help after 2 s\n"
        );
        let json: serde_json::Value = serde_json::from_str(&failure.json()).unwrap();
        assert_eq!(json["error"]["code"], "INVALID_ARGUMENT");
        assert_eq!(json["error"]["reason"], "INVALID_FIELD");
        assert_eq!(json["error"]["exit_code"], 4);
        assert_eq!(json["error"]["retry_after_seconds"], 1.5);
        assert_eq!(json["error"]["violations"][1]["field"], "filter.gpu_count");
        assert_eq!(json["error"]["metadata"]["fields"], "2");
    }

    #[test]
    fn violations_are_not_told_twice() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("a", "too big");
        let status = |text: &str| Failure::from(Status::with_error_details(Code::InvalidArgument, text, details.clone())).text(false);
        assert_eq!(status("a: too big"), "error: one field is wrong\n  a: too big\n");
        assert_eq!(status("no"), "error: no\n  a: too big\n");
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert!(failure.is_silent());
        assert_eq!(failure.exit, Exit::Ok);
    }
}
