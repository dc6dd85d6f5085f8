//! Named values that belong to the database itself: the deployment id, the store id.

use crate::store::Store;
use crate::store::error::Error;
use crate::store::schema::meta;
use diesel::prelude::*;

impl Store {
    /// A named value.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn meta_get(&self, key: &str) -> Result<Option<String>, Error> {
        let key = key.to_owned();
        self.read(move |conn| Ok(meta::table.find(key).select(meta::value).get_result(conn).optional()?)).await
    }

    /// Sets a named value, over what was there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn meta_set(&self, key: &str, value: &str) -> Result<(), Error> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.write(move |conn| {
            diesel::insert_into(meta::table)
                .values((meta::key.eq(&key), meta::value.eq(&value)))
                .on_conflict(meta::key)
                .do_update()
                .set(meta::value.eq(&value))
                .execute(conn)?;
            Ok(())
        })
        .await
    }
}
