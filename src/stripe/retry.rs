//! How long a call waits before it sends the same bytes again, and how often.
//!
//! The only place that knows the `backoff` crate, which is unmaintained (RUSTSEC-2025-0012): it gives the
//! jittered pauses and nothing else, since time is our clock's.

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::exponential::{ExponentialBackoff, ExponentialBackoffBuilder};
use jiff::Timestamp;

/// Limits of the resends inside one call. They follow Stripe's own clients: 0.5 s, doubling to 8 s.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// How often a request is sent at most, the first time included.
    pub sends_max: u32,
    /// No resend starts later than this after the call began. A call therefore ends within this time plus the
    /// wait for a turn and one timeout of the transport.
    pub total_max: Duration,
    /// The pause before the first resend.
    pub first_pause: Duration,
    /// Pauses double up to this.
    pub pause_max: Duration,
    /// How much of a pause is left to chance: 0 for none (a simulation must repeat itself), 0.5 for plus or minus half.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            sends_max: 3,
            total_max: Duration::from_secs(60),
            first_pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(8),
            jitter: 0.5,
        }
    }
}

impl RetryPolicy {
    /// Send once only.
    #[must_use]
    pub fn never() -> Self {
        Self { sends_max: 1, ..Self::default() }
    }

    /// The defaults without chance.
    #[must_use]
    pub fn without_jitter() -> Self {
        Self { jitter: 0.0, ..Self::default() }
    }
}

/// The pauses of one call.
pub(super) struct Pauses {
    backoff: ExponentialBackoff<backoff::SystemClock>,
    resends_left: u32,
    until: Timestamp,
}

impl Pauses {
    /// Nothing is sent again after `not_after` either.
    pub(super) fn new(policy: &RetryPolicy, now: Timestamp, not_after: Option<Timestamp>) -> Self {
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(policy.first_pause)
            .with_max_interval(policy.pause_max)
            .with_multiplier(2.0)
            .with_randomization_factor(policy.jitter)
            // The total is kept below, by our clock.
            .with_max_elapsed_time(None)
            .build();
        let total = now.saturating_add(policy.total_max).unwrap_or(Timestamp::MAX);
        let until = not_after.map_or(total, |limit| limit.min(total));
        Self { backoff, resends_left: policy.sends_max.saturating_sub(1), until }
    }

    /// The next pause, or none when tries or time are used up.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Duration> {
        self.resends_left = self.resends_left.checked_sub(1)?;
        let pause = self.backoff.next_backoff()?;
        let resume = now.saturating_add(pause).ok()?;
        (resume <= self.until).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(policy: &RetryPolicy, call_secs: i64) -> Vec<Duration> {
        let mut now = Timestamp::UNIX_EPOCH;
        let mut pauses = Pauses::new(policy, now, None);
        let mut waited = Vec::new();
        while let Some(pause) = pauses.next(now) {
            now += jiff::SignedDuration::try_from(pause).unwrap();
            now += jiff::SignedDuration::from_secs(call_secs);
            waited.push(pause);
        }
        waited
    }

    #[test]
    fn pauses_double_up_to_their_limit() {
        let policy = RetryPolicy { sends_max: 7, ..RetryPolicy::without_jitter() };
        let millis: Vec<u128> = pauses(&policy, 0).iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [500, 1000, 2000, 4000, 8000, 8000]);
    }

    #[test]
    fn chance_stays_within_half_of_a_pause() {
        let policy = RetryPolicy { sends_max: 2, ..RetryPolicy::default() };
        for _ in 0..1000 {
            let millis = pauses(&policy, 0)[0].as_millis();
            assert!((250..=750).contains(&millis), "{millis}");
        }
    }

    #[test]
    fn slow_calls_use_up_the_total_time() {
        let policy = RetryPolicy { sends_max: 100, ..RetryPolicy::without_jitter() };
        assert_eq!(pauses(&policy, 80).len(), 1, "one resend, then 80 s are over 60 s");
        assert_eq!(pauses(&RetryPolicy::never(), 0).len(), 0);
    }
}
