//! Why a call did not succeed, and what may be done next.
//!
//! Five outcomes, told apart by one question: may money have moved? A decline and a rejection are answers. After a
//! rate limit or a failed connection nothing ran. The rest is unknown, and stays so until Stripe is asked.

use std::fmt;

use http::Method;

use super::api_error::{ApiError, ApiErrorType};
use super::payment_intents::PaymentIntent;

/// The call an error speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `GET` or `POST`.
    pub method: Method,
    /// Path without its query.
    pub path: String,
    /// Stripe's name for the last request, if it answered.
    pub request_id: Option<String>,
    /// How often the request was sent, resends included; 0 if this client refused to send it.
    pub sends: u32,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        if let Some(id) = &self.request_id {
            write!(f, " ({id})")?;
        }
        if self.sends > 1 {
            write!(f, " [sent {} times]", self.sends)?;
        }
        Ok(())
    }
}

/// What the caller does next. The place that knows the cause decides, callers obey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing ran, or it still runs: later send the very same bytes with the same key.
    RetrySameKey,
    /// It may have run: ask Stripe before anything else is sent for this charge.
    Reconcile,
    /// The card was declined. Whether and when to try again is for the decline's class to say; a further
    /// try is a new attempt with a new key.
    NewAttempt,
    /// This request will never work as it is. This one charge waits for a person; no card is at fault.
    Park,
    /// Nothing will work for anybody (wrong key, missing right): stop the run and tell the operator.
    StopAndAlert,
}

/// The final outcome of a call that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// 402 with a `card_error`: the issuer, or Stripe in its place, said no.
    #[error(transparent)]
    Declined(Box<Decline>),
    /// A determinate refusal of the request: nothing was charged by it.
    #[error(transparent)]
    Rejected(Box<Rejection>),
    /// 429: nothing ran.
    #[error(transparent)]
    RateLimited(Box<RateLimit>),
    /// Not one byte was sent: nothing ran. Says nothing of *earlier* calls with the same key.
    #[error(transparent)]
    Unreachable(Box<NotSent>),
    /// It may have run.
    #[error(transparent)]
    Unknown(Box<Doubt>),
}

/// 402: a card was declined. A PaymentIntent exists and is open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: the card was declined, {}{}", error.codes(), if *replayed { " (a saved answer)" } else { "" })]
pub struct Decline {
    /// The call.
    pub call: Call,
    /// Codes, advice, the PaymentIntent and the payment method.
    pub error: ApiError,
    /// This is a saved answer: the same decline as before, to be counted once.
    pub replayed: bool,
}

/// 4xx: the request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Rejection {
    /// The call.
    pub call: Call,
    /// HTTP status; 0 when this client refused to send.
    pub status: u16,
    /// Type, code, parameter, message and the object where there is one.
    pub error: ApiError,
}

/// 429.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: Stripe asks to slow down ({}); nothing ran", reason.as_deref().unwrap_or("no reason given"))]
pub struct RateLimit {
    /// The call.
    pub call: Call,
    /// `Stripe-Rate-Limited-Reason`, or the error's code (`lock_timeout`: another request holds the object).
    pub reason: Option<String>,
}

/// No byte was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: Stripe was not reached, nothing ran: {reason}")]
pub struct NotSent {
    /// The call.
    pub call: Call,
    /// What stood in the way.
    pub reason: String,
}

/// Nobody knows whether it ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: outcome unknown, {why}")]
pub struct Doubt {
    /// The call.
    pub call: Call,
    /// Why it is not known.
    pub why: Why,
    /// Stripe keeps this 5xx as the answer to this key: never POST the key again, read only.
    pub cached_5xx: bool,
}

/// Why an outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Timeout or cut connection.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// Stripe answered 5xx.
    #[error("Stripe answered {0}")]
    ServerError(u16),
    /// 409: an earlier request with this key still runs, or another one holds the object.
    #[error("409: another request with this key or on this object still runs")]
    InUse,
    /// 424: something outside Stripe failed.
    #[error("424: something outside Stripe failed")]
    DependencyFailed,
    /// An answer that is not Stripe's or not whole.
    #[error("an answer {status} that cannot be read: {problem}")]
    Unreadable {
        /// Its HTTP status.
        status: u16,
        /// Where reading failed, without a byte of the body.
        problem: String,
    },
    /// A list went on beyond this many pages, or did not move: what it would have shown is not known.
    #[error("the list did not end after {pages} pages")]
    ListWithoutEnd {
        /// How many pages were read.
        pages: u32,
    },
}

impl Error {
    /// What to do next.
    #[must_use]
    pub fn next(&self) -> Next {
        match self {
            Self::Declined(_) => Next::NewAttempt,
            Self::RateLimited(_) | Self::Unreachable(_) => Next::RetrySameKey,
            Self::Unknown(doubt) => match doubt.why {
                Why::InUse if !doubt.cached_5xx => Next::RetrySameKey,
                Why::ListWithoutEnd { .. } => Next::Park,
                _ => Next::Reconcile,
            },
            Self::Rejected(_) if self.is_idempotency_mismatch() || self.is_unexpected_state() => {
                Next::Reconcile
            }
            Self::Rejected(_) if self.is_auth() => Next::StopAndAlert,
            Self::Rejected(_) => Next::Park,
        }
    }

    /// The call this is about.
    #[must_use]
    pub fn call(&self) -> &Call {
        match self {
            Self::Declined(e) => &e.call,
            Self::Rejected(e) => &e.call,
            Self::RateLimited(e) => &e.call,
            Self::Unreachable(e) => &e.call,
            Self::Unknown(e) => &e.call,
        }
    }

    /// The rejection, if it is one.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }

    /// The PaymentIntent the answer carried: after a decline the one left open, after
    /// [`Error::is_unexpected_state`] the one in that state.
    #[must_use]
    pub fn payment_intent(&self) -> Option<&PaymentIntent> {
        match self {
            Self::Declined(e) => e.error.payment_intent.as_deref(),
            Self::Rejected(e) => e.error.payment_intent.as_deref(),
            _ => None,
        }
    }

    /// 400 `idempotency_error`: proof that an earlier request with this key exists, with other parameters.
    #[must_use]
    pub fn is_idempotency_mismatch(&self) -> bool {
        self.rejection().is_some_and(|e| e.error.kind == ApiErrorType::Idempotency)
    }

    /// The object is already past the state this request asks for, such as confirming a paid PaymentIntent.
    #[must_use]
    pub fn is_unexpected_state(&self) -> bool {
        self.rejection().and_then(Rejection::code).is_some_and(|code| code.ends_with("_unexpected_state"))
    }

    /// An object does not exist (404 for the path, 400 for a parameter).
    #[must_use]
    pub fn is_resource_missing(&self) -> bool {
        self.rejection().and_then(Rejection::code) == Some("resource_missing")
    }

    /// The amount or its currency is what Stripe refused: a fault of the plan.
    #[must_use]
    pub fn is_amount_problem(&self) -> bool {
        const CODES: [&str; 4] = [
            "amount_too_small",
            "amount_too_large",
            "invalid_charge_amount",
            "payment_method_currency_mismatch",
        ];
        self.rejection().is_some_and(|e| {
            e.code().is_some_and(|code| CODES.contains(&code))
                || matches!(e.error.param.as_deref(), Some("amount" | "currency"))
        })
    }

    /// 401 or 403: the key is wrong or lacks a right.
    #[must_use]
    pub fn is_auth(&self) -> bool {
        self.rejection().is_some_and(|e| matches!(e.status, 401 | 403))
    }
}

impl Rejection {
    fn code(&self) -> Option<&str> {
        self.error.code.as_deref()
    }

    /// A refusal by this client: nothing was sent.
    pub(super) fn of_ours(code: &str, message: &str) -> Self {
        let error = ApiError {
            kind: ApiErrorType::InvalidRequest,
            code: Some(code.to_owned()),
            message: Some(message.to_owned()),
            decline_code: None,
            advice_code: None,
            network_decline_code: None,
            network_advice_code: None,
            param: None,
            charge: None,
            payment_intent: None,
            setup_intent: None,
            payment_method: None,
        };
        let call = Call { method: Method::GET, path: String::new(), request_id: None, sends: 0 };
        Self { call, status: 0, error }
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(Box::new(rejection))
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            0 => write!(f, "not sent to Stripe: {}", self.error.codes())?,
            status => write!(f, "{}: Stripe refused with {status} {}", self.call, self.error.codes())?,
        }
        if let Some(param) = &self.error.param {
            write!(f, " on `{param}`")?;
        }
        if let Some(message) = &self.error.message {
            write!(f, ": {message}")?;
        }
        Ok(())
    }
}
