//! The customer's page, and what follows when a collector dies.

use jiff::Timestamp;

use super::decision::ended;
use super::{Effect, Policy, Refused, Step, later, planned};
use crate::billing::charge::{Charge, Collector, CollectorKind, Phase, State};
use crate::billing::dunning::{Action, LATE_REFUSAL, MailKind, Next};

pub(super) fn open_link(charge: &mut Charge, until: Timestamp, now: Timestamp) -> Result<(), Refused> {
    let then = match &charge.state {
        State::Due { at } => Next { at: *at, action: Action::Collect },
        State::PastDue { next } => *next,
        State::Missed => Next { at: now, action: Action::Collect },
        other => return Err(Refused::OutOfPlace(other.as_str())),
    };
    if charge.collector.is_some() {
        return Err(Refused::CollectorAlive);
    }
    charge.generation += 1;
    let kind = CollectorKind::CheckoutSession;
    charge.collector = Some(Collector { generation: charge.generation, kind, stripe_id: None });
    charge.state = State::LinkOpen { until, then };
    Ok(())
}

pub(super) fn link_opened(charge: &mut Charge, session: &str) -> Result<(), Refused> {
    let name = charge.state.as_str();
    match (&charge.state, &mut charge.collector) {
        (State::LinkOpen { .. } | State::Closing { .. }, Some(collector))
            if collector.kind == CollectorKind::CheckoutSession =>
        {
            collector.stripe_id = Some(session.to_owned());
            Ok(())
        }
        _ => Err(Refused::OutOfPlace(name)),
    }
}

pub(super) fn collector_dead(step: &mut Step, now: Timestamp) -> Result<(), Refused> {
    let charge = &mut step.charge;
    if charge.state.is_terminal() {
        return Err(Refused::TooLate(charge.state.as_str()));
    }
    let planned_before = waited_for(charge);
    charge.collector = None;
    if let State::Closing { attempt, .. } | State::NeedsReview { attempt, .. } = &mut charge.state {
        // What never left was written for the dead one, and will not be sent.
        attempt.take_if(|open| matches!(open.phase, Phase::Prepared { .. }));
    }
    charge.state = match &charge.state {
        State::Closing { attempt: None, then, .. }
        | State::NeedsReview { attempt: None, end: Some(then), .. } => ended(*then, now),
        State::LinkOpen { then, .. } => planned(charge, *then),
        State::Collecting { .. } | State::Processing { .. } => {
            let next = planned_before.map(|next| Next { at: next.at.max(now), ..next });
            planned(charge, next.unwrap_or_else(|| again(charge, now)))
        }
        kept @ (State::Closing { .. }
        | State::Due { .. }
        | State::PastDue { .. }
        | State::NeedsReview { .. }
        | State::Missed
        | State::Paid { .. }
        | State::Uncollectible { .. }
        | State::Canceled { .. }
        | State::Settled { .. }) => kept.clone(),
    };
    Ok(())
}

/// What the ladder had planned when a page began to wait for a bank. From now on it is no longer set aside.
fn waited_for(charge: &mut Charge) -> Option<Next> {
    let of_page = charge.collector.as_ref().is_some_and(|one| one.kind == CollectorKind::CheckoutSession);
    match (&charge.state, &mut charge.dunning) {
        (State::Processing { .. }, Some(case)) if of_page => case.aside.take(),
        _ => None,
    }
}

/// The customer hears that the bank refused, and the ladder goes on as planned. Who was to be given up meanwhile has the time
/// again that a last notice gives.
pub(super) fn page_refused(step: &mut Step, policy: &Policy<'_>, now: Timestamp) -> Result<(), Refused> {
    let charge = &mut step.charge;
    if !charge.collector.as_ref().is_some_and(|one| one.kind == CollectorKind::CheckoutSession) {
        return Err(Refused::OutOfPlace(charge.state.as_str()));
    }
    let planned = match (&charge.state, charge.dunning) {
        // Nobody looked while the bank was still working on it.
        (State::LinkOpen { then, .. }, Some(_)) => Some(*then),
        _ => waited_for(charge),
    };
    let Some(planned) = planned else { return collector_dead(step, now) };
    let at = match planned.action {
        Action::Collect | Action::Remind => now,
        Action::GiveUp => later(now, policy.rules.ladder.finally_after_secs),
    };
    if let Some(case) = &mut charge.dunning {
        case.late_refusals += 1;
    }
    charge.collector = None;
    charge.state = State::PastDue { next: Next { at: planned.at.max(at), ..planned } };
    let number = format!("{LATE_REFUSAL}{}", charge.generation);
    step.effects.push(Effect::Mail { step: number, kind: MailKind::PaymentFailed });
    Ok(())
}

/// Its collector came to nothing, or comes from elsewhere: the machine tries again at once, unless the last decline forbids that.
pub(super) fn again(charge: &Charge, now: Timestamp) -> Next {
    let allowed = charge.dunning.is_none_or(|dunning| dunning.class.allows_machine_retry());
    Next { at: now, action: if allowed { Action::Collect } else { Action::Remind } }
}
