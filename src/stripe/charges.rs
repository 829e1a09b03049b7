//! Stripe charges: each attempt of a PaymentIntent has one. <https://docs.stripe.com/api/charges>

use jiff::Timestamp;
use serde::Deserialize;

use super::client::{Answer, Client, Endpoint};
use super::error::Error;
use super::fields::{Identified, Metadata, null_as_default, only_id, open_enum};
use super::form::{Form, checked_id};
use super::pages::Pages;
use super::payment_methods::Card;

const RETRIEVE: Endpoint = Endpoint("GET /v1/charges/{id}");
const LIST: Endpoint = Endpoint("GET /v1/charges");

open_enum! {
    /// What became of an attempt.
    ChargeStatus {
        /// Paid.
        Succeeded = "succeeded",
        /// The result comes later.
        Pending = "pending",
        /// Not paid.
        Failed = "failed",
    }
}

/// One attempt, as Stripe keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Charge {
    /// `ch_...`.
    pub id: String,
    /// What became of it.
    pub status: ChargeStatus,
    /// Minor units.
    #[serde(rename = "amount")]
    pub amount_minor: i64,
    /// Minor units given back so far.
    #[serde(rename = "amount_refunded")]
    pub amount_refunded_minor: i64,
    /// Lowercase code.
    pub currency: String,
    /// Everything was given back.
    pub refunded: bool,
    /// The holder disputes it.
    pub disputed: bool,
    /// Whose card.
    #[serde(default, deserialize_with = "only_id")]
    pub customer: Option<String>,
    /// The PaymentIntent it is an attempt of.
    #[serde(default, deserialize_with = "only_id")]
    pub payment_intent: Option<String>,
    /// Which payment method was tried.
    pub payment_method: Option<String>,
    /// The card as it was at that moment.
    pub payment_method_details: Option<ChargeMethod>,
    /// Who decided, and why.
    pub outcome: Option<Outcome>,
    /// Error code of a failed attempt.
    pub failure_code: Option<String>,
    /// Copied from the PaymentIntent.
    #[serde(default, deserialize_with = "null_as_default")]
    pub metadata: Metadata,
    /// When it was made.
    #[serde(with = "jiff::fmt::serde::timestamp::second::required")]
    pub created: Timestamp,
    /// Live or test.
    pub livemode: bool,
}

impl Identified for Charge {
    fn id(&self) -> &str {
        &self.id
    }
}

/// What was charged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChargeMethod {
    /// The card, if it was one.
    pub card: Option<Card>,
}

open_enum! {
    /// Who decided about an attempt.
    OutcomeType {
        /// The issuer said yes.
        Authorized = "authorized",
        /// Paid, and waiting for the merchant's review.
        ManualReview = "manual_review",
        /// The issuer said no.
        IssuerDeclined = "issuer_declined",
        /// Stripe stopped it; the card network did not count a try.
        Blocked = "blocked",
        /// It could not be tried.
        Invalid = "invalid",
    }
}

/// Who decided, and why. Only this tells a block by Stripe from an issuer's decline.
///
/// <https://docs.stripe.com/api/charges/object#charge_object-outcome>
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Outcome {
    /// Who decided.
    #[serde(rename = "type")]
    pub kind: OutcomeType,
    /// `approved_by_network`, `declined_by_network`, `not_sent_to_network` or `reversed_after_approval`.
    pub network_status: Option<String>,
    /// A decline code, or a rule of Stripe's such as `highest_risk_level`.
    pub reason: Option<String>,
    /// `normal`, `elevated`, `highest`, ...
    pub risk_level: Option<String>,
    /// The issuer's advice.
    pub advice_code: Option<String>,
    /// The network's advice.
    pub network_advice_code: Option<String>,
    /// The network's decline code.
    pub network_decline_code: Option<String>,
}

impl Client {
    /// Reads one Stripe charge.
    ///
    /// # Errors
    /// Those of a GET.
    pub async fn retrieve_charge(&self, id: &str) -> Result<Answer<Charge>, Error> {
        self.get(RETRIEVE, format!("/v1/charges/{}", checked_id(id)?)).await
    }

    /// Every attempt of one PaymentIntent, newest first.
    ///
    /// # Errors
    /// Those of a list: never a part of it.
    pub async fn list_charges(&self, payment_intent: &str) -> Result<Vec<Charge>, Error> {
        Pages::new(self, LIST, "/v1/charges", Form::new().text("payment_intent", payment_intent)).all().await
    }

    /// Every attempt in the account since an instant, newest first, page by page.
    #[must_use]
    pub fn charges_since(&self, created_from: Timestamp) -> Pages<Charge> {
        let filter = Form::new().instant("created[gte]", Some(created_from));
        Pages::new(self, LIST, "/v1/charges", filter)
    }
}
