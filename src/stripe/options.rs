//! What a client is made of: the key, the API version, the limits.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};

use super::rate_limit::RateLimits;
use super::retry::RetryPolicy;
use crate::clock::Clock;

/// The API version this client is written for. A newer one changes parameters: see Stripe's changelog.
pub const API_VERSION: &str = "2026-05-27.dahlia";

/// What a [`Client`](super::Client) needs to know.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `sk_test_`, `rk_test_`, `sk_live_` or `rk_live_`.
    pub secret_key: SecretString,
    /// Sent as `Stripe-Version` with every request.
    pub version: String,
    /// The clock of this process.
    pub clock: Clock,
    /// How fast requests may leave.
    pub limits: RateLimits,
    /// How often the same bytes are sent again within one call.
    pub retry: RetryPolicy,
}

impl ClientOptions {
    /// The pinned version and the default limits.
    #[must_use]
    pub fn new(secret_key: SecretString, clock: Clock) -> Self {
        Self {
            secret_key,
            version: API_VERSION.to_owned(),
            clock,
            limits: RateLimits::default(),
            retry: RetryPolicy::default(),
        }
    }
}

/// Why no [`Client`](super::Client) could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Not a secret or restricted key.
    #[error("the Stripe key must begin with sk_test_, rk_test_, sk_live_ or rk_live_")]
    Key,
    /// A live key with a transport that does not lead to Stripe itself.
    #[error("a live Stripe key is only ever sent to https://api.stripe.com")]
    LiveKeyElsewhere,
    /// Not a header value.
    #[error("{0:?} is not an API version")]
    Version(String),
}

/// The prefix of a key tells its mode.
pub(super) fn is_live(key: &str) -> Result<bool, SetupError> {
    let kind = |prefixes: [&str; 2]| prefixes.iter().any(|prefix| key.starts_with(prefix));
    if kind(["sk_live_", "rk_live_"]) {
        return Ok(true);
    }
    if kind(["sk_test_", "rk_test_"]) { Ok(false) } else { Err(SetupError::Key) }
}

/// What every request carries.
pub(super) fn common_headers(options: &ClientOptions) -> Result<HeaderMap, SetupError> {
    let bearer = format!("Bearer {}", options.secret_key.expose_secret());
    let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| SetupError::Key)?;
    bearer.set_sensitive(true);
    let version = HeaderValue::from_str(&options.version);
    let version = version.map_err(|_| SetupError::Version(options.version.clone()))?;
    let agent = HeaderValue::from_static(concat!("recurd/", env!("CARGO_PKG_VERSION")));
    Ok(HeaderMap::from_iter([
        (header::AUTHORIZATION, bearer),
        (HeaderName::from_static("stripe-version"), version),
        (header::USER_AGENT, agent),
        (header::ACCEPT, HeaderValue::from_static("application/json")),
    ]))
}
