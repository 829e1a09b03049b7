//! SetupIntents: saving a card for charges without its holder. <https://docs.stripe.com/api/setup_intents>

use jiff::Timestamp;
use serde::Deserialize;

use super::api_error::ApiError;
use super::client::{Answer, Client, Endpoint};
use super::error::Error;
use super::fields::{Expandable, Identified, Metadata, null_as_default, only_id, open_enum};
use super::form::checked_id;
use super::payment_methods::PaymentMethod;

const RETRIEVE: Endpoint = Endpoint("GET /v1/setup_intents/{id}");

open_enum! {
    /// How far saving the card has come.
    SetupIntentStatus {
        /// No method yet, or the last one failed.
        RequiresPaymentMethod = "requires_payment_method",
        /// Has a method, not confirmed.
        RequiresConfirmation = "requires_confirmation",
        /// The customer must authenticate.
        RequiresAction = "requires_action",
        /// The result comes later.
        Processing = "processing",
        /// Saved.
        Succeeded = "succeeded",
        /// Given up.
        Canceled = "canceled",
    }
}

/// One saving of a payment method.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SetupIntent {
    /// `seti_...`.
    pub id: String,
    /// How far it has come.
    pub status: SetupIntentStatus,
    /// Whose card.
    #[serde(default, deserialize_with = "only_id")]
    pub customer: Option<String>,
    /// The saved card.
    pub payment_method: Option<Expandable<PaymentMethod>>,
    /// The multi-use mandate; `None` for most cards.
    #[serde(default, deserialize_with = "only_id")]
    pub mandate: Option<String>,
    /// `off_session` or `on_session`: what the card was saved for.
    pub usage: Option<String>,
    /// Why the last try failed.
    pub last_setup_error: Option<Box<ApiError>>,
    /// Own ids.
    #[serde(default, deserialize_with = "null_as_default")]
    pub metadata: Metadata,
    /// When it was made.
    #[serde(with = "jiff::fmt::serde::timestamp::second::required")]
    pub created: Timestamp,
    /// Live or test.
    pub livemode: bool,
}

impl Identified for SetupIntent {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Client {
    /// Reads one SetupIntent, its payment method expanded.
    ///
    /// # Errors
    /// Those of a GET.
    pub async fn retrieve_setup_intent(&self, id: &str) -> Result<Answer<SetupIntent>, Error> {
        self.get(RETRIEVE, format!("/v1/setup_intents/{}?expand[]=payment_method", checked_id(id)?)).await
    }
}
