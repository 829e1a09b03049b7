//! Consents: what a customer agreed to when a card was saved, kept word for word.

use uuid::Uuid;

use super::pay_link::hash;
use super::{Ctx, Result};
use crate::billing::ids::{ChargeId, CustomerId};
use crate::store::{Card, Customer, Enrolment, NewConsent};
use crate::stripe::checkout::submit_message;
use crate::stripe::payment_methods::PaymentMethod;

/// Keeps the consent of a customer who saved a card on a setup page.
pub(super) async fn record(
    ctx: &Ctx,
    enrolment: &Enrolment,
    customer: &Customer,
    session: &str,
    setup_intent: Option<String>,
    mandate: Option<String>,
    method: &PaymentMethod,
) -> Result<()> {
    let consent = NewConsent {
        id: Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("consent {session}").as_bytes()),
        customer: customer.customer_id(),
        subscription: enrolment.subscription_id.as_deref().and_then(|id| id.parse().ok()),
        given_at: ctx.now(),
        how: "checkout",
        text_sha256: hash(&enrolment.consent_text),
        text: enrolment.consent_text.clone(),
        session: Some(session.to_owned()),
        setup_intent,
        payment_method: Some(method.id.clone()),
        mandate,
    };
    Ok(ctx.store.record_consent(&consent, ctx.now()).await?)
}

/// Keeps the consent of a customer whose card was saved by paying on a page: the text that stood above its button.
pub(super) async fn record_paid(
    ctx: &Ctx,
    customer: CustomerId,
    charge: ChargeId,
    card: &Card,
) -> Result<()> {
    let Some((session, body)) = ctx.store.paid_page(charge).await? else { return Ok(()) };
    let Some(text) = submit_message(&body) else { return Ok(()) };
    let subscription =
        ctx.store.find_charge(charge).await?.and_then(|one| one.charge.period).map(|(id, _)| id);
    let consent = NewConsent {
        id: Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("consent {session}").as_bytes()),
        customer,
        subscription,
        given_at: ctx.now(),
        how: "checkout",
        text_sha256: hash(&text),
        text,
        session: Some(session),
        setup_intent: None,
        payment_method: Some(card.payment_method.clone()),
        mandate: None,
    };
    Ok(ctx.store.record_consent(&consent, ctx.now()).await?)
}
