//! Every change of a charge, as one pure function.
//!
//! Stripe's answer, a webhook, an operator's command and an expired lease all become an [`Event`]. Anything that
//! can arrive once can arrive twice, late, or never: what no longer fits the state is [`Refused`] and changes nothing.

mod attempt;
mod collector;
mod decision;
mod verdict;

use jiff::Timestamp;

use self::attempt::{adopt, answered, begin, sending};
use self::collector::{collector_dead, link_opened, open_link, page_refused};
use self::decision::{collect_now, not_yet, reached, review, step_due, stop, take_ladder, unreached};
use self::verdict::{declined_late, paid, pending};
use super::charge::{Charge, Collector, End, Need, State};
use super::decline::Decline;
use super::dunning::{MailKind, Next, Rules};
use super::ids::CustomerId;
use super::ladder::Finally;
use super::money::Money;
use super::network_rules::Try;

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
    /// Stripe already has a collector of this charge that the database did not know.
    Adopt {
        /// As its metadata name it.
        collector: Collector,
        /// The number of the attempt that made it; 0 for a page.
        attempt: u32,
        /// Whether its bank has not answered yet.
        is_pending: bool,
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
    /// The bank refused, days later, what the customer paid on the page. Nobody can pay on it again.
    PageRefused,
    /// A ladder step that needs no attempt is due.
    StepDue,
    /// An operator's or customer's decision that ends the charge without the machine.
    Stop(End),
    /// An operator wants it collected now.
    CollectNow,
    /// An operator moves the case onto the ladder of the policy. What is planned already stays planned.
    TakeLadder,
    /// The card networks allow no try by machine before this instant (`None`: never again on this card), the customer has been
    /// promised time until then before the charge is given up, or what a lost database may have asked for is in doubt until then.
    NotYet {
        /// From when on.
        allowed: Option<Timestamp>,
    },
    /// A person must look.
    Review(String),
    /// What the customer must know first did not reach them by mail: a person must look.
    Unreached(String),
    /// The customer can be reached by mail again: what waits for a person for nothing else goes on.
    Reached,
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
    /// The ladder and who chooses the instants of its retries.
    pub rules: Rules<'a>,
    /// The tries of this card within the networks' longest window, this one included.
    pub history: &'a [Try],
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
/// How long a charge rests whose customer can be reached again: its mail leaves before.
const REACHED_PAUSE_SECS: u64 = 3600;
/// How long a try that the networks forbid for ever is waited for before the ladder goes on without it.
const FORBIDDEN_PAUSE_SECS: u64 = 24 * 3600;

/// Applies one event. What each does stands in a file by who speaks: the open attempt, Stripe and the issuer, the
/// collector, and the ladder or a person.
///
/// # Errors
/// [`Refused`] when the event no longer fits: the caller drops it, nothing has changed.
pub fn apply(charge: &Charge, event: &Event, policy: &Policy<'_>, now: Timestamp) -> Result<Step, Refused> {
    let mut step = Step { charge: charge.clone(), effects: Vec::new() };
    match event {
        Event::Begin => begin(&mut step.charge, now)?,
        Event::Sending => sending(&mut step.charge, now)?,
        Event::Answered { attempt, outcome } => answered(&mut step, *attempt, outcome, policy, now)?,
        Event::Adopt { collector, attempt, is_pending } => {
            adopt(&mut step, collector, *attempt, *is_pending, now)?;
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
        Event::PageRefused => page_refused(&mut step, policy, now)?,
        Event::StepDue => step_due(&mut step, policy, now)?,
        Event::Stop(end) => stop(&mut step.charge, *end, now)?,
        Event::CollectNow => collect_now(&mut step.charge, now)?,
        Event::TakeLadder => take_ladder(&mut step.charge, policy)?,
        Event::NotYet { allowed } => not_yet(&mut step.charge, *allowed, now)?,
        Event::Review(why) => review(&mut step, Need::Decision, why, now)?,
        Event::Unreached(why) => unreached(&mut step, why, now)?,
        Event::Reached => reached(&mut step.charge, now)?,
    }
    step.charge.version += 1;
    Ok(step)
}

/// A charge that was never declined is due; one that was goes on where its ladder stood.
fn planned(charge: &Charge, next: Next) -> State {
    if charge.dunning.is_some() { State::PastDue { next } } else { State::Due { at: next.at } }
}

fn later(now: Timestamp, secs: u64) -> Timestamp {
    now.checked_add(std::time::Duration::from_secs(secs)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
