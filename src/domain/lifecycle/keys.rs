//! The way in to a machine in use: whether it still takes our login, and its consumer's change of key.
//!
//! A machine is logged in to every now and then. What is found is a condition, never an ending; a key that the machine
//! has lost is put back where the vendor has a call for that. A verifier key that comes from a secret which this server
//! no longer has proves nothing: then nobody knows.

use super::{Action, KeyFault, Refusal, Work};
use crate::domain::backoff;
use crate::domain::event::{Actor, EventType};
use crate::domain::instance::SshEndpoint;
use crate::domain::session::{ConditionType, EndReason, Rekey, State, Truth};
use crate::domain::verify::{ProbeFailureKind, Verify};
use std::sync::Arc;
use std::time::Duration;

/// The first wait after a login that did not work; doubles up to the usual time between two.
const CHECK_AGAIN: Duration = Duration::from_secs(60);
/// What an attached key takes to become effective, with some to spare.
const ATTACHED: Duration = Duration::from_secs(20);
/// The first and the longest wait between two tries to change a key.
const REKEY_WAITS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

impl Work<'_> {
    /// Whether the verifier key on the current machine comes from another secret than the server has now.
    pub(super) fn verifier_key_lost(&self) -> bool {
        !self.s.pace.secret.is_empty() && self.s.pace.secret != self.rules.secret
    }

    /// The current machine's vendor attaches keys by a call, and its id is known.
    fn attachable(&self, number: u8) -> bool {
        let row = self.row(number).map(|at| &self.rows[at]).filter(|row| row.native_id.is_some());
        row.and_then(|row| self.terms(&row.provider)).is_some_and(|terms| terms.attaches_keys)
    }

    /// A machine whose verifier key went with another secret answers, and can never be proven: where its vendor can't put a
    /// key on it, it is handed over with everything unknown. False when there is another way on.
    pub(super) fn hand_over_unseen(&mut self, number: u8) -> bool {
        if self.attachable(number) || self.s.request.verify == Verify::Strict {
            return false;
        }
        self.set_condition(ConditionType::SshReachable, Truth::Unknown, "verifier_key_lost");
        self.set_condition(ConditionType::GpuVerified, Truth::Unknown, "verifier_key_lost");
        self.run("handed over unseen: the server's secret is another than when the machine was made");
        true
    }

    /// After a restart: what was under way is begun again, and the first login comes soon.
    pub(super) fn resume_keys(&mut self) {
        self.s.pace.next_probe = Some(self.now + CHECK_AGAIN);
        if let Some(rekey) = &mut self.s.rekey {
            rekey.next_at = Some(self.now);
        }
    }

    /// A login worked again.
    pub(super) fn probed_running(&mut self, number: u8, _endpoint: SshEndpoint, host_key: &str) {
        if self.is_last(number) {
            self.login_worked(host_key);
        }
    }

    /// Whoever logged in, and for what: the machine takes our key, and shows a host key.
    pub(super) fn login_worked(&mut self, host_key: &str) {
        self.s.pace.failed_checks = 0;
        self.s.pace.last_probe_error = None;
        self.s.pace.next_attach = None;
        self.s.pace.next_probe = Some(self.now + self.policy().check_login);
        let same = self.s.host_key.as_deref().is_none_or(|known| known == host_key);
        self.set_condition(
            ConditionType::SshReachable,
            if same { Truth::True } else { Truth::False },
            if same { "login" } else { ProbeFailureKind::HostKeyChanged.condition() },
        );
    }

    /// Silence is a condition. Only a machine that its vendor has called offline for long enough is lost with it.
    pub(super) fn probe_failed_running(&mut self, number: u8, kind: ProbeFailureKind, text: &str) {
        if !self.is_last(number) {
            return;
        }
        self.login_failed(number, kind, text);
        if kind.silent()
            && let Some(at) = self.row(number)
        {
            // It may have moved, and not every list tells where a machine is.
            let now = self.now;
            self.rows[at].next_look.get_or_insert(now);
        }
        if kind.silent() && self.offline_for_long() {
            self.end(EndReason::HostLost, Actor::Provider, format!("the host is offline and does not answer: {text}"));
        }
    }

    /// Whoever tried to log in, and for what. A machine that takes none of our keys any more may serve its user well; they
    /// are put back where its vendor can.
    pub(super) fn login_failed(&mut self, number: u8, kind: ProbeFailureKind, text: &str) {
        let now = self.now;
        let failed = self.s.pace.failed_checks.saturating_add(1);
        self.s.pace.failed_checks = failed;
        self.s.pace.last_probe_error = Some(format!("{}: {text}", kind.word()));
        self.s.pace.next_probe = Some(now + backoff::doubling(CHECK_AGAIN, self.policy().check_login, failed));
        if kind == ProbeFailureKind::AuthRejected && self.verifier_key_lost() {
            self.set_condition(ConditionType::SshReachable, Truth::Unknown, "verifier_key_lost");
        } else {
            self.set_condition(ConditionType::SshReachable, Truth::False, kind.condition());
        }
        if kind == ProbeFailureKind::AuthRejected && self.attachable(number) {
            self.s.pace.next_attach = Some(now);
        }
    }

    /// The keys are on record at the vendor again; whether the machine takes them shows at the next login.
    pub(super) fn keys_attached_running(&mut self, number: u8, result: Result<(), String>) {
        if !self.is_last(number) {
            return;
        }
        match result {
            Ok(()) => {
                self.s.pace.secret.clone_from(&self.rules.secret);
                self.durable = true;
                let soon = self.now + ATTACHED;
                self.s.pace.next_probe = Some(self.s.pace.next_probe.map_or(soon, |due| due.min(soon)));
            }
            // The next login that is refused makes it due again.
            Err(text) => self.s.pace.last_probe_error = Some(format!("attaching the SSH keys failed: {text}")),
        }
    }

    /// The wish for another key: written down before anything is done about it.
    pub(super) fn ask_for_key(&mut self, key: String, by: Actor) -> Result<(), Refusal> {
        match self.s.state {
            State::Running => {}
            State::Pending | State::Provisioning => return Err(Refusal::NotRunning { state: self.s.state }),
            State::Stopping | State::Stopped | State::Failed => return Err(Refusal::Ended { state: self.s.state }),
        }
        let now = self.now;
        // What an unfinished change before wanted may be on the machine or not.
        let before = self.s.rekey.take().map(|before| before.old.into_iter().chain([before.new]));
        let mut old: Vec<String> = before.into_iter().flatten().collect();
        old.push(self.s.request.public_key.clone());
        old.sort_unstable();
        old.dedup();
        old.retain(|other| *other != key);
        self.s.rekey = Some(Rekey { new: key, old, by, tries: 0, next_at: Some(now) });
        self.durable = true;
        self.set_condition(ConditionType::KeyInstalled, Truth::False, "pending");
        Ok(())
    }

    /// What came of putting another key on the machine.
    pub(super) fn key_rotated(&mut self, number: u8, key: &str, result: Result<(), KeyFault>) {
        if !self.is_last(number) {
            return;
        }
        let now = self.now;
        let Some(rekey) = &mut self.s.rekey else { return };
        if rekey.new != key {
            // Another one was asked for meanwhile.
            rekey.next_at = Some(now);
            return;
        }
        match result {
            Ok(()) => {
                let by = rekey.by.clone();
                key.clone_into(&mut Arc::make_mut(&mut self.s.request).public_key);
                self.s.rekey = None;
                self.set_condition(ConditionType::KeyInstalled, Truth::True, "installed");
                self.tell(EventType::KeyRotated, by, "the machine takes the new key, and the one before no more".to_owned());
            }
            Err(fault) => {
                rekey.tries = rekey.tries.saturating_add(1);
                rekey.next_at = Some(now + backoff::doubling(REKEY_WAITS.0, REKEY_WAITS.1, rekey.tries));
                self.set_condition(ConditionType::KeyInstalled, Truth::False, fault.reason);
            }
        }
    }

    /// Logging in, attaching and changing, when due.
    pub(super) fn keys_due(&mut self) {
        if self.s.state != State::Running {
            return;
        }
        let (now, pause) = (self.now, self.policy().check_login);
        let Some(number) = self.s.attempt().map(|a| a.number) else { return };
        if self.s.pace.next_attach.is_some_and(|due| due <= now) {
            self.s.pace.next_attach = None;
            self.actions.push(Action::AttachKeys(number));
        }
        if self.s.pace.next_probe.is_some_and(|due| due <= now) {
            self.s.pace.next_probe = Some(now + pause);
            if self.s.endpoint.is_some() {
                let endpoint = self.s.pace.endpoint_index;
                self.actions.push(Action::Probe { attempt: number, endpoint, ask_gpu: false });
            }
        }
        if let Some(rekey) = self.s.rekey.as_mut().filter(|r| r.next_at.is_some_and(|due| due <= now)) {
            rekey.next_at = None;
            self.actions.push(Action::RotateKey(number));
        }
    }
}
