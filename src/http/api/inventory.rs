//! Offers, templates, GPU models.

use super::Api;
use super::asked::{Asked, Part};
use super::params::{Param, Unit, fields, pages, parts};
use super::reply::{add, around, kept, listed, message, object, told};
use super::route::Route;
use super::shapes::{Kind, Member, PAGE, Shape};
use crate::domain::offer::Offer;
use crate::grpc::convert::{answers, market, requests};
use crate::grpc::json::tree::{Json, Map};
use crate::grpc::pb;
use crate::http::json;
use crate::services::api::{Caller, OfferPage, OfferQuery};
use crate::services::{Code, Error};
use axum::response::Response;
use http::StatusCode;

const COMPATIBLE: &[Member] = &[
    ("compatible_templates", Kind::Many("Template"), "The templates that can run on the offer."),
    ("count", Kind::Whole, "How many are in this answer."),
    ("total", Kind::Whole, "How many there are in all."),
    ("limit", Kind::WholeOrNull, "The limit that was asked for; null: the list is whole."),
    ("offset", Kind::Whole, "How many were left out at the beginning."),
    ("offer_id", Kind::Text, "The offer."),
    ("provider", Kind::Text, "Its provider."),
    ("gpu_type", Kind::Text, "Its GPU model."),
    ("vram_gb", Kind::Whole, "Memory of one GPU, whole GB."),
    ("note", Kind::Text, "Why there are none, where the provider has no templates; else empty."),
];

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/inventory", "InventoryService/ListOffers", list)
            .query(list_params())
            .answers(200, Shape::With("ListOffersResponse", PAGE))
            .refuses(&[404, 409]),
        Route::get("/api/v1/inventory/explain", "InventoryService/ExplainOffers", explain)
            .query(filter_params("ExplainOffersRequest"))
            .answers(200, Shape::Message("ExplainOffersResponse"))
            .refuses(&[404]),
        Route::get("/api/v1/inventory/{offer_id}", "InventoryService/GetOffer", get).query(one_params()).answers(200, Shape::Message("Offer")),
        Route::get("/api/v1/gpu-models", "InventoryService/ListGpuModels", gpu_models)
            .query(parts())
            .answers(200, Shape::With("ListGpuModelsResponse", PAGE)),
        Route::get("/api/v1/templates", "InventoryService/ListTemplates", templates)
            .query(template_params())
            .answers(200, Shape::With("ListTemplatesResponse", PAGE))
            .refuses(&[404, 409]),
        Route::get("/api/v1/inventory/{offer_id}/compatible-templates", "InventoryService/ListTemplates", compatible)
            .about("The templates that can run on an offer.")
            .query(parts())
            .answers(200, Shape::Own("CompatibleTemplates", COMPATIBLE))
            .refuses(&[409]),
        Route::get("/api/v1/templates/{hash_id}", "InventoryService/GetTemplate", template).answers(200, Shape::Message("Template")).refuses(&[409]),
    ]
}

/// Every field of the filter, and what the earlier Go server called them.
fn filter_params(of: &str) -> Vec<Param> {
    let mut params = fields(of);
    params.extend([
        Param::other("provider", "filter.providers", Unit::AsIs, ""),
        Param::other("gpu_type", "filter.gpu_models", Unit::AsIs, ""),
        Param::other("location", "filter.regions", Unit::AsIs, ""),
        Param::other("min_vram", "filter.min_gpu_memory_mib", Unit::Gigabytes, "At least this much memory per GPU, in GB."),
        Param::other("max_vram", "filter.max_gpu_memory_mib", Unit::Gigabytes, "At most this much memory per GPU, in GB."),
        Param::other("max_price", "filter.max_price_per_hour", Unit::AsIs, ""),
        Param::other("min_availability_confidence", "filter.min_confidence", Unit::AsIs, ""),
    ]);
    params
}

fn list_params() -> Vec<Param> {
    let mut params = filter_params("ListOffersRequest");
    params.extend(pages());
    params
}

fn one_params() -> Vec<Param> {
    fields("GetOfferRequest").into_iter().filter(|p| p.name == "disk_gb").collect()
}

fn template_params() -> Vec<Param> {
    let mut params = fields("ListTemplatesRequest");
    params.push(Param::other("use_ssh", "ssh_only", Unit::AsIs, ""));
    params.push(Param::own("recommended", Unit::Truth, "Only those that their vendor recommends, or only the others. Default: any."));
    params.extend(parts());
    params
}

async fn list(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let mut given = asked.parameters("ListOffersRequest", &list_params());
    let part = Part::of(&mut given);
    let paged = |m| pb::ListOffersRequest { page_token: part.token.clone(), ..m };
    let mut query = given.checked(|m| requests::offers(&paged(m), &api.settings))?;
    api.services.templates.resolve(&mut query.filter).await?;
    let disk = query.filter.disk_gb;
    let mut page = pages_of(&api, query, &part).map_err(|e| given.named(e))?;
    let (total, count) = (page.total, page.offers.len());
    let offers = std::mem::take(&mut page.offers).iter().map(|o| offer(o, disk)).collect::<Result<Vec<_>, Error>>()?;
    let mut told = answers::offers(page, disk);
    for applied in &mut told.applied_defaults {
        *applied = applied.trim_start_matches("filter.").to_owned();
    }
    let mut answer = around("ListOffersResponse", &told, "offers", offers)?;
    part.tell(&mut answer, count, total);
    Ok(object(StatusCode::OK, answer))
}

/// An offer, priced with a disk of this size. That of an offer with the usual disk is made once, however many ask.
fn offer(offer: &Offer, disk: Option<u32>) -> Result<Json, Error> {
    let make = || answers::offer(offer, disk);
    if disk.is_some() { told("Offer", &make()) } else { kept("Offer", &offer.memo, make) }
}

/// As many pages as the part takes, all of one snapshot.
fn pages_of(api: &Api, mut query: OfferQuery, part: &Part) -> Result<OfferPage, Error> {
    let reach = part.reach();
    query.page_token.clone_from(&part.token);
    query.page_size = u32::try_from(reach.min(1000)).unwrap_or(1000);
    let mut page = api.services.inventory.list(&query)?;
    while page.offers.len() < reach && !page.next_page_token.is_empty() {
        query.page_token.clone_from(&page.next_page_token);
        let next = api.services.inventory.list(&query)?;
        page.offers.extend(next.offers);
        page.next_page_token = next.next_page_token;
    }
    if page.offers.len() > reach || part.offset > 0 {
        // A token leads on from a page's end, which is not where this part ends.
        page.next_page_token = String::new();
    }
    page.offers = part.cut(page.offers);
    Ok(page)
}

async fn explain(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let given = asked.parameters("ExplainOffersRequest", &filter_params("ExplainOffersRequest"));
    let mut filter = given.checked(|m| market::explain(&m, &api.settings))?;
    api.services.templates.resolve(&mut filter).await?;
    let explained = api.services.inventory.explain(&filter).map_err(|e| given.named(e))?;
    message("ExplainOffersResponse", &market::explained(explained))
}

async fn get(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let given = asked.parameters("GetOfferRequest", &one_params());
    let named = asked.segment("offer_id");
    let read = given.checked(|m| requests::offer(&pb::GetOfferRequest { offer_id: named.to_owned(), ..m }, &api.settings));
    let (id, disk) = read.map_err(|e| no_offer(e, named))?;
    let found = api.services.inventory.get(&id).map_err(|e| no_offer(e, named))?;
    Ok(json::answer(StatusCode::OK, &offer(&found, disk)?))
}

/// What is no id is the id of nothing: a path that leads nowhere.
fn no_offer(error: Error, id: &str) -> Error {
    if error.violations.iter().all(|v| v.field == "offer_id") && !error.violations.is_empty() {
        let why: Vec<&str> = error.violations.iter().map(|v| v.description.as_str()).collect();
        return Error::new(Code::NotFound, "OFFER_NOT_FOUND", format!("there is no such offer: {}", why.join("; "))).with("offer_id", id);
    }
    error
}

async fn compatible(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let mut given = asked.parameters("GetOfferRequest", &parts());
    let part = Part::of(&mut given);
    given.sound()?;
    let id = asked.segment("offer_id").to_owned();
    let (offer_id, _) = requests::offer(&pb::GetOfferRequest { offer_id: id.clone(), disk_gb: None }, &api.settings).map_err(|e| no_offer(e, &id))?;
    let offer = api.services.inventory.get(&offer_id).map_err(|e| no_offer(e, &id))?;
    let query = requests::templates(&pb::ListTemplatesRequest { offer_id: Some(id), ..Default::default() }, &api.settings)?;
    let found = api.services.templates.list(&query).await?;
    let total = found.len();
    let templates = part.cut(found).iter().map(|t| told("Template", &answers::template(t))).collect::<Result<Vec<_>, Error>>()?;
    let note = if total == 0 { "no template of this offer's provider can run on it; any image can be named at create" } else { "" };
    let mut answer = Map::new();
    part.tell(&mut answer, templates.len(), total);
    add(&mut answer, "compatible_templates", Json::List(templates));
    add(&mut answer, "offer_id", Json::text(offer.id.to_string()));
    add(&mut answer, "provider", Json::text(offer.provider.to_string()));
    add(&mut answer, "gpu_type", Json::text(offer.gpu.to_string()));
    add(&mut answer, "vram_gb", Json::whole(offer.gpu_memory_mib / 1024));
    add(&mut answer, "note", Json::text(note));
    Ok(object(StatusCode::OK, answer))
}

async fn gpu_models(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let mut given = asked.parameters("ListGpuModelsRequest", &parts());
    let part = Part::of(&mut given);
    given.sound()?;
    let pb::ListGpuModelsResponse { gpu_models, providers } = answers::gpu_models(&api.services.inventory.snapshot());
    listed("ListGpuModelsResponse", &part, gpu_models, |gpu_models| pb::ListGpuModelsResponse { gpu_models, providers })
}

async fn templates(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let mut given = asked.parameters("ListTemplatesRequest", &template_params());
    let part = Part::of(&mut given);
    let recommended = given.truth("recommended");
    let query = given.checked(|m| requests::templates(&m, &api.settings))?;
    let found = api.services.templates.list(&query).await.map_err(|e| given.named(e))?;
    let templates: Vec<pb::Template> =
        found.iter().filter(|t| recommended.is_none_or(|wanted| t.recommended == wanted)).map(|t| answers::template(t)).collect();
    listed("ListTemplatesResponse", &part, templates, |templates| pb::ListTemplatesResponse { templates })
}

async fn template(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    asked.parameters("GetTemplateRequest", &[]).sound()?;
    let hash = asked.segment("hash_id");
    let template = api.services.templates.get(hash).await.map_err(|error| match error.code {
        Code::InvalidArgument => Error::new(Code::NotFound, "TEMPLATE_NOT_FOUND", format!("there is no such template: {}", error.message)),
        _ => error,
    })?;
    message("Template", &answers::template(&template))
}
