//! The contract as written: every element has a comment, every request field a default and an example that fits.

use gpu_shopper::grpc::pb;
use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use std::collections::{BTreeMap, BTreeSet};

/// Messages by full name (`.gpushopper.v1.Offer`), with what is nested in them.
struct Contract {
    set: FileDescriptorSet,
    messages: BTreeMap<String, DescriptorProto>,
    enums: BTreeMap<String, EnumDescriptorProto>,
}

impl Contract {
    fn load() -> Self {
        let set = FileDescriptorSet::decode(pb::DESCRIPTOR_SET).unwrap();
        let (mut messages, mut enums) = (BTreeMap::new(), BTreeMap::new());
        for file in ours(&set) {
            let package = format!(".{}", file.package());
            for e in &file.enum_type {
                enums.insert(format!("{package}.{}", e.name()), e.clone());
            }
            for m in &file.message_type {
                let name = format!("{package}.{}", m.name());
                for e in &m.enum_type {
                    enums.insert(format!("{name}.{}", e.name()), e.clone());
                }
                assert!(m.nested_type.iter().all(|n| n.options.as_ref().is_some_and(|o| o.map_entry())), "{name} nests messages");
                for n in &m.nested_type {
                    messages.insert(format!("{name}.{}", n.name()), n.clone());
                }
                messages.insert(name, m.clone());
            }
        }
        Self { set, messages, enums }
    }
}

fn ours(set: &FileDescriptorSet) -> impl Iterator<Item = &prost_types::FileDescriptorProto> {
    set.file.iter().filter(|f| f.package() == "gpushopper.v1")
}

/// Is told of one element: name, kind, comment and, for a field, the field.
type See<'a> = dyn FnMut(String, &str, &str, Option<&FieldDescriptorProto>) + 'a;

/// Calls `see` with name, kind, comment and (for fields) the field of every element.
fn walk(file: &prost_types::FileDescriptorProto, see: &mut See<'_>) {
    let locations = &file.source_code_info.as_ref().expect("comments are kept").location;
    let comment = |path: &[i32]| locations.iter().find(|l| l.path == path).map_or("", |l| l.leading_comments().trim()).to_owned();
    let index = |at: usize| i32::try_from(at).unwrap();
    let values = |e: &EnumDescriptorProto, name: &str, path: &[i32], see: &mut See<'_>| {
        see(name.to_owned(), "enum", &comment(path), None);
        for (at, value) in e.value.iter().enumerate() {
            see(format!("{name}.{}", value.name()), "value", &comment(&[path, &[2, index(at)]].concat()), None);
        }
    };
    for (at, m) in file.message_type.iter().enumerate() {
        let path = [4, index(at)];
        see(m.name().to_owned(), "message", &comment(&path), None);
        for (at, f) in m.field.iter().enumerate() {
            see(format!("{}.{}", m.name(), f.name()), "field", &comment(&[&path[..], &[2, index(at)]].concat()), Some(f));
        }
        for (at, e) in m.enum_type.iter().enumerate() {
            values(e, &format!("{}.{}", m.name(), e.name()), &[&path[..], &[4, index(at)]].concat(), see);
        }
        let synthetic: BTreeSet<i32> = m.field.iter().filter(|f| f.proto3_optional()).map(FieldDescriptorProto::oneof_index).collect();
        for (at, o) in m.oneof_decl.iter().enumerate().filter(|(at, _)| !synthetic.contains(&index(*at))) {
            see(format!("{}.{}", m.name(), o.name()), "oneof", &comment(&[&path[..], &[8, index(at)]].concat()), None);
        }
    }
    for (at, e) in file.enum_type.iter().enumerate() {
        values(e, e.name(), &[5, index(at)], see);
    }
    for (at, s) in file.service.iter().enumerate() {
        see(s.name().to_owned(), "service", &comment(&[6, index(at)]), None);
        for (m, method) in s.method.iter().enumerate() {
            see(format!("{}.{}", s.name(), method.name()), "method", &comment(&[6, index(at), 2, index(m)]), None);
        }
    }
}

#[test]
fn every_element_of_the_contract_says_what_it_is() {
    let contract = Contract::load();
    let mut seen = 0;
    for file in ours(&contract.set) {
        walk(file, &mut |name, kind, comment, _| {
            seen += 1;
            assert!(comment.ends_with(['.', '`']), "{kind} {name} has no comment: `{comment}`");
        });
    }
    assert!(seen > 400, "{seen}");
}

#[test]
fn every_request_field_says_its_default_and_shows_an_example_that_fits() {
    let contract = Contract::load();
    let mut inputs: Vec<String> = contract.messages.keys().filter(|n| n.ends_with("Request")).cloned().collect();
    let mut at = 0;
    while at < inputs.len() {
        for field in &contract.messages[&inputs[at]].field {
            let of = field.type_name().to_owned();
            let map = contract.messages.get(&of).is_some_and(|m| m.options.as_ref().is_some_and(|o| o.map_entry()));
            if contract.messages.contains_key(&of) && !map && !inputs.contains(&of) {
                inputs.push(of);
            }
        }
        at += 1;
    }
    let mut checked = 0;
    for file in ours(&contract.set) {
        walk(file, &mut |name, kind, comment, field| {
            let message = format!(".gpushopper.v1.{}", name.split('.').next().unwrap());
            let Some(field) = field.filter(|_| kind == "field" && inputs.contains(&message)) else { return };
            checked += 1;
            assert!(comment.contains("Default: ") || comment.contains("Required"), "{name} says neither default nor that it is required");
            let example = comment.replace('\n', " ");
            let example = example
                .rsplit_once("Example: `")
                .and_then(|(_, e)| e.strip_suffix('`'))
                .unwrap_or_else(|| panic!("{name} has no example at its end"));
            let json: serde_json::Value = serde_json::from_str(example).unwrap_or_else(|e| panic!("{name}: {example}: {e}"));
            let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
            assert_eq!(keys, [field.json_name()], "{name}");
            fits(&contract, &message, &json, &name);
        });
    }
    assert!(checked > 90, "{checked}");
}

/// Whether the keys and enum words of a JSON object exist in a message.
fn fits(contract: &Contract, message: &str, json: &serde_json::Value, at: &str) {
    for (key, value) in json.as_object().unwrap_or_else(|| panic!("{at}: no object")) {
        let fields = &contract.messages[message].field;
        let field = fields.iter().find(|f| f.json_name() == key).unwrap_or_else(|| panic!("{at}: {message} has no {key}"));
        let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        for value in values {
            match field.r#type() {
                Type::Enum => {
                    let word = value.as_str().unwrap_or_else(|| panic!("{at}: {key} is no word"));
                    assert!(contract.enums[field.type_name()].value.iter().any(|v| v.name() == word), "{at}: {word}");
                }
                Type::Message if contract.messages.get(field.type_name()).is_some_and(|m| m.options.as_ref().is_none_or(|o| !o.map_entry())) => {
                    fits(contract, field.type_name(), &value, at);
                }
                Type::String => assert!(value.is_string(), "{at}: {key}"),
                Type::Bool => assert!(value.is_boolean(), "{at}: {key}"),
                Type::Int32 | Type::Double => assert!(value.is_number(), "{at}: {key}"),
                _ => {}
            }
        }
    }
}

#[test]
fn every_service_shows_a_whole_session_in_nine_lines_that_exist() {
    let contract = Contract::load();
    let mut inputs = BTreeMap::new();
    for file in ours(&contract.set) {
        for service in &file.service {
            for method in &service.method {
                inputs.insert(format!("gpushopper.v1.{}/{}", service.name(), method.name()), method.input_type().to_owned());
            }
        }
    }
    let mut services = 0;
    for file in ours(&contract.set) {
        walk(file, &mut |name, kind, comment, _| {
            if kind != "service" {
                return;
            }
            services += 1;
            let lines: Vec<&str> = comment.lines().map(str::trim).filter(|l| l.starts_with("grpcurl -plaintext ")).collect();
            assert_eq!(lines.len(), 9, "{name}");
            for line in &lines[2..] {
                let (json, rest) = line.split_once("-d '").and_then(|(_, l)| l.split_once('\'')).unwrap_or_else(|| panic!("{line}"));
                let method = rest.rsplit_once(' ').unwrap().1;
                let input = inputs.get(method).unwrap_or_else(|| panic!("there is no {method}"));
                fits(&contract, input, &serde_json::from_str(json).unwrap(), line);
            }
        });
    }
    assert_eq!(services, 4);
}
