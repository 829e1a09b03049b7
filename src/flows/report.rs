//! What a run did.

use std::collections::BTreeMap;

use serde::Serialize;

/// Limit: this many sentences about what went wrong are kept; the rest is only counted.
const PROBLEMS_MAX: usize = 20;

/// The jobs, in the order in which `recurd run` goes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Apply Stripe's events.
    Receive,
    /// Ask after unfinished card pages.
    Enrol,
    /// Turn reached periods into charges.
    Materialize,
    /// Ask Stripe about what is unknown.
    Reconcile,
    /// Go the ladder's steps.
    Dun,
    /// Collect what is due.
    Collect,
    /// Send mails.
    Notify,
}

impl Job {
    /// All jobs in order.
    pub const ALL: [Self; 7] = [
        Self::Receive,
        Self::Enrol,
        Self::Materialize,
        Self::Reconcile,
        Self::Dun,
        Self::Collect,
        Self::Notify,
    ];

    /// The name in the configuration, in `--job` and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Enrol => "enrol",
            Self::Materialize => "materialize",
            Self::Reconcile => "reconcile",
            Self::Dun => "dun",
            Self::Collect => "collect",
            Self::Notify => "notify",
        }
    }
}

/// What one run of one job did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// How many items it took. Zero: nothing (more) to do.
    pub taken: u64,
    /// How many ended in which way.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Collected minor units by currency.
    pub collected_minor: BTreeMap<&'static str, i64>,
    /// What a person should know, the first few.
    pub problems: Vec<String>,
    /// How many problems there were in all.
    pub problem_count: u64,
    /// Why the run stopped before its work was done: nothing would have worked for anybody.
    pub stopped: Option<String>,
}

impl Report {
    /// Counts one outcome.
    pub fn count(&mut self, outcome: &'static str) {
        self.count_many(outcome, 1);
    }

    /// Counts several.
    pub fn count_many(&mut self, outcome: &'static str, count: u64) {
        *self.outcomes.entry(outcome).or_default() += count;
    }

    /// Adds collected money.
    pub fn collect(&mut self, amount: crate::billing::money::Money) {
        *self.collected_minor.entry(amount.currency().code()).or_default() += amount.minor();
    }

    /// Notes something a person should know.
    pub fn problem(&mut self, sentence: String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(sentence);
        }
    }

    /// Adds another run of the same job.
    pub fn merge(&mut self, other: Self) {
        self.taken += other.taken;
        for (outcome, count) in other.outcomes {
            self.count_many(outcome, count);
        }
        for (currency, minor) in other.collected_minor {
            *self.collected_minor.entry(currency).or_default() += minor;
        }
        self.problem_count += other.problem_count;
        let room = PROBLEMS_MAX.saturating_sub(self.problems.len());
        self.problems.extend(other.problems.into_iter().take(room));
        self.stopped = self.stopped.take().or(other.stopped);
    }

    /// How many ended in this way.
    #[must_use]
    pub fn outcome(&self, name: &str) -> u64 {
        self.outcomes.get(name).copied().unwrap_or(0)
    }

    /// Whether a person should look.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        self.problem_count > 0 || self.stopped.is_some()
    }
}
