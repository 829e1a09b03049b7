//! Databases filled for a measurement: plain SQL, the same on both, ids scattered as real ones are.

use std::path::Path;

use anyhow::{Context as _, Result};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Executor as _, PgPool, SqlitePool};

/// A database that can be filled.
pub enum Books {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// How many rows a measurement needs.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// All charges.
    pub charges: u64,
    /// Those of them that are due now; of the others one in ten waits for a later day and nine are paid.
    pub due: u64,
    /// One-off charges need no subscription each.
    pub subscriptions: bool,
}

/// Scatters numbers over 48 bits, one to one.
const SCATTER: u64 = 618_033_988_749;

impl Books {
    pub async fn open(url: &str) -> Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite://") {
            // Filling need not be durable; the measured process opens the file with its own settings.
            let options = SqliteConnectOptions::new()
                .filename(Path::new(path))
                .synchronous(SqliteSynchronous::Off)
                .pragma("cache_size", "-200000")
                .foreign_keys(false);
            return Ok(Self::Sqlite(
                SqlitePoolOptions::new().max_connections(1).connect_with(options).await?,
            ));
        }
        Ok(Self::Postgres(PgPoolOptions::new().max_connections(1).connect(url).await?))
    }

    async fn run(&self, sql: &str) -> Result<()> {
        let statement = sqlx::AssertSqlSafe(sql.to_owned());
        let done = match self {
            Self::Sqlite(pool) => pool.execute(statement).await.map(|_| ()),
            Self::Postgres(pool) => pool.execute(statement).await.map(|_| ()),
        };
        done.with_context(|| format!("filling failed at: {sql}"))
    }

    async fn texts(&self, sql: &str) -> Result<Vec<String>> {
        let statement = sqlx::AssertSqlSafe(sql.to_owned());
        Ok(match self {
            Self::Sqlite(pool) => sqlx::query_scalar(statement).fetch_all(pool).await?,
            Self::Postgres(pool) => sqlx::query_scalar(statement).fetch_all(pool).await?,
        })
    }

    /// The number of charges per state, for the check after a run.
    pub async fn states(&self) -> Result<Vec<String>> {
        self.texts("SELECT state || ' ' || COUNT(*) FROM charge GROUP BY state ORDER BY state").await
    }

    /// The id of row `i` (an SQL expression) of a kind of rows.
    fn id(&self, kind: u8, i: &str) -> String {
        let scattered = format!("(({i}) * {SCATTER}) % 281474976710656");
        let hex = match self {
            Self::Sqlite(_) => format!("printf('%012x', {scattered})"),
            Self::Postgres(_) => format!("lpad(to_hex({scattered}), 12, '0')"),
        };
        format!("(substr({hex}, 1, 8) || '-' || substr({hex}, 9, 4) || '-5000-800{kind}-000000000000')")
    }

    /// Fills customers, subscriptions and charges. Rows go in without secondary indexes, which are made afterwards.
    pub async fn fill(&self, size: Size, now: i64) -> Result<()> {
        if let Self::Postgres(_) = self {
            // No check of foreign keys row by row: what is filled in here fits.
            self.run("SET session_replication_role = replica").await?;
        }
        let customers = if size.subscriptions { size.charges } else { size.charges.div_ceil(10) };
        self.run(&format!(
            "{} INSERT INTO customer (id, stripe_customer, email, name, locale, time_zone, payment_method, card_fingerprint, created_at) \
             SELECT {}, 'cus_' || i, 'c' || i || '@example.com', 'Customer ' || i, 'en', 'UTC', 'pm_' || i, 'fp' || i, {now} FROM n",
            numbers(customers),
            self.id(1, "i"),
        ))
        .await?;
        if size.subscriptions {
            self.run(&format!(
                "{} INSERT INTO subscription (id, customer_id, plan, revision, quantity, state, anchor_date, time_of_day_secs, \
                 time_zone, next_index, next_due_at, created_at) SELECT {}, {}, 'pro', 1, 1, 'active', '2026-01-01', 0, 'UTC', \
                 1, {now} + 2000000, {now} FROM n",
                numbers(size.charges),
                self.id(2, "i"),
                self.id(1, "i"),
            ))
            .await?;
        }
        let indexes = self.drop_indexes().await?;
        let (subscription, period) =
            if size.subscriptions { (self.id(2, "i"), "0") } else { ("NULL".to_owned(), "NULL") };
        let every = (size.charges / size.due).max(1);
        let customer = if size.subscriptions { self.id(1, "i") } else { self.id(1, "((i + 9) / 10)") };
        let due = format!("i % {every} = 0");
        // The due ones were made last, as materializing makes them when their time comes near.
        for (which, state, due_at) in [
            (format!("NOT ({due}) AND i % 10 = 5"), "due", format!("{now} + 86400 + i % 2000000")),
            (format!("NOT ({due}) AND i % 10 <> 5"), "paid", format!("{now} - 86400 - i % 5000000")),
            (due, "due", format!("{now} - 60")),
        ] {
            let (next_at, action, settled_at, intent) = match state {
                "paid" => ("NULL", "NULL", due_at.as_str(), "'pi_' || i"),
                _ => (due_at.as_str(), "'collect'", "NULL", "NULL"),
            };
            self.run(&format!(
                "{} INSERT INTO charge (id, customer_id, subscription_id, period_index, plan, revision, amount_minor, currency, \
                 due_at, description, state, next_at, next_action, settled_at, payment_intent, wake_at, wake_for, created_at) \
                 SELECT {}, {customer}, {subscription}, {period}, 'pro', 1, 2900, 'usd', {due_at}, 'Pro', '{state}', {next_at}, \
                 {action}, {settled_at}, {intent}, {next_at}, {action}, {now} - 60 FROM n WHERE {which} ORDER BY 1",
                numbers(size.charges),
                self.id(3, "i"),
            ))
            .await?;
        }
        for index in indexes {
            self.run(&index).await?;
        }
        match self {
            // As production: autovacuum's statistics are there, and SQLite's planner has none.
            Self::Postgres(_) => self.run("VACUUM ANALYZE").await,
            Self::Sqlite(_) => self.run("PRAGMA wal_checkpoint(TRUNCATE)").await,
        }
    }

    /// Leased charges wake as if nobody had claimed them.
    pub async fn give_back(&self) -> Result<()> {
        self.run("UPDATE charge SET lease_owner = NULL, wake_at = next_at WHERE lease_owner IS NOT NULL")
            .await
    }

    async fn drop_indexes(&self) -> Result<Vec<String>> {
        let (list, names) = match self {
            Self::Sqlite(_) => (
                "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'charge' AND sql IS NOT NULL ORDER BY name",
                "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'charge' AND sql IS NOT NULL",
            ),
            Self::Postgres(_) => (
                "SELECT indexdef FROM pg_indexes i WHERE tablename = 'charge' AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conname = i.indexname) ORDER BY indexname",
                "SELECT indexname FROM pg_indexes i WHERE tablename = 'charge' AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conname = i.indexname)",
            ),
        };
        let definitions = self.texts(list).await?;
        for name in self.texts(names).await? {
            self.run(&format!("DROP INDEX {name}")).await?;
        }
        Ok(definitions)
    }

    pub async fn close(self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

fn numbers(count: u64) -> String {
    format!(
        "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
    )
}
