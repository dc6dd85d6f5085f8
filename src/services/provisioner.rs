//! The hands of the lifecycle actor: performs one action at a provider or a machine and returns what came of it.
//!
//! It decides nothing and writes nothing. Every action ends within a deadline of its own; what may have happened is
//! reported as such.

use crate::clock::Clock;
use crate::domain::backoff;
use crate::domain::idle;
use crate::domain::ids::{ProviderId, SessionId};
use crate::domain::instance::{Desired, Instance, InstanceStatus, SshEndpoint};
use crate::domain::lifecycle::{Action, Input, KeyFault, LookBy};
use crate::domain::money::Nanos;
use crate::domain::policy::{PROBE_LIMIT, Policy};
use crate::domain::service;
use crate::domain::session::{AttemptFailure, Session, StartSecrets};
use crate::domain::time::{Look, Time};
use crate::ports::{
    ApiTarget, Certainty, Chance, ErrorKind, LaunchSpec, ProbeFailure, ProbeFailureKind, ProbeTarget, Provider, ProviderError, SshProbe,
};
use crate::services::lifecycle::{Content, Vault};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// No launch is waited for longer than this: its turn in the lane and its own deadline are shorter together.
const LAUNCH_LIMIT: Duration = Duration::from_secs(330);
/// No other call to a provider is waited for longer than this; the adapters' own deadlines are shorter.
const CALL_LIMIT: Duration = Duration::from_secs(150);
/// No destroy is waited for longer than this: many at once stand in a long queue.
const DESTROY_LIMIT: Duration = Duration::from_secs(750);
/// How long a first destroy waits for the look that tells until when its machine surely ran.
const LOOK_BEFORE_DESTROY: Duration = Duration::from_secs(1);

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
    /// Opens what is sealed.
    pub vault: Vault,
}

/// One action with everything it needs, taken out of the session when it was decided.
pub(super) struct Job {
    pub action: Action,
    pub session: Arc<Session>,
    pub instance: Instance,
}

impl Tools {
    /// Which secret the verifier keys come from: a fingerprint of the key for no session at all.
    pub(super) fn secret_id(&self) -> String {
        let key = self.probe.verifier_key(SessionId::new(Time::default(), 0));
        // A comment may follow the key.
        let plain: String = key.split_whitespace().take(2).collect();
        Sha256::digest(plain.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Performs one action. The inputs are what was learnt, in the order it was learnt.
    pub(super) async fn perform(&self, job: Job, policy: &Policy) -> Vec<Input> {
        let Some(provider) = self.providers.get(&job.instance.provider).cloned() else {
            tracing::error!(provider = %job.instance.provider, "a session needs a provider that is not enabled");
            return Vec::new();
        };
        match job.action {
            Action::Choose => Vec::new(),
            // Its session was ended in the very commit that intended it: nobody has asked its provider for anything.
            Action::Launch(attempt) if job.instance.desired == Desired::Gone => {
                let text = "it was given up before its provider was asked".to_owned();
                vec![Input::LaunchRefused { attempt, failure: AttemptFailure::SessionEnded, text }]
            }
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
            Action::RotateKey(attempt) => self.rotate_key(&*provider, &job, attempt).await,
            Action::ProbeApi(attempt) => vec![self.probe_api(&job, attempt).await],
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
        let Some(secrets) = self.secrets(session) else {
            let text = "what the machine was to be started with was sealed with a secret that the server no longer has: create the session anew";
            return Input::LaunchRefused { attempt, failure: AttemptFailure::SecretLost, text: text.to_owned() };
        };
        let template = session.request.template.as_ref();
        let service = service::service(&session.request);
        let spec = LaunchSpec {
            label: job.instance.label,
            offer: Arc::clone(&tried.offer),
            image: service.as_ref().map(|s| s.image.clone()).or_else(|| session.request.image().map(str::to_owned)),
            disk_gb: tried.disk_gb,
            bid: session.request.bid.or(tried.offer.min_bid),
            public_keys: self.keys(session),
            env: template.iter().flat_map(|t| t.env.clone()).chain(secrets.env.clone()).chain(secrets.secret_env.clone()).collect(),
            on_start: secrets.on_start.clone().or(template.and_then(|t| t.on_start.clone())),
            ports: service::ports(&session.request),
            service,
            registry: secrets.registry.clone(),
            template: template.map(|t| t.hash_id.clone()),
        };
        let answer = tokio::time::timeout(LAUNCH_LIMIT, provider.launch(&spec)).await;
        let call = Look { sent, answered: self.clock.answered() };
        match answer {
            Ok(Ok(launched)) => {
                let failed = launched.failed.map(|text| secrets.hide_in(&text));
                Input::Launched { attempt, native_id: launched.native_id, call: launched.call, failed }
            }
            Ok(Err(error)) if error.certainty == Certainty::DidNotHappen => {
                Input::LaunchRefused { attempt, failure: failure_of(&error), text: secrets.hide_in(&error.text) }
            }
            Ok(Err(error)) => Input::LaunchUnknown { attempt, text: secrets.hide_in(&error.text), call },
            Err(_) => Input::LaunchUnknown { attempt, text: "no answer in time".to_owned(), call },
        }
    }

    /// What a session's machines are started with; `None` when it can't be opened any more.
    fn secrets(&self, session: &Session) -> Option<StartSecrets> {
        let Some(sealed) = &session.request.start.sealed else { return Some(StartSecrets::default()) };
        let plain = (self.vault.open)(Content::Start, session.id, &STANDARD.decode(sealed).ok()?)?;
        serde_json::from_str(plain.expose_secret()).ok()
    }

    /// Asks the API where it can be reached from outside.
    async fn probe_api(&self, job: &Job, attempt: u8) -> Input {
        let session = &job.session;
        let Some((host, port)) = service::api_address(session) else {
            return Input::ApiProbed { attempt, result: Err("not_mapped".to_owned()) };
        };
        let path = service::health_path(session.request.workload);
        let target = ApiTarget { host, port, path, allow_private: self.private_addresses.contains(&job.instance.provider) };
        let answer = tokio::time::timeout(PROBE_LIMIT, self.probe.api(&target)).await.unwrap_or_else(|_| Err(too_late()));
        let result = match answer {
            // Whatever answers at a path of which nothing is known shows that the program is up.
            Ok(status) if (200..300).contains(&status) || (path == "/" && status < 500) => Ok(()),
            Ok(status) => Err(format!("http_{status}")),
            Err(failure) => Err(failure.kind.word().to_owned()),
        };
        Input::ApiProbed { attempt, result }
    }

    /// The consumer's key and the session's verifier key.
    fn keys(&self, session: &Session) -> Vec<String> {
        vec![session.request.public_key.clone(), self.probe.verifier_key(session.id)]
    }

    async fn attach(&self, provider: &dyn Provider, job: &Job) -> Result<(), String> {
        let Some(id) = &job.instance.native_id else { return Err("its id is not known".to_owned()) };
        self.attach_all(provider, id, &self.keys(&job.session)).await
    }

    async fn attach_all(&self, provider: &dyn Provider, native_id: &str, keys: &[String]) -> Result<(), String> {
        // A session that was adopted may have none of its consumer's.
        for key in keys.iter().filter(|key| !key.is_empty()) {
            limited(provider.attach_key(native_id, key)).await?;
        }
        Ok(())
    }

    async fn look(&self, provider: &dyn Provider, instance: &Instance, attempt: u8) -> Input {
        let failed = |crowded, text| Input::LookFailed { attempt, crowded, text };
        let Some(id) = &instance.native_id else { return failed(false, "its id is not known".to_owned()) };
        let sent = self.clock.now();
        let answer = within(CALL_LIMIT, provider.instance(id)).await;
        let look = Look { sent, answered: self.clock.answered() };
        match answer {
            // Vendors list what is gone for a while, and say so.
            Ok(Some(sighting)) if sighting.status == InstanceStatus::Gone => Input::Missing { attempt, look, by: LookBy::Id },
            Ok(Some(sighting)) => Input::Seen { attempt, sighting: Box::new(sighting), look },
            Ok(None) => Input::Missing { attempt, look, by: LookBy::Id },
            Err(error) => {
                let crowded = error.as_ref().is_some_and(|error| error.kind == ErrorKind::RateLimited);
                let text = in_words(error);
                tracing::info!(session_id = %instance.label.session, provider = %instance.provider, "a look by id failed: {text}");
                failed(crowded, text)
            }
        }
    }

    /// Looks once before the first order, so that the last known state is as fresh as can be; then orders.
    async fn destroy(&self, provider: &dyn Provider, job: &Job, attempt: u8, policy: &Policy) -> Vec<Input> {
        let instance = &job.instance;
        let Some(id) = &instance.native_id else { return Vec::new() };
        let mut learnt = Vec::new();
        // Looks have a lane of their own with their own queue, and no destroy waits in it.
        let before = tokio::time::timeout(LOOK_BEFORE_DESTROY, self.look(provider, instance, attempt));
        if instance.destroy.tries == 0
            && let Ok(Input::Seen { attempt, sighting, look }) = before.await
        {
            let theirs = instance.denied_by(&sighting);
            learnt.push(Input::Seen { attempt, sighting, look });
            if theirs {
                return learnt;
            }
        }
        let sent = self.clock.now();
        let answer = within(DESTROY_LIMIT, provider.destroy(id)).await;
        let call = Look { sent, answered: self.clock.answered() };
        let backoff = backoff::doubling(policy.destroy_backoff, policy.destroy_backoff_max, instance.destroy.tries.saturating_add(1));
        // Who is told when there is room again need not guess.
        let told = answer.as_ref().err().and_then(|error| error.as_ref()).filter(|error| error.kind == ErrorKind::RateLimited);
        let wait = told.and_then(|error| error.retry_after).map_or(backoff, |room| room.clamp(policy.destroy_backoff, policy.destroy_backoff_max));
        let answer = answer.map_err(in_words);
        let retry_at = call.answered + self.chance.jitter(wait, 0.2);
        learnt.push(Input::DestroyAnswered { attempt, answer, call, retry_at });
        learnt
    }

    /// By the vendor's call where there is one, and in any case on the machine itself: only there the old keys go.
    async fn rotate_key(&self, provider: &dyn Provider, job: &Job, attempt: u8) -> Vec<Input> {
        let session = &job.session;
        let Some(rekey) = &session.rekey else { return Vec::new() };
        let mut learnt = Vec::new();
        let result = match (&session.endpoint, &job.instance.native_id) {
            (Some(endpoint), Some(id)) => {
                if provider.facts().attaches_keys {
                    let result = self.attach_all(provider, id, &[rekey.new.clone(), self.probe.verifier_key(session.id)]).await;
                    learnt.push(Input::KeysAttached { attempt, result });
                }
                let target = self.target(session, endpoint, &job.instance.provider, false);
                let done = tokio::time::timeout(PROBE_LIMIT, self.probe.install_key(&target, &rekey.new, &rekey.old)).await;
                let done = done.unwrap_or_else(|_| Err(too_late()));
                done.map_err(|failure| KeyFault { reason: failure.kind.condition(), text: failure.text })
            }
            _ => Err(KeyFault { reason: "address_unknown", text: "its address is not known".to_owned() }),
        };
        if let Err(fault) = &result {
            tracing::info!(session_id = %session.id, reason = fault.reason, "changing the key failed, it is tried again: {}", fault.text);
        }
        learnt.push(Input::KeyRotated { attempt, key: rekey.new.clone(), result });
        learnt
    }

    async fn probe(&self, job: &Job, attempt: u8, index: usize, ask_gpu: bool) -> Input {
        let session = &job.session;
        let endpoint = session.pace.endpoints.get(index).or(session.endpoint.as_ref()).cloned();
        let Some(endpoint) = endpoint else { return Input::LookFailed { attempt, crowded: false, text: "its address is not known".to_owned() } };
        let target = self.target(session, &endpoint, &job.instance.provider, ask_gpu);
        let answer = tokio::time::timeout(PROBE_LIMIT, self.probe.probe(&target)).await;
        match answer.unwrap_or(Err(too_late())) {
            Ok(report) => Input::Probed { attempt, endpoint, host_key: report.host_key, gpu: report.gpu, disk_free_gb: report.disk_free_gb },
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
pub(super) fn broken(action: &Action, session: &Session, now: Time) -> Vec<Input> {
    let text = "our own task broke".to_owned();
    // When it was sent is not known: at the earliest when the attempt began.
    let sent = session.attempt().map_or(now, |attempt| attempt.started_at);
    let call = Look { sent, answered: now };
    match action {
        Action::Choose => Vec::new(),
        Action::Launch(attempt) => vec![Input::LaunchUnknown { attempt: *attempt, text, call }],
        Action::AttachKeys(attempt) => vec![Input::KeysAttached { attempt: *attempt, result: Err(text) }],
        Action::Start(attempt) => vec![Input::Started { attempt: *attempt, result: Err(text) }],
        Action::Look(attempt) => vec![Input::LookFailed { attempt: *attempt, crowded: false, text }],
        Action::Probe { attempt, .. } => session
            .endpoint
            .iter()
            .map(|endpoint| Input::ProbeFailed { attempt: *attempt, endpoint: endpoint.clone(), kind: ProbeFailureKind::Broken, text: text.clone() })
            .collect(),
        Action::ProbeApi(attempt) => vec![Input::ApiProbed { attempt: *attempt, result: Err("internal".to_owned()) }],
        Action::RotateKey(attempt) => {
            let key = session.rekey.as_ref().map(|r| r.new.clone()).unwrap_or_default();
            vec![Input::KeyRotated { attempt: *attempt, key, result: Err(KeyFault { reason: "internal", text }) }]
        }
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
    within(CALL_LIMIT, call).await.map_err(in_words)
}

/// The answer to a call; the error is `None` when there was none in time.
async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, ProviderError>>) -> Result<T, Option<ProviderError>> {
    tokio::time::timeout(limit, call).await.map_or(Err(None), |answer| answer.map_err(Some))
}

fn in_words(error: Option<ProviderError>) -> String {
    error.map_or_else(|| "no answer in time".to_owned(), |error| error.to_string())
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
