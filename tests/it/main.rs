//! The integration tests, one binary, one module per area.

mod config;
mod port;
mod ssh;
mod store;
