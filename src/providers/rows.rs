//! The rows of a large body, read while it arrives: `{…, "offers": [row, row, …], …}`, or however a vendor wraps them.
//!
//! A list of offers may have seventy megabytes. Each row is read when its last byte is there, and forgotten; what is kept is
//! the rest of the body, with an empty array in the rows' place, for whoever reads the whole answer.
//!
//! This only finds where rows begin and end, by counting brackets outside of strings; whether a row is JSON says who reads it,
//! and whether the body is, its rest. Rows that are not found where they are expected stay in the rest.

use crate::providers::call::Fault;
use crate::providers::lenient::{Body, Object, Value};

/// Takes the bytes of an answer as they come.
pub trait Arriving: Send {
    /// Takes the next bytes; `rest` is the body that is read when the answer is complete.
    fn take(&mut self, bytes: &[u8], rest: &mut Vec<u8>);
}

/// Keeps everything for the end.
#[derive(Clone, Copy, Debug)]
pub struct Whole;

impl Arriving for Whole {
    fn take(&mut self, bytes: &[u8], rest: &mut Vec<u8>) {
        rest.extend_from_slice(bytes);
    }
}

/// Where in the body the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Before,
    Within,
    After,
}

/// Where rows are looked for: the name of the array's field, and how many brackets are open once it has begun: 2 for one of
/// the body's own fields, 1, with no name, for a body that is the array. Whoever reads the rest sees what it is wrapped in.
pub type Spot = (&'static str, usize);

/// Finds the rows of one array, the first that stands at one of its spots.
#[derive(Debug)]
pub struct Rows {
    spots: &'static [Spot],
    place: Place,
    /// The depth within the array.
    level: usize,
    depth: usize,
    quoted: bool,
    escaped: bool,
    /// The beginning of a row whose end has not come yet.
    row: Vec<u8>,
    any: bool,
    fault: Option<String>,
}

impl Rows {
    /// The rows of the array at one of these spots.
    #[must_use]
    pub const fn of(spots: &'static [Spot]) -> Self {
        Self { spots, place: Place::Before, level: 0, depth: 0, quoted: false, escaped: false, row: Vec::new(), any: false, fault: None }
    }

    /// Takes the next bytes and gives each row that they complete to `each`; one that is no object is `None`.
    pub fn take(&mut self, bytes: &[u8], rest: &mut Vec<u8>, each: &mut dyn FnMut(Option<Object<'_>>)) {
        let (mut begun, mut next) = (0, 0);
        while let Some(at) = self.mark(bytes, next) {
            next = at + 1;
            let byte = &bytes[at];
            if self.quoted {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    _ => self.quoted = false,
                }
                continue;
            }
            match byte {
                b'"' => self.quoted = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.place == Place::Before && *byte == b'[' && self.spots.iter().any(|(_, depth)| *depth == self.depth) {
                        rest.extend_from_slice(&bytes[begun..at]);
                        begun = at;
                        if self.spots.iter().any(|(name, depth)| *depth == self.depth && follows(rest, name)) {
                            (self.place, self.level) = (Place::Within, self.depth);
                            rest.push(b'[');
                            begun = at + 1;
                        }
                    }
                }
                b'}' | b']' => {
                    if self.place == Place::Within && self.depth == self.level {
                        self.complete(&bytes[begun..at], true, each);
                        self.place = Place::After;
                        begun = at;
                    }
                    self.depth = self.depth.saturating_sub(1);
                }
                b',' if self.place == Place::Within && self.depth == self.level => {
                    self.complete(&bytes[begun..at], false, each);
                    begun = at + 1;
                }
                _ => {}
            }
        }
        match self.place {
            Place::Within => self.row.extend_from_slice(&bytes[begun..]),
            Place::Before | Place::After => rest.extend_from_slice(&bytes[begun..]),
        }
    }

    /// Why what was taken for rows was none, if so.
    ///
    /// # Errors
    /// In words.
    pub fn end(self) -> Result<(), String> {
        self.fault.map_or(Ok(()), Err)
    }

    /// The next byte from here on that means something where it stands.
    fn mark(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let left = bytes.get(from..)?;
        let found = match self.quoted {
            true if self.escaped => (!left.is_empty()).then_some(0),
            true => left.iter().position(|byte| matches!(byte, b'"' | b'\\')),
            false => left.iter().position(|byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']' | b',')),
        };
        found.map(|at| from + at)
    }

    /// A row's last bytes have come; after the `last` one the array ends.
    fn complete(&mut self, bytes: &[u8], last: bool, each: &mut dyn FnMut(Option<Object<'_>>)) {
        let mut begun = std::mem::take(&mut self.row);
        let row = if begun.is_empty() {
            bytes
        } else {
            begun.extend_from_slice(bytes);
            &begun
        };
        // Nothing between two brackets is an empty array, and nothing else.
        if !last || self.any || !row.trim_ascii().is_empty() {
            match Object::row(row) {
                Some(row) => each(row),
                None => match Body::read(row) {
                    Ok(body) => each(body.value().object()),
                    Err(text) => drop(self.fault.get_or_insert(text)),
                },
            }
        }
        self.any = true;
        begun.clear();
        self.row = begun;
    }
}

/// What becomes of rows.
pub trait Keep: Send {
    /// Takes the next row; one that is no object is `None`.
    fn take(&mut self, row: Option<Object<'_>>);
}

/// A body of rows, read while it arrives, and what becomes of them.
#[derive(Debug)]
pub struct Reading<K> {
    rows: Rows,
    kept: K,
}

impl<K: Keep> Reading<K> {
    /// Of the array at one of these spots.
    #[must_use]
    pub const fn new(spots: &'static [Spot], kept: K) -> Self {
        Self { rows: Rows::of(spots), kept }
    }

    /// What all rows have become, now that the body is complete. `left` finds the array in its rest: there are the rows that did not
    /// come as they mostly do, and without it the body is none.
    ///
    /// # Errors
    /// When it is no JSON, or has no such array; `name` is what it is told to lack.
    pub fn end(self, rest: &[u8], name: &str, left: impl FnOnce(Value<'_>) -> Option<Vec<Option<Object<'_>>>>) -> Result<K, Fault> {
        let Self { rows, mut kept } = self;
        let garbled = |text: String| Fault::garbled(format!("{name}: {text}"));
        let body = Body::read(rest).map_err(garbled)?;
        let left = left(body.value()).ok_or_else(|| garbled(format!("the body has no array `{name}`")))?;
        rows.end().map_err(garbled)?;
        left.into_iter().for_each(|row| kept.take(row));
        Ok(kept)
    }
}

impl<K: Keep> Arriving for Reading<K> {
    fn take(&mut self, bytes: &[u8], rest: &mut Vec<u8>) {
        let Self { rows, kept } = self;
        rows.take(bytes, rest, &mut |row| kept.take(row));
    }
}

/// Whether what has come so far ends with this name of a field and its colon; without a name, whether nothing has.
fn follows(rest: &[u8], name: &str) -> bool {
    if name.is_empty() {
        return rest.trim_ascii().is_empty();
    }
    let before = |text: &'_ [u8]| {
        let text = text.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end().strip_suffix(b"\"")?;
        let text = text.strip_suffix(name.as_bytes())?.strip_suffix(b"\"")?;
        text.trim_ascii_end().last().copied()
    };
    matches!(before(rest), Some(b'{' | b','))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What comes of a body in pieces of these lengths, the last one repeated: names of rows, the rest, what is wrong.
    fn read(body: &[u8], pieces: &[usize]) -> (Vec<Option<String>>, String, Option<String>) {
        read_at(&[("rows", 2)], body, pieces)
    }

    fn read_at(spots: &'static [Spot], body: &[u8], pieces: &[usize]) -> (Vec<Option<String>>, String, Option<String>) {
        let (mut rows, mut told, mut rest, mut left) = (Rows::of(spots), Vec::new(), Vec::new(), body);
        let mut lengths = pieces.iter().copied().chain(std::iter::repeat(pieces.last().copied().unwrap_or(1)));
        while !left.is_empty() {
            let (piece, later) = left.split_at(lengths.next().unwrap_or(1).clamp(1, left.len()));
            rows.take(piece, &mut rest, &mut |row| told.push(row.map(|row| row.text("n").unwrap_or_default().into_owned())));
            left = later;
        }
        (told, String::from_utf8_lossy(&rest).into_owned(), rows.end().err())
    }

    fn some(names: &[&str]) -> Vec<Option<String>> {
        names.iter().map(|name| Some((*name).to_owned())).collect()
    }

    #[test]
    fn rows_come_in_order_and_leave_an_empty_array() {
        let body = br#" {"a":{"rows":[1]},"rows" : [ {"n":"one, ]"} ,{"n":"t\"wo","x":[[],{}]}],"b":"rows"} "#;
        for length in 1..body.len() {
            let (told, rest, wrong) = read(body, &[length]);
            assert_eq!((told, wrong), (some(&["one, ]", "t\"wo"]), None), "{length}");
            assert_eq!(rest, r#" {"a":{"rows":[1]},"rows" : [],"b":"rows"} "#);
        }
    }

    #[test]
    fn what_is_no_object_or_needs_repair_is_a_row_too() {
        let (told, _, wrong) = read(br#"{"rows":[null,3,{"n":"x","y":NaN},[],{"n":"\ud800"}]}"#, &[7]);
        assert_eq!((told, wrong), (vec![None, None, Some("x".to_owned()), None, Some(String::new())], None));
        assert_eq!(read(b"{\"rows\":[{\"n\":\"\xff\"}]}", &[3]).0, some(&["\u{fffd}"]));
        assert_eq!(read(br#"{"rows":[]}"#, &[2]), (Vec::new(), r#"{"rows":[]}"#.to_owned(), None));
    }

    #[test]
    fn what_is_no_json_is_told() {
        for body in [r#"{"rows":[,{}]}"#, r#"{"rows":[{},]}"#, r#"{"rows":[{} {}]}"#, r#"{"rows":[{"n":}]}"#, r#"{"rows":[nope]}"#] {
            assert!(read(body.as_bytes(), &[5]).2.is_some(), "{body}");
        }
        let (told, rest, _) = read(br#"{"rows":[{"n":"a"},{"n":"b""#, &[6]);
        assert_eq!((told, rest.as_str()), (some(&["a"]), "{\"rows\":["), "cut off, and its rest says so");
    }

    #[test]
    fn rows_elsewhere_stay_where_they_are() {
        for body in [r#"[{"rows":[{}]}]"#, r#"{"rows":{"rows":[{}]}}"#, r#"{"x\"rows":[{}],"y":"\"rows\":["}"#, r#"{"x":["rows",[{}]]}"#] {
            let (told, rest, wrong) = read(body.as_bytes(), &[4]);
            assert_eq!((told, rest.as_str(), wrong), (Vec::new(), body, None));
        }
    }

    #[test]
    fn an_array_may_be_the_body_or_stand_deeper() {
        const SPOTS: &[Spot] = &[("", 1), ("rows", 2), ("data", 2), ("rows", 3)];
        for (body, left) in [
            (r#" [{"n":"a"},{"n":"b","rows":[1]}] "#, " [] "),
            (r#"{"data":[{"n":"a"},{"n":"b"}]}"#, r#"{"data":[]}"#),
            (r#"{"x":[[]],"rows":[{"n":"a"},{"n":"b"}]}"#, r#"{"x":[[]],"rows":[]}"#),
            (r#"{"y":1,"data":{"x":[{}],"rows":[{"n":"a"},{"n":"b","data":[2]}],"z":[3]}}"#, r#"{"y":1,"data":{"x":[{}],"rows":[],"z":[3]}}"#),
        ] {
            for length in [1, 5, body.len()] {
                assert_eq!(read_at(SPOTS, body.as_bytes(), &[length]), (some(&["a", "b"]), left.to_owned(), None), "{body}");
            }
        }
        for body in [r#"{"a":[[{}]]}"#, r#"{"a":{"data":[{}]}}"#, r#"{"a":{"b":{"rows":[{}]}}}"#] {
            assert_eq!(read_at(SPOTS, body.as_bytes(), &[3]), (Vec::new(), body.to_owned(), None));
        }
    }

    proptest! {
        #[test]
        fn however_it_is_cut_it_reads_the_same(
            names in prop::collection::vec("[a-z\"\\\\\\]\\[{},:é ]{0,6}", 0..6),
            pieces in prop::collection::vec(1_usize..9, 1..9),
        ) {
            let rows: Vec<_> = names.iter().map(|name| serde_json::json!({"n": name, "deep": [[name], {"rows": [name]}]})).collect();
            let body = serde_json::to_vec_pretty(&serde_json::json!({"a": names, "rows": rows, "z": {"rows": names}})).unwrap();
            let told: Vec<_> = names.iter().cloned().map(Some).collect();
            let (found, rest, wrong) = read(&body, &pieces);
            prop_assert_eq!((found, wrong), (told, None));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&rest).unwrap(), serde_json::json!({"a": names, "rows": [], "z": {"rows": names}}));
        }
    }
}
