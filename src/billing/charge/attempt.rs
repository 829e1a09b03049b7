//! The open attempt of a charge, and how far it came.

use jiff::Timestamp;

use super::Work;
use crate::billing::unknown::ask_at;

/// The open attempt of a charge: the only one, until its outcome is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// Its number within the charge, from 1. Rises only after a determinate answer.
    pub number: u32,
    /// What it asks of Stripe.
    pub operation: Operation,
    /// How far it came.
    pub phase: Phase,
}

impl Attempt {
    /// Who looks at it next, and when.
    pub(super) fn wake(&self) -> (Work, Timestamp) {
        match self.phase {
            Phase::Prepared { not_before } => (Work::Collect, not_before),
            Phase::Sending(sent) | Phase::Unknown(sent) => (Work::Reconcile, ask_at(&sent)),
        }
    }
}

/// What an attempt asks of Stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `POST /v1/payment_intents` with `confirm=true`.
    Create,
    /// `POST /v1/payment_intents/{id}/confirm`: the same PaymentIntent again, which can succeed only once.
    Confirm,
}

impl Operation {
    /// The word in the database and in the idempotency key.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Confirm => "confirm",
        }
    }

    /// Reads the word in the database.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Create, Self::Confirm].into_iter().find(|operation| operation.as_str() == word)
    }
}

/// How far an open attempt came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Written down; nothing has left. May be sent at `not_before`.
    Prepared {
        /// Wait until then (an outage or a rate limit).
        not_before: Timestamp,
    },
    /// Marked before the first byte left. Seen in this phase by anybody but its sender, it is an unknown.
    Sending(Sent),
    /// Sent, and the answer is not known.
    Unknown(Sent),
}

/// What is known of an attempt that may have reached Stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sent {
    /// When its key was first used. The key is never used again 20 hours later.
    pub first_at: Timestamp,
    /// When it was last sent or asked about.
    pub last_at: Timestamp,
    /// How often it was sent.
    pub sends: u32,
    /// How often Stripe was read and knew nothing of it.
    pub misses: u32,
    /// A 5xx was answered: the key replays that for ever, so it is never sent again.
    pub poisoned: bool,
}

impl Sent {
    /// A first sending.
    #[must_use]
    pub fn now(at: Timestamp) -> Self {
        Self { first_at: at, last_at: at, sends: 1, misses: 0, poisoned: false }
    }
}
