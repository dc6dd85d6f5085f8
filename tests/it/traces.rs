//! Traces, as a collector receives them from the program: one leads from the call through the lifecycle actor, the provider's
//! calls and the logins to the event; after a restart it goes on with a link; nothing secret is in it, and no vendor sees it.

use crate::child::{Env, Served, log_in, pointed_at, wanted, world};
use gpu_shopper::grpc::pb;
use gpu_shopper::grpc::pb::session::State;
use gpu_shopper::sim::Faults;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const SECOND: &str = "0af7651916cd43dd8448eb211c80319c";

/// A collector that keeps every span it gets.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    resource: Arc<Mutex<Vec<(String, String)>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_resource in request.into_inner().resource_spans {
            let told = of_resource.resource.unwrap_or_default().attributes;
            *self.resource.lock().unwrap() = told.iter().map(|a| (a.key.clone(), shown(a.value.as_ref().and_then(|v| v.value.as_ref())))).collect();
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens on any port; gives what a server is told about it.
    async fn start() -> (Self, String) {
        Self::listening(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn listening(listener: tokio::net::TcpListener) -> (Self, String) {
        let collector = Self::default();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        (collector, url)
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }

    /// Waits until a span is there.
    async fn comes(&self, what: &str, is: impl Fn(&Span) -> bool) -> Span {
        for _ in 0..2000 {
            if let Some(span) = self.spans().into_iter().find(&is) {
                return span;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let names: Vec<String> = self.spans().into_iter().map(|s| s.name).collect();
        panic!("{what} never came: {names:?}")
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(yes)) => yes.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn attribute(span: &Span, key: &str) -> String {
    shown(span.attributes.iter().find(|a| a.key == key).and_then(|a| a.value.as_ref()).and_then(|v| v.value.as_ref()))
}

/// The spans of a trace with a name.
fn named<'a>(spans: &'a [Span], trace: &str, name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|s| s.name == name && hex(&s.trace_id) == trace).collect()
}

#[track_caller]
fn one<'a>(spans: &'a [Span], trace: &str, name: &str) -> &'a Span {
    let found = named(spans, trace, name);
    let names: Vec<(&str, String)> = spans.iter().map(|s| (s.name.as_str(), hex(&s.trace_id))).collect();
    assert_eq!(found.len(), 1, "{name} in {trace}: {names:?}");
    found[0]
}

#[track_caller]
fn is_child(span: &Span, parent: &Span) {
    assert_eq!(
        (hex(&span.parent_span_id), hex(&span.trace_id)),
        (hex(&parent.span_id), hex(&parent.trace_id)),
        "{} under {}",
        span.name,
        parent.name
    );
}

/// An attempt's state in the event that tells it.
fn event<'a>(spans: &'a [Span], trace: &str, state: &str) -> &'a Span {
    let found: Vec<_> = named(spans, trace, "event state_changed").into_iter().filter(|s| attribute(s, "state") == state).collect();
    assert_eq!(found.len(), 1, "{state}");
    found[0]
}

fn called_in<T>(message: T, trace: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", format!("00-{trace}-{PARENT}-01").parse().unwrap());
    request
}

fn exporting(mut env: Env, to: &str) -> Env {
    env.extend(crate::child::env(&[("OTEL_EXPORTER_OTLP_ENDPOINT", to), ("OTEL_BSP_SCHEDULE_DELAY", "100")]));
    env
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_is_told_once_and_so_is_its_return() {
    let (world, home) = (world(183, Faults::gentle()).await, tempfile::tempdir().unwrap());
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let mut settings = exporting(pointed_at(&world, home.path()), &format!("http://{address}"));
    settings.extend(crate::child::env(&[("LOG_FORMAT", "json")]));
    let server = Served::ready(home.path(), &settings, 2).await;
    server.child.says("traces can't be sent").await;
    for _ in 0..20 {
        assert_eq!(server.get("/health").await.0, 200, "everything else goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (collector, _) = Collector::listening(tokio::net::TcpListener::bind(address).await.unwrap());
    let asks = async {
        loop {
            server.get("/health").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = asks => {}
        _ = server.child.says("traces are sent again") => {}
    }
    collector.comes("a later span", |span| span.name == "GET /health").await;
    let ended = server.stop().await;
    let lines: Vec<serde_json::Value> = ended.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = |words: &str| lines.iter().filter(|l| l["message"].as_str().unwrap().starts_with(words)).cloned().collect::<Vec<_>>();
    let (away, back) = (told("traces can't be sent"), told("traces are sent again"));
    assert_eq!((away.len(), back.len()), (1, 1), "{}", ended.err);
    assert_eq!((&away[0]["level"], &back[0]["level"]), (&"WARN".into(), &"INFO".into()));
    assert_eq!(away[0]["endpoint"], format!("http://{address}"));
    assert!(away[0]["error"].as_str().unwrap().contains("Connection refused"), "{}", away[0]);
    for line in &lines {
        assert!(!line["message"].as_str().unwrap().is_empty() && !line["target"].as_str().unwrap().starts_with("opentelemetry"), "{line}");
    }
    world.stop().await;
}

/// A vendor that takes no key, and keeps what it is sent.
async fn unkind_vendor() -> (String, Arc<Mutex<String>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let heard = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = vec![0; 8192];
            let read = stream.read(&mut bytes).await.unwrap_or_default();
            kept.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
            let answer = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_call_to_the_event_and_nothing_secret_is_in_it() {
    let (world, home) = (world(181, Faults::gentle()).await, tempfile::tempdir().unwrap());
    let (collector, url) = Collector::start().await;
    let (vendor, heard) = unkind_vendor().await;
    let mut env = exporting(pointed_at(&world, home.path()), &url);
    let key = "c0ffee".repeat(11)[..64].to_owned();
    env.extend(crate::child::env(&[("VASTAI_BASE_URL", &vendor), ("VASTAI_API_KEY", &key)]));
    let server = Served::ready(home.path(), &env, 1).await;
    let created = server.sessions().await.create_session(called_in(wanted("tensordock"), TRACE)).await.unwrap().into_inner();
    let id = created.session.unwrap().session_id;
    let running = server.until(&id, State::Running).await;
    log_in(&running, &created.ssh_private_key).await;
    let destroy = pb::DestroySessionRequest { session_id: id.clone(), ..Default::default() };
    server.sessions().await.destroy_session(called_in(destroy, SECOND)).await.unwrap();
    server.until(&id, State::Stopped).await;
    // What is not sent yet is sent at the end.
    server.stop().await;
    let spans = collector.spans();

    let call = one(&spans, TRACE, "gpushopper.v1.SessionService/CreateSession");
    assert_eq!((hex(&call.parent_span_id).as_str(), call.kind()), (PARENT, SpanKind::Server), "the caller's span is its parent");
    assert_eq!((attribute(call, "http.response.status_code").as_str(), attribute(call, "request_id").len()), ("200", 32));
    let actor = one(&spans, TRACE, "lifecycle");
    is_child(actor, call);
    is_child(one(&spans, TRACE, "event created"), actor);
    let launch = one(&spans, TRACE, "launch");
    is_child(launch, actor);
    assert_eq!(
        (attribute(launch, "session_id"), attribute(launch, "provider"), attribute(launch, "attempt")),
        (id.clone(), "tensordock".to_owned(), "1".to_owned())
    );
    let sent = one(&spans, TRACE, "tensordock launch");
    is_child(sent, launch);
    assert_eq!(
        (sent.kind(), attribute(sent, "operation"), attribute(sent, "http.request.method")),
        (SpanKind::Client, "launch".to_owned(), "POST".to_owned())
    );
    assert!(attribute(sent, "http.response.status_code").starts_with('2') && attribute(sent, "tries") == "1", "{sent:?}");
    let told = event(&spans, TRACE, "running");
    let probes = named(&spans, TRACE, "probe ssh");
    let last = probes.iter().find(|probe| probe.span_id == told.parent_span_id).expect("the event is the probe's");
    is_child(last, actor);
    let logins = named(&spans, TRACE, "ssh login");
    let login = logins.iter().find(|login| login.parent_span_id == last.span_id).expect("the probe logged in");
    assert_eq!((login.kind(), attribute(login, "port")), (SpanKind::Client, running.ssh_port.to_string()));
    assert_eq!(attribute(told, "session_id"), id);
    assert!(named(&spans, TRACE, "destroy").is_empty(), "what another call set in motion is that call's");

    // The destroy's trace goes to the proof that the machine is gone, with a link to the create's.
    let actor_again = one(&spans, SECOND, "lifecycle");
    is_child(actor_again, one(&spans, SECOND, "gpushopper.v1.SessionService/DestroySession"));
    let linked: Vec<_> = actor_again.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect();
    assert_eq!(linked, [(TRACE.to_owned(), hex(&actor.span_id))]);
    is_child(one(&spans, SECOND, "destroy"), actor_again);
    is_child(one(&spans, SECOND, "tensordock destroy"), one(&spans, SECOND, "destroy"));
    event(&spans, SECOND, "stopped");

    // A refusal is an error of its span, in one word.
    let refused = spans.iter().find(|s| s.name == "vastai account").expect("it was asked");
    assert_eq!((attribute(refused, "error_type").as_str(), attribute(refused, "http.response.status_code").as_str()), ("auth", "401"));
    assert_eq!(refused.status.as_ref().map(|status| status.code), Some(2));
    let resource = collector.resource.lock().unwrap().clone();
    assert!(resource.contains(&("service.name".to_owned(), "gpu-shopper".to_owned())), "{resource:?}");

    let everything = format!("{spans:?}");
    let private: Vec<&str> = created.ssh_private_key.lines().filter(|line| !line.starts_with("-----") && line.len() > 20).collect();
    for secret in private.into_iter().skip(2).chain([key.as_str(), &world.keys.tensordock_token, "Bearer", "PRIVATE KEY"]) {
        assert!(!everything.contains(secret), "{secret}");
    }
    let heard = heard.lock().unwrap().to_lowercase();
    assert!(heard.contains("authorization: bearer"), "{heard}");
    for header in ["traceparent", "tracestate", "baggage", TRACE] {
        assert!(!heard.contains(header), "{header} went to a vendor");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_work_goes_on_in_one_trace_with_a_link() {
    let mut faults = Faults::gentle();
    faults.set("boot", "4s").unwrap();
    let (world, home) = (world(182, faults).await, tempfile::tempdir().unwrap());
    let (first, url) = Collector::start().await;
    let env = pointed_at(&world, home.path());
    let server = Served::ready(home.path(), &exporting(env.clone(), &url), 2).await;
    let created = server.sessions().await.create_session(called_in(wanted("tensordock"), TRACE)).await.unwrap().into_inner();
    let id = created.session.unwrap().session_id;
    first.comes("the launch", |s| s.name == "tensordock launch").await;
    let actor = first.comes("the actor's span", |s| s.name == "lifecycle" && hex(&s.trace_id) == TRACE).await;
    server.child.kill().await;

    let (second, url) = Collector::start().await;
    let server = Served::start(home.path(), &exporting(env, &url)).await;
    server.until(&id, State::Running).await;
    server.complete(&id).await;
    server.until(&id, State::Stopped).await;
    server.stop().await;
    let spans = second.spans();
    assert!(spans.iter().all(|s| hex(&s.trace_id) != TRACE), "the trace of then is over");
    let told = spans.iter().find(|s| s.name == "event state_changed" && attribute(s, "state") == "running").unwrap();
    let work: Vec<&Span> = spans.iter().filter(|s| s.trace_id == told.trace_id).collect();
    let roots: Vec<&&Span> = work.iter().filter(|s| s.parent_span_id.is_empty()).collect();
    assert_eq!(roots.len(), 1, "{:?}", work.iter().map(|s| &s.name).collect::<Vec<_>>());
    let linked: Vec<_> = roots[0].links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect();
    assert_eq!(linked, [(TRACE.to_owned(), hex(&actor.span_id))], "{}", roots[0].name);
    assert_eq!(attribute(roots[0], "session_id"), id);
    world.stop().await;
}

/// A collector that is away costs nothing but its spans.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_holds_nothing_up() {
    let (world, home) = (world(183, Faults::none()).await, tempfile::tempdir().unwrap());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let env = exporting(pointed_at(&world, home.path()), &format!("http://{nobody}"));
    let server = Served::ready(home.path(), &env, 2).await;
    let id = server.sessions().await.create_session(wanted("vastai")).await.unwrap().into_inner().session.unwrap().session_id;
    server.until(&id, State::Running).await;
    server.complete(&id).await;
    server.until(&id, State::Stopped).await;
    server.stop().await;
    world.stop().await;
}
