//! A way around the program into its database.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Once;

use sqlx::postgres::PgPool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// The environment variable that names the throwaway PostgreSQL server.
const POSTGRES_URL: &str = "RECURD_TEST_POSTGRES_URL";

/// A database of its own for one test.
pub(crate) enum Database {
    Sqlite { url: String },
    Postgres { url: String, server: String, name: String },
}

/// The rows of each table as text.
pub(crate) type Everything = BTreeMap<String, Vec<String>>;

impl Database {
    pub(crate) fn sqlite(dir: &Path) -> Self {
        Self::Sqlite { url: format!("sqlite://{}", dir.join("recurd.db").display()) }
    }

    /// `None`, and a loud line, when there is no PostgreSQL server.
    pub(crate) fn postgres() -> Option<Self> {
        let server = std::env::var(POSTGRES_URL).ok().filter(|url| !url.is_empty()).or_else(told)?;
        let name = format!("recurd_cli_{}", uuid::Uuid::new_v4().simple());
        administer(&server, &format!("CREATE DATABASE {name} TEMPLATE template0"));
        let (address, options) = server.split_once('?').unwrap_or((server.as_str(), ""));
        let (host, _) = address.rsplit_once('/').unwrap();
        let url = format!("{host}/{name}?{options}");
        Some(Self::Postgres { url, server, name })
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

    /// Every row of every table, as text. SQLite only.
    pub(crate) fn everything(&self) -> Everything {
        let Self::Sqlite { url } = self else { panic!("only on SQLite") };
        let options: SqliteConnectOptions = url.parse().unwrap();
        block_on(async {
            let pool = SqlitePool::connect_with(options.read_only(true)).await.unwrap();
            let ask = async |sql: String| -> Vec<String> {
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&pool).await.unwrap()
            };
            let mut all = Everything::new();
            for table in ask("SELECT name FROM sqlite_master WHERE type = 'table'".into()).await {
                let columns = ask(format!("SELECT name FROM pragma_table_info('{table}')")).await;
                let text: Vec<String> =
                    columns.iter().map(|name| format!("'{name}=' || quote({name})")).collect();
                let rows = format!("SELECT {} FROM {table} ORDER BY 1", text.join(" || ' ' || "));
                let rows = ask(rows).await;
                all.insert(table, rows);
            }
            pool.close().await;
            all
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Self::Postgres { server, name, .. } = self {
            administer(server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

fn administer(server: &str, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    block_on(async {
        let mut connection = PgConnection::connect(server).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

fn told() -> Option<String> {
    static TOLD: Once = Once::new();
    // Not eprintln!: the test harness would swallow it.
    let line = format!("\n!!!! SKIPPED: PostgreSQL: {POSTGRES_URL} is not set, only SQLite is tested\n\n");
    TOLD.call_once(|| std::io::stderr().write_all(line.as_bytes()).unwrap_or_default());
    None
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
