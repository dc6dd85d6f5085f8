//! Machines that the rows did not foresee, once somebody has decided about them: a duplicate of an attempt, a stray that
//! an operator takes over or has destroyed, a debt that an operator calls settled. Each becomes a row first, so that
//! destroying it, proving it gone and metering it go the one way there is.
//!
//! Not the decision itself: what may be touched without anybody asking is `services/sweeper.rs`.

use super::{Step, Work, metering, want_gone};
use crate::domain::event::{Actor, EventType, Matchable};
use crate::domain::gpu::GpuModel;
use crate::domain::ids::{ConsumerId, Label, MachineId, OfferId, ProviderId};
use crate::domain::instance::{Absence, Desired, Evidence, Instance, Launch, PriceSeen, Seen, Sighting};
use crate::domain::memo::Memo;
use crate::domain::offer::{DiskTerms, Offer, Price, Prior, RentalKind, Traffic};
use crate::domain::policy::Rules;
use crate::domain::session::{Attempt, ConditionType, EndReason, Request, Session, Stage, State, Target, Truth};
use crate::domain::time::{Look, Time};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A machine with a label of this deployment that no row knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Stray {
    /// Its label.
    pub label: Label,
    /// Where it is.
    pub provider: ProviderId,
    /// On which account.
    pub account: String,
    /// As it was last seen.
    pub sighting: Sighting,
    /// When.
    pub look: Look,
    /// When it was first seen.
    pub first_seen: Time,
}

/// What shall become of a stray.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is destroyed, and its session ends as ORPHAN.
    Destroy,
    /// It becomes a running session of this consumer for so long.
    Keep {
        /// Whose.
        consumer: ConsumerId,
        /// For how long from now.
        reservation: Duration,
    },
}

/// The session that is made for a stray, with its row and its first events. It begins now: what it cost before is within
/// its bounds only.
#[must_use]
pub fn taken_over(stray: &Stray, fate: &Fate, actor: Actor, rules: &Rules, now: Time) -> Step {
    let offer = offer_of(stray);
    let (consumer, reservation) = match fate {
        Fate::Destroy => (ConsumerId::new("operator"), rules.policy.hard_max),
        Fate::Keep { consumer, reservation } => (consumer.clone(), *reservation),
    };
    let request = Request { reservation, ..Request::plain(consumer, Target::Offer(offer.id.clone())) };
    let s = Session::new(stray.label.session, request, BTreeMap::new(), rules.policy.hard_max, now);
    let mut work = Work { s, rows: Vec::new(), events: Vec::new(), actions: Vec::new(), durable: true, rules, now };
    let row = work.row_of(stray, stray.label, &offer);
    work.s.price = row.price;
    work.rows.push(row);
    work.s.attempts.push(Attempt {
        number: stray.label.attempt,
        offer: Arc::new(offer),
        disk_gb: 0,
        started_at: now,
        stage: Stage::Booting,
        came_to_be: true,
        failure: None,
        text: String::new(),
        ended_at: None,
        cost: crate::domain::money::Nanos::ZERO,
    });
    let told = format!("{} at {} carried a label of this deployment that no record knew", stray.sighting.native_id, stray.provider);
    work.tell_after(EventType::Created, actor.clone(), told, None);
    match fate {
        Fate::Destroy => work.end(EndReason::Orphan, actor, String::new()),
        Fate::Keep { .. } => work.keep(stray, actor),
    }
    work.drive_debts();
    work.finish()
}

/// What can be told of the offer behind a machine that was never chosen here.
fn offer_of(stray: &Stray) -> Offer {
    let sighting = &stray.sighting;
    let price = match sighting.price {
        Some(PriceSeen::Parts(price)) => price,
        Some(PriceSeen::Total(total)) => Price::default().with_total(total),
        None => Price::default(),
    };
    Offer {
        id: OfferId::new(&format!("{}-stray-{}", stray.provider, sighting.native_id)),
        provider: stray.provider.clone(),
        machine: sighting.machine.clone().unwrap_or_else(|| MachineId::new(&format!("{}:{}", stray.provider, sighting.native_id))),
        host: None,
        gpu: GpuModel::canonical("unknown"),
        gpu_raw: Arc::from("unknown"),
        gpu_count: 1,
        gpu_memory_mib: 0,
        region: Arc::default(),
        rental: if sighting.interruptible == Some(true) { RentalKind::Interruptible } else { RentalKind::OnDemand },
        min_bid: None,
        base: price,
        disk: DiskTerms::default(),
        traffic: Traffic::default(),
        reliability: None,
        verified: None,
        cuda: None,
        cpu_millis: None,
        memory_mib: None,
        direct_ports: None,
        host_end: None,
        slots: Some(1),
        confidence: 0.0,
        prior: Prior::default(),
        seen_at: stray.look.answered,
        memo: Memo::default(),
    }
}

impl Work<'_> {
    /// A row for a machine that is there already.
    fn row_of(&self, stray: &Stray, label: Label, offer: &Offer) -> Instance {
        let billing = self.terms(&stray.provider).map(|t| t.billing.clone()).unwrap_or_default();
        let mut row = Instance::intended(label, stray.account.clone(), offer, offer.base, billing, self.now);
        row.native_id = Some(stray.sighting.native_id.clone());
        row.named = true;
        row.launch = Launch::Accepted;
        // Launched at some time between its session's and the first look at it.
        let ordered = Look { sent: stray.label.session.time().min(stray.first_seen), answered: stray.first_seen };
        row.launched = Some(ordered);
        row.priced_at = stray.sighting.price.map(|_| stray.look.sent);
        metering::begun(&mut row, ordered);
        metering::observed(&mut row, stray.sighting.status, stray.look, self.policy().unseen_after);
        row.seen = Some(Seen { look: stray.look, status: stray.sighting.status, raw: stray.sighting.raw_status.clone() });
        row
    }

    fn keep(&mut self, stray: &Stray, actor: Actor) {
        let (from, before, now) = (self.s.state, Matchable::of(&self.s), self.now);
        self.s.state = State::Running;
        self.s.state_at = now;
        self.s.running_at = Some(now);
        self.s.stage = Stage::Booting;
        self.s.endpoint = stray.sighting.endpoints.first().cloned();
        self.s.pace.endpoints.clone_from(&stray.sighting.endpoints);
        self.s.ports.clone_from(&stray.sighting.ports);
        match self.s.pace.endpoints.is_empty() {
            // A list need not tell the address: it is asked for by id.
            true => self.rows.iter_mut().for_each(|row| row.next_look = Some(now)),
            false => self.s.pace.next_probe = Some(now),
        }
        "adopted: an operator took it over, nothing was verified".clone_into(&mut self.s.status_message);
        let message = self.s.status_message.clone();
        self.tell_from(EventType::StateChanged, actor, message, from, Some(before));
        self.set_condition(ConditionType::SshReachable, Truth::Unknown, "adopted");
        self.set_condition(ConditionType::GpuVerified, Truth::Unknown, "adopted");
    }

    /// A machine too many: it gets a row of its own, to be destroyed where it is.
    pub(super) fn duplicate(&mut self, stray: &Stray) {
        let sighting = &stray.sighting;
        if self.rows.iter().any(|r| r.provider == stray.provider && r.native_id.as_deref() == Some(sighting.native_id.as_str())) {
            return;
        }
        // From the far end, where no attempt has come to yet.
        let Some(number) = (1..=99).rev().find(|n| self.row(*n).is_none()) else { return };
        let mut offer = offer_of(stray);
        // The attempt's own machine, unless a restored database has forgotten it, or knows another attempt by that number.
        let own = self.row(stray.label.attempt).map(|at| self.rows[at].clone()).filter(|own| own.provider == stray.provider);
        if let Some(own) = &own {
            // Both came of one offer, and yet it is this one's price that counts, where the list tells it.
            let price = match sighting.price {
                Some(PriceSeen::Parts(price)) => price,
                Some(PriceSeen::Total(total)) => own.price.with_total(total),
                None => own.price,
            };
            offer = Offer { machine: own.machine.clone(), id: own.offer.clone(), base: price, ..offer };
        }
        let mut row = self.row_of(stray, Label { attempt: number, ..stray.label }, &offer);
        row.offered = own.map_or(offer.base, |own| own.offered);
        want_gone(&mut row, self.now);
        self.rows.push(row);
        self.order(self.rows.len() - 1);
        self.durable = true;
        let (native_id, attempt) = (&sighting.native_id, stray.label.attempt);
        let message = format!("a second machine ({native_id}) carries the label of attempt {attempt}; it is being destroyed");
        self.tell(EventType::LatecomerDestroyed, Actor::Service, message);
    }

    /// The destroy of a debt is due at once.
    pub(super) fn retry(&mut self, at: usize) {
        let now = self.now;
        let row = &mut self.rows[at];
        if row.open() && row.desired == Desired::Gone && row.native_id.is_some() {
            row.destroy.next_at = Some(now);
            row.destroy.refused_until = None;
            // No look proves anything before it is answered: a vendor that takes the order had the machine all the while.
            (row.destroy.answered_at, row.absence) = (None, Absence::default());
            self.durable = true;
        }
    }

    /// An operator's word closes a debt. Never that of a machine somebody uses.
    pub(super) fn believe(&mut self, at: usize, actor: Actor, text: &str) {
        if !self.rows[at].open() || self.rows[at].desired == Desired::Present {
            return;
        }
        self.settle(at, Evidence::Operator);
        let label = self.rows[at].label;
        self.tell(EventType::Updated, actor, format!("the debt of {label} was settled by word: {text}"));
    }
}
