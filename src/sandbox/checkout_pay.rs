//! What a person does on the Checkout page: give a card, authenticate, finish.

use std::sync::Arc;

use serde_json::json;

use super::attempts::{self, How};
use super::cards::{self, CardKind};
use super::checkout::details_of;
use super::customers;
use super::errors::ApiError;
use super::intent::{self, Status};
use super::params::Params;
use super::payment_methods;
use super::session::{Mode, Progress};
use super::setup_intents;
use super::state::{State, in_path};

/// What a person typed or chose.
#[derive(Clone, Debug, Default)]
pub struct CardEntry {
    /// A test card's number, a token such as `pm_card_visa`, the id of a saved card, an IBAN of the sandbox's, or `pm_sandbox_ideal`.
    pub card: String,
    /// Such as `12/34`; left out, a date in the future.
    pub expiry: Option<String>,
    /// Left out, a good one.
    pub cvc: Option<String>,
    /// For receipts, and for a customer made by the session.
    pub email: Option<String>,
    /// As on the card.
    pub name: Option<String>,
    /// Whether the terms box was ticked.
    pub terms_accepted: bool,
    /// Whether the box "save my card" was ticked.
    pub save: bool,
}

/// Where the page goes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageStep {
    /// Finished: to the merchant.
    Done {
        /// The merchant's page with the session's id in it.
        success_url: String,
    },
    /// 3-D Secure asks the holder, or the bank whether to pay by iDEAL.
    Authenticate,
    /// The card was refused; the session stays open.
    Refused {
        /// For the customer.
        message: String,
    },
}

/// Gives a card to an open session.
pub(super) fn submit(state: &mut State, id: &str, entry: &CardEntry) -> Result<PageStep, ApiError> {
    let session = in_path(&state.sessions, "session", id)?;
    if session.progress != Progress::Open {
        return Err(ApiError::invalid("This Checkout Session is no longer open."));
    }
    if session.params.text("consent_collection/terms_of_service") == Some("required") && !entry.terms_accepted
    {
        return Ok(PageStep::Refused { message: "Please agree to the terms first.".to_owned() });
    }
    let card = match choose(state, id, entry) {
        Ok(card) => card,
        Err(message) => return Ok(PageStep::Refused { message }),
    };
    make_customer(state, id, entry)?;
    let tried = match in_path(&state.sessions, "session", id)?.mode {
        Mode::Setup => set_up(state, id, card),
        Mode::Payment => pay(state, id, card, entry),
    };
    after_try(state, id, tried)
}

/// The holder answers 3-D Secure, or the bank.
pub(super) fn authenticate(state: &mut State, id: &str, passed: bool) -> Result<PageStep, ApiError> {
    let session = in_path(&state.sessions, "session", id)?;
    if session.progress != Progress::Open {
        return Err(ApiError::invalid("This Checkout Session is no longer open."));
    }
    let tried = match (session.payment_intent.clone(), session.setup_intent.clone()) {
        (Some(intent), _) => attempts::authenticated(state, &intent, passed),
        (None, Some(intent)) => setup_intents::authenticated(state, &intent, passed),
        (None, None) => return Err(ApiError::invalid("Nothing asks for authentication.")),
    };
    after_try(state, id, tried)
}

/// Whether the customer is to authorise the payment on a page of the bank.
pub(super) fn is_at_bank(state: &State, id: &str) -> bool {
    let intent = state.sessions.get(id).and_then(|session| session.payment_intent.as_deref());
    let given = intent.and_then(|intent| state.payment_intents.get(intent)?.payment_method.as_deref());
    given
        .and_then(|given| state.payment_methods.get(given))
        .is_some_and(|one| one.kind.method() == cards::IDEAL)
}

fn after_try(state: &mut State, id: &str, tried: Result<(), ApiError>) -> Result<PageStep, ApiError> {
    if let Err(error) = tried {
        if error.status != 402 {
            return Err(error);
        }
        return Ok(PageStep::Refused { message: error.message().to_owned() });
    }
    match intent_status(state, id) {
        Some(Status::RequiresAction) => Ok(PageStep::Authenticate),
        Some(Status::Succeeded | Status::RequiresCapture) => complete(state, id, true),
        Some(Status::Processing) => complete(state, id, false),
        _ => Err(ApiError::invalid("This Checkout Session is no longer open.")),
    }
}

fn intent_status(state: &State, id: &str) -> Option<Status> {
    let session = state.sessions.get(id)?;
    let payment = session.payment_intent.as_deref().and_then(|id| state.payment_intents.get(id));
    let setup = session.setup_intent.as_deref().and_then(|id| state.setup_intents.get(id));
    payment.map(|intent| intent.status).or(setup.map(|intent| intent.status))
}

/// The card that the entry means: a saved one, a token's, or a new one by its number.
fn choose(state: &mut State, session: &str, entry: &CardEntry) -> Result<String, String> {
    let text: String = entry.card.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    let customer = state.sessions.get(session).and_then(|session| session.customer.clone());
    if let Some(card) = state.payment_methods.get(&text) {
        let theirs = card.customer.is_some() && card.customer == customer;
        return if theirs { Ok(text) } else { Err("This saved card belongs to somebody else.".to_owned()) };
    }
    let kind = kind_of(&text)?;
    if !state.sessions.get(session).is_some_and(|one| one.methods().iter().any(|one| one == kind.method())) {
        return Err("This page does not take that.".to_owned());
    }
    let expiry = read_expiry(entry, state.now())?;
    if entry.cvc.as_ref().is_some_and(|cvc| !matches!(cvc.len(), 0 | 3 | 4)) {
        return Err("Your card's security code is incomplete.".to_owned());
    }
    let params = state.sessions.get(session).map(|session| Arc::clone(&session.params));
    let redisplay = params.and_then(|params| params.owned("payment_method_data/allow_redisplay"));
    let id = payment_methods::insert(state, kind);
    if let Some(card) = state.payment_methods.get_mut(&id) {
        (card.exp_month, card.exp_year) = expiry.unwrap_or((card.exp_month, card.exp_year));
        let asked = redisplay.unwrap_or_else(|| "limited".to_owned());
        card.allow_redisplay = if entry.save { "always".to_owned() } else { asked };
        let details = payment_methods::billing_details(&json!({ "email": entry.email, "name": entry.name }));
        card.billing_details = Arc::new(details);
    }
    Ok(id)
}

fn kind_of(text: &str) -> Result<&'static CardKind, String> {
    if let Some(kind) = cards::by_token(text) {
        return Ok(kind);
    }
    if cards::passes_97(text) {
        let account = cards::by_number(text);
        return account.ok_or_else(|| "This is a sandbox: it takes only its own IBANs.".to_owned());
    }
    let digits = (12..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || !cards::passes_luhn(text) {
        return Err("Your card number is invalid.".to_owned());
    }
    cards::by_number(text).ok_or_else(|| {
        "Your card was declined. This is a sandbox: it takes only test cards, such as 4242 4242 4242 4242.".to_owned()
    })
}

fn read_expiry(entry: &CardEntry, now: i64) -> Result<Option<(i64, i64)>, String> {
    let Some(text) = entry.expiry.as_deref().map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let digits: Vec<i64> = text.split('/').filter_map(|part| part.trim().parse().ok()).collect();
    let (month, year) = match digits[..] {
        [month @ 1..=12, year @ 0..=99] => (month, 2000 + year),
        [month @ 1..=12, year @ 2000..=2199] => (month, year),
        _ => return Err("Your card's expiration date is invalid. Write it as 12/34.".to_owned()),
    };
    let today = jiff::Timestamp::from_second(now).map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date());
    let past = today.is_ok_and(|date| (year, month) < (i64::from(date.year()), i64::from(date.month())));
    if past { Err("Your card's expiration date is in the past.".to_owned()) } else { Ok(Some((month, year))) }
}

/// A session without a customer makes one when it is told to, or when it saves a card for later.
fn make_customer(state: &mut State, id: &str, entry: &CardEntry) -> Result<(), ApiError> {
    let session = in_path(&state.sessions, "session", id)?;
    let wanted = session.keeps_card() || session.params.text("customer_creation") == Some("always");
    if session.customer.is_some() || !wanted {
        return Ok(());
    }
    let email = entry.email.clone().or_else(|| session.params.owned("customer_email"));
    let params = Params(json!({ "email": email, "name": entry.name }));
    let customer = customers::insert(state, None, &params)?;
    if let Some(session) = state.sessions.get_mut(id) {
        let setup = session.setup_intent.clone();
        session.customer = Some(customer.clone());
        if let Some(intent) = setup.and_then(|intent| state.setup_intents.get_mut(&intent)) {
            intent.customer = Some(customer);
        }
    }
    state.sessions.reindex(id);
    Ok(())
}

fn set_up(state: &mut State, id: &str, card: String) -> Result<(), ApiError> {
    let intent = in_path(&state.sessions, "session", id)?.setup_intent.clone();
    let intent = intent.ok_or_else(|| ApiError::invalid("This session has no SetupIntent."))?;
    setup_intents::set_card(state, &intent, card);
    setup_intents::try_card(state, &intent, false)
}

/// The session's own `PaymentIntent` is made when the customer confirms for the first time.
fn pay(state: &mut State, id: &str, card: String, entry: &CardEntry) -> Result<(), ApiError> {
    let session = in_path(&state.sessions, "session", id)?;
    let intent = match session.payment_intent.clone() {
        Some(intent) => intent,
        None => make_intent(state, id)?,
    };
    if let Some(intent) = state.payment_intents.get_mut(&intent) {
        intent.payment_method = Some(card);
        if entry.save && intent.customer.is_some() && intent.setup_future_usage.is_none() {
            intent.setup_future_usage = Some("on_session".to_owned());
        }
    }
    attempts::confirm(state, &intent, &How::on_page(false))
}

fn make_intent(state: &mut State, id: &str) -> Result<String, ApiError> {
    let session = in_path(&state.sessions, "session", id)?;
    let (amount, currency) = (session.amount, session.currency.clone().unwrap_or_default());
    let customer = session.customer.clone();
    let sent = |name: &str| session.params.get(name).clone();
    let options = sent("payment_method_options");
    let data = Params(
        json!({ "payment_intent_data": sent("payment_intent_data"), "payment_method_options": options }),
    );
    let methods = session.methods();
    let intent = intent::insert(state, (amount, &currency), customer, &data, "payment_intent_data/")?;
    if let Some(intent) = state.payment_intents.get_mut(&intent) {
        intent.session = Some(id.to_owned());
        intent.methods = methods;
    }
    if let Some(session) = state.sessions.get_mut(id) {
        session.payment_intent = Some(intent.clone());
    }
    state.sessions.reindex(id);
    Ok(intent)
}

fn complete(state: &mut State, id: &str, paid: bool) -> Result<PageStep, ApiError> {
    let session = in_path(&state.sessions, "session", id)?;
    let card = match (&session.payment_intent, &session.setup_intent) {
        (Some(intent), _) => {
            state.payment_intents.get(intent).and_then(|intent| intent.payment_method.clone())
        }
        (None, Some(intent)) => {
            state.setup_intents.get(intent).and_then(|intent| intent.payment_method.clone())
        }
        (None, None) => None,
    };
    let typed =
        card.and_then(|card| state.payment_methods.get(&card)).map(|card| card.billing_details.clone());
    let email = typed.as_ref().and_then(|details| details["email"].as_str());
    let email = email.or_else(|| session.params.text("customer_email"));
    let mut details = details_of(state, session.customer.as_deref(), email);
    if let Some(name) =
        typed.as_ref().and_then(|details| details["name"].as_str()).filter(|_| details.is_object())
    {
        details["name"] = name.into();
    }
    let success_url = session.success_url.clone().unwrap_or_default().replace("{CHECKOUT_SESSION_ID}", id);
    if let Some(session) = state.sessions.get_mut(id) {
        session.progress = Progress::Complete { paid };
        session.terms_accepted = true;
        session.customer_details = details;
    }
    if let Some(shown) = state.sessions.get(id).map(|session| session.render(state)) {
        state.emit("checkout.session.completed", &shown);
    }
    Ok(PageStep::Done { success_url })
}

/// A delayed payment behind a completed session has its answer.
pub(super) fn after_processing(state: &mut State, intent: &str) {
    let Some(intent) = state.payment_intents.get(intent) else { return };
    let (Some(id), paid) = (intent.session.clone(), intent.status == Status::Succeeded) else { return };
    let Some(session) = state.sessions.get_mut(&id) else { return };
    session.progress = Progress::Complete { paid };
    if let Some(shown) = state.sessions.get(&id).map(|session| session.render(state)) {
        let kind = if paid {
            "checkout.session.async_payment_succeeded"
        } else {
            "checkout.session.async_payment_failed"
        };
        state.emit(kind, &shown);
    }
}
