//! The verbs. Each worker is `run_once(ctx, limit) -> Report`: the daemon ticks it, `recurd run` drains it, tests
//! read its report. Flows read, ask `billing`, and write; no rules live here.

mod answers;
mod close;
pub mod collect;
pub mod dun;
pub mod enrol;
pub mod import;
mod letters;
pub mod manage;
pub mod materialize;
pub mod notify;
pub mod pay_link;
pub mod receive;
pub mod reconcile;
mod report;
mod settle;

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use jiff::Timestamp;

use crate::billing::ids::InstanceId;
use crate::billing::plan::Terms;
use crate::clock::Clock;
use crate::config::Config;
use crate::mail::Mailer;
use crate::store::{Store, StoreError};
use crate::stripe::Client;
use crate::template::Templates;

pub use letters::Letterhead;
pub use report::{Job, Report};

/// Everything a flow needs. Cloning shares it.
#[derive(Clone)]
pub struct Ctx {
    /// The books.
    pub store: Store,
    /// Stripe.
    pub stripe: Client,
    /// How mail leaves.
    pub mailer: Arc<Mailer>,
    /// Mail and page texts.
    pub templates: Templates,
    /// What time it is.
    pub clock: Clock,
    /// The configuration.
    pub config: Arc<Config>,
    /// Which installation this is.
    pub instance: InstanceId,
    /// What every mail has in common.
    pub head: Arc<Letterhead>,
    /// Name of this worker on leases.
    pub worker: Arc<str>,
    plans: Arc<Plans>,
}

/// Plan revisions never change, so they are read once.
type Plans = RwLock<HashMap<(String, u32), Arc<Terms>>>;

/// Why a flow could not go on. One bad charge is not among these: it is counted in the report.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Stripe failed where nothing can be done without it.
    #[error(transparent)]
    Stripe(#[from] crate::stripe::Error),
    /// The command does not fit.
    #[error("{0}")]
    Refused(String),
    /// The plan of a charge is not in the database.
    #[error("plan {0} revision {1} is not in the database")]
    NoPlan(String, u32),
}

/// Shorthand.
pub type Result<T, E = FlowError> = std::result::Result<T, E>;

impl Ctx {
    /// Puts the parts together.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is a neighbour; a struct would repeat the same list")]
    pub fn new(
        store: Store,
        stripe: Client,
        mailer: Arc<Mailer>,
        templates: Templates,
        clock: Clock,
        config: Arc<Config>,
        instance: InstanceId,
        head: Letterhead,
    ) -> Self {
        let worker = format!("worker-{}", uuid::Uuid::new_v4().simple()).into();
        Self {
            store,
            stripe,
            mailer,
            templates,
            clock,
            config,
            instance,
            head: Arc::new(head),
            worker,
            plans: Arc::default(),
        }
    }

    /// The present instant, whole seconds as the database keeps them.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_second(self.clock.now_secs()).unwrap_or(Timestamp::MAX)
    }

    /// Until when a lease taken now lasts.
    fn lease_until(&self) -> Timestamp {
        self.now().checked_add(self.config.limits.lease).unwrap_or(Timestamp::MAX)
    }

    /// The terms of a plan revision.
    ///
    /// # Errors
    /// [`FlowError::NoPlan`], [`FlowError::Store`].
    pub async fn terms(&self, plan: &str, revision: u32) -> Result<Arc<Terms>> {
        let key = (plan.to_owned(), revision);
        if let Some(terms) = self.plans.read().ok().and_then(|plans| plans.get(&key).cloned()) {
            return Ok(terms);
        }
        let all = self.store.plan_revisions().await?;
        if let Ok(mut plans) = self.plans.write() {
            plans.extend(all.into_iter().map(|one| ((one.plan, one.revision), Arc::new(one.terms))));
            if let Some(terms) = plans.get(&key) {
                return Ok(terms.clone());
            }
        }
        Err(FlowError::NoPlan(key.0, revision))
    }

    /// Runs a job once over at most `limit` items.
    ///
    /// # Errors
    /// [`FlowError`] when the job itself could not go on.
    pub async fn run_once(&self, job: Job, limit: usize) -> Result<Report> {
        match job {
            Job::Materialize => materialize::run_once(self, limit).await,
            Job::Collect => collect::run_once(self, limit).await,
            Job::Reconcile => reconcile::run_once(self, limit).await,
            Job::Dun => dun::run_once(self, limit).await,
            Job::Notify => notify::run_once(self, limit).await,
            Job::Receive => receive::run_once(self, limit).await,
            Job::Enrol => enrol::run_once(self, limit).await,
        }
    }
}
