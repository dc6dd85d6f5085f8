//! Watches as server-sent events: every event once, in order, over any number of streams.

use super::{Answer, Web, any};
use axum::body::Body;
use futures::StreamExt;
use gpu_shopper::sim::Faults;
use http::Request;
use serde_json::{Value, json};
use tower::ServiceExt;

/// One event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub name: String,
    pub id: Option<String>,
    pub data: Value,
}

/// Reads a stream's text, event by event.
pub fn told(text: &str) -> Vec<Told> {
    let events = text.split("\n\n").filter(|e| !e.trim().is_empty());
    let one = |event: &str| {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        let data = field("data").unwrap_or_else(|| panic!("no data: {event}"));
        Told { name: field("event").unwrap(), id: field("id"), data: serde_json::from_str(&data).unwrap() }
    };
    events.map(one).collect()
}

impl Web {
    /// Reads a stream until it ends or until `enough`.
    async fn stream(&self, path: &str, last: Option<&str>, enough: impl Fn(&Told) -> bool) -> Vec<Told> {
        let mut request = Request::get(path);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (200, "text/event-stream"), "{path}");
        assert_eq!(answer.headers()["cache-control"], "no-cache");
        let (mut text, mut body) = (String::new(), answer.into_body().into_data_stream());
        while let Some(chunk) = body.next().await {
            text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
            if text.ends_with("\n\n") && told(&text).last().is_some_and(&enough) {
                break;
            }
        }
        told(&text)
    }
}

fn sequences(told: &[Told]) -> Vec<u64> {
    told.iter().filter(|t| t.name == "event").map(|t| t.data["sequence"].as_u64().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_session_is_told_to_its_end_over_streams_that_break() {
    let web = Web::open(330, Faults::gentle()).await;
    let created = web.post("/api/v1/sessions", any()).await;
    let (id, token) = (created.text("session.id"), created.text("resume_token"));
    let path = format!("/api/v1/sessions/{id}/events");
    // From before the first event; the line breaks after each third event, and the browser comes back with the last id.
    let mut all = web.stream(&format!("{path}?resume_token={token}"), None, |t| t.data["sequence"] == json!(3)).await;
    assert!(all.iter().all(|t| t.id.is_some()));
    let last = |all: &[Told]| all.iter().rev().find_map(|t| t.id.clone()).unwrap();
    while all.last().unwrap().data["to_status"] != "running" {
        let next = all.last().unwrap().data["sequence"].as_u64().unwrap() + 3;
        // What the URL says about the beginning stays what it was; the header goes before it.
        let (url, last) = (format!("{path}?resume_token={token}"), last(&all));
        let enough = |t: &Told| t.data["sequence"].as_u64() == Some(next) || t.data["to_status"] == "running";
        all.extend(web.stream(&url, Some(&last), enough).await);
    }
    web.post(&format!("/api/v1/sessions/{id}/done"), Value::Null).await;
    all.extend(web.stream(&path, Some(&last(&all)), |_| false).await);
    let ended = web.get(&format!("/api/v1/sessions/{id}")).await;
    assert_eq!(sequences(&all), (1..=ended.at("sequence").as_u64().unwrap()).collect::<Vec<_>>(), "each once, in order");
    let end = all.last().unwrap();
    assert_eq!(
        (end.data["to_status"].as_str(), &end.data["session"]["id"], &end.data["end_reason"]),
        (Some("stopped"), &json!(id), &json!("completed"))
    );
    // Nothing can follow: a browser is told so in the way that makes it stop asking.
    let asked = web.ask("GET", &path, Value::Null, &[("last-event-id", &last(&all))]).await;
    assert_eq!((asked.status, asked.text.as_str()), (204, ""));
    let rest = web.stream(&path, Some(all[all.len() - 2].id.as_deref().unwrap()), |_| false).await;
    assert_eq!(rest, std::slice::from_ref(end));
    // The whole of it once more, and the session as it ended.
    let whole = web.stream(&format!("{path}?resume_token={token}"), None, |_| false).await;
    assert_eq!(sequences(&whole), sequences(&all));
    let fresh = web.stream(&path, None, |_| false).await;
    assert_eq!((fresh[0].name.as_str(), fresh[0].id.as_ref(), fresh[1].name.as_str()), ("snapshot", None, "snapshot_end"));
    assert_eq!((&fresh[0].data, fresh.len()), (&ended.body, 2));

    let wrong: Answer = web.ask("GET", &path, Value::Null, &[("last-event-id", "garbage")]).await;
    assert_eq!((wrong.status, wrong.at("fields")[0]["field"].as_str()), (400, Some("Last-Event-ID")), "{}", wrong.text);
    // Taken for absent, the stream would begin anew, and the browser would have missed what was between.
    for (given, why) in [(&[&b"\xe4"[..]][..], "is no text"), (&[b"a", b"b"], "is there twice")] {
        let tokens = given.iter().map(|token| http::HeaderValue::from_bytes(token).unwrap());
        let request = tokens.fold(Request::get(&path), |request, token| request.header("last-event-id", token));
        let wrong = web.send(request.body(Body::empty()).unwrap()).await;
        assert!(wrong.status == 400 && wrong.text("error").starts_with(&format!("Last-Event-ID: {why}")), "{}", wrong.text);
    }
    let wrong = web.get(&format!("{path}?resume_token=garbage")).await;
    assert_eq!((wrong.status, wrong.at("fields")[0]["field"].as_str()), (400, Some("resume_token")));
    web.house.close().await;
}

#[tokio::test(start_paused = true)]
async fn all_sessions_are_watched_by_their_filter_and_silence_has_its_signs() {
    let web = Web::open(331, Faults::none()).await;
    let red = web.run(json!({"requirements": {}, "labels": {"team": "red"}, "consumer_id": "a"})).await;
    let blue = web.run(json!({"requirements": {}, "labels": {"team": "blue"}, "consumer_id": "b"})).await;
    let snapshot = web.stream("/api/v1/events?label=team%3Dred", None, |t| t.name == "snapshot_end").await;
    assert_eq!(
        (snapshot.len(), snapshot[0].data["id"].as_str(), &snapshot[1].data["counts"]),
        (2, Some(red.as_str()), &json!([{"status": "running", "count": 1}]))
    );
    for (filter, want) in [("consumer_id=b", 1), ("status=running", 2), ("status=pending", 0), ("provider=vastai&provider=vastai", 9)] {
        if want == 9 {
            assert_eq!(web.get(&format!("/api/v1/events?{filter}")).await.status, 400, "{filter}");
            continue;
        }
        let found = web.stream(&format!("/api/v1/events?{filter}"), None, |t| t.name == "snapshot_end").await;
        assert_eq!(found.len(), want + 1, "{filter}");
    }
    let token = snapshot[1].id.clone().unwrap();
    web.destroy(&blue).await;
    web.ask("PATCH", &format!("/api/v1/sessions/{red}"), json!({"labels": {"team": "green"}}), &[]).await;
    let told = web.stream("/api/v1/events?label=team%3Dred&bookmark_interval=5s", Some(&token), |t| t.name == "bookmark").await;
    let left: Vec<&Told> = told.iter().filter(|t| t.name == "event" && t.data["type"] == "updated").collect();
    assert!(left.len() == 1 && left[0].data["session_id"] == json!(red), "one that leaves is seen leaving: {told:?}");
    assert!(told.last().unwrap().id.is_some() && told.iter().all(|t| t.data["session_id"] != json!(blue)));
    let other = web.ask("GET", "/api/v1/events?label=team%3Dblue", Value::Null, &[("last-event-id", &token)]).await;
    assert_eq!(other.status, 400, "a token of another filter");
    let now = web.stream("/api/v1/events?from_now=true&bookmark_interval=5s", None, |_| true).await;
    assert_eq!(now.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["bookmark"]);
    let since = web.stream("/api/v1/events?ended_since=2020-01-01T00:00:00Z", None, |t| t.name == "snapshot_end").await;
    assert_eq!(since.len(), 3, "the ended one is among them");
    // The server ends: a last sign, and why.
    web.house.core().drain.cancel();
    let ended = web.stream("/api/v1/events?from_now=true", None, |_| false).await;
    assert_eq!(ended.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["bookmark", "bookmark", "failure"]);
    assert_eq!((&ended[2].data["error_type"], &ended[2].data["retry_suggested"]), (&json!("server_draining"), &json!(true)));
}
