//! Every answer of TensorDock that we know, and what we make of it.

use super::*;
use crate::domain::ids::{Label, SessionId, Tag};
use crate::domain::time::{Look, Time};
use crate::ports::Certainty;
use crate::providers::tensordock::offers;
use std::sync::Arc;
use std::time::Duration;

fn reply(status: u16, body: &str) -> Reply {
    let look = Look { sent: Time::from_millis(1), answered: Time::from_millis(2) };
    Reply { status, body: body.as_bytes().to_vec(), look, retry_after: None }
}

fn spec(dedicated: &str) -> LaunchSpec {
    let body = format!(
        r#"[{{"id":"loc-1","gpus":[{{"v0Name":"rtxa4000-pcie-16gb","max_count":2,"price_per_hr":0.1,
        "network_features":{{"dedicated_ip_available":{dedicated}}}}}]}}]"#
    );
    LaunchSpec {
        label: Label { tag: Tag::from_hash([1, 2, 3, 4, 5]), session: SessionId::new(Time::from_millis(5), 9), attempt: 1 },
        offer: offers::read(body.as_bytes(), Time::from_millis(0)).unwrap().offers.remove(1),
        image: None,
        disk_gb: 150,
        bid: None,
        public_keys: vec!["ssh-ed25519 AAAAone one\n".to_owned(), "ssh-ed25519 AAAAtwo it's $(two)".to_owned()],
        env: BTreeMap::from([("TOKEN_1".to_owned(), "it's $HOME".to_owned())]),
        on_start: Some("echo 'hi'".to_owned()),
        ports: Vec::new(),
        template: None,
        service: None,
        registry: None,
    }
}

fn body(spec: &LaunchSpec) -> serde_json::Value {
    serde_json::from_slice(&launch_body(spec, "img").unwrap()).unwrap()
}

fn unpack(line: &str) -> String {
    let packed = line.split("echo ").nth(1).unwrap().split(' ').next().unwrap();
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(packed).unwrap()).unwrap()
}

#[test]
fn a_launch_says_all_it_must() {
    let whole = body(&spec("true"));
    assert_eq!(whole["data"]["type"], "virtualmachine");
    let attributes = &whole["data"]["attributes"];
    assert_eq!(attributes["name"], spec("true").label.to_string());
    assert_eq!((&attributes["image"], &attributes["location_id"]), (&json!("img"), &json!("loc-1")));
    let resources = json!({"vcpu_count": 16, "ram_gb": 64, "storage_gb": 150, "gpus": {"rtxa4000-pcie-16gb": {"count": 2}}});
    assert_eq!(attributes["resources"], resources);
    assert_eq!(attributes["ssh_key"], "ssh-ed25519 AAAAone one");
    assert_eq!((&attributes["useDedicatedIp"], attributes.get("port_forwards")), (&json!(true), None));
    let forwarded = body(&spec("false"));
    let attributes = &forwarded["data"]["attributes"];
    assert_eq!(attributes["port_forwards"], json!([{"internal_port": 22, "external_port": 0}]));
    assert_eq!(attributes.get("useDedicatedIp"), None);
}

#[test]
fn the_boot_script_installs_every_key_for_both_users() {
    let whole = body(&spec("null"));
    let lines: Vec<&str> =
        whole["data"]["attributes"]["cloud_init"]["runcmd"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(lines.len(), 5);
    assert!(lines[0].contains("unattended-upgrades"));
    for (line, user, home) in [(lines[1], "root", "/root"), (lines[2], "user", "/home/user")] {
        assert_eq!(unpack(line), "ssh-ed25519 AAAAone one\nssh-ed25519 AAAAtwo it's $(two)\n");
        for part in [format!("install -d -m 700 -o {user} -g {user} {home}/.ssh"), format!("chmod 600 {home}/.ssh"), format!("chown {user}:{user}")] {
            assert!(line.contains(&part), "{line}");
        }
        assert!(!line.contains("$(two)") && !line.contains('\''), "keys travel packed");
    }
    assert_eq!(unpack(lines[3]), "export TOKEN_1='it'\\''s $HOME'\n");
    assert_eq!(unpack(lines[4]), "echo 'hi'\n");
}

#[test]
fn a_server_program_runs_in_its_container() {
    use crate::domain::service::Service;
    use crate::domain::session::RegistryLogin;
    let mut spec = spec("false");
    (spec.image, spec.ports) = (Some("vllm:1".to_owned()), vec![8000]);
    let arguments = vec!["--model".to_owned(), "a b".to_owned()];
    spec.service = Some(Service { image: "vllm:1".to_owned(), entrypoint: vec!["x".to_owned()], arguments, port: Some(8000) });
    spec.registry = Some(RegistryLogin { server: "ghcr.io".to_owned(), username: "alice".to_owned(), password: "pw".to_owned() });
    let lines = |spec: &LaunchSpec| {
        let whole = body(spec);
        let all = whole["data"]["attributes"]["cloud_init"]["runcmd"].as_array().unwrap().clone();
        all.iter().map(|line| line.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let attributes = body(&spec)["data"]["attributes"].clone();
    assert_eq!(attributes["image"], "img", "the machine's system, not the container's image");
    assert_eq!(attributes["port_forwards"], json!([{"internal_port": 22, "external_port": 0}, {"internal_port": 8000, "external_port": 0}]));
    let said = lines(&spec);
    assert_eq!(unpack(&said[5]), "TOKEN_1=it's $HOME\n");
    assert!(said[5].starts_with("install -m 600 "), "{}", said[5]);
    assert!(said[6].ends_with("docker login --username 'alice' --password-stdin 'ghcr.io'") && unpack(&said[6]) == "pw");
    assert!(said[7].starts_with("docker run --detach") && said[7].ends_with(" 'vllm:1' '--model' 'a b'"), "{}", said[7]);
    assert!(!said.concat().contains("pw"), "the password travels packed");
    // Start commands that are the program themselves run inside the container, and only there.
    spec.service = Some(Service { image: "own:1".to_owned(), entrypoint: Vec::new(), arguments: Vec::new(), port: None });
    let said = lines(&spec);
    assert!(!said.iter().any(|line| line.contains("gpu-shopper-start.sh")));
    let run = said.last().unwrap();
    assert!(run.contains("--entrypoint sh 'own:1' -c 'eval \"$(echo ") && unpack(run) == "echo 'hi'\n".trim_end(), "{run}");
}

#[test]
fn launches_that_cannot_be_said_are_refused_before_they_are_sent() {
    let refused = |change: fn(&mut LaunchSpec)| {
        let mut spec = spec("true");
        change(&mut spec);
        let fault = launch_body(&spec, "img").unwrap_err();
        assert_eq!((fault.kind, fault.certainty), (ErrorKind::Invalid, Certainty::DidNotHappen));
    };
    refused(|spec| spec.public_keys.clear());
    refused(|spec| spec.env = BTreeMap::from([("A;rm -rf /".to_owned(), String::new())]));
    refused(|spec| Arc::make_mut(&mut spec.offer).gpu_count = 1);
    refused(|spec| Arc::make_mut(&mut spec.offer).machine = crate::domain::ids::MachineId::new("vastai:1"));
}

#[test]
fn an_id_in_any_answer_is_a_machine() {
    let launched = |status, body| read_launch(&reply(status, body)).unwrap();
    for (body, id) in [
        (r#"{"data":{"type":"virtualmachine","id":"468b-1","name":"n","status":"running"}}"#, "468b-1"),
        (r#"{"data":{"id":"inst_456","name":"w","status":"queued"}}"#, "inst_456"),
        (r#"{"id":"inst_789","name":"w","status":"queued","message":"on its way"}"#, "inst_789"),
        (r#"{"data":{"attributes":{"id":"inst_1"}}}"#, "inst_1"),
    ] {
        assert_eq!((launched(200, body).native_id.as_str(), launched(200, body).failed), (id, None), "{body}");
    }
    assert_eq!(launched(500, r#"{"data":{"id":"x1"},"error":"boom"}"#).failed.as_deref(), Some("boom"));
    assert_eq!(launched(502, r#"{"id":"x1"}"#).failed.as_deref(), Some("HTTP 502"));
}

#[test]
fn refused_launches_are_told_apart() {
    use Certainty::{DidNotHappen as No, MayHaveHappened as Maybe};
    use ErrorKind as K;
    for (status, body, kind, certainty) in [
        (200, r#"{"status":400,"error":"No available nodes found"}"#, K::NoCapacity, No),
        (200, r#"{"status":400,"error":"HOSTNODE unavailable"}"#, K::NoCapacity, No),
        (200, r#"{"status":404,"error":"No available public IPs"}"#, K::NoCapacity, No),
        (500, r#"{"error":"GPU out of stock"}"#, K::NoCapacity, No),
        (400, r#"{"errors":[{"status":"400","title":"Bad","detail":"Insufficient balance"}]}"#, K::Credit, No),
        (200, r#"{"status":400,"error":"You need at least $1 to deploy"}"#, K::Credit, No),
        (200, r#"[{"code":"custom","message":"SSH port (22) must be forwarded","path":["data",0]}]"#, K::Invalid, No),
        (400, r#"[{"code":"custom","message":"SSH port (22) must be forwarded","path":["data",0]}]"#, K::Invalid, No),
        (200, r#"{"status":422,"error":"storage too small"}"#, K::Invalid, No),
        (404, r#"{"error":"Location not found"}"#, K::NoCapacity, No),
        (401, r#"{"error":"Invalid API credentials"}"#, K::Auth, No),
        (403, "{}", K::Auth, No),
        (200, r#"{"status":401,"error":"Unauthorized"}"#, K::Auth, No),
        (429, r#"{"error":"Rate limit exceeded. Please try again later."}"#, K::RateLimited, No),
        (429, "slow down", K::RateLimited, No),
        (200, r#"{"status":500,"error":"internal"}"#, K::Unavailable, Maybe),
        (200, r#"{"error":"something odd"}"#, K::Unavailable, Maybe),
        (200, r#"{"data":{"type":"virtualmachine","id":"","name":"test","status":"creating"}}"#, K::Garbled, Maybe),
        (200, "<html>", K::Garbled, Maybe),
        (200, "", K::Garbled, Maybe),
        (504, "<html>", K::Unavailable, Maybe),
    ] {
        let fault = read_launch(&reply(status, body)).unwrap_err();
        assert_eq!((fault.kind, fault.certainty), (kind, certainty), "{status} {body}");
    }
    let both = r#"[{"code":"c","message":"one","path":["a","b"]},{"code":"c","message":"two","path":[]}]"#;
    assert_eq!(read_launch(&reply(200, both)).unwrap_err().text, "a.b: one; two", "all complaints are told");
}

#[test]
fn every_status_word_has_a_meaning_and_others_mean_unknown() {
    use InstanceStatus as S;
    for (word, meaning) in [
        ("running", S::Running),
        ("Running", S::Running),
        ("starting", S::Starting),
        ("creating", S::Starting),
        ("provisioning", S::Starting),
        ("queued", S::Scheduled),
        ("pending", S::Scheduled),
        ("stopping", S::Stopped),
        ("stopped", S::Stopped),
        ("stoppeddisassociated", S::Stopped),
        ("StoppedDisassociated", S::Stopped),
        ("stopped_disassociated", S::Stopped),
        ("deleting", S::Deleting),
        ("deleted", S::Gone),
        ("terminated", S::Gone),
        ("error", S::Failed),
        ("FAILED", S::Failed),
        ("", S::Unknown),
        ("sparkling", S::Unknown),
    ] {
        assert_eq!(status(word), meaning, "{word}");
    }
}

#[test]
fn instances_are_read_flat_wrapped_or_by_attributes() {
    let fields = r#""name":"gs-x","status":"running","ipAddress":"203.0.113.50","rateHourly":0.62,
        "portForwards":[{"internal_port":22,"external_port":22022},{"internal_port":80,"external_port":0}]"#;
    for body in [
        format!(r#"{{"type":"instance","id":"i-1",{fields}}}"#),
        format!(r#"{{"data":{{"id":"i-1",{fields}}}}}"#),
        format!(r#"{{"data":{{"id":"i-1","attributes":{{{fields}}}}}}}"#),
    ] {
        let seen = read_instance(&reply(200, &body), "i-1").unwrap().unwrap();
        let ssh = SshEndpoint { host: "203.0.113.50".to_owned(), port: 22022, user: "user".to_owned(), proxied: false };
        assert_eq!((seen.endpoints, seen.label.as_deref(), seen.status), (vec![ssh], Some("gs-x"), InstanceStatus::Running), "{body}");
        assert_eq!(seen.price, Rate::parse("0.62").map(PriceSeen::Total));
        assert_eq!(seen.ports, [(22, 22022)]);
    }
    let seen = |body| read_instance(&reply(200, body), "i-1").unwrap().unwrap();
    assert_eq!(seen(r#"{"id":"i-1","ipAddress":"203.0.113.5","portForwards":[]}"#).endpoints[0].port, 22, "an address of its own");
    assert!(seen(r#"{"id":"i-1","status":"running","ipAddress":"","portForwards":[]}"#).endpoints.is_empty());
    assert!(seen(r#"{"id":"i-1","ipAddress":"203.0.113.5","portForwards":[{"internal_port":80,"external_port":8080}]}"#).endpoints.is_empty());
}

#[test]
fn gone_is_the_vendors_own_not_found() {
    let read = |status, body| read_instance(&reply(status, body), "i-1");
    for (status, body) in [
        (404, r#"{"error":"Instance not found"}"#),
        (200, r#"{"status":404,"error":"Instance not found"}"#),
        (200, r#"{"error":"Instance does not exist"}"#),
        (404, r#"{"errors":[{"status":"404","title":"Not found"}]}"#),
    ] {
        assert_eq!(read(status, body), Ok(None), "{status} {body}");
    }
    for (status, body, kind) in [
        (404, "<html>", ErrorKind::NotFound),
        (404, "", ErrorKind::NotFound),
        (404, r#"{"error":"Not Found","message":"Route GET:/api/v2/instances/i-1 not found"}"#, ErrorKind::NotFound),
        (200, r#"{"error":"Internal error"}"#, ErrorKind::Unavailable),
        (200, r#"{"id":"i-2"}"#, ErrorKind::Garbled),
        (200, "{}", ErrorKind::Garbled),
        (401, r#"{"error":"Invalid API credentials"}"#, ErrorKind::Auth),
    ] {
        assert_eq!(read(status, body).unwrap_err().kind, kind, "{status} {body}");
    }
}

#[test]
fn lists_come_in_four_nestings_and_are_whole_or_an_error() {
    let read = |body: &str| read_instances(&reply(200, body)).map(|all| all.into_iter().map(|seen| seen.native_id).collect::<Vec<_>>());
    let (nested, flat) = (r#"[{"id":"a","attributes":{"name":"n","status":"running"}},{"id":"b"}]"#, r#"[{"id":"a"},{"id":"b"},{"id":"a"}]"#);
    for body in [
        format!(r#"{{"data":{{"instances":{nested}}}}}"#),
        format!(r#"{{"data":{{"type":"list","attributes":{{"instances":{nested}}}}}}}"#),
        format!(r#"{{"data":{flat}}}"#),
        flat.to_owned(),
        format!(r#"{{"instances":{flat},"next":null,"total":2}}"#),
    ] {
        assert_eq!(read(&body).unwrap(), ["a", "b"], "{body}");
    }
    assert!(read("[]").unwrap().is_empty());
    for body in [
        "{}",
        "",
        "<html>",
        r#"{"data":null}"#,
        r#"{"data":{"instances":null}}"#,
        r#"{"data":[{"name":"no id"}]}"#,
        r#"{"data":[],"meta":{"total":3}}"#,
        r#"{"success":false,"error":"internal","data":[]}"#,
        r#"{"success":false,"instances":[]}"#,
        r#"{"status":500,"data":{"instances":[]}}"#,
        r#"{"data":[],"links":{"next":"/x?page=2"}}"#,
        r#"{"status":500,"error":"x"}"#,
        r#"[{"code":"c","message":"m","path":[]}]"#,
    ] {
        assert!(read(body).is_err(), "{body}");
    }
    assert!(read_instances(&reply(500, "[]")).is_err());
}

#[test]
fn destroys_are_accepted_absent_put_off_or_errors() {
    let read = |status, body| read_destroy(&reply(status, body));
    let done = r#"{"data":{"type":"success","attributes":{"message":"Instance deleted successfully"}}}"#;
    assert_eq!(read(200, done), Ok(DestroyAnswer::Accepted));
    assert_eq!(read(200, r#"{"message":"Instance deleted"}"#), Ok(DestroyAnswer::Accepted));
    assert_eq!(read(204, ""), Ok(DestroyAnswer::Accepted));
    assert_eq!(read(404, r#"{"error":"Instance not found"}"#), Ok(DestroyAnswer::NotThere));
    for (status, body) in [
        (400, r#"{"error":"invalid_state: not ready for deletion"}"#),
        (200, r#"{"status":400,"error":"minimum rental term"}"#),
        (409, r#"{"error":"busy"}"#),
    ] {
        assert!(matches!(read(status, body), Ok(DestroyAnswer::Refused { .. })), "{status} {body}");
    }
    use Certainty::{DidNotHappen as No, MayHaveHappened as Maybe};
    for (status, body, kind, certainty) in [
        (200, r#"{"error":"Internal error"}"#, ErrorKind::Unavailable, Maybe),
        (200, "<html>", ErrorKind::Garbled, Maybe),
        (404, "<html>", ErrorKind::NotFound, No),
        (429, "", ErrorKind::RateLimited, No),
        (500, "", ErrorKind::Unavailable, Maybe),
    ] {
        let fault = read(status, body).unwrap_err();
        assert_eq!((fault.kind, fault.certainty), (kind, certainty), "{status} {body}");
    }
}

#[test]
fn a_refused_destroy_holds_until_the_vendor_says() {
    let refusal = Reply { retry_after: Some(Duration::from_secs(600)), ..reply(400, r#"{"error":"invalid_state: not ready for deletion"}"#) };
    let Ok(DestroyAnswer::Refused { until, .. }) = read_destroy(&refusal) else { panic!("{refusal:?}") };
    assert_eq!(until, Some(refusal.look.answered + Duration::from_secs(600)));
    let silent = Reply { retry_after: None, ..refusal };
    assert!(matches!(read_destroy(&silent), Ok(DestroyAnswer::Refused { until: None, .. })));
}
