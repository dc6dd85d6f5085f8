//! TROUBLESHOOTING.md as its reader meets it: every command of it, pasted, against a server with something to see; and its
//! symptoms, provoked, with the cure it gives.
//!
//! Symptoms that take hours, or a start that fails, are provoked elsewhere: `endings` (expiry, hard limit, idle, cost limit,
//! lost hosts, credit), `process` (ports, databases, credentials), `sweep` and `ops` (strays, debts, holds).

use crate::child::{Env, Served, http, pointed_at, wanted, world};
use crate::json_port::call;
use gpu_shopper::grpc::pb::session::State;
use gpu_shopper::sim::{ALWAYS, Fault, Faults};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncReadExt;

const PAGE: &str = include_str!("../../TROUBLESHOOTING.md");

/// The lines of all shell blocks of the page.
fn commands() -> Vec<&'static str> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in PAGE.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside && !line.trim().is_empty() {
            lines.push(line.trim());
        }
    }
    lines
}

/// What stands in the page for what a reader has.
struct Reader {
    folder: PathBuf,
    exports: Vec<(String, String)>,
    replace: Vec<(String, String)>,
}

impl Reader {
    fn command(&self, line: &str) -> tokio::process::Command {
        let line = self.replace.iter().fold(line.to_owned(), |line, (from, to)| line.replace(from, to));
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", &line]).current_dir(&self.folder).envs(self.exports.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).process_group(0);
        command
    }

    /// Runs a line to its end; what it printed.
    async fn paste(&self, line: &str) -> String {
        let output = self.command(line).output().await.unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(output.status.success(), "`{line}` ended with {}:\n{out}{err}", output.status);
        out
    }

    /// Starts a line with a server in it, uses that server, ends it; everything the line printed.
    async fn serve(&self, line: &str, session: &str) -> String {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        // The port of the page comes first, then a free one in its place.
        let line = if line.contains("SERVER_PORT=8081") { line.replace("8081", &port) } else { format!("export SERVER_PORT={port}; {line}") };
        let mut running = self.command(&format!("exec 2>&1; {line}")).spawn().unwrap();
        let mut out = running.stdout.take().unwrap();
        let heard = tokio::spawn(async move {
            let mut all = String::new();
            out.read_to_string(&mut all).await.map(|_| all)
        });
        let url = format!("http://127.0.0.1:{port}");
        let answers = async |path: &str| http().get(format!("{url}{path}")).send().await.is_ok_and(|answer| answer.status() == 200);
        let mut ready = false;
        for _ in 0..600 {
            ready = answers("/ready").await;
            if ready || running.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        if ready {
            assert!(answers(&format!("/api/v1/sessions/{session}/diagnostics")).await, "{line}");
            let holder = std::fs::read_to_string(self.folder.join("data/gpu-shopper.db.lock")).unwrap();
            let pid: String = holder.split("pid ").nth(1).unwrap().chars().take_while(char::is_ascii_digit).collect();
            assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        }
        let all = heard.await.unwrap().unwrap();
        assert!(ready, "`{line}` did not come to serve:\n{all}");
        all
    }
}

/// A session that runs, with its key in a file.
async fn rented(server: &Served, provider: &str, key: &Path) -> String {
    let created = server.sessions().await.create_session(wanted(provider)).await.unwrap().into_inner();
    let id = created.session.unwrap().session_id;
    std::fs::write(key, &created.ssh_private_key).unwrap();
    server.until(&id, State::Running).await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_page_works() {
    let (world, home) = (world(501, Faults::none()).await, tempfile::tempdir().unwrap());
    let env = |folder: &Path| {
        let mut all = pointed_at(&world, folder);
        all.insert("DATABASE_PATH".to_owned(), folder.join("data/gpu-shopper.db").display().to_string());
        all
    };
    let (here, there) = (home.path().join("here"), home.path().join("there"));
    std::fs::create_dir_all(&here).unwrap();
    std::fs::create_dir_all(&there).unwrap();
    // A server that was ended and left its machine running, for the lines that start one.
    let other = Served::ready(&there, &env(&there), 2).await;
    let kept = rented(&other, "tensordock", &there.join("key")).await;
    other.stop().await;
    let server = Served::ready(&here, &env(&here), 2).await;
    let session = rented(&server, "vastai", &here.join("the key")).await;
    let doomed = rented(&server, "tensordock", &here.join("other")).await;
    let over = rented(&server, "vastai", &here.join("third")).await;
    server.complete(&over).await;
    server.until(&over, State::Stopped).await;
    std::fs::write(here.join("logs.txt"), "VASTAI_API_KEY=abc Authorization: Bearer def\n").unwrap();

    let own = Path::new(env!("CARGO_BIN_EXE_gpu-shopper")).parent().unwrap().display().to_string();
    let path = format!("{own}:{}:/usr/sbin", std::env::var("PATH").unwrap());
    let reader = |folder: &Path| Reader {
        folder: folder.to_owned(),
        exports: vec![
            ("PATH".to_owned(), path.clone()),
            ("GPU_SHOPPER_URL".to_owned(), server.url.clone()),
            ("DATABASE_PATH".to_owned(), folder.join("data/gpu-shopper.db").display().to_string()),
            ("no_proxy".to_owned(), "*".to_owned()),
            ("VASTAI_API_KEY".to_owned(), world.keys.vastai_key.clone()),
            ("VASTAI_BASE_URL".to_owned(), world.vastai_url.clone()),
            ("TENSORDOCK_AUTH_ID".to_owned(), world.keys.tensordock_auth_id.clone()),
            ("TENSORDOCK_API_TOKEN".to_owned(), world.keys.tensordock_token.clone()),
            ("TENSORDOCK_BASE_URL".to_owned(), world.tensordock_url.clone()),
        ],
        replace: [
            ("http://localhost:8080", server.url.as_str()),
            (":8080", server.url.trim_start_matches("http://127.0.0.1")),
            ("https://console.vast.ai", &world.vastai_url),
            ("https://dashboard.tensordock.com", &world.tensordock_url),
            ("CONSUMER", "tester"),
            ("KEY --", "'the key' --"),
            ("chmod 600 KEY", "chmod 600 'the key'"),
            ("curl", "curl --silent --show-error --fail --max-time 90"),
        ]
        .map(|(from, to)| (from.to_owned(), to.to_owned()))
        .to_vec(),
    };
    let (main, starting) = (reader(&here), reader(&there));
    let mut said: Vec<(&str, String)> = Vec::new();
    for line in commands() {
        if line.contains("gpu-shopper serve") {
            let all = starting.serve(line, &kept).await;
            let wanted = if line.contains("grep -i ssh") { "ssh" } else { "listens on" };
            assert!(all.to_lowercase().contains(wanted), "`{line}` says:\n{all}");
            continue;
        }
        let tool = line.split(' ').next().unwrap();
        let piped = line.rsplit('|').next().unwrap().trim().split(' ').next().unwrap();
        let there = async |tool: &str| {
            let mut look = tokio::process::Command::new("sh");
            look.args(["-c", "command -v \"$0\" >/dev/null", tool]).env("PATH", &path).status().await.unwrap().success()
        };
        if !there(tool).await || !there(piped).await && line.contains("jq") {
            println!("{tool} or {piped} is not installed: `{line}` was not tried");
            continue;
        }
        // What ends a session has one of its own, and what follows one to its end has one that has ended.
        let of = if line.contains("DELETE") {
            &doomed
        } else if line.contains("/events") {
            &over
        } else {
            &session
        };
        let line_of = line.replace("SESSION", of);
        said.push((line, main.paste(&line_of).await));
    }
    let says = |part: &str, wanted: &str| {
        let all: Vec<_> = said.iter().filter(|(line, _)| line.contains(part)).collect();
        assert!(all.iter().all(|(_, said)| said.contains(wanted)), "{part}: {wanted} is not in {all:?}");
    };
    says("/health", "\"status\"");
    says("wc -c", "65");
    says("users/current", "\"credit\"");
    says("jq '.status'", "running");
    says("jq '.ssh_host", "127.0.0.1");
    says("DELETE", "stopped");
    says("/events", "completed");
    says("min_vram=16\"", "vram_gb");
    says("--explain", "TURNS AWAY");
    says("nvidia-smi", "GPU 0: NVIDIA");
    says("rotate-key", "takes the new key");
    assert!(std::fs::read_to_string(here.join("new.pem")).unwrap().contains("PRIVATE KEY"));
    says("status = 'failed'", "");
    says("LIMIT 10", "tester");
    says("sed ", "REDACTED");
    says("/metrics", "gpu_provider_api_errors_total");
    says("costs?session_id", "total_cost");
    says("costs/summary", "period_start");
    assert!(said.len() > 40, "{} lines were tried", said.len());
    server.stop().await;
    world.stop().await;
}

// === the symptoms, over the calls that the page gives ===

/// A server that looks closely, so that what happens to machines is soon known.
async fn close(folder: &Path, env: Env) -> Served {
    let mut env = env;
    env.extend(crate::child::env(&[("LIFECYCLE_CHECK_INTERVAL", "5s"), ("LIFECYCLE_RECONCILIATION_INTERVAL", "10s"), ("DEPLOYMENT_ID", "guide")]));
    Served::ready(folder, &env, 2).await
}

async fn get(server: &Served, path: &str) -> Value {
    let (status, body) = call(server, "GET", path, Value::Null).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// Asks for a session again and again until it is as wanted.
async fn until(server: &Served, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..1200 {
        last = get(server, &format!("/api/v1/sessions/{id}")).await;
        if wanted(&last) {
            return last;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("it never came to that: {last}")
}

async fn metric(server: &Served, name: &str) -> f64 {
    let (_, text) = server.get("/metrics").await;
    let values = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_offers_a_stuck_machine_and_the_limits_are_told_with_their_cure() {
    let faults = Faults::none().with(Fault::ImageStuck, ALWAYS);
    let (world, home) = (world(502, faults).await, tempfile::tempdir().unwrap());
    let server = close(home.path(), pointed_at(&world, home.path())).await;

    // Nothing fits: without filters there is something, and the refusal says what would help.
    assert!(!get(&server, "/api/v1/inventory").await["offers"].as_array().unwrap().is_empty());
    assert_eq!(get(&server, "/api/v1/inventory?min_vram=16&max_price=0.0001").await["offers"], json!([]));
    let body = json!({"consumer_id": "guide", "requirements": {"filter": {"max_price_per_hour": 0.0001}}, "workload_type": "ssh"});
    let (status, refused) = call(&server, "POST", "/api/v1/sessions", body).await;
    assert_eq!((status, &refused["error_type"], &refused["retry_suggested"]), (503, &json!("stale_inventory"), &json!(true)), "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("No offers available"), "{refused}");

    // Stuck in provisioning: no address yet, what is waited for, and the way out of any state.
    let body = json!({"consumer_id": "guide", "requirements": {"filter": {"providers": ["vastai"]}}, "workload_type": "ssh", "reservation_hours": 1});
    let (_, created) = call(&server, "POST", "/api/v1/sessions", body).await;
    let id = created["session"]["id"].as_str().unwrap().to_owned();
    let stuck = until(&server, &id, |s| s["stage"] == "image_pulling").await;
    assert_eq!(stuck["status"], "provisioning", "{stuck}");
    assert!(stuck.get("ssh_host").is_none_or(|host| host.is_null() || host == ""), "nobody can log in yet: {stuck}");
    let diagnosed = get(&server, &format!("/api/v1/sessions/{id}/diagnostics")).await;
    assert!(diagnosed.to_string().contains("image_pulling"), "{diagnosed}");
    let (status, gone) = call(&server, "DELETE", &format!("/api/v1/sessions/{id}?wait=60s"), Value::Null).await;
    assert_eq!((status, &gone["session"]["status"]), (200, &json!("stopped")), "{gone}");

    // Twelve hours and no more, whatever is asked for.
    world.market.set_faults(Faults::none());
    let body =
        json!({"consumer_id": "guide", "requirements": {"filter": {"providers": ["tensordock"]}}, "workload_type": "ssh", "reservation_hours": 12});
    let (status, created) = call(&server, "POST", "/api/v1/sessions?wait=60s", body.clone()).await;
    assert_eq!((status, &created["session"]["status"]), (201, &json!("running")), "{created}");
    let id = created["session"]["id"].as_str().unwrap().to_owned();
    let (status, refused) = call(&server, "POST", &format!("/api/v1/sessions/{id}/extend"), json!({"additional_hours": 1})).await;
    assert_eq!((status, &refused["error_type"]), (400, &json!("hard_max_exceeded")), "{refused}");

    // A slip in a name is an empty report, a session that never was is not free of charge.
    let typo = get(&server, "/api/v1/costs?consumer_id=giude").await;
    assert_eq!((&typo["total_cost"], &typo["session_count"]), (&json!(0), &json!(0)), "{typo}");
    assert_eq!(call(&server, "GET", "/api/v1/costs?session_id=01kaphz700fay8vvr14d2pf2db", Value::Null).await.0, 404);
    let (_, done) = call(&server, "POST", &format!("/api/v1/sessions/{id}/done?wait=60s"), Value::Null).await;
    assert_eq!(done["session"]["status"], "stopped", "{done}");
    let bill = get(&server, &format!("/api/v1/costs?session_id={id}")).await;
    assert!(bill["total_cost"].as_f64().unwrap() > 0.0, "{bill}");
    server.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_strays_and_machines_that_do_not_go_are_told_with_their_cure() {
    let (world, home) = (world(503, Faults::none()).await, tempfile::tempdir().unwrap());
    let server = close(home.path(), pointed_at(&world, home.path())).await;

    // Outbid: failed, with its reason, in the database too.
    let body = json!({"consumer_id": "guide", "rental_kind": "interruptible", "requirements": {"filter": {"providers": ["vastai"]}}});
    let (status, created) = call(&server, "POST", "/api/v1/sessions?wait=60s", body).await;
    assert_eq!(status, 201, "{created}");
    let id = created["session"]["id"].as_str().unwrap().to_owned();
    let machine = world.market.truth().into_iter().find(|m| m.alive).unwrap().native_id;
    assert!(world.market.preempt(&machine));
    let over = until(&server, &id, |s| s["status"] == "failed").await;
    assert_eq!(over["end_reason"], "preempted", "{over}");
    assert!(!over["error"].as_str().unwrap().is_empty() && !over["stopped_at"].is_null(), "{over}");

    // A machine with our label that no record knows, and one with another deployment's: told, and left alone.
    let label = |deployment: &str| format!("gs-{}-01kaphz700fay8vvr14d2pf2db-1", gpu_shopper::app::tag_of(deployment));
    let account = world.market.first_account(gpu_shopper::sim::Dialect::Vastai).unwrap();
    for deployment in ["guide", "another"] {
        assert!(world.market.plant(account, &label(deployment)).is_some());
    }
    let (mut strays, mut foreign) = (Value::Null, Value::Null);
    for _ in 0..600 {
        (strays, foreign) = (get(&server, "/api/v1/ops/strays").await, get(&server, "/api/v1/ops/foreign").await);
        if strays.to_string().contains(&label("guide")) && foreign.to_string().contains(&label("another")) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(strays.to_string().contains(&label("guide")) && !strays.to_string().contains(&label("another")), "{strays}");
    assert!(foreign.to_string().contains(&label("another")), "{foreign}");
    assert!(metric(&server, "gpu_orphans_detected_total").await >= 1.0);

    // Destroys that fail: seen, counted, and tried until they work. A young machine is not to be deleted yet.
    let mut refusing = Faults::none().with(Fault::DestroyRefused, ALWAYS);
    refusing.set("undeletable", "25s").unwrap();
    world.market.set_faults(refusing);
    let body = json!({"consumer_id": "guide", "requirements": {"filter": {"providers": ["vastai"]}}});
    let (_, created) = call(&server, "POST", "/api/v1/sessions?wait=60s", body).await;
    let id = created["session"]["id"].as_str().unwrap().to_owned();
    let (status, told) = call(&server, "DELETE", &format!("/api/v1/sessions/{id}"), Value::Null).await;
    assert_eq!((status, &told["session"]["status"]), (202, &json!("stopping")), "nothing is confirmed yet: {told}");
    let mut debts = Value::Null;
    for _ in 0..600 {
        debts = get(&server, "/api/v1/ops/unconfirmed-destroys").await;
        if metric(&server, "gpu_destroy_failures_total").await > 0.0 && debts.to_string().contains("not ready") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(debts.to_string().contains("not ready"), "{debts}");
    let failing = get(&server, &format!("/api/v1/sessions/{id}")).await;
    assert!(failing["error"].as_str().unwrap().contains("is tried again"), "{failing}");
    server.child.says("a destroy failed and is tried again").await;
    assert!(metric(&server, "gpu_unconfirmed_destroys").await > 0.0 && metric(&server, "gpu_at_risk_usd_per_hour").await > 0.0);
    let over = until(&server, &id, |s| s["status"] == "stopped").await;
    assert!(over["error"].is_null() || over["error"] == "", "{over}");

    let ended = server.stop().await;
    for secret in [&world.keys.vastai_key, &world.keys.tensordock_token] {
        assert!(!ended.err.contains(secret.as_str()), "there is nothing to take out of a log");
    }
    let database = home.path().join("house.db");
    let sql = "SELECT status, end_reason FROM sessions WHERE status = 'failed' ORDER BY created_at DESC;";
    match std::process::Command::new("sqlite3").args([database.to_str().unwrap(), sql]).output() {
        Ok(found) => assert_eq!(String::from_utf8_lossy(&found.stdout).trim(), "failed|preempted"),
        Err(_) => println!("sqlite3 is not installed: its line was not tried"),
    }
    world.stop().await;
}
