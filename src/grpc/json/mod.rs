//! The contract's messages as JSON, both ways, drawn from the contract's own descriptors, so that no field can be
//! forgotten: for the JSON face and for the command line's `-o json`.
//!
//! Money is a plain decimal number written from the integers and read from the text, never through a float; times are
//! RFC 3339 in UTC; durations are `7200s`; enum values are lower-case words without their prefix. What is absent or
//! unspecified is `null`; of alternatives only the one that is given appears. How fields are called is the caller's choice
//! ([`Names`]).
//!
//! * [`tree`]: JSON itself, with exact numbers.
//! * [`write`]: messages to JSON.
//! * [`read`]: JSON to messages, finding everything that is wrong at once.
//!
//! This is not the JSON mapping of protobuf, which has money as objects and enums in capitals.

pub mod read;
pub mod tree;
pub mod write;

use crate::grpc::pb;
use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, MessageDescriptor};
use std::sync::OnceLock;

const PACKAGE: &str = "gpushopper.v1";

/// How a field is called in JSON.
pub type Names = fn(&FieldDescriptor) -> String;

/// As the contract calls it.
#[must_use]
pub fn as_in_the_contract(field: &FieldDescriptor) -> String {
    field.name().to_owned()
}

/// The contract's descriptors, comments included; `None` when they can't be read, which a test rules out.
pub fn contract() -> Option<&'static DescriptorPool> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(pb::DESCRIPTOR_SET).ok()).as_ref()
}

/// A message of the contract by its name: `Offer`.
#[must_use]
pub fn message(name: &str) -> Option<MessageDescriptor> {
    contract()?.get_message_by_name(&format!("{PACKAGE}.{name}"))
}

/// A message that the contract does not have: a mistake in this program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this program does not know its own message {0}")]
pub struct NotInContract(pub String);

/// The lower-case words of an enum's values, the unspecified one left out.
#[must_use]
pub fn words(kind: &EnumDescriptor) -> Vec<String> {
    kind.values().filter(|value| value.number() != 0).map(|value| word(kind, value.name())).collect()
}

/// `RENTAL_KIND_ON_DEMAND` of `RentalKind` → `on_demand`.
fn word(kind: &EnumDescriptor, name: &str) -> String {
    let mut prefix = String::with_capacity(kind.name().len() + 4);
    for (at, c) in kind.name().char_indices() {
        if at > 0 && c.is_ascii_uppercase() {
            prefix.push('_');
        }
        prefix.push(c.to_ascii_uppercase());
    }
    prefix.push('_');
    name.strip_prefix(&prefix).unwrap_or(name).to_lowercase()
}

/// Whether a field is one of several alternatives.
#[must_use]
pub fn is_alternative(field: &FieldDescriptor) -> bool {
    field.containing_oneof().is_some_and(|one| one.fields().len() > 1)
}
