//! What each day has seen, and what is due: for the caps and the forecast.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::FromRow;

use super::charges::json;
use super::sql::{batch, on_db};
use super::{Result, Store};
use crate::billing::caps::Spent;
use crate::billing::money::Money;

/// Seconds of a day; days are those of UTC, counted from 1970.
const DAY_SECS: i64 = 86_400;
/// The row of a day that counts attempts in all currencies, and is locked first.
const ALL: &str = "";

/// Who books on a day locks it first.
pub(super) const LOCK_DAY: &str = "INSERT INTO spending (day, currency, attempts, sum_minor) VALUES ($1, '', 0, 0) \
    ON CONFLICT (day, currency) DO UPDATE SET attempts = spending.attempts";
/// What a day has seen.
pub(super) const READ_DAY: &str = "SELECT currency, attempts, sum_minor FROM spending WHERE day = $1";

#[derive(FromRow)]
pub(super) struct Row {
    currency: String,
    attempts: i64,
    sum_minor: i64,
}

#[derive(Serialize)]
struct Addition<'a> {
    day: i64,
    currency: &'a str,
    attempts: u64,
    sum_minor: i64,
}

batch! {
    ADD = "INSERT INTO spending (day, currency, attempts, sum_minor) SELECT r.day, r.currency, r.attempts, r.sum_minor FROM",
    (day BIGINT, currency TEXT, attempts BIGINT, sum_minor BIGINT),
    "WHERE 1 = 1 ON CONFLICT (day, currency) DO UPDATE SET attempts = spending.attempts + excluded.attempts, \
     sum_minor = spending.sum_minor + excluded.sum_minor"
}

/// Rows by currency as one value. What the currency table does not know (any more) counts as attempts only.
pub(super) fn spent(rows: Vec<Row>) -> Spent {
    let mut spent = Spent::default();
    for row in rows {
        if row.currency == ALL {
            spent.attempts = row.attempts.unsigned_abs();
        } else if let Ok(currency) = row.currency.parse() {
            spent.sums.insert(currency, row.sum_minor);
        }
    }
    spent
}

/// The day of an instant.
pub(super) fn day(now: Timestamp) -> i64 {
    now.as_second().div_euclid(DAY_SECS)
}

/// The rows that add attempts to the day of `now`.
pub(super) fn booking(amounts: impl Iterator<Item = Money>, now: Timestamp) -> String {
    let (day, mut added) = (day(now), Spent::default());
    amounts.for_each(|amount| added.add(amount));
    let mut rows = vec![Addition { day, currency: ALL, attempts: added.attempts, sum_minor: 0 }];
    rows.extend(added.sums.iter().map(|(currency, sum)| Addition {
        day,
        currency: currency.code(),
        attempts: 0,
        sum_minor: *sum,
    }));
    json(&rows)
}

impl Store {
    /// The most that one earlier day of the last `days` saw, attempts and each sum for itself, and how many such days
    /// there were.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn busiest_day(&self, days: i64, now: Timestamp) -> Result<(Spent, u64)> {
        const BUSIEST: &str = "SELECT currency, MAX(attempts) AS attempts, MAX(sum_minor) AS sum_minor FROM spending \
            WHERE day >= $1 AND day < $2 GROUP BY currency";
        const DAYS: &str =
            "SELECT COUNT(*) FROM spending WHERE day >= $1 AND day < $2 AND currency = '' AND attempts > 0";
        let today = day(now);
        let (rows, count): (Vec<Row>, i64) = on_db!(self, db => {
            let rows = sqlx::query_as(BUSIEST).bind(today - days).bind(today).fetch_all(&mut *db).await?;
            (rows, sqlx::query_scalar(DAYS).bind(today - days).bind(today).fetch_one(db).await?)
        });
        Ok((spent(rows), count.unsigned_abs()))
    }

    /// What is due now.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn due_now(&self, now: Timestamp) -> Result<Spent> {
        const DUE: &str = "SELECT currency, COUNT(*) AS attempts, CAST(SUM(amount_minor) AS BIGINT) AS sum_minor \
            FROM charge WHERE wake_for = 'collect' AND wake_at <= $1 GROUP BY currency";
        let rows: Vec<Row> =
            on_db!(self, db => sqlx::query_as(DUE).bind(now.as_second()).fetch_all(db).await?);
        let attempts = rows.iter().map(|row| row.attempts.unsigned_abs()).sum();
        Ok(Spent { attempts, ..spent(rows) })
    }

    /// What the day of `now` will have seen when everything that is due now is attempted.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn due_today(&self, now: Timestamp) -> Result<Spent> {
        let today: Vec<Row> =
            on_db!(self, db => sqlx::query_as(READ_DAY).bind(day(now)).fetch_all(db).await?);
        let (mut all, due) = (spent(today), self.due_now(now).await?);
        all.attempts += due.attempts;
        for (currency, sum) in due.sums {
            *all.sums.entry(currency).or_default() += sum;
        }
        Ok(all)
    }

    /// Attempts ever booked.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn attempts_ever(&self) -> Result<u64> {
        const SUM: &str =
            "SELECT CAST(COALESCE(SUM(attempts), 0) AS BIGINT) FROM spending WHERE currency = ''";
        let sum: i64 = on_db!(self, db => sqlx::query_scalar(SUM).fetch_one(db).await?);
        Ok(sum.unsigned_abs())
    }
}
