//! What a mail says: typed, and the same for every mail to a customer.
//!
//! Amounts and dates arrive as text in the customer's language (see [`super::format`]); everything that is a
//! choice is an enum, so that each language has its own sentence for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use crate::template::{clean, looks_like_a_link};

/// Limit: a longer name is no greeting.
const NAME_CHARS_MAX: usize = 60;

/// Why a brand, link or card cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Not `#rrggbb`.
    #[error("{0:?} is not a colour; write it as six hexadecimal digits, such as \"#2456e6\"")]
    Color(String),
    /// Not a plain http or https address.
    #[error("{0:?} is not a link; it must start with https:// (or http://) and have no blanks or quotes")]
    Link(String),
    /// Not four digits.
    #[error("the last digits of a card must be exactly four digits")]
    Last4,
}

/// An address a button or text may lead to: http or https, without characters that end an attribute or a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Link(String);

impl Link {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`ContextError::Link`] for other schemes (`javascript:`), missing hosts, blanks, quotes and controls.
    pub fn new(text: &str) -> Result<Self, ContextError> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or("");
        let clean = text.bytes().all(|b| b.is_ascii_graphic() && !b"\"'<>\\^`{|}".contains(&b));
        if host.is_empty() || !clean {
            return Err(ContextError::Link(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Scheme and host, as a content security policy names it.
    #[must_use]
    pub fn origin(&self) -> &str {
        let after = self.0.find("://").map_or(0, |at| at + 3);
        let end = self.0[after..].find(['/', '?', '#']).map_or(self.0.len(), |at| after + at);
        &self.0[..end]
    }
}

impl TryFrom<String> for Link {
    type Error = ContextError;
    fn try_from(text: String) -> Result<Self, ContextError> {
        Self::new(&text)
    }
}

/// A colour as `#rrggbb`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Color(String);

impl Color {
    /// Black or white, whichever reads better on this colour. The contrast is never below 4.5 to 1.
    #[must_use]
    pub fn ink(&self) -> &'static str {
        // The crossover where black and white contrast equally; see WCAG 2, relative luminance.
        if self.luminance() > 0.179 { "#000000" } else { "#ffffff" }
    }

    fn luminance(&self) -> f64 {
        let channel = |at: usize| {
            let part = u8::from_str_radix(self.0.get(at..at + 2).unwrap_or("00"), 16).unwrap_or(0);
            let share = f64::from(part) / 255.0;
            if share <= 0.040_45 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }
}

impl FromStr for Color {
    type Err = ContextError;
    fn from_str(text: &str) -> Result<Self, ContextError> {
        match text.strip_prefix('#') {
            Some(hex) if hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Ok(Self(text.to_ascii_lowercase()))
            }
            _ => Err(ContextError::Color(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Color {
    type Error = ContextError;
    fn try_from(text: String) -> Result<Self, ContextError> {
        text.parse()
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who sends the mail and owns the page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Brand {
    /// The merchant's name as customers know it.
    pub name: String,
    /// The colour of the button.
    pub color: Color,
    /// A picture to show instead of the name, at most 160 x 40 pixels on screen.
    pub logo_url: Option<Link>,
    /// Where answers go; shown where the mail asks the customer to write.
    pub reply_to: String,
    /// Company name, postal address and the like; may have several lines.
    pub footer: String,
    /// A help page.
    pub support_url: Option<Link>,
}

impl Serialize for Brand {
    /// Adds `ink`, the text colour that is readable on `color`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct View<'a> {
            name: &'a str,
            color: &'a Color,
            ink: &'a str,
            logo_url: &'a Option<Link>,
            reply_to: &'a str,
            footer: &'a str,
            support_url: &'a Option<Link>,
        }
        let Self { name, color, logo_url, reply_to, footer, support_url } = self;
        View { name, color, ink: color.ink(), logo_url, reply_to, footer, support_url }.serialize(serializer)
    }
}

/// Whom the mail greets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// The name to greet; left out of the mail when it looks like a link or is too long to be one.
    #[serde(serialize_with = "greetable")]
    pub name: Option<String>,
}

fn greetable<S: Serializer>(name: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    name.as_deref().and_then(plausible_name).serialize(serializer)
}

/// A name fit for a greeting or a `To:` header, or none.
pub(super) fn plausible_name(name: &str) -> Option<String> {
    let cleaned = clean(name).split_whitespace().collect::<Vec<_>>().join(" ");
    let fits = !cleaned.is_empty() && cleaned.chars().count() <= NAME_CHARS_MAX;
    (fits && !looks_like_a_link(&cleaned)).then_some(cleaned)
}

/// One charge as the customer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeLine {
    /// What it is for, such as the plan's name and period.
    pub description: String,
    /// Formatted amount with its currency.
    pub amount: String,
    /// Formatted due date.
    pub due_date: String,
    /// What support asks for, such as the charge's id.
    pub reference: Option<String>,
}

/// The card that was tried: its brand and last four digits, and never more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawCard")]
pub struct Card {
    brand: String,
    last4: String,
}

#[derive(Deserialize)]
struct RawCard {
    brand: String,
    last4: String,
}

impl Card {
    /// A card from Stripe's facts: `visa`, `4242`.
    ///
    /// # Errors
    /// [`ContextError::Last4`] for anything but four digits: a whole number must never reach a mail.
    pub fn new(brand: &str, last4: &str) -> Result<Self, ContextError> {
        if last4.len() != 4 || !last4.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ContextError::Last4);
        }
        let brand = match brand {
            "visa" => "Visa",
            "mastercard" => "Mastercard",
            "amex" => "American Express",
            "cartes_bancaires" => "Cartes Bancaires",
            "diners" => "Diners Club",
            "discover" => "Discover",
            "eftpos_au" => "eftpos",
            "jcb" => "JCB",
            "unionpay" => "UnionPay",
            "unknown" | "" => "card",
            other => other,
        };
        Ok(Self { brand: brand.to_owned(), last4: last4.to_owned() })
    }
}

impl TryFrom<RawCard> for Card {
    type Error = ContextError;
    fn try_from(raw: RawCard) -> Result<Self, ContextError> {
        Self::new(&raw.brand, &raw.last4)
    }
}
