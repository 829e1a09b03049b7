//! Refunds.

use serde_json::{Value, json};

use super::api::{Answered, Call};
use super::books::RefundRow;
use super::charges::{Charge, Settled};
use super::errors::ApiError;
use super::lists::{self, Query};
use super::params::Metadata;
use super::state::{Job, State, in_param, in_path};
use super::table::Record;

#[derive(Clone, Debug)]
pub(super) struct Refund {
    id: String,
    created: i64,
    amount: i64,
    charge: String,
    payment_intent: String,
    currency: String,
    reason: Option<String>,
    metadata: Metadata,
    status: &'static str,
}

impl Record for Refund {
    const OBJECT: &'static str = "refund";

    fn id(&self) -> &str {
        &self.id
    }

    fn created(&self) -> i64 {
        self.created
    }

    fn owners(&self) -> [Option<&str>; 2] {
        [Some(&self.charge), Some(&self.payment_intent)]
    }
}

impl Refund {
    pub(super) fn render(&self) -> Value {
        let mut object = json!({
            "id": self.id, "object": "refund", "amount": self.amount, "balance_transaction": null,
            "charge": self.charge, "created": self.created, "currency": self.currency,
            "destination_details": { "card": { "type": "refund" }, "type": "card" }, "metadata": self.metadata,
            "payment_intent": self.payment_intent, "reason": self.reason, "receipt_number": null,
            "source_transfer_reversal": null, "status": self.status, "transfer_reversal": null,
        });
        if self.status == "failed" {
            object["failure_reason"] = "unknown".into();
        }
        object
    }

    pub(super) fn row(&self) -> RefundRow {
        RefundRow {
            id: self.id.clone(),
            charge: self.charge.clone(),
            amount: self.amount,
            status: self.status,
        }
    }
}

/// How long a refund that is not final at once takes.
const SETTLES_AFTER_MS: i64 = 24 * 3_600_000;

pub(super) fn create(state: &mut State, call: &Call<'_>) -> Answered {
    let charge = charge_of(state, call)?.clone();
    let left = charge.amount - charge.amount_refunded;
    let amount = call.params.int("amount").unwrap_or(left);
    check(&charge, amount, left)?;
    let pending = charge.effect() == "refund_pending";
    let refund = Refund {
        id: state.rng.id("re_3"),
        created: state.now(),
        amount,
        charge: charge.id.clone(),
        payment_intent: charge.payment_intent.clone(),
        currency: charge.currency.clone(),
        reason: call.params.owned("reason"),
        metadata: call.params.metadata("metadata")?,
        status: if pending { "pending" } else { "succeeded" },
    };
    if let Some(charge) = state.charges.get_mut(&charge.id) {
        charge.amount_refunded += amount;
    }
    if pending || charge.effect() == "refund_fails" {
        let job = Job::FinishRefund { refund: refund.id.clone(), succeeds: pending };
        state.schedule(SETTLES_AFTER_MS, job);
    }
    let shown = refund.render();
    state.refunds.insert(refund);
    state.emit("refund.created", &shown);
    if let Some(shown) = state.charges.get(&charge.id).cloned() {
        let previous = json!({ "amount_refunded": charge.amount_refunded, "refunded": false });
        state.emit_change("charge.refunded", &shown, Some(previous));
    }
    Ok(shown)
}

fn charge_of<'a>(state: &'a State, call: &Call<'_>) -> Result<&'a Charge, ApiError> {
    if let Some(id) = call.params.text("charge") {
        return in_param(&state.charges, "charge", id);
    }
    let Some(id) = call.params.text("payment_intent") else {
        let message =
            "One of the following params should be provided for this request: payment_intent or charge.";
        return Err(ApiError::invalid(message).code("parameter_missing"));
    };
    let intent = in_param(&state.payment_intents, "payment_intent", id)?;
    let charge = intent.latest_charge.as_deref().and_then(|id| state.charges.get(id));
    charge.filter(|charge| charge.result == Settled::Succeeded).ok_or_else(|| {
        let message = format!("This PaymentIntent ({id}) does not have a successful charge to refund.");
        ApiError::invalid(message).code("payment_intent_unexpected_state")
    })
}

fn check(charge: &Charge, amount: i64, left: i64) -> Result<(), ApiError> {
    if charge.result != Settled::Succeeded {
        return Err(ApiError::param("charge", "This charge did not succeed, so it cannot be refunded."));
    }
    if charge.disputed {
        let message = format!("Charge {} has been charged back; cannot issue a refund.", charge.id);
        return Err(ApiError::invalid(message).code("charge_disputed"));
    }
    if left == 0 {
        let message = format!("Charge {} has already been refunded.", charge.id);
        return Err(ApiError::invalid(message).code("charge_already_refunded"));
    }
    if amount < 1 {
        return Err(ApiError::param("amount", "Invalid positive integer").code("parameter_invalid_integer"));
    }
    if amount > left {
        let message =
            format!("Refund amount ({amount}) is greater than unrefunded amount on charge ({left})");
        return Err(ApiError::param("amount", message));
    }
    Ok(())
}

/// A refund becomes final: a pending one succeeds, another fails after it had succeeded.
pub(super) fn finish(state: &mut State, id: &str, succeeds: bool) {
    let Some(refund) = state.refunds.get_mut(id) else { return };
    let before = std::mem::replace(&mut refund.status, if succeeds { "succeeded" } else { "failed" });
    let (shown, amount, charge) = (refund.render(), refund.amount, refund.charge.clone());
    if let Some(charge) = state.charges.get_mut(&charge).filter(|_| !succeeds) {
        charge.amount_refunded -= amount;
    }
    state.emit_change("refund.updated", &shown, Some(json!({ "status": before })));
    if !succeeds {
        state.emit("refund.failed", &shown);
    }
}

/// The list inside an expanded charge.
pub(super) fn of_charge(state: &State, charge: &str) -> Value {
    let refunds = state.refunds.newest_of(charge).map(Refund::render).collect();
    lists::wrap(refunds, false, &format!("/v1/charges/{charge}/refunds"))
}

pub(super) fn retrieve(state: &mut State, call: &Call<'_>) -> Answered {
    Ok(in_path(&state.refunds, "refund", call.id)?.render())
}

pub(super) fn list(state: &mut State, call: &Call<'_>) -> Answered {
    let (charge, intent) = (call.params.text("charge"), call.params.text("payment_intent"));
    let keep = |refund: &Refund| {
        charge.is_none_or(|id| refund.charge == id) && intent.is_none_or(|id| refund.payment_intent == id)
    };
    let query = Query { url: "/v1/refunds", owner: charge.or(intent) };
    lists::page(&state.refunds, call.params, &query, keep, Refund::render)
}
