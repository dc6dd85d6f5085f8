//! Accepted mutating calls by (principal, method, request id): what makes a repeated call the same call.

use crate::domain::ids::SessionId;
use crate::domain::time::Time;
use crate::store::Store;
use crate::store::error::Error;
use crate::store::schema::requests;
use diesel::prelude::*;
use std::fmt;

/// An accepted call.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// Who called.
    pub principal: String,
    /// Which method.
    pub method: String,
    /// The caller's id for the call.
    pub request_id: String,
    /// A hash of what was asked: another request under the same id is an error.
    pub hash: String,
    /// The session it made or changed.
    pub session: SessionId,
    /// When it was accepted.
    pub created_at: Time,
    /// The last revision before its first event: where a watch begins.
    pub watch_revision: i64,
    /// The consumer's private key, sealed. The store never sees one in clear. Empty once it may not be told any more.
    pub sealed: Option<Vec<u8>>,
}

impl fmt::Debug for RequestRecord {
    /// Without the sealed bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestRecord")
            .field("principal", &self.principal)
            .field("method", &self.method)
            .field("request_id", &self.request_id)
            .field("session", &self.session)
            .field("created_at", &self.created_at)
            .field("watch_revision", &self.watch_revision)
            .field("sealed", &self.sealed.as_ref().map(|_| "***"))
            .finish_non_exhaustive()
    }
}

impl Store {
    /// The accepted call of this principal and method under this id.
    ///
    /// # Errors
    /// When the database fails or the row is unreadable.
    pub async fn request_get(&self, principal: &str, method: &str, request_id: &str) -> Result<Option<RequestRecord>, Error> {
        let key = (principal.to_owned(), method.to_owned(), request_id.to_owned());
        self.read(move |conn| {
            let row: Option<Row> = requests::table.find(key).get_result(conn).optional()?;
            row.map(Row::restore).transpose()
        })
        .await
    }
}

#[derive(Queryable, Insertable)]
#[diesel(table_name = requests, treat_none_as_default_value = false)]
pub(super) struct Row {
    principal: String,
    method: String,
    request_id: String,
    hash: String,
    session_id: String,
    created_at: i64,
    watch_revision: i64,
    sealed: Option<Vec<u8>>,
}

impl Row {
    pub(super) fn of(record: RequestRecord) -> Self {
        Self {
            principal: record.principal,
            method: record.method,
            request_id: record.request_id,
            hash: record.hash,
            session_id: record.session.to_string(),
            created_at: record.created_at.millis(),
            watch_revision: record.watch_revision,
            sealed: record.sealed,
        }
    }

    fn restore(self) -> Result<RequestRecord, Error> {
        let session = self.session_id.parse().map_err(|_| Error::Unreadable(format!("request {}: no session id", self.request_id)))?;
        Ok(RequestRecord {
            principal: self.principal,
            method: self.method,
            request_id: self.request_id,
            hash: self.hash,
            session,
            created_at: Time::from_millis(self.created_at),
            watch_revision: self.watch_revision,
            sealed: self.sealed,
        })
    }

    pub(super) fn insert(&self, conn: &mut SqliteConnection) -> Result<(), Error> {
        diesel::insert_into(requests::table).values(self).execute(conn)?;
        Ok(())
    }
}
