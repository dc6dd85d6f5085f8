//! What may be created: everything that is known at once, checked before anything is written.

use super::actor::Actor;
use super::{Closed, refused_credentials};
use crate::domain::attempt::{self, Market, Unmet};
use crate::domain::ids::{OfferId, ProviderId, SessionId};
use crate::domain::money::Nanos;
use crate::domain::offer::{Offer, RentalKind};
use crate::domain::session::{Request, Session, State, StoragePolicy, Target};
use crate::domain::time::Time;
use crate::services::api::Create;
use crate::services::error::{Code, Error, Violation};
use crate::services::sweeper::HoldKind;
use std::sync::Arc;
use std::time::Duration;

/// When to ask again for a provider that can't be reached: about when it has been tried again.
const UNREACHABLE_RETRY: Duration = Duration::from_secs(15);

/// Whether the disk asked for can hold the model.
fn enough_disk(request: &Request) -> Result<(), Error> {
    let (Some(asked), Some(needs)) = (request.disk_gb, request.estimate()) else { return Ok(()) };
    if asked >= needs.minimum_gb {
        return Ok(());
    }
    let model = request.model_id.as_deref().unwrap_or_default();
    let text = format!(
        "disk_gb: {asked} GB is too little for {model}, which needs {} GB: weights {} + download {} + image {} + system {}{}; ask for {} GB or leave it out",
        needs.minimum_gb,
        needs.weights_gb,
        needs.cache_gb,
        needs.image_gb,
        needs.slack_gb,
        if needs.template_gb > 0 { format!(" (the template recommends {})", needs.template_gb) } else { String::new() },
        needs.recommended_gb
    );
    let rest = needs.parameters_millions % 1000;
    Err(Error::new(Code::InvalidArgument, "INSUFFICIENT_DISK", text)
        .with("requested_gb", asked)
        .with("minimum_gb", needs.minimum_gb)
        .with("recommended_gb", needs.recommended_gb)
        .with("model_weight_gb", needs.weights_gb)
        .with("download_buffer_gb", needs.cache_gb)
        .with("docker_image_gb", needs.image_gb)
        .with("system_overhead_gb", needs.slack_gb)
        .with("template_floor_gb", needs.template_gb)
        .with("model_id", model)
        .with("quantization", needs.quantization)
        .with("param_count_b", format!("{}.{rest:03}", needs.parameters_millions / 1000)))
}

/// A limit below what one run costs, at the least.
fn too_little(session: &Session, least: Nanos) -> Error {
    let most = session.request.max_total_cost.unwrap_or_default();
    let seconds = session.request.reservation.as_secs();
    let of = match &session.request.target {
        Target::Offer(id) => format!("offer {id}"),
        Target::Requirements { .. } => "the cheapest offer that meets the rest".to_owned(),
    };
    let rule = format!("{most} is too little: {seconds} s of {of} cost {least}; allowed: {least} or more, or ask for a shorter reservation");
    let mut error = Error::new(Code::FailedPrecondition, "PRICE_ABOVE_LIMIT", format!("max_total_cost: {rule}"));
    error.violations.push(Violation { field: "max_total_cost".to_owned(), description: rule });
    error.with("max_total_cost", most).with("least_total_cost", least)
}

/// The offer at the price that is bid for it.
fn bid_for(session: &Session, offer: Arc<Offer>) -> Result<Arc<Offer>, Error> {
    let Some(bid) = session.request.bid else { return Ok(offer) };
    if let Some(at_bid) = offer.at_bid(bid) {
        return Ok(Arc::new(at_bid));
    }
    let id = &offer.id;
    let why = match (offer.rental, offer.min_bid) {
        (RentalKind::OnDemand, _) => format!("offer {id} has a fixed price and takes no bids: leave it out, or take an interruptible offer"),
        (RentalKind::Interruptible, least) => {
            format!("{bid} is less than the lowest bid that wins offer {id} now, {}", least.unwrap_or_default())
        }
    };
    Err(Error::field("bid", why))
}

impl Actor {
    /// The session to be, or why not. Writes nothing.
    pub(super) fn admit(&self, create: &Create, id: SessionId, now: Time) -> Result<Session, Error> {
        let request = &create.request;
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
        enough_disk(request)?;
        let session = Session::new(id, request.clone(), create.labels.clone(), hard_max, now);
        if let Target::Offer(offer) = &request.target {
            self.admit_offer(&session, offer)?;
        }
        let snapshot = self.parts.inventory.snapshot();
        let claimed = |offer: &OfferId| self.claimed_from(&session, offer);
        let closed = |provider: &ProviderId| self.shut_why(provider, now).is_some();
        let not_before = now - self.parts.policy.max_offer_age;
        let market = Market { offers: &snapshot.offers, set_aside: &snapshot.set_aside, claimed: &claimed, closed: &closed, not_before };
        match attempt::choose(&session, &market, now) {
            Ok(_) => Ok(session),
            Err(unmet) => Err(match attempt::least_total(&session, &market, now) {
                Some(least) => too_little(&session, least),
                None => self.no_capacity(&session, &unmet, snapshot.offers.len()),
            }),
        }
    }

    fn admit_offer(&self, session: &Session, id: &OfferId) -> Result<(), Error> {
        // What this consumer already has there comes first: a rented offer is soon on nobody's list.
        if !session.request.allow_same_offer
            && let Some(other) = self.same_offer(session, id)
        {
            let state = other.state;
            return Err(Error::new(
                Code::AlreadyExists,
                "SESSION_EXISTS",
                format!(
                    "consumer {} already has session {} ({state}) on offer {id}: use it, or set allow_same_offer",
                    session.request.consumer, other.id
                ),
            )
            .with("session_id", other.id)
            .with("state", state)
            .with("offer_id", id));
        }
        // Why its provider takes nothing comes before whether it is on offer: without credentials nothing is.
        if let Some(error) = self.owner(id).and_then(|name| self.shut_error(name, session.created_at)) {
            return Err(error);
        }
        let disk = session.request.disk();
        let offer = bid_for(session, self.parts.inventory.get_with_disk(id, disk)?)?;
        if let Some(template) = &session.request.template
            && let Err(why) = template.needs.met_by(&offer)
        {
            let text = format!("template {} does not run on offer {id}: {why}", template.hash_id);
            return Err(Error::field("template_hash_id", text + "; ListTemplates with this `offer_id` shows what does"));
        }
        if !attempt::maps(session, &offer) {
            let text = format!("offer {id} maps no ports: its machine is reached through the vendor's proxy only; take an offer with direct_ports");
            return Err(Error::field("exposed_ports", text));
        }
        let least = attempt::whole(session, offer.price(disk).total(), session.created_at);
        if session.request.max_total_cost.is_some_and(|most| least > most) {
            return Err(too_little(session, least).with("offer_id", id));
        }
        attempt::affordable(session, offer.price(disk).total(), session.created_at).map_err(|why| {
            Error::new(Code::FailedPrecondition, "PRICE_ABOVE_LIMIT", format!("offer {id}: {why}: raise the limit or take another offer"))
                .with("offer_id", id)
        })
    }

    /// The consumer's session that holds this single-slot offer.
    fn same_offer(&self, session: &Session, id: &OfferId) -> Option<&Session> {
        let single = |offer: &Offer| offer.slots == Some(1);
        let holds = |other: &&Session| {
            other.request.consumer == session.request.consumer
                && matches!(other.state, State::Pending | State::Provisioning | State::Running)
                && match (other.offer(), &other.request.target) {
                    (Some(offer), _) => offer.id.slice_str() == id.slice_str() && single(offer),
                    (None, Target::Offer(wanted)) => wanted.slice_str() == id.slice_str() && self.parts.inventory.get(id).is_ok_and(|o| single(&o)),
                    (None, Target::Requirements { .. }) => false,
                }
        };
        self.live.values().map(|entry| &entry.session).find(holds)
    }

    /// The provider whose offer id this is.
    pub(super) fn owner(&self, id: &OfferId) -> Option<&ProviderId> {
        self.parts.tools.providers.iter().find(|(_, provider)| provider.owns_offer_id(id)).map(|(name, _)| name)
    }

    /// Whether another session's hold on an offer keeps this one away from it.
    pub(super) fn claimed_from(&self, session: &Session, offer: &OfferId) -> bool {
        let shared = |holder: &SessionId| {
            session.request.allow_same_offer && self.live.get(holder).is_some_and(|e| e.session.request.consumer == session.request.consumer)
        };
        self.live.holders(offer).any(|holder| *holder != session.id && !shared(holder))
    }

    fn no_capacity(&self, session: &Session, unmet: &Unmet, offers: usize) -> Error {
        let asked: Vec<&ProviderId> = self.parts.tools.providers.keys().filter(|p| self.asks(p, session)).collect();
        let unseen: Vec<&str> = asked.iter().filter(|p| self.closed.get(**p) == Some(&Closed::NotSwept)).map(|p| p.as_str()).collect();
        if !unseen.is_empty() {
            let names = unseen.join(", ");
            return Error::new(
                Code::Unavailable,
                "STARTING",
                format!("not looked at yet since the start: {names}; nothing is rented there before that: try again in a moment"),
            )
            .with("providers", names)
            .retry(Duration::from_secs(3));
        }
        let shut: Vec<Option<Error>> = asked.iter().map(|p| self.shut_error(p, session.created_at)).collect();
        if !shut.is_empty() && shut.iter().all(Option::is_some) {
            // Nobody who could help lets us in: that, and not a lack of offers, is what must be mended.
            let mut all: Vec<Error> = shut.into_iter().flatten().collect();
            all.sort_by_key(|error| error.reason != "PROVIDER_AUTH");
            return all.swap_remove(0);
        }
        let next = match session.request.target {
            Target::Offer(_) => "List offers again and take another",
            Target::Requirements { .. } => "Relax the requirements or try again later",
        };
        let mut error = Error::new(Code::ResourceExhausted, "NO_CAPACITY", format!("No offers available: {unmet}. {next}")).with("offers", offers);
        if let Some(explanation) = &unmet.explanation {
            let removed: Vec<String> = explanation.effects.iter().filter(|e| e.removed > 0).map(|e| format!("{}={}", e.field, e.removed)).collect();
            error = error.with("removed_by", removed.join(","));
            if let Some(first) = explanation.relaxations.first() {
                error = error.with("relax_field", first.field).with("relax_to", &first.value).with("relax_offers", first.offers);
            }
        }
        for provider in self.parts.tools.providers.keys() {
            if let Some(text) = self.shut_why(provider, session.created_at) {
                error = error.with(provider.as_str(), text);
            }
        }
        error
    }

    /// Why nothing is launched at a provider now, in a few words; `None` = it is open.
    pub(super) fn shut_why(&self, provider: &ProviderId, now: Time) -> Option<String> {
        let closed = self.closed.get(provider).map(|closed| match closed {
            Closed::Auth(text) => refused_credentials(text),
            Closed::Credit(text) => format!("out of credit: {text}"),
            Closed::NotSwept => "not looked at since the start".to_owned(),
            Closed::Unreachable(text) => format!("could not be looked at since the start: {text}"),
        });
        closed.or_else(|| self.sweeper.why_held(provider, HoldKind::Launches, now).map(|hold| format!("launches are held: {}", hold.reason)))
    }

    /// What to tell who wants to rent where nothing is launched; `None` where it is open, or not known yet.
    fn shut_error(&self, provider: &ProviderId, now: Time) -> Option<Error> {
        let error = match self.closed.get(provider) {
            Some(Closed::Auth(text)) => Error::new(Code::FailedPrecondition, "PROVIDER_AUTH", refused_credentials(text)),
            Some(Closed::Credit(text)) => {
                Error::new(Code::FailedPrecondition, "PROVIDER_CREDIT", format!("the account at {provider} is out of credit: {text}"))
            }
            Some(Closed::Unreachable(text)) => Error::new(
                Code::Unavailable,
                "PROVIDER_UNREACHABLE",
                format!("{provider} could not be looked at since the start ({text}), so nothing is rented there yet; it is tried again and again"),
            )
            .retry(UNREACHABLE_RETRY),
            Some(Closed::NotSwept) => return None,
            None => {
                let hold = self.sweeper.why_held(provider, HoldKind::Launches, now)?;
                Error::new(Code::FailedPrecondition, "LAUNCHES_HELD", format!("an operator holds launches at {provider}: {}", hold.reason))
            }
        };
        Some(error.with("provider", provider))
    }

    /// Whether a session's next attempt may be at this provider, as far as its request goes.
    pub(super) fn asks(&self, provider: &ProviderId, session: &Session) -> bool {
        match &session.request.target {
            Target::Requirements { filter, .. } => filter.providers.is_empty() || filter.providers.contains(provider),
            Target::Offer(id) => !session.attempts.is_empty() || self.owner(id).is_none_or(|owner| owner == provider),
        }
    }

    /// Whether the model's weights may not fit into the GPUs' memory: said, not refused, since they may be spread or swapped.
    fn too_little_gpu_memory(&self, request: &Request) -> Option<String> {
        let estimate = request.estimate()?;
        let (has, what) = match &request.target {
            Target::Offer(id) => {
                let offer = self.parts.inventory.get(id).ok()?;
                (offer.gpu_memory_mib.saturating_mul(offer.gpu_count), "this offer has")
            }
            Target::Requirements { filter, .. } => {
                let count = filter.gpu_count.or(filter.min_gpu_count).unwrap_or(1);
                (filter.min_gpu_memory_mib.unwrap_or(0).saturating_mul(count), "the filter asks for at least")
            }
        };
        (has < estimate.gpu_memory_mib).then(|| {
            let model = request.model_id.as_deref().unwrap_or_default();
            format!("{model} needs about {} MiB of GPU memory in all; {what} {has}", estimate.gpu_memory_mib)
        })
    }

    /// What is accepted and yet can't be done.
    pub(super) fn warnings(&self, session: &Session, now: Time) -> Vec<String> {
        let mut warnings = Vec::new();
        if session.request.storage == StoragePolicy::Preserve {
            warnings.push("storage_policy=preserve: no provider keeps anything beyond the machine; the disk goes with it".to_owned());
        }
        warnings.extend(self.too_little_gpu_memory(&session.request));
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
