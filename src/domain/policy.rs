//! The settings that decisions depend on, as plain numbers.

use crate::domain::ids::{ProviderId, Tag};
use crate::domain::instance::Billed;
use crate::domain::money::Rate;
use crate::domain::offer::Component;
use crate::domain::time::{Look, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// No probe is waited for longer than this.
pub const PROBE_LIMIT: Duration = Duration::from_secs(120);

/// Settings of the lifecycle. See the README's table for what each means to an operator.
#[derive(Clone, Debug)]
pub struct Policy {
    /// No session lives longer than this after its creation.
    pub hard_max: Duration,
    /// How long before expiry the EXPIRING event comes.
    pub expiring_before: Duration,
    /// Complete lists without an instance that make a verdict of absence; and, without its label, the verdict that an unlabelled
    /// machine which a launch's answer named is ours.
    pub absence_quorum: u8,
    /// The least time between two lists that count.
    pub absence_spacing: Duration,
    /// The least time between two not-founds by id that prove a destroy.
    pub gone_spacing: Duration,
    /// First wait between destroy calls.
    pub destroy_backoff: Duration,
    /// Longest wait between destroy calls.
    pub destroy_backoff_max: Duration,
    /// Attempts whose launch was refused before we give up.
    pub max_refused_offers: u8,
    /// A price above the offered one by more than this share (percent) and [`Policy::price_slack`] is too much.
    pub price_tolerance_percent: i64,
    /// Increases below this are never too much.
    pub price_slack: Rate,
    /// A stopped newborn gets this long after its start call.
    pub restart_grace: Duration,
    /// A machine that is offline and silent this long is lost.
    pub offline_limit: Duration,
    /// Time between probes while an address refuses or is silent.
    pub probe_interval: Duration,
    /// Time between looks by id while an attempt is under way.
    pub look_interval: Duration,
    /// Time between logins to a machine in use, which notice a lost key, another host key and silence.
    pub check_login: Duration,
    /// A running machine whose price the lists don't tell is asked for it by id this often.
    pub price_interval: Duration,
    /// Offers that their provider has not told of for longer than this are not rented unseen.
    pub max_offer_age: Duration,
    /// Whether the failure memory changes what is shown and chosen; otherwise it only observes.
    pub memory_acts: bool,
    /// A machine that was on at two looks was on between them, unless they lie further apart than this: then nobody knows.
    pub unseen_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            hard_max: Duration::from_secs(12 * 3600),
            expiring_before: Duration::from_secs(15 * 60),
            absence_quorum: 3,
            absence_spacing: Duration::from_secs(60),
            gone_spacing: Duration::from_secs(10),
            destroy_backoff: Duration::from_secs(5),
            destroy_backoff_max: Duration::from_secs(300),
            max_refused_offers: 25,
            price_tolerance_percent: 5,
            price_slack: Rate::from_nanos(10_000_000),
            restart_grace: Duration::from_secs(180),
            offline_limit: Duration::from_secs(600),
            probe_interval: Duration::from_secs(2),
            look_interval: Duration::from_secs(5),
            check_login: Duration::from_secs(600),
            price_interval: Duration::from_secs(30 * 60),
            max_offer_age: Duration::from_secs(5 * 60),
            memory_acts: true,
            unseen_after: Duration::from_secs(5 * 60),
        }
    }
}

/// How long each stage of an attempt may last, counted from the last observed progress.
#[derive(Clone, Copy, Debug)]
pub struct StageBudgets {
    /// Accepted → first sign of life.
    pub first_sign: Duration,
    /// Image pull or boot, while progress is seen.
    pub boot: Duration,
    /// Address known → login.
    pub login: Duration,
    /// Login → the GPU's answer.
    pub gpu: Duration,
    /// The whole attempt, whatever happens.
    pub attempt: Duration,
}

/// What decisions need to know about a provider.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How long after a launch call a new instance may still be missing from lists.
    pub visibility_window: Duration,
    /// Whether keys must be attached by a call of their own after the launch.
    pub attaches_keys: bool,
    /// When each component is billed.
    pub billing: Vec<(Component, Billed)>,
    /// The stages' budgets.
    pub budgets: StageBudgets,
    /// The account is known to be out of credit.
    pub out_of_credit: bool,
    /// The identity of the account in use; empty while it is unknown.
    pub account: String,
    /// When the credentials were last changed in this life of the server: what was asked by then may have gone with those before.
    pub changed_at: Option<Time>,
}

impl Terms {
    /// Whether a call certainly went with the credentials of now.
    #[must_use]
    pub fn asked(&self, call: Look) -> bool {
        self.changed_at.is_none_or(|changed| call.sent > changed)
    }

    /// Whose account a call told of; empty when that is unknown.
    #[must_use]
    pub fn account_of(&self, call: Look) -> &str {
        if self.asked(call) { &self.account } else { "" }
    }
}

/// Everything besides the session that a decision rests on.
#[derive(Clone, Debug)]
pub struct Rules {
    /// This deployment's tag, for labels.
    pub tag: Tag,
    /// Settings.
    pub policy: Policy,
    /// Which secret the server's verifier keys come from: another one can't log in where this one could.
    pub secret: String,
    /// By provider.
    pub terms: BTreeMap<ProviderId, Terms>,
    /// Providers where nothing ends by the clock for now: an operator's hold.
    pub expiry_held: BTreeSet<ProviderId>,
    /// What is on record may long be untrue: nothing happens by itself, and only what somebody asks for is done.
    pub asleep: bool,
}
