//! What the pages show, typed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::mail::ChargeLine;

/// A place on this server: starts with one slash, so it can lead nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct LocalPath(String);

/// A path that leads away from this server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a path on this server")]
pub struct NotLocal(String);

impl LocalPath {
    /// Checks `path`.
    ///
    /// # Errors
    /// [`NotLocal`] for anything but `/` and plain characters: no `//host`, no backslash, no query.
    pub fn new(path: &str) -> Result<Self, NotLocal> {
        let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b));
        if !path.starts_with('/') || path.starts_with("//") || !plain {
            return Err(NotLocal(path.to_owned()));
        }
        Ok(Self(path.to_owned()))
    }
}

impl TryFrom<String> for LocalPath {
    type Error = NotLocal;
    fn try_from(path: String) -> Result<Self, NotLocal> {
        Self::new(&path)
    }
}

impl fmt::Display for LocalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is true about a pay link right now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PayState {
    /// Open: the page has a button that posts.
    Payable,
    /// Something is collecting it at this moment.
    Collecting,
    /// It may have been paid already, and until then nobody knows.
    Later {
        /// Formatted date.
        from: String,
    },
    /// Paid.
    Paid {
        /// Formatted date.
        on: Option<String>,
    },
    /// Canceled: never charged.
    Canceled,
    /// Nothing is owed behind this link.
    NothingDue,
}

/// The page behind a pay link. It names the merchant and the amounts and nobody: links get forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayPage {
    /// What is true now.
    pub state: PayState,
    /// What the button pays.
    pub charges: Vec<ChargeLine>,
    /// Formatted sum of `charges`.
    pub total: Option<String>,
    /// Further open charges, paid at their own links.
    pub others: Vec<OtherCharge>,
}

/// An open charge with a link of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherCharge {
    /// The charge.
    pub charge: ChargeLine,
    /// Its pay page, where this page may lead there.
    pub path: Option<LocalPath>,
}

/// The page behind a card link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveCardPage {
    /// What is past due: collected from the new card at once.
    pub open: Vec<ChargeLine>,
    /// What the card will be charged for.
    pub charges: Vec<ChargeLine>,
    /// What the customer agrees to by going on, as it is put on record.
    pub terms: Option<String>,
}

/// Where a customer lands after paying, before the payment is confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThanksPage {
    /// The pay page, which shows when it is confirmed.
    pub path: Option<LocalPath>,
}

/// Something went wrong on our side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorPage {
    /// Where to try again.
    pub path: Option<LocalPath>,
    /// What to quote to support; also in the log.
    pub reference: Option<String>,
}
