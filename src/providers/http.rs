//! The way to a vendor: one HTTP client per provider, with deadlines, size caps, rate lanes, a circuit breaker, metrics
//! and errors that say whether what was asked for may have happened.
//!
//! A vendor's adapter describes a [`Call`] and gives a function that reads the [`Reply`], whatever its status: an error
//! body may still name a machine that was created. Calls that create something are sent once and never again, over a
//! connection of their own, so that a connection that the vendor closed meanwhile leaves no doubt about them.
//!
//! The key travels in the `Authorization` header only, to the configured host only: redirects elsewhere are not followed.
//! A call is a span of the trace that it is made in, but no trace header goes to a vendor: none joins our traces, and an id
//! of ours that goes with each call would only tell outsiders which of them belong together.

use crate::clock::{Clock, Stopwatch};
use crate::domain::hiding::hide;
use crate::domain::ids::ProviderId;
use crate::domain::time::{Look, Time};
use crate::ports::{Breaker as Position, Chance, ErrorKind, LinkState, ProviderError};
use crate::providers::call::{Call, CallKind, Fault, Reply};
use crate::providers::lanes::{Breaker, Lane};
use crate::providers::rows::{Arriving, Whole};
use crate::providers::unsaid::Unsaid;
use crate::providers::words;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::Instrument;

/// How long a connection may take to come about. Nothing was sent before.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// The longest wait for a turn in a rate lane, for calls that somebody waits for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same for launches, which may stand in a long queue.
pub const LAUNCH_PATIENCE: Duration = Duration::from_secs(180);
/// The same for destroys: whatever waits longer is told of, and comes again.
pub const DESTROY_PATIENCE: Duration = Duration::from_secs(600);
/// A vendor's wait above this is not waited for inside a call.
const LONGEST_INNER_WAIT: Duration = Duration::from_secs(20);
/// The longest that we wait because a vendor says so: a machine that nobody wants costs money meanwhile, and nobody sees what it does.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);
/// The longest wait that is told: minimum terms last days, not years.
const LONGEST_TOLD_WAIT: Duration = Duration::from_secs(60 * 86_400);
/// Redirects followed on the same host.
const MOST_REDIRECTS: usize = 3;
/// Every operation, as in metrics and errors.
pub const OPERATIONS: [&str; 9] = ["account", "offers", "templates", "launch", "attach_key", "instance", "instances", "start", "destroy"];

/// What all providers share.
#[derive(Clone)]
pub struct Context {
    /// The clock that looks are taken by.
    pub clock: Clock,
    /// Jitter.
    pub chance: Arc<dyn Chance>,
    /// Deadlines and pace.
    pub tuning: Tuning,
}

impl Context {
    /// With the usual deadlines and the vendors' pace.
    #[must_use]
    pub fn new(clock: Clock, chance: Arc<dyn Chance>) -> Self {
        Self { clock, chance, tuning: Tuning::default() }
    }
}

/// Deadlines and pace of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// From sending a call to the end of its answer.
    pub call_deadline: Duration,
    /// The same for creating a machine.
    pub launch_deadline: Duration,
    /// The same for a list of offers.
    pub offers_deadline: Duration,
    /// How often a read is tried again after a throttle, a server error or a broken connection.
    pub read_retries: u32,
    /// The first wait between two tries of a read; grows with each.
    pub read_backoff: Duration,
    /// The wait after a throttle that says no time.
    pub throttle_wait: Duration,
    /// The vendors' intervals in percent: 100 = as they ask, 0 = none (against simulated vendors).
    pub pace_percent: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            call_deadline: Duration::from_secs(30),
            launch_deadline: Duration::from_secs(120),
            offers_deadline: Duration::from_secs(120),
            read_retries: 2,
            read_backoff: Duration::from_millis(500),
            throttle_wait: Duration::from_secs(5),
            pace_percent: 100,
        }
    }
}

/// Makes ring the process's TLS provider. May be called any number of times.
pub fn install_crypto() {
    // An error means that one is installed already, which is all we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The link to one vendor with one credential.
pub struct Link {
    provider: ProviderId,
    base: Url,
    bearer: SecretString,
    secrets: Vec<SecretString>,
    pooled: reqwest::Client,
    fresh: reqwest::Client,
    lanes: Vec<Lane>,
    breaker: Breaker,
    notes: Mutex<Notes>,
    context: Context,
}

#[derive(Debug, Default)]
struct Notes {
    last_error: Option<(Time, String)>,
    last_ok_at: Option<Time>,
    throttled_until: Option<Time>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("provider", &self.provider).field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl Link {
    /// A link to `base` (`https://host[:port][/path]`), authenticated by `bearer`. `lanes` are (name, interval, burst) at
    /// the vendor's pace.
    ///
    /// # Errors
    /// In words, when the address is none or no TLS set-up is possible.
    pub fn new(
        provider: &str,
        base: &str,
        bearer: SecretString,
        secrets: Vec<SecretString>,
        lanes: &[(&'static str, Duration, u32)],
        context: Context,
    ) -> Result<Self, String> {
        install_crypto();
        let base = Url::parse(base.trim().trim_end_matches('/')).map_err(|fault| format!("`{base}` is no address: {fault}"))?;
        let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if !matches!(base.scheme(), "http" | "https") || host.is_empty() {
            return Err(format!("`{base}` is no http or https address"));
        }
        if !base.username().is_empty() || base.password().is_some() || base.query().is_some() {
            return Err("the base address may carry neither user, password nor query".to_owned());
        }
        let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let client = |idle: usize| {
            let builder = reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .connect_timeout(CONNECT_DEADLINE)
                .pool_max_idle_per_host(idle)
                .pool_idle_timeout(Duration::from_secs(30))
                .user_agent(concat!("gpu-shopper/", env!("CARGO_PKG_VERSION")));
            let builder = if loopback { builder.no_proxy() } else { builder };
            builder.build().map_err(|fault| format!("no HTTP client: {fault}"))
        };
        let pace = context.tuning.pace_percent;
        let lanes = lanes.iter().map(|(name, interval, burst)| Lane::new(name, *interval * pace / 100, *burst)).collect();
        let link = Self {
            provider: ProviderId::new(provider),
            base,
            bearer,
            secrets,
            pooled: client(8)?,
            fresh: client(0)?,
            lanes,
            breaker: Breaker::default(),
            notes: Mutex::default(),
            context,
        };
        link.register_metrics();
        Ok(link)
    }

    /// Deadlines and pace.
    #[must_use]
    pub fn tuning(&self) -> &Tuning {
        &self.context.tuning
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.context.clock
    }

    /// How the link stands.
    #[must_use]
    pub fn state(&self) -> LinkState {
        let now = self.context.clock.now();
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let (last_error_at, last_error) = notes.last_error.clone().unzip();
        LinkState {
            breaker: self.breaker.position(),
            consecutive_failures: self.breaker.failures(),
            last_error,
            last_error_at,
            last_ok_at: notes.last_ok_at,
            throttled_until: notes.throttled_until.filter(|until| *until > now),
        }
    }

    /// Makes a call and reads its answer, whatever its status, with `read`.
    ///
    /// # Errors
    /// What `read` says, or why there was nothing to read.
    pub async fn ask<T, R>(&self, call: Call, read: R) -> Result<T, ProviderError>
    where
        T: Send,
        R: Fn(&Reply) -> Result<T, Fault> + Send + Sync,
    {
        self.ask_arriving(call, || Whole, |_, reply| read(reply)).await
    }

    /// The same where the body of a success is taken by what `begin` makes, while it arrives; the reply has the rest of it.
    ///
    /// # Errors
    /// As those of [`Link::ask`].
    pub async fn ask_arriving<T, A, B, R>(&self, call: Call, begin: B, read: R) -> Result<T, ProviderError>
    where
        T: Send,
        A: Arriving,
        B: Fn() -> A + Send + Sync,
        R: Fn(A, &Reply) -> Result<T, Fault> + Send + Sync,
    {
        let span = tracing::info_span!(
            "provider_call",
            otel.name = format_args!("{} {}", self.provider, call.operation),
            otel.kind = "client",
            otel.status_code = tracing::field::Empty,
            provider = %self.provider,
            operation = call.operation,
            http.request.method = call.method.as_str(),
            http.response.status_code = tracing::field::Empty,
            tries = tracing::field::Empty,
            error_type = tracing::field::Empty,
        );
        self.ask_in_span(call, begin, read).instrument(span).await
    }

    async fn ask_in_span<T, A, B, R>(&self, call: Call, begin: B, read: R) -> Result<T, ProviderError>
    where
        T: Send,
        A: Arriving,
        B: Fn() -> A + Send + Sync,
        R: Fn(A, &Reply) -> Result<T, Fault> + Send + Sync,
    {
        let pass = match self.breaker.enter(call.past_breaker) {
            Ok(pass) => pass,
            Err(wait) => {
                self.count(call.operation, "circuit_open");
                let text = "no call made: the provider failed several times in a row";
                let fault = Fault { retry_after: Some(wait), ..Fault::refused(ErrorKind::Unavailable, text) };
                return Err(self.error(call.operation, fault));
            }
        };
        self.show_breaker();
        let mut tries = 0;
        let outcome = loop {
            let outcome = self.once(&call, &begin, &read).await;
            tracing::Span::current().record("tries", tries + 1);
            match &outcome {
                Err(fault) if fault.again && call.kind == CallKind::Read && tries < self.tuning().read_retries => {
                    let wait = fault.retry_after.unwrap_or_default();
                    if wait > LONGEST_INNER_WAIT {
                        break outcome;
                    }
                    tries += 1;
                    let backoff = self.context.chance.jitter(self.tuning().read_backoff * tries, 0.5);
                    self.context.clock.sleep(wait.max(backoff)).await;
                }
                _ => break outcome,
            }
        };
        match &outcome {
            Err(fault) if fault.kind == ErrorKind::Unavailable => pass.failed(),
            // A throttle says nothing about the vendor's health.
            Err(fault) if fault.kind == ErrorKind::RateLimited => drop(pass),
            _ => pass.answered(),
        }
        self.show_breaker();
        let now = self.context.clock.now();
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(answer) => {
                notes.last_ok_at = Some(now);
                tracing::debug!("provider call answered");
                Ok(answer)
            }
            Err(fault) => {
                let error = self.error(call.operation, fault);
                let span = tracing::Span::current();
                span.record("error_type", error.kind.word());
                span.record("otel.status_code", "ERROR");
                tracing::debug!(kind = error.kind.word(), certainty = ?error.certainty, error = %error.text, "provider call failed");
                notes.last_error = Some((now, noted(&error)));
                Err(error)
            }
        }
    }

    /// One try: a turn in the lane, the exchange, its reading, its numbers.
    async fn once<T, A, B, R>(&self, call: &Call, begin: &B, read: &R) -> Result<T, Fault>
    where
        A: Arriving,
        B: Fn() -> A + Send + Sync,
        R: Fn(A, &Reply) -> Result<T, Fault> + Send + Sync,
    {
        let lane = self.lanes.iter().find(|lane| lane.name == call.lane);
        if let Some(lane) = lane {
            let patience = match call.kind {
                CallKind::Launch => LAUNCH_PATIENCE,
                _ if call.operation == "destroy" => DESTROY_PATIENCE,
                _ => PATIENCE,
            };
            lane.enter(patience).await.map_err(|wait| {
                // Without the wait, which is another one each time: who is told the same thing twice is not told again.
                let text = "no call made: the vendor's rate limit leaves no room now".to_owned();
                Fault { retry_after: Some(wait), ..Fault::refused(ErrorKind::RateLimited, text) }
            })?;
        }
        let (mut arriving, begun) = (begin(), Stopwatch::start());
        let mut refused = false;
        let outcome = match self.exchange(call, &mut arriving).await {
            Ok(mut reply) => {
                // "Not yet" is an answer to a destroy, and a call that failed all the same; "not there" is what it wants.
                refused = call.operation == "destroy" && reply.status >= 400 && reply.status != 404;
                tracing::Span::current().record("http.response.status_code", reply.status);
                if reply.status == 429 {
                    let wait = reply.retry_after.map_or_else(|| self.throttle_wait(lane), |wait| wait.min(LONGEST_RETRY_AFTER));
                    reply.retry_after = Some(wait);
                    self.throttled(lane, wait);
                }
                // Only the words of a refusal: an answer that says what was created is read as it is.
                read(arriving, &reply).map_err(|fault| Fault { text: hide(&fault.text, &call.hidden), ..fault })
            }
            Err(fault) => Err(fault),
        };
        let seconds = begun.elapsed().as_secs_f64();
        let (provider, operation) = (self.provider.to_string(), call.operation);
        metrics::histogram!("gpu_provider_api_response_time_seconds", "provider" => provider, "operation" => operation).record(seconds);
        self.count(operation, if outcome.is_ok() && !refused { "success" } else { "error" });
        outcome
    }

    fn throttle_wait(&self, lane: Option<&Lane>) -> Duration {
        let least = self.tuning().throttle_wait;
        let wait = lane.map_or(least, |lane| least.max(lane.interval() * 2));
        self.context.chance.jitter(wait, 0.2)
    }

    fn throttled(&self, lane: Option<&Lane>, wait: Duration) {
        if let Some(lane) = lane {
            lane.hold(wait);
        }
        let until = self.context.clock.now() + wait;
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.throttled_until = notes.throttled_until.max(Some(until));
    }

    async fn exchange(&self, call: &Call, arriving: &mut dyn Arriving) -> Result<Reply, Fault> {
        let deadline = call.deadline.unwrap_or(match call.kind {
            CallKind::Launch => self.tuning().launch_deadline,
            CallKind::Read | CallKind::Write => self.tuning().call_deadline,
        });
        let late = || Fault::maybe(ErrorKind::Unavailable, format!("no complete answer within {} s", deadline.as_secs_f64()));
        tokio::time::timeout(deadline, self.follow(call, arriving)).await.unwrap_or_else(|_| Err(late()))
    }

    /// Sends the call and follows redirects that stay on the host.
    async fn follow(&self, call: &Call, arriving: &mut dyn Arriving) -> Result<Reply, Fault> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path().trim_end_matches('/'), call.path));
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query.iter().map(|(name, value)| (*name, value.as_str())));
        }
        for _ in 0..=MOST_REDIRECTS {
            let sent = self.context.clock.now();
            let response = self.send(call, url.clone()).await?;
            let status = response.status().as_u16();
            // A 301, 302 or 303 would turn anything else into a GET, and a launch is never sent twice.
            let followed = match call.kind {
                CallKind::Launch => false,
                _ if call.method == Method::GET => matches!(status, 301 | 302 | 303 | 307 | 308),
                _ => matches!(status, 307 | 308),
            };
            if followed && let Some(next) = target(&url, response.headers()) {
                if next.origin() != self.base.origin() {
                    let text = format!("HTTP {status}: a redirect to another host is not followed");
                    return Err(Fault::refused(ErrorKind::Unavailable, text));
                }
                url = next;
                continue;
            }
            let retry_after = retry_after(response.headers(), self.context.clock.now());
            let arriving: &mut dyn Arriving = if response.status().is_success() { arriving } else { &mut Whole };
            let mut unsaid = Unsaid::new(self.bearer.expose_secret().trim(), arriving);
            let mut body = take_body(response, call.cap, &mut unsaid).await?;
            unsaid.end(&mut body);
            return Ok(Reply { status, body, look: Look { sent, answered: self.context.clock.answered() }, retry_after });
        }
        Err(Fault::refused(ErrorKind::Unavailable, "too many redirects"))
    }

    async fn send(&self, call: &Call, url: Url) -> Result<reqwest::Response, Fault> {
        let client = if call.kind == CallKind::Launch { &self.fresh } else { &self.pooled };
        let mut request = client.request(call.method.clone(), url).header(AUTHORIZATION, self.authorization()?);
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        request.send().await.map_err(|fault| transport_fault(&fault))
    }

    fn authorization(&self) -> Result<reqwest::header::HeaderValue, Fault> {
        let text = format!("Bearer {}", self.bearer.expose_secret().trim());
        let mut value = reqwest::header::HeaderValue::from_str(&text)
            .map_err(|_| Fault::refused(ErrorKind::Auth, "the configured key has characters that no header can carry"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The error that callers see: cleaned, redacted, capped.
    fn error(&self, operation: &'static str, fault: Fault) -> ProviderError {
        let text = words::clean(&fault.text, &self.secrets);
        let text = match fault.kind {
            ErrorKind::Auth => words::clean(&format!("Provider authentication failed: {text}"), &[]),
            _ => text,
        };
        let (provider, retry_after) = (self.provider.clone(), fault.retry_after.map(|wait| wait.min(LONGEST_RETRY_AFTER)));
        ProviderError { provider, operation, kind: fault.kind, certainty: fault.certainty, text, retry_after }
    }

    /// An error for something that was never sent.
    #[must_use]
    pub fn unsent(&self, operation: &'static str, kind: ErrorKind, text: impl Into<String>) -> ProviderError {
        self.error(operation, Fault::refused(kind, text))
    }

    /// An error that several good answers make together. It is told by [`Link::state`] like that of a call.
    #[must_use]
    pub fn incomplete(&self, operation: &'static str, text: impl Into<String>) -> ProviderError {
        let error = self.unsent(operation, ErrorKind::Garbled, text);
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.last_error = Some((self.context.clock.now(), noted(&error)));
        error
    }

    /// Cleans a vendor's text, our own credentials included in what is masked.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        words::clean(text, &self.secrets)
    }

    fn count(&self, operation: &'static str, status: &'static str) {
        let provider = self.provider.to_string();
        metrics::counter!("gpu_provider_api_calls_total", "provider" => provider.clone(), "operation" => operation, "status" => status).increment(1);
        if status != "success" {
            metrics::counter!("gpu_provider_api_errors_total", "provider" => provider, "operation" => operation).increment(1);
        }
    }

    fn show_breaker(&self) {
        let value = match self.breaker.position() {
            Position::Closed => 0.0,
            Position::Open => 1.0,
            Position::HalfOpen => 2.0,
        };
        metrics::gauge!("gpu_provider_circuit_breaker_state", "provider" => self.provider.to_string()).set(value);
    }

    fn register_metrics(&self) {
        for operation in OPERATIONS {
            for status in ["success", "error", "circuit_open"] {
                let provider = self.provider.to_string();
                metrics::counter!("gpu_provider_api_calls_total", "provider" => provider, "operation" => operation, "status" => status).increment(0);
            }
            let provider = self.provider.to_string();
            metrics::counter!("gpu_provider_api_errors_total", "provider" => provider, "operation" => operation).increment(0);
        }
        self.show_breaker();
    }
}

/// Where a redirect leads.
fn target(from: &Url, headers: &HeaderMap) -> Option<Url> {
    from.join(headers.get(LOCATION)?.to_str().ok()?).ok()
}

/// The wait that a `Retry-After` header asks for, in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Time::from_millis(date.as_millisecond()).since(now)
        }
    };
    Some(wait.min(LONGEST_TOLD_WAIT))
}

/// An error as the state of a link tells it.
fn noted(error: &ProviderError) -> String {
    format!("{}: {}", error.operation, error.text)
}

async fn take_body(mut response: reqwest::Response, cap: usize, arriving: &mut dyn Arriving) -> Result<Vec<u8>, Fault> {
    let (mut body, mut taken) = (Vec::new(), 0);
    while let Some(chunk) = response.chunk().await.map_err(|fault| transport_fault(&fault))? {
        taken += chunk.len();
        if taken > cap {
            return Err(Fault::garbled(format!("the answer is larger than {} MiB", cap / 1024 / 1024)));
        }
        arriving.take(&chunk, &mut body);
    }
    Ok(body)
}

/// A call that got no complete answer. Only what failed before the connection stood certainly did not happen.
fn transport_fault(fault: &reqwest::Error) -> Fault {
    let mut text = if fault.is_connect() { "no connection".to_owned() } else { "the connection broke".to_owned() };
    // The innermost cause says what happened and, unlike the outermost, names no URL.
    let mut cause = std::error::Error::source(fault);
    while let Some(inner) = cause {
        if inner.source().is_none() {
            text = format!("{text}: {inner}");
        }
        cause = inner.source();
    }
    if fault.is_builder() {
        return Fault::refused(ErrorKind::Invalid, text);
    }
    if fault.is_connect() {
        return Fault { again: true, ..Fault::refused(ErrorKind::Unavailable, text) };
    }
    Fault { again: !fault.is_timeout(), ..Fault::maybe(ErrorKind::Unavailable, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Time::from_millis(784_111_767_000);
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("999999999"), Some(LONGEST_TOLD_WAIT));
        for bad in ["", "soon", "-1", "NaN"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
