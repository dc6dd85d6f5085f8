//! One SSH connection: from a TCP stream to a login, and from a login to a command's output.
//!
//! thrussh answers most failures with the same "send error"; the real reason is what its connection task ended with.
//! That task is asked once, after the fact. The socket is kept twice, and the second handle cuts it when the
//! connection is dropped, at whatever point.

use super::failure;
use super::keys::{self, LoginKey};
use crate::ports::{ProbeFailure, ProbeFailureKind};
use ssh_key::PublicKey;
use std::net::Shutdown;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use thrussh::client::{self, Handle};
use thrussh::{ChannelMsg, Disconnect, Preferred};
use thrussh_keys::PublicKeyBase64 as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The most that is read of each of a command's streams, bytes.
const MOST_OUTPUT: usize = 1024 * 1024;

/// How long the connection's task may take to say why it ended. It has ended, or ends at once, when there is a reason.
const REASON: Duration = Duration::from_millis(300);

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_millis(250);

/// What we speak. Unlike thrussh's defaults: a MAC always (the default list ends in `none`), and no
/// compression (a peer could send a bomb).
static CONFIG: LazyLock<Arc<client::Config>> = LazyLock::new(|| {
    Arc::new(client::Config {
        client_id: "SSH-2.0-gpu_shopper".to_owned(),
        preferred: Preferred { mac: &[thrussh::mac::hmac_sha256::NAME], compression: &["none"], ..Preferred::DEFAULT_CLIENT },
        ..client::Config::default()
    })
});

/// Cuts the connection when dropped, so that no peer can keep our socket and task.
struct Cut(std::net::TcpStream);

impl Drop for Cut {
    fn drop(&mut self) {
        // It fails only when the peer was faster.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// What the handler saw of the host key, left for the caller: the handler itself disappears inside thrussh.
#[derive(Default)]
struct Seen {
    key: Option<Vec<u8>>,
    refused: bool,
}

struct Handler {
    pinned: Option<Vec<u8>>,
    seen: Arc<Mutex<Seen>>,
}

impl client::Handler for Handler {
    type Error = thrussh::Error;

    async fn check_server_key(self, key: &thrussh_keys::key::PublicKey) -> Result<(Self, bool), Self::Error> {
        let bytes = key.public_key_bytes();
        let good = self.pinned.as_ref().is_none_or(|pinned| *pinned == bytes);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.key = Some(bytes);
            seen.refused |= !good;
        }
        Ok((self, good))
    }
}

/// A login that worked. Dropping it cuts the connection.
pub(super) struct Connection {
    // Fields are dropped in this order: the handle first, then the socket is cut.
    handle: Handle<Handler>,
    host_key: String,
    _cut: Cut,
}

/// A command's output.
pub(super) struct Output {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) exit: Option<u32>,
}

/// Exchanges keys and logs in, all within `deadline`.
pub(super) async fn log_in(
    stream: TcpStream,
    user: &str,
    key: &LoginKey,
    known_host_key: Option<&str>,
    deadline: Duration,
) -> Result<Connection, ProbeFailure> {
    let pinned = match known_host_key {
        None => None,
        Some(line) => match keys::parse_public_key(line).ok().and_then(|key| wire_bytes(&key.line)) {
            Some(bytes) => Some(bytes),
            None => return Err(failure(ProbeFailureKind::HostKeyChanged, "the host key recorded for this machine can't be read")),
        },
    };
    let (stream, cut) = split(stream).map_err(|e| failure(ProbeFailureKind::Broken, &format!("the connection broke: {e}")))?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let handler = Handler { pinned, seen: Arc::clone(&seen) };
    match timeout(deadline, exchange_and_authenticate(stream, user, key, handler)).await {
        Ok(Ok(handle)) => {
            let host_key = seen.lock().unwrap_or_else(PoisonError::into_inner).key.take().unwrap_or_default();
            let host_key = PublicKey::from_bytes(&host_key)
                .and_then(|key| key.to_openssh())
                .map_err(|e| failure(ProbeFailureKind::Broken, &format!("the host key can't be read: {e}")))?;
            Ok(Connection { handle, host_key: host_key.trim().to_owned(), _cut: cut })
        }
        Ok(Err(failed)) => {
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match &seen.key {
                Some(shown) if seen.refused => Err(changed_host_key(shown)),
                _ => Err(failed),
            }
        }
        Err(_) => Err(failure(ProbeFailureKind::Timeout, &format!("connected, but no login within {deadline:?}"))),
    }
}

/// The stream for thrussh and a second handle on its socket.
fn split(stream: TcpStream) -> std::io::Result<(TcpStream, Cut)> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let cut = Cut(stream.try_clone()?);
    Ok((TcpStream::from_std(stream)?, cut))
}

async fn exchange_and_authenticate(stream: TcpStream, user: &str, key: &LoginKey, handler: Handler) -> Result<Handle<Handler>, ProbeFailure> {
    let mut handle = client::connect_stream(Arc::clone(&CONFIG), stream, handler).await.map_err(|e| ended(&e))?;
    let answer = handle.authenticate_publickey(user, Arc::new(key.for_client())).await;
    if let Ok(true) = answer {
        return Ok(handle);
    }
    // `false` and "send error" both come for several reasons; the task knows which, unless the connection lives on.
    match (timeout(REASON, &mut handle).await, answer) {
        (Ok(Err(thrussh::Error::NoAuthMethod)), _) | (Err(_), Ok(_)) => {
            Err(failure(ProbeFailureKind::AuthRejected, "the server accepts none of our keys for this user"))
        }
        (Ok(Err(e)), _) | (Err(_), Err(e)) => Err(ended(&e)),
        (Ok(Ok(())), _) => Err(failure(ProbeFailureKind::Broken, "the server ended the connection during the login")),
    }
}

/// What the end of a connection before a login means.
fn ended(error: &thrussh::Error) -> ProbeFailure {
    use thrussh::Error as E;
    match error {
        E::NoCommonKexAlgo => failure(ProbeFailureKind::AlgorithmMismatch, "no key exchange algorithm in common with the server"),
        E::NoCommonKeyAlgo => failure(ProbeFailureKind::AlgorithmMismatch, "no host key type in common with the server (we take ssh-ed25519)"),
        E::NoCommonCipher => failure(ProbeFailureKind::AlgorithmMismatch, "no cipher in common with the server"),
        E::NoCommonMac => failure(ProbeFailureKind::AlgorithmMismatch, "no MAC in common with the server"),
        E::NoCommonCompression => failure(ProbeFailureKind::AlgorithmMismatch, "no compression in common with the server"),
        E::NoAuthMethod => failure(ProbeFailureKind::AuthRejected, "the server accepts none of our keys for this user"),
        E::UnknownKey => failure(ProbeFailureKind::HostKeyChanged, "the machine shows another host key than before"),
        E::WrongServerSig => failure(ProbeFailureKind::Broken, "the server does not hold the host key that it shows"),
        E::Disconnect | E::HUP | E::SendError => failure(ProbeFailureKind::Broken, "the server hung up, or it is no SSH server"),
        E::IO(e) => failure(ProbeFailureKind::Broken, &format!("the connection broke off: {e}")),
        E::Join(_) => failure(ProbeFailureKind::Broken, "the server sent something that can't be read"),
        other => failure(ProbeFailureKind::Broken, &format!("what answers does not speak SSH as it should: {other}")),
    }
}

fn changed_host_key(shown: &[u8]) -> ProbeFailure {
    let shown = PublicKey::from_bytes(shown).map_or_else(|_| "unreadable".to_owned(), |key| key.fingerprint(ssh_key::HashAlg::Sha256).to_string());
    failure(ProbeFailureKind::HostKeyChanged, &format!("the machine shows another host key than before: {shown}"))
}

fn wire_bytes(line: &str) -> Option<Vec<u8>> {
    PublicKey::from_openssh(line).ok()?.to_bytes().ok()
}

impl Connection {
    /// The host key as an OpenSSH public key line without comment.
    pub(super) fn host_key(&self) -> &str {
        &self.host_key
    }

    /// Runs a command and waits for its end. Has no deadline of its own.
    pub(super) async fn exec(&mut self, command: &str) -> Result<Output, ProbeFailure> {
        let broke = |e: thrussh::Error| failure(ProbeFailureKind::Broken, &format!("no command could be run: {e}"));
        let mut channel = self.handle.channel_open_session().await.map_err(broke)?;
        channel.exec(true, command).await.map_err(broke)?;
        let mut output = Output { stdout: Vec::new(), stderr: Vec::new(), exit: None };
        while let Some(message) = channel.wait().await {
            let (stream, data) = match message {
                ChannelMsg::Data { data } => (&mut output.stdout, data),
                ChannelMsg::ExtendedData { data, ext: 1 } => (&mut output.stderr, data),
                ChannelMsg::ExitStatus { exit_status } => {
                    output.exit = Some(exit_status);
                    continue;
                }
                _ => continue,
            };
            let room = MOST_OUTPUT - stream.len();
            stream.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                return Ok(Output { exit: None, ..output });
            }
        }
        Ok(output)
    }

    /// Says goodbye and waits, briefly, until nothing of the connection is left.
    pub(super) async fn end(mut self) {
        let goodbye = async {
            if self.handle.disconnect(Disconnect::ByApplication, "", "").await.is_ok() {
                // How it ended does not matter any more.
                let _ = (&mut self.handle).await;
            }
        };
        if timeout(GOODBYE, goodbye).await.is_err() {
            tracing::debug!("an SSH server did not take our goodbye");
        }
    }
}
