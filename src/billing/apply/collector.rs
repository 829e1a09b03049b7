//! The customer's page, and what follows when a collector dies.

use jiff::Timestamp;

use super::decision::ended;
use super::{Refused, Step, planned};
use crate::billing::charge::{Charge, Collector, CollectorKind, Phase, State};
use crate::billing::dunning::{Action, Next};

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
    charge.collector = None;
    if let State::Closing { attempt, .. } | State::NeedsReview { attempt, .. } = &mut charge.state {
        // What never left was written for the dead one, and will not be sent.
        attempt.take_if(|open| matches!(open.phase, Phase::Prepared { .. }));
    }
    charge.state = match &charge.state {
        State::Closing { attempt: None, then, .. }
        | State::NeedsReview { attempt: None, end: Some(then), .. } => ended(*then, now),
        State::LinkOpen { then, .. } => planned(charge, *then),
        State::Collecting { .. } | State::Processing { .. } => planned(charge, again(charge, now)),
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

/// Its collector died without an answer: the machine tries again at once, unless the last decline forbids that.
fn again(charge: &Charge, now: Timestamp) -> Next {
    let allowed = charge.dunning.is_none_or(|dunning| dunning.class.allows_machine_retry());
    Next { at: now, action: if allowed { Action::Collect } else { Action::Remind } }
}
