//! Line items of a Checkout Session.

use serde_json::{Value, json};

use super::errors::ApiError;
use super::params::Params;
use super::state::State;

#[derive(Clone, Debug)]
pub(super) struct LineItem {
    pub(super) id: String,
    price_id: String,
    product_id: String,
    pub(super) name: String,
    pub(super) unit_amount: i64,
    pub(super) quantity: i64,
    currency: String,
    created: i64,
}

impl LineItem {
    pub(super) fn total(&self) -> i64 {
        self.unit_amount.saturating_mul(self.quantity)
    }

    pub(super) fn render(&self) -> Value {
        json!({
            "id": self.id, "object": "item", "adjustable_quantity": null, "amount_discount": 0,
            "amount_subtotal": self.total(), "amount_tax": 0, "amount_total": self.total(), "currency": self.currency,
            "description": self.name, "metadata": {}, "quantity": self.quantity,
            "price": {
                "id": self.price_id, "object": "price", "active": false, "billing_scheme": "per_unit",
                "created": self.created, "currency": self.currency, "custom_unit_amount": null, "livemode": false,
                "lookup_key": null, "metadata": {}, "nickname": null, "product": self.product_id, "recurring": null,
                "tax_behavior": "unspecified", "tiers_mode": null, "transform_quantity": null, "type": "one_time",
                "unit_amount": self.unit_amount, "unit_amount_decimal": self.unit_amount.to_string(),
            },
        })
    }
}

/// Limit: items of one session.
const ITEMS_MAX: usize = 100;

/// Reads the items of a payment session, and their common currency.
pub(super) fn read(
    state: &mut State,
    params: &Params,
    currency: Option<String>,
) -> Result<(Vec<LineItem>, Option<String>), ApiError> {
    let sent = params.items("line_items");
    if sent.is_empty() {
        return Err(ApiError::missing_param("line_items"));
    }
    if sent.len() > ITEMS_MAX {
        return Err(ApiError::param("line_items", format!("At most {ITEMS_MAX} line items are allowed")));
    }
    let mut items: Vec<LineItem> = Vec::with_capacity(sent.len());
    for (at, item) in sent.iter().enumerate() {
        let item = one(state, at, item)?;
        let common = currency.as_ref().or(items.first().map(|first| &first.currency));
        if common.is_some_and(|common| *common != item.currency) {
            let message = "All line items must have the same currency, which is the session's.";
            return Err(ApiError::param(&format!("line_items[{at}][price_data][currency]"), message));
        }
        items.push(item);
    }
    let currency = items.first().map(|item| item.currency.clone());
    Ok((items, currency))
}

fn one(state: &mut State, at: usize, item: &Value) -> Result<LineItem, ApiError> {
    let param = |rest: &str| format!("line_items[{at}]{rest}");
    if let Some(price) = item["price"].as_str() {
        let message = format!("No such price: '{price}'. The sandbox has no Prices: send price_data.");
        return Err(ApiError::param(&param("[price]"), message).code("resource_missing"));
    }
    let data = &item["price_data"];
    let currency =
        data["currency"].as_str().ok_or_else(|| ApiError::missing_param(&param("[price_data][currency]")))?;
    if !data["recurring"].is_null() {
        let message = "You specified `payment` mode but passed a recurring price.";
        return Err(ApiError::param(&param("[price_data][recurring]"), message));
    }
    let name = data["product_data"]["name"].as_str();
    let name = name.ok_or_else(|| ApiError::missing_param(&param("[price_data][product_data][name]")))?;
    let amount =
        unit_amount(data).ok_or_else(|| ApiError::missing_param(&param("[price_data][unit_amount]")))?;
    let quantity = item["quantity"].as_i64().ok_or_else(|| ApiError::missing_param(&param("[quantity]")))?;
    if quantity < 1 || amount < 0 {
        return Err(ApiError::param(&param(""), "Quantity must be at least 1 and the amount not negative"));
    }
    Ok(LineItem {
        id: state.rng.id("li_1"),
        price_id: state.rng.id("price_1"),
        product_id: state.rng.id("prod_"),
        name: name.to_owned(),
        unit_amount: amount,
        quantity,
        currency: currency.to_ascii_lowercase(),
        created: state.now(),
    })
}

fn unit_amount(data: &Value) -> Option<i64> {
    data["unit_amount"].as_i64().or_else(|| data["unit_amount_decimal"].as_str()?.parse().ok())
}
