//! Who holds what, and what is under way.

use jiff::Timestamp;
use serde::Serialize;

use super::sql::{in_tx, on_db};
use super::{Result, Store};

/// Work that nobody can take up now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnderWay {
    /// Charges that a worker holds, or one that died.
    pub held: i64,
    /// When the last of those leases runs out, in Unix seconds.
    pub held_until: Option<i64>,
    /// Attempts of which nobody heard the answer, or that Stripe asked to send later.
    pub unfinished: i64,
    /// When the first of those is taken up again, in Unix seconds.
    pub taken_up_at: Option<i64>,
}

impl Store {
    /// The names of all workers that hold something.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn lease_owners(&self) -> Result<Vec<String>> {
        const OWNERS: &str = "SELECT lease_owner FROM charge WHERE lease_owner IS NOT NULL \
            UNION SELECT lease_owner FROM outbox WHERE state = 'pending' AND lease_owner IS NOT NULL";
        Ok(on_db!(self, db => sqlx::query_scalar(OWNERS).fetch_all(db).await?))
    }

    /// Ends a worker's leases as if their time had run out. How many there were.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn end_leases(&self, owner: &str, now: Timestamp) -> Result<u64> {
        const CHARGES: &str =
            "UPDATE charge SET wake_at = $2, version = version + 1 WHERE lease_owner = $1 AND wake_at > $2";
        const OUTBOX: &str =
            "UPDATE outbox SET wake_at = $2 WHERE state = 'pending' AND lease_owner = $1 AND wake_at > $2";
        let now = now.as_second();
        Ok(in_tx!(self, tx => {
            let charges = sqlx::query(CHARGES).bind(owner).bind(now).execute(&mut *tx).await?.rows_affected();
            charges + sqlx::query(OUTBOX).bind(owner).bind(now).execute(tx).await?.rows_affected()
        }))
    }

    /// What others do at present, or left unfinished.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn under_way(&self, now: Timestamp) -> Result<UnderWay> {
        const HELD: &str =
            "SELECT COUNT(*), MAX(wake_at) FROM charge WHERE lease_owner IS NOT NULL AND wake_at > $1";
        const UNFINISHED: &str = "SELECT COUNT(*), MIN(c.wake_at) FROM attempt a JOIN charge c ON c.id = a.charge_id \
            WHERE a.finished_at IS NULL AND c.lease_owner IS NULL";
        Ok(on_db!(self, db => {
            let (held, held_until) = sqlx::query_as(HELD).bind(now.as_second()).fetch_one(&mut *db).await?;
            let (unfinished, taken_up_at) = sqlx::query_as(UNFINISHED).fetch_one(db).await?;
            UnderWay { held, held_until, unfinished, taken_up_at }
        }))
    }
}
