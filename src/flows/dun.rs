//! Go the ladder's steps that need no attempt: send the step's mail, or end the ladder.

use super::close::{Closed, close};
use super::settle::{Trace, decide, settle_one};
use super::{Ctx, Report, Result};
use crate::billing::apply::Event;
use crate::billing::charge::{End, State, Work};
use crate::billing::dunning::Action;
use crate::billing::subscription::SubscriptionState;
use crate::store::Claimed;

/// Goes at most `limit` steps.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn run_once(ctx: &Ctx, limit: usize) -> Result<Report> {
    let mut report = Report::default();
    let claimed =
        ctx.store.claim_charges(Work::Dun, &ctx.worker, ctx.now(), ctx.lease_until(), limit).await?;
    report.taken = claimed.len() as u64;
    for one in claimed {
        let id = one.charge.id;
        if let Err(error) = dun(ctx, one, &mut report).await {
            report.problem(format!("charge {id}: {error}"));
        }
    }
    Ok(report)
}

async fn dun(ctx: &Ctx, claimed: Claimed, report: &mut Report) -> Result<()> {
    if claimed.subscription_state == Some(SubscriptionState::Canceled) {
        settle_one(ctx, &claimed, &Event::Stop(End::Canceled), Trace::default(), report).await?;
        return Ok(());
    }
    let gives_up = matches!(&claimed.charge.state, State::PastDue { next } if next.action == Action::GiveUp);
    let Some(claimed) =
        (if gives_up { without_collector(ctx, claimed, report).await? } else { Some(claimed) })
    else {
        return Ok(());
    };
    settle_one(ctx, &claimed, &Event::StepDue, Trace::default(), report).await?;
    Ok(())
}

/// Nothing may still take the money when the ladder ends. `None`: it was paid, or it must be tried again later.
async fn without_collector(ctx: &Ctx, claimed: Claimed, report: &mut Report) -> Result<Option<Claimed>> {
    let Some(collector) = claimed.charge.collector.clone() else { return Ok(Some(claimed)) };
    let now = ctx.now();
    match close(ctx, &claimed, &collector).await? {
        Closed::Event(Event::CollectorDead) => {
            let Ok(settlement) = decide(ctx, &claimed, &Event::CollectorDead, Trace::default(), now).await?
            else {
                return Ok(None);
            };
            let settlement = settlement.keep_lease(&ctx.worker, ctx.lease_until());
            let charge = settlement.charge.clone();
            let settled = ctx.store.settle(&[settlement], now).await?;
            Ok(settled.lost.is_empty().then_some(Claimed { charge, ..claimed }))
        }
        Closed::Event(event) => {
            settle_one(ctx, &claimed, &event, Trace::default(), report).await?;
            Ok(None)
        }
        Closed::Alive(why) => {
            tracing::warn!(charge.id = %claimed.charge.id, "The ladder of charge {} cannot end yet: {why}", claimed.charge.id);
            let later = now.checked_add(std::time::Duration::from_secs(120)).ok();
            ctx.store.release_charge(&claimed.charge, later).await?;
            Ok(None)
        }
    }
}
