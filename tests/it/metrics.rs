//! Every metric, brought about: for each one there is a scenario here after which it is no longer zero. Whoever adds a metric
//! adds it to a scenario, or this file does not let it pass.

use crate::child::{Served, http, pointed_at, wanted, world};
use crate::support::{Altered, House, Plan, Wrap, any, caller, request};
use crate::sweep::{ours, planted};
use gpu_shopper::app::tag_of;
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::ids::{Label, ProviderId};
use gpu_shopper::domain::money::Nanos;
use gpu_shopper::domain::session::{EndReason, LaunchMode, Request, State, Workload};
use gpu_shopper::grpc::pb;
use gpu_shopper::ports::{Breaker, SystemChance};
use gpu_shopper::providers::http::{Context, Tuning, install_crypto};
use gpu_shopper::providers::{Settings, entry};
use gpu_shopper::services::api::Command;
use gpu_shopper::services::costs::Accrued;
use gpu_shopper::services::counters;
use gpu_shopper::services::lifecycle::Order;
use gpu_shopper::services::sweeper::HoldKind;
use gpu_shopper::sim::{ALWAYS, Delay, Dialect, Fault, Faults};
use gpu_shopper::telemetry::{self, METRICS};
use metrics_exporter_prometheus::{PrometheusHandle, PrometheusRecorder};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

const RENTAL: &[&str] = &[
    "gpu_sessions_active",
    "gpu_sessions_created_total",
    "gpu_sessions_destroyed_total",
    "gpu_ssh_verify_duration_seconds",
    "gpu_ssh_verify_attempts",
    "gpu_ssh_verify_errors_by_type",
    "gpu_session_disk_available_gb",
    "gpu_provisioning_duration_seconds",
    "gpu_cost_accrued_usd",
    "gpu_spend_usd_per_hour",
    "gpu_provider_enabled",
    "gpu_provider_up",
    "gpu_provider_credentials_ok",
    "gpu_offers",
    "gpu_offers_age_seconds",
];
const FAILOVER: &[&str] = &[
    "gpu_ssh_verify_failures_total",
    "gpu_session_retry_attempts_total",
    "gpu_session_retry_successes_total",
    "gpu_session_retry_exhausted_total",
    "gpu_offer_failures_total",
];
const ENDINGS: &[&str] =
    &["gpu_ghosts_detected_total", "gpu_reconciliation_mismatches_total", "gpu_hard_max_enforced_total", "gpu_budget_alerts_total"];
const API: &[&str] = &["gpu_api_verify_duration_seconds", "gpu_api_verify_failures_total"];
const DEBTS: &[&str] = &["gpu_destroy_failures_total", "gpu_unconfirmed_destroys", "gpu_unconfirmed_destroy_age_seconds", "gpu_at_risk_usd_per_hour"];
const STRANGERS: &[&str] = &["gpu_orphans_detected_total", "gpu_stray_instances", "gpu_foreign_instances", "gpu_holds"];
const FROZEN: &[&str] = &["gpu_database_frozen"];
const WIRE: &[&str] = &[
    "http_requests_total",
    "http_request_duration_seconds",
    "http_requests_refused_total",
    "gpu_provider_api_response_time_seconds",
    "gpu_provider_api_calls_total",
    "gpu_provider_api_errors_total",
];
const BREAKER: &[&str] = &["gpu_provider_circuit_breaker_state"];
/// In `process::a_log_that_nobody_reads_stops_nothing`: it takes a pipe.
const LOG: &[&str] = &["gpu_log_lines_lost_total"];

#[test]
fn every_metric_has_its_scenario() {
    let proven: BTreeSet<&str> = [RENTAL, FAILOVER, ENDINGS, API, DEBTS, STRANGERS, FROZEN, WIRE, BREAKER, LOG].concat().into_iter().collect();
    let all: BTreeSet<&str> = METRICS.iter().map(|m| m.name).collect();
    assert_eq!(proven, all);
}

fn recorder() -> (PrometheusRecorder, PrometheusHandle) {
    telemetry::recorder(&["vastai", "tensordock"]).unwrap()
}

/// The series of a scrape that are not zero, as they stand there.
fn moved(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    samples.filter_map(|(series, value)| Some((series.to_owned(), value.parse::<f64>().ok()?))).filter(|(_, value)| *value != 0.0).collect()
}

#[track_caller]
fn all_moved(series: &BTreeMap<String, f64>, wanted: &[&str]) {
    let name = |series: &str| series.split('{').next().unwrap_or_default().to_owned();
    for metric in wanted {
        let known = [(*metric).to_owned(), format!("{metric}_count")];
        assert!(series.keys().any(|key| known.contains(&name(key))), "{metric} is still zero: {series:#?}");
    }
}

/// What a scrape of a house shows.
async fn scraped(house: &House, handle: &PrometheusHandle) -> BTreeMap<String, f64> {
    let core = house.core();
    counters::scrape(&core.board, &core.providers);
    counters::watched(&core.operator).await;
    counters::accrued(&Accrued::new(core.costs.clone()).by_provider().await.unwrap(), &core.providers);
    moved(&handle.render())
}

async fn end(house: &House, id: gpu_shopper::domain::ids::SessionId) {
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, HOUR).await;
}

#[tokio::test(start_paused = true)]
async fn a_rental_moves_its_metrics() {
    let (recorder, handle) = recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let house = House::new(201, Faults::none().with_delay(Delay::SshUp, Duration::from_secs(20))).await;
    let id = house.rent(Some("vastai")).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    house.pass(10 * MINUTE).await;
    let running = scraped(&house, &handle).await;
    assert_eq!(running["gpu_sessions_active{provider=\"vastai\",status=\"running\"}"], 1.0);
    assert_eq!(running["gpu_session_disk_available_gb{provider=\"vastai\"}"], 64.0);
    assert_eq!(running["gpu_provider_up{provider=\"tensordock\"}"], 1.0);
    // Before the first failure, so that it is seen as an increase.
    let gpu = house.get(id).await.attempts[0].offer.gpu.to_string();
    let none_yet = format!("gpu_offer_failures_total{{provider=\"vastai\",gpu_type=\"{gpu}\",failure_type=\"auth_failed\"}} 0");
    assert!(handle.render().contains(&none_yet), "{none_yet}");
    end(&house, id).await;
    let ended = scraped(&house, &handle).await;
    assert_eq!(ended["gpu_sessions_destroyed_total{provider=\"vastai\",reason=\"destroyed_by_user\"}"], 1.0);
    // Gauges are what is, not what was added and taken away.
    for gone in ["gpu_sessions_active{provider=\"vastai\",status=\"running\"}", "gpu_session_disk_available_gb{provider=\"vastai\"}"] {
        assert!(!ended.contains_key(gone), "{ended:#?}");
    }
    all_moved(&running.into_iter().chain(ended).collect(), RENTAL);
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn attempts_that_fail_move_theirs() {
    let (recorder, handle) = recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let house = Plan::new(202, Faults::none().with(Fault::GpuLies, ALWAYS)).at(Dialect::Vastai).build().await;
    let lucky = house.rent(None).await.session.id;
    while house.get(lucky).await.attempts.len() < 2 {
        house.pass(Duration::from_secs(5)).await;
    }
    house.market.set_faults(Faults::none());
    house.until(lucky, State::Running, HOUR).await;
    house.market.set_faults(Faults::none().with(Fault::StaleAsk, ALWAYS));
    let unlucky = house.rent(None).await.session.id;
    house.until(unlucky, State::Failed, HOUR).await;
    end(&house, lucky).await;
    all_moved(&scraped(&house, &handle).await, FAILOVER);
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn endings_move_theirs() {
    let (recorder, handle) = recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let house = Plan::new(203, Faults::none()).at(Dialect::Tensordock).build().await;
    let dear = Request { max_total_cost: Some(Nanos(2_000_000_000)), reservation: HOUR, ..request(any(None)) };
    let dear = house.create(dear).await.unwrap().session.id;
    house.until(dear, State::Running, 10 * MINUTE).await;
    let native = house.alive().into_iter().next().unwrap();
    assert!(house.market.reprice(&native, 10_000));
    assert_eq!(house.until(dear, State::Stopped, HOUR).await.end_reason, Some(EndReason::CostLimit));
    let lost = house.rent(None).await.session.id;
    house.until(lost, State::Running, 10 * MINUTE).await;
    assert!(house.market.vanish(&house.alive()[0]));
    assert_eq!(house.until(lost, State::Failed, HOUR).await.end_reason, Some(EndReason::HostLost));
    let long = house.create(Request { reservation: 12 * HOUR, ..request(any(None)) }).await.unwrap().session.id;
    assert_eq!(house.until(long, State::Stopped, 13 * HOUR).await.end_reason, Some(EndReason::HardMax));
    let series = scraped(&house, &handle).await;
    all_moved(&series, ENDINGS);
    for kind in ["warning", "exceeded"] {
        assert_eq!(series[&format!("gpu_budget_alerts_total{{alert_type=\"{kind}\"}}")], 1.0);
    }
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn apis_that_answer_and_that_never_did_move_theirs() {
    let (recorder, handle) = recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let house = Plan::new(204, Faults::none()).at(Dialect::Vastai).build().await;
    let serving = Request {
        workload: Workload::LlmVllm,
        launch_mode: LaunchMode::Entrypoint,
        model_id: Some("Qwen/Qwen2.5-7B-Instruct".to_owned()),
        ..request(any(None))
    };
    let well = house.create(serving.clone()).await.unwrap().session.id;
    house.until(well, State::Running, 10 * MINUTE).await;
    house.pass(5 * MINUTE).await;
    end(&house, well).await;
    let answered = scraped(&house, &handle).await;
    assert_eq!(answered["gpu_api_verify_duration_seconds_count{provider=\"vastai\"}"], 1.0);
    assert!(!answered.contains_key("gpu_api_verify_failures_total{provider=\"vastai\"}"));
    let hasty = house.create(serving).await.unwrap().session.id;
    house.until(hasty, State::Running, 10 * MINUTE).await;
    end(&house, hasty).await;
    all_moved(&scraped(&house, &handle).await, API);
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn machines_that_do_not_go_move_theirs() {
    let (recorder, handle) = recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let faults = Faults::none().with(Fault::DestroyRefused, ALWAYS).with_delay(Delay::Undeletable, 10 * HOUR);
    let house = Plan::new(205, faults).at(Dialect::Vastai).build().await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    house.command(id, Command::Destroy).await.unwrap();
    house.pass(HOUR).await;
    all_moved(&scraped(&house, &handle).await, DEBTS);
    house.until(id, State::Stopped, 20 * HOUR).await;
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn strangers_and_holds_move_theirs() {
    let (recorder, handle) = recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let house = Plan::new(206, Faults::none()).at(Dialect::Vastai).build().await;
    planted(&house, Dialect::Vastai, &ours(&house, 7, 1).to_string()).await;
    planted(&house, Dialect::Vastai, "somebody's own").await;
    let hold = Order::Hold { provider: ProviderId::new("vastai"), kind: HoldKind::Expiry, until: None, reason: "we look".to_owned() };
    house.core().lifecycle.order(caller(), hold).await.unwrap();
    house.pass(5 * MINUTE).await;
    all_moved(&scraped(&house, &handle).await, STRANGERS);
}

/// An orphan is counted once: when it is found, however long a hold keeps it from being destroyed.
#[tokio::test(start_paused = true)]
async fn an_orphan_behind_a_hold_is_counted_when_it_is_found() {
    let (recorder, handle) = recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let house = Plan::new(209, Faults::none()).at(Dialect::Vastai).build().await;
    let id = house.rent(None).await.session.id;
    house.until(id, State::Running, 10 * MINUTE).await;
    let provider = ProviderId::new("vastai");
    let hold = Order::Hold { provider: provider.clone(), kind: HoldKind::Sweeper, until: None, reason: "we look".to_owned() };
    house.core().lifecycle.order(caller(), hold).await.unwrap();
    planted(&house, Dialect::Vastai, &Label { tag: tag_of(&house.deployment), session: id, attempt: 1 }.to_string()).await;
    house.pass(5 * MINUTE).await;
    let counted = async || scraped(&house, &handle).await.get("gpu_orphans_detected_total").copied();
    assert_eq!((counted().await, house.alive().len()), (Some(1.0), 2));
    house.core().lifecycle.order(caller(), Order::Lift { provider, kind: HoldKind::Sweeper, reason: String::new() }).await.unwrap();
    house.pass(5 * MINUTE).await;
    assert_eq!((counted().await, house.alive().len()), (Some(1.0), 1));
    end(&house, id).await;
    house.close().await;
}

/// A list that was on its way when a machine was proven gone says nothing of it, be it of a session that goes on or one that is over.
#[tokio::test(start_paused = true)]
async fn a_list_from_before_a_machine_was_gone_finds_no_orphan() {
    let (recorder, handle) = recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let wrap: Wrap = Arc::new(|provider| Arc::new(Altered { answer_takes: MINUTE, ..Altered::of(provider) }));
    let house = Plan::new(210, Faults::none()).at(Dialect::Vastai).wrapped(wrap).build().await;
    let kept = house.rent(None).await.session.id;
    house.until(kept, State::Running, 10 * MINUTE).await;
    let twin = Label { tag: tag_of(&house.deployment), session: kept, attempt: 1 };
    planted(&house, Dialect::Vastai, &twin.to_string()).await;
    house.pass(10 * MINUTE).await;
    let counted = async || scraped(&house, &handle).await.get("gpu_orphans_detected_total").copied();
    assert_eq!((counted().await, house.alive().len()), (Some(1.0), 1), "it was one too many, once");
    for seconds in [0, 7, 19, 31, 43, 55] {
        let id = house.rent(None).await.session.id;
        house.until(id, State::Running, 10 * MINUTE).await;
        house.pass(Duration::from_secs(60 + seconds)).await;
        end(&house, id).await;
        house.pass(5 * MINUTE).await;
    }
    end(&house, kept).await;
    house.pass(5 * MINUTE).await;
    assert_eq!(counted().await, Some(1.0));
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_in_doubt_moves_its_own() {
    let (recorder, handle) = recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let mut house = Plan::new(207, Faults::none()).at(Dialect::Vastai).on_disk().build().await;
    house.die().await;
    house.frozen = Some("it is older than its epoch".to_owned());
    house.start(None).await;
    all_moved(&scraped(&house, &handle).await, FROZEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_and_to_others_move_theirs() {
    let (world, home) = (world(208, Faults::none()).await, tempfile::tempdir().unwrap());
    let mut env = pointed_at(&world, home.path());
    env.insert("VASTAI_API_KEY".to_owned(), "ab".repeat(32));
    let server = Served::ready(home.path(), &env, 1).await;
    let first = http().get(format!("{}/metrics", server.url)).send().await.unwrap();
    assert_eq!(first.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    // All of them are there from the start.
    let text = first.text().await.unwrap();
    for metric in METRICS {
        assert!(text.contains(&format!("# TYPE {} ", metric.name)), "{}", metric.name);
    }
    server.sessions().await.list_sessions(pb::ListSessionsRequest::default()).await.unwrap();
    let refused = server.sessions().await.create_session(wanted("vastai")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    let page = http().get(format!("{}/health", server.url)).header("origin", "http://elsewhere.example").send().await.unwrap();
    assert_eq!(page.status().as_u16(), 403);
    let series = moved(&server.get("/metrics").await.1);
    all_moved(&series, WIRE);
    assert!(series.contains_key("gpu_provider_api_errors_total{provider=\"vastai\",operation=\"account\"}"), "{series:#?}");
    assert!(
        series.keys().any(|key| key.starts_with("http_requests_total{") && key.contains("SessionService") && key.contains("POST")),
        "{series:#?}"
    );
    assert!(!series.contains_key("gpu_provider_credentials_ok{provider=\"vastai\"}"), "it refuses them");
    server.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_provider_that_is_away_moves_its_breaker() {
    let (recorder, handle) = recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    install_crypto();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tuning = Tuning { pace_percent: 0, read_retries: 0, ..Tuning::default() };
    let context = Context { tuning, ..Context::new(Clock::System, Arc::new(SystemChance)) };
    let settings = Settings::new().with("api_key", &"ab".repeat(32)).with("base_url", &format!("http://{nobody}"));
    let provider = (entry("vastai").unwrap().build)(&settings, &context).unwrap();
    for _ in 0..20 {
        provider.account().await.unwrap_err();
    }
    assert_eq!(provider.link().breaker, Breaker::Open);
    let series = moved(&handle.render());
    all_moved(&series, BREAKER);
    assert!(series.contains_key("gpu_provider_api_calls_total{provider=\"vastai\",operation=\"account\",status=\"circuit_open\"}"), "{series:#?}");
}
