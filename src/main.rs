//! Parses the command line, runs the command, and ends with its exit code.

use clap::Parser;
use gpu_shopper::cli::{Cli, run};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    gpu_shopper::providers::install_crypto();
    run(Cli::parse()).await
}
