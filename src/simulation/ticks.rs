//! Wake-ups: when the database says that a job has work, some replica ticks, sometimes two.

use super::sim::{Action, End, Sim};
use super::stage;
use super::world::Replica;
use crate::flows::Job;

/// How long a job waits between two ticks at least.
fn pause_ms(job: Job) -> i64 {
    match job {
        // It asks for every open card page each time.
        Job::Enrol => 3 * 3_600_000,
        _ => 60_000,
    }
}

/// A clock may be ahead of the truth, so work may be found early.
const EARLY_MS: i64 = 60_000;

impl Sim {
    /// Plans a tick for each job that has work, if the database has changed.
    pub(super) async fn plan(&mut self) {
        let writes = Some(self.store.waking_writes());
        if self.planned_at_writes == writes {
            return;
        }
        self.planned_at_writes = writes;
        self.look_for_work().await;
        let up_ms = self.replicas.iter().map(Replica::up_from_ms).min().unwrap_or(0);
        for wake in self.wakes.clone() {
            let Some(job) = Job::ALL.into_iter().find(|job| job.as_str() == wake.job) else { continue };
            let pause = self.rng.between(0, 5_000);
            let earliest = self.ticked.get(&job).map_or(0, |at| at + pause_ms(job));
            let at = (wake.at * 1000).max(earliest).max(stage::now_ms()).max(up_ms) + pause;
            if self.planned.get(&job).is_none_or(|planned| *planned > at) {
                self.planned.insert(job, at);
                self.at(at, Action::Tick(job));
            }
        }
    }

    pub(super) async fn tick(&mut self, job: Job) {
        let now_ms = stage::now_ms();
        if self.planned.get(&job) != Some(&now_ms) {
            return;
        }
        self.planned.remove(&job);
        self.ticked.insert(job, now_ms);
        // The next plan must not take this tick for done.
        self.planned_at_writes = None;
        self.look_for_work().await;
        if !self.wakes.iter().any(|wake| wake.job == job.as_str() && wake.at * 1000 <= now_ms + EARLY_MS) {
            return;
        }
        let many = if self.rng.chance(2500) { 2 } else { 1 };
        for _ in 0..many {
            let free: Vec<usize> = (0..self.replicas.len())
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
                            Ok(report) if report.taken >= batch as u64 && report.stopped.is_none() => {}
                            Ok(_) => break,
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

    /// Asks the database when each job has work next, if anything was written since it was last asked.
    pub(super) async fn look_for_work(&mut self) {
        let writes = Some(self.store.waking_writes());
        if self.wakes_at_writes != writes {
            self.wakes = self.store.wakes().await.unwrap_or_default();
            self.wakes_at_writes = writes;
        }
    }

    /// A replica that takes new work.
    pub(super) fn any_replica(&mut self) -> Option<usize> {
        let now_ms = stage::now_ms();
        let up: Vec<usize> = (0..self.replicas.len()).filter(|at| self.replicas[*at].is_up(now_ms)).collect();
        (!up.is_empty()).then(|| *self.rng.pick(&up))
    }
}
