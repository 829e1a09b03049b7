//! Guard rails: what stops a run before a mistake becomes expensive. Each of them halts charging for everybody, or
//! refuses to begin; none of them changes a charge.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::Timestamp;

use super::{Ctx, Report, Result, guard};
use crate::billing::caps::{DayCaps, Spent};
use crate::billing::ids::CustomerId;
use crate::billing::money::Money;
use crate::config::Mode;
use crate::store::{Settled, Settlement};

/// Days that make a forecast: over a year, so that yearly renewals are among them.
const FORECAST_DAYS: i64 = 400;
/// With fewer earlier days nobody knows what is usual.
const FORECAST_FROM_DAYS: u64 = 7;
/// How far our clock may be from Stripe's, or behind what it showed before, in seconds.
const SKEW_SECS_MAX: i64 = 120;
/// A resume allows an unusual day for this long, in seconds.
const CLEARED_SECS: i64 = 86_400;

/// What one run has done so far, shared by its workers.
#[derive(Default)]
pub(super) struct Run {
    attempts: AtomicU64,
    customers: Mutex<HashMap<CustomerId, u32>>,
    refusals: Mutex<HashMap<String, u32>>,
    is_forecast: AtomicBool,
}

/// Why nothing may be charged now, if so: a wrong clock, or a day that is not like any before it.
pub(super) async fn may_begin(ctx: &Ctx) -> Result<Option<String>> {
    if let Some(why) = wrong_clock(ctx).await {
        return Ok(Some(why));
    }
    let now = ctx.now();
    let instance = ctx.store.instance(now).await?;
    ctx.witness.learn(&instance);
    let behind = instance.heartbeat_at.as_second() - now.as_second();
    if behind > SKEW_SECS_MAX {
        return Ok(Some(format!(
            "this machine's clock is {behind} s behind what it showed before: set it, then run again"
        )));
    }
    let config = &ctx.config.guard;
    let cleared = instance.cleared_at.is_some_and(|at| now.as_second() - at.as_second() < CLEARED_SECS);
    if config.surge == 0 || cleared || ctx.run.is_forecast.swap(true, Ordering::SeqCst) {
        return Ok(None);
    }
    let (busiest, days) = ctx.store.busiest_day(FORECAST_DAYS, now).await?;
    if days < FORECAST_FROM_DAYS {
        return Ok(None);
    }
    let due = ctx.store.due_today(now).await?;
    let Some(why) = due.surge(&busiest, config.surge, config.surge_from) else { return Ok(None) };
    guard::halt(&ctx.store, guard::SELF, &why, now).await?;
    Ok(Some(why))
}

/// Why this machine's clock is not to be followed, if so. By a wrong one a key is younger than it is, periods come that
/// have not, and steps of a ladder are taken before their day.
pub(super) async fn wrong_clock(ctx: &Ctx) -> Option<String> {
    if is_skewed(ctx).is_some() {
        // Perhaps it was set meanwhile, or the machine slept: only a fresh answer counts.
        let _ = ctx.stripe.retrieve_account().await;
    }
    is_skewed(ctx)
        .map(|skew| format!("this machine's clock is {skew} s off Stripe's: set it, then run again"))
}

fn is_skewed(ctx: &Ctx) -> Option<i64> {
    ctx.stripe.skew_secs().filter(|skew| skew.abs() > SKEW_SECS_MAX)
}

/// Writes new attempts, as many as the run's and the day's caps allow: how many these are, and why not all, for [`met`]
/// to say once they are settled.
pub(super) async fn admit(ctx: &Ctx, attempts: &[Settlement], now: Timestamp) -> Result<Settled> {
    let (of_run, of_run_why) = fit_run(ctx, attempts);
    let attempts = attempts.get(..of_run).unwrap_or(attempts);
    let wanted: Vec<Money> = attempts.iter().map(|one| one.charge.amount).collect();
    let (caps, first) = (&ctx.config.guard.day, first_live(ctx).await?);
    let admit = |day: &Spent| fit_day(day, caps, first, &wanted);
    let mut settled = ctx.store.settle_booked(attempts, now, &admit).await?;
    settled.why = settled.why.or(of_run_why);
    Ok(settled)
}

/// A limit was met: charging halts, and this run ends.
pub(super) async fn met(ctx: &Ctx, why: String, report: &mut Report) -> Result<()> {
    guard::halt(&ctx.store, guard::SELF, &why, ctx.now()).await?;
    report.stopped.get_or_insert(why);
    Ok(())
}

/// How many of a group fit into this run.
fn fit_run(ctx: &Ctx, group: &[Settlement]) -> (usize, Option<String>) {
    let config = &ctx.config.guard;
    let Ok(mut customers) = ctx.run.customers.lock() else { return (0, Some("a worker panicked".into())) };
    for (admitted, one) in group.iter().enumerate() {
        let (customer, of_customer) =
            (one.charge.customer, customers.entry(one.charge.customer).or_default());
        if config.charges_per_customer.is_some_and(|cap| *of_customer >= cap) {
            let cap = *of_customer;
            return (
                admitted,
                Some(format!(
                    "customer {customer} has more than {cap} charges in one run (guard.charges_per_customer)"
                )),
            );
        }
        if let Some(cap) =
            config.charges_per_run.filter(|cap| ctx.run.attempts.load(Ordering::SeqCst) >= *cap)
        {
            return (admitted, Some(format!("more than {cap} attempts in one run (guard.charges_per_run)")));
        }
        *of_customer += 1;
        ctx.run.attempts.fetch_add(1, Ordering::SeqCst);
    }
    (group.len(), None)
}

/// Until a person has looked at the first live charges and resumed: how many more there may be.
async fn first_live(ctx: &Ctx) -> Result<Option<u64>> {
    let Some(cap) = ctx.config.guard.first_live_run.filter(|_| ctx.config.stripe.mode == Mode::Live) else {
        return Ok(None);
    };
    if ctx.store.instance(ctx.now()).await?.cleared_at.is_some() {
        return Ok(None);
    }
    Ok(Some(cap.saturating_sub(ctx.store.attempts_ever().await?)))
}

fn fit_day(day: &Spent, caps: &DayCaps, first: Option<u64>, wanted: &[Money]) -> (usize, Option<String>) {
    let (fits, why) = day.fit(caps, wanted);
    match first.and_then(|left| usize::try_from(left).ok()).filter(|left| *left < fits) {
        Some(left) => {
            let why = "these were the first live charges (guard.first_live_run): look at them in Stripe's Dashboard";
            (left, Some(why.to_owned()))
        }
        None => (fits, why),
    }
}

/// Counts a request that Stripe refused for a reason that is no card's. Too many alike are no accident: charging halts.
pub(super) async fn refused(ctx: &Ctx, reason: String, report: &mut Report) -> Result<()> {
    let Some(cap) = ctx.config.guard.alike_refusals else { return Ok(()) };
    let count = ctx.run.refusals.lock().map_or(0, |mut refusals| {
        let count = refusals.entry(reason.clone()).or_default();
        *count += 1;
        *count
    });
    if count > cap {
        let why = format!("Stripe refused {count} charges in one run for the same reason: {reason}");
        met(ctx, why, report).await?;
    }
    Ok(())
}
