//! One lookout per provider: proves the credentials, lists what is on the account, again and again, and reports to the
//! lifecycle actor. Looks often while something begins or is searched for, less while machines run, seldom otherwise:
//! O(pages) calls per look, whatever the number of sessions.
//!
//! It takes no hints and decides nothing: the same look serves start-up, recovery and steady state. A list that failed
//! is not reported at all.

use crate::clock::Clock;
use crate::domain::ids::ProviderId;
use crate::domain::instance::{InstanceStatus, NO_STATUS, Sighting};
use crate::domain::time::{Look, Time};
use crate::ports::{Account, Chance, ErrorKind, Provider, ProviderError};
use crate::services::lifecycle::{Attention, Closed, Handle, Listing, Standing, refused_credentials};
use futures::FutureExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// Credentials and balance are looked at this often.
const ACCOUNT_EVERY: Duration = Duration::from_secs(300);
/// And this often while they don't work.
const ACCOUNT_RETRY: Duration = Duration::from_secs(30);
/// So many lists failed one after the other say that the provider can't be reached.
const UNREACHABLE_AFTER: u32 = 3;
/// A wait between two looks lies up to twice this share of itself under its interval, so that servers don't look in step.
const SPREAD: f64 = 0.05;
/// The look at the start is told of as over after this, together with the proof of the credentials, even while it goes on.
const START: Duration = Duration::from_secs(60);
/// No look takes longer than this: some vendors give 25 machines a second. Each call has its own, shorter time.
const LOOK: Duration = Duration::from_secs(30 * 60);
/// A proof that was asked for in the same moment in which the credentials changed is asked for again.
const ASKED_TOO_EARLY: Duration = Duration::from_millis(100);
/// After a look that panicked, and so much longer after each further one with no good look between.
const BROKEN: Duration = Duration::from_secs(5);
/// No proof of the credentials takes longer than this.
const PROOF: Duration = Duration::from_secs(30);
/// So many unknown words of a provider are told of.
const WORDS: usize = 32;

/// How often to list.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// While something begins or is searched for.
    pub close: Duration,
    /// While machines run.
    pub steady: Duration,
    /// While nothing of ours is there.
    pub idle: Duration,
}

/// What the lookout knows of its provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// The account, once proven.
    pub account: Option<Account>,
    /// When that was asked for.
    pub account_asked: Option<Look>,
    /// Why the credentials are not proven.
    pub account_error: Option<String>,
    /// The provider refuses them.
    pub refused: bool,
    /// The last complete list.
    pub listed_at: Option<Time>,
    /// Why the last list failed.
    pub list_error: Option<String>,
    /// When the last list that is over, well or not, was begun.
    pub looked_from: Option<Time>,
    /// The look at the start is over, well or not.
    pub swept: bool,
    /// How often it had got other credentials by then.
    pub renewals: u64,
}

impl Outlook {
    /// How a provider does, in a word for people and their tools; `refusal` = why launches are refused there.
    #[must_use]
    pub fn word(seen: Option<&Self>, refusal: Option<&Closed>) -> &'static str {
        match (seen, refusal) {
            (None, _) => "starting",
            (Some(Self { refused: true, .. }), _) | (_, Some(Closed::Auth(_))) => "credentials not proven",
            (_, Some(Closed::Credit(_))) => "out of credit",
            (Some(seen), _) if seen.account_error.is_some() || seen.list_error.is_some() => "unreachable",
            (Some(_), _) => "ok",
        }
    }
}

/// What is asked of a lookout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Looks that an operator wanted at once.
    pub looks: u64,
    /// Changes of the credentials: whose account they open is to be proven anew.
    pub renewals: u64,
}

/// A lookout before it runs.
#[derive(Clone)]
pub struct Lookout {
    /// Where.
    pub provider: Arc<dyn Provider>,
    /// To whom it reports.
    pub lifecycle: Handle,
    /// How often.
    pub rhythm: Rhythm,
    /// Time.
    pub clock: Clock,
    /// Jitter.
    pub chance: Arc<dyn Chance>,
    /// Where launches are refused.
    pub standing: Arc<Mutex<Standing>>,
    /// How closely to look.
    pub attention: watch::Receiver<Attention>,
    /// Changes when an operator wants a look now, or the credentials are others than before: they are proven anew, too.
    pub asked: watch::Receiver<Asked>,
    /// Where its knowledge is shown.
    pub outlook: watch::Sender<BTreeMap<ProviderId, Outlook>>,
}

impl Lookout {
    /// Looks until told to stop; a look that panics is told of, and the next one begins with nothing known.
    pub async fn run(self, stop: CancellationToken) {
        let mut broke = 0;
        loop {
            let begun = self.clock.now();
            if AssertUnwindSafe(self.clone().looks(&stop)).catch_unwind().await.is_ok() {
                return;
            }
            let listed = self.outlook.borrow().get(&self.id()).is_some_and(|seen| seen.list_error.is_none() && seen.listed_at >= Some(begun));
            broke = if listed { 1 } else { broke + 1 };
            tracing::error!(provider = %self.id(), "looking at its machines panicked, which is a mistake of this program; looking anew");
            self.outlook.send_modify(|all| {
                let seen = all.entry(self.id()).or_default();
                (seen.swept, seen.list_error) = (true, Some("our own look broke: see the log".to_owned()));
            });
            if broke >= UNREACHABLE_AFTER {
                self.lifecycle.unlisted(self.id()).await;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.clock.sleep((BROKEN * broke).min(ACCOUNT_RETRY)) => {}
            }
        }
    }

    async fn looks(mut self, stop: &CancellationToken) {
        let mut seen = Outlook::default();
        let mut account_due = self.clock.now();
        let mut listed = false;
        let mut failed = 0_u32;
        let mut doubted = false;
        let mut words = BTreeSet::new();
        loop {
            let begun = self.clock.now();
            if self.renewed(&seen) {
                // Whose account it is now, and what is on it, is to be seen.
                seen.renewals = self.asked.borrow().renewals;
                (seen.account, seen.listed_at, listed) = (None, None, false);
                account_due = begun;
            }
            if begun >= account_due || std::mem::take(&mut doubted) {
                let again = self.prove(&mut seen, listed).await;
                account_due = self.clock.now() + again;
            }
            self.asked.mark_unchanged();
            let span = tracing::info_span!("lookout", provider = %self.id());
            let mut looking = Box::pin(tokio::time::timeout(LOOK, self.provider.instances()).instrument(span));
            let sent = self.clock.now();
            let looked = if seen.swept {
                looking.await
            } else {
                match tokio::time::timeout(START.saturating_sub(sent.since(begun)), &mut looking).await {
                    Ok(looked) => looked,
                    Err(_) => {
                        seen.list_error = Some("no answer in time".to_owned());
                        seen.looked_from = Some(sent);
                        self.judge(&mut seen, &mut listed).await;
                        seen.swept = true;
                        self.show(&seen);
                        looking.await
                    }
                }
            };
            doubted = matches!(&looked, Ok(Err(error)) if error.kind == ErrorKind::Auth) && !seen.refused;
            if let Ok(Ok(sightings)) = &looked {
                self.tell_unknown(sightings, &mut words);
            }
            self.looked(looked, sent, &mut seen).await;
            seen.looked_from = Some(sent);
            failed = if seen.list_error.is_some() { failed.saturating_add(1) } else { 0 };
            if failed >= UNREACHABLE_AFTER {
                self.lifecycle.unlisted(self.id()).await;
            }
            self.judge(&mut seen, &mut listed).await;
            seen.swept = true;
            self.show(&seen);
            let now = self.clock.now();
            let mut wait = self.wait(&seen);
            if self.refused(&seen) {
                // A launch may have heard it, which no proof has: it holds until the next one, which is therefore not put off.
                account_due = account_due.min(now + ACCOUNT_RETRY);
                wait = wait.min(ACCOUNT_RETRY);
            }
            if account_due <= now + ASKED_TOO_EARLY {
                wait = ASKED_TOO_EARLY;
            }
            let more = self.more_attention();
            let mut asked = self.asked.clone();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Ok(()) = asked.changed() => account_due = self.clock.now(),
                () = more => {}
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    /// Whether the credentials are others than those that `seen` was seen with.
    fn renewed(&self, seen: &Outlook) -> bool {
        self.asked.borrow().renewals != seen.renewals
    }

    /// Whether the account is refused for what a proof can tell the end of.
    fn refused(&self, seen: &Outlook) -> bool {
        match Standing::refusal(&self.standing, &self.id()) {
            // Without a balance no proof tells whether there is credit again.
            Some(Closed::Credit(_)) => seen.account.as_ref().is_some_and(|account| account.balance.is_some()),
            refusal => refusal.is_some(),
        }
    }

    fn id(&self) -> ProviderId {
        self.provider.facts().id.clone()
    }

    /// Until the first complete list nothing is launched there: what may already be on the account is not known.
    async fn judge(&self, seen: &mut Outlook, listed: &mut bool) {
        if *listed {
            return;
        }
        match (seen.listed_at, seen.account.as_ref().zip(seen.account_asked)) {
            (Some(_), Some((account, asked))) => {
                *listed = true;
                self.lifecycle.proven(self.id(), account.clone(), asked, true).await;
            }
            (None, Some(_)) => {
                let why = seen.list_error.clone().unwrap_or_default();
                self.lifecycle.shut(self.id(), Closed::Unreachable(why)).await;
            }
            (_, None) => {}
        }
    }

    /// Proves the credentials; returns when to do it again.
    async fn prove(&mut self, seen: &mut Outlook, listed: bool) -> Duration {
        let sent = self.clock.now();
        match tokio::time::timeout(PROOF, self.provider.account()).await {
            // It is that of the credentials before.
            Ok(Ok(_)) if self.renewed(seen) => Duration::ZERO,
            Ok(Ok(account)) => {
                if seen.account.is_none() {
                    tracing::info!(provider = %self.id(), account = %account.identity, "provider ready");
                }
                let asked = Look { sent, answered: self.clock.answered() };
                let believed = self.lifecycle.proven(self.id(), account.clone(), asked, listed).await;
                (seen.account, seen.account_asked) = (Some(account), Some(asked));
                seen.account_error = None;
                seen.refused = false;
                if believed { ACCOUNT_EVERY } else { ASKED_TOO_EARLY }
            }
            Ok(Err(error)) => {
                let why = match error.kind {
                    ErrorKind::Auth => {
                        tracing::error!(provider = %self.id(), "{}", refused_credentials(&error.text));
                        seen.refused = true;
                        Some(Closed::Auth(error.text.clone()))
                    }
                    ErrorKind::Credit => Some(Closed::Credit(error.text.clone())),
                    _ if seen.account.is_none() => Some(Closed::Unreachable(error.text.clone())),
                    _ => None,
                };
                if let Some(why) = why {
                    self.lifecycle.shut(self.id(), why).await;
                }
                seen.account_error = Some(error.text);
                ACCOUNT_RETRY
            }
            Err(_) => {
                let why = "no answer in time";
                if seen.account.is_none() {
                    self.lifecycle.shut(self.id(), Closed::Unreachable(why.to_owned())).await;
                }
                seen.account_error = Some(why.to_owned());
                ACCOUNT_RETRY
            }
        }
    }

    async fn looked(&self, looked: Result<Result<Vec<Sighting>, ProviderError>, Elapsed>, sent: Time, seen: &mut Outlook) {
        match looked {
            Ok(Ok(_)) if self.renewed(seen) => {
                // It may show the account of the credentials before.
                seen.list_error = Some("the credentials have changed meanwhile".to_owned());
            }
            Ok(Ok(sightings)) => {
                let answered = self.clock.now();
                seen.listed_at = Some(answered);
                seen.list_error = None;
                self.lifecycle.listed(Listing { provider: self.id(), look: Look { sent, answered }, sightings }).await;
            }
            Err(_) => seen.list_error = Some("no answer in time".to_owned()),
            Ok(Err(error)) => {
                tracing::warn!(provider = %self.id(), %error, "listing instances failed; that says nothing about them");
                seen.list_error = Some(error.text);
            }
        }
    }

    /// A vendor has new words at times. Each is told once; `told` = those that were.
    fn tell_unknown(&self, sightings: &[Sighting], told: &mut BTreeSet<String>) {
        for seen in sightings.iter().filter(|seen| seen.status == InstanceStatus::Unknown) {
            // Behind the colon is what goes on there.
            let word = seen.raw_status.split(':').next().unwrap_or_default();
            if word != NO_STATUS && told.len() < WORDS && told.insert(word.to_owned()) {
                tracing::warn!(
                    provider = %self.id(), native_id = seen.native_id, status = word,
                    "a machine's status is a word that is not known here: until another one is told it counts as neither running nor gone"
                );
            }
        }
    }

    fn show(&self, seen: &Outlook) {
        let id = self.id();
        self.outlook.send_if_modified(|all| {
            let changed = all.get(&id) != Some(seen);
            all.insert(id, seen.clone());
            changed
        });
    }

    fn attention_now(&self) -> Attention {
        *self.attention.borrow()
    }

    fn wait(&self, seen: &Outlook) -> Duration {
        let base = match self.attention_now() {
            Attention::Close => self.rhythm.close,
            // Nothing is rented there before the first complete list: don't make it wait.
            Attention::Idle | Attention::Steady if seen.listed_at.is_none() && seen.account.is_some() => self.rhythm.close,
            Attention::Steady => self.rhythm.steady,
            Attention::Idle if seen.account.is_none() => ACCOUNT_RETRY.min(self.rhythm.idle),
            Attention::Idle => self.rhythm.idle,
        };
        // Within the interval that was promised, never under the vendor's.
        let spread = self.chance.jitter(base.mul_f64(1.0 - SPREAD), SPREAD);
        spread.max(self.provider.facts().list_interval)
    }

    /// Resolves when the actor wants closer looks than the present wait was chosen for.
    async fn more_attention(&self) {
        let before = self.attention_now();
        let mut attention = self.attention.clone();
        loop {
            if attention.changed().await.is_err() {
                return std::future::pending().await;
            }
            if *attention.borrow_and_update() > before {
                // A fresh launch is not in any list yet: give it the close interval first.
                return self.clock.sleep(self.rhythm.close).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provider_says_of_the_account_goes_before_what_fails_for_it() {
        let word = |seen: &Outlook, refusal: Option<Closed>| Outlook::word(Some(seen), refusal.as_ref());
        let well = Outlook::default();
        let failing = Outlook { account_error: Some("402".to_owned()), list_error: Some("402".to_owned()), ..Outlook::default() };
        let refused = Outlook { refused: true, ..failing.clone() };
        let (auth, credit) = (|| Some(Closed::Auth("no".to_owned())), || Some(Closed::Credit("none".to_owned())));
        assert_eq!([word(&well, None), word(&failing, None), word(&refused, None)], ["ok", "unreachable", "credentials not proven"]);
        assert_eq!([word(&well, credit()), word(&failing, credit())], ["out of credit"; 2]);
        assert_eq!([word(&well, auth()), word(&failing, auth()), word(&refused, credit())], ["credentials not proven"; 3]);
        assert_eq!(word(&failing, Some(Closed::Unreachable("since the start".to_owned()))), "unreachable");
        assert_eq!(Outlook::word(None, credit().as_ref()), "starting");
    }
}
