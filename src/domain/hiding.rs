//! Hiding secrets in what others say about them.

/// Shorter texts are no secrets, and hiding them would tear words apart, characters.
const SHORTEST: usize = 4;
/// What stands in place of a secret.
const MASK: &str = "***";

/// A text without these secrets: as they are, as JSON writes them, and where the text was cut off in the middle of one.
#[must_use]
pub fn hide(text: &str, secrets: &[String]) -> String {
    let mut found: Vec<&String> = secrets.iter().filter(|secret| secret.len() >= SHORTEST).collect();
    // The longest first: one may be part of another.
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut text = text.to_owned();
    for secret in found {
        let written = serde_json::Value::from(secret.as_str()).to_string();
        for form in [secret.as_str(), written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(&written)] {
            text = without_beginning(text.replace(form, MASK), form);
        }
    }
    text
}

/// The text, with a beginning of the secret at its very end (before the mark of a cut) masked.
fn without_beginning(text: String, secret: &str) -> String {
    let whole = text.trim_end_matches(['…', '.', ' ']);
    let begins = |n: &usize| secret.is_char_boundary(*n) && whole.ends_with(&secret[..*n]);
    match (SHORTEST..secret.len()).rev().find(begins) {
        Some(n) => format!("{}{MASK}{}", &whole[..whole.len() - n], &text[whole.len()..]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_whole_escaped_and_cut_off() {
        let secrets = ["token-1".to_owned(), "two\nlines \"x\"".to_owned(), "abc".to_owned(), "token-1-longer".to_owned()];
        for (said, shown) in [
            ("bad token-1, token-1-longer, abc", "bad ***, ***, abc"),
            (r#"{"echo":"two\nlines \"x\""}"#, r#"{"echo":"***"}"#),
            ("refused: token-1-lo…", "refused: ***…"),
            ("refused: toke", "refused: ***"),
            ("refused: tok", "refused: tok"),
            ("nothing of it", "nothing of it"),
            ("", ""),
        ] {
            assert_eq!(hide(said, &secrets), shown);
        }
    }
}
