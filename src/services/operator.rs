//! What an operator looks at: providers, and machines that should be gone and are not proven so.

use crate::clock::Clock;
use crate::domain::ids::ProviderId;
use crate::domain::instance::Desired;
use crate::services::api::{HealthPage, HealthQuery, ProviderView, UnconfirmedDestroy};
use crate::services::board::Board;
use crate::services::error::Error;
use crate::services::inventory::Inventory;
use crate::services::lookout::Outlook;
use crate::services::provisioner::Tools;
use crate::services::sessions::open_at;
use std::collections::BTreeMap;
use tokio::sync::watch;

/// How a vendor is told to destroy an instance, without the key: for the last way out.
pub type VendorCall = fn(base_url: &str, native_id: &str) -> String;

/// The service's handle. See the module's header.
#[derive(Clone)]
pub struct Operator {
    tools: Tools,
    board: Board,
    inventory: Inventory,
    outlook: watch::Receiver<BTreeMap<ProviderId, Outlook>>,
    vendor_calls: BTreeMap<ProviderId, (String, VendorCall)>,
}

impl Operator {
    /// Reads from these.
    #[must_use]
    pub fn new(
        tools: Tools,
        board: Board,
        inventory: Inventory,
        outlook: watch::Receiver<BTreeMap<ProviderId, Outlook>>,
        vendor_calls: BTreeMap<ProviderId, (String, VendorCall)>,
    ) -> Self {
        Self { tools, board, inventory, outlook, vendor_calls }
    }

    /// Every enabled provider.
    ///
    /// # Errors
    /// None today.
    pub async fn providers(&self) -> Result<Vec<ProviderView>, Error> {
        let freshness = self.inventory.freshness();
        let outlook = self.outlook.borrow().clone();
        let views = self.tools.providers.iter().filter_map(|(id, provider)| {
            let seen = outlook.get(id);
            Some(ProviderView {
                provider: id.clone(),
                title: provider.facts().title,
                account: seen.and_then(|o| o.account.clone()),
                account_error: seen.and_then(|o| o.account_error.clone()),
                freshness: freshness.iter().find(|f| f.provider == *id)?.clone(),
                link: provider.link(),
                open_sessions: open_at(&self.board, id),
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
        for live in self.board.snapshot().0 {
            for instance in live.instances.iter().filter(|i| i.open() && i.desired == Desired::Gone) {
                let since = live.session.attempts.iter().find(|a| a.number == instance.label.attempt).and_then(|a| a.ended_at);
                let call = match (&instance.native_id, self.vendor_calls.get(&instance.provider)) {
                    (Some(id), Some((base, call))) => call(base, id),
                    _ => format!("look for an instance labelled {} and destroy it", instance.label),
                };
                debts.push(UnconfirmedDestroy {
                    since: since.unwrap_or(live.session.state_at),
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
        self.inventory.health(query)
    }

    /// The clock, for ages.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.tools.clock
    }
}
