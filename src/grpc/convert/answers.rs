//! Answers, to the wire.

use super::words::Word;
use crate::domain::event::Event;
use crate::domain::idle::{Reading, Signal};
use crate::domain::instance::{Instance, SshEndpoint};
use crate::domain::meter::Amount;
use crate::domain::money::{Nanos, Rate};
use crate::domain::offer::{Offer, OfferFilter, OfferOrder, Price, Region};
use crate::domain::service;
use crate::domain::session::{Attempt, Condition, Failover, Request, Session, State, Target};
use crate::domain::shelf::GpuModelRow;
use crate::domain::template::Template;
use crate::domain::time::Time;
use crate::domain::verify::GpuReport;
use crate::grpc::{Settings, pb};
use crate::services::api;
use crate::services::drain::Drained;
use crate::services::inventory::Snapshot;
use prost::Message;
use prost::bytes::Bytes;
use secrecy::ExposeSecret;
use std::fmt::Write;
use std::time::Duration;

// === numbers, money, time ===

/// A count for the wire; what does not fit (it never happens) is the largest number.
pub(super) fn int(count: impl TryInto<i32>) -> i32 {
    count.try_into().unwrap_or(i32::MAX)
}

/// An amount in US dollars.
#[must_use]
pub fn money(amount: Nanos) -> pb::Money {
    let (units, nanos) = amount.parts();
    pb::Money { currency_code: "USD".to_owned(), units, nanos }
}

/// A rate in US dollars per hour, rounded half to even to nano-dollars.
#[must_use]
pub fn rate(rate: Rate) -> pb::Money {
    money(rate.nanos())
}

/// A point in time, exactly.
#[must_use]
pub fn time(at: Time) -> prost_types::Timestamp {
    let millis = at.millis();
    // 0 to 999, so that it fits.
    let part = i32::try_from(millis.rem_euclid(1000)).unwrap_or(0);
    prost_types::Timestamp { seconds: millis.div_euclid(1000), nanos: part * 1_000_000 }
}

/// A duration, exactly.
#[must_use]
pub fn duration(length: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX), nanos: int(length.subsec_nanos()) }
}

fn millis(length: i64) -> prost_types::Duration {
    duration(Duration::from_millis(u64::try_from(length).unwrap_or(0)))
}

fn cuda(version: u32) -> String {
    format!("{}.{}", version / 100, version % 100)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A price by component.
#[must_use]
pub fn price(p: &Price) -> pb::Price {
    pb::Price {
        total_per_hour: Some(rate(p.total())),
        total_text: p.total().to_string(),
        gpu_per_hour: Some(rate(p.gpu)),
        cpu_per_hour: Some(rate(p.cpu)),
        memory_per_hour: Some(rate(p.memory)),
        disk_per_hour: Some(rate(p.disk)),
    }
}

/// An amount with its bounds.
#[must_use]
pub fn amount(a: &Amount) -> pb::CostAmount {
    pb::CostAmount {
        cost: Some(money(a.cost)),
        text: a.cost.to_string(),
        low: Some(money(a.low)),
        high: Some(money(a.high)),
        estimated: a.estimated(),
    }
}

// === offers ===

/// An offer, priced with a disk of this size.
#[must_use]
pub fn offer(o: &Offer, disk_gb: Option<u32>) -> pb::Offer {
    let all_in = o.price(disk_gb);
    let per_gpu = all_in.total().scaled(1, i64::from(o.gpu_count));
    let expected = o.expected_cost(disk_gb);
    pb::Offer {
        offer_id: o.id.to_string(),
        provider: o.provider.to_string(),
        machine_id: o.machine.to_string(),
        gpu_model: o.gpu.to_string(),
        gpu_model_raw: o.gpu_raw.to_string(),
        gpu_count: int(o.gpu_count),
        gpu_memory_mib: int(o.gpu_memory_mib),
        region: Some(region(&o.region)),
        rental_kind: o.rental.number(),
        min_bid_per_hour: o.min_bid.map(rate),
        min_bid_text: o.min_bid.map(|b| b.to_string()).unwrap_or_default(),
        price: Some(price(&all_in)),
        price_per_gpu_hour: Some(rate(per_gpu)),
        price_per_gpu_text: per_gpu.to_string(),
        expected_cost_per_hour: Some(rate(expected)),
        expected_cost_text: expected.to_string(),
        rented_disk_gb: int(o.disk.rented_gb(disk_gb)),
        disk: Some(pb::DiskTerms {
            price_per_gb_hour: Some(rate(o.disk.per_gb)),
            price_text: format!("${}", o.disk.per_gb.decimal()),
            min_gb: int(o.disk.min_gb),
            step_gb: int(o.disk.step_gb),
            max_gb: int(o.disk.max_gb),
            default_gb: int(o.disk.default_gb),
        }),
        traffic: Some(pb::Traffic {
            up_per_gb: Some(money(o.traffic.up_per_gb)),
            down_per_gb: Some(money(o.traffic.down_per_gb)),
            text: format!("up {}/GB, down {}/GB", o.traffic.up_per_gb, o.traffic.down_per_gb),
        }),
        reliability: o.reliability,
        verified: o.verified,
        max_cuda_version: o.cuda.map(cuda).unwrap_or_default(),
        cpu_cores: o.cpu_millis.map(|m| f64::from(m) / 1000.0),
        memory_mib: o.memory_mib.map(int),
        direct_ports: o.direct_ports,
        host_end_time: o.host_end.map(time),
        slots: o.slots.map(int),
        confidence: o.confidence,
        fetch_time: Some(time(o.seen_at)),
    }
}

/// An offer's bytes. Those of an offer with the usual disk are made once, however many ask.
fn encoded_offer(o: &Offer, disk_gb: Option<u32>) -> Bytes {
    let encode = || Bytes::from(offer(o, disk_gb).encode_to_vec());
    if disk_gb.is_some() { encode() } else { o.memo.get_or_make(encode) }
}

fn region(r: &Region) -> pb::Region {
    pb::Region { country_code: r.country.clone().unwrap_or_default(), area: r.area.clone().unwrap_or_default(), text: r.raw.clone() }
}

/// One offer, priced with a disk of this size.
#[must_use]
pub fn found_offer(o: &Offer, disk_gb: Option<u32>) -> pb::GetOfferResponse {
    pb::GetOfferResponse { offer: encoded_offer(o, disk_gb) }
}

/// A page of offers, priced with a disk of this size.
#[must_use]
pub fn offers(page: api::OfferPage, disk_gb: Option<u32>) -> pb::ListOffersResponse {
    pb::ListOffersResponse {
        offers: page.offers.iter().map(|o| encoded_offer(o, disk_gb)).collect(),
        next_page_token: page.next_page_token,
        total_size: int(page.total),
        snapshot_time: Some(time(page.snapshot_time)),
        providers: page.freshness.into_iter().map(freshness).collect(),
        unreachable: page.unreachable.iter().map(ToString::to_string).collect(),
        applied_defaults: page.applied_defaults,
    }
}

/// How a provider's offers stand.
#[must_use]
pub fn freshness(f: api::ProviderFreshness) -> pb::ProviderFreshness {
    let (error, error_at) = f.error.unzip();
    pb::ProviderFreshness {
        provider: f.provider.to_string(),
        fetch_time: f.fetched_at.map(time),
        offer_count: int(f.offers),
        error: error.unwrap_or_default(),
        error_time: error_at.map(time),
        truncated: f.truncated,
        skipped_rows: int(f.skipped),
    }
}

/// A template.
#[must_use]
pub fn template(t: &Template) -> pb::Template {
    pb::Template {
        template_hash_id: t.hash_id.clone(),
        provider: t.provider().to_string(),
        name: t.name.clone(),
        description: t.description.clone(),
        image: t.image.clone(),
        env_names: t.env.keys().cloned().collect(),
        ports: t.ports.iter().map(|port| i32::from(*port)).collect(),
        has_on_start_cmd: t.on_start.is_some(),
        disk_gb: t.disk_gb.map(int),
        ssh: t.ssh,
        recommended: t.recommended,
        min_cuda_version: t.needs.min_cuda.map(cuda).unwrap_or_default(),
        min_gpu_memory_mib: t.needs.min_gpu_memory_mib.map(int),
        min_total_gpu_memory_mib: t.needs.min_total_gpu_memory_mib.map(int),
        min_gpu_count: t.needs.min_gpu_count.map(int),
        min_disk_gb: t.needs.min_disk_gb.map(int),
    }
}

/// One GPU model's row.
#[must_use]
pub fn gpu_model(row: &GpuModelRow) -> pb::GpuModel {
    pb::GpuModel {
        model: row.model.clone(),
        gpu_memory_mib: int(row.memory_mib),
        offer_count: int(row.offers),
        gpu_count: i64::try_from(row.gpus).unwrap_or(i64::MAX),
        min_price_per_gpu_hour: Some(rate(row.min_price_per_gpu)),
        min_price_text: row.min_price_per_gpu.to_string(),
        providers: row.providers.iter().map(ToString::to_string).collect(),
    }
}

/// All GPU models. The bytes of each are made once, however many ask.
#[must_use]
pub fn gpu_models(snapshot: &Snapshot) -> pb::ListGpuModelsResponse {
    let encoded = |row: &GpuModelRow| row.memo.get_or_make(|| Bytes::from(gpu_model(row).encode_to_vec()));
    let providers = snapshot.freshness.iter().cloned().map(freshness).collect();
    pb::ListGpuModelsResponse { gpu_models: snapshot.offers.models().iter().map(encoded).collect(), providers }
}

// === sessions ===

/// A session.
#[must_use]
pub fn session(s: &Session, settings: &Settings) -> pb::Session {
    let offer = s.offer();
    let endpoint = s.endpoint.as_ref();
    let host_key = s.host_key.as_deref();
    pb::Session {
        session_id: s.id.to_string(),
        consumer_id: s.request.consumer.to_string(),
        state: s.state.number(),
        state_time: Some(time(s.state_at)),
        stage: s.stage.number(),
        stage_time: Some(time(s.stage_at)),
        end_reason: s.end_reason.map_or(0, Word::number),
        status_message: s.status_message.clone(),
        error: s.error.clone().unwrap_or_default(),
        conditions: s.conditions.iter().map(condition).collect(),
        attempts: s.attempts.iter().map(attempt).collect(),
        provider: offer.map(|o| o.provider.to_string()).unwrap_or_default(),
        offer_id: offer.map(|o| o.id.to_string()).unwrap_or_default(),
        gpu_model: offer.map(|o| o.gpu.to_string()).unwrap_or_default(),
        gpu_count: offer.map_or(0, |o| int(o.gpu_count)),
        gpu_memory_mib: offer.map_or(0, |o| int(o.gpu_memory_mib)),
        rental_kind: offer.map_or(0, |o| o.rental.number()),
        offered_price: s.attempt().map(|a| price(&a.offer.price(Some(a.disk_gb)))),
        price: Some(price(&s.price)),
        ssh_host: endpoint.map(|e| e.host.clone()).unwrap_or_default(),
        ssh_port: endpoint.map_or(0, |e| i32::from(e.port)),
        ssh_user: endpoint.map(|e| e.user.clone()).unwrap_or_default(),
        ssh_proxied: endpoint.is_some_and(|e| e.proxied),
        ssh_command: endpoint.map(ssh_command).unwrap_or_default(),
        host_key_fingerprint: host_key.and_then(settings.fingerprint).unwrap_or_default(),
        known_hosts_line: endpoint.zip(host_key).map(|(e, key)| (settings.known_hosts_line)(&e.host, e.port, key)).unwrap_or_default(),
        ports: s.ports.iter().map(|(inside, outside)| pb::PortMapping { inside: i32::from(*inside), outside: i32::from(*outside) }).collect(),
        gpu_report: s.gpu_report.as_ref().map(gpu_report),
        create_time: Some(time(s.created_at)),
        expire_time: Some(time(s.expires_at)),
        hard_max_time: Some(time(s.hard_max_at)),
        running_time: s.running_at.map(time),
        end_time: s.stopped_at.map(time),
        cost: Some(amount(&s.cost)),
        cost_final: s.cost_final,
        revision: s.revision,
        sequence: s.sequence,
        labels: s.labels.clone(),
        spec: Some(spec(&s.request)),
        public_host: s.public_host.clone().unwrap_or_default(),
        api_endpoint: service::api_address(s).map(|(host, port)| service::url(&host, port)).unwrap_or_default(),
        idle_time: s.idle.since.map(time),
    }
}

/// A command to paste. Vendors' text goes into a shell, so that anything but a plain address and name makes none.
fn ssh_command(e: &SshEndpoint) -> String {
    let plain = |text: &str| !text.is_empty() && !text.starts_with('-') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:".contains(&b));
    if plain(&e.host) && plain(&e.user) { format!("ssh -p {} {}@{}", e.port, e.user, e.host) } else { String::new() }
}

fn condition(c: &Condition) -> pb::Condition {
    pb::Condition { r#type: c.kind.number(), status: c.status.number(), reason: c.reason.clone(), time: Some(time(c.since)) }
}

fn attempt(a: &Attempt) -> pb::Attempt {
    pb::Attempt {
        number: i32::from(a.number),
        offer_id: a.offer.id.to_string(),
        provider: a.offer.provider.to_string(),
        machine_id: a.offer.machine.to_string(),
        gpu_model: a.offer.gpu.to_string(),
        gpu_count: int(a.offer.gpu_count),
        gpu_memory_mib: int(a.offer.gpu_memory_mib),
        region: Some(region(&a.offer.region)),
        rental_kind: a.offer.rental.number(),
        offered_price: Some(price(&a.offer.price(Some(a.disk_gb)))),
        disk_gb: int(a.disk_gb),
        start_time: Some(time(a.started_at)),
        end_time: a.ended_at.map(time),
        stage: a.stage.number(),
        came_to_be: a.came_to_be,
        failure: a.failure.map_or(0, Word::number),
        text: a.text.clone(),
        cost: Some(money(a.cost)),
        cost_text: a.cost.to_string(),
    }
}

fn gpu_report(r: &GpuReport) -> pb::GpuReport {
    pb::GpuReport {
        gpus: r.gpus.iter().map(|(name, memory)| pb::ReportedGpu { name: name.clone(), memory_mib: int(*memory) }).collect(),
        driver_version: r.driver.clone().unwrap_or_default(),
        cuda_version: r.cuda.map(cuda).unwrap_or_default(),
    }
}

fn spec(r: &Request) -> pb::SessionSpec {
    use pb::session_spec::Target as Wire;
    pb::SessionSpec {
        target: Some(match &r.target {
            Target::Offer(id) => Wire::OfferId(id.to_string()),
            Target::Requirements { filter, order } => {
                Wire::Requirements(pb::Requirements { filter: Some(offer_filter(filter)), order_by: order_word(*order).to_owned() })
            }
        }),
        workload_type: r.workload.number(),
        reservation: Some(duration(r.reservation)),
        storage_policy: r.storage.number(),
        docker_image: service::service(r).map_or_else(|| r.image().unwrap_or_default().to_owned(), |s| s.image),
        disk_gb: r.disk_gb.map(int),
        on_start_cmd_sha256: r.start.on_start_sha256.clone().unwrap_or_default(),
        env_names: r.start.env_names.clone(),
        secret_env_names: r.start.secret_env_names.clone(),
        registry_server: r.start.registry.clone().unwrap_or_default(),
        launch_mode: r.launch_mode.number(),
        model_id: r.model_id.clone().unwrap_or_default(),
        quantization: r.quantization.map_or(0, Word::number),
        exposed_ports: r.exposed_ports.iter().map(|port| i32::from(*port)).collect(),
        ssh_public_key: r.public_key.clone(),
        ssh_timeout: r.ssh_timeout.map(duration),
        verify: r.verify.number(),
        bid: r.bid.map(rate),
        failover: Some(failover(&r.failover)),
        max_price_per_hour: r.max_price.map(rate),
        max_total_cost: r.max_total_cost.map(money),
        allow_same_offer: r.allow_same_offer,
        template_hash_id: r.template.as_ref().map(|t| t.hash_id.clone()).unwrap_or_default(),
        idle_threshold: Some(duration(r.idle_threshold)),
    }
}

fn failover(f: &Failover) -> pb::Failover {
    pb::Failover { scope: f.scope.number(), max_attempts: Some(i32::from(f.max_attempts)), max_price_per_hour: f.max_price.map(rate) }
}

fn order_word(order: OfferOrder) -> &'static str {
    OfferOrder::WORDS.iter().find(|(_, o)| *o == order).map_or("", |(word, _)| word)
}

pub(super) fn offer_filter(f: &OfferFilter) -> pb::OfferFilter {
    pb::OfferFilter {
        providers: f.providers.iter().map(ToString::to_string).collect(),
        gpu_models: f.gpu_models.iter().map(ToString::to_string).collect(),
        min_gpu_memory_mib: f.min_gpu_memory_mib.map(int),
        max_gpu_memory_mib: f.max_gpu_memory_mib.map(int),
        gpu_count: f.gpu_count.map(int),
        min_gpu_count: f.min_gpu_count.map(int),
        max_price_per_hour: f.max_price.map(rate),
        max_price_per_gpu_hour: f.max_price_per_gpu.map(rate),
        regions: f.regions.clone(),
        min_reliability: f.min_reliability,
        min_cuda: f.min_cuda.map(cuda),
        disk_gb: f.disk_gb.map(int),
        rental_kind: f.rental.map_or(0, Word::number),
        verified_only: f.verified_only,
        min_confidence: f.min_confidence,
        excluded_machines: f.excluded_machines.iter().map(ToString::to_string).collect(),
        min_host_end_time: f.host_end_after.map(time),
        template_hash_id: f.template.clone(),
    }
}

/// A created session, with the private key when it may be told.
#[must_use]
pub fn created(c: api::Created, settings: &Settings) -> pb::CreateSessionResponse {
    pb::CreateSessionResponse {
        session: Some(session(&c.session, settings)),
        ssh_private_key: c.private_key.map(|key| key.expose_secret().to_owned()).unwrap_or_default(),
        resume_token: c.resume_token,
        replayed: c.replayed,
        warnings: c.warnings,
    }
}

/// A session's bytes, made once for each state of it that is told.
fn encoded_session(s: &Session, settings: &Settings) -> Bytes {
    s.memo.get_or_make(|| Bytes::from(session(s, settings).encode_to_vec()))
}

/// One session.
#[must_use]
pub fn found(s: &Session, settings: &Settings) -> pb::GetSessionResponse {
    pb::GetSessionResponse { session: encoded_session(s, settings) }
}

/// A page of sessions.
#[must_use]
pub fn sessions(page: api::SessionPage, settings: &Settings) -> pb::ListSessionsResponse {
    pb::ListSessionsResponse { sessions: page.sessions.iter().map(|s| encoded_session(s, settings)).collect(), next_page_token: page.next_page_token }
}

/// Writes the answer to a command: they differ by name only.
macro_rules! commanded {
    ($($(#[$doc:meta])* $name:ident -> $answer:ident),+ $(,)?) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(c: api::Commanded, settings: &Settings) -> pb::$answer {
            pb::$answer { session: Some(session(&c.session, settings)), resume_token: c.resume_token, replayed: c.replayed }
        })+
    };
}

commanded! {
    /// A session after its expiry was moved.
    extended -> ExtendSessionResponse,
    /// A session after its labels or its idle threshold were changed.
    updated -> UpdateSessionResponse,
    /// A session that is in use.
    kept_alive -> KeepAliveResponse,
    /// A session that is done.
    completed -> CompleteSessionResponse,
    /// A session that is being destroyed.
    destroyed -> DestroySessionResponse,
}

/// A session whose key is being changed, with the private key when the server made it.
#[must_use]
pub fn rotated(c: api::Commanded, settings: &Settings) -> pb::RotateSessionKeyResponse {
    pb::RotateSessionKeyResponse {
        session: Some(session(&c.session, settings)),
        resume_token: c.resume_token,
        replayed: c.replayed,
        ssh_private_key: c.private_key.map(|key| key.expose_secret().to_owned()).unwrap_or_default(),
    }
}

// === events ===

/// An event.
#[must_use]
pub fn event(e: &Event, settings: &Settings) -> pb::SessionEvent {
    pb::SessionEvent {
        revision: e.revision,
        sequence: e.sequence,
        session_id: e.session_id.to_string(),
        r#type: e.kind.number(),
        from_state: e.from_state.number(),
        to_state: e.to_state.number(),
        stage: e.stage.number(),
        end_reason: e.end_reason.map_or(0, Word::number),
        actor: e.actor.text(),
        occur_time: Some(time(e.at)),
        message: e.message.clone(),
        cost: Some(amount(&e.cost)),
        session: Some(session(&e.session, settings)),
    }
}

/// An event's bytes, made once for all who watch.
fn encoded_event(e: &Event, settings: &Settings) -> Bytes {
    e.memo.get_or_make(|| Bytes::from(event(e, settings).encode_to_vec()))
}

/// A page of events.
#[must_use]
pub fn events(page: api::EventPage, settings: &Settings) -> pb::ListSessionEventsResponse {
    pb::ListSessionEventsResponse { events: page.events.iter().map(|e| event(e, settings)).collect(), next_page_token: page.next_page_token }
}

/// Writes a message of a watch: the two differ by name only.
macro_rules! watched {
    ($($(#[$doc:meta])* $name:ident -> $answer:ident in $module:ident),+ $(,)?) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(told: api::WatchMessage, settings: &Settings) -> pb::$answer {
            use pb::$module::Message;
            let (message, resume_token) = match told {
                api::WatchMessage::Snapshot(s) => (Message::Snapshot(session(&s, settings)), String::new()),
                api::WatchMessage::SnapshotEnd { resume_token, revision, counts, spend_rate } => {
                    let counts = counts.into_iter().map(|(state, count)| pb::StateCount { state: state.number(), count: int(count) }).collect();
                    let end = pb::SnapshotEnd { revision, counts, spend_per_hour: Some(rate(spend_rate)), spend_text: spend_rate.to_string() };
                    (Message::SnapshotEnd(end), resume_token)
                }
                api::WatchMessage::Event { resume_token, event: told } => (Message::Event(encoded_event(&told, settings)), resume_token),
                api::WatchMessage::Bookmark { resume_token, revision } => (Message::Bookmark(pb::Bookmark { revision }), resume_token),
            };
            pb::$answer { message: Some(message), resume_token }
        })+
    };
}

watched! {
    /// One message of a watch over one session.
    watched -> WatchSessionResponse in watch_session_response,
    /// One message of a watch over sessions.
    watched_all -> WatchSessionsResponse in watch_sessions_response,
}

// === diagnostics, operation ===

/// A machine at its provider.
#[must_use]
pub fn instance(i: &Instance) -> pb::Instance {
    pb::Instance {
        label: i.label.to_string(),
        session_id: i.label.session.to_string(),
        attempt: i32::from(i.label.attempt),
        provider: i.provider.to_string(),
        account: i.account.clone(),
        offer_id: i.offer.to_string(),
        machine_id: i.machine.to_string(),
        native_id: i.native_id.clone().unwrap_or_default(),
        launch: i.launch.number(),
        desired: i.desired.number(),
        intend_time: Some(time(i.intended_at)),
        launch_time: i.launched.map(|look| time(look.answered)),
        price: Some(price(&i.price)),
        status: i.seen.as_ref().map_or(0, |seen| seen.status.number()),
        raw_status: i.seen.as_ref().map(|seen| seen.raw.clone()).unwrap_or_default(),
        seen_time: i.seen.as_ref().map(|seen| time(seen.look.answered)),
        destroy_tries: int(i.destroy.tries),
        next_destroy_time: i.destroy.next_at.map(time),
        destroy_answer_time: i.destroy.answered_at.map(time),
        destroy_refused_until_time: i.destroy.refused_until.map(time),
        destroy_error: i.destroy.last_error.clone().unwrap_or_default(),
        evidence: i.settled.map_or(0, |s| s.evidence.number()),
        settle_time: i.settled.map(|s| time(s.at)),
    }
}

/// What is known about a session.
#[must_use]
pub fn diagnostics(d: api::Diagnostics, settings: &Settings) -> pb::GetSessionDiagnosticsResponse {
    use pb::get_session_diagnostics_response::FreshGpu;
    pb::GetSessionDiagnosticsResponse {
        session: Some(session(&d.session, settings)),
        instances: d.instances.iter().map(instance).collect(),
        stage_time: Some(time(d.stage_since)),
        stage_deadline_time: d.stage_deadline.map(time),
        uptime: d.uptime.map(duration),
        time_to_expiry: d.time_to_expiry.map(duration),
        probes: int(d.session.pace.probes),
        last_probe_error: d.session.pace.last_probe_error.clone().unwrap_or_default(),
        fresh_gpu: d.fresh_gpu.map(|answer| match answer {
            Ok(report) => FreshGpu::FreshGpuReport(gpu_report(&report)),
            Err(why) => FreshGpu::FreshGpuError(why),
        }),
        read_time: Some(time(d.at)),
        idleness: idleness(&d.session),
        fresh_use_error: d.fresh_use.as_ref().and_then(|look| look.as_ref().err()).cloned().unwrap_or_default(),
        fresh_use: d.fresh_use.and_then(Result::ok).unwrap_or_default().iter().map(reading).collect(),
    }
}

fn idleness(s: &Session) -> Option<pb::Idleness> {
    let threshold = s.request.idle_threshold;
    (s.state == State::Running && !threshold.is_zero()).then(|| pb::Idleness {
        threshold: Some(duration(threshold)),
        idle_time: s.idle.since.map(time),
        end_time: s.idle.since.map(|since| time(since + threshold)),
        warned: s.idle.warned,
        last_signal: s.idle.last.map_or("", Signal::word).to_owned(),
        last_signal_time: s.idle.last_since.map(time),
        look_time: s.idle.looked_at.map(time),
        next_look_time: s.idle.next_look.map(time),
        keep_alive_time: s.idle.kept_alive_at.map(time),
    })
}

fn reading(r: &Reading) -> pb::UseReading {
    pb::UseReading { signal: r.signal.word().to_owned(), idle: r.idle.number(), value: r.value.map(int) }
}

/// A provider as an operator sees it.
#[must_use]
pub fn provider(p: api::ProviderView) -> pb::ProviderStatus {
    let balance = p.account.as_ref().and_then(|a| a.balance);
    pb::ProviderStatus {
        provider: p.provider.to_string(),
        title: p.title.to_owned(),
        credentials_ok: p.account.is_some() && !p.refused,
        credentials_error: p.account_error.unwrap_or_default(),
        account: p.account.map(|a| a.identity).unwrap_or_default(),
        balance: balance.map(money),
        balance_text: balance.map(|b| b.to_string()).unwrap_or_default(),
        freshness: Some(freshness(p.freshness)),
        breaker: p.link.breaker.number(),
        consecutive_failures: int(p.link.consecutive_failures),
        last_error: p.link.last_error.unwrap_or_default(),
        last_error_time: p.link.last_error_at.map(time),
        last_ok_time: p.link.last_ok_at.map(time),
        throttled_until_time: p.link.throttled_until.map(time),
        open_session_count: int(p.open_sessions),
        list_time: p.listed_at.map(time),
        credit_error: p.credit_error.unwrap_or_default(),
    }
}

/// The sessions that a drain ends.
#[must_use]
pub fn drained(d: &Drained, settings: &Settings) -> pb::DrainSessionsResponse {
    pb::DrainSessionsResponse {
        sessions: d.sessions.iter().map(|s| session(s, settings)).collect(),
        at_risk_per_hour: Some(rate(d.rate)),
        at_risk_text: d.rate.to_string(),
    }
}

// === costs ===

/// A session's cost.
#[must_use]
pub fn session_cost(c: &api::SessionCost) -> pb::GetSessionCostResponse {
    let component = |(part, a): &(_, _)| pb::ComponentCost { component: Word::number(*part), amount: Some(amount(a)) };
    pb::GetSessionCostResponse {
        session_id: c.session.to_string(),
        total: Some(amount(&c.total)),
        components: c.components.iter().map(component).collect(),
        attempts: c.attempts.iter().map(|(number, a)| pb::AttemptCost { attempt: i32::from(*number), amount: Some(amount(a)) }).collect(),
        r#final: c.is_final,
        rate_per_hour: Some(rate(c.rate)),
        rate_text: c.rate.to_string(),
    }
}

/// A report.
#[must_use]
pub fn cost_report(r: api::CostReport) -> pb::GetCostReportResponse {
    let group = |g: api::CostGroup| pb::CostGroup {
        keys: g.keys,
        amount: Some(amount(&g.amount)),
        session_count: int(g.sessions),
        gpu_time: Some(millis(g.gpu_millis)),
    };
    pb::GetCostReportResponse {
        start_time: Some(time(r.from)),
        end_time: Some(time(r.to)),
        total: Some(amount(&r.total)),
        groups: r.groups.into_iter().map(group).collect(),
        session_count: int(r.sessions),
        r#final: r.is_final,
        unmetered: r.unmetered,
    }
}

/// A page of the ledger.
#[must_use]
pub fn ledger(page: api::LedgerPage) -> pb::ListLedgerEntriesResponse {
    let entry = |e: api::LedgerEntry| pb::LedgerEntry {
        session_id: e.segment.session.to_string(),
        attempt: i32::from(e.segment.attempt),
        ordinal: int(e.segment.ordinal),
        component: e.segment.component.number(),
        rate_per_hour: Some(rate(e.segment.rate)),
        rate_text: format!("${}/h", e.segment.rate.decimal()),
        start_low_time: Some(time(e.segment.from_low)),
        start_time: Some(time(e.segment.from)),
        end_time: Some(time(e.segment.to)),
        end_high_time: e.segment.to_high.map(time),
        amount: Some(amount(&e.amount)),
        running: e.running,
        presumed: e.segment.presumed,
        consumer_id: e.consumer.to_string(),
        provider: e.provider.to_string(),
        gpu_model: e.gpu,
    };
    pb::ListLedgerEntriesResponse { entries: page.entries.into_iter().map(entry).collect(), next_page_token: page.next_page_token }
}
