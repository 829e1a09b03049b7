//! Charges: insert, claim, read.

use jiff::Timestamp;
use serde::Serialize;

use super::outbox::OutboxInsert;
use super::rows::{ChargeRow, ChargeUpdate, parts, select_charges};
use super::sql::{Sql, alone, batch, in_tx, on_db};
use super::{Result, Store};
use crate::billing::charge::{Charge, Need, State, Work};
use crate::billing::ids::{ChargeId, CustomerId, SubscriptionId};
use crate::billing::subscription::SubscriptionState;

/// A charge with what a worker needs to collect it.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The charge.
    pub charge: Charge,
    /// Name of the plan it was made from.
    pub plan: String,
    /// Revision of that plan.
    pub revision: u32,
    /// Text for the card statement.
    pub statement_suffix: Option<String>,
    /// What was given back of a paid charge, in minor units.
    pub refunded_minor: i64,
    /// When it was entered, which may be long before it is due.
    pub created_at: Timestamp,
    /// Stripe's customer id.
    pub stripe_customer: String,
    /// The customer's default card, as known now.
    pub payment_method: Option<String>,
    /// Its fingerprint.
    pub card_fingerprint: Option<String>,
    /// When the customer entered it, Unix seconds.
    pub card_entered_at: Option<i64>,
    /// Its brand, in Stripe's spelling.
    pub card_brand: Option<String>,
    /// Why nothing may be charged to this customer, if so (a dispute).
    pub hold_why: Option<String>,
    /// The customer's time zone, an IANA name.
    pub time_zone: String,
    /// State of the subscription; `None` for a one-off.
    pub subscription_state: Option<SubscriptionState>,
    /// The open attempt's frozen request.
    pub prepared: Option<Prepared>,
}

/// The exact request of an attempt, as written before it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Idempotency key.
    pub key: String,
    /// Path of the POST.
    pub path: String,
    /// Exact body.
    pub body: String,
    /// The card it names.
    pub payment_method: String,
    /// Fingerprint of that card when it was written.
    pub fingerprint: Option<String>,
}

/// A charge to insert. If its id or its period exists already, nothing happens.
#[derive(Clone, Debug)]
pub struct NewCharge {
    /// The charge in its first state, version 0.
    pub charge: Charge,
    /// Plan and revision whose ladder it follows.
    pub plan: String,
    /// Revision of that plan.
    pub revision: u32,
    /// Text for the card statement.
    pub statement_suffix: Option<String>,
}

impl NewCharge {
    /// A charge that begins with a question is one the operator must hear of.
    pub(super) fn question(&self, now: Timestamp) -> Option<OutboxInsert> {
        let State::NeedsReview { why, .. } = &self.charge.state else { return None };
        let text = format!("charge {} needs a person: {why}", self.charge.id);
        Some(OutboxInsert::alarm(self.charge.id.to_string(), "review-0", text, now))
    }
}

/// Which charges to list.
#[derive(Clone, Debug, Default)]
pub struct ChargeFilter {
    /// Only in this state.
    pub state: Option<String>,
    /// Only of this customer.
    pub customer: Option<CustomerId>,
    /// Only of this subscription.
    pub subscription: Option<SubscriptionId>,
    /// Start after this many.
    pub offset: i64,
    /// At most this many.
    pub limit: i64,
}

impl ChargeFilter {
    /// What a customer owes after a decline.
    #[must_use]
    pub fn past_due_of(customer: CustomerId, limit: i64) -> Self {
        Self { customer: Some(customer), state: Some("past_due".into()), limit, ..Self::default() }
    }
}

batch! {
    INSERT = "INSERT INTO charge (id, customer_id, subscription_id, period_index, plan, revision, amount_minor, currency, due_at, \
        description, statement_suffix, state, next_at, next_action, until_at, needs, reason, settled_at, wake_at, wake_for, created_at) \
        SELECT r.id, r.customer_id, r.subscription_id, r.period_index, r.plan, r.revision, r.amount_minor, r.currency, r.due_at, \
        r.description, r.statement_suffix, r.state, r.next_at, r.next_action, r.until_at, r.needs, r.reason, r.settled_at, r.wake_at, \
        r.wake_for, r.created_at FROM",
    (id TEXT, customer_id TEXT, subscription_id TEXT, period_index BIGINT, plan TEXT, revision BIGINT, amount_minor BIGINT,
     currency TEXT, due_at BIGINT, description TEXT, statement_suffix TEXT, state TEXT, next_at BIGINT, next_action TEXT,
     until_at BIGINT, needs TEXT, reason TEXT, settled_at BIGINT, wake_at BIGINT, wake_for TEXT, created_at BIGINT),
    "WHERE 1 = 1 ON CONFLICT DO NOTHING"
}

/// Differs: see [`CLAIM`].
const CLAIMED: Sql = Sql {
    sqlite: select_charges!(
        "WHERE c.rowid IN (SELECT CAST(value AS INTEGER) FROM json_each($1)) ORDER BY c.due_at, c.id"
    ),
    postgres: select_charges!(
        "WHERE c.id = ANY (ARRAY(SELECT json_array_elements_text($1::json))) ORDER BY c.due_at, c.id"
    ),
};

/// One charge per customer: the leased one (its worker may have died), else the one that is awake and was due first.
///
/// Asked as a value, and not with EXISTS, so that PostgreSQL looks for it by customer and never joins all that is due with
/// all that is due. What is due later than the charge itself is not even looked at.
macro_rules! claimable {
    ($key:literal, $open:literal, $close:literal) => {
        concat!(
            "UPDATE charge SET lease_owner = $1, wake_at = $2, version = version + 1 WHERE ", $key, $open,
            "SELECT c.", $key, " FROM charge c WHERE c.wake_for = $3 AND c.wake_at <= $4 AND c.id = COALESCE(",
            "(SELECT l.id FROM charge l WHERE l.customer_id = c.customer_id AND l.lease_owner IS NOT NULL), ",
            "(SELECT o.id FROM charge o WHERE o.customer_id = c.customer_id AND o.settled_at IS NULL ",
            "AND o.due_at <= c.due_at AND o.wake_for = $3 AND o.wake_at <= $4 ORDER BY o.due_at, o.id LIMIT 1)) ",
            "ORDER BY c.wake_at LIMIT CAST($5 AS BIGINT)",
            $close, " RETURNING CAST(", $key, " AS TEXT)"
        )
    };
}

/// Differs: no SKIP LOCKED in SQLite; it has one writer, so nobody else holds these rows, and it finds them by rowid, which
/// spares it two descents of the index of ids for each. PostgreSQL gets an array, which it computes once: it may join a
/// subquery with `IN` so that the LIMIT starts anew for every row of the table.
const CLAIM: Sql = Sql {
    sqlite: claimable!("rowid", " IN (", ")"),
    postgres: claimable!("id", " = ANY (ARRAY(", " FOR UPDATE SKIP LOCKED))"),
};

#[derive(Serialize)]
struct InsertRow<'a> {
    id: ChargeId,
    customer_id: CustomerId,
    subscription_id: Option<SubscriptionId>,
    period_index: Option<u32>,
    plan: &'a str,
    revision: u32,
    amount_minor: i64,
    currency: &'static str,
    due_at: i64,
    description: &'a str,
    statement_suffix: Option<&'a str>,
    created_at: i64,
    state: &'static str,
    next_at: Option<i64>,
    next_action: Option<&'static str>,
    until_at: Option<i64>,
    needs: Option<&'static str>,
    reason: Option<&'a str>,
    settled_at: Option<i64>,
    wake_at: Option<i64>,
    wake_for: Option<&'static str>,
}

impl<'a> InsertRow<'a> {
    fn new(new: &'a NewCharge, now: Timestamp) -> Self {
        let charge = &new.charge;
        let (next, until, _, reason, settled) = parts(&charge.state);
        let wake = charge.wake();
        Self {
            id: charge.id,
            customer_id: charge.customer,
            subscription_id: charge.period.map(|(id, _)| id),
            period_index: charge.period.map(|(_, index)| index),
            plan: &new.plan,
            revision: new.revision,
            amount_minor: charge.amount.minor(),
            currency: charge.amount.currency().code(),
            due_at: charge.due_at.as_second(),
            description: &charge.description,
            statement_suffix: new.statement_suffix.as_deref(),
            created_at: now.as_second(),
            state: charge.state.as_str(),
            next_at: next.map(|next| next.at.as_second()),
            next_action: next.map(|next| next.action.as_str()),
            until_at: until.map(Timestamp::as_second),
            needs: charge.state.needs().map(Need::as_str),
            reason,
            settled_at: settled.map(Timestamp::as_second),
            wake_at: wake.map(|(_, at)| at.as_second()),
            wake_for: wake.map(|(work, _)| work.as_str()),
        }
    }
}

/// The JSON array for a batch statement's `$1`.
pub(super) fn insert_rows(charges: &[NewCharge], now: Timestamp) -> String {
    let rows: Vec<InsertRow<'_>> = charges.iter().map(|charge| InsertRow::new(charge, now)).collect();
    json(&rows)
}

pub(super) const INSERT_CHARGES: Sql = INSERT;

/// Rows as JSON. Serializing our own structs of numbers and strings cannot fail.
pub(super) fn json<T: Serialize>(rows: &T) -> String {
    serde_json::to_string(rows).unwrap_or_else(|_| "[]".to_owned())
}

/// The first and the last UUID that begin with what was typed; `None` if none can.
pub(super) fn uuid_range(prefix: &str) -> Option<(String, String)> {
    let prefix = prefix.to_ascii_lowercase();
    let pad = |shape: &str| shape.get(prefix.len()..).map(|rest| format!("{prefix}{rest}"));
    let range = (pad("00000000-0000-0000-0000-000000000000")?, pad("ffffffff-ffff-ffff-ffff-ffffffffffff")?);
    uuid::Uuid::parse_str(&range.0).ok().map(|_| range)
}

impl Store {
    /// Inserts charges; those that exist already are left alone. Returns how many were new.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn insert_charges(&self, charges: &[NewCharge], now: Timestamp) -> Result<u64> {
        let rows = insert_rows(charges, now);
        let sql = self.text(INSERT);
        Ok(in_tx!(self, tx => { sqlx::query(sql).bind(&rows).execute(tx).await?.rows_affected() }))
    }

    /// Takes a lease on at most `limit` charges that are awake for `work`, at most one per customer.
    ///
    /// Crash: a dead owner's lease runs out at `lease_until`, and the charge is awake again.
    ///
    /// # Errors
    /// [`super::StoreError::Database`]. A row that does not read back is left out, and logged as an error.
    pub async fn claim_charges(
        &self,
        work: Work,
        owner: &str,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Claimed>> {
        let (claim, read) = (self.text(CLAIM), self.text(CLAIMED));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = in_tx!(self, tx => {
            let keys: Vec<String> = sqlx::query_scalar(claim)
                .bind(owner)
                .bind(lease_until.as_second())
                .bind(work.as_str())
                .bind(now.as_second())
                .bind(limit)
                .fetch_all(&mut *tx)
                .await?;
            match keys.is_empty() {
                true => Vec::new(),
                false => sqlx::query_as::<_, ChargeRow>(read).bind(json(&keys)).fetch_all(tx).await?,
            }
        });
        Ok(rows.into_iter().filter_map(ChargeRow::read_or_tell).collect())
    }

    /// Takes one charge for a command or a click, unless a worker has it. `None`: it is leased, or does not exist.
    ///
    /// # Errors
    /// [`super::StoreError::Database`]; [`super::StoreError::Damaged`] for a row that does not read back.
    pub async fn claim_charge(
        &self,
        id: ChargeId,
        owner: &str,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<Claimed>> {
        const CLAIM_ONE: &str = "UPDATE charge SET lease_owner = CASE WHEN wake_at IS NULL THEN NULL ELSE $1 END, \
            wake_at = CASE WHEN wake_at IS NULL THEN NULL ELSE $2 END, version = version + 1 WHERE id = $3 AND (lease_owner IS NULL OR wake_at <= $4) AND NOT EXISTS (SELECT 1 FROM charge o \
            WHERE o.customer_id = charge.customer_id AND o.id <> charge.id AND o.lease_owner IS NOT NULL AND o.wake_at > $4)";
        const FREE_DEAD: &str = "UPDATE charge SET lease_owner = NULL WHERE lease_owner IS NOT NULL AND wake_at <= $2 \
            AND customer_id = (SELECT customer_id FROM charge WHERE id = $1) AND id <> $1";
        const READ: &str = select_charges!("WHERE c.id = $1");
        let id = id.to_string();
        let row = in_tx!(self, tx => {
            sqlx::query(FREE_DEAD).bind(&id).bind(now.as_second()).execute(&mut *tx).await?;
            let taken = sqlx::query(CLAIM_ONE)
                .bind(owner)
                .bind(lease_until.as_second())
                .bind(&id)
                .bind(now.as_second())
                .execute(&mut *tx)
                .await?
                .rows_affected();
            match taken {
                0 => None,
                _ => sqlx::query_as::<_, ChargeRow>(READ).bind(&id).fetch_optional(tx).await?,
            }
        });
        row.map(ChargeRow::read).transpose()
    }

    /// Gives a lease back without a change: the charge wakes when its state says, not before `not_before`.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn release_charge(&self, charge: &Charge, not_before: Option<Timestamp>) -> Result<()> {
        const RELEASE: &str =
            "UPDATE charge SET lease_owner = NULL, wake_at = $3 WHERE id = $1 AND version = $2";
        let wake = ChargeUpdate::wake_secs(charge, not_before);
        on_db!(self, db => {
            sqlx::query(RELEASE).bind(charge.id.to_string()).bind(charge.version).bind(wake).execute(db).await?;
        });
        Ok(())
    }

    /// Reads one charge.
    ///
    /// # Errors
    /// As [`Store::claim_charge`].
    pub async fn find_charge(&self, id: ChargeId) -> Result<Option<Claimed>> {
        const READ: &str = select_charges!("WHERE c.id = $1");
        let row = on_db!(self, db => {
            sqlx::query_as::<_, ChargeRow>(READ).bind(id.to_string()).fetch_optional(db).await?
        });
        row.map(ChargeRow::read).transpose()
    }

    /// Charges that match a filter, newest due date first.
    ///
    /// # Errors
    /// As [`Store::claim_charge`].
    pub async fn list_charges(&self, filter: &ChargeFilter) -> Result<Vec<Claimed>> {
        const LIST: &str = select_charges!(
            "WHERE ($1 IS NULL OR c.state = $1) AND ($2 IS NULL OR c.customer_id = $2) \
             AND ($3 IS NULL OR c.subscription_id = $3) ORDER BY c.due_at DESC, c.id LIMIT CAST($4 AS BIGINT) OFFSET CAST($5 AS BIGINT)"
        );
        let rows = on_db!(self, db => {
            sqlx::query_as::<_, ChargeRow>(LIST)
                .bind(&filter.state)
                .bind(filter.customer.map(|id| id.to_string()))
                .bind(filter.subscription.map(|id| id.to_string()))
                .bind(filter.limit)
                .bind(filter.offset)
                .fetch_all(db)
                .await?
        });
        rows.into_iter().map(ChargeRow::read).collect()
    }

    /// Ids of charges that begin with `prefix` (as people type them), at most two.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn charges_by_prefix(&self, prefix: &str) -> Result<Vec<String>> {
        const FIND: &str = "SELECT id FROM charge WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT 2";
        let Some((first, last)) = uuid_range(prefix) else { return Ok(Vec::new()) };
        Ok(on_db!(self, db => sqlx::query_scalar(FIND).bind(&first).bind(&last).fetch_all(db).await?))
    }

    /// Notes what Stripe says was given back of a charge, in minor units. Returns whether the charge is here.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn set_refunded(&self, charge: ChargeId, minor: i64) -> Result<bool> {
        const SET: &str = "UPDATE charge SET refunded_minor = $2 WHERE id = $1";
        let changed = alone!(self, db => {
            sqlx::query(SET).bind(charge.to_string()).bind(minor).execute(db).await?.rows_affected()
        });
        Ok(changed > 0)
    }

    /// How many charges are awake for `work` at `now`.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn count_awake(&self, work: Work, now: Timestamp) -> Result<i64> {
        const COUNT: &str = "SELECT COUNT(*) FROM charge WHERE wake_for = $1 AND wake_at <= $2";
        Ok(on_db!(self, db => {
            sqlx::query_scalar(COUNT).bind(work.as_str()).bind(now.as_second()).fetch_one(db).await?
        }))
    }
}
