//! Updates whose statements are prepared once per connection. Diesel prepares an update afresh each time, since which columns
//! it sets may differ from one to the next; these always set the same ones, and they are most of what is written.
//!
//! Reads by a key use `get_result`, not `first`: that one adds `LIMIT ?`, and SQLite prepares a statement afresh each time its
//! limit is bound (<https://sqlite.org/c3ref/prepare.html>: parameters that might influence the plan).

/// Defines an update of one row by its key: `rewrites!(Name(Row) in table by key { column, … })`.
macro_rules! rewrites {
    ($name:ident($row:ty) in $table:ident by $key:ident { $($column:ident),+ $(,)? }) => {
        /// Sets these columns of the row with this key.
        struct $name<'a>(&'a $row);

        impl diesel::query_builder::QueryId for $name<'_> {
            type QueryId = $name<'static>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl $name<'_> {
            /// Writes the statement for a row.
            fn of<'b>(row: &'b $row, out: &mut diesel::query_builder::AstPass<'_, 'b, diesel::sqlite::Sqlite>) -> diesel::QueryResult<()> {
                out.push_sql(concat!("UPDATE ", stringify!($table), " SET "));
                let mut between = "";
                $(
                    out.push_sql(between);
                    out.push_sql(concat!(stringify!($column), " = "));
                    out.push_bind_param::<diesel::dsl::SqlTypeOf<$table::$column>, _>(&row.$column)?;
                    between = ", ";
                )+
                let _ = between;
                out.push_sql(concat!(" WHERE ", stringify!($key), " = "));
                out.push_bind_param::<diesel::dsl::SqlTypeOf<$table::$key>, _>(&row.$key)
            }
        }

        impl diesel::query_builder::QueryFragment<diesel::sqlite::Sqlite> for $name<'_> {
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, diesel::sqlite::Sqlite>,
            ) -> diesel::QueryResult<()> {
                Self::of(self.0, &mut out)
            }
        }

        impl diesel::RunQueryDsl<diesel::SqliteConnection> for $name<'_> {}
    };
}

pub(super) use rewrites;
