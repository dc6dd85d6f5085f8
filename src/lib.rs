//! Cloud GPU Shopper.

pub mod clock;
pub mod config;
pub mod domain;
pub mod http;
pub mod ports;
pub mod services;
pub mod telemetry;
