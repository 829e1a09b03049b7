//! Money that goes back: disputes, warnings of one, and refunds. The charge stays paid, since it was: what changes is that a
//! customer who says it was fraud is charged no more until a person has looked.
//!
//! Nothing is given back without a person. What [`refund_duplicates`] gives back can only be what Stripe took besides the
//! payment that counts.

use serde::Serialize;

use super::answers::{CHARGE, INSTANCE, is_ours};
use super::collect::look_since;
use super::{Ctx, FlowError, Result};
use crate::billing::charge::State;
use crate::billing::ids::ChargeId;
use crate::billing::money::Money;
use crate::store::{Claimed, OutboxInsert};
use crate::stripe::charges::Charge as StripeCharge;
use crate::stripe::disputes::DisputeStatus;
use crate::stripe::payment_intents::PaymentIntentStatus;
use crate::stripe::refunds::{CreateRefund, RefundReason, RefundStatus};

/// The cardholder wants the money of a Stripe charge back, or has it, or not. Returns whether the customer is ours.
pub(super) async fn dispute(ctx: &Ctx, id: &str) -> Result<bool> {
    let dispute = ctx.stripe.retrieve_dispute(id).await?.value;
    let Some(charge) = dispute.charge else { return Ok(false) };
    let charge = ctx.stripe.retrieve_charge(&charge).await?.value;
    let (end, holds) = match dispute.status {
        DisputeStatus::Won => ("the dispute was won, and the money stays", false),
        DisputeStatus::Lost => ("the dispute was lost, and the money is the cardholder's again", true),
        DisputeStatus::WarningClosed => ("the bank's inquiry led to no dispute", false),
        DisputeStatus::Prevented => ("the dispute was settled before it began", false),
        DisputeStatus::WarningNeedsResponse
        | DisputeStatus::WarningUnderReview
        | DisputeStatus::NeedsResponse
        | DisputeStatus::UnderReview
        | DisputeStatus::Unknown(_) => {
            return hold(ctx, &charge, id, "dispute", "the cardholder disputes a charge").await;
        }
    };
    // Its beginning may not have been heard of.
    if holds && !hold(ctx, &charge, id, "dispute", "the cardholder disputed a charge").await? {
        return Ok(false);
    }
    ended(ctx, &charge, id, dispute.status.as_str(), end).await
}

/// A dispute is over. What it held stays held until a person lifts it.
async fn ended(ctx: &Ctx, charge: &StripeCharge, id: &str, status: &str, end: &str) -> Result<bool> {
    let Some(customer) = &charge.customer else { return Ok(false) };
    let Some(ours) = ctx.store.find_customer(ctx.instance.customer(customer)).await? else {
        return Ok(false);
    };
    let held = match ours.hold_why {
        Some(_) => format!(
            ". Nothing is charged to {customer} all the same: a person lifts that with `recurd customers release {customer}`"
        ),
        None => String::new(),
    };
    let about = charge_of_ours(ctx, charge).await?.map(|found| found.charge.id);
    let alarm = OutboxInsert::alarm(
        id.to_owned(),
        &format!("dispute-{status}"),
        format!("{id}: {end}{held}"),
        ctx.now(),
    );
    ctx.store.promise(&[alarm.of_charge(about)]).await?;
    Ok(true)
}

/// The issuer reports fraud before any dispute. The API that we are pinned to has no such object to read: the event is
/// read again instead.
pub(super) async fn fraud_warning(ctx: &Ctx, event: &str) -> Result<bool> {
    let event = ctx.stripe.retrieve_event(event).await?.value;
    let (Some(charge), Some(id)) = (event.charge, event.object_id) else { return Ok(false) };
    let charge = ctx.stripe.retrieve_charge(&charge).await?.value;
    hold(ctx, &charge, &id, "fraud-warning", "the card's issuer reports fraud; a refund may avoid a dispute")
        .await
}

/// Charges nothing more to the customer of a Stripe charge, once for each reason: a person may have lifted it since.
///
/// Crash: if we die before the alarm is promised, the event comes again and holds again.
pub(super) async fn hold(ctx: &Ctx, charge: &StripeCharge, id: &str, step: &str, what: &str) -> Result<bool> {
    if ctx.store.is_promised(id, step).await? {
        return Ok(true);
    }
    let Some(customer) = &charge.customer else { return Ok(false) };
    if ctx.store.hold_customer(customer, Some(&format!("{what} ({id})"))).await? == 0 {
        return Ok(false);
    }
    failpoint!("held..told");
    let text = format!(
        "{id}: {what}. Nothing more is charged to {customer} until `recurd customers release` is run"
    );
    ctx.store.promise(&[OutboxInsert::alarm(id.to_owned(), step, text, ctx.now())]).await?;
    Ok(true)
}

/// Our charge behind a Stripe charge.
pub(super) async fn charge_of_ours(ctx: &Ctx, charge: &StripeCharge) -> Result<Option<Claimed>> {
    match charge.metadata.get(CHARGE).and_then(|id| id.parse::<ChargeId>().ok()) {
        Some(ours) => Ok(ctx.store.find_charge(ours).await?),
        None => Ok(None),
    }
}

/// Somebody gave money of a Stripe charge back, or a refund failed and it came back: what counts is what Stripe says now.
pub(super) async fn refunded(ctx: &Ctx, charge: &str) -> Result<bool> {
    let charge = ctx.stripe.retrieve_charge(charge).await?.value;
    let Some(found) = charge_of_ours(ctx, &charge).await? else { return Ok(false) };
    let booked = found.charge.state.payment_intent();
    if booked.is_some() && booked != charge.payment_intent.as_deref() {
        return Ok(true); // A duplicate went back: what counts is still paid.
    }
    Ok(ctx.store.set_refunded(found.charge.id, charge.amount_refunded_minor).await?)
}

/// A payment that took the money of a paid charge again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// Stripe's id.
    pub payment_intent: String,
    /// Minor units that have not gone back yet.
    pub left_minor: i64,
    /// Lowercase code.
    pub currency: &'static str,
    /// The refund that gives it back, once it is made.
    pub refund: Option<String>,
    /// How many refunds of it there were before, failed ones too.
    #[serde(skip)]
    earlier: usize,
}

/// What Stripe took of a charge besides the payment that counts, and has not given back.
pub(super) async fn taken_again(ctx: &Ctx, found: &Claimed) -> Result<Vec<Duplicate>> {
    let Some(booked) = found.charge.state.payment_intent() else { return Ok(Vec::new()) };
    ctx.witness.learn(&ctx.store.instance(ctx.now()).await?);
    let mut again = Vec::new();
    for intent in
        ctx.stripe.list_payment_intents(&found.stripe_customer, look_since(ctx, found).await).await?
    {
        let took = is_ours(found, ctx.instance, &intent) && intent.status == PaymentIntentStatus::Succeeded;
        if !took || intent.id == booked {
            continue;
        }
        let refunds = ctx.stripe.list_refunds(&intent.id).await?;
        let came_back = |status: &Option<RefundStatus>| {
            !matches!(status, Some(RefundStatus::Failed | RefundStatus::Canceled))
        };
        let back: i64 = refunds.iter().filter(|one| came_back(&one.status)).map(|one| one.amount_minor).sum();
        let left_minor = intent.amount_received_minor - back;
        if left_minor > 0 {
            let currency = found.charge.amount.currency().code();
            again.push(Duplicate {
                payment_intent: intent.id,
                left_minor,
                currency,
                refund: None,
                earlier: refunds.len(),
            });
        }
    }
    Ok(again)
}

/// Gives back what was taken besides the payment that counts; with `dry_run` only says what that is. Two persons who do so at
/// the same moment send the same key, and Stripe gives back no more than it took.
///
/// # Errors
/// [`FlowError::Refused`] for a charge that is not paid; [`FlowError::Stripe`] when Stripe refuses or cannot be reached: what
/// went back until then is on record there, and the same command goes on.
pub async fn refund_duplicates(
    ctx: &Ctx,
    id: ChargeId,
    who: &str,
    why: &str,
    dry_run: bool,
) -> Result<Vec<Duplicate>> {
    let found = ctx.store.find_charge(id).await?;
    let Some(found) = found.filter(|found| matches!(found.charge.state, State::Paid { .. })) else {
        return Err(FlowError::Refused(format!("charge {id} is not paid, so it was not collected twice")));
    };
    let mut again = taken_again(ctx, &found).await?;
    if dry_run {
        return Ok(again);
    }
    for one in &mut again {
        let (instance, charge) = (ctx.instance.to_string(), id.to_string());
        let request = CreateRefund {
            payment_intent: &one.payment_intent,
            amount: Some(
                Money::from_minor(one.left_minor, found.charge.amount.currency())
                    .map_err(|error| FlowError::Refused(error.to_string()))?,
            ),
            reason: RefundReason::Duplicate,
            metadata: &[(INSTANCE, &instance), (CHARGE, &charge)],
        };
        let key = format!("recurd:{instance}:refund:{}:{}", one.payment_intent, one.earlier);
        // Written first: what a person did is on record even if nobody hears Stripe's answer.
        let what = format!("{} {why}", one.payment_intent);
        ctx.store.audit(who, "refund-duplicate", &charge, what.trim_end(), ctx.now()).await?;
        failpoint!("audited..refunded");
        one.refund = Some(ctx.stripe.create_refund(request.encode(), &key).await?.value.id);
    }
    Ok(again)
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
