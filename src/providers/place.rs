//! Where a vendor says a machine stands, read as a country and an area.
//!
//! Vast.ai writes `Texas, US`, `, CN`, `US, NA` (country, continent), `Norway` or nothing; TensorDock names countries in
//! English. A text that names no country we know stays as the vendor wrote it, without a country.

use crate::domain::ids::clip;
use crate::domain::offer::Region;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// ISO 3166-1 alpha-2 codes with short English names.
const COUNTRIES: &str = "AD Andorra;AE United Arab Emirates;AF Afghanistan;AG Antigua and Barbuda;AI Anguilla;AL Albania;AM Armenia;\
AO Angola;AQ Antarctica;AR Argentina;AS American Samoa;AT Austria;AU Australia;AW Aruba;AX Aland Islands;AZ Azerbaijan;\
BA Bosnia and Herzegovina;BB Barbados;BD Bangladesh;BE Belgium;BF Burkina Faso;BG Bulgaria;BH Bahrain;BI Burundi;BJ Benin;\
BL Saint Barthelemy;BM Bermuda;BN Brunei;BO Bolivia;BQ Bonaire;BR Brazil;BS Bahamas;BT Bhutan;BV Bouvet Island;BW Botswana;BY Belarus;\
BZ Belize;CA Canada;CC Cocos Islands;CD Democratic Republic of the Congo;CF Central African Republic;CG Congo;CH Switzerland;\
CI Ivory Coast;CK Cook Islands;CL Chile;CM Cameroon;CN China;CO Colombia;CR Costa Rica;CU Cuba;CV Cape Verde;CW Curacao;\
CX Christmas Island;CY Cyprus;CZ Czechia;DE Germany;DJ Djibouti;DK Denmark;DM Dominica;DO Dominican Republic;DZ Algeria;EC Ecuador;\
EE Estonia;EG Egypt;EH Western Sahara;ER Eritrea;ES Spain;ET Ethiopia;FI Finland;FJ Fiji;FK Falkland Islands;FM Micronesia;\
FO Faroe Islands;FR France;GA Gabon;GB United Kingdom;GD Grenada;GE Georgia;GF French Guiana;GG Guernsey;GH Ghana;GI Gibraltar;\
GL Greenland;GM Gambia;GN Guinea;GP Guadeloupe;GQ Equatorial Guinea;GR Greece;GS South Georgia;GT Guatemala;GU Guam;GW Guinea-Bissau;\
GY Guyana;HK Hong Kong;HM Heard Island and McDonald Islands;HN Honduras;HR Croatia;HT Haiti;HU Hungary;ID Indonesia;IE Ireland;\
IL Israel;IM Isle of Man;IN India;IO British Indian Ocean Territory;IQ Iraq;IR Iran;IS Iceland;IT Italy;JE Jersey;JM Jamaica;JO Jordan;\
JP Japan;KE Kenya;KG Kyrgyzstan;KH Cambodia;KI Kiribati;KM Comoros;KN Saint Kitts and Nevis;KP North Korea;KR South Korea;KW Kuwait;\
KY Cayman Islands;KZ Kazakhstan;LA Laos;LB Lebanon;LC Saint Lucia;LI Liechtenstein;LK Sri Lanka;LR Liberia;LS Lesotho;LT Lithuania;\
LU Luxembourg;LV Latvia;LY Libya;MA Morocco;MC Monaco;MD Moldova;ME Montenegro;MF Saint Martin;MG Madagascar;MH Marshall Islands;\
MK North Macedonia;ML Mali;MM Myanmar;MN Mongolia;MO Macao;MP Northern Mariana Islands;MQ Martinique;MR Mauritania;MS Montserrat;\
MT Malta;MU Mauritius;MV Maldives;MW Malawi;MX Mexico;MY Malaysia;MZ Mozambique;NA Namibia;NC New Caledonia;NE Niger;\
NF Norfolk Island;NG Nigeria;NI Nicaragua;NL Netherlands;NO Norway;NP Nepal;NR Nauru;NU Niue;NZ New Zealand;OM Oman;PA Panama;PE Peru;\
PF French Polynesia;PG Papua New Guinea;PH Philippines;PK Pakistan;PL Poland;PM Saint Pierre and Miquelon;PN Pitcairn;PR Puerto Rico;\
PS Palestine;PT Portugal;PW Palau;PY Paraguay;QA Qatar;RE Reunion;RO Romania;RS Serbia;RU Russia;RW Rwanda;SA Saudi Arabia;\
SB Solomon Islands;SC Seychelles;SD Sudan;SE Sweden;SG Singapore;SH Saint Helena;SI Slovenia;SJ Svalbard and Jan Mayen;SK Slovakia;\
SL Sierra Leone;SM San Marino;SN Senegal;SO Somalia;SR Suriname;SS South Sudan;ST Sao Tome and Principe;SV El Salvador;\
SX Sint Maarten;SY Syria;SZ Eswatini;TC Turks and Caicos Islands;TD Chad;TF French Southern Territories;TG Togo;TH Thailand;\
TJ Tajikistan;TK Tokelau;TL Timor-Leste;TM Turkmenistan;TN Tunisia;TO Tonga;TR Turkey;TT Trinidad and Tobago;TV Tuvalu;TW Taiwan;\
TZ Tanzania;UA Ukraine;UG Uganda;UM United States Minor Outlying Islands;US United States;UY Uruguay;UZ Uzbekistan;VA Vatican City;\
VC Saint Vincent and the Grenadines;VE Venezuela;VG British Virgin Islands;VI US Virgin Islands;VN Vietnam;VU Vanuatu;\
WF Wallis and Futuna;WS Samoa;XK Kosovo;YE Yemen;YT Mayotte;ZA South Africa;ZM Zambia;ZW Zimbabwe";

/// Other names in use, and `UK`, which is no code and yet written like one.
const ALIASES: &str = "US USA;US U.S.A.;US U.S.;US United States of America;GB UK;GB Great Britain;GB England;GB Scotland;GB Wales;\
CZ Czech Republic;KR Korea;KR Republic of Korea;KR Korea, Republic of;RU Russian Federation;NL The Netherlands;NL Holland;VN Viet Nam;\
TR Turkiye;TR Türkiye;AE UAE;CI Côte d'Ivoire;MK Macedonia;HK Hong Kong SAR;TW Taiwan, Province of China;IR Iran, Islamic Republic of;\
MD Republic of Moldova;MO Macau;RE Réunion;CW Curaçao;AX Åland Islands;SZ Swaziland;MM Burma;BO Plurinational State of Bolivia";

/// Continents as Vast.ai writes them behind a country.
const CONTINENTS: [&str; 7] = ["AF", "AN", "AS", "EU", "NA", "OC", "SA"];

static BY_TEXT: LazyLock<BTreeMap<String, &'static str>> = LazyLock::new(|| {
    let mut all = BTreeMap::new();
    for entry in COUNTRIES.split(';').chain(ALIASES.split(';')) {
        if let Some((code, name)) = entry.split_once(' ') {
            all.insert(name.to_lowercase(), code);
        }
    }
    for entry in COUNTRIES.split(';') {
        if let Some((code, _)) = entry.split_once(' ') {
            all.insert(code.to_lowercase(), code);
        }
    }
    all
});

/// The ISO 3166-1 alpha-2 code for a code or an English name of a country, whatever its case.
#[must_use]
pub fn country(text: &str) -> Option<&'static str> {
    BY_TEXT.get(&text.trim().to_lowercase()).copied()
}

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
        assert_eq!(BY_TEXT.values().collect::<std::collections::BTreeSet<_>>().len(), COUNTRIES.split(';').count());
    }
}
