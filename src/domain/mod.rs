//! Floor 0: what the service thinks about, and every decision it takes. Pure: no I/O, no clock, no runtime, no
//! vendor's, wire's or database's words.

pub mod access;
pub mod attempt;
pub mod backoff;
pub mod event;
pub mod explain;
pub mod gpu;
pub mod hiding;
pub mod idle;
pub mod ids;
pub mod instance;
pub mod lifecycle;
pub mod memo;
pub mod memory;
pub mod meter;
pub mod model;
pub mod money;
pub mod offer;
pub mod policy;
pub mod region;
pub mod service;
pub mod session;
pub mod shelf;
pub mod sweep;
pub mod template;
pub mod time;
pub mod verify;
