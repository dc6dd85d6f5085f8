//! Vast.ai's little query language: `{"num_gpus":{"gte":2}, "order":[["dph_total","asc"]], "limit":64, "type":"bid"}`,
//! over rows as the vendor writes them.

use serde_json::{Map, Value};
use std::cmp::Ordering;

/// What a search asks for.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Field, operator, value.
    filters: Vec<(String, String, Value)>,
    order: Vec<(String, bool)>,
    limit: Option<usize>,
    /// Interruptible offers instead of those on demand.
    pub bid: bool,
    /// The disk that prices include, GB.
    pub allocated_gb: u32,
}

/// Keys that are filters without being fields of a row.
const SCOPES: [&str; 3] = ["verified", "datacenter", "show_incompatible"];
const OPERATORS: [&str; 8] = ["eq", "neq", "gt", "gte", "lt", "lte", "in", "notin"];

impl Search {
    /// Reads a query. `known` is any row: its fields can be asked for.
    ///
    /// # Errors
    /// The vendor's words about what is wrong.
    pub fn parse(query: &Map<String, Value>, known: &Map<String, Value>) -> Result<Self, String> {
        let mut search = Self { allocated_gb: 8, ..Self::default() };
        for (key, value) in query {
            match key.as_str() {
                "order" => search.order = order(value)?,
                "limit" => search.limit = Some(whole(value).ok_or("limit must be a number")?),
                "allocated_storage" => {
                    let gb = value.as_f64().filter(|gb| (0.0..1e6).contains(gb)).ok_or("allocated_storage must be a number")?;
                    search.allocated_gb = gb.ceil() as u32;
                }
                "type" => {
                    search.bid = match value.as_str() {
                        Some("bid" | "interruptible") => true,
                        Some("on-demand" | "ondemand") => false,
                        _ => return Err(format!("type {value} is not known")),
                    }
                }
                "q" | "select_cols" => {}
                field if known.contains_key(field) || SCOPES.contains(&field) => search.filters.extend(conditions(field, value)?),
                field => return Err(format!("Error in query parameters: {field} is not a valid search key")),
            }
        }
        if let Some((field, _)) = search.order.iter().find(|(field, _)| !known.contains_key(field)) {
            return Err(format!("Error in query parameters: {field} is not a valid search key"));
        }
        Ok(search)
    }

    /// Whether a row is wanted.
    pub fn takes(&self, row: &Map<String, Value>) -> bool {
        self.filters.iter().all(|(field, operator, wanted)| holds(&field_of(row, field), operator, wanted, field))
    }

    /// The wanted rows in the wanted order, as many as wanted.
    pub fn run(&self, mut rows: Vec<Map<String, Value>>) -> Vec<Map<String, Value>> {
        rows.retain(|row| self.takes(row));
        rows.sort_by(|a, b| {
            let each = self.order.iter().map(|(field, ascending)| {
                let by = compare(&field_of(a, field), &field_of(b, field)).unwrap_or(Ordering::Equal);
                if *ascending { by } else { by.reverse() }
            });
            each.fold(Ordering::Equal, Ordering::then)
        });
        rows.truncate(self.limit.unwrap_or(usize::MAX));
        rows
    }
}

/// One field's conditions: `{"gte": 2, "lt": 5}`, or a plain value for equality.
///
/// # Errors
/// When an operator is not known.
pub(super) fn conditions(field: &str, value: &Value) -> Result<Vec<(String, String, Value)>, String> {
    let Value::Object(operators) = value else {
        return Ok(vec![(field.to_owned(), "eq".to_owned(), value.clone())]);
    };
    let one = |(operator, wanted): (&String, &Value)| {
        if OPERATORS.contains(&operator.as_str()) {
            Ok((field.to_owned(), operator.clone(), wanted.clone()))
        } else {
            Err(format!("Error in query parameters: {operator} is not a valid operator"))
        }
    };
    operators.iter().map(one).collect()
}

/// A field of a row; what is only asked for and never shown is worked out.
fn field_of(row: &Map<String, Value>, field: &str) -> Value {
    match field {
        "verified" => Value::Bool(row.get("verification").and_then(Value::as_str) == Some("verified")),
        "datacenter" | "external" => Value::Bool(row.get(field).and_then(Value::as_bool).unwrap_or(false)),
        "show_incompatible" => Value::Bool(true),
        _ => row.get(field).cloned().unwrap_or(Value::Null),
    }
}

/// Whether a condition holds for a value of a row.
pub(super) fn holds(value: &Value, operator: &str, wanted: &Value, field: &str) -> bool {
    let equal = |wanted: &Value| {
        let country = field == "geolocation" && in_country(value, wanted);
        country || compare(value, wanted) == Some(Ordering::Equal)
    };
    let among = || wanted.as_array().is_some_and(|all| all.iter().any(equal));
    match operator {
        "eq" => equal(wanted),
        "neq" => !equal(wanted),
        "in" => among(),
        "notin" => !among(),
        _ => match (compare(value, wanted), operator) {
            (Some(by), "gt") => by.is_gt(),
            (Some(by), "gte") => by.is_ge(),
            (Some(by), "lt") => by.is_lt(),
            (Some(by), "lte") => by.is_le(),
            _ => false,
        },
    }
}

/// Regions are asked for by country.
fn in_country(value: &Value, wanted: &Value) -> bool {
    let (Some(place), Some(code)) = (value.as_str(), wanted.as_str()) else { return false };
    place.split(',').any(|part| part.trim() == code)
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        _ => None,
    }
}

fn order(value: &Value) -> Result<Vec<(String, bool)>, String> {
    let wrong = || "order must be a list of [field, direction]".to_owned();
    let one = |pair: &Value| {
        let pair = pair.as_array().ok_or_else(wrong)?;
        let field = pair.first().and_then(Value::as_str).ok_or_else(wrong)?;
        Ok((field.to_owned(), pair.get(1).and_then(Value::as_str) != Some("desc")))
    };
    value.as_array().ok_or_else(wrong)?.iter().map(one).collect()
}

fn whole(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    fn rows() -> Vec<Map<String, Value>> {
        let all = [
            json!({"id": 1, "num_gpus": 1, "dph_total": 0.5, "gpu_name": "RTX 4090", "geolocation": "Texas, US", "verification": "verified"}),
            json!({"id": 2, "num_gpus": 4, "dph_total": 0.25, "gpu_name": "RTX 3090", "geolocation": ", CN", "verification": "unverified"}),
            json!({"id": 3, "num_gpus": 2, "dph_total": 0.75, "gpu_name": "RTX 4090", "geolocation": null, "verification": "verified"}),
        ];
        let with_null = |mut row: Map<String, Value>| {
            row.insert("external".to_owned(), Value::Null);
            row
        };
        all.into_iter().map(map).map(with_null).collect()
    }

    fn ids(query: Value) -> Vec<u64> {
        let search = Search::parse(&map(query), &rows()[0]).unwrap();
        search.run(rows()).iter().filter_map(|row| row["id"].as_u64()).collect()
    }

    #[test]
    fn queries_filter_order_and_limit() {
        assert_eq!(ids(json!({})), [1, 2, 3]);
        assert_eq!(ids(json!({"gpu_name": {"eq": "RTX 4090"}, "order": [["dph_total", "desc"]]})), [3, 1]);
        assert_eq!(ids(json!({"num_gpus": {"gte": 2, "lt": 4}})), [3]);
        assert_eq!(ids(json!({"gpu_name": {"notin": ["RTX 4090"]}})), [2]);
        assert_eq!(ids(json!({"geolocation": {"in": ["US", "CN"]}, "order": [["dph_total", "asc"]], "limit": 1})), [2]);
        assert_eq!(ids(json!({"verified": {"eq": true}, "external": {"eq": false}, "type": "on-demand"})), [1, 3]);
        assert_eq!(ids(json!({"geolocation": {"neq": "US"}})), [2, 3]);
    }

    #[test]
    fn unknown_words_are_named() {
        let error = |query| Search::parse(&map(query), &rows()[0]).err().unwrap();
        assert_eq!(error(json!({"colour": {"eq": 1}})), "Error in query parameters: colour is not a valid search key");
        assert!(error(json!({"id": {"like": 1}})).contains("like is not a valid operator"));
        assert!(error(json!({"type": "gift"})).contains("gift"));
    }
}
