//! Prove a collector dead before another may live: cancel or expire it, then read what is true.

use super::answers::event_of_intent;
use super::reconcile::told_by;
use super::settle::{Trace, decide, settle_one};
use super::tries::{self, event_of_page};
use super::{ASK_AGAIN, Ctx, FlowError, Report, Result};
use crate::billing::apply::Event;
use crate::billing::charge::{Collector, CollectorKind, State};
use crate::store::Claimed;
use crate::stripe::payment_intents::{CancelReason, PaymentIntent, PaymentIntentStatus};
use crate::stripe::{Answer, Error};

/// What closing found out.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
pub(super) enum Closed {
    /// It is dead, or it turned out paid or pending: this event says which.
    Event(Event),
    /// It may still take money, or nobody knows: try again later.
    Alive(String),
}

/// Closes the living collector of a charge.
pub(super) async fn close(ctx: &Ctx, claimed: &Claimed, collector: &Collector) -> Result<Closed> {
    let Some(id) = &collector.stripe_id else { return close_unnamed(ctx, claimed, collector).await };
    let closes = ctx.store.count_close(claimed.charge.id).await?;
    failpoint!("closing counted");
    let key = |operation: &str| {
        format!("recurd:{}:{}:{}:{operation}:{closes}", ctx.instance, claimed.charge.id, collector.generation)
    };
    match collector.kind {
        CollectorKind::PaymentIntent => {
            let body = CancelReason::Abandoned.encode();
            let answer = ctx.stripe.cancel_payment_intent(id, body, &key("cancel")).await;
            failpoint!("canceled..read");
            if mutant!(CancelIsTrusted) {
                return Ok(Closed::Event(Event::CollectorDead));
            }
            let closed = judge_intent(ctx, claimed, id, answer).await?;
            // A payment that was pending when the end was decided may have been declined, and no decline was answered.
            if matches!((&closed, &claimed.charge.state), (Closed::Event(_), State::Closing { .. })) {
                match tries::count(ctx, id).await {
                    Ok(()) => {}
                    Err(FlowError::Stripe(error)) => return Ok(Closed::Alive(error.to_string())),
                    Err(error) => return Err(error),
                }
            }
            Ok(closed)
        }
        CollectorKind::CheckoutSession => {
            // Whatever expiring answers, only reading it back counts.
            let expired = ctx.stripe.expire_checkout_session(id, &key("expire")).await;
            failpoint!("expired..read");
            if mutant!(ExpiryIsTrusted) {
                return Ok(Closed::Event(Event::CollectorDead));
            }
            let session = match ctx.stripe.retrieve_checkout_session(id).await {
                Ok(session) => session.value,
                Err(error) => return Ok(Closed::Alive(error.to_string())),
            };
            match event_of_page(ctx, claimed, &session).await {
                Ok(Some(event)) => Ok(Closed::Event(event)),
                Ok(None) => Ok(Closed::Alive(format!("{id} is still open ({expired:?})"))),
                Err(FlowError::Stripe(error)) => Ok(Closed::Alive(error.to_string())),
                Err(error) => Err(error),
            }
        }
    }
}

/// Clears the way: afterwards no collector lives, and the lease is kept. `None`: it turned out paid or pending, or it
/// must be tried again later; whatever it was is settled.
pub(super) async fn clear(ctx: &Ctx, claimed: Claimed, report: &mut Report) -> Result<Option<Claimed>> {
    let Some(collector) = claimed.charge.collector.clone() else { return Ok(Some(claimed)) };
    let now = ctx.now();
    let closed = close(ctx, &claimed, &collector).await?;
    failpoint!("closed..settled");
    match closed {
        Closed::Event(Event::CollectorDead) => {
            let Ok(settlement) = decide(ctx, &claimed, &Event::CollectorDead, Trace::default(), now).await?
            else {
                return Ok(None);
            };
            let settlement = settlement.keep_lease(&ctx.worker, ctx.lease_until());
            let charge = settlement.charge.clone();
            let settled = ctx.store.settle(&[settlement], now).await?;
            Ok(settled.lost.is_empty().then_some(Claimed { charge, ..claimed }))
        }
        Closed::Event(event) => {
            settle_one(ctx, &claimed, &event, Trace::default(), report).await?;
            Ok(None)
        }
        Closed::Alive(why) => {
            let id = claimed.charge.id;
            tracing::warn!(charge.id = %id, "The collector of charge {id} cannot be closed yet: {why}");
            ctx.store.release_charge(&claimed.charge, now.checked_add(ASK_AGAIN).ok()).await?;
            Ok(None)
        }
    }
}

/// A collector without an id: its request never got an answer. Only Stripe's lists can tell.
async fn close_unnamed(ctx: &Ctx, claimed: &Claimed, collector: &Collector) -> Result<Closed> {
    if let Some(event) = super::reconcile::find_unnamed(ctx, claimed, collector).await? {
        return Ok(Closed::Event(event));
    }
    Ok(Closed::Alive("Stripe has not said yet whether it exists".to_owned()))
}

async fn judge_intent(
    ctx: &Ctx,
    claimed: &Claimed,
    id: &str,
    answer: Result<Answer<PaymentIntent>, Error>,
) -> Result<Closed> {
    let read = match answer {
        Ok(answer) => Ok(answer.value),
        Err(_) => ctx.stripe.retrieve_payment_intent(id).await.map(|answer| answer.value),
    };
    Ok(match read {
        Ok(intent) if intent.status == PaymentIntentStatus::Canceled => {
            match told_by(ctx, claimed, &intent).await {
                Ok(event) => Closed::Event(event.unwrap_or(Event::CollectorDead)),
                Err(FlowError::Stripe(error)) => Closed::Alive(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(intent) if intent.status == PaymentIntentStatus::Processing => Closed::Event(Event::Pending),
        Ok(intent) => match event_of_intent(claimed, ctx.instance, &intent, None, ctx.now()) {
            Some(event @ Event::Paid(_)) => Closed::Event(event),
            Some(_) | None => Closed::Alive(format!("{id} is {}", intent.status.as_str())),
        },
        Err(error) => Closed::Alive(error.to_string()),
    })
}
