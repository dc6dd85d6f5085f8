//! What the machine is told, and what it answers: inputs, actions, events before they are numbered, refusals.
//!
//! Words only; what they lead to is in the modules beside this one.

use crate::domain::attempt::Choice;
use crate::domain::event::{Actor, EventType, Matchable};
use crate::domain::idle::Activity;
use crate::domain::ids::ProviderId;
use crate::domain::instance::{DestroyAnswer, Instance, Sighting, SshEndpoint};
use crate::domain::lifecycle::Stray;
use crate::domain::session::{AttemptFailure, EndReason, Session, State};
use crate::domain::time::{Look, Time};
use crate::domain::verify::{GpuAnswer, ProbeFailureKind};
use std::collections::BTreeMap;
use std::time::Duration;

/// By which question an instance was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookBy {
    /// A complete list of the account.
    List,
    /// The same, where it shows the machine that only the launch's answer named, and nothing with the row's label.
    Label,
    /// Its id.
    Id,
}

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Move the expiry by so much (and the reservation with it), or to a point in time.
    Extend {
        /// Later by this much.
        by: Option<Duration>,
        /// Exactly then.
        to: Option<Time>,
        /// An operator's override of the hard limit.
        override_hard_max: bool,
    },
    /// Change what its user may change.
    Update {
        /// The labels after the change; `None` = as they are.
        labels: Option<BTreeMap<String, String>>,
        /// The idle threshold after the change, zero = off; `None` = as it is.
        idle_threshold: Option<Duration>,
    },
    /// It is in use.
    KeepAlive,
    /// Put another key of the consumer, in OpenSSH format, in the place of the one before.
    RotateKey(String),
    /// End it, for this reason.
    End(EndReason),
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The session is durable: begin.
    Begin,
    /// The server has restarted and found the session.
    Resumed,
    /// An offer was chosen for the next attempt.
    Chosen(Choice),
    /// There is no offer for the next attempt.
    NoOffer(String),
    /// None is known yet: some provider has not told its offers since the server started.
    OffersAwaited(String),
    /// The provider's list has failed again and again: nothing is known of what runs there.
    Unlisted,
    /// A machine of ours was seen with credentials whose account goes by another name: what is owed there is owed under that one.
    Renamed {
        /// Where.
        provider: ProviderId,
        /// The account as it was called.
        from: String,
        /// As it is called now.
        to: String,
    },
    /// A machine beside those of its rows carries a label of the session: one too many.
    Duplicate(Box<Stray>),
    /// A machine was found that a row is known to be of, and that its session does not want: an operator or the sweeper wants its
    /// end now.
    Unwanted {
        /// Which attempt.
        attempt: u8,
        /// What was seen.
        sighting: Box<Sighting>,
        /// The look.
        look: Look,
    },
    /// An operator wants the destroy of a debt tried at once.
    Retry {
        /// Which attempt.
        attempt: u8,
    },
    /// An operator's word that a debt is over.
    Settle {
        /// Which attempt.
        attempt: u8,
        /// Who says so, and why.
        actor: Actor,
        /// The reason.
        text: String,
    },
    /// The vendor created something.
    Launched {
        /// Which attempt.
        attempt: u8,
        /// The vendor's id.
        native_id: String,
        /// The call.
        call: Look,
        /// The vendor reported a failure with it.
        failed: Option<String>,
    },
    /// The vendor certainly refused.
    LaunchRefused {
        /// Which attempt.
        attempt: u8,
        /// How.
        failure: AttemptFailure,
        /// In its words.
        text: String,
    },
    /// Nobody knows what became of the launch.
    LaunchUnknown {
        /// Which attempt.
        attempt: u8,
        /// Why.
        text: String,
        /// The call, until we stopped waiting.
        call: Look,
    },
    /// Keys were attached, or not.
    KeysAttached {
        /// Which attempt.
        attempt: u8,
        /// Why not.
        result: Result<(), String>,
    },
    /// The start call was answered.
    Started {
        /// Which attempt.
        attempt: u8,
        /// Why it failed.
        result: Result<(), String>,
    },
    /// An instance was seen.
    Seen {
        /// Which attempt.
        attempt: u8,
        /// As what.
        sighting: Box<Sighting>,
        /// When.
        look: Look,
    },
    /// An instance was not to be seen.
    Missing {
        /// Which attempt.
        attempt: u8,
        /// When.
        look: Look,
        /// Where it was looked for.
        by: LookBy,
    },
    /// A look by id failed: that says nothing about the instance.
    LookFailed {
        /// Which attempt.
        attempt: u8,
        /// There were only too many calls: that says nothing about the provider either.
        crowded: bool,
        /// Why.
        text: String,
    },
    /// A login worked.
    Probed {
        /// Which attempt.
        attempt: u8,
        /// Where.
        endpoint: SshEndpoint,
        /// The host key.
        host_key: String,
        /// What the GPU said, if asked.
        gpu: Option<GpuAnswer>,
        /// Free disk space, GB, if told.
        disk_free_gb: Option<u32>,
    },
    /// A login did not work.
    ProbeFailed {
        /// Which attempt.
        attempt: u8,
        /// Where.
        endpoint: SshEndpoint,
        /// How.
        kind: ProbeFailureKind,
        /// In words.
        text: String,
    },
    /// A machine in use was looked at for whether anybody uses it.
    Measured {
        /// Which attempt.
        attempt: u8,
        /// The host key and what was measured, or why there was no login.
        result: Result<(String, Activity), (ProbeFailureKind, String)>,
        /// When to look again (jittered by the caller).
        next_at: Time,
    },
    /// The account was asked for its balance because a machine stopped.
    CreditTold {
        /// Which attempt.
        attempt: u8,
        /// Whether it is out of credit; `None` = untold.
        out_of_credit: Option<bool>,
    },
    /// A destroy call was answered.
    DestroyAnswered {
        /// Which attempt.
        attempt: u8,
        /// How, or why it failed.
        answer: Result<DestroyAnswer, String>,
        /// The call.
        call: Look,
        /// When the next try is due if this one did not do it (jittered by the caller).
        retry_at: Time,
    },
    /// Another key of the consumer was put on the machine, or not.
    KeyRotated {
        /// Which attempt.
        attempt: u8,
        /// The key.
        key: String,
        /// Why not.
        result: Result<(), KeyFault>,
    },
    /// The API was asked.
    ApiProbed {
        /// Which attempt.
        attempt: u8,
        /// Why it did not answer well, in one word.
        result: Result<(), String>,
    },
    /// A caller asks.
    Asked {
        /// What.
        ask: Ask,
        /// Who.
        actor: Actor,
    },
    /// Time has passed.
    Tick,
}

/// Why a key could not be put on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFault {
    /// In one word, for the condition KEY_INSTALLED.
    pub reason: &'static str,
    /// In words, without secrets.
    pub text: String,
}

/// What is to be done outside, each named by its attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Choose an offer; answered by `Chosen`, `NoOffer` or `OffersAwaited` in the same breath.
    Choose,
    /// Launch the attempt's instance. Issued exactly once per attempt.
    Launch(u8),
    /// Attach both keys.
    AttachKeys(u8),
    /// Start a stopped newborn.
    Start(u8),
    /// Look by id.
    Look(u8),
    /// Log in; ask the GPU if told to.
    Probe {
        /// Which attempt.
        attempt: u8,
        /// Index of the endpoint among those sighted.
        endpoint: usize,
        /// Ask for `nvidia-smi`.
        ask_gpu: bool,
    },
    /// Put the consumer's new key on the machine and take the old ones off.
    RotateKey(u8),
    /// Ask the API whether it answers.
    ProbeApi(u8),
    /// Look whether anybody uses it.
    Measure(u8),
    /// Ask the account for its balance: the machine was stopped, and nobody said why.
    AskCredit(u8),
    /// Destroy.
    Destroy(u8),
}

/// An event before it has its revision.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What happened.
    pub kind: EventType,
    /// State before.
    pub from_state: State,
    /// As filters saw it before; `None` at the first event.
    pub before: Option<Matchable>,
    /// Who caused it.
    pub actor: Actor,
    /// For people.
    pub message: String,
    /// The session after it, its sequence counted.
    pub session: Session,
}

/// What a step comes to.
#[derive(Clone, Debug)]
pub struct Step {
    /// The session after it.
    pub session: Session,
    /// Its instances after it.
    pub instances: Vec<Instance>,
    /// What is told, in order.
    pub events: Vec<Draft>,
    /// What is to be done, after the commit.
    pub actions: Vec<Action>,
    /// Whether anything must be written.
    pub durable: bool,
}

/// Why a caller's wish is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The session has ended or is ending.
    #[error("the session is {state}: it can no longer be changed")]
    Ended {
        /// Its state.
        state: State,
    },
    /// Beyond the hard limit.
    #[error("the session would run until {wanted}, beyond its hard limit {limit}")]
    HardMax {
        /// The expiry that was asked for.
        wanted: Time,
        /// The latest possible one.
        limit: Time,
    },
    /// The session has no machine in use yet.
    #[error("the session is {state}: only a running one has a machine whose key can be changed")]
    NotRunning {
        /// Its state.
        state: State,
    },
    /// Not in the future.
    #[error("{wanted} is not in the future")]
    NotLater {
        /// The expiry that was asked for.
        wanted: Time,
    },
    /// More than the session may cost.
    #[error("{0}")]
    CostLimit(String),
}
