//! Collect what is due: claim, look first, write the attempt down, send, settle.
//!
//! ```text
//! claim    lease                                                     COMMIT
//! look     Stripe's lists, where the key alone would not do
//! write    attempt row with key and exact body, marked as sending    COMMIT   the last step before the first byte
//! send     no transaction is open
//! settle   outcome, next action, promises, budget                    COMMIT   outcomes that come together
//! ```

use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use futures::stream::{self, Stream};
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;

use super::answers::{
    ATTEMPT, Answered, CHARGE, GENERATION, INSTANCE, SUBSCRIPTION, event_of_session, is_of_page, is_ours,
    last_decline, read, receipt,
};
use super::close::{Closed, close};
use super::rails;
use super::settle::{Trace, commit, decide, next_try, settle_one, start};
use super::witness::{self, View};
use super::{ASK_AGAIN, Ctx, FlowError, Report, Result, in_doubt, notices, unheard};
use crate::billing::apply::{Event, Outcome};
use crate::billing::charge::{Charge, Collector, CollectorKind, End, Operation, State, Work};
use crate::billing::decline::Decline;
use crate::billing::subscription::SubscriptionState;
use crate::config::Preflight;
use crate::store::{Claimed, NewAttempt, OutboxInsert, Prepared, Settlement};
use crate::stripe::fields::Metadata;
use crate::stripe::payment_intents::{
    ConfirmOffSession, CreateOffSession, PaymentIntent, PaymentIntentStatus,
};
use crate::stripe::{Answer, Client, Error};

/// Limit: this many attempts are marked as sending together, so that the last of them leaves soon after the mark.
const SEND_TOGETHER_MAX: usize = 128;
/// Limit: an attempt leaves within this time of its mark or not at all (a suspended process must not wake up sending).
const MARK_AGE_MAX: Duration = Duration::from_secs(60);
/// Limit: outcomes that commit together.
const SETTLE_TOGETHER_MAX: usize = 128;
/// Outcomes that come within this time commit together. One that is lost here is found again: its key is on record.
const SETTLE_TOGETHER: Duration = Duration::from_millis(200);
/// How long a charge rests that may not be collected now (paused, on hold, its other collector still alive).
const REST: Duration = Duration::from_secs(6 * 3600);
/// A charge due for longer than this is looked up even with `preflight = "stale"`: its first key may be forgotten.
const KEY_SURE: Duration = Duration::from_secs(12 * 3600);

/// An attempt that is written down and may be sent.
struct Ready {
    claimed: Claimed,
    number: u32,
    request: Prepared,
    stripe_intent: Option<String>,
}

/// Limit: a history that was read longer ago decides nothing any more: the claim behind it has run out, and clocks differ by less.
const JUST_NOW: Duration = Duration::from_secs(3600);

/// Collects at most `limit` charges.
///
/// # Errors
/// [`super::FlowError::Store`]. A charge that fails alone is counted in the report.
pub async fn run_once(ctx: &Ctx, limit: usize) -> Result<Report> {
    let mut report = Report { stopped: ctx.brake.halted().await?, ..Report::default() };
    if report.stopped.is_none() {
        report.stopped = rails::may_begin(ctx).await?;
    }
    if report.stopped.is_some() {
        return Ok(report);
    }
    let (now, lease) = (ctx.now(), ctx.lease_until());
    let claimed = ctx.store.claim_charges(Work::Collect, &ctx.worker, now, lease, limit).await?;
    if claimed.is_empty() {
        return Ok(report);
    }
    report.taken = claimed.len() as u64;
    failpoint!("P3..P4");
    let claimed = ctx.in_time(claimed, now).await?;
    let claimed = where_agreed(ctx, claimed, &mut report).await?;
    let mut waiting = claimed.into_iter().peekable();
    while waiting.peek().is_some() && report.stopped.is_none() {
        let group: Vec<Claimed> = waiting.by_ref().take(SEND_TOGETHER_MAX).collect();
        collect(ctx, group, &mut report).await?;
    }
    for left in waiting {
        ctx.store.release_charge(&left.charge, None).await?;
    }
    Ok(report)
}

/// What was claimed, if the witness agrees that the database is up to date; else it is put off.
async fn where_agreed(ctx: &Ctx, claimed: Vec<Claimed>, report: &mut Report) -> Result<Vec<Claimed>> {
    if claimed.is_empty() {
        return Ok(claimed);
    }
    match witness::look(ctx).await? {
        View::Agrees => return Ok(claimed),
        View::Differs(why) => report.stopped = Some(why),
        View::Unseen(_) => report.count_many("not_looked_up", claimed.len() as u64),
    }
    ctx.put_off(claimed).await?;
    Ok(Vec::new())
}

/// Collects a group of claimed charges, one per customer.
async fn collect(ctx: &Ctx, group: Vec<Claimed>, report: &mut Report) -> Result<()> {
    let mut free = Vec::with_capacity(group.len());
    let worn = ctx.store.worn_cards(group.iter().filter_map(Claimed::fingerprint), ctx.now()).await?;
    for mut one in group {
        let is_bound =
            one.charge.dunning.is_some() || one.fingerprint().is_some_and(|card| worn.contains(card));
        if !may_be_collected(ctx, &mut one, is_bound, report).await? {
            continue;
        }
        // What the bank says to one of them decides whether the card networks let the other leave.
        if is_bound && free.iter().any(|other| is_same_card(other, &one)) {
            report.count("too_soon");
            ctx.store.release_charge(&one.charge, ctx.now().checked_add(ASK_AGAIN).ok()).await?;
            continue;
        }
        free.push(one);
    }
    let unknown_to_stripe = look_first(ctx, free, report).await?;
    if let Some(why) = ctx.brake.halted().await? {
        report.stopped.get_or_insert(why);
    }
    if report.stopped.is_some() {
        for one in unknown_to_stripe {
            ctx.store.release_charge(&one.charge, None).await?;
        }
        return Ok(());
    }
    failpoint!("P4..P5");
    // Whoever slept over the look at Stripe's lists asks the witness again; whoever sleeps from here on sends nothing.
    let marked_at = ctx.now();
    let unknown_to_stripe = where_agreed(ctx, unknown_to_stripe, report).await?;
    if unknown_to_stripe.is_empty() {
        return Ok(());
    }
    let (ready, limit) = write_down(ctx, unknown_to_stripe, report, marked_at).await?;
    send_all(ctx, ready, report, marked_at).await?;
    match limit {
        Some(why) => rails::met(ctx, why, report).await,
        None => Ok(()),
    }
}

/// Whether what the bank says to the one decides about the other: to a first try only of the same amount.
fn is_same_card(one: &Claimed, other: &Claimed) -> bool {
    let concerns = other.charge.dunning.is_some() || one.charge.amount == other.charge.amount;
    one.fingerprint().is_some() && one.fingerprint() == other.fingerprint() && concerns
}

/// Writes an attempt for each charge, marked as sending, in one transaction; and why not for each, if a limit was met.
async fn write_down(
    ctx: &Ctx,
    claimed: Vec<Claimed>,
    report: &mut Report,
    now: Timestamp,
) -> Result<(Vec<Ready>, Option<String>)> {
    let mut ready = Vec::with_capacity(claimed.len());
    let mut settlements = Vec::with_capacity(claimed.len());
    for one in claimed {
        if let Some((settlement, written)) = write_one(ctx, one, report, now).await? {
            settlements.push(settlement);
            ready.push(written);
        }
    }
    if mutant!(SendBeforeRecord) {
        return Ok((ready, None));
    }
    let settled = rails::admit(ctx, &settlements, now).await?;
    for one in ready.split_off(settled.admitted) {
        if let Some(unchanged) = ctx.store.find_charge(one.claimed.charge.id).await? {
            ctx.store.release_charge(&unchanged.charge, None).await?;
        }
    }
    ready.retain(|one| !settled.lost.contains(&one.claimed.charge.id));
    Ok((ready, settled.why))
}

/// The next attempt, or the one that was written down before and never left.
async fn write_one(
    ctx: &Ctx,
    claimed: Claimed,
    report: &mut Report,
    now: Timestamp,
) -> Result<Option<(Settlement, Ready)>> {
    if claimed.charge.open_attempt().is_some() {
        return mark(ctx, claimed, now).await;
    }
    let Some(payment_method) = claimed.payment_method.clone() else {
        settle_one(ctx, &claimed, &Event::Declined(Decline::no_card()), Trace::default(), report).await?;
        return Ok(None);
    };
    let Ok(mut settlement) = start(ctx, &claimed, &[Event::Begin, Event::Sending], now) else {
        ctx.store.release_charge(&claimed.charge, now.checked_add(REST).ok()).await?;
        return Ok(None);
    };
    let charge = settlement.charge.clone();
    let Some(attempt) = charge.open_attempt() else { return Ok(None) };
    let request = request(ctx, &claimed, &charge, attempt.operation, attempt.number, &payment_method);
    settlement.new_attempt = Some(NewAttempt::new(&charge, attempt, &request, now));
    settlement.alone_on_card = card_of_retry(&claimed, &request, now);
    let stripe_intent = living_intent(&charge);
    let claimed = Claimed { charge, ..claimed };
    let ready = Ready { claimed, number: attempt.number, request, stripe_intent };
    Ok(Some((settlement.keep_lease(&ctx.worker, ctx.lease_until()), ready)))
}

/// Marks an attempt that was written down before as sending.
async fn mark(ctx: &Ctx, claimed: Claimed, now: Timestamp) -> Result<Option<(Settlement, Ready)>> {
    let decided = decide(ctx, &claimed, &Event::Sending, Trace::default(), now).await?;
    let (Ok(mut settlement), Some(request)) = (decided, claimed.prepared.clone()) else {
        ctx.store.release_charge(&claimed.charge, now.checked_add(REST).ok()).await?;
        return Ok(None);
    };
    settlement.alone_on_card = card_of_retry(&claimed, &request, now);
    let charge = settlement.charge.clone();
    let Some(attempt) = charge.open_attempt() else { return Ok(None) };
    let stripe_intent = living_intent(&charge).filter(|_| attempt.operation == Operation::Confirm);
    let claimed = Claimed { charge, ..claimed };
    let ready = Ready { claimed, number: attempt.number, request, stripe_intent };
    Ok(Some((settlement.keep_lease(&ctx.worker, ctx.lease_until()), ready)))
}

/// The card of a retry, and since when nothing else may have left with it: another process may have read the card's history at
/// the same moment. What left before that, the history has counted.
fn card_of_retry(claimed: &Claimed, request: &Prepared, now: Timestamp) -> Option<(String, Timestamp)> {
    let card = request.fingerprint.clone()?;
    let since = now.checked_sub(JUST_NOW).ok()?;
    (claimed.charge.dunning.is_some() && !mutant!(RulesLookedAtOnce)).then_some((card, since))
}

/// The PaymentIntent that a confirmation goes to.
pub(super) fn living_intent(charge: &Charge) -> Option<String> {
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
    let mut key = format!(
        "recurd:{}:{}:{}:{}:{number}",
        ctx.instance,
        charge.id,
        charge.generation,
        operation.as_str()
    );
    // A restored database counts confirmations from what it knows; their old keys are not used again. The
    // PaymentIntent can succeed only once, so that a new key is harmless.
    if operation == Operation::Confirm && ctx.witness.recoveries() > 0 {
        key.push_str(&format!(":after-recovery-{}", ctx.witness.recoveries()));
    }
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
            let wrong = mutant!(AmountTwice).then(|| charge.amount.times(2).ok()).flatten();
            let body = CreateOffSession {
                amount: wrong.unwrap_or(charge.amount),
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

/// Ends, postpones, or clears the way for a charge, which the card networks' rules bind or not. Returns whether it may be
/// collected now.
async fn may_be_collected(
    ctx: &Ctx,
    claimed: &mut Claimed,
    is_bound: bool,
    report: &mut Report,
) -> Result<bool> {
    let now = ctx.now();
    let rest = now.checked_add(REST).ok();
    match claimed.subscription_state.filter(|_| !mutant!(CancelIgnored)) {
        Some(SubscriptionState::Canceled) => {
            settle_one(ctx, claimed, &Event::Stop(End::Canceled), Trace::default(), report).await?;
            return Ok(false);
        }
        Some(SubscriptionState::Paused | SubscriptionState::Pending) => {
            report.count("waiting");
            unheard::rest(ctx, claimed, rest, report).await?;
            return Ok(false);
        }
        Some(SubscriptionState::Active | SubscriptionState::Completed) | None => {}
    }
    if claimed.hold_why.is_some() && !mutant!(HoldIgnored) {
        report.count("on_hold");
        unheard::rest(ctx, claimed, rest, report).await?;
        return Ok(false);
    }
    if claimed.charge.open_attempt().is_none() && notices::holds_back(ctx, claimed, report).await? {
        return Ok(false);
    }
    // Planned by an operator, or written down or planned before another charge on the same card was declined: the ceilings
    // hold for all.
    if is_bound && !mutant!(RulesLookedAtOnce) {
        let allowed = next_try(ctx, claimed, now).await?;
        if allowed.is_none_or(|at| at > now) {
            let event = match allowed {
                None if matches!(claimed.charge.state, State::Due { .. }) => {
                    report.count("declined");
                    Event::Declined(Decline::refused_before(claimed.fingerprint()))
                }
                _ => {
                    report.count("too_soon");
                    Event::NotYet { allowed }
                }
            };
            settle_one(ctx, claimed, &event, Trace::default(), report).await?;
            return Ok(false);
        }
    }
    let session = claimed.charge.collector.clone().filter(|one| one.kind == CollectorKind::CheckoutSession);
    let Some(collector) = session else { return Ok(true) };
    let closed = close(ctx, claimed, &collector).await?;
    failpoint!("page closed..settled");
    match closed {
        Closed::Event(event) => {
            settle_one(ctx, claimed, &event, Trace::default(), report).await?;
        }
        Closed::Alive(why) => {
            tracing::warn!(charge.id = %claimed.charge.id, "The link of charge {} cannot be closed yet: {why}", claimed.charge.id);
            ctx.store.release_charge(&claimed.charge, now.checked_add(ASK_AGAIN).ok()).await?;
        }
    }
    // Either way the next tick goes on from what is then known.
    Ok(false)
}

/// Asks Stripe for what the database may not know: always before the same PaymentIntent is confirmed again, else where the
/// configuration or the charge's age asks for it.
async fn look_first(ctx: &Ctx, claimed: Vec<Claimed>, report: &mut Report) -> Result<Vec<Claimed>> {
    let now = ctx.now();
    let (look, sure): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|one| needs_a_look(ctx, one, now));
    let found: Vec<(Claimed, Result<Option<Event>>)> = stream::iter(look)
        .map(|one| async {
            let event = look_up(ctx, &one).await;
            (one, event)
        })
        .buffer_unordered(ctx.concurrency())
        .collect()
        .await;
    let mut unknown_to_stripe = sure;
    for (one, event) in found {
        match event {
            Ok(None) => match in_doubt::of_next_try(ctx, &one, now).await {
                Some(until) => {
                    report.count("in_doubt");
                    let event = Event::NotYet { allowed: Some(until) };
                    settle_one(ctx, &one, &event, Trace::default(), report).await?;
                }
                None => unknown_to_stripe.push(one),
            },
            Ok(Some(event)) if living_intent(&one.charge).is_some() => {
                report.count("heard_late");
                settle_one(ctx, &one, &event, Trace::default(), report).await?;
            }
            Ok(Some(event)) => {
                report.count("adopted");
                adopt(ctx, &one, &event, report).await?;
            }
            Err(FlowError::Stripe(error)) => {
                report.count("not_looked_up");
                if error.is_auth() {
                    report.stopped = Some(error.to_string());
                } else if let Error::Rejected(rejection) = &error {
                    // It will be refused tomorrow too, and without a look nothing is charged: a person must know.
                    let text = format!("charge {} cannot be collected: {rejection}", one.charge.id);
                    let alarm =
                        OutboxInsert::alarm(one.charge.id.to_string(), "preflight", text.clone(), now);
                    ctx.store.promise(&[alarm]).await?;
                    report.problem(text);
                    rails::refused(ctx, rejection.error.codes(), report).await?;
                }
                ctx.store.release_charge(&one.charge, now.checked_add(ASK_AGAIN).ok()).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(unknown_to_stripe)
}

async fn look_up(ctx: &Ctx, claimed: &Claimed) -> Result<Option<Event>> {
    match living_intent(&claimed.charge) {
        Some(id) => {
            unheard::against(ctx, claimed, &ctx.stripe.retrieve_payment_intent(&id).await?.value).await
        }
        None => Ok(find_forgotten(ctx, claimed).await?),
    }
}

fn needs_a_look(ctx: &Ctx, claimed: &Claimed, now: Timestamp) -> bool {
    let charge = &claimed.charge;
    if living_intent(charge).is_some() {
        return true;
    }
    let old = now.duration_since(charge.due_at).unsigned_abs() > KEY_SURE || next_number(charge) > 1;
    match ctx.config.stripe.preflight {
        Preflight::Always => true,
        // A database that was lost may have sent the same key on any day.
        Preflight::Stale => old || ctx.witness.recoveries() > 0,
    }
}

/// The number of the attempt that is about to be sent.
pub(super) fn next_number(charge: &Charge) -> u32 {
    charge.open_attempt().map_or(charge.attempts + 1, |attempt| attempt.number)
}

/// Looks at Stripe for a charge of a restored database, books what it shows, and gives the charge back.
pub(super) async fn adopt_forgotten(ctx: &Ctx, claimed: &Claimed, report: &mut Report) -> Result<()> {
    if !found_forgotten(ctx, claimed, report).await? {
        ctx.store.release_charge(&claimed.charge, None).await?;
    }
    Ok(())
}

/// The same. `false`: it shows nothing that is not known, and the charge is still claimed.
pub(super) async fn found_forgotten(ctx: &Ctx, claimed: &Claimed, report: &mut Report) -> Result<bool> {
    // If that is dead, another may live.
    if living_intent(&claimed.charge).is_some()
        && let Some(event) = look_up(ctx, claimed).await?.filter(|event| *event != Event::CollectorDead)
    {
        report.count("heard_late");
        settle_one(ctx, claimed, &event, Trace::default(), report).await?;
        return Ok(true);
    }
    let found = find_forgotten(ctx, claimed).await?.filter(|event| !is_known(&claimed.charge, event));
    if let Some(event) = &found {
        report.count("adopted");
        adopt(ctx, claimed, event, report).await?;
    }
    Ok(found.is_some())
}

/// Whether a charge has what was found already, and it waits for nobody.
fn is_known(charge: &Charge, event: &Event) -> bool {
    matches!(event, Event::Adopt { collector, is_pending: false, .. } if collector.stripe_id == living_intent(charge))
}

/// Books what Stripe has and the database had forgotten, with the attempt that it came of.
async fn adopt(ctx: &Ctx, claimed: &Claimed, event: &Event, report: &mut Report) -> Result<()> {
    let now = ctx.now();
    let Ok(mut settlement) = decide(ctx, claimed, event, Trace::default(), now).await? else {
        let rest = now.checked_add(REST).ok().filter(|_| !claimed.charge.state.is_terminal());
        return Ok(ctx.store.release_charge(&claimed.charge, rest).await?);
    };
    if let Event::Adopt { collector, is_pending, .. } = event
        && collector.kind == CollectorKind::PaymentIntent
        && claimed.charge.open_attempt().is_none()
    {
        let charge = &settlement.charge;
        let payment_method = claimed.payment_method.as_deref().unwrap_or_default();
        let request = request(ctx, claimed, charge, Operation::Create, charge.attempts, payment_method);
        settlement.new_attempt = Some(NewAttempt::found(charge, &request, *is_pending, now));
    }
    commit(ctx, &[settlement], report, now).await.map(|_| ())
}

/// What Stripe has of this charge that the database does not know.
async fn find_forgotten(ctx: &Ctx, claimed: &Claimed) -> Result<Option<Event>, Error> {
    use PaymentIntentStatus::{Canceled, Processing, RequiresPaymentMethod, Succeeded};
    let since = look_since(ctx, claimed).await;
    let now = ctx.now();
    let intents = ctx.stripe.list_payment_intents(&claimed.stripe_customer, since).await?;
    let ours: Vec<&PaymentIntent> =
        intents.iter().filter(|intent| is_ours(claimed, ctx.instance, intent)).collect();
    if let Some(paid) = ours.iter().find(|intent| intent.status == Succeeded) {
        return Ok(Some(Event::Paid(receipt(claimed, paid, None, now))));
    }
    let pending = ours.iter().find(|intent| intent.status == Processing);
    if let Some(intent) = pending.filter(|intent| !is_of_page(intent)) {
        return Ok(Some(found(CollectorKind::PaymentIntent, &intent.id, &intent.metadata, true)));
    }
    let sessions = ctx.stripe.list_checkout_sessions(&claimed.stripe_customer, since).await?;
    for session in
        sessions.iter().filter(|one| one.metadata.get(CHARGE) == Some(&claimed.charge.id.to_string()))
    {
        if session.status == Some(crate::stripe::checkout::SessionStatus::Open) {
            expire_stranger(ctx, &session.id).await?;
        }
        // A list of Sessions does not show their PaymentIntents; the list before it does.
        let of_page = session.payment_intent.as_ref().map(|one| one.id());
        let bank = ours.iter().find(|one| Some(one.id.as_str()) == of_page).map(|one| &one.status);
        match (event_of_session(claimed, session, now), bank) {
            (Some(event @ Event::Paid(_)), _) => return Ok(Some(event)),
            (Some(Event::Pending), Some(RequiresPaymentMethod | Canceled)) => {}
            (Some(Event::Pending), _) | (_, Some(Processing)) => {
                return Ok(Some(found(CollectorKind::CheckoutSession, &session.id, &session.metadata, true)));
            }
            _ => {}
        }
    }
    // A page's own PaymentIntent is confirmed on the page only.
    let open = ours.iter().find(|one| one.status != Canceled && !is_of_page(one));
    let living = pending
        .or(open)
        .map(|intent| found(CollectorKind::PaymentIntent, &intent.id, &intent.metadata, pending.is_some()));
    Ok(living.or_else(|| declined_before(claimed, &ours)))
}

/// What a lost database was told when it tried a charge that was never tried from here: the ladder begins with it.
fn declined_before(claimed: &Claimed, dead: &[&PaymentIntent]) -> Option<Event> {
    let is_untried = matches!(claimed.charge.state, State::Due { .. }) && claimed.charge.attempts == 0;
    let mut declines = dead.iter().filter_map(|intent| last_decline(claimed, intent));
    let newest = declines.find(|decline| decline.stripe_charge.is_some());
    newest.filter(|_| is_untried && claimed.charge.dunning.is_none()).map(Event::Declined)
}

/// A collector of this charge that another database has made.
fn found(kind: CollectorKind, id: &str, metadata: &Metadata, is_pending: bool) -> Event {
    let number_in = |name: &str| metadata.get(name).and_then(|text| text.parse().ok());
    let generation = number_in(GENERATION).unwrap_or(1);
    Event::Adopt {
        collector: Collector { generation, kind, stripe_id: Some(id.to_owned()) },
        attempt: number_in(ATTEMPT).unwrap_or_default(),
        is_pending,
    }
}

/// An open Session that the database does not know could be paid beside our PaymentIntent.
async fn expire_stranger(ctx: &Ctx, session: &str) -> Result<(), Error> {
    let key = format!("recurd:{}:{session}:stranger:expire:{}", ctx.instance, ctx.now().as_second());
    ctx.stripe.expire_checkout_session(session, &key).await.map(|_| ())
}

/// Objects of a charge are never older than this. It may be collected as soon as it is made, at a person's word: long before it
/// is due, and, by a database that was lost, before the one that was restored made it again. A one-off may have been added to
/// that one at any time.
pub(super) async fn look_since(ctx: &Ctx, claimed: &Claimed) -> Timestamp {
    if claimed.charge.period.is_none() && ctx.witness.recoveries() > 0 {
        return Timestamp::UNIX_EPOCH;
    }
    let first = made_at(ctx, claimed).await.min(claimed.created_at);
    first.checked_sub(Duration::from_secs(2 * 86_400)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A charge of a period is not made, and so not collected, before this instant.
pub(super) async fn made_at(ctx: &Ctx, claimed: &Claimed) -> Timestamp {
    let ahead_secs = match ctx.terms(&claimed.plan, claimed.revision).await {
        Ok(terms) => terms.ahead_secs(),
        // Who cannot read how early it is made looks far enough.
        Err(_) => 366 * 86_400,
    };
    let ahead = Duration::from_secs(ahead_secs.unsigned_abs());
    claimed.charge.due_at.checked_sub(ahead).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Sends a group, and settles outcomes as they come.
async fn send_all(ctx: &Ctx, group: Vec<Ready>, report: &mut Report, marked_at: Timestamp) -> Result<()> {
    failpoint!("P6..P7");
    let age_max = if mutant!(ZombieSends) { Duration::from_secs(400 * 86_400) } else { MARK_AGE_MAX };
    let client = ctx.stripe.not_after(marked_at.checked_add(age_max).unwrap_or(marked_at));
    let mut answers = stream::iter(group)
        .map(|one| {
            let client = client.clone();
            async move {
                let result = send(&client, &one).await;
                (one, result)
            }
        })
        .buffer_unordered(ctx.concurrency());
    loop {
        let together = gather(&mut answers, ctx).await;
        if together.is_empty() {
            return Ok(());
        }
        settle_answers(ctx, together, report).await?;
    }
}

/// The first outcome that comes, and those that follow it closely. Empty: there are no more.
async fn gather<T>(outcomes: &mut (impl Stream<Item = T> + Unpin), ctx: &Ctx) -> Vec<T> {
    let mut together: Vec<T> = outcomes.next().await.into_iter().collect();
    if together.is_empty() {
        return together;
    }
    let mut enough = pin!(ctx.clock.pause(SETTLE_TOGETHER));
    while together.len() < SETTLE_TOGETHER_MAX {
        match select(outcomes.next(), &mut enough).await {
            Either::Left((Some(outcome), _)) => together.push(outcome),
            Either::Left((None, _)) | Either::Right(_) => break,
        }
    }
    // What came in the same moment as the end of the pause.
    while together.len() < SETTLE_TOGETHER_MAX
        && let Some(Some(outcome)) = outcomes.next().now_or_never()
    {
        together.push(outcome);
    }
    together
}

/// Sends the stored bytes under the stored key.
async fn send(client: &Client, ready: &Ready) -> Result<Answer<PaymentIntent>, Error> {
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
    failpoint!("P9..P10");
    let now = ctx.now();
    let mut settlements = Vec::with_capacity(answers.len());
    for (one, result) in answers {
        let answered = read(&one.claimed, ctx.instance, result, now);
        settlements.extend(settle_answer(ctx, &one.claimed, one.number, answered, report, now).await?);
    }
    commit(ctx, &settlements, report, now).await.map(|_| ())
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
    let Answered { outcome, request_id, error, stop, refused } = answered;
    count(&outcome, report);
    if let Some(reason) = refused {
        rails::refused(ctx, reason, report).await?;
    }
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

/// The attempt as it is resent: marked first, like a first sending, as of the instant at which its key was young enough.
pub(super) async fn resend(
    ctx: &Ctx,
    claimed: &Claimed,
    report: &mut Report,
    now: Timestamp,
) -> Result<Option<(Claimed, Result<Answer<PaymentIntent>, Error>)>> {
    if ctx.brake.halted().await?.is_some() {
        report.count("halted");
        return Ok(None);
    }
    // If it never arrived, a copy of the database may have made another attempt since.
    if !matches!(witness::look(ctx).await?, View::Agrees) {
        report.count("not_looked_up");
        return Ok(None);
    }
    // How old the key is says this machine's clock; Stripe has just said what time it is.
    if let Some(why) = rails::wrong_clock(ctx).await {
        report.stopped = Some(why);
        return Ok(None);
    }
    let Some(mut request) = claimed.prepared.clone() else { return Ok(None) };
    if mutant!(KeyHoldsTheTime) {
        request.key.push_str(&format!(":{}", now.as_second()));
    }
    if mutant!(BodyWrittenAnew) {
        request.body =
            request.body.replace(&request.payment_method, claimed.payment_method.as_deref().unwrap_or(""));
    }
    let Ok(settlement) = decide(ctx, claimed, &Event::Sending, Trace::default(), now).await? else {
        return Ok(None);
    };
    let settlement = settlement.keep_lease(&ctx.worker, ctx.lease_until());
    let claimed = Claimed { charge: settlement.charge.clone(), ..claimed.clone() };
    if !ctx.store.settle(&[settlement], now).await?.lost.is_empty() {
        report.count("changed_meanwhile");
        return Ok(None);
    }
    failpoint!("P6..P7 again");
    let Some(attempt) = claimed.charge.open_attempt() else { return Ok(None) };
    let confirms = attempt.operation == Operation::Confirm;
    let stripe_intent = living_intent(&claimed.charge).filter(|_| confirms);
    let ready = Ready { number: attempt.number, request, stripe_intent, claimed };
    let client = ctx.stripe.not_after(now.checked_add(MARK_AGE_MAX).unwrap_or(now));
    let result = send(&client, &ready).await;
    Ok(Some((ready.claimed, result)))
}
