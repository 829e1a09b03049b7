//! Mails that must leave before something happens: notices of charges, and of cards that expire.

use sqlx::FromRow;

use super::customers::{Customer, select_customers};
use super::rows::instant;
use super::sql::on_db;
use super::{Result, Store};
use crate::billing::dunning::MailKind;
use crate::billing::expiry::Expiring;
use crate::billing::farewell::{Fate, Told};
use crate::billing::ids::ChargeId;

/// What became of the mail that tells a customer of a charge before it is tried.
#[derive(Clone, Debug, FromRow)]
pub struct Notice {
    /// `pending`, `done` (the mail server accepted it), `dropped` or `failed`.
    pub state: String,
    /// Why it was dropped, failed or waits.
    pub error: Option<String>,
    /// When the mail server accepted it (or it was given up), Unix seconds.
    pub done_at: Option<i64>,
    /// How often a person had the charge collected all the same.
    pub waived: i64,
}

impl Store {
    /// The notice of a charge; `None`: it needs none.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn notice_of(&self, charge: ChargeId) -> Result<Option<Notice>> {
        const FIND: &str = "SELECT state, error, done_at, \
            (SELECT COUNT(*) FROM audit a WHERE a.subject = outbox.subject AND a.what = 'collect') AS waived \
            FROM outbox WHERE subject = $1 AND step = 'notice'";
        Ok(on_db!(self, db => sqlx::query_as(FIND).bind(charge.to_string()).fetch_optional(db).await?))
    }

    /// The mails that a charge's ladder promised, and what became of each.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn ladder_mails(&self, charge: ChargeId) -> Result<Vec<Told>> {
        const FIND: &str = "SELECT template, state, done_at FROM outbox WHERE subject = $1 AND kind = 'mail' AND step LIKE 'ladder-%'";
        let rows: Vec<(String, String, Option<i64>)> =
            on_db!(self, db => sqlx::query_as(FIND).bind(charge.to_string()).fetch_all(db).await?);
        let told = rows.into_iter().filter_map(|(template, state, done_at)| {
            let fate = match (state.as_str(), done_at.and_then(instant)) {
                ("pending", _) => Fate::Waiting,
                ("done", Some(at)) => Fate::Accepted(at),
                _ => Fate::Lost,
            };
            Some(Told { kind: MailKind::parse(&template)?, fate })
        });
        Ok(told.collect())
    }

    /// Whether this was promised before, kept or not.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn is_promised(&self, subject: &str, step: &str) -> Result<bool> {
        const COUNT: &str = "SELECT COUNT(*) FROM outbox WHERE subject = $1 AND step = $2";
        let promises: i64 =
            on_db!(self, db => sqlx::query_scalar(COUNT).bind(subject).bind(step).fetch_one(db).await?);
        Ok(promises > 0)
    }

    /// Customers whose default card is of a month, who have a charge coming after it, and who were not promised the mail of
    /// `step` for this card.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn expiring_cards(&self, month: &Expiring, step: &str, limit: usize) -> Result<Vec<Customer>> {
        const FIND: &str = select_customers!(
            "WHERE card_exp_year = $1 AND card_exp_month = $2 AND payment_method IS NOT NULL AND mail_state = 'ok' \
             AND EXISTS (SELECT 1 FROM subscription s WHERE s.customer_id = customer.id AND s.state = 'active' AND s.next_due_at >= $3) \
             AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.subject = customer.payment_method AND o.step = $4) \
             ORDER BY id LIMIT CAST($5 AS BIGINT)"
        );
        Ok(on_db!(self, db => {
            sqlx::query_as(FIND)
                .bind(i64::from(month.year))
                .bind(i64::from(month.month))
                .bind(month.ends_at.as_second())
                .bind(step)
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(db)
                .await?
        }))
    }
}
