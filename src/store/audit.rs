//! Who did what: one row for each thing that somebody ordered, written before it is done or in the same transaction. Never
//! changed, never deleted.

use crate::domain::time::Time;
use crate::store::Store;
use crate::store::error::Error;
use crate::store::schema::audit;
use diesel::prelude::*;

/// One thing that somebody ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: Time,
    /// Who: a token's name; without authentication the session's consumer, or `operator`.
    pub actor: String,
    /// What: `create_session`, `settle_instance`, `set_hold` …
    pub action: String,
    /// On what.
    pub target: String,
    /// Why, or with which values.
    pub detail: String,
}

impl AuditRecord {
    pub(super) fn insert(&self, conn: &mut SqliteConnection) -> Result<(), Error> {
        diesel::insert_into(audit::table)
            .values((
                audit::at.eq(self.at.millis()),
                audit::actor.eq(&self.actor),
                audit::action.eq(&self.action),
                audit::target.eq(&self.target),
                audit::detail.eq(&self.detail),
            ))
            .execute(conn)?;
        Ok(())
    }
}

impl Store {
    /// Writes an order down.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_add(&self, record: AuditRecord) -> Result<(), Error> {
        self.write(move |conn| record.insert(conn)).await
    }

    /// Orders with their numbers, the latest first: at most `limit`, only those before number `before`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_list(&self, before: Option<i64>, limit: i64) -> Result<Vec<(i64, AuditRecord)>, Error> {
        self.read(move |conn| {
            let rows: Vec<(i64, i64, String, String, String, String)> =
                audit::table.filter(audit::id.lt(before.unwrap_or(i64::MAX))).order(audit::id.desc()).limit(limit).load(conn)?;
            let record = |(id, at, actor, action, target, detail)| (id, AuditRecord { at: Time::from_millis(at), actor, action, target, detail });
            Ok(rows.into_iter().map(record).collect())
        })
        .await
    }
}
