//! What each of Stripe's events is about. The table for people is `data/events.csv`, and a test compares the two.

/// What is read again because of an event, and so what may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// A PaymentIntent: what became of a charge.
    Payment,
    /// A Checkout Session: a charge was paid on it, or a card saved.
    Page,
    /// A page of ours saved a card, or will save none any more.
    Saving,
    /// A card left its customer for good.
    CardGone,
    /// A card has a new number or date.
    CardChanged,
    /// A dispute began, changed or ended.
    Dispute,
    /// The issuer reports fraud.
    FraudWarning,
    /// Stripe holds a payment for the merchant to look at.
    Review,
    /// Money of a Stripe charge went back.
    Refunded,
    /// A refund began, changed or failed.
    Refund,
    /// Another tool changed a customer.
    CustomerChanged,
    /// A customer was deleted.
    CustomerGone,
    /// A permission to charge changed.
    Mandate,
    /// What the account may do changed.
    Account,
    /// Stripe's payment to the merchant failed.
    Payout,
    /// Nothing that matters here, or nothing that another event does not tell.
    Nothing,
}

/// What an event of this type, with an object of this type, is about.
pub(super) fn about(object_type: &str, kind: &str) -> About {
    match (object_type, kind) {
        ("payment_intent", _) => About::Payment,
        ("checkout.session", _) => About::Page,
        ("setup_intent", "setup_intent.succeeded" | "setup_intent.canceled") => About::Saving,
        ("payment_method", "payment_method.detached") => About::CardGone,
        ("payment_method", "payment_method.automatically_updated" | "payment_method.updated") => {
            About::CardChanged
        }
        ("dispute", _) => About::Dispute,
        ("radar.early_fraud_warning", _) => About::FraudWarning,
        ("review", _) => About::Review,
        ("charge", "charge.refunded") => About::Refunded,
        ("refund", _) => About::Refund,
        ("customer", "customer.updated") => About::CustomerChanged,
        ("customer", "customer.deleted") => About::CustomerGone,
        ("mandate", _) => About::Mandate,
        ("account", "account.updated") => About::Account,
        ("payout", "payout.failed") => About::Payout,
        _ => About::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(about: About) -> &'static str {
        match about {
            About::Payment => "payment",
            About::Page => "page",
            About::Saving => "saving",
            About::CardGone => "card_gone",
            About::CardChanged => "card_changed",
            About::Dispute => "dispute",
            About::FraudWarning => "fraud_warning",
            About::Review => "review",
            About::Refunded => "refunded",
            About::Refund => "refund",
            About::CustomerChanged => "customer_changed",
            About::CustomerGone => "customer_gone",
            About::Mandate => "mandate",
            About::Account => "account",
            About::Payout => "payout",
            About::Nothing => "nothing",
        }
    }

    #[test]
    fn each_event_does_what_the_table_says() {
        let table = include_str!("../../data/events.csv");
        let rows: Vec<&str> = table.lines().filter(|line| !line.starts_with('#')).skip(1).collect();
        assert_eq!(rows.len(), 48);
        for row in rows {
            let [kind, object, says] = row.split(',').collect::<Vec<_>>().try_into().expect("three columns");
            assert_eq!(word(about(object, kind)), says, "{kind}");
        }
        assert_eq!(about("invoice", "invoice.paid"), About::Nothing);
    }
}
