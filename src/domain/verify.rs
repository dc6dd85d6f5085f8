//! What a machine must show before it is handed over, and what it showed.
//!
//! An attempt fails only on positive contradiction of what was asked. Silence is not contradiction.

use crate::domain::gpu::{GpuModel, snap_memory_mib};
use crate::domain::offer::Offer;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// How much is proven before RUNNING.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// A login is enough.
    Ssh,
    /// Login, then `nvidia-smi`; no answer leaves GPU_VERIFIED unknown.
    #[default]
    Gpu,
    /// RUNNING only with everything proven.
    Strict,
}

/// What `nvidia-smi` told.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuReport {
    /// Each GPU's name as reported and its memory in MiB.
    pub gpus: Vec<(String, u32)>,
    /// The driver's version: `550.54.15`.
    pub driver: Option<String>,
    /// Highest CUDA version of the driver, as major × 100 + minor.
    pub cuda: Option<u32>,
}

/// What came of asking the GPU.
#[derive(Clone, Debug, PartialEq)]
pub enum GpuAnswer {
    /// It answered.
    Report(GpuReport),
    /// There is no `nvidia-smi`, or it reports a driver error: the text says which.
    Broken(String),
    /// No answer in time, or one that can't be read.
    Silent(String),
}

/// Kinds of failed logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeFailureKind {
    /// Nobody listens there.
    Refused,
    /// No answer in time.
    Timeout,
    /// The name does not resolve or there is no way to the address.
    Unreachable,
    /// The address is private or link-local and may not be contacted.
    AddressNotAllowed,
    /// The server is there and takes none of our keys.
    AuthRejected,
    /// The server's algorithms don't meet ours.
    AlgorithmMismatch,
    /// Another host key than before.
    HostKeyChanged,
    /// The connection broke off, or what answered was no SSH server.
    Broken,
    /// The login worked, and a command that had to did not.
    CommandFailed,
}

impl ProbeFailureKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::Timeout,
        Self::Unreachable,
        Self::AddressNotAllowed,
        Self::AuthRejected,
        Self::AlgorithmMismatch,
        Self::HostKeyChanged,
        Self::Broken,
        Self::CommandFailed,
    ];

    /// The word for reasons and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Refused => "connection_refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::AuthRejected => "auth_failed",
            Self::AlgorithmMismatch => "ssh_algorithm_mismatch",
            Self::HostKeyChanged => "host_key_changed",
            Self::Broken => "connection_closed",
            Self::CommandFailed => "command_failed",
        }
    }

    /// Whether nobody answered as an SSH server does: that says nothing about keys.
    #[must_use]
    pub fn silent(self) -> bool {
        matches!(self, Self::Refused | Self::Timeout | Self::Unreachable | Self::Broken)
    }

    /// The reason of the condition SSH_REACHABLE: a silent host, a refused key and another host key are three things.
    #[must_use]
    pub fn condition(self) -> &'static str {
        match self {
            Self::Refused | Self::Timeout | Self::Unreachable | Self::Broken => "host_silent",
            Self::AuthRejected => "key_refused",
            Self::HostKeyChanged | Self::AddressNotAllowed | Self::AlgorithmMismatch | Self::CommandFailed => self.word(),
        }
    }
}

/// What a report contradicts; empty when it contradicts nothing.
#[must_use]
pub fn contradictions(report: &GpuReport, offer: &Offer, min_cuda: Option<u32>) -> Vec<String> {
    let mut found = Vec::new();
    let count = u32::try_from(report.gpus.len()).unwrap_or(u32::MAX);
    if count < offer.gpu_count {
        found.push(format!("{count} GPUs instead of {}", offer.gpu_count));
    }
    for (name, memory) in &report.gpus {
        let model = GpuModel::canonical(name);
        if !model.answers(&offer.gpu) && !offer.gpu.answers(&model) {
            found.push(format!("{model} instead of {}", offer.gpu));
            break;
        }
        if u64::from(snap_memory_mib(*memory)) * 10 < u64::from(offer.gpu_memory_mib) * 9 {
            found.push(format!("{memory} MiB of GPU memory instead of {}", offer.gpu_memory_mib));
            break;
        }
    }
    if let (Some(least), Some(has)) = (min_cuda, report.cuda)
        && has < least
    {
        found.push(format!("CUDA {}.{} instead of at least {}.{}", has / 100, has % 100, least / 100, least % 100));
    }
    found
}
