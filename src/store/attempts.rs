//! Attempts: one try each, with the key and the exact request that were written before it was sent.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::FromRow;

use super::charges::{Prepared, json};
use super::rows::instant;
use super::sql::{alone, batch, on_db};
use super::{Result, Store};
use crate::billing::charge::{Attempt, Charge, Operation, Phase, Sent};
use crate::billing::decline::Decline;
use crate::billing::ids::ChargeId;
use crate::billing::money::Money;
use crate::billing::network_rules::{HISTORY, Try, binds_first_from};

/// A new attempt with its frozen request, written before the first byte leaves.
#[derive(Clone, Debug, Serialize)]
pub struct NewAttempt {
    charge_id: ChargeId,
    /// Number within the charge.
    pub number: u32,
    generation: u32,
    operation: &'static str,
    /// Derived once, stored here, never computed again.
    pub idempotency_key: String,
    path: String,
    body: String,
    payment_method: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    card_fingerprint: Option<String>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_sent_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sent_at: Option<i64>,
    sends: u32,
    created_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<i64>,
}

impl NewAttempt {
    /// The row of a charge's open attempt.
    #[must_use]
    pub fn new(charge: &Charge, attempt: Attempt, request: &Prepared, now: Timestamp) -> Self {
        let (state, not_before, sent) = phase(attempt.phase);
        Self {
            charge_id: charge.id,
            number: attempt.number,
            generation: charge.generation,
            operation: attempt.operation.as_str(),
            idempotency_key: request.key.clone(),
            path: request.path.clone(),
            body: request.body.clone(),
            payment_method: request.payment_method.clone(),
            card_fingerprint: request.fingerprint.clone(),
            state,
            not_before,
            first_sent_at: sent.map(|sent| sent.first_at.as_second()),
            last_sent_at: sent.map(|sent| sent.last_at.as_second()),
            sends: sent.map_or(0, |sent| sent.sends),
            created_at: now.as_second(),
            finished_at: None,
        }
    }

    /// The row of an attempt that another database wrote and sent: it is over, and its decline, if the bank said no or says
    /// so later, will stand with it.
    #[must_use]
    pub fn found(charge: &Charge, request: &Prepared, is_pending: bool, now: Timestamp) -> Self {
        let phase = Phase::Prepared { not_before: now };
        let attempt = Attempt { number: charge.attempts, operation: Operation::Create, phase };
        let state = if is_pending { "processing" } else { "void" };
        let prepared = Self::new(charge, attempt, request, now);
        let at = Some(now.as_second());
        Self { state, not_before: None, first_sent_at: at, finished_at: at, ..prepared }
    }
}

/// A phase as columns: state, not_before, and what is known of its sendings.
fn phase(phase: Phase) -> (&'static str, Option<i64>, Option<Sent>) {
    match phase {
        Phase::Prepared { not_before } => ("prepared", Some(not_before.as_second()), None),
        Phase::Sending(sent) => ("sending", None, Some(sent)),
        Phase::Unknown(sent) => ("unknown", None, Some(sent)),
    }
}

/// How an attempt row changes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AttemptUpdate {
    #[serde(skip_serializing_if = "Option::is_none")]
    charge_id: Option<ChargeId>,
    number: u32,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_sent_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sent_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sends: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    misses: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    poisoned_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_intent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_charge: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    card_fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<i64>,
}

impl AttemptUpdate {
    /// The attempt stays open, in its present phase.
    #[must_use]
    pub fn open(charge: ChargeId, attempt: Attempt, now: Timestamp) -> Self {
        let (state, not_before, sent) = phase(attempt.phase);
        Self {
            charge_id: Some(charge),
            number: attempt.number,
            state,
            not_before,
            first_sent_at: sent.map(|sent| sent.first_at.as_second()),
            last_sent_at: sent.map(|sent| sent.last_at.as_second()),
            sends: sent.map(|sent| sent.sends),
            misses: sent.map(|sent| sent.misses),
            poisoned_at: sent.filter(|sent| sent.poisoned).map(|_| now.as_second()),
            ..Self::default()
        }
    }

    /// What Stripe took days ago, or what was given up because nobody heard of it, was declined in the end.
    #[must_use]
    pub fn declined_late(charge: ChargeId, number: u32, decline: &Decline, now: Timestamp) -> Self {
        Self::finished(charge, number, "declined", now).with_decline(decline).sent_by_another(now)
    }

    /// The attempt left, if nobody knows when, before `now`: another database has sent it.
    #[must_use]
    pub fn sent_by_another(mut self, now: Timestamp) -> Self {
        self.first_sent_at = Some(now.as_second());
        self
    }

    /// The attempt is over; `state` is one of `paid`, `declined`, `processing`, `rejected`, `void`.
    #[must_use]
    pub fn finished(charge: ChargeId, number: u32, state: &'static str, now: Timestamp) -> Self {
        Self { charge_id: Some(charge), number, state, finished_at: Some(now.as_second()), ..Self::default() }
    }

    /// Adds the issuer's answer, which may name another card than the database knew.
    #[must_use]
    pub fn with_decline(mut self, decline: &Decline) -> Self {
        self.class = Some(decline.class().as_str());
        self.payment_intent.clone_from(&decline.payment_intent);
        self.stripe_charge.clone_from(&decline.stripe_charge);
        self.card_fingerprint.clone_from(&decline.fingerprint);
        self.decline = serde_json::to_string(decline).ok();
        self
    }

    /// Adds the PaymentIntent.
    #[must_use]
    pub fn with_payment_intent(mut self, id: Option<String>) -> Self {
        self.payment_intent = id;
        self
    }

    /// Adds Stripe's request id, or a sentence about what went wrong.
    #[must_use]
    pub fn with_trace(mut self, request_id: Option<String>, error: Option<String>) -> Self {
        self.request_id = request_id;
        self.error = error;
        self
    }
}

batch! {
    INSERT = "INSERT INTO attempt (charge_id, number, generation, operation, idempotency_key, path, body, payment_method, \
        card_fingerprint, state, not_before, first_sent_at, last_sent_at, sends, created_at, finished_at) SELECT r.charge_id, r.number, \
        r.generation, r.operation, r.idempotency_key, r.path, r.body, r.payment_method, r.card_fingerprint, r.state, r.not_before, \
        r.first_sent_at, r.last_sent_at, r.sends, r.created_at, r.finished_at FROM",
    (charge_id TEXT, number BIGINT, generation BIGINT, operation TEXT, idempotency_key TEXT, path TEXT, body TEXT,
     payment_method TEXT, card_fingerprint TEXT, state TEXT, not_before BIGINT, first_sent_at BIGINT, last_sent_at BIGINT,
     sends BIGINT, created_at BIGINT, finished_at BIGINT),
    ""
}
batch! {
    UPDATE = "UPDATE attempt SET state = r.state, not_before = r.not_before, \
        first_sent_at = CASE WHEN r.finished_at IS NULL THEN r.first_sent_at ELSE COALESCE(attempt.first_sent_at, r.first_sent_at) END, \
        last_sent_at = COALESCE(r.last_sent_at, attempt.last_sent_at), sends = COALESCE(r.sends, attempt.sends), \
        misses = COALESCE(r.misses, attempt.misses), poisoned_at = COALESCE(attempt.poisoned_at, r.poisoned_at), \
        class = r.class, decline = r.decline, payment_intent = COALESCE(r.payment_intent, attempt.payment_intent), \
        stripe_charge = r.stripe_charge, card_fingerprint = COALESCE(r.card_fingerprint, attempt.card_fingerprint), request_id = COALESCE(r.request_id, attempt.request_id), error = r.error, \
        finished_at = r.finished_at FROM",
    (charge_id TEXT, number BIGINT, state TEXT, not_before BIGINT, first_sent_at BIGINT, last_sent_at BIGINT, sends BIGINT,
     misses BIGINT, poisoned_at BIGINT, class TEXT, decline TEXT, payment_intent TEXT, stripe_charge TEXT, card_fingerprint TEXT,
     request_id TEXT, error TEXT, finished_at BIGINT),
    "WHERE attempt.charge_id = r.charge_id AND attempt.number = r.number \
     AND (attempt.finished_at IS NULL OR (attempt.state IN ('processing', 'void') AND r.state = 'declined'))"
}

batch! {
    WORN = "SELECT r.card FROM", (card TEXT, since BIGINT, times BIGINT),
    "WHERE (SELECT COUNT(*) FROM network_budget b WHERE b.card_fingerprint = r.card AND b.tried_at > r.since) >= r.times \
     OR EXISTS (SELECT 1 FROM network_budget b WHERE b.card_fingerprint = r.card AND b.refused_at IS NOT NULL)"
}

pub(super) const INSERT_ATTEMPTS: super::sql::Sql = INSERT;
pub(super) const UPDATE_ATTEMPTS: super::sql::Sql = UPDATE;

/// One attempt, for people.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct AttemptRow {
    /// Number within the charge.
    pub number: i64,
    /// `create` or `confirm`.
    pub operation: String,
    /// State.
    pub state: String,
    /// Idempotency key.
    pub idempotency_key: String,
    /// Unix seconds.
    pub first_sent_at: Option<i64>,
    /// How often it was sent.
    pub sends: i64,
    /// Class of the decline.
    pub class: Option<String>,
    /// The decline as JSON.
    #[serde(skip)]
    pub decline: Option<String>,
    /// Stripe's PaymentIntent.
    pub payment_intent: Option<String>,
    /// Stripe's charge.
    pub stripe_charge: Option<String>,
    /// Stripe's request id.
    pub request_id: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    pub finished_at: Option<i64>,
}

impl AttemptRow {
    /// The decline, where it was one.
    #[must_use]
    pub fn decline(&self) -> Option<Decline> {
        serde_json::from_str(self.decline.as_deref()?).ok()
    }
}

impl Store {
    /// Puts a decline on record with an attempt that is over, once.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn decline_late(&self, update: AttemptUpdate) -> Result<()> {
        let (sql, rows) = (self.text(UPDATE_ATTEMPTS), json(&[update]));
        alone!(self, db => { sqlx::query(sql).bind(rows).execute(db).await?; });
        Ok(())
    }

    /// All attempts of a charge, in order.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn attempts(&self, charge: ChargeId) -> Result<Vec<AttemptRow>> {
        const LIST: &str = "SELECT number, operation, state, idempotency_key, first_sent_at, sends, class, decline, payment_intent, \
            stripe_charge, request_id, error, created_at, finished_at FROM attempt WHERE charge_id = $1 ORDER BY number";
        Ok(
            on_db!(self, db => sqlx::query_as::<_, AttemptRow>(LIST).bind(charge.to_string()).fetch_all(db).await?),
        )
    }

    /// The tries of a card within the networks' longest window.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn network_history(
        &self,
        fingerprint: &str,
        amount: Money,
        now: Timestamp,
    ) -> Result<Vec<Try>> {
        const HISTORY_OF: &str = "SELECT tried_at, amount_minor, currency, brand, not_before FROM network_budget \
            WHERE card_fingerprint = $1 AND tried_at > $2 ORDER BY tried_at";
        let since = now.checked_sub(HISTORY).unwrap_or(Timestamp::MIN);
        type Row = (i64, i64, String, Option<String>, Option<i64>);
        let rows: Vec<Row> = on_db!(self, db => {
            sqlx::query_as(HISTORY_OF).bind(fingerprint).bind(since.as_second()).fetch_all(db).await?
        });
        let wanted = (amount.minor(), amount.currency().code());
        let tries = rows.into_iter().filter_map(|(tried_at, minor, currency, brand, not_before)| {
            let same_amount = (minor, currency.as_str()) == wanted;
            Some(Try { at: instant(tried_at)?, same_amount, brand, not_before: not_before.and_then(instant) })
        });
        Ok(tries.collect())
    }

    /// Those of these cards whose history binds even a first try: declined so often, within the networks' longest window, that it
    /// may have to wait, or declined for ever.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn worn_cards(
        &self,
        fingerprints: impl Iterator<Item = &str>,
        now: Timestamp,
    ) -> Result<HashSet<String>> {
        #[derive(Serialize)]
        struct Card<'a> {
            card: &'a str,
            since: i64,
            times: usize,
        }
        let since = now.checked_sub(HISTORY).unwrap_or(Timestamp::MIN).as_second();
        let cards = fingerprints.map(|card| Card { card, since, times: binds_first_from() });
        let (sql, rows) = (self.text(WORN), json(&cards.collect::<Vec<_>>()));
        let worn: Vec<String> = on_db!(self, db => sqlx::query_scalar(sql).bind(&rows).fetch_all(db).await?);
        Ok(worn.into_iter().collect())
    }

    /// Whether a bank said "never again" of a card, to a machine or to the customer, after the customer had entered it (Unix
    /// seconds; `None`: nobody knows when).
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn is_refused_for_ever(&self, fingerprint: &str, entered_at: Option<i64>) -> Result<bool> {
        const FIND: &str =
            "SELECT COUNT(*) FROM network_budget WHERE card_fingerprint = $1 AND refused_at >= $2";
        let refusals: i64 = on_db!(self, db => {
            sqlx::query_scalar(FIND).bind(fingerprint).bind(entered_at.unwrap_or(i64::MIN)).fetch_one(db).await?
        });
        Ok(refusals > 0)
    }

    /// As [`Store::network_history`], and what other charges have sent to the card and has no answer yet: the bank may have
    /// declined that too.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn network_tries(
        &self,
        fingerprint: &str,
        charge: &Charge,
        now: Timestamp,
    ) -> Result<Vec<Try>> {
        const UNANSWERED: &str = "SELECT a.last_sent_at, c.amount_minor, c.currency FROM attempt a \
            JOIN charge c ON c.id = a.charge_id WHERE a.finished_at IS NULL AND a.last_sent_at IS NOT NULL \
            AND a.card_fingerprint = $1 AND a.charge_id <> $2";
        let mut tries = self.network_history(fingerprint, charge.amount, now).await?;
        let rows: Vec<(i64, i64, String)> = on_db!(self, db => {
            sqlx::query_as(UNANSWERED).bind(fingerprint).bind(charge.id.to_string()).fetch_all(db).await?
        });
        tries.extend(rows.into_iter().filter_map(|(at, minor, currency)| {
            let same_amount =
                (minor, currency.as_str()) == (charge.amount.minor(), charge.amount.currency().code());
            Some(Try { at: instant(at)?, same_amount, brand: None, not_before: None })
        }));
        Ok(tries)
    }
}
