//! Subscriptions: add, activate, turn reached periods into charges, end.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use serde::Serialize;
use sqlx::FromRow;

use super::charges::{INSERT_CHARGES, NewCharge, insert_rows, json, uuid_range};
use super::outbox::{INSERT_OUTBOX, OutboxInsert};
use super::rows::{damaged, small};
use super::sql::{batch, in_tx, on_db};
use super::{Result, Store};
use crate::billing::apply::Effect;
use crate::billing::ids::{CustomerId, SubscriptionId};
use crate::billing::ladder::Finally;
use crate::billing::subscription::{Frozen, SubscriptionState};

/// A subscription as stored.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct Subscription {
    /// Ours.
    pub id: String,
    /// Whose.
    pub customer_id: String,
    /// Plan key.
    pub plan: String,
    /// Plan revision it was sold.
    pub revision: i64,
    /// Units.
    pub quantity: i64,
    /// `pending`, `active`, `paused`, `canceled` or `completed`.
    pub state: String,
    /// Local date of period 0.
    pub anchor_date: String,
    /// Local time of day in seconds after midnight.
    pub time_of_day_secs: i64,
    /// IANA zone.
    pub time_zone: String,
    /// The next period's number.
    pub next_index: i64,
    /// When it falls due, Unix seconds.
    pub next_due_at: Option<i64>,
    /// When it ended, Unix seconds.
    pub ended_at: Option<i64>,
    /// Why it ended or is paused.
    pub end_reason: Option<String>,
    /// Unix seconds.
    pub created_at: i64,
}

impl Subscription {
    /// Our id as a value.
    #[must_use]
    pub fn subscription_id(&self) -> SubscriptionId {
        SubscriptionId(self.id.parse().unwrap_or_default())
    }

    /// Its customer's id as a value.
    #[must_use]
    pub fn customer(&self) -> CustomerId {
        CustomerId(self.customer_id.parse().unwrap_or_default())
    }

    /// The frozen timetable.
    ///
    /// # Errors
    /// [`super::StoreError::Damaged`].
    pub fn frozen(&self) -> Result<Frozen> {
        let wrong = || damaged("subscription", &self.id, "its anchor does not read back");
        let anchor: Date = self.anchor_date.parse().map_err(|_| wrong())?;
        let secs = self.time_of_day_secs;
        let part = |value: i64| i8::try_from(value).map_err(|_| wrong());
        let time =
            Time::new(part(secs / 3600)?, part(secs / 60 % 60)?, part(secs % 60)?, 0).map_err(|_| wrong())?;
        Ok(Frozen { anchor, time, zone: self.time_zone.clone() })
    }

    /// The state as a value.
    #[must_use]
    pub fn subscription_state(&self) -> Option<SubscriptionState> {
        SubscriptionState::parse(&self.state)
    }
}

/// A subscription to add.
#[derive(Clone, Debug)]
pub struct NewSubscription {
    /// Deterministic, so that adding twice adds once.
    pub id: SubscriptionId,
    /// Whose.
    pub customer: CustomerId,
    /// Plan key.
    pub plan: String,
    /// Plan revision.
    pub revision: u32,
    /// Units.
    pub quantity: u32,
    /// `Pending` until a card is saved, else `Active`.
    pub state: SubscriptionState,
    /// The timetable.
    pub frozen: Frozen,
    /// When period 0 falls due.
    pub first_due_at: Timestamp,
    /// How long before it falls due a period becomes a charge, in seconds.
    pub ahead_secs: i64,
}

/// A subscription whose period has come.
#[derive(Clone, Debug)]
pub struct DueSubscription {
    /// The row.
    pub row: Subscription,
}

/// What a materialize step decided for one subscription.
#[derive(Clone, Debug)]
pub struct Materialized {
    /// Which subscription.
    pub id: SubscriptionId,
    /// The index it stood at when the decision was made.
    pub was_index: u32,
    /// The charges for the reached periods.
    pub charges: Vec<NewCharge>,
    /// The mails that tell of them first.
    pub notices: Vec<OutboxInsert>,
    /// The first index without a charge.
    pub next_index: u32,
    /// When that one falls due; `None`: there is none, and the subscription completes once its charges are settled.
    pub next_due_at: Option<Timestamp>,
}

macro_rules! select_subscriptions {
    ($tail:literal) => {
        concat!(
            "SELECT id, customer_id, plan, revision, quantity, state, anchor_date, time_of_day_secs, time_zone, next_index, ",
            "next_due_at, ended_at, end_reason, created_at FROM subscription ",
            $tail
        )
    };
}

batch! {
    INSERT = "INSERT INTO subscription (id, customer_id, plan, revision, quantity, state, anchor_date, time_of_day_secs, time_zone, \
        next_due_at, ahead_secs, created_at) SELECT r.id, r.customer_id, r.plan, r.revision, r.quantity, r.state, r.anchor_date, \
        r.time_of_day_secs, r.time_zone, r.next_due_at, r.ahead_secs, r.created_at FROM",
    (id TEXT, customer_id TEXT, plan TEXT, revision BIGINT, quantity BIGINT, state TEXT, anchor_date TEXT,
     time_of_day_secs BIGINT, time_zone TEXT, next_due_at BIGINT, ahead_secs BIGINT, created_at BIGINT),
    "WHERE 1 = 1 ON CONFLICT (id) DO NOTHING"
}
batch! {
    ADVANCE = "UPDATE subscription SET next_index = r.next_index, next_due_at = r.next_due_at FROM",
    (id TEXT, was_index BIGINT, next_index BIGINT, next_due_at BIGINT),
    "WHERE subscription.id = r.id AND subscription.next_index = r.was_index AND subscription.state = 'active' \
     RETURNING subscription.id"
}

#[derive(Serialize)]
struct InsertRow<'a> {
    id: SubscriptionId,
    customer_id: CustomerId,
    plan: &'a str,
    revision: u32,
    quantity: u32,
    state: &'static str,
    anchor_date: String,
    time_of_day_secs: i64,
    time_zone: &'a str,
    next_due_at: i64,
    ahead_secs: i64,
    created_at: i64,
}

#[derive(Serialize)]
struct AdvanceRow {
    id: SubscriptionId,
    was_index: u32,
    next_index: u32,
    next_due_at: Option<i64>,
}

/// What a charge's promises mean for its subscription.
pub(super) fn end_of(effects: &[Effect]) -> Option<(&'static str, String)> {
    effects.iter().find_map(|effect| match effect {
        Effect::StopSeries => Some(("paused", "the cardholder withdrew the permission".to_owned())),
        Effect::EndSubscription(Finally::Cancel) => {
            Some(("canceled", "the dunning ladder ended unpaid".to_owned()))
        }
        Effect::EndSubscription(Finally::Pause) => {
            Some(("paused", "the dunning ladder ended unpaid".to_owned()))
        }
        Effect::EndSubscription(Finally::Uncollectible)
        | Effect::Mail { .. }
        | Effect::Alarm { .. }
        | Effect::AdoptCard { .. } => None,
    })
}

impl Store {
    /// Adds subscriptions that are not there yet. Returns how many were new.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn add_subscriptions(&self, new: &[NewSubscription], now: Timestamp) -> Result<u64> {
        let rows: Vec<InsertRow<'_>> = new
            .iter()
            .map(|one| InsertRow {
                id: one.id,
                customer_id: one.customer,
                plan: &one.plan,
                revision: one.revision,
                quantity: one.quantity,
                state: one.state.as_str(),
                anchor_date: one.frozen.anchor.to_string(),
                time_of_day_secs: secs_of_day(one.frozen.time),
                time_zone: &one.frozen.zone,
                next_due_at: one.first_due_at.as_second(),
                ahead_secs: one.ahead_secs,
                created_at: now.as_second(),
            })
            .collect();
        let (sql, rows) = (self.text(INSERT), json(&rows));
        Ok(in_tx!(self, tx => { sqlx::query(sql).bind(&rows).execute(tx).await?.rows_affected() }))
    }

    /// Active subscriptions whose next period has come, longest waiting first.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn due_subscriptions(&self, now: Timestamp, limit: usize) -> Result<Vec<DueSubscription>> {
        const DUE: &str = select_subscriptions!(
            "WHERE state = 'active' AND next_due_at IS NOT NULL AND next_due_at - ahead_secs <= $1 \
             ORDER BY next_due_at - ahead_secs LIMIT CAST($2 AS BIGINT)"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows: Vec<Subscription> =
            on_db!(self, db => sqlx::query_as(DUE).bind(now.as_second()).bind(limit).fetch_all(db).await?);
        if mutant!(NarrowWindow) {
            rows.retain(|row| row.next_due_at.is_some_and(|at| at > now.as_second() - 86_400));
        }
        Ok(rows.into_iter().map(|row| DueSubscription { row }).collect())
    }

    /// How many subscriptions have a period that has come.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn count_due_subscriptions(&self, now: Timestamp) -> Result<i64> {
        const COUNT: &str = "SELECT COUNT(*) FROM subscription WHERE state = 'active' AND next_due_at IS NOT NULL \
            AND next_due_at - ahead_secs <= $1";
        Ok(on_db!(self, db => sqlx::query_scalar(COUNT).bind(now.as_second()).fetch_one(db).await?))
    }

    /// Turns reached periods into charges and advances the subscriptions, in one transaction. A period that
    /// another worker materialized first is left alone: the UNIQUE constraint decides. Returns how many charges are new.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn materialize(&self, batch: &[Materialized], now: Timestamp) -> Result<u64> {
        if batch.is_empty() {
            return Ok(0);
        }
        let mut advances: Vec<AdvanceRow> = batch
            .iter()
            .map(|one| AdvanceRow {
                id: one.id,
                was_index: one.was_index,
                next_index: one.next_index,
                next_due_at: one.next_due_at.map(Timestamp::as_second),
            })
            .collect();
        let (advance, insert, promise) =
            (self.text(ADVANCE), self.text(INSERT_CHARGES), self.text(INSERT_OUTBOX));
        // Two workers with the same subscriptions lock them in the same order, so neither waits for the other.
        advances.sort_unstable_by_key(|one| one.id);
        let advances = json(&advances);
        let inserted = in_tx!(self, tx => {
            let won: Vec<String> = sqlx::query_scalar(advance).bind(&advances).fetch_all(&mut *tx).await?;
            let won: std::collections::HashSet<String> = won.into_iter().collect();
            let won: Vec<&Materialized> = batch.iter().filter(|one| won.contains(&one.id.to_string())).collect();
            let charges: Vec<NewCharge> = won.iter().flat_map(|one| one.charges.iter().cloned()).collect();
            let rows = insert_rows(&charges, now);
            let inserted = sqlx::query(insert).bind(&rows).execute(&mut *tx).await?.rows_affected();
            let mut promises: Vec<OutboxInsert> = won.iter().flat_map(|one| one.notices.iter().cloned()).collect();
            if !mutant!(AskedInSilence) {
                promises.extend(charges.iter().filter_map(|new| new.question(now)));
            }
            if !promises.is_empty() {
                sqlx::query(promise).bind(json(&promises)).execute(tx).await?;
            }
            inserted
        });
        Ok(inserted)
    }

    /// Reads one subscription.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn find_subscription(&self, id: SubscriptionId) -> Result<Option<Subscription>> {
        const READ: &str = select_subscriptions!("WHERE id = $1");
        Ok(on_db!(self, db => sqlx::query_as(READ).bind(id.to_string()).fetch_optional(db).await?))
    }

    /// Subscriptions whose id begins with what was typed; at most two.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn subscriptions_by_prefix(&self, prefix: &str) -> Result<Vec<Subscription>> {
        const FIND: &str = select_subscriptions!("WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT 2");
        let Some((first, last)) = uuid_range(prefix) else { return Ok(Vec::new()) };
        Ok(on_db!(self, db => sqlx::query_as(FIND).bind(&first).bind(&last).fetch_all(db).await?))
    }

    /// Subscriptions in the order they were added, of all customers or one.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn list_subscriptions(
        &self,
        customer: Option<CustomerId>,
        offset: i64,
        limit: i64,
    ) -> Result<Vec<Subscription>> {
        const LIST: &str = select_subscriptions!(
            "WHERE ($1 IS NULL OR customer_id = $1) ORDER BY created_at, id LIMIT CAST($2 AS BIGINT) OFFSET CAST($3 AS BIGINT)"
        );
        Ok(on_db!(self, db => {
            sqlx::query_as(LIST)
                .bind(customer.map(|id| id.to_string()))
                .bind(limit)
                .bind(offset)
                .fetch_all(db)
                .await?
        }))
    }

    /// Moves a subscription from one of `from` to another state. Returns whether it did.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn change_subscription(
        &self,
        id: SubscriptionId,
        from: &[SubscriptionState],
        to: SubscriptionState,
        next_due_at: Option<Timestamp>,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<bool> {
        const CHANGE: &str = "UPDATE subscription SET state = $2, next_due_at = $3, end_reason = $4, ended_at = $5 \
            WHERE id = $1 AND state IN ($6, $7, $8)";
        // A worker that claimed a charge before decided on what was true then: it loses the guard, and writes nothing.
        const BREAK_CLAIMS: &str = "UPDATE charge SET version = version + 1 WHERE subscription_id = $1 AND state IN ('due', 'past_due')";
        let ended = matches!(to, SubscriptionState::Canceled | SubscriptionState::Completed);
        let from = |index: usize| from.get(index).or(from.first()).map_or("", |state| state.as_str());
        let changed = in_tx!(self, tx => {
            if to != SubscriptionState::Active && !mutant!(CancelRaces) {
                sqlx::query(BREAK_CLAIMS).bind(id.to_string()).execute(&mut *tx).await?;
            }
            sqlx::query(CHANGE)
                .bind(id.to_string())
                .bind(to.as_str())
                .bind(next_due_at.map(Timestamp::as_second))
                .bind(reason)
                .bind(ended.then(|| now.as_second()))
                .bind(from(0))
                .bind(from(1))
                .bind(from(2))
                .execute(tx)
                .await?
                .rows_affected()
        });
        Ok(changed == 1)
    }
}

fn secs_of_day(time: Time) -> i64 {
    i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second())
}

impl DueSubscription {
    /// The next period's number.
    ///
    /// # Errors
    /// [`super::StoreError::Damaged`].
    pub fn next_index(&self) -> Result<u32> {
        small(self.row.next_index)
            .ok_or_else(|| damaged("subscription", &self.row.id, "negative period index"))
    }
}
