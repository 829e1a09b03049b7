//! What a bank said to a try of which nobody here heard: it was given up, and Stripe carried it out after all, or a database
//! that is lost had sent it.
//!
//! The same PaymentIntent again can succeed only once, so a retry need not wait until that is ruled out. But what the bank said
//! decides when the card networks let it leave. So it is counted, and put on record with the attempt that was given up, if there
//! is one, by whoever reads of it first: an event, a recovery, or a look before the PaymentIntent is confirmed again.

use jiff::Timestamp;

use super::answers::{last_decline, of_intent};
use super::collect::living_intent;
use super::settle::{Trace, next_try, settle_one};
use super::{Ctx, FlowError, Report, Result, tries};
use crate::billing::apply::{Event, Outcome};
use crate::billing::charge::State;
use crate::billing::decline::Decline;
use crate::store::{AttemptRow, AttemptUpdate, Claimed};
use crate::stripe::payment_intents::PaymentIntent;

/// What keeps a PaymentIntent that was just read from being confirmed again. `None`: nothing does.
///
/// Crash: counted for the networks first, each try once; until it stands with its attempt, the next who reads does all again.
pub(super) async fn against(ctx: &Ctx, claimed: &Claimed, intent: &PaymentIntent) -> Result<Option<Event>> {
    let now = ctx.now();
    let (decline, dead) = match of_intent(claimed, ctx.instance, intent, now) {
        Outcome::Paid(receipt) => return Ok(Some(Event::Paid(receipt))),
        Outcome::Declined(decline) => (Some(decline), None),
        Outcome::CollectorDead => (last_decline(claimed, intent), Some(Event::CollectorDead)),
        _ => return Ok(None),
    };
    let attempts = ctx.store.attempts(claimed.charge.id).await?;
    let given_up = given_up(&attempts);
    let unheard = decline.filter(|decline| given_up.is_some() || is_new(&attempts, decline));
    let Some(decline) = unheard else { return Ok(dead) };
    // What came after it may hide it: the PaymentIntent shows its newest try only.
    tries::count(ctx, &intent.id).await?;
    failpoint!("late decline counted");
    if is_new(&attempts, &decline) {
        let may_begin = matches!(claimed.charge.state, State::Due { .. } | State::Processing { .. });
        if claimed.charge.dunning.is_none() && may_begin {
            // The ladder begins, and in the same step it stands with its attempt.
            return Ok(Some(Event::Declined(decline)));
        }
        put_on_record(ctx, claimed, given_up, &decline).await?;
    }
    if dead.is_some() {
        return Ok(dead);
    }
    let allowed = next_try(ctx, claimed, now).await?;
    Ok((allowed.is_none_or(|at| at > now)).then_some(Event::NotYet { allowed }))
}

/// Gives back a charge that rests, on hold or paused. Until it goes its way again nobody would ask what became of a try that was
/// given up, and the event of it may be lost.
pub(super) async fn rest(
    ctx: &Ctx,
    claimed: &Claimed,
    until: Option<Timestamp>,
    report: &mut Report,
) -> Result<()> {
    match carried_out(ctx, claimed).await {
        Ok(Some(event)) => {
            report.count("heard_late");
            settle_one(ctx, claimed, &event, Trace::default(), report).await?;
            return Ok(());
        }
        Err(FlowError::Stripe(error)) => {
            let id = claimed.charge.id;
            tracing::warn!(charge.id = %id, "Charge {id} rests, and Stripe could not be asked about it: {error}");
        }
        Ok(None) => {}
        Err(error) => return Err(error),
    }
    Ok(ctx.store.release_charge(&claimed.charge, until).await?)
}

/// What Stripe made of a try that was given up, if it decides about the charge.
async fn carried_out(ctx: &Ctx, claimed: &Claimed) -> Result<Option<Event>> {
    let Some(id) = living_intent(&claimed.charge) else { return Ok(None) };
    if given_up(&ctx.store.attempts(claimed.charge.id).await?).is_none() {
        return Ok(None);
    }
    let intent = ctx.stripe.retrieve_payment_intent(&id).await?.value;
    let event = against(ctx, claimed, &intent).await?;
    Ok(event.filter(|event| !matches!(event, Event::NotYet { .. })))
}

/// An event told of a PaymentIntent, and no attempt waits for what it says.
pub(super) async fn take_in(ctx: &Ctx, claimed: &Claimed, intent: &PaymentIntent) -> Result<()> {
    let is_awaited = claimed.charge.open_attempt().is_some();
    if is_awaited || living_intent(&claimed.charge).as_ref() != Some(&intent.id) {
        return Ok(());
    }
    let Outcome::Declined(decline) = of_intent(claimed, ctx.instance, intent, ctx.now()) else {
        return Ok(());
    };
    let attempts = ctx.store.attempts(claimed.charge.id).await?;
    if !is_new(&attempts, &decline) {
        return Ok(());
    }
    tries::count(ctx, &intent.id).await?;
    failpoint!("late decline counted");
    // Where no ladder has begun, the look before the next try begins it.
    match claimed.charge.dunning {
        Some(_) => put_on_record(ctx, claimed, given_up(&attempts), &decline).await,
        None => Ok(()),
    }
}

/// An attempt of which nobody heard.
pub(super) fn given_up(attempts: &[AttemptRow]) -> Option<u32> {
    let void = attempts.iter().filter(|one| one.state == "void");
    // What another database sent has left from here never.
    let given_up = void.max_by_key(|one| (one.sends > 0, one.number));
    given_up.map(|one| u32::try_from(one.number).unwrap_or(u32::MAX))
}

/// Whether a decline stands with no attempt yet. What was blocked, or asked for 3-D Secure, reached no bank.
fn is_new(attempts: &[AttemptRow], decline: &Decline) -> bool {
    let latest = decline.stripe_charge.as_deref();
    latest.is_some() && attempts.iter().all(|one| one.stripe_charge.as_deref() != latest)
}

/// What a lost database sent has no attempt here.
async fn put_on_record(ctx: &Ctx, claimed: &Claimed, given_up: Option<u32>, decline: &Decline) -> Result<()> {
    let Some(number) = given_up else { return Ok(()) };
    let update = AttemptUpdate::declined_late(claimed.charge.id, number, decline, ctx.now());
    Ok(ctx.store.decline_late(update).await?)
}
