//! A mail is looked at again when it is about to leave: does it still tell the truth?

use std::time::Duration;

use super::dun::is_resting;
use super::notices::{self, Against};
use super::notify::wait;
use super::{Ctx, Result, expiring};
use crate::billing::charge::State;
use crate::billing::dunning::MailKind;
use crate::mail::MailName;
use crate::store::{Claimed, Customer, OutboxItem, OutboxResult};

/// How long a mail rests that must not leave yet.
const REST: Duration = Duration::from_secs(5 * 3600);

/// Whether the mail says that money is owed.
pub(super) fn asks_for_money(name: MailName) -> bool {
    MailKind::parse(name.as_str()).is_some_and(MailKind::asks_for_money)
}

/// Which mail leaves, or what becomes of the promise instead.
pub(super) async fn still_true(
    ctx: &Ctx,
    item: &OutboxItem,
    name: MailName,
    about: Option<&Claimed>,
    customer: &Customer,
) -> Result<Result<MailName, OutboxResult>> {
    let drop = |why: String| Ok(Err(OutboxResult::Dropped(why)));
    let Some(claimed) = about else {
        return match name {
            MailName::CardExpiring => Ok(expiring::still_true(customer, item).map(|()| name)),
            _ => drop("the charge is gone".into()),
        };
    };
    if name == MailName::UpcomingCharge {
        return Ok(match notices::against(claimed) {
            None => Ok(name),
            Some(Against::Drop(why)) => Err(OutboxResult::Dropped(why)),
            Some(Against::Wait(why)) => Err(wait(ctx, REST, why)),
        });
    }
    if asks_for_money(name) && matches!(claimed.charge.state, State::Processing { .. }) {
        // The ladder waits for the bank: if it says no, the customer must still hear what the ladder promised.
        return Ok(Err(wait(ctx, REST, "a payment is on its way".into())));
    }
    if let Some(why) = no_longer_true(name, &claimed.charge.state) {
        return drop(why);
    }
    if name == MailName::Recovered && !ctx.store.was_dunned(claimed.charge.id).await? {
        // One mail for one payment: whoever never heard of the decline gets a receipt, if anything.
        return match ctx.config.mail.receipts {
            true => Ok(Ok(MailName::Receipt)),
            false => drop("the customer never heard of the decline".into()),
        };
    }
    if asks_for_money(name) && is_resting(ctx, claimed).await? {
        return Ok(Err(wait(ctx, REST, "the subscription is paused".into())));
    }
    match customer.hold_why.as_deref().filter(|_| asks_for_money(name)) {
        Some(why) => drop(format!("nothing may be charged to the customer: {why}")),
        None => Ok(Ok(name)),
    }
}

/// Why a mail must not leave any more.
fn no_longer_true(name: MailName, state: &State) -> Option<String> {
    let open = mutant!(MailAfterPayment) || matches!(state, State::PastDue { .. } | State::LinkOpen { .. });
    let waiting = matches!(state, State::Collecting { .. });
    if asks_for_money(name) {
        return (!open && !waiting).then(|| format!("the charge is {} by now", state.as_str()));
    }
    let ended = name == MailName::SubscriptionEnded;
    (ended && !matches!(state, State::Uncollectible { .. })).then(|| "the charge was paid".to_owned())
}
