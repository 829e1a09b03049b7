//! After a recovery: what the lost database may have asked Stripe for, and Stripe makes only later.

use jiff::Timestamp;

use super::Ctx;
use super::collect::{living_intent, made_at, next_number};
use crate::billing::subscription::SubscriptionState;
use crate::billing::unknown::{KEY_AGE_MAX, QUARANTINE};
use crate::store::Claimed;

/// When what a lost database asked for has come or never will, if it was lost by now: Stripe may still make what it did not
/// answer, or answered with a 5xx.
#[must_use]
pub fn over(recovered_at: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    recovered_at?.checked_add(QUARANTINE).ok().filter(|until| now < *until)
}

/// Until when a PaymentIntent may appear of which this database knows nothing, and so neither another one nor a page may be made.
/// `None`: it has one that lives, and a recovery has read it; or the charge is younger than the recovery.
pub(super) async fn until(ctx: &Ctx, claimed: &Claimed, now: Timestamp) -> Option<Timestamp> {
    let recovered_at = ctx.witness.recovered_at().filter(|_| living_intent(&claimed.charge).is_none());
    let until = over(recovered_at, now)?;
    // Who is about to subscribe has paid on pages only.
    let is_from_before = claimed.subscription_state != Some(SubscriptionState::Pending)
        && made_at(ctx, claimed).await < recovered_at?;
    is_from_before.then_some(until)
}

/// The same for the next PaymentIntent. `None` also where it would be the one that the lost database asked for: Stripe surely
/// remembers its key.
pub(super) async fn of_next_try(ctx: &Ctx, claimed: &Claimed, now: Timestamp) -> Option<Timestamp> {
    let until = until(ctx, claimed, now).await?;
    let key_lives_until = made_at(ctx, claimed).await.checked_add(KEY_AGE_MAX).unwrap_or(Timestamp::MAX);
    let is_same = next_number(&claimed.charge) == 1 && now < key_lives_until;
    (!is_same).then_some(until)
}
