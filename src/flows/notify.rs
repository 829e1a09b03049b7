//! Keep promises: send mails, tell the operator, make a new card the default. Each is looked at again before it is
//! kept: a mail that says "failed" does not leave after the charge was paid.

use std::time::Duration;

use jiff::Timestamp;

use super::letters::{About, context, mail_name};
use super::witness::{self, View};
use super::{Ctx, Report, Result, pay_link};
use crate::billing::charge::State;
use crate::billing::dunning::MailKind;
use crate::mail::{AlarmContext, Letter, Link, Mail, MailName, Mailbox, MessageId, SendError, letter};
use crate::store::{Card, ChargeFilter, Claimed, Customer, OutboxItem, OutboxKind, OutboxResult};

/// Limit: a mail server that will not have it is tried for this long (greylisting, outages).
const TRY_FOR: Duration = Duration::from_secs(48 * 3600);
/// Limit: after two lost answers a mail counts as perhaps sent, and is not sent a third time.
const UNKNOWNS_MAX: i64 = 1;
/// Limit: dunning mails to one customer within this time. The second waits.
const ONE_MAIL_PER: Duration = Duration::from_secs(20 * 3600);
/// Limit: open charges listed in one mail.
const LISTED_MAX: i64 = 20;

/// Keeps at most `limit` promises.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn run_once(ctx: &Ctx, limit: usize) -> Result<Report> {
    let mut report = Report::default();
    let items = ctx.store.claim_outbox(&ctx.worker, ctx.now(), ctx.lease_until(), limit).await?;
    report.taken = items.len() as u64;
    failpoint!("outbox claimed");
    // A restored database does not know what was mailed; the operator is told all the same.
    let held = match items.iter().any(|item| item.kind == OutboxKind::Mail) {
        true => witness::look(ctx).await?,
        false => View::Agrees,
    };
    for item in items {
        let kept = match (&held, item.kind) {
            (View::Differs(why) | View::Unseen(why), OutboxKind::Mail) => {
                Ok(wait(ctx, ONE_MAIL_PER / 20, why.clone(), false))
            }
            _ => keep(ctx, &item, &mut report).await,
        };
        let result = match kept {
            Ok(result) => result,
            Err(error) => later(ctx, &item, error.to_string(), false, &mut report),
        };
        let word = match &result {
            OutboxResult::Done => "done",
            OutboxResult::Dropped(_) => "dropped",
            OutboxResult::Failed(_) => "failed",
            OutboxResult::Later { .. } => "later",
        };
        report.count(word);
        metrics::counter!("recurd_mails_total", "result" => word).increment(1);
        failpoint!("P11..P12");
        let result = match result {
            OutboxResult::Done if mutant!(MailNotMarked) => wait(ctx, ONE_MAIL_PER, String::new(), false),
            result => result,
        };
        ctx.store.finish_outbox(item.id, &ctx.worker, &result, ctx.now()).await?;
    }
    Ok(report)
}

async fn keep(ctx: &Ctx, item: &OutboxItem, report: &mut Report) -> Result<OutboxResult> {
    match item.kind {
        OutboxKind::Mail => mail(ctx, item, report).await,
        OutboxKind::Alarm => alarm(ctx, item, report).await,
        OutboxKind::AdoptCard => adopt_card(ctx, item).await,
    }
}

async fn mail(ctx: &Ctx, item: &OutboxItem, report: &mut Report) -> Result<OutboxResult> {
    let (Some(id), Some(customer)) = (item.charge, item.customer) else {
        return Ok(OutboxResult::Failed("it belongs to no charge".into()));
    };
    let (Some(claimed), Some(customer)) =
        (ctx.store.find_charge(id).await?, ctx.store.find_customer(customer).await?)
    else {
        return Ok(OutboxResult::Dropped("the charge is gone".into()));
    };
    let Some(kind) = item.template.as_deref().and_then(MailKind::parse) else {
        return Ok(OutboxResult::Failed(format!("no mail is called {:?}", item.template)));
    };
    if let Some(why) = no_longer_true(kind, &claimed.charge.state) {
        return Ok(OutboxResult::Dropped(why));
    }
    if kind == MailKind::Recovered && !ctx.store.was_dunned(id).await? {
        return Ok(OutboxResult::Dropped("the customer never heard of the decline".into()));
    }
    if let Some(why) = customer.hold_why.as_deref().filter(|_| kind.asks_for_money()) {
        return Ok(OutboxResult::Dropped(format!("nothing may be charged to the customer: {why}")));
    }
    if customer.mail_state == "dead" {
        return Ok(OutboxResult::Failed("the customer's address takes no mail".into()));
    }
    if item.unknowns > UNKNOWNS_MAX {
        return Ok(OutboxResult::Failed("perhaps sent: the mail server's answer was lost twice".into()));
    }
    if kind.asks_for_money() && item.unknowns == 0 {
        let since = ctx.now().checked_sub(ONE_MAIL_PER).unwrap_or(Timestamp::UNIX_EPOCH);
        if ctx.store.mails_since(customer.customer_id(), since).await? > 0 {
            return Ok(wait(ctx, ONE_MAIL_PER / 4, "the customer had a mail today".into(), false));
        }
    }
    let letter = write(ctx, kind, &claimed, &customer, item).await?;
    send(ctx, item, &customer, letter, report).await
}

/// Why a mail must not leave any more.
fn no_longer_true(kind: MailKind, state: &State) -> Option<String> {
    let open = mutant!(MailAfterPayment) || matches!(state, State::PastDue { .. } | State::LinkOpen { .. });
    let waiting = matches!(state, State::Collecting { .. });
    match kind {
        MailKind::PaymentFailed | MailKind::AuthenticationRequired | MailKind::LastNotice => {
            (!open && !waiting).then(|| format!("the charge is {} by now", state.as_str()))
        }
        MailKind::SubscriptionEnded => {
            (!matches!(state, State::Uncollectible { .. })).then(|| "the charge was paid".to_owned())
        }
        MailKind::Recovered => None,
    }
}

async fn write(
    ctx: &Ctx,
    kind: MailKind,
    claimed: &Claimed,
    customer: &Customer,
    item: &OutboxItem,
) -> Result<Letter> {
    let terms = ctx.terms(&claimed.plan, claimed.revision).await?;
    let pay_url = if kind.asks_for_money() { Some(pay_link::for_mail(ctx, claimed).await?) } else { None };
    let mut open = vec![claimed.clone()];
    if kind.asks_for_money() {
        open.extend(other_open(ctx, claimed).await?);
    }
    let attempts = ctx.store.attempts(claimed.charge.id).await?;
    let decline = attempts.iter().rev().find_map(crate::store::AttemptRow::decline);
    let about = About {
        claimed,
        customer,
        open: &open,
        decline: decline.as_ref(),
        finally: terms.dunning.finally,
        reminder: item.step != "ladder-0",
        pay_url: pay_url.and_then(|url| Link::new(&url).ok()),
    };
    let context = context(&ctx.head, &about);
    letter::write(&ctx.templates, mail_name(kind), &context)
        .map_err(|error| super::FlowError::Refused(error.to_string()))
}

async fn other_open(ctx: &Ctx, claimed: &Claimed) -> Result<Vec<Claimed>> {
    let filter = ChargeFilter {
        customer: Some(claimed.charge.customer),
        state: Some("past_due".into()),
        limit: LISTED_MAX,
        ..ChargeFilter::default()
    };
    let mut open = ctx.store.list_charges(&filter).await?;
    open.retain(|one| one.charge.id != claimed.charge.id);
    Ok(open)
}

async fn send(
    ctx: &Ctx,
    item: &OutboxItem,
    customer: &Customer,
    letter: Letter,
    report: &mut Report,
) -> Result<OutboxResult> {
    let name = (!customer.name.is_empty()).then_some(customer.name.as_str());
    let to = match Mailbox::of_customer(name, &customer.email) {
        Ok(to) => to,
        Err(error) => return Ok(OutboxResult::Failed(error.to_string())),
    };
    let result = deliver(ctx, item, to, letter).await;
    if let Err(SendError::Permanent(failure)) = &result
        && failure.address_is_dead
    {
        ctx.store.mark_address_dead(customer.customer_id()).await?;
        report.problem(format!("customer {}: the mail address takes no mail: {failure}", customer.id));
    }
    Ok(match result {
        Ok(()) => OutboxResult::Done,
        Err(SendError::Temporary(failure)) => later(ctx, item, failure.to_string(), false, report),
        Err(SendError::Unknown(failure)) => later(ctx, item, failure.to_string(), true, report),
        Err(SendError::Permanent(failure)) => OutboxResult::Failed(failure.to_string()),
    })
}

fn local_failure(text: String) -> crate::mail::Failure {
    crate::mail::Failure {
        stage: crate::mail::Stage::Local,
        code: None,
        enhanced: None,
        text,
        address_is_dead: false,
        needs_operator: true,
    }
}

/// One Message-ID per promise, also after a restore: a mail sent twice can be recognised.
async fn deliver(ctx: &Ctx, item: &OutboxItem, to: Mailbox, letter: Letter) -> Result<(), SendError> {
    let domain = ctx.head.from.email().rsplit('@').next().unwrap_or("localhost").to_owned();
    let unwritable = |text: String| SendError::Permanent(local_failure(text));
    let id =
        MessageId::new(&format!("<{}@{domain}>", item.id)).map_err(|error| unwritable(error.to_string()))?;
    let mail = Mail::new(id, ctx.head.from.clone(), to, letter, ctx.clock.now());
    let mut mail = mail.map_err(|error| unwritable(error.to_string()))?;
    mail.reply_to.clone_from(&ctx.head.reply_to);
    failpoint!("P10..P11");
    if ctx.now() >= item.leased_until && !mutant!(MailAfterLease) {
        // We slept, or the mail server was slow with those before: somebody else may have sent it by now.
        return Err(SendError::Temporary(local_failure("the lease on this mail is over".to_owned())));
    }
    ctx.mailer.send(&mail).await.map(|_| ())
}

async fn alarm(ctx: &Ctx, item: &OutboxItem, report: &mut Report) -> Result<OutboxResult> {
    tracing::error!(subject = %item.subject, "{}", item.payload);
    let Some(operator) = ctx.head.operator.clone() else { return Ok(OutboxResult::Done) };
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
    Ok(match deliver(ctx, item, operator, letter).await {
        Ok(()) => OutboxResult::Done,
        Err(SendError::Unknown(_)) => OutboxResult::Done,
        Err(error @ (SendError::Temporary(_) | SendError::Permanent(_))) => {
            later(ctx, item, error.to_string(), false, report)
        }
    })
}

/// The card the customer just paid with is charged from now on.
async fn adopt_card(ctx: &Ctx, item: &OutboxItem) -> Result<OutboxResult> {
    let Some(customer) = item.customer else {
        return Ok(OutboxResult::Failed("it belongs to nobody".into()));
    };
    let method = ctx.stripe.retrieve_payment_method(&item.payload).await?.value;
    let Some(owner) = ctx.store.find_customer(customer).await? else {
        return Ok(OutboxResult::Dropped("the customer is gone".into()));
    };
    if method.customer.as_deref() != Some(owner.stripe_customer.as_str()) {
        return Ok(OutboxResult::Failed(format!("{} was not saved on the customer", method.id)));
    }
    let Some(card) = card_of(&method) else {
        return Ok(OutboxResult::Dropped(format!("{} is no card", method.id)));
    };
    ctx.store.set_default_card(customer, &card).await?;
    failpoint!("card adopted");
    if let Some(charge) = item.charge {
        super::consent::record_paid(ctx, customer, charge, &card).await?;
    }
    super::enrol::activate_paid(ctx, item.charge).await?;
    Ok(OutboxResult::Done)
}

/// A card's facts from Stripe's PaymentMethod; `None` for anything that is no card.
pub(super) fn card_of(method: &crate::stripe::payment_methods::PaymentMethod) -> Option<Card> {
    let card = method.card.as_ref()?;
    Some(Card {
        payment_method: method.id.clone(),
        brand: card.brand.clone().unwrap_or_default(),
        last4: card.last4.clone().unwrap_or_default(),
        exp_month: i64::from(card.exp_month.unwrap_or(0)),
        exp_year: i64::from(card.exp_year.unwrap_or(0)),
        fingerprint: card.fingerprint.clone(),
    })
}

/// 5 minutes, 15 minutes, one hour, then every four hours, for two days.
fn later(ctx: &Ctx, item: &OutboxItem, why: String, maybe_sent: bool, report: &mut Report) -> OutboxResult {
    if ctx.now().duration_since(item.created_at).unsigned_abs() > TRY_FOR {
        report.problem(format!("{} {}: given up after two days: {why}", item.subject, item.step));
        return OutboxResult::Failed(why);
    }
    let minutes = match item.tries {
        ..=1 => 5,
        2 => 15,
        3 => 60,
        _ => 240,
    };
    wait(ctx, Duration::from_secs(minutes * 60), why, maybe_sent)
}

fn wait(ctx: &Ctx, pause: Duration, why: String, maybe_sent: bool) -> OutboxResult {
    OutboxResult::Later { at: ctx.now().checked_add(pause).unwrap_or(Timestamp::MAX), why, maybe_sent }
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
    let item = OutboxItem {
        id,
        subject: id.to_string(),
        step: "save_card".into(),
        kind: OutboxKind::Mail,
        charge: None,
        customer: Some(customer.customer_id()),
        template: None,
        payload: String::new(),
        tries: 1,
        unknowns: 0,
        created_at: ctx.now(),
        leased_until: Timestamp::MAX,
    };
    deliver(ctx, &item, to, letter).await.map_err(|error| refuse(error.to_string()))
}
