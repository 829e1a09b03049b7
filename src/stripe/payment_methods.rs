//! PaymentMethods: saved cards. <https://docs.stripe.com/api/payment_methods>

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use super::client::{Answer, Client, Endpoint};
use super::error::Error;
use super::fields::{Identified, Metadata, null_as_default, only_id};
use super::form::{Form, checked_id};
use super::pages::Pages;

const RETRIEVE: Endpoint = Endpoint("GET /v1/payment_methods/{id}");
const ATTACH: Endpoint = Endpoint("POST /v1/payment_methods/{id}/attach");
const LIST_OF_CUSTOMER: Endpoint = Endpoint("GET /v1/customers/{id}/payment_methods");

/// A saved way to pay.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PaymentMethod {
    /// `pm_...`.
    pub id: String,
    /// `card`, or a kind this client does not ask for.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose it is; `None` once detached.
    #[serde(default, deserialize_with = "only_id")]
    pub customer: Option<String>,
    /// What is known of the card.
    pub card: Option<Card>,
    /// Own ids.
    #[serde(default, deserialize_with = "null_as_default")]
    pub metadata: Metadata,
    /// When it was made.
    #[serde(with = "jiff::fmt::serde::timestamp::second::required")]
    pub created: Timestamp,
    /// Live or test.
    pub livemode: bool,
}

impl Identified for PaymentMethod {
    fn id(&self) -> &str {
        &self.id
    }
}

/// Facts of a card. The number itself never leaves Stripe.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Card {
    /// `visa`, `mastercard`, `amex`, ...; `unknown` too.
    pub brand: Option<String>,
    /// The last four digits.
    pub last4: Option<String>,
    /// 1 to 12; the card is valid to the end of that month.
    pub exp_month: Option<u8>,
    /// Four digits.
    pub exp_year: Option<u16>,
    /// `credit`, `debit`, `prepaid` or `unknown`.
    pub funding: Option<String>,
    /// Country of the issuer, two letters.
    pub country: Option<String>,
    /// The same for the same card number within one account.
    pub fingerprint: Option<String>,
}

/// The body that attaches a payment method to a customer.
///
/// A card attached like this was not set up for use without the customer and is declined more often than
/// one saved by Checkout.
#[derive(Debug, Clone, Copy)]
pub struct AttachPaymentMethod<'a> {
    /// `cus_...`.
    pub customer: &'a str,
}

impl AttachPaymentMethod<'_> {
    /// The form-encoded body.
    #[must_use]
    pub fn encode(&self) -> String {
        Form::new().text("customer", self.customer).encode()
    }
}

impl Client {
    /// Reads one payment method.
    ///
    /// # Errors
    /// Those of a GET.
    pub async fn retrieve_payment_method(&self, id: &str) -> Result<Answer<PaymentMethod>, Error> {
        self.get(RETRIEVE, format!("/v1/payment_methods/{}", checked_id(id)?)).await
    }

    /// Attaches a payment method to a customer. The answer may carry another id than the one asked for.
    ///
    /// # Errors
    /// Those of a POST; [`Error::Declined`] for a card that is declined when it is checked.
    pub async fn attach_payment_method(
        &self,
        id: &str,
        body: impl Into<Bytes>,
        key: &str,
    ) -> Result<Answer<PaymentMethod>, Error> {
        self.post(ATTACH, format!("/v1/payment_methods/{}/attach", checked_id(id)?), body.into(), key).await
    }

    /// A customer's cards, newest first.
    ///
    /// # Errors
    /// Those of a list.
    pub async fn list_cards(&self, customer: &str) -> Result<Vec<PaymentMethod>, Error> {
        let path = format!("/v1/customers/{}/payment_methods", checked_id(customer)?);
        Pages::new(self, LIST_OF_CUSTOMER, &path, Form::new().text("type", "card")).all().await
    }
}
