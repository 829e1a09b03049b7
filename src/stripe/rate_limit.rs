//! Keeps this client below Stripe's rate limits, smoothly, and slows down when Stripe says so.
//!
//! Two buckets per call: the endpoint (method and path pattern) and the whole account.
//! <https://docs.stripe.com/rate-limits>

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::clock::Clock;

/// Limit: Stripe allows 25 requests a second per endpoint; 20 leaves room for the merchant's other tools.
const ENDPOINT_PER_SEC: u32 = 20;

/// Limit: Stripe allows 100 requests a second per account in live mode.
const ACCOUNT_PER_SEC: u32 = 80;

/// A 429 halves the rate at most once in this time, and a rate grows one step in it.
const CHANGE_EVERY: Duration = Duration::from_secs(1);

/// A slowed rate comes back in this many steps.
const RECOVERY_STEPS: u32 = 20;

/// No honest wait is longer, since the slowest bucket gives one request a second. A longer one means that the
/// clock was set back, and the bucket starts afresh.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How fast requests may leave. Several replicas on one account share Stripe's limits: divide among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests a second per endpoint; `None` for no limit.
    pub endpoint_per_sec: Option<NonZeroU32>,
    /// Requests a second for all endpoints together; `None` for no limit.
    pub account_per_sec: Option<NonZeroU32>,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            endpoint_per_sec: NonZeroU32::new(ENDPOINT_PER_SEC),
            account_per_sec: NonZeroU32::new(ACCOUNT_PER_SEC),
        }
    }
}

impl RateLimits {
    /// No waiting at all: for tests, and for a Stripe on the own machine.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { endpoint_per_sec: None, account_per_sec: None }
    }
}

/// The buckets of one client.
pub(super) struct Pacer {
    limits: RateLimits,
    clock: Clock,
    endpoints: Mutex<HashMap<&'static str, Arc<Bucket>>>,
    account: Option<Bucket>,
}

impl Pacer {
    pub(super) fn new(limits: RateLimits, clock: Clock) -> Self {
        let account = limits.account_per_sec.map(|rate| Bucket::new(rate, clock.clone()));
        Self { limits, clock, endpoints: Mutex::default(), account }
    }

    /// Waits for a turn. Dropping the future gives up the place in the queue and harms nobody.
    pub(super) async fn turn(&self, endpoint: &'static str) {
        if let Some(bucket) = self.bucket(endpoint) {
            bucket.turn().await;
        }
        if let Some(bucket) = &self.account {
            bucket.turn().await;
        }
    }

    /// Stripe answered 429. A lock on one object is nobody's speed and changes nothing.
    pub(super) fn slow_down(&self, endpoint: &'static str, reason: Option<&str>) {
        match reason {
            Some("resource-specific" | "lock_timeout") => {}
            Some("global-rate" | "global-concurrency") => {
                if let Some(bucket) = &self.account {
                    bucket.slow_down();
                }
            }
            _ => {
                if let Some(bucket) = self.bucket(endpoint) {
                    bucket.slow_down();
                }
            }
        }
    }

    fn bucket(&self, endpoint: &'static str) -> Option<Arc<Bucket>> {
        let rate = self.limits.endpoint_per_sec?;
        let mut endpoints = locked(&self.endpoints);
        let bucket =
            endpoints.entry(endpoint).or_insert_with(|| Bucket::new(rate, self.clock.clone()).into());
        Some(bucket.clone())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one of these is held, and their contents are whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Our clock, as governor reads it.
#[derive(Clone)]
struct Hand(Clock);

impl governor::clock::Clock for Hand {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(u64::try_from(self.0.now().as_nanosecond()).unwrap_or(0))
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, Hand, NoOpMiddleware<Nanos>>;

struct Bucket {
    rate_max: NonZeroU32,
    hand: Hand,
    pace: Mutex<Pace>,
    /// Only the first in the queue watches the clock; the queue is fair.
    queue: tokio::sync::Mutex<()>,
}

struct Pace {
    limiter: Limiter,
    rate: NonZeroU32,
    changed_at: Nanos,
}

impl Bucket {
    fn new(rate_max: NonZeroU32, clock: Clock) -> Self {
        let hand = Hand(clock);
        let pace = Pace { limiter: limiter(rate_max, &hand), rate: rate_max, changed_at: hand.now() };
        Self { rate_max, hand, pace: Mutex::new(pace), queue: tokio::sync::Mutex::new(()) }
    }

    async fn turn(&self) {
        let _first_in_queue = self.queue.lock().await;
        while let Some(wait) = self.take() {
            // Timers count in milliseconds; a shorter wait would spin.
            self.hand.0.sleep(wait + Duration::from_millis(1)).await;
        }
    }

    /// Takes a turn now, or says how long to wait for it.
    fn take(&self) -> Option<Duration> {
        let now = self.hand.now();
        let mut pace = locked(&self.pace);
        if pace.rate < self.rate_max && since(now, pace.changed_at) >= CHANGE_EVERY {
            let step = self.rate_max.get().div_ceil(RECOVERY_STEPS);
            let rate = pace.rate.saturating_add(step).min(self.rate_max);
            *pace = self.paced(rate, now);
        }
        let wait = pace.limiter.check().err()?.wait_time_from(now);
        if wait <= WAIT_MAX {
            return Some(wait);
        }
        *pace = self.paced(pace.rate, now);
        Some(Duration::ZERO)
    }

    fn slow_down(&self) {
        let now = self.hand.now();
        let mut pace = locked(&self.pace);
        let first = pace.rate == self.rate_max;
        if first || since(now, pace.changed_at) >= CHANGE_EVERY {
            let rate = NonZeroU32::new(pace.rate.get() / 2).unwrap_or(NonZeroU32::MIN);
            *pace = self.paced(rate, now);
        }
    }

    /// A new pace that starts with an empty bucket, so that a change of pace lets nobody through.
    fn paced(&self, rate: NonZeroU32, now: Nanos) -> Pace {
        let limiter = limiter(rate, &self.hand);
        // Taking exactly the burst always succeeds on a new limiter.
        let _ = limiter.check_n(burst(rate));
        Pace { limiter, rate, changed_at: now }
    }
}

/// As many as leave in 10 ms, at least 2: late timers then cost no throughput, and nothing leaves in a gush.
fn burst(rate: NonZeroU32) -> NonZeroU32 {
    NonZeroU32::new(rate.get() / 100).unwrap_or(NonZeroU32::MIN).max(NonZeroU32::MIN.saturating_add(1))
}

fn limiter(rate: NonZeroU32, hand: &Hand) -> Limiter {
    RateLimiter::direct_with_clock(Quota::per_second(rate).allow_burst(burst(rate)), hand.clone())
}

fn since(now: Nanos, then: Nanos) -> Duration {
    now.saturating_sub(then).into()
}
