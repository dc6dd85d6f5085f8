//! The messages, enums and plain clients of the contract, generated from `proto/`.

use std::fmt;

pub use crate::google_type::Money;
pub use crate::gpushopper_v1::*;
pub use prost_types::{Duration, FieldMask, Timestamp};

impl fmt::Debug for create_session_request::Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfferId(id) => f.debug_tuple("OfferId").field(id).finish(),
            Self::Requirements(wanted) => f.debug_tuple("Requirements").field(wanted).finish(),
        }
    }
}

impl fmt::Debug for CreateSessionRequest {
    /// Without what may hold secrets: environment, start commands, the registry's login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateSessionRequest").field("consumer_id", &self.consumer_id).field("target", &self.target).finish_non_exhaustive()
    }
}

impl fmt::Debug for RegistryLogin {
    /// Nothing of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for CreateSessionResponse {
    /// Without the private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateSessionResponse").field("session", &self.session).field("replayed", &self.replayed).finish_non_exhaustive()
    }
}

impl fmt::Debug for RotateSessionKeyResponse {
    /// Without the private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotateSessionKeyResponse").field("session", &self.session).field("replayed", &self.replayed).finish_non_exhaustive()
    }
}
