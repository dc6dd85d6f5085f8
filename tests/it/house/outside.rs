//! Tests stay on this machine.

use super::{files, none, root};
use std::fs;

/// An adapter that a test makes is told where its vendor is: without that it would call the real one. What a test starts as a
/// process is told of a proxy that nobody is.
#[test]
fn every_adapter_of_a_test_is_told_where_its_vendor_is() {
    let (mut seen, mut found) = (0, Vec::new());
    for path in files("tests").into_iter().filter(|path| path.ends_with(".rs")) {
        let source = fs::read_to_string(root().join(&path)).unwrap();
        for rest in source.split(concat!("Settings", "::new()")).skip(1) {
            seen += 1;
            let own = rest.split(';').next().unwrap_or_default();
            if !own.contains("\"base_url\"") {
                found.push(format!("{path}: {}", own.lines().next().unwrap_or_default()));
            }
        }
    }
    assert!(seen >= 8, "the search finds too little: {seen}");
    none("adapters that would call a vendor", &found);
}
