//! The layer against a server that does what the real one does only on bad days.

use gpu_shopper_client::{Client, Code, Error, Message, Options, Pages, Patience, Watch, WatchStart, pb};
use prost::Message as _;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// A status with this message is never sent: nothing more is said, and nothing ends.
const SILENCE: &str = "silence";

/// One answer: messages, then how the call ends.
type Script = (Vec<Vec<u8>>, Result<(), Status>);

/// Path, message and authorization of a call.
type Asked = (String, Vec<u8>, Option<String>);

/// Plays one script after the other, whatever is called, and keeps what it was asked.
#[derive(Clone, Default)]
struct Fake {
    scripts: Arc<Mutex<VecDeque<Script>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// Messages as they are, already encoded.
#[derive(Clone, Default)]
struct Plain;

impl tonic::codec::Encoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(into, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; prost::bytes::Buf::remaining(from)];
        prost::bytes::Buf::copy_to_slice(from, &mut item);
        Ok(Some(item))
    }
}

impl tonic::codec::Codec for Plain {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::server::ServerStreamingService<Vec<u8>> for Fake {
    type Response = Vec<u8>;
    type ResponseStream = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<Vec<u8>, Status>> + Send>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        let token = request.metadata().get("authorization").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let path = request.metadata().get("x-path").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push((path, request.into_inner(), token));
        let (messages, end) = self.scripts.lock().unwrap().pop_front().unwrap_or_else(|| (Vec::new(), Err(Status::unimplemented("asked too often"))));
        if matches!(&end, Err(status) if status.message() == SILENCE) {
            return ready(Ok(Response::new(Box::pin(tokio_stream::iter(messages.into_iter().map(Ok)).chain(tokio_stream::pending())))));
        }
        let all: Vec<_> = messages.into_iter().map(Ok).chain(end.err().map(Err)).collect();
        ready(Ok(Response::new(Box::pin(tokio_stream::iter(all)))))
    }
}

impl tower_service::Service<http::Request<Body>> for Fake {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path().parse().unwrap();
        request.headers_mut().insert("x-path", path);
        let fake = self.clone();
        Box::pin(async move { Ok(tonic::server::Grpc::new(Plain).server_streaming(fake, request).await) })
    }
}

impl tonic::server::NamedService for Fake {
    const NAME: &'static str = "gpushopper.v1.SessionService";
}

impl Fake {
    async fn serve(&self, tls: Option<ServerTlsConfig>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        tokio::spawn(server.add_service(self.clone()).serve_with_incoming(TcpListenerStream::new(listener)));
        address.to_string()
    }

    async fn playing(scripts: Vec<Script>) -> (Self, Client) {
        let fake = Self::default();
        fake.scripts.lock().unwrap().extend(scripts);
        let address = fake.serve(None).await;
        (fake, Client::with(&address, Options { patience: quick(), ..Options::default() }).unwrap())
    }

    /// The tokens that watches were asked to resume after.
    fn tokens(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let requests = asked.iter().map(|(_, bytes, _)| pb::WatchSessionRequest::decode(bytes.as_slice()).unwrap());
        let token = |start| if let Some(pb::watch_session_request::Start::ResumeToken(token)) = start { token } else { String::new() };
        requests.map(|r| token(r.start)).collect()
    }
}

fn quick() -> Patience {
    Patience { first_wait: Duration::from_millis(2), longest_wait: Duration::from_millis(4), ..Patience::default() }
}

fn refuse(code: Code, reason: &str, retry: Option<Duration>) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, "gpushopper", HashMap::from([("session_id".to_owned(), "s".to_owned())]));
    details.add_bad_request_violation("disk_gb", "too small");
    details.set_retry_info(retry);
    Status::with_error_details(code, "no", details)
}

fn lost() -> Result<(), Status> {
    Err(Status::unknown("connection lost"))
}

type Told = pb::watch_session_response::Message;

fn told(message: Told, token: &str) -> Vec<u8> {
    pb::WatchSessionResponse { message: Some(message), resume_token: token.to_owned() }.encode_to_vec()
}

fn snapshot() -> Vec<u8> {
    told(Told::Snapshot(pb::Session { session_id: "s".into(), sequence: 1, state: pb::session::State::Running.into(), ..Default::default() }), "")
}

fn snapshot_end(revision: i64) -> Vec<u8> {
    told(Told::SnapshotEnd(pb::SnapshotEnd { revision, ..Default::default() }), &format!("t{revision}"))
}

fn event(revision: i64, sequence: i64) -> Vec<u8> {
    to_state(revision, sequence, pb::session::State::Running)
}

fn last(revision: i64, sequence: i64) -> Vec<u8> {
    to_state(revision, sequence, pb::session::State::Stopped)
}

fn to_state(revision: i64, sequence: i64, state: pb::session::State) -> Vec<u8> {
    let event = pb::SessionEvent { session_id: "s".into(), revision, sequence, to_state: state.into(), ..Default::default() };
    told(Told::Event(event), &format!("t{revision}"))
}

/// What a watch of one session tells until it ends, in words.
async fn all(client: &Client, start: WatchStart) -> Result<Vec<String>, Error> {
    words(client.watch("s", start)).await
}

/// What a watch tells until it ends, in words.
async fn words(mut watch: Watch) -> Result<Vec<String>, Error> {
    let mut words = Vec::new();
    while let Some(message) = watch.next().await? {
        words.push(match message {
            Message::Snapshot(sessions, _) => format!("snapshot {}", sessions.len()),
            Message::Event(event) => format!("event {}", event.sequence),
            Message::Bookmark(_) => "bookmark".to_owned(),
            Message::Reset(reason) => reason,
        });
    }
    Ok(words)
}

fn after(token: &str) -> WatchStart {
    WatchStart::After(token.to_owned())
}

#[tokio::test]
async fn a_watch_goes_on_after_its_last_token_and_tells_each_event_once() {
    let draining = Err(refuse(Code::Unavailable, "SERVER_DRAINING", Some(Duration::from_millis(1))));
    let (fake, client) = Fake::playing(vec![
        (vec![snapshot(), snapshot_end(5), event(6, 2)], lost()),
        (vec![event(6, 2), event(7, 3), event(7, 3)], draining),
        (vec![event(8, 4)], Ok(())),
        (vec![last(9, 5)], Ok(())),
    ])
    .await;
    assert_eq!(all(&client, WatchStart::Snapshot).await.unwrap(), ["snapshot 1", "event 2", "event 3", "event 4", "event 5"]);
    assert_eq!(fake.tokens(), ["", "t6", "t7", "t8"]);
}

fn session(state: pb::session::State) -> Script {
    let session = pb::Session { session_id: "s".into(), state: state.into(), ..Default::default() };
    (vec![pb::GetSessionResponse { session: Some(session) }.encode_to_vec()], Ok(()))
}

#[tokio::test]
async fn one_sessions_watch_ends_after_its_end_only_however_often_its_stream_ends_early() {
    use pb::session::State::{Failed, Stopped, Stopping};
    let (fake, client) =
        Fake::playing(vec![(vec![event(6, 2)], Ok(())), (vec![], Ok(())), session(Stopping), (vec![snapshot()], Ok(())), (vec![last(7, 3)], Ok(()))])
            .await;
    assert_eq!(all(&client, after("t5")).await.unwrap(), ["event 2", "event 3"]);
    let asked =
        |fake: &Fake| -> Vec<String> { fake.asked.lock().unwrap().iter().map(|(path, ..)| path.rsplit('/').next().unwrap().to_owned()).collect() };
    assert_eq!(asked(&fake), ["WatchSession", "WatchSession", "GetSession", "WatchSession", "WatchSession"]);
    let (_, client) = Fake::playing(vec![(vec![last(7, 3)], lost()), (vec![], Ok(()))]).await;
    assert_eq!(all(&client, after("t5")).await.unwrap(), ["event 3"], "the end was told");
    let ended = || told(Told::Snapshot(pb::Session { session_id: "s".into(), state: Failed.into(), ..Default::default() }), "");
    let (_, client) = Fake::playing(vec![(vec![ended()], Ok(())), (vec![ended(), snapshot_end(5)], Ok(()))]).await;
    assert_eq!(all(&client, WatchStart::Snapshot).await.unwrap(), ["snapshot 1"]);
    let (fake, client) = Fake::playing(vec![(vec![], Ok(())), session(Stopped)]).await;
    assert!(all(&client, after("t9")).await.unwrap().is_empty(), "after the end there is nothing to tell");
    assert_eq!(asked(&fake), ["WatchSession", "GetSession"]);
}

/// What watches of many sessions were asked to begin with.
fn starts(fake: &Fake) -> Vec<String> {
    use pb::watch_sessions_request::Start;
    let asked = fake.asked.lock().unwrap();
    let requests = asked.iter().map(|(_, bytes, _)| pb::WatchSessionsRequest::decode(bytes.as_slice()).unwrap());
    let word = |start| match start {
        Some(Start::ResumeToken(token)) => token,
        Some(Start::EndedSince(time)) => format!("since {}", time.seconds),
        Some(Start::FromNow(now)) => format!("from now: {now}"),
        None => String::new(),
    };
    requests.map(|r| word(r.start)).collect()
}

#[tokio::test]
async fn the_watch_of_many_sessions_never_ends_by_itself_and_waits_longer_and_longer_when_its_stream_always_ends() {
    // A snapshot is no progress; an event is.
    let again = || (vec![snapshot_end(6)], Ok(()));
    let mut scripts = vec![(vec![last(6, 1)], Ok(())), again(), again(), again()];
    scripts.push((vec![], Err(refuse(Code::NotFound, "OVER", None))));
    let (fake, client) = Fake::playing(scripts).await;
    let waits = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&waits);
    let watch = client.watch_all(pb::SessionFilter::default(), WatchStart::Snapshot).on_lost(move |refusal, wait| {
        assert_eq!(refusal.code, Code::Unavailable);
        kept.lock().unwrap().push(wait);
    });
    assert_eq!(words(watch).await.unwrap_err().reason(), "OVER");
    assert_eq!(starts(&fake), ["", "t6", "t6", "t6", "t6"]);
    let waits = waits.lock().unwrap();
    assert_eq!(waits.len(), 4);
    for (wait, least) in waits.iter().zip([1, 2, 2, 2]) {
        assert!(*wait >= Duration::from_millis(least), "{waits:?}");
    }
}

#[tokio::test]
async fn what_breaks_between_here_and_the_server_is_resumed_over_and_what_the_server_refuses_is_not() {
    let between = [Code::Aborted, Code::DeadlineExceeded, Code::DataLoss, Code::Unknown, Code::Internal, Code::Cancelled, Code::Unavailable];
    let mut scripts: Vec<Script> = between.iter().map(|code| (vec![], Err(Status::new(*code, "cut")))).collect();
    scripts.push((vec![last(6, 2)], Ok(())));
    let (_, client) = Fake::playing(scripts).await;
    assert_eq!(all(&client, after("t5")).await.unwrap(), ["event 2"]);
    let full = Err(refuse(Code::ResourceExhausted, "TOO_MANY_STREAMS", Some(Duration::from_millis(1))));
    let (_, client) = Fake::playing(vec![(vec![], full), (vec![last(6, 2)], Ok(()))]).await;
    assert_eq!(all(&client, after("t5")).await.unwrap(), ["event 2"], "the server asks to come back");
    for code in [Code::Aborted, Code::Internal, Code::PermissionDenied, Code::ResourceExhausted] {
        let (_, client) = Fake::playing(vec![(vec![], Err(refuse(code, "ITS_REASON", None)))]).await;
        assert_eq!(all(&client, after("t5")).await.unwrap_err().reason(), "ITS_REASON");
    }
    let foreign = Status::with_error_details(Code::Aborted, "no", ErrorDetails::with_error_info("LB", "proxy", HashMap::new()));
    let (_, client) = Fake::playing(vec![(vec![], Err(foreign)), (vec![last(6, 2)], Ok(()))]).await;
    assert_eq!(all(&client, after("t5")).await.unwrap(), ["event 2"], "another's reason is none of the server's");
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_left_and_resumed_after_its_last_token() {
    let (fake, client) = Fake::playing(vec![(vec![event(6, 2)], Err(Status::ok(SILENCE))), (vec![last(7, 3)], Ok(()))]).await;
    let (tell, lost) = std::sync::mpsc::channel();
    // Twice the interval and five seconds: the shortest that there is.
    let watch = client.watch("s", after("t5")).bookmarks_after(Duration::from_millis(1));
    let watch = watch.on_lost(move |refusal, _| tell.send(refusal.message.clone()).unwrap());
    assert_eq!(words(watch).await.unwrap(), ["event 2", "event 3"]);
    assert_eq!(fake.tokens(), ["t5", "t6"]);
    assert_eq!(lost.iter().collect::<Vec<_>>(), ["not a word for 5 s: the connection is lost"]);
}

#[tokio::test]
async fn the_snapshot_of_many_sessions_has_those_that_ended_since_a_time_also_when_the_watch_begins_anew() {
    let over = || Err(refuse(Code::NotFound, "OVER", None));
    let forgot = (vec![], Err(refuse(Code::OutOfRange, "WATCH_COMPACTED", None)));
    let (fake, client) = Fake::playing(vec![(vec![snapshot_end(5)], lost()), forgot, (vec![snapshot_end(9)], over()), (vec![], over())]).await;
    let since = std::time::UNIX_EPOCH + Duration::from_secs(77);
    let mut watch = client.watch_all(pb::SessionFilter::default(), WatchStart::Snapshot).ended_since(since);
    assert!(matches!(watch.next().await, Ok(Some(Message::Snapshot(..)))));
    assert!(matches!(watch.next().await, Ok(Some(Message::Reset(_)))));
    assert!(matches!(watch.next().await, Ok(Some(Message::Snapshot(..)))));
    watch.next().await.unwrap_err();
    let mut resumed = client.watch_all(pb::SessionFilter::default(), after("t5")).ended_since(since);
    resumed.next().await.unwrap_err();
    assert_eq!(starts(&fake), ["since 77", "t5", "since 77", "t5"], "a token goes before it");
}

#[tokio::test]
async fn from_now_on_means_nothing_told_of_before_and_a_token_at_once() {
    let (fake, client) =
        Fake::playing(vec![(vec![snapshot()], lost()), (vec![snapshot(), snapshot_end(5)], lost()), (vec![last(6, 2)], Ok(()))]).await;
    assert_eq!(all(&client, WatchStart::Now).await.unwrap(), ["event 2"]);
    assert_eq!(fake.tokens(), ["", "", "t5"]);
}

#[tokio::test]
async fn a_snapshot_is_told_once_and_whole_however_often_it_is_begun() {
    let (fake, client) = Fake::playing(vec![(vec![snapshot()], lost()), (vec![snapshot(), snapshot_end(5), last(6, 2)], Ok(()))]).await;
    assert_eq!(all(&client, WatchStart::Snapshot).await.unwrap(), ["snapshot 1", "event 2"]);
    assert_eq!(fake.tokens(), ["", ""]);
}

#[tokio::test]
async fn a_gap_is_resumed_over_and_told_when_it_stays() {
    let (fake, client) = Fake::playing(vec![(vec![event(6, 2), event(8, 4)], Ok(())), (vec![event(7, 3), last(8, 4)], Ok(()))]).await;
    assert_eq!(all(&client, after("t5")).await.unwrap(), ["event 2", "event 3", "event 4"]);
    assert_eq!(fake.tokens(), ["t5", "t6"]);
    let gap = || (vec![event(8, 4)], Ok(()));
    let (_, client) = Fake::playing(vec![(vec![event(6, 2), event(8, 4)], Ok(())), gap(), gap(), gap()]).await;
    assert!(matches!(all(&client, after("t5")).await, Err(Error::Gap { told: 2, got: 4, .. })));
}

#[tokio::test]
async fn where_the_server_forgot_the_watch_begins_anew_and_says_so() {
    for reason in ["WATCH_COMPACTED", "WATCH_STORE_REPLACED"] {
        let forgot = (vec![], Err(refuse(Code::OutOfRange, reason, None)));
        let (fake, client) = Fake::playing(vec![(vec![event(6, 2)], lost()), forgot, (vec![snapshot(), snapshot_end(1), last(2, 2)], Ok(()))]).await;
        assert_eq!(all(&client, after("t5")).await.unwrap(), ["event 2", reason, "snapshot 1", "event 2"]);
        assert_eq!(fake.tokens(), ["t5", "t6", ""]);
    }
}

#[tokio::test]
async fn what_is_refused_for_good_ends_the_watch_and_so_does_the_end_of_its_patience() {
    let (_, client) = Fake::playing(vec![(vec![], Err(refuse(Code::NotFound, "SESSION_NOT_FOUND", None)))]).await;
    let error = all(&client, WatchStart::Snapshot).await.unwrap_err();
    assert_eq!((error.reason(), error.refusal().unwrap().code), ("SESSION_NOT_FOUND", Code::NotFound));
    let (_, client) = Fake::playing((0..500).map(|_| (vec![], lost())).collect()).await;
    let mut watch = client.watch("s", after("t5")).give_up_after(Duration::from_millis(30));
    assert_eq!(watch.next().await.unwrap_err().refusal().unwrap().code, Code::Unknown);
    assert_eq!(watch.resume_token(), "t5");
}

#[tokio::test]
async fn a_watch_whose_session_has_ended_does_not_wait_for_a_server_that_is_gone() {
    let mut scripts: Vec<Script> = vec![(vec![last(6, 2)], lost()), (vec![last(7, 3)], lost())];
    scripts.extend((0..9).map(|_| (vec![], lost())));
    let (fake, client) = Fake::playing(scripts).await;
    assert_eq!(all(&client, after("t5")).await.unwrap(), ["event 2", "event 3"]);
    assert_eq!(fake.tokens(), ["t5", "t6", "t7", "t7", "t7"], "what may follow the end is looked for, and not for ever");
    let replaced = (vec![], Err(refuse(Code::OutOfRange, "WATCH_STORE_REPLACED", None)));
    let (_, client) = Fake::playing(vec![(vec![last(6, 2)], lost()), replaced]).await;
    assert_eq!(all(&client, after("t5")).await.unwrap(), ["event 2"], "the end was told: no reset, no error");
    let (_, client) = Fake::playing(vec![(vec![last(6, 2)], lost())]).await;
    assert_eq!(words(client.watch("s", after("t5")).give_up_after(Duration::ZERO)).await.unwrap(), ["event 2"]);
}

#[tokio::test]
async fn a_session_that_a_replaced_database_does_not_know_is_told_as_a_reset_and_then_as_an_error() {
    let replaced = (vec![], Err(refuse(Code::OutOfRange, "WATCH_STORE_REPLACED", None)));
    let unknown = (vec![], Err(refuse(Code::NotFound, "SESSION_NOT_FOUND", None)));
    let (_, client) = Fake::playing(vec![(vec![event(6, 2)], lost()), replaced, unknown]).await;
    let mut watch = client.watch("s", after("t5"));
    assert!(matches!(watch.next().await, Ok(Some(Message::Event(_)))));
    assert_eq!(watch.next().await.unwrap(), Some(Message::Reset("WATCH_STORE_REPLACED".into())));
    assert_eq!(watch.next().await.unwrap_err().reason(), "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn the_pages_of_any_call_are_fetched_one_after_the_other() {
    let mut fetched = Vec::new();
    let pages = Pages::new(move |token: String| {
        fetched.push(token);
        let (items, next) = (fetched.clone(), if fetched.len() < 3 { format!("t{}", fetched.len()) } else { String::new() });
        async move { Ok((items, next)) }
    });
    assert_eq!(pages.collect().await.unwrap(), ["", "", "t1", "", "t1", "t2"]);
}

#[tokio::test]
async fn a_change_gets_a_request_id_and_is_repeated_with_it_while_the_server_is_away() {
    let created = pb::CreateSessionResponse { resume_token: "t1".into(), ssh_private_key: "secret".into(), ..Default::default() };
    let (fake, client) = Fake::playing(vec![
        (vec![], Err(refuse(Code::Unavailable, "RESTARTING", Some(Duration::from_millis(5))))),
        (vec![], lost()),
        (vec![created.encode_to_vec()], Ok(())),
    ])
    .await;
    let answer = client.create_session(pb::CreateSessionRequest::default()).await.unwrap();
    assert_eq!(answer.resume_token, "t1");
    assert!(!format!("{answer:?}").contains("secret"));
    let asked = fake.asked.lock().unwrap();
    let ids: Vec<String> = asked.iter().map(|(_, bytes, _)| pb::CreateSessionRequest::decode(bytes.as_slice()).unwrap().request_id).collect();
    assert!(ids.len() == 3 && ids[0].len() == 36 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert!(asked.iter().all(|(path, ..)| path == "/gpushopper.v1.SessionService/CreateSession"));
}

#[tokio::test]
async fn what_a_repetition_would_not_help_is_told_at_once_with_all_its_details() {
    let (fake, client) = Fake::playing(vec![(vec![], Err(refuse(Code::InvalidArgument, "INVALID_FIELD", None)))]).await;
    let error = client.create_session(pb::CreateSessionRequest { request_id: "mine".into(), ..Default::default() }).await.unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!((refusal.violations[0].field.as_str(), refusal.metadata["session_id"].as_str()), ("disk_gb", "s"));
    assert!(!refusal.is_retryable() && error.to_string().contains("INVALID_FIELD: no"), "{error}");
    let asked = fake.asked.lock().unwrap();
    assert_eq!(asked.len(), 1);
    assert_eq!(pb::CreateSessionRequest::decode(asked[0].1.as_slice()).unwrap().request_id, "mine");
}

#[tokio::test]
async fn a_call_gives_up_when_its_time_is_over() {
    let fake = Fake::default();
    fake.scripts.lock().unwrap().extend((0..50).map(|_| (vec![], Err(refuse(Code::Unavailable, "STARTING", Some(Duration::from_millis(400)))))));
    let patience = Patience { timeout: Duration::from_millis(1500), ..quick() };
    let client = Client::with(&fake.serve(None).await, Options { patience, ..Options::default() }).unwrap();
    let error = client.get_session(pb::GetSessionRequest::default()).await.unwrap_err();
    assert_eq!((error.reason(), error.refusal().unwrap().retry_after), ("STARTING", Some(Duration::from_millis(400))));
    assert!((2..=4).contains(&fake.asked.lock().unwrap().len()));
}

#[tokio::test]
async fn waiting_for_running_tells_an_end_from_it() {
    let answer = |state: pb::session::State, reached| {
        let session = pb::Session { session_id: "s".into(), state: state.into(), error: "no driver".into(), ..Default::default() };
        (vec![pb::WaitSessionResponse { session: Some(session), reached }.encode_to_vec()], Ok(()))
    };
    use pb::session::State::{Provisioning, Running, Stopping};
    let (_, client) = Fake::playing(vec![
        answer(Provisioning, false),
        answer(Stopping, true),
        answer(Running, true),
        answer(Provisioning, false),
        answer(Provisioning, false),
        answer(Running, true),
    ])
    .await;
    let error = client.wait_for_running("s").await.unwrap_err();
    assert!(matches!(&error, Error::Ended(session) if session.session_id == "s") && error.to_string().contains("no driver"), "{error}");
    assert_eq!(client.wait_for_running("s").await.unwrap().state(), Running);
    let late = client.wait_for_running_within("s", Duration::ZERO).await.unwrap_err();
    assert!(matches!(late, Error::TimedOut { .. }) && late.to_string().ends_with("it is STATE_PROVISIONING"), "{late}");
    assert_eq!(client.wait_for_running_within("s", Duration::MAX).await.unwrap().state(), Running);
}

#[tokio::test]
async fn https_with_certificates_on_both_sides_and_the_token_as_a_bearer() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let fake = Fake::default();
    fake.scripts.lock().unwrap().push_back((vec![Vec::new()], Ok(())));
    let key = made.signing_key.serialize_pem();
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(&pem, &key)).client_ca_root(Certificate::from_pem(&pem));
    let url = format!("https://{}", fake.serve(Some(tls)).await);
    let ca_pem = Some(pem.clone().into_bytes());
    let identity_pem = Some((pem.into_bytes(), key.into_bytes()));
    let options = Options { token: Some("gs_secret".into()), ca_pem: ca_pem.clone(), identity_pem, patience: quick() };
    assert!(!format!("{options:?}").contains("gs_secret"));
    let client = Client::with(&url, options).unwrap();
    assert!(!format!("{client:?}").contains("gs_secret"));
    client.get_session(pb::GetSessionRequest::default()).await.unwrap();
    assert_eq!(fake.asked.lock().unwrap()[0].2.as_deref(), Some("Bearer gs_secret"));
    let patience = Patience { timeout: Duration::from_millis(200), ..quick() };
    for ca_pem in [None, ca_pem] {
        let strange = Client::with(&url, Options { patience: patience.clone(), ca_pem, ..Options::default() }).unwrap();
        assert_eq!(strange.get_session(pb::GetSessionRequest::default()).await.unwrap_err().reason(), "");
    }
    assert_eq!(fake.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn arguments_that_make_no_sense_are_refused_without_telling_them() {
    assert!(matches!(Client::new("http://u:secret@x:1"), Err(Error::Invalid(text)) if !text.contains("secret")));
    let token = Client::with("x:1", Options { token: Some("a\nsecret".into()), ..Options::default() });
    assert!(matches!(token, Err(Error::Invalid(text)) if !text.contains("secret")));
}
