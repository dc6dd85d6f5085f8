//! Whole requests, from the wire. Each function finds everything that is wrong at once.

use super::fields::{Fields, is_label_key, required, seconds};
use super::start;
use crate::domain::gpu::{GpuModel, named_memory_mib};
use crate::domain::idle::{LONGEST_THRESHOLD, SHORTEST_THRESHOLD};
use crate::domain::ids::{ConsumerId, MachineId, OfferId, SessionId, clip};
use crate::domain::offer::{OfferFilter, OfferOrder, RentalKind};
use crate::domain::session::{Failover, FailoverScope, Request, State, StoragePolicy, Target, Workload};
use crate::grpc::{Settings, pb};
use crate::services::templates::TemplateQuery;
use crate::services::tokens::PageOf;
use crate::services::{Code, Error, Violation, api};
use prost::Message;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// How long a session runs when nobody says.
const DEFAULT_RESERVATION: Duration = Duration::from_secs(3600);
const SHORTEST_RESERVATION: Duration = Duration::from_secs(60);
const MOST_ATTEMPTS: u32 = 20;
/// Beyond this nobody rents disks, GB; what an offer can rent is checked against the offer.
pub const MOST_DISK_GB: u32 = 100_000;
/// A terabyte on one GPU.
const MOST_MEMORY_MIB: u32 = 1_048_576;
const LONGEST_IMAGE: usize = 255;
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
const BOOKMARK_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(60);
const SSH_TIMEOUT_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(1800);
const MOST_GROUPS: usize = 8;

// === offers ===

/// Offers to list.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn offers(request: &pb::ListOffersRequest, settings: &Settings) -> Result<api::OfferQuery, Error> {
    let mut fields = Fields::default();
    let query = api::OfferQuery {
        filter: request.filter.as_ref().map(|f| filter(&mut fields, "filter", f, settings)).unwrap_or_default(),
        order: order(&mut fields, "order_by", &request.order_by, OfferOrder::Price),
        page_size: fields.page_size(request.page_size),
        page_token: request.page_token.clone(),
    };
    fields.page_token(PageOf::Offers, &request.page_token);
    fields.done(query)
}

/// One offer: its id and the disk to price it with.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn offer(request: &pb::GetOfferRequest, settings: &Settings) -> Result<(OfferId, Option<u32>), Error> {
    let mut fields = Fields::default();
    let id = offer_id(&mut fields, &request.offer_id, settings);
    let disk = fields.whole("disk_gb", request.disk_gb, 1..=MOST_DISK_GB);
    fields.done((id, disk))
}

/// Only its form is looked at here: whether it exists, the inventory knows.
fn offer_id(fields: &mut Fields, text: &str, settings: &Settings) -> OfferId {
    if text.len() > 200 || !settings.offer_ids.iter().any(|known| known(text)) {
        fields.wrong("offer_id", required(text, "an `offer_id` as in ListOffers"));
    }
    OfferId::new(text)
}

/// Templates to list.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn templates(request: &pb::ListTemplatesRequest, settings: &Settings) -> Result<TemplateQuery, Error> {
    let mut fields = Fields::default();
    for (field, text) in [("name", &request.name), ("image", &request.image)] {
        if let Some(text) = text {
            fields.text(field, text, 1..=200);
        }
    }
    let query = TemplateQuery {
        name: request.name.clone(),
        image: request.image.clone(),
        ssh_only: request.ssh_only,
        offer: request.offer_id.as_deref().map(|id| offer_id(&mut fields, id, settings)),
    };
    fields.done(query)
}

fn order(fields: &mut Fields, field: &str, word: &str, default: OfferOrder) -> OfferOrder {
    if word.is_empty() {
        return default;
    }
    let found = OfferOrder::WORDS.iter().find(|(name, _)| *name == word);
    if found.is_none() {
        let names: Vec<&str> = OfferOrder::WORDS.iter().map(|(name, _)| *name).collect();
        fields.wrong(field, format!("`{}` is no order; allowed: {}", clip(word, 64), names.join(", ")));
    }
    found.map_or(default, |(_, order)| *order)
}

/// A filter, checked.
pub(super) fn filter(fields: &mut Fields, at: &str, f: &pb::OfferFilter, settings: &Settings) -> OfferFilter {
    let name = |field: &str| format!("{at}.{field}");
    let memory = 1..=MOST_MEMORY_MIB;
    for (field, entries) in [("gpu_models", &f.gpu_models), ("excluded_machines", &f.excluded_machines)] {
        fields.list(&name(field), entries, 1..=200);
    }
    fields.list(&name("regions"), &f.regions, 2..=64);
    let mut made = OfferFilter {
        providers: f.providers.iter().filter_map(|p| fields.provider(&name("providers"), Some(p), &settings.providers)).collect(),
        gpu_models: f.gpu_models.iter().map(|m| GpuModel::canonical(m)).collect(),
        min_gpu_memory_mib: fields.mebibytes(&name("min_gpu_memory_mib"), f.min_gpu_memory_mib, memory.clone()),
        max_gpu_memory_mib: fields.mebibytes(&name("max_gpu_memory_mib"), f.max_gpu_memory_mib, memory),
        gpu_count: fields.whole(&name("gpu_count"), f.gpu_count, 1..=1024),
        min_gpu_count: fields.whole(&name("min_gpu_count"), f.min_gpu_count, 1..=1024),
        max_price: fields.rate(&name("max_price_per_hour"), f.max_price_per_hour.as_ref()),
        max_price_per_gpu: fields.rate(&name("max_price_per_gpu_hour"), f.max_price_per_gpu_hour.as_ref()),
        regions: f.regions.clone(),
        min_reliability: fields.share(&name("min_reliability"), f.min_reliability),
        min_cuda: fields.cuda(&name("min_cuda"), f.min_cuda.as_deref()),
        disk_gb: fields.whole(&name("disk_gb"), f.disk_gb, 1..=MOST_DISK_GB),
        rental: fields.word(&name("rental_kind"), f.rental_kind),
        verified_only: f.verified_only,
        min_confidence: fields.share(&name("min_confidence"), f.min_confidence),
        excluded_machines: f.excluded_machines.iter().map(|m| MachineId::new(m)).collect(),
        host_end_after: fields.time(&name("min_host_end_time"), f.min_host_end_time.as_ref()),
        template: f.template_hash_id.clone(),
        needs: None,
    };
    // A model whose words are all noise ("NVIDIA GPU") has no name left and would match nothing.
    if let Some((asked, _)) = f.gpu_models.iter().zip(&made.gpu_models).find(|(asked, model)| !asked.is_empty() && model.as_str().is_empty()) {
        fields.wrong(&name("gpu_models"), format!("`{}` names no model", clip(asked, 64)));
    }
    if let Some(hash) = &f.template_hash_id {
        fields.template(&name("template_hash_id"), hash);
    }
    named_memory(fields, &name, f, &mut made);
    let (memory, count) = ((made.min_gpu_memory_mib, made.max_gpu_memory_mib), (made.min_gpu_count, made.gpu_count));
    for ((least, most), field, unit) in [(memory, "min_gpu_memory_mib", " MiB"), (count, "min_gpu_count", "")] {
        if let (Some(least), Some(most)) = (least, most)
            && least > most
        {
            fields.wrong(&name(field), format!("{least}{unit} is more than the {most}{unit} asked for beside it; nothing can match"));
        }
    }
    made
}

/// `A100 80GB` means that model with that memory, wherever the filter says nothing else.
fn named_memory(fields: &mut Fields, name: &dyn Fn(&str) -> String, f: &pb::OfferFilter, made: &mut OfferFilter) {
    let Some((asked, memory)) = f.gpu_models.iter().find_map(|model| Some((model, named_memory_mib(model)?))) else { return };
    if f.gpu_models.iter().any(|other| named_memory_mib(other) != Some(memory)) {
        let rule = format!("`{}` names a memory size and others do not, or another: ask for one size at a time", clip(asked, 64));
        return fields.wrong(&name("gpu_models"), rule + ", or say it in `min_gpu_memory_mib` and `max_gpu_memory_mib`");
    }
    made.min_gpu_memory_mib = made.min_gpu_memory_mib.or(Some(memory));
    made.max_gpu_memory_mib = made.max_gpu_memory_mib.or(Some(memory));
}

// === create ===

/// A session to create. Makes a key pair when the request brings no public key and nothing else is wrong.
///
/// # Errors
/// `INVALID_FIELD` with every violation; OUT_OF_RANGE `HARD_MAX_EXCEEDED` when only the reservation is too long; what
/// making a key pair says.
pub fn create(request: &pb::CreateSessionRequest, settings: &Settings) -> Result<api::Create, Error> {
    let mut fields = Fields::default();
    let hash = hash("CreateSession", &pb::CreateSessionRequest { request_id: String::new(), ..request.clone() });
    let idempotency = fields.idempotency(&request.request_id, hash);
    fields.labels("labels", &request.labels);
    if let Some(image) = &request.docker_image
        && (image.is_empty() || image.len() > LONGEST_IMAGE || !image.bytes().all(|b| b.is_ascii_graphic()))
    {
        fields.wrong("docker_image", format!("`{}`; allowed: 1 to {LONGEST_IMAGE} visible ASCII characters", clip(image, 64)));
    }
    let workload = fields.word("workload_type", request.workload_type).unwrap_or(Workload::Ssh);
    let start = start::start(&mut fields, request, workload);
    let disk_gb = fields.whole("disk_gb", request.disk_gb, 1..=MOST_DISK_GB);
    let (target, disk_gb) = target(&mut fields, request, disk_gb, settings);
    let template = template(&mut fields, request.template_hash_id.as_ref(), &target);
    let given_key = request.ssh_public_key.as_deref().map(|text| public_key(&mut fields, text, settings));
    let too_long = reservation_beyond(request.reservation.as_ref(), settings.hard_max);
    let mut wanted = Request {
        consumer: consumer(&mut fields, request.consumer_id.as_deref()),
        workload,
        failover: failover(&mut fields, request.failover.as_ref(), &target, settings),
        reservation: reservation(&mut fields, request.reservation.as_ref(), settings.hard_max, too_long.is_some()),
        idle_threshold: idle_threshold(&mut fields, request.idle_threshold.as_ref()).unwrap_or_default(),
        storage: fields.word("storage_policy", request.storage_policy).unwrap_or(StoragePolicy::Destroy),
        template: None,
        image: request.docker_image.clone(),
        disk_gb,
        start: start.told,
        launch_mode: start.launch_mode,
        model_id: start.model_id,
        quantization: start.quantization,
        exposed_ports: start.exposed_ports,
        public_key: String::new(),
        ssh_timeout: fields.duration("ssh_timeout", request.ssh_timeout.as_ref(), SSH_TIMEOUT_RANGE),
        verify: fields.word("verify", request.verify).unwrap_or_default(),
        bid: fields.rate("bid", request.bid.as_ref()),
        max_price: fields.rate("max_price_per_hour", request.max_price_per_hour.as_ref()),
        max_total_cost: fields.money("max_total_cost", request.max_total_cost.as_ref()),
        allow_same_offer: request.allow_same_offer,
        target,
    };
    if let Some(mut error) = too_long {
        if fields.good() {
            return Err(error);
        }
        fields.add(&mut error.violations);
    }
    fields.done(())?;
    let private_key = match given_key {
        Some(key) => {
            wanted.public_key = key;
            None
        }
        None => {
            let pair = (settings.make_key_pair)(wanted.consumer.as_str())?;
            wanted.public_key = pair.public_key;
            Some(pair.private_key)
        }
    };
    Ok(api::Create {
        request: wanted,
        labels: request.labels.clone(),
        secrets: start.secrets,
        template,
        validate_only: request.validate_only,
        idempotency,
        private_key,
    })
}

/// A public key in canonical form.
fn public_key(fields: &mut Fields, text: &str, settings: &Settings) -> String {
    (settings.parse_public_key)(text).unwrap_or_else(|why| {
        fields.wrong("ssh_public_key", why);
        String::new()
    })
}

/// The request with its consumer: the token's, where the request names none.
#[must_use]
pub fn of_caller(mut request: pb::CreateSessionRequest, caller: &api::Caller) -> pb::CreateSessionRequest {
    if let Some(scope) = caller.scope.as_ref().filter(|_| request.consumer_id.is_none()) {
        request.consumer_id = Some(scope.to_string());
    }
    request
}

fn consumer(fields: &mut Fields, text: Option<&str>) -> ConsumerId {
    fields.consumer("consumer_id", text).unwrap_or_else(|| ConsumerId::new(api::DEFAULT_CONSUMER))
}

fn target(fields: &mut Fields, request: &pb::CreateSessionRequest, disk_gb: Option<u32>, settings: &Settings) -> (Target, Option<u32>) {
    use pb::create_session_request::Target as Wire;
    let rental: Option<RentalKind> = fields.word("rental_kind", request.rental_kind);
    match &request.target {
        None => {
            fields.wrong("target", "required; give `offer_id` or `requirements`");
            (Target::Offer(OfferId::new("")), disk_gb)
        }
        Some(Wire::OfferId(id)) => {
            if rental.is_some() {
                fields.wrong("rental_kind", "goes with `requirements`; an offer has its kind already, so leave it out with `offer_id`");
            }
            (Target::Offer(offer_id(fields, id, settings)), disk_gb)
        }
        Some(Wire::Requirements(wanted)) => {
            let mut chosen = wanted.filter.as_ref().map(|f| filter(fields, "requirements.filter", f, settings)).unwrap_or_default();
            let kind = agreed(fields, "rental_kind", rental, chosen.rental).unwrap_or_default();
            chosen.rental = Some(kind);
            if request.bid.is_some() && kind == RentalKind::OnDemand {
                fields.wrong("bid", "only interruptible machines take bids: set `rental_kind` to `RENTAL_KIND_INTERRUPTIBLE`, or leave it out");
            }
            let disk = agreed(fields, "disk_gb", disk_gb, chosen.disk_gb);
            chosen.disk_gb = disk;
            let order = order(fields, "requirements.order_by", &wanted.order_by, OfferOrder::ExpectedCost);
            (Target::Requirements { filter: Box::new(chosen), order }, disk)
        }
    }
}

/// The template, which may be said in two places, but not differently.
fn template(fields: &mut Fields, here: Option<&String>, target: &Target) -> Option<String> {
    let in_filter = match target {
        Target::Requirements { filter, .. } => filter.template.as_ref(),
        Target::Offer(_) => None,
    };
    if let (Some(a), Some(b)) = (here, in_filter)
        && a != b
    {
        fields.wrong("template_hash_id", "differs from `requirements.filter.template_hash_id`; say it once, or the same");
    }
    if let Some(hash) = here {
        fields.template("template_hash_id", hash);
    }
    here.or(in_filter).cloned()
}

/// One of two places where the same thing can be said; both may say it, but not differently.
fn agreed<T: PartialEq + Copy>(fields: &mut Fields, field: &str, here: Option<T>, in_filter: Option<T>) -> Option<T> {
    if let (Some(a), Some(b)) = (here, in_filter)
        && a != b
    {
        fields.wrong(field, format!("differs from `requirements.filter.{field}`; say it once, or the same"));
    }
    here.or(in_filter)
}

fn failover(fields: &mut Fields, given: Option<&pb::Failover>, target: &Target, settings: &Settings) -> Failover {
    let default = match target {
        Target::Offer(_) => FailoverScope::None,
        Target::Requirements { .. } => FailoverScope::Any,
    };
    let given = given.cloned().unwrap_or_default();
    let attempts = fields.whole("failover.max_attempts", given.max_attempts, 1..=MOST_ATTEMPTS).unwrap_or(u32::from(settings.default_max_attempts));
    Failover {
        scope: fields.word("failover.scope", given.scope).unwrap_or(default),
        max_attempts: u8::try_from(attempts).unwrap_or(u8::MAX),
        max_price: fields.rate("failover.max_price_per_hour", given.max_price_per_hour.as_ref()),
    }
}

pub(super) fn reservation(fields: &mut Fields, asked: Option<&prost_types::Duration>, hard_max: Duration, too_long: bool) -> Duration {
    let asked = asked.filter(|_| !too_long);
    fields.duration("reservation", asked, SHORTEST_RESERVATION..=hard_max).unwrap_or(DEFAULT_RESERVATION.min(hard_max))
}

/// How long a machine may be idle; zero = for ever.
fn idle_threshold(fields: &mut Fields, asked: Option<&prost_types::Duration>) -> Option<Duration> {
    let allowed = format!("0s (never), or {} to {}", seconds(SHORTEST_THRESHOLD), seconds(LONGEST_THRESHOLD));
    let found = fields.well_formed("idle_threshold", asked, &allowed)?;
    if found.is_zero() || (SHORTEST_THRESHOLD..=LONGEST_THRESHOLD).contains(&found) {
        return Some(found);
    }
    fields.wrong("idle_threshold", format!("{} is out of range; allowed: {allowed}", seconds(found)));
    None
}

/// A well-formed reservation beyond the hard limit has an error of its own: nothing is wrong with it but its size.
pub(super) fn reservation_beyond(asked: Option<&prost_types::Duration>, hard_max: Duration) -> Option<Error> {
    let asked = Fields::default().well_formed("reservation", asked, "").filter(|d| *d > hard_max)?;
    let (asked, most) = (seconds(asked), seconds(hard_max));
    let rule = format!("{asked} is beyond the hard limit; allowed: {} to {most}", seconds(SHORTEST_RESERVATION));
    let mut error = Error::new(Code::OutOfRange, "HARD_MAX_EXCEEDED", format!("reservation: {rule}"));
    error.violations.push(Violation { field: "reservation".to_owned(), description: rule });
    Some(error.with("reservation", asked).with("hard_max", most))
}

/// SHA-256 of a request's canonical bytes (maps are ordered), with the method's name.
fn hash(method: &str, request: &impl Message) -> String {
    let mut hasher = Sha256::new();
    hasher.update(method.as_bytes());
    hasher.update([0]);
    hasher.update(request.encode_to_vec());
    super::answers::hex(&hasher.finalize())
}

// === commands ===

/// A change to a session, ready for the service.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The session.
    pub id: SessionId,
    /// The change.
    pub command: api::Command,
    /// The caller's name for the request.
    pub idempotency: Option<api::Idempotency>,
    /// Only check.
    pub validate_only: bool,
}

/// Another expiry.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn extend(request: &pb::ExtendSessionRequest) -> Result<Asked, Error> {
    use pb::extend_session_request::Extension;
    let mut fields = Fields::default();
    let (mut by, mut to) = (None, None);
    match &request.extension {
        None => fields.wrong("extension", "required; give `additional_duration` or `expire_time`"),
        Some(Extension::AdditionalDuration(more)) => {
            // The hard limit is counted from the creation, so that the service has to judge; a year is a slip.
            let year = Duration::from_secs(366 * 86_400);
            by = fields.duration("additional_duration", Some(more), Duration::from_secs(1)..=year);
        }
        Some(Extension::ExpireTime(end)) => to = fields.time("expire_time", Some(end)),
    }
    let command = api::Command::Extend { by, to, override_hard_max: request.override_hard_max };
    let hash = hash("ExtendSession", &pb::ExtendSessionRequest { request_id: String::new(), ..request.clone() });
    asked(fields, &request.session_id, command, &request.request_id, hash, request.validate_only)
}

/// Other labels, another idle threshold.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn update(request: &pb::UpdateSessionRequest) -> Result<Asked, Error> {
    const PATHS: [&str; 2] = ["labels", "idle_threshold"];
    let mut fields = Fields::default();
    fields.labels("labels", &request.labels);
    let threshold = idle_threshold(&mut fields, request.idle_threshold.as_ref());
    let [labels, idle] = match &request.update_mask {
        None => {
            let given = [!request.labels.is_empty(), request.idle_threshold.is_some()];
            if given == [false; 2] {
                fields.wrong("labels", "nothing to change; give `labels` or `idle_threshold` (to remove all labels set `update_mask` to `labels`)");
            }
            given
        }
        Some(mask) => {
            if mask.paths.is_empty() {
                fields.wrong("update_mask", "empty; allowed: `labels`, `idle_threshold`");
            }
            for path in mask.paths.iter().filter(|path| !PATHS.contains(&path.as_str())).take(8) {
                fields.wrong("update_mask", format!("`{}` can't be changed; allowed: `labels`, `idle_threshold`", clip(path, 64)));
            }
            PATHS.map(|path| mask.paths.iter().any(|named| named == path))
        }
    };
    let command = api::Command::Update {
        labels: labels.then(|| request.labels.clone()),
        // Named in the mask and not given is none.
        idle_threshold: idle.then(|| threshold.unwrap_or_default()),
    };
    let hash = hash("UpdateSession", &pb::UpdateSessionRequest { request_id: String::new(), ..request.clone() });
    asked(fields, &request.session_id, command, &request.request_id, hash, request.validate_only)
}

/// A sign of life.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn keep_alive(request: &pb::KeepAliveRequest) -> Result<Asked, Error> {
    let hash = hash("KeepAlive", &pb::KeepAliveRequest { request_id: String::new(), ..request.clone() });
    asked(Fields::default(), &request.session_id, api::Command::KeepAlive, &request.request_id, hash, request.validate_only)
}

/// Another key. Makes a pair when the request brings no public key and nothing else is wrong.
///
/// # Errors
/// `INVALID_FIELD` with every violation; what making a key pair says.
pub fn rotate(request: &pb::RotateSessionKeyRequest, settings: &Settings) -> Result<Asked, Error> {
    let mut fields = Fields::default();
    let given = request.ssh_public_key.as_deref().map(|text| public_key(&mut fields, text, settings));
    let key = match given {
        Some(public) => api::NewKey { public, private: None },
        None => {
            let pair = (settings.make_key_pair)("gpu-shopper")?;
            api::NewKey { public: pair.public_key, private: Some(pair.private_key) }
        }
    };
    let hash = hash("RotateSessionKey", &pb::RotateSessionKeyRequest { request_id: String::new(), ..request.clone() });
    asked(fields, &request.session_id, api::Command::RotateKey(key), &request.request_id, hash, request.validate_only)
}

/// Done.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn complete(request: &pb::CompleteSessionRequest) -> Result<Asked, Error> {
    use pb::complete_session_request::Outcome;
    let mut fields = Fields::default();
    let bad_machine = match Outcome::try_from(request.outcome) {
        Ok(Outcome::Unspecified | Outcome::Ok) => false,
        Ok(Outcome::BadMachine) => true,
        Err(_) => {
            let allowed = [Outcome::Ok, Outcome::BadMachine].map(|o| o.as_str_name()).join(", ");
            fields.wrong("outcome", format!("{} is no outcome; allowed: {allowed}", request.outcome));
            false
        }
    };
    let command = api::Command::Complete { bad_machine };
    let hash = hash("CompleteSession", &pb::CompleteSessionRequest { request_id: String::new(), ..request.clone() });
    asked(fields, &request.session_id, command, &request.request_id, hash, request.validate_only)
}

/// The end, at once.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn destroy(request: &pb::DestroySessionRequest) -> Result<Asked, Error> {
    let hash = hash("DestroySession", &pb::DestroySessionRequest { request_id: String::new(), ..request.clone() });
    asked(Fields::default(), &request.session_id, api::Command::Destroy, &request.request_id, hash, request.validate_only)
}

fn asked(mut fields: Fields, session: &str, command: api::Command, request_id: &str, hash: String, validate_only: bool) -> Result<Asked, Error> {
    let id = fields.session_id("session_id", session);
    let idempotency = fields.idempotency(request_id, hash);
    fields.done(Asked { id, command, idempotency, validate_only })
}

// === reading ===

/// A session by its id.
///
/// # Errors
/// `INVALID_FIELD`.
pub fn session_id(text: &str) -> Result<SessionId, Error> {
    let mut fields = Fields::default();
    let id = fields.session_id("session_id", text);
    fields.done(id)
}

/// Sessions to list: the filter and the page's size.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn sessions(request: &pb::ListSessionsRequest, settings: &Settings) -> Result<(api::SessionFilter, u32), Error> {
    let mut fields = Fields::default();
    let filter = session_filter(&mut fields, request.filter.as_ref(), settings);
    let size = fields.page_size(request.page_size);
    fields.page_token(PageOf::Sessions, &request.page_token);
    fields.done((filter, size))
}

fn session_filter(fields: &mut Fields, given: Option<&pb::SessionFilter>, settings: &Settings) -> api::SessionFilter {
    let Some(f) = given else { return api::SessionFilter::default() };
    fields.labels("filter.labels", &f.labels);
    api::SessionFilter {
        consumer: fields.consumer("filter.consumer_id", f.consumer_id.as_deref()),
        provider: fields.provider("filter.provider", f.provider.as_deref(), &settings.providers),
        states: fields.words("filter.states", &f.states),
        labels: f.labels.clone(),
    }
}

/// A wait: the session, the states that end it (final ones always do), and how long.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn wait(request: &pb::WaitSessionRequest) -> Result<(SessionId, Vec<State>, Duration), Error> {
    let mut fields = Fields::default();
    let id = fields.session_id("session_id", &request.session_id);
    let mut until = fields.words("until", &request.until);
    if until.is_empty() {
        until.push(State::Running);
    }
    until.extend([State::Stopped, State::Failed]);
    until.sort_unstable();
    until.dedup();
    let timeout = fields.duration("timeout", request.timeout.as_ref(), Duration::ZERO..=LONGEST_WAIT).unwrap_or(DEFAULT_WAIT);
    fields.done((id, until, timeout))
}

/// A watch over one session.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn watch(request: &pb::WatchSessionRequest, settings: &Settings) -> Result<api::WatchRequest, Error> {
    use pb::watch_session_request::Start;
    let mut fields = Fields::default();
    let watch = api::WatchRequest {
        session: Some(fields.session_id("session_id", &request.session_id)),
        filter: api::SessionFilter::default(),
        start: match &request.start {
            None => api::WatchStart::Snapshot { ended_since: None },
            Some(Start::FromNow(now)) => from_now(*now),
            Some(Start::ResumeToken(token)) => after(&mut fields, token),
        },
        bookmark: fields.duration("bookmark_interval", request.bookmark_interval.as_ref(), BOOKMARK_RANGE).unwrap_or(settings.bookmark),
    };
    fields.done(watch)
}

/// A watch over all sessions that match.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn watch_all(request: &pb::WatchSessionsRequest, settings: &Settings) -> Result<api::WatchRequest, Error> {
    use pb::watch_sessions_request::Start;
    let mut fields = Fields::default();
    let watch = api::WatchRequest {
        session: None,
        filter: session_filter(&mut fields, request.filter.as_ref(), settings),
        start: match &request.start {
            None => api::WatchStart::Snapshot { ended_since: None },
            Some(Start::EndedSince(time)) => api::WatchStart::Snapshot { ended_since: fields.time("ended_since", Some(time)) },
            Some(Start::FromNow(now)) => from_now(*now),
            Some(Start::ResumeToken(token)) => after(&mut fields, token),
        },
        bookmark: fields.duration("bookmark_interval", request.bookmark_interval.as_ref(), BOOKMARK_RANGE).unwrap_or(settings.bookmark),
    };
    fields.done(watch)
}

fn from_now(now: bool) -> api::WatchStart {
    if now { api::WatchStart::Now } else { api::WatchStart::Snapshot { ended_since: None } }
}

fn after(fields: &mut Fields, token: &str) -> api::WatchStart {
    fields.resume_token(token);
    if token.is_empty() { api::WatchStart::Snapshot { ended_since: None } } else { api::WatchStart::After(token.to_owned()) }
}

/// A session's events: the session and the page's size.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn events(request: &pb::ListSessionEventsRequest) -> Result<(SessionId, u32), Error> {
    let mut fields = Fields::default();
    let id = fields.session_id("session_id", &request.session_id);
    let size = fields.page_size(request.page_size);
    fields.page_token(PageOf::Events, &request.page_token);
    fields.done((id, size))
}

// === costs ===

/// A report to draw up.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn cost_report(request: &pb::GetCostReportRequest, settings: &Settings) -> Result<api::CostQuery, Error> {
    let mut fields = Fields::default();
    let mut query = costs(&mut fields, request.start_time.as_ref(), request.end_time.as_ref(), request.filter.as_ref(), settings);
    if request.group_by.len() > MOST_GROUPS {
        fields.wrong("group_by", format!("{} keys; allowed: at most {MOST_GROUPS}", request.group_by.len()));
    }
    for word in request.group_by.iter().take(MOST_GROUPS) {
        match group(word) {
            Some(key) if query.group_by.contains(&key) => fields.wrong("group_by", format!("`{}` is there twice", clip(word, 64))),
            Some(key) => query.group_by.push(key),
            None => {
                let allowed = "consumer, provider, gpu, day, month, session, end_reason, label:<key>";
                fields.wrong("group_by", format!("`{}` is no group key; allowed: {allowed}", clip(word, 64)));
            }
        }
    }
    fields.done(query)
}

/// Ledger entries to list: the query and the page's size.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn ledger(request: &pb::ListLedgerEntriesRequest, settings: &Settings) -> Result<(api::CostQuery, u32), Error> {
    let mut fields = Fields::default();
    let query = costs(&mut fields, request.start_time.as_ref(), request.end_time.as_ref(), request.filter.as_ref(), settings);
    let size = fields.page_size(request.page_size);
    fields.page_token(PageOf::Ledger, &request.page_token);
    fields.done((query, size))
}

fn costs(
    fields: &mut Fields,
    start: Option<&prost_types::Timestamp>,
    end: Option<&prost_types::Timestamp>,
    filter: Option<&pb::CostFilter>,
    settings: &Settings,
) -> api::CostQuery {
    let (from, to) = (fields.time("start_time", start), fields.time("end_time", end));
    if let (Some(from), Some(to)) = (from, to)
        && to < from
    {
        fields.wrong("end_time", format!("{to} is before start_time {from}"));
    }
    let mut query = api::CostQuery { from, to, ..api::CostQuery::default() };
    if let Some(f) = filter {
        fields.labels("filter.labels", &f.labels);
        if let Some(model) = &f.gpu_model {
            fields.text("filter.gpu_model", model, 1..=200);
        }
        query.consumer = fields.consumer("filter.consumer_id", f.consumer_id.as_deref());
        query.provider = fields.provider("filter.provider", f.provider.as_deref(), &settings.providers);
        query.gpu = f.gpu_model.as_deref().map(|m| GpuModel::canonical(m).as_str().to_owned());
        query.session = f.session_id.as_deref().map(|id| fields.session_id("filter.session_id", id));
        query.labels.clone_from(&f.labels);
    }
    query
}

fn group(word: &str) -> Option<api::GroupBy> {
    Some(match word {
        "consumer" => api::GroupBy::Consumer,
        "provider" => api::GroupBy::Provider,
        "gpu" => api::GroupBy::Gpu,
        "day" => api::GroupBy::Day,
        "month" => api::GroupBy::Month,
        "session" => api::GroupBy::Session,
        "end_reason" => api::GroupBy::EndReason,
        _ => api::GroupBy::Label(word.strip_prefix("label:").filter(|key| is_label_key(key))?.to_owned()),
    })
}
