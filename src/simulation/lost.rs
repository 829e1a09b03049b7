//! Old copies of the database that come back.

use super::faults::Kind;
use super::mirror::{Mirror, Touched};
use super::sim::Sim;
use super::stage;
use crate::store::Store;

/// Limit: an older copy is not kept.
const BACKUPS_MAX: usize = 40;

impl Sim {
    /// The nightly backup; sometimes an old one takes the database's place.
    pub(super) async fn back_up(&mut self) {
        let disabled = stage::with(|stage| stage.faults.is_disabled(Kind::Restore));
        if disabled {
            return;
        }
        let file = self.dir.join(format!("backup-{}.db", stage::now_ms()));
        if self.store.copy_to(&file).await.is_ok() {
            self.backups.push(file);
        }
        if self.backups.len() > BACKUPS_MAX {
            let _ = std::fs::remove_file(self.backups.remove(0));
        }
        let count = self.backups.len();
        let chosen =
            stage::with(|stage| stage.faults.strike(Kind::Restore).map(|rng| rng.below(count.max(1))));
        if let Some(chosen) = chosen {
            self.restore(chosen).await;
        }
    }

    async fn restore(&mut self, chosen: usize) {
        let Some(backup) = self.backups.get(chosen).cloned() else { return };
        stage::note(|| format!("  fault: {} is restored", backup.display()));
        let file = self.dir.join(format!("restored-{}.db", stage::now_ms()));
        if std::fs::copy(&backup, &file).is_err() {
            return;
        }
        let Ok(store) = Store::open(&format!("sqlite://{}", file.display())).await else { return };
        let old = std::mem::replace(&mut self.store, store);
        for replica in 0..self.replicas.len() {
            self.kill(replica);
            self.restart(replica, stage::now_ms() + 60_000).await;
        }
        old.close().await;
        (self.planned_at_writes, self.checked_at_writes) = (None, None);
        self.mirror = Mirror::default();
        let changes = self.store.changes(0).await.unwrap_or_default();
        self.wakes_at_writes = None;
        self.mirror.learn(changes, stage::now_ms(), &mut Touched::default());
        stage::with(|stage| stage.touched = Touched::default());
    }
}
