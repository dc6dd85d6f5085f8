//! Parses the command line, runs the command, and ends with its exit code.

use gpu_shopper::cli::{run, understand};
use std::process::ExitCode;
use tikv_jemallocator::Jemalloc;

/// A page of offers is thousands of little texts: with the C library's allocator most of its time goes there; and one that gives
/// back what a burst took, by itself, since a server idles most of the time (`benches/README.md`).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    gpu_shopper::providers::install_crypto();
    let line: Vec<_> = std::env::args_os().collect();
    match understand(&line) {
        Ok(cli) => run(cli).await,
        Err(code) => code,
    }
}
