//! What tells a database that it is older than Stripe, and what a recovery changes.

use jiff::Timestamp;
use sqlx::FromRow;

use super::sql::{in_tx, on_db};
use super::{Result, Store};
use crate::billing::ids::{ChargeId, SubscriptionId};

/// A canceled subscription of which Stripe was not told yet.
#[derive(Clone, Debug, FromRow)]
pub struct Untold {
    id: String,
    /// Stripe's customer (`cus_`).
    pub stripe_customer: String,
}

impl Untold {
    /// Our id as a value.
    #[must_use]
    pub fn subscription(&self) -> SubscriptionId {
        SubscriptionId(self.id.parse().unwrap_or_default())
    }
}

impl Store {
    /// Names the customer in Stripe that holds the nonce. It stays, until a recovery finds it deleted.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn set_witness(&self, stripe_customer: &str) -> Result<()> {
        const SET: &str =
            "UPDATE instance SET witness = $1 WHERE witness IS NULL OR behind_since IS NOT NULL";
        on_db!(self, db => {
            sqlx::query(SET).bind(stripe_customer).execute(db).await?;
        });
        Ok(())
    }

    /// Replaces the nonce, if `was` is still the newest. Whether it did: only then may the new one be shown to others.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn next_nonce(&self, was: Option<&str>, new: &str, now: Timestamp) -> Result<bool> {
        const NEXT: &str = "UPDATE instance SET nonces_before = substr(COALESCE(nonce, '') || ' ' || nonces_before, 1, 8192), nonce = $2, \
            nonce_at = $3 WHERE COALESCE(nonce, '') = $1 AND behind_since IS NULL";
        let changed = on_db!(self, db => {
            sqlx::query(NEXT)
                .bind(was.unwrap_or_default())
                .bind(new)
                .bind(now.as_second())
                .execute(db)
                .await?
                .rows_affected()
        });
        Ok(changed > 0)
    }

    /// Stripe may know more than this database since `since`: nothing is charged until it was recovered.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn fall_behind(&self, since: Timestamp, why: &str, now: Timestamp) -> Result<()> {
        const BEHIND: &str = "UPDATE instance SET behind_since = $1, halted_at = $2, halted_why = $3 WHERE behind_since IS NULL";
        on_db!(self, db => {
            sqlx::query(BEHIND).bind(since.as_second()).bind(now.as_second()).bind(why).execute(db).await?;
        });
        Ok(())
    }

    /// Ends a recovery: charging goes on, `nonce` follows on `seen`, and customer mails that wait are dropped, since they
    /// may have been sent before. How many were dropped.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn recovered(&self, seen: &str, nonce: &str, now: Timestamp) -> Result<u64> {
        const DONE: &str = "UPDATE instance SET behind_since = NULL, halted_at = NULL, halted_why = NULL, cleared_at = $3, \
            nonces_before = substr($1 || ' ' || nonces_before, 1, 8192), nonce = $2, nonce_at = $3, recovered_at = $3, recoveries = recoveries + 1 WHERE behind_since IS NOT NULL";
        const DROP: &str = "UPDATE outbox SET state = 'dropped', error = 'perhaps sent before the database was restored', \
            wake_at = NULL, lease_owner = NULL, done_at = $1 WHERE state = 'pending' AND kind = 'mail'";
        Ok(in_tx!(self, tx => {
            let done = sqlx::query(DONE).bind(seen).bind(nonce).bind(now.as_second()).execute(&mut *tx).await?;
            match done.rows_affected() {
                0 => 0,
                _ => sqlx::query(DROP).bind(now.as_second()).execute(tx).await?.rows_affected(),
            }
        }))
    }

    /// Customer mails that wait.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn mails_waiting(&self) -> Result<u64> {
        const COUNT: &str = "SELECT COUNT(*) FROM outbox WHERE state = 'pending' AND kind = 'mail'";
        let count: i64 = on_db!(self, db => sqlx::query_scalar(COUNT).fetch_one(db).await?);
        Ok(count.unsigned_abs())
    }

    /// Charges that wait, for their turn or for a person, with a PaymentIntent that may have been paid meanwhile.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn open_on_intents(&self) -> Result<Vec<(ChargeId, String)>> {
        const OPEN: &str = "SELECT c.id, c.state FROM collector k JOIN charge c ON c.id = k.charge_id WHERE k.state = 'live' \
            AND k.kind = 'payment_intent' AND k.stripe_id IS NOT NULL AND c.state IN ('due', 'past_due', 'needs_review')";
        let rows: Vec<(String, String)> = on_db!(self, db => sqlx::query_as(OPEN).fetch_all(db).await?);
        Ok(rows.into_iter().filter_map(|(id, state)| Some((id.parse().ok()?, state))).collect())
    }

    /// Canceled subscriptions of which Stripe was not told.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn untold_cancellations(&self, limit: usize) -> Result<Vec<Untold>> {
        const UNTOLD: &str = "SELECT s.id, c.stripe_customer FROM subscription s JOIN customer c ON c.id = s.customer_id \
            WHERE s.state = 'canceled' AND s.told_at IS NULL ORDER BY s.id LIMIT CAST($1 AS BIGINT)";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(on_db!(self, db => sqlx::query_as(UNTOLD).bind(limit).fetch_all(db).await?))
    }

    /// Stripe was told that a subscription is canceled.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn told(&self, id: SubscriptionId, now: Timestamp) -> Result<()> {
        const TOLD: &str = "UPDATE subscription SET told_at = $2 WHERE id = $1";
        on_db!(self, db => {
            sqlx::query(TOLD).bind(id.to_string()).bind(now.as_second()).execute(db).await?;
        });
        Ok(())
    }
}
