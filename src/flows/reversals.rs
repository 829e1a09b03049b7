//! Money that goes back: disputes, warnings of one, and refunds. The charge stays paid, since it was: what changes is that a
//! customer who says it was fraud is charged no more until a person has looked.

use super::answers::CHARGE;
use super::{Ctx, Result};
use crate::billing::ids::ChargeId;
use crate::store::OutboxInsert;

/// The cardholder wants the money of a Stripe charge back. Returns whether the customer is ours.
pub(super) async fn dispute(ctx: &Ctx, id: &str) -> Result<bool> {
    let Some(charge) = ctx.stripe.retrieve_dispute(id).await?.value.charge else { return Ok(false) };
    hold(ctx, &charge, id, "dispute", "the cardholder disputes a charge").await
}

/// The issuer reports fraud before any dispute. The API that we are pinned to has no such object to read: the event is
/// read again instead.
pub(super) async fn fraud_warning(ctx: &Ctx, event: &str) -> Result<bool> {
    let event = ctx.stripe.retrieve_event(event).await?.value;
    let (Some(charge), Some(id)) = (event.charge, event.object_id) else { return Ok(false) };
    hold(ctx, &charge, &id, "fraud-warning", "the card's issuer reports fraud; a refund may avoid a dispute")
        .await
}

async fn hold(ctx: &Ctx, charge: &str, id: &str, step: &str, what: &str) -> Result<bool> {
    let Some(customer) = ctx.stripe.retrieve_charge(charge).await?.value.customer else { return Ok(false) };
    if ctx.store.hold_customer(&customer, Some(&format!("{what} ({id})"))).await? == 0 {
        return Ok(false);
    }
    let text = format!(
        "{id}: {what}. Nothing more is charged to {customer} until `recurd customers release` is run"
    );
    ctx.store.promise(&[OutboxInsert::alarm(id.to_owned(), step, text, ctx.now())]).await?;
    Ok(true)
}

/// Somebody gave money of a Stripe charge back, or a refund failed and it came back: what counts is what Stripe says now.
pub(super) async fn refunded(ctx: &Ctx, charge: &str) -> Result<bool> {
    let charge = ctx.stripe.retrieve_charge(charge).await?.value;
    let Some(ours) = charge.metadata.get(CHARGE).and_then(|id| id.parse::<ChargeId>().ok()) else {
        return Ok(false);
    };
    Ok(ctx.store.set_refunded(ours, charge.amount_refunded_minor).await?)
}

/// A refund began, changed or failed.
pub(super) async fn refund(ctx: &Ctx, event: &str, kind: &str) -> Result<bool> {
    let event = ctx.stripe.retrieve_event(event).await?.value;
    let (Some(charge), Some(id)) = (event.charge, event.object_id) else { return Ok(false) };
    if !refunded(ctx, &charge).await? {
        return Ok(false);
    }
    if kind == "refund.failed" {
        let text = format!("refund {id} of {charge} failed: the customer has not got the money back");
        ctx.store.promise(&[OutboxInsert::alarm(id, "refund-failed", text, ctx.now())]).await?;
    }
    Ok(true)
}
