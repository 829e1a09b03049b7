//! What the ladder and people decide.

use jiff::Timestamp;

use super::verdict::climb;
use super::{Effect, FORBIDDEN_PAUSE_SECS, Policy, REACHED_PAUSE_SECS, Refused, Step, later, planned};
use crate::billing::charge::{Attempt, Charge, CollectorKind, End, Need, Phase, State};
use crate::billing::dunning::{Action, MailKind, Next, on_remind};

pub(super) fn step_due(step: &mut Step, policy: &Policy<'_>, now: Timestamp) -> Result<(), Refused> {
    let charge = &mut step.charge;
    let name = charge.state.as_str();
    let (State::PastDue { next }, Some(dunning)) = (&charge.state, charge.dunning) else {
        return Err(Refused::OutOfPlace(name));
    };
    match next.action {
        Action::Collect => Err(Refused::OutOfPlace(name)),
        Action::Remind => {
            let last = policy.last_decline.map(|decline| (decline, policy.history));
            climb(step, on_remind(dunning, last, &policy.rules, now));
            Ok(())
        }
        Action::GiveUp if charge.collector.is_some() => Err(Refused::CollectorAlive),
        Action::GiveUp => {
            charge.state = ended(End::Uncollectible, now);
            step.effects.push(Effect::EndSubscription(policy.rules.ladder.finally));
            step.effects.push(Effect::Mail { step: "ended".into(), kind: MailKind::SubscriptionEnded });
            Ok(())
        }
    }
}

pub(super) fn stop(charge: &mut Charge, end: End, now: Timestamp) -> Result<(), Refused> {
    if charge.state.is_terminal() {
        return Err(Refused::TooLate(charge.state.as_str()));
    }
    let attempt = charge.open_attempt();
    let unsent = attempt.is_none_or(|attempt| matches!(attempt.phase, Phase::Prepared { .. }));
    // A collector without a name may be alive: a Session whose request has no answer, a payment on its way.
    let living = match charge.state {
        State::LinkOpen { .. }
        | State::Processing { .. }
        | State::Closing { .. }
        | State::NeedsReview { .. } => charge.collector.is_some(),
        State::Due { .. }
        | State::Collecting { .. }
        | State::PastDue { .. }
        | State::Missed
        | State::Paid { .. }
        | State::Uncollectible { .. }
        | State::Canceled { .. }
        | State::Settled { .. } => charge
            .collector
            .as_ref()
            .is_some_and(|one| one.stripe_id.is_some() || one.kind == CollectorKind::CheckoutSession),
    };
    if unsent && !living {
        charge.collector = None;
        charge.state = ended(end, now);
    } else {
        charge.state = State::Closing { attempt, then: end, at: now };
    }
    Ok(())
}

pub(super) fn ended(end: End, at: Timestamp) -> State {
    match end {
        End::Canceled => State::Canceled { at },
        End::Uncollectible => State::Uncollectible { at },
        End::PaidOutside => State::Settled { at },
    }
}

pub(super) fn ended_as(state: &State) -> Option<End> {
    match state {
        State::Canceled { .. } => Some(End::Canceled),
        State::Uncollectible { .. } => Some(End::Uncollectible),
        State::Settled { .. } => Some(End::PaidOutside),
        _ => None,
    }
}

pub(super) fn collect_now(charge: &mut Charge, now: Timestamp) -> Result<(), Refused> {
    if let (State::PastDue { next }, Some(case)) = (&charge.state, &mut charge.dunning)
        && next.at > now
    {
        case.aside.get_or_insert(*next);
    }
    charge.state = match &charge.state {
        State::Due { .. } | State::Missed | State::PastDue { .. } => {
            planned(charge, Next { at: now, action: Action::Collect })
        }
        State::NeedsReview { attempt: Some(attempt), .. } => State::Collecting { attempt: *attempt },
        State::NeedsReview { attempt: None, .. } => {
            planned(charge, Next { at: now, action: Action::Collect })
        }
        other @ (State::Collecting { .. }
        | State::LinkOpen { .. }
        | State::Processing { .. }
        | State::Closing { .. }
        | State::Paid { .. }
        | State::Uncollectible { .. }
        | State::Canceled { .. }
        | State::Settled { .. }) => return Err(Refused::OutOfPlace(other.as_str())),
    };
    Ok(())
}

/// A case that has gone further than the new ladder is long would end without a last notice: it keeps its own.
pub(super) fn take_ladder(charge: &mut Charge, policy: &Policy<'_>) -> Result<(), Refused> {
    let name = charge.state.as_str();
    match (&charge.state, &mut charge.dunning) {
        (State::PastDue { .. } | State::LinkOpen { .. }, Some(case))
            if case.ladder != policy.rules.id && policy.rules.ladder.step(case.step).is_some() =>
        {
            case.ladder = policy.rules.id;
            Ok(())
        }
        _ => Err(Refused::OutOfPlace(name)),
    }
}

/// Who looks at the charge sees when it is really tried again, or given up.
pub(super) fn not_yet(
    charge: &mut Charge,
    allowed: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Refused> {
    let name = charge.state.as_str();
    match (&mut charge.state, allowed) {
        (State::PastDue { next: next @ Next { action: Action::Collect | Action::GiveUp, .. } }, Some(at)) => {
            next.at = at;
        }
        (State::Due { at: due_at }, Some(at)) => *due_at = at,
        (State::Collecting { attempt: Attempt { phase: Phase::Prepared { not_before }, .. } }, Some(at)) => {
            *not_before = at;
        }
        (
            State::PastDue { next: Next { action: Action::Collect, .. } }
            | State::Collecting { attempt: Attempt { phase: Phase::Prepared { .. }, .. } },
            None,
        ) if charge.dunning.is_some() => {
            let planned = charge.dunning.as_mut().and_then(|case| case.aside.take());
            let reminds = Next { at: later(now, FORBIDDEN_PAUSE_SECS), action: Action::Remind };
            charge.state = State::PastDue { next: planned.unwrap_or(reminds) };
        }
        // Written down, but it never left: the charge is as it was before, and is looked at anew.
        (State::Collecting { attempt: Attempt { phase: Phase::Prepared { .. }, .. } }, None) => {
            charge.state = State::Due { at: now };
        }
        _ => return Err(Refused::OutOfPlace(name)),
    }
    Ok(())
}

pub(super) fn review(step: &mut Step, needs: Need, why: &str, now: Timestamp) -> Result<(), Refused> {
    let charge = &mut step.charge;
    if charge.state.is_terminal() {
        return Err(Refused::TooLate(charge.state.as_str()));
    }
    let (attempt, end) = (charge.open_attempt(), charge.end());
    let text = format!("charge {} needs a person: {why}", charge.id);
    step.effects.push(Effect::Alarm { step: format!("review-{}", charge.version + 1), text });
    charge.state = State::NeedsReview { attempt, end, needs, since: now, why: why.to_owned() };
    Ok(())
}

/// Only what would go on now, had the mail arrived, waits for nothing but an address.
pub(super) fn unreached(step: &mut Step, why: &str, now: Timestamp) -> Result<(), Refused> {
    match &step.charge.state {
        State::Due { .. } | State::PastDue { .. } => review(step, Need::Address, why, now),
        other => Err(Refused::OutOfPlace(other.as_str())),
    }
}

/// What could not go on because no mail arrived goes on with the mail: the ladder to its end, a first try to its notice.
pub(super) fn reached(charge: &mut Charge, now: Timestamp) -> Result<(), Refused> {
    match &charge.state {
        State::NeedsReview { attempt: None, end: None, needs: Need::Address, .. } => {
            let at = later(now, REACHED_PAUSE_SECS);
            charge.state = planned(charge, Next { at: at.max(charge.due_at), action: Action::GiveUp });
            Ok(())
        }
        other => Err(Refused::OutOfPlace(other.as_str())),
    }
}

/// As [`review`] for a decision, but the open attempt has its answer.
pub(super) fn review_answered(step: &mut Step, why: &str, now: Timestamp) -> Result<(), Refused> {
    review(step, Need::Decision, why, now)?;
    if let State::NeedsReview { attempt, .. } = &mut step.charge.state {
        *attempt = None;
    }
    Ok(())
}
