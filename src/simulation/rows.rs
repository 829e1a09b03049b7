//! The rows of the journal: what a database says of each of its things when it changes.

use serde::Deserialize;

/// A charge.
#[derive(Clone, Debug, Deserialize)]
pub struct ChargeRow {
    /// Its id.
    pub id: String,
    /// Its subscription.
    pub subscription: Option<String>,
    /// Its period.
    pub period: Option<i64>,
    /// Its customer.
    pub customer: String,
    /// Minor units.
    pub amount: i64,
    /// Lowercase code.
    pub currency: String,
    /// Unix seconds.
    pub due_at: i64,
    /// State.
    pub state: String,
    /// When the next action is due, Unix seconds.
    pub next_at: Option<i64>,
    /// Until when a link is open, or a person has been waited for, Unix seconds.
    pub until_at: Option<i64>,
    /// Declines so far.
    pub declines: Option<i64>,
}

/// An attempt.
#[derive(Clone, Debug, Deserialize)]
pub struct AttemptRow {
    /// Its charge.
    pub charge: String,
    /// Its number.
    pub number: i64,
    /// Its key.
    pub key: String,
    /// State.
    pub state: String,
    /// How often it was marked as sent.
    pub sends: i64,
    /// Since when a 5xx is known.
    pub poisoned: Option<i64>,
    /// When its key was first used, Unix seconds by the clock of whoever did it.
    pub first_sent_at: Option<i64>,
}

/// A collector.
#[derive(Clone, Debug, Deserialize)]
pub struct CollectorRow {
    /// Its charge.
    pub charge: String,
    /// Its generation.
    pub generation: i64,
    /// Kind.
    pub kind: String,
    /// State.
    pub state: String,
}

/// A subscription.
#[derive(Clone, Debug, Deserialize)]
pub struct SubscriptionRow {
    /// Its id.
    pub id: String,
    /// State.
    pub state: String,
    /// The first period without a charge.
    pub next_index: i64,
    /// Its plan.
    pub plan: String,
    /// Local date of period 0.
    pub anchor: String,
    /// IANA zone.
    pub zone: String,
}

/// A promise.
#[derive(Clone, Debug, Deserialize)]
pub struct PromiseRow {
    /// Its id.
    pub id: String,
    /// What it belongs to.
    pub subject: String,
    /// Unique within the subject.
    pub step: String,
    /// Kind.
    pub kind: String,
    /// Template of a mail.
    pub template: Option<String>,
    /// State.
    pub state: String,
}

/// A try of a card that was declined.
#[derive(Clone, Debug, Deserialize)]
pub struct TryRow {
    /// Its id.
    pub id: String,
}

/// An operator's command.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditRow {
    /// What it was about.
    pub subject: String,
    /// What was done.
    pub what: String,
}

/// A stored event.
#[derive(Clone, Debug, Deserialize)]
pub struct EventRow {
    /// Its id.
    pub id: String,
    /// State.
    pub state: String,
}

/// A customer.
#[derive(Clone, Debug, Deserialize)]
pub struct CustomerRow {
    /// Its id.
    pub id: String,
    /// At Stripe.
    pub stripe: String,
    /// Whether the address takes mail.
    pub mail: String,
    /// Why nothing is charged.
    pub hold: Option<String>,
    /// Whether no card is saved.
    #[serde(deserialize_with = "is_true")]
    pub cardless: bool,
    /// The number of the saved card in other words.
    pub fingerprint: Option<String>,
    /// Since when a card is saved that was not before, Unix milliseconds.
    #[serde(skip)]
    pub card_since_ms: i64,
}

/// The installation.
#[derive(Clone, Debug, Deserialize)]
pub struct InstanceRow {
    /// The witness at Stripe.
    pub witness: Option<String>,
    /// The newest nonce.
    pub nonce: Option<String>,
    /// Those before.
    pub before: String,
    /// Why nothing is charged.
    pub halted: Option<String>,
    /// Since when Stripe may know more, Unix seconds.
    pub behind: Option<i64>,
}

/// SQLite's truth is 1.
fn is_true<'a, D: serde::Deserializer<'a>>(value: D) -> Result<bool, D::Error> {
    i64::deserialize(value).map(|number| number != 0)
}
