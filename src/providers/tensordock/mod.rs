//! TensorDock: virtual machines at places of many hosts, by its API v2.
//!
//! Offers are places, not machines: any number may be tried, most tries fail for lack of a node. The name is the only mark
//! of ours on an instance; the account is told apart by the authorization id, since no call names it. A launch may take
//! over a minute and may have worked although its answer was lost.

pub mod offers;
mod wire;

use crate::domain::ids::{OfferId, ProviderId};
use crate::domain::instance::{Billed, Sighting};
use crate::domain::offer::Component;
use crate::ports::{
    Account, DestroyAnswer, ErrorKind, LaunchSpec, Launched, LinkState, OfferBatch, Provider, ProviderError, ProviderFacts, StageBudgets,
};
use crate::providers::bad_native_id;
use crate::providers::call::{Call, Reply};
use crate::providers::http::{Context, Link};
use crate::providers::rows::Reading;
use async_trait::async_trait;
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;

pub use offers::owns;

/// Its name in the register.
pub const NAME: &str = "tensordock";
/// Its name for people.
pub const TITLE: &str = "TensorDock";
/// Where it lives.
pub const BASE_URL: &str = "https://dashboard.tensordock.com";
/// The image taken when nobody asks for one: it brings the NVIDIA driver, which plain images lack or have half installed.
pub const DEFAULT_IMAGE: &str = "ubuntu2404_ml_everything";

/// The vendor takes 100 calls in any minute. Fifty are for looks, and a quarter for launches, so that however many of these wait, what
/// they bring forth is seen; the rest is kept for destroys, five at once and then one every three seconds, which wait for neither.
const LANES: [(&str, Duration, u32); 3] =
    [("any", Duration::from_millis(1_200), 1), ("launch", Duration::from_millis(2_400), 1), ("destroy", Duration::from_secs(3), 5)];

/// What it needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The authorization id, which the vendor shows beside the token. No call sends it.
    pub auth_id: String,
    /// The API token.
    pub api_token: SecretString,
    /// Where the API lives, without path: [`BASE_URL`].
    pub base_url: String,
    /// The image taken when nobody asks for one: [`DEFAULT_IMAGE`].
    pub default_image: String,
}

/// The adapter.
#[derive(Debug)]
pub struct Tensordock {
    facts: ProviderFacts,
    link: Link,
    identity: String,
}

impl Tensordock {
    /// With credentials.
    ///
    /// # Errors
    /// In words, when the base address is none.
    pub fn new(config: Config, context: Context) -> Result<Self, String> {
        let base = config.base_url.trim().trim_end_matches('/');
        let base = base.strip_suffix("/api/v2").unwrap_or(base);
        let identity = format!("auth-{}", super::fingerprint(&format!("{}\n{}", config.auth_id.trim(), config.api_token.expose_secret().trim())));
        let link = Link::new(NAME, base, config.api_token.clone(), vec![config.api_token], &LANES, context)?;
        Ok(Self { facts: facts(&config.default_image), link, identity })
    }

    fn path(&self, operation: &'static str, native_id: &str, rest: &str) -> Result<String, ProviderError> {
        match bad_native_id(native_id) {
            Some(text) => Err(self.link.unsent(operation, ErrorKind::Invalid, text)),
            None => Ok(format!("/api/v2/instances/{native_id}{rest}")),
        }
    }
}

fn facts(default_image: &str) -> ProviderFacts {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    ProviderFacts {
        id: ProviderId::new(NAME),
        title: TITLE,
        refresh_interval: Duration::from_secs(30),
        visibility_window: Duration::from_secs(180),
        list_interval: Duration::from_secs(3),
        attaches_keys: false,
        // A stopped machine keeps its GPU and, as far as anybody knows, its full price.
        billing: Component::ALL.into_iter().map(|component| (component, Billed::WhileExisting)).collect(),
        budgets: StageBudgets { first_sign: minutes(10), boot: minutes(15), login: minutes(10), gpu: minutes(15), attempt: minutes(45) },
        preserves_storage: false,
        default_image: default_image.to_owned(),
    }
}

#[async_trait]
impl Provider for Tensordock {
    fn facts(&self) -> &ProviderFacts {
        &self.facts
    }

    fn owns_offer_id(&self, id: &OfferId) -> bool {
        owns(id.as_str())
    }

    /// Proven by the list of instances: places are told to anybody. The vendor tells no balance.
    async fn account(&self) -> Result<Account, ProviderError> {
        let call = Call::get("account", "any", "/api/v2/instances").with_machines();
        self.link.ask(call, wire::read_instances).await?;
        // The vendor tells no name. The token alone opens the account, whatever the id beside it says: other credentials count
        // as another account, but for a machine of ours that a list made with them shows.
        Ok(Account { identity: self.identity.clone(), balance: None })
    }

    async fn offers(&self) -> Result<OfferBatch, ProviderError> {
        let call = Call::get("offers", "any", "/api/v2/locations").with_offers(self.link.tuning());
        let begin = || offers::begin(self.link.clock().now());
        let read = |reading: Reading<offers::Kept>, reply: &Reply| match reply.ok() {
            true => offers::end(reading, &reply.body).map_err(|fault| wire::or_complaint(reply, fault)),
            false => Err(wire::refusal(reply)),
        };
        self.link.ask_arriving(call, begin, read).await
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Launched, ProviderError> {
        let body = wire::launch_body(spec, &self.facts.default_image);
        let body = body.map_err(|fault| self.link.unsent("launch", fault.kind, fault.text))?;
        let call = Call::launch("launch", Method::POST, "/api/v2/instances").with_json(body).hiding(spec.secrets());
        let mut launched = self.link.ask(call, wire::read_launch).await?;
        launched.failed = launched.failed.map(|text| self.link.clean(&text));
        Ok(launched)
    }

    /// Keys are installed at launch.
    async fn attach_key(&self, _native_id: &str, _public_key: &str) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn instance(&self, native_id: &str) -> Result<Option<Sighting>, ProviderError> {
        let path = self.path("instance", native_id, "")?;
        // Past the breaker: this is what confirms that a destroyed machine is gone.
        let call = Call::get("instance", "any", path).past_breaker();
        self.link.ask(call, |reply| wire::read_instance(reply, native_id)).await
    }

    async fn instances(&self) -> Result<Vec<Sighting>, ProviderError> {
        self.link.ask(Call::get("instances", "any", "/api/v2/instances").with_machines(), wire::read_instances).await
    }

    async fn start(&self, native_id: &str) -> Result<(), ProviderError> {
        let path = self.path("start", native_id, "/start")?;
        self.link.ask(Call::write("start", "any", Method::POST, path), wire::read_done).await
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
