//! Stripe charges: one attempt that reached the card.

use serde_json::{Value, json};

use super::api::{Answered, Call};
use super::books::ChargeRow;
use super::faults::millis;
use super::issuer::Decline;
use super::lists::{self, Query};
use super::params::Metadata;
use super::payment_methods::PaymentMethod;
use super::state::{Job, State, in_path};
use super::table::Record;

#[derive(Clone, Debug)]
pub(super) struct Charge {
    pub(super) id: String,
    created: i64,
    left_at: i64,
    pub(super) amount: i64,
    pub(super) amount_refunded: i64,
    pub(super) currency: String,
    pub(super) customer: Option<String>,
    description: Option<String>,
    metadata: Metadata,
    pub(super) payment_intent: String,
    /// The card as it was then.
    card: PaymentMethod,
    receipt_email: Option<String>,
    suffix: Option<String>,
    pub(super) result: Settled,
    on_session: bool,
    captured: bool,
    /// `automatic_async`: the money is booked a moment after the success.
    booked_at: Option<i64>,
    pub(super) disputed: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Succeeded,
    Pending,
    Failed(Decline),
}

impl Record for Charge {
    const OBJECT: &'static str = "charge";

    fn id(&self) -> &str {
        &self.id
    }

    fn created(&self) -> i64 {
        self.created
    }

    fn owners(&self) -> [Option<&str>; 2] {
        [Some(&self.payment_intent), self.customer.as_deref()]
    }
}

impl Charge {
    pub(super) fn status(&self) -> &'static str {
        match self.result {
            Settled::Succeeded => "succeeded",
            Settled::Pending => "pending",
            Settled::Failed(_) => "failed",
        }
    }

    /// What its card makes of it besides.
    pub(super) fn effect(&self) -> &'static str {
        &self.card.kind.effect
    }

    fn decline(&self) -> Option<&Decline> {
        match &self.result {
            Settled::Failed(decline) => Some(decline),
            Settled::Succeeded | Settled::Pending => None,
        }
    }

    pub(super) fn render(&self) -> Value {
        let paid = self.result == Settled::Succeeded;
        let booked = paid && self.booked_at.is_some();
        let decline = self.decline();
        let descriptor =
            self.suffix.as_ref().map_or("SANDBOX".to_owned(), |suffix| format!("SANDBOX* {suffix}"));
        let receipt = paid.then(|| format!("https://pay.stripe.com/receipts/sandbox/{}", self.id));
        json!({
            "id": self.id, "object": "charge", "amount": self.amount,
            "amount_captured": if self.captured { self.amount } else { 0 }, "amount_refunded": self.amount_refunded,
            "application": null, "application_fee": null, "application_fee_amount": null,
            "balance_transaction": booked.then(|| transaction_id(&self.id)),
            "billing_details": *self.card.billing_details, "calculated_statement_descriptor": descriptor,
            "captured": self.captured, "created": self.created, "currency": self.currency, "customer": self.customer,
            "description": self.description, "disputed": self.disputed, "failure_balance_transaction": null,
            "failure_code": decline.map(|decline| &decline.code),
            "failure_message": decline.map(|decline| &decline.message), "fraud_details": {}, "livemode": false,
            "metadata": self.metadata, "on_behalf_of": null, "outcome": self.outcome(), "paid": paid,
            "payment_intent": self.payment_intent, "payment_method": self.card.id,
            "payment_method_details": self.card.details_for_charge(), "radar_options": {},
            "receipt_email": self.receipt_email, "receipt_number": null, "receipt_url": receipt,
            "refunded": self.amount_refunded == self.amount, "review": null, "shipping": null,
            "source_transfer": null, "statement_descriptor": null, "statement_descriptor_suffix": self.suffix,
            "status": self.status(), "transfer_data": null, "transfer_group": null,
        })
    }

    fn outcome(&self) -> Value {
        let risk = if self.effect() == "elevated_risk" { "elevated" } else { "normal" };
        let decline = match &self.result {
            Settled::Succeeded => {
                return json!({
                    "type": "authorized", "network_status": "approved_by_network", "reason": null,
                    "risk_level": risk, "seller_message": "Payment complete.", "advice_code": null,
                    "network_advice_code": null, "network_decline_code": null,
                });
            }
            Settled::Pending => return Value::Null,
            Settled::Failed(decline) => decline,
        };
        if decline.blocked {
            return json!({
                "type": "blocked", "network_status": "not_sent_to_network", "reason": "highest_risk_level",
                "risk_level": "highest", "seller_message": "The sandbox blocked this payment as too risky.",
                "advice_code": null, "network_advice_code": null, "network_decline_code": null,
            });
        }
        let is_mastercard = self.card.brand == "mastercard";
        json!({
            "type": "issuer_declined", "network_status": "declined_by_network", "reason": decline.decline_code,
            "risk_level": risk, "advice_code": decline.advice_code,
            "network_advice_code": decline.network_advice_code.as_ref().filter(|_| is_mastercard),
            "network_decline_code": decline.network_decline_code,
            "seller_message": format!("The bank returned the decline code `{}`.", decline.decline_code),
        })
    }

    pub(super) fn row(&self) -> ChargeRow {
        let decline = self.decline();
        ChargeRow {
            id: self.id.clone(),
            created: self.created,
            left_at: self.left_at,
            payment_intent: self.payment_intent.clone(),
            customer: self.customer.clone(),
            payment_method: self.card.id.clone(),
            fingerprint: self.card.fingerprint.clone(),
            card_entered_at: self.card.created,
            amount: self.amount,
            amount_refunded: self.amount_refunded,
            currency: self.currency.clone(),
            status: self.status(),
            decline_code: decline.map(|decline| decline.decline_code.clone()),
            sent_to_network: decline.is_none_or(|decline| !decline.blocked),
            on_session: self.on_session,
            metadata: self.metadata.clone(),
        }
    }
}

/// How long after a success the money is booked.
const BOOKED_AFTER_MS: i64 = 2_000;

/// Makes the charge of an intent's attempt and says so.
pub(super) fn insert(state: &mut State, intent: &str, result: &Settled, on_session: bool) -> String {
    let id = state.rng.id("ch_3");
    let Some(intent) = state.payment_intents.get(intent) else { return id };
    let card = intent.payment_method.as_deref().and_then(|card| state.payment_methods.get(card));
    let Some(card) = card else { return id };
    let paid = *result == Settled::Succeeded;
    let left_ms = if on_session { state.now_ms } else { state.call.left_ms };
    let charge = Charge {
        id: id.clone(),
        created: state.now_ms.div_euclid(1000),
        left_at: left_ms.div_euclid(1000),
        amount: intent.amount,
        amount_refunded: 0,
        currency: intent.currency.clone(),
        customer: intent.customer.clone(),
        description: intent.description.clone(),
        metadata: intent.metadata.clone(),
        payment_intent: intent.id.clone(),
        card: card.clone(),
        receipt_email: intent.receipt_email.clone(),
        suffix: intent.suffix.clone(),
        result: result.clone(),
        on_session,
        captured: paid && intent.capture_method != "manual",
        booked_at: (paid && intent.capture_method == "automatic").then(|| state.now_ms.div_euclid(1000)),
        disputed: false,
    };
    announce(state, &charge);
    state.charges.insert(charge);
    id
}

fn announce(state: &mut State, charge: &Charge) {
    let kind = match charge.result {
        Settled::Succeeded => "charge.succeeded",
        Settled::Pending => "charge.pending",
        Settled::Failed(_) => "charge.failed",
    };
    state.emit(kind, charge);
    if charge.result == Settled::Succeeded {
        if charge.booked_at.is_none() && charge.captured {
            state.schedule(BOOKED_AFTER_MS, Job::Book { charge: charge.id.clone() });
        }
        follow(state, charge);
    }
}

/// What the card makes of a paid charge later on.
fn follow(state: &mut State, charge: &Charge) {
    let delay_ms = millis(state.options.disputes_after);
    let id = &charge.id;
    let dispute = |reason, inquiry| Job::Dispute { charge: id.clone(), reason, inquiry };
    match charge.effect() {
        "dispute:fraudulent" => state.schedule(delay_ms, dispute("fraudulent", false)),
        "dispute:product_not_received" => state.schedule(delay_ms, dispute("product_not_received", false)),
        "inquiry" => state.schedule(delay_ms, dispute("general", true)),
        "disputes:2" => {
            state.schedule(delay_ms, dispute("fraudulent", false));
            state.schedule(2 * delay_ms, dispute("fraudulent", false));
        }
        "fraud_warning" => state.schedule(delay_ms, Job::WarnOfFraud { charge: id.clone() }),
        _ => {}
    }
}

/// A pending charge is decided.
pub(super) fn finish(state: &mut State, id: &str, result: &Settled) {
    let Some(charge) = state.charges.get_mut(id) else { return };
    charge.result = result.clone();
    charge.captured = *result == Settled::Succeeded;
    let charge = charge.clone();
    announce(state, &charge);
}

/// The money of a paid charge reaches the balance.
pub(super) fn book(state: &mut State, id: &str) {
    let now = state.now();
    let Some(charge) = state.charges.get_mut(id) else { return };
    charge.booked_at = Some(now);
    let shown = charge.clone();
    state.emit_change("charge.updated", &shown, Some(json!({ "balance_transaction": null })));
}

fn transaction_id(id: &str) -> String {
    format!("txn_{id}")
}

/// Card fees in the manner of Stripe: 2.9 % and 30 of the minor unit.
fn fee(amount: i64) -> i64 {
    amount * 29 / 1000 + 30
}

/// The balance transaction of a charge.
pub(super) fn balance_transaction(state: &State, id: &str) -> Option<Value> {
    let charge = state.charges.get(id.strip_prefix("txn_")?)?;
    let at = charge.booked_at?;
    let fee = fee(charge.amount);
    Some(json!({
        "id": id, "object": "balance_transaction", "amount": charge.amount, "available_on": at + 2 * 86_400,
        "balance_type": "payments", "created": at, "currency": charge.currency, "description": charge.description,
        "exchange_rate": null, "fee": fee, "net": charge.amount - fee, "reporting_category": "charge",
        "fee_details": [{ "amount": fee, "application": null, "currency": charge.currency,
            "description": "Stripe processing fees", "type": "stripe_fee" }],
        "source": charge.id, "status": if at + 2 * 86_400 <= state.now() { "available" } else { "pending" },
        "type": "charge",
    }))
}

/// Paid amounts by currency: what is available, and what is still pending.
pub(super) fn balance(state: &State) -> std::collections::BTreeMap<String, (i64, i64)> {
    let mut sums = std::collections::BTreeMap::new();
    for charge in state.charges.iter().filter(|charge| charge.result == Settled::Succeeded) {
        let sum: &mut (i64, i64) = sums.entry(charge.currency.clone()).or_default();
        let net = charge.amount - fee(charge.amount) - charge.amount_refunded;
        match charge.booked_at {
            Some(at) if at + 2 * 86_400 <= state.now() => sum.0 += net,
            _ => sum.1 += net,
        }
    }
    sums
}

pub(super) fn retrieve(state: &mut State, call: &Call<'_>) -> Answered {
    Ok(in_path(&state.charges, "charge", call.id)?.render())
}

pub(super) fn list(state: &mut State, call: &Call<'_>) -> Answered {
    let intent = call.params.text("payment_intent");
    let customer = call.params.text("customer");
    let keep = |charge: &Charge| {
        intent.is_none_or(|id| charge.payment_intent == id)
            && customer.is_none_or(|id| charge.customer.as_deref() == Some(id))
    };
    let query = Query { url: "/v1/charges", owner: intent.or(customer) };
    lists::page(&state.charges, call.params, &query, keep, Charge::render)
}
