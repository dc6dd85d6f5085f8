//! The crate that thrussh asks for, over a libsodium that is built from source: a fresh machine needs no system library.

pub use stable::*;
