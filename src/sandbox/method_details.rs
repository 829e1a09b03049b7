//! What a charge remembers of the card or account it was tried with.

use serde_json::{Value, json};

use super::cards::{IDEAL, SEPA_DEBIT};
use super::payment_methods::PaymentMethod;

impl PaymentMethod {
    /// The card or account as a charge remembers it.
    pub(super) fn details_for_charge(&self) -> Value {
        match self.kind.method() {
            SEPA_DEBIT => {
                json!({ "type": SEPA_DEBIT, "sepa_debit": self.account(&json!({ "mandate": null })) })
            }
            IDEAL => json!({ "type": IDEAL, "ideal": {
                "bank": "ing", "bic": "INGBNL2A", "generated_sepa_debit": null, "generated_sepa_debit_mandate": null,
                "iban_last4": "0300", "transaction_id": null, "verified_name": self.billing_details["name"],
            } }),
            _ => self.card_for_charge(),
        }
    }

    fn card_for_charge(&self) -> Value {
        json!({
            "type": "card",
            "card": {
                "amount_authorized": null, "authorization_code": null, "brand": self.brand, "checks": self.checks(),
                "country": self.kind.country, "exp_month": self.exp_month, "exp_year": self.exp_year,
                "extended_authorization": { "status": "disabled" }, "fingerprint": self.fingerprint,
                "funding": self.kind.funding, "incremental_authorization": { "status": "unavailable" },
                "installments": null, "last4": self.last4, "mandate": null,
                "multicapture": { "status": "unavailable" }, "network": self.brand,
                "network_token": { "used": false }, "network_transaction_id": null,
                "overcapture": { "maximum_amount_capturable": 0, "status": "unavailable" },
                "regulated_status": "unregulated", "three_d_secure": null, "wallet": null,
            },
        })
    }
}
