//! What operators order and what they are told: holds, debts, strays, foreign machines, the audit, what is spent.

use super::answers::{duration, instance, int, money, rate, session, time};
use super::fields::Fields;
use super::requests::{reservation, reservation_beyond};
use super::words::Word;
use crate::domain::ids::{ConsumerId, Label, ProviderId};
use crate::domain::lifecycle::Fate;
use crate::domain::money::Rate;
use crate::domain::time::Time;
use crate::grpc::{Settings, pb};
use crate::services::lifecycle::{Done, Order};
use crate::services::operator::{Found, SpendRate, Swept};
use crate::services::sweeper::{FindingKind, Findings, Hold, HoldKind};
use crate::services::tokens::PageOf;
use crate::services::{Error, api};
use std::time::Duration;

/// Characters of a reason that is written down.
const LONGEST_REASON: usize = 500;
/// Characters of a vendor's id.
const LONGEST_ID: usize = 128;
/// A hold beyond this is a slip.
const LONGEST_HOLD: Duration = Duration::from_secs(366 * 86_400);

// === orders ===

/// One provider, when one is named.
///
/// # Errors
/// `INVALID_FIELD`.
pub fn provider(text: Option<&str>, settings: &Settings) -> Result<Option<ProviderId>, Error> {
    let mut fields = Fields::default();
    let provider = fields.provider("provider", text, &settings.providers);
    fields.done(provider)
}

/// A destroy to try at once.
///
/// # Errors
/// `INVALID_FIELD`.
pub fn retry(request: &pb::RetryDestroyRequest) -> Result<Order, Error> {
    let mut fields = Fields::default();
    let label = fields.instance_label("label", &request.label);
    fields.done(Order::Retry(label))
}

/// A debt that is over.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn settle(request: &pb::SettleInstanceRequest) -> Result<Order, Error> {
    let mut fields = Fields::default();
    let label = fields.instance_label("label", &request.label);
    fields.given("reason", &request.reason, LONGEST_REASON);
    fields.done(Order::Settle { label, reason: request.reason.clone() })
}

/// A stray to keep.
///
/// # Errors
/// `INVALID_FIELD` with every violation; OUT_OF_RANGE `HARD_MAX_EXCEEDED` when only the reservation is too long.
pub fn adopt(request: &pb::AdoptInstanceRequest, settings: &Settings) -> Result<Order, Error> {
    let mut fields = Fields::default();
    let (provider, native_id) = machine(&mut fields, &request.provider, &request.native_id, settings);
    let too_long = reservation_beyond(request.reservation.as_ref(), settings.hard_max);
    let fate = Fate::Keep {
        consumer: fields.consumer("consumer_id", request.consumer_id.as_deref()).unwrap_or_else(|| ConsumerId::new(api::DEFAULT_CONSUMER)),
        reservation: reservation(&mut fields, request.reservation.as_ref(), settings.hard_max, too_long.is_some()),
    };
    if let Some(mut error) = too_long {
        if fields.good() {
            return Err(error);
        }
        fields.add(&mut error.violations);
    }
    fields.done(Order::Stray { provider, native_id, fate })
}

/// A stray or an orphan to destroy.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn destroy(request: &pb::DestroyInstanceRequest, settings: &Settings) -> Result<Order, Error> {
    let mut fields = Fields::default();
    let (provider, native_id) = machine(&mut fields, &request.provider, &request.native_id, settings);
    fields.done(Order::Stray { provider, native_id, fate: Fate::Destroy })
}

fn machine(fields: &mut Fields, provider: &str, native_id: &str, settings: &Settings) -> (ProviderId, String) {
    let provider = fields.provider("provider", Some(provider), &settings.providers).unwrap_or_else(|| ProviderId::new(""));
    fields.given("native_id", native_id, LONGEST_ID);
    (provider, native_id.to_owned())
}

/// A hold to set or to lift; `now` is for those that are given as a duration.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn hold(request: &pb::SetHoldRequest, settings: &Settings, now: Time) -> Result<Order, Error> {
    use pb::set_hold_request::End;
    let mut fields = Fields::default();
    let provider = fields.provider("provider", Some(&request.provider), &settings.providers).unwrap_or_else(|| ProviderId::new(""));
    let kind = fields.required_word("kind", request.kind, HoldKind::Launches);
    let reason = request.reason.clone();
    let until = match &request.end {
        None => None,
        Some(End::UntilTime(at)) => {
            let until = fields.time("until_time", Some(at));
            if let Some(past) = until.filter(|until| *until <= now) {
                fields.wrong("until_time", format!("{past} is past; allowed: a time after now, or none at all"));
            }
            until
        }
        Some(End::Duration(length)) => fields.duration("duration", Some(length), Duration::from_secs(1)..=LONGEST_HOLD).map(|length| now + length),
    };
    if request.lift {
        if request.end.is_some() {
            let field = if matches!(request.end, Some(End::Duration(_))) { "duration" } else { "until_time" };
            fields.wrong(field, "goes with a hold that is set; leave it out with `lift`");
        }
        fields.text("reason", &request.reason, 0..=LONGEST_REASON);
        return fields.done(Order::Lift { provider, kind, reason });
    }
    fields.given("reason", &request.reason, LONGEST_REASON);
    fields.done(Order::Hold { provider, kind, until, reason })
}

/// The size of a page of the audit.
///
/// # Errors
/// `INVALID_FIELD`.
pub fn audit_size(request: &pb::ListAuditEntriesRequest) -> Result<u32, Error> {
    let mut fields = Fields::default();
    let size = fields.page_size(request.page_size);
    fields.page_token(PageOf::Audit, &request.page_token);
    fields.done(size)
}

// === answers ===

/// The session of an order that was about one.
#[must_use]
pub fn concerned(done: &Done, settings: &Settings) -> Option<pb::Session> {
    done.session.as_deref().map(|s| session(s, settings))
}

/// Machines that should be gone and are not proven so.
#[must_use]
pub fn unconfirmed(rows: Vec<api::UnconfirmedDestroy>) -> pb::ListUnconfirmedDestroysResponse {
    let all: Rate = rows.iter().map(|r| r.at_risk).sum();
    let one = |row: api::UnconfirmedDestroy| pb::UnconfirmedDestroy {
        instance: Some(instance(&row.instance)),
        since_time: Some(time(row.since)),
        at_risk_per_hour: Some(rate(row.at_risk)),
        at_risk_text: row.at_risk.to_string(),
        vendor_call: row.vendor_call,
        age: Some(duration(row.age)),
    };
    pb::ListUnconfirmedDestroysResponse {
        destroys: rows.into_iter().map(one).collect(),
        at_risk_per_hour: Some(rate(all)),
        at_risk_text: all.to_string(),
    }
}

/// Strays and orphans.
#[must_use]
pub fn strays(found: &[Found]) -> pb::ListStrayInstancesResponse {
    let (all, unpriced) = priced(found);
    pb::ListStrayInstancesResponse {
        instances: found.iter().map(stray).collect(),
        price_per_hour: Some(rate(all)),
        price_text: all.to_string(),
        unpriced_count: unpriced,
    }
}

/// Foreign machines.
#[must_use]
pub fn foreign(found: &[Found]) -> pb::ListForeignInstancesResponse {
    let (all, unpriced) = priced(found);
    pb::ListForeignInstancesResponse {
        instances: found.iter().map(stranger).collect(),
        price_per_hour: Some(rate(all)),
        price_text: all.to_string(),
        unpriced_count: unpriced,
    }
}

fn priced(found: &[Found]) -> (Rate, i32) {
    let prices: Vec<Rate> = found.iter().filter_map(|f| f.finding.per_hour()).collect();
    (prices.iter().copied().sum(), int(found.len() - prices.len()))
}

fn stray(found: &Found) -> pb::StrayInstance {
    use pb::stray_instance::Kind;
    let f = &found.finding;
    let kind = match f.kind {
        FindingKind::Stray => Kind::Stray,
        FindingKind::Orphan => Kind::Orphan,
        FindingKind::Foreign => Kind::Unspecified,
    };
    pb::StrayInstance {
        provider: f.provider.to_string(),
        account: f.account.clone(),
        native_id: f.sighting.native_id.clone(),
        label: f.label.map(|l| l.to_string()).unwrap_or_default(),
        session_id: f.label.map(|l| l.session.to_string()).unwrap_or_default(),
        kind: kind.into(),
        status: f.sighting.status.number(),
        raw_status: f.sighting.raw_status.clone(),
        price_per_hour: f.per_hour().map(rate),
        price_text: f.per_hour().map(|p| p.to_string()).unwrap_or_default(),
        first_seen_time: Some(time(f.first_seen)),
        last_seen_time: Some(time(f.look.answered)),
        list_count: int(f.lists),
        alarmed: f.alarmed,
        waits_for: found.waits_for.clone(),
        vendor_call: found.vendor_call.clone(),
        adopt_command: f.adopt_command(),
        destroy_command: f.destroy_command(),
    }
}

fn stranger(found: &Found) -> pb::ForeignInstance {
    let f = &found.finding;
    pb::ForeignInstance {
        provider: f.provider.to_string(),
        account: f.account.clone(),
        native_id: f.sighting.native_id.clone(),
        label: f.sighting.label.clone().unwrap_or_default(),
        other_deployment: f.label.map(|Label { tag, .. }| tag.to_string()).unwrap_or_default(),
        status: f.sighting.status.number(),
        raw_status: f.sighting.raw_status.clone(),
        price_per_hour: f.per_hour().map(rate),
        price_text: f.per_hour().map(|p| p.to_string()).unwrap_or_default(),
        first_seen_time: Some(time(f.first_seen)),
        last_seen_time: Some(time(f.look.answered)),
        list_count: int(f.lists),
    }
}

/// What a sweep came to, with what it found.
#[must_use]
pub fn swept(swept: &Swept, strays: &[Found], foreign: &[Found]) -> pb::SweepNowResponse {
    let failure = |(provider, error): &(ProviderId, String)| pb::SweepFailure { provider: provider.to_string(), error: error.clone() };
    pb::SweepNowResponse {
        complete_providers: swept.complete.iter().map(ToString::to_string).collect(),
        failures: swept.failed.iter().map(failure).collect(),
        strays: strays.iter().map(stray).collect(),
        foreign: foreign.iter().map(stranger).collect(),
    }
}

/// The holds after an order.
#[must_use]
pub fn held(done: &Done) -> pb::SetHoldResponse {
    pb::SetHoldResponse { holds: done.holds.iter().map(told).collect() }
}

/// The holds in force, at one provider or at all.
#[must_use]
pub fn holds(findings: Findings, provider: Option<&ProviderId>, now: Time) -> pb::GetHoldResponse {
    pb::GetHoldResponse {
        holds: findings.holds.iter().filter(|h| h.in_force(now) && provider.is_none_or(|p| *p == h.provider)).map(told).collect(),
        database_frozen: findings.frozen.is_some(),
        frozen_reason: findings.frozen.unwrap_or_default(),
    }
}

fn told(hold: &Hold) -> pb::Hold {
    pb::Hold {
        provider: hold.provider.to_string(),
        kind: hold.kind.number(),
        until_time: hold.until.map(time),
        reason: hold.reason.clone(),
        set_by: hold.by.clone(),
        set_time: Some(time(hold.since)),
    }
}

/// A page of the audit.
#[must_use]
pub fn audit(page: api::AuditPage) -> pb::ListAuditEntriesResponse {
    let entries = page.entries.into_iter().map(|(number, record)| pb::AuditEntry {
        number,
        time: Some(time(record.at)),
        actor: record.actor,
        action: record.action,
        target: record.target,
        detail: record.detail,
    });
    pb::ListAuditEntriesResponse { entries: entries.collect(), next_page_token: page.next_page_token }
}

/// What is spent per hour, by provider and in all.
#[must_use]
pub fn spend(spent: &[SpendRate]) -> pb::GetSpendRateResponse {
    let one = |s: &SpendRate| pb::ProviderSpend {
        provider: s.provider.to_string(),
        rate: Some(spend_rate(std::slice::from_ref(s))),
        balance: s.balance.map(money),
        balance_text: s.balance.map(|b| b.to_string()).unwrap_or_default(),
        lasts: s.lasts().map(duration),
    };
    pb::GetSpendRateResponse { providers: spent.iter().map(one).collect(), total: Some(spend_rate(spent)) }
}

/// The sum over providers.
fn spend_rate(spent: &[SpendRate]) -> pb::SpendRate {
    let sum = |part: fn(&SpendRate) -> Rate| spent.iter().map(part).sum::<Rate>();
    let total = sum(SpendRate::total);
    pb::SpendRate {
        running_per_hour: Some(rate(sum(|s| s.running))),
        stopping_per_hour: Some(rate(sum(|s| s.stopping))),
        stray_per_hour: Some(rate(sum(|s| s.strays))),
        foreign_per_hour: Some(rate(sum(|s| s.foreign))),
        total_per_hour: Some(rate(total)),
        total_text: total.to_string(),
        unpriced_count: int(spent.iter().map(|s| s.unpriced).sum::<usize>()),
    }
}
