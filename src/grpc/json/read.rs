//! JSON to messages of the contract. Finds everything that is wrong at once; what a value may be beyond its type is checked
//! where every face's requests are ([`convert::requests`](crate::grpc::convert::requests)).

use super::tree::{Json, Map};
use super::{Names, is_alternative, message, word, words};
use crate::domain::ids::clip;
use crate::domain::money::scaled;
use crate::services::{Error, Violation};
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use std::collections::HashMap;

/// Characters of a value that is repeated in a message.
const QUOTED: usize = 64;
const NANO: i128 = 1_000_000_000;

/// How a request is written.
#[derive(Clone, Copy)]
pub struct Form {
    /// What fields are called.
    pub names: Names,
    /// Numbers and truths are texts: a URL's query.
    pub texts: bool,
    /// Fields of the request itself that are given elsewhere.
    pub hidden: &'static [&'static str],
}

/// A request whose name in the contract is `name`.
///
/// # Errors
/// `INVALID_FIELD` with every violation: unknown fields, values of another type.
pub fn read<M: prost::Message + Default>(name: &str, given: &Map, form: Form) -> Result<M, Error> {
    match partial(name, given, form)? {
        (message, wrong) if wrong.is_empty() => Ok(message),
        (_, wrong) => Err(Error::fields(wrong)),
    }
}

/// The same, as far as it can be read, and what can't: so that what is wrong with the rest can be told along with it.
///
/// # Errors
/// A message that is not in the contract: a mistake in this program.
pub fn partial<M: prost::Message + Default>(name: &str, given: &Map, form: Form) -> Result<(M, Vec<Violation>), Error> {
    let descriptor = message(name).ok_or_else(|| Error::internal("reading a request"))?;
    let mut reader = Reader { form, wrong: Vec::new() };
    let held = reader.object(&descriptor, given, "");
    Ok((held.transcode_to().map_err(|_| Error::internal("reading a request"))?, reader.wrong))
}

struct Reader {
    form: Form,
    wrong: Vec<Violation>,
}

impl Reader {
    fn wrong(&mut self, field: &str, description: impl Into<String>) {
        self.wrong.push(Violation { field: field.to_owned(), description: description.into() });
    }

    fn object(&mut self, descriptor: &MessageDescriptor, given: &Map, at: &str) -> DynamicMessage {
        let mut held = DynamicMessage::new(descriptor.clone());
        let hidden = |field: &FieldDescriptor| at.is_empty() && self.form.hidden.contains(&field.name());
        let fields: Vec<FieldDescriptor> = descriptor.fields().filter(|f| !hidden(f)).collect();
        for (name, value) in given {
            let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            let Some(field) = fields.iter().find(|f| (self.form.names)(f) == *name) else {
                let known: Vec<String> = fields.iter().map(self.form.names).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                self.wrong(&clip(&path, 2 * QUOTED), format!("there is no such field; allowed: {known}"));
                continue;
            };
            if *value == Json::Null {
                continue;
            }
            let other = field.containing_oneof().filter(|_| is_alternative(field)).and_then(|one| one.fields().find(|f| held.has_field(f)));
            if let Some(other) = other {
                self.wrong(&path, format!("goes not with `{}`; give one of them", (self.form.names)(&other)));
            } else if let Some(value) = self.field(field, value, &path) {
                held.set_field(field, value);
            }
        }
        held
    }

    fn field(&mut self, field: &FieldDescriptor, given: &Json, path: &str) -> Option<Value> {
        if field.is_map() {
            let Json::Map(entries) = given else {
                self.wrong(path, "must be an object of strings");
                return None;
            };
            let mut map = HashMap::new();
            for (key, value) in entries {
                match value {
                    Json::Text(text) => drop(map.insert(MapKey::String(key.clone()), Value::String(text.clone()))),
                    _ => self.wrong(&format!("{path}.{}", clip(key, QUOTED)), "must be a string"),
                }
            }
            return Some(Value::Map(map));
        }
        if field.is_list() {
            let Json::List(values) = given else {
                self.wrong(path, "must be a list");
                return None;
            };
            return Some(Value::List(values.iter().filter_map(|value| self.value(field, value, path)).collect()));
        }
        self.value(field, given, path)
    }

    fn value(&mut self, field: &FieldDescriptor, given: &Json, path: &str) -> Option<Value> {
        let number = match given {
            Json::Number(text) => Some(text.as_str()),
            Json::Text(text) if self.form.texts => Some(text.as_str()),
            _ => None,
        };
        let found = match (field.kind(), given) {
            (Kind::String, Json::Text(text)) => Ok(Value::String(text.clone())),
            (Kind::String, _) => Err("must be a string".to_owned()),
            (Kind::Bool, Json::Bool(v)) => Ok(Value::Bool(*v)),
            (Kind::Bool, Json::Text(text)) if self.form.texts && matches!(text.as_str(), "true" | "false") => Ok(Value::Bool(text == "true")),
            (Kind::Bool, _) => Err(format!("{}; allowed: true, false", shown(given))),
            (Kind::Int32, _) => {
                let whole = number.and_then(whole).and_then(|n| i32::try_from(n).ok());
                whole.map(Value::I32).ok_or_else(|| format!("{}; allowed: a whole number that fits 32 bits", shown(given)))
            }
            (Kind::Double, _) => {
                let found = number.and_then(|text| text.parse::<f64>().ok()).filter(|v| v.is_finite());
                found.map(Value::F64).ok_or_else(|| format!("{}; allowed: a number", shown(given)))
            }
            (Kind::Enum(kind), Json::Text(text)) => constant(&kind, text),
            (Kind::Enum(kind), _) => Err(format!("{}; allowed: {}", shown(given), words(&kind).join(", "))),
            (Kind::Message(kind), _) => match (kind.full_name(), given) {
                ("google.type.Money", _) => {
                    // Written as a text it stays what it is in every language.
                    let text = number.or(given.as_text());
                    text.and_then(|text| money(&kind, text))
                        .ok_or_else(|| format!("{}; allowed: US dollars as a number with at most nine decimals, such as 0.36", shown(given)))
                }
                ("google.protobuf.Timestamp", Json::Text(text)) => time(&kind, text).ok_or_else(|| {
                    format!("`{}`; allowed: a time of RFC 3339 in the years 0001 to 9999, such as `2026-11-23T22:00:00Z`", clip(text, QUOTED))
                }),
                ("google.protobuf.Duration", Json::Text(text)) => span(&kind, text)
                    .ok_or_else(|| format!("`{}`; allowed: a number with its unit s, m or h, such as `90s` or `2h`", clip(text, QUOTED))),
                ("google.protobuf.Timestamp", _) => Err("must be a string, such as \"2026-11-23T22:00:00Z\"".to_owned()),
                ("google.protobuf.Duration", _) => Err("must be a string, such as \"7200s\"".to_owned()),
                (_, Json::Map(members)) => return Some(Value::Message(self.object(&kind, members, path))),
                _ => Err("must be an object".to_owned()),
            },
            _ => Err("can't be given here".to_owned()),
        };
        found.map_err(|why| self.wrong(path, why)).ok()
    }
}

/// A value in a message about it; texts and numbers are clipped, what is larger is named by its kind.
fn shown(given: &Json) -> String {
    match given {
        Json::Null => "null".to_owned(),
        Json::Bool(v) => v.to_string(),
        Json::Number(text) | Json::Text(text) => format!("`{}`", clip(text, QUOTED)),
        Json::List(_) => "a list".to_owned(),
        Json::Map(_) => "an object".to_owned(),
        Json::Written(_) => "a value".to_owned(),
    }
}

fn constant(kind: &EnumDescriptor, text: &str) -> Result<Value, String> {
    let found = kind.values().filter(|value| value.number() != 0).find(|value| word(kind, value.name()) == text || value.name() == text);
    found.map(|value| Value::EnumNumber(value.number())).ok_or_else(|| format!("`{}`; allowed: {}", clip(text, QUOTED), words(kind).join(", ")))
}

/// A whole number, also written as `2.0` or `2e3`.
fn whole(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let fine = scaled(text, 9)?;
    (fine % NANO == 0).then(|| i64::try_from(fine / NANO).ok()).flatten()
}

fn parts(kind: &MessageDescriptor, whole: (&str, i64), rest: (&str, i32)) -> Option<Value> {
    let mut held = DynamicMessage::new(kind.clone());
    held.try_set_field_by_name(whole.0, Value::I64(whole.1)).ok()?;
    held.try_set_field_by_name(rest.0, Value::I32(rest.1)).ok()?;
    Some(Value::Message(held))
}

/// Dollars by their decimal text, exactly; `None` when there are more than nine decimals or it is no number.
fn money(kind: &MessageDescriptor, text: &str) -> Option<Value> {
    let plain = text.strip_prefix('-').unwrap_or(text).starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(|b| b.is_ascii_graphic());
    let fine = scaled(text, 18).filter(|_| plain)?;
    let nanos = (fine % NANO == 0).then_some(fine / NANO)?;
    let rest = i32::try_from(nanos % NANO).ok()?;
    parts(kind, ("units", i64::try_from(nanos / NANO).ok()?), ("nanos", rest))
}

fn time(kind: &MessageDescriptor, text: &str) -> Option<Value> {
    let at: jiff::Timestamp = text.parse().ok()?;
    let (mut seconds, mut nanos) = (at.as_second(), at.subsec_nanosecond());
    if nanos < 0 {
        (seconds, nanos) = (seconds - 1, nanos + 1_000_000_000);
    }
    parts(kind, ("seconds", seconds), ("nanos", nanos))
}

fn span(kind: &MessageDescriptor, text: &str) -> Option<Value> {
    duration(text).and_then(|(seconds, nanos)| parts(kind, ("seconds", seconds), ("nanos", nanos)))
}

/// `7200s`, `1.5h`, `90m` as seconds and nanoseconds.
#[must_use]
pub fn duration(text: &str) -> Option<(i64, i32)> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let plain = number.ends_with(|c: char| c.is_ascii_digit()) && number.bytes().skip(1).all(|b| b.is_ascii_digit() || b == b'.');
    let unit = if plain { unit } else { "" };
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    spanning(number, unit)
}

/// A decimal number of some seconds each, as seconds and nanoseconds.
#[must_use]
pub fn spanning(number: &str, unit: i128) -> Option<(i64, i32)> {
    let plain = number.bytes().next().is_some_and(|b| b.is_ascii_digit() || b == b'-') && number.bytes().all(|b| b.is_ascii_graphic());
    let nanos = scaled(number, 9).filter(|_| plain)?.checked_mul(unit)?;
    Some((i64::try_from(nanos / NANO).ok()?, i32::try_from(nanos % NANO).ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::as_in_the_contract;
    use super::*;
    use crate::grpc::pb;

    const FORM: Form = Form { names: as_in_the_contract, texts: false, hidden: &["session_id"] };

    fn create(text: &str) -> Result<pb::CreateSessionRequest, Error> {
        let Ok(Json::Map(given)) = Json::parse(text.as_bytes()) else { panic!("{text}") };
        read("CreateSessionRequest", &given, FORM)
    }

    #[test]
    fn a_whole_request() {
        let read = create(
            r#"{"offer_id":"vastai-1","workload_type":"llm_vllm","reservation":"1.5h","max_total_cost":5,"bid":"0.1","labels":{"a":"b"},
                "exposed_ports":[8000,8001.0],"disk_gb":null,"failover":{"scope":"FAILOVER_SCOPE_ANY","max_attempts":3},"allow_same_offer":true}"#,
        )
        .unwrap();
        let money = |units, nanos| Some(pb::Money { currency_code: String::new(), units, nanos });
        let want = pb::CreateSessionRequest {
            target: Some(pb::create_session_request::Target::OfferId("vastai-1".into())),
            workload_type: pb::WorkloadType::LlmVllm.into(),
            reservation: Some(prost_types::Duration { seconds: 5400, nanos: 0 }),
            max_total_cost: money(5, 0),
            bid: money(0, 100_000_000),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            exposed_ports: vec![8000, 8001],
            failover: Some(pb::Failover { scope: pb::FailoverScope::Any.into(), max_attempts: Some(3), max_price_per_hour: None }),
            allow_same_offer: true,
            ..Default::default()
        };
        assert!(read == want, "{read:?}");
    }

    #[test]
    fn everything_wrong_is_told_at_once_with_value_and_rule() {
        let error = create(
            r#"{"offer_id":"a","requirements":{"filter":{"min_vrm":1}},"colour":"red","workload_type":"party","disk_gb":"10","exposed_ports":8000,
                "reservation":3600,"ssh_timeout":"soon","max_total_cost":0.12345678901,"env":{"A":1},"validate_only":"true","labels":[],
                "registry_login":{"password":5}}"#,
        )
        .unwrap_err();
        let said: Vec<String> = error.violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
        let wanted = [
            "requirements: goes not with `offer_id`; give one of them",
            "colour: there is no such field; allowed: consumer_id, offer_id",
            "workload_type: `party`; allowed: llm, llm_vllm, llm_tgi",
            "disk_gb: `10`; allowed: a whole number",
            "exposed_ports: must be a list",
            "reservation: must be a string, such as",
            "ssh_timeout: `soon`; allowed: a number with its unit",
            "max_total_cost: `0.12345678901`; allowed: US dollars as a number with at most nine decimals",
            "env.A: must be a string",
            "validate_only: `true`; allowed: true, false",
            "labels: must be an object",
            "registry_login.password: must be a string",
        ];
        assert_eq!(said.len(), wanted.len(), "{said:#?}");
        for (said, wanted) in said.iter().zip(wanted) {
            assert!(said.starts_with(wanted), "{said} is not {wanted}");
        }
        let nested = create(r#"{"requirements":{"filter":{"min_vrm":1,"gpu_count":1.5}}}"#).unwrap_err();
        assert_eq!(nested.metadata["fields"], "requirements.filter.min_vrm,requirements.filter.gpu_count");
    }

    #[test]
    fn a_query_is_all_texts_and_a_request_hides_what_its_path_says() {
        let text = |t: &str| Json::text(t);
        let filter =
            vec![("gpu_count".to_owned(), text("2")), ("min_reliability".to_owned(), text("0.9")), ("verified_only".to_owned(), text("true"))];
        let given = vec![("filter".to_owned(), Json::Map(filter)), ("page_size".to_owned(), text("7"))];
        let read: pb::ListOffersRequest = read("ListOffersRequest", &given, Form { texts: true, ..FORM }).unwrap();
        let filter = read.filter.unwrap();
        assert_eq!((filter.gpu_count, filter.min_reliability, filter.verified_only, read.page_size), (Some(2), Some(0.9), true, 7));
        let given = vec![("session_id".to_owned(), text("x"))];
        let error = super::read::<pb::KeepAliveRequest>("KeepAliveRequest", &given, FORM).unwrap_err();
        assert_eq!(error.message, "session_id: there is no such field; allowed: request_id, validate_only");
    }

    #[test]
    fn times_and_spans_to_their_edges() {
        let wait = |timeout: &str| {
            let given = vec![("timeout".to_owned(), Json::text(timeout))];
            read::<pb::WaitSessionRequest>("WaitSessionRequest", &given, FORM).ok().and_then(|r| r.timeout).map(|d| (d.seconds, d.nanos))
        };
        for (text, want) in [("90s", (90, 0)), ("0.5s", (0, 500_000_000)), ("2m", (120, 0)), ("-1s", (-1, 0))] {
            assert_eq!(wait(text), Some(want), "{text}");
        }
        for text in ["", "s", "90", "1d", "1 s", " 1s", "+1s", "1ä", "1e2s", "1.s", "99999999999999999999h", "NaNs"] {
            assert_eq!(wait(text), None, "{text}");
        }
        let extend = |time: &str| {
            let given = vec![("expire_time".to_owned(), Json::text(time))];
            read::<pb::ExtendSessionRequest>("ExtendSessionRequest", &given, FORM).is_ok()
        };
        assert!(extend("2026-11-23T22:00:00Z") && extend("2026-11-23T22:00:00.5+01:00"));
        for time in ["yesterday", "2026-11-23", "2026-13-01T00:00:00Z", "99999-01-01T00:00:00Z"] {
            assert!(!extend(time), "{time}");
        }
    }
}
