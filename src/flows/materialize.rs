//! Turn reached periods into charges. UNIQUE(subscription, period) decides; another worker's charge is not an error.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Ctx, FlowError, Report, Result, notices};
use crate::billing::charge::{Charge, Need, State};
use crate::billing::ids::{ChargeId, SubscriptionId};
use crate::billing::plan::Terms;
use crate::billing::subscription::{Fate, Reach, Reached, reach};
use crate::store::{DueSubscription, Materialized, NewCharge};

/// Materializes at most `limit` subscriptions.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn run_once(ctx: &Ctx, limit: usize) -> Result<Report> {
    let now = ctx.now();
    let mut report = Report::default();
    let due = ctx.store.due_subscriptions(now, limit).await?;
    let mut batch = Vec::with_capacity(due.len());
    for subscription in &due {
        match materialize(ctx, subscription, now).await {
            Ok(one) => batch.push(one),
            Err(error) => report.problem(format!("subscription {}: {error}", subscription.row.id)),
        }
    }
    failpoint!("P1..P2");
    let inserted = ctx.store.materialize(&batch, now).await?;
    report.taken = batch.len() as u64;
    report.count_many("charges", inserted);
    match ctx.store.complete_subscriptions(now).await? {
        0 => {}
        completed => report.count_many("completed", completed),
    }
    Ok(report)
}

async fn materialize(ctx: &Ctx, due: &DueSubscription, now: Timestamp) -> Result<Materialized> {
    let row = &due.row;
    let was_index = due.next_index()?;
    let (terms, revision, reached) = reached(ctx, due, now).await?;
    let quantity = u32::try_from(row.quantity).unwrap_or(1);
    let charges = reached
        .periods
        .iter()
        .filter(|period| !(mutant!(MissedPeriodsDropped) && period.fate == Fate::Missed))
        .map(|period| charge(due, &terms, revision, quantity, *period, now))
        .collect::<Result<Vec<_>, _>>()
        .map_err(refused)?;
    let sold_at = Timestamp::from_second(row.created_at).unwrap_or(now);
    let notices = charges
        .iter()
        .filter(|new| notices::is_needed(&new.charge, &terms, sold_at))
        .map(|new| notices::promise(&new.charge, now))
        .collect();
    Ok(Materialized {
        id: row.subscription_id(),
        was_index,
        charges,
        notices,
        next_index: reached.next_index,
        next_due_at: reached.next_due_at,
    })
}

/// The periods of a subscription that have come, and its terms with their revision.
async fn reached(ctx: &Ctx, due: &DueSubscription, now: Timestamp) -> Result<(Arc<Terms>, u32, Reach)> {
    let revision = u32::try_from(due.row.revision).unwrap_or(0);
    let terms = match ctx.config.plans.get(&due.row.plan).filter(|_| mutant!(TodaysPrice)) {
        Some(today) => Arc::new(today.clone()),
        None => ctx.terms(&due.row.plan, revision).await?,
    };
    let table = due.row.frozen()?.timetable(&terms).map_err(refused)?;
    let reached = reach(&terms, &table, due.next_index()?, now).map_err(refused)?;
    Ok((terms, revision, reached))
}

fn refused(error: impl std::fmt::Display) -> FlowError {
    FlowError::Refused(error.to_string())
}

/// The charge of a period that has come, by its id, whatever became of the subscription: another database has collected it.
/// It is missed until that is booked.
pub(super) async fn forgotten(
    ctx: &Ctx,
    of: Option<SubscriptionId>,
    id: ChargeId,
    now: Timestamp,
) -> Result<Option<NewCharge>> {
    let Some(of) = of else { return Ok(None) };
    let Some(row) = ctx.store.find_subscription(of).await? else { return Ok(None) };
    let due = DueSubscription { row };
    let (terms, revision, reached) = reached(ctx, &due, now).await?;
    let Some(period) = reached.periods.iter().find(|period| of.charge(period.index) == id) else {
        return Ok(None);
    };
    let quantity = u32::try_from(due.row.quantity).unwrap_or(1);
    let missed = Reached { fate: Fate::Missed, ..*period };
    Ok(Some(charge(&due, &terms, revision, quantity, missed, now).map_err(refused)?))
}

/// The charge of a period, in its first state.
pub(super) fn charge(
    due: &DueSubscription,
    terms: &Terms,
    revision: u32,
    quantity: u32,
    period: Reached,
    now: Timestamp,
) -> Result<NewCharge, crate::billing::money::MoneyError> {
    let subscription = due.row.subscription_id();
    let amount = terms.amount(quantity)?;
    let state = match period.fate {
        _ if amount.is_zero() => State::Settled { at: now },
        Fate::Due(at) => State::Due { at },
        Fate::Missed => State::Missed,
        Fate::Ask => State::NeedsReview {
            attempt: None,
            end: None,
            needs: Need::Decision,
            since: now,
            why: "its period passed while nothing ran".to_owned(),
        },
    };
    Ok(NewCharge {
        charge: Charge {
            id: subscription.charge(period.index),
            customer: due.row.customer(),
            period: Some((subscription, period.index)),
            amount,
            due_at: period.due_at,
            description: terms.name.clone(),
            generation: 0,
            attempts: 0,
            collector: None,
            dunning: None,
            state,
            version: 0,
        },
        plan: due.row.plan.clone(),
        revision,
        statement_suffix: terms.statement_suffix.clone(),
    })
}
