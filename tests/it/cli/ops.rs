//! `gpu-shopper ops`: what it asks, what it writes, what it does only with a yes.

use super::server::{ID, Mock};
use super::{Ran, gs, gs_answering};
use gpu_shopper::grpc::pb;
use gpu_shopper::grpc::pb::set_hold_request::End;
use tokio_util::sync::CancellationToken;

const LABEL: &str = "gs-5abn2v1n-01kaphz700fay8vvr14d2pf2db-1";

/// A command line with somebody at a terminal who answers this.
async fn answered(mock: &Mock, line: &[&str], answer: &'static str) -> Ran {
    gs_answering(mock, line, CancellationToken::new(), None, Some(answer)).await
}

fn orders(mock: &Mock) -> Vec<String> {
    mock.with(|m| std::mem::take(&mut m.orders))
}

#[tokio::test]
async fn strays_and_foreign_machines_are_tables_with_the_commands_to_paste() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["ops", "strays"]).await;
    assert_eq!(
        ran.out,
        "PROVIDER  INSTANCE  KIND    LABEL            STATUS   PRICE/H  FIRST SEEN  LISTS  ALARM\n\
         vastai    17294410  stray   gs-5abn2v1n-x-1  running  $0.2467      30m00s     12  yes\n\
         vastai    9         orphan  gs-5abn2v1n-x-1  running        -      30m00s      1  no\n"
    );
    assert_eq!(
        ran.err,
        "to keep vastai 17294410: gpu-shopper ops adopt vastai 17294410\n\
         to destroy vastai 17294410: gpu-shopper ops destroy-instance vastai 17294410\n\
         to end vastai 17294410 at its vendor by hand: curl -X DELETE https://vendor/17294410\n\
         vastai 9 waits: its turn\n\
         to destroy vastai 9: gpu-shopper ops destroy-instance vastai 9\n\
         in all: $0.2467 per hour, and 1 whose price no list tells\n"
    );
    let ran = gs(&mock, &["ops", "foreign", "-p", "vastai"]).await;
    assert_eq!(
        ran.out,
        "PROVIDER  INSTANCE  LABEL            OF DEPLOYMENT  STATUS   PRICE/H  FIRST SEEN  LISTS\n\
         vastai    77        gs-6c9bd5at-y-1  6c9bd5at       running  $1.0000       1h00m     30\n"
    );
    let json = gs(&mock, &["ops", "strays", "-o", "json"]).await.json();
    assert_eq!(
        (json["instances"][1]["kind"].as_str(), json["instances"][0]["price_per_hour"].to_string()),
        (Some("orphan"), "0.246666667".to_owned())
    );
}

#[tokio::test]
async fn a_sweep_without_every_list_is_a_failure() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["ops", "sweep", "vastai"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("17294410") && ran.out.contains("6c9bd5at") && ran.err.starts_with("vastai: listed completely\n"), "{}", ran.err);
    mock.with(|m| m.unlisted = true);
    let ran = gs(&mock, &["ops", "sweep"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("warning: tensordock: no complete list: timed out\n"), "{}", ran.err);
    assert_eq!(gs(&mock, &["ops", "sweep", "-o", "json"]).await.json()["failures"][0]["provider"], "tensordock");
}

#[tokio::test]
async fn a_stray_is_adopted() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["ops", "adopt", "vastai", "17294410", "--consumer", "alice", "--for", "2h"]).await;
    assert_eq!((ran.code, ran.out), (0, format!("session {ID} running: kept for alice until 2026-11-24 00:00:00Z\n")), "{}", ran.err);
    gs(&mock, &["ops", "adopt", "vastai", "17294410"]).await;
    assert_eq!(orders(&mock), ["adopt vastai 17294410 Some(\"alice\") Some(7200)", "adopt vastai 17294410 None None"]);
}

#[tokio::test]
async fn what_destroys_or_settles_needs_a_yes() {
    let mock = Mock::start().await;
    mock.with(|m| m.frozen = true);
    let destroy = ["ops", "destroy-instance", "vastai", "17294410"];
    let settle = ["ops", "settle", "gs-5abn2v1n-x-1", "--reason", "seen in the console"];
    let accept = ["ops", "accept-database"];
    let lines: [(&[&str], &str, &str); 3] = [
        (&destroy, "destroy vastai 17294410 (gs-5abn2v1n-x-1, $0.2467 per hour, seen for 30m00s)? [y/N] ", "destroy vastai 17294410"),
        (
            &settle,
            "are you sure that gs-5abn2v1n-x-1 is gone (vastai -, last seen as -, $0.2467 per hour at risk)? [y/N] ",
            "settle gs-5abn2v1n-x-1: seen in the console",
        ),
        (
            &accept,
            "is this the right database (it is older than its epoch)? what is overdue by it ends then, and machines are destroyed [y/N] ",
            "accept",
        ),
    ];
    for (line, question, order) in lines {
        // Nobody to ask.
        let ran = gs(&mock, line).await;
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{line:?}");
        assert!(ran.err.contains("--yes"), "{}", ran.err);
        for no in ["n\n", "\n", "", "perhaps\n"] {
            let ran = answered(&mock, line, no).await;
            assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{line:?} {no:?}");
            assert_eq!(ran.err, format!("{question}error: nothing was done (NOT_CONFIRMED)\n"));
        }
        assert!(orders(&mock).is_empty(), "{line:?}");
        assert_eq!(answered(&mock, line, "Yes\n").await.code, 0, "{line:?}");
        assert_eq!(gs(&mock, &[line, &["--yes"]].concat()).await.code, 0, "{line:?}");
        assert_eq!(orders(&mock), [order, order]);
    }
}

#[tokio::test]
async fn orders_tell_what_came_of_them() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["ops", "destroy-instance", "vastai", "9", "-y"]).await;
    assert_eq!((ran.code, ran.out), (0, format!("session {ID} stopping [orphan]\n")), "{}", ran.err);
    let ran = gs(&mock, &["ops", "destroy-instance", "vastai", "404", "-y"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (3, "error: no stray 404 (STRAY_NOT_FOUND)\n"));
    let ran = gs(&mock, &["ops", "retry", LABEL]).await;
    assert_eq!((ran.code, ran.out), (0, format!("{LABEL} is tried now\n")));
    let ran = gs(&mock, &["ops", "settle", LABEL, "--reason", "gone", "--yes"]).await;
    assert_eq!((ran.code, ran.out), (0, format!("{LABEL} is settled; session {ID} stopped\n")));
    let json = gs(&mock, &["ops", "retry", LABEL, "-o", "json"]).await.json();
    assert_eq!(json["session"]["session_id"], ID);
    let debts = gs(&mock, &["ops", "debts"]).await;
    assert_eq!((debts.out.clone(), debts.err), {
        let same = gs(&mock, &["debts"]).await;
        (same.out, same.err)
    });
    assert!(debts.out.contains("REFUSED FOR") && debts.out.contains("1m00s"), "{}", debts.out);
}

#[tokio::test]
async fn holds_are_set_listed_and_lifted() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["ops", "hold", "vastai", "sweeper", "--for", "2h", "--reason", "we look ourselves"]).await;
    let table = "PROVIDER  HELD     UNTIL            SET  BY        REASON\nvastai    sweeper  it is lifted  30m00s  operator  we look ourselves\n";
    assert_eq!((ran.code, ran.out.as_str()), (0, table), "{}", ran.err);
    gs(&mock, &["ops", "hold", "vastai", "expiry", "--until", "2026-11-23T22:00:00Z", "--reason", "r"]).await;
    let ran = gs(&mock, &["ops", "hold", "vastai", "launches", "--lift"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, "no holds\n"));
    let asked = mock.with(|m| std::mem::take(&mut m.holds_asked));
    assert_eq!(asked.iter().map(pb::SetHoldRequest::kind).collect::<Vec<_>>(), [pb::HoldKind::Sweeper, pb::HoldKind::Expiry, pb::HoldKind::Launches]);
    assert!(matches!(&asked[0].end, Some(End::Duration(d)) if d.seconds == 7200) && asked[0].reason == "we look ourselves");
    assert!(matches!(&asked[1].end, Some(End::UntilTime(_))) && asked[2].lift && asked[2].end.is_none());
    let ran = gs(&mock, &["ops", "holds"]).await;
    assert_eq!((ran.out.as_str(), ran.err.as_str()), (table, ""));
    mock.with(|m| m.frozen = true);
    let ran = gs(&mock, &["ops", "holds"]).await;
    assert!(ran.err.contains("it is older than its epoch") && ran.err.contains("gpu-shopper ops accept-database"), "{}", ran.err);
}

#[tokio::test]
async fn the_audit_follows_pages() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["ops", "audit", "--all"]).await;
    assert_eq!(
        ran.out,
        "NUMBER  TIME                  WHO       WHAT       ON              DETAIL\n    12  2026-11-23 21:30:00Z  operator  set_hold   vastai sweeper  we look ourselves\n     \
         3  2026-11-23 21:30:00Z  operator  lift_hold  vastai sweeper  -\n"
    );
    let asked: Vec<(i32, String)> = mock.with(|m| m.audit_asked.iter().map(|r| (r.page_size, r.page_token.clone())).collect());
    assert_eq!(asked, [(1000, String::new()), (1000, "p2".to_owned())]);
    let ran = gs(&mock, &["ops", "audit", "--limit", "1"]).await;
    assert!(ran.out.lines().count() == 2 && ran.err.contains("--all"), "{}", ran.err);
}

#[tokio::test]
async fn spending_adds_up_in_one_table() {
    let mock = Mock::start().await;
    let ran = gs(&mock, &["ops", "spend"]).await;
    assert_eq!(
        ran.out,
        "PROVIDER    RUNNING/H  STOPPING/H  STRAY/H  FOREIGN/H   TOTAL/H  UNPRICED    BALANCE  LASTS\n\
         tensordock    $0.0000     $0.0000  $0.0000    $0.0000   $0.0000         1          -      -\n\
         vastai       $12.0000     $0.2467  $0.0000    $0.0000  $12.2467         0  $100.0000  8h10m\n\
         TOTAL        $12.0000     $0.2467  $0.0000    $0.0000  $12.2467         1          -      -\n"
    );
    assert!(ran.err.contains("unpriced"), "{}", ran.err);
    let json = gs(&mock, &["ops", "spend", "-o", "json"]).await.json();
    assert_eq!(json["providers"][1]["balance"].to_string(), "100");
}
