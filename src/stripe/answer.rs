//! Reads one answer: status first, then the body, and never more into it than it says.

use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::api_error::{ApiError, ApiErrorType};
use super::error::{Call, Decline, Doubt, Error, NotSent, RateLimit, Rejection, Why};
use super::transport::{Response, TransportError};

#[derive(Deserialize)]
struct ErrorBody {
    error: ApiError,
}

/// The value in a successful answer.
pub(super) fn read_value<T: DeserializeOwned>(
    response: &Response,
    call: impl FnOnce() -> Call,
) -> Result<T, Error> {
    serde_json::from_slice(&response.body).map_err(|e| unreadable(response.status, &e, call()))
}

/// A send that did not succeed, with Stripe's word on whether to send again.
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) should_retry: Option<bool>,
}

/// Turns anything but a 2xx into a failure. `call` names the call, given Stripe's id for the request.
pub(super) fn success(
    sent: Result<Response, TransportError>,
    call: impl FnOnce(Option<String>) -> Call,
) -> Result<Response, Failure> {
    match sent {
        Ok(response) if (200..300).contains(&response.status) => Ok(response),
        Ok(response) => {
            let should_retry = response.should_retry();
            let call = call(response.request_id().map(str::to_owned));
            Err(Failure { error: failure(&response, call), should_retry })
        }
        Err(TransportError::NotSent(reason)) => Err(not_sent(call(None), reason, None)),
        Err(TransportError::Held(reason)) => Err(not_sent(call(None), reason, Some(false))),
        Err(TransportError::NoAnswer(reason)) => {
            Err(Failure { error: doubt(call(None), Why::NoAnswer(reason), false), should_retry: None })
        }
    }
}

fn not_sent(call: Call, reason: String, should_retry: Option<bool>) -> Failure {
    Failure { error: Error::Unreachable(Box::new(NotSent { call, reason })), should_retry }
}

fn failure(response: &Response, call: Call) -> Error {
    let status = response.status;
    match status {
        409 => doubt(call, Why::InUse, false),
        424 => doubt(call, Why::DependencyFailed, false),
        429 => rate_limited(response, call),
        400..500 => refused(response, call),
        // A gateway's 502 to 504 is not kept by Stripe; any other 5xx, and any replayed one, is.
        502..=504 => doubt(call, Why::ServerError(status), response.replayed()),
        500..600 => doubt(call, Why::ServerError(status), true),
        _ => {
            let problem = "not a status Stripe answers with".to_owned();
            doubt(call, Why::Unreadable { status, problem }, false)
        }
    }
}

/// A 4xx counts as an answer only if the body is Stripe's and whole: a proxy's error page proves nothing.
fn refused(response: &Response, call: Call) -> Error {
    let status = response.status;
    let error = match serde_json::from_slice::<ErrorBody>(&response.body) {
        Ok(body) => body.error,
        Err(e) => return unreadable(status, &e, call),
    };
    if status == 402 && error.kind == ApiErrorType::Card {
        return Error::Declined(Box::new(Decline { call, error, replayed: response.replayed() }));
    }
    Error::Rejected(Box::new(Rejection { call, status, error }))
}

/// The status alone says that nothing ran, whatever the body.
fn rate_limited(response: &Response, call: Call) -> Error {
    let code = || serde_json::from_slice::<ErrorBody>(&response.body).ok()?.error.code;
    let reason = response.rate_limited_reason().map(str::to_owned).or_else(code);
    Error::RateLimited(Box::new(RateLimit { call, reason }))
}

fn unreadable(status: u16, error: &serde_json::Error, call: Call) -> Error {
    // The error's own text may quote the body.
    let problem = format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column());
    doubt(call, Why::Unreadable { status, problem }, false)
}

pub(super) fn doubt(call: Call, why: Why, cached_5xx: bool) -> Error {
    Error::Unknown(Box::new(Doubt { call, why, cached_5xx }))
}

/// Whether to send the same bytes again within this call. `should_retry` is Stripe's header: it speaks of
/// resending only, never of money.
pub(super) fn may_resend(method: &Method, error: &Error, should_retry: Option<bool>) -> bool {
    let by_default = match error {
        // Settled, and saved under the key: a resend would replay it at best.
        Error::Declined(_) => return false,
        Error::Rejected(_) if error.is_idempotency_mismatch() => return false,
        Error::Unknown(doubt) if doubt.cached_5xx && *method != Method::GET => return false,
        Error::Unknown(doubt) => {
            matches!(doubt.why, Why::NoAnswer(_) | Why::ServerError(_) | Why::InUse)
        }
        Error::RateLimited(_) | Error::Unreachable(_) => true,
        Error::Rejected(_) => false,
    };
    should_retry.unwrap_or(by_default)
}
