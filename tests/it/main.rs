//! Integration tests, one binary.

mod sim;
mod sim_http;
