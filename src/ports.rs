//! Floor 1: what we ask of third parties, as traits with two real implementations each (the real one and the
//! simulated one): a marketplace, an SSH login, and chance.
//!
//! A provider's error always says whether the thing it was asked for *certainly did not happen* or *may have
//! happened*; everything that guards against double launches and forgotten machines rests on that.

use crate::domain::idle::Activity;
use crate::domain::ids::{Label, OfferId, ProviderId, SessionId};
pub use crate::domain::instance::DestroyAnswer;
use crate::domain::instance::{Billed, Sighting, SshEndpoint};
use crate::domain::money::{Nanos, Rate};
use crate::domain::offer::{Component, Offer};
pub use crate::domain::policy::StageBudgets;
use crate::domain::service::Service;
use crate::domain::session::RegistryLogin;
use crate::domain::template::Template;
use crate::domain::time::{Look, Time};
pub use crate::domain::verify::{GpuAnswer, ProbeFailureKind};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a provider is like: facts that don't change while the server runs.
#[derive(Clone, Debug)]
pub struct ProviderFacts {
    /// Its name in the register.
    pub id: ProviderId,
    /// How it is written for people: `Vast.ai`.
    pub title: &'static str,
    /// How often offers are fetched.
    pub refresh_interval: Duration,
    /// How long after a launch call a new instance may still be missing from lists.
    pub visibility_window: Duration,
    /// The shortest time between two list calls.
    pub list_interval: Duration,
    /// Whether keys must be attached by a call of their own after the launch.
    pub attaches_keys: bool,
    /// When each component is billed.
    pub billing: Vec<(Component, Billed)>,
    /// The stages' budgets.
    pub budgets: StageBudgets,
    /// Whether anything can outlive an instance here (`storage_policy = preserve`).
    pub preserves_storage: bool,
    /// The image taken when nobody asks for one.
    pub default_image: String,
}

/// Offers as fetched, with what the fetch has to say about itself.
#[derive(Clone, Debug, Default)]
pub struct OfferBatch {
    /// What can be rented: each in room of its own from the start, since there may be tens of thousands.
    pub offers: Vec<Arc<Offer>>,
    /// The vendor had at least as many rows as we asked for: there may be more.
    pub truncated: bool,
    /// Rows that made no sense and were left out.
    pub skipped: usize,
}

/// Whose account a credential opens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// A stable identity: the vendor's user id, or a fingerprint of the key where the vendor tells none.
    pub identity: String,
    /// What is left on it, where the vendor tells.
    pub balance: Option<Nanos>,
}

/// What to launch. Shows nothing of what may be secret.
#[derive(Clone)]
pub struct LaunchSpec {
    /// The label it must carry.
    pub label: Label,
    /// The offer, as in the snapshot that the session was decided on.
    pub offer: Arc<Offer>,
    /// Container or system image; `None` = the provider's default.
    pub image: Option<String>,
    /// Disk to rent, GB.
    pub disk_gb: u32,
    /// A bid per hour for interruptible offers.
    pub bid: Option<Rate>,
    /// Public keys that must be able to log in, OpenSSH format, without trailing newline.
    pub public_keys: Vec<String>,
    /// Environment of the machine.
    pub env: BTreeMap<String, String>,
    /// Shell commands to run at start.
    pub on_start: Option<String>,
    /// Ports inside the machine to be mapped, beside SSH, where the vendor maps any.
    pub ports: Vec<u16>,
    /// The template that image, environment and commands were taken from, by its hash.
    pub template: Option<String>,
    /// The server program that it is to start by itself.
    pub service: Option<Service>,
    /// Who may fetch the image.
    pub registry: Option<RegistryLogin>,
}

impl LaunchSpec {
    /// Every text in it that may be secret: vendors repeat what they were sent.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let password = self.registry.iter().map(|login| login.password.clone());
        self.env.values().cloned().chain(self.on_start.clone()).chain(password).collect()
    }
}

impl fmt::Debug for LaunchSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaunchSpec").field("label", &self.label).field("offer", &self.offer.id).field("image", &self.image).finish_non_exhaustive()
    }
}

/// A successful launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launched {
    /// The vendor's id of the new instance.
    pub native_id: String,
    /// The call's send and answer.
    pub call: Look,
    /// The vendor reported a failure and yet created something (a stopped instance): it must be destroyed.
    pub failed: Option<String>,
}

/// A marketplace account: everything we ever ask of one.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// What it is like.
    fn facts(&self) -> &ProviderFacts;

    /// Whether a text is an offer id of this provider in canonical form.
    fn owns_offer_id(&self, id: &OfferId) -> bool;

    /// Proves the credentials and tells whose they are.
    async fn account(&self) -> Result<Account, ProviderError>;

    /// Everything that can be rented now.
    async fn offers(&self) -> Result<OfferBatch, ProviderError>;

    /// The templates that its vendor recommends; none where there are none.
    async fn templates(&self) -> Result<Vec<Template>, ProviderError> {
        Ok(Vec::new())
    }

    /// One template by its hash, recommended or not; `None` when there is none.
    async fn template(&self, hash_id: &str) -> Result<Option<Template>, ProviderError> {
        let _ = hash_id;
        Ok(None)
    }

    /// Creates one instance, once; never retried inside.
    async fn launch(&self, spec: &LaunchSpec) -> Result<Launched, ProviderError>;

    /// Makes one more public key able to log in. A no-op where keys are given at launch.
    async fn attach_key(&self, native_id: &str, public_key: &str) -> Result<(), ProviderError>;

    /// One instance by id; `None` when the vendor says that there is none.
    async fn instance(&self, native_id: &str) -> Result<Option<Sighting>, ProviderError>;

    /// All instances on the account: complete, or an error.
    async fn instances(&self) -> Result<Vec<Sighting>, ProviderError>;

    /// Starts a stopped instance.
    async fn start(&self, native_id: &str) -> Result<(), ProviderError>;

    /// Orders an instance to be destroyed.
    async fn destroy(&self, native_id: &str) -> Result<DestroyAnswer, ProviderError>;

    /// How the connection stands; the default is a link that never fails.
    fn link(&self) -> LinkState {
        LinkState::default()
    }
}

/// How the connection to a provider stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// The circuit breaker.
    pub breaker: Breaker,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// The last failure, cleaned.
    pub last_error: Option<String>,
    /// When.
    pub last_error_at: Option<Time>,
    /// The last success.
    pub last_ok_at: Option<Time>,
    /// No ordinary call before then.
    pub throttled_until: Option<Time>,
}

/// A circuit breaker's position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Breaker {
    /// Calls go out.
    #[default]
    Closed,
    /// Calls are refused at once (destroys and their confirmation excepted).
    Open,
    /// One call is let through to see.
    HalfOpen,
}

/// Whether what was asked for may have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It certainly did not happen.
    DidNotHappen,
    /// It may have happened: look before doing anything else.
    MayHaveHappened,
}

/// What kind of failure a provider's error is; decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The offer is gone or there is no capacity: next offer.
    NoCapacity,
    /// Too many calls: later, nobody's fault.
    RateLimited,
    /// Our credentials are refused: stop launching there.
    Auth,
    /// The account is out of credit: stop launching there.
    Credit,
    /// The vendor finds the request wrong: no retry of the same.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// The vendor is unreachable, slow or broken.
    Unavailable,
    /// The answer made no sense.
    Garbled,
}

impl ErrorKind {
    /// The word for logs and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NoCapacity => "no_capacity",
            Self::RateLimited => "rate_limited",
            Self::Auth => "auth",
            Self::Credit => "credit",
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::Garbled => "garbled",
        }
    }
}

/// A failed call to a provider. The text is cleaned, capped and free of secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{provider} {operation}: {text}")]
pub struct ProviderError {
    /// Who.
    pub provider: ProviderId,
    /// Which call: `launch`, `destroy`, `offers` …
    pub operation: &'static str,
    /// What kind.
    pub kind: ErrorKind,
    /// Whether it may have happened.
    pub certainty: Certainty,
    /// The vendor's words or ours.
    pub text: String,
    /// How long the vendor asks us to wait.
    pub retry_after: Option<Duration>,
}

/// Where and as whom to log in for a probe.
#[derive(Clone, Debug)]
pub struct ProbeTarget {
    /// The endpoint.
    pub endpoint: SshEndpoint,
    /// The session whose verifier key logs in.
    pub session: SessionId,
    /// The host key seen before, as an OpenSSH public key line; another one is an alarm.
    pub known_host_key: Option<String>,
    /// Whether `nvidia-smi` is asked after the login.
    pub ask_gpu: bool,
    /// Whether private, loopback and link-local addresses may be contacted.
    pub allow_private: bool,
}

/// Where and how an API is asked whether it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTarget {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What is asked for, by GET.
    pub path: &'static str,
    /// Whether private, loopback and link-local addresses may be contacted.
    pub allow_private: bool,
}

/// A login that worked.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeReport {
    /// The server's host key as an OpenSSH public key line without comment.
    pub host_key: String,
    /// What the GPU said, when it was asked.
    pub gpu: Option<GpuAnswer>,
    /// Free space where the root file system is, GB; `None` = it could not be told.
    pub disk_free_gb: Option<u32>,
}

/// A look at whether anybody uses a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The server's host key as an OpenSSH public key line without comment.
    pub host_key: String,
    /// What was measured.
    pub activity: Activity,
}

/// Why a login did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeFailure {
    /// What kind.
    pub kind: ProbeFailureKind,
    /// In words, without secrets.
    pub text: String,
}

/// Logs in to machines.
#[async_trait]
pub trait SshProbe: Send + Sync + 'static {
    /// The public key (OpenSSH format) that the probe will log in with for a session.
    fn verifier_key(&self, session: SessionId) -> String;

    /// Logs in, and asks the GPU when the target says so. Keeps its own deadlines.
    async fn probe(&self, target: &ProbeTarget) -> Result<ProbeReport, ProbeFailure>;

    /// Logs in and changes who may: `add` may, `remove` may not any more (all OpenSSH lines); the verifier key may in any
    /// case. Whole or not at all, and harmless to repeat. `ask_gpu` plays no part.
    async fn install_key(&self, target: &ProbeTarget, add: &str, remove: &[String]) -> Result<(), ProbeFailure>;

    /// Asks an API by plain HTTP and gives the status of its answer. Keeps its own deadlines, follows no redirects.
    async fn api(&self, target: &ApiTarget) -> Result<u16, ProbeFailure>;
    /// Logs in and looks whether anybody uses the machine; its own logins are no use. What can't be told after the login
    /// is unknown, not an error. Keeps its own deadlines; the target's `ask_gpu` plays no part.
    async fn measure(&self, target: &ProbeTarget) -> Result<Measured, ProbeFailure>;
}

/// Ids, jitter and choices.
pub trait Chance: Send + Sync + 'static {
    /// 64 random bits.
    fn bits(&self) -> u64;

    /// A number from 0 (inclusive) to 1 (exclusive).
    fn unit(&self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// `wait` changed by up to ±`share` of itself.
    fn jitter(&self, wait: Duration, share: f64) -> Duration {
        wait.mul_f64((1.0 + share * (2.0 * self.unit() - 1.0)).max(0.0))
    }
}

/// Chance from the system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemChance;

impl Chance for SystemChance {
    fn bits(&self) -> u64 {
        rand::random()
    }
}

/// Chance from a seed: the same seed gives the same run.
#[derive(Debug)]
pub struct SeededChance(std::sync::Mutex<rand_chacha::ChaCha8Rng>);

impl SeededChance {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(std::sync::Mutex::new(rand::SeedableRng::seed_from_u64(seed)))
    }
}

impl Chance for SeededChance {
    fn bits(&self) -> u64 {
        rand::RngCore::next_u64(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
