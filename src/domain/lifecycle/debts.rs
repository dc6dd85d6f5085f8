//! Debts: recording what is learnt about machines, driving destroys until their absence is proven, and the verdicts of
//! absence. Runs in whichever state the session is, final ones included.
//!
//! Gone = two not-founds by id, apart, after the destroy was answered. Never came to be = several complete lists,
//! spaced, after the provider's visibility window; where a launch's answer named an id that no look has shown, a not-found
//! by it, too, and no destroy. A list that is not complete never gets here.

use super::{Action, Input, LookBy, Work, metering, want_gone};
use crate::domain::backoff;
use crate::domain::event::{Actor, EventType};
use crate::domain::ids::ProviderId;
use crate::domain::instance::{Absence, Desired, DestroyAnswer, Destroying, Evidence, Instance, InstanceStatus, Launch, Seen, Settled, Sighting};
use crate::domain::money::Rate;
use crate::domain::session::{ConditionType, State, Truth};
use crate::domain::time::{Look, Time};
use std::time::Duration;

/// A mere "still there" is written at most this often; a crash then costs a little of the lower bound, never truth.
const NOTE_EVERY: Duration = Duration::from_secs(60);

fn elsewhere_text(row: &Instance) -> String {
    match row.account.as_str() {
        "" => "the credentials were changed meanwhile".to_owned(),
        account => format!("its account is {account}, and whether these credentials open that one is not known"),
    }
}

/// Whether a debt can't be proven settled because its account is not the one at hand.
fn is_elsewhere(row: &Instance) -> bool {
    row.destroy.last_error.as_ref() == Some(&elsewhere_text(row))
}

/// Why a debt is not proven settled, where there is more to say than that it takes its time.
fn unproven_text(row: &Instance) -> Option<String> {
    let (why, attempt) = (row.destroy.last_error.as_ref()?, row.label.attempt);
    Some(match &row.native_id {
        Some(machine) if is_elsewhere(row) && row.destroy.answered_at.is_some() => format!("whether machine {machine} is gone can't be seen: {why}"),
        Some(machine) => format!("destroying machine {machine} failed and is tried again: {why}"),
        None => format!(
            "whether attempt {attempt} left a machine behind can't be seen: {why}; an operator can bring that account's credentials back, or settle it"
        ),
    })
}

impl Work<'_> {
    /// Puts what an input says about a machine into its row.
    pub(super) fn record(&mut self, input: &Input) {
        match input {
            Input::Resumed => self.rows_resumed(),
            Input::Launched { attempt, native_id, call, .. } => self.row_launched(*attempt, native_id, *call),
            Input::LaunchRefused { attempt, .. } => {
                // What was seen is there, whatever the vendor's answer says.
                if let Some(at) = self.row(*attempt).filter(|at| self.rows[*at].native_id.is_none()) {
                    self.rows[at].launch = Launch::Refused;
                    self.settle(at, Evidence::LaunchRefused);
                }
            }
            Input::LaunchUnknown { attempt, call, .. } => {
                if let Some(at) = self.row(*attempt) {
                    let row = &mut self.rows[at];
                    row.launched = Some(*call);
                    if row.native_id.is_none() {
                        row.launch = Launch::Unknown;
                        row.uncertain_since = Some(call.answered);
                    }
                    self.durable = true;
                }
            }
            Input::Seen { attempt, sighting, look } | Input::Unwanted { attempt, sighting, look } => {
                if let Some(at) = self.row(*attempt).filter(|_| sighting.status != InstanceStatus::Gone) {
                    self.row_seen(at, sighting, *look);
                    self.keep_looking(at);
                    if matches!(input, Input::Unwanted { .. }) {
                        self.order(at);
                    }
                }
            }
            Input::Missing { attempt, look, by } => {
                if let Some(at) = self.row(*attempt) {
                    if self.elsewhere(at, *look) {
                        self.look_again_later(at);
                        self.note_elsewhere(at);
                    } else {
                        self.row_missing(at, *look, *by);
                    }
                    self.keep_looking(at);
                }
            }
            Input::LookFailed { attempt, .. } => {
                if let Some(at) = self.row(*attempt) {
                    self.look_failed(at);
                }
            }
            Input::Duplicate(stray) => self.duplicate(stray),
            Input::Retry { attempt } => {
                if let Some(at) = self.row(*attempt) {
                    self.retry(at);
                    self.order(at);
                }
            }
            Input::Settle { attempt, actor, text } => {
                if let Some(at) = self.row(*attempt) {
                    self.believe(at, actor.clone(), text);
                }
            }
            Input::Renamed { provider, from, to } => {
                for row in self.rows.iter_mut().filter(|r| r.open() && r.provider == *provider && r.account == *from) {
                    row.account.clone_from(to);
                    self.durable = true;
                }
            }
            Input::DestroyAnswered { attempt, answer, call, retry_at } => {
                if let Some(at) = self.row(*attempt) {
                    self.row_destroy_answered(at, answer, *call, *retry_at);
                }
            }
            Input::Begin
            | Input::Chosen(_)
            | Input::NoOffer(_)
            | Input::OffersAwaited(_)
            | Input::Unlisted
            | Input::KeysAttached { .. }
            | Input::Started { .. }
            | Input::Probed { .. }
            | Input::ProbeFailed { .. }
            | Input::KeyRotated { .. }
            | Input::ApiProbed { .. }
            | Input::Measured { .. }
            | Input::CreditTold { .. }
            | Input::Asked { .. }
            | Input::Tick => {}
        }
    }

    /// Whether a call may have gone to another account than the one that the machine was rented on: the credentials are of
    /// another one, or of nobody knows whom, or were changed when it was under way. What is not found there may well be here.
    pub(super) fn elsewhere(&self, at: usize, call: Look) -> bool {
        let row = &self.rows[at];
        let Some(terms) = self.terms(&row.provider) else { return !row.account.is_empty() };
        !terms.asked(call) || (!row.account.is_empty() && row.account != terms.account)
    }

    /// A sighting tells whose a machine is: one of no known account is on the account of the credentials that showed it; and
    /// when our own label is found with other credentials, they are of the same account under another name.
    fn claim(&mut self, at: usize, sighting: &Sighting, look: Look) {
        let row = &self.rows[at];
        let account = self.terms(&row.provider).map_or("", |t| t.account_of(look));
        let named = row.of_session_of(sighting);
        if !account.is_empty() && account != row.account && (row.account.is_empty() || named) {
            self.rows[at].account = account.to_owned();
            self.durable = true;
        }
    }

    /// A debt that can't be proven settled says why; a destroy's own words stand. Just after a start or a change of credentials,
    /// whose account they open is about to be known.
    fn note_elsewhere(&mut self, at: usize) {
        let row = &self.rows[at];
        let known = self.terms(&row.provider).is_none_or(|terms| !terms.account.is_empty());
        if !known || !row.open() || row.desired != Desired::Gone {
            return;
        }
        let why = elsewhere_text(row);
        let said = row.destroy.last_error.as_ref();
        if said.is_none() || (row.native_id.is_none() && said != Some(&why)) {
            self.rows[at].destroy.last_error = Some(why);
            self.durable = true;
        }
        self.tell_of_unproven_end(at);
    }

    fn look_again_later(&mut self, at: usize) {
        if self.rows[at].open() {
            self.rows[at].next_look = Some(self.now + self.later());
        }
    }

    /// What lists tell of was asked for its price alone, which has time; so has what no list of this process has shown yet, as all
    /// others of its provider. Everything else is looked for again soon.
    fn look_failed(&mut self, at: usize) {
        let (now, interval) = (self.now, self.policy().price_interval);
        let (row, pace) = (&self.rows[at], &self.s.pace);
        let goes_on = self.s.state == State::Running && self.is_last(row.label.attempt) && row.desired == Desired::Present;
        let in_doubt = self.s.endpoint.is_none() || pace.stopped_at.is_some() || pace.offline_since.is_some() || row.absence.lists > 0;
        if !goes_on || in_doubt {
            return self.look_again_later(at);
        }
        let wait = interval / 6 + self.s.id.share(interval / 6);
        let row = &mut self.rows[at];
        if row.unseen {
            row.next_look = Some(now + wait);
        } else {
            row.price_asked_at = Some(now + wait - interval);
        }
    }

    /// After a look that told nothing.
    fn later(&self) -> Duration {
        self.policy().look_interval * 2
    }

    /// After a restart nothing is under way: what was intended may have happened, what was due is due again.
    fn rows_resumed(&mut self) {
        let now = self.now;
        let (longest, later) = (self.policy().destroy_backoff_max, self.later());
        let (id, price_interval) = (self.s.id, self.policy().price_interval);
        let addressless = self.s.state == State::Running && self.s.endpoint.is_none();
        for row in self.rows.iter_mut().filter(|_| !self.rules.asleep) {
            // All debts are gone after now, not only those that somebody ordered.
            self.durable |= std::mem::take(&mut row.destroy.ordered);
        }
        for row in self.rows.iter_mut().filter(|r| r.open()) {
            // No wait is longer, whatever the clock was when it began.
            row.destroy.next_at = row.destroy.next_at.map(|at| at.min(now + longest));
            if row.launch == Launch::Intended {
                row.launch = Launch::Unknown;
                // The call was over at the latest when the process died, which was before now.
                row.uncertain_since = Some(now);
                row.launched.get_or_insert(Look { sent: row.intended_at, answered: now });
                self.durable = true;
            }
            row.unwatched();
            // Prices that grew old meanwhile are not asked for all at once.
            row.price_asked_at = row.priced_at.map(|_| now + id.share(price_interval) - price_interval);
            // What is wanted comes in lists, however much of it there is, and by its id if it does not; but one that is adopted may
            // have its address by id only.
            row.unseen = row.desired == Desired::Present;
            row.next_look = match row.desired {
                _ if row.native_id.is_none() => row.next_look,
                Desired::Gone if row.destroy.answered_at.is_none() => {
                    row.destroy.next_at = Some(now);
                    None
                }
                Desired::Gone => Some(now),
                Desired::Present if addressless => Some(now),
                Desired::Present => Some(now + later + id.share(price_interval / 6)),
            };
        }
    }

    fn row_launched(&mut self, attempt: u8, native_id: &str, call: Look) {
        let Some(at) = self.row(attempt) else { return };
        let now = self.now;
        self.durable = true;
        let same = |r: &Instance| r.provider == self.rows[at].provider && r.native_id.as_deref() == Some(native_id);
        if let Some(first) = self.rows.iter().find(|r| r.label.attempt != attempt && same(r)).map(|r| r.label) {
            // The answer names the machine of another attempt: as if it had been lost.
            self.rows[at].launched = Some(call);
            if self.rows[at].native_id.is_none() {
                self.disown(at, native_id, &format!("it is that of `{first}`"));
            }
            return;
        }
        self.came_to_be(attempt);
        let row = &mut self.rows[at];
        if row.native_id.as_deref() == Some(native_id) {
            // A list was faster than the answer: everything has begun already, and may be over.
            row.launched = Some(call);
            return;
        }
        if row.native_id.is_some() {
            // Another machine was seen with this label before, and whose this one is nobody has seen: if it carries the label,
            // too, a list tells, and it is one too many.
            row.launched = Some(call);
            return;
        }
        row.native_id = Some(native_id.to_owned());
        row.launch = Launch::Accepted;
        row.launched = Some(call);
        row.settled = None;
        metering::begun(row, call);
        if row.desired == Desired::Gone {
            row.destroy.next_at = Some(now);
        } else {
            row.next_look = Some(now);
        }
    }

    fn came_to_be(&mut self, attempt: u8) {
        if let Some(a) = self.s.attempts.iter_mut().find(|a| a.number == attempt) {
            a.came_to_be = true;
        }
    }

    fn row_seen(&mut self, at: usize, sighting: &Sighting, look: Look) {
        let now = self.now;
        let row = &self.rows[at];
        let other = row.native_id.as_ref().is_some_and(|id| *id != sighting.native_id);
        let stale = row.settled_since(look)
            || row.destroy.not_found_at.is_some_and(|gone| look.sent <= gone)
            || row.seen.as_ref().is_some_and(|seen| look.sent < seen.look.sent);
        if stale || (other && (row.touchable() || !row.carried_by(sighting))) {
            return;
        }
        if let Some(answered) = row.native_id.clone().filter(|_| other) {
            // What carries the label is what the launch brought forth; what its answer named nobody has seen.
            self.disown(at, &answered, &format!("{} carries its label", sighting.native_id));
        }
        let row = &self.rows[at];
        if row.native_id.is_none() && !row.carried_by(sighting) {
            // By its id that is not known to be ours: an answer was wrong, and this look was under way.
            return;
        }
        if row.denied_by(sighting) {
            let label: String = sighting.label.iter().flat_map(|label| label.chars()).filter(|c| !c.is_control()).take(80).collect();
            return self.disown(at, &sighting.native_id, &format!("it carries `{label}`"));
        }
        if row.unclaimed(sighting) {
            return;
        }
        let untouched = !row.touchable();
        if std::mem::take(&mut self.rows[at].unseen) && self.rows[at].desired == Desired::Present {
            self.rows[at].next_look = None;
        }
        let row = &self.rows[at];
        if row.native_id.is_none() || row.settled.is_some() {
            self.came_to_be(self.rows[at].label.attempt);
        }
        self.claim(at, sighting, look);
        let (label, tries) = (self.rows[at].label, self.rows[at].destroy.tries.max(1));
        let slow = backoff::doubling(self.policy().destroy_backoff, self.policy().destroy_backoff_max, tries);
        let slow = backoff::spread(slow, (label, tries));
        let (look_wait, unseen_after) = (self.policy().gone_spacing, self.policy().unseen_after);
        let row = &mut self.rows[at];
        if row.native_id.is_none() || sighting.is_labelled() {
            row.named = true;
        }
        if untouched && row.desired == Desired::Gone {
            row.destroy.next_at = Some(now);
        }
        if row.settled.take().is_some() {
            // A latecomer: it was proven gone or never to have been, and here it is.
            row.desired = Desired::Gone;
            row.destroy.wanted_at.get_or_insert(now);
            row.destroy.answered_at = None;
            row.destroy.next_at = Some(now);
            metering::reopened(row);
            self.durable = true;
        }
        if row.native_id.is_none() {
            row.native_id = Some(sighting.native_id.clone());
            // Seen before the launch call was answered, perhaps: it was over by now at the latest.
            let call = *row.launched.get_or_insert(Look { sent: row.intended_at, answered: look.answered });
            metering::begun(row, Look { sent: call.sent, answered: look.answered });
            if row.desired == Desired::Gone {
                row.destroy.next_at = Some(now);
            } else if sighting.price.is_none() {
                // Found by a list that tells no price: what it costs is asked at once.
                row.next_look = Some(now);
            }
            self.durable = true;
        }
        if row.launch != Launch::Accepted {
            row.launch = Launch::Accepted;
            self.durable = true;
        }
        row.absence = Absence::default();
        row.off_by = None;
        row.destroy.not_found = 0;
        row.destroy.not_found_at = None;
        if let Some(price) = sighting.price {
            if metering::priced(row, price, look) {
                self.durable = true;
            }
            if row.priced_at.replace(look.sent).is_none() && row.offered.total() == Rate::ZERO {
                // Nobody offered it: an adopted machine costs what it did when that was first told.
                row.offered = row.price;
                self.durable = true;
            }
        }
        metering::observed(row, sighting.status, look, unseen_after);
        let changed = row.seen.as_ref().is_none_or(|s| s.status != sighting.status);
        if changed || look.answered.since(row.noted_at) >= NOTE_EVERY {
            row.noted_at = look.answered;
            self.durable = true;
        }
        row.seen = Some(Seen { look, status: sighting.status, raw: sighting.raw_status.clone() });
        if row.desired == Desired::Gone && row.destroy.answered_at.is_some() {
            // The vendor took the order and the machine is still there: look again, and order again. Lists tell when it is gone.
            row.next_look.get_or_insert(now + slow.max(look_wait));
            row.destroy.next_at.get_or_insert(now + slow);
        }
    }

    /// The launch's answer named a machine of somebody else, or of another attempt: nothing was done to it, and nothing will
    /// be. Ours, if there is one, is found by its label.
    fn disown(&mut self, at: usize, other: &str, why: &str) {
        let now = self.now;
        let row = &mut self.rows[at];
        row.native_id = None;
        row.launch = Launch::Unknown;
        row.uncertain_since = Some(now);
        row.absence = Absence::default();
        row.seen = None;
        row.off_by = None;
        row.next_look = None;
        row.destroy = Destroying { wanted_at: row.destroy.wanted_at, ordered: row.destroy.ordered, ..Destroying::default() };
        row.segments.clear();
        let attempt = row.label.attempt;
        let text = format!(
            "the provider's answer to attempt {attempt} named machine {other}, which is not this one's ({why}): left alone; ours is looked for by its label"
        );
        self.durable = true;
        if !self.s.state.is_final() {
            self.tell(EventType::Updated, Actor::Provider, text);
        }
    }

    fn row_missing(&mut self, at: usize, look: Look, by: LookBy) {
        let (quorum, spacing, gone_spacing) = (self.policy().absence_quorum, self.policy().absence_spacing, self.policy().gone_spacing);
        let look_interval = self.policy().look_interval;
        let window = self.window(&self.rows[at].provider.clone());
        let now = self.now;
        let row = &mut self.rows[at];
        if !row.open() || row.seen.as_ref().is_some_and(|seen| look.sent < seen.look.answered) {
            return;
        }
        // What was seen was launched by then, even while the launch call still waits for its answer.
        let over = row.uncertain_since.or(row.launched.map(|l| l.answered)).or(row.seen.as_ref().map(|s| s.look.answered));
        let Some(over) = over else { return };
        let visible_from = if row.seen.is_some() && by == LookBy::Id { over } else { over + window };
        // Lists come a little before their interval is over: two of them must not just miss what takes two intervals.
        let spaced = look.sent >= visible_from && row.absence.last_list.is_none_or(|last| look.sent >= last + spacing - spacing / 10);
        if by != LookBy::Label {
            row.off_by.get_or_insert(look.answered);
        }
        match by {
            LookBy::Label => {
                // It is there, whatever a look by its id has said.
                row.absence = Absence { unlabelled: row.absence.unlabelled, last_list: row.absence.last_list, ..Absence::default() };
                if spaced {
                    row.absence.unlabelled = row.absence.unlabelled.saturating_add(1);
                    row.absence.last_list = Some(look.answered);
                    // Of so many lists it must not matter in which life of the server they came.
                    self.durable = true;
                }
            }
            LookBy::List => {
                self.durable |= std::mem::take(&mut row.absence.unlabelled) > 0;
                let taken = row.desired == Desired::Gone && row.touchable() && row.destroy.answered_at.is_some_and(|at| look.sent >= at);
                if taken && row.destroy.not_found == 0 && look.sent >= visible_from && row.next_look.is_some_and(|at| at > now) {
                    // What lingered is in no list any more: its id tells whether it is gone.
                    row.next_look = Some(now);
                }
                // What answers its destroy is looked for from then on.
                let by_looks = row.desired == Desired::Present || !row.touchable() || row.destroy.answered_at.is_none();
                if spaced && row.absence.lists < quorum {
                    row.absence.lists += 1;
                    row.absence.last_list = Some(look.answered);
                    row.absence.since.get_or_insert(look.answered);
                    if row.absence.lists >= quorum && row.native_id.is_some() && by_looks {
                        row.next_look = Some(now);
                    }
                } else if row.absence.lists >= quorum && !row.absence.by_id && row.native_id.is_some() && by_looks {
                    // The look before told nothing, or was given up with what the machine was wanted for.
                    row.next_look.get_or_insert(now);
                }
            }
            LookBy::Id if row.desired == Desired::Gone && row.touchable() => {
                let Some(answered) = row.destroy.answered_at else {
                    // The order fails again and again, perhaps because there is nothing left that could be destroyed.
                    row.absence.by_id |= row.absence.lists >= quorum;
                    return;
                };
                if look.sent < visible_from {
                    row.next_look = Some(visible_from);
                } else if look.sent >= answered && row.destroy.not_found_at.is_none_or(|last| look.sent >= last + gone_spacing) {
                    if row.destroy.not_found == 0 {
                        // Earlier ones may have been early, partial or wrong; this one began after the destroy was answered.
                        row.off_by = Some(look.answered);
                    }
                    row.destroy.not_found += 1;
                    row.destroy.not_found_at = Some(look.answered);
                    row.destroy.next_at = None;
                    row.next_look = Some(look.answered + gone_spacing);
                    self.durable = true;
                    if self.rows[at].destroy.not_found >= 2 {
                        self.settle(at, Evidence::NotFoundTwice);
                    }
                } else {
                    row.next_look = Some(row.destroy.not_found_at.unwrap_or(now) + gone_spacing);
                }
            }
            LookBy::Id => {
                if row.absence.lists >= quorum {
                    row.absence.by_id = true;
                }
                if row.desired == Desired::Gone {
                    row.next_look = Some(now + look_interval);
                }
            }
        }
    }

    /// A look that came too late to count must not be the last one at a machine whose destroy was answered.
    fn keep_looking(&mut self, at: usize) {
        let wait = self.policy().gone_spacing;
        let row = &mut self.rows[at];
        if row.open() && row.desired == Desired::Gone && row.destroy.answered_at.is_some() && row.destroy.next_at.is_none() {
            row.next_look.get_or_insert(self.now + wait);
        }
    }

    fn row_destroy_answered(&mut self, at: usize, answer: &Result<DestroyAnswer, String>, call: Look, retry_at: Time) {
        let now = self.now;
        let elsewhere = self.elsewhere(at, call);
        let row = &mut self.rows[at];
        row.destroy.tries = row.destroy.tries.saturating_add(1);
        row.destroy.next_at = None;
        if !row.open() {
            return;
        }
        match answer {
            Ok(DestroyAnswer::NotThere) if elsewhere => {
                row.destroy.last_error = Some(elsewhere_text(row));
                row.destroy.next_at = Some(retry_at);
            }
            Ok(taken @ (DestroyAnswer::Accepted | DestroyAnswer::NotThere)) => {
                if *taken == DestroyAnswer::Accepted {
                    metering::existed(row, call.sent);
                    if row.off_by.is_some_and(|off| off < call.sent) {
                        // It was there still: what did not find it before was wrong, or it came back.
                        (row.off_by, row.destroy.not_found, row.destroy.not_found_at) = (None, 0, None);
                    }
                }
                row.destroy.answered_at.get_or_insert(call.answered);
                row.destroy.refused_until = None;
                row.destroy.last_error = None;
                row.next_look = Some(now);
            }
            Ok(DestroyAnswer::Refused { until, text }) => {
                if !elsewhere {
                    // What is refused is there, whatever lists and looks from before have said; whether it is billed nobody says.
                    (row.absence, row.off_by) = (Absence::default(), None);
                    (row.destroy.not_found, row.destroy.not_found_at) = (0, None);
                }
                row.destroy.refused_until = *until;
                row.destroy.last_error = Some(text.clone());
                row.destroy.next_at = Some(until.map_or(retry_at, |u| u.max(now)).min(retry_at.max(now)));
            }
            Err(text) => {
                row.destroy.last_error = Some(text.clone());
                row.destroy.next_at = Some(retry_at);
            }
        }
        self.durable = true;
        self.tell_of_unproven_end(at);
    }

    /// An ending that can't come to its end says why, until it does; a failed session keeps the error that it failed with. What
    /// was said of one machine stands as long as it is true: two of them don't take turns.
    fn tell_of_unproven_end(&mut self, at: usize) {
        let lasting = self.s.end_reason.is_some_and(|reason| reason.final_state() == State::Failed);
        if self.s.state != State::Stopping || lasting {
            return;
        }
        let stands = |row: &Instance| row.open() && self.s.error.is_some() && self.s.error == unproven_text(row);
        let row = &self.rows[at];
        let Some(text) = unproven_text(row).filter(|_| !self.rows.iter().any(stands)) else { return };
        let (who, reason) = if is_elsewhere(row) { (Actor::Service, "other_account") } else { (Actor::Provider, "failed") };
        self.s.error = Some(text.clone());
        self.set_condition(ConditionType::DestroyConfirmed, Truth::False, reason);
        self.tell(EventType::Updated, who, text);
    }

    /// Pushes what is due for open debts, and settles what the evidence settles.
    pub(super) fn drive_debts(&mut self) {
        let quorum = self.policy().absence_quorum;
        for at in 0..self.rows.len() {
            let row = &self.rows[at];
            if !row.open() || (self.rules.asleep && !row.destroy.ordered) {
                continue;
            }
            if row.desired == Desired::Gone && row.native_id.is_none() && row.launch == Launch::Unknown && row.absence.lists >= quorum {
                self.settle(at, Evidence::NeverAppeared);
                continue;
            }
            if row.desired == Desired::Gone && self.proven_absent(row) && (!row.touchable() || row.destroy.answered_at.is_none()) {
                // Neither the lists nor a look by id show a machine of that id: only a launch's answer ever named it, or no order to
                // destroy it is ever answered.
                self.settle(at, Evidence::Vanished);
                continue;
            }
            let (now, attempt) = (self.now, self.rows[at].label.attempt);
            let row = &mut self.rows[at];
            if row.native_id.is_none() {
                continue;
            }
            if row.desired == Desired::Gone && row.destroy.next_at.is_some_and(|due| due <= now) {
                row.destroy.next_at = None;
                if row.touchable() {
                    self.actions.push(Action::Destroy(attempt));
                } else {
                    // Only a launch's answer has named it: whose it is comes first, and the look makes the destroy due again.
                    row.next_look = Some(now);
                }
            }
            if row.next_look.is_some_and(|due| due <= now) {
                row.next_look = None;
                self.actions.push(Action::Look(attempt));
            }
        }
    }

    /// Whether enough looks have not shown a launch of unknown outcome, or a machine that should be there.
    pub(super) fn proven_absent(&self, row: &Instance) -> bool {
        row.absence.lists >= self.policy().absence_quorum && (row.native_id.is_none() || row.absence.by_id)
    }

    /// Closes a debt on evidence.
    pub(super) fn settle(&mut self, at: usize, evidence: Evidence) {
        let now = self.now;
        let row = &mut self.rows[at];
        if row.settled.is_none() {
            row.settled = Some(Settled { at: now, evidence });
            row.desired = Desired::Gone;
            row.destroy.ordered = false;
            row.destroy.next_at = None;
            row.next_look = None;
            metering::ended(row, row.off_by.filter(|_| evidence == Evidence::NotFoundTwice).unwrap_or(now));
            if (evidence == Evidence::NeverAppeared || (evidence == Evidence::Operator && row.native_id.is_none()))
                && let Some(call) = row.launched
            {
                // Nobody ever saw it; it may have come and gone for all that.
                metering::may_have_been(row, call.sent, now);
            }
            self.durable = true;
        }
    }

    /// Marks the current attempt's machine as to be destroyed.
    pub(super) fn abandon(&mut self, attempt: u8) {
        let now = self.now;
        if let Some(at) = self.row(attempt)
            && self.rows[at].open()
        {
            want_gone(&mut self.rows[at], now);
            self.durable = true;
        }
    }

    /// Somebody wants this machine gone while the database is in doubt: that is no old fact, and lasts until it is done.
    pub(super) fn order(&mut self, at: usize) {
        let row = &mut self.rows[at];
        if self.rules.asleep && row.open() && row.desired == Desired::Gone {
            row.destroy.ordered = true;
            self.durable = true;
        }
    }

    /// A machine of an ended session turned up; `record` has already reopened its debt.
    pub(super) fn latecomer(&mut self, attempt: u8) {
        let Some(at) = self.row(attempt) else { return };
        if self.rows[at].open() && self.s.cost_final {
            self.s.cost_final = false;
            self.tell(EventType::LatecomerDestroyed, Actor::Service, "a machine appeared after the end; it is being destroyed".to_owned());
        }
    }

    fn window(&self, provider: &ProviderId) -> Duration {
        self.terms(provider).map_or(Duration::from_secs(180), |t| t.visibility_window)
    }
}
