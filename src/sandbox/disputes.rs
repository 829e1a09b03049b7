//! Disputes and early fraud warnings.

use serde_json::{Value, json};

use super::api::{Answered, Call};
use super::books::DisputeRow;
use super::lists::{self, Query};
use super::state::{State, in_path};
use super::table::Record;

#[derive(Clone, Debug)]
pub(super) struct Dispute {
    id: String,
    created: i64,
    amount: i64,
    currency: String,
    charge: String,
    payment_intent: String,
    reason: &'static str,
    pub(super) status: &'static str,
    inquiry: bool,
}

impl Record for Dispute {
    const OBJECT: &'static str = "dispute";

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

/// Merchants have this long to answer.
const EVIDENCE_SECS: i64 = 9 * 86_400;

/// The evidence that can be sent; the sandbox takes none.
const EVIDENCE: [&str; 27] = [
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
];

impl Dispute {
    pub(super) fn render(&self) -> Value {
        let mut evidence: Value = EVIDENCE.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
        evidence["enhanced_evidence"] = json!({});
        let kind = if self.inquiry { "inquiry" } else { "chargeback" };
        json!({
            "id": self.id, "object": "dispute", "amount": self.amount, "balance_transactions": [],
            "charge": self.charge, "created": self.created, "currency": self.currency,
            "enhanced_eligibility_types": [], "evidence": evidence,
            "evidence_details": {
                "due_by": self.created + EVIDENCE_SECS, "enhanced_eligibility": {}, "has_evidence": false,
                "past_due": false, "submission_count": 0,
            },
            "is_charge_refundable": self.inquiry, "livemode": false, "metadata": {},
            "payment_intent": self.payment_intent, "reason": self.reason, "status": self.status,
            "payment_method_details":
                { "type": "card", "card": { "brand": "visa", "case_type": kind, "network_reason_code": "10.4" } },
        })
    }

    pub(super) fn row(&self) -> DisputeRow {
        DisputeRow { id: self.id.clone(), charge: self.charge.clone(), status: self.status }
    }
}

/// The holder's bank asks the money back, or asks about it.
pub(super) fn open(state: &mut State, charge_id: &str, reason: &'static str, inquiry: bool) {
    let id = state.rng.id("du_1");
    let created = state.now();
    let Some(charge) = state.charges.get_mut(charge_id) else { return };
    charge.disputed |= !inquiry;
    let dispute = Dispute {
        id,
        created,
        amount: charge.amount,
        currency: charge.currency.clone(),
        charge: charge_id.to_owned(),
        payment_intent: charge.payment_intent.clone(),
        reason,
        status: if inquiry { "warning_needs_response" } else { "needs_response" },
        inquiry,
    };
    let shown = dispute.render();
    state.disputes.insert(dispute);
    state.emit("charge.dispute.created", &shown);
    if !inquiry {
        state.emit("charge.dispute.funds_withdrawn", &shown);
    }
}

/// Ends a dispute: `won`, `lost` or `warning_closed`.
pub(super) fn close(state: &mut State, id: &str, status: &'static str) -> Option<Value> {
    let dispute = state.disputes.get_mut(id)?;
    dispute.status = status;
    let (shown, charge) = (dispute.render(), dispute.charge.clone());
    state.emit("charge.dispute.closed", &shown);
    if status == "won" {
        if let Some(charge) = state.charges.get_mut(&charge) {
            charge.disputed = false;
        }
        state.emit("charge.dispute.funds_reinstated", &shown);
    }
    Some(shown)
}

/// The issuer reports fraud before any dispute.
pub(super) fn warn(state: &mut State, charge: &str) {
    let id = state.rng.id("issfr_1");
    let Some(charge) = state.charges.get(charge) else { return };
    let warning = json!({
        "id": id, "object": "radar.early_fraud_warning", "actionable": true, "charge": charge.id,
        "created": state.now(), "fraud_type": "made_with_stolen_card", "livemode": false,
        "payment_intent": charge.payment_intent,
    });
    state.emit("radar.early_fraud_warning.created", &warning);
}

pub(super) fn retrieve(state: &mut State, call: &Call<'_>) -> Answered {
    Ok(in_path(&state.disputes, "dispute", call.id)?.render())
}

pub(super) fn list(state: &mut State, call: &Call<'_>) -> Answered {
    let (charge, intent) = (call.params.text("charge"), call.params.text("payment_intent"));
    let keep = |dispute: &Dispute| {
        charge.is_none_or(|id| dispute.charge == id) && intent.is_none_or(|id| dispute.payment_intent == id)
    };
    let query = Query { url: "/v1/disputes", owner: charge.or(intent) };
    lists::page(&state.disputes, call.params, &query, keep, Dispute::render)
}
