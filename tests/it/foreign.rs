//! Bytes from callers and from the machine's own files, at random, through every parser that meets them: no panic, and answers
//! that are bounded. What vendors send is in `providers`, what machines say beside its parsers.

use crate::support::{House, caller};
use gpu_shopper::config::{Config, SettingsFile, Sources, settings};
use gpu_shopper::domain::ids::{ConsumerId, Label, SessionId};
use gpu_shopper::grpc::convert::{operations, requests};
use gpu_shopper::grpc::pb;
use gpu_shopper::services::Error;
use gpu_shopper::services::api::{CostQuery, HealthQuery, OfferQuery, SessionFilter, WatchRequest, WatchStart};
use gpu_shopper::services::tokens::{Timeline, Tokens};
use gpu_shopper::sim::Faults;
use gpu_shopper::ssh::keys;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use std::collections::BTreeMap;
use std::time::Duration;
use tonic_types::StatusExt;

/// What stands in secret places here and must come out nowhere.
const CANARY: &str = "canary-of-a-secret-0123456789";

/// Text of all kinds: plain, odd, with control characters, long, and what looks like the real thing.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,60}",
        prop::collection::vec(any::<char>(), 0..60).prop_map(|chars| chars.into_iter().collect()),
        "[0-9a-hjkmnp-tv-z]{20,30}",
        "gs-[0-9a-z]{8}-[0-9a-hjkmnp-tv-z]{26}-[0-9]{1,3}",
        "[A-Za-z0-9_-]{0,60}={0,2}",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        Just("é".repeat(10_000)),
    ]
}

/// Tokens near those that are given out: bytes of theirs, encoded.
fn token() -> impl Strategy<Value = String> {
    use base64::Engine;
    let encode = |bytes: Vec<u8>| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let near = (prop::sample::select(vec!["s1.", "l2.", "a1.", "o1.", "h1.", ""]), "[0-9a-f.]{0,60}")
        .prop_map(move |(head, rest)| encode(format!("{head}{rest}").into_bytes()));
    let bytes = prop::collection::vec(any::<u8>(), 0..40).prop_map(encode);
    prop_oneof![near, bytes, text()]
}

fn bounded(error: &Error) {
    let status = tonic::Status::from(error.clone());
    assert!(status.message().len() <= 600 && status.details().len() <= 8_000, "{} {}", status.message().len(), status.details().len());
    assert!(status.get_details_error_info().is_some());
}

proptest! {
    #[test]
    fn ids_come_back_as_they_are_or_not_at_all(text in text()) {
        if let Ok(id) = text.parse::<SessionId>() {
            prop_assert_eq!(id.to_string().parse::<SessionId>().ok(), Some(id));
        }
        if let Some(label) = Label::parse(&text) {
            prop_assert_eq!(label.to_string(), text.clone(), "a label is whole or none");
        }
        match ConsumerId::parse(&text) {
            Ok(id) => prop_assert!(id.as_str() == text && text.chars().count() <= 128),
            Err(error) => prop_assert!(error.to_string().chars().count() < 200),
        }
        let short: String = text.chars().take(100).collect();
        let _ = settings::parse_duration(&text);
        let _ = settings::nearest_key(&short);
        let _ = settings::mistyped_env(&short);
    }

    #[test]
    fn a_resume_token_that_is_not_ours_is_an_error(token in token(), of in any::<u64>(), last in 0_i64..1_000) {
        let line = |id, first_revision| Timeline { id, first_revision, opened_at: gpu_shopper::domain::time::Time::default() };
        match Tokens::new(vec![line(1, 1), line(2, 500)]).read(&token, of, last) {
            Ok(revision) => prop_assert!((0..=last).contains(&revision)),
            Err(error) => bounded(&error),
        }
    }

    #[test]
    fn public_keys_are_good_or_refused(
        kind in prop::sample::select(vec!["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com", "ssh-dss", "x", ""]),
        blob in prop::collection::vec(any::<u8>(), 0..200),
        comment in text(),
        raw in text(),
    ) {
        use base64::Engine;
        let line = format!("{kind} {} {comment}", base64::engine::general_purpose::STANDARD.encode(blob));
        for text in [line, raw] {
            match keys::parse_public_key(&text) {
                Ok(key) => prop_assert!(key.line.len() < 20_000 && !key.line.contains(['\n', '\r', '\0'])),
                Err(error) => prop_assert!(error.to_string().chars().count() < 500),
            }
            let _ = keys::fingerprint(&text);
        }
    }

    #[test]
    fn requests_of_any_content_are_answered_within_bounds(one in text(), two in text(), number in any::<i32>(), seconds in any::<i64>(), nanos in any::<i32>()) {
        let labels = BTreeMap::from([(one.clone(), two.clone()), (two.clone(), one.clone())]);
        let duration = Some(prost_types::Duration { seconds, nanos });
        let money = Some(pb::Money { currency_code: two.clone(), units: seconds, nanos });
        let time = Some(prost_types::Timestamp { seconds, nanos });
        let filter = pb::OfferFilter {
            providers: vec![one.clone()],
            gpu_models: vec![two.clone()],
            min_gpu_memory_mib: Some(number),
            max_price_per_hour: money.clone(),
            ..Default::default()
        };
        let set = crate::wire::settings();
        let create = pb::CreateSessionRequest {
            consumer_id: Some(one.clone()),
            target: Some(pb::create_session_request::Target::Requirements(pb::Requirements { filter: Some(filter.clone()), order_by: two.clone() })),
            labels: labels.clone(),
            reservation: duration,
            idle_threshold: duration,
            ssh_public_key: Some(two.clone()),
            docker_image: Some(one.clone()),
            model_id: Some(two.clone()),
            on_start_cmd: Some(one.clone()),
            env: labels.clone(),
            secret_env: labels.clone(),
            exposed_ports: vec![number],
            disk_gb: Some(number),
            max_total_cost: money,
            request_id: one.clone(),
            workload_type: number,
            verify: number,
            ..Default::default()
        };
        requests::create(&create, &set).err().iter().for_each(bounded);
        let by_offer = pb::CreateSessionRequest { target: Some(pb::create_session_request::Target::OfferId(one.clone())), ..Default::default() };
        requests::create(&by_offer, &set).err().iter().for_each(bounded);
        requests::offers(&pb::ListOffersRequest { filter: Some(filter), order_by: one.clone(), page_size: number, page_token: two.clone() }, &set).err().iter().for_each(bounded);
        requests::session_id(&one).err().iter().for_each(bounded);
        let sessions = pb::SessionFilter { consumer_id: Some(one.clone()), provider: Some(two.clone()), states: vec![number], labels };
        requests::sessions(&pb::ListSessionsRequest { filter: Some(sessions), page_size: number, ..Default::default() }, &set).err().iter().for_each(bounded);
        let costs = pb::CostFilter { session_id: Some(one.clone()), consumer_id: Some(two.clone()), ..Default::default() };
        let report = pb::GetCostReportRequest { start_time: time, end_time: time, filter: Some(costs), group_by: vec![one.clone(), format!("label:{two}")] };
        requests::cost_report(&report, &set).err().iter().for_each(bounded);
        operations::settle(&pb::SettleInstanceRequest { label: one, reason: two }).err().iter().for_each(bounded);
    }

    #[test]
    fn settings_of_any_text_are_read_or_refused_and_no_secret_is_quoted(
        toml in prop_oneof![text(), "(\\[[a-z.]{1,12}\\]\n)?([a-z_.]{1,20} ?= ?[\"'a-z0-9\\[\\]{}, ]{0,20}\n){0,6}"],
        yaml in prop_oneof![text(), "([a-z_]{1,10}:( [\"'a-z0-9\\[\\]{}, ]{0,20})?\n){0,6}"],
        dotenv in prop_oneof![text(), "([A-Z_]{1,20}=[\"'$a-z0-9{} ]{0,20}\n){0,6}"],
        which in any::<prop::sample::Index>(),
        value in text(),
    ) {
        let all: Vec<_> = settings::SETTINGS.iter().collect();
        let env = BTreeMap::from([(all[which.index(all.len())].env.to_owned(), value.clone()), ("VASTAI_API_KEY".to_owned(), CANARY.to_owned()), ("AUTH_ADMIN_TOKEN".to_owned(), format!("{CANARY}\u{e9}"))]);
        for (path, body) in [("gpu-shopper.toml", &toml), ("gpu-shopper.yaml", &yaml)] {
            let file = Some(SettingsFile { path: path.into(), text: format!("{body}\n# {CANARY}\n") });
            let dotenv = Some(format!("{dotenv}\nTENSORDOCK_API_TOKEN={CANARY}\n"));
            let sources = Sources { env: env.clone(), dotenv, file, flags: BTreeMap::from([("deployment_id".to_owned(), value.clone())]) };
            let shown = match Config::load(&sources) {
                Ok(config) => format!("{:?} {config:?}", config.effective()),
                Err(faults) => faults.to_string(),
            };
            prop_assert!(!shown.contains(CANARY), "{shown}");
            prop_assert!(shown.len() < 200_000);
        }
    }
}

/// Tokens of pages are read by the services, each in its own way.
#[test]
fn page_tokens_of_any_content_are_errors_within_bounds() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let house = runtime.block_on(House::new(77, Faults::gentle()));
    let id = runtime.block_on(house.rent(None)).session.id;
    let mut runner = TestRunner::new(Cases { failure_persistence: None, ..Cases::with_cases(200) });
    let done = runner.run(&token(), |token| {
        if token.is_empty() {
            return Ok(());
        }
        runtime.block_on(async {
            let core = house.core();
            let watch = WatchRequest {
                session: None,
                filter: SessionFilter::default(),
                start: WatchStart::After(token.clone()),
                bookmark: Duration::from_secs(15),
            };
            let errors = [
                core.sessions.list(&caller(), SessionFilter::default(), 10, &token).await.err(),
                core.sessions.events(&caller(), id, 10, &token).await.err(),
                core.costs.ledger(&caller(), CostQuery::default(), 10, &token).await.err(),
                core.operator.audit_page(10, &token).await.err(),
                core.inventory.list(&OfferQuery { page_token: token.clone(), ..OfferQuery::default() }).err(),
                core.operator.offer_health(&HealthQuery { page_token: token.clone(), ..HealthQuery::default() }).await.err(),
                core.sessions.watch(&caller(), watch).await.err(),
            ];
            errors.iter().flatten().for_each(bounded);
        });
        Ok(())
    });
    done.unwrap();
    runtime.block_on(async {
        house.command(id, gpu_shopper::services::api::Command::Destroy).await.unwrap();
        house.until(id, gpu_shopper::domain::session::State::Stopped, Duration::from_secs(3600)).await;
        house.close().await;
    });
}
