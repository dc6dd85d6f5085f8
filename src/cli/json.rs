//! The server's messages as JSON, drawn from the contract's own descriptors, so that no field can be forgotten.
//!
//! Names are the contract's in snake_case. Money is a plain decimal number written from the integers, never through a
//! float; times are RFC 3339 in UTC; durations are `7200s`; enum values are lower-case words without their prefix.
//! What is absent or unspecified is `null`; of alternatives only the one that is given appears.

use crate::cli::failure::Failure;
use crate::cli::words;
use crate::domain::money::Nanos;
use crate::grpc::pb;
use prost_reflect::{DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::OnceLock;

const PACKAGE: &str = "gpushopper.v1";

/// A message of the contract, ready to be written as JSON.
#[derive(Clone, Debug)]
pub struct Message(DynamicMessage);

impl Message {
    /// Takes `message`, whose name in the contract is `name` (`ListOffersResponse`).
    ///
    /// # Errors
    /// When the contract has no such message or the bytes are not one: a mistake in this program.
    pub fn of<M: prost::Message>(name: &str, message: &M) -> Result<Self, Failure> {
        static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
        let wrong = || Failure::local("CONTRACT", format!("this program does not know its own message {name}"));
        let pool = POOL.get_or_init(|| DescriptorPool::decode(pb::DESCRIPTOR_SET).ok());
        let descriptor = pool.as_ref().and_then(|p| p.get_message_by_name(&format!("{PACKAGE}.{name}"))).ok_or_else(wrong)?;
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).map(Self).map_err(|_| wrong())
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Held(&self.0).serialize(s)
    }
}

struct Held<'a>(&'a DynamicMessage);

impl Serialize for Held<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let whole = |number| self.0.get_field_by_number(number).and_then(|v| v.as_i64().or_else(|| v.as_i32().map(i64::from))).unwrap_or(0);
        match self.0.descriptor().full_name() {
            "google.type.Money" => {
                let nanos = i32::try_from(whole(3)).unwrap_or(0);
                let amount = Nanos::from_parts(whole(2), nanos).ok_or_else(|| S::Error::custom("an amount of money out of range"))?;
                RawValue::from_string(amount.decimal()).map_err(S::Error::custom)?.serialize(s)
            }
            "google.protobuf.Timestamp" => s.serialize_str(&words::from_parts(whole(1), whole(2)).rfc3339()),
            "google.protobuf.Duration" => s.serialize_str(&words::seconds(whole(1), whole(2))),
            _ => {
                let mut map = s.serialize_map(None)?;
                for field in self.0.descriptor().fields() {
                    let alternative = field.containing_oneof().is_some_and(|one| one.fields().len() > 1);
                    if field.supports_presence() && !self.0.has_field(&field) {
                        if !alternative {
                            map.serialize_entry(field.name(), &None::<()>)?;
                        }
                        continue;
                    }
                    map.serialize_entry(field.name(), &Part { field: &field, value: &self.0.get_field(&field) })?;
                }
                map.end()
            }
        }
    }
}

struct Part<'a> {
    field: &'a FieldDescriptor,
    value: &'a Value,
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Bool(v) => s.serialize_bool(*v),
            Value::I32(v) => s.serialize_i32(*v),
            Value::I64(v) => s.serialize_i64(*v),
            Value::U32(v) => s.serialize_u32(*v),
            Value::U64(v) => s.serialize_u64(*v),
            Value::F32(v) => s.serialize_f32(*v),
            Value::F64(v) => s.serialize_f64(*v),
            Value::String(v) => s.serialize_str(v),
            Value::Bytes(v) => s.serialize_bytes(v),
            Value::Message(v) => Held(v).serialize(s),
            Value::EnumNumber(v) => match self.field.kind() {
                Kind::Enum(kind) => constant(&kind, *v, s),
                _ => s.serialize_i32(*v),
            },
            Value::List(values) => {
                let mut list = s.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(&Part { field: self.field, value })?;
                }
                list.end()
            }
            Value::Map(entries) => {
                let named = |key: &MapKey| key.as_str().map(str::to_owned);
                let ordered: BTreeMap<String, &Value> = entries.iter().filter_map(|(key, value)| Some((named(key)?, value))).collect();
                let mut map = s.serialize_map(Some(ordered.len()))?;
                for (key, value) in ordered {
                    map.serialize_entry(&key, &Part { field: self.field, value })?;
                }
                map.end()
            }
        }
    }
}

/// The word of an enum's value without the enum's name; the number itself when a newer server sends one we don't know.
fn constant<S: Serializer>(kind: &EnumDescriptor, number: i32, s: S) -> Result<S::Ok, S::Error> {
    let prefix = format!("{}_", screaming(kind.name()));
    match kind.get_value(number) {
        Some(_) if number == 0 => s.serialize_none(),
        Some(value) => s.serialize_str(&words::lower(value.name(), &prefix)),
        None => s.serialize_i32(number),
    }
}

/// `RentalKind` → `RENTAL_KIND`.
fn screaming(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for (at, c) in name.char_indices() {
        if at > 0 && c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let text = serde_json::to_string(&Message::of("Offer", &offer).unwrap()).unwrap();
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
        let text = serde_json::to_string(&Message::of("Session", &session).unwrap()).unwrap();
        assert!(text.contains(r#""labels":{"a":"1","b":"2"},"spec":{"offer_id":"vastai-1","workload_type":null,"reservation":"7200s""#), "{text}");
        assert!(text.contains(r#""verify":77"#), "{text}");
        assert!(text.contains(r#""state":"running""#), "{text}");
        assert!(!text.contains("requirements"), "{text}");
    }

    #[test]
    fn an_amount_that_is_none_is_an_error_and_not_a_wrong_number() {
        let price = pb::Price { total_per_hour: Some(pb::Money { currency_code: String::new(), units: 1, nanos: -5 }), ..Default::default() };
        assert!(serde_json::to_string(&Message::of("Price", &price).unwrap()).is_err());
        assert!(Message::of("Nonsense", &price).is_err());
    }
}
