//! How one SQL text serves two databases.
//!
//! Placeholders are `$n`, types are TEXT and BIGINT, and both databases know `RETURNING`, `ON CONFLICT` and partial
//! indexes. Where they differ, both texts stand side by side under `Differs:`.
//!
//! `LIMIT CAST($n AS BIGINT)` and not `LIMIT $n`: SQLite plans by the value of a bare one, and compiles the statement anew
//! each time it is run.

/// A statement in both dialects.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sql {
    pub sqlite: &'static str,
    pub postgres: &'static str,
}

/// A statement over a batch of rows that are passed as one JSON array in `$1` and named `r` in the text.
///
/// Differs: SQLite reads JSON with `jsonb_each` (`json_each` would write each row out as text, only for `->>` to parse
/// it again), PostgreSQL with `json_to_recordset`. One statement for hundreds of
/// rows is what makes a batch cheap on both.
macro_rules! batch {
    ($(#[$doc:meta])* $name:ident = $head:expr, ($($column:ident $type:ident),+), $tail:expr) => {
        $(#[$doc])*
        pub(super) const $name: $crate::store::sql::Sql = $crate::store::sql::Sql {
            sqlite: concat!(
                $head, " (SELECT ",
                $("value->>'", stringify!($column), "' AS ", stringify!($column), ", ",)+
                "0 AS row_end FROM jsonb_each($1)) AS r ", $tail
            ),
            postgres: concat!(
                $head, " json_to_recordset($1::json) AS r(",
                $(stringify!($column), " ", stringify!($type), ", ",)+
                "row_end INT) ", $tail
            ),
        };
    };
}
pub(super) use batch;

/// Runs a query expression on whichever database this store is: `on_db!(store, db => query.fetch_all(db).await)`.
macro_rules! on_db {
    ($store:expr, $db:ident => $body:expr) => {
        match $store.backend() {
            $crate::store::Backend::Sqlite(sqlite) => {
                $crate::failpoint::at_once(async {
                    let mut connection = sqlite.connection().await?;
                    let $db = &mut *connection;
                    let value = $body;
                    Ok::<_, $crate::store::StoreError>(value)
                })
                .await?
            }
            $crate::store::Backend::Postgres(pool) => {
                let mut connection = pool.acquire().await?;
                let $db = &mut *connection;
                $body
            }
        }
    };
}
pub(super) use on_db;

/// Runs a block in one transaction: `in_tx!(store, tx => { ...; value })`. An early `?` rolls back.
///
/// Differs: SQLite has one writer. It begins IMMEDIATE, so that a busy database is found before work is done, and
/// writers of this process queue on a fair lock instead of polling the file's.
macro_rules! in_tx {
    ($store:expr, $tx:ident => $body:block) => {
        match $store.backend() {
            $crate::store::Backend::Sqlite(sqlite) => {
                $crate::failpoint::at_once(async {
                    let _writing = sqlite.writer.lock().await;
                    $crate::store::sql::hindered("begin")?;
                    let mut connection = sqlite.connection().await?;
                    let mut transaction =
                        sqlx::Connection::begin_with(&mut *connection, "BEGIN IMMEDIATE").await?;
                    let value = {
                        let $tx = &mut *transaction;
                        $body
                    };
                    transaction.commit().await?;
                    $crate::store::sql::hindered("committed")?;
                    Ok::<_, $crate::store::StoreError>(value)
                })
                .await?
            }
            $crate::store::Backend::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                let value = {
                    let $tx = &mut *transaction;
                    $body
                };
                transaction.commit().await?;
                value
            }
        }
    };
}
pub(super) use in_tx;

/// Runs one writing statement, which is a transaction of its own: `alone!(store, db => query.execute(db).await?)`.
///
/// Differs: writers of SQLite queue as in [`in_tx`], and need neither BEGIN nor COMMIT for this.
macro_rules! alone {
    ($store:expr, $db:ident => $body:expr) => {
        match $store.backend() {
            $crate::store::Backend::Sqlite(sqlite) => {
                $crate::failpoint::at_once(async {
                    let _writing = sqlite.writer.lock().await;
                    $crate::store::sql::hindered("begin")?;
                    let mut connection = sqlite.connection().await?;
                    let $db = &mut *connection;
                    let value = $body;
                    $crate::store::sql::hindered("committed")?;
                    Ok::<_, $crate::store::StoreError>(value)
                })
                .await?
            }
            $crate::store::Backend::Postgres(pool) => {
                let mut connection = pool.acquire().await?;
                let $db = &mut *connection;
                $body
            }
        }
    };
}
pub(super) use alone;

/// A simulation may let the database be busy, or lose the answer to a commit.
#[inline]
pub(super) fn hindered(moment: &'static str) -> Result<(), sqlx::Error> {
    if crate::failpoint::database_fails(moment) {
        return Err(sqlx::Error::Protocol(format!("the database failed ({moment})")));
    }
    Ok(())
}
