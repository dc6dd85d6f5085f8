//! A provider whose credentials can be replaced while it is in use.
//!
//! The register makes a second provider with the new ones, and it takes the place of the first: calls under way end with the
//! old credentials, later ones begin with the new. The new link knows nothing of the old one's failures and waits, which is
//! what somebody who has just mended a key wants. What a provider is like (its facts) never changes.

use crate::domain::ids::OfferId;
use crate::domain::instance::Sighting;
use crate::domain::template::Template;
use crate::ports::{Account, DestroyAnswer, LaunchSpec, Launched, LinkState, OfferBatch, Provider, ProviderError, ProviderFacts};
use crate::providers::{BuildError, Context, Entry, Settings};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use secrecy::ExposeSecret;
use std::sync::{Arc, Mutex, PoisonError};

/// See the module's header.
pub struct Renewable {
    entry: &'static Entry,
    context: Context,
    facts: ProviderFacts,
    settings: Mutex<Settings>,
    present: ArcSwap<Arc<dyn Provider>>,
}

/// Other credentials, and the link that they make.
pub struct Renewed {
    link: Arc<Arc<dyn Provider>>,
    settings: Settings,
}

impl Renewable {
    /// With its first credentials.
    ///
    /// # Errors
    /// As its entry in the register says.
    pub fn new(entry: &'static Entry, settings: Settings, context: Context) -> Result<Self, BuildError> {
        let first = (entry.build)(&settings, &context)?;
        Ok(Self { entry, context, facts: first.facts().clone(), settings: Mutex::new(settings), present: ArcSwap::from_pointee(first) })
    }

    /// The link that the credentials of `settings` make, and nothing else of it; `None` when they are those that it has.
    /// Nothing changes before [`Renewable::take`].
    ///
    /// # Errors
    /// As its entry in the register says.
    pub fn renewed(&self, settings: &Settings) -> Result<Option<Renewed>, BuildError> {
        let held = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = held.clone();
        for own in self.entry.credentials() {
            wanted.set(own.key, settings.get(own.key).map_or("", |value| value.expose_secret()));
        }
        let same = |key: &str| wanted.get(key).map(ExposeSecret::expose_secret) == held.get(key).map(ExposeSecret::expose_secret);
        if self.entry.credentials().all(|own| same(own.key)) {
            return Ok(None);
        }
        Ok(Some(Renewed { link: Arc::new((self.entry.build)(&wanted, &self.context)?), settings: wanted }))
    }

    /// From now on every call goes with these credentials.
    pub fn take(&self, renewed: Renewed) {
        let mut held = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        self.present.store(renewed.link);
        *held = renewed.settings;
    }

    fn now(&self) -> Arc<dyn Provider> {
        Arc::clone(&**self.present.load())
    }
}

#[async_trait]
impl Provider for Renewable {
    fn facts(&self) -> &ProviderFacts {
        &self.facts
    }

    fn owns_offer_id(&self, id: &OfferId) -> bool {
        self.now().owns_offer_id(id)
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        self.now().account().await
    }

    async fn offers(&self) -> Result<OfferBatch, ProviderError> {
        self.now().offers().await
    }

    async fn templates(&self) -> Result<Vec<Template>, ProviderError> {
        self.now().templates().await
    }

    async fn template(&self, hash_id: &str) -> Result<Option<Template>, ProviderError> {
        self.now().template(hash_id).await
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Launched, ProviderError> {
        self.now().launch(spec).await
    }

    async fn attach_key(&self, native_id: &str, public_key: &str) -> Result<(), ProviderError> {
        self.now().attach_key(native_id, public_key).await
    }

    async fn instance(&self, native_id: &str) -> Result<Option<Sighting>, ProviderError> {
        self.now().instance(native_id).await
    }

    async fn instances(&self) -> Result<Vec<Sighting>, ProviderError> {
        self.now().instances().await
    }

    async fn start(&self, native_id: &str) -> Result<(), ProviderError> {
        self.now().start(native_id).await
    }

    async fn destroy(&self, native_id: &str) -> Result<DestroyAnswer, ProviderError> {
        self.now().destroy(native_id).await
    }

    fn link(&self) -> LinkState {
        self.now().link()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::ports::SystemChance;
    use crate::providers::{entry, install_crypto};

    #[test]
    fn credentials_alone_are_taken_and_bad_ones_change_nothing() {
        install_crypto();
        let context = Context::new(Clock::System, Arc::new(SystemChance));
        let settings = Settings::new().with("auth_id", "id").with("api_token", "first").with("default_image", "mine");
        let provider = Renewable::new(entry("tensordock").unwrap(), settings.clone(), context).unwrap();
        assert!(provider.renewed(&settings).unwrap().is_none(), "the same again");
        let before = provider.now();
        assert!(provider.renewed(&Settings::new().with("auth_id", "id")).is_err(), "half of them is none");
        assert!(Arc::ptr_eq(&before, &provider.now()));
        let other = Settings::new().with("auth_id", "id").with("api_token", "second").with("default_image", "theirs");
        let renewed = provider.renewed(&other).unwrap().unwrap();
        assert!(Arc::ptr_eq(&before, &provider.now()), "not yet");
        provider.take(renewed);
        assert!(!Arc::ptr_eq(&before, &provider.now()));
        assert_eq!((provider.facts().default_image.as_str(), provider.now().facts().default_image.as_str()), ("mine", "mine"));
    }
}
