//! Why a mail did not leave, in the three classes a caller must tell apart.

use std::fmt;
use std::path::PathBuf;

use crate::template::clean;

/// Limit: a server's explanation beyond this helps nobody.
const TEXT_CHARS_MAX: usize = 300;

/// Why a mailer could not be set up. Never contains the address with its password.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The address is malformed.
    #[error("the mail address in the configuration {0}")]
    Url(&'static str),
    /// An option that does not exist, or has a wrong value.
    #[error("the mail address has the option {option:?}, which {problem}")]
    Option {
        /// The option's name.
        option: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A certificate file or mail directory cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error("the certificates for the mail server cannot be used: {0}")]
    Certificates(String),
}

/// How far a mail came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Name look-up, TCP, greeting.
    Connect,
    /// TLS.
    Tls,
    /// Sign-in.
    Auth,
    /// The server was told who writes.
    Sender,
    /// The server was told who shall get it.
    Recipient,
    /// The server was asked to take the text.
    Data,
    /// The text was handed over; only the answer is missing.
    Body,
    /// Nothing went over a wire: a file, or a mail that cannot be written.
    Local,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting to the mail server",
            Self::Tls => "encrypting the connection to the mail server",
            Self::Auth => "signing in to the mail server",
            Self::Sender => "naming the sender",
            Self::Recipient => "naming the recipient",
            Self::Data => "offering the mail",
            Self::Body => "handing over the mail",
            Self::Local => "writing the mail",
        })
    }
}

/// What happened, fit for a log: mail addresses in the server's words are left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stage}: {text}")]
pub struct Failure {
    /// How far it came.
    pub stage: Stage,
    /// The server's answer, such as 550.
    pub code: Option<u16>,
    /// The server's enhanced status, such as 5.1.1.
    pub enhanced: Option<(u16, u16, u16)>,
    /// In words.
    pub text: String,
    /// The address itself does not take mail: write to it no more.
    pub address_is_dead: bool,
    /// Trying again helps only after somebody has changed the set-up, as when sign-in or relaying is refused.
    pub needs_operator: bool,
}

/// Why a mail was not, or may not have been, accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It was not accepted and may be later: the same mail, with the same Message-ID, after a while.
    #[error("not sent, try again: {0}")]
    Temporary(Failure),
    /// It was refused and always will be. Mark the address when [`Failure::address_is_dead`].
    #[error("refused: {0}")]
    Permanent(Failure),
    /// The connection broke after the text was handed over: it may have been accepted.
    #[error("perhaps sent: {0}")]
    Unknown(Failure),
}

impl SendError {
    /// The facts, whatever the class.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Temporary(failure) | Self::Permanent(failure) | Self::Unknown(failure) => failure,
        }
    }
}

/// Judges an answer, or the lack of one, at `stage`.
pub(super) fn judge(stage: Stage, code: Option<u16>, text: &str) -> SendError {
    let enhanced = enhanced_status(text);
    let lower = text.to_lowercase();
    let refused = code.is_some_and(|code| code >= 500);
    // 5.7 is policy: relaying denied, sign-in missing, our server blocked. Exim says it without the number.
    let policy = matches!(enhanced, Some((5, 7, _))) || lower.contains("relay") || code == Some(530);
    let about_recipient = matches!(stage, Stage::Recipient | Stage::Body) && !policy;
    let dead_code = stage == Stage::Recipient && matches!(code, Some(550 | 551 | 553));
    let dead = match enhanced {
        Some((5, subject, detail)) => subject == 1 || (subject, detail) == (2, 1),
        _ => dead_code,
    };
    let failure = Failure {
        stage,
        code,
        enhanced,
        text: fit_for_logs(text),
        address_is_dead: refused && about_recipient && dead,
        needs_operator: refused && !about_recipient,
    };
    match (stage, code) {
        (Stage::Body, None) => SendError::Unknown(failure),
        // Content refused after the final dot stays refused, whatever the reason; a recipient only for its own sake.
        (Stage::Body, Some(500..)) => SendError::Permanent(failure),
        (Stage::Recipient, Some(500..)) if about_recipient => SendError::Permanent(failure),
        _ => SendError::Temporary(failure),
    }
}

/// What recurd itself refuses to go on with, such as a server without TLS: only a change of the set-up helps.
pub(super) fn refuse(stage: Stage, text: &str) -> SendError {
    SendError::Temporary(Failure {
        stage,
        code: None,
        enhanced: None,
        text: fit_for_logs(text),
        address_is_dead: false,
        needs_operator: true,
    })
}

/// A failure without a server: a full disk, a mail that cannot be written.
pub(super) fn local(permanent: bool, text: &str) -> SendError {
    let failure = Failure {
        stage: Stage::Local,
        code: None,
        enhanced: None,
        text: fit_for_logs(text),
        address_is_dead: false,
        needs_operator: true,
    };
    if permanent { SendError::Permanent(failure) } else { SendError::Temporary(failure) }
}

pub(super) fn unwritable(error: &lettre::error::Error) -> SendError {
    local(true, &error.to_string())
}

/// Reads `5.1.1` from the start of a server's words.
fn enhanced_status(text: &str) -> Option<(u16, u16, u16)> {
    let mut parts = text.split_whitespace().next()?.splitn(3, '.').map(|part| part.parse::<u16>().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

/// One line, of bounded length, without mail addresses: servers like to repeat them.
pub(super) fn fit_for_logs(text: &str) -> String {
    let cleaned = clean(text);
    let words = cleaned.split_whitespace().map(|word| if word.contains('@') { "[address]" } else { word });
    words.collect::<Vec<_>>().join(" ").chars().take(TEXT_CHARS_MAX).collect()
}
