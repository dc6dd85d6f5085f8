//! What can happen to a machine in use. SSH silence alone is a condition, never an ending.

use super::{Action, Work};
use crate::domain::attempt;
use crate::domain::event::{Actor, EventType};
use crate::domain::instance::{Evidence, Instance, InstanceStatus, Sighting, SshEndpoint};
use crate::domain::money::Nanos;
use crate::domain::offer::RentalKind;
use crate::domain::session::{ConditionType, EndReason, Session, Truth};
use crate::domain::time::{Look, Time};
use crate::domain::verify::ProbeFailureKind;
use std::time::Duration;

/// When the session will have cost what it may cost.
pub(super) fn cost_limit_at(session: &Session, instances: &[Instance]) -> Option<Time> {
    let left = attempt::budget_left(session)?;
    let since = instances.last().and_then(|r| r.segments.iter().map(|s| s.to).max())?;
    let rate = i128::from(session.price.total().0);
    if left <= Nanos::ZERO || rate <= 0 {
        return (left <= Nanos::ZERO).then_some(since);
    }
    let millis = i128::from(left.0) * 3_600_000_000 / rate;
    Some(since + Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX / 4)))
}

impl Work<'_> {
    pub(super) fn resume_running(&mut self) {
        if self.s.pace.offline_since.is_some() {
            self.s.pace.offline_since = Some(self.now);
        }
    }

    pub(super) fn seen_running(&mut self, number: u8, sighting: &Sighting, look: Look) {
        let Some(at) = self.row(number).filter(|_| self.is_last(number)) else { return };
        if self.rows[at].seen.as_ref().is_none_or(|s| s.look != look) {
            return;
        }
        self.set_condition(ConditionType::ProviderReachable, Truth::True, "listed");
        self.price_of_running(at);
        let unpriced = sighting.price.is_none() && self.rows[at].priced_at.is_none_or(|last| self.now.since(last) >= self.policy().price_interval);
        if unpriced && self.rows[at].next_look.is_none() {
            // A list that tells no price: ask for the machine by itself.
            self.rows[at].next_look = Some(self.now);
        }
        if sighting.status != InstanceStatus::Offline {
            self.s.pace.offline_since = None;
        }
        match sighting.status {
            InstanceStatus::Running => {
                self.set_condition(ConditionType::InstancePresent, Truth::True, "running");
                if let Some(endpoint) = sighting.endpoints.first()
                    && !self.s.pace.endpoints.is_empty()
                    && self.s.pace.endpoints != sighting.endpoints
                {
                    // Addresses can change during a machine's life.
                    self.s.pace.endpoints.clone_from(&sighting.endpoints);
                    self.s.endpoint = Some(endpoint.clone());
                    self.s.ports.clone_from(&sighting.ports);
                    self.tell(EventType::Updated, Actor::Provider, format!("the machine's address is now {}:{}", endpoint.host, endpoint.port));
                }
            }
            InstanceStatus::Stopped | InstanceStatus::Failed => self.taken_away(at, sighting),
            InstanceStatus::Offline => {
                self.s.pace.offline_since.get_or_insert(self.now);
                self.set_condition(ConditionType::InstancePresent, Truth::Unknown, "host_offline");
            }
            InstanceStatus::Deleting => self.set_condition(ConditionType::InstancePresent, Truth::False, "being_deleted"),
            InstanceStatus::Scheduled | InstanceStatus::Starting => self.set_condition(ConditionType::InstancePresent, Truth::Unknown, "restarting"),
            InstanceStatus::Gone => self.missing_running(number),
            InstanceStatus::Unknown => self.set_condition(ConditionType::InstancePresent, Truth::Unknown, "unknown_status"),
        }
    }

    /// Nothing can be learnt from the provider: it, not the machine, is in doubt.
    pub(super) fn unreachable(&mut self, reason: &'static str) {
        self.set_condition(ConditionType::ProviderReachable, Truth::Unknown, reason);
    }

    /// The provider stopped it while it ran.
    fn taken_away(&mut self, at: usize, sighting: &Sighting) {
        let bid = sighting.interruptible.unwrap_or(self.s.rental() == RentalKind::Interruptible);
        let broke = self.terms(&self.rows[at].provider).is_some_and(|t| t.out_of_credit);
        let reason = if broke {
            EndReason::ProviderCredit
        } else if bid && sighting.status == InstanceStatus::Stopped {
            EndReason::Preempted
        } else {
            EndReason::ProviderTerminated
        };
        self.set_condition(ConditionType::InstancePresent, Truth::False, "stopped_by_provider");
        self.end(reason, Actor::Provider, format!("{}: {}", super::ending_words(reason), sighting.raw_status));
    }

    fn price_of_running(&mut self, at: usize) {
        let (new, old) = (self.rows[at].price, self.s.price);
        if new == old {
            return;
        }
        self.s.price = new;
        self.tell(EventType::PriceChanged, Actor::Provider, format!("{} instead of {}", new.total(), old.total()));
        let fine = new.total() <= self.price_limit(&self.rows[at]);
        self.set_condition(
            ConditionType::PriceOk,
            if fine { Truth::True } else { Truth::False },
            if fine { "within_tolerance" } else { "above_offer" },
        );
    }

    pub(super) fn missing_running(&mut self, number: u8) {
        let Some(at) = self.row(number).filter(|_| self.is_last(number)) else { return };
        if self.elsewhere(at) {
            return self.unreachable("other_account");
        }
        let row = &self.rows[at];
        if row.open() && row.off_by.is_some() {
            self.set_condition(ConditionType::InstancePresent, Truth::False, "not_listed");
        }
        if self.rows[at].open() && self.proven_absent(&self.rows[at]) {
            self.settle(at, Evidence::Vanished);
            self.end(EndReason::HostLost, Actor::Provider, "the machine vanished: the provider does not have it any more".to_owned());
        }
    }

    /// A login worked again.
    pub(super) fn probed_running(&mut self, number: u8, _endpoint: SshEndpoint, host_key: &str) {
        if !self.is_last(number) {
            return;
        }
        let same = self.s.host_key.as_deref().is_none_or(|known| known == host_key);
        self.set_condition(
            ConditionType::SshReachable,
            if same { Truth::True } else { Truth::False },
            if same { "login" } else { "host_key_changed" },
        );
    }

    /// Silence is a condition. Only a machine that its vendor has called offline for long enough is lost with it.
    pub(super) fn probe_failed_running(&mut self, number: u8, kind: ProbeFailureKind, text: &str) {
        if !self.is_last(number) {
            return;
        }
        self.set_condition(ConditionType::SshReachable, Truth::False, kind.word());
        let silent = matches!(kind, ProbeFailureKind::Timeout | ProbeFailureKind::Refused | ProbeFailureKind::Unreachable | ProbeFailureKind::Broken);
        if silent && self.s.pace.offline_since.is_some() {
            self.end(EndReason::HostLost, Actor::Provider, format!("the host is offline and does not answer: {text}"));
        }
    }

    pub(super) fn running_deadlines(&mut self) {
        let now = self.now;
        if !self.s.expiring_told && now >= self.s.expires_at - self.policy().expiring_before {
            self.s.expiring_told = true;
            let at = self.s.expires_at;
            self.tell(EventType::Expiring, Actor::Service, format!("expires at {at}"));
        }
        if cost_limit_at(&self.s, &self.rows).is_some_and(|at| now >= at) {
            return self.end(EndReason::CostLimit, Actor::Service, "max_total_cost was reached".to_owned());
        }
        if self.s.pace.offline_since.is_some_and(|since| now >= since + self.policy().offline_limit) {
            self.s.pace.offline_since = Some(now);
            if let Some(number) = self.s.attempt().map(|a| a.number) {
                let endpoint = self.s.pace.endpoint_index;
                self.actions.push(Action::Probe { attempt: number, endpoint, ask_gpu: false });
            }
        }
    }

    fn is_last(&self, number: u8) -> bool {
        self.s.attempts.last().is_some_and(|a| a.number == number)
    }
}
