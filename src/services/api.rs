//! What callers ask of the services and what they get: plain types, shared by every face of the server.

use crate::domain::event::Event;
use crate::domain::explain::Explanation;
use crate::domain::gpu::GpuModel;
use crate::domain::ids::{ConsumerId, ProviderId, SessionId};
use crate::domain::instance::Instance;
use crate::domain::memory::{Health, SubjectKind};
use crate::domain::meter::Amount;
use crate::domain::money::Rate;
use crate::domain::offer::{Component, Offer, OfferFilter, OfferOrder};
use crate::domain::session::{Request, Session, StartSecrets, State};
use crate::domain::time::Time;
use crate::ports::{Account, LinkState};
use crate::store::AuditRecord;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

// === offers ===

/// A page of offers to fetch.
#[derive(Clone, Debug, Default)]
pub struct OfferQuery {
    /// Which.
    pub filter: OfferFilter,
    /// In which order.
    pub order: OfferOrder,
    /// At most this many (0 = 50, at most 1000).
    pub page_size: u32,
    /// Where to go on: the `next_page_token` of the page before; empty = from the start. It pins the snapshot.
    pub page_token: String,
}

/// How a provider's part of the snapshot stands.
#[derive(Clone, Debug)]
pub struct ProviderFreshness {
    /// Which provider.
    pub provider: ProviderId,
    /// When its offers were last fetched well.
    pub fetched_at: Option<Time>,
    /// Offers in the snapshot.
    pub offers: usize,
    /// The last fetch failed: how, and when.
    pub error: Option<(String, Time)>,
    /// It failed since the provider refuses our credentials: asking again is of no use before they are corrected.
    pub refused: bool,
    /// The vendor had more rows than it was asked for.
    pub truncated: bool,
    /// Rows that made no sense.
    pub skipped: usize,
}

/// A page of offers, all from one snapshot.
#[derive(Clone, Debug)]
pub struct OfferPage {
    /// The offers.
    pub offers: Vec<Arc<Offer>>,
    /// How many match over all pages.
    pub total: usize,
    /// Empty at the end.
    pub next_page_token: String,
    /// When the snapshot was put together.
    pub snapshot_time: Time,
    /// How each provider's part stands.
    pub freshness: Vec<ProviderFreshness>,
    /// Providers that could not be reached at the last try.
    pub unreachable: Vec<ProviderId>,
    /// Defaults that were applied, as `field=value`.
    pub applied_defaults: Vec<String>,
}

/// Why a filter leaves what it leaves.
#[derive(Clone, Debug)]
pub struct Explained {
    /// What its fields do.
    pub explanation: Explanation,
    /// Offers that would pass and are hidden for a while, because of what happened there.
    pub set_aside: usize,
    /// When the first of them is shown again.
    pub set_aside_until: Option<Time>,
    /// When the snapshot was put together.
    pub snapshot_time: Time,
    /// How each provider's part stands.
    pub freshness: Vec<ProviderFreshness>,
}

/// Which part of the failure memory.
#[derive(Clone, Debug, Default)]
pub struct HealthQuery {
    /// Of this provider.
    pub provider: Option<ProviderId>,
    /// Of these kinds; empty = all.
    pub kinds: Vec<SubjectKind>,
    /// Only where one of these was launched; empty = all.
    pub gpu_models: Vec<GpuModel>,
    /// Only what is set aside now.
    pub set_aside_only: bool,
    /// At most this many (0 = 50, at most 1000).
    pub page_size: u32,
    /// Where to go on; empty = from the start.
    pub page_token: String,
}

/// A page of the failure memory: providers, hosts, machines, offers, each by name.
#[derive(Clone, Debug)]
pub struct HealthPage {
    /// The entries.
    pub entries: Vec<Health>,
    /// How many match over all pages.
    pub total: usize,
    /// Empty at the end.
    pub next_page_token: String,
    /// Whether the memory changes what is shown and chosen, or is only shown here.
    pub acts: bool,
}

// === sessions ===

/// The consumer when neither a request nor its token says one.
pub const DEFAULT_CONSUMER: &str = "default";

/// Who calls, as far as it matters to the services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Name for events and idempotency: a token's name. Empty without authentication: the consumer of the session stands
    /// for it.
    pub principal: String,
    /// May only see and touch this consumer's sessions; `None` = all.
    pub scope: Option<ConsumerId>,
    /// May do what only operators may.
    pub admin: bool,
    /// The call's own name, `X-Request-ID`: for the lines of the log about what it set in motion. Empty where there is no call.
    pub request: String,
}

impl Caller {
    /// Whom a request is about that names this consumer, or none: then the token's, else [`DEFAULT_CONSUMER`]. Whether the
    /// caller may act for a named one is for the services to say.
    #[must_use]
    pub fn consumer(&self, named: Option<ConsumerId>) -> ConsumerId {
        named.or_else(|| self.scope.clone()).unwrap_or_else(|| ConsumerId::new(DEFAULT_CONSUMER))
    }

    /// The caller by name: without authentication, that of the consumer whose session it is.
    #[must_use]
    pub fn speaking_for(&self, consumer: &ConsumerId) -> Self {
        let principal = if self.principal.is_empty() { consumer.to_string() } else { self.principal.clone() };
        Self { principal, ..self.clone() }
    }
}

/// A session to create; validated.
#[derive(Clone, Debug)]
pub struct Create {
    /// What is asked for.
    pub request: Request,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What its machines are started with; sealed with the session.
    pub secrets: StartSecrets,
    /// The template to take over what the request does not say, by its hash.
    pub template: Option<String>,
    /// Only check.
    pub validate_only: bool,
    /// Idempotency, when the caller gave an id.
    pub idempotency: Option<Idempotency>,
    /// The pair's private key when the server made it, OpenSSH format.
    pub private_key: Option<secrecy::SecretString>,
}

/// A caller's name for its request, so that a repeated call does nothing new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The caller's id, 1–128 visible ASCII characters.
    pub request_id: String,
    /// Hash of the canonical request.
    pub hash: String,
}

/// The answer to a create.
#[derive(Clone, Debug)]
pub struct Created {
    /// The session as it is now.
    pub session: Arc<Session>,
    /// The private key, when the server made one and it may still be told.
    pub private_key: Option<secrecy::SecretString>,
    /// A watch token from before the session's first event.
    pub resume_token: String,
    /// This call repeated an earlier one.
    pub replayed: bool,
    /// What was accepted and yet can't be done (`storage_policy=preserve`).
    pub warnings: Vec<String>,
}

/// A change to a session that a caller asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Move the expiry: by so much, or to a point in time.
    Extend {
        /// Later by this much.
        by: Option<Duration>,
        /// Exactly then.
        to: Option<Time>,
        /// An operator's override of the hard limit.
        override_hard_max: bool,
    },
    /// Change labels or the idle threshold.
    Update {
        /// The labels after the change; `None` = as they are.
        labels: Option<BTreeMap<String, String>>,
        /// The idle threshold after the change, zero = off; `None` = as it is.
        idle_threshold: Option<Duration>,
    },
    /// Another key of the consumer in the place of the one before.
    RotateKey(NewKey),
    /// It is in use: count idleness anew.
    KeepAlive,
    /// The work is done: end it.
    Complete {
        /// The user says that the machine was bad.
        bad_machine: bool,
    },
    /// End it at once, from any state.
    Destroy,
    /// The same by an operator, who ends everything.
    EndByOperator,
}

impl Command {
    /// Whether something is done at a machine because of it.
    #[must_use]
    pub fn leads_to_work(&self) -> bool {
        match self {
            Self::Extend { .. } | Self::Update { .. } | Self::KeepAlive => false,
            Self::RotateKey(_) | Self::Complete { .. } | Self::Destroy | Self::EndByOperator => true,
        }
    }
}

/// A key that its consumer wants on the machine.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its public half, OpenSSH format.
    pub public: String,
    /// Its private half, when the server made the pair.
    pub private: Option<secrecy::SecretString>,
}

impl PartialEq for NewKey {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

/// The answer to a command.
#[derive(Clone, Debug)]
pub struct Commanded {
    /// The session after it.
    pub session: Arc<Session>,
    /// A watch token from before the command's first event.
    pub resume_token: String,
    /// This call repeated an earlier one.
    pub replayed: bool,
    /// The private key of a pair that the server made for [`Command::RotateKey`].
    pub private_key: Option<secrecy::SecretString>,
}

/// Which sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionFilter {
    /// Of this consumer.
    pub consumer: Option<ConsumerId>,
    /// At this provider (of the current attempt).
    pub provider: Option<ProviderId>,
    /// In one of these states; empty = any.
    pub states: Vec<State>,
    /// With all these labels.
    pub labels: BTreeMap<String, String>,
}

/// A page of sessions, newest first.
#[derive(Clone, Debug)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<Arc<Session>>,
    /// Empty at the end.
    pub next_page_token: String,
}

/// Where a watch begins.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchStart {
    /// With a snapshot of the open sessions (or those in the filter's states), plus those that ended since then.
    Snapshot {
        /// Add sessions that ended since.
        ended_since: Option<Time>,
    },
    /// With the next event.
    Now,
    /// Strictly after a token.
    After(String),
}

/// What to watch.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchRequest {
    /// One session, or all that match the filter.
    pub session: Option<SessionId>,
    /// Which sessions.
    pub filter: SessionFilter,
    /// From where.
    pub start: WatchStart,
    /// A bookmark after this much silence, 5–60 s.
    pub bookmark: Duration,
}

/// One message of a watch.
#[derive(Clone, Debug)]
pub enum WatchMessage {
    /// A session as it stands, at the beginning.
    Snapshot(Arc<Session>),
    /// All of them have been told.
    SnapshotEnd {
        /// Resume after it.
        resume_token: String,
        /// The snapshot's revision.
        revision: i64,
        /// Sessions told, by state.
        counts: Vec<(State, usize)>,
        /// What the told sessions cost per hour now.
        spend_rate: Rate,
    },
    /// Something happened.
    Event {
        /// Resume after it.
        resume_token: String,
        /// What.
        event: Arc<Event>,
    },
    /// Nothing happened: a sign of life.
    Bookmark {
        /// Resume after it.
        resume_token: String,
        /// Everything up to here has been told.
        revision: i64,
    },
}

/// What is known about a session's machine and clocks.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    /// The session.
    pub session: Arc<Session>,
    /// Its machines, with the provider's last words.
    pub instances: Vec<Instance>,
    /// Clock of the current stage: since when, budget, deadline.
    pub stage_since: Time,
    /// When the stage's budget runs out, while provisioning.
    pub stage_deadline: Option<Time>,
    /// Time since the first RUNNING, until now or the end.
    pub uptime: Option<Duration>,
    /// Time until expiry, while open.
    pub time_to_expiry: Option<Duration>,
    /// A fresh `nvidia-smi`, when RUNNING: its report or why there is none.
    pub fresh_gpu: Option<Result<crate::domain::verify::GpuReport, String>>,
    /// A fresh look at whether anybody uses it, when RUNNING: a reading for each signal, or why there is none.
    pub fresh_use: Option<Result<Vec<crate::domain::idle::Reading>, String>>,
    /// When this was put together.
    pub at: Time,
}

/// A page of events, oldest first.
#[derive(Clone, Debug)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Arc<Event>>,
    /// Empty at the end.
    pub next_page_token: String,
}

// === money ===

/// A session's cost by component.
#[derive(Clone, Debug)]
pub struct SessionCost {
    /// The session.
    pub session: SessionId,
    /// In all.
    pub total: Amount,
    /// By component.
    pub components: Vec<(Component, Amount)>,
    /// By attempt.
    pub attempts: Vec<(u8, Amount)>,
    /// Nothing can change any more.
    pub is_final: bool,
    /// What it costs per hour now.
    pub rate: Rate,
}

/// What to report.
#[derive(Clone, Debug, Default)]
pub struct CostQuery {
    /// From, included; `None` = from the beginning.
    pub from: Option<Time>,
    /// To, excluded; `None` = now.
    pub to: Option<Time>,
    /// Of this consumer.
    pub consumer: Option<ConsumerId>,
    /// At this provider.
    pub provider: Option<ProviderId>,
    /// With this GPU model (canonical).
    pub gpu: Option<String>,
    /// Of this session.
    pub session: Option<SessionId>,
    /// With all these labels.
    pub labels: BTreeMap<String, String>,
    /// Grouped by these, in order.
    pub group_by: Vec<GroupBy>,
}

/// A key to group costs by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// Consumer.
    Consumer,
    /// Provider.
    Provider,
    /// GPU model.
    Gpu,
    /// UTC day.
    Day,
    /// UTC month.
    Month,
    /// Session.
    Session,
    /// End reason (`open` while there is none).
    EndReason,
    /// Value of a label.
    Label(String),
}

/// One group of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostGroup {
    /// The values of the group keys, in order.
    pub keys: Vec<String>,
    /// Its amount.
    pub amount: Amount,
    /// Sessions in it.
    pub sessions: usize,
    /// Metered time of the GPU component, milliseconds.
    pub gpu_millis: i64,
}

/// A report. Groups always add up to the total, to the nano.
#[derive(Clone, Debug)]
pub struct CostReport {
    /// From, included.
    pub from: Time,
    /// To, excluded.
    pub to: Time,
    /// The sum.
    pub total: Amount,
    /// The groups, ordered by their keys.
    pub groups: Vec<CostGroup>,
    /// Sessions in it.
    pub sessions: usize,
    /// Nothing in it can change any more.
    pub is_final: bool,
    /// What is not metered.
    pub unmetered: Vec<String>,
}

/// One line of the ledger.
#[derive(Clone, Debug)]
pub struct LedgerEntry {
    /// The segment.
    pub segment: crate::domain::meter::Segment,
    /// Whose.
    pub consumer: ConsumerId,
    /// Where.
    pub provider: ProviderId,
    /// On which GPU.
    pub gpu: String,
    /// How much.
    pub amount: Amount,
    /// It is still running.
    pub running: bool,
}

/// A page of the ledger.
#[derive(Clone, Debug)]
pub struct LedgerPage {
    /// The lines.
    pub entries: Vec<LedgerEntry>,
    /// Empty at the end.
    pub next_page_token: String,
}

// === operation ===

/// A provider as an operator sees it.
#[derive(Clone, Debug)]
pub struct ProviderView {
    /// Which.
    pub provider: ProviderId,
    /// Its name for people.
    pub title: &'static str,
    /// The account, once proven.
    pub account: Option<Account>,
    /// The provider refuses our credentials, whatever they once opened.
    pub refused: bool,
    /// Why the credentials are not proven.
    pub account_error: Option<String>,
    /// The account is out of credit, as the provider says it: nothing is launched there.
    pub credit_error: Option<String>,
    /// Its part of the snapshot.
    pub freshness: ProviderFreshness,
    /// The connection.
    pub link: LinkState,
    /// Open sessions there.
    pub open_sessions: usize,
    /// Last complete list of instances.
    pub listed_at: Option<Time>,
}

/// A machine that should be gone and is not proven so.
#[derive(Clone, Debug)]
pub struct UnconfirmedDestroy {
    /// The debt.
    pub instance: Instance,
    /// Since when it should be gone.
    pub since: Time,
    /// For how long, now.
    pub age: Duration,
    /// What it may cost per hour.
    pub at_risk: Rate,
    /// A call to paste, for the last way out; without the key.
    pub vendor_call: String,
}

/// A page of who ordered what, the latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// The orders, each with its number.
    pub entries: Vec<(i64, AuditRecord)>,
    /// Empty at the end.
    pub next_page_token: String,
}
