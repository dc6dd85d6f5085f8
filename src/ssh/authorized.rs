//! The script that changes who may log in to a machine, as its login user and, where it may, as root.
//!
//! It rewrites `authorized_keys` beside itself and renames it into place, so that a login meets the old file or the new
//! one and a broken connection leaves the old one. Only base64 of canonical keys gets into the script, quoted; nothing
//! foreign can break out.

use super::keys::{KeyError, parse_public_key};
use std::fmt::Write as _;

/// The script: `add` may log in afterwards and so may `keep`; those of `remove` may not.
///
/// # Errors
/// When a key is none.
pub(super) fn script(add: &str, keep: &str, remove: &[String]) -> Result<String, KeyError> {
    let (add, keep) = (parse_public_key(add)?.line, parse_public_key(keep)?);
    let keep_line = if keep.comment.is_empty() { keep.line.clone() } else { format!("{} {}", keep.line, keep.comment) };
    let data = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let mut gone = String::new();
    // The new one and the verifier's are written anew, so that each is there once.
    for line in remove.iter().map(String::as_str).chain([add.as_str(), keep.line.as_str()]) {
        // Writing to a string can't fail.
        let _ = write!(gone, " -e '{}'", data(&parse_public_key(line)?.line));
    }
    let inner = format!(
        r#"set -eu
umask 077
d=$HOME/.ssh
f=$d/authorized_keys
mkdir -p "$d"
chmod 700 "$d"
[ -e "$f" ] || : > "$f"
t=$(mktemp "$d/.authorized_keys.XXXXXX")
trap 'rm -f "$t"' EXIT
grep -v -F{gone} "$f" > "$t" || [ $? -eq 1 ]
printf '%s\n' '{add}' '{keep_line}' >> "$t"
chmod 600 "$t"
mv -f "$t" "$f"
"#
    );
    // Where the login user may become root, root's file is changed as well: the boot script filled both.
    Ok(format!(
        "s=$(cat <<'GPU_SHOPPER_END'\n{inner}GPU_SHOPPER_END\n)\nsh -c \"$s\" || exit 1\n\
         if [ \"$(id -u)\" -ne 0 ] && sudo -n true >/dev/null 2>&1; then sudo -n env HOME=/root sh -c \"$s\" || exit 1; fi\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::keys::generate_consumer_key;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::process::Command;

    fn key(seed: u8, comment: &str) -> String {
        generate_consumer_key([seed; 32], comment).public_line()
    }

    /// Runs a script with this home; `sudo` is one that always refuses, whatever the machine of the test has.
    fn run(script: &str, home: &Path) -> bool {
        let tools = home.join("bin");
        fs::create_dir_all(&tools).unwrap();
        fs::write(tools.join("sudo"), "#!/bin/sh\nexit 1\n").unwrap();
        fs::set_permissions(tools.join("sudo"), fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        Command::new("sh").args(["-c", script]).env("HOME", home).env("PATH", path).status().unwrap().success()
    }

    fn lines(home: &Path) -> Vec<String> {
        fs::read_to_string(home.join(".ssh/authorized_keys")).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_new_key_comes_the_old_ones_go_and_all_others_stay() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(".ssh/authorized_keys");
        fs::create_dir(home.path().join(".ssh")).unwrap();
        let (old, other, verifier, new) = (key(1, "alice"), key(2, "bob@home"), key(3, "verifier"), key(4, "alice"));
        // As it may lie on a machine: options in front, a comment of its own, no newline at the end, readable by all.
        let before = format!("# by hand\nno-pty {other}\n{} another-comment\n{verifier}", old.trim_end_matches(" alice"));
        fs::write(&file, before).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let text = script(&new, &verifier, std::slice::from_ref(&old)).unwrap();
        for _ in 0..2 {
            assert!(run(&text, home.path()));
            let new = new.trim_end_matches(" alice").to_owned();
            assert_eq!(lines(home.path()), ["# by hand".to_owned(), format!("no-pty {other}"), new, verifier.clone()]);
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            let left: Vec<_> = fs::read_dir(home.path().join(".ssh")).unwrap().collect();
            assert_eq!(left.len(), 1, "nothing else is left: {left:?}");
        }
    }

    #[test]
    fn a_machine_without_the_file_gets_one() {
        let home = tempfile::tempdir().unwrap();
        assert!(run(&script(&key(1, ""), &key(2, ""), &[]).unwrap(), home.path()));
        assert_eq!(lines(home.path()), [key(1, ""), key(2, "")]);
        assert_eq!(fs::metadata(home.path().join(".ssh")).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_cannot_be_rewritten_fails_and_stays_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        // A folder where the file should be: no line of it can be read.
        fs::create_dir_all(home.path().join(".ssh/authorized_keys")).unwrap();
        assert!(!run(&script(&key(1, ""), &key(2, ""), &[]).unwrap(), home.path()));
        assert!(home.path().join(".ssh/authorized_keys").is_dir());
        assert_eq!(fs::read_dir(home.path().join(".ssh")).unwrap().count(), 1);
    }

    #[test]
    fn only_keys_get_into_the_script() {
        for bad in ["", "ssh-ed25519 AAAA'; reboot #", "command=\"x\" ssh-ed25519 AAAA"] {
            assert!(script(bad, &key(1, ""), &[]).is_err() && script(&key(1, ""), &key(2, ""), &[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
