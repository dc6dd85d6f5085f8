//! What the program writes while it works: lines that say which request and which session they are about, the progress of SSH
//! verification, which providers are enabled and why others are not, and nothing that would have to be hidden.

use crate::child::{Child, Env, Served, env, pointed_at, wanted, world};
use gpu_shopper::grpc::pb::session::State;
use gpu_shopper::sim::Faults;
use std::io::Write as _;
use std::process::{Command, Stdio};
use tonic::Request;

fn with(env: &Env, pairs: &[(&str, &str)]) -> Env {
    let mut all = env.clone();
    all.extend(crate::child::env(pairs));
    all
}

/// What is left of a text by a filter of the shell.
fn filtered(text: &str, program: &str, arguments: &[&str]) -> String {
    let mut child = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = text.to_owned();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// One rental with a given name of its create, and everything that was written meanwhile.
async fn written(seed: u64, more: &[(&str, &str)]) -> (String, String) {
    let (world, home) = (world(seed, Faults::gentle()).await, tempfile::tempdir().unwrap());
    let server = Served::ready(home.path(), &with(&pointed_at(&world, home.path()), more), 2).await;
    let mut request = Request::new(wanted("vastai"));
    request.metadata_mut().insert("x-request-id", "the-name-of-the-call".parse().unwrap());
    let id = server.sessions().await.create_session(request).await.unwrap().into_inner().session.unwrap().session_id;
    server.until(&id, State::Running).await;
    server.complete(&id).await;
    server.until(&id, State::Stopped).await;
    let ended = server.stop().await;
    world.stop().await;
    (id, ended.err)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_says_which_request_and_session_it_is_about() {
    let (id, log) = written(191, &[("LOG_FORMAT", "json")]).await;
    // All of them: also what a person is told at the start and the end.
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    for told in ["gpu-shopper listens on http://127.0.0.1:", "callers need no token", "draining (at most ", "stopped; no session is open"] {
        let said = |line: &&serde_json::Value| line["message"].as_str().is_some_and(|message| message.starts_with(told));
        assert_eq!(lines.iter().filter(said).map(|line| &line["target"]).collect::<Vec<_>>(), ["gpu_shopper::cli"], "{told}");
    }
    assert!(lines.len() > 30, "{log}");
    for line in &lines {
        for key in ["timestamp", "level", "message", "target"] {
            assert!(line[key].is_string(), "{line}");
        }
        assert!(line.as_object().unwrap().keys().all(|key| !key.starts_with("otel.") && key != "spans"), "{line}");
    }
    let about = |line: &&serde_json::Value| line["session_id"] == id.as_str();
    // Wherever the id is mentioned at all it is also a field.
    let mention = lines.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.contains(&id)));
    assert!(mention.clone().count() > 5 && mention.into_iter().all(|line| about(&line)), "{log}");
    let created = lines.iter().filter(about).find(|line| line["event"] == "created").unwrap();
    assert_eq!(
        (created["request_id"].as_str(), created["state"].as_str(), created["revision"].is_i64()),
        (Some("the-name-of-the-call"), Some("pending"), true)
    );
    let running = lines.iter().filter(about).find(|line| line["state"] == "running").unwrap();
    assert_eq!((running["action"].as_str(), running["provider"].as_str(), running["attempt"].as_i64()), (Some("probe ssh"), Some("vastai"), Some(1)));
    let answered = lines.iter().filter(|line| line["message"] == "answered");
    assert!(answered.clone().count() > 2 && answered.into_iter().all(|line| line["request_id"].is_string()));
    // A provider's call is made for a request, long after its answer.
    let launches = lines.iter().filter(|line| line["operation"] == "launch");
    assert!(launches.clone().count() > 0 && launches.into_iter().all(|line| line["request_id"] == "the-name-of-the-call"), "{log}");
    // Which logins were whose.
    let logins = lines.iter().filter(|line| line["target"].as_str().is_some_and(|target| target.starts_with("gpu_shopper::ssh")));
    assert!(logins.clone().count() > 3 && logins.into_iter().all(|line| about(&line) && line["port"].is_i64()), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_shows_the_progress_of_ssh_and_has_nothing_to_hide() {
    for (seed, format) in [(192, "text"), (193, "json")] {
        let (id, log) = written(seed, &[("LOG_FORMAT", format)]).await;
        let ssh = filtered(&log, "grep", &["-i", "ssh"]);
        let steps = [
            "SSH: connecting",
            "SSH: connected; exchanging keys",
            "SSH: the login works",
            "SSH: nvidia-smi shows NVIDIA GeForce RTX",
            "waiting for its address and SSH",
        ];
        let mut from = 0;
        for step in [steps[4], steps[0], steps[1], steps[2], steps[3]] {
            let at = ssh[from..].find(step).unwrap_or_else(|| panic!("{format}: `{step}` is not next in:\n{ssh}"));
            from += at;
        }
        let named = format!("session_id={id}");
        assert!(ssh.lines().any(|line| line.contains("SSH: connecting") && (line.contains(&named) || line.contains(&id))), "{ssh}");
        for redaction in ["s/VASTAI_API_KEY=[^ ]*/VASTAI_API_KEY=REDACTED/g", "s/Authorization: Bearer [^ ]*/Authorization: Bearer REDACTED/g"] {
            assert!(filtered(&log, "sed", &[redaction]) == log, "{format}: {redaction} found something");
        }
        assert!(!log.contains('\u{1b}'), "no colours where nobody sees them");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_says_which_providers_are_enabled_and_why_others_are_not() {
    let (world, home) = (world(194, Faults::none()).await, tempfile::tempdir().unwrap());
    let mut env =
        with(&pointed_at(&world, home.path()), &[("LOG_LEVEL", "info"), ("LOG_FORMAT", "text"), ("RECONCILE_INTERVAL", "5m"), ("SERVER_PROT", "1")]);
    env.retain(|name, _| !name.starts_with("TENSORDOCK_A"));
    let server = Served::ready(home.path(), &env, 1).await;
    let log = server.stop().await.err;
    for line in [
        "Vast.ai is enabled",
        &format!("base_url={}", world.vastai_url),
        "TensorDock is not enabled: TENSORDOCK_AUTH_ID and TENSORDOCK_API_TOKEN not set",
        "provider ready",
        "did you mean LIFECYCLE_RECONCILIATION_INTERVAL?",
        "did you mean SERVER_PORT?",
    ] {
        assert!(log.contains(line), "`{line}` is not in:\n{log}");
    }
    assert!(!log.contains("DEBUG"), "{log}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_log_has_errors_alone_and_they_say_what_they_are_about() {
    let (world, home) = (world(195, Faults::none()).await, tempfile::tempdir().unwrap());
    let env = with(&pointed_at(&world, home.path()), &[("LOG_LEVEL", "error"), ("LOG_FORMAT", "json"), ("VASTAI_API_KEY", &"ab".repeat(32))]);
    let server = Served::ready(home.path(), &env, 1).await;
    server.child.says("Provider authentication failed").await;
    let log = server.stop().await.err;
    let all = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let lines: Vec<serde_json::Value> = all.filter(|line| line["target"] != "gpu_shopper::cli").collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line["level"] == "ERROR" && line["provider"] == "vastai"), "{log}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_an_exit_code() {
    let (world, home) = (world(196, Faults::none()).await, tempfile::tempdir().unwrap());
    let server = Served::ready(home.path(), &pointed_at(&world, home.path()), 2).await;
    let ask = |url: String, more: &'static [&'static str]| {
        let folder = home.path().to_owned();
        async move {
            let arguments: Vec<&str> = ["--server", &url, "health"].into_iter().chain(more.iter().copied()).collect();
            Child::start(&arguments, &folder, &env(&[])).end().await
        }
    };
    let well = ask(server.url.clone(), &[]).await;
    assert_eq!((well.status.code(), well.out.as_str()), (Some(0), "ready\n"), "{}", well.err);
    let json = ask(server.url.clone(), &["-o", "json"]).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json.out).unwrap()["ready"], true);
    let url = server.url.clone();
    server.stop().await;
    assert_eq!(ask(url, &["--live"]).await.status.code(), Some(7));
    world.stop().await;
}
