//! The rules of the house, as tests: who may use whom, what must not appear where, and that the README says what the
//! code says. A rule that nobody tests is advice.
//!
//! Sources are read as text with comments and strings blanked out, which is enough for rules about names and paths. It
//! is no parser: a rule that needs types belongs to clippy or the compiler. Every exception stands here with its reason.

mod known;
mod outside;
mod readme;
mod refusals;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Top-level modules by floor. A new one has to be put somewhere before anything compiles into a green build.
const FLOORS: &[(u8, &[&str])] = &[
    (0, &["domain", "clock"]),
    (1, &["ports", "store"]),
    (2, &["services", "providers", "ssh", "sim"]),
    (3, &["grpc", "http"]),
    (4, &["app", "chaos", "cli", "config", "server", "telemetry", "main", "lib"]),
];

/// Neighbours on one floor that may use each other. Floor 4 is the place where everything meets.
const NEIGHBOURS: &[(&str, &str, &str)] = &[
    ("clock", "domain", "a clock shows domain::time::Time"),
    ("http", "grpc", "JSON requests and answers are the contract's messages under other names: one check, one shape for both faces"),
];

/// Modules on a lower floor that a module may not use all the same.
const NEVER: &[(&str, &str, &str)] = &[
    ("domain", "clock", "time is an argument"),
    ("providers", "store", "vendors' adapters keep nothing"),
    ("ssh", "store", "a probe keeps nothing"),
    ("sim", "store", "the market is no part of the service"),
    ("grpc", "store", "a face decides and reads nothing by itself"),
    ("http", "store", "a face decides and reads nothing by itself"),
];

/// External crates that belong to few modules.
const CRATES: &[(&str, &[&str])] = &[
    ("diesel", &["store"]),
    ("diesel_migrations", &["store"]),
    ("tonic", &["grpc", "cli"]),
    ("tonic_types", &["grpc", "cli"]),
    ("tonic_health", &["grpc", "cli"]),
    ("tonic_reflection", &["grpc"]),
    ("tonic_web", &["grpc"]),
    ("prost", &["grpc", "http", "cli"]),
    ("prost_types", &["grpc", "http", "cli"]),
    ("axum", &["grpc", "http", "sim", "server"]),
    // The settings read addresses with its `Url`; `load` asks a simulated market.
    ("reqwest", &["providers", "config", "cli"]),
    ("thrussh", &["ssh", "sim"]),
    ("thrussh_keys", &["ssh", "sim"]),
    ("figment", &["config"]),
    ("clap", &["cli", "main"]),
    ("clap_complete", &["cli"]),
    ("hdrhistogram", &["cli"]),
];

/// Files that may read tokio's clock, which pauses in simulated worlds.
const TOKIO_INSTANTS: &[(&str, &str)] = &[
    ("src/clock.rs", "the place for it"),
    ("src/providers/lanes.rs", "rate lanes and breaker wait in tokio's time and never tell anybody the time"),
    ("src/cli/demo.rs", "elapsed time in front of each line"),
];

/// Files that may draw random numbers without `ports::Chance`.
const RANDOM: &[(&str, &str)] = &[
    ("src/ports.rs", "the place for it"),
    ("src/ssh/keys.rs", "the secret beside the database is drawn once from the system"),
    ("src/http/ops.rs", "names of requests; nothing is decided by them"),
    ("src/cli/provision.rs", "names of requests, in the caller's own process"),
    ("src/chaos/", "seeded: a world's own generator"),
    ("src/sim/catalogue.rs", "seeded: the market's own generator"),
    ("src/sim/market.rs", "seeded: the market's own generator"),
    ("src/sim/state.rs", "seeded: the market's own generator"),
    ("src/sim/faults.rs", "seeded: the market's own generator"),
];

const MOST_LINES: usize = 900;

// === reading sources ===

struct Source {
    /// From the repository's root: `src/domain/ids.rs`.
    path: String,
    /// Comments and the insides of strings blanked, lines kept.
    code: String,
    /// Comments blanked, strings kept.
    words: String,
}

impl Source {
    fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        let (code, words) = blanked(&text);
        let (mut code, mut words) = (code.into_bytes(), words.into_bytes());
        // Test modules are no part of the house.
        for (from, to) in tests_in(std::str::from_utf8(&code).unwrap()) {
            for bytes in [&mut code, &mut words] {
                for byte in bytes[from..to].iter_mut().filter(|b| **b != b'\n') {
                    *byte = b' ';
                }
            }
        }
        let string = |bytes| String::from_utf8(bytes).unwrap();
        Self { path: path.to_owned(), code: string(code), words: string(words) }
    }

    /// `domain` of `src/domain/ids.rs`, `clock` of `src/clock.rs`.
    fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
    }

    /// How many `super::` lead from here to the crate's root.
    fn depth(&self) -> usize {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.trim_end_matches(".rs").split('/').filter(|part| !matches!(*part, "mod" | "lib" | "main")).count()
    }

    fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    fn at(&self, at: usize) -> String {
        format!("{}:{}", self.path, self.line(at))
    }

    /// Top-level modules of this crate that the code names, with where.
    fn uses(&self) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        let own = |at: usize| !self.code[..at].ends_with(|c: char| c == '$' || c == ':' || is_word(c));
        for head in ["crate::", "gpu_shopper::"] {
            for (at, _) in self.code.match_indices(head).filter(|(at, _)| own(*at)) {
                found.extend(names_after(&self.code[at + head.len()..]).into_iter().map(|name| (name, at)));
            }
        }
        let up = "super::".repeat(self.depth());
        if !up.is_empty() {
            for (at, _) in self.code.match_indices(&up).filter(|(at, _)| own(*at)) {
                found.extend(names_after(&self.code[at + up.len()..]).into_iter().map(|name| (name, at)));
            }
        }
        found
    }

    /// Where a path begins with this external crate's name.
    fn external(&self, name: &str) -> Vec<usize> {
        let path = format!("{name}::");
        let heads = self.code.match_indices(&path).map(|(at, _)| at);
        heads.filter(|at| !self.code[..*at].ends_with(|c: char| c == ':' || c == '.' || is_word(c))).collect()
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The first name of a path, or the first names of a group: `{ids::X, time}` → `ids`, `time`.
fn names_after(rest: &str) -> Vec<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|c| is_word(*c)).collect::<String>();
    let Some(inside) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let (mut depth, mut part, mut names) = (1, String::new(), Vec::new());
    for c in inside.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            names.push(name(&part));
            part.clear();
            if depth == 0 {
                break;
            }
        } else {
            part.push(c);
        }
    }
    names.into_iter().filter(|n| !n.is_empty()).collect()
}

/// The text with comments and strings blanked, and with comments alone blanked; both as long as the text.
fn blanked(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let (mut code, mut words) = (bytes.to_vec(), bytes.to_vec());
    let blank = |out: &mut Vec<u8>, from: usize, to: usize| out[from..to].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    let find = |from: usize, what: &str| text[from..].find(what).map_or(bytes.len(), |n| from + n);
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let before = at.checked_sub(1).map_or(b' ', |i| bytes[i]);
        let fresh = !(before.is_ascii_alphanumeric() || before == b'_');
        let hashes = rest.iter().skip(1).take_while(|b| **b == b'#').count();
        if rest.starts_with(b"//") {
            let end = find(at, "\n");
            blank(&mut code, at, end);
            blank(&mut words, at, end);
            at = end;
        } else if rest.starts_with(b"/*") {
            let end = (find(at, "*/") + 2).min(bytes.len());
            blank(&mut code, at, end);
            blank(&mut words, at, end);
            at = end;
        } else if rest[0] == b'r' && (fresh || before == b'b') && rest.get(1 + hashes) == Some(&b'"') {
            let from = at + hashes + 2;
            let end = find(from, &format!("\"{}", "#".repeat(hashes)));
            blank(&mut code, from, end);
            at = end + 1 + hashes;
        } else if rest[0] == b'"' {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            let end = end.min(bytes.len());
            blank(&mut code, at + 1, end);
            at = end + 1;
        } else if rest[0] == b'\'' {
            // A character, unless it is a lifetime.
            let end = if rest.get(1) == Some(&b'\\') {
                find(at + 3, "'")
            } else {
                let wide = text[at + 1..].chars().next().map_or(1, char::len_utf8);
                at + 1 + wide
            };
            if bytes.get(end) == Some(&b'\'') {
                blank(&mut code, at + 1, end);
                at = end + 1;
            } else {
                at += 1;
            }
        } else {
            at += 1;
        }
    }
    (String::from_utf8(code).unwrap(), String::from_utf8(words).unwrap())
}

/// Where `#[cfg(test)]` items begin and end.
fn tests_in(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (from, _) in code.match_indices("#[cfg(test)]") {
        let mut depth = 0;
        let end = code[from..].char_indices().find_map(|(i, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            ((c == '}' || c == ';') && depth == 0).then_some(from + i + 1)
        });
        found.push((from, end.unwrap_or(code.len())));
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder that are ours, from the root.
fn files(below: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path: PathBuf = entry.unwrap().path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), ".git" | "target" | "data" | "node_modules" | "__pycache__" | ".venv" | "dist") {
                    folders.push(path);
                }
            } else if name != ".git" {
                found.push(path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// The product's sources; test-only files are left out.
fn sources() -> Vec<Source> {
    let files = files("src").into_iter().filter(|f| f.ends_with(".rs") && !f.ends_with("/tests.rs"));
    files.map(|f| Source::read(&f)).collect()
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// What stands between `<!-- name -->` and `<!-- /name -->` in the README.
fn block(name: &str) -> String {
    let (readme, begin, end) = (readme(), format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let inside = readme.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end)).map(|(inside, _)| inside.trim().to_owned());
    inside.unwrap_or_else(|| panic!("README.md has no block between {begin} and {end}"))
}

/// The cells of a Markdown table's rows, the head left out.
fn rows(table: &str) -> Vec<Vec<String>> {
    let lines = table.lines().filter(|l| l.starts_with('|')).skip(2);
    lines.map(|l| l.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// All texts in backticks.
fn ticked(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[track_caller]
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

// === floors ===

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, modules)| modules.contains(&module)).map(|(floor, _)| *floor)
}

#[test]
fn every_module_has_its_floor() {
    let modules: BTreeSet<String> = sources().iter().map(|s| s.module().to_owned()).collect();
    let placed: BTreeSet<String> = FLOORS.iter().flat_map(|(_, modules)| modules.iter().map(|m| (*m).to_owned())).collect();
    assert_eq!(modules, placed);
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for module in modules.iter().filter(|m| !matches!(m.as_str(), "lib" | "main")) {
        assert!(map.contains(&format!("[`{module}`]")), "src/lib.rs, the map, does not name {module}");
    }
}

#[test]
fn floors_use_only_those_below() {
    let mut found = Vec::new();
    for source in sources() {
        let from = source.module();
        let own = floor(from).unwrap();
        for (to, at) in source.uses() {
            // Names that are no module are items of lib.rs or macros: there are none.
            let Some(theirs) = floor(&to) else {
                found.push(format!("{}: {to} is no module of the house", source.at(at)));
                continue;
            };
            let neighbours = NEIGHBOURS.iter().any(|(a, b, _)| *a == from && *b == to);
            let fine = to == from || theirs < own || neighbours || own == 4;
            if !fine {
                found.push(format!("{}: {from} (floor {own}) uses {to} (floor {theirs})", source.at(at)));
            }
            if let Some((_, _, why)) = NEVER.iter().find(|(a, b, _)| *a == from && *b == to) {
                found.push(format!("{}: {from} uses {to}, but {why}", source.at(at)));
            }
        }
    }
    none("arrows between floors that must not be", &found);
}

#[test]
fn the_simulation_does_not_know_our_meter() {
    let found = sources().into_iter().filter(|s| s.module() == "sim");
    let found: Vec<String> =
        found.filter(|s| s.code.contains("meter::") || s.code.contains("domain::meter") || s.code.contains(".accrued(")).map(|s| s.path).collect();
    none("its bills must be its own", &found);
}

#[test]
fn libraries_stay_where_they_belong() {
    let mut found = Vec::new();
    for source in sources() {
        for (name, homes) in CRATES {
            if !homes.contains(&source.module()) {
                found.extend(source.external(name).into_iter().map(|at| format!("{}: {name}", source.at(at))));
            }
        }
    }
    none("libraries outside their home", &found);
}

/// What the domain may use besides itself: words and numbers.
#[test]
fn the_domain_is_pure() {
    let mut found = Vec::new();
    for source in sources().into_iter().filter(|s| s.module() == "domain") {
        for line in source.code.lines().map(str::trim).filter(|l| l.starts_with("use ") || l.starts_with("pub use ")) {
            let head: String = line.trim_start_matches("pub ").trim_start_matches("use ").chars().take_while(|c| is_word(*c)).collect();
            // An upper-case head is a type of the same file.
            let own = head.starts_with(char::is_uppercase) || ["std", "serde", "serde_with", "crate", "super", "self"].contains(&head.as_str());
            if !own && !root().join(format!("src/domain/{head}.rs")).exists() {
                found.push(format!("{}: {line}", source.path));
            }
        }
        for name in ["tokio", "diesel", "tonic", "reqwest", "axum", "prost", "http", "hyper", "tracing", "metrics", "rand", "thrussh", "futures"] {
            found.extend(source.external(name).into_iter().map(|at| format!("{}: {name}", source.at(at))));
        }
        for word in ["std::fs", "std::net", "std::env", "std::thread", "async fn", ".await"] {
            found.extend(source.code.match_indices(word).map(|(at, _)| format!("{}: {word}", source.at(at))));
        }
    }
    none("the domain decides, and nothing else", &found);
}

// === foreign words stop at the door ===

#[test]
fn sql_stays_in_the_store() {
    let mut found = Vec::new();
    for source in sources().into_iter().filter(|s| s.module() != "store") {
        // The demo prints a line to paste.
        if source.path == "src/cli/demo.rs" {
            continue;
        }
        for word in ["SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM", "PRAGMA ", "BEGIN IMMEDIATE", "SAVEPOINT"] {
            found.extend(source.words.match_indices(word).map(|(at, _)| format!("{}: {word}", source.at(at))));
        }
    }
    none("SQL outside of store/", &found);
}

#[test]
fn protobuf_and_domain_meet_only_in_convert() {
    let mut found = Vec::new();
    for source in sources() {
        let pb: Vec<usize> = source.code.match_indices("pb::").filter(|(at, _)| !source.code[..*at].ends_with(is_word)).map(|(at, _)| at).collect();
        let module = source.module();
        if let Some(at) = pb.first()
            && !matches!(module, "grpc" | "http" | "cli")
        {
            found.push(format!("{}: {module} speaks protobuf", source.at(*at)));
        }
        let face = module == "grpc" && !source.path.starts_with("src/grpc/convert/");
        // The settings of the face name the providers; nothing is converted there. The JSON face asks and answers by the same
        // conversions, and waits and errors in between are in the services' words.
        if face && source.path != "src/grpc/mod.rs" && !pb.is_empty() {
            found.extend(source.uses().into_iter().filter(|(name, _)| name == "domain").map(|(_, at)| format!("{}: pb and domain", source.at(at))));
        }
    }
    none("wire and domain mixed outside of grpc/convert/ and the command line", &found);
}

#[test]
fn vendors_words_stay_in_their_folders() {
    let mut found = Vec::new();
    for source in sources() {
        if !matches!(source.module(), "domain" | "services" | "store" | "grpc" | "http" | "ports" | "ssh") {
            continue;
        }
        for (number, line) in source.words.lines().enumerate() {
            let lower = line.to_lowercase();
            // An example of an offer id in a message is for people.
            if (lower.contains("vast") || lower.contains("tensordock")) && !lower.contains("such as vastai-") {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    none("a vendor's name outside of providers/, sim/ and the wiring", &found);
}

#[test]
fn statuses_are_made_in_one_place() {
    let mut found = Vec::new();
    for source in sources().into_iter().filter(|s| s.path != "src/grpc/status.rs") {
        for (at, head) in source.code.match_indices("Status::") {
            let after = &source.code[at + head.len()..];
            // `Status::from` is the conversion that stands in that one place.
            let made = after.starts_with(|c: char| c.is_ascii_lowercase()) && !after.starts_with("from)");
            if made && !source.code[..at].ends_with(is_word) {
                found.push(source.at(at));
            }
        }
    }
    none("a tonic::Status outside of grpc/status.rs", &found);
}

// === time and chance ===

#[test]
fn only_the_clock_reads_a_clock() {
    let mut found = Vec::new();
    for source in sources().into_iter().filter(|s| s.path != "src/clock.rs") {
        for word in ["SystemTime", "std::time::Instant", "Timestamp::now", "Zoned::now", "Utc::now", "UNIX_EPOCH"] {
            found.extend(source.code.match_indices(word).map(|(at, _)| format!("{}: {word}", source.at(at))));
        }
        if !TOKIO_INSTANTS.iter().any(|(path, _)| *path == source.path) {
            found.extend(source.code.match_indices("Instant::now").map(|(at, _)| format!("{}: Instant::now", source.at(at))));
        }
    }
    none("clocks are read elsewhere", &found);
}

#[test]
fn chance_comes_from_its_port() {
    let mut found = Vec::new();
    for source in sources().into_iter().filter(|s| !RANDOM.iter().any(|(path, _)| s.path.starts_with(path))) {
        for name in ["rand", "rand_chacha", "getrandom"] {
            found.extend(source.external(name).into_iter().map(|at| format!("{}: {name}", source.at(at))));
        }
    }
    none("random numbers that no seed decides", &found);
}

// === manners ===

#[test]
fn nothing_is_left_undone() {
    let undone: Vec<String> = ["TO", "FIX", "XX", "HA"].iter().zip(["DO", "ME", "X", "CK"]).map(|(a, b)| format!("{a}{b}")).collect();
    let mut found = Vec::new();
    for path in files("") {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        if path == "Cargo.lock" {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let words: BTreeSet<&str> = line.split(|c: char| !is_word(c)).collect();
            if undone.iter().any(|w| words.contains(w.as_str())) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    for source in sources() {
        for word in ["todo!", "unimplemented!", "dbg!"] {
            found.extend(source.code.match_indices(word).map(|(at, _)| format!("{}: {word}", source.at(at))));
        }
    }
    none("unfinished", &found);
}

#[test]
fn nothing_panics_on_purpose() {
    let mut found = Vec::new();
    for source in sources() {
        for word in [".unwrap()", ".expect(", ".unwrap_err()", ".expect_err(", "panic!", "unreachable!", "process::exit", "process::abort"] {
            found.extend(source.code.match_indices(word).map(|(at, _)| format!("{}: {word}", source.at(at))));
        }
    }
    none("panics outside of tests", &found);
}

#[test]
fn money_is_never_a_float() {
    let exact = ["src/domain/money.rs", "src/domain/meter.rs", "src/services/costs.rs", "src/store/segments.rs", "src/sim/billing.rs"];
    let money = ["money", "price", "cost", "rate", "amount", "nano", "pico", "usd", "dollar", "bill", "balance", "credit", "dph", "spend", "budget"];
    let mut found = Vec::new();
    for source in sources() {
        for (number, line) in source.code.lines().enumerate() {
            let words: BTreeSet<String> = line.split(|c: char| !is_word(c)).map(str::to_lowercase).collect();
            if !words.contains("f64") && !words.contains("f32") && !words.contains("as_secs_f64") {
                continue;
            }
            let parts = words.iter().flat_map(|w| w.split('_'));
            // Prometheus knows floats only: the one gauge of dollars leaves the house there, and nothing reads it back.
            let leaves = source.path == "src/services/counters.rs" && line.contains(".set(nanos as f64 / 1e9)");
            let about_money = !leaves && parts.into_iter().any(|part| money.contains(&part.trim_end_matches('s')));
            if exact.contains(&source.path.as_str()) || about_money {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    none("floats near money", &found);
}

#[test]
fn every_file_says_what_it_is() {
    let rust = files("").into_iter().filter(|f| f.ends_with(".rs"));
    let mute: Vec<String> = rust.filter(|f| !fs::read_to_string(root().join(f)).unwrap().starts_with("//! ")).collect();
    none("files without a header", &mute);
}

#[test]
fn files_are_read_in_one_sitting() {
    /// Longer files, with the reason.
    const LONGER: &[(&str, &str)] = &[("clients/rust/src/generated/gpushopper_v1.rs", "generated from the contract, comments included")];
    let rust = files("").into_iter().filter(|f| f.ends_with(".rs") && !LONGER.iter().any(|(path, _)| path == f));
    let long = rust.map(|f| (fs::read_to_string(root().join(&f)).unwrap().lines().count(), f));
    let long: Vec<String> = long.filter(|(lines, _)| *lines > MOST_LINES).map(|(lines, f)| format!("{f}: {lines} lines")).collect();
    none("too long", &long);
}

#[test]
fn names_say_what_things_are() {
    let empty = ["util", "utils", "helper", "helpers", "common", "manager", "misc"];
    let mut found = Vec::new();
    for path in files("src").into_iter().chain(files("tests")) {
        let parts = path.split(['/', '.', '_', '-']).map(str::to_lowercase);
        if parts.into_iter().any(|part| empty.contains(&part.as_str())) {
            found.push(path);
        }
    }
    for source in sources() {
        for head in ["struct ", "enum ", "trait ", "fn ", "mod ", "type "] {
            for (at, _) in source.code.match_indices(head).filter(|(at, _)| !source.code[..*at].ends_with(is_word)) {
                let name: String = source.code[at + head.len()..].chars().take_while(|c| is_word(*c)).collect();
                let snake: String = name.chars().flat_map(|c| if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] }).collect();
                if snake.split('_').any(|part| empty.contains(&part)) {
                    found.push(format!("{}: {name}", source.at(at)));
                }
            }
        }
    }
    none("names that say nothing", &found);
}

/// Nobody else's machine, and nothing about how this came to be, stands in the repository.
#[test]
fn the_repository_speaks_of_the_project_alone() {
    // Put together here, so that this file does not find itself. `/home/user` is where TensorDock's images log in.
    let paths = [concat!("/wo", "rk/"), concat!("/Us", "ers/"), concat!("/mnt", "/"), concat!("C:", "\\")];
    let names = [
        concat!("clau", "de"),
        concat!("anthro", "pic"),
        concat!("chat", "gpt"),
        concat!("DESIGN", ".md"),
        concat!("LESSONS", ".md"),
        concat!("work", "tree"),
    ];
    let mut found = Vec::new();
    for path in files("").into_iter().filter(|p| p != "Cargo.lock") {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let homes = line.match_indices(concat!("/ho", "me/")).any(|(at, home)| !line[at + home.len()..].starts_with("user"));
            if homes || paths.iter().any(|p| line.contains(p)) || names.iter().any(|n| line.to_lowercase().contains(&n.to_lowercase())) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none("words that belong elsewhere", &found);
}

#[test]
fn one_command_tests_everything_and_lands_nothing_unseen() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    for command in ["cargo fmt --check", "cargo clippy --all-targets -- -D warnings", "cargo test"] {
        assert!(makefile.lines().any(|l| l.trim() == command), "`make test` does not run `{command}`");
    }
    let run = root().join(".ci/run");
    let text = fs::read_to_string(&run).unwrap();
    for part in ["make test", "chaos --seeds 300 --hours 24", "demo --once", "make deny"] {
        assert!(text.contains(part), ".ci/run does not run `{part}`");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert!(fs::metadata(&run).unwrap().permissions().mode() & 0o111 != 0, ".ci/run can't be executed");
    }
}

#[test]
fn the_licence_is_the_one_that_the_package_names() {
    assert!(fs::read_to_string(root().join("Cargo.toml")).unwrap().contains("license = \"MIT\""));
    assert!(fs::read_to_string(root().join("LICENSE")).unwrap().starts_with("MIT License"));
}

/// The rules rest on this reading of Rust.
#[test]
fn comments_strings_and_tests_are_told_apart() {
    let text = "use crate::{a::B, c, d::{e, f}}; // crate::g\nlet s = \"crate::h \\\" \"; let c = '\"'; let l: &'static str = r#\"crate::i \" \"#;\n#[cfg(test)]\nmod tests { use crate::j; }\nfn k() {}";
    let (code, words) = blanked(text);
    assert_eq!((code.len(), words.len()), (text.len(), text.len()));
    assert!(!code.contains("crate::g") && !code.contains("crate::h") && !code.contains("crate::i") && code.contains("crate::j"));
    assert!(words.contains("crate::h") && words.contains("crate::i") && !words.contains("crate::g"));
    assert_eq!(names_after("{a::B, c, d::{e, f}}; "), ["a", "c", "d"]);
    let tests = tests_in(&code);
    assert_eq!(tests.len(), 1);
    assert!(code[tests[0].0..tests[0].1].ends_with("crate::j; }"));
}
