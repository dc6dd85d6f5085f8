//! What a request may say: every parameter does something, and what is wrong is told with what is allowed.

use super::*;

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
