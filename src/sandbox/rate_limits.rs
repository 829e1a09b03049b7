//! Stripe's rate limits, enforced when they are switched on.

use std::collections::HashMap;

use super::errors::ApiError;
use super::http::Request;
use super::router::Route;
use super::state::State;

/// How many requests are taken.
#[derive(Clone, Copy, Debug)]
pub struct RateLimits {
    /// Of all endpoints together in one second.
    pub account_per_sec: u32,
    /// Of one endpoint (method and path pattern) in one second.
    pub endpoint_per_sec: u32,
}

impl RateLimits {
    /// A live account: 100 a second, and 25 per endpoint.
    pub const LIVE: Self = Self { account_per_sec: 100, endpoint_per_sec: 25 };
    /// Stripe's own sandboxes: 25 a second.
    pub const TEST: Self = Self { account_per_sec: 25, endpoint_per_sec: 25 };
}

/// Limit: Stripe allows so many updates of one `PaymentIntent` in an hour.
const INTENT_UPDATES_PER_HOUR: u32 = 1000;

#[derive(Default)]
pub(super) struct Counters {
    second: i64,
    all: u32,
    by_endpoint: HashMap<&'static str, u32>,
    hour: i64,
    by_intent: HashMap<String, u32>,
}

/// Refuses to change an object that an unanswered request still holds.
pub(super) fn check_lock(state: &mut State, id: &str, request: &Request) -> Result<(), ApiError> {
    if request.method != http::Method::POST {
        return Ok(());
    }
    match state.locks.get(id) {
        Some(until) if *until > state.now_ms => Err(lock_timeout()),
        Some(_) => {
            state.locks.remove(id);
            Ok(())
        }
        None => Ok(()),
    }
}

/// Counts the request, and refuses it above the limits. Stripe does this before it looks at the key.
pub(super) fn check(state: &mut State, route: &Route, id: &str) -> Result<(), ApiError> {
    let Some(limits) = state.options.rate_limits else { return Ok(()) };
    let second = state.now();
    let counters = &mut state.counters;
    if counters.second != second {
        (counters.second, counters.all) = (second, 0);
        counters.by_endpoint.clear();
    }
    if counters.all >= limits.account_per_sec {
        return Err(refusal("global-rate"));
    }
    let endpoint = counters.by_endpoint.entry(route.endpoint).or_default();
    if *endpoint >= limits.endpoint_per_sec {
        return Err(refusal("endpoint-rate"));
    }
    *endpoint += 1;
    counters.all += 1;
    if route.endpoint.starts_with("POST /v1/payment_intents/{intent}") {
        return count_update(counters, second / 3600, id);
    }
    Ok(())
}

fn count_update(counters: &mut Counters, hour: i64, id: &str) -> Result<(), ApiError> {
    if counters.hour != hour {
        counters.hour = hour;
        counters.by_intent.clear();
    }
    let updates = counters.by_intent.entry(id.to_owned()).or_default();
    if *updates >= INTENT_UPDATES_PER_HOUR {
        return Err(refusal("resource-specific").code("payment_intent_rate_limit_exceeded"));
    }
    *updates += 1;
    Ok(())
}

pub(super) fn refusal(reason: &'static str) -> ApiError {
    let mut error = ApiError::new(429, "invalid_request_error", "Too many requests in too short a time.");
    error.limited_reason = Some(reason);
    error.code("rate_limit")
}

pub(super) fn lock_timeout() -> ApiError {
    let message = "Another request holds this object at the moment.";
    let mut error = ApiError::new(429, "invalid_request_error", message).code("lock_timeout");
    error.should_retry = Some(true);
    error
}
