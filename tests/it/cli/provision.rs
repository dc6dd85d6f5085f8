//! `gpu-shopper provision`: progress, the key and how to log in, and what an interrupt or a failure leaves.

use super::server::{self, ID, Mock, event, running, session, usd};
use super::{gs, gs_until};
use gpu_shopper::grpc::pb;
use gpu_shopper::grpc::pb::session::State;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

fn created(key: &str) -> pb::CreateSessionResponse {
    pb::CreateSessionResponse {
        session: Some(session(State::Pending)),
        ssh_private_key: key.into(),
        resume_token: "t0".into(),
        replayed: false,
        warnings: vec!["storage_policy=preserve: nothing is preserved here".into()],
    }
}

pub fn becomes_running() -> Vec<Result<pb::WatchSessionResponse, Status>> {
    let mut up = event(3, State::Running, pb::Stage::GpuVerified, "ready");
    up.session = Some(running());
    vec![
        Ok(server::told(event(1, State::Pending, pb::Stage::Unspecified, "accepted"), "t1")),
        Ok(server::told(event(2, State::Provisioning, pb::Stage::ImagePulling, "pulling the image"), "t2")),
        Ok(server::told(up, "t3")),
    ]
}

#[tokio::test]
async fn provision_waits_with_progress_saves_the_key_and_shows_how_to_log_in() {
    let mock = Mock::start().await;
    mock.with(|m| (m.creates, m.watches) = (vec![Ok(created("PRIVATE\n"))], vec![becomes_running()]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let path = file.to_str().unwrap();
    let line = [
        "provision",
        "-c",
        "alice",
        "-g",
        "4090",
        "--max-price",
        "0.4",
        "-t",
        "2h",
        "-w",
        "llm_vllm",
        "--save-key",
        path,
        "--verify",
        "strict",
        "--failover",
        "same-gpu",
        "--label",
        "team=vision",
        "--max-total-cost",
        "5",
        "--disk",
        "100",
        "--spot",
    ];
    let ran = gs(&mock, &line).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "PRIVATE\n");
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions()) & 0o777, 0o600);
    for want in [
        "warning: storage_policy=preserve: nothing is preserved here\n",
        "   +10.0s  pending       -              accepted\n",
        "   +20.0s  provisioning  image_pulling  pulling the image\n",
        "   +30.0s  running       gpu_verified   ready\n",
    ] {
        assert!(ran.err.contains(want), "{want:?} is not in\n{}", ran.err);
    }
    for want in [
        "State          running (gpu_verified)\n",
        "Price          $0.2467 per hour\n",
        "Expires        2026-11-23 23:30:00Z (in 1h30m)\n",
        &format!("Log in         ssh -p 41022 root@203.0.113.7 -i {path}\n"),
        "known_hosts    [203.0.113.7]:41022 ssh-ed25519 AAAAC3Nz\n",
    ] {
        assert!(ran.out.contains(want), "{want:?} is not in\n{}", ran.out);
    }
    assert!(!ran.out.contains("PRIVATE") && !ran.err.contains("PRIVATE"));

    let asked = mock.with(|m| m.creates_asked.remove(0));
    assert_eq!(asked.consumer_id.as_deref(), Some("alice"));
    assert_eq!(asked.reservation.unwrap().seconds, 7200);
    assert_eq!(asked.workload_type(), pb::WorkloadType::LlmVllm);
    assert_eq!(asked.verify(), pb::VerifyLevel::Strict);
    assert_eq!(asked.rental_kind(), pb::RentalKind::Interruptible);
    assert_eq!(asked.failover.unwrap().scope(), pb::FailoverScope::SameGpu);
    assert_eq!((asked.max_price_per_hour, asked.max_total_cost), (usd(0, 400_000_000), usd(5, 0)));
    assert_eq!((asked.disk_gb, asked.labels["team"].as_str(), asked.request_id.len()), (Some(100), "vision", 36));
    let Some(pb::create_session_request::Target::Requirements(wanted)) = asked.target else { panic!("no requirements") };
    assert_eq!(wanted.order_by, "expected_cost");
    assert_eq!(wanted.filter.unwrap().gpu_models, ["4090"]);
    // The watch begins with the token of the answer, so that no event is missed.
    assert_eq!(mock.with(|m| m.tokens.clone()), ["t0"]);

    // A second time the file is there: nothing is rented.
    let ran = gs(&mock, &line).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("exists already and is not overwritten"), "{}", ran.err);
    assert!(mock.with(|m| m.creates_asked.is_empty()));
}

#[tokio::test]
async fn provision_as_json_is_one_document_with_the_key() {
    let mock = Mock::start().await;
    mock.with(|m| (m.creates, m.watches) = (vec![Ok(created("PRIVATE\n"))], vec![becomes_running()]));
    let ran = gs(&mock, &["-o", "json", "provision", "-i", "vastai-1", "--max-price", "0.4"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let json = ran.json();
    assert_eq!(json["session"]["state"], "running");
    assert_eq!(json["session"]["session_id"], ID);
    assert_eq!(json["ssh_private_key"], "PRIVATE\n");
    assert_eq!(json["request_id"], mock.with(|m| m.creates_asked[0].request_id.clone()));
    assert!(ran.out.contains("\"total_per_hour\": 0.246666667,"), "{}", ran.out);
}

#[tokio::test]
async fn provision_asks_again_with_the_same_request_id_while_the_server_is_away() {
    let mock = Mock::start().await;
    let mut details = ErrorDetails::new();
    details.set_error_info("SERVER_DRAINING", "gpushopper", [("x".to_owned(), "y".to_owned())]);
    let away = Status::with_error_details(Code::Unavailable, "the server is stopping", details);
    let replayed = pb::CreateSessionResponse { replayed: true, ..created("PRIVATE\n") };
    mock.with(|m| m.creates = vec![Err(away), Ok(replayed)]);
    let ran = gs(&mock, &["provision", "-i", "vastai-1", "--detach"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("the server is stopping; asking again"), "{}", ran.err);
    assert!(ran.err.contains("this request was made before"), "{}", ran.err);
    assert_eq!(ran.out, format!("PRIVATE\n{ID}\n"));
    let ids: Vec<String> = mock.with(|m| m.creates_asked.iter().map(|r| r.request_id.clone()).collect());
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
}

#[tokio::test]
async fn provision_that_fails_says_why_and_leaves_no_key_file_for_a_refused_create() {
    let mock = Mock::start().await;
    let mut end = event(2, State::Failed, pb::Stage::Requested, "no offer left");
    let failed = pb::Session { end_reason: pb::EndReason::ProvisionFailed.into(), error: "the image never arrived".into(), ..session(State::Failed) };
    end.session = Some(failed);
    mock.with(|m| (m.creates, m.watches) = (vec![Ok(created("K"))], vec![vec![Ok(server::told(end, "t1"))]]));
    let ran = gs(&mock, &["provision", "-g", "4090"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains(&format!("error: session {ID} failed [provision_failed]: the image never arrived (SESSION_ENDED)\n")), "{}", ran.err);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let mut details = ErrorDetails::new();
    details.set_error_info("NO_CAPACITY", "gpushopper", [("removed_by".to_owned(), "gpu_models".to_owned())]);
    mock.with(|m| m.creates = vec![Err(Status::with_error_details(Code::ResourceExhausted, "No offers available", details))]);
    let ran = gs(&mock, &["provision", "-g", "4090", "--save-key", file.to_str().unwrap()]).await;
    assert_eq!(ran.code, 6);
    assert_eq!(ran.err, "error: No offers available (NO_CAPACITY)\n");
    assert!(!file.exists());
}

#[tokio::test]
async fn an_interrupt_leaves_the_session_and_says_how_to_go_on() {
    let mock = Mock::start().await;
    let interrupt = CancellationToken::new();
    interrupt.cancel();
    mock.with(|m| m.creates = vec![Ok(created("K\n"))]);
    let ran = gs_until(&mock, &["-o", "json", "provision", "-g", "4090"], interrupt, None).await;
    assert_eq!(ran.code, 130);
    assert!(ran.err.contains(&format!("gpu-shopper sessions watch {ID}")), "{}", ran.err);
    assert!(ran.err.contains(&format!("gpu-shopper sessions destroy {ID}")), "{}", ran.err);
    assert_eq!(ran.json()["ssh_private_key"], "K\n");
}

#[tokio::test]
async fn provision_without_a_target_or_with_two_is_a_usage_error() {
    let mock = Mock::start().await;
    for line in [vec!["provision"], vec!["provision", "-i", "vastai-1", "-g", "4090"]] {
        let ran = gs(&mock, &line).await;
        assert_eq!(ran.code, 2, "{line:?}: {}", ran.err);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("id");
    std::fs::write(&file, "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n").unwrap();
    let ran = gs(&mock, &["provision", "-g", "4090", "--ssh-key", file.to_str().unwrap()]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains(".pub"), "{}", ran.err);
    assert!(mock.with(|m| m.creates_asked.is_empty()));
}
