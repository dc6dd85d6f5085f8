//! `serve`: the real server.

use crate::config::{self, Config, LogFormat, OnShutdown, Sources};
use crate::providers;
use crate::server::{Left, Server};
use crate::telemetry::{self, Telemetry};
use clap::Args;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Arguments of `serve`.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Keep only this share of the vendors' shortest intervals between calls, in percent; below 100 only where every provider
    /// is a simulated one at a loopback address
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    pace: Option<u32>,
}

/// Settings that can be given on the command line.
#[derive(Args, Clone, Debug, Default)]
pub struct SettingsArgs {
    /// A settings file (TOML or YAML) instead of gpu-shopper.toml or .yaml in the working directory
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on [setting: server.host]
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Port to listen on [setting: server.port]
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
    /// Database file [setting: database.path]
    #[arg(long, value_name = "FILE")]
    pub database: Option<String>,
    /// Any other setting, as key=value; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl SettingsArgs {
    /// What was given, by key.
    ///
    /// # Errors
    /// A `--set` without `=`.
    pub fn flags(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut flags = BTreeMap::new();
        for (key, value) in [("server.host", &self.host), ("server.port", &self.port), ("database.path", &self.database)] {
            if let Some(value) = value {
                flags.insert(key.to_owned(), value.clone());
            }
        }
        for pair in &self.set {
            let (key, value) = pair.split_once('=').ok_or_else(|| anyhow::anyhow!("--set {pair}: write it as key=value, such as log.level=debug"))?;
            flags.insert(key.to_owned(), value.to_owned());
        }
        Ok(flags)
    }
}

/// Runs until SIGTERM or Ctrl-C. Exit code 0 after a drain; 1 when it can't start, when a second signal cut the drain
/// short, or when sessions were to be ended and not all are proven gone.
pub async fn run(args: ServeArgs) -> ExitCode {
    // Until the settings are read, as far as the environment alone tells.
    let env = std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())).collect();
    let mut voice = Voice::of(config::log_format(&Sources { env, flags: args.settings.flags().unwrap_or_default(), ..Sources::default() }));
    match serve(args, &mut voice).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            voice.fail(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: ServeArgs, voice: &mut Voice) -> anyhow::Result<()> {
    let sources = Sources::gather(args.settings.flags()?, args.settings.config.as_deref())?;
    *voice = Voice::of(config::log_format(&sources));
    let voice = *voice;
    let config = Config::load(&sources).map_err(config::Faults::of_server)?;
    if let Err(none) = config.require_provider() {
        // A name that was mistyped may be why.
        config.warnings.iter().for_each(|warning| voice.warn(warning));
        return Err(none.into());
    }
    let pace = args.pace.unwrap_or(100);
    if pace < 100 && !config.only_loopback_providers() {
        anyhow::bail!("--pace {pace}: real vendors are called at their own pace; below 100 every provider's base URL must be a loopback one");
    }
    let telemetry = install(&config)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let mut signals = Signals::new()?;
    let mut hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    let at_terminal = std::io::stderr().is_terminal();
    let server = Server::start(&config, &telemetry, pace).await?;
    voice.tell(&format!("gpu-shopper listens on {}", server.url()));
    if server.login.is_empty() {
        voice.tell("callers need no token");
    } else {
        voice.tell(&format!("callers need a token; {}", server.login));
    }
    if let Some(why) = &server.frozen {
        voice.tell(&format!("frozen: {why}"));
    }
    let gave_up = loop {
        tokio::select! {
            () = signals.wait() => break false,
            () = server.core().failed.cancelled() => break true,
            Some(()) = hangups.recv() => {
                // A terminal that was closed sends the same signal, and means the end.
                if at_terminal && !std::io::stderr().is_terminal() {
                    break false;
                }
                read_again(&server, &args.settings).await;
            }
        }
    };
    let destroys = config.lifecycle.on_shutdown == OnShutdown::Destroy && !gave_up;
    if destroys {
        let within = config.shutdown_destroy_timeout;
        voice
            .tell(&format!("ending every session (LIFECYCLE_ON_SHUTDOWN=destroy), at most {} s; a second signal ends the waiting", within.as_secs()));
        server.end_sessions(within, signals.wait(), |line| voice.tell(line)).await;
    }
    voice.tell(&format!("draining (at most {} s); nothing {}is destroyed", config.shutdown_drain.as_secs(), if destroys { "more " } else { "" }));
    let url = server.url();
    let left = tokio::select! {
        biased;
        left = server.stop() => left,
        () = signals.wait() => {
            anyhow::bail!("stopped by a second signal before the drain was over. Nothing is lost: start again on the same database");
        }
    };
    telemetry.shutdown().await;
    voice.tell(farewell(&left, &url).trim_end());
    if gave_up {
        anyhow::bail!("the lifecycle gave up; the log says why. Nothing is lost: start again on the same database");
    }
    if destroys && !left.sessions.is_empty() {
        anyhow::bail!("not everything is proven gone; start again on the same database and it goes on");
    }
    Ok(())
}

/// Reads the settings again for the sake of the credentials in them. What is wrong with them now changes nothing.
async fn read_again(server: &Server, settings: &SettingsArgs) {
    let read = || -> anyhow::Result<Config> { Ok(Config::load(&Sources::gather(settings.flags()?, settings.config.as_deref())?)?) };
    match read() {
        Ok(config) => drop(server.renew(&config).await),
        Err(error) => tracing::error!("SIGHUP: the settings are wrong now, so nothing changes: {error:#}"),
    }
}

/// Something was told and is not taken yet.
static UNHEARD: AtomicBool = AtomicBool::new(false);

/// What a server tells a person on standard error, beside its log: in lines of the log where those are objects and not a
/// terminal shows them, else plainly.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    plain: bool,
}

impl Voice {
    /// For a log of this format.
    #[must_use]
    pub fn of(format: LogFormat) -> Self {
        Self { plain: format == LogFormat::Text || std::io::stderr().is_terminal() }
    }

    /// Says something, without a newline at its end. Whether anybody listens must not matter: a drain goes on when its terminal
    /// is gone, and when nobody reads what it has written.
    pub fn tell(self, text: &str) {
        self.say(tracing::Level::INFO, "", text);
    }

    /// The same of what may be wrong.
    pub fn warn(self, text: &str) {
        self.say(tracing::Level::WARN, "warning: ", text);
    }

    /// The same of what is wrong.
    pub fn fail(self, text: &str) {
        self.say(tracing::Level::ERROR, "error: ", text);
    }

    fn say(self, level: tracing::Level, mark: &str, text: &str) {
        let line = if self.plain { format!("{mark}{text}\n") } else { telemetry::told(level, text) + "\n" };
        let (told, heard) = std::sync::mpsc::channel();
        let speaking = std::thread::Builder::new().spawn(move || {
            let _ = std::io::stderr().write_all(line.as_bytes());
            UNHEARD.store(false, Ordering::Relaxed);
            let _ = told.send(());
        });
        // A pipe that nobody empties is not waited for again while it stays full.
        let patience = if UNHEARD.load(Ordering::Relaxed) { Duration::ZERO } else { Duration::from_secs(1) };
        if speaking.is_ok() && heard.recv_timeout(patience).is_err() {
            UNHEARD.store(true, Ordering::Relaxed);
        }
    }
}

/// Logs, traces and metrics for this process.
///
/// # Errors
/// When they can't be set up.
pub fn install(config: &Config) -> anyhow::Result<Telemetry> {
    let names = providers::REGISTER.iter().map(|e| e.name).collect();
    Ok(Telemetry::install(&telemetry::Settings { log: config.log, otlp_endpoint: config.otlp_endpoint.clone(), providers: names })?)
}

/// What stays after the server, and what it costs.
#[must_use]
pub fn farewell(left: &Left, url: &str) -> String {
    if left.sessions.is_empty() {
        return "stopped; no session is open\n".to_owned();
    }
    let (many, together) = match left.sessions.len() {
        1 => ("1 session stays as it is".to_owned(), "at"),
        n => (format!("{n} sessions stay as they are"), "together"),
    };
    let mut text = format!("stopped; {many}, {together} {}:\n", left.rate);
    for session in &left.sessions {
        let machine = if session.machine.is_empty() { "no machine yet" } else { &session.machine };
        text.push_str(&format!("  {}  {:<12}  {machine}  {}  expires {}\n", session.id, session.state, session.rate, session.expires_at));
    }
    text.push_str("without a server nobody ends them, not even when they expire. They go on when it starts again on the same database; then, to end one or all:\n");
    if let Some(session) = left.sessions.first() {
        text.push_str(&format!("  gpu-shopper --server {url} sessions destroy {}\n", session.id));
    }
    text.push_str(&format!("  gpu-shopper --server {url} drain --yes\n"));
    text
}

/// SIGTERM and Ctrl-C, heard from the moment this is made.
pub struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Resolves at the next of them.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
