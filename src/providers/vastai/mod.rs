//! Vast.ai: a marketplace of other people's machines, rented as containers by the slice.
//!
//! Offers are asks that go away when anybody rents them; the label is the only mark of ours on an instance; nothing is
//! idempotent. What the vendor's fields mean stands in `offers.rs` and `wire.rs`.

pub mod alike;
pub mod offers;
mod templates;
mod wire;

use crate::domain::ids::{OfferId, ProviderId};
use crate::domain::instance::{Billed, Sighting};
use crate::domain::offer::{Component, RentalKind};
use crate::domain::template::Template;
use crate::ports::{
    Account, DestroyAnswer, ErrorKind, LaunchSpec, Launched, LinkState, OfferBatch, Provider, ProviderError, ProviderFacts, StageBudgets,
};
use crate::providers::call::{Call, Fault, Reply};
use crate::providers::http::{Context, Link};
use crate::providers::rows::Reading;
use crate::providers::vastai::alike::Alike;
use crate::providers::{bad_native_id, fingerprint};
use async_trait::async_trait;
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Its name in the register.
pub const NAME: &str = "vastai";
/// Its name for people.
pub const TITLE: &str = "Vast.ai";
/// Where it lives.
pub const BASE_URL: &str = "https://console.vast.ai";
/// The image taken when nobody asks for one: CUDA's runtime on Ubuntu, small enough to be pulled in minutes. The vendor
/// brings its own SSH server into every container, and the host brings the driver and `nvidia-smi`.
pub const DEFAULT_IMAGE: &str = "nvidia/cuda:12.6.3-runtime-ubuntu22.04";
/// The most pages of instances that we read: 25 000 instances. More is a loop.
const MOST_PAGES: usize = 1000;

/// The vendor's shortest intervals between two calls of one kind, for all keys behind one address.
const LANES: [(&str, Duration, u32); 9] = [
    ("templates", apart(1_000), 1),
    ("launch", apart(4_500), 1),
    ("destroy", apart(3_000), 1),
    ("instance", apart(2_000), 1),
    ("instances", apart(1_000), 1),
    ("start", apart(1_000), 1),
    ("attach_key", apart(1_000), 1),
    ("account", apart(1_000), 1),
    // Ten a minute.
    ("offers", apart(6_000), 1),
];

/// What the vendor counts is when calls arrive: one that had to open a connection arrives later after its sending than the next.
const fn apart(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds + 250)
}

/// What it needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The API key, 64 hexadecimal characters.
    pub api_key: SecretString,
    /// Where the API lives, without path: [`BASE_URL`].
    pub base_url: String,
}

/// The adapter.
#[derive(Debug)]
pub struct Vastai {
    facts: ProviderFacts,
    link: Link,
    fallback_identity: String,
    alike: Arc<Mutex<Alike>>,
}

impl Vastai {
    /// With a key.
    ///
    /// # Errors
    /// In words, when the base address is none.
    pub fn new(config: Config, context: Context) -> Result<Self, String> {
        let base = config.base_url.trim().trim_end_matches('/');
        let base = base.strip_suffix("/api/v0").unwrap_or(base);
        let fallback_identity = format!("key-{}", fingerprint(config.api_key.expose_secret().trim()));
        let link = Link::new(NAME, base, config.api_key.clone(), vec![config.api_key], &LANES, context)?;
        Ok(Self { facts: facts(), link, fallback_identity, alike: Arc::default() })
    }

    async fn search(&self, rental: RentalKind) -> Result<OfferBatch, ProviderError> {
        let call = Call::repeatable("offers", "offers", Method::POST, "/api/v0/bundles/");
        let call = call.with_json(offers::search_body(rental)).with_offers(self.link.tuning());
        let begin = || offers::begin(rental, self.link.clock().now(), Arc::clone(&self.alike));
        let read = |reading: Reading<offers::Kept>, reply: &Reply| match reply.ok() {
            true => offers::end(reading, &reply.body),
            false => Err(wire::refusal(reply)),
        };
        self.link.ask_arriving(call, begin, read).await
    }

    async fn search_templates(&self, filters: String) -> Result<Vec<Template>, ProviderError> {
        let call = Call::get("templates", "templates", "/api/v0/template/").with_query("select_filters", filters);
        self.link.ask(call, |reply| templates::read(reply, &self.facts.id)).await
    }

    fn path(&self, operation: &'static str, native_id: &str, rest: &str) -> Result<String, ProviderError> {
        match bad_native_id(native_id) {
            Some(text) => Err(self.link.unsent(operation, ErrorKind::Invalid, text)),
            None => Ok(format!("/api/v0/instances/{native_id}/{rest}")),
        }
    }

    fn unsent(&self, operation: &'static str, fault: Fault) -> ProviderError {
        self.link.unsent(operation, fault.kind, fault.text)
    }
}

/// Whether a text is an offer id of Vast.ai in canonical form.
#[must_use]
pub fn owns(offer_id: &str) -> bool {
    offers::parse_offer_id(offer_id).is_some()
}

fn facts() -> ProviderFacts {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    ProviderFacts {
        id: ProviderId::new(NAME),
        title: TITLE,
        refresh_interval: Duration::from_secs(60),
        visibility_window: Duration::from_secs(60),
        list_interval: Duration::from_secs(2),
        attaches_keys: true,
        billing: vec![(Component::Gpu, Billed::WhileRunning), (Component::Disk, Billed::WhileOnline)],
        budgets: StageBudgets { first_sign: minutes(5), boot: minutes(30), login: minutes(5), gpu: minutes(5), attempt: minutes(45) },
        preserves_storage: false,
        default_image: DEFAULT_IMAGE.to_owned(),
    }
}

#[async_trait]
impl Provider for Vastai {
    fn facts(&self) -> &ProviderFacts {
        &self.facts
    }

    fn owns_offer_id(&self, id: &OfferId) -> bool {
        owns(id.as_str())
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        let call = Call::get("account", "account", "/api/v0/users/current/");
        self.link.ask(call, |reply| wire::read_account(reply, &self.fallback_identity)).await
    }

    /// Two searches, one per kind of rental: both or an error, so that a snapshot is never half.
    async fn offers(&self) -> Result<OfferBatch, ProviderError> {
        self.alike.lock().unwrap_or_else(PoisonError::into_inner).forget_unused();
        let mut all = self.search(RentalKind::OnDemand).await?;
        let bids = self.search(RentalKind::Interruptible).await?;
        all.truncated |= bids.truncated;
        all.skipped += bids.skipped;
        // An ask may be listed twice; the first is as good as the second.
        let mut seen = std::collections::BTreeSet::new();
        all.offers.extend(bids.offers);
        all.offers.retain(|offer| seen.insert(offer.id.clone()));
        Ok(all)
    }

    async fn templates(&self) -> Result<Vec<Template>, ProviderError> {
        self.search_templates(r#"{"recommended":{"eq":true}}"#.to_owned()).await
    }

    async fn template(&self, hash_id: &str) -> Result<Option<Template>, ProviderError> {
        let found = self.search_templates(serde_json::json!({ "hash_id": { "eq": hash_id } }).to_string()).await?;
        Ok(found.into_iter().find(|template| template.hash_id == hash_id))
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Launched, ProviderError> {
        let Some((ask, _)) = offers::parse_offer_id(spec.offer.id.as_str()) else {
            return Err(self.link.unsent("launch", ErrorKind::Invalid, "the offer is none of Vast.ai"));
        };
        let body = wire::launch_body(spec, &self.facts.default_image).map_err(|fault| self.unsent("launch", fault))?;
        let call = Call::launch("launch", Method::PUT, format!("/api/v0/asks/{ask}/")).with_json(body).hiding(spec.secrets());
        let mut launched = self.link.ask(call, wire::read_launch).await?;
        launched.failed = launched.failed.map(|text| self.link.clean(&text));
        Ok(launched)
    }

    async fn attach_key(&self, native_id: &str, public_key: &str) -> Result<(), ProviderError> {
        let path = self.path("attach_key", native_id, "ssh/")?;
        let body = serde_json::json!({ "ssh_key": public_key.trim() }).to_string().into_bytes();
        // The same key twice does no harm, so this may be repeated.
        let call = Call::repeatable("attach_key", "attach_key", Method::POST, path).with_json(body);
        self.link.ask(call, wire::read_done).await
    }

    async fn instance(&self, native_id: &str) -> Result<Option<Sighting>, ProviderError> {
        let path = self.path("instance", native_id, "")?;
        // Past the breaker: this is what confirms that a destroyed machine is gone.
        let call = Call::get("instance", "instance", path).past_breaker();
        self.link.ask(call, |reply| wire::read_instance(reply, native_id)).await
    }

    async fn instances(&self) -> Result<Vec<Sighting>, ProviderError> {
        let mut all: BTreeMap<String, Sighting> = BTreeMap::new();
        let (mut after, mut counted) = (None::<String>, 0);
        for _ in 0..MOST_PAGES {
            let mut call = Call::get("instances", "instances", "/api/v1/instances/").with_query("limit", wire::PAGE_ROWS.to_string());
            if let Some(token) = &after {
                call = call.with_query("after_token", token.as_str());
            }
            let page = self.link.ask(call, wire::read_page).await?;
            // The last page's count is the freshest: machines may go while we turn pages.
            counted = page.counted.unwrap_or(counted);
            let known = all.len();
            all.extend(page.sightings.into_iter().map(|seen| (seen.native_id.clone(), seen)));
            match page.next {
                None if all.len() < counted => {
                    let text = format!("the list is not complete: {} of {counted} instances", all.len());
                    return Err(self.link.incomplete("instances", text));
                }
                None => return Ok(all.into_values().collect()),
                Some(next) if after.as_ref() == Some(&next) || all.len() == known => {
                    let text = "the list is not complete: its next page leads nowhere new";
                    return Err(self.link.incomplete("instances", text));
                }
                Some(next) => after = Some(next),
            }
        }
        Err(self.link.incomplete("instances", "the list is not complete: it has no end"))
    }

    async fn start(&self, native_id: &str) -> Result<(), ProviderError> {
        let path = self.path("start", native_id, "")?;
        let call = Call::write("start", "start", Method::PUT, path).with_json(br#"{"state":"running"}"#.to_vec());
        self.link.ask(call, wire::read_start).await
    }

    async fn destroy(&self, native_id: &str) -> Result<DestroyAnswer, ProviderError> {
        let path = self.path("destroy", native_id, "")?;
        let call = Call::write("destroy", "destroy", Method::DELETE, path).past_breaker();
        self.link.ask(call, wire::read_destroy).await
    }

    fn link(&self) -> LinkState {
        self.link.state()
    }
}
