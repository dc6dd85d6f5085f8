//! Answers recorded elsewhere, when the environment names a folder of them: an `index.json` (a list of objects with `file`,
//! `operation`, `http_status`) beside one file per body. They are nobody's to publish, so the repository has none.

use super::{Answer, Vendor, dialects, provider, quick, spec};

/// What should come of a recorded answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expect {
    Good,
    Bad,
    Any,
}

/// Every recorded body that a folder holds is taken by the operation it answers, and by no operation with a panic.
#[tokio::test]
async fn recorded_bodies_are_taken() {
    let Some(folder) = std::env::var_os("GPU_SHOPPER_RECORDED").map(std::path::PathBuf::from) else {
        println!("not run: GPU_SHOPPER_RECORDED names no folder of recorded bodies");
        return;
    };
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    let (mut taken, specs) = (0, [spec(&dialects()[0]).await, spec(&dialects()[1]).await]);
    for entry in index.as_array().unwrap() {
        let (file, operation) = (entry["file"].as_str().unwrap(), entry["operation"].as_str().unwrap());
        let Some(which) = (if file.starts_with("vastai/") { Some(0) } else { file.starts_with("tensordock/v2_").then_some(1) }) else {
            continue;
        };
        let (dialect, spec) = (dialects()[which], &specs[which]);
        let status = entry["http_status"].as_u64().and_then(|s| u16::try_from(s).ok()).unwrap_or(200);
        let body = std::fs::read(folder.join(file)).unwrap();
        let id = serde_json::from_slice::<serde_json::Value>(&body).ok().and_then(|body| {
            let inside = [&body["instances"]["id"], &body["data"]["id"], &body["id"]];
            inside.into_iter().find_map(|id| id.as_str().map(str::to_owned).or_else(|| id.as_u64().map(|id| id.to_string())))
        });
        let id = id.filter(|id| !id.is_empty()).unwrap_or_else(|| "7".to_owned());
        let vendor = Vendor::new(move |_| Answer::With(status, vec![], body.clone())).await;
        // A provider for each call, so that none stands behind another's breaker.
        let fresh = || provider(&dialect, &vendor.base, quick());
        let outcomes = [
            ("offers", fresh().offers().await.map(|batch| format!("{} offers, {} skipped", batch.offers.len(), batch.skipped))),
            ("launch", fresh().launch(spec).await.map(|launched| format!("{launched:?}"))),
            ("instance", fresh().instance(&id).await.map(|seen| format!("{seen:?}"))),
            ("instances", fresh().instances().await.map(|all| format!("{} instances", all.len()))),
            ("destroy", fresh().destroy(&id).await.map(|answer| format!("{answer:?}"))),
            ("start", fresh().start(&id).await.map(|()| "done".to_owned())),
            ("attach_key", fresh().attach_key(&id, "ssh-ed25519 AAAA").await.map(|()| "done".to_owned())),
            ("account", fresh().account().await.map(|account| format!("{account:?}"))),
        ];
        for (name, outcome) in &outcomes {
            if let Err(error) = outcome {
                assert!(!error.text.is_empty() && error.text.chars().count() <= 300, "{file} {name}: {error}");
            }
        }
        let (name, expect) = expected(file, operation, status);
        let outcome = outcomes.iter().find(|(operation, _)| *operation == name).map(|(_, outcome)| outcome);
        match (expect, outcome) {
            (Expect::Good, Some(outcome)) => assert!(outcome.is_ok(), "{file} as {name}: {outcome:?}"),
            (Expect::Bad, Some(outcome)) => assert!(outcome.is_err(), "{file} as {name}: {outcome:?}"),
            _ => {}
        }
        println!("{file} as {name} ({expect:?}): {outcome:?}");
        taken += 1;
    }
    assert!(taken > 0, "the folder has bodies");
    println!("{taken} recorded bodies");
}

/// Which of our operations a recorded one is, and how it should end.
fn expected(file: &str, operation: &str, status: u16) -> (&'static str, Expect) {
    let by_status = if (200..300).contains(&status) { Expect::Good } else { Expect::Bad };
    if file.ends_with("docs_search_offers_200.json") {
        return ("offers", Expect::Bad);
    }
    let table: &[(&str, &str)] = &[
        ("bundles", "offers"),
        ("search offers", "offers"),
        ("locations", "offers"),
        ("/asks/", "launch"),
        ("POST /api/v2/instances", "launch"),
        ("DELETE", "destroy"),
        ("/ssh/", "attach_key"),
        ("users/current", "account"),
        ("v1/instances", "instances"),
        ("GET /instances/{id}", "instance"),
        ("GET /api/v0/instances/{id}", "instance"),
        ("GET /api/v2/instances/{id}", "instance"),
        ("GET /instances/", "instances"),
        ("GET /api/v2/instances", "instances"),
        ("PUT", "start"),
        ("any", "instances"),
    ];
    let name = table.iter().find(|(part, _)| operation.contains(part)).map_or("offers", |(_, name)| *name);
    let expect = match (name, file) {
        // The vendor's "not found" is an answer, not an error.
        ("destroy" | "instance", _) if status == 404 => Expect::Good,
        // A page of a longer list: alone it must not pass for the whole.
        (_, "vastai/docs_show_instances_v1_200.json") => Expect::Bad,
        ("launch", file) if ["no_nodes", "hostnode_unavailable", "validation", "empty_id"].iter().any(|part| file.contains(part)) => Expect::Bad,
        ("destroy", "tensordock/v2_delete_200_error_body.json") => Expect::Bad,
        // Made of a schema: says `success: false` and nothing else.
        ("start", "vastai/docs_start_instance_200.json") => Expect::Bad,
        // Nothing of ours: only that nothing panics.
        ("offers", file) if ["templates", "hostnodes", "secret"].iter().any(|part| file.contains(part)) => Expect::Any,
        ("attach_key", "vastai/docs_show_ssh_keys_200.json") => Expect::Any,
        _ => by_status,
    };
    (name, expect)
}
