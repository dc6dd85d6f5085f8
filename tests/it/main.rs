//! All integration tests, one binary.

mod config;
mod port;
