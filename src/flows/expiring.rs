//! Cards that expire: their owners hear of it a month and a week before, once each, with a link to save the next one.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::notify::render;
use super::{Ctx, Report, Result, card_link, letters};
use crate::billing::expiry::{Expiring, SECOND_DAYS, end_of, expiring};
use crate::mail::{Letter, Link, MailName, Tone, format, regional_locale};
use crate::store::{Customer, OutboxInsert, OutboxItem, OutboxResult};

/// Promises the mails that are due, at most `limit`. Nobody is written to without a link that lasts, so not in direct mode.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn run_once(ctx: &Ctx, limit: usize) -> Result<Report> {
    let mut report = Report::default();
    let now = ctx.now();
    if ctx.config.public_url.is_none() || !ctx.begin_sweep(now) {
        return Ok(report);
    }
    for month in expiring(now) {
        let step = step(&month);
        let cards = ctx.store.expiring_cards(&month, &step, limit).await?;
        let mails: Vec<OutboxInsert> = cards
            .iter()
            .filter_map(|customer| {
                let card = customer.payment_method.clone()?;
                let (id, name) = (customer.customer_id(), MailName::CardExpiring.as_str());
                Some(OutboxInsert::mail(card.clone(), &step, id, name, card, now))
            })
            .collect();
        report.taken += mails.len() as u64;
        report.count_many("cards_expiring", mails.len() as u64);
        ctx.store.promise(&mails).await?;
        failpoint!("expiry promised");
    }
    if report.taken == 0 {
        ctx.end_sweep(now);
    }
    Ok(report)
}

/// Unique for a card: one mail for each month that is printed on it and each of the two days.
fn step(month: &Expiring) -> String {
    format!("expires-{}-{:04}-{:02}", month.days, month.year, month.month)
}

/// Whether the customer still has this card with this month.
pub(super) fn still_true(customer: &Customer, item: &OutboxItem) -> Result<(), OutboxResult> {
    let month =
        format!("-{:04}-{:02}", customer.card_exp_year.unwrap_or(0), customer.card_exp_month.unwrap_or(0));
    if customer.payment_method.as_ref() != Some(&item.payload) || !item.step.ends_with(&month) {
        return Err(OutboxResult::Dropped("the customer has another card by now".into()));
    }
    Ok(())
}

/// The mail of a step.
pub(super) async fn write(ctx: &Ctx, customer: &Customer, step: &str) -> Result<Letter> {
    let mut context = letters::bare(&ctx.head, customer);
    context.locale = regional_locale(&ctx.templates, MailName::CardExpiring, &customer.locale);
    context.card = letters::card(customer);
    context.expires_on = last_day(customer).map(|at| format::date(at, &TimeZone::UTC, &context.locale));
    context.tone = match step.starts_with(&format!("expires-{SECOND_DAYS}-")) {
        true => Tone::Reminder,
        false => Tone::First,
    };
    context.pay_url = Link::new(&card_link::for_mail(ctx, customer).await?).ok();
    render(ctx, MailName::CardExpiring, &context)
}

/// An instant on the last day of the card.
fn last_day(customer: &Customer) -> Option<Timestamp> {
    let year = i16::try_from(customer.card_exp_year?).ok()?;
    let end = end_of(year, i8::try_from(customer.card_exp_month?).ok()?)?;
    Timestamp::from_second(end.as_second() - 1).ok()
}
