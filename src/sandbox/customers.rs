//! Customers.

use serde_json::{Value, json};

use super::api::{Answered, Call};
use super::books::CustomerRow;
use super::errors::ApiError;
use super::lists::{self, Query};
use super::params::{Metadata, Params};
use super::payment_methods;
use super::state::{State, in_param, in_path};
use super::table::Record;

#[derive(Clone, Debug, Default)]
pub(super) struct Customer {
    pub(super) id: String,
    pub(super) created: i64,
    pub(super) email: Option<String>,
    pub(super) name: Option<String>,
    phone: Option<String>,
    description: Option<String>,
    pub(super) metadata: Metadata,
    address: Value,
    shipping: Value,
    preferred_locales: Vec<String>,
    balance: i64,
    tax_exempt: Option<String>,
    invoice_prefix: String,
    pub(super) default_payment_method: Option<String>,
    pub(super) deleted: bool,
}

impl Record for Customer {
    const OBJECT: &'static str = "customer";

    fn id(&self) -> &str {
        &self.id
    }

    fn created(&self) -> i64 {
        self.created
    }
}

impl Customer {
    pub(super) fn render(&self) -> Value {
        if self.deleted {
            return json!({ "id": self.id, "object": "customer", "deleted": true });
        }
        json!({
            "id": self.id, "object": "customer", "created": self.created, "livemode": false,
            "address": self.address, "balance": self.balance, "currency": null, "customer_account": null,
            "default_source": null, "delinquent": false, "description": self.description, "discount": null,
            "email": self.email, "invoice_prefix": self.invoice_prefix,
            "invoice_settings": {
                "custom_fields": null, "default_payment_method": self.default_payment_method, "footer": null,
                "rendering_options": null,
            },
            "metadata": self.metadata, "name": self.name, "next_invoice_sequence": 1, "phone": self.phone,
            "preferred_locales": self.preferred_locales, "shipping": self.shipping,
            "tax_exempt": self.tax_exempt.as_deref().unwrap_or("none"), "test_clock": null,
        })
    }

    pub(super) fn row(&self) -> CustomerRow {
        CustomerRow {
            id: self.id.clone(),
            email: self.email.clone(),
            deleted: self.deleted,
            metadata: self.metadata.clone(),
        }
    }

    fn fill(&mut self, params: &Params) -> Result<(), ApiError> {
        params.update("email", &mut self.email);
        params.update("name", &mut self.name);
        params.update("phone", &mut self.phone);
        params.update("description", &mut self.description);
        params.update("tax_exempt", &mut self.tax_exempt);
        params.merge_metadata("metadata", &mut self.metadata)?;
        if params.has("address") {
            self.address = address(params.get("address"));
        }
        if params.has("shipping") {
            self.shipping = params.json("shipping");
        }
        if params.has("preferred_locales") {
            self.preferred_locales = params.texts("preferred_locales");
        }
        if let Some(balance) = params.int("balance") {
            self.balance = balance;
        }
        Ok(())
    }
}

/// An address with all its fields, null where nothing was sent.
pub(super) fn address(sent: &Value) -> Value {
    if !sent.is_object() {
        return Value::Null;
    }
    json!({
        "city": sent["city"], "country": sent["country"], "line1": sent["line1"], "line2": sent["line2"],
        "postal_code": sent["postal_code"], "state": sent["state"],
    })
}

/// A customer that can be used, named in a parameter.
pub(super) fn usable<'a>(state: &'a State, param: &str, id: &str) -> Result<&'a Customer, ApiError> {
    let customer = in_param(&state.customers, param, id)?;
    if customer.deleted {
        return Err(ApiError::no_such("customer", param, id));
    }
    Ok(customer)
}

/// Makes a customer with a given id or a new one.
pub(super) fn insert(state: &mut State, id: Option<String>, params: &Params) -> Result<String, ApiError> {
    let id = id.unwrap_or_else(|| state.rng.id("cus_"));
    let invoice_prefix = state.rng.text(8).to_ascii_uppercase();
    let mut customer =
        Customer { id: id.clone(), created: state.now(), invoice_prefix, ..Customer::default() };
    customer.fill(params)?;
    let shown = customer.render();
    state.customers.insert(customer);
    state.emit("customer.created", &shown);
    Ok(id)
}

pub(super) fn create(state: &mut State, call: &Call<'_>) -> Answered {
    for unsupported in ["source", "test_clock", "tax_id_data"] {
        if call.params.has(unsupported) {
            return Err(ApiError::param(unsupported, format!("The sandbox does not do {unsupported}.")));
        }
    }
    if let Some(card) = call.params.text("payment_method") {
        payment_methods::check_attachable(state, card, "payment_method")?;
    }
    let id = insert(state, None, call.params)?;
    if let Some(card) = call.params.text("payment_method") {
        payment_methods::attach_to(state, card, &id)?;
    }
    set_default(state, &id, call.params)?;
    Ok(in_path(&state.customers, "id", &id)?.render())
}

fn set_default(state: &mut State, id: &str, params: &Params) -> Result<(), ApiError> {
    let path = "invoice_settings/default_payment_method";
    if !params.has(path) {
        return Ok(());
    }
    if let Some(card) = params.text(path) {
        let param = "invoice_settings[default_payment_method]";
        let card = in_param(&state.payment_methods, param, card)?;
        if card.customer.as_deref() != Some(id) {
            let message = format!("The customer does not have a payment method with the ID {}.", card.id);
            return Err(ApiError::param(param, message).code("resource_missing"));
        }
    }
    let default = params.owned(path);
    if let Some(customer) = state.customers.get_mut(id) {
        customer.default_payment_method = default;
    }
    Ok(())
}

pub(super) fn retrieve(state: &mut State, call: &Call<'_>) -> Answered {
    Ok(in_path(&state.customers, "id", call.id)?.render())
}

pub(super) fn update(state: &mut State, call: &Call<'_>) -> Answered {
    let customer = in_path(&state.customers, "id", call.id)?;
    if customer.deleted {
        return Err(ApiError::not_found("customer", "id", call.id));
    }
    let before = customer.render();
    let mut changed = customer.clone();
    changed.fill(call.params)?;
    if let Some(customer) = state.customers.get_mut(call.id) {
        *customer = changed;
    }
    set_default(state, call.id, call.params)?;
    let after = in_path(&state.customers, "id", call.id)?.render();
    if let Some(previous) = differences(&before, &after) {
        state.emit_change("customer.updated", &after, Some(previous));
    }
    Ok(after)
}

/// Old values of the fields that changed.
pub(super) fn differences(before: &Value, after: &Value) -> Option<Value> {
    let (before, after) = (before.as_object()?, after.as_object()?);
    let mut changed = serde_json::Map::new();
    for (name, old) in before {
        let new = after.get(name).unwrap_or(&Value::Null);
        if old == new {
            continue;
        }
        let inner = if old.is_object() && new.is_object() { differences(old, new) } else { None };
        changed.insert(name.clone(), inner.unwrap_or_else(|| old.clone()));
    }
    (!changed.is_empty()).then_some(Value::Object(changed))
}

pub(super) fn delete(state: &mut State, call: &Call<'_>) -> Answered {
    let customer = in_path(&state.customers, "id", call.id)?;
    if customer.deleted {
        return Err(ApiError::not_found("customer", "id", call.id));
    }
    let last = customer.render();
    if let Some(customer) = state.customers.get_mut(call.id) {
        customer.deleted = true;
    }
    state.emit("customer.deleted", &last);
    Ok(in_path(&state.customers, "id", call.id)?.render())
}

pub(super) fn list(state: &mut State, call: &Call<'_>) -> Answered {
    let email = call.params.text("email");
    let keep = |customer: &Customer| {
        !customer.deleted && email.is_none_or(|email| customer.email.as_deref() == Some(email))
    };
    let query = Query { url: "/v1/customers", owner: None };
    lists::page(&state.customers, call.params, &query, keep, Customer::render)
}
