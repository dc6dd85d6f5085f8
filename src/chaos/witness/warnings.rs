//! What must have been told before an ending: EXPIRING before the expiry and the hard limit, IDLE_WARNING before the end of
//! an idle machine, COST_WARNING before `max_total_cost`. And that a machine that ends as idle was not in use.
//!
//! A warning comes at its time: EXPIRING as long before the expiry as the settings say, COST_WARNING at nine tenths. It may
//! come later, and then at once, when nobody could give it before: the process was not there, its database was in doubt, an
//! operator held what ends by the clock, or its expiry or its costs have only just changed. Even then it comes first, be it
//! in the same instant. Before a session runs its costs are known from its attempts' ends only, so no time is asked between
//! that warning and the end then. IDLE_WARNING comes at an earlier look than the end, whatever happens.

use super::Past;
use super::ground::Ground;
use crate::domain::event::{Event, EventType};
use crate::domain::policy::Policy;
use crate::domain::session::{EndReason, Session, State};
use crate::domain::time::Time;
use crate::services::sweeper::HoldKind;
use crate::sim::Workload;
use std::time::Duration;

/// How late a warning may be once it can be given: what the service does at that moment comes first.
const PROMPT: Duration = Duration::from_secs(60);
/// A price is told, or another machine found, at most so long before the costs are what they come to.
const COSTS: Duration = Duration::from_secs(120);

/// What a session's watchers were told so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// That it expires, since its expiry was last changed.
    expiring: Option<Time>,
    idle: Option<Time>,
    cost: Option<Time>,
    ran: bool,
    /// When its expiry was last changed.
    moved: Time,
    /// When what it costs last changed.
    costs: Time,
}

/// Takes an event in; what is wrong with it if it is an ending.
pub(super) fn check(past: &mut Past, ground: &Ground, event: &Event, policy: &Policy) -> Option<String> {
    let told = past.told.entry(event.session_id).or_default();
    let (now, session) = (event.at, &event.session);
    match event.kind {
        EventType::Expiring => told.expiring = Some(now),
        EventType::IdleWarning => told.idle = Some(now),
        EventType::CostWarning => told.cost = Some(now),
        EventType::Created => told.moved = now,
        EventType::Extended => {
            told.moved = now;
            told.expiring = None;
        }
        EventType::PriceChanged | EventType::LatecomerDestroyed | EventType::AttemptEnded => told.costs = now,
        EventType::StateChanged if event.to_state == State::Running => {
            (told.ran, told.moved, told.costs) = (true, now, now);
        }
        _ => {}
    }
    if event.kind != EventType::StateChanged || event.to_state != State::Stopping {
        return None;
    }
    let (reason, told) = (event.end_reason?, told.clone());
    let awake = if ground.frozen() { ground.asked.get(&event.session_id).copied() } else { ground.accepted_at };
    let able = ground.up_since.max(awake.unwrap_or_default());
    let wrong = |what: &str| Some(format!("{} ends as {}: {what}", event.session_id, reason.word()));
    match reason {
        EndReason::Expired | EndReason::HardMax => {
            let held = |provider| (ground.held(provider, HoldKind::Expiry, now), ground.freed(provider, HoldKind::Expiry, now));
            let (held, freed) = session.provider().map_or((false, None), held);
            if held {
                return wrong("an operator holds that");
            }
            let Some(at) = told.expiring else { return wrong("it was not told that it expires") };
            let due = session.expires_at.min(session.hard_max_at) - policy.expiring_before;
            let latest = due.max(able).max(told.moved).max(freed.unwrap_or_default()) + PROMPT;
            (at > latest).then(|| wrong(&format!("it was told at {at} that it expires, not at {latest}"))).flatten()
        }
        EndReason::Idle if in_use(past, ground, session, now) => wrong("it was in use for as long as it should have been idle"),
        EndReason::Idle => match told.idle {
            Some(at) if at < now => None,
            _ => wrong("nobody was warned at an earlier look"),
        },
        EndReason::CostLimit => match told.cost {
            None => wrong("nobody was warned of its cost"),
            Some(at) if told.ran && at == now && now.since(able.max(told.costs).max(told.moved)) > COSTS => {
                wrong("the warning of its cost came with the end")
            }
            Some(_) => None,
        },
        _ => None,
    }
}

/// Whether a session's machine was in use, or nobody could tell, for the whole of the time after which an idle one is ended.
fn in_use(past: &Past, ground: &Ground, session: &Session, now: Time) -> bool {
    let row = session.attempt().and_then(|attempt| past.row_of(session.id, attempt.number));
    let used = row.and_then(|row| row.native_id.as_ref()).and_then(|id| ground.uses.get(id));
    used.is_some_and(|(workload, since)| *workload != Workload::Idle && now.since(*since) >= session.request.idle_threshold)
}
