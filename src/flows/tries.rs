//! Declined tries of which no answer told: the card networks count what a customer tries on Stripe's page, and what a lost database
//! tried, as they count our own.

use jiff::Timestamp;

use super::answers::{INSTANCE, event_of_session};
use super::{Ctx, Result};
use crate::billing::apply::Event;
use crate::billing::decline::{Class, Decline};
use crate::billing::money::Currency;
use crate::store::{Claimed, NetworkTry};
use crate::stripe::charges::{Charge, ChargeStatus, OutcomeType};
use crate::stripe::checkout::CheckoutSession;
use crate::stripe::payment_methods::Card;

/// What a page says, once the tries of one that is not paid are booked. A payment is news that waits for nothing.
///
/// # Errors
/// [`super::FlowError`]: the page is not settled then, so that no retry leaves before its tries are known.
pub(super) async fn event_of_page(
    ctx: &Ctx,
    claimed: &Claimed,
    page: &CheckoutSession,
) -> Result<Option<Event>> {
    let event = event_of_session(claimed, page, ctx.now());
    match (&event, &page.payment_intent) {
        (None | Some(Event::Paid(_)), _) | (_, None) => {}
        (Some(_), Some(intent)) => count(ctx, intent.id()).await?,
    }
    Ok(event)
}

/// Books the declined tries of a page's PaymentIntent, each once.
pub(super) async fn count(ctx: &Ctx, payment_intent: &str) -> Result<()> {
    let charges = ctx.stripe.list_charges(payment_intent).await?;
    let tries: Vec<NetworkTry> = charges.iter().filter_map(declined).collect();
    Ok(ctx.store.count_tries(&tries).await?)
}

/// Books those of all our charges since an instant, as a lost database may have heard of them.
pub(super) async fn count_since(ctx: &Ctx, since: Timestamp, progress: &impl Fn(u64)) -> Result<()> {
    let ours = ctx.instance.to_string();
    let mut list = ctx.stripe.charges_since(since);
    let mut seen = 0;
    while let Some(page) = list.next().await? {
        seen += page.len() as u64;
        progress(seen);
        let of_ours = page.iter().filter(|charge| charge.metadata.get(INSTANCE) == Some(&ours));
        let tries: Vec<NetworkTry> = of_ours.filter_map(declined).collect();
        ctx.store.count_tries(&tries).await?;
    }
    Ok(())
}

fn declined(charge: &Charge) -> Option<NetworkTry> {
    // What Stripe blocks does not reach the network.
    let reached = charge.outcome.as_ref().is_none_or(|outcome| outcome.kind != OutcomeType::Blocked);
    let card = card_of(charge)?;
    (charge.status == ChargeStatus::Failed && reached).then_some(())?;
    let (decline, at) = (decline_of(charge), charge.created);
    Some(NetworkTry {
        id: charge.id.clone(),
        card_fingerprint: card.fingerprint.clone()?,
        amount_minor: charge.amount_minor,
        currency: charge.currency.parse::<Currency>().ok()?.code(),
        tried_at: at.as_second(),
        brand: card.brand.clone(),
        refused_at: (decline.class() == Class::Never).then_some(at.as_second()),
        not_before: decline.not_before(at).map(Timestamp::as_second),
    })
}

/// A failed charge as a decline.
pub(super) fn decline_of(charge: &Charge) -> Decline {
    let outcome = charge.outcome.as_ref();
    let card = card_of(charge);
    Decline {
        code: charge.failure_code.clone(),
        decline_code: outcome.and_then(|outcome| outcome.reason.clone()),
        advice_code: outcome.and_then(|outcome| outcome.advice_code.clone()),
        network_decline_code: outcome.and_then(|outcome| outcome.network_decline_code.clone()),
        network_advice_code: outcome.and_then(|outcome| outcome.network_advice_code.clone()),
        stripe_charge: Some(charge.id.clone()),
        fingerprint: card.and_then(|card| card.fingerprint.clone()),
        brand: card.and_then(|card| card.brand.clone()),
        ..Decline::default()
    }
}

fn card_of(charge: &Charge) -> Option<&Card> {
    charge.payment_method_details.as_ref()?.card.as_ref()
}
