//! Templates of all providers, asked for when somebody wants them and kept for an hour.
//!
//! A vendor that can't be reached is no reason to refuse what is still known: what was kept stays good until it is
//! asked for with success again.

use crate::clock::Clock;
use crate::domain::ids::{OfferId, ProviderId, clip};
use crate::domain::offer::OfferFilter;
use crate::domain::template::Template;
use crate::domain::time::Time;
use crate::ports::{ErrorKind, Provider, ProviderError};
use crate::services::error::{Code, Error};
use crate::services::inventory::Inventory;
use crate::services::lifecycle::refused_credentials;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is kept is asked for again after this.
const KEPT: Duration = Duration::from_secs(3600);
/// Templates beside the recommended ones that are kept, at most.
const MOST_OTHERS: usize = 256;
/// The longest hash of a template.
const LONGEST_HASH: usize = 64;

/// Which templates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateQuery {
    /// Whose name contains this, in any case.
    pub name: Option<String>,
    /// Whose image contains this, in any case.
    pub image: Option<String>,
    /// Only those made for SSH.
    pub ssh_only: bool,
    /// Only those that run on this offer.
    pub offer: Option<OfferId>,
}

#[derive(Default)]
struct Shelf {
    recommended: Option<(Time, Vec<Arc<Template>>)>,
    others: BTreeMap<String, (Time, Arc<Template>)>,
}

struct Inner {
    providers: BTreeMap<ProviderId, Arc<dyn Provider>>,
    inventory: Inventory,
    clock: Clock,
    shelves: BTreeMap<ProviderId, Place>,
}

/// What is kept of one vendor.
#[derive(Default)]
struct Place {
    /// Never held while somebody waits: what is kept is told at once, whoever is being asked.
    shelf: Mutex<Shelf>,
    /// Held while the vendor is asked, so that it is asked once.
    asking: tokio::sync::Mutex<()>,
}

impl Place {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The service's handle. See the module's header.
#[derive(Clone)]
pub struct Templates(Arc<Inner>);

impl Templates {
    /// Of these providers.
    #[must_use]
    pub fn new(providers: BTreeMap<ProviderId, Arc<dyn Provider>>, inventory: Inventory, clock: Clock) -> Self {
        let shelves = providers.keys().map(|id| (id.clone(), Place::default())).collect();
        Self(Arc::new(Inner { providers, inventory, clock, shelves }))
    }

    /// Recommended templates that match, by name.
    ///
    /// # Errors
    /// NOT_FOUND for an offer that is not there; UNAVAILABLE when a vendor can't be reached and nothing is kept.
    pub async fn list(&self, query: &TemplateQuery) -> Result<Vec<Arc<Template>>, Error> {
        let offer = query.offer.as_ref().map(|id| self.0.inventory.get(id)).transpose()?;
        let mut found = Vec::new();
        for id in self.0.providers.keys().filter(|id| offer.as_ref().is_none_or(|o| o.provider == **id)) {
            found.extend(self.recommended(id).await?);
        }
        let has = |text: &str, part: &Option<String>| part.as_ref().is_none_or(|p| text.to_lowercase().contains(&p.to_lowercase()));
        found.retain(|t| has(&t.name, &query.name) && has(&t.image, &query.image) && (t.ssh || !query.ssh_only));
        if let Some(offer) = &offer {
            found.retain(|t| t.needs.met_by(offer).is_ok());
        }
        found.sort_by(|a, b| (&a.name, &a.hash_id).cmp(&(&b.name, &b.hash_id)));
        Ok(found)
    }

    /// Looks up what a filter's template needs, when it names one.
    ///
    /// # Errors
    /// As [`Templates::get`].
    pub async fn resolve(&self, filter: &mut OfferFilter) -> Result<(), Error> {
        if let Some(hash) = &filter.template {
            filter.needs = Some(self.get(hash).await?.needs.clone());
        }
        Ok(())
    }

    /// One template by its hash, recommended or not.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for what is no hash; NOT_FOUND; UNAVAILABLE when a vendor can't be reached and it is not kept.
    pub async fn get(&self, hash: &str) -> Result<Arc<Template>, Error> {
        if let Some(rule) = hash_fault(hash) {
            return Err(Error::field("template_hash_id", rule));
        }
        let now = self.0.clock.now();
        let mut old = None;
        for place in self.0.shelves.values() {
            match place.shelf().kept(hash) {
                Some((at, template)) if now < at + KEPT => return Ok(template),
                Some((_, template)) => old = Some(template),
                None => {}
            }
        }
        let mut unreachable = None;
        for id in self.0.providers.keys() {
            match self.ask(id, hash).await {
                Ok(Some(template)) => return Ok(template),
                Ok(None) => {}
                Err(error) => unreachable = Some(error),
            }
        }
        // Old is better than nothing only while nobody can say that it is gone.
        if let (Some(template), Some(_)) = (old, &unreachable) {
            return Ok(template);
        }
        Err(unreachable.unwrap_or_else(|| {
            let text = format!("there is no template {hash} (any more): its vendor gives changed templates another hash, so list templates again");
            Error::new(Code::NotFound, "TEMPLATE_NOT_FOUND", text).with("template_hash_id", hash)
        }))
    }

    async fn recommended(&self, id: &ProviderId) -> Result<Vec<Arc<Template>>, Error> {
        let (Some(provider), Some(place)) = (self.0.providers.get(id), self.0.shelves.get(id)) else { return Ok(Vec::new()) };
        let fresh = || place.shelf().recommended.clone().filter(|(at, _)| self.0.clock.now() < *at + KEPT).map(|(_, kept)| kept);
        if let Some(kept) = fresh() {
            return Ok(kept);
        }
        let _asking = place.asking.lock().await;
        // Somebody else may have asked meanwhile.
        if let Some(kept) = fresh() {
            return Ok(kept);
        }
        let now = self.0.clock.now();
        match provider.templates().await {
            Ok(found) => {
                let found: Vec<Arc<Template>> = found.into_iter().map(Arc::new).collect();
                place.shelf().recommended = Some((now, found.clone()));
                Ok(found)
            }
            Err(error) => place.shelf().recommended.clone().map(|(_, kept)| kept).ok_or_else(|| unreachable(&error)),
        }
    }

    async fn ask(&self, id: &ProviderId, hash: &str) -> Result<Option<Arc<Template>>, Error> {
        let (Some(provider), Some(place)) = (self.0.providers.get(id), self.0.shelves.get(id)) else { return Ok(None) };
        let _asking = place.asking.lock().await;
        let now = self.0.clock.now();
        if let Some((_, kept)) = place.shelf().kept(hash).filter(|(at, _)| now < *at + KEPT) {
            return Ok(Some(kept));
        }
        let Some(found) = provider.template(hash).await.map_err(|error| unreachable(&error))? else { return Ok(None) };
        let found = Arc::new(found);
        let mut shelf = place.shelf();
        if shelf.others.len() >= MOST_OTHERS {
            shelf.others.clear();
        }
        shelf.others.insert(hash.to_owned(), (now, Arc::clone(&found)));
        Ok(Some(found))
    }
}

impl Shelf {
    /// A template that is kept, and since when; the younger one where it is kept twice.
    fn kept(&self, hash: &str) -> Option<(Time, Arc<Template>)> {
        let listed = self.recommended.iter().flat_map(|(at, all)| all.iter().map(move |t| (*at, Arc::clone(t)))).find(|(_, t)| t.hash_id == hash);
        listed.into_iter().chain(self.others.get(hash).cloned()).max_by_key(|(at, _)| *at)
    }
}

fn unreachable(error: &ProviderError) -> Error {
    if error.kind == ErrorKind::Auth {
        let text = format!("templates can't be read: {}", refused_credentials(&error.to_string()));
        return Error::new(Code::FailedPrecondition, "PROVIDER_AUTH", text).with("provider", &error.provider);
    }
    Error::new(Code::Unavailable, "PROVIDER_UNREACHABLE", format!("templates can't be read now: {error}"))
        .with("providers", &error.provider)
        .retry(error.retry_after.unwrap_or(Duration::from_secs(15)))
}

/// What is wrong with the form of a template's hash, if anything.
#[must_use]
pub fn hash_fault(hash: &str) -> Option<String> {
    let fine = !hash.is_empty() && hash.len() <= LONGEST_HASH && hash.bytes().all(|b| b.is_ascii_alphanumeric());
    (!fine).then(|| format!("`{}`; allowed: 1 to {LONGEST_HASH} letters and digits, a `hash_id` of ListTemplates", clip(hash, LONGEST_HASH)))
}
