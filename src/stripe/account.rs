//! The account a key belongs to. <https://docs.stripe.com/api/accounts>

use serde::Deserialize;

use super::client::{Answer, Client, Endpoint};
use super::error::Error;

const RETRIEVE: Endpoint = Endpoint("GET /v1/account");

/// A Stripe account: what a database is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Account {
    /// `acct_...`.
    pub id: String,
    /// Whether it may charge at all.
    #[serde(default = "yes")]
    pub charges_enabled: bool,
}

/// Who may not read the field is not told that charging is forbidden.
fn yes() -> bool {
    true
}

impl Client {
    /// Reads the account of the key.
    ///
    /// # Errors
    /// Those of a GET. A restricted key may lack the right (403).
    pub async fn retrieve_account(&self) -> Result<Answer<Account>, Error> {
        self.get(RETRIEVE, "/v1/account".to_owned()).await
    }
}
