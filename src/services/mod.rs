//! Floor 2, the deciding half: what the service does for its callers. Words of the wire stop above, vendors' words
//! below; the providers are reached only through `ports`.
//!
//! * [`lifecycle`]: the one writer of sessions, an actor, and its handle.
//! * [`provisioner`]: performs one action at a provider or machine, returns one outcome.
//! * [`lookout`]: one per provider; lists what is there and reports it.
//! * [`board`]: what has been committed, for readers; [`tokens`]: where a reader stands.
//! * [`inventory`]: offers in memory, refreshed in the background; [`templates`]: asked for when wanted.
//! * [`sessions`]: the reading side: get, list, wait, watch, diagnostics.
//! * [`costs`]: the ledger and its reports.
//! * [`counters`]: Prometheus, from what was committed; [`trail`]: traces of a session's work.
//! * [`operator`]: what an operator looks at.
//! * [`drain`]: ends every session, for an operator or before the server ends.
//! * [`access`]: who calls, by which token.
//! * [`api`], [`error`]: the words that callers use.

pub mod access;
pub mod api;
pub mod board;
pub mod costs;
pub mod counters;
pub mod drain;
pub mod error;
pub mod inventory;
pub mod lifecycle;
pub mod lookout;
pub mod operator;
pub mod provisioner;
pub mod sessions;
pub mod sweeper;
pub mod templates;
pub mod tokens;
pub mod trail;

pub use error::{Code, Error, Violation};
