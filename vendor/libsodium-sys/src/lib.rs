pub use stable::*;
