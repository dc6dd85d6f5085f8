//! What an operator looks at and orders.

use super::Api;
use super::asked::{Asked, Given, Part};
use super::params::{Param, Unit, fields, parts};
use super::reply::{members, message, object};
use super::route::Route;
use super::shapes::{PAGE, Shape};
use crate::domain::ids::clip;
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
        Route::get("/api/v1/ops/providers", "OperatorService/ListProviders", providers).answers(200, Shape::Message("ListProvidersResponse")),
        Route::get("/api/v1/ops/unconfirmed-destroys", "OperatorService/ListUnconfirmedDestroys", unconfirmed)
            .answers(200, Shape::Message("ListUnconfirmedDestroysResponse")),
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
            .query(fields("ListStrayInstancesRequest"))
            .answers(200, Shape::Message("ListStrayInstancesResponse")),
        Route::get("/api/v1/ops/foreign", "OperatorService/ListForeignInstances", foreign)
            .query(fields("ListForeignInstancesRequest"))
            .answers(200, Shape::Message("ListForeignInstancesResponse")),
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
            .query(fields("GetHoldRequest"))
            .answers(200, Shape::Message("GetHoldResponse")),
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
        Route::get("/api/v1/ops/tokens", "OperatorService/ListTokens", list_tokens).answers(200, Shape::Message("ListTokensResponse")),
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
    params.extend(parts());
    params
}

fn hours() -> Param {
    Param::other("reservation_hours", "reservation", Unit::Hours, "`reservation` in hours.")
}

async fn offer_health(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let given = asked.parameters("ListOfferHealthRequest", &health_params())?;
    let part = Part::of(&given)?;
    let mut query = market::health_query(&given.message()?, &api.settings).map_err(|e| given.named(e))?;
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
    asked.parameters("ListProvidersRequest", &[])?;
    let providers = api.services.operator.providers().await?.into_iter().map(answers::provider).collect();
    message("ListProvidersResponse", &pb::ListProvidersResponse { providers })
}

async fn unconfirmed(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    asked.parameters("ListUnconfirmedDestroysRequest", &[])?;
    message("ListUnconfirmedDestroysResponse", &operations::unconfirmed(api.services.operator.unconfirmed_destroys().await?))
}

/// An order's body, which says everything but what the path says.
fn ordered(asked: &Asked, of: &'static str, hidden: &'static [&'static str], also: &[Param]) -> Result<Given, Error> {
    asked.beside(&[])?;
    asked.body(of, hidden, also)
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
    let given = ordered(&asked, "RetryDestroyRequest", &["label"], &[])?;
    given.message::<pb::RetryDestroyRequest>()?;
    let request = pb::RetryDestroyRequest { label: asked.segment("label").to_owned() };
    let done = order(&api, caller, operations::retry(&request).map_err(|e| no_machine(e, &request.label))?).await?;
    message("RetryDestroyResponse", &pb::RetryDestroyResponse { session: operations::concerned(&done, &api.settings) })
}

async fn settle(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let given = ordered(&asked, "SettleInstanceRequest", &["label"], &[])?;
    let request = pb::SettleInstanceRequest { label: asked.segment("label").to_owned(), ..given.message()? };
    let done = order(&api, caller, operations::settle(&request).map_err(|e| no_machine(given.named(e), &request.label))?).await?;
    message("SettleInstanceResponse", &pb::SettleInstanceResponse { session: operations::concerned(&done, &api.settings) })
}

async fn strays(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let given = asked.parameters("ListStrayInstancesRequest", &fields("ListStrayInstancesRequest"))?;
    let request: pb::ListStrayInstancesRequest = given.message()?;
    let provider = operations::provider(request.provider.as_deref(), &api.settings)?;
    let operator = &api.services.operator;
    message("ListStrayInstancesResponse", &operations::strays(&operator.strays(&operator.findings(), provider.as_ref())))
}

async fn foreign(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let given = asked.parameters("ListForeignInstancesRequest", &fields("ListForeignInstancesRequest"))?;
    let request: pb::ListForeignInstancesRequest = given.message()?;
    let provider = operations::provider(request.provider.as_deref(), &api.settings)?;
    let operator = &api.services.operator;
    message("ListForeignInstancesResponse", &operations::foreign(&operator.foreign(&operator.findings(), provider.as_ref())))
}

async fn adopt(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let given = ordered(&asked, "AdoptInstanceRequest", &[], &[hours()])?;
    let wanted = operations::adopt(&given.message()?, &api.settings).map_err(|e| given.named(e))?;
    let done = order(&api, caller, wanted).await?;
    message("AdoptInstanceResponse", &pb::AdoptInstanceResponse { session: operations::concerned(&done, &api.settings) })
}

async fn destroy(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let given = ordered(&asked, "DestroyInstanceRequest", &[], &[])?;
    let wanted = operations::destroy(&given.message()?, &api.settings).map_err(|e| given.named(e))?;
    let done = order(&api, caller, wanted).await?;
    message("DestroyInstanceResponse", &pb::DestroyInstanceResponse { session: operations::concerned(&done, &api.settings) })
}

async fn sweep(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let given = ordered(&asked, "SweepNowRequest", &[], &[])?;
    let request: pb::SweepNowRequest = given.message()?;
    let provider = operations::provider(request.provider.as_deref(), &api.settings)?;
    let operator = &api.services.operator;
    let swept = operator.sweep_now(provider.as_ref()).await?;
    let (strays, foreign) = (operator.strays(&swept.findings, None), operator.foreign(&swept.findings, None));
    message("SweepNowResponse", &operations::swept(&swept, &strays, &foreign))
}

async fn holds(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let given = asked.parameters("GetHoldRequest", &fields("GetHoldRequest"))?;
    let request: pb::GetHoldRequest = given.message()?;
    let provider = operations::provider(request.provider.as_deref(), &api.settings)?;
    let operator = &api.services.operator;
    message("GetHoldResponse", &operations::holds(operator.findings(), provider.as_ref(), operator.clock().now()))
}

async fn hold(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let given = ordered(&asked, "SetHoldRequest", &[], &[])?;
    let now = api.services.operator.clock().now();
    let wanted = operations::hold(&given.message()?, &api.settings, now).map_err(|e| given.named(e))?;
    message("SetHoldResponse", &operations::held(&order(&api, caller, wanted).await?))
}

async fn accept(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let given = ordered(&asked, "AcceptDatabaseRequest", &[], &[])?;
    given.message::<pb::AcceptDatabaseRequest>()?;
    order(&api, caller, Order::Accept).await?;
    message("AcceptDatabaseResponse", &pb::AcceptDatabaseResponse {})
}

async fn audit(api: Api, _: Caller, asked: Asked) -> Result<Response, Error> {
    let part = Part::of(&asked.parameters("ListAuditEntriesRequest", &parts())?)?;
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
    asked.parameters("ListTokensRequest", &[])?;
    message("ListTokensResponse", &tokens::listed(&api.services.access.list().await?))
}

async fn create_token(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let given = ordered(&asked, "CreateTokenRequest", &[], &[])?;
    let wanted = tokens::create(&given.message()?).map_err(|e| given.named(e))?;
    let (token, text) = api.services.access.create(&caller, wanted).await.map_err(|e| given.named(e))?;
    Ok(object(StatusCode::CREATED, members("CreateTokenResponse", &tokens::created(&token, &text))?))
}

async fn revoke_token(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    asked.parameters("RevokeTokenRequest", &[])?;
    let request = pb::RevokeTokenRequest { name: asked.segment("name").to_owned() };
    // What is no name is the name of nothing.
    let unknown = |_| Error::new(Code::NotFound, "TOKEN_NOT_FOUND", format!("there is no token `{}`", clip(&request.name, 64)));
    let name = tokens::revoke(&request).map_err(unknown)?;
    message("RevokeTokenResponse", &tokens::revoked(&api.services.access.revoke(&caller, &name).await?))
}

async fn drain(api: Api, caller: Caller, asked: Asked) -> Result<Response, Error> {
    let given = ordered(&asked, "DrainSessionsRequest", &[], &[])?;
    let request: pb::DrainSessionsRequest = given.message()?;
    // Without authentication it is an operator all the same who asks this of everybody's sessions.
    let principal = if caller.principal.is_empty() { "operator".to_owned() } else { caller.principal.clone() };
    let drained = api.services.drain.end_all(&Caller { principal, ..caller }, request.validate_only).await?;
    message("DrainSessionsResponse", &answers::drained(&drained, &api.settings))
}
