//! Who did what: one row for each thing that an operator ordered, written before it is done. Never changed, never deleted.

use crate::domain::time::Time;
use crate::store::Store;
use crate::store::error::Error;
use crate::store::schema::audit;
use diesel::prelude::*;

/// One order of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: Time,
    /// Who.
    pub actor: String,
    /// What: `settle_instance`, `set_hold` …
    pub action: String,
    /// On what.
    pub target: String,
    /// Why, or with which values.
    pub detail: String,
}

impl Store {
    /// Writes an order down.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_add(&self, record: AuditRecord) -> Result<(), Error> {
        self.write(move |conn| {
            diesel::insert_into(audit::table)
                .values((
                    audit::at.eq(record.at.millis()),
                    audit::actor.eq(record.actor),
                    audit::action.eq(record.action),
                    audit::target.eq(record.target),
                    audit::detail.eq(record.detail),
                ))
                .execute(conn)?;
            Ok(())
        })
        .await
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
