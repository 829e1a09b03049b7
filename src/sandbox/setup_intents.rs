//! `SetupIntent`s: saving a card for charges without its holder.

use serde_json::{Value, json};

use super::api::{Answered, Call};
use super::books::SetupIntentRow;
use super::cards::Behaviour;
use super::customers;
use super::errors::ApiError;
use super::intent::Status;
use super::issuer::Decline;
use super::lists::{self, Query};
use super::params::{Metadata, Params};
use super::payment_intents::chosen_card;
use super::payment_methods;
use super::state::{State, in_path};
use super::table::Record;

#[derive(Clone, Debug)]
pub(super) struct SetupIntent {
    pub(super) id: String,
    created: i64,
    pub(super) customer: Option<String>,
    description: Option<String>,
    metadata: Metadata,
    pub(super) payment_method: Option<String>,
    pub(super) status: Status,
    usage: String,
    last_error: Option<Value>,
    next_action: Option<Value>,
    cancellation_reason: Option<String>,
    tried: bool,
    authenticated: bool,
    pub(super) session: Option<String>,
    secret: String,
}

impl Record for SetupIntent {
    const OBJECT: &'static str = "setupintent";

    fn id(&self) -> &str {
        &self.id
    }

    fn created(&self) -> i64 {
        self.created
    }

    fn owners(&self) -> [Option<&str>; 2] {
        [self.customer.as_deref(), self.payment_method.as_deref()]
    }
}

impl SetupIntent {
    pub(super) fn render(&self) -> Value {
        json!({
            "id": self.id, "object": "setup_intent", "application": null, "attach_to_self": false,
            "automatic_payment_methods": null, "cancellation_reason": self.cancellation_reason,
            "client_secret": format!("{}_secret_{}", self.id, self.secret), "created": self.created,
            "customer": self.customer, "customer_account": null, "description": self.description,
            "excluded_payment_method_types": null, "flow_directions": null, "last_setup_error": self.last_error,
            "latest_attempt": self.tried.then(|| attempt_id(&self.id)), "livemode": false, "mandate": null,
            "metadata": self.metadata, "next_action": self.next_action, "on_behalf_of": null,
            "payment_method": self.payment_method, "payment_method_configuration_details": null,
            "payment_method_options":
                { "card": { "mandate_options": null, "network": null, "request_three_d_secure": "automatic" } },
            "payment_method_types": ["card"], "single_use_mandate": null, "status": self.status.name(),
            "usage": self.usage,
        })
    }

    pub(super) fn row(&self) -> SetupIntentRow {
        SetupIntentRow {
            id: self.id.clone(),
            customer: self.customer.clone(),
            payment_method: self.payment_method.clone(),
            status: self.status.name(),
            metadata: self.metadata.clone(),
        }
    }
}

fn attempt_id(intent: &str) -> String {
    intent.replacen("seti_", "setatt_", 1)
}

/// The last attempt of an intent as an object of its own.
pub(super) fn attempt(state: &State, id: &str) -> Option<Value> {
    let intent = state.setup_intents.get(&id.replacen("setatt_", "seti_", 1))?;
    let status = if intent.status == Status::Succeeded { "succeeded" } else { "failed" };
    let three_d_secure = intent.authenticated.then(|| {
        json!({ "authentication_flow": "challenge", "electronic_commerce_indicator": "05", "result": "authenticated",
            "result_reason": null, "transaction_id": "sandbox", "version": "2.2.0" })
    });
    Some(json!({
        "id": id, "object": "setup_attempt", "application": null, "attach_to_self": false, "created": intent.created,
        "customer": intent.customer, "customer_account": null, "flow_directions": null, "livemode": false,
        "on_behalf_of": null, "payment_method": intent.payment_method.as_deref().unwrap_or_default(),
        "payment_method_details": { "type": "card", "card": {
            "brand": null, "checks": null, "country": null, "exp_month": null, "exp_year": null, "fingerprint": null,
            "funding": null, "last4": null, "network": null, "three_d_secure": three_d_secure, "wallet": null } },
        "setup_error": intent.last_error, "setup_intent": intent.id, "status": status, "usage": intent.usage,
    }))
}

/// Makes an intent. `at` is where its parameters stand: nowhere, or `setup_intent_data/` of a Session.
pub(super) fn insert(
    state: &mut State,
    customer: Option<String>,
    params: &Params,
    at: &str,
) -> Result<String, ApiError> {
    let intent = SetupIntent {
        id: state.rng.id("seti_1"),
        created: state.now(),
        customer,
        description: params.owned(&format!("{at}description")),
        metadata: params.metadata(&format!("{at}metadata"))?,
        payment_method: None,
        status: Status::RequiresPaymentMethod,
        usage: params.owned(&format!("{at}usage")).unwrap_or_else(|| "off_session".to_owned()),
        last_error: None,
        next_action: None,
        cancellation_reason: None,
        tried: false,
        authenticated: false,
        session: None,
        secret: state.rng.text(25),
    };
    let id = intent.id.clone();
    let shown = intent.render();
    state.setup_intents.insert(intent);
    state.emit("setup_intent.created", &shown);
    Ok(id)
}

/// Tries to set up the intent's card. Who is on a page can authenticate.
pub(super) fn try_card(state: &mut State, id: &str, authenticated: bool) -> Result<(), ApiError> {
    let intent = in_path(&state.setup_intents, "intent", id)?;
    let Some(card_id) = intent.payment_method.clone() else {
        let message = "You cannot confirm this SetupIntent because it's missing a payment method.";
        return Err(ApiError::unexpected_state("setup_intent", message, intent.render()));
    };
    let customer = intent.customer.clone();
    let kind = in_path(&state.payment_methods, "payment_method", &card_id)?.kind;
    let behaviour = if kind.attaches { kind.on_setup } else { Behaviour::Declines };
    match behaviour {
        Behaviour::Declines | Behaviour::Blocked => return Err(fail(state, id, &kind.decline)),
        Behaviour::Pays => {}
        _ if authenticated => {}
        _ => return ask_holder(state, id),
    }
    if let Some(customer) = &customer {
        payment_methods::attach_to(state, &card_id, customer)?;
    }
    if let Some(card) = state.payment_methods.get_mut(&card_id) {
        card.is_set_up = true;
    }
    if let Some(intent) = state.setup_intents.get_mut(id) {
        intent.status = Status::Succeeded;
        intent.next_action = None;
        intent.last_error = None;
        intent.tried = true;
        intent.authenticated = authenticated;
        let shown = intent.render();
        state.emit("setup_intent.succeeded", &shown);
    }
    state.setup_intents.reindex(id);
    Ok(())
}

fn ask_holder(state: &mut State, id: &str) -> Result<(), ApiError> {
    let url = format!("{}/3ds/{id}", state.options.public_url);
    if let Some(intent) = state.setup_intents.get_mut(id) {
        intent.status = Status::RequiresAction;
        intent.next_action =
            Some(json!({ "type": "redirect_to_url", "redirect_to_url": { "url": url, "return_url": null } }));
        let shown = intent.render();
        state.emit("setup_intent.requires_action", &shown);
    }
    Ok(())
}

fn fail(state: &mut State, id: &str, decline: &Decline) -> ApiError {
    let card = state.setup_intents.get(id).and_then(|intent| intent.payment_method.clone());
    let card = card.and_then(|card| state.render(&card)).unwrap_or_default();
    let mut error = payment_methods::declined(decline).with("payment_method", card.clone());
    let last = json!({
        "type": "card_error", "code": decline.code, "decline_code": decline.decline_code, "message": decline.message,
        "payment_method": card,
    });
    if let Some(intent) = state.setup_intents.get_mut(id) {
        intent.status = Status::RequiresPaymentMethod;
        intent.payment_method = None;
        intent.next_action = None;
        intent.tried = true;
        intent.last_error = Some(last);
        let shown = intent.render();
        error = error.with("setup_intent", shown.clone());
        state.emit("setup_intent.setup_failed", &shown);
    }
    error
}

/// The holder has answered the question of 3-D Secure.
pub(super) fn authenticated(state: &mut State, id: &str, passed: bool) -> Result<(), ApiError> {
    let intent = in_path(&state.setup_intents, "intent", id)?;
    if intent.status != Status::RequiresAction {
        return Err(unexpected(intent, "authenticate"));
    }
    if passed {
        return try_card(state, id, true);
    }
    let mut decline = Decline::of("authentication_required");
    decline.code = "setup_intent_authentication_failure".to_owned();
    decline.message = "Your bank could not authenticate you. Please use another card.".to_owned();
    Err(fail(state, id, &decline))
}

pub(super) fn set_card(state: &mut State, id: &str, card: String) {
    if let Some(intent) = state.setup_intents.get_mut(id) {
        intent.payment_method = Some(card);
        intent.status = Status::RequiresConfirmation;
    }
    state.setup_intents.reindex(id);
}

/// Gives the intent up, because its session has expired.
pub(super) fn cancel_now(state: &mut State, id: &str) {
    let Some(intent) = state.setup_intents.get_mut(id).filter(|intent| intent.status.is_open()) else {
        return;
    };
    intent.status = Status::Canceled;
    intent.next_action = None;
    intent.cancellation_reason = Some("abandoned".to_owned());
    let shown = intent.render();
    state.emit("setup_intent.canceled", &shown);
}

fn unexpected(intent: &SetupIntent, verb: &str) -> ApiError {
    let message =
        format!("You cannot {verb} this SetupIntent because it has a status of {}.", intent.status.name());
    ApiError::unexpected_state("setup_intent", message, intent.render())
}

pub(super) fn create(state: &mut State, call: &Call<'_>) -> Answered {
    let params = call.params;
    let customer = params.owned("customer");
    if let Some(customer) = &customer {
        customers::usable(state, "customer", customer)?;
    }
    let card = chosen_card(state, params, customer.as_deref())?;
    let id = insert(state, customer, params, "")?;
    if let Some(card) = card {
        set_card(state, &id, card);
    }
    if params.is_true("confirm") {
        try_card(state, &id, false)?;
    }
    Ok(in_path(&state.setup_intents, "intent", &id)?.render())
}

pub(super) fn confirm(state: &mut State, call: &Call<'_>) -> Answered {
    let intent = in_path(&state.setup_intents, "intent", call.id)?;
    if !intent.status.is_open() || intent.session.is_some() {
        return Err(unexpected(intent, "confirm"));
    }
    let customer = intent.customer.clone();
    if let Some(card) = chosen_card(state, call.params, customer.as_deref())? {
        set_card(state, call.id, card);
    }
    try_card(state, call.id, false)?;
    Ok(in_path(&state.setup_intents, "intent", call.id)?.render())
}

pub(super) fn retrieve(state: &mut State, call: &Call<'_>) -> Answered {
    Ok(in_path(&state.setup_intents, "intent", call.id)?.render())
}

pub(super) fn list(state: &mut State, call: &Call<'_>) -> Answered {
    let (customer, card) = (call.params.text("customer"), call.params.text("payment_method"));
    let keep = |intent: &SetupIntent| {
        customer.is_none_or(|id| intent.customer.as_deref() == Some(id))
            && card.is_none_or(|id| intent.payment_method.as_deref() == Some(id))
    };
    let query = Query { url: "/v1/setup_intents", owner: customer.or(card) };
    lists::page(&state.setup_intents, call.params, &query, keep, SetupIntent::render)
}
