//! Whether a subscription's service is on, for programs that ask: a decline does not end it at once.

use jiff::Timestamp;
use serde::Serialize;

use super::Result;
use crate::billing::subscription::SubscriptionState;
use crate::store::{Store, Subscription};

/// Whether the service is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "service", rename_all = "snake_case")]
pub enum Service {
    /// Paid, or in its trial.
    On,
    /// A charge was declined; it stays on for now.
    Grace {
        /// Unix seconds; none: until the ladder ends.
        until: Option<i64>,
    },
    /// Not begun, paused, ended, or the grace is over.
    Off,
}

/// The service of a subscription at `now`.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn service(store: &Store, subscription: &Subscription, now: Timestamp) -> Result<Service> {
    match SubscriptionState::parse(&subscription.state) {
        Some(SubscriptionState::Active) => {}
        Some(SubscriptionState::Completed) => return Ok(Service::On),
        Some(SubscriptionState::Pending | SubscriptionState::Paused | SubscriptionState::Canceled) | None => {
            return Ok(Service::Off);
        }
    }
    let Some((since, id)) = store.open_case(subscription.subscription_id()).await? else {
        return Ok(Service::On);
    };
    let until = store.ladder(id).await?.and_then(|ladder| ladder.grace_until(since));
    Ok(match until {
        Some(until) if until <= now => Service::Off,
        until => Service::Grace { until: until.map(Timestamp::as_second) },
    })
}
