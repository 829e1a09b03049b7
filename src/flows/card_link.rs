//! The link to save another card before a charge is declined: it shows what the card is for, and a click opens (or
//! reuses) one page at Stripe. Saving the card ends in [`enrol::complete`], like any other.

use jiff::Timestamp;
use uuid::Uuid;

use super::enrol::{self, Completed};
use super::pay_link::{hash_of_token, new_token};
use super::{Ctx, Result};
use crate::billing::ids::CustomerId;
use crate::billing::money::Money;
use crate::store::{ChargeFilter, Customer, Subscription};

/// Limit: charges and subscriptions listed on the page.
const LISTED_MAX: i64 = 20;

/// Something the card will be charged for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// What for.
    pub description: String,
    /// How much.
    pub amount: Money,
    /// When it falls due, or fell due.
    pub due_at: Timestamp,
}

/// What a saved card is charged for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payments {
    /// Past due: tried with the new card at once.
    pub open: Vec<Payment>,
    /// The next one of each subscription.
    pub coming: Vec<Payment>,
}

/// What became of a click.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The customer goes there.
    Url(String),
    /// The page that was open is done: its card is saved.
    Saved,
}

/// The address on which a customer saves another card. In direct mode it is Stripe's own page, which lives a day.
///
/// # Errors
/// [`super::FlowError::Store`]; in direct mode those of [`enrol::open`].
pub async fn for_mail(ctx: &Ctx, customer: &Customer) -> Result<String> {
    let Some(public_url) = &ctx.config.public_url else { return enrol::open(ctx, customer, None).await };
    let (token, hash) = new_token();
    ctx.store.add_card_link(&hash, customer.customer_id(), ctx.now()).await?;
    Ok(format!("{public_url}/card/{token}"))
}

/// The customer behind a token. The same `None` for every miss.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn find(ctx: &Ctx, token: &str) -> Result<Option<Customer>> {
    let Some(hash) = hash_of_token(token) else { return Ok(None) };
    match ctx.store.customer_of_link(&hash).await? {
        Some(id) => Ok(ctx.store.find_customer(id).await?),
        None => Ok(None),
    }
}

/// What the card will be charged for.
///
/// # Errors
/// [`super::FlowError::Store`]; [`super::FlowError::NoPlan`].
pub async fn payments(ctx: &Ctx, customer: CustomerId) -> Result<Payments> {
    let open =
        ctx.store.list_charges(&ChargeFilter::past_due_of(customer, LISTED_MAX)).await?.into_iter().map(
            |one| Payment {
                description: one.charge.description,
                amount: one.charge.amount,
                due_at: one.charge.due_at,
            },
        );
    let mut payments = Payments { open: open.collect(), coming: Vec::new() };
    for one in ctx.store.list_subscriptions(Some(customer), 0, LISTED_MAX).await? {
        payments.coming.extend(coming(ctx, &one).await?);
    }
    Ok(payments)
}

async fn coming(ctx: &Ctx, subscription: &Subscription) -> Result<Option<Payment>> {
    let runs = matches!(subscription.state.as_str(), "active" | "pending");
    let Some(due_at) = subscription.next_due_at.filter(|_| runs) else { return Ok(None) };
    let terms = ctx.terms(&subscription.plan, u32::try_from(subscription.revision).unwrap_or(0)).await?;
    let amount = terms.amount(u32::try_from(subscription.quantity).unwrap_or(1));
    let (Ok(amount), Ok(due_at)) = (amount, Timestamp::from_second(due_at)) else { return Ok(None) };
    Ok(Some(Payment { description: terms.name.clone(), amount, due_at }))
}

/// Opens the one page on which a customer saves another card, or finds the one that is open.
///
/// Crash: the request is stored before it is sent, under an id that follows from how many pages the customer has had. Whoever
/// clicks at the same moment, or after a lost answer, sends the same bytes with the same key.
///
/// # Errors
/// [`super::FlowError::Stripe`], [`super::FlowError::Store`]; [`super::FlowError::Refused`] when customers could not
/// return from the page.
pub async fn open(ctx: &Ctx, customer: &Customer) -> Result<Opened> {
    let id = customer.customer_id();
    let page = ctx.store.open_card_page(id).await?;
    if let Some((session, url)) = page.and_then(|page| page.session_id.zip(page.url)) {
        match enrol::complete(ctx, &session).await {
            Ok(Completed::Saved) => return Ok(Opened::Saved),
            // Who cannot ask Stripe now sends the customer there all the same.
            Ok(Completed::Open | Completed::Unknown) | Err(_) => return Ok(Opened::Url(url)),
            Ok(Completed::Expired) => {}
        }
    }
    let count = ctx.store.count_finished_pages(id).await?;
    let name = format!("recurd card page {id} {count}");
    let new = enrol::request(ctx, customer, None, Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()))?;
    ctx.store.add_enrolment(&new, ctx.now()).await?;
    failpoint!("card page written");
    let stored = ctx.store.find_enrolment(&new.id.to_string()).await?;
    let (key, body) = stored.map_or((new.key, new.body), |one| (one.idempotency_key, one.body));
    Ok(Opened::Url(enrol::make(ctx, new.id, body, &key).await?))
}
