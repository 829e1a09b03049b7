//! Enrolments: Checkout Sessions in which a customer saves a card (or pays and saves it).

use jiff::Timestamp;
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::sql::on_db;
use super::{Result, Store};
use crate::billing::ids::{ChargeId, CustomerId, SubscriptionId};

/// An enrolment as stored.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct Enrolment {
    /// Ours.
    pub id: String,
    /// Whose.
    pub customer_id: String,
    /// Subscription that becomes active with it.
    pub subscription_id: Option<String>,
    /// First charge that is paid with it (`--pay-now`).
    pub charge_id: Option<String>,
    /// `opening`, `open`, `complete` or `expired`.
    pub state: String,
    /// Key of the request that makes the Session.
    pub idempotency_key: String,
    /// Exact body of that request.
    #[serde(skip)]
    pub body: String,
    /// The text the customer agrees to.
    pub consent_text: String,
    /// `cs_` id.
    pub session_id: Option<String>,
    /// Where the customer goes.
    pub url: Option<String>,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    pub expires_at: Option<i64>,
    /// Unix seconds.
    pub completed_at: Option<i64>,
}

/// An enrolment to open.
#[derive(Clone, Debug)]
pub struct NewEnrolment {
    /// Ours.
    pub id: Uuid,
    /// Whose.
    pub customer: CustomerId,
    /// Subscription that becomes active with it.
    pub subscription: Option<SubscriptionId>,
    /// First charge that is paid with it.
    pub charge: Option<ChargeId>,
    /// Key of the request that makes the Session.
    pub key: String,
    /// Exact body.
    pub body: String,
    /// The text the customer agrees to.
    pub consent_text: String,
}

macro_rules! select_enrolments {
    ($tail:literal) => {
        concat!(
            "SELECT id, customer_id, subscription_id, charge_id, state, idempotency_key, body, consent_text, session_id, url, ",
            "created_at, expires_at, completed_at FROM enrolment ",
            $tail
        )
    };
}

impl Store {
    /// Writes an enrolment down before Stripe hears of it; one that is there already is left alone.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn add_enrolment(&self, new: &NewEnrolment, now: Timestamp) -> Result<()> {
        const ADD: &str = "INSERT INTO enrolment (id, customer_id, subscription_id, charge_id, state, idempotency_key, body, consent_text, \
            created_at) VALUES ($1, $2, $3, $4, 'opening', $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING";
        on_db!(self, db => {
            sqlx::query(ADD)
                .bind(new.id.to_string())
                .bind(new.customer.to_string())
                .bind(new.subscription.map(|id| id.to_string()))
                .bind(new.charge.map(|id| id.to_string()))
                .bind(&new.key)
                .bind(&new.body)
                .bind(&new.consent_text)
                .bind(now.as_second())
                .execute(db)
                .await?;
        });
        Ok(())
    }

    /// Records the Session that Stripe made. Returns whether the enrolment still waited for it.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn enrolment_opened(
        &self,
        id: Uuid,
        session: &str,
        url: Option<&str>,
        expires_at: Option<i64>,
    ) -> Result<bool> {
        const OPENED: &str = "UPDATE enrolment SET state = 'open', session_id = $2, url = $3, expires_at = $4 WHERE id = $1 \
            AND state IN ('opening', 'open')";
        let rows = on_db!(self, db => {
            sqlx::query(OPENED)
                .bind(id.to_string())
                .bind(session)
                .bind(url)
                .bind(expires_at)
                .execute(db)
                .await?
                .rows_affected()
        });
        Ok(rows == 1)
    }

    /// Ends an enrolment. Returns whether it was still open.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn finish_enrolment(&self, id: &str, state: &str, now: Timestamp) -> Result<bool> {
        const FINISH: &str = "UPDATE enrolment SET state = $2, completed_at = $3 WHERE id = $1 AND state IN ('opening', 'open')";
        let rows = on_db!(self, db => {
            sqlx::query(FINISH).bind(id).bind(state).bind(now.as_second()).execute(db).await?.rows_affected()
        });
        Ok(rows == 1)
    }

    /// The enrolment behind a Checkout Session.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn enrolment_of_session(&self, session: &str) -> Result<Option<Enrolment>> {
        const FIND: &str = select_enrolments!("WHERE session_id = $1");
        Ok(on_db!(self, db => sqlx::query_as(FIND).bind(session).fetch_optional(db).await?))
    }

    /// One enrolment by its own id.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn find_enrolment(&self, id: &str) -> Result<Option<Enrolment>> {
        const FIND: &str = select_enrolments!("WHERE id = $1");
        Ok(on_db!(self, db => sqlx::query_as(FIND).bind(id).fetch_optional(db).await?))
    }

    /// The newest page of a customer's that only saves a card and that nobody has finished.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn open_card_page(&self, customer: CustomerId) -> Result<Option<Enrolment>> {
        const FIND: &str = select_enrolments!(
            "WHERE customer_id = $1 AND subscription_id IS NULL AND charge_id IS NULL AND state IN ('opening', 'open') \
             ORDER BY created_at DESC, id LIMIT 1"
        );
        Ok(on_db!(self, db => sqlx::query_as(FIND).bind(customer.to_string()).fetch_optional(db).await?))
    }

    /// How many pages a customer has had that are over.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn count_finished_pages(&self, customer: CustomerId) -> Result<i64> {
        const COUNT: &str =
            "SELECT COUNT(*) FROM enrolment WHERE customer_id = $1 AND state IN ('complete', 'expired')";
        Ok(on_db!(self, db => sqlx::query_scalar(COUNT).bind(customer.to_string()).fetch_one(db).await?))
    }

    /// Enrolments that nobody has finished, opened before an instant, oldest first.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn open_enrolments(&self, opened_before: Timestamp, limit: i64) -> Result<Vec<Enrolment>> {
        const LIST: &str = select_enrolments!(
            "WHERE state IN ('opening', 'open') AND created_at <= $1 ORDER BY created_at LIMIT CAST($2 AS BIGINT)"
        );
        Ok(on_db!(self, db => {
            sqlx::query_as(LIST).bind(opened_before.as_second()).bind(limit).fetch_all(db).await?
        }))
    }
}
