//! Logins to simulated machines without a network: the same answers that a real SSH client would get.
//! Keys are names here: who shows one that was installed is let in.

use crate::domain::idle::Activity;
use crate::domain::ids::SessionId;
use crate::domain::verify::GpuReport;
use crate::ports::{ApiTarget, GpuAnswer, Measured, ProbeFailure, ProbeFailureKind, ProbeReport, ProbeTarget, SshProbe};
use crate::sim::keys::key_blob;
use crate::sim::market::Market;
use crate::sim::rental::GpuTruth;
use crate::sim::ssh_host::FREE_DISK_GB;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A probe that asks the market instead of the network.
pub struct SimProbe {
    market: Arc<Market>,
    secret: [u8; 32],
}

impl SimProbe {
    /// A probe whose verifier keys come from `secret`: after a restart, the same secret gives the same keys.
    #[must_use]
    pub fn new(market: Arc<Market>, secret: [u8; 32]) -> Self {
        Self { market, secret }
    }
}

#[async_trait]
impl SshProbe for SimProbe {
    fn verifier_key(&self, session: SessionId) -> String {
        let seed = Sha256::new().chain_update(self.secret).chain_update(session.bits().to_be_bytes()).finalize();
        public_line(&seed.into())
    }

    async fn api(&self, target: &ApiTarget) -> Result<u16, ProbeFailure> {
        self.market
            .api_status(&target.host, target.port)
            .ok_or_else(|| ProbeFailure { kind: ProbeFailureKind::Refused, text: "connection refused".to_owned() })
    }

    async fn install_key(&self, target: &ProbeTarget, add: &str, remove: &[String]) -> Result<(), ProbeFailure> {
        let (native_id, _) = self.enter(target)?;
        let gone: Vec<Vec<u8>> = remove.iter().filter_map(|line| key_blob(line)).collect();
        self.market.rewrite_keys(&native_id, &[add.to_owned(), self.verifier_key(target.session)], &gone);
        Ok(())
    }

    async fn probe(&self, target: &ProbeTarget) -> Result<ProbeReport, ProbeFailure> {
        let (native_id, host_key) = self.enter(target)?;
        let gpu = target.ask_gpu.then(|| match self.market.gpu_truth(&native_id) {
            Some(GpuTruth::Present { gpus, driver, cuda }) => {
                let cuda = cuda.split_once('.').and_then(|(major, minor)| Some(major.parse::<u32>().ok()? * 100 + minor.parse::<u32>().ok()?));
                GpuAnswer::Report(GpuReport { gpus, driver: Some(driver), cuda })
            }
            Some(GpuTruth::NoTool) => GpuAnswer::Broken("nvidia-smi: command not found".to_owned()),
            Some(GpuTruth::NoDriver) => GpuAnswer::Broken("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver".to_owned()),
            None => GpuAnswer::Silent("the machine is gone".to_owned()),
        });
        Ok(ProbeReport { host_key, gpu, disk_free_gb: Some(FREE_DISK_GB) })
    }

    async fn measure(&self, target: &ProbeTarget) -> Result<Measured, ProbeFailure> {
        let (native_id, host_key) = self.enter(target)?;
        let workload = self.market.workload(&native_id);
        let told = matches!(self.market.gpu_truth(&native_id), Some(GpuTruth::Present { .. }));
        let activity = Activity {
            gpu_percent: told.then(|| workload.gpu_percent()),
            gpu_memory_mib: told.then(|| workload.gpu_memory_mib()),
            gpu_processes: told.then(|| workload.gpu_processes()),
            connections: workload.connections(),
        };
        Ok(Measured { host_key, activity })
    }
}

impl SimProbe {
    /// Logs in: the machine that is there, and its host key.
    fn enter(&self, target: &ProbeTarget) -> Result<(String, String), ProbeFailure> {
        let failed = |kind, text: &str| Err(ProbeFailure { kind, text: text.to_owned() });
        let Some(native_id) = self.market.endpoint_to_instance(&target.endpoint.host, target.endpoint.port) else {
            return failed(ProbeFailureKind::Refused, "nobody listens there");
        };
        if !self.market.answers(&native_id) {
            return failed(ProbeFailureKind::Refused, "connection refused");
        }
        let host_key = public_line(&self.market.host_key_seed(&native_id));
        if target.known_host_key.as_ref().is_some_and(|known| key_blob(known) != key_blob(&host_key)) {
            return failed(ProbeFailureKind::HostKeyChanged, "another host key than before");
        }
        let blob = key_blob(&self.verifier_key(target.session)).unwrap_or_default();
        if !self.market.admits(&native_id, &blob) {
            return failed(ProbeFailureKind::AuthRejected, "no method left to try");
        }
        Ok((native_id, host_key))
    }
}

/// An OpenSSH line of Ed25519 form with these bytes as the key. Nobody holds its private half, and in memory nobody needs it.
fn public_line(bytes: &[u8; 32]) -> String {
    const KIND: &[u8] = b"ssh-ed25519";
    let blob = [&[0, 0, 0, 11], KIND, &[0, 0, 0, 32], bytes].concat();
    format!("ssh-ed25519 {}", STANDARD.encode(blob))
}
