//! The seam between this client and the wire: bytes in, bytes out.
//!
//! In production [`HttpTransport`](super::HttpTransport) stands behind it, in tests and in the simulation a
//! Stripe in the same process. Everything above the seam is the same code, so both see the same bytes.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, header};
use jiff::Timestamp;

pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("stripe-should-retry");
const RATE_LIMITED_REASON: HeaderName = HeaderName::from_static("stripe-rate-limited-reason");

/// One HTTP request to Stripe, complete but for the host.
///
/// `Debug` prints method and path only: the headers hold the secret key and the body a customer's data.
#[derive(Clone)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: Method,
    /// Path with its query, such as `/v1/payment_intents?limit=100`.
    pub path: String,
    /// Every header of the request but `Host` and `Content-Length`.
    pub headers: HeaderMap,
    /// The form-encoded body of a POST, byte for byte.
    pub body: Option<Bytes>,
    /// Not a byte of this request may be handed to a connection after this instant (wall clock).
    pub not_after: Option<Timestamp>,
}

impl Request {
    /// The `Idempotency-Key` header.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<&str> {
        text(&self.headers, &IDEMPOTENCY_KEY)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {})", self.method, self.path)
    }
}

/// An HTTP answer, whole. `Debug` prints no body.
#[derive(Clone)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Every header of the answer.
    pub headers: HeaderMap,
    /// The body, read to its end.
    pub body: Bytes,
}

impl Response {
    /// `Request-Id`: what Stripe's dashboard and support know this request by.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        text(&self.headers, &REQUEST_ID)
    }

    /// `Idempotent-Replayed: true`: a saved answer, nothing ran now.
    #[must_use]
    pub fn replayed(&self) -> bool {
        text(&self.headers, &IDEMPOTENT_REPLAYED) == Some("true")
    }

    /// `Stripe-Should-Retry`: whether to send again. It says nothing about money.
    #[must_use]
    pub fn should_retry(&self) -> Option<bool> {
        match text(&self.headers, &SHOULD_RETRY) {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        }
    }

    /// `Stripe-Rate-Limited-Reason` of a 429.
    #[must_use]
    pub fn rate_limited_reason(&self) -> Option<&str> {
        text(&self.headers, &RATE_LIMITED_REASON)
    }

    /// `Date`: Stripe's clock, whole seconds.
    #[must_use]
    pub fn date(&self) -> Option<Timestamp> {
        let date = text(&self.headers, &header::DATE)?;
        jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({}, {} bytes)", self.status, self.body.len())
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Why there is no answer. What matters is whether money may have moved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Not one byte of the request was sent: no address, refused, no TLS, too late. Nothing ran.
    #[error("not sent: {0}")]
    NotSent(String),
    /// Not one byte was sent, and another try a moment later would not be sent either.
    #[error("held back: {0}")]
    Held(String),
    /// Bytes left and no whole answer came back: timeout, cut connection, answer too long. It may have run.
    #[error("no answer: {0}")]
    NoAnswer(String),
}

/// Carries one request to Stripe, once. Implementations never repeat a request and never follow a redirect.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends the request and reads the answer to its end.
    ///
    /// Dropping the future leaves the outcome unknown: the request may have been carried out.
    ///
    /// # Errors
    /// [`TransportError::NotSent`] only if provably no byte of the request was sent.
    async fn send(&self, request: Request) -> Result<Response, TransportError>;

    /// Whether this leads to Stripe itself, with its certificate checked: only then is a live key sent.
    fn reaches_stripe(&self) -> bool {
        false
    }
}
