//! What a server finds out about its database before it begins: whose it is, whether it is to be believed, and whether
//! everything that is open in it can be reached.

use crate::domain::ids::{Label, ProviderId, SessionId, Tag};
use crate::domain::instance::Instance;
use crate::domain::money::Rate;
use crate::ports::{Chance, Provider};
use crate::providers;
use crate::ssh::keys::Secret;
use crate::store::Store;
use anyhow::bail;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a provider's list may take when it is compared with the database.
const COMPARING: Duration = Duration::from_secs(60);
/// Sessions and machines named one by one in a message; of the others only the number is told.
const NAMED: usize = 20;

/// Tells when the secret beside the database is another than before: the machines of then can't be logged in to any more.
///
/// # Errors
/// When the database fails.
pub(super) async fn compare_secret(store: &Store, secret: &Secret, database: &Path) -> anyhow::Result<()> {
    const KEY: &str = "secret_fingerprint";
    let now = secret.fingerprint();
    if store.meta_get(KEY).await?.is_some_and(|before| before != now) {
        tracing::warn!(
            database = %database.display(),
            "the secret beside the database is another than before: machines rented until now can't be looked into, and what was \
             sealed can't be told; nothing is destroyed for that. Put the old file back to undo it"
        );
    }
    store.meta_set(KEY, &now).await?;
    Ok(())
}

/// Real machines and simulated ones never share a database: to either side the other's machines would be gone.
///
/// # Errors
/// When the database is the other side's.
pub(super) async fn keep_apart(store: &Store, simulated: bool) -> anyhow::Result<()> {
    const KEY: &str = "simulated";
    let marked = store.meta_get(KEY).await?.is_some();
    if !simulated && marked {
        bail!("the database belongs to a demo with simulated marketplaces: take another one (DATABASE_PATH)");
    }
    if simulated && !marked {
        if store.has_sessions().await? {
            bail!("the database has sessions of a real server, and a demo would take their machines for gone: take another one (DATABASE_PATH)");
        }
        store.meta_set(KEY, "true").await?;
    }
    Ok(())
}

/// The id of this deployment: the stored one, the configured one, or a new one.
///
/// # Errors
/// When another one is configured than the stored one, under which machines may still be.
pub(super) async fn deployment_id(store: &Store, configured: Option<&str>, chance: &dyn Chance) -> anyhow::Result<String> {
    let stored = store.deployment_id().await?;
    let id = match (stored, configured) {
        (Some(stored), None) => stored,
        (Some(stored), Some(wanted)) if stored == wanted => stored,
        (Some(stored), Some(wanted)) => {
            let open = store.instances_unsettled().await?;
            if !open.is_empty() {
                bail!(
                    "DEPLOYMENT_ID is `{wanted}`, but this database belongs to deployment `{stored}` and still has machines under that name:\n{}\
                     start with DEPLOYMENT_ID={stored} (or without it), end them, then change it",
                    listed(&open)
                );
            }
            wanted.to_owned()
        }
        (None, Some(wanted)) => wanted.to_owned(),
        (None, None) => format!("{:016x}", chance.bits()),
    };
    store.set_deployment_id(&id).await?;
    Ok(id)
}

/// That each provider at which something is open is enabled: a machine that nobody can look at or destroy costs money for
/// ever.
///
/// # Errors
/// When one is not, with what is open there and the way out.
pub(crate) async fn require_owing(store: &Store, enabled: &BTreeSet<ProviderId>) -> anyhow::Result<()> {
    let mut missing: BTreeMap<ProviderId, Vec<Instance>> = BTreeMap::new();
    for instance in store.instances_unsettled().await? {
        if !enabled.contains(&instance.provider) {
            missing.entry(instance.provider.clone()).or_default().push(instance);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    for (provider, open) in &missing {
        let entry = providers::REGISTER.iter().find(|entry| entry.name == provider.as_str());
        let names: Vec<String> = entry.map(|e| e.credentials().map(|own| e.env(own.key)).collect()).unwrap_or_default();
        let how = if names.is_empty() { "its credentials".to_owned() } else { names.join(" and ") };
        text.push_str(&format!(
            "provider {provider} is not enabled, but {} of this database may still be there, at {}:\n{}\
             enable it again with {how}; what its account no longer has can be written off then, also with credentials that no longer work: \
             gpu-shopper ops settle LABEL\n",
            count(open.len(), "machine"),
            rate(open),
            listed(open)
        ));
    }
    bail!("{}", text.trim_end())
}

/// Why nothing may happen by itself, as one text for log, terminal and callers: the doubt, what is open, and the way out.
///
/// # Errors
/// When the database can't be read.
pub(super) async fn frozen(store: &Store, doubt: &str, url: &str) -> anyhow::Result<String> {
    let live = store.sessions_live().await?;
    let open: Vec<Instance> = live.iter().flat_map(|(_, instances)| instances.iter().filter(|i| i.open()).cloned()).collect();
    let sessions = live.iter().filter(|(session, _)| !session.state.is_final()).count();
    Ok(format!(
        "{doubt}. Nothing is destroyed, launched or expired by itself until that is settled. Open in it: {}, {} at {}{}{}\
         compare with what the providers' consoles show, then: gpu-shopper --server {url} ops accept-database",
        count(sessions, "session"),
        count(open.len(), "machine"),
        rate(&open),
        if open.is_empty() { "; " } else { ":\n" },
        listed(&open)
    ))
}

/// How what is open in a database differs from what the providers show now: a line for each provider.
///
/// # Errors
/// When the database can't be read.
pub(super) async fn compared(store: &Store, providers: &BTreeMap<ProviderId, Arc<dyn Provider>>, tag: Tag) -> anyhow::Result<String> {
    let open = store.instances_unsettled().await?;
    let mut text = String::new();
    for (id, provider) in providers {
        let there = match tokio::time::timeout(COMPARING, provider.instances()).await {
            Ok(Ok(there)) => there,
            Ok(Err(error)) => {
                text.push_str(&format!("\n  {id} could not be listed: {}", error.text));
                continue;
            }
            Err(_) => {
                text.push_str(&format!("\n  {id} could not be listed: no answer in time"));
                continue;
            }
        };
        let (mut unknown, mut risen) = (Vec::new(), Vec::new());
        for (label, sighting) in there.iter().filter_map(|s| Some((Label::parse(s.label.as_deref()?).filter(|l| l.tag == tag)?, s))) {
            match store.instance_by_label(label).await? {
                None => unknown.push(format!("{label} (id {})", sighting.native_id)),
                Some(row) if !row.open() => risen.push(format!("{label} (id {})", sighting.native_id)),
                Some(_) => {}
            }
        }
        let seen = |row: &Instance| there.iter().any(|s| Some(&s.native_id) == row.native_id.as_ref() || s.label == Some(row.label.to_string()));
        let missing: Vec<String> = open.iter().filter(|row| row.provider == *id && !seen(row)).map(|row| row.label.to_string()).collect();
        let before = text.len();
        for (what, names) in
            [("open in the database and not there", missing), ("there and not in the database", unknown), ("there and gone in the database", risen)]
        {
            if !names.is_empty() {
                let more = names.len().saturating_sub(NAMED);
                let shown: Vec<String> = names.into_iter().take(NAMED).collect();
                let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
                text.push_str(&format!("\n  {id}: {what}: {}{rest}", shown.join(", ")));
            }
        }
        if text.len() == before {
            text.push_str(&format!("\n  {id}: no difference"));
        }
    }
    Ok(text)
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn rate(open: &[Instance]) -> Rate {
    open.iter().map(Instance::at_risk).sum()
}

/// A line for each machine.
fn listed(open: &[Instance]) -> String {
    let line = |i: &Instance| {
        let id = i.native_id.as_deref().map_or_else(|| "no id known".to_owned(), |id| format!("id {id}"));
        format!("  {}  {} {id}  session {}  {}\n", i.label, i.provider, i.label.session, i.at_risk())
    };
    let mut text: String = open.iter().take(NAMED).map(line).collect();
    if open.len() > NAMED {
        let rest: BTreeSet<SessionId> = open.iter().skip(NAMED).map(|i| i.label.session).collect();
        text.push_str(&format!("  and {} more, of {}\n", open.len() - NAMED, count(rest.len(), "session")));
    }
    text
}
