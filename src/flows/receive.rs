//! Stripe's events: verified over the raw bytes, stored, acknowledged, and applied later by fetching the object.
//! The payload itself never moves a charge.

use std::time::Duration;

use jiff::Timestamp;

use super::about::{About, about};
use super::answers::{CHARGE, ENROLMENT, INSTANCE, is_of_page};
use super::enrol::Completed;
use super::reconcile::told_by;
use super::settle::{Trace, settle_one};
use super::tries::{self, event_of_page};
use super::{Ctx, Report, Result, news, reversals, unheard};
use crate::billing::apply::Event;
use crate::billing::charge::State;
use crate::billing::ids::ChargeId;
use crate::store::{Claimed, NewEvent, OutboxInsert, StoredEvent};
use crate::stripe::payment_intents::{PaymentIntent, PaymentIntentStatus};
use crate::stripe::webhook::{SignatureError, parse_event, verify};

/// Limit: how old (or how far in the future) a signature may be. <https://docs.stripe.com/webhooks#replay-attacks>
const TOLERANCE: Duration = Duration::from_secs(300);
/// Limit: an event that cannot be applied after this many tries waits for a person.
const TRIES_MAX: i64 = 12;

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Unacceptable {
    /// Not signed by Stripe with one of our secrets.
    #[error("{0}")]
    Signature(#[from] SignatureError),
    /// Not an event.
    #[error("{0}")]
    Shape(String),
    /// Of the other mode.
    #[error("the event is of the other mode (livemode {0})")]
    Mode(bool),
    /// No secret is configured.
    #[error("no webhook secret is configured: set stripe.webhook_secrets")]
    NoSecret,
    /// It could not be stored: Stripe must send it again.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

/// Verifies and stores an event; afterwards it may be acknowledged. Returns whether it is new.
///
/// # Errors
/// [`Unacceptable`]: answer 400, or 500 where the database failed.
pub async fn accept(ctx: &Ctx, raw: &[u8], signature: &str) -> Result<bool, Unacceptable> {
    let secrets = &ctx.config.stripe.webhook_secrets;
    if secrets.is_empty() {
        return Err(Unacceptable::NoSecret);
    }
    if !mutant!(SignatureIgnored) {
        verify(raw, signature, secrets, ctx.clock.now(), TOLERANCE)?;
    }
    let event = parse_event(raw).map_err(|error| Unacceptable::Shape(error.to_string()))?;
    if event.livemode != ctx.stripe.livemode() {
        return Err(Unacceptable::Mode(event.livemode));
    }
    let new = NewEvent {
        id: event.id.clone(),
        kind: event.kind.clone(),
        object_id: event.object_id.clone(),
        object_type: event.object_type.clone(),
        charge_id: event.metadata.get(CHARGE).cloned(),
        created: event.created.as_second(),
    };
    failpoint!("P16 verified");
    let is_new = match ctx.store.store_event(&new, ctx.now()).await {
        Err(_) if mutant!(AcknowledgedUnstored) => false,
        stored => stored?,
    };
    failpoint!("P16..P17");
    Ok(is_new)
}

/// Applies at most `limit` stored events.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn run_once(ctx: &Ctx, limit: usize) -> Result<Report> {
    let mut report = Report::default();
    let events = ctx.store.claim_events(ctx.now(), ctx.lease_until(), limit).await?;
    if events.is_empty() {
        return Ok(report);
    }
    report.taken = events.len() as u64;
    failpoint!("P17..P18");
    for event in events {
        let (state, error, retry) = match apply_event(ctx, &event, &mut report).await {
            Ok(Applied::Yes) => ("applied", None, None),
            Ok(Applied::NotOurs) => ("ignored", None, None),
            Ok(Applied::Busy) => ("pending", None, Some(again(ctx, event.tries))),
            Err(error) if event.tries >= TRIES_MAX => {
                report.problem(format!("event {} ({}): {error}", event.id, event.kind));
                ("failed", Some(error.to_string()), None)
            }
            Err(error) => ("pending", Some(error.to_string()), Some(again(ctx, event.tries))),
        };
        report.count(state);
        metrics::counter!("recurd_webhook_events_total", "result" => state).increment(1);
        failpoint!("P18 applied");
        ctx.store.finish_event(&event.id, state, error.as_deref(), retry).await?;
    }
    Ok(report)
}

fn again(ctx: &Ctx, tries: i64) -> Timestamp {
    let secs = 10_u64 << tries.clamp(0, 10);
    ctx.now().checked_add(Duration::from_secs(secs.min(3600))).unwrap_or(Timestamp::MAX)
}

enum Applied {
    Yes,
    NotOurs,
    /// A worker has the charge: look again soon.
    Busy,
}

fn ours(is_ours: bool) -> Result<Applied> {
    Ok(if is_ours { Applied::Yes } else { Applied::NotOurs })
}

async fn apply_event(ctx: &Ctx, event: &StoredEvent, report: &mut Report) -> Result<Applied> {
    let Some(id) = event.object_id.as_deref() else { return Ok(Applied::NotOurs) };
    match about(event.object_type.as_deref().unwrap_or_default(), &event.kind) {
        About::Payment => payment_intent(ctx, id, report).await,
        About::Page => session(ctx, id, report).await,
        About::Saving => saving(ctx, id).await,
        About::CardGone => ours(ctx.store.forget_card(id).await? > 0),
        About::CardChanged => refresh_card(ctx, id).await,
        About::Dispute => ours(reversals::dispute(ctx, id).await?),
        About::FraudWarning => ours(reversals::fraud_warning(ctx, &event.id).await?),
        About::Review => ours(news::review(ctx, &event.id).await?),
        About::Refunded => ours(reversals::refunded(ctx, id).await?),
        About::Refund => ours(reversals::refund(ctx, &event.id, &event.kind).await?),
        About::CustomerChanged => ours(news::customer_changed(ctx, id, &event.id).await?),
        About::CustomerGone => ours(news::customer_gone(ctx, id).await?),
        About::Mandate => ours(news::mandate(ctx, &event.id).await?),
        About::Account => ours(news::account(ctx, &event.id).await?),
        About::Payout => ours(news::payout(ctx, &event.id).await?),
        About::Nothing => Ok(Applied::NotOurs),
    }
}

async fn payment_intent(ctx: &Ctx, id: &str, report: &mut Report) -> Result<Applied> {
    let intent = ctx.stripe.retrieve_payment_intent(id).await?.value;
    if intent.metadata.get(INSTANCE) != Some(&ctx.instance.to_string()) {
        return Ok(Applied::NotOurs);
    }
    let Some(charge) = intent.metadata.get(CHARGE).and_then(|id| id.parse::<ChargeId>().ok()) else {
        return Ok(Applied::NotOurs);
    };
    let Some(found) = ctx.store.find_charge(charge).await? else { return ghost(ctx, id).await };
    if is_of_page(&intent) {
        tries::count(ctx, id).await?;
    }
    if matches!(found.charge.state, State::Paid { .. }) {
        return paid_again(ctx, &found, &intent).await;
    }
    if found.charge.state.is_terminal() && may_take(&intent) {
        return close_late(ctx, charge, report).await;
    }
    let news = told_by(ctx, &found, &intent).await?;
    if !news.is_some_and(|event| matters(&event, &found.charge.state)) {
        unheard::take_in(ctx, &found, &intent).await?;
        return Ok(Applied::Yes);
    }
    let Some(claimed) = ctx.store.claim_charge(charge, &ctx.worker, ctx.now(), ctx.lease_until()).await?
    else {
        return Ok(Applied::Busy);
    };
    failpoint!("P18 claimed");
    // Another attempt may have begun since the first reading, which would be taken for that one's answer.
    let intent = ctx.stripe.retrieve_payment_intent(id).await;
    let event = match &intent {
        Ok(intent) => told_by(ctx, &claimed, &intent.value).await?,
        Err(_) => None,
    };
    settle_or_release(ctx, &claimed, event, report).await?;
    intent?;
    Ok(Applied::Yes)
}

async fn settle_or_release(
    ctx: &Ctx,
    claimed: &Claimed,
    event: Option<Event>,
    report: &mut Report,
) -> Result<()> {
    match event {
        Some(event) => {
            settle_one(ctx, claimed, &event, Trace::default(), report).await?;
            Ok(())
        }
        None => Ok(ctx.store.release_charge(&claimed.charge, None).await?),
    }
}

/// Whether a PaymentIntent of ours may still take money.
fn may_take(intent: &PaymentIntent) -> bool {
    use PaymentIntentStatus::{Canceled, Succeeded};
    !matches!(intent.status, Succeeded | Canceled) && !is_of_page(intent)
}

/// A charge has ended, and one of its PaymentIntents lives: Stripe carried out days later what a database had asked for that is
/// lost. It is closed.
async fn close_late(ctx: &Ctx, charge: ChargeId, report: &mut Report) -> Result<Applied> {
    let Some(claimed) = ctx.store.claim_charge(charge, &ctx.worker, ctx.now(), ctx.lease_until()).await?
    else {
        return Ok(Applied::Busy);
    };
    failpoint!("P18 claimed");
    if !claimed.charge.state.is_terminal() {
        ctx.store.release_charge(&claimed.charge, None).await?;
        return Ok(Applied::Busy);
    }
    super::collect::adopt_forgotten(ctx, &claimed, report).await?;
    Ok(Applied::Yes)
}

/// News of a charge that is paid: mostly the payment we know. If Stripe has two, a person decides what is given back.
async fn paid_again(ctx: &Ctx, found: &Claimed, intent: &PaymentIntent) -> Result<Applied> {
    let charge = found.charge.id;
    let booked = found.charge.state.payment_intent().unwrap_or_default();
    if intent.status != PaymentIntentStatus::Succeeded || intent.id == booked {
        return Ok(Applied::Yes);
    }
    let again = reversals::taken_again(ctx, found).await?;
    if !again.is_empty() {
        let ids: Vec<&str> = again.iter().map(|one| one.payment_intent.as_str()).collect();
        let text = format!(
            "charge {charge} was collected {} times: {booked} counts, {} may go back: \
             `recurd charges refund-duplicate {charge}`",
            again.len() + 1,
            ids.join(", ")
        );
        ctx.store.promise(&[OutboxInsert::alarm(charge.to_string(), "twice", text, ctx.now())]).await?;
    }
    Ok(Applied::Yes)
}

/// Money matters also to a charge that has ended; nothing else does.
fn matters(event: &Event, state: &State) -> bool {
    match event {
        Event::Paid(_) => !matches!(state, State::Paid { .. }),
        _ => !state.is_terminal(),
    }
}

async fn session(ctx: &Ctx, id: &str, report: &mut Report) -> Result<Applied> {
    if ctx.store.enrolment_of_session(id).await?.is_some() {
        super::enrol::complete(ctx, id).await?;
        return Ok(Applied::Yes);
    }
    let session = ctx.stripe.retrieve_checkout_session(id).await?.value;
    if session.metadata.get(INSTANCE) != Some(&ctx.instance.to_string()) {
        return Ok(Applied::NotOurs);
    }
    let Some(charge) = session.metadata.get(CHARGE).and_then(|id| id.parse::<ChargeId>().ok()) else {
        return Ok(Applied::NotOurs);
    };
    let Some(found) = ctx.store.find_charge(charge).await? else { return ghost(ctx, id).await };
    if matches!(found.charge.state, State::Paid { .. }) {
        return Ok(Applied::Yes);
    }
    settle_session(ctx, charge, id, report).await
}

/// A card was saved on a page of ours, or never will be: tells the same as the page's own event, which may be late or lost.
async fn saving(ctx: &Ctx, id: &str) -> Result<Applied> {
    let metadata = ctx.stripe.retrieve_setup_intent(id).await?.value.metadata;
    let of_us = metadata.get(INSTANCE) == Some(&ctx.instance.to_string());
    let Some(enrolment) = metadata.get(ENROLMENT).filter(|_| of_us) else { return Ok(Applied::NotOurs) };
    let Some(session) = ctx.store.find_enrolment(enrolment).await?.and_then(|one| one.session_id) else {
        return Ok(Applied::NotOurs);
    };
    Ok(match super::enrol::complete(ctx, &session).await? {
        // The page itself is not finished yet.
        Completed::Open => Applied::Busy,
        Completed::Saved | Completed::Expired | Completed::Unknown => Applied::Yes,
    })
}

/// Settles a charge from the Session a customer came back from, or an event spoke of.
async fn settle_session(ctx: &Ctx, charge: ChargeId, id: &str, report: &mut Report) -> Result<Applied> {
    let Some(claimed) = ctx.store.claim_charge(charge, &ctx.worker, ctx.now(), ctx.lease_until()).await?
    else {
        return Ok(Applied::Busy);
    };
    let session = ctx.stripe.retrieve_checkout_session(id).await;
    let current = claimed.charge.collector.as_ref().is_some_and(|one| one.stripe_id.as_deref() == Some(id));
    let event = match &session {
        Ok(session) => event_of_page(ctx, &claimed, &session.value).await?,
        Err(_) => None,
    };
    // Only the living collector's death matters; a payment matters whoever took it.
    let event = event.filter(|event| current || matches!(event, Event::Paid(_)));
    settle_or_release(ctx, &claimed, event, report).await?;
    session?;
    Ok(Applied::Yes)
}

/// The customer came back from Stripe's page: find out what happened, without waiting for the event.
///
/// # Errors
/// [`super::FlowError`].
pub async fn returned(ctx: &Ctx, session: &str) -> Result<()> {
    self::session(ctx, session, &mut Report::default()).await.map(|_| ())
}

/// Stripe knows an object of this instance that the database does not: the database is older than reality.
async fn ghost(ctx: &Ctx, id: &str) -> Result<Applied> {
    let text =
        format!("Stripe knows {id} of this installation, but the database does not: was a backup restored?");
    ctx.store.promise(&[OutboxInsert::alarm(id.to_owned(), "ghost", text, ctx.now())]).await?;
    Ok(Applied::NotOurs)
}

async fn refresh_card(ctx: &Ctx, id: &str) -> Result<Applied> {
    let method = ctx.stripe.retrieve_payment_method(id).await?.value;
    let owner = method.customer.as_deref().map(|customer| ctx.instance.customer(customer));
    let (Some(owner), Some(card)) = (owner, super::cards::card_of(&method)) else {
        return Ok(Applied::NotOurs);
    };
    match ctx.store.find_customer(owner).await? {
        Some(customer) if customer.payment_method.as_deref() == Some(id) => {
            if ctx.store.offer_card(owner, &card).await? {
                super::cards::promise_renewed(ctx, owner, &card).await?;
            }
            Ok(Applied::Yes)
        }
        Some(_) | None => Ok(Applied::NotOurs),
    }
}
