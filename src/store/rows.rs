//! Charges as rows: what the columns mean, in both directions.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::FromRow;

use super::charges::{Claimed, Prepared};
use super::settle::Settlement;
use super::{Result, StoreError};
use crate::billing::charge::{
    Attempt, Charge, Collector, CollectorKind, End, Need, Operation, Phase, Sent, State,
};
use crate::billing::decline::Class;
use crate::billing::dunning::{Action, Dunning, Next};
use crate::billing::ids::ChargeId;
use crate::billing::ladder::LadderId;
use crate::billing::money::Money;
use crate::billing::subscription::SubscriptionState;

/// Selects whole charges with their living collector, open attempt, customer and subscription.
macro_rules! select_charges {
    ($tail:literal) => {
        concat!(
            "SELECT c.id, c.customer_id, c.subscription_id, c.period_index, c.plan, c.revision, c.amount_minor, c.currency, ",
            "c.due_at, c.created_at, c.description, c.statement_suffix, c.state, c.generation, c.attempts, c.next_at, c.next_action, ",
            "c.until_at, c.end_as, c.needs, c.reason, c.settled_at, c.payment_intent, c.refunded_minor, c.dunning_since, c.dunning_step, c.dunning_declines, ",
            "c.dunning_late_refusals, c.dunning_class, c.dunning_ladder, c.aside_at, c.aside_action, c.version, k.kind AS collector_kind, k.generation AS collector_generation, ",
            "k.stripe_id AS collector_id, a.number AS attempt_number, a.operation AS attempt_operation, ",
            "a.state AS attempt_state, a.idempotency_key, a.path, a.body, a.payment_method AS attempt_payment_method, ",
            "a.card_fingerprint AS attempt_fingerprint, a.not_before, a.first_sent_at, a.last_sent_at, a.sends, a.misses, ",
            "a.poisoned_at, u.stripe_customer, u.payment_method, u.card_fingerprint, u.card_entered_at, u.card_brand, u.hold_why, u.time_zone, s.state AS subscription_state ",
            "FROM charge c JOIN customer u ON u.id = c.customer_id ",
            "LEFT JOIN collector k ON k.charge_id = c.id AND k.state = 'live' ",
            "LEFT JOIN attempt a ON a.charge_id = c.id AND a.finished_at IS NULL ",
            "LEFT JOIN subscription s ON s.id = c.subscription_id ",
            $tail
        )
    };
}
pub(super) use select_charges;

#[derive(FromRow)]
pub(super) struct ChargeRow {
    pub id: String,
    customer_id: String,
    subscription_id: Option<String>,
    period_index: Option<i64>,
    plan: String,
    revision: i64,
    amount_minor: i64,
    currency: String,
    due_at: i64,
    created_at: i64,
    description: String,
    statement_suffix: Option<String>,
    state: String,
    generation: i64,
    attempts: i64,
    next_at: Option<i64>,
    next_action: Option<String>,
    until_at: Option<i64>,
    end_as: Option<String>,
    needs: Option<String>,
    reason: Option<String>,
    settled_at: Option<i64>,
    payment_intent: Option<String>,
    refunded_minor: i64,
    dunning_since: Option<i64>,
    dunning_step: Option<i64>,
    dunning_declines: Option<i64>,
    dunning_late_refusals: Option<i64>,
    dunning_class: Option<String>,
    dunning_ladder: Option<i64>,
    aside_at: Option<i64>,
    aside_action: Option<String>,
    version: i64,
    collector_kind: Option<String>,
    collector_generation: Option<i64>,
    collector_id: Option<String>,
    attempt_number: Option<i64>,
    attempt_operation: Option<String>,
    attempt_state: Option<String>,
    idempotency_key: Option<String>,
    path: Option<String>,
    body: Option<String>,
    attempt_payment_method: Option<String>,
    attempt_fingerprint: Option<String>,
    not_before: Option<i64>,
    first_sent_at: Option<i64>,
    last_sent_at: Option<i64>,
    sends: Option<i64>,
    misses: Option<i64>,
    poisoned_at: Option<i64>,
    stripe_customer: String,
    payment_method: Option<String>,
    card_fingerprint: Option<String>,
    card_entered_at: Option<i64>,
    card_brand: Option<String>,
    hold_why: Option<String>,
    time_zone: String,
    subscription_state: Option<String>,
}

impl Claimed {
    /// The card of the next request, by its fingerprint: that of the attempt that was written down, or the customer's.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&str> {
        let written = self.prepared.as_ref().and_then(|one| one.fingerprint.as_deref());
        written.or(self.card_fingerprint.as_deref())
    }
}

impl ChargeRow {
    pub(super) fn read(self) -> Result<Claimed> {
        let id = self.id.clone();
        self.try_read().ok_or_else(|| damaged("charge", id, "a column does not fit the state"))
    }

    /// One that does not read back holds up nobody else: it is told again whenever it is claimed.
    pub(super) fn read_or_tell(self) -> Option<Claimed> {
        self.read()
            .inspect_err(|error| tracing::error!("{error}: nobody can work on it until that is mended"))
            .ok()
    }

    fn try_read(self) -> Option<Claimed> {
        let attempt = self.attempt();
        let charge = Charge {
            id: self.id.parse().ok()?,
            customer: self.customer_id.parse().ok()?,
            period: match (&self.subscription_id, self.period_index) {
                (Some(id), Some(index)) => Some((id.parse().ok()?, small(index)?)),
                _ => None,
            },
            amount: Money::from_minor(self.amount_minor, self.currency.parse().ok()?).ok()?,
            due_at: instant(self.due_at)?,
            generation: small(self.generation)?,
            attempts: small(self.attempts)?,
            collector: self.collector()?,
            dunning: self.dunning()?,
            state: self.state(attempt)?,
            version: self.version,
            description: self.description,
        };
        let prepared = match (self.idempotency_key, self.path, self.body, self.attempt_payment_method) {
            (Some(key), Some(path), Some(body), Some(payment_method)) => {
                Some(Prepared { key, path, body, payment_method, fingerprint: self.attempt_fingerprint })
            }
            _ => None,
        };
        Some(Claimed {
            charge,
            plan: self.plan,
            revision: small(self.revision)?,
            statement_suffix: self.statement_suffix,
            refunded_minor: self.refunded_minor,
            created_at: instant(self.created_at)?,
            stripe_customer: self.stripe_customer,
            payment_method: self.payment_method,
            card_fingerprint: self.card_fingerprint,
            card_entered_at: self.card_entered_at,
            card_brand: self.card_brand,
            hold_why: self.hold_why,
            time_zone: self.time_zone,
            subscription_state: self.subscription_state.as_deref().and_then(SubscriptionState::parse),
            prepared,
        })
    }

    fn next(&self) -> Option<Next> {
        Some(Next { at: instant(self.next_at?)?, action: Action::parse(self.next_action.as_deref()?)? })
    }

    fn state(&self, attempt: Option<Attempt>) -> Option<State> {
        let until = self.until_at.and_then(instant);
        let settled = self.settled_at.and_then(instant);
        Some(match self.state.as_str() {
            "due" => State::Due { at: instant(self.next_at?)? },
            "collecting" => State::Collecting { attempt: attempt? },
            "past_due" => State::PastDue { next: self.next()? },
            "link_open" => State::LinkOpen { until: until?, then: self.next()? },
            "processing" => State::Processing { poll_at: until? },
            "closing" => State::Closing { attempt, then: End::parse(self.end_as.as_deref()?)?, at: until? },
            "needs_review" => {
                let end = match self.end_as.as_deref() {
                    Some(word) => Some(End::parse(word)?),
                    None => None,
                };
                let needs = Need::parse(self.needs.as_deref()?)?;
                State::NeedsReview { attempt, end, needs, since: until?, why: self.reason.clone()? }
            }
            "missed" => State::Missed,
            "paid" => State::Paid { at: settled?, payment_intent: self.payment_intent.clone()? },
            "uncollectible" => State::Uncollectible { at: settled? },
            "canceled" => State::Canceled { at: settled? },
            "settled" => State::Settled { at: settled? },
            _ => return None,
        })
    }

    fn collector(&self) -> Option<Option<Collector>> {
        let Some(kind) = &self.collector_kind else { return Some(None) };
        Some(Some(Collector {
            generation: small(self.collector_generation?)?,
            kind: CollectorKind::parse(kind)?,
            stripe_id: self.collector_id.clone(),
        }))
    }

    fn dunning(&self) -> Option<Option<Dunning>> {
        let Some(since) = self.dunning_since else { return Some(None) };
        Some(Some(Dunning {
            since: instant(since)?,
            step: small(self.dunning_step?)?,
            declines: small(self.dunning_declines?)?,
            late_refusals: small(self.dunning_late_refusals?)?,
            class: Class::parse(self.dunning_class.as_deref()?)?,
            ladder: LadderId(small(self.dunning_ladder?)?),
            aside: match (self.aside_at, self.aside_action.as_deref()) {
                (Some(at), Some(action)) => Some(Next { at: instant(at)?, action: Action::parse(action)? }),
                _ => None,
            },
        }))
    }

    fn attempt(&self) -> Option<Attempt> {
        let sent = || {
            Some(Sent {
                first_at: instant(self.first_sent_at?)?,
                last_at: instant(self.last_sent_at?)?,
                sends: small(self.sends?)?,
                misses: small(self.misses?)?,
                poisoned: self.poisoned_at.is_some(),
            })
        };
        Some(Attempt {
            number: small(self.attempt_number?)?,
            operation: Operation::parse(self.attempt_operation.as_deref()?)?,
            phase: match self.attempt_state.as_deref()? {
                "prepared" => Phase::Prepared { not_before: instant(self.not_before?)? },
                "sending" => Phase::Sending(sent()?),
                "unknown" => Phase::Unknown(sent()?),
                _ => return None,
            },
        })
    }
}

/// The changing columns of a charge, for a batch UPDATE.
#[derive(Serialize)]
pub(super) struct ChargeUpdate<'a> {
    id: ChargeId,
    was_version: i64,
    version: i64,
    state: &'static str,
    generation: u32,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_as: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    needs: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settled_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_intent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dunning_since: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dunning_step: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dunning_declines: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dunning_late_refusals: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dunning_class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dunning_ladder: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aside_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aside_action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wake_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wake_for: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alone_on_card: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alone_since: Option<i64>,
}

impl<'a> ChargeUpdate<'a> {
    /// With a lease the owner keeps the charge until then; otherwise it wakes when its state says.
    pub(super) fn new(of: &'a Settlement) -> Self {
        let (charge, not_before) = (&of.charge, of.not_before);
        let lease = of.lease.as_ref().map(|(owner, until)| (owner.as_str(), *until));
        let wake = charge.wake();
        let wake_at = match lease {
            Some((_, until)) => wake.map(|_| until),
            None => wake.map(|(_, at)| not_before.map_or(at, |floor| floor.max(at))),
        };
        let (next, until, end_as, reason, settled) = parts(&charge.state);
        let aside = charge.dunning.and_then(|dunning| dunning.aside);
        Self {
            id: charge.id,
            was_version: of.was_version,
            version: charge.version,
            state: charge.state.as_str(),
            generation: charge.generation,
            attempts: charge.attempts,
            next_at: next.map(|next| next.at.as_second()),
            next_action: next.map(|next| next.action.as_str()),
            until_at: until.map(Timestamp::as_second),
            end_as: end_as.map(End::as_str),
            needs: charge.state.needs().map(Need::as_str),
            reason,
            settled_at: settled.map(Timestamp::as_second),
            payment_intent: charge.state.payment_intent(),
            dunning_since: charge.dunning.map(|dunning| dunning.since.as_second()),
            dunning_step: charge.dunning.map(|dunning| dunning.step),
            dunning_declines: charge.dunning.map(|dunning| dunning.declines),
            dunning_late_refusals: charge.dunning.map(|dunning| dunning.late_refusals),
            dunning_class: charge.dunning.map(|dunning| dunning.class.as_str()),
            dunning_ladder: charge.dunning.map(|dunning| dunning.ladder.0),
            aside_at: aside.map(|next| next.at.as_second()),
            aside_action: aside.map(|next| next.action.as_str()),
            wake_at: wake_at.map(Timestamp::as_second),
            wake_for: wake.map(|(work, _)| work.as_str()),
            lease_owner: lease.filter(|_| wake.is_some()).map(|(owner, _)| owner),
            alone_on_card: of.alone_on_card.as_ref().map(|(card, _)| card.as_str()),
            alone_since: of.alone_on_card.as_ref().map(|(_, since)| since.as_second()),
        }
    }
}

type Parts<'a> = (Option<Next>, Option<Timestamp>, Option<End>, Option<&'a str>, Option<Timestamp>);

/// A state's facts as columns: next, until_at, end_as, reason, settled_at.
pub(super) fn parts(state: &State) -> Parts<'_> {
    match state {
        State::Due { at } => (Some(Next { at: *at, action: Action::Collect }), None, None, None, None),
        State::Collecting { .. } | State::Missed => (None, None, None, None, None),
        State::PastDue { next } => (Some(*next), None, None, None, None),
        State::LinkOpen { until, then } => (Some(*then), Some(*until), None, None, None),
        State::Processing { poll_at } => (None, Some(*poll_at), None, None, None),
        State::Closing { then, at, .. } => (None, Some(*at), Some(*then), None, None),
        State::NeedsReview { end, since, why, .. } => (None, Some(*since), *end, Some(why), None),
        State::Paid { at, .. }
        | State::Uncollectible { at }
        | State::Canceled { at }
        | State::Settled { at } => (None, None, None, None, Some(*at)),
    }
}

pub(super) fn instant(secs: i64) -> Option<Timestamp> {
    Timestamp::from_second(secs).ok()
}

pub(super) fn small(value: i64) -> Option<u32> {
    u32::try_from(value).ok()
}

pub(super) fn damaged(what: &'static str, id: impl ToString, why: impl Into<String>) -> StoreError {
    StoreError::Damaged { what, id: id.to_string(), why: why.into() }
}

impl ChargeUpdate<'_> {
    /// When an unleased charge wakes, in Unix seconds.
    pub(super) fn wake_secs(charge: &Charge, not_before: Option<Timestamp>) -> Option<i64> {
        charge.wake().map(|(_, at)| not_before.map_or(at, |floor| floor.max(at)).as_second())
    }
}
