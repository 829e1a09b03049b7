//! Refunds: money back. <https://docs.stripe.com/api/refunds>

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use super::client::{Answer, Client, Endpoint};
use super::error::Error;
use super::fields::{Identified, Metadata, null_as_default, only_id, open_enum};
use super::form::Form;
use super::pages::Pages;
use crate::billing::money::Money;

const CREATE: Endpoint = Endpoint("POST /v1/refunds");
const LIST: Endpoint = Endpoint("GET /v1/refunds");

open_enum! {
    /// How far the money has come back. A succeeded refund of a card can still fail later.
    RefundStatus {
        /// On its way.
        Pending = "pending",
        /// The customer must do something.
        RequiresAction = "requires_action",
        /// Done, as far as Stripe knows.
        Succeeded = "succeeded",
        /// The money is back at the merchant.
        Failed = "failed",
        /// Stopped.
        Canceled = "canceled",
    }
}

/// One refund.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refund {
    /// `re_...`.
    pub id: String,
    /// How far it has come.
    pub status: Option<RefundStatus>,
    /// Minor units.
    #[serde(rename = "amount")]
    pub amount_minor: i64,
    /// Lowercase code.
    pub currency: String,
    /// The Stripe charge it gives back.
    #[serde(default, deserialize_with = "only_id")]
    pub charge: Option<String>,
    /// The PaymentIntent it gives back.
    #[serde(default, deserialize_with = "only_id")]
    pub payment_intent: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Own ids.
    #[serde(default, deserialize_with = "null_as_default")]
    pub metadata: Metadata,
    /// When it was made.
    #[serde(with = "jiff::fmt::serde::timestamp::second::required")]
    pub created: Timestamp,
}

impl Identified for Refund {
    fn id(&self) -> &str {
        &self.id
    }
}

/// Why money is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundReason {
    /// Collected twice.
    Duplicate,
    /// The holder did not order it.
    Fraudulent,
    /// The customer asked.
    RequestedByCustomer,
}

/// The body that gives money back.
#[derive(Debug, Clone, Copy)]
pub struct CreateRefund<'a> {
    /// `pi_...`.
    pub payment_intent: &'a str,
    /// A part of it; all that is left if `None`.
    pub amount: Option<Money>,
    /// Why.
    pub reason: RefundReason,
    /// Own ids, in a fixed order.
    pub metadata: &'a [(&'a str, &'a str)],
}

impl CreateRefund<'_> {
    /// The form-encoded body: the same input always gives the same bytes.
    #[must_use]
    pub fn encode(&self) -> String {
        let reason = match self.reason {
            RefundReason::Duplicate => "duplicate",
            RefundReason::Fraudulent => "fraudulent",
            RefundReason::RequestedByCustomer => "requested_by_customer",
        };
        let form = Form::new().text("payment_intent", self.payment_intent);
        let form = match self.amount {
            Some(amount) => form.number("amount", amount.minor()),
            None => form,
        };
        form.text("reason", reason).metadata("metadata", self.metadata).encode()
    }
}

impl Client {
    /// Sends a stored [`CreateRefund`].
    ///
    /// # Errors
    /// Those of a POST. Rejected with `charge_already_refunded` when nothing is left to give back.
    pub async fn create_refund(&self, body: impl Into<Bytes>, key: &str) -> Result<Answer<Refund>, Error> {
        self.post(CREATE, "/v1/refunds".to_owned(), body.into(), key).await
    }

    /// The refunds of one PaymentIntent, newest first.
    ///
    /// # Errors
    /// Those of a list.
    pub async fn list_refunds(&self, payment_intent: &str) -> Result<Vec<Refund>, Error> {
        Pages::new(self, LIST, "/v1/refunds", Form::new().text("payment_intent", payment_intent)).all().await
    }

    /// Every refund of the account made since an instant, newest first, page by page.
    #[must_use]
    pub fn refunds_since(&self, created_from: Timestamp) -> Pages<Refund> {
        Pages::new(self, LIST, "/v1/refunds", Form::new().instant("created[gte]", Some(created_from)))
    }
}
