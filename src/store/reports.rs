//! What people read: sums and the story of a charge.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::FromRow;

use super::sql::on_db;
use super::{Result, Store};
use crate::billing::ids::ChargeId;

/// Charges of one state and currency.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct Totals {
    /// State.
    pub state: String,
    /// Lowercase currency.
    pub currency: String,
    /// How many.
    pub count: i64,
    /// Sum in minor units.
    pub sum_minor: i64,
    /// How many of them were declined at least once.
    pub declined: i64,
}

/// One collector, for people.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct StoryLine {
    /// Generation.
    pub generation: i64,
    /// `payment_intent` or `checkout_session`.
    pub kind: String,
    /// Stripe's id.
    pub stripe_id: Option<String>,
    /// `live`, `dead` or `paid`.
    pub state: String,
    /// Unix seconds.
    pub opened_at: i64,
    /// Unix seconds.
    pub closed_at: Option<i64>,
}

/// One promise, for people.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct Promise {
    /// Unique within the charge.
    pub step: String,
    /// `mail`, `alarm` or `adopt_card`.
    pub kind: String,
    /// Mail template.
    pub template: Option<String>,
    /// `pending`, `done`, `dropped` or `failed`.
    pub state: String,
    /// Why it was dropped, failed or waits.
    pub error: Option<String>,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    pub done_at: Option<i64>,
}

/// What waits for an answer.
#[derive(Clone, Copy, Debug, FromRow, Serialize)]
pub struct Attention {
    /// Charges that wait for a person.
    pub needs_review: i64,
    /// Attempts without a known outcome.
    pub unknown: i64,
}

/// Everything the database knows of what happened to a charge.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    /// Tries.
    pub attempts: Vec<super::AttemptRow>,
    /// Stripe objects.
    pub collectors: Vec<StoryLine>,
    /// Mails and alarms.
    pub promises: Vec<Promise>,
    /// Stripe's events.
    pub events: Vec<super::StoredEvent>,
    /// Commands.
    pub audit: Vec<super::AuditEntry>,
}

impl Store {
    /// Counts and sums of all charges by state and currency.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn totals(&self) -> Result<Vec<Totals>> {
        const SUM: &str = "SELECT state, currency, COUNT(*) AS count, CAST(SUM(amount_minor) AS BIGINT) AS sum_minor, \
            COUNT(dunning_since) AS declined FROM charge GROUP BY state, currency ORDER BY state, currency";
        Ok(on_db!(self, db => sqlx::query_as(SUM).fetch_all(db).await?))
    }

    /// The story of a charge.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn story(&self, charge: ChargeId) -> Result<Story> {
        const COLLECTORS: &str = "SELECT generation, kind, stripe_id, state, opened_at, closed_at FROM collector \
            WHERE charge_id = $1 ORDER BY generation";
        const PROMISES: &str = "SELECT step, kind, template, state, error, created_at, done_at FROM outbox \
            WHERE charge_id = $1 ORDER BY created_at, step";
        let id = charge.to_string();
        let collectors = on_db!(self, db => sqlx::query_as(COLLECTORS).bind(&id).fetch_all(db).await?);
        let promises = on_db!(self, db => sqlx::query_as(PROMISES).bind(&id).fetch_all(db).await?);
        Ok(Story {
            attempts: self.attempts(charge).await?,
            collectors,
            promises,
            events: self.events_of(&id).await?,
            audit: self.audit_of(&id).await?,
        })
    }

    /// Instant since which the longest-waiting charge has been due, if one is.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn oldest_awake(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        const OLDEST: &str = "SELECT MIN(wake_at) FROM charge WHERE wake_for IN ('collect', 'dun', 'reconcile') AND wake_at <= $1";
        let oldest: Option<i64> =
            on_db!(self, db => sqlx::query_scalar(OLDEST).bind(now.as_second()).fetch_one(db).await?);
        Ok(oldest.and_then(super::rows::instant))
    }

    /// How many charges wait for a person, and how many attempts have no known outcome.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn attention(&self) -> Result<Attention> {
        const COUNT: &str = "SELECT (SELECT COUNT(*) FROM charge WHERE state = 'needs_review') AS needs_review, \
            (SELECT COUNT(*) FROM attempt WHERE finished_at IS NULL AND state = 'unknown') AS unknown";
        Ok(on_db!(self, db => sqlx::query_as(COUNT).fetch_one(db).await?))
    }

    /// How many promises wait, and since when the oldest of them does.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn outbox_backlog(&self) -> Result<(i64, Option<Timestamp>)> {
        const BACKLOG: &str = "SELECT COUNT(*), MIN(created_at) FROM outbox WHERE state = 'pending'";
        let (count, oldest): (i64, Option<i64>) =
            on_db!(self, db => sqlx::query_as(BACKLOG).fetch_one(db).await?);
        Ok((count, oldest.and_then(super::rows::instant)))
    }
}
