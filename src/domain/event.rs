//! Events: what happened to a session, in commit order, with the whole session after each change.

use crate::domain::ids::SessionId;
use crate::domain::memo::Memo;
use crate::domain::meter::Amount;
use crate::domain::session::{EndReason, Session, Stage, State};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use std::sync::Arc;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// The session was accepted.
    Created,
    /// Its state changed.
    StateChanged,
    /// Its stage changed within the state.
    StageChanged,
    /// An attempt failed; another one may follow.
    AttemptEnded,
    /// Its expiry was moved by its user, or re-based at the first RUNNING.
    Extended,
    /// It expires soon.
    Expiring,
    /// It ends soon unless somebody uses it.
    IdleWarning,
    /// It has cost nine tenths of what it may cost.
    CostWarning,
    /// The provider's price changed.
    PriceChanged,
    /// A condition changed.
    ConditionChanged,
    /// Labels or other settings were changed.
    Updated,
    /// The machine takes another key of its consumer, and the one before no more.
    KeyRotated,
    /// A machine that appeared after the end is being destroyed.
    LatecomerDestroyed,
    /// The cost changed after the end.
    CostAmended,
}

impl EventType {
    /// Every type.
    pub const ALL: [Self; 14] = [
        Self::Created,
        Self::StateChanged,
        Self::StageChanged,
        Self::AttemptEnded,
        Self::Extended,
        Self::Expiring,
        Self::IdleWarning,
        Self::CostWarning,
        Self::PriceChanged,
        Self::ConditionChanged,
        Self::Updated,
        Self::KeyRotated,
        Self::LatecomerDestroyed,
        Self::CostAmended,
    ];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::StateChanged => "state_changed",
            Self::StageChanged => "stage_changed",
            Self::AttemptEnded => "attempt_ended",
            Self::Extended => "extended",
            Self::Expiring => "expiring",
            Self::IdleWarning => "idle_warning",
            Self::CostWarning => "cost_warning",
            Self::PriceChanged => "price_changed",
            Self::ConditionChanged => "condition_changed",
            Self::Updated => "updated",
            Self::KeyRotated => "key_rotated",
            Self::LatecomerDestroyed => "latecomer_destroyed",
            Self::CostAmended => "cost_amended",
        }
    }
}

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The service by its rules.
    Service,
    /// A caller, by name.
    User(String),
    /// An operator, by name.
    Operator(String),
    /// The provider.
    Provider,
}

impl Actor {
    /// `service`, `user:alice`, `operator:ops`, `provider`.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Service => "service".to_owned(),
            Self::User(name) => format!("user:{name}"),
            Self::Operator(name) => format!("operator:{name}"),
            Self::Provider => "provider".to_owned(),
        }
    }
}

/// One event, as committed and told.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Store-wide, gap-free, in commit order.
    pub revision: i64,
    /// 1…n within the session, over all types.
    pub sequence: i64,
    /// The session.
    pub session_id: SessionId,
    /// What happened.
    pub kind: EventType,
    /// State before.
    pub from_state: State,
    /// State after.
    pub to_state: State,
    /// Stage after.
    pub stage: Stage,
    /// Why it ends, from STOPPING on.
    pub end_reason: Option<EndReason>,
    /// Who caused it.
    pub actor: Actor,
    /// When.
    pub at: Time,
    /// What happened, for people.
    pub message: String,
    /// Cost so far.
    pub cost: Amount,
    /// The session before this change, as far as filters look at it (consumer, provider, state, labels); `None` at the first event.
    pub before: Option<Matchable>,
    /// The whole session after the change.
    pub session: Arc<Session>,
    /// For whoever tells of it.
    #[serde(skip)]
    pub memo: Memo,
}

/// What watch filters look at.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matchable {
    /// Provider of the current attempt.
    pub provider: Option<String>,
    /// State.
    pub state: State,
    /// Labels.
    pub labels: std::collections::BTreeMap<String, String>,
}

impl Matchable {
    /// Of a session as it is.
    #[must_use]
    pub fn of(session: &Session) -> Self {
        Self { provider: session.provider().map(ToString::to_string), state: session.state, labels: session.labels.clone() }
    }
}
