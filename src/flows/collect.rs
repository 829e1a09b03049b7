//! Collect what is due: claim, write the attempt down, look first, send, settle.
//!
//! ```text
//! claim    lease + attempt row with key and exact body      COMMIT
//! look     Stripe's lists, where the key alone would not do
//! mark     attempt is sending                               COMMIT
//! send     no transaction is open
//! settle   outcome, next action, promises, budget           COMMIT (outcomes that are ready together)
//! ```

use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;

use super::answers::{
    ATTEMPT, Answered, CHARGE, GENERATION, INSTANCE, SUBSCRIPTION, event_of_session, is_ours, read, receipt,
};
use super::close::{Closed, close};
use super::settle::{Trace, commit, decide, settle_one};
use super::{Ctx, Report, Result};
use crate::billing::apply::{Event, Outcome};
use crate::billing::charge::{Charge, CollectorKind, End, Operation, State, Work};
use crate::billing::decline::Decline;
use crate::billing::subscription::SubscriptionState;
use crate::config::Preflight;
use crate::store::{Claimed, NewAttempt, Prepared, Settlement};
use crate::stripe::payment_intents::{
    ConfirmOffSession, CreateOffSession, PaymentIntent, PaymentIntentStatus,
};
use crate::stripe::{Answer, Error};

/// Limit: this many attempts are marked as sending together, so that the last of them leaves soon after the mark.
const SEND_TOGETHER_MAX: usize = 128;
/// Limit: an attempt leaves within this time of its mark or not at all (a suspended process must not wake up sending).
const MARK_AGE_MAX: Duration = Duration::from_secs(60);
/// Limit: outcomes that are ready together and commit together.
const SETTLE_TOGETHER_MAX: usize = 64;
/// How long a charge rests that may not be collected now (paused, on hold, its other collector still alive).
const REST: Duration = Duration::from_secs(6 * 3600);
/// How long a charge rests whose other collector could not be closed.
const CLOSE_AGAIN: Duration = Duration::from_secs(120);
/// A charge due for longer than this is looked up even with `preflight = "stale"`: its first key may be forgotten.
const KEY_SURE: Duration = Duration::from_secs(12 * 3600);

/// An attempt that is written down and may be sent.
struct Ready {
    claimed: Claimed,
    number: u32,
    request: Prepared,
    stripe_intent: Option<String>,
}

/// Collects at most `limit` charges.
///
/// # Errors
/// [`super::FlowError::Store`]. A charge that fails alone is counted in the report.
pub async fn run_once(ctx: &Ctx, limit: usize) -> Result<Report> {
    let mut report = Report::default();
    if let Some(why) = ctx.store.instance(ctx.now()).await?.halted_why {
        report.stopped = Some(format!("charging is halted: {why}"));
        return Ok(report);
    }
    let (now, lease) = (ctx.now(), ctx.lease_until());
    let claimed = ctx.store.claim_charges(Work::Collect, &ctx.worker, now, lease, limit).await?;
    report.taken = claimed.len() as u64;
    let ready = write_down(ctx, claimed, &mut report).await?;
    let ready = look_first(ctx, ready, &mut report).await?;
    let mut waiting = ready.into_iter().peekable();
    while waiting.peek().is_some() && report.stopped.is_none() {
        let group: Vec<Ready> = waiting.by_ref().take(SEND_TOGETHER_MAX).collect();
        send_group(ctx, group, &mut report).await?;
    }
    for left in waiting {
        // Not sent: the attempt stays written down, and whoever comes next sends the same one.
        ctx.store.release_charge(&left.claimed.charge, None).await?;
    }
    Ok(report)
}

/// Writes an attempt for each charge that may be collected, in one transaction.
async fn write_down(ctx: &Ctx, claimed: Vec<Claimed>, report: &mut Report) -> Result<Vec<Ready>> {
    let now = ctx.now();
    let mut ready = Vec::with_capacity(claimed.len());
    let mut settlements = Vec::with_capacity(claimed.len());
    for mut one in claimed {
        if !may_be_collected(ctx, &mut one, report).await? {
            continue;
        }
        if let (State::Collecting { attempt }, Some(request)) = (&one.charge.state, one.prepared.clone()) {
            let stripe_intent = living_intent(&one.charge);
            ready.push(Ready { number: attempt.number, request, stripe_intent, claimed: one });
            continue;
        }
        match begin(ctx, one, now).await? {
            Begun::Written(written) => {
                settlements.push(written.0);
                ready.push(written.1);
            }
            Begun::Other(settlement) => commit(ctx, &[*settlement], report, now).await?,
            Begun::Nothing => {}
        }
    }
    let settled = ctx.store.settle(&settlements, now).await?;
    ready.retain(|one| !settled.lost.contains(&one.claimed.charge.id));
    Ok(ready)
}

enum Begun {
    Written(Box<(Settlement, Ready)>),
    Other(Box<Settlement>),
    Nothing,
}

async fn begin(ctx: &Ctx, claimed: Claimed, now: Timestamp) -> Result<Begun> {
    let Some(payment_method) = claimed.payment_method.clone() else {
        let decline = Decline { code: Some("no_saved_card".into()), ..Decline::default() };
        return Ok(match decide(ctx, &claimed, &Event::Declined(decline), Trace::default(), now).await? {
            Ok(settlement) => Begun::Other(Box::new(settlement)),
            Err(_) => Begun::Nothing,
        });
    };
    let settlement = match decide(ctx, &claimed, &Event::Begin, Trace::default(), now).await? {
        Ok(settlement) => settlement.keep_lease(&ctx.worker, ctx.lease_until()),
        Err(_) => {
            ctx.store.release_charge(&claimed.charge, now.checked_add(REST).ok()).await?;
            return Ok(Begun::Nothing);
        }
    };
    let charge = settlement.charge.clone();
    let Some(attempt) = charge.open_attempt() else { return Ok(Begun::Nothing) };
    let request = request(ctx, &claimed, &charge, attempt.operation, attempt.number, &payment_method);
    let settlement = Settlement {
        new_attempt: Some(NewAttempt {
            charge_id: charge.id,
            number: attempt.number,
            generation: charge.generation,
            operation: attempt.operation.as_str(),
            idempotency_key: request.key.clone(),
            path: request.path.clone(),
            body: request.body.clone(),
            payment_method,
            card_fingerprint: claimed.card_fingerprint.clone(),
            not_before: now.as_second(),
            created_at: now.as_second(),
        }),
        ..settlement
    };
    let stripe_intent = living_intent(&charge);
    let ready =
        Ready { claimed: Claimed { charge, ..claimed }, number: attempt.number, request, stripe_intent };
    Ok(Begun::Written(Box::new((settlement, ready))))
}

/// The PaymentIntent that a confirmation goes to.
fn living_intent(charge: &Charge) -> Option<String> {
    charge.collector.as_ref().filter(|one| one.kind == CollectorKind::PaymentIntent)?.stripe_id.clone()
}

/// The exact request of an attempt. Deterministic: a restored database writes the same bytes again.
fn request(
    ctx: &Ctx,
    claimed: &Claimed,
    charge: &Charge,
    operation: Operation,
    number: u32,
    payment_method: &str,
) -> Prepared {
    let key = format!(
        "recurd:{}:{}:{}:{}:{number}",
        ctx.instance,
        charge.id,
        charge.generation,
        operation.as_str()
    );
    let (path, body) = match operation {
        Operation::Create => {
            let (instance, id) = (ctx.instance.to_string(), charge.id.to_string());
            let subscription = charge.period.map(|(id, _)| id.to_string()).unwrap_or_default();
            let (generation, number) = (charge.generation.to_string(), number.to_string());
            let metadata = [
                (INSTANCE, instance.as_str()),
                (SUBSCRIPTION, subscription.as_str()),
                (CHARGE, id.as_str()),
                (GENERATION, generation.as_str()),
                (ATTEMPT, number.as_str()),
            ];
            let metadata: Vec<_> = metadata.into_iter().filter(|(_, value)| !value.is_empty()).collect();
            let body = CreateOffSession {
                amount: charge.amount,
                customer: &claimed.stripe_customer,
                payment_method,
                description: Some(&charge.description),
                statement_descriptor_suffix: claimed.statement_suffix.as_deref(),
                metadata: &metadata,
            };
            ("/v1/payment_intents".to_owned(), body.encode())
        }
        Operation::Confirm => {
            let id = living_intent(charge).unwrap_or_default();
            (format!("/v1/payment_intents/{id}/confirm"), ConfirmOffSession { payment_method }.encode())
        }
    };
    let fingerprint = claimed.card_fingerprint.clone();
    Prepared { key, path, body, payment_method: payment_method.to_owned(), fingerprint }
}

/// Ends, postpones, or clears the way for a charge. Returns whether it may be collected now.
async fn may_be_collected(ctx: &Ctx, claimed: &mut Claimed, report: &mut Report) -> Result<bool> {
    let now = ctx.now();
    let rest = now.checked_add(REST).ok();
    match claimed.subscription_state {
        Some(SubscriptionState::Canceled) => {
            settle_one(ctx, claimed, &Event::Stop(End::Canceled), Trace::default(), report).await?;
            return Ok(false);
        }
        Some(SubscriptionState::Paused | SubscriptionState::Pending) => {
            ctx.store.release_charge(&claimed.charge, rest).await?;
            report.count("waiting");
            return Ok(false);
        }
        Some(SubscriptionState::Active | SubscriptionState::Completed) | None => {}
    }
    if claimed.hold_why.is_some() {
        ctx.store.release_charge(&claimed.charge, rest).await?;
        report.count("on_hold");
        return Ok(false);
    }
    let session = claimed.charge.collector.clone().filter(|one| one.kind == CollectorKind::CheckoutSession);
    let Some(collector) = session else { return Ok(true) };
    match close(ctx, claimed, &collector).await? {
        Closed::Event(event) => {
            settle_one(ctx, claimed, &event, Trace::default(), report).await?;
        }
        Closed::Alive(why) => {
            tracing::warn!(charge.id = %claimed.charge.id, "The link of charge {} cannot be closed yet: {why}", claimed.charge.id);
            ctx.store.release_charge(&claimed.charge, now.checked_add(CLOSE_AGAIN).ok()).await?;
        }
    }
    // Either way the next tick goes on from what is then known.
    Ok(false)
}

/// Asks Stripe's lists for what the database may have forgotten, where the configuration or the charge's age asks for it.
async fn look_first(ctx: &Ctx, ready: Vec<Ready>, report: &mut Report) -> Result<Vec<Ready>> {
    let now = ctx.now();
    let (look, sure): (Vec<_>, Vec<_>) = ready.into_iter().partition(|one| needs_a_look(ctx, one, now));
    let found: Vec<(Ready, Result<Option<Event>, Error>)> = stream::iter(look)
        .map(|one| async {
            let event = find_forgotten(ctx, &one.claimed, one.number).await;
            (one, event)
        })
        .buffer_unordered(ctx.config.limits.concurrency)
        .collect()
        .await;
    let mut ready = sure;
    for (one, event) in found {
        match event {
            Ok(None) => ready.push(one),
            Ok(Some(event)) => {
                report.count("adopted");
                settle_one(ctx, &one.claimed, &event, Trace::default(), report).await?;
            }
            Err(error) => {
                report.count("not_looked_up");
                if error.is_auth() {
                    report.stopped = Some(error.to_string());
                }
                ctx.store.release_charge(&one.claimed.charge, now.checked_add(CLOSE_AGAIN).ok()).await?;
            }
        }
    }
    Ok(ready)
}

fn needs_a_look(ctx: &Ctx, ready: &Ready, now: Timestamp) -> bool {
    if ready.stripe_intent.is_some() {
        // The same PaymentIntent again: it can succeed only once.
        return false;
    }
    let old = now.duration_since(ready.claimed.charge.due_at).unsigned_abs() > KEY_SURE || ready.number > 1;
    match ctx.config.stripe.preflight {
        Preflight::Always => true,
        Preflight::Stale => old,
    }
}

/// What Stripe has of this charge that the database does not know.
async fn find_forgotten(ctx: &Ctx, claimed: &Claimed, number: u32) -> Result<Option<Event>, Error> {
    let since = look_since(&claimed.charge);
    let now = ctx.now();
    let intents = ctx.stripe.list_payment_intents(&claimed.stripe_customer, since).await?;
    let ours: Vec<&PaymentIntent> =
        intents.iter().filter(|intent| is_ours(claimed, ctx.instance, intent)).collect();
    if let Some(paid) = ours.iter().find(|intent| intent.status == PaymentIntentStatus::Succeeded) {
        return Ok(Some(Event::Paid(receipt(claimed, paid, None, now))));
    }
    if let Some(pending) = ours.iter().find(|intent| intent.status == PaymentIntentStatus::Processing) {
        let outcome = Outcome::Processing { payment_intent: pending.id.clone() };
        return Ok(Some(Event::Answered { attempt: number, outcome }));
    }
    let sessions = ctx.stripe.list_checkout_sessions(&claimed.stripe_customer, since).await?;
    for session in
        sessions.iter().filter(|one| one.metadata.get(CHARGE) == Some(&claimed.charge.id.to_string()))
    {
        if let Some(event @ (Event::Paid(_) | Event::Pending)) = event_of_session(claimed, session, now) {
            return Ok(Some(event));
        }
        if session.status == Some(crate::stripe::checkout::SessionStatus::Open) {
            expire_stranger(ctx, &session.id).await?;
        }
    }
    let open = ours.iter().find(|intent| intent.status != PaymentIntentStatus::Canceled);
    Ok(open.map(|intent| {
        let number_in =
            |name: &str| intent.metadata.get(name).and_then(|text| text.parse().ok()).unwrap_or(1);
        Event::Adopt {
            payment_intent: intent.id.clone(),
            generation: number_in(GENERATION),
            attempt: number_in(ATTEMPT),
        }
    }))
}

/// An open Session that the database does not know could be paid beside our PaymentIntent.
async fn expire_stranger(ctx: &Ctx, session: &str) -> Result<(), Error> {
    let key = format!("recurd:{}:{session}:stranger:expire:{}", ctx.instance, ctx.now().as_second());
    ctx.stripe.expire_checkout_session(session, &key).await.map(|_| ())
}

/// Objects of a charge are never older than this.
pub(super) fn look_since(charge: &Charge) -> Timestamp {
    charge.due_at.checked_sub(Duration::from_secs(2 * 86_400)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Marks a group as sending, sends it, and settles outcomes as they come.
async fn send_group(ctx: &Ctx, group: Vec<Ready>, report: &mut Report) -> Result<()> {
    let marked_at = ctx.now();
    let (group, marks) = mark(ctx, group, marked_at).await?;
    let settled = ctx.store.settle(&marks, marked_at).await?;
    let group = group.into_iter().filter(|one| !settled.lost.contains(&one.claimed.charge.id));
    let client = ctx.stripe.not_after(marked_at.checked_add(MARK_AGE_MAX).unwrap_or(marked_at));
    let mut answers = stream::iter(group)
        .map(|one| {
            let client = client.clone();
            async move {
                let result = send(&client, &one).await;
                (one, result)
            }
        })
        .buffer_unordered(ctx.config.limits.concurrency)
        .ready_chunks(SETTLE_TOGETHER_MAX);
    while let Some(ready) = answers.next().await {
        settle_answers(ctx, ready, report).await?;
    }
    Ok(())
}

async fn mark(ctx: &Ctx, group: Vec<Ready>, now: Timestamp) -> Result<(Vec<Ready>, Vec<Settlement>)> {
    let mut marks = Vec::with_capacity(group.len());
    let mut marked = Vec::with_capacity(group.len());
    for one in group {
        if let Ok(settlement) = decide(ctx, &one.claimed, &Event::Sending, Trace::default(), now).await? {
            let settlement = settlement.keep_lease(&ctx.worker, ctx.lease_until());
            let claimed = Claimed { charge: settlement.charge.clone(), ..one.claimed };
            marks.push(settlement);
            marked.push(Ready { claimed, ..one });
        }
    }
    Ok((marked, marks))
}

/// Sends the stored bytes under the stored key.
async fn send(client: &crate::stripe::Client, ready: &Ready) -> Result<Answer<PaymentIntent>, Error> {
    let (body, key) = (ready.request.body.clone(), ready.request.key.as_str());
    match &ready.stripe_intent {
        Some(id) => client.confirm_payment_intent(id, body, key).await,
        None => client.create_payment_intent(body, key).await,
    }
}

async fn settle_answers(
    ctx: &Ctx,
    answers: Vec<(Ready, Result<Answer<PaymentIntent>, Error>)>,
    report: &mut Report,
) -> Result<()> {
    let now = ctx.now();
    let mut settlements = Vec::with_capacity(answers.len());
    for (one, result) in answers {
        let answered = read(&one.claimed, ctx.instance, result, now);
        settlements.extend(settle_answer(ctx, &one.claimed, one.number, answered, report, now).await?);
    }
    commit(ctx, &settlements, report, now).await
}

/// The settlement of one answered attempt; shared with reconcile.
pub(super) async fn settle_answer(
    ctx: &Ctx,
    claimed: &Claimed,
    number: u32,
    answered: Answered,
    report: &mut Report,
    now: Timestamp,
) -> Result<Option<Settlement>> {
    let Answered { outcome, request_id, error, stop } = answered;
    count(&outcome, report);
    if let Some(stop) = stop {
        report.stopped.get_or_insert(stop);
    }
    let event = Event::Answered { attempt: number, outcome };
    let trace = Trace { request_id, error };
    Ok(decide(ctx, claimed, &event, trace, now).await?.ok())
}

fn count(outcome: &Outcome, report: &mut Report) {
    match outcome {
        Outcome::Declined(decline) => {
            report.count("declined");
            metrics::counter!("recurd_declines_total", "class" => decline.class().as_str()).increment(1);
        }
        Outcome::Unknown { .. } => report.count("unknown"),
        Outcome::NotRun { .. } => report.count("not_run"),
        Outcome::Rejected(_) => report.count("rejected"),
        Outcome::Paid(_) | Outcome::Processing { .. } | Outcome::Missing | Outcome::CollectorDead => {}
    }
}

/// The attempt as it is resent: marked first, like a first sending.
pub(super) async fn resend(
    ctx: &Ctx,
    claimed: &Claimed,
    report: &mut Report,
) -> Result<Option<(Claimed, Result<Answer<PaymentIntent>, Error>)>> {
    let now = ctx.now();
    let Some(request) = claimed.prepared.clone() else { return Ok(None) };
    let Ok(settlement) = decide(ctx, claimed, &Event::Sending, Trace::default(), now).await? else {
        return Ok(None);
    };
    let settlement = settlement.keep_lease(&ctx.worker, ctx.lease_until());
    let claimed = Claimed { charge: settlement.charge.clone(), ..claimed.clone() };
    if !ctx.store.settle(&[settlement], now).await?.lost.is_empty() {
        report.count("changed_meanwhile");
        return Ok(None);
    }
    let Some(attempt) = claimed.charge.open_attempt() else { return Ok(None) };
    let confirms = attempt.operation == Operation::Confirm;
    let stripe_intent = living_intent(&claimed.charge).filter(|_| confirms);
    let ready = Ready { number: attempt.number, request, stripe_intent, claimed };
    let client = ctx.stripe.not_after(now.checked_add(MARK_AGE_MAX).unwrap_or(now));
    let result = send(&client, &ready).await;
    Ok(Some((ready.claimed, result)))
}
