//! One charge: its states, and the two things that may take its money.
//!
//! ```text
//!            Begin                 Answered(declined)           StepDue(give up)
//!   Due ------------> Collecting ---------------------> PastDue ----------------> Closing --> Uncollectible
//!    ^                 |  |  ^                           |   ^                      ^  \-----> Canceled
//!    | not run         |  |  |  Begin (retry)            |   | LinkClosed           |
//!    +-----------------+  |  +---------------------------+   |                      | Cancel, from anywhere open
//!                         |                     OpenLink |   |                      |
//!                         v                              v   |
//!                     Processing                        LinkOpen
//!
//!   Paid is reached from every open state, by whoever learns of it first. NeedsReview waits for a person. From an end the only ways
//!   are to Paid, and back to Closing where a recovery finds that something of the charge still lives at Stripe.
//! ```

mod attempt;

use jiff::Timestamp;

pub use self::attempt::{Attempt, Operation, Phase, Sent};
use super::dunning::{Action, Dunning, Next};
use super::ids::{ChargeId, CustomerId, SubscriptionId};
use super::money::Money;

/// The one Stripe object that may take a charge's money now. A charge has at most one that lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Collector {
    /// Which one in the charge's history, from 1; part of the idempotency key.
    pub generation: u32,
    /// What it is.
    pub kind: CollectorKind,
    /// Stripe's id, once an answer told it.
    pub stripe_id: Option<String>,
}

/// Kinds of [`Collector`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CollectorKind {
    /// A PaymentIntent that the machine confirms off-session.
    PaymentIntent,
    /// A Checkout Session in payment mode that the customer may pay.
    CheckoutSession,
}

impl CollectorKind {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PaymentIntent => "payment_intent",
            Self::CheckoutSession => "checkout_session",
        }
    }

    /// Reads the word in the database.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::PaymentIntent, Self::CheckoutSession].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// How a charge ends when it is not paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The operator or the customer canceled it.
    Canceled,
    /// The ladder ended unpaid.
    Uncollectible,
    /// Paid by other means, says the operator.
    PaidOutside,
}

impl End {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Canceled => "canceled",
            Self::Uncollectible => "uncollectible",
            Self::PaidOutside => "paid_outside",
        }
    }

    /// Reads the word in the database.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Canceled, Self::Uncollectible, Self::PaidOutside].into_iter().find(|end| end.as_str() == word)
    }
}

/// What a charge that waits for a person waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// A decision.
    Decision,
    /// An address: no mail reached the customer. With a corrected one the charge goes on by itself.
    Address,
}

impl Need {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Address => "address",
        }
    }

    /// Reads the word in the database.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Decision, Self::Address].into_iter().find(|need| need.as_str() == word)
    }
}

/// Where a charge stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Waits for its first try.
    Due {
        /// Not before this instant.
        at: Timestamp,
    },
    /// An attempt is open: written down, on its way, or without an answer.
    Collecting {
        /// The open attempt.
        attempt: Attempt,
    },
    /// Declined; the ladder goes on.
    PastDue {
        /// What happens next.
        next: Next,
    },
    /// A Checkout Session is (or is being) opened for the customer; the machine waits.
    LinkOpen {
        /// When the Session expires and is read back.
        until: Timestamp,
        /// What was planned before, and goes on if the Session dies unpaid.
        then: Next,
    },
    /// Stripe took it and will know the result later.
    Processing {
        /// When to ask next.
        poll_at: Timestamp,
    },
    /// Will end without the machine, once its collector is proven dead.
    Closing {
        /// An attempt that was open when the end was decided.
        attempt: Option<Attempt>,
        /// The end.
        then: End,
        /// When to try next.
        at: Timestamp,
    },
    /// A person must look; the machine does nothing.
    NeedsReview {
        /// An attempt whose outcome could not be found out.
        attempt: Option<Attempt>,
        /// The end that had been decided. It is what follows once the attempt has its answer.
        end: Option<End>,
        /// What for.
        needs: Need,
        /// Since when.
        since: Timestamp,
        /// Why, in a sentence.
        why: String,
    },
    /// The period passed while nothing ran, and the plan does not catch up: a person decides.
    Missed,
    /// Collected.
    Paid {
        /// When Stripe took it (or when we learned of it).
        at: Timestamp,
        /// The PaymentIntent that counts. Another one that succeeds has taken the money again.
        payment_intent: String,
    },
    /// Given up.
    Uncollectible {
        /// When.
        at: Timestamp,
    },
    /// Will never be collected.
    Canceled {
        /// When.
        at: Timestamp,
    },
    /// Paid outside of Stripe, or needing no payment (an amount of zero).
    Settled {
        /// When.
        at: Timestamp,
    },
}

impl State {
    /// The word in the database, in tables and in JSON.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Due { .. } => "due",
            Self::Collecting { .. } => "collecting",
            Self::PastDue { .. } => "past_due",
            Self::LinkOpen { .. } => "link_open",
            Self::Processing { .. } => "processing",
            Self::Closing { .. } => "closing",
            Self::NeedsReview { .. } => "needs_review",
            Self::Missed => "missed",
            Self::Paid { .. } => "paid",
            Self::Uncollectible { .. } => "uncollectible",
            Self::Canceled { .. } => "canceled",
            Self::Settled { .. } => "settled",
        }
    }

    /// The PaymentIntent that paid.
    #[must_use]
    pub fn payment_intent(&self) -> Option<&str> {
        match self {
            Self::Paid { payment_intent, .. } => Some(payment_intent),
            _ => None,
        }
    }

    /// What a person is needed for.
    #[must_use]
    pub fn needs(&self) -> Option<Need> {
        match self {
            Self::NeedsReview { needs, .. } => Some(*needs),
            _ => None,
        }
    }

    /// Whether nothing can change the charge any more.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::Paid { .. } | Self::Uncollectible { .. } | Self::Canceled { .. } | Self::Settled { .. }
        )
    }
}

/// Which worker looks at a charge when it wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Send an attempt.
    Collect,
    /// Go a ladder step that needs no attempt.
    Dun,
    /// Ask Stripe for the truth.
    Reconcile,
}

impl Work {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Collect => "collect",
            Self::Dun => "dun",
            Self::Reconcile => "reconcile",
        }
    }
}

/// One amount one customer owes at one due date. (Stripe's `ch_` object is called "Stripe charge" here.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Ours.
    pub id: ChargeId,
    /// Who owes it.
    pub customer: CustomerId,
    /// The subscription and period it is for; `None` for a one-off.
    pub period: Option<(SubscriptionId, u32)>,
    /// The frozen amount.
    pub amount: Money,
    /// When it fell due.
    pub due_at: Timestamp,
    /// What the customer reads it is for.
    pub description: String,
    /// Generation of the newest collector; 0 before the first.
    pub generation: u32,
    /// Number of the newest attempt; 0 before the first.
    pub attempts: u32,
    /// The collector that lives, if one does.
    pub collector: Option<Collector>,
    /// The ladder, from the first decline on.
    pub dunning: Option<Dunning>,
    /// Where it stands.
    pub state: State,
    /// Rises with every change; guards every UPDATE.
    pub version: i64,
}

impl Charge {
    /// Who must look at this charge next, and when. `None`: nobody, until something happens.
    #[must_use]
    pub fn wake(&self) -> Option<(Work, Timestamp)> {
        match &self.state {
            State::Due { at } => Some((Work::Collect, *at)),
            State::PastDue { next } => Some((work_of(next.action), next.at)),
            State::Collecting { attempt } => Some(attempt.wake()),
            State::LinkOpen { until, .. } => Some((Work::Reconcile, *until)),
            State::Processing { poll_at } => Some((Work::Reconcile, *poll_at)),
            State::Closing { at, .. } => Some((Work::Reconcile, *at)),
            State::NeedsReview { .. }
            | State::Missed
            | State::Paid { .. }
            | State::Uncollectible { .. }
            | State::Canceled { .. }
            | State::Settled { .. } => None,
        }
    }

    /// The open attempt, in whatever state it is carried.
    #[must_use]
    pub fn open_attempt(&self) -> Option<Attempt> {
        match &self.state {
            State::Collecting { attempt } => Some(*attempt),
            State::Closing { attempt, .. } | State::NeedsReview { attempt, .. } => *attempt,
            State::Due { .. }
            | State::PastDue { .. }
            | State::LinkOpen { .. }
            | State::Processing { .. }
            | State::Missed
            | State::Paid { .. }
            | State::Uncollectible { .. }
            | State::Canceled { .. }
            | State::Settled { .. } => None,
        }
    }

    /// The end that was decided and has not come yet.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        let (State::Closing { then: end, .. } | State::NeedsReview { end: Some(end), .. }) = &self.state
        else {
            return None;
        };
        Some(*end)
    }

    /// Paid after at least one decline.
    #[must_use]
    pub fn is_recovered(&self) -> bool {
        matches!(self.state, State::Paid { .. }) && self.dunning.is_some()
    }
}

fn work_of(action: Action) -> Work {
    match action {
        Action::Collect => Work::Collect,
        Action::Remind | Action::GiveUp => Work::Dun,
    }
}
