//! From an event to a settlement: load what the decision needs, ask billing, and prepare the rows.

use jiff::Timestamp;

use super::{Ctx, Report, Result, backup, ladders};
use crate::billing::apply::{Event, Outcome, Policy, Refused, Step, apply};
use crate::billing::charge::{CollectorKind, Phase, State};
use crate::billing::decline::{Class, Decline};
use crate::billing::dunning::{Action, Next, Rules};
use crate::billing::network_rules::{Try, earliest_retry, within_ceilings, within_ceilings_of_first};
use crate::billing::retry::RetryPolicy;
use crate::mail::MailName;
use crate::store::{AttemptRow, AttemptUpdate, Claimed, NetworkTry, OutboxInsert, Settlement};

/// How long a charge rests after an event that did not fit its state.
const REFUSED_REST: std::time::Duration = std::time::Duration::from_secs(60);

/// A card that was entered within this time after we heard of a refusal may have been entered before it: the one is Stripe's
/// clock, the other ours.
const SAME_MOMENT_SECS: i64 = 300;

/// What explains an answer, for the attempt row.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    pub request_id: Option<String>,
    pub error: Option<String>,
}

/// Applies an event to a charge. `Ok(Err(_))`: it came too late or twice, nothing is to be written.
pub(super) async fn decide(
    ctx: &Ctx,
    claimed: &Claimed,
    event: &Event,
    trace: Trace,
    now: Timestamp,
) -> Result<Result<Settlement, Refused>> {
    let decline = decline_of(event).cloned();
    let on = match (event, &decline) {
        (Event::TakeLadder, _) => ladders::present(ctx, claimed, None).await?,
        (_, decline) => ladders::of(ctx, claimed, decline.as_ref().map(Decline::class)).await?,
    };
    let last = match (&decline, event) {
        (Some(decline), _) => Some(decline.clone()),
        (None, Event::StepDue) => last_decline(ctx, claimed).await?,
        (None, _) => None,
    };
    let tried = decline.as_ref().and_then(|decline| network_try(claimed, decline, now));
    let history = match &last {
        Some(decline) => history(ctx, claimed, decline, tried.as_ref(), now).await?,
        None => Vec::new(),
    };
    let policy = Policy { rules: on.rules(ctx), history: &history, last_decline: last.as_ref() };
    let step = match apply(&claimed.charge, event, &policy, now) {
        Ok(step) => step,
        Err(refused) => return Ok(Err(refused)),
    };
    if let (Some(shadow), Some(_)) = (ctx.config.dunning.shadow, &last)
        && let Some(difference) = shadow_of(shadow, claimed, event, &policy, &step, now)
    {
        tracing::info!(charge.id = %claimed.charge.id, policy = shadow.name(), "The shadow policy {difference}");
    }
    if let Some(decline) = decline.as_ref().filter(|decline| decline.is_unknown()) {
        tracing::warn!(charge.id = %claimed.charge.id, code = decline.reason(), "A decline code is not in the table; it is treated as generic");
    }
    let attempt = attempt_update(claimed, &step.charge, event, trace, now);
    let receipt = receipt(ctx, &step, now);
    let backup = backup::promised(ctx, &step.charge, event);
    let mut settlement = Settlement::new(claimed, step, now);
    settlement.outbox.extend(receipt);
    settlement.outbox.extend(backup);
    settlement.attempt = attempt;
    settlement.network_try = tried;
    Ok(Ok(settlement))
}

/// What another retry policy would have done with this decline, if not the same.
fn shadow_of(
    shadow: &dyn RetryPolicy,
    claimed: &Claimed,
    event: &Event,
    policy: &Policy<'_>,
    step: &Step,
    now: Timestamp,
) -> Option<String> {
    let next = |step: &Step| match step.charge.state {
        State::PastDue { next } => Some(next),
        _ => None,
    };
    let words = |next: Next| match next.action {
        Action::Collect => format!("try the card at {}", next.at),
        Action::Remind => format!("not try the card, and go on at {}", next.at),
        Action::GiveUp => format!("give up at {}", next.at),
    };
    let rules = Rules { retry: shadow, ..policy.rules };
    let other = next(&apply(&claimed.charge, event, &Policy { rules, ..*policy }, now).ok()?)?;
    let own = next(step)?;
    (own != other).then(|| format!("would {}; it will {}", words(other), words(own)))
}

/// The receipt of a payment. After a decline the customer is thanked instead: one mail for one payment.
fn receipt(ctx: &Ctx, step: &Step, now: Timestamp) -> Option<OutboxInsert> {
    let charge = &step.charge;
    let first_try = matches!(charge.state, State::Paid { .. }) && charge.dunning.is_none();
    let wanted = ctx.config.mail.receipts && first_try;
    wanted.then(|| OutboxInsert::about(charge, "receipt", MailName::Receipt.as_str(), now))
}

/// Applies events that begin an attempt, which no history and no ladder can change.
pub(super) fn start(
    ctx: &Ctx,
    claimed: &Claimed,
    events: &[Event],
    now: Timestamp,
) -> Result<Settlement, Refused> {
    let rules = Rules::of(&ctx.config.dunning.all.ladder);
    let policy = Policy { rules, history: &[], last_decline: None };
    let mut step = Step { charge: claimed.charge.clone(), effects: Vec::new() };
    for event in events {
        step = apply(&step.charge, event, &policy, now)?;
    }
    Ok(Settlement::new(claimed, step, now))
}

fn decline_of(event: &Event) -> Option<&Decline> {
    match event {
        Event::Answered { outcome: Outcome::Declined(decline), .. } | Event::Declined(decline) => {
            Some(decline)
        }
        _ => None,
    }
}

async fn last_decline(ctx: &Ctx, claimed: &Claimed) -> Result<Option<Decline>> {
    let attempts = ctx.store.attempts(claimed.charge.id).await?;
    Ok(attempts.iter().rev().find_map(AttemptRow::decline))
}

/// The try counts for the networks by Stripe's charge id, so that the 402 and its event count once.
fn network_try(claimed: &Claimed, decline: &Decline, now: Timestamp) -> Option<NetworkTry> {
    let charge = &claimed.charge;
    let id = match (&decline.stripe_charge, charge.open_attempt()) {
        (Some(id), _) => id.clone(),
        (None, Some(attempt)) => format!("{}:{}", charge.id, attempt.number),
        (None, None) => return None,
    };
    Some(NetworkTry {
        id,
        card_fingerprint: decline.fingerprint.clone().or_else(|| claimed.fingerprint().map(Into::into))?,
        amount_minor: charge.amount.minor(),
        currency: charge.amount.currency().code(),
        tried_at: now.as_second(),
        brand: decline.brand.clone().or(claimed.card_brand.clone()),
        refused_at: (decline.class() == Class::Never).then_some(now.as_second() + SAME_MOMENT_SECS),
        not_before: decline.not_before(now).map(Timestamp::as_second),
    })
}

/// From when on the card networks let the card be tried (again) for this charge. `None`: never by machine.
pub(super) async fn next_try(ctx: &Ctx, claimed: &Claimed, now: Timestamp) -> Result<Option<Timestamp>> {
    let Some(fingerprint) = claimed.fingerprint() else { return Ok(Some(now)) };
    if is_refused_for_ever(ctx, claimed).await? {
        return Ok(None);
    }
    let history = ctx.store.network_tries(fingerprint, &claimed.charge, now).await?;
    if claimed.charge.dunning.is_none() {
        return Ok(Some(within_ceilings_of_first(&history, now)));
    }
    let attempts = ctx.store.attempts(claimed.charge.id).await?;
    let last = attempts.iter().rev().find_map(AttemptRow::decline);
    // Without a card nothing was tried: that says nothing of a card that was saved since.
    let same_card = |decline: &Decline| {
        decline.fingerprint.as_deref().is_none_or(|one| one == fingerprint) && !decline.is_untried()
    };
    match last.filter(same_card) {
        Some(decline) => Ok(earliest_retry(&decline, &history, now)),
        None => Ok(Some(within_ceilings(&history, now))),
    }
}

/// Whether a bank refused the charge's card for ever, for any charge, after the customer had entered it. Whoever enters a card
/// anew shows that it is good again.
pub(super) async fn is_refused_for_ever(ctx: &Ctx, claimed: &Claimed) -> Result<bool> {
    let Some(fingerprint) = claimed.fingerprint().filter(|_| !mutant!(RefusedElsewhere)) else {
        return Ok(false);
    };
    let is_saved_card = claimed.card_fingerprint.as_deref() == Some(fingerprint);
    let entered_at = claimed.card_entered_at.filter(|_| is_saved_card);
    Ok(ctx.store.is_refused_for_ever(fingerprint, entered_at).await?)
}

async fn history(
    ctx: &Ctx,
    claimed: &Claimed,
    decline: &Decline,
    tried: Option<&NetworkTry>,
    now: Timestamp,
) -> Result<Vec<Try>> {
    let fingerprint = decline.fingerprint.as_deref().or(claimed.fingerprint());
    let Some(fingerprint) = fingerprint else {
        return Ok(vec![Try::declined(decline, now)]);
    };
    let mut history = ctx.store.network_history(fingerprint, claimed.charge.amount, now).await?;
    if let Some(tried) = tried {
        history.push(Try { brand: tried.brand.clone(), ..Try::declined(decline, now) });
    }
    Ok(history)
}

fn attempt_update(
    claimed: &Claimed,
    after: &crate::billing::charge::Charge,
    event: &Event,
    trace: Trace,
    now: Timestamp,
) -> Option<AttemptUpdate> {
    if let (State::Processing { .. } | State::Due { .. }, Event::Declined(decline)) =
        (&claimed.charge.state, event)
        && !decline.is_untried()
    {
        return Some(AttemptUpdate::declined_late(after.id, after.attempts, decline, now));
    }
    let before = claimed.charge.open_attempt()?;
    if let Some(open) = after.open_attempt().filter(|open| open.number == before.number) {
        let error = trace.error.filter(|_| matches!(event, Event::Answered { .. }));
        return Some(AttemptUpdate::open(after.id, open, now).with_trace(trace.request_id, error));
    }
    let unsent = matches!(before.phase, Phase::Prepared { .. });
    let sent_elsewhere = matches!(event, Event::Adopt { collector, is_pending: true, .. }
        if collector.kind == CollectorKind::PaymentIntent);
    let state = match event {
        Event::Answered { outcome, .. } => word(outcome),
        _ if sent_elsewhere => "processing",
        _ if unsent => "void",
        Event::Paid(_) => "paid",
        Event::Pending => "processing",
        _ => "void",
    };
    let update = AttemptUpdate::finished(after.id, before.number, state, now);
    let update = match event {
        Event::Answered { outcome: Outcome::Declined(decline), .. } => update.with_decline(decline),
        Event::Answered { outcome: Outcome::Paid(receipt), .. } | Event::Paid(receipt) => {
            update.with_payment_intent(Some(receipt.payment_intent.clone()))
        }
        _ if sent_elsewhere => update.sent_by_another(now),
        _ => update,
    };
    Some(update.with_trace(trace.request_id, trace.error))
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Paid(_) => "paid",
        Outcome::Declined(_) => "declined",
        Outcome::Processing { .. } => "processing",
        Outcome::Rejected(_) => "rejected",
        Outcome::NotRun { .. } | Outcome::Unknown { .. } | Outcome::Missing | Outcome::CollectorDead => {
            "void"
        }
    }
}

/// Writes a batch and counts what became of each charge. How many were not changed by somebody else meanwhile.
pub(super) async fn commit(
    ctx: &Ctx,
    batch: &[Settlement],
    report: &mut Report,
    now: Timestamp,
) -> Result<usize> {
    let settled = ctx.store.settle(batch, now).await?;
    for one in batch {
        if settled.lost.contains(&one.charge.id) {
            report.count("changed_meanwhile");
            tracing::debug!(charge.id = %one.charge.id, "Charge {} was changed by somebody else meanwhile", one.charge.id);
        } else if one.lease.is_none() {
            tell(&one.charge, report);
        }
    }
    Ok(batch.len() - settled.lost.len())
}

fn tell(charge: &crate::billing::charge::Charge, report: &mut Report) {
    let id = charge.id;
    report.count(charge.state.as_str());
    metrics::counter!("recurd_charges_total", "outcome" => charge.state.as_str()).increment(1);
    match &charge.state {
        State::Paid { .. } => {
            report.collect(charge.amount);
            let currency = charge.amount.currency().code();
            metrics::counter!("recurd_collected_minor_total", "currency" => currency)
                .increment(charge.amount.minor().unsigned_abs());
            tracing::info!(charge.id = %id, "Charge {id} paid, {}", charge.amount);
        }
        State::PastDue { next } => {
            tracing::info!(charge.id = %id, "Charge {id} is past due; next: {} at {}", next.action.as_str(), next.at);
        }
        State::NeedsReview { why, .. } => {
            report.problem(format!("charge {id}: {why}"));
            tracing::error!(charge.id = %id, "Charge {id} needs a person: {why}");
        }
        other => tracing::debug!(charge.id = %id, "Charge {id} is {}", other.as_str()),
    }
}

/// Decides and writes one event of one charge. Returns whether it changed anything: not if it does not fit, nor if somebody
/// else was faster.
pub(super) async fn settle_one(
    ctx: &Ctx,
    claimed: &Claimed,
    event: &Event,
    trace: Trace,
    report: &mut Report,
) -> Result<bool> {
    let now = ctx.now();
    match decide(ctx, claimed, event, trace, now).await? {
        Ok(settlement) => Ok(commit(ctx, &[settlement], report, now).await? > 0),
        Err(refused) => {
            tracing::debug!(charge.id = %claimed.charge.id, "Nothing to change for charge {}: {refused}", claimed.charge.id);
            // Not at once again: what does not fit now must not keep a worker going in circles.
            ctx.store.release_charge(&claimed.charge, now.checked_add(REFUSED_REST).ok()).await?;
            Ok(false)
        }
    }
}
