//! The demo as its user meets it: one command, its output, its exit code, and the lines it prints to paste.

use crate::child::{Child, Ended, Env, env};
use std::path::Path;
use std::process::Stdio;

async fn demo(args: &[&str], folder: &Path, env: &Env) -> Ended {
    Child::start(&[&["demo"], args].concat(), folder, env).end().await
}

fn holds_all(ended: &Ended, wanted: &[&str]) {
    for one in wanted {
        assert!(ended.out.contains(one) || ended.err.contains(one), "`{one}` is not in:\n{}\n{}", ended.out, ended.err);
    }
}

/// A folder and an environment full of real settings, none of which the demo may touch: they lead nowhere.
fn poisoned(folder: &Path) -> Env {
    let canary = "deadbeef".repeat(8);
    let dead = "http://127.0.0.1:9";
    let settings = format!("VASTAI_API_KEY={canary}\nVASTAI_BASE_URL={dead}\nTENSORDOCK_BASE_URL={dead}\nSERVER_PORT=nonsense\n");
    std::fs::write(folder.join(".env"), &settings).unwrap();
    std::fs::write(
        folder.join("gpu-shopper.toml"),
        format!("[providers.vastai]\napi_key = \"{canary}\"\nbase_url = \"{dead}\"\n[server]\nport = 1\n"),
    )
    .unwrap();
    let mut all = env(&[
        ("VASTAI_BASE_URL", dead),
        ("TENSORDOCK_BASE_URL", dead),
        ("TENSORDOCK_AUTH_ID", "deadbeef-0000-4000-8000-000000000000"),
        ("TENSORDOCK_API_TOKEN", "deadbeef-token"),
        ("VASTAI_API_KEY_FILE", "/nonexistent"),
        ("DEPLOYMENT_ID", "deadbeef-deployment"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", dead),
        ("http_proxy", dead),
        ("https_proxy", dead),
        ("all_proxy", dead),
        ("SERVER_PORT", "0"),
        ("LOG_LEVEL", "debug"),
    ]);
    all.insert("VASTAI_API_KEY".to_owned(), canary);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_plays_the_main_job_and_touches_nothing_real() {
    let home = tempfile::tempdir().unwrap();
    let mut env = poisoned(home.path());
    env.insert("DATABASE_PATH".to_owned(), "kept/here.db".to_owned());
    let ended = demo(&["--once"], home.path(), &env).await;
    assert_eq!(ended.status.code(), Some(0), "{}\n{}", ended.out, ended.err);
    let order = [
        "offers",
        "is durable",
        "PENDING",
        "PROVISIONING",
        "RUNNING",
        "the reservation counts",
        "ssh -p",
        "GPU 0: NVIDIA",
        "done",
        "STOPPING",
        "STOPPED",
        "in all, final",
    ];
    let mut rest = ended.out.as_str();
    for next in order {
        let Some((_, after)) = rest.split_once(next) else { panic!("`{next}` does not come in its turn:\n{}", ended.out) };
        rest = after;
    }
    holds_all(&ended, &["kept/here.db", "(simulated)"]);
    for (place, text) in [("output", &ended.out), ("log", &ended.err)] {
        assert!(!text.contains("deadbeef"), "a real setting came into its {place}:\n{text}");
    }
    // Real and simulated machines never share a database.
    let real = crate::child::env(&[("SERVER_PORT", "0"), ("DATABASE_PATH", "kept/here.db"), ("VASTAI_API_KEY", &"ab".repeat(32))]);
    let served = Child::start(&["serve"], home.path(), &real).end().await;
    assert_eq!(served.status.code(), Some(1));
    holds_all(&served, &["belongs to a demo", "DATABASE_PATH"]);
    let bytes = std::fs::read(home.path().join("kept/here.db")).unwrap();
    assert!(bytes.starts_with(b"SQLite format 3") && !bytes.windows(8).any(|part| part == b"deadbeef"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_is_told_and_is_no_success() {
    let home = tempfile::tempdir().unwrap();
    let any = env(&[("SERVER_PORT", "0")]);
    let refused = demo(&["--once", "--fault", "stale_ask=1"], home.path(), &any).await;
    assert_eq!(refused.status.code(), Some(1), "{}\n{}", refused.out, refused.err);
    holds_all(&refused, &["error: ", "the session ended as FAILED before it ran", "offers were refused"]);
    assert!(!refused.out.contains("RUNNING"));

    let no_offers = demo(&["--once", "--fault", "offers_fail=1"], home.path(), &any).await;
    assert_eq!(no_offers.status.code(), Some(1));
    holds_all(&no_offers, &["error: No offers available"]);

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let taken = demo(&["--once"], home.path(), &env(&[("SERVER_PORT", &port)])).await;
    assert_eq!(taken.status.code(), Some(1));
    holds_all(&taken, &["error: address already in use", &port, "SERVER_PORT"]);

    let nonsense = demo(&["--once", "--fault", "no_such_fault=1"], home.path(), &any).await;
    assert_eq!(nonsense.status.code(), Some(1));
    holds_all(&nonsense, &["no_such_fault", "stale_ask"]);
}

/// Runs a line as if it had been pasted into a shell after these exports.
async fn paste(exports: &str, line: &str, folder: &Path) -> Result<String, String> {
    let home = std::env::var("HOME").unwrap_or_default();
    let path = format!("{}:{home}/go/bin", std::env::var("PATH").unwrap_or_default());
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", &format!("{exports}\n{line}")]).current_dir(folder).env("PATH", path).env("no_proxy", "*").stdin(Stdio::null());
    let output = command.kill_on_drop(true).output().await.map_err(|e| e.to_string())?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    if output.status.success() { Ok(out) } else { Err(format!("`{line}` ended with {}:\n{out}{err}", output.status)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_to_paste_work() {
    lines_work("127.0.0.1").await;
}

/// Beyond loopback callers must say who they are, and the lines do.
#[tokio::test(flavor = "multi_thread")]
async fn the_lines_to_paste_work_where_callers_need_a_token() {
    lines_work("0.0.0.0").await;
}

async fn lines_work(host: &str) {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().display().to_string();
    let running = Child::start(&["demo"], home.path(), &env(&[("SERVER_HOST", host), ("SERVER_PORT", "0"), ("TMPDIR", &folder)]));
    running.prints("Ctrl-C ends it").await;
    let printed = running.out();
    let (_, lines) = printed.split_once("Lines to paste:").unwrap();
    let mut exports = String::new();
    let mut pasted = Vec::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with("Ctrl-C")) {
        let tool = line.split(' ').next().unwrap();
        if tool == "export" {
            exports.push_str(line);
            exports.push('\n');
            continue;
        }
        if paste(&exports, &format!("command -v {tool}"), home.path()).await.is_err() {
            println!("{tool} is not installed: {line} was not tried");
            continue;
        }
        // As pasted, but that an answer of an error fails and nothing waits for ever.
        let tried = match tool {
            "curl" => line.replacen("curl", "curl --silent --show-error --fail --max-time 30", 1),
            "grpcurl" if line.ends_with("/WatchSessions") => {
                format!("{} > watched; grep -q snapshotEnd watched", line.replacen("grpcurl", "grpcurl -max-time 2", 1))
            }
            "grpcurl" => line.replacen("grpcurl", "grpcurl -max-time 30", 1),
            _ => line.to_owned(),
        };
        let said = paste(&exports, &tried, home.path()).await.unwrap_or_else(|failure| panic!("{failure}\n{}", running.err()));
        assert!(!said.is_empty() || line.contains("WatchSessions"), "`{line}` says nothing");
        pasted.push((line.to_owned(), said));
    }
    let said = |part: &str| pasted.iter().find(|(line, _)| line.contains(part)).map(|(_, said)| said.as_str());
    for (line, wanted) in [
        ("/health", "\"status\":\"ok\""),
        ("/metrics", "gpu_sessions_active"),
        ("/api/v1/inventory?", "\"vram_gb\""),
        ("/api/v1/sessions?wait", "\"ssh_private_key\":\"-----BEGIN"),
        ("/api/v1/sessions?consumer_id", "\"consumer_id\":\"me\""),
        ("/api/v1/costs?", "\"total_cost\":0."),
        ("/bundles/", "\"offers\""),
        ("/api/v0/instances/", "\"instances\""),
        ("/locations", "v0Name"),
        ("Health/Check", "\"SERVING\""),
        ("/CreateSession", "sshPrivateKey"),
        ("gpu-shopper inventory", "RTX 4090"),
        ("gpu-shopper sessions list", "demo"),
        ("sqlite3", "stopped"),
    ] {
        if let Some(said) = said(line) {
            assert!(said.contains(wanted), "`{line}` says: {said}");
        }
    }
    assert!(pasted.iter().any(|(line, _)| line.starts_with("gpu-shopper")));
    running.terminate();
    let ended = running.end().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.err);
    let left: Vec<_> =
        std::fs::read_dir(home.path()).unwrap().filter_map(|e| e.unwrap().file_name().into_string().ok()).filter(|n| n.contains("demo")).collect();
    assert_eq!(left, Vec::<String>::new(), "its own database goes away with it");
}
