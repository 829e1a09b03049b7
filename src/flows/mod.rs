//! The verbs. Each worker is `run_once(ctx, limit) -> Report`: the daemon ticks it, `recurd run` drains it, tests
//! read its report. Flows read, ask `billing`, and write; no rules live here.

mod about;
pub mod address;
mod answers;
mod backup;
pub mod card_link;
mod cards;
mod close;
pub mod collect;
mod consent;
pub mod dun;
pub mod enrol;
pub mod expiring;
pub mod figures;
pub mod guard;
pub mod import;
pub mod in_doubt;
pub mod ladders;
mod letters;
pub mod manage;
pub mod materialize;
mod news;
pub mod notices;
pub mod notify;
pub mod pay_link;
mod rails;
pub mod receive;
pub mod reconcile;
pub mod recover;
mod report;
pub mod reversals;
pub mod service;
mod settle;
mod still_true;
mod tries;
mod unheard;
pub mod what_if;
mod witness;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, RwLock};

use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::billing::ids::InstanceId;
use crate::billing::plan::Terms;
use crate::clock::Clock;
use crate::config::Config;
use crate::mail::Mailer;
use crate::process::worker_name;
use crate::store::{Claimed, OutboxInsert, Store, StoreError};
use crate::stripe::Client;
use crate::template::Templates;

pub use letters::Letterhead;
pub use report::{Job, Report};

/// How long a charge rests after Stripe could not be asked.
const ASK_AGAIN: std::time::Duration = std::time::Duration::from_secs(120);
/// How the steps of alarms begin that tell of a stop.
const STOPPED: &str = "stopped-";

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
    /// Stops charging everywhere.
    brake: Arc<guard::Brake>,
    /// What this run has done so far.
    run: Arc<rails::Run>,
    /// What this process knows of the witness outside the database.
    witness: Arc<witness::Known>,
    /// The hour in which no card was found any more whose owner should hear that it expires.
    swept: Arc<AtomicI64>,
    /// Name of this worker on leases.
    pub worker: Arc<str>,
    plans: Arc<Plans>,
    ladders: Arc<ladders::Known>,
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
        let brake = guard::Brake::new(store.clone(), clock.clone());
        Self {
            store,
            stripe: stripe.behind(brake.clone()),
            brake,
            run: Arc::default(),
            witness: Arc::default(),
            swept: Arc::default(),
            mailer,
            templates,
            clock,
            config,
            instance,
            head: Arc::new(head),
            worker: worker_name().into(),
            plans: Arc::default(),
            ladders: Arc::default(),
        }
    }

    /// The present instant, whole seconds as the database keeps them.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_second(self.clock.now_secs()).unwrap_or(Timestamp::MAX)
    }

    /// Says that something runs, unless this machine's clock is wrong: what it shows is compared with this later.
    ///
    /// # Errors
    /// [`FlowError::Store`].
    pub async fn heartbeat(&self) -> Result<()> {
        if rails::wrong_clock(self).await.is_none() {
            self.store.heartbeat(self.now()).await?;
        }
        Ok(())
    }

    /// Until when a lease taken now lasts.
    fn lease_until(&self) -> Timestamp {
        let lease = if mutant!(LeaseForEver) {
            std::time::Duration::from_secs(1 << 31)
        } else {
            self.config.limits.lease
        };
        self.now().checked_add(lease).unwrap_or(Timestamp::MAX)
    }

    /// Limit: cards that expire are looked for once an hour, and until none is left.
    fn begin_sweep(&self, now: Timestamp) -> bool {
        self.swept.load(Ordering::SeqCst) != now.as_second() / 3600
    }

    fn end_sweep(&self, now: Timestamp) {
        self.swept.store(now.as_second() / 3600, Ordering::SeqCst);
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

    /// Those whose time has come by their own state. A lease that a dead worker left behind wakes a charge early: it
    /// goes back to sleep.
    async fn in_time(&self, claimed: Vec<Claimed>, now: Timestamp) -> Result<Vec<Claimed>> {
        let is_due = |one: &Claimed| one.charge.wake().is_none_or(|(_, at)| at <= now || mutant!(LeaseWakes));
        let (due, early): (Vec<_>, Vec<_>) = claimed.into_iter().partition(is_due);
        for one in early {
            self.store.release_charge(&one.charge, None).await?;
        }
        Ok(due)
    }

    /// Gives claimed charges back for a little while, because Stripe could not be asked.
    async fn put_off(&self, claimed: Vec<Claimed>) -> Result<()> {
        let until = self.now().checked_add(ASK_AGAIN).ok();
        for one in &claimed {
            self.store.release_charge(&one.charge, until).await?;
        }
        Ok(())
    }

    /// How many requests one worker has under way at once.
    fn concurrency(&self) -> usize {
        self.config.limits.concurrency.div_ceil(self.config.limits.workers)
    }

    /// Runs a job round by round until nothing is left, with several workers where the job has enough to do for
    /// them: while one waits for the database, another waits for Stripe. After each round `go_on` hears of it, and
    /// may end the rest. A round's failure ends all; what was done until then is in the report.
    pub async fn drain(
        &self,
        job: Job,
        go_on: impl Fn(&Report) -> bool + Clone + Send + Sync + 'static,
    ) -> (Report, Option<FlowError>) {
        let workers = if job == Job::Collect { self.config.limits.workers } else { 1 };
        let stop = Arc::new(AtomicBool::new(false));
        let (mut running, run) = (JoinSet::new(), Arc::<rails::Run>::default());
        for _ in 0..workers {
            let ctx = Self { worker: worker_name().into(), run: run.clone(), ..self.clone() };
            let (stop, go_on) = (stop.clone(), go_on.clone());
            running.spawn(async move {
                let mut all = Report::default();
                while !stop.load(Ordering::SeqCst) {
                    let report = match ctx.round(job, ctx.config.limits.batch).await {
                        Ok(report) => report,
                        Err(error) => {
                            stop.store(true, Ordering::SeqCst);
                            return (all, Some(error));
                        }
                    };
                    let done = report.taken == 0;
                    if report.stopped.is_some() || !go_on(&report) {
                        stop.store(true, Ordering::SeqCst);
                    }
                    all.merge(report);
                    if done {
                        break;
                    }
                }
                (all, None)
            });
        }
        let mut whole = (Report::default(), None);
        while let Some(worker) = running.join_next().await {
            match worker {
                Ok((report, error)) => {
                    whole.0.merge(report);
                    whole.1 = whole.1.or(error);
                }
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        whole
    }

    /// Nothing is charged for anybody: the operator hears of it once a day.
    async fn tell_stopped(&self, why: &str) -> Result<()> {
        let now = self.now();
        let step = format!("{STOPPED}{}", now.strftime("%Y-%m-%d"));
        let text = format!("nothing is charged: {why}");
        Ok(self.store.promise(&[OutboxInsert::alarm("charging".into(), &step, text, now)]).await?)
    }

    /// Runs a job once over at most `limit` items: a run of its own.
    ///
    /// # Errors
    /// [`FlowError`] when the job itself could not go on.
    pub async fn run_once(&self, job: Job, limit: usize) -> Result<Report> {
        Self { run: Arc::default(), ..self.clone() }.round(job, limit).await
    }

    /// One round of a run.
    async fn round(&self, job: Job, limit: usize) -> Result<Report> {
        if matches!(job, Job::Materialize | Job::Reconcile | Job::Dun)
            && let Some(why) = rails::wrong_clock(self).await
        {
            self.tell_stopped(&why).await?;
            return Ok(Report { stopped: Some(why), ..Report::default() });
        }
        match job {
            Job::Materialize => materialize::run_once(self, limit).await,
            Job::Collect => {
                let report = collect::run_once(self, limit).await?;
                if let Some(why) = &report.stopped {
                    self.tell_stopped(why).await?;
                }
                Ok(report)
            }
            Job::Reconcile => reconcile::run_once(self, limit).await,
            Job::Dun => dun::run_once(self, limit).await,
            Job::Notify => notify::run_once(self, limit).await,
            Job::Receive => receive::run_once(self, limit).await,
            Job::Enrol => {
                let mut report = enrol::run_once(self, limit).await?;
                report.merge(expiring::run_once(self, limit).await?);
                Ok(report)
            }
        }
    }
}
