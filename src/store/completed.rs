//! Subscriptions that come to their own end: the last installment was made and everything is settled.

use jiff::Timestamp;

use super::sql::on_db;
use super::{Result, Store};

impl Store {
    /// Completes the subscriptions that have no further period and no open charge, as of the day when the last one was
    /// settled. A missed period does not keep one open. Returns how many.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn complete_subscriptions(&self, now: Timestamp) -> Result<u64> {
        const COMPLETE: &str = "UPDATE subscription SET state = 'completed', ended_at = COALESCE((SELECT MAX(settled_at) FROM charge \
            WHERE charge.subscription_id = subscription.id), $1) WHERE state = 'active' AND next_due_at IS NULL \
            AND NOT EXISTS (SELECT 1 FROM charge WHERE charge.subscription_id = subscription.id AND charge.settled_at IS NULL \
            AND charge.state <> 'missed')";
        Ok(on_db!(self, db => sqlx::query(COMPLETE).bind(now.as_second()).execute(db).await?.rows_affected()))
    }
}
