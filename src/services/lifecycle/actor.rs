//! The actor's task: message, outcome, deadline, shutdown; one transaction for all that was waiting.

use super::doubt;
use super::orders::expiry_held;
use super::roster::{Entry, Roster};
use super::{Closed, Letter, Message, Parts, Standing};
use crate::domain::attempt::{self, Market};
use crate::domain::event::Event;
use crate::domain::ids::{OfferId, ProviderId, SessionId};
use crate::domain::instance::Instance;
use crate::domain::lifecycle::{Action, Draft, Input, Refusal, next_deadline, step};
use crate::domain::memo::Memo;
use crate::domain::memory::Lesson;
use crate::domain::policy::Rules;
use crate::domain::session::{AttemptFailure, Session};
use crate::domain::time::Time;
use crate::services::api::ProviderFreshness;
use crate::services::board::Live;
use crate::services::counters;
use crate::services::provisioner::{self, Job};
use crate::services::sweeper::Sweeper;
use crate::services::trail;
use crate::store::{AuditRecord, Batch, Error as StoreError, RequestRecord};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

/// Messages and outcomes taken into one transaction.
const BATCH: usize = 256;
/// So many times at one instant a session is told that a deadline has passed; then it is left alone for [`OVERDUE`].
const MOST_TICKS: u32 = 64;
/// See [`MOST_TICKS`].
const OVERDUE: Duration = Duration::from_secs(1);
/// Under this name the holds are kept.
pub(super) const HOLDS: &str = "holds";
/// Under this name is kept since when which strays are there.
pub(super) const STRAYS: &str = "strays";

struct Done {
    session: SessionId,
    action: Action,
    inputs: Vec<Input>,
    span: Span,
}

/// What one pass over the mailbox comes to, before and after its commit.
#[derive(Default)]
pub(super) struct Staged {
    pub(super) touched: BTreeSet<SessionId>,
    pub(super) durable: BTreeSet<SessionId>,
    events: Vec<Arc<Event>>,
    /// The spans of the events, in their order; they end when the events are told.
    tellings: Vec<Span>,
    /// The spans of the calls under way; they end with the commit.
    calls: Vec<Span>,
    pub(super) requests: Vec<RequestRecord>,
    pub(super) lessons: Vec<Lesson>,
    pub(super) audit: Vec<AuditRecord>,
    pub(super) actions: Vec<(SessionId, Action)>,
    pub(super) replies: Vec<Box<dyn FnOnce() + Send>>,
}

pub(super) struct Actor {
    pub(super) parts: Parts,
    pub(super) live: Roster,
    pub(super) closed: BTreeMap<ProviderId, Closed>,
    pub(super) rules: Rules,
    due: BTreeSet<(Time, SessionId)>,
    tasks: JoinSet<Done>,
    running: HashMap<tokio::task::Id, (SessionId, Action)>,
    in_flight: BTreeSet<(SessionId, Action)>,
    /// Inputs that wait for the commit before them.
    pub(super) after_commit: VecDeque<(SessionId, Input)>,
    pub(super) requests: BTreeMap<(String, &'static str, String), RequestRecord>,
    /// What nobody has asked for, and what of it may be done.
    pub(super) sweeper: Sweeper,
    /// While frozen: sessions that their users have ended since.
    pub(super) thawed: BTreeSet<SessionId>,
    pub(super) revision: i64,
    pub(super) draining: bool,
    /// When everything was read from disk.
    began: Time,
}

impl Actor {
    /// Reads everything that is open from disk. Nothing is under way then.
    pub(super) async fn load(parts: Parts) -> Result<Self, StoreError> {
        let revision = parts.store.last_revision().await?;
        let mut live = Roster::default();
        let mut after_commit = VecDeque::new();
        let now = parts.tools.clock.now();
        for (session, mut instances) in parts.store.sessions_live().await? {
            for row in &mut instances {
                row.heal(now, now);
                if row.destroy.ordered {
                    row.unwatched();
                }
            }
            after_commit.push_back((session.id, Input::Resumed));
            live.insert(session.id, Entry::new(session, instances));
        }
        let standing = parts.standing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let holds = match parts.store.meta_get(HOLDS).await? {
            Some(text) => serde_json::from_str(&text).map_err(|e| StoreError::Unreadable(format!("the holds: {e}")))?,
            None => Vec::new(),
        };
        let frozen = if standing.accepted { None } else { parts.frozen.clone() };
        let mut thawed = BTreeSet::new();
        if frozen.is_some() {
            // What its user has ended since goes on to its end.
            thawed = doubt::thawed(&parts.store).await?;
            after_commit.retain(|(id, _)| thawed.contains(id));
            let rest = live.iter().filter(|(id, _)| !thawed.contains(*id));
            after_commit.extend(rest.flat_map(|(id, entry)| doubt::ordered(*id, &entry.instances)));
        }
        let mut sweeper = Sweeper::new(parts.sweep, holds, frozen, Arc::clone(&parts.findings));
        if let Some(text) = parts.store.meta_get(STRAYS).await? {
            let strays = serde_json::from_str(&text).map_err(|e| StoreError::Unreadable(format!("the strays: {e}")))?;
            sweeper.recall(strays, now);
        }
        let rules = Rules {
            tag: parts.tag,
            policy: parts.policy.clone(),
            secret: parts.tools.secret_id(),
            terms: standing.terms,
            expiry_held: expiry_held(&sweeper, now),
            asleep: false,
        };
        let shown = live.iter().map(|(id, e)| (*id, shown(e))).collect();
        parts.board.reset(shown, revision);
        Ok(Self {
            closed: standing.closed,
            live,
            rules,
            due: BTreeSet::new(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            in_flight: BTreeSet::new(),
            after_commit,
            requests: BTreeMap::new(),
            sweeper,
            thawed,
            revision,
            draining: false,
            began: now,
            parts,
        })
    }

    /// Runs until drained; an error means that the truth must be read from disk again.
    pub(super) async fn run(mut self, letters: &mut mpsc::Receiver<Letter>, drain: &CancellationToken) -> Result<(), StoreError> {
        let mut give_up: Option<Time> = None;
        loop {
            let mut staged = Staged::default();
            if self.after_commit.is_empty() {
                let wake = self.due.first().map(|(at, _)| *at).into_iter().chain(self.sweeper.next_hold_end()).min();
                let clock = self.parts.tools.clock.clone();
                tokio::select! {
                    biased;
                    () = drain.cancelled(), if !self.draining => {
                        self.draining = true;
                        give_up = Some(clock.now() + self.parts.drain);
                    }
                    Some(done) = self.tasks.join_next_with_id() => self.outcome(done, &mut staged).await?,
                    letter = letters.recv(), if !self.draining => match letter {
                        Some(letter) => self.take(letter, &mut staged).await?,
                        None => self.draining = true,
                    },
                    () = clock.sleep_until(wake.unwrap_or_default()), if wake.is_some() && !self.draining => {}
                    () = clock.sleep_until(give_up.unwrap_or_default()), if give_up.is_some() => return Ok(()),
                }
            }
            self.drain_waiting(letters, &mut staged).await?;
            self.commit(staged).await?;
            if self.draining && self.after_commit.is_empty() && !self.unfinished() {
                return Ok(());
            }
        }
    }

    /// Whether a launch or destroy is under way whose answer is worth waiting for.
    fn unfinished(&self) -> bool {
        self.in_flight.iter().any(|(_, action)| matches!(action, Action::Launch(_) | Action::Destroy(_)))
    }

    async fn drain_waiting(&mut self, letters: &mut mpsc::Receiver<Letter>, staged: &mut Staged) -> Result<(), StoreError> {
        for _ in 0..BATCH {
            if let Some((id, input)) = self.after_commit.pop_front() {
                self.apply(id, input, staged);
            } else if let Some(done) = self.tasks.try_join_next_with_id() {
                self.outcome(done, staged).await?;
            } else if !self.draining
                && let Ok(letter) = letters.try_recv()
            {
                self.take(letter, staged).await?;
            } else {
                break;
            }
        }
        let now = self.parts.tools.clock.now();
        if self.sweeper.expire_holds(now) {
            self.keep_holds().await?;
        }
        if !self.draining {
            let ripe: Vec<SessionId> = self.due.iter().take_while(|(at, _)| *at <= now).take(BATCH).map(|(_, id)| *id).collect();
            for id in ripe {
                if let Some(entry) = self.live.get_mut(&id) {
                    entry.ticked = if entry.ticked.0 == now { (now, entry.ticked.1 + 1) } else { (now, 1) };
                }
                self.apply(id, Input::Tick, staged);
            }
        }
        Ok(())
    }

    async fn outcome(&mut self, done: Result<(tokio::task::Id, Done), tokio::task::JoinError>, staged: &mut Staged) -> Result<(), StoreError> {
        let now = self.parts.tools.clock.now();
        let done = match done {
            Ok((task, done)) => {
                self.running.remove(&task);
                done
            }
            Err(error) => {
                let Some((session, action)) = self.running.remove(&error.id()) else { return Ok(()) };
                tracing::error!(%session, ?action, %error, "a task of the provisioner broke");
                let inputs = self.live.get(&session).map(|e| provisioner::broken(&action, &e.session, now)).unwrap_or_default();
                Done { session, action, inputs, span: Span::none() }
            }
        };
        self.in_flight.remove(&(done.session, done.action));
        if self.awaken(done.session).await? {
            // An ended one that was only told of it is put away again.
            staged.touched.insert(done.session);
        }
        let _within = done.span.enter();
        for input in done.inputs {
            let input = self.weighed(done.session, input);
            self.learn(done.session, &input);
            self.apply(done.session, input, staged);
        }
        Ok(())
    }

    /// What an outcome says about more than its session.
    fn learn(&mut self, id: SessionId, input: &Input) {
        if let Some(provider) = self.live.get(&id).and_then(|e| e.session.provider()) {
            counters::outcome(provider, input);
        }
        let row = |attempt: &u8| self.live.get(&id).and_then(|e| e.instances.iter().find(|r| r.label.attempt == *attempt));
        if let Input::DestroyAnswered { attempt, answer, .. } = input
            && let Some(row) = row(attempt)
        {
            trail::destroy_answered(row, answer);
        }
        // Once it is rented it is on nobody's list, and when it is given back, its provider must tell whether and how it returns.
        if let Input::Launched { attempt, .. } | Input::DestroyAnswered { attempt, answer: Ok(_), .. } = input {
            let tried = self.live.get(&id).and_then(|e| e.session.attempts.iter().find(|a| a.number == *attempt));
            if let Some(tried) = tried.filter(|a| a.offer.slots == Some(1)) {
                self.parts.inventory.evict(&tried.offer.id);
            }
        }
        if let Input::CreditTold { attempt, out_of_credit: Some(true) } = input
            && let Some(provider) = row(attempt).map(|row| row.provider.clone())
        {
            self.closed.insert(provider, Closed::Credit("the balance is used up".to_owned()));
            self.keep_standing();
        }
        let Input::LaunchRefused { attempt, failure, text } = input else { return };
        let Some(row) = self.live.get(&id).and_then(|e| e.instances.iter().find(|r| r.label.attempt == *attempt)) else { return };
        match failure {
            AttemptFailure::OfferGone => self.parts.inventory.evict(&row.offer),
            AttemptFailure::ProviderAuth => {
                self.closed.insert(row.provider.clone(), Closed::Auth(text.clone()));
            }
            AttemptFailure::ProviderCredit => {
                self.closed.insert(row.provider.clone(), Closed::Credit(text.clone()));
            }
            _ => {}
        }
        self.keep_standing();
    }

    /// Remembers the providers' standing beyond this actor's life.
    pub(super) fn keep_standing(&self) {
        let accepted = self.sweeper.frozen().is_none();
        let standing = Standing { closed: self.closed.clone(), terms: self.rules.terms.clone(), accepted };
        *self.parts.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    async fn take(&mut self, letter: Letter, staged: &mut Staged) -> Result<(), StoreError> {
        let span = trail::call(&letter.from);
        staged.calls.push(span.clone());
        self.handle(letter.message, staged).instrument(span).await
    }

    async fn handle(&mut self, message: Message, staged: &mut Staged) -> Result<(), StoreError> {
        match message {
            Message::Operator { caller, order, reply } => self.order(&caller, order, reply, staged).await,
            Message::Create { caller, create, template, reply } => self.create(&caller, *create, template, reply, staged).await,
            Message::Command { caller, id, command, idempotency, validate_only, reply } => {
                self.command(&caller, id, command, idempotency, validate_only, reply, staged).await
            }
            Message::Listed(listing) => self.listed(listing, staged).await,
            Message::Reached { reply } => {
                staged.replies.push(Box::new(move || drop(reply.send(Ok(())))));
                Ok(())
            }
            Message::Learnt { id, input } => {
                if self.live.contains_key(&id) {
                    self.apply(id, *input, staged);
                }
                Ok(())
            }
            Message::Unlisted(provider) => {
                let there = |e: &Entry| e.instances.iter().any(|r| r.open() && r.provider == provider);
                let ids: Vec<SessionId> = self.live.iter().filter(|(_, e)| there(e)).map(|(id, _)| *id).collect();
                for id in ids {
                    self.apply(id, Input::Unlisted, staged);
                }
                Ok(())
            }
            Message::Proven { provider, account, asked, listed, reply } => {
                // Credentials that are in use no more prove nothing.
                let believed = self.rules.terms.get(&provider).is_none_or(|terms| terms.asked(asked));
                let _ = reply.send(Ok(believed));
                if !believed {
                    return Ok(());
                }
                if listed {
                    self.closed.remove(&provider);
                } else if !self.closed.get(&provider).is_some_and(Closed::unseen) {
                    self.closed.insert(provider.clone(), Closed::NotSwept);
                }
                if let Some(terms) = self.rules.terms.get_mut(&provider) {
                    terms.out_of_credit = account.balance.is_some_and(|b| b <= crate::domain::money::Nanos::ZERO);
                    terms.account = account.identity;
                    if terms.out_of_credit {
                        self.closed.insert(provider, Closed::Credit("the balance is used up".to_owned()));
                    }
                }
                self.keep_standing();
                Ok(())
            }
            Message::Unproven { provider, reply } => {
                if let Some(terms) = self.rules.terms.get_mut(&provider) {
                    terms.account = String::new();
                    terms.changed_at = Some(self.parts.tools.clock.now());
                }
                self.closed.insert(provider, Closed::NotSwept);
                self.keep_standing();
                // What was decided before it goes out before it.
                staged.replies.push(Box::new(move || drop(reply.send(Ok(())))));
                Ok(())
            }
            Message::Shut { provider, why } => {
                self.closed.insert(provider, why);
                self.keep_standing();
                Ok(())
            }
        }
    }

    /// Makes sure that a session is in memory; false when there is none.
    pub(super) async fn awaken(&mut self, id: SessionId) -> Result<bool, StoreError> {
        if self.live.contains_key(&id) {
            return Ok(true);
        }
        let Some(session) = self.parts.store.session_get(id).await? else { return Ok(false) };
        let instances = self.rows_of(id).await?;
        self.live.insert(id, Entry::new(session, instances));
        Ok(true)
    }

    /// The rows of a session that is not in memory.
    pub(super) async fn rows_of(&self, id: SessionId) -> Result<Vec<Instance>, StoreError> {
        let mut rows = self.parts.store.instance_list(id).await?;
        let now = self.parts.tools.clock.now();
        rows.iter_mut().for_each(|row| row.heal(now, self.began));
        Ok(rows)
    }

    pub(super) async fn read(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        match self.live.get(&id) {
            Some(entry) => Ok(Some(entry.session.clone())),
            None => self.parts.store.session_get(id).await,
        }
    }

    // === the machine ===

    pub(super) fn apply(&mut self, id: SessionId, input: Input, staged: &mut Staged) {
        if let Err(refusal) = self.try_apply(id, input, staged) {
            tracing::error!(session_id = %id, %refusal, "the machine refused an input that nobody asked for");
        }
    }

    /// Runs the machine, and again for each offer it asks to be chosen, so that choice and intent are one transaction.
    pub(super) fn try_apply(&mut self, id: SessionId, input: Input, staged: &mut Staged) -> Result<(), Refusal> {
        self.rules.asleep = self.asleep(id);
        let rows = self.live.get(&id).map(|entry| entry.instances.as_slice()).unwrap_or_default();
        if self.rules.asleep && !doubt::asked_for(&input, rows) {
            return Ok(());
        }
        let now = self.parts.tools.clock.now();
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let Some(entry) = self.live.get(&id) else { return Ok(()) };
            let step = step(&entry.session, &entry.instances, input, &self.rules, now)?;
            staged.touched.insert(id);
            if step.durable {
                staged.durable.insert(id);
            }
            let mut renamed = Vec::new();
            self.live.change(&id, |entry| {
                for (row, new) in entry.instances.iter().zip(&step.instances) {
                    let same = row.native_id.is_some() && row.native_id == new.native_id;
                    if same && !row.account.is_empty() && row.account != new.account {
                        renamed.push((row.provider.clone(), row.account.clone(), new.account.clone()));
                    }
                }
                let revision = entry.session.revision;
                entry.step(Session { revision, ..step.session }, step.instances);
            });
            self.rename(renamed);
            self.tell(step.events, staged, now);
            for action in step.actions {
                match action {
                    Action::Choose if !self.may_choose() => {}
                    Action::Choose => inputs.push_back(self.choose(id, now)),
                    action => staged.actions.push((id, action)),
                }
            }
        }
        Ok(())
    }

    /// The credentials of these accounts were changed, and the machines of the old ones are seen with the new: so are the debts
    /// whose machines are gone, of which no list will tell.
    fn rename(&mut self, renamed: Vec<(ProviderId, String, String)>) {
        for (provider, from, to) in renamed {
            let there = |e: &Entry| e.instances.iter().any(|r| r.open() && r.provider == provider && r.account == from);
            let ids: Vec<SessionId> = self.live.iter().filter(|(_, e)| there(e)).map(|(id, _)| *id).collect();
            let input = Input::Renamed { provider, from, to };
            self.after_commit.extend(ids.into_iter().map(|id| (id, input.clone())));
        }
    }

    fn choose(&self, id: SessionId, now: Time) -> Input {
        let Some(entry) = self.live.get(&id) else { return Input::Tick };
        let claimed = |offer: &OfferId| self.claimed_from(&entry.session, offer);
        let closed = |provider: &ProviderId| self.shut_why(provider, now).is_some();
        let snapshot = self.parts.inventory.snapshot();
        let not_before = now - self.parts.policy.max_offer_age;
        let market = Market { offers: &snapshot.offers, set_aside: &snapshot.set_aside, claimed: &claimed, closed: &closed, not_before };
        match attempt::choose(&entry.session, &market, now).map_err(|unmet| unmet.why) {
            Ok(choice) => Input::Chosen(choice),
            Err(why) if snapshot.freshness.iter().any(|f| self.unheard(f, not_before) && self.concerns(&f.provider, &entry.session)) => {
                Input::OffersAwaited(why)
            }
            Err(why) => Input::NoOffer(why),
        }
    }

    /// Whether a provider's offers could be of use to a session.
    fn concerns(&self, provider: &ProviderId, session: &Session) -> bool {
        self.asks(provider, session) && self.closed.get(provider).is_none_or(Closed::unseen)
    }

    /// Whether a provider has not told its offers for too long, or was not looked at since the server started.
    fn unheard(&self, freshness: &ProviderFreshness, not_before: Time) -> bool {
        freshness.fetched_at.is_none_or(|at| at < not_before) || self.closed.get(&freshness.provider).is_some_and(Closed::unseen)
    }

    /// Gives drafts their revisions; the session in memory carries that of its last event.
    pub(super) fn tell(&mut self, drafts: Vec<Draft>, staged: &mut Staged, now: Time) {
        for draft in drafts {
            self.revision += 1;
            let mut session = draft.session;
            session.revision = self.revision;
            staged.touched.insert(session.id);
            let span = self.live.get_mut(&session.id).map(|entry| {
                entry.session.revision = self.revision;
                entry.trail.telling(&session, draft.kind, self.revision)
            });
            staged.tellings.push(span.unwrap_or_else(Span::none));
            staged.events.push(Arc::new(Event {
                revision: self.revision,
                sequence: session.sequence,
                session_id: session.id,
                kind: draft.kind,
                from_state: draft.from_state,
                to_state: session.state,
                stage: session.stage,
                end_reason: session.end_reason,
                actor: draft.actor,
                at: now,
                message: draft.message,
                cost: session.cost,
                before: draft.before,
                session: Arc::new(session),
                memo: Memo::default(),
            }));
        }
    }

    // === commit, then tell, then act ===

    async fn commit(&mut self, staged: Staged) -> Result<(), StoreError> {
        let rows = |id: &SessionId| self.live.get(id);
        let lessons: Vec<Lesson> = staged.events.iter().filter_map(|e| Lesson::of(e)).chain(staged.lessons).collect();
        // One copy for the disk, the board and, where it shows the session as it is now, its last event.
        let last: BTreeMap<SessionId, &Arc<Session>> = staged.events.iter().map(|event| (event.session_id, &event.session)).collect();
        let copy = |id: &SessionId| {
            let session = &self.live.get(id)?.session;
            let told = last.get(id).filter(|told| ****told == *session);
            Some((*id, told.map_or_else(|| Arc::new(session.clone()), |told| Arc::clone(told))))
        };
        let mut copies: BTreeMap<SessionId, Arc<Session>> = staged.touched.union(&staged.durable).filter_map(copy).collect();
        let batch = Batch {
            sessions: staged.durable.iter().filter_map(|id| copies.get(id)).cloned().collect(),
            instances: staged.durable.iter().filter_map(rows).flat_map(Entry::unwritten).cloned().collect(),
            events: staged.events.clone(),
            requests: staged.requests,
            lessons: lessons.clone(),
            audit: staged.audit,
        };
        if !(batch.sessions.is_empty() && batch.events.is_empty() && batch.requests.is_empty() && batch.lessons.is_empty()) {
            self.parts.store.commit(batch).await?;
        }
        for id in &staged.durable {
            if let Some(entry) = self.live.get_mut(id) {
                entry.written();
            }
        }
        // Memory only bridges the commit; the table has them now.
        self.requests.clear();
        self.parts.inventory.learn(&lessons);
        for (event, span) in staged.events.iter().zip(&staged.tellings) {
            span.in_scope(|| trail::log(event));
            counters::count(event);
        }
        let mut changed = Vec::new();
        for id in &staged.touched {
            let Some(entry) = self.live.get(id) else { continue };
            let over = entry.session.state.is_final() && entry.instances.iter().all(|r| !r.open());
            let session = copies.remove(id).filter(|_| !over);
            changed.push((*id, session.map(|session| Live { session, instances: Arc::new(entry.instances.clone()) })));
            self.schedule(*id, over);
        }
        self.parts.board.publish(changed, &staged.events);
        drop((staged.tellings, staged.calls));
        if !staged.touched.is_empty() {
            self.attend();
        }
        if !self.draining {
            for (id, action) in staged.actions {
                self.begin(id, action);
            }
        }
        for reply in staged.replies {
            reply();
        }
        Ok(())
    }

    fn schedule(&mut self, id: SessionId, over: bool) {
        self.rules.asleep = self.asleep(id);
        let Some(entry) = self.live.get_mut(&id) else { return };
        if let Some(old) = entry.due.take() {
            self.due.remove(&(old, id));
        }
        if over {
            self.live.remove(&id);
            return;
        }
        if let Some(mut at) = next_deadline(&entry.session, &entry.instances, &self.rules) {
            let (ticked, times) = entry.ticked;
            if at <= ticked && times >= MOST_TICKS {
                // A deadline that passes without an effect would keep this task busy for ever.
                tracing::error!(session_id = %id, state = entry.session.state.word(), deadline = %at, "a deadline has passed and nothing comes of it");
                at = ticked + OVERDUE;
            }
            entry.due = Some(at);
            self.due.insert((at, id));
        }
    }

    fn begin(&mut self, id: SessionId, action: Action) {
        let attempt = match action {
            Action::Choose => return,
            Action::Launch(n) | Action::AttachKeys(n) | Action::Start(n) | Action::Look(n) | Action::Destroy(n) => n,
            Action::RotateKey(n) | Action::ProbeApi(n) | Action::Measure(n) | Action::AskCredit(n) => n,
            Action::Probe { attempt, .. } => attempt,
        };
        if self.asleep(id) && matches!(action, Action::Launch(_)) {
            return;
        }
        let Some(entry) = self.live.get_mut(&id) else { return };
        let Some(instance) = entry.instances.iter().find(|r| r.label.attempt == attempt).cloned() else { return };
        if !self.in_flight.insert((id, action.clone())) {
            return; // its outcome will make it due again
        }
        let span = entry.trail.action(&entry.session, &action, &instance);
        span.in_scope(|| tracing::debug!("begun"));
        let job = Job { action: action.clone(), session: Arc::new(entry.session.clone()), instance };
        let (tools, policy, done_action) = (self.parts.tools.clone(), self.parts.policy.clone(), action.clone());
        let within = span.clone();
        let work = async move { Done { session: id, action: done_action, inputs: tools.perform(job, &policy).await, span } };
        let task = self.tasks.spawn(work.instrument(within));
        self.running.insert(task.id(), (id, action));
    }

    /// Tells the lookouts how closely to look.
    fn attend(&self) {
        // In their order: who is woken first is part of a simulated world's story.
        for (provider, told) in &self.parts.attention {
            let need = self.live.attention(provider);
            told.send_if_modified(|have| std::mem::replace(have, need) != need);
        }
    }
}

fn shown(entry: &Entry) -> Live {
    Live { session: Arc::new(entry.session.clone()), instances: Arc::new(entry.instances.clone()) }
}
