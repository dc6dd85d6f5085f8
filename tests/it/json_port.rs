//! The JSON face of the built program on a real port, as curl and browsers meet it: streams that break, a server that is
//! killed and comes back.

use crate::child::{Env, Served, http, log_in, pointed_at, world};
use gpu_shopper::grpc::pb::session::State;
use gpu_shopper::sim::Faults;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

pub async fn call(server: &Served, method: &str, path: &str, body: Value) -> (u16, Value) {
    let mut request = http().request(method.parse().unwrap(), format!("{}{path}", server.url));
    if !body.is_null() {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Reads server-sent events from a port, until `enough` or the end: their ids and data.
async fn stream(server: &Served, path: &str, last: Option<&str>, enough: impl Fn(&str, &Value) -> bool) -> Vec<(String, Value)> {
    let mut request = http().get(format!("{}{path}", server.url)).header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let answer = request.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (200, "text/event-stream"));
    let (mut text, mut told, mut answer) = (String::new(), Vec::new(), answer);
    while let Ok(Some(chunk)) = answer.chunk().await {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
            let (name, id) = (field("event: ").unwrap_or_default(), field("id: ").unwrap_or_default());
            let data: Value = serde_json::from_str(&field("data: ").unwrap()).unwrap();
            let done = enough(&name, &data);
            if name == "event" {
                told.push((id, data));
            }
            text = rest.to_owned();
            if done {
                return told;
            }
        }
    }
    told
}

async fn served(folder: &Path, env: &Env) -> Served {
    Served::ready(folder, env, 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_by_http_alone_through_a_killed_server() {
    let (world, home) = (world(340, Faults::gentle()).await, tempfile::tempdir().unwrap());
    let env = pointed_at(&world, home.path());
    let server = served(home.path(), &env).await;
    let (status, health) = call(&server, "GET", "/health", Value::Null).await;
    assert_eq!((status, &health["status"]), (200, &json!("ok")));
    let known: BTreeSet<&String> = health["services"].as_object().unwrap().keys().collect();
    assert!(["lifecycle", "inventory", "vastai", "tensordock"].iter().all(|name| known.iter().any(|k| k.as_str() == *name)), "{health}");

    let (_, offers) = call(&server, "GET", "/api/v1/inventory?min_vram=16&provider=vastai&rental_kind=on_demand&limit=1", Value::Null).await;
    let body = json!({"consumer_id": "guide", "offer_id": offers["offers"][0]["id"], "workload_type": "ssh", "reservation_hours": 1});
    let (status, created) = call(&server, "POST", "/api/v1/sessions", body).await;
    assert_eq!(status, 201, "{created}");
    let id = created["session"]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/sessions/{id}/events");
    let first = format!("{path}?resume_token={}", created["resume_token"].as_str().unwrap());
    let mut told = stream(&server, &first, None, |_, data| data["to_status"] == "running").await;
    let running = server.get_session(&id).await;
    assert!(log_in(&running, created["ssh_private_key"].as_str().unwrap()).await.contains("GPU 0"));

    // A stream is open when the server dies; its successor goes on after the last id.
    server.child.kill().await;
    let server = Served::start(home.path(), &env).await;
    let last = told.last().unwrap().0.clone();
    let ending = {
        let (status, done) = call(&server, "POST", &format!("/api/v1/sessions/{id}/done"), Value::Null).await;
        assert!(matches!((status, done["session"]["status"].as_str()), (202, Some("stopping"))), "{status} {done}");
        stream(&server, &path, Some(&last), |_, _| false).await
    };
    told.extend(ending);
    let sequences: Vec<u64> = told.iter().map(|(_, data)| data["sequence"].as_u64().unwrap()).collect();
    let (_, ended) = call(&server, "GET", &format!("/api/v1/sessions/{id}"), Value::Null).await;
    assert_eq!((ended["status"].as_str(), &told.last().unwrap().1["to_status"]), (Some("stopped"), &json!("stopped")));
    assert_eq!(sequences, (1..=ended["sequence"].as_u64().unwrap()).collect::<Vec<_>>(), "each event once, over two servers");
    let (status, gone) = call(&server, "DELETE", &format!("/api/v1/sessions/{id}"), Value::Null).await;
    assert_eq!((status, gone["message"].as_str()), (200, Some("session destroyed")));
    let (_, costs) = call(&server, "GET", &format!("/api/v1/costs?session_id={id}"), Value::Null).await;
    assert!(costs["total_cost"].as_f64().unwrap() > 0.0 && costs["final"] == true);

    // Streams end with the server that is told to end, with a last sign.
    let (status, more) = call(&server, "POST", "/api/v1/sessions?wait=60s", json!({"requirements": {"filter": {"providers": ["vastai"]}}})).await;
    assert_eq!((status, &more["session"]["status"]), (201, &json!("running")), "{more}");
    let id = more["session"]["id"].as_str().unwrap().to_owned();
    server.child.terminate();
    let ended = server.child.end().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.err);
    for text in [&ended.out, &ended.err] {
        assert!(!text.contains("PRIVATE KEY"), "a key in the log");
    }
    let server = Served::start(home.path(), &env).await;
    let (status, _) = call(&server, "DELETE", &format!("/api/v1/sessions/{id}?wait=60s"), Value::Null).await;
    assert_eq!(status, 200);
    server.until(&id, State::Stopped).await;
    server.stop().await;
    world.stop().await;
}
