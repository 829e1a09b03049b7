//! Answers kept under idempotency keys.

use std::collections::{BTreeSet, HashMap};

use super::errors::ApiError;
use super::form;
use super::http::{Request, Response};
use super::ids::hash;
use super::state::State;

/// Stripe keeps a key for at least a day; how much longer is not promised.
const KEPT_MS_MIN: i64 = 24 * 3_600_000;
const KEPT_MS_MAX: i64 = 72 * 3_600_000;

/// Limit of a key's length.
const KEY_LENGTH_MAX: usize = 255;

#[derive(Default)]
pub(super) struct Keys {
    by_key: HashMap<String, Kept>,
    by_end: BTreeSet<(i64, String)>,
}

struct Kept {
    parameters: u64,
    first_request: String,
    response: Response,
    /// Until then the first request has not been answered.
    answered_ms: i64,
}

/// What the key says about a request.
pub(super) enum Found {
    /// No key, or a new one.
    New,
    Replay {
        response: Response,
        first_request: String,
    },
}

/// What must be equal when a key comes again.
pub(super) fn fingerprint(request: &Request) -> u64 {
    let mut parts = vec![request.method.to_string(), request.path().to_owned()];
    parts.extend(form::sorted_pairs(&request.body));
    hash(parts)
}

pub(super) fn look_up(state: &mut State, request: &Request) -> Result<Found, ApiError> {
    let Some(key) = state.call.idempotency_key.clone() else { return Ok(Found::New) };
    if key.chars().count() > KEY_LENGTH_MAX {
        return Err(ApiError::invalid(format!(
            "Idempotency-Key must be at most {KEY_LENGTH_MAX} characters"
        )));
    }
    forget_old(state);
    let Some(kept) = state.keys.by_key.get(&key) else { return Ok(Found::New) };
    if kept.parameters != fingerprint(request) {
        let message = "This Idempotency-Key was first used with other parameters or on another endpoint.";
        return Err(ApiError::new(400, "idempotency_error", message));
    }
    if kept.answered_ms > state.now_ms {
        return Err(in_use());
    }
    Ok(Found::Replay { response: kept.response.clone(), first_request: kept.first_request.clone() })
}

/// The 409 for a key whose first request still runs.
pub(super) fn in_use() -> ApiError {
    let mut error =
        ApiError::new(409, "idempotency_error", "Another request with this key is still in progress.")
            .code("idempotency_key_in_use");
    error.should_retry = Some(true);
    error
}

/// The first request goes on running: until it is answered, its key is in use.
pub(super) fn delay(state: &mut State, late_ms: i64) {
    let Some(key) = &state.call.idempotency_key else { return };
    if let Some(kept) = state.keys.by_key.get_mut(key) {
        kept.answered_ms = state.now_ms + late_ms;
    }
}

/// Keeps an answer under the request's key, if it has one.
pub(super) fn keep(state: &mut State, request: &Request, response: &Response) {
    let Some(key) = state.call.idempotency_key.clone() else { return };
    let parameters = fingerprint(request);
    let first_request = state.call.request_id.clone().unwrap_or_default();
    let answered_ms = state.now_ms;
    let kept = Kept { parameters, first_request, response: response.clone(), answered_ms };
    if state.keys.by_key.insert(key.clone(), kept).is_none() {
        let ends = state.now_ms + state.rng.between(KEPT_MS_MIN, KEPT_MS_MAX);
        state.keys.by_end.insert((ends, key));
    }
}

fn forget_old(state: &mut State) {
    while let Some((ends, key)) = state.keys.by_end.first() {
        if *ends > state.now_ms {
            return;
        }
        state.keys.by_key.remove(key);
        state.keys.by_end.pop_first();
    }
}
