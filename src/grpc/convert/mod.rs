//! The only place that knows both the wire's and the domain's words.
//!
//! * [`fields`]: checks of single values; collects every violation of a request.
//! * [`words`]: enum values, both ways, totally.
//! * [`requests`]: from the wire, whole requests.
//! * [`answers`]: to the wire.
//! * [`market`]: explanations and the failure memory, both ways.
//! * [`operations`]: what operators order and are told; [`tokens`]: of who may call.
//!
//! Nothing is decided here but defaults and limits that the contract's comments state. Absent is never zero.

pub mod answers;
pub mod fields;
pub mod market;
pub mod operations;
pub mod requests;
mod start;
pub mod tokens;
pub mod words;
