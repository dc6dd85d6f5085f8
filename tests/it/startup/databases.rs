//! Whose database it is and how far it had come: epochs, backups, copies, and what is known of one that is lost.

use super::*;
use crate::support::{House, Plan};
use gpu_shopper::services::api::Command;
use gpu_shopper::services::lifecycle::Order;
use gpu_shopper::store::{Mode, Options};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn beside(database: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}.{ending}", database.display()))
}

fn noted(database: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(beside(database, "epoch")).unwrap()).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

// === the epoch ===

fn open(path: &Path) -> Store {
    Store::open(Options { path: path.to_owned(), mode: Mode::Threaded, holder: "test".to_owned() }).unwrap()
}

#[tokio::test]
async fn a_database_is_believed_as_long_as_it_has_come_as_far_as_its_epoch_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("house.db");
    let now = Clock::System.now();
    let store = open(&path);
    assert_eq!(store.epoch_check(7, now).await.unwrap(), None, "a new one");
    assert_eq!((noted(&path)["revision"].clone(), mode(&beside(&path, "epoch"))), (0.into(), 0o600));
    let name = noted(&path)["store_id"].clone();
    crate::store::some_history(&store, 1, 3).await;
    store.epoch_note(now).await.unwrap();
    assert_eq!(noted(&path)["revision"], 3);
    crate::store::some_history(&store, 2, 1).await;
    drop(store);

    // It may be ahead of its note: the note trails it.
    let store = open(&path);
    assert_eq!(store.epoch_check(8, now).await.unwrap(), None);
    assert_eq!((&noted(&path)["revision"], &noted(&path)["store_id"]), (&4.into(), &name), "noted at once, under the name it has");
    let copy = folder.path().join("copy.db");
    let copied = store.backup(&copy).await.unwrap();
    assert_eq!((copied.revision, copied.sessions, copied.bytes), (4, 2, std::fs::metadata(&copy).unwrap().len()));
    assert_eq!(mode(&copy), 0o600);
    crate::store::some_history(&store, 3, 2).await;
    store.epoch_note(now).await.unwrap();
    drop(store);

    // The copy alone, beside the epoch of its original, and with the epoch that it had itself: never believed by itself.
    let doubt = async |copy: &Path| open(copy).epoch_check(9, now).await.unwrap().expect("a doubt");
    holds_all(&doubt(&copy).await, &["copy.db", "no epoch file", "revision 4"]);
    assert!(!beside(&copy, "epoch").exists(), "nothing is noted of what nobody has accepted");
    std::fs::copy(beside(&path, "epoch"), beside(&copy, "epoch")).unwrap();
    holds_all(&doubt(&copy).await, &["copy.db is at revision 4", "had come to revision 6"]);
    let second = folder.path().join("second.db");
    open(&path).backup(&second).await.unwrap();
    std::fs::copy(beside(&path, "epoch"), beside(&second, "epoch")).unwrap();
    holds_all(&doubt(&second).await, &["is a backup, taken at", "revision 6"]);

    // A copied folder: its note fits to the word, and the original may be at work on the same machines.
    let (home, twin) = (folder.path().join("home"), folder.path().join("twin"));
    std::fs::create_dir(&home).unwrap();
    std::fs::create_dir(&twin).unwrap();
    let store = open(&home.join("house.db"));
    store.epoch_check(7, now).await.unwrap();
    crate::store::some_history(&store, 3, 1).await;
    store.epoch_note(now).await.unwrap();
    drop(store);
    for file in ["house.db", "house.db.epoch"] {
        std::fs::copy(home.join(file), twin.join(file)).unwrap();
    }
    holds_all(&doubt(&twin.join("house.db")).await, &["twin/house.db is not the file", "a copy of it"]);
    assert_eq!(open(&home.join("house.db")).epoch_check(7, now).await.unwrap(), None, "the original is what it was");
    std::fs::rename(&home, folder.path().join("moved")).unwrap();
    assert_eq!(open(&folder.path().join("moved/house.db")).epoch_check(7, now).await.unwrap(), None, "so it is under another name");

    // A doubt lasts, however far its database comes.
    let store = open(&copy);
    store.epoch_check(9, now).await.unwrap();
    crate::store::some_history(&store, 4, 9).await;
    store.epoch_note(now).await.unwrap();
    assert!(store.epoch_doubtful());
    assert_eq!(noted(&copy)["revision"], 6);
    drop(store);
    holds_all(&doubt(&copy).await, &["copy.db is at revision 4"]);
    let store = open(&copy);
    store.epoch_check(9, now).await.unwrap();
    store.epoch_accept(now).await.unwrap();
    assert!(!store.epoch_doubtful());
    assert_eq!(noted(&copy)["revision"], 13);
    drop(store);
    assert_eq!(open(&copy).epoch_check(9, now).await.unwrap(), None);

    // What has come less far than its note, and is accepted all the same, is what counts from then on.
    let store = open(&second);
    store.epoch_check(9, now).await.unwrap();
    let mut far = noted(&second);
    far["revision"] = 60.into();
    std::fs::write(beside(&second, "epoch"), far.to_string()).unwrap();
    store.epoch_accept(now).await.unwrap();
    assert_eq!(noted(&second)["revision"], 6);
    drop(store);

    // Another database's epoch, one that nobody understands, and one that can't be read.
    let new = folder.path().join("new.db");
    std::fs::copy(beside(&path, "epoch"), beside(&new, "epoch")).unwrap();
    holds_all(&doubt(&new).await, &["another database", "revision 6", "new.db is a new one"]);
    std::fs::write(beside(&path, "epoch"), "{").unwrap();
    holds_all(&doubt(&path).await, &["house.db.epoch can't be read", "not ours"]);
    std::fs::remove_file(beside(&path, "epoch")).unwrap();
    std::fs::create_dir(beside(&path, "epoch")).unwrap();
    let store = open(&path);
    holds_all(&store.epoch_check(9, now).await.unwrap().unwrap(), &["house.db.epoch can't be read"]);
    let error = store.epoch_accept(now).await.unwrap_err().to_string();
    holds_all(&error, &["house.db.epoch"]);
    assert!(store.epoch_doubtful(), "what can't be noted is not accepted");
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_accepts_is_believed_from_then_on() {
    let mut house = Plan::new(209, Faults::none()).on_disk().build().await;
    let (kept, ended) = (house.rent(Some("vastai")).await.session.id, house.rent(Some("tensordock")).await.session.id);
    for id in [kept, ended] {
        house.until(id, session::State::Running, Duration::from_secs(600)).await;
    }
    house.die().await;
    let now = Clock::System.now();
    house.frozen = house.store().epoch_check(7, now).await.unwrap();
    holds_all(house.frozen.as_deref().unwrap_or_default(), &["no epoch file"]);
    let note = beside(house.path(), "epoch");
    std::fs::create_dir(&note).unwrap();
    house.start(None).await;

    let accept = async |house: &House| house.core().lifecycle.order(caller(), Order::Accept).await;
    let refused = accept(&house).await.unwrap_err();
    assert_eq!(refused.reason, "EPOCH_NOT_WRITTEN");
    holds_all(&refused.message, &["house.db.epoch"]);
    assert!(house.store().epoch_doubtful() && house.core().operator.findings().frozen.is_some());
    // An operator's word to end everything is no old fact; what is told only would be.
    let planned = house.core().winding_up.end_all(&caller(), true).await.unwrap();
    assert_eq!((planned.sessions.len(), house.get(ended).await.state), (2, session::State::Running));
    house.core().lifecycle.command(caller(), ended, Command::EndByOperator, None, false).await.unwrap();
    let over = house.until(ended, session::State::Stopped, Duration::from_secs(600)).await;
    assert_eq!(over.end_reason, Some(session::EndReason::Admin));
    assert_eq!(house.alive().len(), 1);

    std::fs::remove_dir(&note).unwrap();
    accept(&house).await.unwrap();
    assert!(!house.store().epoch_doubtful() && house.core().operator.findings().frozen.is_none());
    house.die().await;
    assert_eq!(house.store().epoch_check(8, now).await.unwrap(), None);
    house.frozen = None;
    house.start(None).await;
    assert_eq!(house.get(kept).await.state, session::State::Running);
    house.core().winding_up.wind_up(&caller(), |_| ()).await;
    assert_eq!(house.get(kept).await.end_reason, Some(session::EndReason::Admin));
    assert_eq!(house.create(request(any(None))).await.unwrap_err().reason, "SERVER_DRAINING");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_taken_while_all_goes_on_and_believed_only_when_accepted() {
    let (world, home) = (world(201, Faults::none()).await, tempfile::tempdir().unwrap());
    let env = pointed_at(&world, home.path());
    let database = home.path().join("house.db");
    let server = Served::ready(home.path(), &env, 2).await;
    assert_eq!(mode(&beside(&database, "epoch")), 0o600, "a new database is noted at once");
    let (kept, key) = rented(&server, "vastai").await;

    // Sessions change while the copy is made.
    let mut busy = server.sessions().await;
    let id = kept.session_id.clone();
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    let changes = tokio::spawn(async move {
        let mut n = 0_u32;
        while !stopped.is_cancelled() {
            n += 1;
            let labels = [("n".to_owned(), n.to_string())].into();
            let update_mask = Some(prost_types::FieldMask { paths: vec!["labels".to_owned()] });
            let asked = pb::UpdateSessionRequest { session_id: id.clone(), labels, update_mask, ..Default::default() };
            busy.update_session(asked).await.unwrap();
        }
        n
    });
    let copy = home.path().join("copy.db");
    let told = ran(&["backup", "copy.db", "-o", "json"], home.path(), &env).await;
    assert_eq!(told.status.code(), Some(0), "{}", told.err);
    let told: Value = serde_json::from_str(&told.out).unwrap();
    stop.cancel();
    assert!(changes.await.unwrap() > 0);
    assert_eq!((told["sessions"].as_i64(), told["bytes"].as_u64()), (Some(1), Some(std::fs::metadata(&copy).unwrap().len())));
    assert!(told["revision"].as_i64().unwrap() > 0);
    assert_eq!((mode(&copy), mode(&beside(&copy, "secret"))), (0o600, 0o600));
    assert_eq!(std::fs::read(beside(&copy, "secret")).unwrap(), std::fs::read(beside(&database, "secret")).unwrap());
    let again = ran(&["backup", "copy.db"], home.path(), &env).await;
    assert_eq!(again.status.code(), Some(1), "{}", again.err);
    holds_all(&again.err, &["copy.db exists already", "FILE_EXISTS"]);

    // What the copy does not know: this one is ended, and another one runs.
    server.complete(&kept.session_id).await;
    server.until(&kept.session_id, State::Stopped).await;
    let (later, _) = rented(&server, "tensordock").await;
    let ended = server.stop().await;
    assert!(!ended.err.contains("frozen: "), "{}", ended.err);
    let last = noted(&database)["revision"].as_i64().unwrap();

    // No server runs now.
    let quiet = ran(&["backup", "quiet.db", "--database", "house.db"], home.path(), &env).await;
    assert_eq!(quiet.status.code(), Some(0), "{}", quiet.err);
    holds_all(&quiet.out, &["quiet.db", &format!("revision {last}"), "2 sessions", "quiet.db.secret"]);
    let nothing = ran(&["backup", "other.db", "--database", "no-such.db"], home.path(), &env).await;
    assert_eq!(nothing.status.code(), Some(1), "{}", nothing.err);
    holds_all(&nothing.err, &["no-such.db", "DATABASE_PATH"]);
    assert!(!home.path().join("other.db").exists() && !home.path().join("no-such.db").exists());

    // The copy, put to work: once without any epoch, once with the original's.
    // In JSON a line is one line, whatever is in it.
    let restored = with(&env, &[("DATABASE_PATH", copy.to_str().unwrap()), ("LOG_FORMAT", "json")]);
    for (why, epoch) in [("no epoch file", false), ("had come to revision", true)] {
        if epoch {
            std::fs::copy(beside(&database, "epoch"), beside(&copy, "epoch")).unwrap();
        }
        let server = Served::ready(home.path(), &restored, 2).await;
        server.child.says("frozen: ").await;
        let price = kept.price.as_ref().unwrap().total_text.clone();
        holds_all(
            &server.child.err(),
            &[why, "1 session, 1 machine", &price, &kept.session_id, &format!("gpu-shopper --server {} ops accept-database", server.url)],
        );
        assert_eq!(server.get_session(&kept.session_id).await.state(), State::Running);
        let error = server.sessions().await.create_session(wanted("vastai")).await.unwrap_err();
        assert_eq!(reason(&error), "DATABASE_NOT_ACCEPTED", "{error:?}");
        let compared = server.child.says("compared with what the providers show:").await;
        let (left, right) = compared.split_once("vastai: ").unwrap_or_else(|| panic!("{compared}"));
        holds_all(left, &["tensordock: there and not in the database: gs-", &later.session_id]);
        holds_all(right, &["open in the database and not there: gs-", &kept.session_id]);
        let health: Value = serde_json::from_str(&server.get("/health").await.1).unwrap();
        assert_eq!((&health["status"], &health["services"]["database"]), (&"degraded".into(), &"frozen".into()));
        if epoch {
            // An operator looks at it, and believes the copy.
            let with = with(&restored, &[("GPU_SHOPPER_URL", &server.url)]);
            let asked = ran(&["ops", "accept-database"], home.path(), &with).await;
            assert!(asked.status.code() == Some(2) && asked.err.contains("--yes"), "nobody is there to say yes: {asked:?}");
            assert!(server.get("/health").await.1.contains("frozen"));
            let accepted = ran(&["ops", "accept-database", "--yes"], home.path(), &with).await;
            assert_eq!(accepted.status.code(), Some(0), "{accepted:?}");
            let health: Value = serde_json::from_str(&server.get("/health").await.1).unwrap();
            assert_eq!((&health["status"], &health["services"]["database"]), (&"ok".into(), &"ok".into()));
            let swept = ran(&["ops", "sweep"], home.path(), &with).await;
            assert!(swept.status.code() == Some(0) && swept.out.contains(&later.session_id), "{swept:?}");
        }
        server.stop().await;
        assert_eq!(alive(&world).len(), 1, "the machine that the copy does not know stays");
    }

    // The original goes on as if nothing had been.
    let server = Served::ready(home.path(), &env, 2).await;
    assert!(!server.child.err().contains("frozen: "));
    assert_eq!(server.get_session(&later.session_id).await.state(), State::Running);
    server.complete(&later.session_id).await;
    server.until(&later.session_id, State::Stopped).await;
    server.child.kill().await;
    let server = Served::start(home.path(), &env).await;
    assert!(server.frozen().is_none(), "a server that was killed is ahead of its note");
    server.stop().await;
    drop(key);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machines_of_a_lost_database_are_reported_and_left_alone() {
    lost_database(true).await;
}

/// The name that the machines' labels carry was made up for the database that is lost: what lies beside it knows it still.
#[tokio::test(flavor = "multi_thread")]
async fn so_they_are_where_nobody_has_named_the_deployment() {
    lost_database(false).await;
}

async fn lost_database(named: bool) {
    let (world, home) = (world(203, Faults::none()).await, tempfile::tempdir().unwrap());
    let env = pointed_at(&world, home.path());
    let env = if named { with(&env, &[("DEPLOYMENT_ID", "one")]) } else { env };
    let server = Served::ready(home.path(), &env, 2).await;
    let (session, _) = rented(&server, "vastai").await;
    server.child.kill().await;
    let lose = |endings: &[&str]| {
        for ending in endings {
            std::fs::remove_file(home.path().join(format!("house.db{ending}"))).unwrap();
        }
    };

    // The database alone is lost: its epoch tells.
    for entry in std::fs::read_dir(home.path()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if name == "house.db" || name.ends_with("-wal") || name.ends_with("-shm") {
            std::fs::remove_file(home.path().join(name)).unwrap();
        }
    }
    let server = Served::ready(home.path(), &env, 2).await;
    holds_all(&server.frozen().expect("frozen"), &["another database", "house.db is a new one", "0 sessions, 0 machines"]);
    server.child.says("no record knows").await;
    server.stop().await;
    assert_eq!(alive(&world).len(), 1);
    if !named {
        return world.stop().await;
    }

    // Everything is lost.
    lose(&["", ".epoch", ".secret", ".lock"]);
    let server = Served::ready(home.path(), &env, 2).await;
    assert_eq!(server.frozen(), None, "a new database knows nothing that could be untrue");
    server.child.says("no record knows").await;
    holds_all(&server.get("/metrics").await.1, &["gpu_orphans_detected_total 1"]);
    let sessions = server.sessions().await.list_sessions(pb::ListSessionsRequest::default()).await.unwrap().into_inner().sessions;
    assert!(sessions.is_empty());
    server.stop().await;
    assert!(alive(&world)[0].contains(&session.session_id), "{:?}", alive(&world));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_doubt_is_not_ended_with_its_server() {
    let (world, home) = (world(207, Faults::none()).await, tempfile::tempdir().unwrap());
    let env = with(&pointed_at(&world, home.path()), &[("LIFECYCLE_ON_SHUTDOWN", "destroy")]);
    let server = Served::ready(home.path(), &env, 2).await;
    let (session, _) = rented(&server, "vastai").await;
    server.child.kill().await;
    std::fs::remove_file(home.path().join("house.db.epoch")).unwrap();
    let server = Served::start(home.path(), &env).await;
    server.child.terminate();
    let ended = server.child.end().await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.err);
    holds_all(&ended.err, &["the database is in doubt, so its sessions are not ended", &session.session_id, "running"]);
    assert_eq!(alive(&world).len(), 1);
    world.stop().await;
}
