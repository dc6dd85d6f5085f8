//! What callers order about sessions: whether they may, which method and ask it is, how it is refused, written down, and answered
//! again to whoever repeats it.

use super::actor::{Actor, Staged};
use super::roster::Entry;
use super::{Content, Reply};
use crate::domain::event::{Actor as Who, EventType};
use crate::domain::ids::{ConsumerId, SessionId};
use crate::domain::lifecycle::{Ask, Draft, Input, Refusal, step};
use crate::domain::memory::Lesson;
use crate::domain::session::{EndReason, Session, StartSecrets, State, Target};
use crate::domain::time::Time;
use crate::services::api::{Caller, Command, Commanded, Create, Created, Idempotency};
use crate::services::error::{Code, Error};
use crate::services::{tokens, trail};
use crate::store::{AuditRecord, Error as StoreError, RequestRecord};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;
use tracing::Span;

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

/// A private key may be told again this long after its creation, and until the first RUNNING.
const KEY_WINDOW: Duration = Duration::from_secs(600);

impl Actor {
    pub(super) async fn create(
        &mut self,
        caller: &Caller,
        create: Create,
        template: Result<(), Error>,
        reply: Reply<Created>,
        staged: &mut Staged,
    ) -> Result<(), StoreError> {
        let now = self.parts.tools.clock.now();
        if let Err(error) = in_scope(caller, &create.request.consumer) {
            let _ = reply.send(Err(error));
            return Ok(());
        }
        let caller = &caller.speaking_for(&create.request.consumer);
        if let Some(idempotency) = &create.idempotency {
            match self.earlier(caller, "CreateSession", idempotency).await? {
                Some(Ok(record)) => {
                    let answer = self.replayed_create(&record, now).await?;
                    staged.replies.push(Box::new(move || drop(reply.send(answer))));
                    return Ok(());
                }
                Some(Err(error)) => {
                    let _ = reply.send(Err(error));
                    return Ok(());
                }
                None => {}
            }
        }
        if let Some(why) = self.sweeper.frozen() {
            let _ = reply.send(Err(Error::new(
                Code::FailedPrecondition,
                "DATABASE_NOT_ACCEPTED",
                format!("nothing is rented before an operator has accepted the database: {why}"),
            )));
            return Ok(());
        }
        let random = u128::from(self.parts.tools.chance.bits()) << 64 | u128::from(self.parts.tools.chance.bits());
        let id = SessionId::new(now, random);
        let admitted = template.and_then(|()| self.admit(&create, id, now)).and_then(|session| self.seal_start(session, &create.secrets));
        let session = match admitted {
            Ok(session) => session,
            Err(error) => {
                let _ = reply.send(Err(error));
                return Ok(());
            }
        };
        let warnings = self.warnings(&session, now);
        let before = self.revision;
        let resume_token = self.parts.tokens.at(before, tokens::subject(Some(id), &crate::services::api::SessionFilter::default()));
        if create.validate_only {
            let _ = reply.send(Ok(Created { session: Arc::new(session), private_key: None, resume_token: String::new(), replayed: false, warnings }));
            return Ok(());
        }
        let mut first = session;
        first.sequence = 1;
        first.version = 1;
        first.trace = trail::traceparent(&Span::current());
        let mut entry = Entry::new(first.clone(), Vec::new());
        entry.trail.begin(&first, &caller.request);
        self.live.insert(id, entry);
        let draft = Draft {
            kind: EventType::Created,
            from_state: State::Pending,
            before: None,
            actor: Who::User(caller.principal.clone()),
            message: "accepted".to_owned(),
            session: first,
        };
        let target = match &create.request.target {
            Target::Offer(offer) => format!("offer {offer}"),
            Target::Requirements { .. } => "what fits".to_owned(),
        };
        let detail = format!("for {}: {target}, {} s", create.request.consumer, create.request.reservation.as_secs());
        staged.audit.push(ordered(caller, "create_session", id, detail, now));
        self.tell(vec![draft], staged, now);
        staged.durable.insert(id);
        let session = self.live.get(&id).map(|e| Arc::new(e.session.clone()));
        if let Some(idempotency) = create.idempotency {
            let sealed = create.private_key.as_ref().and_then(|key| self.sealed(id, key));
            self.remember(caller, "CreateSession", idempotency, id, before, sealed, now, staged);
        }
        self.after_commit.push_back((id, Input::Begin));
        if let Some(session) = session {
            let created = Created { session, private_key: create.private_key, resume_token, replayed: false, warnings };
            staged.replies.push(Box::new(move || drop(reply.send(Ok(created)))));
        }
        Ok(())
    }

    /// The session with what its machines are started with, sealed.
    fn seal_start(&self, mut session: Session, secrets: &StartSecrets) -> Result<Session, Error> {
        if *secrets != StartSecrets::default() {
            let text = serde_json::to_string(secrets).map_err(|_| Error::internal("writing the start secrets"))?;
            let sealed = (self.parts.tools.vault.seal)(Content::Start, session.id, &text.into());
            let sealed = sealed.ok_or_else(|| Error::internal("sealing the start secrets"))?;
            Arc::make_mut(&mut session.request).start.sealed = Some(STANDARD.encode(sealed));
        }
        Ok(session)
    }

    async fn replayed_create(&mut self, record: &RequestRecord, now: Time) -> Result<Result<Created, Error>, StoreError> {
        let Some(session) = self.read(record.session).await? else { return Ok(Err(Error::session_not_found(record.session))) };
        let private_key = self.private_key(record, &session, now);
        let subject = tokens::subject(Some(record.session), &crate::services::api::SessionFilter::default());
        let resume_token = self.parts.tokens.at(record.watch_revision, subject);
        let mut warnings = self.warnings(&session, now);
        if record.sealed.is_some() && private_key.is_none() {
            warnings.push("KEY_NO_LONGER_AVAILABLE: the private key is not told any more; get another one by RotateSessionKey".to_owned());
        }
        Ok(Ok(Created { session: Arc::new(session), private_key, resume_token, replayed: true, warnings }))
    }

    /// A private key as it is kept, with the public one that it belongs to: the one wanted now.
    fn sealed(&self, id: SessionId, private: &SecretString) -> Option<Vec<u8>> {
        let public = self.live.get(&id)?.session.wanted_key();
        (self.parts.tools.vault.seal)(Content::ConsumerKey, id, &format!("{public}\n{}", private.expose_secret()).into())
    }

    /// The private key that came with an accepted call, while it may be told again: until the first RUNNING (or the end)
    /// and at least for [`KEY_WINDOW`]; for a change of key for the window alone. Never once another one was asked for, and
    /// not when it was sealed with a secret that the server no longer has.
    fn private_key(&self, record: &RequestRecord, session: &Session, now: Time) -> Option<SecretString> {
        let sealed = record.sealed.as_ref()?;
        let waits = record.method == "CreateSession" && session.running_at.is_none() && !session.state.is_final();
        if !waits && now > record.created_at + KEY_WINDOW {
            return None;
        }
        let pair = (self.parts.tools.vault.open)(Content::ConsumerKey, record.session, sealed)?;
        let (public, private) = pair.expose_secret().split_once('\n')?;
        (public == session.wanted_key()).then(|| private.into())
    }

    #[allow(clippy::too_many_arguments, reason = "one message, taken apart")]
    pub(super) async fn command(
        &mut self,
        caller: &Caller,
        id: SessionId,
        command: Command,
        idempotency: Option<Idempotency>,
        validate_only: bool,
        reply: Reply<Commanded>,
        staged: &mut Staged,
    ) -> Result<(), StoreError> {
        let (now, method, before) = (self.parts.tools.clock.now(), method_of(&command), self.revision);
        let subject = tokens::subject(Some(id), &crate::services::api::SessionFilter::default());
        let found = self.awaken(id).await?;
        // Touched, so that an ended session that was only looked at is put away again.
        staged.touched.insert(id);
        let entry = self.live.get(&id).filter(|e| found && caller.scope.as_ref().is_none_or(|s| *s == e.session.request.consumer));
        let Some(entry) = entry else {
            let _ = reply.send(Err(Error::session_not_found(id)));
            return Ok(());
        };
        if let Err(error) = allowed(caller, &command) {
            let _ = reply.send(Err(error));
            return Ok(());
        }
        let caller = &caller.speaking_for(&entry.session.request.consumer);
        if let Some(idempotency) = &idempotency {
            match self.earlier(caller, method, idempotency).await? {
                Some(Ok(record)) => {
                    let resume_token = self.parts.tokens.at(record.watch_revision, subject);
                    if let Some(session) = self.live.get(&id).map(|e| Arc::new(e.session.clone())) {
                        let private_key = self.private_key(&record, &session, now);
                        let answer = if record.sealed.is_some() && private_key.is_none() {
                            Err(key_gone(id))
                        } else {
                            Ok(Commanded { session, resume_token, replayed: true, private_key })
                        };
                        staged.replies.push(Box::new(move || drop(reply.send(answer))));
                    }
                    staged.touched.insert(id);
                    return Ok(());
                }
                Some(Err(error)) => {
                    let _ = reply.send(Err(error));
                    return Ok(());
                }
                None => {}
            }
        }
        staged.touched.insert(id);
        let operators = matches!(command, Command::Extend { override_hard_max: true, .. } | Command::EndByOperator);
        let who = if caller.admin && operators { Who::Operator(caller.principal.clone()) } else { Who::User(caller.principal.clone()) };
        let input = Input::Asked { ask: ask_of(&command, caller.admin), actor: who };
        if validate_only {
            self.rules.asleep = self.asleep(id);
            let answer = self.live.get(&id).map(|e| step(&e.session, &e.instances, input, &self.rules, now));
            let answer = match answer {
                Some(Ok(step)) => Ok(Commanded { session: Arc::new(step.session), resume_token: String::new(), replayed: false, private_key: None }),
                Some(Err(refusal)) => Err(refused(&refusal, id)),
                None => Err(Error::session_not_found(id)),
            };
            let _ = reply.send(answer);
            return Ok(());
        }
        if matches!(command, Command::Complete { .. } | Command::Destroy | Command::EndByOperator) {
            self.thaw_one(id).await?;
        }
        let version = |this: &Self| this.live.get(&id).map(|e| e.session.version);
        let unchanged = version(self);
        if let Err(refusal) = self.try_apply(id, input, staged) {
            let _ = reply.send(Err(refused(&refusal, id)));
            return Ok(());
        }
        if let Some((action, detail)) = written(&command)
            && version(self) != unchanged
        {
            staged.audit.push(ordered(caller, action, id, detail, now));
        }
        if let Some(entry) = self.live.get_mut(&id).filter(|_| command.leads_to_work()) {
            entry.trail.begin(&entry.session, &caller.request);
        }
        if let Command::Complete { bad_machine: true } = command
            && let Some(lesson) = self.live.get(&id).and_then(|e| Lesson::complaint(&e.session, now))
        {
            staged.lessons.push(lesson);
        }
        let private_key = match command {
            Command::RotateKey(key) => key.private,
            _ => None,
        };
        if let Some(idempotency) = idempotency {
            let sealed = private_key.as_ref().and_then(|key| self.sealed(id, key));
            self.remember(caller, method, idempotency, id, before, sealed, now, staged);
        }
        if let Some(session) = self.live.get(&id).map(|e| Arc::new(e.session.clone())) {
            let resume_token = self.parts.tokens.at(before, subject);
            staged.replies.push(Box::new(move || drop(reply.send(Ok(Commanded { session, resume_token, replayed: false, private_key })))));
        }
        Ok(())
    }

    /// An earlier call with this id: its record, or that it was another request.
    async fn earlier(
        &self,
        caller: &Caller,
        method: &'static str,
        idempotency: &Idempotency,
    ) -> Result<Option<Result<RequestRecord, Error>>, StoreError> {
        let key = (caller.principal.clone(), method, idempotency.request_id.clone());
        let found = match self.requests.get(&key) {
            Some(record) => Some(record.clone()),
            None => self.parts.store.request_get(&caller.principal, method, &idempotency.request_id).await?,
        };
        Ok(found.map(|record| {
            if record.hash == idempotency.hash {
                Ok(record)
            } else {
                Err(Error::new(
                    Code::InvalidArgument,
                    "REQUEST_ID_REUSED",
                    format!("request_id `{}` was used for another {method}: choose a new one", idempotency.request_id),
                )
                .with("request_id", &idempotency.request_id)
                .with("session_id", record.session))
            }
        }))
    }

    #[allow(clippy::too_many_arguments, reason = "the columns of one record")]
    fn remember(
        &mut self,
        caller: &Caller,
        method: &'static str,
        idempotency: Idempotency,
        session: SessionId,
        watch_revision: i64,
        sealed: Option<Vec<u8>>,
        now: Time,
        staged: &mut Staged,
    ) {
        let record = RequestRecord {
            principal: caller.principal.clone(),
            method: method.to_owned(),
            request_id: idempotency.request_id.clone(),
            hash: idempotency.hash,
            session,
            created_at: now,
            watch_revision,
            sealed,
        };
        self.requests.insert((caller.principal.clone(), method, idempotency.request_id), record.clone());
        staged.requests.push(record);
    }
}
