//! ALL SQL. One store for SQLite and PostgreSQL; nobody outside this module writes a statement.

mod attempts;
mod charges;
mod completed;
mod customers;
mod enrolments;
mod events;
mod history;
mod instance;
#[cfg(feature = "simulation")]
pub mod journal;
mod ladders;
mod leases;
mod leaving;
mod links;
mod migrate;
mod mount;
mod notices;
mod outbox;
mod plans;
mod reports;
mod rows;
mod settle;
mod spending;
mod sql;
mod subscriptions;
mod witness;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Mutex;

pub use attempts::{AttemptRow, AttemptUpdate, NewAttempt};
pub use charges::{ChargeFilter, Claimed, NewCharge, Prepared};
pub use customers::{Card, Customer, NewConsent, NewCustomer};
pub use enrolments::{Enrolment, NewEnrolment};
pub use events::{NewEvent, StoredEvent};
pub use history::{CaseRow, TryRow};
pub use instance::{AuditEntry, Instance, Run};
pub use leases::UnderWay;
pub use leaving::Leaving;
pub use links::LinkTarget;
pub use notices::Notice;
pub use outbox::{OutboxInsert, OutboxItem, OutboxKind, OutboxResult};
pub use plans::PlanRevision;
pub use reports::{Attention, Promise, Story, StoryLine, Totals};
pub use settle::{Admit, CollectorChange, NetworkTry, Settled, Settlement};
pub use subscriptions::{DueSubscription, Materialized, NewSubscription, Subscription};
pub use witness::Untold;

/// Limit: how long a statement waits for another process that holds SQLite's write lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Limit: connections of one process. SQLite has one writer; PostgreSQL shares among replicas.
const SQLITE_CONNECTIONS_MAX: u32 = if cfg!(feature = "simulation") { 1 } else { 4 };
/// Limit: more statements than there are here; each is compiled once per connection.
const SQLITE_STATEMENTS_MAX: usize = 400;
/// Pages that one connection keeps: 8 MiB (a negative number counts KiB).
const SQLITE_CACHE: &str = "-8192";
/// The log is folded into the file after this many pages (16 MiB): each time costs two syncs.
const SQLITE_CHECKPOINT_PAGES: &str = "4000";
const POSTGRES_CONNECTIONS_MAX: u32 = 8;
/// Limit: so long may a process be silent within a transaction, shorter than any lease. One that is suspended there, or whose
/// machine is gone, holds its rows' locks: others would skip those rows until it wakes up.
const POSTGRES_PAUSE_MAX: &str = "10s";

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names no database that recurd knows.
    #[error("{0:?} is not a database URL; use sqlite://FILE or postgres://USER@HOST/DATABASE")]
    Url(String),
    /// The database cannot be reached or opened.
    #[error("cannot open the database {url}: {source}")]
    Connect {
        /// The URL without its password.
        url: String,
        /// What the driver said.
        source: sqlx::Error,
    },
    /// The file is not (or no longer) what SQLite wrote.
    #[error(
        "the database {url} is damaged ({source}): put a backup in its place, then look at `recurd recover`"
    )]
    Malformed {
        /// The URL without its password.
        url: String,
        /// What the driver said.
        source: sqlx::Error,
    },
    /// The schema was written by a newer recurd.
    #[error(
        "the database has schema version {found}, this recurd knows {known}: use the newer recurd that wrote it"
    )]
    NewerSchema {
        /// Version in the database.
        found: i64,
        /// Newest version this binary knows.
        known: i64,
    },
    /// SQLite would not be durable.
    #[error(
        "SQLite does not keep {pragma} = {wanted} on this file ({found}): a power cut could forget a charge that was sent"
    )]
    NotDurable {
        /// Which setting.
        pragma: &'static str,
        /// What recurd needs.
        wanted: &'static str,
        /// What the file has.
        found: String,
    },
    /// SQLite's locks do not hold over a network.
    #[error(
        "the SQLite file {file} lies on {kind}, where two machines could write at once: put it on a local disk, or use PostgreSQL"
    )]
    Network {
        /// Which file.
        file: String,
        /// Which file system.
        kind: String,
    },
    /// A standby shows the past: what it calls unpaid may be paid.
    #[error("the database {0} is a standby in recovery: name the primary")]
    Standby(String),
    /// A row does not read back as what it says it is.
    #[error("{what} {id} in the database is damaged: {why}")]
    Damaged {
        /// Kind of row.
        what: &'static str,
        /// Its id.
        id: String,
        /// What is wrong.
        why: String,
    },
    /// Migration failed.
    #[error("the migration failed and was rolled back: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The driver failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// Shorthand.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

pub(crate) enum Backend {
    Sqlite(Box<Sqlite>),
    Postgres(PgPool),
}

pub(crate) struct Sqlite {
    pool: SqlitePool,
    /// Writers of this process queue here.
    writer: Mutex<()>,
    #[cfg(feature = "simulation")]
    kept: journal::Kept,
}

#[cfg(not(feature = "simulation"))]
impl Sqlite {
    /// For one statement or one transaction.
    async fn connection(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Sqlite>, sqlx::Error> {
        self.pool.acquire().await
    }
}

/// The database. Cloning shares its connections.
#[derive(Clone)]
pub struct Store(Arc<Backend>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

/// Whether SQLite says that a file is malformed, or no database at all: <https://sqlite.org/rescode.html#corrupt>
fn is_damage(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| [11, 26].contains(&(code & 0xff)))
}

impl Store {
    /// Opens the database at `url`; a SQLite file is created if it is missing.
    ///
    /// # Errors
    /// [`StoreError::Url`], [`StoreError::Connect`], [`StoreError::Malformed`]; [`StoreError::NotDurable`] and [`StoreError::Network`] where SQLite's
    /// settings or locks do not hold, [`StoreError::Standby`] for a PostgreSQL that only follows.
    pub async fn open(url: &str) -> Result<Self> {
        let connect_error = |source| match without_password(url) {
            url if url.starts_with("sqlite:") && is_damage(&source) => StoreError::Malformed { url, source },
            url => StoreError::Connect { url, source },
        };
        if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url).map_err(connect_error)?;
            if let Some(kind) = mount::network(options.get_filename()) {
                return Err(StoreError::Network { file: options.get_filename().display().to_string(), kind });
            }
            let store = Self::open_sqlite(options).await.map_err(connect_error)?;
            store.assert_durable().await?;
            return Ok(store);
        }
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let options = PgConnectOptions::from_str(url).map_err(connect_error)?;
            let settings = [
                ("synchronous_commit", "on"),
                // Compiling a plan takes longer than running any statement here.
                ("jit", "off"),
                ("idle_in_transaction_session_timeout", POSTGRES_PAUSE_MAX),
            ];
            let options = options.application_name("recurd").options(settings);
            // One connection by hand first: it says why it fails, the pool only that it waited.
            let mut first = options.connect().await.map_err(connect_error)?;
            let standby: bool =
                sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut first).await?;
            first.close().await.map_err(connect_error)?;
            if standby {
                return Err(StoreError::Standby(without_password(url)));
            }
            let pool = PgPoolOptions::new()
                .max_connections(POSTGRES_CONNECTIONS_MAX)
                .acquire_timeout(Duration::from_secs(15))
                .connect_with(options)
                .await
                .map_err(connect_error)?;
            return Ok(Self(Arc::new(Backend::Postgres(pool))));
        }
        Err(StoreError::Url(without_password(url)))
    }

    async fn open_sqlite(options: SqliteConnectOptions) -> Result<Self, sqlx::Error> {
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(SQLITE_STATEMENTS_MAX)
            .pragma("cache_size", SQLITE_CACHE)
            .pragma("wal_autocheckpoint", SQLITE_CHECKPOINT_PAGES)
            .foreign_keys(true);
        let in_memory = options.get_filename() == Path::new(":memory:");
        if !in_memory {
            make_private(options.get_filename())?;
        }
        let pool = SqlitePoolOptions::new()
            .max_connections(if in_memory { 1 } else { SQLITE_CONNECTIONS_MAX })
            .idle_timeout(None)
            .max_lifetime(None)
            // A file does not go away; asking before every statement would double the way to it.
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        Ok(Self(Arc::new(Backend::Sqlite(Box::new(Sqlite {
            pool,
            writer: Mutex::new(()),
            #[cfg(feature = "simulation")]
            kept: journal::Kept::default(),
        })))))
    }

    /// Looks at every page of a SQLite file. `None`: all is well. PostgreSQL looks after its own.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn damage(&self) -> Result<Option<String>> {
        let Backend::Sqlite(sqlite) = self.backend() else { return Ok(None) };
        let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&sqlite.pool).await?;
        Ok((found != "ok").then_some(found))
    }

    async fn assert_durable(&self) -> Result<()> {
        let Backend::Sqlite(sqlite) = self.backend() else { return Ok(()) };
        let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&sqlite.pool).await?;
        if journal != "wal" && journal != "memory" {
            return Err(StoreError::NotDurable { pragma: "journal_mode", wanted: "wal", found: journal });
        }
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&sqlite.pool).await?;
        if synchronous < 2 {
            let found = synchronous.to_string();
            return Err(StoreError::NotDurable { pragma: "synchronous", wanted: "FULL", found });
        }
        Ok(())
    }

    /// `sqlite` or `postgres`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.backend() {
            Backend::Sqlite(_) => "sqlite",
            Backend::Postgres(_) => "postgres",
        }
    }

    /// Closes all connections; SQLite checkpoints its log.
    pub async fn close(&self) {
        match self.backend() {
            Backend::Sqlite(sqlite) => {
                #[cfg(feature = "simulation")]
                sqlite.kept.give_back().await;
                sqlite.pool.close().await;
            }
            Backend::Postgres(pool) => pool.close().await,
        }
    }

    fn backend(&self) -> &Backend {
        &self.0
    }

    fn text(&self, sql: sql::Sql) -> &'static str {
        match self.backend() {
            Backend::Sqlite(_) => sql.sqlite,
            Backend::Postgres(_) => sql.postgres,
        }
    }
}

/// Makes the file if it is missing, for its owner alone: it holds addresses. SQLite's log and index take its rights over.
fn make_private(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// A database URL that may be shown.
#[must_use]
pub fn without_password(url: &str) -> String {
    // Also as a parameter, which the driver accepts.
    let hidden =
        |part: &str| if part.starts_with("password=") { "password=***".to_owned() } else { part.to_owned() };
    let url = match url.split_once('?') {
        Some((url, parameters)) => {
            format!("{url}?{}", parameters.split('&').map(hidden).collect::<Vec<_>>().join("&"))
        }
        None => url.to_owned(),
    };
    let Some((scheme, rest)) = url.split_once("://") else { return url };
    let Some((credentials, host)) = rest.rsplit_once('@') else { return url };
    let user = credentials.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}:***@{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_has_no_password() {
        assert_eq!(without_password("postgres://u:p@ss@h:5432/d"), "postgres://u:***@h:5432/d");
        assert_eq!(
            without_password("postgres://h/d?user=u&password=p&sslmode=require"),
            "postgres://h/d?user=u&password=***&sslmode=require"
        );
        assert_eq!(without_password("sqlite://recurd.db"), "sqlite://recurd.db");
    }
}
