//! `token`: makes, lists and ends tokens, at a server or, where none runs, in its database file.

use crate::cli::client::asking;
use crate::cli::failure::{Exit, Failure, clean};
use crate::cli::json::Message;
use crate::cli::output::Table;
use crate::cli::provision::KeyFile;
use crate::cli::values::{duration, to_wire};
use crate::cli::{Desk, words};
use crate::grpc::convert::tokens;
use crate::grpc::pb;
use crate::ports::SystemChance;
use crate::services::access::{Access, Limits, Parts};
use crate::services::api::Caller;
use crate::store::{Mode, Options, Store};
use clap::{Args, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Who may call.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  gpu-shopper token create ci --role consumer --consumer ci --save ci.token
  gpu-shopper token list
  gpu-shopper token revoke ci")]
pub struct TokenArgs {
    /// What to do
    #[command(subcommand)]
    pub command: TokenCommand,
    /// Ask no server: work on this database file, on which none may run
    #[arg(long, global = true, value_name = "FILE")]
    pub database: Option<PathBuf>,
}

/// What to do with tokens.
#[derive(Subcommand, Clone, Debug)]
pub enum TokenCommand {
    /// Make a token; its text is shown this once
    #[command(after_help = "Examples:
  gpu-shopper token create ci --role consumer --consumer ci --save ci.token
  gpu-shopper token create prometheus --role read-only --for 2160h
  gpu-shopper token create boss --role admin --database data/gpu-shopper.db")]
    Create {
        /// Its name, which stands for its bearer in events and in the audit; each is given once
        name: String,
        /// What its bearer may do
        #[arg(long, value_enum)]
        role: TokenRole,
        /// The consumer whose sessions alone its bearer sees and touches; default: all
        #[arg(short, long, value_name = "NAME")]
        consumer: Option<String>,
        /// How long it is good: 12h, 720h; default: until it is revoked
        #[arg(short = 't', long = "for", value_name = "DURATION", value_parser = duration)]
        lifetime: Option<Duration>,
        /// Write it to this new file, which only you can read, instead of showing it
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
    },
    /// Every token there is or was, without its text
    #[command(after_help = "Examples:\n  gpu-shopper token list\n  gpu-shopper token list -o json")]
    List,
    /// End a token at once, with the streams that it has open
    #[command(after_help = "Examples:\n  gpu-shopper token revoke ci\n  gpu-shopper token revoke ci --database data/gpu-shopper.db")]
    Revoke {
        /// Its name
        name: String,
    },
}

/// What the bearer of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TokenRole {
    /// Everything
    Admin,
    /// Rent, use and end sessions, and look at them
    Consumer,
    /// Look; without a consumer at everything
    ReadOnly,
}

impl TokenRole {
    const fn wire(self) -> pb::TokenRole {
        match self {
            Self::Admin => pb::TokenRole::Admin,
            Self::Consumer => pb::TokenRole::Consumer,
            Self::ReadOnly => pb::TokenRole::ReadOnly,
        }
    }
}

/// Runs `token`.
///
/// # Errors
/// What the server says; when a file can't be written; when a server has the database.
pub async fn run(args: TokenArgs, desk: &mut Desk) -> Result<Exit, Failure> {
    let place = match &args.database {
        Some(path) => Place::File(open(path).await?),
        None => Place::Server,
    };
    match args.command {
        TokenCommand::Create { name, role, consumer, lifetime, save } => {
            let request = pb::CreateTokenRequest { name, role: role.wire().into(), consumer_id: consumer, lifetime: lifetime.map(to_wire) };
            create(request, save, &place, desk).await
        }
        TokenCommand::List => list(&place, desk).await,
        TokenCommand::Revoke { name } => revoke(pb::RevokeTokenRequest { name }, &place, desk).await,
    }
}

/// Where the tokens are.
enum Place {
    Server,
    File(Access),
}

/// The tokens of a database file.
async fn open(path: &Path) -> Result<Access, Failure> {
    let failed = |error: crate::store::Error| Failure::local("DATABASE", clean(&error.to_string()));
    if !path.exists() {
        return Err(Failure::local("DATABASE", format!("there is no database {}", path.display())));
    }
    let options = Options { path: path.to_owned(), mode: Mode::Threaded, holder: "gpu-shopper token".to_owned() };
    let store = tokio::task::spawn_blocking(move || Store::open(options)).await;
    let store = store.map_err(|_| Failure::local("DATABASE", "opening the database broke off"))?.map_err(failed)?;
    let (limits, clock) = (Limits { per_second: 0, streams: 0 }, crate::clock::Clock::System);
    let parts = Parts { required: false, fixed: Vec::new(), hint: String::new(), limits, store, chance: Arc::new(SystemChance), clock };
    Access::open(parts).await.map_err(failed)
}

/// Whoever may write the file may do everything.
fn owner() -> Caller {
    Caller { principal: String::new(), scope: None, admin: true, request: String::new() }
}

/// What a server would have answered.
fn refused(error: crate::services::Error) -> Failure {
    let status: tonic::Status = error.into();
    status.into()
}

async fn create(request: pb::CreateTokenRequest, save: Option<PathBuf>, place: &Place, desk: &mut Desk) -> Result<Exit, Failure> {
    let file = save.as_deref().map(KeyFile::create).transpose()?;
    let answer = match place {
        Place::Server => desk.connect().await?.operator.create_token(asking(request)).await?.into_inner(),
        Place::File(access) => {
            let new = tokens::create(&request).map_err(refused)?;
            let (token, text) = access.create(&owner(), new).await.map_err(refused)?;
            tokens::created(&token, &text)
        }
    };
    let mut answer = answer;
    let token = answer.token.clone().unwrap_or_default();
    let saved = match file {
        Some(file) => {
            file.fill(&format!("{}\n", answer.token_text))?;
            answer.token_text.clear();
            Some(file.keep())
        }
        None => None,
    };
    if desk.console.is_json() {
        desk.console.json(&Message::of("CreateTokenResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    match saved {
        Some(path) => desk.console.line(&format!("{}: token {} ({})", path.display(), clean(&token.name), whose(&token)))?,
        None => {
            desk.console.line(&answer.token_text)?;
            desk.console.note(&format!("token {} ({}); it is not shown again", clean(&token.name), whose(&token)));
        }
    }
    desk.console.note("give it to commands by GPU_SHOPPER_TOKEN or --token-file, to others as the header `Authorization: Bearer TOKEN`");
    Ok(Exit::Ok)
}

async fn list(place: &Place, desk: &mut Desk) -> Result<Exit, Failure> {
    let answer = match place {
        Place::Server => desk.connect().await?.operator.list_tokens(asking(pb::ListTokensRequest {})).await?.into_inner(),
        Place::File(access) => tokens::listed(&access.list().await.map_err(refused)?),
    };
    if desk.console.is_json() {
        desk.console.json(&Message::of("ListTokensResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let now = desk.clock.now();
    let mut table = Table::new(["NAME", "ROLE", "CONSUMER", "MADE", "BY", "USED", "STATE"]);
    for token in &answer.tokens {
        let expired = words::time(token.expire_time.as_ref()).is_some_and(|at| at <= now);
        let state = match (&token.revoke_time, &token.expire_time) {
            (Some(at), _) => format!("revoked {} by {}", words::moment(Some(at)), clean(&token.revoked_by)),
            (None, Some(at)) => format!("{} {}", if expired { "expired" } else { "good until" }, words::moment(Some(at))),
            (None, None) => "good".to_owned(),
        };
        table.row([
            words::text(&token.name).into(),
            words::token_role(token.role).into(),
            words::text(token.consumer_id.as_deref().unwrap_or_default()).into(),
            words::moment(token.create_time.as_ref()).into(),
            words::text(&token.created_by).into(),
            words::moment(token.last_used_time.as_ref()).into(),
            state.into(),
        ]);
    }
    desk.console.table(&table, "no tokens")?;
    Ok(Exit::Ok)
}

async fn revoke(request: pb::RevokeTokenRequest, place: &Place, desk: &mut Desk) -> Result<Exit, Failure> {
    let answer = match place {
        Place::Server => desk.connect().await?.operator.revoke_token(asking(request)).await?.into_inner(),
        Place::File(access) => {
            let name = tokens::revoke(&request).map_err(refused)?;
            tokens::revoked(&access.revoke(&owner(), &name).await.map_err(refused)?)
        }
    };
    if desk.console.is_json() {
        desk.console.json(&Message::of("RevokeTokenResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let token = answer.token.unwrap_or_default();
    desk.console.line(&format!("token {} ({}) is good no more", clean(&token.name), whose(&token)))?;
    Ok(Exit::Ok)
}

fn whose(token: &pb::Token) -> String {
    let role = words::token_role(token.role);
    let scope = token.consumer_id.as_deref().map(|consumer| format!(", {} only", clean(consumer))).unwrap_or_default();
    let until = token.expire_time.as_ref().map(|at| format!(", until {}", words::moment(Some(at)))).unwrap_or_default();
    format!("{role}{scope}{until}")
}
