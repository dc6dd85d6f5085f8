//! What may be created: everything that is known at once, checked before anything is written.

use super::Closed;
use super::actor::Actor;
use crate::domain::attempt::{self, Market, Unmet};
use crate::domain::ids::{OfferId, ProviderId, SessionId};
use crate::domain::session::{Session, State, StoragePolicy, Target};
use crate::domain::time::Time;
use crate::services::api::{Caller, Create};
use crate::services::error::{Code, Error};
use std::collections::BTreeMap;
use std::time::Duration;

impl Actor {
    /// The session to be, or why not. Writes nothing.
    pub(super) fn admit(&self, caller: &Caller, create: &Create, id: SessionId, now: Time) -> Result<Session, Error> {
        let request = &create.request;
        if let Some(scope) = &caller.scope
            && *scope != request.consumer
        {
            return Err(Error::new(Code::NotFound, "CONSUMER_NOT_FOUND", format!("there is no consumer {} for this token", request.consumer))
                .with("consumer_id", &request.consumer));
        }
        let hard_max = self.parts.policy.hard_max;
        if request.reservation > hard_max {
            let hours = hard_max.as_secs() / 3600;
            return Err(Error::new(
                Code::OutOfRange,
                "HARD_MAX_EXCEEDED",
                format!("reservation: {} s is longer than a session may live ({hours} h): ask for less", request.reservation.as_secs()),
            )
            .with("max_expire_time", now + hard_max));
        }
        let session = Session::new(id, request.clone(), create.labels.clone(), hard_max, now);
        if let Target::Offer(offer) = &request.target {
            self.admit_offer(&session, offer)?;
        }
        let claims = self.claims();
        let snapshot = self.parts.inventory.snapshot();
        let claimed = |offer: &OfferId| claims.contains_key(&offer.slice());
        let closed = |provider: &ProviderId| self.closed.contains_key(provider);
        let not_before = now - self.parts.policy.max_offer_age;
        let market = Market { offers: &snapshot.offers, set_aside: &snapshot.set_aside, claimed: &claimed, closed: &closed, not_before };
        match attempt::choose(&session, &market, now) {
            Ok(_) => Ok(session),
            Err(unmet) => Err(self.no_capacity(&unmet, snapshot.offers.len())),
        }
    }

    fn admit_offer(&self, session: &Session, id: &OfferId) -> Result<(), Error> {
        // Why its provider takes nothing comes before whether it is on offer: without credentials nothing is.
        let owner = self.parts.tools.providers.iter().find(|(_, provider)| provider.owns_offer_id(id)).map(|(name, _)| name);
        match owner.and_then(|name| self.closed.get(name).map(|why| (name, why))) {
            Some((name, Closed::Auth(text))) => {
                let text = format!("Provider authentication failed: {text}");
                return Err(Error::new(Code::FailedPrecondition, "PROVIDER_AUTH", text).with("provider", name));
            }
            Some((name, Closed::Credit(text))) => {
                let text = format!("the account at {name} is out of credit: {text}");
                return Err(Error::new(Code::FailedPrecondition, "PROVIDER_CREDIT", text).with("provider", name));
            }
            Some((_, Closed::NotSwept)) | None => {}
        }
        let offer = self.parts.inventory.get(id)?;
        let same = self.live.values().find(|entry| {
            let other = &entry.session;
            let theirs = other.offer().map(|o| &o.id).or(match &other.request.target {
                Target::Offer(id) => Some(id),
                Target::Requirements { .. } => None,
            });
            offer.slots == Some(1)
                && theirs.is_some_and(|theirs| theirs.slice() == id.slice())
                && other.request.consumer == session.request.consumer
                && matches!(other.state, State::Pending | State::Provisioning | State::Running)
        });
        if let Some(entry) = same
            && !session.request.allow_same_offer
        {
            let (other, state) = (entry.session.id, entry.session.state);
            return Err(Error::new(
                Code::AlreadyExists,
                "SESSION_EXISTS",
                format!("consumer {} already has session {other} ({state}) on offer {id}: use it, or set allow_same_offer", session.request.consumer),
            )
            .with("session_id", other)
            .with("state", state)
            .with("offer_id", id));
        }
        attempt::affordable(session, offer.price(session.request.disk_gb).total(), session.created_at).map_err(|why| {
            Error::new(Code::FailedPrecondition, "PRICE_ABOVE_LIMIT", format!("offer {id}: {why}: raise the limit or take another offer"))
                .with("offer_id", id)
        })
    }

    fn no_capacity(&self, unmet: &Unmet, offers: usize) -> Error {
        let unseen: Vec<&str> = self.closed.iter().filter(|(_, c)| **c == Closed::NotSwept).map(|(p, _)| p.as_str()).collect();
        if !unseen.is_empty() {
            let names = unseen.join(", ");
            return Error::new(
                Code::Unavailable,
                "STARTING",
                format!("{names} could not be looked at since the start, so nothing is rented there yet: try again"),
            )
            .with("providers", names)
            .retry(Duration::from_secs(3));
        }
        let mut error =
            Error::new(Code::ResourceExhausted, "NO_CAPACITY", format!("No offers available: {unmet}. Relax the requirements or try again later"))
                .with("offers", offers);
        if let Some(explanation) = &unmet.explanation {
            let removed: Vec<String> = explanation.effects.iter().filter(|e| e.removed > 0).map(|e| format!("{}={}", e.field, e.removed)).collect();
            error = error.with("removed_by", removed.join(","));
            if let Some(first) = explanation.relaxations.first() {
                error = error.with("relax_field", first.field).with("relax_to", &first.value).with("relax_offers", first.offers);
            }
        }
        for (provider, closed) in &self.closed {
            let text = match closed {
                Closed::Auth(text) => format!("Provider authentication failed: {text}"),
                Closed::Credit(text) => format!("out of credit: {text}"),
                Closed::NotSwept => "not looked at since the start".to_owned(),
            };
            error = error.with(provider.as_str(), text);
        }
        error
    }

    /// Slices that open sessions hold: whoever has an offer has its twin by a bid, too.
    pub(super) fn claims(&self) -> BTreeMap<OfferId, SessionId> {
        let mut claims = BTreeMap::new();
        for (id, entry) in &self.live {
            for row in entry.instances.iter().filter(|r| r.open()) {
                claims.insert(row.offer.slice(), *id);
            }
            if let (State::Pending, Target::Offer(offer)) = (entry.session.state, &entry.session.request.target)
                && !entry.session.request.allow_same_offer
            {
                claims.insert(offer.slice(), *id);
            }
        }
        claims
    }

    /// What is accepted and yet can't be done.
    pub(super) fn warnings(&self, session: &Session, now: Time) -> Vec<String> {
        let mut warnings = Vec::new();
        if session.request.storage == StoragePolicy::Preserve {
            warnings.push("storage_policy=preserve: no provider keeps anything beyond the machine; the disk goes with it".to_owned());
        }
        if let Target::Offer(id) = &session.request.target
            && let Ok(offer) = self.parts.inventory.get(id)
            && let Some(end) = offer.host_end
            && end < now + session.request.reservation
        {
            warnings.push(format!("the host takes this machine off the market at {end}, before the reservation ends"));
        }
        warnings
    }
}
