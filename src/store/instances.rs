//! Instances as rows: the list of debts. `detail` and the segments restore an instance; the other columns show it.

use crate::domain::ids::{Label, SessionId};
use crate::domain::instance::{Desired, Evidence, Instance, Launch};
use crate::domain::session::Session;
use crate::store::error::Error;
use crate::store::prepared::rewrites;
use crate::store::schema::{instances, segments};
use crate::store::{Store, segments as metered, sessions};
use diesel::prelude::*;
use std::collections::BTreeMap;

/// Sessions asked for in one query: databases limit the number of variables.
const CHUNK: usize = 500;

impl Store {
    /// The instances of a session with their segments, by attempt.
    ///
    /// # Errors
    /// When the database fails or a row is unreadable.
    pub async fn instance_list(&self, session: SessionId) -> Result<Vec<Instance>, Error> {
        self.read(move |conn| Ok(of_sessions(conn, &[session.to_string()])?.remove(&session).unwrap_or_default())).await
    }

    /// Every open debt with its segments, by session and attempt.
    ///
    /// # Errors
    /// When the database fails or a row is unreadable.
    pub async fn instances_unsettled(&self) -> Result<Vec<Instance>, Error> {
        self.read(|conn| {
            let owing: Vec<String> = instances::table
                .filter(instances::settled_at.is_null())
                .select(instances::session_id)
                .distinct()
                .order(instances::session_id)
                .load(conn)?;
            Ok(of_sessions(conn, &owing)?.into_values().flatten().filter(Instance::open).collect())
        })
        .await
    }

    /// The instance that carries this label, with its segments.
    ///
    /// # Errors
    /// When the database fails or the row is unreadable.
    pub async fn instance_by_label(&self, label: Label) -> Result<Option<Instance>, Error> {
        self.read(move |conn| {
            let of = of_sessions(conn, &[label.session.to_string()])?;
            Ok(of.into_values().flatten().find(|instance| instance.label == label))
        })
        .await
    }
}

/// The instances of these sessions, by attempt.
pub(super) fn of_sessions(conn: &mut SqliteConnection, sessions: &[String]) -> Result<BTreeMap<SessionId, Vec<Instance>>, Error> {
    let mut found: BTreeMap<SessionId, Vec<Instance>> = BTreeMap::new();
    for chunk in sessions.chunks(CHUNK) {
        let rows: Vec<(String, String)> = instances::table
            .filter(instances::session_id.eq_any(chunk))
            .select((instances::label, instances::detail))
            .order((instances::session_id, instances::attempt))
            .load(conn)?;
        for (label, detail) in rows {
            let instance: Instance = serde_json::from_str(&detail).map_err(|e| Error::unreadable("instance", &label, &e))?;
            found.entry(instance.label.session).or_default().push(instance);
        }
        let rows: Vec<metered::Row> = segments::table
            .filter(segments::session_id.eq_any(chunk))
            .order((segments::session_id, segments::attempt, segments::ordinal))
            .select(metered::Row::as_select())
            .load(conn)?;
        for row in rows {
            let segment = row.restore()?;
            let instance = found.get_mut(&segment.session).and_then(|all| all.iter_mut().find(|i| i.label.attempt == segment.attempt));
            if let Some(instance) = instance {
                instance.segments.push(segment);
            }
        }
    }
    Ok(found)
}

#[derive(Insertable)]
#[diesel(table_name = instances, treat_none_as_default_value = false)]
struct Row {
    label: String,
    session_id: String,
    attempt: i64,
    provider: String,
    account: String,
    native_id: Option<String>,
    offer_id: String,
    machine_id: String,
    gpu_type: Option<String>,
    desired: &'static str,
    launch: &'static str,
    settled_at: Option<i64>,
    evidence: Option<&'static str>,
    created_at: i64,
    destroy_tries: i64,
    next_destroy_at: Option<i64>,
    rate_picos: i64,
    last_error: Option<String>,
    detail: String,
}

rewrites!(Rewrite(Row) in instances by label {
    provider, account, native_id, offer_id, machine_id, gpu_type, desired, launch, settled_at, evidence, created_at, destroy_tries,
    next_destroy_at, rate_picos, last_error, detail,
});

/// An instance with its segments, ready to be written.
pub(super) struct Write {
    session: SessionId,
    attempt: u8,
    row: Row,
    segments: Vec<metered::Row>,
}

impl Write {
    /// `session`: the instance's session as it is in the same batch, where it is.
    pub(super) fn new(instance: &Instance, session: Option<&Session>) -> Result<Self, Error> {
        let label = instance.label;
        let detail = serde_json::to_string(instance).map_err(|_| Error::Invalid(format!("instance {label}: no JSON can be made of it")))?;
        if let Some(stray) = instance.segments.iter().find(|s| s.session != label.session || s.attempt != label.attempt) {
            return Err(Error::Invalid(format!("instance {label}: a segment of session {}, attempt {}", stray.session, stray.attempt)));
        }
        let row = Row {
            label: label.to_string(),
            session_id: label.session.to_string(),
            attempt: label.attempt.into(),
            provider: instance.provider.to_string(),
            account: instance.account.clone(),
            native_id: instance.native_id.clone(),
            offer_id: instance.offer.to_string(),
            machine_id: instance.machine.to_string(),
            gpu_type: session.and_then(|s| gpu_of(s, label.attempt)),
            desired: match instance.desired {
                Desired::Present => "present",
                Desired::Gone => "gone",
            },
            launch: match instance.launch {
                Launch::Intended => "intended",
                Launch::Accepted => "accepted",
                Launch::Unknown => "unknown",
                Launch::Refused => "refused",
            },
            settled_at: instance.settled.map(|s| s.at.millis()),
            evidence: instance.settled.map(|s| match s.evidence {
                Evidence::LaunchRefused => "launch_refused",
                Evidence::NeverLaunched => "never_launched",
                Evidence::NeverAppeared => "never_appeared",
                Evidence::NotFoundTwice => "not_found_twice",
                Evidence::Vanished => "vanished",
                Evidence::Operator => "operator",
            }),
            created_at: instance.intended_at.millis(),
            destroy_tries: instance.destroy.tries.into(),
            next_destroy_at: instance.destroy.next_at.map(|t| t.millis()),
            rate_picos: instance.price.total().0,
            last_error: instance.destroy.last_error.clone(),
            detail,
        };
        let segments = instance.segments.iter().map(metered::Row::of).collect();
        Ok(Self { session: label.session, attempt: label.attempt, row, segments })
    }

    /// Writes it and its segments, over what is there.
    pub(super) fn apply(mut self, conn: &mut SqliteConnection) -> Result<(), Error> {
        if self.row.gpu_type.is_none() {
            // The model is the session's to tell. It never changes for an attempt, so the first answer stays.
            let known: Option<Option<String>> = instances::table.find(&self.row.label).select(instances::gpu_type).get_result(conn).optional()?;
            self.row.gpu_type = match known.flatten() {
                Some(gpu) => Some(gpu),
                None => sessions::get(conn, self.session)?.and_then(|s| gpu_of(&s, self.attempt)),
            };
        }
        if Rewrite(&self.row).execute(conn)? == 0 {
            diesel::insert_into(instances::table).values(&self.row).execute(conn)?;
        }
        self.segments.iter().try_for_each(|segment| segment.upsert(conn))
    }
}

fn gpu_of(session: &Session, attempt: u8) -> Option<String> {
    session.attempts.iter().find(|a| a.number == attempt).map(|a| a.offer.gpu.to_string())
}
