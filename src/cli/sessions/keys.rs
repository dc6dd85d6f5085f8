//! `sessions rotate-key`: another key for a running session's machine.
//!
//! A private key that the server makes is put in its file, or shown, before anything else can go wrong.

use super::RotateArgs;
use super::changes::named;
use crate::cli::Desk;
use crate::cli::client::{Clients, asking, insist};
use crate::cli::failure::{Exit, Failure};
use crate::cli::follow::{Followed, ended_badly, follow};
use crate::cli::json::Message;
use crate::cli::provision::{KeyFile, public_key};
use crate::cli::watch::is_over;
use crate::grpc::pb;
use pb::condition::{Status, Type};
use serde::Serialize;
use std::path::PathBuf;

/// What `-o json` writes.
#[derive(Serialize)]
struct Rotated {
    session: Message,
    /// `null` when the key was put in a file, or when it is the caller's own.
    ssh_private_key: Option<String>,
    ssh_private_key_file: Option<PathBuf>,
    /// The machine takes the new key, and the one before no more.
    installed: bool,
    replayed: bool,
}

/// `sessions rotate-key`.
pub async fn rotate(args: RotateArgs, desk: &mut Desk, clients: &Clients) -> Result<Exit, Failure> {
    let request = pb::RotateSessionKeyRequest {
        session_id: args.session,
        ssh_public_key: args.ssh_key.as_deref().map(public_key).transpose()?,
        request_id: named(args.request_id)?,
        validate_only: false,
    };
    // The file comes first: a key must not be changed for one that can't be kept.
    let file = args.save_key.as_deref().map(KeyFile::create).transpose()?;
    let answer = insist(&mut desk.console, &request.request_id, || {
        let (mut sessions, request) = (clients.sessions.clone(), request.clone());
        async move { sessions.rotate_session_key(asking(request)).await }
    })
    .await?;
    let mut private_key = Some(answer.ssh_private_key).filter(|key| !key.is_empty());
    let mut key_file = None;
    if let (Some(file), Some(key)) = (file, private_key.take_if(|_| args.save_key.is_some())) {
        // If the file fails now, the key is shown after all: it can't be had again for long.
        match file.fill(&key) {
            Ok(()) => {
                desk.console.note(&format!("private key saved to {}", file.path.display()));
                key_file = Some(file.keep());
            }
            Err(failure) => {
                desk.console.warn(&failure.message);
                private_key = Some(key);
            }
        }
    }
    if !desk.console.is_json()
        && let Some(key) = &private_key
    {
        desk.console.note("this is the new private key; save it (mode 0600), or use --save-key next time:");
        desk.console.raw(key.as_bytes())?;
    }
    let session = answer.session.unwrap_or_default();
    let followed = if args.no_wait {
        Followed::Left(Box::new(session))
    } else {
        let begin = Some(desk.clock.now());
        follow(desk, clients, session, answer.resume_token, installed, begin).await?
    };
    let (last, left) = match followed {
        Followed::Reached(last) => (last, false),
        Followed::Left(last) => (last, true),
    };
    let done = installed(&last);
    if desk.console.is_json() {
        let session = Message::of("Session", &last)?;
        desk.console.json(&Rotated {
            session,
            ssh_private_key: private_key,
            ssh_private_key_file: key_file,
            installed: done,
            replayed: answer.replayed,
        })?;
    } else {
        let how = if done { "takes the new key, and the one before no more" } else { "does not take the new key yet; that goes on without us" };
        desk.console.line(&format!("session {}: its machine {how}", last.session_id))?;
    }
    match (done, left) {
        (true, _) => Ok(Exit::Ok),
        (false, true) => Ok(if args.no_wait { Exit::Ok } else { Exit::Interrupted }),
        (false, false) if is_over(last.state) || last.state == i32::from(pb::session::State::Stopping) => Err(ended_badly(&last)),
        (false, false) => Ok(Exit::Failed),
    }
}

/// Whether the key that was asked for last is on the machine.
fn installed(session: &pb::Session) -> bool {
    session.conditions.iter().any(|c| c.r#type == i32::from(Type::KeyInstalled) && c.status == i32::from(Status::True))
}
