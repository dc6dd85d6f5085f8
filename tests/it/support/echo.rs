//! A vendor that says too much.

use super::silence;
use async_trait::async_trait;
use gpu_shopper::domain::ids::OfferId;
use gpu_shopper::domain::instance::Sighting;
use gpu_shopper::ports::{Account, Certainty, DestroyAnswer, ErrorKind, LaunchSpec, Launched, OfferBatch, Provider, ProviderError, ProviderFacts};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A vendor that refuses the first launch and repeats all that it was sent.
pub struct Echo {
    pub inner: Arc<dyn Provider>,
    pub refuse_first: AtomicBool,
}

#[async_trait]
impl Provider for Echo {
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

    async fn launch(&self, spec: &LaunchSpec) -> Result<Launched, ProviderError> {
        assert_eq!((spec.env.len(), spec.on_start.is_some(), spec.registry.is_some()), (2, true, true), "everything arrives");
        if self.refuse_first.swap(false, Ordering::Relaxed) {
            let password = spec.registry.iter().map(|r| r.password.clone());
            let all: Vec<String> = spec.env.values().cloned().chain(spec.on_start.clone()).chain(password).collect();
            let text = format!("cannot run {}", all.join(", "));
            return Err(ProviderError { kind: ErrorKind::NoCapacity, certainty: Certainty::DidNotHappen, text, ..silence("launch") });
        }
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
