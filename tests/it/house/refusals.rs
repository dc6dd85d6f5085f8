//! The README has what the port refuses before any service is reached.

use super::readme::reasons;
use super::{block, rows, sources, ticked};
use http::StatusCode;
use std::collections::BTreeSet;

/// Every `refuse(StatusCode::X, "type", …)` whose type is no reason of a service.
#[test]
fn the_readme_has_every_error_that_comes_before_any_service() {
    let (mut real, of_services) = (BTreeSet::new(), reasons());
    for source in sources() {
        for part in source.words.split("refuse(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix("StatusCode::")) {
            let (status, rest) = part.split_once(',').unwrap();
            let kind = rest.trim_start().strip_prefix('"').and_then(|r| r.split('"').next());
            let kind = kind.unwrap_or_else(|| panic!("{}: the type is no literal: {status}", source.path));
            real.extend((!of_services.contains_key(&kind.to_uppercase())).then(|| [kind.to_owned(), status.to_owned()]));
        }
    }
    let name = |code: &str| StatusCode::from_bytes(code.as_bytes()).unwrap().canonical_reason().unwrap().to_uppercase().replace(' ', "_");
    let told: BTreeSet<[String; 2]> = rows(&block("refusals")).iter().map(|row| [ticked(&row[0]).remove(0), name(&row[1])]).collect();
    assert_eq!(told, real);
}
