//! Countries: their codes, what they are called, and which of them are Europe. For reading where a vendor says a machine
//! stands, and where a user wants one.
//!
//! Knows no continent but Europe, which is the one that people name for the law that holds there.

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

/// The members of the European Union, and the other countries of Europe.
const EUROPEAN_UNION: &str = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK";
const REST_OF_EUROPE: &str = "AD AL AX BA BY CH FO GB GG GI IM IS JE LI MC MD ME MK NO RS RU SJ SM UA VA XK";

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

/// Every name by the code that it is a name of, Europe's for its countries.
static NAMES: LazyLock<BTreeMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    let mut all: BTreeMap<&'static str, Vec<&'static str>> = BTreeMap::new();
    for (code, name) in COUNTRIES.split(';').chain(ALIASES.split(';')).filter_map(|entry| entry.split_once(' ')) {
        all.entry(code).or_default().push(name);
    }
    for code in EUROPEAN_UNION.split(' ') {
        all.entry(code).or_default().extend(["EU", "European Union", "Europe"]);
    }
    for code in REST_OF_EUROPE.split(' ') {
        all.entry(code).or_default().push("Europe");
    }
    all
});

/// Whether what a user wrote names this country: its code, a name of it, `Europe`, or `EU` for the members of the European
/// Union. In any case.
#[must_use]
pub fn names(asked: &str, code: &str) -> bool {
    asked.eq_ignore_ascii_case(code) || NAMES.get(code).is_some_and(|names| names.iter().any(|name| name.eq_ignore_ascii_case(asked)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_code_has_a_name_and_each_name_one_code() {
        let codes: BTreeSet<&str> = BY_TEXT.values().copied().collect();
        assert_eq!(codes.len(), COUNTRIES.split(';').count());
        assert_eq!(NAMES.keys().copied().collect::<BTreeSet<_>>(), codes, "Europe and the aliases are of known countries");
        assert_eq!((EUROPEAN_UNION.split(' ').count(), country("uk"), country("United States")), (27, Some("GB"), Some("US")));
    }

    #[test]
    fn people_name_countries_in_many_ways() {
        for (asked, code, named) in [
            ("UK", "GB", true),
            ("united kingdom", "GB", true),
            ("gb", "GB", true),
            ("USA", "US", true),
            ("United States", "US", true),
            ("Europe", "GB", true),
            ("EU", "GB", false),
            ("eu", "DE", true),
            ("EU", "US", false),
            ("Europe", "US", false),
            ("UK", "UA", false),
            ("", "US", false),
        ] {
            assert_eq!(names(asked, code), named, "{asked} {code}");
        }
    }
}
