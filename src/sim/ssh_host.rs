//! A simulated machine's SSH server: real sockets, real key exchange, real logins; only what commands do is made up.
//!
//! It is built on thrussh's server half with an accept loop of its own, since thrussh's hides the port and lets go of
//! its connections. Every connection and every command is a tracked task: when the host stops or is dropped, nothing
//! of it stays. Whether a key may log in is asked anew at every login, so a key installed or removed meanwhile counts
//! from the next login on.
//!
//! It is not a shell and not hardened for strangers: it is for tests, the demo and simulated markets. It takes
//! Ed25519 keys (RSA with the feature `openssl`, ECDSA never), refuses forwarding and file transfer, and cuts output
//! at 1 MiB.

mod connection;
mod shell;

pub use shell::{FREE_DISK_GB, GpuState, believable_machine, believable_nvidia_smi, machine_at_work};

use crate::domain::ids::clip;
use base64::Engine as _;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thrussh::server::{self, Config};
use thrussh::{MethodSet, Preferred};
use thrussh_keys::key::{KeyPair, ed25519};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The most connections of one listener at a time; further ones are hung up on.
const MOST_CONNECTIONS: usize = 64;

/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(600);

/// How long a failed authentication takes; long enough to be told apart, short enough not to slow OpenSSH's first try.
const REJECTION: Duration = Duration::from_millis(5);

/// How long the accept loop rests when it can't accept, for want of file descriptors say.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Whether a key, in OpenSSH's wire bytes ([`wire_bytes`] of its line), may log in.
pub type Authorized = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// What a command gives.
pub type Exec = Box<dyn Fn(&str) -> ExecReply + Send + Sync>;

/// A machine behind one or more SSH listeners: who may log in, and what commands do. Both are asked every time.
pub struct Machine {
    /// Who may log in, as any user.
    pub authorized: Authorized,
    /// What a command, as sent by the client, gives.
    pub exec: Exec,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Machine")
    }
}

/// What a command gives, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecReply {
    /// Standard output, at most 1 MiB of it.
    pub stdout: String,
    /// Standard error, at most 1 MiB of it.
    pub stderr: String,
    /// The exit status.
    pub exit: u32,
    /// How long it takes.
    pub delay: Duration,
    /// It never ends, whatever else is set; the connection stays.
    pub hang: bool,
}

impl ExecReply {
    /// A command that succeeds at once with an output.
    #[must_use]
    pub fn output(stdout: impl Into<String>) -> Self {
        Self { stdout: stdout.into(), ..Self::default() }
    }

    /// A command that fails at once with words on standard error.
    #[must_use]
    pub fn failure(stderr: impl Into<String>, exit: u32) -> Self {
        Self { stderr: stderr.into(), exit, ..Self::default() }
    }
}

/// A running SSH server. Dropping it stops it; [`SshHost::stop`] also waits until it has stopped.
#[derive(Debug)]
pub struct SshHost {
    addr: SocketAddr,
    host_key: String,
    config: Arc<Config>,
    machine: Arc<Machine>,
    listeners: Mutex<JoinSet<()>>,
    stopping: CancellationToken,
}

impl SshHost {
    /// Listens (port 0: any free port) and serves until it is stopped or dropped. The same seed gives the same host
    /// key.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub async fn start(bind: SocketAddr, host_key_seed: [u8; 32], machine: Arc<Machine>) -> io::Result<Self> {
        let pair = ssh_key::private::Ed25519Keypair::from_seed(&host_key_seed);
        let host_key = ssh_key::PublicKey::from(pair.public).to_openssh().map_err(io::Error::other)?.trim().to_owned();
        let config = Config {
            server_id: "SSH-2.0-simulated_machine".to_owned(),
            methods: MethodSet::PUBLICKEY,
            auth_rejection_time: REJECTION,
            keys: vec![KeyPair::Ed25519(ed25519::SecretKey { key: pair.to_bytes() })],
            preferred: Preferred { mac: &[thrussh::mac::hmac_sha256::NAME], ..Preferred::DEFAULT_SERVER },
            connection_timeout: Some(IDLE),
            ..Config::default()
        };
        let mut host = Self {
            addr: bind,
            host_key,
            config: Arc::new(config),
            machine,
            listeners: Mutex::new(JoinSet::new()),
            stopping: CancellationToken::new(),
        };
        host.addr = host.start_also(bind).await?;
        Ok(host)
    }

    /// One more listener that leads to the same machine: a vendor's proxy. Gives its address.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub async fn start_also(&self, bind: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(bind).await?;
        let addr = listener.local_addr()?;
        let accepting = accept(listener, Arc::clone(&self.config), Arc::clone(&self.machine), self.stopping.clone());
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).spawn(accepting);
        Ok(addr)
    }

    /// Where the first listener listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The host key as an OpenSSH public key line.
    #[must_use]
    pub fn host_key(&self) -> &str {
        &self.host_key
    }

    /// Stops listening, ends all connections and waits until that is done. A second call does nothing.
    pub async fn stop(&self) {
        self.stopping.cancel();
        let listeners = std::mem::take(&mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner));
        listeners.join_all().await;
    }
}

/// The wire bytes of a public key line, by which [`Machine::authorized`] knows it; `None` when it is no such line.
#[must_use]
pub fn wire_bytes(public_key_line: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(public_key_line.split_whitespace().nth(1)?).ok()
}

/// Accepts until told to stop. Its connections are its own: dropping this future ends them too.
async fn accept(listener: TcpListener, config: Arc<Config>, machine: Arc<Machine>, stopping: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < MOST_CONNECTIONS => {
                    connections.spawn(serve(stream, Arc::clone(&config), Arc::clone(&machine)));
                }
                Ok(_) => tracing::debug!("too many connections to a simulated machine"),
                Err(e) => {
                    tracing::debug!("a simulated machine can't accept: {e}");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn serve(stream: TcpStream, config: Arc<Config>, machine: Arc<Machine>) {
    if let Err(e) = stream.set_nodelay(true) {
        tracing::debug!("a simulated machine's connection ended at once: {e}");
        return;
    }
    // Clients that hang up without ceremony end with an error here; that is how most connections end.
    if let Err(e) = server::run_stream(config, stream, connection::Connection::new(machine)).await {
        tracing::debug!("a simulated machine's connection ended: {}", clip(&e.to_string(), 200));
    }
}
