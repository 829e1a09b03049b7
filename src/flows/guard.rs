//! What stops charging: the halt, which every process on the database obeys within one call of each worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::Result;
use crate::clock::Clock;
use crate::store::Store;
use crate::stripe::Gate;

/// The audit trail's subject of a halt and of a recovery.
pub(super) const INSTANCE: &str = "instance";
/// Who halts in the audit trail, if no person did.
pub(super) const SELF: &str = "recurd";

/// Limit: a reading serves whoever asks within this time. No call to Stripe is over sooner.
const SERVES: Duration = Duration::from_millis(10);

/// The halt as the client sees it: asked before each request that takes money.
///
/// Those who ask at the same moment share one reading of the database: it began after each of them asked, or at most
/// ten milliseconds before. So after a halt each worker makes at most one more call, and ten thousand calls a second cost a
/// hundred readings.
pub struct Brake {
    store: Store,
    clock: Clock,
    asked: AtomicU64,
    latest: Mutex<Reading>,
}

#[derive(Default)]
struct Reading {
    /// Whoever asked with a lower number asked before it began.
    answers_below: u64,
    began: Option<Instant>,
    halted: Option<String>,
}

impl Brake {
    pub(super) fn new(store: Store, clock: Clock) -> Arc<Self> {
        Arc::new(Self { store, clock, asked: AtomicU64::new(0), latest: Mutex::default() })
    }

    /// Why nothing may be charged now, if so.
    pub(super) async fn halted(&self) -> Result<Option<String>> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        let mut latest = self.latest.lock().await;
        let is_young = latest.began.is_some_and(|began| began.elapsed() < SERVES);
        if latest.answers_below <= number && !is_young {
            let (answers_below, began) = (self.asked.load(Ordering::SeqCst), self.clock.stopwatch());
            *latest = Reading { halted: self.store.halted().await?, answers_below, began };
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
