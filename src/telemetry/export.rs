//! Sends spans to the collector, and tells when that begins to fail and when it works again, once each: a collector may be away
//! for days.
//!
//! Repeats nothing and keeps nothing: what can't be sent is lost, as the exporter inside decides.

use crate::domain::ids::clip;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// An exporter that tells how it fares.
#[derive(Debug)]
pub(super) struct Telling<E> {
    exporter: E,
    /// Where it sends, without a user's name, path or query.
    endpoint: String,
    failing: AtomicBool,
}

impl<E> Telling<E> {
    /// Around an exporter that sends to this endpoint.
    pub(super) fn new(exporter: E, endpoint: &str) -> Self {
        let shown = endpoint.parse::<http::Uri>().ok().and_then(|uri| {
            let (host, scheme) = (uri.host()?, uri.scheme_str()?);
            Some(uri.port_u16().map_or_else(|| format!("{scheme}://{host}"), |port| format!("{scheme}://{host}:{port}")))
        });
        Self { exporter, endpoint: shown.unwrap_or_else(|| "the configured address".to_owned()), failing: AtomicBool::new(false) }
    }

    fn tell(&self, done: &OTelSdkResult) {
        match done {
            Ok(()) => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(endpoint = self.endpoint, "traces are sent again; spans of the time between are lost");
                }
            }
            // Ours to end.
            Err(OTelSdkError::AlreadyShutdown) => {}
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    let why = clip(&error.to_string(), 300);
                    tracing::warn!(
                        endpoint = self.endpoint,
                        error = why,
                        "traces can't be sent and are lost until it works again, which is told; everything else goes on: see whether an OTLP \
                         collector takes gRPC there, or correct OTEL_EXPORTER_OTLP_ENDPOINT"
                    );
                }
            }
        }
    }
}

impl<E: SpanExporter> SpanExporter for Telling<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let done = self.exporter.export(batch).await;
        self.tell(&done);
        done
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails as often as it is told to.
    #[derive(Debug, Default)]
    struct Fails(AtomicBool);

    impl SpanExporter for Fails {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            if self.0.load(Ordering::Relaxed) { Err(OTelSdkError::InternalFailure("nobody listens".to_owned())) } else { Ok(()) }
        }
    }

    #[tokio::test]
    async fn a_failure_is_told_once_until_it_works_again() {
        let exporter = Telling::new(Fails::default(), "http://localhost:4317");
        let mut changes = Vec::new();
        for fails in [false, true, true, false, false, true] {
            let before = exporter.failing.load(Ordering::Relaxed);
            exporter.exporter.0.store(fails, Ordering::Relaxed);
            assert_eq!(exporter.export(Vec::new()).await.is_err(), fails);
            changes.push(before != exporter.failing.load(Ordering::Relaxed));
        }
        assert_eq!(changes, [false, true, false, true, false, true]);
        exporter.tell(&Err(OTelSdkError::AlreadyShutdown));
    }

    #[test]
    fn the_endpoint_is_shown_without_what_may_be_secret() {
        let shown = |endpoint: &str| Telling::new((), endpoint).endpoint;
        assert_eq!(shown("http://me@otel.example:4317/x?key=canary"), "http://otel.example:4317");
        assert_eq!(shown("http://[::1]"), "http://[::1]");
        assert_eq!(shown("canary of no form"), "the configured address");
    }
}
