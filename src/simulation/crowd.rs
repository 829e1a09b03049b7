//! Many seeds at once, on all cores.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Options, Outcome, run};

/// Runs `count` seeds from `from` on; `take` hears of each outcome, and ends the rest with `false`.
///
/// Each thread keeps to one core, and so does the thread on which its database works: they take turns, and a statement
/// that is handed to another core is longer on its way than at work.
///
/// # Panics
/// When a run does.
pub fn over_seeds(
    (from, count): (u64, u64),
    threads: Option<usize>,
    options: impl Fn(u64) -> Options + Sync,
    take: impl FnMut(Outcome) -> bool + Send,
) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, stop, take) = (AtomicU64::new(from), AtomicBool::new(false), Mutex::new(take));
    std::thread::scope(|scope| {
        for number in 0..threads.unwrap_or(cores) {
            let (next, stop, take, options) = (&next, &stop, &take, &options);
            scope.spawn(move || {
                keep_to_core(number);
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    let outcome = run(&options(seed));
                    if !(take.lock().unwrap_or_else(PoisonError::into_inner))(outcome) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// One of the cores that this process may use. Where the system does not let us, nothing is lost but time.
#[cfg(target_os = "linux")]
fn keep_to_core(number: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    if cores.is_empty() {
        return;
    }
    let mut own = CpuSet::new();
    own.set(cores[number % cores.len()]);
    let _ = sched_setaffinity(None, &own);
}

#[cfg(not(target_os = "linux"))]
fn keep_to_core(_number: usize) {}
