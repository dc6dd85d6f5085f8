//! The OpenAPI 3.1 document, drawn from the list of routes and from the contract's descriptors and comments.

use super::asked::field_of;
use super::params::{Param, Unit};
use super::route::{Body, Route};
use super::shapes::{ADDED, Kind, Member, Shape, names, spoken};
use crate::grpc::convert::requests::MOST_DISK_GB;
use crate::grpc::json::{contract, is_alternative, message, words};
use prost_reflect::{FieldDescriptor, FileDescriptor, Kind as Wire, MessageDescriptor};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Where it is served.
pub const PATH: &str = "/openapi.json";

const DURATION: &str = r"^-?[0-9]+(\.[0-9]+)?[smh]$";
const DECIMAL: &str = r"^-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$";

/// The document.
#[must_use]
pub fn document(routes: &[Route]) -> Value {
    let mut schemas = Schemas::default();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut ids: Vec<String> = Vec::new();
    for route in routes {
        let mut id = lower_first(route.rpc.rsplit('/').next().unwrap_or_default());
        if ids.contains(&id) {
            let last = route.path.rsplit('/').next().unwrap_or_default();
            id.extend(last.split('-').map(upper_first));
        }
        ids.push(id.clone());
        let operation = operation(route, &id, &mut schemas);
        paths.entry(route.path.to_owned()).or_default().insert(route.method.to_lowercase(), operation);
    }
    for (path, operation) in plain_routes() {
        paths.entry(path.to_owned()).or_default().insert("get".to_owned(), operation);
    }
    schemas.all.insert("Error".to_owned(), error_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "GPU Shopper",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Shops GPU marketplaces and hands over verified machines by SSH.",
            "description": "The JSON face of the service; the gRPC face on the same port offers the same. Money is US dollars as exact decimal \
                numbers; times are RFC 3339 in UTC; durations are numbers with their unit, such as `7200s`. Members that are null say nothing, \
                nor do empty texts and zeros of what is not there yet (a session's `provider`, `ssh_port` and `price_per_hour` before its first \
                attempt); in requests null is the same as leaving a member out. Every answer has the header `X-Request-ID`; a request's own one \
                is kept. HEAD works where GET does.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "Needed where the server asks for a token."}},
            "schemas": schemas.all,
            "responses": {"Error": {
                "description": "It was refused, or failed.",
                "headers": {"X-Request-ID": {"description": "The request's name.", "schema": {"type": "string"}}},
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            }},
        },
    })
}

/// What has no place in the contract.
fn plain_routes() -> Vec<(&'static str, Value)> {
    let health = json!({
        "type": "object",
        "required": ["status", "timestamp", "services"],
        "properties": {
            "status": {"type": "string", "enum": ["ok", "degraded", "starting", "draining", "unavailable"]},
            "timestamp": {"type": "string", "format": "date-time"},
            "services": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    });
    let ready = json!({
        "type": "object",
        "required": ["ready", "timestamp"],
        "properties": {"ready": {"type": "boolean"}, "timestamp": {"type": "string", "format": "date-time"}},
    });
    let both = |schema: &Value, id: &str, summary: &str| {
        let content = json!({"application/json": {"schema": schema}});
        json!({
            "operationId": id, "summary": summary, "tags": ["health"], "security": [],
            "responses": {
                "200": {"description": "All is well enough.", "content": content},
                "503": {"description": "Not now.", "content": content},
            },
        })
    };
    vec![
        ("/health", both(&health, "health", "How the server is, part by part.")),
        ("/ready", both(&ready, "ready", "Whether calls are taken.")),
        (
            "/metrics",
            json!({
                "operationId": "metrics", "summary": "Metrics for Prometheus.", "tags": ["health"],
                "responses": {
                    "200": {"description": "The metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}},
                    "401": {"$ref": "#/components/responses/Error"},
                    "403": {"$ref": "#/components/responses/Error"},
                    "429": {"$ref": "#/components/responses/Error"},
                },
            }),
        ),
        (
            PATH,
            json!({
                "operationId": "openapi", "summary": "This document.", "tags": ["health"],
                "responses": {
                    "200": {"description": "The document.", "content": {"application/json": {"schema": {"type": "object"}}}},
                    "401": {"$ref": "#/components/responses/Error"},
                    "429": {"$ref": "#/components/responses/Error"},
                },
            }),
        ),
    ]
}

fn operation(route: &Route, id: &str, schemas: &mut Schemas) -> Value {
    let about = if route.about.is_empty() { rpc_comment(route.rpc) } else { route.about.to_owned() };
    let summary = about.split_inclusive(". ").next().unwrap_or_default().trim().to_owned();
    let mut parameters: Vec<Value> = variables(route.path)
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}, "description": path_doc(name)}))
        .collect();
    let holder = route.body.as_ref().map_or_else(|| request_of(route.rpc), |body| Some(body.message.to_owned())).unwrap_or_default();
    parameters.extend(route.query.iter().map(|param| parameter(&holder, param, schemas)));
    if route.rpc.ends_with("/WatchSession") || route.rpc.ends_with("/WatchSessions") {
        parameters.push(json!({
            "name": "Last-Event-ID", "in": "header", "schema": {"type": "string"},
            "description": "Go on after the message with this id; browsers send it by themselves.",
        }));
    }
    let takes_key = route.method != "GET" && message(&holder_of(route)).is_some_and(|m| m.get_field_by_name("request_id").is_some());
    if takes_key {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
            "description": "The caller's name for this request: repeating it does nothing new. The same as `request_id`.",
        }));
    }
    let mut responses = Map::new();
    for (status, shape) in &route.answers {
        let told = response(shape, schemas);
        match responses.get_mut(&status.to_string()) {
            None => drop(responses.insert(status.to_string(), told)),
            Some(known) => {
                let schema = |v: &Value| v["content"]["application/json"]["schema"].clone();
                let any = json!({"anyOf": [schema(known), schema(&told)]});
                known["content"]["application/json"]["schema"] = any;
            }
        }
    }
    let mut refusals = vec![400, 401, 403, 429, 500, 503];
    refusals.extend(route.refusals);
    if route.path.contains('{') {
        refusals.push(404);
    }
    if route.body.is_some() {
        refusals.push(408);
    }
    for status in refusals {
        responses.insert(status.to_string(), json!({"$ref": "#/components/responses/Error"}));
    }
    let tag = route.rpc.split('/').next().unwrap_or_default().trim_end_matches("Service").to_lowercase();
    let mut operation = json!({
        "operationId": id, "summary": summary, "description": about, "tags": [tag], "parameters": parameters, "responses": responses,
    });
    if let Some(body) = &route.body {
        let mut content = json!({"schema": schemas.body(body)});
        if let Ok(example) = serde_json::from_str::<Value>(body.example) {
            content["example"] = example;
        }
        operation["requestBody"] = json!({"required": body.required, "content": {"application/json": content}});
    }
    operation
}

fn variables(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

fn path_doc(name: &str) -> &'static str {
    match name {
        "session_id" => "A session's id, or its UUID.",
        "offer_id" => "An offer's id, as in the list.",
        "hash_id" => "A template's hash.",
        "name" => "A token's name.",
        _ => "A machine's label, as in the list.",
    }
}

/// The message that an RPC takes.
fn request_of(rpc: &str) -> Option<String> {
    method(rpc).map(|m| m.input().name().to_owned())
}

fn holder_of(route: &Route) -> String {
    request_of(route.rpc).unwrap_or_default()
}

fn method(rpc: &str) -> Option<prost_reflect::MethodDescriptor> {
    let (service, name) = rpc.split_once('/')?;
    contract()?.get_service_by_name(&format!("gpushopper.v1.{service}"))?.methods().find(|m| m.name() == name)
}

fn rpc_comment(rpc: &str) -> String {
    let Some(method) = method(rpc) else { return String::new() };
    let text = comment(&method.parent_file(), method.path());
    // The errors are in the table of errors, and by status below.
    text.split(" Errors: ").next().unwrap_or_default().to_owned()
}

/// A comment of the contract on one line, in the words of JSON, without its example, which is in the words of gRPC.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let proto = file.file_descriptor_proto();
    let locations = proto.source_code_info.as_ref().map(|info| info.location.as_slice()).unwrap_or_default();
    let text = locations.iter().find(|l| l.path == path).map(|l| l.leading_comments()).unwrap_or_default();
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    while let Some(from) = text.find("Example: `") {
        let rest = from + "Example: `".len();
        let to = text[rest..].find('`').map_or(text.len(), |at| rest + at + 1);
        text.replace_range(from..to, "");
    }
    spoken(text.trim())
}

fn field_comment(field: &FieldDescriptor) -> String {
    comment(&field.parent_message().parent_file(), field.path())
}

fn parameter(of: &str, param: &Param, schemas: &mut Schemas) -> Value {
    let field = field_of(of, param);
    let doc = match (&field, param.doc) {
        (_, doc) if !doc.is_empty() => doc.to_owned(),
        (Some(field), _) if param.unit == Unit::Label => format!("{} Written `key=value`, once for each.", field_comment(field)),
        (Some(field), _) if names(field) != param.name => format!("The same as `{}`. {}", names(field), field_comment(field)),
        (Some(field), _) => field_comment(field),
        (None, _) => String::new(),
    };
    let schema = match param.unit {
        Unit::Label => {
            json!({"type": "array", "items": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}=[^\\x00-\\x1f\\x7f]{0,256}$"}})
        }
        Unit::Gigabytes => json!({"type": "number"}),
        Unit::Whole if param.name == "limit" => json!({"type": "integer", "minimum": 1, "maximum": 1000}),
        Unit::Whole if param.name == "offset" => json!({"type": "integer", "minimum": 0, "maximum": 1_000_000_000}),
        Unit::Whole => json!({"type": "integer", "minimum": 0}),
        Unit::Truth => json!({"type": "boolean"}),
        Unit::Day => json!({"type": "string", "format": "date"}),
        Unit::Word if param.name == "wait" => json!({"type": "string", "pattern": DURATION}),
        Unit::Word if param.name == "period" => json!({"type": "string", "enum": ["daily", "monthly"]}),
        Unit::Word => json!({"type": "string"}),
        Unit::Hours | Unit::Minutes => json!({"type": "number"}),
        Unit::AsIs => field.as_ref().map_or_else(|| json!({"type": "string"}), |field| schemas.given(field, false)),
    };
    json!({"name": param.name, "in": "query", "schema": schema, "description": doc})
}

fn response(shape: &Shape, schemas: &mut Schemas) -> Value {
    let headers = json!({"X-Request-ID": {"description": "The request's name.", "schema": {"type": "string"}}});
    let schema = match shape {
        Shape::Message(name) => schemas.told(name),
        Shape::With(name, members) => {
            let name = (*name).to_owned();
            schemas.told(&name);
            schemas.add(&name, members);
            reference(&name)
        }
        Shape::Own(name, members) => {
            let mut schema = json!({"type": "object", "properties": {}, "required": []});
            schemas.members(&mut schema, members);
            schemas.all.insert((*name).to_owned(), schema);
            reference(name)
        }
        Shape::Events => {
            return json!({
                "description": "A stream of server-sent events.", "headers": headers, "content": {"text/event-stream": {"schema": {"type": "string"}}},
            });
        }
        Shape::Empty => return json!({"description": "Nothing can follow any more.", "headers": headers}),
    };
    json!({"description": "Done as asked.", "headers": headers, "content": {"application/json": {"schema": schema}}})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "description": "Why it was refused, or failed. Beside these members stand the variables of the message.",
        "required": ["error", "error_type", "retry_suggested", "request_id"],
        "properties": {
            "error": {"type": "string", "description": "For people, with the next step."},
            "error_type": {"type": "string", "description": "For programs: the reason in lower case; `stale_inventory` for NO_CAPACITY."},
            "retry_suggested": {"type": "boolean", "description": "The same request may succeed later."},
            "request_id": {"type": "string", "description": "The request's name, as in the log."},
            "fields": {
                "description": "Every field that is wrong, or their names.",
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["field", "description"],
                    "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
                },
            },
        },
    })
}

/// The schemas of the document, by name.
#[derive(Default)]
struct Schemas {
    all: BTreeMap<String, Value>,
}

impl Schemas {
    /// A message that the server tells.
    fn told(&mut self, name: &str) -> Value {
        if !self.all.contains_key(name)
            && let Some(descriptor) = message(name)
        {
            // Messages that hold each other must not lead round and round.
            self.all.insert(name.to_owned(), Value::Null);
            let schema = self.told_schema(&descriptor);
            self.all.insert(name.to_owned(), schema);
            if let Some((_, members)) = ADDED.iter().find(|(of, _)| *of == name) {
                self.add(name, members);
            }
        }
        reference(name)
    }

    fn told_schema(&mut self, descriptor: &MessageDescriptor) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in descriptor.fields() {
            let mut schema = if field.is_list() {
                json!({"type": "array", "items": self.told_value(&field, false)})
            } else if field.is_map() {
                let whole = matches!(field.kind(), Wire::Message(entry) if entry.map_entry_value_field().kind() == Wire::Int32);
                json!({"type": "object", "additionalProperties": {"type": if whole { "integer" } else { "string" }}})
            } else {
                let alternative = is_alternative(&field);
                let absent = (field.supports_presence() && !alternative) || matches!(field.kind(), Wire::Enum(_));
                self.told_value(&field, absent)
            };
            if !is_alternative(&field) {
                required.push(names(&field));
            }
            schema["description"] = Value::from(field_comment(&field));
            properties.insert(names(&field), schema);
        }
        json!({
            "type": "object",
            "description": comment(&descriptor.parent_file(), descriptor.path()),
            "properties": properties,
            "required": required,
        })
    }

    fn told_value(&mut self, field: &FieldDescriptor, absent: bool) -> Value {
        let kind = |name: &str| if absent { json!([name, "null"]) } else { json!(name) };
        match field.kind() {
            Wire::String => json!({"type": kind("string")}),
            Wire::Bool => json!({"type": kind("boolean")}),
            Wire::Double | Wire::Float => json!({"type": kind("number")}),
            Wire::Int64 => json!({"type": kind("integer"), "format": "int64"}),
            Wire::Enum(of) => {
                let mut all: Vec<Value> = words(&of).into_iter().map(Value::from).collect();
                if absent {
                    all.push(Value::Null);
                }
                json!({"type": kind("string"), "enum": all})
            }
            Wire::Message(of) => match of.full_name() {
                "google.type.Money" => json!({"type": kind("number")}),
                "google.protobuf.Timestamp" => json!({"type": kind("string"), "format": "date-time"}),
                "google.protobuf.Duration" => json!({"type": kind("string"), "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"}),
                _ if absent => json!({"anyOf": [self.told(of.name()), {"type": "null"}]}),
                _ => self.told(of.name()),
            },
            _ => json!({"type": kind("integer"), "format": "int32"}),
        }
    }

    /// More members of a message that is there.
    fn add(&mut self, name: &str, members: &[Member]) {
        let Some(mut schema) = self.all.remove(name) else { return };
        self.members(&mut schema, members);
        self.all.insert(name.to_owned(), schema);
    }

    fn members(&mut self, schema: &mut Value, members: &[Member]) {
        for (name, kind, doc) in members {
            let mut told = match kind {
                Kind::Text => json!({"type": "string"}),
                Kind::TextOrNull => json!({"type": ["string", "null"]}),
                Kind::Whole => json!({"type": "integer"}),
                Kind::WholeOrNull => json!({"type": ["integer", "null"]}),
                Kind::Number => json!({"type": "number"}),
                Kind::NumberOrNull => json!({"type": ["number", "null"]}),
                Kind::Truth => json!({"type": "boolean"}),
                Kind::Time => json!({"type": "string", "format": "date-time"}),
                Kind::TimeOrNull => json!({"type": ["string", "null"], "format": "date-time"}),
                Kind::Numbers => json!({"type": "object", "additionalProperties": {"type": "number"}}),
                Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
                Kind::Many(of) => json!({"type": "array", "items": self.told(of)}),
            };
            told["description"] = Value::from(*doc);
            let known = schema["properties"].get(*name).is_some();
            schema["properties"][*name] = told;
            if let (false, Some(required)) = (known, schema["required"].as_array_mut()) {
                required.push(Value::from(*name));
            }
        }
    }

    /// A body that the server takes.
    fn body(&mut self, body: &Body) -> Value {
        let Some(descriptor) = message(body.message) else { return json!({"type": "object"}) };
        let mut schema = self.given_schema(&descriptor, body.hidden);
        for param in &body.also {
            let kind = match param.unit {
                Unit::Truth => "boolean",
                Unit::Word => "string",
                Unit::Whole => "integer",
                _ => "number",
            };
            let mut told = json!({"type": [kind, "null"], "description": param.doc});
            if param.name == "retry_scope" {
                told["enum"] = json!(["same_gpu", "same_vram", "same_memory", "any", null]);
            }
            schema["properties"][&param.name] = told;
        }
        self.all.insert(body.message.to_owned(), schema);
        reference(body.message)
    }

    fn given_schema(&mut self, descriptor: &MessageDescriptor, hidden: &[&str]) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in descriptor.fields().filter(|f| !hidden.contains(&f.name())) {
            let text = field_comment(&field);
            let must = text.contains("Required.") && !is_alternative(&field);
            let mut schema = self.given(&field, !must);
            schema["description"] = Value::from(text);
            if must {
                required.push(Value::from(names(&field)));
            }
            properties.insert(names(&field), schema);
        }
        json!({
            "type": "object",
            "description": comment(&descriptor.parent_file(), descriptor.path()),
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        })
    }

    /// A field of a request. Null is the same as leaving it out, where it may be left out.
    fn given(&mut self, field: &FieldDescriptor, or_null: bool) -> Value {
        if field.is_list() {
            let kind = if or_null { json!(["array", "null"]) } else { json!("array") };
            return json!({"type": kind, "items": self.given_value(field, false)});
        }
        if field.is_map() {
            let kind = if or_null { json!(["object", "null"]) } else { json!("object") };
            return json!({"type": kind, "additionalProperties": {"type": "string"}});
        }
        self.given_value(field, or_null)
    }

    fn given_value(&mut self, field: &FieldDescriptor, or_null: bool) -> Value {
        match field.kind() {
            Wire::Message(of) => match of.full_name() {
                "google.type.Money" if or_null => json!({"type": ["number", "string", "null"], "pattern": DECIMAL}),
                "google.type.Money" => json!({"type": ["number", "string"], "pattern": DECIMAL}),
                "google.protobuf.Timestamp" => {
                    json!({"type": if or_null { json!(["string", "null"]) } else { json!("string") }, "format": "date-time"})
                }
                "google.protobuf.Duration" => json!({"type": if or_null { json!(["string", "null"]) } else { json!("string") }, "pattern": DURATION}),
                _ => {
                    let name = format!("{}Input", of.name());
                    if !self.all.contains_key(&name) {
                        self.all.insert(name.clone(), Value::Null);
                        let schema = self.given_schema(&of, &[]);
                        self.all.insert(name.clone(), schema);
                    }
                    if or_null { json!({"anyOf": [reference(&name), {"type": "null"}]}) } else { reference(&name) }
                }
            },
            Wire::Int32 if field.name() == "disk_gb" => {
                json!({"type": if or_null { json!(["integer", "null"]) } else { json!("integer") }, "minimum": 1, "maximum": MOST_DISK_GB})
            }
            _ => self.told_value(field, or_null),
        }
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
}

fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}
