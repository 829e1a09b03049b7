//! INV11: the card networks' limits, counted by what reached the banks.

use super::Violation;
use super::bank::Order;
use super::invariants::{Sight, broken};
use crate::sandbox::ChargeRow as Try;

const DAY: i64 = 86_400;
/// Limit: what is about to leave was decided on no longer ago than this.
const DECIDED_SECS: i64 = 15 * 60;
/// What machines may try on one card and amount after declines: less than so many within so many seconds.
const OWN_CEILINGS: [(usize, i64); 3] = [(1, DAY), (3, 7 * DAY), (8, 30 * DAY)];
/// What the networks publish, for all tries together.
const NETWORK_CEILINGS: [(usize, i64); 2] = [(10, DAY), (15, 30 * DAY)];

/// Checks a try that is new.
///
/// # Errors
/// The limit that it breaks.
pub(super) fn check(sight: &Sight, id: &str) -> Result<(), Violation> {
    let (truth, bank) = (sight.truth, sight.bank);
    let Some(this) = truth.tries.get(id).filter(|one| one.sent_to_network) else { return Ok(()) };
    let Some(charge) = this.metadata.get("recurd_charge") else { return Ok(()) };
    let place = (this.fingerprint.clone(), this.amount, this.currency.clone());
    let before: Vec<_> = truth
        .tries_on
        .get(&place)
        .into_iter()
        .flatten()
        .filter(|other| *other != id)
        .filter_map(|other| truth.tries.get(other))
        .filter(|other| other.status == "failed" && other.created <= this.created)
        .collect();
    let within = |window: i64| before.iter().filter(|other| other.created > this.created - window).count();
    for (max, window) in NETWORK_CEILINGS {
        if within(window) >= max {
            broken("INV11", format!("{id}: {} failed tries on one card within {window} s", within(window)))?;
        }
    }
    if this.on_session {
        return Ok(());
    }
    // What was declined, or read of, after this request had left, nobody could know: Stripe may carry it out two days later.
    let left = this.left_at;
    // A database that was lost took with it what was tried since it was copied.
    let is_known = |other: &Try| {
        let is_counted = || sight.mirror.tried.get(&other.id).is_some_and(|ms| *ms < left * 1000);
        other.created > truth.lost_ms / 1000 || (sight.is_alone && is_counted())
    };
    let retry = before
        .iter()
        .filter(|other| is_known(other))
        .any(|other| other.metadata.get("recurd_charge") == Some(charge));
    for (max, window) in OWN_CEILINGS {
        // A clock may be off by two minutes.
        let known = before.iter().filter(|other| {
            // Of a slow bank's answer only who asks hears, and for days there may be nobody who asks.
            let is_heard = !truth.was_slow(other) || sight.mirror.tried.contains_key(&other.id);
            is_known(other) && is_heard && truth.could_know(other, left)
        });
        let count = known.filter(|other| other.created > this.created - window + 120).count();
        if retry && count >= max {
            broken("INV11", format!("{id}: tried again after {count} declines within {window} s"))?;
        }
    }
    let orders =
        bank.orders.iter().filter(|order| order.charge == *charge && order.fingerprint == this.fingerprint);
    let is_heard = |order: &Order| {
        let mut tries = truth.tries_of.get(charge).into_iter().flatten().filter_map(|id| truth.tries.get(id));
        tries.any(|one| one.created == order.at && is_known(one))
    };
    for order in orders.filter(|order| order.at < left && is_heard(order)) {
        if order.not_before.is_none_or(|at| left < at - 120) {
            broken("INV11", format!("{id}: tried against the network's advice of {}", order.at))?;
        }
    }
    for_ever(sight, this)
}

/// What a bank refused for ever for one charge is tried for no other, until the customer enters the card anew.
fn for_ever(sight: &Sight, this: &Try) -> Result<(), Violation> {
    let (truth, bank) = (sight.truth, sight.bank);
    let refused = |order: &&Order| {
        let same_card = order.fingerprint == this.fingerprint && order.at >= this.card_entered_at;
        order.not_before.is_none() && same_card
    };
    // Whoever decides reads what is on record then.
    let decided_ms = (this.left_at - DECIDED_SECS) * 1000;
    let is_on_record = |order: &&Order| {
        let tries = truth.tries_of.get(&order.charge).into_iter().flatten();
        let mut tries = tries.filter_map(|id| truth.tries.get(id));
        tries.any(|one| {
            one.created == order.at && sight.mirror.tried.get(&one.id).is_some_and(|ms| *ms < decided_ms)
        })
    };
    match bank.orders.iter().filter(refused).find(is_on_record) {
        Some(order) => broken("INV11", format!("{}: its card was refused for ever at {}", this.id, order.at)),
        None => Ok(()),
    }
}
