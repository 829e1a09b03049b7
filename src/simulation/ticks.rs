//! Wake-ups: when the database says that a job has work, some replica ticks, sometimes two.

use super::mirror::Mirror;
use super::sim::{Action, End, Sim};
use super::stage;
use super::world::Replica;
use crate::flows::Job;

/// How long a job waits between two ticks at least.
fn pause_ms(job: Job, mirror: &Mirror, is_out: bool) -> i64 {
    let is_behind = mirror.instance.as_ref().is_some_and(|one| one.behind.is_some());
    match job {
        // It asks for every open card page each time.
        Job::Enrol => 3 * 3_600_000,
        // It has work all the time, and does not begin.
        Job::Collect if mirror.halted_ms.is_some() => 20 * 60_000,
        Job::Dun if is_behind => 20 * 60_000,
        // It comes no further.
        _ if is_out => 15 * 60_000,
        _ => 60_000,
    }
}

/// A clock may be ahead of the truth, so work may be found early.
const EARLY_MS: i64 = 60_000;

impl Sim {
    /// Plans a tick for each job that has work, on each database that has changed.
    pub(super) fn plan(&mut self) {
        self.plan_on(false);
        if self.copy.is_some() {
            self.plan_on(true);
        }
    }

    fn plan_on(&mut self, is_copy: bool) {
        let database = if is_copy { self.copy.as_mut() } else { Some(&mut self.main) };
        let Some(database) = database else { return };
        if !std::mem::take(&mut database.needs_a_plan) {
            return;
        }
        let up = self.replicas.iter().filter(|one| one.is_copy == is_copy).map(Replica::up_from_ms);
        let up_ms = up.min().unwrap_or(0);
        let is_out = stage::with(|stage| stage.is_out());
        let mut ticks = Vec::new();
        for (name, at) in database.mirror.wakes() {
            let Some(job) = Job::ALL.into_iter().find(|job| job.as_str() == name) else { continue };
            let pause = self.rng.between(0, 5_000);
            let earliest =
                database.ticked.get(&job).map_or(0, |at| at + pause_ms(job, &database.mirror, is_out));
            let at = (at * 1000).max(earliest).max(stage::now_ms()).max(up_ms) + pause;
            if database.planned.get(&job).is_none_or(|planned| *planned > at) {
                database.planned.insert(job, at);
                ticks.push((at, job));
            }
        }
        ticks.into_iter().for_each(|(at, job)| self.at(at, Action::Tick(job, is_copy)));
    }

    pub(super) async fn tick(&mut self, job: Job, is_copy: bool) {
        let now_ms = stage::now_ms();
        let database = if is_copy { self.copy.as_mut() } else { Some(&mut self.main) };
        let Some(database) = database.filter(|one| one.planned.get(&job) == Some(&now_ms)) else { return };
        database.planned.remove(&job);
        database.ticked.insert(job, now_ms);
        // The next plan must not take this tick for done.
        database.needs_a_plan = true;
        let wakes = database.mirror.wakes();
        if wakes.get(job.as_str()).is_none_or(|at| at * 1000 > now_ms + EARLY_MS) {
            return;
        }
        let many = if self.rng.chance(2500) { 2 } else { 1 };
        for _ in 0..many {
            let free: Vec<usize> = (0..self.replicas.len())
                .filter(|at| self.replicas[*at].is_copy == is_copy)
                .filter(|at| self.replicas[*at].is_up(now_ms) && !self.is_busy(*at, job))
                .collect();
            if free.is_empty() {
                return;
            }
            let at = *self.rng.pick(&free);
            stage::note(|| format!("{} on replica {at}", job.as_str()));
            self.spawn(at, Some(job), |ctx| {
                Box::pin(async move {
                    // A batch that was not full was the last.
                    let batch = ctx.config.limits.batch;
                    for _ in 0..50 {
                        match ctx.run_once(job, batch).await {
                            Ok(report) => {
                                let (taken, done) = (report.taken, &report.outcomes);
                                stage::note(|| format!("  {}: {taken} taken, {done:?}", job.as_str()));
                                if report.taken < batch as u64 || report.stopped.is_some() {
                                    break;
                                }
                            }
                            Err(error) => {
                                stage::note(|| format!("  {} failed: {error}", job.as_str()));
                                break;
                            }
                        }
                    }
                    End::Job
                })
            })
            .await;
        }
    }

    /// The tick that finds cards which expire: it has work without any row that says so.
    pub(super) async fn look_at_cards(&mut self) {
        let Some(at) = self.any_replica() else { return };
        self.spawn(at, Some(Job::Enrol), |ctx| {
            Box::pin(async move {
                let swept = ctx.run_once(Job::Enrol, ctx.config.limits.batch).await;
                stage::note(|| format!("  the look for cards: {swept:?}"));
                End::Job
            })
        })
        .await;
    }

    /// A replica that takes new work. People and events find their way to the database that counts.
    pub(super) fn any_replica(&mut self) -> Option<usize> {
        let now_ms = stage::now_ms();
        let up: Vec<usize> = (0..self.replicas.len())
            .filter(|at| self.replicas[*at].is_up(now_ms) && !self.replicas[*at].is_copy)
            .collect();
        (!up.is_empty()).then(|| *self.rng.pick(&up))
    }
}
