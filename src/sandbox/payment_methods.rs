//! Cards, and bank accounts that the Checkout page debits, as the API shows them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::api::{Answered, Call};
use super::books::PaymentMethodRow;
use super::cards::{self, CardKind, IDEAL, SEPA_DEBIT};
use super::customers;
use super::errors::ApiError;
use super::ids::hash;
use super::issuer::{Decline, Step};
use super::lists::{self, Query};
use super::params::{Metadata, Params};
use super::state::{State, in_param, in_path};
use super::table::Record;

#[derive(Clone, Debug)]
pub(super) struct PaymentMethod {
    pub(super) id: String,
    pub(super) created: i64,
    pub(super) kind: &'static CardKind,
    pub(super) customer: Option<String>,
    pub(super) brand: String,
    pub(super) last4: String,
    pub(super) exp_month: i64,
    pub(super) exp_year: i64,
    pub(super) fingerprint: String,
    pub(super) billing_details: Arc<Value>,
    pub(super) metadata: Metadata,
    pub(super) allow_redisplay: String,
    /// Detached: never to be used again.
    pub(super) detached: bool,
    /// Authenticated for charges without its holder.
    pub(super) is_set_up: bool,
    /// A script of its own instead of its kind's.
    pub(super) script: Option<Arc<[Step]>>,
    cvc_given: bool,
}

impl Record for PaymentMethod {
    const OBJECT: &'static str = "PaymentMethod";

    fn id(&self) -> &str {
        &self.id
    }

    fn created(&self) -> i64 {
        self.created
    }

    fn owners(&self) -> [Option<&str>; 2] {
        [self.customer.as_deref(), None]
    }
}

impl PaymentMethod {
    pub(super) fn new(id: String, kind: &'static CardKind, now: i64) -> Self {
        let secret = if kind.number.is_empty() { &kind.token } else { &kind.number };
        let digits = kind.number.len().saturating_sub(4);
        // A simulation has more holders than there are test numbers: `_f7` at the end of a seeded id is number 7.
        #[cfg(feature = "simulation")]
        let secret = &format!("{secret} {}", id.rsplit_once("_f").map_or(id.as_str(), |(_, number)| number));
        Self {
            id,
            created: now,
            kind,
            customer: None,
            brand: kind.brand.clone(),
            last4: kind.number.get(digits..).filter(|text| !text.is_empty()).unwrap_or("0000").to_owned(),
            exp_month: 8,
            exp_year: year_of(now) + 4,
            fingerprint: format!("Fp{:014x}", hash([secret]) >> 8),
            billing_details: Arc::new(billing_details(&Value::Null)),
            metadata: Metadata::new(),
            allow_redisplay: "unspecified".to_owned(),
            detached: false,
            is_set_up: false,
            script: None,
            cvc_given: false,
        }
    }

    pub(super) fn render(&self) -> Value {
        let method = self.kind.method();
        let facts = match method {
            SEPA_DEBIT => self.account(&json!({ "generated_from": null })),
            IDEAL => json!({ "bank": "ing", "bic": "INGBNL2A" }),
            _ => self.card(),
        };
        let mut object = json!({
            "id": self.id, "object": "payment_method", "allow_redisplay": self.allow_redisplay,
            "billing_details": *self.billing_details, "created": self.created, "customer": self.customer,
            "customer_account": null, "livemode": false, "metadata": self.metadata, "type": method,
        });
        object[method] = facts;
        object
    }

    /// A bank account, with what stands in this place besides.
    pub(super) fn account(&self, besides: &Value) -> Value {
        let mut account = json!({
            "bank_code": self.kind.number.get(4..12), "branch_code": null, "country": self.kind.country,
            "fingerprint": self.fingerprint, "last4": self.last4,
        });
        for (name, value) in besides.as_object().into_iter().flatten() {
            account[name] = value.clone();
        }
        account
    }

    fn card(&self) -> Value {
        json!({
            "brand": self.brand, "checks": self.checks(), "country": self.kind.country,
            "display_brand": self.brand, "exp_month": self.exp_month, "exp_year": self.exp_year,
            "fingerprint": self.fingerprint, "funding": self.kind.funding, "generated_from": null,
            "last4": self.last4, "networks": { "available": [self.brand], "preferred": null },
            "regulated_status": "unregulated",
            "three_d_secure_usage": { "supported": !self.kind.token.contains("NotSupported") }, "wallet": null,
        })
    }

    pub(super) fn checks(&self) -> Value {
        let result = |fails: bool, given: bool| match (given, fails) {
            (false, _) => Value::Null,
            (true, false) => "pass".into(),
            (true, true) => "fail".into(),
        };
        let effect = self.kind.effect.as_str();
        let address = &self.billing_details["address"];
        json!({
            "address_line1_check": result(matches!(effect, "avs_fails" | "line1_fails"), !address["line1"].is_null()),
            "address_postal_code_check":
                result(matches!(effect, "avs_fails" | "zip_fails"), !address["postal_code"].is_null()),
            "cvc_check": result(effect == "cvc_fails", self.cvc_given),
        })
    }

    pub(super) fn row(&self) -> PaymentMethodRow {
        PaymentMethodRow {
            id: self.id.clone(),
            customer: self.customer.clone(),
            fingerprint: self.fingerprint.clone(),
            last4: self.last4.clone(),
            detached: self.detached,
        }
    }

    pub(super) fn is_expired(&self, now: i64) -> bool {
        let date = jiff::Timestamp::from_second(now).map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date());
        date.is_ok_and(|date| {
            (i64::from(date.year()), i64::from(date.month())) > (self.exp_year, self.exp_month)
        })
    }
}

fn year_of(now: i64) -> i64 {
    let at = jiff::Timestamp::from_second(now).map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).year());
    at.map_or(2026, i64::from)
}

pub(super) fn billing_details(sent: &Value) -> Value {
    let mut address = customers::address(&sent["address"]);
    if address.is_null() {
        address = customers::address(&json!({}));
    }
    json!({
        "address": address, "email": sent["email"], "name": sent["name"], "phone": sent["phone"], "tax_id": null,
    })
}

/// Makes a new card of a kind.
pub(super) fn insert(state: &mut State, kind: &'static CardKind) -> String {
    let id = state.rng.id("pm_1");
    state.payment_methods.insert(PaymentMethod::new(id.clone(), kind, state.now()));
    id
}

/// The card that a parameter names: an id, or a token, which makes a new card.
pub(super) fn resolve(state: &mut State, param: &str, text: &str) -> Result<String, ApiError> {
    if state.payment_methods.get(text).is_some() {
        return Ok(text.to_owned());
    }
    match cards::by_token(text).filter(|_| cards::is_token(text)) {
        Some(kind) => Ok(insert(state, kind)),
        None => Err(ApiError::no_such("PaymentMethod", param, text)),
    }
}

/// A card from `payment_method_data` or from the body of `POST /v1/payment_methods`.
pub(super) fn from_data(state: &mut State, params: &Params, at: &str) -> Result<String, ApiError> {
    let path = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
    match params.text(&path("type")) {
        Some("card") => {}
        Some(_) => return Err(ApiError::param("type", "The sandbox has cards only.")),
        None => return Err(ApiError::missing_param("type")),
    }
    let kind = match (params.text(&path("card/token")), params.text(&path("card/number"))) {
        (Some(token), _) => {
            cards::by_token(token).ok_or_else(|| ApiError::no_such("token", "card[token]", token))?
        }
        (None, Some(number)) => typed_number(state, number)?,
        (None, None) => return Err(ApiError::missing_param("card")),
    };
    let metadata = params.metadata(&path("metadata"))?;
    let id = insert(state, kind);
    if let Some(card) = state.payment_methods.get_mut(&id) {
        card.metadata = metadata;
        card.billing_details = Arc::new(billing_details(params.get(&path("billing_details"))));
        card.allow_redisplay =
            params.owned(&path("allow_redisplay")).unwrap_or_else(|| "unspecified".to_owned());
        card.exp_month = params.int(&path("card/exp_month")).unwrap_or(card.exp_month);
        card.exp_year = params.int(&path("card/exp_year")).unwrap_or(card.exp_year);
        card.cvc_given = params.has(&path("card/cvc"));
    }
    Ok(id)
}

fn typed_number(state: &State, number: &str) -> Result<&'static CardKind, ApiError> {
    if !state.options.raw_cards_allowed {
        let message = "Card numbers in API requests are switched off. Use a token such as \
                       pm_card_visa, or type the number on the Checkout page.";
        return Err(ApiError::new(402, "invalid_request_error", message));
    }
    cards::by_number(number).ok_or_else(|| {
        let message = "Your card was declined. The sandbox takes only the numbers of test cards.";
        ApiError::new(402, "card_error", message)
            .code("card_declined")
            .with("decline_code", "testmode_decline")
    })
}

pub(super) fn create(state: &mut State, call: &Call<'_>) -> Answered {
    if call.params.has("customer") && call.params.has("payment_method") {
        return Err(ApiError::param(
            "payment_method",
            "Cloning cards is for Connect; the sandbox does not do it.",
        ));
    }
    let id = from_data(state, call.params, "")?;
    Ok(in_path(&state.payment_methods, "payment_method", &id)?.render())
}

pub(super) fn retrieve(state: &mut State, call: &Call<'_>) -> Answered {
    if cards::is_token(call.id) && state.payment_methods.get(call.id).is_none() {
        let id = resolve(state, "payment_method", call.id)?;
        return Ok(in_path(&state.payment_methods, "payment_method", &id)?.render());
    }
    Ok(in_path(&state.payment_methods, "payment_method", call.id)?.render())
}

pub(super) fn list(state: &mut State, call: &Call<'_>) -> Answered {
    page(state, call, call.params.text("customer").unwrap_or_default())
}

pub(super) fn list_of_customer(state: &mut State, call: &Call<'_>) -> Answered {
    if in_path(&state.customers, "customer", call.id)?.deleted {
        return Err(ApiError::not_found("customer", "customer", call.id));
    }
    page(state, call, call.id)
}

/// Without a customer the list is empty: cards that belong to nobody are not listed.
fn page(state: &State, call: &Call<'_>, customer: &str) -> Answered {
    let redisplay = call.params.text("allow_redisplay");
    let wanted = call.params.text("type");
    let keep = |card: &PaymentMethod| {
        wanted.is_none_or(|kind| kind == card.kind.method())
            && card.customer.as_deref() == Some(customer)
            && redisplay.is_none_or(|wanted| card.allow_redisplay == wanted)
    };
    let query = Query { url: call.path, owner: Some(customer) };
    lists::page(&state.payment_methods, call.params, &query, keep, PaymentMethod::render)
}

/// Whether a card, or the card a token makes, can be attached to a customer.
pub(super) fn check_attachable(state: &State, text: &str, param: &str) -> Result<(), ApiError> {
    let (kind, detached) = match state.payment_methods.get(text) {
        Some(card) => (card.kind, card.detached),
        None if cards::is_token(text) => {
            let kind =
                cards::by_token(text).ok_or_else(|| ApiError::no_such("PaymentMethod", param, text))?;
            (kind, false)
        }
        None => return Err(ApiError::no_such("PaymentMethod", param, text)),
    };
    if detached {
        let message = "This PaymentMethod was detached, so it can never be used again.";
        return Err(ApiError::invalid(message));
    }
    if kind.attaches { Ok(()) } else { Err(declined(&kind.decline)) }
}

/// A 402 without a charge.
pub(super) fn declined(decline: &Decline) -> ApiError {
    let mut error = ApiError::new(402, "card_error", decline.message.clone())
        .code(&decline.code)
        .with("decline_code", decline.decline_code.clone())
        .kept(true);
    for (name, value) in [("advice_code", &decline.advice_code), ("param", &decline.param)] {
        if let Some(value) = value {
            error = error.with(name, value.clone());
        }
    }
    error
}

/// Attaches a card or a token's new card. The answer names the card that is attached now.
pub(super) fn attach_to(state: &mut State, text: &str, customer: &str) -> Result<String, ApiError> {
    check_attachable(state, text, "payment_method")?;
    let id = resolve(state, "payment_method", text)?;
    let card = in_param(&state.payment_methods, "payment_method", &id)?;
    if let Some(owner) = &card.customer {
        if owner == customer {
            return Ok(id);
        }
        let message = "This PaymentMethod is attached to another customer.";
        return Err(ApiError::invalid(message).code("payment_method_unexpected_state"));
    }
    if let Some(card) = state.payment_methods.get_mut(&id) {
        card.customer = Some(customer.to_owned());
    }
    state.payment_methods.reindex(&id);
    let shown = in_param(&state.payment_methods, "payment_method", &id)?.render();
    state.emit("payment_method.attached", &shown);
    Ok(id)
}

pub(super) fn attach(state: &mut State, call: &Call<'_>) -> Answered {
    let customer = call.params.owned("customer").ok_or_else(|| ApiError::missing_param("customer"))?;
    customers::usable(state, "customer", &customer)?;
    if state.payment_methods.get(call.id).is_none() && !cards::is_token(call.id) {
        return Err(ApiError::not_found("PaymentMethod", "payment_method", call.id));
    }
    let id = attach_to(state, call.id, &customer)?;
    Ok(in_path(&state.payment_methods, "payment_method", &id)?.render())
}

pub(super) fn detach(state: &mut State, call: &Call<'_>) -> Answered {
    let card = in_path(&state.payment_methods, "payment_method", call.id)?;
    if card.customer.is_none() {
        let message = "This PaymentMethod is not attached to a customer.";
        return Err(ApiError::invalid(message));
    }
    detach_quietly(state, call.id);
    Ok(in_path(&state.payment_methods, "payment_method", call.id)?.render())
}

/// Detaches a card if it is attached.
pub(super) fn detach_quietly(state: &mut State, id: &str) {
    let Some(card) = state.payment_methods.get_mut(id) else { return };
    let Some(owner) = card.customer.take() else { return };
    card.detached = true;
    let shown = card.render();
    if let Some(customer) = state.customers.get_mut(&owner)
        && customer.default_payment_method.as_deref() == Some(id)
    {
        customer.default_payment_method = None;
    }
    state.emit_change("payment_method.detached", &shown, Some(json!({ "customer": owner })));
}

/// The network sends a card's new number and date; the id stays.
pub(super) fn update_card(state: &mut State, id: &str) {
    let last4 = format!("{:04}", state.rng.between(0, 9999));
    let Some(card) = state.payment_methods.get_mut(id).filter(|card| !card.detached) else { return };
    let before = card.render();
    card.fingerprint = format!("Fp{:014x}", hash([&card.fingerprint, &last4]) >> 8);
    card.last4 = last4;
    card.exp_year += 3;
    card.script = Some(Arc::from([]));
    let after = card.render();
    state.emit_change(
        "payment_method.automatically_updated",
        &after,
        customers::differences(&before, &after),
    );
}
