//! TROUBLESHOOTING.md as its reader meets it: every command of it, pasted, against a server with something to see; and its
//! symptoms, provoked, with the cure it gives.
//!
//! Symptoms that take hours, or a start that fails, are provoked elsewhere: `endings` (expiry, hard limit, idle, cost limit,
//! lost hosts, credit), `process` (ports, databases, credentials), `sweep` and `ops` (strays, debts, holds).

use crate::child::{Served, http, pointed_at, wanted, world};
use gpu_shopper::grpc::pb::session::State;
use gpu_shopper::sim::Faults;
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
        let there = async |tool: &str| main.command(&format!("command -v {tool}")).status().await.unwrap().success();
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
    says("--explain", "H200");
    says("nvidia-smi", "GPU 0: NVIDIA");
    says("rotate-key", "new.pem");
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
