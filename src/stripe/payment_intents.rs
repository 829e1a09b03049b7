//! PaymentIntents: collecting one amount, once. <https://docs.stripe.com/api/payment_intents>

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use super::api_error::ApiError;
use super::charges::Charge;
use super::client::{Answer, Client, Endpoint};
use super::error::Error;
use super::fields::{Expandable, Identified, Metadata, null_as_default, only_id, open_enum};
use super::form::{Form, checked_id};
use super::pages::Pages;
use super::payment_methods::PaymentMethod;
use crate::billing::money::Money;

pub(super) const CREATE: Endpoint = Endpoint("POST /v1/payment_intents");
pub(super) const CONFIRM: Endpoint = Endpoint("POST /v1/payment_intents/{id}/confirm");
const CANCEL: Endpoint = Endpoint("POST /v1/payment_intents/{id}/cancel");
const RETRIEVE: Endpoint = Endpoint("GET /v1/payment_intents/{id}");
const LIST: Endpoint = Endpoint("GET /v1/payment_intents");

open_enum! {
    /// How far collecting has come. A 200 alone is not a success: only `Succeeded` is.
    PaymentIntentStatus {
        /// Has no method, or the last attempt failed.
        RequiresPaymentMethod = "requires_payment_method",
        /// Has a method, was never confirmed.
        RequiresConfirmation = "requires_confirmation",
        /// The customer must authenticate.
        RequiresAction = "requires_action",
        /// The result comes later. Neither paid nor failed.
        Processing = "processing",
        /// Authorised only.
        RequiresCapture = "requires_capture",
        /// Paid; final.
        Succeeded = "succeeded",
        /// Dead; final.
        Canceled = "canceled",
    }
}

/// One amount to collect. It can succeed only once, however often it is confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PaymentIntent {
    /// `pi_...`.
    pub id: String,
    /// How far it has come.
    pub status: PaymentIntentStatus,
    /// Minor units.
    #[serde(rename = "amount")]
    pub amount_minor: i64,
    /// Minor units received so far.
    #[serde(rename = "amount_received", default)]
    pub amount_received_minor: i64,
    /// Lowercase code.
    pub currency: String,
    /// Who pays.
    #[serde(default, deserialize_with = "only_id")]
    pub customer: Option<String>,
    /// With what; cleared by a failed attempt.
    pub payment_method: Option<Expandable<PaymentMethod>>,
    /// The charge of the last attempt.
    pub latest_charge: Option<Expandable<Charge>>,
    /// Why the last attempt failed; gone after the next one.
    pub last_payment_error: Option<Box<ApiError>>,
    /// Own ids: what finds a lost answer again.
    #[serde(default, deserialize_with = "null_as_default")]
    pub metadata: Metadata,
    /// When it was made.
    #[serde(with = "jiff::fmt::serde::timestamp::second::required")]
    pub created: Timestamp,
    /// When it was canceled.
    #[serde(default, with = "jiff::fmt::serde::timestamp::second::optional")]
    pub canceled_at: Option<Timestamp>,
    /// Why it was canceled.
    pub cancellation_reason: Option<String>,
    /// Live or test.
    pub livemode: bool,
}

impl Identified for PaymentIntent {
    fn id(&self) -> &str {
        &self.id
    }
}

impl PaymentIntent {
    /// What it is meant to collect; `None` in a currency outside our table.
    #[must_use]
    pub fn amount(&self) -> Option<Money> {
        Money::from_minor(self.amount_minor, self.currency.parse().ok()?).ok()
    }
}

/// The body that creates a PaymentIntent and charges a saved card at once, its holder absent.
///
/// <https://docs.stripe.com/payments/save-and-reuse#charge-saved-payment-method>
#[derive(Debug, Clone, Copy)]
pub struct CreateOffSession<'a> {
    /// What to collect.
    pub amount: Money,
    /// `cus_...`.
    pub customer: &'a str,
    /// `pm_...`, attached to that customer.
    pub payment_method: &'a str,
    /// For the merchant and on receipts; up to 1,000 characters.
    pub description: Option<&'a str>,
    /// Joined to the account's own descriptor on the card statement; up to 22 characters together.
    pub statement_descriptor_suffix: Option<&'a str>,
    /// Own ids, in a fixed order. No personal data.
    pub metadata: &'a [(&'a str, &'a str)],
}

impl CreateOffSession<'_> {
    /// The form-encoded body: the same input always gives the same bytes.
    #[must_use]
    pub fn encode(&self) -> String {
        Form::new()
            .number("amount", self.amount.minor())
            .text("currency", self.amount.currency().code())
            .text("customer", self.customer)
            .text("payment_method", self.payment_method)
            .text("payment_method_types[]", "card")
            .text("confirm", "true")
            .text("off_session", "true")
            .maybe("description", self.description)
            .maybe("statement_descriptor_suffix", self.statement_descriptor_suffix)
            .metadata("metadata", self.metadata)
            .text("expand[]", "latest_charge")
            .encode()
    }
}

/// The body that confirms an open PaymentIntent again, the card's holder absent.
#[derive(Debug, Clone, Copy)]
pub struct ConfirmOffSession<'a> {
    /// `pm_...`: a failed attempt cleared it, so it is sent again.
    pub payment_method: &'a str,
}

impl ConfirmOffSession<'_> {
    /// The form-encoded body.
    #[must_use]
    pub fn encode(&self) -> String {
        Form::new()
            .text("payment_method", self.payment_method)
            .text("off_session", "true")
            .text("expand[]", "latest_charge")
            .encode()
    }
}

/// Why a PaymentIntent is canceled: the body of a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelReason {
    /// Replaced by another way to pay, or written off.
    Abandoned,
    /// Another one collects this amount.
    Duplicate,
    /// The customer canceled.
    RequestedByCustomer,
}

impl CancelReason {
    /// The form-encoded body.
    #[must_use]
    pub fn encode(self) -> String {
        let reason = match self {
            Self::Abandoned => "abandoned",
            Self::Duplicate => "duplicate",
            Self::RequestedByCustomer => "requested_by_customer",
        };
        Form::new().text("cancellation_reason", reason).text("expand[]", "latest_charge").encode()
    }
}

impl Client {
    /// Sends a stored [`CreateOffSession`].
    ///
    /// # Errors
    /// Those of a POST. [`Error::Declined`] carries the PaymentIntent it left open.
    pub async fn create_payment_intent(
        &self,
        body: impl Into<Bytes>,
        key: &str,
    ) -> Result<Answer<PaymentIntent>, Error> {
        self.post(CREATE, "/v1/payment_intents".to_owned(), body.into(), key).await
    }

    /// Sends a stored [`ConfirmOffSession`].
    ///
    /// # Errors
    /// Those of a POST. [`Error::is_unexpected_state`] if it is paid or dead already, with the object.
    pub async fn confirm_payment_intent(
        &self,
        id: &str,
        body: impl Into<Bytes>,
        key: &str,
    ) -> Result<Answer<PaymentIntent>, Error> {
        self.post(CONFIRM, format!("/v1/payment_intents/{}/confirm", checked_id(id)?), body.into(), key).await
    }

    /// Sends a stored [`CancelReason`]. A PaymentIntent behind a Checkout Session is ended by expiring the session.
    ///
    /// # Errors
    /// Those of a POST. [`Error::is_unexpected_state`] if it is paid or dead already, with the object.
    pub async fn cancel_payment_intent(
        &self,
        id: &str,
        body: impl Into<Bytes>,
        key: &str,
    ) -> Result<Answer<PaymentIntent>, Error> {
        self.post(CANCEL, format!("/v1/payment_intents/{}/cancel", checked_id(id)?), body.into(), key).await
    }

    /// Reads one PaymentIntent, its latest charge expanded.
    ///
    /// # Errors
    /// Those of a GET.
    pub async fn retrieve_payment_intent(&self, id: &str) -> Result<Answer<PaymentIntent>, Error> {
        self.get(RETRIEVE, format!("/v1/payment_intents/{}?expand[]=latest_charge", checked_id(id)?)).await
    }

    /// Every PaymentIntent of a customer made since an instant, newest first, latest charges expanded.
    ///
    /// # Errors
    /// Those of a list: never a part of it.
    pub async fn list_payment_intents(
        &self,
        customer: &str,
        created_from: Timestamp,
    ) -> Result<Vec<PaymentIntent>, Error> {
        let filter = Form::new().text("customer", customer);
        self.pages_of_payment_intents(filter, created_from).all().await
    }

    /// Every PaymentIntent of the account made since an instant, newest first, page by page.
    #[must_use]
    pub fn payment_intents_since(&self, created_from: Timestamp) -> Pages<PaymentIntent> {
        self.pages_of_payment_intents(Form::new(), created_from)
    }

    fn pages_of_payment_intents(&self, filter: Form, created_from: Timestamp) -> Pages<PaymentIntent> {
        let filter =
            filter.instant("created[gte]", Some(created_from)).text("expand[]", "data.latest_charge");
        Pages::new(self, LIST, "/v1/payment_intents", filter)
    }
}
