//! Header values that cannot break out of their header.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::context::plausible_name;

/// Limit: RFC 5322 allows 998 bytes a line; a longer value is a mistake.
const HEADER_BYTES_MAX: usize = 900;

/// Why a text may not become part of a mail's head. Says what is wrong, never whose address it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A line end or another control character.
    #[error("{0} contains a control character")]
    Control(&'static str),
    /// Nothing where something must be.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// Longer than a header may be.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// Not `user@domain`.
    #[error("a mail address must look like name@example.com")]
    Address,
    /// Not `<left@right>`.
    #[error("a Message-ID must look like <left@right>")]
    MessageId,
    /// Not letters, digits and hyphens, or one that [`super::Mail`] sets itself.
    #[error("{0:?} cannot be used as a further header")]
    Name(String),
}

/// One line of text for a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderText(String);

impl HeaderText {
    /// Checks `text`, which `what` names in the error.
    ///
    /// # Errors
    /// [`HeaderError`] when it is empty, too long or has control characters.
    pub fn new(what: &'static str, text: &str) -> Result<Self, HeaderError> {
        if text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
            return Err(HeaderError::Control(what));
        }
        if text.trim().is_empty() {
            return Err(HeaderError::Empty(what));
        }
        if text.len() > HEADER_BYTES_MAX {
            return Err(HeaderError::TooLong(what));
        }
        Ok(Self(text.trim().to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A mail address with an optional name. Its `Debug` shows the domain only.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mailbox(lettre::message::Mailbox);

impl Mailbox {
    /// An address with a name, both checked.
    ///
    /// # Errors
    /// [`HeaderError`] when either is malformed.
    pub fn new(name: Option<&str>, email: &str) -> Result<Self, HeaderError> {
        // Quotes and blanks are legal in the left part of an address and only ever seen in attacks.
        if email.chars().any(|c| c.is_control() || c.is_whitespace() || "\"<>(),;:\\[]".contains(c)) {
            return Err(HeaderError::Address);
        }
        let address = email.parse().map_err(|_| HeaderError::Address)?;
        let name = name.map(|name| HeaderText::new("the name of an address", name)).transpose()?;
        Ok(Self(lettre::message::Mailbox::new(name.map(|name| name.0), address)))
    }

    /// An address of a customer, whose name may be anything: a name unfit for a header is left out.
    ///
    /// # Errors
    /// [`HeaderError::Address`] when the address is malformed.
    pub fn of_customer(name: Option<&str>, email: &str) -> Result<Self, HeaderError> {
        Self::new(name.and_then(plausible_name).as_deref(), email)
    }

    /// The bare address.
    #[must_use]
    pub fn email(&self) -> &str {
        self.0.email.as_ref()
    }

    /// The name, if any.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    pub(super) fn to_lettre(&self) -> lettre::message::Mailbox {
        self.0.clone()
    }
}

impl FromStr for Mailbox {
    type Err = HeaderError;

    /// Reads `Acme <billing@acme.example>` or a bare address.
    fn from_str(text: &str) -> Result<Self, HeaderError> {
        match text.trim().strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
            Some((name, email)) => {
                let name = name.trim().trim_matches('"').trim();
                Self::new((!name.is_empty()).then_some(name), email)
            }
            None => Self::new(None, text.trim()),
        }
    }
}

impl TryFrom<String> for Mailbox {
    type Error = HeaderError;
    fn try_from(text: String) -> Result<Self, HeaderError> {
        text.parse()
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox(***@{})", self.0.email.domain())
    }
}

/// What makes a mail the same mail when it is sent again: `<charge.step@domain>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageId(String);

impl MessageId {
    /// Checks an id with its angle brackets.
    ///
    /// # Errors
    /// [`HeaderError::MessageId`] for anything but `<left@right>` of letters, digits and `.-_+=`.
    pub fn new(id: &str) -> Result<Self, HeaderError> {
        let inner = id.strip_prefix('<').and_then(|id| id.strip_suffix('>'));
        let parts = inner.and_then(|inner| inner.split_once('@'));
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_+=".contains(&b))
        };
        match parts {
            Some((left, right)) if plain(left) && plain(right) && id.len() <= 250 => Ok(Self(id.to_owned())),
            _ => Err(HeaderError::MessageId),
        }
    }

    /// The id with its angle brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id without them: letters, digits, `@` and `.-_+=` only, so it is safe as a file name.
    #[must_use]
    pub fn bare(&self) -> &str {
        self.0.trim_matches(['<', '>'])
    }
}
