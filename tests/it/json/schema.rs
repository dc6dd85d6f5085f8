//! As much of JSON Schema as the served document uses, and stricter: a member that the document does not know is a fault.

use super::Answer;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The OpenAPI document.
pub struct Document(pub Value);

impl Document {
    /// Fails the test when an answer is not as the document says.
    #[track_caller]
    pub fn holds(&self, method: &str, path: &str, answer: &Answer) {
        let Some(operation) = self.operation(method, path) else {
            assert!(matches!(answer.status, 404 | 405), "{method} {path} answers {} and is in no document", answer.status);
            return self.valid(&Value::from_iter([("$ref", "#/components/schemas/Error")]), &answer.body, path, false);
        };
        let told = &operation["responses"][answer.status.to_string()];
        assert!(!told.is_null(), "{method} {path}: {} is not documented: {}", answer.status, answer.text);
        let told = self.resolved(told);
        let content = told["content"].as_object().cloned().unwrap_or_default();
        let Some((kind, said)) = content.iter().next() else { return assert_eq!(answer.text, "", "{path}") };
        let own = answer.headers["content-type"].to_str().unwrap();
        assert!(own.starts_with(kind.as_str()), "{method} {path} is {own}, not {kind}");
        if kind == "application/json" {
            assert!(answer.text.ends_with("}\n") || path == "/openapi.json", "{path}: {}", answer.text);
            let strict = answer.status < 400 && path.starts_with("/api/");
            self.valid(&said["schema"], &answer.body, &format!("{method} {path}"), strict);
        }
    }

    /// The names of a path's parameters in the URL's query.
    pub fn parameters(&self, path: &str) -> impl Iterator<Item = String> {
        let all = self.0["paths"][path]["get"]["parameters"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|p| p["in"] == "query").map(|p| p["name"].as_str().unwrap().to_owned())
    }

    /// Every operation and parameter is described, every id is its own, every reference leads somewhere.
    pub fn is_whole(&self) {
        let mut ids = BTreeSet::new();
        for (path, methods) in self.0["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id.to_owned()), "{id} is there twice");
                assert!(operation["summary"].as_str().is_some_and(|s| s.len() > 10 && s.len() < 200), "{method} {path}: {}", operation["summary"]);
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    assert!(parameter["description"].as_str().is_some_and(|d| d.len() > 4), "{method} {path}: {parameter}");
                }
            }
        }
        for (name, schema) in self.0["components"]["schemas"].as_object().unwrap() {
            for (member, told) in schema["properties"].as_object().unwrap() {
                assert!(told["description"].as_str().is_some_and(|d| !d.is_empty()) || name == "Error", "{name}.{member}");
                let text = told["description"].as_str().unwrap_or_default();
                assert!(!text.contains("STATE_") && !text.contains("Example:"), "{name}.{member} speaks of gRPC: {text}");
            }
        }
        self.references(&self.0);
    }

    fn references(&self, value: &Value) {
        match value {
            Value::Object(members) => {
                if members.contains_key("$ref") {
                    assert!(!self.resolved(value).is_null(), "{value}");
                }
                members.values().for_each(|v| self.references(v));
            }
            Value::Array(values) => values.iter().for_each(|v| self.references(v)),
            _ => {}
        }
    }

    fn operation(&self, method: &str, path: &str) -> Option<&Value> {
        let paths = self.0["paths"].as_object().unwrap();
        let fits = |known: &str| {
            let (a, b): (Vec<&str>, Vec<&str>) = (known.split('/').collect(), path.split('/').collect());
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a == b || (a.starts_with('{') && !b.is_empty()))
        };
        // The plain path goes before one with variables.
        let found = paths.get(path).or_else(|| paths.iter().find(|(known, _)| fits(known)).map(|(_, v)| v))?;
        found.get(method.to_lowercase())
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => reference.trim_start_matches("#/").split('/').fold(&self.0, |at, part| &at[part]),
            None => value,
        }
    }

    #[track_caller]
    fn valid(&self, schema: &Value, value: &Value, at: &str, strict: bool) {
        if let Err(why) = self.check(schema, value, at, strict) {
            panic!("{why}");
        }
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, strict: bool) -> Result<(), String> {
        let schema = self.resolved(schema);
        if let Some(any) = schema["anyOf"].as_array() {
            let tried: Vec<String> = any.iter().filter_map(|s| self.check(s, value, at, strict).err()).collect();
            return if tried.len() < any.len() { Ok(()) } else { Err(tried.join(" and ")) };
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::String(kind) => vec![kind],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => return Err(format!("{at}: the schema names no type: {schema}")),
        };
        let fits = kinds.iter().any(|kind| match *kind {
            "null" => value.is_null(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{other}"),
        });
        if !fits {
            return Err(format!("{at} is {value}, not {kinds:?}"));
        }
        if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
            return Err(format!("{at} is {value}, none of {}", schema["enum"]));
        }
        if let (Some("date-time"), Some(text)) = (schema["format"].as_str(), value.as_str())
            && (text.len() != 24 || !text.ends_with('Z') || text.as_bytes()[10] != b'T')
        {
            return Err(format!("{at} is no time: {text}"));
        }
        for (n, item) in value.as_array().into_iter().flatten().enumerate() {
            self.check(&schema["items"], item, &format!("{at}[{n}]"), strict)?;
        }
        value.as_object().map_or(Ok(()), |members| self.members(schema, members, at, strict))
    }

    fn members(&self, schema: &Value, members: &Map<String, Value>, at: &str, strict: bool) -> Result<(), String> {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                return Err(format!("{at}.{name} is missing"));
            }
        }
        for (name, value) in members {
            let at = format!("{at}.{name}");
            match (&schema["properties"][name], &schema["additionalProperties"]) {
                (Value::Null, Value::Null) if strict => return Err(format!("{at} is in no document")),
                (Value::Null, Value::Null) => {}
                (Value::Null, other) => self.check(other, value, &at, strict)?,
                (known, _) => self.check(known, value, &at, strict)?,
            }
        }
        Ok(())
    }
}
