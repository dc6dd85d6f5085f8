//! JSON as a tree whose numbers are text: what was read or written stays exact to the last digit.

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;

/// How deep a document may be nested.
const DEEPEST: usize = 32;

/// A JSON value. Objects keep their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it is written.
    Number(String),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object.
    Map(Map),
    /// Any of them, as it was written before.
    Written(Written),
}

/// A value that is told often, as its text. Two are equal when their texts are.
#[derive(Clone, Debug)]
pub struct Written(Arc<RawValue>);

impl PartialEq for Written {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Written {}

/// The members of an object, in order.
pub type Map = Vec<(String, Json)>;

impl Json {
    /// Reads a document.
    ///
    /// # Errors
    /// When it is no JSON, names a member twice, or is nested too deeply.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let raw: &RawValue = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        Self::of(raw, 0)
    }

    fn of(raw: &RawValue, depth: usize) -> Result<Self, String> {
        if depth > DEEPEST {
            return Err(format!("it is nested more than {DEEPEST} deep"));
        }
        let text = raw.get().trim();
        let wrong = |e: serde_json::Error| e.to_string();
        Ok(match text.as_bytes().first() {
            Some(b'{') => {
                let Members(members) = serde_json::from_str(text).map_err(wrong)?;
                Self::Map(members.into_iter().map(|(name, value)| Ok((name, Self::of(&value, depth + 1)?))).collect::<Result<_, String>>()?)
            }
            Some(b'[') => {
                let values: Vec<Box<RawValue>> = serde_json::from_str(text).map_err(wrong)?;
                Self::List(values.iter().map(|value| Self::of(value, depth + 1)).collect::<Result<_, String>>()?)
            }
            Some(b'"') => Self::Text(serde_json::from_str(text).map_err(wrong)?),
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'n') => Self::Null,
            _ => Self::Number(text.to_owned()),
        })
    }

    /// The value as its text, so that it need not be written again.
    ///
    /// # Errors
    /// When a number in it is none.
    pub fn written(&self) -> Result<Written, serde_json::Error> {
        serde_json::value::to_raw_value(self).map(|text| Written(text.into()))
    }

    /// A whole number.
    #[must_use]
    pub fn whole(number: impl Into<i128>) -> Self {
        Self::Number(number.into().to_string())
    }

    /// A count.
    #[must_use]
    pub fn count(number: usize) -> Self {
        Self::Number(number.to_string())
    }

    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A member of an object; `None` when there is none or this is no object.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(members) => find(members, name),
            _ => None,
        }
    }

    /// The text of a string.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A member of an object by its name.
#[must_use]
pub fn find<'a>(members: &'a Map, name: &str) -> Option<&'a Json> {
    members.iter().find(|(own, _)| own == name).map(|(_, value)| value)
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(v) => Self::Bool(v),
            Value::Number(v) => Self::Number(v.to_string()),
            Value::String(v) => Self::Text(v),
            Value::Array(values) => Self::List(values.into_iter().map(Self::from).collect()),
            Value::Object(members) => Self::Map(members.into_iter().map(|(name, value)| (name, Self::from(value))).collect()),
        }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => s.serialize_none(),
            Self::Bool(v) => s.serialize_bool(*v),
            Self::Number(text) => RawValue::from_string(text.clone()).map_err(S::Error::custom)?.serialize(s),
            Self::Text(text) => s.serialize_str(text),
            Self::List(values) => values.serialize(s),
            Self::Map(members) => {
                let mut map = s.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
            Self::Written(Written(text)) => text.serialize(s),
        }
    }
}

impl fmt::Display for Json {
    /// The document on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// An object's members, none of them twice.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
                let mut names = std::collections::BTreeSet::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format!("`{}` is there twice", name.escape_debug())));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        d.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_as_they_are_written() {
        let text = r#"{"b":[0.246666667,1e-7,12345678901234567890.123456789],"a":{"x":null,"y":true},"s":"ä\"\n"}"#;
        assert_eq!(Json::parse(text.as_bytes()).unwrap().to_string(), text);
    }

    #[test]
    fn what_was_written_is_told_as_it_is() {
        let value = Json::parse(br#"{"a":[1e-7,"\""]}"#).unwrap();
        let list = Json::List(vec![Json::Written(value.written().unwrap()), value.clone(), Json::Null]);
        assert_eq!(list.to_string(), format!("[{value},{value},null]"));
        assert!(Json::Number("one".into()).written().is_err());
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for wrong in ["", "{", "{'a':1}", "[1,]", "{\"a\":1,\"a\":2}", "nul", "1 2", "\u{feff}{}"] {
            assert!(Json::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(Json::parse("[".repeat(100_000).as_bytes()).is_err());
        let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
        assert!(Json::parse(deep.as_bytes()).unwrap_err().contains("32 deep"));
        assert!(Json::parse(b"\xff").is_err());
    }
}
