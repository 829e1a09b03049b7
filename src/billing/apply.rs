//! Every change of a charge, as one pure function.
//!
//! Stripe's answer, a webhook, an operator's command and an expired lease all become an [`Event`]. Anything that
//! can arrive once can arrive twice, late, or never: what no longer fits the state is [`Refused`] and changes nothing.

use jiff::Timestamp;

use super::charge::{Attempt, Charge, Collector, CollectorKind, End, Operation, Phase, Sent, State};
use super::decline::{Class, Decline};
use super::dunning::{Action, DunningPolicy, Finally, MailKind, Next, Rung, on_decline, on_remind};
use super::ids::CustomerId;
use super::money::Money;
use super::unknown::{Miss, ask_at, counts, miss};

/// Something that happened to a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker holds the lease and wants to collect: write the attempt down.
    Begin,
    /// The first byte is about to leave.
    Sending,
    /// What came of the open attempt.
    Answered {
        /// The attempt's number.
        attempt: u32,
        /// What came of it.
        outcome: Outcome,
    },
    /// Stripe already has a PaymentIntent of this charge that the database did not know.
    Adopt {
        /// Its id.
        payment_intent: String,
        /// The generation in its metadata.
        generation: u32,
        /// The attempt number in its metadata.
        attempt: u32,
    },
    /// Stripe says it is paid: a webhook, a reading, or the return page.
    Paid(Receipt),
    /// A decline that belongs to no open attempt: a pending payment failed in the end, or there is no card to try.
    Declined(Decline),
    /// Stripe will know later (Indian mandates, delayed methods).
    Pending,
    /// The customer asked for the link: a Session is about to be opened.
    OpenLink {
        /// When the Session will expire.
        until: Timestamp,
    },
    /// Stripe answered with the Session.
    LinkOpened {
        /// Its id.
        session: String,
    },
    /// Stripe was asked and the living collector is dead: canceled, expired, or never made.
    CollectorDead,
    /// A ladder step that needs no attempt is due.
    StepDue,
    /// An operator's or customer's decision that ends the charge without the machine.
    Stop(End),
    /// An operator wants it collected now.
    CollectNow,
    /// A person must look.
    Review(String),
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The money was taken.
    Paid(Receipt),
    /// An issuer (or Stripe for it) said no.
    Declined(Decline),
    /// Stripe accepted it and will know later.
    Processing {
        /// The PaymentIntent.
        payment_intent: String,
    },
    /// Provably nothing ran: no connection, a rate limit, a refused key.
    NotRun {
        /// Try again not before this instant.
        not_before: Timestamp,
    },
    /// Nobody knows.
    Unknown {
        /// The answer was a 5xx, which the key will replay for ever.
        poisoned: bool,
    },
    /// Stripe was read and knows nothing of this attempt.
    Missing,
    /// Stripe refused the request itself: our fault, no customer hears of it.
    Rejected(String),
    /// The PaymentIntent can no longer be paid.
    CollectorDead,
}

/// Money that Stripe took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The PaymentIntent that succeeded.
    pub payment_intent: String,
    /// The Checkout Session it was paid in, if it was.
    pub session: Option<String>,
    /// What was taken.
    pub amount: Money,
    /// Whose it was.
    pub customer: CustomerId,
    /// The card, when the customer paid on a page: it becomes the default.
    pub new_card: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// A promise to act, written in the same transaction as the change that caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A mail to the customer; `step` makes it unique within the charge.
    Mail {
        /// Unique within the charge.
        step: String,
        /// Which mail.
        kind: MailKind,
    },
    /// Tell the operator.
    Alarm {
        /// Unique within the charge.
        step: String,
        /// One sentence.
        text: String,
    },
    /// The ladder ended: what becomes of the subscription.
    EndSubscription(Finally),
    /// The cardholder withdrew the permission: no more charges by machine on this subscription.
    StopSeries,
    /// The card the customer paid with becomes the default.
    AdoptCard {
        /// Stripe's PaymentMethod.
        payment_method: String,
    },
}

/// The charge after an event, and what must be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The changed charge; the version has risen by one.
    pub charge: Charge,
    /// Promises to store with it.
    pub effects: Vec<Effect>,
}

/// The rules and the past that a decision needs.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The ladder the charge's plan was sold with.
    pub dunning: &'a DunningPolicy,
    /// Instants of the tries on this card and amount within the networks' window, this one included.
    pub history: &'a [Timestamp],
    /// The newest decline of this charge, for steps that follow it.
    pub last_decline: Option<&'a Decline>,
}

/// Why an event changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It came too late, or twice.
    #[error("the charge is {0} already")]
    TooLate(&'static str),
    /// Another collector lives: it must be proven dead first.
    #[error("another collector may still take this money")]
    CollectorAlive,
    /// The event does not belong to this state.
    #[error("not possible while the charge is {0}")]
    OutOfPlace(&'static str),
}

/// How long after `Pending` Stripe is asked again.
const PROCESSING_POLL_SECS: u64 = 6 * 3600;
/// How long to wait after a collector could not be closed.
const CLOSING_PAUSE_SECS: u64 = 60;

/// Applies one event.
///
/// # Errors
/// [`Refused`] when the event no longer fits: the caller drops it, nothing has changed.
pub fn apply(charge: &Charge, event: &Event, policy: &Policy<'_>, now: Timestamp) -> Result<Step, Refused> {
    let mut step = Step { charge: charge.clone(), effects: Vec::new() };
    match event {
        Event::Begin => begin(&mut step.charge, now)?,
        Event::Sending => sending(&mut step.charge, now)?,
        Event::Answered { attempt, outcome } => answered(&mut step, *attempt, outcome, policy, now)?,
        Event::Adopt { payment_intent, generation, attempt } => {
            adopt(&mut step.charge, payment_intent, *generation, *attempt, now)?;
        }
        Event::Paid(receipt) => paid(&mut step, receipt)?,
        Event::Declined(decline) => declined_late(&mut step, decline, policy, now)?,
        // Without a collector there is nothing to ask how it went, and what waits for a person goes on waiting.
        Event::Pending if charge.collector.is_none() || matches!(charge.state, State::NeedsReview { .. }) => {
            return Err(Refused::OutOfPlace(charge.state.as_str()));
        }
        Event::Pending => pending(&mut step.charge, now)?,
        Event::OpenLink { until } => open_link(&mut step.charge, *until, now)?,
        Event::LinkOpened { session } => link_opened(&mut step.charge, session)?,
        Event::CollectorDead => collector_dead(&mut step, now)?,
        Event::StepDue => step_due(&mut step, policy, now)?,
        Event::Stop(end) => stop(&mut step.charge, *end, now)?,
        Event::CollectNow => collect_now(&mut step.charge, now)?,
        Event::Review(why) => review(&mut step, why, now)?,
    }
    step.charge.version += 1;
    Ok(step)
}

fn begin(charge: &mut Charge, now: Timestamp) -> Result<(), Refused> {
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

fn sending(charge: &mut Charge, now: Timestamp) -> Result<(), Refused> {
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

fn answered(
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

fn declined(step: &mut Step, decline: &Decline, policy: &Policy<'_>, now: Timestamp) -> Result<(), Refused> {
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
    let rung = on_decline(step.charge.dunning, decline, policy.dunning, policy.history, now);
    if decline.stops_series() {
        step.effects.push(Effect::StopSeries);
    }
    climb(step, rung);
    Ok(())
}

fn declined_late(
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

fn climb(step: &mut Step, rung: Rung) {
    for (number, kind) in rung.mails {
        step.effects.push(Effect::Mail { step: format!("ladder-{number}"), kind });
    }
    step.charge.dunning = Some(rung.dunning);
    step.charge.state = State::PastDue { next: rung.next };
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
    match miss(&sent, now) {
        Miss::AskAgain => {
            set_phase(&mut step.charge, Phase::Unknown(sent), now);
            Ok(())
        }
        Miss::Review => {
            let why = format!(
                "attempt {} was answered with a server error and nothing has appeared since",
                attempt.number
            );
            review(step, &why, now)
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

fn adopt(charge: &mut Charge, id: &str, generation: u32, number: u32, now: Timestamp) -> Result<(), Refused> {
    let name = charge.state.as_str();
    let State::Collecting { .. } = charge.state else { return Err(Refused::OutOfPlace(name)) };
    charge.generation = charge.generation.max(generation);
    charge.attempts = charge.attempts.max(number);
    let kind = CollectorKind::PaymentIntent;
    charge.collector =
        Some(Collector { generation: charge.generation, kind, stripe_id: Some(id.to_owned()) });
    resume(charge, now);
    Ok(())
}

fn paid(step: &mut Step, receipt: &Receipt) -> Result<(), Refused> {
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
    if charge.state.is_terminal() || matches!(charge.state, State::Closing { .. }) {
        let text = format!(
            "{} was collected although the charge was {}",
            receipt.payment_intent,
            charge.state.as_str()
        );
        step.effects.push(Effect::Alarm { step: "paid-after-end".into(), text });
    }
    if charge.dunning.is_some() {
        step.effects.push(Effect::Mail { step: "recovered".into(), kind: MailKind::Recovered });
    }
    if let Some(payment_method) = &receipt.new_card {
        step.effects.push(Effect::AdoptCard { payment_method: payment_method.clone() });
    }
    charge.collector = None;
    charge.state = State::Paid { at: receipt.at };
    Ok(())
}

fn pending(charge: &mut Charge, now: Timestamp) -> Result<(), Refused> {
    if charge.state.is_terminal() {
        return Err(Refused::TooLate(charge.state.as_str()));
    }
    if let State::Closing { attempt, at, .. } = &mut charge.state {
        // The end was decided: it waits for the result, and no decline starts the ladder again.
        *attempt = None;
        *at = later(now, PROCESSING_POLL_SECS);
        return Ok(());
    }
    charge.state = State::Processing { poll_at: later(now, PROCESSING_POLL_SECS) };
    Ok(())
}

fn open_link(charge: &mut Charge, until: Timestamp, now: Timestamp) -> Result<(), Refused> {
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

fn link_opened(charge: &mut Charge, session: &str) -> Result<(), Refused> {
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

fn collector_dead(step: &mut Step, now: Timestamp) -> Result<(), Refused> {
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
        State::Closing { attempt: None, then, .. } => ended(*then, now),
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

/// A charge that was never declined is due; one that was goes on where its ladder stood.
fn planned(charge: &Charge, next: Next) -> State {
    if charge.dunning.is_some() { State::PastDue { next } } else { State::Due { at: next.at } }
}

fn ended(end: End, at: Timestamp) -> State {
    match end {
        End::Canceled => State::Canceled { at },
        End::Uncollectible => State::Uncollectible { at },
        End::PaidOutside => State::Settled { at },
    }
}

fn step_due(step: &mut Step, policy: &Policy<'_>, now: Timestamp) -> Result<(), Refused> {
    let charge = &mut step.charge;
    let name = charge.state.as_str();
    let (State::PastDue { next }, Some(dunning)) = (&charge.state, charge.dunning) else {
        return Err(Refused::OutOfPlace(name));
    };
    match next.action {
        Action::Collect => Err(Refused::OutOfPlace(name)),
        Action::Remind => {
            let last = policy.last_decline.map(|decline| (decline, policy.history));
            climb(step, on_remind(dunning, last, policy.dunning, now));
            Ok(())
        }
        Action::GiveUp if charge.collector.is_some() => Err(Refused::CollectorAlive),
        Action::GiveUp => {
            charge.state = ended(End::Uncollectible, now);
            step.effects.push(Effect::EndSubscription(policy.dunning.finally));
            step.effects.push(Effect::Mail { step: "ended".into(), kind: MailKind::SubscriptionEnded });
            Ok(())
        }
    }
}

fn stop(charge: &mut Charge, end: End, now: Timestamp) -> Result<(), Refused> {
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

fn collect_now(charge: &mut Charge, now: Timestamp) -> Result<(), Refused> {
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

fn review(step: &mut Step, why: &str, now: Timestamp) -> Result<(), Refused> {
    let charge = &mut step.charge;
    if charge.state.is_terminal() {
        return Err(Refused::TooLate(charge.state.as_str()));
    }
    let attempt = charge.open_attempt();
    let text = format!("charge {} needs a person: {why}", charge.id);
    step.effects.push(Effect::Alarm { step: format!("review-{}", charge.version + 1), text });
    charge.state = State::NeedsReview { attempt, since: now, why: why.to_owned() };
    Ok(())
}

/// As [`review`], but the open attempt has its answer.
fn review_answered(step: &mut Step, why: &str, now: Timestamp) -> Result<(), Refused> {
    review(step, why, now)?;
    if let State::NeedsReview { attempt, .. } = &mut step.charge.state {
        *attempt = None;
    }
    Ok(())
}

fn name_collector(charge: &mut Charge, id: &str) {
    if let Some(collector) = &mut charge.collector
        && collector.kind == CollectorKind::PaymentIntent
    {
        collector.stripe_id = Some(id.to_owned());
    }
}

fn later(now: Timestamp, secs: u64) -> Timestamp {
    now.checked_add(std::time::Duration::from_secs(secs)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
