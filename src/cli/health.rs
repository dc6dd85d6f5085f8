//! `health`: whether the server is ready, as one word and an exit code; what a container's health check runs.

use crate::cli::Desk;
use crate::cli::failure::{Exit, Failure};
use clap::Args;
use serde_json::json;
use std::time::Duration;
use tonic::Request;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

/// A server that is well answers at once.
const ANSWER: Duration = Duration::from_secs(5);

/// Arguments of `health`.
#[derive(Args, Clone, Debug, Default)]
pub struct HealthArgs {
    /// Be content with a server that answers, though it is not ready (starting or draining)
    #[arg(long)]
    pub live: bool,
}

/// Runs `health`.
///
/// # Errors
/// When nobody answers; when the output can't be written.
pub async fn run(args: HealthArgs, desk: &mut Desk) -> Result<Exit, Failure> {
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(ANSWER);
    let status = desk.connect().await?.health.check(request).await?.into_inner().status();
    let ready = status == ServingStatus::Serving;
    if desk.console.is_json() {
        desk.console.json(&json!({"ready": ready, "status": status.as_str_name()}))?;
    } else {
        desk.console.line(if ready { "ready" } else { "not ready" })?;
    }
    Ok(if ready || args.live { Exit::Ok } else { Exit::Unreachable })
}
