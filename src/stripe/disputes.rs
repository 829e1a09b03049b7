//! Disputes: a card's holder asks for the money back. <https://docs.stripe.com/api/disputes>

use jiff::Timestamp;
use serde::Deserialize;

use super::client::{Answer, Client, Endpoint};
use super::error::Error;
use super::fields::{Identified, only_id, open_enum};
use super::form::{Form, checked_id};
use super::pages::Pages;

const LIST: Endpoint = Endpoint("GET /v1/disputes");
const RETRIEVE: Endpoint = Endpoint("GET /v1/disputes/{id}");

open_enum! {
    /// How far a dispute has come.
    DisputeStatus {
        /// An inquiry; answer it.
        WarningNeedsResponse = "warning_needs_response",
        /// An inquiry, answered.
        WarningUnderReview = "warning_under_review",
        /// An inquiry that led to nothing.
        WarningClosed = "warning_closed",
        /// Answer it.
        NeedsResponse = "needs_response",
        /// Answered.
        UnderReview = "under_review",
        /// The merchant keeps the money.
        Won = "won",
        /// The customer has the money.
        Lost = "lost",
        /// Settled before it began.
        Prevented = "prevented",
    }
}

/// One dispute.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Dispute {
    /// `du_...` or `dp_...`.
    pub id: String,
    /// How far it has come.
    pub status: DisputeStatus,
    /// Minor units.
    #[serde(rename = "amount")]
    pub amount_minor: i64,
    /// Lowercase code.
    pub currency: String,
    /// The disputed Stripe charge.
    #[serde(default, deserialize_with = "only_id")]
    pub charge: Option<String>,
    /// Its PaymentIntent.
    #[serde(default, deserialize_with = "only_id")]
    pub payment_intent: Option<String>,
    /// What the holder says.
    pub reason: Option<String>,
    /// When it was made.
    #[serde(with = "jiff::fmt::serde::timestamp::second::required")]
    pub created: Timestamp,
    /// Live or test.
    pub livemode: bool,
}

impl Identified for Dispute {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Client {
    /// One dispute.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn retrieve_dispute(&self, id: &str) -> Result<Answer<Dispute>, Error> {
        self.get(RETRIEVE, format!("/v1/disputes/{}", checked_id(id)?)).await
    }

    /// Every dispute of the account made since an instant, newest first, page by page.
    #[must_use]
    pub fn disputes_since(&self, created_from: Timestamp) -> Pages<Dispute> {
        Pages::new(self, LIST, "/v1/disputes", Form::new().instant("created[gte]", Some(created_from)))
    }
}
