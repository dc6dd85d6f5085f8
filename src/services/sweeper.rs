//! What may be destroyed without anybody asking, and what is only reported. The lifecycle actor hands every complete list
//! to [`Sweeper::judge`]; what comes back as `destroy` becomes a row with a destroy, everything else is kept in
//! [`Findings`] for operators to see.
//!
//! The rules: a *latecomer* (its row says gone) and a *duplicate* of an attempt are destroyed, paced per minute; more than
//! a share of the fleet at one look is a sign that the rows are wrong, and trips a hold that only an operator lifts: with
//! that the operator has said that what was found then may go, at the pace. A *stray* (our label, no row) is reported at once, alarmed after a grace period and left alone, unless
//! `sweep.strays = destroy`. *Foreign* machines are never touched. Users' own destroys never pass here.
//!
//! Not the comparison itself (`domain/sweep.rs`), not absence (`domain/lifecycle/debts.rs`).

use crate::domain::ids::{Label, ProviderId};
use crate::domain::instance::{PriceSeen, Sighting};
use crate::domain::lifecycle::Stray;
use crate::domain::money::Rate;
use crate::domain::sweep::Caps;
use crate::domain::time::{Look, Time};
use crate::services::counters;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What an operator can hold at a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// No new machines.
    Launches,
    /// Nothing is destroyed that nobody asked to destroy: latecomers, duplicates, strays.
    Sweeper,
    /// Nothing ends by the clock: expiry, the hard limit.
    Expiry,
}

impl HoldKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Launches, Self::Sweeper, Self::Expiry];

    /// The word for people and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Launches => "launches",
            Self::Sweeper => "sweeper",
            Self::Expiry => "expiry",
        }
    }
}

/// A hold. Kept on disk; survives restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Where.
    pub provider: ProviderId,
    /// What.
    pub kind: HoldKind,
    /// Until when; `None` = until it is lifted.
    pub until: Option<Time>,
    /// Why.
    pub reason: String,
    /// Who set it: an operator's name, or `sweeper`.
    pub by: String,
    /// When.
    pub since: Time,
}

impl Hold {
    /// Whether its time is not over.
    #[must_use]
    pub fn in_force(&self, now: Time) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// What a machine is that no row wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// It carries a label of this deployment that no row knows.
    Stray,
    /// Its row says gone, or another machine has its row; its destroy waits for the pace or for a hold.
    Orphan,
    /// It is not ours.
    Foreign,
}

/// A machine that no row wants, as last seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// Where.
    pub provider: ProviderId,
    /// On which account.
    pub account: String,
    /// The label it carries, when it is one: ours, or another deployment's.
    pub label: Option<Label>,
    /// No session of its label is on record: it can become one.
    pub keepable: bool,
    /// As it was last seen.
    pub sighting: Sighting,
    /// When.
    pub look: Look,
    /// When it was first seen; of a stray also over restarts.
    pub first_seen: Time,
    /// In how many complete lists.
    pub lists: u32,
    /// It has been there for longer than the grace period.
    pub alarmed: bool,
}

impl Finding {
    /// What it costs per hour, where the list tells.
    #[must_use]
    pub fn per_hour(&self) -> Option<Rate> {
        match self.sighting.price? {
            PriceSeen::Parts(price) => Some(price.total()),
            PriceSeen::Total(total) => Some(total),
        }
    }

    /// The command line that keeps it; empty for what can't be kept.
    #[must_use]
    pub fn adopt_command(&self) -> String {
        match self.kind {
            FindingKind::Stray if self.keepable => format!("gpu-shopper ops adopt {} {}", self.provider, shell_word(&self.sighting.native_id)),
            FindingKind::Stray | FindingKind::Orphan | FindingKind::Foreign => String::new(),
        }
    }

    /// The command line that destroys it; empty for what is not ours.
    #[must_use]
    pub fn destroy_command(&self) -> String {
        match self.kind {
            FindingKind::Stray | FindingKind::Orphan => {
                format!("gpu-shopper ops destroy-instance {} {}", self.provider, shell_word(&self.sighting.native_id))
            }
            FindingKind::Foreign => String::new(),
        }
    }

    /// As something that can be taken over; `None` for what is not ours.
    #[must_use]
    pub fn stray(&self) -> Option<Stray> {
        let label = self.label?;
        (self.kind != FindingKind::Foreign).then(|| Stray {
            label,
            provider: self.provider.clone(),
            account: self.account.clone(),
            sighting: self.sighting.clone(),
            look: self.look,
            first_seen: self.first_seen,
        })
    }
}

/// The command line that lifts a hold.
#[must_use]
pub fn lift_command(provider: &ProviderId, kind: HoldKind) -> String {
    format!("gpu-shopper ops hold {provider} {} --lift", kind.word())
}

/// Whether a vendor's text means itself in a shell, and is no option.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// A vendor's text as one word of a shell.
fn shell_word(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let shown: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("'{}'", shown.replace('\'', "'\\''"))
}

/// What operators see of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// By provider and native id.
    pub machines: Vec<Finding>,
    /// The holds in force.
    pub holds: Vec<Hold>,
    /// Why everything automatic stands still, when it does.
    pub frozen: Option<String>,
}

/// Who sets the hold that the sweeper trips.
pub const BY_ITSELF: &str = "sweeper";

/// What is done about strays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strays {
    /// They are reported.
    #[default]
    Report,
    /// They are destroyed once the grace period is over.
    Destroy,
}

/// The sweeper's settings.
#[derive(Clone, Copy, Debug)]
pub struct SweepPolicy {
    /// What is done about strays.
    pub strays: Strays,
    /// How long a stray may be there before it is alarmed (or destroyed).
    pub grace: Duration,
    /// Complete lists that must have shown it by then.
    pub quorum: u32,
    /// How much at once.
    pub caps: Caps,
}

impl Default for SweepPolicy {
    fn default() -> Self {
        Self { strays: Strays::Report, grace: Duration::from_secs(15 * 60), quorum: 3, caps: Caps::default() }
    }
}

/// A machine of a list that is not as it should be.
pub(super) struct Suspect<'a> {
    pub kind: FindingKind,
    pub label: Option<Label>,
    /// See [`Finding::keepable`].
    pub keepable: bool,
    pub sighting: &'a Sighting,
}

/// Remembers what was found, the holds and the pace. Belongs to the actor alone.
pub(super) struct Sweeper {
    policy: SweepPolicy,
    found: BTreeMap<(ProviderId, String), Finding>,
    holds: Vec<Hold>,
    /// What had tripped a hold that an operator has lifted since: it is no longer suspicious that there is so much of it.
    excused: BTreeSet<(ProviderId, String)>,
    recent: VecDeque<Time>,
    /// Since when each stray is there: kept by the actor, so that a server that restarts often comes to the end of the grace period, too.
    strays: StraysSince,
    frozen: Option<String>,
    shown: Arc<watch::Sender<Findings>>,
}

/// Since when each stray, by provider and native id, is there.
pub(super) type StraysSince = BTreeMap<ProviderId, BTreeMap<String, Time>>;

impl Sweeper {
    pub(super) fn new(policy: SweepPolicy, holds: Vec<Hold>, frozen: Option<String>, shown: Arc<watch::Sender<Findings>>) -> Self {
        let sweeper = Self {
            policy,
            found: BTreeMap::new(),
            holds,
            excused: BTreeSet::new(),
            recent: VecDeque::new(),
            strays: StraysSince::new(),
            frozen,
            shown,
        };
        sweeper.show();
        sweeper
    }

    /// Takes over what one complete list has shown of this provider; returns the native ids that are to be destroyed now.
    /// A hold that this trips is in [`Sweeper::holds`] afterwards.
    pub(super) fn judge(&mut self, provider: &ProviderId, account: &str, look: Look, fleet: usize, suspects: &[Suspect<'_>]) -> Vec<String> {
        let now = look.answered;
        let there: BTreeSet<&str> = suspects.iter().map(|s| s.sighting.native_id.as_str()).collect();
        self.found.retain(|(at, id), _| at != provider || there.contains(id.as_str()));
        self.excused.retain(|(at, id)| at != provider || there.contains(id.as_str()));
        let mut wanted: Vec<String> = Vec::new();
        for suspect in suspects {
            let key = (provider.clone(), suspect.sighting.native_id.clone());
            let since = if suspect.kind == FindingKind::Stray { self.since(&key.0, &key.1, now) } else { now };
            let known = self.found.get(&key).filter(|f| f.kind == suspect.kind);
            let (first_seen, lists, alarmed) = known.map_or((since, 0, false), |f| (f.first_seen, f.lists, f.alarmed));
            let mut finding = Finding {
                kind: suspect.kind,
                provider: provider.clone(),
                account: account.to_owned(),
                label: suspect.label,
                keepable: suspect.keepable,
                sighting: suspect.sighting.clone(),
                look,
                first_seen,
                lists: lists.saturating_add(1),
                alarmed,
            };
            let ripe = now.since(first_seen) >= self.policy.grace && finding.lists >= self.policy.quorum;
            self.tell(&mut finding, known.is_none(), ripe);
            let destroy = match suspect.kind {
                FindingKind::Orphan => true,
                // Without an account in its row every account would count as its own.
                FindingKind::Stray => ripe && self.policy.strays == Strays::Destroy && !account.is_empty(),
                FindingKind::Foreign => false,
            };
            if destroy {
                wanted.push(finding.sighting.native_id.clone());
            }
            self.found.insert(key, finding);
        }
        if let Some(strays) = self.strays.get_mut(provider) {
            strays.retain(|id, _| self.found.get(&(provider.clone(), id.clone())).is_some_and(|f| f.kind == FindingKind::Stray));
        }
        let allowed = self.allowed(provider, wanted, fleet, now);
        // What has no account may not get a row yet: it is the same finding at the next list.
        for id in allowed.iter().filter(|_| !account.is_empty()) {
            self.found.remove(&(provider.clone(), id.clone()));
        }
        self.show();
        allowed
    }

    /// Since when a stray is there; from now on it is.
    fn since(&mut self, provider: &ProviderId, native_id: &str, now: Time) -> Time {
        *self.strays.entry(provider.clone()).or_default().entry(native_id.to_owned()).or_insert(now)
    }

    /// What a restart must know of the strays.
    pub(super) fn strays(&self) -> &StraysSince {
        &self.strays
    }

    /// What was known of the strays before a restart.
    pub(super) fn recall(&mut self, strays: StraysSince, now: Time) {
        self.strays = strays;
        // A clock that was ahead may have noted it.
        self.strays.values_mut().flat_map(BTreeMap::values_mut).for_each(|since| *since = (*since).min(now));
    }

    fn tell(&self, finding: &mut Finding, new: bool, ripe: bool) {
        let (provider, native_id, label) = (&finding.provider, &finding.sighting.native_id, finding.label);
        let label = label.map(|l| l.to_string()).unwrap_or_default();
        match finding.kind {
            FindingKind::Stray if new => {
                counters::unaccounted();
                tracing::warn!(%provider, %native_id, %label, "an instance carries a label of this deployment that no record knows: left alone");
            }
            FindingKind::Stray if ripe && !finding.alarmed => {
                finding.alarmed = true;
                let cost = finding.per_hour().map_or_else(|| "an unknown amount".to_owned(), |rate| format!("{rate}"));
                let cure = if finding.keepable {
                    format!("keep it with `{}`, or end it with `{}`", finding.adopt_command(), finding.destroy_command())
                } else {
                    format!("its session is on record with other machines, so that it can't be kept: end it with `{}`", finding.destroy_command())
                };
                tracing::error!(%provider, %native_id, %label, "a stray instance costs {cost}: {cure}");
            }
            FindingKind::Orphan if new => {
                counters::unaccounted();
                tracing::warn!(%provider, %native_id, %label, "an instance is alive that its record says is gone, or is one too many");
            }
            FindingKind::Stray | FindingKind::Orphan | FindingKind::Foreign => {}
        }
    }

    /// What of the wanted destroys a hold, the share of the fleet and the pace let through.
    fn allowed(&mut self, provider: &ProviderId, mut wanted: Vec<String>, fleet: usize, now: Time) -> Vec<String> {
        if wanted.is_empty() || self.frozen.is_some() || self.held(provider, HoldKind::Sweeper, now) {
            return Vec::new();
        }
        let unexpected = wanted.iter().filter(|id| !self.excused.contains(&(provider.clone(), (*id).clone()))).count();
        if self.policy.caps.suspicious(unexpected, fleet) {
            let reason = format!("{} of {fleet} machines would have been destroyed at one look", wanted.len());
            tracing::error!(%provider, "the sweeper stops itself: {reason}; look at `gpu-shopper ops strays`, then lift it with `{}`", lift_command(provider, HoldKind::Sweeper));
            self.hold(Hold { provider: provider.clone(), kind: HoldKind::Sweeper, until: None, reason, by: BY_ITSELF.to_owned(), since: now });
            return Vec::new();
        }
        while self.recent.front().is_some_and(|at| now.since(*at) >= Duration::from_secs(60)) {
            self.recent.pop_front();
        }
        let room = usize::try_from(self.policy.caps.per_minute).unwrap_or(usize::MAX).saturating_sub(self.recent.len());
        wanted.truncate(room);
        self.recent.extend(wanted.iter().map(|_| now));
        wanted
    }

    /// A stray by where and what it is.
    pub(super) fn finding(&self, provider: &ProviderId, native_id: &str) -> Option<&Finding> {
        self.found.get(&(provider.clone(), native_id.to_owned()))
    }

    /// It has a row now.
    pub(super) fn forget(&mut self, provider: &ProviderId, native_id: &str) {
        self.found.remove(&(provider.clone(), native_id.to_owned()));
        self.show();
    }

    pub(super) fn holds(&self) -> &[Hold] {
        &self.holds
    }

    /// Sets a hold, in place of one of the same kind there.
    pub(super) fn hold(&mut self, hold: Hold) {
        self.holds.retain(|h| h.provider != hold.provider || h.kind != hold.kind);
        self.holds.push(hold);
        self.holds.sort_by(|a, b| (&a.provider, a.kind).cmp(&(&b.provider, b.kind)));
        self.show();
    }

    /// Lifts a hold; false when there is none. What the sweeper has stopped itself for may go then.
    pub(super) fn lift(&mut self, provider: &ProviderId, kind: HoldKind) -> bool {
        let before = self.holds.len();
        if self.holds.iter().any(|h| h.provider == *provider && h.kind == kind && kind == HoldKind::Sweeper && h.by == BY_ITSELF) {
            self.excused
                .extend(self.found.iter().filter(|(_, f)| f.provider == *provider && f.kind != FindingKind::Foreign).map(|(key, _)| key.clone()));
        }
        self.holds.retain(|h| h.provider != *provider || h.kind != kind);
        self.show();
        self.holds.len() < before
    }

    /// Forgets holds whose time is over; true when there were any.
    pub(super) fn expire_holds(&mut self, now: Time) -> bool {
        let before = self.holds.len();
        self.holds.retain(|h| h.in_force(now));
        let changed = self.holds.len() < before;
        if changed {
            self.show();
        }
        changed
    }

    /// When the next hold that has an end comes to it.
    pub(super) fn next_hold_end(&self) -> Option<Time> {
        self.holds.iter().filter_map(|hold| hold.until).min()
    }

    pub(super) fn held(&self, provider: &ProviderId, kind: HoldKind, now: Time) -> bool {
        self.why_held(provider, kind, now).is_some()
    }

    pub(super) fn why_held(&self, provider: &ProviderId, kind: HoldKind, now: Time) -> Option<&Hold> {
        self.holds.iter().find(|h| h.provider == *provider && h.kind == kind && h.in_force(now))
    }

    pub(super) fn frozen(&self) -> Option<&str> {
        self.frozen.as_deref()
    }

    pub(super) fn thaw(&mut self) -> Option<String> {
        let why = self.frozen.take();
        self.show();
        why
    }

    fn show(&self) {
        let now = Findings { machines: self.found.values().cloned().collect(), holds: self.holds.clone(), frozen: self.frozen.clone() };
        self.shown.send_if_modified(|shown| {
            let changed = *shown != now;
            *shown = now;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::instance::InstanceStatus;

    fn machine(id: usize) -> Sighting {
        Sighting {
            native_id: format!("{id:03}"),
            label: None,
            status: InstanceStatus::Running,
            raw_status: String::new(),
            progress: None,
            endpoints: Vec::new(),
            ports: Vec::new(),
            public_host: None,
            price: None,
            interruptible: None,
            gpu_percent: None,
            machine: None,
        }
    }

    fn sweeper(policy: SweepPolicy) -> Sweeper {
        Sweeper::new(policy, Vec::new(), None, Arc::new(watch::channel(Findings::default()).0))
    }

    fn look(second: i64) -> Look {
        Look { sent: Time::from_millis(second * 1000), answered: Time::from_millis(second * 1000) }
    }

    fn suspects(machines: &[Sighting], kind: FindingKind) -> Vec<Suspect<'_>> {
        machines.iter().map(|sighting| Suspect { kind, label: None, keepable: true, sighting }).collect()
    }

    #[test]
    fn orphans_go_at_a_pace_and_many_at_once_trip_a_hold() {
        let provider = ProviderId::new("vastai");
        let mut it = sweeper(SweepPolicy { caps: Caps { per_minute: 2, ..Caps::default() }, ..SweepPolicy::default() });
        let machines: Vec<Sighting> = (0..4).map(machine).collect();
        let three = suspects(&machines[..3], FindingKind::Orphan);
        assert_eq!(it.judge(&provider, "1", look(0), 40, &three), ["000", "001"]);
        assert_eq!(it.judge(&provider, "1", look(30), 40, &three[2..]), [""; 0], "not yet");
        assert_eq!(it.judge(&provider, "1", look(61), 40, &three[2..]), ["002"]);
        let four = suspects(&machines, FindingKind::Orphan);
        assert_eq!(it.judge(&provider, "1", look(200), 10, &four), [""; 0]);
        assert_eq!((it.holds()[0].kind, it.holds()[0].by.as_str()), (HoldKind::Sweeper, "sweeper"));
        assert_eq!(it.judge(&provider, "1", look(900), 100, &four[..1]), [""; 0], "until an operator lifts it");
        assert!(it.lift(&provider, HoldKind::Sweeper));
        assert_eq!(it.judge(&provider, "1", look(960), 100, &four[..1]), ["000"]);
    }

    #[test]
    fn whoever_lifts_the_hold_lets_go_what_tripped_it_and_nothing_more() {
        let provider = ProviderId::new("vastai");
        let mut it = sweeper(SweepPolicy { caps: Caps { per_minute: 3, ..Caps::default() }, ..SweepPolicy::default() });
        let machines: Vec<Sighting> = (0..9).map(machine).collect();
        let (five, others) = (suspects(&machines[..5], FindingKind::Orphan), suspects(&machines[5..], FindingKind::Orphan));
        assert_eq!(it.judge(&provider, "1", look(0), 10, &five), [""; 0]);
        assert!(it.lift(&provider, HoldKind::Sweeper));
        assert_eq!(it.judge(&provider, "1", look(60), 10, &five), ["000", "001", "002"]);
        assert_eq!(it.judge(&provider, "1", look(120), 10, &five[3..]), ["003", "004"]);
        assert!(it.holds().is_empty());
        assert_eq!(it.judge(&provider, "1", look(180), 10, &others), [""; 0], "others are as suspicious as the first were");
        assert_eq!(it.holds().len(), 1);
        // A hold that an operator has set says nothing about what is found.
        let until = Hold {
            provider: provider.clone(),
            kind: HoldKind::Sweeper,
            until: None,
            reason: String::new(),
            by: "me".to_owned(),
            since: look(190).sent,
        };
        it.hold(until);
        assert!(it.lift(&provider, HoldKind::Sweeper));
        assert_eq!(it.judge(&provider, "1", look(240), 10, &others), [""; 0]);
    }

    #[test]
    fn strays_and_foreign_machines_are_left_alone() {
        let provider = ProviderId::new("vastai");
        let machines: Vec<Sighting> = (0..2).map(machine).collect();
        for (strays, destroyed) in [(Strays::Report, 0), (Strays::Destroy, 1)] {
            let mut it = sweeper(SweepPolicy { strays, ..SweepPolicy::default() });
            let both = [
                Suspect { kind: FindingKind::Stray, label: None, keepable: true, sighting: &machines[0] },
                Suspect { kind: FindingKind::Foreign, label: None, keepable: true, sighting: &machines[1] },
            ];
            for minute in 0..15 {
                assert_eq!(it.judge(&provider, "1", look(minute * 60), 1, &both), [""; 0]);
            }
            assert_eq!(it.judge(&provider, "1", look(15 * 60), 1, &both).len(), destroyed);
        }
    }

    #[test]
    fn a_vendors_id_is_one_word_of_a_shell_whatever_it_is() {
        for (text, word) in
            [("17294410", "17294410"), ("a-b_c.d", "a-b_c.d"), ("x; rm -rf ~", "'x; rm -rf ~'"), ("it's\n", "'it'\\''s'"), ("", "''"), ("-y", "'-y'")]
        {
            assert_eq!(shell_word(text), word);
        }
    }

    #[test]
    fn what_is_not_listed_any_more_is_not_found_any_more() {
        let (here, there) = (ProviderId::new("vastai"), ProviderId::new("tensordock"));
        let machines: Vec<Sighting> = (0..2).map(machine).collect();
        let mut it = sweeper(SweepPolicy::default());
        it.judge(&here, "1", look(0), 0, &suspects(&machines, FindingKind::Foreign));
        it.judge(&there, "1", look(0), 0, &suspects(&machines[..1], FindingKind::Foreign));
        it.judge(&here, "1", look(60), 0, &suspects(&machines[1..], FindingKind::Foreign));
        assert!(it.finding(&here, "000").is_none() && it.finding(&here, "001").is_some_and(|f| f.lists == 2));
        assert!(it.finding(&there, "000").is_some());
    }
}
