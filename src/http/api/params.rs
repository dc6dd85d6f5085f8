//! Parameters of URLs and other names of fields: which field of the request's message each stands for, and in which unit.

use super::shapes::names;
use crate::domain::ids::clip;
use crate::domain::money::scaled;
use crate::grpc::json::message;
use crate::grpc::json::read::spanning;
use crate::grpc::json::tree::Json;
use crate::grpc::json::write::seconds;
use prost_reflect::{FieldDescriptor, Kind};

/// A name for a field of a request.
#[derive(Clone, Debug)]
pub struct Param {
    /// The name.
    pub name: String,
    /// The field's path in the request's message, by the names of JSON: `filter.min_gpu_memory_mib`. Empty where the
    /// handler reads it by itself.
    pub to: String,
    /// In which unit.
    pub unit: Unit,
    /// What it means, where the field's comment does not say.
    pub doc: &'static str,
}

/// How a value is written, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// As the field has it.
    AsIs,
    /// Memory in GB, kept in MiB.
    Gigabytes,
    /// Time in hours.
    Hours,
    /// Time in minutes.
    Minutes,
    /// `key=value`, repeated.
    Label,
    /// A whole number from 0, read by the handler.
    Whole,
    /// A word or a time, read by the handler.
    Word,
    /// A UTC day, read by the handler.
    Day,
    /// `true` or `false`, read by the handler.
    Truth,
}

impl Param {
    /// Another name for a field.
    #[must_use]
    pub fn other(name: &str, to: &str, unit: Unit, doc: &'static str) -> Self {
        Self { name: name.to_owned(), to: to.to_owned(), unit, doc }
    }

    /// What the handler reads by itself.
    #[must_use]
    pub fn own(name: &str, unit: Unit, doc: &'static str) -> Self {
        Self::other(name, "", unit, doc)
    }
}

/// Parameters for all fields of a message; those of `filter` stand beside the others. Fields for pages are left out, since
/// every list has the same ones.
#[must_use]
pub fn fields(of: &str) -> Vec<Param> {
    let mut found = Vec::new();
    let add = |found: &mut Vec<Param>, field: &FieldDescriptor, at: &str| {
        let (name, unit) = match field.name() {
            // `label=team=vision`
            "labels" => ("label".to_owned(), Unit::Label),
            _ => (names(field), Unit::AsIs),
        };
        let to = if unit == Unit::Label { "labels".to_owned() } else { name.clone() };
        found.push(Param { name, to: format!("{at}{to}"), unit, doc: "" });
    };
    for field in message(of).iter().flat_map(|m| m.fields().collect::<Vec<_>>()) {
        match (field.name(), field.kind()) {
            ("page_size" | "page_token" | "session_id" | "template_hash_id" | "request_id" | "validate_only", _)
                if of.starts_with("Get") || of.starts_with("List") || of.starts_with("Watch") || of.starts_with("Wait") => {}
            ("filter", Kind::Message(filter)) => filter.fields().for_each(|f| add(&mut found, &f, "filter.")),
            _ => add(&mut found, &field, ""),
        }
    }
    found
}

/// `limit` and `offset`.
#[must_use]
pub fn parts() -> Vec<Param> {
    vec![
        Param::own("limit", Unit::Whole, "At most this many, 1 to 1000. Default: all."),
        Param::own("offset", Unit::Whole, "Leave out this many at the beginning. Default: 0."),
    ]
}

/// `limit`, `offset` and `page_token`.
#[must_use]
pub fn pages() -> Vec<Param> {
    let mut params = parts();
    params.push(Param::own(
        "page_token",
        Unit::Word,
        "Go on where a page ended, with its `next_page_token`, the same `limit` and the other parameters as they were; in the place of `offset`.",
    ));
    params
}

/// A value in the unit of its field; an error says what is allowed.
///
/// # Errors
/// When it is no number, or a label without `=`.
pub fn converted(unit: Unit, given: &Json) -> Result<Json, String> {
    let (Json::Number(text) | Json::Text(text)) = given else { return Err("must be a number".to_owned()) };
    let shown = || format!("`{}`", clip(text, 64));
    match unit {
        Unit::Gigabytes => {
            let mib = scaled(text, 9).and_then(|nanos| nanos.checked_mul(1024)).filter(|nanos| nanos % 1_000_000_000 == 0);
            mib.map(|nanos| Json::Number((nanos / 1_000_000_000).to_string())).ok_or_else(|| format!("{}; allowed: a number of GB", shown()))
        }
        Unit::Hours | Unit::Minutes => {
            let (each, what) = if unit == Unit::Hours { (3600, "hours") } else { (60, "minutes") };
            let span = spanning(text, each).map(|(whole, nanos)| Json::Text(seconds(whole, i64::from(nanos))));
            span.ok_or_else(|| format!("{}; allowed: a number of {what}", shown()))
        }
        _ => Ok(given.clone()),
    }
}
