//! Floor 2, the deciding half: what the service does for its callers. Words of the wire stop above, vendors' words
//! below; the providers are reached only through `ports`.
//!
//! * [`lifecycle`]: the one writer of sessions, an actor, and its handle.
//! * [`provisioner`]: performs one action at a provider or machine, returns one outcome.
//! * [`inventory`]: offers in memory, refreshed in the background.
//! * [`sessions`]: the reading side: get, list, wait, watch, diagnostics.
//! * [`costs`]: the ledger and its reports.
//! * [`operator`]: what an operator looks at.

pub mod api;
pub mod error;

pub use error::{Code, Error, Violation};
