//! Old copies of the database: one comes back in its place, or runs beside it, until people have noticed.

use std::path::PathBuf;

use super::database::Database;
use super::faults::Kind;
use super::people::Act;
use super::rng::Rng;
use super::sim::{End, Sim};
use super::stage;
use crate::flows::{FlowError, recover};
use crate::store::Store;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

impl Sim {
    /// The nightly backup, written only if it is one that will be used: days later in the database's place, or soon beside it.
    pub(super) async fn back_up(&mut self) {
        let restore = |rng: &mut Rng| {
            let wait = if rng.chance(5000) { rng.between(0, DAY_MS) } else { rng.between(0, 40 * DAY_MS) };
            (wait, rng.chance(3000))
        };
        let restored = stage::with(|stage| stage.faults.strike(Kind::Restore).map(restore));
        let copied =
            stage::with(|stage| stage.faults.strike(Kind::Fork).map(|rng| rng.between(0, 2 * DAY_MS)));
        if let Some((wait, stays)) = restored
            && let Some(file) = self.copy_file().await
        {
            self.act_in(wait, Act::Restore { file, stays });
        }
        if let Some(wait) = copied
            && let Some(file) = self.copy_file().await
        {
            self.act_in(wait, Act::Fork { file });
        }
    }

    /// Writes the database to a new file: its number.
    async fn copy_file(&mut self) -> Option<usize> {
        // What was committed since the last step stands in the copy too.
        let mut touched = stage::with(|stage| std::mem::take(&mut stage.touched));
        self.main.learn(&mut touched);
        stage::with(|stage| stage.touched = touched);
        let number = self.files.len();
        self.main.store.copy_to(&self.file(number)).await.ok()?;
        self.files.push(self.main.mirror.clone());
        Some(number)
    }

    fn file(&self, number: usize) -> PathBuf {
        self.dir.join(format!("copy-{number}.db"))
    }

    async fn open(&self, number: usize) -> Option<Database> {
        let store = Store::open(&format!("sqlite://{}", self.file(number).display())).await.ok()?;
        store.keep_journal().await.ok()?;
        Some(Database::new(store, self.files.get(number)?.clone()))
    }

    /// A backup takes the database's place. Where the old one `stays`, somebody has forgotten to stop its processes.
    pub(super) async fn restore(&mut self, file: usize, stays: bool) {
        let Some(restored) = self.open(file).await.filter(|_| self.copy.is_none()) else { return };
        stage::note(|| {
            format!(
                "  fault: a backup is restored, the old database {}",
                if stays { "runs on" } else { "is gone" }
            )
        });
        let old = std::mem::replace(&mut self.main, restored);
        self.lost_one();
        for replica in 0..self.replicas.len() {
            self.kill(replica);
            self.restart(replica, stage::now_ms() + MINUTE_MS).await;
        }
        if stays {
            self.copy = Some(old);
            self.start_copy().await;
        } else {
            old.store.close().await;
            self.past.push(old.mirror);
        }
        self.somebody_notices();
    }

    /// Somebody starts a second set of processes on a copy of the database.
    pub(super) async fn fork(&mut self, file: usize) {
        let Some(copy) = self.open(file).await.filter(|_| self.copy.is_none()) else { return };
        stage::note(|| "  fault: a copy of the database runs beside it".to_owned());
        self.copy = Some(copy);
        self.lost_one();
        self.start_copy().await;
        self.somebody_notices();
    }

    fn lost_one(&mut self) {
        let now_ms = stage::now_ms();
        stage::with(|stage| stage.truth.lose(now_ms));
    }

    async fn start_copy(&mut self) {
        for _ in 0..self.people.rng.between(1, 2) {
            let skew_ms = self.people.rng.between(-55_000, 55_000);
            let Ok(replica) = self.start_replica(skew_ms, true).await else { return };
            self.replicas.push(replica);
        }
        let wait = self.people.rng.between(10 * MINUTE_MS, 10 * DAY_MS);
        self.act_in(wait, Act::StopCopy);
    }

    /// The copy stops, and stays so.
    pub(super) async fn stop_copy(&mut self) {
        let Some(copy) = self.copy.take() else { return };
        stage::note(|| "  the copy of the database is stopped".to_owned());
        for replica in 0..self.replicas.len() {
            if self.replicas[replica].is_copy {
                self.kill(replica);
            }
        }
        self.replicas.retain(|one| !one.is_copy);
        // What it did until now, nobody knows.
        self.lost_one();
        copy.store.close().await;
        self.past.push(copy.mirror);
    }

    /// An operator looks some hours later, or some days: longer than any key is good for.
    fn somebody_notices(&mut self) {
        let rng = &mut self.people.rng;
        let wait =
            if rng.chance(6000) { rng.between(HOUR_MS, DAY_MS) } else { rng.between(DAY_MS, 10 * DAY_MS) };
        self.act_in(wait, Act::Recover);
    }

    /// An operator asks what a recovery would do.
    pub(super) async fn plan_recovery(&mut self) {
        // As the message says: first the copy is stopped.
        if self.main.is_behind() {
            self.stop_copy().await;
        }
        let Some(at) = self.any_replica() else { return self.act_in(HOUR_MS, Act::Recover) };
        self.spawn(at, None, |ctx| {
            Box::pin(async move {
                let plan = recover::plan(&ctx, |_| {}).await;
                stage::note(|| format!("  the plan is {plan:?}"));
                match plan {
                    Ok(None) => End::Done,
                    Ok(Some(plan)) => End::Planned(Some(plan.hash)),
                    Err(_) => End::Planned(None),
                }
            })
        })
        .await;
    }

    /// There is a plan, or there was none to be had.
    pub(super) fn planned_recovery(&mut self, hash: Option<String>) {
        let rng = &mut self.people.rng;
        let wait = if rng.chance(7000) {
            rng.between(MINUTE_MS, 20 * MINUTE_MS)
        } else {
            rng.between(HOUR_MS, DAY_MS)
        };
        match hash {
            Some(hash) => self.act_in(wait, Act::Agree { hash }),
            None => self.act_in(wait, Act::Recover),
        }
    }

    /// An operator agrees to a plan. If it is another one by then, they look again.
    pub(super) async fn confirm_recovery(&mut self, hash: String) {
        let Some(at) = self.any_replica() else { return self.act_in(HOUR_MS, Act::Recover) };
        self.spawn(at, None, |ctx| {
            Box::pin(async move {
                let done: Result<_, FlowError> = recover::carry_out(&ctx, &hash, "operator", |_| {}).await;
                stage::note(|| format!("  recovery {hash}: {done:?}"));
                if done.is_ok() { End::Done } else { End::Planned(None) }
            })
        })
        .await;
    }
}
