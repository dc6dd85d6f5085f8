//! Offers in memory: one immutable snapshot, swapped atomically; refreshed in the background per provider.
//!
//! Stale-while-revalidate: readers never wait for a provider. A provider that fails keeps its last offers, with their
//! age and its error visible, and never hides the others. Dead offers are dropped from every view at once
//! ([`Inventory::evict`]), and what failed is set aside for a while ([`Inventory::learn`]). The one who waits is a create whose offers are too old ([`Inventory::freshen`]), and not for long.

use crate::clock::Clock;
use crate::domain::explain::{Explanation, explain};
use crate::domain::ids::{OfferId, ProviderId};
use crate::domain::memo::Memo;
use crate::domain::memory::{self, Aside, Health, Lesson, Memory, Subject};
use crate::domain::offer::{Offer, OfferFilter, Prior};
use crate::domain::session::Target;
use crate::domain::shelf::{Place, Shelf};
use crate::domain::time::Time;
use crate::ports::{Certainty, ErrorKind, OfferBatch, Provider, ProviderError};
use crate::services::api::{Explained, HealthPage, HealthQuery, OfferPage, OfferQuery, ProviderFreshness};
use crate::services::error::{Code, Error};
use crate::services::lifecycle::refused_credentials;
use crate::services::tokens::PageOf;
use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::{BoxFuture, FutureExt, Shared, join_all};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Page size when none is asked for.
pub const DEFAULT_PAGE: u32 = 50;
/// The largest page.
pub const MAX_PAGE: u32 = 1000;
/// How long a snapshot that a page token leads back to is kept after the next one took its place, so that pages of one listing stay one view.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// And no more than this many of them: each launch and each failure makes another one.
const KEPT_SNAPSHOTS: usize = 128;
/// Nor more lay-outs than this, the present one included, once they were replaced for [`SURELY_KEPT`]: each fetch makes one, which
/// shares no more with those before than what other providers offer.
const KEPT_LAY_OUTS: usize = 4;
/// Whoever reads page after page has so long for all of them, however often offers are fetched meanwhile (and unless launches make
/// [`KEPT_SNAPSHOTS`] others that somebody pages through).
const SURELY_KEPT: Duration = Duration::from_secs(60);
/// The least change of a chance that an offer which is shown already is changed for.
const NOTICED: f64 = 0.001;
/// Offers that may stand otherwise than they were laid out before all are laid out anew.
const MOST_CHANGES: usize = 1024;
/// A fetch that failed less than this ago is not tried again for a create's sake.
const JUST_FAILED: Duration = Duration::from_secs(10);

/// Everything on offer at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts snapshots.
    pub number: u64,
    /// When it was put together.
    pub taken_at: Time,
    /// The offers, each with the chance that everything learnt gives it.
    pub offers: Shelf,
    /// What is hidden for a while, because of what happened there.
    pub set_aside: Vec<Arc<Offer>>,
    /// How each provider's part stands.
    pub freshness: Vec<ProviderFreshness>,
}

struct Part {
    /// As they were last laid out, also those that are set aside; what was evicted since is still among them.
    offers: Vec<Arc<Offer>>,
    /// What their age leaves of their chances.
    age_factor: f64,
    freshness: ProviderFreshness,
    /// When the fetch that the offers are from was begun.
    asked_at: Option<Time>,
    /// Evicted until the provider has been asked again after this.
    evicted: BTreeMap<OfferId, Time>,
}

impl Part {
    fn evicted(&self, offer: &Offer) -> bool {
        !self.evicted.is_empty() && self.evicted.contains_key(offer.id.slice_str())
    }
}

/// Where what the present shelf was laid out with stands, by what it is remembered by.
#[derive(Default)]
struct Places(Option<Vec<(u32, u32)>>);

impl Places {
    /// Where the offers of some subjects stand, each once; perhaps also some others, since subjects are told apart by 32 bits.
    fn of(&mut self, subjects: &[Subject], shelf: &Shelf) -> Vec<Place> {
        let mark = |subject: &Subject| {
            let mut hasher = DefaultHasher::new();
            subject.hash(&mut hasher);
            hasher.finish() as u32
        };
        let all = self.0.get_or_insert_with(|| {
            let placed = shelf.laid().iter().zip(0..).flat_map(|(offer, place)| Subject::of_offer(offer).map(move |s| (mark(&s), place)));
            let mut all: Vec<(u32, u32)> = placed.collect();
            all.sort_unstable();
            all.shrink_to_fit();
            all
        });
        let mut found: Vec<Place> = Vec::new();
        for wanted in subjects.iter().map(mark) {
            let from = all.partition_point(|(mark, _)| *mark < wanted);
            found.extend(all[from..].iter().take_while(|(mark, _)| *mark == wanted).map(|(_, place)| *place as Place));
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

struct Kept {
    snapshot: Arc<Snapshot>,
    /// When another one took its place.
    replaced_at: Option<Time>,
}

struct Parts {
    by_provider: BTreeMap<ProviderId, Part>,
    places: Places,
    /// The present snapshot, and before it those that a token leads back to.
    kept: VecDeque<Kept>,
    number: u64,
    memory: Memory,
    /// Whether what was learnt changes anything; otherwise it is only shown.
    acts: bool,
}

/// Where an offer belongs.
enum Stand {
    Shown(Arc<Offer>),
    Aside(Arc<Offer>),
    Evicted,
}

impl Parts {
    /// Where an offer belongs now, with its chance as it is believed to be.
    fn stand(&self, part: &Part, mut offer: Arc<Offer>, now: Time) -> Stand {
        if part.evicted(&offer) {
            return Stand::Evicted;
        }
        let learnt = if self.acts { self.memory.confidence(&offer, now) } else { offer.prior.0 };
        let confidence = learnt * part.age_factor;
        // What nobody has been shown yet is changed where it is; what fades from minute to minute is not worth a copy of each
        // offer, with all that was worked out of it.
        if Arc::get_mut(&mut offer).is_some() || (confidence - offer.confidence).abs() > NOTICED {
            let offer = Arc::make_mut(&mut offer);
            (offer.confidence, offer.memo) = (confidence, Memo::default());
        }
        if self.aside(&offer, now).is_some() { Stand::Aside(offer) } else { Stand::Shown(offer) }
    }

    fn aside(&self, offer: &Offer, now: Time) -> Option<Aside> {
        self.memory.aside(offer, now).filter(|_| self.acts)
    }
}

/// A fetch under way: whoever wants its provider's offers meanwhile waits for the same.
type Flight = Shared<BoxFuture<'static, Result<(), ProviderError>>>;

/// Whether a text is a canonical offer id of a provider.
pub type OfferIdCheck = fn(&str) -> bool;

struct Inner {
    clock: Clock,
    providers: BTreeMap<ProviderId, Arc<dyn Provider>>,
    known: Vec<OfferIdCheck>,
    current: ArcSwap<Snapshot>,
    parts: Mutex<Parts>,
    flights: Mutex<BTreeMap<ProviderId, Flight>>,
    /// Every provider has been asked once, well or not.
    tried: watch::Sender<bool>,
}

/// The service's handle. See the module's header.
#[derive(Clone)]
pub struct Inventory(Arc<Inner>);

impl Inventory {
    /// An empty inventory over these providers. `known` are the id forms of all providers there are, enabled or not.
    #[must_use]
    pub fn new(providers: BTreeMap<ProviderId, Arc<dyn Provider>>, known: Vec<OfferIdCheck>, clock: Clock) -> Self {
        let part = |id: &ProviderId| Part {
            offers: Vec::new(),
            age_factor: 1.0,
            freshness: ProviderFreshness {
                provider: id.clone(),
                fetched_at: None,
                offers: 0,
                error: None,
                refused: false,
                truncated: false,
                skipped: 0,
            },
            asked_at: None,
            evicted: BTreeMap::new(),
        };
        let parts = Parts {
            by_provider: providers.keys().map(|id| (id.clone(), part(id))).collect(),
            places: Places::default(),
            kept: VecDeque::new(),
            number: 0,
            memory: Memory::default(),
            acts: true,
        };
        let this = Self(Arc::new(Inner {
            clock,
            tried: watch::Sender::new(providers.is_empty()),
            providers,
            known,
            current: ArcSwap::default(),
            parts: Mutex::new(parts),
            flights: Mutex::default(),
        }));
        this.lay_out(&mut this.parts());
        this
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, Parts> {
        self.0.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what was learnt before. `acts`: whether it changes what is shown and chosen, or is only remembered.
    pub fn remember(&self, lessons: Vec<Lesson>, acts: bool) {
        let mut parts = self.parts();
        parts.acts = acts;
        lessons.into_iter().for_each(|lesson| parts.memory.learn(lesson));
        self.lay_out(&mut parts);
    }

    /// Learns what launches taught; what it says about an offer is in every view when this returns. What it says about a
    /// whole provider comes in when all are laid out anew, which the next fetch does.
    pub fn learn(&self, lessons: &[Lesson]) {
        if lessons.is_empty() {
            return;
        }
        let mut parts = self.parts();
        lessons.iter().for_each(|lesson| parts.memory.learn(lesson.clone()));
        let concerned: Vec<Subject> = lessons.iter().flat_map(Subject::of_lesson).collect();
        self.amend(&mut parts, &concerned);
    }

    /// What is remembered of providers, hosts, machines and offers, in this order, each by name.
    ///
    /// # Errors
    /// A page token that is none of ours, or of another query.
    pub fn health(&self, query: &HealthQuery) -> Result<HealthPage, Error> {
        let hash = hash_of(&format!("{:?}{:?}{:?}{}", query.provider, query.kinds, query.gpu_models, query.set_aside_only));
        let after = match query.page_token.as_str() {
            "" => None,
            token => Some(read_health_token(token, hash)?),
        };
        let key = |health: &Health| (health.subject.kind() as u8, health.subject.name().to_owned());
        let wanted = |health: &Health| {
            query.provider.as_ref().is_none_or(|p| *p == health.provider)
                && (query.kinds.is_empty() || query.kinds.contains(&health.subject.kind()))
                && (query.gpu_models.is_empty() || health.gpus.iter().any(|gpu| query.gpu_models.iter().any(|asked| gpu.answers(asked))))
                && (!query.set_aside_only || health.aside.is_some())
        };
        let mut all = self.parts().memory.health(self.0.clock.now());
        all.retain(wanted);
        let total = all.len();
        all.retain(|health| after.as_ref().is_none_or(|after| key(health) > *after));
        let size = page_size(query.page_size);
        let more = all.len() > size;
        all.truncate(size);
        let next_page_token = match all.last().map(key) {
            Some((kind, name)) if more => URL_SAFE_NO_PAD.encode(format!("{}{hash:x}.{kind}.{name}", PageOf::Health.mark())),
            _ => String::new(),
        };
        Ok(HealthPage { entries: all, total, next_page_token, acts: self.parts().acts })
    }

    /// Why a filter leaves what it leaves, and the least that has to give.
    ///
    /// # Errors
    /// A provider that is not known.
    pub fn explain(&self, filter: &OfferFilter) -> Result<Explained, Error> {
        self.known_providers(filter)?;
        let (snapshot, now) = (self.snapshot(), self.0.clock.now());
        let explanation: Explanation = explain(&snapshot.offers, filter);
        let parts = self.parts();
        let passing = snapshot.set_aside.iter().filter(|o| filter.check(o).is_ok());
        let asides: Vec<Aside> = passing.filter_map(|o| parts.aside(o, now)).collect();
        Ok(Explained {
            explanation,
            set_aside: asides.len(),
            set_aside_until: asides.iter().map(|a| a.until).min(),
            snapshot_time: snapshot.taken_at,
            freshness: snapshot.freshness.clone(),
        })
    }

    fn known_providers(&self, filter: &OfferFilter) -> Result<(), Error> {
        let Some(unknown) = filter.providers.iter().find(|p| !self.0.providers.contains_key(*p)) else { return Ok(()) };
        let have: Vec<String> = self.0.providers.keys().map(ToString::to_string).collect();
        Err(Error::field("filter.providers", format!("`{unknown}` is not enabled here; enabled: {}", have.join(", "))))
    }

    /// Refreshes one provider again and again until told to stop.
    pub async fn keep_fresh(self, provider: ProviderId, every: Duration, stop: CancellationToken) {
        loop {
            let wait = match self.refresh(&provider).await {
                Ok(()) => every,
                // Sooner than usual after a failure, and never in a storm: the client has its own breaker.
                Err(error) => error.retry_after.unwrap_or(every / 2).max(Duration::from_secs(5)),
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.0.clock.sleep(wait) => {}
            }
        }
    }

    /// Fetches one provider's offers now; a fetch that is already under way is joined instead. It ends whether or not
    /// somebody still waits for it.
    ///
    /// # Errors
    /// The provider's error; the last offers stay.
    pub async fn refresh(&self, provider: &ProviderId) -> Result<(), ProviderError> {
        let Some(port) = self.0.providers.get(provider) else { return Ok(()) };
        let flight = {
            let mut flights = self.0.flights.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(provider).filter(|flight| flight.peek().is_none()) {
                Some(flight) => flight.clone(),
                None => {
                    let fetch = tokio::spawn(self.clone().fetch(provider.clone(), Arc::clone(port)));
                    let broke = ProviderError {
                        provider: provider.clone(),
                        operation: "offers",
                        kind: ErrorKind::Garbled,
                        certainty: Certainty::DidNotHappen,
                        text: "our own task broke".to_owned(),
                        retry_after: None,
                    };
                    let flight = fetch.map(move |ended| ended.unwrap_or(Err(broke))).boxed().shared();
                    flights.insert(provider.clone(), flight.clone());
                    flight
                }
            }
        };
        flight.await
    }

    async fn fetch(self, provider: ProviderId, port: Arc<dyn Provider>) -> Result<(), ProviderError> {
        let asked = self.0.clock.now();
        let result = port.offers().await;
        let now = self.0.clock.now();
        let mut parts = self.parts();
        let Some(part) = parts.by_provider.get_mut(&provider) else { return result.map(|_| ()) };
        let done = match result {
            Ok(batch) => {
                let (count, sum) = (batch.offers.len(), batch.offers.iter().map(|o| o.confidence).sum::<f64>());
                take(part, batch, asked, now);
                if count > 0 {
                    parts.memory.note_mean(&provider, sum / count as f64);
                }
                self.lay_out(&mut parts);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(provider = %provider, error = %error, "fetching offers failed; the last ones stay");
                part.freshness.error = Some((error.to_string(), now));
                part.freshness.refused = error.kind == ErrorKind::Auth;
                let factor = memory::freshness(part.freshness.fetched_at.map_or(Duration::ZERO, |at| now.since(at)));
                if (factor - part.age_factor).abs() < 0.05 {
                    self.note(&mut parts);
                } else {
                    // Their chances fade with their age.
                    part.age_factor = factor;
                    self.lay_out(&mut parts);
                }
                Err(error)
            }
        };
        if parts.by_provider.values().all(|part| part.freshness.fetched_at.is_some() || part.freshness.error.is_some()) {
            self.0.tried.send_replace(true);
        }
        done
    }

    /// Whether every provider has been asked for its offers since the start, well or not.
    #[must_use]
    pub fn tried(&self) -> bool {
        *self.0.tried.borrow()
    }

    /// A provider that does not answer for so long is not waited for any more: it counts as asked.
    pub fn tried_enough(&self) {
        self.0.tried.send_replace(true);
    }

    /// Resolves when that is so.
    pub async fn wait_tried(&self) {
        // The sender lives as long as this does.
        let _ = self.0.tried.subscribe().wait_for(|tried| *tried).await;
    }

    /// Fetches what a target may be met from, where the last good fetch lies before `not_before`: all at once, for at most
    /// `patience`. Failures are not told here: the offers then stay as old as they are.
    pub async fn freshen(&self, target: &Target, not_before: Time, patience: Duration) {
        let asked = |id: &ProviderId, port: &Arc<dyn Provider>| match target {
            Target::Offer(offer) => port.owns_offer_id(offer),
            Target::Requirements { filter, .. } => filter.providers.is_empty() || filter.providers.contains(id),
        };
        let now = self.0.clock.now();
        let stale: Vec<ProviderId> = {
            let parts = self.parts();
            let old = |part: &Part| {
                let failed = part.freshness.error.as_ref().is_some_and(|(_, at)| now.since(*at) < JUST_FAILED);
                part.asked_at.is_none_or(|at| at < not_before) && !failed
            };
            parts
                .by_provider
                .iter()
                .filter(|(id, part)| old(part) && self.0.providers.get(*id).is_some_and(|port| asked(id, port)))
                .map(|(id, _)| id.clone())
                .collect()
        };
        if stale.is_empty() {
            return;
        }
        // What has not landed by then lands without us.
        let _ = tokio::time::timeout(patience, join_all(stale.iter().map(|id| self.refresh(id)))).await;
    }

    /// Lays all offers out anew.
    fn lay_out(&self, parts: &mut Parts) {
        let now = self.0.clock.now();
        parts.memory.forget(now);
        let (mut shown, mut set_aside) = (Vec::new(), Vec::new());
        let mut by_provider = std::mem::take(&mut parts.by_provider);
        for part in by_provider.values_mut() {
            let told = std::mem::take(&mut part.offers);
            let mut offers = Vec::with_capacity(told.len());
            for offer in told {
                let (shelf, offer) = match parts.stand(part, offer, now) {
                    Stand::Evicted => continue,
                    Stand::Aside(offer) => (&mut set_aside, offer),
                    Stand::Shown(offer) => (&mut shown, offer),
                };
                shelf.push(Arc::clone(&offer));
                offers.push(offer);
            }
            part.freshness.offers = offers.len();
            part.offers = offers;
        }
        parts.by_provider = by_provider;
        parts.places = Places::default();
        self.show(parts, Shelf::new(shown), set_aside, now);
    }

    /// Puts anew what the offers of some subjects are now, and shares all others with the snapshot before.
    fn amend(&self, parts: &mut Parts, concerned: &[Subject]) {
        let (last, now) = (self.snapshot(), self.0.clock.now());
        parts.memory.forget(now);
        // What was set aside has no place to come back to but a new one.
        if last.offers.changes() >= MOST_CHANGES || last.set_aside.iter().any(|offer| parts.aside(offer, now).is_none()) {
            return self.lay_out(parts);
        }
        let mut set_aside = last.set_aside.clone();
        let mut evicted: Vec<ProviderId> = Vec::new();
        set_aside.retain(|offer| {
            let gone = parts.by_provider.get(&offer.provider).is_some_and(|part| part.evicted(offer));
            evicted.extend(gone.then(|| offer.provider.clone()));
            !gone
        });
        let mut changes = Vec::new();
        for place in parts.places.of(concerned, &last.offers) {
            let Some(offer) = last.offers.at(place) else { continue };
            let Some(part) = parts.by_provider.get(&offer.provider) else { continue };
            let shown = match parts.stand(part, Arc::clone(offer), now) {
                Stand::Shown(offer) => Some(offer),
                Stand::Aside(offer) => {
                    set_aside.push(offer);
                    None
                }
                Stand::Evicted => {
                    evicted.push(offer.provider.clone());
                    None
                }
            };
            changes.push((place, shown));
        }
        for provider in evicted {
            if let Some(part) = parts.by_provider.get_mut(&provider) {
                part.freshness.offers -= 1;
            }
        }
        self.show(parts, last.offers.but(changes), set_aside, now);
    }

    /// Other offers: a snapshot of its own.
    fn show(&self, parts: &mut Parts, offers: Shelf, set_aside: Vec<Arc<Offer>>, now: Time) {
        parts.number += 1;
        let snapshot = Arc::new(Snapshot {
            number: parts.number,
            taken_at: now,
            offers,
            set_aside,
            freshness: parts.by_provider.values().map(|p| p.freshness.clone()).collect(),
        });
        // Without a token that leads back to it nobody asks for it again.
        parts.kept.retain(|old| old.snapshot.offers.is_pinned());
        for old in &mut parts.kept {
            old.replaced_at.get_or_insert(now);
        }
        parts.kept.push_back(Kept { snapshot: Arc::clone(&snapshot), replaced_at: None });
        let too_old = |first: &Kept| first.replaced_at.is_some_and(|at| now.since(at) > KEPT_FOR);
        let lay_outs = |kept: &VecDeque<Kept>| {
            let pairs = kept.iter().zip(kept.iter().skip(1));
            1 + pairs.filter(|(one, next)| !one.snapshot.offers.shares_lay_out(&next.snapshot.offers)).count()
        };
        let in_the_way = |kept: &VecDeque<Kept>| {
            let old = kept.front().and_then(|first| first.replaced_at).is_some_and(|at| now.since(at) >= SURELY_KEPT);
            old && lay_outs(kept) > KEPT_LAY_OUTS
        };
        while parts.kept.len() > KEPT_SNAPSHOTS || parts.kept.front().is_some_and(too_old) || in_the_way(&parts.kept) {
            parts.kept.pop_front();
        }
        self.0.current.store(snapshot);
    }

    /// The same offers with other notes on them: the same snapshot. A provider that fails again and again pushes no page
    /// token out.
    fn note(&self, parts: &mut Parts) {
        let now = self.snapshot();
        let freshness = parts.by_provider.values().map(|p| p.freshness.clone()).collect();
        let snapshot = Arc::new(Snapshot {
            number: now.number,
            taken_at: now.taken_at,
            offers: now.offers.clone(),
            set_aside: now.set_aside.clone(),
            freshness,
        });
        if let Some(last) = parts.kept.back_mut() {
            last.snapshot = Arc::clone(&snapshot);
        }
        self.0.current.store(snapshot);
    }

    /// Drops an offer that turned out to be gone from every view, with its twin by a bid, until its provider has been asked
    /// again.
    pub fn evict(&self, offer: &OfferId) {
        let mut parts = self.parts();
        let (now, dead) = (self.0.clock.now(), offer.slice());
        for part in parts.by_provider.values_mut() {
            // It may be in an answer that is under way.
            part.evicted.insert(dead.clone(), now);
        }
        self.amend(&mut parts, &[Subject::Offer(dead)]);
    }

    /// The present snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.current.load_full()
    }

    /// How each provider's part stands.
    #[must_use]
    pub fn freshness(&self) -> Vec<ProviderFreshness> {
        self.snapshot().freshness.clone()
    }

    /// A page of offers.
    ///
    /// # Errors
    /// A page token that is garbage, of another query, or of a snapshot that is no longer kept; a provider that is not
    /// known; every asked provider unreachable, or refusing our credentials, and nothing in memory.
    pub fn list(&self, query: &OfferQuery) -> Result<OfferPage, Error> {
        self.known_providers(&query.filter)?;
        let hash = query_hash(query);
        let (snapshot, skip) = match query.page_token.as_str() {
            "" => (self.snapshot(), 0),
            token => self.pinned(token, hash)?,
        };
        let size = page_size(query.page_size);
        let (total, mut page) = snapshot.offers.page(&query.filter, query.order, skip, size);
        let next = skip.saturating_add(size).min(total);
        if next < total && !snapshot.offers.is_pinned() {
            self.pin(&snapshot);
        }
        if skip > 0 {
            // A snapshot that a token pins may be from before an eviction.
            let (parts, now) = (self.parts(), self.0.clock.now());
            let dead = |o: &Offer| parts.by_provider.get(&o.provider).is_some_and(|part| part.evicted(o));
            page.retain(|o| !dead(o) && parts.aside(o, now).is_none());
        }
        let asked = |p: &ProviderId| query.filter.providers.is_empty() || query.filter.providers.contains(p);
        let freshness: Vec<ProviderFreshness> = snapshot.freshness.iter().filter(|f| asked(&f.provider)).cloned().collect();
        let unreachable: Vec<ProviderId> = freshness.iter().filter(|f| f.error.is_some()).map(|f| f.provider.clone()).collect();
        if !freshness.is_empty() && freshness.iter().all(|f| f.error.is_some() && f.fetched_at.is_none()) {
            let why: Vec<String> = freshness.iter().filter_map(|f| f.error.as_ref().map(|(text, _)| text.clone())).collect();
            let (why, names) = (why.join("; "), unreachable.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
            let error = if freshness.iter().all(|f| f.refused) {
                let mend = "waiting mends nothing: an operator must correct the credentials, then send the server SIGHUP or start it again";
                let text = format!("{}; {mend}", refused_credentials(&why));
                Error::new(Code::FailedPrecondition, "PROVIDER_AUTH", text)
            } else {
                Error::new(Code::Unavailable, "PROVIDER_UNREACHABLE", format!("no provider could be reached: {why}")).retry(Duration::from_secs(15))
            };
            return Err(error.with("providers", names));
        }
        Ok(OfferPage {
            total,
            next_page_token: if next < total { page_token(snapshot.number, hash, next) } else { String::new() },
            offers: page,
            snapshot_time: snapshot.taken_at,
            freshness,
            unreachable,
            applied_defaults: applied_defaults(query),
        })
    }

    /// Keeps a snapshot for the token that leads back to it, even if another one has taken its place meanwhile.
    fn pin(&self, snapshot: &Arc<Snapshot>) {
        let mut parts = self.parts();
        snapshot.offers.pin();
        if let Err(place) = parts.kept.binary_search_by_key(&snapshot.number, |kept| kept.snapshot.number) {
            parts.kept.insert(place, Kept { snapshot: Arc::clone(snapshot), replaced_at: Some(self.0.clock.now()) });
        }
    }

    fn pinned(&self, token: &str, hash: u64) -> Result<(Arc<Snapshot>, usize), Error> {
        let (number, of, skip) =
            read_page_token(token).ok_or_else(|| Error::field("page_token", "this is no token of ours: pass next_page_token as it came"))?;
        if of != hash {
            return Err(Error::field("page_token", "it belongs to another filter or order: keep the other fields as they were"));
        }
        let kept = self.parts().kept.iter().find(|kept| kept.snapshot.number == number).map(|kept| Arc::clone(&kept.snapshot));
        let kept = kept.ok_or_else(|| {
            Error::new(
                Code::InvalidArgument,
                "PAGE_TOKEN_EXPIRED",
                "the offers have changed too often since the first page: start again without page_token",
            )
        })?;
        Ok((kept, skip))
    }

    /// One offer.
    ///
    /// # Errors
    /// An id of no form we know, or an offer that is not there (any more).
    pub fn get(&self, id: &OfferId) -> Result<Arc<Offer>, Error> {
        let snapshot = self.snapshot();
        if let Some(offer) = snapshot.offers.get_by_id(id) {
            return Ok(Arc::clone(offer));
        }
        if !self.0.known.iter().any(|known| known(id.as_str())) {
            let shown = crate::domain::ids::clip(id.as_str(), 80);
            return Err(Error::field("offer_id", format!("`{shown}` is no offer id: take one of the offers listed, such as vastai-12345")));
        }
        let now = self.0.clock.now();
        let aside = snapshot.set_aside.iter().find(|o| o.id == *id).map(|offer| (offer, self.parts().aside(offer, now)));
        let why = match aside {
            // Its time is over, and nothing has happened since.
            Some((offer, None)) => return Ok(Arc::clone(offer)),
            Some((_, Some(Aside { until, why }))) => format!("is set aside until {until} for what happened there last ({})", why.word()),
            None => "is not there (any more)".to_owned(),
        };
        Err(Error::new(Code::NotFound, "OFFER_NOT_FOUND", format!("offer {id} {why}: list offers again")).with("offer_id", id))
    }

    /// One offer by its id, with room for a disk of this size (`None` = its default).
    ///
    /// # Errors
    /// As [`Inventory::get`], or the disk is larger than the offer has.
    pub fn get_with_disk(&self, id: &OfferId, disk_gb: Option<u32>) -> Result<Arc<Offer>, Error> {
        let offer = self.get(id)?;
        if offer.disk.has_room(disk_gb) {
            return Ok(offer);
        }
        let (rented, most) = (offer.disk.rented_gb(disk_gb), offer.disk.max_gb);
        Err(Error::field("disk_gb", format!("{rented} GB is more than offer {id} has: at most {most} GB")))
    }
}

/// Takes an answer over. What was evicted after the question was put may be in it all the same.
fn take(part: &mut Part, batch: OfferBatch, asked: Time, now: Time) {
    part.evicted.retain(|_, since| *since >= asked);
    part.offers = batch.offers;
    part.offers.iter_mut().map(Arc::make_mut).for_each(|offer| offer.prior = Prior(offer.confidence));
    part.age_factor = 1.0;
    part.asked_at = Some(asked);
    part.freshness.fetched_at = Some(now);
    part.freshness.error = None;
    part.freshness.refused = false;
    part.freshness.truncated = batch.truncated;
    part.freshness.skipped = batch.skipped;
}

/// The size of a page: the default for 0, never more than the largest.
pub(super) fn page_size(asked: u32) -> usize {
    let size = if asked == 0 { DEFAULT_PAGE } else { asked.min(MAX_PAGE) };
    usize::try_from(size).unwrap_or(50)
}

fn applied_defaults(query: &OfferQuery) -> Vec<String> {
    let mut out = Vec::new();
    if query.page_size == 0 {
        out.push(format!("page_size={DEFAULT_PAGE}"));
    }
    if query.filter.disk_gb.is_none() {
        out.push("filter.disk_gb=the provider's default".to_owned());
    }
    out
}

fn query_hash(query: &OfferQuery) -> u64 {
    hash_of(&format!("{:?}{:?}", query.filter, query.order))
}

/// 64 bits of a text's SHA-256, to tie tokens to what they were made for.
pub(super) fn hash_of(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
}

fn page_token(number: u64, hash: u64, skip: usize) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}{number:x}.{hash:x}.{skip:x}", PageOf::Offers.mark()))
}

fn read_health_token(token: &str, hash: u64) -> Result<(u8, String), Error> {
    let wrong = || Error::field("page_token", "it is none of this query: pass next_page_token as it came, and keep the other fields");
    let text = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
    let mut parts = text.strip_prefix(PageOf::Health.mark()).ok_or_else(wrong)?.splitn(3, '.');
    let of = parts.next().and_then(|of| u64::from_str_radix(of, 16).ok()).filter(|of| *of == hash).ok_or_else(wrong)?;
    let kind = parts.next().and_then(|kind| kind.parse().ok()).filter(|_| of == hash).ok_or_else(wrong)?;
    Ok((kind, parts.next().ok_or_else(wrong)?.to_owned()))
}

fn read_page_token(token: &str) -> Option<(u64, u64, usize)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let mut parts = text.strip_prefix(PageOf::Offers.mark())?.split('.');
    let number = u64::from_str_radix(parts.next()?, 16).ok()?;
    let hash = u64::from_str_radix(parts.next()?, 16).ok()?;
    let skip = usize::from_str_radix(parts.next()?, 16).ok()?;
    parts.next().is_none().then_some((number, hash, skip))
}
