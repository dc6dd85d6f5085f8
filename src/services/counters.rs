//! Prometheus counters drawn from what was committed: each event counts once, whatever led to it. Gauges are computed
//! from the board and the sweeper's findings at the scrape, never by adding and subtracting.

use crate::domain::event::{Event, EventType};
use crate::domain::ids::ProviderId;
use crate::domain::instance::DestroyAnswer;
use crate::domain::lifecycle::Input;
use crate::domain::money::{Nanos, Rate};
use crate::domain::service;
use crate::domain::session::{AttemptFailure, ConditionType, EndReason, Session, Stage, State, Truth};
use crate::services::api::UnconfirmedDestroy;
use crate::services::board::Board;
use crate::services::operator::Operator;
use crate::services::sweeper::HoldKind;
use metrics::{Gauge, counter, gauge, histogram};
use std::collections::BTreeMap;

/// Counts what an event tells.
pub(super) fn count(event: &Event) {
    let session = &*event.session;
    let provider = provider_of(session);
    match event.kind {
        EventType::StateChanged => state_changed(event, session, &provider),
        EventType::AttemptEnded => attempt_ended(session, &provider),
        EventType::CostWarning => counter!("gpu_budget_alerts_total", "alert_type" => "warning").increment(1),
        EventType::ConditionChanged => {
            if let (Some(ran), Some(answered)) = (session.running_at, session.pace.api_at.filter(|at| *at == event.at)) {
                histogram!("gpu_api_verify_duration_seconds", "provider" => provider.clone()).record(answered.since(ran).as_secs_f64());
            }
            let absent = session.condition(ConditionType::InstancePresent).is_some_and(|c| c.status == Truth::False && c.since == event.at);
            if absent {
                counter!("gpu_reconciliation_mismatches_total").increment(1);
            }
        }
        EventType::StageChanged if session.stage == Stage::Requested => {
            begun(session);
            tried_again(session);
        }
        EventType::Created
        | EventType::StageChanged
        | EventType::Extended
        | EventType::Expiring
        | EventType::IdleWarning
        | EventType::PriceChanged
        | EventType::Updated
        | EventType::KeyRotated
        // Counted when it was found.
        | EventType::LatecomerDestroyed
        | EventType::CostAmended => {}
    }
}

fn provider_of(session: &Session) -> String {
    session.provider().map_or_else(|| "none".to_owned(), ToString::to_string)
}

fn state_changed(event: &Event, session: &Session, provider: &str) {
    let provider = provider.to_owned();
    let retried = session.attempts.len() > 1;
    let scope = session.request.failover.scope.word();
    match event.to_state {
        State::Provisioning => {
            begun(session);
            counter!("gpu_sessions_created_total", "provider" => provider).increment(1);
        }
        State::Running => {
            let seconds = event.at.since(session.created_at).as_secs_f64();
            histogram!("gpu_provisioning_duration_seconds", "provider" => provider.clone()).record(seconds);
            if let Some(known) = session.pace.address_at {
                histogram!("gpu_ssh_verify_duration_seconds", "provider" => provider.clone()).record(event.at.since(known).as_secs_f64());
            }
            histogram!("gpu_ssh_verify_attempts", "provider" => provider.clone()).record(f64::from(session.pace.probes));
            if retried {
                counter!("gpu_session_retry_successes_total", "provider" => provider, "scope" => scope).increment(1);
            }
        }
        State::Stopping => {
            match session.end_reason {
                Some(EndReason::HardMax) => counter!("gpu_hard_max_enforced_total").increment(1),
                Some(EndReason::HostLost) => counter!("gpu_ghosts_detected_total").increment(1),
                Some(EndReason::CostLimit) => counter!("gpu_budget_alerts_total", "alert_type" => "exceeded").increment(1),
                _ => {}
            }
            if service::api_port(&session.request).is_some() && session.running_at.is_some() && session.pace.api_at.is_none() {
                counter!("gpu_api_verify_failures_total", "provider" => provider).increment(1);
            }
        }
        State::Stopped | State::Failed => {
            let reason = session.end_reason.map_or("unknown", EndReason::word);
            counter!("gpu_sessions_destroyed_total", "provider" => provider.clone(), "reason" => reason).increment(1);
            if event.to_state == State::Failed && retried {
                counter!("gpu_session_retry_exhausted_total", "provider" => provider, "scope" => scope).increment(1);
            }
        }
        State::Pending => {}
    }
}

/// An attempt begins: from here on its GPU's series of failures are there, so that the first failure is an increase.
fn begun(session: &Session) {
    let Some(attempt) = session.attempt() else { return };
    let (provider, gpu) = (attempt.offer.provider.to_string(), attempt.offer.gpu.to_string());
    for failure in AttemptFailure::ALL {
        let labels = [("provider", provider.clone()), ("gpu_type", gpu.clone()), ("failure_type", failure.word().to_owned())];
        counter!("gpu_offer_failures_total", &labels).increment(0);
    }
}

fn attempt_ended(session: &Session, provider: &str) {
    let Some(attempt) = session.attempt() else { return };
    let Some(failure) = attempt.failure else { return };
    let verify = matches!(
        failure,
        AttemptFailure::AuthFailed | AttemptFailure::SshAlgorithmMismatch | AttemptFailure::GpuMismatch | AttemptFailure::GpuBroken
    ) || (failure == AttemptFailure::StageTimeout && session.pace.address_at.is_some());
    if verify {
        counter!("gpu_ssh_verify_failures_total", "provider" => provider.to_owned()).increment(1);
    }
    counter!("gpu_offer_failures_total", "provider" => provider.to_owned(), "gpu_type" => attempt.offer.gpu.to_string(), "failure_type" => failure.word())
        .increment(1);
}

/// An attempt after one that failed: counted for the provider and the failure of that one.
fn tried_again(session: &Session) {
    let [.., failed, _] = session.attempts.as_slice() else { return };
    let Some(failure) = failed.failure else { return };
    let (provider, scope) = (failed.offer.provider.to_string(), session.request.failover.scope.word());
    counter!("gpu_session_retry_attempts_total", "provider" => provider, "scope" => scope, "reason" => failure.word()).increment(1);
}

/// Counts what an outcome tells that no event does.
pub(super) fn outcome(provider: &ProviderId, input: &Input) {
    match input {
        Input::ProbeFailed { kind, .. } => {
            counter!("gpu_ssh_verify_errors_by_type", "provider" => provider.to_string(), "error_type" => kind.word()).increment(1);
        }
        Input::DestroyAnswered { answer: Err(_) | Ok(DestroyAnswer::Refused { .. }), .. } => {
            counter!("gpu_destroy_failures_total", "provider" => provider.to_string()).increment(1);
        }
        _ => {}
    }
}

/// Counts an instance with a label of ours that no record knows, that its record says is gone, or that is one too many.
pub(super) fn unaccounted() {
    counter!("gpu_orphans_detected_total").increment(1);
    counter!("gpu_reconciliation_mismatches_total").increment(1);
}

/// Sets what sessions have cost at each provider to date.
pub fn accrued(sums: &BTreeMap<ProviderId, Nanos>, providers: &[ProviderId]) {
    for provider in providers {
        let nanos = sums.get(provider).map_or(0, |cost| cost.0);
        // Prometheus knows floats only; nothing reads this back.
        gauge!("gpu_cost_accrued_usd", "provider" => provider.to_string()).set(nanos as f64 / 1e9);
    }
}

/// Sets the gauges of what operators look at: what no record wants, what should be gone, what is spent, what is held.
pub async fn watched(operator: &Operator) {
    let (findings, now) = (operator.findings(), operator.clock().now());
    let debts = operator.unconfirmed_destroys().await.unwrap_or_default();
    for spent in operator.spend_rate() {
        let provider = spent.provider;
        let name = || provider.to_string();
        let number = |found: usize| f64::from(u32::try_from(found).unwrap_or(u32::MAX));
        gauge!("gpu_stray_instances", "provider" => name()).set(number(operator.strays(&findings, Some(&provider)).len()));
        gauge!("gpu_foreign_instances", "provider" => name()).set(number(operator.foreign(&findings, Some(&provider)).len()));
        let owed: Vec<&UnconfirmedDestroy> = debts.iter().filter(|d| d.instance.provider == provider).collect();
        gauge!("gpu_unconfirmed_destroys", "provider" => name()).set(number(owed.len()));
        let oldest = owed.iter().map(|d| d.age).max().unwrap_or_default();
        gauge!("gpu_unconfirmed_destroy_age_seconds", "provider" => name()).set(oldest.as_secs_f64());
        in_dollars(&gauge!("gpu_at_risk_usd_per_hour", "provider" => name()), owed.iter().map(|d| d.at_risk).sum());
        for (kind, rate) in [("running", spent.running), ("stopping", spent.stopping), ("stray", spent.strays), ("foreign", spent.foreign)] {
            in_dollars(&gauge!("gpu_spend_usd_per_hour", "provider" => name(), "kind" => kind), rate);
        }
        for kind in HoldKind::ALL {
            let held = findings.holds.iter().any(|h| h.provider == provider && h.kind == kind && h.in_force(now));
            gauge!("gpu_holds", "provider" => name(), "kind" => kind.word()).set(f64::from(u8::from(held)));
        }
    }
    for (provider, seen) in operator.outlook() {
        let known = |yes: bool| f64::from(u8::from(yes));
        gauge!("gpu_provider_enabled", "provider" => provider.to_string()).set(1.0);
        gauge!("gpu_provider_up", "provider" => provider.to_string()).set(known(seen.listed_at.is_some() && seen.list_error.is_none()));
        gauge!("gpu_provider_credentials_ok", "provider" => provider.to_string()).set(known(!seen.refused));
    }
    for fresh in operator.freshness() {
        let name = || fresh.provider.to_string();
        gauge!("gpu_offers", "provider" => name()).set(f64::from(u32::try_from(fresh.offers).unwrap_or(u32::MAX)));
        let age = fresh.fetched_at.map(|at| now.since(at)).unwrap_or_default();
        gauge!("gpu_offers_age_seconds", "provider" => name()).set(age.as_secs_f64());
    }
    gauge!("gpu_database_frozen").set(f64::from(u8::from(findings.frozen.is_some())));
}

/// Prometheus knows floats only; nothing reads this back.
fn in_dollars(gauge: &Gauge, rate: Rate) {
    let nanos = rate.nanos().0;
    gauge.set(nanos as f64 / 1e9);
}

/// Sets the gauges from what is live.
pub fn scrape(board: &Board, providers: &[ProviderId]) {
    let mut active: BTreeMap<(String, State), u32> = BTreeMap::new();
    let mut disk: BTreeMap<String, u32> = BTreeMap::new();
    for live in board.snapshot().0 {
        if !live.session.state.is_final() {
            *active.entry((provider_of(&live.session), live.session.state)).or_default() += 1;
        }
        if live.session.state == State::Running
            && let Some(free) = live.session.pace.disk_free_gb
        {
            disk.entry(provider_of(&live.session)).and_modify(|least| *least = free.min(*least)).or_insert(free);
        }
    }
    for provider in providers.iter().map(ToString::to_string) {
        let free = disk.get(&provider).copied().unwrap_or(0);
        gauge!("gpu_session_disk_available_gb", "provider" => provider).set(f64::from(free));
    }
    for provider in providers.iter().map(ToString::to_string).chain(["none".to_owned()]) {
        for state in [State::Pending, State::Provisioning, State::Running, State::Stopping] {
            let count = active.get(&(provider.clone(), state)).copied().unwrap_or(0);
            gauge!("gpu_sessions_active", "provider" => provider.clone(), "status" => state.word()).set(f64::from(count));
        }
    }
}
