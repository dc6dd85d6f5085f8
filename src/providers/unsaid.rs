//! A vendor's body without our own key in it, while it arrives: what is read of a body is told to others, and no vendor has a
//! machine, a region or a GPU of that name.
//!
//! Not the words of errors, which may say other secrets, too (`words.rs`).

use crate::providers::rows::Arriving;
use memchr::memmem;

/// Shorter keys are no keys, and leaving them out would tear bodies apart, bytes.
const SHORTEST_KEY: usize = 16;
/// What stands where the key stood.
const MASK: &[u8] = b"***";

/// Passes on what arrives, a mask in the key's place, however the body is cut into pieces.
pub struct Unsaid<'a> {
    key: &'a [u8],
    /// The end of what came, while it may be the beginning of the key.
    held: Vec<u8>,
    to: &'a mut dyn Arriving,
}

impl<'a> Unsaid<'a> {
    /// Passes on to `to` all but this key.
    pub fn new(key: &'a str, to: &'a mut dyn Arriving) -> Self {
        Self { key: key.as_bytes(), held: Vec::new(), to }
    }

    /// The body is complete: what was held back was not the key.
    pub fn end(self, rest: &mut Vec<u8>) {
        if !self.held.is_empty() {
            self.to.take(&self.held, rest);
        }
    }
}

impl Arriving for Unsaid<'_> {
    fn take(&mut self, bytes: &[u8], rest: &mut Vec<u8>) {
        if self.key.len() < SHORTEST_KEY {
            return self.to.take(bytes, rest);
        }
        let mut joined = std::mem::take(&mut self.held);
        let mut left = bytes;
        if !joined.is_empty() {
            joined.extend_from_slice(bytes);
            left = &joined;
        }
        while let Some(at) = memmem::find(left, self.key) {
            self.to.take(&left[..at], rest);
            self.to.take(MASK, rest);
            left = &left[at + self.key.len()..];
        }
        let begun = (1..self.key.len()).rev().find(|n| left.ends_with(&self.key[..*n])).unwrap_or_default();
        let (whole, begun) = left.split_at(left.len() - begun);
        self.to.take(whole, rest);
        self.held = begun.to_vec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::rows::Whole;

    fn read(key: &str, body: &str, piece: usize) -> String {
        let (mut whole, mut rest) = (Whole, Vec::new());
        let mut unsaid = Unsaid::new(key, &mut whole);
        body.as_bytes().chunks(piece).for_each(|bytes| unsaid.take(bytes, &mut rest));
        unsaid.end(&mut rest);
        String::from_utf8(rest).unwrap()
    }

    #[test]
    fn the_key_is_left_out_however_the_body_is_cut() {
        let key = "aab0aab1aab2aab3";
        for (body, kept) in [
            (format!(r#"{{"id":"{key}","other":"aab0aab1"}}"#), r#"{"id":"***","other":"aab0aab1"}"#.to_owned()),
            (format!("{key}{key}aab0{key}aab0aab1aab2aab"), "******aab0***aab0aab1aab2aab".to_owned()),
            ("nothing of it".to_owned(), "nothing of it".to_owned()),
            (String::new(), String::new()),
        ] {
            for piece in 1..=body.len().max(1) {
                assert_eq!(read(key, &body, piece), kept, "{piece}");
            }
        }
        assert_eq!(read("short", "a short one", 3), "a short one");
    }
}
