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
///
/// Crash: counted for the networks first, each try once; until it stands with its attempt, the next who reads does all again.
pub(super) async fn against(ctx: &Ctx, claimed: &Claimed, intent: &PaymentIntent) -> Result<Option<Event>> {
    let now = ctx.now();
    let decline = match of_intent(claimed, ctx.instance, intent, now) {
        Outcome::Paid(receipt) => return Ok(Some(Event::Paid(receipt))),
        Outcome::Declined(decline) => decline,
        _ => return Ok(None),
    };
    let Some(given_up) = given_up(ctx, claimed, &decline).await? else { return Ok(None) };
    tries::count(ctx, &intent.id).await?;
    failpoint!("late decline counted");
    if claimed.charge.dunning.is_none() {
        // The ladder begins, and in the same step it stands with its attempt.
        return Ok(Some(Event::Declined(decline)));
    }
    put_on_record(ctx, claimed, given_up, &decline).await?;
    let allowed = next_try(ctx, claimed, now).await?;
    Ok((allowed.is_none_or(|at| at > now)).then_some(Event::NotYet { allowed }))
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
    let Some(given_up) = given_up(ctx, claimed, &decline).await? else { return Ok(()) };
    tries::count(ctx, &intent.id).await?;
    failpoint!("late decline counted");
    // Where no ladder has begun, the look before the next try begins it.
    match claimed.charge.dunning {
        Some(_) => put_on_record(ctx, claimed, given_up, &decline).await,
        None => Ok(()),
    }
}

/// The attempt that was given up, and that Stripe carried out after all. `None`: this decline is on record.
async fn given_up(ctx: &Ctx, claimed: &Claimed, decline: &Decline) -> Result<Option<u32>> {
    // What was blocked, or asked for 3-D Secure, reached no bank.
    let Some(latest) = decline.stripe_charge.as_deref() else { return Ok(None) };
    let attempts = ctx.store.attempts(claimed.charge.id).await?;
    if attempts.iter().any(|one| one.stripe_charge.as_deref() == Some(latest)) {
        return Ok(None);
    }
    let void = attempts.iter().filter(|one| one.state == "void");
    // What another database sent has left from here never.
    let given_up = void.max_by_key(|one| (one.sends > 0, one.number));
    Ok(given_up.map(|one| u32::try_from(one.number).unwrap_or(u32::MAX)))
}

async fn put_on_record(ctx: &Ctx, claimed: &Claimed, number: u32, decline: &Decline) -> Result<()> {
    let update = AttemptUpdate::declined_late(claimed.charge.id, number, decline, ctx.now());
    Ok(ctx.store.decline_late(update).await?)
}
