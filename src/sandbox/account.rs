//! The account and its balance.

use serde_json::{Value, json};

use super::api::{Answered, Call};
use super::charges;
use super::state::State;

pub(super) fn account(state: &mut State, _: &Call<'_>) -> Answered {
    Ok(render(state))
}

pub(super) fn render(state: &State) -> Value {
    let options = &state.options;
    json!({
        "id": options.account, "object": "account", "business_profile": { "name": options.merchant_name,
            "mcc": null, "product_description": null, "support_address": null, "support_email": null,
            "support_phone": null, "support_url": null, "url": null },
        "business_type": "company", "capabilities": { "card_payments": "active", "transfers": "active" },
        "charges_enabled": options.charges_enabled, "controller": { "type": "account" }, "country": "US",
        "default_currency": "usd", "details_submitted": true, "email": "merchant@example.com", "metadata": {},
        "payouts_enabled": true,
        "settings": {
            "branding": { "icon": null, "logo": null, "primary_color": null, "secondary_color": null },
            "card_payments": { "statement_descriptor_prefix": "SANDBOX",
                "statement_descriptor_prefix_kana": null, "statement_descriptor_prefix_kanji": null },
            "dashboard": { "display_name": options.merchant_name, "timezone": "Etc/UTC" },
            "payments": { "statement_descriptor": "SANDBOX", "statement_descriptor_kana": null,
                "statement_descriptor_kanji": null },
        },
        "type": "standard",
    })
}

pub(super) fn balance(state: &mut State, _: &Call<'_>) -> Answered {
    let mut sums = charges::balance(state);
    sums.entry("usd".to_owned()).or_default();
    let amounts = |pick: fn(&(i64, i64)) -> i64| -> Value {
        let one = |(currency, sum): (&String, &(i64, i64))| {
            let amount = pick(sum);
            json!({ "amount": amount, "currency": currency, "source_types": { "card": amount } })
        };
        sums.iter().map(one).collect()
    };
    Ok(json!({
        "object": "balance", "available": amounts(|sum| sum.0), "livemode": false, "pending": amounts(|sum| sum.1),
    }))
}
