//! The server's messages as JSON for `-o json`: as the contract calls them. See [`grpc::json`](crate::grpc::json).

use crate::cli::failure::Failure;
use crate::grpc::json::tree::Json;
use crate::grpc::json::write::{plain, write};
use crate::grpc::json::{NotInContract, as_in_the_contract};
use serde::{Serialize, Serializer};

/// A message of the contract, ready to be written as JSON.
#[derive(Clone, Debug)]
pub struct Message(Json);

impl Message {
    /// Takes `message`, whose name in the contract is `name` (`ListOffersResponse`).
    ///
    /// # Errors
    /// When the contract has no such message or the bytes are not one: a mistake in this program.
    pub fn of<M: prost::Message>(name: &str, message: &M) -> Result<Self, Failure> {
        write(name, message, as_in_the_contract, plain).map(Self).map_err(|e: NotInContract| Failure::local("CONTRACT", e.to_string()))
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}
