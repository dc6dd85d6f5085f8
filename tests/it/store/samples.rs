//! Sessions, instances and events to put into a store: one with everything in it, and plain ones by number.

use gpu_shopper::domain::event::{Actor, Event, EventType, Matchable};
use gpu_shopper::domain::gpu::GpuModel;
use gpu_shopper::domain::idle::{IdleClock, Signal};
use gpu_shopper::domain::ids::{ConsumerId, Label, MachineId, OfferId, ProviderId, SessionId, Tag};
use gpu_shopper::domain::instance::{Absence, Billed, Desired, Destroying, Evidence, Instance, InstanceStatus, Launch, Seen, Settled, SshEndpoint};
use gpu_shopper::domain::memo::Memo;
use gpu_shopper::domain::meter::{Amount, Segment};
use gpu_shopper::domain::money::{Nanos, Rate};
use gpu_shopper::domain::offer::{Component, DiskTerms, Offer, OfferFilter, OfferOrder, Price, Prior, Region, RentalKind, Traffic};
use gpu_shopper::domain::session::{
    Attempt, AttemptFailure, Condition, ConditionType, EndReason, Failover, FailoverScope, LaunchMode, Pace, Request, SealedStart, Session, Stage,
    State, StoragePolicy, Target, Truth, Workload,
};
use gpu_shopper::domain::time::{Look, Time};
use gpu_shopper::domain::verify::{GpuReport, Verify};
use gpu_shopper::store::{Batch, RequestRecord};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// 2026-11-23 21:58:45.123.
pub const NOW: Time = Time::from_millis(1_795_471_125_123);

pub const HOUR: Duration = Duration::from_secs(3600);

pub fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub fn offer(provider: &str, gpu: &str) -> Offer {
    Offer {
        id: OfferId::new(&format!("{provider}-81234567")),
        provider: ProviderId::new(provider),
        machine: MachineId::new("m-4711"),
        host: None,
        gpu: GpuModel::canonical(gpu),
        gpu_raw: Arc::from(gpu),
        gpu_count: 2,
        gpu_memory_mib: 24_576,
        region: Arc::new(Region { country: Some("NO".to_owned()), area: None, raw: " Norway, NO".to_owned() }),
        rental: RentalKind::Interruptible,
        min_bid: Some(Rate(123_456_789_012)),
        base: Price { gpu: Rate(246_666_666_667), cpu: Rate(1), memory: Rate(2), disk: Rate::ZERO },
        disk: DiskTerms { per_gb: Rate(205_479_452), min_gb: 10, step_gb: 5, max_gb: 900, default_gb: 50 },
        traffic: Traffic { up_per_gb: Nanos(2_000_000), down_per_gb: Nanos(1_500_000) },
        reliability: Some(0.994_135_672_718_231_1),
        verified: Some(true),
        cuda: Some(1204),
        cpu_millis: Some(15_500),
        memory_mib: Some(64_213),
        direct_ports: Some(true),
        host_end: Some(Time::from_millis(1_800_000_000_001)),
        slots: Some(1),
        confidence: 0.1 + 0.2,
        prior: Prior::default(),
        seen_at: NOW,
        memo: Memo::default(),
    }
}

fn request(consumer: &str) -> Request {
    Request {
        consumer: ConsumerId::new(consumer),
        workload: Workload::Ssh,
        target: Target::Offer(OfferId::new("vastai-81234567")),
        reservation: HOUR,
        idle_threshold: Duration::ZERO,
        storage: StoragePolicy::Destroy,
        template: None,
        image: None,
        disk_gb: None,
        start: SealedStart::default(),
        launch_mode: LaunchMode::Ssh,
        model_id: None,
        quantization: None,
        exposed_ports: Vec::new(),
        public_key: "ssh-ed25519 AAAAC3Nza someone@somewhere".to_owned(),
        ssh_timeout: None,
        verify: Verify::Gpu,
        bid: None,
        failover: Failover { scope: FailoverScope::None, max_attempts: 1, max_price: None },
        max_price: None,
        max_total_cost: None,
        allow_same_offer: false,
    }
}

/// A plain session: number `n`, created `n` seconds after [`NOW`], in PENDING, version 1, no event.
pub fn plain(n: u64) -> Session {
    let at = NOW + Duration::from_secs(n);
    let mut session = Session::new(SessionId::new(at, n.into()), request("default"), BTreeMap::new(), 12 * HOUR, at);
    session.version = 1;
    session
}

pub fn attempt(number: u8, provider: &str, gpu: &str) -> Attempt {
    Attempt {
        number,
        offer: offer(provider, gpu).into(),
        disk_gb: 50,
        started_at: NOW,
        stage: Stage::Booting,
        came_to_be: true,
        failure: None,
        text: String::new(),
        ended_at: None,
        cost: Nanos::ZERO,
    }
}

/// A session with something in every field.
pub fn rich() -> Session {
    let at = |s: u64| NOW + Duration::from_secs(s);
    let mut session = plain(7);
    let request = Request {
        workload: Workload::LlmVllm,
        target: Target::Requirements {
            filter: Box::new(OfferFilter {
                providers: vec![ProviderId::new("vastai")],
                gpu_models: vec![GpuModel::canonical("4090")],
                min_reliability: Some(0.95),
                max_price: Some(Rate(1_000_000_000_001)),
                regions: vec!["NO".to_owned()],
                host_end_after: Some(at(9)),
                ..OfferFilter::default()
            }),
            order: OfferOrder::ExpectedCost,
        },
        reservation: Duration::new(5400, 123_456_789),
        idle_threshold: Duration::from_secs(1800),
        storage: StoragePolicy::Preserve,
        image: Some("vllm/vllm-openai:v0.6".to_owned()),
        disk_gb: Some(80),
        start: SealedStart {
            sealed: Some("AQ==".to_owned()),
            env_names: vec!["A".to_owned(), "ü \u{1f600} \\ \u{0}".to_owned()],
            secret_env_names: vec!["S".to_owned()],
            on_start_sha256: Some("00ff".to_owned()),
            registry: Some("ghcr.io".to_owned()),
        },
        launch_mode: LaunchMode::Entrypoint,
        model_id: Some("Qwen/Qwen2.5-7B".to_owned()),
        exposed_ports: vec![8000, 65_535],
        ssh_timeout: Some(Duration::from_millis(1)),
        verify: Verify::Strict,
        bid: Some(Rate(3)),
        failover: Failover { scope: FailoverScope::SameMemory, max_attempts: 5, max_price: Some(Rate(i64::MAX)) },
        max_price: Some(Rate(2)),
        max_total_cost: Some(Nanos(i64::MAX)),
        allow_same_offer: true,
        ..request("team ü")
    };
    session.request = request.into();
    session.labels = labels(&[("team", "vision"), ("run", "1'; DROP TABLE sessions; --")]);
    session.state = State::Failed;
    session.state_at = at(300);
    session.stage = Stage::GpuVerified;
    session.stage_at = at(200);
    session.end_reason = Some(EndReason::HostLost);
    session.status_message = "the host went away".to_owned();
    session.error = Some("offline for 10 minutes".to_owned());
    let mut first = attempt(1, "tensordock", "RTX A6000");
    first.failure = Some(AttemptFailure::OfferGone);
    first.ended_at = Some(at(30));
    first.text = "no available nodes".to_owned();
    Arc::make_mut(&mut first.offer).reliability = None;
    let mut second = attempt(2, "vastai", "RTX 4090");
    second.cost = Nanos(123);
    session.attempts = vec![first, second];
    session.conditions = vec![Condition { kind: ConditionType::PriceOk, status: Truth::Unknown, reason: "Untold".to_owned(), since: at(3) }];
    session.price = session.attempts[1].offer.price(Some(80));
    session.endpoint = Some(SshEndpoint { host: "203.0.113.7".to_owned(), port: 41_022, user: "root".to_owned(), proxied: false });
    session.ports = vec![(22, 41_022), (8000, 41_023)];
    session.host_key = Some("ssh-ed25519 AAAAhost".to_owned());
    session.gpu_report =
        Some(GpuReport { gpus: vec![("NVIDIA GeForce RTX 4090".to_owned(), 24_564)], driver: Some("550.54.15".to_owned()), cuda: Some(1204) });
    session.running_at = Some(at(100));
    session.stopped_at = Some(at(300));
    session.expiring_told = true;
    session.cost_warned = true;
    session.idle = IdleClock { since: Some(at(110)), looks: 3, warned: true, last: Some(Signal::SshConnections), ..IdleClock::begin(HOUR, at(100)) };
    session.cost = Amount { cost: Nanos(246_666_667), low: Nanos(246_666_667), high: Nanos(250_000_000), second: Nanos(68_519) };
    session.cost_final = true;
    session.version = 41;
    session.pace = Pace {
        progress_at: at(150),
        progress: Some("layer 3 of 9".to_owned()),
        next_probe: Some(at(151)),
        refused_logins: 3,
        endpoint_index: 1,
        proxy_tried_at: None,
        probing_since: Some(at(149)),
        probes: 17,
        keys_attached: true,
        offline_since: Some(at(160)),
        ..Pace::default()
    };
    session
}

pub fn label(session: &Session, attempt: u8) -> Label {
    Label { tag: Tag::from_hash([1, 2, 3, 4, 5]), session: session.id, attempt }
}

/// An open debt of a session's attempt, with one running segment from `from` on.
pub fn instance(session: &Session, attempt: u8, provider: &str, from: Time) -> Instance {
    let price = Price { gpu: Rate(300_000_000_000), ..Price::default() };
    Instance {
        label: label(session, attempt),
        provider: ProviderId::new(provider),
        account: String::new(),
        offer: OfferId::new(&format!("{provider}-81234567")),
        machine: MachineId::new("m-4711"),
        native_id: None,
        named: false,
        launch: Launch::Intended,
        desired: Desired::Present,
        intended_at: from,
        launched: None,
        uncertain_since: None,
        offered: price,
        price,
        priced_at: Some(from),
        price_asked_at: None,
        unseen: false,
        billing: vec![(Component::Gpu, Billed::WhileRunning)],
        seen: None,
        absence: Absence::default(),
        destroy: Destroying::default(),
        off_by: Some(from),
        next_look: Some(from),
        noted_at: from,
        settled: None,
        segments: vec![Segment {
            session: session.id,
            attempt,
            ordinal: 0,
            component: Component::Gpu,
            rate: Rate(300_000_000_000),
            from_low: from,
            from,
            to: from + Duration::from_secs(60),
            to_high: None,
            presumed: false,
        }],
    }
}

/// An instance with something in every field.
pub fn rich_instance(session: &Session) -> Instance {
    let look = Look { sent: NOW, answered: NOW + Duration::from_millis(250) };
    let mut it = instance(session, 2, "vastai", NOW);
    it.account = "4242".to_owned();
    it.native_id = Some("19000001".to_owned());
    it.launch = Launch::Accepted;
    it.desired = Desired::Gone;
    it.launched = Some(look);
    it.uncertain_since = Some(NOW);
    it.billing = vec![(Component::Gpu, Billed::WhileRunning), (Component::Disk, Billed::WhileOnline)];
    it.seen = Some(Seen { look, status: InstanceStatus::Offline, raw: "offline".to_owned() });
    it.absence = Absence { lists: 2, unlabelled: 1, last_list: Some(NOW), since: Some(NOW), by_id: true };
    it.destroy = Destroying {
        wanted_at: Some(NOW),
        tries: 3,
        next_at: Some(NOW + HOUR),
        answered_at: Some(NOW),
        refused_until: Some(NOW),
        last_error: Some("not ready".to_owned()),
        not_found: 1,
        not_found_at: Some(NOW),
        ordered: true,
    };
    it.settled = Some(Settled { at: NOW + HOUR, evidence: Evidence::NotFoundTwice });
    let disk = Segment { ordinal: 1, component: Component::Disk, to_high: Some(NOW + HOUR), ..it.segments[0].clone() };
    it.segments.push(disk);
    it
}

/// The next event of a session; moves its revision, sequence and version.
pub fn event(session: &mut Session, revision: i64) -> Event {
    let before = (session.sequence > 0).then(|| Matchable::of(session));
    session.revision = revision;
    session.sequence += 1;
    session.version += 1;
    Event {
        revision,
        sequence: session.sequence,
        session_id: session.id,
        kind: EventType::StateChanged,
        from_state: session.state,
        to_state: session.state,
        stage: session.stage,
        end_reason: session.end_reason,
        actor: Actor::User("alice".to_owned()),
        at: session.created_at + Duration::from_secs(u64::try_from(session.sequence).unwrap()),
        message: format!("event {}", session.sequence),
        cost: session.cost,
        before,
        session: Arc::new(session.clone()),
        memo: Memo::default(),
    }
}

/// A batch with the next event of a session, and the session after it.
pub fn told(session: &mut Session, revision: i64) -> Batch {
    let event = event(session, revision);
    Batch { sessions: vec![event.session.clone()], events: vec![Arc::new(event)], ..Batch::default() }
}

/// A batch with nothing but this session.
pub fn only(session: &Session) -> Batch {
    Batch { sessions: vec![Arc::new(session.clone())], ..Batch::default() }
}

pub fn accepted(session: &Session, request_id: &str) -> RequestRecord {
    RequestRecord {
        principal: "default".to_owned(),
        method: "CreateSession".to_owned(),
        request_id: request_id.to_owned(),
        hash: "5f1d".to_owned(),
        session: session.id,
        created_at: session.created_at,
        watch_revision: 0,
        sealed: Some(vec![0, 1, 255]),
    }
}
