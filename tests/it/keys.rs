//! Keys: told again to those who ask again, changed on running machines, missed when they are lost, and never a reason
//! to destroy.

use crate::support::real::Real;
use crate::support::{House, Plan, any, caller, request};
use gpu_shopper::domain::event::EventType;
use gpu_shopper::domain::ids::SessionId;
use gpu_shopper::domain::instance::SshEndpoint;
use gpu_shopper::domain::session::{ConditionType, Session, State, Truth};
use gpu_shopper::ports::SshProbe;
use gpu_shopper::services::api::{Command, Commanded, Create, Created, Idempotency, NewKey};
use gpu_shopper::services::error::Error;
use gpu_shopper::sim::{Faults, SimProbe, key_blob};
use gpu_shopper::ssh::keys::{LoginKey, generate_consumer_key};
use gpu_shopper::ssh::login_and_exec;
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const MILLI: Duration = Duration::from_millis(1);

fn pair(seed: u8) -> LoginKey {
    generate_consumer_key([seed; 32], "tester")
}

fn line(seed: u8) -> String {
    pair(seed).public_line().split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// A create whose key pair the server made, under one request id.
async fn create(house: &House, provider: &str) -> Created {
    let mut request = request(any(Some(provider)));
    request.public_key = line(1);
    let create = Create {
        idempotency: Some(Idempotency { request_id: "r-1".to_owned(), hash: "h".to_owned() }),
        request,
        labels: BTreeMap::new(),
        secrets: Default::default(),
        template: None,
        validate_only: false,
        private_key: Some("the first private key".to_owned().into()),
    };
    house.core().lifecycle.create(caller(), create).await.unwrap()
}

async fn rotate(house: &House, id: SessionId, seed: u8, request_id: &str) -> Result<Commanded, Error> {
    let key = NewKey { public: line(seed), private: Some(format!("private key {seed}").into()) };
    let idempotency = Idempotency { request_id: request_id.to_owned(), hash: "h".to_owned() };
    house.core().lifecycle.command(caller(), id, Command::RotateKey(key), Some(idempotency), false).await
}

fn told(created: &Created) -> Option<&str> {
    created.private_key.as_ref().map(ExposeSecret::expose_secret)
}

fn condition(session: &Session, kind: ConditionType) -> Option<(Truth, &str)> {
    session.condition(kind).map(|c| (c.status, c.reason.as_str()))
}

async fn ssh(house: &House, id: SessionId) -> (Truth, String) {
    let session = house.get(id).await;
    condition(&session, ConditionType::SshReachable).map(|(truth, why)| (truth, why.to_owned())).unwrap()
}

async fn events(house: &House, id: SessionId, kind: EventType) -> Vec<String> {
    house.events().await.into_iter().filter(|e| e.session_id == id && e.kind == kind).map(|e| e.message).collect()
}

fn native(house: &House) -> String {
    house.alive().into_iter().next().unwrap()
}

fn admits(house: &House, key: &str) -> bool {
    house.market.admits(&native(house), &key_blob(key).unwrap())
}

async fn finish(house: House, id: SessionId) {
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 10 * MINUTE).await;
    house.close().await;
}

// === a create's private key, told again ===

#[tokio::test(start_paused = true)]
async fn a_running_sessions_key_is_told_again_for_ten_minutes_to_the_millisecond() {
    let house = House::new(1, Faults::none()).await;
    let first = create(&house, "vastai").await;
    let (id, begun) = (first.session.id, first.session.created_at);
    assert_eq!((told(&first), first.replayed), (Some("the first private key"), false));
    house.until(id, State::Running, 5 * MINUTE).await;
    house.clock.sleep_until(begun + 10 * MINUTE).await;
    let last = create(&house, "vastai").await;
    assert_eq!((told(&last), last.replayed, last.warnings.len()), (Some("the first private key"), true, 0));
    assert_eq!((last.session.id, &last.resume_token), (id, &first.resume_token));
    house.clock.sleep_until(begun + 10 * MINUTE + MILLI).await;
    let late = create(&house, "vastai").await;
    assert_eq!((told(&late), late.replayed, late.session.id), (None, true, id));
    assert!(late.warnings.iter().any(|w| w.starts_with("KEY_NO_LONGER_AVAILABLE") && w.contains("RotateSessionKey")), "{:?}", late.warnings);
    finish(house, id).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_waits_for_a_machine_that_takes_longer() {
    let mut faults = Faults::none();
    faults.set("image_pull", "25m").unwrap();
    let mut house = Plan::new(2, faults).on_disk().build().await;
    let id = create(&house, "vastai").await.session.id;
    house.pass(20 * MINUTE).await;
    house.crash(MINUTE).await;
    house.pass(3 * MINUTE).await;
    assert_eq!(house.get(id).await.state, State::Provisioning);
    assert_eq!(told(&create(&house, "vastai").await), Some("the first private key"), "also after a crash");
    house.until(id, State::Running, 5 * MINUTE).await;
    assert_eq!(told(&create(&house, "vastai").await), None, "it runs, and ten minutes are over");
    finish(house, id).await;
}

#[tokio::test(start_paused = true)]
async fn the_key_of_a_session_that_never_ran_goes_with_it() {
    let house = House::new(3, Faults::none()).await;
    let id = create(&house, "vastai").await.session.id;
    house.command(id, Command::Destroy).await.unwrap();
    house.until(id, State::Stopped, 5 * MINUTE).await;
    assert_eq!(told(&create(&house, "vastai").await), Some("the first private key"), "for ten minutes in any case");
    house.pass(10 * MINUTE).await;
    assert_eq!(told(&create(&house, "vastai").await), None);
    house.close().await;
}

// === another key ===

#[tokio::test(start_paused = true)]
async fn a_key_is_changed_at_both_vendors_and_the_old_one_goes() {
    for (seed, provider) in [(4, "vastai"), (5, "tensordock")] {
        let mut faults = Faults::none();
        faults.set("boot", "30s").unwrap();
        let house = House::new(seed, faults).await;
        let first = create(&house, provider).await;
        let id = first.session.id;
        assert_eq!(rotate(&house, id, 2, "too-early").await.unwrap_err().reason, "SESSION_NOT_RUNNING");
        house.until(id, State::Running, 5 * MINUTE).await;
        assert!(admits(&house, &line(1)) && !admits(&house, &line(2)));
        let at = house.now();
        let asked = rotate(&house, id, 2, "k-1").await.unwrap();
        assert_eq!(condition(&asked.session, ConditionType::KeyInstalled), Some((Truth::False, "pending")));
        assert_eq!(asked.session.request.public_key, line(1), "not before the machine takes it");
        house.pass(MINUTE).await;
        let after = house.get(id).await;
        assert_eq!(condition(&after, ConditionType::KeyInstalled), Some((Truth::True, "installed")), "{provider}");
        assert_eq!((after.request.public_key.as_str(), after.rekey.is_none()), (line(2).as_str(), true));
        let verifier = SimProbe::new(Arc::clone(&house.market), house.secret).verifier_key(id);
        assert_eq!((admits(&house, &line(1)), admits(&house, &line(2)), admits(&house, &verifier)), (false, true, true), "{provider}");
        assert_eq!(events(&house, id, EventType::KeyRotated).await.len(), 1);
        assert_eq!(told(&create(&house, provider).await), None, "the key of the create is worthless now");
        let told_by = house.events().await.into_iter().find(|e| e.kind == EventType::KeyRotated).unwrap();
        assert_eq!(told_by.actor.text(), "user:tester");

        // The same call again does nothing new and gives the same key, for ten minutes.
        let again = rotate(&house, id, 3, "k-1").await.unwrap();
        assert_eq!((again.replayed, again.private_key.unwrap().expose_secret()), (true, "private key 2"));
        house.clock.sleep_until(at + 10 * MINUTE).await;
        assert!(rotate(&house, id, 3, "k-1").await.is_ok());
        house.pass(MILLI).await;
        let gone = rotate(&house, id, 3, "k-1").await.unwrap_err();
        assert_eq!((gone.reason, gone.message.contains("new request_id")), ("KEY_NO_LONGER_AVAILABLE", true));
        assert_eq!(events(&house, id, EventType::KeyRotated).await.len(), 1);

        house.command(id, Command::Destroy).await.unwrap();
        assert_eq!(rotate(&house, id, 4, "late").await.unwrap_err().reason, "SESSION_ENDED");
        house.until(id, State::Stopped, 10 * MINUTE).await;
        assert_eq!(rotate(&house, id, 4, "later").await.unwrap_err().reason, "SESSION_ENDED");
        house.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_changes_the_last_one_stays_and_no_key_between_them() {
    let house = House::new(6, Faults::none()).await;
    let id = create(&house, "tensordock").await.session.id;
    house.until(id, State::Running, 5 * MINUTE).await;
    rotate(&house, id, 2, "k-2").await.unwrap();
    rotate(&house, id, 3, "k-3").await.unwrap();
    house.pass(2 * MINUTE).await;
    assert_eq!([1, 2, 3].map(|seed| admits(&house, &line(seed))), [false, false, true]);
    assert_eq!(house.get(id).await.request.public_key, line(3));
    assert_eq!(rotate(&house, id, 9, "k-2").await.unwrap_err().reason, "KEY_NO_LONGER_AVAILABLE", "another one came after it");
    finish(house, id).await;
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_another_key_outlives_a_crash_and_a_silent_host() {
    let mut house = Plan::new(7, Faults::none()).on_disk().build().await;
    let id = create(&house, "tensordock").await.session.id;
    house.until(id, State::Running, 5 * MINUTE).await;
    let machine = native(&house);
    house.market.set_offline(&machine, true);
    let asked = rotate(&house, id, 2, "k-1").await.unwrap();
    house.pass(MINUTE).await;
    assert_eq!(condition(&*house.get(id).await, ConditionType::KeyInstalled), Some((Truth::False, "host_silent")));
    house.crash(MINUTE).await;
    let again = rotate(&house, id, 9, "k-1").await.unwrap();
    assert_eq!((again.replayed, again.private_key.unwrap().expose_secret()), (true, "private key 2"));
    assert_eq!(again.resume_token, asked.resume_token);
    house.market.set_offline(&machine, false);
    house.pass(6 * MINUTE).await;
    assert!(admits(&house, &line(2)) && !admits(&house, &line(1)));
    assert_eq!(events(&house, id, EventType::KeyRotated).await.len(), 1);
    finish(house, id).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_only_checked_changes_nothing() {
    let house = House::new(8, Faults::none()).await;
    let id = create(&house, "vastai").await.session.id;
    house.until(id, State::Running, 5 * MINUTE).await;
    let key = NewKey { public: line(2), private: None };
    let checked = house.core().lifecycle.command(caller(), id, Command::RotateKey(key), None, true).await.unwrap();
    assert_eq!(condition(&checked.session, ConditionType::KeyInstalled), Some((Truth::False, "pending")));
    house.pass(MINUTE).await;
    assert!(admits(&house, &line(1)) && house.get(id).await.condition(ConditionType::KeyInstalled).is_none());
    finish(house, id).await;
}

// === what is noticed of a machine in use ===

#[tokio::test(start_paused = true)]
async fn a_lost_key_is_noticed_told_once_and_put_back_where_the_vendor_can() {
    for (seed, provider) in [(9, "vastai"), (10, "tensordock")] {
        let house = House::new(seed, Faults::none()).await;
        let id = house.rent(Some(provider)).await.session.id;
        house.until(id, State::Running, 5 * MINUTE).await;
        house.pass(25 * MINUTE).await;
        let changes = async || {
            let all = events(&house, id, EventType::ConditionChanged).await;
            all.into_iter().filter(|e| e.starts_with("ssh_reachable")).collect::<Vec<_>>()
        };
        assert_eq!(changes().await, Vec::<String>::new(), "nothing changes, nothing is told");
        assert!(house.market.lose_keys(&native(&house)));
        house.pass(11 * MINUTE).await;
        let seen = changes().await;
        if provider == "vastai" {
            assert_eq!(seen, ["ssh_reachable is false: key_refused", "ssh_reachable is true: login"]);
            let session = house.get(id).await;
            assert!(admits(&house, &session.request.public_key), "the consumer's key is back as well");
        } else {
            assert_eq!(seen, ["ssh_reachable is false: key_refused"]);
            house.pass(15 * MINUTE).await;
            assert_eq!(changes().await.len(), 1, "once, however often it is looked at");
        }
        assert_eq!(house.get(id).await.state, State::Running, "never grounds to destroy");
        finish(house, id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn silence_a_refused_key_and_another_host_key_are_told_apart() {
    let house = House::new(11, Faults::none()).await;
    let id = house.rent(Some("tensordock")).await.session.id;
    house.until(id, State::Running, 5 * MINUTE).await;
    let machine = native(&house);
    assert!(house.market.change_host_key(&machine));
    house.pass(11 * MINUTE).await;
    assert_eq!(ssh(&house, id).await, (Truth::False, "host_key_changed".to_owned()));
    // TensorDock's lists go on calling it running.
    house.market.set_offline(&machine, true);
    house.pass(11 * MINUTE).await;
    assert_eq!(ssh(&house, id).await, (Truth::False, "host_silent".to_owned()));
    assert_eq!(house.get(id).await.state, State::Running);
    finish(house, id).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_is_found_again_soon() {
    let house = House::new(12, Faults::none()).await;
    let id = house.rent(Some("tensordock")).await.session.id;
    house.until(id, State::Running, 5 * MINUTE).await;
    let machine = native(&house);
    house.market.set_offline(&machine, true);
    house.pass(11 * MINUTE).await;
    assert_eq!(ssh(&house, id).await, (Truth::False, "host_silent".to_owned()));
    house.market.set_offline(&machine, false);
    house.pass(4 * MINUTE).await;
    assert_eq!(ssh(&house, id).await, (Truth::True, "login".to_owned()));
    finish(house, id).await;
}

#[tokio::test(start_paused = true)]
async fn diagnostics_tell_what_they_saw() {
    let house = House::new(13, Faults::none()).await;
    let id = house.rent(Some("tensordock")).await.session.id;
    house.until(id, State::Running, 5 * MINUTE).await;
    assert!(house.market.lose_keys(&native(&house)));
    let known = house.core().sessions.diagnostics(&caller(), id).await.unwrap();
    assert!(known.fresh_gpu.unwrap().unwrap_err().starts_with("auth_failed"));
    house.pass(MILLI).await;
    assert_eq!(ssh(&house, id).await, (Truth::False, "key_refused".to_owned()), "at once, not at the next look");
    finish(house, id).await;
}

#[tokio::test(start_paused = true)]
async fn a_look_while_the_host_is_briefly_offline_ends_nothing() {
    let house = House::new(14, Faults::none()).await;
    let id = house.rent(Some("vastai")).await.session.id;
    house.until(id, State::Running, 5 * MINUTE).await;
    let machine = native(&house);
    house.market.set_offline(&machine, true);
    house.pass(2 * MINUTE).await;
    assert!(house.get(id).await.pace.offline_since.is_some());
    house.core().sessions.diagnostics(&caller(), id).await.unwrap();
    house.pass(MINUTE).await;
    assert_eq!(house.get(id).await.state, State::Running, "ten minutes, not three");
    house.market.set_offline(&machine, false);
    finish(house, id).await;
}

// === another secret ===

#[tokio::test(start_paused = true)]
async fn with_another_secret_nobody_knows_and_nothing_is_destroyed() {
    for (seed, provider) in [(15, "vastai"), (16, "tensordock")] {
        let mut house = Plan::new(seed, Faults::none()).on_disk().build().await;
        let running = create(&house, provider).await.session.id;
        house.until(running, State::Running, 5 * MINUTE).await;
        house.secret = [8; 32];
        house.crash(MINUTE).await;
        house.pass(20 * MINUTE).await;
        let want = if provider == "vastai" { (Truth::True, "login") } else { (Truth::Unknown, "verifier_key_lost") };
        let seen = ssh(&house, running).await;
        assert_eq!((seen.0, seen.1.as_str()), want, "{provider}");
        assert_eq!(house.get(running).await.state, State::Running);
        assert!(admits(&house, &line(1)), "its consumer's key is untouched");
        finish(house, running).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_comes_up_after_the_secret_was_lost_is_handed_over_unseen() {
    let mut faults = Faults::none();
    faults.set("boot", "5m").unwrap();
    let mut house = Plan::new(17, faults).on_disk().build().await;
    let id = create(&house, "tensordock").await.session.id;
    house.pass(MINUTE).await;
    house.secret = [8; 32];
    house.crash(MINUTE).await;
    let session = house.until(id, State::Running, 20 * MINUTE).await;
    assert_eq!(session.attempts.len(), 1, "the machine was not given away");
    for kind in [ConditionType::SshReachable, ConditionType::GpuVerified] {
        assert_eq!(condition(&session, kind), Some((Truth::Unknown, "verifier_key_lost")));
    }
    assert!(admits(&house, &line(1)));
    finish(house, id).await;
}

// === with everything real but the vendor ===

#[tokio::test]
async fn on_a_real_ssh_server_the_old_key_fails_and_the_new_one_and_ours_work() {
    let real = Real::start(31).await;
    let (old, new) = (pair(1).private_pem().unwrap(), pair(2).private_pem().unwrap());
    let mut request = request(any(Some("tensordock")));
    request.public_key = line(1);
    let idempotency = |id: &str| Some(Idempotency { request_id: id.to_owned(), hash: "h".to_owned() });
    let create = Create {
        request,
        labels: BTreeMap::new(),
        secrets: Default::default(),
        template: None,
        validate_only: false,
        idempotency: idempotency("c"),
        private_key: Some(old.clone()),
    };
    let session = real.run(create).await;
    let id = session.id;
    let endpoint: SshEndpoint = session.endpoint.clone().unwrap();
    let log_in = async |key| login_and_exec(&endpoint, key, "nvidia-smi -L", true).await;
    assert!(log_in(&old).await.unwrap().stdout.starts_with("GPU 0"));
    assert!(log_in(&new).await.is_err());

    let key = NewKey { public: line(2), private: Some(new.clone()) };
    let asked = real.core.lifecycle.command(caller(), id, Command::RotateKey(key), idempotency("k"), false).await.unwrap();
    assert_eq!(asked.private_key.unwrap().expose_secret(), new.expose_secret());
    for _ in 0..500 {
        if real.get(id).await.rekey.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(log_in(&old).await.is_err(), "the old key still logs in");
    assert!(log_in(&new).await.unwrap().stdout.starts_with("GPU 0"));
    let known = real.core.sessions.diagnostics(&caller(), id).await.unwrap();
    assert!(known.fresh_gpu.unwrap().is_ok(), "the server's own key still works");

    // What lies on disk: not a line of either private key.
    let bodies = [&old, &new].map(|pem| pem.expose_secret().lines().nth(1).unwrap().to_owned());
    assert_eq!(real.end(id, &[&bodies[0], &bodies[1]]).await, Vec::<String>::new());
}
