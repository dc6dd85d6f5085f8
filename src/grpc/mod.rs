//! Floor 3: the gRPC face. Words of the wire; no decisions, no store, no provider.

pub mod pb;
