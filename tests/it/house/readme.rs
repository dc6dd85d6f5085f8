//! The README says what the code says.

use super::{block, is_word, readme, root, rows, sources, ticked};
use clap::Parser;
use gpu_shopper::cli::Cli;
use gpu_shopper::config::settings;
use gpu_shopper::grpc::{pb, status};
use gpu_shopper::http::api::route;
use gpu_shopper::http::json;
use gpu_shopper::services::{Code, Error};
use gpu_shopper::telemetry::{METRICS, MetricKind};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use std::collections::{BTreeMap, BTreeSet};

/// Metrics of the table that nothing records yet: they stay at zero, and the README says so.
const STILL_AT_ZERO: &[&str] = &[];

#[test]
fn the_readme_has_every_setting() {
    assert!(block("settings") == settings::markdown().trim(), "put this into README.md:\n{}", settings::markdown());
}

#[test]
fn the_readme_has_every_metric() {
    let mut table = String::from("| metric | kind | labels | what it tells |\n| --- | --- | --- | --- |\n");
    for m in METRICS {
        let kind = match m.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram(_) => "histogram",
        };
        let labels: Vec<String> = m.labels.iter().map(|(name, _)| format!("`{name}`")).collect();
        table.push_str(&format!("| `{}` | {kind} | {} | {} |\n", m.name, labels.join(" "), m.doc));
    }
    assert!(block("metrics") == table.trim(), "put this into README.md:\n{table}");
}

#[test]
fn the_readme_has_every_bucket() {
    let mut bounds: BTreeMap<Vec<String>, Vec<&str>> = BTreeMap::new();
    for m in METRICS {
        if let MetricKind::Histogram(buckets) = m.kind {
            bounds.entry(buckets.iter().map(ToString::to_string).collect()).or_default().push(m.name);
        }
    }
    let mut rows: Vec<(Vec<&str>, String)> = bounds.into_iter().map(|(bounds, names)| (names, bounds.join(", "))).collect();
    rows.sort();
    let mut table = String::from("| histogram | buckets up to |\n| --- | --- |\n");
    for (names, bounds) in rows {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        table.push_str(&format!("| {} | {bounds} |\n", names.join(" ")));
    }
    assert!(block("buckets") == table.trim(), "put this into README.md:\n{table}");
}

#[test]
fn every_metric_is_recorded_or_said_to_be_silent() {
    let all = sources();
    let recorded = |name: &str| all.iter().any(|s| !s.path.ends_with("telemetry/catalogue.rs") && s.words.contains(&format!("\"{name}\"")));
    let silent: Vec<&str> = METRICS.iter().map(|m| m.name).filter(|name| !recorded(name)).collect();
    let mut said = STILL_AT_ZERO.to_vec();
    said.retain(|name| METRICS.iter().any(|m| m.name == *name));
    assert_eq!(silent.iter().collect::<BTreeSet<_>>(), said.iter().collect::<BTreeSet<_>>());
    let limits = readme().split_once("\n## What is not there yet").map(|(_, rest)| rest.to_owned()).unwrap();
    let limits = limits.split("\n## ").next().unwrap();
    for name in STILL_AT_ZERO {
        assert!(limits.contains(&format!("`{name}`")), "README.md does not say that {name} stays at zero");
    }
}

/// Every code and reason that `Error::new(Code::X, "REASON", …)` makes somewhere.
pub fn reasons() -> BTreeMap<String, Code> {
    let codes = [
        Code::InvalidArgument,
        Code::OutOfRange,
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::NotFound,
        Code::AlreadyExists,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::ResourceExhausted,
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::Internal,
    ];
    let mut found = BTreeMap::new();
    for source in sources() {
        for (at, _) in source.words.match_indices("::new(") {
            let rest = source.words[at + "::new(".len()..].trim_start();
            let Some(rest) = rest.strip_prefix("Code::") else { continue };
            let word: String = rest.chars().take_while(|c| is_word(*c)).collect();
            let code = codes.into_iter().find(|c| format!("{c:?}") == word).unwrap_or_else(|| panic!("{}: Code::{word}", source.at(at)));
            let reason = rest[word.len()..].trim_start_matches(|c: char| c == ',' || c.is_whitespace());
            let reason = reason.strip_prefix('"').and_then(|r| r.split('"').next());
            let reason = reason.unwrap_or_else(|| panic!("{}: the reason is no literal", source.at(at)));
            let before = found.insert(reason.to_owned(), code);
            assert!(before.is_none_or(|b| b == code), "{reason} has two codes: {before:?} and {code:?}");
        }
    }
    assert!(found.len() > 10, "the search finds too little: {found:?}");
    found
}

/// `NOT_FOUND` of `NotFound`.
fn upper(code: tonic::Code) -> String {
    let gap = |(i, c): (usize, char)| if i > 0 && c.is_uppercase() { format!("_{c}") } else { c.to_ascii_uppercase().to_string() };
    format!("{code:?}").char_indices().map(gap).collect()
}

#[test]
fn the_readme_has_every_error() {
    let mut told = BTreeMap::new();
    for row in rows(&block("errors")) {
        let [reason, grpc, http, what] = row.as_slice() else { panic!("four cells: {row:?}") };
        assert!(!what.is_empty(), "{reason}");
        told.insert(ticked(reason).first().cloned().unwrap_or_default(), (grpc.clone(), http.clone()));
    }
    let mut real = BTreeMap::from(status::BEFORE_ANY_SERVICE.map(|(reason, code)| (reason.to_owned(), (upper(code), "–".to_owned()))));
    for (reason, code) in reasons() {
        let error = Error::new(code, Box::leak(reason.clone().into_boxed_str()), "");
        real.insert(reason, (upper(status::code(code)), json::status(&error).as_u16().to_string()));
    }
    assert_eq!(told, real);
}

#[test]
fn the_readme_names_only_methods_that_exist_and_all_of_them() {
    let set = FileDescriptorSet::decode(pb::DESCRIPTOR_SET).unwrap();
    let mut methods = BTreeSet::new();
    for file in set.file.iter().filter(|f| f.package().starts_with("gpushopper.")) {
        for service in &file.service {
            for method in &service.method {
                methods.insert(format!("{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    assert!(methods.len() > 15);
    let readme = readme();
    for (at, head) in readme.match_indices("gpushopper.v1.") {
        let path: String = readme[at..].chars().take_while(|c| is_word(*c) || matches!(c, '.' | '/')).collect();
        if path.len() > head.len() && path.contains('/') {
            assert!(methods.contains(path.trim_end_matches('.')), "README.md names {path}");
        }
    }
    let ticked: BTreeSet<String> = ticked(&block("rpcs")).into_iter().collect();
    let names: BTreeSet<String> = methods.iter().map(|m| m.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(ticked, names, "the README's list of RPCs");
}

#[test]
fn the_readme_has_every_route() {
    let told: BTreeSet<[String; 2]> = rows(&block("routes")).iter().map(|row| [ticked(&row[0]).remove(0), ticked(&row[1]).remove(0)]).collect();
    let name = |rpc: &str| rpc.rsplit('/').next().unwrap().to_owned();
    let real: BTreeSet<[String; 2]> = route::all().iter().map(|r| [format!("{} {}", r.method, r.path), name(r.rpc)]).collect();
    assert_eq!(told, real);
}

#[test]
fn the_readme_begins_with_two_commands_and_its_links_lead_somewhere() {
    let readme = readme();
    let first = readme.split("```").nth(1).unwrap();
    assert!(first.contains("cargo run --release -- demo") && first.contains("make test"), "{first}");
    for link in readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if let Some(anchor) = link.strip_prefix('#') {
            let headings = readme.lines().filter(|l| l.starts_with('#')).map(|l| {
                let text = l.trim_start_matches('#').trim().to_lowercase();
                text.chars().filter(|c| is_word(*c) || matches!(c, ' ' | '-')).map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
            });
            assert!(headings.into_iter().any(|h| h == anchor), "README.md: no heading for #{anchor}");
        } else if !link.starts_with("http") {
            assert!(root().join(link).exists(), "README.md: {link} does not exist");
        }
    }
}

/// Lines of a shell, words in single quotes kept together, redirections and comments left out.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            '>' | '#' if !quoted => break,
            ' ' if !quoted => words.extend(Some(std::mem::take(&mut word)).filter(|w| !w.is_empty())),
            c => word.push(c),
        }
    }
    words.extend(Some(word).filter(|w| !w.is_empty()));
    words
}

#[test]
fn every_command_line_of_the_readme_is_one() {
    let (readme, mut seen) = (readme(), 0);
    let blocks = readme.split("```sh").skip(1).filter_map(|rest| rest.split("```").next());
    for line in blocks.flat_map(str::lines) {
        let line = line.trim().replace("cargo run --release -- ", "gpu-shopper ");
        if line.starts_with("gpu-shopper ") {
            seen += 1;
            if let Err(error) = Cli::try_parse_from(shell_words(&line)) {
                panic!("README.md: {line}\n{error}");
            }
        }
    }
    assert!(seen > 10, "{seen}");
}
