//! One database of a run: what its journal tells, and when its processes have work.

use std::collections::BTreeMap;

use super::mirror::{Mirror, Touched};
use super::stage;
use crate::flows::Job;
use crate::store::Store;
use crate::store::journal::Wake;

/// See the module.
pub(super) struct Database {
    pub(super) store: Store,
    pub(super) mirror: Mirror,
    /// Ticks that are planned, Unix milliseconds.
    pub(super) planned: BTreeMap<Job, i64>,
    /// When each job ran last, Unix milliseconds.
    pub(super) ticked: BTreeMap<Job, i64>,
    pub(super) planned_at_writes: Option<u64>,
    /// When each job has work next.
    pub(super) wakes: Vec<Wake>,
    wakes_at_writes: Option<u64>,
    checked_at_writes: Option<u64>,
    /// Since when the witness shows what this database does not know, Unix milliseconds.
    pub(super) strange_since_ms: Option<i64>,
}

impl Database {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            mirror: Mirror::default(),
            planned: BTreeMap::new(),
            ticked: BTreeMap::new(),
            planned_at_writes: None,
            wakes: Vec::new(),
            wakes_at_writes: None,
            checked_at_writes: None,
            strange_since_ms: None,
        }
    }

    /// Takes in what was committed since the last look.
    pub(super) async fn learn(&mut self, touched: &mut Touched) {
        let writes = Some(self.store.journal_writes());
        if writes == self.checked_at_writes {
            return;
        }
        let changes = self.store.changes(self.mirror.seq).await.unwrap_or_default();
        self.checked_at_writes = writes;
        stage::with(|stage| {
            for change in &changes {
                stage.stir(&change.row);
                stage.note(|| format!("    {} {}", change.kind, change.row));
            }
        });
        self.mirror.learn(changes, stage::now_ms(), touched);
    }

    /// Asks when each job has work next, if anything was written since it was last asked.
    pub(super) async fn look_for_work(&mut self) {
        let writes = Some(self.store.waking_writes());
        if self.wakes_at_writes != writes {
            self.wakes = self.store.wakes().await.unwrap_or_default();
            self.wakes_at_writes = writes;
        }
    }

    /// Whether something was written since ticks were last planned, which they are from now on.
    pub(super) fn needs_a_plan(&mut self) -> bool {
        let writes = Some(self.store.waking_writes());
        let needs = self.planned_at_writes != writes;
        self.planned_at_writes = writes;
        needs
    }

    /// Whether Stripe may know more than this database.
    pub(super) fn is_behind(&self) -> bool {
        self.strange_since_ms.is_some()
            || self.mirror.instance.as_ref().is_some_and(|one| one.behind.is_some())
    }

    /// Compares what the witness shows with what was ever committed here.
    pub(super) fn see_witness(&mut self) {
        let Some(witness) = self.mirror.instance.as_ref().and_then(|one| one.witness.clone()) else { return };
        let shown = stage::with(|stage| stage.shown_nonce(&witness));
        let is_known = shown.is_none_or(|nonce| self.mirror.nonces.contains(&nonce));
        self.strange_since_ms =
            if is_known { None } else { Some(self.strange_since_ms.unwrap_or_else(stage::now_ms)) };
    }
}
