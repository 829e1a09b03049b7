//! What the demo's customers do about their mail.

/// Somebody who clicks the link in a mail: how many days later, and with which card.
pub(super) struct Clicker {
    pub email: &'static str,
    pub days_later: i64,
    pub card: &'static str,
}

/// The others read their mail and do nothing.
pub(super) const CLICKERS: [Clicker; 4] = [
    Clicker { email: "eva@example.com", days_later: 1, card: "pm_card_visa" },
    Clicker { email: "finn@example.com", days_later: 2, card: "pm_card_mastercard" },
    Clicker { email: "ines@example.com", days_later: 0, card: "pm_card_visa" },
    Clicker { email: "grace@example.com", days_later: 400, card: "pm_card_visa" },
];

/// People who sign up on the hosted page instead of being imported: address, name, plan, card they enter.
pub(super) const ENROLLED: [(&str, &str, &str, &str); 3] = [
    ("rosa@example.com", "Rosa", "basic", "pm_card_visa"),
    ("sam@example.com", "Sam", "pro", "pm_card_sandbox_goodThenFunds"),
    ("tara@example.com", "Tara", "basic", "pm_card_sandbox_goodThenLost"),
];
