//! Who calls: tokens, what their bearers may do, and how much each of them may ask at once. The only place that looks at a
//! token.
//!
//! A token is 256 random bits, so that its SHA-256 is all that is kept, and there is nothing to guess: it is told once, by
//! [`Access::create`]. The present ones are in memory, and each comparison takes as long as any other. What is revoked or
//! expires ends at once, streams included ([`Pass::ended`]).
//!
//! Which call needs what is not known here: that is said beside the routes.

use crate::clock::Clock;
use crate::domain::access::{Need, Pace, Role, bearer, is_token_name};
use crate::domain::ids::ConsumerId;
use crate::domain::time::Time;
use crate::ports::Chance;
use crate::services::api::Caller;
use crate::services::error::{Code, Error};
use crate::services::sessions::broken;
use crate::store::{AuditRecord, Store, TokenRecord};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// What every token made here begins with, so that scanners for leaked secrets know it.
pub const PREFIX: &str = "gst_";
/// Good tokens that there may be at a time: each call looks at all of them.
pub const MOST_TOKENS: usize = 1000;
/// Whom an operator without a name is written down as.
pub const NAMELESS: &str = "operator";
/// Names that no token may take: those of configured tokens, and of what acts by itself.
const RESERVED: [&str; 6] = ["admin", "read-only", NAMELESS, "metrics", "shutdown", "sweeper"];
/// Open streams of callers without a token, all of them together, where callers need one.
pub const STRANGERS_STREAMS: usize = 1000;
/// When to come again for a stream.
const STREAM_RETRY: Duration = Duration::from_secs(5);
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// What one caller may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests per second, and as many at once; 0 = no limit.
    pub per_second: u32,
    /// Open streams and waits; 0 = no limit.
    pub streams: u32,
}

/// A token that does not come from the database.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// Its name.
    pub name: &'static str,
    /// What its bearer may do.
    pub role: Role,
    /// Its text.
    pub text: SecretString,
    /// Where it comes from, for people: `setting AUTH_ADMIN_TOKEN`.
    pub origin: String,
}

/// What the service is made of.
pub struct Parts {
    /// Whether callers need a token.
    pub required: bool,
    /// Tokens from settings and files.
    pub fixed: Vec<Fixed>,
    /// Where an operator of this machine finds a token and how it is sent, without the token: told with each refusal.
    pub hint: String,
    /// What one caller may ask.
    pub limits: Limits,
    /// Disk.
    pub store: Store,
    /// What new tokens are made of.
    pub chance: Arc<dyn Chance>,
    /// Time.
    pub clock: Clock,
}

/// A token to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Its name.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// Whose sessions alone its bearer sees and touches.
    pub consumer: Option<ConsumerId>,
    /// How long it is good; `None` = until it is revoked.
    pub lifetime: Option<Duration>,
}

/// A token as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenView {
    /// What is known of it.
    pub record: TokenRecord,
    /// Where it comes from: `database`, a setting or a file.
    pub origin: String,
    /// When it was last used since the server's start.
    pub last_used: Option<Time>,
}

struct Known {
    record: TokenRecord,
    origin: String,
    last_used: AtomicI64,
    pace: Mutex<Pace>,
    streams: Arc<Semaphore>,
    ended: CancellationToken,
}

impl Known {
    fn new(record: TokenRecord, origin: String, limits: Limits) -> Arc<Self> {
        let streams = usize::try_from(limits.streams).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            record,
            origin,
            last_used: AtomicI64::new(0),
            pace: Mutex::default(),
            streams: Arc::new(Semaphore::new(streams)),
            ended: CancellationToken::new(),
        })
    }

    fn good(&self, now: Time) -> bool {
        self.record.revoked_at.is_none() && self.record.expires_at.is_none_or(|until| now < until)
    }

    fn view(&self) -> TokenView {
        let last_used = match self.last_used.load(Ordering::Relaxed) {
            0 => None,
            at => Some(Time::from_millis(at)),
        };
        TokenView { record: self.record.clone(), origin: self.origin.clone(), last_used }
    }
}

struct Inner {
    parts: Parts,
    fixed: Vec<Arc<Known>>,
    /// Those of the database that are not revoked.
    stored: RwLock<Vec<Arc<Known>>>,
    strangers: Arc<Semaphore>,
}

/// The service's handle. See the module's header.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("required", &self.0.parts.required).finish_non_exhaustive()
    }
}

/// Leave to make one call.
pub struct Pass {
    /// Who calls; `None` = a stranger, at a call that needs no token.
    pub caller: Option<Caller>,
    /// The place among its caller's streams, or all strangers', to be held until the stream is over.
    pub place: Option<OwnedSemaphorePermit>,
    token: Option<Arc<Known>>,
    clock: Clock,
}

impl Pass {
    /// Resolves when the token is good no more; never without one.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let (token, clock) = (self.token.clone(), self.clock.clone());
        async move {
            let Some(token) = token else { return std::future::pending().await };
            match token.record.expires_at {
                None => token.ended.cancelled().await,
                Some(until) => {
                    tokio::select! {
                        () = token.ended.cancelled() => {}
                        () = clock.sleep_until(until) => {}
                    }
                }
            }
        }
    }
}

impl Access {
    /// Reads the tokens that there are.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open(parts: Parts) -> Result<Self, crate::store::Error> {
        let of = |f: &Fixed| {
            let record = TokenRecord {
                name: f.name.to_owned(),
                role: f.role,
                consumer: None,
                hash: hash(f.text.expose_secret()),
                created_at: parts.clock.now(),
                created_by: f.origin.clone(),
                expires_at: None,
                revoked_at: None,
                revoked_by: None,
            };
            Known::new(record, f.origin.clone(), parts.limits)
        };
        let fixed = parts.fixed.iter().map(of).collect();
        let good = parts.store.token_list().await?.into_iter().filter(|record| record.revoked_at.is_none());
        let stored = good.map(|record| Known::new(record, "database".to_owned(), parts.limits)).collect();
        let strangers = Arc::new(Semaphore::new(STRANGERS_STREAMS));
        Ok(Self(Arc::new(Inner { parts, fixed, stored: RwLock::new(stored), strangers })))
    }

    /// Whether callers need a token.
    #[must_use]
    pub fn required(&self) -> bool {
        self.0.parts.required
    }

    /// Lets a call through, or says why not. `headers` are the values of its `Authorization` headers; `stream` = it may
    /// last and is counted as long as its [`Pass`] lives.
    ///
    /// # Errors
    /// UNAUTHENTICATED `TOKEN_MISSING`, `TOKEN_INVALID`; PERMISSION_DENIED `ROLE_REQUIRED`; RESOURCE_EXHAUSTED
    /// `RATE_LIMITED`, `TOO_MANY_STREAMS`.
    pub fn admit<'a>(&self, headers: impl IntoIterator<Item = &'a [u8]>, need: Need, stream: bool) -> Result<Pass, Error> {
        let parts = &self.0.parts;
        let clock = parts.clock.clone();
        if !parts.required {
            let caller = Caller { principal: String::new(), scope: None, admin: true, request: String::new() };
            return Ok(Pass { caller: Some(caller), place: None, token: None, clock });
        }
        let now = clock.now();
        let token = match self.known(headers, now) {
            Err(_) if need == Need::Nothing => return self.stranger(stream),
            known => known?,
        };
        let TokenRecord { name, role, consumer, .. } = &token.record;
        if !need.met_by(*role, consumer.is_some()) {
            let scope = consumer.as_ref().map(|_| " for one consumer").unwrap_or_default();
            let text = format!("token {name} has the role {role}{scope}, and this call needs {}", need.who());
            return Err(Error::new(Code::PermissionDenied, "ROLE_REQUIRED", text).with("token", name).with("role", role));
        }
        token.last_used.store(now.millis(), Ordering::Relaxed);
        let paced = token.pace.lock().unwrap_or_else(PoisonError::into_inner).take(parts.limits.per_second, now);
        if let Err(wait) = paced {
            let most = parts.limits.per_second;
            let text = format!("token {name} asks more than {most} times per second (limits.requests_per_second): ask again a little later");
            return Err(Error::new(Code::ResourceExhausted, "RATE_LIMITED", text).with("limit", most).retry(wait.max(Duration::from_millis(1))));
        }
        let place = match Arc::clone(&token.streams).try_acquire_owned() {
            _ if !stream || parts.limits.streams == 0 => None,
            Ok(place) => Some(place),
            Err(_) => {
                let most = parts.limits.streams;
                let text =
                    format!("token {name} has {most} streams and waits open, which is the limit (limits.streams_per_caller): end some of them");
                return Err(Error::new(Code::ResourceExhausted, "TOO_MANY_STREAMS", text).with("limit", most).retry(STREAM_RETRY));
            }
        };
        let caller = Caller { principal: name.clone(), scope: consumer.clone(), admin: *role == Role::Admin, request: String::new() };
        Ok(Pass { caller: Some(caller), place, token: Some(token), clock })
    }

    /// Lets somebody without a good token make a call that needs none.
    fn stranger(&self, stream: bool) -> Result<Pass, Error> {
        let place = match Arc::clone(&self.0.strangers).try_acquire_owned() {
            _ if !stream => None,
            Ok(place) => Some(place),
            Err(_) => {
                let text =
                    format!("{STRANGERS_STREAMS} streams of callers without a token are open, which is the limit: send a token, or ask once instead");
                let error = Error::new(Code::ResourceExhausted, "TOO_MANY_STREAMS", text);
                return Err(error.with("limit", STRANGERS_STREAMS).retry(STREAM_RETRY));
            }
        };
        Ok(Pass { caller: None, place, token: None, clock: self.0.parts.clock.clone() })
    }

    fn known<'a>(&self, headers: impl IntoIterator<Item = &'a [u8]>, now: Time) -> Result<Arc<Known>, Error> {
        let hint = &self.0.parts.hint;
        let mut headers = headers.into_iter();
        let Some(header) = headers.next() else {
            let text = format!("the server asks for a token, sent as the header `Authorization: Bearer TOKEN`; {hint}");
            return Err(Error::new(Code::Unauthenticated, "TOKEN_MISSING", text));
        };
        let token = bearer(header).filter(|_| headers.next().is_none());
        let found = token.and_then(|token| {
            let hash = hash(token);
            let stored = self.0.stored.read().unwrap_or_else(PoisonError::into_inner);
            let mut found = None;
            // All are looked at, each for the same time, whichever it is.
            for known in self.0.fixed.iter().chain(stored.iter()) {
                if bool::from(known.record.hash.ct_eq(&hash)) {
                    found = Some(Arc::clone(known));
                }
            }
            found
        });
        found.filter(|known| known.good(now)).ok_or_else(|| {
            let what =
                if token.is_some() { "the token is none of the server's, or was revoked, or has expired" } else { "the header is no `Bearer TOKEN`" };
            Error::new(Code::Unauthenticated, "TOKEN_INVALID", format!("{what}; {hint}"))
        })
    }

    /// Makes a token. Its text is told this once.
    ///
    /// # Errors
    /// The caller is no admin; a name that can't be one; ALREADY_EXISTS `TOKEN_EXISTS` when it was ever given;
    /// RESOURCE_EXHAUSTED `TOO_MANY_TOKENS`.
    pub async fn create(&self, caller: &Caller, new: NewToken) -> Result<(TokenView, SecretString), Error> {
        let actor = operator(caller)?;
        if !is_token_name(&new.name) || RESERVED.contains(&new.name.as_str()) {
            let allowed = "1 to 64 characters of a-z, 0-9, `.`, `_` and `-`, the first a letter or a digit";
            return Err(Error::field("name", format!("allowed: {allowed}; and none of {}", RESERVED.join(", "))));
        }
        if new.role == Role::Admin && new.consumer.is_some() {
            return Err(Error::field("consumer_id", "goes with the roles consumer and read-only: an admin acts for everybody"));
        }
        let now = self.0.parts.clock.now();
        if self.stored().iter().filter(|known| known.good(now)).count() >= MOST_TOKENS {
            let text = format!("there are {MOST_TOKENS} tokens already: revoke some that are not used");
            return Err(Error::new(Code::ResourceExhausted, "TOO_MANY_TOKENS", text).with("limit", MOST_TOKENS));
        }
        let text = new_text(&*self.0.parts.chance);
        let record = TokenRecord {
            name: new.name,
            role: new.role,
            consumer: new.consumer,
            hash: hash(text.expose_secret()),
            created_at: now,
            created_by: actor.clone(),
            expires_at: new.lifetime.map(|lifetime| now + lifetime),
            revoked_at: None,
            revoked_by: None,
        };
        let scope = record.consumer.as_ref().map(|c| format!(" for {c}")).unwrap_or_default();
        let until = record.expires_at.map(|at| format!(" until {at}")).unwrap_or_default();
        let detail = format!("{}{scope}{until}", record.role);
        let audit = AuditRecord { at: now, actor, action: "create_token".to_owned(), target: record.name.clone(), detail };
        if !self.0.parts.store.token_insert(record.clone(), audit).await.map_err(|e| broken(&e))? {
            let text =
                format!("there is, or was, a token {}: names are given once, so that the audit tells them apart; take another one", record.name);
            return Err(Error::new(Code::AlreadyExists, "TOKEN_EXISTS", text).with("name", record.name));
        }
        let known = Known::new(record, "database".to_owned(), self.0.parts.limits);
        let view = known.view();
        self.0.stored.write().unwrap_or_else(PoisonError::into_inner).push(known);
        Ok((view, text))
    }

    /// Every token there is or was: those of settings and files first, then by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list(&self) -> Result<Vec<TokenView>, Error> {
        let records = self.0.parts.store.token_list().await.map_err(|e| broken(&e))?;
        let stored = self.stored();
        let view = |record: TokenRecord| match stored.iter().find(|known| known.record.name == record.name) {
            Some(known) if record.revoked_at.is_none() => known.view(),
            known => TokenView { last_used: known.and_then(|k| k.view().last_used), record, origin: "database".to_owned() },
        };
        Ok(self.0.fixed.iter().map(|known| known.view()).chain(records.into_iter().map(view)).collect())
    }

    /// Ends a token: no call begins with it any more, and what it has open is cut.
    ///
    /// # Errors
    /// The caller is no admin; NOT_FOUND `TOKEN_NOT_FOUND` when no good token has this name; FAILED_PRECONDITION
    /// `TOKEN_CONFIGURED` when it comes from a setting or a file.
    pub async fn revoke(&self, caller: &Caller, name: &str) -> Result<TokenView, Error> {
        let actor = operator(caller)?;
        if let Some(fixed) = self.0.fixed.iter().find(|known| known.record.name == name) {
            let text = format!("token {name} comes from {}: change it there, and start the server again", fixed.origin);
            return Err(Error::new(Code::FailedPrecondition, "TOKEN_CONFIGURED", text).with("name", name));
        }
        let at = self.0.parts.clock.now();
        let audit = AuditRecord { at, actor, action: "revoke_token".to_owned(), target: name.to_owned(), detail: String::new() };
        if !self.0.parts.store.token_revoke(name, audit).await.map_err(|e| broken(&e))? {
            let name = crate::domain::ids::clip(name, 64);
            let text = format!("no good token is called {name}: ListTokens shows what there is");
            return Err(Error::new(Code::NotFound, "TOKEN_NOT_FOUND", text).with("name", name));
        }
        let mut gone = Vec::new();
        self.0.stored.write().unwrap_or_else(PoisonError::into_inner).retain(|known| {
            let stays = known.record.name != name;
            if !stays {
                gone.push(Arc::clone(known));
            }
            stays
        });
        gone.iter().for_each(|known| known.ended.cancel());
        let told = self.list().await?.into_iter().find(|view| view.record.name == name);
        told.ok_or_else(|| Error::internal("reading a token that was just revoked"))
    }

    fn stored(&self) -> Vec<Arc<Known>> {
        self.0.stored.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A new token's text: 256 random bits.
#[must_use]
pub fn new_text(chance: &dyn Chance) -> SecretString {
    // 52 characters of 5 bits, 12 of each 64.
    let mut text = String::with_capacity(PREFIX.len() + 52);
    text.push_str(PREFIX);
    while text.len() < PREFIX.len() + 52 {
        let bits = chance.bits();
        for at in 0..12 {
            if text.len() < PREFIX.len() + 52 {
                text.push(char::from(ALPHABET[usize::try_from(bits >> (5 * at) & 31).unwrap_or_default()]));
            }
        }
    }
    text.into()
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// By which name an admin is written down; an error for everybody else.
fn operator(caller: &Caller) -> Result<String, Error> {
    if !caller.admin {
        return Err(Error::new(Code::PermissionDenied, "ROLE_REQUIRED", "only operators may do this"));
    }
    Ok(if caller.principal.is_empty() { NAMELESS.to_owned() } else { caller.principal.clone() })
}
