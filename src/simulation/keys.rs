//! What is asked of idempotency keys: by the wire's own log, and by what the database made of the answers.

use super::Violation;
use super::invariants::{Sight, broken};
use super::mirror::Touched;
use super::truth::{Post, Truth, Uses};

const HOUR_MS: i64 = 3_600_000;
/// Limit: a key is not used later than this after its first use; clocks may differ, and one call may take minutes.
const KEY_AGE_MS_MAX: i64 = 20 * HOUR_MS + 6 * 60_000;
/// Limit: POSTs with one key: seven sendings of up to three sends each.
const POSTS_MAX: u32 = 21;
/// Limit: Stripe may still finish for so long what it answered with a 5xx; clocks may differ, and one call may take minutes.
const FINISHED_MS: i64 = 72 * HOUR_MS - 6 * 60_000;
/// Limit: who heard an answer writes it down within this time, and while nobody else may take the charge.
const WRITTEN_DOWN_MS: i64 = 60_000;
/// Clocks may differ by two minutes.
const SKEW_SECS: i64 = 120;

/// INV3, INV4, INV17: a POST that leaves.
pub(super) fn request(sight: &Sight, post: &Post) -> Result<(), Violation> {
    if post.differs {
        broken("INV17", format!("key {} carries other bytes than before", post.key))?;
    }
    if !post.moves_money() {
        return Ok(());
    }
    let Some(stored) = &post.stored else {
        return broken("INV3", format!("{} leaves under key {} that no database has", post.path, post.key));
    };
    if stored.body != post.body {
        broken("INV3", format!("key {} was written down with another body", post.key))?;
    }
    if !matches!(stored.state.as_str(), "sending" | "session" | "enrolment") {
        broken("INV3", format!("key {} leaves while its attempt is {}", post.key, stored.state))?;
    }
    // A page that is made twice takes no money by itself: Stripe refuses one that should have expired by then.
    let takes_money = stored.state == "sending";
    if takes_money && post.at_ms - post.first_ms > KEY_AGE_MS_MAX {
        let hours = (post.at_ms - post.first_ms) / HOUR_MS;
        broken("INV4", format!("key {} leaves {hours} hours after its first use", post.key))?;
    }
    if post.poisoned {
        broken("INV4", format!("key {} leaves again after a 5xx", post.key))?;
    }
    if post.times > POSTS_MAX * sight.databases(post.first_ms) {
        broken("INV4", format!("key {} left {} times", post.key, post.times))?;
    }
    if takes_money && sight.is_alone { sisters(sight, post) } else { Ok(()) }
}

/// INV4: no second PaymentIntent is asked for while the request for the first may still be carried out.
fn sisters(sight: &Sight, post: &Post) -> Result<(), Violation> {
    let Some((charge, number)) = sight.mirror.keys.get(&post.key) else { return Ok(()) };
    if post.path != "/v1/payment_intents" {
        return Ok(());
    }
    let may_run = |uses: &&Uses| {
        let is_young = post.at_ms - uses.last_ms < FINISHED_MS && uses.first_ms > sight.truth.lost_ms;
        let is_unseen = !sight.truth.happened_since(charge, uses.first_ms / 1000);
        uses.path == post.path && !uses.answered && is_young && is_unseen
    };
    let before = sight.mirror.attempts_of(charge).filter(|one| one.number < *number);
    match before.filter_map(|one| sight.truth.keys.get(&one.key)).find(may_run) {
        Some(uses) => {
            let minutes = (post.at_ms - uses.last_ms) / 60_000;
            broken("INV4", format!("key {} leaves {minutes} min after one without an answer", post.key))
        }
        None => Ok(()),
    }
}

/// INV4: who hears a 5xx writes that down, and it is no proof that nothing will come of it.
pub(super) fn answers(truth: &Truth, touched: &Touched, now_ms: i64) -> Result<(), Violation> {
    for key in &touched.doubted {
        let Some(uses) = truth.keys.get(key) else { continue };
        let heard = uses.failed.filter(|(at_ms, times)| {
            *times == uses.times
                && now_ms - at_ms < WRITTEN_DOWN_MS
                && at_ms - uses.last_ms < 2 * WRITTEN_DOWN_MS
        });
        if heard.is_some() {
            broken("INV4", format!("key {key} was answered 500, and nobody wrote that down"))?;
        }
    }
    for (charge, number, sent_at) in &touched.after_5xx {
        if !truth.happened_since(charge, sent_at - SKEW_SECS) {
            broken(
                "INV4",
                format!("attempt {number} of charge {charge} follows one that got a 5xx and no proof"),
            )?;
        }
    }
    Ok(())
}
