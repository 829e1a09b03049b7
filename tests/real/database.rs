//! A way around the program into its database.

use std::io::Write as _;
use std::path::Path;
use std::sync::Once;

use sqlx::postgres::PgPool;
use sqlx::sqlite::SqlitePool;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// The environment variable that names the throwaway PostgreSQL server.
const POSTGRES_URL: &str = "RECURD_TEST_POSTGRES_URL";

/// A database of its own for one test.
pub(crate) enum Database {
    Sqlite { url: String },
    Postgres { url: String, server: String, name: String },
}

impl Database {
    pub(crate) fn sqlite(dir: &Path) -> Self {
        Self::Sqlite { url: format!("sqlite://{}", dir.join("recurd.db").display()) }
    }

    /// `None`, and a loud line, when there is no PostgreSQL server.
    pub(crate) fn postgres() -> Option<Self> {
        let server = std::env::var(POSTGRES_URL).ok().filter(|url| !url.is_empty()).or_else(told)?;
        Some(Self::postgres_at(&server))
    }

    /// A fresh one on this server.
    pub(crate) fn postgres_at(server: &str) -> Self {
        let name = format!("recurd_test_{}", uuid::Uuid::new_v4().simple());
        administer(server, &format!("CREATE DATABASE {name} TEMPLATE template0")).unwrap();
        let (address, options) = server.split_once('?').unwrap_or((server, ""));
        let (host, _) = address.rsplit_once('/').unwrap();
        let url = format!("{host}/{name}?{options}");
        Self::Postgres { url, server: server.to_owned(), name }
    }

    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Sqlite { url } | Self::Postgres { url, .. } => url,
        }
    }

    pub(crate) fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        block_on(async {
            match self {
                Self::Sqlite { url } => {
                    let pool = SqlitePool::connect(url).await.unwrap();
                    sqlx::raw_sql(sql).execute(&pool).await.unwrap();
                    pool.close().await;
                }
                Self::Postgres { url, .. } => {
                    let pool = PgPool::connect(url).await.unwrap();
                    sqlx::raw_sql(sql).execute(&pool).await.unwrap();
                    pool.close().await;
                }
            }
        });
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Self::Postgres { server, name, .. } = self {
            let dropped = administer(server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
            // A second panic would end the test before it has stopped its processes.
            assert!(dropped.is_ok() || std::thread::panicking(), "{dropped:?}");
        }
    }
}

fn administer(server: &str, sql: &str) -> Result<(), sqlx::Error> {
    let sql = AssertSqlSafe(sql.to_owned());
    block_on(async {
        let mut connection = PgConnection::connect(server).await?;
        sqlx::raw_sql(sql).execute(&mut connection).await?;
        connection.close().await
    })
}

fn told() -> Option<String> {
    static TOLD: Once = Once::new();
    // Not eprintln!: the test harness would swallow it.
    let line = format!("\n!!!! SKIPPED: PostgreSQL: {POSTGRES_URL} is not set, only SQLite is tested\n\n");
    TOLD.call_once(|| std::io::stderr().write_all(line.as_bytes()).unwrap_or_default());
    None
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
