//! The simulator over many seeds. How many: `RECURD_SIMULATION_SEEDS` (500), from `RECURD_SIMULATION_FROM` (1), within
//! `RECURD_SIMULATION_SECS` (600).

use std::time::{Duration, Instant};

use recurd::simulation::{Options, Outcome, crowd, run, shrink};

/// A line of progress after so many seeds.
const TELL_EVERY: u64 = 50;

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn no_seed_breaks_a_promise() {
    let (from, count) = (number("RECURD_SIMULATION_FROM", 1), number("RECURD_SIMULATION_SEEDS", 500));
    let limit = Duration::from_secs(number("RECURD_SIMULATION_SECS", 600));
    let (mut done, mut failed) = (0, None);
    let begun = Instant::now();
    crowd::over_seeds((from, count), None, Options::new, |outcome| {
        if outcome.violation.is_some() {
            failed = Some(outcome);
        }
        done += 1;
        if done % TELL_EVERY == 0 {
            eprintln!("{done} of {count} seeds after {} s", begun.elapsed().as_secs());
        }
        failed.is_none() && begun.elapsed() < limit
    });
    let Some(failed) = failed else {
        assert!(done == count, "only {done} of {count} seeds in {} s", limit.as_secs());
        return;
    };
    let (options, outcome) = shrink::shrink(&Options::new(failed.seed), &failed);
    let last = outcome.trace.iter().rev().take(200).rev().cloned().collect::<Vec<_>>().join("\n");
    panic!("{last}\nseed {}: {:?}\n{}", failed.seed, failed.violation, shrink::command(&options));
}

/// Six at once, so that threads get in each other's way: whatever depends on how fast one is shows.
#[test]
fn the_same_seed_does_the_same_each_time() {
    const TIMES: usize = 6;
    for seed in [3, 384, 394] {
        let options = Options { days: 45, traces: true, ..Options::new(seed) };
        let runs: Vec<Outcome> = std::thread::scope(|scope| {
            let running: Vec<_> = (0..TIMES).map(|_| scope.spawn(|| run(&options))).collect();
            running.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let first = &runs[0];
        assert!(first.steps > 1000, "seed {seed} took {} steps", first.steps);
        for other in &runs[1..] {
            let at = first.trace.iter().zip(&other.trace).position(|(one, two)| one != two);
            let lines = at.map(|at| (&first.trace[at], &other.trace[at]));
            assert_eq!(lines, None, "seed {seed} went two ways");
            assert_eq!((other.digest, other.steps), (first.digest, first.steps), "seed {seed}");
        }
    }
}
