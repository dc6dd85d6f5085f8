//! Every setting once: its key, its environment variable, its default, what it may be, and the sentence that the
//! README's table and `gpu-shopper config` show.
//!
//! One rule names the variables: the key in upper case with `_` for `.`, without a leading `PROVIDERS_`. A test
//! holds the table to it. This file knows texts and limits, not where values come from (`sources.rs`) nor what they
//! mean together (`mod.rs`).

use crate::domain::access::{LONGEST_TOKEN, SHORTEST_TOKEN};
use crate::providers::{Entry, REGISTER, Role};
use std::sync::LazyLock;
use std::time::Duration;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its dotted key, as in a settings file: `server.port`.
    pub key: &'static str,
    /// Its environment variable: `SERVER_PORT`.
    pub env: &'static str,
    /// The default as one would write it; `None` = not set.
    pub default: Option<&'static str>,
    /// What it may be.
    pub kind: Kind,
    /// Whether its value is never shown.
    pub secret: bool,
    /// What it does, in one sentence.
    pub doc: &'static str,
}

/// What a setting may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An address to listen on.
    Host,
    /// A TCP port; 0 = any free one.
    Port,
    /// The path of a file.
    Path,
    /// Free text without control characters, at most this many characters.
    Text(usize),
    /// A token: visible ASCII characters.
    Token,
    /// An `https://` address; `http://` only for loopback and explicitly private places.
    BaseUrl,
    /// An `http://` address.
    HttpUrl,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number in these limits.
    Whole(u32, u32),
    /// A percentage in these limits, with or without `%`.
    Percent(u32, u32),
    /// `true` or `false`.
    Flag,
    /// A duration in these limits, in seconds.
    Duration(u64, u64),
    /// Host names, separated by commas.
    Names,
    /// Origins of web pages, separated by commas.
    Origins,
}

impl Kind {
    /// What is allowed, to end a sentence that begins with "must be".
    #[must_use]
    pub fn allowed(self) -> String {
        match self {
            Self::Host => "an address of this machine: 127.0.0.1, ::1, localhost, 0.0.0.0 (all), or a name of it".to_owned(),
            Self::Port => "a port from 1 to 65535, or 0 for any free one".to_owned(),
            Self::Path => "the path of a file".to_owned(),
            Self::Token => format!("{SHORTEST_TOKEN} to {LONGEST_TOKEN} visible ASCII characters, such as `openssl rand -hex 32` prints"),
            Self::Text(max) => format!("1 to {max} characters without control characters"),
            Self::BaseUrl => {
                "an https:// address without user, query or fragment (http:// only with a loopback host or allow_private_addresses)".to_owned()
            }
            Self::HttpUrl => "an http:// address such as http://localhost:4317".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Whole(min, max) => format!("a whole number from {min} to {max}"),
            Self::Percent(min, max) => format!("a whole percentage from {min} to {max}"),
            Self::Flag => "true or false".to_owned(),
            Self::Duration(min, max) => {
                format!("a duration from {} to {} (30s, 5m, 1h30m, or a number of seconds)", duration_text(min), duration_text(max))
            }
            Self::Origins => "origins separated by commas, such as https://app.example or http://localhost:3000, without a path".to_owned(),
            Self::Names => "host names separated by commas, without scheme or port".to_owned(),
        }
    }
}

const fn plain(key: &'static str, env: &'static str, default: &'static str, kind: Kind, doc: &'static str) -> Setting {
    Setting { key, env, default: Some(default), kind, secret: false, doc }
}

const fn unset(key: &'static str, env: &'static str, kind: Kind, doc: &'static str) -> Setting {
    Setting { key, env, default: None, kind, secret: false, doc }
}

const HOUR: u64 = 3600;

/// Every setting there is, in the order of the README's table. Those of the providers follow from their register.
pub static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let providers = REGISTER.iter().flat_map(of_provider);
    BEFORE_PROVIDERS.iter().copied().chain(providers).chain(AFTER_PROVIDERS.iter().copied()).collect()
});

const BEFORE_PROVIDERS: &[Setting] = &[
    plain("server.host", "SERVER_HOST", "127.0.0.1", Kind::Host, "Address to listen on; beyond loopback callers need a token, see `auth.mode`."),
    plain("server.port", "SERVER_PORT", "8080", Kind::Port, "The one port for gRPC, gRPC-Web and HTTP."),
    unset("server.tls_cert", "SERVER_TLS_CERT", Kind::Path, "Certificate chain (PEM); with `server.tls_key`, the port speaks TLS only."),
    unset("server.tls_key", "SERVER_TLS_KEY", Kind::Path, "Private key (PEM) of the certificate."),
    unset(
        "server.tls_client_ca",
        "SERVER_TLS_CLIENT_CA",
        Kind::Path,
        "Certificate authorities (PEM); only clients with a certificate of theirs may connect. Goes with `server.tls_cert`.",
    ),
    unset("server.allowed_hosts", "SERVER_ALLOWED_HOSTS", Kind::Names, "Names beside loopback ones that browsers may call the server by."),
    unset(
        "server.allowed_origins",
        "SERVER_ALLOWED_ORIGINS",
        Kind::Origins,
        "Origins whose web pages may call, also by gRPC-Web; they get CORS headers.",
    ),
    unset(
        "auth.mode",
        "AUTH_MODE",
        Kind::Word(&["none", "token"]),
        "Whether callers need a token; when not set: `none` on a loopback address, `token` on any other.",
    ),
    Setting {
        secret: true,
        ..unset("auth.admin_token", "AUTH_ADMIN_TOKEN", Kind::Token, "An admin's token; when not set, one is made and put into `<database>.token`.")
    },
    unset("auth.admin_token_file", "AUTH_ADMIN_TOKEN_FILE", Kind::Path, "A file with `AUTH_ADMIN_TOKEN`, instead of the value itself."),
    Setting {
        secret: true,
        ..unset("auth.read_only_token", "AUTH_READ_ONLY_TOKEN", Kind::Token, "A token that may only look, such as Prometheus'.")
    },
    unset("auth.read_only_token_file", "AUTH_READ_ONLY_TOKEN_FILE", Kind::Path, "A file with `AUTH_READ_ONLY_TOKEN`, instead of the value itself."),
    plain(
        "limits.requests_per_second",
        "LIMITS_REQUESTS_PER_SECOND",
        "100",
        Kind::Whole(0, 1_000_000),
        "Requests that one token may make per second, and as many at once; 0 = no limit, as without tokens.",
    ),
    plain(
        "limits.streams_per_caller",
        "LIMITS_STREAMS_PER_CALLER",
        "1000",
        Kind::Whole(0, 1_000_000),
        "Watches and waits that one token may have open; 0 = no limit, as without tokens.",
    ),
    plain(
        "limits.streams_per_connection",
        "LIMITS_STREAMS_PER_CONNECTION",
        "1000",
        Kind::Whole(1, 100_000),
        "Calls that may be open on one HTTP/2 connection.",
    ),
    plain("limits.header_bytes", "LIMITS_HEADER_BYTES", "32768", Kind::Whole(8192, 1_048_576), "The largest header of a request."),
    plain("limits.body_bytes", "LIMITS_BODY_BYTES", "1048576", Kind::Whole(1024, 67_108_864), "The largest body of a request."),
    plain("database.path", "DATABASE_PATH", "./data/gpu-shopper.db", Kind::Path, "The database; its folder is made when missing."),
];

const AFTER_PROVIDERS: &[Setting] = &[
    plain("log.level", "LOG_LEVEL", "info", Kind::Word(&["debug", "info", "warn", "error"]), "How much is logged."),
    plain("log.format", "LOG_FORMAT", "json", Kind::Word(&["json", "text"]), "How a log line looks."),
    unset(
        "deployment_id",
        "DEPLOYMENT_ID",
        Kind::Text(128),
        "Name of this deployment, part of every machine's label; generated once and kept when not set.",
    ),
    unset(
        "inventory.refresh_interval",
        "INVENTORY_REFRESH_INTERVAL",
        Kind::Duration(10, HOUR),
        "How often offers are fetched; when not set, what suits the provider (Vast.ai 60s, TensorDock 30s).",
    ),
    plain(
        "inventory.max_age",
        "INVENTORY_MAX_AGE",
        "5m",
        Kind::Duration(30, 24 * HOUR),
        "Offers older than this are fetched again before one is taken.",
    ),
    plain(
        "inventory.failure_memory",
        "INVENTORY_FAILURE_MEMORY",
        "act",
        Kind::Word(&["act", "observe"]),
        "Whether what launches taught changes confidences and sets offers aside, or is only shown (`observe`).",
    ),
    plain("lifecycle.hard_max_hours", "LIFECYCLE_HARD_MAX_HOURS", "12", Kind::Whole(1, 168), "No session lives longer than this after its creation."),
    plain(
        "lifecycle.check_interval",
        "LIFECYCLE_CHECK_INTERVAL",
        "30s",
        Kind::Duration(5, 600),
        "How often running machines are looked at, by their provider's list.",
    ),
    plain(
        "lifecycle.poll_interval",
        "LIFECYCLE_POLL_INTERVAL",
        "5s",
        Kind::Duration(2, 60),
        "How often a machine is looked at while it begins or is searched for; a provider's own limit on lists comes first.",
    ),
    plain(
        "lifecycle.reconciliation_interval",
        "LIFECYCLE_RECONCILIATION_INTERVAL",
        "2m",
        Kind::Duration(10, HOUR),
        "How often an account's whole list is compared with what should be there.",
    ),
    plain(
        "lifecycle.orphan_grace_period",
        "LIFECYCLE_ORPHAN_GRACE_PERIOD",
        "15m",
        Kind::Duration(60, 24 * HOUR),
        "How long a machine with our label that no record knows (a stray) may be there before it is alarmed.",
    ),
    plain(
        "sweep.strays",
        "SWEEP_STRAYS",
        "report",
        Kind::Word(&["report", "destroy"]),
        "What is done about strays after that: they are reported, or destroyed.",
    ),
    plain(
        "sweep.max_destroys_per_minute",
        "SWEEP_MAX_DESTROYS_PER_MINUTE",
        "10",
        Kind::Whole(1, 1000),
        "How many machines are destroyed per minute that nobody asked to destroy.",
    ),
    plain(
        "sweep.max_share",
        "SWEEP_MAX_SHARE",
        "20%",
        Kind::Percent(0, 100),
        "More than this share of a provider's machines (and more than 3) to be destroyed so at one look are held instead, until an operator lifts the hold.",
    ),
    plain(
        "lifecycle.on_shutdown",
        "LIFECYCLE_ON_SHUTDOWN",
        "keep",
        Kind::Word(&["keep", "destroy"]),
        "What becomes of the sessions when the server is told to end: `keep` leaves them and their machines as they are, `destroy` ends them all.",
    ),
    plain(
        "lifecycle.destroy_backoff",
        "LIFECYCLE_DESTROY_BACKOFF",
        "5s",
        Kind::Duration(1, 300),
        "The first wait between two destroy calls for a machine that is not gone; it doubles with each.",
    ),
    plain(
        "lifecycle.destroy_backoff_max",
        "LIFECYCLE_DESTROY_BACKOFF_MAX",
        "5m",
        Kind::Duration(1, HOUR),
        "The longest such wait, give or take a fifth.",
    ),
    plain(
        "absence.quorum",
        "ABSENCE_QUORUM",
        "3",
        Kind::Whole(2, 10),
        "Complete lists without a machine that it takes to believe that it is gone; and without its label, to believe that one without any label, which a launch's answer named, is ours.",
    ),
    plain("absence.spacing", "ABSENCE_SPACING", "60s", Kind::Duration(1, 600), "The least time between two such lists."),
    plain("failover.max_attempts", "FAILOVER_MAX_ATTEMPTS", "8", Kind::Whole(1, 99), "Attempts for one session in which a machine came to be."),
    plain(
        "failover.max_refused_offers",
        "FAILOVER_MAX_REFUSED_OFFERS",
        "25",
        Kind::Whole(1, 99),
        "Offers refused by the provider before a session gives up.",
    ),
    plain("price_tolerance", "PRICE_TOLERANCE", "5%", Kind::Percent(0, 100), "How far a machine's real price may lie above its offer's."),
    plain("calls.deadline", "CALLS_DEADLINE", "30s", Kind::Duration(5, 60), "How long a provider may take to answer a call."),
    plain("calls.launch_deadline", "CALLS_LAUNCH_DEADLINE", "2m", Kind::Duration(10, 150), "The same for the call that creates a machine."),
    plain("events.keep_count", "EVENTS_KEEP_COUNT", "100000", Kind::Whole(1000, 100_000_000), "So many of the newest events are kept, however old."),
    plain("events.keep_for", "EVENTS_KEEP_FOR", "24h", Kind::Duration(HOUR, 366 * 24 * HOUR), "Events younger than this are kept, however many."),
    plain(
        "requests.keep_for",
        "REQUESTS_KEEP_FOR",
        "24h",
        Kind::Duration(HOUR, 366 * 24 * HOUR),
        "How long a `request_id` is remembered; those of open sessions always are.",
    ),
    plain("watch.bookmark", "WATCH_BOOKMARK", "15s", Kind::Duration(5, 60), "Silence on a stream after which it gets a bookmark."),
    plain("shutdown.drain", "SHUTDOWN_DRAIN", "20s", Kind::Duration(0, 600), "How long open calls and streams may take to end at shutdown."),
    plain(
        "shutdown.destroy_timeout",
        "SHUTDOWN_DESTROY_TIMEOUT",
        "15m",
        Kind::Duration(1, 24 * HOUR),
        "How long a shutdown with `lifecycle.on_shutdown` = `destroy` waits until every machine is proven gone.",
    ),
    unset("otel.exporter_otlp_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", Kind::HttpUrl, "Where traces are sent by OTLP over gRPC; none when not set."),
];

/// Names of settings that services of this kind have had, and what does their work here.
const FORMER: &[(&str, &str)] = &[
    ("HOST", "did you mean SERVER_HOST?"),
    ("BIND_ADDRESS", "did you mean SERVER_HOST?"),
    ("LISTEN_ADDRESS", "did you mean SERVER_HOST?"),
    ("PORT", "did you mean SERVER_PORT?"),
    ("HTTP_PORT", "did you mean SERVER_PORT?"),
    ("GRPC_PORT", "did you mean SERVER_PORT?"),
    ("DB_PATH", "did you mean DATABASE_PATH?"),
    ("DATABASE_FILE", "did you mean DATABASE_PATH?"),
    ("AUTH_TOKEN", "did you mean AUTH_ADMIN_TOKEN, or AUTH_READ_ONLY_TOKEN?"),
    ("ADMIN_TOKEN", "did you mean AUTH_ADMIN_TOKEN?"),
    ("API_TOKEN", "did you mean AUTH_ADMIN_TOKEN?"),
    ("VAST_API_KEY", "did you mean VASTAI_API_KEY?"),
    ("VASTAI_KEY", "did you mean VASTAI_API_KEY?"),
    ("VASTAI_API_TOKEN", "did you mean VASTAI_API_KEY?"),
    ("VAST_BASE_URL", "did you mean VASTAI_BASE_URL?"),
    ("VASTAI_URL", "did you mean VASTAI_BASE_URL?"),
    ("TENSORDOCK_TOKEN", "did you mean TENSORDOCK_API_TOKEN?"),
    ("TENSORDOCK_API_KEY", "did you mean TENSORDOCK_API_TOKEN?"),
    ("TENSORDOCK_KEY", "did you mean TENSORDOCK_API_TOKEN?"),
    ("TENSORDOCK_AUTHORIZATION_ID", "did you mean TENSORDOCK_AUTH_ID?"),
    ("TENSORDOCK_IMAGE", "did you mean TENSORDOCK_DEFAULT_IMAGE?"),
    ("TENSORDOCK_URL", "did you mean TENSORDOCK_BASE_URL?"),
    ("LOGLEVEL", "did you mean LOG_LEVEL?"),
    ("LOGFORMAT", "did you mean LOG_FORMAT?"),
    ("HARD_MAX_HOURS", "did you mean LIFECYCLE_HARD_MAX_HOURS?"),
    ("CHECK_INTERVAL", "did you mean LIFECYCLE_CHECK_INTERVAL?"),
    ("ORPHAN_GRACE_PERIOD", "did you mean LIFECYCLE_ORPHAN_GRACE_PERIOD?"),
    ("RECONCILIATION_INTERVAL", "did you mean LIFECYCLE_RECONCILIATION_INTERVAL?"),
    ("OTLP_ENDPOINT", "did you mean OTEL_EXPORTER_OTLP_ENDPOINT?"),
    ("RECONCILE_INTERVAL", "did you mean LIFECYCLE_RECONCILIATION_INTERVAL?"),
    ("INVENTORY_CACHE_TTL", "did you mean INVENTORY_REFRESH_INTERVAL?"),
    ("INVENTORY_DEFAULT_CACHE_TTL", "did you mean INVENTORY_REFRESH_INTERVAL?"),
    ("INVENTORY_TENSORDOCK_CACHE_TTL", "did you mean INVENTORY_REFRESH_INTERVAL?"),
    ("INVENTORY_BACKOFF_TTL", "how long a failing provider is left alone follows from its answers"),
    ("INVENTORY_BACKOFF_CACHE_TTL", "how long a failing provider is left alone follows from its answers"),
    ("LIFECYCLE_DEPLOYMENT_ID", "did you mean DEPLOYMENT_ID?"),
    ("LIFECYCLE_SHUTDOWN_TIMEOUT", "did you mean SHUTDOWN_DRAIN, or SHUTDOWN_DESTROY_TIMEOUT?"),
    ("LIFECYCLE_STARTUP_SWEEP_ENABLED", "every start looks at every provider before it rents there"),
    ("LIFECYCLE_STARTUP_SWEEP_TIMEOUT", "the look at the start takes a minute at most and holds nothing up"),
    ("LOGGING_LEVEL", "did you mean LOG_LEVEL?"),
    ("LOGGING_FORMAT", "did you mean LOG_FORMAT?"),
    ("SSH_VERIFY_TIMEOUT", "each stage has a budget of its own; a request's ssh_timeout sets the login's"),
    ("SSH_CHECK_INTERVAL", "probes follow what the address answers"),
    ("BLUELOBSTER_API_KEY", "that marketplace is not among the providers"),
    ("BLUELOBSTER_DEFAULT_TEMPLATE", "that marketplace is not among the providers"),
    ("VASTAI_ENABLED", "a provider is enabled by its credentials"),
    ("TENSORDOCK_ENABLED", "a provider is enabled by its credentials"),
    ("BLUELOBSTER_ENABLED", "that marketplace is not among the providers"),
];

/// What to do instead of a setting that other services of this kind have; `None` = unknown. `name` may be a variable or a key.
#[must_use]
pub fn former(name: &str) -> Option<&'static str> {
    let upper = name.to_uppercase().replace('.', "_");
    let bare = upper.strip_prefix("PROVIDERS_").unwrap_or(&upper);
    FORMER.iter().find(|(known, _)| *known == bare).map(|(_, hint)| *hint)
}

/// A provider's settings: what its entry names, a file for each credential, and what every provider has.
fn of_provider(entry: &Entry) -> Vec<Setting> {
    // Once for each name, for as long as the process lives.
    let setting = |key: &str, default: Option<&'static str>, kind: Kind, secret: bool, doc: String| Setting {
        key: format!("providers.{}.{key}", entry.name).leak(),
        env: entry.env(key).leak(),
        default,
        kind,
        secret,
        doc: doc.leak(),
    };
    let mut all = Vec::new();
    for own in entry.settings {
        match own.role {
            Role::Credential => {
                all.push(setting(own.key, None, Kind::Text(512), true, own.doc.to_owned()));
                let doc = format!("A file with `{}`, instead of the value itself.", entry.env(own.key));
                all.push(setting(&format!("{}_file", own.key), None, Kind::Path, false, doc));
            }
            Role::Plain => all.push(setting(own.key, own.default, Kind::Text(128), false, own.doc.to_owned())),
        }
    }
    all.push(setting("base_url", Some(entry.base_url), Kind::BaseUrl, false, format!("Where {}'s API is.", entry.title)));
    let doc = "Whether machines at private addresses may be contacted; implied by a loopback base URL.".to_owned();
    all.push(setting("allow_private_addresses", Some("false"), Kind::Flag, false, doc));
    all
}

/// The setting of a key.
#[must_use]
pub fn by_key(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.key == key)
}

/// The whole key of a provider's setting; empty when there is none of that name.
#[must_use]
pub fn key_of(provider: &str, key: &str) -> &'static str {
    let wanted = format!("providers.{provider}.{key}");
    SETTINGS.iter().find(|s| s.key == wanted).map_or("", |s| s.key)
}

/// The setting of an environment variable.
#[must_use]
pub fn by_env(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.env == name)
}

/// The table of all settings in Markdown, as it stands in the README.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from("| environment | key | default | what it does |\n| --- | --- | --- | --- |\n");
    for s in SETTINGS.iter() {
        let default = s.default.map_or_else(|| "–".to_owned(), |d| format!("`{d}`"));
        out.push_str(&format!("| `{}` | `{}` | {default} | {} |\n", s.env, s.key, s.doc));
    }
    out
}

/// Reads `30s`, `5m`, `2h`, `1h30m`, `1d` or a plain number of seconds; `None` for anything else.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    let (mut total, mut number, mut smallest) = (0_u64, String::new(), u64::MAX);
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            'd' => 24 * HOUR,
            'h' => HOUR,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        if unit >= smallest {
            return None;
        }
        smallest = unit;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    number.is_empty().then(|| Duration::from_secs(total))
}

/// Seconds as one would write them: `90` → `1m30s`.
#[must_use]
pub fn duration_text(seconds: u64) -> String {
    let parts = [(seconds / HOUR, "h"), (seconds % HOUR / 60, "m"), (seconds % 60, "s")];
    let text: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Steps from one word to another: inserted, removed, replaced and swapped characters.
#[must_use]
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// The key that a wrong one most likely means: an environment name, the last part alone, or a near miss.
#[must_use]
pub fn nearest_key(wrong: &str) -> Option<&'static str> {
    if let Some(setting) = by_env(&wrong.to_uppercase().replace('.', "_")) {
        return Some(setting.key);
    }
    let tail = wrong.rsplit('.').next().unwrap_or(wrong);
    let same_tail: Vec<_> = SETTINGS.iter().filter(|s| s.key.rsplit('.').next() == Some(tail)).collect();
    if let [only] = same_tail.as_slice() {
        return Some(only.key);
    }
    let limit = (wrong.len() / 3).max(2);
    SETTINGS.iter().map(|s| (distance(wrong, s.key), s.key)).min().filter(|(d, _)| *d <= limit).map(|(_, key)| key)
}

/// The variable of ours that a foreign environment name most likely means, or `None` when it is none of our business.
#[must_use]
pub fn mistyped_env(name: &str) -> Option<&'static str> {
    if by_env(name).is_some() {
        return None;
    }
    let upper = name.to_uppercase();
    if let Some(exact) = by_env(upper.strip_prefix("PROVIDERS_").unwrap_or(&upper)) {
        return Some(exact.env);
    }
    let nearest = |prefix: &str| SETTINGS.iter().filter(|s| s.env.starts_with(prefix)).map(|s| (distance(&upper, s.env), s.env)).min();
    for vendor in REGISTER.iter().map(|entry| entry.env("")) {
        if upper.starts_with(&vendor) {
            return nearest(&vendor).map(|(_, env)| env);
        }
    }
    if upper.contains('_')
        && let Some(tail) = SETTINGS.iter().find(|s| s.env.ends_with(&format!("_{upper}")))
    {
        return Some(tail.env);
    }
    let prefix: String = upper.chars().take(3).collect();
    nearest(&prefix).filter(|(steps, _)| *steps <= 2 && prefix.len() == 3).map(|(_, env)| env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_follow_from_keys() {
        for s in SETTINGS.iter() {
            let twin = s.key.to_uppercase().replace('.', "_");
            assert_eq!(s.env, twin.strip_prefix("PROVIDERS_").unwrap_or(&twin));
            assert!(s.doc.ends_with('.'), "{}", s.key);
        }
        let mut keys: Vec<_> = SETTINGS.iter().map(|s| s.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), SETTINGS.len());
    }

    #[test]
    fn durations() {
        let secs = |text| parse_duration(text).map(|d| d.as_secs());
        for (text, want) in [("30s", 30), ("5m", 300), ("2h", 7200), ("1h30m", 5400), ("90", 90), (" 1m30s ", 90), ("0", 0), ("1d", 86_400)] {
            assert_eq!(secs(text), Some(want), "{text}");
        }
        for bad in ["", "s", "5x", "-5s", "1.5h", "5m5", "30s1m", "5m5m", "99999999999999999999", "9999999999999999d", "30 s"] {
            assert_eq!(secs(bad), None, "{bad}");
        }
        assert_eq!([duration_text(0), duration_text(90), duration_text(7200)], ["0s", "1m30s", "2h"]);
    }

    #[test]
    fn near_misses_are_recognised_and_strangers_left_alone() {
        for (name, ours) in [
            ("SERVER_PROT", "SERVER_PORT"),
            ("LOGLEVEL", "LOG_LEVEL"),
            ("TENSORDOCK_API_KEY", "TENSORDOCK_API_TOKEN"),
            ("VASTAI_KEY", "VASTAI_API_KEY"),
            ("HARD_MAX_HOURS", "LIFECYCLE_HARD_MAX_HOURS"),
            ("PROVIDERS_VASTAI_API_KEY", "VASTAI_API_KEY"),
            ("server_port", "SERVER_PORT"),
        ] {
            assert_eq!(mistyped_env(name), Some(ours), "{name}");
        }
        for (name, _) in FORMER {
            assert!(by_env(name).is_none() && former(name).is_some(), "{name}");
        }
        for (hint, ours) in FORMER.iter().filter_map(|(_, hint)| Some((hint, hint.strip_prefix("did you mean ")?))) {
            let named = ours.split([',', ' ', '?']).filter(|word| word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
            assert!(named.clone().count() > 0 && named.into_iter().all(|env| by_env(env).is_some()), "{hint}");
        }
        assert_eq!(former("logging.level"), former("LOGGING_LEVEL"));
        assert_eq!(former("providers.vastai.enabled"), Some("a provider is enabled by its credentials"));
        assert_eq!([former("PATH"), former("LOG_LEVEL")], [None, None]);
        for stranger in ["PATH", "PORT", "HOME", "SERVER_NAME", "DATABASE_URL", "SERVER_PORT_8080_TCP", "RUST_LOG", "SERVER_PORT", "É_É"] {
            assert_eq!(mistyped_env(stranger), None, "{stranger}");
        }
        assert_eq!(nearest_key("server.prot"), Some("server.port"));
        assert_eq!(nearest_key("VASTAI_API_KEY"), Some("providers.vastai.api_key"));
        assert_eq!(nearest_key("hard_max_hours"), Some("lifecycle.hard_max_hours"));
        assert_eq!(nearest_key("colour"), None);
    }
}
