//! Keys: the server's own secret and what is derived from it, the keys that consumers log in with, and host keys
//! as people want to see them.
//!
//! Everything that has to survive a restart without being stored is derived from one secret of 32 bytes by
//! HKDF-SHA256, each purpose with its own `info`: the verifier key of a session, and the keys that seal things at
//! rest. The surprising choice: nothing here draws random numbers except the creation of that secret; seeds and
//! nonces come from the caller, so a simulated world stays the same for the same seed.
//!
//! It is not a key store: it keeps no key and touches no file but the secret's.

use crate::domain::ids::{SessionId, clip};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use rand::TryRngCore as _;
use secrecy::{ExposeSecret as _, SecretBox, SecretSlice, SecretString};
use sha2::Sha256;
use ssh_key::private::Ed25519Keypair;
use ssh_key::public::KeyData;
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The length of a nonce for [`seal`], bytes.
pub const NONCE_BYTES: usize = 24;

/// The first byte of everything sealed: which way it was sealed.
const SEAL_VERSION: u8 = 1;

/// The longest public key line that is looked at, bytes; an RSA key of 16 384 bits needs about 2 800.
const LONGEST_PUBLIC_KEY: usize = 16 * 1024;

/// The shortest RSA key that today's OpenSSH servers accept, bits.
const SHORTEST_RSA_BITS: usize = 1024;

/// What can be wrong with keys. Never shows any part of a secret.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file of the server's secret can't be used.
    #[error("secret file {}: {problem}", path.display())]
    SecretFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong, in words for the operator.
        problem: String,
    },
    /// A text is no public key that could be installed on a machine.
    #[error("{0}")]
    NoPublicKey(String),
    /// A private key can't be read or written.
    #[error("private key: {0}")]
    PrivateKey(String),
    /// Something sealed can't be opened: other secret, other purpose, other context, or damaged.
    #[error("sealed data can't be opened: it was sealed with another secret or for another purpose, or it is damaged")]
    Unsealable,
    /// Something is too long to be sealed.
    #[error("too long to be sealed")]
    TooLong,
}

/// The server's secret of 32 bytes, of which other keys are derived. Prints as `***`; cheap to clone.
#[derive(Clone)]
pub struct Secret(Arc<SecretBox<[u8; 32]>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    /// From 32 bytes that are already known to be secret and random.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Arc::new(SecretBox::new(Box::new(bytes))))
    }

    /// Reads the secret from a file, or makes one (mode 0600) when there is no such file.
    ///
    /// # Errors
    /// [`KeyError::SecretFile`] when the file is open to others, is not exactly 32 bytes long, or can't be read or
    /// written. A file that is there is never changed.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        let fault = |problem: String| KeyError::SecretFile { path: path.to_path_buf(), problem };
        match Self::load(path)? {
            Some(secret) => Ok(secret),
            None => {
                let mut bytes = [0_u8; 32];
                rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|e| fault(format!("no random numbers: {e}")))?;
                create_whole(path, &bytes).map_err(|e| fault(format!("can't be written: {e}")))?;
                // Read back: had another process been faster, its secret is the one that counts.
                Self::load(path)?.ok_or_else(|| fault("vanished right after it was written".to_owned()))
            }
        }
    }

    fn load(path: &Path) -> Result<Option<Self>, KeyError> {
        let fault = |problem: String| KeyError::SecretFile { path: path.to_path_buf(), problem };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fault(format!("can't be read: {e}"))),
        };
        let facts = file.metadata().map_err(|e| fault(format!("can't be read: {e}")))?;
        if !facts.is_file() {
            return Err(fault("is no ordinary file".to_owned()));
        }
        let mode = facts.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(fault(format!("mode {mode:04o} lets others at it; allowed is 0600 (chmod 600)")));
        }
        let mut bytes = [0_u8; 32];
        if facts.len() != 32 {
            return Err(fault(format!("has {} bytes instead of 32", facts.len())));
        }
        file.read_exact(&mut bytes).map_err(|e| fault(format!("can't be read: {e}")))?;
        Ok(Some(Self::from_bytes(bytes)))
    }

    /// What tells two secrets apart without giving either away: 16 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.derive("fingerprint", &[]).expose_secret().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// A key of 32 bytes for one purpose and one context. Different purposes or contexts give unrelated keys.
    fn derive(&self, purpose: &str, context: &[u8]) -> SecretBox<[u8; 32]> {
        let (prk, _) = Hkdf::<Sha256>::extract(None, self.0.expose_secret());
        let mut info = Vec::with_capacity(purpose.len() + context.len() + 24);
        info.extend_from_slice(b"gpu-shopper/1/");
        info.extend_from_slice(purpose.as_bytes());
        info.push(0);
        info.extend_from_slice(context);
        // The first block of HKDF-Expand, HMAC(prk, info ‖ 1), which for 32 bytes is all of it; `extract` is HMAC too.
        info.push(1);
        let (okm, _) = Hkdf::<Sha256>::extract(Some(&prk), &info);
        SecretBox::new(Box::new(okm.into()))
    }
}

/// Writes a new file with mode 0600 so that it is there whole or not at all. An existing file is left alone.
///
/// # Errors
/// When it can't be written.
pub fn create_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let draft = PathBuf::from(name);
    match std::fs::remove_file(&draft) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        match std::fs::hard_link(&draft, path) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    });
    let removed = std::fs::remove_file(&draft);
    written?;
    removed?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// An Ed25519 key that logs in to machines. Prints as `***`.
#[derive(Clone)]
pub struct LoginKey {
    pair: Ed25519Keypair,
    comment: String,
}

impl fmt::Debug for LoginKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl LoginKey {
    /// From a seed that must be secret and random.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32], comment: &str) -> Self {
        let comment = comment.chars().filter(|c| !c.is_control()).take(100).collect();
        Self { pair: Ed25519Keypair::from_seed(seed), comment }
    }

    /// From an unencrypted OpenSSH private key.
    ///
    /// # Errors
    /// [`KeyError::PrivateKey`] when it is unreadable, encrypted or not Ed25519.
    pub fn from_private_pem(pem: &SecretString) -> Result<Self, KeyError> {
        let key = PrivateKey::from_openssh(pem.expose_secret().trim()).map_err(|e| KeyError::PrivateKey(e.to_string()))?;
        if key.is_encrypted() {
            return Err(KeyError::PrivateKey("it is encrypted".to_owned()));
        }
        match key.key_data().ed25519() {
            Some(pair) => Ok(Self { pair: pair.clone(), comment: key.comment().to_owned() }),
            None => Err(KeyError::PrivateKey(format!("a key of type {} instead of ssh-ed25519", key.algorithm()))),
        }
    }

    /// The public half as a line for `authorized_keys`, with its comment and without newline.
    #[must_use]
    pub fn public_line(&self) -> String {
        let line = format!("ssh-ed25519 {}", BASE64.encode(self.public_bytes()));
        if self.comment.is_empty() { line } else { format!("{line} {}", self.comment) }
    }

    /// The private half as an unencrypted OpenSSH PEM.
    ///
    /// # Errors
    /// [`KeyError::PrivateKey`] when it can't be encoded.
    pub fn private_pem(&self) -> Result<SecretString, KeyError> {
        let mut key = PrivateKey::from(self.pair.clone());
        key.set_comment(self.comment.as_str());
        let pem = key.to_openssh(LineEnding::LF).map_err(|e| KeyError::PrivateKey(e.to_string()))?;
        Ok(SecretString::from(pem.as_str()))
    }

    /// The public half as it goes over the wire.
    fn public_bytes(&self) -> Vec<u8> {
        const KIND: &[u8] = b"ssh-ed25519";
        let mut bytes = vec![0, 0, 0, 11];
        bytes.extend_from_slice(KIND);
        bytes.extend_from_slice(&[0, 0, 0, 32]);
        bytes.extend_from_slice(&self.pair.public.0);
        bytes
    }

    /// The form that the SSH client wants.
    pub(super) fn for_client(&self) -> thrussh_keys::key::KeyPair {
        thrussh_keys::key::KeyPair::Ed25519(thrussh_keys::key::ed25519::SecretKey { key: self.pair.to_bytes() })
    }
}

/// The key with which the server itself logs in to the machines of a session: the same after every restart.
#[must_use]
pub fn verifier_keypair(secret: &Secret, session: SessionId) -> LoginKey {
    let seed = secret.derive("ssh-verifier-key", &session.bits().to_be_bytes());
    LoginKey::from_seed(seed.expose_secret(), &format!("gpu-shopper-verifier-{session}"))
}

/// A key made for a consumer. The 32 bytes must be secret and random.
#[must_use]
pub fn generate_consumer_key(random: [u8; 32], comment: &str) -> LoginKey {
    LoginKey::from_seed(&random, comment)
}

/// A public key that can be installed on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallableKey {
    /// Type and data, one space between, nothing else: two spellings of the same key give the same line.
    pub line: String,
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// The comment, freed of everything but letters, digits and `@ . _ + -`; may be empty.
    pub comment: String,
}

/// Reads a public key of any type that OpenSSH takes in `authorized_keys`: Ed25519, RSA, ECDSA and the `sk-` ones.
///
/// # Errors
/// [`KeyError::NoPublicKey`], in words for the caller, for private keys, several lines, options in front, DSA,
/// certificates and everything else.
pub fn parse_public_key(text: &str) -> Result<InstallableKey, KeyError> {
    let no = |text: &str| Err(KeyError::NoPublicKey(text.to_owned()));
    let text = text.trim();
    if text.is_empty() {
        return no("the public key is empty");
    }
    if text.contains("PRIVATE KEY") {
        return no("this is a private key: keep it to yourself and give the public key, the content of the .pub file");
    }
    if text.starts_with("---- BEGIN SSH2 PUBLIC KEY") || text.starts_with("-----BEGIN") {
        return no("the public key must be in OpenSSH's one-line format; `ssh-keygen -i -f FILE` converts others");
    }
    if text.len() > LONGEST_PUBLIC_KEY {
        return no("the public key is longer than 16 KiB");
    }
    if text.contains(['\n', '\r']) {
        return no("the public key must be one line: one key, without line breaks inside");
    }
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return no("the public key contains control characters");
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let Some(at) = words.iter().position(|word| is_key_type(word)) else {
        return no("this is no OpenSSH public key: it must begin with a type such as ssh-ed25519, ssh-rsa or ecdsa-sha2-nistp256");
    };
    if at > 0 {
        return no("the public key must begin with its type: options in front of it are not allowed");
    }
    let kind = words[0];
    if kind.contains("-cert-v01@") {
        return no("this is a certificate; give the plain public key");
    }
    if kind == "ssh-dss" {
        return no("DSA keys are no longer accepted by SSH servers; make one with `ssh-keygen -t ed25519`");
    }
    let Some(data) = words.get(1) else {
        return no("the public key has a type and nothing after it");
    };
    let key = PublicKey::from_openssh(&format!("{kind} {data}"))
        .map_err(|_| KeyError::NoPublicKey(format!("the data after {} is damaged or incomplete", clip(kind, 64))))?;
    match key.key_data() {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEcdsaSha2NistP256(_) | KeyData::SkEd25519(_) => {}
        KeyData::Rsa(rsa) => {
            let bits = rsa.n.as_positive_bytes().map_or(0, |n| n.len() * 8);
            if bits < SHORTEST_RSA_BITS {
                return no("the RSA key has fewer than 1024 bits: SSH servers refuse it");
            }
        }
        _ => return no("keys of this type are not accepted"),
    }
    let line = key.to_openssh().map_err(|e| KeyError::NoPublicKey(format!("the public key can't be written: {e}")))?;
    let comment = words[2..].join("-").chars().filter(|c| c.is_ascii_alphanumeric() || "@._+-".contains(*c)).take(100).collect();
    Ok(InstallableKey { line: line.trim().to_owned(), fingerprint: key.fingerprint(HashAlg::Sha256).to_string(), comment })
}

/// Whether a word is the name of a key type, as far as its shape tells.
fn is_key_type(word: &str) -> bool {
    matches!(word, "ssh-ed25519" | "ssh-rsa" | "ssh-dss" | "ssh-ed448")
        || ["ecdsa-sha2-nistp", "sk-ssh-ed25519", "sk-ecdsa-sha2-"].iter().any(|begin| word.starts_with(begin))
        || word.contains("-cert-v01@openssh.com")
}

/// Seals a text so that only the holder of the secret can read it, and only for the same purpose and context.
///
/// The nonce must be fresh for every call (24 random bytes); `aad` is the context it is bound to, such as the session
/// id. The result carries its version and nonce.
///
/// # Errors
/// [`KeyError::TooLong`] for more than 256 GiB.
pub fn seal(secret: &Secret, purpose: &str, aad: &[u8], nonce: [u8; NONCE_BYTES], plaintext: &[u8]) -> Result<Vec<u8>, KeyError> {
    let sealed = cipher(secret, purpose).encrypt(XNonce::from_slice(&nonce), Payload { msg: plaintext, aad }).map_err(|_| KeyError::TooLong)?;
    let mut whole = Vec::with_capacity(1 + NONCE_BYTES + sealed.len());
    whole.push(SEAL_VERSION);
    whole.extend_from_slice(&nonce);
    whole.extend_from_slice(&sealed);
    Ok(whole)
}

/// Opens what [`seal`] made with the same secret, purpose and context.
///
/// # Errors
/// [`KeyError::Unsealable`].
pub fn open(secret: &Secret, purpose: &str, aad: &[u8], sealed: &[u8]) -> Result<SecretSlice<u8>, KeyError> {
    let (version, rest) = sealed.split_first().ok_or(KeyError::Unsealable)?;
    if *version != SEAL_VERSION || rest.len() < NONCE_BYTES {
        return Err(KeyError::Unsealable);
    }
    let (nonce, msg) = rest.split_at(NONCE_BYTES);
    let plain = cipher(secret, purpose).decrypt(XNonce::from_slice(nonce), Payload { msg, aad }).map_err(|_| KeyError::Unsealable)?;
    Ok(SecretSlice::from(plain))
}

fn cipher(secret: &Secret, purpose: &str) -> XChaCha20Poly1305 {
    let key = secret.derive("seal", purpose.as_bytes());
    XChaCha20Poly1305::new(key.expose_secret().into())
}

/// A host key as a line for `known_hosts`, as `ssh-keyscan` prints it: `host TYPE DATA`, or `[host]:port TYPE DATA`
/// for other ports than 22. Characters that no host name or address has are left out.
#[must_use]
pub fn known_hosts_line(host: &str, port: u16, host_key: &str) -> String {
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || ".-:_%".contains(*c)).collect();
    let key = host_key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    if port == 22 { format!("{host} {key}") } else { format!("[{host}]:{port} {key}") }
}

/// The fingerprint of a public key or host key line: `SHA256:…`.
///
/// # Errors
/// [`KeyError::NoPublicKey`] when the line can't be read.
pub fn fingerprint(line: &str) -> Result<String, KeyError> {
    Ok(parse_public_key(line)?.fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Time;
    use std::os::unix::fs::PermissionsExt as _;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn session(random: u128) -> SessionId {
        SessionId::new(Time::from_millis(1_700_000_000_000), random)
    }

    #[test]
    fn derivation_is_hkdf_as_in_the_rfc() {
        let secret = Secret::from_bytes([7; 32]);
        let mut okm = [0_u8; 32];
        Hkdf::<Sha256>::new(None, &[7; 32]).expand(b"gpu-shopper/1/purpose\0context", &mut okm).unwrap();
        assert_eq!(secret.derive("purpose", b"context").expose_secret(), &okm);
    }

    #[test]
    fn a_secret_is_made_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.secret");
        let first = Secret::load_or_create(&path).unwrap();
        let again = Secret::load_or_create(&path).unwrap();
        assert_eq!(first.0.expose_secret(), again.0.expose_secret());
        assert_ne!(first.0.expose_secret(), &[0; 32]);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
        assert_eq!(format!("{first:?} {first}"), "*** ***");
    }

    #[test]
    fn a_secret_open_to_others_or_of_another_size_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.secret");
        std::fs::write(&path, [1; 32]).unwrap();
        for (mode, word) in [(0o640, "0640"), (0o604, "0604"), (0o777, "0777")] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let refusal = Secret::load_or_create(&path).unwrap_err().to_string();
            assert!(refusal.contains(word) && refusal.contains("shop.secret") && refusal.contains("0600"), "{refusal}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Secret::load_or_create(&path).is_ok());
        std::fs::write(&path, [1; 31]).unwrap();
        assert!(Secret::load_or_create(&path).unwrap_err().to_string().contains("31 bytes instead of 32"));
        assert_eq!(std::fs::read(&path).unwrap(), [1; 31]);
        assert!(Secret::load_or_create(folder.path()).unwrap_err().to_string().contains("no ordinary file"));
        assert!(Secret::load_or_create(&folder.path().join("absent/shop.secret")).is_err());
    }

    #[test]
    fn verifier_keys_depend_on_secret_and_session_and_nothing_else() {
        let (one, two) = (Secret::from_bytes([1; 32]), Secret::from_bytes([2; 32]));
        let line = verifier_keypair(&one, session(1)).public_line();
        assert_eq!(line, verifier_keypair(&one, session(1)).public_line());
        assert_ne!(line, verifier_keypair(&one, session(2)).public_line());
        assert_ne!(line, verifier_keypair(&two, session(1)).public_line());
        assert!(line.starts_with("ssh-ed25519 AAAA") && line.contains("gpu-shopper-verifier-"), "{line}");
        assert_eq!(PublicKey::from_openssh(&line).unwrap().to_openssh().unwrap(), line);
    }

    #[test]
    fn a_consumer_key_goes_out_and_comes_back() {
        let key = generate_consumer_key([9; 32], "me@here");
        let pem = key.private_pem().unwrap();
        assert!(pem.expose_secret().starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
        assert!(pem.expose_secret().ends_with("-----END OPENSSH PRIVATE KEY-----\n"));
        let back = LoginKey::from_private_pem(&pem).unwrap();
        assert_eq!(back.public_line(), key.public_line());
        assert_eq!(format!("{key:?} {pem:?}").matches("BEGIN").count(), 0);
        let for_thrussh = thrussh_keys::decode_secret_key(pem.expose_secret(), None).unwrap();
        assert_eq!(thrussh_keys::PublicKeyBase64::public_key_bytes(&for_thrussh), key.public_bytes());
        assert_eq!(thrussh_keys::PublicKeyBase64::public_key_bytes(&key.for_client()), key.public_bytes());
        for bad in ["", "rubbish", ED25519] {
            assert!(LoginKey::from_private_pem(&SecretString::from(bad)).is_err());
        }
    }

    #[test]
    fn public_keys_are_taken_in_any_spelling_and_given_in_one() {
        let parsed = parse_public_key(&format!("  {}\t me@there;rm -rf /  \n", ED25519.replace(' ', "   "))).unwrap();
        assert_eq!(parsed.line, ED25519);
        assert_eq!(parsed.fingerprint, "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ");
        assert_eq!(parsed.comment, "me@thererm--rf-");
        assert_eq!(fingerprint(ED25519).unwrap(), parsed.fingerprint);
    }

    #[test]
    fn what_is_no_public_key_is_refused_in_words() {
        let options = format!("no-pty,command=\"x\" {ED25519}");
        let two = format!("{ED25519}\n{ED25519}");
        let certificate = "ssh-ed25519-cert-v01@openssh.com AAAA";
        let cut = &ED25519[..60];
        let pem = generate_consumer_key([9; 32], "x").private_pem().unwrap();
        let long = format!("ssh-rsa {}", "A".repeat(20_000));
        let other_type = ED25519.replacen("ssh-ed25519", "ssh-rsa", 1);
        for (text, word) in [
            ("", "empty"),
            ("  \n ", "empty"),
            (pem.expose_secret(), "private key"),
            ("-----BEGIN PUBLIC KEY-----", "OpenSSH's one-line format"),
            (two.as_str(), "one line"),
            (options.as_str(), "options"),
            (certificate, "certificate"),
            ("ssh-dss AAAA", "DSA"),
            ("ssh-ed25519", "nothing after"),
            (cut, "damaged"),
            ("ssh-ed25519 !!!!", "damaged"),
            (other_type.as_str(), "damaged"),
            ("hello world", "no OpenSSH public key"),
            ("ssh-ed25519 AAAA\u{1b}[2J", "control"),
            (long.as_str(), "16 KiB"),
        ] {
            let refusal = parse_public_key(text).unwrap_err().to_string();
            assert!(refusal.contains(word), "{word}: {refusal}");
            assert!(!refusal.contains("b3BlbnNzaC1"), "no key material in {refusal}");
        }
    }

    #[test]
    fn sealed_things_open_only_where_they_belong() {
        let secret = Secret::from_bytes([3; 32]);
        let sealed = seal(&secret, "consumer-key", b"session 1", [5; NONCE_BYTES], b"private").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"private"));
        assert_eq!(open(&secret, "consumer-key", b"session 1", &sealed).unwrap().expose_secret(), b"private");
        assert!(open(&Secret::from_bytes([4; 32]), "consumer-key", b"session 1", &sealed).is_err());
        assert!(open(&secret, "environment", b"session 1", &sealed).is_err());
        assert!(open(&secret, "consumer-key", b"session 2", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(open(&secret, "consumer-key", b"session 1", &damaged).is_err(), "byte {at}");
            assert!(open(&secret, "consumer-key", b"session 1", &sealed[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn known_hosts_lines_look_like_ssh_keyscans() {
        let key = format!("{ED25519} comment");
        assert_eq!(known_hosts_line("203.0.113.9", 22, &key), format!("203.0.113.9 {ED25519}"));
        assert_eq!(known_hosts_line("ssh5.example.com", 2222, &key), format!("[ssh5.example.com]:2222 {ED25519}"));
        assert_eq!(known_hosts_line("2001:db8::1", 22, &key), format!("2001:db8::1 {ED25519}"));
        assert_eq!(known_hosts_line("evil host\n*,x", 22, &key), format!("evilhostx {ED25519}"));
    }
}
