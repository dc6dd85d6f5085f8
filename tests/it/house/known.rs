//! The known failures of services like this one, and the tests that stand against them.

use super::{files, root};
use std::collections::BTreeSet;
use std::fs;

/// Each has its row, and a test that is named there is there.
#[test]
fn every_known_failure_has_a_row_and_its_tests_are_there() {
    let text = fs::read_to_string(root().join("tests/KNOWN_FAILURES.md")).unwrap();
    let mut names: BTreeSet<String> = BTreeSet::new();
    for folder in ["src", "tests"] {
        for path in files(folder).iter().map(|path| root().join(path)).filter(|path| path.extension().is_some_and(|e| e == "rs")) {
            let source = fs::read_to_string(&path).unwrap();
            let stem = match path.file_stem().unwrap().to_str().unwrap() {
                "mod" | "tests" => path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned(),
                stem => stem.to_owned(),
            };
            let mut lines = source.lines().map(str::trim).peekable();
            while let Some(line) = lines.next() {
                if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                    let named = lines.peek().and_then(|next| next.split("fn ").nth(1)).and_then(|rest| rest.split('(').next());
                    names.extend(named.map(|name| format!("{stem}::{name}")));
                }
            }
        }
    }
    let told: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|word| word.contains("::")).collect();
    assert!(told.len() > 80);
    let rows: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).flat_map(|no| no.split(", ")).collect();
    for (letter, count) in [("", 122), ("C", 45), ("D", 17)] {
        let of_benchmarks = ["104", "107", "108"];
        let all = (1..=count).map(|number| format!("{letter}{number}"));
        let lost: Vec<String> = all.filter(|no| !rows.contains(no.as_str()) && !of_benchmarks.contains(&no.as_str())).collect();
        assert!(lost.is_empty(), "no row for {lost:?}");
    }
    let known = |word: &&&str| {
        let mut parts = word.rsplit("::");
        let (test, module) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        names.contains(&format!("{module}::{test}"))
    };
    let unknown: Vec<&&str> = told.iter().filter(|word| !known(word)).collect();
    assert!(unknown.is_empty(), "no such test: {unknown:#?}");
}
