//! Stripe's events: stored before they are acknowledged, each once.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::FromRow;

use super::sql::{Sql, alone, on_db};
use super::{Result, Store};

/// An authentic event to store. Only what is needed to fetch the object; never the payload.
#[derive(Clone, Debug, Serialize)]
pub struct NewEvent {
    /// `evt_` id.
    pub id: String,
    /// Event type.
    pub kind: String,
    /// Object it is about.
    pub object_id: Option<String>,
    /// Kind of that object.
    pub object_type: Option<String>,
    /// Our charge, if the object's metadata name one.
    pub charge_id: Option<String>,
    /// Unix seconds, by Stripe's clock.
    pub created: i64,
}

/// A stored event that waits to be applied.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct StoredEvent {
    /// `evt_` id.
    pub id: String,
    /// Event type.
    #[sqlx(rename = "type")]
    pub kind: String,
    /// Object it is about.
    pub object_id: Option<String>,
    /// Kind of that object.
    pub object_type: Option<String>,
    /// Our charge, if the object's metadata name one.
    pub charge_id: Option<String>,
    /// Unix seconds.
    pub created: i64,
    /// Unix seconds.
    pub received_at: i64,
    /// `pending`, `applied`, `ignored` or `failed`.
    pub state: String,
    /// How often it was tried.
    pub tries: i64,
    /// What went wrong.
    pub error: Option<String>,
}

macro_rules! claimable {
    ($open:literal, $close:literal) => {
        concat!(
            "UPDATE webhook_event SET wake_at = $1, tries = tries + 1 WHERE id ", $open, "SELECT id FROM webhook_event ",
            "WHERE state = 'pending' AND wake_at <= $2 ORDER BY wake_at LIMIT CAST($3 AS BIGINT)",
            $close, " RETURNING id, type, object_id, object_type, charge_id, created, received_at, state, tries, error"
        )
    };
}

/// Differs: no SKIP LOCKED in SQLite; it has one writer. PostgreSQL gets an array, which it computes once: it
/// may join a subquery with `IN` so that the LIMIT starts anew for every row of the table.
const CLAIM: Sql = Sql {
    sqlite: claimable!("IN (", ")"),
    postgres: claimable!("= ANY (ARRAY(", " FOR UPDATE SKIP LOCKED))"),
};

impl Store {
    /// Stores an event. Returns whether it is new: Stripe delivers some more than once.
    ///
    /// # Errors
    /// [`super::StoreError::Database`]: then it must not be acknowledged.
    pub async fn store_event(&self, event: &NewEvent, now: Timestamp) -> Result<bool> {
        const STORE: &str = "INSERT INTO webhook_event (id, type, object_id, object_type, charge_id, created, received_at, state, \
            wake_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', $7) ON CONFLICT DO NOTHING";
        let rows = alone!(self, db => {
            sqlx::query(STORE)
                .bind(&event.id)
                .bind(&event.kind)
                .bind(&event.object_id)
                .bind(&event.object_type)
                .bind(&event.charge_id)
                .bind(event.created)
                .bind(now.as_second())
                .execute(db)
                .await?
                .rows_affected()
        });
        Ok(rows == 1)
    }

    /// Takes a lease on events that wait to be applied.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn claim_events(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<StoredEvent>> {
        let sql = self.text(CLAIM);
        Ok(alone!(self, db => {
            sqlx::query_as(sql)
                .bind(lease_until.as_second())
                .bind(now.as_second())
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(db)
                .await?
        }))
    }

    /// Records what came of an event; `retry_at` keeps it pending.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn finish_event(
        &self,
        id: &str,
        state: &str,
        error: Option<&str>,
        retry_at: Option<Timestamp>,
    ) -> Result<()> {
        const FINISH: &str = "UPDATE webhook_event SET state = $2, error = $3, wake_at = $4 WHERE id = $1 AND state = 'pending'";
        on_db!(self, db => {
            sqlx::query(FINISH)
                .bind(id)
                .bind(state)
                .bind(error)
                .bind(retry_at.map(Timestamp::as_second))
                .execute(db)
                .await?;
        });
        Ok(())
    }

    /// Events that named a charge, oldest first.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn events_of(&self, charge: &str) -> Result<Vec<StoredEvent>> {
        const LIST: &str = "SELECT id, type, object_id, object_type, charge_id, created, received_at, state, tries, error \
            FROM webhook_event WHERE charge_id = $1 ORDER BY received_at, id";
        Ok(on_db!(self, db => sqlx::query_as(LIST).bind(charge).fetch_all(db).await?))
    }
}
