//! `token`: what it asks, what it shows and what it keeps to itself; and that each command says who asks.

use super::server::Mock;
use super::{Page, ask, gs};
use clap::Parser;
use gpu_shopper::cli::client::Trust;
use gpu_shopper::cli::output::{Console, Format};
use gpu_shopper::cli::{Cli, Desk, Interrupt, TokenSource, perform};
use gpu_shopper::clock::Clock;
use std::os::unix::fs::MetadataExt;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_token_is_shown_once_or_written_to_a_file_of_its_own() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["token", "create", "ci", "--role", "consumer", "--consumer", "alice", "--for", "2h"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "gst_canned\n"));
    assert!(ran.err.contains("token ci (consumer, alice only") && ran.err.contains("not shown again"), "{}", ran.err);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ci.token");
    let path = file.to_str().unwrap();
    let ran = gs(&mock, &["token", "create", "eyes", "--role", "read-only", "--save", path, "-o", "json"]).await;
    assert_eq!((ran.code, ran.json()["token"]["name"].as_str()), (0, Some("eyes")));
    assert!(!ran.out.contains("gst_canned"), "{}", ran.out);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "gst_canned\n");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let ran = gs(&mock, &["token", "create", "more", "--role", "admin", "--save", path]).await;
    assert!(ran.code == 1 && ran.err.contains("exists already"), "nothing is asked for what can't be kept: {}", ran.err);
    let ran = gs(&mock, &["token", "revoke", "ci"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "token ci (consumer, alice only) is good no more\n"));
    assert_eq!(mock.with(|m| m.orders.clone()), ["create ci 2 Some(\"alice\") Some(7200)", "create eyes 3 None None", "revoke ci"]);
    let ran = gs(&mock, &["token", "list"]).await;
    assert!(ran.out.contains("revoked 2026-11-23 21:30:00Z by admin") && ran.out.contains("expired 2026-11-23 21:30:00"), "{}", ran.out);
    assert!(gs(&mock, &["token", "list", "--database", "/nowhere/at.db"]).await.err.contains("there is no database"));
}

#[tokio::test]
async fn every_call_says_who_asks() {
    let (mock, folder) = (Mock::start().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("token");
    std::fs::write(&file, "gst_of-a-file\n").unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, " \n").unwrap();
    for (token, code) in [
        (TokenSource::Nowhere, 0),
        (TokenSource::Given("gst_given".into()), 0),
        (TokenSource::File(file), 0),
        (TokenSource::File(empty), 8),
        (TokenSource::Given("two\nlines".into()), 2),
    ] {
        let mut desk = Desk {
            console: Console::plain(Box::new(Page::default()), Box::new(Page::default()), Format::Table),
            server: mock.url().parse().unwrap(),
            trust: Trust::default(),
            token,
            clock: Clock::System,
            interrupt: Interrupt::Token(CancellationToken::new()),
        };
        let line = ask(Cli::try_parse_from(["gpu-shopper", "token", "list"]).unwrap());
        assert_eq!(perform(line, &mut desk).await, code);
    }
    assert_eq!(mock.with(|m| m.orders.clone()), ["list as None", "list as Some(\"Bearer gst_given\")", "list as Some(\"Bearer gst_of-a-file\")"]);
}

/// Nothing shows a token that was given: not the help, not the parsed line.
#[test]
fn a_given_token_is_shown_nowhere() {
    let cli = Cli::try_parse_from(["gpu-shopper", "--token", "gst_canary", "sessions", "list"]).unwrap();
    assert!(!format!("{cli:?}").contains("canary"));
}
