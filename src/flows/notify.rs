//! Keep promises: send mails, tell the operator, make a new card the default and try it. Each is looked at again before it is
//! kept: a mail that says "failed" does not leave after the charge was paid.

use std::time::Duration;

use jiff::Timestamp;

use super::letters::{About, context, tone};
use super::still_true::{asks_for_money, still_true};
use super::witness::{self, View};
use super::{Ctx, Report, Result, card_link, cards, expiring, ladders, notices, pay_link};
use crate::billing::decline::{Class, Decline};
use crate::billing::dunning::LATE_REFUSAL;
use crate::billing::ids::CustomerId;
use crate::mail::{
    AlarmContext, Letter, Link, Mail, MailContext, MailName, Mailbox, MessageId, SendError, letter,
    regional_locale,
};
use crate::store::{ChargeFilter, Claimed, Customer, Leaving, OutboxItem, OutboxKind, OutboxResult};

/// Limit: a mail server that will not have it is tried for this long (greylisting, outages).
const TRY_FOR: Duration = Duration::from_secs(48 * 3600);
/// Limit: so often it is tried since it last waited, however old it is: for five hours.
const TRIES_MIN: i64 = 4;
/// Limit: a mail that perhaps left is sent once more at most.
const UNKNOWNS_MAX: i64 = 1;
/// Limit: mails that are marked together as about to leave. Who dies among them leaves so many perhaps sent.
const LEAVE_TOGETHER_MAX: usize = 16;
/// Limit: dunning mails to one customer within this time. The second waits.
const ONE_MAIL_PER: Duration = Duration::from_secs(20 * 3600);
/// Limit: open charges listed in one mail.
const LISTED_MAX: i64 = 20;

/// The mail without which its charge is not tried.
const NOTICE: &str = "upcoming_charge";

/// A mail that may leave.
struct Outgoing {
    mail: Mail,
    /// Who gets it; the operator is no customer.
    to: Option<CustomerId>,
    /// Whom it asks for money.
    asks: Option<CustomerId>,
    /// It asks for the first time, and leaves alone: another process may be about to write to the same customer.
    is_first: bool,
}

/// What becomes of a promise before anything leaves.
enum Prepared {
    Leaves(Box<Outgoing>),
    Ends(OutboxResult),
}

/// Keeps at most `limit` promises.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn run_once(ctx: &Ctx, limit: usize) -> Result<Report> {
    let mut report = Report::default();
    let items = ctx.store.claim_outbox(&ctx.worker, ctx.now(), ctx.lease_until(), limit).await?;
    if items.is_empty() {
        return Ok(report);
    }
    report.taken = items.len() as u64;
    failpoint!("outbox claimed");
    // A restored database does not know what was mailed; the operator is told all the same.
    let view = match items.iter().any(|item| item.kind == OutboxKind::Mail) {
        true => witness::look(ctx).await?,
        false => View::Agrees,
    };
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        let group: Vec<OutboxItem> = items.by_ref().take(LEAVE_TOGETHER_MAX).collect();
        keep(ctx, group, &view, &mut report).await?;
    }
    Ok(report)
}

/// Looks at each promise again, marks the mails that will leave, and sends them.
async fn keep(ctx: &Ctx, group: Vec<OutboxItem>, view: &View, report: &mut Report) -> Result<()> {
    let mut leaving: Vec<(OutboxItem, Outgoing)> = Vec::new();
    for item in group {
        let asked = item.customer.is_some() && leaving.iter().any(|(_, one)| one.asks == item.customer);
        let prepared = match (item.kind, view) {
            (OutboxKind::Mail, View::Differs(why) | View::Unseen(why)) => {
                Ok(Prepared::Ends(wait(ctx, ONE_MAIL_PER / 20, why.clone())))
            }
            (OutboxKind::Mail, View::Agrees) => mail(ctx, &item, asked, report).await,
            (OutboxKind::Alarm, _) => alarm(ctx, &item, report),
            (OutboxKind::AdoptCard, _) => cards::adopt(ctx, &item).await.map(Prepared::Ends),
            (OutboxKind::TryCard, _) => cards::try_one(ctx, &item).await.map(Prepared::Ends),
        };
        let prepared = prepared
            .unwrap_or_else(|error| Prepared::Ends(later(ctx, &item, error.to_string(), false, report)));
        match prepared {
            Prepared::Leaves(outgoing) => leaving.push((item, *outgoing)),
            Prepared::Ends(result) => finish(ctx, &item, result, report).await?,
        }
    }
    if leaving.is_empty() {
        return Ok(());
    }
    let alone_since = |one: &Outgoing| one.is_first.then(|| a_day_ago(ctx).as_second());
    let row = |(item, one): &(OutboxItem, Outgoing)| Leaving { id: item.id, alone_since: alone_since(one) };
    let rows: Vec<Leaving> = leaving.iter().map(row).collect();
    // Crash: what is marked and never sent counts as perhaps sent, and is sent once more. Never a third time.
    let marked = ctx.store.mark_leaving(&rows, &ctx.worker, ctx.now()).await?;
    for (item, outgoing) in leaving.into_iter().filter(|(item, _)| marked.contains(&item.id)) {
        let result = send(ctx, &item, &outgoing, report).await?;
        finish(ctx, &item, result, report).await?;
    }
    Ok(())
}

/// A dunning mail since then is today's.
fn a_day_ago(ctx: &Ctx) -> Timestamp {
    ctx.now().checked_sub(ONE_MAIL_PER).unwrap_or(Timestamp::UNIX_EPOCH)
}

async fn finish(ctx: &Ctx, item: &OutboxItem, result: OutboxResult, report: &mut Report) -> Result<()> {
    let word = match &result {
        OutboxResult::Done => "done",
        OutboxResult::Dropped(_) => "dropped",
        OutboxResult::Failed(_) | OutboxResult::PerhapsSent(_) => "failed",
        OutboxResult::Waits { .. } | OutboxResult::Later { .. } => "later",
    };
    report.count(word);
    metrics::counter!("recurd_mails_total", "result" => word).increment(1);
    failpoint!("P11..P12");
    let result = match result {
        OutboxResult::Done if mutant!(MailNotMarked) => wait(ctx, ONE_MAIL_PER, String::new()),
        result => result,
    };
    ctx.store.finish_outbox(item, &ctx.worker, &result, ctx.now()).await?;
    match (result, item.charge) {
        (OutboxResult::Failed(why) | OutboxResult::PerhapsSent(why), Some(id))
            if item.template.as_deref() == Some(NOTICE) =>
        {
            notices::lost(ctx, id, &why, report).await
        }
        _ => Ok(()),
    }
}

/// `asked`: a mail to this customer is about to leave.
async fn mail(ctx: &Ctx, item: &OutboxItem, asked: bool, report: &mut Report) -> Result<Prepared> {
    let ends = |result| Ok(Prepared::Ends(result));
    let Some(name) = item.template.as_deref().and_then(|name| name.parse::<MailName>().ok()) else {
        return ends(OutboxResult::Failed(format!("no mail is called {:?}", item.template)));
    };
    let Some(customer) = find_customer(ctx, item).await? else {
        return ends(OutboxResult::Failed("it belongs to nobody".into()));
    };
    let about = match item.charge {
        Some(id) => ctx.store.find_charge(id).await?,
        None => None,
    };
    let name = match still_true(ctx, item, name, about.as_ref(), &customer).await? {
        Ok(name) => name,
        Err(result) => return ends(result),
    };
    if customer.mail_state == "dead" {
        return ends(OutboxResult::Failed("the customer's address takes no mail".into()));
    }
    if let Some(given_up) = perhaps_sent(item, report) {
        return ends(given_up);
    }
    if let Some(claimed) = about.as_ref().filter(|_| asks_for_money(name))
        && let Some(at) = pay_link::opens_at(ctx, claimed).await?
    {
        let why =
            "the database was recovered, and a payment that it does not know may still appear".to_owned();
        return ends(OutboxResult::Waits { at, why });
    }
    let is_first = asks_for_money(name) && item.unknowns == 0 && !mutant!(MailsUncounted);
    if is_first && (asked || ctx.store.mails_since(customer.customer_id(), a_day_ago(ctx)).await? > 0) {
        return ends(wait(ctx, ONE_MAIL_PER / 4, "the customer had a mail today".into()));
    }
    let letter = match &about {
        Some(claimed) => write(ctx, name, claimed, &customer, item).await?,
        None => expiring::write(ctx, &customer, &item.step).await?,
    };
    let addressee = (!customer.name.is_empty()).then_some(customer.name.as_str());
    let mail = Mailbox::of_customer(addressee, &customer.email)
        .map_err(|error| error.to_string())
        .and_then(|to| compose(ctx, item.id, to, letter));
    let customer = item.customer.filter(|_| asks_for_money(name));
    Ok(match mail {
        Ok(mail) => {
            Prepared::Leaves(Box::new(Outgoing { mail, to: item.customer, asks: customer, is_first }))
        }
        Err(why) => Prepared::Ends(OutboxResult::Failed(why)),
    })
}

async fn find_customer(ctx: &Ctx, item: &OutboxItem) -> Result<Option<Customer>> {
    match item.customer {
        Some(id) => Ok(ctx.store.find_customer(id).await?),
        None => Ok(None),
    }
}

/// Two sendings whose outcome nobody knows are enough: a person may look whether it arrived.
fn perhaps_sent(item: &OutboxItem, report: &mut Report) -> Option<OutboxResult> {
    if item.unknowns <= UNKNOWNS_MAX {
        return None;
    }
    let why = "perhaps sent: twice nobody knows what the mail server did with it";
    report.problem(format!("{} {}: {why}", item.subject, item.step));
    Some(OutboxResult::Failed(why.to_owned()))
}

async fn write(
    ctx: &Ctx,
    name: MailName,
    claimed: &Claimed,
    customer: &Customer,
    item: &OutboxItem,
) -> Result<Letter> {
    let ladder = ladders::of(ctx, claimed, None).await?.ladder;
    let terms = ctx.terms(&claimed.plan, claimed.revision).await?;
    let mut open = vec![claimed.clone()];
    let url = match name {
        MailName::UpcomingCharge => {
            open[0].charge.due_at = claimed.charge.due_at.max(terms.after_notice(ctx.now()));
            match ctx.config.public_url {
                Some(_) => Some(card_link::for_mail(ctx, customer).await?),
                // Stripe's own page would be over long before.
                None => None,
            }
        }
        name if asks_for_money(name) => {
            open.extend(other_open(ctx, claimed).await?);
            Some(pay_link::for_mail(ctx, claimed).await?)
        }
        _ => None,
    };
    // What was refused days after the page is not what the saved card was refused for.
    let of_page = item.step.starts_with(LATE_REFUSAL);
    let attempts = ctx.store.attempts(claimed.charge.id).await?;
    let last = attempts.iter().rev().find_map(crate::store::AttemptRow::decline);
    // The mail names the card that was declined, not one that was saved since, nor one that was never tried.
    let is_declined_card = last.as_ref().is_some_and(|decline| {
        decline.fingerprint.is_none() || decline.fingerprint == customer.card_fingerprint
    });
    let decline = last.or_else(|| refused_before(claimed)).filter(|_| !of_page);
    let about = About {
        claimed,
        customer,
        open: &open,
        decline: decline.as_ref(),
        finally: ladder.finally,
        tone: tone(&ladder.steps, &item.step),
        pay_url: url.and_then(|url| Link::new(&url).ok()),
        locale: regional_locale(&ctx.templates, name, &customer.locale),
    };
    let mut context = context(&ctx.head, &about);
    if of_page
        || (asks_for_money(name) && !is_declined_card)
        || ctx.store.paid_without_card(claimed.charge.id).await?
    {
        context.card = None;
    }
    render(ctx, name, &context)
}

/// Why nothing was tried, where a bank had refused the card for ever.
fn refused_before(claimed: &Claimed) -> Option<Decline> {
    let never = claimed.charge.dunning.is_some_and(|case| case.class == Class::Never);
    never.then(|| Decline::refused_before(claimed.card_fingerprint.as_deref()))
}

pub(super) fn render(ctx: &Ctx, name: MailName, context: &MailContext) -> Result<Letter> {
    letter::write(&ctx.templates, name, context).map_err(|error| super::FlowError::Refused(error.to_string()))
}

async fn other_open(ctx: &Ctx, claimed: &Claimed) -> Result<Vec<Claimed>> {
    let mut open =
        ctx.store.list_charges(&ChargeFilter::past_due_of(claimed.charge.customer, LISTED_MAX)).await?;
    open.retain(|one| one.charge.id != claimed.charge.id);
    Ok(open)
}

/// Sends a mail that is marked.
async fn send(
    ctx: &Ctx,
    item: &OutboxItem,
    outgoing: &Outgoing,
    report: &mut Report,
) -> Result<OutboxResult> {
    failpoint!("P10..P11");
    if ctx.now() >= item.leased_until && !mutant!(MailAfterLease) {
        // We slept, or the mail server was slow with those before: somebody else may have sent it by now.
        return Ok(later(ctx, item, "the lease on this mail is over".to_owned(), false, report));
    }
    let result = ctx.mailer.send(&outgoing.mail).await;
    let Some(customer) = outgoing.to else {
        return Ok(match result {
            Ok(_) | Err(SendError::Unknown(_)) => OutboxResult::Done,
            Err(error @ (SendError::Temporary(_) | SendError::Permanent(_))) => {
                later(ctx, item, error.to_string(), false, report)
            }
        });
    };
    if let Err(SendError::Permanent(failure)) = &result
        && failure.address_is_dead
    {
        ctx.store.mark_address_dead(customer).await?;
        report.problem(format!("customer {customer}: the mail address takes no mail: {failure}"));
    }
    Ok(match result {
        Ok(_) => OutboxResult::Done,
        Err(SendError::Temporary(failure)) => later(ctx, item, failure.to_string(), false, report),
        Err(SendError::Unknown(failure)) => later(ctx, item, failure.to_string(), true, report),
        Err(SendError::Permanent(failure)) => OutboxResult::Failed(failure.to_string()),
    })
}

/// One Message-ID per promise, also after a restore: a mail sent twice can be recognised.
fn compose(ctx: &Ctx, id: uuid::Uuid, to: Mailbox, letter: Letter) -> Result<Mail, String> {
    let domain = ctx.head.from.email().rsplit('@').next().unwrap_or("localhost").to_owned();
    let id = MessageId::new(&format!("<{id}@{domain}>")).map_err(|error| error.to_string())?;
    let mut mail = Mail::new(id, ctx.head.from.clone(), to, letter, ctx.clock.now())
        .map_err(|error| error.to_string())?;
    mail.reply_to.clone_from(&ctx.head.reply_to);
    Ok(mail)
}

fn alarm(ctx: &Ctx, item: &OutboxItem, report: &mut Report) -> Result<Prepared> {
    tracing::error!(subject = %item.subject, "{}", item.payload);
    let Some(operator) = ctx.head.operator.clone() else { return Ok(Prepared::Ends(OutboxResult::Done)) };
    if let Some(given_up) = perhaps_sent(item, report) {
        return Ok(Prepared::Ends(given_up));
    }
    let alarm = AlarmContext {
        instance: ctx.instance.to_string(),
        title: item.payload.clone(),
        since: item.created_at.to_string(),
        details: vec![item.payload.clone()],
        steps: vec![match item.charge {
            Some(id) => format!("recurd explain {id}"),
            None => "recurd status".to_owned(),
        }],
        charging_stopped: item.step.starts_with(super::STOPPED),
        waiting: 0,
    };
    let letter = letter::write_alarm(&ctx.templates, &alarm)
        .map_err(|error| super::FlowError::Refused(error.to_string()))?;
    let mail = compose(ctx, item.id, operator, letter).map_err(super::FlowError::Refused)?;
    Ok(Prepared::Leaves(Box::new(Outgoing { mail, to: None, asks: None, is_first: false })))
}

/// 5 minutes, 15 minutes, one hour, then every four hours, for two days; after them, what had to wait is tried that often too.
fn later(ctx: &Ctx, item: &OutboxItem, why: String, maybe_sent: bool, report: &mut Report) -> OutboxResult {
    let is_old = ctx.now().duration_since(item.created_at).unsigned_abs() > TRY_FOR;
    if is_old && item.tries > TRIES_MIN {
        report.problem(format!("{} {}: given up after two days: {why}", item.subject, item.step));
        return if maybe_sent { OutboxResult::PerhapsSent(why) } else { OutboxResult::Failed(why) };
    }
    let minutes = match item.tries {
        ..=1 => 5,
        2 => 15,
        3 => 60,
        _ => 240,
    };
    OutboxResult::Later { at: after(ctx, Duration::from_secs(minutes * 60)), why, maybe_sent }
}

fn after(ctx: &Ctx, pause: Duration) -> Timestamp {
    ctx.now().checked_add(pause).unwrap_or(Timestamp::MAX)
}

pub(super) fn wait(ctx: &Ctx, pause: Duration, why: String) -> OutboxResult {
    OutboxResult::Waits { at: after(ctx, pause), why }
}

/// Sends the enrolment link; used by `recurd enroll --mail`.
///
/// # Errors
/// [`super::FlowError::Refused`] when the mail cannot be written or the server refuses it.
pub async fn mail_enrolment(ctx: &Ctx, customer: &Customer, url: &str, id: uuid::Uuid) -> Result<()> {
    let refuse = |error: String| super::FlowError::Refused(error);
    let mut context = super::letters::bare(&ctx.head, customer);
    context.pay_url = Some(Link::new(url).map_err(|error| refuse(error.to_string()))?);
    let letter = letter::write(&ctx.templates, MailName::SaveCard, &context)
        .map_err(|error| refuse(error.to_string()))?;
    let to = Mailbox::of_customer(Some(&customer.name), &customer.email)
        .map_err(|error| refuse(error.to_string()))?;
    let mail = compose(ctx, id, to, letter).map_err(refuse)?;
    ctx.mailer.send(&mail).await.map(|_| ()).map_err(|error| refuse(error.to_string()))
}
