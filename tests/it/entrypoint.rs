//! Machines that start a server by themselves: what is started, where its API answers, what the model needs, and that
//! nothing secret of it lies about.

use crate::support::real::Real;
use crate::support::{House, Plan, any, caller, exactly, request};
use gpu_shopper::domain::event::EventType;
use gpu_shopper::domain::ids::SessionId;
use gpu_shopper::domain::offer::Offer;
use gpu_shopper::domain::service;
use gpu_shopper::domain::session::{
    AttemptFailure, ConditionType, LaunchMode, Quantization, RegistryLogin, Request, StartSecrets, State, Target, Truth, Workload,
};
use gpu_shopper::services::Code;
use gpu_shopper::services::api::{Command, Create, Created};
use gpu_shopper::services::error::Error;
use gpu_shopper::sim::Faults;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const MODEL: &str = "Qwen/Qwen2.5-7B-Instruct";

fn create_of(request: Request, secrets: StartSecrets) -> Create {
    Create { idempotency: None, request, labels: BTreeMap::new(), secrets, template: None, validate_only: false, private_key: None }
}

/// A model served by vLLM, anywhere at a provider.
fn serving(provider: &str) -> Request {
    let mut wanted = request(any(Some(provider)));
    wanted.workload = Workload::LlmVllm;
    wanted.launch_mode = LaunchMode::Entrypoint;
    wanted.model_id = Some(MODEL.to_owned());
    wanted
}

async fn create(house: &House, request: Request) -> Result<Created, Error> {
    house.core().lifecycle.create(caller(), create_of(request, StartSecrets::default())).await
}

async fn finish(house: House, id: SessionId) {
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_api_is_found_and_asked_until_it_is_ready() {
    for (seed, provider) in [(1, "vastai"), (2, "tensordock")] {
        let house = House::new(seed, Faults::none()).await;
        let id = create(&house, serving(provider)).await.unwrap().session.id;
        let running = house.until(id, State::Running, 5 * MINUTE).await;
        let (host, port) = service::api_address(&running).unwrap();
        let outside = running.ports.iter().find(|(inside, _)| *inside == 8000).map(|(_, outside)| *outside);
        assert_eq!((Some(port), Some(&host)), (outside, running.public_host.as_ref()), "{provider}");
        assert_eq!(running.attempts[0].disk_gb, if provider == "vastai" { 45 } else { 100 }, "what the model needs");
        house.pass(MINUTE).await;
        let ready = house.get(id).await.condition(ConditionType::ApiReady).cloned().unwrap();
        assert_eq!((ready.status, ready.reason.as_str()), (Truth::True, "answers"), "{provider}");
        let told: Vec<String> = house.events().await.into_iter().filter(|e| e.kind == EventType::ConditionChanged).map(|e| e.message).collect();
        let api: Vec<&str> = told.iter().filter(|m| m.starts_with("api_ready")).map(String::as_str).collect();
        assert_eq!(api, ["api_ready is false: http_503", "api_ready is true: answers"]);
        // A host that goes silent is a condition of the API as well, and no ending.
        if provider == "tensordock" {
            let machine = house.alive().into_iter().next().unwrap();
            house.market.set_offline(&machine, true);
            house.pass(11 * MINUTE).await;
            let session = house.get(id).await;
            assert_eq!(session.state, State::Running);
            assert_eq!(session.condition(ConditionType::ApiReady).map(|c| c.status), Some(Truth::False));
            house.market.set_offline(&machine, false);
        }
        finish(house, id).await;
    }
}

/// What compiles for its GPU at its first start takes minutes, now and then many: that ends nothing, it is asked all the while,
/// and told once when it answers.
#[tokio::test(start_paused = true)]
async fn a_server_that_warms_up_for_long_is_waited_for_and_told_when_it_answers() {
    for (minutes, soon) in [(3, 11), (25, 11), (50, 61)] {
        let house = Plan { refresh: Some(360 * MINUTE), ..Plan::new(9, Faults::none()) }.build().await;
        house.script.say().api = Some(503);
        let id = create(&house, Request { reservation: 120 * MINUTE, ..serving("vastai") }).await.unwrap().session.id;
        house.until(id, State::Running, 5 * MINUTE).await;
        house.pass(minutes * MINUTE).await;
        let cold = house.get(id).await;
        let api = cold.condition(ConditionType::ApiReady).unwrap();
        assert_eq!((cold.state, api.status, api.reason.as_str()), (State::Running, Truth::False, "http_503"), "{minutes}");
        let warm = house.now();
        house.script.say().api = None;
        house.pass(MINUTE + MINUTE / 6).await;
        let told = house.events().await.into_iter().filter(|e| e.kind == EventType::ConditionChanged && e.message.starts_with("api_ready"));
        let told: Vec<_> = told.map(|e| (e.message, e.at)).collect();
        let words: Vec<&str> = told.iter().map(|(message, _)| message.as_str()).collect();
        assert_eq!(words, ["api_ready is false: http_503", "api_ready is true: answers"], "{minutes}");
        assert!(told[1].1.since(warm) <= Duration::from_secs(soon), "{minutes}: {} after {warm}", told[1].1);
        finish(house, id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_plain_machine_has_no_api_and_is_not_asked_for_one() {
    let house = House::new(3, Faults::none()).await;
    let mut wanted = request(any(Some("vastai")));
    wanted.exposed_ports = vec![9000];
    let id = create(&house, wanted).await.unwrap().session.id;
    house.until(id, State::Running, 5 * MINUTE).await;
    house.pass(15 * MINUTE).await;
    let session = house.get(id).await;
    assert!(session.condition(ConditionType::ApiReady).is_none() && service::api_address(&session).is_none());
    assert!(session.ports.iter().any(|(inside, _)| *inside == 9000), "the port is mapped all the same");
    finish(house, id).await;
}

#[tokio::test(start_paused = true)]
async fn ports_are_not_promised_where_only_a_proxy_leads() {
    let house = House::new(4, Faults::none()).await;
    let snapshot = house.core().inventory.snapshot();
    let closed = snapshot.offers.iter().find(|o| o.direct_ports == Some(false)).unwrap().id.clone();
    let mut wanted = serving("vastai");
    wanted.target = exactly(&closed);
    let error = create(&house, wanted).await.unwrap_err();
    assert_eq!((error.reason, error.violations[0].field.as_str()), ("INVALID_FIELD", "exposed_ports"));
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_hold_the_model_is_refused_with_the_sum() {
    let house = House::new(5, Faults::none()).await;
    let with = |gb: u32, quantization: Option<Quantization>| {
        let mut wanted = serving("vastai");
        (wanted.disk_gb, wanted.quantization) = (Some(gb), quantization);
        wanted
    };
    let error = create(&house, with(35, None)).await.unwrap_err();
    assert_eq!((error.code, error.reason), (Code::InvalidArgument, "INSUFFICIENT_DISK"));
    let told: BTreeMap<&str, &str> = error.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let want = [
        ("requested_gb", "35"),
        ("minimum_gb", "36"),
        ("recommended_gb", "45"),
        ("model_weight_gb", "14"),
        ("download_buffer_gb", "7"),
        ("docker_image_gb", "10"),
        ("system_overhead_gb", "5"),
        ("template_floor_gb", "0"),
        ("model_id", MODEL),
        ("quantization", "fp16"),
        ("param_count_b", "7.000"),
    ];
    assert_eq!(told, want.into());
    assert!(error.message.contains("weights 14 + download 7 + image 10 + system 5") && error.message.contains("ask for 45 GB"), "{error}");
    // The edge, and a smaller way to store it, are fine.
    for fine in [with(36, None), with(25, Some(Quantization::Awq))] {
        let mut only_checked = create_of(fine, StartSecrets::default());
        only_checked.validate_only = true;
        house.core().lifecycle.create(caller(), only_checked).await.unwrap();
    }
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn gpus_that_are_too_small_for_the_model_are_warned_about() {
    let house = House::new(6, Faults::none()).await;
    let snapshot = house.core().inventory.snapshot();
    let total = |o: &Offer| o.gpu_memory_mib * o.gpu_count;
    let of = |large: bool| {
        let fits = |o: &&Arc<Offer>| o.provider.as_str() == "vastai" && o.direct_ports != Some(false) && (total(o) >= 14_686) == large;
        snapshot.offers.iter().find(fits).unwrap()
    };
    for (large, warned) in [(false, true), (true, false)] {
        let mut wanted = serving("vastai");
        wanted.target = exactly(&of(large).id);
        let mut checked = create_of(wanted, StartSecrets::default());
        checked.validate_only = true;
        let warnings = house.core().lifecycle.create(caller(), checked).await.unwrap().warnings;
        assert_eq!(warnings.iter().any(|w| w.contains("14686 MiB of GPU memory") && w.contains("this offer has")), warned, "{warnings:?}");
    }
    let mut by_need = serving("vastai");
    if let Target::Requirements { filter, .. } = &mut by_need.target {
        filter.min_gpu_memory_mib = Some(24_000);
    }
    for (wanted, warned) in [(serving("vastai"), true), (by_need, false)] {
        let mut checked = create_of(wanted, StartSecrets::default());
        checked.validate_only = true;
        let warnings = house.core().lifecycle.create(caller(), checked).await.unwrap().warnings;
        assert_eq!(warnings.iter().any(|w| w.contains("the filter asks for at least 0")), warned, "{warnings:?}");
    }
    house.close().await;
}

// === secrets ===

const CANARIES: [&str; 4] = ["canary-of-the-env", "canary-of-the-secret-env", "canary-of-the-commands", "canary-of-the-registry"];

fn canaries() -> StartSecrets {
    let [env, secret, commands, registry] = CANARIES;
    StartSecrets {
        env: [("PLAIN".to_owned(), env.to_owned())].into(),
        secret_env: [("HF_TOKEN".to_owned(), secret.to_owned())].into(),
        on_start: Some(format!("echo {commands}")),
        registry: Some(RegistryLogin { server: "ghcr.io".to_owned(), username: "alice".to_owned(), password: registry.to_owned() }),
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_machine_is_started_with_arrives_and_lies_nowhere_in_clear() {
    // The vendor answers with everything that it was sent, as some do.
    let house = Plan::new(7, Faults::none())
        .on_disk()
        .wrapped(Arc::new(|inner| Arc::new(crate::support::Echo { inner, refuse_first: std::sync::atomic::AtomicBool::new(true) })))
        .build()
        .await;
    let created = house.core().lifecycle.create(caller(), create_of(request(any(Some("vastai"))), canaries())).await.unwrap();
    let id = created.session.id;
    let session = house.until(id, State::Running, 10 * MINUTE).await;
    assert_eq!(session.attempts.len(), 2, "the first launch was refused");
    assert!(session.attempts[0].text.contains("***"), "{}", session.attempts[0].text);
    assert_eq!((session.request.start.env_names.len(), session.request.start.sealed.is_some()), (0, true), "names come from the wire's side");
    let (events, shown) = (house.events().await, format!("{session:?}{created:?}{:?}", create_of(request(any(None)), canaries())));
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
    for canary in CANARIES {
        assert!(!shown.contains(canary), "{canary} in a debug text");
        assert!(!format!("{events:?}").contains(canary), "{canary} in an event");
    }
    for file in std::fs::read_dir(house.path().parent().unwrap()).unwrap().map(|f| f.unwrap().path()) {
        let bytes = std::fs::read(&file).unwrap();
        for canary in CANARIES {
            assert!(!bytes.windows(canary.len()).any(|part| part == canary.as_bytes()), "{canary} in {}", file.display());
        }
    }
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn with_another_secret_nothing_is_launched_without_what_it_needs() {
    let mut faults = Faults::none();
    faults.set("image_pull", "20m").unwrap();
    let mut house = Plan::new(8, faults).on_disk().build().await;
    let wanted = create_of(request(any(Some("vastai"))), canaries());
    let id = house.core().lifecycle.create(caller(), wanted).await.unwrap().session.id;
    house.pass(MINUTE).await;
    house.secret = [8; 32];
    house.crash(MINUTE).await;
    // The first machine was started with everything and stays; the next one could not be.
    house.pass(MINUTE).await;
    assert_eq!(house.get(id).await.attempts.len(), 1);
    let machine = house.alive().into_iter().next().unwrap();
    house.market.vanish(&machine);
    let ended = house.reach(id, None, 30 * MINUTE).await;
    assert_eq!(ended.state, State::Failed, "{}", ended.status_message);
    assert_eq!(ended.attempts.last().and_then(|a| a.failure), Some(AttemptFailure::SecretLost));
    assert_eq!(house.market.truth().len(), 1, "no second machine came to be");
    house.close().await;
}

// === with everything real but the vendors ===

#[tokio::test]
async fn an_api_answers_over_real_sockets_at_both_vendors() {
    for (seed, provider) in [(41, "vastai"), (42, "tensordock")] {
        let real = Real::start(seed).await;
        let session = real.run(create_of(serving(provider), canaries())).await;
        let id = session.id;
        let ready = async || real.get(id).await.condition(ConditionType::ApiReady).is_some_and(|c| c.status == Truth::True);
        for _ in 0..1500 {
            if ready().await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let session = real.get(id).await;
        assert!(ready().await, "{provider}: {:?} at {:?}", session.condition(ConditionType::ApiReady), service::api_address(&session));
        let (host, port) = service::api_address(&session).unwrap();
        let body = reqwest::get(format!("{}/v1/models", service::url(&host, port))).await.unwrap().text().await.unwrap();
        assert!(body.contains("\"object\":\"list\""), "{body}");
        assert_eq!(real.end(id, &CANARIES).await, Vec::<String>::new());
    }
}

#[test]
fn what_is_started_follows_from_workload_model_and_quantization() {
    let mut wanted = serving("vastai");
    wanted.quantization = Some(Quantization::Awq);
    let vllm = service::service(&wanted).unwrap();
    assert_eq!((vllm.image.as_str(), vllm.port), (service::VLLM_IMAGE, Some(8000)));
    assert_eq!(vllm.arguments.join(" "), format!("--model {MODEL} --host 0.0.0.0 --port 8000 --quantization awq"));
    wanted.workload = Workload::LlmTgi;
    wanted.exposed_ports = vec![8080, 9090];
    wanted.image = Some("my/tgi:1".to_owned());
    let tgi = service::service(&wanted).unwrap();
    assert_eq!((tgi.image.as_str(), tgi.port, tgi.entrypoint.as_slice()), ("my/tgi:1", Some(8080), &["text-generation-launcher".to_owned()][..]));
    assert_eq!(tgi.arguments.join(" "), format!("--model-id {MODEL} --hostname 0.0.0.0 --port 8080 --quantize awq"));
    assert_eq!(service::ports(&wanted), [8080, 9090]);
    wanted.launch_mode = LaunchMode::Ssh;
    assert_eq!((service::service(&wanted), service::api_port(&wanted)), (None, None));
    assert_eq!(service::url("2001:db8::1", 80), "http://[2001:db8::1]:80");
}
