//! What a consumer asks for: which machine, for how long, at what price, started with what, proven how. It stays as it was asked,
//! but for a change of key.

use crate::domain::hiding::hide;
use crate::domain::ids::{ConsumerId, OfferId};
use crate::domain::model::{self, Estimate};
use crate::domain::money::{Nanos, Rate};
use crate::domain::offer::{Offer, OfferFilter, OfferOrder};
use crate::domain::template::Template;
use crate::domain::verify::Verify;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

words! {
    /// What the machine is for.
    Workload {
        /// A language model.
        Llm = "llm",
        /// A language model served by vLLM.
        LlmVllm = "llm_vllm",
        /// A language model served by TGI.
        LlmTgi = "llm_tgi",
        /// Training.
        Training = "training",
        /// A batch job.
        Batch = "batch",
        /// Interactive work.
        Interactive = "interactive",
        /// Inference.
        Inference = "inference",
        /// A shell.
        Ssh = "ssh",
        /// A benchmark.
        Benchmark = "benchmark",
    }
}

words! {
    /// What happens to the disk at the end.
    StoragePolicy {
        /// It goes with the machine.
        Destroy = "destroy",
        /// It should outlive the machine, where the provider can (none can today).
        Preserve = "preserve",
    }
}

words! {
    /// How widely the next attempt may look when one fails.
    FailoverScope {
        /// No further attempt.
        None = "none",
        /// The same GPU model, count and at least the same memory.
        SameGpu = "same_gpu",
        /// At least the same memory and count, any model.
        SameMemory = "same_memory",
        /// Anything that meets the request.
        Any = "any",
    }
}

words! {
    /// What a machine does when it is up.
    LaunchMode {
        /// It waits for logins.
        Ssh = "ssh",
        /// It starts a server program by itself, and takes logins as well.
        Entrypoint = "entrypoint",
    }
}

words! {
    /// How a model's weights are stored.
    Quantization {
        /// 32 bits a parameter.
        Fp32 = "fp32",
        /// 16 bits.
        Fp16 = "fp16",
        /// 16 bits, of Google's form.
        Bf16 = "bf16",
        /// 8 bits, floating.
        Fp8 = "fp8",
        /// 8 bits.
        Int8 = "int8",
        /// 4 bits and scales, by AWQ.
        Awq = "awq",
        /// 4 bits and scales, by GPTQ.
        Gptq = "gptq",
        /// 4 bits.
        Int4 = "int4",
        /// 4 bits, in a GGUF file.
        GgufQ4 = "gguf_q4",
    }
}

/// What a machine is started with that may hold secrets. Shows nothing of it.
#[skip_serializing_none]
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartSecrets {
    /// Environment of the machine.
    pub env: BTreeMap<String, String>,
    /// More of it.
    pub secret_env: BTreeMap<String, String>,
    /// Commands to run at start.
    pub on_start: Option<String>,
    /// Who may fetch the image.
    pub registry: Option<RegistryLogin>,
}

impl fmt::Debug for StartSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl StartSecrets {
    /// A text with every secret in it hidden: for what vendors say about a launch.
    #[must_use]
    pub fn hide_in(&self, text: &str) -> String {
        let password = self.registry.iter().map(|r| r.password.clone());
        let all: Vec<String> = self.env.values().chain(self.secret_env.values()).cloned().chain(self.on_start.clone()).chain(password).collect();
        hide(text, &all)
    }
}

/// A login at an image registry. Shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryLogin {
    /// The registry's host; empty = the usual one.
    pub server: String,
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: String,
}

impl fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// [`StartSecrets`] as they are kept: sealed, with what may be told of them.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SealedStart {
    /// The sealed whole, base64; `None` when there is nothing.
    pub sealed: Option<String>,
    /// Names of the variables.
    pub env_names: Vec<String>,
    /// Names of the secret ones.
    pub secret_env_names: Vec<String>,
    /// SHA-256 of the commands, in hex.
    pub on_start_sha256: Option<String>,
    /// The registry's host.
    pub registry: Option<String>,
}

/// When and how to try another offer.
#[skip_serializing_none]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// How widely to look.
    pub scope: FailoverScope,
    /// At most this many attempts whose machine came to be, 1…20.
    pub max_attempts: u8,
    /// No next offer above this price.
    pub max_price: Option<Rate>,
}

/// What to rent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This offer.
    Offer(OfferId),
    /// The best that fits.
    Requirements {
        /// What fits.
        filter: Box<OfferFilter>,
        /// What is best.
        order: OfferOrder,
    },
}

/// An accepted request, as kept with the session.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Who asks.
    pub consumer: ConsumerId,
    /// For what work.
    pub workload: Workload,
    /// What to rent.
    pub target: Target,
    /// How long, from the first RUNNING.
    pub reservation: Duration,
    /// Ends it when nobody used the machine for so long; zero = never.
    #[serde(default)]
    pub idle_threshold: Duration,
    /// The disk's fate.
    pub storage: StoragePolicy,
    /// The template to take over what the request does not say, as it was when the session was created.
    #[serde(default)]
    pub template: Option<Template>,
    /// Image; `None` = the template's or the provider's default.
    pub image: Option<String>,
    /// Disk in GB; `None` = the provider's default.
    pub disk_gb: Option<u32>,
    /// What the machine is started with.
    #[serde(default)]
    pub start: SealedStart,
    /// What the machine does when it is up.
    #[serde(default = "ssh_mode")]
    pub launch_mode: LaunchMode,
    /// The model that runs on it: `Qwen/Qwen2.5-7B-Instruct`.
    #[serde(default)]
    pub model_id: Option<String>,
    /// How the model's weights are stored.
    #[serde(default)]
    pub quantization: Option<Quantization>,
    /// Ports inside the machine to be mapped, beside SSH; the API's first.
    #[serde(default)]
    pub exposed_ports: Vec<u16>,
    /// The consumer's public key (given, or of the pair made for it), OpenSSH format.
    pub public_key: String,
    /// Budget of the login stage.
    pub ssh_timeout: Option<Duration>,
    /// What is proven before RUNNING.
    pub verify: Verify,
    /// A bid per hour, for interruptible offers; `None` = the lowest that wins.
    pub bid: Option<Rate>,
    /// What to do when an attempt fails.
    pub failover: Failover,
    /// No attempt above this price per hour.
    pub max_price: Option<Rate>,
    /// The session's whole cost may not exceed this.
    pub max_total_cost: Option<Nanos>,
    /// Allow a second session on the same single-slot offer.
    pub allow_same_offer: bool,
}

impl Request {
    /// What `consumer` gets when only the target is said: an hour of SSH on the provider's default image, the GPU verified.
    #[must_use]
    pub fn plain(consumer: ConsumerId, target: Target) -> Self {
        let scope = if matches!(target, Target::Offer(_)) { FailoverScope::None } else { FailoverScope::Any };
        Self {
            consumer,
            workload: Workload::Ssh,
            target,
            reservation: Duration::from_secs(3600),
            idle_threshold: Duration::ZERO,
            storage: StoragePolicy::Destroy,
            template: None,
            image: None,
            disk_gb: None,
            start: SealedStart::default(),
            launch_mode: LaunchMode::Ssh,
            model_id: None,
            quantization: None,
            exposed_ports: Vec::new(),
            public_key: String::new(),
            ssh_timeout: None,
            verify: Verify::Gpu,
            bid: None,
            failover: Failover { scope, max_attempts: 8, max_price: None },
            max_price: None,
            max_total_cost: None,
            allow_same_offer: false,
        }
    }

    /// What the model needs, where its name tells.
    #[must_use]
    pub fn estimate(&self) -> Option<Estimate> {
        model::estimate(self.model_id.as_deref()?, self.quantization, self.template.as_ref().map(|t| t.disk_gb))
    }

    /// The disk to rent, GB: as asked, else what the model needs, else as the template recommends; `None` = the provider's
    /// default.
    #[must_use]
    pub fn disk(&self) -> Option<u32> {
        self.disk_gb.or_else(|| self.estimate().map(|e| e.recommended_gb)).or(self.template.as_ref().and_then(|t| t.disk_gb))
    }

    /// The image to run; `None` = the provider's default.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        self.image.as_deref().or(self.template.as_ref().map(|t| t.image.as_str()))
    }

    /// The CUDA version that the driver of this offer's machine must have at least, as major × 100 + minor: what the filter or the
    /// template needs; and what the offer said, where somebody named it or wants everything proven.
    #[must_use]
    pub fn min_cuda(&self, offer: &Offer) -> Option<u32> {
        let (filtered, named) = match &self.target {
            Target::Requirements { filter, .. } => (filter.min_cuda, false),
            Target::Offer(id) => (None, *id == offer.id),
        };
        let told = offer.cuda.filter(|_| named || self.verify == Verify::Strict);
        filtered.max(self.template.as_ref().and_then(|t| t.needs.min_cuda)).max(told)
    }

    /// The login stage's budget, where the provider's does not hold.
    #[must_use]
    pub fn login_budget(&self) -> Option<Duration> {
        self.ssh_timeout.or(self.template.as_ref().and_then(Template::ssh_timeout))
    }
}

fn ssh_mode() -> LaunchMode {
    LaunchMode::Ssh
}
