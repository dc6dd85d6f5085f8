//! Where a vendor says a machine stands, read as a country and an area.
//!
//! Vast.ai writes `Texas, US`, `, CN`, `US, NA` (country, continent), `Norway` or nothing; TensorDock names countries in
//! English. A text that names no country we know stays as the vendor wrote it, without a country.

use crate::domain::ids::clip;
use crate::domain::offer::Region;
use crate::domain::region::country;

/// Continents as Vast.ai writes them behind a country.
const CONTINENTS: [&str; 7] = ["AF", "AN", "AS", "EU", "NA", "OC", "SA"];

/// A place written as one text, the most general part last: `Texas, US`.
#[must_use]
pub fn from_text(text: &str) -> Region {
    let raw = clip(text.trim(), 100);
    if let Some(code) = country(&raw) {
        return Region { country: Some(code.to_owned()), area: None, raw };
    }
    let mut parts: Vec<&str> = raw.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let continent_behind = parts.len() >= 2 && CONTINENTS.contains(&parts[parts.len() - 1]) && is_code(parts[parts.len() - 2]);
    if continent_behind {
        parts.pop();
    }
    let code = parts.last().and_then(|last| country(last));
    if code.is_some() {
        parts.pop();
    }
    let area = Some(parts.join(", ")).filter(|area| !area.is_empty());
    Region { country: code.map(str::to_owned), area, raw }
}

/// A place whose parts are told apart.
#[must_use]
pub fn from_parts(city: &str, state: &str, country_name: &str) -> Region {
    let join = |parts: &[&str]| parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    let area = Some(clip(&join(&[city, state]), 100)).filter(|area| !area.is_empty());
    Region { country: country(country_name).map(str::to_owned), area, raw: clip(&join(&[city, state, country_name]), 100) }
}

fn is_code(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase()) && country(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_from_the_right() {
        for (text, code, area) in [
            ("Texas, US", Some("US"), Some("Texas")),
            (", CN", Some("CN"), None),
            ("Norway", Some("NO"), None),
            ("US, NA", Some("US"), None),
            (", US, NA", Some("US"), None),
            ("Windhoek, NA", Some("NA"), Some("Windhoek")),
            ("Ústecký kraj, CZ", Some("CZ"), Some("Ústecký kraj")),
            ("Washington, D.C., US", Some("US"), Some("Washington, D.C.")),
            ("London, UK", Some("GB"), Some("London")),
            ("Atlantis", None, Some("Atlantis")),
            ("Nowhere, ZZ", None, Some("Nowhere, ZZ")),
            ("Korea, Republic of", Some("KR"), None),
            ("", None, None),
        ] {
            let region = from_text(text);
            assert_eq!((region.country.as_deref(), region.area.as_deref()), (code, area), "{text}");
            assert_eq!(region.raw, text.trim());
        }
    }

    #[test]
    fn named_parts_make_a_place() {
        let region = from_parts("Ashburn", "VA", "USA");
        assert_eq!((region.country.as_deref(), region.area.as_deref(), region.raw.as_str()), (Some("US"), Some("Ashburn, VA"), "Ashburn, VA, USA"));
        assert_eq!(from_parts("Frankfurt", "", "Germany").raw, "Frankfurt, Germany");
    }
}
