//! The card networks' limits on trying again. A ceiling, never a setting.
//!
//! One profile for all brands, stricter than every published rule: at most one try in 24 hours, three in seven
//! days and eight in thirty days for one card and amount, counted by card fingerprint and including the
//! customer's own failed tries in Checkout. Published limits: Visa Core Rules of 18 April 2026, table 7-2 (20 in 30
//! days, 15 before); Mastercard as its processors publish it (10 in 24 hours, 35 in 30 days); Stripe advises eight.

use std::time::Duration;

use jiff::Timestamp;

use super::decline::Decline;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Limit: `(tries, window)`: no window may hold more tries than this. Source: module documentation.
pub const CEILINGS: [(usize, Duration); 3] =
    [(1, Duration::from_secs(DAY)), (3, Duration::from_secs(7 * DAY)), (8, Duration::from_secs(30 * DAY))];

/// The window that must be loaded to judge a card: the longest of [`CEILINGS`].
pub const HISTORY: Duration = Duration::from_secs(30 * DAY);

/// Mastercard's advice codes 24 to 30 as the wait they ask for, plus 02 ("later": 72 hours at the processors).
fn advice_wait(code: &str) -> Option<Duration> {
    let days = |count: u64| Duration::from_secs(count * DAY);
    match code {
        "24" => Some(Duration::from_secs(HOUR)),
        "25" => Some(days(1)),
        "26" => Some(days(2)),
        "02" => Some(days(3)),
        "27" => Some(days(4)),
        "28" => Some(days(6)),
        "29" => Some(days(8)),
        "30" => Some(days(10)),
        _ => None,
    }
}

/// The earliest instant, not before `wanted`, at which this card may be tried again for this amount.
///
/// `history` holds the instants of all tries on the same card fingerprint and amount within [`HISTORY`], the
/// declined one included, in any order. `None`: never by machine with this card.
#[must_use]
pub fn earliest_retry(
    decline: &Decline,
    history: &[Timestamp],
    wanted: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    if !decline.class().allows_machine_retry() && !mutant!(NeverIgnored) {
        return None;
    }
    let advised = decline.network_advice_code.as_deref().and_then(advice_wait);
    let floor =
        advised.filter(|_| !mutant!(AdviceIgnored)).map_or(wanted, |wait| wanted.max(after(now, wait)));
    Some(within_ceilings(history, floor))
}

/// Moves `at` forward until one more try fits into every window.
#[must_use]
pub fn within_ceilings(history: &[Timestamp], at: Timestamp) -> Timestamp {
    let mut tries = if mutant!(CeilingsIgnored) { Vec::new() } else { history.to_vec() };
    tries.sort_unstable();
    CEILINGS.iter().fold(at, |at, &(max, window)| {
        // The try that must have left the window before another fits in: the max-th newest.
        match tries.len().checked_sub(max) {
            Some(index) => at.max(after(tries[index], window)),
            None => at,
        }
    })
}

fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    #[test]
    fn one_try_a_day() {
        let retry = earliest_retry(&Decline::default(), &[at(1000)], at(2000), at(1000)).unwrap();
        assert_eq!(retry, at(1000 + 86_400));
    }

    #[test]
    fn mastercards_advice_is_a_floor() {
        let decline = Decline { network_advice_code: Some("30".into()), ..Decline::default() };
        assert_eq!(earliest_retry(&decline, &[at(0)], at(0), at(0)), Some(at(10 * 86_400)));
    }

    #[test]
    fn each_advice_is_its_wait() {
        const HOURS: i64 = 3600;
        let waits = [
            ("24", 1),
            ("25", 24),
            ("26", 48),
            ("02", 72),
            ("27", 96),
            ("28", 144),
            ("29", 192),
            ("30", 240),
        ];
        for (code, hours) in waits {
            let decline = Decline { network_advice_code: Some(code.into()), ..Decline::default() };
            assert_eq!(earliest_retry(&decline, &[], at(0), at(5)), Some(at(5 + hours * HOURS)), "{code}");
        }
        let unknown = Decline { network_advice_code: Some("99".into()), ..Decline::default() };
        assert_eq!(earliest_retry(&unknown, &[], at(7), at(5)), Some(at(7)));
    }

    #[test]
    fn the_ceilings_are_one_a_day_three_a_week_eight_a_month() {
        const DAYS: i64 = 86_400;
        let tries = |count: i64| (0..count).map(|day| at(day * DAYS)).collect::<Vec<_>>();
        assert_eq!(within_ceilings(&tries(1), at(0)), at(DAYS));
        assert_eq!(within_ceilings(&tries(3), at(0)), at(7 * DAYS));
        assert_eq!(within_ceilings(&tries(8), at(0)), at(30 * DAYS));
        assert_eq!(HISTORY, CEILINGS[2].1, "what is older is not loaded");
    }

    #[test]
    fn a_lost_card_is_never_tried_again() {
        let decline = Decline { decline_code: Some("lost_card".into()), ..Decline::default() };
        assert_eq!(earliest_retry(&decline, &[], at(0), at(0)), None);
    }

    proptest! {
        /// Greedily tries as early as allowed and counts every window by brute force.
        #[test]
        fn no_window_ever_holds_more_than_its_ceiling(wishes in prop::collection::vec(0_i64..400_000, 1..60)) {
            let mut history: Vec<Timestamp> = Vec::new();
            let mut now = at(0);
            for wish in wishes {
                let next = within_ceilings(&history, after(now, Duration::from_secs(wish.unsigned_abs())));
                history.push(next);
                now = next;
            }
            for &(max, window) in &CEILINGS {
                for start in &history {
                    let end = after(*start, window);
                    let inside = history.iter().filter(|at| *at >= start && **at < end).count();
                    prop_assert!(inside <= max, "{inside} tries within {window:?}");
                }
            }
        }
    }
}
