//! `recurd run`: everything that is due, once.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Exit, Global, jobs, setup, show};
use crate::billing::charge::Work;
use crate::daemon::StopSignals;
use crate::demo::shown;
use crate::flows::{Ctx, Job, Report};
use crate::store::UnderWay;

/// How often a run that waits looks whether there is work again.
const POLL: Duration = Duration::from_millis(500);

/// Arguments of `recurd run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Only this job; may be given several times.
    #[arg(long = "job", value_name = "JOB", value_enum)]
    jobs: Vec<Job>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// How long to stay for answers that nobody heard and for what another process holds, such as 0s or 10m.
    #[arg(long, value_name = "TIME", default_value = "90s")]
    wait: SignedDuration,
}

#[derive(Default, Serialize)]
struct Answer {
    jobs: BTreeMap<&'static str, Report>,
    collected_minor: BTreeMap<String, i64>,
    seconds: f64,
    /// What is left, because nobody can take it up now.
    under_way: UnderWay,
    /// A signal ended the run before everything was done.
    interrupted: bool,
}

pub(super) async fn run(global: &Global, args: &RunArgs) -> Result<Exit> {
    let ctx = setup::ctx(global).await?;
    if args.dry_run {
        return dry_run(global, &ctx, &jobs(&args.jobs)).await;
    }
    let started = std::time::Instant::now();
    let mut answer = Answer::default();
    let mut signals = StopSignals::new()?;
    let stop = Arc::new(AtomicBool::new(false));
    let jobs = jobs(&args.jobs);
    let finished = {
        let mut work = pin!(stay(&ctx, &jobs, args.wait, !global.json, &stop, &mut answer));
        tokio::select! {
            done = &mut work => Some(done),
            () = signals.next() => {
                stop.store(true, Ordering::SeqCst);
                eprintln!("recurd: stopping: nothing new is claimed, what is in flight finishes");
                signals.grace(work).await
            }
        }
    };
    finished.transpose()?;
    answer.seconds = started.elapsed().as_secs_f64();
    answer.interrupted = stop.load(Ordering::SeqCst);
    let person = answer.jobs.values().any(Report::needs_a_person);
    if global.json {
        show::json(&answer);
    } else {
        print(&answer);
    }
    ctx.store.close().await;
    Ok(if person { Exit::Person } else { Exit::Done })
}

/// Goes through the jobs, and again when what could not be finished may be taken up, or another process is done: who
/// leaves that to the next run leaves it for a day, perhaps.
async fn stay(
    ctx: &Ctx,
    jobs: &[Job],
    wait: SignedDuration,
    bar: bool,
    stop: &Arc<AtomicBool>,
    answer: &mut Answer,
) -> Result<()> {
    let no_later_than = ctx.now().saturating_add(wait)?;
    work(ctx, jobs, bar, stop, answer).await?;
    while jobs.contains(&Job::Reconcile)
        && answer.jobs.values().all(|report| report.stopped.is_none())
        && something_wakes(ctx, no_later_than, bar, stop).await?
    {
        // What could not be taken up now would not be the next time either.
        if work(ctx, jobs, bar, stop, answer).await? == 0 {
            break;
        }
    }
    answer.under_way = ctx.store.under_way(ctx.now()).await?;
    Ok(())
}

/// Waits until there is work again. `false`: there will not be any until then, or `stop` is set.
async fn something_wakes(
    ctx: &Ctx,
    no_later_than: Timestamp,
    bar: bool,
    stop: &Arc<AtomicBool>,
) -> Result<bool> {
    let spinner = show::spinner(!bar, "waiting for what could not be finished");
    let before = ctx.store.under_way(ctx.now()).await?;
    let mut now = before;
    let woke = loop {
        let next = [now.taken_up_at, now.held_until].into_iter().flatten().min();
        let others_are_done = before.held > 0 && now.held == 0;
        if others_are_done || next.is_some_and(|at| at <= ctx.now().as_second()) {
            break true;
        }
        if stop.load(Ordering::SeqCst) || next.is_none_or(|at| at > no_later_than.as_second()) {
            break false;
        }
        ctx.clock.sleep(POLL).await;
        now = ctx.store.under_way(ctx.now()).await?;
    };
    spinner.finish_and_clear();
    Ok(woke)
}

/// Goes through the jobs once, until nothing is left or `stop` is set. How much was taken up.
async fn work(
    ctx: &Ctx,
    jobs: &[Job],
    bar: bool,
    stop: &Arc<AtomicBool>,
    answer: &mut Answer,
) -> Result<u64> {
    let mut taken = 0;
    for job in jobs {
        let report = drain(ctx, *job, bar, stop).await?;
        for (currency, minor) in &report.collected_minor {
            *answer.collected_minor.entry((*currency).to_owned()).or_default() += minor;
        }
        taken += report.taken;
        // Also after a halt: the mails that are left tell the operator of it.
        answer.jobs.entry(job.as_str()).or_default().merge(report);
        if stop.load(Ordering::SeqCst) {
            break;
        }
    }
    Ok(taken)
}

/// Runs one job until nothing is left or `stop` is set, and records the run.
async fn drain(ctx: &Ctx, job: Job, bar: bool, stop: &Arc<AtomicBool>) -> Result<Report> {
    let id = ctx.store.begin_run(job.as_str(), ctx.now()).await?;
    ctx.heartbeat().await?;
    let bar = progress(ctx, job, bar).await?;
    let (shown, stop) = (bar.clone(), stop.clone());
    let (all, failed) = ctx
        .drain(job, move |report| {
            shown.inc(report.taken);
            !stop.load(Ordering::SeqCst)
        })
        .await;
    bar.finish_and_clear();
    let text = serde_json::to_string(&all).unwrap_or_default();
    let error = failed.as_ref().map(ToString::to_string);
    ctx.store.finish_run(id, &text, error.as_deref(), ctx.now()).await?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(all),
    }
}

async fn progress(ctx: &Ctx, job: Job, bar: bool) -> Result<indicatif::ProgressBar> {
    if !bar || !std::io::stderr().is_terminal() {
        return Ok(indicatif::ProgressBar::hidden());
    }
    let length = match job {
        Job::Materialize => ctx.store.count_due_subscriptions(ctx.now()).await?,
        Job::Collect => ctx.store.count_awake(Work::Collect, ctx.now()).await?,
        Job::Dun => ctx.store.count_awake(Work::Dun, ctx.now()).await?,
        Job::Reconcile => ctx.store.count_awake(Work::Reconcile, ctx.now()).await?,
        Job::Receive | Job::Enrol | Job::Notify => 0,
    };
    if length == 0 {
        return Ok(indicatif::ProgressBar::hidden());
    }
    Ok(show::progress(length.unsigned_abs(), job.as_str()))
}

fn print(answer: &Answer) {
    let done = Job::ALL.into_iter().filter_map(|job| answer.jobs.get_key_value(job.as_str()));
    let rows = done.map(|(job, report)| {
        let outcomes: Vec<String> =
            report.outcomes.iter().map(|(name, count)| format!("{count} {name}")).collect();
        [(*job).to_owned(), report.taken.to_string(), outcomes.join(", ")]
    });
    say!("{}", show::table(["job", "taken", "what became of it"], rows));
    let sums = shown(&answer.collected_minor);
    say!(
        "collected {} in {:.1} s",
        if sums.is_empty() { "nothing".to_owned() } else { sums },
        answer.seconds
    );
    let left = &answer.under_way;
    if let Some(until) = left.held_until {
        say!(
            "{} charges are held by another process until {} at the latest: run again then",
            left.held,
            show::instant(until)
        );
    }
    if let Some(at) = left.taken_up_at {
        say!(
            "{} attempts could not be finished yet: run again from {} on",
            left.unfinished,
            show::instant(at)
        );
    }
    if answer.interrupted {
        say!("stopped by a signal: the next run goes on from here");
    }
    for (job, report) in &answer.jobs {
        for problem in &report.problems {
            say!("{job}: {problem}");
        }
        if let Some(why) = &report.stopped {
            say!("{job} stopped: {why}");
        }
    }
}

async fn dry_run(global: &Global, ctx: &Ctx, jobs: &[Job]) -> Result<Exit> {
    let now = ctx.now();
    let mut due = BTreeMap::new();
    for job in jobs {
        let count = match job {
            Job::Materialize => ctx.store.count_due_subscriptions(now).await?,
            Job::Collect => ctx.store.count_awake(Work::Collect, now).await?,
            Job::Dun => ctx.store.count_awake(Work::Dun, now).await?,
            Job::Reconcile => ctx.store.count_awake(Work::Reconcile, now).await?,
            Job::Notify => ctx.store.outbox_backlog().await?.0,
            Job::Receive | Job::Enrol => continue,
        };
        due.insert(job.as_str(), count);
    }
    if global.json {
        show::json(&due);
    } else {
        let counted = Job::ALL.into_iter().filter_map(|job| due.get_key_value(job.as_str()));
        let rows = counted.map(|(job, count)| [(*job).to_owned(), count.to_string()]);
        say!("{}\nNothing was done.", show::table(["job", "would take"], rows));
    }
    Ok(Exit::Done)
}
