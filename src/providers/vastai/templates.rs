//! Vast.ai's templates: its words for what runs on a machine and what it needs.
//!
//! Known traps: `env` is a line of docker's options, ports among them; `extra_filters` is an object or its text, in the
//! search's little language; the tag stands apart from the image; a template may be made for Jupyter, which gives no SSH
//! (the launch forces the SSH way of running all the same).

use crate::domain::ids::{ProviderId, clip};
use crate::domain::template::{Needs, Template};
use crate::providers::call::{Fault, Reply};
use crate::providers::lenient::{Body, Object, Value};
use crate::providers::vastai::{offers, wire};
use crate::providers::words;
use std::collections::BTreeMap;

/// The longest script of a template, bytes.
const LONGEST_SCRIPT: usize = 16 * 1024;
/// The most ports of a template.
const MOST_PORTS: usize = 64;

/// Reads the answer to a search for templates. Rows without hash or image make no template and are left out.
///
/// # Errors
/// The vendor's refusal, or what answers is no list.
pub(super) fn read(reply: &Reply, provider: &ProviderId) -> Result<Vec<Template>, Fault> {
    if !reply.ok() {
        return Err(wire::refusal(reply));
    }
    let body = Body::read(&reply.body).map_err(Fault::garbled)?;
    let object = body.value().object().ok_or_else(|| Fault::garbled("the templates are no object"))?;
    if object.boolean("success") == Some(false) {
        return Err(wire::refusal(reply));
    }
    let rows = object.get("templates").and_then(Value::rows).ok_or_else(|| Fault::garbled("there is no array `templates`"))?;
    Ok(rows.iter().flatten().filter_map(|row| template(row, provider)).collect())
}

fn template(row: &Object<'_>, provider: &ProviderId) -> Option<Template> {
    let text = |name: &str| row.text(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let hash_id = text("hash_id").filter(|hash| hash.len() <= 64 && hash.bytes().all(|b| b.is_ascii_alphanumeric()))?;
    let image = image(&text("image")?, text("tag").as_deref())?;
    let (env, ports) = options(&text("env").unwrap_or_default());
    let runtype = text("runtype").unwrap_or_default();
    Some(Template {
        name: text("name").map_or_else(|| hash_id.clone(), |name| words::clean(&clip(&name, 200), &[])),
        description: text("desc").or_else(|| text("description")).map(|d| words::clean(&clip(&d, 1000), &[])).unwrap_or_default(),
        image,
        env,
        ports,
        on_start: text("onstart").filter(|script| script.len() <= LONGEST_SCRIPT),
        disk_gb: row.float("recommended_disk_space").filter(|gb| (1.0..1e5).contains(gb)).map(|gb| gb.ceil() as u32),
        ssh: row.boolean("use_ssh").or(row.boolean("ssh_direct")).unwrap_or_else(|| runtype.contains("ssh")),
        recommended: row.boolean("recommended").unwrap_or(false),
        needs: needs(row, provider),
        hash_id,
    })
}

/// Image and tag in one: `image:tag`, where the image has none yet.
fn image(image: &str, tag: Option<&str>) -> Option<String> {
    let named = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    let whole = match tag.filter(|_| !named) {
        Some(tag) => format!("{image}:{tag}"),
        None => image.to_owned(),
    };
    (whole.len() <= 255 && whole.bytes().all(|b| b.is_ascii_graphic())).then_some(whole)
}

/// Variables and published TCP ports of a line of docker's options. What else stands there is the vendor's.
fn options(line: &str) -> (BTreeMap<String, String>, Vec<u16>) {
    let (mut env, mut ports) = (BTreeMap::new(), Vec::new());
    let mut words = shell_words(line).into_iter();
    while let Some(word) = words.next() {
        let value = match word.as_str() {
            "-e" | "--env" | "-p" | "--publish" => words.next(),
            word => ["--env=", "--publish="].iter().find_map(|start| word.strip_prefix(start)).map(str::to_owned),
        };
        let Some(value) = value else { continue };
        if word.starts_with("-e") || word.starts_with("--env") {
            if let Some((name, value)) = value.split_once('=') {
                env.insert(name.to_owned(), value.to_owned());
            }
        } else if let Some(port) = inside(&value)
            && !ports.contains(&port)
            && ports.len() < MOST_PORTS
        {
            ports.push(port);
        }
    }
    (env, ports)
}

/// The port inside of `8080:80`, `80`, `127.0.0.1:8080:80` with or without `/tcp`; SSH's own is mapped anyway, UDP never.
fn inside(published: &str) -> Option<u16> {
    let (mapping, protocol) = published.split_once('/').unwrap_or((published, "tcp"));
    let port = mapping.rsplit(':').next()?.parse().ok()?;
    (protocol == "tcp" && port != 22 && port != 0).then_some(port)
}

/// Words of a command line: quotes keep blanks together, a backslash takes the next character as it is.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some('"') | None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What the template asks of machines, as far as it is of our kind; what a search knows beyond that, the vendor checks.
fn needs(row: &Object<'_>, provider: &ProviderId) -> Needs {
    let mut needs = Needs::of(provider.clone());
    let told = row.get("extra_filters");
    let text = told.and_then(Value::text).map(|text| text.into_owned());
    let body = text.as_ref().and_then(|text| Body::read(text.as_bytes()).ok());
    let Some(filters) = told.and_then(Value::object).or_else(|| body.as_ref()?.value().object()) else { return needs };
    // At least this: `eq` and `gte` as they stand, `gt` one step above.
    let least = |field: &str| -> Option<(String, bool)> {
        let filter = filters.object(field)?;
        let (value, above) = match filter.first(&["gte", "eq"]) {
            Some(value) => (value, false),
            None => (filter.get("gt")?, true),
        };
        Some((value.decimal()?.into_owned(), above))
    };
    let whole = |field: &str| least(field).and_then(|(text, above)| Some(text.parse::<f64>().ok()?.ceil() as u32 + u32::from(above)));
    needs.min_cuda = least("cuda_max_good").and_then(|(text, above)| Some(offers::cuda(&text)? + u32::from(above)));
    needs.min_gpu_memory_mib = whole("gpu_ram");
    needs.min_total_gpu_memory_mib = whole("gpu_total_ram");
    needs.min_gpu_count = whole("num_gpus");
    needs.min_disk_gb = whole("disk_space");
    needs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::{Look, Time};

    fn reply(status: u16, body: &str) -> Reply {
        let at = Time::from_millis(1);
        Reply { status, retry_after: None, body: body.as_bytes().to_vec(), look: Look { sent: at, answered: at } }
    }

    fn all(body: &str) -> Vec<Template> {
        read(&reply(200, body), &ProviderId::new("vastai")).unwrap()
    }

    #[test]
    fn a_row_as_the_vendor_writes_it_is_read_whole() {
        let body = r#"{"success":true,"templates_found":1,"templates":[{"id":7,"hash_id":"ab12","name":"vLLM\u0007","image":"vllm/vllm-openai","tag":"v0.6",
            "desc":"serves","env":"-p 8000:8000 -p 127.0.0.1:72:72/udp --publish=9090 -e A=1 -e B=\"two words\" --env=C='x=y' -h box -p 22:22 -e D",
            "onstart":"entry &","recommended_disk_space":80.5,"use_ssh":true,"runtype":"ssh","recommended":true,"private":false,
            "extra_filters":"{\"cuda_max_good\": {\"gt\": 12.3}, \"gpu_total_ram\": {\"gte\": 22000.5}, \"num_gpus\": {\"eq\": 2}, \"geolocation\": {\"in\": [\"US\"]}}"}]}"#;
        let [one] = all(body).try_into().unwrap();
        assert_eq!(
            (one.hash_id.as_str(), one.image.as_str(), one.disk_gb, one.recommended, one.ssh),
            ("ab12", "vllm/vllm-openai:v0.6", Some(81), true, true)
        );
        let env: Vec<(&str, &str)> = one.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(env, [("A", "1"), ("B", "two words"), ("C", "x=y")]);
        assert_eq!((one.ports, one.on_start.as_deref()), (vec![8000, 9090], Some("entry &")));
        assert!(!one.name.chars().any(char::is_control), "{}", one.name);
        let needs =
            Needs { min_cuda: Some(1204), min_total_gpu_memory_mib: Some(22_001), min_gpu_count: Some(2), ..Needs::of(ProviderId::new("vastai")) };
        assert_eq!(one.needs, needs);
    }

    #[test]
    fn odd_rows_spoil_nothing() {
        let body = r#"{"templates":[{"hash_id":"a","image":"i"},{"hash_id":null,"image":"x"},{"hash_id":"b"},{"hash_id":"../x","image":"i"},3,
            {"hash_id":"c","image":"r.example:5000/i","tag":"1","env":null,"extra_filters":{"gpu_ram":{"gte":"24000"}},"use_ssh":null,"runtype":"jupyter_direc ssh"},
            {"hash_id":"d","image":"i@sha256:00","tag":"ignored","recommended_disk_space":0,"onstart":"","extra_filters":"nonsense"}]}"#;
        let read = all(body);
        let shown: Vec<_> = read.iter().map(|t| (t.hash_id.as_str(), t.image.as_str(), t.disk_gb, t.needs.min_gpu_memory_mib, t.ssh)).collect();
        let want = [("a", "i", None, None, false), ("c", "r.example:5000/i:1", None, Some(24_000), true), ("d", "i@sha256:00", None, None, false)];
        assert_eq!(shown, want);
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for (status, body) in [(200, "{}"), (200, "[]"), (200, "<html>"), (200, r#"{"success":false,"error":"x"}"#), (500, "{}"), (401, "{}")] {
            assert!(read(&reply(status, body), &ProviderId::new("vastai")).is_err(), "{status} {body}");
        }
    }
}
