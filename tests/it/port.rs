//! The one port: every face over every transport, what each request goes through, and a drain that ends.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use futures::StreamExt;
use gpu_shopper::clock::Clock;
use gpu_shopper::http::api::asked::Asked;
use gpu_shopper::http::assemble;
use gpu_shopper::http::body;
use gpu_shopper::http::ops::{Health, HealthReport, Ops};
use gpu_shopper::http::port::{Drained, Limits, Tls, TlsError, bind, serve};
use gpu_shopper::ports::SystemChance;
use gpu_shopper::services::access::{self, Access};
use gpu_shopper::store::Store;
use gpu_shopper::telemetry;
use http::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;

struct House {
    address: SocketAddr,
    health: HealthReporter,
    ready: Arc<AtomicBool>,
    slow: Slow,
    shutdown: CancellationToken,
    task: JoinHandle<Drained>,
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

/// Callers need no token.
async fn nobody_asks() -> Access {
    let (store, chance) = (Store::open_memory().unwrap(), Arc::new(SystemChance));
    let limits = access::Limits { per_second: 0, streams: 0 };
    let parts = access::Parts { required: false, fixed: Vec::new(), hint: String::new(), limits, store, chance, clock: Clock::System };
    Access::open(parts).await.unwrap()
}

fn tls() -> Tls {
    Tls::load(&fixture("cert.pem"), &fixture("key.pem"), None).unwrap()
}

impl House {
    async fn open(tls: Option<Tls>) -> Self {
        Self::open_with(tls, Duration::from_secs(20)).await
    }

    async fn open_with(tls: Option<Tls>, drain: Duration) -> Self {
        Self::open_for(tls, drain, body::PERIOD).await
    }

    async fn open_for(tls: Option<Tls>, drain: Duration, body_period: Duration) -> Self {
        let (health, service) = tonic_health::server::health_reporter();
        health.set_service_status("sample", ServingStatus::Serving).await;
        let ready = Arc::new(AtomicBool::new(true));
        let (_recorder, metrics) = telemetry::recorder(&["vastai"]).unwrap();
        let report = {
            let ready = ready.clone();
            move || {
                let ready = ready.load(Ordering::SeqCst);
                let services = BTreeMap::from([("lifecycle".to_owned(), "running".to_owned()), ("inventory".to_owned(), "ok".to_owned())]);
                HealthReport { status: if ready { Health::Ok } else { Health::Starting }, ready, services }
            }
        };
        let ops = Ops {
            unknown_rpc: gpu_shopper::grpc::status::unknown_service,
            health: Arc::new(report),
            scrape: Arc::new(move || {
                let text = metrics.render();
                Box::pin(async move { text })
            }),
            allowed_hosts: Arc::from(["gpu.internal".to_owned()]),
            clock: Clock::System,
            access: nobody_asks().await,
            refused_rpc: gpu_shopper::grpc::status::refused,
            allowed_origins: Arc::from([]),
            body_limit: 1024 * 1024,
            body_period,
        };
        let slow = Slow::default();
        let json = Router::new()
            .route("/api/v1/boom", get(boom))
            .route("/api/v1/slow", get(Slow::call))
            .route("/api/v1/taken", post(taken))
            .with_state(slow.clone());
        let reflection = tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        let grpc = Routes::new(service).add_service(reflection.build_v1().unwrap());
        let router = assemble(grpc.into_axum_router().reset_fallback().layer(tonic_web::GrpcWebLayer::new()), json, ops);
        let listener = bind("127.0.0.1", 0).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, tls, Limits::default(), router, drain, shutdown.clone()));
        Self { address, health, ready, slow, shutdown, task }
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://localhost:{}{path}", self.address.port())
    }

    async fn close(self) -> Drained {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(60), self.task).await.expect("the drain ends").unwrap()
    }
}

async fn boom() -> &'static str {
    panic!("a bug in a handler")
}

/// Reads its body, as every JSON route does.
async fn taken(_: Asked) -> &'static str {
    "taken"
}

/// A call that says when it has begun and ends when it is told to.
#[derive(Clone, Default)]
struct Slow {
    begun: Arc<Notify>,
    end: Arc<Notify>,
}

impl Slow {
    async fn call(State(slow): State<Self>) -> &'static str {
        slow.begun.notify_one();
        slow.end.notified().await;
        "done"
    }
}

/// A client that trusts the test certificate and resolves `localhost` to 127.0.0.1.
pub fn client(build: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cert = reqwest::Certificate::from_pem(&std::fs::read(fixture("cert.pem")).unwrap()).unwrap();
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([cert]).resolve("localhost", "127.0.0.1:0".parse().unwrap());
    build(builder).build().unwrap()
}

async fn check(channel: Channel) {
    let mut client = HealthClient::new(channel);
    let answer = client.check(HealthCheckRequest { service: "sample".to_owned() }).await.unwrap();
    assert_eq!(answer.into_inner().status, 1);
    let unknown = client.check(HealthCheckRequest { service: "nobody".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
}

async fn plain_channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

pub async fn tls_channel(address: SocketAddr) -> Channel {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture("cert.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let dial = tower::service_fn(move |_: http::Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(dial).await.unwrap()
}

#[tokio::test]
async fn grpc_over_plain_http2_and_over_tls() {
    let house = House::open(None).await;
    check(plain_channel(house.address).await).await;
    assert_eq!(house.close().await, Drained { cut: 0 });
    let house = House::open(Some(tls())).await;
    check(tls_channel(house.address).await).await;
    assert_eq!(house.close().await, Drained { cut: 0 });
}

#[tokio::test]
async fn grpc_web_over_http1() {
    for (tls, scheme) in [(None, "http"), (Some(tls()), "https")] {
        let house = House::open(tls).await;
        let request = client(|b| b.http1_only()).post(house.url(scheme, "/grpc.health.v1.Health/Check"));
        let answer = request.header("content-type", "application/grpc-web+proto").body(vec![0_u8; 5]).send().await.unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, http::Version::HTTP_11));
        assert_eq!(answer.headers()["content-type"], "application/grpc-web+proto");
        let body = answer.bytes().await.unwrap();
        assert_eq!(&body[..7], [0, 0, 0, 0, 2, 8, 1], "a message frame that says SERVING");
        assert_eq!(body[7], 0x80, "a frame of trailers");
        assert!(String::from_utf8_lossy(&body[12..]).contains("grpc-status:0"));
        assert_eq!(house.close().await, Drained { cut: 0 });
    }
}

#[tokio::test]
async fn json_over_http1_and_http2_with_and_without_tls() {
    for (tls, scheme) in [(None, "http"), (Some(tls()), "https")] {
        let house = House::open(tls).await;
        let http1 = client(|b| b.http1_only());
        let http2 = client(|b| if scheme == "http" { b.http2_prior_knowledge() } else { b });
        for (client, version) in [(&http1, http::Version::HTTP_11), (&http2, http::Version::HTTP_2)] {
            let answer = client.get(house.url(scheme, "/health")).send().await.unwrap();
            assert_eq!((answer.status(), answer.version()), (StatusCode::OK, version));
            let body: serde_json::Value = answer.json().await.unwrap();
            assert_eq!(
                (&body["status"], &body["services"]["lifecycle"], &body["services"]["ready"]),
                (&"ok".into(), &"running".into(), &"true".into())
            );
            assert!(body["timestamp"].as_str().is_some_and(|t| t.ends_with('Z')), "{body}");
        }
        drop((http1, http2));
        assert_eq!(house.close().await, Drained { cut: 0 });
    }
}

#[tokio::test]
async fn health_and_readiness_tell_programs_by_status() {
    let house = House::open(None).await;
    let client = client(|b| b);
    house.ready.store(false, Ordering::SeqCst);
    for (path, field, word) in [("/health", "status", serde_json::json!("starting")), ("/ready", "ready", serde_json::json!(false))] {
        let answer = client.get(house.url("http", path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.json::<serde_json::Value>().await.unwrap()[field], word);
    }
    house.ready.store(true, Ordering::SeqCst);
    assert_eq!(client.get(house.url("http", "/ready")).send().await.unwrap().status(), StatusCode::OK);
    for path in ["/health", "/ready", "/metrics"] {
        let answer = client.head(house.url("http", path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert!(answer.bytes().await.unwrap().is_empty());
    }
    let answer = client.get(house.url("http", "/metrics")).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(answer.text().await.unwrap().contains("gpu_orphans_detected_total 0"));
    house.close().await;
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_callers_language() {
    let house = House::open(None).await;
    let client = client(|b| b);
    let answer = client.get(house.url("http", "/api/v1/nothing")).header("x-request-id", "mine-1.a_B").send().await.unwrap();
    assert_eq!((answer.status(), &answer.headers()["x-request-id"]), (StatusCode::NOT_FOUND, &http::HeaderValue::from_static("mine-1.a_B")));
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!((&body["error_type"], &body["request_id"]), (&"not_found".into(), &"mine-1.a_B".into()));
    let answer = client.request(Method::PUT, house.url("http", "/health")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(answer.headers()["allow"].to_str().unwrap().contains("GET"));
    assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["error_type"], "method_not_allowed");
    let answer = client.post(house.url("http", "/no.such.Service/Call")).header("content-type", "application/grpc").send().await.unwrap();
    assert_eq!((answer.status(), &answer.headers()["grpc-status"]), (StatusCode::OK, &http::HeaderValue::from_static("12")));
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    for bad in ["", "with space", "semi;colon", &"x".repeat(129)] {
        let answer = client.get(house.url("http", "/health")).header("x-request-id", bad).send().await.unwrap();
        let id = answer.headers()["x-request-id"].to_str().unwrap();
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    }
    house.close().await;
}

#[tokio::test]
async fn an_rpc_takes_grpc_and_nothing_else() {
    let house = House::open(None).await;
    let path = "/grpc.health.v1.Health/Check";
    let (old, new) = (client(|b| b.http1_only()), client(|b| b.http2_prior_knowledge()));
    for (client, kind, fits) in [
        (&new, Some("text/plain"), false),
        (&new, Some("application/json"), false),
        (&new, None, false),
        (&new, Some("application/grpc"), true),
        (&new, Some("application/grpc+proto"), true),
        (&new, Some("application/grpc-web"), true),
        (&old, Some("text/plain"), false),
        (&old, None, false),
        (&old, Some("application/grpc"), false),
        (&old, Some("application/grpc-web"), true),
    ] {
        let mut request = client.post(house.url("http", path)).body(vec![0_u8; 5]);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status() == StatusCode::OK, fits, "{kind:?} {answer:?}");
        if !fits {
            assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind:?}");
            let body: serde_json::Value = answer.json().await.unwrap();
            assert_eq!(body["error_type"], "unsupported_media_type");
            assert!(body["error"].as_str().unwrap().contains("application/grpc-web"), "{body}");
        }
    }
    house.close().await;
}

#[tokio::test]
async fn foreign_pages_large_bodies_and_panics_are_answered() {
    let house = House::open(None).await;
    let client = client(|b| b);
    let get = |host: &'static str, origin: Option<&'static str>| {
        let request = client.get(house.url("http", "/health")).header("host", host);
        origin.map_or(request.try_clone().unwrap(), |o| request.header("origin", o))
    };
    assert_eq!(get("gpu.internal:8080", Some("http://localhost:3000")).send().await.unwrap().status(), StatusCode::OK);
    for (host, origin) in [("evil.example", None), ("localhost", Some("https://evil.example")), ("localhost", Some("null"))] {
        let answer = get(host, origin).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{host} {origin:?}");
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["error_type"], "forbidden");
        assert!(body["request_id"].as_str().is_some_and(|id| id.len() == 32));
    }
    let large = client.post(house.url("http", "/api/v1/boom")).body(vec![0_u8; 1024 * 1024 + 1]).send().await.unwrap();
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let broken = client.get(house.url("http", "/api/v1/boom")).send().await.unwrap();
    assert_eq!(broken.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(broken.json::<serde_json::Value>().await.unwrap()["error"], "internal server error");
    assert_eq!(client.get(house.url("http", "/health")).send().await.unwrap().status(), StatusCode::OK, "and the server lives on");
    house.close().await;
}

#[tokio::test(flavor = "current_thread")]
async fn requests_are_counted_by_route_never_by_path() {
    let (recorder, handle) = telemetry::recorder(&[]).unwrap();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let house = House::open(None).await;
    let client = client(|b| b);
    for path in ["/health", "/health", "/nothing/canary"] {
        client.get(house.url("http", path)).send().await.unwrap();
    }
    check(plain_channel(house.address).await).await;
    house.close().await;
    let text = handle.render();
    assert!(text.contains("http_requests_total{method=\"GET\",path=\"/health\",status=\"200\"} 2"), "{text}");
    assert!(text.contains("http_requests_total{method=\"GET\",path=\"unmatched\",status=\"404\"} 1"), "{text}");
    assert!(text.contains("http_requests_total{method=\"POST\",path=\"/grpc.health.v1.Health/Check\",status=\"200\"}"), "{text}");
    assert!(text.contains("http_request_duration_seconds_count{method=\"GET\",path=\"/health\",status=\"200\"} 2"), "{text}");
    assert!(!text.contains("canary"));
}

#[tokio::test]
async fn a_second_bind_names_the_port_and_the_way_out() {
    let held = bind("127.0.0.1", 0).await.unwrap();
    let port = held.local_addr().unwrap().port();
    let error = bind("127.0.0.1", port).await.unwrap_err().to_string();
    assert!(error.contains("address already in use") && error.contains(&format!(":{port}")) && error.contains("SERVER_PORT"), "{error}");
}

#[tokio::test]
async fn a_drain_lets_calls_finish_and_streams_end_cleanly() {
    let house = House::open(None).await;
    let mut watcher = HealthClient::new(plain_channel(house.address).await);
    let mut stream = watcher.watch(HealthCheckRequest { service: "sample".to_owned() }).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().status, 1);
    let client = client(|b| b.http1_only());
    let idle = client.get(house.url("http", "/health")).send().await.unwrap();
    assert_eq!(idle.status(), StatusCode::OK);
    let under_way = tokio::spawn(client.get(house.url("http", "/api/v1/slow")).send());
    // A connection that has begun nothing must not hold up the end.
    let mut mute = TcpStream::connect(house.address).await.unwrap();
    mute.write_all(b"PRI * HT").await.unwrap();
    house.slow.begun.notified().await;
    house.shutdown.cancel();
    house.slow.end.notify_one();
    let mut reporter = house.health.clone();
    reporter.clear_service_status("sample").await;
    assert_eq!(stream.message().await.unwrap(), None, "the stream ends with OK");
    assert_eq!(under_way.await.unwrap().unwrap().text().await.unwrap(), "done");
    let address = house.address;
    assert_eq!(house.close().await, Drained { cut: 0 });
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_stream_that_never_ends_is_cut_when_the_drain_is_over() {
    let house = House::open_with(None, Duration::from_millis(100)).await;
    let mut watcher = HealthClient::new(plain_channel(house.address).await);
    let mut stream = watcher.watch(HealthCheckRequest { service: "sample".to_owned() }).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    assert_eq!(house.close().await, Drained { cut: 1 });
    assert!(stream.message().await.is_err());
}

#[tokio::test]
async fn first_bytes_may_come_one_by_one() {
    let house = House::open(None).await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    // `P` begins HTTP/2's preface as well as POST and PUT.
    for part in ["P", "U", "T /health HT", "TP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"] {
        stream.write_all(part.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    house.close().await;
}

#[tokio::test]
async fn noise_harms_nobody() {
    for tls in [None, Some(tls())] {
        let house = House::open(tls).await;
        for noise in [&b"\0\0\0garbage\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot frames at all, sorry", b"GET\r\n\r\n"] {
            let mut stream = TcpStream::connect(house.address).await.unwrap();
            stream.write_all(noise).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
        drop(TcpStream::connect(house.address).await.unwrap());
        assert_eq!(house.close().await, Drained { cut: 0 });
    }
}

#[tokio::test]
async fn bad_certificates_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    let nowhere = folder.path().join("nowhere.pem");
    let text = |cert: &Path, key: &Path| Tls::load(cert, key, None).err().map(|e: TlsError| e.to_string()).unwrap();
    let (cert, key) = (fixture("cert.pem"), fixture("key.pem"));
    assert!(text(&nowhere, &key).contains("nowhere.pem (SERVER_TLS_CERT) can't be used"));
    assert!(text(&empty, &key).contains("there is no certificate in it"));
    assert!(text(&cert, &nowhere).contains("nowhere.pem (SERVER_TLS_KEY) can't be used"));
    assert!(text(&cert, &empty).contains("empty.pem (SERVER_TLS_KEY) can't be used"));
    assert!(text(&cert, &fixture("other-key.pem")).contains("can't be used together"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_reach_a_collector_with_the_callers_trace_id() {
    use gpu_shopper::config::{Level, Log, LogFormat};
    let (sent, mut received) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
    let collect = move |body: axum::body::Bytes| {
        let _ = sent.send(body.to_vec());
        async { ([("content-type", "application/grpc"), ("grpc-status", "0")], "") }
    };
    let collector = Router::new().route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", axum::routing::post(collect));
    let listener = bind("127.0.0.1", 0).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let collecting = tokio::spawn(serve(listener, None, Limits::default(), collector, Duration::ZERO, stop.clone()));

    opentelemetry::global::set_text_map_propagator(opentelemetry_sdk::propagation::TraceContextPropagator::new());
    let settings =
        telemetry::Settings { log: Log { level: Level::Error, format: LogFormat::Json }, otlp_endpoint: Some(endpoint), providers: Vec::new() };
    let (dispatch, tracer) = telemetry::subscriber(&settings, tracing_subscriber::fmt::writer::BoxMakeWriter::new(std::io::sink), false).unwrap();
    // With a single subscriber, tracing asks the thread that first meets a span whether anybody wants it, and other tests'
    // threads have none: a second one makes it ask both.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let access = nobody_asks().await;
    let asked = {
        let _guard = tracing::dispatcher::set_default(&dispatch);
        let ops = Ops {
            unknown_rpc: gpu_shopper::grpc::status::unknown_service,
            health: Arc::new(|| HealthReport { status: Health::Ok, ready: true, services: BTreeMap::new() }),
            scrape: Arc::new(|| Box::pin(async { String::new() })),
            allowed_hosts: Arc::from([]),
            clock: Clock::System,
            access,
            refused_rpc: gpu_shopper::grpc::status::refused,
            allowed_origins: Arc::from([]),
            body_limit: 1024 * 1024,
            body_period: body::PERIOD,
        };
        let request = http::Request::get("/ready").header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let router = assemble(Router::new(), Router::new(), ops);
        // On this very thread, where the subscriber is set.
        tower::ServiceExt::oneshot(router, request.body(axum::body::Body::empty()).unwrap()).await.unwrap()
    };
    assert_eq!(asked.status(), StatusCode::OK);
    telemetry::flush(tracer.unwrap()).await;
    let body = received.try_recv().expect("sent by the flush");
    let trace_id = [0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c];
    assert!(body.windows(16).any(|w| w == trace_id), "the caller's trace goes on");
    assert!(body.windows(6).any(|w| w == b"/ready") && body.windows(11).any(|w| w == b"gpu-shopper"));
    stop.cancel();
    collecting.await.unwrap();
}

/// An authority made for one test, and certificates of it.
struct Authority {
    cert: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).unwrap();
        Self { cert, issuer: rcgen::Issuer::new(params, key) }
    }

    /// Certificate and key of somebody, PEM.
    fn vouches_for(&self, name: &str, usage: rcgen::ExtendedKeyUsagePurpose) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn only_clients_with_a_certificate_of_the_authority_may_connect_where_one_is_named() {
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (ours, strangers) = (Authority::new("ours"), Authority::new("strangers"));
    let (cert, key) = ours.vouches_for("server", ServerAuth);
    let (cert, key, authority) = (file("cert.pem", &cert), file("key.pem", &key), file("ca.pem", &ours.cert.pem()));
    let house = House::open(Some(Tls::load(&cert, &key, Some(&authority)).unwrap())).await;
    let root = reqwest::Certificate::from_pem(ours.cert.pem().as_bytes()).unwrap();
    let get = async |identity: Option<(String, String)>| {
        let mut builder = reqwest::Client::builder().no_proxy().tls_certs_only([root.clone()]).resolve("localhost", "127.0.0.1:0".parse().unwrap());
        if let Some((cert, key)) = identity {
            builder = builder.identity(reqwest::Identity::from_pem(format!("{cert}{key}").as_bytes()).unwrap());
        }
        builder.build().unwrap().get(house.url("https", "/health")).send().await.map(|answer| answer.status())
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    assert_eq!(get(Some(ours.vouches_for("client", ClientAuth))).await.unwrap(), StatusCode::OK);
    assert!(get(None).await.is_err(), "no certificate");
    assert!(get(Some(strangers.vouches_for("client", ClientAuth))).await.is_err(), "another authority's certificate");
    assert!(get(Some(ours.vouches_for("server", ServerAuth))).await.is_err(), "a certificate for servers");
    house.close().await;

    let (nowhere, nothing) = (folder.path().join("nowhere.pem"), file("empty.pem", "nothing"));
    for (path, name) in [(&nowhere, "nowhere.pem"), (&nothing, "empty.pem")] {
        let text = Tls::load(&cert, &key, Some(path)).err().unwrap().to_string();
        assert!(text.contains(name) && text.contains("SERVER_TLS_CLIENT_CA"), "{text}");
    }
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused_and_the_server_lives_on() {
    let house = House::open(None).await;
    for http2 in [false, true] {
        let client = client(|b| if http2 { b.http2_prior_knowledge() } else { b.http1_only() });
        let large = client.get(house.url("http", "/health")).header("x-filler", "x".repeat(64 * 1024)).send().await;
        assert!(large.is_err() || large.is_ok_and(|answer| answer.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE), "{http2}");
        assert_eq!(client.get(house.url("http", "/health")).send().await.unwrap().status(), StatusCode::OK);
    }
    house.close().await;
}

/// One answer over HTTP/1.1: its status line, and its body.
async fn answer(stream: &mut TcpStream) -> (String, serde_json::Value) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap_or_else(|e| panic!("{e} after {}", String::from_utf8_lossy(&head))));
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split_once("content-length: ").unwrap().1.split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (head.lines().next().unwrap().to_owned(), serde_json::from_slice(&body).unwrap_or_default())
}

fn posted(path: &str, more: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{more}\r\n").into_bytes()
}

/// The first bytes of an answer's body, how many there are.
async fn first(answer: http::Response<tonic::body::Body>) -> usize {
    let mut body = axum::body::Body::new(answer.into_body()).into_data_stream();
    body.next().await.expect("an answer").unwrap().len()
}

/// A request over HTTP/2 whose body comes from a stream.
async fn streamed(
    mut channel: Channel,
    path: &str,
    kind: &str,
    body: impl futures::Stream<Item = Result<axum::body::Bytes, axum::Error>> + Send + 'static,
) -> http::Response<tonic::body::Body> {
    let body = tonic::body::Body::new(axum::body::Body::from_stream(body));
    let request = http::Request::post(path).header("content-type", kind).body(body).unwrap();
    tower::Service::call(tower::ServiceExt::ready(&mut channel).await.unwrap(), request).await.unwrap()
}

#[tokio::test]
async fn a_body_that_hardly_comes_is_answered_whatever_it_speaks_and_a_silent_stream_is_not_disturbed() {
    let house = House::open_for(None, Duration::from_secs(20), Duration::from_millis(50)).await;
    // A message that is not sent before others have taken too long.
    let (send, message) = tokio::sync::oneshot::channel::<()>();
    let late = futures::stream::once(async move {
        message.await.unwrap();
        Ok(axum::body::Bytes::from_static(b"\0\0\0\0\x02\x3a\0"))
    });
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let listed = streamed(plain_channel(house.address).await, reflection, "application/grpc", late).await;
    assert_eq!((listed.status(), listed.headers().get("grpc-status")), (StatusCode::OK, None), "{listed:?}");

    let mut stream = TcpStream::connect(house.address).await.unwrap();
    stream.write_all(&posted("/api/v1/taken", "content-length: 10\r\n")).await.unwrap();
    stream.write_all(b"{").await.unwrap();
    let (status, told) = answer(&mut stream).await;
    assert!(status.starts_with("http/1.1 408 "), "{status}");
    assert_eq!((&told["error_type"], &told["retry_suggested"]), (&"request_timeout".into(), &true.into()));
    assert!(told["error"].as_str().unwrap().contains("arrives too slowly"), "{told}");
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "and the connection's place is free");

    let never = futures::stream::pending();
    let told = streamed(plain_channel(house.address).await, "/api/v1/taken", "application/json", never).await;
    assert_eq!(told.status(), StatusCode::REQUEST_TIMEOUT);

    // An RPC that takes one message holds its place no longer, with the message and without it.
    for path in ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"] {
        for message in [&b""[..], &[0; 5]] {
            let begun = futures::stream::once(async { Ok(axum::body::Bytes::from_static(message)) }).chain(futures::stream::pending());
            let told = streamed(plain_channel(house.address).await, path, "application/grpc", begun).await;
            let why = tonic::Status::from_header_map(told.headers()).unwrap_or_else(|| panic!("{path}: {told:?}"));
            assert!(why.message().contains("arrives too slowly"), "{path}: {why:?}");
        }
    }

    send.send(()).unwrap();
    assert!(first(listed).await > 0, "the stream goes on");
    house.close().await;
}

#[tokio::test]
async fn whoever_sends_too_much_reads_why_and_the_connection_goes_on() {
    let house = House::open(None).await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let large = vec![b' '; 3 * 1024 * 1024];
    let announced = posted("/api/v1/taken", &format!("content-length: {}\r\n", large.len()));
    let unknown = posted("/api/v1/nowhere", &format!("content-length: {}\r\n", 900_000));
    let chunked = [posted("/api/v1/taken", "transfer-encoding: chunked\r\n"), format!("{:x}\r\n", large.len()).into_bytes()].concat();
    // Each is sent whole before its answer is read, as many clients do.
    for (head, body, end, status, kind) in [
        (&announced, &large[..], &b""[..], "http/1.1 413 ", "too_large"),
        (&unknown, &large[..900_000], b"", "http/1.1 404 ", "not_found"),
        (&chunked, &large[..], b"\r\n0\r\n\r\n", "http/1.1 413 ", "too_large"),
    ] {
        for part in [&head[..], body, end] {
            stream.write_all(part).await.unwrap();
        }
        let (line, told) = answer(&mut stream).await;
        assert!(line.starts_with(status) && told["error_type"] == kind, "{line} {told}");
    }
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert!(answer(&mut stream).await.0.starts_with("http/1.1 200 "));
    // Who asks first is told before anything is sent, and is not told to go on.
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    stream.write_all(&posted("/api/v1/taken", "expect: 100-continue\r\ncontent-length: 3000000\r\n")).await.unwrap();
    assert!(answer(&mut stream).await.0.starts_with("http/1.1 413 "));
    house.close().await;
}

/// It sends on for a while after the answer has begun, and gives up when the stream is reset meanwhile.
#[tokio::test]
async fn curl_reads_why_its_body_is_too_large_over_either_protocol() {
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        eprintln!("not run: no curl here");
        return;
    }
    let (house, folder) = (House::open(None).await, tempfile::tempdir().unwrap());
    let large = folder.path().join("large.json");
    std::fs::write(&large, vec![b' '; 5_000_000]).unwrap();
    for (protocol, asks_first) in [("--http1.1", "Expect:"), ("--http1.1", "X-Other: 1"), ("--http2-prior-knowledge", "Expect:")] {
        let mut curl = tokio::process::Command::new("curl");
        let sent = curl.args(["-sS", protocol, "-H", asks_first, "-H", "Content-Type: application/json", "--data-binary"]);
        let sent = sent.arg(format!("@{}", large.display())).arg(house.url("http", "/api/v1/taken")).output().await.unwrap();
        let (out, err) = (String::from_utf8_lossy(&sent.stdout), String::from_utf8_lossy(&sent.stderr));
        assert!(sent.status.success() && out.contains("\"too_large\""), "{protocol}: {out}{err}");
    }
    house.close().await;
}

#[tokio::test]
async fn what_nobody_reads_is_taken_in_up_to_a_bound() {
    let house = House::open(None).await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let (part, most) = (vec![b' '; 1024 * 1024], 256);
    stream.write_all(&posted("/api/v1/nowhere", &format!("content-length: {}\r\n", most * part.len()))).await.unwrap();
    let mut sent = 0;
    while sent < most && stream.write_all(&part).await.is_ok() {
        sent += 1;
    }
    assert!(sent < most, "the server took all of it");
    house.close().await;
}

#[tokio::test]
async fn why_an_address_can_not_be_had_is_said_once() {
    // An address of no machine.
    let error = anyhow::Error::from(bind("192.0.2.1", 0).await.unwrap_err());
    let text = format!("{error:#}");
    assert_eq!(text.matches("os error").count(), 1, "{text}");
    assert!(text.starts_with("can't listen on 192.0.2.1:0: ") && text.ends_with("see SERVER_HOST and SERVER_PORT"), "{text}");
}
