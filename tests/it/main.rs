//! The integration tests, one binary, one module per area.

mod config;
mod crash;
mod faults;
mod port;
mod proto;
mod providers;
mod sessions;
mod sim;
mod sim_adapters;
mod sim_http;
mod ssh;
mod store;
mod support;
mod wire;
