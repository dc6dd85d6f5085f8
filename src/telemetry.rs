//! Logs, traces and metrics: how they are set up.
//!
//! Metrics are recorded where things happen, by name; `catalogue` is the one list of them. Gauges that mirror the store are
//! set by whoever answers a scrape. Logs go to standard error, as `lines` writes them. Traces leave by OTLP over gRPC
//! when an endpoint is configured; what belongs to which trace is `services/trail.rs`'s business.

mod catalogue;
mod export;
mod lines;

pub use lines::told;

pub use catalogue::{METRICS, Metric, MetricKind, Values, recorder};

use crate::config::{Level, Log};
use crate::services::trail;
use export::Telling;
use lines::Lines;
use metrics_exporter_prometheus::{BuildError, PrometheusHandle};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::io::IsTerminal;
use std::time::Duration;
use tracing::Dispatch;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{FilterFn, LevelFilter, Targets};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, layer::SubscriberExt};

/// How often recorded samples are folded into their histograms.
const UPKEEP: Duration = Duration::from_secs(5);
/// So many lines of the log wait to be written; what comes while there are more is lost, and counted.
const WAITING_LINES: usize = 8_192;

/// What our own targets begin with.
const OURS: &str = "gpu_shopper";

/// What telemetry needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Logs.
    pub log: Log,
    /// Where traces go; `None` = nowhere.
    pub otlp_endpoint: Option<String>,
    /// The providers in the register, for series at zero.
    pub providers: Vec<&'static str>,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The trace exporter.
    #[error("traces can't be exported: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The metrics.
    #[error("metrics can't be set up: {0}")]
    Metrics(#[from] BuildError),
    /// Somebody else has set up logs or metrics in this process already.
    #[error("{0} are set up already in this process")]
    Twice(&'static str),
}

/// Telemetry at work. Dropping it loses the last traces; see [`Telemetry::shutdown`].
#[derive(Debug)]
pub struct Telemetry {
    prometheus: PrometheusHandle,
    tracer: Option<SdkTracerProvider>,
    upkeep: Option<tokio::task::JoinHandle<()>>,
    /// Dropped last: it writes what is left of the log, for a second at most.
    _writing: WorkerGuard,
}

impl Telemetry {
    /// Sets everything up for this process. Must be called inside the runtime, once.
    ///
    /// # Errors
    /// When it can't be set up, or was already.
    pub fn install(settings: &Settings) -> Result<Self, Error> {
        let (recorder, prometheus) = recorder(&settings.providers)?;
        let coloured = std::io::stderr().is_terminal();
        // Lines are written by a thread of their own: whoever has something to say does not wait for whoever reads it, and a pipe that
        // nobody empties stops nothing.
        let written = NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).lossy(true).thread_name("log");
        let (writer, writing) = written.finish(std::io::stderr());
        let lost = writer.error_counter();
        let (dispatch, tracer) = subscriber(settings, BoxMakeWriter::new(writer), coloured)?;
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        dispatch.try_init().map_err(|_| Error::Twice("logs"))?;
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let (text, owned) = (panic.payload().downcast_ref::<&str>().copied(), panic.payload().downcast_ref::<String>().map(String::as_str));
            tracing::error!(place, "a task panicked: {}", text.or(owned).unwrap_or("without a word"));
        }));
        metrics::set_global_recorder(recorder).map_err(|_| Error::Twice("metrics"))?;
        let handle = prometheus.clone();
        let upkeep = tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                handle.run_upkeep();
                let lost = u64::try_from(lost.dropped_lines()).unwrap_or(u64::MAX);
                metrics::counter!("gpu_log_lines_lost_total").absolute(lost);
            }
        });
        Ok(Self { prometheus, tracer, upkeep: Some(upkeep), _writing: writing })
    }

    /// All metrics in Prometheus' text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.prometheus.render()
    }

    /// A handle that renders the metrics, for the scrape's route.
    #[must_use]
    pub fn handle(&self) -> PrometheusHandle {
        self.prometheus.clone()
    }

    /// Sends what is left of the traces (at most 5 s) and stops.
    pub async fn shutdown(mut self) {
        if let Some(upkeep) = self.upkeep.take() {
            upkeep.abort();
        }
        if let Some(tracer) = self.tracer.take() {
            flush(tracer).await;
        }
    }
}

/// Who receives log events and spans: lines to `writer`, traces to the endpoint.
///
/// # Errors
/// When the exporter can't be made.
pub fn subscriber(settings: &Settings, writer: BoxMakeWriter, coloured: bool) -> Result<(Dispatch, Option<SdkTracerProvider>), Error> {
    let level = match settings.log.level {
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warn => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
    };
    // Others' libraries: never their debug output, which knows nothing of our secrets.
    let others = level.min(LevelFilter::WARN);
    // The trace exporter's own never: they repeat for as long as a collector is away; `export` tells that once.
    let targets = Targets::new().with_default(others).with_target("opentelemetry", LevelFilter::OFF).with_target(OURS, level);
    // Our spans always: they carry the names of request and session to whatever line is written.
    let shown = move |seen: &tracing::Metadata<'_>| {
        if seen.is_span() { seen.target().starts_with(OURS) } else { targets.would_enable(seen.target(), seen.level()) }
    };
    let shown = FilterFn::new(shown).with_max_level_hint(level.max(LevelFilter::INFO));
    let logs = Lines { format: settings.log.format, writer, coloured }.with_filter(shown);
    let tracer = match &settings.otlp_endpoint {
        None => None,
        Some(endpoint) => {
            let exporter =
                opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(Duration::from_secs(5)).build()?;
            let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
            let resource = Resource::builder().with_service_name(env!("CARGO_PKG_NAME")).with_attribute(version).build();
            trail::record();
            Some(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(Telling::new(exporter, endpoint)).build())
        }
    };
    let traces = tracer.as_ref().map(|provider| {
        // Spans alone: what is logged within them is in the log, and texts of vendors are kept out of traces.
        let ours = FilterFn::new(|seen| seen.is_span() && seen.target().starts_with(OURS)).with_max_level_hint(LevelFilter::INFO);
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("gpu-shopper"));
        layer.with_location(false).with_threads(false).with_tracked_inactivity(false).with_filter(ours)
    });
    Ok((Dispatch::new(tracing_subscriber::registry().with(logs).with(traces)), tracer))
}

/// Sends what is left and stops the exporter, off the runtime's threads since it blocks.
pub async fn flush(tracer: SdkTracerProvider) {
    match tokio::task::spawn_blocking(move || tracer.shutdown()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the last traces could not be sent"),
        Err(error) => tracing::warn!(%error, "the trace exporter broke off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: Level, format: LogFormat) -> String {
        let lines = Written::default();
        let writer = {
            let lines = lines.clone();
            BoxMakeWriter::new(move || lines.clone())
        };
        let settings = Settings { log: Log { level, format }, otlp_endpoint: None, providers: Vec::new() };
        let (dispatch, _) = subscriber(&settings, writer, false).unwrap();
        tracing::dispatcher::with_default(&dispatch, || {
            let _span = tracing::info_span!("http", request_id = "r-1").entered();
            tracing::debug!("a detail");
            tracing::info!(session_id = "s-1", "it runs");
            tracing::error!("it broke");
            tracing::info!(target: "h2", "a frame");
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn log_lines_follow_level_and_format() {
        let text = logged(Level::Info, LogFormat::Text);
        assert!(text.contains("it runs") && text.contains("request_id=r-1") && !text.contains("a detail") && !text.contains("a frame"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(logged(Level::Debug, LogFormat::Text).lines().count(), 3);
        let errors = logged(Level::Error, LogFormat::Json);
        assert_eq!(errors.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&errors).unwrap();
        assert_eq!((line["level"].as_str(), line["message"].as_str()), (Some("ERROR"), Some("it broke")));
        // The name of the request stands on every line, also where its span is below the level.
        assert_eq!(line["request_id"], "r-1");
        let json = logged(Level::Warn, LogFormat::Json);
        assert!(!json.contains("it runs"));
        let info = logged(Level::Info, LogFormat::Json);
        let line: serde_json::Value = serde_json::from_str(info.lines().next().unwrap()).unwrap();
        assert_eq!((line["session_id"].as_str(), line["request_id"].as_str(), line.get("spans")), (Some("s-1"), Some("r-1"), None));
    }
}
