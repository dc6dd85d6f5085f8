//! How things look in JSON: what fields are called, and what objects have beside the fields of their message: names that
//! scripts for the earlier Go server know, and what saves a client a lookup.

use crate::grpc::json::tree::{Json, Map, find};
use crate::grpc::json::{contract, words};
use prost_reflect::{DescriptorPool, FieldDescriptor};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// What a value is, for the OpenAPI document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number.
    Whole,
    /// A whole number or null.
    WholeOrNull,
    /// A number; money is one.
    Number,
    /// A number or null.
    NumberOrNull,
    /// `true` or `false`.
    Truth,
    /// A time.
    Time,
    /// A time or null.
    TimeOrNull,
    /// A string or null.
    TextOrNull,
    /// Numbers by name.
    Numbers,
    /// Strings.
    Texts,
    /// Objects of the contract.
    Many(&'static str),
}

/// A member: name, what it is, what it means.
pub type Member = (&'static str, Kind, &'static str);

/// What an answer looks like.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A message of the contract.
    Message(&'static str),
    /// The same with more members.
    With(&'static str, &'static [Member]),
    /// Members alone, under a name.
    Own(&'static str, &'static [Member]),
    /// A stream of server-sent events.
    Events,
    /// Nothing.
    Empty,
}

/// What every page of a list has.
pub const PAGE: &[Member] = &[
    ("count", Kind::Whole, "How many are in this answer."),
    ("total", Kind::Whole, "How many there are in all."),
    ("limit", Kind::WholeOrNull, "The limit that was asked for; null: the list is whole."),
    ("offset", Kind::Whole, "How many were left out at the beginning."),
];

/// What objects of the contract have beside their own fields, by message.
pub const ADDED: &[(&str, &[Member])] = &[
    (
        "Session",
        &[
            ("id", Kind::Text, "The same as `session_id`."),
            ("price_per_hour", Kind::NumberOrNull, "What it costs, US dollars per hour: `price.total_per_hour`."),
            ("gpu_type", Kind::Text, "The same as `gpu_model`."),
            ("vram_gb", Kind::Whole, "Memory of one GPU, whole GB."),
            ("workload_type", Kind::TextOrNull, "For what work, as asked for."),
            ("reservation_hours", Kind::NumberOrNull, "How long, as asked for, in hours."),
            ("idle_threshold_minutes", Kind::NumberOrNull, "It ends when it was idle for so long, in minutes; 0 = never."),
            ("storage_policy", Kind::TextOrNull, "The disk's fate, as asked for."),
            ("launch_mode", Kind::TextOrNull, "What the machine does when it is up, as asked for."),
            ("retry_count", Kind::Whole, "Attempts after the first."),
            ("failed_offers", Kind::Texts, "Offers whose attempts failed, in order."),
        ],
    ),
    (
        "Offer",
        &[
            ("id", Kind::Text, "The same as `offer_id`."),
            ("provider_id", Kind::Text, "The offer's name without its provider's."),
            ("price_per_hour", Kind::NumberOrNull, "All in, US dollars per hour: `price.total_per_hour`."),
            ("gpu_type", Kind::Text, "The same as `gpu_model`."),
            ("vram_gb", Kind::Whole, "Memory of one GPU, whole GB."),
            ("location", Kind::Text, "The place in the vendor's words: `region.text`."),
            ("available", Kind::Truth, "True: what is not on offer is not told."),
            ("availability_confidence", Kind::Number, "The same as `confidence`."),
            ("cuda_version", Kind::Text, "The same as `max_cuda_version`."),
            ("interruptible", Kind::Truth, "It is rented by a bid."),
            ("min_bid", Kind::NumberOrNull, "The same as `min_bid_per_hour`."),
        ],
    ),
    ("Condition", &[("changed_at", Kind::TimeOrNull, "The same as `time`.")]),
    ("AuditEntry", &[("occurred_at", Kind::TimeOrNull, "The same as `time`.")]),
    ("Template", &[("hash_id", Kind::Text, "The same as `template_hash_id`."), ("use_ssh", Kind::Truth, "The same as `ssh`.")]),
    (
        "OfferHealth",
        &[
            ("is_suppressed", Kind::Truth, "It is set aside now; where the memory only observes, it would be."),
            ("suppressed_until", Kind::TimeOrNull, "The same as `set_aside_until`."),
            ("recent_failures", Kind::Whole, "Launches that did not come to a usable machine, and complaints."),
            ("confidence_multiplier", Kind::Number, "The same as `confidence`."),
            ("last_failure_type", Kind::Text, "`last_outcome` when it was a failure, else empty."),
            ("last_failure_reason", Kind::Text, "The same as `last_message`."),
        ],
    ),
];

/// What a field is called in JSON.
pub fn names(field: &FieldDescriptor) -> String {
    let name = match (field.parent_message().name(), field.name()) {
        ("Session", "end_time") => "stopped_at",
        ("GetCostReportResponse", "start_time") => "period_start",
        ("GetCostReportResponse", "end_time") => "period_end",
        // Fields of a filter are called as the contract calls them: what explains a filter names them so.
        ("OfferFilter" | "GetCostReportRequest" | "ListLedgerEntriesRequest", name) => name,
        (_, "state") | ("SessionFilter", "states") => "status",
        (_, "from_state") => "from_status",
        (_, "to_state") => "to_status",
        (_, "state_time") => "status_at",
        (_, "create_time") => "created_at",
        (_, "expire_time") => "expires_at",
        (_, "start_time") => "started_at",
        (_, "end_time") => "ended_at",
        (_, "fetch_time") => "fetched_at",
        (_, "occur_time") => "occurred_at",
        (_, "intend_time") => "intended_at",
        (_, "launch_time") => "launched_at",
        (_, "settle_time") => "settled_at",
        (_, "list_time") => "listed_at",
        (_, "idle_time") => "idle_since",
        (_, "since_time") => "since",
        (_, "until_time") => "until",
        (_, "gpu_time" | "time") => field.name(),
        (_, name) => {
            return match (name.strip_suffix("_until_time"), name.strip_suffix("_time")) {
                (Some(head), _) => format!("{head}_until"),
                (None, Some(head)) => format!("{head}_at"),
                (None, None) => name.to_owned(),
            };
        }
    };
    name.to_owned()
}

/// Adds to an object of the contract what [`ADDED`] promises.
pub fn adorn(message: &str, members: &mut Map) {
    let name = message.rsplit('.').next().unwrap_or(message);
    if !ADDED.iter().any(|(of, _)| *of == name) {
        return;
    }
    let value = |path: &[&str]| {
        let mut found = find(members, path.first()?)?;
        for part in path.iter().skip(1) {
            found = found.get(part)?;
        }
        Some(found.clone())
    };
    let or_null = |path: &[&str]| value(path).unwrap_or(Json::Null);
    let whole = |path: &[&str]| value(path).and_then(|v| if let Json::Number(text) = v { text.parse::<i64>().ok() } else { None }).unwrap_or(0);
    let text = |path: &[&str]| value(path).and_then(|v| v.as_text().map(str::to_owned)).unwrap_or_default();
    let attempts = match value(&["attempts"]) {
        Some(Json::List(attempts)) => attempts,
        _ => Vec::new(),
    };
    let failed = |attempt: &&Json| attempt.get("failure").is_some_and(|failure| *failure != Json::Null);
    let added: Map = match name {
        "Session" => vec![
            ("price_per_hour", or_null(&["price", "total_per_hour"])),
            ("gpu_type", or_null(&["gpu_model"])),
            ("vram_gb", Json::whole(whole(&["gpu_memory_mib"]) / 1024)),
            ("workload_type", or_null(&["spec", "workload_type"])),
            ("reservation_hours", counted(&text(&["spec", "reservation"]), 3600)),
            ("idle_threshold_minutes", counted(&text(&["spec", "idle_threshold"]), 60)),
            ("storage_policy", or_null(&["spec", "storage_policy"])),
            ("launch_mode", or_null(&["spec", "launch_mode"])),
            ("retry_count", Json::count(attempts.len().saturating_sub(1))),
            ("failed_offers", Json::List(attempts.iter().filter(failed).filter_map(|a| a.get("offer_id").cloned()).collect())),
        ],
        "Offer" => {
            let (id, provider) = (text(&["offer_id"]), text(&["provider"]));
            let own = id.strip_prefix(&provider).and_then(|rest| rest.strip_prefix('-')).unwrap_or(&id);
            vec![
                ("provider_id", Json::text(own)),
                ("price_per_hour", or_null(&["price", "total_per_hour"])),
                ("gpu_type", or_null(&["gpu_model"])),
                ("vram_gb", Json::whole(whole(&["gpu_memory_mib"]) / 1024)),
                ("location", Json::text(text(&["region", "text"]))),
                ("available", Json::Bool(true)),
                ("availability_confidence", or_null(&["confidence"])),
                ("cuda_version", or_null(&["max_cuda_version"])),
                ("interruptible", Json::Bool(text(&["rental_kind"]) == "interruptible")),
                ("min_bid", or_null(&["min_bid_per_hour"])),
            ]
        }
        "Condition" => vec![("changed_at", or_null(&["time"]))],
        "AuditEntry" => vec![("occurred_at", or_null(&["time"]))],
        "Template" => vec![("hash_id", or_null(&["template_hash_id"])), ("use_ssh", or_null(&["ssh"]))],
        _ => {
            let failures = match value(&["failure_counts"]) {
                Some(Json::Map(counts)) => {
                    counts.iter().filter_map(|(_, n)| if let Json::Number(n) = n { n.parse::<i64>().ok() } else { None }).sum()
                }
                _ => 0_i64,
            };
            let failed = text(&["last_outcome"]) != "usable";
            vec![
                ("is_suppressed", Json::Bool(or_null(&["set_aside_until"]) != Json::Null)),
                ("suppressed_until", or_null(&["set_aside_until"])),
                ("recent_failures", Json::whole(failures)),
                ("confidence_multiplier", or_null(&["confidence"])),
                ("last_failure_type", if failed { or_null(&["last_outcome"]) } else { Json::text("") }),
                ("last_failure_reason", or_null(&["last_message"])),
            ]
        }
    }
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let id = match name {
        "Session" => Some(or_null(&["session_id"])),
        "Offer" => Some(or_null(&["offer_id"])),
        _ => None,
    };
    if let Some(id) = id {
        members.insert(0, ("id".to_owned(), id));
    }
    members.extend(added);
}

/// A span such as `5400s` in units of so many seconds: 1.5.
fn counted(span: &str, each: i64) -> Json {
    let Some(whole) = span.strip_suffix('s').and_then(|s| s.split('.').next()).and_then(|s| s.parse::<i64>().ok()) else { return Json::Null };
    if whole % each == 0 {
        return Json::whole(whole / each);
    }
    // Three decimals of an hour are four seconds: enough for what `spec` says exactly.
    let thousandths = (i128::from(whole) * 1000 + i128::from(each) / 2) / i128::from(each);
    Json::Number(format!("{}.{:03}", thousandths / 1000, thousandths % 1000))
}

/// A text about the contract in the words of JSON: enum values and fields as they are called here.
#[must_use]
pub fn spoken(text: &str) -> String {
    static WORDS: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    let known = WORDS.get_or_init(|| contract().map(vocabulary).unwrap_or_default());
    let (mut out, mut token) = (String::with_capacity(text.len()), String::new());
    let flush = |token: &mut String, out: &mut String| {
        out.push_str(known.get(token.as_str()).unwrap_or(token));
        token.clear();
    };
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            token.push(c);
        } else {
            flush(&mut token, &mut out);
            out.push(c);
        }
    }
    flush(&mut token, &mut out);
    out
}

fn vocabulary(pool: &DescriptorPool) -> BTreeMap<String, String> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for kind in pool.all_enums() {
        let values = kind.values().filter(|v| v.number() != 0).map(|v| v.name().to_owned());
        known.extend(values.zip(words(&kind)));
    }
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for field in pool.all_messages().filter(|m| m.full_name().starts_with("gpushopper.")).flat_map(|m| m.fields().collect::<Vec<_>>()) {
        let called = fields.entry(field.name().to_owned()).or_default();
        let name = names(&field);
        if !called.contains(&name) {
            called.push(name);
        }
    }
    // A name that is a plain word, or is called differently in different places, stays as it is.
    known.extend(
        fields.into_iter().filter(|(name, called)| name.contains('_') && called.len() == 1).map(|(name, mut called)| (name, called.remove(0))),
    );
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_in_the_words_of_json() {
        let text = "give `additional_duration` or `expire_time`; `LAUNCH_MODE_ENTRYPOINT` from STATE_RUNNING on, TYPE_API_READY";
        assert_eq!(spoken(text), "give `additional_duration` or `expires_at`; `entrypoint` from running on, api_ready");
        assert_eq!(spoken("state of NOBODY_KNOWS"), "state of NOBODY_KNOWS");
    }

    #[test]
    fn spans_in_hours_and_minutes() {
        assert_eq!(counted("7200s", 3600), Json::whole(2));
        assert_eq!(counted("5400s", 3600), Json::Number("1.500".into()));
        assert_eq!(counted("90.5s", 60), Json::Number("1.500".into()));
        assert_eq!(counted("", 60), Json::Null);
    }
}
