//! All HTTP to Stripe.
//!
//! [`Client`] makes typed calls over a [`Transport`]; every call ends in an [`Answer`] or in an [`Error`] whose
//! [`Error::next`] says what may be done next. The client knows Stripe and nothing else: no store, no plans.
//!
//! A POST is made of two steps on purpose. `Create...::encode` gives the body, which the caller stores with its
//! idempotency key *before* anything is sent; the call then sends exactly the stored bytes, today or after a crash.
//!
//! Follows API version [`API_VERSION`]: <https://docs.stripe.com/api>.

pub mod account;
pub mod api_error;
pub mod charges;
pub mod checkout;
pub mod customers;
pub mod disputes;
pub mod error;
pub mod events;
pub mod fields;
pub mod payment_intents;
pub mod payment_methods;
pub mod refunds;
pub mod setup_intents;
pub mod transport;
pub mod webhook;

mod answer;
mod client;
mod form;
mod http_transport;
mod options;
mod pages;
mod rate_limit;
mod retry;
#[cfg(test)]
mod tests;

pub use api_error::{ApiError, ApiErrorType};
pub use client::{Answer, Client, Endpoint, Gate};
pub use error::{Error, Next};
pub use fields::{Expandable, Metadata, Private};
pub use http_transport::{HttpOptions, HttpSetupError, HttpTransport, STRIPE_BASE_URL};
pub use options::{API_VERSION, ClientOptions, SetupError};
pub use pages::Pages;
pub use rate_limit::RateLimits;
pub use retry::RetryPolicy;
pub use transport::{Request, Response, Transport, TransportError};
