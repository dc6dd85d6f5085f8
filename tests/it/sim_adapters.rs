//! The real adapters and the real SSH probe against the simulated vendors: what the wire carries is what the market
//! means.

use crate::support::{any, caller, request};
use crate::yard;
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::idle::Signal;
use gpu_shopper::domain::ids::{Label, SessionId, Tag};
use gpu_shopper::domain::instance::{InstanceStatus, PriceSeen, Sighting};
use gpu_shopper::domain::offer::{Offer, RentalKind};
use gpu_shopper::domain::policy::Policy;
use gpu_shopper::domain::session::{ConditionType, EndReason, Request, State, Target, Truth};
use gpu_shopper::domain::time::Time;
use gpu_shopper::domain::verify::{GpuAnswer, contradictions};
use gpu_shopper::ports::{Certainty, DestroyAnswer, ErrorKind, LaunchSpec, ProbeTarget, Provider, SshProbe, SystemChance};
use gpu_shopper::providers::http::{Context, Tuning, install_crypto};
use gpu_shopper::providers::{Settings, entry};
use gpu_shopper::services::api::Create;
use gpu_shopper::services::lookout::Rhythm;
use gpu_shopper::sim::{ALWAYS, Delay, Dialect, Fault, Faults, SimProvider, Workload, World, WorldConfig};
use gpu_shopper::ssh::ThrusshProbe;
use gpu_shopper::ssh::keys::Secret;
use gpu_shopper::store::Store;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

struct Street {
    world: World,
    probe: ThrusshProbe,
}

async fn street(faults: Faults) -> Street {
    install_crypto();
    Street { world: World::start(WorldConfig::local(21, faults)).await.unwrap(), probe: ThrusshProbe::new(Secret::from_bytes([3; 32])) }
}

impl Street {
    /// The real adapter, with the right key, as fast as it goes.
    fn adapter(&self, dialect: Dialect) -> Arc<dyn Provider> {
        self.paced(dialect, 0)
    }

    /// The same at a share of the intervals that the vendor wants, percent.
    fn paced(&self, dialect: Dialect, pace_percent: u32) -> Arc<dyn Provider> {
        let settings = match dialect {
            Dialect::Vastai => Settings::new().with("api_key", &self.world.keys.vastai_key).with("base_url", &self.world.vastai_url),
            Dialect::Tensordock => Settings::new()
                .with("auth_id", &self.world.keys.tensordock_auth_id)
                .with("api_token", &self.world.keys.tensordock_token)
                .with("base_url", &self.world.tensordock_url),
        };
        let tuning = Tuning { pace_percent, read_retries: 0, ..Tuning::default() };
        let context = Context { tuning, ..Context::new(Clock::System, Arc::new(SystemChance)) };
        (entry(dialect.word()).unwrap().build)(&settings, &context).unwrap()
    }

    /// The same account in memory.
    fn twin(&self, dialect: Dialect) -> SimProvider {
        let account = if dialect == Dialect::Vastai { self.world.vastai_account } else { self.world.tensordock_account };
        SimProvider::new(Arc::clone(&self.world.market), account, dialect)
    }

    fn spec(&self, offer: &Offer, number: u128) -> LaunchSpec {
        let session = SessionId::new(Time::from_millis(5), number);
        LaunchSpec {
            label: Label { tag: Tag::from_hash([1; 5]), session, attempt: 1 },
            offer: offer.clone().into(),
            image: None,
            disk_gb: offer.disk.rented_gb(None),
            bid: None,
            public_keys: vec![self.probe.verifier_key(session)],
            env: BTreeMap::new(),
            on_start: None,
            ports: Vec::new(),
            template: None,
            service: None,
            registry: None,
        }
    }
}

/// An offer that nothing is odd about.
fn plain(offers: &[Arc<Offer>]) -> &Offer {
    let good = |offer: &&Arc<Offer>| {
        offer.rental == RentalKind::OnDemand && offer.host_end.is_none_or(|end| end > Clock::System.now() + Duration::from_secs(86_400))
    };
    offers.iter().find(good).unwrap()
}

async fn with_address(provider: &dyn Provider, id: &str) -> Sighting {
    for _ in 0..400 {
        if let Some(seen) = provider.instance(id).await.unwrap().filter(|seen| !seen.endpoints.is_empty()) {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no address");
}

#[tokio::test]
async fn offers_on_the_wire_are_the_offers_of_the_market() {
    let street = street(Faults::none()).await;
    for dialect in Dialect::ALL {
        let wire = street.adapter(dialect).offers().await.unwrap();
        let twin: BTreeMap<String, Arc<Offer>> =
            street.twin(dialect).offers().await.unwrap().offers.into_iter().map(|offer| (offer.id.to_string(), offer)).collect();
        assert!(wire.offers.len() > 60, "{} offers", wire.offers.len());
        for offer in &wire.offers {
            let Some(meant) = twin.get(offer.id.as_str()) else { panic!("{} is not on the market", offer.id) };
            let facts = |offer: &Offer| {
                (offer.gpu.clone(), offer.gpu_count, offer.gpu_memory_mib, offer.rental, offer.min_bid, offer.base, offer.disk.per_gb)
            };
            assert_eq!(facts(offer), facts(meant), "{}", offer.id);
        }
        let left_out = twin.keys().filter(|id| !wire.offers.iter().any(|offer| offer.id.as_str() == *id)).count();
        assert!(left_out * 10 < twin.len(), "{left_out} of {} are missing", twin.len());
    }
    street.world.stop().await;
}

/// At the pace that the vendors want, while they enforce it: no call is refused, looks wait for their turn, and a destroy does
/// not wait behind them.
#[tokio::test]
async fn at_the_vendors_pace_nothing_is_refused_and_a_destroy_goes_first() {
    let street = street(Faults::none()).await;
    let paced = async |dialect: Dialect| {
        let (twin, adapter) = (street.twin(dialect), street.paced(dialect, 100));
        let offers = twin.offers().await.unwrap().offers;
        let machine = twin.launch(&street.spec(plain(&offers), 1)).await.unwrap().native_id;
        street.world.market.set_faults(Faults::none().with(Fault::Throttled, ALWAYS));
        let looks = futures::future::join_all((0..4).map(|_| adapter.instance(&machine)));
        let mut looks = std::pin::pin!(looks);
        let destroyed = tokio::select! {
            biased;
            _ = &mut looks => panic!("{dialect:?}: the looks did not keep the vendor's interval, or the destroy waited for them"),
            answer = adapter.destroy(&machine) => answer.unwrap(),
        };
        assert_eq!(destroyed, DestroyAnswer::Accepted);
        for look in looks.await {
            look.unwrap();
        }
        adapter.instances().await.unwrap();
    };
    // One after the other: the simulated vendors share their faults.
    for dialect in Dialect::ALL {
        street.world.market.set_faults(Faults::none());
        paced(dialect).await;
    }
    street.world.stop().await;
}

/// Launches that wait for their turn hold nothing else up: what they bring forth has to be seen.
#[tokio::test]
async fn however_many_launches_wait_looks_go_on() {
    let street = street(Faults::none()).await;
    for dialect in Dialect::ALL {
        let (twin, adapter) = (street.twin(dialect), street.paced(dialect, 100));
        let offers = twin.offers().await.unwrap().offers;
        let specs: Vec<_> = (1..=30).map(|number| street.spec(plain(&offers), number)).collect();
        let mut launches = std::pin::pin!(futures::future::join_all(specs.iter().map(|spec| adapter.launch(spec))));
        tokio::select! {
            biased;
            _ = &mut launches => panic!("{dialect:?}: the launches did not keep the vendor's interval, or the list waited for them"),
            listed = adapter.instances() => drop(listed.unwrap()),
        }
    }
    street.world.stop().await;
}

#[tokio::test]
async fn a_machine_is_rented_proven_and_given_back_over_the_wire() {
    let street = street(Faults::none()).await;
    for (number, dialect) in (1..).zip(Dialect::ALL) {
        let provider = street.adapter(dialect);
        provider.account().await.unwrap();
        let offers = provider.offers().await.unwrap().offers;
        let offer = plain(&offers);
        let spec = street.spec(offer, number);
        let id = provider.launch(&spec).await.unwrap().native_id;
        provider.attach_key(&id, &spec.public_keys[0]).await.unwrap();
        let seen = with_address(&*provider, &id).await;
        assert_eq!((seen.status, seen.label.clone()), (InstanceStatus::Running, Some(spec.label.to_string())));
        let truth = street.world.market.truth().into_iter().find(|truth| truth.native_id == id).unwrap();
        assert_eq!(truth.price, offer.price(None));
        match seen.price.unwrap() {
            PriceSeen::Parts(price) => assert_eq!(price, truth.price),
            PriceSeen::Total(total) => assert_eq!(total, truth.price.total()),
        }
        for endpoint in &seen.endpoints {
            let target =
                ProbeTarget { endpoint: endpoint.clone(), session: spec.label.session, known_host_key: None, ask_gpu: true, allow_private: true };
            let report = street.probe.probe(&target).await.unwrap();
            let Some(GpuAnswer::Report(gpu)) = report.gpu else { panic!("no report from {endpoint:?}") };
            assert_eq!(contradictions(&gpu, offer, None), Vec::<String>::new());
        }
        assert_eq!(provider.instances().await.unwrap().len(), 1);
        assert_eq!(provider.destroy(&id).await.unwrap(), DestroyAnswer::Accepted);
        assert_eq!(provider.instance(&id).await.unwrap(), None);
        assert_eq!(provider.destroy(&id).await.unwrap(), DestroyAnswer::NotThere);
        assert!(provider.instances().await.unwrap().is_empty());
    }
    street.world.stop().await;
}

#[tokio::test]
async fn the_adapters_read_every_failure_of_a_launch_rightly() {
    let street = street(Faults::none()).await;
    let cases = [
        (Fault::StaleAsk, ErrorKind::NoCapacity, Certainty::DidNotHappen, 0),
        (Fault::TooManyRequests, ErrorKind::RateLimited, Certainty::DidNotHappen, 0),
        (Fault::ServerError, ErrorKind::Unavailable, Certainty::MayHaveHappened, 0),
        (Fault::ReplyLost, ErrorKind::Unavailable, Certainty::MayHaveHappened, 1),
    ];
    for dialect in Dialect::ALL {
        for (fault, kind, certainty, machines) in cases {
            let provider = street.adapter(dialect);
            let offers = provider.offers().await.unwrap().offers;
            let before = street.world.market.alive().len();
            street.world.market.set_faults(Faults::none().with(fault, 1_000_000));
            let error = provider.launch(&street.spec(plain(&offers), 1)).await.unwrap_err();
            street.world.market.set_faults(Faults::none());
            assert_eq!((error.certainty, street.world.market.alive().len() - before), (certainty, machines), "{fault:?}: {error}");
            assert_eq!(error.kind, kind, "{fault:?}: {error}");
        }
    }
    street.world.stop().await;
}

#[tokio::test]
async fn the_adapters_read_every_state_rightly() {
    let street = street(Faults::none().with_delay(Delay::Boot, Duration::from_secs(600))).await;
    let market = &street.world.market;
    let provider = street.adapter(Dialect::Vastai);
    let offers = provider.offers().await.unwrap().offers;
    let id = provider.launch(&street.spec(plain(&offers), 1)).await.unwrap().native_id;
    let status = |id: String| {
        let provider = Arc::clone(&provider);
        async move {
            let looked = provider.instance(&id).await.unwrap().unwrap();
            let listed = provider.instances().await.unwrap().into_iter().find(|one| one.native_id == id).expect("it is listed");
            let said = |one: &Sighting| (one.status, one.raw_status.clone(), one.label.clone());
            assert_eq!(said(&looked), said(&listed), "a list and a look read the vendor alike");
            looked.status
        }
    };
    assert_eq!(status(id.clone()).await, InstanceStatus::Starting);
    let planted = market.plant(street.world.vastai_account, "other").unwrap();
    assert_eq!(status(planted.clone()).await, InstanceStatus::Running);
    assert_eq!(provider.instance(&planted).await.unwrap().unwrap().gpu_percent, Some(0));
    market.set_workload(&planted, Workload::Busy);
    assert_eq!(provider.instance(&planted).await.unwrap().unwrap().gpu_percent, Some(97));
    market.set_offline(&planted, true);
    assert_eq!(status(planted.clone()).await, InstanceStatus::Offline);
    market.set_offline(&planted, false);
    market.preempt(&planted);
    assert_eq!(status(planted.clone()).await, InstanceStatus::Stopped);
    market.vanish(&planted);
    assert_eq!(provider.instance(&planted).await.unwrap(), None);
    for (fault, expected) in [(Fault::StoppedAtCreate, InstanceStatus::Stopped), (Fault::BootFails, InstanceStatus::Failed)] {
        market.set_faults(Faults::none().with(fault, 1_000_000));
        let offers = provider.offers().await.unwrap().offers;
        let id = provider.launch(&street.spec(plain(&offers), 2)).await.unwrap().native_id;
        assert_eq!(status(id).await, expected, "{fault:?}");
    }
    market.set_faults(Faults::none().with(Fault::ListPartial, 1_000_000));
    assert_eq!(provider.instances().await.unwrap_err().kind, ErrorKind::Garbled);
    let told = provider.link().last_error.unwrap();
    assert!(told.starts_with("instances: the list is not complete"), "{told}");
    market.set_faults(Faults::none().with(Fault::DestroyRefused, 1_000_000));
    let offers = provider.offers().await.unwrap().offers;
    let id = provider.launch(&street.spec(plain(&offers), 3)).await.unwrap().native_id;
    let refused = provider.destroy(&id).await;
    assert!(matches!(refused, Ok(DestroyAnswer::Refused { .. })), "{refused:?}");
    market.set_valid(street.world.vastai_account, false);
    assert_eq!(provider.account().await.unwrap_err().kind, ErrorKind::Auth);
    street.world.stop().await;
}

/// In real time, by real logins: a machine at work is kept, and given back when its user has forgotten it.
#[tokio::test]
async fn a_machine_is_ended_when_real_logins_find_that_nobody_uses_it() {
    let street = street(Faults::none()).await;
    let providers = [street.adapter(Dialect::Vastai)];
    let mut parts = yard::parts(Store::open_memory().unwrap(), &providers, &Clock::System, Policy::default(), 1);
    parts.probe = Arc::new(street.probe.clone());
    parts.private_addresses = providers.iter().map(|p| p.facts().id.clone()).collect();
    let every = Duration::from_millis(200);
    parts.rhythm = Rhythm { close: every, steady: every, idle: every };
    let core = yard::start(parts).await;
    let Target::Requirements { mut filter, order } = any(None) else { unreachable!() };
    filter.rental = Some(RentalKind::OnDemand);
    let wanted = Request { idle_threshold: Duration::from_secs(5), ..request(Target::Requirements { filter, order }) };
    let create = Create {
        request: wanted,
        labels: BTreeMap::new(),
        secrets: Default::default(),
        template: None,
        validate_only: false,
        idempotency: None,
        private_key: None,
    };
    let id = core.lifecycle.create(caller(), create).await.unwrap().session.id;
    let (running, reached) = core.sessions.wait(&caller(), id, &[State::Running], Duration::from_secs(60)).await.unwrap();
    assert!(reached, "{}", running.status_message);
    let native = street.world.market.alive().pop().unwrap();
    let idle = |wanted: (Truth, &'static str)| {
        let core = &core;
        async move {
            for _ in 0..1_200 {
                let session = core.sessions.get(&caller(), id).await.unwrap();
                assert_eq!(session.state, State::Running, "{}", session.status_message);
                if session.condition(ConditionType::Idle).is_some_and(|c| (c.status, c.reason.as_str()) == wanted) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            panic!("it never is {wanted:?}");
        }
    };
    // Each of the last six is seen by one signal alone, through the machine's own shell or the vendor's list.
    for (workload, told) in [
        (Workload::Busy, (Truth::False, "gpu_processes")),
        (Workload::Hidden, (Truth::Unknown, "ssh_connections")),
        (Workload::Process, (Truth::False, "gpu_processes")),
        (Workload::Holding, (Truth::False, "gpu_memory")),
        (Workload::Computing, (Truth::False, "gpu_utilization")),
        (Workload::Reported, (Truth::False, "provider_utilization")),
        (Workload::LoggedIn, (Truth::False, "ssh_connections")),
    ] {
        street.world.market.set_workload(&native, workload);
        idle(told).await;
    }
    let known = core.sessions.diagnostics(&caller(), id).await.unwrap();
    assert!(known.fresh_use.unwrap().unwrap().iter().any(|r| r.signal == Signal::SshConnections && r.value == Some(1)));
    street.world.market.set_workload(&native, Workload::Idle);
    let (ended, _) = core.sessions.wait(&caller(), id, &[State::Stopped], Duration::from_secs(120)).await.unwrap();
    assert_eq!((ended.state, ended.end_reason), (State::Stopped, Some(EndReason::Idle)), "{}", ended.status_message);
    assert!(ended.idle.warned && street.world.market.alive().is_empty());
    core.stop().await.unwrap();
    street.world.stop().await;
}
