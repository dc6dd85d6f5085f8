//! The callers of a deployment: each rents one machine, and is as unreliable as callers are. It hangs up in the middle
//! of a call, repeats calls with the same request id, or makes the same call many times at once; it extends, changes its
//! key, ends early, too late or by several hands at a time, and sees services die and forget.

use crate::chaos::deployment::{Deployment, Doors};
use crate::chaos::story::Story;
use crate::chaos::watchers;
use crate::clock::Clock;
use crate::domain::ids::{ConsumerId, ProviderId, SessionId};
use crate::domain::money::Nanos;
use crate::domain::offer::{Offer, OfferFilter, OfferOrder, RentalKind};
use crate::domain::session::{EndReason, LaunchMode, Request, Session, StartSecrets, State, Target};
use crate::domain::time::Time;
use crate::domain::verify::Verify;
use crate::services::api::{Caller, Command, Create, Created, Idempotency, NewKey};
use crate::services::error::{Code, Error};
use crate::sim::Workload;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A template of the simulated marketplace.
const TEMPLATE: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";

/// The stream of a caller's dice from which it draws what it may cost and what must be proven.
const CAPS: u64 = 1_000;

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
    /// The longest that a session may be asked for.
    longest: Duration,
    /// How often its deployment had its disk put back when it got its session.
    restores: u32,
    /// Whether it made its create many times at once.
    storms: bool,
}

/// How a call went, for one that goes on until it has an answer.
type Answer<T> = Result<T, Error>;

impl Visitor {
    /// A caller by that name.
    #[must_use]
    pub fn new(deployment: Arc<Deployment>, story: Arc<Story>, clock: Clock, name: String, dice: ChaCha8Rng, closing: CancellationToken) -> Self {
        let longest = deployment.longest();
        Self { deployment, story, clock, name, dice, closing, longest, restores: 0, storms: false }
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
        self.restores = self.deployment.witness().restores();
        if self.dice.random_bool(0.4) {
            let own = Arc::clone(&self.deployment);
            let watcher = watchers::OfOne { deployment: own, story: Arc::clone(&self.story), clock: self.clock.clone(), session: id };
            let dice = rand::SeedableRng::seed_from_u64(self.dice.random());
            tokio::spawn(watcher.watch(created.resume_token.clone(), dice));
        }
        let Some(session) = self.use_up(aim, &created.session).await else {
            self.story.count("sessions_lost");
            return self.tell(&format!("{id} is lost with its database"));
        };
        self.story.count("sessions_over");
        let reason = session.end_reason.map_or("nothing", EndReason::word);
        self.tell(&format!("{id} is over: {reason}"));
        if !session.state.is_final() {
            self.wrong(&format!("{id} was said to be over and is {}", session.state));
        }
    }

    /// Uses it to its end; `None` when it was lost with its deployment's disk.
    async fn use_up(&mut self, aim: Aim, session: &Session) -> Option<Arc<Session>> {
        let id = session.id;
        let minutes = |dice: &mut ChaCha8Rng, from: u64, to: u64| Duration::from_secs(60 * dice.random_range(from..=to));
        let mut promised = None;
        match aim {
            Aim::Work => {
                let started = self.reach(id, Some(State::Running)).await?;
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
                    self.occupy(id);
                    let work = minutes(&mut self.dice, 2, 50);
                    self.pause(work).await;
                    if self.dice.random_bool(0.3) {
                        self.another_key(id).await;
                    }
                    let bad = self.dice.random_bool(0.1);
                    if self.dice.random_bool(0.2) {
                        self.end_together(id).await;
                    } else if let Ok(session) = self.command(id, Command::Complete { bad_machine: bad }, "done").await {
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
        let over = self.reach(id, None).await?;
        if self.rewound() {
            return Some(over);
        }
        if let (Some(promised), Some(EndReason::Expired), Some(end)) = (promised, over.end_reason, over.stopped_at)
            && end < promised
        {
            self.wrong(&format!("{id} expired at {} although it was extended to {}", end.rfc3339(), promised.rfc3339()));
        }
        Some(over)
    }

    /// Whether its deployment may have forgotten what it was told: its disk was put back since.
    fn rewound(&self) -> bool {
        self.deployment.witness().restores() != self.restores
    }

    /// Does something with the machine, or not: an idle one may be ended for it.
    fn occupy(&mut self, id: SessionId) {
        let all = [Workload::Idle, Workload::Busy, Workload::LoggedIn, Workload::Hidden];
        let workload = all[self.dice.random_range(0..all.len())];
        self.deployment.occupy(id, workload);
    }

    /// Wants another key, and at once yet another one.
    async fn another_key(&mut self, id: SessionId) {
        let keys = 1 + u8::from(self.dice.random_bool(0.3));
        for number in 0..keys {
            let seed: [u8; 32] = self.dice.random();
            let blob = [&[0, 0, 0, 11][..], b"ssh-ed25519", &[0, 0, 0, 32], &seed].concat();
            let key = NewKey { public: format!("ssh-ed25519 {}", STANDARD.encode(blob)), private: None };
            if self.command(id, Command::RotateKey(key), &format!("key-{number}")).await.is_ok() {
                self.story.count("key_changes");
            }
        }
        self.pause(Duration::from_secs(60)).await;
    }

    /// Several hands end it at the same time; all are told the same.
    async fn end_together(&mut self, id: SessionId) {
        self.story.count("crowds");
        let hands = self.dice.random_range(2..7);
        let doors = self.deployment.open().await;
        self.deployment.witness().asked(id);
        let calls = (0..hands).map(|hand| {
            let command = if hand % 2 == 0 { Command::Destroy } else { Command::Complete { bad_machine: false } };
            let idempotency = Idempotency { request_id: format!("{}-hand-{hand}", self.name), hash: format!("{command:?}") };
            doors.lifecycle.command(self.caller(), id, command, Some(idempotency), false)
        });
        let Some(answers) = doors.ask(futures::future::join_all(calls)).await else { return };
        let mut reasons = Vec::new();
        for answer in answers {
            match answer {
                Ok(done) => {
                    self.ended_as(&done.session, EndReason::Completed);
                    reasons.push(done.session.end_reason);
                }
                Err(error) if error.code == Code::Unavailable || self.forgotten(id, &error) => {}
                Err(error) => self.wrong(&format!("{id}: one of {hands} hands that end it is answered with {error:?}")),
            }
        }
        reasons.dedup();
        if reasons.len() > 1 {
            self.wrong(&format!("{id}: the hands that end it are told different reasons: {reasons:?}"));
        }
    }

    /// Whether an answer says no more than that the session was lost with its deployment's disk.
    fn forgotten(&self, id: SessionId, error: &Error) -> bool {
        error.code == Code::NotFound && self.deployment.witness().lost(id)
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

    fn request(&mut self, aim: Aim, doors: &Doors) -> (Request, Option<String>) {
        let longest = self.longest;
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
        let order = [OfferOrder::Price, OfferOrder::Price, OfferOrder::ExpectedCost][dice.random_range(0..3)];
        let named = if exact { offers.iter().nth(dice.random_range(0..offers.len())) } else { None };
        let target = match named {
            Some(offer) => Target::Offer(offer.id.clone()),
            None => Target::Requirements { filter: Box::new(filter), order },
        };
        let minutes: u64 = if aim == Aim::Forget { dice.random_range(10..60) } else { dice.random_range(30..150) };
        let consumer = ConsumerId::new(["ann", "ben", "cem"][dice.random_range(0..3)]);
        let mut request = Request::plain(consumer, target);
        request.reservation = Duration::from_secs(60 * minutes).min(longest);
        request.public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFv1PqLqPAQ8j2WUbVVlXDqIHKLZQsa2kEVmoxh0vDOm".to_owned();
        request.failover.max_attempts = dice.random_range(1..=8);
        if dice.random_bool(0.2) {
            request.idle_threshold = Duration::from_secs(60 * dice.random_range(5..60));
        }
        let (starts, limited, percent, templated) =
            (dice.random_bool(0.15) && !exact, dice.random_bool(0.2), dice.random_range(100..140_i64), dice.random_bool(0.1) && !exact);
        if starts {
            request.launch_mode = LaunchMode::Entrypoint;
            request.exposed_ports = vec![8_000];
        }
        let fits = |o: &&Arc<Offer>| match &request.target {
            Target::Offer(id) => o.id == *id,
            Target::Requirements { filter, .. } => filter.check(o).is_ok(),
        };
        let cheapest = offers.iter().filter(fits).map(|o| o.price(None).total()).min().unwrap_or_default();
        // Drawn aside, so that the rest of a seed's world does not depend on it.
        let mut aside = dice.clone();
        aside.set_stream(CAPS);
        let mut cap = |one_in: u32| aside.random_ratio(1, one_in).then(|| cheapest.scaled(aside.random_range(100..160), 100));
        let filtered = cap(8);
        (request.max_price, request.failover.max_price) = (cap(8), cap(6));
        request.verify = [Verify::Ssh, Verify::Strict, Verify::Gpu, Verify::Gpu, Verify::Gpu, Verify::Gpu][aside.random_range(0..6)];
        if let Target::Requirements { filter, .. } = &mut request.target {
            filter.max_price = filtered;
        }
        if limited {
            // About what the cheapest would cost: one bad attempt or a higher price, and it is reached.
            let whole = cheapest.accrued(i64::try_from(request.reservation.as_millis()).unwrap_or(i64::MAX));
            request.max_total_cost = Some(Nanos(whole.0 / 100 * percent));
        }
        (request, templated.then(|| TEMPLATE.to_owned()))
    }

    /// Creates a session; `None` when there is nothing to rent, or when it is too late.
    async fn rent(&mut self, aim: Aim) -> Option<Created> {
        for round in 0..4 {
            let doors = self.deployment.open().await;
            let (request, template) = self.request(aim, &doors);
            let create = Create {
                idempotency: Some(Idempotency { request_id: format!("{}-rent-{round}", self.name), hash: format!("{request:?}") }),
                request,
                labels: BTreeMap::from([("visitor".to_owned(), self.name.clone())]),
                secrets: StartSecrets::default(),
                template,
                validate_only: false,
                private_key: None,
            };
            self.story.count("creates");
            let caller = self.caller();
            let mut known = None;
            let before = self.deployment.witness().restores();
            if self.dice.random_bool(0.15) {
                self.storm(&doors, &create).await;
            }
            let stormed = self.storms;
            let answer = self.until_answered(|doors| {
                let (create, caller) = (create.clone(), caller.clone());
                async move { doors.lifecycle.create(caller, create).await }
            });
            match answer.await {
                Ok((created, repeated)) => {
                    let id = created.session.id;
                    self.tell(&format!("has {id}{}", if created.replayed { ", by repeating" } else { "" }));
                    if !self.deployment.witness().knows(id) && !self.deployment.witness().lost(id) {
                        self.wrong(&format!("{id} was answered and is not on disk"));
                    }
                    if created.replayed && !repeated && !stormed {
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
                            Ok(_) | Err(_) if self.deployment.witness().restores() != before => {}
                            other => self.wrong(&format!("{id}: repeated, the create answers {other:?}")),
                        }
                    }
                    return Some(created);
                }
                Err(error) => {
                    self.tell(&format!("gets nothing: {} {}", error.reason, error.message));
                    self.story.count("creates_refused");
                    let plain = ["OFFER_NOT_FOUND", "TEMPLATE_NOT_FOUND"];
                    // Its operator may have taken a provider out.
                    let taken_out = error.code == Code::InvalidArgument && error.message.contains("is not enabled here");
                    if matches!(error.code, Code::Internal | Code::InvalidArgument | Code::NotFound) && !plain.contains(&error.reason) && !taken_out {
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

    /// Makes the same create many times at once: one session comes of it.
    async fn storm(&mut self, doors: &Doors, create: &Create) {
        self.story.count("storms");
        self.storms = true;
        let calls = self.dice.random_range(2..12);
        let creates = (0..calls).map(|_| doors.lifecycle.create(self.caller(), create.clone()));
        let answers = doors.ask(futures::future::join_all(creates)).await.unwrap_or_default();
        let made: Vec<&Created> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
        let ids: BTreeSet<SessionId> = made.iter().map(|created| created.session.id).collect();
        let first = made.iter().filter(|created| !created.replayed).count();
        if ids.len() > 1 || first > 1 {
            self.wrong(&format!("{calls} creates with one request id made {ids:?}, {first} of them not as repetitions"));
        }
    }

    /// Sends a command until it is answered, with one request id.
    async fn command(&mut self, id: SessionId, command: Command, request: &str) -> Answer<Arc<Session>> {
        let idempotency = Idempotency { request_id: format!("{}-{request}", self.name), hash: format!("{command:?}") };
        let caller = self.caller();
        let witness = Arc::clone(&self.deployment);
        let answer = self.until_answered(|doors| {
            let (caller, command, idempotency) = (caller.clone(), command.clone(), idempotency.clone());
            // Each time: a process whose disk was put back may hear of it only now.
            witness.witness().asked(id);
            async move { doors.lifecycle.command(caller, id, command, Some(idempotency), false).await }
        });
        let answer = answer.await;
        let what = match &answer {
            Ok((done, _)) => format!("{request}: {}", done.session.state),
            Err(error) => format!("{request}: {} {}", error.reason, error.message),
        };
        self.tell(&format!("{id} {what}"));
        match &answer {
            Err(error) if self.forgotten(id, error) => {}
            Err(error) if self.rewound() && error.reason == "SESSION_NOT_RUNNING" => {}
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

    /// Waits until the session is in the state or over; `None` when it is lost. When everybody ends what they have, it
    /// destroys it.
    async fn reach(&mut self, id: SessionId, state: Option<State>) -> Option<Arc<Session>> {
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
                Some(Ok((session, reached))) if reached || session.state.is_final() => return Some(session),
                Some(Err(error)) if self.forgotten(id, &error) => return None,
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
