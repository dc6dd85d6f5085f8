//! Credentials that are changed while the server runs: read again on SIGHUP, tried at once, and never worse for it.

use crate::child::{Served, env, pointed_at, wanted, world};
use gpu_shopper::grpc::pb::session::State;
use gpu_shopper::sim::Faults;
use std::process::Command;
use std::time::Duration;

fn hang_up(server: &Served) {
    assert!(Command::new("kill").args(["-HUP", &server.child.id().to_string()]).status().unwrap().success());
}

/// Waits until `/health` says this of a provider.
async fn health_says(server: &Served, provider: &str, word: &str) {
    for _ in 0..1000 {
        let body: serde_json::Value = serde_json::from_str(&server.get("/health").await.1).unwrap();
        if body["services"][provider] == word {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{provider} never became `{word}`: {}\n{}", server.get("/health").await.1, server.child.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_mended_makes_its_provider_usable_without_a_restart() {
    let (world, home) = (world(221, Faults::gentle()).await, tempfile::tempdir().unwrap());
    let file = home.path().join("key");
    let wrong = "ab".repeat(32);
    std::fs::write(&file, &wrong).unwrap();
    let mut settings = pointed_at(&world, home.path());
    settings.remove("VASTAI_API_KEY");
    settings.extend(env(&[("VASTAI_API_KEY_FILE", &file.display().to_string()), ("LOG_FORMAT", "json")]));
    let server = Served::ready(home.path(), &settings, 1).await;
    health_says(&server, "vastai", "credentials not proven").await;
    let refused = server.sessions().await.create_session(wanted("vastai")).await.unwrap_err();
    assert!(refused.message().contains("Provider authentication failed"), "{refused:?}");

    // Settings that are wrong now change nothing, and say so.
    std::fs::write(home.path().join(".env"), "LOG_LEVEL=loud\n").unwrap();
    settings.remove("LOG_LEVEL");
    std::fs::write(&file, "").unwrap();
    hang_up(&server);
    server.child.says("SIGHUP: the settings are wrong now, so nothing changes").await;
    health_says(&server, "tensordock", "ok").await;
    std::fs::remove_file(home.path().join(".env")).unwrap();

    std::fs::write(&file, format!("{}\n", world.keys.vastai_key)).unwrap();
    hang_up(&server);
    server.child.says("\"renewed\":\"vastai\"").await;
    health_says(&server, "vastai", "ok").await;
    let created = loop {
        match server.sessions().await.create_session(wanted("vastai")).await {
            Ok(created) => break created.into_inner(),
            // Its first offers are fetched at the next turn, or by the create itself.
            Err(status) => assert!(matches!(status.code(), tonic::Code::Unavailable | tonic::Code::ResourceExhausted), "{status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let id = created.session.unwrap().session_id;
    server.until(&id, State::Running).await;

    // The same again is no change, and what runs is left alone.
    hang_up(&server);
    server.child.says("\"renewed\":\"\"").await;
    assert_eq!(server.get_session(&id).await.state(), State::Running);
    server.complete(&id).await;
    server.until(&id, State::Stopped).await;
    let ended = server.stop().await;
    for secret in [&wrong, &world.keys.vastai_key] {
        assert!(!ended.err.contains(secret.as_str()));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_comes_or_goes_waits_for_the_next_start() {
    let (world, home) = (world(222, Faults::none()).await, tempfile::tempdir().unwrap());
    let mut settings = pointed_at(&world, home.path());
    let key = settings.remove("VASTAI_API_KEY").unwrap();
    let dotenv = home.path().join(".env");
    let server = Served::ready(home.path(), &settings, 1).await;
    std::fs::write(&dotenv, format!("VASTAI_API_KEY={key}\n")).unwrap();
    hang_up(&server);
    server.child.says("it has credentials now and is enabled at the next start").await;
    assert_eq!(server.get("/health").await.0, 200);
    server.stop().await;

    // With the key from .env now.
    let server = Served::ready(home.path(), &settings, 2).await;
    std::fs::write(&dotenv, "").unwrap();
    hang_up(&server);
    server.child.says("its credentials are gone from the settings").await;
    health_says(&server, "vastai", "ok").await;
    server.stop().await;
    world.stop().await;
}
