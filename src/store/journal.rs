//! What a simulator needs of the database: a journal of every committed change, and when the next work is due.
//!
//! Temporary triggers tell of each change by comparing it with its own name under a collation of ours, which is the one
//! way in which SQLite calls us from within a statement. Nothing of it is in the file.

use std::cmp::Ordering;
use std::sync::{Arc, Mutex as Latch, PoisonError};

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
    journal: Arc<Latch<Journal>>,
}

/// What nobody has asked for yet.
#[derive(Default)]
struct Journal {
    /// By the open transaction.
    written: Vec<Change>,
    committed: Vec<Change>,
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
            *kept = Some(self.pool.acquire().await?);
        }
        Ok(MutexGuard::map(kept, |kept| &mut **kept.as_mut().expect("it was taken above")))
    }
}

/// One change of one row, committed.
#[derive(Clone, Debug)]
pub struct Change {
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
         'sends', NEW.sends, 'poisoned', NEW.poisoned_at, 'first_sent_at', NEW.first_sent_at, \
         'card', NEW.card_fingerprint, 'class', NEW.class",
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
        "'id', NEW.id, 'stripe', NEW.stripe_customer, 'mail', NEW.mail_state, 'hold', NEW.hold_why, 'cardless', NEW.payment_method IS NULL, 'fingerprint', NEW.card_fingerprint",
        "OLD.mail_state <> NEW.mail_state OR OLD.hold_why IS NOT NEW.hold_why \
      OR (OLD.payment_method IS NULL) <> (NEW.payment_method IS NULL) \
         OR OLD.card_fingerprint IS NOT NEW.card_fingerprint",
    ),
];

/// When a row has work: its table, the job, the instant (NULL: never). What [`Store::wakes`] asks for, row by row.
const WAKING: &[(&str, &str, &str)] = &[
    ("charge", "{row}.wake_for", "{row}.wake_at"),
    (
        "subscription",
        "'materialize'",
        "CASE WHEN {row}.state = 'active' THEN {row}.next_due_at - {row}.ahead_secs END",
    ),
    ("outbox", "'notify'", "CASE WHEN {row}.state = 'pending' THEN {row}.wake_at END"),
    ("webhook_event", "'receive'", "CASE WHEN {row}.state = 'pending' THEN {row}.wake_at END"),
    ("enrolment", "'enrol'", "CASE WHEN {row}.state IN ('opening', 'open') THEN {row}.created_at + 121 END"),
];

impl Store {
    /// Begins the journal, on the one connection that is used from now on. Only for SQLite, and not from within a task of a
    /// simulation: there a statement waits without letting the pool's own tasks run.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn keep_journal(&self) -> Result<()> {
        let Backend::Sqlite(sqlite) = self.backend() else { return Ok(()) };
        let mut connection = sqlite.connection().await?;
        let mut handle = connection.lock_handle().await?;
        let [told, committed, undone] = std::array::from_fn(|_| sqlite.kept.journal.clone());
        handle.create_collation("journal", move |row, kind| {
            latched(&told).written.push(Change { kind: kind.to_owned(), row: row.to_owned() });
            Ordering::Equal
        })?;
        handle.set_commit_hook(move || {
            let journal = &mut *latched(&committed);
            journal.committed.append(&mut journal.written);
            true
        });
        handle.set_rollback_hook(move || latched(&undone).written.clear());
        drop(handle);
        for statement in triggers() {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *connection).await?;
        }
        Ok(())
    }

    /// What was committed since this was last asked.
    #[must_use]
    pub fn take_changes(&self) -> Vec<Change> {
        match self.backend() {
            Backend::Sqlite(sqlite) => std::mem::take(&mut latched(&sqlite.kept.journal).committed),
            Backend::Postgres(_) => Vec::new(),
        }
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

fn latched(journal: &Latch<Journal>) -> std::sync::MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

fn triggers() -> Vec<String> {
    let trigger = |name: String, event: &str, table: &str, when: String, kind: &str, row: String| {
        format!(
            "CREATE TEMP TRIGGER {name} AFTER {event} ON main.{table} WHEN {when} \
             BEGIN SELECT {row} = '{kind}' COLLATE journal; END"
        )
    };
    let mut triggers = Vec::new();
    for (table, columns, changed) in TABLES {
        let row = format!("json_object({columns})");
        triggers.push(trigger(format!("{table}_new"), "INSERT", table, "TRUE".into(), table, row.clone()));
        triggers.push(trigger(format!("{table}_changed"), "UPDATE", table, (*changed).into(), table, row));
    }
    for (table, job, at) in WAKING {
        let [(old_job, old_at), (job, at)] =
            ["OLD", "NEW"].map(|row| (job.replace("{row}", row), at.replace("{row}", row)));
        let wakes = format!("json_array('{table}', NEW.id, {job}, {at})");
        let sleeps = format!("json_array('{table}', OLD.id, NULL, NULL)");
        let (is_planned, was_planned) = (format!("{at} IS NOT NULL"), format!("{old_at} IS NOT NULL"));
        let is_other = format!("{old_at} IS NOT {at} OR {old_job} IS NOT {job}");
        triggers.push(trigger(format!("{table}_wakes"), "INSERT", table, is_planned, "wake", wakes.clone()));
        triggers.push(trigger(format!("{table}_wakes_then"), "UPDATE", table, is_other, "wake", wakes));
        triggers.push(trigger(format!("{table}_sleeps"), "DELETE", table, was_planned, "wake", sleeps));
    }
    triggers
}
