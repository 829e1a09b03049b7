//! `recurd serve`: ticks, HTTP, readiness, watchdog, graceful stop. No billing knowledge.
//!
//! A tick is a wake-up and nothing more: what is due lives in the database, so missed, doubled and late ticks are harmless.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, watch};
use tokio_cron_scheduler::{Job as CronJob, JobScheduler};

use crate::billing::charge::Work;
use crate::config::{Config, ConfigError};
use crate::flows::{Ctx, Job};

/// Limit: rounds of one job in one tick; the next tick goes on.
const ROUNDS_MAX: usize = 1000;
/// How long in-flight work may take after a stop signal; Kubernetes and systemd wait longer.
const GRACE: Duration = Duration::from_secs(25);

/// Serves until SIGTERM or ctrl-c.
///
/// # Errors
/// When the address is taken or a schedule is not understood.
pub async fn serve(ctx: Ctx) -> Result<()> {
    check_schedules(&ctx.config)?;
    crate::telemetry::metrics();
    let listener = TcpListener::bind(ctx.config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", ctx.config.listen))?;
    let address = listener.local_addr()?;
    let mut signals = StopSignals::new()?;
    let (stop, stopping) = watch::channel(false);
    let router = crate::http::router(ctx.clone())?;
    let (mut scheduler, running) = schedule(&ctx, &stopping).await?;
    scheduler.start().await?;
    tracing::info!("recurd serves on {address}");
    sd_notify::notify(&[NotifyState::Ready])?;
    let watchdog = tokio::spawn(watchdog(ctx.clone(), stopping.clone()));
    let mut stopped = stopping.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    });
    let server = tokio::spawn(server.into_future());
    signals.next().await;
    tracing::info!("Stopping: nothing new is claimed, what is in flight finishes");
    sd_notify::notify(&[NotifyState::Stopping])?;
    stop.send_replace(true);
    scheduler.shutdown().await?;
    let all = async {
        for job in &running {
            drop(job.lock().await);
        }
        let _ = server.await;
    };
    if signals.grace(all).await.is_none() {
        tracing::warn!("Some work did not finish; its leases run out and others go on");
    }
    watchdog.abort();
    ctx.store.close().await;
    Ok(())
}

type Running = Vec<Arc<Mutex<()>>>;

async fn schedule(ctx: &Ctx, stopping: &watch::Receiver<bool>) -> Result<(JobScheduler, Running)> {
    let scheduler = JobScheduler::new().await?;
    let zone = cron_zone(&ctx.config)?;
    let mut running = Vec::new();
    for job in Job::ALL {
        let Some(cron) = ctx.config.schedules.get(job.as_str()) else { continue };
        let busy = Arc::new(Mutex::new(()));
        running.push(busy.clone());
        let (ctx, stopping) = (ctx.clone(), stopping.clone());
        let tick = CronJob::new_async_tz(cron.as_str(), zone, move |_, _| {
            let (ctx, busy, stopping) = (ctx.clone(), busy.clone(), stopping.clone());
            Box::pin(async move {
                // A tick that finds the last one still running has nothing to add.
                let Ok(_only) = busy.try_lock_owned() else { return };
                if let Err(error) = drain(&ctx, job, &stopping).await {
                    tracing::error!(job = job.as_str(), "Job {} could not go on: {error:#}", job.as_str());
                }
            })
        });
        scheduler.add(tick.with_context(|| format!("schedules.{}: {cron:?}", job.as_str()))?).await?;
    }
    Ok((scheduler, running))
}

fn cron_zone(config: &Config) -> Result<chrono_tz::Tz> {
    let name = &config.cron_zone;
    name.parse().map_err(|_| anyhow::anyhow!("{name:?} is not a time zone"))
}

/// Checks the ticks without starting anything.
///
/// # Errors
/// The first schedule that is not understood.
pub fn check_schedules(config: &Config) -> Result<(), ConfigError> {
    let zone = cron_zone(config).map_err(|error| config.wrong("schedules.timezone", error))?;
    for (job, cron) in &config.schedules {
        if CronJob::new_async_tz(cron.as_str(), zone, |_, _| Box::pin(async {})).is_err() {
            let message =
                format!("{cron:?} is not `second minute hour day month weekday`, such as \"0 */5 * * * *\"");
            return Err(config.wrong(&format!("schedules.{job}"), message));
        }
    }
    Ok(())
}

/// Runs one job until nothing is left, and records the run if it did something.
///
/// # Errors
/// When the job could not go on.
async fn drain(ctx: &Ctx, job: Job, stopping: &watch::Receiver<bool>) -> Result<()> {
    let started = std::time::Instant::now();
    ctx.heartbeat().await?;
    let stop = stopping.clone();
    let rounds = Arc::new(AtomicUsize::new(0));
    let begun = ctx.now();
    let (all, failed) =
        ctx.drain(job, move |_| rounds.fetch_add(1, Ordering::Relaxed) < ROUNDS_MAX && !*stop.borrow()).await;
    if all.taken > 0 {
        let id = ctx.store.begin_run(job.as_str(), begun).await?;
        let report = serde_json::to_string(&all)?;
        let error = failed.as_ref().map(ToString::to_string).or(all.stopped.clone());
        ctx.store.finish_run(id, &report, error.as_deref(), ctx.now()).await?;
        tracing::info!(job = job.as_str(), taken = all.taken, "Job {} took {}", job.as_str(), all.taken);
    }
    for problem in &all.problems {
        tracing::error!(job = job.as_str(), "{problem}");
    }
    if let Some(why) = &all.stopped {
        tracing::error!(job = job.as_str(), "Job {} stopped: {why}", job.as_str());
    }
    // What histograms have recorded is held until then, or until somebody reads the metrics: perhaps nobody does.
    if let Some(handle) = crate::telemetry::metrics() {
        handle.run_upkeep();
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    metrics::histogram!("recurd_run_duration_seconds", "job" => job.as_str())
        .record(started.elapsed().as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "metrics are floats; seconds since 1970 fit exactly")]
    metrics::gauge!("recurd_run_last_success_timestamp_seconds", "job" => job.as_str())
        .set(ctx.clock.now_secs() as f64);
    Ok(())
}

/// Tells systemd that we live, as long as the database answers.
#[expect(
    clippy::disallowed_methods,
    reason = "systemd's watchdog counts real seconds, whatever our clock says"
)]
async fn watchdog(ctx: Ctx, stopping: watch::Receiver<bool>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    while !*stopping.borrow() {
        tokio::time::sleep(limit / 3).await;
        if ctx.store.instance(ctx.now()).await.is_ok() {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}

/// SIGTERM and ctrl-c. From its making on they no longer end the process by themselves.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for work that is under way when one has come: no longer than [`GRACE`], and not after a second one.
    pub(crate) async fn grace<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = tokio::time::timeout(GRACE, work) => done.ok(),
            () = self.next() => None,
        }
    }
}

/// Reads the gauges afresh.
#[expect(clippy::cast_precision_loss, reason = "metrics are floats; counts of rows fit exactly")]
pub(crate) async fn gauges(ctx: &Ctx) {
    let now = ctx.now();
    if let Ok(due) = ctx.store.count_awake(Work::Collect, now).await {
        metrics::gauge!("recurd_due_charges").set(due as f64);
    }
    if let Ok(oldest) = ctx.store.oldest_awake(now).await {
        let age = oldest.map_or(0, |at| now.as_second() - at.as_second());
        metrics::gauge!("recurd_overdue_seconds").set(age as f64);
    }
    if let Ok((count, oldest)) = ctx.store.outbox_backlog().await {
        metrics::gauge!("recurd_outbox_pending").set(count as f64);
        let age = oldest.map_or(0, |at| now.as_second() - at.as_second());
        metrics::gauge!("recurd_outbox_oldest_seconds").set(age as f64);
    }
    if let Ok(attention) = ctx.store.attention().await {
        metrics::gauge!("recurd_needs_review").set(attention.needs_review as f64);
        metrics::gauge!("recurd_unknown_attempts").set(attention.unknown as f64);
    }
    if let Ok(halted) = ctx.store.halted().await {
        metrics::gauge!("recurd_halted").set(f64::from(u8::from(halted.is_some())));
    }
    if let Some(skew) = ctx.stripe.skew_secs() {
        metrics::gauge!("recurd_stripe_clock_skew_seconds").set(skew as f64);
    }
}
