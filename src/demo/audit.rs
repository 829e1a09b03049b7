//! The check that counts: against the sandbox's books, not against our own.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde::Serialize;

use super::ends::{self, End, Ended};
use super::world::World;
use crate::billing::charge::State;
use crate::billing::ids::CustomerId;
use crate::billing::money::{Currency, Money};
use crate::store::{ChargeFilter, Claimed};

/// One customer's line of the summary.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Line {
    /// Who.
    pub name: String,
    /// Which card, by its token.
    pub card: String,
    /// Collected at the first try.
    pub collected: u64,
    /// Recovered by a machine retry.
    pub by_retry: u64,
    /// Recovered by a link.
    pub by_link: u64,
    /// Given up.
    pub given_up: u64,
    /// Still on the ladder, or waiting.
    pub open: u64,
    /// Collected minor units by currency.
    pub sums: BTreeMap<String, i64>,
}

/// What the books say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Audit {
    /// A line per customer.
    pub lines: Vec<Line>,
    /// What became of each customer's first declined charge.
    pub ends: Vec<Ended>,
    /// Collected according to our database, minor units by currency.
    pub ours: BTreeMap<String, i64>,
    /// Collected according to Stripe.
    pub stripes: BTreeMap<String, i64>,
    /// Charges that Stripe collected.
    pub charges: u64,
    /// What is wrong. Empty: nothing was collected twice, nothing was forgotten, and the sums agree.
    pub findings: Vec<String>,
}

/// Compares the books.
///
/// # Errors
/// When the database cannot be read.
pub async fn audit(world: &World) -> Result<Audit> {
    Ok(look(world).await?.0)
}

/// Compares the books, and the ends of the demo's own customers with the table that says what must become of them.
///
/// # Errors
/// As [`audit`].
pub async fn audit_demo(world: &World) -> Result<Audit> {
    let (mut audit, charges, by_link) = look(world).await?;
    let (ends, findings) = ends::ends(world, &charges, &by_link).await?;
    audit.ends = ends;
    audit.findings.extend(findings);
    Ok(audit)
}

/// The comparison, all charges, and the ids of those that were paid on a page.
async fn look(world: &World) -> Result<(Audit, Vec<Claimed>, BTreeSet<String>)> {
    let store = &world.ctx.store;
    let filter = ChargeFilter { limit: i64::MAX, ..ChargeFilter::default() };
    let charges = store.list_charges(&filter).await?;
    let books = world.sandbox.books();
    let mut audit = Audit::default();
    let mut taken: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    let mut by_link = BTreeSet::new();
    for intent in books.payment_intents.iter().filter(|intent| intent.status == "succeeded") {
        let id = intent.metadata.get("recurd_charge").cloned().unwrap_or_default();
        if intent.session.is_some() {
            by_link.insert(id.clone());
        }
        let entry = taken.entry(id).or_default();
        entry.0 += 1;
        entry.1 += intent.amount_received;
        *audit.stripes.entry(intent.currency.clone()).or_default() += intent.amount_received;
        audit.charges += 1;
    }
    for (id, (times, _)) in taken.iter().filter(|(_, (times, _))| *times > 1) {
        audit.findings.push(format!("charge {id} was collected {times} times"));
    }
    let mut lines: BTreeMap<CustomerId, Line> = BTreeMap::new();
    for one in &charges {
        let line = lines.entry(one.charge.customer).or_default();
        compare(one, &taken, &mut audit);
        count(one, by_link.contains(&one.charge.id.to_string()), line);
    }
    forgotten(world, &charges, &mut audit).await?;
    for (id, mut line) in lines {
        if let Some(customer) = store.find_customer(id).await? {
            line.name = customer.name;
            line.card = customer.payment_method.unwrap_or_default();
        }
        audit.lines.push(line);
    }
    audit.lines.sort_by(|one, other| one.name.cmp(&other.name));
    if audit.ours != audit.stripes {
        audit.findings.push(format!("our sums {:?} are not Stripe's {:?}", audit.ours, audit.stripes));
    }
    Ok((audit, charges, by_link))
}

fn compare(one: &Claimed, taken: &BTreeMap<String, (u64, i64)>, audit: &mut Audit) {
    let charge = &one.charge;
    let at_stripe = taken.get(&charge.id.to_string());
    let paid = matches!(charge.state, State::Paid { .. });
    if paid {
        *audit.ours.entry(charge.amount.currency().code().to_owned()).or_default() += charge.amount.minor();
    }
    if paid != at_stripe.is_some() {
        audit.findings.push(format!(
            "charge {} is {}, Stripe says {at_stripe:?}",
            charge.id,
            charge.state.as_str()
        ));
    }
    if at_stripe.is_some_and(|(_, sum)| *sum != charge.amount.minor()) {
        audit.findings.push(format!("charge {} took {at_stripe:?} instead of {}", charge.id, charge.amount));
    }
}

fn count(one: &Claimed, by_link: bool, line: &mut Line) {
    let charge = &one.charge;
    if let State::Paid { .. } = charge.state {
        *line.sums.entry(charge.amount.currency().code().to_owned()).or_default() += charge.amount.minor();
    }
    let column = match End::of(charge, by_link) {
        End::Collected => &mut line.collected,
        End::ByRetry => &mut line.by_retry,
        End::ByLink => &mut line.by_link,
        End::GivenUp => &mut line.given_up,
        End::Open => &mut line.open,
    };
    *column += 1;
}

/// Every period that has come has its charge, and no charge is due without anybody having tried.
async fn forgotten(world: &World, charges: &[Claimed], audit: &mut Audit) -> Result<()> {
    let now = world.ctx.now();
    let have: BTreeSet<_> = charges.iter().filter_map(|one| one.charge.period).collect();
    for subscription in world.ctx.store.list_subscriptions(None, 0, i64::MAX).await? {
        let terms = world.ctx.terms(&subscription.plan, u32::try_from(subscription.revision)?).await?;
        let table = subscription.frozen()?.timetable(&terms)?;
        let until = subscription.ended_at.map_or(now.as_second(), |at| at.min(now.as_second()));
        for index in (0..).take_while(|index| terms.has_period(*index)) {
            if table.due_at(index)?.as_second() > until {
                break;
            }
            if subscription.state != "pending" && !have.contains(&(subscription.subscription_id(), index)) {
                audit.findings.push(format!("subscription {} period {index} was forgotten", subscription.id));
            }
        }
    }
    for one in charges {
        if let State::Due { at } = one.charge.state
            && at < now
        {
            audit.findings.push(format!("charge {} has been due since {at} and nobody tried", one.charge.id));
        }
    }
    Ok(())
}

/// Minor units as text with their currency.
#[must_use]
pub fn shown(sums: &BTreeMap<String, i64>) -> String {
    let text = |(code, minor): (&String, &i64)| {
        let currency: Option<Currency> = code.parse().ok();
        currency.and_then(|currency| Money::from_minor(*minor, currency).ok()).map(|money| money.to_string())
    };
    sums.iter().filter_map(text).collect::<Vec<_>>().join(", ")
}
