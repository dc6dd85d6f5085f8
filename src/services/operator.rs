//! What an operator looks at: providers, machines that should be gone and are not proven so, machines that no record
//! wants, what is spent per hour, who ordered what; and the orders that the lifecycle actor takes.

use crate::clock::Clock;
use crate::domain::ids::ProviderId;
use crate::domain::instance::Desired;
use crate::domain::money::{Nanos, Rate};
use crate::services::api::{AuditPage, Caller, HealthPage, HealthQuery, ProviderFreshness, ProviderView, UnconfirmedDestroy};
use crate::services::board::Board;
use crate::services::error::Error;
use crate::services::inventory::{Inventory, page_size};
use crate::services::lifecycle::{Closed, Done, Handle, Order, Standing, refused_credentials};
use crate::services::lookout::{Asked, Outlook};
use crate::services::provisioner::Tools;
use crate::services::sessions::{broken, open_at};
use crate::services::sweeper::{Finding, FindingKind, Findings, Hold, HoldKind, is_plain, lift_command};
use crate::services::tokens::PageOf;
use crate::store::{AuditRecord, Store};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// How a vendor is told to destroy an instance, without the key: for the last way out.
pub type VendorCall = fn(base_url: &str, native_id: &str) -> String;

/// What the service is made of.
#[derive(Clone)]
pub struct Parts {
    /// The providers and the clock.
    pub tools: Tools,
    /// Live sessions.
    pub board: Board,
    /// Offers.
    pub inventory: Inventory,
    /// Takes orders.
    pub lifecycle: Handle,
    /// Where launches are refused.
    pub standing: Arc<Mutex<Standing>>,
    /// What the lookouts know.
    pub outlook: watch::Receiver<BTreeMap<ProviderId, Outlook>>,
    /// What the sweeper has found.
    pub findings: watch::Receiver<Findings>,
    /// Wakes each provider's lookout.
    pub sweep_now: BTreeMap<ProviderId, watch::Sender<Asked>>,
    /// Disk, for what was written down.
    pub store: Store,
    /// How each vendor is told to destroy an instance.
    pub vendor_calls: BTreeMap<ProviderId, (String, VendorCall)>,
}

/// The service's handle. See the module's header.
#[derive(Clone)]
pub struct Operator(Arc<Parts>);

/// What a sweep came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Swept {
    /// Providers that answered with a complete list.
    pub complete: Vec<ProviderId>,
    /// Providers that did not, and why.
    pub failed: Vec<(ProviderId, String)>,
    /// What was found at all of them.
    pub findings: Findings,
}

/// A machine that no row wants, with what an operator needs to decide about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The machine.
    pub finding: Finding,
    /// What the destroy of an orphan waits for; empty for others.
    pub waits_for: String,
    /// The vendor call that ends it, without the key; empty where none is known, and for what is not ours.
    pub vendor_call: String,
}

/// What is spent per hour now at one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendRate {
    /// Where.
    pub provider: ProviderId,
    /// Machines that sessions use or wait for.
    pub running: Rate,
    /// Machines that should be gone and are not proven so.
    pub stopping: Rate,
    /// Machines of this deployment that no record knows.
    pub strays: Rate,
    /// Other machines on the account.
    pub foreign: Rate,
    /// Machines whose price no list tells, among strays and foreign ones.
    pub unpriced: usize,
    /// What is left on the account, where the vendor tells.
    pub balance: Option<Nanos>,
}

impl SpendRate {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> Rate {
        self.running + self.stopping + self.strays + self.foreign
    }

    /// How long the balance lasts at this rate, where both are known.
    #[must_use]
    pub fn lasts(&self) -> Option<Duration> {
        let (left, rate) = (self.balance?.0.max(0), self.total().0);
        let millis = (rate > 0).then(|| i128::from(left) * 3_600_000_000 / i128::from(rate))?;
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

/// Longer than this no sweep that was asked for is waited for.
const SWEEP_PATIENCE: Duration = Duration::from_secs(60);

impl Operator {
    /// Reads from these.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// What the last complete lists have shown that no row wants, the holds, and whether everything stands still.
    #[must_use]
    pub fn findings(&self) -> Findings {
        self.0.findings.borrow().clone()
    }

    /// The vendor call that destroys an instance, to paste; without the key. `None` where none is known, and for an id that
    /// would mean something to a shell.
    #[must_use]
    pub fn vendor_call(&self, provider: &ProviderId, native_id: &str) -> Option<String> {
        self.0.vendor_calls.get(provider).filter(|_| is_plain(native_id)).map(|(base, call)| call(base, native_id))
    }

    /// Of these findings the machines with a label of this deployment, at one provider or at all, the dearest first.
    #[must_use]
    pub fn strays(&self, findings: &Findings, provider: Option<&ProviderId>) -> Vec<Found> {
        self.found(findings, provider, |kind| kind != FindingKind::Foreign)
    }

    /// Of these findings the machines that are not of this deployment, at one provider or at all, the dearest first.
    #[must_use]
    pub fn foreign(&self, findings: &Findings, provider: Option<&ProviderId>) -> Vec<Found> {
        self.found(findings, provider, |kind| kind == FindingKind::Foreign)
    }

    fn found(&self, findings: &Findings, provider: Option<&ProviderId>, of: fn(FindingKind) -> bool) -> Vec<Found> {
        let one = |finding: &Finding| Found {
            waits_for: self.waits_for(finding, findings),
            vendor_call: match finding.kind {
                FindingKind::Stray | FindingKind::Orphan => self.vendor_call(&finding.provider, &finding.sighting.native_id).unwrap_or_default(),
                FindingKind::Foreign => String::new(),
            },
            finding: finding.clone(),
        };
        let machines = findings.machines.iter().filter(|m| of(m.kind) && provider.is_none_or(|p| *p == m.provider));
        let mut found: Vec<Found> = machines.map(one).collect();
        // Stable: by provider and id within a price.
        found.sort_by_key(|f| Reverse(f.finding.per_hour().unwrap_or(Rate::ZERO)));
        found
    }

    /// Why an orphan is still there.
    fn waits_for(&self, finding: &Finding, findings: &Findings) -> String {
        if finding.kind != FindingKind::Orphan {
            return String::new();
        }
        if findings.frozen.is_some() {
            return "the database is frozen: look at everything, then `gpu-shopper ops accept-database`".to_owned();
        }
        let now = self.0.tools.clock.now();
        let held = |h: &&Hold| h.provider == finding.provider && h.kind == HoldKind::Sweeper && h.in_force(now);
        match findings.holds.iter().find(held) {
            Some(hold) => format!("the sweeper is held: {}; lift it with `{}`", hold.reason, lift_command(&hold.provider, hold.kind)),
            None => "its turn: only so many are destroyed per minute".to_owned(),
        }
    }

    /// Gives a provider other credentials, by `take`, and has them proven and its machines listed at once. They may be of
    /// another account: before they are used, whose they are is unknown, so that nothing that is not found with them counts
    /// as gone.
    ///
    /// # Errors
    /// When the lifecycle can't be told; nothing was taken then.
    pub async fn renew(&self, provider: &ProviderId, take: impl FnOnce()) -> Result<(), Error> {
        self.0.lifecycle.unproven(provider.clone()).await?;
        take();
        // Only what is asked after this is believed to have been asked with the new ones.
        let _ = self.0.lifecycle.unproven(provider.clone()).await;
        self.renewed(provider);
        Ok(())
    }

    /// Its credentials are proven and its machines listed now, without waiting for it.
    fn renewed(&self, provider: &ProviderId) {
        if let Some(lookout) = self.0.sweep_now.get(provider) {
            lookout.send_modify(|asked| asked.renewals = asked.renewals.wrapping_add(1));
        }
    }

    /// Lists every provider's (or one's) machines now and waits until that was looked at, a minute at most.
    ///
    /// # Errors
    /// There is no such provider.
    pub async fn sweep_now(&self, provider: Option<&ProviderId>) -> Result<Swept, Error> {
        let asked: Vec<ProviderId> = self.0.tools.providers.keys().filter(|p| provider.is_none_or(|only| only == *p)).cloned().collect();
        if asked.is_empty() {
            let known: Vec<&str> = self.0.tools.providers.keys().map(ProviderId::as_str).collect();
            return Err(Error::field("provider", format!("one of {}", known.join(", "))));
        }
        let since = self.0.tools.clock.now();
        let mut outlook = self.0.outlook.clone();
        asked.iter().filter_map(|p| self.0.sweep_now.get(p)).for_each(wake);
        // A list that was under way already shows what was there before.
        let anew = |seen: Option<&Outlook>| seen.and_then(|o| o.looked_from).is_some_and(|from| from >= since);
        let done = |seen: &BTreeMap<ProviderId, Outlook>| asked.iter().all(|p| anew(seen.get(p)));
        tokio::select! {
            biased;
            // What the list has shown is judged by then, too.
            () = async {
                let _ = outlook.wait_for(done).await;
                self.0.lifecycle.reached().await;
            } => {}
            () = self.0.tools.clock.sleep(SWEEP_PATIENCE) => {}
        }
        let seen = self.0.outlook.borrow().clone();
        let mut swept = Swept { findings: self.findings(), ..Swept::default() };
        swept.findings.machines.retain(|m| asked.contains(&m.provider));
        for provider in asked {
            let known = seen.get(&provider);
            if anew(known) && known.is_some_and(|o| o.list_error.is_none()) {
                swept.complete.push(provider);
            } else {
                // What an earlier list failed for is not why this one did.
                let why = known.filter(|_| anew(known)).and_then(|o| o.list_error.clone()).unwrap_or_else(|| "no answer in time".to_owned());
                swept.failed.push((provider, why));
            }
        }
        Ok(swept)
    }

    /// What is spent per hour now, by provider.
    #[must_use]
    pub fn spend_rate(&self) -> Vec<SpendRate> {
        let (live, findings, outlook) = (self.0.board.snapshot().0, self.findings(), self.0.outlook.borrow().clone());
        let of = |provider: &ProviderId| {
            let mut spent = SpendRate {
                provider: provider.clone(),
                running: Rate::ZERO,
                stopping: Rate::ZERO,
                strays: Rate::ZERO,
                foreign: Rate::ZERO,
                unpriced: 0,
                balance: outlook.get(provider).and_then(|o| o.account.as_ref()).and_then(|a| a.balance),
            };
            for row in live.iter().flat_map(|l| l.instances.iter()).filter(|r| r.open() && r.provider == *provider) {
                let part = if row.desired == Desired::Gone { &mut spent.stopping } else { &mut spent.running };
                *part = *part + row.at_risk();
            }
            for machine in findings.machines.iter().filter(|m| m.provider == *provider) {
                let Some(rate) = machine.per_hour() else {
                    spent.unpriced += 1;
                    continue;
                };
                let part = if machine.kind == FindingKind::Foreign { &mut spent.foreign } else { &mut spent.strays };
                *part = *part + rate;
            }
            spent
        };
        self.0.tools.providers.keys().map(of).collect()
    }

    /// Does what an operator orders.
    ///
    /// # Errors
    /// As [`Handle::order`].
    pub async fn order(&self, caller: Caller, order: Order) -> Result<Done, Error> {
        self.0.lifecycle.order(caller, order).await
    }

    /// Who ordered what, the latest first: at most `limit`, only those before number `before`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit(&self, before: Option<i64>, limit: i64) -> Result<Vec<(i64, AuditRecord)>, Error> {
        self.0.store.audit_list(before, limit).await.map_err(|error| broken(&error))
    }

    /// The same by pages of at most `size` (0 = 50, at most 1000); the token of the page before, or empty.
    ///
    /// # Errors
    /// The token is none of ours; when the database fails.
    pub async fn audit_page(&self, size: u32, token: &str) -> Result<AuditPage, Error> {
        let before = match token {
            "" => None,
            token => Some(read_token(token).ok_or_else(|| Error::field("page_token", "it is no token of ListAuditEntries"))?),
        };
        let size = page_size(size);
        let mut entries = self.audit(before, i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1)).await?;
        let more = entries.len() > size;
        entries.truncate(size);
        let next_page_token = match entries.last() {
            Some((number, _)) if more => URL_SAFE_NO_PAD.encode(format!("{}{number}", PageOf::Audit.mark())),
            _ => String::new(),
        };
        Ok(AuditPage { entries, next_page_token })
    }

    /// Every enabled provider.
    ///
    /// # Errors
    /// None today.
    pub async fn providers(&self) -> Result<Vec<ProviderView>, Error> {
        let freshness = self.0.inventory.freshness();
        let outlook = self.0.outlook.borrow().clone();
        let views = self.0.tools.providers.iter().filter_map(|(id, provider)| {
            let seen = outlook.get(id);
            let refusal = Standing::refusal(&self.0.standing, id);
            let (auth, credit) = match refusal {
                Some(Closed::Auth(text)) => (Some(refused_credentials(&text)), None),
                Some(Closed::Credit(text)) => (None, Some(text)),
                _ => (None, None),
            };
            Some(ProviderView {
                provider: id.clone(),
                title: provider.facts().title,
                account: seen.and_then(|o| o.account.clone()),
                refused: auth.is_some() || seen.is_some_and(|o| o.refused),
                account_error: seen.and_then(|o| o.account_error.clone()).or(auth),
                credit_error: credit,
                freshness: freshness.iter().find(|f| f.provider == *id)?.clone(),
                link: provider.link(),
                open_sessions: open_at(&self.0.board, id),
                listed_at: seen.and_then(|o| o.listed_at),
            })
        });
        Ok(views.collect())
    }

    /// Machines that should be gone and are not proven so, the dearest first.
    ///
    /// # Errors
    /// None today: everything that is owed is in memory.
    pub async fn unconfirmed_destroys(&self) -> Result<Vec<UnconfirmedDestroy>, Error> {
        let mut debts: Vec<UnconfirmedDestroy> = Vec::new();
        let now = self.0.tools.clock.now();
        for live in self.0.board.snapshot().0 {
            for instance in live.instances.iter().filter(|i| i.open() && i.desired == Desired::Gone) {
                let ended = || live.session.attempts.iter().find(|a| a.number == instance.label.attempt).and_then(|a| a.ended_at);
                let since = instance.destroy.wanted_at.or_else(ended).unwrap_or(live.session.state_at);
                let call = match instance.native_id.as_ref().and_then(|id| self.vendor_call(&instance.provider, id)) {
                    Some(call) => call,
                    None => format!("look for an instance labelled {} and destroy it", instance.label),
                };
                debts.push(UnconfirmedDestroy {
                    since,
                    age: now.since(since),
                    at_risk: instance.at_risk(),
                    vendor_call: call,
                    instance: instance.clone(),
                });
            }
        }
        debts.sort_by(|a, b| b.at_risk.cmp(&a.at_risk).then_with(|| a.instance.label.cmp(&b.instance.label)));
        Ok(debts)
    }

    /// The failure memory.
    ///
    /// # Errors
    /// A page token that is none of ours, or of another query.
    pub async fn offer_health(&self, query: &HealthQuery) -> Result<HealthPage, Error> {
        self.0.inventory.health(query)
    }

    /// What the lookouts know, by provider.
    #[must_use]
    pub fn outlook(&self) -> BTreeMap<ProviderId, Outlook> {
        self.0.outlook.borrow().clone()
    }

    /// How fresh each provider's offers are.
    #[must_use]
    pub fn freshness(&self) -> Vec<ProviderFreshness> {
        self.0.inventory.freshness()
    }

    /// The clock, for ages.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.tools.clock
    }
}

fn wake(lookout: &watch::Sender<Asked>) {
    lookout.send_modify(|asked| asked.looks = asked.looks.wrapping_add(1));
}

fn read_token(token: &str) -> Option<i64> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    text.strip_prefix(PageOf::Audit.mark())?.parse().ok()
}
