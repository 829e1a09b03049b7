//! What has changed, for a simulator that looks after every step.

use super::books::{ChargeRow, PaymentIntentRow, SessionRow};
use super::{Sandbox, charges, intent};

/// The rows that changed since the last look.
#[derive(Clone, Debug)]
pub struct Changes {
    /// Intents to take money.
    pub payment_intents: Vec<PaymentIntentRow>,
    /// Checkout Sessions.
    pub sessions: Vec<SessionRow>,
    /// Attempts that reached the card.
    pub charges: Vec<ChargeRow>,
}

impl Sandbox {
    /// Lets everything happen that is due, and says what has changed since this was last asked.
    #[must_use]
    pub fn take_changes(&self) -> Changes {
        let mut state = self.lock();
        state.pass_time();
        let intents = state.payment_intents.take_changed();
        let payment_intents = intents.into_iter().map(intent::PaymentIntent::row).collect();
        let sessions = state.sessions.take_changed();
        let sessions = sessions.into_iter().map(super::session::Session::row).collect();
        let charges = state.charges.take_changed().into_iter().map(charges::Charge::row).collect();
        Changes { payment_intents, sessions, charges }
    }

    /// When the next thing happens here by itself, Unix milliseconds.
    #[must_use]
    pub fn next_job_ms(&self) -> Option<i64> {
        self.lock().next_job_ms()
    }
}
