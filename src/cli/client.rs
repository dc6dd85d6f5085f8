//! The way to the server: its address, a connection, and how long an answer may take.

use crate::cli::failure::{Exit, Failure, causes};
use crate::cli::output::Console;
use crate::cli::pinned;
use crate::config;
use crate::domain::backoff::doubling;
use crate::grpc::pb::cost_service_client::CostServiceClient;
use crate::grpc::pb::inventory_service_client::InventoryServiceClient;
use crate::grpc::pb::operator_service_client::OperatorServiceClient;
use crate::grpc::pb::session_service_client::SessionServiceClient;
use crate::http::browser::is_loopback_name;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_client::HealthClient;

const DEFAULT_PORT: u16 = 8080;
/// An answer from memory or disk takes milliseconds; beyond this nobody answers.
const ANSWER: Duration = Duration::from_secs(30);
/// Diagnostics look at the machine itself.
const SLOW_ANSWER: Duration = Duration::from_secs(120);
const CONNECT: Duration = Duration::from_secs(5);
/// A silent connection is asked for a sign of life this often, so that a watch notices a dead server.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Tries of one change while the server is away: it was given a name, so it can't happen twice.
const TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Enough for 1000 offers or sessions with long histories.
const LARGEST_ANSWER: usize = 64 << 20;

/// A server's address: `http://host:port`, `https://host:port`, `host:port` or `host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As it was said; `None` = nothing was said.
    https: Option<bool>,
    authority: String,
    /// It is the server of the settings here, wherever it listens.
    own: bool,
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = "allowed: http://host:port, https://host:port, host:port";
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
            Some((scheme, _)) => return Err(format!("the scheme `{scheme}` is not spoken here; {allowed}")),
            None => (None, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(format!("no user or password belongs into the address; {allowed}"));
        }
        let authority: http::uri::Authority = rest.parse().map_err(|_| format!("that is no address; {allowed}"))?;
        let bare = authority.host();
        if bare.is_empty() || rest.contains(['/', '?', '#']) {
            return Err(format!("that is no address; {allowed}"));
        }
        let port = authority.as_str()[bare.len()..].strip_prefix(':');
        if port.is_some_and(|p| p.parse::<u16>().is_err() || p == "0") {
            return Err(format!("the port is no number from 1 to 65535; {allowed}"));
        }
        let authority = match (port, scheme) {
            (None, None) => format!("{bare}:{DEFAULT_PORT}"),
            _ => authority.to_string(),
        };
        Ok(Self { https: scheme.map(|scheme| scheme == "https"), authority, own: false })
    }
}

impl Server {
    /// The server that these settings make, as it is called on its own machine.
    #[must_use]
    pub fn of(settings: &config::Server) -> Self {
        let host = match settings.host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) if ip.is_unspecified() => "127.0.0.1".to_owned(),
            Ok(IpAddr::V6(ip)) if ip.is_unspecified() => "[::1]".to_owned(),
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            Ok(IpAddr::V4(_)) => settings.host.clone(),
            Err(_) if settings.host.is_empty() => "127.0.0.1".to_owned(),
            Err(_) => settings.host.clone(),
        };
        // Which port a server with any free one has, no setting knows.
        let port = if settings.port == 0 { DEFAULT_PORT } else { settings.port };
        Self { https: Some(settings.tls.is_some()), authority: format!("{host}:{port}"), own: true }
    }
}

impl Server {
    /// Whether it is on this machine, by its address alone.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.authority.parse().is_ok_and(|authority: http::uri::Authority| is_loopback_name(authority.host()))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https == Some(true) { "https" } else { "http" }, self.authority)
    }
}

impl Server {
    /// The same, by TLS when nothing was said and there is something to trust or to show: only TLS has a use for that.
    #[must_use]
    pub fn trusting(self, trust: &Trust) -> Self {
        let tls = trust.ca_cert.is_some() || trust.client.is_some();
        Self { https: self.https.or(tls.then_some(true)), ..self }
    }

    /// Whether it runs on this machine: by the settings here, a loopback address, or one that stands for all of this machine's.
    #[must_use]
    pub fn is_here(&self) -> bool {
        let host = self.authority.parse::<http::uri::Authority>().map(|a| a.host().to_owned()).unwrap_or_default();
        let all = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        self.own || all || is_loopback_name(&host)
    }
}

/// Sends the caller's token along with every call.
#[derive(Clone, Debug, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// Sends this token, or none.
    ///
    /// # Errors
    /// When no header can hold it.
    pub fn new(token: Option<&SecretString>) -> Result<Self, Failure> {
        let Some(token) = token else { return Ok(Self(None)) };
        let header = format!("Bearer {}", token.expose_secret().trim());
        let mut value = MetadataValue::try_from(header)
            .map_err(|_| Failure::usage("the token has characters that no token has: give it as `gpu-shopper token create` wrote it"))?;
        // Kept out of every log.
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A connection that says who calls.
pub type Link = InterceptedService<Channel, Bearer>;

/// The files that make a connection with TLS a trusted one, all PEM. Of `pinned` and `ca_cert` at most one is given.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The only authority to trust; `None` = the system's.
    pub ca_cert: Option<PathBuf>,
    /// The certificate to show, with its key, where the server asks for one.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The only certificate to trust, whatever is in it: the one of our own settings' server.
    pub pinned: Option<PathBuf>,
}

/// One connection, and each service over it.
#[derive(Clone, Debug)]
pub struct Clients {
    /// What can be rented.
    pub inventory: InventoryServiceClient<Link>,
    /// Sessions.
    pub sessions: SessionServiceClient<Link>,
    /// What they cost.
    pub costs: CostServiceClient<Link>,
    /// What an operator looks at.
    pub operator: OperatorServiceClient<Link>,
    /// Whether it is ready.
    pub health: HealthClient<Link>,
}

impl Clients {
    /// Connects, as whoever the bearer is.
    ///
    /// # Errors
    /// [`Exit::Unreachable`] when nobody answers there; [`Exit::Failed`] when the certificate can't be read.
    pub async fn connect(server: &Server, trust: &Trust, bearer: Bearer) -> Result<Self, Failure> {
        let wrong =
            |error: tonic::transport::Error| Failure::new(Exit::Usage, "SERVER", format!("{server} is no address to connect to: {}", causes(&error)));
        let pinned = trust.pinned.as_ref().filter(|_| server.https == Some(true));
        // A way that speaks TLS by itself is a plain one to who takes it.
        let address = if pinned.is_some() { format!("http://{}", server.authority) } else { server.to_string() };
        let mut endpoint = Endpoint::from_shared(address)
            .and_then(|e| e.user_agent(concat!("gpu-shopper-cli/", env!("CARGO_PKG_VERSION"))))
            .map_err(wrong)?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE / 2)
            .keep_alive_while_idle(true);
        let connected = if let Some(cert) = pinned {
            pinned::connect(endpoint, server.authority.clone(), pinned::connector(cert, trust.client.as_ref())?).await
        } else {
            if server.https == Some(true) {
                let mut tls = match &trust.ca_cert {
                    Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
                    None => ClientTlsConfig::new().with_enabled_roots(),
                };
                if let Some((cert, key)) = &trust.client {
                    tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
                }
                endpoint = endpoint.tls_config(tls).map_err(wrong)?;
            }
            endpoint.connect().await
        };
        let channel = connected.map_err(|error| {
            let why = causes(&error);
            let hint = way_out(&why);
            Failure::new(Exit::Unreachable, "SERVER_UNREACHABLE", format!("cannot reach the server at {server}: {why}")).hint(hint)
        })?;
        let channel = InterceptedService::new(channel, bearer);
        Ok(Self {
            health: HealthClient::new(channel.clone()),
            inventory: InventoryServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST_ANSWER),
            sessions: SessionServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST_ANSWER),
            costs: CostServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST_ANSWER),
            operator: OperatorServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER),
        })
    }
}

/// What to do about a server that could not be reached for this reason. Where TLS broke off somebody is there, and starting
/// another server helps nobody; the reasons are told by rustls' words, since they come wrapped beyond recognition.
fn way_out(why: &str) -> &'static str {
    let of = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if of(&["CaUsedAsEndEntity"]) {
        "its certificate is one of an authority (CA:TRUE), which is no server's: give the server one with basicConstraints CA:FALSE \
         (`openssl req -x509 … -addext basicConstraints=critical,CA:FALSE`), or one that the authority has signed"
    } else if of(&["UnknownIssuer", "ApplicationVerificationFailure"]) {
        "name the authority of its certificate with --ca-cert or GPU_SHOPPER_CA_CERT; the certificate of a server of its own will do"
    } else if of(&["NotValidForName", "not valid for name", "certificate not valid for"]) {
        "call it by a name that stands in its certificate, with --server or GPU_SHOPPER_URL"
    } else if of(&["Expired", "certificate expired", "NotValidYet", "certificate not valid yet"]) {
        "its certificate has expired, or is not valid yet: give the server another one, or correct this machine's clock"
    } else if of(&["CertificateRequired", "certificate required"]) {
        "it asks who connects: show a certificate of its authority with --client-cert and --client-key"
    } else if of(&["InvalidContentType", "corrupt message"]) {
        "somebody is there who speaks no TLS: ask with http:// in place of https://"
    } else if of(&["invalid peer certificate", "received fatal alert"]) {
        "somebody is there, and TLS with them broke off: see SERVER_TLS_CERT of the server, and --ca-cert, --client-cert here"
    } else {
        "start one with `gpu-shopper serve`, or name another with --server or GPU_SHOPPER_URL"
    }
}

/// A question that is answered from the server's memory or disk.
#[must_use]
pub fn asking<T>(message: T) -> Request<T> {
    within(message, ANSWER)
}

/// A question for which the server has to look at a machine.
#[must_use]
pub fn asking_slowly<T>(message: T) -> Request<T> {
    within(message, SLOW_ANSWER)
}

/// Asks for a change that carries a request id, again and again while the server is away: it can't happen twice.
///
/// # Errors
/// What the server refuses, or that it stayed away.
pub async fn insist<T, F>(console: &mut Console, request_id: &str, ask: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut tries = 0;
    loop {
        let failure = match ask().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => Failure::from(status),
        };
        tries += 1;
        if !failure.transient || tries >= TRIES {
            let unsure = failure.exit == Exit::Unreachable;
            let hint = format!("it may have happened; asking again with --request-id {request_id} does no harm");
            return Err(if unsure { failure.hint(hint) } else { failure });
        }
        let wait = failure.retry_after.unwrap_or_default().max(doubling(FIRST_WAIT, LONGEST_WAIT, tries)).min(LONGEST_WAIT);
        console.warn(&format!("{}; asking again in {:.1} s", failure.message, wait.as_secs_f64()));
        tokio::time::sleep(wait).await;
    }
}

fn within<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|e| Failure::local("FILE", format!("cannot read {}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, want) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://gpu.example/", "https://gpu.example"),
            ("gpu.example:9000", "http://gpu.example:9000"),
            ("gpu.example", "http://gpu.example:8080"),
            ("[::1]", "http://[::1]:8080"),
            ("[::1]:9", "http://[::1]:9"),
        ] {
            assert_eq!(text.parse::<Server>().map(|s| s.to_string()), Ok(want.to_owned()), "{text}");
        }
        for bad in ["", "ftp://x", "http://", "http://u:secret@x:1", "host:99999", "host:", "http://x/api", "a b"] {
            let error = bad.parse::<Server>().unwrap_err();
            assert!(error.contains("allowed: ") && !error.contains("secret"), "{bad}: {error}");
        }
    }

    #[test]
    fn the_server_of_the_settings_is_called_where_they_say() {
        let settings = |host: &str, port: u16, tls: bool| {
            let files = || config::TlsFiles { cert: "c.pem".into(), key: "k.pem".into(), client_ca: None };
            let tls = tls.then(files);
            config::Server { host: host.to_owned(), port, tls, allowed_hosts: Vec::new(), allowed_origins: Vec::new() }
        };
        for (host, port, tls, want) in [
            ("127.0.0.1", 8080, false, "http://127.0.0.1:8080"),
            ("0.0.0.0", 9090, false, "http://127.0.0.1:9090"),
            ("::", 9090, true, "https://[::1]:9090"),
            ("::1", 1, false, "http://[::1]:1"),
            ("gpu.internal", 443, true, "https://gpu.internal:443"),
            ("10.0.0.7", 0, false, "http://10.0.0.7:8080"),
        ] {
            let server = Server::of(&settings(host, port, tls));
            assert_eq!((server.to_string().as_str(), server.is_here()), (want, true));
        }
    }

    #[test]
    fn a_broken_handshake_is_told_with_its_own_way_out() {
        for (why, hint) in [
            ("invalid peer certificate: CaUsedAsEndEntity", "CA:FALSE"),
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "CA:FALSE"),
            ("invalid peer certificate: UnknownIssuer", "--ca-cert"),
            ("invalid peer certificate: certificate not valid for name \"x\"", "--server"),
            ("received fatal alert: CertificateRequired", "--client-cert"),
            ("received corrupt message of type InvalidContentType", "http://"),
            ("Connection refused (os error 111)", "gpu-shopper serve"),
        ] {
            assert!(way_out(why).contains(hint), "{why}: {}", way_out(why));
        }
    }

    #[test]
    fn who_has_somebody_to_trust_speaks_tls() {
        let trust = Trust { ca_cert: Some(PathBuf::from("ca.pem")), ..Trust::default() };
        let reached = |text: &str, trust: &Trust| text.parse::<Server>().unwrap().trusting(trust).to_string();
        assert_eq!(reached("localhost:9", &trust), "https://localhost:9");
        assert_eq!(reached("localhost:9", &Trust::default()), "http://localhost:9");
        assert_eq!(reached("http://localhost:9", &trust), "http://localhost:9", "what was said is done");
    }

    #[test]
    fn servers_on_this_machine_are_known_and_a_token_is_shown_nowhere() {
        let here = |text: &str| text.parse::<Server>().unwrap().is_here();
        for local in ["http://127.0.0.1:8080", "localhost", "[::1]:9", "0.0.0.0:8080", "http://[::]:80"] {
            assert!(here(local), "{local}");
        }
        for far in ["https://gpu.example", "10.0.0.7:8080", "localhost.evil.example"] {
            assert!(!here(far), "{far}");
        }
        let bearer = Bearer::new(Some(&"gst_canary".into())).unwrap();
        assert!(!format!("{bearer:?}").contains("canary"));
        assert!(Bearer::new(Some(&"two\nlines".into())).is_err());
    }

    #[test]
    fn loopback_is_told_by_the_address() {
        let loopback = |text: &str| text.parse::<Server>().unwrap().is_loopback();
        assert!(["127.0.0.1:8080", "http://[::1]:9", "https://localhost", "127.9.9.9"].into_iter().all(loopback));
        assert!(!["10.0.0.1:8080", "gpu.example", "http://[2001:db8::1]:9", "127.0.0.1.example"].into_iter().any(loopback));
    }

    #[tokio::test]
    async fn nobody_there_is_unreachable_with_a_hint() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = Clients::connect(&free.to_string().parse().unwrap(), &Trust::default(), Bearer::default()).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        let text = failure.text(false);
        assert!(text.contains(&format!("http://{free}")) && text.contains("--server"), "{text}");
    }
}
