//! The callers of a deployment: each rents one machine, and is as unreliable as callers are. It hangs up in the middle
//! of a call, repeats calls with the same request id, extends, ends early or too late, and sees services die.

use crate::chaos::deployment::{Deployment, Doors};
use crate::chaos::story::Story;
use crate::chaos::watchers;
use crate::clock::Clock;
use crate::domain::ids::{ConsumerId, ProviderId, SessionId};
use crate::domain::offer::{OfferFilter, OfferOrder, RentalKind};
use crate::domain::session::{EndReason, Request, Session, StartSecrets, State, Target};
use crate::domain::time::Time;
use crate::services::api::{Caller, Command, Create, Created, Idempotency};
use crate::services::error::{Code, Error};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What a caller is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// Works and says when it is done; extends before that, perhaps.
    Work,
    /// Thinks better of it while the machine comes up.
    Regret,
    /// Is never heard of again.
    Forget,
}

/// One caller.
pub struct Visitor {
    deployment: Arc<Deployment>,
    story: Arc<Story>,
    clock: Clock,
    /// Its name, and the beginning of its request ids.
    name: String,
    dice: ChaCha8Rng,
    /// From here on everybody ends what they have.
    closing: CancellationToken,
}

/// How a call went, for one that goes on until it has an answer.
type Answer<T> = Result<T, Error>;

impl Visitor {
    /// A caller by that name.
    #[must_use]
    pub fn new(deployment: Arc<Deployment>, story: Arc<Story>, clock: Clock, name: String, dice: ChaCha8Rng, closing: CancellationToken) -> Self {
        Self { deployment, story, clock, name, dice, closing }
    }

    fn tell(&self, what: &str) {
        self.story.tell(&self.name, what);
    }

    fn wrong(&self, what: &str) {
        self.story.wrong(format!("{}: {what}", self.name));
    }

    fn caller(&self) -> Caller {
        Caller { principal: self.name.clone(), scope: None, admin: false, request: String::new() }
    }

    /// Comes at its time, and goes when its session is over.
    pub async fn visit(mut self, at: Time) {
        self.clock.sleep_until(at).await;
        let aim = [Aim::Work, Aim::Work, Aim::Work, Aim::Regret, Aim::Forget][self.dice.random_range(0..5)];
        let Some(created) = self.rent(aim).await else { return };
        let id = created.session.id;
        if self.dice.random_bool(0.4) {
            let own = Arc::clone(&self.deployment);
            let watcher = watchers::OfOne { deployment: own, story: Arc::clone(&self.story), clock: self.clock.clone(), session: id };
            let dice = rand::SeedableRng::seed_from_u64(self.dice.random());
            tokio::spawn(watcher.watch(created.resume_token.clone(), dice));
        }
        let session = self.use_up(aim, &created.session).await;
        self.story.count("sessions_over");
        let reason = session.end_reason.map_or("nothing", EndReason::word);
        self.tell(&format!("{id} is over: {reason}"));
        if !session.state.is_final() {
            self.wrong(&format!("{id} was said to be over and is {}", session.state));
        }
    }

    async fn use_up(&mut self, aim: Aim, session: &Session) -> Arc<Session> {
        let id = session.id;
        let minutes = |dice: &mut ChaCha8Rng, from: u64, to: u64| Duration::from_secs(60 * dice.random_range(from..=to));
        let mut promised = None;
        match aim {
            Aim::Work => {
                let started = self.reach(id, Some(State::Running)).await;
                if started.state == State::Running {
                    self.story.count("sessions_used");
                    if self.dice.random_bool(0.4) {
                        let by = minutes(&mut self.dice, 5, 40);
                        let more = Command::Extend { by: Some(by), to: None, override_hard_max: false };
                        if let Ok(session) = self.command(id, more, "more").await {
                            self.story.count("extensions");
                            promised = Some(session.expires_at);
                        }
                    }
                    let work = minutes(&mut self.dice, 2, 50);
                    self.pause(work).await;
                    let bad = self.dice.random_bool(0.1);
                    if let Ok(session) = self.command(id, Command::Complete { bad_machine: bad }, "done").await {
                        self.ended_as(&session, EndReason::Completed);
                    }
                }
            }
            Aim::Regret => {
                let wait = Duration::from_millis(self.dice.random_range(0..120_000));
                self.pause(wait).await;
                if let Ok(session) = self.command(id, Command::Destroy, "enough").await {
                    self.ended_as(&session, EndReason::DestroyedByUser);
                }
            }
            Aim::Forget => {}
        }
        let over = self.reach(id, None).await;
        if let (Some(promised), Some(EndReason::Expired), Some(end)) = (promised, over.end_reason, over.stopped_at)
            && end < promised
        {
            self.wrong(&format!("{id} expired at {} although it was extended to {}", end.rfc3339(), promised.rfc3339()));
        }
        over
    }

    /// An answered command that ends a session has ended it, for that reason or an earlier one.
    fn ended_as(&self, session: &Session, reason: EndReason) {
        if !matches!(session.state, State::Stopping | State::Stopped | State::Failed) || session.end_reason.is_none() {
            self.wrong(&format!("{} was to end as {reason:?}, and is {} ({:?})", session.id, session.state, session.end_reason));
        }
    }

    /// A pause that is over when everybody ends what they have.
    async fn pause(&self, time: Duration) {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => {}
            () = self.clock.sleep(time) => {}
        }
    }

    fn request(&mut self, aim: Aim, doors: &Doors) -> Request {
        let dice = &mut self.dice;
        let mut filter = OfferFilter::default();
        if dice.random_bool(0.6) {
            filter.providers = vec![ProviderId::new(if dice.random_bool(0.5) { "vastai" } else { "tensordock" })];
        }
        if dice.random_bool(0.15) {
            filter.rental = Some(RentalKind::Interruptible);
        }
        let offers = &doors.inventory.snapshot().offers;
        let exact = dice.random_bool(0.1) && !offers.is_empty();
        let target = if exact {
            Target::Offer(offers[dice.random_range(0..offers.len())].id.clone())
        } else {
            Target::Requirements { filter: Box::new(filter), order: OfferOrder::Price }
        };
        let minutes: u64 = if aim == Aim::Forget { dice.random_range(10..60) } else { dice.random_range(30..150) };
        let consumer = ConsumerId::new(["ann", "ben", "cem"][dice.random_range(0..3)]);
        let mut request = Request::plain(consumer, target);
        request.reservation = Duration::from_secs(60 * minutes);
        request.public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFv1PqLqPAQ8j2WUbVVlXDqIHKLZQsa2kEVmoxh0vDOm".to_owned();
        request.failover.max_attempts = dice.random_range(1..=8);
        if dice.random_bool(0.1) {
            request.idle_threshold = Duration::from_secs(60 * dice.random_range(15..60));
        }
        request
    }

    /// Creates a session; `None` when there is nothing to rent, or when it is too late.
    async fn rent(&mut self, aim: Aim) -> Option<Created> {
        for round in 0..4 {
            let doors = self.deployment.open().await;
            let request = self.request(aim, &doors);
            let create = Create {
                idempotency: Some(Idempotency { request_id: format!("{}-rent-{round}", self.name), hash: format!("{request:?}") }),
                request,
                labels: BTreeMap::from([("visitor".to_owned(), self.name.clone())]),
                secrets: StartSecrets::default(),
                template: None,
                validate_only: false,
                private_key: None,
            };
            self.story.count("creates");
            let caller = self.caller();
            let mut known = None;
            let answer = self.until_answered(|doors| {
                let (create, caller) = (create.clone(), caller.clone());
                async move { doors.lifecycle.create(caller, create).await }
            });
            match answer.await {
                Ok((created, repeated)) => {
                    let id = created.session.id;
                    self.tell(&format!("has {id}{}", if created.replayed { ", by repeating" } else { "" }));
                    if !self.deployment.witness().knows(id) {
                        self.wrong(&format!("{id} was answered and is not on disk"));
                    }
                    if created.replayed && !repeated {
                        self.wrong(&format!("{id} is said to be a repetition of a call that was made once"));
                    }
                    if self.dice.random_bool(0.2) {
                        // Once more, as a caller that has forgotten.
                        known = Some(id);
                    }
                    if let Some(id) = known {
                        let again = self.until_answered(|doors| {
                            let (create, caller) = (create.clone(), caller.clone());
                            async move { doors.lifecycle.create(caller, create).await }
                        });
                        match again.await {
                            Ok((again, _)) if again.session.id == id && again.replayed => {}
                            other => self.wrong(&format!("{id}: repeated, the create answers {other:?}")),
                        }
                    }
                    return Some(created);
                }
                Err(error) => {
                    self.tell(&format!("gets nothing: {} {}", error.reason, error.message));
                    self.story.count("creates_refused");
                    if matches!(error.code, Code::Internal | Code::InvalidArgument | Code::NotFound) && error.reason != "OFFER_NOT_FOUND" {
                        self.wrong(&format!("a create is answered with {error:?}"));
                    }
                }
            }
            self.pause(Duration::from_secs(300)).await;
            if self.closing.is_cancelled() {
                return None;
            }
        }
        None
    }

    /// Sends a command until it is answered, with one request id.
    async fn command(&mut self, id: SessionId, command: Command, request: &str) -> Answer<Arc<Session>> {
        let idempotency = Idempotency { request_id: format!("{}-{request}", self.name), hash: format!("{command:?}") };
        let caller = self.caller();
        let answer = self.until_answered(|doors| {
            let (caller, command, idempotency) = (caller.clone(), command.clone(), idempotency.clone());
            async move { doors.lifecycle.command(caller, id, command, Some(idempotency), false).await }
        });
        let answer = answer.await;
        let what = match &answer {
            Ok((done, _)) => format!("{request}: {}", done.session.state),
            Err(error) => format!("{request}: {} {}", error.reason, error.message),
        };
        self.tell(&format!("{id} {what}"));
        match &answer {
            Err(error) if !matches!(error.reason, "SESSION_ENDED" | "COST_LIMIT" | "HARD_MAX_EXCEEDED") => {
                self.wrong(&format!("{id}: {command:?} is answered with {error:?}"));
            }
            _ => {}
        }
        answer.map(|(done, _)| done.session)
    }

    /// Makes a call, hanging up now and then, until there is an answer that is final; and whether it was made more than
    /// once.
    async fn until_answered<T, F: Future<Output = Answer<T>>>(&mut self, call: impl Fn(Doors) -> F) -> Answer<(T, bool)> {
        let mut repeated = false;
        loop {
            let doors = self.deployment.open().await;
            let hang_up = self.dice.random_bool(0.25).then(|| self.dice.random_range(0..4_u32));
            let attempt = doors.ask(async {
                let mut answer = std::pin::pin!(call(doors.clone()));
                let Some(patience) = hang_up else { return Some(answer.await) };
                // So many turns of the runtime, which is less than the time of one call or a little more.
                for _ in 0..patience {
                    if let std::task::Poll::Ready(answer) = futures::poll!(answer.as_mut()) {
                        return Some(answer);
                    }
                    tokio::task::yield_now().await;
                }
                None
            });
            match attempt.await.flatten() {
                Some(Err(error)) if error.code == Code::Unavailable => self.clock.sleep(error.retry_after.unwrap_or(Duration::from_secs(1))).await,
                Some(answer) => return answer.map(|value| (value, repeated)),
                None => {
                    self.story.count("hang_ups");
                    let pause = Duration::from_millis(self.dice.random_range(0..5_000));
                    self.clock.sleep(pause).await;
                }
            }
            repeated = true;
        }
    }

    /// Waits until the session is in the state or over. When everybody ends what they have, it destroys it.
    async fn reach(&mut self, id: SessionId, state: Option<State>) -> Arc<Session> {
        let mut told = false;
        loop {
            let doors = self.deployment.open().await;
            let caller = self.caller();
            let wait = doors.ask(doors.sessions.wait(&caller, id, state.as_slice(), Duration::from_secs(600)));
            let answer = tokio::select! {
                biased;
                () = self.closing.cancelled(), if !told => {
                    told = true;
                    let _ = self.command(id, Command::Destroy, "closing").await;
                    continue;
                }
                answer = wait => answer,
            };
            match answer {
                Some(Ok((session, reached))) if reached || session.state.is_final() => return session,
                Some(Err(error)) if error.code != Code::Unavailable => {
                    self.wrong(&format!("{id}: waiting is answered with {error:?}"));
                    std::future::pending::<()>().await;
                }
                Some(Err(_)) => self.clock.sleep(Duration::from_secs(1)).await,
                Some(Ok(_)) | None => {}
            }
        }
    }
}
