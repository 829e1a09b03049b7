//! Customers, their default card, and the record of what they agreed to.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::FromRow;

use super::charges::{json, uuid_range};
use super::sql::{batch, in_tx, on_db};
use super::{Result, Store};
use crate::billing::ids::{ChargeId, CustomerId, SubscriptionId};

/// A customer as stored.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct Customer {
    /// Ours.
    pub id: String,
    /// Stripe's (`cus_`).
    pub stripe_customer: String,
    /// Where mails go.
    pub email: String,
    /// Display name; may be empty.
    pub name: String,
    /// Language tag.
    pub locale: String,
    /// IANA zone.
    pub time_zone: String,
    /// Default PaymentMethod (`pm_`).
    pub payment_method: Option<String>,
    /// Card brand.
    pub card_brand: Option<String>,
    /// Last four digits.
    pub card_last4: Option<String>,
    /// 1 to 12.
    pub card_exp_month: Option<i64>,
    /// Four digits.
    pub card_exp_year: Option<i64>,
    /// Stripe's fingerprint of the card number.
    #[serde(skip)]
    pub card_fingerprint: Option<String>,
    /// `ok`, or `dead` after a bounce.
    pub mail_state: String,
    /// Why nothing may be charged, if so.
    pub hold_why: Option<String>,
    /// Unix seconds.
    pub created_at: i64,
}

impl Customer {
    /// Our id as a value.
    #[must_use]
    pub fn customer_id(&self) -> CustomerId {
        CustomerId(self.id.parse().unwrap_or_default())
    }
}

/// A customer to add or to update.
#[derive(Clone, Debug, Serialize)]
pub struct NewCustomer {
    /// Ours.
    pub id: CustomerId,
    /// Stripe's.
    pub stripe_customer: String,
    /// Where mails go.
    pub email: String,
    /// Display name.
    pub name: String,
    /// Language tag.
    pub locale: String,
    /// IANA zone.
    pub time_zone: String,
}

/// A card that may be charged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Card {
    /// `pm_` id.
    pub payment_method: String,
    /// `visa`, `mastercard`, ...
    pub brand: String,
    /// Last four digits.
    pub last4: String,
    /// 1 to 12.
    pub exp_month: i64,
    /// Four digits.
    pub exp_year: i64,
    /// Same number, same fingerprint.
    pub fingerprint: Option<String>,
    /// When the customer entered it, Unix seconds by Stripe's clock.
    pub entered_at: i64,
}

/// What a customer agreed to, and how it is known.
#[derive(Clone, Debug)]
pub struct NewConsent {
    /// Makes recording twice harmless.
    pub id: uuid::Uuid,
    /// Who.
    pub customer: CustomerId,
    /// For which subscription.
    pub subscription: Option<SubscriptionId>,
    /// When.
    pub given_at: Timestamp,
    /// `checkout`, `import` or `operator`.
    pub how: &'static str,
    /// The text, whole.
    pub text: String,
    /// SHA-256 of the text in hex.
    pub text_sha256: String,
    /// Checkout Session.
    pub session: Option<String>,
    /// SetupIntent.
    pub setup_intent: Option<String>,
    /// Card.
    pub payment_method: Option<String>,
    /// Mandate, where the method makes one.
    pub mandate: Option<String>,
}

/// The newest undelivered mail of each of a customer's open charges, unless a newer one left or waits.
macro_rules! undelivered {
    ($head:literal) => {
        concat!(
            $head,
            " WHERE customer_id = $1 AND kind = 'mail' AND state = 'failed' ",
            "AND charge_id IN (SELECT id FROM charge WHERE customer_id = $1 AND settled_at IS NULL) ",
            "AND NOT EXISTS (SELECT 1 FROM outbox newer WHERE newer.charge_id = outbox.charge_id AND newer.kind = 'mail' ",
            "AND (newer.created_at, newer.step) > (outbox.created_at, outbox.step))"
        )
    };
}

macro_rules! select_customers {
    ($tail:literal) => {
        concat!(
            "SELECT id, stripe_customer, email, name, locale, time_zone, payment_method, card_brand, card_last4, ",
            "card_exp_month, card_exp_year, card_fingerprint, mail_state, hold_why, created_at FROM customer ",
            $tail
        )
    };
}
pub(super) use select_customers;

batch! {
    UPSERT = "INSERT INTO customer (id, stripe_customer, email, name, locale, time_zone, created_at) \
        SELECT r.id, r.stripe_customer, r.email, r.name, r.locale, r.time_zone, r.created_at FROM",
    (id TEXT, stripe_customer TEXT, email TEXT, name TEXT, locale TEXT, time_zone TEXT, created_at BIGINT),
    "WHERE 1 = 1 ON CONFLICT (id) DO NOTHING"
}

#[derive(Serialize)]
struct UpsertRow<'a> {
    #[serde(flatten)]
    customer: &'a NewCustomer,
    created_at: i64,
}

impl Store {
    /// Adds customers that are not there yet. Returns how many were new.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn add_customers(&self, customers: &[NewCustomer], now: Timestamp) -> Result<u64> {
        let rows: Vec<UpsertRow<'_>> =
            customers.iter().map(|customer| UpsertRow { customer, created_at: now.as_second() }).collect();
        let (sql, rows) = (self.text(UPSERT), json(&rows));
        Ok(in_tx!(self, tx => { sqlx::query(sql).bind(&rows).execute(tx).await?.rows_affected() }))
    }

    /// Makes a card the default for what is tried from now on: who claimed a charge of the customer before must look again,
    /// save for the caller's own.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn set_default_card(
        &self,
        customer: CustomerId,
        card: &Card,
        own: Option<ChargeId>,
    ) -> Result<()> {
        self.replace_card(customer, card, own, i64::MAX).await.map(|_| ())
    }

    /// The same for a card that a customer entered, unless the default was entered later: which of two pages is heard of first
    /// says nothing. Returns whether it is the default now.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn offer_card(&self, customer: CustomerId, card: &Card) -> Result<bool> {
        self.replace_card(customer, card, None, card.entered_at).await
    }

    /// Replaces a default card that was not entered after an instant (Unix seconds).
    async fn replace_card(
        &self,
        customer: CustomerId,
        card: &Card,
        own: Option<ChargeId>,
        entered_until: i64,
    ) -> Result<bool> {
        const BREAK_CLAIMS: &str = "UPDATE charge SET version = version + 1 WHERE state IN ('due', 'past_due') AND id <> $4 \
            AND customer_id = (SELECT id FROM customer WHERE id = $1 \
            AND (COALESCE(payment_method, '') <> $2 OR COALESCE(card_fingerprint, '') <> $3) \
            AND (payment_method IS NULL OR COALESCE(card_entered_at, 0) <= $5))";
        const SET: &str = "UPDATE customer SET payment_method = $2, card_brand = $3, card_last4 = $4, card_exp_month = $5, \
            card_exp_year = $6, card_fingerprint = $7, card_entered_at = $8 \
            WHERE id = $1 AND (payment_method IS NULL OR COALESCE(card_entered_at, 0) <= $9)";
        let own = own.map(|own| own.to_string()).unwrap_or_default();
        Ok(in_tx!(self, tx => {
            sqlx::query(BREAK_CLAIMS)
                .bind(customer.to_string())
                .bind(&card.payment_method)
                .bind(card.fingerprint.as_deref().unwrap_or_default())
                .bind(&own)
                .bind(entered_until)
                .execute(&mut *tx)
                .await?;
            sqlx::query(SET)
                .bind(customer.to_string())
                .bind(&card.payment_method)
                .bind(&card.brand)
                .bind(&card.last4)
                .bind(card.exp_month)
                .bind(card.exp_year)
                .bind(&card.fingerprint)
                .bind(card.entered_at)
                .bind(entered_until)
                .execute(tx)
                .await?
                .rows_affected()
                == 1
        }))
    }

    /// Forgets the default card if it is this one (it was detached).
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn forget_card(&self, payment_method: &str) -> Result<u64> {
        const FORGET: &str = "UPDATE customer SET payment_method = NULL WHERE payment_method = $1";
        // As where a subscription is canceled: who claimed a charge before must look again.
        const BREAK_CLAIMS: &str = "UPDATE charge SET version = version + 1 WHERE state IN ('due', 'past_due') \
            AND customer_id IN (SELECT id FROM customer WHERE payment_method = $1)";
        Ok(in_tx!(self, tx => {
            if !mutant!(CancelRaces) {
                sqlx::query(BREAK_CLAIMS).bind(payment_method).execute(&mut *tx).await?;
            }
            sqlx::query(FORGET).bind(payment_method).execute(tx).await?.rows_affected()
        }))
    }

    /// Stops (or, with `None`, allows again) all machine charges of a customer.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn hold_customer(&self, stripe_customer: &str, why: Option<&str>) -> Result<u64> {
        const HOLD: &str = "UPDATE customer SET hold_why = $2 WHERE stripe_customer = $1";
        // As where a subscription is canceled: who claimed a charge before must look again.
        const BREAK_CLAIMS: &str = "UPDATE charge SET version = version + 1 WHERE state IN ('due', 'past_due') \
            AND customer_id = (SELECT id FROM customer WHERE stripe_customer = $1)";
        Ok(in_tx!(self, tx => {
            if why.is_some() && !mutant!(CancelRaces) {
                sqlx::query(BREAK_CLAIMS).bind(stripe_customer).execute(&mut *tx).await?;
            }
            sqlx::query(HOLD).bind(stripe_customer).bind(why).execute(tx).await?.rows_affected()
        }))
    }

    /// Marks an address that the mail server refused for good.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn mark_address_dead(&self, customer: CustomerId) -> Result<()> {
        const MARK: &str = "UPDATE customer SET mail_state = 'dead' WHERE id = $1";
        on_db!(self, db => {
            sqlx::query(MARK).bind(customer.to_string()).execute(db).await?;
        });
        Ok(())
    }

    /// Writes to a customer at another address from now on: what could not be delivered is promised anew, as of now.
    /// Returns how many mails.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn correct_address(&self, customer: CustomerId, email: &str, now: Timestamp) -> Result<u64> {
        const CORRECT: &str = "UPDATE customer SET email = $2, mail_state = 'ok' WHERE id = $1";
        const AGAIN: &str = undelivered!(
            "UPDATE outbox SET state = 'pending', wake_at = $2, done_at = NULL, error = NULL, tries = 0, created_at = $2"
        );
        Ok(in_tx!(self, tx => {
            sqlx::query(CORRECT).bind(customer.to_string()).bind(email).execute(&mut *tx).await?;
            sqlx::query(AGAIN).bind(customer.to_string()).bind(now.as_second()).execute(tx).await?.rows_affected()
        }))
    }

    /// How many mails of a customer would be promised anew by [`Self::correct_address`].
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn undelivered(&self, customer: CustomerId) -> Result<u64> {
        const COUNT: &str = undelivered!("SELECT COUNT(*) FROM outbox");
        let mails: i64 =
            on_db!(self, db => sqlx::query_scalar(COUNT).bind(customer.to_string()).fetch_one(db).await?);
        Ok(mails.unsigned_abs())
    }

    /// Reads one customer.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn find_customer(&self, id: CustomerId) -> Result<Option<Customer>> {
        const READ: &str = select_customers!("WHERE id = $1");
        Ok(on_db!(self, db => sqlx::query_as(READ).bind(id.to_string()).fetch_optional(db).await?))
    }

    /// Finds customers by our id (or the beginning of it), Stripe's id, or the mail address; at most two.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn customers_named(&self, name: &str) -> Result<Vec<Customer>> {
        const FIND: &str = select_customers!(
            "WHERE stripe_customer = $1 OR email = $1 OR id BETWEEN $2 AND $3 ORDER BY id LIMIT 2"
        );
        let (first, last) = uuid_range(name).unwrap_or_default();
        Ok(on_db!(self, db => sqlx::query_as(FIND).bind(name).bind(&first).bind(&last).fetch_all(db).await?))
    }

    /// How many other customers have saved the same card number. Reads all customers: for a person who asks about one.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn others_with_card(&self, customer: &Customer) -> Result<i64> {
        const COUNT: &str = "SELECT COUNT(*) FROM customer WHERE card_fingerprint = $1 AND id <> $2";
        Ok(on_db!(self, db => {
            sqlx::query_scalar(COUNT).bind(&customer.card_fingerprint).bind(&customer.id).fetch_one(db).await?
        }))
    }

    /// Customers in the order they were added.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn list_customers(&self, offset: i64, limit: i64) -> Result<Vec<Customer>> {
        const LIST: &str =
            select_customers!("ORDER BY created_at, id LIMIT CAST($1 AS BIGINT) OFFSET CAST($2 AS BIGINT)");
        Ok(on_db!(self, db => sqlx::query_as(LIST).bind(limit).bind(offset).fetch_all(db).await?))
    }

    /// The cards that a customer agreed to be charged.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn agreed_cards(&self, customer: CustomerId) -> Result<Vec<String>> {
        const LIST: &str = "SELECT DISTINCT payment_method FROM consent WHERE customer_id = $1 AND payment_method IS NOT NULL";
        Ok(on_db!(self, db => sqlx::query_scalar(LIST).bind(customer.to_string()).fetch_all(db).await?))
    }

    /// Records a consent; the same id again changes nothing.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn record_consent(&self, consent: &NewConsent, now: Timestamp) -> Result<()> {
        const RECORD: &str = "INSERT INTO consent (id, customer_id, subscription_id, given_at, how, text, text_sha256, session_id, \
            setup_intent, payment_method, mandate, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
            ON CONFLICT (id) DO NOTHING";
        on_db!(self, db => {
            sqlx::query(RECORD)
                .bind(consent.id.to_string())
                .bind(consent.customer.to_string())
                .bind(consent.subscription.map(|id| id.to_string()))
                .bind(consent.given_at.as_second())
                .bind(consent.how)
                .bind(&consent.text)
                .bind(&consent.text_sha256)
                .bind(&consent.session)
                .bind(&consent.setup_intent)
                .bind(&consent.payment_method)
                .bind(&consent.mandate)
                .bind(now.as_second())
                .execute(db)
                .await?;
        });
        Ok(())
    }
}
