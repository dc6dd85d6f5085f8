//! `load idle`: what a server takes while nobody asks it anything.

use crate::cli::Desk;
use crate::cli::client::asking;
use crate::cli::failure::{Exit, Failure};
use crate::cli::load::process::Process;
use crate::cli::load::report::{Part, Report};
use crate::cli::values::duration;
use crate::clock::Stopwatch;
use crate::grpc::pb;
use clap::Args;
use std::time::Duration;

/// Arguments of `load idle`.
#[derive(Args, Clone, Debug)]
pub struct IdleArgs {
    /// How long to look: up to 1h
    #[arg(long = "for", default_value = "30s", value_name = "TIME", value_parser = duration)]
    pub time: Duration,
}

/// Looks at it for a while.
///
/// # Errors
/// No process was named; what the server says.
pub async fn run(args: &IdleArgs, process: Process, desk: &mut Desk) -> Result<Exit, Failure> {
    let time = args.time.min(Duration::from_secs(3600));
    let mut clients = desk.connect().await?;
    let providers = clients.operator.list_providers(asking(pb::ListProvidersRequest {})).await?.into_inner().providers;
    let open: i32 = providers.iter().map(|p| p.open_session_count).sum();
    let offers: i32 = providers.iter().filter_map(|p| p.freshness.as_ref()).map(|f| f.offer_count).sum();
    drop(clients);
    let Some(before) = process.used()? else {
        return Err(Failure::new(Exit::Usage, "PROCESS", "load idle looks at the server's process: name it with --pid"));
    };
    desk.console.busy("looking");
    let watch = Stopwatch::start();
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = desk.interrupt.wait() => {}
    }
    let elapsed = watch.elapsed();
    let usage = process.used()?.map(|after| after.since(before, elapsed));
    let mut report = Report { load: "idle", ..Report::default() };
    report.facts.insert("open_sessions", u64::try_from(open).unwrap_or(0));
    report.facts.insert("offers", u64::try_from(offers).unwrap_or(0));
    report.parts.push(Part::new("idle", 0, elapsed, usage));
    report.write(desk)?;
    Ok(Exit::Ok)
}
