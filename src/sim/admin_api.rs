//! The simulation's own paths, beside the vendors': the truth about every machine, faults, and mishaps on demand.
//! They need no key: a simulated market has nothing to protect.

use crate::sim::market::Market;
use crate::sim::{Dialect, Workload};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::sync::Arc;

type Shared = State<Arc<Market>>;

/// `/health` and `/_sim/…`; planted machines come to the first account of `dialect`.
pub(super) fn admin_routes(dialect: Dialect) -> Router<Arc<Market>> {
    let orphan = move |market: Shared, body: Bytes| async move { plant(&market.0, dialect, &body) };
    Router::new()
        .route("/health", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/_sim/truth", get(|State(market): Shared| async move { Json(json!({"machines": market.truth()})) }))
        .route("/_sim/faults", get(faults).post(set_faults))
        .route("/_sim/orphan", post(orphan))
        .route("/_sim/vanish/{id}", post(|State(market): Shared, Path(id): Path<String>| async move { done(market.vanish(&id)) }))
        .route("/_sim/workload/{id}/{word}", post(set_workload))
        .route("/_sim/preempt/{id}", post(|State(market): Shared, Path(id): Path<String>| async move { done(market.preempt(&id)) }))
        .route("/_sim/offline/{id}", post(|State(market): Shared, Path(id): Path<String>| async move { done(market.set_offline(&id, true)) }))
        .route("/_sim/online/{id}", post(|State(market): Shared, Path(id): Path<String>| async move { done(market.set_offline(&id, false)) }))
}

fn done(found: bool) -> Response {
    if found { Json(json!({"ok": true})).into_response() } else { wrong(StatusCode::NOT_FOUND, "no such machine") }
}

/// What its user does with a machine, by [`Workload::word`].
async fn set_workload(State(market): Shared, Path((id, word)): Path<(String, String)>) -> Response {
    match Workload::ALL.into_iter().find(|workload| workload.word() == word) {
        Some(workload) => done(market.set_workload(&id, workload)),
        None => wrong(StatusCode::BAD_REQUEST, &format!("no such workload; allowed: {}", Workload::ALL.map(Workload::word).join(", "))),
    }
}

fn wrong(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({"error": text}))).into_response()
}

fn plant(market: &Market, dialect: Dialect, body: &[u8]) -> Response {
    let body: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let label = body.get("label").and_then(Value::as_str).unwrap_or_default();
    let Some(account) = market.first_account(dialect) else { return wrong(StatusCode::CONFLICT, "no account") };
    match market.plant(account, label) {
        Some(id) => Json(json!({"ok": true, "native_id": id})).into_response(),
        None => wrong(StatusCode::CONFLICT, "nothing is free"),
    }
}

async fn faults(State(market): Shared) -> Response {
    let now = market.faults();
    let names: Map<String, Value> = crate::sim::Faults::names().into_iter().map(|(name, doc)| (name.to_owned(), json!(doc))).collect();
    let set = |dialect: Dialect| {
        let profile = now.of(dialect);
        let rates = crate::sim::Fault::ALL.iter().filter(|fault| profile.rate(**fault) > 0).map(|fault| (fault.word(), profile.rate(*fault)));
        rates.map(|(name, ppm)| (name.to_owned(), json!(ppm))).collect::<Map<String, Value>>()
    };
    Json(json!({"names": names, "set_ppm": {"vastai": set(Dialect::Vastai), "tensordock": set(Dialect::Tensordock)}})).into_response()
}

/// `{"stale_ask": 0.35, "tensordock.boot": "10s", "preset": "field"}`: a preset first, then each by name.
async fn set_faults(State(market): Shared, body: Bytes) -> Response {
    let Ok(body) = serde_json::from_slice::<Map<String, Value>>(&body) else { return wrong(StatusCode::BAD_REQUEST, "not a JSON object") };
    let mut faults = market.faults();
    if let Some(preset) = body.get("preset").and_then(Value::as_str) {
        match crate::sim::Faults::preset(preset) {
            Ok(preset) => faults = preset,
            Err(error) => return wrong(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }
    for (name, value) in body.iter().filter(|(name, _)| *name != "preset") {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if let Err(error) = faults.set(name, &value) {
            return wrong(StatusCode::BAD_REQUEST, &error.to_string());
        }
    }
    market.set_faults(faults);
    Json(json!({"ok": true})).into_response()
}
