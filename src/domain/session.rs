//! Sessions: what a consumer asked for and what has become of it, and who may change what (admission).
//!
//! The transitions themselves are in `lifecycle.rs`; here are the nouns.

use crate::domain::event::Actor;
use crate::domain::gpu::GpuModel;
use crate::domain::idle::IdleClock;
use crate::domain::ids::{MachineId, ProviderId, SessionId};
use crate::domain::instance::SshEndpoint;
use crate::domain::memo::Memo;
use crate::domain::meter::Amount;
use crate::domain::money::Nanos;
use crate::domain::offer::{Offer, Price, RentalKind};
use crate::domain::time::Time;
use crate::domain::verify::GpuReport;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its word in tables, JSON and on the command line.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The reverse of `word`.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}
pub(super) use words;

mod request;

pub use self::request::{
    Failover, FailoverScope, LaunchMode, Quantization, RegistryLogin, Request, SealedStart, StartSecrets, StoragePolicy, Target, Workload,
};

words! {
    /// Where a session stands. STOPPED and FAILED are entered only when every instance is proven gone.
    State {
        /// Durable; nothing rented yet.
        Pending = "pending",
        /// An attempt is under way.
        Provisioning = "provisioning",
        /// Verified and handed over.
        Running = "running",
        /// Ending: machines are being destroyed and their absence proven.
        Stopping = "stopping",
        /// Ended as its user or the rules wanted.
        Stopped = "stopped",
        /// Ended against the user's will.
        Failed = "failed",
    }
}

impl State {
    /// Whether nothing can change any more but late costs.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

words! {
    /// How far the current attempt has come. Goes back only with a new attempt.
    Stage {
        /// Intent written; no answer from the provider yet.
        Requested = "requested",
        /// The provider accepted.
        Accepted = "accepted",
        /// A machine is assigned.
        Scheduled = "scheduled",
        /// The image is being fetched.
        ImagePulling = "image_pulling",
        /// Booting, or up without an answer by SSH yet.
        Booting = "booting",
        /// Login works.
        SshReachable = "ssh_reachable",
        /// The GPU answered as asked.
        GpuVerified = "gpu_verified",
    }
}

words! {
    /// Why a session ends. Set when it enters STOPPING and never changed after.
    EndReason {
        /// Its user was done.
        Completed = "completed",
        /// Its user had it destroyed.
        DestroyedByUser = "destroyed_by_user",
        /// The reservation ran out.
        Expired = "expired",
        /// The hard limit was reached.
        HardMax = "hard_max",
        /// Nobody used the machine for as long as `idle_threshold`.
        Idle = "idle",
        /// `max_total_cost` was reached.
        CostLimit = "cost_limit",
        /// An operator ended it.
        Admin = "admin",
        /// Nothing (more) to rent.
        NoCapacity = "no_capacity",
        /// The last attempt came to be and never became usable.
        ProvisionFailed = "provision_failed",
        /// The machine was not what was asked for.
        VerifyFailed = "verify_failed",
        /// The provider charged more than it had offered.
        PriceChanged = "price_changed",
        /// The provider refuses our credentials.
        ProviderAuth = "provider_auth",
        /// The account is out of credit.
        ProviderCredit = "provider_credit",
        /// A higher bid took the machine.
        Preempted = "preempted",
        /// The host went away.
        HostLost = "host_lost",
        /// The provider stopped the machine.
        ProviderTerminated = "provider_terminated",
        /// It was a machine that no record knew, and an operator had it destroyed.
        Orphan = "orphan",
    }
}

impl EndReason {
    /// The final state that this reason leads to.
    #[must_use]
    pub const fn final_state(self) -> State {
        match self {
            Self::Completed | Self::DestroyedByUser | Self::Expired | Self::HardMax | Self::Idle | Self::CostLimit | Self::Admin => State::Stopped,
            Self::NoCapacity
            | Self::ProvisionFailed
            | Self::VerifyFailed
            | Self::PriceChanged
            | Self::ProviderAuth
            | Self::ProviderCredit
            | Self::Preempted
            | Self::HostLost
            | Self::ProviderTerminated
            | Self::Orphan => State::Failed,
        }
    }
}

words! {
    /// Why an attempt ended without becoming usable.
    AttemptFailure {
        /// The offer was gone or the place had no capacity.
        OfferGone = "offer_gone",
        /// The provider limits our calls.
        RateLimited = "rate_limited",
        /// The provider refuses our credentials.
        ProviderAuth = "provider_auth",
        /// The account is out of credit.
        ProviderCredit = "provider_credit",
        /// The provider finds the request wrong.
        Invalid = "invalid_request",
        /// The provider was unreachable before the call was sent.
        ProviderUnavailable = "provider_unavailable",
        /// The outcome was unknown, and no machine ever appeared.
        NeverAppeared = "never_appeared",
        /// It stood still in a stage beyond the stage's budget.
        StageTimeout = "stage_timeout",
        /// The whole attempt took too long.
        AttemptTimeout = "attempt_timeout",
        /// The vendor stopped it, or it never started.
        InstanceStopped = "instance_stopped",
        /// The vendor reports that it failed.
        InstanceFailed = "instance_failed",
        /// It vanished.
        InstanceVanished = "instance_vanished",
        /// It takes none of our keys.
        AuthFailed = "auth_failed",
        /// Its SSH server and ours have no algorithm in common.
        SshAlgorithmMismatch = "ssh_algorithm_mismatch",
        /// Not what was offered.
        GpuMismatch = "gpu_mismatch",
        /// The GPU or its driver does not work.
        GpuBroken = "gpu_broken",
        /// It costs more than offered.
        PriceChanged = "price_changed",
        /// The session was ended meanwhile.
        SessionEnded = "session_ended",
        /// What the machine was to be started with was sealed with a secret that the server no longer has.
        SecretLost = "secret_lost",
        /// A machine on a bid that was too low when it came: it never started.
        Outbid = "outbid",
    }
}

impl AttemptFailure {
    /// Whether it has nothing to do with the offer and passes by waiting: the provider limits our calls, or can't be reached.
    /// The next attempt is spaced and may take the same machine.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(self, Self::RateLimited | Self::ProviderUnavailable)
    }

    /// The session's end reason when no attempt follows this failure. `came_to_be`: a machine existed.
    #[must_use]
    pub const fn end_reason(self, came_to_be: bool) -> EndReason {
        match self {
            Self::ProviderAuth => EndReason::ProviderAuth,
            Self::ProviderCredit => EndReason::ProviderCredit,
            Self::PriceChanged => EndReason::PriceChanged,
            Self::GpuMismatch | Self::GpuBroken | Self::AuthFailed | Self::SshAlgorithmMismatch => EndReason::VerifyFailed,
            Self::OfferGone | Self::RateLimited | Self::Outbid => EndReason::NoCapacity,
            Self::Invalid
            | Self::ProviderUnavailable
            | Self::NeverAppeared
            | Self::StageTimeout
            | Self::AttemptTimeout
            | Self::InstanceStopped
            | Self::InstanceFailed
            | Self::InstanceVanished
            | Self::SessionEnded
            | Self::SecretLost => {
                if came_to_be || !matches!(self, Self::NeverAppeared) {
                    EndReason::ProvisionFailed
                } else {
                    EndReason::NoCapacity
                }
            }
        }
    }
}

/// A tri-state answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

words! {
    /// What a condition speaks of.
    ConditionType {
        /// The machine takes our login.
        SshReachable = "ssh_reachable",
        /// The GPUs are what was asked for.
        GpuVerified = "gpu_verified",
        /// Nobody uses the machine.
        Idle = "idle",
        /// The price is the offered one, within tolerance.
        PriceOk = "price_ok",
        /// The provider answers and shows the machine.
        ProviderReachable = "provider_reachable",
        /// The machine is where it should be: on, at the provider.
        InstancePresent = "instance_present",
        /// Every machine of this session is proven gone.
        DestroyConfirmed = "destroy_confirmed",
        /// The consumer's key that was asked for last is on the machine.
        KeyInstalled = "key_installed",
        /// The API of the server that the machine starts by itself answers.
        ApiReady = "api_ready",
    }
}

/// Something that holds, does not hold or is unknown about a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What it speaks of.
    pub kind: ConditionType,
    /// Whether it holds.
    pub status: Truth,
    /// Why, in one word.
    pub reason: String,
    /// Since when.
    pub since: Time,
}

/// One offer tried.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1…99.
    pub number: u8,
    /// The offer as it was when chosen.
    pub offer: Arc<Offer>,
    /// Disk rented, GB.
    pub disk_gb: u32,
    /// When it began.
    pub started_at: Time,
    /// How far it came.
    pub stage: Stage,
    /// Whether a machine came to be.
    pub came_to_be: bool,
    /// Why it failed, once it has.
    pub failure: Option<AttemptFailure>,
    /// The provider's or our own words about it.
    pub text: String,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// What it has cost so far.
    pub cost: Nanos,
}

/// Clocks and counters of the current attempt. They pace probes and stage budgets; losing them in a crash costs time only.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// Last observed progress.
    pub progress_at: Time,
    /// The progress text last seen.
    pub progress: Option<String>,
    /// Looks by id made while the address is unknown.
    pub looks: u8,
    /// Since when the address is known.
    pub address_at: Option<Time>,
    /// When the next probe is due.
    pub next_probe: Option<Time>,
    /// When the next look by id is due.
    pub next_look: Option<Time>,
    /// When choosing an offer is tried again, while providers' offers are awaited after a restart, or a provider limits calls.
    pub next_choice: Option<Time>,
    /// Since when offers have been awaited.
    pub choosing_since: Option<Time>,
    /// Refused logins on the current endpoint.
    pub refused_logins: u8,
    /// The endpoints of the last sighting that had any.
    pub endpoints: Vec<SshEndpoint>,
    /// Which endpoint of the sighting is being tried.
    pub endpoint_index: usize,
    /// When the vendor's proxy was last tried in vain.
    #[serde(default)]
    pub proxy_tried_at: Option<Time>,
    /// When the probe that is under way while it starts was begun.
    #[serde(default)]
    pub probing_since: Option<Time>,
    /// Probes made.
    pub probes: u32,
    /// When a stopped newborn was given its one start call.
    pub started_at: Option<Time>,
    /// Whether keys have been attached.
    pub keys_attached: bool,
    /// Whether they have been attached a second time.
    pub keys_reattached: bool,
    /// When attaching is due again.
    pub next_attach: Option<Time>,
    /// The last failed probe.
    pub last_probe_error: Option<String>,
    /// The GPU gave no answer (or the image is the consumer's own): not held against the machine.
    pub gpu_silent: bool,
    /// What came of asking the GPU last.
    pub last_gpu: Option<String>,
    /// Offline since.
    pub offline_since: Option<Time>,
    /// When a machine that has been offline for long is knocked at next.
    pub next_offline_probe: Option<Time>,
    /// When one that is said to be offline is asked for by its id, whatever lists do.
    pub next_offline_look: Option<Time>,
    /// Which of the server's secrets the verifier key on the machine comes from; empty = not on record.
    pub secret: String,
    /// Logins in a row that did not work since RUNNING.
    pub failed_checks: u32,
    /// When the API is asked next.
    pub next_api: Option<Time>,
    /// When the API answered first.
    pub api_at: Option<Time>,
    /// Free disk space at the last login that told it, GB.
    pub disk_free_gb: Option<u32>,
    /// Since when a machine in use has been seen stopped.
    pub stopped_at: Option<Time>,
    /// Whether the account was out of credit when that was asked because of it.
    pub out_of_credit: Option<bool>,
}

/// Another key that its consumer wants on the machine, while it is not there yet.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rekey {
    /// The key wanted, OpenSSH format.
    pub new: String,
    /// The keys that must not log in any more.
    pub old: Vec<String>,
    /// Who asked.
    pub by: Actor,
    /// Tries that failed.
    pub tries: u32,
    /// When the next try is due; `None` while one is under way.
    pub next_at: Option<Time>,
}

/// A session, whole.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub state_at: Time,
    /// How far the current attempt is.
    pub stage: Stage,
    /// Since when.
    pub stage_at: Time,
    /// Why it ends; set with STOPPING.
    pub end_reason: Option<EndReason>,
    /// A sentence for people.
    pub status_message: String,
    /// The error, from STOPPING on, when it ends against its user's will.
    pub error: Option<String>,
    /// Offers tried.
    pub attempts: Vec<Attempt>,
    /// What is known about it.
    pub conditions: Vec<Condition>,
    /// What it costs per hour now (actual, or offered while unknown).
    pub price: Price,
    /// Where to log in, once known.
    pub endpoint: Option<SshEndpoint>,
    /// Mapped ports, inside → outside.
    pub ports: Vec<(u16, u16)>,
    /// Where mapped ports are reached.
    #[serde(default)]
    pub public_host: Option<String>,
    /// The machine's host key, OpenSSH format, from the first login.
    pub host_key: Option<String>,
    /// What its GPU showed.
    pub gpu_report: Option<GpuReport>,
    /// When it was created.
    pub created_at: Time,
    /// When it ends by itself.
    pub expires_at: Time,
    /// Beyond this it never runs.
    pub hard_max_at: Time,
    /// First RUNNING.
    pub running_at: Option<Time>,
    /// When it became final.
    pub stopped_at: Option<Time>,
    /// Whether the EXPIRING event was told for the present expiry.
    pub expiring_told: bool,
    /// Whether the COST_WARNING event was told.
    #[serde(default)]
    pub cost_warned: bool,
    /// Whether anybody uses the machine.
    #[serde(default)]
    pub idle: IdleClock,
    /// Cost so far.
    pub cost: Amount,
    /// Whether the cost can still change.
    pub cost_final: bool,
    /// Store-wide number of its last event.
    pub revision: i64,
    /// Number of its events.
    pub sequence: i64,
    /// Counts every durable change of the row.
    pub version: i64,
    /// Clocks of the current attempt.
    #[serde(default)]
    pub pace: Pace,
    /// A change of the consumer's key that is under way.
    #[serde(default)]
    pub rekey: Option<Rekey>,
    /// The trace that it was created in, as a W3C `traceparent`; `None` when none was recorded. Nothing is decided by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// What was asked for. It and the labels are the last fields: the store keeps them apart.
    pub request: Arc<Request>,
    /// Free key-value pairs of its user.
    pub labels: BTreeMap<String, String>,
    /// For whoever tells of it. What is shared is not changed any more, so that this stays true.
    #[serde(skip)]
    pub memo: Memo,
}

impl Session {
    /// A new session in PENDING, before its first event.
    #[must_use]
    pub fn new(id: SessionId, request: Request, labels: BTreeMap<String, String>, hard_max: Duration, now: Time) -> Self {
        Self {
            id,
            labels,
            state: State::Pending,
            state_at: now,
            stage: Stage::Requested,
            stage_at: now,
            end_reason: None,
            status_message: "accepted; choosing an offer".to_owned(),
            error: None,
            attempts: Vec::new(),
            conditions: Vec::new(),
            price: Price::default(),
            endpoint: None,
            ports: Vec::new(),
            public_host: None,
            host_key: None,
            gpu_report: None,
            created_at: now,
            expires_at: now + request.reservation.min(hard_max),
            hard_max_at: now + hard_max,
            running_at: None,
            stopped_at: None,
            expiring_told: false,
            cost_warned: false,
            idle: IdleClock::default(),
            cost: Amount::default(),
            cost_final: false,
            revision: 0,
            sequence: 0,
            version: 0,
            pace: Pace::default(),
            rekey: None,
            trace: None,
            memo: Memo::default(),
            request: Arc::new(request),
        }
    }

    /// The attempt under way or last tried.
    #[must_use]
    pub fn attempt(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// The offer of the current or last attempt.
    #[must_use]
    pub fn offer(&self) -> Option<&Offer> {
        self.attempt().map(|a| &*a.offer)
    }

    /// The provider of the current or last attempt.
    #[must_use]
    pub fn provider(&self) -> Option<&ProviderId> {
        self.offer().map(|o| &o.provider)
    }

    /// The GPU model of the current or last attempt.
    #[must_use]
    pub fn gpu(&self) -> Option<&GpuModel> {
        self.offer().map(|o| &o.gpu)
    }

    /// Machines that were tried. What the provider did not even look at, because it limits our calls, was not.
    pub fn tried_machines(&self) -> impl Iterator<Item = &MachineId> {
        self.attempts.iter().filter(|a| !a.failure.is_some_and(AttemptFailure::passes)).map(|a| &a.offer.machine)
    }

    /// How many attempts in a row, up to now, failed for what passes by waiting.
    #[must_use]
    pub fn throttled_in_a_row(&self) -> usize {
        self.attempts.iter().rev().take_while(|a| a.failure.is_some_and(AttemptFailure::passes)).count()
    }

    /// The consumer's key that was asked for last, on the machine or not yet.
    #[must_use]
    pub fn wanted_key(&self) -> &str {
        self.rekey.as_ref().map_or(&self.request.public_key, |rekey| &rekey.new)
    }

    /// A condition's present value.
    #[must_use]
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.kind == kind)
    }

    /// The kind of rental wanted.
    #[must_use]
    pub fn rental(&self) -> RentalKind {
        self.offer().map_or(RentalKind::OnDemand, |o| o.rental)
    }
}
