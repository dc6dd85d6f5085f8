//! The marketplaces we know: one folder and one entry in [`REGISTER`] each.
//!
//! An entry names its settings, which then exist as `providers.<name>.<key>`, in the environment, in the README's table and
//! in `gpu-shopper config`, and knows how to make a [`Provider`] from them. Every provider also has `base_url` and
//! `allow_private_addresses`, and for each secret a `<key>_file`. What vendors say is translated in their folders; nothing outside knows a vendor's word.

pub mod call;
pub mod http;
pub mod lanes;
pub mod lenient;
pub mod place;
pub mod renewable;
pub mod rows;
pub mod tensordock;
pub mod unsaid;
pub mod vastai;
pub mod words;

pub use http::{Context, Tuning, install_crypto};
pub use renewable::Renewable;

use crate::ports::Provider;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One setting of a provider, beside those that every provider has. Its environment name is `<NAME>_<KEY>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key below `providers.<name>`: `api_key`.
    pub key: &'static str,
    /// What it is for.
    pub role: Role,
    /// What it is when nobody says.
    pub default: Option<&'static str>,
    /// What it does, in one sentence.
    pub doc: &'static str,
}

/// What a provider's setting is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Part of the credentials: masked wherever it is shown, and the provider is enabled when all of them are there.
    Credential,
    /// An ordinary value.
    Plain,
}

/// Values of a provider's settings by key. Shows no value when printed.
#[derive(Clone, Default)]
pub struct Settings(BTreeMap<String, SecretString>);

impl Settings {
    /// No values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more value. Blank values count as absent.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.set(key, value);
        self
    }

    /// Sets a value. Blank values count as absent.
    pub fn set(&mut self, key: &str, value: &str) {
        let value = value.trim();
        if value.is_empty() {
            self.0.remove(key);
        } else {
            self.0.insert(key.to_owned(), SecretString::from(value));
        }
    }

    /// Whether there is a value.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&SecretString> {
        self.0.get(key)
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why a provider could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Required settings are absent.
    #[error("{provider} needs {}", missing.join(" and "))]
    Missing {
        /// Its name.
        provider: &'static str,
        /// The environment names of what is absent.
        missing: Vec<String>,
    },
    /// A setting makes no sense.
    #[error("{provider}: {text}")]
    Bad {
        /// Its name.
        provider: &'static str,
        /// Why, without secrets.
        text: String,
    },
}

/// Makes a provider from its settings.
pub type Build = fn(&Settings, &Context) -> Result<Arc<dyn Provider>, BuildError>;

/// One provider of the register.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its name in settings, ids and metrics.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// Whether a text is an offer id of this provider in canonical form.
    pub offer_id: fn(&str) -> bool,
    /// Where its API lives when nobody says, without path.
    pub base_url: &'static str,
    /// What else it can be told.
    pub settings: &'static [Setting],
    /// The vendor call that destroys an instance, as a line to paste: the last way out. Names the key's variable, never the key.
    pub destroy_line: fn(base_url: &str, native_id: &str) -> String,
    /// What looks wrong in values and yet may be right: one line each, without the values.
    pub warn: fn(&Settings) -> Vec<String>,
    /// Makes it.
    pub build: Build,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Entry {
    /// The settings that make up its credentials.
    pub fn credentials(&self) -> impl Iterator<Item = &'static Setting> {
        self.settings.iter().filter(|setting| setting.role == Role::Credential)
    }

    /// The environment name of one of its settings.
    #[must_use]
    pub fn env(&self, key: &str) -> String {
        format!("{}_{key}", self.name).to_uppercase()
    }

    /// Whether any credential is given: then all have to be.
    #[must_use]
    pub fn wanted(&self, settings: &Settings) -> bool {
        self.credentials().any(|setting| settings.has(setting.key))
    }

    /// The credentials that are absent, by their keys.
    #[must_use]
    pub fn missing(&self, settings: &Settings) -> Vec<&'static str> {
        self.credentials().map(|setting| setting.key).filter(|key| !settings.has(key)).collect()
    }

    /// A value, or its default, or nothing.
    fn value(&self, settings: &Settings, key: &str) -> SecretString {
        let default = || match key {
            "base_url" => self.base_url,
            _ => self.settings.iter().find(|setting| setting.key == key).and_then(|setting| setting.default).unwrap_or_default(),
        };
        settings.get(key).cloned().unwrap_or_else(|| SecretString::from(default()))
    }

    fn plain(&self, settings: &Settings, key: &str) -> String {
        self.value(settings, key).expose_secret().to_owned()
    }

    fn complete(&self, settings: &Settings) -> Result<(), BuildError> {
        match self.missing(settings) {
            missing if missing.is_empty() => Ok(()),
            missing => Err(BuildError::Missing { provider: self.name, missing: missing.into_iter().map(|key| self.env(key)).collect() }),
        }
    }
}

/// The providers, in the order they are shown.
pub static REGISTER: &[Entry] = &[VASTAI, TENSORDOCK];

/// The entry of a name.
#[must_use]
pub fn entry(name: &str) -> Option<&'static Entry> {
    REGISTER.iter().find(|entry| entry.name == name)
}

/// Whose offer id a text is; `None` when it is no canonical offer id of any provider.
#[must_use]
pub fn owner_of(offer_id: &str) -> Option<&'static Entry> {
    REGISTER.iter().find(|entry| (entry.offer_id)(offer_id))
}

const VASTAI: Entry = Entry {
    name: vastai::NAME,
    title: vastai::TITLE,
    offer_id: vastai::owns,
    destroy_line: |base, id| format!("curl -X DELETE -H \"Authorization: Bearer $VASTAI_API_KEY\" {base}/api/v0/instances/{id}/"),
    base_url: vastai::BASE_URL,
    settings: &[Setting { key: "api_key", role: Role::Credential, default: None, doc: "Vast.ai's key; enables the provider." }],
    warn: |settings| {
        let key = settings.get("api_key").map(ExposeSecret::expose_secret);
        let odd = key.filter(|key| key.len() != 64 || !key.bytes().all(|b| b.is_ascii_hexdigit()));
        let told = |key: &str| {
            let characters = key.chars().count();
            format!("VASTAI_API_KEY does not look like a key of Vast.ai: it has {characters} characters, not 64 hexadecimal ones")
        };
        odd.map(told).into_iter().collect()
    },
    build: |settings, context| {
        VASTAI.complete(settings)?;
        let config = vastai::Config { api_key: VASTAI.value(settings, "api_key"), base_url: VASTAI.plain(settings, "base_url") };
        let provider = vastai::Vastai::new(config, context.clone()).map_err(|text| BuildError::Bad { provider: VASTAI.name, text })?;
        Ok(Arc::new(provider))
    },
};

const TENSORDOCK: Entry = Entry {
    name: tensordock::NAME,
    title: tensordock::TITLE,
    offer_id: tensordock::owns,
    destroy_line: |base, id| format!("curl -X DELETE -H \"Authorization: Bearer $TENSORDOCK_API_TOKEN\" {base}/api/v2/instances/{id}"),
    base_url: tensordock::BASE_URL,
    settings: &[
        Setting {
            key: "auth_id",
            role: Role::Credential,
            default: None,
            doc: "TensorDock's authorization id; enables the provider together with the token.",
        },
        Setting { key: "api_token", role: Role::Credential, default: None, doc: "TensorDock's API token." },
        Setting {
            key: "default_image",
            role: Role::Plain,
            default: Some(tensordock::DEFAULT_IMAGE),
            doc: "The image taken at TensorDock when nobody asks for one; it should bring the GPU's driver.",
        },
    ],
    warn: |_| Vec::new(),
    build: |settings, context| {
        TENSORDOCK.complete(settings)?;
        let config = tensordock::Config {
            auth_id: TENSORDOCK.plain(settings, "auth_id"),
            api_token: TENSORDOCK.value(settings, "api_token"),
            base_url: TENSORDOCK.plain(settings, "base_url"),
            default_image: TENSORDOCK.plain(settings, "default_image"),
        };
        let provider = tensordock::Tensordock::new(config, context.clone()).map_err(|text| BuildError::Bad { provider: TENSORDOCK.name, text })?;
        Ok(Arc::new(provider))
    },
};

/// The first 16 hexadecimal digits of the SHA-256 of a text: tells two apart without telling what they are.
#[must_use]
pub(crate) fn fingerprint(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Why an instance id cannot stand in a path; `None` = it can.
pub(crate) fn bad_native_id(id: &str) -> Option<String> {
    let plain = (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    (!plain).then(|| format!("`{}` is no instance id", crate::domain::ids::clip(id, 64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::ports::SystemChance;

    #[test]
    fn offer_ids_have_one_owner_or_none() {
        for (id, owner) in [
            ("vastai-12", Some("vastai")),
            ("vastai-12-spot", Some("vastai")),
            ("tensordock-loc-1-rtxa4000-pcie-16gb-2x", Some("tensordock")),
            ("tensordock-8dd95ff0-dff9-489c-9b02-b38a366b6ab1-geforcertx4090-pcie-24gb-1x", Some("tensordock")),
            ("vastai-x", None),
            ("lambda-1", None),
            ("", None),
        ] {
            assert_eq!(owner_of(id).map(|entry| entry.name), owner, "{id}");
        }
    }

    #[test]
    fn half_a_credential_is_no_provider_and_says_what_is_missing() {
        install_crypto();
        let context = Context::new(Clock::System, Arc::new(SystemChance));
        let entry = entry("tensordock").unwrap();
        let half = Settings::new().with("auth_id", "some-id").with("api_token", "  ");
        assert!(entry.wanted(&half));
        let error = (entry.build)(&half, &context).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "tensordock needs TENSORDOCK_API_TOKEN");
        let whole = half.with("api_token", "canary-token");
        assert!(!format!("{whole:?}").contains("canary"));
        assert_eq!((entry.build)(&whole, &context).unwrap().facts().default_image, tensordock::DEFAULT_IMAGE);
        let bad = whole.with("base_url", "ftp://nowhere");
        assert!((entry.build)(&bad, &context).is_err());
    }

    #[test]
    fn an_odd_key_is_a_warning_without_the_key() {
        let warnings = |key: &str| (VASTAI.warn)(&Settings::new().with("api_key", key));
        assert!(warnings(&"a1".repeat(32)).is_empty());
        assert_eq!(warnings("canary").len(), 1);
        assert!(!warnings("canary")[0].contains("canary"));
    }

    #[test]
    fn ids_that_would_change_a_path_are_refused() {
        for bad in ["", "1/../2", "a b", "1?x", "%2e", "é"] {
            assert!(bad_native_id(bad).is_some(), "{bad}");
        }
        assert_eq!(bad_native_id("468b716a-6747_x"), None);
    }
}
