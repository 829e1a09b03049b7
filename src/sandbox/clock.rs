//! The sandbox's own clock: it stands for Stripe's machines, so it is not the clock of the daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Where the sandbox gets its time from.
#[derive(Clone, Debug)]
pub enum NowSource {
    /// Unix milliseconds that the owner of the number moves by hand. Nothing passes by itself.
    Shared(Arc<AtomicI64>),
    /// The machine's clock plus an offset in milliseconds.
    System {
        /// Added to the machine's clock; the control endpoints move it.
        offset_ms: Arc<AtomicI64>,
    },
}

impl NowSource {
    /// The machine's clock, not shifted yet.
    #[must_use]
    pub fn system() -> Self {
        Self::System { offset_ms: Arc::default() }
    }

    /// A clock that starts at a Unix time in seconds and moves by hand.
    #[must_use]
    pub fn manual(start_secs: i64) -> Self {
        Self::Shared(Arc::new(AtomicI64::new(start_secs * 1000)))
    }

    /// The present instant in Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match self {
            Self::Shared(ms) => ms.load(Ordering::SeqCst),
            Self::System { offset_ms } => system_ms() + offset_ms.load(Ordering::SeqCst),
        }
    }

    /// Moves the clock by some milliseconds.
    pub fn advance_ms(&self, by_ms: i64) {
        match self {
            Self::Shared(ms) | Self::System { offset_ms: ms } => ms.fetch_add(by_ms, Ordering::SeqCst),
        };
    }
}

#[expect(clippy::disallowed_methods, reason = "the sandbox plays another machine, which has its own clock")]
fn system_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
