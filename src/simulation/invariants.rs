//! What must hold after every step, judged by Stripe's own books, the mailboxes and the committed rows.
//!
//! Numbers are those of the catalogue the project was designed by. Only what a step touched is looked at again.

use super::Violation;
use super::almanac;
use super::bank::{Bank, Order};
use super::keys;
use super::mirror::{Mirror, Touched, is_finished};
use super::rows::ChargeRow;
use super::truth::{Letter, Post, Truth};
use crate::sandbox::{ChargeRow as Try, PaymentIntentRow};

const HOUR_MS: i64 = 3_600_000;
const DAY: i64 = 86_400;
/// Limit: sendings of one key, the first among them.
const SENDINGS_MAX: i64 = 7;
/// Limit: how long after a change a mail that was already on its way may still leave.
const ON_ITS_WAY_MS: i64 = 10 * 60_000;
/// Limit: what was on its way when charging was halted leaves within this time.
const HALT_MS: i64 = 3 * 60_000;
/// Limit: who has agreed with the witness need not look again for an hour; clocks may differ.
const AGREED_MS: i64 = HOUR_MS + 6 * 60_000;
/// Limit: half of the shortest period in these worlds.
const GAP_SECS_MIN: u64 = 3 * 86_400;
/// Limit: the shortest notice in these worlds; clocks may differ by two minutes.
const NOTICE_MS: i64 = 1000 * (super::world::NOTICE_SECS as i64 - 120);
/// What machines may try on one card and amount after declines: less than so many within so many seconds.
const OWN_CEILINGS: [(usize, i64); 3] = [(1, DAY), (3, 7 * DAY), (8, 30 * DAY)];
/// What the networks publish, for all tries together.
const NETWORK_CEILINGS: [(usize, i64); 2] = [(10, DAY), (15, 30 * DAY)];

pub(super) fn broken<T>(invariant: &'static str, text: String) -> Result<T, Violation> {
    Err(Violation { invariant, text })
}

/// What a database is judged by.
pub(super) struct Sight<'a> {
    /// What it says.
    pub(super) mirror: &'a Mirror,
    /// What all databases say, also those that are gone.
    pub(super) everybody: Vec<&'a Mirror>,
    /// It is a copy that should not run.
    pub(super) is_copy: bool,
    /// It knows everything, and nobody else charges.
    pub(super) is_alone: bool,
    /// Since when the witness shows what it does not know, Unix milliseconds.
    pub(super) strange_since_ms: Option<i64>,
    pub(super) truth: &'a Truth,
    pub(super) bank: &'a Bank,
    pub(super) now_ms: i64,
}

impl Sight<'_> {
    /// How many databases may each have done something since an instant, Unix milliseconds.
    pub(super) fn databases(&self, since_ms: i64) -> u32 {
        1 + self.truth.losses_since(since_ms) + u32::from(!self.is_alone)
    }
}

/// Checks what a step touched.
///
/// # Errors
/// The first invariant that does not hold.
pub(super) fn check(sight: &Sight, touched: &Touched) -> Result<(), Violation> {
    let (mirror, truth, now_ms) = (sight.mirror, sight.truth, sight.now_ms);
    for id in &touched.charges {
        stripe_objects(sight, id)?;
        if let Some(charge) = mirror.charges.get(id) {
            rows(sight, charge)?;
        }
    }
    for id in &touched.subscriptions {
        periods(mirror, id)?;
    }
    for post in &touched.posts {
        keys::request(sight, post)?;
        halted(sight, post)?;
        if let Some(planned) = mirror.early.get(&post.key) {
            let text = format!("{} leaves, planned for {planned}, at {}", post.key, now_ms / 1000);
            broken("INV16", text)?;
        }
    }
    keys::answers(truth, touched, now_ms)?;
    for id in &touched.tries {
        network(sight, id)?;
    }
    if let Some((key, from, to)) = touched.odd_attempts.first() {
        broken("INV6", format!("attempt {key} was {from} and became {to}"))?;
    }
    if let Some(text) = touched.begun_after_end.first() {
        broken("INV7", format!("an attempt began: {text}"))?;
    }
    for (key, promise) in &touched.announced {
        told(truth, key, promise, now_ms)?;
    }
    spaced(touched)?;
    for (id, period, due_at) in &touched.new_periods {
        // A first period that is paid on a page falls due at once.
        if let Some(subscription) = mirror.subscriptions.get(id).filter(|one| one.state != "pending") {
            almanac::check(subscription, *period, *due_at)?;
        }
    }
    reopened(mirror, touched)?;
    declines(mirror, truth, touched)?;
    events(mirror, truth, touched)?;
    for arrived in touched.letters.iter().map(|at| &truth.letters[*at]) {
        if arrived.of_copy == sight.is_copy {
            letter(sight, arrived)?;
        }
    }
    Ok(())
}

/// INV1, INV2, INV5: what exists at Stripe for one charge.
fn stripe_objects(sight: &Sight, id: &str) -> Result<(), Violation> {
    let paid = sight.truth.succeeded(id);
    if paid.len() > 1 {
        let ids: Vec<&str> = paid.iter().map(|one| one.id.as_str()).collect();
        broken("INV1", format!("charge {id} was collected {} times: {ids:?}", paid.len()))?;
    }
    let living = sight.truth.living(id);
    if living.len() > 1 || (!living.is_empty() && !paid.is_empty()) {
        broken("INV2", format!("charge {id}: {living:?} may take its money, {} did", paid.len()))?;
    }
    let Some(paid) = paid.first() else { return Ok(()) };
    let known = sight.everybody.iter().find_map(|one| one.charges.get(id).map(|charge| (*one, charge)));
    match known {
        Some((mirror, charge)) => right_money(mirror, charge, paid),
        None => broken("INV3", format!("{} was paid for a charge that no database has", paid.id)),
    }
}

fn right_money(mirror: &Mirror, charge: &ChargeRow, paid: &PaymentIntentRow) -> Result<(), Violation> {
    let owner = mirror.customers.get(&charge.customer).map(|one| one.stripe.as_str());
    if paid.amount_received != charge.amount
        || paid.currency != charge.currency
        || paid.customer.as_deref() != owner
    {
        let text = format!(
            "{} took {} {} from {:?}, owed are {} {} by {owner:?}",
            paid.id, paid.amount_received, paid.currency, paid.customer, charge.amount, charge.currency
        );
        broken("INV5", text)?;
    }
    Ok(())
}

/// INV2, INV4, INV9: the rows of one charge agree with each other, and a finished one leaves nothing at Stripe.
fn rows(sight: &Sight, charge: &ChargeRow) -> Result<(), Violation> {
    let (mirror, truth) = (sight.mirror, sight.truth);
    let (id, state) = (&charge.id, charge.state.as_str());
    if let Some(worn) = mirror.attempts_of(id).find(|one| one.sends > SENDINGS_MAX) {
        broken("INV4", format!("key {} was sent {} times", worn.key, worn.sends))?;
    }
    let open = mirror.open_attempts(id);
    let living = mirror.living(id);
    if is_finished(state) && (open > 0 || !living.is_empty()) {
        broken(
            "INV9",
            format!("charge {id} is {state} with {open} open attempts and {} collectors", living.len()),
        )?;
    }
    let living_there: Vec<String> =
        truth.living(id).into_iter().filter(|one| !truth.is_left_behind(one)).collect();
    if is_finished(state) && sight.is_alone && !living_there.is_empty() {
        broken("INV2", format!("charge {id} is {state}, but {living_there:?} may take its money"))?;
    }
    let taken = truth.succeeded(id).into_iter().find(|one| one.created > truth.lost_ms / 1000);
    if let Some(taken) = taken.filter(|_| is_finished(state) && state != "paid" && sight.is_alone) {
        broken("INV2", format!("charge {id} is {state}, and {} took its money", taken.id))?;
    }
    let allowed = match state {
        "collecting" => open == 1,
        "closing" | "needs_review" => open <= 1,
        _ => open == 0,
    };
    if !allowed {
        broken("INV9", format!("charge {id} is {state} with {open} open attempts"))?;
    }
    if state == "link_open" && !living.iter().any(|one| one.kind == "checkout_session") {
        broken("INV9", format!("charge {id} is link_open without a page"))?;
    }
    if state == "past_due" && charge.declines.unwrap_or(0) == 0 {
        broken("INV14", format!("charge {id} is past due without a decline"))?;
    }
    Ok(())
}

/// INV16: a charge that is told of first is tried when the mail has been there for the agreed time.
fn told(truth: &Truth, key: &str, promise: &str, now_ms: i64) -> Result<(), Violation> {
    let first = truth.letters.iter().find(|one| one.promise == promise);
    if first.is_some_and(|one| now_ms - one.at_ms > NOTICE_MS) {
        return Ok(());
    }
    let at = first.map(|one| one.at_ms / 1000);
    broken("INV16", format!("attempt {key} began, its customer was told at {at:?}, now is {}", now_ms / 1000))
}

/// INV8: every period before the next has its charge.
fn periods(mirror: &Mirror, id: &str) -> Result<(), Violation> {
    let Some(subscription) = mirror.subscriptions.get(id) else { return Ok(()) };
    let missing =
        (0..subscription.next_index).find(|index| !mirror.periods.contains_key(&(id.to_owned(), *index)));
    match missing {
        Some(index) => broken("INV8", format!("period {index} of subscription {id} has no charge")),
        None => Ok(()),
    }
}

/// INV8: a subscription that catches up does not take two periods at once.
fn spaced(touched: &Touched) -> Result<(), Violation> {
    for (at, (one, _, first)) in touched.new_charges.iter().enumerate() {
        let others =
            touched.new_charges[at + 1..].iter().filter(|(other, ..)| other == one && !one.is_empty());
        for (_, due_at, second) in others {
            let gap = second.unwrap_or(0).abs_diff(first.unwrap_or(0));
            if gap < GAP_SECS_MIN {
                broken(
                    "INV8",
                    format!("subscription {one}: two periods fall due {gap} s apart, one due at {due_at}"),
                )?;
            }
        }
    }
    Ok(())
}

/// INV15, INV18: what is halted, or does not know what Stripe knows, sends nothing that takes money.
fn halted(sight: &Sight, post: &Post) -> Result<(), Violation> {
    if !post.moves_money() {
        return Ok(());
    }
    if let Some(since) = sight.mirror.halted_ms.filter(|since| post.at_ms - since > HALT_MS) {
        let secs = (post.at_ms - since) / 1000;
        broken("INV15", format!("key {} leaves {secs} s after charging was halted", post.key))?;
    }
    let Some(since) = sight.strange_since_ms else { return Ok(()) };
    if post.sender.booted_ms >= since || post.at_ms - since > AGREED_MS {
        let minutes = (post.at_ms - since) / 60_000;
        broken(
            "INV18",
            format!("key {} leaves a database that has been behind for {minutes} min", post.key),
        )?;
    }
    Ok(())
}

/// INV11: the card networks' limits, counted by what reached the banks.
fn network(sight: &Sight, id: &str) -> Result<(), Violation> {
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
    Ok(())
}

/// INV6: a finished charge stays finished; money that came all the same is booked, and somebody is told.
fn reopened(mirror: &Mirror, touched: &Touched) -> Result<(), Violation> {
    for (id, from, to) in &touched.reopened {
        if to != "paid" || from == "paid" || !mirror.has_alarm(id) {
            broken("INV6", format!("charge {id} was {from} and became {to}"))?;
        }
    }
    Ok(())
}

/// INV14: a decline on record was said by a bank.
fn declines(mirror: &Mirror, truth: &Truth, touched: &Touched) -> Result<(), Violation> {
    for (charge, number) in &touched.declined {
        let recorded = mirror.attempts_of(charge).filter(|one| one.state == "declined").count();
        let failed = truth.tries_of.get(charge).into_iter().flatten();
        let failed = failed.filter_map(|id| truth.tries.get(id)).filter(|one| one.status == "failed");
        let failed = failed.filter(|one| !one.on_session).count();
        if recorded > failed {
            let text = format!(
                "attempt {number} of charge {charge} is declined: {recorded} declines on record, {failed} at the bank"
            );
            broken("INV14", text)?;
        }
    }
    Ok(())
}

/// INV13: only what Stripe signed is stored, each is applied once, and nothing is acknowledged that is not stored.
fn events(mirror: &Mirror, truth: &Truth, touched: &Touched) -> Result<(), Violation> {
    for (id, state, before) in &touched.events {
        if !truth.signed.contains(id) {
            broken("INV13", format!("event {id} was stored, and Stripe never signed it"))?;
        }
        if before.as_deref().is_some_and(|before| before != "pending") {
            broken("INV13", format!("event {id} was {before:?} and became {state}"))?;
        }
    }
    match touched.acknowledged.iter().find(|id| !mirror.events.contains_key(*id)) {
        Some(id) => broken("INV13", format!("event {id} was acknowledged and is not stored")),
        None => Ok(()),
    }
}

/// INV12: a mail that arrived.
fn letter(sight: &Sight, letter: &Letter) -> Result<(), Violation> {
    let (mirror, truth, now_ms) = (sight.mirror, sight.truth, sight.now_ms);
    let (first_ms, times) = truth.arrivals.get(&letter.id).copied().unwrap_or_default();
    if times > 2 * sight.databases(first_ms) {
        broken("INV12", format!("mail {} arrived {times} times", letter.id))?;
    }
    if letter.at_ms - letter.written_ms > ON_ITS_WAY_MS {
        let minutes = (letter.at_ms - letter.written_ms) / 60_000;
        broken("INV12", format!("mail {} leaves {minutes} minutes after it was written", letter.id))?;
    }
    let Some(promise) = mirror.promises.get(&letter.promise) else {
        return broken("INV12", format!("mail {} was never promised", letter.id));
    };
    if promise.kind != "mail" {
        return Ok(());
    }
    let asks = matches!(
        promise.template.as_deref(),
        Some("payment_failed" | "authentication_required" | "last_notice")
    );
    let Some(charge) = mirror.charges.get(&promise.subject).filter(|_| asks) else { return Ok(()) };
    if let Some(paid_ms) = mirror.paid_ms.get(&charge.id).filter(|at| now_ms - **at > ON_ITS_WAY_MS) {
        let minutes = (now_ms - paid_ms) / 60_000;
        broken(
            "INV12",
            format!("a mail asks for money {minutes} minutes after charge {} was paid", charge.id),
        )?;
    }
    if mirror.dead_ms.get(&charge.customer).is_some_and(|at| now_ms - at > ON_ITS_WAY_MS) {
        broken("INV12", format!("a mail to {} whose address is dead", letter.to))?;
    }
    let tried = truth.tries_of.get(&charge.id).into_iter().flatten();
    let refused = tried.filter_map(|id| truth.tries.get(id)).any(|one| one.status == "failed");
    if !refused && !mirror.without_card.contains(&charge.id) {
        broken("INV12", format!("a mail blames the customer of charge {}, and no bank refused", charge.id))?;
    }
    Ok(())
}
