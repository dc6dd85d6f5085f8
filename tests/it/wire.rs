//! What crosses the wire: words, money and times both ways, requests with all their faults, answers, errors.

use gpu_shopper::domain::event::EventType;
use gpu_shopper::domain::gpu::GpuModel;
use gpu_shopper::domain::ids::{ConsumerId, MachineId, OfferId, ProviderId, SessionId};
use gpu_shopper::domain::instance::{Desired, Evidence, InstanceStatus, Launch, SshEndpoint};
use gpu_shopper::domain::memo::Memo;
use gpu_shopper::domain::meter::Amount;
use gpu_shopper::domain::money::{Nanos, Rate};
use gpu_shopper::domain::offer::{Component, DiskTerms, Offer, OfferOrder, Price, Prior, Region, RentalKind, Traffic};
use gpu_shopper::domain::session::{
    Attempt, AttemptFailure, ConditionType, EndReason, FailoverScope, LaunchMode, Quantization, SealedStart, Session, Stage, State, StoragePolicy,
    Target, Truth, Workload,
};
use gpu_shopper::domain::time::Time;
use gpu_shopper::domain::verify::Verify;
use gpu_shopper::grpc::convert::fields::Fields;
use gpu_shopper::grpc::convert::words::Word;
use gpu_shopper::grpc::convert::{answers, operations, requests};
use gpu_shopper::grpc::{KeyPair, Settings, auth, pb, status};
use gpu_shopper::ports::Breaker;
use gpu_shopper::services::operator::SpendRate;
use gpu_shopper::services::sweeper::HoldKind;
use gpu_shopper::services::{Code, Error, Violation, api};
use proptest::prelude::*;
use secrecy::ExposeSecret;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tonic_types::StatusExt;

const SESSION: &str = "01kaphz700fay8vvr14d2pf2db";

pub fn settings() -> Settings {
    Settings {
        hard_max: Duration::from_secs(12 * 3600),
        default_max_attempts: 8,
        bookmark: Duration::from_secs(15),
        providers: vec![ProviderId::new("vastai"), ProviderId::new("tensordock")],
        offer_ids: gpu_shopper::providers::REGISTER.iter().map(|e| e.offer_id).collect(),
        parse_public_key: |text| if text.starts_with("ssh-ed25519 ") { Ok(text.trim().to_owned()) } else { Err("no public key".to_owned()) },
        make_key_pair: Arc::new(|comment| Ok(KeyPair { public_key: format!("ssh-ed25519 AAAA {comment}"), private_key: "made".to_owned().into() })),
        fingerprint: |line| Some(format!("SHA256:{}", line.len())),
        known_hosts_line: |host, port, key| format!("[{host}]:{port} {key}"),
        largest_request: 1024 * 1024,
    }
}

fn create() -> pb::CreateSessionRequest {
    pb::CreateSessionRequest { target: Some(pb::create_session_request::Target::OfferId("vastai-1".to_owned())), ..Default::default() }
}

fn by_requirements(filter: pb::OfferFilter) -> pb::CreateSessionRequest {
    let wanted = pb::Requirements { filter: Some(filter), order_by: String::new() };
    pb::CreateSessionRequest { target: Some(pb::create_session_request::Target::Requirements(wanted)), ..Default::default() }
}

fn dollars(units: i64, nanos: i32) -> Option<pb::Money> {
    Some(pb::Money { currency_code: String::new(), units, nanos })
}

fn secs(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn violated(error: &Error) -> Vec<&str> {
    assert_eq!((error.code, error.reason), (Code::InvalidArgument, "INVALID_FIELD"), "{error:?}");
    error.violations.iter().map(|v| v.field.as_str()).collect()
}

// === words ===

/// Every domain value has its counterpart and comes back; the wire has nothing beside them.
fn both_ways<T: Word + PartialEq + std::fmt::Debug>(all: &[T]) {
    let names = T::allowed();
    let mut numbers = BTreeSet::new();
    for value in all {
        let number = value.number();
        assert!(number > 0 && numbers.insert(number), "{value:?}");
        assert_eq!(T::Wire::try_from(number).ok().and_then(T::read), Some(*value));
    }
    let on_wire = (1..=200).filter(|n| T::Wire::try_from(*n).is_ok()).count();
    assert_eq!((on_wire, names.len()), (all.len(), all.len()), "{}", T::NAME);
    assert!(T::Wire::try_from(0).ok().is_some_and(|w| T::read(w).is_none()), "0 means not said");
}

/// The wire's names are the domain's words in capitals behind a prefix.
fn same_words<T: Word>(prefix: &str, words: &[&str]) {
    let expected: Vec<String> = words.iter().map(|w| format!("{prefix}{}", w.to_uppercase())).collect();
    assert_eq!(T::allowed(), expected);
}

#[test]
fn enum_words_are_total_both_ways() {
    macro_rules! worded {
        ($($name:ident $prefix:literal),+) => {$(
            both_ways($name::ALL);
            same_words::<$name>($prefix, &$name::ALL.iter().map(|v| v.word()).collect::<Vec<_>>());
        )+};
    }
    worded!(
        State "STATE_", Stage "STAGE_", EndReason "END_REASON_", AttemptFailure "ATTEMPT_FAILURE_", Workload "WORKLOAD_TYPE_",
        StoragePolicy "STORAGE_POLICY_", LaunchMode "LAUNCH_MODE_", Quantization "QUANTIZATION_", FailoverScope "FAILOVER_SCOPE_", ConditionType "TYPE_"
    );
    both_ways(&EventType::ALL);
    same_words::<EventType>("TYPE_", &EventType::ALL.map(EventType::word));
    both_ways(&Component::ALL);
    same_words::<Component>("COST_COMPONENT_", &Component::ALL.map(Component::word));
    both_ways(&[Verify::Ssh, Verify::Gpu, Verify::Strict]);
    both_ways(&[RentalKind::OnDemand, RentalKind::Interruptible]);
    both_ways(&[Truth::True, Truth::False, Truth::Unknown]);
    both_ways(&[Launch::Intended, Launch::Accepted, Launch::Unknown, Launch::Refused]);
    both_ways(&[Desired::Present, Desired::Gone]);
    both_ways(&HoldKind::ALL);
    same_words::<HoldKind>("HOLD_KIND_", &HoldKind::ALL.map(HoldKind::word));
    both_ways(&[Breaker::Closed, Breaker::Open, Breaker::HalfOpen]);
    use Evidence as E;
    both_ways(&[E::LaunchRefused, E::NeverLaunched, E::NeverAppeared, E::NotFoundTwice, E::Vanished, E::Operator]);
    use InstanceStatus as S;
    both_ways(&[S::Scheduled, S::Starting, S::Running, S::Stopped, S::Failed, S::Offline, S::Deleting, S::Gone, S::Unknown]);
}

// === what operators are told ===

#[test]
fn what_is_spent_adds_up_and_says_how_long_the_balance_lasts() {
    let dollar = Rate::from_nanos(1_000_000_000);
    let spent = |provider: &str, balance| SpendRate {
        provider: ProviderId::new(provider),
        running: dollar,
        stopping: dollar,
        strays: dollar,
        foreign: Rate::ZERO,
        unpriced: 2,
        balance,
    };
    let told = operations::spend(&[spent("tensordock", None), spent("vastai", Some(Nanos(6_000_000_000)))]);
    assert_eq!((told.providers[0].lasts, told.providers[0].balance.clone()), (None, None));
    assert_eq!((told.providers[1].lasts, told.providers[1].balance_text.as_str()), (secs(2 * 3600), "$6"));
    let total = told.total.unwrap();
    assert_eq!((total.running_per_hour, total.total_per_hour), (Some(answers::rate(dollar + dollar)), Some(answers::money(Nanos(6_000_000_000)))));
    assert_eq!((total.unpriced_count, operations::spend(&[]).total.unwrap().total_text.as_str()), (4, "$0/h"));
}

// === money, time ===

proptest! {
    #[test]
    fn money_crosses_the_wire_exactly(nanos in 1_i64..=1_000_000_000_000_000) {
        let wire = answers::money(Nanos(nanos));
        prop_assert_eq!(wire.currency_code.as_str(), "USD");
        let mut fields = Fields::default();
        prop_assert_eq!(fields.money("m", Some(&wire)), Some(Nanos(nanos)));
        prop_assert_eq!(fields.rate("m", Some(&wire)), Some(Rate::from_nanos(nanos)));
    }

    #[test]
    fn times_and_durations_cross_the_wire_exactly(millis in -62_135_596_800_000_i64..253_402_300_800_000, length in 0_u64..1_000_000_000_000) {
        let mut fields = Fields::default();
        prop_assert_eq!(fields.time("t", Some(&answers::time(Time::from_millis(millis)))), Some(Time::from_millis(millis)));
        let length = Duration::from_millis(length);
        prop_assert_eq!(fields.well_formed("d", Some(&answers::duration(length)), ""), Some(length));
        prop_assert!(fields.good());
    }
}

#[test]
fn amounts_beyond_what_may_be_asked_still_cross_to_the_caller_exactly() {
    for (nanos, units, rest) in [(-1_750_000_000, -1, -750_000_000), (i64::MAX, 9_223_372_036, 854_775_807), (0, 0, 0), (-1, 0, -1)] {
        let wire = answers::money(Nanos(nanos));
        assert_eq!((wire.units, wire.nanos), (units, rest));
    }
    // Rates are finer than the wire's money: half to even.
    assert_eq!(answers::rate(Rate(246_666_666_500)).nanos, 246_666_666);
    assert_eq!(answers::rate(Rate(246_666_667_500)).nanos, 246_666_668);
}

#[test]
fn bad_money_is_refused_with_field_value_and_rule() {
    let money = |currency: &str, units, nanos| pb::Money { currency_code: currency.to_owned(), units, nanos };
    for (wire, field, says) in [
        (money("EUR", 1, 0), "bid.currency_code", "`EUR`; allowed: `USD`"),
        (money("usd", 1, 0), "bid.currency_code", "`usd`"),
        (money("", 1, -1), "bid", "same sign"),
        (money("", -1, 1), "bid", "same sign"),
        (money("", 0, 1_000_000_000), "bid", "999999999"),
        (money("", i64::MAX, 0), "bid", "too much"),
        (money("", 1_000_000, 1), "bid", "at most 1000000"),
        (money("USD", 0, 0), "bid", "above 0"),
        (money("USD", 0, -5), "bid", "above 0"),
    ] {
        let mut fields = Fields::default();
        assert_eq!(fields.money("bid", Some(&wire)), None, "{wire:?}");
        let error = fields.done(()).unwrap_err();
        assert_eq!(error.violations[0].field, field);
        assert!(error.violations[0].description.contains(says), "{}", error.violations[0].description);
    }
    assert_eq!(Fields::default().money("bid", None), None);
}

// === requests ===

#[test]
fn the_least_create_gets_the_documented_defaults() {
    let made = requests::create(&create(), &settings()).unwrap();
    let r = &made.request;
    assert_eq!(r.consumer, ConsumerId::new("default"));
    assert_eq!(r.target, Target::Offer(OfferId::new("vastai-1")));
    assert_eq!((r.workload, r.storage, r.verify), (Workload::Ssh, StoragePolicy::Destroy, Verify::Gpu));
    assert_eq!((r.reservation, r.idle_threshold), (Duration::from_secs(3600), Duration::ZERO));
    assert_eq!((r.failover.scope, r.failover.max_attempts, r.failover.max_price), (FailoverScope::None, 8, None));
    assert_eq!((r.disk_gb, r.bid, r.max_price, r.max_total_cost, r.ssh_timeout), (None, None, None, None, None));
    assert_eq!((&r.image, &r.start, r.launch_mode, r.allow_same_offer), (&None, &SealedStart::default(), LaunchMode::Ssh, false));
    assert_eq!(r.public_key, "ssh-ed25519 AAAA default", "a pair is made");
    assert_eq!(made.private_key.unwrap().expose_secret(), "made");
    assert_eq!((made.idempotency, made.validate_only), (None, false));

    let made = requests::create(&by_requirements(pb::OfferFilter::default()), &settings()).unwrap();
    assert_eq!(made.request.failover.scope, FailoverScope::Any);
    let Target::Requirements { filter, order } = made.request.target else { panic!("requirements") };
    assert_eq!((filter.rental, order), (Some(RentalKind::OnDemand), OfferOrder::ExpectedCost));

    let short = Settings { hard_max: Duration::from_secs(1800), ..settings() };
    assert_eq!(requests::create(&create(), &short).unwrap().request.reservation, short.hard_max, "the default keeps the limit");
}

#[test]
fn everything_wrong_with_a_create_is_told_at_once() {
    let filter = pb::OfferFilter {
        providers: vec!["aws".to_owned()],
        gpu_models: vec![String::new()],
        min_gpu_memory_mib: Some(0),
        gpu_count: Some(-1),
        max_price_per_hour: dollars(0, 0),
        regions: vec!["x".to_owned()],
        min_reliability: Some(f64::NAN),
        min_cuda: Some("12.x".to_owned()),
        disk_gb: Some(0),
        rental_kind: 9,
        min_confidence: Some(1.5),
        min_host_end_time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
        ..Default::default()
    };
    let mut request = by_requirements(filter);
    request.consumer_id = Some(String::new());
    request.workload_type = 77;
    request.reservation = secs(30);
    request.storage_policy = -1;
    request.docker_image = Some("two words".to_owned());
    request.disk_gb = Some(200_000);
    request.on_start_cmd = Some("x".repeat(20_000));
    request.env = BTreeMap::from([("1BAD".to_owned(), "v".to_owned()), ("GOOD".to_owned(), "a\nb".to_owned())]);
    request.ssh_public_key = Some("-----BEGIN OPENSSH PRIVATE KEY-----".to_owned());
    request.ssh_timeout = secs(10);
    request.verify = 9;
    request.bid = dollars(-1, 0);
    request.failover = Some(pb::Failover { scope: 8, max_attempts: Some(0), max_price_per_hour: dollars(1, -1) });
    request.max_price_per_hour = Some(pb::Money { currency_code: "EUR".to_owned(), units: 1, nanos: 0 });
    request.max_total_cost = dollars(0, 0);
    request.labels = BTreeMap::from([("team!".to_owned(), "v".to_owned()), ("ok".to_owned(), "x".repeat(300))]);
    request.request_id = "with space".to_owned();
    let error = requests::create(&request, &settings()).unwrap_err();
    let found: BTreeSet<&str> = violated(&error).into_iter().collect();
    let expected = BTreeSet::from([
        "requirements.filter.providers",
        "requirements.filter.gpu_models",
        "requirements.filter.min_gpu_memory_mib",
        "requirements.filter.gpu_count",
        "requirements.filter.max_price_per_hour",
        "requirements.filter.regions",
        "requirements.filter.min_reliability",
        "requirements.filter.min_cuda",
        "requirements.filter.disk_gb",
        "requirements.filter.rental_kind",
        "requirements.filter.min_confidence",
        "requirements.filter.min_host_end_time",
        "workload_type",
        "consumer_id",
        "reservation",
        "storage_policy",
        "docker_image",
        "disk_gb",
        "on_start_cmd",
        "env",
        "env.GOOD",
        "ssh_public_key",
        "ssh_timeout",
        "verify",
        "bid",
        "failover.scope",
        "failover.max_attempts",
        "failover.max_price_per_hour",
        "max_price_per_hour.currency_code",
        "max_total_cost",
        "labels",
        "labels.ok",
        "request_id",
    ]);
    assert_eq!(found, expected);
    let says = |field: &str| &error.violations.iter().find(|v| v.field == field).unwrap().description;
    assert!(says("workload_type").contains("77") && says("workload_type").contains("WORKLOAD_TYPE_SSH"));
    assert!(says("reservation").contains("30s is out of range; allowed: 60s to 43200s"));
    assert!(says("requirements.filter.providers").contains("vastai, tensordock"));
    assert!(!error.to_string().contains("a\nb"), "values of variables are not repeated");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let interruptible = RentalKind::Interruptible.number();
    let cases: Vec<(pb::CreateSessionRequest, &str)> = vec![
        (pb::CreateSessionRequest::default(), "target"),
        (pb::CreateSessionRequest { rental_kind: interruptible, ..create() }, "rental_kind"),
        (pb::CreateSessionRequest { bid: dollars(1, 0), ..by_requirements(pb::OfferFilter::default()) }, "bid"),
        (
            pb::CreateSessionRequest { rental_kind: interruptible, ..by_requirements(pb::OfferFilter { rental_kind: 1, ..Default::default() }) },
            "rental_kind",
        ),
        (pb::CreateSessionRequest { disk_gb: Some(10), ..by_requirements(pb::OfferFilter { disk_gb: Some(20), ..Default::default() }) }, "disk_gb"),
        (
            by_requirements(pb::OfferFilter { min_gpu_memory_mib: Some(2), max_gpu_memory_mib: Some(1), ..Default::default() }),
            "requirements.filter.min_gpu_memory_mib",
        ),
        (by_requirements(pb::OfferFilter { gpu_models: vec!["NVIDIA GPU".to_owned()], ..Default::default() }), "requirements.filter.gpu_models"),
    ];
    for (request, field) in cases {
        assert_eq!(violated(&requests::create(&request, &settings()).unwrap_err()), [field], "{request:?}");
    }
    let mut spot = by_requirements(pb::OfferFilter { disk_gb: Some(20), rental_kind: interruptible, ..Default::default() });
    spot.bid = dollars(0, 210_000_000);
    let made = requests::create(&spot, &settings()).unwrap().request;
    assert_eq!((made.disk_gb, made.bid), (Some(20), Rate::parse("0.21")), "what the filter says holds for the session");
}

#[test]
fn a_reservation_beyond_the_hard_limit_has_its_own_error() {
    let long = pb::CreateSessionRequest { reservation: secs(12 * 3600 + 1), ..create() };
    let error = requests::create(&long, &settings()).unwrap_err();
    assert_eq!((error.code, error.reason), (Code::OutOfRange, "HARD_MAX_EXCEEDED"));
    assert_eq!((error.metadata["hard_max"].as_str(), error.violations.len()), ("43200s", 1));
    let both = pb::CreateSessionRequest { workload_type: 77, ..long };
    assert_eq!(violated(&requests::create(&both, &settings()).unwrap_err()), ["workload_type", "reservation"]);
    for bad in [prost_types::Duration { seconds: 90, nanos: -1 }, prost_types::Duration { seconds: -90, nanos: 0 }] {
        let request = pb::CreateSessionRequest { reservation: Some(bad), ..create() };
        assert_eq!(violated(&requests::create(&request, &settings()).unwrap_err()), ["reservation"]);
    }
}

#[test]
fn the_hash_of_a_request_leaves_out_its_id_and_nothing_else() {
    let hash = |request: &pb::CreateSessionRequest| requests::create(request, &settings()).unwrap().idempotency.unwrap().hash;
    let first = pb::CreateSessionRequest {
        request_id: "a".to_owned(),
        labels: BTreeMap::from([("k".to_owned(), "v".to_owned()), ("a".to_owned(), "b".to_owned())]),
        ..create()
    };
    assert_eq!(hash(&first), hash(&pb::CreateSessionRequest { request_id: "b".to_owned(), ..first.clone() }));
    assert_ne!(hash(&first), hash(&pb::CreateSessionRequest { consumer_id: Some("x".to_owned()), ..first.clone() }));
    assert_ne!(hash(&first), hash(&pb::CreateSessionRequest { labels: BTreeMap::new(), ..first }));
    let complete = pb::CompleteSessionRequest { session_id: SESSION.to_owned(), request_id: "a".to_owned(), ..Default::default() };
    let destroy = pb::DestroySessionRequest { session_id: SESSION.to_owned(), request_id: "a".to_owned(), ..Default::default() };
    let (complete, destroy) = (requests::complete(&complete).unwrap(), requests::destroy(&destroy).unwrap());
    assert_ne!(complete.idempotency, destroy.idempotency, "the same bytes to another method are another request");
}

#[test]
fn commands_are_read_and_their_faults_told() {
    use pb::extend_session_request::Extension;
    let id: SessionId = SESSION.parse().unwrap();
    let extend = |extension| pb::ExtendSessionRequest { session_id: SESSION.to_owned(), extension, ..Default::default() };
    let asked = requests::extend(&extend(secs(1800).map(Extension::AdditionalDuration))).unwrap();
    let by = api::Command::Extend { by: Some(Duration::from_secs(1800)), to: None, override_hard_max: false };
    assert_eq!((asked.id, asked.command), (id, by));
    let to = prost_types::Timestamp { seconds: 1_764_000_000, nanos: 123_999_999 };
    let asked = requests::extend(&extend(Some(Extension::ExpireTime(to)))).unwrap();
    let to = api::Command::Extend { by: None, to: Some(Time::from_millis(1_764_000_000_123)), override_hard_max: false };
    assert_eq!(asked.command, to);
    assert_eq!(violated(&requests::extend(&extend(None)).unwrap_err()), ["extension"]);
    assert_eq!(violated(&requests::extend(&extend(secs(0).map(Extension::AdditionalDuration))).unwrap_err()), ["additional_duration"]);
    assert_eq!(violated(&requests::extend(&pb::ExtendSessionRequest::default()).unwrap_err()), ["extension", "session_id"]);

    let update = |labels: &[(&str, &str)], mask: Option<&[&str]>| pb::UpdateSessionRequest {
        session_id: SESSION.to_owned(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        update_mask: mask.map(|paths| prost_types::FieldMask { paths: paths.iter().map(|p| (*p).to_owned()).collect() }),
        ..Default::default()
    };
    let labels = |asked: requests::Asked| match asked.command {
        api::Command::Update { labels: Some(labels), idle_threshold: None } => labels.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(labels(requests::update(&update(&[("a", "b")], None)).unwrap()), 1);
    assert_eq!(labels(requests::update(&update(&[], Some(&["labels"]))).unwrap()), 0, "all are removed when that is said");
    assert_eq!(violated(&requests::update(&update(&[], None)).unwrap_err()), ["labels"], "absent is not empty");
    assert_eq!(violated(&requests::update(&update(&[("a", "b")], Some(&["state"]))).unwrap_err()), ["update_mask"]);
    let idle = |seconds: i64, mask: Option<&[&str]>| {
        let threshold = Some(prost_types::Duration { seconds, nanos: 0 });
        requests::update(&pb::UpdateSessionRequest { idle_threshold: threshold, ..update(&[("a", "b")], mask) }).map(|asked| asked.command)
    };
    let changes = |labels: bool, idle_threshold: Option<u64>| api::Command::Update {
        labels: labels.then(|| BTreeMap::from([("a".to_owned(), "b".to_owned())])),
        idle_threshold: idle_threshold.map(Duration::from_secs),
    };
    assert_eq!(idle(1800, None).unwrap(), changes(true, Some(1800)), "both were given");
    assert_eq!(idle(0, Some(&["idle_threshold"])).unwrap(), changes(false, Some(0)), "zero switches it off");
    assert_eq!(idle(1800, Some(&["labels"])).unwrap(), changes(true, None), "only what the mask names");
    assert_eq!(requests::update(&update(&[], Some(&["idle_threshold"]))).unwrap().command, changes(false, Some(0)), "named and not given is none");
    for wrong in [1, 59, 86_401, -1] {
        assert_eq!(violated(&idle(wrong, None).unwrap_err()), ["idle_threshold"], "{wrong}");
    }
    let alive = requests::keep_alive(&pb::KeepAliveRequest { session_id: SESSION.to_owned(), ..Default::default() }).unwrap();
    assert_eq!((alive.command, alive.idempotency), (api::Command::KeepAlive, None));
    assert_eq!(violated(&requests::keep_alive(&pb::KeepAliveRequest::default()).unwrap_err()), ["session_id"]);

    let rotate = |ssh_public_key: Option<&str>| {
        let ssh_public_key = ssh_public_key.map(str::to_owned);
        requests::rotate(&pb::RotateSessionKeyRequest { session_id: SESSION.to_owned(), ssh_public_key, ..Default::default() }, &settings())
    };
    let new = |public: &str| api::Command::RotateKey(api::NewKey { public: public.to_owned(), private: None });
    let own = rotate(Some("ssh-ed25519 AAAA mine ")).unwrap().command;
    assert_eq!(own, new("ssh-ed25519 AAAA mine"));
    assert!(matches!(own, api::Command::RotateKey(api::NewKey { private: None, .. })), "the caller's key has no private half here");
    match rotate(None).unwrap().command {
        api::Command::RotateKey(made) => assert_eq!(made.private.unwrap().expose_secret(), "made"),
        other => panic!("{other:?}"),
    }
    assert_eq!(violated(&rotate(Some("nonsense")).unwrap_err()), ["ssh_public_key"]);

    let complete = |outcome| requests::complete(&pb::CompleteSessionRequest { session_id: SESSION.to_owned(), outcome, ..Default::default() });
    assert_eq!(complete(0).unwrap().command, api::Command::Complete { bad_machine: false });
    assert_eq!(complete(2).unwrap().command, api::Command::Complete { bad_machine: true });
    assert_eq!(violated(&complete(3).unwrap_err()), ["outcome"]);
    assert_eq!(violated(&requests::session_id("nope").unwrap_err()), ["session_id"]);
}

#[test]
fn reading_requests_are_read_and_their_faults_told() {
    let set = settings();
    let list = pb::ListOffersRequest { page_size: 5000, order_by: "gpu_memory".to_owned(), ..Default::default() };
    let query = requests::offers(&list, &set).unwrap();
    assert_eq!((query.page_size, query.order), (1000, OfferOrder::GpuMemory));
    let list = pb::ListOffersRequest { page_size: -1, order_by: "price desc".to_owned(), ..Default::default() };
    assert_eq!(violated(&requests::offers(&list, &set).unwrap_err()), ["order_by", "page_size"]);
    let models = |names: &[&str], least| {
        let gpu_models = names.iter().map(|n| (*n).to_owned()).collect();
        let filter = Some(pb::OfferFilter { gpu_models, min_gpu_memory_mib: least, ..Default::default() });
        requests::offers(&pb::ListOffersRequest { filter, ..Default::default() }, &set).map(|query| query.filter)
    };
    // A memory size in a name is meant.
    let big = models(&["A100 80GB"], None).unwrap();
    assert_eq!((big.min_gpu_memory_mib, big.max_gpu_memory_mib), (Some(81_920), Some(81_920)));
    let any = models(&["A100", "RTX 4090"], None).unwrap();
    assert_eq!((any.min_gpu_memory_mib, any.max_gpu_memory_mib), (None, None));
    assert_eq!(models(&["A100 80GB"], Some(40_960)).unwrap().min_gpu_memory_mib, Some(40_960), "what is said apart counts");
    assert_eq!(violated(&models(&["A100 80GB", "RTX 4090"], None).unwrap_err()), ["filter.gpu_models"]);
    let one = pb::GetOfferRequest { offer_id: String::new(), disk_gb: Some(0) };
    assert_eq!(violated(&requests::offer(&one, &set).unwrap_err()), ["offer_id", "disk_gb"]);

    // The forms of what only the services know are faults among the others.
    let target = Some(pb::create_session_request::Target::OfferId("zzz".to_owned()));
    let create = pb::CreateSessionRequest { target, disk_gb: Some(0), template_hash_id: Some("-".to_owned()), ..Default::default() };
    let refused = requests::create(&create, &set).unwrap_err();
    let wrong = violated(&refused);
    assert!(["offer_id", "disk_gb", "template_hash_id"].iter().all(|field| wrong.iter().any(|w| w == field)), "{wrong:?}");
    let filter = Some(pb::OfferFilter { template_hash_id: Some(String::new()), ..Default::default() });
    let listed = pb::ListOffersRequest { filter, page_size: -1, page_token: "x".to_owned(), ..Default::default() };
    assert_eq!(violated(&requests::offers(&listed, &set).unwrap_err()), ["filter.template_hash_id", "page_size", "page_token"]);
    let watch = pb::WatchSessionsRequest {
        start: Some(pb::watch_sessions_request::Start::ResumeToken("x".to_owned())),
        bookmark_interval: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        ..Default::default()
    };
    assert_eq!(violated(&requests::watch_all(&watch, &set).unwrap_err()), ["resume_token", "bookmark_interval"]);

    let filter =
        pb::SessionFilter { consumer_id: Some("x".to_owned()), states: vec![3, 0, 42], provider: Some("aws".to_owned()), ..Default::default() };
    let list = pb::ListSessionsRequest { filter: Some(filter), ..Default::default() };
    assert_eq!(violated(&requests::sessions(&list, &set).unwrap_err()), ["filter.provider", "filter.states", "filter.states"]);

    let wait = |until: &[State], timeout| {
        let until = until.iter().map(|s| s.number()).collect();
        requests::wait(&pb::WaitSessionRequest { session_id: SESSION.to_owned(), until, timeout })
    };
    let (_, until, timeout) = wait(&[], None).unwrap();
    assert_eq!((until, timeout), (vec![State::Running, State::Stopped, State::Failed], Duration::from_secs(30)));
    assert_eq!(wait(&[State::Stopping], secs(0)).unwrap().1, [State::Stopping, State::Stopped, State::Failed]);
    assert_eq!(violated(&wait(&[], secs(601)).unwrap_err()), ["timeout"]);

    use pb::watch_session_request::Start;
    let watch = |start, bookmark_interval| {
        requests::watch(&pb::WatchSessionRequest { session_id: SESSION.to_owned(), start, bookmark_interval }, &settings())
    };
    let snapshot = api::WatchStart::Snapshot { ended_since: None };
    for (start, means) in [
        (None, snapshot.clone()),
        (Some(Start::FromNow(false)), snapshot.clone()),
        (Some(Start::FromNow(true)), api::WatchStart::Now),
        (Some(Start::ResumeToken(String::new())), snapshot),
        (Some(Start::ResumeToken("AQ".to_owned())), api::WatchStart::After("AQ".to_owned())),
    ] {
        let watch = watch(start, None).unwrap();
        assert_eq!((watch.start, watch.bookmark), (means, Duration::from_secs(15)));
    }
    assert_eq!(violated(&watch(None, secs(4)).unwrap_err()), ["bookmark_interval"]);
    let ended = pb::watch_sessions_request::Start::EndedSince(prost_types::Timestamp { seconds: 60, nanos: 0 });
    let all = pb::WatchSessionsRequest { start: Some(ended), ..Default::default() };
    assert_eq!(requests::watch_all(&all, &set).unwrap().start, api::WatchStart::Snapshot { ended_since: Some(Time::from_millis(60_000)) });

    let report = |group_by: &[&str]| {
        let group_by = group_by.iter().map(|g| (*g).to_owned()).collect();
        requests::cost_report(&pb::GetCostReportRequest { group_by, ..Default::default() }, &set)
    };
    let keys = report(&["consumer", "month", "label:team"]).unwrap().group_by;
    assert_eq!(keys, [api::GroupBy::Consumer, api::GroupBy::Month, api::GroupBy::Label("team".to_owned())]);
    assert_eq!(violated(&report(&["day", "day", "week", "label:"]).unwrap_err()), ["group_by", "group_by", "group_by"]);
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let filter = pb::CostFilter { session_id: Some("x".to_owned()), gpu_model: Some("rtx4090".to_owned()), ..Default::default() };
    let ledger =
        pb::ListLedgerEntriesRequest { start_time: at(2), end_time: at(1), filter: Some(filter.clone()), page_size: -5, ..Default::default() };
    assert_eq!(violated(&requests::ledger(&ledger, &set).unwrap_err()), ["end_time", "filter.session_id", "page_size"]);
    let ledger = pb::ListLedgerEntriesRequest { filter: Some(pb::CostFilter { session_id: None, ..filter }), ..Default::default() };
    assert_eq!(requests::ledger(&ledger, &set).unwrap().0.gpu.as_deref(), Some("RTX 4090"));
}

#[test]
fn whoever_has_not_come_through_the_port_is_nobody() {
    let refused = auth::caller(&tonic::Extensions::new()).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    assert_eq!(refused.get_details_error_info().unwrap().reason, "TOKEN_MISSING");
    let mut known = tonic::Extensions::new();
    known.insert(api::Caller { principal: "ci".to_owned(), scope: None, admin: false, request: String::new() });
    assert_eq!(auth::caller(&known).unwrap().principal, "ci");
}

#[test]
fn without_authentication_a_caller_is_its_consumer() {
    let caller = api::Caller { principal: String::new(), scope: None, admin: true, request: String::new() };
    assert_eq!(caller.speaking_for(&ConsumerId::new("alice")).principal, "alice");
    assert_eq!(api::Caller { principal: "token".to_owned(), ..caller }.speaking_for(&ConsumerId::new("alice")).principal, "token");
}

// === errors ===

#[test]
fn every_code_has_its_place_in_the_table() {
    use tonic::Code as Wire;
    let table = [
        (Code::InvalidArgument, Wire::InvalidArgument),
        (Code::OutOfRange, Wire::OutOfRange),
        (Code::Unauthenticated, Wire::Unauthenticated),
        (Code::PermissionDenied, Wire::PermissionDenied),
        (Code::NotFound, Wire::NotFound),
        (Code::AlreadyExists, Wire::AlreadyExists),
        (Code::FailedPrecondition, Wire::FailedPrecondition),
        (Code::Aborted, Wire::Aborted),
        (Code::ResourceExhausted, Wire::ResourceExhausted),
        (Code::Unavailable, Wire::Unavailable),
        (Code::DeadlineExceeded, Wire::DeadlineExceeded),
        (Code::Internal, Wire::Internal),
    ];
    for (ours, wire) in table {
        assert_eq!(status::code(ours), wire);
        let error = Error::new(ours, "SOME_REASON", "what happened").with("session_id", SESSION);
        let status = tonic::Status::from(error);
        assert_eq!((status.code(), status.message()), (wire, "what happened"));
        let details = status.get_error_details_vec();
        assert_eq!(details.len(), 1, "exactly one detail: {details:?}");
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str(), info.metadata["session_id"].as_str()), ("SOME_REASON", "gpushopper", SESSION));
    }
    let codes: BTreeSet<i32> = table.iter().map(|(_, wire)| *wire as i32).collect();
    assert_eq!(codes.len(), table.len(), "no two of ours become one");
}

#[test]
fn a_status_carries_all_violations_and_when_to_retry() {
    let violation = |field: &str| Violation { field: field.to_owned(), description: "wrong".to_owned() };
    let status = tonic::Status::from(Error::fields(vec![violation("a"), violation("b.c")]).retry(Duration::from_secs(7)));
    let fields: Vec<String> = status.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
    assert_eq!(fields, ["a", "b.c"]);
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(7)));
    assert_eq!(status.get_error_details_vec().len(), 3);
}

#[test]
fn a_status_stays_small_enough_for_every_client() {
    let violation = |n: usize| Violation { field: format!("labels.{n}"), description: "ü".repeat(100) };
    let status = tonic::Status::from(Error::fields((0..500).map(violation).collect()).with("long", "ü".repeat(5000)));
    let told = status.get_details_bad_request().unwrap().field_violations;
    assert!(told.len() > 5 && told.last().unwrap().description.contains("more wrong fields"), "{told:?}");
    let headers = status.into_http::<String>().headers().iter().map(|(k, v)| k.as_str().len() + v.len()).sum::<usize>();
    assert!(headers < 8 * 1024, "{headers} bytes of headers");
}

#[test]
fn only_grpc_calls_get_a_grpc_answer_for_unknown_services() {
    let mut headers = http::HeaderMap::new();
    assert!(status::unknown_service(&headers, "/nothing").is_none());
    headers.insert("content-type", http::HeaderValue::from_static("application/json"));
    assert!(status::unknown_service(&headers, "/nothing").is_none());
    headers.insert("content-type", http::HeaderValue::from_static("application/grpc+proto"));
    let answer = status::unknown_service(&headers, "/a.B/C").unwrap();
    assert_eq!((answer.status(), &answer.headers()["grpc-status"]), (http::StatusCode::OK, &http::HeaderValue::from_static("12")));
}

// === answers ===

fn sample_offer() -> Offer {
    let rate = |text: &str| Rate::parse(text).unwrap();
    Offer {
        id: OfferId::new("vastai-77"),
        provider: ProviderId::new("vastai"),
        machine: MachineId::new("vastai-m-5"),
        host: None,
        gpu: GpuModel::canonical("RTX 4090"),
        gpu_raw: Arc::from("RTX_4090"),
        gpu_count: 2,
        gpu_memory_mib: 24_576,
        region: Arc::new(Region { country: Some("CA".to_owned()), area: Some("Quebec".to_owned()), raw: "Quebec, CA".to_owned() }),
        rental: RentalKind::OnDemand,
        min_bid: None,
        base: Price { gpu: rate("0.7"), ..Price::default() },
        disk: DiskTerms { per_gb: rate("0.0001"), min_gb: 10, step_gb: 10, max_gb: 500, default_gb: 50 },
        traffic: Traffic { up_per_gb: Nanos(10_000_000), down_per_gb: Nanos(5_000_000) },
        reliability: Some(0.99),
        verified: Some(true),
        cuda: Some(1204),
        cpu_millis: Some(12_500),
        memory_mib: Some(65_536),
        direct_ports: None,
        host_end: None,
        slots: Some(1),
        confidence: 0.5,
        prior: Prior::default(),
        seen_at: Time::from_millis(1_000),
        memo: Memo::default(),
    }
}

#[test]
fn an_offer_is_told_with_its_disk_in_the_price() {
    let told = answers::offer(&sample_offer(), Some(95));
    let price = told.price.unwrap();
    assert_eq!((price.total_per_hour, price.total_text.as_str()), (Some(answers::rate(Rate::parse("0.71").unwrap())), "$0.71/h"));
    assert_eq!((told.rented_disk_gb, told.price_per_gpu_text.as_str(), told.expected_cost_text.as_str()), (100, "$0.355/h", "$1.4318/h"));
    assert_eq!((told.max_cuda_version.as_str(), told.cpu_cores, told.direct_ports), ("12.4", Some(12.5), None), "untold stays absent");
    assert_eq!((told.disk.unwrap().price_text.as_str(), told.traffic.unwrap().text.as_str()), ("$0.0001", "up $0.01/GB, down $0.005/GB"));
}

fn sample_session() -> Session {
    let mut request = create();
    request.env = BTreeMap::from([("TOKEN".to_owned(), "canary-env".to_owned())]);
    request.on_start_cmd = Some("curl canary-script".to_owned());
    request.ssh_public_key = Some("ssh-ed25519 AAAA alice".to_owned());
    request.secret_env = BTreeMap::from([("HF_TOKEN".to_owned(), "canary-secret".to_owned())]);
    let created = requests::create(&request, &settings()).unwrap();
    assert_eq!((created.secrets.env.len(), created.secrets.secret_env.len(), created.secrets.on_start.is_some()), (1, 1, true));
    assert!(created.private_key.is_none(), "a given key needs no pair");
    let mut session = Session::new(SESSION.parse().unwrap(), created.request, BTreeMap::new(), Duration::from_secs(43_200), Time::from_millis(1_500));
    session.attempts.push(Attempt {
        number: 1,
        offer: sample_offer().into(),
        disk_gb: 50,
        started_at: Time::from_millis(2_000),
        stage: Stage::Booting,
        came_to_be: true,
        failure: None,
        text: String::new(),
        ended_at: None,
        cost: Nanos(12_300_000),
    });
    session
}

#[test]
fn a_session_is_told_without_its_secrets() {
    let mut session = sample_session();
    session.endpoint = Some(SshEndpoint { host: "203.0.113.7".to_owned(), port: 41_022, user: "root".to_owned(), proxied: false });
    session.host_key = Some("ssh-ed25519 HOST".to_owned());
    session.cost = Amount { cost: Nanos(246_666_667), low: Nanos(246_666_667), high: Nanos(246_666_700), second: Nanos(10) };
    let told = answers::session(&session, &settings());
    assert_eq!((told.session_id.as_str(), told.state(), told.end_reason()), (SESSION, pb::session::State::Pending, pb::EndReason::Unspecified));
    assert_eq!(
        (told.ssh_command.as_str(), told.known_hosts_line.as_str()),
        ("ssh -p 41022 root@203.0.113.7", "[203.0.113.7]:41022 ssh-ed25519 HOST")
    );
    assert_eq!((told.offered_price.as_ref().unwrap().total_text.as_str(), told.gpu_model.as_str()), ("$0.705/h", "RTX 4090"));
    let cost = told.cost.as_ref().unwrap();
    assert_eq!((cost.text.as_str(), cost.estimated), ("$0.246666667", true));
    let create_time = told.create_time.unwrap();
    assert_eq!((create_time.seconds, create_time.nanos, told.running_time), (1, 500_000_000, None));
    let spec = told.spec.clone().unwrap();
    assert_eq!(
        (spec.env_names, spec.on_start_cmd_sha256.len(), spec.ssh_public_key.as_str()),
        (vec!["TOKEN".to_owned()], 64, "ssh-ed25519 AAAA alice")
    );
    assert_eq!(spec.secret_env_names, ["HF_TOKEN"]);
    assert!(!format!("{told:?}").contains("canary"));
    // The API of a machine that starts a server is where its port is mapped to.
    let request = std::sync::Arc::make_mut(&mut session.request);
    request.launch_mode = LaunchMode::Entrypoint;
    request.exposed_ports = vec![8000];
    assert_eq!(answers::session(&session, &settings()).api_endpoint, "http://203.0.113.7:8000", "its own address, nothing mapped");
    (session.ports, session.public_host) = (vec![(22, 41_022), (8000, 33_526)], Some("203.0.113.9".to_owned()));
    let told = answers::session(&session, &settings());
    assert_eq!((told.api_endpoint.as_str(), told.public_host.as_str()), ("http://203.0.113.9:33526", "203.0.113.9"));
    session.ports = vec![(22, 41_022)];
    assert_eq!(answers::session(&session, &settings()).api_endpoint, "", "not mapped");
}

#[test]
fn what_a_machine_is_started_with_is_checked_whole() {
    let faults = |change: fn(&mut pb::CreateSessionRequest)| {
        let mut request = create();
        change(&mut request);
        match requests::create(&request, &settings()) {
            Ok(_) => Vec::new(),
            Err(error) => violated(&error).into_iter().map(str::to_owned).collect::<Vec<_>>(),
        }
    };
    assert_eq!(faults(|r| r.launch_mode = pb::LaunchMode::Entrypoint.into()), ["docker_image", "on_start_cmd"]);
    assert_eq!(
        faults(|r| {
            r.launch_mode = pb::LaunchMode::Entrypoint.into();
            r.workload_type = pb::WorkloadType::LlmTgi.into();
        }),
        ["model_id"]
    );
    assert!(
        faults(|r| {
            r.launch_mode = pb::LaunchMode::Entrypoint.into();
            r.workload_type = pb::WorkloadType::LlmVllm.into();
            r.model_id = Some("Qwen/Qwen2.5-7B".to_owned());
            r.exposed_ports = vec![8080];
        })
        .is_empty()
    );
    assert_eq!(faults(|r| r.model_id = Some("--trust-remote-code".to_owned())), ["model_id"]);
    assert_eq!(faults(|r| r.model_id = Some("a b".to_owned())), ["model_id"]);
    assert_eq!(faults(|r| r.exposed_ports = vec![0, 22, 80, 80, 70_000]), ["exposed_ports"; 4]);
    assert_eq!(faults(|r| r.launch_mode = 9), ["launch_mode"]);
    assert_eq!(faults(|r| r.quantization = 99), ["quantization"]);
    assert_eq!(faults(|r| r.quantization = pb::Quantization::Awq.into()), ["quantization"], "of which model?");
    assert_eq!(
        faults(|r| {
            r.env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
            r.secret_env = BTreeMap::from([("A".to_owned(), "2".to_owned())]);
        }),
        ["secret_env"]
    );
    assert_eq!(
        faults(|r| r.registry_login = Some(pb::RegistryLogin { server: String::new(), username: "-x".to_owned(), password: "a b".to_owned() })),
        ["registry_login", "registry_login.username", "registry_login.password"]
    );
}

#[test]
fn an_address_that_a_shell_would_misread_makes_no_command() {
    let mut session = sample_session();
    for (host, user) in [("h;rm -rf ~", "root"), ("-oProxyCommand=x", "root"), ("h", "$(id)"), ("", "root")] {
        session.endpoint = Some(SshEndpoint { host: host.to_owned(), port: 22, user: user.to_owned(), proxied: true });
        assert_eq!(answers::session(&session, &settings()).ssh_command, "", "{user}@{host}");
    }
}

#[test]
fn debug_output_of_create_shows_no_secret() {
    let mut request = create();
    request.env = BTreeMap::from([("TOKEN".to_owned(), "canary".to_owned())]);
    request.on_start_cmd = Some("canary".to_owned());
    let login = pb::RegistryLogin { password: "canary".to_owned(), ..Default::default() };
    let response = pb::CreateSessionResponse { ssh_private_key: "canary".to_owned(), ..Default::default() };
    let rotated = pb::RotateSessionKeyResponse { ssh_private_key: "canary".to_owned(), ..Default::default() };
    assert!(!format!("{request:?}{response:?}{login:?}{rotated:?}").contains("canary"));
}
