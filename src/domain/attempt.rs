//! Failover: which offer is tried next, and why none is.

use crate::domain::backoff;
use crate::domain::explain::{Explanation, explain};
use crate::domain::ids::{OfferId, ProviderId};
use crate::domain::money::{Nanos, Rate};
use crate::domain::offer::{Offer, OfferFilter, OfferOrder, RentalKind};
use crate::domain::policy::Policy;
use crate::domain::service;
use crate::domain::session::{AttemptFailure, FailoverScope, Session, Target};
use crate::domain::shelf::Shelf;
use crate::domain::time::Time;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// An offer chosen for the next attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The offer.
    pub offer: Arc<Offer>,
    /// Disk to rent, GB.
    pub disk_gb: u32,
}

/// What is known besides the session when an offer is chosen.
pub struct Market<'a> {
    /// The snapshot's offers.
    pub offers: &'a Shelf,
    /// What is hidden from everybody for a while, because of what happened there.
    pub set_aside: &'a [Arc<Offer>],
    /// Single-slot offers whose slice another open session holds.
    pub claimed: &'a dyn Fn(&OfferId) -> bool,
    /// Providers where nothing may be launched now.
    pub closed: &'a dyn Fn(&ProviderId) -> bool,
    /// Offers that their provider has not told of since then are not rented unseen.
    pub not_before: Time,
}

/// Why no offer will do.
#[derive(Clone, Debug, PartialEq)]
pub struct Unmet {
    /// For people.
    pub why: String,
    /// What the request's filter does, where there is one.
    pub explanation: Option<Box<Explanation>>,
}

impl From<String> for Unmet {
    fn from(why: String) -> Self {
        Self { why, explanation: None }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Waits between attempts while a provider limits our calls: the first, doubling up to the last.
const SPACING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// How long to wait before the next attempt: not at all, unless the last one failed for what passes by waiting.
#[must_use]
pub fn spacing(session: &Session) -> Option<Duration> {
    let times = u32::try_from(session.throttled_in_a_row()).unwrap_or(u32::MAX);
    (times > 0).then(|| backoff::doubling(SPACING.0, SPACING.1, times))
}

/// Whether another attempt may follow a failure of this kind; the reason why not, for people. What passes by waiting may be
/// tried again whatever the scope: it is no failure of the offer.
///
/// # Errors
/// Why there is no further attempt.
pub fn may_retry(session: &Session, failure: AttemptFailure, policy: &Policy) -> Result<(), String> {
    let failover = &session.request.failover;
    if failover.scope == FailoverScope::None && !failure.passes() {
        return Err("no failover was asked for".to_owned());
    }
    if failure == AttemptFailure::Invalid && matches!(session.request.target, Target::Offer(_)) {
        return Err("the provider finds the request wrong".to_owned());
    }
    if failure == AttemptFailure::SecretLost {
        return Err("every attempt would miss it".to_owned());
    }
    let came = session.attempts.iter().filter(|a| a.came_to_be).count();
    let refused = session.attempts.len() - came;
    if came >= usize::from(failover.max_attempts) {
        return Err(format!("{came} machines were tried (failover.max_attempts)"));
    }
    if refused >= usize::from(policy.max_refused_offers) || session.attempts.len() >= 99 {
        return Err(format!("{refused} offers were refused"));
    }
    Ok(())
}

/// Chooses the next offer for a session.
///
/// # Errors
/// Why none of the offers will do.
pub fn choose(session: &Session, market: &Market<'_>, now: Time) -> Result<Choice, Unmet> {
    let Some(bid) = session.request.bid else { return choose_among(session, market, now) };
    let offers = Shelf::new(market.offers.iter().filter_map(|offer| offer.at_bid(bid)).map(Arc::new).collect());
    choose_among(session, &Market { offers: &offers, ..*market }, now).map_err(|mut unmet| {
        let above = market.offers.iter().filter(|o| o.rental == RentalKind::Interruptible && o.at_bid(bid).is_none()).count();
        if above > 0 {
            unmet.why.push_str(&format!("; {above} more take only higher bids than {bid}"));
        }
        unmet
    })
}

fn choose_among(session: &Session, market: &Market<'_>, now: Time) -> Result<Choice, Unmet> {
    // The offer that was first chosen, once it was really tried; until then nothing has been decided.
    let untried = session.attempts.len() == session.throttled_in_a_row();
    let first = session.attempts.first().map(|a| &a.offer).filter(|_| !untried);
    let (filter, order) = match (&session.request.target, first) {
        (Target::Offer(id), None) => return explicit(session, id, market, now).map_err(Unmet::from),
        (Target::Offer(_), Some(first)) => (widened(session, first, OfferFilter::default()), OfferOrder::ExpectedCost),
        (Target::Requirements { filter, order }, None) => ((**filter).clone(), *order),
        (Target::Requirements { filter, order }, Some(first)) => (widened(session, first, (**filter).clone()), *order),
    };
    let disk = session.request.disk().or(filter.disk_gb);
    let needs = session.request.template.as_ref().map(|t| t.needs.clone()).or(filter.needs);
    // The host must keep the machine for the reservation, however early an end the request would take.
    let kept_until = now + session.request.reservation;
    let host_end_after = Some(filter.host_end_after.map_or(kept_until, |asked| asked.max(kept_until)));
    let filter = OfferFilter { disk_gb: disk, needs, host_end_after, ..filter };
    let sieve = filter.sieve();
    let fits = |offer: &Offer| {
        sieve.passes(offer)
            && offer.seen_at >= market.not_before
            && !(market.closed)(&offer.provider)
            && maps(session, offer)
            && (offer.slots != Some(1) || !(market.claimed)(&offer.id))
            && session.tried_machines().all(|m| *m != offer.machine)
            && affordable(session, offer.price(disk).total(), now).is_ok()
    };
    match market.offers.best(&filter, order, &fits) {
        Some(offer) => Ok(Choice { disk_gb: offer.disk.rented_gb(disk), offer: Arc::clone(offer) }),
        None => Err(none_fits(session, market, &filter, now)),
    }
}

/// Whether an offer's machine can be reached at the ports that a session wants.
#[must_use]
pub fn maps(session: &Session, offer: &Offer) -> bool {
    offer.direct_ports != Some(false) || service::ports(&session.request).is_empty()
}

/// Why nothing fits: what the filter does, and what keeps out the offers that would pass it.
fn none_fits(session: &Session, market: &Market<'_>, filter: &OfferFilter, now: Time) -> Unmet {
    let explanation = explain(market.offers, filter);
    let passing: Vec<&Arc<Offer>> = market.offers.iter().filter(|o| filter.check(o).is_ok()).collect();
    let mut why = match passing.len() {
        0 => explanation.summary(),
        n => format!("{n} of {} offers meet the request, and none can be rented now", market.offers.len()),
    };
    let mut rest = passing;
    let mut tell = |what: &str, keeps_out: &dyn Fn(&Offer) -> bool| {
        let before = rest.len();
        rest.retain(|o| !keeps_out(o));
        if rest.len() < before {
            why.push_str(&format!("; {} {what}", before - rest.len()));
        }
    };
    let told: Vec<&Arc<Offer>> = market.offers.iter().filter(|o| o.seen_at < market.not_before && filter.check(o).is_ok()).collect();
    if let Some(last) = told.iter().max_by_key(|o| o.seen_at) {
        let old = format!("would, but {} last told of them at {}, too long ago to rent unseen", last.provider, last.seen_at);
        tell(&old, &|o| o.seen_at < market.not_before);
    }
    tell("at providers that take no launches now", &|o| (market.closed)(&o.provider));
    tell("on machines that this session has tried", &|o| session.tried_machines().any(|m| *m == o.machine));
    tell("reached through their vendor's proxy only, which maps no ports", &|o| !maps(session, o));
    tell("taken by other sessions", &|o| o.slots == Some(1) && (market.claimed)(&o.id));
    tell("beyond the session's own price limits", &|o| affordable(session, o.price(filter.disk_gb).total(), now).is_err());
    let aside = market.set_aside.iter().filter(|o| filter.check(o).is_ok()).count();
    if aside > 0 {
        why.push_str(&format!("; {aside} more would, but are set aside for what happened there lately (ListOfferHealth)"));
    }
    Unmet { why, explanation: Some(Box::new(explanation)) }
}

fn explicit(session: &Session, id: &OfferId, market: &Market<'_>, now: Time) -> Result<Choice, String> {
    let offer = market.offers.get_by_id(id).ok_or_else(|| format!("offer {id} is gone"))?;
    if (market.closed)(&offer.provider) {
        return Err(format!("{} takes no launches now", offer.provider));
    }
    if offer.slots == Some(1) && (market.claimed)(id) {
        return Err(format!("offer {id} is taken by another session"));
    }
    if offer.seen_at < market.not_before {
        return Err(format!("{} last told of offer {id} at {}, too long ago to rent it unseen", offer.provider, offer.seen_at));
    }
    if let Some(template) = &session.request.template {
        template.needs.met_by(offer).map_err(|why| format!("template {} does not run on offer {id}: {why}", template.hash_id))?;
    }
    if !maps(session, offer) {
        return Err(format!("offer {id} maps no ports: its machine is reached through the vendor's proxy only"));
    }
    let disk = session.request.disk();
    if !offer.disk.has_room(disk) {
        return Err(format!("offer {id} has room for a disk of {} GB at most", offer.disk.max_gb));
    }
    affordable(session, offer.price(disk).total(), now)?;
    Ok(Choice { disk_gb: offer.disk.rented_gb(disk), offer: Arc::clone(offer) })
}

fn widened(session: &Session, first: &Offer, filter: OfferFilter) -> OfferFilter {
    let rental = filter.rental.or(Some(first.rental));
    let max = |a: Option<u32>, b: u32| Some(a.map_or(b, |a| a.max(b)));
    match session.request.failover.scope {
        FailoverScope::None | FailoverScope::Any => OfferFilter { rental, ..filter },
        FailoverScope::SameMemory => OfferFilter {
            rental,
            min_gpu_memory_mib: max(filter.min_gpu_memory_mib, first.gpu_memory_mib),
            min_gpu_count: max(filter.min_gpu_count, first.gpu_count),
            ..filter
        },
        FailoverScope::SameGpu => OfferFilter {
            rental,
            gpu_models: vec![first.gpu.clone()],
            gpu_count: Some(first.gpu_count),
            min_gpu_memory_mib: max(filter.min_gpu_memory_mib, first.gpu_memory_mib),
            ..filter
        },
    }
}

/// Whether a machine at this rate stays within the request's limits.
///
/// # Errors
/// Which limit it breaks.
pub fn affordable(session: &Session, rate: Rate, now: Time) -> Result<(), String> {
    let request = &session.request;
    let later = if session.attempts.is_empty() { None } else { request.failover.max_price };
    if let Some(most) = [request.max_price, later].into_iter().flatten().min()
        && rate > most
    {
        return Err(format!("{rate} is more than the allowed {most}"));
    }
    if let Some(most) = request.max_total_cost {
        let all = whole(session, rate, now);
        if all > most {
            return Err(format!("the whole would cost {all}, more than max_total_cost {most}"));
        }
    }
    Ok(())
}

/// What a session will have cost at its end with a machine at this rate.
#[must_use]
pub fn whole(session: &Session, rate: Rate, now: Time) -> Nanos {
    // The reservation counts from the first RUNNING; until then the whole of it lies ahead, as far as it was extended.
    let begins = if session.running_at.is_some() { now } else { session.created_at };
    let rest = session.expires_at.since(begins);
    session.cost.high + rate.accrued(i64::try_from(rest.as_millis()).unwrap_or(i64::MAX))
}

/// When `max_total_cost` alone keeps everything out that could be rented otherwise: the least that would do, for the whole
/// reservation at the cheapest of them.
#[must_use]
pub fn least_total(session: &Session, market: &Market<'_>, now: Time) -> Option<Nanos> {
    session.request.max_total_cost?;
    let mut unlimited = session.clone();
    let request = Arc::make_mut(&mut unlimited.request);
    request.max_total_cost = None;
    // Whichever is the cheapest is so at any length.
    if let Target::Requirements { order, .. } = &mut request.target {
        *order = OfferOrder::Price;
    }
    let choice = choose(&unlimited, market, now).ok()?;
    Some(whole(session, choice.offer.price(Some(choice.disk_gb)).total(), now))
}

/// What a session may still spend before it has cost `percent` of `max_total_cost`; below zero when it has cost more.
#[must_use]
pub fn budget_left(session: &Session, percent: i64) -> Option<Nanos> {
    let share = |most: Nanos| Nanos(i64::try_from(i128::from(most.0) * i128::from(percent) / 100).unwrap_or(i64::MAX));
    session.request.max_total_cost.map(|most| share(most) - session.cost.cost)
}
