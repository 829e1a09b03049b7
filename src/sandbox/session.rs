//! A Checkout Session as the API shows it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::books::SessionRow;
use super::line_items::LineItem;
use super::lists;
use super::params::{Metadata, Params};
use super::state::State;
use super::table::Record;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Payment,
    Setup,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Setup => "setup",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Open,
    /// `paid` is false while a delayed payment is on its way, and after it failed.
    Complete {
        paid: bool,
    },
    Expired,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) created: i64,
    pub(super) expires_at: i64,
    pub(super) mode: Mode,
    pub(super) progress: Progress,
    pub(super) customer: Option<String>,
    pub(super) currency: Option<String>,
    pub(super) amount: i64,
    pub(super) line_items: Vec<LineItem>,
    pub(super) success_url: Option<String>,
    pub(super) cancel_url: Option<String>,
    pub(super) metadata: Metadata,
    pub(super) payment_intent: Option<String>,
    pub(super) setup_intent: Option<String>,
    /// Filled when the customer has finished.
    pub(super) customer_details: Value,
    pub(super) terms_accepted: bool,
    pub(super) recovery: Value,
    /// As they were sent, for the fields that are only repeated.
    pub(super) params: Arc<Params>,
}

impl Record for Session {
    const OBJECT: &'static str = "checkout.session";

    fn id(&self) -> &str {
        &self.id
    }

    fn created(&self) -> i64 {
        self.created
    }

    fn owners(&self) -> [Option<&str>; 2] {
        [self.customer.as_deref(), self.payment_intent.as_deref()]
    }
}

impl Session {
    pub(super) fn status(&self) -> &'static str {
        match self.progress {
            Progress::Open => "open",
            Progress::Complete { .. } => "complete",
            Progress::Expired => "expired",
        }
    }

    fn payment_status(&self) -> &'static str {
        match (self.mode, self.progress) {
            (Mode::Setup, _) => "no_payment_required",
            (Mode::Payment, Progress::Complete { paid: true }) => "paid",
            (Mode::Payment, _) => "unpaid",
        }
    }

    pub(super) fn render(&self, state: &State) -> Value {
        let params = &self.params;
        let pays = self.mode == Mode::Payment;
        let url = format!("{}/c/pay/{}", state.options.public_url, self.id);
        let totals = json!({ "amount_discount": 0, "amount_shipping": 0, "amount_tax": 0 });
        let terms = params.text("consent_collection/terms_of_service") == Some("required");
        let consent = (terms && self.terms_accepted)
            .then(|| json!({ "promotions": null, "terms_of_service": "accepted" }));
        json!({
            "id": self.id, "object": "checkout.session", "adaptive_pricing": null,
            "after_expiration": self.recovery, "allow_promotion_codes": params.json("allow_promotion_codes"),
            "amount_subtotal": pays.then_some(self.amount), "amount_total": pays.then_some(self.amount),
            "automatic_tax": { "enabled": false, "liability": null, "provider": null, "status": null },
            "billing_address_collection": params.json("billing_address_collection"), "cancel_url": self.cancel_url,
            "client_reference_id": params.owned("client_reference_id"), "client_secret": null,
            "collected_information": null, "consent": consent, "consent_collection": self.consent_collection(),
            "created": self.created, "currency": self.currency, "currency_conversion": null, "custom_fields": [],
            "custom_text": self.custom_text(), "customer": self.customer, "customer_account": null,
            "customer_creation": self.customer_creation(), "customer_details": self.customer_details,
            "customer_email": params.owned("customer_email"), "discounts": null, "expires_at": self.expires_at,
            "integration_identifier": null, "invoice": null, "invoice_creation": null, "livemode": false,
            "locale": params.owned("locale"), "managed_payments": null, "metadata": self.metadata,
            "mode": self.mode.name(), "origin_context": null, "payment_intent": self.payment_intent,
            "payment_link": null, "payment_method_collection": params.owned("payment_method_collection"),
            "payment_method_configuration_details": null, "payment_method_options": {},
            "payment_method_types": self.methods(), "payment_status": self.payment_status(), "permissions": null,
            "phone_number_collection": { "enabled": params.is_true("phone_number_collection/enabled") },
            "recovered_from": null, "saved_payment_method_options": self.saved_options(),
            "setup_intent": self.setup_intent, "shipping_address_collection": null, "shipping_cost": null,
            "shipping_options": [], "status": self.status(), "submit_type": params.owned("submit_type"),
            "subscription": null, "success_url": self.success_url, "total_details": pays.then_some(totals),
            "ui_mode": params.text("ui_mode").unwrap_or("hosted_page"),
            "url": (self.progress == Progress::Open).then_some(url),
            "wallet_options": if params.has("wallet_options") { params.json("wallet_options") } else { json!({}) },
        })
    }

    /// With what the page can be paid.
    pub(super) fn methods(&self) -> Vec<String> {
        let sent = self.params.texts("payment_method_types");
        if sent.is_empty() { vec!["card".to_owned()] } else { sent }
    }

    /// Whether paying with a card saves it.
    pub(super) fn keeps_card(&self) -> bool {
        let asked =
            ["payment_intent_data/setup_future_usage", "payment_method_options/card/setup_future_usage"];
        asked.iter().any(|path| self.params.has(path))
    }

    fn custom_text(&self) -> Value {
        let part = |name: &str| self.params.json(&format!("custom_text/{name}"));
        json!({
            "after_submit": part("after_submit"), "shipping_address": part("shipping_address"),
            "submit": part("submit"), "terms_of_service_acceptance": part("terms_of_service_acceptance"),
        })
    }

    fn consent_collection(&self) -> Value {
        if !self.params.has("consent_collection") {
            return Value::Null;
        }
        let part = |name: &str| self.params.json(&format!("consent_collection/{name}"));
        json!({
            "payment_method_reuse_agreement": part("payment_method_reuse_agreement"),
            "promotions": part("promotions"), "terms_of_service": part("terms_of_service"),
        })
    }

    fn customer_creation(&self) -> Option<&str> {
        let asked = self.params.text("customer_creation");
        asked.or((self.mode == Mode::Payment && !self.params.has("customer")).then_some("if_required"))
    }

    fn saved_options(&self) -> Value {
        if self.mode == Mode::Setup {
            return Value::Null;
        }
        let sent = self.params.get("saved_payment_method_options");
        json!({
            "allow_redisplay_filters": self.redisplay_filters(),
            "payment_method_remove": sent["payment_method_remove"].as_str().unwrap_or("disabled"),
            "payment_method_save": sent["payment_method_save"].as_str().unwrap_or("disabled"),
        })
    }

    /// Which saved cards the page may offer.
    pub(super) fn redisplay_filters(&self) -> Vec<String> {
        let sent = self.params.texts("saved_payment_method_options/allow_redisplay_filters");
        if sent.is_empty() { vec!["always".to_owned()] } else { sent }
    }

    pub(super) fn line_items_page(&self) -> Value {
        let url = format!("/v1/checkout/sessions/{}/line_items", self.id);
        lists::wrap(self.line_items.iter().map(LineItem::render).collect(), false, &url)
    }

    pub(super) fn row(&self) -> SessionRow {
        SessionRow {
            id: self.id.clone(),
            created: self.created,
            expires_at: self.expires_at,
            mode: self.mode.name(),
            status: self.status(),
            payment_status: self.payment_status(),
            customer: self.customer.clone(),
            amount: (self.mode == Mode::Payment).then_some(self.amount),
            currency: self.currency.clone(),
            payment_intent: self.payment_intent.clone(),
            setup_intent: self.setup_intent.clone(),
            metadata: self.metadata.clone(),
        }
    }
}
