//! From the chosen offer to RUNNING, or to the next attempt.

use super::{Action, Work};
use crate::domain::attempt::{self, Choice};
use crate::domain::event::{Actor, EventType, Matchable};
use crate::domain::idle::IdleClock;
use crate::domain::ids::Label;
use crate::domain::instance::{Desired, Evidence, Instance, InstanceStatus, Launch, Sighting, SshEndpoint};
use crate::domain::offer::RentalKind;
use crate::domain::policy::{PROBE_LIMIT, Rules};
use crate::domain::session::{Attempt, AttemptFailure, ConditionType, EndReason, Pace, Session, Stage, State, Truth};
use crate::domain::time::{Look, Time};
use crate::domain::verify::{GpuAnswer, ProbeFailureKind, Verify, contradictions};
use std::sync::Arc;
use std::time::Duration;

/// Refused logins are repeated after these waits, then the attempt is over.
const REFUSED_WAITS: [u64; 5] = [5, 10, 20, 20, 20];

/// Waits between the first looks by id after an accepted launch, seconds.
const FIRST_LOOKS: [u64; 4] = [1, 2, 2, 3];

/// A vendor's proxy that did not let us in is tried again after this.
const PROXY_PAUSE: Duration = Duration::from_secs(5);
/// After a restart, offers are awaited this long before it counts that there are none.
const OFFERS_WAIT: Duration = Duration::from_secs(120);
/// And choosing is tried again this often meanwhile.
const CHOICE_EVERY: Duration = Duration::from_secs(1);

/// When the present stage, or the whole attempt, has taken too long.
pub(super) fn stage_deadline(s: &Session, rows: &[Instance], rules: &Rules) -> Option<Time> {
    let attempt = s.attempts.last().filter(|a| a.failure.is_none() && s.state == State::Provisioning)?;
    let row = rows.iter().find(|r| r.label.attempt == attempt.number)?;
    let budgets = rules.terms.get(&row.provider)?.budgets;
    let whole = attempt.started_at + budgets.attempt;
    if row.launch != Launch::Accepted {
        return Some(whole);
    }
    let stage = match s.stage {
        Stage::Requested => whole,
        Stage::Accepted | Stage::Scheduled => s.pace.progress_at + budgets.first_sign,
        Stage::ImagePulling | Stage::Booting => match s.pace.address_at {
            // A login that works may be under way, with a GPU that takes its time to answer.
            Some(known) => {
                let login = known + s.request.login_budget().unwrap_or(budgets.login);
                s.pace.probing_since.map_or(login, |since| login.max(since + PROBE_LIMIT))
            }
            None => s.pace.progress_at + budgets.boot,
        },
        Stage::SshReachable | Stage::GpuVerified => s.stage_at.max(s.pace.progress_at) + budgets.gpu,
    };
    let restart = s.pace.started_at.map(|at| at + rules.policy.restart_grace);
    Some([Some(stage), restart].into_iter().flatten().fold(whole, Time::min))
}

impl Work<'_> {
    /// The intent: an attempt and its debt, written before anything is launched.
    pub(super) fn begin_attempt(&mut self, choice: Choice) {
        let (now, from, before) = (self.now, self.s.state, Matchable::of(&self.s));
        let number = u8::try_from(self.s.attempts.len() + 1).unwrap_or(u8::MAX);
        let Choice { offer, disk_gb } = choice;
        let Some(terms) = self.terms(&offer.provider).cloned() else {
            return self.end(EndReason::NoCapacity, Actor::Service, format!("{} is not enabled", offer.provider));
        };
        let price = offer.price(Some(disk_gb));
        let label = Label { tag: self.rules.tag, session: self.s.id, attempt: number };
        self.rows.push(Instance::intended(label, terms.account, &offer, price, terms.billing, now));
        let message = format!("attempt {number}: renting {} ({}× {}) at {}", offer.id, offer.gpu_count, offer.gpu, price.total());
        self.s.attempts.push(Attempt {
            number,
            offer: Arc::clone(&offer),
            disk_gb,
            started_at: now,
            stage: Stage::Requested,
            came_to_be: false,
            failure: None,
            text: String::new(),
            ended_at: None,
            cost: crate::domain::money::Nanos::ZERO,
        });
        self.s.price = price;
        self.s.pace = Pace { progress_at: now, secret: self.rules.secret.clone(), ..Pace::default() };
        self.s.stage = Stage::Requested;
        self.s.stage_at = now;
        self.s.status_message.clone_from(&message);
        if from == State::Pending {
            self.s.state = State::Provisioning;
            self.s.state_at = now;
            self.tell_from(EventType::StateChanged, Actor::Service, message, from, Some(before));
        } else {
            self.tell_from(EventType::StageChanged, Actor::Service, message, from, Some(before));
        }
        self.actions.push(Action::Launch(number));
    }

    /// Goes on where the rows say. The clocks of the stages begin anew: that we were away is not the machine's fault.
    /// Only the limit on the whole attempt counts from its beginning, whatever happens.
    pub(super) fn resume_provisioning(&mut self) {
        let now = self.now;
        match self.s.attempts.last() {
            Some(a) if a.failure.is_some() => self.resume_choosing(),
            None => self.resume_choosing(),
            Some(_) => {
                let pace = &mut self.s.pace;
                pace.progress_at = now;
                pace.probing_since = None;
                pace.address_at = pace.address_at.map(|_| now);
                pace.started_at = pace.started_at.map(|_| now);
                if !self.s.pace.endpoints.is_empty() {
                    self.s.pace.next_probe = Some(now);
                }
                if !self.s.pace.keys_attached {
                    self.s.pace.next_attach = Some(now);
                }
            }
        }
    }

    /// An offer is to be chosen by a server that has just started.
    pub(super) fn resume_choosing(&mut self) {
        self.s.pace.choosing_since = None;
        // This is that choice.
        self.s.pace.next_choice = None;
        self.actions.push(Action::Choose);
    }

    /// An attempt is under way: whatever a choice comes to now, it is not for this session. One machine at a time is launched.
    pub(super) fn attempting(&self) -> bool {
        self.s.attempts.last().is_some_and(|a| a.failure.is_none())
    }

    /// There may be offers that we have not heard of yet: an empty inventory is no news about the market.
    pub(super) fn offers_awaited(&mut self, why: &str) {
        let now = self.now;
        let since = *self.s.pace.choosing_since.get_or_insert(now);
        if now >= since + OFFERS_WAIT {
            return self.no_further_offer(why);
        }
        self.s.pace.next_choice = Some(now + CHOICE_EVERY);
        "waiting for the providers' offers".clone_into(&mut self.s.status_message);
    }

    pub(super) fn launched(&mut self, number: u8, failed: Option<String>) {
        if !self.current(number) {
            return;
        }
        if let Some(text) = failed {
            // A machine on a bid that never started was outbid: the machine did nothing wrong.
            let outbid = self.s.attempts.iter().any(|a| a.number == number && a.offer.rental == RentalKind::Interruptible);
            let failure = if outbid { AttemptFailure::Outbid } else { AttemptFailure::InstanceStopped };
            return self.fail_attempt(number, failure, text);
        }
        if self.s.stage == Stage::Requested {
            self.accepted(number, "the provider accepted; waiting for the machine");
        }
    }

    /// The vendor's machine exists: the clocks of the stages begin.
    fn accepted(&mut self, number: u8, message: &str) {
        let now = self.now;
        self.s.pace.progress_at = now;
        let attaches = self.row(number).and_then(|at| self.terms(&self.rows[at].provider)).is_some_and(|t| t.attaches_keys);
        if attaches {
            self.s.pace.next_attach = Some(now);
        } else {
            self.s.pace.keys_attached = true;
        }
        self.set_stage(Stage::Accepted, message);
        self.actions_due();
    }

    pub(super) fn launch_unknown(&mut self, number: u8, text: &str) {
        if self.current(number) {
            self.s.status_message = format!("the provider's answer to the launch is unknown ({text}); looking for the machine");
            self.durable = true;
        }
    }

    /// Ends the attempt: its machine, if any, is destroyed; the next offer is tried if it may be.
    pub(super) fn fail_attempt(&mut self, number: u8, failure: AttemptFailure, text: String) {
        if !self.current(number) || self.s.state != State::Provisioning {
            return;
        }
        let now = self.now;
        let mut came_to_be = false;
        if let Some(attempt) = self.s.attempts.last_mut() {
            attempt.failure = Some(failure);
            attempt.ended_at = Some(now);
            attempt.text.clone_from(&text);
            came_to_be = attempt.came_to_be;
        }
        self.abandon(number);
        self.s.pace = Pace { progress_at: now, ..Pace::default() };
        self.s.endpoint = None;
        self.s.ports.clear();
        self.s.public_host = None;
        self.s.host_key = None;
        self.s.gpu_report = None;
        self.s.conditions.retain(|c| !matches!(c.kind, ConditionType::SshReachable | ConditionType::GpuVerified | ConditionType::InstancePresent));
        let message = format!("attempt {number} failed: {failure}: {text}");
        self.s.status_message.clone_from(&message);
        self.tell(EventType::AttemptEnded, Actor::Service, message);
        match attempt::may_retry(&self.s, failure, self.policy()) {
            Ok(()) => match attempt::spacing(&self.s) {
                // Another call right away would meet the same limit.
                Some(wait) => self.s.pace.next_choice = Some(now + wait),
                None => self.actions.push(Action::Choose),
            },
            Err(why) => {
                let reason = failure.end_reason(came_to_be);
                self.end(reason, Actor::Service, format!("{}: {failure}: {text} ({why})", super::ending_words(reason)));
            }
        }
    }

    pub(super) fn no_further_offer(&mut self, why: &str) {
        let Some(last) = self.s.attempts.last() else {
            return self.end(EndReason::NoCapacity, Actor::Service, format!("No offers available: {why}"));
        };
        let reason = last.failure.map_or(EndReason::NoCapacity, |f| f.end_reason(last.came_to_be));
        let message =
            format!("{}: no further offer ({why}) after {} attempts; the last one: {}", super::ending_words(reason), last.number, last.text);
        self.end(reason, Actor::Service, message);
    }

    pub(super) fn seen_provisioning(&mut self, number: u8, sighting: &Sighting, look: Look) {
        let Some(at) = self.row(number).filter(|_| self.current(number)) else { return };
        if self.rows[at].seen.as_ref().is_none_or(|s| s.look != look) {
            return; // stale or somebody else's: `record` did not take it
        }
        if self.s.stage == Stage::Requested {
            self.accepted(number, "the machine was found by its label");
        }
        self.s.price = self.rows[at].price;
        if let Some(text) = self.too_dear(at) {
            return self.fail_attempt(number, AttemptFailure::PriceChanged, text);
        }
        if self.s.pace.progress != sighting.progress {
            self.s.pace.progress.clone_from(&sighting.progress);
            self.s.pace.progress_at = self.now;
        }
        match sighting.status {
            InstanceStatus::Scheduled => self.set_stage(Stage::Scheduled, &format!("scheduled: {}", sighting.raw_status)),
            InstanceStatus::Starting => self.set_stage(Stage::ImagePulling, &format!("starting: {}", sighting.raw_status)),
            InstanceStatus::Running => self.up(sighting),
            InstanceStatus::Stopped => self.stopped_newborn(number, sighting),
            InstanceStatus::Failed => self.fail_attempt(number, AttemptFailure::InstanceFailed, sighting.raw_status.clone()),
            // What is said to be gone comes as missing.
            InstanceStatus::Offline | InstanceStatus::Deleting | InstanceStatus::Unknown | InstanceStatus::Gone => {}
        }
        self.look_again(at, sighting.status);
    }

    /// While the address is unknown: the first looks by id come fast, for machines that are up at once; then lists do, and
    /// looks by id only where a list shows a running machine without its address.
    fn look_again(&mut self, at: usize, status: InstanceStatus) {
        let row = &self.rows[at];
        if !self.s.pace.endpoints.is_empty() || !row.open() || row.desired == Desired::Gone || row.next_look.is_some() {
            return;
        }
        let wait = match FIRST_LOOKS.get(usize::from(self.s.pace.looks)) {
            Some(seconds) => Duration::from_secs(*seconds),
            None if status == InstanceStatus::Running => self.policy().look_interval,
            None => return,
        };
        self.s.pace.looks = self.s.pace.looks.saturating_add(1);
        self.rows[at].next_look = Some(self.now + wait);
    }

    fn up(&mut self, sighting: &Sighting) {
        let now = self.now;
        self.s.pace.started_at = None;
        self.set_stage(Stage::Booting, "the machine is up; waiting for its address and SSH");
        if sighting.endpoints.is_empty() {
            return;
        }
        self.s.ports.clone_from(&sighting.ports);
        self.s.public_host.clone_from(&sighting.public_host);
        if self.s.pace.endpoints != sighting.endpoints {
            self.s.pace.endpoints.clone_from(&sighting.endpoints);
            self.s.pace.endpoint_index = 0;
            self.s.pace.address_at.get_or_insert(now);
            self.s.pace.next_probe = Some(now);
            self.s.endpoint = sighting.endpoints.first().cloned();
            self.durable = true;
        }
    }

    /// Stopped right after create: one start call, some minutes, then the next offer.
    fn stopped_newborn(&mut self, number: u8, sighting: &Sighting) {
        match self.s.pace.started_at {
            None => {
                self.s.pace.started_at = Some(self.now);
                self.s.status_message = format!("the provider left it stopped ({}); starting it once", sighting.raw_status);
                self.durable = true;
                self.actions.push(Action::Start(number));
            }
            Some(since) if self.now >= since + self.policy().restart_grace => {
                self.fail_attempt(number, AttemptFailure::InstanceStopped, sighting.raw_status.clone());
            }
            Some(_) => {}
        }
    }

    pub(super) fn started(&mut self, number: u8, result: Result<(), String>) {
        if let Err(text) = result
            && self.current(number)
        {
            self.s.status_message = format!("the start call failed: {text}");
        }
    }

    pub(super) fn missing_provisioning(&mut self, number: u8) {
        let Some(at) = self.row(number).filter(|_| self.current(number)) else { return };
        if !self.proven_absent(&self.rows[at]) {
            return;
        }
        if self.rows[at].native_id.is_none() {
            self.settle(at, Evidence::NeverAppeared);
            self.fail_attempt(number, AttemptFailure::NeverAppeared, "several complete lists do not have it".to_owned());
        } else {
            self.settle(at, Evidence::Vanished);
            self.fail_attempt(number, AttemptFailure::InstanceVanished, "the provider does not have it any more".to_owned());
        }
    }

    pub(super) fn keys_attached(&mut self, number: u8, result: Result<(), String>) {
        if !self.current(number) {
            return;
        }
        let now = self.now;
        match result {
            Ok(()) => {
                self.s.pace.keys_attached = true;
                self.s.pace.secret.clone_from(&self.rules.secret);
                if !self.s.pace.endpoints.is_empty() && self.s.pace.next_probe.is_none() && self.s.pace.probes == 0 {
                    self.s.pace.next_probe = Some(now);
                }
            }
            Err(text) => {
                self.s.pace.last_probe_error = Some(format!("attaching the SSH keys failed: {text}"));
                self.s.status_message = format!("attaching the SSH keys failed, trying again: {text}");
                self.s.pace.next_attach = Some(now + Duration::from_secs(5));
            }
        }
    }

    pub(super) fn probed(&mut self, number: u8, endpoint: SshEndpoint, host_key: String, gpu: Option<GpuAnswer>) {
        if !self.current(number) {
            return;
        }
        let now = self.now;
        self.s.pace.probing_since = None;
        self.s.pace.probes = self.s.pace.probes.saturating_add(1);
        self.s.pace.last_probe_error = None;
        self.s.endpoint = Some(endpoint);
        self.s.host_key = Some(host_key);
        self.set_stage(Stage::SshReachable, "login works");
        self.set_condition(ConditionType::SshReachable, Truth::True, "login");
        let Some(offer) = self.s.offer().cloned() else { return };
        let min_cuda = self.s.request.min_cuda(&offer);
        match gpu {
            None => {
                self.set_condition(ConditionType::GpuVerified, Truth::Unknown, "not_asked");
                self.run("handed over after a login, as asked");
            }
            Some(GpuAnswer::Report(report)) => {
                let wrong = contradictions(&report, &offer, min_cuda);
                let untold = min_cuda.is_some() && report.cuda.is_none();
                self.s.gpu_report = Some(report);
                if wrong.is_empty() && untold && self.s.request.verify == Verify::Strict {
                    self.fail_attempt(number, AttemptFailure::GpuMismatch, "nvidia-smi does not tell which CUDA version the driver has".to_owned());
                } else if wrong.is_empty() && untold {
                    self.set_condition(ConditionType::GpuVerified, Truth::Unknown, "cuda_untold");
                    self.run("handed over; the GPU is right, its CUDA version is not told");
                } else if wrong.is_empty() {
                    self.set_stage(Stage::GpuVerified, "the GPU is what was asked for");
                    self.set_condition(ConditionType::GpuVerified, Truth::True, "nvidia_smi");
                    self.run("verified and handed over");
                } else {
                    self.fail_attempt(number, AttemptFailure::GpuMismatch, wrong.join("; "));
                }
            }
            Some(GpuAnswer::Broken(text)) => {
                self.s.pace.gpu_silent = self.s.request.image().is_some();
                self.s.pace.last_gpu = Some(text);
                self.s.pace.next_probe = Some(now + Duration::from_secs(5));
            }
            Some(GpuAnswer::Silent(text)) => {
                self.s.pace.gpu_silent = true;
                self.s.pace.last_gpu = Some(text);
                self.s.pace.next_probe = Some(now + Duration::from_secs(5));
            }
        }
    }

    pub(super) fn probe_failed(&mut self, number: u8, endpoint: &SshEndpoint, kind: ProbeFailureKind, text: String) {
        if !self.current(number) {
            return;
        }
        let now = self.now;
        let pace = &mut self.s.pace;
        pace.probing_since = None;
        pace.probes = pace.probes.saturating_add(1);
        if endpoint.proxied {
            pace.proxy_tried_at = Some(now);
        }
        // Each in turn; but a proxy, which many share, now and then, and the machine's own address meanwhile.
        let resting = |at: usize| pace.endpoints[at].proxied && pace.proxy_tried_at.is_some_and(|tried| now.since(tried) < PROXY_PAUSE);
        let turns = (1..=pace.endpoints.len()).map(|step| (pace.endpoint_index + step) % pace.endpoints.len());
        if let Some(next) = turns.clone().find(|at| !resting(*at)).or_else(|| turns.clone().next()) {
            pace.endpoint_index = next;
        }
        let then_direct = pace.endpoints.get(pace.endpoint_index).is_some_and(|next| !next.proxied);
        pace.last_probe_error = Some(format!("{}: {text}", kind.word()));
        if kind == ProbeFailureKind::AuthRejected && self.verifier_key_lost() && self.hand_over_unseen(number) {
            return;
        }
        let pace = &mut self.s.pace;
        let wait = match kind {
            ProbeFailureKind::AuthRejected => {
                let tries = usize::from(pace.refused_logins);
                pace.refused_logins = pace.refused_logins.saturating_add(1);
                if tries == 2 && !pace.keys_reattached {
                    pace.keys_reattached = true;
                    pace.next_attach = Some(now);
                }
                match REFUSED_WAITS.get(tries) {
                    Some(seconds) => Duration::from_secs(*seconds),
                    None => return self.fail_attempt(number, AttemptFailure::AuthFailed, text),
                }
            }
            ProbeFailureKind::AlgorithmMismatch => return self.fail_attempt(number, AttemptFailure::SshAlgorithmMismatch, text),
            ProbeFailureKind::Refused if then_direct || !endpoint.proxied => Duration::from_millis(500),
            ProbeFailureKind::Refused
            | ProbeFailureKind::Timeout
            | ProbeFailureKind::Unreachable
            | ProbeFailureKind::AddressNotAllowed
            | ProbeFailureKind::HostKeyChanged
            | ProbeFailureKind::Broken
            | ProbeFailureKind::CommandFailed => {
                if endpoint.proxied && !then_direct {
                    PROXY_PAUSE
                } else {
                    self.rules.policy.probe_interval
                }
            }
        };
        self.s.pace.next_probe = Some(now + wait);
    }

    /// RUNNING: the reservation counts from here.
    pub(super) fn run(&mut self, message: &str) {
        let (now, from, before) = (self.now, self.s.state, Matchable::of(&self.s));
        self.s.state = State::Running;
        self.s.state_at = now;
        self.s.running_at.get_or_insert(now);
        message.clone_into(&mut self.s.status_message);
        self.s.pace.next_probe = Some(now + self.policy().check_login);
        self.s.pace.next_attach = None;
        if let Some(at) = self.s.attempt().map(|a| a.number).and_then(|number| self.row(number)) {
            // It took our key.
            self.rows[at].named = true;
        }
        self.begin_api();
        self.s.idle = IdleClock::begin(self.s.request.idle_threshold, now);
        self.tell_from(EventType::StateChanged, Actor::Service, message.to_owned(), from, Some(before));
        let expires = (now + self.s.request.reservation).min(self.s.hard_max_at);
        if expires != self.s.expires_at {
            self.s.expires_at = expires;
            self.s.expiring_told = false;
            self.tell(EventType::Extended, Actor::Service, format!("the reservation counts from RUNNING: expires at {expires}"));
        }
    }

    /// Stage budgets, and what is due.
    pub(super) fn provisioning_deadlines(&mut self) {
        let Some(number) = self.s.attempts.last().filter(|a| a.failure.is_none()).map(|a| a.number) else { return };
        if let Some(deadline) = stage_deadline(&self.s, &self.rows, self.rules)
            && self.now >= deadline
        {
            return self.stage_over(number);
        }
        self.actions_due();
    }

    fn stage_over(&mut self, number: u8) {
        let attempt_over = self
            .s
            .attempt()
            .and_then(|a| self.terms(&a.offer.provider).map(|t| a.started_at + t.budgets.attempt))
            .is_some_and(|whole| self.now >= whole);
        let note = self.s.pace.last_gpu.clone().or_else(|| self.s.pace.last_probe_error.clone());
        let then = note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
        let note = note.unwrap_or_default();
        let stage = self.s.stage;
        match stage {
            Stage::SshReachable | Stage::GpuVerified if self.s.pace.gpu_silent && self.s.request.verify == Verify::Gpu => {
                self.set_condition(ConditionType::GpuVerified, Truth::Unknown, "no_answer");
                self.run("handed over; the GPU did not answer");
            }
            Stage::SshReachable | Stage::GpuVerified => self.fail_attempt(number, AttemptFailure::GpuBroken, note),
            _ if attempt_over => {
                self.fail_attempt(number, AttemptFailure::AttemptTimeout, format!("the whole attempt took too long, in stage {stage}{then}"));
            }
            _ if self.s.pace.started_at.is_some() => {
                self.fail_attempt(number, AttemptFailure::InstanceStopped, "it stayed stopped after a start call".to_owned());
            }
            Stage::Requested | Stage::Accepted | Stage::Scheduled | Stage::ImagePulling | Stage::Booting => {
                self.fail_attempt(number, AttemptFailure::StageTimeout, format!("no progress in stage {stage} within its budget{then}"));
            }
        }
    }

    /// Attaching and probing, when due and possible.
    fn actions_due(&mut self) {
        let Some(number) = self.s.attempts.last().filter(|a| a.failure.is_none()).map(|a| a.number) else { return };
        let (now, seen) = (self.now, attachable(&self.rows, number));
        let pace = &mut self.s.pace;
        // Nothing is attached to what only a launch's answer has named: it waits for the first look that shows it.
        if seen && pace.next_attach.is_some_and(|due| due <= now) {
            pace.next_attach = None;
            self.actions.push(Action::AttachKeys(number));
        }
        let pace = &mut self.s.pace;
        if pace.keys_attached && !pace.endpoints.is_empty() && pace.next_probe.is_some_and(|due| due <= now) {
            (pace.next_probe, pace.probing_since) = (None, Some(now));
            let endpoint = pace.endpoint_index.min(pace.endpoints.len() - 1);
            self.actions.push(Action::Probe { attempt: number, endpoint, ask_gpu: self.s.request.verify != Verify::Ssh });
        } else if pace.next_probe.is_some_and(|due| due <= now) {
            // Not possible yet; `keys_attached` or the next sighting makes it due again.
            pace.next_probe = None;
        }
    }

    /// A price above the offered one beyond tolerance: in words.
    fn too_dear(&self, at: usize) -> Option<String> {
        let row = &self.rows[at];
        let (now, then) = (row.price.total(), row.offered.total());
        (now > self.price_limit(row)).then(|| format!("the machine costs {now}; the offer said {then}"))
    }

    /// The highest price that still counts as the offered one.
    pub(super) fn price_limit(&self, row: &Instance) -> crate::domain::money::Rate {
        let (then, policy) = (row.offered.total(), self.policy());
        (then + then.scaled(policy.price_tolerance_percent, 100)).max(then + policy.price_slack)
    }
}

/// Whether an attempt's machine was seen, so that keys can be attached to it.
pub(super) fn attachable(rows: &[Instance], number: u8) -> bool {
    rows.iter().any(|row| row.label.attempt == number && row.native_id.is_some() && row.seen.is_some())
}
