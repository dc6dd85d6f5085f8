//! Instances: machines at a vendor, and the debts we keep about them.
//!
//! An [`Instance`] row is written *before* the launch call and settled only on evidence that the machine is gone or
//! never came to be. A session ends only when all its rows are settled.

use crate::domain::ids::{Label, MachineId, OfferId, ProviderId};
use crate::domain::meter::Segment;
use crate::domain::money::Rate;
use crate::domain::offer::{Component, Offer, Price};
use crate::domain::time::{Look, Time};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// What an instance does, in our words. Vendors' words are mapped to these totally; what no table knows is `Unknown`,
/// which never leads to a destroy by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceStatus {
    /// Accepted, nothing started yet.
    Scheduled,
    /// Image being fetched, or booting.
    Starting,
    /// Up, which is not yet usable.
    Running,
    /// The vendor's intent is "stopped": paused, outbid, out of credit, or never started.
    Stopped,
    /// It crashed or could not be started.
    Failed,
    /// The host has lost contact with the vendor.
    Offline,
    /// Being deleted.
    Deleting,
    /// The vendor says it is deleted or terminated.
    Gone,
    /// A word we don't know.
    Unknown,
}

/// Where to log in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SshEndpoint {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User.
    pub user: String,
    /// Whether it is the vendor's proxy rather than the machine itself.
    pub proxied: bool,
}

/// What stands for a status where the vendor tells none.
pub const NO_STATUS: &str = "no status";

/// One instance as a vendor showed it.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sighting {
    /// The vendor's id.
    pub native_id: String,
    /// The label or name it carries, verbatim.
    pub label: Option<String>,
    /// What it does.
    pub status: InstanceStatus,
    /// The vendor's own words for that, cleaned and capped, for people; [`NO_STATUS`] where it has none.
    pub raw_status: String,
    /// Whether an image layer or the like moved, so that stage clocks count from the last progress: any text that changes.
    pub progress: Option<String>,
    /// The direct address, then the proxy, whichever are known; the first is preferred.
    pub endpoints: Vec<SshEndpoint>,
    /// Mapped ports: inside → outside.
    pub ports: Vec<(u16, u16)>,
    /// Where mapped ports are reached, when known.
    pub public_host: Option<String>,
    /// What it costs, where the vendor says.
    pub price: Option<PriceSeen>,
    /// Whether it runs on a bid.
    pub interruptible: Option<bool>,
    /// The machine it runs on, where the vendor says.
    pub machine: Option<MachineId>,
    /// How much of the time its GPUs compute, percent, where the vendor says.
    pub gpu_percent: Option<u32>,
}

impl Sighting {
    /// Whether it carries a label or name: vendors tell none as null or as an empty one.
    #[must_use]
    pub fn is_labelled(&self) -> bool {
        self.label.as_ref().is_some_and(|text| !text.is_empty())
    }

    /// A machine of which nothing is known but its id, and its label where it is.
    #[must_use]
    pub fn untold(native_id: &str, label: Option<String>) -> Self {
        Self {
            native_id: native_id.to_owned(),
            label,
            status: InstanceStatus::Unknown,
            raw_status: String::new(),
            progress: None,
            endpoints: Vec::new(),
            ports: Vec::new(),
            public_host: None,
            price: None,
            interruptible: None,
            machine: None,
            gpu_percent: None,
        }
    }
}

/// A price as a vendor states it for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceSeen {
    /// By component.
    Parts(Price),
    /// One sum only.
    Total(Rate),
}

/// When a vendor's meter runs for a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Billed {
    /// Only while the instance runs.
    WhileRunning,
    /// From create until gone, except while its host is offline.
    WhileOnline,
    /// From create until gone, stopped included.
    WhileExisting,
}

impl Billed {
    /// Whether the meter of such a component runs in this status; `None` when the status does not tell.
    #[must_use]
    pub fn runs(self, status: InstanceStatus) -> Option<bool> {
        use InstanceStatus as S;
        match (self, status) {
            (_, S::Unknown) => None,
            (_, S::Gone) => Some(false),
            (Self::WhileExisting, _) => Some(true),
            (Self::WhileOnline, S::Offline) => Some(false),
            (Self::WhileOnline, _) => Some(true),
            (Self::WhileRunning, S::Running) => Some(true),
            (Self::WhileRunning, S::Deleting) => None,
            (Self::WhileRunning, S::Scheduled | S::Starting | S::Stopped | S::Failed | S::Offline) => Some(false),
        }
    }
}

/// The answer to a destroy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestroyAnswer {
    /// There was something and the vendor took the order. Not proof that it is gone.
    Accepted,
    /// The vendor says there is nothing of that id.
    NotThere,
    /// Not now: minimum term, still provisioning.
    Refused {
        /// Until when, where the vendor says.
        until: Option<Time>,
        /// The vendor's words, cleaned and capped.
        text: String,
    },
}

/// What became of the launch call, as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Launch {
    /// The row is written; the call is out or about to be.
    Intended,
    /// The vendor gave an id.
    Accepted,
    /// Nobody knows: lost reply, crash, unreadable answer. Resolved by looking, never by launching again.
    Unknown,
    /// The vendor certainly refused.
    Refused,
}

/// Whether we want the machine to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// It should be there.
    Present,
    /// It should be gone; from here there is no way back.
    Gone,
}

/// Why a debt is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The vendor refused the launch in so many words.
    LaunchRefused,
    /// Never launched: the session ended between intent and call.
    NeverLaunched,
    /// Several complete lists after the vendor's visibility window did not have it.
    NeverAppeared,
    /// Two not-founds by id, apart, after the destroy was answered.
    NotFoundTwice,
    /// Absent from several complete lists and not found by id, without our having ordered a destroy.
    Vanished,
    /// An operator's word.
    Operator,
}

/// The end of a debt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// When.
    pub at: Time,
    /// On what evidence.
    pub evidence: Evidence,
}

/// How far the destroy of a machine has come.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destroying {
    /// Since when it should be gone; `None` = it need not be, or a version that did not write this down wanted it.
    #[serde(default)]
    pub wanted_at: Option<Time>,
    /// Calls made.
    pub tries: u32,
    /// When the next call is due; `None` = none is (not wanted, or one is under way).
    pub next_at: Option<Time>,
    /// When the vendor last accepted the destroy or said it is not there.
    pub answered_at: Option<Time>,
    /// The vendor refuses until then, where it says so.
    pub refused_until: Option<Time>,
    /// What the last failed call said.
    pub last_error: Option<String>,
    /// Not-founds by id counted so far, and when the last one was answered.
    pub not_found: u8,
    /// When the last counted not-found was answered.
    pub not_found_at: Option<Time>,
    /// Somebody ordered it while the database was in doubt: it goes its way to the end, whatever else waits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ordered: bool,
}

/// Looks that did not show an instance, or not its label, counted towards a verdict.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// Complete lists without it, spaced.
    pub lists: u8,
    /// Complete lists, spaced, that show the machine which only the launch's answer named, without any label, and nothing with
    /// its own ([`Instance::vouched_by`]).
    #[serde(default)]
    pub unlabelled: u8,
    /// When the last counted list was answered.
    pub last_list: Option<Time>,
    /// When the first of them was answered.
    pub since: Option<Time>,
    /// Not found by id, after the lists.
    pub by_id: bool,
}

/// One attempt's machine: the debt.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Our label; unique, names session and attempt.
    #[serde(with = "label_text")]
    pub label: Label,
    /// Where.
    pub provider: ProviderId,
    /// On which account; empty until it is known.
    pub account: String,
    /// Which offer was taken.
    pub offer: OfferId,
    /// Which machine is behind it.
    pub machine: MachineId,
    /// The vendor's id, from the moment anything told us; dropped only when [`Self::named`] is not, and a look denies it.
    pub native_id: Option<String>,
    /// That id is more than a launch's answer: a look has shown it with our label, or a login with our key. Until then a look
    /// that shows it with another label says that the answer was wrong.
    #[serde(default = "known")]
    pub named: bool,
    /// What became of the launch.
    pub launch: Launch,
    /// What we want.
    pub desired: Desired,
    /// When the row was written.
    pub intended_at: Time,
    /// When the launch call was sent and answered (for an unknown outcome: when we stopped waiting).
    pub launched: Option<Look>,
    /// Since when absence may be counted: the call was surely over.
    pub uncertain_since: Option<Time>,
    /// What the offer promised, per hour, with the disk.
    pub offered: Price,
    /// What it costs, per hour, as far as known.
    pub price: Price,
    /// The last look at which the provider stated the price (not every list does); `None` = it never has.
    pub priced_at: Option<Time>,
    /// When this process last asked for the price by itself, since lists did not tell it.
    #[serde(skip)]
    pub price_asked_at: Option<Time>,
    /// It was there before this process began, which has not seen it yet.
    #[serde(skip)]
    pub unseen: bool,
    /// When each component is billed.
    pub billing: Vec<(Component, Billed)>,
    /// The last look that showed it: what it did.
    pub seen: Option<Seen>,
    /// Looks that did not show it.
    pub absence: Absence,
    /// The destroy.
    pub destroy: Destroying,
    /// First not-found since it was last seen, and since the destroy was answered once it was: it was off by then.
    pub off_by: Option<Time>,
    /// When the next look by id is due; `None` = none is.
    pub next_look: Option<Time>,
    /// When the row was last written for a mere "still there".
    pub noted_at: Time,
    /// The end of the debt.
    pub settled: Option<Settled>,
    /// Metered time. Stored in a table of its own.
    #[serde(skip)]
    pub segments: Vec<Segment>,
}

/// Of rows that were written before this was kept.
const fn known() -> bool {
    true
}

/// The last look that showed an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// When.
    pub look: Look,
    /// What it did.
    pub status: InstanceStatus,
    /// The vendor's words.
    pub raw: String,
}

impl Instance {
    /// The debt of a launch that is about to be ordered.
    #[must_use]
    pub fn intended(label: Label, account: String, offer: &Offer, price: Price, billing: Vec<(Component, Billed)>, now: Time) -> Self {
        Self {
            label,
            provider: offer.provider.clone(),
            account,
            offer: offer.id.clone(),
            machine: offer.machine.clone(),
            native_id: None,
            named: false,
            launch: Launch::Intended,
            desired: Desired::Present,
            intended_at: now,
            launched: None,
            uncertain_since: None,
            offered: price,
            price,
            priced_at: None,
            price_asked_at: None,
            unseen: false,
            billing,
            seen: None,
            absence: Absence::default(),
            destroy: Destroying::default(),
            off_by: None,
            next_look: None,
            noted_at: now,
            settled: None,
            segments: Vec::new(),
        }
    }

    /// Whether anything may be done to its machine: a look has shown it, with our label, or complete lists have, with none, and
    /// nothing else with ours. That a look has not found it says nothing of whose it is.
    #[must_use]
    pub fn touchable(&self) -> bool {
        self.named || self.seen.is_some()
    }

    /// Whether a sighting by the id that a launch's answer named says that this is another machine, somebody else's or that of
    /// another attempt: it carries another label, and no look has shown it with ours before. One that is renamed later is
    /// still ours.
    #[must_use]
    pub fn denied_by(&self, sighting: &Sighting) -> bool {
        !self.named && self.native_id.as_ref() == Some(&sighting.native_id) && sighting.is_labelled() && !self.carried_by(sighting)
    }

    /// Nobody looked for a while: it may have come back since it was last not found, and gone later.
    pub fn unwatched(&mut self) {
        // Lists that showed what was named, and nothing with the label, count on: what they prove needs no watching between them.
        let counted = std::mem::take(&mut self.absence);
        if counted.unlabelled > 0 {
            (self.absence.unlabelled, self.absence.last_list) = (counted.unlabelled, counted.last_list);
        }
        (self.off_by, self.destroy.not_found, self.destroy.not_found_at) = (None, 0, None);
    }

    /// What was noted for a moment after `now` was noted by a clock that was ahead, in an earlier life: it is taken as noted when
    /// this life began, so that nothing that is seen in it is older than that.
    pub fn heal(&mut self, now: Time, began: Time) {
        let right = |at: &mut Time| {
            if *at > now {
                *at = began;
            }
        };
        right(&mut self.intended_at);
        right(&mut self.noted_at);
        for look in self.launched.iter_mut().chain(self.seen.iter_mut().map(|seen| &mut seen.look)) {
            right(&mut look.sent);
            right(&mut look.answered);
        }
        let Destroying { wanted_at, answered_at, not_found_at, .. } = &mut self.destroy;
        let Absence { last_list, since, .. } = &mut self.absence;
        for at in [&mut self.uncertain_since, &mut self.priced_at, &mut self.off_by, last_list, since, wanted_at, answered_at, not_found_at] {
            at.iter_mut().for_each(right);
        }
        self.settled.iter_mut().for_each(|settled| right(&mut settled.at));
    }

    /// Whether its debt was settled when this look was under way already: what that shows of it may be over, and the next tells.
    #[must_use]
    pub fn settled_since(&self, look: Look) -> bool {
        self.settled.is_some_and(|settled| look.sent <= settled.at)
    }

    /// Whether complete lists say that the unlabelled machine which a launch's answer named is the row's: so many have shown it,
    /// and nothing with the row's label, as would prove that nothing ever will have that. Sooner, ours may only not be visible
    /// yet, and what was named be a stranger's.
    #[must_use]
    pub fn vouched_by(&self, quorum: u8) -> bool {
        self.absence.unlabelled >= quorum && !self.touchable()
    }

    /// Whether a sighting by id is of a machine that only a launch's answer has named, without any label: whose it is say
    /// complete lists.
    #[must_use]
    pub fn unclaimed(&self, sighting: &Sighting) -> bool {
        self.native_id.is_some() && !self.touchable() && !sighting.is_labelled()
    }

    /// Whether a machine carries this row's label: what a launch brings forth does. Only a row of a machine that is too many
    /// has a number of its own, and its machine that of another.
    #[must_use]
    pub fn carried_by(&self, sighting: &Sighting) -> bool {
        sighting.label.as_deref().and_then(Label::parse) == Some(self.label)
    }

    /// Whether a machine carries a label of this row's session.
    #[must_use]
    pub fn of_session_of(&self, sighting: &Sighting) -> bool {
        let ours = |label: Label| label.tag == self.label.tag && label.session == self.label.session;
        sighting.label.as_deref().and_then(Label::parse).is_some_and(ours)
    }

    /// Whether the debt is open.
    #[must_use]
    pub fn open(&self) -> bool {
        self.settled.is_none()
    }

    /// Whether it may cost money now: open, and launched or unknown.
    #[must_use]
    pub fn at_risk(&self) -> Rate {
        if self.open() && self.launch != Launch::Refused { self.price.total() } else { Rate::ZERO }
    }
}

mod label_text {
    use super::Label;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(label: &Label, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(label)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Label, D::Error> {
        let text = String::deserialize(d)?;
        Label::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("not a label: {text}")))
    }
}
