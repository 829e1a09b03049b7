//! Pay links and card links (only the hash of a token is kept) and the Checkout Sessions behind them.

use jiff::Timestamp;
use sqlx::FromRow;

use super::sql::{alone, on_db};
use super::{Result, Store};
use crate::billing::ids::{ChargeId, CustomerId};

/// A living Checkout Session of a charge, with the request that makes it.
#[derive(Clone, Debug, FromRow)]
pub struct LinkTarget {
    /// Collector generation.
    pub generation: i64,
    /// `cs_` id, once Stripe answered.
    pub stripe_id: Option<String>,
    /// Where the customer pays.
    pub url: Option<String>,
    /// Key of the request that makes it.
    pub idempotency_key: Option<String>,
    /// Exact body of that request.
    pub body: Option<String>,
    /// Unix seconds.
    pub expires_at: Option<i64>,
    /// Unix seconds.
    pub opened_at: i64,
}

impl Store {
    /// Remembers a pay link by the SHA-256 of its token.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn add_pay_link(&self, token_hash: &str, charge: ChargeId, now: Timestamp) -> Result<()> {
        const ADD: &str = "INSERT INTO pay_link (token_hash, charge_id, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        on_db!(self, db => {
            sqlx::query(ADD).bind(token_hash).bind(charge.to_string()).bind(now.as_second()).execute(db).await?;
        });
        Ok(())
    }

    /// The charge behind a pay link.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn charge_of_link(&self, token_hash: &str) -> Result<Option<ChargeId>> {
        const FIND: &str = "SELECT charge_id FROM pay_link WHERE token_hash = $1";
        let id: Option<String> =
            on_db!(self, db => sqlx::query_scalar(FIND).bind(token_hash).fetch_optional(db).await?);
        Ok(id.and_then(|id| id.parse().ok()))
    }

    /// Remembers a card link by the SHA-256 of its token.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn add_card_link(&self, token_hash: &str, customer: CustomerId, now: Timestamp) -> Result<()> {
        const ADD: &str = "INSERT INTO card_link (token_hash, customer_id, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        on_db!(self, db => {
            sqlx::query(ADD).bind(token_hash).bind(customer.to_string()).bind(now.as_second()).execute(db).await?;
        });
        Ok(())
    }

    /// The customer behind a card link.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn customer_of_link(&self, token_hash: &str) -> Result<Option<CustomerId>> {
        const FIND: &str = "SELECT customer_id FROM card_link WHERE token_hash = $1";
        let id: Option<String> =
            on_db!(self, db => sqlx::query_scalar(FIND).bind(token_hash).fetch_optional(db).await?);
        Ok(id.and_then(|id| id.parse().ok()).map(CustomerId))
    }

    /// The living collector of a charge, as stored.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn living_collector(&self, charge: ChargeId) -> Result<Option<LinkTarget>> {
        const FIND: &str = "SELECT generation, stripe_id, url, idempotency_key, body, expires_at, opened_at FROM collector \
            WHERE charge_id = $1 AND state = 'live'";
        Ok(on_db!(self, db => sqlx::query_as(FIND).bind(charge.to_string()).fetch_optional(db).await?))
    }

    /// The Checkout Session that paid a charge, with the request that made it.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn paid_page(&self, charge: ChargeId) -> Result<Option<(String, String)>> {
        const FIND: &str = "SELECT stripe_id, body FROM collector WHERE charge_id = $1 AND kind = 'checkout_session' \
            AND state = 'paid' AND stripe_id IS NOT NULL AND body IS NOT NULL";
        Ok(on_db!(self, db => sqlx::query_as(FIND).bind(charge.to_string()).fetch_optional(db).await?))
    }

    /// Whether a charge was paid on a page by something else than a card: then no card was to become the default.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn paid_without_card(&self, charge: ChargeId) -> Result<bool> {
        const COUNT: &str = "SELECT COUNT(*) FROM collector c WHERE c.charge_id = $1 AND c.kind = 'checkout_session' \
            AND c.state = 'paid' AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.charge_id = c.charge_id AND o.kind = 'adopt_card')";
        let pages: i64 =
            on_db!(self, db => sqlx::query_scalar(COUNT).bind(charge.to_string()).fetch_one(db).await?);
        Ok(pages > 0)
    }

    /// The charge that a Checkout Session or PaymentIntent of ours belongs to.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn charge_of_collector(&self, stripe_id: &str) -> Result<Option<ChargeId>> {
        const FIND: &str = "SELECT charge_id FROM collector WHERE stripe_id = $1";
        let id: Option<String> =
            on_db!(self, db => sqlx::query_scalar(FIND).bind(stripe_id).fetch_optional(db).await?);
        Ok(id.and_then(|id| id.parse().ok()))
    }

    /// Counts one more try to close the living collector; part of that request's key.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn count_close(&self, charge: ChargeId) -> Result<i64> {
        const COUNT: &str = "UPDATE collector SET closes = closes + 1 WHERE charge_id = $1 AND state = 'live' RETURNING closes";
        // All rows are asked for: SQLite commits only when the last one was read.
        let closes: Vec<i64> =
            alone!(self, db => sqlx::query_scalar(COUNT).bind(charge.to_string()).fetch_all(db).await?);
        Ok(closes.first().copied().unwrap_or(0))
    }
}
