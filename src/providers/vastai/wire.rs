//! Vast.ai's words: instances, statuses, the launch body, answers and errors. Vendor shapes end here.
//!
//! Known traps: a launch that is reported as failed may have created a machine all the same (`new_contract` in an error
//! body); an unknown instance is a 200 with `null`; what a machine is *meant* to do (`intended_status`) outweighs what it
//! is said to do; ports are Docker's map with text numbers.

use crate::domain::ids::{MachineId, clip};
use crate::domain::instance::{InstanceStatus, NO_STATUS, PriceSeen, Sighting, SshEndpoint};
use crate::domain::money::Rate;
use crate::domain::offer::{Price, RentalKind};
use crate::ports::{Account, DestroyAnswer, ErrorKind, LaunchSpec, Launched};
use crate::providers::call::{Fault, Reply};
use crate::providers::lenient::{Body, Object, Value};
use crate::providers::words;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Rows per page of the instance list; more are not given.
pub const PAGE_ROWS: usize = 25;
/// What makes a container reachable by SSH directly and through the vendor's proxy. The spelling is the vendor's.
const RUNTYPE: &str = "ssh_direc ssh_proxy";
/// Parts of `status_msg` after which a container will not come up.
const FATAL: [&str; 6] = [
    "error response from daemon",
    "oci runtime create failed",
    "failed to inject cdi devices",
    "docker_build() error",
    "insufficient free disk",
    "no space left on device",
];

#[derive(Serialize)]
struct LaunchBody<'a> {
    client_id: &'a str,
    image: &'a str,
    disk: u32,
    label: String,
    runtype: &'a str,
    /// Variables, and ports as the vendor wants them: `"-p 8000:8000": "1"`.
    env: BTreeMap<String, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template_hash_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    onstart: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_login: Option<String>,
    /// A bid per hour, written from the integer. Its mere presence makes a rental interruptible.
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<Box<RawValue>>,
    cancel_unavail: bool,
    target_state: &'a str,
    python_utf8: bool,
    lang_utf8: bool,
}

/// The body of a launch.
///
/// # Errors
/// When an interruptible offer has neither a bid nor a lowest bid.
pub fn launch_body(spec: &LaunchSpec, default_image: &str) -> Result<Vec<u8>, Fault> {
    let bid = match spec.offer.rental {
        RentalKind::OnDemand => None,
        RentalKind::Interruptible => {
            let bid = spec.bid.or(spec.offer.min_bid).filter(|bid| bid.0 > 0);
            Some(bid.ok_or_else(|| Fault::refused(ErrorKind::Invalid, "an interruptible offer needs a bid"))?)
        }
    };
    let price = match bid {
        Some(bid) => Some(RawValue::from_string(bid.decimal()).map_err(|fault| Fault::refused(ErrorKind::Invalid, format!("the bid: {fault}")))?),
        None => None,
    };
    let mut env: BTreeMap<String, &str> = spec.env.iter().map(|(name, value)| (name.clone(), value.as_str())).collect();
    env.extend(spec.ports.iter().map(|port| (format!("-p {port}:{port}"), "1")));
    let body = LaunchBody {
        client_id: "me",
        image: spec.image.as_deref().unwrap_or(default_image),
        disk: spec.disk_gb,
        label: spec.label.to_string(),
        runtype: RUNTYPE,
        env,
        template_hash_id: spec.template.as_deref(),
        onstart: on_start(spec),
        image_login: spec.registry.as_ref().map(|r| format!("-u {} -p {} {}", r.username, r.password, r.server).trim_end().to_owned()),
        price,
        cancel_unavail: true,
        target_state: "running",
        python_utf8: true,
        lang_utf8: true,
    };
    serde_json::to_vec(&body).map_err(|fault| Fault::refused(ErrorKind::Invalid, format!("the launch cannot be written: {fault}")))
}

/// The start commands, and the server program after them: on machines that are logged in to, the vendor does not run an
/// image's own entrypoint.
fn on_start(spec: &LaunchSpec) -> Option<String> {
    let command = spec.service.iter().flat_map(|s| s.entrypoint.iter().chain(&s.arguments)).map(|word| words::quoted(word));
    let command: Vec<String> = if spec.service.as_ref().is_some_and(|s| !s.entrypoint.is_empty()) { command.collect() } else { Vec::new() };
    let program = (!command.is_empty()).then(|| format!("nohup {} >/var/log/gpu-shopper-service.log 2>&1 &", command.join(" ")));
    let lines: Vec<String> = spec.on_start.clone().into_iter().chain(program).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Reads the answer to a launch of any status. The id comes first: with one, something was created.
///
/// # Errors
/// The vendor refused, or nobody knows.
pub fn read_launch(reply: &Reply) -> Result<Launched, Fault> {
    let body = Body::read(&reply.body).ok();
    let object = body.as_ref().and_then(|body| body.value().object());
    if let Some(object) = &object
        && let Some(native_id) = contract(object)
    {
        let failed = (!reply.ok() || object.boolean("success") == Some(false)).then(|| words::clean(&said(object), &[]));
        return Ok(Launched { native_id, call: reply.look, failed });
    }
    let fault = refusal(reply);
    Err(match fault.kind {
        // Of a launch, "not found" means the ask.
        ErrorKind::NotFound => Fault { kind: ErrorKind::NoCapacity, ..fault },
        ErrorKind::Invalid if matches!(reply.status, 409 | 410) => Fault { kind: ErrorKind::NoCapacity, ..fault },
        _ => fault,
    })
}

fn contract(object: &Object<'_>) -> Option<String> {
    object.get("new_contract").and_then(Value::id).filter(|id| id != "0")
}

/// Whether an answer that should say `success` does.
///
/// # Errors
/// What it says instead.
pub fn read_done(reply: &Reply) -> Result<(), Fault> {
    if !reply.ok() {
        return Err(refusal(reply));
    }
    if reply.body.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let body = Body::read(&reply.body).map_err(Fault::garbled)?;
    let object = body.value().object().ok_or_else(|| Fault::garbled("the body is no object"))?;
    match object.boolean("success") {
        Some(true) => Ok(()),
        None if !object.has("error") => Ok(()),
        _ => Err(refusal(reply)),
    }
}

/// Reads the answer to a start. `resources_unavailable` with a queued change of state is an order that was taken: the
/// machine starts when its GPU is free, and whoever waits for it has a deadline.
///
/// # Errors
/// The order was not taken.
pub fn read_start(reply: &Reply) -> Result<(), Fault> {
    match read_done(reply) {
        Err(fault) if fault.kind == ErrorKind::NoCapacity && fault.text.contains("queued") => Ok(()),
        other => other,
    }
}

/// Reads the answer to a destroy. A refusal holds until then where a `Retry-After` says so.
///
/// # Errors
/// Neither accepted, nor absent, nor refused for now.
pub fn read_destroy(reply: &Reply) -> Result<DestroyAnswer, Fault> {
    match read_done(reply) {
        Ok(()) => Ok(DestroyAnswer::Accepted),
        Err(_) if says_absent(reply) => Ok(DestroyAnswer::NotThere),
        Err(fault) if fault.kind == ErrorKind::Invalid && puts_off(&fault.text) => {
            let until = reply.retry_after.map(|wait| reply.look.answered + wait);
            Ok(DestroyAnswer::Refused { until, text: words::clean(&fault.text, &[]) })
        }
        Err(fault) => Err(fault),
    }
}

/// Whether the vendor itself, and not a proxy or a wrong address, says that there is no such instance.
fn says_absent(reply: &Reply) -> bool {
    let body = Body::read(&reply.body).ok();
    let Some(object) = body.as_ref().and_then(|body| body.value().object()) else {
        return false;
    };
    let enveloped = object.has("success") || object.has("error") || object.has("msg");
    enveloped && refusal(reply).kind == ErrorKind::NotFound
}

fn puts_off(text: &str) -> bool {
    let text = text.to_lowercase();
    ["not ready", "try again later", "minimum", "invalid_state", "invalid state", "still being", "in progress", "cannot be destroyed"]
        .iter()
        .any(|words| text.contains(words))
}

/// What the vendor says in an error body, as one text.
fn said(object: &Object<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for name in ["error", "msg", "message", "detail"] {
        if let Some(text) = object.text(name)
            && !parts.iter().any(|part| *part == text)
        {
            parts.push(text.trim().to_owned());
        }
    }
    parts.join(": ")
}

/// What an answer that is not the hoped-for one means: account trouble first, then capacity, then what the status says.
#[must_use]
pub fn refusal(reply: &Reply) -> Fault {
    let body = Body::read(&reply.body).ok();
    let object = body.as_ref().and_then(|body| body.value().object());
    let text = object.as_ref().map(said).unwrap_or_default();
    let lower = text.to_lowercase();
    let has = |fragments: &[&str]| fragments.iter().any(|fragment| lower.contains(fragment));
    if reply.status == 429 || has(&["rate_limit_exceeded", "too frequent", "too many requests"]) {
        let known = Fault::refused(ErrorKind::RateLimited, if text.is_empty() { reply.excerpt() } else { text });
        return Fault { retry_after: reply.retry_after, again: true, ..known };
    }
    if has(&["auth_error", "invalid user key", "requires login", "invalid api key"]) {
        return Fault::refused(ErrorKind::Auth, text);
    }
    if has(&["insufficient_credit", "missing_billing", "lacks credit"]) {
        return Fault::refused(ErrorKind::Credit, text);
    }
    if has(&["no_such_instance"]) || object.as_ref().and_then(|o| o.text("error")).is_some_and(|error| error == "not_found") {
        return Fault::refused(ErrorKind::NotFound, text);
    }
    if has(&["no_such_ask", "resources_unavailable", "is no longer available"]) {
        return Fault::refused(ErrorKind::NoCapacity, text);
    }
    if has(&["invalid_args", "invalid_price", "invalid_request", "no_ssh_key_for_vm", "label_too_long"]) {
        return Fault::refused(ErrorKind::Invalid, text);
    }
    Fault::by_status(reply, &text)
}

/// Reads the answer to a look at one instance; `None` = the vendor says that there is none.
///
/// # Errors
/// When the answer is none to that question.
pub fn read_instance(reply: &Reply, native_id: &str) -> Result<Option<Sighting>, Fault> {
    if says_absent(reply) {
        return Ok(None);
    }
    if !reply.ok() {
        return Err(refusal(reply));
    }
    let body = Body::read(&reply.body).map_err(Fault::garbled)?;
    let object = body.value().object().ok_or_else(|| Fault::garbled("the body is no object"))?;
    if !object.has("instances") {
        return Err(refusal(reply));
    }
    let Some(value) = object.get("instances") else {
        return Ok(None);
    };
    if let Some(rows) = value.rows() {
        return Ok(rows.iter().flatten().map(|row| sighting(row, native_id)).find(|seen| seen.native_id == native_id));
    }
    let row = value.object().ok_or_else(|| Fault::garbled("`instances` is no object"))?;
    let seen = sighting(&row, native_id);
    if seen.native_id != native_id {
        return Err(Fault::garbled("the answer is about another instance"));
    }
    Ok(Some(seen))
}

/// One page of the instance list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The rows.
    pub sightings: Vec<Sighting>,
    /// Where the next page begins; `None` = this is the last one.
    pub next: Option<String>,
    /// How many instances there are in all, as far as the vendor counts them.
    pub counted: Option<usize>,
}

/// Reads one page of the instance list.
///
/// # Errors
/// When it is none, or when a row has no id: such a list would not be complete.
pub fn read_page(reply: &Reply) -> Result<Page, Fault> {
    if !reply.ok() {
        return Err(refusal(reply));
    }
    let body = Body::read(&reply.body).map_err(Fault::garbled)?;
    let object = body.value().object().ok_or_else(|| Fault::garbled("the list is no object"))?;
    if object.boolean("success") == Some(false) {
        return Err(refusal(reply));
    }
    let rows = object.get("instances").and_then(Value::rows).ok_or_else(|| Fault::garbled("the list has no array `instances`"))?;
    let mut page = Page { next: object.get("next_token").and_then(Value::id), ..Page::default() };
    // `instances_found` counts either this page or all of them, depending on which of the vendor's pages one believes;
    // both are at most the number of ids in a complete list.
    let counts = ["total_instances", "instances_found"].iter().filter_map(|name| object.int(name));
    page.counted = counts.filter_map(|count| usize::try_from(count).ok()).max();
    for row in rows {
        let seen = row.map(|row| sighting(&row, "")).filter(|seen| !seen.native_id.is_empty());
        page.sightings.push(seen.ok_or_else(|| Fault::garbled("the list has a row without an id"))?);
    }
    Ok(page)
}

/// One instance. `asked` stands in for an id that the row lacks.
fn sighting(row: &Object<'_>, asked: &str) -> Sighting {
    let word = |name: &str| row.text(name).map(|text| text.trim().to_lowercase()).unwrap_or_default();
    let (actual, message) = (word("actual_status"), row.text("status_msg").unwrap_or_default());
    let intents = [word("intended_status"), word("cur_state"), word("next_state")];
    let status = status(&actual, &intents, &message);
    let mut raw = if actual.is_empty() { NO_STATUS.to_owned() } else { actual.clone() };
    if let Some(intent) = intents.iter().find(|intent| !intent.is_empty() && **intent != "running" && **intent != actual) {
        raw = format!("{raw} (meant to be {intent})");
    }
    if !message.trim().is_empty() {
        raw = format!("{raw}: {message}");
    }
    let raw_status = words::clean(&raw, &[]);
    Sighting {
        native_id: row.get("id").and_then(Value::id).unwrap_or_else(|| asked.to_owned()),
        label: row.text("label").map(|label| clip(&label, 1024)),
        status,
        progress: Some(raw_status.clone()),
        raw_status,
        endpoints: endpoints(row),
        ports: ports(row),
        public_host: row.text("public_ipaddr").map(|host| host.trim().to_owned()).filter(|host| is_host(host)),
        price: price(row, status),
        interruptible: row.boolean("is_bid"),
        machine: row.get("machine_id").and_then(Value::id).map(|id| MachineId::new(&format!("vastai:{}", clip(&id, 64)))),
        gpu_percent: row.float("gpu_util").filter(|percent| (0.0..=100.0).contains(percent)).map(|percent| percent.round() as u32),
    }
}

/// What an instance does. Total: a word that we don't know is `Unknown`.
#[must_use]
pub fn status(actual: &str, intents: &[String; 3], message: &str) -> InstanceStatus {
    use InstanceStatus as S;
    let message = message.to_lowercase();
    let meant = |word: &str| intents.iter().any(|intent| intent == word);
    let fatal = actual != "running" && FATAL.iter().any(|fragment| message.contains(fragment));
    if matches!(actual, "destroying" | "deleting") || meant("destroying") || meant("deleting") {
        return S::Deleting;
    }
    if fatal {
        return S::Failed;
    }
    if meant("stopped") {
        return S::Stopped;
    }
    match actual {
        "" | "created" | "scheduling" | "scheduled" => S::Scheduled,
        "loading" | "restarting" | "rebooting" => S::Starting,
        "running" => S::Running,
        // Meant to run and not counted as exited: the vendor is restarting it.
        "exited" if intents[0] == "running" && intents[1] == "running" => S::Starting,
        "exited" => S::Failed,
        "stopped" | "frozen" => S::Stopped,
        "offline" => S::Offline,
        _ => S::Unknown,
    }
}

/// The direct address first, then the proxy.
fn endpoints(row: &Object<'_>) -> Vec<SshEndpoint> {
    let host = |name: &str| row.text(name).map(|host| host.trim().to_owned()).filter(|host| is_host(host));
    let ssh = |host: String, port: u16, proxied: bool| SshEndpoint { host, port, user: "root".to_owned(), proxied };
    let direct = ports(row).into_iter().find(|(inside, _)| *inside == 22).and_then(|(_, port)| Some(ssh(host("public_ipaddr")?, port, false)));
    let jupyter = row.text("image_runtype").is_some_and(|runtype| runtype.contains("jupyter"));
    let port = row.int("ssh_port").map(|port| port + i64::from(jupyter)).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let proxy = port.and_then(|port| Some(ssh(host("ssh_host")?, port, true)));
    direct.into_iter().chain(proxy).collect()
}

fn is_host(text: &str) -> bool {
    let known = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'));
    known && text.len() <= 253 && text.bytes().any(|b| b.is_ascii_alphanumeric())
}

/// Mapped TCP ports, inside → outside, from Docker's map. The list of numbers in an old description maps nothing.
fn ports(row: &Object<'_>) -> Vec<(u16, u16)> {
    let Some(map) = row.object("ports") else {
        return Vec::new();
    };
    let outside = |value: Value<'_>| {
        let ports = value.rows()?.into_iter().flatten().filter_map(|binding| u16::try_from(binding.int("HostPort")?).ok());
        ports.filter(|port| *port > 0).min()
    };
    let entry = |(name, value): (&str, Value<'_>)| Some((name.strip_suffix("/tcp")?.parse().ok()?, outside(value)?));
    let mapped: BTreeMap<u16, u16> = map.entries().filter_map(entry).collect();
    mapped.into_iter().collect()
}

/// The price as stated. A sum alone is taken only from a machine that runs or is about to: that of a stopped one has no
/// GPU in it.
fn price(row: &Object<'_>, status: InstanceStatus) -> Option<PriceSeen> {
    let told = |name: &str| row.rate(name).filter(|rate| rate.0 >= 0);
    // No machine costs nothing: a price of 0 is one that is not told.
    let dear = |name: &str| told(name).filter(|rate| rate.0 > 0);
    let (base, total) = (dear("dph_base"), dear("dph_total"));
    let by_month = || {
        let milli_gb = crate::domain::money::scaled(&row.get("disk_space")?.decimal()?, 3)?;
        Some(told("storage_cost")?.scaled(i64::try_from(milli_gb).ok()?, 720_000))
    };
    let disk = match (base, total) {
        (Some(base), Some(total)) if total >= base => Some(total - base),
        _ => told("storage_total_cost").or_else(by_month),
    };
    let parts = |gpu: Rate, disk: Rate| PriceSeen::Parts(Price { gpu, disk, ..Price::default() });
    let up = !matches!(status, InstanceStatus::Stopped | InstanceStatus::Failed | InstanceStatus::Offline | InstanceStatus::Deleting);
    match (base, total, disk) {
        (Some(base), _, Some(disk)) => Some(parts(base, disk)),
        (None, Some(total), Some(disk)) if up && total >= disk => Some(parts(total - disk, disk)),
        (_, Some(total), _) if up => Some(PriceSeen::Total(total)),
        _ => None,
    }
}

/// Reads whose account it is. `fallback` is the identity where the vendor tells none.
///
/// # Errors
/// When the key is refused or the answer is none.
pub fn read_account(reply: &Reply, fallback: &str) -> Result<Account, Fault> {
    if !reply.ok() {
        let fault = refusal(reply);
        // The vendor is described as answering 404 to a wrong key in places.
        return Err(if fault.kind == ErrorKind::NotFound { Fault { kind: ErrorKind::Auth, ..fault } } else { fault });
    }
    let body = Body::read(&reply.body).map_err(Fault::garbled)?;
    let object = body.value().object().ok_or_else(|| Fault::garbled("the account is no object"))?;
    if object.boolean("success") == Some(false) || object.has("error") {
        return Err(refusal(reply));
    }
    let told = ["id", "credit", "balance", "email"].iter().any(|name| object.has(name));
    if !told {
        return Err(Fault::garbled("the account has neither id nor credit"));
    }
    let by_id = object.int("id").filter(|id| *id > 0).map(|id| id.to_string());
    let by_mail = || object.text("email").filter(|mail| mail.contains('@')).map(|mail| format!("email-{}", super::fingerprint(&mail)));
    let identity = by_id.or_else(by_mail).unwrap_or_else(|| fallback.to_owned());
    Ok(Account { identity, balance: object.amount("credit").or_else(|| object.amount("balance")) })
}

#[cfg(test)]
mod tests;
