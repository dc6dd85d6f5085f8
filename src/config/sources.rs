//! Where settings come from, as plain data, and how the layers are laid over each other: defaults, a settings file,
//! `.env`, the environment, the command line; the later wins.
//!
//! [`Sources::gather`] is the only place that reads the process's environment and the working directory. `.env` is
//! parsed into a map and never written into the process's environment. As everywhere with `.env` files, `$NAME` in a
//! value stands for another variable unless the value is in single quotes.

use super::fault::{Fault, Faults};
use super::settings::{self, SETTINGS, Setting};
use figment::providers::{Format, Toml, Yaml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The settings files looked for in the working directory.
pub const FILE_NAMES: &[&str] = &["gpu-shopper.toml", "gpu-shopper.yaml", "gpu-shopper.yml"];

/// Everything that settings are read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Values given on the command line, by key.
    pub flags: BTreeMap<String, String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The text of `.env`.
    pub dotenv: Option<String>,
    /// The settings file.
    pub file: Option<SettingsFile>,
}

/// A settings file and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsFile {
    /// Its path; the ending says TOML (`.toml`) or YAML (`.yaml`, `.yml`).
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

impl Sources {
    /// Reads the process's environment, and `.env` and the settings file of the working directory; `config` names
    /// another settings file.
    ///
    /// # Errors
    /// When a file is there and can't be read, `config` is missing, or two settings files lie side by side.
    pub fn gather(flags: BTreeMap<String, String>, config: Option<&Path>) -> Result<Self, Faults> {
        let env = std::env::vars_os().map(|(k, v)| (k.to_string_lossy().into_owned(), v.to_string_lossy().into_owned())).collect();
        Self::gather_in(Path::new("."), env, flags, config)
    }

    /// As [`Sources::gather`], with the folder and the environment given.
    ///
    /// # Errors
    /// As there.
    pub fn gather_in(folder: &Path, env: BTreeMap<String, String>, flags: BTreeMap<String, String>, config: Option<&Path>) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let unreadable = |path: &Path, error: &std::io::Error| Fault {
            key: path.display().to_string(),
            value: None,
            origin: String::new(),
            problem: format!("can't be read: {error}"),
        };
        let dotenv_path = folder.join(".env");
        let dotenv = match std::fs::read_to_string(&dotenv_path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                faults.push(unreadable(&dotenv_path, &error));
                None
            }
        };
        let found: Vec<PathBuf> = match config {
            Some(path) => vec![path.to_owned()],
            None => FILE_NAMES.iter().map(|name| folder.join(name)).filter(|path| path.exists()).collect(),
        };
        if let [one, two, ..] = found.as_slice() {
            faults.push(Fault {
                key: one.display().to_string(),
                value: None,
                origin: String::new(),
                problem: format!("lies beside {}: keep one of them, or choose with --config", two.display()),
            });
        }
        let mut file = None;
        if let Some(path) = found.first() {
            match std::fs::read_to_string(path) {
                Ok(text) => file = Some(SettingsFile { path: path.clone(), text }),
                Err(error) => faults.push(unreadable(path, &error)),
            }
        }
        if faults.is_empty() { Ok(Self { flags, env, dotenv, file }) } else { Err(Faults { faults, warnings: Vec::new(), no_provider: false }) }
    }
}

/// The layers, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    Default,
    File,
    Dotenv,
    Environment,
    Flag,
}

/// Where a value came from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub layer: Layer,
    pub text: String,
}

/// All layers laid over each other.
pub(super) struct Layered {
    figment: Figment,
    origins: Vec<Origin>,
    pub faults: Vec<Fault>,
    pub warnings: Vec<String>,
}

impl Layered {
    /// Lays the layers of `sources` over each other. With `only`, nothing but the defaults and these keys of the
    /// environment and the command line is taken.
    pub fn new(sources: &Sources, only: Option<&[&str]>) -> Self {
        let mut this = Self { figment: Figment::new(), origins: Vec::new(), faults: Vec::new(), warnings: Vec::new() };
        let taken = |setting: &Setting| only.is_none_or(|keys| keys.contains(&setting.key));
        for setting in SETTINGS.iter() {
            if let Some(default) = setting.default {
                this.put(setting.key, default.to_owned(), Layer::Default, "default".to_owned());
            }
        }
        if only.is_none() {
            if let Some(file) = &sources.file {
                this.put_file(file);
            }
            let dotenv = this.read_dotenv(sources.dotenv.as_deref().unwrap_or(""));
            this.put_variables(&dotenv, Layer::Dotenv, ".env", taken);
        }
        this.put_variables(&sources.env, Layer::Environment, "environment", taken);
        for (key, value) in &sources.flags {
            match settings::by_key(key) {
                Some(setting) if taken(setting) => this.put(key, value.clone(), Layer::Flag, "command line".to_owned()),
                Some(_) => {}
                None => this.faults.push(unknown(key, "command line")),
            }
        }
        this
    }

    /// A key's value and origin. A value that can't be a text is a fault, and then `None`.
    pub fn text(&mut self, setting: &Setting) -> Option<(String, Origin)> {
        let value = self.figment.find_value(setting.key).ok()?;
        let index = self.figment.get_metadata(value.tag()).and_then(|m| m.name.parse::<usize>().ok());
        let origin = index.and_then(|i| self.origins.get(i)).cloned()?;
        let quoted_only = matches!(setting.kind, settings::Kind::Text(_) | settings::Kind::Token | settings::Kind::Path);
        let text = match &value {
            Value::String(_, text) => Some(text.clone()),
            Value::Bool(_, on) if !quoted_only => Some(on.to_string()),
            Value::Num(_, n) if !quoted_only => {
                n.to_i128().map(|n| n.to_string()).or_else(|| n.to_u128().map(|n| n.to_string())).or_else(|| n.to_f64().map(|n| n.to_string()))
            }
            Value::Array(_, list) if matches!(setting.kind, settings::Kind::Names | settings::Kind::Origins) => {
                list.iter().map(|v| v.as_str()).collect::<Option<Vec<_>>>().map(|names| names.join(","))
            }
            _ => None,
        };
        match text {
            Some(text) => Some((text, origin)),
            None => {
                let hint = if quoted_only { ", in quotes" } else { "" };
                let problem = format!("must be {}{hint}", setting.kind.allowed());
                self.faults.push(Fault { key: setting.key.to_owned(), value: None, origin: origin.text, problem });
                None
            }
        }
    }

    fn put(&mut self, key: &str, value: String, layer: Layer, origin: String) {
        let nested = figment::util::nest(key, Value::from(value));
        self.lay(nested.into_dict().unwrap_or_default(), layer, origin);
    }

    fn lay(&mut self, values: Dict, layer: Layer, text: String) {
        let provider = Tagged { name: self.origins.len().to_string(), values };
        self.origins.push(Origin { layer, text });
        self.figment = std::mem::take(&mut self.figment).merge(provider);
    }

    fn put_variables(&mut self, vars: &BTreeMap<String, String>, layer: Layer, place: &str, taken: impl Fn(&Setting) -> bool) {
        for (name, value) in vars {
            match settings::by_env(name) {
                // An empty variable is one that is not set: compose files pass those.
                Some(setting) if taken(setting) && !value.is_empty() => self.put(setting.key, value.clone(), layer, format!("{place} {name}")),
                Some(_) => {}
                None if value.is_empty() => {}
                None => {
                    if let Some(hint) = settings::former(name) {
                        let joint = if hint.starts_with("did you mean") { ';' } else { ':' };
                        self.warnings.push(format!("{name} ({place}) is no setting of ours and is ignored{joint} {hint}"));
                    } else if let Some(ours) = settings::mistyped_env(name) {
                        self.warnings.push(format!("{name} ({place}) is no setting of ours and is ignored; did you mean {ours}?"));
                    }
                }
            }
        }
    }

    fn read_dotenv(&mut self, text: &str) -> BTreeMap<String, String> {
        let mut vars = BTreeMap::new();
        for item in dotenvy::from_read_iter(text.as_bytes()) {
            match item {
                Ok((name, value)) => {
                    vars.insert(name, value);
                }
                Err(error) => {
                    // The line itself may hold a secret: only its number is told.
                    let line = match &error {
                        dotenvy::Error::LineParse(line, _) => text.lines().position(|l| l.trim() == line.trim()),
                        _ => None,
                    };
                    let key = line.map_or_else(|| ".env".to_owned(), |n| format!(".env line {}", n + 1));
                    let problem = "can't be read: write NAME=value, with quotes around a value that has spaces".to_owned();
                    self.faults.push(Fault { key, value: None, origin: String::new(), problem });
                }
            }
        }
        vars
    }

    fn put_file(&mut self, file: &SettingsFile) {
        let ending = file.path.extension().and_then(|e| e.to_str()).unwrap_or("");
        let data = match ending {
            "toml" => Toml::string(&file.text).data(),
            "yaml" | "yml" => Yaml::string(&file.text).data(),
            _ => {
                let problem = "is no settings file: its name must end in .toml, .yaml or .yml".to_owned();
                self.faults.push(Fault { key: file.path.display().to_string(), value: None, origin: String::new(), problem });
                return;
            }
        };
        let name = file.path.file_name().map_or_else(|| file.path.display().to_string(), |n| n.to_string_lossy().into_owned());
        let origin = format!("file {name}");
        match data {
            Ok(mut profiles) => {
                let values = profiles.remove(&Profile::Default).unwrap_or_default();
                self.check_keys("", &values, &origin);
                self.lay(values, Layer::File, origin);
            }
            // An empty YAML document is no dictionary, and no fault either.
            Err(_) if file.text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#')) => {}
            Err(error) => {
                let problem = format!("can't be read: {}", without_source(&error.to_string()));
                self.faults.push(Fault { key: file.path.display().to_string(), value: None, origin: String::new(), problem });
            }
        }
    }

    fn check_keys(&mut self, prefix: &str, values: &Dict, origin: &str) {
        for (name, value) in values {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            let is_group = SETTINGS.iter().any(|s| s.key.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with('.')));
            match value {
                Value::Dict(_, inner) if is_group => self.check_keys(&key, inner, origin),
                // An empty group, as YAML has it when everything in it is a comment.
                Value::Empty(..) if is_group => {}
                _ if is_group => {
                    let problem = "is a group of settings, not a setting".to_owned();
                    self.faults.push(Fault { key, value: None, origin: origin.to_owned(), problem });
                }
                _ if settings::by_key(&key).is_some() => {}
                _ => self.faults.push(unknown(&key, origin)),
            }
        }
    }
}

fn unknown(key: &str, origin: &str) -> Fault {
    let hint = match (settings::former(key), settings::nearest_key(key)) {
        (Some(hint), _) => format!(": {hint}"),
        (None, Some(near)) => format!("; did you mean {near}?"),
        (None, None) => String::new(),
    };
    Fault { key: key.to_owned(), value: None, origin: origin.to_owned(), problem: format!("there is no such setting{hint}") }
}

/// A parser's message without what it quotes of the file, which may hold secrets.
fn without_source(message: &str) -> String {
    let quoted = |line: &str| line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|');
    let kept: Vec<&str> = message.lines().filter(|line| !quoted(line)).map(str::trim).filter(|l| !l.is_empty()).collect();
    let joined = kept.join(": ");
    let unquoted: Vec<&str> = joined.split('"').step_by(2).collect();
    unquoted.join("…").chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Values whose metadata name is the index of their origin.
struct Tagged {
    name: String,
    values: Dict,
}

impl Provider for Tagged {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}
