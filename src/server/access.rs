//! The tokens that a server begins with: those of its settings, or an admin's in a file beside the database, made at the
//! first start that needs one. And the words that tell where it lies, never the token.

use super::beside;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::access::{LONGEST_TOKEN, Role, SHORTEST_TOKEN};
use crate::ports::Chance;
use crate::services::access::{self, Access, Fixed, Limits};
use crate::ssh::keys::create_whole;
use crate::store::Store;
use anyhow::{Context, bail};
use secrecy::SecretString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Who may call a server, and how an operator does.
pub(super) struct Opened {
    pub access: Access,
    /// An admin's token, where callers need one.
    pub token: Option<SecretString>,
    /// Where it lies and how it is sent, without it; empty where callers need none.
    pub hint: String,
}

/// Reads and makes what there is to know.
///
/// # Errors
/// When the database fails, or the file with the token makes no sense or is open to others.
pub(super) async fn open(config: &Config, store: &Store, chance: &Arc<dyn Chance>, clock: &Clock) -> anyhow::Result<Opened> {
    let required = config.auth.required;
    let (mut fixed, mut hint, mut token) = (Vec::new(), String::new(), None);
    if required {
        let (text, origin) = match &config.auth.admin_token {
            Some(text) => {
                hint = "an admin's is the value of AUTH_ADMIN_TOKEN, sent as `-H \"Authorization: Bearer $AUTH_ADMIN_TOKEN\"`".to_owned();
                (text.clone(), "setting AUTH_ADMIN_TOKEN".to_owned())
            }
            None => {
                let path = std::path::absolute(beside(&config.database_path, "token")).unwrap_or_else(|_| beside(&config.database_path, "token"));
                let path_text = path.display();
                hint = format!("an admin's lies in {path_text}, sent as `-H \"Authorization: Bearer $(cat {path_text})\"`");
                (load_or_create(&path, &**chance)?, format!("file {path_text}"))
            }
        };
        fixed.push(Fixed { name: "admin", role: Role::Admin, text: text.clone(), origin });
        token = Some(text);
        if let Some(text) = &config.auth.read_only_token {
            fixed.push(Fixed { name: "read-only", role: Role::ReadOnly, text: text.clone(), origin: "setting AUTH_READ_ONLY_TOKEN".to_owned() });
        }
    }
    let limits = Limits { per_second: config.limits.requests_per_second, streams: config.limits.streams_per_caller };
    let (store, chance, clock) = (store.clone(), Arc::clone(chance), clock.clone());
    let access = Access::open(access::Parts { required, fixed, hint: hint.clone(), limits, store, chance, clock }).await?;
    Ok(Opened { access, token, hint })
}

/// The token in a file; a new one, when there is no file. A file that is there is never changed.
fn load_or_create(path: &Path, chance: &dyn Chance) -> anyhow::Result<SecretString> {
    let name = path.display();
    if let Some(token) = load(path)? {
        return Ok(token);
    }
    let text = secrecy::ExposeSecret::expose_secret(&access::new_text(chance)).to_owned() + "\n";
    create_whole(path, text.as_bytes()).with_context(|| format!("the token file {name} can't be written"))?;
    load(path)?.with_context(|| format!("the token file {name} vanished right after it was written"))
}

fn load(path: &Path) -> anyhow::Result<Option<SecretString>> {
    let name = path.display();
    let facts = match fs::metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("the token file {name} can't be read")),
    };
    let mode = facts.mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("the token file {name}: mode {mode:04o} lets others at it; allowed is 0600 (chmod 600)");
    }
    let text = fs::read_to_string(path).with_context(|| format!("the token file {name} can't be read"))?;
    let token = text.trim();
    if !(SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&token.len()) || !token.bytes().all(|b| b.is_ascii_graphic()) {
        bail!(
            "the token file {name} must hold {SHORTEST_TOKEN} to {LONGEST_TOKEN} visible ASCII characters; delete it, and the next start makes another token"
        );
    }
    Ok(Some(token.into()))
}
