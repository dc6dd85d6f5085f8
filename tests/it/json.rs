//! The JSON face over a house in memory. Every answer of every test is held against the OpenAPI document that the server
//! serves: its status, its kind, its shape, and no member that the document does not know.

mod money;
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
async fn every_parameter_of_the_inventory_changes_the_answer() {
    let web = Web::open(311, Faults::none()).await;
    let whole = web.get("/api/v1/inventory").await;
    let all = whole.at("offers").as_array().unwrap().clone();
    assert_eq!((whole.at("total").as_u64().unwrap() as usize, whole.at("limit")), (all.len(), &Value::Null), "without a limit it is whole");
    let machine = all.iter().find(|o| o["provider"] == "vastai").unwrap()["machine_id"].as_str().unwrap();
    let median = all[all.len() / 2]["price_per_hour"].to_string();
    let excluded = format!("excluded_machines={}", machine.replace(':', "%3A"));
    let (most, most_too) = (format!("max_price_per_hour={median}"), format!("max_price={median}"));
    let host_end = "min_host_end_time=2027-06-01T00:00:00Z";
    let filters = [
        "providers=tensordock",
        "provider=vastai",
        "gpu_models=RTX%204090,h100",
        "gpu_type=rtx4090",
        "min_gpu_memory_mib=24576",
        "min_vram=24",
        "max_gpu_memory_mib=24576",
        "max_vram=24",
        "gpu_count=1",
        "min_gpu_count=2",
        &most,
        &most_too,
        "max_price_per_gpu_hour=0.3",
        "regions=US",
        "location=US",
        "min_reliability=0.99",
        "min_cuda=12.4",
        "disk_gb=2000",
        "rental_kind=interruptible",
        "verified_only=true",
        "min_confidence=0.5",
        "min_availability_confidence=0.5",
        &excluded,
        host_end,
        "template_hash_id=1b2c3d4e5f60718293a4b5c6d7e8f90a",
    ];
    let mut tried = BTreeSet::new();
    for filter in filters {
        let fewer = web.get(&format!("/api/v1/inventory?{filter}")).await;
        assert_eq!(fewer.status, 200, "{filter}: {}", fewer.text);
        let (count, total) = (fewer.at("count").as_u64().unwrap() as usize, fewer.at("total").as_u64().unwrap() as usize);
        assert!(count == total && count < all.len(), "{filter} leaves {count} of {}", all.len());
        assert!(count > 0, "{filter} leaves none");
        let explained = web.get(&format!("/api/v1/inventory/explain?{filter}")).await;
        assert_eq!(explained.at("matching_offer_count").as_u64().unwrap() as usize, count, "{filter}");
        tried.insert(filter.split('=').next().unwrap().to_owned());
    }
    let ids = |a: &Answer| a.at("offers").as_array().unwrap().iter().map(|o| o["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let by_memory = web.get("/api/v1/inventory?order_by=gpu_memory").await;
    assert!(ids(&by_memory) != ids(&whole) && ids(&by_memory).len() == all.len());
    // Parts put together are the whole, by offsets and by tokens.
    let (mut parts, mut pages, mut token) = (Vec::new(), Vec::new(), String::new());
    for offset in (0..all.len()).step_by(300) {
        let part = web.get(&format!("/api/v1/inventory?limit=300&offset={offset}")).await;
        assert_eq!((part.at("offset"), part.at("total")), (&json!(offset), &json!(all.len())));
        parts.extend(ids(&part));
    }
    loop {
        let page = web.get(&format!("/api/v1/inventory?limit=300&page_token={token}")).await;
        pages.extend(ids(&page));
        token = page.text("next_page_token");
        if token.is_empty() {
            break;
        }
    }
    assert!(parts == ids(&whole) && pages == parts);
    tried.extend(["order_by", "limit", "offset", "page_token"].map(str::to_owned));
    let named: BTreeSet<String> = web.document.parameters("/api/v1/inventory").collect();
    assert_eq!(named, tried, "each parameter of the document was tried");
    let vram: Vec<bool> =
        web.get("/api/v1/inventory?min_vram=24").await.at("offers").as_array().unwrap().iter().map(|o| o["vram_gb"].as_u64() >= Some(24)).collect();
    assert!(vram.iter().all(|enough| *enough));
    web.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_named_with_its_value_and_what_is_allowed() {
    let web = Web::open(312, Faults::none()).await;
    let id = web.run(any()).await;
    let inventory = [
        ("min_vram=lots", "min_vram: `lots`; allowed: a number of GB"),
        ("min_vram=-1", "min_vram: -1 GB is out of range; allowed: 1 MiB to 1024 GB"),
        ("min_vram=24&max_vram=12", "min_vram: 24 GB is more than the 12 GB asked for beside it"),
        ("max_price=0", "max_price: $0; allowed: above 0"),
        ("max_price=cheap", "max_price: `cheap`; allowed: US dollars as a number"),
        ("gpu_count=0", "gpu_count: 0 is out of range; allowed: 1 to 1024"),
        ("gpu_count=two", "gpu_count: `two`; allowed: a whole number"),
        ("min_reliability=2", "min_reliability: 2 is out of range; allowed: 0 to 1"),
        ("min_reliability=NaN", "min_reliability: `NaN`; allowed: a number"),
        ("provider=nobody", "provider: `nobody` is no provider here; allowed: "),
        ("rental_kind=stolen", "rental_kind: `stolen`; allowed: on_demand, interruptible"),
        ("verified_only=yes", "verified_only: `yes`; allowed: true, false"),
        ("min_host_end_time=tomorrow", "min_host_end_time: `tomorrow`; allowed: a time"),
        ("limit=0", "limit: `0`; allowed: 1 to 1000"),
        ("offset=-1", "offset: `-1`; allowed: 0 to"),
        ("page_token=x", "page_token: goes with `limit`"),
        ("limit=1&page_token=x", "page_token: "),
        ("colour=red", "colour: there is no such parameter; allowed: providers, "),
        ("limit=1&limit=2", "limit: is there twice"),
        ("min_vram=1&min_gpu_memory_mib=5", "min_gpu_memory_mib: is there twice, or under two names"),
        ("gpu_count=1&min_gpu_count=2", "min_gpu_count: 2 is more than the 1"),
        ("order_by=beauty", "order_by: `beauty` is no order; allowed: price"),
    ];
    for (query, want) in inventory {
        let refused = web.get(&format!("/api/v1/inventory?{query}")).await;
        assert_eq!((refused.status, refused.text("error_type").as_str()), (400, "invalid_field"), "{query}");
        assert!(refused.text("error").starts_with(want), "{query}: {}", refused.text("error"));
    }
    let bodies = [
        (json!({}), "target: required; give `offer_id` or `requirements`"),
        (json!({"offer_id": "x y"}), "offer_id: "),
        (json!({"offer_id": "vastai-1", "colour": 1}), "colour: there is no such field; allowed: consumer_id, "),
        (json!({"offer_id": "vastai-1", "reservation_hours": 0}), "reservation_hours: 0 hours: 0s is out of range; allowed: 60s to 43200s"),
        (json!({"offer_id": "vastai-1", "reservation_hours": 13}), "reservation_hours: 13 hours: 46800s is beyond the hard limit"),
        (json!({"offer_id": "vastai-1", "reservation_hours": "many"}), "reservation_hours: `many`; allowed: a number of hours"),
        (json!({"offer_id": "vastai-1", "idle_threshold_minutes": -5}), "idle_threshold_minutes: "),
        (json!({"offer_id": "vastai-1", "ssh_timeout_minutes": 31}), "ssh_timeout_minutes: 31 minutes: 1860s is out of range; allowed: 60s to 1800s"),
        (json!({"offer_id": "vastai-1", "workload_type": "party"}), "workload_type: `party`; allowed: llm, llm_vllm"),
        (json!({"offer_id": "vastai-1", "storage_policy": "keep"}), "storage_policy: `keep`; allowed: destroy, preserve"),
        (json!({"offer_id": "vastai-1", "launch_mode": "x"}), "launch_mode: `x`; allowed: ssh, entrypoint"),
        (json!({"offer_id": "vastai-1", "retry_scope": "x"}), "retry_scope: `x`; allowed: same_gpu, same_vram, any"),
        (json!({"offer_id": "vastai-1", "max_retries": 20}), "max_retries: `20`; allowed: 0 to 19"),
        (json!({"offer_id": "vastai-1", "auto_retry": "yes"}), "auto_retry: allowed: true, false"),
        (json!({"offer_id": "vastai-1", "auto_retry": true, "failover": {}}), "failover: goes not with"),
        (json!({"offer_id": "vastai-1", "max_total_cost": 0}), "max_total_cost: $0; allowed: above 0"),
        (json!({"offer_id": "vastai-1", "requirements": {}}), "requirements: goes not with `offer_id`"),
        (json!({"requirements": {"filter": {"min_vrm": 1}}}), "requirements.filter.min_vrm: there is no such field; allowed: providers"),
        (json!({"requirements": {}, "bid": 1}), "bid: only interruptible machines take bids: set `rental_kind` to `interruptible`"),
        (json!({"offer_id": "vastai-1", "quantization": "awq"}), "quantization: goes with `model_id`"),
        (json!([]), "body: must be a JSON object"),
    ];
    for (body, want) in bodies {
        let refused = web.post("/api/v1/sessions", body.clone()).await;
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.text("error").starts_with(want), "{body}: {}", refused.text("error"));
    }
    let both = web.post("/api/v1/sessions", json!({"disk_gb": 0, "docker_image": ""})).await;
    let fields: Vec<&str> = both.at("fields").as_array().unwrap().iter().map(|f| f["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["docker_image", "disk_gb", "target"], "all at once");
    // Words, shapes and ranges, in the URL and in the body; what a field that can't be read seems to leave out is not told.
    let wrong = json!({"offer_id": 5, "colour": "red", "reservation_hours": 99, "ssh_timeout_minutes": "soon", "workload_type": "party", "disk_gb": 0,
        "max_retries": "all", "idle_threshold_minutes": -1, "ssh_public_key": ["x"]});
    let all = web.post("/api/v1/sessions?wait=now&x=1", wrong).await;
    let mut fields: Vec<&str> = all.at("fields").as_array().unwrap().iter().map(|f| f["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    let want = [
        "colour",
        "disk_gb",
        "idle_threshold_minutes",
        "max_retries",
        "offer_id",
        "reservation_hours",
        "ssh_public_key",
        "ssh_timeout_minutes",
        "wait",
        "workload_type",
        "x",
    ];
    assert_eq!((all.status, fields), (400, want.to_vec()), "{}", all.text);
    let extend = web.post(&format!("/api/v1/sessions/{id}/extend"), json!({"additional_hours": "some", "request_id": "a b"})).await;
    let fields: Vec<&str> = extend.at("fields").as_array().unwrap().iter().map(|f| f["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["additional_hours", "request_id"], "{}", extend.text);
    let list = web.get("/api/v1/sessions?limit=0&status=asleep&page_token=%21&label=team&consumer_id=%0a").await;
    let fields: BTreeSet<&str> = list.at("fields").as_array().unwrap().iter().map(|f| f["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["consumer_id", "label", "limit", "page_token", "status"].into(), "{}", list.text);
    let costs = web.get("/api/v1/costs?period=weekly&start_date=tomorrow&provider=nobody").await;
    let fields: Vec<&str> = costs.at("fields").as_array().unwrap().iter().map(|f| f["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["period", "start_date", "provider"], "{}", costs.text);
    let bytes = web.get("/api/v1/sessions?consumer_id=%ff").await;
    assert_eq!((bytes.status, bytes.text("error_type").as_str(), &bytes.at("fields")[0]["field"]), (400, "invalid_field", &json!("consumer_id")));
    for (path, want) in [
        (format!("/api/v1/sessions/{id}/wait?timeout=60"), "timeout: `60`; allowed: a number with its unit"),
        (format!("/api/v1/sessions/{id}/wait?timeout=11m"), "timeout: 660s is out of range"),
        (format!("/api/v1/sessions/{id}/wait?until=sleeping"), "until: `sleeping`; allowed: pending, "),
        (format!("/api/v1/sessions/{id}?x=1"), "x: there is no such parameter; allowed: none here"),
        ("/api/v1/sessions?status=asleep".to_owned(), "status: `asleep`; allowed: pending, "),
        ("/api/v1/sessions?label=team".to_owned(), "label: `team`; allowed: `key=value`"),
        ("/api/v1/offer-health?kinds=cat".to_owned(), "kinds: `cat`; allowed: provider, "),
        (format!("/api/v1/sessions/{id}/events?bookmark_interval=1s"), "bookmark_interval: 1s is out of range"),
    ] {
        let refused = web.get(&path).await;
        assert_eq!(refused.status, 400, "{path}");
        assert!(refused.text("error").starts_with(want), "{path}: {}", refused.text("error"));
    }
    let gone = web.ask("DELETE", &format!("/api/v1/sessions/{id}?wait=soon"), Value::Null, &[]).await;
    assert!(gone.status == 400 && gone.text("error").starts_with("wait: `soon`"), "{}", gone.text);
    assert_eq!(web.get(&format!("/api/v1/sessions/{id}")).await.text("status"), "running", "a refused order does nothing");
    web.destroy(&id).await;
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
async fn a_limit_below_one_run_is_told_with_the_least_that_would_do() {
    let web = Web::open(317, Faults::none()).await;
    let filter = json!({"filter": {"providers": ["vastai"], "rental_kind": "on_demand"}});
    let body = |most: &Value| json!({"requirements": filter, "reservation_hours": 2, "max_total_cost": most, "validate_only": true});
    let refused = web.post("/api/v1/sessions", body(&json!("0.001"))).await;
    assert_eq!((refused.status, refused.text("error_type").as_str()), (409, "price_above_limit"), "{}", refused.text);
    assert_eq!((&refused.at("fields")[0]["field"], refused.text("max_total_cost").as_str()), (&json!("max_total_cost"), "$0.001"));
    let least = refused.text("least_total_cost").trim_start_matches('$').to_owned();
    assert!(refused.text("error").contains(&format!("${least} or more")), "{}", refused.text);
    let enough = web.post("/api/v1/sessions", body(&json!(least))).await;
    assert_eq!(enough.status, 200, "{}", enough.text);
    let offer = web.get("/api/v1/inventory?provider=vastai&rental_kind=on_demand&limit=1").await.at("offers")[0]["id"].clone();
    let of_one = json!({"offer_id": offer, "reservation_hours": 2, "max_total_cost": "0.001"});
    let refused = web.post("/api/v1/sessions", of_one).await;
    assert_eq!((refused.status, refused.text("least_total_cost")), (409, format!("${least}")), "{}", refused.text);
    // Where something else is in the way, too, it is no matter of money.
    let narrow = json!({"requirements": {"filter": {"gpu_models": ["no such"]}}, "max_total_cost": "0.001"});
    assert_eq!(web.post("/api/v1/sessions", narrow).await.text("error_type"), "stale_inventory");
    web.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn refusals_have_their_status_and_say_what_to_do() {
    let web = Web::open(313, Faults::none()).await;
    let offer = web.get("/api/v1/inventory?provider=vastai&limit=1").await.at("offers")[0]["id"].as_str().unwrap().to_owned();
    for path in [
        "/api/v1/sessions/nope",
        "/api/v1/sessions/01kaphz700fay8vvr14d2pf2db",
        "/api/v1/sessions/nope/events",
        "/api/v1/sessions/nope/cost",
        "/api/v1/sessions/nope/history",
        "/api/v1/inventory/nope",
        "/api/v1/inventory/vastai-1",
        "/api/v1/inventory/vastai-1/compatible-templates",
        "/api/v1/templates/0000",
        "/api/v1/templates/%20",
        "/api/v1/costs?session_id=01kaphz700fay8vvr14d2pf2db",
        "/api/v1/nothing",
        "/",
        "/api/v1/sessions/",
        "/api/v1/sessions/%ff",
    ] {
        assert_eq!(web.get(path).await.status, 404, "{path}");
    }
    let asked = web.ask("GET", "/api/v1/sessions/nope", Value::Null, &[("x-request-id", "mine.1")]).await;
    assert_eq!((asked.text("request_id").as_str(), asked.headers["x-request-id"].to_str().unwrap()), ("mine.1", "mine.1"));
    let method = web.ask("PUT", "/api/v1/sessions", Value::Null, &[]).await;
    let allow: BTreeSet<&str> = method.headers["allow"].to_str().unwrap().split(',').map(str::trim).collect();
    assert_eq!((method.status, allow), (405, ["GET", "HEAD", "POST"].into()));
    for (kind, body) in [("text/plain", r#"{"requirements":{}}"#), ("application/x-www-form-urlencoded", "a=b"), ("application/jsonp", "{}")] {
        let request = Request::post("/api/v1/sessions").header("content-type", kind).body(Body::from(body)).unwrap();
        let refused = web.send(request).await;
        assert_eq!((refused.status, refused.text("error_type").as_str()), (415, "unsupported_media_type"), "{kind}");
    }
    let nameless = web.send(Request::post("/api/v1/sessions").body(Body::from("{}")).unwrap()).await;
    assert_eq!(nameless.status, 415, "a body that says not what it is");
    for (encoding, status) in [("gzip", 415), ("br", 415), ("identity", 400)] {
        let packed = web.ask("POST", "/api/v1/sessions", json!({}), &[("content-encoding", encoding)]).await;
        assert_eq!((packed.status, packed.text("error").contains("Content-Encoding")), (status, status == 415), "{}", packed.text);
    }
    let large = web.post("/api/v1/sessions", json!({"on_start_cmd": "x".repeat(1_100_000)})).await;
    assert_eq!((large.status, large.text("error_type").as_str()), (413, "too_large"));
    let twice = Request::post("/api/v1/sessions").header("content-type", "application/json").body(Body::from(r#"{"offer_id":"a","offer_id":"b"}"#));
    let twice = web.send(twice.unwrap()).await;
    assert!(twice.status == 400 && twice.text("error").contains("`offer_id` is there twice"));
    assert_eq!(web.ask("GET", "/api/v1/inventory", json!({}), &[]).await.status, 400, "a body where none is taken");

    // Nothing fits; the disk is too small; the offer is taken.
    let none = web.post("/api/v1/sessions", json!({"requirements": {"filter": {"gpu_models": ["RTX 4090"], "max_price_per_hour": 0.0001}}})).await;
    assert_eq!((none.status, none.text("error_type").as_str(), none.at("retry_suggested")), (503, "stale_inventory", &json!(true)));
    assert!(none.text("error").starts_with("No offers available") && none.text("relax_field") == "max_price_per_hour", "{}", none.text);
    let disk = json!({"offer_id": offer, "model_id": "Qwen/Qwen2.5-7B-Instruct", "disk_gb": 10});
    let small = web.post("/api/v1/sessions", disk).await;
    assert_eq!((small.status, small.text("error_type").as_str(), small.at("requested_gb")), (400, "insufficient_disk", &json!(10)), "{}", small.text);
    assert!(small.at("minimum_gb").as_u64() > Some(20) && small.at("breakdown.model_weight_gb").as_u64() > Some(10));
    assert_eq!((small.at("breakdown.minimum_gb"), small.text("breakdown.model_id").as_str()), (small.at("minimum_gb"), "Qwen/Qwen2.5-7B-Instruct"));
    let first = web.run(json!({"offer_id": offer, "consumer_id": "a"})).await;
    let second = web.post("/api/v1/sessions", json!({"offer_id": offer, "consumer_id": "a"})).await;
    assert_eq!((second.status, second.text("error_type").as_str(), second.text("session_id")), (409, "session_exists", first.clone()));

    let head = web.ask("HEAD", &format!("/api/v1/sessions/{first}"), Value::Null, &[]).await;
    let get = web.get(&format!("/api/v1/sessions/{first}")).await;
    assert_eq!((head.status, head.text.as_str(), &head.headers["content-type"]), (200, "", &get.headers["content-type"]));
    for path in ["/health", "/ready", "/metrics", "/openapi.json", "/api/v1/inventory", "/api/v1/costs"] {
        assert_eq!(web.ask("HEAD", path, Value::Null, &[]).await.status, 200, "{path}");
    }
    web.destroy(&first).await;
    web.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_named_request_is_done_once() {
    let web = Web::open(314, Faults::none()).await;
    let create = |body: Value, key: &'static str| {
        let web = &web;
        async move { web.ask("POST", "/api/v1/sessions", body, &[("idempotency-key", key)]).await }
    };
    let first = create(any(), "job-1").await;
    let again = create(any(), "job-1").await;
    assert_eq!((first.status, again.status, again.at("replayed")), (201, 201, &json!(true)));
    for member in ["session.id", "resume_token", "ssh_private_key"] {
        assert_eq!(first.text(member), again.text(member), "{member}");
    }
    let by_body = web.post("/api/v1/sessions", json!({"requirements": {}, "request_id": "job-1"})).await;
    assert_eq!((by_body.text("session.id"), by_body.at("replayed")), (first.text("session.id"), &json!(true)), "header and member are one thing");
    let other = create(json!({"requirements": {}, "consumer_id": "default", "labels": {"a": "b"}}), "job-1").await;
    assert_eq!((other.status, other.text("error_type").as_str()), (400, "request_id_reused"));
    let both = web.ask("POST", "/api/v1/sessions", json!({"requirements": {}, "request_id": "x"}), &[("idempotency-key", "y")]).await;
    assert!(both.status == 400 && both.text("error").starts_with("Idempotency-Key: differs"), "{}", both.text);
    let keys = [("idempotency-key", "job-2"), ("idempotency-key", "job-3")];
    let two = web.ask("POST", "/api/v1/sessions", any(), &keys).await;
    assert!(two.status == 400 && two.text("error").starts_with("Idempotency-Key: is there twice"), "{}", two.text);
    let long = web.ask("POST", "/api/v1/sessions", any(), &[("idempotency-key", &"x".repeat(129))]).await;
    assert!(long.status == 400 && long.text("error").starts_with("Idempotency-Key: "), "{}", long.text);

    let id = first.text("session.id");
    web.get(&format!("/api/v1/sessions/{id}/wait?timeout=10m")).await;
    let path = format!("/api/v1/sessions/{id}/extend");
    let extend = || web.ask("POST", &path, json!({"additional_hours": 1}), &[("idempotency-key", "more")]);

    let (one, two) = (extend().await, extend().await);
    assert_eq!((one.text("new_expires_at"), two.at("replayed")), (two.text("new_expires_at"), &json!(true)));
    let only = web.post("/api/v1/sessions", json!({"requirements": {}, "validate_only": true})).await;
    assert_eq!((only.status, web.get("/api/v1/sessions").await.at("total")), (200, &json!(1)), "only checked");
    let path = format!("/api/v1/sessions/{id}?wait=10m");
    let end = || web.ask("DELETE", &path, Value::Null, &[("idempotency-key", "end")]);
    assert_eq!((end().await.status, end().await.status), (200, 200));
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
