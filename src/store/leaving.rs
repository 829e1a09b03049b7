//! Mails that are about to leave: marked first, and one dunning mail per customer and day whoever sends it.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::charges::json;
use super::sql::{Sql, batch, in_tx, on_db};
use super::{Result, Store};
use crate::billing::ids::{ChargeId, CustomerId};

/// Dunning mails that left, or may have.
macro_rules! dunned {
    () => {
        "o.kind = 'mail' AND (o.state = 'done' OR o.unknowns > 0) \
         AND o.template IN ('payment_failed', 'authentication_required', 'last_notice')"
    };
}

batch! {
    MARK_LEAVING = "UPDATE outbox SET unknowns = outbox.unknowns + 1 FROM",
    (id TEXT, alone_since BIGINT),
    concat!(
        "WHERE outbox.id = r.id AND outbox.state = 'pending' AND outbox.lease_owner = $2 AND outbox.wake_at > $3 ",
        "AND (r.alone_since IS NULL OR NOT EXISTS (SELECT 1 FROM outbox o WHERE o.id <> r.id AND ",
        "o.customer_id = outbox.customer_id AND (o.done_at IS NULL OR o.done_at > r.alone_since) AND ",
        dunned!(), ")) RETURNING outbox.id"
    )
}

/// Whoever marks mails to the same customers at the same moment waits. Differs: SQLite has one writer.
const LOCK_CUSTOMERS: Sql = Sql {
    sqlite: "SELECT id FROM customer WHERE $1 = ''",
    postgres: "SELECT id FROM customer WHERE id = ANY (ARRAY(SELECT o.customer_id FROM json_to_recordset($1::json) AS r(id TEXT, alone_since BIGINT) \
        JOIN outbox o ON o.id = r.id WHERE r.alone_since IS NOT NULL)) ORDER BY id FOR NO KEY UPDATE",
};

/// A mail that is about to leave.
#[derive(Clone, Debug, Serialize)]
pub struct Leaving {
    /// Its promise.
    pub id: Uuid,
    /// It leaves only if no other dunning mail has left for its customer since this instant, Unix seconds.
    pub alone_since: Option<i64>,
}

impl Store {
    /// Marks mails that are about to leave: whatever happens now, they may have. Returns those still leased, and alone where they
    /// must be.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn mark_leaving(&self, leaving: &[Leaving], owner: &str, now: Timestamp) -> Result<Vec<Uuid>> {
        let (lock, mark, rows) = (self.text(LOCK_CUSTOMERS), self.text(MARK_LEAVING), json(&leaving));
        let marked: Vec<String> = in_tx!(self, tx => {
            sqlx::query(lock).bind(&rows).execute(&mut *tx).await?;
            sqlx::query_scalar(mark).bind(&rows).bind(owner).bind(now.as_second()).fetch_all(tx).await?
        });
        Ok(marked.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// How many dunning mails left for this customer since an instant, or may have.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn mails_since(&self, customer: CustomerId, since: Timestamp) -> Result<i64> {
        const COUNT: &str = concat!(
            "SELECT COUNT(*) FROM outbox o WHERE o.customer_id = $1 AND (o.done_at IS NULL OR o.done_at > $2) AND ",
            dunned!()
        );
        Ok(on_db!(self, db => {
            sqlx::query_scalar(COUNT).bind(customer.to_string()).bind(since.as_second()).fetch_one(db).await?
        }))
    }

    /// Whether a mail about this charge's decline left (or may have: the mail server's answer was lost).
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn was_dunned(&self, charge: ChargeId) -> Result<bool> {
        const COUNT: &str = concat!("SELECT COUNT(*) FROM outbox o WHERE o.charge_id = $1 AND ", dunned!());
        let mails: i64 =
            on_db!(self, db => sqlx::query_scalar(COUNT).bind(charge.to_string()).fetch_one(db).await?);
        Ok(mails > 0)
    }
}
