//! `ops`: what an operator looks at and orders. What destroys or settles asks first; where nobody can be asked it needs
//! `--yes`.

mod health;
mod looks;
mod orders;

pub use health::{HealthKind, OfferHealthArgs};

use crate::cli::Desk;
use crate::cli::failure::{Exit, Failure};
use crate::cli::operator;
use crate::cli::values::{PageArgs, duration, moment};
use crate::domain::time::Time;
use crate::grpc::pb;
use clap::{Args, Subcommand, ValueEnum};
use std::time::Duration;

/// What an operator looks at and orders.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  gpu-shopper ops spend
  gpu-shopper ops strays
  gpu-shopper ops destroy-instance vastai 17294410
  gpu-shopper ops hold vastai launches --for 2h --reason 'the vendor migrates'")]
pub struct OpsArgs {
    /// What to do
    #[command(subcommand)]
    pub command: OpsCommand,
}

/// What an operator does.
#[derive(Subcommand, Clone, Debug)]
pub enum OpsCommand {
    /// List the machines at every provider, or one, now
    #[command(after_help = "Examples:
  gpu-shopper ops sweep
  gpu-shopper ops sweep vastai -o json

Waits until that was looked at, a minute at most. The exit code is 1 when a provider gave no complete list.")]
    Sweep {
        /// Only there
        provider: Option<String>,
    },
    /// Machines with a label of this deployment that no record wants
    #[command(after_help = "Examples:
  gpu-shopper ops strays
  gpu-shopper ops strays --provider vastai -o json")]
    Strays(WhereArgs),
    /// Machines on the accounts that are not of this deployment; they are never touched
    #[command(after_help = "Examples:
  gpu-shopper ops foreign
  gpu-shopper ops foreign --provider tensordock -o json")]
    Foreign(WhereArgs),
    /// Keep a stray: make it a running session
    #[command(after_help = "Examples:
  gpu-shopper ops adopt vastai 17294410
  gpu-shopper ops adopt vastai 17294410 --consumer alice --for 2h")]
    Adopt {
        /// Where it is
        provider: String,
        /// The vendor's id of it
        instance: String,
        /// Whose session it becomes; default: default
        #[arg(short, long, value_name = "NAME")]
        consumer: Option<String>,
        /// How long, from now: 90m, 2h, 1h30m; default: 1h
        #[arg(short = 't', long = "for", value_name = "DURATION", value_parser = duration)]
        reservation: Option<Duration>,
    },
    /// Destroy a stray, or an orphan that waits
    #[command(after_help = "Examples:
  gpu-shopper ops destroy-instance vastai 17294410
  gpu-shopper ops destroy-instance vastai 17294410 --yes -o json")]
    DestroyInstance {
        /// Where it is
        provider: String,
        /// The vendor's id of it
        instance: String,
        /// Don't ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Machines that should be gone and are not proven so (also: gpu-shopper debts)
    #[command(after_help = "Examples:\n  gpu-shopper ops debts\n  gpu-shopper ops debts -o json")]
    Debts,
    /// Try to destroy such a machine at once, without waiting for its next turn
    #[command(after_help = "Examples:\n  gpu-shopper ops retry gs-5abn2v1n-01kaphz700fay8vvr14d2pf2db-1")]
    Retry {
        /// The machine's label, as `ops debts` shows it
        label: String,
    },
    /// Say that such a machine is surely gone: the last way out
    #[command(after_help = "Examples:
  gpu-shopper ops settle gs-5abn2v1n-01kaphz700fay8vvr14d2pf2db-1 --reason 'not in the console any more'
  gpu-shopper ops settle gs-5abn2v1n-01kaphz700fay8vvr14d2pf2db-1 --reason 'account closed' --yes

It is written down who said so. If the machine is seen again it is destroyed all the same.")]
    Settle {
        /// The machine's label, as `ops debts` shows it
        label: String,
        /// Why you are sure
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Don't ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Hold something at a provider, or lift the hold
    #[command(after_help = "Examples:
  gpu-shopper ops hold vastai launches --for 2h --reason 'the vendor migrates'
  gpu-shopper ops hold vastai expiry --until 2026-11-23T22:00:00Z --reason 'our network is down'
  gpu-shopper ops hold vastai sweeper --lift")]
    Hold(HoldArgs),
    /// The holds in force, and whether the database is frozen
    #[command(after_help = "Examples:\n  gpu-shopper ops holds\n  gpu-shopper ops holds --provider vastai -o json")]
    Holds(WhereArgs),
    /// Say that the database is what it should be: everything automatic goes on
    #[command(after_help = "Examples:
  gpu-shopper ops accept-database
  gpu-shopper ops accept-database --yes

Look at `sessions list`, `ops strays` and `ops foreign` before: what is overdue by this database ends then.")]
    AcceptDatabase {
        /// Don't ask
        #[arg(short, long)]
        yes: bool,
    },
    /// What operators have ordered, the latest first
    #[command(after_help = "Examples:\n  gpu-shopper ops audit\n  gpu-shopper ops audit --all -o json")]
    Audit {
        /// How many
        #[command(flatten)]
        page: PageArgs,
    },
    /// How launches went by provider, host, machine and offer, and what is set aside until when
    OfferHealth(OfferHealthArgs),
    /// What is spent per hour now, by provider
    #[command(after_help = "Examples:\n  gpu-shopper ops spend\n  gpu-shopper ops spend -o json")]
    Spend,
}

/// At which provider.
#[derive(Args, Clone, Debug, Default)]
pub struct WhereArgs {
    /// Only at this provider
    #[arg(short, long, value_name = "NAME")]
    pub provider: Option<String>,
}

/// A hold.
#[derive(Args, Clone, Debug)]
pub struct HoldArgs {
    /// Where
    pub provider: String,
    /// What is held
    #[arg(value_enum)]
    pub kind: Kind,
    /// For so long: 90m, 2h; default: until it is lifted
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, conflicts_with_all = ["until", "lift"])]
    pub length: Option<Duration>,
    /// Until then (RFC 3339); default: until it is lifted
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "lift")]
    pub until: Option<Time>,
    /// Why; it is written down
    #[arg(long, value_name = "TEXT", required_unless_present = "lift")]
    pub reason: Option<String>,
    /// Lift the hold
    #[arg(long)]
    pub lift: bool,
}

/// What can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// No new machines
    Launches,
    /// Nothing is destroyed that nobody asked to destroy
    Sweeper,
    /// Nothing ends by the clock
    Expiry,
}

impl Kind {
    const fn wire(self) -> pb::HoldKind {
        match self {
            Self::Launches => pb::HoldKind::Launches,
            Self::Sweeper => pb::HoldKind::Sweeper,
            Self::Expiry => pb::HoldKind::Expiry,
        }
    }
}

/// Runs `ops`.
///
/// # Errors
/// What the server says; when nobody says yes; when the output can't be written.
pub async fn run(args: OpsArgs, desk: &mut Desk) -> Result<Exit, Failure> {
    match args.command {
        OpsCommand::Sweep { provider } => looks::sweep(provider, desk).await,
        OpsCommand::Strays(place) => looks::strays(place.provider, desk).await,
        OpsCommand::Foreign(place) => looks::foreign(place.provider, desk).await,
        OpsCommand::Adopt { provider, instance, consumer, reservation } => orders::adopt(provider, instance, consumer, reservation, desk).await,
        OpsCommand::DestroyInstance { provider, instance, yes } => orders::destroy(provider, instance, yes, desk).await,
        OpsCommand::Debts => operator::debts(desk).await,
        OpsCommand::Retry { label } => orders::retry(label, desk).await,
        OpsCommand::Settle { label, reason, yes } => orders::settle(label, reason, yes, desk).await,
        OpsCommand::Hold(args) => orders::hold(args, desk).await,
        OpsCommand::Holds(place) => looks::holds(place.provider, desk).await,
        OpsCommand::AcceptDatabase { yes } => orders::accept(yes, desk).await,
        OpsCommand::Audit { page } => looks::audit(&page, desk).await,
        OpsCommand::OfferHealth(args) => health::offer_health(&args, desk).await,
        OpsCommand::Spend => looks::spend(desk).await,
    }
}
