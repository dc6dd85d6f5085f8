//! Who calls: the [`Caller`] that the port has put into the request's extensions, when it let the request in. What comes
//! without one has not passed the port's gate, and is refused.

use crate::services::api::Caller;
use crate::services::{Code, Error};
use http::Extensions;
use tonic::Status;

/// The caller of a request.
///
/// # Errors
/// UNAUTHENTICATED when nobody has said who it is.
pub fn caller(extensions: &Extensions) -> Result<Caller, Status> {
    let unknown = || Error::new(Code::Unauthenticated, "TOKEN_MISSING", "nobody has said who calls: the request has not come through the port");
    Ok(extensions.get::<Caller>().cloned().ok_or_else(unknown)?)
}
