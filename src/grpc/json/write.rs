//! Messages of the contract to JSON.

use super::tree::{Json, Map};
use super::{Names, NotInContract, is_alternative, message, word};
use crate::domain::money::Nanos;
use crate::domain::time::Time;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage, Value};
use std::collections::BTreeMap;

/// What is added to an object beside the message's own fields; it is given the message's full name.
pub type Adorn = fn(&str, &mut Map);

/// Nothing is added.
pub fn plain(_: &str, _: &mut Map) {}

/// A message whose name in the contract is `name` (`ListOffersResponse`).
///
/// # Errors
/// When the contract has no such message, the bytes are not one, or it holds an amount that is none: mistakes in this
/// program.
pub fn write<M: prost::Message>(name: &str, sent: &M, names: Names, adorn: Adorn) -> Result<Json, NotInContract> {
    let wrong = || NotInContract(name.to_owned());
    let descriptor = message(name).ok_or_else(wrong)?;
    let held = DynamicMessage::decode(descriptor, sent.encode_to_vec().as_slice()).map_err(|_| wrong())?;
    object(&held, names, adorn).ok_or_else(wrong)
}

fn object(held: &DynamicMessage, names: Names, adorn: Adorn) -> Option<Json> {
    let whole = |number| held.get_field_by_number(number).and_then(|v| v.as_i64().or_else(|| v.as_i32().map(i64::from))).unwrap_or(0);
    let descriptor = held.descriptor();
    Some(match descriptor.full_name() {
        "google.type.Money" => Json::Number(Nanos::from_parts(whole(2), i32::try_from(whole(3)).ok()?)?.decimal()),
        "google.protobuf.Timestamp" => Json::Text(Time::from_millis(whole(1).saturating_mul(1000).saturating_add(whole(2) / 1_000_000)).rfc3339()),
        "google.protobuf.Duration" => Json::Text(seconds(whole(1), whole(2))),
        name => {
            let mut members = Map::new();
            for field in descriptor.fields() {
                if field.supports_presence() && !held.has_field(&field) {
                    if !is_alternative(&field) {
                        members.push((names(&field), Json::Null));
                    }
                    continue;
                }
                members.push((names(&field), part(&field, &held.get_field(&field), names, adorn)?));
            }
            adorn(name, &mut members);
            Json::Map(members)
        }
    })
}

fn part(field: &FieldDescriptor, value: &Value, names: Names, adorn: Adorn) -> Option<Json> {
    Some(match value {
        Value::Bool(v) => Json::Bool(*v),
        Value::I32(v) => Json::whole(*v),
        Value::I64(v) => Json::whole(*v),
        Value::U32(v) => Json::whole(*v),
        Value::U64(v) => Json::whole(*v),
        // What is no number has no place in JSON.
        Value::F32(v) => serde_json::to_string(v).map_or(Json::Null, Json::Number),
        Value::F64(v) => serde_json::to_string(v).map_or(Json::Null, Json::Number),
        Value::String(v) => Json::Text(v.clone()),
        Value::Bytes(v) => Json::List(v.iter().map(|byte| Json::whole(*byte)).collect()),
        Value::Message(v) => object(v, names, adorn)?,
        Value::EnumNumber(v) => match field.kind() {
            Kind::Enum(kind) => match kind.get_value(*v) {
                Some(_) if *v == 0 => Json::Null,
                Some(value) => Json::Text(word(&kind, value.name())),
                // A newer server's.
                None => Json::whole(*v),
            },
            _ => Json::whole(*v),
        },
        Value::List(values) => Json::List(values.iter().map(|value| part(field, value, names, adorn)).collect::<Option<_>>()?),
        Value::Map(entries) => {
            let ordered: BTreeMap<&str, &Value> = entries.iter().filter_map(|(key, value)| Some((key.as_str()?, value))).collect();
            let members = ordered.into_iter().map(|(key, value)| Some((key.to_owned(), part(field, value, names, adorn)?)));
            Json::Map(members.collect::<Option<_>>()?)
        }
    })
}

/// A span exactly, in seconds: `7200s`, `0.5s`.
#[must_use]
pub fn seconds(seconds: i64, nanos: i64) -> String {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let fraction = format!("{:09}", nanos.unsigned_abs());
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{dot}{fraction}s", seconds.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::super::as_in_the_contract;
    use super::*;
    use crate::grpc::pb;

    fn text<M: prost::Message>(name: &str, message: &M) -> String {
        write(name, message, as_in_the_contract, plain).unwrap().to_string()
    }

    #[test]
    fn money_times_words_and_absences() {
        let offer = pb::Offer {
            offer_id: "vastai-1".into(),
            rental_kind: pb::RentalKind::OnDemand.into(),
            price: Some(pb::Price {
                total_per_hour: Some(pb::Money { currency_code: "USD".into(), units: 0, nanos: 246_666_667 }),
                ..Default::default()
            }),
            fetch_time: Some(prost_types::Timestamp { seconds: 1_795_471_125, nanos: 123_000_000 }),
            confidence: 0.75,
            ..Default::default()
        };
        let text = text("Offer", &offer);
        assert!(text.contains(r#""price":{"total_per_hour":0.246666667,"total_text":"","gpu_per_hour":null"#), "{text}");
        assert!(text.contains(r#""rental_kind":"on_demand""#), "{text}");
        assert!(text.contains(r#""fetch_time":"2026-11-23T21:58:45.123Z""#), "{text}");
        assert!(text.contains(r#""reliability":null"#), "{text}");
        assert!(text.contains(r#""confidence":0.75"#), "{text}");
    }

    #[test]
    fn only_the_given_alternative_appears_and_maps_are_ordered() {
        let spec = pb::SessionSpec {
            target: Some(pb::session_spec::Target::OfferId("vastai-1".into())),
            reservation: Some(prost_types::Duration { seconds: 7200, nanos: 0 }),
            verify: 77,
            ..Default::default()
        };
        let labels = [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into();
        let session = pb::Session { spec: Some(spec), labels, state: pb::session::State::Running.into(), ..Default::default() };
        let text = text("Session", &session);
        assert!(text.contains(r#""labels":{"a":"1","b":"2"},"spec":{"offer_id":"vastai-1","workload_type":null,"reservation":"7200s""#), "{text}");
        assert!(text.contains(r#""verify":77"#), "{text}");
        assert!(text.contains(r#""state":"running""#), "{text}");
        assert!(!text.contains("requirements"), "{text}");
    }

    #[test]
    fn an_amount_that_is_none_is_an_error_and_not_a_wrong_number() {
        let price = pb::Price { total_per_hour: Some(pb::Money { currency_code: String::new(), units: 1, nanos: -5 }), ..Default::default() };
        assert!(write("Price", &price, as_in_the_contract, plain).is_err());
        assert!(write("Nonsense", &price, as_in_the_contract, plain).is_err());
    }

    #[test]
    fn spans() {
        assert_eq!(seconds(7200, 0), "7200s");
        assert_eq!(seconds(0, -500_000_000), "-0.5s");
    }
}
