//! The JSON face's shapes: how an error looks. The only file that turns a [`services::Error`](crate::services::Error)
//! into an HTTP answer.

use crate::grpc::json::tree::{Json, Map as Members};
use crate::services::{Code, Error};
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::fmt::Display;

/// The name of the current request, in every answer's `X-Request-ID`, in error bodies and in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// An error that arises before any service is asked.
#[must_use]
pub fn refuse(status: StatusCode, error_type: &str, message: &str, request: &RequestId) -> Response {
    let retry = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    answer(status, &json!({"error": message, "error_type": error_type, "retry_suggested": retry, "request_id": request.0}))
}

/// A service's error as an answer: the status follows from its code and reason, the variables stand beside the
/// message, and `retry_suggested` says whether the same request may succeed later.
#[must_use]
pub fn error(error: &Error, request: &RequestId) -> Response {
    error_with(error, request, Vec::new())
}

/// The same with more members: what the error is about.
#[must_use]
pub fn error_with(error: &Error, request: &RequestId, more: Members) -> Response {
    let (status, body) = error_body(error, request, more);
    let mut response = answer(status, &body);
    if let Some(after) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if error.code == Code::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A service's error as status and body.
#[must_use]
pub fn error_body(error: &Error, request: &RequestId, more: Members) -> (StatusCode, Json) {
    let mut body = Map::new();
    for (name, value) in &error.metadata {
        body.insert(name.clone(), Value::from(value.as_str()));
    }
    if !error.violations.is_empty() {
        let fields: Vec<Value> = error.violations.iter().map(|v| json!({"field": v.field, "description": v.description})).collect();
        body.insert("fields".to_owned(), Value::from(fields));
    }
    let error_type = if error.reason == "NO_CAPACITY" { "stale_inventory".to_owned() } else { error.reason.to_lowercase() };
    body.insert("error".to_owned(), Value::from(error.message.as_str()));
    body.insert("error_type".to_owned(), Value::from(error_type));
    body.insert("retry_suggested".to_owned(), Value::from(error.retry_after.is_some() || error.reason == "NO_CAPACITY"));
    body.insert("request_id".to_owned(), Value::from(request.0.as_str()));
    if error.reason == "NO_CAPACITY" {
        // Where scripts for the earlier Go server look for it.
        body.insert("message".to_owned(), Value::from(error.message.as_str()));
    }
    if error.reason == "INSUFFICIENT_DISK" {
        broken_down(&mut body);
    }
    let mut members: Members = body.into_iter().map(|(name, value)| (name, Json::from(value))).collect();
    members.extend(more);
    (status(error), Json::Map(members))
}

/// The HTTP status of a service's error.
#[must_use]
pub fn status(error: &Error) -> StatusCode {
    match (error.code, error.reason) {
        (Code::OutOfRange, "WATCH_COMPACTED") => StatusCode::GONE,
        (Code::ResourceExhausted, "NO_CAPACITY") => StatusCode::SERVICE_UNAVAILABLE,
        (Code::InvalidArgument | Code::OutOfRange, _) => StatusCode::BAD_REQUEST,
        (Code::Unauthenticated, _) => StatusCode::UNAUTHORIZED,
        (Code::PermissionDenied, _) => StatusCode::FORBIDDEN,
        (Code::NotFound, _) => StatusCode::NOT_FOUND,
        (Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted, _) => StatusCode::CONFLICT,
        (Code::ResourceExhausted, _) => StatusCode::TOO_MANY_REQUESTS,
        (Code::Unavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
        (Code::DeadlineExceeded, _) => StatusCode::GATEWAY_TIMEOUT,
        (Code::Internal, _) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What a disk is too small for: numbers as numbers, the parts of the estimate in an object of their own.
fn broken_down(body: &mut Map<String, Value>) {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<serde_json::Number>().ok()).map(Value::from);
    let mut parts = Map::new();
    for name in [
        "model_weight_gb",
        "download_buffer_gb",
        "docker_image_gb",
        "system_overhead_gb",
        "template_floor_gb",
        "model_id",
        "quantization",
        "param_count_b",
    ] {
        if let Some(value) = body.remove(name) {
            parts.insert(name.to_owned(), number(&value).filter(|_| name != "model_id").unwrap_or(value));
        }
    }
    for name in ["requested_gb", "minimum_gb", "recommended_gb"] {
        if let Some(value) = body.get(name).and_then(number) {
            if name != "requested_gb" {
                parts.insert(name.to_owned(), value.clone());
            }
            body.insert(name.to_owned(), value);
        }
    }
    body.insert("breakdown".to_owned(), Value::from(parts));
}

/// A JSON answer.
#[must_use]
pub fn answer(status: StatusCode, body: &impl Display) -> Response {
    let mut text = body.to_string();
    text.push('\n');
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_service_error_carries_its_variables_and_no_variable_hides_the_message() {
        let source = Error::new(Code::ResourceExhausted, "NO_CAPACITY", "No offers available").with("error", "x").with("removed_by", "gpu_models");
        let response = error(&source.retry(Duration::from_secs(30)), &RequestId("r-1".into()));
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "30");
        let bytes = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        let want = json!({"error": "No offers available", "error_type": "stale_inventory", "retry_suggested": true, "request_id": "r-1", "removed_by": "gpu_models", "message": "No offers available"});
        assert_eq!(body, want);
    }

    #[test]
    fn statuses() {
        for (code, reason, want) in [
            (Code::OutOfRange, "WATCH_COMPACTED", 410),
            (Code::OutOfRange, "HARD_MAX_EXCEEDED", 400),
            (Code::NotFound, "SESSION_NOT_FOUND", 404),
            (Code::AlreadyExists, "SESSION_EXISTS", 409),
            (Code::ResourceExhausted, "RATE_LIMITED", 429),
            (Code::Unavailable, "STARTING", 503),
            (Code::Internal, "INTERNAL", 500),
        ] {
            assert_eq!(status(&Error::new(code, reason, "")).as_u16(), want, "{reason}");
        }
    }
}
