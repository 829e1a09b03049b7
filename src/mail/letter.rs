//! The mails there are, the choices inside them, and their rendering.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::context::{Brand, Card, ChargeLine, Customer, Link};
use crate::template::{TemplateError, Templates};

/// The mails to customers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailName {
    /// A charge was declined; [`Tone`] makes it a first mail or a reminder.
    PaymentFailed,
    /// The bank wants the customer to confirm the charge.
    AuthenticationRequired,
    /// The last mail before the ladder ends.
    LastNotice,
    /// Paid after a decline.
    Recovered,
    /// Paid.
    Receipt,
    /// The ladder ended unpaid; [`Ending`] says how.
    SubscriptionEnded,
    /// Asks for a card to be saved.
    SaveCard,
    /// Tells of a charge before it is collected.
    UpcomingCharge,
    /// The saved card expires soon: [`Tone::First`] a month before, [`Tone::Reminder`] a week before.
    CardExpiring,
}

impl MailName {
    /// Every mail to customers, in the order of a customer's life with them.
    pub const ALL: [Self; 9] = [
        Self::SaveCard,
        Self::UpcomingCharge,
        Self::Receipt,
        Self::CardExpiring,
        Self::PaymentFailed,
        Self::AuthenticationRequired,
        Self::LastNotice,
        Self::Recovered,
        Self::SubscriptionEnded,
    ];

    /// The name as `schedules.toml` and the template files have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PaymentFailed => "payment_failed",
            Self::AuthenticationRequired => "authentication_required",
            Self::LastNotice => "last_notice",
            Self::Recovered => "recovered",
            Self::Receipt => "receipt",
            Self::SubscriptionEnded => "subscription_ended",
            Self::SaveCard => "save_card",
            Self::UpcomingCharge => "upcoming_charge",
            Self::CardExpiring => "card_expiring",
        }
    }

    /// Whether the mail is pointless without its button.
    fn needs_link(self) -> bool {
        match self {
            Self::PaymentFailed
            | Self::AuthenticationRequired
            | Self::LastNotice
            | Self::SaveCard
            | Self::CardExpiring => true,
            Self::Recovered | Self::Receipt | Self::SubscriptionEnded | Self::UpcomingCharge => false,
        }
    }

    /// Whether the mail is about a charge.
    fn needs_charge(self) -> bool {
        !matches!(self, Self::SaveCard | Self::CardExpiring)
    }
}

impl fmt::Display for MailName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no mail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a mail; there are {all}", all = MailName::ALL.map(MailName::as_str).join(", "))]
pub struct UnknownMail(pub String);

impl FromStr for MailName {
    type Err = UnknownMail;
    fn from_str(text: &str) -> Result<Self, UnknownMail> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| UnknownMail(text.to_owned()))
    }
}

/// How often the customer has heard of this.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// The first mail about this charge.
    #[default]
    First,
    /// The second.
    Reminder,
    /// A later one.
    Firm,
}

/// Why the charge was not paid, in words that blame nobody and reveal nothing.
///
/// "Lost", "stolen" and "fraud" have no variant on purpose: whoever reads the mail may be the thief, and mostly is not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The bank said no and did not say why.
    #[default]
    Declined,
    /// Balance or limit.
    Funds,
    /// The card's date has passed.
    Expired,
    /// Number, date or check digits are not what the bank has.
    Details,
    /// This card cannot be used for this, now or later; another one is needed.
    NotAccepted,
    /// The bank wants to ask the customer.
    Authentication,
    /// The bank could not be reached or could not answer.
    Temporary,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextWhat {
    /// The same card is tried again.
    Retry,
    /// The card is not tried again by itself.
    NoRetry,
    /// Unpaid until then: the subscription is canceled.
    Cancel,
    /// Unpaid until then: the subscription is paused.
    Pause,
    /// Unpaid until then: collecting stops and the amount stays unpaid.
    Uncollectible,
    /// The next regular charge.
    NextCharge,
}

/// What happens next, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// What.
    pub what: NextWhat,
    /// Formatted date, where there is one.
    pub date: Option<String>,
}

/// How a subscription ended unpaid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Canceled: nothing is charged any more.
    #[default]
    Canceled,
    /// Paused until it is paid.
    Paused,
    /// The amount stays unpaid, the subscription is as it was.
    Uncollectible,
}

/// Everything a mail to a customer can say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailContext {
    /// Who writes.
    pub brand: Brand,
    /// Whom.
    pub customer: Customer,
    /// About which charges; at least one, save for `save_card` and `card_expiring`.
    pub charges: Vec<ChargeLine>,
    /// Formatted sum of the charges; none only when their currencies differ.
    pub total: Option<String>,
    /// Formatted date of payment, in receipts.
    pub paid_on: Option<String>,
    /// Formatted last day of the card, in `card_expiring`.
    pub expires_on: Option<String>,
    /// The card that was tried or charged.
    pub card: Option<Card>,
    /// Why it was not paid.
    pub reason: Reason,
    /// First mail, reminder, or a firm one.
    pub tone: Tone,
    /// What happens next, in order.
    pub next: Vec<Next>,
    /// How it ended, in `subscription_ended`.
    pub ending: Ending,
    /// Where the button leads: the pay link, or the page to save a card.
    pub pay_url: Option<Link>,
    /// Where the customer cancels; without it the mail asks for an answer.
    pub cancel_url: Option<Link>,
    /// The language of amounts and dates, see [`regional_locale`]; rendering puts the language of the text here.
    pub locale: String,
}

/// Something the operator should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmContext {
    /// The merchant or installation, to tell several apart.
    pub instance: String,
    /// One line: what is wrong.
    pub title: String,
    /// Since when, formatted.
    pub since: String,
    /// What was seen, a line each.
    pub details: Vec<String>,
    /// What to do, a line each.
    pub steps: Vec<String>,
    /// Whether charging goes on meanwhile.
    pub charging_stopped: bool,
    /// How many charges or mails wait for this.
    pub waiting: u64,
}

/// A mail's text, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// One line without control characters.
    pub subject: String,
    /// The plain part.
    pub text: String,
    /// The HTML part.
    pub html: Option<String>,
    /// The language it is written in.
    pub locale: String,
}

/// Writes a mail to a customer in the best language there is for `context.locale`.
///
/// Ask [`regional_locale`] first: amounts and dates are to be formatted in the language the mail will have.
///
/// # Errors
/// [`TemplateError::Missing`] without a charge or link the mail is about; [`TemplateError::Broken`] from a template.
pub fn write(templates: &Templates, name: MailName, context: &MailContext) -> Result<Letter, TemplateError> {
    let missing = |detail: &str| TemplateError::Missing { name: name.to_string(), detail: detail.to_owned() };
    if name.needs_link() && context.pay_url.is_none() {
        return Err(missing("it has no link for its button"));
    }
    if name.needs_charge() && context.charges.is_empty() {
        return Err(missing("it names no charge"));
    }
    let locale = templates.locale("mail", &format!("{name}.subject"), &context.locale);
    let context = MailContext { locale: locale.clone(), ..context.clone() };
    let part = |extension| templates.render(&format!("mail/{locale}/{name}.{extension}"), &context);
    Ok(Letter {
        subject: part("subject")?,
        text: part("txt")?,
        html: Some(part("html")?),
        locale: locale.clone(),
    })
}

/// The language, with its region, of amounts and dates in this mail to a customer who wants `wanted`.
#[must_use]
pub fn regional_locale(templates: &Templates, name: MailName, wanted: &str) -> String {
    templates.regional_locale("mail", &format!("{name}.subject"), wanted)
}

/// Writes an alarm to the operator: English, text only.
///
/// # Errors
/// [`TemplateError::Broken`] from a template.
pub fn write_alarm(templates: &Templates, context: &AlarmContext) -> Result<Letter, TemplateError> {
    let part = |extension| templates.render(&format!("mail/en/operator_alarm.{extension}"), context);
    Ok(Letter { subject: part("subject")?, text: part("txt")?, html: None, locale: "en".to_owned() })
}
