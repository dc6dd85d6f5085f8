//! The private key that a create answer brings, kept in a file that only its owner can read.

use crate::error::Error;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use uuid::Uuid;

/// Writes a private key to a new file, mode 0600.
///
/// # Errors
/// [`Error::KeyFile`], of the kind `AlreadyExists` when there is a file already, since that may be the key of another machine;
/// [`Error::Invalid`] when there is no key: the session was created with one of its user's own.
pub fn save_key(path: impl AsRef<Path>, private_key: &str) -> Result<(), Error> {
    let path = path.as_ref();
    write_new(path, private_key).map_err(|source| failed(path, source))?
}

/// Writes a private key in place of what may be there, mode 0600. An old file keeps its name until the new one is complete.
///
/// # Errors
/// As [`save_key`], without the refusal of what is there.
pub fn replace_key(path: impl AsRef<Path>, private_key: &str) -> Result<(), Error> {
    let path = path.as_ref();
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", Uuid::new_v4().simple()));
    write_new(Path::new(&beside), private_key).map_err(|source| failed(path, source))??;
    fs::rename(&beside, path).map_err(|source| {
        let _ = fs::remove_file(&beside);
        failed(path, source)
    })
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::KeyFile { path: path.display().to_string(), source }
}

fn write_new(path: &Path, private_key: &str) -> io::Result<Result<(), Error>> {
    if private_key.is_empty() {
        return Ok(Err(Error::Invalid("there is no private key to save: the session was created with a key of its user's own".to_owned())));
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let written = file.write_all(private_key.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written.map(Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_for_their_owner_alone_and_never_overwritten_silently() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        save_key(&path, "one").unwrap();
        let Err(Error::KeyFile { source, .. }) = save_key(&path, "two") else { panic!("overwritten") };
        assert_eq!(source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        replace_key(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        }
        assert!(matches!(save_key(folder.path().join("none.pem"), ""), Err(Error::Invalid(_))));
        assert!(!folder.path().join("none.pem").exists());
    }
}
