//! `expand[]`: references replaced by the objects they name.

use serde_json::Value;

use super::errors::ApiError;
use super::params::Params;
use super::router::Route;
use super::state::State;

/// Stripe's limit of levels.
const DEPTH_MAX: usize = 4;

/// Fields that can be expanded, and what stands behind them.
const FIELDS: &[(&str, &str, &str)] = &[
    ("charge", "balance_transaction", "balance_transaction"),
    ("charge", "customer", "customer"),
    ("charge", "payment_intent", "payment_intent"),
    ("charge", "refunds", "refund"),
    ("checkout.session", "customer", "customer"),
    ("checkout.session", "line_items", "item"),
    ("checkout.session", "payment_intent", "payment_intent"),
    ("checkout.session", "setup_intent", "setup_intent"),
    ("customer", "default_source", ""),
    ("customer", "invoice_settings", "customer.invoice_settings"),
    ("customer", "sources", ""),
    ("customer", "subscriptions", ""),
    ("customer.invoice_settings", "default_payment_method", "payment_method"),
    ("dispute", "charge", "charge"),
    ("dispute", "payment_intent", "payment_intent"),
    ("payment_intent", "customer", "customer"),
    ("payment_intent", "latest_charge", "charge"),
    ("payment_intent", "payment_method", "payment_method"),
    ("payment_intent", "review", ""),
    ("payment_method", "customer", "customer"),
    ("refund", "balance_transaction", "balance_transaction"),
    ("refund", "charge", "charge"),
    ("refund", "payment_intent", "payment_intent"),
    ("setup_attempt", "customer", "customer"),
    ("setup_attempt", "payment_method", "payment_method"),
    ("setup_intent", "customer", "customer"),
    ("setup_intent", "latest_attempt", "setup_attempt"),
    ("setup_intent", "mandate", ""),
    ("setup_intent", "payment_method", "payment_method"),
    ("balance_transaction", "source", "charge"),
    ("search", "total_count", ""),
];

fn target(object: &str, field: &str) -> Option<&'static str> {
    FIELDS.iter().find(|(of, name, _)| *of == object && *name == field).map(|(_, _, to)| *to)
}

/// Refuses paths that cannot be expanded, before anything runs.
pub(super) fn check(route: &Route, params: &Params) -> Result<(), ApiError> {
    for path in params.texts("expand") {
        let refuse = || ApiError::invalid(format!("This property cannot be expanded ({path})."));
        let mut parts = path.split('.').peekable();
        if path.split('.').count() > DEPTH_MAX {
            let message = format!("You cannot expand more than {DEPTH_MAX} levels of a property ({path}).");
            return Err(ApiError::invalid(message));
        }
        if path == "total_count" && route.endpoint.ends_with("/search") {
            continue;
        }
        if route.is_list && parts.next() != Some("data") {
            return Err(refuse());
        }
        let mut object = route.object;
        while let Some(part) = parts.next() {
            object = target(object, part).ok_or_else(refuse)?;
            if part == "refunds" || part == "line_items" {
                parts.next_if_eq(&"data");
            }
        }
    }
    Ok(())
}

/// Replaces the references that were asked for.
pub(super) fn apply(state: &State, value: &mut Value, params: &Params) {
    for path in params.texts("expand") {
        let parts: Vec<&str> = path.split('.').collect();
        replace(state, value, &parts);
    }
}

fn replace(state: &State, value: &mut Value, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else { return };
    if let Value::Array(items) = value {
        items.iter_mut().for_each(|item| replace(state, item, path));
        return;
    }
    add_on_demand(state, value, first);
    let Some(field) = value.get_mut(*first) else { return };
    if let Some(object) = field.as_str().and_then(|id| state.render(id)) {
        *field = object;
    }
    replace(state, field, rest);
}

/// Lists that an object holds only when they are asked for.
fn add_on_demand(state: &State, value: &mut Value, field: &str) {
    let Some(id) = value["id"].as_str() else { return };
    let list = match field {
        "line_items" => state.sessions.get(id).map(|session| session.line_items_page()),
        "refunds" => Some(super::refunds::of_charge(state, id)),
        _ => None,
    };
    if let (Some(list), Some(object)) = (list, value.as_object_mut()) {
        object.insert(field.to_owned(), list);
    }
}
