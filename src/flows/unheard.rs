//! A try that was given up after nobody heard an answer, and that Stripe carried out after all.
//!
//! The same PaymentIntent again can succeed only once, so a retry need not wait until that is ruled out. But what the bank said
//! decides when the card networks let it leave. So it is put on record with the attempt that was given up, by whoever reads of
//! it first: an event, or a look before the PaymentIntent is confirmed again.

use super::answers::of_intent;
use super::collect::living_intent;
use super::settle::next_try;
use super::{Ctx, Result, tries};
use crate::billing::apply::{Event, Outcome};
use crate::billing::decline::Decline;
use crate::store::{AttemptUpdate, Claimed};
use crate::stripe::payment_intents::PaymentIntent;

/// What keeps a PaymentIntent that was just read from being confirmed again. `None`: nothing does.
pub(super) async fn against(ctx: &Ctx, claimed: &Claimed, intent: &PaymentIntent) -> Result<Option<Event>> {
    let now = ctx.now();
    let decline = match of_intent(claimed, ctx.instance, intent, now) {
        Outcome::Paid(receipt) => return Ok(Some(Event::Paid(receipt))),
        Outcome::Declined(decline) => decline,
        _ => return Ok(None),
    };
    if !put_on_record(ctx, claimed, intent, &decline).await? {
        return Ok(None);
    }
    if claimed.charge.dunning.is_none() {
        return Ok(Some(Event::Declined(decline)));
    }
    let allowed = next_try(ctx, claimed, now).await?;
    Ok((allowed.is_none_or(|at| at > now)).then_some(Event::NotYet { allowed }))
}

/// An event told of a PaymentIntent, and no attempt waits for what it says.
pub(super) async fn take_in(ctx: &Ctx, claimed: &Claimed, intent: &PaymentIntent) -> Result<()> {
    let is_awaited = claimed.charge.open_attempt().is_some();
    if is_awaited || living_intent(&claimed.charge).as_ref() != Some(&intent.id) {
        return Ok(());
    }
    if let Outcome::Declined(decline) = of_intent(claimed, ctx.instance, intent, ctx.now()) {
        put_on_record(ctx, claimed, intent, &decline).await?;
    }
    Ok(())
}

/// Returns whether it was not on record before, and is now.
///
/// Crash: counted for the networks first, each try once; until it stands with its attempt, the next who reads does all again.
async fn put_on_record(
    ctx: &Ctx,
    claimed: &Claimed,
    intent: &PaymentIntent,
    decline: &Decline,
) -> Result<bool> {
    // What was blocked, or asked for 3-D Secure, reached no bank.
    let Some(latest) = decline.stripe_charge.as_deref() else { return Ok(false) };
    let charge = claimed.charge.id;
    let attempts = ctx.store.attempts(charge).await?;
    let is_known = attempts.iter().any(|one| one.stripe_charge.as_deref() == Some(latest));
    let given_up = attempts.iter().rev().find(|one| one.state == "void" && one.sends > 0);
    let Some(given_up) = given_up.filter(|_| !is_known) else { return Ok(false) };
    tries::count(ctx, &intent.id).await?;
    failpoint!("late decline counted");
    let number = u32::try_from(given_up.number).unwrap_or(u32::MAX);
    Ok(ctx.store.decline_late(AttemptUpdate::declined_late(charge, number, decline, ctx.now())).await?)
}
