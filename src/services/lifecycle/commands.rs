//! What callers order about sessions: whether they may, which method and ask it is, how it is refused, and how it is
//! written down.

use crate::domain::ids::{ConsumerId, SessionId};
use crate::domain::lifecycle::{Ask, Refusal};
use crate::domain::session::EndReason;
use crate::domain::time::Time;
use crate::services::api::{Caller, Command};
use crate::services::error::{Code, Error};
use crate::store::AuditRecord;

/// The RPC that orders it.
pub(super) fn method_of(command: &Command) -> &'static str {
    match command {
        Command::Extend { .. } => "ExtendSession",
        Command::Update { .. } => "UpdateSession",
        Command::RotateKey(_) => "RotateSessionKey",
        Command::KeepAlive => "KeepAlive",
        Command::Complete { .. } => "CompleteSession",
        Command::Destroy => "DestroySession",
        Command::EndByOperator => "DrainSessions",
    }
}

/// What the machine is asked.
pub(super) fn ask_of(command: &Command, admin: bool) -> Ask {
    match command {
        Command::Extend { by, to, override_hard_max } => Ask::Extend { by: *by, to: *to, override_hard_max: *override_hard_max && admin },
        Command::Update { labels, idle_threshold } => Ask::Update { labels: labels.clone(), idle_threshold: *idle_threshold },
        Command::KeepAlive => Ask::KeepAlive,
        Command::RotateKey(key) => Ask::RotateKey(key.public.clone()),
        Command::Complete { .. } => Ask::End(EndReason::Completed),
        Command::Destroy => Ask::End(EndReason::DestroyedByUser),
        Command::EndByOperator => Ask::End(EndReason::Admin),
    }
}

/// The machine's refusal as its caller reads it.
pub(super) fn refused(refusal: &Refusal, id: SessionId) -> Error {
    let error = match refusal {
        Refusal::Ended { state } => {
            Error::new(Code::FailedPrecondition, "SESSION_ENDED", format!("{refusal}: create a new one")).with("state", state)
        }
        Refusal::NotRunning { state } => {
            Error::new(Code::FailedPrecondition, "SESSION_NOT_RUNNING", format!("{refusal}: wait until it runs")).with("state", state)
        }
        Refusal::HardMax { wanted, limit } => Error::new(Code::OutOfRange, "HARD_MAX_EXCEEDED", format!("{refusal}: extend to at most {limit}"))
            .with("expire_time", wanted)
            .with("max_expire_time", limit),
        Refusal::NotLater { wanted } => Error::field("expire_time", format!("{wanted} is not in the future")),
        Refusal::CostLimit(why) => Error::new(Code::FailedPrecondition, "COST_LIMIT", format!("{why}: extend by less")),
    };
    error.with("session_id", id)
}

/// A private key that is not told any more.
pub(super) fn key_gone(id: SessionId) -> Error {
    let text = "the private key of this change is not told any more: ask for another one with a new request_id";
    Error::new(Code::FailedPrecondition, "KEY_NO_LONGER_AVAILABLE", text).with("session_id", id)
}

/// Whether a caller may order this: some of it is an operator's.
pub(super) fn allowed(caller: &Caller, command: &Command) -> Result<(), Error> {
    match command {
        Command::Extend { override_hard_max: true, .. } | Command::EndByOperator if !caller.admin => {
            Err(Error::new(Code::PermissionDenied, "ROLE_REQUIRED", "only operators may do this"))
        }
        _ => Ok(()),
    }
}

/// Whether a caller may act for this consumer.
pub(super) fn in_scope(caller: &Caller, consumer: &ConsumerId) -> Result<(), Error> {
    if caller.scope.as_ref().is_none_or(|scope| scope == consumer) {
        return Ok(());
    }
    let text = format!("there is no consumer {consumer} for this token");
    Err(Error::new(Code::NotFound, "CONSUMER_NOT_FOUND", text).with("consumer_id", consumer))
}

/// What a caller has ordered, to be written down with it.
pub(super) fn ordered(caller: &Caller, action: &str, id: SessionId, detail: String, now: Time) -> AuditRecord {
    AuditRecord { at: now, actor: caller.principal.clone(), action: action.to_owned(), target: id.to_string(), detail }
}

/// A command as it is written down: action and detail. A sign of life is not: it comes often and changes nothing.
pub(super) fn written(command: &Command) -> Option<(&'static str, String)> {
    Some(match command {
        Command::Extend { by, to, override_hard_max } => {
            let length = by.map(|by| format!("by {} s", by.as_secs())).or_else(|| to.map(|to| format!("to {to}"))).unwrap_or_default();
            ("extend_session", if *override_hard_max { format!("{length}, beyond the hard limit") } else { length })
        }
        Command::Update { labels, idle_threshold } => {
            let labels = labels.as_ref().map(|labels| format!("{} labels", labels.len()));
            let idle = idle_threshold.map(|idle| format!("idle threshold {} s", idle.as_secs()));
            ("update_session", labels.into_iter().chain(idle).collect::<Vec<_>>().join(", "))
        }
        Command::RotateKey(_) => ("rotate_session_key", String::new()),
        Command::KeepAlive => return None,
        Command::Complete { bad_machine } => ("complete_session", if *bad_machine { "the machine was bad".to_owned() } else { String::new() }),
        Command::Destroy => ("destroy_session", String::new()),
        Command::EndByOperator => ("drain_session", String::new()),
    })
}
