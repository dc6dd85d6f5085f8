//! The connection is cut at random hundreds of times while sessions change: what the watches tell is exactly the log.

use gpu_shopper_client::{Client, Error, Message, Options, Patience, Watch, WatchStart, pb};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch::Receiver;

/// A world to test in (`clients/conformance/world.py`) as a child: marketplaces, a server and a proxy that cuts.
struct World {
    facts: serde_json::Value,
    child: Child,
}

impl World {
    async fn begin() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/world.py");
        let mut child = Command::new("python3").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        assert!(!line.is_empty(), "the world did not come to be; its reason stands above");
        Self { facts: serde_json::from_str(&line).unwrap(), child }
    }

    fn at(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap()
    }

    async fn order(&self, what: &str) -> String {
        let address = self.at("control").trim_start_matches("http://");
        let mut connection = TcpStream::connect(address).await.unwrap();
        let head = format!("POST /{what} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some("200"), "{what}: {answer}");
        answer.rsplit("\r\n").next().unwrap().to_owned()
    }

    async fn end(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().await.unwrap();
    }
}

async fn rent(client: &Client) -> pb::CreateSessionResponse {
    let filter = pb::OfferFilter { providers: vec!["tensordock".into()], gpu_models: vec!["RTX 4090".into()], ..Default::default() };
    let target = pb::create_session_request::Target::Requirements(pb::Requirements { filter: Some(filter), ..Default::default() });
    client.create_session(pb::CreateSessionRequest { target: Some(target), ..Default::default() }).await.unwrap()
}

/// All events up to the end, or to the revision that is told when it is known.
async fn follow(mut watch: Watch, until: Receiver<i64>) -> Result<Vec<pb::SessionEvent>, Error> {
    let mut events: Vec<pb::SessionEvent> = Vec::new();
    let mut known = until.clone();
    loop {
        let last = *until.borrow();
        if last > 0 && events.last().is_some_and(|e| e.revision >= last) {
            return Ok(events);
        }
        tokio::select! {
            message = watch.next() => match message? {
                Some(Message::Event(event)) => events.push(*event),
                Some(_) => {}
                None => return Ok(events),
            },
            Ok(()) = known.changed() => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_hundreds_of_cuts_the_union_of_events_is_exactly_the_log() {
    let cuts: u32 = std::env::var("STORM_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(350);
    let world = World::begin().await;
    let direct = Client::new(world.at("direct")).unwrap();
    let patience = Patience { first_wait: Duration::from_millis(20), longest_wait: Duration::from_millis(200), ..Patience::default() };
    let cut_off = || Client::with(world.at("url"), Options { patience: patience.clone(), ..Options::default() }).unwrap();

    let (tell, until) = tokio::sync::watch::channel(0);
    let mut all = cut_off().watch_all(pb::SessionFilter::default(), WatchStart::Snapshot);
    assert!(matches!(all.next().await, Ok(Some(Message::Snapshot(sessions, _))) if sessions.is_empty()));
    let created = rent(&direct).await;
    let id = created.session.unwrap().session_id;
    let all = tokio::spawn(follow(all, until.clone()));
    let one = tokio::spawn(follow(cut_off().watch(&id, WatchStart::After(created.resume_token)), until));

    world.order(&format!("storm?cuts={cuts}")).await;
    let mut sessions = vec![id.clone()];
    let mut n = 0;
    while world.order("storm-left").await != "0" {
        let session_id = sessions[n % sessions.len()].clone();
        let labels = [("n".to_owned(), n.to_string())].into();
        direct.update_session(pb::UpdateSessionRequest { session_id, labels, ..Default::default() }).await.unwrap();
        if n % 300 == 50 {
            sessions.push(rent(&direct).await.session.unwrap().session_id);
        }
        n += 1;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    for session_id in sessions.clone() {
        direct.destroy_session(pb::DestroySessionRequest { session_id, ..Default::default() }).await.unwrap();
    }
    let mut log = Vec::new();
    for session_id in &sessions {
        direct.wait_for_end(session_id).await.unwrap();
    }
    for session_id in &sessions {
        log.extend(direct.events(session_id, 0).collect().await.unwrap());
    }
    log.sort_by_key(|e| e.revision);
    let one = one.await.unwrap().unwrap();
    tell.send(log.last().unwrap().revision).unwrap();
    let all = all.await.unwrap().unwrap();

    let numbers = |events: &[pb::SessionEvent]| events.iter().map(|e| (e.revision, e.sequence, e.session_id.clone())).collect::<Vec<_>>();
    let own: Vec<pb::SessionEvent> = log.iter().filter(|e| e.session_id == id).cloned().collect();
    assert_eq!(numbers(&one), numbers(&own));
    assert_eq!(numbers(&all), numbers(&log));
    assert!(one.iter().zip(1..).all(|(event, sequence)| event.sequence == sequence));
    println!("{cuts} cuts; {} events of {} sessions, none lost, none twice", all.len(), sessions.len());
    world.end().await;
}
