//! Mails to customers and to the operator: what they say, and how they leave.
//!
//! A mail is written by [`letter::write`] from a [`MailContext`] and leaves through a [`Mailer`]: over SMTP, into
//! files, or into memory for tests. The answer to a mail is as carefully told apart as the answer to a charge:
//! accepted, try again, never, or unknown.
//!
//! ```text
//! MailContext --letter::write--> Letter --Mail::new--> Mail --Mailer::send--> Accepted | SendError
//! ```

pub mod address;
pub mod context;
mod error;
mod files;
pub mod format;
pub mod letter;
mod memory;
pub mod message;
pub mod preview;
mod smtp;
mod target;

use jiff::Timestamp;
use secrecy::SecretString;

pub use address::{HeaderError, HeaderText, Mailbox, MessageId};
pub use context::{Brand, Card, ChargeLine, Color, ContextError, Customer, Link};
pub use error::{Failure, MailError, SendError, Stage};
pub use letter::{
    AlarmContext, Ending, Letter, MailContext, MailName, Next, NextWhat, Reason, Tone, regional_locale,
    write, write_alarm,
};
pub use memory::{Fault, Memory};
pub use message::{ExtraHeader, Mail};

use crate::clock::Clock;
use target::Target;

/// Sends mails. Cheap to share behind an `Arc`; `send` may be called concurrently.
#[derive(Debug)]
pub struct Mailer {
    way: Way,
    clock: Clock,
}

#[derive(Debug)]
enum Way {
    Smtp(Box<smtp::Smtp>),
    Files(files::Files),
    Memory(Memory),
}

/// The other side took the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// When.
    pub at: Timestamp,
    /// What it said, such as the relay's queue id; mail addresses are left out.
    pub note: String,
}

impl Mailer {
    /// A mailer from its address:
    ///
    /// - `smtp://user:pass@host:587`: STARTTLS is required unless the host is loopback;
    ///   `?tls=required|opportunistic|none` says otherwise.
    /// - `smtps://user:pass@host:465`: TLS from the first byte.
    /// - `file:DIR`: a file for each mail.
    /// - `memory`: for tests, see [`Mailer::memory`].
    ///
    /// `?ca_file=PATH` trusts the certificates in that PEM file instead of the system's; `?helo=NAME` is the name
    /// recurd introduces itself with. `password` replaces one in the address. Nothing is connected yet.
    ///
    /// # Errors
    /// [`MailError`], which never contains the address or the password.
    pub fn from_url(url: &str, password: Option<SecretString>, clock: Clock) -> Result<Self, MailError> {
        let way = match target::parse(url, password)? {
            Target::Smtp(server) => Way::Smtp(Box::new(smtp::Smtp::new(server, clock.clone())?)),
            Target::Files(dir) => Way::Files(files::Files::new(dir)?),
            Target::Memory => Way::Memory(Memory::default()),
        };
        Ok(Self { way, clock })
    }

    /// A mailer that keeps the mails, with the hand to look at them and to make it fail.
    #[must_use]
    pub fn memory(clock: Clock) -> (Self, Memory) {
        let memory = Memory::default();
        (Self { way: Way::Memory(memory.clone()), clock }, memory)
    }

    /// Sends one mail. Sending it again sends the same bytes under the same Message-ID.
    ///
    /// # Errors
    /// [`SendError`] says whether to try again, to give up, or that nobody knows.
    pub async fn send(&self, mail: &Mail) -> Result<Accepted, SendError> {
        let message = mail.to_lettre().map_err(|error| error::unwritable(&error))?;
        let note = match &self.way {
            Way::Smtp(smtp) => smtp.send(&message).await?,
            Way::Files(files) => files.write(mail, message.formatted(), self.clock.now()).await?,
            Way::Memory(memory) => memory.take(mail)?,
        };
        Ok(Accepted { at: self.clock.now(), note })
    }

    /// Tries everything but a mail: connection, TLS and sign-in, or whether the directory takes a file.
    ///
    /// # Errors
    /// What [`Mailer::send`] would have met.
    pub async fn check(&self) -> Result<(), SendError> {
        match &self.way {
            Way::Smtp(smtp) => smtp.check().await,
            Way::Files(files) => files.check().await,
            Way::Memory(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
