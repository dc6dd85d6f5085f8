//! One life of a simulated process: where it is to die, and what it did until then.
//!
//! When it dies, it dies everywhere at once: from that instant no commit reaches the disk and no call leaves for the
//! market, whatever its tasks still believe. What the vendor had taken by then stays done.

use crate::chaos::witness::Witness;
use crate::domain::ids::{OfferId, ProviderId};
use crate::domain::instance::Sighting;
use crate::domain::template::Template;
use crate::ports::{
    Account, Certainty, DestroyAnswer, ErrorKind, LaunchSpec, Launched, LinkState, OfferBatch, Provider, ProviderError, ProviderFacts,
};
use crate::store::{Batch, Gate, Point};
use async_trait::async_trait;
use futures::poll;
use std::collections::BTreeSet;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// Something that is done at a point of the store, beside dying: a copy of the disk, a disk that lies.
pub type Aside = Arc<dyn Fn(Point, &mut Batch) + Send + Sync>;

/// See the module's header.
pub struct Life {
    doom: Mutex<Option<Doom>>,
    dead: AtomicBool,
    died: Notify,
    commits: AtomicU64,
    calls: Mutex<Vec<&'static str>>,
    /// Machines whose destroy is under way.
    destroying: Mutex<BTreeSet<String>>,
    witness: Arc<Witness>,
}

impl Life {
    /// A life that ends at `doom`, if anywhere, before the eyes of a witness.
    #[must_use]
    pub fn new(doom: Option<Doom>, witness: Arc<Witness>) -> Arc<Self> {
        Arc::new(Self {
            doom: Mutex::new(doom),
            dead: AtomicBool::new(false),
            died: Notify::new(),
            commits: AtomicU64::new(0),
            calls: Mutex::default(),
            destroying: Mutex::default(),
            witness,
        })
    }

    fn named(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn destroys(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.destroying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it dies.
    #[must_use]
    pub fn doom(&self) -> Option<Doom> {
        *self.doom.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes where it dies.
    pub fn set_doom(&self, doom: Doom) {
        *self.doom.lock().unwrap_or_else(PoisonError::into_inner) = Some(doom);
    }

    /// Commits so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Calls so far that looked at or changed machines, by name.
    #[must_use]
    pub fn calls(&self) -> Vec<&'static str> {
        self.named().clone()
    }

    /// How many of them.
    #[must_use]
    pub fn call_count(&self) -> u64 {
        self.named().len() as u64
    }

    /// Whether it is over.
    #[must_use]
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
    #[must_use]
    pub fn gate(self: &Arc<Self>, aside: Option<Aside>) -> Gate {
        let life = Arc::clone(self);
        Arc::new(move |point, batch| {
            if life.is_dead() {
                return true;
            }
            let doom = life.doom();
            if doom.is_some_and(|doom| matches!((doom, point), (Doom::BeforeCommit(n), Point::BeforeCommit(number)) if n == number)) {
                life.die();
            }
            if let Some(aside) = &aside {
                aside(point, batch);
            }
            if let Point::AfterCommit(number) = point {
                life.commits.store(number, Ordering::Relaxed);
                life.witness.committed(batch);
                if doom == Some(Doom::AfterCommit(number)) {
                    life.die();
                }
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
            let mut calls = self.named();
            calls.push(name);
            calls.len() as u64
        };
        if self.doom() == Some(Doom::BeforeCall(number)) {
            self.die();
            return pending().await;
        }
        if !self.witness.called(name) {
            return pending().await;
        }
        let mut call = pin!(call);
        if self.doom() == Some(Doom::ReplyLost(number)) {
            // The simulated vendor acts as soon as it is asked, and takes its time to answer.
            let _ = poll!(call.as_mut());
            self.die();
            return pending().await;
        }
        let answer = call.await;
        if self.is_dead() {
            return pending().await;
        }
        match self.doom() {
            Some(Doom::ReplyKept(n)) if n == number => {
                self.die();
                return pending().await;
            }
            Some(Doom::Silence(n)) if n == number => return Err(silence(name)),
            _ => {}
        }
        answer
    }

    /// One call of no consequence: it is no point to die at, and a dead process does not make it.
    async fn aside<T>(&self, name: &'static str, call: impl Future<Output = T>) -> T {
        if self.is_dead() || !self.witness.called(name) {
            return pending().await;
        }
        let answer = call.await;
        if self.is_dead() { pending().await } else { answer }
    }
}

/// What an adapter says when a call went out and no answer came.
#[must_use]
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

/// A destroy under way: who orders it at the same time again in the same process orders it twice.
struct Destroying<'a>(&'a Life, &'a str);

impl<'a> Destroying<'a> {
    fn begin(life: &'a Life, native_id: &'a str) -> Self {
        if !life.destroys().insert(native_id.to_owned()) {
            life.witness.destroyed_twice(native_id);
        }
        Self(life, native_id)
    }
}

impl Drop for Destroying<'_> {
    fn drop(&mut self) {
        self.0.destroys().remove(self.1);
    }
}

/// A provider as one life of the process sees it, before the eyes of its witness.
pub struct Watched {
    /// The provider itself.
    pub inner: Arc<dyn Provider>,
    /// The life.
    pub life: Arc<Life>,
}

impl Watched {
    fn witness(&self) -> &Witness {
        &self.life.witness
    }
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
        self.life.aside("account", self.inner.account()).await
    }

    async fn offers(&self) -> Result<OfferBatch, ProviderError> {
        self.life.aside("offers", self.inner.offers()).await
    }

    async fn templates(&self) -> Result<Vec<Template>, ProviderError> {
        self.life.aside("templates", self.inner.templates()).await
    }

    async fn template(&self, hash_id: &str) -> Result<Option<Template>, ProviderError> {
        self.life.aside("template", self.inner.template(hash_id)).await
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Launched, ProviderError> {
        let call = async {
            self.witness().launching(spec);
            self.inner.launch(spec).await
        };
        let answer = self.life.through("launch", call).await;
        if let Ok(launched) = &answer {
            self.witness().launched(&launched.native_id);
        }
        answer
    }

    async fn attach_key(&self, native_id: &str, public_key: &str) -> Result<(), ProviderError> {
        let call = async {
            self.witness().touching("attach_key", native_id);
            self.inner.attach_key(native_id, public_key).await
        };
        self.life.through("attach_key", call).await
    }

    async fn instance(&self, native_id: &str) -> Result<Option<Sighting>, ProviderError> {
        let answer = self.life.through("instance", self.inner.instance(native_id)).await;
        if let Ok(sighting) = &answer {
            self.witness().looked(native_id, sighting.as_ref());
        }
        answer
    }

    async fn instances(&self) -> Result<Vec<Sighting>, ProviderError> {
        self.life.through("instances", self.inner.instances()).await
    }

    async fn start(&self, native_id: &str) -> Result<(), ProviderError> {
        let call = async {
            self.witness().touching("start", native_id);
            self.inner.start(native_id).await
        };
        self.life.through("start", call).await
    }

    async fn destroy(&self, native_id: &str) -> Result<DestroyAnswer, ProviderError> {
        let call = async {
            self.witness().touching("destroy", native_id);
            let _alone = Destroying::begin(&self.life, native_id);
            self.inner.destroy(native_id).await
        };
        self.life.through("destroy", call).await
    }

    fn link(&self) -> LinkState {
        self.inner.link()
    }
}
