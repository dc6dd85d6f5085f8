//! Logging in with the system's own `ssh`: the machine's host key is pinned to what the server saw when it verified the
//! machine, so nobody is asked to trust a fingerprint.

use crate::cli::Desk;
use crate::cli::failure::{Exit, Failure};
use crate::cli::provision::fresh_id;
use crate::grpc::pb;
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use tokio::process::Command;

/// How to log in to a running session's machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Login {
    /// The session.
    pub session_id: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User.
    pub user: String,
    /// The line for `known_hosts`.
    pub known_hosts_line: String,
}

impl Login {
    /// The login of a session.
    ///
    /// # Errors
    /// [`Exit::Conflict`] when it is not running or its host key is not known; [`Exit::Failed`] when what the server
    /// told is not safe to hand to `ssh`.
    pub fn of(session: &pb::Session) -> Result<Self, Failure> {
        let id = &session.session_id;
        if session.state != i32::from(pb::session::State::Running) {
            let state = crate::cli::words::state(session.state);
            let failure = Failure::new(Exit::Conflict, "SESSION_NOT_RUNNING", format!("session {id} is {state}; only a running one can be used"));
            use pb::session::State as S;
            let may_run = matches!(session.state(), S::Pending | S::Provisioning);
            return Err(if may_run { failure.hint(format!("gpu-shopper sessions watch {id} --until running")) } else { failure });
        }
        if session.known_hosts_line.is_empty() {
            return Err(Failure::new(Exit::Conflict, "HOST_KEY_UNKNOWN", format!("the host key of session {id} is not known yet")));
        }
        let word = |text: &str, extra: &str| {
            let fine = |c: char| c.is_ascii_alphanumeric() || extra.contains(c);
            !text.is_empty() && !text.starts_with('-') && text.chars().all(fine)
        };
        let port = u16::try_from(session.ssh_port).ok().filter(|p| *p > 0);
        let line = session.known_hosts_line.trim();
        match port {
            Some(port) if word(&session.ssh_host, "._:-") && word(&session.ssh_user, "._-") && !line.chars().any(char::is_control) => Ok(Self {
                session_id: id.clone(),
                host: session.ssh_host.clone(),
                port,
                user: session.ssh_user.clone(),
                known_hosts_line: line.to_owned(),
            }),
            _ => Err(Failure::local("ADDRESS", format!("the address told for session {id} makes no sense"))),
        }
    }

    /// The arguments for `ssh`, before any command.
    #[must_use]
    pub fn arguments(&self, key: Option<&Path>, known_hosts: &Path, more: &[String]) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["-p".into(), self.port.to_string().into(), "-l".into(), self.user.clone().into()];
        let mut known = OsString::from("UserKnownHostsFile=\"");
        known.push(known_hosts);
        known.push("\"");
        for option in ["StrictHostKeyChecking=yes".into(), known, "GlobalKnownHostsFile=/dev/null".into(), "UpdateHostKeys=no".into()] {
            arguments.extend(["-o".into(), option]);
        }
        if let Some(key) = key {
            arguments.extend(["-i".into(), key.into(), "-o".into(), "IdentitiesOnly=yes".into()]);
        }
        arguments.extend(more.iter().map(OsString::from));
        arguments.push(self.host.clone().into());
        arguments
    }

    /// A block for `~/.ssh/config`. Without a file for the host key the line is given in a comment.
    #[must_use]
    pub fn config_block(&self, alias: &str, key: Option<&Path>, known_hosts: Option<&Path>) -> String {
        let mut block = format!("Host {alias}\n    HostName {}\n    Port {}\n    User {}\n", self.host, self.port, self.user);
        if let Some(key) = key {
            block.push_str(&format!("    IdentityFile \"{}\"\n    IdentitiesOnly yes\n", key.display()));
        }
        block.push_str("    StrictHostKeyChecking yes\n");
        match known_hosts {
            Some(file) => block.push_str(&format!("    UserKnownHostsFile \"{}\"\n", file.display())),
            None => block.push_str(&format!("    # needs this line in ~/.ssh/known_hosts:\n    # {}\n", self.known_hosts_line)),
        }
        block
    }
}

/// Logs in with `program`, gives it our terminal, and returns its exit code.
///
/// # Errors
/// When the program can't be run.
pub async fn attach(desk: &Desk, program: &Path, login: &Login, key: Option<&Path>, more: &[String], command: Option<&str>) -> Result<u8, Failure> {
    let known = KnownHosts::create(login)?;
    let mut child = prepare(program, login, key, &known, more, command).spawn().map_err(|e| unrunnable(program, &e))?;
    tokio::select! {
        status = child.wait() => Ok(exit_code(status.map_err(|e| unrunnable(program, &e))?)),
        // Ctrl-C reaches ssh by itself; we stay to take its exit code and to remove the file.
        never = desk.interrupt.ignore() => match never {},
    }
}

/// Runs `command` on the machine and returns what it wrote.
///
/// # Errors
/// When the program can't be run.
pub async fn capture(program: &Path, login: &Login, key: Option<&Path>, command: &str) -> Result<(u8, Output), Failure> {
    let known = KnownHosts::create(login)?;
    let output = prepare(program, login, key, &known, &[], Some(command)).stdin(Stdio::null()).output().await;
    let output = output.map_err(|e| unrunnable(program, &e))?;
    Ok((exit_code(output.status), output))
}

fn prepare(program: &Path, login: &Login, key: Option<&Path>, known: &KnownHosts, more: &[String], command: Option<&str>) -> Command {
    let mut prepared = Command::new(program);
    prepared.args(login.arguments(key, &known.0, more)).kill_on_drop(true);
    // ssh reads options after the host, too; what follows `--` is the command.
    if let Some(line) = command {
        prepared.args(["--", line]);
    }
    prepared
}

fn unrunnable(program: &Path, error: &std::io::Error) -> Failure {
    Failure::local("SSH", format!("cannot run {}: {error}", program.display())).hint("the OpenSSH client must be installed")
}

/// A program's exit code as a shell tells it: 128 + the signal when one ended it.
fn exit_code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let by_signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
    #[cfg(not(unix))]
    let by_signal: Option<i32> = None;
    status.code().or(by_signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::Failed.code())
}

/// Arguments as one line for the machine's shell. A single one is a line already.
#[must_use]
pub fn command_line(arguments: &[String]) -> String {
    match arguments {
        [line] => line.clone(),
        many => many.iter().map(|a| quoted(a)).collect::<Vec<_>>().join(" "),
    }
}

/// A word as a POSIX shell reads it back unchanged.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// The private key that belongs to a public one, by OpenSSH's habit: without `.pub`.
#[must_use]
pub fn private_half(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|e| e == "pub") { path.with_extension("") } else { path.to_owned() }
}

/// Adds the machine's line to a `known_hosts` file, unless it is there.
///
/// # Errors
/// When the file can't be read or written.
pub fn remember(login: &Login, file: &Path) -> Result<(), Failure> {
    let wrong = |e: std::io::Error| Failure::local("FILE", format!("cannot write {}: {e}", file.display()));
    let known = match std::fs::read_to_string(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        known => known.map_err(wrong)?,
    };
    if known.lines().any(|l| l.trim() == login.known_hosts_line) {
        return Ok(());
    }
    let separator = if known.is_empty() || known.ends_with('\n') { "" } else { "\n" };
    let mut open = std::fs::File::options().append(true).create(true).open(file).map_err(wrong)?;
    open.write_all(format!("{separator}{}\n", login.known_hosts_line).as_bytes()).map_err(wrong)
}

/// A file that knows one machine; it goes when we do.
struct KnownHosts(PathBuf);

impl KnownHosts {
    fn create(login: &Login) -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("gpu-shopper-{}.known_hosts", fresh_id()?));
        let mut options = std::fs::File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(&path).and_then(|mut file| writeln!(file, "{}", login.known_hosts_line));
        let made = Self(path);
        written.map_err(|e| Failure::local("FILE", format!("cannot write {}: {e}", made.0.display())))?;
        Ok(made)
    }
}

impl Drop for KnownHosts {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> pb::Session {
        pb::Session {
            session_id: "01kaphz700fay8vvr14d2pf2db".into(),
            state: pb::session::State::Running.into(),
            ssh_host: "203.0.113.7".into(),
            ssh_port: 41_022,
            ssh_user: "root".into(),
            known_hosts_line: "[203.0.113.7]:41022 ssh-ed25519 AAAAC3Nz".into(),
            ..Default::default()
        }
    }

    #[test]
    fn the_host_key_is_pinned() {
        let login = Login::of(&session()).unwrap();
        let arguments = login.arguments(Some(Path::new("key.pem")), Path::new("/tmp/known hosts"), &["-L".into(), "8000:localhost:8000".into()]);
        let text: Vec<String> = arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect();
        assert_eq!(
            text.join(" "),
            "-p 41022 -l root -o StrictHostKeyChecking=yes -o UserKnownHostsFile=\"/tmp/known hosts\" -o GlobalKnownHostsFile=/dev/null \
             -o UpdateHostKeys=no -i key.pem -o IdentitiesOnly=yes -L 8000:localhost:8000 203.0.113.7"
        );
    }

    #[test]
    fn only_a_running_session_with_a_sane_address_is_logged_in_to() {
        let stopped = pb::Session { state: pb::session::State::Stopped.into(), ..session() };
        assert_eq!(Login::of(&stopped).unwrap_err().exit, Exit::Conflict);
        let keyless = pb::Session { known_hosts_line: String::new(), ..session() };
        assert_eq!(Login::of(&keyless).unwrap_err().exit, Exit::Conflict);
        for bad in ["-oProxyCommand=evil", "a b", "", "$(x)"] {
            let odd = pb::Session { ssh_host: bad.into(), ..session() };
            assert_eq!(Login::of(&odd).unwrap_err().exit, Exit::Failed, "{bad}");
            let odd = pb::Session { ssh_user: bad.into(), ..session() };
            assert_eq!(Login::of(&odd).unwrap_err().exit, Exit::Failed, "{bad}");
        }
        for port in [0, -1, 70_000] {
            assert!(Login::of(&pb::Session { ssh_port: port, ..session() }).is_err(), "{port}");
        }
        assert!(Login::of(&pb::Session { known_hosts_line: "a\nb".into(), ..session() }).is_err());
    }

    #[test]
    fn words_reach_the_machine_unchanged() {
        let words = |list: &[&str]| command_line(&list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&["nvidia-smi", "-L"]), "nvidia-smi -L");
        assert_eq!(words(&["nvidia-smi | head -1"]), "nvidia-smi | head -1");
        assert_eq!(words(&["echo", "it's; $HOME", ""]), r"echo 'it'\''s; $HOME' ''");
    }

    #[test]
    fn a_config_block_and_its_known_hosts_file() {
        let login = Login::of(&session()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known");
        std::fs::write(&file, "other").unwrap();
        remember(&login, &file).unwrap();
        remember(&login, &file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("other\n{}\n", login.known_hosts_line));
        let block = login.config_block("gpu", Some(Path::new("/k/key.pem")), Some(Path::new("/k/known")));
        assert_eq!(
            block,
            "Host gpu\n    HostName 203.0.113.7\n    Port 41022\n    User root\n    IdentityFile \"/k/key.pem\"\n    IdentitiesOnly yes\n    \
             StrictHostKeyChecking yes\n    UserKnownHostsFile \"/k/known\"\n"
        );
        assert!(login.config_block("gpu", None, None).contains("# [203.0.113.7]:41022 ssh-ed25519 AAAAC3Nz\n"));
    }

    #[test]
    fn the_private_key_beside_a_public_one() {
        assert_eq!(private_half(Path::new("/a/id_ed25519.pub")), Path::new("/a/id_ed25519"));
        assert_eq!(private_half(Path::new("key.pem")), Path::new("key.pem"));
    }
}
