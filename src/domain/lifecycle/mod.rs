//! THE machine: a pure function from a session, its debts and one input to what they become, what is told and what
//! is to be done.
//!
//! [`step`] is called by the lifecycle actor alone. Outer `match` on the state, inner on the input, no wildcard in
//! either: a new state or input does not compile until every pair was thought about. It never launches twice: the only
//! [`Action::Launch`] is issued with a freshly written attempt; an unknown outcome leads to looking.
//!
//! * `exchange`: what it is told, and what it answers.
//! * `provisioning`: from the chosen offer to RUNNING, or to the next attempt.
//! * `running`: what can happen to a machine in use.
//! * `api`: whether the server that it starts by itself answers.
//! * `keys`: whether it can still be logged in to, and by whom.
//! * `debts`: destroys, confirmations and verdicts of absence, in whichever state.
//! * `metering`: segments from looks.

mod api;
mod debts;
mod exchange;
mod keys;
mod metering;
mod provisioning;
mod running;
mod strays;

pub use crate::domain::lifecycle::exchange::{Action, Ask, Draft, Input, KeyFault, LookBy, Refusal, Step};
pub use crate::domain::lifecycle::strays::{Fate, Stray, taken_over};

use crate::domain::event::{Actor, EventType, Matchable};
use crate::domain::ids::ProviderId;
use crate::domain::instance::{Desired, Instance, Launch};
use crate::domain::meter::{Amount, Window};
use crate::domain::policy::{Policy, Rules, Terms};
use crate::domain::session::{AttemptFailure, Condition, ConditionType, EndReason, Session, Stage, State, Truth};
use crate::domain::time::Time;
use std::sync::Arc;

/// The machine. See the module's header.
///
/// # Errors
/// Only for [`Input::Asked`]: why the wish is refused; nothing has changed then.
pub fn step(session: &Session, instances: &[Instance], input: Input, rules: &Rules, now: Time) -> Result<Step, Refusal> {
    let mut work = Work { s: session.clone(), rows: instances.to_vec(), events: Vec::new(), actions: Vec::new(), durable: false, rules, now };
    work.dispatch(input)?;
    if !rules.asleep {
        work.deadlines();
    }
    work.drive_debts();
    work.conclude();
    Ok(work.finish())
}

/// When the machine wants to be called with [`Input::Tick`] next; `None` when only an outcome can change anything.
#[must_use]
pub fn next_deadline(session: &Session, instances: &[Instance], rules: &Rules) -> Option<Time> {
    let mut due: Vec<Time> = Vec::new();
    if !rules.asleep && !session.state.is_final() && session.state != State::Stopping {
        if !clock_stands(session, rules) {
            due.push(session.expires_at.min(session.hard_max_at));
        }
        if !session.expiring_told {
            due.push(session.expires_at - rules.policy.expiring_before);
        }
        if session.state == State::Running {
            due.extend(running::cost_limit_at(session, instances));
            due.extend(running::cost_warning_at(session, instances));
            due.extend(session.idle.next_look);
            due.extend(session.pace.next_offline_look);
            due.extend(session.pace.next_attach);
            due.extend(session.pace.next_api);
            due.extend(session.rekey.as_ref().and_then(|r| r.next_at));
        }
        due.extend(session.pace.next_probe);
        due.extend(session.pace.next_choice);
    }
    if !rules.asleep && session.state == State::Provisioning {
        let number = session.attempts.last().map(|a| a.number);
        due.extend(session.pace.next_attach.filter(|_| number.is_some_and(|number| provisioning::attachable(instances, number))));
        due.extend(provisioning::stage_deadline(session, instances, rules));
    }
    // What has no id yet can be neither looked at nor destroyed by it: lists find it.
    for row in instances.iter().filter(|r| r.open() && r.native_id.is_some() && (!rules.asleep || r.destroy.ordered)) {
        due.extend(row.next_look);
        if row.desired == Desired::Gone {
            due.extend(row.destroy.next_at);
        }
    }
    due.into_iter().min()
}

/// Whether an operator holds what ends by the clock at the session's provider.
fn clock_stands(session: &Session, rules: &Rules) -> bool {
    session.provider().is_some_and(|p| rules.expiry_held.contains(p))
}

/// When the budget of the present stage runs out, while an attempt is under way.
#[must_use]
pub fn stage_deadline(session: &Session, instances: &[Instance], rules: &Rules) -> Option<Time> {
    provisioning::stage_deadline(session, instances, rules)
}

/// A step in the making.
struct Work<'a> {
    s: Session,
    rows: Vec<Instance>,
    events: Vec<Draft>,
    actions: Vec<Action>,
    durable: bool,
    rules: &'a Rules,
    now: Time,
}

impl Work<'_> {
    /// Adds up what everything has cost and hands the step over.
    fn finish(mut self) -> Step {
        let mut whole = Amount::default();
        for row in &self.rows {
            let part: Amount = row.segments.iter().map(|seg| seg.amount(Window::ALWAYS, self.now)).sum();
            whole += part;
            if let Some(attempt) = self.s.attempts.iter_mut().find(|a| a.number == row.label.attempt) {
                attempt.cost = part.cost;
            }
        }
        self.s.cost = whole;
        if self.durable {
            self.s.version += 1;
        }
        // The last event of a step shows the session as the step leaves it; earlier ones what was true in between.
        let (cost, version) = (self.s.cost, self.s.version);
        for draft in &mut self.events {
            draft.session.cost = cost;
            draft.session.version = version;
        }
        Step { session: self.s, instances: self.rows, events: self.events, actions: self.actions, durable: self.durable }
    }

    fn dispatch(&mut self, input: Input) -> Result<(), Refusal> {
        // What concerns a machine rather than the session is recorded first, whatever the state.
        self.record(&input);
        if let Input::Settle { .. } | Input::Retry { .. } | Input::Duplicate(_) = &input {
            return Ok(());
        }
        match self.s.state {
            State::Pending => match input {
                Input::Begin | Input::Resumed => self.resume_choosing(),
                Input::Chosen(choice) => self.begin_attempt(choice),
                Input::NoOffer(why) => self.no_further_offer(&why),
                Input::OffersAwaited(why) => self.offers_awaited(&why),
                Input::Asked { ask, actor } => return self.asked(ask, actor),
                Input::Tick
                | Input::Measured { .. }
                | Input::CreditTold { .. }
                | Input::Launched { .. }
                | Input::LaunchRefused { .. }
                | Input::LaunchUnknown { .. }
                | Input::KeysAttached { .. }
                | Input::Started { .. }
                | Input::Seen { .. }
                | Input::Missing { .. }
                | Input::LookFailed { .. }
                | Input::Unlisted
                | Input::Renamed { .. }
                | Input::Duplicate(_)
                | Input::Unwanted { .. }
                | Input::Retry { .. }
                | Input::Settle { .. }
                | Input::Probed { .. }
                | Input::ProbeFailed { .. }
                | Input::KeyRotated { .. }
                | Input::ApiProbed { .. }
                | Input::DestroyAnswered { .. } => {}
            },
            State::Provisioning => match input {
                Input::Resumed => self.resume_provisioning(),
                Input::Chosen(_) | Input::NoOffer(_) | Input::OffersAwaited(_) if self.attempting() => {}
                Input::Chosen(choice) => self.begin_attempt(choice),
                Input::NoOffer(why) => self.no_further_offer(&why),
                Input::OffersAwaited(why) => self.offers_awaited(&why),
                Input::Launched { attempt, failed, .. } => self.launched(attempt, failed),
                Input::LaunchRefused { attempt, failure, text } => self.fail_attempt(attempt, failure, text),
                Input::LaunchUnknown { attempt, text, .. } => self.launch_unknown(attempt, &text),
                Input::KeysAttached { attempt, result } => self.keys_attached(attempt, result),
                Input::Started { attempt, result } => self.started(attempt, result),
                Input::Seen { attempt, sighting, look } => self.seen_provisioning(attempt, &sighting, look),
                Input::Missing { attempt, .. } => self.missing_provisioning(attempt),
                Input::LookFailed { attempt, text, .. } => {
                    if self.current(attempt) {
                        self.s.status_message = text;
                    }
                }
                Input::Probed { attempt, endpoint, host_key, gpu, disk_free_gb } => {
                    self.s.pace.disk_free_gb = disk_free_gb.or(self.s.pace.disk_free_gb);
                    self.probed(attempt, endpoint, host_key, gpu);
                }
                Input::ProbeFailed { attempt, endpoint, kind, text } => self.probe_failed(attempt, &endpoint, kind, text),
                Input::Asked { ask, actor } => return self.asked(ask, actor),
                Input::Begin
                | Input::Unlisted
                | Input::Renamed { .. }
                | Input::KeyRotated { .. }
                | Input::ApiProbed { .. }
                | Input::Measured { .. }
                | Input::CreditTold { .. }
                | Input::Duplicate(_)
                | Input::Unwanted { .. }
                | Input::Retry { .. }
                | Input::Settle { .. }
                | Input::DestroyAnswered { .. }
                | Input::Tick => {}
            },
            State::Running => match input {
                Input::Resumed => self.resume_running(),
                Input::Seen { attempt, sighting, look } => self.seen_running(attempt, &sighting, look),
                Input::Missing { attempt, look, .. } => self.missing_running(attempt, look),
                Input::LookFailed { attempt, crowded, .. } => {
                    if self.is_last(attempt) && !crowded {
                        self.unreachable("look_failed");
                    }
                }
                Input::Unlisted => self.unreachable("list_failed"),
                Input::Probed { attempt, endpoint, host_key, disk_free_gb, .. } => {
                    self.s.pace.disk_free_gb = disk_free_gb.or(self.s.pace.disk_free_gb);
                    self.probed_running(attempt, endpoint, &host_key);
                }
                Input::ProbeFailed { attempt, kind, text, .. } => self.probe_failed_running(attempt, kind, &text),
                Input::KeysAttached { attempt, result } => self.keys_attached_running(attempt, result),
                Input::KeyRotated { attempt, key, result } => self.key_rotated(attempt, &key, result),
                Input::ApiProbed { attempt, result } => self.api_probed(attempt, result),
                Input::Measured { attempt, result, next_at } => self.measured(attempt, result, next_at),
                Input::CreditTold { attempt, out_of_credit } => self.credit_told(attempt, out_of_credit),
                Input::Asked { ask, actor } => return self.asked(ask, actor),
                Input::Begin
                | Input::Chosen(_)
                | Input::NoOffer(_)
                | Input::OffersAwaited(_)
                | Input::Launched { .. }
                | Input::LaunchRefused { .. }
                | Input::LaunchUnknown { .. }
                | Input::Started { .. }
                | Input::Renamed { .. }
                | Input::Duplicate(_)
                | Input::Unwanted { .. }
                | Input::Retry { .. }
                | Input::Settle { .. }
                | Input::DestroyAnswered { .. }
                | Input::Tick => {}
            },
            State::Stopping => match input {
                Input::Asked { ask, actor } => return self.asked(ask, actor),
                Input::Resumed
                | Input::LookFailed { .. }
                | Input::Begin
                | Input::Chosen(_)
                | Input::NoOffer(_)
                | Input::OffersAwaited(_)
                | Input::Unlisted
                | Input::Renamed { .. }
                | Input::Duplicate(_)
                | Input::Unwanted { .. }
                | Input::Retry { .. }
                | Input::Settle { .. }
                | Input::Launched { .. }
                | Input::LaunchRefused { .. }
                | Input::LaunchUnknown { .. }
                | Input::KeysAttached { .. }
                | Input::Started { .. }
                | Input::Seen { .. }
                | Input::Missing { .. }
                | Input::Probed { .. }
                | Input::ProbeFailed { .. }
                | Input::KeyRotated { .. }
                | Input::ApiProbed { .. }
                | Input::Measured { .. }
                | Input::CreditTold { .. }
                | Input::DestroyAnswered { .. }
                | Input::Tick => {}
            },
            State::Stopped | State::Failed => match input {
                Input::Asked { ask, actor } => return self.asked(ask, actor),
                Input::Seen { attempt, .. } | Input::Unwanted { attempt, .. } | Input::Launched { attempt, .. } => self.latecomer(attempt),
                Input::Resumed
                | Input::LookFailed { .. }
                | Input::Begin
                | Input::Chosen(_)
                | Input::NoOffer(_)
                | Input::OffersAwaited(_)
                | Input::Unlisted
                | Input::Renamed { .. }
                | Input::Duplicate(_)
                | Input::Retry { .. }
                | Input::Settle { .. }
                | Input::LaunchRefused { .. }
                | Input::LaunchUnknown { .. }
                | Input::KeysAttached { .. }
                | Input::Started { .. }
                | Input::Missing { .. }
                | Input::Probed { .. }
                | Input::ProbeFailed { .. }
                | Input::KeyRotated { .. }
                | Input::ApiProbed { .. }
                | Input::Measured { .. }
                | Input::CreditTold { .. }
                | Input::DestroyAnswered { .. }
                | Input::Tick => {}
            },
        }
        Ok(())
    }

    /// What a caller asks for, in any state.
    fn asked(&mut self, ask: Ask, actor: Actor) -> Result<(), Refusal> {
        let ended = self.s.state.is_final() || self.s.state == State::Stopping;
        match ask {
            Ask::End(reason) => {
                if !ended {
                    self.end(reason, actor, String::new());
                }
                Ok(())
            }
            Ask::Update { labels, idle_threshold } => self.update(labels, idle_threshold, actor),
            Ask::KeepAlive => {
                if ended {
                    return Err(Refusal::Ended { state: self.s.state });
                }
                self.keep_alive();
                Ok(())
            }
            Ask::RotateKey(key) => self.ask_for_key(key, actor),
            Ask::Extend { by, to, override_hard_max } => {
                if ended {
                    return Err(Refusal::Ended { state: self.s.state });
                }
                let wanted = to.unwrap_or(self.s.expires_at + by.unwrap_or_default());
                if wanted <= self.now {
                    return Err(Refusal::NotLater { wanted });
                }
                if wanted > self.s.hard_max_at {
                    if !override_hard_max {
                        return Err(Refusal::HardMax { wanted, limit: self.s.hard_max_at });
                    }
                    self.s.hard_max_at = wanted;
                }
                let old = std::mem::replace(&mut self.s.expires_at, wanted);
                if wanted > old
                    && let Err(why) = crate::domain::attempt::affordable(&self.s, self.s.price.total(), self.now)
                {
                    return Err(Refusal::CostLimit(why));
                }
                let reservation = self.s.request.reservation;
                Arc::make_mut(&mut self.s.request).reservation =
                    if wanted >= old { reservation + wanted.since(old) } else { reservation.saturating_sub(old.since(wanted)) };
                self.s.expiring_told = false;
                self.tell(EventType::Extended, actor, format!("expires at {wanted} instead of {old}"));
                Ok(())
            }
        }
    }

    /// Limits that hold in every open state.
    fn deadlines(&mut self) {
        if self.s.state.is_final() || self.s.state == State::Stopping {
            return;
        }
        let held = clock_stands(&self.s, self.rules);
        self.warn_of_expiry();
        if !held && self.now >= self.s.hard_max_at {
            self.end(EndReason::HardMax, Actor::Service, "the hard limit of a session's life was reached".to_owned());
        } else if !held && self.now >= self.s.expires_at {
            self.end(EndReason::Expired, Actor::Service, "the reservation ran out".to_owned());
        } else if let Some(words) = self.cost_limit() {
            self.end(EndReason::CostLimit, Actor::Service, words);
        } else if self.s.pace.next_choice.is_some_and(|due| due <= self.now) {
            self.s.pace.next_choice = None;
            self.actions.push(Action::Choose);
        } else if self.s.state == State::Provisioning {
            self.provisioning_deadlines();
        } else if self.s.state == State::Running {
            self.running_deadlines();
            self.keys_due();
            self.api_due();
        }
    }

    /// Every ending of every open state passes here.
    fn end(&mut self, reason: EndReason, actor: Actor, message: String) {
        let from = self.s.state;
        let before = Matchable::of(&self.s);
        self.s.state = State::Stopping;
        self.s.state_at = self.now;
        self.s.end_reason = Some(reason);
        self.s.status_message = if message.is_empty() { ending_words(reason).to_owned() } else { message };
        if reason.final_state() == State::Failed {
            self.s.error = Some(self.s.status_message.clone());
        }
        let now = self.now;
        if let Some(attempt) = self.s.attempts.last_mut()
            && attempt.ended_at.is_none()
        {
            attempt.ended_at = Some(now);
            if from != State::Running {
                attempt.failure = Some(AttemptFailure::SessionEnded);
            }
        }
        self.s.pace.next_probe = None;
        self.s.pace.next_attach = None;
        self.s.rekey = None;
        self.s.idle.next_look = None;
        for row in self.rows.iter_mut().filter(|r| r.open()) {
            want_gone(row, now);
        }
        let open = self.rows.iter().filter(|r| r.open()).count();
        if open > 0 {
            self.set_condition(ConditionType::DestroyConfirmed, Truth::False, "pending");
        }
        let told = self.s.status_message.clone();
        self.tell_from(EventType::StateChanged, actor, told, from, Some(before));
    }

    /// Enters the final state once nothing is owed any more.
    fn conclude(&mut self) {
        if self.rows.iter().any(Instance::open) {
            if self.s.state.is_final() {
                self.s.cost_final = false;
            }
            return;
        }
        let Some(reason) = self.s.end_reason else { return };
        if self.s.state == State::Stopping {
            let before = Matchable::of(&self.s);
            self.s.state = reason.final_state();
            self.s.state_at = self.now;
            self.s.stopped_at = Some(self.now);
            if self.s.state == State::Stopped {
                // What kept it from its end is over.
                self.s.error = None;
            }
            self.s.cost_final = true;
            self.set_condition(ConditionType::DestroyConfirmed, Truth::True, "gone");
            self.tell_from(EventType::StateChanged, Actor::Service, "every machine is proven gone".to_owned(), State::Stopping, Some(before));
        } else if self.s.state.is_final() && !self.s.cost_final {
            self.s.cost_final = true;
            self.tell(EventType::CostAmended, Actor::Service, "the latecomer is gone; its cost was added".to_owned());
        }
    }

    // === small things that all parts use ===

    fn policy(&self) -> &Policy {
        &self.rules.policy
    }

    fn terms(&self, provider: &ProviderId) -> Option<&Terms> {
        self.rules.terms.get(provider)
    }

    /// The position of an attempt's row.
    fn row(&self, attempt: u8) -> Option<usize> {
        self.rows.iter().position(|r| r.label.attempt == attempt)
    }

    /// Whether this is the attempt under way.
    fn current(&self, attempt: u8) -> bool {
        self.s.attempts.last().is_some_and(|a| a.number == attempt && a.failure.is_none())
    }

    fn tell(&mut self, kind: EventType, actor: Actor, message: String) {
        let before = Matchable::of(&self.s);
        self.tell_after(kind, actor, message, Some(before));
    }

    fn tell_after(&mut self, kind: EventType, actor: Actor, message: String, before: Option<Matchable>) {
        let from = self.s.state;
        self.tell_from(kind, actor, message, from, before);
    }

    fn tell_from(&mut self, kind: EventType, actor: Actor, message: String, from_state: State, before: Option<Matchable>) {
        self.s.sequence += 1;
        self.durable = true;
        self.events.push(Draft { kind, from_state, before, actor, message, session: self.s.clone() });
    }

    /// Sets a condition; an event tells of a change when the session is RUNNING or ending (before that, stages tell).
    fn set_condition(&mut self, kind: ConditionType, status: Truth, reason: &str) {
        let now = self.now;
        match self.s.conditions.iter_mut().find(|c| c.kind == kind) {
            Some(c) if c.status == status && c.reason == reason => return,
            Some(c) => {
                if c.status != status {
                    c.since = now;
                }
                c.status = status;
                reason.clone_into(&mut c.reason);
            }
            None => self.s.conditions.push(Condition { kind, status, reason: reason.to_owned(), since: now }),
        }
        self.durable = true;
        if self.s.state == State::Running {
            let word = match status {
                Truth::True => "true",
                Truth::False => "false",
                Truth::Unknown => "unknown",
            };
            self.tell(EventType::ConditionChanged, Actor::Service, format!("{kind} is {word}: {reason}"));
        }
    }

    fn set_stage(&mut self, stage: Stage, message: &str) {
        if stage <= self.s.stage {
            return;
        }
        self.s.stage = stage;
        self.s.stage_at = self.now;
        if let Some(attempt) = self.s.attempts.last_mut() {
            attempt.stage = stage;
        }
        message.clone_into(&mut self.s.status_message);
        self.tell(EventType::StageChanged, Actor::Service, message.to_owned());
    }
}

/// Marks a debt: from here the machine is to be destroyed, at once where its id is known.
fn want_gone(row: &mut Instance, now: Time) {
    if row.desired == Desired::Present {
        row.desired = Desired::Gone;
        row.destroy.wanted_at = Some(now);
        row.next_look = None;
        if row.native_id.is_some() {
            row.destroy.next_at = Some(now);
        }
    }
    if row.launch == Launch::Refused && row.settled.is_none() {
        row.settled = Some(crate::domain::instance::Settled { at: now, evidence: crate::domain::instance::Evidence::LaunchRefused });
    }
}

fn ending_words(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Completed => "its user is done",
        EndReason::DestroyedByUser => "its user had it destroyed",
        EndReason::Expired => "the reservation ran out",
        EndReason::HardMax => "the hard limit of a session's life was reached",
        EndReason::Idle => "nobody used it for as long as idle_threshold",
        EndReason::CostLimit => "max_total_cost was reached",
        EndReason::Admin => "an operator ended it",
        EndReason::NoCapacity => "No offers available",
        EndReason::ProvisionFailed => "no machine became usable",
        EndReason::VerifyFailed => "no machine was what was asked for",
        EndReason::PriceChanged => "the provider charged more than it had offered",
        EndReason::ProviderAuth => "Provider authentication failed",
        EndReason::ProviderCredit => "the provider account is out of credit",
        EndReason::Preempted => "a higher bid took the machine",
        EndReason::HostLost => "the host was lost",
        EndReason::ProviderTerminated => "the provider stopped the machine",
        EndReason::Orphan => "a machine that no record knew is destroyed",
    }
}
