//! `sim`: both simulated marketplaces alone, for a server or another tool to be pointed at.

use crate::cli::serve::Signals;
use crate::sim::{Faults, Keys, World, WorldConfig};
use anyhow::Context;
use clap::Args;
use std::io::Write;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `sim`.
#[derive(Args, Clone, Debug)]
pub struct SimArgs {
    /// Decides the catalogue and every throw of the dice
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// What goes wrong: none, gentle (small delays) or field (as in the field)
    #[arg(long, default_value = "gentle", value_name = "PRESET")]
    pub preset: String,
    /// One fault's rate or wait on top, as name=value; may be repeated; `--list-faults` names them
    #[arg(long = "fault", value_name = "NAME=VALUE")]
    pub faults: Vec<String>,
    /// Name all faults and end
    #[arg(long)]
    pub list_faults: bool,
    /// How many times the usual catalogue of some 300 asks and 100 places is on the market, up to 1000: for `load`
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub times: u16,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub bind: IpAddr,
    /// Port of the simulated Vast.ai (0 = any)
    #[arg(long, default_value_t = 8888, value_name = "PORT")]
    pub vastai_port: u16,
    /// Port of the simulated TensorDock (0 = any)
    #[arg(long, default_value_t = 8889, value_name = "PORT")]
    pub tensordock_port: u16,
    /// What machines are said to be reached at (default: where they listen)
    #[arg(long, value_name = "HOST")]
    pub advertise_host: Option<String>,
    /// Ports for the machines' SSH servers, as FROM-TO (default: any)
    #[arg(long, value_name = "FROM-TO", value_parser = range)]
    pub ssh_ports: Option<RangeInclusive<u16>>,
    /// Folder to write the accounts' credentials to, a file each: vastai_api_key, tensordock_auth_id, tensordock_api_token
    #[arg(long, value_name = "FOLDER")]
    pub credentials: Option<PathBuf>,
}

/// Writes the accounts' credentials where a server's `…_FILE` settings can name them, readable by the owner alone. The last one
/// is there when all are.
fn hand_over(keys: &Keys, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let files =
        [("vastai_api_key", &keys.vastai_key), ("tensordock_auth_id", &keys.tensordock_auth_id), ("tensordock_api_token", &keys.tensordock_token)];
    for (name, value) in files {
        let path = folder.join(name);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("writing {}", path.display()))?;
        file.write_all(value.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (from, to) = text.split_once('-').ok_or("write it as FROM-TO, such as 20000-20999")?;
    let port = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is no port: 1 to 65535"));
    Ok(port(from)?..=port(to)?)
}

/// Runs until SIGTERM or Ctrl-C.
pub async fn run(args: SimArgs) -> ExitCode {
    if args.list_faults {
        for (name, doc) in Faults::names() {
            if writeln!(std::io::stdout(), "{name:<24} {doc}").is_err() {
                break; // the reader has what it wanted
            }
        }
        return ExitCode::SUCCESS;
    }
    match simulate(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The faults of a preset and single ones on top.
///
/// # Errors
/// Names or values that are none.
pub fn faults(preset: &str, single: &[String]) -> anyhow::Result<Faults> {
    let mut faults = Faults::preset(preset)?;
    for pair in single {
        let (name, value) = pair.split_once('=').with_context(|| format!("--fault {pair}: write it as name=value"))?;
        faults.set(name, value)?;
    }
    Ok(faults)
}

async fn simulate(args: SimArgs) -> anyhow::Result<()> {
    let config = WorldConfig {
        bind: args.bind,
        ports: (args.vastai_port, args.tensordock_port),
        advertise_host: args.advertise_host.clone(),
        ssh_ports: args.ssh_ports.clone(),
        times: args.times.into(),
        ..WorldConfig::local(args.seed, faults(&args.preset, &args.faults)?)
    };
    let mut signals = Signals::new()?;
    let world = World::start(config).await.with_context(|| {
        format!(
            "the simulated marketplaces can't listen on {} ports {} and {}: choose others with --vastai-port and --tensordock-port",
            args.bind, args.vastai_port, args.tensordock_port
        )
    })?;
    if let Some(folder) = &args.credentials
        && let Err(error) = hand_over(&world.keys, folder)
    {
        world.stop().await;
        return Err(error);
    }
    println!("# simulated marketplaces; point a server at them with");
    println!("export VASTAI_BASE_URL={} VASTAI_API_KEY={}", world.vastai_url, world.keys.vastai_key);
    println!(
        "export TENSORDOCK_BASE_URL={} TENSORDOCK_AUTH_ID={} TENSORDOCK_API_TOKEN={}",
        world.tensordock_url, world.keys.tensordock_auth_id, world.keys.tensordock_token
    );
    println!("gpu-shopper serve");
    println!("# its machines take ed25519 keys only; http://…/_sim/faults and /_sim/truth of either marketplace tell what goes wrong and what is");
    signals.wait().await;
    world.stop().await;
    Ok(())
}
