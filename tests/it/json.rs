//! The JSON face over a house in memory. Every answer of every test is held against the OpenAPI document that the server
//! serves: its status, its kind, its shape, and no member that the document does not know.

mod money;
mod requests;
mod schema;
mod streams;

use crate::grpc::{everybody, services, settings};
use crate::support::House;
use axum::Router;
use axum::body::Body;
use futures::StreamExt;
use gpu_shopper::domain::access::Role;
use gpu_shopper::grpc::json::tree::Json;
use gpu_shopper::http::api::{self, route};
use gpu_shopper::http::body;
use gpu_shopper::http::ops::{Health, HealthReport, Ops};
use gpu_shopper::http::rules;
use gpu_shopper::http::{Faces, assemble};
use gpu_shopper::services::access::{Access, Fixed, Parts};
use gpu_shopper::sim::Faults;
use http::{HeaderMap, Request};
use schema::Document;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

const MINUTE: Duration = Duration::from_secs(60);

/// A house with its JSON face.
pub struct Web {
    pub house: House,
    router: Faces<Router>,
    document: Document,
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Answer {
    /// A member of the answer, down a path of names.
    #[track_caller]
    pub fn at(&self, path: &str) -> &Value {
        path.split('.').fold(&self.body, |value, part| value.get(part).unwrap_or_else(|| panic!("no {path} in {}", self.text)))
    }

    #[track_caller]
    pub fn text(&self, path: &str) -> String {
        self.at(path).as_str().unwrap_or_else(|| panic!("{path} is no text in {}", self.text)).to_owned()
    }

    /// A number as it is written.
    #[track_caller]
    pub fn exact(&self, path: &str) -> String {
        let whole = Json::parse(self.text.as_bytes()).unwrap();
        match path.split('.').try_fold(&whole, |value, part| value.get(part)) {
            Some(Json::Number(text)) => text.clone(),
            other => panic!("{path} is {other:?} in {}", self.text),
        }
    }
}

fn router(house: &House, access: Access) -> Faces<Router> {
    let ops = Ops {
        unknown_rpc: gpu_shopper::grpc::status::unknown_service,
        refused_rpc: gpu_shopper::grpc::status::refused,
        health: Arc::new(|| HealthReport {
            status: Health::Ok,
            ready: true,
            services: [("lifecycle", "running"), ("inventory", "ok"), ("vastai", "ok")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        }),
        scrape: Arc::new(|| Box::pin(async { "# nothing\n".to_owned() })),
        allowed_hosts: Arc::from([]),
        allowed_origins: Arc::from([]),
        clock: house.clock.clone(),
        access: access.clone(),
        body_limit: 1024 * 1024,
        body_period: body::PERIOD,
    };
    assemble(Router::new(), api::routes(services(house, access), settings(house)), ops)
}

impl Web {
    pub async fn open(seed: u64, faults: Faults) -> Self {
        let house = House::new(seed, faults).await;
        let parts = everybody(&house);
        Self::guarded(house, parts).await
    }

    /// Where these tokens are asked for.
    async fn guarded(house: House, parts: Parts) -> Self {
        let document = Document(api::openapi::document(&route::all()));
        Self { router: router(&house, Access::open(parts).await.unwrap()), document, house }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, text, body };
        assert!(answer.headers.contains_key("x-request-id"));
        if method != "HEAD" {
            self.document.holds(&method, &path, &answer);
        }
        answer
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// Asks with a body and headers.
    pub async fn ask(&self, method: &str, path: &str, body: Value, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            request = request.header("content-type", "application/json; charset=utf-8");
            Body::from(body.to_string())
        };
        self.send(request.body(body).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, body, &[]).await
    }

    /// Creates a session and waits until it runs; its id.
    pub async fn run(&self, body: Value) -> String {
        let created = self.post("/api/v1/sessions?wait=10m", body).await;
        assert_eq!((created.status, created.text("session.status").as_str()), (201, "running"), "{}", created.text);
        created.text("session.id")
    }

    /// Ends a session and waits until it is over.
    pub async fn destroy(&self, id: &str) -> Answer {
        let gone = self.ask("DELETE", &format!("/api/v1/sessions/{id}?wait=10m"), Value::Null, &[]).await;
        assert_eq!((gone.status, gone.text("session.status").as_str()), (200, "stopped"), "{}", gone.text);
        gone
    }
}

fn any() -> Value {
    json!({"requirements": {}})
}

#[tokio::test(start_paused = true)]
async fn a_whole_session() {
    let web = Web::open(310, Faults::gentle()).await;
    let listed = web.get("/api/v1/inventory?provider=vastai&rental_kind=on_demand&limit=3").await;
    assert_eq!((listed.status, listed.at("count"), listed.at("limit"), listed.at("offset")), (200, &json!(3), &json!(3), &json!(0)));
    assert!(listed.at("total").as_u64().unwrap() > 100);
    let offer = &listed.at("offers")[0];
    let id = offer["id"].as_str().unwrap();
    let one = web.get(&format!("/api/v1/inventory/{id}")).await;
    assert_eq!((&one.body, &offer["offer_id"], &offer["gpu_type"]), (offer, &offer["id"], &offer["gpu_model"]));

    let body = json!({"consumer_id": "guide", "offer_id": id, "workload_type": "ssh", "reservation_hours": 1, "idle_threshold_minutes": 90,
        "storage_policy": "preserve", "labels": {"team": "red"}});
    let created = web.post("/api/v1/sessions", body).await;
    assert_eq!((created.status, created.at("retries_attempted"), created.at("replayed")), (201, &json!(0), &json!(false)), "{}", created.text);
    assert!(created.text("ssh_private_key").contains("PRIVATE KEY") && created.text("session.status") == "pending");
    assert!(created.at("warnings")[0].as_str().unwrap().contains("preserve"), "{}", created.text);
    let session = created.text("session.id");
    let at = |rest: &str| format!("/api/v1/sessions/{session}{rest}");

    let running = web.get(&at("/wait?timeout=10m")).await;
    assert_eq!((running.at("reached"), running.text("session.status").as_str()), (&json!(true), "running"));
    let got = web.get(&at("")).await;
    assert!(!got.text("ssh_host").is_empty() && got.at("ssh_port").as_u64().unwrap() > 0 && got.text("ssh_user") == "root");
    assert_eq!((got.text("consumer_id").as_str(), got.text("provider").as_str(), got.text("offer_id").as_str()), ("guide", "vastai", id));
    assert_eq!((got.at("reservation_hours"), got.at("idle_threshold_minutes"), got.at("stopped_at")), (&json!(1), &json!(90), &Value::Null));
    assert_eq!(got.exact("price_per_hour"), got.exact("price.total_per_hour"));
    assert!(got.text("created_at").ends_with('Z') && got.text("expires_at") > got.text("created_at"));
    assert!(!got.text.contains("PRIVATE KEY") && !got.text.contains("ssh_private_key"));
    // The id's other form.
    let uuid = uuid::Uuid::from_u128(session.parse::<gpu_shopper::domain::ids::SessionId>().unwrap().bits());
    assert_eq!(web.get(&format!("/api/v1/sessions/{uuid}")).await.text("id"), session);

    let changed = web.ask("PATCH", &at(""), json!({"labels": {"team": "blue"}, "idle_threshold_minutes": 0}), &[]).await;
    assert_eq!(
        (changed.status, changed.at("session.labels"), changed.at("session.idle_threshold_minutes")),
        (200, &json!({"team": "blue"}), &json!(0))
    );
    let emptied = web.ask("PATCH", &at(""), json!({"labels": {}}), &[]).await;
    assert_eq!((emptied.status, emptied.at("session.labels")), (200, &json!({})), "an empty object is no labels");
    assert_eq!(web.ask("PATCH", &at(""), json!({}), &[]).await.status, 400, "nothing to change");
    assert_eq!(web.post(&at("/keep-alive"), Value::Null).await.status, 200);
    let rotated = web.post(&at("/rotate-key"), Value::Null).await;
    assert!(rotated.status == 200 && rotated.text("ssh_private_key").contains("PRIVATE KEY"));

    let extended = web.post(&at("/extend"), json!({"additional_hours": 2})).await;
    assert_eq!((extended.status, extended.text("new_expires_at")), (200, extended.text("session.expires_at")));
    assert!(
        extended.text("new_expires_at") > got.text("expires_at")
            && extended.text("session_id") == session
            && extended.text("message").contains("extended")
    );
    let beyond = web.post(&at("/extend"), json!({"additional_hours": 12})).await;
    assert_eq!((beyond.status, beyond.text("error_type").as_str()), (400, "hard_max_exceeded"));

    let look = web.get(&at("/diagnostics")).await;
    assert!(look.at("instances").as_array().unwrap().len() == 1 && look.at("fresh_gpu_report")["gpus"].as_array().unwrap().len() == 1);

    let done = web.post(&at("/done"), Value::Null).await;
    assert_eq!((done.status, done.text("session_id"), done.text("session.status").as_str()), (202, session.clone(), "stopping"), "{}", done.text);
    assert!(done.text("message").starts_with("session done"));
    let over = web.post(&at("/done?wait=10m"), json!({"outcome": "ok"})).await;
    assert_eq!((over.status, over.text("session.status").as_str(), over.text("session.end_reason").as_str()), (200, "stopped", "completed"));
    assert_eq!(web.ask("DELETE", &at(""), Value::Null, &[]).await.status, 200, "it is over, and stays what it was");
    let late = web.post(&at("/extend"), json!({"additional_hours": 1})).await;
    assert_eq!((late.status, late.text("error_type").as_str()), (409, "session_ended"));
    let ended = web.get(&at("")).await;
    assert!(ended.at("stopped_at").is_string() && ended.text("error").is_empty());

    let history = web.get(&at("/history")).await;
    let sequences: Vec<u64> = history.at("events").as_array().unwrap().iter().map(|e| e["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=ended.at("sequence").as_u64().unwrap()).collect::<Vec<_>>());
    let part = web.get(&at("/history?limit=2&offset=1")).await;
    assert_eq!((part.at("events")[0]["sequence"].as_u64(), part.at("count"), part.at("total")), (Some(2), &json!(2), &json!(sequences.len())));
    web.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn every_list_is_whole_or_in_parts_of_the_same_form() {
    let web = Web::open(316, Faults::gentle()).await;
    let id = web.run(json!({"offer_id": web.get("/api/v1/inventory?provider=vastai&limit=1").await.at("offers")[0]["id"]})).await;
    let offer = web.get("/api/v1/inventory?provider=vastai&limit=1").await.at("offers")[0]["id"].as_str().unwrap().to_owned();
    web.post("/api/v1/ops/tokens", json!({"name": "one", "role": "read_only"})).await;
    let compatible = format!("/api/v1/inventory/{offer}/compatible-templates");
    let history = format!("/api/v1/sessions/{id}/history");
    let mut many = 0;
    for (path, list) in [
        ("/api/v1/gpu-models", "gpu_models"),
        ("/api/v1/templates", "templates"),
        (&compatible, "compatible_templates"),
        ("/api/v1/inventory", "offers"),
        ("/api/v1/sessions", "sessions"),
        (&history, "events"),
        ("/api/v1/ledger", "entries"),
        ("/api/v1/offer-health", "entries"),
        ("/api/v1/ops/providers", "providers"),
        ("/api/v1/ops/unconfirmed-destroys", "destroys"),
        ("/api/v1/ops/strays", "instances"),
        ("/api/v1/ops/foreign", "instances"),
        ("/api/v1/ops/holds", "holds"),
        ("/api/v1/ops/tokens", "tokens"),
        ("/api/v1/ops/audit", "entries"),
    ] {
        let whole = web.get(path).await;
        assert_eq!(whole.status, 200, "{path}: {}", whole.text);
        let all = whole.at(list).as_array().unwrap();
        assert_eq!((whole.at("count"), whole.at("total")), (&json!(all.len()), &json!(all.len())), "{path}");
        assert_eq!((whole.at("limit"), whole.at("offset")), (&Value::Null, &json!(0)), "{path}");
        let part = web.get(&format!("{path}?limit=1&offset=1")).await;
        let rest: Vec<&Value> = all.iter().skip(1).take(1).collect();
        assert_eq!((part.at("count"), part.at("total")), (&json!(rest.len()), &json!(all.len())), "{path}");
        assert_eq!((part.at("limit"), part.at("offset")), (&json!(1), &json!(1)), "{path}");
        assert_eq!(part.at(list).as_array().unwrap().len(), rest.len(), "{path}");
        many += usize::from(!rest.is_empty());
        assert_eq!(web.get(&format!("{path}?limit=0")).await.status, 400, "{path}");
    }
    assert!(many > 7, "few lists had a second entry: {many}");
    web.destroy(&id).await;
    web.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_session_that_fails_is_told_the_error_with_the_session() {
    let mut faults = Faults::none();
    faults.set("stale_ask", "1").unwrap();
    let web = Web::open(315, faults).await;
    let failed = web.post("/api/v1/sessions?wait=10m", json!({"requirements": {"filter": {"providers": ["vastai"]}}, "max_retries": 2})).await;
    assert_eq!(
        (failed.status, failed.text("error_type").as_str(), failed.at("retry_suggested")),
        (503, "stale_inventory", &json!(true)),
        "{}",
        failed.text
    );
    assert_eq!((failed.text("session.status").as_str(), failed.text("session.end_reason").as_str()), ("failed", "no_capacity"));
    assert_eq!((failed.text("session.id"), failed.at("session.spec.failover.max_attempts")), (failed.text("session_id"), &json!(3)));
    let refused: Vec<&Value> = failed.at("session.attempts").as_array().unwrap().iter().map(|a| &a["offer_id"]).collect();
    assert!(!refused.is_empty() && failed.at("session.failed_offers").as_array().unwrap().iter().eq(refused.iter().copied()), "{}", failed.text);
    assert_eq!(failed.at("session.retry_count").as_u64().unwrap() as usize, refused.len() - 1);
    assert_eq!((failed.text("provider").as_str(), failed.text("message")), ("vastai", failed.text("error")));
    assert!(failed.headers.contains_key("retry-after") && !failed.text.contains("PRIVATE KEY"));
    // Who does not wait is told by the session's state.
    let quick = web.post("/api/v1/sessions", json!({"requirements": {"filter": {"providers": ["vastai"]}}})).await;
    assert_eq!((quick.status, quick.text("session.status").as_str()), (201, "pending"));
    let id = quick.text("session.id");
    let ended = web.get(&format!("/api/v1/sessions/{id}/wait?until=stopped&timeout=10m")).await;
    assert_eq!((ended.text("session.status").as_str(), ended.at("reached")), ("failed", &json!(true)));
    web.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn sessions_are_listed_by_each_filter_whole_and_in_parts() {
    let web = Web::open(316, Faults::none()).await;
    let mut ids = Vec::new();
    for (consumer, provider, team) in [("a", "vastai", "red"), ("a", "tensordock", "blue"), ("b", "vastai", "red"), ("b", "tensordock", "red")] {
        let filter = json!({"requirements": {"filter": {"providers": [provider]}}, "consumer_id": consumer, "labels": {"team": team, "x": "1=2"}});
        ids.push(web.run(filter).await);
        web.house.pass(MINUTE).await;
    }
    web.destroy(&ids[0]).await;
    ids.reverse();
    let listed =
        |answer: &Answer| -> Vec<String> { answer.at("sessions").as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect() };
    let whole = web.get("/api/v1/sessions").await;
    assert_eq!((listed(&whole), whole.at("total"), whole.at("limit")), (ids.clone(), &json!(4), &Value::Null), "the newest first");
    for (query, want) in [
        ("consumer_id=a", vec![2, 3]),
        ("provider=tensordock", vec![0, 2]),
        ("status=running", vec![0, 1, 2]),
        ("status=stopped", vec![3]),
        ("status=stopped,running&consumer_id=b", vec![0, 1]),
        ("label=team%3Dred", vec![0, 1, 3]),
        ("label=team%3Dred&label=x%3D1%3D2&status=running", vec![0, 1]),
        ("limit=2", vec![0, 1]),
        ("limit=2&offset=1", vec![1, 2]),
        ("limit=2&offset=9", vec![]),
        ("offset=3", vec![3]),
        ("consumer_id=nobody", vec![]),
    ] {
        let found = web.get(&format!("/api/v1/sessions?{query}")).await;
        assert_eq!(listed(&found), want.iter().map(|at: &usize| ids[*at].clone()).collect::<Vec<_>>(), "{query}");
        let paged = query.contains("limit") || query.contains("offset");
        assert_eq!(found.at("total"), &json!(if paged { 4 } else { want.len() }), "{query}");
    }
    let red = web.get("/api/v1/sessions?label=team%3Dred&limit=1").await;
    assert_eq!((listed(&red), red.at("total")), (vec![ids[0].clone()], &json!(3)));
    let next = web.get(&format!("/api/v1/sessions?label=team%3Dred&limit=1&page_token={}", red.text("next_page_token"))).await;
    assert_eq!(listed(&next), [ids[1].clone()]);
    for id in &ids[..3] {
        web.destroy(id).await;
    }
    web.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn operators_see_and_order_by_http() {
    let web = Web::open(317, Faults::none()).await;
    let id = web.run(json!({"requirements": {"filter": {"providers": ["vastai"]}}, "consumer_id": "a"})).await;
    let providers = web.get("/api/v1/ops/providers").await;
    assert_eq!(providers.at("providers").as_array().unwrap().len(), 2);
    assert!(web.get("/api/v1/spend-rate").await.exact("total.running_per_hour") != "0");
    for (path, list) in
        [("unconfirmed-destroys", "destroys"), ("strays", "instances"), ("foreign", "instances"), ("foreign?provider=vastai", "instances")]
    {
        assert_eq!(web.get(&format!("/api/v1/ops/{path}")).await.at(list), &json!([]), "{path}");
    }
    let swept = web.post("/api/v1/ops/sweep", json!({"provider": "vastai"})).await;
    assert_eq!(swept.at("complete_providers"), &json!(["vastai"]));

    let hold = json!({"provider": "vastai", "kind": "launches", "duration": "2h", "reason": "the vendor migrates"});
    let held = web.post("/api/v1/ops/holds", hold).await;
    assert_eq!((held.status, held.at("holds")[0]["kind"].as_str()), (200, Some("launches")), "{}", held.text);
    assert_eq!(web.get("/api/v1/ops/holds").await.at("holds"), held.at("holds"));
    let refused = web.post("/api/v1/sessions", json!({"requirements": {"filter": {"providers": ["vastai"]}}})).await;
    assert_eq!((refused.status, refused.text("error_type").as_str()), (409, "launches_held"), "{}", refused.text);
    let lifted = web.post("/api/v1/ops/holds", json!({"provider": "vastai", "kind": "launches", "lift": true})).await;
    assert_eq!(lifted.at("holds"), &json!([]));
    let past = web.post("/api/v1/ops/holds", json!({"provider": "vastai", "kind": "expiry", "until": "2020-01-01T00:00:00Z", "reason": "x"})).await;
    assert!(past.status == 400 && past.text("error").starts_with("until: "), "{}", past.text);
    let audit = web.get("/api/v1/ops/audit?limit=1").await;
    assert_eq!(
        (audit.at("count"), audit.at("total"), audit.at("entries")[0]["target"].as_str().map(|t| t.contains("vastai"))),
        (&json!(1), &json!(3), Some(true))
    );

    assert_eq!(web.post("/api/v1/ops/accept-database", Value::Null).await.text("error_type"), "database_accepted");
    let label = "gs-5abn2v1n-01kaphz700fay8vvr14d2pf2db-1";
    for label in [label, "nonsense"] {
        assert_eq!(web.post(&format!("/api/v1/ops/unconfirmed-destroys/{label}/retry"), Value::Null).await.status, 404);
        let settled = web.post(&format!("/api/v1/ops/unconfirmed-destroys/{label}/settle"), json!({"reason": "it is gone"})).await;
        assert_eq!((settled.status, settled.text("error_type").as_str()), (404, "instance_not_found"));
    }
    for what in ["adopt", "destroy"] {
        let unknown = web.post(&format!("/api/v1/ops/instances/{what}"), json!({"provider": "vastai", "native_id": "1"})).await;
        assert_eq!((unknown.status, unknown.text("error_type").as_str()), (404, "stray_not_found"), "{}", unknown.text);
    }
    let health = web.get("/api/v1/offer-health?kinds=offer").await;
    let entry = &health.at("entries")[0];
    assert_eq!(
        (health.at("total"), &entry["usable_count"], &entry["is_suppressed"], &entry["recent_failures"]),
        (&json!(1), &json!(1), &json!(false), &json!(0))
    );
    assert_eq!(web.get("/api/v1/offer-health?set_aside_only=true").await.at("entries"), &json!([]));
    assert_eq!(web.get("/api/v1/offer-health?provider=tensordock").await.at("total"), &json!(0));

    let would = web.post("/api/v1/ops/drain", json!({"validate_only": true})).await;
    assert_eq!((would.at("sessions")[0]["id"].as_str(), would.at("sessions")[0]["status"].as_str()), (Some(id.as_str()), Some("running")));
    let drained = web.post("/api/v1/ops/drain", Value::Null).await;
    assert_eq!(drained.at("sessions")[0]["end_reason"], json!("admin"));
    let ended = web.get(&format!("/api/v1/sessions/{id}/wait?until=stopped&timeout=10m")).await;
    assert_eq!(ended.text("session.status"), "stopped");
    web.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_opens_what_its_role_and_consumer_allow() {
    let house = House::new(322, Faults::none()).await;
    let admin = "gs_admin-0123456789abcdef0123456789abcdef0123456789a";
    let fixed = vec![Fixed { name: "root", role: Role::Admin, text: admin.into(), origin: "setting".to_owned() }];
    let parts = Parts { required: true, fixed, ..everybody(&house) };
    let web = Web::guarded(house, parts).await;
    let bearer = |text: &str| format!("Bearer {text}");
    let root = bearer(admin);
    let as_root = |method: &'static str, path: &'static str, body: Value| {
        let (web, root) = (&web, root.clone());
        async move { web.ask(method, path, body, &[("authorization", &root)]).await }
    };
    for route in route::all() {
        let path = route.path.split('/').map(|part| if part.starts_with('{') { "nope" } else { part }).collect::<Vec<_>>().join("/");
        let stranger = web.ask(route.method, &path, Value::Null, &[]).await;
        assert_eq!((stranger.status, stranger.text("error_type").as_str()), (401, "token_missing"), "{} {path}", route.method);
        // A route asks for what its RPC asks for, and lasts when that lasts.
        let asked = rules::listed(&route.method.parse().unwrap(), &path, None).unwrap();
        let (service, name) = route.rpc.split_once('/').unwrap();
        let rpcs = rules::RPCS.iter().find(|(known, _)| *known == format!("gpushopper.v1.{service}")).unwrap().1;
        let (_, need, lasts) = rpcs.iter().find(|(known, ..)| *known == name).unwrap();
        assert_eq!((asked.need, asked.lasts), (*need, *lasts), "{} {path}", route.method);
    }
    let made = as_root("POST", "/api/v1/ops/tokens", json!({"name": "alice", "role": "consumer", "consumer_id": "a", "lifetime": "24h"})).await;
    assert_eq!((made.status, made.text("token.name"), made.text("token.role")), (201, "alice".to_owned(), "consumer".to_owned()), "{}", made.text);
    let again = as_root("POST", "/api/v1/ops/tokens", json!({"name": "alice", "role": "consumer"})).await;
    assert_eq!((again.status, again.text("error_type").as_str()), (409, "token_exists"));
    let alice = bearer(&made.text("token_text"));
    let as_alice = |method: &'static str, path: String, body: Value| {
        let (web, alice) = (&web, alice.clone());
        async move { web.ask(method, &path, body, &[("authorization", &alice)]).await }
    };
    let own = as_alice("POST", "/api/v1/sessions?wait=10m".to_owned(), any()).await;
    assert_eq!((own.status, own.text("session.consumer_id").as_str()), (201, "a"), "the token's consumer: {}", own.text);
    let other = as_root("POST", "/api/v1/sessions?wait=10m", json!({"requirements": {}, "consumer_id": "b"})).await;
    let (own, other) = (own.text("session.id"), other.text("session.id"));
    assert_eq!(as_alice("GET", "/api/v1/sessions".to_owned(), Value::Null).await.at("total"), &json!(1));
    for (method, rest) in [("GET", ""), ("DELETE", ""), ("POST", "/done"), ("GET", "/events"), ("GET", "/cost"), ("GET", "/diagnostics")] {
        assert_eq!(as_alice(method, format!("/api/v1/sessions/{other}{rest}"), Value::Null).await.status, 404, "{method} {rest}");
    }
    let foreign = as_alice("GET", "/api/v1/costs?consumer_id=b".to_owned(), Value::Null).await;
    assert_eq!((foreign.status, foreign.text("error_type").as_str()), (404, "consumer_not_found"));
    assert_eq!(as_alice("POST", "/api/v1/ops/drain".to_owned(), Value::Null).await.status, 403);
    let listed = as_root("GET", "/api/v1/ops/tokens", Value::Null).await;
    assert!(listed.at("tokens").as_array().unwrap().len() == 2 && !listed.text.contains(&made.text("token_text")));
    assert_eq!(as_root("DELETE", "/api/v1/ops/tokens/nobody", Value::Null).await.status, 404);
    // A stream that she has open ends with her token, and says why.
    let watching = Request::get("/api/v1/events").header("authorization", &alice).body(Body::empty()).unwrap();
    let mut stream = web.router.clone().oneshot(watching).await.unwrap().into_body().into_data_stream();
    assert!(stream.next().await.unwrap().is_ok(), "a session that she has");
    assert_eq!(as_root("DELETE", "/api/v1/ops/tokens/alice", Value::Null).await.status, 200);
    let mut text = String::new();
    while let Some(chunk) = stream.next().await {
        text.push_str(std::str::from_utf8(&chunk.expect("a stream that ends with a word does not break")).unwrap());
    }
    let last = streams::told(&text).pop().unwrap();
    assert_eq!((last.name.as_str(), last.id, &last.data["error_type"]), ("failure", None, &json!("token_invalid")), "{text}");
    assert!(last.data["error"].as_str().unwrap().contains("revoked") && last.data["request_id"].is_string(), "{text}");
    assert_eq!(as_alice("GET", format!("/api/v1/sessions/{own}"), Value::Null).await.status, 401);
    for path in [own, other].map(|id| format!("/api/v1/sessions/{id}?wait=10m")) {
        assert_eq!(web.ask("DELETE", &path, Value::Null, &[("authorization", &root)]).await.status, 200);
    }
    web.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn templates_and_models() {
    let web = Web::open(318, Faults::none()).await;
    let models = web.get("/api/v1/gpu-models").await;
    assert!(models.at("gpu_models").as_array().unwrap().len() > 5);
    let all = web.get("/api/v1/templates").await;
    let count = all.at("count").as_u64().unwrap();
    assert!(count > 1 && all.at("templates")[0]["hash_id"] == all.at("templates")[0]["template_hash_id"]);
    let offers = web.get("/api/v1/inventory?provider=vastai&order_by=gpu_memory&limit=1").await;
    let offer = offers.at("offers")[0]["id"].as_str().unwrap();
    for filter in ["name=vllm", "image=ollama", "recommended=false"] {
        let fewer = web.get(&format!("/api/v1/templates?{filter}")).await;
        assert!(fewer.at("count").as_u64().unwrap() < count, "{filter}: {}", fewer.text);
    }
    assert_eq!(web.get("/api/v1/templates?recommended=true").await.at("count"), &json!(count));
    let hash = all.at("templates")[0]["hash_id"].as_str().unwrap();
    assert_eq!(&web.get(&format!("/api/v1/templates/{hash}")).await.body, &all.at("templates")[0]);
    let fits = web.get(&format!("/api/v1/inventory/{offer}/compatible-templates")).await;
    assert!(fits.at("count").as_u64().unwrap() > 0 && fits.text("offer_id") == offer && fits.text("note").is_empty());
    assert_eq!(web.get(&format!("/api/v1/templates?offer_id={offer}")).await.at("count"), fits.at("count"));
    let place = web.get("/api/v1/inventory?provider=tensordock&limit=1").await.at("offers")[0]["id"].as_str().unwrap().to_owned();
    let none = web.get(&format!("/api/v1/inventory/{place}/compatible-templates")).await;
    assert_eq!((none.at("count"), none.text("provider").as_str(), none.text("note").is_empty()), (&json!(0), "tensordock", false));
    web.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_document_knows_each_route_and_the_server_knows_each_of_the_document() {
    let web = Web::open(319, Faults::none()).await;
    let served = web.get("/openapi.json").await;
    assert_eq!(served.body, web.document.0);
    let mut documented: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, methods) in web.document.0["paths"].as_object().unwrap() {
        documented.insert(path.clone(), methods.as_object().unwrap().keys().map(|m| m.to_uppercase()).collect());
    }
    for (path, methods) in &documented {
        let concrete: String = path.split('/').map(|part| if part.starts_with('{') { "nope" } else { part }).collect::<Vec<_>>().join("/");
        // A method that no route takes: the server tells which ones it takes.
        let request = Request::builder().method("PUT").uri(&concrete).body(Body::empty()).unwrap();
        let refused = web.router.clone().oneshot(request).await.unwrap();
        assert_eq!(refused.status(), 405, "{path}");
        let allow = refused.headers()["allow"].to_str().unwrap().split(',').map(|m| m.trim().to_owned());
        let allow: BTreeSet<String> = allow.filter(|m| m != "HEAD").collect();
        assert_eq!(&allow, methods, "{path}");
    }
    // The router is made from this list, and nothing else has a route below /api.
    let routes = route::all();
    for route in &routes {
        assert!(documented[route.path].contains(route.method), "{} {}", route.method, route.path);
        assert_eq!(route::rpc(&route.method.parse().unwrap(), route.path), Some(route.rpc));
    }
    assert_eq!(documented.values().map(BTreeSet::len).sum::<usize>(), routes.len() + 4, "and /health, /ready, /metrics, /openapi.json");
    assert_eq!(route::rpc(&http::Method::HEAD, "/api/v1/sessions"), Some("SessionService/ListSessions"));
    assert_eq!(route::rpc(&http::Method::PUT, "/api/v1/sessions"), None);
    // No RPC is without a route.
    let pool = gpu_shopper::grpc::json::contract().unwrap();
    let services = pool.services().filter(|s| s.full_name().starts_with("gpushopper."));
    let rpcs: BTreeSet<String> = services.flat_map(|s| s.methods().map(|m| format!("{}/{}", s.name(), m.name())).collect::<Vec<_>>()).collect();
    assert_eq!(routes.iter().map(|r| r.rpc.to_owned()).collect::<BTreeSet<_>>(), rpcs);
    // Everything says what it is.
    web.document.is_whole();
    web.house.close().await;
}
