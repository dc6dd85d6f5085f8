//! Foreign text made fit for our errors and logs: without control characters, without secrets, and short.
//!
//! Redaction here is the last line, not the first: code never puts a secret into a text on purpose.

use secrecy::{ExposeSecret, SecretString};

/// The longest foreign text that we repeat, in characters.
pub const MAX_TEXT: usize = 300;
/// What stands where a secret stood.
const MASK: &str = "***";
/// Runs of hexadecimal digits this long are keys or tokens (Vast.ai's keys have 64, UUIDs without dashes 32).
const LONG_HEX: usize = 40;
/// After these words, a separator and maybe a quote comes a secret.
const SECRET_NAMES: [&str; 9] =
    ["instance_api_key", "jupyter_token", "api_key", "api_token", "apikey", "password", "authorization", "secret", "token"];
/// Foreign text beyond this many bytes is not even looked at.
const LOOK_AT: usize = 16 * 1024;

/// A vendor's text in one line, known secrets and everything that looks like one masked, at most [`MAX_TEXT`] characters.
#[must_use]
pub fn clean(text: &str, secrets: &[SecretString]) -> String {
    let mut end = text.len().min(LOOK_AT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut text = text[..end].to_owned();
    for secret in secrets {
        let secret = secret.expose_secret();
        if secret.len() >= 4 {
            text = text.replace(secret, MASK);
        }
    }
    let text = mask_private_keys(&text);
    let text = mask_named(&text);
    let text = mask_words(&text);
    let tidy = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ");
    cap(&tidy)
}

fn cap(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT - 1) {
        Some((at, last)) if at + last.len_utf8() < text.len() => format!("{}…", &text[..at]),
        _ => text.to_owned(),
    }
}

/// `-----BEGIN … PRIVATE KEY-----` up to its end, or to the end of the text.
fn mask_private_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find("-----BEGIN ") {
        out.push_str(&rest[..begin]);
        let block = &rest[begin..];
        let header_end = block[11..].find("-----").map_or(block.len(), |at| at + 16);
        if !block[..header_end.min(block.len())].contains("PRIVATE KEY") {
            out.push_str(&block[..11]);
            rest = &block[11..];
            continue;
        }
        out.push_str(MASK);
        let after = block.find("-----END ").and_then(|end| block[end + 9..].find("-----").map(|at| end + 9 + at + 5));
        rest = after.map_or("", |at| &block[at..]);
    }
    out.push_str(rest);
    out
}

/// `name=value`, `"name": "value"`, `Authorization: Bearer value`: the value is masked.
fn mask_named(text: &str) -> String {
    // ASCII lower-casing keeps every byte position.
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let name = SECRET_NAMES.iter().find(|name| lower[at..].starts_with(**name));
        let Some(name) = name else {
            let step = text[at..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&text[at..at + step]);
            at += step;
            continue;
        };
        let after = at + name.len();
        let value = secret_value(&text[after..]);
        out.push_str(&text[at..after]);
        at = after;
        if let Some((lead, length)) = value {
            out.push_str(&text[after..after + lead]);
            out.push_str(MASK);
            at = after + lead + length;
        }
    }
    out
}

/// Where a value begins after a secret's name and how long it is; `None` when no separator follows.
fn secret_value(rest: &str) -> Option<(usize, usize)> {
    let quoted = rest.trim_start_matches(['"', '\'', '\\']);
    let spaced = quoted.trim_start();
    if !spaced.starts_with([':', '=']) {
        return None;
    }
    let mut value = spaced[1..].trim_start().trim_start_matches(['"', '\'', '\\']);
    for scheme in ["Bearer ", "bearer ", "Basic ", "basic "] {
        value = value.strip_prefix(scheme).unwrap_or(value);
    }
    let lead = rest.len() - value.len();
    let length = value.find(|c: char| c.is_whitespace() || "\"'\\,;&}".contains(c)).unwrap_or(value.len());
    (length > 0).then_some((lead, length))
}

/// The word after `Bearer`, and long hexadecimal words.
fn mask_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut bearer = false;
    for piece in text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.')) {
        let word = piece.trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.'));
        let hex = word.len() >= LONG_HEX && word.bytes().all(|b| b.is_ascii_hexdigit());
        if hex || (bearer && word.len() >= 8) {
            out.push_str(MASK);
            out.push_str(&piece[word.len()..]);
        } else {
            out.push_str(piece);
        }
        bearer = word.eq_ignore_ascii_case("bearer");
    }
    out
}

/// A text as one word of a POSIX shell.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        clean(text, &[])
    }

    #[test]
    fn foreign_text_is_one_short_line() {
        assert_eq!(plain("  a\r\n\tb\u{0}c\u{1b}[31m  d "), "a b c [31m d");
        let long = plain(&"é".repeat(5000));
        assert_eq!(long.chars().count(), MAX_TEXT);
        assert!(long.ends_with('…'));
        assert_eq!(plain(&"x".repeat(MAX_TEXT)).len(), MAX_TEXT);
        assert_eq!(plain(&"é".repeat(LOOK_AT)).chars().count(), MAX_TEXT);
    }

    #[test]
    fn secrets_do_not_get_through() {
        let known = [SecretString::from("canary-secret-1"), SecretString::from("")];
        let key = "ab".repeat(32);
        for text in [
            "wrong key canary-secret-1 given".to_owned(),
            r#"{"success":true,"instance_api_key":"canary-secret-2","x":1}"#.to_owned(),
            r#"{\"jupyter_token\": \"canary-secret-2\"}"#.to_owned(),
            "GET /x?api_key=canary-secret-2&api_token=canary-secret-3 failed".to_owned(),
            "Authorization: Bearer canary-secret-2".to_owned(),
            "sent Bearer canary-secret-2, refused".to_owned(),
            format!("key {key}canary"),
            format!("key={key} "),
            "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary-secret-2\n-----END OPENSSH PRIVATE KEY----- rest".to_owned(),
            "-----BEGIN PRIVATE KEY-----\ncanary-secret-2".to_owned(),
        ] {
            let cleaned = clean(&text, &known);
            assert!(!cleaned.contains("canary-secret") && !cleaned.contains(&key[..64].to_uppercase()), "{text} -> {cleaned}");
        }
        assert!(!plain(&format!("x {key}")).contains(&key));
        assert_eq!(plain("Bearer of bad news; token expired"), "Bearer of bad news; token expired");
        assert_eq!(plain("error 404/3603: no_such_ask  Instance type by id 5"), "error 404/3603: no_such_ask Instance type by id 5");
    }
}
