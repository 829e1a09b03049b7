//! The error object of Stripe's API, as it stands in a 4xx answer and in `last_payment_error`.

use serde::Deserialize;

use super::fields::{open_enum, scrubbed};
use super::payment_intents::PaymentIntent;
use super::payment_methods::PaymentMethod;
use super::setup_intents::SetupIntent;

open_enum! {
    /// What kind of error Stripe says it is. The HTTP status decides first.
    ApiErrorType {
        /// The card could not be charged.
        Card = "card_error",
        /// The request was wrong.
        InvalidRequest = "invalid_request_error",
        /// Stripe's own fault.
        Api = "api_error",
        /// The idempotency key was used before with other parameters.
        Idempotency = "idempotency_error",
    }
}

/// One error. <https://docs.stripe.com/api/errors>
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ApiError {
    /// The kind of error.
    #[serde(rename = "type")]
    pub kind: ApiErrorType,
    /// Programmatic code, such as `card_declined`.
    pub code: Option<String>,
    /// Why the issuer (or Stripe) declined.
    pub decline_code: Option<String>,
    /// The issuer's advice: `try_again_later`, `do_not_try_again` or `confirm_card_data`.
    pub advice_code: Option<String>,
    /// The card network's own decline code; its meaning depends on the brand.
    pub network_decline_code: Option<String>,
    /// The card network's two-character advice.
    pub network_advice_code: Option<String>,
    /// For people, and no contract. Anything like a key or a card number is already blanked.
    #[serde(default, deserialize_with = "scrubbed")]
    pub message: Option<String>,
    /// The offending parameter.
    pub param: Option<String>,
    /// Id of the failed Stripe charge.
    pub charge: Option<String>,
    /// The PaymentIntent this is about. After a declined create it is what the create left open.
    pub payment_intent: Option<Box<PaymentIntent>>,
    /// The SetupIntent this is about.
    pub setup_intent: Option<Box<SetupIntent>>,
    /// The payment method that was tried.
    pub payment_method: Option<Box<PaymentMethod>>,
}

impl ApiError {
    /// The kind and the most telling codes, such as `card_declined/insufficient_funds`.
    #[must_use]
    pub fn codes(&self) -> String {
        let code = self.code.as_deref().unwrap_or(self.kind.as_str());
        match self.decline_code.as_deref() {
            Some(reason) if reason != code => format!("{code}/{reason}"),
            _ => code.to_owned(),
        }
    }
}
