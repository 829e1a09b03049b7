//! Mails kept in memory, for tests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{SendError, Stage, judge};
use super::message::Mail;

/// How a mail in memory can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `451`: not now.
    Temporary,
    /// `550 5.1.1`: no such mailbox.
    Permanent,
    /// The answer is lost; the mail arrived or did not.
    Unknown {
        /// Whether it arrived.
        arrived: bool,
    },
}

/// The hand on a mailer in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    mails: Vec<Mail>,
    next: VecDeque<Fault>,
    always: Option<Fault>,
}

impl Memory {
    /// Every mail that arrived, in order.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        self.state().mails.clone()
    }

    /// Takes the mails out.
    #[must_use]
    pub fn drain(&self) -> Vec<Mail> {
        std::mem::take(&mut self.state().mails)
    }

    /// The next mail fails like this; several calls line up.
    pub fn fail_next(&self, fault: Fault) {
        self.state().next.push_back(fault);
    }

    /// Every mail fails like this until it is called with `None`.
    pub fn fail_always(&self, fault: Option<Fault>) {
        self.state().always = fault;
    }

    pub(super) fn take(&self, mail: &Mail) -> Result<String, SendError> {
        let mut state = self.state();
        let fault = state.next.pop_front().or(state.always);
        if matches!(fault, None | Some(Fault::Unknown { arrived: true })) {
            state.mails.push(mail.clone());
        }
        match fault {
            None => Ok(format!("kept as mail {}", state.mails.len())),
            Some(Fault::Temporary) => Err(judge(Stage::Recipient, Some(451), "4.7.1 try again later")),
            Some(Fault::Permanent) => Err(judge(Stage::Recipient, Some(550), "5.1.1 no such mailbox")),
            Some(Fault::Unknown { .. }) => Err(judge(Stage::Body, None, "the connection broke")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
