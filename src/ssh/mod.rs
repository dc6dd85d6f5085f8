//! Floor 2: logging in to machines, with thrussh, behind [`SshProbe`].
//!
//! What thrussh does not do is done here: deadlines, names resolved without blocking and every address checked
//! before it is contacted, the host key's verdict, the real reason of a failure, and a socket that is cut whatever
//! becomes of the future that used it (a dropped key exchange would otherwise keep a task and a socket until the
//! peer hangs up). One connection per call; nothing is pooled, cached or retried: when to try again is decided
//! elsewhere, by what the failure is called.

pub mod activity;
pub mod keys;
pub mod nvidia_smi;

mod address;
mod authorized;
mod connection;
mod disk;
mod http_get;

use crate::domain::idle::Activity;
use crate::domain::ids::{SessionId, clip};
use crate::domain::instance::SshEndpoint;
use crate::ports::{ApiTarget, GpuAnswer, Measured, ProbeFailure, ProbeFailureKind, ProbeReport, ProbeTarget, SshProbe};
use async_trait::async_trait;
use connection::Connection;
use keys::{LoginKey, Secret};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;
use tracing::Instrument;

/// The longest text of a failure, characters.
const LONGEST_TEXT: usize = 300;

/// The most addresses of one name that are tried.
const MOST_ADDRESSES: usize = 4;

/// How long each part of a login may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Resolving the name, and connecting to each address.
    pub tcp: Duration,
    /// Key exchange and authentication together.
    pub login: Duration,
    /// A command, from opening its channel to its exit status.
    pub command: Duration,
}

impl Default for Deadlines {
    /// 5 s, 15 s and 60 s: on a loaded machine `nvidia-smi` alone takes up to half a minute without persistence mode.
    fn default() -> Self {
        Self { tcp: Duration::from_secs(5), login: Duration::from_secs(15), command: Duration::from_secs(60) }
    }
}

/// What a command on a machine gave. Each stream is at most 1 MiB; bytes that are no UTF-8 are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecResult {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The exit status; `None` when the connection ended first, a signal ended the command, or it said too much.
    pub exit: Option<u32>,
}

/// The real [`SshProbe`]: logs in with the verifier key of the session. One login to a machine at a time, so that a look at
/// whether anybody uses it never takes another login of ours for somebody's.
#[derive(Clone, Debug)]
pub struct ThrusshProbe {
    secret: Secret,
    deadlines: Deadlines,
    turns: Turns,
}

/// Whose turn it is at each machine.
type Turns = Arc<Mutex<BTreeMap<SessionId, Weak<tokio::sync::Mutex<()>>>>>;

impl ThrusshProbe {
    /// With the usual deadlines.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self::with_deadlines(secret, Deadlines::default())
    }

    /// With deadlines of one's own.
    #[must_use]
    pub fn with_deadlines(secret: Secret, deadlines: Deadlines) -> Self {
        Self { secret, deadlines, turns: Turns::default() }
    }

    /// Waits until no other login of ours is at the session's machine; the turn lasts as long as what this gives.
    async fn turn(&self, session: SessionId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(&session).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let new = Arc::default();
                turns.insert(session, Arc::downgrade(&new));
                new
            })
        };
        turn.lock_owned().await
    }

    /// Logs in with the session's verifier key and runs a command; `ask_gpu` plays no part.
    ///
    /// # Errors
    /// [`ProbeFailure`] when the login does not work or the command gives no end in time.
    pub async fn exec(&self, target: &ProbeTarget, command: &str) -> Result<ExecResult, ProbeFailure> {
        let _turn = self.turn(target.session).await;
        let key = keys::verifier_keypair(&self.secret, target.session);
        let mut connection = self.log_in(target, &key).await?;
        let result = run(&mut connection, command, self.deadlines.command).await;
        connection.end().await;
        result
    }

    async fn log_in(&self, target: &ProbeTarget, key: &LoginKey) -> Result<Connection, ProbeFailure> {
        log_in(&target.endpoint, target.known_host_key.as_deref(), target.allow_private, key, self.deadlines).await
    }
}

#[async_trait]
impl SshProbe for ThrusshProbe {
    fn verifier_key(&self, session: SessionId) -> String {
        keys::verifier_keypair(&self.secret, session).public_line()
    }

    async fn probe(&self, target: &ProbeTarget) -> Result<ProbeReport, ProbeFailure> {
        let _turn = self.turn(target.session).await;
        let key = keys::verifier_keypair(&self.secret, target.session);
        let mut connection = self.log_in(target, &key).await?;
        let host_key = connection.host_key().to_owned();
        let gpu = if target.ask_gpu { Some(ask_gpu(&mut connection, self.deadlines.command).await) } else { None };
        if let Some(answer) = &gpu {
            tracing::debug!("SSH: {}", told(answer));
        }
        let disk_free_gb = match gpu {
            // What hangs is not asked again.
            Some(GpuAnswer::Silent(_)) => None,
            _ => ask_disk(&mut connection, self.deadlines.tcp).await,
        };
        connection.end().await;
        Ok(ProbeReport { host_key, gpu, disk_free_gb })
    }

    async fn api(&self, target: &ApiTarget) -> Result<u16, ProbeFailure> {
        http_get::status(target, self.deadlines.tcp, self.deadlines.login).await
    }

    async fn install_key(&self, target: &ProbeTarget, add: &str, remove: &[String]) -> Result<(), ProbeFailure> {
        let keep = self.verifier_key(target.session);
        let script = authorized::script(add, &keep, remove).map_err(|e| failure(ProbeFailureKind::Broken, &e.to_string()))?;
        let result = self.exec(target, &script).await?;
        match result.exit {
            Some(0) => Ok(()),
            exit => {
                let said = clip(&format!("{}{}", result.stderr, result.stdout), 200);
                let exit = exit.map_or_else(|| "none".to_owned(), |code| code.to_string());
                Err(failure(ProbeFailureKind::CommandFailed, &format!("authorized_keys could not be changed (exit status {exit}): {said}")))
            }
        }
    }

    async fn measure(&self, target: &ProbeTarget) -> Result<Measured, ProbeFailure> {
        let _turn = self.turn(target.session).await;
        let key = keys::verifier_keypair(&self.secret, target.session);
        let mut connection = self.log_in(target, &key).await?;
        let host_key = connection.host_key().to_owned();
        let activity = match timeout(self.deadlines.command, connection.exec(activity::COMMAND)).await {
            // Without an exit status it may have been cut off.
            Ok(Ok(output)) if output.exit.is_some() => activity::parse(&output.stdout),
            Ok(_) | Err(_) => Activity::default(),
        };
        connection.end().await;
        Ok(Measured { host_key, activity })
    }
}

/// Logs in with a private key in OpenSSH's format (Ed25519, unencrypted), runs a command and gives what it said; the
/// host key is taken as it comes. With the usual deadlines; private addresses are refused unless allowed.
///
/// # Errors
/// [`ProbeFailure`] when the key can't be read, the login does not work or the command gives no end in time.
pub async fn login_and_exec(
    endpoint: &SshEndpoint,
    private_key_pem: &SecretString,
    command: &str,
    allow_private: bool,
) -> Result<ExecResult, ProbeFailure> {
    let key = LoginKey::from_private_pem(private_key_pem).map_err(|e| failure(ProbeFailureKind::AuthRejected, &e.to_string()))?;
    let deadlines = Deadlines::default();
    let mut connection = log_in(endpoint, None, allow_private, &key, deadlines).await?;
    let result = run(&mut connection, command, deadlines.command).await;
    connection.end().await;
    result
}

async fn run(connection: &mut Connection, command: &str, deadline: Duration) -> Result<ExecResult, ProbeFailure> {
    match timeout(deadline, connection.exec(command)).await {
        Ok(Ok(output)) => Ok(ExecResult {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            exit: output.exit,
        }),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(failure(ProbeFailureKind::Timeout, &format!("the command did not end within {deadline:?}"))),
    }
}

/// Whatever happens after a login is about the GPU, not about the login.
async fn ask_gpu(connection: &mut Connection, deadline: Duration) -> GpuAnswer {
    match timeout(deadline, connection.exec(nvidia_smi::COMMAND)).await {
        Ok(Ok(output)) => nvidia_smi::parse(&output.stdout, &output.stderr, output.exit),
        Ok(Err(failure)) => GpuAnswer::Silent(failure.text),
        Err(_) => GpuAnswer::Silent(format!("nvidia-smi gave no answer within {deadline:?}")),
    }
}

/// The GPU's answer in a few words, for the log.
fn told(answer: &GpuAnswer) -> String {
    match answer {
        GpuAnswer::Report(report) => {
            let names: Vec<&str> = report.gpus.iter().map(|(name, _)| name.as_str()).collect();
            clip(&format!("nvidia-smi shows {}", names.join(", ")), LONGEST_TEXT)
        }
        GpuAnswer::Broken(text) => clip(&format!("nvidia-smi does not work: {text}"), LONGEST_TEXT),
        GpuAnswer::Silent(text) => clip(&format!("nvidia-smi gave no answer: {text}"), LONGEST_TEXT),
    }
}

/// Whatever happens here is no reason for anything: the space is shown, and nothing is decided by it.
async fn ask_disk(connection: &mut Connection, deadline: Duration) -> Option<u32> {
    let output = timeout(deadline, connection.exec(disk::COMMAND)).await.ok()?.ok()?;
    disk::parse(&output.stdout)
}

async fn log_in(
    endpoint: &SshEndpoint,
    known_host_key: Option<&str>,
    allow_private: bool,
    key: &LoginKey,
    deadlines: Deadlines,
) -> Result<Connection, ProbeFailure> {
    let span = tracing::info_span!(
        "ssh_login",
        otel.name = "ssh login",
        otel.kind = "client",
        otel.status_code = tracing::field::Empty,
        host = %clip(&endpoint.host, 100),
        port = endpoint.port,
        error_type = tracing::field::Empty,
    );
    async {
        let result = async {
            tracing::debug!("SSH: connecting");
            let stream = dial(&endpoint.host, endpoint.port, allow_private, deadlines.tcp).await?;
            tracing::debug!("SSH: connected; exchanging keys and logging in");
            connection::log_in(stream, &endpoint.user, key, known_host_key, deadlines.login).await
        }
        .await;
        match &result {
            Ok(_) => tracing::debug!("SSH: the login works"),
            Err(failure) => {
                let span = tracing::Span::current();
                span.record("error_type", failure.kind.word());
                span.record("otel.status_code", "ERROR");
                tracing::debug!("SSH: no login: {}", failure.text);
            }
        }
        result
    }
    .instrument(span)
    .await
}

/// Resolves a name, leaves out the addresses that may not be contacted, and connects to the first that answers.
async fn dial(host: &str, port: u16, allow_private: bool, deadline: Duration) -> Result<TcpStream, ProbeFailure> {
    let name = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    let shown = clip(name, 100);
    let found: Vec<SocketAddr> = match timeout(deadline, tokio::net::lookup_host((name, port))).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(e)) => return Err(failure(ProbeFailureKind::Unreachable, &format!("{shown} does not resolve: {e}"))),
        Err(_) => return Err(failure(ProbeFailureKind::Timeout, &format!("{shown} did not resolve within {deadline:?}"))),
    };
    if found.is_empty() {
        return Err(failure(ProbeFailureKind::Unreachable, &format!("{shown} has no address")));
    }
    let allowed: Vec<SocketAddr> = found.iter().copied().filter(|at| address::may_contact(at.ip(), allow_private)).collect();
    let mut worst = failure(
        ProbeFailureKind::AddressNotAllowed,
        &format!("{shown} is {}, which is private, reserved or no host's address and is not contacted", found[0].ip()),
    );
    for at in allowed.into_iter().take(MOST_ADDRESSES) {
        let failed = match timeout(deadline, TcpStream::connect(at)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => failure(connect_failure(&e), &format!("{at}: {e}")),
            Err(_) => failure(ProbeFailureKind::Timeout, &format!("{at}: no connection within {deadline:?}")),
        };
        // The most telling reason of all addresses: a refusal shows that the machine is there.
        if worst.kind == ProbeFailureKind::AddressNotAllowed || failed.kind == ProbeFailureKind::Refused {
            worst = failed;
        }
    }
    Err(worst)
}

fn connect_failure(error: &std::io::Error) -> ProbeFailureKind {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => ProbeFailureKind::Refused,
        std::io::ErrorKind::TimedOut => ProbeFailureKind::Timeout,
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::ConnectionAborted => ProbeFailureKind::Broken,
        _ => ProbeFailureKind::Unreachable,
    }
}

fn failure(kind: ProbeFailureKind, text: &str) -> ProbeFailure {
    ProbeFailure { kind, text: clip(text, LONGEST_TEXT) }
}
