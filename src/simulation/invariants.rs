//! What must hold after every step, judged by Stripe's own books, the mailboxes and the committed rows.
//!
//! Numbers are those of the catalogue the project was designed by. Only what a step touched is looked at again.

use super::Violation;
use super::almanac;
use super::bank::Bank;
use super::keys;
use super::mirror::{Mirror, Touched, is_finished};
use super::networks;
use super::rows::{ChargeRow, PromiseRow};
use super::truth::{Letter, Post, Truth};
use crate::sandbox::PaymentIntentRow;

const HOUR_MS: i64 = 3_600_000;
/// Limit: sendings of one key, the first among them.
const SENDINGS_MAX: i64 = 7;
/// Limit: how long after a change a mail that was already on its way may still leave.
const ON_ITS_WAY_MS: i64 = 10 * 60_000;
/// Limit: one mail that asks for money within this time; a clock may be off by two minutes.
const ONE_MAIL_PER_MS: i64 = (20 * 60 - 10) * 60_000;
/// Limit: what was on its way when charging was halted leaves within this time.
const HALT_MS: i64 = 3 * 60_000;
/// Limit: who has agreed with the witness need not look again for an hour; clocks may differ.
const AGREED_MS: i64 = HOUR_MS + 6 * 60_000;
/// Limit: half of the shortest period in these worlds.
const GAP_SECS_MIN: u64 = 3 * 86_400;
/// Limit: the shortest notice in these worlds; clocks may differ by two minutes.
const NOTICE_MS: i64 = 1000 * (super::world::NOTICE_SECS as i64 - 120);
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
        networks::check(sight, id)?;
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
        as_sold(mirror, id, *period)?;
        // A first period that is paid on a page falls due at once.
        if let Some(subscription) = mirror.subscriptions.get(id).filter(|one| one.state != "pending") {
            almanac::check(subscription, *period, *due_at)?;
        }
    }
    stranger(mirror, truth)?;
    reopened(mirror, truth, touched)?;
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
    if is_finished(state) && sight.is_alone {
        let living = truth.living(id).into_iter().find(|one| !truth.is_left_behind(id, one));
        if let Some(living) = living {
            broken("INV2", format!("charge {id} is {state}, but {living} may take its money"))?;
        }
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

/// INV5: whoever has subscribed pays the price that was sold, whatever the configuration says today.
fn as_sold(mirror: &Mirror, id: &str, period: i64) -> Result<(), Violation> {
    let amount = |period: i64| {
        let charge = mirror.periods.get(&(id.to_owned(), period))?;
        mirror.charges.get(charge).map(|one| (one.amount, one.currency.as_str()))
    };
    match (amount(period), amount(0)) {
        (Some(now), Some(first)) if now != first => broken(
            "INV5",
            format!("period {period} of subscription {id} costs {now:?}, the first cost {first:?}"),
        ),
        _ => Ok(()),
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

/// INV18, turned round: who is alone takes nobody for a stranger, and halts nothing.
fn stranger(mirror: &Mirror, truth: &Truth) -> Result<(), Violation> {
    let halts = mirror.instance.as_ref().is_some_and(|one| one.behind.is_some());
    if halts && truth.lost_ms == 0 {
        broken("INV18", "the only database there ever was takes itself for an old one".to_owned())?;
    }
    Ok(())
}

/// INV6: a finished charge stays finished; money that came all the same is booked, and somebody is told. After a recovery, what
/// nobody knew to be alive is closed.
fn reopened(mirror: &Mirror, truth: &Truth, touched: &Touched) -> Result<(), Violation> {
    for (id, from, to) in &touched.reopened {
        let is_closed = to == "closing" && truth.lost_ms > 0;
        if !(to == "paid" || is_closed) || from == "paid" || !mirror.has_alarm(id) {
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

fn asks_for_money(promise: &PromiseRow) -> bool {
    matches!(promise.template.as_deref(), Some("payment_failed" | "authentication_required" | "last_notice"))
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
    let Some(charge) = mirror.charges.get(&promise.subject).filter(|_| asks_for_money(promise)) else {
        return Ok(());
    };
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
    // Who lost a database may have lost the mail that it had sent.
    let since_ms = (letter.at_ms - ONE_MAIL_PER_MS).max(truth.lost_ms);
    let other = truth.letters.iter().find(|one| {
        let asks = || mirror.promises.get(&one.promise).is_some_and(asks_for_money);
        one.to == letter.to
            && one.id != letter.id
            && one.at_ms > since_ms
            && one.at_ms <= letter.at_ms
            && asks()
    });
    if let Some(other) = other.filter(|_| sight.is_alone && first_ms == letter.at_ms) {
        let minutes = (letter.at_ms - other.at_ms) / 60_000;
        broken("INV12", format!("{} is asked for money again after {minutes} minutes", letter.to))?;
    }
    let tried = truth.tries_of.get(&charge.id).into_iter().flatten();
    let refused = tried.filter_map(|id| truth.tries.get(id)).any(|one| one.status == "failed");
    let refused_elsewhere = || {
        let card = mirror.refused_card.get(&charge.id);
        truth.tries.values().any(|one| one.status == "failed" && Some(&one.fingerprint) == card)
    };
    if !refused && !mirror.without_card.contains(&charge.id) && !refused_elsewhere() {
        broken("INV12", format!("a mail blames the customer of charge {}, and no bank refused", charge.id))?;
    }
    Ok(())
}
