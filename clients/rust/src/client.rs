//! The client: one connection, the services over it, and what everybody needs on top of them.

use crate::address::{Environment, address};
use crate::error::Error;
use crate::insist::{Patience, insist};
use crate::pb;
use crate::pb::cost_service_client::CostServiceClient;
use crate::pb::inventory_service_client::InventoryServiceClient;
use crate::pb::operator_service_client::OperatorServiceClient;
use crate::pb::session::State;
use crate::pb::session_service_client::SessionServiceClient;
use crate::watch::{Subject, Watch, WatchStart};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

const CONNECT: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(20);
const LARGEST_ANSWER: usize = 64 << 20;
/// How long one question for a state may be answered late.
const LONG_POLL: Duration = Duration::from_secs(30);
/// A century. What is longer than that is no limit, and too much for a clock.
const LONGEST: Duration = Duration::from_secs(36_525 * 24 * 60 * 60);
/// The default time for waiting.
const WAIT: Duration = Duration::from_secs(30 * 60);

/// What calls go through: a connection that is made again when it is lost, and the token.
pub type Wire = InterceptedService<Channel, Bearer>;

/// Sends the token with each call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(***)")
    }
}

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// How to connect. What is not given comes from the environment, with the names that the command line knows.
#[derive(Clone, Default)]
pub struct Options {
    /// Sent with each call as `authorization: Bearer …`; an empty one is none. Default: `GPU_SHOPPER_TOKEN`, else what the file
    /// `GPU_SHOPPER_TOKEN_FILE` holds, else none.
    pub token: Option<String>,
    /// PEM certificates of the only authorities to trust with `https`. Default: those in the file `GPU_SHOPPER_CA_CERT`, else the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// PEM certificate and private key of the client itself, for servers that ask for them. Default: the files `GPU_SHOPPER_CLIENT_CERT` and
    /// `GPU_SHOPPER_CLIENT_KEY`, else none.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// How long calls are repeated while the server is away.
    pub patience: Patience,
}

impl fmt::Debug for Options {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// Rents and follows machines. Cheap to clone: clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    wire: Wire,
    pub(crate) patience: Patience,
}

impl Client {
    /// A client of the server that `GPU_SHOPPER_URL` names, else of `http://127.0.0.1:8080`; see [`Client::with`].
    ///
    /// # Errors
    /// As [`Client::with`].
    pub fn from_env() -> Result<Self, Error> {
        Self::new("")
    }

    /// A client of the server at an address; see [`Client::with`].
    ///
    /// # Errors
    /// As [`Client::with`].
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::with(url, Options::default())
    }

    /// A client of the server at `http://host:port`, `https://host:port` or `host:port`, with a token, certificates or other patience. An empty
    /// address is that of [`Client::from_env`]. Connects with the first call. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] when an argument makes no sense, or a file of the environment can't be read.
    pub fn with(url: &str, options: Options) -> Result<Self, Error> {
        let environment = Environment(&|name| std::env::var(name).ok());
        let url = if url.is_empty() { environment.url() } else { url.to_owned() };
        let (url, https) = address(&url)?;
        let mut endpoint = Endpoint::from(url)
            .user_agent(concat!("gpu-shopper-client-rust/", env!("CARGO_PKG_VERSION")))
            .map_err(|e| Error::Invalid(e.to_string()))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE / 2)
            .keep_alive_while_idle(true);
        let options = environment.fill(options, https)?;
        if https {
            let trust = match &options.ca_pem {
                Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            let trust = match &options.identity_pem {
                Some((certificate, key)) => trust.identity(Identity::from_pem(certificate, key)),
                None => trust,
            };
            endpoint = endpoint.tls_config(trust).map_err(|e| Error::Invalid(format!("the certificates can't be used: {e}")))?;
        }
        let token = match options.token.as_deref().filter(|token| !token.is_empty()) {
            Some(token) => {
                let mut value: MetadataValue<Ascii> =
                    format!("Bearer {token}").parse().map_err(|_| Error::Invalid("the token has characters that no header can carry".to_owned()))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Self { wire: InterceptedService::new(endpoint.connect_lazy(), Bearer(token)), patience: options.patience })
    }

    /// The plain generated client of the inventory.
    #[must_use]
    pub fn inventory(&self) -> InventoryServiceClient<Wire> {
        InventoryServiceClient::new(self.wire.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// The plain generated client of the sessions.
    #[must_use]
    pub fn sessions(&self) -> SessionServiceClient<Wire> {
        SessionServiceClient::new(self.wire.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// The plain generated client of the costs.
    #[must_use]
    pub fn costs(&self) -> CostServiceClient<Wire> {
        CostServiceClient::new(self.wire.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// The plain generated client of what an operator looks at and orders. Its calls are never repeated by themselves.
    #[must_use]
    pub fn operator(&self) -> OperatorServiceClient<Wire> {
        OperatorServiceClient::new(self.wire.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// All offers that match, page after page, best first.
    #[must_use]
    pub fn offers(&self, request: pb::ListOffersRequest) -> Pages<pb::Offer> {
        let client = self.clone();
        Pages::new(move |token| {
            let (client, mut request) = (client.clone(), request.clone());
            request.page_token = token;
            request.page_size = if request.page_size == 0 { 1000 } else { request.page_size };
            async move { client.list_offers(request).await.map(|page| (page.offers, page.next_page_token)) }
        })
    }

    /// All sessions that match, page after page, newest first.
    #[must_use]
    pub fn all_sessions(&self, request: pb::ListSessionsRequest) -> Pages<pb::Session> {
        let client = self.clone();
        Pages::new(move |token| {
            let (client, mut request) = (client.clone(), request.clone());
            request.page_token = token;
            request.page_size = if request.page_size == 0 { 1000 } else { request.page_size };
            async move { client.list_sessions(request).await.map(|page| (page.sessions, page.next_page_token)) }
        })
    }

    /// Everything that happened to a session, page after page, oldest first. A `page_size` of 0 is the largest.
    #[must_use]
    pub fn events(&self, session_id: &str, page_size: i32) -> Pages<pb::SessionEvent> {
        let (client, session_id) = (self.clone(), session_id.to_owned());
        Pages::new(move |page_token| {
            let page_size = if page_size == 0 { 1000 } else { page_size };
            let (client, request) = (client.clone(), pb::ListSessionEventsRequest { session_id: session_id.clone(), page_size, page_token });
            async move { client.list_session_events(request).await.map(|page| (page.events, page.next_page_token)) }
        })
    }

    /// Follows one session until it has ended: every event once and in order, across lost connections and restarts.
    #[must_use]
    pub fn watch(&self, session_id: &str, start: WatchStart) -> Watch {
        Watch::new(self.clone(), Subject::One(session_id.to_owned()), start)
    }

    /// Follows all sessions that match. Never ends by itself.
    #[must_use]
    pub fn watch_all(&self, filter: pb::SessionFilter, start: WatchStart) -> Watch {
        Watch::new(self.clone(), Subject::All(Box::new(filter)), start)
    }

    /// Waits until a session is RUNNING: verified and ready for login. Half an hour at most.
    ///
    /// # Errors
    /// [`Error::Ended`] when it ends instead; [`Error::TimedOut`]; [`Error::Refused`].
    pub async fn wait_for_running(&self, session_id: &str) -> Result<pb::Session, Error> {
        self.wait_for_running_within(session_id, WAIT).await
    }

    /// Waits until a session is RUNNING, at most this long; [`Duration::MAX`] is no limit.
    ///
    /// # Errors
    /// As [`Client::wait_for_running`].
    pub async fn wait_for_running_within(&self, session_id: &str, limit: Duration) -> Result<pb::Session, Error> {
        let session = self.wait_for(session_id, &[State::Running, State::Stopping], limit).await?;
        if session.state() == State::Running { Ok(session) } else { Err(Error::Ended(Box::new(session))) }
    }

    /// Waits until a session is STOPPED or FAILED: every machine of it is proven gone. Half an hour at most.
    ///
    /// # Errors
    /// [`Error::TimedOut`]; [`Error::Refused`].
    pub async fn wait_for_end(&self, session_id: &str) -> Result<pb::Session, Error> {
        self.wait_for_end_within(session_id, WAIT).await
    }

    /// Waits until a session is STOPPED or FAILED, at most this long; [`Duration::MAX`] is no limit.
    ///
    /// # Errors
    /// As [`Client::wait_for_end`].
    pub async fn wait_for_end_within(&self, session_id: &str, limit: Duration) -> Result<pb::Session, Error> {
        self.wait_for(session_id, &[State::Stopped, State::Failed], limit).await
    }

    /// Waits until a session is in one of some states, or STOPPED or FAILED, which nothing follows.
    ///
    /// # Errors
    /// [`Error::TimedOut`]; [`Error::Refused`].
    pub async fn wait_for(&self, session_id: &str, until: &[State], limit: Duration) -> Result<pb::Session, Error> {
        let waited = limit.min(LONGEST);
        let end = Instant::now() + waited;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let poll = left.min(LONG_POLL);
            let timeout = prost_types::Duration {
                seconds: i64::try_from(poll.as_secs()).unwrap_or(30),
                nanos: i32::try_from(poll.subsec_nanos()).unwrap_or(0),
            };
            let until = until.iter().map(|s| i32::from(*s)).collect();
            let request = pb::WaitSessionRequest { session_id: session_id.to_owned(), until, timeout: Some(timeout) };
            let patience = Patience { timeout: left + self.patience.one_try, one_try: LONG_POLL + self.patience.one_try, ..self.patience.clone() };
            let answer = insist(&patience, request, |request| {
                let mut sessions = self.sessions();
                async move { sessions.wait_session(request).await }
            })
            .await?;
            let session = answer.session.unwrap_or_default();
            if answer.reached || matches!(session.state(), State::Stopped | State::Failed) {
                return Ok(session);
            }
            if left.is_zero() {
                return Err(Error::TimedOut { session: Box::new(session), waited });
            }
        }
    }
}

type Page<T> = Pin<Box<dyn Future<Output = Result<(Vec<T>, String), Error>> + Send>>;

/// All items of all pages, fetched as they are asked for.
pub struct Pages<T> {
    fetch: Box<dyn FnMut(String) -> Page<T> + Send>,
    items: VecDeque<T>,
    token: Option<String>,
}

impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("fetched", &self.items.len()).field("token", &self.token).finish_non_exhaustive()
    }
}

impl<T> Pages<T> {
    /// The items of any call that has pages: `fetch` gives those of the page at a token, which is empty at first, and the next page's token.
    ///
    /// ```no_run
    /// # use gpu_shopper_client::{Client, Pages, pb};
    /// # fn entries(client: Client) -> Pages<pb::LedgerEntry> {
    /// Pages::new(move |page_token| {
    ///     let (client, request) = (client.clone(), pb::ListLedgerEntriesRequest { page_token, page_size: 1000, ..Default::default() });
    ///     async move { client.list_ledger_entries(request).await.map(|page| (page.entries, page.next_page_token)) }
    /// })
    /// # }
    /// ```
    pub fn new<F>(mut fetch: impl FnMut(String) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(Vec<T>, String), Error>> + Send + 'static,
    {
        Self { fetch: Box::new(move |token| Box::pin(fetch(token))), items: VecDeque::new(), token: Some(String::new()) }
    }

    /// The next one; `None` after the last.
    ///
    /// # Errors
    /// As the call that fetches a page.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Ok(Some(item));
            }
            let Some(token) = self.token.clone() else { return Ok(None) };
            let (items, next) = (self.fetch)(token).await?;
            self.items = items.into();
            self.token = Some(next).filter(|t| !t.is_empty());
        }
    }

    /// All of them.
    ///
    /// # Errors
    /// As the call that fetches a page.
    pub async fn collect(mut self) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        while let Some(item) = self.next().await? {
            all.push(item);
        }
        Ok(all)
    }
}
