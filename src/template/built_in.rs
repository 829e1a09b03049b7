//! The templates that are part of the program.

/// Name and text of each.
pub(super) const TEMPLATES: &[(&str, &str)] = &[
    (
        "mail/en/authentication_required.html",
        include_str!("../mail/templates/en/authentication_required.html"),
    ),
    (
        "mail/en/authentication_required.subject",
        include_str!("../mail/templates/en/authentication_required.subject"),
    ),
    ("mail/en/authentication_required.txt", include_str!("../mail/templates/en/authentication_required.txt")),
    ("mail/en/base.html", include_str!("../mail/templates/en/base.html")),
    ("mail/en/base.txt", include_str!("../mail/templates/en/base.txt")),
    ("mail/en/last_notice.html", include_str!("../mail/templates/en/last_notice.html")),
    ("mail/en/last_notice.subject", include_str!("../mail/templates/en/last_notice.subject")),
    ("mail/en/last_notice.txt", include_str!("../mail/templates/en/last_notice.txt")),
    ("mail/en/operator_alarm.subject", include_str!("../mail/templates/en/operator_alarm.subject")),
    ("mail/en/operator_alarm.txt", include_str!("../mail/templates/en/operator_alarm.txt")),
    ("mail/en/payment_failed.html", include_str!("../mail/templates/en/payment_failed.html")),
    ("mail/en/payment_failed.subject", include_str!("../mail/templates/en/payment_failed.subject")),
    ("mail/en/payment_failed.txt", include_str!("../mail/templates/en/payment_failed.txt")),
    ("mail/en/receipt.html", include_str!("../mail/templates/en/receipt.html")),
    ("mail/en/receipt.subject", include_str!("../mail/templates/en/receipt.subject")),
    ("mail/en/receipt.txt", include_str!("../mail/templates/en/receipt.txt")),
    ("mail/en/recovered.html", include_str!("../mail/templates/en/recovered.html")),
    ("mail/en/recovered.subject", include_str!("../mail/templates/en/recovered.subject")),
    ("mail/en/recovered.txt", include_str!("../mail/templates/en/recovered.txt")),
    ("mail/en/save_card.html", include_str!("../mail/templates/en/save_card.html")),
    ("mail/en/save_card.subject", include_str!("../mail/templates/en/save_card.subject")),
    ("mail/en/save_card.txt", include_str!("../mail/templates/en/save_card.txt")),
    ("mail/en/subscription_ended.html", include_str!("../mail/templates/en/subscription_ended.html")),
    ("mail/en/subscription_ended.subject", include_str!("../mail/templates/en/subscription_ended.subject")),
    ("mail/en/subscription_ended.txt", include_str!("../mail/templates/en/subscription_ended.txt")),
    ("mail/en/words.txt", include_str!("../mail/templates/en/words.txt")),
];
