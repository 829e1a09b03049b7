//! A card that was just saved, by paying with it or on a page of its own: it becomes the default, and what is open is
//! tried with it.

use super::backup;
use super::settle::{Trace, next_try, settle_one};
use super::{ASK_AGAIN, Ctx, Report, Result};
use crate::billing::apply::Event;
use crate::billing::charge::State;
use crate::billing::ids::CustomerId;
use crate::billing::subscription::SubscriptionState;
use crate::store::{AttemptRow, Card, ChargeFilter, Claimed, OutboxInsert, OutboxItem, OutboxResult};

/// Limit: open charges that one new card is tried on.
const TRIED_MAX: i64 = 50;

/// The card the customer just paid with is charged from now on.
pub(super) async fn adopt(ctx: &Ctx, item: &OutboxItem) -> Result<OutboxResult> {
    let Some(customer) = item.customer else {
        return Ok(OutboxResult::Failed("it belongs to nobody".into()));
    };
    let method = ctx.stripe.retrieve_payment_method(&item.payload).await?.value;
    let Some(owner) = ctx.store.find_customer(customer).await? else {
        return Ok(OutboxResult::Dropped("the customer is gone".into()));
    };
    let Some(card) = card_of(&method) else {
        return Ok(OutboxResult::Dropped(format!("{} is no card", method.id)));
    };
    if method.customer.as_deref() != Some(owner.stripe_customer.as_str()) {
        return Ok(OutboxResult::Failed(format!("{} was not saved on the customer", method.id)));
    }
    let is_default = ctx.store.offer_card(customer, &card).await?;
    failpoint!("card adopted");
    if let Some(charge) = item.charge {
        super::consent::record_paid(ctx, customer, charge, &card).await?;
    }
    super::enrol::activate_paid(ctx, item.charge).await?;
    if is_default {
        promise_tries(ctx, customer, &card).await?;
    }
    Ok(OutboxResult::Done)
}

/// A card's facts from Stripe's PaymentMethod; `None` for anything that is no card.
pub(super) fn card_of(method: &crate::stripe::payment_methods::PaymentMethod) -> Option<Card> {
    let card = method.card.as_ref()?;
    Some(Card {
        payment_method: method.id.clone(),
        brand: card.brand.clone().unwrap_or_default(),
        last4: card.last4.clone().unwrap_or_default(),
        exp_month: i64::from(card.exp_month.unwrap_or(0)),
        exp_year: i64::from(card.exp_year.unwrap_or(0)),
        fingerprint: card.fingerprint.clone(),
        entered_at: method.created.as_second(),
    })
}

/// Promises that the new default card is tried on each charge of the customer that is past due.
pub(super) async fn promise_tries(ctx: &Ctx, customer: CustomerId, card: &Card) -> Result<()> {
    let open = ctx.store.list_charges(&ChargeFilter::past_due_of(customer, TRIED_MAX)).await?;
    let tries: Vec<OutboxInsert> =
        open.iter().map(|one| OutboxInsert::try_card(&one.charge, card, ctx.now())).collect();
    ctx.store.promise(&tries).await?;
    failpoint!("tries promised");
    Ok(())
}

/// The network sent a new number for the default card: what was declined on the old one is tried at once.
///
/// Crash: what was declined on which number stands on the attempts, so the event finds the same charges again.
pub(super) async fn promise_renewed(ctx: &Ctx, customer: CustomerId, card: &Card) -> Result<()> {
    let open = ctx.store.list_charges(&ChargeFilter::past_due_of(customer, TRIED_MAX)).await?;
    let mut tries = Vec::new();
    for one in open {
        let attempts = ctx.store.attempts(one.charge.id).await?;
        // What was never tried was kept from the old number too.
        let of_old =
            attempts.iter().rev().find_map(AttemptRow::decline).is_none_or(|decline| {
                decline.fingerprint.is_some() && decline.fingerprint != card.fingerprint
            });
        if of_old && card.fingerprint.is_some() {
            tries.push(OutboxInsert::try_card(&one.charge, card, ctx.now()));
        }
    }
    Ok(ctx.store.promise(&tries).await?)
}

/// Has one charge collected with the new card at once, if the card networks allow it and nothing speaks against it.
pub(super) async fn try_one(ctx: &Ctx, item: &OutboxItem) -> Result<OutboxResult> {
    let Some(id) = item.charge else { return Ok(OutboxResult::Failed("it belongs to no charge".into())) };
    let now = ctx.now();
    let Some(claimed) = ctx.store.claim_charge(id, &ctx.worker, now, ctx.lease_until()).await? else {
        let at = now.checked_add(ASK_AGAIN).unwrap_or(now);
        let why = "somebody works on this customer's charges".to_owned();
        return Ok(OutboxResult::Waits { at, why });
    };
    failpoint!("try claimed");
    let (claimed, card) = match item.payload.as_str() {
        "" => match other_card(ctx, claimed).await? {
            Ok(found) => found,
            Err(dropped) => return Ok(dropped),
        },
        card => (claimed, card.to_owned()),
    };
    if let Some(why) = not_now(ctx, &claimed, &card).await? {
        ctx.store.release_charge(&claimed.charge, None).await?;
        return Ok(OutboxResult::Dropped(why));
    }
    settle_one(ctx, &claimed, &Event::CollectNow, Trace::default(), &mut Report::default()).await?;
    Ok(OutboxResult::Done)
}

/// The charge with the customer's backup card, if it may be tried at all.
async fn other_card(ctx: &Ctx, claimed: Claimed) -> Result<Result<(Claimed, String), OutboxResult>> {
    let refused = match may_run(&claimed) {
        Some(why) => why,
        None => match backup::choose(ctx, &claimed).await {
            Ok(Ok(card)) => {
                let claimed = Claimed {
                    payment_method: Some(card.payment_method.clone()),
                    card_fingerprint: card.fingerprint,
                    card_entered_at: Some(card.entered_at),
                    ..claimed
                };
                return Ok(Ok((claimed, card.payment_method)));
            }
            Ok(Err(why)) => why,
            Err(error) => {
                ctx.store.release_charge(&claimed.charge, None).await?;
                return Err(error);
            }
        },
    };
    ctx.store.release_charge(&claimed.charge, None).await?;
    Ok(Err(OutboxResult::Dropped(refused)))
}

/// Why no card is tried on a charge at all.
fn may_run(claimed: &Claimed) -> Option<String> {
    let state = &claimed.charge.state;
    if !matches!(state, State::PastDue { .. }) {
        return Some(format!("the charge is {} by now", state.as_str()));
    }
    let runs = matches!(
        claimed.subscription_state,
        None | Some(SubscriptionState::Active | SubscriptionState::Completed)
    );
    (!runs || claimed.hold_why.is_some()).then(|| "nothing may be charged for it now".to_owned())
}

/// Why a new card is not tried on a charge. What is open still goes its way on the ladder.
async fn not_now(ctx: &Ctx, claimed: &Claimed, payment_method: &str) -> Result<Option<String>> {
    if claimed.payment_method.as_deref() != Some(payment_method) {
        return Ok(Some("another card is the default by now".into()));
    }
    if let Some(why) = may_run(claimed) {
        return Ok(Some(why));
    }
    Ok(match next_try(ctx, claimed, ctx.now()).await? {
        Some(at) if at <= ctx.now() => None,
        Some(at) => Some(format!("the card networks allow the next try of this card at {at}")),
        None => Some("this card may not be tried again for it".into()),
    })
}
