//! Parses the command line, runs the command, and ends with its exit code.

use clap::Parser;
use gpu_shopper::cli::{Cli, run};
use mimalloc::MiMalloc;
use std::process::ExitCode;

/// A page of offers is thousands of little texts: with the C library's allocator most of its time goes there (`benches/README.md`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    gpu_shopper::providers::install_crypto();
    run(Cli::parse()).await
}
