//! Tokens by name: who may call. Of a token only its hash is here. Revoked ones stay, so that a name in the audit always
//! means the same one.

use crate::domain::access::Role;
use crate::domain::ids::ConsumerId;
use crate::domain::time::Time;
use crate::store::error::Error;
use crate::store::schema::tokens;
use crate::store::{AuditRecord, Store};
use diesel::prelude::*;
use std::fmt;

/// A token, without its text.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its name; never given twice.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// Whose sessions alone its bearer sees and touches; `None` = all.
    pub consumer: Option<ConsumerId>,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    /// Since when it is.
    pub created_at: Time,
    /// Who made it.
    pub created_by: String,
    /// Until when it is good; `None` = until it is revoked.
    pub expires_at: Option<Time>,
    /// Since when it is good no more.
    pub revoked_at: Option<Time>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
}

impl fmt::Debug for TokenRecord {
    /// Without the hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRecord").field("name", &self.name).field("role", &self.role).field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

impl Store {
    /// Puts a token down, and who did that; false, and nothing is written, when the name was ever given before.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn token_insert(&self, record: TokenRecord, audit: AuditRecord) -> Result<bool, Error> {
        self.write(move |conn| {
            let row = Row::of(&record);
            let taken: i64 = tokens::table.filter(tokens::name.eq(&row.name)).count().get_result(conn)?;
            if taken > 0 {
                return Ok(false);
            }
            diesel::insert_into(tokens::table).values(&row).execute(conn)?;
            audit.insert(conn)?;
            Ok(true)
        })
        .await
    }

    /// Ends a token, and puts down who did that; false, and nothing is written, when none of that name is good.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn token_revoke(&self, name: &str, audit: AuditRecord) -> Result<bool, Error> {
        let name = name.to_owned();
        self.write(move |conn| {
            let good = tokens::table.filter(tokens::name.eq(&name)).filter(tokens::revoked_at.is_null());
            let changed = (tokens::revoked_at.eq(audit.at.millis()), tokens::revoked_by.eq(&audit.actor));
            if diesel::update(good).set(changed).execute(conn)? == 0 {
                return Ok(false);
            }
            audit.insert(conn)?;
            Ok(true)
        })
        .await
    }

    /// Every token there ever was, by name.
    ///
    /// # Errors
    /// When the database fails, or a row is unreadable.
    pub async fn token_list(&self) -> Result<Vec<TokenRecord>, Error> {
        self.read(move |conn| {
            let rows: Vec<Row> = tokens::table.order(tokens::name.asc()).load(conn)?;
            rows.into_iter().map(Row::restore).collect()
        })
        .await
    }
}

#[derive(Queryable, Insertable)]
#[diesel(table_name = tokens, treat_none_as_default_value = false)]
struct Row {
    name: String,
    role: String,
    consumer_id: Option<String>,
    hash: Vec<u8>,
    created_at: i64,
    created_by: String,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    revoked_by: Option<String>,
}

impl Row {
    fn of(record: &TokenRecord) -> Self {
        Self {
            name: record.name.clone(),
            role: record.role.word().to_owned(),
            consumer_id: record.consumer.as_ref().map(ToString::to_string),
            hash: record.hash.to_vec(),
            created_at: record.created_at.millis(),
            created_by: record.created_by.clone(),
            expires_at: record.expires_at.map(Time::millis),
            revoked_at: record.revoked_at.map(Time::millis),
            revoked_by: record.revoked_by.clone(),
        }
    }

    fn restore(self) -> Result<TokenRecord, Error> {
        let wrong = |what: &str| Error::Unreadable(format!("token {}: {what}", self.name));
        Ok(TokenRecord {
            role: Role::parse(&self.role).ok_or_else(|| wrong("its role"))?,
            consumer: self.consumer_id.as_deref().map(ConsumerId::parse).transpose().map_err(|_| wrong("its consumer"))?,
            hash: self.hash.as_slice().try_into().map_err(|_| wrong("its hash"))?,
            created_at: Time::from_millis(self.created_at),
            expires_at: self.expires_at.map(Time::from_millis),
            revoked_at: self.revoked_at.map(Time::from_millis),
            created_by: self.created_by,
            revoked_by: self.revoked_by,
            name: self.name,
        })
    }
}
