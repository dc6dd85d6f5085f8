//! `load`: what it refuses, and what it tells of a server.

use super::gs;
use super::server::Mock;

#[tokio::test]
async fn load_rents_nothing_unless_told_that_it_may_and_says_what_it_needs() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["load", "sessions"]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--market-is-simulated"), "{}", ran.err);
    let ran = gs(&mock, &["load", "idle", "--for", "1s"]).await;
    assert!(ran.code == 2 && ran.err.contains("--pid"), "{}", ran.err);
    let ran = gs(&mock, &["load", "unary", "--pid", "4294967295"]).await;
    assert!(ran.code == 2 && ran.err.contains("/proc/4294967295"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_counts_calls_and_tells_what_the_server_took() {
    let mock = Mock::start().await;
    let own = std::process::id().to_string();
    let ran =
        gs(&mock, &["load", "unary", "--mix", "list-gpu-models=3,get-spend-rate=1", "--rate", "40", "--for", "1s", "--pid", &own, "-o", "json"])
            .await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report = ran.json();
    let part = &report["parts"][0];
    let counted = |at: usize| (part["times"][at][0].as_str().unwrap().to_owned(), part["times"][at][1]["count"].as_u64().unwrap());
    assert_eq!((counted(0), counted(1)), (("list-gpu-models".to_owned(), 30), ("get-spend-rate".to_owned(), 10)));
    assert!(part["server"]["memory_after_kib"].as_u64().unwrap() > 0);
}
