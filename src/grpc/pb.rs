//! The wire's types and services, generated from `proto/`.
//!
//! Only `convert.rs` and the service files know them; everybody else speaks the domain.

use prost::bytes::Bytes;
use std::fmt;
use tonic::Status;

#[allow(clippy::all, clippy::pedantic, missing_docs, rustdoc::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/pb.rs"));
}

pub use generated::google::r#type::Money;
pub use generated::gpushopper::v1::*;

/// A part of an answer that is kept encoded (`build.rs` names them), read.
///
/// # Errors
/// When it is no such message: what came over the wire is broken.
pub fn read<M: prost::Message + Default>(part: &Bytes) -> Result<M, Status> {
    M::decode(part.clone()).map_err(|error| super::status::unreadable(&error))
}

impl ListOffersResponse {
    /// The offers, read.
    ///
    /// # Errors
    /// See [`read`].
    pub fn read_offers(&self) -> Result<Vec<Offer>, Status> {
        self.offers.iter().map(read).collect()
    }
}

impl GetOfferResponse {
    /// The offer, read.
    ///
    /// # Errors
    /// See [`read`].
    pub fn read_offer(&self) -> Result<Offer, Status> {
        read(&self.offer)
    }
}

impl ListGpuModelsResponse {
    /// The models, read.
    ///
    /// # Errors
    /// See [`read`].
    pub fn read_models(&self) -> Result<Vec<GpuModel>, Status> {
        self.gpu_models.iter().map(read).collect()
    }
}

impl GetSessionResponse {
    /// The session, read.
    ///
    /// # Errors
    /// See [`read`].
    pub fn read_session(&self) -> Result<Session, Status> {
        read(&self.session)
    }
}

impl ListSessionsResponse {
    /// The sessions, read.
    ///
    /// # Errors
    /// See [`read`].
    pub fn read_sessions(&self) -> Result<Vec<Session>, Status> {
        self.sessions.iter().map(read).collect()
    }
}

/// The compiled descriptor set, comments and JSON names included: for server reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

impl fmt::Debug for create_session_request::Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfferId(id) => f.debug_tuple("OfferId").field(id).finish(),
            Self::Requirements(wanted) => f.debug_tuple("Requirements").field(wanted).finish(),
        }
    }
}

impl fmt::Debug for CreateSessionRequest {
    /// Without what may hold secrets: environment and start commands.
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

impl fmt::Debug for RotateSessionKeyResponse {
    /// Without the private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotateSessionKeyResponse").field("session", &self.session).field("replayed", &self.replayed).finish_non_exhaustive()
    }
}

impl fmt::Debug for CreateSessionResponse {
    /// Without the private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateSessionResponse")
            .field("session", &self.session)
            .field("replayed", &self.replayed)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for CreateTokenResponse {
    /// Without the token's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateTokenResponse").field("token", &self.token).finish_non_exhaustive()
    }
}
