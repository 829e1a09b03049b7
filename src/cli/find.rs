//! From what people type to a row: our id or its beginning, Stripe's id, a mail address.

use anyhow::Result;

use crate::flows::FlowError;
use crate::store::{Claimed, Customer, Store, Subscription};

fn one<T>(what: &str, typed: &str, mut found: Vec<T>) -> Result<T> {
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => {
            Err(FlowError::Refused(format!("{typed:?} fits more than one {what}; type more of the id"))
                .into())
        }
        (None, _) => Err(FlowError::Refused(format!("no {what} {typed:?} in the database")).into()),
    }
}

pub(super) async fn customer(store: &Store, typed: &str) -> Result<Customer> {
    one("customer", typed, store.customers_named(typed).await?)
}

pub(super) async fn subscription(store: &Store, typed: &str) -> Result<Subscription> {
    one("subscription", typed, store.subscriptions_by_prefix(typed).await?)
}

/// A charge by our id, its beginning, or the id of one of its Stripe objects.
pub(super) async fn charge(store: &Store, typed: &str) -> Result<Claimed> {
    let id = match store.charge_of_collector(typed).await? {
        Some(id) => id,
        None => one("charge", typed, store.charges_by_prefix(typed).await?)?.parse()?,
    };
    let found = store.find_charge(id).await?;
    found.ok_or_else(|| FlowError::Refused(format!("no charge {typed:?} in the database")).into())
}
