//! A fresh database for each test, dropped afterwards, also after a failure.

use std::io::Write;
use std::sync::Once;

use recurd::store::Store;
use sqlx::postgres::PgPool;
use sqlx::sqlite::SqlitePool;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// The environment variable that names the throwaway PostgreSQL server.
const POSTGRES_URL: &str = "RECURD_TEST_POSTGRES_URL";

/// A database with the schema, and a way around the store to look at it.
#[derive(Clone)]
pub(crate) struct Db {
    pub(crate) store: Store,
    pub(crate) url: String,
    raw: Raw,
}

#[derive(Clone)]
enum Raw {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Db {
    async fn open(url: String) -> Self {
        let store = Store::open(&url).await.unwrap();
        store.migrate().await.unwrap();
        let raw = match store.kind() {
            "sqlite" => Raw::Sqlite(SqlitePool::connect(&url).await.unwrap()),
            _ => Raw::Postgres(PgPool::connect(&url).await.unwrap()),
        };
        Self { store, url, raw }
    }

    /// Executes a statement behind the store's back.
    pub(crate) async fn execute(&self, sql: &str) -> Result<u64, sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        Ok(match &self.raw {
            Raw::Sqlite(pool) => sqlx::raw_sql(sql).execute(pool).await?.rows_affected(),
            Raw::Postgres(pool) => sqlx::raw_sql(sql).execute(pool).await?.rows_affected(),
        })
    }

    /// What a query for one number answers.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.raw {
            Raw::Sqlite(pool) => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
            Raw::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
        }
    }

    /// A second process on the same database.
    pub(crate) async fn replica(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }

    async fn close(&self) {
        self.store.close().await;
        match &self.raw {
            Raw::Sqlite(pool) => pool.close().await,
            Raw::Postgres(pool) => pool.close().await,
        }
    }
}

/// Runs a contract on a SQLite file.
pub(crate) async fn sqlite<F: Future<Output = ()> + Send + 'static>(contract: impl FnOnce(Db) -> F) {
    let path = std::env::temp_dir().join(format!("recurd-store-{}.db", uuid::Uuid::new_v4().simple()));
    let db = Db::open(format!("sqlite://{}", path.display())).await;
    let result = tokio::spawn(contract(db.clone())).await;
    db.close().await;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    result.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
}

/// Runs a contract on a database of its own on the PostgreSQL server, if there is one.
pub(crate) async fn postgres<F: Future<Output = ()> + Send + 'static>(contract: impl FnOnce(Db) -> F) {
    let Some(server) = postgres_url() else { return };
    let name = format!("recurd_test_{}", uuid::Uuid::new_v4().simple());
    let mut admin = PgConnection::connect(&server).await.unwrap();
    let create = AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE template0"));
    sqlx::raw_sql(create).execute(&mut admin).await.unwrap();
    let (address, options) = server.split_once('?').map_or((server.as_str(), ""), |(url, rest)| (url, rest));
    let (host, _) = address.rsplit_once('/').unwrap();
    let db = Db::open(format!("{host}/{name}?{options}")).await;
    let result = tokio::spawn(contract(db.clone())).await;
    db.close().await;
    let drop = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
    sqlx::raw_sql(drop).execute(&mut admin).await.unwrap();
    result.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
}

fn postgres_url() -> Option<String> {
    static TOLD: Once = Once::new();
    let url = std::env::var(POSTGRES_URL).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        // Not eprintln!: the test harness would swallow it.
        let line = format!("SKIPPED: PostgreSQL: {POSTGRES_URL} is not set, only SQLite is tested\n");
        TOLD.call_once(|| std::io::stderr().write_all(line.as_bytes()).unwrap_or_default());
    }
    url
}

/// Makes two tests of one contract.
macro_rules! on_both {
    ($($(#[$doc:meta])* async fn $name:ident($db:ident: Db) $body:block)+) => {$(
        $(#[$doc])*
        mod $name {
            use super::*;

            async fn contract($db: Db) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn on_sqlite() {
                crate::database::sqlite(contract).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn on_postgres() {
                crate::database::postgres(contract).await;
            }
        }
    )+};
}
pub(crate) use on_both;
