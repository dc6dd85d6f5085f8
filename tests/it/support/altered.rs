//! A provider that tells something else than what is: its offers, or how its machines do.

use async_trait::async_trait;
use gpu_shopper::domain::ids::OfferId;
use gpu_shopper::domain::instance::Sighting;
use gpu_shopper::domain::offer::Offer;
use gpu_shopper::ports::{
    Account, Certainty, DestroyAnswer, ErrorKind, LaunchSpec, Launched, LinkState, OfferBatch, Provider, ProviderError, ProviderFacts,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

type Alter<T> = Box<dyn Fn(&mut T) + Send + Sync>;

/// See the module's header.
pub struct Altered {
    pub of: Arc<dyn Provider>,
    pub facts: ProviderFacts,
    pub offers: Alter<Vec<Offer>>,
    /// In lists and in looks by id.
    pub machine: Alter<Sighting>,
    /// In lists only.
    pub listed: Alter<Sighting>,
    /// Lists fail while it is set.
    pub blind: Arc<AtomicBool>,
    /// How long a list takes.
    pub list_takes: Duration,
    /// How long its answer is on the way.
    pub answer_takes: Duration,
    /// Its credentials are of another account while it is set.
    pub astray: Arc<AtomicBool>,
    /// Whose that is; `None` = they do not tell.
    pub stranger: Option<String>,
    /// Its account goes by another name while it is set: its credentials were changed.
    pub renamed: Arc<AtomicBool>,
    /// How long it takes to tell whose the account is.
    pub account_takes: Duration,
    /// How long a look by id takes. It goes with the credentials that it began with.
    pub look_takes: Duration,
    /// How often a destroy was ordered.
    pub destroys: Arc<AtomicUsize>,
    /// No destroy is answered while it is set, nor does one do anything.
    pub destroy_fails: Arc<AtomicBool>,
    /// What a destroy is answered with.
    pub destroyed: Alter<DestroyAnswer>,
    /// The id that a launch is answered with.
    pub launched: Box<dyn Fn(String) -> String + Send + Sync>,
}

impl Altered {
    /// One that tells the truth.
    pub fn of(provider: Arc<dyn Provider>) -> Self {
        Self {
            facts: provider.facts().clone(),
            of: provider,
            offers: Box::new(|_| {}),
            machine: Box::new(|_| {}),
            listed: Box::new(|_| {}),
            blind: Arc::default(),
            list_takes: Duration::ZERO,
            answer_takes: Duration::ZERO,
            astray: Arc::default(),
            stranger: None,
            renamed: Arc::default(),
            account_takes: Duration::ZERO,
            look_takes: Duration::ZERO,
            destroys: Arc::default(),
            destroy_fails: Arc::default(),
            destroyed: Box::new(|_| {}),
            launched: Box::new(|id| id),
        }
    }
}

impl Altered {
    fn failed(&self, operation: &'static str) -> ProviderError {
        ProviderError {
            provider: self.of.facts().id.clone(),
            operation,
            kind: ErrorKind::Unavailable,
            certainty: Certainty::DidNotHappen,
            text: "not today".to_owned(),
            retry_after: None,
        }
    }
}

#[async_trait]
impl Provider for Altered {
    fn facts(&self) -> &ProviderFacts {
        &self.facts
    }
    fn owns_offer_id(&self, id: &OfferId) -> bool {
        self.of.owns_offer_id(id)
    }
    fn link(&self) -> LinkState {
        self.of.link()
    }
    async fn account(&self) -> Result<Account, ProviderError> {
        tokio::time::sleep(self.account_takes).await;
        let account = self.of.account().await?;
        match (self.astray.load(Ordering::Relaxed), &self.stranger) {
            (false, _) if self.renamed.load(Ordering::Relaxed) => Ok(Account { identity: format!("{}-anew", account.identity), ..account }),
            (false, _) => Ok(account),
            (true, Some(identity)) => Ok(Account { identity: identity.clone(), ..account }),
            (true, None) => Err(self.failed("account")),
        }
    }
    async fn offers(&self) -> Result<OfferBatch, ProviderError> {
        let mut batch = self.of.offers().await?;
        let mut offers = batch.offers.into_iter().map(Arc::unwrap_or_clone).collect();
        (self.offers)(&mut offers);
        batch.offers = offers.into_iter().map(Arc::new).collect();
        Ok(batch)
    }
    async fn launch(&self, spec: &LaunchSpec) -> Result<Launched, ProviderError> {
        if self.astray.load(Ordering::Relaxed) {
            // Nothing comes of it on that account, and nobody learns so.
            return Err(ProviderError { certainty: Certainty::MayHaveHappened, ..self.failed("launch") });
        }
        let launched = self.of.launch(spec).await?;
        Ok(Launched { native_id: (self.launched)(launched.native_id), ..launched })
    }
    async fn attach_key(&self, id: &str, key: &str) -> Result<(), ProviderError> {
        self.of.attach_key(id, key).await
    }
    async fn instance(&self, id: &str) -> Result<Option<Sighting>, ProviderError> {
        let astray = self.astray.load(Ordering::Relaxed);
        tokio::time::sleep(self.look_takes).await;
        if astray {
            return Ok(None);
        }
        let mut seen = self.of.instance(id).await?;
        seen.iter_mut().for_each(|machine| (self.machine)(machine));
        Ok(seen)
    }
    async fn instances(&self) -> Result<Vec<Sighting>, ProviderError> {
        if self.blind.load(Ordering::Relaxed) {
            return Err(self.failed("instances"));
        }
        if self.astray.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        if self.list_takes > Duration::ZERO {
            tokio::time::sleep(self.list_takes).await;
        }
        let mut all = self.of.instances().await?;
        for machine in &mut all {
            (self.machine)(machine);
            (self.listed)(machine);
        }
        if self.answer_takes > Duration::ZERO {
            tokio::time::sleep(self.answer_takes).await;
        }
        Ok(all)
    }
    async fn start(&self, id: &str) -> Result<(), ProviderError> {
        self.of.start(id).await
    }
    async fn destroy(&self, id: &str) -> Result<DestroyAnswer, ProviderError> {
        self.destroys.fetch_add(1, Ordering::Relaxed);
        if self.astray.load(Ordering::Relaxed) {
            return Ok(DestroyAnswer::NotThere);
        }
        if self.destroy_fails.load(Ordering::Relaxed) {
            return Err(self.failed("destroy"));
        }
        let mut answer = self.of.destroy(id).await?;
        (self.destroyed)(&mut answer);
        Ok(answer)
    }
}
