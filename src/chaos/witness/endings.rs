//! That a session ends as what it is said to: by the clock when its time is over and not before, at a limit of its costs that was
//! reached, and with a machine that its provider took only if it did.

use super::Past;
use super::ground::Ground;
use crate::domain::event::{Event, EventType};
use crate::domain::session::{EndReason, State};
use crate::sim::Market;
use std::time::Duration;

/// A machine that has run without a break for so long gave no reason to believe that it was lost. An ending takes some looks, a
/// minute apart, and ten of them when its host is offline.
const SOUND: Duration = Duration::from_secs(30 * 60);

/// What is wrong with an event if it is an ending.
pub(super) fn check(past: &Past, ground: &Ground, market: &Market, event: &Event) -> Option<String> {
    if event.kind != EventType::StateChanged || event.to_state != State::Stopping {
        return None;
    }
    let (reason, now, session) = (event.end_reason?, event.at, &event.session);
    let early = match reason {
        EndReason::Expired => (now < session.expires_at).then(|| format!("it expires at {}", session.expires_at)),
        EndReason::HardMax => (now < session.hard_max_at).then(|| format!("its hard limit is at {}", session.hard_max_at)),
        EndReason::CostLimit => match session.request.max_total_cost {
            None => Some("it may cost what it will".to_owned()),
            Some(most) => (event.cost.high < most).then(|| format!("it has cost {} at the most, and may cost {most}", event.cost.high)),
        },
        EndReason::Preempted | EndReason::HostLost | EndReason::ProviderTerminated | EndReason::ProviderCredit
            if event.from_state == State::Running =>
        {
            let attempt = session.attempt().and_then(|attempt| past.row_of(session.id, attempt.number));
            let native_id = attempt.and_then(|row| row.own(ground))?;
            let since = market.sound_since(native_id).filter(|since| now.since(*since) > SOUND)?;
            Some(format!("{native_id} has been running since {since}"))
        }
        _ => None,
    };
    early.map(|what| format!("{} ends as {}: {what}", session.id, reason.word()))
}
