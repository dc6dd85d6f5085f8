//! A client of Cloud GPU Shopper: rents verified GPU machines and follows every state change.
//!
//! ```no_run
//! use gpu_shopper_client::{Client, Message, Usd, pb, save_key};
//!
//! # async fn rent() -> Result<(), gpu_shopper_client::Error> {
//! let client = Client::new("http://127.0.0.1:8080")?;
//! let filter = pb::OfferFilter { gpu_models: vec!["RTX 4090".into()], max_price_per_hour: Some("0.40".parse::<Usd>()?.into()), ..Default::default() };
//! let wanted = pb::Requirements { filter: Some(filter), ..Default::default() };
//! let target = pb::create_session_request::Target::Requirements(wanted);
//! let created = client.create_session(pb::CreateSessionRequest { target: Some(target), ..Default::default() }).await?;
//! save_key("key.pem", &created.ssh_private_key)?;
//! let id = created.session.unwrap_or_default().session_id;
//! println!("{}", client.wait_for_running(&id).await?.ssh_command);
//! # Ok(()) }
//! ```
//!
//! What it adds to the generated code: [`Client`] repeats what is safe to repeat (with a `request_id` of its own for changes),
//! [`Watch`] resumes across lost connections and restarts of the server without loss or repeat, [`Error`] is typed, [`Usd`] is exact,
//! and [`save_key`] writes a key that only its owner can read. [`pb`] has the messages of the contract, comments included; the
//! plain generated clients are there for everything else: [`Client::sessions`] and its siblings.

#![warn(missing_docs)]

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
