//! Whether the API of a machine that starts a server by itself answers: a condition, never an ending.

use super::{Action, Work};
use crate::domain::service;
use crate::domain::session::{ConditionType, State, Truth};
use std::time::Duration;

/// A server is asked first after this.
const FIRST: Duration = Duration::from_secs(1);
/// While a server loads its model it is asked this often …
const SOON: Duration = Duration::from_secs(10);
/// … for this long after RUNNING; then it is asked …
const LOADING: Duration = Duration::from_secs(30 * 60);
/// … this often.
const LATER: Duration = Duration::from_secs(60);

impl Work<'_> {
    /// At RUNNING, and after a restart.
    pub(super) fn begin_api(&mut self) {
        if service::api_port(&self.s.request).is_some() {
            self.s.pace.next_api = Some(self.now + FIRST);
        }
    }

    /// What the API answered, or why it did not.
    pub(super) fn api_probed(&mut self, number: u8, result: Result<(), String>) {
        if !self.is_last(number) || self.s.state != State::Running {
            return;
        }
        let young = self.s.running_at.is_some_and(|at| self.now < at + LOADING);
        let wait = match &result {
            Ok(()) => self.policy().check_login,
            Err(_) if young => SOON,
            Err(_) => LATER,
        };
        self.s.pace.next_api = Some(self.now + wait);
        match result {
            Ok(()) => {
                self.s.pace.api_at = self.s.pace.api_at.or(Some(self.now));
                self.set_condition(ConditionType::ApiReady, Truth::True, "answers");
            }
            Err(reason) => self.set_condition(ConditionType::ApiReady, Truth::False, &reason),
        }
    }

    /// Asking, when due.
    pub(super) fn api_due(&mut self) {
        if self.s.state == State::Running
            && self.s.pace.next_api.is_some_and(|due| due <= self.now)
            && let Some(number) = self.s.attempt().map(|a| a.number)
        {
            self.s.pace.next_api = None;
            self.actions.push(Action::ProbeApi(number));
        }
    }
}
