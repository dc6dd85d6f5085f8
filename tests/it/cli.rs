//! The command line against a server of canned answers: what it asks, what it writes, how it ends.

mod load;
mod ops;
mod provision;
mod server;
mod tokens;

use clap::Parser;
use gpu_shopper::cli::client::Trust;
use gpu_shopper::cli::output::{Console, Format};
use gpu_shopper::cli::{Ask, Cli, Command, Desk, Interrupt, TokenSource, perform};
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::time::Time;
use gpu_shopper::grpc::pb;
use gpu_shopper::grpc::pb::session::State;
use prost::Message as _;
use prost::bytes::Bytes;
use provision::becomes_running;
use serde_json::Value;
use server::{ID, Mock, at, bookmark, event, running, session, snapshot, usd};
use std::io::Write;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// What was written; fires when it is what was waited for.
#[derive(Clone, Default)]
struct Page {
    bytes: Arc<Mutex<Vec<u8>>>,
    bell: Option<(&'static str, CancellationToken)>,
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        if let Some((needle, bell)) = &self.bell
            && self.text().contains(needle)
        {
            bell.cancel();
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }
}

/// What a command did.
struct Ran {
    code: u8,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

fn ask(cli: Cli) -> Ask {
    match cli.command {
        Command::Ask(ask) => *ask,
        other => panic!("{other:?} asks no server"),
    }
}

/// Runs a command line against the server. The clock shows 2026-11-23 22:00:00.
async fn gs(mock: &Mock, line: &[&str]) -> Ran {
    gs_until(mock, line, CancellationToken::new(), None).await
}

/// The same with an interrupt, which comes by itself once the output has `needle`.
async fn gs_until(mock: &Mock, line: &[&str], interrupt: CancellationToken, needle: Option<&'static str>) -> Ran {
    gs_answering(mock, line, interrupt, needle, None).await
}

/// The same with somebody at a terminal who answers this.
async fn gs_answering(mock: &Mock, line: &[&str], interrupt: CancellationToken, needle: Option<&'static str>, answer: Option<&'static str>) -> Ran {
    let server = mock.url();
    let cli = Cli::try_parse_from(["gpu-shopper", "--server", &server].iter().chain(line)).unwrap_or_else(|e| panic!("{e}"));
    let (out, err) = (Page { bell: needle.map(|n| (n, interrupt.clone())), ..Page::default() }, Page::default());
    // A clock that stands still: it began a day from now.
    let origin = tokio::time::Instant::now() + std::time::Duration::from_secs(86_400);
    let console = Console::plain(Box::new(out.clone()), Box::new(err.clone()), cli.global.output);
    let mut desk = Desk {
        console: match answer {
            Some(answer) => console.answered_by(Box::new(answer.as_bytes())),
            None => console,
        },
        server: cli.global.server.clone().unwrap(),
        trust: Trust::default(),
        token: TokenSource::Nowhere,
        clock: Clock::Simulated { begin: Time::from_sql("2026-11-23 22:00:00").unwrap(), origin },
        interrupt: Interrupt::Token(interrupt),
    };
    let code = perform(ask(cli), &mut desk).await;
    Ran { code, out: out.text(), err: err.text() }
}

fn offer(id: &str, count: i32, nanos: i32) -> pb::Offer {
    pb::Offer {
        offer_id: id.into(),
        provider: "vastai".into(),
        gpu_model: "RTX 4090".into(),
        gpu_count: count,
        gpu_memory_mib: 24_576,
        region: Some(pb::Region { country_code: "US".into(), area: "Texas".into(), text: "Texas, US".into() }),
        rental_kind: pb::RentalKind::OnDemand.into(),
        price: Some(pb::Price { total_per_hour: usd(0, nanos), total_text: "$0.2467/h".into(), ..Default::default() }),
        price_per_gpu_hour: usd(0, nanos / count),
        rented_disk_gb: 50,
        reliability: Some(0.987),
        max_cuda_version: "12.4".into(),
        confidence: 0.5,
        host_end_time: at("2026-12-01 00:00:00"),
        ..Default::default()
    }
}

fn encoded(offers: &[pb::Offer]) -> Vec<Bytes> {
    offers.iter().map(|offer| offer.encode_to_vec().into()).collect()
}

fn offers() -> pb::ListOffersResponse {
    pb::ListOffersResponse {
        offers: encoded(&[offer("vastai-1", 1, 246_666_667), offer("vastai-22222", 2, 600_000_000)]),
        total_size: 2,
        snapshot_time: at("2026-11-23 21:59:50"),
        providers: vec![
            pb::ProviderFreshness { provider: "tensordock".into(), error: "timed out".into(), ..Default::default() },
            pb::ProviderFreshness { provider: "vastai".into(), fetch_time: at("2026-11-23 21:59:48"), offer_count: 2, ..Default::default() },
        ],
        unreachable: vec!["tensordock".into()],
        ..Default::default()
    }
}

#[tokio::test]
async fn inventory_is_a_table_of_offers_with_its_age_beside_it() {
    let mock = Mock::start().await;
    mock.with(|m| m.offers = vec![Ok(offers())]);
    let ran =
        gs(&mock, &["inventory", "-g", "4090,h100", "--min-vram", "24", "--max-price", "0.40", "--spot", "--disk", "100", "-p", "vastai"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        ran.out,
        "OFFER         GPU       COUNT   VRAM  PRICE/H  $/GPU/H  KIND       REGION     RELIABILITY  CONFIDENCE  CUDA   DISK  HOST END\n\
         vastai-1      RTX 4090      1  24 GB  $0.2467  $0.2467  on-demand  US, Texas        98.7%       50.0%  12.4  50 GB  2026-12-01\n\
         vastai-22222  RTX 4090      2  24 GB  $0.6000  $0.3000  on-demand  US, Texas        98.7%       50.0%  12.4  50 GB  2026-12-01\n"
    );
    assert_eq!(
        ran.err,
        "tensordock: never fetched; vastai: 2 offers, 12s old\nwarning: tensordock could not be reached at the last try: timed out\n"
    );
    let asked = mock.with(|m| m.offers_asked.remove(0));
    assert_eq!((asked.order_by.as_str(), asked.page_size), ("price", 50));
    let filter = asked.filter.unwrap();
    assert_eq!(filter.gpu_models, ["4090", "h100"]);
    assert_eq!(filter.providers, ["vastai"]);
    assert_eq!((filter.min_gpu_memory_mib, filter.disk_gb), (Some(24_576), Some(100)));
    assert_eq!(filter.max_price_per_hour, usd(0, 400_000_000));
    assert_eq!(filter.rental_kind(), pb::RentalKind::Interruptible);
}

#[tokio::test]
async fn inventory_as_json_keeps_every_nano_and_follows_pages() {
    let mock = Mock::start().await;
    let first = pb::ListOffersResponse { next_page_token: "p2".into(), total_size: 3, ..offers() };
    let last = pb::ListOffersResponse { offers: encoded(&[offer("vastai-3", 1, 1)]), ..offers() };
    mock.with(|m| m.offers = vec![Ok(first), Ok(last)]);
    let ran = gs(&mock, &["inventory", "--all", "-o", "json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("\"total_per_hour\": 0.246666667,"), "{}", ran.out);
    assert!(ran.out.contains("\"total_per_hour\": 0.000000001,"), "{}", ran.out);
    let json = ran.json();
    let ids: Vec<&str> = json["offers"].as_array().unwrap().iter().map(|o| o["offer_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["vastai-1", "vastai-22222", "vastai-3"]);
    assert_eq!(json["next_page_token"], "");
    assert_eq!(json["offers"][0]["rental_kind"], "on_demand");
    assert_eq!(json["snapshot_time"], "2026-11-23T21:59:50.000Z");
    let tokens: Vec<String> = mock.with(|m| m.offers_asked.iter().map(|r| r.page_token.clone()).collect());
    assert_eq!(tokens, ["", "p2"]);
}

#[tokio::test]
async fn an_expired_page_begins_anew_once() {
    let mock = Mock::start().await;
    let mut details = ErrorDetails::new();
    details.set_error_info("PAGE_TOKEN_EXPIRED", "gpushopper", [("page_token".to_owned(), "p2".to_owned())]);
    let expired = Status::with_error_details(Code::InvalidArgument, "the page token's snapshot is gone", details);
    let first = pb::ListOffersResponse { next_page_token: "p2".into(), ..offers() };
    mock.with(|m| m.offers = vec![Ok(first), Err(expired), Ok(offers())]);
    let ran = gs(&mock, &["inventory", "--all", "-o", "json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.json()["offers"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn gpu_models_and_one_offer() {
    let mock = Mock::start().await;
    mock.with(|m| m.offers = vec![Ok(offers())]);
    let ran = gs(&mock, &["inventory", "gpus"]).await;
    assert_eq!(ran.out, "GPU        VRAM  OFFERS  GPUS  FROM $/GPU/H  PROVIDERS\nRTX 4090  24 GB       3     5       $0.2467  vastai, tensordock\n");
    let ran = gs(&mock, &["inventory", "get", "vastai-1"]).await;
    assert!(ran.out.contains("Price per hour    $0.2467\n"), "{}", ran.out);
    let ran = gs(&mock, &["inventory", "get", "vastai-404"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert_eq!(ran.err, "error: no offer vastai-404 (OFFER_NOT_FOUND)\n");
}

#[tokio::test]
async fn every_violation_is_shown_in_both_formats() {
    let mock = Mock::start().await;
    let refusal = || {
        let mut details = ErrorDetails::new();
        details.set_error_info("INVALID_FIELD", "gpushopper", [("count".to_owned(), "2".to_owned())]);
        details.add_bad_request_violation("filter.min_cuda", "`x`; allowed: `major.minor`");
        details.add_bad_request_violation("filter.gpu_count", "0; allowed: 1 to 1024");
        Status::with_error_details(Code::InvalidArgument, "2 fields are wrong", details)
    };
    mock.with(|m| m.offers = vec![Err(refusal()), Err(refusal())]);
    let ran = gs(&mock, &["inventory", "--min-cuda", "x", "--gpus", "0"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (4, ""));
    assert_eq!(
        ran.err,
        "error: 2 fields are wrong (INVALID_FIELD)\n  filter.min_cuda: `x`; allowed: `major.minor`\n  filter.gpu_count: 0; allowed: 1 to 1024\n"
    );
    let ran = gs(&mock, &["-o", "json", "inventory"]).await;
    let error: Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!((ran.code, &error["error"]["exit_code"]), (4, &Value::from(4)));
    assert_eq!(error["error"]["violations"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_watch_resumes_after_its_token_when_the_connection_is_lost() {
    let mock = Mock::start().await;
    let mut details = ErrorDetails::new();
    details.set_error_info("SERVER_DRAINING", "gpushopper", [("x".to_owned(), "y".to_owned())]);
    details.set_retry_info(Some(std::time::Duration::from_millis(1)));
    let drained = Status::with_error_details(Code::Unavailable, "the server is stopping", details);
    let mut end = event(4, State::Stopped, pb::Stage::GpuVerified, "every machine is proven gone");
    end.session = Some(session(State::Stopped));
    mock.with(|m| {
        m.watches = vec![
            vec![
                Ok(snapshot(running())),
                Ok(server::snapshot_end("t2")),
                Ok(server::told(event(3, State::Stopping, pb::Stage::GpuVerified, "its user is done"), "t3")),
                Ok(bookmark("t3b")),
                Err(drained),
            ],
            vec![Ok(server::told(end, "t4"))],
        ];
    });
    let ran = gs(&mock, &["sessions", "watch", ID]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        ran.out,
        "2026-11-23 21:30:30Z  running       gpu_verified\n\
         2026-11-23 21:30:30Z  stopping      gpu_verified   its user is done\n\
         2026-11-23 21:30:40Z  stopped       gpu_verified   every machine is proven gone\n"
    );
    assert!(ran.err.contains("connection lost (the server is stopping); trying again in"), "{}", ran.err);
    assert_eq!(mock.with(|m| m.tokens.clone()), ["", "t3b"]);
}

#[tokio::test]
async fn a_watch_whose_stream_just_stops_is_resumed_too_and_one_that_is_too_old_begins_anew() {
    let mock = Mock::start().await;
    let mut details = ErrorDetails::new();
    details.set_error_info("WATCH_COMPACTED", "gpushopper", [("oldest".to_owned(), "9".to_owned())]);
    let compacted = Status::with_error_details(Code::OutOfRange, "too old", details);
    mock.with(|m| {
        m.watches = vec![
            vec![Ok(server::told(event(3, State::Running, pb::Stage::GpuVerified, "ready"), "t3"))],
            vec![Err(compacted)],
            vec![Ok(snapshot(session(State::Stopped))), Ok(server::snapshot_end("t9"))],
        ];
    });
    let ran = gs(&mock, &["sessions", "watch", ID, "--resume", "t2", "-o", "json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let lines: Vec<Value> = ran.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["event"]["to_state"], "running");
    assert_eq!(lines[0]["resume_token"], "t3");
    assert_eq!(lines[1]["snapshot"]["state"], "stopped");
    assert!(lines[1].get("event").is_none());
    assert!(ran.err.contains("something may be missing"), "{}", ran.err);
    assert_eq!(mock.with(|m| m.tokens.clone()), ["t2", "t3", ""]);
}

#[tokio::test]
async fn a_watch_until_a_state_ends_there_and_a_failed_session_is_a_failure() {
    let mock = Mock::start().await;
    mock.with(|m| m.watches = vec![becomes_running()]);
    assert_eq!(gs(&mock, &["sessions", "watch", ID, "--until", "running"]).await.code, 0);
    let gone = pb::Session { end_reason: pb::EndReason::NoCapacity.into(), ..session(State::Failed) };
    mock.with(|m| m.watches = vec![vec![Ok(snapshot(gone)), Ok(server::snapshot_end("t9"))]]);
    assert_eq!(gs(&mock, &["sessions", "watch", ID, "--until", "running"]).await.code, 6);
    let ran = gs(&mock, &["sessions", "watch", ID, "-c", "alice"]).await;
    assert_eq!(ran.code, 2, "{}", ran.err);
}

#[tokio::test]
async fn all_sessions_are_watched_with_their_ids_until_interrupted() {
    let mock = Mock::start().await;
    let line = ["sessions", "watch", "-c", "alice", "--state", "running"];
    let ran = gs_until(&mock, &line, CancellationToken::new(), Some("done [completed]\n")).await;
    assert_eq!(ran.code, 130);
    assert_eq!(
        ran.out,
        format!(
            "2026-11-23 21:30:30Z  {ID}  running       gpu_verified\n2026-11-23 21:30:30Z  {ID}  stopping      gpu_verified   done [completed]\n"
        )
    );
    assert!(ran.err.contains("1 running; $0.2467 per hour; waiting for events\n"), "{}", ran.err);
    assert!(ran.err.contains("resume with --resume a3\n"), "{}", ran.err);
}

#[tokio::test]
async fn sessions_are_listed_shown_extended_and_labelled() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["sessions", "list", "--state", "running,stopping"]).await;
    assert_eq!(
        ran.out,
        format!(
            "SESSION                     STATE    STAGE         CONSUMER  PROVIDER  GPU           PRICE/H     COST     AGE  EXPIRES IN  REASON\n\
             {ID}  running  gpu_verified  alice     vastai    2 × RTX 4090  $0.2467  $0.1234  30m00s       1h30m  -\n"
        )
    );
    let ran = gs(&mock, &["sessions", "get", ID]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("CONDITION      HOLDS  WHY         SINCE\nssh_reachable  true   logged_in  29m30s\n"), "{}", ran.out);
    assert!(ran.out.contains("1  vastai-1  vastai    2 × RTX 4090  gpu_verified  -"), "{}", ran.out);
    let json = gs(&mock, &["sessions", "get", ID, "-o", "json"]).await.json();
    assert_eq!(json["session"]["conditions"][0]["type"], "ssh_reachable");
    assert_eq!(json["session"]["end_reason"], Value::Null);
    let ran = gs(&mock, &["sessions", "get", "nope"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (3, "error: no session nope (SESSION_NOT_FOUND)\n"));
    let ran = gs(&mock, &["sessions", "extend", ID, "2h"]).await;
    assert_eq!(ran.out, format!("session {ID} expires 2026-11-23 23:30:00Z (in 1h30m)\n"));
    let ran = gs(&mock, &["sessions", "extend", ID, "--until", "2026-11-24T00:00:00Z", "-o", "json"]).await;
    assert_eq!(ran.json()["session"]["session_id"], ID);
    let asked = mock.with(|m| std::mem::take(&mut m.extends_asked));
    use pb::extend_session_request::Extension;
    assert_eq!(asked[0].extension, Some(Extension::AdditionalDuration(prost_types::Duration { seconds: 7200, nanos: 0 })));
    assert_eq!(asked[1].extension, at("2026-11-24 00:00:00").map(Extension::ExpireTime));
    let ran = gs(&mock, &["sessions", "label", ID, "team=vision"]).await;
    assert_eq!(ran.out, format!("session {ID} has labels: team=vision\n"));
    for (asked, said) in [("30m", "ends when nobody used it for 30m00s"), ("off", "does not end for idleness")] {
        let ran = gs(&mock, &["sessions", "idle", ID, asked]).await;
        assert_eq!((ran.code, ran.out), (0, format!("session {ID} {said}\n")), "{}", ran.err);
    }
    let wrong = Cli::try_parse_from(["gpu-shopper", "sessions", "idle", ID, "never"]).unwrap_err().to_string();
    assert!(wrong.contains("or off"), "{wrong}");
    let ran = gs(&mock, &["sessions", "keep-alive", ID]).await;
    assert_eq!((ran.code, ran.out), (0, format!("session {ID} is taken to be in use\n")));
    assert!(ran.err.contains("it has no idle threshold"), "{}", ran.err);
}

#[tokio::test]
async fn templates_are_listed() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["inventory", "templates", "--name", "vllm"]).await;
    let want = "TEMPLATE  PROVIDER  NAME  IMAGE                  DISK  CUDA  PORTS\n\
                1b2c      vastai    vLLM  vllm/vllm-openai:v1  120 GB  12.4  8000\n";
    assert_eq!(ran.out, want);
    let json = gs(&mock, &["inventory", "templates", "--name", "vllm", "-o", "json"]).await.json();
    assert_eq!(json["templates"][0]["template_hash_id"], "1b2c");
}

#[tokio::test]
async fn a_key_is_changed_and_kept_from_others() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new.pem");
    let mock = Mock::start().await;
    let mut done = event(4, State::Running, pb::Stage::GpuVerified, "the machine takes the new key");
    done.session = Some(server::rekeyed(true));
    mock.with(|m| m.watches = vec![vec![Ok(server::told(done, "t4"))]]);
    let ran = gs(&mock, &["sessions", "rotate-key", ID, "--save-key", file.to_str().unwrap()]).await;
    assert_eq!((ran.code, ran.out), (0, format!("session {ID}: its machine takes the new key, and the one before no more\n")));
    assert!(!ran.err.contains("PRIVATE KEY"), "{}", ran.err);
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let asked = mock.with(|m| std::mem::take(&mut m.rotates_asked));
    assert_eq!((asked[0].session_id.as_str(), asked[0].ssh_public_key.as_ref(), asked[0].request_id.is_empty()), (ID, None, false));
    assert_eq!(mock.with(|m| m.tokens.clone()), ["rekey"], "watched from before the change");
    // A file that is there is never overwritten, and nothing is asked then.
    let ran = gs(&mock, &["sessions", "rotate-key", ID, "--save-key", file.to_str().unwrap()]).await;
    assert!(ran.code != 0 && ran.err.contains("exists already"), "{}", ran.err);
    let own = folder.path().join("own.pub");
    std::fs::write(&own, "ssh-ed25519 AAAA me\n").unwrap();
    let ran = gs(&mock, &["sessions", "rotate-key", ID, "--ssh-key", own.to_str().unwrap(), "--no-wait", "-o", "json"]).await.json();
    assert_eq!((&ran["installed"], &ran["ssh_private_key"]), (&Value::Bool(false), &Value::Null));
    let asked = mock.with(|m| std::mem::take(&mut m.rotates_asked));
    assert_eq!((asked.len(), asked[0].ssh_public_key.as_deref()), (1, Some("ssh-ed25519 AAAA me")));
}

#[tokio::test]
async fn done_and_destroy_wait_for_the_proven_end() {
    let mock = Mock::start().await;
    let mut end = event(4, State::Stopped, pb::Stage::GpuVerified, "every machine is proven gone");
    end.session = Some(pb::Session {
        end_reason: pb::EndReason::Completed.into(),
        cost: Some(pb::CostAmount { cost: usd(0, 123_456_789), ..Default::default() }),
        cost_final: true,
        ..session(State::Stopped)
    });
    mock.with(|m| m.watches = vec![vec![Ok(server::told(end.clone(), "t4"))], vec![Ok(server::told(end, "t4"))]]);
    let ran = gs(&mock, &["sessions", "done", ID, "--bad-machine"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.out, format!("session {ID} stopped [completed]; cost $0.123456789\n"));
    assert!(ran.err.contains("stopped       gpu_verified   every machine is proven gone"), "{}", ran.err);
    let ran = gs(&mock, &["sessions", "destroy", ID, "-o", "json"]).await;
    assert_eq!((ran.code, &ran.json()["session"]["state"]), (0, &Value::from("stopped")));
    assert_eq!(mock.with(|m| m.tokens.clone()), ["end", "end"]);
    for flag in ["--no-wait", "--wait=false"] {
        let ran = gs(&mock, &["sessions", "destroy", ID, flag]).await;
        assert_eq!((ran.code, ran.out), (0, format!("session {ID} stopping [completed]\n")));
    }
    assert_eq!(mock.with(|m| m.outcomes.clone()), [2]);
}

#[tokio::test]
async fn events_and_diagnostics() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["sessions", "events", ID]).await;
    assert_eq!(
        ran.out,
        "#  TIME                  EVENT          STATE    STAGE         REASON  BY       COST  WHAT\n\
         3  2026-11-23 21:30:30Z  state_changed  running  gpu_verified  -       service     -  ready\n"
    );
    let ran = gs(&mock, &["sessions", "diagnostics", ID]).await;
    assert!(ran.out.contains("GPU just now   NVIDIA GeForce RTX 4090, 24 GB\n"), "{}", ran.out);
    assert!(ran.out.contains("accepted  present  running"), "{}", ran.out);
    let ran = gs(&mock, &["sessions", "diagnostics", ID, "-o", "json"]).await;
    assert_eq!(ran.json()["fresh_gpu_report"]["gpus"][0]["memory_mib"], 24_576);
}

/// A program in place of ssh that tells what it was given, and the pinned key.
#[cfg(unix)]
fn fake_ssh(folder: &std::path::Path) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("ssh");
    let script = "#!/bin/sh\nfor a in \"$@\"; do case \"$a\" in UserKnownHostsFile=*) f=${a#*=}; f=${f#\\\"}; cat \"${f%\\\"}\";; esac; done\n\
                  echo \"$f\" | tr -d '\"' > \"$0.known\"\necho \"$@\" | sed 's/UserKnownHostsFile=[^ ]*/KNOWN/'\necho oops >&2\nexit 7\n";
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[cfg(unix)]
#[tokio::test]
async fn exec_pins_the_host_key_and_mirrors_the_exit_code() {
    let mock = Mock::start().await;
    let folder = tempfile::tempdir().unwrap();
    let program = fake_ssh(folder.path());
    let key = folder.path().join("key.pem");
    std::fs::write(&key, "K").unwrap();
    let key = key.to_str().unwrap();
    let ran = gs(&mock, &["-o", "json", "sessions", "exec", ID, "-i", key, "--ssh-program", &program, "--", "echo", "a b"]).await;
    assert_eq!(ran.code, 7, "{}", ran.err);
    let json = ran.json();
    assert_eq!((&json["exit_code"], &json["stderr"]), (&Value::from(7), &Value::from("oops\n")));
    assert_eq!(
        json["stdout"],
        format!(
            "[203.0.113.7]:41022 ssh-ed25519 AAAAC3Nz\n-p 41022 -l root -o StrictHostKeyChecking=yes -o KNOWN -o GlobalKnownHostsFile=/dev/null \
             -o UpdateHostKeys=no -i {key} -o IdentitiesOnly=yes 203.0.113.7 -- echo 'a b'\n"
        )
    );
    let pinned = std::fs::read_to_string(format!("{program}.known")).unwrap();
    assert!(pinned.contains("gpu-shopper-") && !std::path::Path::new(pinned.trim()).exists(), "{pinned}");
    let ran = gs(&mock, &["sessions", "ssh", ID, "--ssh-program", &program]).await;
    assert_eq!(ran.code, 7);
    let ran = gs(&mock, &["sessions", "exec", ID, "-i", "/nowhere/key", "--ssh-program", &program, "--", "true"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (1, "error: there is no private key /nowhere/key (FILE)\n"));
    let ran = gs(&mock, &["sessions", "exec", ID, "--ssh-program", "/nowhere/ssh", "--", "true"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("cannot run /nowhere/ssh"), "{}", ran.err);
}

#[tokio::test]
async fn ssh_config_known_hosts_and_a_session_that_does_not_run() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["sessions", "known-hosts", ID]).await;
    assert_eq!(ran.out, "[203.0.113.7]:41022 ssh-ed25519 AAAAC3Nz\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("known");
    let ran = gs(&mock, &["sessions", "ssh-config", ID, "--alias", "gpu", "--known-hosts", file.to_str().unwrap()]).await;
    assert_eq!(
        ran.out,
        format!(
            "Host gpu\n    HostName 203.0.113.7\n    Port 41022\n    User root\n    StrictHostKeyChecking yes\n    UserKnownHostsFile \"{}\"\n",
            file.display()
        )
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "[203.0.113.7]:41022 ssh-ed25519 AAAAC3Nz\n");
    let ran = gs(&mock, &["-o", "json", "sessions", "ssh", ID]).await;
    assert_eq!(ran.json()["ssh_command"], "ssh -p 41022 root@203.0.113.7");
    let ran = gs(&mock, &["sessions", "ssh", "pending"]).await;
    assert_eq!(ran.code, 5);
    assert!(ran.err.contains("is pending; only a running one can be used"), "{}", ran.err);
}

#[tokio::test]
async fn costs_add_up_and_a_last_day_is_included() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["costs", "--from", "2026-11-01", "--to", "2026-11-30", "--group-by", "consumer,label:team", "-c", "alice"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        ran.out,
        "CONSUMER  LABEL:TEAM          COST      AT LEAST       AT MOST  SESSIONS  GPU HOURS\n\
         alice     vision      $0.246666667  $0.246666667  $0.246666667         1       1.00\n\
         bob       -           $1.000000000  $0.900000000  $1.100000000         2       0.50\n\
         TOTAL                 $1.246666667  $1.146666667  $1.346666667         3       1.50\n"
    );
    assert!(ran.err.contains("not final") && ran.err.contains("not metered: traffic"), "{}", ran.err);
    let asked = mock.with(|m| m.reports_asked.remove(0));
    assert_eq!((asked.start_time, asked.end_time), (at("2026-11-01 00:00:00"), at("2026-12-01 00:00:00")));
    assert_eq!(asked.group_by, ["consumer", "label:team"]);
    assert_eq!(asked.filter.unwrap().consumer_id.as_deref(), Some("alice"));
    let ran = gs(&mock, &["costs", "-o", "json"]).await;
    assert!(ran.out.contains("\"cost\": 1.246666667,"), "{}", ran.out);
    assert_eq!(ran.json()["groups"][0]["gpu_time"], "3600s");
    let ran = gs(&mock, &["costs", "session", ID]).await;
    assert_eq!(
        ran.out,
        "PART           COST      AT LEAST       AT MOST\ngpu    $0.200000000  $0.200000000  $0.200000000\n\
         disk   $0.046666667  $0.046666667  $0.046666667\nTOTAL  $0.246666667  $0.246666667  $0.246666667\n"
    );
    let ran = gs(&mock, &["costs", "ledger", "--session", ID]).await;
    assert!(ran.out.contains("gpu   $0.246666666667/h  2026-11-23 21:30:30Z  running  $0.246666667\n"), "{}", ran.out);
}

#[tokio::test]
async fn providers_and_debts() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["providers"]).await;
    assert_eq!(
        ran.out,
        "PROVIDER    CREDENTIALS   ACCOUNT   BALANCE  OFFERS  FETCHED  LISTED  CALLS      FAILURES  OPEN  LAST ERROR\n\
         tensordock  token is bad  -               -       0        -       -  held back         3     0  1m00s ago: 401\n\
         vastai      ok            u-1      $12.3400     300      12s     30s  going out         0     2  -\n"
    );
    assert_eq!(gs(&mock, &["providers", "-o", "json"]).await.json()["providers"][1]["balance"].to_string(), "12.34");
    let ran = gs(&mock, &["debts"]).await;
    assert!(ran.out.contains("$0.2467"), "{}", ran.out);
    assert!(ran.err.contains("to end gs-5abn2v1n-x-1 at its vendor by hand: curl -X DELETE https://vendor/1\n"), "{}", ran.err);
}

#[tokio::test]
async fn why_so_few_and_what_is_remembered() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["inventory", "--max-price", "0.20", "--explain"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        ran.out,
        "FILTER              TURNS AWAY  ALONE  LEFT WITHOUT IT\n\
         max_price_per_hour           7      9                7\n\
         CHANGE ONE          TO         OFFERS  FROM $/H\n\
         max_price_per_hour  $0.2467/h       1   $0.2467\n"
    );
    assert!(ran.err.contains("none of 9 offers meets the request\n"), "{}", ran.err);
    assert!(ran.err.contains("2 more would fit, but are set aside"), "{}", ran.err);
    let json = gs(&mock, &["inventory", "--max-price", "0.20", "--explain", "-o", "json"]).await.json();
    assert_eq!(json["relaxations"][0]["filter"]["max_price_per_hour"].to_string(), "0.2");
    let asked = ["ops", "offer-health", "--set-aside", "--kind", "machine"];
    let ran = gs(&mock, &asked).await;
    assert_eq!(
        ran.out,
        "KIND     NAME      LAUNCHES  USABLE  CONFIDENCE  FAILURES                     SET ASIDE  LAST\n\
         machine  vastai:1         5       2       25.0%  auth_failed 2, offer_gone 1      5h59m  auth_failed, 1m00s ago\n\
         machine  vastai:2         5       2       25.0%  auth_failed 2, offer_gone 1      5h59m  auth_failed, 1m00s ago\n"
    );
    assert!(ran.err.contains("the memory only observes"), "{}", ran.err);
    let json = gs(&mock, &[&asked[..], &["-o", "json"]].concat()).await.json();
    assert_eq!(json["entries"].as_array().unwrap().len(), 2);
    assert_eq!(json["entries"][0]["failure_counts"]["auth_failed"], 2);
}

#[tokio::test]
async fn completions_are_written_for_every_shell() {
    let mock = Mock::start().await;
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = gs(&mock, &["completions", shell]).await;
        assert!(ran.code == 0 && ran.out.contains("provision") && ran.out.contains("ssh-config"), "{shell}");
    }
}

/// A reader that goes away in the middle.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    let mock = Mock::start().await;
    mock.with(|m| m.offers = vec![Ok(offers())]);
    let err = Page::default();
    let mut desk = Desk {
        console: Console::plain(Box::new(Gone), Box::new(err.clone()), Format::Table),
        server: mock.url().parse().unwrap(),
        trust: Trust::default(),
        token: TokenSource::Nowhere,
        clock: Clock::System,
        interrupt: Interrupt::Token(CancellationToken::new()),
    };
    let cli = Cli::try_parse_from(["gpu-shopper", "inventory"]).unwrap();
    assert_eq!(perform(ask(cli), &mut desk).await, 0);
    assert_eq!(err.text(), "");
}

#[tokio::test]
async fn everything_is_shown_before_it_is_ended_and_waited_for() {
    let mock = Mock::start().await;
    let shown = gs(&mock, &["drain"]).await;
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(shown.out.contains(ID) && shown.out.contains("running") && shown.out.contains("alice"), "{}", shown.out);
    assert!(shown.err.contains("1 session at $0.2467 per hour; nothing was ended") && shown.err.contains("drain --yes"), "{}", shown.err);
    let shown = gs(&mock, &["drain", "-o", "json"]).await.json();
    assert_eq!((&shown["drained"], &shown["over"], &shown["sessions"][0]["session_id"]), (&false.into(), &false.into(), &ID.into()));

    // The server is away for a moment; then the wait is over without the end, then with it.
    let over = pb::Session { end_reason: pb::EndReason::Admin.into(), ..session(State::Stopped) };
    mock.with(|m| m.waits = vec![Ok(over), Ok(session(State::Stopping)), Err(Status::unavailable("restarting"))]);
    let done = gs(&mock, &["drain", "--yes", "-o", "json"]).await;
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(
        (&done.json()["drained"], &done.json()["over"], &done.json()["sessions"][0]["end_reason"]),
        (&true.into(), &true.into(), &"admin".into())
    );
    assert!(done.err.contains("restarting") && done.err.contains("1 of 1"), "{}", done.err);

    let left = gs(&mock, &["drain", "--yes", "--no-wait"]).await;
    assert_eq!(left.code, 0, "{}", left.err);
    assert!(left.out.contains("stopping") && left.err.contains("until they are proven gone"), "{}", left.err);
    let interrupt = CancellationToken::new();
    interrupt.cancel();
    let left = gs_until(&mock, &["drain", "--yes"], interrupt, None).await;
    assert_eq!(left.code, 130, "{}", left.err);
    assert!(left.err.contains("that goes on without us"), "{}", left.err);
    assert_eq!(Cli::try_parse_from(["gpu-shopper", "drain", "--no-wait"]).unwrap_err().exit_code(), 2, "nothing to wait for");
}

#[test]
fn the_program_itself_usage_is_2_and_nobody_there_is_7() {
    let program = || {
        let mut command = assert_cmd::Command::cargo_bin("gpu-shopper").unwrap();
        command.env_remove("GPU_SHOPPER_URL");
        command
    };
    program().assert().code(2);
    program().args(["sessions", "extend", ID, "2"]).assert().code(2);
    program().args(["--server", "ftp://x", "inventory"]).assert().code(2);
    let help = program().arg("--help").assert().code(0);
    let text = String::from_utf8(help.get_output().stdout.clone()).unwrap();
    assert!(text.contains("Exit codes:") && text.contains("Examples:"), "{text}");
    for talker in ["serve", "demo", "sim"] {
        let ran = program().args(["-o", "json", talker]).assert().code(2);
        let error: Value = serde_json::from_slice(&ran.get_output().stderr).unwrap();
        assert!(error["error"]["message"].as_str().unwrap().contains(&format!("`{talker}` writes no result")), "{error}");
    }
    for (line, said) in [
        (&["provision", "--hour", "1", "-o", "json"][..], "unexpected argument '--hour' found; a similar argument exists: '--for'"),
        (&["--output=json", "sessions", "get"], "the following required arguments were not provided: <SESSION>"),
        (&["-ojson", "sessoins"], "unrecognized subcommand 'sessoins'; a similar subcommand exists: 'sessions'"),
        (&["-o=json", "sessions"], "a command is missing"),
    ] {
        let ran = program().args(line).assert().code(2);
        let error: Value = serde_json::from_slice(&ran.get_output().stderr).unwrap();
        let error = &error["error"];
        assert_eq!((error["message"].as_str().unwrap(), error["reason"].as_str(), error["exit_code"].as_i64()), (said, Some("USAGE"), Some(2)));
    }
    let ran = program().args(["sessions", "exec", "--wrong", ID, "--", "jq", "-o", "json"]).assert().code(2);
    assert!(ran.get_output().stderr.starts_with(b"error: unexpected argument"), "what the program on the machine is asked is its own");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = program().env("GPU_SHOPPER_URL", free.to_string()).args(["-o", "json", "inventory"]).assert().code(7);
    let error: Value = serde_json::from_slice(&ran.get_output().stderr).unwrap();
    assert_eq!(error["error"]["reason"], "SERVER_UNREACHABLE");
}
