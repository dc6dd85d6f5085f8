//! Floor 4: the command line. Most commands ask the server over gRPC and write a table or JSON; the others are a server,
//! or what it is made of.
//!
//! Commands that ask take their arguments and a [`Desk`] (where to write, whom to ask), so that tests run them in-process.
//! Nothing here decides anything about sessions: that is the server's.

pub mod backup;
pub mod chaos;
pub mod client;
pub mod config;
pub mod costs;
pub mod demo;
pub mod drain;
pub mod failure;
pub mod follow;
pub mod health;
pub mod inventory;
pub mod json;
pub mod load;
pub mod operator;
pub mod ops;
pub mod output;
mod pinned;
pub mod provision;
pub mod serve;
pub mod sessions;
pub mod sim;
pub mod ssh;
pub mod token;
pub mod values;
pub mod watch;
pub mod words;

use crate::cli::client::{Bearer, Clients, Server, Trust};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Console, Format};
use crate::clock::Clock;
use crate::config::{self as settings, Config, Sources};
use crate::server::beside;
use clap::{Args, CommandFactory, Parser, Subcommand};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

/// The whole command line.
#[derive(Parser, Clone, Debug)]
#[command(name = "gpu-shopper", version, about = "Shops GPU marketplaces and hands over verified machines by SSH", after_help = after_help())]
pub struct Cli {
    /// Whom to ask, and how to write.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Arguments that go with every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// The server: http://host:port, https://host:port or host:port (https with --ca-cert or --client-cert, else http);
    /// default: where the settings here have one listen, as `gpu-shopper config` shows them
    #[arg(long, global = true, env = "GPU_SHOPPER_URL", value_name = "URL")]
    pub server: Option<Server>,
    /// Trust only this certificate authority (a PEM file) with https; default: the system's
    #[arg(long, global = true, env = "GPU_SHOPPER_CA_CERT", value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    /// The certificate (a PEM file) to show to a server that asks for one
    #[arg(long, global = true, env = "GPU_SHOPPER_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    /// The private key (a PEM file) of that certificate
    #[arg(long, global = true, env = "GPU_SHOPPER_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
    /// The token that says who calls. Others on this machine can see command lines: better the variable, or a file
    #[arg(long, global = true, env = "GPU_SHOPPER_TOKEN", hide_env_values = true, value_name = "TOKEN", value_parser = secret)]
    pub token: Option<SecretString>,
    /// A file with the token; default, for a server on this machine: the one beside its database
    #[arg(long, global = true, env = "GPU_SHOPPER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How to write results
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    pub output: Format,
}

/// What to do.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Ask a server
    #[command(flatten)]
    Ask(Box<Ask>),
    /// Run the server
    #[command(after_help = "Examples:
  gpu-shopper serve
  gpu-shopper serve --port 9090 --database /var/lib/gpu-shopper/gpu-shopper.db --set log.level=debug")]
    Serve(serve::ServeArgs),
    /// Play the main job once, visibly, against simulated marketplaces, and keep serving
    #[command(after_help = "Examples:
  gpu-shopper demo
  gpu-shopper demo --once")]
    Demo(demo::DemoArgs),
    /// Run both simulated marketplaces
    #[command(after_help = "Examples:
  gpu-shopper sim
  gpu-shopper sim --preset field --seed 7")]
    Sim(sim::SimArgs),
    /// Live many simulated days in which everything goes wrong, and look for a broken law
    #[command(after_help = "Examples:
  gpu-shopper chaos --seeds 300 --hours 24
  gpu-shopper chaos --seed 17 --seeds 1
  gpu-shopper chaos --seeds 20 --wrong launch-again")]
    Chaos(chaos::ChaosArgs),
    /// Show the server's settings and where each comes from
    #[command(after_help = "Examples:
  gpu-shopper config
  gpu-shopper config --config gpu-shopper.toml -o json")]
    Config(config::ConfigArgs),
    /// Copy the database and its secret, whether or not the server runs
    #[command(after_help = "Examples:
  gpu-shopper backup /backup/gpu-shopper-2026-11-23.db
  gpu-shopper backup copy.db --database /var/lib/gpu-shopper/gpu-shopper.db -o json")]
    Backup(backup::BackupArgs),
}

impl Command {
    /// The commands that talk while they run, and have no result to write: their names, and where a program finds what it may
    /// look for.
    const fn talks(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Serve(_) => Some(("serve", "its log is JSON with LOG_FORMAT=json")),
            Self::Demo(_) => Some(("demo", "its log is JSON with LOG_FORMAT=json")),
            Self::Sim(_) => Some(("sim", "its marketplaces tell the truth as JSON at /_sim/truth")),
            Self::Ask(_) | Self::Chaos(_) | Self::Config(_) | Self::Backup(_) => None,
        }
    }
}

/// What to ask a server.
#[derive(Subcommand, Clone, Debug)]
pub enum Ask {
    /// What can be rented now
    Inventory(inventory::InventoryArgs),
    /// Rent a machine and wait until it is ready
    Provision(Box<provision::ProvisionArgs>),
    /// Look at sessions, use them, end them
    Sessions(sessions::SessionsArgs),
    /// What sessions cost
    Costs(costs::CostsArgs),
    /// Whether the server is ready
    #[command(after_help = "Examples:
  gpu-shopper health
  gpu-shopper --server http://gpu.example:8080 health --live
  SERVER_PORT=9090 gpu-shopper health

Without --server and GPU_SHOPPER_URL it asks where the settings here (environment, .env, gpu-shopper.toml) have the server
listen, by TLS with SERVER_TLS_CERT: the health check of a container needs nothing else. The exit code is 0 when it is ready (with --live: when it answers), 7 when it is not, or can't be reached.")]
    Health(health::HealthArgs),
    /// How the providers do
    #[command(after_help = "Examples:\n  gpu-shopper providers\n  gpu-shopper providers -o json")]
    Providers,
    /// Machines that should be gone and are not proven so
    #[command(after_help = "Examples:\n  gpu-shopper debts\n  gpu-shopper debts -o json")]
    Debts,
    /// End every session: shows them first, ends them with --yes
    #[command(after_help = "Examples:
  gpu-shopper drain
  gpu-shopper drain --yes
  gpu-shopper drain --yes --no-wait -o json

The exit code is 0 when every session is over (or, without --yes, could be shown), 130 when the wait was interrupted.")]
    Drain(drain::DrainArgs),
    /// Make, list and end tokens: who may call
    Token(token::TokenArgs),
    /// An operator's view and orders: strays, holds, debts, spending, the failure memory
    Ops(ops::OpsArgs),
    /// Load a server on this machine, and measure what it takes
    Load(load::LoadArgs),
    /// Write completions for a shell
    #[command(after_help = "Examples:
  gpu-shopper completions bash > ~/.local/share/bash-completion/completions/gpu-shopper
  gpu-shopper completions zsh > ~/.zfunc/_gpu-shopper
  gpu-shopper completions fish > ~/.config/fish/completions/gpu-shopper.fish")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// What ends a wait from outside.
#[derive(Clone, Debug)]
pub enum Interrupt {
    /// Ctrl-C. Until somebody waits for it, it ends the process as usual.
    Keyboard,
    /// A token: for callers in the same process.
    Token(CancellationToken),
}

impl Interrupt {
    /// Returns when it happens.
    pub async fn wait(&self) {
        match self {
            Self::Keyboard => {
                if tokio::signal::ctrl_c().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            Self::Token(token) => token.cancelled().await,
        }
    }

    /// Keeps Ctrl-C from ending the process for as long as this is polled.
    pub async fn ignore(&self) -> Infallible {
        match self {
            Self::Keyboard => loop {
                self.wait().await;
            },
            Self::Token(_) => std::future::pending().await,
        }
    }
}

/// Where a caller's token comes from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// This one.
    Given(SecretString),
    /// The one in this file.
    File(PathBuf),
    /// For a server on this machine the one in the file beside its database, where the settings say that this is; else none.
    Database,
    /// None.
    Nowhere,
}

impl TokenSource {
    fn read(&self, server: &Server) -> Result<Option<SecretString>, Failure> {
        match self {
            Self::Given(token) => Ok(Some(token.clone())),
            Self::File(path) => match std::fs::read_to_string(path) {
                Ok(text) if !text.trim().is_empty() => Ok(Some(text.trim().into())),
                Ok(_) => Err(Failure::new(Exit::Denied, "TOKEN_FILE", format!("the token file {} is empty", path.display()))),
                Err(error) => Err(Failure::new(Exit::Denied, "TOKEN_FILE", format!("cannot read the token file {}: {error}", path.display()))),
            },
            Self::Database if server.is_here() => {
                // Settings that make no sense are the server's to complain about.
                let database = Sources::gather(BTreeMap::new(), None).and_then(|sources| Config::load(&sources)).map(|config| config.database_path);
                let text = database.ok().and_then(|path| std::fs::read_to_string(beside(&path, "token")).ok());
                Ok(text.filter(|text| !text.trim().is_empty()).map(|text| text.trim().into()))
            }
            Self::Database | Self::Nowhere => Ok(None),
        }
    }
}

fn secret(text: &str) -> Result<SecretString, Infallible> {
    Ok(text.into())
}

/// What a command works with: where it writes, whom it asks, what time it is.
pub struct Desk {
    /// Where it writes.
    pub console: Console,
    /// Whom it asks.
    pub server: Server,
    /// Whom to trust with https, and how to be trusted.
    pub trust: Trust,
    /// Who is asking.
    pub token: TokenSource,
    /// The time.
    pub clock: Clock,
    /// What ends its waits.
    pub interrupt: Interrupt,
}

impl Desk {
    /// The process's own desk.
    #[must_use]
    pub fn standard(global: &GlobalArgs) -> Self {
        let client = global.client_cert.clone().zip(global.client_key.clone());
        let mut trust = Trust { ca_cert: global.ca_cert.clone(), client, pinned: None };
        let server = match &global.server {
            Some(server) => server.clone().trusting(&trust),
            None => {
                // What else is wrong with the settings is the server's to complain about.
                let own = settings::server(&Sources::gather(BTreeMap::new(), None).unwrap_or_default());
                trust.pinned = own.tls.as_ref().filter(|_| trust.ca_cert.is_none()).map(|tls| tls.cert.clone());
                Server::of(&own)
            }
        };
        Self {
            console: Console::standard(global.output),
            server,
            trust,
            token: match (&global.token, &global.token_file) {
                (Some(token), _) => TokenSource::Given(token.clone()),
                (None, Some(file)) => TokenSource::File(file.clone()),
                (None, None) => TokenSource::Database,
            },
            clock: Clock::System,
            interrupt: Interrupt::Keyboard,
        }
    }

    /// Connects to the server.
    ///
    /// # Errors
    /// When nobody answers, or the token can't be read.
    pub async fn connect(&self) -> Result<Clients, Failure> {
        let token = self.token.read(&self.server)?;
        Clients::connect(&self.server, &self.trust, Bearer::new(token.as_ref())?).await
    }
}

/// Understands a command line; a wrong one is told, as JSON where that is what it asks for.
///
/// # Errors
/// The exit code, where there is nothing to run: it was wrong, or help was asked for.
pub fn understand(line: &[OsString]) -> Result<Cli, ExitCode> {
    Cli::try_parse_from(line).map_err(|error| {
        if error.use_stderr() && wants_json(line) {
            let mut console = Console::standard(Format::Json);
            return ExitCode::from(done(Err(Failure::misspelt(&error)), &mut console));
        }
        drop(error.print());
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()))
    })
}

/// Whether a line that could not be understood asks for JSON. What comes after `--` is another program's.
fn wants_json(line: &[OsString]) -> bool {
    let words: Vec<_> = line.iter().map(|word| word.to_string_lossy()).take_while(|word| word != "--").collect();
    let joined = ["-ojson", "-o=json", "--output=json"];
    words.iter().any(|word| joined.contains(&word.as_ref()))
        || words.windows(2).any(|pair| ["-o", "--output"].contains(&pair[0].as_ref()) && pair[1] == "json")
}

/// Runs a command line to its end.
pub async fn run(cli: Cli) -> ExitCode {
    if cli.global.output == Format::Json
        && let Some((name, instead)) = cli.command.talks()
    {
        let text = format!("`{name}` writes no result that could be JSON, so `-o json` does nothing there: leave it out; {instead}");
        let mut console = Console::standard(cli.global.output);
        return ExitCode::from(done(Err(Failure::usage(text)), &mut console));
    }
    match cli.command {
        Command::Ask(ask) => ExitCode::from(perform(*ask, &mut Desk::standard(&cli.global)).await),
        Command::Serve(args) => serve::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Sim(args) => sim::run(args).await,
        Command::Chaos(args) => chaos::run(&args, cli.global.output),
        Command::Backup(args) => ExitCode::from(backup::run(args, &mut Console::standard(cli.global.output)).await),
        Command::Config(args) => {
            let mut console = Console::standard(cli.global.output);
            ExitCode::from(done(config::run(&args, &mut console).map(|()| Exit::Ok.code()), &mut console))
        }
    }
}

/// Asks at a desk, tells there what went wrong, and returns the exit code: one of [`Exit::TABLE`], or that of
/// a program run on a session's machine.
pub async fn perform(ask: Ask, desk: &mut Desk) -> u8 {
    let done = match ask {
        Ask::Inventory(args) => inventory::run(args, desk).await.map(Exit::code),
        Ask::Provision(args) => provision::run(*args, desk).await.map(Exit::code),
        Ask::Sessions(args) => sessions::run(args, desk).await,
        Ask::Costs(args) => costs::run(args, desk).await.map(Exit::code),
        Ask::Health(args) => health::run(args, desk).await.map(Exit::code),
        Ask::Providers => operator::providers(desk).await.map(Exit::code),
        Ask::Debts => operator::debts(desk).await.map(Exit::code),
        Ask::Drain(args) => drain::run(args, desk).await.map(Exit::code),
        Ask::Token(args) => token::run(args, desk).await.map(Exit::code),
        Ask::Ops(args) => ops::run(args, desk).await.map(Exit::code),
        Ask::Load(args) => load::run(args, desk).await.map(Exit::code),
        Ask::Completions { shell } => completions(shell, desk).map(Exit::code),
    };
    self::done(done, &mut desk.console)
}

/// The exit code; what went wrong is told.
fn done(done: Result<u8, Failure>, console: &mut Console) -> u8 {
    done.unwrap_or_else(|failure| {
        console.failure(&failure);
        failure.exit.code()
    })
}

fn completions(shell: clap_complete::Shell, desk: &mut Desk) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "gpu-shopper", &mut script);
    desk.console.raw(&script)?;
    Ok(Exit::Ok)
}

fn after_help() -> String {
    let mut text = String::from(
        "Examples:
  gpu-shopper inventory --gpu 'RTX 4090' --max-price 0.40
  gpu-shopper provision -g 'RTX 4090' --max-price 0.40 -t 2h --save-key key.pem
  gpu-shopper sessions exec SESSION -i key.pem -- nvidia-smi -L
  gpu-shopper sessions done SESSION
  gpu-shopper costs --group-by day,consumer

Exit codes:",
    );
    for (exit, meaning) in Exit::TABLE {
        text.push_str(&format!("\n  {:>3}  {meaning}", exit.code()));
    }
    text.push_str("\n\n`sessions ssh` and `sessions exec` end with the exit code of what ran on the machine.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// The words of a line as a shell reads them, up to a redirection.
    fn shell_words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for c in line.trim().chars() {
            match c {
                '\'' => quoted = !quoted,
                '>' if !quoted => break,
                ' ' if !quoted => words.extend(Some(std::mem::take(&mut word)).filter(|w| !w.is_empty())),
                c => word.push(c),
            }
        }
        words.extend(Some(word).filter(|w| !w.is_empty()));
        words
    }

    #[test]
    fn every_command_has_examples_and_every_argument_a_word_of_help() {
        fn look(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.get_name() == "help" {
                return;
            }
            assert!(command.get_about().is_some(), "{path} has no description");
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                examples.contains("Examples:") || command.is_subcommand_required_set() && examples.contains("gpu-shopper"),
                "{path} has no examples"
            );
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{path}: {} has no help", argument.get_id());
            }
            for line in examples.lines().filter(|l| l.starts_with("  gpu-shopper ")) {
                if let Err(error) = Cli::try_parse_from(shell_words(line)) {
                    panic!("the example of{path} does not parse: {line}\n{error}");
                }
            }
            for child in command.get_subcommands() {
                look(child, &path);
            }
        }
        let mut command = Cli::command();
        command.build();
        look(&command, "");
    }

    #[test]
    fn the_help_lists_every_exit_code() {
        let help = Cli::command().render_help().to_string();
        for (exit, meaning) in Exit::TABLE {
            assert!(help.contains(&format!("{:>3}  {meaning}", exit.code())), "{exit:?}");
        }
    }
}
