//! The simulated vendors over HTTP, as a client of the real ones would use them, with real SSH servers behind.

use gpu_shopper::sim::{Dialect, Faults, Workload, World, WorldConfig, key_blob};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new()
}

async fn world(faults: Faults) -> World {
    World::start(WorldConfig::local(5, faults)).await.unwrap()
}

/// One call with a Bearer token (none when empty): status and body as JSON, or as text.
async fn call(method: Method, url: &str, token: &str, body: Option<Value>) -> (StatusCode, Value) {
    let mut request = client().request(method, url);
    if !token.is_empty() {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

async fn get(url: &str, token: &str) -> Value {
    let (status, body) = call(Method::GET, url, token, None).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

fn key(seed: u8) -> String {
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&[seed; 32]);
    ssh_key::PublicKey::from(pair.public).to_openssh().unwrap()
}

/// Asks until an answer satisfies, at most ten seconds.
async fn until(url: &str, token: &str, good: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..400 {
        let body = get(url, token).await;
        if good(&body) {
            return body;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it never came: {url}");
}

/// The first words of whoever listens there.
async fn greeting(host: &str, port: u64) -> String {
    use tokio::io::AsyncReadExt as _;
    let mut stream = tokio::net::TcpStream::connect((host, u16::try_from(port).unwrap())).await.unwrap();
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

struct Anyone;

impl thrussh::client::Handler for Anyone {
    type Error = thrussh::Error;

    async fn check_server_key(self, _: &thrussh_keys::key::PublicKey) -> Result<(Self, bool), Self::Error> {
        Ok((self, true))
    }
}

/// Logs in with the key of a seed and runs a command: what it printed, or `None` when the key is refused.
async fn over_ssh(host: &str, port: u64, seed: u8, command: &str) -> Option<String> {
    use std::sync::Arc;
    use thrussh::client::{Config, connect_stream};
    use thrussh_keys::key::{KeyPair, ed25519};
    let preferred = thrussh::Preferred { mac: &[thrussh::mac::hmac_sha256::NAME], ..thrussh::Preferred::DEFAULT_CLIENT };
    let stream = tokio::net::TcpStream::connect((host, u16::try_from(port).unwrap())).await.unwrap();
    let mut session = connect_stream(Arc::new(Config { preferred, ..Config::default() }), stream, Anyone).await.unwrap();
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&[seed; 32]);
    let key = Arc::new(KeyPair::Ed25519(ed25519::SecretKey { key: pair.to_bytes() }));
    if !matches!(session.authenticate_publickey("root", key).await, Ok(true)) {
        return None;
    }
    let mut channel = session.channel_open_session().await.unwrap();
    channel.exec(true, command).await.unwrap();
    let mut output = Vec::new();
    while let Some(message) = channel.wait().await {
        if let thrussh::ChannelMsg::Data { data } = message {
            output.extend_from_slice(&data);
        }
    }
    Some(String::from_utf8(output).unwrap())
}

#[tokio::test]
async fn the_documented_calls_work() {
    let world = world(Faults::none()).await;
    let (vast, dock, keys) = (&world.vastai_url, &world.tensordock_url, &world.keys);
    assert!(keys.vastai_key.len() == 64 && keys.vastai_key.bytes().all(|b| b.is_ascii_hexdigit()));
    let all = get(&format!("{vast}/api/v0/bundles/?q=%7B%7D"), &keys.vastai_key).await;
    let rentable = get(&format!("{vast}/api/v0/bundles/?q=%7B%22rentable%22%3Atrue%7D"), &keys.vastai_key).await;
    assert!(all["offers"].as_array().unwrap().len() >= 250);
    assert_eq!(all["offers"].as_array().unwrap().len(), rentable["offers"].as_array().unwrap().len());
    assert_eq!(get(&format!("{vast}/api/v0/instances/"), &keys.vastai_key).await["instances"], json!([]));
    let query = format!("api_key={}&api_token={}", keys.tensordock_auth_id, keys.tensordock_token);
    let locations = get(&format!("{dock}/api/v2/locations?{query}"), "").await;
    assert_eq!(locations["data"]["locations"].as_array().unwrap().len(), 40);
    assert_eq!(locations, get(&format!("{dock}/api/v2/locations"), "").await);
    assert_eq!(get(&format!("{vast}/health"), "").await, json!({"status": "ok"}));
    world.stop().await;
}

#[tokio::test]
async fn wrong_keys_are_refused_in_the_vendors_words() {
    let world = world(Faults::none()).await;
    let (vast, dock) = (&world.vastai_url, &world.tensordock_url);
    for path in ["/api/v0/instances/", "/api/v1/instances/", "/api/v0/instances/1/", "/api/v0/users/current/", "/api/v0/bundles/"] {
        let wrong = call(Method::GET, &format!("{vast}{path}"), &"0".repeat(64), None).await;
        assert_eq!(wrong, (StatusCode::UNAUTHORIZED, json!({"success": false, "error": "auth_error", "msg": "Invalid user key"})), "{path}");
    }
    assert_eq!(call(Method::GET, &format!("{vast}/api/v0/instances/"), "", None).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(call(Method::GET, &format!("{vast}/api/v0/bundles/"), "", None).await.0, StatusCode::OK, "looking needs no key");
    let refused = (StatusCode::UNAUTHORIZED, json!({"error": "Invalid API credentials"}));
    assert_eq!(call(Method::GET, &format!("{dock}/api/v2/instances"), "", None).await, refused);
    assert_eq!(call(Method::GET, &format!("{dock}/api/v2/instances"), &world.keys.tensordock_auth_id, None).await, refused);
    assert_eq!(call(Method::GET, &format!("{dock}/api/v2/locations?api_key=x&api_token=y"), "", None).await, refused);
    world.stop().await;
}

#[tokio::test]
async fn a_search_is_filtered_ordered_and_priced_by_the_vendor() {
    let world = world(Faults::none()).await;
    let url = format!("{}/api/v0/bundles/", world.vastai_url);
    let query = json!({
        "gpu_name": {"in": ["RTX 4090", "RTX 3090"]}, "num_gpus": {"gte": 1}, "verified": {"eq": true}, "rentable": {"eq": true},
        "external": {"eq": false}, "order": [["dph_total", "asc"]], "limit": 7, "type": "on-demand", "allocated_storage": 50,
    });
    let (status, body) = call(Method::POST, &url, "", Some(query)).await;
    assert_eq!(status, StatusCode::OK);
    let offers = body["offers"].as_array().unwrap();
    assert_eq!(offers.len(), 7);
    let price = |row: &Value, field: &str| row[field].as_f64().unwrap();
    for pair in offers.windows(2) {
        assert!(price(&pair[0], "dph_total") <= price(&pair[1], "dph_total"));
    }
    for row in offers {
        assert!(row["verification"] == "verified" && row["is_bid"] == false && row["min_bid"].as_f64().unwrap() > 0.0);
        let expected = price(row, "dph_base") + price(row, "storage_cost") * 50.0 / 720.0;
        assert!((price(row, "dph_total") - expected).abs() < 1e-9, "{row}");
    }
    let (_, bids) = call(Method::POST, &url, "", Some(json!({"type": "bid", "id": {"eq": offers[0]["id"]}}))).await;
    assert_eq!(bids["offers"][0]["dph_base"], offers[0]["min_bid"]);
    let (status, body) = call(Method::POST, &url, "", Some(json!({"colour": {"eq": "red"}}))).await;
    assert_eq!((status, body["msg"].as_str().unwrap()), (StatusCode::BAD_REQUEST, "Error in query parameters: colour is not a valid search key"));
    world.market.set_fault("nan_rows", "1").unwrap();
    let (_, body) = call(Method::POST, &url, "", Some(json!({}))).await;
    assert!(body.as_str().unwrap().contains("\"dlperf\":NaN"));
    world.stop().await;
}

#[tokio::test]
async fn a_machine_lives_in_vast_ais_dialect() {
    let world = world(Faults::none()).await;
    let (base, token) = (format!("{}/api/v0", world.vastai_url), world.keys.vastai_key.clone());
    let query = json!({"direct_port_count": {"gt": 0}, "duration": {"gt": 86_400}, "order": [["dph_total", "asc"]], "limit": 1});
    let (_, found) = call(Method::POST, &format!("{base}/bundles/"), &token, Some(query)).await;
    let ask = &found["offers"][0];
    let body = json!({
        "client_id": "me", "image": "ubuntu:24.04", "disk": 50.0, "label": "gs-x", "runtype": "ssh_direc ssh_proxy", "cancel_unavail": true,
        "env": {"A": "b", "-p 8000:8000": "1"},
    });
    let (status, created) = call(Method::PUT, &format!("{base}/asks/{}/", ask["id"]), &token, Some(body.clone())).await;
    assert_eq!((status, &created["success"]), (StatusCode::OK, &json!(true)));
    assert_eq!(created["instance_api_key"].as_str().unwrap().len(), 64);
    let url = format!("{base}/instances/{}/", created["new_contract"]);
    assert_eq!(call(Method::POST, &format!("{url}ssh/"), &token, Some(json!({"ssh_key": key(1)}))).await.1["success"], json!(true));
    assert_eq!(call(Method::POST, &format!("{url}ssh/"), &token, Some(json!({"ssh_key": "nonsense"}))).await.0, StatusCode::BAD_REQUEST);

    let one = until(&url, &token, |body| body["instances"]["ports"].is_object() && body["instances"]["ssh_port"].is_u64()).await;
    let row = &one["instances"];
    assert_eq!((&row["actual_status"], &row["intended_status"], &row["label"]), (&json!("running"), &json!("running"), &json!("gs-x")));
    assert!((row["dph_base"] == ask["dph_base"]) && row["extra_env"].as_array().unwrap().contains(&json!(["A", "b"])));
    assert!(row["ports"]["8000/tcp"][0]["HostPort"].is_string());
    let direct: u64 = row["ports"]["22/tcp"][0]["HostPort"].as_str().unwrap().parse().unwrap();
    assert_eq!(row["public_ipaddr"].as_str().unwrap().trim(), "127.0.0.1");
    let (host, proxy) = (row["ssh_host"].as_str().unwrap(), row["ssh_port"].as_u64().unwrap());
    for port in [direct, proxy] {
        let listed = over_ssh(host, port, 1, "nvidia-smi -L").await.unwrap();
        assert_eq!(listed.lines().count() as u64, ask["num_gpus"].as_u64().unwrap(), "{listed}");
        assert!(listed.starts_with("GPU 0: "), "{listed}");
    }
    assert_eq!(over_ssh(host, direct, 2, "nvidia-smi -L").await, None, "a key that was never attached");

    let (status, again) = call(Method::PUT, &format!("{base}/asks/{}/", ask["id"]), &token, Some(body)).await;
    assert_eq!((status, &again["error"], &again["ask_id"]), (StatusCode::BAD_REQUEST, &json!("invalid_args"), &ask["id"]));
    assert!(again["msg"].as_str().unwrap().contains("no_such_ask  Instance type by id"));

    assert_eq!(call(Method::PUT, &url, &token, Some(json!({"state": "stopped"}))).await.1, json!({"success": true}));
    assert_eq!(get(&url, &token).await["instances"]["intended_status"], "stopped");
    assert_eq!(call(Method::PUT, &url, &token, Some(json!({"state": "running", "label": "both"}))).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(call(Method::PUT, &url, &token, Some(json!({"state": "running"}))).await.1, json!({"success": true}));
    assert_eq!(call(Method::PUT, &url, &token, Some(json!({"label": "new"}))).await.0, StatusCode::OK);
    assert_eq!(call(Method::DELETE, &url, &token, None).await.1["success"], json!(true));
    assert_eq!(get(&url, &token).await, json!({"instances": null}));
    assert_eq!(call(Method::DELETE, &url, &token, None).await.0, StatusCode::NOT_FOUND);
    let truth = get(&format!("{}/_sim/truth", world.vastai_url), "").await;
    assert_eq!((&truth["machines"][0]["alive"], &truth["machines"][0]["label"]), (&json!(false), &json!("new")));
    world.stop().await;
}

#[tokio::test]
async fn pages_together_are_the_whole_list() {
    let world = world(Faults::none()).await;
    let token = world.keys.vastai_key.clone();
    for number in 0..60 {
        world.market.plant(world.vastai_account, if number % 2 == 0 { "even" } else { "odd" }).unwrap();
    }
    for (filter, expected) in [("", 60_usize), (r#"{"label":{"eq":"even"}}"#, 30)] {
        let (mut ids, mut after, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let url = format!("{}/api/v1/instances/", world.vastai_url);
            let query = [("limit", "100"), ("after_token", &after), ("select_filters", if filter.is_empty() { "{}" } else { filter })];
            let page: Value = client().get(&url).query(&query).bearer_auth(&token).send().await.unwrap().json().await.unwrap();
            let rows = page["instances"].as_array().unwrap();
            assert!(rows.len() <= 25 && page["instances_found"] == expected && page["total_instances"] == 60);
            ids.extend(rows.iter().map(|row| row["id"].as_u64().unwrap()));
            pages += 1;
            match page["next_token"].as_str() {
                Some(next) => next.clone_into(&mut after),
                None => break,
            }
        }
        ids.dedup();
        assert_eq!((ids.len(), pages), (expected, expected.div_ceil(25)));
    }
    let refused = call(Method::GET, &format!("{}/api/v1/instances/?select_filters=%7B%22dph_total%22%3A1%7D", world.vastai_url), &token, None).await;
    assert_eq!(refused.1["msg"], "Error in query parameters: dph_total is not a valid search key");
    world.stop().await;
}

#[tokio::test]
async fn a_machine_lives_in_tensordocks_dialect() {
    let world = world(Faults::none()).await;
    let (base, token) = (format!("{}/api/v2", world.tensordock_url), world.keys.tensordock_token.clone());
    let locations = get(&format!("{base}/locations"), "").await;
    let first = &locations["data"]["locations"][0];
    let gpu = &first["gpus"][0];
    let v0 = gpu["v0Name"].as_str().unwrap();
    let hidden = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{}\n", key(2)));
    let order = |storage: u32, v0: &str, ports: Value, ssh_key: &str| {
        json!({"data": {"type": "virtualmachine", "attributes": {
            "name": "gs-y", "type": "virtualmachine", "image": "ubuntu2404_ml_everything", "location_id": first["id"],
            "resources": {"vcpu_count": 8, "ram_gb": 32, "storage_gb": storage, "gpus": {v0: {"count": 1}}},
            "useDedicatedIp": false, "port_forwards": ports, "ssh_key": ssh_key,
            "cloud_init": {"runcmd": [format!("echo {hidden} | base64 -d >> /root/.ssh/authorized_keys")]},
        }}})
    };
    let ssh = || json!([{"internal_port": 22, "external_port": 0}]);
    let url = format!("{base}/instances");
    let (status, faults) = call(Method::POST, &url, &token, Some(order(50, v0, json!([]), ""))).await;
    let messages: Vec<&str> = faults.as_array().unwrap().iter().map(|fault| fault["message"].as_str().unwrap()).collect();
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(messages, ["Storage must be at least 100 GB", "SSH key is required for Linux VMs", "SSH port (22) must be forwarded for Ubuntu VMs"]);
    assert!(call(Method::POST, &url, &token, Some(order(100, "voodoo2", ssh(), &key(1)))).await.1.is_array());

    let (status, created) = call(Method::POST, &url, &token, Some(order(100, v0, ssh(), &key(1)))).await;
    assert_eq!((status, &created["data"]["name"]), (StatusCode::OK, &json!("gs-y")), "{created}");
    let id = created["data"]["id"].as_str().unwrap().to_owned();
    let list = get(&url, &token).await;
    let item = &list["data"]["attributes"]["instances"][0];
    assert_eq!((item["id"].as_str().unwrap(), &item["attributes"]["name"]), (id.as_str(), &json!("gs-y")));
    let one = until(&format!("{url}/{id}"), &token, |body| !body["portForwards"].as_array().unwrap().is_empty()).await;
    assert_eq!((&one["status"], &one["resources"]["gpus"][gpu["displayName"].as_str().unwrap()]["v0Name"]), (&json!("running"), &gpu["v0Name"]));
    assert_eq!(one["portForwards"][0]["internal_port"], 22);
    let port = one["portForwards"][0]["external_port"].as_u64().unwrap();
    assert_eq!(greeting(one["ipAddress"].as_str().unwrap(), port).await, "SSH-2.0-");
    for (seed, admitted) in [(1, true), (2, true), (3, false)] {
        assert_eq!(world.market.admits(&id, &key_blob(&key(seed)).unwrap()), admitted);
    }
    let part = |field: &str| gpu["pricing"][field].as_f64().unwrap();
    let hourly = gpu["price_per_hr"].as_f64().unwrap() + 8.0 * part("per_vcpu_hr") + 32.0 * part("per_gb_ram_hr") + 100.0 * part("per_gb_storage_hr");
    assert!((one["rateHourly"].as_f64().unwrap() - hourly).abs() < 1e-9);

    assert_eq!(call(Method::POST, &format!("{url}/{id}/stop"), &token, None).await.0, StatusCode::OK);
    assert_eq!(get(&format!("{url}/{id}"), &token).await["status"], "stopped");
    assert_eq!(call(Method::POST, &format!("{url}/{id}/start"), &token, None).await.0, StatusCode::OK);
    let deleted = call(Method::DELETE, &format!("{url}/{id}"), &token, None).await;
    assert_eq!(deleted.1["data"]["attributes"]["message"], "Instance deleted successfully");
    assert_eq!(call(Method::GET, &format!("{url}/{id}"), &token, None).await, (StatusCode::NOT_FOUND, json!({"error": "Instance not found"})));

    world.market.set_fault("stale_ask", "1").unwrap();
    let (status, full) = call(Method::POST, &url, &token, Some(order(100, v0, ssh(), &key(1)))).await;
    assert_eq!((status, full), (StatusCode::OK, json!({"status": 400, "error": "No available nodes found"})));
    world.stop().await;
}

#[tokio::test]
async fn the_simulations_own_paths_make_mishaps() {
    let world = world(Faults::none()).await;
    let (vast, token) = (world.vastai_url.clone(), world.keys.vastai_key.clone());
    let (_, planted) = call(Method::POST, &format!("{vast}/_sim/orphan"), "", Some(json!({"label": "gs-lost"}))).await;
    let id = planted["native_id"].as_str().unwrap();
    let list = get(&format!("{vast}/api/v0/instances/"), &token).await;
    assert_eq!(list["instances"][0]["label"], "gs-lost");
    let post = |path: String, body: Value| call(Method::POST, Box::leak(format!("{vast}{path}").into_boxed_str()), "", Some(body));
    assert_eq!(post(format!("/_sim/workload/{id}/busy"), json!({})).await.0, StatusCode::OK);
    assert_eq!(world.market.workload(id), Workload::Busy);
    let (status, words) = post(format!("/_sim/workload/{id}/asleep"), json!({})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(words["error"].as_str().unwrap().contains("idle, busy, logged_in, hidden"), "{words}");
    assert_eq!(post("/_sim/workload/1/idle".to_owned(), json!({})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(post(format!("/_sim/preempt/{id}"), json!({})).await.0, StatusCode::OK);
    let one = get(&format!("{vast}/api/v0/instances/{id}/"), &token).await;
    assert_eq!((&one["instances"]["actual_status"], &one["instances"]["cur_state"]), (&json!("exited"), &json!("stopped")));
    assert_eq!(post(format!("/_sim/vanish/{id}"), json!({})).await.0, StatusCode::OK);
    assert_eq!(post(format!("/_sim/vanish/{id}"), json!({})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&format!("{vast}/api/v0/instances/{id}/"), &token).await, json!({"instances": null}));
    assert_eq!(post("/_sim/faults".to_owned(), json!({"nope": 1})).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(post("/_sim/faults".to_owned(), json!({"preset": "gentle", "too_many_requests": 1, "boot": "2s"})).await.0, StatusCode::OK);
    let (status, text) = call(Method::PUT, &format!("{vast}/api/v0/asks/1/"), &token, Some(json!({"image": "x", "disk": 20}))).await;
    assert_eq!((status, text), (StatusCode::TOO_MANY_REQUESTS, json!("API requests too frequent: endpoint threshold=4.5*1.0")));
    world.stop().await;
}

#[tokio::test]
async fn a_lost_reply_breaks_off_and_the_machine_is_there() {
    let world = world(Faults::none()).await;
    world.market.set_fault("reply_lost", "1").unwrap();
    let found = get(&format!("{}/api/v0/bundles/?q=%7B%22limit%22%3A1%7D", world.vastai_url), "").await;
    let url = format!("{}/api/v0/asks/{}/", world.vastai_url, found["offers"][0]["id"]);
    let request = client().put(url).bearer_auth(&world.keys.vastai_key).json(&json!({"image": "x", "disk": 20, "label": "gs-z"}));
    let answer = match request.send().await {
        Ok(answer) => answer.text().await,
        Err(error) => Err(error),
    };
    assert!(answer.is_err());
    assert_eq!(world.market.alive().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn ssh_ports_stay_in_their_range_and_close_with_the_machine() {
    let range = 43_110..=43_125;
    let config =
        WorldConfig { ssh_ports: Some(range.clone()), advertise_host: Some("127.0.0.1".to_owned()), ..WorldConfig::local(6, Faults::none()) };
    let world = World::start(config).await.unwrap();
    let id = world.market.plant(world.tensordock_account, "gs-a").unwrap();
    let url = format!("{}/api/v2/instances/{id}", world.tensordock_url);
    let one = until(&url, &world.keys.tensordock_token, |body| body["ipAddress"] == "127.0.0.1").await;
    let port = one["portForwards"][0]["external_port"].as_u64().unwrap();
    assert!(range.contains(&u16::try_from(port).unwrap()));
    let listens = || async move { tokio::net::TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())).await.is_ok() };
    assert!(listens().await);
    assert!(world.market.vanish(&id));
    for _ in 0..400 {
        if !listens().await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(!listens().await, "the door closes with the machine");
    assert_eq!(world.market.first_account(Dialect::Tensordock), Some(world.tensordock_account));
    world.stop().await;
}
