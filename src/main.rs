//! Parses the command line, runs the command, gives its exit code.

use clap::{Parser, Subcommand};
use gpu_shopper::cli::{config, demo, serve, sim};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "gpu-shopper", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Demo(demo::DemoArgs),
    Sim(sim::SimArgs),
    Config(config::ConfigArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    gpu_shopper::providers::install_crypto();
    match Cli::parse().command {
        Command::Serve(args) => serve::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Sim(args) => sim::run(args).await,
        Command::Config(args) => config::run(&args, false),
    }
}
