//! What a customer tried on Stripe's page: the card networks count it as they count a machine's tries.

use super::{Ctx, Result};
use crate::billing::apply::Event;
use crate::billing::money::Currency;
use crate::store::NetworkTry;
use crate::stripe::charges::{Charge, ChargeStatus, OutcomeType};
use crate::stripe::checkout::CheckoutSession;

/// Books what was tried on a page that is over unpaid. A payment is news that waits for nothing.
///
/// # Errors
/// [`super::FlowError`]: the page is not settled then, so that no retry leaves before its tries are known.
pub(super) async fn of_page(ctx: &Ctx, page: &CheckoutSession, event: &Event) -> Result<()> {
    match (event, &page.payment_intent) {
        (Event::Paid(_), _) | (_, None) => Ok(()),
        (_, Some(intent)) => count(ctx, intent.id()).await,
    }
}

/// Books the declined tries of a page's PaymentIntent, each once.
pub(super) async fn count(ctx: &Ctx, payment_intent: &str) -> Result<()> {
    let charges = ctx.stripe.list_charges(payment_intent).await?;
    let tries: Vec<NetworkTry> = charges.iter().filter_map(declined).collect();
    Ok(ctx.store.count_tries(&tries).await?)
}

fn declined(charge: &Charge) -> Option<NetworkTry> {
    // What Stripe blocks does not reach the network.
    let reached = charge.outcome.as_ref().is_none_or(|outcome| outcome.kind != OutcomeType::Blocked);
    let card = charge.payment_method_details.as_ref()?.card.as_ref()?;
    (charge.status == ChargeStatus::Failed && reached).then_some(())?;
    Some(NetworkTry {
        id: charge.id.clone(),
        card_fingerprint: card.fingerprint.clone()?,
        amount_minor: charge.amount_minor,
        currency: charge.currency.parse::<Currency>().ok()?.code(),
        tried_at: charge.created.as_second(),
        brand: card.brand.clone(),
    })
}
