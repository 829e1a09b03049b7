//! What Stripe tells besides payments: of the account, its payouts, reviews, mandates, and what other tools did to a customer.
//! The API that we are pinned to has no mandate, review or payout to read: of those the event is read again instead.

use super::cards::{card_of, promise_tries};
use super::guard::{self, SELF};
use super::pay_link::hash;
use super::{Ctx, Result, reversals};
use crate::store::{Customer, OutboxInsert};
use crate::stripe::customers::ActiveCustomer;
use crate::stripe::events::Event;

/// How the reason of a halt begins that only Stripe can end.
const NOT_ENABLED: &str = "Stripe says that this account may not charge";

async fn read(ctx: &Ctx, event: &str) -> Result<Event> {
    Ok(ctx.stripe.retrieve_event(event).await?.value)
}

/// Tells the operator something once.
async fn tell(ctx: &Ctx, subject: &str, step: &str, text: String) -> Result<()> {
    Ok(ctx.store.promise(&[OutboxInsert::alarm(subject.to_owned(), step, text, ctx.now())]).await?)
}

/// The account may charge, or it may not: then everything stops. That it may again only a person takes for granted.
pub(super) async fn account(ctx: &Ctx, event: &str) -> Result<bool> {
    if ctx.stripe.retrieve_account().await?.value.charges_enabled {
        let halted = ctx.store.halted().await?;
        if halted.is_some_and(|why| why.starts_with(NOT_ENABLED)) {
            let text =
                "Stripe says that this account may charge again: see why it could not, then `recurd resume`";
            tell(ctx, event, "account-enabled", text.to_owned()).await?;
        }
        return Ok(true);
    }
    let why = format!("{NOT_ENABLED} (charges_enabled is false): see what Stripe asks for in its Dashboard");
    guard::halt(&ctx.store, SELF, &why, ctx.now()).await?;
    Ok(true)
}

/// Stripe could not pay the merchant. No charge is affected.
pub(super) async fn payout(ctx: &Ctx, event: &str) -> Result<bool> {
    let Some(id) = read(ctx, event).await?.object_id else { return Ok(false) };
    let text = format!(
        "payout {id} failed: your bank did not take Stripe's payment. Look at the bank account in Stripe's Dashboard; no charge is affected"
    );
    tell(ctx, &id, "payout-failed", text).await?;
    Ok(true)
}

/// Stripe's rules hold a payment until the merchant has looked at it, or that is over.
pub(super) async fn review(ctx: &Ctx, event: &str) -> Result<bool> {
    let event = read(ctx, event).await?;
    let (Some(id), Some(charge)) = (event.object_id, event.charge) else { return Ok(false) };
    let charge = ctx.stripe.retrieve_charge(&charge).await?.value;
    if reversals::charge_of_ours(ctx, &charge).await?.is_none() {
        return Ok(false);
    }
    let reason = event.reason.unwrap_or_default();
    match (event.kind.as_str(), reason.as_str()) {
        ("review.closed", "refunded_as_fraud") => {
            return reversals::hold(ctx, &charge, &id, "review-fraud", "a review found fraud").await;
        }
        ("review.closed", _) => {}
        _ => {
            let text = format!(
                "{id}: Stripe wants {} to be reviewed ({reason}): approve or refund it in its Dashboard. Until then it counts as paid",
                charge.id
            );
            tell(ctx, &id, "review", text).await?;
        }
    }
    Ok(true)
}

/// A permission that has ended: its card is charged no more, as if it had been removed. It never comes back to life.
pub(super) async fn mandate(ctx: &Ctx, event: &str) -> Result<bool> {
    let event = read(ctx, event).await?;
    match (event.status.as_deref(), event.payment_method) {
        (Some("inactive"), Some(card)) => Ok(ctx.store.forget_card(&card).await? > 0),
        _ => Ok(false),
    }
}

/// Another tool changed a customer at Stripe.
pub(super) async fn customer_changed(ctx: &Ctx, id: &str, event: &str) -> Result<bool> {
    let Some(ours) = ctx.store.find_customer(ctx.instance.customer(id)).await? else { return Ok(false) };
    let event = read(ctx, event).await?;
    if !event.email_changed && !event.default_changed {
        return Ok(true);
    }
    let there = ctx.stripe.retrieve_customer(id).await?.value;
    let Some(there) = there.active() else { return Ok(true) };
    if event.email_changed {
        address_elsewhere(ctx, &ours, there).await?;
    }
    if event.default_changed {
        default_elsewhere(ctx, &ours, there).await?;
    }
    Ok(true)
}

/// Another address at Stripe is told and not taken over: our mails carry links, and who gets them is a person's decision. The
/// address itself is not repeated, since it stands in Stripe's Dashboard and an alarm may be kept for long.
async fn address_elsewhere(ctx: &Ctx, ours: &Customer, there: &ActiveCustomer) -> Result<()> {
    let Some(email) = there.email.as_deref().map(str::to_lowercase).filter(|email| !email.is_empty()) else {
        return Ok(());
    };
    if ours.email.to_lowercase() == email {
        return Ok(());
    }
    let goes_on = match ours.mail_state.as_str() {
        "dead" => {
            "the one that recurd has takes no mail, so the customer hears nothing until it is corrected"
        }
        _ => "recurd goes on writing to the one it has",
    };
    let id = &there.id;
    let text = format!(
        "another tool changed the mail address of {id} at Stripe; {goes_on}. If the new one is right: `recurd customers email {id} ADDRESS`"
    );
    tell(ctx, id, &format!("address-{}", hash(&email)), text).await
}

/// Another tool made a card the default at Stripe. We keep our own: which card is charged follows from what was agreed here.
/// Only who has none is charged on the other one, if an agreement on record names it.
async fn default_elsewhere(ctx: &Ctx, ours: &Customer, there: &ActiveCustomer) -> Result<()> {
    let id = there.id.as_str();
    let Some(card) = there.default_payment_method.clone() else { return Ok(()) };
    if ours.payment_method.as_ref() == Some(&card) {
        return Ok(());
    }
    let agreed = ctx.store.agreed_cards(ours.customer_id()).await?.contains(&card);
    if ours.payment_method.is_none() && agreed {
        let method = ctx.stripe.retrieve_payment_method(&card).await?.value;
        if let (Some(card), true) = (card_of(&method), method.customer.as_deref() == Some(id)) {
            ctx.store.set_default_card(ours.customer_id(), &card, None).await?;
            failpoint!("default elsewhere adopted");
            promise_tries(ctx, ours.customer_id(), &card).await?;
        }
        return Ok(());
    }
    let goes_on = match &ours.payment_method {
        Some(own) => format!("recurd goes on with {own}"),
        None => "recurd charges no card, since no agreement on record names it".to_owned(),
    };
    let text = format!(
        "another tool made {card} the default of {id} at Stripe; {goes_on}. The customer changes it on `recurd customers card-link {id}`"
    );
    tell(ctx, &card, &format!("default-of-{id}"), text).await
}

/// A deleted customer is gone for good, with its cards.
pub(super) async fn customer_gone(ctx: &Ctx, id: &str) -> Result<bool> {
    if ctx.stripe.retrieve_customer(id).await?.value.active().is_some() {
        return Ok(false);
    }
    let held = ctx.store.hold_customer(id, Some("the customer was deleted at Stripe")).await? > 0;
    if held {
        let text = format!(
            "customer {id} was deleted at Stripe, with its cards: it is held, and nothing is charged. Cancel its \
             subscriptions, or enroll the customer anew"
        );
        tell(ctx, id, "deleted-at-stripe", text).await?;
    }
    Ok(held)
}
