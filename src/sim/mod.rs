//! Floor 2: the simulated world.

pub mod ssh_host;
