//! Settle: everything that one decision changes, for a batch of charges, in one transaction.
//!
//! The charge row is written first, guarded by its version. Whoever lost the guard writes nothing else either.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::Row;

use super::attempts::{AttemptUpdate, INSERT_ATTEMPTS, NewAttempt, UPDATE_ATTEMPTS};
use super::charges::{Claimed, json};
use super::outbox::{INSERT_OUTBOX, OutboxInsert};
use super::rows::ChargeUpdate;
use super::spending::{ADD, LOCK_DAY, READ_DAY, booking, day, spent};
use super::sql::{alone, batch, in_tx, on_db};
use super::{Result, Store};
use crate::billing::apply::Step;
use crate::billing::caps::Spent;
use crate::billing::charge::{Charge, CollectorKind, State};
use crate::billing::ids::ChargeId;

/// One decision about one charge, ready to be written.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The version the decision was made on.
    pub was_version: i64,
    /// The charge after it.
    pub charge: Charge,
    /// Keep the lease (owner, until), because the work goes on; else it is given back.
    pub lease: Option<(String, Timestamp)>,
    /// Wake not before this instant, if the state would wake earlier.
    pub not_before: Option<Timestamp>,
    /// Only if no attempt on this card, without an answer yet, has left for another charge since then: what the bank says to that
    /// one decides whether the card networks let this one leave.
    pub alone_on_card: Option<(String, Timestamp)>,
    /// A new attempt row.
    pub new_attempt: Option<NewAttempt>,
    /// A change of an attempt row.
    pub attempt: Option<AttemptUpdate>,
    /// Changes of collector rows.
    pub collectors: Vec<CollectorChange>,
    /// Promises.
    pub outbox: Vec<OutboxInsert>,
    /// A try that counts for the card networks.
    pub network_try: Option<NetworkTry>,
    /// What becomes of the subscription: state and reason.
    pub subscription: Option<(&'static str, String)>,
}

/// A change of one collector row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CollectorChange {
    charge_id: ChargeId,
    generation: u32,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_id: Option<String>,
    state: &'static str,
    /// Key and body of the request that makes a Checkout Session.
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    at: i64,
}

/// A declined try on a card, counted once by its id.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkTry {
    /// Stripe's charge id, or our charge and attempt number where there is none.
    pub id: String,
    /// The card.
    pub card_fingerprint: String,
    /// Amount in minor units.
    pub amount_minor: i64,
    /// Lowercase currency.
    pub currency: &'static str,
    /// Unix seconds.
    pub tried_at: i64,
    /// The card's brand, if it was known.
    pub brand: Option<String>,
    /// Unix seconds: the bank said "never again" of the card as it was entered before.
    pub refused_at: Option<i64>,
    /// Unix seconds: before then the network wants no other try for this amount.
    pub not_before: Option<i64>,
}

/// What a batch did.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Charges whose guard did not hold, and nothing was written: somebody else changed them meanwhile, or another retry with
    /// their card is on its way. Whoever claimed one of the latter keeps it until the lease runs out; then it is looked at again.
    pub lost: Vec<ChargeId>,
    /// How many of the batch, from its beginning, were allowed; nothing was written of the others.
    pub admitted: usize,
    /// Why not all.
    pub why: Option<String>,
}

/// Hears what the day has seen and says how many attempts of a batch may be added, and why not all.
pub type Admit<'a> = &'a (dyn Fn(&Spent) -> (usize, Option<String>) + Sync);

impl Settlement {
    /// Takes a decision; collector rows follow from the difference between before and after.
    #[must_use]
    pub fn new(before: &Claimed, step: Step, now: Timestamp) -> Self {
        Self {
            was_version: before.charge.version,
            collectors: collector_changes(&before.charge, &step.charge, now),
            outbox: step
                .effects
                .iter()
                .filter_map(|effect| OutboxInsert::of(effect, &step.charge, now))
                .collect(),
            subscription: super::subscriptions::end_of(&step.effects),
            charge: step.charge,
            lease: None,
            not_before: None,
            alone_on_card: None,
            new_attempt: None,
            attempt: None,
            network_try: None,
        }
    }

    /// Keeps the lease.
    #[must_use]
    pub fn keep_lease(mut self, owner: &str, until: Timestamp) -> Self {
        self.lease = Some((owner.to_owned(), until));
        self
    }

    /// Stores the frozen request of a Session with its collector.
    #[must_use]
    pub fn with_session_request(mut self, key: String, body: String, expires_at: Timestamp) -> Self {
        if let Some(change) = self.collectors.iter_mut().find(|change| change.state == "live") {
            change.idempotency_key = Some(key);
            change.body = Some(body);
            change.expires_at = Some(expires_at.as_second());
        }
        self
    }

    /// Stores where the customer goes to pay.
    #[must_use]
    pub fn with_session_url(mut self, url: Option<String>) -> Self {
        if let Some(change) = self.collectors.iter_mut().find(|change| change.state == "live") {
            change.url = url;
        }
        self
    }
}

fn collector_changes(before: &Charge, after: &Charge, now: Timestamp) -> Vec<CollectorChange> {
    let change = |generation, kind: CollectorKind, stripe_id: Option<&String>, state| CollectorChange {
        charge_id: after.id,
        generation,
        kind: kind.as_str(),
        stripe_id: stripe_id.cloned(),
        state,
        idempotency_key: None,
        body: None,
        url: None,
        expires_at: None,
        at: now.as_second(),
    };
    let mut changes = Vec::new();
    let same = |one: &crate::billing::charge::Collector, generation| one.generation == generation;
    if let Some(old) = &before.collector
        && !after.collector.as_ref().is_some_and(|new| same(new, old.generation))
    {
        let state = if matches!(after.state, State::Paid { .. }) { "paid" } else { "dead" };
        changes.push(change(old.generation, old.kind, old.stripe_id.as_ref(), state));
    }
    if let Some(new) = &after.collector
        && before.collector.as_ref() != Some(new)
    {
        changes.push(change(new.generation, new.kind, new.stripe_id.as_ref(), "live"));
    }
    changes
}

batch! {
    UPDATE_CHARGES = "UPDATE charge SET state = r.state, version = r.version, generation = r.generation, attempts = r.attempts, \
        next_at = r.next_at, next_action = r.next_action, until_at = r.until_at, end_as = r.end_as, needs = r.needs, reason = r.reason, \
        settled_at = r.settled_at, payment_intent = r.payment_intent, dunning_since = r.dunning_since, \
        dunning_step = r.dunning_step, dunning_declines = r.dunning_declines, \
        dunning_late_refusals = r.dunning_late_refusals, dunning_class = r.dunning_class, dunning_ladder = r.dunning_ladder, aside_at = r.aside_at, aside_action = r.aside_action, wake_at = r.wake_at, \
        wake_for = r.wake_for, lease_owner = r.lease_owner FROM",
    (id TEXT, was_version BIGINT, version BIGINT, state TEXT, generation BIGINT, attempts BIGINT, next_at BIGINT,
     next_action TEXT, until_at BIGINT, end_as TEXT, needs TEXT, reason TEXT, settled_at BIGINT, payment_intent TEXT,
     dunning_since BIGINT, dunning_step BIGINT, dunning_declines BIGINT, dunning_late_refusals BIGINT,
     dunning_class TEXT, dunning_ladder BIGINT, aside_at BIGINT, aside_action TEXT, wake_at BIGINT, wake_for TEXT, lease_owner TEXT, alone_on_card TEXT,
     alone_since BIGINT),
    "WHERE charge.id = r.id AND charge.version = r.was_version AND (r.alone_on_card IS NULL OR NOT EXISTS (SELECT 1 FROM attempt a \
     WHERE a.finished_at IS NULL AND a.last_sent_at > r.alone_since AND a.card_fingerprint = r.alone_on_card \
     AND a.charge_id <> r.id)) RETURNING charge.id"
}

batch! {
    UPSERT_COLLECTORS = "INSERT INTO collector (charge_id, generation, kind, stripe_id, state, idempotency_key, body, url, \
        expires_at, opened_at, closed_at) SELECT r.charge_id, r.generation, r.kind, r.stripe_id, r.state, r.idempotency_key, \
        r.body, r.url, r.expires_at, r.at, CASE WHEN r.state = 'live' THEN NULL ELSE r.at END FROM",
    (charge_id TEXT, generation BIGINT, kind TEXT, stripe_id TEXT, state TEXT, idempotency_key TEXT, body TEXT, url TEXT,
     expires_at BIGINT, at BIGINT),
    "WHERE 1 = 1 ON CONFLICT (charge_id, generation) DO UPDATE SET state = excluded.state, \
     stripe_id = COALESCE(excluded.stripe_id, collector.stripe_id), url = COALESCE(excluded.url, collector.url), \
     expires_at = COALESCE(excluded.expires_at, collector.expires_at), closed_at = excluded.closed_at"
}

batch! {
    INSERT_TRIES = "INSERT INTO network_budget (id, card_fingerprint, amount_minor, currency, tried_at, \
        brand, refused_at, not_before) SELECT r.id, r.card_fingerprint, r.amount_minor, r.currency, r.tried_at, r.brand, \
        r.refused_at, r.not_before FROM",
    (id TEXT, card_fingerprint TEXT, amount_minor BIGINT, currency TEXT, tried_at BIGINT, brand TEXT, refused_at BIGINT,
     not_before BIGINT),
    "WHERE 1 = 1 ON CONFLICT (id) DO NOTHING"
}

#[derive(Serialize)]
struct SubscriptionEnd<'a> {
    id: String,
    state: &'static str,
    reason: &'a str,
    at: i64,
}

batch! {
    END_SUBSCRIPTIONS = "UPDATE subscription SET state = r.state, end_reason = r.reason, ended_at = r.at, next_due_at = NULL FROM",
    (id TEXT, state TEXT, reason TEXT, at BIGINT),
    "WHERE subscription.id = r.id AND subscription.state IN ('active', 'paused')"
}

/// The rows of one batch by statement; empty lists cost none.
#[derive(Default)]
struct Batch<'a> {
    new_attempts: Vec<&'a NewAttempt>,
    attempts: Vec<&'a AttemptUpdate>,
    closed: Vec<&'a CollectorChange>,
    live: Vec<&'a CollectorChange>,
    outbox: Vec<&'a OutboxInsert>,
    tries: Vec<&'a NetworkTry>,
    subscriptions: Vec<SubscriptionEnd<'a>>,
}

impl<'a> Batch<'a> {
    fn of(kept: impl Iterator<Item = &'a Settlement>, now: Timestamp) -> Self {
        let mut batch = Self::default();
        for settlement in kept {
            batch.new_attempts.extend(&settlement.new_attempt);
            batch.attempts.extend(&settlement.attempt);
            for change in &settlement.collectors {
                let list = if change.state == "live" { &mut batch.live } else { &mut batch.closed };
                list.push(change);
            }
            if !mutant!(PromisesForgotten) {
                batch.outbox.extend(&settlement.outbox);
            }
            batch.tries.extend(&settlement.network_try);
            if let (Some((state, reason)), Some((id, _))) =
                (&settlement.subscription, settlement.charge.period)
            {
                let end = SubscriptionEnd { id: id.to_string(), state, reason, at: now.as_second() };
                batch.subscriptions.push(end);
            }
        }
        // By id, as materialize locks them.
        batch.subscriptions.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        batch
    }

    /// Statements in the order that keeps "one open attempt" and "one living collector" true at each of them.
    fn statements(&self) -> Vec<(super::sql::Sql, String)> {
        let mut statements = Vec::new();
        let mut push = |empty: bool, sql, rows: &dyn Fn() -> String| {
            if !empty {
                statements.push((sql, rows()));
            }
        };
        push(self.attempts.is_empty(), UPDATE_ATTEMPTS, &|| json(&self.attempts));
        push(self.new_attempts.is_empty(), INSERT_ATTEMPTS, &|| json(&self.new_attempts));
        push(self.closed.is_empty(), UPSERT_COLLECTORS, &|| json(&self.closed));
        push(self.live.is_empty(), UPSERT_COLLECTORS, &|| json(&self.live));
        push(self.outbox.is_empty(), INSERT_OUTBOX, &|| json(&self.outbox));
        push(self.tries.is_empty(), INSERT_TRIES, &|| json(&self.tries));
        push(self.subscriptions.is_empty(), END_SUBSCRIPTIONS, &|| json(&self.subscriptions));
        statements
    }
}

impl Store {
    /// Writes a batch of decisions in one transaction: outcome, state, next action, budget, promises and the
    /// subscription's end of each charge become visible together or not at all.
    ///
    /// # Errors
    /// [`super::StoreError::Database`]; then nothing was written.
    pub async fn settle(&self, batch: &[Settlement], now: Timestamp) -> Result<Settled> {
        self.write(batch, now, None).await
    }

    /// Whether the decline of this Stripe charge is counted.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn is_counted(&self, stripe_charge: &str) -> Result<bool> {
        const COUNT: &str = "SELECT COUNT(*) FROM network_budget WHERE id = $1";
        let count: i64 =
            on_db!(self, db => sqlx::query_scalar(COUNT).bind(stripe_charge).fetch_one(db).await?);
        Ok(count > 0)
    }

    /// Counts declined tries that no settlement knows of, each once.
    ///
    /// # Errors
    /// [`super::StoreError::Database`].
    pub async fn count_tries(&self, tries: &[NetworkTry]) -> Result<()> {
        if tries.is_empty() {
            return Ok(());
        }
        let (sql, rows) = (self.text(INSERT_TRIES), json(&tries));
        alone!(self, db => { sqlx::query(sql).bind(rows).execute(db).await?; });
        Ok(())
    }

    /// Writes a batch of new attempts like [`Store::settle`], as many as `admit` allows, and books them on the day of
    /// `now` in the same transaction. Processes that book at the same moment wait for each other.
    ///
    /// Crash: what was booked and never sent stays booked; a cap is met early, never late.
    ///
    /// # Errors
    /// [`super::StoreError::Database`]; then nothing was written.
    pub async fn settle_booked(
        &self,
        batch: &[Settlement],
        now: Timestamp,
        admit: Admit<'_>,
    ) -> Result<Settled> {
        self.write(batch, now, Some(admit)).await
    }

    async fn write(&self, batch: &[Settlement], now: Timestamp, admit: Option<Admit<'_>>) -> Result<Settled> {
        if batch.is_empty() {
            return Ok(Settled::default());
        }
        let (update, add) = (self.text(UPDATE_CHARGES), self.text(ADD));
        Ok(in_tx!(self, tx => {
            let (mut admitted, mut why) = (batch.len(), None);
            if let Some(admit) = admit {
                sqlx::query(LOCK_DAY).bind(day(now)).execute(&mut *tx).await?;
                let rows = sqlx::query_as(READ_DAY).bind(day(now)).fetch_all(&mut *tx).await?;
                (admitted, why) = admit(&spent(rows));
                let booking = booking(batch.iter().take(admitted).map(|one| one.charge.amount), now);
                sqlx::query(add).bind(booking).execute(&mut *tx).await?;
            }
            let batch = batch.get(..admitted).unwrap_or(batch);
            if mutant!(NoVersionGuard) {
                const FORCE: &str = "UPDATE charge SET version = $2 WHERE id = $1";
                for one in batch {
                    sqlx::query(FORCE).bind(one.charge.id.to_string()).bind(one.was_version).execute(&mut *tx).await?;
                }
            }
            let written: HashSet<String> = sqlx::query(update)
                .bind(json(&batch.iter().map(ChargeUpdate::new).collect::<Vec<_>>()))
                .fetch_all(&mut *tx)
                .await?
                .iter()
                .map(|row| row.try_get(0))
                .collect::<Result<_, _>>()?;
            let kept = |one: &&Settlement| written.contains(&one.charge.id.to_string());
            for (sql, rows) in Batch::of(batch.iter().filter(kept), now).statements() {
                sqlx::query(self.text(sql)).bind(rows).execute(&mut *tx).await?;
            }
            let lost = batch.iter().filter(|one| !kept(one)).map(|one| one.charge.id).collect();
            Settled { lost, admitted, why }
        }))
    }
}
