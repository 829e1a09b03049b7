//! Dunning ladders as they were when cases began on them: immutable, numbered from 1.

use jiff::Timestamp;

use super::rows::{damaged, instant, small};
use super::sql::{alone, on_db};
use super::{Result, Store};
use crate::billing::ids::SubscriptionId;
use crate::billing::ladder::{Ladder, LadderId};

impl Store {
    /// The number of exactly this ladder; it is written down if it is new.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn ensure_ladder(&self, ladder: &Ladder, now: Timestamp) -> Result<LadderId> {
        const FIND: &str = "SELECT id FROM ladder WHERE ladder = $1";
        const INSERT: &str = "INSERT INTO ladder (id, ladder, created_at) \
            SELECT COALESCE(MAX(id), 0) + 1, $1, $2 FROM ladder WHERE 1 = 1 ON CONFLICT DO NOTHING";
        let text = super::charges::json(ladder);
        loop {
            let found: Option<i64> =
                on_db!(self, db => sqlx::query_scalar(FIND).bind(&text).fetch_optional(db).await?);
            if let Some(id) = found {
                return small(id)
                    .map(LadderId)
                    .ok_or_else(|| damaged("ladder", id.to_string(), "no such number"));
            }
            // Whoever loses the race for a number finds the other's row, or takes the next number.
            alone!(self, db => {
                sqlx::query(INSERT).bind(&text).bind(now.as_second()).execute(db).await?.rows_affected()
            });
        }
    }

    /// The oldest open case of a subscription: its first decline, and the ladder it goes.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn open_case(&self, subscription: SubscriptionId) -> Result<Option<(Timestamp, LadderId)>> {
        const OLDEST: &str = "SELECT dunning_since, dunning_ladder FROM charge WHERE subscription_id = $1 AND settled_at IS NULL \
            AND dunning_since IS NOT NULL ORDER BY dunning_since LIMIT 1";
        let found: Option<(i64, i64)> = on_db!(self, db => {
            sqlx::query_as(OLDEST).bind(subscription.to_string()).fetch_optional(db).await?
        });
        Ok(found.and_then(|(since, ladder)| Some((instant(since)?, LadderId(small(ladder)?)))))
    }

    /// A ladder on record.
    ///
    /// # Errors
    /// [`super::StoreError::Database`]; [`super::StoreError::Damaged`] for one that does not read back.
    pub async fn ladder(&self, id: LadderId) -> Result<Option<Ladder>> {
        const GET: &str = "SELECT ladder FROM ladder WHERE id = $1";
        let text: Option<String> =
            on_db!(self, db => sqlx::query_scalar(GET).bind(i64::from(id.0)).fetch_optional(db).await?);
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| damaged("ladder", id.0.to_string(), error.to_string()))
    }
}
