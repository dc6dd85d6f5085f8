//! The pure machine under random inputs: what must hold after every step, and that every session can be brought to its
//! end from wherever it got to.

use crate::support::{any, request};
use gpu_shopper::app::tag_of;
use gpu_shopper::domain::attempt::Choice;
use gpu_shopper::domain::event::{Actor, EventType};
use gpu_shopper::domain::idle::Activity;
use gpu_shopper::domain::ids::{Label, ProviderId, SessionId};
use gpu_shopper::domain::instance::{Desired, DestroyAnswer, Evidence, Instance, InstanceStatus, Launch, PriceSeen, Sighting, SshEndpoint};
use gpu_shopper::domain::lifecycle::{Action, Ask, Input, KeyFault, LookBy, Refusal, Stray, next_deadline, step};
use gpu_shopper::domain::money::{Nanos, Rate};
use gpu_shopper::domain::offer::Offer;
use gpu_shopper::domain::policy::{Policy, Rules};
use gpu_shopper::domain::session::{AttemptFailure, ConditionType, EndReason, LaunchMode, Request, Session, State, Target, Truth};
use gpu_shopper::domain::template::{Needs, Template};
use gpu_shopper::domain::time::{Look, Time};
use gpu_shopper::domain::verify::{GpuAnswer, GpuReport, ProbeFailureKind, Verify};
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
                3 => Input::LookFailed { attempt: *attempt, text: "502".to_owned() },
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

/// A session whose machine runs, a minute old, and its provider.
struct Running {
    rules: Rules,
    session: Session,
    rows: Vec<Instance>,
    now: Time,
    provider: ProviderId,
}

impl Running {
    async fn new(request: Request) -> Self {
        let mut this = Self::booted(request).await;
        this.proven(None);
        assert_eq!(this.session.state, State::Running, "{}", this.session.status_message);
        this
    }

    /// Its machine is up and was not yet logged in to.
    async fn booted(request: Request) -> Self {
        let (offers, mut rules) = market().await;
        rules.terms.values_mut().for_each(|terms| terms.account = "one".to_owned());
        let offer = Arc::clone(&offers[0]);
        let provider = offer.provider.clone();
        let session = Session::new(SessionId::new(BEGIN, 7), request, std::collections::BTreeMap::new(), rules.policy.hard_max, BEGIN);
        let mut this = Self { rules, session, rows: Vec::new(), now: BEGIN, provider };
        this.put(Input::Begin);
        this.put(Input::Chosen(Choice { disk_gb: offer.disk.rented_gb(None), offer }));
        let call = Look { sent: this.now, answered: this.now };
        this.put(Input::Launched { attempt: 1, native_id: "n1".to_owned(), call, failed: None });
        this.now = this.now + Duration::from_secs(60);
        this.seen("n1", None);
        this
    }

    /// A login works, and its GPUs are those of the offer, with such a driver.
    fn proven(&mut self, cuda: Option<u32>) {
        let offer = self.session.offer().unwrap();
        let report = GpuReport { gpus: vec![(offer.gpu.to_string(), offer.gpu_memory_mib); offer.gpu_count as usize], driver: None, cuda };
        let (endpoint, host_key) = (self.session.pace.endpoints[0].clone(), "ssh-ed25519 AAAA".to_owned());
        self.put(Input::Probed { attempt: 1, endpoint, host_key, gpu: Some(GpuAnswer::Report(report)), disk_free_gb: None });
    }

    fn put(&mut self, input: Input) -> Vec<(EventType, State)> {
        let done = step(&self.session, &self.rows, input, &self.rules, self.now).unwrap();
        (self.session, self.rows) = (done.session, done.instances);
        done.events.iter().map(|e| (e.kind, e.session.state)).collect()
    }

    fn sighting(&self, native_id: &str, price: Option<Rate>) -> Box<Sighting> {
        let endpoint = SshEndpoint { host: "203.0.113.9".to_owned(), port: 2201, user: "root".to_owned(), proxied: false };
        Box::new(Sighting {
            native_id: native_id.to_owned(),
            label: Some(self.rows[0].label.to_string()),
            status: InstanceStatus::Running,
            raw_status: "running".to_owned(),
            progress: None,
            endpoints: vec![endpoint],
            ports: Vec::new(),
            public_host: None,
            price: price.map(PriceSeen::Total),
            interruptible: Some(false),
            machine: None,
            gpu_percent: None,
        })
    }

    fn look(&self) -> Look {
        Look { sent: self.now, answered: self.now }
    }

    fn seen(&mut self, native_id: &str, price: Option<Rate>) {
        let (sighting, look) = (self.sighting(native_id, price), self.look());
        self.put(Input::Seen { attempt: 1, sighting, look });
    }

    fn terms(&mut self) -> &mut gpu_shopper::domain::policy::Terms {
        self.rules.terms.get_mut(&self.provider).unwrap()
    }
}

/// What is needed of CUDA by the request or by its template is asked of the machine, whatever its offer said; what the offer
/// said is asked of it where somebody has named that offer, or wants everything proven.
#[tokio::test(start_paused = true)]
async fn a_machine_whose_driver_is_too_old_is_not_handed_over() {
    let offer = Arc::clone(&market().await.0[0]);
    let told = offer.cuda.unwrap();
    let asked = |filtered: Option<u32>, of_template: Option<u32>, verify: Verify, named: bool| {
        let mut request = Request { verify, ..request(any(None)) };
        match &mut request.target {
            target if named => *target = Target::Offer(offer.id.clone()),
            Target::Requirements { filter, .. } => filter.min_cuda = filtered,
            Target::Offer(_) => {}
        }
        let provider = ProviderId::new("vastai");
        let needs = Needs { min_cuda: of_template, ..Needs::of(provider.clone()) };
        request.template = of_template.map(|_| Template { needs, ..Template::bare(provider, "0123456789abcdef", "pytorch/pytorch") });
        request
    };
    let (verified, untold) = (Ok((Truth::True, "nvidia_smi")), Ok((Truth::Unknown, "cuda_untold")));
    let (less, more) = (told - 1, told + 1);
    for (filtered, of_template, verify, named, has, comes) in [
        (Some(told), None, Verify::Gpu, false, Some(told), verified),
        (Some(told), None, Verify::Gpu, false, Some(less), Err(told)),
        (None, Some(more), Verify::Gpu, false, Some(told), Err(more)),
        (Some(less), Some(more), Verify::Gpu, false, Some(told), Err(more)),
        (Some(more), Some(less), Verify::Gpu, false, Some(told), Err(more)),
        (None, None, Verify::Gpu, false, Some(less), verified),
        (None, None, Verify::Gpu, false, None, verified),
        (None, None, Verify::Gpu, true, Some(told), verified),
        (None, None, Verify::Gpu, true, Some(less), Err(told)),
        (None, Some(less), Verify::Gpu, true, Some(less), Err(told)),
        (None, None, Verify::Strict, false, Some(told), verified),
        (None, None, Verify::Strict, false, Some(less), Err(told)),
        (None, Some(told), Verify::Gpu, false, None, untold),
        (None, Some(told), Verify::Strict, false, None, Err(0)),
    ] {
        let mut this = Running::booted(asked(filtered, of_template, verify, named)).await;
        this.proven(has);
        let condition = this.session.condition(ConditionType::GpuVerified).map(|c| (c.status, c.reason.as_str()));
        let (attempt, case) = (&this.session.attempts[0], (filtered, of_template, verify, named, has));
        match comes {
            Ok(proven) => assert_eq!((this.session.state, condition), (State::Running, Some(proven)), "{case:?}"),
            Err(least) => {
                assert_eq!((this.session.state, attempt.failure), (State::Provisioning, Some(AttemptFailure::GpuMismatch)), "{case:?}");
                let text = match has {
                    Some(has) => format!("CUDA {}.{} instead of at least {}.{}", has / 100, has % 100, least / 100, least % 100),
                    None => "nvidia-smi does not tell which CUDA version".to_owned(),
                };
                assert!(attempt.text.contains(&text), "{case:?}: {}", attempt.text);
            }
        }
    }
}

/// A second machine, however dear, costs from when it was found: nothing is spent by then that nobody could foresee, and the
/// warning has its time before the end.
#[tokio::test(start_paused = true)]
async fn a_second_machine_costs_from_when_it_was_found_and_the_warning_comes_before_the_end() {
    let most = gpu_shopper::domain::money::Nanos(1_000_000_000);
    let mut this = Running::new(Request { max_total_cost: Some(most), reservation: Duration::from_secs(1200), ..request(any(None)) }).await;
    // Lists have failed for a while.
    this.now = this.now + Duration::from_secs(120);
    let (sighting, look) = (this.sighting("twin", Some(Rate::from_nanos(60_000_000_000))), this.look());
    let (label, provider, account) = (this.rows[0].label, this.rows[0].provider.clone(), this.rows[0].account.clone());
    let twin = Stray { label, provider, account, sighting: *sighting, look, first_seen: look.answered };
    let told = this.put(Input::Duplicate(Box::new(twin)));
    assert_eq!(told, [(EventType::LatecomerDestroyed, State::Running)], "a dollar a minute, and none of it is spent");
    let mut told = Vec::new();
    while this.session.state == State::Running {
        this.now = next_deadline(&this.session, &this.rows, &this.rules).unwrap();
        let now = this.now;
        told.extend(this.put(Input::Tick).into_iter().map(|(kind, _)| (now, kind)));
    }
    let at = |wanted| told.iter().find(|(_, kind)| *kind == wanted).unwrap().0;
    let (warned, ended) = (at(EventType::CostWarning), at(EventType::StateChanged));
    assert_eq!(this.session.end_reason, Some(EndReason::CostLimit));
    assert!(warned >= look.answered + Duration::from_secs(50) && ended >= warned + Duration::from_secs(5), "{} {warned} {ended}", look.answered);
}

/// Credentials were changed while a look was on its way: what it says is of another account, and neither proves that a
/// machine is gone nor whose it is.
#[tokio::test(start_paused = true)]
async fn a_look_with_the_credentials_of_before_proves_nothing() {
    let mut this = Running::new(request(any(None))).await;
    this.now = this.now + Duration::from_secs(600);
    let before = this.look();
    this.terms().account = String::new();
    this.terms().changed_at = Some(before.answered);
    let row = |this: &Running| (this.rows[0].account.clone(), this.rows[0].absence.lists, this.rows[0].absence.by_id, this.rows[0].open());
    // It was seen with those of before: nobody knows yet what those of now open.
    let sighting = this.sighting("n1", None);
    this.put(Input::Seen { attempt: 1, sighting: sighting.clone(), look: before });
    assert_eq!(row(&this).0, "one");
    this.terms().account = "another".to_owned();
    this.put(Input::Seen { attempt: 1, sighting: sighting.clone(), look: before });
    assert_eq!(row(&this).0, "one");
    // Those of another account do not find it, and are changed back while that is told.
    this.now = this.now + Duration::from_secs(600);
    let astray = this.look();
    this.terms().account = "one".to_owned();
    this.terms().changed_at = Some(astray.answered);
    for by in [LookBy::List, LookBy::List, LookBy::List, LookBy::List, LookBy::Id] {
        this.now = this.now + Duration::from_secs(90);
        this.put(Input::Missing { attempt: 1, look: astray, by });
    }
    assert_eq!(row(&this), ("one".to_owned(), 0, false, true));
    this.put(Input::Asked { ask: Ask::End(EndReason::DestroyedByUser), actor: Actor::Service });
    let retry_at = this.now + Duration::from_secs(5);
    this.put(Input::DestroyAnswered { attempt: 1, answer: Ok(DestroyAnswer::NotThere), call: astray, retry_at });
    assert_eq!((this.rows[0].destroy.answered_at, this.rows[0].destroy.next_at), (None, Some(retry_at)), "it is ordered again");
    // With those of now it counts.
    let now = this.look();
    this.put(Input::DestroyAnswered { attempt: 1, answer: Ok(DestroyAnswer::NotThere), call: now, retry_at });
    for _ in 0..2 {
        this.now = this.now + Duration::from_secs(11);
        let look = this.look();
        this.put(Input::Missing { attempt: 1, look, by: LookBy::Id });
    }
    assert_eq!(this.session.state, State::Stopped);
}

/// A list that takes long shows what was before a look that began later and was answered sooner: that one counts.
#[tokio::test(start_paused = true)]
async fn of_two_looks_at_once_the_one_that_began_later_counts() {
    let mut this = Running::new(request(any(None))).await;
    this.now = this.now + Duration::from_secs(600);
    let list = Look { sent: this.now, answered: this.now + Duration::from_secs(8) };
    this.now = this.now + Duration::from_secs(5);
    let (mut sighting, look) = (this.sighting("n1", None), this.look());
    sighting.status = InstanceStatus::Stopped;
    this.put(Input::Seen { attempt: 1, sighting, look });
    this.now = list.answered;
    let sighting = this.sighting("n1", None);
    this.put(Input::Seen { attempt: 1, sighting, look: list });
    assert_eq!(this.rows[0].seen.as_ref().map(|seen| (seen.status, seen.look)), Some((InstanceStatus::Stopped, look)));
}

/// One look does not find a machine whose destroy was accepted, and a second destroy is accepted for it: it was there all the
/// while, is proven gone by two looks after that, and may cost until the first of those.
#[tokio::test(start_paused = true)]
async fn a_machine_that_can_be_destroyed_was_not_gone_before() {
    let mut this = Running::new(request(any(None))).await;
    this.now = this.now + Duration::from_secs(600);
    this.put(Input::Asked { ask: Ask::End(EndReason::DestroyedByUser), actor: Actor::Service });
    let accepted = |this: &mut Running| {
        let (call, retry_at) = (this.look(), this.now + Duration::from_secs(5));
        this.put(Input::DestroyAnswered { attempt: 1, answer: Ok(DestroyAnswer::Accepted), call, retry_at });
    };
    let missing = |this: &mut Running, seconds: u64| {
        this.now = this.now + Duration::from_secs(seconds);
        let look = this.look();
        this.put(Input::Missing { attempt: 1, look, by: LookBy::Id });
    };
    accepted(&mut this);
    missing(&mut this, 4);
    assert_eq!((this.rows[0].destroy.not_found, this.rows[0].off_by), (1, Some(this.now)));
    this.now = this.now + Duration::from_secs(4);
    this.put(Input::Retry { attempt: 1 });
    // The vendor hides it again as soon as it takes the order, whose answer is still under way.
    missing(&mut this, 11);
    assert_eq!(this.session.state, State::Stopping, "a look proves nothing while a destroy is under way");
    accepted(&mut this);
    assert_eq!((this.rows[0].destroy.not_found, this.rows[0].off_by), (0, None));
    missing(&mut this, 3);
    let gone = this.now;
    assert_eq!(this.session.state, State::Stopping, "one look after the second destroy does not prove it");
    missing(&mut this, 11);
    assert_eq!(this.session.state, State::Stopped);
    assert!(this.rows[0].segments.iter().all(|s| s.to_high == Some(gone)), "{:?}", this.rows[0].segments);
}

/// The answer to a launch names somebody else's machine: nothing is done to it, in whatever order looks and lists come, and
/// ours is found by its label.
#[tokio::test(start_paused = true)]
async fn a_machine_that_only_an_answer_names_is_looked_at_before_anything_is_done_to_it() {
    let (offers, rules) = market().await;
    let offer = Arc::clone(offers.iter().find(|o| o.provider.as_str() == "vastai").unwrap());
    let at = |seconds: u64| BEGIN + Duration::from_secs(seconds);
    let look = |seconds: u64| Look { sent: at(seconds), answered: at(seconds) };
    let session = Session::new(SessionId::new(BEGIN, 7), request(any(None)), std::collections::BTreeMap::new(), rules.policy.hard_max, BEGIN);
    let begun = step(&session, &[], Input::Begin, &rules, BEGIN).unwrap();
    let chosen = Input::Chosen(Choice { disk_gb: offer.disk.rented_gb(None), offer });
    let chosen = step(&begun.session, &begun.instances, chosen, &rules, BEGIN).unwrap();
    let launched = Input::Launched { attempt: 1, native_id: "theirs".to_owned(), call: look(1), failed: None };
    let launched = step(&chosen.session, &chosen.instances, launched, &rules, at(1)).unwrap();
    assert_eq!(launched.actions, [Action::Look(1)], "no key is attached to what no look has shown");
    let shown = |id: &str, label: &str| Box::new(Sighting { status: InstanceStatus::Running, ..Sighting::untold(id, Some(label.to_owned())) });
    let own = launched.instances[0].label.to_string();
    let another = Label { attempt: 2, ..launched.instances[0].label }.to_string();
    for label in ["x-not-yours", "gs-zzzzzzzz-01m7qb6vxjed5t5acbx1njvke0-1", &format!("{own}0000"), &another] {
        let seen = Input::Seen { attempt: 1, sighting: shown("theirs", label), look: look(2) };
        let told = step(&launched.session, &launched.instances, seen, &rules, at(2)).unwrap();
        let row = &told.instances[0];
        assert_eq!((row.native_id.as_deref(), row.launch, row.segments.len()), (None, Launch::Unknown, 0), "{label}");
        assert!(told.actions.is_empty() && told.events.iter().any(|e| e.message.contains("is not this one's")), "{label}: {:?}", told.actions);
        // Ended now, it is not destroyed, and gone when lists have not shown ours.
        let ask = Input::Asked { ask: Ask::End(EndReason::DestroyedByUser), actor: Actor::Service };
        let mut ended = step(&told.session, &told.instances, ask, &rules, at(3)).unwrap();
        for round in 1..20 {
            let missing = Input::Missing { attempt: 1, look: look(600 * round), by: LookBy::List };
            ended = step(&ended.session, &ended.instances, missing, &rules, at(600 * round)).unwrap();
            assert!(ended.actions.is_empty(), "{label}: {:?}", ended.actions);
        }
        assert_eq!(ended.session.state, State::Stopped, "{label}");
        // Or it goes on with the machine that carries the label.
        let seen = Input::Seen { attempt: 1, sighting: shown("ours", &own), look: look(4) };
        let found = step(&told.session, &told.instances, seen, &rules, at(4)).unwrap();
        assert_eq!(found.instances[0].native_id.as_deref(), Some("ours"), "{label}");
        assert!(found.actions.contains(&Action::AttachKeys(1)), "{label}: {:?}", found.actions);
    }
    // Renamed by hand later, it is ours all the same.
    let named =
        step(&launched.session, &launched.instances, Input::Seen { attempt: 1, sighting: shown("theirs", &own), look: look(2) }, &rules, at(2))
            .unwrap();
    let again =
        step(&named.session, &named.instances, Input::Seen { attempt: 1, sighting: shown("theirs", "mine"), look: look(3) }, &rules, at(3)).unwrap();
    assert_eq!(again.instances[0].native_id.as_deref(), Some("theirs"));
    // Without any label it is there as long as lists show it, whatever a look by its id says; and ours when enough have.
    let mut there = named.clone();
    there.instances.clone_from(&launched.instances);
    let quorum = rules.policy.absence_quorum;
    let unlabelled = |round: u64| Input::Missing { attempt: 1, look: look(90 * round), by: LookBy::Label };
    for round in 1..=u64::from(quorum) {
        assert!(!there.instances[0].vouched_by(quorum), "{round}");
        there = step(&launched.session, &there.instances, unlabelled(round), &rules, at(90 * round)).unwrap();
        assert!(there.durable, "it counts in the next life of the server, too");
        let by_id = Input::Missing { attempt: 1, look: look(90 * round + 1), by: LookBy::Id };
        there = step(&launched.session, &there.instances, by_id, &rules, at(90 * round + 1)).unwrap();
        let row = &there.instances[0];
        assert!(row.open() && row.native_id.as_deref() == Some("theirs") && !row.touchable(), "{round}: {row:?}");
        assert_eq!((row.absence.lists, row.absence.by_id, row.absence.unlabelled), (0, false, u8::try_from(round).unwrap()));
    }
    assert!(there.instances[0].vouched_by(quorum));
    let later = step(&launched.session, &there.instances, Input::Resumed, &rules, at(90 * 8)).unwrap();
    assert!(later.instances[0].vouched_by(quorum), "a restart forgets nothing of it");
    let gone = Input::Missing { attempt: 1, look: look(90 * 9), by: LookBy::List };
    let gone = step(&launched.session, &there.instances, gone, &rules, at(90 * 9)).unwrap();
    assert!(gone.durable && !gone.instances[0].vouched_by(quorum), "one that goes away is nobody's");
    // Whoever ends it at once has it looked at first. One that a look does not find may be anybody's: that it is not there is
    // proven by looks alone, and when it appears with our label after all, it is a latecomer.
    let ask = Input::Asked { ask: Ask::End(EndReason::DestroyedByUser), actor: Actor::Service };
    let ended = step(&launched.session, &launched.instances, ask, &rules, at(2)).unwrap();
    assert_eq!(ended.actions, [Action::Look(1)]);
    let seen = Input::Seen { attempt: 1, sighting: shown("theirs", &own), look: look(3) };
    let done = step(&ended.session, &ended.instances, seen, &rules, at(3)).unwrap();
    assert!(done.actions.contains(&Action::Destroy(1)), "{:?}", done.actions);
    let mut unseen = ended;
    for second in (3..1_200).step_by(20) {
        for by in [LookBy::List, LookBy::Id] {
            let missing = Input::Missing { attempt: 1, look: look(second), by };
            unseen = step(&unseen.session, &unseen.instances, missing, &rules, at(second)).unwrap();
            assert!(!unseen.actions.contains(&Action::Destroy(1)), "at {second} s: {:?}", unseen.actions);
        }
        let row = &unseen.instances[0];
        assert!(row.settled.is_some() || row.next_look.is_some() || unseen.actions.contains(&Action::Look(1)), "at {second} s: it is forgotten");
    }
    assert_eq!((unseen.session.state, unseen.instances[0].settled.map(|s| s.evidence)), (State::Stopped, Some(Evidence::Vanished)));
    assert_eq!(unseen.session.cost.low, Nanos(0), "nobody ever saw it");
    let late = Input::Seen { attempt: 1, sighting: shown("theirs", &own), look: look(2_000) };
    let late = step(&unseen.session, &unseen.instances, late, &rules, at(2_000)).unwrap();
    assert!(late.actions.contains(&Action::Destroy(1)), "{:?}", late.actions);
}

#[tokio::test(start_paused = true)]
async fn providers_have_terms() {
    let (offers, rules) = market().await;
    assert!(offers.len() > 40);
    assert!(rules.terms.contains_key(&ProviderId::new("vastai")) && rules.terms.contains_key(&ProviderId::new("tensordock")));
}

/// What a sighting says of the account: something where its call went with known credentials, and nothing else.
#[tokio::test(start_paused = true)]
async fn a_sighting_tells_whose_a_machine_is_when_it_is_known_whose_credentials_showed_it() {
    let (offers, mut rules) = market().await;
    let offer = Arc::clone(&offers[0]);
    let account = |rules: &mut Rules, account: &str, changed_at| {
        let terms = rules.terms.get_mut(&offer.provider).unwrap();
        (terms.account, terms.changed_at) = (account.to_owned(), changed_at);
    };
    let at = |seconds: u64| BEGIN + Duration::from_secs(seconds);
    account(&mut rules, "A", None);
    let session = Session::new(SessionId::new(BEGIN, 1), request(any(None)), std::collections::BTreeMap::new(), rules.policy.hard_max, BEGIN);
    let chosen = step(&session, &[], Input::Chosen(Choice { offer: Arc::clone(&offer), disk_gb: 100 }), &rules, at(1)).unwrap();
    let rented = |of: &str| Instance { account: of.to_owned(), ..chosen.instances[0].clone() };
    let label = |attempt| Label { attempt, ..chosen.instances[0].label };
    let foreign = Label { session: SessionId::new(BEGIN, 2), ..label(1) };
    // Whose the row was and whose credentials are known, since when; the label seen and when it was asked for; whose it is then.
    for (before, known, changed, shown, asked, after) in [
        ("A", "", None, label(1), 10, "A"),
        ("A", "", Some(at(5)), label(1), 10, "A"),
        ("A", "B", Some(at(20)), label(1), 10, "A"),
        ("A", "B", Some(at(10)), label(1), 10, "A"),
        ("A", "B", Some(at(9)), label(1), 10, "B"),
        ("A", "B", None, label(7), 10, "B"),
        ("A", "B", None, foreign, 10, "A"),
        ("", "", None, label(1), 10, ""),
        ("", "B", Some(at(20)), label(1), 10, ""),
        ("", "B", None, foreign, 10, ""),
    ] {
        account(&mut rules, known, changed);
        let sighting = Box::new(Sighting { status: InstanceStatus::Running, ..Sighting::untold("n1", Some(shown.to_string())) });
        let seen = Input::Seen { attempt: 1, sighting, look: Look { sent: at(asked), answered: at(30) } };
        // One that is too many is known by its id, and carries the label of another attempt.
        let one_too_many = Instance { native_id: Some("n1".to_owned()), named: true, ..rented(before) };
        let row = if shown.attempt == 7 { one_too_many } else { rented(before) };
        let next = step(&chosen.session, &[row], seen, &rules, at(30)).unwrap();
        assert_eq!(next.instances[0].account, after, "{before:?} {known:?} {changed:?} {shown}");
        assert!(next.durable || before == after);
    }
}
