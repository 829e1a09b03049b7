//! What a simulator needs of the database: a journal of every change, and when the next work is due.
//!
//! The journal is written by triggers inside the transactions it reports, so a backup and a copy carry it along.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::pool::PoolConnection;
use sqlx::{FromRow, SqliteConnection};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::sql::on_db;
use super::{Backend, Result, Sqlite, Store};

/// The one connection of a simulation. To give it back to the pool after each statement, and ask for it again,
/// would take longer than the statements.
#[derive(Default)]
pub(crate) struct Kept {
    connection: Mutex<Option<PoolConnection<sqlx::Sqlite>>>,
    written: Arc<Written>,
}

/// Rows that were written, also by what was rolled back.
#[derive(Default)]
struct Written {
    journal: AtomicU64,
    /// In tables that say when somebody has work.
    waking: AtomicU64,
}

impl Written {
    fn note(&self, table: &str) {
        match table {
            "journal" => &self.journal,
            "charge" | "subscription" | "outbox" | "webhook_event" | "enrolment" => &self.waking,
            _ => return,
        }
        .fetch_add(1, Ordering::SeqCst);
    }
}

impl Kept {
    pub(super) async fn give_back(&self) {
        self.connection.lock().await.take();
    }
}

impl Sqlite {
    /// For one statement or one transaction.
    pub(super) async fn connection(&self) -> Result<MappedMutexGuard<'_, SqliteConnection>, sqlx::Error> {
        let mut kept = self.kept.connection.lock().await;
        if kept.is_none() {
            let mut connection = self.pool.acquire().await?;
            let written = self.kept.written.clone();
            connection.lock_handle().await?.set_update_hook(move |row| written.note(row.table));
            *kept = Some(connection);
        }
        Ok(MutexGuard::map(kept, |kept| &mut **kept.as_mut().expect("it was taken above")))
    }
}

/// One change of one row, committed.
#[derive(Clone, Debug, FromRow)]
pub struct Change {
    /// Rises with every change.
    pub seq: i64,
    /// Which table.
    pub kind: String,
    /// The row's columns that matter, as JSON.
    pub row: String,
}

/// When each job has work next, Unix seconds.
#[derive(Clone, Debug, FromRow)]
pub struct Wake {
    /// The job's name.
    pub job: String,
    /// When.
    pub at: i64,
}

/// What is stored for an idempotency key.
#[derive(Clone, Debug, FromRow)]
pub struct StoredRequest {
    /// State of the attempt, or `session`, or `enrolment`.
    pub state: String,
    /// The exact body.
    pub body: String,
    /// When the key was marked as used first.
    pub first_sent_at: Option<i64>,
    /// Since when a 5xx is known to have been answered.
    pub poisoned_at: Option<i64>,
}

const TABLES: &[(&str, &str, &str)] = &[
    (
        "charge",
        "'id', NEW.id, 'subscription', NEW.subscription_id, 'period', NEW.period_index, 'customer', NEW.customer_id, \
         'amount', NEW.amount_minor, 'currency', NEW.currency, 'due_at', NEW.due_at, 'state', NEW.state, \
         'next_action', NEW.next_action, 'next_at', NEW.next_at, 'until_at', NEW.until_at, 'version', NEW.version, 'declines', NEW.dunning_declines",
        "OLD.state <> NEW.state OR OLD.next_action IS NOT NEW.next_action OR OLD.next_at IS NOT NEW.next_at \
         OR OLD.until_at IS NOT NEW.until_at OR OLD.amount_minor <> NEW.amount_minor \
         OR OLD.dunning_declines IS NOT NEW.dunning_declines",
    ),
    (
        "attempt",
        "'charge', NEW.charge_id, 'number', NEW.number, 'key', NEW.idempotency_key, 'state', NEW.state, \
         'sends', NEW.sends, 'poisoned', NEW.poisoned_at, 'first_sent_at', NEW.first_sent_at",
        "OLD.state <> NEW.state OR OLD.sends <> NEW.sends OR OLD.poisoned_at IS NOT NEW.poisoned_at",
    ),
    (
        "collector",
        "'charge', NEW.charge_id, 'generation', NEW.generation, 'kind', NEW.kind, 'state', NEW.state, 'id', NEW.stripe_id",
        "OLD.state <> NEW.state OR OLD.stripe_id IS NOT NEW.stripe_id",
    ),
    (
        "subscription",
        "'id', NEW.id, 'state', NEW.state, 'next_index', NEW.next_index, 'plan', NEW.plan, \
         'anchor', NEW.anchor_date, 'zone', NEW.time_zone",
        "OLD.state <> NEW.state OR OLD.next_index <> NEW.next_index",
    ),
    (
        "outbox",
        "'id', NEW.id, 'subject', NEW.subject, 'step', NEW.step, 'kind', NEW.kind, 'template', NEW.template, \
         'state', NEW.state, 'error', NEW.error",
        "OLD.state <> NEW.state",
    ),
    (
        "instance",
        "'witness', NEW.witness, 'nonce', NEW.nonce, 'before', NEW.nonces_before, 'halted', NEW.halted_why, 'behind', NEW.behind_since",
        "OLD.witness IS NOT NEW.witness OR OLD.nonce IS NOT NEW.nonce OR OLD.halted_why IS NOT NEW.halted_why \
         OR OLD.behind_since IS NOT NEW.behind_since",
    ),
    ("network_budget", "'id', NEW.id", "FALSE"),
    ("audit", "'subject', NEW.subject, 'what', NEW.what", "FALSE"),
    ("webhook_event", "'id', NEW.id, 'state', NEW.state", "OLD.state <> NEW.state"),
    (
        "customer",
        "'id', NEW.id, 'stripe', NEW.stripe_customer, 'mail', NEW.mail_state, 'hold', NEW.hold_why, 'cardless', NEW.payment_method IS NULL",
        "OLD.mail_state <> NEW.mail_state OR OLD.hold_why IS NOT NEW.hold_why \
      OR (OLD.payment_method IS NULL) <> (NEW.payment_method IS NULL)",
    ),
];

impl Store {
    /// Begins the journal. Only for a fresh SQLite database.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn keep_journal(&self) -> Result<()> {
        let Backend::Sqlite(sqlite) = self.backend() else { return Ok(()) };
        let mut statements = vec![
            "CREATE TABLE journal (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, row TEXT NOT NULL)".into(),
        ];
        for (table, columns, changed) in TABLES {
            let write =
                format!("INSERT INTO journal (kind, row) VALUES ('{table}', json_object({columns}));");
            statements.push(format!("CREATE TRIGGER {table}_new AFTER INSERT ON {table} BEGIN {write} END"));
            statements.push(format!(
                "CREATE TRIGGER {table}_changed AFTER UPDATE ON {table} WHEN {changed} BEGIN {write} END"
            ));
        }
        for statement in statements {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&sqlite.pool).await?;
        }
        Ok(())
    }

    /// Takes the one connection out of its pool. To be called in the midst of a simulation: there a statement waits without
    /// letting the pool's own tasks run.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn keep_connection(&self) -> Result<()> {
        if let Backend::Sqlite(sqlite) = self.backend() {
            drop(sqlite.connection().await?);
        }
        Ok(())
    }

    /// Rises when the journal grows: as long as it stays the same, [`Store::changes`] finds nothing new.
    #[must_use]
    pub fn journal_writes(&self) -> u64 {
        match self.backend() {
            Backend::Sqlite(sqlite) => sqlite.kept.written.journal.load(Ordering::SeqCst),
            Backend::Postgres(_) => 0,
        }
    }

    /// Rises when work may have changed: as long as it stays the same, [`Store::wakes`] says the same.
    #[must_use]
    pub fn waking_writes(&self) -> u64 {
        match self.backend() {
            Backend::Sqlite(sqlite) => sqlite.kept.written.waking.load(Ordering::SeqCst),
            Backend::Postgres(_) => 0,
        }
    }

    /// The changes after one.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn changes(&self, seq: i64) -> Result<Vec<Change>> {
        const AFTER: &str = "SELECT seq, kind, row FROM journal WHERE seq > $1 ORDER BY seq";
        Ok(on_db!(self, db => sqlx::query_as(AFTER).bind(seq).fetch_all(db).await?))
    }

    /// When each job has work next.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn wakes(&self) -> Result<Vec<Wake>> {
        const WAKES: &str = "SELECT wake_for AS job, MIN(wake_at) AS at FROM charge WHERE wake_at IS NOT NULL GROUP BY wake_for \
            UNION ALL SELECT 'materialize', next_due_at FROM (SELECT MIN(next_due_at - ahead_secs) AS next_due_at FROM subscription \
            WHERE state = 'active' AND next_due_at IS NOT NULL) WHERE next_due_at IS NOT NULL \
            UNION ALL SELECT 'notify', at FROM (SELECT MIN(wake_at) AS at FROM outbox WHERE state = 'pending') WHERE at IS NOT NULL \
            UNION ALL SELECT 'receive', at FROM (SELECT MIN(wake_at) AS at FROM webhook_event WHERE state = 'pending') WHERE at IS NOT NULL \
            UNION ALL SELECT 'enrol', at FROM (SELECT MIN(created_at) + 121 AS at FROM enrolment WHERE state IN ('opening', 'open')) WHERE at IS NOT NULL";
        Ok(on_db!(self, db => sqlx::query_as(WAKES).fetch_all(db).await?))
    }

    /// What is stored under an idempotency key.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn request_of_key(&self, key: &str) -> Result<Option<StoredRequest>> {
        const FIND: &str = "SELECT state, body, first_sent_at, poisoned_at FROM attempt WHERE idempotency_key = $1 \
            UNION ALL SELECT 'session', COALESCE(body, ''), opened_at, NULL FROM collector WHERE idempotency_key = $1 \
            UNION ALL SELECT 'enrolment', body, created_at, NULL FROM enrolment WHERE idempotency_key = $1";
        Ok(on_db!(self, db => sqlx::query_as(FIND).bind(key).fetch_optional(db).await?))
    }

    /// Writes a whole copy of a SQLite database to a new file.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn copy_to(&self, path: &std::path::Path) -> Result<()> {
        const COPY: &str = "VACUUM INTO $1";
        let path = path.to_string_lossy().into_owned();
        on_db!(self, db => { sqlx::query(COPY).bind(path).execute(db).await?; });
        Ok(())
    }
}
