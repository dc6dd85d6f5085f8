//! Prometheus counters drawn from what was committed: each event counts once, whatever led to it. Gauges are computed
//! from the board at the scrape, never by adding and subtracting.

use crate::domain::event::{Event, EventType};
use crate::domain::ids::ProviderId;
use crate::domain::instance::DestroyAnswer;
use crate::domain::lifecycle::Input;
use crate::domain::session::{AttemptFailure, ConditionType, EndReason, Session, State, Truth};
use crate::services::api::CostGroup;
use crate::services::board::Board;
use metrics::{counter, gauge, histogram};
use std::collections::BTreeMap;

/// Counts what an event tells.
pub(super) fn count(event: &Event) {
    let session = &*event.session;
    let provider = provider_of(session);
    match event.kind {
        EventType::StateChanged => state_changed(event, session, &provider),
        EventType::AttemptEnded => attempt_ended(session, &provider),
        EventType::LatecomerDestroyed => {
            counter!("gpu_orphans_detected_total").increment(1);
            counter!("gpu_reconciliation_mismatches_total").increment(1);
        }
        EventType::ConditionChanged => {
            let absent = session.condition(ConditionType::InstancePresent).is_some_and(|c| c.status == Truth::False && c.since == event.at);
            if absent {
                counter!("gpu_reconciliation_mismatches_total").increment(1);
            }
        }
        EventType::Created
        | EventType::StageChanged
        | EventType::Extended
        | EventType::Expiring
        | EventType::IdleWarning
        | EventType::CostWarning
        | EventType::PriceChanged
        | EventType::Updated
        | EventType::KeyRotated
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
        State::Provisioning => counter!("gpu_sessions_created_total", "provider" => provider).increment(1),
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
        State::Stopping => match session.end_reason {
            Some(EndReason::HardMax) => counter!("gpu_hard_max_enforced_total").increment(1),
            Some(EndReason::HostLost) => counter!("gpu_ghosts_detected_total").increment(1),
            _ => {}
        },
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
    let scope = session.request.failover.scope.word();
    counter!("gpu_session_retry_attempts_total", "provider" => provider.to_owned(), "scope" => scope, "reason" => failure.word()).increment(1);
    counter!("gpu_offer_failures_total", "provider" => provider.to_owned(), "gpu_type" => attempt.offer.gpu.to_string(), "failure_type" => failure.word())
        .increment(1);
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

/// Counts an instance with a label of ours that no record knows.
pub(super) fn stray() {
    counter!("gpu_orphans_detected_total").increment(1);
    counter!("gpu_reconciliation_mismatches_total").increment(1);
}

/// Sets what sessions have cost at each provider to date.
pub fn accrued(groups: &[CostGroup], providers: &[ProviderId]) {
    for provider in providers {
        let nanos = groups.iter().find(|g| g.keys.first().is_some_and(|k| k == provider.as_str())).map_or(0, |g| g.amount.cost.0);
        // Prometheus knows floats only; nothing reads this back.
        gauge!("gpu_cost_accrued_usd", "provider" => provider.to_string()).set(nanos as f64 / 1e9);
    }
}

/// Sets the gauges from what is live.
pub fn scrape(board: &Board, providers: &[ProviderId]) {
    let mut active: BTreeMap<(String, State), u32> = BTreeMap::new();
    for live in board.snapshot().0 {
        if !live.session.state.is_final() {
            *active.entry((provider_of(&live.session), live.session.state)).or_default() += 1;
        }
    }
    for provider in providers.iter().map(ToString::to_string).chain(["none".to_owned()]) {
        for state in [State::Pending, State::Provisioning, State::Running, State::Stopping] {
            let count = active.get(&(provider.clone(), state)).copied().unwrap_or(0);
            gauge!("gpu_sessions_active", "provider" => provider.clone(), "status" => state.word()).set(f64::from(count));
        }
    }
}
