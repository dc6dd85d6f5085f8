//! Secrets stay secret: canaries in every place where a secret comes in, looked for in every place where something goes out;
//! and the token of a server, from its first start to its last word, as operators and strangers meet it.

use crate::child::{Child, Ended, Env, Served, env, http, log_in, pointed_at, wanted, world};
use gpu_shopper::grpc::pb;
use gpu_shopper::grpc::pb::operator_service_client::OperatorServiceClient;
use gpu_shopper::grpc::pb::session::State;
use gpu_shopper::http::port::{self, Limits};
use gpu_shopper::sim::{Faults, Keys, World, WorldConfig};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn with(env: &Env, pairs: &[(&str, &str)]) -> Env {
    let mut all = env.clone();
    all.extend(crate::child::env(pairs));
    all
}

/// Runs the program as a client would, in a folder of its own.
async fn cli(args: &[&str], folder: &Path, env: &Env) -> Ended {
    Child::start(args, folder, env).end().await
}

/// A collector of traces, and all that it was sent.
async fn collector() -> (String, Arc<Mutex<Vec<u8>>>, CancellationToken) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let sent = Arc::clone(&all);
    let collect = move |body: axum::body::Bytes| {
        sent.lock().unwrap().extend_from_slice(&body);
        async { ([("content-type", "application/grpc"), ("grpc-status", "0")], "") }
    };
    let router = axum::Router::new().route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", axum::routing::post(collect));
    let listener = port::bind("127.0.0.1", 0).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(port::serve(listener, None, Limits::default(), router, Duration::ZERO, stop.clone()));
    (url, all, stop)
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_in_no_log_error_trace_or_metric_and_not_in_the_database() {
    let keys = Keys {
        vastai_key: "c0ffee00".repeat(8),
        tensordock_auth_id: "5ec2e700-0000-4000-8000-00000000cafe".to_owned(),
        tensordock_token: "canary-token-that-nobody-may-see".to_owned(),
    };
    let seed = 126;
    let config = WorldConfig { keys: Some(keys.clone()), ..WorldConfig::local(seed, Faults::gentle()) };
    let (world, home) = (World::start(config).await.unwrap(), tempfile::tempdir().unwrap());
    let (traces, traced, stop) = collector().await;
    let settings = [
        ("AUTH_MODE", "token"),
        ("AUTH_READ_ONLY_TOKEN", "canary-read-only-token-of-a-setting"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &traces),
        ("LOG_FORMAT", "json"),
    ];
    let server = Served::ready(home.path(), &with(&pointed_at(&world, home.path()), &settings), 2).await;
    let mut canaries = vec![keys.vastai_key.clone(), keys.tensordock_token.clone(), "PRIVATE KEY".to_owned()];
    canaries.push("canary-read-only-token-of-a-setting".to_owned());
    canaries.push(server.token.as_ref().unwrap().expose_secret().to_owned());

    let mut operator = OperatorServiceClient::new(server.channel().await);
    let asked = pb::CreateTokenRequest { name: "ci".to_owned(), role: pb::TokenRole::Consumer.into(), ..Default::default() };
    canaries.push(operator.create_token(asked).await.unwrap().into_inner().token_text);
    let mut said = Vec::new();
    for wrong in ["canary-token-of-a-stranger", "canary token of a stranger"] {
        let answer = http().get(format!("{}/metrics", server.url)).header("authorization", format!("Bearer {wrong}")).send().await.unwrap();
        assert_eq!(answer.status(), 401);
        said.extend_from_slice(answer.text().await.unwrap().as_bytes());
        canaries.push(wrong.to_owned());
    }

    let (mut private, mut ids) = (Vec::new(), Vec::new());
    for provider in ["vastai", "tensordock"] {
        let secret = |what: &str| format!("canary-{what}-{provider}");
        let start = [secret("environment"), secret("secret-environment"), secret("command"), secret("password")];
        canaries.extend(start.clone());
        let [plain, sealed, command, password] = start;
        let request = pb::CreateSessionRequest {
            request_id: format!("again-{provider}"),
            env: BTreeMap::from([("PLAIN".to_owned(), plain)]),
            secret_env: BTreeMap::from([("SEALED".to_owned(), sealed)]),
            on_start_cmd: Some(format!("echo {command}")),
            registry_login: (provider == "vastai").then(|| pb::RegistryLogin {
                server: "registry.example".to_owned(),
                username: "robot".to_owned(),
                password,
            }),
            docker_image: (provider == "vastai").then(|| "registry.example/image:1".to_owned()),
            ..wanted(provider)
        };
        let created = server.sessions().await.create_session(request.clone()).await.unwrap().into_inner();
        let again = server.sessions().await.create_session(request.clone()).await.unwrap().into_inner();
        assert!(again.replayed && again.ssh_private_key == created.ssh_private_key);
        let other = pb::CreateSessionRequest { disk_gb: Some(-1), ..request };
        said.extend_from_slice(format!("{:?}", server.sessions().await.create_session(other).await.unwrap_err()).as_bytes());
        ids.push(created.session.unwrap().session_id);
        private.push(created.ssh_private_key);
    }
    for (id, key) in ids.iter().zip(&private) {
        let running = server.until(id, State::Running).await;
        log_in(&running, key).await;
        let asked = pb::GetSessionDiagnosticsRequest { session_id: id.clone() };
        said.extend_from_slice(format!("{:?}", server.sessions().await.get_session_diagnostics(asked).await.unwrap()).as_bytes());
        let asked = pb::RotateSessionKeyRequest { session_id: id.clone(), request_id: format!("rotate-{id}"), ..Default::default() };
        let rotated = server.sessions().await.rotate_session_key(asked).await.unwrap().into_inner();
        canaries.extend(lines_of(&rotated.ssh_private_key));
        server.complete(id).await;
    }
    said.extend_from_slice(format!("{:?}", operator.list_tokens(pb::ListTokensRequest {}).await.unwrap()).as_bytes());
    said.extend_from_slice(format!("{:?}", operator.list_audit_entries(pb::ListAuditEntriesRequest::default()).await.unwrap()).as_bytes());
    let metrics = server.get("/metrics").await.1;
    assert!(metrics.contains("http_requests_refused_total{reason=\"TOKEN_INVALID\"} 2"), "{metrics}");
    // Everything is still in the log of the database, too.
    let beside: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    for id in &ids {
        server.until(id, State::Stopped).await;
    }
    canaries.extend(private.iter().flat_map(|key| lines_of(key)));
    for machine in world.market.truth() {
        let scoped = [&seed.to_be_bytes()[..], machine.native_id.as_bytes(), b"/scoped key"].concat();
        canaries.push(Sha256::digest(scoped).iter().map(|byte| format!("{byte:02x}")).collect());
    }
    let kept: Vec<u8> = std::fs::read(home.path().join("house.db.secret")).unwrap();
    canaries.push(kept.iter().map(|byte| format!("{byte:02x}")).collect());
    let mut places: Vec<(String, Vec<u8>)> = Vec::new();
    for path in beside.iter().filter(|path| !path.ends_with("house.db.secret") && !path.ends_with("house.db.token")) {
        places.push((path.display().to_string(), std::fs::read(path).unwrap_or_default()));
    }
    let ended: Ended = server.stop().await;
    assert!(ended.err.contains("\"DEBUG\""), "nothing was logged at all");
    places.push(("its log".to_owned(), ended.err.into_bytes()));
    places.push(("its output".to_owned(), ended.out.into_bytes()));
    places.push(("the database at the end".to_owned(), std::fs::read(home.path().join("house.db")).unwrap()));
    places.push(("what it answered".to_owned(), said));
    places.push(("the metrics".to_owned(), metrics.into_bytes()));
    let traced = traced.lock().unwrap().clone();
    assert!(traced.windows(6).any(|part| part == b"caller") && traced.windows(5).any(|part| part == b"admin"), "spans were sent, with who called");
    places.push(("the traces".to_owned(), traced));
    assert!(places.len() > 6 && canaries.len() > 20);
    for (place, bytes) in &places {
        for canary in &canaries {
            assert!(!bytes.windows(canary.len()).any(|part| part == canary.as_bytes()), "{canary} is in {place}");
        }
    }
    stop.cancel();
    world.stop().await;
}

/// Parts of a private key that nothing else has.
fn lines_of(key: &str) -> Vec<String> {
    assert!(key.contains("PRIVATE KEY"));
    key.lines().filter(|line| !line.starts_with("-----") && line.len() > 20).map(|line| line[10..].to_owned()).skip(2).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_beyond_loopback_makes_a_token_and_says_where_it_lies_and_never_which() {
    let (world, home) = (world(130, Faults::none()).await, tempfile::tempdir().unwrap());
    let base = with(&pointed_at(&world, home.path()), &[("SERVER_HOST", "0.0.0.0")]);
    let server = Served::start(home.path(), &base).await;
    let (file, port) = (home.path().join("house.db.token"), server.url.rsplit(':').next().unwrap().to_owned());
    let (kept, here) = (std::fs::read_to_string(&file).unwrap(), format!("http://127.0.0.1:{port}"));
    let token = kept.trim().to_owned();
    assert!(token.starts_with("gst_") && token.len() == 56, "{}", token.len());
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let header = format!("-H \"Authorization: Bearer $(cat {})\"", file.display());
    let told = server.child.err();
    assert!(told.contains(&header) && told.contains("travel in clear") && !told.contains(&token), "{told}");

    let get = async |path: &str, token: Option<&str>| {
        let request = http().get(format!("{here}{path}"));
        let answer = token.map_or(request.try_clone().unwrap(), |token| request.bearer_auth(token)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/metrics", Some(&token)).await.0, 200);
    assert!(matches!(get("/health", None).await.0, 200 | 503));
    let (status, body) = get("/metrics", None).await;
    let said: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, said["error_type"].as_str()), (401, Some("token_missing")));
    assert!(said["error"].as_str().unwrap().contains(&header) && !body.contains(&token), "{body}");

    // The line that a refusal prints works as it is.
    let line = format!("curl -s -o /dev/null -w '%{{http_code}}' {header} {here}/metrics");
    let ran = std::process::Command::new("sh").args(["-c", &line]).output();
    if let Ok(ran) = ran.as_ref().map(|ran| String::from_utf8_lossy(&ran.stdout).into_owned())
        && !ran.is_empty()
    {
        assert_eq!(ran, "200");
    }

    // The command line finds the token beside the database, or is told where it is; what is refused has a code of its own.
    let away = tempfile::tempdir().unwrap();
    let finds = env(&[("DATABASE_PATH", file.to_str().unwrap().strip_suffix(".token").unwrap()), ("GPU_SHOPPER_URL", &here)]);
    let nothing = env(&[("GPU_SHOPPER_URL", &here)]);
    for (args, env, code) in [
        (vec!["sessions", "list"], &finds, 0),
        (vec!["sessions", "list"], &nothing, 8),
        (vec!["--token-file", file.to_str().unwrap(), "sessions", "list"], &nothing, 0),
        (vec!["--token-file", "/nowhere/at-all", "sessions", "list"], &nothing, 8),
        (vec!["--token", &token, "ops", "holds"], &nothing, 0),
        (vec!["sessions", "list"], &with(&nothing, &[("GPU_SHOPPER_TOKEN", &token)]), 0),
        (vec!["sessions", "list"], &with(&finds, &[("GPU_SHOPPER_TOKEN", "gst_wrong")]), 8),
    ] {
        let ended = cli(&args, away.path(), env).await;
        assert_eq!(ended.status.code(), Some(code), "{args:?}: {}", ended.err);
        assert!(!format!("{}{}", ended.out, ended.err).contains(&token));
        if code == 8 && args[0] == "sessions" {
            assert!(ended.err.contains("TOKEN_") && ended.err.contains(&header), "{}", ended.err);
        }
    }

    // A token of its own for somebody, who is then somebody no more.
    let made = cli(&["token", "create", "ci", "--role", "consumer", "--consumer", "ci", "--save", "ci.token"], away.path(), &finds).await;
    assert_eq!(made.status.code(), Some(0), "{}", made.err);
    let saved = std::fs::read_to_string(away.path().join("ci.token")).unwrap();
    assert_eq!(std::fs::metadata(away.path().join("ci.token")).unwrap().mode() & 0o777, 0o600);
    assert!(saved.starts_with("gst_") && !made.out.contains(saved.trim()));
    let as_ci = with(&nothing, &[("GPU_SHOPPER_TOKEN_FILE", "ci.token")]);
    assert_eq!(cli(&["sessions", "list"], away.path(), &as_ci).await.status.code(), Some(0));
    assert_eq!(cli(&["token", "list"], away.path(), &as_ci).await.status.code(), Some(8), "a consumer sees no tokens");
    assert_eq!(cli(&["token", "revoke", "ci"], away.path(), &finds).await.status.code(), Some(0));
    assert_eq!(cli(&["sessions", "list"], away.path(), &as_ci).await.status.code(), Some(8));
    let listed = cli(&["token", "list"], away.path(), &finds).await;
    assert!(listed.out.contains("admin") && listed.out.contains("revoked") && !listed.out.contains("gst_"), "{}", listed.out);

    // The file works while no server does, and is left alone while one runs.
    let database = finds["DATABASE_PATH"].clone();
    let held = cli(&["token", "list", "--database", &database], away.path(), &nothing).await;
    assert!(held.status.code() == Some(1) && held.err.contains("another server"), "{}", held.err);
    server.child.terminate();
    assert_eq!(server.child.end().await.status.code(), Some(0));
    let offline = cli(&["token", "create", "late", "--role", "read-only", "--database", &database, "-o", "json"], away.path(), &nothing).await;
    assert_eq!(offline.status.code(), Some(0), "{}", offline.err);
    let late: serde_json::Value = serde_json::from_str(&offline.out).unwrap();
    let server = Served::start(home.path(), &base).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), kept, "the next start takes the same token");
    let here = format!("http://127.0.0.1:{}", server.url.rsplit(':').next().unwrap());
    let answer = http().get(format!("{here}/metrics")).bearer_auth(late["token_text"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    server.child.terminate();
    assert_eq!(server.child.end().await.status.code(), Some(0));

    // A token that others can read is none.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = cli(&["serve"], home.path(), &base).await;
    assert!(refused.status.code() == Some(1) && refused.err.contains("mode 0644") && !refused.err.contains(&token), "{}", refused.err);
    let open = Served::start(home.path(), &with(&base, &[("AUTH_MODE", "none")])).await;
    assert!(open.token.is_none() && open.child.err().contains("NO AUTHENTICATION on 0.0.0.0"), "{}", open.child.err());
    open.child.terminate();
    assert_eq!(open.child.end().await.status.code(), Some(0));
    world.stop().await;
}
