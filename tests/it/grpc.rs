//! The gRPC face over an in-memory connection: a generated client lives a whole session; errors carry all they have to.

use crate::support::House;
use axum::Router;
use gpu_shopper::grpc::pb::cost_service_client::CostServiceClient;
use gpu_shopper::grpc::pb::inventory_service_client::InventoryServiceClient;
use gpu_shopper::grpc::pb::operator_service_client::OperatorServiceClient;
use gpu_shopper::grpc::pb::session_service_client::SessionServiceClient;
use gpu_shopper::grpc::pb::watch_session_response::Message;
use gpu_shopper::grpc::{self, Health, KeyPair, Rpcs, SERVICE_NAMES, Services, Settings, pb};
use gpu_shopper::http::body;
use gpu_shopper::http::ops::{self, HealthReport, Ops};
use gpu_shopper::http::{Faces, assemble};
use gpu_shopper::ports::SeededChance;
use gpu_shopper::services::access::{Access, Limits, Parts};
use gpu_shopper::sim::Faults;
use gpu_shopper::ssh::keys;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

const MINUTE: Duration = Duration::from_secs(60);

/// A house with its gRPC face, and a client's connection to it.
pub struct Face {
    pub house: House,
    pub health: Health,
    pub channel: Channel,
    /// The port's routes, gate and all.
    pub router: Faces<Rpcs>,
    pub access: Access,
}

/// Who may call, where nobody needs a token.
pub fn everybody(house: &House) -> Parts {
    Parts {
        required: false,
        fixed: Vec::new(),
        hint: String::new(),
        limits: Limits { per_second: 0, streams: 0 },
        store: house.store().clone(),
        chance: Arc::new(SeededChance::new(11)),
        clock: house.clock.clone(),
    }
}

pub fn settings(house: &House) -> Settings {
    Settings {
        hard_max: house.policy.hard_max,
        default_max_attempts: 8,
        bookmark: Duration::from_secs(15),
        providers: house.core().providers.clone(),
        offer_ids: gpu_shopper::providers::REGISTER.iter().map(|e| e.offer_id).collect(),
        parse_public_key: |text| keys::parse_public_key(text).map(|key| key.line).map_err(|e| e.to_string()),
        make_key_pair: Arc::new(|comment| {
            // A counter instead of chance: each pair is another one.
            static MADE: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
            let pair = keys::generate_consumer_key([MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed); 32], comment);
            Ok(KeyPair { public_key: pair.public_line(), private_key: pair.private_pem().unwrap() })
        }),
        fingerprint: |line| keys::fingerprint(line).ok(),
        known_hosts_line: |host, port, key| keys::known_hosts_line(host, port, key),
        largest_request: 1024 * 1024,
    }
}

pub fn services(house: &House, access: Access) -> Services {
    let core = house.core();
    Services {
        inventory: core.inventory.clone(),
        templates: core.templates.clone(),
        lifecycle: core.lifecycle.clone(),
        sessions: core.sessions.clone(),
        costs: core.costs.clone(),
        operator: core.operator.clone(),
        drain: core.winding_up.clone(),
        access,
    }
}

/// Requests may be packed. Answers never are, whoever offers to read them.
#[tokio::test(start_paused = true)]
async fn a_packed_request_is_read_and_answered_plainly() {
    let face = Face::open(119, Faults::none()).await;
    // `page_size: 3`, as gzip.
    let packed = [31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 147, 96, 6, 0, 28, 219, 203, 90, 2, 0, 0, 0];
    let mut framed = vec![1];
    framed.extend_from_slice(&u32::try_from(packed.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(&packed);
    let request = http::Request::post("/gpushopper.v1.InventoryService/ListOffers")
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-encoding", "gzip")
        .header("grpc-accept-encoding", "identity,deflate,gzip");
    let answer = tower::ServiceExt::oneshot(face.router.clone(), request.body(axum::body::Body::from(framed)).unwrap()).await.unwrap();
    assert_eq!(answer.headers().get("grpc-encoding"), None);
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    assert_eq!(body[0], 0, "the frame says that it is packed");
    let listed: pb::ListOffersResponse = prost::Message::decode(&body[5..]).unwrap();
    assert_eq!(listed.offers.len(), 3);
}

/// What tonic answers by itself has an `ErrorInfo` like everything else.
#[tokio::test(start_paused = true)]
async fn what_never_reaches_its_service_is_refused_with_a_reason_too() {
    let face = Face::open(118, Faults::none()).await;
    let ask = async |path: &str, kind: &str, encoding: Option<&str>, message: &[u8]| {
        let mut framed = vec![u8::from(encoding.is_some())];
        framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(message);
        let mut request = http::Request::post(path).version(http::Version::HTTP_2).header("content-type", kind).header("te", "trailers");
        if let Some(encoding) = encoding {
            request = request.header("grpc-encoding", encoding);
        }
        let answer = tower::ServiceExt::oneshot(face.router.clone(), request.body(axum::body::Body::from(framed)).unwrap()).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap_or_else(|| panic!("{path}: {answer:?}"));
        let info = status.get_details_error_info().unwrap_or_else(|| panic!("{path}: {status:?}"));
        assert_eq!((info.domain.as_str(), info.metadata["method"].as_str()), ("gpushopper", path));
        assert!(!status.message().is_empty(), "{path}");
        (status.code(), info.reason)
    };
    const GET: &str = "/gpushopper.v1.SessionService/GetSession";
    let (grpc, plain) = ("application/grpc", None);
    let unknown = ask("/gpushopper.v1.SessionService/NoSuchMethod", grpc, plain, &[]).await;
    assert_eq!(unknown, (Code::Unimplemented, "METHOD_UNKNOWN".to_owned()));
    let elsewhere = ask("/no.such.Service/Call", grpc, plain, &[]).await;
    assert_eq!(elsewhere, (Code::Unimplemented, "METHOD_UNKNOWN".to_owned()));
    for message in [&b"\x0a\x05ab"[..], b"\x0a\x02\xff\xfe", b"\xff\xff\xff"] {
        assert_eq!(ask(GET, grpc, plain, message).await, (Code::InvalidArgument, "MALFORMED_MESSAGE".to_owned()), "{message:?}");
    }
    let large = ask(GET, grpc, plain, &vec![b'x'; 1024 * 1024 + 1]).await;
    assert_eq!(large.1, "REQUEST_TOO_LARGE", "{large:?}");
    let packed = ask(GET, grpc, Some("zstd"), b"x").await;
    assert_eq!(packed, (Code::Unimplemented, "ENCODING_UNKNOWN".to_owned()));
    let health = ask("/grpc.health.v1.Health/Check", grpc, plain, b"\x0a\x01x").await;
    assert_eq!(health, (Code::NotFound, "SERVICE_NOT_FOUND".to_owned()));
    // A message that never comes to its end: nobody holds a place for nothing.
    for path in [GET, "/gpushopper.v1.SessionService/WatchSessions", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"] {
        let never = axum::body::Body::from_stream(futures::stream::pending::<Result<axum::body::Bytes, axum::Error>>());
        let request = http::Request::post(path).version(http::Version::HTTP_2).header("content-type", grpc).header("te", "trailers");
        let answer = tower::ServiceExt::oneshot(face.router.clone(), request.body(never).unwrap()).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap_or_else(|| panic!("{path}: {answer:?}"));
        assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "REQUEST_TIMEOUT"), "{path}: {status:?}");
    }

    // What is wrong with a page token is told with the rest.
    let request = pb::ListSessionsRequest {
        page_size: -1,
        page_token: "!".to_owned(),
        filter: Some(pb::SessionFilter { provider: Some("nobody".to_owned()), ..Default::default() }),
    };
    let refused = face.sessions().list_sessions(request).await.unwrap_err();
    let fields: Vec<String> = refused.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
    assert_eq!(fields, ["filter.provider", "page_size", "page_token"]);
    let request = pb::ListLedgerEntriesRequest { page_size: -1, page_token: "czEuMA".to_owned(), ..Default::default() };
    let refused = pb::cost_service_client::CostServiceClient::new(face.channel.clone()).list_ledger_entries(request).await.unwrap_err();
    let fields: Vec<String> = refused.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
    assert_eq!(fields, ["page_size", "page_token"], "the token of another list");
    let negative = pb::CreateSessionRequest {
        reservation: Some(prost_types::Duration { seconds: -5, nanos: 0 }),
        target: Some(pb::create_session_request::Target::Requirements(pb::Requirements::default())),
        ..Default::default()
    };
    let refused = face.sessions().create_session(negative).await.unwrap_err();
    assert!(refused.message().contains("reservation: seconds -5 and nanos 0; allowed: 60s to 43200s"), "{}", refused.message());
    face.house.close().await;
}

impl Face {
    async fn open(seed: u64, faults: Faults) -> Self {
        Self::over(House::new(seed, faults).await).await
    }

    /// The face of this house as it lives now.
    pub async fn over(house: House) -> Self {
        let parts = everybody(&house);
        Self::guarded(house, parts, &[]).await
    }

    /// The same with these tokens and limits, and for pages of these origins.
    pub async fn guarded(house: House, parts: Parts, origins: &[&'static str]) -> Self {
        let access = Access::open(parts).await.unwrap();
        let health = Health::new().await;
        let ops = Ops {
            health: Arc::new(|| HealthReport { status: ops::Health::Ok, ready: true, services: BTreeMap::new() }),
            scrape: Arc::new(|| Box::pin(async { "up 1\n".to_owned() })),
            allowed_hosts: Arc::from(["in.memory".to_owned()]),
            clock: house.clock.clone(),
            unknown_rpc: grpc::status::unknown_service,
            access: access.clone(),
            refused_rpc: grpc::status::refused,
            allowed_origins: origins.iter().map(|origin| http::HeaderValue::from_static(origin)).collect(),
            body_limit: 1024 * 1024,
            body_period: body::PERIOD,
        };
        let router = assemble(grpc::rpcs(services(&house, access.clone()), settings(&house), &health).unwrap(), Router::new(), ops);
        let served = router.clone();
        let dial = tower::service_fn(move |_: http::Uri| {
            let router = served.clone();
            async move {
                let (client, server) = tokio::io::duplex(64 * 1024);
                tokio::spawn(async move {
                    let http = auto::Builder::new(TokioExecutor::new()).http2_only();
                    let _ = http.serve_connection(TokioIo::new(server), TowerToHyperService::new(router)).await;
                });
                Ok::<_, std::io::Error>(TokioIo::new(client))
            }
        });
        let channel = Endpoint::from_static("http://in.memory").connect_with_connector(dial).await.unwrap();
        Self { house, health, channel, router, access }
    }

    pub fn sessions(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel.clone())
    }

    pub fn operator(&self) -> OperatorServiceClient<Channel> {
        OperatorServiceClient::new(self.channel.clone())
    }

    fn inventory(&self) -> InventoryServiceClient<Channel> {
        InventoryServiceClient::new(self.channel.clone())
    }

    pub fn costs(&self) -> CostServiceClient<Channel> {
        CostServiceClient::new(self.channel.clone())
    }

    pub async fn create(&self, request: pb::CreateSessionRequest) -> Result<pb::CreateSessionResponse, Status> {
        self.sessions().create_session(request).await.map(tonic::Response::into_inner)
    }

    pub async fn until(&self, id: &str, state: pb::session::State) -> pb::Session {
        let until = vec![state.into()];
        let timeout = Some(prost_types::Duration { seconds: 600, nanos: 0 });
        let answer = self.sessions().wait_session(pb::WaitSessionRequest { session_id: id.to_owned(), until, timeout }).await.unwrap().into_inner();
        let session = answer.session.unwrap();
        assert!(answer.reached && session.state() == state, "{}: {}", session.state().as_str_name(), session.status_message);
        session
    }

    async fn destroy(&self, id: &str) {
        self.sessions().destroy_session(pb::DestroySessionRequest { session_id: id.to_owned(), ..Default::default() }).await.unwrap();
        self.until(id, pb::session::State::Stopped).await;
    }
}

fn by_offer(id: &str) -> pb::CreateSessionRequest {
    pb::CreateSessionRequest { target: Some(pb::create_session_request::Target::OfferId(id.to_owned())), ..Default::default() }
}

pub fn by_requirements(filter: pb::OfferFilter) -> pb::CreateSessionRequest {
    let wanted = pb::Requirements { filter: Some(filter), order_by: "price".to_owned() };
    pb::CreateSessionRequest { target: Some(pb::create_session_request::Target::Requirements(wanted)), ..Default::default() }
}

pub fn nanos(money: Option<&pb::Money>) -> i64 {
    let money = money.unwrap();
    assert_eq!(money.currency_code, "USD");
    money.units * 1_000_000_000 + i64::from(money.nanos)
}

#[tokio::test(start_paused = true)]
async fn a_generated_client_lives_a_whole_session() {
    let face = Face::open(61, Faults::gentle()).await;
    let filter = pb::OfferFilter { providers: vec!["vastai".to_owned()], rental_kind: pb::RentalKind::OnDemand.into(), ..Default::default() };
    let listed = face
        .inventory()
        .list_offers(pb::ListOffersRequest { filter: Some(filter), order_by: "price".to_owned(), page_size: 10, page_token: String::new() })
        .await
        .unwrap()
        .into_inner();
    assert!(listed.total_size > 100 && listed.offers.len() == 10 && !listed.next_page_token.is_empty() && listed.unreachable.is_empty());
    let chosen = &listed.read_offers().unwrap()[0];
    let offer = face.inventory().get_offer(pb::GetOfferRequest { offer_id: chosen.offer_id.clone(), disk_gb: None }).await.unwrap().into_inner();
    assert_eq!(&offer.read_offer().unwrap(), chosen);
    let models = face.inventory().list_gpu_models(pb::ListGpuModelsRequest {}).await.unwrap().into_inner();
    assert!(models.read_models().unwrap().iter().any(|m| m.model == chosen.gpu_model));

    let created = face.create(by_offer(&chosen.offer_id)).await.unwrap();
    let session = created.session.unwrap();
    let id = session.session_id.clone();
    assert_eq!((session.state(), session.sequence, session.consumer_id.as_str()), (pb::session::State::Pending, 1, "default"));
    let pair = keys::LoginKey::from_private_pem(&created.ssh_private_key.into()).unwrap();
    assert_eq!(pair.public_line(), session.spec.unwrap().ssh_public_key);

    // From before its first event to its end.
    let start = Some(pb::watch_session_request::Start::ResumeToken(created.resume_token));
    let mut stream =
        face.sessions().watch_session(pb::WatchSessionRequest { session_id: id.clone(), start, bookmark_interval: None }).await.unwrap().into_inner();
    let mut told: Vec<pb::SessionEvent> = Vec::new();
    let mut extended = false;
    while let Some(message) = stream.message().await.unwrap() {
        assert!(!message.resume_token.is_empty());
        let event = match message.message.unwrap() {
            Message::Event(event) => pb::read::<pb::SessionEvent>(&event).unwrap(),
            Message::Bookmark(_) => continue,
            other => panic!("{other:?}"),
        };
        told.push(event.clone());
        let session = event.session.clone().unwrap();
        if event.to_state() == pb::session::State::Running && !extended {
            extended = true;
            assert!(session.ssh_command.starts_with("ssh -p ") && session.known_hosts_line.contains("ssh-ed25519"), "{session:?}");
            assert!(session.host_key_fingerprint.starts_with("SHA256:") && session.gpu_report.is_some());
            assert_eq!((session.offer_id.as_str(), session.offered_price.clone()), (chosen.offer_id.as_str(), chosen.price.clone()));
            face.house.pass(20 * MINUTE).await;
            let more = prost_types::Duration { seconds: 1800, nanos: 0 };
            let extension = Some(pb::extend_session_request::Extension::AdditionalDuration(more));
            let request = pb::ExtendSessionRequest { session_id: id.clone(), extension, ..Default::default() };
            face.sessions().extend_session(request).await.unwrap();
            let labels = BTreeMap::from([("team".to_owned(), "red".to_owned())]);
            let request = pb::UpdateSessionRequest { session_id: id.clone(), labels: labels.clone(), ..Default::default() };
            let updated = face.sessions().update_session(request).await.unwrap().into_inner();
            assert_eq!(updated.session.unwrap().labels, labels);
            let look =
                face.sessions().get_session_diagnostics(pb::GetSessionDiagnosticsRequest { session_id: id.clone() }).await.unwrap().into_inner();
            assert_eq!(look.instances.len(), 1);
            assert!(matches!(look.fresh_gpu, Some(pb::get_session_diagnostics_response::FreshGpu::FreshGpuReport(_))));
            let cost = face.costs().get_session_cost(pb::GetSessionCostRequest { session_id: id.clone() }).await.unwrap().into_inner();
            assert!(!cost.r#final && nanos(cost.total.unwrap().cost.as_ref()) > 0 && nanos(cost.rate_per_hour.as_ref()) > 0);
            let done = face.sessions().complete_session(pb::CompleteSessionRequest { session_id: id.clone(), ..Default::default() }).await.unwrap();
            assert_eq!(done.into_inner().session.unwrap().state(), pb::session::State::Stopping);
        }
    }
    // The stream has ended with OK: `message` gave no error.
    assert!(told.iter().zip(1..).all(|(e, n)| e.sequence == n && e.session_id == id));
    let kinds: Vec<_> = told.iter().map(|e| e.r#type()).collect();
    use pb::session_event::Type as T;
    assert!(kinds.first() == Some(&T::Created) && kinds.contains(&T::Extended) && kinds.contains(&T::Updated), "{kinds:?}");
    let last = told.last().unwrap();
    assert_eq!((last.to_state(), last.end_reason()), (pb::session::State::Stopped, pb::EndReason::Completed));

    // The same afterwards, by pages.
    let mut paged = Vec::new();
    let mut request = pb::ListSessionEventsRequest { session_id: id.clone(), page_size: 3, page_token: String::new() };
    loop {
        let page = face.sessions().list_session_events(request.clone()).await.unwrap().into_inner();
        paged.extend(page.events);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, told);
    let got = face.sessions().get_session(pb::GetSessionRequest { session_id: id.clone() }).await.unwrap().into_inner().read_session().unwrap();
    assert_eq!(Some(&got), last.session.as_ref());
    let red = pb::SessionFilter { labels: BTreeMap::from([("team".to_owned(), "red".to_owned())]), ..Default::default() };
    let found = face.sessions().list_sessions(pb::ListSessionsRequest { filter: Some(red), ..Default::default() }).await.unwrap().into_inner();
    assert_eq!(found.read_sessions().unwrap(), [got]);

    // Money: one number, wherever it is asked for, and the market's bill within its bounds.
    let cost = face.costs().get_session_cost(pb::GetSessionCostRequest { session_id: id.clone() }).await.unwrap().into_inner();
    let total = cost.total.unwrap();
    let bill = face.house.bill(id.parse().unwrap()).0;
    assert!(cost.r#final && nanos(total.low.as_ref()) <= bill && bill <= nanos(total.high.as_ref()));
    let report = pb::GetCostReportRequest { group_by: vec!["session".to_owned(), "label:team".to_owned()], ..Default::default() };
    let report = face.costs().get_cost_report(report).await.unwrap().into_inner();
    assert_eq!((report.groups.len(), &report.groups[0].keys), (1, &vec![id.clone(), "red".to_owned()]));
    assert_eq!(report.total.unwrap().cost, total.cost);
    assert_eq!(report.start_time, Some(prost_types::Timestamp::default()), "a time that every client can show");
    let ledger = face.costs().list_ledger_entries(pb::ListLedgerEntriesRequest::default()).await.unwrap().into_inner();
    let sum: i64 = ledger.entries.iter().map(|e| nanos(e.amount.as_ref().unwrap().cost.as_ref())).sum();
    assert_eq!(sum, nanos(total.cost.as_ref()));

    let mut operator = face.operator();
    let providers = operator.list_providers(pb::ListProvidersRequest {}).await.unwrap().into_inner().providers;
    assert!(providers.len() == 2 && providers.iter().all(|p| p.credentials_ok && p.open_session_count == 0));
    assert!(operator.list_unconfirmed_destroys(pb::ListUnconfirmedDestroysRequest {}).await.unwrap().into_inner().destroys.is_empty());
    face.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_over_sessions_and_its_tokens_cross_the_wire() {
    use pb::watch_sessions_response::Message as M;
    let face = Face::open(62, Faults::none()).await;
    let watch = |start| {
        let request = pb::WatchSessionsRequest { start, ..Default::default() };
        let mut client = face.sessions();
        async move { client.watch_sessions(request).await.map(tonic::Response::into_inner) }
    };
    let id = face.create(by_requirements(pb::OfferFilter::default())).await.unwrap().session.unwrap().session_id;
    face.until(&id, pb::session::State::Running).await;
    let mut stream = watch(None).await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    assert!(first.resume_token.is_empty() && matches!(&first.message, Some(M::Snapshot(s)) if s.session_id == id));
    let end = stream.message().await.unwrap().unwrap();
    let Some(M::SnapshotEnd(told)) = &end.message else { panic!("{end:?}") };
    assert_eq!((told.counts.len(), told.counts[0].count), (1, 1));
    assert!(nanos(told.spend_per_hour.as_ref()) > 0 && told.spend_text.starts_with('$'));
    let mut message = stream.message().await.unwrap().unwrap();
    while !matches!(message.message, Some(M::Bookmark(_))) {
        assert!(matches!(message.message, Some(M::Event(_))) && !message.resume_token.is_empty());
        message = stream.message().await.unwrap().unwrap();
    }
    assert!(!message.resume_token.is_empty());
    face.destroy(&id).await;
    let mut resumed = watch(Some(pb::watch_sessions_request::Start::ResumeToken(end.resume_token.clone()))).await.unwrap();
    let mut revision = told.revision;
    loop {
        let Some(M::Event(event)) = resumed.message().await.unwrap().unwrap().message else { panic!("the end is not told") };
        let event: pb::SessionEvent = pb::read(&event).unwrap();
        revision += 1;
        assert_eq!(event.revision, revision);
        if event.to_state() == pb::session::State::Stopped {
            break;
        }
    }
    // Another watch's token.
    let start = Some(pb::watch_session_request::Start::ResumeToken(end.resume_token));
    let request = pb::WatchSessionRequest { session_id: id, start, bookmark_interval: None };
    let status = face.sessions().watch_session(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "resume_token");
    face.house.close().await;
}

// === errors ===

/// The one ErrorInfo.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details_vec();
    let infos: Vec<_> = details.iter().filter_map(|d| if let tonic_types::ErrorDetail::ErrorInfo(info) = d { Some(info) } else { None }).collect();
    assert_eq!(infos.len(), 1, "{status:?}");
    assert_eq!(infos[0].domain, "gpushopper");
    infos[0].reason.clone()
}

#[tokio::test(start_paused = true)]
async fn errors_carry_everything_that_is_wrong() {
    let face = Face::open(63, Faults::none()).await;
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let wrong = pb::CreateSessionRequest {
        consumer_id: Some(String::new()),
        workload_type: 99,
        reservation: seconds(5),
        disk_gb: Some(0),
        ssh_public_key: Some("no key".to_owned()),
        max_price_per_hour: Some(pb::Money { currency_code: "EUR".to_owned(), units: 1, nanos: 0 }),
        request_id: "with space".to_owned(),
        ..Default::default()
    };
    let status = face.create(wrong).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    let mut fields: Vec<String> = status.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
    fields.sort();
    let expected =
        ["consumer_id", "disk_gb", "max_price_per_hour.currency_code", "request_id", "reservation", "ssh_public_key", "target", "workload_type"];
    assert_eq!(fields, expected);
    assert!(status.get_details_retry_info().is_none(), "trying the same again does not help");

    let offers = face.inventory().list_offers(pb::ListOffersRequest::default()).await.unwrap().into_inner();
    let single = offers.read_offers().unwrap().iter().find(|o| o.slots == Some(1)).unwrap().offer_id.clone();
    let missing = "01kaphz700fay8vvr14d2pf2db".to_owned();
    let status = face.sessions().get_session(pb::GetSessionRequest { session_id: missing.clone() }).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "SESSION_NOT_FOUND"));
    assert_eq!(status.get_details_error_info().unwrap().metadata["session_id"], missing);
    let status = face.create(by_offer("vastai-1")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "OFFER_NOT_FOUND"));
    let status = face.create(by_offer("acme-1")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    let too_long = pb::CreateSessionRequest { reservation: seconds(13 * 3600), ..by_offer(&single) };
    let status = face.create(too_long).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "HARD_MAX_EXCEEDED"));
    let impossible = pb::OfferFilter { min_gpu_count: Some(1000), ..Default::default() };
    let status = face.create(by_requirements(impossible)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "NO_CAPACITY"));
    assert!(status.message().contains("No offers available"), "{}", status.message());
    let id = face.create(by_offer(&single)).await.unwrap().session.unwrap().session_id;
    let status = face.create(by_offer(&single)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "SESSION_EXISTS"));
    assert_eq!(status.get_details_error_info().unwrap().metadata["session_id"], id);
    face.until(&id, pb::session::State::Running).await;
    face.destroy(&id).await;
    let extension = Some(pb::extend_session_request::Extension::AdditionalDuration(prost_types::Duration { seconds: 60, nanos: 0 }));
    let request = pb::ExtendSessionRequest { session_id: id.clone(), extension, ..Default::default() };
    let status = face.sessions().extend_session(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "SESSION_ENDED"));

    // Draining: what is asked for is refused with an invitation to come again; streams end so.
    let mut stream = face.sessions().watch_sessions(pb::WatchSessionsRequest::default()).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    face.house.core().drain.cancel();
    let mark = stream.message().await.unwrap().unwrap();
    assert!(matches!(mark.message, Some(pb::watch_sessions_response::Message::Bookmark(_))));
    let ended = stream.message().await.unwrap_err();
    let refused = face.create(by_offer(&single)).await.unwrap_err();
    for status in [ended, refused] {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "SERVER_DRAINING"));
        assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    }
    face.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_id_is_one_session_and_its_key_is_told_while_it_may_be() {
    let face = Face::open(64, Faults::gentle()).await;
    let request = || pb::CreateSessionRequest { request_id: "deploy-7".to_owned(), ..by_requirements(pb::OfferFilter::default()) };
    let first = face.create(request()).await.unwrap();
    let id = first.session.as_ref().unwrap().session_id.clone();
    assert!(!first.replayed && first.ssh_private_key.contains("OPENSSH PRIVATE KEY"));
    let again = face.create(request()).await.unwrap();
    assert!(again.replayed);
    assert_eq!((&again.session.unwrap().session_id, &again.ssh_private_key, &again.resume_token), (&id, &first.ssh_private_key, &first.resume_token));
    // Many at once, before anybody has an answer: one session.
    let together = || pb::CreateSessionRequest { request_id: "deploy-8".to_owned(), ..by_requirements(pb::OfferFilter::default()) };
    let answers = futures::future::join_all((0..100).map(|_| face.create(together()))).await;
    let ids: std::collections::BTreeSet<String> = answers.iter().map(|a| a.as_ref().unwrap().session.as_ref().unwrap().session_id.clone()).collect();
    let keys: std::collections::BTreeSet<&str> = answers.iter().map(|a| a.as_ref().unwrap().ssh_private_key.as_str()).collect();
    assert_eq!((ids.len(), keys.len(), answers.iter().filter(|a| !a.as_ref().unwrap().replayed).count()), (1, 1, 1));
    // The same id for something else.
    let other = pb::CreateSessionRequest { disk_gb: Some(200), ..request() };
    let status = face.create(other).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
    // Errors are not remembered.
    let refused = pb::CreateSessionRequest { request_id: "deploy-9".to_owned(), ..by_offer("vastai-1") };
    assert_eq!(face.create(refused).await.unwrap_err().code(), Code::NotFound);
    let fine = pb::CreateSessionRequest { request_id: "deploy-9".to_owned(), ..by_requirements(pb::OfferFilter::default()) };
    let third = face.create(fine).await.unwrap();
    assert!(!third.replayed);
    // Only checked: nothing comes of it, nothing is remembered.
    let check = pb::CreateSessionRequest { validate_only: true, request_id: "deploy-10".to_owned(), ..by_requirements(pb::OfferFilter::default()) };
    assert!(face.create(check).await.unwrap().ssh_private_key.is_empty());

    // Once it runs and ten minutes are over, the key is told no more; the session is.
    face.until(&id, pb::session::State::Running).await;
    assert_eq!(face.create(request()).await.unwrap().ssh_private_key, first.ssh_private_key);
    face.house.pass(11 * MINUTE).await;
    let late = face.create(request()).await.unwrap();
    assert!(late.replayed && late.ssh_private_key.is_empty());
    assert_eq!(late.session.unwrap().state(), pb::session::State::Running);
    // Commands too: one extension, however often it is sent.
    let extend = || {
        let extension = Some(pb::extend_session_request::Extension::AdditionalDuration(prost_types::Duration { seconds: 600, nanos: 0 }));
        pb::ExtendSessionRequest { session_id: id.clone(), extension, request_id: "more".to_owned(), ..Default::default() }
    };
    let once = face.sessions().extend_session(extend()).await.unwrap().into_inner();
    let twice = face.sessions().extend_session(extend()).await.unwrap().into_inner();
    assert!(!once.replayed && twice.replayed && once.resume_token == twice.resume_token);
    assert_eq!(once.session.unwrap().expire_time, twice.session.unwrap().expire_time);
    // Ids are each consumer's own: another one's `more` is another call; on another session of the same it is reused.
    let theirs = pb::CreateSessionRequest { consumer_id: Some("other".to_owned()), ..by_requirements(pb::OfferFilter::default()) };
    let theirs = face.create(theirs).await.unwrap().session.unwrap().session_id;
    let on = |id: &str| pb::ExtendSessionRequest { session_id: id.to_owned(), ..extend() };
    assert!(!face.sessions().extend_session(on(&theirs)).await.unwrap().into_inner().replayed);
    let third = third.session.unwrap().session_id;
    assert_eq!(reason(&face.sessions().extend_session(on(&third)).await.unwrap_err()), "REQUEST_ID_REUSED");
    for id in ids.iter().chain([&id, &third, &theirs]) {
        face.destroy(id).await;
    }
    face.house.close().await;
}

// === health, reflection ===

#[tokio::test(start_paused = true)]
async fn health_tells_when_it_serves() {
    let face = Face::open(65, Faults::none()).await;
    let mut client = HealthClient::new(face.channel.clone());
    let mut stream = client.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    for (serving, expected) in [(false, ServingStatus::NotServing), (true, ServingStatus::Serving), (false, ServingStatus::NotServing)] {
        face.health.set(serving).await;
        for name in [""].into_iter().chain(SERVICE_NAMES) {
            let answer = client.check(HealthCheckRequest { service: name.to_owned() }).await.unwrap().into_inner();
            assert_eq!(answer.status(), expected, "{name}");
        }
        if serving {
            while stream.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
        }
    }
    assert_eq!(client.check(HealthCheckRequest { service: "nobody".to_owned() }).await.unwrap_err().code(), Code::NotFound);
    face.house.close().await;
}

macro_rules! reflected {
    ($name:ident, $module:ident) => {
        #[tokio::test(start_paused = true)]
        async fn $name() {
            use prost::Message as _;
            use tonic_reflection::pb::$module::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$module::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$module::server_reflection_response::MessageResponse;
            use tonic_reflection::pb::$module::{ServerReflectionRequest, ServiceResponse};
            let face = Face::open(66, Faults::none()).await;
            let symbols = ["gpushopper.v1.SessionService", "gpushopper.v1.Session.State", "google.rpc.ErrorInfo", "google.rpc.BadRequest"];
            let asked = std::iter::once(MessageRequest::ListServices(String::new()))
                .chain(symbols.map(|symbol| MessageRequest::FileContainingSymbol(symbol.to_owned())))
                .map(|question| ServerReflectionRequest { host: String::new(), message_request: Some(question) });
            let mut answers = ServerReflectionClient::new(face.channel.clone())
                .server_reflection_info(futures::stream::iter(asked.collect::<Vec<_>>()))
                .await
                .unwrap()
                .into_inner();
            let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response else { panic!() };
            let names: Vec<String> = list.service.into_iter().map(|ServiceResponse { name }| name).collect();
            let expected =
                SERVICE_NAMES.into_iter().chain(["grpc.health.v1.Health", concat!("grpc.reflection.", stringify!($module), ".ServerReflection")]);
            for name in expected {
                assert!(names.iter().any(|n| n == name), "{name} is not among {names:?}");
            }
            for symbol in symbols {
                let answer = answers.message().await.unwrap().unwrap().message_response;
                let Some(MessageResponse::FileDescriptorResponse(files)) = answer else { panic!("{symbol}: {answer:?}") };
                let file = prost_types::FileDescriptorProto::decode(&files.file_descriptor_proto[0][..]).unwrap();
                assert!(symbol.starts_with(file.package()), "{symbol} in {}", file.name());
            }
            face.house.close().await;
        }
    };
}

reflected!(reflection_v1_lists_every_service, v1);
reflected!(reflection_v1alpha_lists_every_service, v1alpha);

#[tokio::test(start_paused = true)]
async fn why_so_few_and_what_is_remembered_cross_the_wire() {
    let face = Face::open(3, Faults::gentle()).await;
    let filter = pb::OfferFilter {
        providers: vec!["vastai".to_owned()],
        max_price_per_hour: Some(pb::Money { currency_code: String::new(), units: 0, nanos: 1_000_000 }),
        ..Default::default()
    };
    let told = face.inventory().explain_offers(pb::ExplainOffersRequest { filter: Some(filter) }).await.unwrap().into_inner();
    assert_eq!((told.matching_offer_count, told.set_aside_count), (0, 0));
    assert!(told.summary.contains("max_price_per_hour turns away") && told.snapshot_time.is_some() && told.providers.len() == 2, "{}", told.summary);
    assert_eq!(told.effects.iter().map(|e| e.removed_count).sum::<i32>(), told.total_offer_count);
    let relaxation = &told.relaxations[0];
    assert_eq!(relaxation.field, "max_price_per_hour");
    // What it proposes can be sent as it is, and is found.
    let query = pb::ListOffersRequest { filter: relaxation.filter.clone(), ..Default::default() };
    let page = face.inventory().list_offers(query).await.unwrap().into_inner();
    assert_eq!(page.total_size, relaxation.matching_offer_count);
    let offer = page.read_offers().unwrap().remove(0);
    let cheapest = offer.price.as_ref().unwrap().total_per_hour.as_ref();
    assert_eq!(nanos(cheapest), nanos(relaxation.from_price_per_hour.as_ref()));
    let id = face.create(by_offer(&offer.offer_id)).await.unwrap().session.unwrap().session_id;
    face.until(&id, pb::session::State::Running).await;
    face.destroy(&id).await;
    let mut operator = OperatorServiceClient::new(face.channel.clone());
    let health = operator.list_offer_health(pb::ListOfferHealthRequest::default()).await.unwrap().into_inner();
    let kinds: Vec<_> = health.entries.iter().map(|h| h.kind()).collect();
    use pb::offer_health::Kind;
    assert_eq!(kinds, [Kind::Provider, Kind::Host, Kind::Machine, Kind::Offer]);
    for entry in &health.entries {
        assert_eq!((entry.provider.as_str(), entry.launch_count, entry.usable_count, entry.last_outcome.as_str()), ("vastai", 1, 1, "usable"));
        assert!(entry.failure_counts.is_empty() && entry.set_aside_until_time.is_none() && entry.confidence > 0.5 && entry.confidence < 1.0);
    }
    assert_eq!(health.entries[3].name, offer.offer_id.trim_end_matches("-spot"));
    let wrong = pb::ListOfferHealthRequest { provider: Some("acme".to_owned()), kinds: vec![9], page_size: -1, ..Default::default() };
    let error = operator.list_offer_health(wrong).await.unwrap_err();
    let fields: Vec<String> = error.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
    assert_eq!(fields.len(), 3, "{fields:?}");
    face.house.close().await;
}
