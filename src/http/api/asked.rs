//! What a request brings: its path's variables, its parameters, its body, its `Idempotency-Key`, as fields of a message of
//! the contract; and under which names they came, so that an error speaks of what was written.

use super::params::{Param, Unit, converted};
use super::shapes::{names, spoken};
use crate::domain::ids::clip;
use crate::grpc::json::message;
use crate::grpc::json::read::{Form, duration, partial};
use crate::grpc::json::tree::{Json, Map};
use crate::http::body;
use crate::http::json::{self, RequestId};
use crate::services::{Error, Violation};
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode, header};
use prost_reflect::{FieldDescriptor, Kind};
use std::collections::BTreeMap;

/// The header that names a request, so that repeating it does nothing new.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header by which a browser goes on with a stream.
pub const LAST_EVENT_ID: &str = "last-event-id";

/// A request, taken in.
pub struct Asked {
    /// Its name.
    pub request: RequestId,
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let id = parts.extensions.get::<RequestId>().cloned().unwrap_or_default();
        let refuse = |status, kind: &str, message: &str| json::refuse(status, kind, message, &id);
        let path = match RawPathParams::from_request_parts(&mut parts, state).await {
            Ok(found) => found.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            Err(_) => return Err(refuse(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path: it is not UTF-8")),
        };
        let query = pairs(parts.uri.query().unwrap_or_default()).map_err(|error| json::error(&error, &id))?;
        let headers = parts.headers.clone();
        let look = matches!(parts.method, Method::GET | Method::HEAD);
        let body = match Bytes::from_request(Request::from_parts(parts, body), state).await {
            Ok(body) => body,
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                return Err(refuse(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "too_large",
                    "the request's body is larger than the server takes (limits.body_bytes)",
                ));
            }
            Err(rejection) => {
                return Err(match body::too_slow(&rejection) {
                    Some(slow) => refuse(StatusCode::REQUEST_TIMEOUT, "request_timeout", &slow.to_string()),
                    None => refuse(StatusCode::BAD_REQUEST, "invalid_field", "the request's body did not arrive whole"),
                });
            }
        };
        let packed = headers.get_all(header::CONTENT_ENCODING).iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
        if packed && !body.is_empty() {
            let text = "a request's body is read as it is, never unpacked: send it without `Content-Encoding`";
            return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text));
        }
        let named = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        let json = named.is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")));
        if !json && (!body.is_empty() || (named.is_some() && !look)) {
            let text = "a request's body must be JSON: send it with the header `Content-Type: application/json`";
            return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text));
        }
        Ok(Self { request: id, path, query, headers, body })
    }
}

impl Asked {
    /// A variable of the path.
    #[must_use]
    pub fn segment(&self, name: &str) -> &str {
        self.path.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    /// The token after which a browser goes on (`Last-Event-ID`); an empty one says nothing. One that is no text, and a second
    /// one, are noted as wrong.
    pub fn last_event_id(&self, given: &mut Given) -> Option<&str> {
        let mut tokens = self.headers.get_all(LAST_EVENT_ID).iter();
        let token = tokens.next()?;
        match token.to_str() {
            _ if tokens.next().is_some() => given.wrong("Last-Event-ID", "is there twice"),
            Err(_) => given.wrong("Last-Event-ID", "is no text in ASCII; allowed: the `id` of an earlier event"),
            Ok(token) => return Some(token).filter(|token| !token.is_empty()),
        }
        None
    }

    /// The parameters, as fields of a message. What is wrong with them is kept in it: an unknown parameter, one that is there
    /// twice, one that is no number, a body where none is taken.
    #[must_use]
    pub fn parameters(&self, of: &'static str, params: &[Param]) -> Given {
        let mut given = Given { of, texts: true, ..Given::default() };
        if !self.body.is_empty() {
            given.wrong("body", "this route takes no body");
        }
        self.collect(&mut given, params);
        given
    }

    fn collect(&self, given: &mut Given, params: &[Param]) {
        for (name, value) in &self.query {
            match params.iter().find(|p| p.name == *name) {
                None => {
                    let known: Vec<&str> = params.iter().map(|p| p.name.as_str()).collect();
                    let known = if known.is_empty() { "none here".to_owned() } else { known.join(", ") };
                    given.wrong(&clip(name, 64), format!("there is no such parameter; allowed: {known}"));
                }
                Some(param) if param.to.is_empty() => {
                    if given.own.insert(param.name.clone(), value.clone()).is_some() {
                        given.wrong(name, "is there twice");
                    }
                }
                Some(param) => given.parameter(param, value),
            }
        }
    }

    /// The body, as fields of a message, with other names that it takes, and what the URL says beside it. No body is an empty
    /// one. What is wrong is kept in it, as in [`Asked::parameters`].
    #[must_use]
    pub fn body(&self, of: &'static str, hidden: &'static [&'static str], also: &[Param], beside: &[Param]) -> Given {
        let also_called = also.iter().map(|p| p.name.clone()).collect();
        let mut given = Given { of, hidden, also: also_called, ..Given::default() };
        self.collect(&mut given, beside);
        let body = if self.body.is_empty() { Ok(Json::Map(Map::new())) } else { Json::parse(&self.body) };
        let members = match body {
            Ok(Json::Map(members)) => members,
            other => {
                let why = other.err().map_or_else(|| "must be a JSON object: `{…}`".to_owned(), |why| format!("is no JSON: {why}"));
                given.wrong("body", why);
                given.blank = true;
                return given;
            }
        };
        for (name, value) in members {
            match also.iter().find(|p| p.name == name) {
                // Null says nothing.
                Some(_) if value == Json::Null => {}
                Some(param) if param.to.is_empty() => drop(given.read.insert(name, value)),
                Some(param) => match converted(param.unit, &value) {
                    Ok(value_here) => {
                        given.names.insert(param.to.clone(), (name.clone(), said(param.unit, &value)));
                        given.put(&param.to, value_here, &name);
                    }
                    Err(why) => given.unread(param, why),
                },
                None => given.put(&name, value, &name.clone()),
            }
        }
        self.idempotency(&mut given);
        given
    }

    /// The `Idempotency-Key`, where a request has a name.
    fn idempotency(&self, given: &mut Given) {
        let mut keys = self.headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(key) = keys.next() else { return };
        if message(given.of).is_none_or(|m| m.get_field_by_name("request_id").is_none()) {
            return;
        }
        match key.to_str() {
            // Whichever were taken, the other one would have named another request.
            _ if keys.next().is_some() => given.wrong("Idempotency-Key", "is there twice"),
            Err(_) => given.wrong("Idempotency-Key", "allowed: 1 to 128 visible ASCII characters"),
            Ok("") => given.wrong("Idempotency-Key", "is empty; allowed: 1 to 128 visible ASCII characters"),
            Ok(key) => match given.map.iter().find(|(name, _)| name == "request_id") {
                Some((_, Json::Text(own))) if own == key => {}
                Some(_) => given.wrong("Idempotency-Key", "differs from `request_id` in the body; say it once, or the same"),
                None => {
                    given.names.insert("request_id".to_owned(), ("Idempotency-Key".to_owned(), None));
                    given.map.push(("request_id".to_owned(), Json::text(key)));
                }
            },
        }
    }

    /// As [`Asked::parameters`], for a route that takes a request with a name from the URL.
    #[must_use]
    pub fn ordered(&self, of: &'static str, params: &[Param]) -> Given {
        let mut given = self.parameters(of, params);
        self.idempotency(&mut given);
        given
    }
}

/// The parameters of a URL.
///
/// # Errors
/// `INVALID_FIELD` with every parameter that is not UTF-8.
fn pairs(query: &str) -> Result<Vec<(String, String)>, Error> {
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (String::from_utf8(decoded(name)), String::from_utf8(decoded(value))) {
            (Ok(name), Ok(value)) => found.push((name, value)),
            (name, _) => {
                let field = name.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
                let description = format!("`{}` is not UTF-8; allowed: text in UTF-8, percent-encoded", clip(pair, 64));
                wrong.push(Violation { field: clip(&field, 64), description });
            }
        }
    }
    if wrong.is_empty() { Ok(found) } else { Err(Error::fields(wrong)) }
}

/// The bytes that a part of a query stands for: `+` is a space, `%41` an A; a `%` without two digits is itself.
fn decoded(part: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let (bytes, mut out, mut at) = (part.as_bytes(), Vec::with_capacity(part.len()), 0);
    while let Some(byte) = bytes.get(at) {
        match (*byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            (other, ..) => out.push(other),
        }
        at += 1;
    }
    out
}

/// A duration in a parameter.
///
/// # Errors
/// It is none.
pub fn span(name: &str, text: &str) -> Result<prost_types::Duration, Error> {
    let found = duration(text).map(|(seconds, nanos)| prost_types::Duration { seconds, nanos });
    let rule = || Error::field(name, format!("`{}`; allowed: a number with its unit s, m or h, such as `90s` or `2m`", clip(text, 64)));
    found.ok_or_else(rule)
}

/// What a value was before it was put into its field's unit.
fn said(unit: Unit, value: &Json) -> Option<String> {
    let what = match unit {
        Unit::Gigabytes => "GB",
        Unit::Hours => "hours",
        Unit::Minutes => "minutes",
        _ => return None,
    };
    match value {
        Json::Number(text) | Json::Text(text) => Some(format!("{} {what}", clip(text, 64))),
        _ => None,
    }
}

/// Fields of a message as they were given.
#[derive(Default)]
pub struct Given {
    of: &'static str,
    hidden: &'static [&'static str],
    texts: bool,
    map: Map,
    /// A field's path → the name that it came under, and what it was before it was converted.
    names: BTreeMap<String, (String, Option<String>)>,
    /// Parameters that the handler reads.
    own: BTreeMap<String, String>,
    /// Members of the body that the handler reads.
    read: BTreeMap<String, Json>,
    /// Other names that a body may use.
    also: Vec<String>,
    /// Fields that were given and could not be read.
    unread: Vec<String>,
    /// There is nothing to read at all.
    blank: bool,
    violations: Vec<Violation>,
}

impl Given {
    /// Notes a violation.
    pub fn wrong(&mut self, field: &str, description: impl Into<String>) {
        self.violations.push(Violation { field: field.to_owned(), description: description.into() });
    }

    /// Notes that what stands for a field can't be read.
    fn unread(&mut self, param: &Param, why: String) {
        self.unread.push(param.to.clone());
        self.wrong(&param.name, why);
    }

    /// Nothing was wrong so far. For routes without a request to check; the others use [`Given::checked`].
    ///
    /// # Errors
    /// `INVALID_FIELD` with every violation.
    pub fn sound(mut self) -> Result<Self, Error> {
        match std::mem::take(&mut self.violations) {
            none if none.is_empty() => Ok(self),
            found => Err(Error::fields(found)),
        }
    }

    /// A parameter that the handler reads by itself.
    #[must_use]
    pub fn own(&self, name: &str) -> Option<&str> {
        self.own.get(name).map(String::as_str)
    }

    /// A member of the body that the handler reads by itself.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Json> {
        self.read.get(name)
    }

    /// How many fields were given under names of their own, the handler's own ones included.
    #[must_use]
    pub fn parameters_given(&self) -> usize {
        self.names.len() + self.own.len()
    }

    /// Whether a field was given, readable or not.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.map.iter().map(|(own, _)| own).chain(&self.unread).any(|own| own == name)
    }

    /// A whole number from the URL; notes one that is none, or outside of the range.
    fn whole(&mut self, name: &str, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let text = self.own(name)?;
        let found = text.parse::<u32>().ok().filter(|n| range.contains(n) && !text.starts_with('+'));
        if found.is_none() {
            let rule = format!("`{}`; allowed: {} to {}", clip(text, 64), range.start(), range.end());
            self.wrong(name, rule);
        }
        found
    }

    /// A truth from the URL; notes one that is none.
    pub fn truth(&mut self, name: &str) -> Option<bool> {
        match self.own(name)? {
            "true" => Some(true),
            "false" => Some(false),
            other => {
                let rule = format!("`{}`; allowed: true, false", clip(other, 64));
                self.wrong(name, rule);
                None
            }
        }
    }

    fn parameter(&mut self, param: &Param, value: &str) {
        let told = || (param.name.clone(), said(param.unit, &Json::text(value)));
        if param.unit == Unit::Label {
            match value.split_once('=') {
                Some((key, value)) => self.put(&format!("{}\u{0}{key}", param.to), Json::text(value), &param.name),
                None => self.wrong(&param.name, format!("`{}`; allowed: `key=value`", clip(value, 64))),
            }
            self.names.entry(param.to.clone()).or_insert_with(told);
            return;
        }
        if field_at(self.of, &param.to).is_some_and(|field| field.is_list()) {
            let parts = value.split(',').map(|part| Json::text(part.trim())).collect();
            self.append(&param.to, parts);
            self.names.entry(param.to.clone()).or_insert_with(told);
            return;
        }
        match converted(param.unit, &Json::text(value)) {
            Ok(found) => {
                let name = param.name.clone();
                self.put(&param.to, found, &name);
                self.names.insert(param.to.clone(), told());
            }
            Err(why) => self.unread(param, why),
        }
    }

    /// Sets a field by its path. A part behind a NUL is a key of a map, which may have dots in it.
    fn put(&mut self, path: &str, value: Json, name: &str) {
        let (path, key) = path.split_once('\u{0}').map_or((path, None), |(path, key)| (path, Some(key)));
        let parts: Vec<&str> = if self.texts || self.names.contains_key(path) { path.split('.').chain(key).collect() } else { vec![path] };
        let mut map = &mut self.map;
        for (at, part) in parts.iter().enumerate() {
            if at + 1 == parts.len() {
                if map.iter().any(|(own, _)| own == part) {
                    self.wrong(name, "is there twice, or under two names");
                } else {
                    map.push(((*part).to_owned(), value));
                }
                return;
            }
            let index = map.iter().position(|(own, _)| own == part).unwrap_or_else(|| {
                map.push(((*part).to_owned(), Json::Map(Map::new())));
                map.len() - 1
            });
            match &mut map[index].1 {
                Json::Map(inside) => map = inside,
                _ => return self.wrong(name, "can't be joined with what is given beside it"),
            }
        }
    }

    fn append(&mut self, path: &str, mut values: Vec<Json>) {
        let (head, last) = path.rsplit_once('.').map_or(("", path), |(head, last)| (head, last));
        let map = if head.is_empty() {
            &mut self.map
        } else {
            let index = self.map.iter().position(|(own, _)| own == head).unwrap_or_else(|| {
                self.map.push((head.to_owned(), Json::Map(Map::new())));
                self.map.len() - 1
            });
            match &mut self.map[index].1 {
                Json::Map(inside) => inside,
                _ => return,
            }
        };
        match map.iter_mut().find(|(own, _)| own == last) {
            Some((_, Json::List(known))) => known.append(&mut values),
            _ => map.push((last.to_owned(), Json::List(values))),
        }
    }

    /// Sets a field that another name stands for in a way of its own.
    pub fn set(&mut self, path: &str, value: Json, name: &str) {
        self.names.insert(path.to_owned(), (name.to_owned(), None));
        self.put(path, value, name);
    }

    /// What `check` makes of the message. It is asked even when not everything could be read, so that a caller is told
    /// everything at once: what could not be read, and what the check finds about the rest.
    ///
    /// # Errors
    /// `INVALID_FIELD` with every violation; else what the check says.
    pub fn checked<M: prost::Message + Default, T>(&self, check: impl FnOnce(M) -> Result<T, Error>) -> Result<T, Error> {
        let mut wrong = self.violations.clone();
        if self.blank {
            return Err(Error::fields(wrong));
        }
        let form = Form { names, texts: self.texts, hidden: self.hidden };
        let (message, unread) = partial(self.of, &self.map, form)?;
        let mut told: Vec<String> = self.unread.iter().chain(unread.iter().map(|v| &v.field)).cloned().collect();
        wrong.extend(unread.into_iter().map(|violation| self.renamed(violation)));
        let checked = check(message);
        if wrong.is_empty() {
            return checked.map_err(|error| self.named(error));
        }
        // What a field, or the choice that it belongs to, seems to lack is what could not be read.
        let choices: Vec<String> =
            told.iter().filter_map(|path| field_at(self.of, path)?.containing_oneof().map(|one| one.name().to_owned())).collect();
        told.extend(choices);
        told.extend(wrong.iter().map(|v| v.field.clone()));
        let within = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        for violation in checked.err().map(|error| error.violations).unwrap_or_default() {
            let (path, named) = (spoken(&violation.field), self.renamed(violation));
            if !told.iter().any(|told| [&path, &named.field].iter().any(|own| within(own, told) || within(told, own))) {
                wrong.push(named);
            }
        }
        Err(Error::fields(wrong))
    }

    /// An error whose fields are called as they were given.
    #[must_use]
    pub fn named(&self, error: Error) -> Error {
        if error.violations.is_empty() {
            return error;
        }
        let Error { code, reason, metadata, violations, retry_after, .. } = error;
        let mut renamed = Error::fields(violations.into_iter().map(|violation| self.renamed(violation)).collect());
        for (key, value) in metadata {
            renamed.metadata.entry(key).or_insert(value);
        }
        Error { code, reason, retry_after, ..renamed }
    }

    fn renamed(&self, mut violation: Violation) -> Violation {
        // A name that is not known may be meant for one of those that no message has.
        if violation.description.starts_with("there is no such field") && !violation.field.contains('.') && !self.also.is_empty() {
            violation.description = format!("{}, {}", violation.description, self.also.join(", "));
        }
        let mut path = spoken(&violation.field);
        if path == "filter.states" {
            path = "filter.status".to_owned();
        }
        let known = self.names.iter().filter(|(own, _)| path == **own || path.starts_with(&format!("{own}."))).max_by_key(|(own, _)| own.len());
        let (field, said) = match known {
            Some((own, (name, said))) => (format!("{name}{}", &path[own.len()..]), said.clone()),
            None if self.texts => (path.strip_prefix("filter.").unwrap_or(&path).to_owned(), None),
            None => (path, None),
        };
        let rule = spoken(&violation.description);
        let description = match said {
            None => rule,
            // Such a rule says its unit with every number.
            Some(said) if said.ends_with(" GB") => in_gigabytes(&rule),
            Some(said) => format!("{said}: {rule}"),
        };
        Violation { field, description }
    }
}

/// A rule with its whole GB as such: `24576 MiB` is `24 GB`.
fn in_gigabytes(rule: &str) -> String {
    let mut words: Vec<String> = rule.split(' ').map(str::to_owned).collect();
    for at in 1..words.len() {
        let (unit, rest) = words[at].split_at(words[at].len().min(3));
        let gigabytes = words[at - 1].parse::<i64>().ok().filter(|n| unit == "MiB" && n % 1024 == 0);
        if let Some(gigabytes) = gigabytes {
            (words[at - 1], words[at]) = ((gigabytes / 1024).to_string(), format!("GB{rest}"));
        }
    }
    words.join(" ")
}

/// A field of a message by its path, by the names of JSON.
fn field_at(of: &str, path: &str) -> Option<FieldDescriptor> {
    let mut holder = message(of)?;
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let field = holder.fields().find(|f| names(f) == part)?;
        if parts.peek().is_none() {
            return Some(field);
        }
        match field.kind() {
            Kind::Message(inside) => holder = inside,
            _ => return None,
        }
    }
    None
}

/// The field that a parameter or another name stands for.
#[must_use]
pub fn field_of(of: &str, param: &Param) -> Option<FieldDescriptor> {
    field_at(of, &param.to)
}

/// Which part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// At most so many; `None` = all.
    pub limit: Option<u32>,
    /// So many are left out.
    pub offset: u32,
    /// Where to go on.
    pub token: String,
}

impl Part {
    /// From [`parts`](super::params::parts) or [`pages`](super::params::pages). Notes numbers out of range, and a token with
    /// an offset or without a limit.
    pub fn of(given: &mut Given) -> Self {
        let (limit, offset) = (given.whole("limit", 1..=1000), given.whole("offset", 0..=1_000_000_000));
        let token = given.own("page_token").unwrap_or_default().to_owned();
        if !token.is_empty() && (given.own("offset").is_some() || given.own("limit").is_none()) {
            given.wrong("page_token", "goes with `limit` and without `offset`");
        }
        Self { limit, offset: offset.unwrap_or(0), token }
    }

    /// How far a list has to be read.
    #[must_use]
    pub fn reach(&self) -> usize {
        let most = self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        most.saturating_add(usize::try_from(self.offset).unwrap_or(usize::MAX))
    }

    /// The entries of this part out of all from the beginning.
    #[must_use]
    pub fn cut<T>(&self, all: Vec<T>) -> Vec<T> {
        let skip = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let most = self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        all.into_iter().skip(skip).take(most).collect()
    }

    /// What every page of a list has.
    pub fn tell(&self, members: &mut Map, count: usize, total: usize) {
        let add = |(name, value): (&str, Json)| members.push((name.to_owned(), value));
        [
            ("count", Json::count(count)),
            ("total", Json::count(total)),
            ("limit", self.limit.map_or(Json::Null, Json::whole)),
            ("offset", Json::whole(self.offset)),
        ]
        .into_iter()
        .for_each(add);
    }
}

#[cfg(test)]
mod tests {
    use super::super::params::{fields, pages};
    use super::*;
    use crate::grpc::pb;

    fn asked(uri: &str, body: &str, headers: &[(&'static str, &str)]) -> Asked {
        let query = pairs(uri.split_once('?').map_or("", |(_, query)| query)).unwrap();
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Asked { request: RequestId::default(), path: Vec::new(), query, headers, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn parameters_become_a_message_and_errors_speak_of_them() {
        let mut params = fields("ListOffersRequest");
        params.push(Param::other("min_vram", "filter.min_gpu_memory_mib", Unit::Gigabytes, ""));
        params.push(Param::other("gpu_type", "filter.gpu_models", Unit::AsIs, ""));
        params.extend(pages());
        let uri = "/x?min_vram=24&gpu_type=RTX%204090,H100&gpu_models=A100&max_price_per_hour=0.36&verified_only=true&limit=5&order_by=price";
        let mut given = asked(uri, "", &[]).parameters("ListOffersRequest", &params);
        let request: pb::ListOffersRequest = given.checked(Ok).unwrap();
        let filter = request.filter.unwrap();
        assert_eq!((filter.min_gpu_memory_mib, filter.verified_only, request.order_by.as_str()), (Some(24576), true, "price"));
        assert_eq!(filter.gpu_models, ["RTX 4090", "H100", "A100"]);
        assert_eq!(filter.max_price_per_hour.unwrap().nanos, 360_000_000);
        assert_eq!(Part::of(&mut given), Part { limit: Some(5), ..Part::default() });

        let Err(error) = asked("/x?colour=red&limit=1&limit=2&min_vram=lots", "", &[]).parameters("ListOffersRequest", &params).sound() else {
            panic!()
        };
        assert!(error.message.starts_with("colour: there is no such parameter; allowed: "), "{}", error.message);
        assert!(error.message.contains("limit: is there twice; min_vram: `lots`; allowed: a number of GB"), "{}", error.message);

        let given = asked("/x?min_vram=0&verified_only=yes", "", &[]).parameters("ListOffersRequest", &params);
        let nothing = |_: pb::ListOffersRequest| Ok(());
        assert_eq!(given.checked(nothing).unwrap_err().message, "verified_only: `yes`; allowed: true, false");
        let also =
            |_: pb::ListOffersRequest| Err::<(), _>(Error::field("filter.min_gpu_memory_mib", "0 MiB is out of range; allowed: 1 MiB to 2048 MiB"));
        let both = "verified_only: `yes`; allowed: true, false; min_vram: 0 GB is out of range; allowed: 1 MiB to 2 GB";
        assert_eq!(given.checked(also).unwrap_err().message, both);
    }

    #[test]
    fn parameters_are_text_or_named() {
        let found = pairs("a=b+c%41&&d&e=%zz&f=%C3%A4").unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(found, [pair("a", "b cA"), pair("d", ""), pair("e", "%zz"), pair("f", "ä")]);
        let error = pairs("consumer_id=%ff&limit=1&%fe=x").unwrap_err();
        assert_eq!(error.violations.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(), ["consumer_id", "\u{fffd}"]);
        assert!(error.message.starts_with("consumer_id: `consumer_id=%ff` is not UTF-8"), "{}", error.message);
    }

    #[test]
    fn a_body_takes_other_names_and_the_key_of_a_header() {
        let also = [Param::other("reservation_hours", "reservation", Unit::Hours, "")];
        let body = |text: &str, headers: &[(&'static str, &str)]| asked("/x", text, headers).body("CreateSessionRequest", &[], &also, &[]);
        let given = body(r#"{"offer_id":"a","reservation_hours":1.5}"#, &[("idempotency-key", "job-1")]);
        let request: pb::CreateSessionRequest = given.checked(Ok).unwrap();
        assert_eq!((request.reservation.unwrap().seconds, request.request_id.as_str()), (5400, "job-1"));
        let too_long = Error { code: crate::services::Code::OutOfRange, reason: "HARD_MAX_EXCEEDED", ..Error::field("reservation", "too long") };
        let named = given.named(too_long.with("hard_max", "43200s"));
        assert_eq!((named.message.as_str(), named.reason), ("reservation_hours: 1.5 hours: too long", "HARD_MAX_EXCEEDED"));
        assert_eq!((named.metadata["hard_max"].as_str(), named.metadata["fields"].as_str()), ("43200s", "reservation_hours"));
        for (text, headers, want) in [
            (r#"{"reservation":"1h","reservation_hours":1}"#, &[][..], "reservation_hours: is there twice, or under two names"),
            (r#"{"request_id":"a"}"#, &[("idempotency-key", "b")][..], "Idempotency-Key: differs from `request_id`"),
            (r#"{}"#, &[("idempotency-key", "a"), ("idempotency-key", "a")][..], "Idempotency-Key: is there twice"),
            (r#"{}"#, &[("idempotency-key", "a"), ("idempotency-key", "b")][..], "Idempotency-Key: is there twice"),
            ("[1]", &[][..], "body: must be a JSON object"),
            ("{", &[][..], "body: is no JSON: "),
            (r#"{"reservation_hours":"soon"}"#, &[][..], "reservation_hours: `soon`; allowed: a number of hours"),
        ] {
            let lacking = |_: pb::CreateSessionRequest| Err::<(), _>(Error::field("reservation", "required"));
            let error = body(text, headers).checked(lacking).unwrap_err();
            assert!(error.message.starts_with(want), "{}", error.message);
            assert_eq!(error.violations.len(), if want.starts_with("Idempotency-Key") { 2 } else { 1 }, "{}", error.message);
        }
    }
}
