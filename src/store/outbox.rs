//! The outbox: promises to act, written with the change that caused them, kept by the notify flow.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::charges::json;
use super::customers::Card;
use super::sql::{Sql, alone, batch, on_db};
use super::{Result, Store};
use crate::billing::apply::Effect;
use crate::billing::charge::Charge;
use crate::billing::ids::{ChargeId, CustomerId};

/// What an outbox row promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxKind {
    /// A mail to the customer.
    Mail,
    /// A mail to the operator, and a line in the log.
    Alarm,
    /// Make the card the customer paid with the default.
    AdoptCard,
    /// Try a card that was just saved on an open charge.
    TryCard,
}

impl OutboxKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Alarm => "alarm",
            Self::AdoptCard => "adopt_card",
            Self::TryCard => "try_card",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Mail, Self::Alarm, Self::AdoptCard, Self::TryCard]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// A promise to store. (subject, step) is unique: the same promise made twice is kept once.
#[derive(Clone, Debug, Serialize)]
pub struct OutboxInsert {
    id: Uuid,
    subject: String,
    step: String,
    kind: &'static str,
    charge_id: Option<ChargeId>,
    customer_id: Option<CustomerId>,
    template: Option<String>,
    payload: String,
    wake_at: i64,
}

impl OutboxInsert {
    /// The row for an effect of a charge; `None` for effects that are not promises to act.
    pub(super) fn of(effect: &Effect, charge: &Charge, now: Timestamp) -> Option<Self> {
        let (kind, step, template, payload) = match effect {
            Effect::Mail { step, kind } => {
                (OutboxKind::Mail, step.clone(), Some(kind.as_str().to_owned()), String::new())
            }
            Effect::Alarm { step, text } => (OutboxKind::Alarm, step.clone(), None, text.clone()),
            Effect::AdoptCard { payment_method } => {
                (OutboxKind::AdoptCard, format!("adopt-{payment_method}"), None, payment_method.clone())
            }
            Effect::EndSubscription(_) | Effect::StopSeries => return None,
        };
        let subject = charge.id.to_string();
        Some(Self {
            id: outbox_id(&subject, &step),
            subject,
            step,
            kind: kind.as_str(),
            charge_id: Some(charge.id),
            customer_id: Some(charge.customer),
            template,
            payload,
            wake_at: now.as_second(),
        })
    }

    /// A mail about a charge that no change of it causes.
    #[must_use]
    pub fn about(charge: &Charge, step: &str, template: &str, now: Timestamp) -> Self {
        let mail = Self::mail(charge.id.to_string(), step, charge.customer, template, String::new(), now);
        Self { charge_id: Some(charge.id), ..mail }
    }

    /// A card that was just saved, or got a new number, is to be tried on an open charge: once each.
    #[must_use]
    pub fn try_card(charge: &Charge, card: &Card, now: Timestamp) -> Self {
        let number = card.fingerprint.as_deref().unwrap_or_default();
        let step = format!("try-{}-{number}", card.payment_method);
        Self::card(charge, step, card.payment_method.clone(), now)
    }

    /// Another saved card of the customer is to be tried on a charge: once.
    #[must_use]
    pub fn backup_card(charge: &Charge, now: Timestamp) -> Self {
        Self::card(charge, "backup-card".into(), String::new(), now)
    }

    fn card(charge: &Charge, step: String, payload: String, now: Timestamp) -> Self {
        let subject = charge.id.to_string();
        Self {
            id: outbox_id(&subject, &step),
            subject,
            step,
            kind: OutboxKind::TryCard.as_str(),
            charge_id: Some(charge.id),
            customer_id: Some(charge.customer),
            template: None,
            payload,
            wake_at: now.as_second(),
        }
    }

    /// A mail that belongs to something other than a charge (an enrolment).
    #[must_use]
    pub fn mail(
        subject: String,
        step: &str,
        customer: CustomerId,
        template: &str,
        payload: String,
        now: Timestamp,
    ) -> Self {
        Self {
            id: outbox_id(&subject, step),
            step: step.to_owned(),
            kind: OutboxKind::Mail.as_str(),
            charge_id: None,
            customer_id: Some(customer),
            template: Some(template.to_owned()),
            payload,
            wake_at: now.as_second(),
            subject,
        }
    }

    /// Shows it in the story of a charge.
    #[must_use]
    pub fn of_charge(self, charge: Option<ChargeId>) -> Self {
        Self { charge_id: charge, ..self }
    }

    /// Something the operator should know that no charge caused.
    #[must_use]
    pub fn alarm(subject: String, step: &str, text: String, now: Timestamp) -> Self {
        Self {
            id: outbox_id(&subject, step),
            step: step.to_owned(),
            kind: OutboxKind::Alarm.as_str(),
            charge_id: None,
            customer_id: None,
            template: None,
            payload: text,
            wake_at: now.as_second(),
            subject,
        }
    }
}

/// Deterministic: the mail's Message-ID follows from it, also after a restore.
fn outbox_id(subject: &str, step: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("recurd outbox {subject} {step}").as_bytes())
}

/// A promise to keep.
#[derive(Clone, Debug)]
pub struct OutboxItem {
    /// Its id; also the Message-ID's left half.
    pub id: Uuid,
    /// What it belongs to.
    pub subject: String,
    /// Unique within the subject.
    pub step: String,
    /// What to do.
    pub kind: OutboxKind,
    /// The charge.
    pub charge: Option<ChargeId>,
    /// The customer.
    pub customer: Option<CustomerId>,
    /// Mail template.
    pub template: Option<String>,
    /// Text of an alarm, id of a card (empty: whichever else is saved), JSON of a mail.
    pub payload: String,
    /// How often it was tried since it last waited.
    pub tries: i64,
    /// How many sendings may have left without anybody knowing what came of them.
    pub unknowns: i64,
    /// When it was promised.
    pub created_at: Timestamp,
    /// Until when nobody else keeps it.
    pub leased_until: Timestamp,
}

/// What came of a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxResult {
    /// Kept.
    Done,
    /// No longer needed, and why.
    Dropped(String),
    /// Cannot be kept, and why.
    Failed(String),
    /// Given up, and why; the mail may have been accepted all the same.
    PerhapsSent(String),
    /// Nothing was tried, since something has to come first: look again at this instant.
    Waits {
        /// When.
        at: Timestamp,
        /// Why.
        why: String,
    },
    /// Try again at this instant.
    Later {
        /// When.
        at: Timestamp,
        /// Why.
        why: String,
        /// The mail may have been accepted already.
        maybe_sent: bool,
    },
}

batch! {
    INSERT = "INSERT INTO outbox (id, subject, step, kind, charge_id, customer_id, template, payload, state, wake_at, created_at) \
        SELECT r.id, r.subject, r.step, r.kind, r.charge_id, r.customer_id, r.template, r.payload, 'pending', r.wake_at, r.wake_at FROM",
    (id TEXT, subject TEXT, step TEXT, kind TEXT, charge_id TEXT, customer_id TEXT, template TEXT, payload TEXT, wake_at BIGINT),
    "WHERE 1 = 1 ON CONFLICT DO NOTHING"
}
pub(super) const INSERT_OUTBOX: Sql = INSERT;

macro_rules! claimable {
    ($open:literal, $close:literal) => {
        concat!(
            "UPDATE outbox SET lease_owner = $1, wake_at = $2, tries = tries + 1 WHERE id ", $open, "SELECT id FROM outbox ",
            "WHERE state = 'pending' AND wake_at <= $3 ORDER BY wake_at LIMIT CAST($4 AS BIGINT)",
            $close, " RETURNING id, subject, step, kind, charge_id, customer_id, template, payload, tries, unknowns, created_at"
        )
    };
}

/// Differs: no SKIP LOCKED in SQLite; it has one writer. PostgreSQL gets an array, which it computes once: it
/// may join a subquery with `IN` so that the LIMIT starts anew for every row of the table.
const CLAIM: Sql = Sql {
    sqlite: claimable!("IN (", ")"),
    postgres: claimable!("= ANY (ARRAY(", " FOR UPDATE SKIP LOCKED))"),
};

#[derive(FromRow)]
struct Row {
    id: String,
    subject: String,
    step: String,
    kind: String,
    charge_id: Option<String>,
    customer_id: Option<String>,
    template: Option<String>,
    payload: String,
    tries: i64,
    unknowns: i64,
    created_at: i64,
}

impl Row {
    fn read(self, leased_until: Timestamp) -> Option<OutboxItem> {
        Some(OutboxItem {
            id: self.id.parse().ok()?,
            kind: OutboxKind::parse(&self.kind)?,
            charge: self.charge_id.and_then(|id| id.parse().ok()),
            customer: self.customer_id.and_then(|id| id.parse().ok()),
            subject: self.subject,
            step: self.step,
            template: self.template,
            payload: self.payload,
            tries: self.tries,
            unknowns: self.unknowns,
            created_at: super::rows::instant(self.created_at)?,
            leased_until,
        })
    }
}

impl Store {
    /// Stores promises that no charge caused.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn promise(&self, promises: &[OutboxInsert]) -> Result<()> {
        let (sql, rows) = (self.text(INSERT), json(&promises));
        alone!(self, db => { sqlx::query(sql).bind(&rows).execute(db).await?; });
        Ok(())
    }

    /// Takes a lease on promises that wait to be kept.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn claim_outbox(
        &self,
        owner: &str,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxItem>> {
        let sql = self.text(CLAIM);
        let rows: Vec<Row> = alone!(self, db => {
            sqlx::query_as(sql)
                .bind(owner)
                .bind(lease_until.as_second())
                .bind(now.as_second())
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(db)
                .await?
        });
        let mut items: Vec<OutboxItem> = rows.into_iter().filter_map(|row| row.read(lease_until)).collect();
        items.sort_by_key(|item| (item.created_at, item.id));
        Ok(items)
    }

    /// Records what came of a promise, and so of its mark.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn finish_outbox(
        &self,
        item: &OutboxItem,
        owner: &str,
        result: &OutboxResult,
        now: Timestamp,
    ) -> Result<()> {
        const FINISH: &str = "UPDATE outbox SET state = $3, error = $4, wake_at = $5, done_at = $6, unknowns = $7, \
            tries = CASE WHEN $8 = 0 THEN tries ELSE 0 END, lease_owner = NULL WHERE id = $1 AND lease_owner = $2 AND state = 'pending'";
        let (state, error, wake, maybe) = match result {
            OutboxResult::Done => ("done", None, None, false),
            OutboxResult::Dropped(why) => ("dropped", Some(why), None, false),
            OutboxResult::Failed(why) => ("failed", Some(why), None, false),
            OutboxResult::PerhapsSent(why) => ("failed", Some(why), None, true),
            OutboxResult::Waits { at, why } => ("pending", Some(why), Some(at.as_second()), false),
            OutboxResult::Later { at, why, maybe_sent } => {
                ("pending", Some(why), Some(at.as_second()), *maybe_sent)
            }
        };
        let done_at = wake.is_none().then(|| now.as_second());
        let waits = matches!(result, OutboxResult::Waits { .. });
        on_db!(self, db => {
            sqlx::query(FINISH)
                .bind(item.id.to_string())
                .bind(owner)
                .bind(state)
                .bind(error)
                .bind(wake)
                .bind(done_at)
                .bind(item.unknowns + i64::from(maybe))
                .bind(i64::from(waits))
                .execute(db)
                .await?;
        });
        Ok(())
    }
}
