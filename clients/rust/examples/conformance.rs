//! Plays the conformance scenario by way of the client and prints the transcript: see `clients/conformance/SPEC.md`.

use gpu_shopper_client::{Client, Code, Error, Message, Usd, WatchStart, pb, save_key};
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

struct Known {
    alias: String,
    id: String,
    created: pb::CreateSessionResponse,
    token: String,
    events: Vec<pb::SessionEvent>,
}

struct Player {
    client: Client,
    contract: DescriptorPool,
    public_key: String,
    control: String,
    folder: String,
    known: Vec<Known>,
    tokens: HashMap<String, String>,
}

fn text<'a>(step: &'a Value, key: &str) -> &'a str {
    step[key].as_str().unwrap_or_default()
}

fn list(step: &Value, key: &str) -> Vec<String> {
    step[key].as_array().map(|all| all.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()).unwrap_or_default()
}

fn number(step: &Value, key: &str) -> i64 {
    step[key].as_i64().unwrap_or_default()
}

fn say(step: &Value, line: &str) {
    println!("{}: {line}", text(step, "id"));
}

fn labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let sorted: BTreeMap<_, _> = labels.into_iter().collect();
    let all: Vec<String> = sorted.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}

fn joined(all: &[String]) -> String {
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::NotFound => "NOT_FOUND",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::Unavailable => "UNAVAILABLE",
        Code::Internal => "INTERNAL",
        _ => "ANOTHER",
    }
}

fn parts(money: &pb::Money) -> String {
    format!("{}:{}", money.units, money.nanos)
}

impl Player {
    fn by_alias(&self, alias: &str) -> Outcome<usize> {
        self.known.iter().position(|k| k.alias == alias).ok_or_else(|| format!("no session {alias}").into())
    }

    fn alias_of(&self, id: &str) -> Outcome<&str> {
        self.known.iter().find(|k| k.id == id).map(|k| k.alias.as_str()).ok_or_else(|| format!("session {id} has no alias").into())
    }

    /// The proto's JSON, with its texts filled in, as a message.
    fn read<M: prost::Message + Default>(&self, name: &str, json: &Value) -> Outcome<M> {
        let mut filled = json.to_string().replace("${public_key}", &self.public_key);
        for known in &self.known {
            filled = filled.replace(&format!("${{session:{}}}", known.alias), &known.id);
        }
        let filled = if filled == "null" { "{}".to_owned() } else { filled };
        let message = self.contract.get_message_by_name(name).ok_or_else(|| format!("no message {name}"))?;
        let read = DynamicMessage::deserialize(message, &mut serde_json::Deserializer::from_str(&filled))?;
        Ok(read.transcode_to()?)
    }

    fn ours<M: prost::Message + Default>(&self, name: &str, step: &Value, key: &str) -> Outcome<M> {
        self.read(&format!("gpushopper.v1.{name}"), &step[key])
    }

    async fn order(&self, what: &str) -> Outcome {
        let address = self.control.trim_start_matches("http://");
        let mut connection = tokio::net::TcpStream::connect(address).await?;
        let head = format!("POST /{what} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        connection.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        if answer.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(format!("{what}: {answer}").into()) }
    }

    async fn fails(&self, step: &Value) -> Outcome {
        let answer = match text(step, "method") {
            "GetOffer" => self.client.get_offer(self.ours("GetOfferRequest", step, "request")?).await.map(drop),
            "GetSession" => self.client.get_session(self.ours("GetSessionRequest", step, "request")?).await.map(drop),
            "CreateSession" => self.client.create_session(self.ours("CreateSessionRequest", step, "request")?).await.map(drop),
            "ExtendSession" => self.client.extend_session(self.ours("ExtendSessionRequest", step, "request")?).await.map(drop),
            "GetSessionCost" => self.client.get_session_cost(self.ours("GetSessionCostRequest", step, "request")?).await.map(drop),
            "WatchSession" => {
                let request: pb::WatchSessionRequest = self.ours("WatchSessionRequest", step, "request")?;
                self.client.watch(&request.session_id, WatchStart::Snapshot).next().await.map(drop)
            }
            other => return Err(format!("no method {other}").into()),
        };
        match answer {
            Ok(()) => say(step, "no error"),
            Err(Error::Refused(refusal)) => {
                let fields: Vec<String> = refusal.violations.iter().map(|v| v.field.clone()).collect();
                let keys: Vec<String> = refusal.metadata.keys().cloned().collect();
                let (code, reason) = (code_name(refusal.code), &refusal.reason);
                say(step, &format!("{code} {reason} fields={} metadata={} retryable={}", joined(&fields), joined(&keys), refusal.is_retryable()));
            }
            Err(other) => return Err(other.into()),
        }
        Ok(())
    }

    async fn create(&mut self, step: &Value) -> Outcome {
        let answer = self.client.create_session(self.ours("CreateSessionRequest", step, "request")?).await?;
        let session = answer.session.clone().ok_or("no session in the answer")?;
        if !self.known.iter().any(|k| k.id == session.session_id) {
            let (alias, id) = (text(step, "as").to_owned(), session.session_id.clone());
            self.known.push(Known { alias, id, created: answer.clone(), token: answer.resume_token.clone(), events: Vec::new() });
        }
        let spec = session.spec.clone().unwrap_or_default();
        let all = [
            ("session", self.alias_of(&session.session_id)?.to_owned()),
            ("replayed", answer.replayed.to_string()),
            ("private_key", if answer.ssh_private_key.is_empty() { "no" } else { "yes" }.to_owned()),
            ("key", if spec.ssh_public_key == self.public_key { "own" } else { "server" }.to_owned()),
            ("labels", labels(&session.labels)),
            ("reservation", spec.reservation.unwrap_or_default().seconds.to_string()),
        ];
        let hide = list(step, "hide");
        let shown: Vec<String> = all.iter().filter(|(k, _)| !hide.iter().any(|h| h == k)).map(|(k, v)| format!("{k}={v}")).collect();
        say(step, &shown.join(" "));
        Ok(())
    }

    async fn watch(&mut self, step: &Value) -> Outcome {
        let at = self.by_alias(text(step, "session"))?;
        let (show, until) = (list(step, "show"), text(step, "until"));
        let mut disturb: Vec<(String, String)> = step["disturb"]
            .as_array()
            .map(|all| all.iter().map(|d| (text(d, "at").to_owned(), text(d, "do").to_owned())).collect())
            .unwrap_or_default();
        let known = &self.known[at];
        let token = if text(step, "from") == "create" { &known.created.resume_token } else { &known.token };
        let mut watch = self.client.watch(&known.id, WatchStart::After(token.clone()));
        let mut ended = true;
        while let Some(message) = watch.next().await? {
            self.known[at].token = watch.resume_token().to_owned();
            let Message::Event(event) = message else { continue };
            let (kind, to) = (event.r#type().as_str_name(), event.to_state().as_str_name());
            let line = format!("{kind} {to}");
            if show.iter().any(|s| s == kind) {
                say(step, &line);
            }
            self.known[at].events.push(*event.clone());
            if let Some(due) = disturb.iter().position(|(at, _)| *at == line) {
                self.order(&disturb.remove(due).1).await?;
            }
            if to == until {
                ended = false;
                break;
            }
        }
        if ended {
            say(step, "ended");
        }
        let gap_free = (1..).zip(&self.known[at].events).all(|(want, event)| event.sequence == want);
        say(step, &format!("gap_free={gap_free}"));
        Ok(())
    }

    async fn watch_sessions(&mut self, step: &Value) -> Outcome {
        let show = list(step, "show");
        let mut missing = number(step, "events");
        let start = match text(step, "from") {
            "snapshot" => WatchStart::Snapshot,
            saved => WatchStart::After(self.tokens.get(saved).ok_or("no such token")?.clone()),
        };
        // Without events to come, one that resumes waits for the snapshot that it is made to take.
        let mut complete = start != WatchStart::Snapshot && missing > 0;
        let mut watch = self.client.watch_all(self.ours("SessionFilter", step, "filter")?, start);
        while !(complete && missing <= 0) {
            match watch.next().await?.ok_or("the watch has ended")? {
                Message::Reset(reason) => {
                    say(step, &format!("reset {reason}"));
                    complete = false;
                }
                Message::Snapshot(sessions, _) => {
                    let told: Outcome<BTreeSet<String>> =
                        sessions.iter().map(|s| Ok(format!("snapshot {} {}", self.alias_of(&s.session_id)?, s.state().as_str_name()))).collect();
                    told?.iter().for_each(|line| say(step, line));
                    say(step, &format!("snapshot_end {}", sessions.len()));
                    complete = true;
                }
                Message::Event(event) if show.iter().any(|s| s == event.r#type().as_str_name()) => {
                    let (kind, to) = (event.r#type().as_str_name(), event.to_state().as_str_name());
                    say(step, &format!("event {} {kind} {to}", self.alias_of(&event.session_id)?));
                    missing -= 1;
                }
                Message::Event(_) | Message::Bookmark(_) => {}
            }
        }
        if let Some(name) = step["save_token"].as_str() {
            self.tokens.insert(name.to_owned(), watch.resume_token().to_owned());
        }
        Ok(())
    }

    fn money(&self, step: &Value) -> Outcome {
        let mut sum = Usd::ZERO;
        for value in step["values"].as_array().into_iter().flatten() {
            let amount = Usd::try_from(self.read::<pb::Money>("google.type.Money", value)?)?;
            say(step, &format!("value {amount} {}", parts(&amount.into())));
            sum = sum + amount;
        }
        say(step, &format!("sum {sum}"));
        for decimal in list(step, "decimals") {
            say(step, &format!("money {}", parts(&decimal.parse::<Usd>()?.into())));
        }
        for refused in list(step, "refused") {
            say(step, if refused.parse::<Usd>().is_ok() { "accepted" } else { "refused" });
        }
        for value in step["foreign"].as_array().into_iter().flatten() {
            let foreign = self.read::<pb::Money>("google.type.Money", value)?;
            say(step, if Usd::try_from(foreign).is_ok() { "accepted" } else { "refused" });
        }
        Ok(())
    }

    async fn cost(&self, step: &Value, session_id: String) -> Outcome {
        let answer = self.client.get_session_cost(pb::GetSessionCostRequest { session_id }).await?;
        let total = answer.total.unwrap_or_default();
        let cost = |amount: &Option<pb::CostAmount>| Usd::try_from(amount.as_ref().and_then(|a| a.cost.as_ref()));
        let amount = Usd::try_from(total.cost.as_ref())?;
        let components = answer.components.iter().map(|c| cost(&c.amount)).sum::<Result<Usd, Error>>()? == amount;
        let attempts = answer.attempts.iter().map(|a| cost(&a.amount)).sum::<Result<Usd, Error>>()? == amount;
        let bounds = Usd::try_from(total.low.as_ref())? <= amount && amount <= Usd::try_from(total.high.as_ref())?;
        let currency = total.cost.as_ref().map(|c| c.currency_code.as_str()).unwrap_or_default();
        let exact = total.text == format!("${amount}");
        let last = answer.r#final;
        say(step, &format!("currency={currency} exact={exact} components={components} attempts={attempts} bounds={bounds} final={last}"));
        Ok(())
    }

    async fn offers(&self, step: &Value) -> Outcome {
        let page = self.client.list_offers(self.ours("ListOffersRequest", step, "request")?).await?;
        say(step, &format!("total={} offers={}", page.total_size, page.offers.len()));
        let price = |o: &pb::Offer| Usd::try_from(o.price.as_ref().and_then(|p| p.total_per_hour.as_ref()));
        for o in page.offers.iter().take(usize::try_from(number(step, "show"))?) {
            let kind = o.rental_kind().as_str_name();
            say(step, &format!("{} {} x{} {} {kind} {}", o.provider, o.gpu_model, o.gpu_count, o.gpu_memory_mib, price(o)?));
        }
        say(step, &format!("sum={}", page.offers.iter().map(price).sum::<Result<Usd, Error>>()?));
        Ok(())
    }

    async fn end(&self, step: &Value, session_id: String) -> Outcome {
        let session = if text(step, "op") == "complete" {
            self.client.complete_session(pb::CompleteSessionRequest { session_id, ..Default::default() }).await?.session
        } else {
            self.client.destroy_session(pb::DestroySessionRequest { session_id, ..Default::default() }).await?.session
        };
        let session = session.unwrap_or_default();
        say(step, &format!("{} {}", session.state().as_str_name(), session.end_reason().as_str_name()));
        Ok(())
    }

    async fn play(&mut self, step: &Value) -> Outcome {
        let at = step["session"].as_str().map(|alias| self.by_alias(alias)).transpose()?.unwrap_or_default();
        let id = self.known.get(at).map(|k| k.id.clone()).unwrap_or_default();
        match text(step, "op") {
            "money" => self.money(step)?,
            "offers" => self.offers(step).await?,
            "offers_paged" => {
                let all = self.client.offers(self.ours("ListOffersRequest", step, "request")?).collect().await?;
                let distinct: BTreeSet<&str> = all.iter().map(|o| o.offer_id.as_str()).collect();
                say(step, &format!("offers={} distinct={}", all.len(), distinct.len()));
            }
            "fails" => self.fails(step).await?,
            "create" => self.create(step).await?,
            "save_key" => {
                let known = &self.known[at];
                let path = Path::new(&self.folder).join(format!("{}.pem", known.alias));
                save_key(&path, &known.created.ssh_private_key)?;
                let again = if save_key(&path, &known.created.ssh_private_key).is_ok() { "overwritten" } else { "refused" };
                let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path)?.permissions()) & 0o7777;
                say(step, &format!("mode={mode:04o} again={again}"));
            }
            "sessions" => {
                let filter = Some(self.ours("SessionFilter", step, "filter")?);
                let mut pages = self.client.all_sessions(pb::ListSessionsRequest { filter, page_size: 1, ..Default::default() });
                let (mut count, mut line) = (0, String::new());
                while let Some(session) = pages.next().await? {
                    count += 1;
                    line = format!("{line} {}", self.alias_of(&session.session_id)?);
                    if step["show_state"] == true {
                        line = format!("{line}:{}", session.state().as_str_name());
                    }
                }
                say(step, &format!("count={count}{line}"));
            }
            "watch" => self.watch(step).await?,
            "watch_sessions" => self.watch_sessions(step).await?,
            "wait_running" => match self.client.wait_for_running(&id).await {
                Ok(s) => {
                    let address = if s.ssh_host.is_empty() || s.ssh_port == 0 { "no" } else { "yes" };
                    let state = s.state().as_str_name();
                    say(step, &format!("{state} {} {} x{} user={} address={address}", s.provider, s.gpu_model, s.gpu_count, s.ssh_user));
                }
                Err(Error::Ended(session)) => say(step, &format!("ended {}", session.end_reason().as_str_name())),
                Err(other) => return Err(other.into()),
            },
            "wait_ended" => {
                let s = self.client.wait_for_end(&id).await?;
                say(step, &format!("{} {} cost_final={}", s.state().as_str_name(), s.end_reason().as_str_name(), s.cost_final));
            }
            "extend" => {
                let expiry = |s: Option<pb::Session>| s.and_then(|s| s.expire_time).map_or(0, |t| t.seconds);
                let before = expiry(self.client.get_session(pb::GetSessionRequest { session_id: id.clone() }).await?.session);
                let by = prost_types::Duration { seconds: number(step, "by"), nanos: 0 };
                let request = pb::ExtendSessionRequest {
                    session_id: id,
                    extension: Some(pb::extend_session_request::Extension::AdditionalDuration(by)),
                    request_id: text(step, "request_id").to_owned(),
                    ..Default::default()
                };
                let answer = self.client.extend_session(request).await?;
                say(step, &format!("by={} replayed={}", expiry(answer.session) - before, answer.replayed));
            }
            "update_labels" => {
                let wanted: HashMap<String, String> = serde_json::from_value(step["labels"].clone())?;
                let request = pb::UpdateSessionRequest { session_id: id, labels: wanted, ..Default::default() };
                let answer = self.client.update_session(request).await?;
                say(step, &format!("labels={}", labels(&answer.session.unwrap_or_default().labels)));
            }
            "complete" | "destroy" => self.end(step, id).await?,
            "events" => {
                let told = self.client.events(&id, i32::try_from(number(step, "page_size"))?).collect().await?;
                let key = |e: &pb::SessionEvent| (e.revision, e.sequence, e.r#type, e.to_state);
                let same = told.iter().map(key).eq(self.known[at].events.iter().map(key));
                say(step, &format!("same_as_watched={same}"));
            }
            "cost" => self.cost(step, id).await?,
            "control" => {
                self.order(text(step, "do")).await?;
                say(step, "ok");
            }
            other => return Err(format!("no step {other}").into()),
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Outcome {
    let path = std::env::args().nth(1).ok_or("usage: conformance SCENARIO")?;
    let scenario: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let files = ["inventory_service", "session_service", "cost_service"].map(|f| proto.join(format!("gpushopper/v1/{f}.proto")));
    let mut player = Player {
        client: Client::new(&std::env::var("GPU_SHOPPER_URL")?)?,
        contract: DescriptorPool::from_file_descriptor_set(protox::compile(files, [proto])?)?,
        public_key: text(&scenario, "public_key").to_owned(),
        control: std::env::var("CONFORMANCE_CONTROL")?,
        folder: std::env::var("CONFORMANCE_DIR")?,
        known: Vec::new(),
        tokens: HashMap::new(),
    };
    for step in scenario["steps"].as_array().into_iter().flatten() {
        player.play(step).await?;
    }
    Ok(())
}
