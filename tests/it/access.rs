//! Who may call what: outsiders, revoked and expired tokens, every role and scope, at every RPC there is and every route;
//! limits per caller; what is written down of whom.

use crate::grpc::{Face, by_requirements, everybody};
use crate::support::House;
use axum::body::Body;
use futures::StreamExt;
use gpu_shopper::cli::client::{Bearer, Link};
use gpu_shopper::domain::access::{Need, Role};
use gpu_shopper::domain::ids::ConsumerId;
use gpu_shopper::grpc::pb;
use gpu_shopper::grpc::pb::cost_service_client::CostServiceClient;
use gpu_shopper::grpc::pb::operator_service_client::OperatorServiceClient;
use gpu_shopper::grpc::pb::session::State;
use gpu_shopper::grpc::pb::session_service_client::SessionServiceClient;
use gpu_shopper::http::rules::{self, RPCS};
use gpu_shopper::services::access::{Fixed, Limits, NewToken, Parts, STRANGERS_STREAMS};
use gpu_shopper::services::api::Caller;
use gpu_shopper::sim::Faults;
use http::{Method, Request, StatusCode};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeSet;
use std::time::Duration;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;

const ADMIN: &str = "an-admins-token-of-these-tests";
const WATCHER: &str = "a-read-only-token-of-these-tests";
const HINT: &str = "an admin's lies in /x/y.token, sent as `-H \"Authorization: Bearer $(cat /x/y.token)\"`";

fn boss() -> Caller {
    Caller { principal: "admin".to_owned(), scope: None, admin: true, request: String::new() }
}

fn guarded(house: &House, limits: Limits) -> Parts {
    let fixed = |name, role, text: &str| Fixed { name, role, text: text.into(), origin: "setting".to_owned() };
    let fixed = vec![fixed("admin", Role::Admin, ADMIN), fixed("read-only", Role::ReadOnly, WATCHER)];
    Parts { required: true, fixed, hint: HINT.to_owned(), limits, ..everybody(house) }
}

async fn face(seed: u64, per_second: u32, streams: u32) -> Face {
    let house = House::new(seed, Faults::gentle()).await;
    let parts = guarded(&house, Limits { per_second, streams });
    Face::guarded(house, parts, &["https://app.example"]).await
}

async fn token(face: &Face, name: &str, role: Role, consumer: Option<&str>) -> SecretString {
    token_for(face, name, role, consumer, None).await
}

async fn token_for(face: &Face, name: &str, role: Role, consumer: Option<&str>, lifetime: Option<Duration>) -> SecretString {
    let new = NewToken { name: name.to_owned(), role, consumer: consumer.map(ConsumerId::new), lifetime };
    face.access.create(&boss(), new).await.unwrap().1
}

/// One call of an RPC as its bytes go over the wire: how it ended, as far as its headers tell (an error always does).
async fn rpc(face: &Face, path: &str, authorization: Option<&str>, message: &[u8]) -> Status {
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(message);
    let mut request = Request::post(path).version(http::Version::HTTP_2).header("content-type", "application/grpc").header("te", "trailers");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let answer = face.router.clone().oneshot(request.body(Body::from(framed)).unwrap()).await.unwrap();
    assert_eq!((answer.status(), answer.headers()["content-type"].to_str().unwrap()), (StatusCode::OK, "application/grpc"), "{path}");
    Status::from_header_map(answer.headers()).unwrap_or_else(|| Status::new(Code::Ok, ""))
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

fn bearer(token: &SecretString) -> String {
    format!("Bearer {}", token.expose_secret())
}

fn pool() -> DescriptorPool {
    DescriptorPool::decode(pb::DESCRIPTOR_SET).unwrap()
}

fn methods(pool: &DescriptorPool) -> Vec<MethodDescriptor> {
    let ours = pool.services().filter(|s| s.package_name() == "gpushopper.v1");
    ours.flat_map(|s| s.methods().collect::<Vec<_>>()).collect()
}

fn path_of(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// Who may, in other words than the table's.
fn expected(service: &str, method: &str) -> Need {
    let looks = ["Get", "List", "Watch", "Wait", "Explain"].iter().any(|head| method.starts_with(head));
    match (service, method, looks) {
        ("CostService", "GetSpendRate", _) | ("OperatorService", _, true) => Need::Overview,
        ("OperatorService", _, false) => Need::Admin,
        (_, _, true) => Need::Token,
        (_, _, false) => Need::Consumer,
    }
}

#[test]
fn every_rpc_is_in_the_table_with_what_it_needs_and_nothing_else_is() {
    let pool = pool();
    let mut all = BTreeSet::new();
    for method in methods(&pool) {
        let rule = rules::listed(&Method::POST, &path_of(&method), None).unwrap_or_else(|| panic!("{} is not in the table", path_of(&method)));
        assert_eq!(rule.need, expected(method.parent_service().name(), method.name()), "{}", method.full_name());
        assert_eq!(rule.lasts, method.is_server_streaming() || method.name() == "WaitSession", "{}", method.full_name());
        all.insert(path_of(&method));
    }
    let listed = RPCS.iter().flat_map(|(service, methods)| methods.iter().map(move |(name, ..)| format!("/{service}/{name}")));
    let (ours, others): (BTreeSet<String>, BTreeSet<String>) = listed.partition(|path| path.starts_with("/gpushopper."));
    assert_eq!(ours, all);
    assert!(all.len() > 35 && others.len() == 4, "{others:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outsider_gets_into_no_rpc() {
    let face = face(301, 0, 0).await;
    let revoked = token(&face, "gone", Role::Admin, None).await;
    face.access.revoke(&boss(), "gone").await.unwrap();
    let expired = token_for(&face, "past", Role::Admin, None, Some(Duration::from_secs(60))).await;
    face.house.pass(Duration::from_secs(61)).await;
    let good = token(&face, "good", Role::Admin, None).await;
    let pool = pool();
    let ours = methods(&pool).iter().map(path_of).collect::<Vec<_>>();
    let reflection = ["v1", "v1alpha"].map(|v| format!("/grpc.reflection.{v}.ServerReflection/ServerReflectionInfo"));
    let unknown = ["/gpushopper.v1.OperatorService/NoSuchMethod".to_owned(), "/no.such.Service/Method".to_owned()];
    for path in ours.iter().chain(&reflection).chain(&unknown) {
        let none = rpc(&face, path, None, &[]).await;
        assert_eq!((none.code(), reason(&none).as_str()), (Code::Unauthenticated, "TOKEN_MISSING"), "{path}");
        assert!(none.message().contains("`Authorization: Bearer TOKEN`") && none.message().contains(HINT), "{}", none.message());
        let (gone, past) = (bearer(&revoked), bearer(&expired));
        let basic = format!("Basic {}", good.expose_secret());
        for wrong in ["Bearer gst_wrong", &gone, &past, &basic, good.expose_secret(), "Bearer", ""] {
            let refused = rpc(&face, path, Some(wrong), &[]).await;
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "TOKEN_INVALID"), "{path} {wrong}");
            assert!(!format!("{refused:?}").contains(good.expose_secret()), "{path}");
        }
    }
    // By whatever HTTP method.
    for method in [Method::OPTIONS, Method::GET, Method::HEAD, Method::PUT] {
        let request =
            Request::builder().method(&method).uri(&reflection[0]).version(http::Version::HTTP_2).header("content-type", "application/grpc");
        let answer = face.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        if method == Method::OPTIONS {
            // For some pages there is CORS here, which answers this by itself.
            assert_eq!(answer.headers().get("content-type"), None);
            continue;
        }
        assert_eq!(answer.headers()["grpc-status"], "16", "{method}");
    }
    // Load balancers ask without a token.
    let health = rpc(&face, "/grpc.health.v1.Health/Check", None, &[]).await;
    assert_eq!(health.code(), Code::Ok);
    // What is nowhere is told to whoever has a token.
    let looks = token(&face, "looks", Role::ReadOnly, Some("alice")).await;
    for (path, token) in unknown.iter().flat_map(|path| [(path, &good), (path, &looks)]) {
        assert_eq!(rpc(&face, path, Some(&bearer(token)), &[]).await.code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_authorization_headers_are_none() {
    let face = face(302, 0, 0).await;
    let ask = |twice: bool| {
        let mut request = Request::get("/metrics").header("authorization", format!("Bearer {ADMIN}"));
        if twice {
            request = request.header("authorization", format!("Bearer {ADMIN}"));
        }
        face.router.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    assert_eq!(ask(false).await.unwrap().status(), StatusCode::OK);
    assert_eq!(ask(true).await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn every_rpc_keeps_to_roles() {
    let face = face(303, 0, 0).await;
    let mut bearers = Vec::new();
    for (name, role, scope) in [
        ("boss", Role::Admin, None),
        ("scheduler", Role::Consumer, None),
        ("alice", Role::Consumer, Some("alice")),
        ("eyes", Role::ReadOnly, None),
        ("alice-eyes", Role::ReadOnly, Some("alice")),
    ] {
        bearers.push((role, scope.is_some(), bearer(&token(&face, name, role, scope).await)));
    }
    let pool = pool();
    for method in methods(&pool) {
        let need = expected(method.parent_service().name(), method.name());
        for (role, scoped, bearer) in &bearers {
            let may = match need {
                Need::Nothing | Need::Token => true,
                Need::Overview => *role == Role::Admin || (*role == Role::ReadOnly && !scoped),
                Need::Consumer => *role != Role::ReadOnly,
                Need::Admin => *role == Role::Admin,
            };
            let status = rpc(&face, &path_of(&method), Some(bearer), &[]).await;
            let at = format!("{} as {role}, scoped {scoped}: {status:?}", method.full_name());
            if may {
                assert!(!matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied), "{at}");
            } else {
                assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "ROLE_REQUIRED"), "{at}");
            }
        }
    }
    // What only an admin may is not left out in silence for others.
    let bob = bearers[1].2.clone();
    let id = face.house.rent(None).await.session.id.to_string();
    let beyond = pb::ExtendSessionRequest {
        session_id: id.clone(),
        extension: Some(pb::extend_session_request::Extension::AdditionalDuration(prost_types::Duration { seconds: 600, nanos: 0 })),
        override_hard_max: true,
        ..Default::default()
    };
    let refused = rpc(&face, "/gpushopper.v1.SessionService/ExtendSession", Some(&bob), &beyond.encode_to_vec()).await;
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "ROLE_REQUIRED"));
    let allowed = rpc(&face, "/gpushopper.v1.SessionService/ExtendSession", Some(&bearers[0].2), &beyond.encode_to_vec()).await;
    assert_eq!(allowed.code(), Code::Ok, "{allowed:?}");
    end(&face, &id).await;
}

async fn end(face: &Face, id: &str) {
    let ended = rpc(face, "/gpushopper.v1.SessionService/DestroySession", Some(&format!("Bearer {ADMIN}")), &session_message(id)).await;
    assert_eq!(ended.code(), Code::Ok, "{ended:?}");
    face.house.until(id.parse().unwrap(), gpu_shopper::domain::session::State::Stopped, Duration::from_secs(3600)).await;
}

fn session_message(id: &str) -> Vec<u8> {
    pb::DestroySessionRequest { session_id: id.to_owned(), ..Default::default() }.encode_to_vec()
}

/// A client that sends this token.
fn sessions(face: &Face, token: &SecretString) -> SessionServiceClient<Link> {
    SessionServiceClient::new(link(face, token))
}

fn link(face: &Face, token: &SecretString) -> Link {
    InterceptedService::new(face.channel.clone(), Bearer::new(Some(token)).unwrap())
}

fn of(consumer: Option<&str>) -> pb::CreateSessionRequest {
    pb::CreateSessionRequest { consumer_id: consumer.map(str::to_owned), ..by_requirements(pb::OfferFilter::default()) }
}

/// A request that is good but for whose session it is about, where the RPC is about one.
fn about(method: &MethodDescriptor, id: &str) -> Option<Vec<u8>> {
    let mut message = DynamicMessage::new(method.input());
    let field = method.input().get_field_by_name("session_id")?;
    message.set_field(&field, Value::String(id.to_owned()));
    if method.name() == "ExtendSession" {
        let length = method.input().get_field_by_name("additional_duration").unwrap();
        let mut span = DynamicMessage::new(length.kind().as_message().unwrap().clone());
        span.set_field_by_name("seconds", Value::I64(60));
        message.set_field(&length, Value::Message(span));
    }
    if method.name() == "UpdateSession" {
        let idle = method.input().get_field_by_name("idle_threshold").unwrap();
        let mut span = DynamicMessage::new(idle.kind().as_message().unwrap().clone());
        span.set_field_by_name("seconds", Value::I64(3600));
        message.set_field(&idle, Value::Message(span));
    }
    if method.name() == "WaitSession" {
        let wait = method.input().get_field_by_name("timeout").unwrap();
        let mut span = DynamicMessage::new(wait.kind().as_message().unwrap().clone());
        span.set_field_by_name("seconds", Value::I64(1));
        message.set_field(&wait, Value::Message(span));
    }
    Some(message.encode_to_vec())
}

#[tokio::test(start_paused = true)]
async fn what_is_another_consumers_is_not_there() {
    let face = face(304, 0, 0).await;
    let alice = token(&face, "alice", Role::Consumer, Some("alice")).await;
    let bob = token(&face, "bob", Role::Consumer, Some("bob")).await;
    let bobs_eyes = token(&face, "bobs-eyes", Role::ReadOnly, Some("bob")).await;
    let scheduler = token(&face, "scheduler", Role::Consumer, None).await;

    let created = sessions(&face, &alice).create_session(of(None)).await.unwrap().into_inner().session.unwrap();
    assert_eq!(created.consumer_id, "alice", "the token's consumer where none is named");
    for (who, consumer) in [(&alice, Some("bob")), (&bob, Some("alice"))] {
        let refused = sessions(&face, who).create_session(of(consumer)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "CONSUMER_NOT_FOUND"));
    }
    let id = created.session_id;
    face.house.until(id.parse().unwrap(), gpu_shopper::domain::session::State::Running, Duration::from_secs(1800)).await;

    let (pool, mut about_one) = (pool(), 0);
    for method in methods(&pool) {
        let Some(message) = about(&method, &id) else { continue };
        about_one += 1;
        let need = expected(method.parent_service().name(), method.name());
        for (name, who, may) in [("bob", &bob, true), ("bob's eyes", &bobs_eyes, need == Need::Token)] {
            let status = rpc(&face, &path_of(&method), Some(&bearer(who)), &message).await;
            let wanted = if may { (Code::NotFound, "SESSION_NOT_FOUND") } else { (Code::PermissionDenied, "ROLE_REQUIRED") };
            assert_eq!((status.code(), reason(&status).as_str()), wanted, "{} as {name}", method.full_name());
        }
        // Those that end it come last, below.
        if !matches!(method.name(), "CompleteSession" | "DestroySession") {
            let status = rpc(&face, &path_of(&method), Some(&bearer(&alice)), &message).await;
            assert_eq!(status.code(), Code::Ok, "{}: {status:?}", method.full_name());
        }
    }
    assert_eq!(about_one, 12);

    // Lists, sums and streams have only what is one's own.
    let mut watch = sessions(&face, &bobs_eyes).watch_sessions(pb::WatchSessionsRequest::default()).await.unwrap().into_inner();
    let listed =
        async |who: &SecretString| sessions(&face, who).list_sessions(pb::ListSessionsRequest::default()).await.unwrap().into_inner().sessions.len();
    assert_eq!((listed(&alice).await, listed(&bob).await, listed(&bobs_eyes).await, listed(&scheduler).await), (1, 0, 0, 1));
    let costs = |who: &SecretString| CostServiceClient::new(link(&face, who));
    let sessions_of =
        async |who: &SecretString| costs(who).get_cost_report(pb::GetCostReportRequest::default()).await.unwrap().into_inner().session_count;
    assert_eq!((sessions_of(&alice).await, sessions_of(&bob).await, sessions_of(&scheduler).await), (1, 0, 1));
    let entries =
        async |who: &SecretString| costs(who).list_ledger_entries(pb::ListLedgerEntriesRequest::default()).await.unwrap().into_inner().entries;
    assert!(!entries(&alice).await.is_empty() && entries(&bob).await.is_empty());
    let filter = Some(pb::SessionFilter { consumer_id: Some("alice".to_owned()), ..Default::default() });
    let refused = [
        sessions(&face, &bob).list_sessions(pb::ListSessionsRequest { filter: filter.clone(), ..Default::default() }).await.unwrap_err(),
        sessions(&face, &bob).watch_sessions(pb::WatchSessionsRequest { filter, ..Default::default() }).await.unwrap_err(),
        costs(&bob)
            .get_cost_report(pb::GetCostReportRequest {
                filter: Some(pb::CostFilter { consumer_id: Some("alice".to_owned()), ..Default::default() }),
                ..Default::default()
            })
            .await
            .unwrap_err(),
    ];
    for status in refused {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "CONSUMER_NOT_FOUND"));
    }
    let of_alices =
        pb::GetCostReportRequest { filter: Some(pb::CostFilter { session_id: Some(id.clone()), ..Default::default() }), ..Default::default() };
    assert_eq!(reason(&costs(&bob).get_cost_report(of_alices).await.unwrap_err()), "SESSION_NOT_FOUND");

    let bobs = sessions(&face, &bob).create_session(of(None)).await.unwrap().into_inner().session.unwrap().session_id;
    sessions(&face, &alice).complete_session(pb::CompleteSessionRequest { session_id: id.clone(), ..Default::default() }).await.unwrap();
    let mut seen = BTreeSet::new();
    while !seen.contains(&bobs) {
        let message = watch.message().await.unwrap().unwrap();
        if let Some(pb::watch_sessions_response::Message::Event(event)) = message.message {
            seen.insert(pb::read::<pb::SessionEvent>(&event).unwrap().session_id);
        }
    }
    assert_eq!(seen, BTreeSet::from([bobs.clone()]));
    end(&face, &bobs).await;
    face.house.until(id.parse().unwrap(), gpu_shopper::domain::session::State::Stopped, Duration::from_secs(3600)).await;
}

#[tokio::test(start_paused = true)]
async fn calls_are_repeated_and_written_down_in_the_name_of_the_token() {
    let face = face(305, 0, 0).await;
    let (one, other) = (token(&face, "one", Role::Consumer, None).await, token(&face, "other", Role::Consumer, None).await);
    let named = |request: pb::CreateSessionRequest| pb::CreateSessionRequest { request_id: "job-1".to_owned(), ..request };
    let first = sessions(&face, &one).create_session(named(of(Some("alice")))).await.unwrap().into_inner();
    let again = sessions(&face, &one).create_session(named(of(Some("alice")))).await.unwrap().into_inner();
    let another = sessions(&face, &other).create_session(named(of(Some("alice")))).await.unwrap().into_inner();
    let id = |answer: &pb::CreateSessionResponse| answer.session.as_ref().unwrap().session_id.clone();
    assert!(again.replayed && id(&first) == id(&again) && again.ssh_private_key == first.ssh_private_key);
    assert!(!another.replayed && id(&another) != id(&first), "the same request_id of another caller is another call");

    let update = pb::UpdateSessionRequest {
        session_id: id(&first),
        idle_threshold: Some(prost_types::Duration { seconds: 7200, nanos: 0 }),
        ..Default::default()
    };
    sessions(&face, &other).update_session(update).await.unwrap();
    sessions(&face, &other).keep_alive(pb::KeepAliveRequest { session_id: id(&first), ..Default::default() }).await.ok();
    let done = pb::CompleteSessionRequest { session_id: id(&first), ..Default::default() };
    sessions(&face, &one).complete_session(done.clone()).await.unwrap();
    sessions(&face, &one).complete_session(done).await.unwrap();
    let admin: SecretString = ADMIN.into();
    let mut operator = OperatorServiceClient::new(link(&face, &admin));
    operator.drain_sessions(pb::DrainSessionsRequest { validate_only: false }).await.unwrap();
    let asked = pb::CreateTokenRequest {
        name: "third".to_owned(),
        role: pb::TokenRole::ReadOnly.into(),
        consumer_id: Some("alice".to_owned()),
        lifetime: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
    };
    let made = operator.create_token(asked).await.unwrap().into_inner();
    assert!(made.token_text.starts_with("gst_") && !format!("{made:?}").contains(&made.token_text));
    operator.revoke_token(pb::RevokeTokenRequest { name: "third".to_owned() }).await.unwrap();
    for (session, hours) in [(id(&first), 1), (id(&another), 1)] {
        face.house.until(session.parse().unwrap(), gpu_shopper::domain::session::State::Stopped, Duration::from_secs(hours * 3600)).await;
    }

    let page = operator.list_audit_entries(pb::ListAuditEntriesRequest::default()).await.unwrap().into_inner();
    let mut told: Vec<(String, String, String)> = page.entries.iter().rev().map(|e| (e.actor.clone(), e.action.clone(), e.target.clone())).collect();
    told.retain(|(_, action, target)| action != "create_token" || target == "third");
    let want: Vec<(String, String, String)> = [
        ("one", "create_session", id(&first)),
        ("other", "create_session", id(&another)),
        ("other", "update_session", id(&first)),
        ("one", "complete_session", id(&first)),
        ("admin", "drain_session", id(&another)),
        ("admin", "create_token", "third".to_owned()),
        ("admin", "revoke_token", "third".to_owned()),
    ]
    .map(|(actor, action, target)| (actor.to_owned(), action.to_owned(), target))
    .into();
    assert_eq!(told, want);
    assert!(page.entries.iter().any(|e| e.action == "create_session" && e.detail.starts_with("for alice: what fits, ")));
    assert!(page.entries.iter().any(|e| e.action == "create_token" && e.detail.starts_with("read-only for alice until ")), "{:?}", page.entries);
    assert!(page.entries.iter().all(|e| !format!("{e:?}").contains("gst_")));

    let events = pb::ListSessionEventsRequest { session_id: id(&first), ..Default::default() };
    let events = sessions(&face, &one).list_session_events(events).await.unwrap().into_inner().events;
    assert_eq!(events[0].actor, "user:one");
    assert!(events.iter().any(|e| e.to_state() == State::Stopping && e.actor == "user:one"), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn tokens_are_made_once_listed_without_their_text_and_end_at_once() {
    let face = face(306, 0, 0).await;
    let admin: SecretString = ADMIN.into();
    let mut operator = OperatorServiceClient::new(link(&face, &admin));
    let asked = |name: &str, role: pb::TokenRole, consumer: Option<&str>| pb::CreateTokenRequest {
        name: name.to_owned(),
        role: role.into(),
        consumer_id: consumer.map(str::to_owned),
        lifetime: None,
    };
    for (request, field) in [
        (asked("", pb::TokenRole::Admin, None), "name"),
        (asked("Ci", pb::TokenRole::Admin, None), "name"),
        (asked("admin", pb::TokenRole::Admin, None), "name"),
        (asked("ci", pb::TokenRole::Unspecified, None), "role"),
        (asked("ci", pb::TokenRole::Admin, Some("alice")), "consumer_id"),
        (asked("ci", pb::TokenRole::Consumer, Some("")), "consumer_id"),
        (
            pb::CreateTokenRequest { lifetime: Some(prost_types::Duration { seconds: 1, nanos: 0 }), ..asked("ci", pb::TokenRole::Consumer, None) },
            "lifetime",
        ),
    ] {
        let refused = operator.create_token(request).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_FIELD");
        assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, field);
    }
    let text = operator.create_token(asked("ci", pb::TokenRole::Consumer, Some("ci"))).await.unwrap().into_inner().token_text;
    assert_eq!(reason(&operator.create_token(asked("ci", pb::TokenRole::ReadOnly, None)).await.unwrap_err()), "TOKEN_EXISTS");

    let ci: SecretString = text.clone().into();
    let mut watch = sessions(&face, &ci).watch_sessions(pb::WatchSessionsRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let listed = operator.list_tokens(pb::ListTokensRequest {}).await.unwrap().into_inner();
    assert!(!format!("{listed:?}").contains(&text) && !format!("{listed:?}").contains(ADMIN));
    let row = listed.tokens.iter().find(|t| t.name == "ci").unwrap();
    assert_eq!(
        (row.role(), row.consumer_id.as_deref(), row.created_by.as_str(), row.origin.as_str()),
        (pb::TokenRole::Consumer, Some("ci"), "admin", "database")
    );
    assert!(row.last_used_time.is_some() && row.revoke_time.is_none());

    let ended = operator.revoke_token(pb::RevokeTokenRequest { name: "ci".to_owned() }).await.unwrap().into_inner().token.unwrap();
    assert!(ended.revoke_time.is_some() && ended.revoked_by == "admin");
    let cut = loop {
        match watch.message().await {
            Ok(message) => assert!(message.is_some(), "the stream ended as if all had been told"),
            Err(status) => break status,
        }
    };
    assert_eq!((cut.code(), reason(&cut)), (Code::Unauthenticated, "TOKEN_INVALID".to_owned()), "{cut:?}");
    let refused = sessions(&face, &ci).list_sessions(pb::ListSessionsRequest::default()).await.unwrap_err();
    assert_eq!(reason(&refused), "TOKEN_INVALID");

    // A browser's call says it, too, in its last frame.
    let page = token(&face, "page", Role::Consumer, None).await;
    let watching = Request::post("/gpushopper.v1.SessionService/WatchSessions").header("authorization", bearer(&page));
    let watching = watching.header("content-type", "application/grpc-web").body(Body::from(&b"\0\0\0\0\0"[..])).unwrap();
    let mut body = face.router.clone().oneshot(watching).await.unwrap().into_body().into_data_stream();
    assert!(body.next().await.unwrap().is_ok(), "the snapshot's end");
    face.access.revoke(&boss(), "page").await.unwrap();
    let mut last = Vec::new();
    while let Some(chunk) = body.next().await {
        last = chunk.expect("a stream that ends with a word does not break").to_vec();
    }
    let text = String::from_utf8_lossy(&last).into_owned();
    assert!(last[0] == 0x80 && text.contains("grpc-status:16\r\n") && text.contains("grpc-status-details-bin:"), "{text}");

    // So does a call that waits.
    let waiter = token(&face, "waiter", Role::Consumer, None).await;
    let id = sessions(&face, &waiter).create_session(of(None)).await.unwrap().into_inner().session.unwrap().session_id;
    let wait = pb::WaitSessionRequest {
        session_id: id.clone(),
        until: vec![State::Stopped.into()],
        timeout: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
    };
    let (mut client, begun) = (sessions(&face, &waiter), face.house.now());
    let waiting = tokio::spawn(async move { client.wait_session(wait).await });
    face.house.pass(Duration::from_secs(5)).await;
    face.access.revoke(&boss(), "waiter").await.unwrap();
    assert_eq!(reason(&waiting.await.unwrap().unwrap_err()), "TOKEN_INVALID");
    assert!(face.house.now().since(begun) < Duration::from_secs(10));
    end(&face, &id).await;
    for (name, why) in [("ci", "TOKEN_NOT_FOUND"), ("nobody", "TOKEN_NOT_FOUND"), ("admin", "TOKEN_CONFIGURED")] {
        assert_eq!(reason(&operator.revoke_token(pb::RevokeTokenRequest { name: name.to_owned() }).await.unwrap_err()), why);
    }
    assert_eq!(reason(&operator.create_token(asked("ci", pb::TokenRole::ReadOnly, None)).await.unwrap_err()), "TOKEN_EXISTS", "a name is given once");

    // A stream ends with its token's time, too.
    let short = token_for(&face, "short", Role::Consumer, None, Some(Duration::from_secs(90))).await;
    let mut watch = sessions(&face, &short).watch_sessions(pb::WatchSessionsRequest::default()).await.unwrap().into_inner();
    let begun = face.house.now();
    let cut = loop {
        match watch.message().await {
            Ok(message) => assert!(message.is_some()),
            Err(status) => break status,
        }
    };
    assert_eq!((cut.code(), face.house.now().since(begun)), (Code::Unauthenticated, Duration::from_secs(90)));

    // The next server knows them, and no text is in the database.
    let parts = guarded(&face.house, Limits { per_second: 0, streams: 0 });
    let next = gpu_shopper::services::access::Access::open(parts).await.unwrap();
    let names: Vec<String> = next.list().await.unwrap().into_iter().map(|t| t.record.name).collect();
    assert_eq!(names, ["admin", "read-only", "ci", "page", "short", "waiter"]);
    assert!(next.admit([bearer(&ci).as_bytes()], Need::Token, false).is_err());
}

#[tokio::test(start_paused = true)]
async fn each_token_has_limits_of_its_own() {
    let face = face(307, 5, 2).await;
    let (eager, other) = (token(&face, "eager", Role::Consumer, None).await, token(&face, "other", Role::Consumer, None).await);
    let list = "/gpushopper.v1.SessionService/ListSessions";
    for n in 0..5 {
        assert_eq!(rpc(&face, list, Some(&bearer(&eager)), &[]).await.code(), Code::Ok, "{n}");
    }
    let refused = rpc(&face, list, Some(&bearer(&eager)), &[]).await;
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    let wait = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_millis(200), "{wait:?}");
    assert_eq!(rpc(&face, list, Some(&bearer(&other)), &[]).await.code(), Code::Ok, "others are not concerned");
    face.house.pass(wait).await;
    assert_eq!(rpc(&face, list, Some(&bearer(&eager)), &[]).await.code(), Code::Ok, "it may go on after that wait");
    let json = async |token: &SecretString| {
        let request = Request::get("/metrics").header("authorization", bearer(token)).body(Body::empty()).unwrap();
        face.router.clone().oneshot(request).await.unwrap()
    };
    let watcher: SecretString = WATCHER.into();
    for _ in 0..5 {
        assert_eq!(json(&watcher).await.status(), StatusCode::OK);
    }
    let refused = json(&watcher).await;
    assert_eq!((refused.status(), &refused.headers()["retry-after"]), (StatusCode::TOO_MANY_REQUESTS, &http::HeaderValue::from_static("1")));

    face.house.pass(Duration::from_secs(2)).await;
    let mut watches = Vec::new();
    for _ in 0..2 {
        watches.push(sessions(&face, &eager).watch_sessions(pb::WatchSessionsRequest::default()).await.unwrap());
    }
    let refused = sessions(&face, &eager).watch_sessions(pb::WatchSessionsRequest::default()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "TOO_MANY_STREAMS"));
    assert!(refused.get_details_retry_info().is_some());
    assert!(sessions(&face, &other).watch_sessions(pb::WatchSessionsRequest::default()).await.is_ok());
    assert!(sessions(&face, &eager).list_sessions(pb::ListSessionsRequest::default()).await.is_ok(), "calls that don't last are not counted");
    watches.pop();
    for _ in 0..100 {
        face.house.pass(Duration::from_secs(1)).await;
        if let Ok(watch) = sessions(&face, &eager).watch_sessions(pb::WatchSessionsRequest::default()).await {
            watches.push(watch);
            break;
        }
    }
    assert_eq!(watches.len(), 2, "a place that is given back is free again");
}

/// They may not fill the server; who has a token is not kept out by them.
#[tokio::test(start_paused = true)]
async fn strangers_watch_the_health_within_a_bound_of_their_own() {
    let face = face(344, 0, 2).await;
    let watch = async |token: Option<&str>| {
        let mut request = Request::post("/grpc.health.v1.Health/Watch").version(http::Version::HTTP_2).header("content-type", "application/grpc");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        face.router.clone().oneshot(request.body(Body::from(vec![0; 5])).unwrap()).await.unwrap()
    };
    let refusal = |answer: &http::Response<Body>| Status::from_header_map(answer.headers()).map(|status| (status.code(), reason(&status)));
    let mut open = Vec::new();
    for n in 0..STRANGERS_STREAMS {
        // A wrong token makes nobody known.
        let answer = watch((n % 2 == 0).then_some("gst_wrong")).await;
        assert_eq!(refusal(&answer), None, "{n}");
        open.push(answer);
    }
    let too_many = Some((Code::ResourceExhausted, "TOO_MANY_STREAMS".to_owned()));
    assert_eq!(refusal(&watch(None).await), too_many);
    let check = rpc(&face, "/grpc.health.v1.Health/Check", None, &[]).await;
    assert_eq!(check.code(), Code::Ok, "what ends at once is not counted");
    let known = [watch(Some(ADMIN)).await, watch(Some(ADMIN)).await];
    assert!(known.iter().all(|answer| refusal(answer).is_none()));
    assert_eq!(refusal(&watch(Some(WATCHER)).await), None, "each token has places of its own");
    open.pop();
    assert_eq!(refusal(&watch(None).await), None, "a place that is given back is free again");
}

#[tokio::test(start_paused = true)]
async fn routes_ask_for_a_token_as_rpcs_do() {
    let face = face(308, 0, 0).await;
    let alice = token(&face, "alice", Role::Consumer, Some("alice")).await;
    let alices_eyes = token(&face, "alices-eyes", Role::ReadOnly, Some("alice")).await;
    let (admin, watcher): (SecretString, SecretString) = (ADMIN.into(), WATCHER.into());
    let ask = async |method: &Method, path: &str, token: Option<&SecretString>| {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", bearer(token));
        }
        let answer = face.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
    };
    for open in ["/health", "/ready"] {
        assert_eq!(ask(&Method::GET, open, None).await.0, 200);
    }
    for path in ["/metrics", "/", "/favicon.ico", "/openapi.json", "/api/v1/sessions", "/api/v1/operator/tokens", "/api/v2/x", "//health"] {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::PUT] {
            let (status, headers, body) = ask(&method, path, None).await;
            assert_eq!((status, headers["www-authenticate"].to_str().unwrap()), (401, "Bearer"), "{method} {path}");
            if method == Method::GET {
                let body: serde_json::Value = serde_json::from_str(&body).unwrap();
                assert_eq!((body["error_type"].as_str(), body["retry_suggested"].as_bool()), (Some("token_missing"), Some(false)));
                assert!(body["error"].as_str().unwrap().contains(HINT), "{body}");
            }
        }
    }
    for (path, who, status) in [
        ("/metrics", &admin, 200),
        ("/metrics", &watcher, 200),
        ("/metrics", &alice, 403),
        ("/metrics", &alices_eyes, 403),
        ("/api/v1/sessions", &alice, 404),
        ("/api/v1/operator/x", &alice, 403),
        ("/api/v1/operator/x", &watcher, 404),
        ("/api/v1/sesions", &alice, 404),
        ("/api/v1/sesions", &alices_eyes, 404),
        ("/api/v1/sesions", &admin, 404),
        ("/", &watcher, 404),
    ] {
        assert_eq!(ask(&Method::GET, path, Some(who)).await.0, status, "{path}");
    }
    assert_eq!(ask(&Method::DELETE, "/api/v1/sessions/x", Some(&alices_eyes)).await.0, 403);
    assert_eq!(ask(&Method::DELETE, "/api/v1/sessions/x", Some(&alice)).await.0, 404);
    assert_eq!(ask(&Method::POST, "/api/v1/operator/x", Some(&watcher)).await.0, 403);
}

/// Method, path and RPC of `get("/path", "Service/Method", …`.
fn named(rest: &str) -> Option<(Method, String, String)> {
    let (verb, arguments) = rest.split_once('(')?;
    let method = Method::from_bytes(verb.to_uppercase().as_bytes()).ok()?;
    let mut texts = arguments.split('"').skip(1).step_by(2);
    let (path, rpc) = (texts.next()?, texts.next()?);
    (path.starts_with('/') && rpc.contains("Service/")).then(|| (method, path.to_owned(), rpc.to_owned()))
}

/// Whatever a route is called in the sources, the table says what it needs.
#[test]
fn every_route_in_the_sources_is_in_the_table() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let (mut folders, mut seen) = (vec![root], BTreeSet::new());
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]").next().unwrap();
                for (method, path, rpc) in text.split("Route::").skip(1).filter_map(named) {
                    let of_rpc = rules::listed(&Method::POST, &format!("/gpushopper.v1.{rpc}"), None).unwrap_or_else(|| panic!("{path}: {rpc}"));
                    let of_route = rules::listed(&method, &path, None).unwrap_or_else(|| panic!("{path} is not in http::rules::ROUTES"));
                    assert_eq!(of_route, of_rpc, "{method} {path} is {rpc}, and needs what that needs");
                    seen.insert(path);
                }
                let routes =
                    text.split(".route(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next().map(str::to_owned));
                seen.extend(routes);
            }
        }
    }
    assert!(seen.contains("/metrics"), "{seen:?}");
    for route in seen {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            assert!(rules::listed(&method, &route, None).is_some(), "{route} is not in http::rules::ROUTES");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pages_of_allowed_origins_may_call_and_can_read_why_they_may_not() {
    let face = face(309, 0, 0).await;
    let ask = async |origin: &str, method: Method, token: Option<&str>| {
        let mut request = Request::builder().method(method).uri("/gpushopper.v1.SessionService/ListSessions").header("origin", origin);
        request = request.header("content-type", "application/grpc-web+proto").header("access-control-request-method", "POST");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        face.router.clone().oneshot(request.body(Body::from(vec![0_u8; 5])).unwrap()).await.unwrap()
    };
    let asked = ask("https://app.example", Method::OPTIONS, None).await;
    assert_eq!((asked.status(), asked.headers()["access-control-allow-origin"].to_str().unwrap()), (StatusCode::OK, "https://app.example"));
    assert!(asked.headers()["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    let answered = ask("https://app.example", Method::POST, Some(ADMIN)).await;
    assert_eq!((answered.status(), answered.headers()["content-type"].to_str().unwrap()), (StatusCode::OK, "application/grpc-web+proto"));
    assert!(!answered.headers().contains_key("grpc-status"));
    let refused = ask("https://app.example", Method::POST, None).await;
    assert_eq!((refused.status(), refused.headers()["grpc-status"].to_str().unwrap()), (StatusCode::OK, "16"));
    assert_eq!(refused.headers()["content-type"], "application/grpc-web+proto");
    assert_eq!(refused.headers()["access-control-allow-origin"], "https://app.example", "the page can read that it needs a token");
    for origin in ["https://evil.example", "null", "https://app.example.evil.example"] {
        assert_eq!(ask(origin, Method::POST, Some(ADMIN)).await.status(), StatusCode::FORBIDDEN, "{origin}");
    }
    let house = House::new(311, Faults::gentle()).await;
    let parts = guarded(&house, Limits { per_second: 0, streams: 0 });
    let nobody = Face::guarded(house, parts, &[]).await;
    for path in ["/gpushopper.v1.SessionService/ListSessions", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] {
        let request = Request::options(path).version(http::Version::HTTP_2).header("content-type", "application/grpc").body(Body::empty()).unwrap();
        let answer = nobody.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "16", "without CORS no method gets around the gate");
    }
    let without = Face::over(House::new(310, Faults::gentle()).await).await;
    let request =
        Request::options("/gpushopper.v1.SessionService/ListSessions").header("origin", "http://localhost:3000").body(Body::empty()).unwrap();
    let answer = without.router.clone().oneshot(request).await.unwrap();
    assert!(!answer.headers().contains_key("access-control-allow-origin"), "nobody is allowed by default");
}
