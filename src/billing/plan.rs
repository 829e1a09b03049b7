//! Plans as they were sold. A plan revision never changes: a new price or interval makes a new revision.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::calendar::{Anchor, Interval};
use super::money::{Currency, Money, MoneyError};

/// What to collect after periods were missed because nothing ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// Collect the newest period; the others become visible `missed` charges.
    #[default]
    Latest,
    /// Collect every period, spaced by at least half an interval.
    All,
    /// Collect only what is less than the grace late; the rest becomes `missed`.
    None,
    /// Collect nothing until a person has looked: the late charges wait in `needs_review`.
    Ask,
}

/// Local hours, `[from, to)`: those in which charges with a start *date* fall due, or in which a ladder's steps happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// First hour, 0 to 23.
    pub from_hour: u8,
    /// The hour before which the window ends, 1 to 24.
    pub to_hour: u8,
}

impl Default for Window {
    fn default() -> Self {
        Self { from_hour: 9, to_hour: 11 }
    }
}

/// The terms of one plan revision, stored whole with it and frozen for everybody who was sold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What the customer reads on mails and statements.
    pub name: String,
    /// Price of one unit for one period, in Stripe's minor units.
    pub price_minor: i64,
    /// Three lowercase letters.
    pub currency: String,
    /// Length of a period.
    pub every: Interval,
    /// Which day of the period.
    pub anchor: Anchor,
    /// Free time before the first charge.
    pub trial: Option<Interval>,
    /// How many charges in all; `None` runs until canceled.
    pub installments: Option<u32>,
    /// What happens to periods nobody collected in time.
    pub catch_up: CatchUp,
    /// Local hours for charges with a start date.
    pub window: Window,
    /// Text after the account's prefix on the card statement.
    pub statement_suffix: Option<String>,
    /// Seconds that lie at least between a mail that tells of a charge and its first try; 0: no such mail.
    #[serde(default, skip_serializing_if = "no_notice")]
    pub notice_secs: u32,
    /// Which charges are told of first.
    #[serde(default, skip_serializing_if = "NoticeFor::is_every")]
    pub notice_for: NoticeFor,
}

/// Which charges a customer is told of before they are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeFor {
    /// Each, but one to which the customer has just agreed.
    #[default]
    Every,
    /// The one that ends a trial.
    TrialEnd,
    /// All but the first.
    Renewal,
}

impl NoticeFor {
    fn is_every(&self) -> bool {
        *self == Self::Every
    }
}

fn no_notice(secs: &u32) -> bool {
    *secs == 0
}

/// A notice is written this long before its time begins, so that a slow mail server does not delay the charge.
const NOTICE_LEAD_SECS: i64 = 3600;

impl Terms {
    /// The amount of one period for `quantity` units.
    ///
    /// # Errors
    /// [`MoneyError`] when the product is not an amount Stripe would take.
    pub fn amount(&self, quantity: u32) -> Result<Money, MoneyError> {
        let currency: Currency = self.currency.parse()?;
        let amount = Money::from_minor(self.price_minor, currency)?.times(i64::from(quantity))?;
        if amount.is_zero() { Ok(amount) } else { amount.chargeable() }
    }

    /// How long before it falls due a period becomes a charge, in seconds: as long as its notice takes.
    #[must_use]
    pub fn ahead_secs(&self) -> i64 {
        if self.notice_secs == 0 { 0 } else { i64::from(self.notice_secs) + NOTICE_LEAD_SECS }
    }

    /// Whether a period is told of before it is charged. The first one of a plan without a trial that falls due right
    /// after it was sold is not: the customer has just agreed to it.
    #[must_use]
    pub fn needs_notice(&self, index: u32, due_at: Timestamp, sold_at: Timestamp) -> bool {
        let time_enough = due_at.as_second() - sold_at.as_second() >= i64::from(self.notice_secs);
        let ends_trial = index == 0 && self.trial.is_some();
        self.notice_secs > 0
            && match self.notice_for {
                NoticeFor::Every => index > 0 || ends_trial || time_enough,
                NoticeFor::TrialEnd => ends_trial,
                NoticeFor::Renewal => index > 0,
            }
    }

    /// From when on a charge may be tried whose notice was accepted at `told_at`.
    #[must_use]
    pub fn after_notice(&self, told_at: Timestamp) -> Timestamp {
        told_at.checked_add(Duration::from_secs(u64::from(self.notice_secs))).unwrap_or(Timestamp::MAX)
    }

    /// Whether `index` is a period of this plan: installment plans end.
    #[must_use]
    pub fn has_period(&self, index: u32) -> bool {
        self.installments.is_none_or(|count| index < count)
    }
}
