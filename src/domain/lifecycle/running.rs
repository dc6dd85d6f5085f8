//! What can happen to a machine in use: the vendor takes it, its user has it no more, or its time or money is up. SSH
//! silence alone is a condition, never an ending; neither does one look at a stopped, offline or idle machine end anything.

use super::{Action, Refusal, Work};
use crate::domain::attempt;
use crate::domain::event::{Actor, EventType, Matchable};
use crate::domain::idle::{self, Activity, Signal, Turn};
use crate::domain::instance::{Evidence, Instance, InstanceStatus, Sighting};
use crate::domain::money::Nanos;
use crate::domain::offer::RentalKind;
use crate::domain::session::{ConditionType, EndReason, Session, State, Truth};
use crate::domain::time::{Look, Time};
use crate::domain::verify::ProbeFailureKind;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The COST_WARNING comes at this share of `max_total_cost`, percent.
const COST_WARNING: i64 = 90;

/// When the session will have cost what it may cost.
pub(super) fn cost_limit_at(session: &Session, instances: &[Instance]) -> Option<Time> {
    spent_at(session, instances, 100)
}

/// When the session will have cost so much that its user should know, while that was not told.
pub(super) fn cost_warning_at(session: &Session, instances: &[Instance]) -> Option<Time> {
    (!session.cost_warned).then(|| spent_at(session, instances, COST_WARNING)).flatten()
}

/// When the session will have cost `percent` of what it may cost: what is metered of each machine goes on from where it was last
/// read, the one in use and others that may still be there.
fn spent_at(session: &Session, instances: &[Instance], percent: i64) -> Option<Time> {
    let mut left = i128::from(attempt::budget_left(session, percent)?.0) * 3_600_000_000;
    let number = session.attempt()?.number;
    let read = |row: &Instance| row.segments.iter().map(|s| s.to).max();
    let own = instances.iter().find(|r| r.label.attempt == number).and_then(read)?;
    if left <= 0 {
        return Some(own);
    }
    let metered = |row: &Instance| row.segments.iter().filter(|s| s.to_high.is_none()).map(|s| i128::from(s.rate.0)).sum();
    let counted = instances.iter().filter(|r| r.open() || r.label.attempt == number);
    let mut meters: Vec<(Time, i128)> = counted.filter_map(|r| Some((read(r)?, metered(r)))).filter(|(_, rate)| *rate > 0).collect();
    meters.sort_unstable();
    let mut rate = 0;
    for (at, (since, more)) in meters.iter().enumerate() {
        rate += more;
        // Not before it is reached, be it by a part of a millisecond.
        let reached = *since + Duration::from_millis(u64::try_from((left + rate - 1) / rate).unwrap_or(u64::MAX).min(u64::MAX / 4));
        match meters.get(at + 1) {
            Some((next, _)) if reached > *next => left -= rate * i128::try_from(next.since(*since).as_millis()).unwrap_or(i128::MAX),
            _ => return Some(reached),
        }
    }
    None
}

impl Work<'_> {
    pub(super) fn resume_running(&mut self) {
        if self.s.pace.offline_since.take().is_some() {
            self.offline();
        }
        self.resume_keys();
        self.begin_api();
        // What was asked because of a stop was not answered to this process: the next look begins anew.
        self.s.pace.stopped_at = None;
        self.s.pace.out_of_credit = None;
        self.s.idle.resume(self.s.request.idle_threshold, self.now);
    }

    pub(super) fn seen_running(&mut self, number: u8, sighting: &Sighting, look: Look) {
        let Some(at) = self.row(number).filter(|_| self.is_last(number)) else { return };
        if self.rows[at].seen.as_ref().is_none_or(|s| s.look != look) {
            return;
        }
        self.set_condition(ConditionType::ProviderReachable, Truth::True, "listed");
        self.price_of_running(at);
        let (now, interval) = (self.now, self.policy().price_interval);
        let row = &mut self.rows[at];
        let old = |at: Option<Time>| at.is_none_or(|last| now.since(last) >= interval);
        if sighting.price.is_none() && old(row.priced_at) && old(row.price_asked_at) && row.next_look.is_none() {
            // A list that tells no price: ask for the machine by itself, which need not tell one either.
            (row.price_asked_at, row.next_look) = (Some(now), Some(now));
        }
        if sighting.status != InstanceStatus::Offline {
            self.s.pace.offline_since = None;
            self.s.pace.next_offline_look = None;
        }
        if !matches!(sighting.status, InstanceStatus::Stopped | InstanceStatus::Failed) && self.s.pace.stopped_at.take().is_some() {
            self.s.pace.out_of_credit = None;
            self.durable = true;
        }
        if let Some(percent) = sighting.gpu_percent {
            self.s.idle.provider = Some((percent, look.answered));
        }
        match sighting.status {
            InstanceStatus::Running => {
                self.set_condition(ConditionType::InstancePresent, Truth::True, "running");
                if !sighting.ports.is_empty() && (self.s.ports != sighting.ports || self.s.public_host != sighting.public_host) {
                    self.s.ports.clone_from(&sighting.ports);
                    self.s.public_host.clone_from(&sighting.public_host);
                    self.begin_api();
                    self.tell(EventType::Updated, Actor::Provider, "its ports are mapped anew".to_owned());
                }
                self.addressed(sighting);
            }
            InstanceStatus::Stopped | InstanceStatus::Failed => self.taken_away(at, sighting, look),
            InstanceStatus::Offline => {
                if self.s.endpoint.is_none() {
                    self.addressed(sighting);
                }
                if self.s.pace.offline_since.is_none() {
                    self.offline();
                }
                self.set_condition(ConditionType::InstancePresent, Truth::Unknown, "host_offline");
                self.knock(number);
            }
            InstanceStatus::Deleting => self.set_condition(ConditionType::InstancePresent, Truth::False, "being_deleted"),
            InstanceStatus::Scheduled | InstanceStatus::Starting => self.set_condition(ConditionType::InstancePresent, Truth::Unknown, "restarting"),
            InstanceStatus::Unknown => self.set_condition(ConditionType::InstancePresent, Truth::Unknown, "unknown_status"),
            // What is said to be gone comes as missing.
            InstanceStatus::Gone => {}
        }
    }

    /// Addresses can change during a machine's life, and that of an adopted one may not be in the list.
    fn addressed(&mut self, sighting: &Sighting) {
        let Some(endpoint) = sighting.endpoints.first().filter(|_| self.s.pace.endpoints != sighting.endpoints) else { return };
        self.s.pace.endpoints.clone_from(&sighting.endpoints);
        self.s.endpoint = Some(endpoint.clone());
        self.s.ports.clone_from(&sighting.ports);
        self.s.pace.next_probe = Some(self.now);
        self.tell(EventType::Updated, Actor::Provider, format!("the machine's address is now {}:{}", endpoint.host, endpoint.port));
    }

    /// It is said to be offline from now on.
    fn offline(&mut self) {
        self.s.pace.offline_since = Some(self.now);
        self.s.pace.next_offline_probe = None;
        self.s.pace.next_offline_look = Some(self.now + self.policy().offline_limit);
    }

    /// A machine that is said to be offline, and still so after long, is knocked at, and lost if it does not answer. One whose
    /// address nobody ever told is lost without.
    fn knock(&mut self, number: u8) {
        if !self.offline_for_long() || self.s.pace.next_offline_probe.is_some_and(|at| self.now < at) {
            return;
        }
        if self.s.endpoint.is_none() {
            return self.end(EndReason::HostLost, Actor::Provider, "the host is offline, and no address of it is known".to_owned());
        }
        self.s.pace.next_offline_probe = Some(self.now + self.policy().offline_limit);
        let endpoint = self.s.pace.endpoint_index;
        self.actions.push(Action::Probe { attempt: number, endpoint, ask_gpu: false });
    }

    /// Whether a look that is not old shows the machine offline, so long after the first one that did: while nobody can look, because
    /// of the vendor's trouble or our own, its silence says nothing.
    pub(super) fn offline_for_long(&self) -> bool {
        let limit = self.policy().offline_limit;
        let last = self.s.attempt().and_then(|a| self.row(a.number)).and_then(|at| self.rows[at].seen.as_ref());
        let since = self.s.pace.offline_since;
        let fresh = |look: Look| self.now.since(look.answered) < self.policy().unseen_after;
        last.zip(since).is_some_and(|(seen, since)| seen.status == InstanceStatus::Offline && fresh(seen.look) && seen.look.sent >= since + limit)
    }

    /// Nothing can be learnt from the provider: it, not the machine, is in doubt.
    pub(super) fn unreachable(&mut self, reason: &'static str) {
        let known = self.s.condition(ConditionType::ProviderReachable).is_some_and(|c| c.status == Truth::Unknown);
        if known {
            // Lists and looks fail in different words, in turns; that is no news.
            return;
        }
        self.set_condition(ConditionType::ProviderReachable, Truth::Unknown, reason);
    }

    /// The provider stopped it while it ran: told at once, and believed at a second look. Meanwhile the account is asked
    /// whether that was why.
    fn taken_away(&mut self, at: usize, sighting: &Sighting, look: Look) {
        let wait = self.policy().look_interval;
        let bid = sighting.interruptible.unwrap_or(self.s.rental() == RentalKind::Interruptible);
        let outbid = bid && sighting.status == InstanceStatus::Stopped;
        let since = match self.s.pace.stopped_at {
            Some(since) => since,
            None => {
                self.s.pace.stopped_at = Some(self.now);
                self.s.pace.out_of_credit = None;
                self.durable = true;
                self.set_condition(ConditionType::InstancePresent, Truth::False, if outbid { "outbid" } else { "stopped_by_provider" });
                self.actions.push(Action::AskCredit(self.rows[at].label.attempt));
                self.rows[at].next_look = Some(self.now + wait);
                return;
            }
        };
        let Some(broke) = self.s.pace.out_of_credit.filter(|_| look.sent > since) else {
            self.rows[at].next_look.get_or_insert(self.now + wait);
            return;
        };
        let reason = if broke {
            EndReason::ProviderCredit
        } else if outbid {
            EndReason::Preempted
        } else {
            EndReason::ProviderTerminated
        };
        self.end(reason, Actor::Provider, format!("{}: {}", super::ending_words(reason), sighting.raw_status));
    }

    /// What the account said when it was asked because of a stop.
    pub(super) fn credit_told(&mut self, number: u8, out_of_credit: Option<bool>) {
        let Some(at) = self.row(number).filter(|_| self.is_last(number) && self.s.pace.stopped_at.is_some()) else { return };
        let known = self.terms(&self.rows[at].provider).is_some_and(|t| t.out_of_credit);
        let broke = out_of_credit.unwrap_or(known);
        self.s.pace.out_of_credit = Some(broke);
        self.durable = true;
        if broke {
            self.set_condition(ConditionType::InstancePresent, Truth::False, "out_of_credit");
        }
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

    pub(super) fn missing_running(&mut self, number: u8, look: Look) {
        let Some(at) = self.row(number).filter(|_| self.is_last(number)) else { return };
        if self.elsewhere(at, look) {
            // Right after a start nobody knows yet whose credentials these are.
            if self.terms(&self.rows[at].provider).is_some_and(|t| !t.account.is_empty()) {
                self.unreachable("other_account");
            }
            return;
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

    pub(super) fn running_deadlines(&mut self) {
        let now = self.now;
        if let (Some(number), true) = (self.s.attempt().map(|a| a.number), self.s.idle.next_look.is_some_and(|due| now >= due)) {
            self.s.idle.next_look = None;
            self.actions.push(Action::Measure(number));
        }
        if self.s.pace.next_offline_look.is_some_and(|due| now >= due) {
            self.s.pace.next_offline_look = Some(now + self.policy().offline_limit);
            if let Some(at) = self.s.attempt().map(|a| a.number).and_then(|number| self.row(number)) {
                self.rows[at].next_look = Some(now);
            }
        }
    }

    /// Says once that the end is near, in every open state: also when it is here, and nobody could say so before.
    pub(super) fn warn_of_expiry(&mut self) {
        if !self.s.expiring_told && self.now >= self.s.expires_at - self.policy().expiring_before {
            self.s.expiring_told = true;
            let at = self.s.expires_at;
            self.tell(EventType::Expiring, Actor::Service, format!("expires at {at}"));
        }
    }

    pub(super) fn is_last(&self, number: u8) -> bool {
        self.s.attempts.last().is_some_and(|a| a.number == number)
    }

    // === money ===

    /// Whether the session has cost what it may cost; in words. What its user should have heard before is told first.
    pub(super) fn cost_limit(&mut self) -> Option<String> {
        if !self.s.cost_warned && self.has_cost(COST_WARNING) {
            self.warn_of_cost();
        }
        self.has_cost(100).then(|| super::ending_words(EndReason::CostLimit).to_owned())
    }

    /// Whether it has cost `percent` of what it may cost. Before it runs, only what is surely spent counts.
    fn has_cost(&self, percent: i64) -> bool {
        if self.s.state == State::Running {
            spent_at(&self.s, &self.rows, percent).is_some_and(|at| self.now >= at)
        } else {
            attempt::budget_left(&self.s, percent).is_some_and(|left| left <= Nanos::ZERO)
        }
    }

    fn warn_of_cost(&mut self) {
        self.s.cost_warned = true;
        let most = self.s.request.max_total_cost.unwrap_or_default();
        let end = cost_limit_at(&self.s, &self.rows)
            .filter(|_| self.s.state == State::Running)
            .map(|at| format!(", which it reaches at {at} at the present price"))
            .unwrap_or_default();
        self.tell(EventType::CostWarning, Actor::Service, format!("{COST_WARNING} % of max_total_cost {most} is spent{end}"));
    }

    // === whether anybody uses it ===

    /// A look at whether anybody uses it.
    pub(super) fn measured(&mut self, number: u8, result: Result<(String, Activity), (ProbeFailureKind, String)>, next_at: Time) {
        let threshold = self.s.request.idle_threshold;
        if !self.is_last(number) || threshold.is_zero() {
            return;
        }
        self.s.idle.next_look = Some(next_at);
        let (found, failure) = match result {
            Ok((host_key, activity)) => {
                self.login_worked(&host_key);
                self.s.idle.activity = Some(activity);
                (idle::judge(&idle::readings(&activity, self.s.idle.provider_percent())), None)
            }
            Err((kind, text)) => {
                self.login_failed(number, kind, &text);
                self.s.idle.activity = None;
                (idle::judge(&[]), Some(kind.word()))
            }
        };
        let before = self.s.idle.clone();
        let turn = self.s.idle.note(found, threshold, self.now);
        // A quiet machine's clock is written at each look: a restart must not begin it anew.
        self.durable |= self.s.idle.since.is_some() || before.since.is_some() || before.last != self.s.idle.last;
        match found.idle {
            Truth::True if self.s.idle.believed() => self.set_condition(ConditionType::Idle, Truth::True, "no_activity"),
            Truth::True => {}
            status => self.set_condition(ConditionType::Idle, status, failure.or(found.signal.map(Signal::word)).unwrap_or_default()),
        }
        let since = self.s.idle.since.unwrap_or(self.now);
        let last = self.s.idle.last.map_or("", Signal::word);
        match turn {
            Turn::Stay => {}
            Turn::Warn => {
                let message = format!("idle since {since} (last: {last}): it ends at {} unless it is used or kept alive", since + threshold);
                self.tell(EventType::IdleWarning, Actor::Service, message);
            }
            Turn::End => {
                let message = format!("idle since {since} (last: {last}), for longer than its idle_threshold of {} s", threshold.as_secs());
                self.end(EndReason::Idle, Actor::Service, message);
            }
        }
    }

    /// Its user says that it is in use. Before it runs, and without a threshold, there is nothing to keep.
    pub(super) fn keep_alive(&mut self) {
        if self.s.state == State::Running && !self.s.request.idle_threshold.is_zero() {
            self.s.idle.keep_alive(self.now);
            self.durable = true;
            self.set_condition(ConditionType::Idle, Truth::False, Signal::KeepAlive.word());
        }
    }

    /// Labels in any state; the threshold as long as there is something to end.
    pub(super) fn update(&mut self, labels: Option<BTreeMap<String, String>>, threshold: Option<Duration>, actor: Actor) -> Result<(), Refusal> {
        let labels = labels.filter(|new| *new != self.s.labels);
        let threshold = threshold.filter(|new| *new != self.s.request.idle_threshold);
        if threshold.is_some() && (self.s.state.is_final() || self.s.state == State::Stopping) {
            return Err(Refusal::Ended { state: self.s.state });
        }
        let before = Matchable::of(&self.s);
        let mut changes = Vec::new();
        if let Some(labels) = labels {
            self.s.labels = labels;
            changes.push("labels changed".to_owned());
        }
        if let Some(new) = threshold {
            let old = std::mem::replace(&mut Arc::make_mut(&mut self.s.request).idle_threshold, new);
            if self.s.state == State::Running {
                self.s.idle.warned = false;
                self.s.idle.next_look = (!new.is_zero()).then_some(self.now);
            }
            if new.is_zero() {
                self.s.idle = crate::domain::idle::IdleClock::default();
                self.s.conditions.retain(|c| c.kind != ConditionType::Idle);
            }
            changes.push(format!("idle_threshold is {} s instead of {} s", new.as_secs(), old.as_secs()));
        }
        if !changes.is_empty() {
            self.tell_after(EventType::Updated, actor, changes.join("; "), Some(before));
        }
        Ok(())
    }
}
