//! Wiring: from parts to a running core. The one place where concrete meets abstract.
//!
//! [`Core::start`] puts store, providers and probe together and runs the lifecycle actor, one lookout and one inventory
//! refresh per provider. `serve`, `demo` and the tests all use it; they differ in what they hand in.

use crate::clock::Clock;
use crate::domain::ids::{ProviderId, Tag};
use crate::domain::memory;
use crate::domain::policy::{Policy, Rules, Terms};
use crate::ports::{Chance, Provider, SshProbe};
use crate::services::board::Board;
use crate::services::costs::Costs;
use crate::services::drain::Drain;
use crate::services::inventory::{Inventory, OfferIdCheck};
use crate::services::lifecycle::{self, Attention, Closed, Handle, Parts, Standing, Vault};
use crate::services::lookout::{Asked, Lookout, Outlook, Rhythm};
use crate::services::operator::{self, Operator, VendorCall};
use crate::services::provisioner::Tools;
use crate::services::sessions::Sessions;
use crate::services::sweeper::{Findings, SweepPolicy};
use crate::services::templates::Templates;
use crate::services::tokens::Tokens;
use crate::store::{self, Store};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Everything that a core is made of.
pub struct CoreParts {
    /// Disk.
    pub store: Store,
    /// This deployment's id; its tag goes into labels.
    pub deployment_id: String,
    /// The marketplaces.
    pub providers: BTreeMap<ProviderId, Arc<dyn Provider>>,
    /// Logs in to machines.
    pub probe: Arc<dyn SshProbe>,
    /// Ids and jitter.
    pub chance: Arc<dyn Chance>,
    /// Time.
    pub clock: Clock,
    /// Settings of the lifecycle.
    pub policy: Policy,
    /// How often to list.
    pub rhythm: Rhythm,
    /// How often to fetch offers; `None` = as each provider says.
    pub refresh: Option<Duration>,
    /// How long launches and destroys under way are waited for when draining.
    pub drain: Duration,
    /// Seals what is secret and has to be kept.
    pub vault: Vault,
    /// Providers whose machines may have private addresses.
    pub private_addresses: Vec<ProviderId>,
    /// Offer id forms of all providers there are.
    pub offer_ids: Vec<OfferIdCheck>,
    /// How each vendor is told to destroy an instance, for the last way out.
    pub vendor_calls: BTreeMap<ProviderId, (String, VendorCall)>,
    /// What may be destroyed without anybody asking.
    pub sweep: SweepPolicy,
    /// Why nothing automatic may happen until an operator accepts the database; `None` = all is well.
    pub frozen: Option<String>,
}

/// How long a start waits for the first offers of a provider before it counts as looked at without them.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running core.
pub struct Core {
    /// Offers.
    pub inventory: Inventory,
    /// Templates.
    pub templates: Templates,
    /// Changes to sessions.
    pub lifecycle: Handle,
    /// Reading sessions.
    pub sessions: Sessions,
    /// Money.
    pub costs: Costs,
    /// For operators.
    pub operator: Operator,
    /// Ends everything.
    pub winding_up: Drain,
    /// What has been committed.
    pub board: Board,
    /// Where launches are refused.
    pub standing: Arc<Mutex<Standing>>,
    /// What the lookouts know.
    pub outlook: watch::Receiver<BTreeMap<ProviderId, Outlook>>,
    /// Cancel it to drain: no new work; streams end; the actor finishes what is under way.
    pub drain: CancellationToken,
    /// Names of the enabled providers.
    pub providers: Vec<ProviderId>,
    /// Cancelled when the lifecycle has given up for good.
    pub failed: CancellationToken,
    tasks: TaskTracker,
    actor: tokio::task::JoinHandle<Result<(), lifecycle::Stopped>>,
}

/// A deployment's tag: from the first 40 bits of the SHA-256 of its id.
#[must_use]
pub fn tag_of(deployment_id: &str) -> Tag {
    let digest = Sha256::digest(deployment_id.as_bytes());
    let mut first = [0; 5];
    for (slot, byte) in first.iter_mut().zip(digest.iter()) {
        *slot = *byte;
    }
    Tag::from_hash(first)
}

/// What decisions need to know of a provider, from its facts.
#[must_use]
pub fn terms_of(provider: &dyn Provider) -> Terms {
    let facts = provider.facts();
    Terms {
        visibility_window: facts.visibility_window,
        attaches_keys: facts.attaches_keys,
        billing: facts.billing.clone(),
        budgets: facts.budgets,
        out_of_credit: false,
        account: String::new(),
        changed_at: None,
    }
}

/// Runs `work` until it ends or `stop` is told; a call under way is given up then.
async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = work => {}
    }
}

impl Core {
    /// Starts everything on the present runtime.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn start(parts: CoreParts) -> Result<Self, store::Error> {
        let now = parts.clock.now();
        parts.store.timeline_open(parts.chance.bits(), now).await?;
        let tokens = Tokens::new(parts.store.timeline_list().await?);
        let board = Board::new(parts.store.last_revision().await?);
        let terms: BTreeMap<ProviderId, Terms> = parts.providers.iter().map(|(id, p)| (id.clone(), terms_of(&**p))).collect();
        let tag = tag_of(&parts.deployment_id);
        let tools = Tools {
            providers: parts.providers.clone(),
            probe: parts.probe,
            chance: Arc::clone(&parts.chance),
            clock: parts.clock.clone(),
            private_addresses: parts.private_addresses,
            vault: parts.vault,
        };
        let inventory = Inventory::new(parts.providers.clone(), parts.offer_ids, parts.clock.clone());
        let templates = Templates::new(parts.providers.clone(), inventory.clone(), parts.clock.clone());
        inventory.remember(parts.store.lesson_list(now - memory::HORIZON).await?, parts.policy.memory_acts);
        let drain = CancellationToken::new();
        let attention: BTreeMap<ProviderId, _> = parts.providers.keys().map(|id| (id.clone(), watch::Sender::new(Attention::Idle))).collect();
        let sweep_now: BTreeMap<ProviderId, _> = parts.providers.keys().map(|id| (id.clone(), watch::Sender::new(Asked::default()))).collect();
        let looked_for: Vec<_> = attention.values().zip(sweep_now.values()).map(|(need, asked)| (need.subscribe(), asked.subscribe())).collect();
        let (outlook, outlook_seen) = watch::channel(BTreeMap::new());
        let (findings, findings_seen) = watch::channel(Findings::default());
        let rules =
            Rules { tag, policy: parts.policy.clone(), secret: String::new(), terms: terms.clone(), expiry_held: BTreeSet::new(), asleep: false };
        let closed = parts.providers.keys().map(|id| (id.clone(), Closed::NotSwept)).collect();
        let standing = Arc::new(Mutex::new(Standing { closed, terms, accepted: parts.frozen.is_none() }));
        let (handle, actor) = lifecycle::lifecycle(
            Parts {
                store: parts.store.clone(),
                board: board.clone(),
                inventory: inventory.clone(),
                templates: templates.clone(),
                tools: tools.clone(),
                policy: parts.policy,
                standing: Arc::clone(&standing),
                tag,
                tokens: tokens.clone(),
                drain: parts.drain,
                attention,
                sweep: parts.sweep,
                frozen: parts.frozen,
                findings: Arc::new(findings),
            },
            drain.clone(),
        );
        let sessions = Sessions::new(parts.store.clone(), board.clone(), tokens, tools.clone(), rules, handle.clone(), drain.clone());
        let failed = CancellationToken::new();
        let gave_up = failed.clone();
        let actor = tokio::spawn(async move {
            let ended = actor.await;
            if ended.is_err() {
                gave_up.cancel();
            }
            ended
        });
        let tasks = TaskTracker::new();
        for ((id, provider), (attention, asked)) in parts.providers.iter().zip(looked_for) {
            let lookout = Lookout {
                provider: Arc::clone(provider),
                lifecycle: handle.clone(),
                rhythm: parts.rhythm,
                clock: parts.clock.clone(),
                chance: Arc::clone(&parts.chance),
                standing: Arc::clone(&standing),
                attention,
                asked,
                outlook: outlook.clone(),
            };
            tasks.spawn(until(drain.clone(), lookout.run(drain.clone())));
            let every = parts.refresh.unwrap_or(provider.facts().refresh_interval);
            tasks.spawn(until(drain.clone(), inventory.clone().keep_fresh(id.clone(), every, drain.clone())));
        }
        let (patient, clock) = (inventory.clone(), parts.clock.clone());
        tasks.spawn(until(drain.clone(), async move {
            clock.sleep(PATIENCE).await;
            patient.tried_enough();
        }));
        let winding_up = Drain::new(handle.clone(), board.clone(), parts.clock.clone());
        let costs = Costs::new(parts.store.clone(), board.clone(), sessions.clone(), parts.clock);
        let operator = Operator::new(operator::Parts {
            tools,
            board: board.clone(),
            inventory: inventory.clone(),
            lifecycle: handle.clone(),
            standing: Arc::clone(&standing),
            outlook: outlook_seen.clone(),
            findings: findings_seen,
            sweep_now,
            store: parts.store.clone(),
            vendor_calls: parts.vendor_calls,
        });
        Ok(Self {
            inventory,
            templates,
            lifecycle: handle,
            sessions,
            costs,
            operator,
            winding_up,
            board,
            standing,
            outlook: outlook_seen,
            drain,
            failed,
            providers: parts.providers.into_keys().collect(),
            tasks,
            actor,
        })
    }

    /// Whether every provider has been looked at since the start, its machines and its offers, well or not.
    #[must_use]
    pub fn looked(&self) -> bool {
        self.swept() && self.inventory.tried()
    }

    /// Resolves when that is so.
    pub async fn wait_looked(&self) {
        self.wait_swept().await;
        self.inventory.wait_tried().await;
    }

    /// Whether the machines on every provider's account have been looked at since the start, well or not.
    #[must_use]
    pub fn swept(&self) -> bool {
        let seen = self.outlook.borrow();
        self.providers.iter().all(|p| seen.get(p).is_some_and(|o| o.swept))
    }

    /// Resolves when that is so.
    pub async fn wait_swept(&self) {
        let mut outlook = self.outlook.clone();
        let providers = &self.providers;
        let _ = outlook.wait_for(|seen| providers.iter().all(|p| seen.get(p).is_some_and(|o| o.swept))).await;
    }

    /// Whether the lifecycle actor runs.
    #[must_use]
    pub fn alive(&self) -> bool {
        !self.actor.is_finished()
    }

    /// Drains and waits for everything to stop. Nothing is destroyed.
    ///
    /// # Errors
    /// The actor's error, when it gave up.
    pub async fn stop(self) -> Result<(), lifecycle::Stopped> {
        self.drain.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.actor.await.unwrap_or(Ok(()))
    }

    /// Stops as a dead process would: at once, wherever everything is.
    pub fn kill(self) {
        self.actor.abort();
        self.drain.cancel();
    }
}
