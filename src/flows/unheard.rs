//! A try that was given up after nobody heard an answer, and that Stripe carried out after all.
//!
//! The same PaymentIntent again can succeed only once, so a retry need not wait until that is ruled out. But what the bank said
//! decides whether the card networks let it leave: it is looked for before, and taken in as the answer of the next attempt.

use super::answers::{is_ours, of_intent};
use super::{Ctx, Result, tries};
use crate::billing::apply::{Event, Outcome};
use crate::billing::charge::{Charge, Phase, State};
use crate::billing::dunning::{Action, Next};
use crate::store::Claimed;
use crate::stripe::Expandable;
use crate::stripe::payment_intents::{PaymentIntent, PaymentIntentStatus};

/// What the charge's own PaymentIntent says that is on record with none of its attempts.
pub(super) async fn unheard(ctx: &Ctx, claimed: &Claimed, intent: &PaymentIntent) -> Result<Option<Event>> {
    let charge = &claimed.charge;
    let is_living = charge.collector.as_ref().is_some_and(|one| one.stripe_id.as_ref() == Some(&intent.id));
    if !is_living || !is_about_to_try(charge) {
        return Ok(None);
    }
    let outcome = of_intent(claimed, ctx.instance, intent, ctx.now());
    Ok(match outcome {
        Outcome::Paid(receipt) => Some(Event::Paid(receipt)),
        Outcome::Declined(_) if !is_on_record(ctx, claimed, intent).await? => {
            Some(Event::Answered { attempt: next_number(charge), outcome })
        }
        _ => None,
    })
}

/// Counts a decline for the card networks that has no attempt to belong to now; the next retry takes it in.
pub(super) async fn count(ctx: &Ctx, claimed: &Claimed, intent: &PaymentIntent) -> Result<()> {
    let is_declined = intent.status == PaymentIntentStatus::RequiresPaymentMethod;
    let is_awaited = claimed.charge.open_attempt().is_some();
    if is_declined
        && !is_awaited
        && is_ours(claimed, ctx.instance, intent)
        && !is_on_record(ctx, claimed, intent).await?
    {
        tries::count(ctx, &intent.id).await?;
    }
    Ok(())
}

/// What was blocked or asked for 3-D Secure left no charge at Stripe, and says nothing that must be waited for.
async fn is_on_record(ctx: &Ctx, claimed: &Claimed, intent: &PaymentIntent) -> Result<bool> {
    let Some(latest) = intent.latest_charge.as_ref().map(Expandable::id) else { return Ok(true) };
    let attempts = ctx.store.attempts(claimed.charge.id).await?;
    Ok(attempts.iter().any(|one| one.stripe_charge.as_deref() == Some(latest)))
}

fn is_about_to_try(charge: &Charge) -> bool {
    match &charge.state {
        State::Due { .. } | State::PastDue { next: Next { action: Action::Collect, .. } } => true,
        State::Collecting { attempt } => matches!(attempt.phase, Phase::Prepared { .. }),
        _ => false,
    }
}

/// The number of the attempt that is about to be sent.
pub(super) fn next_number(charge: &Charge) -> u32 {
    charge.open_attempt().map_or(charge.attempts + 1, |attempt| attempt.number)
}
