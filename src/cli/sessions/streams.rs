//! `sessions watch`: every event as it happens, across lost connections.

use super::WatchArgs;
use crate::cli::Desk;
use crate::cli::client::Clients;
use crate::cli::failure::{Exit, Failure, clean};
use crate::cli::follow::{ended_badly, lost, what};
use crate::cli::output::Tint;
use crate::cli::watch::{Start, Subject, Told, Watch, is_over};
use crate::cli::words;
use crate::grpc::pb;

/// Runs `sessions watch`.
pub async fn watch(args: WatchArgs, desk: &mut Desk, clients: &Clients) -> Result<Exit, Failure> {
    let subject = match &args.session {
        Some(_) if args.filter != super::WhichArgs::default() => {
            return Err(Failure::usage("a session's id says all; --consumer, --provider, --state and --label don't go with it"));
        }
        Some(id) => Subject::One(id.clone()),
        None => Subject::All { filter: args.filter.filter(), ended_since: args.ended_since.map(|t| t.first) },
    };
    let start = match (args.resume, args.from_now) {
        (Some(token), _) => Start::After(token),
        (None, true) => Start::Now,
        (None, false) => Start::Snapshot,
    };
    let one = args.session.is_some();
    let mut watch = Watch::new(clients.clone(), subject, start);
    let mut last: Option<pb::Session> = None;
    let interrupt = desk.interrupt.clone();
    let interrupted = interrupt.wait();
    tokio::pin!(interrupted);
    loop {
        let told = tokio::select! {
            biased;
            () = &mut interrupted => {
                if let Some(token) = watch.token() {
                    desk.console.note(&format!("resume with --resume {token}"));
                }
                return Ok(Exit::Interrupted);
            }
            told = watch.next() => told?,
        };
        let Some(told) = told else { break };
        match &told {
            Told::Lost { why, wait } => lost(desk, why, *wait),
            Told::Anew => {
                desk.console.warn("the server no longer keeps what followed the last message; what is now follows, something may be missing")
            }
            _ if desk.console.is_json() => {
                if let Some(message) = watch.message() {
                    desk.console.json_line(message)?;
                }
            }
            told => say(told, one, desk)?,
        }
        match told {
            Told::Snapshot(session) => last = Some(*session),
            Told::Event(event) => last = event.session.or(last),
            _ => {}
        }
        if let (Some(until), Some(session)) = (args.until, &last)
            && session.state == i32::from(until.wire())
        {
            return Ok(Exit::Ok);
        }
    }
    match last {
        Some(session) if session.state == i32::from(pb::session::State::Failed) => Err(ended_badly(&session)),
        Some(session) if args.until.is_some() && is_over(session.state) => Err(ended_badly(&session)),
        _ => Ok(Exit::Ok),
    }
}

/// One line for people.
fn say(told: &Told, one: bool, desk: &mut Desk) -> Result<(), Failure> {
    let console = &mut desk.console;
    match told {
        Told::Snapshot(s) => {
            let state = words::state(s.state);
            let padded = console.tinted(&format!("{state:<12}"), Tint::of_state(&state));
            let line = format!("{padded}  {:<13}  {}", words::stage(s.stage), clean(&s.status_message));
            let line = place(words::moment(s.state_time.as_ref()), &s.session_id, one, &line);
            console.line(&line)
        }
        Told::Event(event) => {
            let line = what(event, |word, tint| console.tinted(word, tint));
            let line = place(words::moment(event.occur_time.as_ref()), &event.session_id, one, &line);
            console.line(&line)
        }
        Told::SnapshotEnd(end) if !one => {
            let counts: Vec<String> = end.counts.iter().map(|c| format!("{} {}", c.count, words::state(c.state))).collect();
            let counts = if counts.is_empty() { "no open sessions".to_owned() } else { counts.join(", ") };
            console.note(&format!("{counts}; {} per hour; waiting for events", words::dollars(end.spend_per_hour.as_ref())));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn place(time: String, session: &str, one: bool, line: &str) -> String {
    let session = if one { String::new() } else { format!("{session}  ") };
    format!("{time:<20}  {session}{line}").trim_end().to_owned()
}
