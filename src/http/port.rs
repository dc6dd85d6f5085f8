//! The port: binds it, accepts connections, finds out what they speak (HTTP/1.1 or HTTP/2, by ALPN under TLS, by the
//! first bytes without), serves them within limits, and at the end lets what is open finish for a while.
//!
//! An accept loop of our own, because TLS, gRPC, gRPC-Web and JSON share one port and a drain must have an end.

use super::holder;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::convert::Infallible;
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// Open connections; further ones wait in the kernel's queue.
pub const MAX_CONNECTIONS: usize = 16_384;
/// Silence on an HTTP/2 connection after which it is asked whether it lives.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to answer that.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a new connection may take for TLS and again for its first bytes.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request's header may take to arrive over HTTP/1.1.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// What one connection may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open streams (calls) on one HTTP/2 connection.
    pub streams: u32,
    /// The largest header of a request, bytes; at least 8192.
    pub header_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { streams: 1000, header_bytes: 32 * 1024 }
    }
}

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The wait after a failed accept (no file descriptors left), so that it does not spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);

/// Why the port can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it.
    #[error(
        "address already in use: {} listens on {host}:{port}; choose another port with SERVER_PORT, or see who has it with `lsof -i :{port}`",
        holder.as_deref().unwrap_or("another process")
    )]
    InUse {
        /// The address asked for.
        host: String,
        /// The port asked for.
        port: u16,
        /// The process, where that can be told.
        holder: Option<String>,
    },
    /// It is reserved.
    #[error("permission denied: port {port} is reserved for root; choose one above 1023 with SERVER_PORT")]
    Reserved {
        /// The port asked for.
        port: u16,
    },
    /// Anything else.
    #[error("can't listen on {host}:{port}: {problem}; see SERVER_HOST and SERVER_PORT")]
    Other {
        /// The address asked for.
        host: String,
        /// The port asked for.
        port: u16,
        /// What the system says.
        problem: String,
    },
}

/// Takes the port. `host` is a name or an IP literal without brackets; port 0 is any free one.
///
/// # Errors
/// When it can't be had, with what to do about it.
pub async fn bind(host: &str, port: u16) -> Result<TcpListener, BindError> {
    TcpListener::bind((host, port)).await.map_err(|error| {
        let host = host.to_owned();
        match error.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { host, port, holder: holder::of(port) },
            io::ErrorKind::PermissionDenied => BindError::Reserved { port },
            _ => BindError::Other { host, port, problem: error.to_string() },
        }
    })
}

/// Why TLS can't be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file.
    #[error("the TLS certificate {path} (SERVER_TLS_CERT) can't be used: {problem}")]
    Cert {
        /// Its path.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The key file.
    #[error("the TLS key {path} (SERVER_TLS_KEY) can't be used: {problem}")]
    Key {
        /// Its path.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The file with the authorities of client certificates.
    #[error("the client authorities {path} (SERVER_TLS_CLIENT_CA) can't be used: {problem}")]
    ClientCa {
        /// Its path.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// They don't belong together, or something in them is not supported.
    #[error("the TLS certificate and key (SERVER_TLS_CERT, SERVER_TLS_KEY) can't be used together: {0}")]
    Pair(String),
}

/// Certificate and key, ready to speak TLS 1.2 and 1.3 with ALPN `h2` and `http/1.1`.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl Tls {
    /// Reads a PEM certificate chain and its PEM private key. With `client_ca` (PEM, one or more authorities) only clients
    /// with a certificate of one of these may connect; that says nothing of what they may do.
    ///
    /// # Errors
    /// When a file can't be read or makes no sense, or they don't belong together.
    pub fn load(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Self, TlsError> {
        let cert_error = |problem: String| TlsError::Cert { path: cert.display().to_string(), problem };
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).map_err(|e| cert_error(e.to_string()))?;
        if chain.is_empty() {
            return Err(cert_error("there is no certificate in it; it must be PEM, beginning with -----BEGIN CERTIFICATE-----".to_owned()));
        }
        let private = PrivateKeyDer::from_pem_file(key).map_err(|e| TlsError::Key { path: key.display().to_string(), problem: e.to_string() })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = match client_ca {
            Some(path) => client_verifier(path, &provider)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_client_cert_verifier(clients).with_single_cert(chain, private))
            .map_err(|e| TlsError::Pair(e.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}

/// Believes certificates of these authorities, and no client without one.
fn client_verifier(path: &Path, provider: &Arc<rustls::crypto::CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let wrong = |problem: String| TlsError::ClientCa { path: path.display().to_string(), problem };
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|e| wrong(e.to_string()))?;
    let mut authorities = rustls::RootCertStore::empty();
    for authority in found {
        authorities.add(authority).map_err(|e| wrong(e.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(provider)).build().map_err(|e| wrong(e.to_string()))
}

/// How the end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still open when the time was up, and were cut.
    pub cut: usize,
}

/// Serves connections until `shutdown`; then accepts no more, lets open calls finish for at most `drain`, and cuts the
/// rest. Streams that should end by themselves have to watch for the shutdown, too.
pub async fn serve<S: Serves>(
    listener: TcpListener,
    tls: Option<Tls>,
    limits: Limits,
    faces: S,
    drain: Duration,
    shutdown: CancellationToken,
) -> Drained {
    let builder = builder(limits);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = Connection { builder: builder.clone(), faces: faces.clone(), peer, shutdown: shutdown.clone() };
                connections.spawn(connection.run(stream, tls.clone()));
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, all).await.is_ok() {
        return Drained { cut: 0 };
    }
    let cut = connections.len();
    tracing::warn!(connections = cut, drain_s = drain.as_secs(), "connections were still open at the end of the drain and are cut");
    connections.shutdown().await;
    Drained { cut }
}

fn builder(limits: Limits) -> auto::Builder<TokioExecutor> {
    // The least that hyper takes.
    let buffer = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX).max(8192);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(buffer).keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_header_list_size(limits.header_bytes);
    builder
}

/// What answers the requests: [`Faces`](super::Faces), or a router.
pub trait Serves: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static {}

impl<S: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static> Serves for S {}

struct Connection<S> {
    builder: auto::Builder<TokioExecutor>,
    faces: S,
    peer: SocketAddr,
    shutdown: CancellationToken,
}

impl<S: Serves> Connection<S> {
    async fn run(self, stream: TcpStream, tls: Option<Tls>) {
        // Without it small answers wait for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
        let shutdown = self.shutdown.clone();
        let peer = self.peer;
        let begin = async {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => None,
                begun = tokio::time::timeout(HANDSHAKE_TIMEOUT, begin(stream, tls)) => Some(begun),
            }
        };
        match begin.await {
            None => {}
            Some(Ok(Ok(Some(begun)))) => self.speak(begun).await,
            Some(Ok(Ok(None))) => {}
            Some(Ok(Err(error))) => tracing::debug!(%peer, %error, "a connection failed to begin"),
            Some(Err(_)) => tracing::debug!(%peer, "a connection did not begin in time"),
        }
    }

    async fn speak(self, begun: Begun) {
        let builder = if begun.http2 { self.builder.http2_only() } else { self.builder.http1_only() };
        let mut connection = pin!(builder.serve_connection(TokioIo::new(begun.io), TowerToHyperService::new(self.faces)));
        let served = tokio::select! {
            biased;
            served = connection.as_mut() => served,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(peer = %self.peer, error = %error, "a connection ended early");
        }
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection whose protocol is known.
struct Begun {
    io: Box<dyn Io>,
    http2: bool,
}

/// The TLS handshake, or a look at the first bytes; `None` when the peer left without a word.
async fn begin(stream: TcpStream, tls: Option<Tls>) -> io::Result<Option<Begun>> {
    if let Some(Tls(acceptor)) = tls {
        let stream = acceptor.accept(stream).await?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        return Ok(Some(Begun { io: Box::new(stream), http2 }));
    }
    let (mut reader, writer) = stream.into_split();
    let mut first = Vec::with_capacity(256);
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        if reader.read_buf(&mut first).await? == 0 {
            break;
        }
    }
    if first.is_empty() {
        return Ok(None);
    }
    let http2 = first.starts_with(PREFACE);
    Ok(Some(Begun { io: Box::new(tokio::io::join(Cursor::new(first).chain(reader), writer)), http2 }))
}
