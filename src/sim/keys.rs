//! Public keys as simulated machines take them: found in whatever text a launch carries.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const KINDS: [&str; 3] = ["ssh-", "ecdsa-", "sk-"];

/// The wire bytes of an OpenSSH public key line (`ssh-ed25519 AAAA… comment`); `None` when it is none.
#[must_use]
pub fn key_blob(line: &str) -> Option<Vec<u8>> {
    let mut words = line.split_whitespace();
    let kind = words.next().filter(|kind| KINDS.iter().any(|start| kind.starts_with(start)))?;
    let blob = STANDARD.decode(words.next()?).ok()?;
    // The blob begins with its own kind: length, then text.
    let told = blob.get(4..4 + usize::try_from(u32::from_be_bytes(blob.get(..4)?.try_into().ok()?)).ok()?)?;
    (told == kind.as_bytes()).then_some(blob)
}

/// Every public key in a text: lines that are keys, keys inside longer lines, and base64 that decodes to such lines
/// (as in `echo <base64> | base64 -d >> authorized_keys`).
#[must_use]
pub fn keys_in(text: &str) -> Vec<String> {
    let mut found = plain_keys(text);
    for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='))) {
        if word.len() >= 40
            && let Some(inner) = STANDARD.decode(word).ok().and_then(|bytes| String::from_utf8(bytes).ok())
        {
            found.extend(plain_keys(&inner));
        }
    }
    let mut unique: Vec<String> = Vec::new();
    found.into_iter().for_each(|key| {
        if !unique.contains(&key) {
            unique.push(key)
        }
    });
    unique
}

/// What a script that rewrites `authorized_keys` does: the keys that it writes, and the data of those that it drops
/// (`grep -v -F -e '<data>'`). `None` when it is no such script.
#[must_use]
pub fn rewrite_in(script: &str) -> Option<(Vec<String>, Vec<Vec<u8>>)> {
    let filter = script.lines().find(|line| line.starts_with("grep -v -F ") && script.contains("authorized_keys"))?;
    let dropped = filter.split(" -e '").skip(1).filter_map(|rest| STANDARD.decode(rest.split('\'').next()?).ok()).collect();
    Some((plain_keys(script), dropped))
}

fn plain_keys(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\')).filter(|w| !w.is_empty()).collect();
    let pairs = words.windows(2).filter_map(|pair| {
        let line = format!("{} {}", pair[0], pair[1]);
        key_blob(&line).is_some().then_some(line)
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> String {
        let pair = ssh_key::private::Ed25519Keypair::from_seed(&[seed; 32]);
        ssh_key::PublicKey::from(pair.public).to_openssh().unwrap()
    }

    #[test]
    fn keys_are_found_plain_quoted_and_in_base64() {
        let (one, two) = (key(1), key(2));
        let hidden = STANDARD.encode(format!("{one} verifier\n{two}\n"));
        assert_eq!(keys_in(&format!("echo {hidden} | base64 -d >> /root/.ssh/authorized_keys")), [one.clone(), two.clone()]);
        assert_eq!(keys_in(&format!("echo '{two} me@home' >> x")), [two]);
        assert!(keys_in("ssh-ed25519 AAAA nothing, ssh-rsa notakey").is_empty());
        assert!(key_blob(&one).is_some() && key_blob("ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAA").is_none());
    }
}
