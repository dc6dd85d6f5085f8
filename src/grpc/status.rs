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
    let kind = headers.get(http::header::CONTENT_TYPE)?.to_str().ok()?;
    if !kind.starts_with("application/grpc") {
        return None;
    }
    let path = cut(path, METADATA_BYTES);
    let metadata: BTreeMap<String, String> = BTreeMap::from([("method".to_owned(), path.clone())]);
    let details = ErrorDetails::with_error_info("METHOD_UNKNOWN", DOMAIN, metadata.into_iter().collect::<HashMap<_, _>>());
    let message = format!("there is no method {path}; server reflection lists what there is");
    let status = Status::with_error_details(tonic::Code::Unimplemented, message, details);
    Some(status.into_http::<axum::body::Body>().into_response())
}

/// At most so many bytes of a text, cut between characters.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most.saturating_sub('…'.len_utf8())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}
