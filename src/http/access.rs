//! Who calls, for the JSON face: the [`Caller`] that the port has put into the request's extensions.

use crate::services::api::Caller;
use axum::extract::FromRequestParts;
use http::request::Parts;
use std::convert::Infallible;

/// The caller of a request, as an argument of a handler.
pub struct Who(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let nameless = || Caller { principal: String::new(), scope: None, admin: true };
        Ok(Self(parts.extensions.get::<Caller>().cloned().unwrap_or_else(nameless)))
    }
}
