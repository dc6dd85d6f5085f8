//! What a session gets: a machine that is what its offer said, on hardware that it has not tried, at a price that its user
//! allows; and no more of it than it may cost.

use super::ground::Ground;
use super::{Past, Row};
use crate::domain::event::{Event, EventType};
use crate::domain::ids::{Label, SessionId};
use crate::domain::money::Nanos;
use crate::domain::session::{Attempt, AttemptFailure, ConditionType, Request, Session, Stage, State, Target, Truth};
use crate::domain::time::Time;
use crate::domain::verify::{GpuReport, Verify, contradictions};
use crate::sim::{GpuTruth, Market};
use std::collections::BTreeMap;

/// What a session may cost, and since when it has cost clearly more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    most: Nanos,
    pub exceeded: Option<Time>,
}

/// Takes an event in; what is wrong with what the session gets.
pub(super) fn check(past: &mut Past, ground: &Ground, market: &Market, event: &Event) -> Option<String> {
    let session = &event.session;
    if let (EventType::Created, Some(most)) = (event.kind, session.request.max_total_cost) {
        past.limits.insert(session.id, Limit { most, exceeded: None });
    }
    if !matches!(event.kind, EventType::StateChanged | EventType::StageChanged) {
        return None;
    }
    let begun = session.attempts.last().filter(|a| a.failure.is_none() && session.stage == Stage::Requested && session.state == State::Provisioning);
    let what = match begun {
        Some(attempt) => dearer(session, attempt),
        None if event.to_state == State::Running && event.from_state != State::Running => other_than_offered(past, market, session),
        None => None,
    };
    what.or_else(|| again(past, ground, market, session)).map(|what| format!("{}: {what}", session.id))
}

/// A machine is rented at a price above what was allowed.
fn dearer(session: &Session, attempt: &Attempt) -> Option<String> {
    let Request { target, max_price, failover, .. } = &*session.request;
    let filtered = match target {
        Target::Requirements { filter, .. } => filter.max_price,
        Target::Offer(_) => None,
    };
    let later = failover.max_price.filter(|_| attempt.number > 1);
    let most = [*max_price, filtered, later].into_iter().flatten().min()?;
    let price = attempt.offer.price(Some(attempt.disk_gb)).total();
    (price > most || session.price.total() > most).then(|| format!("attempt {} is at {price}, and {most} is allowed", attempt.number))
}

/// A machine is handed over whose GPUs are not those of its offer, or is called verified and has none that answer.
fn other_than_offered(past: &Past, market: &Market, session: &Session) -> Option<String> {
    let attempt = session.attempts.last()?;
    let native_id = past.row_of(session.id, attempt.number)?.native_id.as_deref()?;
    let verified = session.condition(ConditionType::GpuVerified).is_some_and(|c| c.status == Truth::True);
    match market.gpu_truth(native_id)? {
        GpuTruth::Present { gpus, .. } if session.request.verify != Verify::Ssh => {
            let wrong = contradictions(&GpuReport { gpus, driver: None, cuda: None }, &attempt.offer, None);
            (!wrong.is_empty()).then(|| format!("{native_id} was handed over, which has {}", wrong.join("; ")))
        }
        GpuTruth::NoTool | GpuTruth::NoDriver if verified || session.request.verify == Verify::Strict => {
            Some(format!("{native_id} was handed over as verified, and no GPU of it answers"))
        }
        _ => None,
    }
}

/// Two attempts were on one machine.
fn again(past: &Past, ground: &Ground, market: &Market, session: &Session) -> Option<String> {
    let tried = session.attempts.iter().filter(|a| !a.failure.is_some_and(AttemptFailure::passes));
    let mut seen: BTreeMap<String, u8> = BTreeMap::new();
    for attempt in tried {
        let own = past.row_of(session.id, attempt.number).and_then(|row| row.own(ground));
        let hardware = own.and_then(|native_id| market.hardware_of(native_id));
        let Some(hardware) = hardware else { continue };
        if let Some(before) = seen.insert(hardware.clone(), attempt.number) {
            return Some(format!("attempt {} is on machine {hardware}, and so was attempt {before}", attempt.number));
        }
    }
    None
}

impl Row {
    /// Its machine, unless the world has put that there, or only a launch's answer has named it, which may be wrong.
    pub(super) fn own(&self, ground: &Ground) -> Option<&str> {
        self.native_id.as_deref().filter(|native_id| self.named && !ground.planted.contains_key(*native_id))
    }
}

impl Past {
    pub(super) fn row_of(&self, session: SessionId, attempt: u8) -> Option<&Row> {
        let of = |label: &Label| label.session == session && label.attempt == attempt;
        self.rows.iter().find(|(label, _)| of(label)).map(|(_, row)| row)
    }

    /// Sees which sessions have surely cost more than they may, by more than the twentieth that the meter may be behind the bill.
    /// What came beside what was ordered costs from when it was found, for all that its session can know.
    pub(super) fn weigh(&mut self, ground: &Ground, market: &Market, now: Time) {
        let Self { limits, rows, sessions, .. } = self;
        for (id, limit) in limits.iter_mut().filter(|(_, limit)| limit.exceeded.is_none()) {
            let Some(session) = sessions.get(id).filter(|s| s.state == State::Running) else { continue };
            let own = rows.iter().filter(|(label, _)| label.session == *id).filter_map(|(_, row)| row.own(ground));
            let bill: Nanos = own.filter_map(|native_id| market.bill_of(native_id)).sum();
            limit.exceeded = ((bill - session.unsure).0 > limit.most.0 / 20 * 21).then_some(now);
        }
    }
}
