//! Settings: layers, faults all at once, secrets never shown, the demo's isolation.

use gpu_shopper::config::{Config, Faults, LogFormat, SETTINGS, SettingsFile, Sources, settings};
use gpu_shopper::services::sweeper::{Strays, SweepPolicy};
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn env(pairs: &[(&str, &str)]) -> Sources {
    Sources { env: map(pairs), ..Sources::default() }
}

fn file(name: &str, text: &str) -> Sources {
    Sources { file: Some(SettingsFile { path: PathBuf::from(name), text: text.to_owned() }), ..Sources::default() }
}

fn load(sources: &Sources) -> Config {
    Config::load(sources).unwrap_or_else(|faults| panic!("{faults}"))
}

fn faults(sources: &Sources) -> Faults {
    Config::load(sources).expect_err("faults")
}

fn source_of(config: &Config, key: &str) -> String {
    config.effective().iter().find(|row| row.key == key).expect("a row").source.clone()
}

fn vastai_key(config: &Config) -> Option<&str> {
    config.providers["vastai"].values.get("api_key").map(ExposeSecret::expose_secret)
}

#[test]
fn defaults_are_those_of_the_table() {
    let config = load(&Sources::default());
    assert_eq!((config.server.host.as_str(), config.server.port), ("127.0.0.1", 8080));
    assert_eq!(config.database_path, Path::new("./data/gpu-shopper.db"));
    assert_eq!(config.lifecycle.hard_max, Duration::from_secs(12 * 3600));
    assert_eq!((config.absence.quorum, config.absence.spacing), (3, Duration::from_secs(60)));
    assert_eq!((config.failover.max_attempts, config.failover.max_refused_offers), (8, 25));
    assert_eq!(config.price_tolerance_percent, 5);
    assert_eq!(config.log.format, LogFormat::Json);
    assert!(config.providers.is_empty() && config.server.tls.is_none());
    assert_eq!((config.inventory.refresh_interval, config.otlp_endpoint.as_deref(), config.deployment_id.as_deref()), (None, None, None));
    assert!(config.warnings.is_empty());
    for (row, setting) in config.effective().iter().zip(SETTINGS.iter()) {
        assert_eq!((row.key, row.value.as_deref()), (setting.key, setting.default));
        assert_eq!(row.source, if setting.default.is_some() { "default" } else { "not set" });
    }
    let (sweep, usual) = (config.sweep, SweepPolicy::default());
    assert_eq!((sweep.strays, sweep.grace, sweep.quorum, sweep.caps), (usual.strays, usual.grace, usual.quorum, usual.caps));
    let policy = config.policy();
    assert_eq!((policy.hard_max, policy.price_tolerance_percent), (config.lifecycle.hard_max, 5));
}

#[test]
fn the_sweeper_does_as_it_is_told() {
    let told = env(&[
        ("SWEEP_STRAYS", "destroy"),
        ("LIFECYCLE_ORPHAN_GRACE_PERIOD", "1h"),
        ("SWEEP_MAX_DESTROYS_PER_MINUTE", "3"),
        ("SWEEP_MAX_SHARE", "50"),
    ]);
    let sweep = load(&told).sweep;
    assert_eq!((sweep.strays, sweep.grace), (Strays::Destroy, Duration::from_secs(3600)));
    assert_eq!((sweep.caps.per_minute, sweep.caps.share_percent, sweep.caps.at_least), (3, 50, SweepPolicy::default().caps.at_least));
    let bad = env(&[
        ("SWEEP_STRAYS", "adopt"),
        ("LIFECYCLE_ORPHAN_GRACE_PERIOD", "5s"),
        ("SWEEP_MAX_DESTROYS_PER_MINUTE", "0"),
        ("SWEEP_MAX_SHARE", "101%"),
    ]);
    let faults = Config::load(&bad).unwrap_err();
    let keys: Vec<&str> = faults.faults.iter().map(|f| f.key.as_str()).collect();
    assert_eq!(keys, ["sweep.strays", "lifecycle.orphan_grace_period", "sweep.max_destroys_per_minute", "sweep.max_share"]);
}

#[test]
fn each_layer_wins_over_those_below_and_is_named() {
    let mut sources = file("gpu-shopper.toml", "[server]\nport = 1001\n[log]\nlevel = \"error\"\n[watch]\nbookmark = 20\n");
    let port = |sources: &Sources| {
        let config = load(sources);
        (config.server.port, source_of(&config, "server.port"))
    };
    assert_eq!(port(&sources), (1001, "file gpu-shopper.toml".to_owned()));
    sources.dotenv = Some("# ours\nSERVER_PORT=1002\nexport LOG_FORMAT=\"text\"\n".to_owned());
    assert_eq!(port(&sources), (1002, ".env SERVER_PORT".to_owned()));
    sources.env = map(&[("SERVER_PORT", "1003"), ("LOG_LEVEL", "")]);
    assert_eq!(port(&sources), (1003, "environment SERVER_PORT".to_owned()));
    sources.flags = map(&[("server.port", "1004")]);
    assert_eq!(port(&sources), (1004, "command line".to_owned()));
    let config = load(&sources);
    assert_eq!(source_of(&config, "log.level"), "file gpu-shopper.toml", "an empty variable is not set");
    assert_eq!(source_of(&config, "log.format"), ".env LOG_FORMAT");
    assert_eq!(config.watch_bookmark, Duration::from_secs(20));
}

#[test]
fn yaml_says_the_same_as_toml() {
    let config = load(&file(
        "gpu-shopper.yaml",
        "server:\n  port: 9000\n  allowed_hosts: [gpu.internal, Other]\nprice_tolerance: 7\nlifecycle:\n  check_interval: 1m30s\nabsence:\n  # nothing\n",
    ));
    assert_eq!((config.server.port, config.price_tolerance_percent), (9000, 7));
    assert_eq!(config.server.allowed_hosts, ["gpu.internal", "other"]);
    assert_eq!(config.lifecycle.check_interval, Duration::from_secs(90));
    load(&file("gpu-shopper.yaml", "# all defaults\n"));
}

#[test]
fn all_faults_come_at_once_each_with_key_value_source_and_what_is_allowed() {
    let mut sources = file("gpu-shopper.toml", "[server]\nprot = 1\n[watch]\nbookmark = \"2h\"\n[lifecycle]\nhard_max_hours = \"many\"\n");
    sources.env = map(&[
        ("SERVER_PORT", "80800"),
        ("LOG_LEVEL", "loud"),
        ("PRICE_TOLERANCE", "-1%"),
        ("VASTAI_BASE_URL", "http://console.example"),
        ("ABSENCE_QUORUM", "1"),
        ("TENSORDOCK_AUTH_ID", "an-id"),
        ("SERVER_TLS_CERT", "/cert.pem"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317"),
    ]);
    let faults = faults(&sources);
    let text = faults.to_string();
    for expected in [
        "11 settings are wrong:",
        "server.prot (file gpu-shopper.toml): there is no such setting; did you mean server.port?",
        "server.port = \"80800\" (environment SERVER_PORT): must be a port from 1 to 65535, or 0 for any free one",
        "log.level = \"loud\" (environment LOG_LEVEL): must be one of debug, info, warn, error",
        "price_tolerance = \"-1%\" (environment PRICE_TOLERANCE): must be a whole percentage from 0 to 100",
        "watch.bookmark = \"2h\" (file gpu-shopper.toml): must be a duration from 5s to 1m",
        "lifecycle.hard_max_hours = \"many\" (file gpu-shopper.toml): must be a whole number from 1 to 168",
        "absence.quorum = \"1\" (environment ABSENCE_QUORUM): must be a whole number from 2 to 10",
        "providers.vastai.base_url = \"http://console.example\" (environment VASTAI_BASE_URL): must be an https:// address",
        "providers.tensordock.api_token (not set): TENSORDOCK_API_TOKEN is missing: TENSORDOCK_AUTH_ID is set",
        "server.tls_key (not set): SERVER_TLS_KEY is missing: SERVER_TLS_CERT is set",
        "otel.exporter_otlp_endpoint = \"https://collector:4317\" (environment OTEL_EXPORTER_OTLP_ENDPOINT): must be an http:// address",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
}

#[test]
fn callers_need_a_token_beyond_this_machine_unless_somebody_says_that_they_do_not() {
    for host in ["127.0.0.1", "localhost", "::1", "[::1]", "127.0.0.2"] {
        let config = load(&env(&[("SERVER_HOST", host)]));
        assert_eq!((config.server.host.as_str(), config.auth.required), (host.trim_matches(['[', ']']), false));
        assert!(config.warnings.is_empty());
        assert!(load(&env(&[("SERVER_HOST", host), ("AUTH_MODE", "token")])).auth.required);
    }
    let refused = faults(&env(&[("SERVER_HOST", "999.1.1.1")])).to_string();
    assert!(refused.contains("SERVER_HOST"), "an address that is none is no name either: {refused}");
    for host in ["0.0.0.0", "192.168.1.2", "::", "[::]", "gpu.example.com"] {
        let config = load(&env(&[("SERVER_HOST", host)]));
        assert!(config.auth.required, "{host}");
        assert!(config.warnings.len() == 1 && config.warnings[0].contains("in clear") && config.warnings[0].contains("SERVER_TLS_CERT"));
        let open = load(&env(&[("SERVER_HOST", host), ("AUTH_MODE", "none")]));
        assert!(!open.auth.required);
        assert!(open.warnings.len() == 1 && open.warnings[0].starts_with("NO AUTHENTICATION"), "{:?}", open.warnings);
    }
    for bad in ["a b", "http://localhost", "host:80", "x/y"] {
        assert!(faults(&env(&[("SERVER_HOST", bad)])).to_string().contains("must be an address of this machine"), "{bad}");
    }
}

#[test]
fn tokens_are_configured_by_value_or_file_and_shown_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let canary = "canary-canary-canary-canary";
    std::fs::write(&file, format!("{canary}\n")).unwrap();
    let config = load(&env(&[("AUTH_ADMIN_TOKEN_FILE", file.to_str().unwrap()), ("AUTH_READ_ONLY_TOKEN", "another-canary-of-a-token")]));
    assert_eq!(config.auth.admin_token.as_ref().map(ExposeSecret::expose_secret), Some(canary));
    assert_eq!(config.auth.read_only_token.as_ref().map(ExposeSecret::expose_secret), Some("another-canary-of-a-token"));
    let shown = format!("{config:?} {:?}", config.effective());
    assert!(!shown.contains("canary"), "{shown}");

    let text = faults(&env(&[("AUTH_ADMIN_TOKEN", "canary"), ("AUTH_READ_ONLY_TOKEN_FILE", "/nowhere/at-all"), ("AUTH_MODE", "maybe")])).to_string();
    for expected in [
        "auth.admin_token = \"***\" (environment AUTH_ADMIN_TOKEN): must be 24 to 512 visible",
        "auth.read_only_token_file",
        "must be one of none, token",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(text.starts_with("3 settings are wrong") && !text.contains("canary"), "{text}");
    let same = faults(&env(&[("AUTH_ADMIN_TOKEN", canary), ("AUTH_READ_ONLY_TOKEN", canary)])).to_string();
    assert!(same.contains("must not be the same") && !same.contains("canary"), "{same}");
}

#[test]
fn origins_are_written_as_browsers_write_them() {
    let config = load(&env(&[("SERVER_ALLOWED_ORIGINS", "https://App.example/, http://localhost:3000,https://x.example:443")]));
    assert_eq!(config.server.allowed_origins, ["https://app.example", "http://localhost:3000", "https://x.example"]);
    for bad in ["app.example", "https://app.example/path", "null", "*", "ftp://app.example", "https://u@app.example"] {
        assert!(faults(&env(&[("SERVER_ALLOWED_ORIGINS", bad)])).to_string().contains("must be origins"), "{bad}");
    }
    let alone = faults(&env(&[("SERVER_TLS_CLIENT_CA", "ca.pem")])).to_string();
    assert!(alone.contains("SERVER_TLS_CERT is missing"), "{alone}");
}

#[test]
fn providers_are_enabled_by_their_credentials() {
    let none = load(&Sources::default()).require_provider().expect_err("no provider").to_string();
    assert!(none.contains("at least one provider must be enabled") && none.contains("VASTAI_API_KEY") && none.contains("TENSORDOCK_API_TOKEN"));
    let config = load(&env(&[("VASTAI_API_KEY", KEY)]));
    let vastai = &config.providers["vastai"];
    assert_eq!((vastai_key(&config), vastai.base_url.as_str()), (Some(KEY), "https://console.vast.ai"));
    assert!(!vastai.allow_private_addresses && config.require_provider().is_ok() && config.warnings.is_empty());
    let config = load(&env(&[
        ("TENSORDOCK_AUTH_ID", "id"),
        ("TENSORDOCK_API_TOKEN", "token"),
        ("TENSORDOCK_BASE_URL", "http://127.0.0.1:9999/"),
        ("TENSORDOCK_DEFAULT_IMAGE", "ubuntu2404"),
    ]));
    let tensordock = &config.providers["tensordock"];
    let image = tensordock.values.get("default_image").map(ExposeSecret::expose_secret);
    assert_eq!((tensordock.base_url.as_str(), image), ("http://127.0.0.1:9999", Some("ubuntu2404")));
    assert!(tensordock.allow_private_addresses, "implied by a loopback address");
    let named = load(&env(&[("VASTAI_API_KEY", KEY), ("VASTAI_BASE_URL", "http://markets:9000"), ("VASTAI_ALLOW_PRIVATE_ADDRESSES", "true")]));
    assert!(named.providers["vastai"].allow_private_addresses);
    let text = faults(&env(&[("TENSORDOCK_API_TOKEN", "token")])).to_string();
    assert!(text.contains("TENSORDOCK_AUTH_ID is missing"), "{text}");
}

#[test]
fn what_looks_wrong_is_a_warning() {
    let mut sources = env(&[("VASTAI_API_KEY", "short-canary"), ("TENSORDOCK_API_KEY", "canary"), ("SERVER_PROT", "1"), ("PATH", "/bin")]);
    sources.dotenv = Some("HARD_MAX_HOURS=4\n".to_owned());
    let config = load(&sources);
    let all = config.warnings.join("\n");
    assert_eq!(config.warnings.len(), 4, "{all}");
    for expected in [
        "VASTAI_API_KEY does not look like a key of Vast.ai: it has 12 characters, not 64 hexadecimal ones",
        "TENSORDOCK_API_KEY (environment) is no setting of ours and is ignored; did you mean TENSORDOCK_API_TOKEN?",
        "SERVER_PROT (environment) is no setting of ours and is ignored; did you mean SERVER_PORT?",
        "HARD_MAX_HOURS (.env) is no setting of ours and is ignored; did you mean LIFECYCLE_HARD_MAX_HOURS?",
    ] {
        assert!(all.contains(expected), "{expected}\nis not in\n{all}");
    }
    assert!(!all.contains("canary"), "{all}");
}

/// A guess at what was meant, or at what could not be read, would lead astray.
#[test]
fn what_is_a_fault_is_not_warned_about_as_well() {
    for pairs in [
        &[("AUTH_MODE", "maybe"), ("SERVER_HOST", "192.168.1.2")][..],
        &[("AUTH_MODE", "none"), ("SERVER_HOST", "a b")],
        &[("AUTH_MODE", "token"), ("SERVER_HOST", "192.168.1.2"), ("SERVER_TLS_CERT", "cert.pem")],
        &[("VASTAI_API_KEY_FILE", "/nonexistent/key")],
        &[("AUTH_ADMIN_TOKEN_FILE", "/nonexistent/a"), ("AUTH_READ_ONLY_TOKEN_FILE", "/nonexistent/b")],
    ] {
        let told = faults(&env(pairs));
        assert_eq!(told.warnings, Vec::<String>::new(), "{pairs:?}");
        let files = pairs.iter().filter(|(name, _)| name.ends_with("_FILE")).count();
        assert_eq!(told.faults.len(), files.max(1), "{told}");
    }
}

#[test]
fn secrets_come_from_files_too_and_the_higher_layer_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, format!("{KEY}\n")).unwrap();
    let path = path.to_str().unwrap();
    let config = load(&env(&[("VASTAI_API_KEY_FILE", path)]));
    assert_eq!(vastai_key(&config), Some(KEY));
    assert_eq!(source_of(&config, "providers.vastai.api_key"), format!("file {path}, named by environment VASTAI_API_KEY_FILE"));
    let mut sources = env(&[("VASTAI_API_KEY_FILE", path)]);
    sources.dotenv = Some("VASTAI_API_KEY=old\n".to_owned());
    assert_eq!(vastai_key(&load(&sources)), Some(KEY));
    sources = env(&[("VASTAI_API_KEY", "new")]);
    sources.dotenv = Some(format!("VASTAI_API_KEY_FILE={path}\n"));
    assert_eq!(vastai_key(&load(&sources)), Some("new"));
    let both = faults(&env(&[("VASTAI_API_KEY_FILE", path), ("VASTAI_API_KEY", KEY)])).to_string();
    assert!(both.contains("VASTAI_API_KEY is set as well (environment VASTAI_API_KEY): set one of the two"), "{both}");
    let absent = faults(&env(&[("TENSORDOCK_AUTH_ID", "id"), ("TENSORDOCK_API_TOKEN_FILE", "/nowhere/token")]));
    assert_eq!(absent.faults.len(), 1, "{absent}");
    assert!(absent.to_string().contains("/nowhere/token") && absent.to_string().contains("can't be read"), "{absent}");
}

#[test]
fn no_secret_is_ever_shown() {
    let canary = "canary-7d2f";
    let shown = |sources: &Sources| match Config::load(sources) {
        Ok(config) => {
            format!("{config:?} {:?} {} {}", config.effective(), serde_json::to_string(config.effective()).unwrap(), config.warnings.join(" "))
        }
        Err(faults) => format!("{faults} {faults:?}"),
    };
    let toml = |text: &str| shown(&file("gpu-shopper.toml", text));
    let all = [
        shown(&env(&[("VASTAI_API_KEY", canary), ("TENSORDOCK_AUTH_ID", canary), ("TENSORDOCK_API_TOKEN", canary)])),
        shown(&env(&[("VASTAI_API_KEY", &format!("{canary}\u{7}"))])),
        shown(&env(&[("VASTAI_BASE_URL", &format!("https://user:{canary}@host"))])),
        shown(&env(&[("TENSORDOCK_BASE_URL", &format!("ftp://host/?api_token={canary}"))])),
        shown(&Sources { dotenv: Some(format!("VASTAI_API_KEY {canary} oops\n")), ..Sources::default() }),
        toml(&format!("[providers.vastai]\napi_kee = \"{canary}\"\n")),
        toml(&format!("[providers.vastai]\napi_key = \"{canary}\n")),
        toml(&format!("[providers.vastai]\napi_key = {canary}\n")),
        toml(&format!("[providers.vastai]\napi_key = [\"{canary}\"]\n")),
        toml(&format!("providers = \"{canary}\"\n")),
        shown(&file("gpu-shopper.yaml", &format!("providers:\n  vastai:\n    api_key: \"{canary}\n"))),
        shown(&file("gpu-shopper.yaml", &format!("{canary}\n"))),
    ];
    for (i, text) in all.iter().enumerate() {
        assert!(!text.contains(canary), "case {i}: {text}");
    }
    assert!(all[0].contains("***"));
    assert!(all[4].contains(".env line 1") && all[5].contains("providers.vastai.api_key"), "{} {}", all[4], all[5]);
}

#[test]
fn texts_keep_their_looks_and_files_must_quote_them() {
    assert_eq!(load(&env(&[("DEPLOYMENT_ID", "007")])).deployment_id.as_deref(), Some("007"));
    let text = faults(&file("gpu-shopper.toml", "deployment_id = 7\n[server]\nport = [1]\n")).to_string();
    assert!(text.contains("deployment_id (file gpu-shopper.toml): must be 1 to 128 characters without control characters, in quotes"), "{text}");
    assert!(text.contains("server.port (file gpu-shopper.toml): must be a port"), "{text}");
    let text = faults(&file("gpu-shopper.toml", "server = 8080\nVASTAI_API_KEY = \"x\"\n[log.level]\nx = 1\n")).to_string();
    for expected in
        ["server (file gpu-shopper.toml): is a group", "did you mean providers.vastai.api_key?", "log.level (file gpu-shopper.toml): must be one of"]
    {
        assert!(text.contains(expected), "{text}");
    }
    assert!(faults(&file("settings.ini", "")).to_string().contains(".toml, .yaml or .yml"));
    assert!(faults(&file("gpu-shopper.toml", "[server]\nport = \"\"\n")).to_string().contains("server.port"));
}

#[test]
fn sources_are_gathered_from_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let gather = |config: Option<&Path>| Sources::gather_in(folder.path(), BTreeMap::new(), BTreeMap::new(), config);
    assert!(gather(None).unwrap().file.is_none());
    std::fs::write(folder.path().join(".env"), "SERVER_PORT=1\n").unwrap();
    std::fs::write(folder.path().join("gpu-shopper.toml"), "[server]\nport = 2\n").unwrap();
    let sources = gather(None).unwrap();
    assert_eq!(load(&sources).server.port, 1);
    let other = folder.path().join("other.yaml");
    assert!(gather(Some(&other)).unwrap_err().to_string().contains("other.yaml: can't be read"));
    std::fs::write(&other, "log: {level: warn}\n").unwrap();
    assert_eq!(source_of(&load(&gather(Some(&other)).unwrap()), "log.level"), "file other.yaml");
    std::fs::write(folder.path().join("gpu-shopper.yaml"), "").unwrap();
    assert!(gather(None).unwrap_err().to_string().contains("keep one of them"));
}

#[test]
fn the_demo_never_takes_credentials_or_addresses() {
    let mut sources = file("gpu-shopper.toml", "[providers.vastai]\napi_key = \"canary\"\n[server]\nport = 1\nnonsense = true\n");
    sources.dotenv = Some("VASTAI_API_KEY=canary\nSERVER_PORT=2\n".to_owned());
    sources.env = map(&[
        ("VASTAI_API_KEY", "canary"),
        ("VASTAI_BASE_URL", "https://canary.example"),
        ("TENSORDOCK_AUTH_ID", "canary"),
        ("TENSORDOCK_BASE_URL", "https://canary.example"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://canary:4317"),
        ("DEPLOYMENT_ID", "canary"),
        ("LOG_FORMAT", "text"),
    ]);
    let config = Config::demo(&sources, Path::new("/tmp/demo.db")).unwrap();
    assert!(!format!("{config:?}").contains("canary"));
    assert_eq!((config.server.port, config.log.format), (8080, LogFormat::Text));
    assert_eq!(config.database_path, Path::new("/tmp/demo.db"));
    assert_eq!(source_of(&config, "database.path"), "demo");
    sources.env = map(&[("SERVER_PORT", "3"), ("DATABASE_PATH", "mine.db"), ("LOG_LEVEL", "debug")]);
    let config = Config::demo(&sources, Path::new("/tmp/demo.db")).unwrap();
    assert_eq!((config.server.port, config.database_path.as_path()), (3, Path::new("mine.db")));
    sources.env = map(&[("SERVER_PORT", "no"), ("SERVER_HOST", "no host")]);
    assert_eq!(Config::demo(&sources, Path::new("/tmp/demo.db")).unwrap_err().faults.len(), 2);
}

#[test]
fn the_table_for_the_readme_has_every_setting() {
    let table = settings::markdown();
    assert_eq!(table.lines().count(), SETTINGS.len() + 2);
    assert!(table.contains("| `SERVER_PORT` | `server.port` | `8080` |"));
}

/// What is configured is what decides: each of these settings has its own place there.
#[test]
fn the_policy_is_what_was_set() {
    let config = load(&env(&[
        ("LIFECYCLE_HARD_MAX_HOURS", "31"),
        ("ABSENCE_QUORUM", "5"),
        ("ABSENCE_SPACING", "41s"),
        ("FAILOVER_MAX_REFUSED_OFFERS", "17"),
        ("PRICE_TOLERANCE", "7%"),
        ("INVENTORY_MAX_AGE", "43s"),
        ("LIFECYCLE_POLL_INTERVAL", "19s"),
        ("LIFECYCLE_DESTROY_BACKOFF", "3s"),
        ("LIFECYCLE_DESTROY_BACKOFF_MAX", "47s"),
    ]));
    let (policy, secs) = (config.policy(), Duration::from_secs);
    assert_eq!((policy.hard_max, policy.absence_quorum, policy.absence_spacing), (secs(31 * 3600), 5, secs(41)));
    assert_eq!((policy.max_refused_offers, policy.price_tolerance_percent, policy.max_offer_age), (17, 7, secs(43)));
    assert_eq!((policy.look_interval, policy.destroy_backoff, policy.destroy_backoff_max), (secs(19), secs(3), secs(47)));
}
