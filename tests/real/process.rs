//! A process whose every wait is bounded, and which does not outlive its test.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Limit: what takes longer on a busy machine hangs.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(240);

/// A running process and what it has said so far.
pub(crate) struct Process {
    child: Child,
    out: Lines,
    err: Lines,
}

/// How a process ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Its standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("not JSON ({error}):\n{self}"))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {:?}\n--- stdout\n{}--- stderr\n{}", self.code, self.out, self.err)
    }
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let out = Lines::of(child.stdout.take().unwrap());
        let err = Lines::of(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    /// The first line of standard output that contains `part`.
    pub(crate) fn says(&mut self, part: &str) -> String {
        self.out.find(part)
    }

    /// The first line of the log that contains `part`.
    pub(crate) fn logs(&mut self, part: &str) -> String {
        self.err.find(part)
    }

    /// Sends a signal, such as `TERM` or `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.unwrap().success(), "kill -{name}");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let (out, err) = (self.out.rest(), self.err.rest());
        let mut status = None;
        until("the process ends after its output", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        Ended { code: status.and_then(|status| status.code()), out, err }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, read by a thread so that waiting for one has an end.
struct Lines {
    coming: Receiver<String>,
    seen: String,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (send, coming) = channel();
        std::thread::spawn(move || {
            BufReader::new(pipe).lines().map_while(Result::ok).all(|line| send.send(line).is_ok())
        });
        Self { coming, seen: String::new() }
    }

    fn find(&mut self, part: &str) -> String {
        let start = Instant::now();
        loop {
            match self.next(start) {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(error) => panic!("{part:?} was not said ({error}), but:\n{}", self.seen),
            }
        }
    }

    fn rest(&mut self) -> String {
        let start = Instant::now();
        loop {
            match self.next(start) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return std::mem::take(&mut self.seen),
                Err(RecvTimeoutError::Timeout) => panic!("it does not end; so far:\n{}", self.seen),
            }
        }
    }

    /// The next line, at most [`WAIT_MAX`] after `start`.
    fn next(&mut self, start: Instant) -> Result<String, RecvTimeoutError> {
        let line = self.coming.recv_timeout(WAIT_MAX.saturating_sub(start.elapsed()))?;
        self.seen.push_str(&line);
        self.seen.push('\n');
        Ok(line)
    }
}

/// Polls another process for something, at most [`WAIT_MAX`].
pub(crate) fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < WAIT_MAX, "this did not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
