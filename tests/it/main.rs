//! The integration tests, one binary, one module per area.

mod chaos;
mod child;
mod cli;
mod config;
mod costs;
mod crash;
mod demo;
mod faults;
mod grpc;
mod house;
mod inventory;
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
mod watch;
mod wire;
mod yard;
