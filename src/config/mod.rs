//! Every setting, checked: from [`Sources`] to a [`Config`] that nothing needs to check again.
//!
//! All faults are found before any is reported, nothing binds or opens before a `Config` exists, and a value always
//! knows where it came from. Loading is a function of its arguments, but for the files that `*_FILE` settings name.
//! What a setting means for a decision is not decided here (`domain/policy.rs`).

mod fault;
pub mod settings;
mod sources;

pub use fault::{Fault, Faults};
pub use settings::{Kind, SETTINGS, Setting};
pub use sources::{SettingsFile, Sources};

use crate::domain::access::{LONGEST_TOKEN, SHORTEST_TOKEN};
use crate::domain::policy::Policy;
use crate::domain::sweep::Caps;
use crate::http::browser::is_loopback_name;
use crate::providers;
use crate::services::sweeper::{Strays, SweepPolicy};
use crate::store::Keep;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sources::{Layer, Layered, Origin};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The settings that the demo takes from the environment and the command line; it takes nothing else.
pub const DEMO_KEYS: &[&str] = &["server.host", "server.port", "database.path", "log.level", "log.format"];

/// The settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The port.
    pub server: Server,
    /// Who may call.
    pub auth: Auth,
    /// What one caller and one request may ask for.
    pub limits: Limits,
    /// The database file.
    pub database_path: PathBuf,
    /// The marketplaces that are enabled, by their names in the register.
    pub providers: BTreeMap<&'static str, Provider>,
    /// Logs.
    pub log: Log,
    /// The configured name of the deployment; `None` = the one kept in the database.
    pub deployment_id: Option<String>,
    /// Offers.
    pub inventory: Inventory,
    /// The lifecycle and the sweeps.
    pub lifecycle: Lifecycle,
    /// What may be destroyed without anybody asking.
    pub sweep: SweepPolicy,
    /// When a machine is believed to be gone.
    pub absence: Absence,
    /// When to try elsewhere.
    pub failover: Failover,
    /// How far a machine's real price may lie above its offer's, percent.
    pub price_tolerance_percent: i64,
    /// Silence on a stream after which it gets a bookmark.
    pub watch_bookmark: Duration,
    /// How long open calls may take to end at shutdown.
    pub shutdown_drain: Duration,
    /// How long a shutdown that destroys waits until every machine is proven gone.
    pub shutdown_destroy_timeout: Duration,
    /// Where traces go by OTLP over gRPC.
    pub otlp_endpoint: Option<String>,
    /// How long providers may take to answer.
    pub calls: Calls,
    /// What the database keeps of events and calls.
    pub keep: Keep,
    /// The providers are simulated ones: the database must not be a real server's, nor become one.
    pub simulated: bool,
    /// What looks wrong and yet is no fault; to be logged at start.
    pub warnings: Vec<String>,
    rows: Vec<Row>,
}

/// The port.
#[derive(Clone, Debug)]
pub struct Server {
    /// An address, or a name of one.
    pub host: String,
    /// 0 = any free port.
    pub port: u16,
    /// Present = TLS only.
    pub tls: Option<TlsFiles>,
    /// Names beside loopback ones that browsers may use; lower case.
    pub allowed_hosts: Vec<String>,
    /// Origins whose web pages may call.
    pub allowed_origins: Vec<HeaderValue>,
}

/// What stands for a secret whose file can't be read: good enough to be no second fault.
const UNREADABLE: &str = "unreadable-file-of-a-secret";

/// Who may call.
#[derive(Clone, Debug)]
pub struct Auth {
    /// Whether callers need a token.
    pub required: bool,
    /// An admin's token.
    pub admin_token: Option<SecretString>,
    /// A token that may only look.
    pub read_only_token: Option<SecretString>,
}

/// What one caller and one request may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests per second of one token; 0 = no limit.
    pub requests_per_second: u32,
    /// Open watches and waits of one token; 0 = no limit.
    pub streams_per_caller: u32,
    /// Open calls on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// The largest header.
    pub header_bytes: u32,
    /// The largest body.
    pub body_bytes: u32,
}

/// Certificate and key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities without whose certificate no client may connect.
    pub client_ca: Option<PathBuf>,
}

/// An enabled marketplace's settings.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Credentials and what else its entry in the register names.
    pub values: providers::Settings,
    /// Where its API is, without trailing slash.
    pub base_url: String,
    /// Whether machines at private addresses may be contacted.
    pub allow_private_addresses: bool,
}

/// Logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// How much.
    pub level: Level,
    /// How it looks.
    pub format: LogFormat,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Everything.
    Debug,
    /// Normal operation.
    Info,
    /// Warnings and errors.
    Warn,
    /// Errors.
    Error,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Offers.
#[derive(Clone, Copy, Debug)]
pub struct Inventory {
    /// How often they are fetched; `None` = what suits the provider.
    pub refresh_interval: Option<Duration>,
    /// Older ones are fetched again before one is taken.
    pub max_age: Duration,
    /// Whether what launches taught changes confidences and sets offers aside.
    pub memory_acts: bool,
}

/// The lifecycle and the sweeps.
#[derive(Clone, Copy, Debug)]
pub struct Lifecycle {
    /// No session lives longer.
    pub hard_max: Duration,
    /// How often running machines are looked at, by list.
    pub check_interval: Duration,
    /// How often a machine is looked at while it begins or is searched for.
    pub poll_interval: Duration,
    /// How often an account's whole list is compared with what should be there.
    pub reconciliation_interval: Duration,
    /// The first wait between two destroys of a machine, and the longest.
    pub destroy_backoff: (Duration, Duration),
    /// What becomes of the sessions when the server is told to end.
    pub on_shutdown: OnShutdown,
}

/// What becomes of the sessions when the server is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnShutdown {
    /// They stay as they are, machines and all.
    Keep,
    /// They are ended, and waited for until every machine is proven gone.
    Destroy,
}

/// How long providers may take to answer.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    /// From sending a call to the end of its answer.
    pub deadline: Duration,
    /// The same for creating a machine.
    pub launch_deadline: Duration,
}

/// When a machine is believed to be gone.
#[derive(Clone, Copy, Debug)]
pub struct Absence {
    /// Complete lists without it.
    pub quorum: u8,
    /// The least time between two of them.
    pub spacing: Duration,
}

/// When to try elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Failover {
    /// Attempts in which a machine came to be.
    pub max_attempts: u8,
    /// Offers refused by the provider.
    pub max_refused_offers: u8,
}

/// One effective setting, for `gpu-shopper config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its key.
    pub key: &'static str,
    /// Its environment variable.
    pub env: &'static str,
    /// Its value as given, `***` for a secret; `None` = not set.
    pub value: Option<String>,
    /// Where it came from: `default`, `file gpu-shopper.toml`, `.env LOG_LEVEL`, `environment LOG_LEVEL`, `command line`.
    pub source: String,
}

/// No marketplace is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "at least one provider must be enabled: set {}, in the environment, in .env or in gpu-shopper.toml (each also as <NAME>_FILE); \
     `gpu-shopper demo` needs none",
    ways_to_enable()
)]
pub struct NoProvider;

/// `VASTAI_API_KEY for Vast.ai, or …`.
fn ways_to_enable() -> String {
    let way = |entry: &providers::Entry| {
        let names: Vec<String> = entry.credentials().map(|setting| entry.env(setting.key)).collect();
        format!("{} for {}", names.join(" and "), entry.title)
    };
    providers::REGISTER.iter().map(way).collect::<Vec<_>>().join(", or ")
}

impl Config {
    /// Reads and checks all settings.
    ///
    /// # Errors
    /// Every fault there is.
    pub fn load(sources: &Sources) -> Result<Self, Faults> {
        Reader::new(Layered::new(sources, None)).config()
    }

    /// The demo's settings: those of [`DEMO_KEYS`] from the environment and the command line, the database at
    /// `database` when none is named there, no provider (the demo puts its simulated ones in), otherwise defaults.
    /// Settings files and `.env` are not looked at, so real credentials can't come in.
    ///
    /// # Errors
    /// Every fault in those few.
    pub fn demo(sources: &Sources, database: &Path) -> Result<Self, Faults> {
        let unknown = |faults| Faults { warnings: Vec::new(), ..faults };
        let mut config = Reader::new(Layered::new(sources, Some(DEMO_KEYS))).config().map_err(unknown)?;
        for row in config.rows.iter_mut().filter(|row| row.key == "database.path" && row.source == "default") {
            row.value = Some(database.display().to_string());
            row.source = "demo".to_owned();
            config.database_path = database.to_owned();
        }
        config.warnings.clear();
        config.simulated = true;
        Ok(config)
    }

    /// That there is somebody to rent from; asked by the server, not by the demo.
    ///
    /// # Errors
    /// When there is not, with the settings that would help.
    pub fn require_provider(&self) -> Result<(), NoProvider> {
        if self.providers.is_empty() { Err(NoProvider) } else { Ok(()) }
    }

    /// Whether every enabled provider is on this machine: a simulated one.
    #[must_use]
    pub fn only_loopback_providers(&self) -> bool {
        let host = |p: &Provider| reqwest::Url::parse(&p.base_url).ok().and_then(|url| url.host_str().map(is_loopback_name));
        self.providers.values().all(|p| host(p) == Some(true))
    }

    /// Every setting with its value (secrets masked) and where it came from, in the order of [`SETTINGS`].
    #[must_use]
    pub fn effective(&self) -> &[Row] {
        &self.rows
    }

    /// What of all this the decisions depend on.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let usual = Policy::default();
        Policy {
            hard_max: self.lifecycle.hard_max,
            absence_quorum: self.absence.quorum,
            absence_spacing: self.absence.spacing,
            max_refused_offers: self.failover.max_refused_offers,
            price_tolerance_percent: self.price_tolerance_percent,
            max_offer_age: self.inventory.max_age,
            memory_acts: self.inventory.memory_acts,
            look_interval: self.lifecycle.poll_interval,
            destroy_backoff: self.lifecycle.destroy_backoff.0,
            destroy_backoff_max: self.lifecycle.destroy_backoff.0.max(self.lifecycle.destroy_backoff.1),
            // Looks that come more seldom than usual must not each begin a new segment.
            unseen_after: usual.unseen_after.max(self.lifecycle.check_interval * 3),
            ..usual
        }
    }
}

/// How log lines look, whatever else is wrong with the settings: for what is to be told before they can be read.
#[must_use]
pub fn log_format(sources: &Sources) -> LogFormat {
    Reader::new(Layered::new(sources, None)).log().format
}

/// Where a server of these settings listens, whatever else is wrong with them: for who asks it, and has no part in the rest.
#[must_use]
pub fn server(sources: &Sources) -> Server {
    Reader::new(Layered::new(sources, None)).server()
}

/// Draws typed values from the layers and collects what is wrong with them.
struct Reader {
    layered: Layered,
    values: BTreeMap<&'static str, (String, Origin)>,
}

impl Reader {
    fn new(mut layered: Layered) -> Self {
        let mut values = BTreeMap::new();
        for setting in SETTINGS.iter() {
            if let Some((text, origin)) = layered.text(setting) {
                values.insert(setting.key, (text.trim().to_owned(), origin));
            }
        }
        Self { layered, values }
    }

    fn config(mut self) -> Result<Config, Faults> {
        let server = self.server();
        let providers = providers::REGISTER.iter().filter_map(|entry| Some((entry.name, self.provider(entry)?))).collect();
        let auth = self.auth(&server);
        let config = Config {
            server,
            auth,
            limits: Limits {
                requests_per_second: self.whole("limits.requests_per_second"),
                streams_per_caller: self.whole("limits.streams_per_caller"),
                streams_per_connection: self.whole("limits.streams_per_connection"),
                header_bytes: self.whole("limits.header_bytes"),
                body_bytes: self.whole("limits.body_bytes"),
            },
            database_path: self.text("database.path").map(PathBuf::from).unwrap_or_default(),
            providers,
            log: self.log(),
            deployment_id: self.text("deployment_id"),
            inventory: Inventory {
                refresh_interval: self.given("inventory.refresh_interval").then(|| self.duration("inventory.refresh_interval")),
                max_age: self.duration("inventory.max_age"),
                memory_acts: self.word("inventory.failure_memory").is_none_or(|word| word == "act"),
            },
            lifecycle: Lifecycle {
                hard_max: Duration::from_secs(u64::from(self.whole("lifecycle.hard_max_hours")) * 3600),
                check_interval: self.duration("lifecycle.check_interval"),
                poll_interval: self.duration("lifecycle.poll_interval"),
                reconciliation_interval: self.duration("lifecycle.reconciliation_interval"),
                destroy_backoff: (self.duration("lifecycle.destroy_backoff"), self.duration("lifecycle.destroy_backoff_max")),
                on_shutdown: if self.word("lifecycle.on_shutdown").as_deref() == Some("destroy") { OnShutdown::Destroy } else { OnShutdown::Keep },
            },
            sweep: self.sweep(),
            absence: Absence { quorum: self.small("absence.quorum"), spacing: self.duration("absence.spacing") },
            failover: Failover { max_attempts: self.small("failover.max_attempts"), max_refused_offers: self.small("failover.max_refused_offers") },
            price_tolerance_percent: i64::from(self.whole("price_tolerance")),
            watch_bookmark: self.duration("watch.bookmark"),
            shutdown_drain: self.duration("shutdown.drain"),
            shutdown_destroy_timeout: self.duration("shutdown.destroy_timeout"),
            otlp_endpoint: self.http_url("otel.exporter_otlp_endpoint"),
            calls: Calls { deadline: self.duration("calls.deadline"), launch_deadline: self.duration("calls.launch_deadline") },
            keep: Keep {
                events: self.whole("events.keep_count"),
                event_age: self.duration("events.keep_for"),
                request_age: self.duration("requests.keep_for"),
                ..Keep::default()
            },
            simulated: false,
            warnings: std::mem::take(&mut self.layered.warnings),
            rows: self.rows(),
        };
        if self.layered.faults.is_empty() {
            return Ok(config);
        }
        // One whose own settings are wrong is meant to be enabled.
        let meant = |fault: &Fault| providers::REGISTER.iter().any(|entry| fault.key.starts_with(&format!("{}.", entry.name)));
        let no_provider = config.providers.is_empty() && !self.layered.faults.iter().any(meant);
        Err(Faults { faults: self.layered.faults, warnings: config.warnings, no_provider })
    }

    fn server(&mut self) -> Server {
        let host = self.text("server.host").unwrap_or_default();
        let bare = host.trim_matches(['[', ']']);
        let numbers = bare.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let named = bare.len() <= 253 && !numbers && bare.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if !bare.is_empty() && !named && bare.parse::<std::net::IpAddr>().is_err() {
            self.refuse("server.host");
        }
        let port = self.raw("server.port").and_then(|text| text.parse::<u16>().ok());
        if port.is_none() && self.raw("server.port").is_some() {
            self.refuse("server.port");
        }
        let (cert, key) = (self.text("server.tls_cert"), self.text("server.tls_key"));
        let client_ca = self.text("server.tls_client_ca").map(PathBuf::from);
        let tls = match (cert, key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert: cert.into(), key: key.into(), client_ca }),
            (None, None) if client_ca.is_some() => self.missing("server.tls_cert", "server.tls_client_ca", "a check of client certificates"),
            (None, None) => None,
            (Some(_), None) => self.missing("server.tls_key", "server.tls_cert", "TLS"),
            (None, Some(_)) => self.missing("server.tls_cert", "server.tls_key", "TLS"),
        };
        Server {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.unwrap_or_default(),
            tls,
            allowed_hosts: self.names("server.allowed_hosts"),
            allowed_origins: self.origins("server.allowed_origins"),
        }
    }

    /// Whether callers need a token: by the setting, else by how far the server can be reached.
    fn auth(&mut self, server: &Server) -> Auth {
        self.take_secret_file("auth.admin_token", "auth.admin_token_file");
        self.take_secret_file("auth.read_only_token", "auth.read_only_token_file");
        let (admin_token, read_only_token) = (self.token("auth.admin_token"), self.token("auth.read_only_token"));
        let same = |a: &SecretString, b: &SecretString| a.expose_secret() == b.expose_secret() && a.expose_secret() != UNREADABLE;
        if admin_token.as_ref().zip(read_only_token.as_ref()).is_some_and(|(admin, other)| same(admin, other)) {
            self.fault("auth.read_only_token", "must not be the same as auth.admin_token".to_owned());
        }
        let loopback = is_loopback_name(&server.host);
        let mode = if self.given("auth.mode") { self.word("auth.mode") } else { None };
        let required = mode.map_or(!loopback, |mode| mode == "token");
        // Of what is wrong no more is said than that.
        let told = |fault: &Fault| ["auth.mode", "server.host", "server.tls_cert", "server.tls_key"].contains(&fault.key.as_str());
        let sure = !self.layered.faults.iter().any(told);
        if sure && !required && !loopback {
            self.layered.warnings.push(format!(
                "NO AUTHENTICATION on {}: whoever reaches this port rents machines on your account and ends them. Take AUTH_MODE=none out, or bind to 127.0.0.1",
                server.host
            ));
        }
        if sure && required && !loopback && server.tls.is_none() {
            self.layered.warnings.push(format!(
                "tokens and private keys travel in clear on {}: set SERVER_TLS_CERT and SERVER_TLS_KEY, or put something that speaks TLS before it",
                server.host
            ));
        }
        Auth { required, admin_token, read_only_token }
    }

    fn token(&mut self, key: &'static str) -> Option<SecretString> {
        let text = self.raw(key).filter(|text| !text.is_empty())?.to_owned();
        if !(SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
            self.refuse(key);
        }
        Some(text.into())
    }

    fn log(&mut self) -> Log {
        let level = match self.word("log.level").as_deref() {
            Some("debug") => Level::Debug,
            Some("warn") => Level::Warn,
            Some("error") => Level::Error,
            _ => Level::Info,
        };
        let format = if self.word("log.format").as_deref() == Some("text") { LogFormat::Text } else { LogFormat::Json };
        Log { level, format }
    }

    fn sweep(&mut self) -> SweepPolicy {
        let usual = SweepPolicy::default();
        SweepPolicy {
            strays: if self.word("sweep.strays").as_deref() == Some("destroy") { Strays::Destroy } else { Strays::Report },
            grace: self.duration("lifecycle.orphan_grace_period"),
            caps: Caps { per_minute: self.whole("sweep.max_destroys_per_minute"), share_percent: self.whole("sweep.max_share"), ..usual.caps },
            ..usual
        }
    }

    /// A provider's settings; `None` when it is not enabled, or not wholly.
    fn provider(&mut self, entry: &providers::Entry) -> Option<Provider> {
        let of = |key: &str| settings::key_of(entry.name, key);
        for own in entry.credentials() {
            self.take_secret_file(of(own.key), of(&format!("{}_file", own.key)));
        }
        let (base_url, allow_private_addresses) = self.place(of("base_url"), of("allow_private_addresses"));
        let mut values = providers::Settings::new().with("base_url", &base_url);
        for own in entry.settings {
            if let Some(text) = self.text(of(own.key)) {
                values.set(own.key, &text);
            }
        }
        let beside = entry.credentials().find(|own| values.has(own.key))?;
        let missing = entry.missing(&values);
        for key in &missing {
            self.missing::<()>(of(key), of(beside.key), entry.title);
        }
        if entry.credentials().all(|own| self.raw(of(own.key)) != Some(UNREADABLE)) {
            self.layered.warnings.extend((entry.warn)(&values));
        }
        missing.is_empty().then_some(Provider { values, base_url, allow_private_addresses })
    }

    /// Puts the content of a `*_FILE` setting in the place of the secret, unless the secret comes from a higher layer.
    fn take_secret_file(&mut self, key: &'static str, file_key: &'static str) {
        let Some((path, file_origin)) = self.values.get(file_key).cloned().filter(|(path, _)| !path.is_empty()) else { return };
        if let Some((_, origin)) = self.values.get(key) {
            if origin.layer > file_origin.layer {
                return;
            }
            if origin.layer == file_origin.layer {
                let problem = format!("{} is set as well ({}): set one of the two", name_of(key), origin.text);
                self.fault(file_key, problem);
                return;
            }
        }
        match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => self.fault(file_key, "the file is empty".to_owned()),
            Ok(text) => {
                let origin = Origin { layer: file_origin.layer, text: format!("file {path}, named by {}", file_origin.text) };
                self.values.insert(key, (text.trim().to_owned(), origin));
            }
            Err(error) => {
                // One fault is enough: the secret is not missing but unreadable.
                self.fault(file_key, format!("the file can't be read: {error}"));
                self.values.insert(key, (UNREADABLE.to_owned(), file_origin));
            }
        }
    }

    fn place(&mut self, url_key: &'static str, private_key: &'static str) -> (String, bool) {
        let private = match self.word(private_key).as_deref() {
            Some("true") => true,
            Some("false") | None => false,
            Some(_) => {
                self.refuse(private_key);
                false
            }
        };
        let Some(text) = self.text(url_key) else { return (String::new(), private) };
        let url = reqwest::Url::parse(&text).ok().filter(|url| url.host_str().is_some_and(|h| !h.is_empty()));
        let loopback = url.as_ref().and_then(reqwest::Url::host_str).is_some_and(is_loopback_name);
        let good = url.as_ref().is_some_and(|url| {
            let secure = url.scheme() == "https" || (url.scheme() == "http" && (loopback || private));
            secure && url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none()
        });
        if !good {
            self.refuse(url_key);
        }
        if loopback && !private {
            // What acts is what is shown.
            let origin = Origin { layer: Layer::Default, text: format!("implied by the loopback address in {}", name_of(url_key)) };
            self.values.insert(private_key, ("true".to_owned(), origin));
        }
        (text.trim_end_matches('/').to_owned(), private || loopback)
    }

    fn http_url(&mut self, key: &'static str) -> Option<String> {
        let text = self.text(key)?;
        let url = reqwest::Url::parse(&text).ok();
        if url.is_none_or(|url| url.scheme() != "http" || url.host_str().is_none_or(str::is_empty) || url.password().is_some()) {
            self.refuse(key);
        }
        Some(text)
    }

    fn origins(&mut self, key: &'static str) -> Vec<HeaderValue> {
        let text = self.text(key).unwrap_or_default();
        // As browsers write them: lower case, no path, no default port.
        let origin = |text: &str| {
            let url = reqwest::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
            let bare =
                url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
            HeaderValue::from_str(&url.origin().ascii_serialization()).ok().filter(|_| bare)
        };
        let all: Vec<Option<HeaderValue>> = text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(origin).collect();
        if all.iter().any(Option::is_none) {
            self.refuse(key);
        }
        all.into_iter().flatten().collect()
    }

    fn names(&mut self, key: &'static str) -> Vec<String> {
        let names: Vec<String> = self.text(key).unwrap_or_default().split(',').map(|n| n.trim().to_lowercase()).filter(|n| !n.is_empty()).collect();
        let good = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_');
        if !names.iter().all(good) {
            self.refuse(key);
        }
        names
    }

    // === one value ===

    fn raw(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|(text, _)| text.as_str())
    }

    fn given(&self, key: &str) -> bool {
        self.raw(key).is_some_and(|text| !text.is_empty())
    }

    /// A text within its kind's length; empty = not set, which is a fault where there is a default to fall back from.
    fn text(&mut self, key: &'static str) -> Option<String> {
        let text = self.raw(key)?.to_owned();
        let setting = settings::by_key(key)?;
        let limit = if let Kind::Text(max) = setting.kind { max } else { 4096 };
        if text.is_empty() && setting.default.is_none() {
            return None;
        }
        if text.is_empty() || text.chars().count() > limit || text.chars().any(char::is_control) {
            self.refuse(key);
        }
        Some(text)
    }

    fn word(&mut self, key: &'static str) -> Option<String> {
        let text = self.raw(key)?.to_lowercase();
        if let Some(Setting { kind: Kind::Word(words), .. }) = settings::by_key(key)
            && !words.contains(&text.as_str())
        {
            self.refuse(key);
        }
        Some(text)
    }

    fn whole(&mut self, key: &'static str) -> u32 {
        let Some(text) = self.raw(key) else { return 0 };
        let (number, min, max) = match settings::by_key(key).map(|s| s.kind) {
            Some(Kind::Percent(min, max)) => (text.trim_end_matches('%').trim_end(), min, max),
            Some(Kind::Whole(min, max)) => (text, min, max),
            _ => (text, 0, u32::MAX),
        };
        match number.parse::<u32>().ok().filter(|n| (min..=max).contains(n)) {
            Some(number) => number,
            None => {
                self.refuse(key);
                0
            }
        }
    }

    /// A whole number that its limits keep below 256.
    fn small(&mut self, key: &'static str) -> u8 {
        u8::try_from(self.whole(key)).unwrap_or(u8::MAX)
    }

    fn duration(&mut self, key: &'static str) -> Duration {
        let Some(text) = self.raw(key) else { return Duration::ZERO };
        let Some(Kind::Duration(min, max)) = settings::by_key(key).map(|s| s.kind) else { return Duration::ZERO };
        match settings::parse_duration(text).filter(|d| (min..=max).contains(&d.as_secs())) {
            Some(duration) => duration,
            None => {
                self.refuse(key);
                Duration::ZERO
            }
        }
    }

    // === what is wrong ===

    fn refuse(&mut self, key: &str) {
        let allowed = settings::by_key(key).map_or_else(String::new, |s| s.kind.allowed());
        self.fault(key, format!("must be {allowed}"));
    }

    fn fault(&mut self, key: &str, problem: String) {
        let (text, origin) = self.values.get(key).map_or(("", ""), |(text, origin)| (text.as_str(), origin.text.as_str()));
        let value = (!text.is_empty()).then(|| shown(key, text));
        self.layered.faults.push(Fault { key: key.to_owned(), value, origin: origin.to_owned(), problem });
    }

    fn missing<T>(&mut self, key: &str, beside: &str, what: &str) -> Option<T> {
        let origin = self.values.get(beside).map_or("", |(_, origin)| origin.text.as_str());
        let problem = format!("{} is missing: {} is set ({origin}), and {what} needs both", name_of(key), name_of(beside));
        self.layered.faults.push(Fault { key: key.to_owned(), value: None, origin: "not set".to_owned(), problem });
        None
    }

    fn rows(&self) -> Vec<Row> {
        SETTINGS
            .iter()
            .map(|s| match self.values.get(s.key).filter(|(text, _)| !text.is_empty()) {
                Some((text, origin)) => Row { key: s.key, env: s.env, value: Some(shown(s.key, text)), source: origin.text.clone() },
                None => Row { key: s.key, env: s.env, value: None, source: "not set".to_owned() },
            })
            .collect()
    }
}

fn name_of(key: &str) -> &str {
    settings::by_key(key).map_or(key, |s| s.env)
}

/// A value as it may be shown: masked when it is a secret or an address with a password, and not endless.
fn shown(key: &str, text: &str) -> String {
    let url = matches!(settings::by_key(key).map(|s| s.kind), Some(Kind::BaseUrl | Kind::HttpUrl));
    if settings::by_key(key).is_none_or(|s| s.secret) || (url && text.contains(['@', '?'])) {
        return "***".to_owned();
    }
    text.chars().take(200).collect()
}
