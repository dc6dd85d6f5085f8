//! The contract of every provider, over real HTTP against small scripted vendors on the loopback interface.
//!
//! One test body serves all providers: a [`Dialect`] says how the vendor writes the same things. What is the vendor's own
//! (all its error texts, all its shapes) is tested beside its parser.

mod mangled;
mod recorded;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::ids::{Label, SessionId, Tag};
use gpu_shopper::domain::instance::InstanceStatus as S;
use gpu_shopper::domain::time::Time;
use gpu_shopper::ports::{Breaker, Certainty, DestroyAnswer, ErrorKind, LaunchSpec, Provider, SeededChance};
use gpu_shopper::providers::{Context, Settings, Tuning, entry, install_crypto};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KEY: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

/// One call as the vendor saw it.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    path: String,
    query: String,
    authorization: String,
    body: String,
}

/// What the vendor does with a call.
#[derive(Clone, Debug)]
enum Answer {
    Say(u16, String),
    With(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Takes the call and never answers.
    Hang,
    /// Sends the head and half a body, and no more.
    Stall,
    /// Sends more than anybody should take.
    Flood,
}

fn ok(body: impl Into<String>) -> Answer {
    Answer::Say(200, body.into())
}

type Script = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;

/// A scripted vendor. Its task ends with the test's runtime.
struct Vendor {
    base: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Vendor {
    async fn new(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let app = axum::Router::new().fallback(handle).with_state((Arc::clone(&seen), Arc::new(script) as Script));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { base, seen }
    }

    fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

async fn handle(State((log, script)): State<(Arc<Mutex<Vec<Seen>>>, Script)>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let authorization = head.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let seen = Seen {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        authorization,
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    log.lock().unwrap().push(seen.clone());
    let stream = |chunks: Vec<Bytes>, end: bool| {
        let chunks = futures::stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
        let rest = if end { futures::stream::pending().left_stream() } else { futures::stream::empty().right_stream() };
        Body::from_stream(futures::StreamExt::chain(chunks, rest))
    };
    use futures::StreamExt;
    match script(&seen) {
        Answer::Say(status, body) => Response::builder().status(status).body(Body::from(body)).unwrap(),
        Answer::With(status, headers, body) => {
            let builder = headers.into_iter().fold(Response::builder().status(status), |builder, (name, value)| builder.header(name, value));
            builder.body(Body::from(body)).unwrap()
        }
        Answer::Hang => std::future::pending().await,
        Answer::Stall => Response::new(stream(vec![Bytes::from_static(b"{\"instances\":[")], true)),
        Answer::Flood => Response::new(stream(vec![Bytes::from(vec![b' '; 1 << 20]); 6], false)),
    }
}

/// How a vendor writes what all vendors say.
#[derive(Clone, Copy)]
struct Dialect {
    name: &'static str,
    /// A body of offers with at least one.
    offers: &'static str,
    /// Whether a call is the launch of the offer in `offers`.
    is_launch: fn(&Seen) -> bool,
    launched: fn(&str) -> String,
    one: fn(id: &str, label: &str, status: &str) -> String,
    /// A whole list.
    list: fn(&[String]) -> String,
    row: fn(id: &str, label: &str, status: &str) -> String,
    /// A list that says that it is not all there is.
    short_list: &'static str,
    gone: (u16, &'static str),
    destroyed: &'static str,
    destroy_absent: (u16, &'static str),
    /// 200 with an error body that means "no capacity".
    no_capacity: (u16, &'static str),
    statuses: &'static [(&'static str, S)],
}

fn dialects() -> [Dialect; 2] {
    let vastai = Dialect {
        name: "vastai",
        offers: r#"{"offers":[{"id":4711,"machine_id":9,"gpu_name":"A40","num_gpus":1,"gpu_ram":46068,
            "dph_base":0.3,"min_bid":0.1,"storage_cost":0.1}]}"#,
        is_launch: |seen| seen.method == "PUT" && seen.path == "/api/v0/asks/4711/",
        launched: |id| format!(r#"{{"success":true,"new_contract":{id},"instance_api_key":"canary-instance-key"}}"#),
        one: |id, label, status| format!(r#"{{"instances":{{"id":{id},"label":"{label}","actual_status":"{status}","jupyter_token":"canary"}}}}"#),
        list: |rows| format!(r#"{{"success":true,"total_instances":{},"next_token":null,"instances":[{}]}}"#, rows.len(), rows.join(",")),
        row: |id, label, status| format!(r#"{{"id":{id},"label":"{label}","actual_status":"{status}"}}"#),
        short_list: r#"{"success":true,"total_instances":2,"next_token":null,"instances":[{"id":1}]}"#,
        gone: (200, r#"{"instances":null}"#),
        destroyed: r#"{"success":true}"#,
        destroy_absent: (404, r#"{"success":false,"error":"no_such_instance","msg":"Instance 77 not found."}"#),
        no_capacity: (200, r#"{"success":false,"error":"no_such_ask","msg":"error 404/3603: no_such_ask"}"#),
        statuses: &[
            ("created", S::Scheduled),
            ("loading", S::Starting),
            ("running", S::Running),
            ("exited", S::Failed),
            ("stopped", S::Stopped),
            ("frozen", S::Stopped),
            ("offline", S::Offline),
            ("unknown", S::Unknown),
            ("restarting", S::Starting),
            ("rebooting", S::Starting),
            ("scheduling", S::Scheduled),
            ("destroying", S::Deleting),
            ("gargling", S::Unknown),
        ],
    };
    let tensordock = Dialect {
        name: "tensordock",
        offers: r#"{"data":{"locations":[{"id":"loc-1","city":"Oslo","country":"Norway",
            "gpus":[{"v0Name":"rtxa4000-pcie-16gb","max_count":1,"price_per_hr":0.1}]}]}}"#,
        is_launch: |seen| seen.method == "POST" && seen.path == "/api/v2/instances",
        launched: |id| format!(r#"{{"data":{{"type":"virtualmachine","id":"{id}","status":"creating"}}}}"#),
        one: |id, label, status| format!(r#"{{"id":"{id}","name":"{label}","status":"{status}"}}"#),
        list: |rows| format!(r#"{{"data":{{"instances":[{}]}}}}"#, rows.join(",")),
        row: |id, label, status| format!(r#"{{"id":"{id}","attributes":{{"name":"{label}","status":"{status}"}}}}"#),
        short_list: r#"{"data":[{"id":"1"}],"meta":{"total":2}}"#,
        gone: (404, r#"{"error":"Instance not found"}"#),
        destroyed: r#"{"data":{"type":"success","attributes":{"message":"Instance deleted successfully"}}}"#,
        destroy_absent: (404, r#"{"error":"Instance not found"}"#),
        no_capacity: (200, r#"{"status":400,"error":"No available nodes found"}"#),
        statuses: &[
            ("running", S::Running),
            ("starting", S::Starting),
            ("creating", S::Starting),
            ("provisioning", S::Starting),
            ("queued", S::Scheduled),
            ("pending", S::Scheduled),
            ("stopping", S::Stopped),
            ("stopped", S::Stopped),
            ("StoppedDisassociated", S::Stopped),
            ("deleting", S::Deleting),
            ("deleted", S::Gone),
            ("terminated", S::Gone),
            ("error", S::Failed),
            ("failed", S::Failed),
            ("gargling", S::Unknown),
        ],
    };
    [vastai, tensordock]
}

/// No pace, no retries, short waits: what is tested here is not time.
fn quick() -> Tuning {
    let wait = Duration::from_millis(1);
    Tuning { pace_percent: 0, read_retries: 0, read_backoff: wait, throttle_wait: wait, ..Tuning::default() }
}

fn provider(dialect: &Dialect, base: &str, tuning: Tuning) -> Arc<dyn Provider> {
    install_crypto();
    let context = Context { clock: Clock::System, chance: Arc::new(SeededChance::new(1)), tuning };
    let settings = Settings::new().with("api_key", KEY).with("api_token", KEY).with("auth_id", "account-1").with("base_url", base);
    (entry(dialect.name).unwrap().build)(&settings, &context).unwrap()
}

async fn spec(dialect: &Dialect) -> LaunchSpec {
    let vendor = Vendor::new({
        let offers = dialect.offers;
        move |_| ok(offers)
    })
    .await;
    let offers = provider(dialect, &vendor.base, quick()).offers().await.unwrap().offers;
    LaunchSpec {
        label: Label { tag: Tag::from_hash([9, 8, 7, 6, 5]), session: SessionId::new(Time::from_millis(1_764_000_000_000), 42), attempt: 3 },
        offer: offers[0].clone(),
        image: None,
        disk_gb: 100,
        bid: None,
        public_keys: vec!["ssh-ed25519 AAAAC3Nza consumer".to_owned()],
        env: BTreeMap::new(),
        on_start: None,
        ports: Vec::new(),
        template: None,
        service: None,
        registry: None,
    }
}

/// A provider against a vendor that always answers the same.
async fn against(dialect: &Dialect, answer: Answer) -> (Arc<dyn Provider>, Vendor) {
    let vendor = Vendor::new(move |_| answer.clone()).await;
    (provider(dialect, &vendor.base, quick()), vendor)
}

#[tokio::test]
async fn offers_are_listed_and_their_ids_are_owned() {
    for dialect in dialects() {
        let (provider, vendor) = against(&dialect, ok(dialect.offers)).await;
        let batch = provider.offers().await.unwrap();
        assert!(!batch.offers.is_empty(), "{}", dialect.name);
        for offer in &batch.offers {
            assert!(provider.owns_offer_id(&offer.id) && offer.provider == provider.facts().id, "{}", offer.id);
            assert!(offer.price(None).total().0 > 0);
        }
        let seen = vendor.last();
        assert_eq!(seen.authorization, format!("Bearer {KEY}"));
        assert!(!format!("{}{}{}", seen.path, seen.query, seen.body).contains(KEY), "no key in an address or a body");
    }
}

#[tokio::test]
async fn what_is_launched_carries_the_label_and_is_found_by_it() {
    for dialect in dialects() {
        let spec = spec(&dialect).await;
        let label = spec.label.to_string();
        let created = Arc::new(Mutex::new(None::<String>));
        let vendor = Vendor::new({
            let created = Arc::clone(&created);
            move |seen| {
                if (dialect.is_launch)(seen) {
                    let body: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
                    let label = body["label"].as_str().or_else(|| body["data"]["attributes"]["name"].as_str()).unwrap();
                    *created.lock().unwrap() = Some(label.to_owned());
                    return ok((dialect.launched)("77"));
                }
                let rows = created.lock().unwrap().iter().map(|label| (dialect.row)("77", label, "running")).collect::<Vec<_>>();
                ok((dialect.list)(&rows))
            }
        })
        .await;
        let provider = provider(&dialect, &vendor.base, quick());
        assert!(provider.instances().await.unwrap().is_empty());
        let launched = provider.launch(&spec).await.unwrap();
        assert_eq!((launched.native_id.as_str(), &launched.failed), ("77", &None), "{}", dialect.name);
        assert!(launched.call.sent <= launched.call.answered);
        let all = provider.instances().await.unwrap();
        let found = all.iter().find(|seen| seen.label.as_deref().and_then(Label::parse) == Some(spec.label)).unwrap();
        assert_eq!((found.native_id.as_str(), found.label.as_deref()), ("77", Some(label.as_str())));
    }
}

#[tokio::test]
async fn a_list_is_complete_or_an_error() {
    for dialect in dialects() {
        for answer in [
            ok(dialect.short_list),
            ok("{}"),
            ok("[1,2]"),
            ok("null"),
            ok(""),
            ok("<html>login</html>"),
            ok("{\"instances\": ["),
            Answer::Say(500, (dialect.list)(&[])),
            Answer::Say(404, "{}".to_owned()),
            Answer::Flood,
        ] {
            let (provider, _vendor) = against(&dialect, answer.clone()).await;
            let error = provider.instances().await.expect_err(&format!("{}: {answer:?}", dialect.name));
            assert_eq!(error.provider.as_str(), dialect.name);
            assert!(error.text.chars().count() <= 300 && !error.text.is_empty());
        }
        let (provider, _vendor) = against(&dialect, ok((dialect.list)(&[]))).await;
        assert!(provider.instances().await.unwrap().is_empty(), "an empty list is a list");
    }
    // One that comes in one answer has no pages to stay small by.
    let [_, tensordock] = dialects();
    let rows: Vec<String> = (0..30_000).map(|id| (tensordock.row)(&format!("vm-{id}"), &"x".repeat(150), "running")).collect();
    let body = (tensordock.list)(&rows);
    assert!(body.len() > 5 << 20);
    let (provider, _vendor) = against(&tensordock, ok(body)).await;
    assert_eq!(provider.instances().await.unwrap().len(), rows.len());
}

#[tokio::test]
async fn pages_are_turned_to_the_end_and_a_broken_one_spoils_the_list() {
    let page = |ids: std::ops::Range<u32>, next: &str| {
        let rows: Vec<String> = ids.map(|id| format!(r#"{{"id":{id},"actual_status":"running"}}"#)).collect();
        ok(format!(
            r#"{{"success":true,"total_instances":60,"instances_found":{},"next_token":{next},"instances":[{}]}}"#,
            rows.len(),
            rows.join(",")
        ))
    };
    let [vastai, _] = dialects();
    let run = async |third: Answer| {
        let vendor = Vendor::new(move |seen| match seen.query.as_str() {
            "limit=25" => page(1..26, r#""t+1/=""#),
            "limit=25&after_token=t%2B1%2F%3D" => page(26..51, r#""t2""#),
            "limit=25&after_token=t2" => third.clone(),
            other => panic!("{other}"),
        })
        .await;
        provider(&vastai, &vendor.base, quick()).instances().await
    };
    assert_eq!(run(page(51..61, "null")).await.unwrap().len(), 60);
    assert_eq!(run(page(51..60, "null")).await.unwrap_err().kind, ErrorKind::Garbled, "one short of what is counted");
    assert_eq!(run(page(51..61, r#""t2""#)).await.unwrap_err().kind, ErrorKind::Garbled, "the next page is this page");
    assert_eq!(run(page(26..51, r#""t1""#)).await.unwrap_err().kind, ErrorKind::Garbled, "nothing new and no end");
    assert_eq!(run(Answer::Say(500, String::new())).await.unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(run(ok(r#"{"success":true}"#)).await.unwrap_err().kind, ErrorKind::Garbled);
}

#[tokio::test]
async fn every_status_word_is_mapped() {
    for dialect in dialects() {
        for (word, meaning) in dialect.statuses {
            let (provider, _vendor) = against(&dialect, ok((dialect.one)("77", "x", word))).await;
            let seen = provider.instance("77").await.unwrap().unwrap();
            assert_eq!(seen.status, *meaning, "{} {word}", dialect.name);
            assert!(!format!("{seen:?}").contains("canary"));
        }
    }
}

#[tokio::test]
async fn destroying_twice_ends_in_not_there() {
    for dialect in dialects() {
        let vendor = Vendor::new({
            let first = std::sync::atomic::AtomicBool::new(true);
            move |seen| {
                assert_eq!(seen.method, "DELETE");
                if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                    return ok(dialect.destroyed);
                }
                Answer::Say(dialect.destroy_absent.0, dialect.destroy_absent.1.to_owned())
            }
        })
        .await;
        let provider = provider(&dialect, &vendor.base, quick());
        assert_eq!(provider.destroy("77").await.unwrap(), DestroyAnswer::Accepted);
        assert_eq!(provider.destroy("77").await.unwrap(), DestroyAnswer::NotThere);
    }
}

#[tokio::test]
async fn gone_is_what_the_vendor_says_and_not_what_a_proxy_says() {
    for dialect in dialects() {
        let (provider, _vendor) = against(&dialect, Answer::Say(dialect.gone.0, dialect.gone.1.to_owned())).await;
        assert_eq!(provider.instance("77").await.unwrap(), None, "{}", dialect.name);
        for answer in [Answer::Say(404, "<html>404</html>".to_owned()), Answer::Say(404, String::new()), Answer::Say(502, "{}".to_owned()), ok("{}")]
        {
            let (provider, _vendor) = against(&dialect, answer.clone()).await;
            assert!(provider.instance("77").await.is_err(), "{} {answer:?}", dialect.name);
            assert!(!matches!(provider.destroy("77").await, Ok(DestroyAnswer::NotThere)), "{} {answer:?}", dialect.name);
        }
    }
}

#[tokio::test]
async fn a_destroy_that_is_refused_for_hours_is_told_with_the_time_that_the_vendor_says() {
    for dialect in dialects() {
        let wait = vec![("retry-after", "7200".to_owned())];
        let body = br#"{"success":false,"error":"invalid_state","msg":"the instance is not ready for deletion"}"#.to_vec();
        let (provider, _vendor) = against(&dialect, Answer::With(400, wait, body)).await;
        let before = Clock::System.now();
        let Ok(DestroyAnswer::Refused { until: Some(until), .. }) = provider.destroy("77").await else { panic!("{}", dialect.name) };
        let told = until.since(before).as_secs();
        assert!((7_200..7_260).contains(&told), "{}: {told} s", dialect.name);
    }
}

#[tokio::test]
async fn refusals_of_a_launch_say_what_did_not_happen() {
    for dialect in dialects() {
        let spec = spec(&dialect).await;
        let wait = vec![("retry-after", "7".to_owned())];
        for (answer, kind, retry_after) in [
            (Answer::Say(dialect.no_capacity.0, dialect.no_capacity.1.to_owned()), ErrorKind::NoCapacity, None),
            (Answer::Say(401, "{}".to_owned()), ErrorKind::Auth, None),
            (Answer::Say(403, "<html>".to_owned()), ErrorKind::Auth, None),
            (Answer::With(429, wait, b"slow down".to_vec()), ErrorKind::RateLimited, Some(Duration::from_secs(7))),
        ] {
            let (provider, vendor) = against(&dialect, answer.clone()).await;
            let error = provider.launch(&spec).await.unwrap_err();
            assert_eq!((error.kind, error.certainty), (kind, Certainty::DidNotHappen), "{} {answer:?}", dialect.name);
            assert_eq!(error.retry_after, retry_after, "{answer:?}");
            assert_eq!(vendor.calls(), 1, "a launch is sent once");
            if kind == ErrorKind::Auth {
                assert!(error.text.starts_with("Provider authentication failed"), "{}", error.text);
            }
        }
        let (provider, _vendor) = against(&dialect, Answer::Say(429, "slow down".to_owned())).await;
        let error = provider.launch(&spec).await.unwrap_err();
        assert!(error.kind == ErrorKind::RateLimited && error.retry_after.is_some(), "a wait even where the vendor tells none");
        assert!(provider.link().last_error.is_some_and(|text| text.contains("slow down")));
    }
}

#[tokio::test]
async fn what_may_have_happened_says_so_and_is_not_sent_again() {
    for dialect in dialects() {
        let spec = spec(&dialect).await;
        for answer in [
            Answer::Hang,
            Answer::Stall,
            Answer::Flood,
            ok("<html>welcome</html>"),
            ok("{\"data\":"),
            ok(""),
            Answer::Say(500, "{}".to_owned()),
            Answer::Say(502, "<html>".to_owned()),
            Answer::Say(504, String::new()),
            Answer::With(307, vec![("location", "/elsewhere".to_owned())], Vec::new()),
        ] {
            let late = matches!(answer, Answer::Hang | Answer::Stall);
            let vendor = Vendor::new({
                let answer = answer.clone();
                move |_| answer.clone()
            })
            .await;
            let deadline = if late { Duration::from_millis(200) } else { Duration::from_secs(60) };
            let tuning = Tuning { launch_deadline: deadline, read_retries: 3, ..quick() };
            let provider = provider(&dialect, &vendor.base, tuning);
            let error = provider.launch(&spec).await.unwrap_err();
            assert_eq!(error.certainty, Certainty::MayHaveHappened, "{} {answer:?}: {error}", dialect.name);
            assert!(matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Garbled), "{error}");
            assert_eq!(vendor.calls(), 1, "a launch is sent once");
        }
    }
}

#[tokio::test]
async fn nobody_listening_means_that_nothing_happened() {
    for dialect in dialects() {
        let spec = spec(&dialect).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = provider(&dialect, &base, quick()).launch(&spec).await.unwrap_err();
        assert_eq!((error.kind, error.certainty), (ErrorKind::Unavailable, Certainty::DidNotHappen), "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_call_may_have_worked() {
    for dialect in dialects() {
        let spec = spec(&dialect).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 64];
                let _ = tokio::io::AsyncReadExt::read(&mut socket, &mut buffer).await;
            }
        });
        let error = provider(&dialect, &base, quick()).launch(&spec).await.unwrap_err();
        assert_eq!((error.kind, error.certainty), (ErrorKind::Unavailable, Certainty::MayHaveHappened), "{error}");
    }
}

#[tokio::test]
async fn slow_and_endless_answers_to_reads_are_cut_off() {
    for dialect in dialects() {
        for (answer, kind) in [(Answer::Hang, ErrorKind::Unavailable), (Answer::Stall, ErrorKind::Unavailable), (Answer::Flood, ErrorKind::Garbled)] {
            let deadline = if matches!(answer, Answer::Flood) { Duration::from_secs(60) } else { Duration::from_millis(100) };
            let vendor = Vendor::new(move |_| answer.clone()).await;
            let provider = provider(&dialect, &vendor.base, Tuning { call_deadline: deadline, read_retries: 2, ..quick() });
            assert_eq!(provider.instances().await.unwrap_err().kind, kind);
            assert_eq!(vendor.calls(), 1, "what took its whole time is not asked again");
        }
    }
}

#[tokio::test]
async fn reads_are_tried_again_and_writes_are_not() {
    for dialect in dialects() {
        for trouble in [429_u16, 500, 503] {
            let vendor = Vendor::new({
                let left = Mutex::new(2);
                move |_| {
                    let mut left = left.lock().unwrap();
                    if *left > 0 {
                        *left -= 1;
                        return Answer::Say(trouble, "{}".to_owned());
                    }
                    ok((dialect.list)(&[]))
                }
            })
            .await;
            let provider = provider(&dialect, &vendor.base, Tuning { read_retries: 2, ..quick() });
            assert!(provider.instances().await.unwrap().is_empty(), "{} {trouble}", dialect.name);
            assert_eq!(vendor.calls(), 3);
        }
        let (provider, vendor) = against(&dialect, Answer::Say(503, "{}".to_owned())).await;
        assert!(provider.destroy("77").await.is_err() && provider.start("77").await.is_err());
        assert_eq!(vendor.calls(), 2);
    }
}

#[tokio::test]
async fn a_failing_vendor_is_left_alone_but_destroys_go_through() {
    for dialect in dialects() {
        let well = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let vendor = Vendor::new({
            let well = Arc::clone(&well);
            move |seen| match (seen.method.as_str(), well.load(std::sync::atomic::Ordering::SeqCst)) {
                ("DELETE", true) => ok(dialect.destroyed),
                _ => Answer::Say(503, String::new()),
            }
        })
        .await;
        let provider = provider(&dialect, &vendor.base, quick());
        let spec = spec(&dialect).await;
        assert_eq!(provider.link().breaker, Breaker::Closed);
        for _ in 0..5 {
            provider.instances().await.unwrap_err();
        }
        let link = provider.link();
        assert_eq!((link.breaker, link.consecutive_failures), (Breaker::Open, 5), "{}", dialect.name);
        assert!(link.last_error.is_some() && link.last_error_at.is_some() && link.last_ok_at.is_none());
        let refused = provider.launch(&spec).await.unwrap_err();
        assert_eq!((refused.kind, refused.certainty), (ErrorKind::Unavailable, Certainty::DidNotHappen));
        assert!(refused.retry_after.is_some());
        assert_eq!(vendor.calls(), 5, "nothing goes out");
        provider.destroy("77").await.unwrap_err();
        provider.instance("77").await.unwrap_err();
        assert_eq!(vendor.calls(), 7, "destroy and its confirmation do");
        well.store(true, std::sync::atomic::Ordering::SeqCst);
        provider.destroy("77").await.unwrap();
        assert_eq!(provider.link().breaker, Breaker::Closed, "what answers is not failing");
        assert!(provider.link().last_ok_at.is_some());
    }
}

#[tokio::test]
async fn redirects_stay_on_the_host_and_so_does_the_key() {
    for dialect in dialects() {
        let elsewhere = Vendor::new(|_| ok("{}")).await;
        let away = format!("{}/list", elsewhere.base);
        let (outside, _vendor) = against(&dialect, Answer::With(302, vec![("location", away)], Vec::new())).await;
        outside.instances().await.unwrap_err();
        assert_eq!(elsewhere.calls(), 0);
        let vendor = Vendor::new(move |seen| match seen.path.as_str() {
            "/moved" => ok((dialect.list)(&[])),
            _ => Answer::With(308, vec![("location", "/moved".to_owned())], Vec::new()),
        })
        .await;
        let inside = provider(&dialect, &vendor.base, quick());
        assert!(inside.instances().await.unwrap().is_empty());
        assert_eq!(vendor.last().authorization, format!("Bearer {KEY}"));
        let (circle, vendor) = against(&dialect, Answer::With(302, vec![("location", "/again".to_owned())], Vec::new())).await;
        circle.instances().await.unwrap_err();
        assert!(vendor.calls() < 10);
    }
}

#[tokio::test]
async fn packed_answers_are_unpacked() {
    let [_, tensordock] = dialects();
    let packed = vec![31, 139, 8, 0, 0, 0, 0, 0, 2, 255, 139, 142, 5, 0, 41, 187, 76, 13, 2, 0, 0, 0];
    let (provider, _vendor) = against(&tensordock, Answer::With(200, vec![("content-encoding", "gzip".to_owned())], packed)).await;
    assert!(provider.instances().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_key_is_in_no_error() {
    for dialect in dialects() {
        let vendor =
            Vendor::new(|seen| Answer::Say(400, format!(r#"{{"error":"bad","msg":"you sent {} and api_key={KEY}"}}"#, seen.authorization))).await;
        let provider = provider(&dialect, &vendor.base, quick());
        let errors = [
            provider.account().await.unwrap_err(),
            provider.offers().await.unwrap_err(),
            provider.launch(&spec(&dialect).await).await.unwrap_err(),
            provider.instance("77").await.unwrap_err(),
            provider.instances().await.unwrap_err(),
            provider.start("77").await.unwrap_err(),
            provider.destroy("77").await.unwrap_err(),
        ];
        for error in errors {
            assert!(!format!("{error} {error:?}").contains(&KEY[..16]), "{error}");
        }
        assert!(!format!("{:?}", provider.link()).contains(&KEY[..16]));
    }
}

/// A good answer that says our own key again, where a GPU's name or a machine's id is: nobody is told it.
#[tokio::test]
async fn the_key_is_in_no_answer() {
    let vastai = format!(
        r#"{{"offers":[{{"id":4711,"gpu_name":"{KEY}","num_gpus":1,"gpu_ram":46068,"dph_base":0.3,"min_bid":0.125,"geolocation":"{KEY}, US"}}]}}"#
    );
    let tensordock = format!(
        r#"{{"data":{{"locations":[{{"id":"1a779525-4c04-4f2c-aa45-58b47d54bb38","city":"{KEY}","stateprovince":"{KEY}","country":"US","gpus":[
            {{"v0Name":"h100-sxm5-80gb","displayName":"{KEY}","max_count":2,"price_per_hr":2.25,
              "resources":{{"max_vcpus":252,"max_ram_gb":1967,"max_storage_gb":8560}},"pricing":{{"per_vcpu_hr":0.003,"per_gb_ram_hr":0.002,"per_gb_storage_hr":0.00005}}}}]}}]}}}}"#
    );
    for (dialect, offers) in dialects().into_iter().zip([vastai, tensordock]) {
        let (provider, _vendor) = against(&dialect, ok(offers)).await;
        let told = provider.offers().await.unwrap();
        assert!(!told.offers.is_empty());
        assert!(!format!("{told:?}").contains(&KEY[..16]), "{told:?}");
        let (provider, _vendor) = against(&dialect, ok((dialect.list)(&[(dialect.row)(KEY, "some name", "running")]))).await;
        assert!(!format!("{:?}", provider.instances().await).contains(&KEY[..16]));
    }
}

#[tokio::test]
async fn ids_that_would_change_a_path_are_never_sent() {
    for dialect in dialects() {
        let (provider, vendor) = against(&dialect, ok("{}")).await;
        for bad in ["", "../7", "7/../8", "7?x=1", "a b"] {
            let error = provider.destroy(bad).await.unwrap_err();
            assert_eq!((error.kind, error.certainty), (ErrorKind::Invalid, Certainty::DidNotHappen));
            provider.instance(bad).await.unwrap_err();
        }
        assert_eq!(vendor.calls(), 0);
    }
}

#[tokio::test]
async fn a_good_key_tells_whose_it_is_and_a_bad_one_is_refused() {
    let [vastai, tensordock] = dialects();
    let (provider, vendor) = against(&vastai, ok(r#"{"id":55,"credit":225.43}"#)).await;
    let account = provider.account().await.unwrap();
    assert_eq!((account.identity.as_str(), account.balance.unwrap().decimal().as_str()), ("55", "225.43"));
    assert_eq!(vendor.last().path, "/api/v0/users/current/");
    let (provider, _vendor) = against(&tensordock, ok((tensordock.list)(&[]))).await;
    let account = provider.account().await.unwrap();
    assert!(account.identity.strip_prefix("auth-").is_some_and(|rest| rest.len() == 16) && account.balance.is_none(), "{account:?}");
    // The token alone opens an account, whatever the id beside it says.
    let identity = async |id: &str, token: &str| {
        let vendor = Vendor::new(|_| ok(r#"{"data":{"instances":[]}}"#)).await;
        let settings = Settings::new().with("auth_id", id).with("api_token", token).with("base_url", &vendor.base);
        let context = Context { clock: Clock::System, chance: Arc::new(SeededChance::new(1)), tuning: quick() };
        (entry("tensordock").unwrap().build)(&settings, &context).unwrap().account().await.unwrap().identity
    };
    let mine = identity("me", "token-1").await;
    assert_eq!(mine, identity("me", "token-1").await);
    assert!(![identity("me", "token-2").await, identity("you", "token-1").await].contains(&mine));
    assert!(!mine.contains("token"));
    for dialect in dialects() {
        let (provider, _vendor) = against(&dialect, Answer::Say(401, r#"{"error":"Invalid API credentials"}"#.to_owned())).await;
        let error = provider.account().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Auth);
        assert!(error.text.starts_with("Provider authentication failed"), "{}", error.text);
    }
}

#[tokio::test]
async fn keys_are_attached_where_the_vendor_wants_that() {
    let [vastai, tensordock] = dialects();
    let (provider, vendor) = against(&vastai, ok(r#"{"success":true}"#)).await;
    provider.attach_key("77", "ssh-ed25519 AAAA x\n").await.unwrap();
    let seen = vendor.last();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/api/v0/instances/77/ssh/"));
    assert_eq!(seen.body, r#"{"ssh_key":"ssh-ed25519 AAAA x"}"#);
    let (provider, vendor) = against(&tensordock, Answer::Say(500, String::new())).await;
    provider.attach_key("77", "ssh-ed25519 AAAA x").await.unwrap();
    assert_eq!(vendor.calls(), 0);
}

#[tokio::test]
async fn calls_and_failures_are_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let [vastai, _] = dialects();
    let (provider, _vendor) = against(&vastai, Answer::Say(503, String::new())).await;
    let before = handle.render();
    assert!(before.contains(r#"gpu_provider_api_errors_total{provider="vastai",operation="destroy"} 0"#), "registered at zero: {before}");
    for _ in 0..6 {
        provider.instances().await.unwrap_err();
    }
    let text = handle.render();
    for line in [
        r#"gpu_provider_api_calls_total{provider="vastai",operation="instances",status="error"} 5"#,
        r#"gpu_provider_api_calls_total{provider="vastai",operation="instances",status="circuit_open"} 1"#,
        r#"gpu_provider_api_errors_total{provider="vastai",operation="instances"} 6"#,
        r#"gpu_provider_circuit_breaker_state{provider="vastai"} 1"#,
        r#"gpu_provider_api_response_time_seconds_count{provider="vastai",operation="instances"} 5"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
