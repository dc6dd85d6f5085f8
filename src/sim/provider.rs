//! The market as a [`Provider`] in memory: one account of one vendor, no HTTP, no parsing. For worlds in paused time.
//!
//! Its errors carry the certainty that an adapter over the wire could have, not what the market really did.

use crate::domain::gpu::{GpuModel, snap_memory_mib};
use crate::domain::ids::{HostId, MachineId, OfferId, ProviderId};
use crate::domain::instance::{Billed, InstanceStatus, PriceSeen, Sighting, SshEndpoint};
use crate::domain::memo::Memo;
use crate::domain::memory::prior;
use crate::domain::money::Rate;
use crate::domain::offer::{Component, DiskTerms, Offer, Price, Prior, Region, RentalKind, Traffic};
use crate::domain::template::Template;
use crate::domain::time::{Look, Time};
use crate::ports::{
    Account, Certainty, DestroyAnswer, ErrorKind, LaunchSpec, Launched, OfferBatch, Provider, ProviderError, ProviderFacts, StageBudgets,
};
use crate::sim::catalogue::{AskFacts, Kind, Listing, PlaceFacts};
use crate::sim::market::{AccountId, Market};
use crate::sim::{Dialect, Order, Phase, Pick, Refusal, Shown};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// How long a call is waited for.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a launch is waited for.
const LAUNCH_DEADLINE: Duration = Duration::from_secs(120);
/// What TensorDock machines come with, per GPU.
const PER_GPU: (u32, u32) = (8, 32);

/// One account of the market.
pub struct SimProvider {
    market: Arc<Market>,
    account: AccountId,
    dialect: Dialect,
    facts: ProviderFacts,
}

impl SimProvider {
    /// The account `account` of `market`, which has the manners of `dialect`.
    #[must_use]
    pub fn new(market: Arc<Market>, account: AccountId, dialect: Dialect) -> Self {
        Self { market, account, dialect, facts: facts(dialect) }
    }

    fn error(&self, operation: &'static str, refusal: &Refusal) -> ProviderError {
        let changes = matches!(operation, "launch" | "destroy" | "start" | "attach_key");
        let (kind, text) = match refusal {
            Refusal::Auth => (ErrorKind::Auth, "the credentials are refused".to_owned()),
            Refusal::Throttled(threshold) => (ErrorKind::RateLimited, format!("too frequent: {threshold}")),
            Refusal::ServerError => (ErrorKind::Unavailable, "bad gateway".to_owned()),
            Refusal::Credit | Refusal::BidTooLow(_) => (ErrorKind::Credit, "the account lacks credit".to_owned()),
            Refusal::NoSuchAsk => (ErrorKind::NoCapacity, "the offer is gone".to_owned()),
            Refusal::NoNodes => (ErrorKind::NoCapacity, "no available nodes found".to_owned()),
            Refusal::NoPublicIp => (ErrorKind::NoCapacity, "no available public IPs".to_owned()),
            Refusal::UnknownPlace | Refusal::UnknownGpu => (ErrorKind::Invalid, "there is no such place".to_owned()),
            Refusal::NotFound => (ErrorKind::NotFound, "there is no such instance".to_owned()),
            Refusal::ResourcesUnavailable => (ErrorKind::NoCapacity, "its resources are taken".to_owned()),
            Refusal::NotReady(until) => (ErrorKind::Unavailable, format!("not ready before {until}")),
        };
        let unknown = changes && *refusal == Refusal::ServerError;
        let certainty = if unknown { Certainty::MayHaveHappened } else { Certainty::DidNotHappen };
        ProviderError { provider: self.facts.id.clone(), operation, kind, certainty, text, retry_after: None }
    }

    /// Waits for an answer that takes `wait`, at most until the deadline.
    async fn within(&self, operation: &'static str, deadline: Duration, wait: Duration) -> Result<(), ProviderError> {
        self.market.pause(wait.min(deadline)).await;
        if wait <= deadline { Ok(()) } else { Err(self.timed_out(operation, deadline)) }
    }

    fn timed_out(&self, operation: &'static str, deadline: Duration) -> ProviderError {
        ProviderError {
            provider: self.facts.id.clone(),
            operation,
            kind: ErrorKind::Unavailable,
            certainty: Certainty::MayHaveHappened,
            text: format!("no answer in {} s", deadline.as_secs()),
            retry_after: None,
        }
    }

    async fn answered(&self, operation: &'static str, answer: Result<Duration, Refusal>) -> Result<(), ProviderError> {
        let wait = answer.map_err(|refusal| self.error(operation, &refusal))?;
        self.within(operation, DEADLINE, wait).await
    }

    fn order(&self, spec: &LaunchSpec) -> Option<(Pick, Order)> {
        let (pick, gpus, spot) = match self.dialect {
            Dialect::Vastai => {
                let (ask, spot) = ask_of(&spec.offer.id)?;
                (Pick::Ask(ask), 1, spot)
            }
            Dialect::Tensordock => {
                let (location, v0, count) = place_of(&spec.offer.id)?;
                (Pick::Place { location, v0, count }, count, false)
            }
        };
        let order = Order {
            label: spec.label.to_string(),
            image: spec.image.clone().unwrap_or_else(|| self.facts.default_image.clone()),
            disk_gb: spec.disk_gb,
            bid: spec.bid.or(spec.offer.min_bid).filter(|_| spot),
            vcpus: PER_GPU.0 * gpus,
            ram_gb: PER_GPU.1 * gpus,
            dedicated_ip: false,
            keys: if self.facts.attaches_keys { Vec::new() } else { spec.public_keys.clone() },
            ports: spec.ports.iter().copied().filter(|port| *port != 22).collect(),
            runtype: "ssh_direc ssh_proxy".to_owned(),
            env: spec.env.clone(),
        };
        Some((pick, order))
    }

    fn sighting(&self, shown: &Shown) -> Sighting {
        let status = match shown.phase {
            _ if shown.offline && self.dialect == Dialect::Vastai => InstanceStatus::Offline,
            Phase::Scheduled => InstanceStatus::Scheduled,
            Phase::Starting => InstanceStatus::Starting,
            Phase::Running => InstanceStatus::Running,
            Phase::Stopped => InstanceStatus::Stopped,
            Phase::Failed => InstanceStatus::Failed,
            Phase::Deleting => InstanceStatus::Deleting,
            Phase::Gone => InstanceStatus::Gone,
        };
        let end = |at: &(String, u16), proxied| SshEndpoint { host: at.0.clone(), port: at.1, user: user(self.dialect).to_owned(), proxied };
        let direct = shown.direct.as_ref().map(|at| end(at, false));
        Sighting {
            native_id: shown.native_id.clone(),
            label: Some(shown.order.label.clone()).filter(|label| !label.is_empty()),
            status,
            raw_status: format!("{:?}", shown.phase).to_lowercase(),
            progress: Some(shown.status_text.clone()).filter(|text| !text.is_empty()),
            endpoints: direct.into_iter().chain(shown.proxy.as_ref().map(|at| end(at, true))).collect(),
            public_host: shown.direct.as_ref().map(|(host, _)| host.clone()),
            ports: shown.ports.iter().map(|(inside, outside)| (*inside, *outside)).collect(),
            price: Some(PriceSeen::Parts(shown.price)),
            interruptible: Some(shown.order.bid.is_some()),
            machine: Some(MachineId::new(&format!("{}:{}", self.dialect.word(), shown.listing.machine()))),
            gpu_percent: (shown.phase == Phase::Running && self.dialect == Dialect::Vastai).then(|| shown.workload.reported_percent()),
        }
    }
}

#[async_trait]
impl Provider for SimProvider {
    fn facts(&self) -> &ProviderFacts {
        &self.facts
    }

    fn owns_offer_id(&self, id: &OfferId) -> bool {
        match self.dialect {
            Dialect::Vastai => ask_of(id).is_some(),
            Dialect::Tensordock => place_of(id).is_some(),
        }
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        let balance = self.market.balance(self.account).map_err(|refusal| self.error("account", &refusal))?;
        Ok(Account { identity: self.account.user_id().to_string(), balance: balance.filter(|_| self.dialect == Dialect::Vastai) })
    }

    async fn offers(&self) -> Result<OfferBatch, ProviderError> {
        let failed = |refusal: Refusal| self.error("offers", &refusal);
        let begun = self.market.begun();
        let (offers, wait) = match self.dialect {
            Dialect::Vastai => {
                let (asks, wait) = self.market.asks(Some(self.account)).map_err(failed)?;
                let now = self.market.clock().now();
                let both = asks.iter().flat_map(|(id, listing)| [false, true].map(|spot| ask_offer(*id, spot, listing, begun, now)));
                (both.flatten().map(Arc::new).collect(), wait)
            }
            Dialect::Tensordock => {
                let (places, wait) = self.market.places(Some(self.account)).map_err(failed)?;
                let now = self.market.clock().now();
                let offers = places.iter().flat_map(|(free, listing)| counts(*free).filter_map(move |count| place_offer(count, listing, now)));
                (offers.map(Arc::new).collect(), wait)
            }
        };
        self.within("offers", DEADLINE, wait).await?;
        Ok(OfferBatch { offers, truncated: false, skipped: 0 })
    }

    async fn templates(&self) -> Result<Vec<Template>, ProviderError> {
        let answer = self.market.templates(self.account).map_err(|refusal| self.error("templates", &refusal))?;
        self.within("templates", DEADLINE, answer.1).await?;
        let recommended = answer.0.iter().filter(|made| made.recommended);
        Ok(recommended.filter(|_| self.dialect == Dialect::Vastai).map(|made| made.template(&self.facts.id)).collect())
    }

    async fn template(&self, hash_id: &str) -> Result<Option<Template>, ProviderError> {
        let answer = self.market.templates(self.account).map_err(|refusal| self.error("templates", &refusal))?;
        self.within("templates", DEADLINE, answer.1).await?;
        let found = answer.0.iter().find(|made| made.hash_id == hash_id && self.dialect == Dialect::Vastai);
        Ok(found.map(|made| made.template(&self.facts.id)))
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Launched, ProviderError> {
        let sent = self.market.clock().now();
        let (pick, order) = self.order(spec).ok_or_else(|| self.error("launch", &Refusal::NoSuchAsk))?;
        let answer = self.market.create(self.account, &pick, order);
        if answer.lost {
            self.market.pause(LAUNCH_DEADLINE).await;
            return Err(self.timed_out("launch", LAUNCH_DEADLINE));
        }
        self.within("launch", LAUNCH_DEADLINE, answer.wait).await?;
        let call = Look { sent, answered: self.market.clock().now() };
        match answer.result {
            Ok(native_id) => Ok(Launched { native_id, call, failed: None }),
            Err(Refusal::BidTooLow(native_id)) => Ok(Launched { native_id, call, failed: Some("the bid is too low".to_owned()) }),
            Err(refusal) => Err(self.error("launch", &refusal)),
        }
    }

    async fn attach_key(&self, native_id: &str, public_key: &str) -> Result<(), ProviderError> {
        if !self.facts.attaches_keys {
            return Ok(());
        }
        self.answered("attach_key", self.market.attach_key(self.account, native_id, public_key)).await
    }

    async fn instance(&self, native_id: &str) -> Result<Option<Sighting>, ProviderError> {
        let (shown, wait) = self.market.get(self.account, native_id).map_err(|refusal| self.error("instance", &refusal))?;
        self.within("instance", DEADLINE, wait).await?;
        Ok(shown.map(|shown| self.sighting(&shown)))
    }

    async fn instances(&self) -> Result<Vec<Sighting>, ProviderError> {
        let answer = self.market.list(self.account).map_err(|refusal| self.error("instances", &refusal))?;
        self.within("instances", DEADLINE, answer.wait).await?;
        if self.dialect == Dialect::Vastai && answer.rows.len() != answer.total {
            let text = format!("{} of {} instances", answer.rows.len(), answer.total);
            return Err(ProviderError { kind: ErrorKind::Garbled, text, ..self.error("instances", &Refusal::ServerError) });
        }
        // TensorDock's lists tell no prices.
        let listed = |sighting: Sighting| match self.dialect {
            Dialect::Vastai => sighting,
            Dialect::Tensordock => Sighting { price: None, ..sighting },
        };
        Ok(answer.rows.iter().map(|shown| listed(self.sighting(shown))).collect())
    }

    async fn start(&self, native_id: &str) -> Result<(), ProviderError> {
        self.answered("start", self.market.start(self.account, native_id)).await
    }

    async fn destroy(&self, native_id: &str) -> Result<DestroyAnswer, ProviderError> {
        match self.market.destroy(self.account, native_id) {
            Err(Refusal::NotFound) => Ok(DestroyAnswer::NotThere),
            Err(Refusal::NotReady(_)) => Ok(DestroyAnswer::Refused { until: None, text: "not ready for deletion".to_owned() }),
            answer => self.answered("destroy", answer).await.map(|()| DestroyAnswer::Accepted),
        }
    }
}

/// Who logs in on a vendor's machines.
pub(super) fn user(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Vastai => "root",
        Dialect::Tensordock => "user",
    }
}

fn facts(dialect: Dialect) -> ProviderFacts {
    let minutes = |m: u64| Duration::from_secs(m * 60);
    match dialect {
        Dialect::Vastai => ProviderFacts {
            id: ProviderId::new(dialect.word()),
            title: "Vast.ai",
            refresh_interval: Duration::from_secs(60),
            visibility_window: Duration::from_secs(60),
            list_interval: Duration::from_secs(2),
            attaches_keys: true,
            billing: vec![(Component::Gpu, Billed::WhileRunning), (Component::Disk, Billed::WhileOnline)],
            budgets: StageBudgets { first_sign: minutes(5), boot: minutes(30), login: minutes(5), gpu: minutes(5), attempt: minutes(45) },
            preserves_storage: false,
            default_image: "nvidia/cuda:12.6.3-runtime-ubuntu22.04".to_owned(),
        },
        Dialect::Tensordock => ProviderFacts {
            id: ProviderId::new(dialect.word()),
            title: "TensorDock",
            refresh_interval: Duration::from_secs(30),
            visibility_window: Duration::from_secs(180),
            list_interval: Duration::from_secs(3),
            attaches_keys: false,
            billing: Component::ALL.map(|component| (component, Billed::WhileExisting)).to_vec(),
            budgets: StageBudgets { first_sign: minutes(10), boot: minutes(15), login: minutes(10), gpu: minutes(15), attempt: minutes(45) },
            preserves_storage: false,
            default_image: "ubuntu2404_ml_everything".to_owned(),
        },
    }
}

fn ask_of(id: &OfferId) -> Option<(u64, bool)> {
    let rest = id.as_str().strip_prefix("vastai-")?;
    let (number, spot) = rest.strip_suffix("-spot").map_or((rest, false), |number| (number, true));
    let ask: u64 = number.parse().ok()?;
    (ask.to_string() == number).then_some((ask, spot))
}

fn place_of(id: &OfferId) -> Option<(String, String, u32)> {
    let rest = id.as_str().strip_prefix("tensordock-")?;
    let (location, rest) = (rest.get(..36)?, rest.get(36..)?.strip_prefix('-')?);
    let (v0, number) = rest.strip_suffix('x')?.rsplit_once('-')?;
    let count: u32 = number.parse().ok()?;
    let canonical = count > 0 && count.to_string() == number && !v0.is_empty() && uuid::Uuid::try_parse(location).is_ok();
    canonical.then(|| (location.to_owned(), v0.to_owned(), count))
}

/// What the adapters expect of an ask and of a place before anything was learnt.
const USUAL_CHANCE: (f64, f64) = (0.52, 0.42);

fn ask_offer(id: u64, spot: bool, listing: &Listing, begun: Time, now: Time) -> Option<Offer> {
    let Kind::Ask(ask) = &listing.kind else { return None };
    let base = Price { gpu: if spot { ask.min_bid } else { ask.base }, ..Price::default() };
    let disk = DiskTerms { per_gb: ask.disk_per_gb, min_gb: 8, step_gb: 1, max_gb: ask.disk_gb, default_gb: 50 };
    let rental = if spot { RentalKind::Interruptible } else { RentalKind::OnDemand };
    let share = |whole: u32| u32::try_from(u64::from(whole) * u64::from(ask.gpus.0) / u64::from(ask.gpus.1.max(1))).ok();
    Some(Offer {
        rental,
        min_bid: spot.then_some(ask.min_bid),
        region: Arc::new(ask_region(ask)),
        traffic: Traffic { up_per_gb: ask.traffic.0, down_per_gb: ask.traffic.1 },
        reliability: Some(f64::from(ask.reliability_ppm) / 1e6),
        verified: Some(ask.verification == "verified"),
        cuda: Some(ask.driver.1 / 10 * 100 + ask.driver.1 % 10),
        cpu_millis: ask.cpu_cores.and_then(|cores| share(cores * 1000)),
        memory_mib: share(ask.cpu_ram_mb),
        direct_ports: Some(ask.direct_ports > 0),
        host_end: Some(begun + Duration::from_secs(ask.listed_s)),
        slots: Some(1),
        confidence: prior(USUAL_CHANCE.0, Some(f64::from(ask.reliability_ppm) / 1e6), Some(ask.verification == "verified"), rental),
        host: Some(HostId::new(&format!("vastai:host-{}", ask.host_id))),
        ..offer(&format!("vastai-{id}{}", if spot { "-spot" } else { "" }), Dialect::Vastai, listing, ask.gpus.0, base, disk, now)
    })
}

fn ask_region(ask: &AskFacts) -> Region {
    let raw = ask.geolocation.unwrap_or_default();
    let parts: Vec<&str> = raw.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let code = parts.iter().rposition(|part| part.len() == 2 && !matches!(*part, "EU" | "NA" | "AS" | "OC"));
    Region {
        country: code.map(|at| parts[at].to_owned()).or_else(|| (raw == "Norway").then(|| "NO".to_owned())),
        area: code.filter(|at| *at > 0).map(|_| parts[0].to_owned()),
        raw: raw.to_owned(),
    }
}

/// Which numbers of GPUs are offered at a place: 1, 2, 4 … and all that are free.
fn counts(free: u32) -> impl Iterator<Item = u32> {
    (0..6).map(|power| 1 << power).filter(move |count| *count < free).chain(Some(free).filter(|free| *free > 0))
}

fn place_offer(count: u32, listing: &Listing, now: Time) -> Option<Offer> {
    let Kind::Place(place) = &listing.kind else { return None };
    let base = Price {
        gpu: place.per_gpu.times(count),
        cpu: place.per_part.0.times(PER_GPU.0 * count),
        memory: place.per_part.1.times(PER_GPU.1 * count),
        disk: Rate::ZERO,
    };
    let disk = DiskTerms { per_gb: place.per_part.2, min_gb: 100, step_gb: 50, max_gb: 2_000, default_gb: 100 };
    let id = format!("tensordock-{}-{}-{count}x", place.location.id, listing.card.tensordock.0);
    Some(Offer {
        region: Arc::new(place_region(place)),
        cpu_millis: Some(PER_GPU.0 * count * 1000),
        memory_mib: Some(PER_GPU.1 * count * 1024),
        direct_ports: Some(true),
        confidence: prior(USUAL_CHANCE.1, None, None, RentalKind::OnDemand),
        host: Some(HostId::new(&format!("tensordock:{}", place.location.id))),
        ..offer(&id, Dialect::Tensordock, listing, count, base, disk, now)
    })
}

fn place_region(place: &PlaceFacts) -> Region {
    let country = match place.location.country {
        "United States" | "USA" => Some("US"),
        "Canada" => Some("CA"),
        "Germany" => Some("DE"),
        "United Kingdom" => Some("GB"),
        "France" => Some("FR"),
        "Norway" => Some("NO"),
        _ => None,
    };
    let raw = [place.location.city, place.location.state, place.location.country].into_iter().filter(|part| !part.is_empty());
    Region { country: country.map(str::to_owned), area: Some(place.location.city.to_owned()), raw: raw.collect::<Vec<_>>().join(", ") }
}

/// What offers of both vendors have in common, the rest empty.
fn offer(id: &str, dialect: Dialect, listing: &Listing, gpu_count: u32, base: Price, disk: DiskTerms, now: Time) -> Offer {
    let raw = if dialect == Dialect::Vastai { listing.card.vastai } else { listing.card.tensordock.0 };
    Offer {
        id: OfferId::new(id),
        provider: ProviderId::new(dialect.word()),
        machine: MachineId::new(&format!("{}:{}", dialect.word(), listing.machine())),
        gpu: GpuModel::canonical(raw),
        gpu_raw: Arc::from(raw),
        gpu_count,
        gpu_memory_mib: snap_memory_mib(listing.gpu_mib),
        region: Arc::default(),
        rental: RentalKind::OnDemand,
        min_bid: None,
        base,
        disk,
        traffic: Traffic::default(),
        reliability: None,
        verified: None,
        cuda: None,
        cpu_millis: None,
        memory_mib: None,
        direct_ports: None,
        host_end: None,
        slots: None,
        host: None,
        confidence: 1.0,
        prior: Prior::default(),
        seen_at: now,
        memo: Memo::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offer_ids_are_canonical() {
        assert_eq!(ask_of(&OfferId::new("vastai-29000123")), Some((29_000_123, false)));
        assert_eq!(ask_of(&OfferId::new("vastai-29000123-spot")), Some((29_000_123, true)));
        let place = "tensordock-8dd95ff0-dff9-489c-9b02-b38a366b6ab1-geforcertx4090-pcie-24gb-2x";
        assert_eq!(place_of(&OfferId::new(place)).map(|(_, v0, count)| (v0, count)), Some(("geforcertx4090-pcie-24gb".to_owned(), 2)));
        for bad in [
            "vastai-",
            "vastai-007",
            "vastai-1-spot-spot",
            "vastai-x",
            "tensordock-1-a-1x",
            &place.replace("-2x", "-0x"),
            &place.replace("-2x", "-02x"),
        ] {
            assert!(ask_of(&OfferId::new(bad)).is_none() && place_of(&OfferId::new(bad)).is_none(), "{bad}");
        }
    }
}
