//! The hands of the lifecycle actor: performs one action at a provider or a machine and returns what came of it.
//!
//! It decides nothing and writes nothing. Every action ends within a deadline of its own; what may have happened is
//! reported as such.

use crate::clock::Clock;
use crate::domain::backoff;
use crate::domain::idle;
use crate::domain::ids::ProviderId;
use crate::domain::instance::{Instance, SshEndpoint};
use crate::domain::lifecycle::{Action, Input, LookBy};
use crate::domain::money::Nanos;
use crate::domain::policy::Policy;
use crate::domain::session::{AttemptFailure, Session};
use crate::domain::time::Look;
use crate::ports::{Certainty, Chance, ErrorKind, LaunchSpec, ProbeFailure, ProbeFailureKind, ProbeTarget, Provider, ProviderError, SshProbe};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// No launch is waited for longer than this: its turn in the lane and its own deadline are shorter together.
const LAUNCH_LIMIT: Duration = Duration::from_secs(330);
/// No other call to a provider is waited for longer than this; the adapters' own deadlines are shorter.
const CALL_LIMIT: Duration = Duration::from_secs(150);
/// No probe is waited for longer than this.
const PROBE_LIMIT: Duration = Duration::from_secs(120);

/// What the provisioner works with.
#[derive(Clone)]
pub struct Tools {
    /// The providers.
    pub providers: BTreeMap<ProviderId, Arc<dyn Provider>>,
    /// Logs in to machines.
    pub probe: Arc<dyn SshProbe>,
    /// Jitter.
    pub chance: Arc<dyn Chance>,
    /// Time.
    pub clock: Clock,
    /// Providers whose machines may have private addresses.
    pub private_addresses: Vec<ProviderId>,
}

/// One action with everything it needs, taken out of the session when it was decided.
pub(super) struct Job {
    pub action: Action,
    pub session: Arc<Session>,
    pub instance: Instance,
}

impl Tools {
    /// Performs one action. The inputs are what was learnt, in the order it was learnt.
    pub(super) async fn perform(&self, job: Job, policy: &Policy) -> Vec<Input> {
        let Some(provider) = self.providers.get(&job.instance.provider).cloned() else {
            tracing::error!(provider = %job.instance.provider, "a session needs a provider that is not enabled");
            return Vec::new();
        };
        match job.action {
            Action::Choose => Vec::new(),
            Action::Launch(attempt) => vec![self.launch(&*provider, &job, attempt).await],
            Action::AttachKeys(attempt) => vec![Input::KeysAttached { attempt, result: self.attach(&*provider, &job).await }],
            Action::Start(attempt) => {
                let result = match &job.instance.native_id {
                    Some(id) => limited(provider.start(id)).await,
                    None => Ok(()),
                };
                vec![Input::Started { attempt, result }]
            }
            Action::Look(attempt) => vec![self.look(&*provider, &job.instance, attempt).await],
            Action::Probe { attempt, endpoint, ask_gpu } => vec![self.probe(&job, attempt, endpoint, ask_gpu).await],
            Action::Measure(attempt) => vec![self.measure(&job, attempt).await],
            Action::AskCredit(attempt) => vec![Input::CreditTold { attempt, out_of_credit: out_of_credit(&*provider).await }],
            Action::Destroy(attempt) => self.destroy(&*provider, &job, attempt, policy).await,
        }
    }

    async fn launch(&self, provider: &dyn Provider, job: &Job, attempt: u8) -> Input {
        let (session, sent) = (&job.session, self.clock.now());
        let Some(tried) = session.attempts.iter().find(|a| a.number == attempt) else {
            return Input::LaunchRefused { attempt, failure: AttemptFailure::Invalid, text: "the attempt is not on record".to_owned() };
        };
        let spec = LaunchSpec {
            label: job.instance.label,
            offer: tried.offer.clone(),
            image: session.request.image.clone(),
            disk_gb: tried.disk_gb,
            bid: session.request.bid.or(tried.offer.min_bid),
            public_keys: self.keys(session),
            env: session.request.env.clone(),
            on_start: session.request.on_start.clone(),
        };
        let answer = tokio::time::timeout(LAUNCH_LIMIT, provider.launch(&spec)).await;
        let call = Look { sent, answered: self.clock.now() };
        match answer {
            Ok(Ok(launched)) => Input::Launched { attempt, native_id: launched.native_id, call: launched.call, failed: launched.failed },
            Ok(Err(error)) if error.certainty == Certainty::DidNotHappen => {
                Input::LaunchRefused { attempt, failure: failure_of(&error), text: error.text }
            }
            Ok(Err(error)) => Input::LaunchUnknown { attempt, text: error.text, call },
            Err(_) => Input::LaunchUnknown { attempt, text: "no answer in time".to_owned(), call },
        }
    }

    /// The consumer's key and the session's verifier key.
    fn keys(&self, session: &Session) -> Vec<String> {
        vec![session.request.public_key.clone(), self.probe.verifier_key(session.id)]
    }

    async fn attach(&self, provider: &dyn Provider, job: &Job) -> Result<(), String> {
        let Some(id) = &job.instance.native_id else { return Err("its id is not known".to_owned()) };
        for key in self.keys(&job.session) {
            limited(provider.attach_key(id, &key)).await?;
        }
        Ok(())
    }

    async fn look(&self, provider: &dyn Provider, instance: &Instance, attempt: u8) -> Input {
        let Some(id) = &instance.native_id else { return Input::LookFailed { attempt, text: "its id is not known".to_owned() } };
        let sent = self.clock.now();
        let answer = limited(provider.instance(id)).await;
        let look = Look { sent, answered: self.clock.now() };
        match answer {
            Ok(Some(sighting)) => Input::Seen { attempt, sighting: Box::new(sighting), look },
            Ok(None) => Input::Missing { attempt, look, by: LookBy::Id },
            Err(text) => {
                tracing::info!(session_id = %instance.label.session, provider = %instance.provider, "a look by id failed: {text}");
                Input::LookFailed { attempt, text }
            }
        }
    }

    /// Looks once before the first order, so that the last known state is as fresh as can be; then orders.
    async fn destroy(&self, provider: &dyn Provider, job: &Job, attempt: u8, policy: &Policy) -> Vec<Input> {
        let instance = &job.instance;
        let Some(id) = &instance.native_id else { return Vec::new() };
        let mut learnt = Vec::new();
        if instance.destroy.tries == 0
            && let seen @ Input::Seen { .. } = self.look(provider, instance, attempt).await
        {
            learnt.push(seen);
        }
        let sent = self.clock.now();
        let answer = limited(provider.destroy(id)).await;
        let call = Look { sent, answered: self.clock.now() };
        let wait = backoff::doubling(policy.destroy_backoff, policy.destroy_backoff_max, instance.destroy.tries.saturating_add(1));
        let retry_at = call.answered + self.chance.jitter(wait, 0.2);
        learnt.push(Input::DestroyAnswered { attempt, answer, call, retry_at });
        learnt
    }

    async fn probe(&self, job: &Job, attempt: u8, index: usize, ask_gpu: bool) -> Input {
        let session = &job.session;
        let endpoint = session.pace.endpoints.get(index).or(session.endpoint.as_ref()).cloned();
        let Some(endpoint) = endpoint else { return Input::LookFailed { attempt, text: "its address is not known".to_owned() } };
        let target = self.target(session, &endpoint, &job.instance.provider, ask_gpu);
        let answer = tokio::time::timeout(PROBE_LIMIT, self.probe.probe(&target)).await;
        match answer.unwrap_or(Err(too_late())) {
            Ok(report) => Input::Probed { attempt, endpoint, host_key: report.host_key, gpu: report.gpu },
            Err(failure) => Input::ProbeFailed { attempt, endpoint, kind: failure.kind, text: failure.text },
        }
    }

    async fn measure(&self, job: &Job, attempt: u8) -> Input {
        let session = &job.session;
        let result = match &session.endpoint {
            Some(endpoint) => {
                let target = self.target(session, endpoint, &job.instance.provider, false);
                tokio::time::timeout(PROBE_LIMIT, self.probe.measure(&target)).await.unwrap_or(Err(too_late()))
            }
            None => Err(ProbeFailure { kind: ProbeFailureKind::Unreachable, text: "its address is not known".to_owned() }),
        };
        let next_at = self.clock.now() + self.chance.jitter(idle::interval(session.request.idle_threshold), 0.1);
        let result = result.map(|measured| (measured.host_key, measured.activity)).map_err(|failure| (failure.kind, failure.text));
        Input::Measured { attempt, result, next_at }
    }

    /// How the service itself logs in to a session's machine.
    pub(super) fn target(&self, session: &Session, endpoint: &SshEndpoint, provider: &ProviderId, ask_gpu: bool) -> ProbeTarget {
        ProbeTarget {
            endpoint: endpoint.clone(),
            session: session.id,
            known_host_key: session.host_key.clone(),
            ask_gpu,
            allow_private: self.private_addresses.contains(provider),
        }
    }
}

fn too_late() -> ProbeFailure {
    ProbeFailure { kind: ProbeFailureKind::Timeout, text: "the probe took too long".to_owned() }
}

/// Whether the account is out of credit; `None` when it does not tell.
async fn out_of_credit(provider: &dyn Provider) -> Option<bool> {
    let balance = limited(provider.account()).await.ok()?.balance?;
    Some(balance <= Nanos::ZERO)
}

/// What to report of an action whose task broke.
pub(super) fn broken(action: &Action, session: &Session, now: crate::domain::time::Time) -> Vec<Input> {
    let text = "our own task broke".to_owned();
    let call = Look { sent: now, answered: now };
    match action {
        Action::Choose => Vec::new(),
        Action::Launch(attempt) => vec![Input::LaunchUnknown { attempt: *attempt, text, call }],
        Action::AttachKeys(attempt) => vec![Input::KeysAttached { attempt: *attempt, result: Err(text) }],
        Action::Start(attempt) => vec![Input::Started { attempt: *attempt, result: Err(text) }],
        Action::Look(attempt) => vec![Input::LookFailed { attempt: *attempt, text }],
        Action::Probe { attempt, .. } => session
            .endpoint
            .iter()
            .map(|endpoint| Input::ProbeFailed { attempt: *attempt, endpoint: endpoint.clone(), kind: ProbeFailureKind::Broken, text: text.clone() })
            .collect(),
        Action::Measure(attempt) => {
            let next_at = now + idle::interval(session.request.idle_threshold);
            vec![Input::Measured { attempt: *attempt, result: Err((ProbeFailureKind::Broken, text)), next_at }]
        }
        Action::AskCredit(attempt) => vec![Input::CreditTold { attempt: *attempt, out_of_credit: None }],
        Action::Destroy(attempt) => {
            vec![Input::DestroyAnswered { attempt: *attempt, answer: Err(text), call, retry_at: now + Duration::from_secs(5) }]
        }
    }
}

async fn limited<T>(call: impl Future<Output = Result<T, ProviderError>>) -> Result<T, String> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

fn failure_of(error: &ProviderError) -> AttemptFailure {
    match error.kind {
        ErrorKind::NoCapacity | ErrorKind::NotFound => AttemptFailure::OfferGone,
        ErrorKind::RateLimited => AttemptFailure::RateLimited,
        ErrorKind::Auth => AttemptFailure::ProviderAuth,
        ErrorKind::Credit => AttemptFailure::ProviderCredit,
        ErrorKind::Invalid => AttemptFailure::Invalid,
        ErrorKind::Unavailable | ErrorKind::Garbled => AttemptFailure::ProviderUnavailable,
    }
}
