//! A batch as rows, in the order in which they refer to each other: made one by one on the caller's side, and written as they
//! come. What is wrong with a batch takes the place of a row, and nothing of it is written then.

use crate::domain::event::Event;
use crate::domain::ids::SessionId;
use crate::domain::instance::Instance;
use crate::domain::session::Session;
use crate::store::error::Error;
use crate::store::{AuditRecord, Batch, events, instances, lessons, requests, sessions};
use diesel::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Something to write.
pub(super) enum Row {
    Session(sessions::Write),
    Instance(instances::Write),
    Event(events::Row),
    Request(requests::Row),
    Lesson(lessons::Row),
    Audit(AuditRecord),
}

/// Makes the rows of a batch.
pub(super) fn make(batch: &Batch, put: &mut dyn FnMut(Result<Row, Error>)) {
    if let Err(error) = try_make(batch, &mut |row| put(Ok(row))) {
        put(Err(error));
    }
}

fn try_make(batch: &Batch, put: &mut dyn FnMut(Row)) -> Result<(), Error> {
    let mut sessions: BTreeMap<SessionId, &Arc<Session>> = BTreeMap::new();
    for session in &batch.sessions {
        if let Some(before) = sessions.insert(session.id, session)
            && before.version >= session.version
        {
            return Err(Error::Conflict(format!("session {}: version {} twice or backwards in one batch", session.id, session.version)));
        }
    }
    let mut told: BTreeMap<SessionId, Vec<&Event>> = BTreeMap::new();
    for event in &batch.events {
        if !sessions.contains_key(&event.session_id) {
            return Err(Error::Conflict(format!("revision {}: an event without its session", event.revision)));
        }
        told.entry(event.session_id).or_default().push(event);
    }
    // The last event of a session mostly tells it as it is stored, and is most of what is written: its JSON is made once.
    let mut known = BTreeMap::new();
    for session in sessions.values() {
        let (write, json) = sessions::Write::new(session, told.get(&session.id).map_or(&[], Vec::as_slice))?;
        put(Row::Session(write));
        known.insert(session.id, json);
    }
    let mut last: BTreeMap<_, &Instance> = BTreeMap::new();
    last.extend(batch.instances.iter().map(|instance| (instance.label, instance)));
    for instance in last.values() {
        let session = sessions.get(&instance.label.session).map(|session| &***session);
        put(Row::Instance(instances::Write::new(instance, session)?));
    }
    for event in &batch.events {
        let same = sessions.get(&event.session_id).is_some_and(|stored| Arc::ptr_eq(stored, &event.session));
        let json = known.get(&event.session_id).filter(|_| same).map(String::as_str);
        put(Row::Event(events::Row::of(event, json)?));
    }
    batch.requests.iter().for_each(|request| put(Row::Request(requests::Row::of(request.clone()))));
    batch.lessons.iter().for_each(|lesson| put(Row::Lesson(lessons::Row::of(lesson))));
    batch.audit.iter().for_each(|record| put(Row::Audit(record.clone())));
    Ok(())
}

/// Writes rows as they come.
pub(super) fn write(conn: &mut SqliteConnection, rows: &mut dyn Iterator<Item = Result<Row, Error>>) -> Result<(), Error> {
    let mut log = None;
    for row in rows {
        match row? {
            Row::Session(session) => session.apply(conn)?,
            Row::Instance(instance) => instance.apply(conn)?,
            Row::Event(event) => event.append(conn, &mut log)?,
            Row::Request(request) => request.insert(conn)?,
            Row::Lesson(lesson) => lesson.insert(conn)?,
            Row::Audit(record) => record.insert(conn)?,
        }
    }
    Ok(())
}
