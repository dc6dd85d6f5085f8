//! Cloud GPU Shopper.

pub mod clock;
pub mod domain;
pub mod ports;
pub mod services;
pub mod sim;
pub mod ssh;
pub mod store;
