//! The integration tests, one binary, one module per area.

mod child;
mod cli;
mod config;
mod demo;
mod house;
mod machine;
mod port;
mod process;
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
