//! Import customers and subscriptions from CSV. The file is read three times: to check every line, to ask Stripe for
//! every card, and to write. A file with a bad line changes nothing; a second import of the same file changes nothing either.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::cards::card_of;
use super::enrol::new_subscription;
use super::pay_link::hash;
use super::{Ctx, FlowError, Result};
use crate::billing::calendar::{Start, zone};
use crate::billing::subscription::SubscriptionState;
use crate::store::{Card, NewConsent, NewCustomer};
use crate::stripe::Error;

/// The columns, in the order of the documentation. The order in the file does not matter.
pub const HEADER: &str =
    "customer,payment_method,email,name,locale,time_zone,plan,quantity,start,consent_at,consent_text";
/// Limit: lines that are looked up at Stripe and written together.
const LINES_TOGETHER: usize = 200;
/// Limit: bad lines that are reported one by one.
pub const BAD_LINES_MAX: usize = 100;

/// A list that can be read from its beginning as often as needed, so that it need not be held in memory.
pub trait Source {
    /// Begins to read.
    ///
    /// # Errors
    /// The system's.
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>>;
}

impl Source for &[u8] {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(*self))
    }
}

impl Source for &Path {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(File::open(self)?))
    }
}

/// One line of the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    customer: String,
    payment_method: String,
    email: String,
    name: String,
    locale: String,
    time_zone: String,
    plan: String,
    quantity: String,
    start: String,
    consent_at: String,
    consent_text: String,
}

/// A line that cannot be imported.
#[derive(Clone, Debug, serde::Serialize)]
pub struct BadLine {
    /// Number in the file, the header being 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// What an import did.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Imported {
    /// Lines read.
    pub lines: u64,
    /// Customers that were new.
    pub customers: u64,
    /// Subscriptions that were new.
    pub subscriptions: u64,
    /// Lines that could not be imported. When there is one, nothing was imported.
    pub bad: Vec<BadLine>,
}

/// Checks every line without Stripe and without writing. Returns how many lines there are, and the bad ones.
///
/// # Errors
/// [`FlowError::Refused`] when the file cannot be read or is not CSV with the right header.
pub fn check(ctx: &Ctx, source: &impl Source) -> Result<Imported> {
    let mut imported = Imported::default();
    let mut csv = reader(source)?;
    check_header(&mut csv)?;
    for (index, row) in csv.deserialize::<Line>().enumerate() {
        imported.lines += 1;
        let checked = row.map_err(|error| csv_reason(&error)).and_then(|line| check_line(ctx, &line));
        if let Err(reason) = checked
            && imported.bad.len() < BAD_LINES_MAX
        {
            imported.bad.push(BadLine { line: index as u64 + 2, reason });
        }
    }
    Ok(imported)
}

fn reader(source: &impl Source) -> Result<csv::Reader<Box<dyn Read + Send + '_>>> {
    let file = source.open().map_err(|error| FlowError::Refused(format!("cannot be read: {error}")))?;
    Ok(csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file))
}

fn check_header<R: Read>(csv: &mut csv::Reader<R>) -> Result<()> {
    let found = csv.headers().map_err(|error| FlowError::Refused(csv_reason(&error)))?;
    let missing: Vec<&str> = HEADER.split(',').filter(|name| !found.iter().any(|one| one == *name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(FlowError::Refused(format!("the first line lacks {}; it must name: {HEADER}", missing.join(", "))))
}

fn csv_reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields where the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "not UTF-8".to_owned(),
        csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
        _ => error.to_string(),
    }
}

fn check_line(ctx: &Ctx, line: &Line) -> Result<(), String> {
    if !line.customer.starts_with("cus_") {
        return Err(format!("customer {:?} is not a Stripe customer id (cus_...)", line.customer));
    }
    if !line.payment_method.is_empty() && !line.payment_method.starts_with("pm_") {
        return Err(format!("payment_method {:?} is not a Stripe id (pm_...)", line.payment_method));
    }
    crate::mail::Mailbox::new(None, &line.email)
        .map_err(|_| format!("email {:?} is not a mail address", line.email))?;
    zone(&line.time_zone).map_err(|error| error.to_string())?;
    let terms = ctx
        .config
        .plans
        .get(&line.plan)
        .ok_or_else(|| format!("plan {:?} is not in the configuration", line.plan))?;
    terms.amount(line.quantity()?).map_err(|error| error.to_string())?;
    line.start.parse::<Start>().map_err(|error| error.to_string())?;
    line.consent_at()?;
    Ok(())
}

impl Line {
    fn quantity(&self) -> Result<u32, String> {
        if self.quantity.is_empty() {
            return Ok(1);
        }
        let quantity = self.quantity.parse().ok().filter(|quantity| (1..=1_000_000).contains(quantity));
        quantity
            .ok_or_else(|| format!("quantity {:?} is not a whole number from 1 to 1000000", self.quantity))
    }

    fn consent_at(&self) -> Result<Option<Timestamp>, String> {
        if self.consent_at.is_empty() {
            return Ok(None);
        }
        let at = match self.consent_at.parse::<Start>() {
            Ok(Start::Instant(at)) => Some(at),
            Ok(Start::Date(date)) => date.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|at| at.timestamp()),
            Err(_) => None,
        };
        at.map(Some)
            .ok_or_else(|| format!("consent_at {:?} is neither a date nor an instant", self.consent_at))
    }
}

/// Imports a file that [`check`] found good. `progress` hears how many lines Stripe was asked about.
///
/// Crash: lines are written in groups, each line whole; importing again goes on where it stopped.
///
/// # Errors
/// [`FlowError::Refused`] when the file changes meanwhile; [`FlowError::Stripe`], with nothing written; [`FlowError::Store`].
pub async fn import(ctx: &Ctx, source: impl Source, progress: impl Fn(u64)) -> Result<Imported> {
    let (mut imported, cards) = look_up(ctx, &source, progress).await?;
    if !imported.bad.is_empty() {
        return Ok(imported);
    }
    let mut csv = reader(&source)?;
    let mut rows = csv.deserialize::<Line>();
    for cards in cards.chunks(LINES_TOGETHER) {
        let group = next_group(&mut rows)?;
        if group.len() != cards.len() {
            return Err(FlowError::Refused("the file changed while it was imported: import it again".into()));
        }
        write_group(ctx, &group, cards, &mut imported).await?;
    }
    Ok(imported)
}

fn next_group<R: Read>(rows: &mut csv::DeserializeRecordsIter<'_, R, Line>) -> Result<Vec<Line>> {
    rows.take(LINES_TOGETHER).map(|row| row.map_err(|error| FlowError::Refused(csv_reason(&error)))).collect()
}

/// The card of every line, as Stripe knows it (some 150 bytes a line are held meanwhile), or the lines that have none.
async fn look_up(ctx: &Ctx, source: &impl Source, progress: impl Fn(u64)) -> Result<(Imported, Vec<Card>)> {
    let mut imported = Imported::default();
    let mut cards = Vec::new();
    let mut csv = reader(source)?;
    let mut rows = csv.deserialize::<Line>();
    loop {
        let group = next_group(&mut rows)?;
        if group.is_empty() {
            return Ok((imported, cards));
        }
        let found: Vec<Result<Card, String>> = stream::iter(&group)
            .map(|line| find_card(ctx, line))
            .buffered(ctx.config.limits.concurrency)
            .try_collect()
            .await?;
        for card in found {
            imported.lines += 1;
            match card {
                Ok(card) => cards.push(card),
                Err(reason) if imported.bad.len() < BAD_LINES_MAX => {
                    imported.bad.push(BadLine { line: imported.lines + 1, reason });
                }
                Err(_) => {}
            }
        }
        progress(imported.lines);
    }
}

async fn write_group(ctx: &Ctx, group: &[Line], cards: &[Card], imported: &mut Imported) -> Result<()> {
    let now = ctx.now();
    let mut customers = Vec::new();
    let mut subscriptions = Vec::new();
    for line in group {
        let id = ctx.instance.customer(&line.customer);
        customers.push(NewCustomer {
            id,
            stripe_customer: line.customer.clone(),
            email: line.email.clone(),
            name: line.name.clone(),
            locale: super::enrol::locale_or_default(ctx, &line.locale),
            time_zone: line.time_zone.clone(),
        });
        let quantity = line.quantity().map_err(FlowError::Refused)?;
        let state = SubscriptionState::Active;
        subscriptions.push(
            new_subscription(ctx, id, &line.time_zone, &line.plan, quantity, &line.start, state).await?,
        );
    }
    imported.customers += ctx.store.add_customers(&customers, now).await?;
    for ((line, card), customer) in group.iter().zip(cards).zip(&customers) {
        remember(ctx, line, customer, card, now).await?;
    }
    // Last: a subscription that is there has its customer, card and consent.
    imported.subscriptions += ctx.store.add_subscriptions(&subscriptions, now).await?;
    Ok(())
}

async fn remember(ctx: &Ctx, line: &Line, customer: &NewCustomer, card: &Card, now: Timestamp) -> Result<()> {
    let known = ctx.store.find_customer(customer.id).await?.and_then(|customer| customer.payment_method);
    if known.is_none() {
        ctx.store.set_default_card(customer.id, card, None).await?;
    }
    let Some(given_at) = line.consent_at().map_err(FlowError::Refused)? else { return Ok(()) };
    let consent = NewConsent {
        id: Uuid::new_v5(&customer.id.0, format!("import:{}:{}", line.plan, line.start).as_bytes()),
        customer: customer.id,
        subscription: Some(customer.id.subscription(&line.plan, &line.start)),
        given_at,
        how: "import",
        text: line.consent_text.clone(),
        text_sha256: hash(&line.consent_text),
        session: None,
        setup_intent: None,
        payment_method: Some(card.payment_method.clone()),
        mandate: None,
    };
    Ok(ctx.store.record_consent(&consent, now).await?)
}

/// The card of a line, as Stripe knows it: the named one, or the customer's newest. `Ok(Err(_))`: the line is at fault.
async fn find_card(ctx: &Ctx, line: &Line) -> Result<Result<Card, String>> {
    let method = if line.payment_method.is_empty() {
        ctx.stripe.list_cards(&line.customer).await.map(|cards| cards.into_iter().next())
    } else {
        ctx.stripe.retrieve_payment_method(&line.payment_method).await.map(|answer| Some(answer.value))
    };
    let method = match method {
        Ok(Some(method)) => method,
        Ok(None) => return Ok(Err(format!("{} has no saved card", line.customer))),
        Err(error @ Error::Rejected(_)) if !error.is_auth() => return Ok(Err(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    if method.customer.as_deref() != Some(line.customer.as_str()) {
        return Ok(Err(format!("{} does not belong to {}", method.id, line.customer)));
    }
    Ok(card_of(&method).ok_or_else(|| format!("{} is no card", method.id)))
}
