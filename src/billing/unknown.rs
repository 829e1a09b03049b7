//! An attempt without an answer: when to ask, whether its key may be sent again, and when it is proven void.
//!
//! Stripe keeps a key for at least 24 hours and may forget it afterwards, so that the same POST would charge
//! again (<https://docs.stripe.com/api/idempotent_requests>). Hence: resend the same key early, later only read.

use std::time::Duration;

use jiff::Timestamp;

use super::charge::{Operation, Sent};

const HOUR: u64 = 3600;

/// Limit: a key is never sent later than this after its first use; Stripe may forget it after 24 hours.
pub const KEY_AGE_MAX: Duration = Duration::from_secs(20 * HOUR);
/// Limit: how often one key is sent again before only reads follow.
pub const REPLAYS_MAX: u32 = 6;
/// Limit: two readings that found nothing prove an attempt void only if they lie this far apart.
pub const MISS_GAP: Duration = Duration::from_secs(HOUR);
/// Limit: after a 5xx Stripe may finish the work later and tell by webhook, for which it tries three days.
pub const QUARANTINE: Duration = Duration::from_secs(72 * HOUR);

/// What to do about an attempt whose answer is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inquiry {
    /// Send the same bytes with the same key: Stripe answers what happened, or does it now for the first time.
    Resend,
    /// Read Stripe's objects; never send this key again.
    Read,
}

/// What a reading that found nothing means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Not proof yet: a request may still be on its way.
    AskAgain,
    /// It never ran and never will: a new attempt may begin.
    Void,
    /// Stripe answered 5xx and nothing has appeared for three days: a person must look.
    Review,
}

/// Decides how to ask.
#[must_use]
pub fn inquiry(sent: &Sent, now: Timestamp) -> Inquiry {
    let young = mutant!(OldKeySent) || (age(sent.first_at, now) < KEY_AGE_MAX && now >= sent.first_at);
    let poisoned = sent.poisoned && !mutant!(PoisonedKeySent);
    if young && !poisoned && (sent.sends <= REPLAYS_MAX || mutant!(EndlessReplays)) {
        Inquiry::Resend
    } else {
        Inquiry::Read
    }
}

/// When to ask next: one minute after the first sending, then 4, 16, 64 minutes, then every hour.
#[must_use]
pub fn ask_at(sent: &Sent) -> Timestamp {
    let tries = sent.sends.saturating_sub(1) + sent.misses;
    let minutes = if sent.poisoned { 60 } else { 4_u64.saturating_pow(tries.min(3)).min(60) };
    let wait = if sent.misses > 0 { MISS_GAP } else { Duration::from_secs(60 * minutes) };
    sent.last_at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// Whether a reading that finds nothing now adds to the proof: not within [`MISS_GAP`] of the one before it.
#[must_use]
pub fn counts(sent: &Sent, now: Timestamp) -> bool {
    sent.misses == 0 || now >= sent.last_at.checked_add(MISS_GAP).unwrap_or(Timestamp::MAX)
}

/// Judges a reading that found nothing; `sent` already counts it.
///
/// The answer that nobody heard may have been a 5xx, after which Stripe may still make the PaymentIntent: it gets no sister
/// before that is over. The same PaymentIntent confirmed again can succeed only once, so that needs no such wait.
#[must_use]
pub fn miss(sent: &Sent, operation: Operation, now: Timestamp) -> Miss {
    if sent.poisoned && !mutant!(NoQuarantine) {
        return if age(sent.first_at, now) < QUARANTINE { Miss::AskAgain } else { Miss::Review };
    }
    let last_sent = if sent.sends > 1 { KEY_AGE_MAX } else { Duration::ZERO };
    let is_over = operation == Operation::Confirm || age(sent.first_at, now) >= last_sent + QUARANTINE;
    if (sent.misses >= 2 && is_over) || mutant!(OneMissIsProof) { Miss::Void } else { Miss::AskAgain }
}

fn age(since: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(since).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    const H: i64 = 3600;

    #[test]
    fn a_key_is_resent_only_while_stripe_surely_remembers_it() {
        let sent = Sent::now(at(0));
        assert_eq!(inquiry(&sent, at(60)), Inquiry::Resend);
        assert_eq!(inquiry(&sent, at(20 * H - 1)), Inquiry::Resend);
        assert_eq!(inquiry(&sent, at(20 * H)), Inquiry::Read);
        assert_eq!(
            inquiry(&sent, at(-1)),
            Inquiry::Read,
            "a clock that went back proves nothing about the key"
        );
    }

    #[test]
    fn after_a_5xx_or_six_replays_only_reads_follow() {
        let poisoned = Sent { poisoned: true, ..Sent::now(at(0)) };
        assert_eq!(inquiry(&poisoned, at(60)), Inquiry::Read);
        let worn = Sent { sends: REPLAYS_MAX + 1, ..Sent::now(at(0)) };
        assert_eq!(inquiry(&worn, at(60)), Inquiry::Read);
    }

    #[test]
    fn the_key_is_sent_again_six_times_with_longer_and_longer_waits() {
        for (sends, minutes) in [(1, 1), (2, 4), (3, 16), (4, 60), (5, 60), (6, 60)] {
            let sent = Sent { sends, last_at: at(500), ..Sent::now(at(0)) };
            assert_eq!(ask_at(&sent), at(500 + minutes * 60), "after {sends} sendings");
            assert_eq!(inquiry(&sent, at(500)), Inquiry::Resend);
        }
        let poisoned = Sent { poisoned: true, ..Sent::now(at(0)) };
        assert_eq!(ask_at(&poisoned), at(H));
    }

    #[test]
    fn a_reading_counts_only_an_hour_after_the_one_before_it() {
        let none = Sent::now(at(0));
        assert!(counts(&none, at(0)));
        let one = Sent { misses: 1, last_at: at(100), ..none };
        assert!(!counts(&one, at(99 + H)));
        assert!(counts(&one, at(100 + H)));
    }

    #[test]
    fn one_empty_reading_is_no_proof_and_two_lie_an_hour_apart() {
        let first = Sent { misses: 1, last_at: at(100), ..Sent::now(at(0)) };
        assert_eq!(miss(&first, Operation::Confirm, at(100)), Miss::AskAgain);
        assert_eq!(ask_at(&first), at(100 + H));
        let second = Sent { misses: 2, ..first };
        assert_eq!(miss(&second, Operation::Confirm, at(100 + H)), Miss::Void);
    }

    #[test]
    fn what_may_have_been_a_5xx_that_nobody_heard_is_waited_for() {
        let twice = Sent { misses: 2, ..Sent::now(at(0)) };
        assert_eq!(miss(&twice, Operation::Create, at(72 * H - 1)), Miss::AskAgain);
        assert_eq!(miss(&twice, Operation::Create, at(72 * H)), Miss::Void);
        let resent = Sent { sends: 2, ..twice };
        assert_eq!(miss(&resent, Operation::Create, at(92 * H - 1)), Miss::AskAgain);
        assert_eq!(miss(&resent, Operation::Create, at(92 * H)), Miss::Void);
    }

    #[test]
    fn a_5xx_is_watched_for_three_days_and_then_shown_to_a_person() {
        let sent = Sent { poisoned: true, misses: 40, ..Sent::now(at(0)) };
        assert_eq!(miss(&sent, Operation::Create, at(72 * H - 1)), Miss::AskAgain);
        assert_eq!(miss(&sent, Operation::Create, at(72 * H)), Miss::Review);
    }
}
