//! How the database goes about what it is asked: every statement that this store runs can be heard, and its plan asked for. So a
//! test sees that none reads a whole table, whichever statements there are.

use crate::store::Store;
use crate::store::error::Error;
use diesel::connection::{Connection, InstrumentationEvent};
use diesel::prelude::*;
use diesel::sql_types::Text;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    detail: String,
}

impl Store {
    /// Tells each statement that is run from here on, without its values, by the connection that does what comes next: of an
    /// inline store there is one, which does everything.
    ///
    /// # Errors
    /// When the store is closed.
    pub async fn statements_told(&self, mut tell: impl FnMut(String) + Send + 'static) -> Result<(), Error> {
        self.inner
            .engine
            .bare(move |conn| {
                conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
                    if let InstrumentationEvent::StartQuery { query, .. } = event {
                        let text = query.to_string();
                        tell(text.split(" -- binds").next().unwrap_or_default().trim().to_owned());
                    }
                });
                Ok(())
            })
            .await
    }

    /// The steps by which the database would run a statement, in its own words.
    ///
    /// # Errors
    /// When it is no statement.
    pub async fn statement_plan(&self, statement: &str) -> Result<Vec<String>, Error> {
        let explain = format!("EXPLAIN QUERY PLAN {statement}");
        self.read(move |conn| {
            let lines: Vec<Line> = diesel::sql_query(explain).load(conn)?;
            Ok(lines.into_iter().map(|line| line.detail).collect())
        })
        .await
    }
}
