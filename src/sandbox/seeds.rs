//! Making customers and cards with given ids exist, and programming cards.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::cards;
use super::customers;
use super::issuer;
use super::params::Params;
use super::payment_methods::PaymentMethod;
use super::state::State;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// A saved card that shall exist.
#[derive(Clone, Debug, Default)]
pub struct SeedCard {
    /// `pm_...`; one that begins with a known token behaves like that token's card.
    pub id: String,
    /// Whose it is.
    pub customer: String,
    /// A token such as `pm_card_sandbox_payday`; without one, by the id, else a good Visa card.
    pub token: Option<String>,
    /// A script of its own.
    pub script: Option<String>,
    /// Month and year of expiry.
    pub expires: Option<(i64, i64)>,
}

pub(super) fn customer(
    state: &mut State,
    id: &str,
    email: Option<&str>,
    name: Option<&str>,
) -> Result<(), Refusal> {
    state.pass_time();
    state.call = super::state::CallFacts::default();
    if state.customers.get(id).is_some() {
        return Err(Refusal(format!("customer {id} exists already")));
    }
    let params = Params(json!({ "email": email, "name": name }));
    let made = customers::insert(state, Some(id.to_owned()), &params);
    made.map(|_| ()).map_err(|error| Refusal(error.message().to_owned()))
}

pub(super) fn card(state: &mut State, seed: &SeedCard) -> Result<(), Refusal> {
    state.pass_time();
    state.call = super::state::CallFacts::default();
    if state.payment_methods.get(&seed.id).is_some() {
        return Err(Refusal(format!("payment method {} exists already", seed.id)));
    }
    if state.customers.get(&seed.customer).is_none_or(|customer| customer.deleted) {
        return Err(Refusal(format!("payment method {}: no customer {}", seed.id, seed.customer)));
    }
    let kind = match &seed.token {
        Some(token) => cards::by_token(token).or_else(|| cards::by_number(token)),
        None => cards::by_token(&seed.id).or_else(|| cards::by_token("pm_card_visa")),
    };
    let kind =
        kind.ok_or_else(|| Refusal(format!("payment method {}: no card {:?}", seed.id, seed.token)))?;
    let mut card = PaymentMethod::new(seed.id.clone(), kind, state.now());
    card.customer = Some(seed.customer.clone());
    card.is_set_up = true;
    (card.exp_month, card.exp_year) = seed.expires.unwrap_or((card.exp_month, card.exp_year));
    if let Some(text) = &seed.script {
        card.script = Some(Arc::from(issuer::script(text).map_err(Refusal)?));
    }
    let shown = card.render();
    state.payment_methods.insert(card);
    state.emit("payment_method.attached", &shown);
    Ok(())
}

pub(super) fn script(state: &mut State, card: &str, text: &str) -> Result<(), Refusal> {
    let steps = issuer::script(text).map_err(Refusal)?;
    let card =
        state.payment_methods.get_mut(card).ok_or_else(|| Refusal(format!("no payment method {card}")))?;
    card.script = Some(Arc::from(steps));
    let place = (card.customer.clone().unwrap_or_default(), card.fingerprint.clone());
    state.attempts.remove(&place);
    Ok(())
}

/// One line of a list of customers.
#[derive(Deserialize)]
struct Line {
    #[serde(alias = "customer_id", alias = "stripe_customer")]
    customer: String,
    #[serde(alias = "payment_method_id", alias = "stripe_payment_method")]
    payment_method: Option<String>,
    email: Option<String>,
    name: Option<String>,
    card: Option<String>,
    script: Option<String>,
}

/// Makes the customers and cards of a CSV exist. What exists already is left as it is.
pub(super) fn from_csv(state: &mut State, text: &[u8]) -> Result<Value, Refusal> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(text);
    let (mut customers, mut cards) = (0, 0);
    for line in reader.deserialize::<Line>() {
        let line = line.map_err(|error| Refusal(error.to_string()))?;
        let filled = |field: Option<String>| field.filter(|text| !text.is_empty());
        if state.customers.get(&line.customer).is_none() {
            customer(state, &line.customer, filled(line.email).as_deref(), filled(line.name).as_deref())?;
            customers += 1;
        }
        let Some(id) = filled(line.payment_method).filter(|id| state.payment_methods.get(id).is_none())
        else {
            continue;
        };
        let (token, script) = (filled(line.card), filled(line.script));
        card(state, &SeedCard { id, customer: line.customer, token, script, expires: None })?;
        cards += 1;
    }
    Ok(json!({ "customers": customers, "cards": cards }))
}
