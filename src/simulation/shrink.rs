//! From a failing run to the fewest faults that still make it fail.

use std::collections::BTreeSet;

use super::faults::Kind;
use super::{Options, Outcome, run};

/// Limit: runs that one search may take.
const RUNS_MAX: u32 = 80;

/// A smaller run that breaks the same invariant.
#[must_use]
pub fn shrink(options: &Options, failed: &Outcome) -> (Options, Outcome) {
    let mut search = Search { best: options.clone(), outcome: failed.clone(), runs: 0 };
    search.kinds();
    search.strikes();
    let traced = Options { traces: true, ..search.best.clone() };
    let outcome = run(&traced);
    (search.best, outcome)
}

struct Search {
    best: Options,
    outcome: Outcome,
    runs: u32,
}

impl Search {
    /// Whether the run still fails with these options; if so they are the best so far.
    fn holds(&mut self, options: Options) -> bool {
        if self.runs >= RUNS_MAX {
            return false;
        }
        self.runs += 1;
        let outcome = run(&options);
        let invariant = |one: &Outcome| one.violation.as_ref().map(|violation| violation.invariant);
        let same = outcome.violation.is_some() && invariant(&outcome) == invariant(&self.outcome);
        if same {
            (self.best, self.outcome) = (options, outcome);
        }
        same
    }

    /// Switches off whole kinds that are not needed.
    fn kinds(&mut self) {
        for kind in Kind::ALL {
            if self.outcome.faults.contains_key(kind.as_str()) {
                let mut options = self.best.clone();
                options.disabled.insert(*kind);
                self.holds(options);
            }
        }
    }

    /// Switches off strikes by halves.
    fn strikes(&mut self) {
        let mut size = self.outcome.struck.next_power_of_two();
        while size >= 1 && self.runs < RUNS_MAX {
            let mut from = 1;
            while from <= self.outcome.struck && self.runs < RUNS_MAX {
                let range: BTreeSet<u32> = (from..from.saturating_add(size)).collect();
                if !range.is_subset(&self.best.suppressed) {
                    let mut options = self.best.clone();
                    options.suppressed.extend(range);
                    self.holds(options);
                }
                from = from.saturating_add(size);
            }
            size /= 2;
        }
    }
}

/// The command that runs this again.
#[must_use]
pub fn command(options: &Options) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "cargo run --profile simulation --features simulation --bin simulate -- --seed {} --days {} --trace",
        options.seed, options.days
    );
    if !options.disabled.is_empty() {
        let off: Vec<&str> = options.disabled.iter().map(|kind| kind.as_str()).collect();
        let _ = write!(text, " --without {}", off.join(","));
    }
    if !options.suppressed.is_empty() {
        let _ = write!(text, " --suppress {}", ranges(&options.suppressed));
    }
    if let Some(bug) = options.bug {
        let _ = write!(text, " --bug {}", bug.as_str());
    }
    text
}

fn ranges(numbers: &BTreeSet<u32>) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    parts.iter().map(|(from, to)| format!("{from}-{to}")).collect::<Vec<_>>().join(",")
}
