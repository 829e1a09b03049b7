//! The backup card: when the ladder has no retry left for the card that was declined, another saved card of the customer
//! is tried, once per charge, if the customer agreed that it is charged.

use super::cards::card_of;
use super::{Ctx, Result};
use crate::billing::apply::{Event, Outcome};
use crate::billing::charge::{Charge, State};
use crate::billing::dunning::Action;
use crate::billing::network_rules::within_ceilings;
use crate::store::{AttemptRow, Card, Claimed, OutboxInsert};

/// The promise that belongs to a decline, written with it: the machine has nothing left to try on the declined card.
pub(super) fn promised(ctx: &Ctx, charge: &Charge, event: &Event) -> Option<OutboxInsert> {
    let declined =
        matches!(event, Event::Answered { outcome: Outcome::Declined(_), .. } | Event::Declined(_));
    let over = matches!(&charge.state, State::PastDue { next } if next.action != Action::Collect);
    (ctx.config.dunning.backup_card && declined && over).then(|| OutboxInsert::backup_card(charge, ctx.now()))
}

/// Makes the customer's backup card the default, if there is one that may be tried on this charge. The caller has the lease.
///
/// Crash: the default changes before the charge is planned. Whoever comes next finds the same card: it has not been
/// tried on this charge, and the declined one has.
pub(super) async fn choose(ctx: &Ctx, claimed: &Claimed) -> Result<Result<Card, String>> {
    let customer = claimed.charge.customer;
    let agreed = ctx.store.agreed_cards(customer).await?;
    let attempts = ctx.store.attempts(claimed.charge.id).await?;
    let tried: Vec<String> =
        attempts.iter().filter_map(AttemptRow::decline).filter_map(|decline| decline.fingerprint).collect();
    let saved = ctx.stripe.list_cards(&claimed.stripe_customer).await?;
    let mut why = "no other card is saved that the customer agreed to be charged".to_owned();
    for card in saved.iter().filter(|one| agreed.contains(&one.id)).filter_map(card_of) {
        let Some(fingerprint) =
            card.fingerprint.as_deref().filter(|one| !tried.iter().any(|tried| tried == one))
        else {
            continue;
        };
        if ctx.store.is_refused_for_ever(fingerprint, Some(card.entered_at)).await? {
            why = "the other card was declined for ever".to_owned();
            continue;
        }
        let history = ctx.store.network_tries(fingerprint, &claimed.charge, ctx.now()).await?;
        let allowed = within_ceilings(&history, ctx.now());
        if allowed > ctx.now() {
            why = format!("the card networks allow the next try of the other card at {allowed}");
            continue;
        }
        ctx.store.set_default_card(customer, &card, Some(claimed.charge.id)).await?;
        failpoint!("backup card chosen");
        return Ok(Ok(card));
    }
    Ok(Err(why))
}
