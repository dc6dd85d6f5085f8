//! A probe that tells something else than what is: what comes of a login, what the GPUs say, what the API answers.

use async_trait::async_trait;
use gpu_shopper::domain::ids::SessionId;
use gpu_shopper::ports::{ApiTarget, GpuAnswer, Measured, ProbeFailure, ProbeReport, ProbeTarget, SshProbe};
use std::sync::{Arc, Mutex, MutexGuard};

/// What is made of a GPU's true answer.
pub type Told = Arc<dyn Fn(GpuAnswer) -> GpuAnswer + Send + Sync>;

/// What is told instead of the truth; nothing at first. Tests change it as they go.
#[derive(Default)]
pub struct Say {
    /// Why no login works, while there is a reason.
    pub login: Option<ProbeFailure>,
    /// What the GPUs say when they are asked.
    pub gpu: Option<Told>,
    /// What the API answers.
    pub api: Option<u16>,
}

/// What a house's probe tells, shared with the test.
#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<Say>>);

impl Script {
    pub fn say(&self) -> MutexGuard<'_, Say> {
        self.0.lock().unwrap()
    }
}

/// See the module's header.
pub struct Doctored {
    pub of: Arc<dyn SshProbe>,
    pub script: Script,
}

#[async_trait]
impl SshProbe for Doctored {
    fn verifier_key(&self, session: SessionId) -> String {
        self.of.verifier_key(session)
    }

    async fn probe(&self, target: &ProbeTarget) -> Result<ProbeReport, ProbeFailure> {
        let (login, told) = {
            let say = self.script.say();
            (say.login.clone(), say.gpu.clone())
        };
        if let Some(failure) = login {
            return Err(failure);
        }
        let mut report = self.of.probe(target).await?;
        if let Some(told) = told {
            report.gpu = report.gpu.map(|answer| told(answer));
        }
        Ok(report)
    }

    async fn install_key(&self, target: &ProbeTarget, add: &str, remove: &[String]) -> Result<(), ProbeFailure> {
        self.of.install_key(target, add, remove).await
    }

    async fn api(&self, target: &ApiTarget) -> Result<u16, ProbeFailure> {
        let told = self.script.say().api;
        match told {
            Some(status) => Ok(status),
            None => self.of.api(target).await,
        }
    }

    async fn measure(&self, target: &ProbeTarget) -> Result<Measured, ProbeFailure> {
        self.of.measure(target).await
    }
}
