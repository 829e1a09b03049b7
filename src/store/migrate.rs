//! The schema, embedded. Files are never edited after a release; each is one transaction.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migrate, Migration, MigrationType, Migrator};

use super::{Backend, Result, Store, StoreError};

struct Step {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! step {
    ($version:literal, $name:literal) => {
        Step {
            version: $version,
            name: $name,
            sqlite: include_str!(concat!("../../migrations/sqlite/", $name, ".sql")),
            postgres: include_str!(concat!("../../migrations/postgres/", $name, ".sql")),
        }
    };
}

const MIGRATIONS: &[Step] = &[step!(1, "0001_initial")];

fn migrator(text: impl Fn(&Step) -> &'static str) -> Migrator {
    let migration = |step: &Step| {
        let sql = text(step).into_sql_str();
        Migration::new(step.version, step.name.into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect())
}

impl Store {
    /// Brings the schema up to date. Each migration is one transaction.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`] when a newer recurd wrote this database, [`StoreError::Migrate`] when one fails.
    pub async fn migrate(&self) -> Result<()> {
        self.refuse_newer_schema().await?;
        match self.backend() {
            Backend::Sqlite(sqlite) => migrator(|one| one.sqlite).run(&sqlite.pool).await?,
            Backend::Postgres(pool) => migrator(|one| one.postgres).run(pool).await?,
        }
        Ok(())
    }

    /// Version of the schema in the database; `None` in an empty database.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn schema_version(&self) -> Result<Option<i64>> {
        let applied = match self.backend() {
            Backend::Sqlite(sqlite) => {
                let mut connection = sqlite.pool.acquire().await?;
                connection.ensure_migrations_table("_sqlx_migrations").await?;
                connection.list_applied_migrations("_sqlx_migrations").await?
            }
            Backend::Postgres(pool) => {
                let mut connection = pool.acquire().await?;
                connection.ensure_migrations_table("_sqlx_migrations").await?;
                connection.list_applied_migrations("_sqlx_migrations").await?
            }
        };
        Ok(applied.iter().map(|migration| migration.version).max())
    }

    /// Newest schema version this binary knows.
    #[must_use]
    pub fn known_schema_version() -> i64 {
        MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
    }

    async fn refuse_newer_schema(&self) -> Result<()> {
        let known = Self::known_schema_version();
        match self.schema_version().await? {
            Some(found) if found > known => Err(StoreError::NewerSchema { found, known }),
            Some(_) | None => Ok(()),
        }
    }
}
