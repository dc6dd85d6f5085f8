//! `sessions ssh`, `exec`, `ssh-config`, `known-hosts`: using a session's machine.

use super::{LoginArgs, fetch};
use crate::cli::Desk;
use crate::cli::client::Clients;
use crate::cli::failure::{Exit, Failure};
use crate::cli::ssh::{Login, attach, capture, command_line, private_half, remember};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What `-o json` writes after a command has run.
#[derive(Serialize)]
struct Ran<'a> {
    session_id: &'a str,
    exit_code: u8,
    stdout: String,
    stderr: String,
}

/// What `-o json` writes instead of logging in.
#[derive(Serialize)]
struct Address<'a> {
    #[serde(flatten)]
    login: &'a Login,
    ssh_command: String,
}

/// `sessions ssh`.
pub async fn ssh(args: &LoginArgs, options: &[String], desk: &mut Desk, clients: &mut Clients) -> Result<u8, Failure> {
    let login = Login::of(&fetch(args.session.clone(), clients).await?)?;
    let key = key(args.identity.as_deref())?;
    if desk.console.is_json() {
        let identity = key.map(|k| format!(" -i {}", crate::cli::ssh::quoted(&k.display().to_string()))).unwrap_or_default();
        let ssh_command = format!("ssh -p {}{identity} {}@{}", login.port, login.user, login.host);
        desk.console.json(&Address { login: &login, ssh_command })?;
        return Ok(Exit::Ok.code());
    }
    attach(desk, &args.ssh_program, &login, key.as_deref(), options, None).await
}

/// `sessions exec`.
pub async fn exec(args: &LoginArgs, command: &[String], desk: &mut Desk, clients: &mut Clients) -> Result<u8, Failure> {
    let login = Login::of(&fetch(args.session.clone(), clients).await?)?;
    let (key, line) = (key(args.identity.as_deref())?, command_line(command));
    if !desk.console.is_json() {
        return attach(desk, &args.ssh_program, &login, key.as_deref(), &[], Some(&line)).await;
    }
    let (exit_code, output) = capture(&args.ssh_program, &login, key.as_deref(), &line).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    desk.console.json(&Ran { session_id: &login.session_id, exit_code, stdout: text(&output.stdout), stderr: text(&output.stderr) })?;
    Ok(exit_code)
}

/// `sessions ssh-config`.
pub async fn ssh_config(
    session: String,
    identity: Option<PathBuf>,
    alias: Option<String>,
    known_hosts: Option<PathBuf>,
    desk: &mut Desk,
    clients: &mut Clients,
) -> Result<Exit, Failure> {
    let login = Login::of(&fetch(session, clients).await?)?;
    let alias = alias.unwrap_or_else(|| format!("gpu-{}", login.session_id));
    if alias.is_empty() || !alias.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return Err(Failure::usage(format!("`{alias}` is no name for a host; allowed: letters, digits and ._-")));
    }
    // A block is read from anywhere, so its files are named from the root.
    let rooted = |path: PathBuf| std::path::absolute(&path).map_err(|e| Failure::local("FILE", format!("cannot name {}: {e}", path.display())));
    let key = key(identity.as_deref())?.map(rooted).transpose()?;
    let known_hosts = known_hosts.map(rooted).transpose()?;
    if let Some(file) = &known_hosts {
        remember(&login, file)?;
    }
    let block = login.config_block(&alias, key.as_deref(), known_hosts.as_deref());
    if desk.console.is_json() {
        desk.console.json(&serde_json::json!({ "host": alias, "ssh_config": block, "login": login }))?;
    } else {
        desk.console.raw(block.as_bytes())?;
    }
    Ok(Exit::Ok)
}

/// `sessions known-hosts`.
pub async fn known_hosts(session: String, desk: &mut Desk, clients: &mut Clients) -> Result<Exit, Failure> {
    let login = Login::of(&fetch(session, clients).await?)?;
    if desk.console.is_json() {
        desk.console.json(&serde_json::json!({ "session_id": login.session_id, "known_hosts_line": login.known_hosts_line }))?;
    } else {
        desk.console.line(&login.known_hosts_line)?;
    }
    Ok(Exit::Ok)
}

/// The private key to log in with; that of a `.pub` file beside it.
fn key(identity: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    let Some(path) = identity.map(private_half) else { return Ok(None) };
    if !path.exists() {
        return Err(Failure::local("FILE", format!("there is no private key {}", path.display())));
    }
    Ok(Some(path))
}
