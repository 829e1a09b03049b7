//! The instance: which account this database belongs to, when it was last alive, its runs and its audit trail.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::rows::{damaged, instant};
use super::sql::{in_tx, on_db};
use super::{Result, Store};
use crate::billing::ids::InstanceId;

/// This installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Part of every idempotency key and of every object's metadata.
    pub id: InstanceId,
    /// Stripe account it is bound to, once known.
    pub stripe_account: Option<String>,
    /// `test` or `live`, once known.
    pub mode: Option<String>,
    /// When something last ran.
    pub heartbeat_at: Timestamp,
    /// Why nothing may be charged, if so.
    pub halted_why: Option<String>,
    /// When a person last let charging go on.
    pub cleared_at: Option<Timestamp>,
    /// When this database was made.
    pub created_at: Timestamp,
    /// The customer in Stripe (`cus_`) that holds the newest nonce.
    pub witness: Option<String>,
    /// The newest nonce.
    pub nonce: Option<String>,
    /// Those before, the newest first, with spaces between them.
    pub nonces_before: String,
    /// Since when the nonce is the newest.
    pub nonce_at: Option<Timestamp>,
    /// Since when Stripe may know more than this database, while it was not recovered.
    pub behind_since: Option<Timestamp>,
    /// How often it was recovered.
    pub recoveries: u32,
    /// When it was recovered last.
    pub recovered_at: Option<Timestamp>,
}

#[derive(FromRow)]
struct Row {
    id: String,
    stripe_account: Option<String>,
    mode: Option<String>,
    heartbeat_at: i64,
    halted_why: Option<String>,
    cleared_at: Option<i64>,
    created_at: i64,
    witness: Option<String>,
    nonce: Option<String>,
    nonces_before: String,
    nonce_at: Option<i64>,
    behind_since: Option<i64>,
    recoveries: i64,
    recovered_at: Option<i64>,
}

/// One execution of one job.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// Which job.
    pub job: String,
    /// Unix seconds.
    pub started_at: i64,
    /// Unix seconds; empty while it runs, or if it died.
    pub finished_at: Option<i64>,
    /// Counts, as JSON.
    pub report: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

/// One line of the audit trail.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct AuditEntry {
    /// Unix seconds.
    pub at: i64,
    /// Who.
    pub who: String,
    /// What was done.
    pub what: String,
    /// To which id.
    pub subject: String,
    /// Why, or the details.
    pub detail: String,
}

impl Store {
    /// The instance, created on first use.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn instance(&self, now: Timestamp) -> Result<Instance> {
        const CREATE: &str = "INSERT INTO instance (singleton, id, created_at, heartbeat_at) VALUES (1, $1, $2, $2) ON CONFLICT DO NOTHING";
        const READ: &str = "SELECT id, stripe_account, mode, heartbeat_at, halted_why, cleared_at, created_at, witness, \
            nonce, nonces_before, nonce_at, behind_since, recoveries, recovered_at FROM instance WHERE singleton = 1";
        let row: Row = match on_db!(self, db => sqlx::query_as(READ).fetch_optional(db).await?) {
            Some(row) => row,
            None => {
                let id = InstanceId(crate::chance::uuid()).to_string();
                in_tx!(self, tx => {
                    sqlx::query(CREATE).bind(&id).bind(now.as_second()).execute(&mut *tx).await?;
                    sqlx::query_as(READ).fetch_one(tx).await?
                })
            }
        };
        let wrong = || damaged("instance", &row.id, "its id is not a UUID");
        Ok(Instance {
            id: row.id.parse().map_err(|_| wrong())?,
            heartbeat_at: instant(row.heartbeat_at).ok_or_else(wrong)?,
            stripe_account: row.stripe_account,
            mode: row.mode,
            halted_why: row.halted_why,
            cleared_at: row.cleared_at.and_then(instant),
            created_at: instant(row.created_at).ok_or_else(wrong)?,
            witness: row.witness,
            nonce: row.nonce,
            nonces_before: row.nonces_before,
            nonce_at: row.nonce_at.and_then(instant),
            behind_since: row.behind_since.and_then(instant),
            recoveries: u32::try_from(row.recoveries).unwrap_or(0),
            recovered_at: row.recovered_at.and_then(instant),
        })
    }

    /// Binds the database to a Stripe account and mode. It can be bound once.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn bind_instance(&self, account: &str, mode: &str) -> Result<()> {
        const BIND: &str = "UPDATE instance SET stripe_account = $1, mode = $2 WHERE stripe_account IS NULL";
        on_db!(self, db => {
            sqlx::query(BIND).bind(account).bind(mode).execute(db).await?;
        });
        Ok(())
    }

    /// Why charging is halted, if it is.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn halted(&self) -> Result<Option<String>> {
        const READ: &str = "SELECT halted_why FROM instance WHERE singleton = 1";
        Ok(on_db!(self, db => sqlx::query_scalar(READ).fetch_optional(db).await?).flatten())
    }

    /// Halts charging in every process on this database. Whether it was running: the first reason stays.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn halt(&self, why: &str, now: Timestamp) -> Result<bool> {
        const HALT: &str = "UPDATE instance SET halted_at = $1, halted_why = $2 WHERE halted_why IS NULL";
        let changed = on_db!(self, db => {
            sqlx::query(HALT).bind(now.as_second()).bind(why).execute(db).await?.rows_affected()
        });
        Ok(changed > 0)
    }

    /// Lets charging go on. Whether it was halted, and not because the database is behind.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn resume(&self, now: Timestamp) -> Result<bool> {
        const RESUME: &str = "UPDATE instance SET halted_at = NULL, halted_why = NULL, cleared_at = $1 \
            WHERE halted_why IS NOT NULL AND behind_since IS NULL";
        Ok(on_db!(self, db => sqlx::query(RESUME).bind(now.as_second()).execute(db).await?.rows_affected())
            > 0)
    }

    /// Says that something runs.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn heartbeat(&self, now: Timestamp) -> Result<()> {
        const BEAT: &str = "UPDATE instance SET heartbeat_at = $1 WHERE heartbeat_at < $1";
        on_db!(self, db => {
            sqlx::query(BEAT).bind(now.as_second()).execute(db).await?;
        });
        Ok(())
    }

    /// Records the beginning of a run.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn begin_run(&self, job: &str, now: Timestamp) -> Result<Uuid> {
        const BEGIN: &str = "INSERT INTO run (id, job, started_at) VALUES ($1, $2, $3)";
        let id = crate::chance::uuid();
        on_db!(self, db => {
            sqlx::query(BEGIN).bind(id.to_string()).bind(job).bind(now.as_second()).execute(db).await?;
        });
        Ok(id)
    }

    /// Records the end of a run.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn finish_run(
        &self,
        id: Uuid,
        report: &str,
        error: Option<&str>,
        now: Timestamp,
    ) -> Result<()> {
        const FINISH: &str = "UPDATE run SET finished_at = $2, report = $3, error = $4 WHERE id = $1";
        on_db!(self, db => {
            sqlx::query(FINISH)
                .bind(id.to_string())
                .bind(now.as_second())
                .bind(report)
                .bind(error)
                .execute(db)
                .await?;
        });
        Ok(())
    }

    /// The newest run of every job.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn last_runs(&self) -> Result<Vec<Run>> {
        const LAST: &str = "SELECT id, job, started_at, finished_at, report, error FROM run WHERE id IN (\
            SELECT id FROM run r WHERE NOT EXISTS (SELECT 1 FROM run n WHERE n.job = r.job AND n.started_at > r.started_at)) ORDER BY job";
        Ok(on_db!(self, db => sqlx::query_as(LAST).fetch_all(db).await?))
    }

    /// Forgets runs that finished before an instant.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn forget_runs(&self, before: Timestamp) -> Result<u64> {
        const FORGET: &str = "DELETE FROM run WHERE finished_at < $1";
        Ok(
            on_db!(self, db => sqlx::query(FORGET).bind(before.as_second()).execute(db).await?.rows_affected()),
        )
    }

    /// Appends to the audit trail.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn audit(
        &self,
        who: &str,
        what: &str,
        subject: &str,
        detail: &str,
        now: Timestamp,
    ) -> Result<()> {
        const APPEND: &str =
            "INSERT INTO audit (id, at, who, what, subject, detail) VALUES ($1, $2, $3, $4, $5, $6)";
        on_db!(self, db => {
            sqlx::query(APPEND)
                .bind(crate::chance::uuid().to_string())
                .bind(now.as_second())
                .bind(who)
                .bind(what)
                .bind(subject)
                .bind(detail)
                .execute(db)
                .await?;
        });
        Ok(())
    }

    /// The audit trail of one subject, oldest first.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn audit_of(&self, subject: &str) -> Result<Vec<AuditEntry>> {
        const LIST: &str =
            "SELECT at, who, what, subject, detail FROM audit WHERE subject = $1 ORDER BY at, id";
        Ok(on_db!(self, db => sqlx::query_as(LIST).bind(subject).fetch_all(db).await?))
    }
}
