//! The lifecycle actor: the only writer of sessions, and its handle.
//!
//! One task with a bounded mailbox. It drains what is waiting, runs the pure machine on each, commits everything in one
//! transaction, publishes to the board, starts the actions and answers its callers, in this order: intent before effect,
//! event after commit. It never awaits a third party. An outcome of a commit that it cannot be sure of stops it; the
//! supervisor starts it again from disk.
//!
//! * `actor`: the task.
//! * `admission`: what may be created.
//! * `commands`: what callers order about sessions, and how that is written down.
//! * `lists`: what a complete list comes to.
//! * `orders`: what operators order.

mod actor;
mod admission;
mod commands;
mod doubt;
mod lists;
mod orders;
mod roster;

use crate::clock::Clock;
use crate::domain::ids::{Label, ProviderId, SessionId, Tag};
use crate::domain::instance::Sighting;
use crate::domain::lifecycle::{Fate, Input};
use crate::domain::policy::{Policy, Terms};
use crate::domain::session::{Session, Target};
use crate::domain::time::{Look, Time};
use crate::ports::Account;
use crate::services::api::{Caller, Command, Commanded, Create, Created, Idempotency};
use crate::services::board::Board;
use crate::services::error::{Code, Error};
use crate::services::inventory::Inventory;
use crate::services::provisioner::Tools;
use crate::services::sweeper::{Findings, Hold, HoldKind, SweepPolicy};
use crate::services::templates::Templates;
use crate::services::tokens::Tokens;
use crate::store::Store;
use futures::FutureExt;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::Span;

/// Messages that may wait.
const MAILBOX: usize = 4096;
/// How long a create waits for offers that are too old to be fetched again.
const OFFERS_PATIENCE: Duration = Duration::from_secs(10);
/// So many restarts within [`RESTART_WINDOW`] and the supervisor gives up.
const RESTARTS: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// What is sealed. One kind is never opened as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A consumer's private key.
    ConsumerKey,
    /// What a machine is started with.
    Start,
}

/// Seals something secret of a session.
pub type Seal = dyn Fn(Content, SessionId, &SecretString) -> Option<Vec<u8>> + Send + Sync;
/// Opens it again; `None` when it was sealed with another secret, as something else, or is damaged.
pub type Unseal = dyn Fn(Content, SessionId, &[u8]) -> Option<SecretString> + Send + Sync;

/// How secrets are kept on disk.
#[derive(Clone)]
pub struct Vault {
    /// Seals.
    pub seal: Arc<Seal>,
    /// Opens again.
    pub open: Arc<Unseal>,
}

/// Everything the actor is made of.
#[derive(Clone)]
pub struct Parts {
    /// Disk.
    pub store: Store,
    /// Where committed things are published.
    pub board: Board,
    /// Offers.
    pub inventory: Inventory,
    /// Templates.
    pub templates: Templates,
    /// Hands.
    pub tools: Tools,
    /// Settings.
    pub policy: Policy,
    /// This deployment's tag.
    pub tag: Tag,
    /// Makes watch tokens.
    pub tokens: Tokens,
    /// How long in-flight launches and destroys are waited for when draining.
    pub drain: Duration,
    /// What is known of the providers' willingness; outlives the actor.
    pub standing: Arc<Mutex<Standing>>,
    /// Told after each batch how closely each provider must be looked at; a channel for each.
    pub attention: BTreeMap<ProviderId, watch::Sender<Attention>>,
    /// What may be destroyed without anybody asking.
    pub sweep: SweepPolicy,
    /// Why nothing automatic may happen until an operator accepts the database.
    pub frozen: Option<String>,
    /// Where operators see what was found.
    pub findings: Arc<watch::Sender<Findings>>,
}

/// What the lookouts have told of the providers, kept beside the actor so that its restart need not wait for them.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Where nothing may be launched now, and why.
    pub closed: BTreeMap<ProviderId, Closed>,
    /// What decisions need to know of each provider, with its account.
    pub terms: BTreeMap<ProviderId, Terms>,
    /// An operator has accepted the database since the start.
    pub accepted: bool,
}

impl Standing {
    /// Whether a provider refuses our credentials or the account is out of credit, and how it says so.
    #[must_use]
    pub fn refusal(standing: &Mutex<Self>, provider: &ProviderId) -> Option<Closed> {
        let standing = standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.closed.get(provider).filter(|closed| !closed.unseen()).cloned()
    }
}

/// How closely a provider must be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attention {
    /// Nothing of ours is there.
    Idle,
    /// Sessions run there.
    Steady,
    /// Something begins or must be found there.
    Close,
}

/// What a lookout reports.
#[derive(Debug)]
pub struct Listing {
    /// Where.
    pub provider: ProviderId,
    /// When.
    pub look: Look,
    /// Everything that is there: complete.
    pub sightings: Vec<Sighting>,
}

/// Why nothing may be launched at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It refuses our credentials.
    Auth(String),
    /// The account is out of credit.
    Credit(String),
    /// It has not been looked at since the start.
    NotSwept,
    /// It could not be looked at since the start, though that was tried: why. It is tried again and again.
    Unreachable(String),
}

impl Closed {
    /// Whether what may already be on the account is not known yet: that passes by itself once the provider answers.
    #[must_use]
    pub fn unseen(&self) -> bool {
        matches!(self, Self::NotSwept | Self::Unreachable(_))
    }
}

/// In the words that people know, once: some texts have them already.
#[must_use]
pub fn refused_credentials(text: &str) -> String {
    const WORDS: &str = "Provider authentication failed";
    if text.contains(WORDS) { text.to_owned() } else { format!("{WORDS}: {text}") }
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What an operator orders.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Decide about a stray.
    Stray {
        /// Where.
        provider: ProviderId,
        /// The vendor's id.
        native_id: String,
        /// What shall become of it.
        fate: Fate,
    },
    /// Try a debt's destroy at once.
    Retry(Label),
    /// A debt is over, by the operator's word.
    Settle {
        /// Which.
        label: Label,
        /// Why the operator is sure.
        reason: String,
    },
    /// Set a hold.
    Hold {
        /// Where.
        provider: ProviderId,
        /// What.
        kind: HoldKind,
        /// Until when; `None` = until it is lifted.
        until: Option<Time>,
        /// Why.
        reason: String,
    },
    /// Lift a hold.
    Lift {
        /// Where.
        provider: ProviderId,
        /// What.
        kind: HoldKind,
        /// Why; may be empty.
        reason: String,
    },
    /// The database is what it should be: go on.
    Accept,
}

/// What became of an order.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// The session concerned, after it.
    pub session: Option<Arc<Session>>,
    /// The holds in force after it.
    pub holds: Vec<Hold>,
}

pub(super) enum Message {
    Create { caller: Caller, create: Box<Create>, template: Result<(), Error>, reply: Reply<Created> },
    Command { caller: Caller, id: SessionId, command: Command, idempotency: Option<Idempotency>, validate_only: bool, reply: Reply<Commanded> },
    Listed(Listing),
    Reached { reply: Reply<()> },
    Learnt { id: SessionId, input: Box<Input> },
    Unlisted(ProviderId),
    Operator { caller: Caller, order: Order, reply: Reply<Done> },
    Proven { provider: ProviderId, account: Account, asked: Look, listed: bool, reply: Reply<bool> },
    Unproven { provider: ProviderId, reply: Reply<()> },
    Shut { provider: ProviderId, why: Closed },
}

/// A message, and the span of the call that it comes from; no span for what nobody asked for.
pub(super) struct Letter {
    message: Message,
    from: Span,
}

impl From<Message> for Letter {
    fn from(message: Message) -> Self {
        Self { message, from: Span::none() }
    }
}

/// How others reach the actor.
#[derive(Clone)]
pub struct Handle {
    mailbox: mpsc::Sender<Letter>,
    drain: CancellationToken,
    retired: CancellationToken,
    inventory: Inventory,
    templates: Templates,
    clock: Clock,
    max_offer_age: Duration,
}

/// Why the lifecycle gave up.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The store failed again and again.
    #[error("the store failed: {0}")]
    Store(#[from] crate::store::Error),
    /// The actor panicked again and again.
    #[error("the lifecycle actor panicked")]
    Panic,
}

/// The handle, and the supervised task to run.
pub fn lifecycle(parts: Parts, drain: CancellationToken) -> (Handle, impl Future<Output = Result<(), Stopped>> + Send) {
    let (mailbox, mut letters) = mpsc::channel(MAILBOX);
    let handle = Handle {
        mailbox,
        drain: drain.clone(),
        retired: CancellationToken::new(),
        inventory: parts.inventory.clone(),
        templates: parts.templates.clone(),
        clock: parts.tools.clock.clone(),
        max_offer_age: parts.policy.max_offer_age,
    };
    let task = async move {
        let mut restarts: Vec<Time> = Vec::new();
        loop {
            let run = async { actor::Actor::load(parts.clone()).await?.run(&mut letters, &drain).await };
            // A panic is as good as an unknown outcome: what is true is on disk.
            let error = match AssertUnwindSafe(run).catch_unwind().await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => Stopped::Store(error),
                Err(_) => Stopped::Panic,
            };
            let now = parts.tools.clock.now();
            restarts.retain(|at| now.since(*at) < RESTART_WINDOW);
            restarts.push(now);
            tracing::error!(error = %error, restarts = restarts.len(), "the lifecycle actor stopped; starting it again from disk");
            if restarts.len() > RESTARTS {
                return Err(error);
            }
            parts.tools.clock.sleep(Duration::from_millis(200)).await;
        }
    };
    (handle, task)
}

impl Handle {
    /// Creates a session: durable when this returns. What is wrong later are states and events, never errors of this call.
    /// It waits for a provider only when that provider's offers are too old to be rented unseen, and not for long.
    ///
    /// # Errors
    /// Bad fields, nothing to rent, limits, a provider that refuses our credentials.
    pub async fn create(&self, caller: Caller, create: Create) -> Result<Created, Error> {
        if self.retired.is_cancelled() {
            return Err(draining());
        }
        let mut create = create;
        let mut template = Ok(());
        if !self.drain.is_cancelled() {
            self.inventory.freshen(&create.request.target, self.clock.now() - self.max_offer_age, OFFERS_PATIENCE).await;
            template = self.resolve(&mut create).await;
        }
        self.ask(|reply| Message::Create { caller, create: Box::new(create), template, reply }).await
    }

    /// Puts the template that a create names into its request. A failure is told only by a create that is none of a call
    /// before: who asks again gets what was made then.
    async fn resolve(&self, create: &mut Create) -> Result<(), Error> {
        if let Some(hash) = &create.template {
            let template = self.templates.get(hash).await?;
            if let Target::Requirements { filter, .. } = &mut create.request.target {
                filter.needs = Some(template.needs.clone());
            }
            create.request.template = Some((*template).clone());
        }
        Ok(())
    }

    /// From now on nothing is created; everything else goes on. For the end of a server that ends its sessions first.
    pub fn retire(&self) {
        self.retired.cancel();
    }

    /// Whether nothing is created any more.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.is_cancelled()
    }

    /// Changes or ends a session.
    ///
    /// # Errors
    /// No such session; what the machine refuses.
    pub async fn command(
        &self,
        caller: Caller,
        id: SessionId,
        command: Command,
        idempotency: Option<Idempotency>,
        validate_only: bool,
    ) -> Result<Commanded, Error> {
        self.ask(|reply| Message::Command { caller, id, command, idempotency, validate_only, reply }).await
    }

    /// Takes a complete list of a provider's instances.
    pub async fn listed(&self, listing: Listing) {
        let _ = self.mailbox.send(Message::Listed(listing).into()).await;
    }

    /// Resolves when everything that was told before is taken in and on disk, or can't be.
    pub async fn reached(&self) {
        let _ = self.ask(|reply| Message::Reached { reply }).await;
    }

    /// Takes what somebody else's look at a session's machine has shown. Nobody waits for it: with a full mailbox it is lost.
    pub fn learnt(&self, id: SessionId, input: Input) {
        let _ = self.mailbox.try_send(Message::Learnt { id, input: Box::new(input) }.into());
    }

    /// Does what an operator orders; it is written down who ordered it before it is done.
    ///
    /// # Errors
    /// The caller is no operator; nothing like it is there; it makes no sense now.
    pub async fn order(&self, caller: Caller, order: Order) -> Result<Done, Error> {
        self.ask(|reply| Message::Operator { caller, order, reply }).await
    }

    /// The provider's list has failed again and again.
    pub async fn unlisted(&self, provider: ProviderId) {
        let _ = self.mailbox.send(Message::Unlisted(provider).into()).await;
    }

    /// The provider's credentials work, and this is the account. `listed` = all that is on it has been listed since the
    /// start; before that nothing is launched there. False when it was not `asked` with the credentials of now.
    pub async fn proven(&self, provider: ProviderId, account: Account, asked: Look, listed: bool) -> bool {
        self.ask(|reply| Message::Proven { provider, account, asked, listed, reply }).await.unwrap_or(true)
    }

    /// Whose account the provider's credentials open is unknown from now on, until it is proven: nothing that is not found with them
    /// counts as gone, and nothing is launched there. Returns once that holds.
    ///
    /// # Errors
    /// When the service ends.
    pub async fn unproven(&self, provider: ProviderId) -> Result<(), Error> {
        self.ask(|reply| Message::Unproven { provider, reply }).await
    }

    /// Nothing may be launched there.
    pub async fn shut(&self, provider: ProviderId, why: Closed) {
        let _ = self.mailbox.send(Message::Shut { provider, why }.into()).await;
    }

    async fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, Error> {
        if self.drain.is_cancelled() {
            return Err(draining());
        }
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(Letter { message: message(reply), from: Span::current() }).await.map_err(|_| draining())?;
        answer.await.unwrap_or_else(|_| {
            Err(Error::new(
                Code::Unavailable,
                "RESTARTING",
                "the lifecycle is restarting; the call may have been taken: repeat it with the same request_id",
            )
            .retry(Duration::from_secs(1)))
        })
    }
}

fn draining() -> Error {
    Error::new(Code::Unavailable, "SERVER_DRAINING", "the server is shutting down: try again at its successor").retry(Duration::from_secs(5))
}
