//! The integration tests: one binary, one module per area.

mod proto;
mod wire;
