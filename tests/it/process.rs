//! The server as a process: killed and restarted on the same file, drained, refused, misconfigured, watched by programs.
//! Real time, real sockets, real signals; the marketplaces are simulated, in the test's own process.

use crate::child::{Child, Env, PATIENCE, Served, alive, http, log_in, pointed_at, wanted, word, world};
use crate::port;
use gpu_shopper::app::tag_of;
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::ids::{Label, SessionId};
use gpu_shopper::grpc::pb;
use gpu_shopper::grpc::pb::inventory_service_client::InventoryServiceClient;
use gpu_shopper::grpc::pb::operator_service_client::OperatorServiceClient;
use gpu_shopper::grpc::pb::session::State;
use gpu_shopper::grpc::pb::watch_session_response::Message;
use gpu_shopper::sim::{Dialect, Faults};
use std::path::Path;
use std::time::Duration;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

const GRPC_SERVING: i32 = 1;
const GRPC_NOT_SERVING: i32 = 2;

/// When a server dies without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The vendor has made the machine and not yet answered.
    Launching,
    /// The machine boots.
    Booting,
    Running,
    Stopping,
}

async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "it never came to: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn stage_reached(server: &Served, id: &str, stage: pb::Stage) {
    let mut sessions = server.sessions().await;
    for _ in 0..10_000 {
        let asked = pb::GetSessionRequest { session_id: id.to_owned() };
        let session = sessions.get_session(asked).await.unwrap().into_inner().read_session().unwrap();
        if session.stage() as i32 >= stage as i32 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{id} never reached {stage:?}");
}

/// Kills the server at a moment, starts it again on the same file, and holds it to what it had promised.
async fn survives(moment: Moment, provider: &'static str) {
    let seed = 100 + moment as u64;
    let mut faults = Faults::gentle();
    if moment == Moment::Launching {
        faults.set("create_slow", "1").unwrap();
        faults.set("create_hang", "3s").unwrap();
    }
    let (world, home) = (world(seed, faults).await, tempfile::tempdir().unwrap());
    let env = pointed_at(&world, home.path());
    let server = Served::ready(home.path(), &env, 2).await;
    let created = server.sessions().await.create_session(wanted(provider)).await.unwrap().into_inner();
    let id = created.session.unwrap().session_id;
    match moment {
        Moment::Launching => wait_for("a machine", || !alive(&world).is_empty()).await,
        Moment::Booting => stage_reached(&server, &id, pb::Stage::Accepted).await,
        Moment::Running => drop(server.until(&id, State::Running).await),
        Moment::Stopping => {
            server.until(&id, State::Running).await;
            assert_eq!(server.complete(&id).await.state(), State::Stopping);
        }
    }
    server.child.kill().await;
    let open = moment != Moment::Stopping;
    if matches!(moment, Moment::Launching | Moment::Booting | Moment::Running) {
        assert_eq!(alive(&world).len(), 1, "{moment:?}: nobody ends a machine because the server died");
    }

    let server = Served::start(home.path(), &env).await;
    let found = server.get_session(&id).await;
    assert_eq!(found.state() == State::Stopping || found.state() == State::Stopped, !open, "{moment:?}: it is {}", word(found.state()));
    if open {
        let running = server.until(&id, State::Running).await;
        assert_eq!(alive(&world).len(), 1, "{moment:?}");
        assert!(alive(&world)[0].contains(&id), "{moment:?}: {:?}", alive(&world));
        assert!(log_in(&running, &created.ssh_private_key).await.contains("GPU 0"));
        server.complete(&id).await;
    }
    let stopped = server.until(&id, State::Stopped).await;
    assert!(stopped.cost_final, "{moment:?}");
    assert_eq!(alive(&world), Vec::<String>::new(), "{moment:?}");
    let charged = stopped.cost.as_ref().unwrap();
    let (low, high) = (nanos(charged.low.as_ref()), nanos(charged.high.as_ref()));
    let bill: i64 = world.market.bills().values().map(|bill| bill.total.0).sum();
    assert!(low <= bill && bill <= high, "{moment:?} at {provider}: the market bills {bill}, and we say {low} to {high}");

    // What the create answered leads through both lives of the server, event by event.
    let told = history(&server, &id, created.resume_token).await;
    let sequences: Vec<i64> = told.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences, (1..=stopped.sequence).collect::<Vec<_>>(), "{moment:?}: {told:?}");
    assert_eq!(told.last().map(|(_, state)| *state), Some(State::Stopped));
    let ended = server.stop().await;
    assert!(ended.err.ends_with("stopped; no session is open\n"), "{}", ended.err);
    world.stop().await;
}

fn nanos(money: Option<&pb::Money>) -> i64 {
    money.map_or(0, |m| m.units * 1_000_000_000 + i64::from(m.nanos))
}

/// Sequence and state of every event after a token, until the stream ends.
async fn history(server: &Served, id: &str, token: String) -> Vec<(i64, State)> {
    let start = Some(pb::watch_session_request::Start::ResumeToken(token));
    let asked = pb::WatchSessionRequest { session_id: id.to_owned(), start, ..Default::default() };
    let mut stream = server.sessions().await.watch_session(asked).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        if let Some(Message::Event(event)) = message.message {
            let event: pb::SessionEvent = pb::read(&event).unwrap();
            told.push((event.sequence, event.to_state()));
        }
    }
    told
}

/// Killed as soon as the create was answered: what became of the launch is unknown, and found out by looking.
async fn destroyed_after_an_unknown_launch() {
    let (world, home) = (world(107, Faults::gentle()).await, tempfile::tempdir().unwrap());
    let env = with(&pointed_at(&world, home.path()), &[("ABSENCE_QUORUM", "2")]);
    let server = Served::ready(home.path(), &env, 2).await;
    let created = server.sessions().await.create_session(wanted("vastai")).await.unwrap().into_inner();
    let id = created.session.unwrap().session_id;
    server.child.kill().await;
    let server = Served::start(home.path(), &env).await;
    let asked = pb::DestroySessionRequest { session_id: id.clone(), ..Default::default() };
    server.sessions().await.destroy_session(asked).await.unwrap();
    let stopped = server.until(&id, State::Stopped).await;
    assert_eq!((stopped.end_reason(), stopped.cost_final), (pb::EndReason::DestroyedByUser, true));
    assert_eq!(alive(&world), Vec::<String>::new());
    let told = history(&server, &id, created.resume_token).await;
    assert_eq!(told.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), (1..=stopped.sequence).collect::<Vec<_>>());
    server.stop().await;
    world.stop().await;
}

/// A drain leaves machines running, and says which and what they cost.
async fn drained() {
    let (world, home) = (world(120, Faults::gentle()).await, tempfile::tempdir().unwrap());
    let env = pointed_at(&world, home.path());
    let server = Served::ready(home.path(), &env, 2).await;
    let created = server.sessions().await.create_session(wanted("vastai")).await.unwrap().into_inner();
    let id = created.session.unwrap().session_id;
    let running = server.until(&id, State::Running).await;

    let one = pb::WatchSessionRequest { session_id: id.clone(), ..Default::default() };
    let mut one = server.sessions().await.watch_session(one).await.unwrap().into_inner();
    let mut all = server.sessions().await.watch_sessions(pb::WatchSessionsRequest::default()).await.unwrap().into_inner();
    let waiting = pb::WaitSessionRequest { session_id: id.clone(), until: vec![State::Stopped.into()], ..Default::default() };
    let mut waiter = server.sessions().await;
    let waiting = tokio::spawn(async move { waiter.wait_session(waiting).await });
    let mut health = HealthClient::new(server.channel().await).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status, GRPC_SERVING);
    assert!(one.message().await.unwrap().is_some() && all.message().await.unwrap().is_some());

    let begun = tokio::time::Instant::now();
    let url = server.url.clone();
    let ended = server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(20), "nothing held the drain up: {:?}", begun.elapsed());
    let mut last = None;
    let end = loop {
        match one.message().await {
            Ok(Some(message)) => last = Some(message),
            Ok(None) => panic!("the stream ended without a word"),
            Err(status) => break status,
        }
    };
    let last = last.expect("a last message");
    assert!(matches!(last.message, Some(Message::Bookmark(_))), "{last:?}");
    let token = last.resume_token;
    assert_eq!(
        (end.code(), end.get_error_details().error_info().map(|i| i.reason.clone())),
        (tonic::Code::Unavailable, Some("SERVER_DRAINING".to_owned()))
    );
    assert!(end.get_error_details().retry_info().is_some());
    let mut last = None;
    let end = loop {
        match all.message().await {
            Ok(Some(message)) => last = message.message,
            Ok(None) => panic!("the stream ended without a word"),
            Err(status) => break status,
        }
    };
    assert!(matches!(last, Some(pb::watch_sessions_response::Message::Bookmark(_))), "{last:?}");
    assert_eq!(end.code(), tonic::Code::Unavailable);
    assert_eq!(waiting.await.unwrap().unwrap_err().code(), tonic::Code::Unavailable);
    assert_eq!(health.message().await.unwrap().map(|m| m.status), Some(GRPC_NOT_SERVING));

    assert_eq!(alive(&world).len(), 1, "a drain destroys nothing");
    let price = running.price.unwrap().total_text;
    for wanted in ["1 session stays as it is", &id, "running", &price, &format!("gpu-shopper --server {url} sessions destroy {id}")] {
        assert!(ended.err.contains(wanted), "`{wanted}` is not in: {}", ended.err);
    }

    let server = Served::start(home.path(), &env).await;
    assert_eq!(server.get_session(&id).await.state(), State::Running);
    assert!(log_in(&server.get_session(&id).await, &created.ssh_private_key).await.contains("GPU 0"));
    server.complete(&id).await;
    let stopped = server.until(&id, State::Stopped).await;
    let told = history(&server, &id, token).await;
    assert_eq!(told.last(), Some(&(stopped.sequence, State::Stopped)));
    assert!(told.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "{told:?}");
    assert_eq!(alive(&world), Vec::<String>::new());
    server.stop().await;
    world.stop().await;
}

/// Renting and draining go on when nobody reads what the server says any more.
async fn drained_unheard() {
    let (world, home) = (world(127, Faults::none()).await, tempfile::tempdir().unwrap());
    let mut server = Served::ready(home.path(), &pointed_at(&world, home.path()), 2).await;
    let mut stream = server.sessions().await.watch_sessions(pb::WatchSessionsRequest::default()).await.unwrap().into_inner();
    server.child.stop_listening().await;
    let created = server.sessions().await.create_session(wanted("tensordock")).await.unwrap().into_inner();
    server.until(&created.session.unwrap().session_id, State::Running).await;
    assert_eq!(server.get("/health").await.0, 200);
    server.stop().await;
    assert_eq!(alive(&world).len(), 1);
    let end = loop {
        match stream.message().await {
            Ok(message) => assert!(message.is_some(), "the stream ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.get_error_details().error_info().map(|i| i.reason.clone()), Some("SERVER_DRAINING".to_owned()));
    world.stop().await;
}

/// The same when its log goes into a pipe that nobody empties, which holds up whoever writes to it: what finds no room is lost, and
/// counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_stops_nothing() {
    let (world, home) = (world(128, Faults::none()).await, tempfile::tempdir().unwrap());
    let mut server = Served::ready(home.path(), &pointed_at(&world, home.path()), 2).await;
    server.child.stop_reading();
    let lost = async || {
        let (status, text) = server.get("/metrics").await;
        assert_eq!(status, 200);
        let value = text.lines().find_map(|line| line.strip_prefix("gpu_log_lines_lost_total ")).unwrap().trim();
        value.parse::<f64>().unwrap()
    };
    // A line or two for each request, at this level.
    let begun = tokio::time::Instant::now();
    while lost().await == 0.0 {
        assert!(begun.elapsed() < PATIENCE, "no line was lost: who writes waits for a reader");
        let ask = async || {
            let client = http();
            for _ in 0..500 {
                let _ = client.get(format!("{}/api/v1/nothing", server.url)).send().await;
            }
        };
        futures::future::join_all((0..8).map(|_| ask())).await;
    }
    let created = server.sessions().await.create_session(wanted("vastai")).await.unwrap().into_inner();
    let id = created.session.unwrap().session_id;
    server.until(&id, State::Running).await;
    server.complete(&id).await;
    server.until(&id, State::Stopped).await;
    assert_eq!(alive(&world), Vec::<String>::new());
    server.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_end_at_any_moment_and_goes_on_where_it_was() {
    // All at once: each of them mostly waits.
    let mut tasks = vec![
        ("killed when accepted", tokio::spawn(destroyed_after_an_unknown_launch())),
        ("drained", tokio::spawn(drained())),
        ("unheard", tokio::spawn(drained_unheard())),
    ];
    for (name, moment, provider) in [
        ("killed when launching at Vast.ai", Moment::Launching, "vastai"),
        ("killed when launching at TensorDock", Moment::Launching, "tensordock"),
        ("killed when booting", Moment::Booting, "vastai"),
        ("killed when running", Moment::Running, "tensordock"),
        ("killed when stopping", Moment::Stopping, "vastai"),
    ] {
        tasks.push((name, tokio::spawn(survives(moment, provider))));
    }
    let mut failed = Vec::new();
    for (name, task) in tasks {
        if let Err(error) = task.await {
            failed.push(format!("{name}: {error}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Starts something that must refuse to run.
async fn refused(args: &[&str], folder: &Path, env: &Env) -> String {
    let ended = Child::start(args, folder, env).end().await;
    assert_eq!(ended.status.code(), Some(1), "{}\n{}", ended.out, ended.err);
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
    ended.err
}

fn without(env: &Env, names: &[&str]) -> Env {
    env.iter().filter(|(name, _)| !names.contains(&name.as_str())).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn with(env: &Env, pairs: &[(&str, &str)]) -> Env {
    let mut all = env.clone();
    all.extend(crate::child::env(pairs));
    all
}

fn holds_all(text: &str, wanted: &[&str]) {
    for one in wanted {
        assert!(text.contains(one), "`{one}` is not in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_start_says_why_and_what_to_do() {
    let (world, home) = (world(121, Faults::none()).await, tempfile::tempdir().unwrap());
    let env = pointed_at(&world, home.path());
    let first = Served::start(home.path(), &env).await;
    let (port, pid) = (first.url.rsplit(':').next().unwrap().to_owned(), first.child.id().to_string());

    let second = refused(&["serve"], home.path(), &env).await;
    holds_all(
        &second,
        &["failed to open database", "house.db", "another server", &format!("pid {pid}"), &format!("127.0.0.1:{port}"), "DATABASE_PATH"],
    );

    let elsewhere = home.path().join("other.db").display().to_string();
    let taken = refused(&["serve"], home.path(), &with(&env, &[("SERVER_PORT", &port), ("DATABASE_PATH", &elsewhere)])).await;
    holds_all(&taken, &["address already in use", &port, "SERVER_PORT"]);
    if cfg!(target_os = "linux") {
        holds_all(&taken, &[&format!("gpu-shopper (pid {pid})")]);
    }
    assert!(!Path::new(&elsewhere).exists(), "nothing is made by a server that can't start");

    std::fs::write(home.path().join("a-file"), "").unwrap();
    let unwritable = home.path().join("a-file/x.db").display().to_string();
    holds_all(
        &refused(&["serve"], home.path(), &with(&env, &[("DATABASE_PATH", &unwritable)])).await,
        &["failed to open database", &unwritable, "DATABASE_PATH"],
    );
    let a_folder = home.path().join("a-folder").display().to_string();
    std::fs::create_dir(&a_folder).unwrap();
    let told = refused(&["serve"], home.path(), &with(&env, &[("DATABASE_PATH", &a_folder)])).await;
    holds_all(&told, &["failed to open database", &a_folder, "it is a folder", "such as", "a-folder/gpu-shopper.db", "DATABASE_PATH"]);
    // Who is root may write everywhere: then this says nothing.
    let closed = home.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
    if std::fs::write(closed.join("probe"), "").is_err() {
        let inside = closed.join("house.db").display().to_string();
        let told = refused(&["serve"], home.path(), &with(&env, &[("DATABASE_PATH", &inside)])).await;
        holds_all(&told, &["failed to open database", &inside, "DATABASE_PATH"]);
    }
    let predecessors = home.path().join("predecessor.db");
    crate::store::predecessor(&predecessors);
    let before = std::fs::read(&predecessors).unwrap();
    let told = refused(&["serve"], home.path(), &with(&env, &[("DATABASE_PATH", &predecessors.display().to_string())])).await;
    holds_all(&told, &["failed to open database", "predecessor.db", "DATABASE_PATH"]);
    assert!(std::fs::read(&predecessors).unwrap() == before, "it is never touched");
    let not_ours = home.path().join("not-ours.db").display().to_string();
    std::fs::write(&not_ours, "This is no database, but it is long enough to be looked at as one: nothing of it may be lost.".repeat(20)).unwrap();
    holds_all(&refused(&["serve"], home.path(), &with(&env, &[("DATABASE_PATH", &not_ours)])).await, &["failed to open database", &not_ours]);

    let alone = without(&env, &["VASTAI_API_KEY", "TENSORDOCK_AUTH_ID", "TENSORDOCK_API_TOKEN"]);
    holds_all(&refused(&["serve"], home.path(), &alone).await, &["at least one provider must be enabled", "VASTAI_API_KEY", "TENSORDOCK_AUTH_ID"]);
    let half = refused(&["serve"], home.path(), &without(&env, &["TENSORDOCK_API_TOKEN"])).await;
    holds_all(&half, &["providers.tensordock.api_token", "TENSORDOCK_AUTH_ID"]);
    let missing = [("SERVER_TLS_CERT", "no-cert.pem"), ("SERVER_TLS_KEY", "no-key.pem")];
    holds_all(&refused(&["serve"], home.path(), &with(&env, &missing)).await, &["no-cert.pem", "SERVER_TLS_CERT"]);

    let wrong = [
        ("SERVER_PORT", "eighty"),
        ("LOG_LEVEL", "loud"),
        ("SERVER_HOST", "no host"),
        ("VASTAI_BASE_URL", "ftp://elsewhere"),
        ("INVENTORY_MAX_AGE", "soon"),
        ("SERVER_TLS_CERT", "cert.pem"),
    ];
    let all = refused(&["serve", "--set", "absence.quorum=1", "--set", "no.such=1"], home.path(), &with(&env, &wrong)).await;
    holds_all(&all, &["settings are wrong", "eighty", "loud", "no host", "ftp://elsewhere", "soon", "server.tls_key", "absence.quorum", "no.such"]);
    assert!(!all.contains(&world.keys.vastai_key) && !all.contains(&world.keys.tensordock_token));
    // A name that was mistyped may be why something else is wrong.
    let mistyped = with(&without(&env, &["TENSORDOCK_API_TOKEN"]), &[("TENSORDOCK_TOKEN", "x"), ("DB_PATH", "x.db"), ("SERVER_PROT", "1")]);
    holds_all(
        &refused(&["serve"], home.path(), &mistyped).await,
        &["1 setting is wrong", "did you mean TENSORDOCK_API_TOKEN?", "did you mean DATABASE_PATH?", "did you mean SERVER_PORT?"],
    );
    // In JSON it is an object, too.
    let told = refused(&["serve"], home.path(), &with(&mistyped, &[("LOG_FORMAT", "json")])).await;
    let lines: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    assert!(lines.len() == 1 && lines[0]["level"] == "ERROR", "{told}");
    holds_all(lines[0]["message"].as_str().unwrap(), &["1 setting is wrong", "did you mean DATABASE_PATH?"]);

    first.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shown_settings_hide_secrets() {
    let (world, home) = (world(122, Faults::none()).await, tempfile::tempdir().unwrap());
    std::fs::write(home.path().join(".env"), "LOG_FORMAT=text\n").unwrap();
    let ended = Child::start(&["config"], home.path(), &without(&pointed_at(&world, home.path()), &["LOG_FORMAT"])).end().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.err);
    holds_all(&ended.out, &["VASTAI_API_KEY", "***", &world.vastai_url, "environment VASTAI_BASE_URL", ".env LOG_FORMAT", "default"]);
    for secret in [&world.keys.vastai_key, &world.keys.tensordock_token, &world.keys.tensordock_auth_id] {
        assert!(!ended.out.contains(secret) && !ended.err.contains(secret));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_does_not_answer_is_not_said_to_refuse_the_key() {
    let (world, home) = (world(124, Faults::none()).await, tempfile::tempdir().unwrap());
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let server = Served::ready(home.path(), &with(&pointed_at(&world, home.path()), &[("VASTAI_BASE_URL", &url)]), 1).await;
    let (status, body) = server.get("/health").await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["services"]["vastai"], &body["services"]["tensordock"]), (200, &"unreachable".into(), &"ok".into()), "{body}");
    server.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_told_everywhere_and_rents_nothing() {
    let (world, home) = (world(123, Faults::none()).await, tempfile::tempdir().unwrap());
    let wrong = "ab".repeat(32);
    let env = with(&pointed_at(&world, home.path()), &[("VASTAI_API_KEY", &wrong)]);
    let server = Served::ready(home.path(), &env, 1).await;
    server.child.says("Provider authentication failed").await;
    let (status, body) = server.get("/health").await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["status"], &body["services"]["vastai"]), (200, &"degraded".into(), &"credentials not proven".into()));
    assert_eq!(body["services"]["tensordock"], "ok");
    let (status, body) = server.get("/api/v1/inventory?provider=vastai").await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["error_type"], &body["retry_suggested"]), (409, &"provider_auth".into(), &false.into()), "{body}");
    assert_eq!(body["error"].as_str().unwrap().matches("Provider authentication failed").count(), 1, "{body}");
    let refused = server.sessions().await.create_session(wanted("vastai")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused:?}");
    assert_eq!(refused.message().matches("Provider authentication failed").count(), 1, "{refused:?}");
    assert_eq!(refused.get_error_details().error_info().unwrap().metadata["provider"], "vastai");
    let by_offer =
        pb::CreateSessionRequest { target: Some(pb::create_session_request::Target::OfferId("vastai-29000001".to_owned())), ..Default::default() };
    let refused = server.sessions().await.create_session(by_offer).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("Provider authentication failed"), "{refused:?}");
    // The other one is not held up by it.
    let id = server.sessions().await.create_session(wanted("tensordock")).await.unwrap().into_inner().session.unwrap().session_id;
    server.until(&id, State::Running).await;
    let ended = server.stop().await;
    assert!(!ended.err.contains(&wrong));
    world.stop().await;
}

/// What launches taught is remembered and shown, and hides nothing until it may: a setting decides, anew at each start.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_memory_only_observes_until_it_may_act() {
    let mut faults = Faults::none();
    faults.set("vastai.boot_fails", "1").unwrap();
    let (world, home) = (world(132, faults).await, tempfile::tempdir().unwrap());
    let with_memory = |word: &str| with(&pointed_at(&world, home.path()), &[("INVENTORY_FAILURE_MEMORY", word)]);
    let offered = async |server: &Served| {
        let filter = pb::OfferFilter { providers: vec!["vastai".to_owned()], ..Default::default() };
        let asked = pb::ListOffersRequest { filter: Some(filter), order_by: "price".to_owned(), page_size: 1000, ..Default::default() };
        InventoryServiceClient::new(server.channel().await).list_offers(asked).await.unwrap().into_inner().read_offers().unwrap()
    };
    let server = Served::ready(home.path(), &with_memory("observe"), 2).await;
    let offer = offered(&server).await.into_iter().find(|o| o.rental_kind() == pb::RentalKind::OnDemand).unwrap();
    let target = Some(pb::create_session_request::Target::OfferId(offer.offer_id.clone()));
    let created = server.sessions().await.create_session(pb::CreateSessionRequest { target, ..Default::default() }).await.unwrap().into_inner();
    let failed = server.until(&created.session.unwrap().session_id, State::Failed).await;
    assert_eq!(failed.attempts[0].failure(), pb::AttemptFailure::InstanceFailed);
    server.stop().await;
    for (word, acts) in [("observe", false), ("act", true), ("observe", false)] {
        let server = Served::ready(home.path(), &with_memory(word), 2).await;
        let shown = offered(&server).await;
        assert_eq!(shown.iter().any(|o| o.machine_id == offer.machine_id), !acts, "{word}: {} offers", shown.len());
        let asked = pb::ListOfferHealthRequest { kinds: vec![pb::offer_health::Kind::Machine.into()], ..Default::default() };
        let known = OperatorServiceClient::new(server.channel().await).list_offer_health(asked).await.unwrap().into_inner();
        let machines: Vec<(&str, i32, i32)> = known.entries.iter().map(|e| (e.name.as_str(), e.launch_count, e.usable_count)).collect();
        assert_eq!((known.observes_only, machines), (!acts, vec![(offer.machine_id.as_str(), 1, 0)]), "{word}");
        assert!(known.entries[0].set_aside_until_time.is_some(), "until then it is hidden, or would be: {word}");
        server.stop().await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_ready_until_every_provider_was_looked_at() {
    let mut faults = Faults::none();
    faults.set("tensordock.list_slow", "1").unwrap();
    faults.set("tensordock.list_hang", "4s").unwrap();
    let (world, home) = (world(124, faults).await, tempfile::tempdir().unwrap());
    let server = Served::start(home.path(), &pointed_at(&world, home.path())).await;
    let mut health = HealthClient::new(server.channel().await).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status, GRPC_NOT_SERVING);
    let (status, body) = server.get("/health").await;
    assert_eq!(status, 503, "{body}");
    holds_all(&body, &["\"starting\"", "\"lifecycle\":\"running\""]);
    let (status, body) = server.get("/ready").await;
    assert_eq!(status, 503, "{body}");
    assert_eq!(health.message().await.unwrap().unwrap().status, GRPC_SERVING);
    assert_eq!(server.get("/health").await.0, 200);
    assert_eq!(server.get("/ready").await.0, 200);
    server.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_that_offers_are_being_fetched() {
    let (world, home) = (world(128, Faults::none()).await, tempfile::tempdir().unwrap());
    // It takes calls and never answers them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let server = Served::start(home.path(), &with(&pointed_at(&world, home.path()), &[("VASTAI_BASE_URL", &url)])).await;
    let (status, body) = server.get("/health").await;
    assert_eq!(status, 503, "{body}");
    holds_all(&body, &["\"starting\"", "\"inventory\":\"fetching\"", "\"ready\":\"false\""]);
    assert_eq!(server.get("/ready").await.0, 503);
    server.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_port_speaks_tls_alone_when_told_to() {
    let (world, home) = (world(125, Faults::none()).await, tempfile::tempdir().unwrap());
    let (cert, key) = (port::fixture("cert.pem").display().to_string(), port::fixture("key.pem").display().to_string());
    let env = with(&pointed_at(&world, home.path()), &[("SERVER_TLS_CERT", &cert), ("SERVER_TLS_KEY", &key)]);
    let server = Served::start(home.path(), &env).await;
    let address = server.url.strip_prefix("https://").expect("the URL says so").parse().unwrap();
    let url = format!("https://localhost:{}/health", server.url.rsplit(':').next().unwrap());
    let answer = port::client(|b| b).get(&url).send().await.unwrap();
    assert_eq!(answer.version(), ::http::Version::HTTP_2);
    assert!(answer.text().await.unwrap().contains("lifecycle"));
    let models = InventoryServiceClient::new(port::tls_channel(address).await).list_gpu_models(pb::ListGpuModelsRequest {}).await;
    assert_eq!(models.unwrap().into_inner().providers.len(), 2);
    assert!(http().get(url.replace("https", "http")).send().await.is_err(), "nothing in clear");
    server.stop().await;
    world.stop().await;
}

/// As in a container: the same environment, and nobody says where the server is.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_finds_the_server_of_its_own_settings() {
    let (world, home) = (world(129, Faults::none()).await, tempfile::tempdir().unwrap());
    let ask = async |args: &[&str], env: &Env| Child::start(args, home.path(), env).end().await;
    let tls = |name: &str| port::fixture(name).display().to_string();
    let (cert, key) = (tls("cert.pem"), tls("key.pem"));
    for more in [vec![("SERVER_HOST", "0.0.0.0")], vec![("SERVER_HOST", "0.0.0.0"), ("SERVER_TLS_CERT", &cert), ("SERVER_TLS_KEY", &key)]] {
        let env = with(&pointed_at(&world, home.path()), &more);
        let server = Served::start(home.path(), &env).await;
        let own = with(&env, &[("SERVER_PORT", server.url.rsplit(':').next().unwrap())]);
        let live = ask(&["health", "--live"], &own).await;
        assert_eq!(live.status.code(), Some(0), "{live:?}");
        // Its token as well.
        let listed = ask(&["sessions", "list"], &own).await;
        assert_eq!(listed.status.code(), Some(0), "{listed:?}");
        // Faults elsewhere in the settings are not this command's matter.
        assert_eq!(ask(&["health", "--live"], &with(&own, &[("LOG_LEVEL", "loud")])).await.status.code(), Some(0));
        // What is said goes before what is found.
        let said = ask(&["health", "--live"], &with(&own, &[("GPU_SHOPPER_URL", "http://127.0.0.1:9")])).await;
        assert_eq!(said.status.code(), Some(7), "{said:?}");
        if more.len() > 1 {
            let plain = ask(&["health", "--live"], &with(&own, &[("GPU_SHOPPER_URL", &server.url.replace("https", "http"))])).await;
            assert!(plain.status.code() == Some(7) && plain.err.contains("ask with https://"), "{plain:?}");
            let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            let file = home.path().join("other.pem");
            std::fs::write(&file, other.cert.pem()).unwrap();
            let strange = ask(&["health", "--live"], &with(&own, &[("SERVER_TLS_CERT", &file.display().to_string())])).await;
            assert_eq!(strange.status.code(), Some(7), "another certificate than its settings': {strange:?}");
        }
        server.stop().await;
    }
    world.stop().await;
}

/// What an operator orders, by the built program, of a built server with machines that nobody expects.
#[tokio::test(flavor = "multi_thread")]
async fn an_operators_orders_work_from_the_command_line() {
    let (world, home) = (world(520, Faults::none()).await, tempfile::tempdir().unwrap());
    let mut env = pointed_at(&world, home.path());
    env.extend(crate::child::env(&[("DEPLOYMENT_ID", "orders"), ("LIFECYCLE_RECONCILIATION_INTERVAL", "10s")]));
    let server = Served::ready(home.path(), &env, 2).await;
    let ops = async |line: &str| {
        let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_gpu-shopper"));
        program.args(line.split(' ')).args(["-o", "json"]).env("GPU_SHOPPER_URL", &server.url).current_dir(home.path());
        let ran = program.output().await.unwrap();
        let (out, err) = (String::from_utf8_lossy(&ran.stdout).into_owned(), String::from_utf8_lossy(&ran.stderr).into_owned());
        (ran.status.code(), serde_json::from_str::<serde_json::Value>(&out).unwrap_or_default(), err)
    };
    let done = async |line: &str| {
        let (code, answer, err) = ops(line).await;
        assert_eq!(code, Some(0), "{line}: {answer} {err}");
        answer
    };
    let refused = async |line: &str, reason: &str| {
        let (code, answer, err) = ops(line).await;
        assert!(code.is_some_and(|code| code > 1) && format!("{answer}{err}").contains(reason), "{line}: {code:?} {answer} {err}");
    };
    let label = |number: u128| {
        let session = SessionId::new(Clock::System.now(), number);
        Label { tag: tag_of("orders"), session, attempt: 1 }.to_string()
    };
    let account = world.market.first_account(Dialect::Vastai).unwrap();
    let (kept, gone) = (world.market.plant(account, &label(1)).unwrap(), world.market.plant(account, &label(2)).unwrap());
    let theirs = world.market.plant(account, "somebody's own").unwrap();

    let swept = done("ops sweep vastai").await.to_string();
    assert!([&kept, &gone, &theirs].iter().all(|id| swept.contains(id.as_str())), "{swept}");
    let strays = done("ops strays").await.to_string();
    assert!(strays.contains(&kept) && strays.contains(&gone) && !strays.contains(&theirs), "{strays}");
    assert!(done("ops foreign").await.to_string().contains(&theirs));

    done("ops hold vastai launches --reason we-look").await;
    assert!(done("ops holds").await.to_string().contains("we-look"));
    refused("provision --provider vastai", "LAUNCHES_HELD").await;
    done("ops hold vastai launches --lift").await;
    refused("ops hold vastai launches --lift", "HOLD_NOT_FOUND").await;

    let adopted = done(&format!("ops adopt vastai {kept} --consumer finder")).await;
    let id = adopted.pointer("/session/session_id").or_else(|| adopted.pointer("/session_id")).unwrap().as_str().unwrap().to_owned();
    assert_eq!(server.get_session(&id).await.state(), State::Running);
    done(&format!("ops destroy-instance vastai {gone} --yes")).await;
    wait_for("the other's end", || !world.market.alive().contains(&gone)).await;
    refused(&format!("ops destroy-instance vastai {theirs} --yes"), "NOT_OURS").await;
    refused(&format!("ops settle {} --reason seen --yes", world.market.label_of(&kept).unwrap()), "INSTANCE_IN_USE").await;
    refused(&format!("ops retry {}", label(9)), "INSTANCE_NOT_FOUND").await;
    refused("ops accept-database --yes", "DATABASE_ACCEPTED").await;

    // A destroy that does nothing stays owed, comes again when told to, and is over when an operator says so.
    let owed = world.market.label_of(&kept).unwrap();
    world.market.set_fault("destroy_ignored", "1").unwrap();
    done(&format!("sessions destroy {id} --no-wait")).await;
    let tries = async || {
        let debts = done("ops debts").await;
        let mine = debts["destroys"].as_array().unwrap().iter().find(|debt| debt["instance"]["label"] == owed.as_str()).cloned();
        mine.and_then(|debt| debt["instance"]["destroy_tries"].as_u64()).unwrap_or_default()
    };
    tokio::time::timeout(PATIENCE, async {
        while tries().await == 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .unwrap();
    let retried = done(&format!("ops retry {owed}")).await;
    assert!(retried.to_string().contains(&id), "{retried}");
    assert!(world.market.alive().contains(&kept));
    // The next list shows it alive, and it would be owed anew.
    done("ops hold vastai sweeper --reason we-look-again").await;
    done(&format!("ops settle {owed} --reason paid-by-hand --yes")).await;
    server.until(&id, State::Stopped).await;
    assert_eq!(tries().await, 0, "nothing is owed any more");
    refused(&format!("ops settle {owed} --reason twice --yes"), "DEBT_SETTLED").await;
    let audit = done("ops audit").await.to_string();
    for action in ["set_hold", "lift_hold", "adopt_instance", "destroy_instance", "retry_destroy", "settle_instance", "paid-by-hand"] {
        assert!(audit.contains(action), "{action}: {audit}");
    }
    // It was not gone: let go, the sweeper sends it the way of all that is ours.
    world.market.set_fault("destroy_ignored", "0").unwrap();
    done("ops hold vastai sweeper --lift").await;
    wait_for("the adopted one's end", || !world.market.alive().contains(&kept)).await;
    assert!(world.market.alive().contains(&theirs), "what is not ours is left alone");
    server.stop().await;
    world.stop().await;
}

/// `load` against a built server: it rents, watches with some who read nothing, and counts what came; then everything is over.
#[tokio::test(flavor = "multi_thread")]
async fn load_rents_watches_and_counts_what_came() {
    let (world, home) = (world(530, Faults::none()).await, tempfile::tempdir().unwrap());
    let server = Served::ready(home.path(), &pointed_at(&world, home.path()), 2).await;
    let load = async |line: &str| {
        let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_gpu-shopper"));
        program.args(line.split(' ')).args(["-o", "json"]).env("GPU_SHOPPER_URL", &server.url).current_dir(home.path());
        let ran = program.output().await.unwrap();
        assert_eq!(ran.status.code(), Some(0), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
        serde_json::from_slice::<serde_json::Value>(&ran.stdout).unwrap()
    };
    let kept = load("load sessions --count 2 --in-flight 2 --keep --market-is-simulated").await;
    assert_eq!((&kept["errors"], world.market.alive().len()), (&serde_json::json!({}), 2), "{kept}");
    for everything in ["", " --everything"] {
        let told = load(&format!("load watch --streams 6 --stalled 2 --rate 5 --for 1s{everything}")).await;
        let fact = |name: &str| told["facts"][name].as_u64().unwrap();
        let arrivals = if everything.is_empty() { 5 * 3 } else { 5 * 6 };
        assert_eq!((fact("changes"), fact("arrivals"), fact("arrivals_expected")), (5, arrivals, arrivals), "{told}");
        assert_eq!((fact("streams_not_read"), fact("streams_broken")), (2, 0), "{told}");
    }
    let markets = format!("--market {} --market {}", world.vastai_url, world.tensordock_url);
    let whole = load(&format!("load sessions --count 2 --in-flight 2 --market-is-simulated {markets}")).await;
    assert_eq!((&whole["errors"], world.market.alive().len()), (&serde_json::json!({}), 2), "{whole}");
    let times = whole["parts"][0]["times"].as_array().unwrap();
    let from_ssh = times.iter().filter(|time| ["SSH server to RUNNING", "the same by a proxy"].map(Some).contains(&time[0].as_str()));
    let from_ssh: Vec<_> = from_ssh.map(|time| (time[1]["count"].as_u64().unwrap(), time[1]["max_us"].as_u64().unwrap())).collect();
    assert_eq!(from_ssh.iter().map(|(count, _)| count).sum::<u64>(), 2, "{whole}");
    let ran = times[1][1]["max_us"].as_u64().unwrap();
    assert!(from_ssh.iter().all(|(_, since)| (1..=ran).contains(since)), "the server came to listen after the create: {whole}");
    server.stop().await;
    world.stop().await;
}
