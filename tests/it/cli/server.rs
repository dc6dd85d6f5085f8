//! A server of canned answers, speaking the real contract over a real socket.

use gpu_shopper::domain::time::Time;
use gpu_shopper::grpc::pb;
use gpu_shopper::grpc::pb::cost_service_server::{CostService, CostServiceServer};
use gpu_shopper::grpc::pb::inventory_service_server::{InventoryService, InventoryServiceServer};
use gpu_shopper::grpc::pb::operator_service_server::{OperatorService, OperatorServiceServer};
use gpu_shopper::grpc::pb::session::State;
use gpu_shopper::grpc::pb::session_service_server::{SessionService, SessionServiceServer};
use gpu_shopper::grpc::pb::{watch_session_response, watch_sessions_response};
use prost::Message as _;
use prost_types::{Duration, Timestamp};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The session of all answers.
pub const ID: &str = "01kaphz700fay8vvr14d2pf2db";

/// What is answered, and what was asked.
#[derive(Default)]
pub struct Canned {
    pub offers: Vec<Result<pb::ListOffersResponse, Status>>,
    pub offers_asked: Vec<pb::ListOffersRequest>,
    pub creates: Vec<Result<pb::CreateSessionResponse, Status>>,
    pub creates_asked: Vec<pb::CreateSessionRequest>,
    /// One stream for each watch.
    pub watches: Vec<Vec<Result<pb::WatchSessionResponse, Status>>>,
    /// The resume token of each watch; empty without one.
    pub tokens: Vec<String>,
    pub extends_asked: Vec<pb::ExtendSessionRequest>,
    pub rotates_asked: Vec<pb::RotateSessionKeyRequest>,
    pub outcomes: Vec<i32>,
    /// The last one is answered first; when there is none left, a wait never ends.
    pub waits: Vec<Result<pb::Session, Status>>,
    pub reports_asked: Vec<pb::GetCostReportRequest>,
    /// The orders of operators, each in a line.
    pub orders: Vec<String>,
    pub holds_asked: Vec<pb::SetHoldRequest>,
    pub audit_asked: Vec<pb::ListAuditEntriesRequest>,
    /// A sweep gives no complete list at one provider.
    pub unlisted: bool,
    pub frozen: bool,
}

/// A running server; it stops when this goes.
pub struct Mock {
    state: Arc<Mutex<Canned>>,
    address: std::net::SocketAddr,
    _stop: DropGuard,
}

#[derive(Clone)]
struct Face(Arc<Mutex<Canned>>);

impl Mock {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, stop) = (Arc::new(Mutex::new(Canned::default())), CancellationToken::new());
        let face = Face(state.clone());
        let server = Server::builder()
            .add_service(InventoryServiceServer::new(face.clone()))
            .add_service(SessionServiceServer::new(face.clone()))
            .add_service(CostServiceServer::new(face.clone()))
            .add_service(OperatorServiceServer::new(face))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
        tokio::spawn(server);
        Self { state, address, _stop: stop.drop_guard() }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut Canned) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }
}

impl Face {
    fn with<T>(&self, change: impl FnOnce(&mut Canned) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }
}

pub fn usd(units: i64, nanos: i32) -> Option<pb::Money> {
    Some(pb::Money { currency_code: "USD".into(), units, nanos })
}

pub fn at(text: &str) -> Option<Timestamp> {
    Some(Timestamp { seconds: Time::from_sql(text).unwrap().millis() / 1000, nanos: 0 })
}

fn amount(units: i64, nanos: i32) -> Option<pb::CostAmount> {
    Some(pb::CostAmount { cost: usd(units, nanos), low: usd(units, nanos), high: usd(units, nanos), ..Default::default() })
}

/// The session, created at 21:30, in a state.
pub fn session(state: State) -> pb::Session {
    pb::Session {
        session_id: ID.into(),
        consumer_id: "alice".into(),
        state: state.into(),
        create_time: at("2026-11-23 21:30:00"),
        ..Default::default()
    }
}

/// A running session whose key is being changed, or was.
pub fn rekeyed(done: bool) -> pb::Session {
    use pb::condition::{Status, Type};
    let status = if done { Status::True } else { Status::False };
    let condition = pb::Condition { r#type: Type::KeyInstalled.into(), status: status.into(), ..Default::default() };
    pb::Session { conditions: vec![condition], ..running() }
}

pub fn running() -> pb::Session {
    pb::Session {
        state_time: at("2026-11-23 21:30:30"),
        stage: pb::Stage::GpuVerified.into(),
        provider: "vastai".into(),
        gpu_model: "RTX 4090".into(),
        gpu_count: 2,
        gpu_memory_mib: 24_576,
        price: Some(pb::Price { total_per_hour: usd(0, 246_666_667), ..Default::default() }),
        ssh_host: "203.0.113.7".into(),
        ssh_port: 41_022,
        ssh_user: "root".into(),
        ssh_command: "ssh -p 41022 root@203.0.113.7".into(),
        known_hosts_line: "[203.0.113.7]:41022 ssh-ed25519 AAAAC3Nz".into(),
        expire_time: at("2026-11-23 23:30:00"),
        running_time: at("2026-11-23 21:30:30"),
        cost: amount(0, 123_400_000),
        conditions: vec![pb::Condition {
            r#type: pb::condition::Type::SshReachable.into(),
            status: pb::condition::Status::True.into(),
            reason: "logged_in".into(),
            time: at("2026-11-23 21:30:30"),
        }],
        attempts: vec![pb::Attempt {
            number: 1,
            offer_id: "vastai-1".into(),
            provider: "vastai".into(),
            gpu_model: "RTX 4090".into(),
            gpu_count: 2,
            stage: pb::Stage::GpuVerified.into(),
            ..Default::default()
        }],
        ..session(State::Running)
    }
}

/// An event `n` × 10 seconds after the creation.
pub fn event(n: i64, to: State, stage: pb::Stage, message: &str) -> pb::SessionEvent {
    pb::SessionEvent {
        revision: n,
        sequence: n,
        session_id: ID.into(),
        r#type: pb::session_event::Type::StateChanged.into(),
        to_state: to.into(),
        stage: stage.into(),
        actor: "service".into(),
        occur_time: at("2026-11-23 21:30:00").map(|t| Timestamp { seconds: t.seconds + n * 10, ..t }),
        message: message.into(),
        session: Some(session(to)),
        ..Default::default()
    }
}

pub fn told(event: pb::SessionEvent, token: &str) -> pb::WatchSessionResponse {
    pb::WatchSessionResponse { message: Some(watch_session_response::Message::Event(event.encode_to_vec().into())), resume_token: token.into() }
}

pub fn snapshot(session: pb::Session) -> pb::WatchSessionResponse {
    pb::WatchSessionResponse { message: Some(watch_session_response::Message::Snapshot(session)), resume_token: String::new() }
}

pub fn snapshot_end(token: &str) -> pb::WatchSessionResponse {
    pb::WatchSessionResponse { message: Some(watch_session_response::Message::SnapshotEnd(pb::SnapshotEnd::default())), resume_token: token.into() }
}

pub fn bookmark(token: &str) -> pb::WatchSessionResponse {
    pb::WatchSessionResponse { message: Some(watch_session_response::Message::Bookmark(pb::Bookmark { revision: 1 })), resume_token: token.into() }
}

fn missing(reason: &str, message: String) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "gpushopper", [("id".to_owned(), "x".to_owned())]);
    Status::with_error_details(Code::NotFound, message, details)
}

fn next<T>(answers: &mut Vec<T>) -> Result<T, Status> {
    if answers.is_empty() { Err(Status::internal("the test has no more answers")) } else { Ok(answers.remove(0)) }
}

#[tonic::async_trait]
impl InventoryService for Face {
    async fn list_offers(&self, request: Request<pb::ListOffersRequest>) -> Result<Response<pb::ListOffersResponse>, Status> {
        self.with(|m| {
            m.offers_asked.push(request.into_inner());
            next(&mut m.offers)?.map(Response::new)
        })
    }

    async fn get_offer(&self, request: Request<pb::GetOfferRequest>) -> Result<Response<pb::GetOfferResponse>, Status> {
        let id = request.into_inner().offer_id;
        let found = self
            .with(|m| m.offers.first().cloned())
            .and_then(Result::ok)
            .and_then(|page| page.read_offers().ok()?.into_iter().find(|o| o.offer_id == id));
        let offer = found.ok_or_else(|| missing("OFFER_NOT_FOUND", format!("no offer {id}")))?;
        Ok(Response::new(pb::GetOfferResponse { offer: offer.encode_to_vec().into() }))
    }

    async fn list_templates(&self, request: Request<pb::ListTemplatesRequest>) -> Result<Response<pb::ListTemplatesResponse>, Status> {
        assert_eq!(request.into_inner().name.as_deref(), Some("vllm"));
        let template = pb::Template {
            template_hash_id: "1b2c".into(),
            provider: "vastai".into(),
            name: "vLLM".into(),
            image: "vllm/vllm-openai:v1".into(),
            ports: vec![8000],
            disk_gb: Some(120),
            min_cuda_version: "12.4".into(),
            ..Default::default()
        };
        Ok(Response::new(pb::ListTemplatesResponse { templates: vec![template] }))
    }

    async fn get_template(&self, _: Request<pb::GetTemplateRequest>) -> Result<Response<pb::GetTemplateResponse>, Status> {
        Err(Status::unimplemented("not asked for by the command line"))
    }

    async fn explain_offers(&self, request: Request<pb::ExplainOffersRequest>) -> Result<Response<pb::ExplainOffersResponse>, Status> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let effect = pb::FilterEffect { field: "max_price_per_hour".into(), removed_count: 7, removed_alone_count: 9, matching_without_count: 7 };
        let relaxation = pb::Relaxation {
            field: "max_price_per_hour".into(),
            value: "$0.2467/h".into(),
            filter: Some(filter),
            matching_offer_count: 1,
            from_price_per_hour: usd(0, 246_700_000),
            from_price_text: "$0.2467/h".into(),
            change_permille: 233,
        };
        Ok(Response::new(pb::ExplainOffersResponse {
            total_offer_count: 9,
            effects: vec![effect],
            relaxations: vec![relaxation],
            set_aside_count: 2,
            set_aside_until_time: at("2026-11-23 22:30:00"),
            summary: "none of 9 offers meets the request".into(),
            ..Default::default()
        }))
    }

    async fn list_gpu_models(&self, _: Request<pb::ListGpuModelsRequest>) -> Result<Response<pb::ListGpuModelsResponse>, Status> {
        let model = pb::GpuModel {
            model: "RTX 4090".into(),
            gpu_memory_mib: 24_576,
            offer_count: 3,
            gpu_count: 5,
            min_price_per_gpu_hour: usd(0, 246_666_667),
            min_price_text: "$0.2467/h".into(),
            providers: vec!["vastai".into(), "tensordock".into()],
        };
        Ok(Response::new(pb::ListGpuModelsResponse { gpu_models: vec![model.encode_to_vec().into()], providers: Vec::new() }))
    }
}

type Tellings<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SessionService for Face {
    type WatchSessionStream = Tellings<pb::WatchSessionResponse>;
    type WatchSessionsStream = Tellings<pb::WatchSessionsResponse>;

    async fn create_session(&self, request: Request<pb::CreateSessionRequest>) -> Result<Response<pb::CreateSessionResponse>, Status> {
        self.with(|m| {
            m.creates_asked.push(request.into_inner());
            next(&mut m.creates)?.map(Response::new)
        })
    }

    async fn get_session(&self, request: Request<pb::GetSessionRequest>) -> Result<Response<pb::GetSessionResponse>, Status> {
        let session = match request.into_inner().session_id.as_str() {
            ID => running(),
            "pending" => session(State::Pending),
            id => return Err(missing("SESSION_NOT_FOUND", format!("no session {id}"))),
        };
        Ok(Response::new(pb::GetSessionResponse { session: session.encode_to_vec().into() }))
    }

    async fn list_sessions(&self, request: Request<pb::ListSessionsRequest>) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let states = request.into_inner().filter.unwrap_or_default().states;
        assert_eq!(states, [i32::from(State::Running), i32::from(State::Stopping)]);
        Ok(Response::new(pb::ListSessionsResponse { sessions: vec![running().encode_to_vec().into()], next_page_token: String::new() }))
    }

    async fn wait_session(&self, _: Request<pb::WaitSessionRequest>) -> Result<Response<pb::WaitSessionResponse>, Status> {
        match self.with(|m| m.waits.pop()) {
            Some(answer) => answer.map(|session| Response::new(pb::WaitSessionResponse { session: Some(session), reached: true })),
            None => std::future::pending().await,
        }
    }

    async fn watch_session(&self, request: Request<pb::WatchSessionRequest>) -> Result<Response<Self::WatchSessionStream>, Status> {
        use pb::watch_session_request::Start;
        let token = match request.into_inner().start {
            Some(Start::ResumeToken(token)) => token,
            Some(Start::FromNow(_)) => "now".into(),
            None => String::new(),
        };
        self.with(|m| {
            m.tokens.push(token);
            let messages = next(&mut m.watches)?;
            match messages.first() {
                Some(Err(refusal)) => Err(refusal.clone()),
                _ => Ok(Response::new(Box::pin(tokio_stream::iter(messages)) as Self::WatchSessionStream)),
            }
        })
    }

    async fn watch_sessions(&self, request: Request<pb::WatchSessionsRequest>) -> Result<Response<Self::WatchSessionsStream>, Status> {
        use watch_sessions_response::Message;
        assert_eq!(request.into_inner().filter.unwrap().consumer_id.as_deref(), Some("alice"));
        let end = pb::SnapshotEnd {
            revision: 2,
            counts: vec![pb::StateCount { state: State::Running.into(), count: 1 }],
            spend_per_hour: usd(0, 246_666_667),
            spend_text: String::new(),
        };
        let mut leaving = event(3, State::Stopping, pb::Stage::GpuVerified, "done");
        leaving.end_reason = pb::EndReason::Completed.into();
        let message = |message, token: &str| Ok(pb::WatchSessionsResponse { message: Some(message), resume_token: token.into() });
        let messages = tokio_stream::iter([
            message(Message::Snapshot(running()), ""),
            message(Message::SnapshotEnd(end), "a2"),
            message(Message::Event(leaving.encode_to_vec().into()), "a3"),
        ]);
        // It never ends by itself.
        Ok(Response::new(Box::pin(messages.chain(tokio_stream::pending()))))
    }

    async fn list_session_events(&self, _: Request<pb::ListSessionEventsRequest>) -> Result<Response<pb::ListSessionEventsResponse>, Status> {
        let events = vec![event(3, State::Running, pb::Stage::GpuVerified, "ready")];
        Ok(Response::new(pb::ListSessionEventsResponse { events, next_page_token: String::new() }))
    }

    async fn extend_session(&self, request: Request<pb::ExtendSessionRequest>) -> Result<Response<pb::ExtendSessionResponse>, Status> {
        self.with(|m| m.extends_asked.push(request.into_inner()));
        Ok(Response::new(pb::ExtendSessionResponse { session: Some(running()), resume_token: String::new(), replayed: false }))
    }

    async fn update_session(&self, request: Request<pb::UpdateSessionRequest>) -> Result<Response<pb::UpdateSessionResponse>, Status> {
        let request = request.into_inner();
        let spec = pb::SessionSpec { idle_threshold: request.idle_threshold, ..Default::default() };
        match request.update_mask.unwrap().paths.as_slice() {
            [one] if one == "labels" => assert_eq!(request.idle_threshold, None),
            [one] if one == "idle_threshold" => assert!(request.labels.is_empty() && request.idle_threshold.is_some()),
            other => panic!("{other:?}"),
        }
        let session = pb::Session { labels: request.labels, spec: Some(spec), ..running() };
        Ok(Response::new(pb::UpdateSessionResponse { session: Some(session), resume_token: String::new(), replayed: false }))
    }

    async fn rotate_session_key(&self, request: Request<pb::RotateSessionKeyRequest>) -> Result<Response<pb::RotateSessionKeyResponse>, Status> {
        let request = request.into_inner();
        let made = request.ssh_public_key.is_none();
        self.with(|m| m.rotates_asked.push(request));
        let ssh_private_key = if made { "-----BEGIN OPENSSH PRIVATE KEY-----\nnew\n".to_owned() } else { String::new() };
        Ok(Response::new(pb::RotateSessionKeyResponse {
            session: Some(rekeyed(false)),
            resume_token: "rekey".into(),
            replayed: false,
            ssh_private_key,
        }))
    }

    async fn keep_alive(&self, request: Request<pb::KeepAliveRequest>) -> Result<Response<pb::KeepAliveResponse>, Status> {
        assert!(!request.into_inner().request_id.is_empty());
        Ok(Response::new(pb::KeepAliveResponse { session: Some(running()), resume_token: String::new(), replayed: false }))
    }

    async fn complete_session(&self, request: Request<pb::CompleteSessionRequest>) -> Result<Response<pb::CompleteSessionResponse>, Status> {
        self.with(|m| m.outcomes.push(request.into_inner().outcome));
        Ok(Response::new(pb::CompleteSessionResponse { session: Some(stopping()), resume_token: "end".into(), replayed: false }))
    }

    async fn destroy_session(&self, request: Request<pb::DestroySessionRequest>) -> Result<Response<pb::DestroySessionResponse>, Status> {
        assert!(!request.into_inner().request_id.is_empty());
        Ok(Response::new(pb::DestroySessionResponse { session: Some(stopping()), resume_token: "end".into(), replayed: false }))
    }

    async fn get_session_diagnostics(
        &self,
        _: Request<pb::GetSessionDiagnosticsRequest>,
    ) -> Result<Response<pb::GetSessionDiagnosticsResponse>, Status> {
        use pb::get_session_diagnostics_response::FreshGpu;
        let gpu = pb::ReportedGpu { name: "NVIDIA GeForce RTX 4090".into(), memory_mib: 24_576 };
        let instance = pb::Instance {
            attempt: 1,
            provider: "vastai".into(),
            native_id: "4711".into(),
            launch: pb::instance::Launch::Accepted.into(),
            desired: pb::instance::Desired::Present.into(),
            status: pb::instance::Status::Running.into(),
            ..Default::default()
        };
        Ok(Response::new(pb::GetSessionDiagnosticsResponse {
            session: Some(running()),
            instances: vec![instance],
            probes: 3,
            fresh_gpu: Some(FreshGpu::FreshGpuReport(pb::GpuReport { gpus: vec![gpu], ..Default::default() })),
            ..Default::default()
        }))
    }
}

fn stopping() -> pb::Session {
    pb::Session { end_reason: pb::EndReason::Completed.into(), ..session(State::Stopping) }
}

#[tonic::async_trait]
impl CostService for Face {
    async fn get_session_cost(&self, request: Request<pb::GetSessionCostRequest>) -> Result<Response<pb::GetSessionCostResponse>, Status> {
        let component = |component: pb::CostComponent, nanos| pb::ComponentCost { component: component.into(), amount: amount(0, nanos) };
        Ok(Response::new(pb::GetSessionCostResponse {
            session_id: request.into_inner().session_id,
            total: amount(0, 246_666_667),
            components: vec![component(pb::CostComponent::Gpu, 200_000_000), component(pb::CostComponent::Disk, 46_666_667)],
            attempts: vec![pb::AttemptCost { attempt: 1, amount: amount(0, 246_666_667) }],
            ..Default::default()
        }))
    }

    async fn get_cost_report(&self, request: Request<pb::GetCostReportRequest>) -> Result<Response<pb::GetCostReportResponse>, Status> {
        self.with(|m| m.reports_asked.push(request.into_inner()));
        let group = |keys: [&str; 2], amount, session_count, seconds| pb::CostGroup {
            keys: keys.map(str::to_owned).to_vec(),
            amount,
            session_count,
            gpu_time: Some(Duration { seconds, nanos: 0 }),
        };
        let wide = |cost, low, high| Some(pb::CostAmount { cost, low, high, text: String::new(), estimated: true });
        Ok(Response::new(pb::GetCostReportResponse {
            end_time: at("2026-11-23 22:00:00"),
            total: wide(usd(1, 246_666_667), usd(1, 146_666_667), usd(1, 346_666_667)),
            groups: vec![
                group(["alice", "vision"], amount(0, 246_666_667), 1, 3600),
                group(["bob", ""], wide(usd(1, 0), usd(0, 900_000_000), usd(1, 100_000_000)), 2, 1800),
            ],
            session_count: 3,
            unmetered: vec!["traffic".into()],
            ..Default::default()
        }))
    }

    async fn list_ledger_entries(&self, request: Request<pb::ListLedgerEntriesRequest>) -> Result<Response<pb::ListLedgerEntriesResponse>, Status> {
        let entry = pb::LedgerEntry {
            session_id: request.into_inner().filter.unwrap_or_default().session_id.unwrap_or_default(),
            attempt: 1,
            component: pb::CostComponent::Gpu.into(),
            rate_text: "$0.246666666667/h".into(),
            start_time: at("2026-11-23 21:30:30"),
            running: true,
            amount: amount(0, 246_666_667),
            ..Default::default()
        };
        Ok(Response::new(pb::ListLedgerEntriesResponse { entries: vec![entry], next_page_token: String::new() }))
    }

    async fn get_spend_rate(&self, _: Request<pb::GetSpendRateRequest>) -> Result<Response<pb::GetSpendRateResponse>, Status> {
        let rate = |running, stopping, unpriced_count| pb::SpendRate {
            running_per_hour: usd(running, 0),
            stopping_per_hour: usd(0, stopping),
            stray_per_hour: usd(0, 0),
            foreign_per_hour: usd(0, 0),
            total_per_hour: usd(running, stopping),
            total_text: String::new(),
            unpriced_count,
        };
        let told = pb::ProviderSpend {
            provider: "vastai".into(),
            rate: Some(rate(12, 246_666_667, 0)),
            balance: usd(100, 0),
            balance_text: String::new(),
            lasts: Some(Duration { seconds: 29_400, nanos: 0 }),
        };
        let untold = pb::ProviderSpend { provider: "tensordock".into(), rate: Some(rate(0, 0, 1)), ..Default::default() };
        Ok(Response::new(pb::GetSpendRateResponse { providers: vec![untold, told], total: Some(rate(12, 246_666_667, 1)) }))
    }
}

#[tonic::async_trait]
impl OperatorService for Face {
    async fn list_providers(&self, _: Request<pb::ListProvidersRequest>) -> Result<Response<pb::ListProvidersResponse>, Status> {
        use pb::provider_status::Breaker;
        let ill = pb::ProviderStatus {
            provider: "tensordock".into(),
            credentials_error: "token is bad".into(),
            breaker: Breaker::Open.into(),
            consecutive_failures: 3,
            last_error: "401".into(),
            last_error_time: at("2026-11-23 21:59:00"),
            ..Default::default()
        };
        let well = pb::ProviderStatus {
            provider: "vastai".into(),
            credentials_ok: true,
            account: "u-1".into(),
            balance: usd(12, 340_000_000),
            freshness: Some(pb::ProviderFreshness { offer_count: 300, fetch_time: at("2026-11-23 21:59:48"), ..Default::default() }),
            breaker: Breaker::Closed.into(),
            open_session_count: 2,
            list_time: at("2026-11-23 21:59:30"),
            ..Default::default()
        };
        Ok(Response::new(pb::ListProvidersResponse { providers: vec![ill, well] }))
    }

    async fn list_offer_health(&self, request: Request<pb::ListOfferHealthRequest>) -> Result<Response<pb::ListOfferHealthResponse>, Status> {
        use pb::offer_health::Kind;
        let asked = request.into_inner();
        assert!(asked.set_aside_only && asked.kinds == [i32::from(Kind::Machine)], "{asked:?}");
        let entry = |name: &str| pb::OfferHealth {
            kind: Kind::Machine.into(),
            name: name.into(),
            provider: "vastai".into(),
            launch_count: 5,
            usable_count: 2,
            failure_counts: [("offer_gone".to_owned(), 1), ("auth_failed".to_owned(), 2)].into(),
            last_outcome: "auth_failed".into(),
            last_time: at("2026-11-23 21:59:00"),
            set_aside_until_time: at("2026-11-24 03:59:00"),
            set_aside_reason: "auth_failed".into(),
            confidence: 0.25,
            ..Default::default()
        };
        let (name, next) = if asked.page_token.is_empty() { ("vastai:1", "more") } else { ("vastai:2", "") };
        Ok(Response::new(pb::ListOfferHealthResponse {
            entries: vec![entry(name)],
            next_page_token: next.into(),
            total_size: 2,
            observes_only: true,
        }))
    }

    async fn list_unconfirmed_destroys(
        &self,
        _: Request<pb::ListUnconfirmedDestroysRequest>,
    ) -> Result<Response<pb::ListUnconfirmedDestroysResponse>, Status> {
        let debt = pb::UnconfirmedDestroy {
            instance: Some(pb::Instance { label: "gs-5abn2v1n-x-1".into(), provider: "vastai".into(), destroy_tries: 2, ..Default::default() }),
            since_time: at("2026-11-23 21:59:00"),
            at_risk_per_hour: usd(0, 246_666_667),
            at_risk_text: String::new(),
            vendor_call: "curl -X DELETE https://vendor/1".into(),
            age: Some(Duration { seconds: 60, nanos: 0 }),
        };
        Ok(Response::new(pb::ListUnconfirmedDestroysResponse {
            destroys: vec![debt],
            at_risk_per_hour: usd(0, 246_666_667),
            at_risk_text: String::new(),
        }))
    }

    async fn drain_sessions(&self, request: Request<pb::DrainSessionsRequest>) -> Result<Response<pb::DrainSessionsResponse>, Status> {
        let planned = request.into_inner().validate_only;
        let ending = pb::Session { end_reason: pb::EndReason::Admin.into(), ..session(State::Stopping) };
        Ok(Response::new(pb::DrainSessionsResponse {
            sessions: vec![if planned { running() } else { ending }],
            at_risk_per_hour: usd(0, 246_666_667),
            at_risk_text: String::new(),
        }))
    }

    async fn retry_destroy(&self, request: Request<pb::RetryDestroyRequest>) -> Result<Response<pb::RetryDestroyResponse>, Status> {
        self.with(|m| m.orders.push(format!("retry {}", request.into_inner().label)));
        Ok(Response::new(pb::RetryDestroyResponse { session: Some(stopping()) }))
    }

    async fn settle_instance(&self, request: Request<pb::SettleInstanceRequest>) -> Result<Response<pb::SettleInstanceResponse>, Status> {
        let request = request.into_inner();
        self.with(|m| m.orders.push(format!("settle {}: {}", request.label, request.reason)));
        Ok(Response::new(pb::SettleInstanceResponse { session: Some(session(State::Stopped)) }))
    }

    async fn list_stray_instances(&self, _: Request<pb::ListStrayInstancesRequest>) -> Result<Response<pb::ListStrayInstancesResponse>, Status> {
        Ok(Response::new(pb::ListStrayInstancesResponse {
            instances: strays(),
            price_per_hour: usd(0, 246_666_667),
            price_text: String::new(),
            unpriced_count: 1,
        }))
    }

    async fn list_foreign_instances(
        &self,
        _: Request<pb::ListForeignInstancesRequest>,
    ) -> Result<Response<pb::ListForeignInstancesResponse>, Status> {
        Ok(Response::new(pb::ListForeignInstancesResponse {
            instances: foreign(),
            price_per_hour: usd(1, 0),
            price_text: String::new(),
            unpriced_count: 0,
        }))
    }

    async fn adopt_instance(&self, request: Request<pb::AdoptInstanceRequest>) -> Result<Response<pb::AdoptInstanceResponse>, Status> {
        let asked = request.into_inner();
        let length = asked.reservation.map(|d| d.seconds);
        self.with(|m| m.orders.push(format!("adopt {} {} {:?} {length:?}", asked.provider, asked.native_id, asked.consumer_id)));
        Ok(Response::new(pb::AdoptInstanceResponse { session: Some(pb::Session { expire_time: at("2026-11-24 00:00:00"), ..running() }) }))
    }

    async fn destroy_instance(&self, request: Request<pb::DestroyInstanceRequest>) -> Result<Response<pb::DestroyInstanceResponse>, Status> {
        let asked = request.into_inner();
        if asked.native_id == "404" {
            return Err(missing("STRAY_NOT_FOUND", "no stray 404".to_owned()));
        }
        self.with(|m| m.orders.push(format!("destroy {} {}", asked.provider, asked.native_id)));
        let doomed = pb::Session { end_reason: pb::EndReason::Orphan.into(), ..session(State::Stopping) };
        Ok(Response::new(pb::DestroyInstanceResponse { session: Some(doomed) }))
    }

    async fn sweep_now(&self, _: Request<pb::SweepNowRequest>) -> Result<Response<pb::SweepNowResponse>, Status> {
        let failure = pb::SweepFailure { provider: "tensordock".into(), error: "timed out".into() };
        Ok(Response::new(pb::SweepNowResponse {
            complete_providers: vec!["vastai".into()],
            failures: if self.with(|m| m.unlisted) { vec![failure] } else { Vec::new() },
            strays: strays(),
            foreign: foreign(),
        }))
    }

    async fn set_hold(&self, request: Request<pb::SetHoldRequest>) -> Result<Response<pb::SetHoldResponse>, Status> {
        let asked = request.into_inner();
        let holds = if asked.lift { Vec::new() } else { vec![a_hold()] };
        self.with(|m| m.holds_asked.push(asked));
        Ok(Response::new(pb::SetHoldResponse { holds }))
    }

    async fn get_hold(&self, _: Request<pb::GetHoldRequest>) -> Result<Response<pb::GetHoldResponse>, Status> {
        let database_frozen = self.with(|m| m.frozen);
        let frozen_reason = if database_frozen { "it is older than its epoch".to_owned() } else { String::new() };
        Ok(Response::new(pb::GetHoldResponse { holds: vec![a_hold()], database_frozen, frozen_reason }))
    }

    async fn accept_database(&self, _: Request<pb::AcceptDatabaseRequest>) -> Result<Response<pb::AcceptDatabaseResponse>, Status> {
        self.with(|m| m.orders.push("accept".to_owned()));
        Ok(Response::new(pb::AcceptDatabaseResponse {}))
    }

    async fn create_token(&self, request: Request<pb::CreateTokenRequest>) -> Result<Response<pb::CreateTokenResponse>, Status> {
        let pb::CreateTokenRequest { name, role, consumer_id, lifetime } = request.into_inner();
        self.with(|m| m.orders.push(format!("create {name} {role} {consumer_id:?} {:?}", lifetime.map(|l| l.seconds))));
        let token = pb::Token { name, role, consumer_id, ..Default::default() };
        Ok(Response::new(pb::CreateTokenResponse { token: Some(token), token_text: "gst_canned".to_owned() }))
    }

    async fn list_tokens(&self, request: Request<pb::ListTokensRequest>) -> Result<Response<pb::ListTokensResponse>, Status> {
        let said = request.metadata().get("authorization").map(|v| v.to_str().unwrap().to_owned());
        self.with(|m| m.orders.push(format!("list as {said:?}")));
        let token = |name: &str, role: pb::TokenRole| pb::Token { name: name.to_owned(), role: role.into(), ..Default::default() };
        let gone = pb::Token { revoke_time: at("2026-11-23 21:30:00"), revoked_by: "admin".to_owned(), ..token("old", pb::TokenRole::Consumer) };
        let past = pb::Token { expire_time: at("2026-11-23 21:30:00"), ..token("past", pb::TokenRole::ReadOnly) };
        Ok(Response::new(pb::ListTokensResponse { tokens: vec![token("admin", pb::TokenRole::Admin), gone, past] }))
    }

    async fn revoke_token(&self, request: Request<pb::RevokeTokenRequest>) -> Result<Response<pb::RevokeTokenResponse>, Status> {
        let name = request.into_inner().name;
        self.with(|m| m.orders.push(format!("revoke {name}")));
        let token = pb::Token { name, role: pb::TokenRole::Consumer.into(), consumer_id: Some("alice".to_owned()), ..Default::default() };
        Ok(Response::new(pb::RevokeTokenResponse { token: Some(token) }))
    }

    async fn list_audit_entries(&self, request: Request<pb::ListAuditEntriesRequest>) -> Result<Response<pb::ListAuditEntriesResponse>, Status> {
        let asked = request.into_inner();
        let first = asked.page_token.is_empty();
        self.with(|m| m.audit_asked.push(asked));
        let entry = pb::AuditEntry {
            number: if first { 12 } else { 3 },
            time: at("2026-11-23 21:30:00"),
            actor: "operator".into(),
            action: if first { "set_hold" } else { "lift_hold" }.into(),
            target: "vastai sweeper".into(),
            detail: if first { "we look ourselves" } else { "" }.into(),
        };
        Ok(Response::new(pb::ListAuditEntriesResponse { entries: vec![entry], next_page_token: if first { "p2".into() } else { String::new() } }))
    }
}

fn strays() -> Vec<pb::StrayInstance> {
    let stray = pb::StrayInstance {
        provider: "vastai".into(),
        native_id: "17294410".into(),
        label: "gs-5abn2v1n-x-1".into(),
        kind: pb::stray_instance::Kind::Stray.into(),
        status: pb::instance::Status::Running.into(),
        price_per_hour: usd(0, 246_666_667),
        first_seen_time: at("2026-11-23 21:30:00"),
        list_count: 12,
        alarmed: true,
        vendor_call: "curl -X DELETE https://vendor/17294410".into(),
        adopt_command: "gpu-shopper ops adopt vastai 17294410".into(),
        destroy_command: "gpu-shopper ops destroy-instance vastai 17294410".into(),
        ..Default::default()
    };
    let orphan = pb::StrayInstance {
        native_id: "9".into(),
        kind: pb::stray_instance::Kind::Orphan.into(),
        price_per_hour: None,
        list_count: 1,
        alarmed: false,
        waits_for: "its turn".into(),
        vendor_call: String::new(),
        adopt_command: String::new(),
        destroy_command: "gpu-shopper ops destroy-instance vastai 9".into(),
        ..stray.clone()
    };
    vec![stray, orphan]
}

fn foreign() -> Vec<pb::ForeignInstance> {
    vec![pb::ForeignInstance {
        provider: "vastai".into(),
        native_id: "77".into(),
        label: "gs-6c9bd5at-y-1".into(),
        other_deployment: "6c9bd5at".into(),
        status: pb::instance::Status::Running.into(),
        price_per_hour: usd(1, 0),
        first_seen_time: at("2026-11-23 21:00:00"),
        list_count: 30,
        ..Default::default()
    }]
}

fn a_hold() -> pb::Hold {
    pb::Hold {
        provider: "vastai".into(),
        kind: pb::HoldKind::Sweeper.into(),
        until_time: None,
        reason: "we look ourselves".into(),
        set_by: "operator".into(),
        set_time: at("2026-11-23 21:30:00"),
    }
}
