//! Who this process is, so that others on the machine can tell that it died.
//!
//! A lease carries its worker's name. Whoever starts on the same machine may end the leases of processes that live no
//! more, instead of waiting until they run out. A wrong guess costs no safety: a lease only keeps two workers from doing
//! the same work. Off Linux, and for another machine or container, nobody is ever called dead.

use std::path::Path;

/// A name for a worker of this process: random, and then where the process can be found.
#[must_use]
pub fn worker_name() -> String {
    let random = crate::chance::uuid().simple().to_string();
    match Place::here() {
        Some(here) => format!("worker-{random}@{}:{}:{}", here.machine, here.process, here.started),
        None => format!("worker-{random}"),
    }
}

/// Whether the process of this worker surely lives no more.
#[must_use]
pub fn is_dead(worker: &str) -> bool {
    let (Some(it), Some(here)) = (Place::of(worker), Place::here()) else { return false };
    it.machine == here.machine && start_of(&it.process) != Some(it.started)
}

#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// The boot, and the namespace in which process numbers mean something.
    machine: String,
    process: String,
    /// Clock ticks since the boot: numbers are given to other processes later.
    started: String,
}

impl Place {
    fn here() -> Option<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
        let namespace: String = namespace.to_str()?.chars().filter(char::is_ascii_digit).collect();
        let process = std::process::id().to_string();
        let started = start_of(&process)?;
        Some(Self { machine: format!("{}.{namespace}", boot.trim()), process, started })
    }

    fn of(worker: &str) -> Option<Self> {
        let mut parts = worker.split_once('@')?.1.split(':').map(str::to_owned);
        let place = Self { machine: parts.next()?, process: parts.next()?, started: parts.next()? };
        (parts.next().is_none() && place.process.parse::<u32>().is_ok()).then_some(place)
    }
}

/// When a process began, if it lives. One that died and whose parent has not asked yet lives no more.
fn start_of(process: &str) -> Option<String> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(process).join("stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    let state = rest.next()?;
    // proc_pid_stat(5): the state is the 3rd field, the start the 22nd.
    let started = rest.nth(18)?;
    (!matches!(state, "Z" | "X")).then(|| started.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn who_lives_is_not_dead_and_who_died_is() {
        assert!(!is_dead(&worker_name()), "we live");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (here, process) = (Place::here().unwrap(), child.id().to_string());
        let started = start_of(&process).unwrap();
        let name = format!("worker-x@{}:{process}:{started}", here.machine);
        assert!(!is_dead(&name), "it lives");
        assert!(is_dead(&format!("worker-x@{}:{process}:1", here.machine)), "its number is another's now");
        child.kill().unwrap();
        while !is_dead(&name) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(is_dead(&name), "nobody has its number");
    }

    #[test]
    fn nobody_judges_what_cannot_be_seen_from_here() {
        for name in
            ["", "w", "worker-x", "worker-x@", "worker-x@machine:1:2", "worker-x@a:b", "worker-x@a:../1:2:3"]
        {
            assert!(!is_dead(name), "{name}");
        }
        let Some(here) = Place::here() else { return };
        assert!(!is_dead(&format!("worker-x@{}:../self:1", here.machine)), "not a process number");
    }
}
