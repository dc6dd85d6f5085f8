//! The market in Vast.ai's HTTP dialect: paths, bodies, paging, error shapes and habits as the vendor's.

use crate::sim::admin_api::admin_routes;
use crate::sim::keys::{key_blob, keys_in};
use crate::sim::market::{AccountId, Credentials, Market};
use crate::sim::vastai_rows::{ask_row, instance_row};
use crate::sim::vastai_search::{Search, conditions, holds};
use crate::sim::wire::{Reply, bearer, number};
use crate::sim::{Dialect, Order, Pick, Refusal};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::routing::{MethodRouter, get, post, put};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

type Answer = Result<Reply, Reply>;
type Params = Query<BTreeMap<String, String>>;
type Shared = State<Arc<Market>>;

/// Instances in a page of the newer list, at most.
const PAGE: usize = 25;
/// Characters of a label, at most.
const LABEL: usize = 1024;

/// Every path that Vast.ai has for us, each with and without the trailing slash, and the simulation's own.
pub fn vastai_router(market: Arc<Market>) -> Router {
    let routes: [(&str, MethodRouter<Arc<Market>>); 9] = [
        ("/api/v0/template", get(templates)),
        ("/api/v0/bundles", get(search_get).post(search_post)),
        ("/api/v0/search/asks", put(search_post)),
        ("/api/v0/asks/{id}", put(create)),
        ("/api/v0/instances", get(list_old)),
        ("/api/v1/instances", get(list_paged)),
        ("/api/v0/instances/{id}", get(show).put(manage).delete(destroy)),
        ("/api/v0/instances/{id}/ssh", post(attach)),
        ("/api/v0/users/current", get(user)),
    ];
    let mut router = admin_routes(Dialect::Vastai);
    for (path, methods) in routes {
        router = router.route(path, methods.clone()).route(&format!("{path}/"), methods);
    }
    router.with_state(market)
}

fn fault(status: u16, error: &str, msg: impl Into<String>) -> Reply {
    Reply::Json(status, json!({"success": false, "error": error, "msg": msg.into()}))
}

/// A refusal in the vendor's words; `id` is what was asked for.
fn refused(refusal: &Refusal, id: &str) -> Reply {
    match refusal {
        Refusal::Auth => fault(401, "auth_error", "Invalid user key"),
        Refusal::Throttled(threshold) => Reply::Text(429, "text/plain", format!("API requests too frequent: endpoint threshold={threshold}")),
        Refusal::ServerError => {
            let page = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>";
            Reply::Text(502, "text/html", page.to_owned())
        }
        Refusal::Credit => Reply::Json(400, json!({"error": "insufficient_credit", "msg": "Your account lacks credit; see the billing page."})),
        Refusal::NoSuchAsk | Refusal::NoNodes | Refusal::NoPublicIp | Refusal::UnknownPlace | Refusal::UnknownGpu => {
            let msg = format!("error 404/3603: no_such_ask  Instance type by id {id} is not available.");
            Reply::Json(400, json!({"success": false, "error": "invalid_args", "msg": msg, "ask_id": id.parse::<u64>().ok()}))
        }
        Refusal::BidTooLow(native_id) => {
            let msg = "error 400/3466: bid price is below the minimum";
            Reply::Json(400, json!({"success": false, "error": "invalid_price", "msg": msg, "new_contract": native_id.parse::<u64>().ok()}))
        }
        Refusal::NotFound => fault(404, "no_such_instance", format!("Instance {id} not found.")),
        Refusal::ResourcesUnavailable => fault(200, "resources_unavailable", "Required resources are currently unavailable, state change queued."),
        Refusal::NotReady(_) => fault(400, "invalid_state", "Instance is not ready for deletion"),
    }
}

/// The account of the Bearer key.
fn account(market: &Market, headers: &HeaderMap) -> Result<AccountId, Reply> {
    let key = bearer(headers).ok_or_else(|| fault(401, "auth_error", "This action requires login."))?;
    market.account_of(&Credentials::Key(key)).ok_or_else(|| refused(&Refusal::Auth, ""))
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Reply> {
    serde_json::from_slice(body).map_err(|_| Reply::Json(400, json!({"error": "invalid_request", "msg": "Invalid json body"})))
}

async fn search_get(State(market): Shared, headers: HeaderMap, Query(params): Params) -> Answer {
    let query = match params.get("q") {
        Some(text) => object(text.as_bytes())?,
        None => Map::new(),
    };
    search(&market, &headers, &query).await
}

async fn search_post(State(market): Shared, headers: HeaderMap, body: Bytes) -> Answer {
    let body = if body.is_empty() { Map::new() } else { object(&body)? };
    let query = body.get("q").and_then(Value::as_object).unwrap_or(&body);
    search(&market, &headers, query).await
}

async fn search(market: &Market, headers: &HeaderMap, query: &Map<String, Value>) -> Answer {
    // No key is needed to look around; a wrong one is refused all the same.
    let account = if headers.contains_key(header::AUTHORIZATION) { Some(account(market, headers)?) } else { None };
    let (asks, wait) = market.asks(account).map_err(|refusal| refused(&refusal, ""))?;
    let (begun, now) = (market.begun(), market.clock().now());
    let known = asks.first().map(|(id, listing)| ask_row(*id, listing, false, 8, begun, now)).unwrap_or_default();
    let search = match Search::parse(query, &known) {
        Ok(search) => search,
        Err(_) if asks.is_empty() => Search::default(),
        Err(msg) => return Err(Reply::Json(400, json!({"error": "invalid_request", "msg": msg}))),
    };
    let rows = asks.iter().map(|(id, listing)| ask_row(*id, listing, search.bid, search.allocated_gb, begun, now)).collect();
    let mut rows = search.run(rows);
    market.pause(wait).await;
    if market.draws_nan() {
        rows.iter_mut().step_by(7).for_each(|row| drop(row.insert("dlperf".to_owned(), json!("@NaN@"))));
        let text = json!({"offers": rows}).to_string().replace("\"@NaN@\"", "NaN");
        return Ok(Reply::Text(200, "application/json", text));
    }
    Ok(Reply::Json(200, json!({"offers": rows})))
}

async fn create(State(market): Shared, headers: HeaderMap, Path(id): Path<String>, body: Bytes) -> Answer {
    let account = account(&market, &headers)?;
    let body = object(&body)?;
    let invalid = |msg: &str| Reply::Json(400, json!({"success": false, "error": "invalid_args", "msg": msg, "ask_id": id.parse::<u64>().ok()}));
    let ask: u64 = id.parse().map_err(|_| invalid("error 400/3467: Invalid args: 'id' is required and must be a valid offer ID"))?;
    let order = order(&body).map_err(invalid)?;
    if order.label.chars().count() > LABEL {
        return Err(fault(400, "label_too_long", "Please limit label length to 1024 characters, ideally less than 128."));
    }
    let created = market.create(account, &Pick::Ask(ask), order);
    if created.lost {
        return Ok(Reply::Cut);
    }
    market.pause(created.wait).await;
    let native_id = created.result.map_err(|refusal| refused(&refusal, &id))?;
    let scoped_key: String = market.secret(&native_id, "scoped key").iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Reply::Json(200, json!({"success": true, "new_contract": native_id.parse::<u64>().ok(), "instance_api_key": scoped_key})))
}

/// An order from the body of a create.
fn order(body: &Map<String, Value>) -> Result<Order, &'static str> {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let image = text("image");
    if image.is_empty() && text("template_hash_id").is_empty() {
        return Err("error 400/3468: Invalid args: 'image' or 'template_hash_id' is required");
    }
    let disk = body.get("disk").map_or(Some(10.0), Value::as_f64).filter(|gb| (8.0..1e6).contains(gb));
    let disk = disk.ok_or("error 400/3469: Invalid args: 'disk' must be at least 8")?;
    let bid = match body.get("price") {
        None | Some(Value::Null) => None,
        Some(price) => Some(crate::domain::money::Rate::parse(&price.to_string()).ok_or("error 400/3470: Invalid args: 'price'")?),
    };
    let mut order = Order { label: text("label"), image, disk_gb: disk.ceil() as u32, bid, runtype: text("runtype"), ..Order::default() };
    if let Some(Value::Object(env)) = body.get("env") {
        for (name, value) in env {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // Ports are environment here: `"-p 8000:8000": "1"`.
            let inside = name.strip_prefix("-p ").and_then(|ports| ports.rsplit(':').next()).and_then(|port| port.trim().parse::<u16>().ok());
            order.ports.extend(inside.filter(|port| *port != 22));
            order.env.insert(name.clone(), value);
        }
    }
    order.keys = keys_in(&text("onstart"));
    Ok(order)
}

async fn list_old(State(market): Shared, headers: HeaderMap) -> Answer {
    let account = account(&market, &headers)?;
    let list = market.list(account).map_err(|refusal| refused(&refusal, ""))?;
    market.pause(list.wait).await;
    let (begun, now) = (market.begun(), market.clock().now());
    let rows: Vec<_> = list.rows.iter().map(|shown| instance_row(shown, begun, now)).collect();
    Ok(Reply::Json(200, json!({"success": true, "instances": rows})))
}

async fn list_paged(State(market): Shared, headers: HeaderMap, Query(params): Params) -> Answer {
    let account = account(&market, &headers)?;
    let invalid = |msg: String| Reply::Json(400, json!({"error": "invalid_request", "msg": msg}));
    let filters = select_filters(params.get("select_filters").map_or("{}", String::as_str)).map_err(invalid)?;
    let limit = match params.get("limit") {
        Some(text) => text.parse::<usize>().map_err(|_| invalid("limit must be a number".to_owned()))?.clamp(1, PAGE),
        None => PAGE,
    };
    let after = match params.get("after_token").filter(|token| !token.is_empty()) {
        Some(token) => token_id(token).ok_or_else(|| invalid("after_token is not valid".to_owned()))?,
        None => 0,
    };
    let list = market.list(account).map_err(|refusal| refused(&refusal, ""))?;
    market.pause(list.wait).await;
    let (begun, now) = (market.begun(), market.clock().now());
    let rows: Vec<Map<String, Value>> = list.rows.iter().map(|shown| instance_row(shown, begun, now)).collect();
    let hidden = list.total - rows.len();
    let matches =
        |row: &Map<String, Value>| filters.iter().all(|(field, op, wanted)| holds(row.get(field).unwrap_or(&Value::Null), op, wanted, field));
    let found: Vec<Map<String, Value>> = rows.into_iter().filter(matches).collect();
    let mut labels: BTreeMap<String, usize> = BTreeMap::new();
    found.iter().for_each(|row| *labels.entry(row["label"].as_str().unwrap_or_default().to_owned()).or_default() += 1);
    let count = found.len() + hidden;
    let id = |row: &Map<String, Value>| row["id"].as_u64().unwrap_or(0);
    let mut rest: Vec<Map<String, Value>> = found.into_iter().filter(|row| id(row) > after).collect();
    let more = rest.len() > limit;
    rest.truncate(limit);
    let next = rest.last().filter(|_| more).map(|row| STANDARD.encode(json!({"values": {"id": id(row)}}).to_string()));
    Ok(Reply::Json(
        200,
        json!({
            "success": true, "instances_found": count, "total_instances": list.total, "label_counts": labels, "next_token": next, "instances": rest,
        }),
    ))
}

/// Only stored fields can be filtered by, not computed ones.
fn select_filters(text: &str) -> Result<Vec<(String, String, Value)>, String> {
    let query: Map<String, Value> = serde_json::from_str(text).map_err(|_| "Invalid json in select_filters".to_owned())?;
    let mut filters = Vec::new();
    for (field, value) in &query {
        if !["label", "id", "machine_id", "actual_status", "intended_status", "cur_state", "gpu_name", "image_uuid"].contains(&field.as_str()) {
            return Err(format!("Error in query parameters: {field} is not a valid search key"));
        }
        filters.extend(conditions(field, value)?);
    }
    Ok(filters)
}

fn token_id(token: &str) -> Option<u64> {
    let value: Value = serde_json::from_slice(&STANDARD.decode(token).ok()?).ok()?;
    value["values"]["id"].as_u64()
}

async fn show(State(market): Shared, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    let account = account(&market, &headers)?;
    checked(&id)?;
    let (shown, wait) = market.get(account, &id).map_err(|refusal| refused(&refusal, &id))?;
    market.pause(wait).await;
    let row = shown.map(|shown| instance_row(&shown, market.begun(), market.clock().now()));
    Ok(Reply::Json(200, json!({"instances": row})))
}

fn checked(id: &str) -> Result<u64, Reply> {
    id.parse().map_err(|_| fault(400, "invalid_args", "invalid instance_id"))
}

async fn manage(State(market): Shared, headers: HeaderMap, Path(id): Path<String>, body: Bytes) -> Answer {
    let account = account(&market, &headers)?;
    checked(&id)?;
    let body = object(&body)?;
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    let (done, said) = match (text("state"), text("label")) {
        (Some("running"), None) => (market.start(account, &id), json!({"success": true})),
        (Some("stopped"), None) => (market.stop(account, &id), json!({"success": true})),
        (None, Some(label)) if label.chars().count() > LABEL => {
            return Err(fault(400, "label_too_long", "Please limit label length to 1024 characters, ideally less than 128."));
        }
        (None, Some(label)) => (market.label(account, &id, label), json!({"success": true, "msg": format!("label for {id} set to '{label}'")})),
        _ => return Err(fault(400, "invalid_args", "exactly one of 'state' (running, stopped) and 'label' is required")),
    };
    market.pause(done.map_err(|refusal| refused(&refusal, &id))?).await;
    Ok(Reply::Json(200, said))
}

async fn attach(State(market): Shared, headers: HeaderMap, Path(id): Path<String>, body: Bytes) -> Answer {
    let account = account(&market, &headers)?;
    checked(&id)?;
    let body = object(&body)?;
    let key = body.get("ssh_key").and_then(Value::as_str).unwrap_or_default();
    if key_blob(key).is_none() {
        return Err(fault(400, "invalid_args", "'ssh_key' must be an OpenSSH public key"));
    }
    market.pause(market.attach_key(account, &id, key).map_err(|refusal| refused(&refusal, &id))?).await;
    Ok(Reply::Json(200, json!({"success": true, "msg": "SSH key attached successfully"})))
}

async fn destroy(State(market): Shared, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    let account = account(&market, &headers)?;
    checked(&id)?;
    match market.destroy(account, &id) {
        Ok(wait) => market.pause(wait).await,
        Err(Refusal::NotFound) => return Err(fault(404, "not_found", "Instance not found")),
        Err(refusal) => return Err(refused(&refusal, &id)),
    }
    Ok(Reply::Json(200, json!({"success": true, "msg": "Instance destroyed successfully"})))
}

async fn templates(State(market): Shared, headers: HeaderMap, Query(params): Params) -> Answer {
    let account = account(&market, &headers)?;
    let invalid = |msg: String| Reply::Json(400, json!({"error": "invalid_request", "msg": msg}));
    let (all, wait) = market.templates(account).map_err(|refusal| refused(&refusal, ""))?;
    market.pause(wait).await;
    let query: Map<String, Value> = serde_json::from_str(params.get("select_filters").map_or("{}", String::as_str))
        .map_err(|_| invalid("Invalid json in select_filters".to_owned()))?;
    let mut filters = Vec::new();
    for (field, value) in &query {
        filters.extend(conditions(field, value).map_err(invalid)?);
    }
    let fits = |row: &Value| filters.iter().all(|(field, op, wanted)| holds(row.get(field).unwrap_or(&Value::Null), op, wanted, field));
    let rows: Vec<Value> = all.iter().enumerate().map(|(at, made)| made.row(at)).filter(fits).collect();
    Ok(Reply::Json(200, json!({"success": true, "templates_found": rows.len(), "templates": rows})))
}

async fn user(State(market): Shared, headers: HeaderMap) -> Answer {
    let account = account(&market, &headers)?;
    let left = market.balance(account).map_err(|refusal| refused(&refusal, ""))?;
    let credit = left.map_or_else(|| number("250"), |left| number(&left.decimal()));
    Ok(Reply::Json(
        200,
        json!({
            "id": account.user_id(), "key_id": 1, "email": "renter@market.test", "username": "renter",
            "credit": credit, "balance": 0.0, "ssh_key": "", "sid": "",
        }),
    ))
}
