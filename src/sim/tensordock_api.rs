//! The market in TensorDock's HTTP dialect (v2): bodies, validation, errors inside of 200s, and habits as the vendor's.

use crate::sim::admin_api::admin_routes;
use crate::sim::catalogue::{Kind, Listing, PlaceFacts};
use crate::sim::keys::keys_in;
use crate::sim::market::{AccountId, Credentials, Market};
use crate::sim::wire::{Reply, bearer, number};
use crate::sim::{Dialect, Order, Phase, Pick, Refusal, Shown};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

type Answer = Result<Reply, Reply>;
type Shared = State<Arc<Market>>;

/// Every path that TensorDock has for us, and the simulation's own.
pub fn tensordock_router(market: Arc<Market>) -> Router {
    admin_routes(Dialect::Tensordock)
        .route("/api/v2/locations", get(locations))
        .route("/api/v2/instances", get(list).post(create))
        .route("/api/v2/instances/{id}", get(show).delete(destroy))
        .route("/api/v2/instances/{id}/start", post(start))
        .route("/api/v2/instances/{id}/stop", post(stop))
        .with_state(market)
}

/// A refusal in the vendor's words: what concerns an order comes as a 200 with an error body.
fn refused(refusal: &Refusal) -> Reply {
    let inside = |status: u16, text: &str| Reply::Json(200, json!({"status": status, "error": text}));
    match refusal {
        Refusal::Auth => Reply::Json(401, json!({"error": "Invalid API credentials"})),
        Refusal::Throttled(_) => Reply::Json(429, json!({"error": "Rate limit exceeded. Please try again later."})),
        Refusal::ServerError => Reply::Json(502, json!({"error": "Bad gateway"})),
        Refusal::Credit | Refusal::BidTooLow(_) => inside(400, "Insufficient balance: you need at least $1 to deploy"),
        Refusal::NoSuchAsk | Refusal::NoNodes => inside(400, "No available nodes found"),
        Refusal::NoPublicIp => inside(400, "No available public IPs"),
        Refusal::UnknownPlace => inside(404, "Location not found"),
        Refusal::UnknownGpu => invalid(&[("resources", "GPU model is not available at this location")]),
        Refusal::NotFound => Reply::Json(404, json!({"error": "Instance not found"})),
        Refusal::ResourcesUnavailable => Reply::Json(200, json!({"status": 400, "error": "Insufficient capacity on the hostnode"})),
        Refusal::NotReady(_) => Reply::Json(400, json!({"detail": {"error": "invalid_state", "message": "VM is not ready for deletion"}})),
    }
}

/// Faults of a request, as the vendor lists them: an array, not an object.
fn invalid(faults: &[(&str, &str)]) -> Reply {
    let all: Vec<Value> =
        faults.iter().map(|(field, message)| json!({"code": "custom", "message": message, "path": ["data", "attributes", field]})).collect();
    Reply::Json(400, Value::Array(all))
}

fn account(market: &Market, headers: &HeaderMap) -> Result<AccountId, Reply> {
    let token = bearer(headers).ok_or_else(|| refused(&Refusal::Auth))?;
    market.account_of(&Credentials::Pair { id: String::new(), token }).ok_or_else(|| refused(&Refusal::Auth))
}

async fn locations(State(market): Shared, headers: HeaderMap, Query(params): Query<BTreeMap<String, String>>) -> Answer {
    // Open to all; credentials that are given, as a Bearer or the old way in the query, must be right.
    let given = match (bearer(&headers), params.get("api_key"), params.get("api_token")) {
        (Some(token), _, _) => Some(Credentials::Pair { id: String::new(), token }),
        (None, Some(id), Some(token)) if !id.is_empty() => Some(Credentials::Pair { id: id.clone(), token: token.clone() }),
        (None, None, None) => None,
        _ => return Err(refused(&Refusal::Auth)),
    };
    let account = match given {
        Some(credentials) => Some(market.account_of(&credentials).ok_or_else(|| refused(&Refusal::Auth))?),
        None => None,
    };
    let (places, wait) = market.places(account).map_err(|refusal| refused(&refusal))?;
    market.pause(wait).await;
    let mut by_location: Vec<(&PlaceFacts, Vec<(&Listing, Value)>)> = Vec::new();
    for (free, listing) in &places {
        let Kind::Place(place) = &listing.kind else { continue };
        let gpu = (&**listing, gpu_row(listing, place, *free));
        match by_location.last_mut().filter(|(last, _)| last.location.id == place.location.id) {
            Some((_, gpus)) => gpus.push(gpu),
            None => by_location.push((place, vec![gpu])),
        }
    }
    let rows: Vec<Value> = by_location.into_iter().map(|(place, gpus)| location_row(place, gpus)).collect();
    Ok(Reply::Json(200, json!({"data": {"locations": rows}})))
}

fn location_row(place: &PlaceFacts, gpus: Vec<(&Listing, Value)>) -> Value {
    let location = &place.location;
    let gpus = if location.gpus_as_map {
        Value::Object(gpus.into_iter().map(|(listing, row)| (listing.card.tensordock.0.to_owned(), row)).collect())
    } else {
        Value::Array(gpus.into_iter().map(|(_, row)| row).collect())
    };
    json!({
        "id": location.id, "city": location.city, "stateprovince": location.state, "country": location.country,
        "tier": location.tier, "gpus": gpus,
    })
}

fn gpu_row(listing: &Listing, place: &PlaceFacts, free: u32) -> Value {
    let mut row = json!({
        "v0Name": listing.card.tensordock.0, "displayName": listing.card.tensordock.1, "max_count": free,
        "price_per_hr": number(&place.per_gpu.decimal()),
        "resources": {"max_vcpus": 128, "max_ram_gb": 512, "max_storage_gb": 2_000},
        "network_features": {"dedicated_ip_available": place.dedicated_ip, "port_forwarding_available": true, "network_storage_available": false},
    });
    if place.tells_parts {
        row["pricing"] = json!({
            "per_vcpu_hr": number(&place.per_part.0.decimal()), "per_gb_ram_hr": number(&place.per_part.1.decimal()),
            "per_gb_storage_hr": number(&place.per_part.2.decimal()),
        });
    }
    row
}

async fn create(State(market): Shared, headers: HeaderMap, body: Bytes) -> Answer {
    let account = account(&market, &headers)?;
    let body: Value = serde_json::from_slice(&body).map_err(|_| Reply::Json(400, json!({"error": "Invalid JSON"})))?;
    let (pick, order) = order(&body["data"]["attributes"]).map_err(|faults| invalid(&faults))?;
    let name = order.label.clone();
    let created = market.create(account, &pick, order);
    if created.lost {
        return Ok(Reply::Cut);
    }
    market.pause(created.wait).await;
    let native_id = created.result.map_err(|refusal| refused(&refusal))?;
    Ok(Reply::Json(200, json!({"data": {"type": "virtualmachine", "id": native_id, "name": name, "status": "running"}})))
}

type Wrong = Vec<(&'static str, &'static str)>;

/// An order from the attributes of a create, or everything that is wrong with them.
fn order(attributes: &Value) -> Result<(Pick, Order), Wrong> {
    let mut faults: Wrong = Vec::new();
    let text = |key: &str| attributes[key].as_str().unwrap_or_default().to_owned();
    let whole = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let resources = &attributes["resources"];
    let (vcpus, ram_gb, disk_gb) = (whole(&resources["vcpu_count"]), whole(&resources["ram_gb"]), whole(&resources["storage_gb"]));
    let gpus: Vec<(String, u32)> = match &resources["gpus"] {
        Value::Object(gpus) => gpus.iter().map(|(v0, gpu)| (v0.clone(), whole(&gpu["count"]))).collect(),
        _ => Vec::new(),
    };
    let dedicated_ip = attributes["useDedicatedIp"].as_bool().unwrap_or(false);
    let inside = |forward: &Value| forward["internal_port"].as_u64().and_then(|port| u16::try_from(port).ok());
    let forwards: Vec<u16> = attributes["port_forwards"].as_array().map(|all| all.iter().filter_map(inside).collect()).unwrap_or_default();
    let key = text("ssh_key");
    let mut check = |good: bool, field, message| {
        if !good {
            faults.push((field, message))
        }
    };
    check(!text("name").is_empty(), "name", "Name is required");
    check(!text("image").is_empty(), "image", "Image is required");
    check(
        attributes["location_id"].is_string() != attributes["hostnode_id"].is_string(),
        "location_id",
        "Exactly one of location_id and hostnode_id is required",
    );
    check(disk_gb >= 100, "resources", "Storage must be at least 100 GB");
    check(disk_gb % 50 == 0, "resources", "Storage must be a multiple of 50 GB");
    check(vcpus > 0 && vcpus % 2 == 0, "resources", "vCPU count must be even");
    check(ram_gb > 0, "resources", "RAM is required");
    check(gpus.len() == 1 && gpus[0].1 > 0, "resources", "At least one GPU is required when deploying to a location");
    check(!keys_in(&key).is_empty() || attributes["ssh_key_id"].is_string(), "ssh_key", "SSH key is required for Linux VMs");
    check(dedicated_ip || forwards.contains(&22), "port_forwards", "SSH port (22) must be forwarded for Ubuntu VMs");
    let Some((v0, count)) = gpus.into_iter().next().filter(|_| faults.is_empty()) else { return Err(faults) };
    let order = Order {
        label: text("name"),
        image: text("image"),
        disk_gb,
        vcpus,
        ram_gb,
        dedicated_ip,
        keys: installed_keys(attributes, &key),
        ports: forwards.into_iter().filter(|port| *port != 22).chain(listening(attributes)).collect(),
        ..Order::default()
    };
    Ok((Pick::Place { location: text("location_id"), v0, count }, order))
}

/// Ports that a server program started by cloud-init's commands listens at. With an address of its own a machine is reached
/// there; here, where all share one, they are mapped.
fn listening(attributes: &Value) -> Vec<u16> {
    if !attributes["useDedicatedIp"].as_bool().unwrap_or(false) {
        return Vec::new();
    }
    let mut text = String::new();
    strings(&attributes["cloud_init"]["runcmd"], &mut text);
    let number = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    text.split("'--port' '").skip(1).filter_map(number).collect()
}

/// The keys that a machine comes up with: the attribute's, and those that cloud-init's commands write.
fn installed_keys(attributes: &Value, key: &str) -> Vec<String> {
    let mut text = key.to_owned();
    for part in ["runcmd", "write_files", "ssh_authorized_keys"] {
        strings(&attributes["cloud_init"][part], &mut text);
    }
    keys_in(&text)
}

fn strings(value: &Value, into: &mut String) {
    match value {
        Value::String(text) => {
            into.push('\n');
            into.push_str(text);
        }
        Value::Array(all) => all.iter().for_each(|one| strings(one, into)),
        Value::Object(map) => map.values().for_each(|one| strings(one, into)),
        _ => {}
    }
}

fn status(shown: &Shown) -> &'static str {
    match shown.phase {
        Phase::Scheduled => "queued",
        Phase::Starting => "creating",
        Phase::Running => "running",
        Phase::Stopped => "stopped",
        Phase::Failed => "error",
        Phase::Deleting => "deleting",
        Phase::Gone => "deleted",
    }
}

async fn list(State(market): Shared, headers: HeaderMap) -> Answer {
    let account = account(&market, &headers)?;
    let list = market.list(account).map_err(|refusal| refused(&refusal))?;
    market.pause(list.wait).await;
    let row =
        |shown: &Shown| json!({"type": "virtualmachine", "id": shown.native_id, "attributes": {"name": shown.order.label, "status": status(shown)}});
    let rows: Vec<Value> = list.rows.iter().map(row).collect();
    Ok(Reply::Json(200, json!({"data": {"type": "list", "attributes": {"instances": rows}}})))
}

async fn show(State(market): Shared, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    let account = account(&market, &headers)?;
    let (shown, wait) = market.get(account, &id).map_err(|refusal| refused(&refusal))?;
    market.pause(wait).await;
    let shown = shown.ok_or_else(|| refused(&Refusal::NotFound))?;
    let (v0, display) = shown.listing.card.tensordock;
    // With an address of its own there is nothing to forward.
    let mut forwards: Vec<Value> = Vec::new();
    if let Some((_, ssh)) = shown.direct.as_ref().filter(|at| !shown.order.dedicated_ip || at.1 != 22) {
        forwards.push(json!({"internal_port": 22, "external_port": ssh}));
        forwards.extend(shown.ports.iter().map(|(inside, outside)| json!({"internal_port": inside, "external_port": outside})));
    }
    let mut gpus = Map::new();
    gpus.insert(display.to_owned(), json!({"count": shown.gpu_count, "v0Name": v0}));
    Ok(Reply::Json(
        200,
        json!({
            "type": "virtualmachine", "id": shown.native_id, "name": shown.order.label, "status": status(&shown),
            "ipAddress": shown.direct.as_ref().map_or("", |at| at.0.as_str()), "portForwards": forwards,
            "resources": {
                "vcpu_count": shown.order.vcpus, "ram_gb": shown.order.ram_gb, "storage_gb": shown.order.disk_gb, "gpus": gpus,
            },
            "rateHourly": number(&shown.price.total().decimal()),
        }),
    ))
}

async fn destroy(State(market): Shared, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    let account = account(&market, &headers)?;
    market.pause(market.destroy(account, &id).map_err(|refusal| refused(&refusal))?).await;
    Ok(Reply::Json(200, json!({"data": {"type": "success", "attributes": {"message": "Instance deleted successfully"}}})))
}

async fn start(State(market): Shared, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    let account = account(&market, &headers)?;
    market.pause(market.start(account, &id).map_err(|refusal| refused(&refusal))?).await;
    Ok(Reply::Json(200, json!({"data": {"type": "success", "attributes": {"message": "Instance started successfully"}}})))
}

async fn stop(State(market): Shared, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    let account = account(&market, &headers)?;
    market.pause(market.stop(account, &id).map_err(|refusal| refused(&refusal))?).await;
    Ok(Reply::Json(200, json!({"data": {"type": "success", "attributes": {"message": "Instance stopped successfully"}}})))
}
