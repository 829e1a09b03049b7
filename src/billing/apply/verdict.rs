//! What Stripe and the issuers decided: paid, declined, or not yet.

use jiff::Timestamp;

use super::attempt::name_collector;
use super::decision::{ended, review_answered};
use super::{Effect, PROCESSING_POLL_SECS, Policy, Receipt, Refused, Step, later};
use crate::billing::charge::{Charge, State};
use crate::billing::decline::{Class, Decline};
use crate::billing::dunning::{Action, MailKind, Next, Rung, on_decline};

pub(super) fn paid(step: &mut Step, receipt: &Receipt) -> Result<(), Refused> {
    let charge = &mut step.charge;
    if let State::Paid { .. } = charge.state {
        return Err(Refused::TooLate("paid"));
    }
    if receipt.amount != charge.amount || receipt.customer != charge.customer {
        let why =
            format!("{} took {}, but {} is owed", receipt.payment_intent, receipt.amount, charge.amount);
        if charge.state.is_terminal() {
            let text = format!("charge {} is {}: {why}", charge.id, charge.state.as_str());
            step.effects.push(Effect::Alarm { step: "paid-after-end".into(), text });
            return Ok(());
        }
        return review_answered(step, &why, receipt.at);
    }
    if charge.state.is_terminal() || charge.end().is_some() {
        let was = match charge.end() {
            Some(end) => format!("to become {}", ended(end, receipt.at).as_str()),
            None => charge.state.as_str().to_owned(),
        };
        let text = format!("{} was collected although the charge was {was}", receipt.payment_intent);
        step.effects.push(Effect::Alarm { step: "paid-after-end".into(), text });
    }
    if charge.dunning.is_some() {
        step.effects.push(Effect::Mail { step: "recovered".into(), kind: MailKind::Recovered });
    }
    if let Some(payment_method) = &receipt.new_card {
        step.effects.push(Effect::AdoptCard { payment_method: payment_method.clone() });
    }
    charge.collector = None;
    charge.state = State::Paid { at: receipt.at, payment_intent: receipt.payment_intent.clone() };
    Ok(())
}

pub(super) fn declined(
    step: &mut Step,
    decline: &Decline,
    policy: &Policy<'_>,
    now: Timestamp,
) -> Result<(), Refused> {
    if let Some(id) = &decline.payment_intent {
        name_collector(&mut step.charge, id);
    }
    if let State::Closing { attempt, at, .. } = &mut step.charge.state {
        *attempt = None;
        *at = now;
        return Ok(());
    }
    if decline.class() == Class::Configuration {
        let why = format!("Stripe refused it for a reason that is ours to mend: {}", decline.reason());
        return review_answered(step, &why, now);
    }
    let rung = on_decline(step.charge.dunning, decline, &policy.rules, policy.history, now);
    if decline.stops_series() {
        step.effects.push(Effect::StopSeries);
    }
    climb(step, rung);
    Ok(())
}

pub(super) fn declined_late(
    step: &mut Step,
    decline: &Decline,
    policy: &Policy<'_>,
    now: Timestamp,
) -> Result<(), Refused> {
    match &step.charge.state {
        State::Processing { .. }
        | State::Due { .. }
        | State::PastDue { next: Next { action: Action::Collect, .. } } => {
            declined(step, decline, policy, now)
        }
        other => Err(Refused::OutOfPlace(other.as_str())),
    }
}

pub(super) fn climb(step: &mut Step, rung: Rung) {
    for (number, kind) in rung.mails {
        step.effects.push(Effect::Mail { step: format!("ladder-{number}"), kind });
    }
    step.charge.dunning = Some(rung.dunning);
    step.charge.state = State::PastDue { next: rung.next };
}

pub(super) fn pending(charge: &mut Charge, now: Timestamp) -> Result<(), Refused> {
    if charge.state.is_terminal() {
        return Err(Refused::TooLate(charge.state.as_str()));
    }
    if let State::Closing { attempt, at, .. } = &mut charge.state {
        // The end was decided: it waits for the result, and no decline starts the ladder again.
        *attempt = None;
        *at = later(now, PROCESSING_POLL_SECS);
        return Ok(());
    }
    if let (State::LinkOpen { then, .. }, Some(case)) = (&charge.state, &mut charge.dunning) {
        // If the bank says no days later, the ladder goes on as it was planned.
        case.aside.get_or_insert(*then);
    }
    charge.state = State::Processing { poll_at: later(now, PROCESSING_POLL_SECS) };
    Ok(())
}
