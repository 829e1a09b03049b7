//! The endpoints of `PaymentIntent`s. What happens when one is confirmed is in `attempts`.

use super::api::{Answered, Call};
use super::attempts::{self, How};
use super::customers;
use super::errors::ApiError;
use super::intent::{PaymentIntent, Status, cancel_now, insert, unexpected};
use super::lists::{self, Query};
use super::params::Params;
use super::payment_methods;
use super::state::{State, in_path};

pub(super) fn create(state: &mut State, call: &Call<'_>) -> Answered {
    let params = call.params;
    let amount = params.int("amount").ok_or_else(|| ApiError::missing_param("amount"))?;
    let currency =
        params.text("currency").ok_or_else(|| ApiError::missing_param("currency"))?.to_ascii_lowercase();
    super::amounts::check(amount, &currency, "amount")?;
    check_create(state, params)?;
    let customer = params.owned("customer");
    let card = chosen_card(state, params, customer.as_deref())?;
    let confirm = params.is_true("confirm");
    if confirm && let Some(card) = &card {
        attempts::refuse_by_script(state, card)?;
    }
    let id = insert(state, (amount, &currency), customer, params, "")?;
    if let (Some(intent), Some(card)) = (state.payment_intents.get_mut(&id), card) {
        intent.payment_method = Some(card);
        intent.status = Status::RequiresConfirmation;
    }
    if confirm {
        attempts::confirm(state, &id, &How::from_params(params))?;
    }
    Ok(in_path(&state.payment_intents, "intent", &id)?.render())
}

fn check_create(state: &State, params: &Params) -> Result<(), ApiError> {
    let confirm = params.is_true("confirm");
    if let Some(customer) = params.text("customer") {
        customers::usable(state, "customer", customer)?;
    }
    for name in ["off_session", "error_on_requires_action", "mandate", "return_url", "mandate_data"] {
        if params.has(name) && params.get(name).as_bool() != Some(false) && !confirm {
            return Err(ApiError::param(name, format!("You can only set `{name}` when `confirm` is true.")));
        }
    }
    if params.has("statement_descriptor") {
        let message = "The `statement_descriptor` parameter is not supported for cards. Use statement_descriptor_suffix.";
        return Err(ApiError::param("statement_descriptor", message));
    }
    if params.has("automatic_payment_methods") && params.has("payment_method_types") {
        let message =
            "You may only specify one of these parameters: automatic_payment_methods, payment_method_types.";
        return Err(ApiError::invalid(message).code("parameters_exclusive"));
    }
    let only_card = |name: &str| !params.has(name) || params.texts(name).iter().any(|kind| kind == "card");
    if !only_card("payment_method_types") || !only_card("allowed_payment_method_types") {
        return Err(ApiError::param("payment_method_types", "The sandbox has cards only."));
    }
    if confirm && !params.has("payment_method") && !params.has("payment_method_data") {
        let message = "You cannot confirm this PaymentIntent because it's missing a payment method.";
        return Err(ApiError::invalid(message).code("payment_intent_unexpected_state"));
    }
    let may_redirect = params.text("automatic_payment_methods/allow_redirects") != Some("never");
    let chosen = params.has("payment_method_types") || params.has("allowed_payment_method_types");
    if state.options.strict && confirm && !chosen && may_redirect && !params.has("return_url") {
        let message = "Some payment methods that are switched on may redirect the customer, so a `return_url` is needed. \
                       Or send payment_method_types[]=card, or automatic_payment_methods[allow_redirects]=never.";
        return Err(ApiError::invalid(message));
    }
    Ok(())
}

/// The card that the parameters name, checked against the customer.
pub(super) fn chosen_card(
    state: &mut State,
    params: &Params,
    customer: Option<&str>,
) -> Result<Option<String>, ApiError> {
    if params.has("payment_method_data") {
        return payment_methods::from_data(state, params, "payment_method_data").map(Some);
    }
    let Some(text) = params.owned("payment_method") else { return Ok(None) };
    let id = payment_methods::resolve(state, "payment_method", &text)?;
    let card = super::state::in_param(&state.payment_methods, "payment_method", &id)?;
    if card.detached {
        let message =
            "This PaymentMethod was detached, so it can never be charged again. Attach another one.";
        return Err(ApiError::param("payment_method", message));
    }
    match (&card.customer, customer) {
        (Some(owner), Some(customer)) if owner != customer => {
            let message = format!(
                "The customer does not have a payment method with the ID {id}. The payment method must be attached to \
                 the customer."
            );
            Err(ApiError::param("payment_method", message).code("resource_missing"))
        }
        (Some(_), None) => {
            let message = "This PaymentMethod belongs to a customer: send `customer` as well.";
            Err(ApiError::param("payment_method", message))
        }
        _ => Ok(Some(id)),
    }
}

pub(super) fn retrieve(state: &mut State, call: &Call<'_>) -> Answered {
    Ok(in_path(&state.payment_intents, "intent", call.id)?.render())
}

pub(super) fn list(state: &mut State, call: &Call<'_>) -> Answered {
    let customer = call.params.text("customer");
    let keep = |intent: &PaymentIntent| customer.is_none_or(|id| intent.customer.as_deref() == Some(id));
    let query = Query { url: "/v1/payment_intents", owner: customer };
    lists::page(&state.payment_intents, call.params, &query, keep, PaymentIntent::render)
}

pub(super) fn confirm(state: &mut State, call: &Call<'_>) -> Answered {
    let intent = in_path(&state.payment_intents, "intent", call.id)?;
    refuse_session(intent, "confirm")?;
    if !intent.status.is_open() {
        return Err(unexpected(intent, "confirm"));
    }
    let customer = intent.customer.clone();
    if let Some(customer) = &customer {
        customers::usable(state, "customer", customer)?;
    }
    if let Some(card) = chosen_card(state, call.params, customer.as_deref())? {
        attempts::refuse_by_script(state, &card)?;
        if let Some(intent) = state.payment_intents.get_mut(call.id) {
            intent.payment_method = Some(card);
        }
    }
    if let (Some(intent), Some(usage)) =
        (state.payment_intents.get_mut(call.id), call.params.owned("setup_future_usage"))
    {
        intent.setup_future_usage = Some(usage);
    }
    attempts::confirm(state, call.id, &How::from_params(call.params))?;
    Ok(in_path(&state.payment_intents, "intent", call.id)?.render())
}

fn refuse_session(intent: &PaymentIntent, verb: &str) -> Result<(), ApiError> {
    if intent.session.is_none() {
        return Ok(());
    }
    let message = format!(
        "You cannot {verb} this PaymentIntent because it belongs to a Checkout Session. Expire the session instead."
    );
    Err(ApiError::unexpected_state("payment_intent", message, intent.render()))
}

pub(super) fn cancel(state: &mut State, call: &Call<'_>) -> Answered {
    let intent = in_path(&state.payment_intents, "intent", call.id)?;
    refuse_session(intent, "cancel")?;
    if !intent.status.is_open() && intent.status != Status::RequiresCapture {
        return Err(unexpected(intent, "cancel"));
    }
    cancel_now(state, call.id, call.params.owned("cancellation_reason"));
    Ok(in_path(&state.payment_intents, "intent", call.id)?.render())
}

pub(super) fn update(state: &mut State, call: &Call<'_>) -> Answered {
    let params = call.params;
    let mut intent = in_path(&state.payment_intents, "intent", call.id)?.clone();
    let frozen = ["amount", "currency", "customer", "payment_method", "payment_method_data"];
    if !intent.status.is_open() && frozen.iter().any(|name| params.has(name)) {
        return Err(unexpected(&intent, "update"));
    }
    if let Some(amount) = params.int("amount") {
        intent.amount = amount;
    }
    if let Some(currency) = params.text("currency") {
        intent.currency = currency.to_ascii_lowercase();
    }
    super::amounts::check(intent.amount, &intent.currency, "amount")?;
    if let Some(customer) = params.text("customer") {
        customers::usable(state, "customer", customer)?;
        intent.customer = Some(customer.to_owned());
    }
    if let Some(card) = chosen_card(state, params, intent.customer.as_deref())? {
        intent.payment_method = Some(card);
        intent.status = Status::RequiresConfirmation;
    }
    params.update("description", &mut intent.description);
    params.update("receipt_email", &mut intent.receipt_email);
    params.update("setup_future_usage", &mut intent.setup_future_usage);
    params.update("statement_descriptor_suffix", &mut intent.suffix);
    params.merge_metadata("metadata", &mut intent.metadata)?;
    intent.last_payment_error = None;
    let shown = intent.render();
    if let Some(row) = state.payment_intents.get_mut(call.id) {
        *row = intent;
    }
    state.payment_intents.reindex(call.id);
    Ok(shown)
}
