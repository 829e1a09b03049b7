//! One database of a run: what its journal tells, and when its processes have work.

use std::collections::BTreeMap;

use super::mirror::{Mirror, Touched};
use super::stage;
use crate::flows::Job;
use crate::store::Store;

/// See the module.
pub(super) struct Database {
    pub(super) store: Store,
    pub(super) mirror: Mirror,
    /// Ticks that are planned, Unix milliseconds.
    pub(super) planned: BTreeMap<Job, i64>,
    /// When each job ran last, Unix milliseconds.
    pub(super) ticked: BTreeMap<Job, i64>,
    /// Something has changed since ticks were last planned.
    pub(super) needs_a_plan: bool,
    /// Since when the witness shows what this database does not know, Unix milliseconds.
    pub(super) strange_since_ms: Option<i64>,
}

impl Database {
    /// A database of which so much is known.
    pub(super) fn new(store: Store, mirror: Mirror) -> Self {
        Self {
            store,
            mirror,
            planned: BTreeMap::new(),
            ticked: BTreeMap::new(),
            needs_a_plan: true,
            strange_since_ms: None,
        }
    }

    /// Takes in what was committed since the last look.
    pub(super) fn learn(&mut self, touched: &mut Touched) {
        let changes = self.store.take_changes();
        stage::with(|stage| {
            for change in &changes {
                stage.stir(&change.row);
                if change.kind == "wake" {
                    self.needs_a_plan = true;
                } else {
                    stage.note(|| format!("    {} {}", change.kind, change.row));
                }
            }
        });
        self.mirror.learn(changes, stage::now_ms(), touched);
    }

    /// Whether Stripe may know more than this database.
    pub(super) fn is_behind(&self) -> bool {
        self.strange_since_ms.is_some()
            || self.mirror.instance.as_ref().is_some_and(|one| one.behind.is_some())
    }

    /// Compares what the witness shows with what was ever committed here.
    pub(super) fn see_witness(&mut self) {
        let Some(witness) = self.mirror.instance.as_ref().and_then(|one| one.witness.clone()) else { return };
        let shown = stage::with(|stage| stage.shown_nonces(&witness)).unwrap_or_default();
        let is_known = shown.iter().all(|nonce| self.mirror.nonces.contains(nonce));
        self.strange_since_ms =
            if is_known { None } else { Some(self.strange_since_ms.unwrap_or_else(stage::now_ms)) };
    }
}
