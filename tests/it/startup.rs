//! The edges of a server's life: what it believes of its database, what it refuses to begin with, providers that don't
//! answer, backups, and how sessions end with it when they shall.

mod databases;

use crate::child::{Child, Ended, Env, Served, alive, log_in, pointed_at, wanted, world};
use crate::support::{any, caller, request};
use crate::yard::{self, Warehouse};
use async_trait::async_trait;
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::ids::{OfferId, ProviderId};
use gpu_shopper::domain::instance::Sighting;
use gpu_shopper::domain::policy::Policy;
use gpu_shopper::domain::session;
use gpu_shopper::grpc::pb;
use gpu_shopper::grpc::pb::operator_service_client::OperatorServiceClient;
use gpu_shopper::grpc::pb::session::State;
use gpu_shopper::ports::{Account, DestroyAnswer, LaunchSpec, Launched, OfferBatch, Provider, ProviderError, ProviderFacts};
use gpu_shopper::services::api::Create;
use gpu_shopper::sim::{Credentials, Dialect, Faults};
use gpu_shopper::store::Store;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;
use tonic_types::StatusExt;

fn with(env: &Env, pairs: &[(&str, &str)]) -> Env {
    let mut all = env.clone();
    all.extend(crate::child::env(pairs));
    all
}

fn without(env: &Env, name: &str) -> Env {
    env.iter().filter(|(key, _)| key.as_str() != name).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn holds_all(text: &str, wanted: &[&str]) {
    for one in wanted {
        assert!(text.contains(one), "`{one}` is not in:\n{text}");
    }
}

/// Any machine of a provider, running.
async fn rented(server: &Served, provider: &str) -> (pb::Session, String) {
    let created = server.sessions().await.create_session(wanted(provider)).await.unwrap().into_inner();
    let running = server.until(&created.session.unwrap().session_id, State::Running).await;
    (running, created.ssh_private_key)
}

/// Starts something that must refuse to run.
async fn refused(folder: &Path, env: &Env) -> String {
    let ended = Child::start(&["serve"], folder, env).end().await;
    assert_eq!(ended.status.code(), Some(1), "{}\n{}", ended.out, ended.err);
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
    ended.err
}

/// Runs a command of the program to its end.
async fn ran(args: &[&str], folder: &Path, env: &Env) -> Ended {
    Child::start(args, folder, env).end().await
}

fn reason(status: &tonic::Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

// === what it refuses, and what it begins with all the same ===

#[tokio::test(flavor = "multi_thread")]
async fn nothing_open_is_left_behind_by_changed_settings() {
    let (world, home) = (world(202, Faults::none()).await, tempfile::tempdir().unwrap());
    let env = with(&pointed_at(&world, home.path()), &[("DEPLOYMENT_ID", "one")]);
    let server = Served::ready(home.path(), &env, 2).await;
    let (session, key) = rented(&server, "vastai").await;
    server.stop().await;
    let machine = world.market.truth().into_iter().find(|m| m.alive).unwrap();
    let price = session.price.as_ref().unwrap().total_text.clone();

    let gone = refused(home.path(), &without(&env, "VASTAI_API_KEY")).await;
    holds_all(
        &gone,
        &["provider vastai is not enabled", "1 machine", &machine.label, &machine.native_id, &price, "VASTAI_API_KEY", "gpu-shopper ops settle"],
    );
    let renamed = refused(home.path(), &with(&env, &[("DEPLOYMENT_ID", "two")])).await;
    holds_all(&renamed, &["`two`", "`one`", &session.session_id, &machine.native_id, "DEPLOYMENT_ID=one"]);
    assert_eq!(alive(&world).len(), 1);

    // The other provider may go: nothing is open there. And credentials that no longer work are enough to begin.
    let alone = without(&without(&env, "TENSORDOCK_AUTH_ID"), "TENSORDOCK_API_TOKEN");
    let server = Served::start(home.path(), &with(&alone, &[("VASTAI_API_KEY", &"ab".repeat(32))])).await;
    server.child.says("Provider authentication failed").await;
    assert_eq!(server.get_session(&session.session_id).await.state(), State::Running);
    server.stop().await;
    let server = Served::ready(home.path(), &alone, 1).await;
    assert!(log_in(&server.get_session(&session.session_id).await, &key).await.contains("GPU 0"));
    server.complete(&session.session_id).await;
    server.until(&session.session_id, State::Stopped).await;
    server.stop().await;
    // Nothing is open any more: both may change.
    let env = with(&without(&env, "VASTAI_API_KEY"), &[("DEPLOYMENT_ID", "two")]);
    Served::ready(home.path(), &env, 1).await.stop().await;
    assert_eq!(alive(&world), Vec::<String>::new());
    world.stop().await;
}

/// A place that refuses connections until it is opened, and from then on passes them on.
struct Gate {
    address: std::net::SocketAddr,
}

impl Gate {
    async fn shut() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { address: listener.local_addr().unwrap() }
    }

    async fn open(&self, to: &str) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let to = to.strip_prefix("http://").unwrap().to_owned();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let to = to.clone();
                tokio::spawn(async move {
                    if let Ok(mut to) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_can_not_be_reached_holds_nobody_up_and_is_tried_again() {
    let (world, home) = (world(204, Faults::none()).await, tempfile::tempdir().unwrap());
    let gate = Gate::shut().await;
    let env = with(&pointed_at(&world, home.path()), &[("TENSORDOCK_BASE_URL", &format!("http://{}", gate.address))]);
    let server = Served::ready(home.path(), &env, 1).await;
    let health: Value = serde_json::from_str(&server.get("/health").await.1).unwrap();
    assert_eq!((&health["status"], &health["services"]["vastai"]), (&"degraded".into(), &"ok".into()));

    let error = server.sessions().await.create_session(wanted("tensordock")).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Unavailable, "PROVIDER_UNREACHABLE"), "{error:?}");
    holds_all(error.message(), &["tensordock could not be looked at since the start"]);
    assert!(error.get_error_details().retry_info().is_some());
    // Anybody else's: at whoever answers.
    let anywhere = pb::CreateSessionRequest {
        target: Some(pb::create_session_request::Target::Requirements(pb::Requirements { order_by: "price".to_owned(), ..Default::default() })),
        ..Default::default()
    };
    let id = server.sessions().await.create_session(anywhere).await.unwrap().into_inner().session.unwrap().session_id;
    let running = server.until(&id, State::Running).await;
    assert_eq!(running.provider, "vastai");
    server.complete(&id).await;

    gate.open(&world.tensordock_url).await;
    let there = tokio::time::timeout(crate::child::PATIENCE, async {
        loop {
            match server.sessions().await.create_session(wanted("tensordock")).await {
                Ok(created) => return created.into_inner().session.unwrap().session_id,
                Err(error) => assert_eq!(error.code(), Code::Unavailable, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let id = there.await.expect("it was not tried again");
    server.until(&id, State::Running).await;
    server.complete(&id).await;
    server.until(&id, State::Stopped).await;
    server.stop().await;
    world.stop().await;
}

/// Takes every question and answers none; or only those for its account and its offers.
struct Silent {
    of: Arc<Warehouse>,
    knows_us: bool,
}

#[async_trait]
impl Provider for Silent {
    fn facts(&self) -> &ProviderFacts {
        self.of.facts()
    }
    fn owns_offer_id(&self, id: &OfferId) -> bool {
        self.of.owns_offer_id(id)
    }
    async fn account(&self) -> Result<Account, ProviderError> {
        if self.knows_us { self.of.account().await } else { std::future::pending().await }
    }
    async fn offers(&self) -> Result<OfferBatch, ProviderError> {
        if self.knows_us { self.of.offers().await } else { std::future::pending().await }
    }
    async fn launch(&self, _: &LaunchSpec) -> Result<Launched, ProviderError> {
        std::future::pending().await
    }
    async fn attach_key(&self, _: &str, _: &str) -> Result<(), ProviderError> {
        std::future::pending().await
    }
    async fn instance(&self, _: &str) -> Result<Option<Sighting>, ProviderError> {
        std::future::pending().await
    }
    async fn instances(&self) -> Result<Vec<Sighting>, ProviderError> {
        std::future::pending().await
    }
    async fn start(&self, _: &str) -> Result<(), ProviderError> {
        std::future::pending().await
    }
    async fn destroy(&self, _: &str) -> Result<DestroyAnswer, ProviderError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_says_nothing_holds_the_start_up_for_a_minute_and_no_longer() {
    let clock = Clock::simulated(crate::support::BEGIN);
    let silent = Arc::new(Silent { of: Warehouse::new("tensordock", &clock, Vec::new()), knows_us: false });
    let speaking = Warehouse::new("vastai", &clock, vec![yard::offer("vastai", "1")]);
    let providers: [Arc<dyn Provider>; 2] = [silent, speaking];
    let begun = clock.now();
    let core = gpu_shopper::app::Core::start(yard::parts(Store::open_memory().unwrap(), &providers, &clock, Policy::default(), 1)).await.unwrap();
    assert!(!core.swept());
    core.wait_swept().await;
    assert_eq!(clock.now().since(begun), Duration::from_secs(60));
    let outlook = core.outlook.borrow().clone();
    let silent = &outlook[&ProviderId::new("tensordock")];
    assert!(silent.account_error.is_some() && silent.list_error.is_some(), "{silent:?}");
    assert!(outlook[&ProviderId::new("vastai")].list_error.is_none());
    core.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ended_while_the_start_still_looks_is_ended() {
    let mut faults = Faults::none();
    faults.set("tensordock.list_slow", "1").unwrap();
    faults.set("tensordock.list_hang", "15s").unwrap();
    let (world, home) = (world(211, faults).await, tempfile::tempdir().unwrap());
    let env = pointed_at(&world, home.path());
    let server = Served::ready(home.path(), &env, 2).await;
    let ((destroyed, _), (completed, _)) = (rented(&server, "vastai").await, rented(&server, "vastai").await);
    server.stop().await;
    let server = Served::start(home.path(), &env).await;
    let asked = pb::DestroySessionRequest { session_id: destroyed.session_id.clone(), ..Default::default() };
    server.sessions().await.destroy_session(asked).await.unwrap();
    server.complete(&completed.session_id).await;
    let gone = async {
        while !alive(&world).is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("both machines go");
    assert_eq!(server.get("/ready").await.0, 503, "it looks at the other provider still");
    for (id, reason) in [(&destroyed.session_id, pb::EndReason::DestroyedByUser), (&completed.session_id, pb::EndReason::Completed)] {
        assert_eq!(server.get_session(id).await.end_reason(), reason);
    }
    server.stop().await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_rented_where_nobody_knows_yet_what_is_there() {
    let clock = Clock::simulated(crate::support::BEGIN);
    let secretive: Arc<dyn Provider> = Arc::new(Silent { of: Warehouse::new("vastai", &clock, vec![yard::offer("vastai", "1")]), knows_us: true });
    let store = Store::open_memory().unwrap();
    let core = gpu_shopper::app::Core::start(yard::parts(store, &[secretive], &clock, Policy::default(), 1)).await.unwrap();
    let create = async || {
        let request = request(any(None));
        let create = Create {
            request,
            labels: Default::default(),
            secrets: Default::default(),
            template: None,
            validate_only: false,
            idempotency: None,
            private_key: None,
        };
        core.lifecycle.create(caller(), create).await.unwrap_err().reason
    };
    // The credentials are proven at once, over and over; the list never comes.
    clock.sleep(Duration::from_secs(30)).await;
    assert_eq!(create().await, "STARTING");
    assert!(!core.swept());
    core.wait_swept().await;
    for _ in 0..5 {
        assert_eq!(create().await, "PROVIDER_UNREACHABLE");
        clock.sleep(Duration::from_secs(97)).await;
    }
    assert!(core.outlook.borrow()[&ProviderId::new("vastai")].account.is_some());
    core.stop().await.unwrap();
}

// === the end ===

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_shall_ends_everything_before_itself() {
    let (world, home) = (world(205, Faults::none()).await, tempfile::tempdir().unwrap());
    let env = with(&pointed_at(&world, home.path()), &[("LIFECYCLE_ON_SHUTDOWN", "destroy")]);
    let server = Served::ready(home.path(), &env, 2).await;
    let (one, _) = rented(&server, "vastai").await;
    let (two, _) = rented(&server, "tensordock").await;
    assert_eq!(alive(&world).len(), 2);
    let mut late = server.sessions().await;
    server.child.terminate();
    server.child.says("ending: 2 sessions are not over, 2 machines").await;
    let error = late.create_session(wanted("vastai")).await.unwrap_err();
    assert_eq!(reason(&error), "SERVER_DRAINING", "{error:?}");
    let ended = server.child.end().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.err);
    assert!(ended.err.ends_with("stopped; no session is open\n"), "{}", ended.err);
    assert_eq!(alive(&world), Vec::<String>::new());

    let server = Served::start(home.path(), &env).await;
    for id in [&one.session_id, &two.session_id] {
        let session = server.get_session(id).await;
        assert_eq!((session.state(), session.end_reason(), session.cost_final), (State::Stopped, pb::EndReason::Admin, true));
    }
    // Nothing to end: it ends at once.
    server.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_waits_for_the_end_of_everything_no_longer_than_it_shall() {
    let mut faults = Faults::none();
    faults.set("destroy_ignored", "1").unwrap();
    let (world, home) = (world(206, faults).await, tempfile::tempdir().unwrap());
    let env = with(&pointed_at(&world, home.path()), &[("LIFECYCLE_ON_SHUTDOWN", "destroy"), ("SHUTDOWN_DESTROY_TIMEOUT", "2s")]);
    let server = Served::ready(home.path(), &env, 2).await;
    let (session, _) = rented(&server, "vastai").await;
    let machine = world.market.truth().into_iter().find(|m| m.alive).unwrap();
    server.child.terminate();
    let ended = server.child.end().await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.err);
    holds_all(
        &ended.err,
        &["not over after 2 s", "1 session stays", &session.session_id, "stopping", &machine.native_id, "expires", "not everything is proven gone"],
    );

    // It goes on with it, and a second signal ends the wait.
    let server = Served::start(home.path(), &with(&env, &[("SHUTDOWN_DESTROY_TIMEOUT", "1h")])).await;
    assert_eq!(server.get_session(&session.session_id).await.state(), State::Stopping);
    server.child.terminate();
    server.child.says("ending: 1 sessions are not over").await;
    server.child.terminate();
    let ended = server.child.end().await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.err);
    holds_all(&ended.err, &["no longer waiting", &session.session_id]);
    world.market.set_faults(Faults::none());
    let server = Served::start(home.path(), &env).await;
    server.until(&session.session_id, State::Stopped).await;
    assert_eq!(alive(&world), Vec::<String>::new());
    server.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_everything_from_the_command_line() {
    let (world, home) = (world(208, Faults::none()).await, tempfile::tempdir().unwrap());
    let env = pointed_at(&world, home.path());
    let server = Served::ready(home.path(), &env, 2).await;
    let asked = crate::child::env(&[("GPU_SHOPPER_URL", &server.url)]);
    let nothing = ran(&["drain", "--yes"], home.path(), &asked).await;
    assert_eq!(nothing.status.code(), Some(0), "{}", nothing.err);
    holds_all(&nothing.err, &["no session is open"]);
    let (one, _) = rented(&server, "vastai").await;
    let (two, _) = rented(&server, "tensordock").await;

    let shown = ran(&["drain"], home.path(), &asked).await;
    assert_eq!(shown.status.code(), Some(0), "{}", shown.err);
    holds_all(&shown.out, &[&one.session_id, &two.session_id, "running", "tester"]);
    holds_all(&shown.err, &["2 sessions", "nothing was ended", "--yes"]);
    assert_eq!(alive(&world).len(), 2, "only shown");
    let mut operator = OperatorServiceClient::new(server.channel().await);
    let planned = operator.drain_sessions(pb::DrainSessionsRequest { validate_only: true }).await.unwrap().into_inner();
    assert!(planned.sessions.iter().all(|s| s.state() == State::Running) && planned.sessions.len() == 2);
    assert!(planned.at_risk_per_hour.is_some() && planned.at_risk_text.ends_with("/h"));

    let done = ran(&["drain", "--yes", "-o", "json"], home.path(), &asked).await;
    assert_eq!(done.status.code(), Some(0), "{}", done.err);
    let told: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&told["drained"], &told["over"], told["sessions"].as_array().unwrap().len()), (&true.into(), &true.into(), 2));
    for session in told["sessions"].as_array().unwrap() {
        assert_eq!((&session["state"], &session["end_reason"]), (&"stopped".into(), &"admin".into()));
    }
    assert_eq!(alive(&world), Vec::<String>::new());
    holds_all(&done.err, &["ending 2 sessions", "2 of 2"]);
    let asked = pb::ListSessionEventsRequest { session_id: one.session_id.clone(), ..Default::default() };
    let events = server.sessions().await.list_session_events(asked).await.unwrap().into_inner().events;
    assert!(events.iter().any(|e| e.to_state() == State::Stopping && e.actor == "operator:operator"), "{events:?}");
    // The server goes on.
    let (again, _) = rented(&server, "vastai").await;
    server.complete(&again.session_id).await;
    server.until(&again.session_id, State::Stopped).await;
    server.stop().await;
    world.stop().await;
}

/// Waits for so many more complete lists of a provider.
async fn listed_again(server: &Served, provider: &str, times: usize) {
    let mut operator = OperatorServiceClient::new(server.channel().await);
    let (mut last, mut seen) = (None, 0);
    let lists = async {
        while seen <= times {
            let all = operator.list_providers(pb::ListProvidersRequest {}).await.unwrap().into_inner().providers;
            let now = all.into_iter().find(|p| p.provider == provider).and_then(|p| p.list_time);
            if now.is_some() && now != last {
                (last, seen) = (now, seen + 1);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::child::PATIENCE, lists).await.unwrap_or_else(|_| panic!("it is not listed any more: {}", server.child.err()));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_another_account_no_absence_and_no_destroy_is_believed() {
    let (world, home) = (world(210, Faults::none()).await, tempfile::tempdir().unwrap());
    let env = with(&pointed_at(&world, home.path()), &[("LIFECYCLE_CHECK_INTERVAL", "5s"), ("ABSENCE_QUORUM", "2")]);
    let server = Served::ready(home.path(), &env, 2).await;
    let (session, key) = rented(&server, "vastai").await;
    let id = session.session_id;
    server.stop().await;

    let other = "cd".repeat(32);
    world.market.add_account(Dialect::Vastai, Credentials::Key(other.clone()), None);
    let server = Served::ready(home.path(), &with(&env, &[("VASTAI_API_KEY", &other)]), 2).await;
    listed_again(&server, "vastai", 4).await;
    let found = server.get_session(&id).await;
    assert_eq!(found.state(), State::Running, "{}", found.status_message);
    assert!(log_in(&found, &key).await.contains("GPU 0"));

    // Its user ends it: this account's vendor knows no such machine, and that ends nothing.
    let asked = pb::DestroySessionRequest { session_id: id.clone(), ..Default::default() };
    server.sessions().await.destroy_session(asked).await.unwrap();
    listed_again(&server, "vastai", 4).await;
    assert_eq!(server.get_session(&id).await.state(), State::Stopping);
    assert_eq!(alive(&world).len(), 1);
    let mut operator = OperatorServiceClient::new(server.channel().await);
    let owed = operator.list_unconfirmed_destroys(pb::ListUnconfirmedDestroysRequest {}).await.unwrap().into_inner().destroys;
    assert_eq!(owed.len(), 1, "{owed:?}");
    let ended = server.stop().await;
    holds_all(&ended.err, &["1 session stays as it is", &id, "stopping"]);

    let server = Served::ready(home.path(), &env, 2).await;
    server.until(&id, State::Stopped).await;
    assert_eq!(alive(&world), Vec::<String>::new());
    server.stop().await;
    world.stop().await;
}
