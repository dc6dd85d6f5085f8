//! What the two HTTP faces have in common: an answer before it is an HTTP response, the Bearer token of a request,
//! and decimals as JSON numbers.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// An answer of a vendor.
pub(super) enum Reply {
    /// A status and a JSON body.
    Json(u16, Value),
    /// A status, a content type and a body that is not (good) JSON.
    Text(u16, &'static str, String),
    /// An answer that breaks off before it is complete: the caller never learns what happened.
    Cut,
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let (status, kind, body) = match self {
            Self::Json(status, value) => (status, "application/json", Body::from(value.to_string())),
            Self::Text(status, kind, text) => (status, kind, Body::from(text)),
            Self::Cut => {
                let cut = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset)) });
                (200, "application/json", Body::from_stream(cut))
            }
        };
        (StatusCode::from_u16(status).unwrap_or_default(), [(header::CONTENT_TYPE, kind)], body).into_response()
    }
}

/// The Bearer token of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(|token| token.trim().to_owned())
}

/// A decimal as a JSON number: exact up to fifteen digits, more than any price here has.
pub(super) fn number(decimal: &str) -> Value {
    serde_json::from_str(decimal).unwrap_or(Value::Null)
}
