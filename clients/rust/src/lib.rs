//! A client of Cloud GPU Shopper: rents verified GPU machines and follows every state change.
//!
//! What it adds to the generated code: [`Client`] repeats what is safe to repeat (with a `request_id` of its own for changes),
//! [`Watch`] resumes across lost connections and restarts of the server without loss or repeat, [`Error`] is typed, [`Usd`] is exact,
//! and [`save_key`] writes a key that only its owner can read. [`pb`] has the messages of the contract, comments included; the
//! plain generated clients are there for everything else: [`Client::sessions`] and its siblings.
#![doc = ""]
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod address;
mod client;
mod error;
mod insist;
mod keyfile;
mod money;
mod rpcs;
mod watch;

#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, rustdoc::all, missing_docs)]
#[path = "generated/google_type.rs"]
mod google_type;

#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, rustdoc::all, missing_docs)]
#[path = "generated/gpushopper_v1.rs"]
mod gpushopper_v1;

pub mod pb;

pub use client::{Client, Options, Pages, Wire};
pub use error::{Error, Refusal, Violation};
pub use insist::Patience;
pub use keyfile::{replace_key, save_key};
pub use money::Usd;
pub use tonic::Code;
pub use watch::{Message, Watch, WatchStart};
