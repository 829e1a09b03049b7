//! A `PaymentIntent` as the API shows it, from its birth to its cancellation.

use serde_json::{Value, json};

use super::books::PaymentIntentRow;
use super::errors::ApiError;
use super::params::{Metadata, Params};
use super::state::State;
use super::table::Record;

/// Statuses of intents to pay and intents to save a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    Processing,
    RequiresCapture,
    Succeeded,
    Canceled,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RequiresPaymentMethod => "requires_payment_method",
            Self::RequiresConfirmation => "requires_confirmation",
            Self::RequiresAction => "requires_action",
            Self::Processing => "processing",
            Self::RequiresCapture => "requires_capture",
            Self::Succeeded => "succeeded",
            Self::Canceled => "canceled",
        }
    }

    /// Whether the intent can be confirmed or changed.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::RequiresPaymentMethod | Self::RequiresConfirmation | Self::RequiresAction)
    }
}

#[derive(Clone, Debug)]
pub(super) struct PaymentIntent {
    pub(super) id: String,
    pub(super) created: i64,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) customer: Option<String>,
    pub(super) description: Option<String>,
    pub(super) metadata: Metadata,
    pub(super) payment_method: Option<String>,
    pub(super) receipt_email: Option<String>,
    pub(super) setup_future_usage: Option<String>,
    /// The same for cards alone.
    pub(super) card_future_usage: Option<String>,
    /// With what it can be paid.
    pub(super) methods: Vec<String>,
    pub(super) suffix: Option<String>,
    pub(super) capture_method: String,
    pub(super) status: Status,
    pub(super) latest_charge: Option<String>,
    pub(super) last_payment_error: Option<Value>,
    pub(super) amount_received: i64,
    pub(super) canceled_at: Option<i64>,
    pub(super) cancellation_reason: Option<String>,
    pub(super) next_action: Option<Value>,
    /// When the answer of a processing charge is due.
    pub(super) processing_until: Option<i64>,
    /// The Checkout Session that made it.
    pub(super) session: Option<String>,
    pub(super) confirms: u32,
    pub(super) confirms_max: u32,
    automatic: Value,
    /// Of the card's options, the one that is shown.
    three_d_secure: String,
    shipping: Value,
    transfer_group: Option<String>,
    secret: String,
}

impl Record for PaymentIntent {
    const OBJECT: &'static str = "payment_intent";

    fn id(&self) -> &str {
        &self.id
    }

    fn created(&self) -> i64 {
        self.created
    }

    fn owners(&self) -> [Option<&str>; 2] {
        [self.customer.as_deref(), None]
    }
}

impl PaymentIntent {
    pub(super) fn render(&self) -> Value {
        let capturable = if self.status == Status::RequiresCapture { self.amount } else { 0 };
        let mut object = json!({
            "id": self.id, "object": "payment_intent", "amount": self.amount, "amount_capturable": capturable,
            "amount_details": { "tip": {} }, "amount_received": self.amount_received, "application": null,
            "application_fee_amount": null, "automatic_payment_methods": self.automatic,
            "canceled_at": self.canceled_at, "cancellation_reason": self.cancellation_reason,
            "capture_method": self.capture_method, "client_secret": format!("{}_secret_{}", self.id, self.secret),
            "confirmation_method": "automatic", "created": self.created, "currency": self.currency,
            "customer": self.customer, "customer_account": null, "description": self.description,
            "excluded_payment_method_types": null, "last_payment_error": self.last_payment_error,
            "latest_charge": self.latest_charge, "livemode": false, "managed_payments": null,
            "metadata": self.metadata, "next_action": self.next_action, "on_behalf_of": null,
            "payment_method": self.payment_method, "payment_method_configuration_details": null,
            "payment_method_options": self.method_options(), "payment_method_types": self.methods,
            "receipt_email": self.receipt_email, "review": null, "setup_future_usage": self.setup_future_usage,
            "shipping": self.shipping, "statement_descriptor": null, "statement_descriptor_suffix": self.suffix,
            "status": self.status.name(), "transfer_group": self.transfer_group,
        });
        if let Some(until) = self.processing_until.filter(|_| self.status == Status::Processing) {
            let notice = json!({ "approval_requested": false, "completes_at": until });
            object["processing"] = json!({ "type": "card", "card": { "customer_notification": notice } });
        }
        object
    }

    fn method_options(&self) -> Value {
        let mut card = json!({
            "installments": null, "mandate_options": null, "network": null,
            "request_three_d_secure": self.three_d_secure,
        });
        if let Some(usage) = &self.card_future_usage {
            card["setup_future_usage"] = usage.as_str().into();
        }
        let mut options = json!({});
        for method in &self.methods {
            options[method] = if method == "card" { card.clone() } else { json!({}) };
        }
        options
    }

    /// Whether a payment with such a method also saves it for charges without its holder.
    pub(super) fn saves(&self, method: &str) -> bool {
        let of_card = self.card_future_usage.as_deref().filter(|_| method == "card");
        of_card.or(self.setup_future_usage.as_deref()) == Some("off_session")
    }

    pub(super) fn row(&self) -> PaymentIntentRow {
        PaymentIntentRow {
            id: self.id.clone(),
            created: self.created,
            customer: self.customer.clone(),
            amount: self.amount,
            amount_received: self.amount_received,
            currency: self.currency.clone(),
            status: self.status.name(),
            metadata: self.metadata.clone(),
            session: self.session.clone(),
            confirms: self.confirms,
            latest_charge: self.latest_charge.clone(),
        }
    }
}

/// Stripe keeps the limit of confirms to itself; here it is drawn for each intent.
const CONFIRMS_MAX: (i64, i64) = (20, 30);

/// Makes an intent that has not been confirmed. `at` is where its parameters stand: nowhere, or
/// `payment_intent_data/` of a Checkout Session.
pub(super) fn insert(
    state: &mut State,
    (amount, currency): (i64, &str),
    customer: Option<String>,
    params: &Params,
    at: &str,
) -> Result<String, ApiError> {
    let owned = |name: &str| params.owned(&format!("{at}{name}"));
    let confirms_max = state.rng.between(CONFIRMS_MAX.0, CONFIRMS_MAX.1);
    let wish = params.owned("payment_method_options/card/request_three_d_secure");
    let intent = PaymentIntent {
        id: state.rng.id("pi_3"),
        created: state.now(),
        amount,
        currency: currency.to_owned(),
        customer,
        description: owned("description"),
        metadata: params.metadata(&format!("{at}metadata"))?,
        payment_method: None,
        receipt_email: owned("receipt_email"),
        setup_future_usage: owned("setup_future_usage"),
        card_future_usage: params.owned("payment_method_options/card/setup_future_usage"),
        methods: vec!["card".to_owned()],
        suffix: owned("statement_descriptor_suffix"),
        capture_method: owned("capture_method").unwrap_or_else(|| "automatic_async".to_owned()),
        status: Status::RequiresPaymentMethod,
        latest_charge: None,
        last_payment_error: None,
        amount_received: 0,
        canceled_at: None,
        cancellation_reason: None,
        next_action: None,
        processing_until: None,
        session: None,
        confirms: 0,
        confirms_max: u32::try_from(confirms_max).unwrap_or(u32::MAX),
        automatic: automatic(params, at),
        three_d_secure: wish.unwrap_or_else(|| "automatic".to_owned()),
        shipping: params.json("shipping"),
        transfer_group: owned("transfer_group"),
        secret: state.rng.text(25),
    };
    let id = intent.id.clone();
    state.emit("payment_intent.created", &intent);
    state.payment_intents.insert(intent);
    Ok(id)
}

fn automatic(params: &Params, at: &str) -> Value {
    if !at.is_empty() || params.has("payment_method_types") {
        return Value::Null;
    }
    let redirects = params.text("automatic_payment_methods/allow_redirects").unwrap_or("always");
    json!({ "enabled": true, "allow_redirects": redirects })
}

/// The 400 for an intent that cannot do this in its state.
pub(super) fn unexpected(intent: &PaymentIntent, verb: &str) -> ApiError {
    let message =
        format!("You cannot {verb} this PaymentIntent because it has a status of {}.", intent.status.name());
    ApiError::unexpected_state("payment_intent", message, intent.render())
}

/// Cancels an intent that is still open.
pub(super) fn cancel_now(state: &mut State, id: &str, reason: Option<String>) {
    let now = state.now();
    let Some(intent) = state.payment_intents.get_mut(id) else { return };
    if matches!(intent.status, Status::Succeeded | Status::Canceled) {
        return;
    }
    intent.status = Status::Canceled;
    intent.canceled_at = Some(now);
    intent.cancellation_reason = reason;
    intent.next_action = None;
    intent.last_payment_error = None;
    let shown = intent.clone();
    state.emit("payment_intent.canceled", &shown);
}
