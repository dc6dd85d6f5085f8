//! The only place that makes a `tonic::Status`: the code that the README's table names, exactly one `ErrorInfo`, every violation in a
//! `BadRequest`, a `RetryInfo` where trying again helps.
//!
//! Statuses travel in headers, and clients allow few kilobytes of those, so that texts and violations have a budget.

use crate::services::{Code, Error};
use axum::response::IntoResponse;
use http::HeaderMap;
use std::collections::{BTreeMap, HashMap};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "gpushopper";
/// Bytes of the message; the rest of a long one is in the details.
const MESSAGE_BYTES: usize = 600;
/// Bytes of one metadata value.
const METADATA_BYTES: usize = 256;
/// Bytes of all violations: with the message and base 64 it stays below the 8 KiB that the strictest client allows.
const VIOLATION_BYTES: usize = 2500;

/// The wire's code for a service's code.
#[must_use]
pub fn code(code: Code) -> tonic::Code {
    match code {
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::OutOfRange => tonic::Code::OutOfRange,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::NotFound => tonic::Code::NotFound,
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::Aborted => tonic::Code::Aborted,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::DeadlineExceeded => tonic::Code::DeadlineExceeded,
        Code::Internal => tonic::Code::Internal,
    }
}

/// What a client makes of an answer that it can't read.
#[must_use]
pub fn unreadable(error: &prost::DecodeError) -> Status {
    Status::internal(format!("an answer that can't be read: {error}"))
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let metadata: HashMap<String, String> = error.metadata.iter().map(|(key, value)| (key.clone(), cut(value, METADATA_BYTES))).collect();
        let mut details = ErrorDetails::with_error_info(error.reason, DOMAIN, metadata);
        let mut left = VIOLATION_BYTES;
        for (at, violation) in error.violations.iter().enumerate() {
            let size = violation.field.len() + violation.description.len();
            if size > left {
                let more = error.violations.len() - at;
                details.add_bad_request_violation("", format!("{more} more wrong fields are not listed; correct these first"));
                break;
            }
            left -= size;
            details.add_bad_request_violation(violation.field.as_str(), violation.description.as_str());
        }
        if let Some(wait) = error.retry_after {
            details.set_retry_info(Some(wait));
        }
        Self::with_error_details(code(error.code), cut(&error.message, MESSAGE_BYTES), details)
    }
}

/// The answer to a gRPC call that is refused before it reaches its service, in the caller's dialect; `None` when the headers
/// are not those of a gRPC call.
#[must_use]
pub fn refused(headers: &HeaderMap, error: &Error) -> Option<axum::response::Response> {
    let kind = headers.get(http::header::CONTENT_TYPE).filter(|kind| kind.as_bytes().starts_with(b"application/grpc"))?;
    let mut answer = Status::from(error.clone()).into_http::<axum::body::Body>();
    answer.headers_mut().insert(http::header::CONTENT_TYPE, kind.clone());
    Some(answer.into_response())
}

/// The answer to a gRPC call for which there is no service here; `None` when the headers are not those of a gRPC call, so
/// that the caller answers it in its own way.
#[must_use]
pub fn unknown_service(headers: &HeaderMap, path: &str) -> Option<axum::response::Response> {
    headers.get(http::header::CONTENT_TYPE).filter(|kind| kind.as_bytes().starts_with(b"application/grpc"))?;
    let path = cut(path, METADATA_BYTES);
    let metadata: BTreeMap<String, String> = BTreeMap::from([("method".to_owned(), path.clone())]);
    let details = ErrorDetails::with_error_info(METHOD_UNKNOWN, DOMAIN, metadata.into_iter().collect::<HashMap<_, _>>());
    let message = format!("there is no method {path}; server reflection lists what there is");
    let status = Status::with_error_details(tonic::Code::Unimplemented, message, details);
    Some(status.into_http::<axum::body::Body>().into_response())
}

/// The reasons for which a call never reaches a service, each with its code. In JSON they have other words, since what can go
/// wrong there is another thing.
pub const BEFORE_ANY_SERVICE: [(&str, tonic::Code); 7] = [
    (METHOD_UNKNOWN, tonic::Code::Unimplemented),
    (ENCODING_UNKNOWN, tonic::Code::Unimplemented),
    (REQUEST_TOO_LARGE, tonic::Code::OutOfRange),
    (REQUEST_TIMEOUT, tonic::Code::DeadlineExceeded),
    (MALFORMED_MESSAGE, tonic::Code::InvalidArgument),
    (SERVICE_NOT_FOUND, tonic::Code::NotFound),
    (TRANSPORT, tonic::Code::Internal),
];
const METHOD_UNKNOWN: &str = "METHOD_UNKNOWN";
const ENCODING_UNKNOWN: &str = "ENCODING_UNKNOWN";
const REQUEST_TOO_LARGE: &str = "REQUEST_TOO_LARGE";
const REQUEST_TIMEOUT: &str = "REQUEST_TIMEOUT";
const MALFORMED_MESSAGE: &str = "MALFORMED_MESSAGE";
const SERVICE_NOT_FOUND: &str = "SERVICE_NOT_FOUND";
const TRANSPORT: &str = "TRANSPORT";

/// Gives the statuses that tonic makes by itself, before a request reaches its service, what all others have: an `ErrorInfo`.
/// A status that has details stays as it is.
pub fn complete<B>(path: &str, mut answer: http::Response<B>) -> http::Response<B> {
    let headers = answer.headers();
    if headers.contains_key("grpc-status-details-bin") {
        return answer;
    }
    let Some(bare) = Status::from_header_map(headers).filter(|status| status.code() != tonic::Code::Ok) else { return answer };
    let path = cut(path, METADATA_BYTES);
    let said = bare.message().trim_start_matches("Error, ");
    let (code, reason, message) = match bare.code() {
        _ if said.contains("body arrives too slowly") => (tonic::Code::DeadlineExceeded, REQUEST_TIMEOUT, said.to_owned()),
        tonic::Code::Unimplemented if said.is_empty() => {
            (bare.code(), METHOD_UNKNOWN, format!("there is no method {path}; server reflection lists what there is"))
        }
        tonic::Code::Unimplemented => (bare.code(), ENCODING_UNKNOWN, format!("{said}; send plain messages, or gzip")),
        tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => {
            (tonic::Code::OutOfRange, REQUEST_TOO_LARGE, format!("{said} (limits.body_bytes): send less at once"))
        }
        // tonic calls these INTERNAL, but it is the caller who has to mend them.
        tonic::Code::Internal
            if said.contains("decode") || said.contains("UTF-8") || said.contains("compression") || said.contains("Missing request") =>
        {
            (tonic::Code::InvalidArgument, MALFORMED_MESSAGE, format!("{said}: the request is no message of this method"))
        }
        tonic::Code::NotFound => (bare.code(), SERVICE_NOT_FOUND, said.to_owned()),
        code => (code, TRANSPORT, said.to_owned()),
    };
    let metadata: HashMap<String, String> = HashMap::from([("method".to_owned(), path)]);
    let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    let whole = Status::with_error_details(code, cut(&message, MESSAGE_BYTES), details);
    // What it was told with stays; no header of ours is wrong, so that the second can't fail.
    if whole.add_header(answer.headers_mut()).is_err() {
        tracing::warn!("a status could not be completed");
    }
    answer
}

/// At most so many bytes of a text, cut between characters.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most.saturating_sub('…'.len_utf8())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}
