//! What stops charging: the halt, which every process on the database obeys within one call of each worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::Result;
use crate::store::Store;
use crate::stripe::Gate;

/// The audit trail's subject of a halt and of a recovery.
pub(super) const INSTANCE: &str = "instance";
/// Who halts in the audit trail, if no person did.
pub(super) const SELF: &str = "recurd";

/// The halt as the client sees it: asked before each request that takes money.
///
/// Those who ask at the same moment share one reading of the database, and each gets a reading that began after it
/// asked. So a halt that was committed before is always seen, and a thousand calls a second cost few readings.
pub struct Brake {
    store: Store,
    asked: AtomicU64,
    latest: Mutex<Reading>,
}

#[derive(Default)]
struct Reading {
    /// Whoever asked with a lower number asked before it began.
    answers_below: u64,
    halted: Option<String>,
}

impl Brake {
    pub(super) fn new(store: Store) -> Arc<Self> {
        Arc::new(Self { store, asked: AtomicU64::new(0), latest: Mutex::default() })
    }

    /// Why nothing may be charged now, if so.
    pub(super) async fn halted(&self) -> Result<Option<String>> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        let mut latest = self.latest.lock().await;
        if latest.answers_below <= number {
            let answers_below = self.asked.load(Ordering::SeqCst);
            *latest = Reading { halted: self.store.halted().await?, answers_below };
        }
        Ok(latest.halted.as_ref().map(|why| format!("charging is halted: {why}")))
    }
}

impl Gate for Brake {
    fn ask(&self) -> BoxFuture<'_, Result<(), String>> {
        async {
            match self.halted().await {
                Ok(None) => Ok(()),
                Ok(Some(why)) => Err(why),
                // Who cannot read whether to stop, stops.
                Err(error) => Err(format!("it is not known whether charging is halted: {error}")),
            }
        }
        .boxed()
    }
}

/// Halts charging in every process on the database. Whether it was running. Each day, the first run that finds charging
/// halted tells the operator.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn halt(store: &Store, who: &str, why: &str, now: Timestamp) -> Result<bool> {
    if !store.halt(why, now).await? {
        return Ok(false);
    }
    halted(store, who, why, now).await?;
    Ok(true)
}

/// Says that charging was halted: in the log and in the audit trail.
pub(super) async fn halted(store: &Store, who: &str, why: &str, now: Timestamp) -> Result<()> {
    tracing::error!(who, "Charging is halted: {why}");
    Ok(store.audit(who, "halt", INSTANCE, why, now).await?)
}

/// Lets charging go on. Whether it was halted, and not because the database is behind Stripe.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn resume(store: &Store, who: &str, why: &str, now: Timestamp) -> Result<bool> {
    let resumed = store.resume(now).await?;
    if resumed {
        tracing::warn!(who, "Charging goes on: {why}");
        store.audit(who, "resume", INSTANCE, why, now).await?;
    }
    Ok(resumed)
}
