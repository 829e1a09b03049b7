//! Checkout Sessions: Stripe's page, where a customer saves a card or pays by hand.
//! <https://docs.stripe.com/api/checkout/sessions>

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use super::client::{Answer, Client, Endpoint};
use super::error::Error;
use super::fields::{Expandable, Identified, Metadata, Private, null_as_default, only_id, open_enum};
use super::form::{Form, checked_id};
use super::pages::Pages;
use super::payment_intents::PaymentIntent;
use super::setup_intents::SetupIntent;
use crate::billing::money::Money;

const CREATE: Endpoint = Endpoint("POST /v1/checkout/sessions");
const EXPIRE: Endpoint = Endpoint("POST /v1/checkout/sessions/{id}/expire");
const RETRIEVE: Endpoint = Endpoint("GET /v1/checkout/sessions/{id}");
const LIST: Endpoint = Endpoint("GET /v1/checkout/sessions");
/// The text above the page's button.
const SUBMIT_MESSAGE: &str = "custom_text[submit][message]";

open_enum! {
    /// Whether the page still works.
    SessionStatus {
        /// The customer can pay or save a card.
        Open = "open",
        /// The customer is through. Whether it was *paid* is said by [`PaymentStatus`].
        Complete = "complete",
        /// Dead.
        Expired = "expired",
    }
}

open_enum! {
    /// Whether money came.
    PaymentStatus {
        /// Yes.
        Paid = "paid",
        /// No, or not yet.
        Unpaid = "unpaid",
        /// Nothing to pay: always so in setup mode.
        NoPaymentRequired = "no_payment_required",
    }
}

open_enum! {
    /// What the page is for.
    SessionMode {
        /// Paying once.
        Payment = "payment",
        /// Saving a card.
        Setup = "setup",
        /// Stripe's own subscriptions; not ours.
        Subscription = "subscription",
    }
}

/// One hosted page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CheckoutSession {
    /// `cs_...`.
    pub id: String,
    /// Whether it still works; `None` on very old sessions.
    pub status: Option<SessionStatus>,
    /// Whether money came.
    pub payment_status: PaymentStatus,
    /// What it is for.
    pub mode: SessionMode,
    /// The page, while open. Whoever holds it can pay, so no log shows it.
    pub url: Option<Private>,
    /// Minor units, all items together.
    #[serde(rename = "amount_total")]
    pub amount_total_minor: Option<i64>,
    /// Lowercase code.
    pub currency: Option<String>,
    /// Who pays.
    #[serde(default, deserialize_with = "only_id")]
    pub customer: Option<String>,
    /// The PaymentIntent of its own it collects with; `None` until the customer confirms.
    pub payment_intent: Option<Expandable<PaymentIntent>>,
    /// Setup mode: how saving the card went.
    pub setup_intent: Option<Expandable<SetupIntent>>,
    /// Own ids. Not copied to the intents.
    #[serde(default, deserialize_with = "null_as_default")]
    pub metadata: Metadata,
    /// Our reference, as it was sent.
    pub client_reference_id: Option<String>,
    /// What the customer ticked.
    pub consent: Option<Consent>,
    /// The language the page was asked to show.
    pub locale: Option<String>,
    /// When it was made.
    #[serde(with = "jiff::fmt::serde::timestamp::second::required")]
    pub created: Timestamp,
    /// When it dies by itself.
    #[serde(with = "jiff::fmt::serde::timestamp::second::required")]
    pub expires_at: Timestamp,
    /// Live or test.
    pub livemode: bool,
}

impl Identified for CheckoutSession {
    fn id(&self) -> &str {
        &self.id
    }
}

impl CheckoutSession {
    /// What the page asks for; `None` in setup mode or in a currency outside our table.
    #[must_use]
    pub fn amount_total(&self) -> Option<Money> {
        Money::from_minor(self.amount_total_minor?, self.currency.as_deref()?.parse().ok()?).ok()
    }
}

/// What the customer ticked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Consent {
    /// `accepted`, if a box was asked for and ticked.
    pub terms_of_service: Option<String>,
}

/// What both kinds of page have.
#[derive(Debug, Clone, Copy)]
pub struct SessionPage<'a> {
    /// `cus_...`: never left out, or the payment belongs to nobody.
    pub customer: &'a str,
    /// Where the customer returns. May hold the literal text `{CHECKOUT_SESSION_ID}`.
    pub success_url: &'a str,
    /// Where the back button leads; going back does not end the session.
    pub cancel_url: Option<&'a str>,
    /// The customer's language tag; the browser's language if left out, or if Stripe's page does not speak it.
    pub locale: Option<&'a str>,
    /// 30 minutes to 24 hours from now; 24 hours if left out.
    pub expires_at: Option<Timestamp>,
    /// Stands above the button: what the customer agrees to. Up to 1,200 characters.
    pub submit_message: Option<&'a str>,
    /// Own ids, in a fixed order; on the session and on its intent. No personal data.
    pub metadata: &'a [(&'a str, &'a str)],
}

impl SessionPage<'_> {
    /// `others`: methods besides the card.
    fn form(&self, mode: &str, others: &[&str]) -> Form {
        Form::new()
            .text("mode", mode)
            .text("customer", self.customer)
            // Named, so that a method switched on in the Dashboard cannot bring in payments that settle days later.
            .text("payment_method_types[]", "card")
            .texts("payment_method_types[]", others)
            .text("wallet_options[link][display]", "never")
            .text("success_url", self.success_url)
            .maybe("cancel_url", self.cancel_url)
            .maybe("locale", self.locale.and_then(page_locale))
            // What Checkout would write by itself is not documented. Cards saved here are charged by the merchant and offered
            // again on the merchant's own pages, to which their holder agreed; nowhere else.
            .text("payment_method_data[allow_redisplay]", "limited")
            .instant("expires_at", self.expires_at)
            .maybe(SUBMIT_MESSAGE, self.submit_message)
            .metadata("metadata", self.metadata)
    }
}

/// The languages of Stripe's page. <https://docs.stripe.com/api/checkout/sessions/create#create_checkout_session-locale>
const LOCALES: [&str; 41] = [
    "bg", "cs", "da", "de", "el", "en", "en-GB", "es", "es-419", "et", "fi", "fil", "fr", "fr-CA", "hr",
    "hu", "id", "it", "ja", "ko", "lt", "lv", "ms", "mt", "nb", "nl", "pl", "pt", "pt-BR", "ro", "ru", "sk",
    "sl", "sv", "th", "tr", "vi", "zh", "zh-HK", "zh-TW", "auto",
];

/// The language of Stripe's page that is nearest to a language tag (`de-AT`: `de`); `None`: it has none like it.
#[must_use]
pub fn page_locale(tag: &str) -> Option<&'static str> {
    let tag = tag.replace('_', "-");
    let language = tag.split('-').next().unwrap_or_default();
    let wanted = |name: &str| LOCALES.into_iter().find(|one| one.eq_ignore_ascii_case(name));
    wanted(&tag).or_else(|| wanted(language))
}

/// The body of a page that saves a card for charges without its holder.
///
/// <https://docs.stripe.com/payments/save-and-reuse>
#[derive(Debug, Clone, Copy)]
pub struct CreateSetupSession<'a> {
    /// What both kinds of page have.
    pub page: SessionPage<'a>,
    /// Ask for a tick at the merchant's terms; needs their URL in Stripe's settings.
    pub terms_required: bool,
}

impl CreateSetupSession<'_> {
    /// The form-encoded body: the same input always gives the same bytes.
    #[must_use]
    pub fn encode(&self) -> String {
        let terms = self.terms_required.then_some("required");
        self.page
            .form("setup", &[])
            .maybe("consent_collection[terms_of_service]", terms)
            .metadata("setup_intent_data[metadata]", self.page.metadata)
            .encode()
    }
}

/// What stood above the button of a page, from the body that made it.
#[must_use]
pub fn submit_message(body: &str) -> Option<String> {
    let mut fields = form_urlencoded::parse(body.as_bytes());
    fields.find_map(|(name, text)| (name == SUBMIT_MESSAGE).then(|| text.into_owned()))
}

/// The body of a page that collects one exact amount by hand and saves the card used for the next periods.
///
/// Recovery of expired sessions is never asked for: a link must not come back to life behind our back.
#[derive(Debug, Clone, Copy)]
pub struct CreatePaymentSession<'a> {
    /// What both kinds of page have.
    pub page: SessionPage<'a>,
    /// Methods besides the card, in Stripe's spelling; what pays with them is not saved.
    pub other_methods: &'a [&'a str],
    /// The whole amount.
    pub amount: Money,
    /// What it is for, as the customer reads it.
    pub product_name: &'a str,
    /// For the merchant and on receipts; up to 1,000 characters.
    pub description: Option<&'a str>,
    /// Joined to the account's own descriptor on the card statement.
    pub statement_descriptor_suffix: Option<&'a str>,
}

impl CreatePaymentSession<'_> {
    /// The form-encoded body: the same input always gives the same bytes.
    #[must_use]
    pub fn encode(&self) -> String {
        let suffix = "payment_intent_data[statement_descriptor_suffix]";
        self.page
            .form("payment", self.other_methods)
            .number("line_items[0][quantity]", 1)
            .text("line_items[0][price_data][currency]", self.amount.currency().code())
            .number("line_items[0][price_data][unit_amount]", self.amount.minor())
            .text("line_items[0][price_data][product_data][name]", self.product_name)
            // Of cards alone: another method pays this once.
            .text("payment_method_options[card][setup_future_usage]", "off_session")
            .maybe("payment_intent_data[description]", self.description)
            .maybe(suffix, self.statement_descriptor_suffix)
            .metadata("payment_intent_data[metadata]", self.page.metadata)
            // A card saved by setup mode is `limited` or `unspecified`: without these the page would not offer it.
            .text("saved_payment_method_options[allow_redisplay_filters][]", "always")
            .text("saved_payment_method_options[allow_redisplay_filters][]", "limited")
            .text("saved_payment_method_options[allow_redisplay_filters][]", "unspecified")
            .encode()
    }
}

impl Client {
    /// Sends a stored [`CreateSetupSession`] or [`CreatePaymentSession`].
    ///
    /// # Errors
    /// Those of a POST.
    pub async fn create_checkout_session(
        &self,
        body: impl Into<Bytes>,
        key: &str,
    ) -> Result<Answer<CheckoutSession>, Error> {
        self.post(CREATE, "/v1/checkout/sessions".to_owned(), body.into(), key).await
    }

    /// Ends an open session.
    ///
    /// # Errors
    /// Those of a POST. Rejected when it is not open any more: read it, it may be paid. After any other error it
    /// may still be open.
    pub async fn expire_checkout_session(
        &self,
        id: &str,
        key: &str,
    ) -> Result<Answer<CheckoutSession>, Error> {
        let path = format!("/v1/checkout/sessions/{}/expire", checked_id(id)?);
        self.post(EXPIRE, path, Bytes::new(), key).await
    }

    /// Reads one session with everything that hangs on it: the saved card, or the payment and its charge.
    ///
    /// # Errors
    /// Those of a GET.
    pub async fn retrieve_checkout_session(&self, id: &str) -> Result<Answer<CheckoutSession>, Error> {
        let path = format!(
            "/v1/checkout/sessions/{}?expand[]=setup_intent.payment_method\
             &expand[]=payment_intent.latest_charge&expand[]=payment_intent.payment_method",
            checked_id(id)?
        );
        self.get(RETRIEVE, path).await
    }

    /// Every session of a customer made since an instant, newest first.
    ///
    /// # Errors
    /// Those of a list: never a part of it.
    pub async fn list_checkout_sessions(
        &self,
        customer: &str,
        created_from: Timestamp,
    ) -> Result<Vec<CheckoutSession>, Error> {
        self.pages_of_sessions(Form::new().text("customer", customer), created_from).all().await
    }

    /// Every session of the account made since an instant, newest first, page by page.
    #[must_use]
    pub fn checkout_sessions_since(&self, created_from: Timestamp) -> Pages<CheckoutSession> {
        self.pages_of_sessions(Form::new(), created_from)
    }

    fn pages_of_sessions(&self, filter: Form, created_from: Timestamp) -> Pages<CheckoutSession> {
        Pages::new(self, LIST, "/v1/checkout/sessions", filter.instant("created[gte]", Some(created_from)))
    }
}
