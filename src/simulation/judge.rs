//! After each step: what it changed, on each database, and which invariants that touches.

use super::database::Database;
use super::mirror::Touched;
use super::sim::Sim;
use super::stage;
use super::{Violation, invariants};

impl Sim {
    /// Learns what the last step changed, and checks every invariant that may be touched by it.
    pub(super) fn check(&mut self) -> Result<(), Violation> {
        let fresh = stage::with(|stage| {
            let changes = stage.sandbox.take_changes();
            let now_ms = stage.now_ms();
            stage.truth.learn(changes, now_ms)
        });
        self.collect_events();
        let mut touched = stage::with(|stage| std::mem::take(&mut stage.touched));
        touched.charges.extend(fresh.charges);
        let mut of_copy = touched.part_of_copy();
        touched.tries.extend(fresh.tries);
        self.main.learn(&mut touched);
        std::mem::take(&mut touched.unknown).into_iter().for_each(|charge| self.worry(charge));
        if let Some(copy) = &mut self.copy {
            copy.learn(&mut of_copy);
        }
        self.look_at_witness(&touched, &of_copy);
        if let Some(copy) = &self.copy {
            self.judge(copy, true, &of_copy)?;
        }
        self.judge(&self.main, false, &touched)
    }

    fn judge(&self, database: &Database, is_copy: bool, touched: &Touched) -> Result<(), Violation> {
        let others = self.copy.iter().chain([&self.main]).map(|one| &one.mirror).chain(&self.past).collect();
        let bank = self.bank.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        stage::with(|stage| {
            let sight = invariants::Sight {
                mirror: &database.mirror,
                everybody: others,
                is_copy,
                is_alone: self.copy.is_none() && !database.is_behind(),
                strange_since_ms: database.strange_since_ms,
                truth: &stage.truth,
                bank: &bank,
                now_ms: stage.now_ms(),
            };
            invariants::check(&sight, touched)
        })
    }

    /// Who may be behind is asked before each request is judged.
    fn look_at_witness(&mut self, touched: &Touched, of_copy: &Touched) {
        if touched.posts.is_empty() && of_copy.posts.is_empty() {
            return;
        }
        if self.copy.is_some() || !self.past.is_empty() {
            self.main.see_witness();
            self.copy.iter_mut().for_each(Database::see_witness);
        }
    }
}
