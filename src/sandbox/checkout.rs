//! The endpoints of Checkout Sessions. What a person does on the page is in `checkout_pay`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::amounts;
use super::api::{Answered, Call};
use super::cards::{IDEAL, SEPA_DEBIT};
use super::customers;
use super::errors::ApiError;
use super::intent;
use super::line_items::{self, LineItem};
use super::lists::{self, Query};
use super::params::Params;
use super::session::{Mode, Progress, Session};
use super::setup_intents;
use super::state::{Job, State, in_path};

/// Bounds of `expires_at`, in seconds after creation.
const LIFE_SECS_MIN: i64 = 30 * 60;
const LIFE_SECS_MAX: i64 = 24 * 3600;

pub(super) fn create(state: &mut State, call: &Call<'_>) -> Answered {
    let call = call.params;
    let mode = mode_of(call)?;
    check_create(state, mode, call)?;
    let expires_at = expiry(state, call)?;
    let customer = call.owned("customer");
    let currency = call.text("currency").map(str::to_ascii_lowercase);
    let (line_items, currency) = match mode {
        Mode::Payment => line_items::read(state, call, currency)?,
        Mode::Setup => (Vec::new(), currency),
    };
    let amount = line_items.iter().fold(0, |sum: i64, item| sum.saturating_add(item.total()));
    if let (Mode::Payment, Some(currency)) = (mode, &currency) {
        amounts::check(amount, currency, "line_items")?;
        let methods = call.texts("payment_method_types");
        if let Some(of_euros) = methods.iter().find(|one| *one != "card" && currency != "eur") {
            let message = format!("The currency {currency} is not supported by {of_euros}, which takes eur.");
            return Err(ApiError::param("payment_method_types", message));
        }
    }
    let setup_intent = match mode {
        Mode::Setup => Some(setup_intents::insert(state, customer.clone(), call, "setup_intent_data/")?),
        Mode::Payment => None,
    };
    let id = format!("cs_test_a1{}", state.rng.text(56));
    if let Some(intent) = setup_intent.as_ref().and_then(|intent| state.setup_intents.get_mut(intent)) {
        intent.session = Some(id.clone());
    }
    let session = Session {
        id: id.clone(),
        created: state.now(),
        expires_at,
        mode,
        progress: Progress::Open,
        customer_details: match mode {
            Mode::Payment => details_of(state, customer.as_deref(), call.text("customer_email")),
            Mode::Setup => Value::Null,
        },
        customer,
        currency,
        amount,
        line_items,
        success_url: call.owned("success_url"),
        cancel_url: call.owned("cancel_url"),
        metadata: call.metadata("metadata")?,
        payment_intent: None,
        setup_intent,
        terms_accepted: false,
        recovery: recovery(call),
        params: Arc::clone(call),
    };
    state.schedule(expires_at * 1000 - state.now_ms, Job::ExpireSession(id.clone()));
    let shown = session.render(state);
    state.sessions.insert(session);
    Ok(shown)
}

fn mode_of(params: &Params) -> Result<Mode, ApiError> {
    match params.text("mode") {
        Some("payment") => Ok(Mode::Payment),
        Some("setup") => Ok(Mode::Setup),
        Some(_) => {
            Err(ApiError::param("mode", "The sandbox does not do mode=subscription: it has no Billing."))
        }
        None => Err(ApiError::missing_param("mode")),
    }
}

fn check_create(state: &State, mode: Mode, params: &Params) -> Result<(), ApiError> {
    if let Some(customer) = params.text("customer") {
        customers::usable(state, "customer", customer)?;
        if params.has("customer_creation") || params.has("customer_email") {
            let message =
                "You may only specify one of these parameters: customer, customer_email, customer_creation.";
            return Err(ApiError::invalid(message).code("parameters_exclusive"));
        }
    }
    if !matches!(params.text("ui_mode"), None | Some("hosted_page")) {
        return Err(ApiError::param("ui_mode", "The sandbox has the hosted page only."));
    }
    if !params.has("success_url") {
        return Err(ApiError::missing_param("success_url"));
    }
    for name in ["success_url", "cancel_url"] {
        let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        if params.text(name).is_some_and(|text| !is_url(text)) {
            return Err(ApiError::param(name, "Not a valid URL").code("url_invalid"));
        }
    }
    let foreign: &[&str] = match mode {
        Mode::Setup => &[
            "line_items",
            "payment_intent_data",
            "submit_type",
            "saved_payment_method_options",
            "subscription_data",
        ],
        Mode::Payment => &["setup_intent_data", "subscription_data", "payment_method_collection"],
    };
    if let Some(name) = foreign.iter().find(|name| params.has(name)) {
        return Err(ApiError::param(name, format!("You can not pass `{name}` in `{}` mode.", mode.name())));
    }
    if let Some(unknown) = params.texts("payment_method_types").iter().find(|one| {
        one.as_str() != "card" && (mode == Mode::Setup || ![SEPA_DEBIT, IDEAL].contains(&one.as_str()))
    }) {
        let message = format!("The sandbox does not do {unknown} in `{}` mode.", mode.name());
        return Err(ApiError::param("payment_method_types", message));
    }
    if mode == Mode::Setup && !params.has("currency") && !params.has("payment_method_types") {
        return Err(ApiError::missing_param("currency"));
    }
    Ok(())
}

fn expiry(state: &State, params: &Params) -> Result<i64, ApiError> {
    let now = state.now();
    let Some(at) = params.int("expires_at") else { return Ok(now + LIFE_SECS_MAX) };
    if (now + LIFE_SECS_MIN..=now + LIFE_SECS_MAX).contains(&at) {
        return Ok(at);
    }
    let message =
        "The `expires_at` timestamp must be between 30 minutes and 24 hours after the Session is created.";
    Err(ApiError::param("expires_at", message))
}

fn recovery(params: &Params) -> Value {
    if !params.has("after_expiration/recovery") {
        return Value::Null;
    }
    json!({ "recovery": {
        "allow_promotion_codes": params.is_true("after_expiration/recovery/allow_promotion_codes"),
        "enabled": params.is_true("after_expiration/recovery/enabled"), "expires_at": null, "url": null,
    } })
}

/// What is known of the customer before and after the page.
pub(super) fn details_of(state: &State, customer: Option<&str>, email: Option<&str>) -> Value {
    let customer = customer.and_then(|id| state.customers.get(id));
    let email = email.map(str::to_owned).or_else(|| customer.and_then(|customer| customer.email.clone()));
    if customer.is_none() && email.is_none() {
        return Value::Null;
    }
    json!({
        "address": null, "business_name": null, "email": email, "individual_name": null,
        "name": customer.and_then(|customer| customer.name.clone()), "phone": null, "tax_exempt": "none", "tax_ids": null,
    })
}

pub(super) fn retrieve(state: &mut State, call: &Call<'_>) -> Answered {
    Ok(in_path(&state.sessions, "session", call.id)?.render(state))
}

pub(super) fn line_items(state: &mut State, call: &Call<'_>) -> Answered {
    let session = in_path(&state.sessions, "session", call.id)?;
    let limit = lists::limit(call.params)?;
    let start = match call.params.text("starting_after") {
        None => 0,
        Some(id) => {
            let place = session.line_items.iter().position(|item| item.id == id);
            place.ok_or_else(|| ApiError::no_such("item", "starting_after", id))? + 1
        }
    };
    let rest = &session.line_items[start..];
    let data = rest.iter().take(limit).map(LineItem::render).collect();
    Ok(lists::wrap(data, rest.len() > limit, call.path))
}

pub(super) fn list(state: &mut State, call: &Call<'_>) -> Answered {
    let text = |name: &str| call.params.text(name);
    let (customer, intent, status) = (text("customer"), text("payment_intent"), text("status"));
    let keep = |session: &Session| {
        customer.is_none_or(|id| session.customer.as_deref() == Some(id))
            && intent.is_none_or(|id| session.payment_intent.as_deref() == Some(id))
            && status.is_none_or(|status| session.status() == status)
    };
    let query = Query { url: "/v1/checkout/sessions", owner: customer.or(intent) };
    let state = &*state;
    lists::page(&state.sessions, call.params, &query, keep, |session| session.render(state))
}

pub(super) fn expire(state: &mut State, call: &Call<'_>) -> Answered {
    let session = in_path(&state.sessions, "session", call.id)?;
    if session.progress != Progress::Open {
        let message = format!(
            "Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status of `{}`.",
            session.status()
        );
        return Err(ApiError::invalid(message).kept(true));
    }
    end(state, call.id);
    retrieve(state, call)
}

/// The session's time is over.
pub(super) fn expire_by_time(state: &mut State, id: &str) {
    if state.sessions.get(id).is_some_and(|session| session.progress == Progress::Open) {
        end(state, id);
    }
}

/// Recovery links live this long.
const RECOVERY_SECS: i64 = 30 * 86_400;

fn end(state: &mut State, id: &str) {
    let (now, public_url) = (state.now(), state.options.public_url.clone());
    let Some(session) = state.sessions.get_mut(id) else { return };
    session.progress = Progress::Expired;
    if session.recovery["recovery"]["enabled"] == true {
        session.recovery["recovery"]["url"] = format!("{public_url}/r/{id}").into();
        session.recovery["recovery"]["expires_at"] = (now + RECOVERY_SECS).into();
    }
    let (payment, setup) = (session.payment_intent.clone(), session.setup_intent.clone());
    if let Some(intent) = payment {
        intent::cancel_now(state, &intent, Some("automatic".to_owned()));
    }
    if let Some(intent) = setup {
        setup_intents::cancel_now(state, &intent);
    }
    if let Some(shown) = state.sessions.get(id).map(|session| session.render(state)) {
        state.emit("checkout.session.expired", &shown);
    }
}
