//! From the books to a mail's context: what is owed, why, what happens next.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::billing::calendar::zone;
use crate::billing::charge::State;
use crate::billing::decline::{Class, Decline};
use crate::billing::dunning::Action;
use crate::billing::ladder::{Finally, LadderStep};
use crate::config::Config;
use crate::mail::{
    Brand, Card, ChargeLine, Customer as Greeting, Ending, Link, MailContext, Mailbox, Next, NextWhat,
    Reason, Tone, format,
};
use crate::store::{Claimed, Customer};

/// What every mail has in common, checked once at start.
#[derive(Clone, Debug)]
pub struct Letterhead {
    /// Sender.
    pub from: Mailbox,
    /// Where answers go.
    pub reply_to: Option<Mailbox>,
    /// Who is told when a person must look.
    pub operator: Option<Mailbox>,
    /// How the merchant looks.
    pub brand: Brand,
    /// Where customers cancel.
    pub cancel_url: Option<Link>,
}

impl Letterhead {
    /// Reads `[mail]` and `[brand]`.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn new(config: &Config) -> Result<Self, String> {
        let mailbox = |key: &str, text: &str| mailbox(text).map_err(|error| format!("{key}: {error}"));
        let link = |key: &str, text: &Option<String>| {
            text.as_deref().map(Link::new).transpose().map_err(|error| format!("{key}: {error}"))
        };
        let from = mailbox("mail.from", &config.mail.from)?;
        let reply_to =
            config.mail.reply_to.as_deref().map(|text| mailbox("mail.reply_to", text)).transpose()?;
        let operator =
            config.mail.operator.as_deref().map(|text| mailbox("mail.operator", text)).transpose()?;
        let answers = reply_to.as_ref().unwrap_or(&from).email().to_owned();
        let brand = Brand {
            name: config.brand.name.clone(),
            color: config.brand.color.parse().map_err(|error| format!("brand.color: {error}"))?,
            logo_url: link("brand.logo_url", &config.brand.logo_url)?,
            reply_to: answers,
            footer: config.brand.footer.clone().unwrap_or_default(),
            support_url: link("brand.support_url", &config.brand.support_url)?,
        };
        let cancel_url = link("brand.cancel_url", &config.brand.cancel_url)?;
        Ok(Self { from, reply_to, operator, brand, cancel_url })
    }
}

fn mailbox(text: &str) -> Result<Mailbox, crate::mail::HeaderError> {
    match text.trim().strip_suffix('>').and_then(|rest| rest.split_once('<')) {
        Some((name, address)) => {
            let name = name.trim().trim_matches('"');
            Mailbox::new((!name.is_empty()).then_some(name), address)
        }
        None => Mailbox::new(None, text.trim()),
    }
}

/// Everything a mail about a charge says.
pub(super) struct About<'a> {
    pub claimed: &'a Claimed,
    pub customer: &'a Customer,
    /// All open charges of the customer, this one first.
    pub open: &'a [Claimed],
    pub decline: Option<&'a Decline>,
    pub finally: Finally,
    pub tone: Tone,
    pub pay_url: Option<Link>,
    /// The language of amounts and dates.
    pub locale: String,
}

/// The context of a mail about a charge.
pub(super) fn context(head: &Letterhead, about: &About<'_>) -> MailContext {
    let customer = about.customer;
    let zone = zone(&customer.time_zone).unwrap_or(TimeZone::UTC);
    let locale = &about.locale;
    let date = |at: Timestamp| format::date(at, &zone, locale);
    let lines = about.open.iter().map(|one| line(one, &zone, locale)).collect();
    MailContext {
        brand: head.brand.clone(),
        customer: Greeting { name: (!customer.name.is_empty()).then(|| customer.name.clone()) },
        charges: lines,
        total: total(about.open, locale),
        paid_on: match about.claimed.charge.state {
            State::Paid { at, .. } => Some(date(at)),
            _ => None,
        },
        expires_on: None,
        card: card(customer),
        reason: about.decline.map_or(Reason::Declined, reason),
        tone: about.tone,
        next: next(about, &date),
        ending: match about.finally {
            Finally::Cancel => Ending::Canceled,
            Finally::Pause => Ending::Paused,
            Finally::Uncollectible => Ending::Uncollectible,
        },
        pay_url: about.pay_url.clone(),
        cancel_url: head.cancel_url.clone(),
        locale: locale.clone(),
    }
}

/// How often the ladder has written before the step a mail belongs to: friendly, then plain, then firm.
pub(super) fn tone(steps: &[LadderStep], step: &str) -> Tone {
    let number = step.strip_prefix("ladder-").and_then(|number| number.parse().ok()).unwrap_or(0);
    match steps.iter().take(number).filter(|step| step.mail.is_some()).count() {
        0 => Tone::First,
        1 => Tone::Reminder,
        _ => Tone::Firm,
    }
}

fn line(one: &Claimed, zone: &TimeZone, locale: &str) -> ChargeLine {
    let id = one.charge.id.to_string();
    ChargeLine {
        description: one.charge.description.clone(),
        amount: format::amount(one.charge.amount, locale),
        due_date: format::date(one.charge.due_at, zone, locale),
        reference: Some(id.split('-').next().unwrap_or_default().to_owned()),
    }
}

/// The sum, where there is more than one charge and all have one currency.
fn total(open: &[Claimed], locale: &str) -> Option<String> {
    let first = open.first()?.charge.amount;
    if open.len() < 2 || open.iter().any(|one| one.charge.amount.currency() != first.currency()) {
        return None;
    }
    let minor = open.iter().map(|one| one.charge.amount.minor()).sum();
    crate::billing::money::Money::from_minor(minor, first.currency())
        .ok()
        .map(|sum| format::amount(sum, locale))
}

pub(super) fn card(customer: &Customer) -> Option<Card> {
    Card::new(customer.card_brand.as_deref()?, customer.card_last4.as_deref()?).ok()
}

/// Neutral words: a customer never reads "stolen" or "fraud".
fn reason(decline: &Decline) -> Reason {
    match decline.class() {
        Class::Funds => Reason::Funds,
        Class::Authenticate => Reason::Authentication,
        Class::Technical => Reason::Temporary,
        Class::FixData if decline.reason().contains("expired") => Reason::Expired,
        Class::FixData => Reason::Details,
        Class::Never => Reason::NotAccepted,
        Class::Generic | Class::Configuration => Reason::Declined,
    }
}

fn next(about: &About<'_>, date: &impl Fn(Timestamp) -> String) -> Vec<Next> {
    let State::PastDue { next } = &about.claimed.charge.state else { return Vec::new() };
    let end = match about.finally {
        Finally::Cancel => NextWhat::Cancel,
        Finally::Pause => NextWhat::Pause,
        Finally::Uncollectible => NextWhat::Uncollectible,
    };
    match next.action {
        Action::Collect => vec![Next { what: NextWhat::Retry, date: Some(date(next.at)) }],
        Action::Remind => vec![Next { what: NextWhat::NoRetry, date: None }],
        Action::GiveUp => vec![Next { what: end, date: Some(date(next.at)) }],
    }
}

/// A context that says nothing of a charge yet.
pub(super) fn bare(head: &Letterhead, customer: &Customer) -> MailContext {
    MailContext {
        brand: head.brand.clone(),
        customer: Greeting { name: (!customer.name.is_empty()).then(|| customer.name.clone()) },
        charges: Vec::new(),
        total: None,
        paid_on: None,
        expires_on: None,
        card: None,
        reason: Reason::default(),
        tone: Tone::default(),
        next: Vec::new(),
        ending: Ending::default(),
        pay_url: None,
        cancel_url: head.cancel_url.clone(),
        locale: customer.locale.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::ladder::Ladder;

    #[test]
    fn the_tone_follows_how_often_the_ladder_has_written() {
        // Step 1 of the default ladder sends no mail.
        let steps = Ladder::default().steps;
        assert_eq!(tone(&steps, "ladder-0"), Tone::First);
        assert_eq!(tone(&steps, "ladder-1"), Tone::Reminder);
        assert_eq!(tone(&steps, "ladder-2"), Tone::Reminder);
        assert_eq!(tone(&steps, "ladder-3"), Tone::Firm);
        assert_eq!(tone(&steps[1..], "ladder-1"), Tone::First, "the first mail comes late, and is friendly");
    }
}
