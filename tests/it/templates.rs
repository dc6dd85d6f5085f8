//! Templates: what a vendor keeps ready, what it needs, and who has the last word about what runs.

use crate::support::{House, Plan, any, caller, exactly, request};
use async_trait::async_trait;
use gpu_shopper::clock::Clock;
use gpu_shopper::domain::ids::{OfferId, ProviderId};
use gpu_shopper::domain::instance::Sighting;
use gpu_shopper::domain::session::{Session, StartSecrets, State, Target};
use gpu_shopper::domain::template::Template;
use gpu_shopper::ports::{Account, DestroyAnswer, LaunchSpec, Launched, OfferBatch, Provider, ProviderError, ProviderFacts, SystemChance};
use gpu_shopper::providers::http::{Context, Tuning, install_crypto};
use gpu_shopper::providers::{Settings, entry};
use gpu_shopper::services::Code;
use gpu_shopper::services::api::{Command, Create, Created, Idempotency};
use gpu_shopper::services::error::Error;
use gpu_shopper::services::templates::TemplateQuery;
use gpu_shopper::sim::{Dialect, Faults, SimProvider, World, WorldConfig};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
/// A template that needs CUDA 12.4 and 22 000 MiB, maps 8000 and recommends 120 GB.
const VLLM: &str = "1b2c3d4e5f60718293a4b5c6d7e8f90a";
const OLLAMA: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
/// One that its vendor does not recommend.
const OWN: &str = "4e5f60718293a4b5c6d7e8f90a1b2c3d";

async fn create(house: &House, target: Target, hash: &str, change: impl FnOnce(&mut Create)) -> Result<Created, Error> {
    let mut create = Create {
        idempotency: None,
        request: request(target),
        labels: BTreeMap::new(),
        secrets: StartSecrets::default(),
        template: Some(hash.to_owned()),
        validate_only: false,
        private_key: None,
    };
    change(&mut create);
    house.core().lifecycle.create(caller(), create).await
}

/// Notes what is launched, counts questions about templates, and answers none of them while it is shut.
struct Ear {
    inner: Arc<dyn Provider>,
    heard: Heard,
}

#[derive(Clone, Default)]
struct Heard {
    launches: Arc<Mutex<Vec<LaunchSpec>>>,
    asked: Arc<AtomicUsize>,
    shut: Arc<AtomicBool>,
}

impl Heard {
    fn question(&self) -> Result<(), ProviderError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.shut.load(Ordering::Relaxed) { Err(crate::support::silence("templates")) } else { Ok(()) }
    }
}

#[async_trait]
impl Provider for Ear {
    fn facts(&self) -> &ProviderFacts {
        self.inner.facts()
    }
    fn owns_offer_id(&self, id: &OfferId) -> bool {
        self.inner.owns_offer_id(id)
    }
    async fn account(&self) -> Result<Account, ProviderError> {
        self.inner.account().await
    }
    async fn offers(&self) -> Result<OfferBatch, ProviderError> {
        self.inner.offers().await
    }
    async fn templates(&self) -> Result<Vec<Template>, ProviderError> {
        self.heard.question()?;
        self.inner.templates().await
    }
    async fn template(&self, hash_id: &str) -> Result<Option<Template>, ProviderError> {
        self.heard.question()?;
        self.inner.template(hash_id).await
    }
    async fn launch(&self, spec: &LaunchSpec) -> Result<Launched, ProviderError> {
        self.heard.launches.lock().unwrap().push(spec.clone());
        self.inner.launch(spec).await
    }
    async fn attach_key(&self, native_id: &str, public_key: &str) -> Result<(), ProviderError> {
        self.inner.attach_key(native_id, public_key).await
    }
    async fn instance(&self, native_id: &str) -> Result<Option<Sighting>, ProviderError> {
        self.inner.instance(native_id).await
    }
    async fn instances(&self) -> Result<Vec<Sighting>, ProviderError> {
        self.inner.instances().await
    }
    async fn start(&self, native_id: &str) -> Result<(), ProviderError> {
        self.inner.start(native_id).await
    }
    async fn destroy(&self, native_id: &str) -> Result<DestroyAnswer, ProviderError> {
        self.inner.destroy(native_id).await
    }
}

async fn listening(seed: u64) -> (House, Heard) {
    let heard = Heard::default();
    let ears = heard.clone();
    let plan = Plan::new(seed, Faults::none()).wrapped(Arc::new(move |inner| Arc::new(Ear { inner, heard: ears.clone() })));
    (plan.build().await, heard)
}

async fn finish(house: &House, session: &Session) {
    house.command(session.id, Command::Destroy).await.unwrap();
    house.until(session.id, State::Stopped, 10 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_template_fills_in_what_the_request_does_not_say() {
    let (house, heard) = listening(1).await;
    let created = create(&house, any(None), VLLM, |_| {}).await.unwrap();
    let session = house.until(created.session.id, State::Running, 5 * MINUTE).await;
    let offer = session.offer().unwrap();
    assert_eq!((offer.provider.as_str(), session.attempts[0].disk_gb), ("vastai", 120));
    assert!(offer.cuda.is_none_or(|c| c >= 1204) && offer.gpu_memory_mib * offer.gpu_count >= 22_000);
    let spec = heard.launches.lock().unwrap().pop().unwrap();
    assert_eq!((spec.image.as_deref(), spec.template.as_deref(), spec.ports.as_slice()), (Some("vllm/vllm-openai:v0.6.6"), Some(VLLM), &[8000][..]));
    assert_eq!(spec.env.get("VLLM_MODEL").map(String::as_str), Some("Qwen/Qwen2.5-7B-Instruct"));
    assert!(session.ports.iter().any(|(inside, outside)| *inside == 8000 && *outside > 0), "{:?}", session.ports);
    assert_eq!(session.request.login_budget(), Some(15 * MINUTE), "a heavy image has its time");
    finish(&house, &session).await;

    // What the request says goes before what the template says.
    let created = create(&house, any(None), OLLAMA, |create| {
        let own = &mut create.request;
        own.image = Some("my/ollama:1".to_owned());
        own.disk_gb = Some(200);
        create.secrets.env = [("OLLAMA_HOST", "127.0.0.1"), ("MINE", "1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        create.secrets.on_start = Some("true".to_owned());
        let own = &mut create.request;
        own.ssh_timeout = Some(3 * MINUTE);
    });
    let session = house.until(created.await.unwrap().session.id, State::Running, 5 * MINUTE).await;
    let spec = heard.launches.lock().unwrap().pop().unwrap();
    assert_eq!((spec.image.as_deref(), spec.disk_gb, spec.on_start.as_deref()), (Some("my/ollama:1"), 200, Some("true")));
    let env: Vec<(&str, &str)> = spec.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(env, [("MINE", "1"), ("OLLAMA_HOST", "127.0.0.1"), ("OLLAMA_ORIGINS", "*")]);
    assert_eq!(session.request.login_budget(), Some(3 * MINUTE));
    finish(&house, &session).await;
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_template_cannot_run_on_is_refused_before_anything_is_rented() {
    let house = House::new(2, Faults::none()).await;
    let snapshot = house.core().inventory.snapshot();
    let of = |provider: &str, small: bool| {
        let fits = |o: &&Arc<gpu_shopper::domain::offer::Offer>| {
            o.provider.as_str() == provider && o.cuda.is_none_or(|c| c >= 1204) && (o.gpu_memory_mib * o.gpu_count < 22_000) == small
        };
        snapshot.offers.iter().find(fits).unwrap().id.clone()
    };
    for (offer, why) in [(of("vastai", true), "MiB of GPU memory in all"), (of("tensordock", false), "a template of vastai")] {
        let error = create(&house, exactly(&offer), VLLM, |_| {}).await.unwrap_err();
        assert_eq!((error.reason, error.violations[0].field.as_str()), ("INVALID_FIELD", "template_hash_id"));
        assert!(error.violations[0].description.contains(why) && error.violations[0].description.contains("ListTemplates"), "{error:?}");
    }
    let only = create(&house, any(Some("tensordock")), VLLM, |_| {}).await.unwrap_err();
    assert_eq!(only.reason, "NO_CAPACITY");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_template_is_not_found_and_no_hash_is_wrong() {
    let house = House::new(3, Faults::none()).await;
    let unknown = create(&house, any(None), "feed0000", |_| {}).await.unwrap_err();
    assert_eq!((unknown.code, unknown.reason), (Code::NotFound, "TEMPLATE_NOT_FOUND"));
    assert!(unknown.message.contains("feed0000") && unknown.message.contains("list templates again"), "{unknown}");
    for bad in ["", "../../x", "a b", &"f".repeat(65)] {
        assert_eq!(house.core().templates.get(bad).await.unwrap_err().reason, "INVALID_FIELD", "{bad}");
    }
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn lists_are_filtered_and_fit_an_offer() {
    let house = House::new(4, Faults::none()).await;
    let list = async |query: TemplateQuery| {
        let found = house.core().templates.list(&query).await.unwrap();
        found.iter().map(|t| t.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(list(TemplateQuery::default()).await, ["Jupyter, no SSH", "Ollama", "PyTorch", "vLLM"]);
    assert_eq!(list(TemplateQuery { ssh_only: true, ..TemplateQuery::default() }).await, ["Ollama", "PyTorch", "vLLM"]);
    assert_eq!(list(TemplateQuery { name: Some("LLM".to_owned()), ..TemplateQuery::default() }).await, ["vLLM"]);
    assert_eq!(list(TemplateQuery { image: Some("PYTORCH/".to_owned()), ..TemplateQuery::default() }).await, ["PyTorch"]);
    assert_eq!(house.core().templates.get(OWN).await.unwrap().name, "Somebody's own", "by its hash also what is not recommended");
    for offer in house.core().inventory.snapshot().offers.iter() {
        let names = list(TemplateQuery { offer: Some(offer.id.clone()), ..TemplateQuery::default() }).await;
        let roomy = offer.gpu_memory_mib * offer.gpu_count >= 22_000 && offer.cuda.is_none_or(|c| c >= 1204);
        match offer.provider.as_str() {
            "vastai" => assert_eq!(names.contains(&"vLLM".to_owned()), roomy, "{}", offer.id),
            _ => assert!(names.is_empty()),
        }
    }
    let gone = house.core().templates.list(&TemplateQuery { offer: Some(OfferId::new("vastai-1")), ..TemplateQuery::default() }).await;
    assert_eq!(gone.unwrap_err().reason, "OFFER_NOT_FOUND");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_vendor_is_asked_once_an_hour_and_what_is_known_outlives_its_silence() {
    let (house, heard) = listening(5).await;
    let templates = &house.core().templates;
    let asked = || heard.asked.swap(0, Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(templates.list(&TemplateQuery::default()).await.unwrap().len(), 4);
        templates.get(VLLM).await.unwrap();
    }
    assert_eq!(asked(), 2, "each provider once, for its list: the template is in it");
    heard.shut.store(true, Ordering::Relaxed);
    house.pass(61 * MINUTE).await;
    assert_eq!(templates.get(VLLM).await.unwrap().name, "vLLM");
    assert_eq!(templates.list(&TemplateQuery::default()).await.unwrap().len(), 4, "kept, though old");
    let error = templates.get(OWN).await.unwrap_err();
    assert_eq!((error.reason, error.retry_after.is_some()), ("PROVIDER_UNREACHABLE", true));
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_create_is_answered_though_its_template_is_gone() {
    let (house, heard) = listening(6).await;
    let named = |create: &mut Create| create.idempotency = Some(Idempotency { request_id: "r".to_owned(), hash: "h".to_owned() });
    let first = create(&house, any(None), OWN, named).await.unwrap();
    house.pass(2 * MINUTE).await;
    heard.shut.store(true, Ordering::Relaxed);
    let again = create(&house, any(None), "feed0000", named).await.unwrap();
    assert_eq!((again.session.id, again.replayed), (first.session.id, true));
    finish(&house, &again.session).await;
    house.close().await;
}

#[tokio::test]
async fn the_wire_tells_the_templates_that_the_market_means() {
    install_crypto();
    let world = World::start(WorldConfig::local(23, Faults::none())).await.unwrap();
    let settings = Settings::new().with("api_key", &world.keys.vastai_key).with("base_url", &world.vastai_url);
    let tuning = Tuning { pace_percent: 0, read_retries: 0, ..Tuning::default() };
    let context = Context { tuning, ..Context::new(Clock::System, Arc::new(SystemChance)) };
    let wire = (entry("vastai").unwrap().build)(&settings, &context).unwrap();
    let twin = SimProvider::new(Arc::clone(&world.market), world.vastai_account, Dialect::Vastai);
    assert_eq!(wire.templates().await.unwrap(), twin.templates().await.unwrap());
    for hash in [VLLM, OWN] {
        let told = wire.template(hash).await.unwrap();
        assert_eq!((told.is_some(), &told), (true, &twin.template(hash).await.unwrap()));
    }
    assert_eq!(wire.template("feed0000").await.unwrap(), None);
    // A machine from a template is run the SSH way, and its ports are mapped.
    let offers = wire.offers().await.unwrap().offers;
    let template = wire.template(VLLM).await.unwrap().unwrap();
    let offer = offers.iter().find(|o| template.needs.met_by(o).is_ok()).unwrap();
    let mut spec = LaunchSpec {
        label: gpu_shopper::domain::ids::Label {
            tag: gpu_shopper::app::tag_of("templates"),
            session: gpu_shopper::domain::ids::SessionId::new(Clock::System.now(), 1),
            attempt: 1,
        },
        offer: offer.clone(),
        image: Some(template.image.clone()),
        disk_gb: 120,
        bid: None,
        public_keys: Vec::new(),
        env: template.env.clone(),
        on_start: None,
        ports: template.ports.clone(),
        template: Some(template.hash_id.clone()),
        service: None,
        registry: None,
    };
    spec.bid = offer.min_bid;
    let id = wire.launch(&spec).await.unwrap().native_id;
    let mut seen = wire.instance(&id).await.unwrap().unwrap();
    for _ in 0..200 {
        if !seen.endpoints.is_empty() && !seen.ports.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
        seen = wire.instance(&id).await.unwrap().unwrap();
    }
    assert!(seen.endpoints.iter().any(|e| e.user == "root"), "{seen:?}");
    assert_eq!(seen.machine.map(|m| m.to_string().starts_with("vastai:")), Some(true));
    assert_eq!(template.provider(), &ProviderId::new("vastai"));
    wire.destroy(&id).await.unwrap();
    world.stop().await;
}
