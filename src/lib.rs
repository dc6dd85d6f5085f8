//! Cloud GPU Shopper.

pub mod cli;
pub mod clock;
pub mod domain;
pub mod grpc;
pub mod ports;
pub mod services;
