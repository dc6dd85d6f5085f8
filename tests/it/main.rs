//! The integration tests, one binary, one module per area.

mod config;
mod port;
mod sim;
mod sim_adapters;
mod sim_http;
mod ssh;
mod store;
