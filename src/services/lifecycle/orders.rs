//! What operators order: strays, debts, holds, accepting a database. Who ordered what is written down before it is done.

use super::actor::{Actor, HOLDS, STRAYS, Staged};
use super::roster::Entry;
use super::{Done, Order, Reply};
use crate::domain::event::Actor as Who;
use crate::domain::ids::{Label, ProviderId, SessionId};
use crate::domain::instance::Desired;
use crate::domain::lifecycle::{Fate, Input, Stray, taken_over};
use crate::domain::session::State;
use crate::domain::time::Time;
use crate::services::access::NAMELESS;
use crate::services::api::Caller;
use crate::services::error::{Code, Error};
use crate::services::sweeper::{FindingKind, Hold, HoldKind, Sweeper};
use crate::store::{AuditRecord, Error as StoreError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

impl Actor {
    /// Does it, and answers when it is durable.
    pub(super) async fn order(&mut self, caller: &Caller, order: Order, reply: Reply<Done>, staged: &mut Staged) -> Result<(), StoreError> {
        if !caller.admin {
            let _ = reply.send(Err(Error::new(Code::PermissionDenied, "ROLE_REQUIRED", "only operators may do this".to_owned())));
            return Ok(());
        }
        let now = self.parts.tools.clock.now();
        let who = if caller.principal.is_empty() { NAMELESS.to_owned() } else { caller.principal.clone() };
        let sensible = self.sensible(&order).await?;
        if let Some(id) = self.concerned(&order) {
            // Touched, so that an ended session that was only looked at is put away again.
            staged.touched.insert(id);
        }
        if let Err(refused) = sensible {
            let _ = reply.send(Err(refused));
            return Ok(());
        }
        let (action, target, detail) = written(&order);
        self.parts.store.audit_add(AuditRecord { at: now, actor: who.clone(), action: action.to_owned(), target, detail }).await?;
        // Of a session that goes on, this is about another machine, and no word about its own.
        if let (Order::Stray { .. }, Some(id)) = (&order, self.concerned(&order))
            && self.live.get(&id).is_none_or(|e| e.session.state == State::Stopping || e.session.state.is_final())
        {
            self.thaw_one(id).await?;
        }
        let session = match order {
            Order::Stray { provider, native_id, fate } => {
                let Some(finding) = self.sweeper.finding(&provider, &native_id).cloned() else { return Ok(()) };
                let Some(label) = finding.label else { return Ok(()) };
                match (finding.kind, finding.stray()) {
                    (FindingKind::Stray, Some(stray)) => self.take_over(&stray, &fate, Who::Operator(who), staged, now).await?,
                    (_, Some(orphan)) => {
                        self.sweeper.forget(&provider, &native_id);
                        self.destroy_orphan(orphan, staged).await?;
                    }
                    (_, None) => {}
                }
                Some(label.session)
            }
            Order::Retry(label) => {
                self.apply(label.session, Input::Retry { attempt: label.attempt }, staged);
                Some(label.session)
            }
            Order::Settle { label, reason } => {
                let input = Input::Settle { attempt: label.attempt, actor: Who::Operator(who), text: reason };
                self.apply(label.session, input, staged);
                Some(label.session)
            }
            Order::Hold { provider, kind, until, reason } => {
                self.sweeper.hold(Hold { provider, kind, until, reason, by: who, since: now });
                self.keep_holds().await?;
                None
            }
            Order::Lift { provider, kind, reason: _ } => {
                self.sweeper.lift(&provider, kind);
                self.keep_holds().await?;
                None
            }
            Order::Accept => {
                // Accepted is what a restart will believe, too.
                if let Err(error) = self.parts.store.epoch_accept(now).await {
                    tracing::error!(%error, "the database stays frozen");
                    let why = format!("the database stays frozen, since its acceptance can't be written down: {error}");
                    let _ = reply.send(Err(Error::new(Code::FailedPrecondition, "EPOCH_NOT_WRITTEN", why)));
                    return Ok(());
                }
                self.thaw().await?;
                None
            }
        };
        if let Some(entry) = session.and_then(|id| self.live.get_mut(&id)) {
            entry.trail.begin(&entry.session, &caller.request);
        }
        let session = session.and_then(|id| self.live.get(&id)).map(|e| Arc::new(e.session.clone()));
        if let Some(session) = session.as_ref().filter(|s| s.state == State::Stopping || s.state.is_final()) {
            self.thaw_one(session.id).await?;
        }
        let done = Done { session, holds: self.sweeper.holds().to_vec() };
        staged.replies.push(Box::new(move || drop(reply.send(Ok(done)))));
        Ok(())
    }

    /// The session that the order is about.
    fn concerned(&self, order: &Order) -> Option<SessionId> {
        match order {
            Order::Stray { provider, native_id, .. } => self.sweeper.finding(provider, native_id).and_then(|f| f.label).map(|l| l.session),
            Order::Retry(label) | Order::Settle { label, .. } => Some(label.session),
            Order::Hold { .. } | Order::Lift { .. } | Order::Accept => None,
        }
    }

    /// Whether there is what the order is about.
    async fn sensible(&mut self, order: &Order) -> Result<Result<(), Error>, StoreError> {
        let no_provider = |provider: &crate::domain::ids::ProviderId| {
            let known: Vec<&str> = self.parts.tools.providers.keys().map(|p| p.as_str()).collect();
            (!self.parts.tools.providers.contains_key(provider)).then(|| Error::field("provider", format!("one of {}", known.join(", "))))
        };
        Ok(match order {
            Order::Stray { provider, native_id, fate } => match self.sweeper.finding(provider, native_id).map(|f| (f.kind, f.label)) {
                Some((FindingKind::Stray | FindingKind::Orphan, _)) if self.sweeper.finding(provider, native_id).is_none_or(|f| f.account.is_empty()) => Err(Error::new(
                    Code::Unavailable,
                    "PROVIDER_UNREACHABLE",
                    format!("whose account the credentials of {provider} open is not known yet, and a machine without an account is never proven gone: try again"),
                )
                .with("provider", provider)
                .retry(Duration::from_secs(30))),
                Some((FindingKind::Stray, Some(label))) => {
                    let known = self.awaken(label.session).await?;
                    match fate {
                        Fate::Keep { .. } if known => Err(Error::new(
                            Code::AlreadyExists,
                            "SESSION_EXISTS",
                            format!("session {} of this machine's label is on record with other machines: it can only be destroyed", label.session),
                        )
                        .with("session_id", label.session)),
                        Fate::Keep { .. } | Fate::Destroy => Ok(()),
                    }
                }
                Some((FindingKind::Orphan, Some(label))) => match fate {
                    Fate::Keep { .. } => Err(Error::new(
                        Code::AlreadyExists,
                        "SESSION_EXISTS",
                        format!(
                            "session {} of this machine's label is on record, and not with this machine: it can only be destroyed",
                            label.session
                        ),
                    )
                    .with("session_id", label.session)),
                    Fate::Destroy => Ok(()),
                },
                Some((FindingKind::Foreign, _)) => Err(Error::new(
                    Code::FailedPrecondition,
                    "NOT_OURS",
                    format!("instance {native_id} at {provider} carries no label of this deployment: it is never touched from here"),
                )),
                Some(_) | None => Err(Error::new(
                    Code::NotFound,
                    "STRAY_NOT_FOUND",
                    format!("the last complete list of {provider} has no stray instance {native_id}: SweepNow, then ListStrayInstances"),
                )),
            },
            Order::Retry(label) | Order::Settle { label, .. } => {
                self.awaken(label.session).await?;
                let row = self.live.get(&label.session).and_then(|e| e.instances.iter().find(|r| r.label == *label));
                match row {
                    None => {
                        Err(Error::new(Code::NotFound, "INSTANCE_NOT_FOUND", format!("no record has the label {label}: see ListUnconfirmedDestroys")))
                    }
                    Some(row) if !row.open() => Err(Error::new(
                        Code::FailedPrecondition,
                        "DEBT_SETTLED",
                        format!("the debt of {label} is settled already: there is nothing left to do"),
                    )),
                    Some(row) if row.desired == Desired::Present => Err(Error::new(
                        Code::FailedPrecondition,
                        "INSTANCE_IN_USE",
                        format!("{label} belongs to a session that goes on: end the session first"),
                    )
                    .with("session_id", label.session)),
                    Some(_) => Ok(()),
                }
            }
            Order::Hold { provider, .. } => no_provider(provider).map_or(Ok(()), Err),
            Order::Lift { provider, kind, reason: _ } => {
                let held = self.sweeper.holds().iter().any(|h| h.provider == *provider && h.kind == *kind);
                // A hold may be of a provider that is not enabled any more.
                match no_provider(provider).filter(|_| !held) {
                    Some(error) => Err(error),
                    None if !held => Err(Error::new(Code::NotFound, "HOLD_NOT_FOUND", format!("{} is not held at {provider}", kind.word()))),
                    None => Ok(()),
                }
            }
            Order::Accept => match self.sweeper.frozen() {
                Some(_) => Ok(()),
                None => {
                    Err(Error::new(Code::FailedPrecondition, "DATABASE_ACCEPTED", "the database needs no acceptance: everything runs".to_owned()))
                }
            },
        })
    }

    /// Makes a row for a stray: as its own session, or beside the other machines of a session that is on record.
    pub(super) async fn take_over(&mut self, stray: &Stray, fate: &Fate, who: Who, staged: &mut Staged, now: Time) -> Result<(), StoreError> {
        let id = stray.label.session;
        self.sweeper.forget(&stray.provider, &stray.sighting.native_id);
        if self.awaken(id).await? {
            return self.destroy_orphan(stray.clone(), staged).await;
        }
        self.rules.asleep = self.asleep(id);
        let step = taken_over(stray, fate, who, &self.rules, now);
        self.live.insert(id, Entry::new(step.session, step.instances));
        staged.durable.insert(id);
        self.tell(step.events, staged, now);
        staged.actions.extend(step.actions.into_iter().map(|action| (id, action)));
        Ok(())
    }

    /// Writes down since when which strays are there.
    pub(super) async fn keep_strays(&self) -> Result<(), StoreError> {
        let text = serde_json::to_string(self.sweeper.strays()).map_err(|e| StoreError::Unreadable(format!("the strays: {e}")))?;
        self.parts.store.meta_set(STRAYS, &text).await
    }

    /// Writes the holds down and lets the rules know.
    pub(super) async fn keep_holds(&mut self) -> Result<(), StoreError> {
        let text = serde_json::to_string(self.sweeper.holds()).map_err(|e| StoreError::Unreadable(format!("the holds: {e}")))?;
        self.parts.store.meta_set(HOLDS, &text).await?;
        self.rules.expiry_held = expiry_held(&self.sweeper, self.parts.tools.clock.now());
        let everybody: Vec<SessionId> = self.live.keys().copied().collect();
        // Clocks may stand still or go on now.
        self.after_commit.extend(everybody.into_iter().map(|id| (id, Input::Tick)));
        Ok(())
    }
}

/// An order as it is written down: action, target, detail.
fn written(order: &Order) -> (&'static str, String, String) {
    let label = |label: &Label| label.to_string();
    match order {
        Order::Stray { provider, native_id, fate: Fate::Destroy } => ("destroy_instance", format!("{provider} {native_id}"), String::new()),
        Order::Stray { provider, native_id, fate: Fate::Keep { consumer, reservation } } => {
            ("adopt_instance", format!("{provider} {native_id}"), format!("for {consumer}, {} s", reservation.as_secs()))
        }
        Order::Retry(of) => ("retry_destroy", label(of), String::new()),
        Order::Settle { label: of, reason } => ("settle_instance", label(of), reason.clone()),
        Order::Hold { provider, kind, until, reason } => {
            let until = until.map(|at| format!("until {at}: ")).unwrap_or_default();
            ("set_hold", format!("{provider} {}", kind.word()), format!("{until}{reason}"))
        }
        Order::Lift { provider, kind, reason } => ("lift_hold", format!("{provider} {}", kind.word()), reason.clone()),
        Order::Accept => ("accept_database", String::new(), String::new()),
    }
}

/// Where nothing ends by the clock now.
pub(super) fn expiry_held(sweeper: &Sweeper, now: Time) -> BTreeSet<ProviderId> {
    let held = |h: &&Hold| h.kind == HoldKind::Expiry && h.until.is_none_or(|until| until > now);
    sweeper.holds().iter().filter(held).map(|h| h.provider.clone()).collect()
}
