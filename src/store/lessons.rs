//! What launches taught, one row per launch and outcome, successes included: the table `offer_failures`.

use crate::domain::gpu::GpuModel;
use crate::domain::ids::{HostId, MachineId, OfferId, ProviderId};
use crate::domain::memory::{Lesson, MOST_LESSONS, Outcome};
use crate::domain::time::Time;
use crate::store::Store;
use crate::store::error::Error;
use crate::store::schema::offer_failures;
use diesel::prelude::*;

impl Store {
    /// What was learnt since then, at most the newest [`MOST_LESSONS`], oldest first.
    ///
    /// # Errors
    /// When the database fails or a row is unreadable. An outcome that this version does not know is left out: a newer
    /// version may have learnt it.
    pub async fn lesson_list(&self, since: Time) -> Result<Vec<Lesson>, Error> {
        self.read(move |conn| {
            let newest =
                (offer_failures::at.desc(), offer_failures::session_id.desc(), offer_failures::attempt.desc(), offer_failures::outcome.desc());
            let rows: Vec<Row> =
                offer_failures::table.filter(offer_failures::at.ge(since.millis())).order(newest).limit(MOST_LESSONS.into()).load(conn)?;
            rows.into_iter().rev().filter_map(|row| row.restore().transpose()).collect()
        })
        .await
    }
}

/// Removes what is older; returns how many rows there were.
pub(super) fn trim(conn: &mut SqliteConnection, before: Time) -> Result<usize, Error> {
    Ok(diesel::delete(offer_failures::table.filter(offer_failures::at.lt(before.millis()))).execute(conn)?)
}

#[derive(Queryable, Insertable)]
#[diesel(table_name = offer_failures, treat_none_as_default_value = false)]
pub(super) struct Row {
    session_id: String,
    attempt: i64,
    outcome: String,
    provider: String,
    offer_id: String,
    machine_id: String,
    host_id: Option<String>,
    own_image: bool,
    at: i64,
    message: String,
    gpu_type: String,
}

impl Row {
    pub(super) fn of(lesson: &Lesson) -> Self {
        Self {
            session_id: lesson.session.to_string(),
            attempt: lesson.attempt.into(),
            outcome: lesson.outcome.word().to_owned(),
            provider: lesson.provider.to_string(),
            offer_id: lesson.offer.to_string(),
            machine_id: lesson.machine.to_string(),
            host_id: lesson.host.as_ref().map(ToString::to_string),
            own_image: lesson.own_image,
            at: lesson.at.millis(),
            message: lesson.text.clone(),
            gpu_type: lesson.gpu.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }

    fn restore(self) -> Result<Option<Lesson>, Error> {
        let Some(outcome) = Outcome::from_word(&self.outcome) else { return Ok(None) };
        let unreadable = |what: &str| Error::Unreadable(format!("offer failure of session {}: no {what}", self.session_id));
        Ok(Some(Lesson {
            session: self.session_id.parse().map_err(|_| unreadable("session id"))?,
            attempt: u8::try_from(self.attempt).map_err(|_| unreadable("attempt number"))?,
            outcome,
            provider: ProviderId::new(&self.provider),
            offer: OfferId::new(&self.offer_id),
            machine: MachineId::new(&self.machine_id),
            host: self.host_id.as_deref().map(HostId::new),
            gpu: Some(self.gpu_type.as_str()).filter(|model| !model.is_empty()).map(GpuModel::canonical),
            own_image: self.own_image,
            at: Time::from_millis(self.at),
            text: self.message,
        }))
    }

    /// The same lesson twice is one.
    pub(super) fn insert(&self, conn: &mut SqliteConnection) -> Result<(), Error> {
        diesel::insert_into(offer_failures::table).values(self).on_conflict_do_nothing().execute(conn)?;
        Ok(())
    }
}
