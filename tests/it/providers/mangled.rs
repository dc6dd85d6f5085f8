//! Bodies as no vendor should send them, at random, through every call of every provider: no panic, and nothing of them comes
//! in that is endless, steers a terminal or carries the key.

use super::{Answer, Dialect, KEY, Vendor, dialects, provider, quick, spec};
use gpu_shopper::domain::instance::Sighting;
use gpu_shopper::ports::ProviderError;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::sync::{Arc, Mutex};

/// Longer than any text that is let in.
const BOUND: usize = 2_000;

/// Any JSON, with the vendors' own keys among others, so that it gets past the first look.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
        "[0-9]{1,40}(\\.[0-9]{1,40})?",
        Just("1e999999".to_owned()),
        "\\PC{0,40}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(format!("\"{KEY}\"")),
        Just("\"\\u001b[31m\\u0000\\r\\n\"".to_owned()),
        Just(format!("\"{}\"", "x".repeat(5_000))),
        Just("\"running\"".to_owned()),
        Just("\"127.0.0.1\"".to_owned()),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "instances",
            "id",
            "label",
            "name",
            "status",
            "actual_status",
            "intended_status",
            "status_msg",
            "data",
            "attributes",
            "offers",
            "locations",
            "gpus",
            "ports",
            "ssh_host",
            "ssh_port",
            "public_ipaddr",
            "ipAddress",
            "portForwards",
            "internal_port",
            "external_port",
            "success",
            "error",
            "msg",
            "message",
            "new_contract",
            "total_instances",
            "next_token",
            "dph_total",
            "rateHourly",
            "machine_id",
            "host_id",
            "gpu_name",
            "num_gpus",
            "gpu_ram",
            "v0Name",
            "max_count",
            "price_per_hr",
            "credit",
            "balance",
            "results",
            "HostPort",
            "22/tcp",
            "end_date",
            "templates",
            "env",
            "onstart",
            "meta",
            "total"
        ])
        .prop_map(str::to_owned),
        "[a-z_]{1,8}",
    ];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        let list = prop::collection::vec(inner.clone(), 0..6).prop_map(|all| format!("[{}]", all.join(",")));
        let object = prop::collection::vec((key.clone(), inner), 0..10)
            .prop_map(|all| format!("{{{}}}", all.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect::<Vec<_>>().join(",")));
        prop_oneof![list, object]
    })
}

/// A good body of the dialect with something wrong in it: cut, with other bytes, or another value in the place of one.
fn mangled(dialect: Dialect) -> impl Strategy<Value = Vec<u8>> {
    let good = vec![
        dialect.offers.to_owned(),
        (dialect.launched)("77"),
        (dialect.one)("77", "gs-5abn2v1n-01kaphz700fay8vvr14d2pf2db-1", "running"),
        (dialect.list)(&[(dialect.row)("77", "gs-5abn2v1n-01kaphz700fay8vvr14d2pf2db-1", "running")]),
        dialect.short_list.to_owned(),
        dialect.destroyed.to_owned(),
        dialect.no_capacity.1.to_owned(),
        dialect.gone.1.to_owned(),
    ];
    let near = (prop::sample::select(good), any::<prop::sample::Index>(), json(), 0_u8..4).prop_map(|(good, at, other, how)| {
        let at = at.index(good.len());
        let mut bytes = good.clone().into_bytes();
        match how {
            0 => bytes.truncate(at),
            1 => bytes[at] = bytes[at].wrapping_add(113),
            2 => bytes.splice(at..at, other.into_bytes()).for_each(drop),
            _ => {
                // What stands after a colon is a value.
                let from = good[at..].find(':').map_or(0, |n| at + n + 1);
                let to = good[from..].find([',', '}', ']']).map_or(good.len(), |n| from + n);
                bytes.splice(from..to, other.into_bytes()).for_each(drop);
            }
        }
        bytes
    });
    let noise = prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![3 => near, 2 => json().prop_map(String::into_bytes), 1 => noise]
}

fn decent(text: &str, what: &str) {
    assert!(text.chars().count() <= BOUND, "{what} is endless: {} characters", text.chars().count());
    assert!(!text.chars().any(char::is_control), "{what} has control characters: {text:?}");
    assert!(!text.contains(KEY), "{what} has the key");
}

fn decent_error(error: &ProviderError) {
    decent(&error.text, "an error");
}

fn decent_sighting(seen: &Sighting) {
    decent(&seen.native_id, "an id");
    decent(&seen.raw_status, "a status");
    for text in [&seen.label, &seen.progress, &seen.public_host].into_iter().flatten() {
        decent(text, "a text of an instance");
    }
    for endpoint in &seen.endpoints {
        decent(&endpoint.host, "a host");
        decent(&endpoint.user, "a user");
    }
}

#[test]
fn no_body_makes_a_provider_panic_or_lets_anything_endless_in() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for dialect in dialects() {
        let next = Arc::new(Mutex::new((200, Vec::new())));
        let (spec, vendor) = runtime.block_on(async {
            let next = Arc::clone(&next);
            let vendor = Vendor::new(move |_| {
                let (status, body) = next.lock().unwrap().clone();
                Answer::With(status, vec![], body)
            })
            .await;
            (spec(&dialect).await, vendor)
        });
        let statuses = prop::sample::select(vec![200_u16, 200, 200, 201, 204, 400, 401, 403, 404, 409, 422, 429, 500, 503]);
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(32) });
        let done = runner.run(&(mangled(dialect), statuses), |(body, status)| {
            *next.lock().unwrap() = (status, body);
            runtime.block_on(async {
                // One provider for each call, so that none stands behind another's breaker.
                let fresh = || provider(&dialect, &vendor.base, quick());
                match fresh().offers().await {
                    Ok(batch) => batch.offers.iter().for_each(|offer| {
                        decent(offer.id.as_str(), "an offer's id");
                        decent(&offer.gpu.to_string(), "a GPU");
                        decent(&offer.region.raw, "a region");
                    }),
                    Err(error) => decent_error(&error),
                }
                match fresh().instances().await {
                    Ok(all) => all.iter().for_each(decent_sighting),
                    Err(error) => decent_error(&error),
                }
                match fresh().instance("77").await {
                    Ok(seen) => seen.iter().for_each(decent_sighting),
                    Err(error) => decent_error(&error),
                }
                match fresh().launch(&spec).await {
                    Ok(launched) => {
                        decent(&launched.native_id, "an id");
                        launched.failed.iter().for_each(|text| decent(text, "a failure"));
                    }
                    Err(error) => decent_error(&error),
                }
                fresh().account().await.map_or_else(|error| decent_error(&error), |account| decent(&account.identity, "an account"));
                fresh().destroy("77").await.err().iter().for_each(decent_error);
                fresh().start("77").await.err().iter().for_each(decent_error);
                fresh().attach_key("77", "ssh-ed25519 AAAA x").await.err().iter().for_each(decent_error);
                match fresh().templates().await {
                    Ok(all) => all.iter().for_each(|template| decent(&template.name, "a template's name")),
                    Err(error) => decent_error(&error),
                }
            });
            Ok(())
        });
        if let Err(error) = done {
            panic!("{}: {error}", dialect.name);
        }
    }
}
