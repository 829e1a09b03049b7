//! Go the ladder's steps that need no attempt: send the step's mail, or end the ladder.

use super::close::clear;
use super::settle::{Trace, settle_one};
use super::witness::{self, View};
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
    let (now, lease) = (ctx.now(), ctx.lease_until());
    let claimed = ctx.store.claim_charges(Work::Dun, &ctx.worker, now, lease, limit).await?;
    report.taken = claimed.len() as u64;
    failpoint!("dun claimed");
    let claimed = ctx.in_time(claimed, now).await?;
    // On old news nobody is mailed or given up.
    if !claimed.is_empty() && !matches!(witness::look(ctx).await?, View::Agrees) {
        report.count_many("not_looked_up", claimed.len() as u64);
        return ctx.put_off(claimed).await.map(|()| report);
    }
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
    let Some(claimed) = (if gives_up { clear(ctx, claimed, report).await? } else { Some(claimed) }) else {
        return Ok(());
    };
    failpoint!("dun cleared");
    settle_one(ctx, &claimed, &Event::StepDue, Trace::default(), report).await?;
    Ok(())
}
