//! Why there are so few offers, and what is remembered of them: both ways.

use super::answers::{freshness, int, offer_filter, rate, time};
use super::fields::Fields;
use super::requests::filter;
use super::words::Word;
use crate::domain::gpu::GpuModel;
use crate::domain::memory::Health;
use crate::domain::offer::OfferFilter;
use crate::grpc::{Settings, pb};
use crate::services::api;
use crate::services::error::Error;
use crate::services::tokens::PageOf;

/// The filter to explain.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn explain(request: &pb::ExplainOffersRequest, settings: &Settings) -> Result<OfferFilter, Error> {
    let mut fields = Fields::default();
    let wanted = request.filter.as_ref().map(|f| filter(&mut fields, "filter", f, settings)).unwrap_or_default();
    fields.done(wanted)
}

/// What a filter does.
#[must_use]
pub fn explained(e: api::Explained) -> pb::ExplainOffersResponse {
    let summary = e.explanation.summary();
    let (closest_offer_id, closest_fails) = e.explanation.closest.map(|(id, fails)| (id.to_string(), fails)).unwrap_or_default();
    let effects = e.explanation.effects.into_iter().map(|effect| pb::FilterEffect {
        field: effect.field.to_owned(),
        removed_count: int(effect.removed),
        removed_alone_count: int(effect.removed_alone),
        matching_without_count: int(effect.left_without),
    });
    let relaxations = e.explanation.relaxations.into_iter().map(|r| pb::Relaxation {
        field: r.field.to_owned(),
        value: r.value,
        filter: Some(offer_filter(&r.filter)),
        matching_offer_count: int(r.offers),
        from_price_per_hour: Some(rate(r.from)),
        from_price_text: r.from.to_string(),
        change_permille: i64::try_from(r.change).unwrap_or(i64::MAX),
    });
    pb::ExplainOffersResponse {
        total_offer_count: int(e.explanation.total),
        matching_offer_count: int(e.explanation.passing),
        effects: effects.collect(),
        relaxations: relaxations.collect(),
        closest_offer_id,
        closest_fails: closest_fails.into_iter().map(str::to_owned).collect(),
        set_aside_count: int(e.set_aside),
        set_aside_until_time: e.set_aside_until.map(time),
        summary,
        snapshot_time: Some(time(e.snapshot_time)),
        providers: e.freshness.into_iter().map(freshness).collect(),
    }
}

/// Which part of the failure memory.
///
/// # Errors
/// `INVALID_FIELD` with every violation.
pub fn health_query(request: &pb::ListOfferHealthRequest, settings: &Settings) -> Result<api::HealthQuery, Error> {
    let mut fields = Fields::default();
    let query = api::HealthQuery {
        provider: fields.provider("provider", request.provider.as_deref(), &settings.providers),
        kinds: fields.words("kinds", &request.kinds),
        gpu_models: request.gpu_models.iter().map(|model| GpuModel::canonical(model)).collect(),
        set_aside_only: request.set_aside_only,
        page_size: fields.page_size(request.page_size),
        page_token: request.page_token.clone(),
    };
    fields.list("gpu_models", &request.gpu_models, 1..=200);
    fields.page_token(PageOf::Health, &request.page_token);
    fields.done(query)
}

/// A page of the failure memory.
#[must_use]
pub fn health(page: api::HealthPage) -> pb::ListOfferHealthResponse {
    pb::ListOfferHealthResponse {
        entries: page.entries.into_iter().map(entry).collect(),
        next_page_token: page.next_page_token,
        total_size: int(page.total),
        observes_only: !page.acts,
    }
}

fn entry(h: Health) -> pb::OfferHealth {
    let (last_outcome, last_at, last_message) =
        h.last.map_or((String::new(), None, String::new()), |(outcome, at, text)| (outcome.word().to_owned(), Some(time(at)), text));
    pb::OfferHealth {
        kind: h.subject.kind().number(),
        name: h.subject.name().to_owned(),
        provider: h.provider.to_string(),
        launch_count: int(h.launches),
        usable_count: int(h.usable),
        failure_counts: h.failures.into_iter().map(|(outcome, count)| (outcome.word().to_owned(), int(count))).collect(),
        last_outcome,
        last_time: last_at,
        last_message,
        set_aside_until_time: h.aside.map(|a| time(a.until)),
        set_aside_reason: h.aside.map(|a| a.why.word().to_owned()).unwrap_or_default(),
        confidence: h.confidence,
        gpu_models: h.gpus.iter().map(ToString::to_string).collect(),
    }
}
