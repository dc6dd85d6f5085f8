//! Every answer of Vast.ai that we know, and what we make of it.

use super::*;
use crate::domain::ids::{Label, MachineId, OfferId, ProviderId, SessionId, Tag};
use crate::domain::money::Nanos;
use crate::domain::offer::Offer;
use crate::domain::time::{Look, Time};
use crate::ports::Certainty;
use crate::providers::vastai::offers;
use std::sync::Arc;
use std::time::Duration;

fn reply(status: u16, body: &str) -> Reply {
    let look = Look { sent: Time::from_millis(1), answered: Time::from_millis(2) };
    Reply { status, body: body.as_bytes().to_vec(), look, retry_after: None }
}

fn offer(rental: RentalKind) -> Arc<Offer> {
    let body = r#"{"offers":[{"id":4711,"gpu_name":"A40","num_gpus":1,"gpu_ram":46068,"dph_base":0.3,"min_bid":0.125}]}"#;
    offers::read(body.as_bytes(), rental, Time::from_millis(0)).unwrap().offers.remove(0)
}

fn spec(rental: RentalKind) -> LaunchSpec {
    LaunchSpec {
        label: Label { tag: Tag::from_hash([1, 2, 3, 4, 5]), session: SessionId::new(Time::from_millis(5), 9), attempt: 1 },
        offer: offer(rental),
        image: None,
        disk_gb: 60,
        bid: None,
        public_keys: Vec::new(),
        env: BTreeMap::from([("A".to_owned(), "b \"c\"".to_owned())]),
        on_start: Some("echo hi".to_owned()),
        ports: Vec::new(),
        template: None,
        service: None,
        registry: None,
    }
}

fn instance(body: &str) -> Sighting {
    let body = format!(r#"{{"instances":{body}}}"#);
    read_instance(&reply(200, &body), "7").unwrap().unwrap()
}

#[test]
fn a_launch_says_all_it_must_and_bids_only_for_bids() {
    let whole: serde_json::Value = serde_json::from_slice(&launch_body(&spec(RentalKind::OnDemand), "img:1").unwrap()).unwrap();
    let expected = serde_json::json!({
        "client_id": "me", "image": "img:1", "disk": 60, "label": spec(RentalKind::OnDemand).label.to_string(),
        "runtype": "ssh_direc ssh_proxy", "env": {"A": "b \"c\""}, "onstart": "echo hi",
        "cancel_unavail": true, "target_state": "running", "python_utf8": true, "lang_utf8": true,
    });
    assert_eq!(whole, expected, "and no `price`");
    let bid = |bid: Option<Rate>| {
        let spec = LaunchSpec { bid, ..spec(RentalKind::Interruptible) };
        String::from_utf8(launch_body(&spec, "img:1").unwrap()).unwrap()
    };
    assert!(bid(None).contains(r#""price":0.125,"#), "the lowest bid that wins is the default");
    assert!(bid(Rate::parse("0.2000000001")).contains(r#""price":0.2000000001,"#));
    let mut bidless = spec(RentalKind::Interruptible);
    Arc::make_mut(&mut bidless.offer).min_bid = None;
    assert_eq!(launch_body(&bidless, "i").unwrap_err().kind, ErrorKind::Invalid);
}

#[test]
fn a_server_program_ports_and_a_registry_login_are_said_in_the_vendors_words() {
    use crate::domain::service::Service;
    use crate::domain::session::RegistryLogin;
    let words = |all: &[&str]| all.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let mut spec = spec(RentalKind::OnDemand);
    spec.env = [("A".to_owned(), "1".to_owned())].into();
    spec.on_start = Some("echo hi".to_owned());
    (spec.ports, spec.template) = (vec![8000, 9000], Some("ab12".to_owned()));
    let (entrypoint, arguments) = (words(&["python3", "-m", "server"]), words(&["--model", "it's"]));
    spec.service = Some(Service { image: "img".to_owned(), entrypoint, arguments, port: Some(8000) });
    spec.registry = Some(RegistryLogin { server: "ghcr.io".to_owned(), username: "alice".to_owned(), password: "pw".to_owned() });
    let body: serde_json::Value = serde_json::from_slice(&launch_body(&spec, "default").unwrap()).unwrap();
    assert_eq!(body["env"], serde_json::json!({"A": "1", "-p 8000:8000": "1", "-p 9000:9000": "1"}));
    assert_eq!((body["image_login"].as_str(), body["template_hash_id"].as_str()), (Some("-u alice -p pw ghcr.io"), Some("ab12")));
    let program = r"nohup 'python3' '-m' 'server' '--model' 'it'\''s' >/var/log/gpu-shopper-service.log 2>&1 &";
    assert_eq!(body["onstart"].as_str().unwrap(), format!("echo hi\n{program}"));
    assert_eq!(body["runtype"], "ssh_direc ssh_proxy", "whatever a template was made for");
    assert!(!format!("{spec:?}").contains("pw") && !format!("{spec:?}").contains("echo hi"));
    // Start commands that are the program themselves stand alone.
    spec.service = Some(Service { image: "img".to_owned(), entrypoint: Vec::new(), arguments: Vec::new(), port: None });
    let body: serde_json::Value = serde_json::from_slice(&launch_body(&spec, "default").unwrap()).unwrap();
    assert_eq!(body["onstart"], "echo hi");
}

#[test]
fn an_id_in_any_answer_is_a_machine() {
    let launched = |status, body| read_launch(&reply(status, body)).unwrap();
    let plain = launched(200, r#"{"success":true,"new_contract":33,"instance_api_key":"canary"}"#);
    assert_eq!((plain.native_id.as_str(), plain.failed), ("33", None));
    assert_eq!(launched(200, r#"{"new_contract":"34"}"#).native_id, "34");
    for (status, body) in [
        (400, r#"{"success":false,"error":"invalid_price","msg":"bid too low","new_contract":35,"instance_api_key":"canary"}"#),
        (200, r#"{"success":false,"error":"x","msg":"bid too low","new_contract":35}"#),
        (429, r#"{"error":"rate_limit_exceeded","msg":"bid too low","new_contract":35}"#),
        (500, r#"{"msg":"bid too low","new_contract":35}"#),
    ] {
        let failed = launched(status, body);
        assert_eq!(failed.native_id, "35");
        let text = failed.failed.unwrap();
        assert!(text.contains("bid too low") && !text.contains("canary"), "{text}");
    }
}

#[test]
fn refused_launches_are_told_apart() {
    use Certainty::{DidNotHappen as No, MayHaveHappened as Maybe};
    use ErrorKind as K;
    for (status, body, kind, certainty) in [
        (
            400,
            r#"{"success":false,"error":"invalid_args","msg":"error 404/3603: no_such_ask  Instance type by id 9 is not available.","ask_id":9}"#,
            K::NoCapacity,
            No,
        ),
        (
            404,
            r#"{"success":false,"error":"invalid_args","msg":"error 404/3603: no_such_ask Instance type by id 9 is not available."}"#,
            K::NoCapacity,
            No,
        ),
        (
            410,
            r#"{"success":false,"error":"no_such_ask","msg":"error 410/3907: no_such_ask Instance type 9 is no longer available."}"#,
            K::NoCapacity,
            No,
        ),
        (404, r#"{"error":"not_found"}"#, K::NoCapacity, No),
        (200, r#"{"success":false,"error":"resources_unavailable","msg":"Required resources are currently unavailable"}"#, K::NoCapacity, No),
        (400, r#"{"error":"insufficient_credit","msg":"Your account lacks credit; see the billing page."}"#, K::Credit, No),
        (400, r#"{"error":"missing_billing","msg":"Billing required"}"#, K::Credit, No),
        (400, r#"{"success":false,"error":"invalid_args","msg":"error 400/3467: Invalid args: 'id' is required"}"#, K::Invalid, No),
        (400, r#"{"success":false,"error":"invalid_price","msg":"x"}"#, K::Invalid, No),
        (403, r#"{"success":false,"error":"invalid_args","msg":"error 403/3586: Offer 9 is not your own."}"#, K::Invalid, No),
        (401, r#"{"success":false,"error":"auth_error","msg":"Invalid user key"}"#, K::Auth, No),
        (404, r#"{"success":false,"error":"auth_error","msg":"Invalid user key"}"#, K::Auth, No),
        (403, r#"{"msg":"This action requires login."}"#, K::Auth, No),
        (429, "API requests too frequent: endpoint threshold=4.5*1.0", K::RateLimited, No),
        (429, r#"{"message":"too many requests by the client.\n\nAPI requests too frequent","code":"429 Too Many Requests"}"#, K::RateLimited, No),
        (500, "oops", K::Unavailable, Maybe),
        (502, "<html>Bad gateway</html>", K::Unavailable, Maybe),
        (200, "<html>hello</html>", K::Garbled, Maybe),
        (200, "{\"success\":true}", K::Garbled, Maybe),
        (200, "{\"success\":true,\"new_contract\":0}", K::Garbled, Maybe),
        (200, "", K::Garbled, Maybe),
        (418, "{}", K::Invalid, No),
    ] {
        let fault = read_launch(&reply(status, body)).unwrap_err();
        assert_eq!((fault.kind, fault.certainty), (kind, certainty), "{status} {body}");
    }
}

#[test]
fn every_status_word_has_a_meaning_and_others_mean_unknown() {
    use InstanceStatus as S;
    let running = ["running", "running", "running"].map(str::to_owned);
    for (word, meaning) in [
        ("", S::Scheduled),
        ("created", S::Scheduled),
        ("scheduling", S::Scheduled),
        ("loading", S::Starting),
        ("restarting", S::Starting),
        ("rebooting", S::Starting),
        ("running", S::Running),
        ("exited", S::Starting),
        ("stopped", S::Stopped),
        ("frozen", S::Stopped),
        ("offline", S::Offline),
        ("unknown", S::Unknown),
        ("destroying", S::Deleting),
        ("sparkling", S::Unknown),
    ] {
        assert_eq!(status(word, &running, ""), meaning, "{word}");
    }
}

#[test]
fn what_is_meant_outweighs_what_is_said() {
    use InstanceStatus as S;
    for (body, meaning) in [
        (r#"{"actual_status":"created","intended_status":"stopped","cur_state":"stopped","next_state":"stopped"}"#, S::Stopped),
        (r#"{"actual_status":"loading","intended_status":"stopped"}"#, S::Stopped),
        (r#"{"actual_status":"running","next_state":"stopped"}"#, S::Stopped),
        (r#"{"actual_status":"offline","intended_status":"stopped","cur_state":"stopped"}"#, S::Stopped),
        (r#"{"actual_status":"exited","intended_status":"stopped","cur_state":"stopped","next_state":"stopped","is_bid":true}"#, S::Stopped),
        (r#"{"actual_status":"exited","intended_status":"running","cur_state":"running"}"#, S::Starting),
        (r#"{"actual_status":"exited","intended_status":"running","cur_state":"exited","status_msg":"insufficient free disk"}"#, S::Failed),
        (r#"{"actual_status":"exited"}"#, S::Failed),
        (r#"{"actual_status":null,"intended_status":"running","cur_state":"running","status_msg":null,"ports":null}"#, S::Scheduled),
        (r#"{"actual_status":"LOADING","status_msg":"4f4fb700ef54: Pull complete\n"}"#, S::Starting),
        (
            r#"{"actual_status":"created","intended_status":"stopped","status_msg":"Error response from daemon: OCI runtime create failed"}"#,
            S::Failed,
        ),
        (r#"{"actual_status":"running","status_msg":"Error response from daemon: old"}"#, S::Running),
        (r#"{"actual_status":7}"#, S::Scheduled),
        ("{}", S::Scheduled),
    ] {
        assert_eq!(instance(body).status, meaning, "{body}");
    }
    let moving = instance(r#"{"actual_status":"loading","status_msg":"4f4fb700ef54: Pull complete\n"}"#);
    assert_eq!(moving.raw_status, "loading: 4f4fb700ef54: Pull complete");
    assert_ne!(moving.progress, instance(r#"{"actual_status":"loading","status_msg":"5aaaa: Pull complete"}"#).progress);
}

#[test]
fn a_running_instance_is_read_whole() {
    let seen = instance(
        r#"{"id":7,"label":"gs-x","actual_status":"running","public_ipaddr":" 192.0.2.9\n","ssh_host":"ssh3.vast.ai","ssh_port":12296,
        "image_runtype":"ssh_direc ssh_proxy",
        "ports":{"22/tcp":[{"HostIp":"0.0.0.0","HostPort":"30022"},{"HostIp":"::","HostPort":"30022"}],"8000/tcp":[{"HostPort":30023}],
        "53/udp":[{"HostPort":"5"}],"9/tcp":null},
        "machine_id":43973,"is_bid":false,"dph_base":1.0,"dph_total":1.0020740740740741,"jupyter_token":"canary","instance_api_key":"canary"}"#,
    );
    let ssh = |host: &str, port, proxied| SshEndpoint { host: host.to_owned(), port, user: "root".to_owned(), proxied };
    assert_eq!(seen.endpoints, [ssh("192.0.2.9", 30022, false), ssh("ssh3.vast.ai", 12296, true)]);
    assert_eq!(seen.ports, [(22, 30022), (8000, 30023)]);
    assert_eq!(seen.machine, Some(MachineId::new("vastai:43973")));
    assert_eq!((seen.interruptible, seen.label.as_deref()), (Some(false), Some("gs-x")));
    let price = Price { gpu: Rate::parse("1").unwrap(), disk: Rate::parse("0.002074074074").unwrap(), ..Price::default() };
    assert_eq!(seen.price, Some(PriceSeen::Parts(price)));
    assert!(!format!("{seen:?}").contains("canary"));
    let jupyter =
        instance(r#"{"actual_status":"running","ssh_host":"ssh1.vast.ai","ssh_port":10,"image_runtype":"jupyter_direc ssh_proxy","ports":[22]}"#);
    assert_eq!(jupyter.endpoints, [ssh("ssh1.vast.ai", 11, true)]);
    for none in [r#"{"ssh_host":"...","ssh_port":5}"#, r#"{"ssh_host":"a/b","ssh_port":5}"#, r#"{"ssh_host":"h","ssh_port":70000}"#, "{}"] {
        assert!(instance(none).endpoints.is_empty(), "{none}");
    }
}

#[test]
fn prices_are_taken_by_part_where_they_can_be() {
    let price = |body: &str| instance(body).price;
    let rate = |text: &str| Rate::parse(text).unwrap();
    let parts = |gpu: &str, disk: &str| Some(PriceSeen::Parts(Price { gpu: rate(gpu), disk: rate(disk), ..Price::default() }));
    assert_eq!(price(r#"{"actual_status":"running","dph_base":0.5,"dph_total":0.6}"#), parts("0.5", "0.1"));
    assert_eq!(price(r#"{"actual_status":"running","dph_total":0.6,"storage_cost":0.72,"disk_space":50.0}"#), parts("0.55", "0.05"));
    assert_eq!(price(r#"{"actual_status":"running","dph_total":0.6}"#), Some(PriceSeen::Total(rate("0.6"))));
    assert_eq!(price(r#"{"actual_status":"stopped","dph_total":0.05}"#), None, "a stopped machine's sum has no GPU in it");
    assert_eq!(price(r#"{"actual_status":"stopped","dph_base":0.5,"dph_total":0.05,"storage_total_cost":0.05}"#), parts("0.5", "0.05"));
    assert_eq!(price(r#"{"actual_status":"running","dph_total":"NaN"}"#), None);
}

#[test]
fn gone_is_null_or_the_vendors_own_not_found() {
    let read = |status, body| read_instance(&reply(status, body), "7");
    for (status, body) in [
        (200, r#"{"instances":null}"#),
        (200, r#"{"instances":[]}"#),
        (404, r#"{"success":false,"error":"no_such_instance","msg":"Instance 7 not found."}"#),
        (404, r#"{"success":false,"error":"not_found","msg":"Instance not found"}"#),
        (200, r#"{"success":false,"error":"no_such_instance"}"#),
    ] {
        assert_eq!(read(status, body), Ok(None), "{status} {body}");
    }
    for (status, body, kind) in [
        (404, "<html>nginx</html>", ErrorKind::NotFound),
        (404, "", ErrorKind::NotFound),
        (404, r#"{"detail":"Not Found"}"#, ErrorKind::NotFound),
        (404, r#"{"error":"auth_error","msg":"Invalid user key"}"#, ErrorKind::Auth),
        (200, "{}", ErrorKind::Garbled),
        (200, "<html>", ErrorKind::Garbled),
        (200, r#"{"instances":5}"#, ErrorKind::Garbled),
        (200, r#"{"instances":{"id":8}}"#, ErrorKind::Garbled),
        (500, r#"{"instances":null}"#, ErrorKind::Unavailable),
    ] {
        assert_eq!(read(status, body).unwrap_err().kind, kind, "{status} {body}");
    }
    assert_eq!(read(200, r#"{"instances":[{"id":6},{"id":"7"}]}"#).unwrap().unwrap().native_id, "7");
}

#[test]
fn a_page_is_whole_or_an_error() {
    let page =
        read_page(&reply(200, r#"{"success":true,"instances_found":1,"total_instances":42,"next_token":"t","instances":[{"id":1,"label":"a"}]}"#))
            .unwrap();
    assert_eq!((page.sightings.len(), page.next.as_deref(), page.counted), (1, Some("t"), Some(42)));
    let old = read_page(&reply(200, r#"{"instances":[{"id":1},{"id":2}]}"#)).unwrap();
    assert_eq!((old.sightings.len(), old.next, old.counted), (2, None, None));
    for (status, body) in [
        (200, "{}"),
        (200, r#"{"instances":null}"#),
        (200, r#"{"instances":{}}"#),
        (200, r#"{"instances":[{"label":"a"}]}"#),
        (200, r#"{"instances":[null]}"#),
        (200, r#"{"success":false,"instances":[]}"#),
        (200, ""),
        (500, r#"{"instances":[]}"#),
    ] {
        assert!(read_page(&reply(status, body)).is_err(), "{status} {body}");
    }
}

#[test]
fn destroys_are_accepted_absent_put_off_or_errors() {
    let read = |status, body| read_destroy(&reply(status, body));
    assert_eq!(read(200, r#"{"success":true,"msg":"Instance destroyed successfully"}"#), Ok(DestroyAnswer::Accepted));
    assert_eq!(read(204, ""), Ok(DestroyAnswer::Accepted));
    assert_eq!(read(404, r#"{"success":false,"error":"not_found","msg":"Instance not found"}"#), Ok(DestroyAnswer::NotThere));
    assert_eq!(read(200, r#"{"success":false,"error":"no_such_instance"}"#), Ok(DestroyAnswer::NotThere));
    assert!(matches!(read(400, r#"{"success":false,"error":"invalid_args","msg":"not ready for deletion"}"#), Ok(DestroyAnswer::Refused { .. })));
    for (status, body, kind) in [
        (400, r#"{"success":false,"error":"invalid_args","msg":"invalid instance_id"}"#, ErrorKind::Invalid),
        (404, "<html>", ErrorKind::NotFound),
        (200, r#"{"success":false,"msg":"no"}"#, ErrorKind::Garbled),
        (200, "<html>", ErrorKind::Garbled),
        (429, r#"{"success":false,"error":"rate_limit_exceeded"}"#, ErrorKind::RateLimited),
        (503, "", ErrorKind::Unavailable),
        (401, "", ErrorKind::Auth),
    ] {
        assert_eq!(read(status, body).unwrap_err().kind, kind, "{status} {body}");
    }
}

#[test]
fn a_queued_start_is_an_order_taken() {
    let queued = r#"{"success":false,"error":"resources_unavailable","msg":"Required resources are currently unavailable, state change queued."}"#;
    assert_eq!(read_start(&reply(200, queued)), Ok(()));
    assert_eq!(read_start(&reply(200, r#"{"success":false,"error":"resources_unavailable","msg":"no"}"#)).unwrap_err().kind, ErrorKind::NoCapacity);
    assert_eq!(read_start(&reply(200, r#"{"success":true}"#)), Ok(()));
}

#[test]
fn accounts_have_an_identity_whatever_the_vendor_tells() {
    let read = |body| read_account(&reply(200, body), "key-1234").unwrap();
    assert_eq!(read(r#"{"id":55,"credit":225.43,"balance":1}"#), Account { identity: "55".to_owned(), balance: Some(Nanos(225_430_000_000)) });
    assert_eq!(read(r#"{"credit":-0.5}"#), Account { identity: "key-1234".to_owned(), balance: Some(Nanos(-500_000_000)) });
    let by_mail = read(r#"{"id":0,"email":"someone@example.org","balance":0.0}"#);
    assert!(by_mail.identity.starts_with("email-") && !by_mail.identity.contains("someone"));
    for (status, body, kind) in [
        (401, r#"{"error":"auth_error","msg":"Invalid user key"}"#, ErrorKind::Auth),
        (404, "", ErrorKind::Auth),
        (200, "{}", ErrorKind::Garbled),
        (200, "[]", ErrorKind::Garbled),
        (500, "", ErrorKind::Unavailable),
    ] {
        assert_eq!(read_account(&reply(status, body), "k").unwrap_err().kind, kind, "{status} {body}");
    }
}

#[test]
fn an_offer_of_another_provider_is_never_launched() {
    let foreign = OfferId::new("tensordock-loc-1-a-1x");
    assert_eq!(offers::parse_offer_id(foreign.as_str()), None);
    assert_eq!(offer(RentalKind::OnDemand).provider, ProviderId::new("vastai"));
}

#[test]
fn a_refused_destroy_holds_until_the_vendor_says() {
    let refusal = Reply {
        retry_after: Some(Duration::from_secs(600)),
        ..reply(400, r#"{"success":false,"error":"invalid_args","msg":"not ready for deletion"}"#)
    };
    let Ok(DestroyAnswer::Refused { until, .. }) = read_destroy(&refusal) else { panic!("{refusal:?}") };
    assert_eq!(until, Some(refusal.look.answered + Duration::from_secs(600)));
    let silent = Reply { retry_after: None, ..refusal };
    assert!(matches!(read_destroy(&silent), Ok(DestroyAnswer::Refused { until: None, .. })));
}
