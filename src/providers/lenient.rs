//! JSON as vendors really send it: an object is a list of names and raw values, and each field is read on its own by
//! whoever wants it. A field of an unexpected shape is unknown instead of spoiling the whole body; unknown is never zero.
//!
//! Numbers are kept as text until somebody says what they are, so that money never goes through a float. Of a name that
//! appears twice the last value counts. Bare `NaN` and `Infinity` are replaced by `null` only when a body does not parse
//! without that.

use crate::domain::money::{Nanos, Rate, scaled};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A JSON object, fields unread.
#[derive(Clone, Debug, Default)]
pub struct Object<'a> {
    fields: Vec<(Cow<'a, str>, Value<'a>)>,
}

/// A JSON value, unread.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a>(&'a str);

/// A response's body as text that parses: borrowed where possible, repaired where needed.
#[derive(Debug)]
pub struct Body<'a>(Cow<'a, str>);

impl<'a> Body<'a> {
    /// Takes a body. Bytes that are no UTF-8 become replacement characters; bare `NaN`, `Infinity` and `-Infinity`
    /// become `null` when the body does not parse otherwise.
    ///
    /// # Errors
    /// In words, when it is no JSON even then: empty, HTML, cut off.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(String::from_utf8_lossy(bytes).into_owned()),
        };
        let start = text.trim_start_matches('\u{feff}').trim_start();
        if start.is_empty() {
            return Err("the body is empty".to_owned());
        }
        if start.starts_with('<') {
            return Err("the body is HTML or XML, not JSON".to_owned());
        }
        let skip = text.len() - start.len();
        let text = match text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[skip..]),
            Cow::Owned(text) => Cow::Owned(text[skip..].to_owned()),
        };
        let Err(fault) = serde_json::from_str::<IgnoredAny>(&text) else {
            return Ok(Self(text));
        };
        let repaired = without_bare_words(&text).ok_or_else(|| format!("the body is no JSON: {fault}"))?;
        serde_json::from_str::<IgnoredAny>(&repaired).map_err(|fault| format!("the body is no JSON: {fault}"))?;
        Ok(Self(Cow::Owned(repaired)))
    }

    /// The body as one value.
    #[must_use]
    pub fn value(&self) -> Value<'_> {
        Value(self.0.trim())
    }
}

impl<'a> Value<'a> {
    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// As an object.
    #[must_use]
    pub fn object(self) -> Option<Object<'a>> {
        if !self.0.starts_with('{') {
            return None;
        }
        serde_json::from_str(self.0).ok()
    }

    /// A field of an object.
    #[must_use]
    pub fn field(self, name: &str) -> Option<Value<'a>> {
        self.object()?.get(name)
    }

    /// As an array of values.
    #[must_use]
    pub fn array(self) -> Option<Vec<Value<'a>>> {
        if !self.0.starts_with('[') {
            return None;
        }
        let raw: Vec<&'a RawValue> = serde_json::from_str(self.0).ok()?;
        Some(raw.into_iter().map(|value| Value(value.get())).collect())
    }

    /// As an array whose elements are objects, read in one pass; an element of another kind is `None`.
    #[must_use]
    pub fn rows(self) -> Option<Vec<Option<Object<'a>>>> {
        if !self.0.starts_with('[') {
            return None;
        }
        let rows: Vec<Row<'a>> = serde_json::from_str(self.0).ok()?;
        Some(rows.into_iter().map(|row| row.0).collect())
    }

    /// As text: only a JSON string is one.
    #[must_use]
    pub fn text(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') {
            return serde_json::from_str::<String>(self.0).ok().map(Cow::Owned);
        }
        Some(Cow::Borrowed(inner))
    }

    /// The text of a number, or of a string that holds one: `1.5`, `"1.5"`, `9e-06`. `NaN` and the like are none.
    #[must_use]
    pub fn decimal(self) -> Option<Cow<'a, str>> {
        let text = if self.0.starts_with('"') { self.text()? } else { Cow::Borrowed(self.0) };
        let trimmed = text.trim();
        scaled(trimmed, 0)?;
        Some(if trimmed.len() == text.len() { text } else { Cow::Owned(trimmed.to_owned()) })
    }

    /// As a whole number: `5`, `"5"`, `5.0`; `None` for `5.5`.
    #[must_use]
    pub fn int(self) -> Option<i64> {
        let text = self.decimal()?;
        if let Ok(int) = text.parse() {
            return Some(int);
        }
        let micros = scaled(&text, 6)?;
        (micros % 1_000_000 == 0).then(|| i64::try_from(micros / 1_000_000).ok()).flatten()
    }

    /// As a finite number. Never for money.
    #[must_use]
    pub fn float(self) -> Option<f64> {
        self.decimal()?.parse::<f64>().ok().filter(|number| number.is_finite())
    }

    /// As yes or no: `true`, `"true"`, `1`, and their opposites.
    #[must_use]
    pub fn boolean(self) -> Option<bool> {
        match self.0.trim_matches('"') {
            "true" | "True" | "1" => Some(true),
            "false" | "False" | "0" => Some(false),
            _ => None,
        }
    }

    /// As an id: a string that is not blank, or a whole number, as text. What nobody could print or name in a path is none.
    #[must_use]
    pub fn id(self) -> Option<String> {
        match self.text() {
            Some(text) => Some(text.trim().to_owned()).filter(|id| (1..=128).contains(&id.len()) && !id.chars().any(char::is_control)),
            None => self.int().map(|id| id.to_string()),
        }
    }
}

impl<'a> Object<'a> {
    /// A field; `None` when it is missing or `null`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        // Rows have some eighty fields, many as long as the one that is asked for: their first letters tell most of them apart.
        let is = |field: &str| field.len() == name.len() && field.as_bytes().first() == name.as_bytes().first() && field == name;
        self.fields.iter().rev().find(|(field, _)| is(field)).map(|(_, value)| *value).filter(|value| !value.is_null())
    }

    /// The first of several spellings of a field that is there.
    #[must_use]
    pub fn first(&self, names: &[&str]) -> Option<Value<'a>> {
        names.iter().find_map(|name| self.get(name))
    }

    /// Whether a field is there at all, `null` included.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field == name)
    }

    /// All fields in the order they came, the last of those with one name where the first stood; `null`s included.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Value<'a>)> {
        self.fields.iter().enumerate().filter_map(|(at, (name, _))| {
            let first = self.fields[..at].iter().all(|(earlier, _)| earlier != name);
            let last = self.fields.iter().rev().find(|(later, _)| later == name);
            last.filter(|_| first).map(|(_, value)| (name.as_ref(), *value))
        })
    }

    /// A field as dollars per hour.
    #[must_use]
    pub fn rate(&self, name: &str) -> Option<Rate> {
        Rate::parse(&self.get(name)?.decimal()?)
    }

    /// A field as an amount of dollars.
    #[must_use]
    pub fn amount(&self, name: &str) -> Option<Nanos> {
        let nanos = scaled(&self.get(name)?.decimal()?, 9)?;
        i64::try_from(nanos).ok().map(Nanos)
    }

    /// A field as a whole number.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.int()
    }

    /// A field as a finite number. Never for money.
    #[must_use]
    pub fn float(&self, name: &str) -> Option<f64> {
        self.get(name)?.float()
    }

    /// A field as text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name)?.text()
    }

    /// A field as yes or no.
    #[must_use]
    pub fn boolean(&self, name: &str) -> Option<bool> {
        self.get(name)?.boolean()
    }

    /// A row by itself: `None` when it is no JSON as it stands, `Some(None)` when it is no object.
    #[must_use]
    pub fn row(bytes: &'a [u8]) -> Option<Option<Self>> {
        // Looked at as text once, not again at each string in it.
        let text = std::str::from_utf8(bytes).ok()?;
        serde_json::from_str::<Row<'a>>(text).ok().map(|row| row.0)
    }

    /// A field as an object.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<Object<'a>> {
        self.get(name)?.object()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
                read_fields(map)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Room for the fields of most objects.
const FIELDS: usize = 64;

fn read_fields<'de, M: MapAccess<'de>>(mut map: M) -> Result<Object<'de>, M::Error> {
    let mut fields = Vec::with_capacity(FIELDS);
    while let Some(name) = map.next_key::<Name<'de>>()? {
        let value: &'de RawValue = map.next_value()?;
        fields.push((name.0, Value(value.get())));
    }
    Ok(Object { fields })
}

struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

struct Row<'a>(Option<Object<'a>>);

impl<'de> Deserialize<'de> for Row<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Row<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
                read_fields(map).map(|object| Row(Some(object)))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Row(None))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Row(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Row(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Row(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Row(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Row(None))
            }
            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Row(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// The text with bare `NaN`, `Infinity` and `-Infinity` outside strings replaced by `null`; `None` when there is none.
fn without_bare_words(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut out, mut copied, mut at, mut in_string) = (String::with_capacity(text.len()), 0, 0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'N' | b'I' | b'-' if !in_string => {
                let bare = ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| bytes[at..].starts_with(word.as_bytes()));
                if let Some(word) = bare {
                    out.push_str(&text[copied..at]);
                    out.push_str("null");
                    at += word.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return None;
    }
    out.push_str(&text[copied..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Object<'_> {
        Value(text).object().unwrap()
    }

    #[test]
    fn fields_are_read_one_by_one() {
        let o = object(
            r#"{"a":"1.50","b":0.24666666666666665,"c":9.25e-06,"d":5.0,
            "e":5.5,"f":null,"g":[1],"h":{"x":true},"i":"t\u00e9xt","j":"NaN","k":" 7 ","l":"x"}"#,
        );
        assert_eq!(o.rate("a"), Rate::parse("1.5"));
        assert_eq!(o.rate("b"), Some(Rate(246_666_666_667)));
        assert_eq!(o.amount("c"), Some(Nanos(9250)));
        assert_eq!((o.int("d"), o.int("e"), o.int("k"), o.int("f"), o.int("zz"), o.int("l")), (Some(5), None, Some(7), None, None, None));
        assert_eq!((o.float("j"), o.rate("j"), o.rate("g")), (None, None, None));
        assert_eq!(o.object("h").unwrap().boolean("x"), Some(true));
        assert_eq!(o.text("i").unwrap(), "téxt");
        assert!(o.has("f") && o.get("f").is_none());
        assert_eq!(o.get("k").unwrap().id().as_deref(), Some("7"));
        assert_eq!(o.get("d").unwrap().id().as_deref(), Some("5"));
    }

    #[test]
    fn of_a_name_that_comes_twice_the_last_counts() {
        let o = object(r#"{"id":1,"x":0,"id":2,"\u0069d":3}"#);
        assert_eq!(o.int("id"), Some(3));
        assert_eq!(o.entries().map(|(name, value)| (name, value.int())).collect::<Vec<_>>(), [("id", Some(3)), ("x", Some(0))]);
    }

    #[test]
    fn bare_words_are_repaired_only_when_needed_and_never_in_strings() {
        let body = Body::read(br#"{"a":NaN,"b":-Infinity,"c":Infinity,"d":"NaN -Infinity \" NaN","e":-1}"#).unwrap();
        let o = body.value().object().unwrap();
        assert!(o.get("a").is_none() && o.get("b").is_none() && o.get("c").is_none());
        assert_eq!(o.text("d").unwrap(), "NaN -Infinity \" NaN");
        assert_eq!(o.int("e"), Some(-1));
        assert!(matches!(Body::read(br#"{"d":"NaN"}"#).unwrap().0, Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_no_json_says_so() {
        for (bytes, words) in
            [(&b""[..], "empty"), (b" \n", "empty"), (b"<html>", "HTML"), (b"{\"a\":", "no JSON"), (b"nope", "no JSON"), (b"{} x", "no JSON")]
        {
            assert!(Body::read(bytes).unwrap_err().contains(words));
        }
        assert!(Body::read(b"\xef\xbb\xbf {\"a\":1}").unwrap().value().object().is_some());
        assert!(Body::read(b"{\"a\":\"\xff\"}").unwrap().value().object().is_some());
    }

    #[test]
    fn rows_of_any_kind_are_taken() {
        let rows = Value(r#"[{"a":1},null,3,"x",[{}],-1.5,true,{"a":"\n"}]"#).rows().unwrap();
        assert_eq!(rows.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false, false, false, false, false, true]);
        assert!(Value("{}").rows().is_none());
    }
}
