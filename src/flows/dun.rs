//! Go the ladder's steps that need no attempt: send the step's mail, or end the ladder.

use std::time::Duration;

use super::close::clear;
use super::settle::{Trace, settle_one};
use super::witness::{self, View};
use super::{Ctx, Report, Result, ladders, unheard};
use crate::billing::apply::Event;
use crate::billing::charge::{End, State, Work};
use crate::billing::dunning::Action;
use crate::billing::farewell::{Farewell, farewell};
use crate::billing::subscription::SubscriptionState;
use crate::store::Claimed;

/// How long a step rests whose subscription is paused.
const REST: Duration = Duration::from_secs(6 * 3600);
/// Why a ladder did not end by itself, and what to do.
const UNHEARD: &str = "the customer could not be told that its ladder is over: the mail server accepted no notice, so nothing was ended. Correct the address \
    (`recurd customers email`) and it goes on; or reach the customer another way, then end it with `recurd subscriptions cancel`, \
    or try once more with `recurd charges collect`";

/// Goes at most `limit` steps.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn run_once(ctx: &Ctx, limit: usize) -> Result<Report> {
    let mut report = Report::default();
    // That lasts until a person has looked: nothing is claimed only to be given back.
    if witness::is_behind(ctx).await? {
        return Ok(report);
    }
    let (now, lease) = (ctx.now(), ctx.lease_until());
    let claimed = ctx.store.claim_charges(Work::Dun, &ctx.worker, now, lease, limit).await?;
    if claimed.is_empty() {
        return Ok(report);
    }
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
    if is_resting(ctx, &claimed).await? {
        // Neither reminded nor given up: the ladder goes on where it stood when the subscription does.
        report.count("waiting");
        return unheard::rest(ctx, &claimed, ctx.now().checked_add(REST).ok(), report).await;
    }
    let gives_up = matches!(&claimed.charge.state, State::PastDue { next } if next.action == Action::GiveUp);
    let Some(claimed) = (if gives_up { told(ctx, claimed, report).await? } else { Some(claimed) }) else {
        return Ok(());
    };
    let Some(claimed) = (if gives_up { clear(ctx, claimed, report).await? } else { Some(claimed) }) else {
        return Ok(());
    };
    failpoint!("dun cleared");
    settle_one(ctx, &claimed, &Event::StepDue, Trace::default(), report).await?;
    Ok(())
}

/// Whether an operator has paused the subscription. One that a ladder or the cardholder's bank paused has ended as far as
/// collecting goes: what is open of it goes its way.
pub(super) async fn is_resting(ctx: &Ctx, claimed: &Claimed) -> Result<bool> {
    let Some((id, _)) = claimed.charge.period else { return Ok(false) };
    if claimed.subscription_state != Some(SubscriptionState::Paused) {
        return Ok(false);
    }
    Ok(ctx.store.find_subscription(id).await?.is_some_and(|one| one.ended_at.is_none()))
}

/// Whether the customer knows that this is the end. Else it waits, or goes to a person.
async fn told(ctx: &Ctx, claimed: Claimed, report: &mut Report) -> Result<Option<Claimed>> {
    let on = ladders::of(ctx, &claimed, None).await?;
    let mails = ctx.store.ladder_mails(claimed.charge.id).await?;
    match farewell(&mails, &on.ladder, ctx.now()) {
        Farewell::Now => return Ok(Some(claimed)),
        Farewell::Wait(at) => {
            report.count("waiting_for_notice");
            settle_one(ctx, &claimed, &Event::NotYet { allowed: Some(at) }, Trace::default(), report).await?;
        }
        Farewell::Unheard => {
            let why = Event::Unreached(UNHEARD.to_owned());
            settle_one(ctx, &claimed, &why, Trace::default(), report).await?;
        }
    }
    Ok(None)
}
