//! Consents: what a customer agreed to when a card was saved, kept word for word.

use uuid::Uuid;

use super::pay_link::hash;
use super::{Ctx, Result};
use crate::billing::ids::{ChargeId, CustomerId, SubscriptionId};
use crate::store::{Card, Customer, Enrolment, NewConsent};
use crate::stripe::checkout::submit_message;
use crate::stripe::payment_methods::PaymentMethod;

/// What a page that saved a card tells of the consent. The page's Session names it, so that keeping it twice is harmless.
struct OnPage {
    session: String,
    text: String,
    customer: CustomerId,
    subscription: Option<SubscriptionId>,
    payment_method: String,
    setup_intent: Option<String>,
    mandate: Option<String>,
}

async fn keep(ctx: &Ctx, page: OnPage) -> Result<()> {
    let consent = NewConsent {
        id: Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("consent {}", page.session).as_bytes()),
        customer: page.customer,
        subscription: page.subscription,
        given_at: ctx.now(),
        how: "checkout",
        text_sha256: hash(&page.text),
        text: page.text,
        session: Some(page.session),
        setup_intent: page.setup_intent,
        payment_method: Some(page.payment_method),
        mandate: page.mandate,
    };
    Ok(ctx.store.record_consent(&consent, ctx.now()).await?)
}

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
    let page = OnPage {
        session: session.to_owned(),
        text: enrolment.consent_text.clone(),
        customer: customer.customer_id(),
        subscription: enrolment.subscription_id.as_deref().and_then(|id| id.parse().ok()),
        payment_method: method.id.clone(),
        setup_intent,
        mandate,
    };
    keep(ctx, page).await
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
    let payment_method = card.payment_method.clone();
    let page =
        OnPage { session, text, customer, subscription, payment_method, setup_intent: None, mandate: None };
    keep(ctx, page).await
}
