//! Confirming a `PaymentIntent`: the bank is asked, a charge is made, money moves or not.

use serde_json::{Value, json};

use super::charges::{self, Settled};
use super::errors::ApiError;
use super::faults::{Effect, millis};
use super::intent::{Status, cancel_now, unexpected};
use super::issuer::{self, Attempt, Decline, Verdict};
use super::params::Params;
use super::payment_methods;
use super::state::{Job, State, in_path};

/// How a confirmation is meant.
#[derive(Clone, Debug, Default)]
pub(super) struct How {
    /// The holder is not there.
    pub(super) off_session: bool,
    /// The holder has just passed 3-D Secure.
    pub(super) authenticated: bool,
    /// A demand for authentication is an error.
    error_on_action: bool,
    return_url: Option<String>,
    /// 3-D Secure was asked for by the caller.
    asks_three_d_secure: bool,
}

impl How {
    pub(super) fn from_params(params: &Params) -> Self {
        let off_session = params.get("off_session");
        let wish = params.text("payment_method_options/card/request_three_d_secure");
        Self {
            off_session: off_session.as_bool() == Some(true) || off_session.is_string(),
            authenticated: false,
            error_on_action: params.is_true("error_on_requires_action"),
            return_url: params.owned("return_url"),
            asks_three_d_secure: matches!(wish, Some("any" | "challenge")),
        }
    }

    /// On a page, with the holder.
    pub(super) fn on_page(authenticated: bool) -> Self {
        Self { authenticated, ..Self::default() }
    }
}

/// A card whose script says "500, not executed" or "later": the answer comes before anything has changed.
pub(super) fn refuse_by_script(state: &mut State, card: &str) -> Result<(), ApiError> {
    let Some(card) = state.payment_methods.get(card) else { return Ok(()) };
    let place = (card.customer.clone().unwrap_or_default(), card.fingerprint.clone());
    let number = state.attempts.get(&place).copied().unwrap_or_default() + 1;
    let effect = issuer::step(card, number).and_then(|step| step.effect.clone());
    let Some(effect) = effect.filter(Effect::prevents) else { return Ok(()) };
    state.attempts.insert(place, number);
    state.call.effect = Some(effect);
    Err(ApiError::server_error().kept(false))
}

/// Confirms an intent that has a card. A decline is an error that carries the intent.
pub(super) fn confirm(state: &mut State, id: &str, how: &How) -> Result<(), ApiError> {
    let intent = in_path(&state.payment_intents, "intent", id)?;
    let Some(card) = intent.payment_method.clone() else {
        let message = "You cannot confirm this PaymentIntent because it's missing a payment method. Send payment_method.";
        return Err(ApiError::unexpected_state("payment_intent", message, intent.render()));
    };
    if let Some(other) = method(state, id).filter(|method| !intent.methods.iter().any(|one| one == method)) {
        let message = format!("The payment method type {other} is not allowed on this PaymentIntent.");
        return Err(ApiError::param("payment_method", message));
    }
    if intent.confirms >= intent.confirms_max {
        return too_often(state, id);
    }
    if let Some(intent) = state.payment_intents.get_mut(id) {
        intent.confirms += 1;
        intent.last_payment_error = None;
    }
    let verdict = ask(state, id, &card, how);
    settle(state, id, verdict, how)
}

/// Above the limit of confirms the intent dies. Whether the call that does it answers 200 or 400 is not known.
fn too_often(state: &mut State, id: &str) -> Result<(), ApiError> {
    cancel_now(state, id, None);
    if state.rng.percent(50) {
        return Ok(());
    }
    Err(unexpected(in_path(&state.payment_intents, "intent", id)?, "confirm"))
}

/// Asks the bank, and counts that it was asked.
fn ask(state: &mut State, id: &str, card_id: &str, how: &How) -> Verdict {
    let (Some(intent), Some(card)) = (state.payment_intents.get(id), state.payment_methods.get(card_id))
    else {
        return Verdict::Decline(Decline::of("processing_error"));
    };
    let place = (card.customer.clone().unwrap_or_default(), card.fingerprint.clone());
    let number = state.attempts.get(&place).copied().unwrap_or_default() + 1;
    let attempt = Attempt {
        payment_method: card_id,
        customer: intent.customer.as_deref(),
        fingerprint: &card.fingerprint,
        brand: &card.brand,
        amount: intent.amount,
        currency: &intent.currency,
        on_session: !how.off_session,
        authenticated: how.authenticated,
        number,
        now: state.now_ms.div_euclid(1000),
        payment_intent: id,
        metadata: &intent.metadata,
    };
    let mut verdict = issuer::decide(state.options.issuer.as_ref(), card, &attempt);
    if how.asks_three_d_secure && !how.off_session && verdict == Verdict::Approve {
        verdict = Verdict::Authenticate;
    }
    if verdict == Verdict::Authenticate && !how.off_session {
        return verdict;
    }
    let step = issuer::step(card, number).cloned();
    state.attempts.insert(place, number);
    if let Some(step) = step {
        state.call.effect = step.effect;
        if step.updates {
            state.schedule(60_000, Job::UpdateCard { payment_method: card_id.to_owned() });
        }
        if step.detaches {
            state.schedule(60_000, Job::Detach { payment_method: card_id.to_owned() });
        }
    }
    verdict
}

fn settle(state: &mut State, id: &str, verdict: Verdict, how: &How) -> Result<(), ApiError> {
    match verdict {
        Verdict::Approve => succeed(state, id, how),
        Verdict::Decline(decline) => Err(fail(state, id, &decline, how)),
        Verdict::Authenticate if how.off_session => {
            Err(fail(state, id, &Decline::of("authentication_required"), how))
        }
        Verdict::Authenticate if how.error_on_action => {
            Err(fail(state, id, &Decline::of("authentication_not_handled"), how))
        }
        Verdict::Authenticate => ask_holder(state, id, how),
        Verdict::Processing { after, then } => {
            let until = state.now() + millis(after) / 1000;
            let charge = charges::insert(state, id, &Settled::Pending, !how.off_session);
            let is_card = method(state, id) == Some("card");
            if let Some(intent) = state.payment_intents.get_mut(id) {
                intent.status = Status::Processing;
                intent.processing_until = is_card.then_some(until);
                intent.latest_charge = Some(charge);
                let shown = intent.clone();
                state.emit("payment_intent.processing", &shown);
            }
            state.schedule(millis(after), Job::Finish { payment_intent: id.to_owned(), verdict: *then });
            Ok(())
        }
    }
}

fn succeed(state: &mut State, id: &str, how: &How) -> Result<(), ApiError> {
    let charge = charges::insert(state, id, &Settled::Succeeded, !how.off_session);
    pay(state, id, charge, how.authenticated);
    Ok(())
}

/// Money has moved.
fn pay(state: &mut State, id: &str, charge: String, authenticated: bool) {
    let Some(intent) = state.payment_intents.get_mut(id) else { return };
    let manual = intent.capture_method == "manual";
    intent.latest_charge = Some(charge);
    intent.next_action = None;
    intent.processing_until = None;
    intent.last_payment_error = None;
    intent.status = if manual { Status::RequiresCapture } else { Status::Succeeded };
    intent.amount_received = if manual { 0 } else { intent.amount };
    let (card, customer) = (intent.payment_method.clone(), intent.customer.clone());
    if let (Some(card), Some(customer), Some(method)) = (card, customer, method(state, id))
        && state.payment_intents.get(id).is_some_and(|intent| intent.saves(method))
    {
        save_card(state, &card, &customer, authenticated);
    }
    if let Some(shown) = state.payment_intents.get(id).cloned() {
        let kind =
            if manual { "payment_intent.amount_capturable_updated" } else { "payment_intent.succeeded" };
        state.emit(kind, &shown);
    }
}

/// What an intent is being paid with: `card`, or a debit.
fn method(state: &State, intent: &str) -> Option<&'static str> {
    let given = state.payment_intents.get(intent)?.payment_method.as_deref()?;
    state.payment_methods.get(given).map(|given| given.kind.method())
}

/// The payment also saves its card. A card that cannot be attached stays unsaved; the payment stands.
fn save_card(state: &mut State, card: &str, customer: &str, authenticated: bool) {
    let attached = payment_methods::attach_to(state, card, customer).is_ok();
    if let Some(card) = state.payment_methods.get_mut(card).filter(|_| attached) {
        card.is_set_up |= authenticated;
    }
}

fn ask_holder(state: &mut State, id: &str, how: &How) -> Result<(), ApiError> {
    let url = format!("{}/3ds/{id}", state.options.public_url);
    let intent = in_path(&state.payment_intents, "intent", id)?;
    let action = match &how.return_url {
        None if intent.session.is_none() => json!({ "type": "use_stripe_sdk", "use_stripe_sdk": {} }),
        back => json!({ "type": "redirect_to_url", "redirect_to_url": { "url": url, "return_url": back } }),
    };
    if let Some(intent) = state.payment_intents.get_mut(id) {
        intent.status = Status::RequiresAction;
        intent.next_action = Some(action);
        let shown = intent.clone();
        state.emit("payment_intent.requires_action", &shown);
    }
    Ok(())
}

/// The attempt failed: a failed charge, an open intent without a card, and the 402.
fn fail(state: &mut State, id: &str, decline: &Decline, how: &How) -> ApiError {
    let charge = charges::insert(state, id, &Settled::Failed(decline.clone()), !how.off_session);
    fail_with(state, id, decline, Some(charge))
}

fn fail_with(state: &mut State, id: &str, decline: &Decline, charge: Option<String>) -> ApiError {
    let card = state.payment_intents.get(id).and_then(|intent| intent.payment_method.clone());
    let card = card.and_then(|card| state.render(&card));
    let error = error_of(decline, charge.as_deref(), card);
    let Some(intent) = state.payment_intents.get_mut(id) else { return ApiError::server_error() };
    intent.status = Status::RequiresPaymentMethod;
    intent.payment_method = None;
    intent.next_action = None;
    intent.processing_until = None;
    intent.latest_charge = charge.or(intent.latest_charge.take());
    intent.last_payment_error = Some(error.clone());
    let (failed, shown) = (intent.clone(), intent.render());
    state.emit("payment_intent.payment_failed", &failed);
    let mut answer = ApiError::new(402, "card_error", decline.message.clone()).kept(true);
    for (name, value) in error.as_object().into_iter().flatten() {
        answer = answer.with(name, value.clone());
    }
    answer.with("payment_intent", shown)
}

/// A decline as an error body, without the intent.
fn error_of(decline: &Decline, charge: Option<&str>, card: Option<Value>) -> Value {
    let url = format!("https://docs.stripe.com/error-codes#{}", decline.code.replace('_', "-"));
    let mut error = json!({
        "type": "card_error", "code": decline.code, "decline_code": decline.decline_code,
        "message": decline.message, "doc_url": url,
    });
    let is_mastercard = card.as_ref().is_some_and(|card| card["card"]["brand"] == "mastercard");
    let advice = decline.network_advice_code.as_ref().filter(|_| is_mastercard).cloned();
    let optional = [
        ("advice_code", decline.advice_code.clone()),
        ("network_decline_code", decline.network_decline_code.clone()),
        ("network_advice_code", advice),
        ("param", decline.param.clone()),
        ("charge", charge.map(str::to_owned)),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            error[name] = value.into();
        }
    }
    if let Some(card) = card {
        error["payment_method"] = card;
    }
    error
}

/// The holder has answered the question of 3-D Secure.
pub(super) fn authenticated(state: &mut State, id: &str, passed: bool) -> Result<(), ApiError> {
    let intent = in_path(&state.payment_intents, "intent", id)?;
    if intent.status != Status::RequiresAction {
        return Err(unexpected(intent, "authenticate"));
    }
    if !passed {
        let mut decline = Decline::of("authentication_required");
        decline.code = "payment_intent_authentication_failure".to_owned();
        decline.message = match method(state, id) {
            Some("card") => "Your bank could not authenticate you. Please use another card.",
            _ => "Your bank did not authorise the payment. Please choose another way to pay.",
        }
        .to_owned();
        return Err(fail_with(state, id, &decline, None));
    }
    let Some(card) = intent.payment_method.clone() else { return Err(ApiError::server_error()) };
    let how = How::on_page(true);
    let verdict = ask(state, id, &card, &how);
    settle(state, id, verdict, &how)
}

/// The delayed answer of a processing charge has come.
pub(super) fn finish_processing(state: &mut State, id: &str, verdict: Verdict) {
    let Some(intent) = state.payment_intents.get(id).filter(|intent| intent.status == Status::Processing)
    else {
        return;
    };
    let Some(charge) = intent.latest_charge.clone() else { return };
    let decline = match verdict {
        Verdict::Approve => None,
        Verdict::Decline(decline) => Some(decline),
        // Nobody is there any more to authenticate, and nothing waits twice.
        Verdict::Authenticate => Some(Decline::of("authentication_required")),
        Verdict::Processing { .. } => Some(Decline::of("processing_error")),
    };
    if let Some(decline) = decline {
        charges::finish(state, &charge, &Settled::Failed(decline.clone()));
        fail_with(state, id, &decline, Some(charge));
    } else {
        charges::finish(state, &charge, &Settled::Succeeded);
        pay(state, id, charge, false);
    }
    super::checkout_pay::after_processing(state, id);
}
