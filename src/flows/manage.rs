//! Commands of an operator: cancel, pause, resume, collect now, mark paid. Each goes through `apply` like anything
//! else, and leaves a line in the audit trail.

use jiff::Timestamp;

use super::recover::tell_cancellations;
use super::settle::{Trace, next_try, settle_one};
use super::{Ctx, FlowError, Report, Result, witness};
use crate::billing::apply::Event;
use crate::billing::charge::{Charge, End, State};
use crate::billing::ids::{ChargeId, CustomerId, SubscriptionId};
use crate::billing::money::Money;
use crate::billing::subscription::SubscriptionState::{Active, Canceled, Paused, Pending};
use crate::store::{ChargeFilter, Claimed, NewCharge, Subscription};

/// Name of the built-in plan that one-off charges follow: it has a ladder and nothing else.
pub const ONE_OFF: &str = "(one-off)";
/// Limit: open charges of one subscription that a command ends.
const OPEN_MAX: i64 = 1000;

/// Cancels a subscription and ends its open charges. Nothing is collected for it afterwards.
///
/// # Errors
/// [`FlowError::Refused`] when it has ended already.
pub async fn cancel(ctx: &Ctx, id: SubscriptionId, who: &str, why: &str) -> Result<Report> {
    let now = ctx.now();
    if !ctx.store.change_subscription(id, &[Active, Paused, Pending], Canceled, None, Some(why), now).await? {
        return Err(ended(ctx, id).await);
    }
    failpoint!("subscription canceled");
    ctx.store.audit(who, "cancel", &id.to_string(), why, now).await?;
    let mut report = Report::default();
    if let Err(error) = tell_cancellations(ctx, OPEN_MAX as usize).await {
        tracing::warn!("Stripe will be told later that subscription {id} is canceled: {error}");
    }
    witness::mark(ctx).await;
    let filter = ChargeFilter { subscription: Some(id), limit: OPEN_MAX, ..ChargeFilter::default() };
    for one in ctx.store.list_charges(&filter).await? {
        if !one.charge.state.is_terminal() && !matches!(one.charge.state, State::Closing { .. }) {
            // A worker may hold it this moment; then the worker sees the canceled subscription itself.
            if let Ok(true) = end_charge(ctx, one.charge.id, End::Canceled, &mut report).await {
                report.taken += 1;
            }
        }
    }
    Ok(report)
}

/// Stops charging until [`resume`].
///
/// # Errors
/// [`FlowError::Refused`] when it is not active.
pub async fn pause(ctx: &Ctx, id: SubscriptionId, who: &str, why: &str) -> Result<()> {
    let now = ctx.now();
    let next = find(ctx, id).await?.next_due_at.and_then(|secs| Timestamp::from_second(secs).ok());
    if !ctx.store.change_subscription(id, &[Active], Paused, next, Some(why), now).await? {
        return Err(ended(ctx, id).await);
    }
    ctx.store.audit(who, "pause", &id.to_string(), why, now).await?;
    witness::mark(ctx).await;
    Ok(())
}

/// Charges again. Periods that passed meanwhile follow the plan's catch-up policy.
///
/// # Errors
/// [`FlowError::Refused`] when it is not paused.
pub async fn resume(ctx: &Ctx, id: SubscriptionId, who: &str) -> Result<()> {
    let now = ctx.now();
    let subscription = find(ctx, id).await?;
    let terms = ctx.terms(&subscription.plan, u32::try_from(subscription.revision).unwrap_or(0)).await?;
    let table =
        subscription.frozen()?.timetable(&terms).map_err(|error| FlowError::Refused(error.to_string()))?;
    let index = u32::try_from(subscription.next_index).unwrap_or(0);
    let next = terms.has_period(index).then(|| table.due_at(index)).transpose();
    let next = next.map_err(|error| FlowError::Refused(error.to_string()))?;
    if !ctx.store.change_subscription(id, &[Paused], Active, next, None, now).await? {
        return Err(ended(ctx, id).await);
    }
    Ok(ctx.store.audit(who, "resume", &id.to_string(), "", now).await?)
}

async fn find(ctx: &Ctx, id: SubscriptionId) -> Result<Subscription> {
    let found = ctx.store.find_subscription(id).await?;
    found.ok_or_else(|| FlowError::Refused(format!("subscription {id} is not in the database")))
}

async fn ended(ctx: &Ctx, id: SubscriptionId) -> FlowError {
    match find(ctx, id).await {
        Ok(found) => FlowError::Refused(format!("subscription {id} is {}", found.state)),
        Err(error) => error,
    }
}

async fn end_charge(ctx: &Ctx, id: ChargeId, end: End, report: &mut Report) -> Result<bool> {
    let claimed = claim(ctx, id).await?;
    settle_one(ctx, &claimed, &Event::Stop(end), Trace::default(), report).await
}

async fn claim(ctx: &Ctx, id: ChargeId) -> Result<Claimed> {
    match ctx.store.claim_charge(id, &ctx.worker, ctx.now(), ctx.lease_until()).await? {
        Some(claimed) => Ok(claimed),
        None if ctx.store.find_charge(id).await?.is_some() => Err(FlowError::Refused(format!(
            "charge {id} is being worked on this moment; try again in a minute"
        ))),
        None => Err(FlowError::Refused(format!("charge {id} is not in the database"))),
    }
}

/// What an operator may do with a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChargeCommand {
    /// Collect it now (also one that was missed or waits for a person).
    CollectNow,
    /// It will never be collected.
    Cancel,
    /// It was paid by other means.
    MarkPaid,
    /// Its case goes on on the present ladder.
    TakeLadder,
}

/// Carries out a command on one charge.
///
/// # Errors
/// [`FlowError::Refused`] when the charge's state does not allow it.
pub async fn command(
    ctx: &Ctx,
    id: ChargeId,
    command: ChargeCommand,
    who: &str,
    why: &str,
) -> Result<Report> {
    let (event, what) = match command {
        ChargeCommand::CollectNow => (Event::CollectNow, "collect"),
        ChargeCommand::Cancel => (Event::Stop(End::Canceled), "cancel"),
        ChargeCommand::MarkPaid => (Event::Stop(End::PaidOutside), "mark-paid"),
        ChargeCommand::TakeLadder => (Event::TakeLadder, "the move"),
    };
    let claimed = claim(ctx, id).await?;
    failpoint!("command claimed");
    if command == ChargeCommand::CollectNow && claimed.charge.dunning.is_some() {
        let allowed = next_try(ctx, &claimed, ctx.now()).await?;
        if allowed.is_none_or(|at| at > ctx.now()) && !mutant!(RulesLookedAtOnce) {
            ctx.store.release_charge(&claimed.charge, None).await?;
            return Err(FlowError::Refused(match allowed {
                Some(at) => format!("charge {id}: the card networks allow the next try at {at}"),
                None => {
                    format!("charge {id}: this card may not be tried again; the customer has a link to pay")
                }
            }));
        }
    }
    let mut report = Report::default();
    if !settle_one(ctx, &claimed, &event, Trace::default(), &mut report).await? {
        let now_is = ctx.store.find_charge(id).await?;
        if now_is.is_some_and(|now_is| now_is.charge.state != claimed.charge.state) {
            return Err(FlowError::Refused(format!(
                "charge {id} was changed by somebody else this moment: look at it again"
            )));
        }
        let state = claimed.charge.state.as_str();
        return Err(FlowError::Refused(format!("charge {id} is {state}: {what} changes nothing")));
    }
    failpoint!("commanded..audited");
    ctx.store.audit(who, what, &id.to_string(), why, ctx.now()).await?;
    witness::mark(ctx).await;
    Ok(report)
}

/// Adds a one-off charge: a deposit's balance, a top-up. The same reference again adds nothing.
///
/// # Errors
/// [`FlowError::Refused`] for an amount Stripe would not take.
pub async fn add_one_off(
    ctx: &Ctx,
    customer: CustomerId,
    amount: Money,
    due: Timestamp,
    description: &str,
    reference: &str,
) -> Result<(ChargeId, bool)> {
    let amount = amount.chargeable().map_err(|error| FlowError::Refused(error.to_string()))?;
    let revision = ctx.store.ensure_plan(ONE_OFF, &one_off_terms(amount), ctx.now()).await?;
    let id = customer.one_off(reference);
    let charge = Charge {
        id,
        customer,
        period: None,
        amount,
        due_at: due,
        description: description.to_owned(),
        generation: 0,
        attempts: 0,
        collector: None,
        dunning: None,
        state: State::Due { at: due },
        version: 0,
    };
    let new = NewCharge { charge, plan: ONE_OFF.into(), revision: revision.revision, statement_suffix: None };
    let added = ctx.store.insert_charges(&[new], ctx.now()).await?;
    Ok((id, added == 1))
}

/// The terms of a one-off charge are never read.
fn one_off_terms(amount: Money) -> crate::billing::plan::Terms {
    use crate::billing::calendar::{Anchor, Interval, Unit};
    crate::billing::plan::Terms {
        name: "One-off".into(),
        price_minor: 0,
        currency: amount.currency().code().into(),
        every: Interval { count: 1, unit: Unit::Year },
        anchor: Anchor::Start,
        trial: None,
        installments: Some(1),
        catch_up: crate::billing::plan::CatchUp::default(),
        window: crate::billing::plan::Window::default(),
        statement_suffix: None,
        notice_secs: 0,
        notice_for: crate::billing::plan::NoticeFor::Every,
    }
}
