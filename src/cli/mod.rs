//! Floor 4: the command line.

pub mod config;
pub mod demo;
pub mod serve;
pub mod sim;
