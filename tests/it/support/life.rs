//! One life of the process under test: where it is to die, and what it did until then.
//!
//! When it dies, it dies everywhere at once: from that instant no commit reaches the disk and no call leaves for the
//! market, whatever its tasks still believe. What the vendor had taken by then stays done.

use async_trait::async_trait;
use futures::poll;
use gpu_shopper::domain::ids::{OfferId, ProviderId};
use gpu_shopper::domain::instance::Sighting;
use gpu_shopper::domain::template::Template;
use gpu_shopper::ports::{
    Account, Certainty, DestroyAnswer, ErrorKind, LaunchSpec, Launched, LinkState, OfferBatch, Provider, ProviderError, ProviderFacts,
};
use gpu_shopper::store::{Gate, Point};
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Where a process dies. Commits and calls are counted from 1 in each life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// Nothing of this commit is on disk.
    BeforeCommit(u64),
    /// This commit is on disk, and nobody was told.
    AfterCommit(u64),
    /// This call never goes out.
    BeforeCall(u64),
    /// The vendor does it, and the process does not live to hear of it.
    ReplyLost(u64),
    /// The vendor's answer arrives, and the process does not live to write it down.
    ReplyKept(u64),
    /// No death: the vendor does it, its answer never arrives, and the process lives on in doubt.
    Silence(u64),
}

/// Whether the process may be told to do something at a point of the store, beside dying: for copies of the disk.
pub type Aside = Arc<dyn Fn(Point) + Send + Sync>;

/// See the module's header.
pub struct Life {
    doom: Option<Doom>,
    dead: AtomicBool,
    died: Notify,
    commits: AtomicU64,
    calls: Mutex<Vec<&'static str>>,
    /// The labels of all launch calls, over all lives of a house.
    launches: Arc<Mutex<Vec<String>>>,
}

impl Life {
    pub fn new(doom: Option<Doom>, launches: Arc<Mutex<Vec<String>>>) -> Arc<Self> {
        Arc::new(Self { doom, dead: AtomicBool::new(false), died: Notify::new(), commits: AtomicU64::new(0), calls: Mutex::default(), launches })
    }

    /// Commits so far.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Calls so far that looked at or changed machines, by name.
    pub fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// From here nothing of this life has any effect.
    pub fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.died.notify_waiters();
    }

    /// Resolves when it is dead.
    pub async fn died(&self) {
        loop {
            let mut bell = pin!(self.died.notified());
            bell.as_mut().enable();
            if self.is_dead() {
                return;
            }
            bell.await;
        }
    }

    /// The gate of this life's store.
    pub fn gate(self: &Arc<Self>, aside: Option<Aside>) -> Gate {
        let life = Arc::clone(self);
        Arc::new(move |point| {
            if let Some(aside) = &aside {
                aside(point);
            }
            if let Point::AfterCommit(number) = point {
                life.commits.store(number, Ordering::Relaxed);
            }
            let here = match (life.doom, point) {
                (Some(Doom::BeforeCommit(n)), Point::BeforeCommit(number)) => n == number,
                (Some(Doom::AfterCommit(n)), Point::AfterCommit(number)) => n == number,
                _ => false,
            };
            if here {
                life.die();
            }
            life.is_dead()
        })
    }

    /// One call that looks at or changes machines.
    async fn through<T>(&self, name: &'static str, call: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
        if self.is_dead() {
            return pending().await;
        }
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(name);
            calls.len() as u64
        };
        if self.doom == Some(Doom::BeforeCall(number)) {
            self.die();
            return pending().await;
        }
        let mut call = pin!(call);
        if self.doom == Some(Doom::ReplyLost(number)) {
            // The simulated vendor acts as soon as it is asked, and takes its time to answer.
            let _ = poll!(call.as_mut());
            self.die();
            return pending().await;
        }
        let answer = call.await;
        if self.is_dead() {
            return pending().await;
        }
        match self.doom {
            Some(Doom::ReplyKept(n)) if n == number => self.die(),
            Some(Doom::Silence(n)) if n == number => return Err(silence(name)),
            _ => {}
        }
        answer
    }

    /// One call of no consequence: it is not counted, and a dead process does not make it.
    async fn aside<T>(&self, call: impl Future<Output = T>) -> T {
        if self.is_dead() {
            return pending().await;
        }
        let answer = call.await;
        if self.is_dead() { pending().await } else { answer }
    }
}

/// What an adapter says when a call went out and no answer came.
pub fn silence(operation: &'static str) -> ProviderError {
    ProviderError {
        provider: ProviderId::new("silent"),
        operation,
        kind: ErrorKind::Unavailable,
        certainty: Certainty::MayHaveHappened,
        text: "the connection broke before the answer".to_owned(),
        retry_after: None,
    }
}

/// A provider as one life of the process sees it.
pub struct Watched {
    pub inner: Arc<dyn Provider>,
    pub life: Arc<Life>,
}

#[async_trait]
impl Provider for Watched {
    fn facts(&self) -> &ProviderFacts {
        self.inner.facts()
    }

    fn owns_offer_id(&self, id: &OfferId) -> bool {
        self.inner.owns_offer_id(id)
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        self.life.aside(self.inner.account()).await
    }

    async fn offers(&self) -> Result<OfferBatch, ProviderError> {
        self.life.aside(self.inner.offers()).await
    }

    async fn templates(&self) -> Result<Vec<Template>, ProviderError> {
        self.life.aside(self.inner.templates()).await
    }

    async fn template(&self, hash_id: &str) -> Result<Option<Template>, ProviderError> {
        self.life.aside(self.inner.template(hash_id)).await
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Launched, ProviderError> {
        let call = async {
            self.life.launches.lock().unwrap().push(spec.label.to_string());
            self.inner.launch(spec).await
        };
        self.life.through("launch", call).await
    }

    async fn attach_key(&self, native_id: &str, public_key: &str) -> Result<(), ProviderError> {
        self.life.through("attach_key", self.inner.attach_key(native_id, public_key)).await
    }

    async fn instance(&self, native_id: &str) -> Result<Option<Sighting>, ProviderError> {
        self.life.through("instance", self.inner.instance(native_id)).await
    }

    async fn instances(&self) -> Result<Vec<Sighting>, ProviderError> {
        self.life.through("instances", self.inner.instances()).await
    }

    async fn start(&self, native_id: &str) -> Result<(), ProviderError> {
        self.life.through("start", self.inner.start(native_id)).await
    }

    async fn destroy(&self, native_id: &str) -> Result<DestroyAnswer, ProviderError> {
        self.life.through("destroy", self.inner.destroy(native_id)).await
    }

    fn link(&self) -> LinkState {
        self.inner.link()
    }
}

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
