//! A world in which everything goes wrong that can, run from a seed, with the invariants checked after every step.
//!
//! The real flows and a real SQLite database run against the sandbox, bank models, customers and operators. Tasks stop
//! at failpoints, before each request and before each answer; nothing but the simulator decides who goes on, who
//! dies, and what time it is. Two runs of one seed do the same.
//!
//! To read: [`sim`], then [`invariants`].

pub mod almanac;
pub mod bank;
pub mod bugs;
pub mod cards;
pub mod crowd;
mod database;
pub mod drive;
pub mod ending;
pub mod faults;
pub mod invariants;
mod judge;
mod keys;
pub mod lost;
pub mod mirror;
pub mod mishaps;
mod networks;
pub mod people;
pub mod post;
pub mod rng;
pub mod rows;
pub mod shrink;
pub mod sim;
pub mod stage;
pub mod ticks;
pub mod truth;
pub mod wire;
pub mod world;

use std::collections::{BTreeMap, BTreeSet};

use faults::Kind;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// How many days of trouble; some quiet days follow, after which everything must be settled.
    pub days: i64,
    /// Kinds of faults that do not strike.
    pub disabled: BTreeSet<Kind>,
    /// Strikes, by number, that do not happen.
    pub suppressed: BTreeSet<u32>,
    /// A deliberate mistake.
    pub bug: Option<bugs::Bug>,
    /// Write down what happens.
    pub traces: bool,
}

impl Options {
    /// The usual run of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            days: 90,
            disabled: BTreeSet::new(),
            suppressed: BTreeSet::new(),
            bug: None,
            traces: false,
        }
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub text: String,
}

/// What came of a run.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The broken promise, if one was broken.
    pub violation: Option<Violation>,
    /// How many steps were taken.
    pub steps: u64,
    /// The same for every run of the seed.
    pub digest: u64,
    /// How often each kind of fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often processes stopped at each failpoint, and died there.
    pub places: BTreeMap<&'static str, (u64, u64)>,
    /// How many charges ended in which state.
    pub states: BTreeMap<String, u64>,
    /// The strikes that happened or were suppressed.
    pub struck: u32,
    /// What happened, if it was asked for.
    #[serde(skip)]
    pub trace: Vec<String>,
}

/// Runs a seed on this thread.
///
/// # Panics
/// When the world cannot be set up: a mistake in the simulator.
#[must_use]
pub fn run(options: &Options) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    bugs::switch_on(options.bug);
    let outcome = runtime.block_on(sim::run(options));
    bugs::switch_on(None);
    crate::chance::seed(None);
    outcome
}
