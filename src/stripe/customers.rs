//! Customers. <https://docs.stripe.com/api/customers>

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use super::client::{Answer, Client, Endpoint};
use super::error::Error;
use super::fields::{Identified, Metadata, Private, null_as_default, only_id};
use super::form::{Form, checked_id};
use super::pages::Pages;

const CREATE: Endpoint = Endpoint("POST /v1/customers");
const UPDATE: Endpoint = Endpoint("POST /v1/customers/{id}");
const LIST: Endpoint = Endpoint("GET /v1/customers");
const RETRIEVE: Endpoint = Endpoint("GET /v1/customers/{id}");

/// A customer, or what is left of one: Stripe answers 200 for a deleted customer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Wire")]
pub enum Customer {
    /// Exists.
    Active(Box<ActiveCustomer>),
    /// Was deleted, and can not be charged.
    Deleted {
        /// `cus_...`.
        id: String,
    },
}

/// A customer that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveCustomer {
    /// `cus_...`.
    pub id: String,
    /// Not unique, not checked by Stripe.
    pub email: Option<Private>,
    /// Full name.
    pub name: Option<Private>,
    /// Languages, best first.
    pub preferred_locales: Vec<String>,
    /// Default for Stripe's invoices. A PaymentIntent does not read it: always send the card.
    pub default_payment_method: Option<String>,
    /// Own ids.
    pub metadata: Metadata,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Live or test.
    pub livemode: bool,
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    #[serde(default)]
    deleted: bool,
    email: Option<Private>,
    name: Option<Private>,
    #[serde(default, deserialize_with = "null_as_default")]
    preferred_locales: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    invoice_settings: InvoiceSettings,
    #[serde(default, deserialize_with = "null_as_default")]
    metadata: Metadata,
    #[serde(default, with = "jiff::fmt::serde::timestamp::second::optional")]
    created: Option<Timestamp>,
    #[serde(default)]
    livemode: bool,
}

#[derive(Default, Deserialize)]
struct InvoiceSettings {
    #[serde(default, deserialize_with = "only_id")]
    default_payment_method: Option<String>,
}

impl From<Wire> for Customer {
    fn from(wire: Wire) -> Self {
        if wire.deleted {
            return Self::Deleted { id: wire.id };
        }
        Self::Active(Box::new(ActiveCustomer {
            id: wire.id,
            email: wire.email,
            name: wire.name,
            preferred_locales: wire.preferred_locales,
            default_payment_method: wire.invoice_settings.default_payment_method,
            metadata: wire.metadata,
            created: wire.created,
            livemode: wire.livemode,
        }))
    }
}

impl Customer {
    /// The customer, unless deleted.
    #[must_use]
    pub fn active(&self) -> Option<&ActiveCustomer> {
        match self {
            Self::Active(customer) => Some(customer),
            Self::Deleted { .. } => None,
        }
    }
}

impl Identified for Customer {
    fn id(&self) -> &str {
        match self {
            Self::Active(customer) => &customer.id,
            Self::Deleted { id } => id,
        }
    }
}

/// The body of a create or an update: what is `None` is left as it is.
///
/// `Debug` shows no personal data.
#[derive(Clone, Copy, Default)]
pub struct CustomerFields<'a> {
    /// Mail address, up to 512 characters.
    pub email: Option<&'a str>,
    /// Full name, up to 256 characters.
    pub name: Option<&'a str>,
    /// Language tag for what Stripe shows and mails.
    pub locale: Option<&'a str>,
    /// Default for Stripe's invoices: what the Dashboard shows as the default card.
    pub default_payment_method: Option<&'a str>,
    /// Pairs to set, in a fixed order; an empty value removes the key.
    pub metadata: &'a [(&'a str, &'a str)],
}

impl fmt::Debug for CustomerFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomerFields").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

impl CustomerFields<'_> {
    /// The form-encoded body: the same input always gives the same bytes.
    #[must_use]
    pub fn encode(&self) -> String {
        Form::new()
            .maybe("email", self.email)
            .maybe("name", self.name)
            .maybe("preferred_locales[]", self.locale)
            .maybe("invoice_settings[default_payment_method]", self.default_payment_method)
            .metadata("metadata", self.metadata)
            .encode()
    }
}

impl Client {
    /// Makes a customer. Two calls with two keys make two customers, also with the same mail address.
    ///
    /// # Errors
    /// Those of a POST.
    pub async fn create_customer(
        &self,
        body: impl Into<Bytes>,
        key: &str,
    ) -> Result<Answer<Customer>, Error> {
        self.post(CREATE, "/v1/customers".to_owned(), body.into(), key).await
    }

    /// Changes what the body names and nothing else.
    ///
    /// # Errors
    /// Those of a POST.
    pub async fn update_customer(
        &self,
        id: &str,
        body: impl Into<Bytes>,
        key: &str,
    ) -> Result<Answer<Customer>, Error> {
        self.post(UPDATE, format!("/v1/customers/{}", checked_id(id)?), body.into(), key).await
    }

    /// Every customer of the account, newest first, page by page.
    #[must_use]
    pub fn customers(&self) -> Pages<Customer> {
        Pages::new(self, LIST, "/v1/customers", Form::new())
    }

    /// Reads one customer, deleted or not.
    ///
    /// # Errors
    /// Those of a GET.
    pub async fn retrieve_customer(&self, id: &str) -> Result<Answer<Customer>, Error> {
        self.get(RETRIEVE, format!("/v1/customers/{}", checked_id(id)?)).await
    }
}
