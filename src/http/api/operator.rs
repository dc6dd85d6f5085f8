//! What an operator looks at and orders.

use super::Api;
use super::asked::{Asked, Part};
use super::params::{Param, Unit, fields, parts};
use super::reply::{listed, members, message, object};
use super::route::Route;
use super::shapes::{PAGE, Shape};
use crate::domain::ids::{ProviderId, clip};
use crate::grpc::convert::{answers, market, operations, tokens};
use crate::grpc::pb;
use crate::services::api::{AuditPage, Caller, HealthPage};
use crate::services::lifecycle::{Done, Order};
use crate::services::{Code, Error};
use axum::response::Response;
use http::StatusCode;

pub(super) fn routes() -> Vec<Route> {
    const ORDER: &[u16] = &[404, 409, 413, 415];
    vec![
        Route::get("/api/v1/offer-health", "OperatorService/ListOfferHealth", offer_health)
            .query(health_params())
            .answers(200, Shape::With("ListOfferHealthResponse", PAGE)),
        Route::get("/api/v1/ops/providers", "OperatorService/ListProviders", providers)
            .query(parts())
            .answers(200, Shape::With("ListProvidersResponse", PAGE)),
        Route::get("/api/v1/ops/unconfirmed-destroys", "OperatorService/ListUnconfirmedDestroys", unconfirmed)
            .query(parts())
            .answers(200, Shape::With("ListUnconfirmedDestroysResponse", PAGE)),
        Route::post("/api/v1/ops/unconfirmed-destroys/{label}/retry", "OperatorService/RetryDestroy", retry)
            .body("RetryDestroyRequest", false, Vec::new())
            .answers(200, Shape::Message("RetryDestroyResponse"))
            .refuses(ORDER),
        Route::post("/api/v1/ops/unconfirmed-destroys/{label}/settle", "OperatorService/SettleInstance", settle)
            .body("SettleInstanceRequest", true, Vec::new())
            .example(r#"{"reason": "not in the vendor's console any more"}"#)
            .answers(200, Shape::Message("SettleInstanceResponse"))
            .refuses(ORDER),
        Route::get("/api/v1/ops/strays", "OperatorService/ListStrayInstances", strays)
            .query(list_params("ListStrayInstancesRequest"))
            .answers(200, Shape::With("ListStrayInstancesResponse", PAGE)),
        Route::get("/api/v1/ops/foreign", "OperatorService/ListForeignInstances", foreign)
            .query(list_params("ListForeignInstancesRequest"))
            .answers(200, Shape::With("ListForeignInstancesResponse", PAGE)),
        Route::post("/api/v1/ops/instances/adopt", "OperatorService/AdoptInstance", adopt)
            .body("AdoptInstanceRequest", true, vec![hours()])
            .answers(200, Shape::Message("AdoptInstanceResponse"))
            .refuses(ORDER),
        Route::post("/api/v1/ops/instances/destroy", "OperatorService/DestroyInstance", destroy)
            .body("DestroyInstanceRequest", true, Vec::new())
            .answers(200, Shape::Message("DestroyInstanceResponse"))
            .refuses(ORDER),
        Route::post("/api/v1/ops/sweep", "OperatorService/SweepNow", sweep)
            .body("SweepNowRequest", false, Vec::new())
            .answers(200, Shape::Message("SweepNowResponse"))
            .refuses(&[413, 415]),
        Route::get("/api/v1/ops/holds", "OperatorService/GetHold", holds)
            .query(list_params("GetHoldRequest"))
            .answers(200, Shape::With("GetHoldResponse", PAGE)),
        Route::post("/api/v1/ops/holds", "OperatorService/SetHold", hold)
            .body("SetHoldRequest", true, Vec::new())
            .answers(200, Shape::Message("SetHoldResponse"))
            .refuses(ORDER),
        Route::post("/api/v1/ops/accept-database", "OperatorService/AcceptDatabase", accept)
            .body("AcceptDatabaseRequest", false, Vec::new())
            .answers(200, Shape::Message("AcceptDatabaseResponse"))
            .refuses(&[409, 413, 415]),
        Route::get("/api/v1/ops/audit", "OperatorService/ListAuditEntries", audit)
            .query(parts())
            .answers(200, Shape::With("ListAuditEntriesResponse", PAGE)),
        Route::get("/api/v1/ops/tokens", "OperatorService/ListTokens", list_tokens)
            .query(parts())
            .answers(200, Shape::With("ListTokensResponse", PAGE)),
        Route::post("/api/v1/ops/tokens", "OperatorService/CreateToken", create_token)
            .body("CreateTokenRequest", true, Vec::new())
            .answers(201, Shape::Message("CreateTokenResponse"))
            .refuses(&[409, 413, 415]),
        Route::delete("/api/v1/ops/tokens/{name}", "OperatorService/RevokeToken", revoke_token)
            .answers(200, Shape::Message("RevokeTokenResponse"))
            .refuses(&[409, 415]),
        Route::post("/api/v1/ops/drain", "OperatorService/DrainSessions", drain)
            .body("DrainSessionsRequest", false, Vec::new())
            .answers(200, Shape::Message("DrainSessionsResponse"))
            .refuses(&[409, 413, 415]),
    ]
}

fn health_params() -> Vec<Param> {
    let mut params = fields("ListOfferHealthRequest");
    params.push(Param::other("gpu_type", "gpu_models", Unit::AsIs, ""));
    params.push(Param::other("gpu_types", "gpu_models", Unit::AsIs, ""));
    params.extend(parts());
    params
}

/// A list's own parameters, and which part of it.
fn list_params(of: &str) -> Vec<Param> {
    let mut params = fields(of);
    params.extend(parts());
    params
}

/// Which part of a list that takes no other parameters.
fn part_of(asked: &Asked, of: &'static str) -> Result<Part, Error> {
    let mut given = asked.parameters(of, &parts());
    let part = Part::of(&mut given);
    given.sound()?;
    Ok(part)
}

/// Which part of a list, at which provider.
fn part_at<M: prost::Message + Default>(
    api: &Api,
    asked: &Asked,
    of: &'static str,
    at: fn(&M) -> Option<&str>,
) -> Result<(Part, Option<ProviderId>), Error> {
    let mut given = asked.parameters(of, &list_params(of));
    let part = Part::of(&mut given);
    let provider = given.checked(|m: M| operations::provider(at(&m), &api.settings))?;
    Ok((part, provider))
}

fn hours() -> Param {
    Param::other("reservation_hours", "reservation", Unit::Hours, "`reservation` in hours.")
}

async fn offer_health(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let mut given = asked.parameters("ListOfferHealthRequest", &health_params());
    let part = Part::of(&mut given);
    let mut query = given.checked(|m| market::health_query(&m, &api.settings))?;
    query.page_size = 1000;
    let mut whole: Option<HealthPage> = None;
    loop {
        let page = api.services.operator.offer_health(&query).await?;
        query.page_token.clone_from(&page.next_page_token);
        let all = match whole.take() {
            None => page,
            Some(mut all) => {
                all.entries.extend(page.entries);
                all
            }
        };
        let done = query.page_token.is_empty();
        whole = Some(all);
        if done {
            break;
        }
    }
    let Some(mut page) = whole else { return Err(Error::internal("reading the failure memory")) };
    page.next_page_token = String::new();
    page.entries = part.cut(page.entries);
    let (count, total) = (page.entries.len(), page.total);
    let mut answer = members("ListOfferHealthResponse", &market::health(page))?;
    part.tell(&mut answer, count, total);
    Ok(object(StatusCode::OK, answer))
}

async fn providers(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let part = part_of(&asked, "ListProvidersRequest")?;
    let providers = api.services.operator.providers().await?.into_iter().map(answers::provider).collect();
    listed("ListProvidersResponse", &part, providers, |providers| pb::ListProvidersResponse { providers })
}

async fn unconfirmed(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let part = part_of(&asked, "ListUnconfirmedDestroysRequest")?;
    // The sums are of the whole list, whatever part of it is told.
    let mut told = operations::unconfirmed(api.services.operator.unconfirmed_destroys().await?);
    let all = std::mem::take(&mut told.destroys);
    listed("ListUnconfirmedDestroysResponse", &part, all, |destroys| pb::ListUnconfirmedDestroysResponse { destroys, ..told })
}

async fn order(api: &Api, caller: Caller, order: Order) -> Result<Done, Error> {
    api.services.operator.order(caller, order).await
}

/// What is no label is the label of nothing: a path that leads nowhere.
fn no_machine(error: Error, label: &str) -> Error {
    if error.violations.iter().any(|v| v.field == "label") {
        let text = format!("there is no machine labelled `{}` that should be gone", clip(label, 64));
        return Error::new(Code::NotFound, "INSTANCE_NOT_FOUND", text);
    }
    error
}

async fn retry(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let label = asked.segment("label").to_owned();
    let given = asked.body("RetryDestroyRequest", &["label"], &[], &[]);
    let wanted = given.checked(|_: pb::RetryDestroyRequest| operations::retry(&pb::RetryDestroyRequest { label: label.clone() }));
    let done = order(&api, caller, wanted.map_err(|e| no_machine(e, &label))?).await?;
    message("RetryDestroyResponse", &pb::RetryDestroyResponse { session: operations::concerned(&done, &api.settings) })
}

async fn settle(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let label = asked.segment("label").to_owned();
    let given = asked.body("SettleInstanceRequest", &["label"], &[], &[]);
    let wanted = given.checked(|m| operations::settle(&pb::SettleInstanceRequest { label: label.clone(), ..m }));
    let done = order(&api, caller, wanted.map_err(|e| no_machine(e, &label))?).await?;
    message("SettleInstanceResponse", &pb::SettleInstanceResponse { session: operations::concerned(&done, &api.settings) })
}

async fn strays(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let (part, provider) = part_at::<pb::ListStrayInstancesRequest>(&api, &asked, "ListStrayInstancesRequest", |m| m.provider.as_deref())?;
    let operator = &api.services.operator;
    let mut told = operations::strays(&operator.strays(&operator.findings(), provider.as_ref()));
    let all = std::mem::take(&mut told.instances);
    listed("ListStrayInstancesResponse", &part, all, |instances| pb::ListStrayInstancesResponse { instances, ..told })
}

async fn foreign(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let (part, provider) = part_at::<pb::ListForeignInstancesRequest>(&api, &asked, "ListForeignInstancesRequest", |m| m.provider.as_deref())?;
    let operator = &api.services.operator;
    let mut told = operations::foreign(&operator.foreign(&operator.findings(), provider.as_ref()));
    let all = std::mem::take(&mut told.instances);
    listed("ListForeignInstancesResponse", &part, all, |instances| pb::ListForeignInstancesResponse { instances, ..told })
}

async fn adopt(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let given = asked.body("AdoptInstanceRequest", &[], &[hours()], &[]);
    let wanted = given.checked(|m| operations::adopt(&m, &api.settings))?;
    let done = order(&api, caller, wanted).await?;
    message("AdoptInstanceResponse", &pb::AdoptInstanceResponse { session: operations::concerned(&done, &api.settings) })
}

async fn destroy(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let given = asked.body("DestroyInstanceRequest", &[], &[], &[]);
    let wanted = given.checked(|m| operations::destroy(&m, &api.settings))?;
    let done = order(&api, caller, wanted).await?;
    message("DestroyInstanceResponse", &pb::DestroyInstanceResponse { session: operations::concerned(&done, &api.settings) })
}

async fn sweep(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let given = asked.body("SweepNowRequest", &[], &[], &[]);
    let provider = given.checked(|m: pb::SweepNowRequest| operations::provider(m.provider.as_deref(), &api.settings))?;
    let operator = &api.services.operator;
    let swept = operator.sweep_now(provider.as_ref()).await?;
    let (strays, foreign) = (operator.strays(&swept.findings, None), operator.foreign(&swept.findings, None));
    message("SweepNowResponse", &operations::swept(&swept, &strays, &foreign))
}

async fn holds(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let (part, provider) = part_at::<pb::GetHoldRequest>(&api, &asked, "GetHoldRequest", |m| m.provider.as_deref())?;
    let operator = &api.services.operator;
    let mut told = operations::holds(operator.findings(), provider.as_ref(), operator.clock().now());
    let holds = std::mem::take(&mut told.holds);
    listed("GetHoldResponse", &part, holds, |holds| pb::GetHoldResponse { holds, ..told })
}

async fn hold(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let given = asked.body("SetHoldRequest", &[], &[], &[]);
    let now = api.services.operator.clock().now();
    let wanted = given.checked(|m| operations::hold(&m, &api.settings, now))?;
    message("SetHoldResponse", &operations::held(&order(&api, caller, wanted).await?))
}

async fn accept(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    asked.body("AcceptDatabaseRequest", &[], &[], &[]).checked(|_: pb::AcceptDatabaseRequest| Ok(()))?;
    order(&api, caller, Order::Accept).await?;
    message("AcceptDatabaseResponse", &pb::AcceptDatabaseResponse {})
}

async fn audit(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let part = part_of(&asked, "ListAuditEntriesRequest")?;
    let (mut entries, mut next) = (Vec::new(), String::new());
    loop {
        let page = api.services.operator.audit_page(1000, &next).await?;
        entries.extend(page.entries);
        next = page.next_page_token;
        if next.is_empty() {
            break;
        }
    }
    let total = entries.len();
    let page = AuditPage { entries: part.cut(entries), next_page_token: next };
    let count = page.entries.len();
    let mut answer = members("ListAuditEntriesResponse", &operations::audit(page))?;
    part.tell(&mut answer, count, total);
    Ok(object(StatusCode::OK, answer))
}

async fn list_tokens(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let part = part_of(&asked, "ListTokensRequest")?;
    listed("ListTokensResponse", &part, api.services.access.list().await?, |found| tokens::listed(&found))
}

async fn create_token(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let given = asked.body("CreateTokenRequest", &[], &[], &[]);
    let wanted = given.checked(|m| tokens::create(&m))?;
    let (token, text) = api.services.access.create(&caller, wanted).await.map_err(|e| given.named(e))?;
    Ok(object(StatusCode::CREATED, members("CreateTokenResponse", &tokens::created(&token, &text))?))
}

async fn revoke_token(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    asked.parameters("RevokeTokenRequest", &[]).sound()?;
    let request = pb::RevokeTokenRequest { name: asked.segment("name").to_owned() };
    // What is no name is the name of nothing.
    let unknown = |_| Error::new(Code::NotFound, "TOKEN_NOT_FOUND", format!("there is no token `{}`", clip(&request.name, 64)));
    let name = tokens::revoke(&request).map_err(unknown)?;
    message("RevokeTokenResponse", &tokens::revoked(&api.services.access.revoke(&caller, &name).await?))
}

async fn drain(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let request: pb::DrainSessionsRequest = asked.body("DrainSessionsRequest", &[], &[], &[]).checked(Ok)?;
    // Without authentication it is an operator all the same who asks this of everybody's sessions.
    let principal = if caller.principal.is_empty() { "operator".to_owned() } else { caller.principal.clone() };
    let drained = api.services.drain.end_all(&Caller { principal, ..caller }, request.validate_only).await?;
    message("DrainSessionsResponse", &answers::drained(&drained, &api.settings))
}
