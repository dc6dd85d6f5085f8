//! The one list of every metric there is, and the recorder that has all of them described and at zero, so that a dashboard
//! knows a series before its first event.

use crate::domain::session::{AttemptFailure, EndReason, State};
use crate::domain::verify::ProbeFailureKind;
use metrics::{Label, Unit};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// Its labels.
    pub labels: &'static [(&'static str, Values)],
    /// What it counts or measures.
    pub doc: &'static str,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// A current value.
    Gauge,
    /// Samples in buckets with these upper bounds.
    Histogram(&'static [f64]),
}

/// Which values a label can have. Series are put at zero for every combination of values that are known beforehand.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// The providers in the register.
    Providers,
    /// These.
    Fixed(&'static [&'static str]),
    /// The states of an open session.
    OpenStates,
    /// The reasons for an end.
    EndReasons,
    /// Why an attempt failed.
    AttemptFailures,
    /// Why a login did not work.
    LoginFailures,
    /// Not known beforehand; the zero series leaves the label out.
    Open,
}

impl Values {
    fn known(self, providers: &[&str]) -> Vec<String> {
        let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect();
        match self {
            Self::Providers => words(providers),
            Self::Fixed(list) => words(list),
            Self::OpenStates => State::ALL.iter().filter(|s| !s.is_final()).map(|s| s.word().to_owned()).collect(),
            Self::EndReasons => EndReason::ALL.iter().map(|r| r.word().to_owned()).collect(),
            Self::AttemptFailures => AttemptFailure::ALL.iter().map(|f| f.word().to_owned()).collect(),
            Self::LoginFailures => ProbeFailureKind::ALL.iter().map(|k| k.word().to_owned()).collect(),
            Self::Open => Vec::new(),
        }
    }
}

const PROVIDER: (&str, Values) = ("provider", Values::Providers);
const OPERATION: (&str, Values) =
    ("operation", Values::Fixed(&["account", "attach_key", "destroy", "instance", "instances", "launch", "offers", "start", "templates"]));
const SCOPE: (&str, Values) = ("scope", Values::Fixed(&["same_gpu", "same_memory", "any"]));

const REQUEST_SECONDS: MetricKind = MetricKind::Histogram(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);
const CALL_SECONDS: MetricKind = MetricKind::Histogram(&[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0]);
const VERIFY_SECONDS: MetricKind = MetricKind::Histogram(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]);
const PROVISION_SECONDS: MetricKind = MetricKind::Histogram(&[5.0, 10.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 2700.0]);
const TRIES: MetricKind = MetricKind::Histogram(&[1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0]);

const fn metric(name: &'static str, kind: MetricKind, labels: &'static [(&'static str, Values)], doc: &'static str) -> Metric {
    Metric { name, kind, labels, doc }
}

/// Every metric there is.
pub const METRICS: &[Metric] = &[
    metric(
        "http_requests_total",
        MetricKind::Counter,
        &[("method", Values::Open), ("path", Values::Open), ("status", Values::Open)],
        "Requests answered on the port, gRPC included, by route pattern.",
    ),
    metric(
        "http_request_duration_seconds",
        REQUEST_SECONDS,
        &[("method", Values::Open), ("path", Values::Open), ("status", Values::Open)],
        "Time until an answer began.",
    ),
    metric(
        "http_requests_refused_total",
        MetricKind::Counter,
        &[("reason", Values::Fixed(&["TOKEN_MISSING", "TOKEN_INVALID", "ROLE_REQUIRED", "RATE_LIMITED", "TOO_MANY_STREAMS", "FOREIGN_PAGE"]))],
        "Requests refused for who or what asked, or how often.",
    ),
    metric("gpu_sessions_active", MetricKind::Gauge, &[PROVIDER, ("status", Values::OpenStates)], "Sessions that have not ended."),
    metric("gpu_sessions_created_total", MetricKind::Counter, &[PROVIDER], "Sessions created."),
    metric("gpu_sessions_destroyed_total", MetricKind::Counter, &[PROVIDER, ("reason", Values::EndReasons)], "Sessions ended, by end reason."),
    metric("gpu_orphans_detected_total", MetricKind::Counter, &[], "Machines found that should be gone or that no session knows."),
    metric("gpu_ghosts_detected_total", MetricKind::Counter, &[], "Running sessions whose machine was found to be gone."),
    metric("gpu_destroy_failures_total", MetricKind::Counter, &[PROVIDER], "Destroy calls that failed; they are repeated."),
    metric("gpu_reconciliation_mismatches_total", MetricKind::Counter, &[], "Differences found between the store and a provider's list."),
    metric("gpu_hard_max_enforced_total", MetricKind::Counter, &[], "Sessions ended by the hard limit."),
    metric("gpu_ssh_verify_duration_seconds", VERIFY_SECONDS, &[PROVIDER], "Time from the first look at an address to a login that worked."),
    metric("gpu_ssh_verify_attempts", TRIES, &[PROVIDER], "Logins tried until one worked."),
    metric(
        "gpu_ssh_verify_errors_by_type",
        MetricKind::Counter,
        &[PROVIDER, ("error_type", Values::LoginFailures)],
        "Logins that did not work, by kind.",
    ),
    metric("gpu_ssh_verify_failures_total", MetricKind::Counter, &[PROVIDER], "Attempts given up because verification failed."),
    metric(
        "gpu_api_verify_duration_seconds",
        PROVISION_SECONDS,
        &[PROVIDER],
        "Time from RUNNING until the API of a session that serves one answered first.",
    ),
    metric(
        "gpu_api_verify_failures_total",
        MetricKind::Counter,
        &[PROVIDER],
        "Sessions that were to serve an API, ran, and began to end before it ever answered.",
    ),
    metric(
        "gpu_session_disk_available_gb",
        MetricKind::Gauge,
        &[PROVIDER],
        "Least free disk space on a running machine, in GB, as told at its last login; 0 when none is known.",
    ),
    metric("gpu_provisioning_duration_seconds", PROVISION_SECONDS, &[PROVIDER], "Time from create to RUNNING."),
    metric("gpu_cost_accrued_usd", MetricKind::Gauge, &[PROVIDER], "Cost of all sessions to date, in dollars."),
    metric(
        "gpu_budget_alerts_total",
        MetricKind::Counter,
        &[("alert_type", Values::Fixed(&["warning", "exceeded"]))],
        "Sessions that spent nine tenths of their `max_total_cost` (warning), or were ended for it (exceeded).",
    ),
    metric("gpu_provider_api_response_time_seconds", CALL_SECONDS, &[PROVIDER, OPERATION], "How long a provider took to answer."),
    metric(
        "gpu_provider_api_calls_total",
        MetricKind::Counter,
        &[PROVIDER, OPERATION, ("status", Values::Fixed(&["success", "error", "circuit_open"]))],
        "Calls to a provider, by outcome.",
    ),
    metric("gpu_provider_api_errors_total", MetricKind::Counter, &[PROVIDER, OPERATION], "Calls to a provider that failed."),
    metric("gpu_provider_circuit_breaker_state", MetricKind::Gauge, &[PROVIDER], "A provider's breaker: 0 closed, 1 open, 2 half-open."),
    metric(
        "gpu_session_retry_attempts_total",
        MetricKind::Counter,
        &[PROVIDER, SCOPE, ("reason", Values::AttemptFailures)],
        "Further attempts begun after one that failed.",
    ),
    metric("gpu_session_retry_successes_total", MetricKind::Counter, &[PROVIDER, SCOPE], "Sessions that came to run by a further attempt."),
    metric("gpu_session_retry_exhausted_total", MetricKind::Counter, &[PROVIDER, SCOPE], "Sessions that failed after further attempts."),
    metric(
        "gpu_offer_failures_total",
        MetricKind::Counter,
        &[PROVIDER, ("gpu_type", Values::Open), ("failure_type", Values::AttemptFailures)],
        "Failures remembered against offers.",
    ),
    metric(
        "gpu_stray_instances",
        MetricKind::Gauge,
        &[PROVIDER],
        "Machines with a label of this deployment that no record wants: strays, waiting orphans.",
    ),
    metric("gpu_foreign_instances", MetricKind::Gauge, &[PROVIDER], "Machines on the account that are not of this deployment."),
    metric("gpu_unconfirmed_destroys", MetricKind::Gauge, &[PROVIDER], "Machines that should be gone and are not proven so."),
    metric("gpu_unconfirmed_destroy_age_seconds", MetricKind::Gauge, &[PROVIDER], "For how long the oldest of them should have been gone."),
    metric(
        "gpu_at_risk_usd_per_hour",
        MetricKind::Gauge,
        &[PROVIDER],
        "What machines that should be gone and are not proven so may cost, in dollars.",
    ),
    metric(
        "gpu_spend_usd_per_hour",
        MetricKind::Gauge,
        &[PROVIDER, ("kind", Values::Fixed(&["running", "stopping", "stray", "foreign"]))],
        "What is spent per hour now, in dollars, by what the machines are.",
    ),
    metric(
        "gpu_holds",
        MetricKind::Gauge,
        &[PROVIDER, ("kind", Values::Fixed(&["launches", "sweeper", "expiry"]))],
        "1 while an operator, or the sweeper itself, holds this.",
    ),
    metric("gpu_provider_enabled", MetricKind::Gauge, &[PROVIDER], "1 for a provider that has credentials."),
    metric("gpu_provider_up", MetricKind::Gauge, &[PROVIDER], "1 while the last look at the account gave a complete list."),
    metric("gpu_provider_credentials_ok", MetricKind::Gauge, &[PROVIDER], "0 while the provider refuses our credentials."),
    metric("gpu_offers", MetricKind::Gauge, &[PROVIDER], "Offers known now."),
    metric("gpu_offers_age_seconds", MetricKind::Gauge, &[PROVIDER], "How old they are; 0 before the first."),
    metric("gpu_log_lines_lost_total", MetricKind::Counter, &[], "Lines of the log that were lost because nobody read those before them."),
    metric("gpu_database_frozen", MetricKind::Gauge, &[], "1 while nothing automatic happens until an operator accepts the database."),
];

/// A recorder with every metric of [`METRICS`] described and at zero, and the handle that renders it.
///
/// # Errors
/// When the table's buckets make no sense.
pub fn recorder(providers: &[&str]) -> Result<(PrometheusRecorder, PrometheusHandle), BuildError> {
    let mut builder = PrometheusBuilder::new();
    for m in METRICS {
        if let MetricKind::Histogram(buckets) = m.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(m.name.to_owned()), buckets)?;
        }
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || METRICS.iter().for_each(|m| at_zero(m, providers)));
    Ok((recorder, handle))
}

fn at_zero(m: &Metric, providers: &[&str]) {
    let unit = if m.name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count };
    match m.kind {
        MetricKind::Counter => metrics::describe_counter!(m.name, unit, m.doc),
        MetricKind::Gauge => metrics::describe_gauge!(m.name, unit, m.doc),
        MetricKind::Histogram(_) => metrics::describe_histogram!(m.name, unit, m.doc),
    }
    let mut series: Vec<Vec<Label>> = vec![Vec::new()];
    for (name, values) in m.labels {
        let known = values.known(providers);
        if !known.is_empty() {
            series = series
                .into_iter()
                .flat_map(|labels| {
                    known.iter().map(move |value| {
                        let mut labels = labels.clone();
                        labels.push(Label::new(*name, value.clone()));
                        labels
                    })
                })
                .collect();
        }
    }
    for labels in series {
        match m.kind {
            MetricKind::Counter => metrics::counter!(m.name, labels).increment(0),
            MetricKind::Gauge => metrics::gauge!(m.name, labels).set(0.0),
            MetricKind::Histogram(_) => drop(metrics::histogram!(m.name, labels)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_there_at_zero_with_its_description() {
        let (_recorder, handle) = recorder(&["vastai", "tensordock"]).unwrap();
        let text = handle.render();
        for m in METRICS {
            assert!(text.contains(&format!("# HELP {} ", m.name)), "{} has no description", m.name);
            let sample = |line: &&str| line.starts_with(m.name) && !line.starts_with('#');
            let lines: Vec<&str> = text.lines().filter(sample).collect();
            assert!(!lines.is_empty(), "{} has no series", m.name);
            assert!(lines.iter().all(|line| line.ends_with(" 0")), "{lines:?}");
        }
        assert!(text.contains("gpu_sessions_active{provider=\"tensordock\",status=\"running\"} 0"), "{text}");
        assert!(text.contains("gpu_orphans_detected_total 0"));
        for kind in ProbeFailureKind::ALL {
            let series = format!("gpu_ssh_verify_errors_by_type{{provider=\"vastai\",error_type=\"{}\"}} 0", kind.word());
            assert!(text.contains(&series), "{series}");
        }
        for failure in AttemptFailure::ALL {
            for series in [
                format!("gpu_session_retry_attempts_total{{provider=\"tensordock\",scope=\"any\",reason=\"{failure}\"}} 0"),
                format!("gpu_offer_failures_total{{provider=\"vastai\",failure_type=\"{failure}\"}} 0"),
            ] {
                assert!(text.contains(&series), "{series}");
            }
        }
        assert!(text.contains("gpu_ssh_verify_duration_seconds_bucket{provider=\"vastai\",le=\"512\"} 0"));
    }

    /// Names are recorded by literals all over the sources: each must be in the table.
    #[test]
    fn no_metric_is_recorded_that_the_table_does_not_know() {
        let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        let mut found = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                for kind in ["counter", "gauge", "histogram"] {
                    for rest in text.split(&format!("{kind}!(")).skip(1) {
                        if let Some(name) = rest.trim_start().strip_prefix('"').and_then(|r| r.split('"').next()) {
                            found += 1;
                            assert!(METRICS.iter().any(|m| m.name == name), "{name} in {}", path.display());
                        }
                    }
                }
            }
        }
        assert!(found > 0);
    }
}
