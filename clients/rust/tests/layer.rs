//! The layer against a server that does what the real one does only on bad days.

use gpu_shopper_client::{Client, Code, Error, Message, Options, Patience, WatchStart, pb};
use prost::Message as _;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

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
    type ResponseStream = tokio_stream::Iter<std::vec::IntoIter<Result<Vec<u8>, Status>>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        let token = request.metadata().get("authorization").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let path = request.metadata().get("x-path").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push((path, request.into_inner(), token));
        let (messages, end) = self.scripts.lock().unwrap().pop_front().unwrap_or_else(|| (Vec::new(), Err(Status::unimplemented("asked too often"))));
        let all: Vec<_> = messages.into_iter().map(Ok).chain(end.err().map(Err)).collect();
        ready(Ok(Response::new(tokio_stream::iter(all))))
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
    Patience { first_wait: Duration::from_millis(2), longest_wait: Duration::from_millis(4), timeout: Duration::from_secs(2), ..Patience::default() }
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

/// What a watch tells until it ends, in words.
async fn all(client: &Client, start: WatchStart) -> Result<Vec<String>, Error> {
    let mut watch = client.watch("s", start);
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
    let (_, client) = Fake::playing(vec![(vec![], Ok(()))]).await;
    assert!(all(&client, after("t9")).await.unwrap().is_empty(), "after the end there is nothing to tell");
}

#[tokio::test]
async fn a_snapshot_is_told_once_and_whole_however_often_it_is_begun() {
    let (fake, client) = Fake::playing(vec![(vec![snapshot()], lost()), (vec![snapshot(), snapshot_end(5), last(6, 2)], Ok(()))]).await;
    assert_eq!(all(&client, WatchStart::Snapshot).await.unwrap(), ["snapshot 1", "event 2"]);
    assert_eq!(fake.tokens(), ["", ""]);
    let (_, client) = Fake::playing(vec![(vec![snapshot(), snapshot_end(5), last(6, 2)], Ok(()))]).await;
    assert_eq!(all(&client, WatchStart::Now).await.unwrap(), ["event 2"]);
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
    fake.scripts.lock().unwrap().extend((0..50).map(|_| (vec![], Err(refuse(Code::Unavailable, "STARTING", Some(Duration::from_millis(30)))))));
    let patience = Patience { timeout: Duration::from_millis(120), ..quick() };
    let client = Client::with(&fake.serve(None).await, Options { patience, ..Options::default() }).unwrap();
    let error = client.get_session(pb::GetSessionRequest::default()).await.unwrap_err();
    assert_eq!((error.reason(), error.refusal().unwrap().retry_after), ("STARTING", Some(Duration::from_millis(30))));
    assert!((2..=4).contains(&fake.asked.lock().unwrap().len()));
}

#[tokio::test]
async fn waiting_for_running_tells_an_end_from_it() {
    let answer = |state: pb::session::State, reached| {
        let session = pb::Session { session_id: "s".into(), state: state.into(), error: "no driver".into(), ..Default::default() };
        (vec![pb::WaitSessionResponse { session: Some(session), reached }.encode_to_vec()], Ok(()))
    };
    use pb::session::State::{Provisioning, Running, Stopping};
    let (_, client) =
        Fake::playing(vec![answer(Provisioning, false), answer(Stopping, true), answer(Running, true), answer(Provisioning, false)]).await;
    let error = client.wait_for_running("s").await.unwrap_err();
    assert!(matches!(&error, Error::Ended(session) if session.session_id == "s") && error.to_string().contains("no driver"), "{error}");
    assert_eq!(client.wait_for_running("s").await.unwrap().state(), Running);
    assert!(matches!(client.wait_for("s", &[Running], Duration::ZERO).await, Err(Error::TimedOut { .. })));
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
async fn addresses_that_make_no_sense_are_refused_without_telling_them() {
    for bad in ["", "ftp://x", "http://", "http://u:secret@x:1", "http://a b"] {
        let error = Client::new(bad).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)) && !error.to_string().contains("secret"), "{bad}: {error}");
    }
    assert!(Client::with("x:1", Options { token: Some("a\nb".into()), ..Options::default() }).is_err());
}
