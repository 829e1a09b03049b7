//! The open attempt: begun, on its way, answered.

use jiff::Timestamp;

use super::collector::{again, collector_dead};
use super::decision::{ended_as, review, review_answered};
use super::verdict::{declined, paid, pending};
use super::{CLOSING_PAUSE_SECS, Effect, Outcome, Policy, Refused, Step, later, planned};
use crate::billing::charge::{
    Attempt, Charge, Collector, CollectorKind, Need, Operation, Phase, Sent, State,
};
use crate::billing::dunning::{Action, Next};
use crate::billing::unknown::{Miss, ask_at, counts, miss};

pub(super) fn begin(charge: &mut Charge, now: Timestamp) -> Result<(), Refused> {
    match &charge.state {
        State::Due { .. } | State::PastDue { next: Next { action: Action::Collect, .. } } => {}
        other => return Err(Refused::OutOfPlace(other.as_str())),
    }
    let operation = match &charge.collector {
        None => {
            charge.generation += 1;
            charge.collector = Some(Collector {
                generation: charge.generation,
                kind: CollectorKind::PaymentIntent,
                stripe_id: None,
            });
            Operation::Create
        }
        Some(Collector { kind: CollectorKind::PaymentIntent, stripe_id: Some(_), .. }) => Operation::Confirm,
        Some(Collector { kind: CollectorKind::PaymentIntent, stripe_id: None, .. }) => Operation::Create,
        Some(Collector { kind: CollectorKind::CheckoutSession, .. }) => return Err(Refused::CollectorAlive),
    };
    charge.attempts += 1;
    let phase = Phase::Prepared { not_before: now };
    charge.state = State::Collecting { attempt: Attempt { number: charge.attempts, operation, phase } };
    Ok(())
}

pub(super) fn sending(charge: &mut Charge, now: Timestamp) -> Result<(), Refused> {
    let name = charge.state.as_str();
    let State::Collecting { attempt } = &mut charge.state else { return Err(Refused::OutOfPlace(name)) };
    attempt.phase = match attempt.phase {
        Phase::Prepared { .. } => Phase::Sending(Sent::now(now)),
        Phase::Sending(sent) | Phase::Unknown(sent) => {
            Phase::Sending(Sent { sends: sent.sends + 1, last_at: now, ..sent })
        }
    };
    Ok(())
}

pub(super) fn answered(
    step: &mut Step,
    number: u32,
    outcome: &Outcome,
    policy: &Policy<'_>,
    now: Timestamp,
) -> Result<(), Refused> {
    if let Outcome::Paid(receipt) = outcome {
        return paid(step, receipt);
    }
    let name = step.charge.state.as_str();
    let attempt = step.charge.open_attempt().ok_or(Refused::OutOfPlace(name))?;
    if attempt.number != number {
        return Err(Refused::TooLate(name));
    }
    if !matches!(outcome, Outcome::NotRun { .. } | Outcome::Unknown { .. }) {
        end_goes_on(&mut step.charge, now);
    }
    match outcome {
        Outcome::Paid(receipt) => paid(step, receipt),
        Outcome::Declined(decline) => declined(step, decline, policy, now),
        Outcome::Processing { payment_intent } => {
            name_collector(&mut step.charge, payment_intent);
            pending(&mut step.charge, now)
        }
        Outcome::NotRun { not_before } => {
            set_phase(&mut step.charge, not_run(attempt, *not_before), now);
            Ok(())
        }
        Outcome::Unknown { poisoned } => {
            let sent = sent_of(attempt, now);
            let sent = Sent { last_at: now, poisoned: sent.poisoned || *poisoned, ..sent };
            set_phase(&mut step.charge, Phase::Unknown(sent), now);
            Ok(())
        }
        Outcome::Missing => missing(step, attempt, now),
        Outcome::Rejected(why) => rejected(step, why, now),
        Outcome::CollectorDead => {
            if let State::Closing { attempt, .. } | State::NeedsReview { attempt, .. } =
                &mut step.charge.state
            {
                *attempt = None;
            }
            collector_dead(step, now)
        }
    }
}

/// Stripe has spoken after all: what a person had to look at ends as it was to end before.
fn end_goes_on(charge: &mut Charge, now: Timestamp) {
    if let State::NeedsReview { attempt, end: Some(then), .. } = charge.state {
        charge.state = State::Closing { attempt, then, at: now };
    }
}

/// Nothing ran this time. If an earlier sending may have, the attempt stays unknown.
fn not_run(attempt: Attempt, not_before: Timestamp) -> Phase {
    match attempt.phase {
        Phase::Prepared { .. } => Phase::Prepared { not_before },
        Phase::Sending(sent) if sent.sends <= 1 && sent.misses == 0 => Phase::Prepared { not_before },
        Phase::Sending(sent) => Phase::Unknown(Sent {
            sends: sent.sends.saturating_sub(1),
            last_at: sent.last_at.max(not_before),
            ..sent
        }),
        // Nothing was marked as leaving since: this says nothing of the sending that has no answer.
        Phase::Unknown(sent) => Phase::Unknown(Sent { last_at: sent.last_at.max(not_before), ..sent }),
    }
}

fn sent_of(attempt: Attempt, now: Timestamp) -> Sent {
    match attempt.phase {
        Phase::Sending(sent) | Phase::Unknown(sent) => sent,
        Phase::Prepared { .. } => Sent::now(now),
    }
}

fn set_phase(charge: &mut Charge, phase: Phase, now: Timestamp) {
    match &mut charge.state {
        State::Collecting { attempt } => attempt.phase = phase,
        State::Closing { attempt: Some(attempt), at, .. } => {
            attempt.phase = phase;
            let pause = later(now, CLOSING_PAUSE_SECS);
            *at = match phase {
                Phase::Prepared { .. } => pause,
                Phase::Sending(sent) | Phase::Unknown(sent) => pause.max(ask_at(&sent)),
            };
        }
        State::NeedsReview { attempt: Some(attempt), .. } => attempt.phase = phase,
        State::Closing { attempt: None, .. }
        | State::NeedsReview { attempt: None, .. }
        | State::Due { .. }
        | State::PastDue { .. }
        | State::LinkOpen { .. }
        | State::Processing { .. }
        | State::Missed
        | State::Paid { .. }
        | State::Uncollectible { .. }
        | State::Canceled { .. }
        | State::Settled { .. } => {}
    }
}

fn missing(step: &mut Step, attempt: Attempt, now: Timestamp) -> Result<(), Refused> {
    let (Phase::Sending(sent) | Phase::Unknown(sent)) = attempt.phase else {
        // Nothing left, so nothing can still arrive.
        resume(&mut step.charge, now);
        return Ok(());
    };
    if !counts(&sent, now) {
        set_phase(&mut step.charge, Phase::Unknown(sent), now);
        return Ok(());
    }
    let sent = Sent { misses: sent.misses + 1, last_at: now, ..sent };
    match miss(&sent, attempt.operation, now) {
        Miss::AskAgain => {
            set_phase(&mut step.charge, Phase::Unknown(sent), now);
            Ok(())
        }
        Miss::Review => {
            let why = format!(
                "attempt {} was answered with a server error and nothing has appeared since",
                attempt.number
            );
            review(step, Need::Decision, &why, now)
        }
        Miss::Void => {
            resume(&mut step.charge, now);
            Ok(())
        }
    }
}

/// The attempt is over without an effect: back to where it began. The next one gets a new number.
fn resume(charge: &mut Charge, now: Timestamp) {
    match &mut charge.state {
        State::Closing { attempt, at, .. } => {
            *attempt = None;
            *at = now;
        }
        State::Collecting { .. }
        | State::Due { .. }
        | State::PastDue { .. }
        | State::LinkOpen { .. }
        | State::Processing { .. }
        | State::NeedsReview { .. }
        | State::Missed
        | State::Paid { .. }
        | State::Uncollectible { .. }
        | State::Canceled { .. }
        | State::Settled { .. } => {
            charge.state = planned(charge, Next { at: now, action: Action::Collect });
        }
    }
}

fn rejected(step: &mut Step, why: &str, now: Timestamp) -> Result<(), Refused> {
    if let State::Closing { attempt, at, .. } = &mut step.charge.state {
        *attempt = None;
        *at = now;
        return Ok(());
    }
    review_answered(step, &format!("Stripe refused the request: {why}"), now)
}

/// Takes over what Stripe has. The ladder goes on as it was planned, where the bank has said no or says it later.
pub(super) fn adopt(
    step: &mut Step,
    found: &Collector,
    number: u32,
    is_pending: bool,
    now: Timestamp,
) -> Result<(), Refused> {
    let charge = &mut step.charge;
    let at_once = Next { at: now, action: Action::Collect };
    let ended = ended_as(&charge.state);
    let next = match &charge.state {
        State::Due { .. } | State::Collecting { attempt: Attempt { phase: Phase::Prepared { .. }, .. } } => {
            Some(at_once)
        }
        State::PastDue { next } => Some(*next),
        // Another database has begun to collect it.
        State::Missed | State::NeedsReview { attempt: None, end: None, .. } if is_pending => {
            Some(again(charge, now))
        }
        // A person goes on deciding.
        State::Missed | State::NeedsReview { attempt: None, .. } => None,
        _ if ended.is_some() => None,
        other => return Err(Refused::OutOfPlace(other.as_str())),
    };
    if found.kind == CollectorKind::PaymentIntent {
        let own = charge.attempts + u32::from(charge.open_attempt().is_none());
        charge.attempts = own.max(number);
    }
    // The number that the other database gave it may be that of a dead one here.
    let own = charge.generation + u32::from(!may_be(charge.collector.as_ref(), found));
    charge.generation = own.max(found.generation);
    charge.collector = Some(Collector { generation: charge.generation, ..found.clone() });
    if let Some(then) = ended {
        let name = found.stripe_id.as_deref().unwrap_or_default();
        let text = format!(
            "charge {} is {}, and whoever decided that did not know of {name}, which may still take its money: it is closed now",
            charge.id,
            charge.state.as_str()
        );
        step.effects.push(Effect::Alarm { step: "alive-after-end".into(), text });
        charge.state = State::Closing { attempt: None, then, at: now };
    }
    let Some(next) = next else { return Ok(()) };
    charge.state = match found.kind {
        CollectorKind::PaymentIntent => planned(charge, next),
        CollectorKind::CheckoutSession => State::LinkOpen { until: now, then: next },
    };
    if is_pending { pending(charge, now) } else { Ok(()) }
}

/// Whether what was found is the living collector, by its name or because that has none yet.
fn may_be(own: Option<&Collector>, found: &Collector) -> bool {
    own.is_some_and(|own| {
        own.kind == found.kind && (own.stripe_id.is_none() || own.stripe_id == found.stripe_id)
    })
}

pub(super) fn name_collector(charge: &mut Charge, id: &str) {
    if let Some(collector) = &mut charge.collector
        && collector.kind == CollectorKind::PaymentIntent
    {
        collector.stripe_id = Some(id.to_owned());
    }
}
