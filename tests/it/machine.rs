//! The pure machine under random inputs: what must hold after every step, and that every session can be brought to its
//! end from wherever it got to.

mod steps;

use crate::support::{any, request};
use gpu_shopper::app::tag_of;
use gpu_shopper::domain::attempt::Choice;
use gpu_shopper::domain::event::{Actor, EventType};
use gpu_shopper::domain::idle::Activity;
use gpu_shopper::domain::ids::{Label, SessionId};
use gpu_shopper::domain::instance::{Desired, DestroyAnswer, Evidence, Instance, InstanceStatus, Launch, PriceSeen, Sighting, SshEndpoint};
use gpu_shopper::domain::lifecycle::{Action, Ask, Input, KeyFault, LookBy, Refusal, Stray, next_deadline, step};
use gpu_shopper::domain::money::Rate;
use gpu_shopper::domain::offer::Offer;
use gpu_shopper::domain::policy::{Policy, Rules};
use gpu_shopper::domain::session::{AttemptFailure, EndReason, LaunchMode, Request, Session, State};
use gpu_shopper::domain::time::{Look, Time};
use gpu_shopper::domain::verify::{GpuAnswer, GpuReport, ProbeFailureKind};
use gpu_shopper::ports::{Chance, Provider, SeededChance};
use gpu_shopper::sim::{Credentials, Dialect, Faults, Market, MarketConfig, SimProvider};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const BEGIN: Time = Time::from_millis(1_795_000_000_000);

struct World {
    chance: SeededChance,
    rules: Rules,
    offers: Vec<Arc<Offer>>,
    now: Time,
    session: Session,
    rows: Vec<Instance>,
    outstanding: Vec<Action>,
    launched: BTreeSet<u8>,
}

/// Offers and terms of both dialects, as the simulated market has them.
async fn market() -> (Vec<Arc<Offer>>, Rules) {
    let clock = gpu_shopper::clock::Clock::simulated(BEGIN);
    let market = Market::new(MarketConfig { seed: 1, faults: Faults::none(), clock, fabricated_addresses: true });
    let mut offers = Vec::new();
    let mut rules = Rules {
        tag: tag_of("machine"),
        policy: Policy::default(),
        secret: "own".to_owned(),
        terms: std::collections::BTreeMap::new(),
        expiry_held: std::collections::BTreeSet::new(),
        asleep: false,
    };
    for dialect in Dialect::ALL {
        let account = market.add_account(dialect, Credentials::Key(dialect.word().to_owned()), None);
        let provider = SimProvider::new(Arc::clone(&market), account, dialect);
        rules.terms.insert(provider.facts().id.clone(), gpu_shopper::app::terms_of(&provider));
        offers.extend(provider.offers().await.unwrap().offers.into_iter().take(40));
    }
    (offers, rules)
}

impl World {
    fn new(seed: u64, offers: &[Arc<Offer>], rules: &Rules) -> Self {
        let id = SessionId::new(BEGIN, u128::from(seed));
        let mut request = request(any(None));
        request.failover.max_attempts = 3;
        if seed.is_multiple_of(2) {
            request.launch_mode = LaunchMode::Entrypoint;
            request.exposed_ports = vec![8000];
        }
        request.idle_threshold = Duration::from_secs(600 * (seed & 1));
        let session = Session::new(id, request, std::collections::BTreeMap::new(), rules.policy.hard_max, BEGIN);
        let mut world = Self {
            chance: SeededChance::new(seed),
            rules: rules.clone(),
            offers: offers.to_vec(),
            now: BEGIN,
            session,
            rows: Vec::new(),
            outstanding: Vec::new(),
            launched: BTreeSet::new(),
        };
        world.put(Input::Begin);
        world
    }

    fn below(&self, end: u64) -> u64 {
        self.chance.bits() % end
    }

    fn one<T: Copy>(&self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    /// One step and everything that must hold after it.
    fn put(&mut self, input: Input) {
        let tick = matches!(input, Input::Tick);
        let shown = format!("{input:?}");
        let result = step(&self.session, &self.rows, input, &self.rules, self.now);
        let step = match result {
            Ok(step) => step,
            Err(Refusal::Ended { .. } | Refusal::NotRunning { .. } | Refusal::HardMax { .. } | Refusal::NotLater { .. } | Refusal::CostLimit(_)) => {
                return;
            }
        };
        self.check(&step.session, &step.instances, &shown);
        assert_eq!(step.session.sequence - self.session.sequence, i64::try_from(step.events.len()).unwrap(), "{shown}");
        for (at, event) in step.events.iter().enumerate() {
            assert_eq!(event.session.sequence, self.session.sequence + 1 + i64::try_from(at).unwrap());
        }
        assert!(step.events.is_empty() || step.durable, "what is told is written: {shown}");
        self.session = step.session;
        self.rows = step.instances;
        for action in step.actions {
            match action {
                Action::Choose => {
                    let input = if self.below(10) == 0 {
                        Input::NoOffer("nothing left".to_owned())
                    } else {
                        let at = usize::try_from(self.below(self.offers.len() as u64)).unwrap();
                        let offer = Arc::clone(&self.offers[at]);
                        Input::Chosen(Choice { disk_gb: offer.disk.rented_gb(None), offer })
                    };
                    self.put(input);
                }
                Action::Launch(attempt) => {
                    assert!(self.launched.insert(attempt), "attempt {attempt} was launched twice");
                    self.outstanding.push(action);
                }
                action => {
                    if !self.outstanding.contains(&action) {
                        self.outstanding.push(action);
                    }
                }
            }
        }
        if tick {
            let due = next_deadline(&self.session, &self.rows, &self.rules);
            assert!(due.is_none_or(|due| due > self.now), "a tick leaves nothing due: {:?} {:?}", self.session.state, self.session.pace);
        }
    }

    fn check(&self, after: &Session, rows: &[Instance], input: &str) {
        let before = &self.session;
        let ending = matches!(after.state, State::Stopping | State::Stopped | State::Failed);
        assert_eq!(after.end_reason.is_some(), ending, "{input}");
        assert!(before.end_reason.is_none() || before.end_reason == after.end_reason, "the end reason changed: {input}");
        assert!(!before.state.is_final() || before.state == after.state, "a final state is final: {input}");
        if after.state.is_final() {
            assert_eq!(Some(after.state), after.end_reason.map(EndReason::final_state));
            if !before.state.is_final() {
                assert!(rows.iter().all(|r| !r.open()), "ended with an open debt: {input}");
            }
        }
        let wanted = rows.iter().filter(|r| r.open() && r.desired == Desired::Present).count();
        assert!(wanted <= 1, "{wanted} machines are wanted at once: {input}");
        let near = self.now >= after.expires_at - self.rules.policy.expiring_before;
        assert!(ending || after.expiring_told || !near, "{} ends soon, and nobody was told: {input}", after.state);
        if before.attempts.len() == after.attempts.len() {
            assert!(after.stage >= before.stage, "the stage went back within an attempt: {input}");
        }
        for (old, new) in self.rows.iter().zip(rows) {
            assert_eq!(old.label, new.label);
            assert!(old.native_id.is_none() || old.native_id == new.native_id, "an id was dropped: {input}");
            assert!(old.desired == Desired::Present || new.desired == Desired::Gone, "a debt was forgiven: {input}");
        }
        for row in rows {
            if let Some(settled) = row.settled {
                match settled.evidence {
                    Evidence::NotFoundTwice => assert!(row.destroy.answered_at.is_some() && row.destroy.not_found >= 2, "{input}"),
                    Evidence::NeverAppeared => assert!(row.native_id.is_none() && row.absence.lists >= self.rules.policy.absence_quorum),
                    Evidence::LaunchRefused => assert_eq!(row.launch, Launch::Refused),
                    Evidence::Vanished => assert!(row.absence.by_id && row.absence.lists >= self.rules.policy.absence_quorum),
                    Evidence::NeverLaunched => {}
                    Evidence::Operator => assert_eq!(row.desired, Desired::Gone, "{input}"),
                }
            }
            for (at, s) in row.segments.iter().enumerate() {
                assert_eq!(s.ordinal as usize, at);
                assert!(s.from_low <= s.from && s.from <= s.to && s.to_high.is_none_or(|h| h >= s.to), "{s:?} after {input}");
            }
        }
    }

    fn look(&self) -> Look {
        Look { sent: self.now - Duration::from_millis(self.below(400)), answered: self.now }
    }

    fn sighting(&self, attempt: u8) -> Sighting {
        use InstanceStatus as S;
        let status = self.one(&[
            S::Scheduled,
            S::Starting,
            S::Running,
            S::Running,
            S::Running,
            S::Stopped,
            S::Failed,
            S::Offline,
            S::Deleting,
            S::Gone,
            S::Unknown,
        ]);
        let endpoint = SshEndpoint { host: "203.0.113.9".to_owned(), port: 2200 + u16::from(attempt), user: "root".to_owned(), proxied: false };
        Sighting {
            native_id: format!("n{attempt}"),
            label: Some(Label { tag: self.rules.tag, session: self.session.id, attempt }.to_string()),
            status,
            raw_status: format!("{status:?}"),
            progress: Some(self.below(3).to_string()),
            endpoints: if self.below(3) == 0 { Vec::new() } else { vec![endpoint] },
            ports: Vec::new(),
            public_host: None,
            price: self.one(&[
                None,
                None,
                None,
                None,
                None,
                Some(PriceSeen::Total(Rate::from_nanos(300_000_000))),
                Some(PriceSeen::Total(Rate::from_nanos(20_000_000_000))),
            ]),
            interruptible: self.one(&[None, Some(true), Some(false)]),
            machine: None,
            gpu_percent: self.one(&[None, Some(0), Some(90)]),
        }
    }

    /// An outcome of an action: any that could come, or the one that brings things to their end.
    fn outcome(&mut self, action: &Action, benign: bool) -> Input {
        let (look, now) = (self.look(), self.now);
        let endpoint = self.session.endpoint.clone().unwrap_or(SshEndpoint { host: "h".to_owned(), port: 1, user: "u".to_owned(), proxied: false });
        let die = if benign { 99 } else { self.below(6) };
        match action {
            Action::Choose => Input::Tick,
            Action::Launch(attempt) => match die {
                0 => Input::LaunchRefused { attempt: *attempt, failure: self.one(AttemptFailure::ALL), text: "no".to_owned() },
                1 | 2 => Input::LaunchUnknown { attempt: *attempt, text: "lost".to_owned(), call: look },
                3 => Input::Launched { attempt: *attempt, native_id: format!("n{attempt}"), call: look, failed: Some("stopped".to_owned()) },
                _ => Input::Launched { attempt: *attempt, native_id: format!("n{attempt}"), call: look, failed: None },
            },
            Action::AttachKeys(attempt) => Input::KeysAttached { attempt: *attempt, result: if die == 0 { Err("no".to_owned()) } else { Ok(()) } },
            Action::Start(attempt) => Input::Started { attempt: *attempt, result: if die < 3 { Err("no".to_owned()) } else { Ok(()) } },
            Action::Look(attempt) => match die {
                0..=2 => Input::Seen { attempt: *attempt, sighting: Box::new(self.sighting(*attempt)), look },
                3 => Input::LookFailed { attempt: *attempt, crowded: false, text: "502".to_owned() },
                _ => Input::Missing { attempt: *attempt, look, by: LookBy::Id },
            },
            Action::Probe { attempt, .. } => match die {
                0..=2 => {
                    use ProbeFailureKind as K;
                    let kind =
                        self.one(&[K::Refused, K::Timeout, K::AuthRejected, K::AuthRejected, K::AlgorithmMismatch, K::HostKeyChanged, K::Broken]);
                    Input::ProbeFailed { attempt: *attempt, endpoint, kind, text: "no".to_owned() }
                }
                _ => {
                    let offer = self.session.offer().cloned();
                    let good = offer.map(|o| GpuReport {
                        gpus: vec![(o.gpu.to_string(), o.gpu_memory_mib); o.gpu_count as usize],
                        driver: None,
                        cuda: None,
                    });
                    let gpu = match self.below(9) {
                        0 => Some(GpuAnswer::Broken("no driver".to_owned())),
                        1 => Some(GpuAnswer::Silent("hangs".to_owned())),
                        2 => Some(GpuAnswer::Report(GpuReport { gpus: Vec::new(), driver: None, cuda: None })),
                        _ => good.map(GpuAnswer::Report),
                    };
                    Input::Probed { attempt: *attempt, endpoint, host_key: "ssh-ed25519 AAAA".to_owned(), gpu, disk_free_gb: None }
                }
            },
            Action::ProbeApi(attempt) => Input::ApiProbed { attempt: *attempt, result: if die < 3 { Err("http_503".to_owned()) } else { Ok(()) } },
            Action::RotateKey(attempt) => {
                let fault = KeyFault { reason: "host_silent", text: "no".to_owned() };
                let key = self.session.rekey.as_ref().map_or_else(|| "gone".to_owned(), |r| r.new.clone());
                Input::KeyRotated { attempt: *attempt, key, result: if die < 3 { Err(fault) } else { Ok(()) } }
            }
            Action::Measure(attempt) => {
                let busy = u32::from(!benign && self.below(6) == 0);
                let quiet = Activity { gpu_percent: Some(busy * 90), gpu_memory_mib: Some(0), gpu_processes: Some(0), connections: Some(0) };
                let result = match die {
                    0 => Err((ProbeFailureKind::Timeout, "slow".to_owned())),
                    1 => Ok(("ssh-ed25519 BBBB".to_owned(), Activity::default())),
                    _ => Ok(("ssh-ed25519 AAAA".to_owned(), quiet)),
                };
                Input::Measured { attempt: *attempt, result, next_at: now + Duration::from_secs(60) }
            }
            Action::AskCredit(attempt) => Input::CreditTold { attempt: *attempt, out_of_credit: self.one(&[None, Some(true), Some(false)]) },
            Action::Destroy(attempt) => {
                let answer = match die {
                    0 => Err("502".to_owned()),
                    1 => Ok(DestroyAnswer::Refused { until: None, text: "not ready".to_owned() }),
                    2 => Ok(DestroyAnswer::NotThere),
                    _ => Ok(DestroyAnswer::Accepted),
                };
                Input::DestroyAnswered { attempt: *attempt, answer, call: look, retry_at: now + Duration::from_secs(5) }
            }
        }
    }

    /// Something that can happen.
    fn happen(&mut self) {
        self.now = self.now + Duration::from_millis(self.one(&[0, 1, 900, 900, 5_000, 5_000, 31_000, 31_000, 130_000, 1_500_000]));
        match self.below(8) {
            0..=3 if !self.outstanding.is_empty() => {
                let at = usize::try_from(self.below(self.outstanding.len() as u64)).unwrap();
                let action = self.outstanding.swap_remove(at);
                let input = self.outcome(&action, false);
                self.put(input);
            }
            4 if !self.rows.is_empty() => {
                let attempt = self.one(&self.rows.iter().map(|r| r.label.attempt).collect::<Vec<_>>());
                let look = self.look();
                let launching = self.outstanding.contains(&Action::Launch(attempt));
                let input = match self.below(2) {
                    0 if !launching => Input::Seen { attempt, sighting: Box::new(self.sighting(attempt)), look },
                    _ => Input::Missing { attempt, look, by: LookBy::List },
                };
                self.put(input);
            }
            5 if self.below(6) == 0 && !self.rows.is_empty() => {
                let attempt = self.one(&self.rows.iter().map(|r| r.label.attempt).collect::<Vec<_>>());
                let look = self.look();
                let input = match self.below(4) {
                    0 if self.rows.len() < 20 => {
                        let native_id = format!("twin{}", self.below(1_000_000));
                        let row = self.rows.iter().find(|r| r.label.attempt == attempt).unwrap();
                        Input::Duplicate(Box::new(Stray {
                            label: row.label,
                            provider: row.provider.clone(),
                            account: row.account.clone(),
                            sighting: Sighting { native_id, ..self.sighting(attempt) },
                            look,
                            first_seen: look.answered,
                        }))
                    }
                    1 => Input::Settle { attempt, actor: Actor::Operator("ops".to_owned()), text: "gone".to_owned() },
                    2 => Input::Unlisted,
                    _ => Input::Retry { attempt },
                };
                self.put(input);
            }
            5 if self.below(4) == 0 => {
                let ask = match self.below(5) {
                    0 => Ask::Extend { by: Some(Duration::from_secs(self.below(50_000))), to: None, override_hard_max: self.below(5) == 0 },
                    1 => Ask::Update {
                        labels: Some([("a".to_owned(), self.below(3).to_string())].into()),
                        idle_threshold: self.one(&[None, Some(Duration::ZERO), Some(Duration::from_secs(300))]),
                    },
                    2 => Ask::KeepAlive,
                    3 => Ask::RotateKey(format!("key {}", self.below(3))),
                    _ => Ask::End(self.one(&[EndReason::Completed, EndReason::DestroyedByUser])),
                };
                self.put(Input::Asked { ask, actor: Actor::Service });
            }
            6 if self.below(6) == 0 => {
                // A restart: what was under way is forgotten.
                self.outstanding.clear();
                self.put(Input::Resumed);
            }
            _ => self.put(Input::Tick),
        }
    }

    /// From here on everything goes well and nothing is ever seen again: the session must end.
    fn end(&mut self) {
        self.put(Input::Asked { ask: Ask::End(EndReason::DestroyedByUser), actor: Actor::Service });
        for _ in 0..400 {
            if self.session.state.is_final() && self.rows.iter().all(|r| !r.open()) {
                return;
            }
            self.now = self.now + Duration::from_secs(31);
            while let Some(action) = self.outstanding.pop() {
                let input = self.outcome(&action, true);
                self.put(input);
            }
            for attempt in self.rows.iter().map(|r| r.label.attempt).collect::<Vec<_>>() {
                let look = Look { sent: self.now, answered: self.now };
                self.put(Input::Missing { attempt, look, by: LookBy::List });
            }
            self.put(Input::Tick);
        }
        panic!("never ends: {:?} {:#?}", self.session.state, self.rows);
    }
}

#[tokio::test(start_paused = true)]
async fn random_lives_keep_every_rule_and_end() {
    let (offers, rules) = market().await;
    let (mut ran, mut failed, mut retried) = (0, 0, 0);
    for seed in 0..4000 {
        let mut world = World::new(seed, &offers, &rules);
        for _ in 0..60 {
            world.happen();
        }
        world.end();
        ran += usize::from(world.session.running_at.is_some());
        failed += usize::from(world.session.state == State::Failed);
        retried += usize::from(world.session.attempts.len() > 1);
    }
    // The walk is worth something only when it gets around.
    assert!(ran > 100 && failed > 200 && retried > 200, "ran {ran}, failed {failed}, retried {retried}");
}

/// Also of a session that never runs: while it waits for offers, and while its machine comes up.
#[tokio::test(start_paused = true)]
async fn an_end_is_told_a_quarter_of_an_hour_before_in_every_open_state() {
    let (offers, rules) = market().await;
    for waits in [State::Pending, State::Provisioning] {
        let request = Request { reservation: Duration::from_secs(16 * 60), ..request(any(None)) };
        let session = Session::new(SessionId::new(BEGIN, 7), request, std::collections::BTreeMap::new(), rules.policy.hard_max, BEGIN);
        let (mut session, mut rows, mut now, mut told) = (session, Vec::new(), BEGIN, Vec::new());
        let mut inputs = vec![Input::Begin];
        while session.end_reason.is_none() {
            let input = inputs.pop().unwrap_or_else(|| {
                now = next_deadline(&session, &rows, &rules).expect("an open session has a deadline");
                Input::Tick
            });
            let done = step(&session, &rows, input, &rules, now).unwrap();
            told.extend(done.events.iter().map(|e| (now, e.kind, e.session.state)));
            for action in &done.actions {
                match action {
                    Action::Choose if waits == State::Pending && now < BEGIN + Duration::from_secs(110) => {
                        inputs.push(Input::OffersAwaited("not yet".to_owned()));
                    }
                    Action::Choose => {
                        let offer = Arc::clone(&offers[0]);
                        inputs.push(Input::Chosen(Choice { disk_gb: offer.disk.rented_gb(None), offer }));
                    }
                    Action::Launch(attempt) => {
                        let call = Look { sent: now, answered: now };
                        inputs.push(Input::LaunchUnknown { attempt: *attempt, text: "lost".to_owned(), call });
                    }
                    _ => {}
                }
            }
            (session, rows) = (done.session, done.instances);
        }
        let warned: Vec<_> = told.iter().filter(|(_, kind, _)| *kind == EventType::Expiring).collect();
        assert_eq!(warned, [&(BEGIN + Duration::from_secs(60), EventType::Expiring, waits)]);
        assert_eq!((session.end_reason, now), (Some(EndReason::Expired), BEGIN + Duration::from_secs(16 * 60)));
    }
}
