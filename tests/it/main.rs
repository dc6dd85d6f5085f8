//! The integration tests, one binary, one module per area.

mod config;
mod port;
mod provid.rs;
mod sessions;
mod ssh;
mod store;
mod support;
