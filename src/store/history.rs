//! What came of declines, page by page, for the reports.

use jiff::Timestamp;
use sqlx::FromRow;

use super::sql::on_db;
use super::{Result, Store};

/// A charge that was declined at least once.
#[derive(Clone, Debug, FromRow)]
pub struct CaseRow {
    /// The charge's id.
    pub id: String,
    /// The plan it was made from.
    pub plan: String,
    /// The charge's state.
    pub state: String,
    /// Minor units.
    pub amount_minor: i64,
    /// Lowercase currency.
    pub currency: String,
    /// The first decline, Unix seconds.
    pub dunning_since: i64,
    /// The ladder step it stands at, or stood at in the end.
    pub dunning_step: i64,
    /// When it was finished, Unix seconds.
    pub settled_at: Option<i64>,
    /// Class of the first decline.
    pub class: Option<String>,
    /// Brand of the customer's present card.
    pub brand: Option<String>,
    /// The customer's time zone.
    pub time_zone: String,
    /// Whether no page was paid: a charge that is paid was paid by a try of the machine.
    pub by_machine: bool,
}

/// A try by machine that an issuer answered.
#[derive(Clone, Debug, FromRow)]
pub struct TryRow {
    /// The charge's id.
    pub charge_id: String,
    /// The attempt's number.
    pub number: i64,
    /// `paid` or `declined`.
    pub state: String,
    /// Class of the decline.
    pub class: Option<String>,
    /// When it was first sent, Unix seconds.
    pub first_sent_at: i64,
    /// Brand of the card, where it is still the customer's.
    pub brand: Option<String>,
    /// The customer's time zone.
    pub time_zone: String,
}

impl Store {
    /// The next `limit` cases after the charge `after` (empty: from the beginning) whose first decline came since an instant.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn cases(&self, since: Timestamp, after: &str, limit: i64) -> Result<Vec<CaseRow>> {
        const PAGE: &str = "SELECT c.id, c.plan, c.state, c.amount_minor, c.currency, c.dunning_since, c.dunning_step, c.settled_at, \
            COALESCE((SELECT a.class FROM attempt a WHERE a.charge_id = c.id AND a.class IS NOT NULL ORDER BY a.number LIMIT 1), \
            c.dunning_class) AS class, u.card_brand AS brand, u.time_zone, \
            NOT EXISTS (SELECT 1 FROM collector k WHERE k.charge_id = c.id AND k.state = 'paid' \
            AND k.kind = 'checkout_session') AS by_machine \
            FROM charge c JOIN customer u ON u.id = c.customer_id \
            WHERE c.dunning_since >= $1 AND c.id > $2 ORDER BY c.id LIMIT CAST($3 AS BIGINT)";
        Ok(on_db!(self, db => {
            sqlx::query_as(PAGE).bind(since.as_second()).bind(after).bind(limit).fetch_all(db).await?
        }))
    }

    /// The next `limit` answered tries after this charge and number, of charges due since an instant.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn tries(&self, since: Timestamp, after: (&str, i64), limit: i64) -> Result<Vec<TryRow>> {
        // What Stripe knew only later is told by what became of the charge.
        const PAGE: &str = "SELECT a.charge_id, a.number, a.class, a.first_sent_at, \
            CASE WHEN a.state <> 'processing' THEN a.state WHEN c.state = 'paid' AND a.number = c.attempts \
            AND NOT EXISTS (SELECT 1 FROM collector k WHERE k.charge_id = c.id AND k.state = 'paid' \
            AND k.kind = 'checkout_session') THEN 'paid' ELSE 'declined' END AS state, \
            CASE WHEN a.card_fingerprint = u.card_fingerprint THEN u.card_brand END AS brand, u.time_zone \
            FROM attempt a JOIN charge c ON c.id = a.charge_id JOIN customer u ON u.id = c.customer_id \
            WHERE (a.state IN ('paid', 'declined') OR (a.state = 'processing' AND c.state <> 'processing')) AND c.due_at >= $1 \
            AND (a.charge_id > $2 OR (a.charge_id = $2 AND a.number > $3)) \
            ORDER BY a.charge_id, a.number LIMIT CAST($4 AS BIGINT)";
        Ok(on_db!(self, db => {
            sqlx::query_as(PAGE)
                .bind(since.as_second())
                .bind(after.0)
                .bind(after.1)
                .bind(limit)
                .fetch_all(db)
                .await?
        }))
    }
}
