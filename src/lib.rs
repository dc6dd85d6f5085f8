//! Cloud GPU Shopper.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod grpc;
pub mod http;
pub mod ports;
pub mod providers;
pub mod server;
pub mod services;
pub mod sim;
pub mod ssh;
pub mod store;
pub mod telemetry;
