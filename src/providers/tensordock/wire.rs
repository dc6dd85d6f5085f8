//! TensorDock's words: instances, statuses, the launch body with its boot script, answers and errors.
//!
//! Known traps: errors come with HTTP 200; a validation error is a bare array; instances come flat, wrapped in `data` or in
//! `attributes`, lists in three nestings; the key given at launch does not reliably arrive, so the boot script installs it.

use crate::domain::ids::clip;
use crate::domain::instance::{InstanceStatus, NO_STATUS, PriceSeen, Sighting, SshEndpoint};
use crate::domain::money::Rate;
use crate::domain::service::Service;
use crate::ports::{DestroyAnswer, ErrorKind, LaunchSpec, Launched};
use crate::providers::call::{Fault, Reply};
use crate::providers::lenient::{Body, Object, Value};
use crate::providers::tensordock::offers::{MEMORY_GB_PER_GPU, VCPUS_PER_GPU, place_and_gpu};
use crate::providers::words;
use base64::Engine;
use serde_json::json;
use std::collections::BTreeMap;

/// Who logs in.
const USER: &str = "user";

/// The body of a launch.
///
/// # Errors
/// When the offer is none of ours, no key is given, or the environment has names that no shell takes.
pub fn launch_body(spec: &LaunchSpec, default_image: &str) -> Result<Vec<u8>, Fault> {
    let invalid = |text: &str| Fault::refused(ErrorKind::Invalid, text);
    let (location, gpu) = place_and_gpu(&spec.offer).ok_or_else(|| invalid("the offer is none of TensorDock"))?;
    let keys: Vec<&str> = spec.public_keys.iter().map(|key| key.trim()).filter(|key| !key.is_empty()).collect();
    let first = keys.first().ok_or_else(|| invalid("TensorDock needs a public key"))?;
    let count = spec.offer.gpu_count;
    let mut attributes = json!({
        "name": spec.label.to_string(),
        "type": "virtualmachine",
        // With a server program, the image is the container's and the machine gets the usual system.
        "image": spec.image.as_deref().filter(|_| spec.service.is_none()).unwrap_or(default_image),
        "location_id": location,
        "resources": {
            "vcpu_count": count * VCPUS_PER_GPU,
            "ram_gb": count * MEMORY_GB_PER_GPU,
            "storage_gb": spec.disk_gb,
            "gpus": { gpu: { "count": count } },
        },
        "ssh_key": first,
        "cloud_init": { "runcmd": boot_script(&keys, spec)? },
    });
    if spec.offer.direct_ports == Some(false) {
        // External port 0 = any; the mapping is read back.
        let all = [22].into_iter().chain(spec.ports.iter().copied().filter(|port| *port != 22));
        attributes["port_forwards"] = all.map(|port| json!({ "internal_port": port, "external_port": 0 })).collect();
    } else {
        attributes["useDedicatedIp"] = json!(true);
    }
    Ok(json!({ "data": { "type": "virtualmachine", "attributes": attributes } }).to_string().into_bytes())
}

/// The commands that run once at first boot. `write_files` is not used: it runs before the home directories exist, and the
/// vendor drops its encoding. Everything foreign travels as base64, so nothing can break out of its quotes.
///
/// # Errors
/// When a variable's name is none.
fn boot_script(keys: &[&str], spec: &LaunchSpec) -> Result<Vec<String>, Fault> {
    let env = &spec.env;
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let mut lines: Vec<String> = Vec::new();
    // Unattended upgrades hold dpkg's lock for minutes and replace the driver under a running machine.
    lines.push(
        "systemctl disable --now unattended-upgrades.service apt-daily.timer apt-daily-upgrade.timer apt-daily.service apt-daily-upgrade.service \
         >/dev/null 2>&1 || true"
            .to_owned(),
    );
    let all_keys = base64(&format!("{}\n", keys.join("\n")));
    for (user, home) in [("root", "/root"), (USER, "/home/user")] {
        lines.push(format!(
            "if id -u {user} >/dev/null 2>&1; then install -d -m 700 -o {user} -g {user} {home}/.ssh \
             && echo {all_keys} | base64 -d >> {home}/.ssh/authorized_keys \
             && chmod 600 {home}/.ssh/authorized_keys && chown {user}:{user} {home}/.ssh/authorized_keys; fi"
        ));
    }
    if !env.is_empty() {
        let mut exports = String::new();
        for (name, value) in env {
            if !is_variable(name) {
                let text = format!("`{}` is no name of an environment variable", clip(name, 64));
                return Err(Fault::refused(ErrorKind::Invalid, text));
            }
            exports.push_str(&format!("export {name}={}\n", words::quoted(value)));
        }
        let file = "/etc/profile.d/gpu-shopper.sh";
        lines.push(format!("echo {} | base64 -d > {file} && chmod 644 {file}", base64(&exports)));
    }
    let in_container = spec.service.as_ref().is_some_and(|s| s.entrypoint.is_empty());
    if let Some(script) = spec.on_start.as_deref().filter(|script| !script.trim().is_empty() && !in_container) {
        let file = "/root/gpu-shopper-start.sh";
        lines.push(format!("echo {} | base64 -d > {file} && chmod 700 {file} && bash -l {file}", base64(&format!("{script}\n"))));
    }
    if let Some(service) = &spec.service {
        lines.extend(container(spec, service));
    }
    Ok(lines)
}

/// Runs the server program in its container, with the GPUs and the machine's own network. Variables travel in a file that
/// only root reads.
fn container(spec: &LaunchSpec, service: &Service) -> Vec<String> {
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let file = "/root/gpu-shopper-service.env";
    let variables: String = spec.env.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let mut lines = vec![format!("install -m 600 /dev/null {file} && echo {} | base64 -d > {file}", base64(&variables))];
    if let Some(login) = &spec.registry {
        let (user, server) = (words::quoted(&login.username), words::quoted(&login.server));
        let server = if login.server.is_empty() { String::new() } else { format!(" {server}") };
        lines.push(format!("echo {} | base64 -d | docker login --username {user} --password-stdin{server}", base64(&login.password)));
    }
    let mut run =
        format!("docker run --detach --restart unless-stopped --name gpu-shopper-service --gpus all --network host --ipc host --env-file {file} ");
    match (service.entrypoint.is_empty(), spec.on_start.as_deref()) {
        // The image's own entrypoint, followed by what it is told.
        (false, _) | (true, None) => {
            run.push_str(&words::quoted(&service.image));
            service.arguments.iter().for_each(|word| run.push_str(&format!(" {}", words::quoted(word))));
        }
        // The start commands are the program.
        (true, Some(script)) => {
            let script = format!("eval \"$(echo {} | base64 -d)\"", base64(script));
            run.push_str(&format!("--entrypoint sh {} -c {}", words::quoted(&service.image), words::quoted(&script)));
        }
    }
    lines.push(run);
    lines
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_') && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Reads the answer to a launch of any status. The id comes first: with one, something was created.
///
/// # Errors
/// The vendor refused, or nobody knows.
pub fn read_launch(reply: &Reply) -> Result<Launched, Fault> {
    let body = Body::read(&reply.body).ok();
    let object = body.as_ref().and_then(|body| body.value().object());
    if let Some(object) = &object
        && let Some(native_id) = created_id(object)
    {
        let complaint = complaint(reply).filter(|_| !reply.ok() || object.has("error") || object.has("errors"));
        let failed = complaint.or_else(|| (!reply.ok()).then(|| format!("HTTP {}", reply.status)));
        return Ok(Launched { native_id, call: reply.look, failed: failed.map(|text| words::clean(&text, &[])) });
    }
    let fault = refusal(reply);
    // Of a launch, "not found" means the place or the kind of GPU.
    Err(if fault.kind == ErrorKind::NotFound { Fault { kind: ErrorKind::NoCapacity, ..fault } } else { fault })
}

fn created_id(object: &Object<'_>) -> Option<String> {
    let inner = object.object("data").unwrap_or_else(|| object.clone());
    inner.get("id").and_then(Value::id).or_else(|| inner.object("attributes")?.get("id").and_then(Value::id))
}

/// What the vendor complains about, all of it, in whatever shape; `None` = nothing.
fn complaint(reply: &Reply) -> Option<String> {
    let body = Body::read(&reply.body).ok()?;
    let value = body.value();
    if let Some(rows) = value.rows() {
        let lines: Vec<String> = rows.iter().flatten().filter_map(complaint_row).collect();
        return (!lines.is_empty()).then(|| lines.join("; "));
    }
    let object = value.object()?;
    let mut lines: Vec<String> = Vec::new();
    if let Some(rows) = object.get("errors").and_then(Value::rows) {
        lines.extend(rows.iter().flatten().filter_map(complaint_row));
    }
    for name in ["error", "message", "detail"] {
        let Some(value) = object.get(name) else { continue };
        // A message without an error is no complaint when all went well.
        if name != "error" && reply.ok() && !object.has("error") && !object.has("errors") && object.boolean("success") != Some(false) {
            continue;
        }
        let text = value.text().map(|text| text.trim().to_owned()).or_else(|| value.object().and_then(|inner| complaint_row(&inner)));
        lines.extend(text.filter(|text| !text.is_empty()));
    }
    lines.dedup();
    if lines.is_empty() {
        let failed = object.boolean("success") == Some(false) || object.get("status").and_then(Value::int).is_some_and(|status| status >= 400);
        return failed.then(|| format!("the body reports a failure: {}", reply.excerpt()));
    }
    Some(lines.join("; "))
}

/// `{code, message, path}` or `{status, title, detail}` in one line; `None` for a row that complains about nothing.
fn complaint_row(row: &Object<'_>) -> Option<String> {
    let text = |name: &str| row.text(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let words = match (text("message"), text("title"), text("detail")) {
        (Some(message), _, _) => message,
        (None, Some(title), Some(detail)) => format!("{title}: {detail}"),
        (None, title, detail) => title.or(detail)?,
    };
    let path = row.get("path").and_then(Value::array).unwrap_or_default();
    let path: Vec<String> = path.into_iter().filter_map(|part| part.text().map(|t| t.into_owned()).or_else(|| part.id())).collect();
    Some(if path.is_empty() { words } else { format!("{}: {words}", path.join(".")) })
}

const CREDIT: [&str; 7] =
    ["insufficient balance", "insufficient funds", "insufficient credit", "need at least $", "add funds", "out of credit", "balance is too low"];
const CAPACITY: [&str; 11] = [
    "no available nodes",
    "hostnode unavailable",
    "hostnode is unavailable",
    "out of stock",
    "insufficient capacity",
    "no available public ip",
    "no available hostnode",
    "not enough gpus",
    "insufficient resources",
    "sold out",
    "no capacity",
];

/// What an answer that is not the hoped-for one means: account trouble first, then capacity, then what the status says:
/// the one inside the body where there is one.
#[must_use]
pub fn refusal(reply: &Reply) -> Fault {
    let said = complaint(reply).unwrap_or_default();
    let lower = said.to_lowercase();
    let has = |fragments: &[&str]| fragments.iter().any(|fragment| lower.contains(fragment));
    let body = Body::read(&reply.body).ok();
    let inner = body.as_ref().and_then(|body| body.value().object()).and_then(|object| object.int("status"));
    let inner = inner.and_then(|status| u16::try_from(status).ok()).filter(|status| (400..600).contains(status));
    let status = if reply.ok() { inner.unwrap_or(reply.status) } else { reply.status };
    if status == 429 || has(&["rate limit", "too many requests"]) {
        let text = if said.is_empty() { reply.excerpt() } else { said };
        return Fault { retry_after: reply.retry_after, again: true, ..Fault::refused(ErrorKind::RateLimited, text) };
    }
    if has(&["invalid api credentials", "unauthorized", "invalid api token", "invalid token"]) {
        return Fault::refused(ErrorKind::Auth, said);
    }
    if has(&CREDIT) {
        return Fault::refused(ErrorKind::Credit, said);
    }
    if has(&CAPACITY) {
        return Fault::refused(ErrorKind::NoCapacity, said);
    }
    let validation = body.as_ref().is_some_and(|body| body.value().rows().is_some());
    if validation && !said.is_empty() && status < 500 {
        return Fault::refused(ErrorKind::Invalid, said);
    }
    if reply.ok() && inner.is_none() && !said.is_empty() {
        // A failure in words that we don't know, under a status that says success: anything may have happened.
        return Fault::maybe(ErrorKind::Unavailable, said);
    }
    Fault::by_status(&Reply { status, ..reply.clone() }, &said)
}

/// Whether the vendor itself, and not a proxy or a wrong address, says that there is no such instance.
fn says_absent(reply: &Reply) -> bool {
    let Some(said) = complaint(reply) else {
        return false;
    };
    let said = said.to_lowercase();
    let fault = refusal(reply);
    let routed = !said.contains("route") && !said.contains("cannot get") && !said.contains("cannot delete");
    let by_words = said.contains("instance") && (said.contains("not found") || said.contains("does not exist"));
    routed && (fault.kind == ErrorKind::NotFound || (by_words && matches!(fault.kind, ErrorKind::Unavailable | ErrorKind::Invalid)))
}

/// Whether an order was taken.
///
/// # Errors
/// What the vendor says instead.
pub fn read_done(reply: &Reply) -> Result<(), Fault> {
    if !reply.ok() || complaint(reply).is_some() {
        return Err(refusal(reply));
    }
    if !reply.body.iter().all(u8::is_ascii_whitespace) {
        Body::read(&reply.body).map_err(Fault::garbled)?;
    }
    Ok(())
}

/// Reads the answer to a destroy. A refusal holds until then where a `Retry-After` says so.
///
/// # Errors
/// Neither accepted, nor absent, nor refused for now.
pub fn read_destroy(reply: &Reply) -> Result<DestroyAnswer, Fault> {
    match read_done(reply) {
        Ok(()) => Ok(DestroyAnswer::Accepted),
        Err(_) if says_absent(reply) => Ok(DestroyAnswer::NotThere),
        Err(fault) if matches!(fault.kind, ErrorKind::Invalid | ErrorKind::Unavailable) && puts_off(reply.status, &fault.text) => {
            let until = reply.retry_after.map(|wait| reply.look.answered + wait);
            Ok(DestroyAnswer::Refused { until, text: words::clean(&fault.text, &[]) })
        }
        Err(fault) => Err(fault),
    }
}

fn puts_off(status: u16, text: &str) -> bool {
    let text = text.to_lowercase();
    let said = ["not ready", "invalid_state", "invalid state", "minimum", "provisioning", "cannot be deleted", "still being", "try again later"];
    matches!(status, 409 | 423 | 425) || said.iter().any(|words| text.contains(words))
}

/// Reads the answer to a look at one instance; `None` = the vendor says that there is none.
///
/// # Errors
/// When the answer is none to that question.
pub fn read_instance(reply: &Reply, native_id: &str) -> Result<Option<Sighting>, Fault> {
    if says_absent(reply) {
        return Ok(None);
    }
    if !reply.ok() || complaint(reply).is_some() {
        return Err(refusal(reply));
    }
    let body = Body::read(&reply.body).map_err(Fault::garbled)?;
    let object = body.value().object().ok_or_else(|| Fault::garbled("the instance is no object"))?;
    let seen = sighting(&object.object("data").unwrap_or(object)).ok_or_else(|| Fault::garbled("the instance has no id"))?;
    if seen.native_id != native_id {
        return Err(Fault::garbled("the answer is about another instance"));
    }
    Ok(Some(seen))
}

/// Reads the list of all instances, in any of its nestings.
///
/// # Errors
/// When it is none, when a row has no id, or when the vendor hints that there is more: such a list would not be complete.
pub fn read_instances(reply: &Reply) -> Result<Vec<Sighting>, Fault> {
    let body = Body::read(&reply.body);
    let list = body.as_ref().ok().and_then(|body| instance_rows(body.value()));
    let rows = match list {
        Some(rows) if reply.ok() && complaint(reply).is_none() => rows,
        _ if !reply.ok() || complaint(reply).is_some() => return Err(refusal(reply)),
        _ => return Err(Fault::garbled(body.err().unwrap_or_else(|| "the list has no array of instances".to_owned()))),
    };
    let mut all: BTreeMap<String, Sighting> = BTreeMap::new();
    for row in rows {
        let seen = row.and_then(|row| sighting(&row)).ok_or_else(|| Fault::garbled("the list has a row without an id"))?;
        all.insert(seen.native_id.clone(), seen);
    }
    if let Some(object) = body.as_ref().ok().and_then(|body| body.value().object()) {
        let inside = [Some(object.clone()), object.object("data"), object.object("meta"), object.object("links")];
        for part in inside.into_iter().flatten() {
            let counted = part.first(&["total", "total_count", "totalCount"]).and_then(Value::int);
            let more = part.first(&["next", "next_token", "nextToken", "next_page"]).is_some_and(|next| next.id().is_some());
            if more || counted.is_some_and(|counted| usize::try_from(counted).is_ok_and(|counted| counted > all.len())) {
                return Err(Fault::garbled("the list is not complete"));
            }
        }
    }
    Ok(all.into_values().collect())
}

fn instance_rows(body: Value<'_>) -> Option<Vec<Option<Object<'_>>>> {
    // A bare array of complaints is no list.
    if let Some(rows) = body.rows() {
        let complaints = rows.iter().flatten().any(|row| row.has("message") && row.has("code"));
        return (!complaints).then_some(rows);
    }
    if let Some(rows) = body.field("instances").and_then(Value::rows) {
        return Some(rows);
    }
    let data = body.field("data")?;
    let nested = || data.field("instances").or_else(|| data.field("attributes")?.field("instances"))?.rows();
    data.rows().or_else(nested)
}

/// One instance, flat or with its fields in `attributes`; `None` without an id.
fn sighting(row: &Object<'_>) -> Option<Sighting> {
    let attributes = row.object("attributes").unwrap_or_default();
    let field = |names: &[&str]| row.first(names).or_else(|| attributes.first(names));
    let native_id = field(&["id", "uuid"]).and_then(Value::id)?;
    let raw = field(&["status"]).and_then(Value::text).unwrap_or_default();
    let raw_status = words::clean(if raw.trim().is_empty() { NO_STATUS } else { &raw }, &[]);
    let ports = ports(field(&["portForwards", "port_forwards"]));
    let rate = field(&["rateHourly", "rate_hourly", "price_per_hour", "pricePerHour"]).and_then(Value::decimal);
    let address = field(&["ipAddress", "ip_address", "ip"]).and_then(Value::text).map(|ip| ip.trim().to_owned());
    let address = address.filter(|ip| !ip.is_empty() && ip.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'-')));
    // Without any forward the address is the machine's own; with forwards, only a forwarded port leads to it.
    let port = match ports.iter().find(|(inside, _)| *inside == 22) {
        Some((_, outside)) => Some(*outside),
        None => ports.is_empty().then_some(22),
    };
    let endpoint = |(host, port)| SshEndpoint { host, port, user: USER.to_owned(), proxied: false };
    Some(Sighting {
        native_id,
        label: field(&["name"]).and_then(Value::text).map(|name| clip(&name, 256)),
        status: status(&raw),
        progress: Some(raw_status.clone()),
        raw_status,
        public_host: address.clone(),
        endpoints: address.zip(port).map(endpoint).into_iter().collect(),
        ports,
        price: rate.and_then(|rate| Rate::parse(&rate)).filter(|rate| rate.0 > 0).map(PriceSeen::Total),
        interruptible: Some(false),
        machine: None,
        gpu_percent: None,
    })
}

/// What an instance does. Total: a word that we don't know is `Unknown`.
#[must_use]
pub fn status(raw: &str) -> InstanceStatus {
    use InstanceStatus as S;
    let word: String = raw.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    match word.as_str() {
        "queued" | "pending" | "scheduled" => S::Scheduled,
        "creating" | "provisioning" | "starting" | "booting" | "restarting" | "rebooting" => S::Starting,
        "running" => S::Running,
        // On its way to stopped, and billed all the same.
        "stopping" | "stopped" | "stoppeddisassociated" | "disassociated" => S::Stopped,
        "error" | "failed" => S::Failed,
        "deleting" | "terminating" => S::Deleting,
        "deleted" | "terminated" => S::Gone,
        _ => S::Unknown,
    }
}

/// Forwarded ports, inside → outside. External 0 = not given yet.
fn ports(value: Option<Value<'_>>) -> Vec<(u16, u16)> {
    let rows = value.and_then(Value::rows).unwrap_or_default();
    let port =
        |row: &Object<'_>, names: &[&str]| row.first(names).and_then(Value::int).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let pair = |row: &Object<'_>| Some((port(row, &["internal_port", "internalPort"])?, port(row, &["external_port", "externalPort"])?));
    let mapped: BTreeMap<u16, u16> = rows.iter().flatten().filter_map(pair).collect();
    mapped.into_iter().collect()
}

/// The vendor's complaint in place of a body that made no sense, where there is one.
#[must_use]
pub fn or_complaint(reply: &Reply, fault: Fault) -> Fault {
    if complaint(reply).is_some() { refusal(reply) } else { fault }
}

#[cfg(test)]
mod tests;
