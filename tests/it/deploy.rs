//! What lies in `deploy/`, the compose file and the image's recipe, compared with the code: every variable is a setting, every
//! command line one of ours, every metric one that exists, every name leads somewhere. No container engine is needed for that.

use crate::child::{Child, Env, NOBODY, PATIENCE, Served, env, http, log_in, wanted};
use clap::Parser;
use figment::Figment;
use figment::providers::{Format, Yaml};
use gpu_shopper::cli::Cli;
use gpu_shopper::config::settings::by_env;
use gpu_shopper::config::{Config, Sources};
use gpu_shopper::grpc::pb::session::State;
use gpu_shopper::telemetry::{METRICS, Metric};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn yaml(path: &str) -> Value {
    Figment::from(Yaml::string(&text(path))).extract().unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().map(|all| all.iter().map(|word| word.as_str().unwrap()).collect()).unwrap_or_default()
}

fn service(name: &str) -> Value {
    let found = yaml("docker-compose.yml")["services"][name].clone();
    assert!(found.is_object(), "there is no service {name}");
    found
}

/// `OUTSIDE:INSIDE` of a service's published ports, which are open on this machine alone.
fn published(service: &Value) -> Vec<String> {
    let ports = words(&service["ports"]);
    assert!(ports.iter().all(|port| port.starts_with("127.0.0.1:")), "{ports:?}");
    ports.into_iter().map(|port| port.trim_start_matches("127.0.0.1:").to_owned()).collect()
}

#[track_caller]
fn is_ours(arguments: &[&str]) -> Cli {
    Cli::try_parse_from(["gpu-shopper"].iter().chain(arguments)).unwrap_or_else(|e| panic!("{arguments:?}: {e}"))
}

#[test]
fn every_variable_of_the_compose_file_is_a_setting_and_together_they_make_sense() {
    let server = service("server");
    let given: BTreeMap<String, String> =
        server["environment"].as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    for name in given.keys() {
        assert!(by_env(name).is_some(), "{name} is no setting");
    }
    // As the container sees it: the files are there, and LOG_LEVEL is not set outside.
    let folder = tempfile::tempdir().unwrap();
    let mut seen = given.clone();
    for (name, value) in seen.iter_mut().filter(|(name, _)| name.ends_with("_FILE")) {
        let path = folder.path().join(name);
        fs::write(&path, "0123456789abcdef".repeat(4)).unwrap();
        *value = path.display().to_string();
    }
    seen.insert("LOG_LEVEL".to_owned(), given["LOG_LEVEL"].trim_start_matches("${LOG_LEVEL:-").trim_end_matches('}').to_owned());
    let config = Config::load(&Sources { env: seen, ..Sources::default() }).unwrap();
    assert_eq!(config.providers.len(), 2);
    assert!(config.auth.required && config.auth.read_only_token.is_some());
    // Between the containers nothing is encrypted, and the server says so; outside its port is open on this machine alone.
    assert!(config.warnings.len() == 1 && config.warnings[0].contains("in clear"), "{:?}", config.warnings);

    // Where the server looks is where the others are.
    let market = service("market");
    let command = words(&market["command"]);
    is_ours(&command);
    is_ours(&words(&server["command"]));
    let option = |name: &str| command.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1]).unwrap();
    assert_eq!(option("--advertise-host"), "market");
    assert_eq!((given["VASTAI_BASE_URL"].as_str(), given["TENSORDOCK_BASE_URL"].as_str()), ("http://market:8888", "http://market:8889"));
    for (variable, file) in [
        ("VASTAI_API_KEY_FILE", "vastai_api_key"),
        ("TENSORDOCK_AUTH_ID_FILE", "tensordock_auth_id"),
        ("TENSORDOCK_API_TOKEN_FILE", "tensordock_api_token"),
    ] {
        assert_eq!(given[variable], format!("{}/{file}", option("--credentials")));
    }
    let ssh = option("--ssh-ports");
    assert!(published(&market).contains(&format!("{ssh}:{ssh}")) && published(&market).contains(&"8888-8889:8888-8889".to_owned()));
    assert_eq!(published(&server), [format!("8080:{}", given["SERVER_PORT"])]);
    let collector = yaml("deploy/otel/collector.yaml");
    let listens = collector["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].as_str().unwrap();
    assert_eq!(given["OTEL_EXPORTER_OTLP_ENDPOINT"], format!("http://collector:{}", listens.rsplit(':').next().unwrap()));
    assert_eq!(collector["exporters"]["otlp/jaeger"]["endpoint"], "jaeger:4317");
    let pipeline = &collector["service"]["pipelines"]["traces"];
    for (kind, all) in [("receivers", &collector["receivers"]), ("processors", &collector["processors"]), ("exporters", &collector["exporters"])] {
        assert!(!words(&pipeline[kind]).is_empty() && words(&pipeline[kind]).iter().all(|name| all.get(name).is_some()), "{kind}");
    }
    assert!(given["DATABASE_PATH"].starts_with("/data/") && words(&server["volumes"]).contains(&"data:/data"));
}

#[test]
fn every_volume_and_file_of_the_compose_file_is_there_and_every_image_has_a_version() {
    let compose = yaml("docker-compose.yml");
    let named: BTreeSet<&str> = compose["volumes"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut used = BTreeSet::new();
    for (name, service) in compose["services"].as_object().unwrap() {
        for volume in words(&service["volumes"]) {
            let source = volume.split(':').next().unwrap();
            if let Some(file) = source.strip_prefix("./") {
                assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(file).exists(), "{name}: {source}");
            } else {
                assert!(named.contains(source), "{name}: {source}");
                used.insert(source);
            }
        }
        let needs: Vec<String> = match &service["depends_on"] {
            Value::Object(needs) => needs.keys().cloned().collect(),
            list => words(list).into_iter().map(str::to_owned).collect(),
        };
        assert!(needs.iter().all(|need| compose["services"].get(need).is_some()), "{name} needs {needs:?}");
        published(service);
        if let Some(image) = service["image"].as_str() {
            let version = image.rsplit(':').next().unwrap();
            assert!(version.contains('.') && !image.contains("latest"), "{name}: {image}");
        }
    }
    assert_eq!(used, named);
    // One token: made by one, read by two, asked of Prometheus.
    let file = "/tokens/read-only";
    assert!(words(&service("tokens")["command"])[0].contains(file));
    assert_eq!(service("server")["environment"]["AUTH_READ_ONLY_TOKEN_FILE"], file);
    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    let job = &prometheus["scrape_configs"][0];
    assert_eq!((job["authorization"]["credentials_file"].as_str(), job["metrics_path"].as_str()), (Some(file), Some("/metrics")));
    assert_eq!(words(&job["static_configs"][0]["targets"]), ["server:8080"]);
    assert!(words(&service("prometheus")["volumes"]).contains(&"tokens:/tokens:ro"));
    for rules in words(&prometheus["rule_files"]) {
        text(&format!("deploy/prometheus/{rules}"));
    }
    let dashboards = yaml("deploy/grafana/provisioning/dashboards/gpu-shopper.yml")["providers"][0]["options"]["path"].clone();
    assert!(words(&service("grafana")["volumes"]).contains(&format!("./deploy/grafana/dashboards:{}:ro", dashboards.as_str().unwrap()).as_str()));
    assert_eq!(yaml("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"][0]["url"], "http://prometheus:9090");
}

#[test]
fn the_image_is_small_and_runs_as_nobody_and_its_commands_are_ours() {
    let recipe = text("Dockerfile");
    let stage = recipe.rsplit("\nFROM ").next().unwrap();
    assert!(recipe.matches("\nFROM ").count() == 2 && stage.starts_with("debian:") && stage.contains("\nUSER 65534:65534\n"));
    let list = |line: &str| -> Vec<String> { serde_json::from_str(&line[line.find('[').unwrap()..]).unwrap() };
    let line = |head: &str| stage.lines().find(|line| line.starts_with(head)).unwrap_or_else(|| panic!("no {head}"));
    assert_eq!(list(line("ENTRYPOINT")), ["gpu-shopper"]);
    let command = list(line("CMD"));
    is_ours(&command.iter().map(String::as_str).collect::<Vec<_>>());
    let check = list(line("HEALTHCHECK"));
    assert_eq!(check[0], "gpu-shopper");
    is_ours(&check[1..].iter().map(String::as_str).collect::<Vec<_>>());
    let toolchain = text("rust-toolchain.toml");
    let version = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    assert!(recipe.contains(&format!("FROM rust:{version}-slim-bookworm AS build")), "the image is built with another Rust than everything else");
    assert!(recipe.contains("--profile dist") && text("Cargo.toml").contains("[profile.dist]"));
    // What the build takes is let in, and of everything else nothing.
    let ignore = text(".dockerignore");
    let let_in: BTreeSet<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignore.lines().any(|line| line == "*"));
    assert_eq!(let_in, BTreeSet::from([".cargo", "Cargo.lock", "Cargo.toml", "build.rs", "migrations", "proto", "src", "vendor"]));
}

/// The context of the image's build has no benches, no tests and no README: Cargo and the sources must do without.
#[test]
fn what_is_let_into_the_image_is_enough_to_build_the_program() {
    let ignore = text(".dockerignore");
    let let_in: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let (root, context) = (Path::new(env!("CARGO_MANIFEST_DIR")), tempfile::tempdir().unwrap());
    for name in &let_in {
        std::os::unix::fs::symlink(root.join(name), context.path().join(name)).unwrap();
    }
    let mut cargo = std::process::Command::new(env!("CARGO"));
    let read = cargo.args(["metadata", "--format-version", "1", "--offline", "--locked", "--no-deps"]).current_dir(context.path()).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let read: Value = serde_json::from_slice(&read.stdout).unwrap();
    let targets = read["packages"][0]["targets"].as_array().unwrap();
    for target in targets.iter().filter(|target| target["kind"] != "bench" && words(&target["kind"]) != ["bench"]) {
        assert!(Path::new(target["src_path"].as_str().unwrap()).exists(), "{target}");
    }
    // What the program takes in beside Rust.
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            let product = source.split("#[cfg(test)]").next().unwrap();
            for (macro_name, base) in [("include_str!(\"", folder.as_path()), ("include_bytes!(\"", folder.as_path()), ("embed_migrations!(\"", root)]
            {
                for file in product.split(macro_name).skip(1).filter_map(|rest| rest.split('"').next()).filter(|_| !path.ends_with("tests.rs")) {
                    let file = base.join(file).canonicalize().unwrap_or_else(|e| panic!("{}: {file}: {e}", path.display()));
                    let inside = file.strip_prefix(root.canonicalize().unwrap()).unwrap();
                    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
                    assert!(let_in.contains(&first), "{} takes in {}", path.display(), inside.display());
                }
            }
        }
    }
}

/// Names that look like metrics of ours, with the labels that are asked of each.
fn metrics_in(text: &str) -> Vec<(String, Vec<String>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for head in ["gpu_", "http_request"] {
        for (at, _) in text.match_indices(head).filter(|(at, _)| !text[..*at].ends_with(is_name)) {
            let name: String = text[at..].chars().take_while(|c| is_name(*c)).collect();
            let rest = &text[at + name.len()..];
            let labels = rest.strip_prefix('{').and_then(|inside| inside.split('}').next()).unwrap_or_default();
            let labels = labels.split(',').filter_map(|pair| pair.split(['=', '!']).next()).map(|label| label.trim().to_owned());
            found.push((name, labels.filter(|label| !label.is_empty()).collect()));
        }
    }
    found
}

#[test]
fn every_metric_of_rules_and_dashboard_exists_with_its_labels() {
    let mut expressions = Vec::new();
    let rules = yaml("deploy/prometheus/rules.yml");
    let mut alerts = BTreeSet::new();
    for rule in rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        alerts.insert(rule["alert"].as_str().unwrap().to_owned());
        expressions.push(rule["expr"].as_str().unwrap().to_owned());
        assert!(["page", "ticket"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{rule}");
        let advice = rule["annotations"]["description"].as_str().unwrap();
        for command in advice.split('`').skip(1).step_by(2).filter(|text| text.starts_with("gpu-shopper ")) {
            is_ours(&command.split(' ').skip(1).collect::<Vec<_>>());
        }
    }
    // Each alert is seen to be raised by a unit test of its own.
    let tests = yaml("deploy/prometheus/rules_test.yml");
    let cases = tests["tests"].as_array().unwrap().iter().flat_map(|test| test["alert_rule_test"].as_array().unwrap());
    let raised: BTreeSet<String> = cases
        .filter(|case| case["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty()))
        .map(|case| case["alertname"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(raised, alerts);
    let inputs = tests["tests"].as_array().unwrap().iter().flat_map(|test| test["input_series"].as_array().unwrap());
    expressions.extend(inputs.map(|series| series["series"].as_str().unwrap().to_owned()));
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/dashboards/gpu-shopper.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let asked: Vec<String> =
        panels.iter().flat_map(|p| p["targets"].as_array().cloned().unwrap_or_default()).map(|t| t["expr"].as_str().unwrap().to_owned()).collect();
    assert!(asked.len() > 25 && panels.iter().filter(|p| p["type"] != "row").all(|p| p["datasource"]["uid"] == "prometheus"));
    expressions.extend(asked);
    let mut seen = BTreeSet::new();
    for expression in &expressions {
        for (name, labels) in metrics_in(expression) {
            let of = |metric: &&Metric| {
                let parts = [String::new(), "_bucket".to_owned(), "_sum".to_owned(), "_count".to_owned()];
                parts.iter().any(|part| name == format!("{}{part}", metric.name))
            };
            // Label names of ours look like metrics, too.
            if name == "gpu_type" {
                continue;
            }
            let metric = METRICS.iter().find(of).unwrap_or_else(|| panic!("{name} is no metric: {expression}"));
            for label in labels {
                assert!(metric.labels.iter().any(|(known, _)| *known == label), "{name} has no label {label}: {expression}");
            }
            seen.insert(metric.name);
        }
    }
    assert!(seen.len() > 30, "{seen:?}");
}

/// What the image says about itself, the last stage of its recipe.
fn image() -> String {
    text("Dockerfile").rsplit("\nFROM ").next().unwrap().to_owned()
}

/// Each container may write to the folders that it has to write to, which are the image's user's, and to nothing else.
#[test]
fn each_container_may_write_where_it_has_to_and_nowhere_else() {
    let stage = image();
    let rest = |head: &str| stage.lines().find_map(|line| line.split_once(head)).unwrap_or_else(|| panic!("no {head}")).1;
    let (user, group) = rest("USER ").split_once(':').unwrap();
    let own: BTreeSet<&str> = rest(&format!("install -d -o {user} -g {group} -m 0700 ")).split_whitespace().collect();
    assert!(own.contains(rest("WORKDIR ")));
    let compose = yaml("docker-compose.yml");
    let mut writes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, service) in compose["services"].as_object().unwrap() {
        // What it says itself, or what all of ours have in common.
        let said = |key: &str| service.get(key).or_else(|| service["<<"].get(key)).cloned().unwrap_or_default();
        if said("build").is_null() {
            continue;
        }
        assert_eq!((said("read_only").as_bool(), said("privileged")), (Some(true), Value::Null), "{name}");
        for volume in words(&service["volumes"]) {
            let parts: Vec<&str> = volume.split(':').collect();
            assert!(own.contains(parts[1]), "{name}: {} is not its user's", parts[1]);
            if parts.get(2) != Some(&"ro") {
                writes.entry(name.as_str()).or_default().push(parts[1]);
            }
        }
    }
    assert_eq!(writes, BTreeMap::from([("market", vec!["/credentials"]), ("server", vec!["/data"]), ("tokens", vec!["/tokens"])]));
}

/// Runs something again and again until it does not fail.
async fn in_the_end(what: &str, mut works: impl AsyncFnMut() -> bool) {
    let tried = async {
        while !works().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, tried).await.is_ok(), "it never came to: {what}");
}

/// What the compose file starts, in its order, with its commands, settings and checks of health, as processes of this machine: other
/// are only the names of the containers, where their folders lie, and the ports. A machine of each market is rented, logged in to
/// and given back, and the metrics are read with the token that was made for that.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_compose_file_starts_rents_machines_from_end_to_end() {
    let home = tempfile::tempdir().unwrap();
    let folder = |name: &str| home.path().join(name);
    for name in ["credentials", "tokens", "data", "work"] {
        fs::create_dir(folder(name)).unwrap();
    }
    let here = |text: &str| {
        let moved = |text: String, name: &str| text.replace(&format!("/{name}"), &folder(name).display().to_string());
        ["credentials", "tokens", "data"].into_iter().fold(text.to_owned(), moved)
    };
    let run = |words: &[&str]| Command::new(words[0]).args(words[1..].iter().map(|word| here(word))).status().unwrap().success();
    let written = |name: &str| -> BTreeSet<String> {
        fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let private = |path: &str| fs::metadata(folder(path)).unwrap().permissions().mode() & 0o777;

    let tokens = service("tokens");
    let line = [words(&tokens["entrypoint"]), words(&tokens["command"])].concat();
    assert!(run(&line));
    let token = fs::read_to_string(folder("tokens/read-only")).unwrap();
    assert_eq!((token.len(), private("tokens/read-only")), (64, 0o600));
    assert!(run(&line));
    assert_eq!(fs::read_to_string(folder("tokens/read-only")).unwrap(), token, "it is made once");

    let market = service("market");
    let first = 21_000 + 100 * u16::try_from(std::process::id() % 100).unwrap();
    let command = words(&market["command"]).into_iter().map(|word| match word {
        "market" => "localhost".to_owned(),
        "20000-20099" => format!("{first}-{}", first + 99),
        word => here(word),
    });
    let command: Vec<String> = command.chain(["--vastai-port", "0", "--tensordock-port", "0"].map(str::to_owned)).collect();
    let running_market = Child::start(&command.iter().map(String::as_str).collect::<Vec<_>>(), &folder("work"), &Env::new());
    let check = words(&market["healthcheck"]["test"]);
    assert_eq!(check[0], "CMD");
    in_the_end("the market's health", async || run(&check[1..])).await;
    assert_eq!(private("credentials/vastai_api_key"), 0o600);
    let vastai = running_market.prints("VASTAI_BASE_URL=").await;
    let tensordock = running_market.prints("TENSORDOCK_BASE_URL=").await;
    let url = |line: &str| line.split(' ').next().unwrap().to_owned();
    assert!(url(&vastai).starts_with("http://localhost:"), "{vastai}");

    let server = service("server");
    assert_eq!(words(&server["command"]), ["serve"]);
    let mut settings: Env =
        server["environment"].as_object().unwrap().iter().map(|(name, value)| (name.clone(), here(value.as_str().unwrap()))).collect();
    for (name, value) in [
        ("SERVER_PORT", "0"),
        ("LOG_LEVEL", "info"),
        ("VASTAI_BASE_URL", &url(&vastai)),
        ("TENSORDOCK_BASE_URL", &url(&tensordock)),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", NOBODY),
    ] {
        assert!(settings.insert(name.to_owned(), value.to_owned()).is_some(), "{name}");
    }
    let mut served = Served::start(&folder("work"), &settings).await;
    let port = served.url.rsplit(':').next().unwrap().to_owned();
    served.url = format!("http://127.0.0.1:{port}");
    let stage = image();
    let check = stage.lines().find(|line| line.starts_with("HEALTHCHECK ")).unwrap();
    let check: Vec<String> = serde_json::from_str(&check[check.find('[').unwrap()..]).unwrap();
    assert_eq!(check[0], "gpu-shopper");
    settings.insert("SERVER_PORT".to_owned(), port);
    let ask: Vec<&str> = check[1..].iter().map(String::as_str).collect();
    in_the_end("the server's health", async || Child::start(&ask, &folder("work"), &settings).end().await.status.success()).await;

    for provider in ["vastai", "tensordock"] {
        let created = served.sessions().await.create_session(wanted(provider)).await.unwrap().into_inner();
        let id = created.session.unwrap().session_id;
        let running = served.until(&id, State::Running).await;
        assert_eq!(running.ssh_host, "localhost");
        assert!(log_in(&running, &created.ssh_private_key).await.contains("GPU 0"));
        served.complete(&id).await;
        served.until(&id, State::Stopped).await;
    }
    let job = yaml("deploy/prometheus/prometheus.yml")["scrape_configs"][0].clone();
    assert_eq!(here(job["authorization"]["credentials_file"].as_str().unwrap()), folder("tokens/read-only").display().to_string());
    let metrics = format!("{}{}", served.url, job["metrics_path"].as_str().unwrap());
    let scraped = http().get(&metrics).bearer_auth(&token).send().await.unwrap();
    assert_eq!(scraped.status(), 200);
    assert!(scraped.text().await.unwrap().contains("gpu_sessions_active"));
    assert_eq!(http().get(&metrics).send().await.unwrap().status(), 401);
    let rents = http().post(format!("{}/api/v1/sessions", served.url)).bearer_auth(&token).header("content-type", "application/json").body("{}");
    assert_eq!(rents.send().await.unwrap().status(), 403, "it may only look");
    served.stop().await;
    running_market.terminate();
    assert_eq!(running_market.end().await.status.code(), Some(0));

    assert_eq!(written("work"), BTreeSet::new(), "only the volumes can be written to");
    assert_eq!(written("tokens"), BTreeSet::from(["read-only".to_owned()]));
    assert_eq!(written("credentials"), ["tensordock_api_token", "tensordock_auth_id", "vastai_api_key"].map(str::to_owned).into());
}

/// What a test starts reaches nobody beyond this machine: it is told of a proxy that nobody is, and takes no way around it.
#[tokio::test(flavor = "multi_thread")]
async fn no_program_that_a_test_starts_reaches_a_vendor() {
    let home = tempfile::tempdir().unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    // A name that leads nowhere, so that nobody is called even if this fails.
    let mut settings = env(&[
        ("VASTAI_API_KEY", &"ab".repeat(32)),
        ("VASTAI_BASE_URL", "https://vendor.invalid"),
        ("SERVER_PORT", "0"),
        ("DATABASE_PATH", &home.path().join("house.db").display().to_string()),
    ]);
    let server = Served::start(home.path(), &settings).await;
    let told = fs::read(format!("/proc/{}/environ", server.child.id())).unwrap();
    for name in ["http_proxy", "https_proxy"] {
        assert!(told.split(|byte| *byte == 0).any(|pair| pair == format!("{name}={NOBODY}").as_bytes()), "{name}");
    }
    server.stop().await;

    settings.insert("https_proxy".to_owned(), address);
    let server = Served::start(home.path(), &settings).await;
    let asked = async {
        let (mut stream, _) = proxy.accept().await.unwrap();
        let mut bytes = vec![0; 1024];
        let read = stream.read(&mut bytes).await.unwrap();
        stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    };
    let asked = tokio::time::timeout(PATIENCE, asked).await.expect("the proxy is passed by");
    assert!(asked.starts_with("CONNECT vendor.invalid:443 HTTP/1.1\r\n"), "{asked}");
    assert!(!asked.contains(&"ab".repeat(32)), "the key is for the vendor alone");
    server.stop().await;
}
