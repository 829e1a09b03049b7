//! The only place that asks what time it is.
//!
//! Everything else is told the time: the pure core gets `now` as an argument, flows carry a [`Clock`].
//! The demo and the tests hold a [`Clock::manual`] and move it by hand, so nothing ever sleeps there.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A source of time that can be handed to every flow. Cloning shares the same hand.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Milliseconds since the Unix epoch.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's own clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until [`Clock::advance`] or [`Clock::sleep`] moves it.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(start.as_millisecond()))))
    }

    /// A manual clock whose hand (Unix milliseconds) somebody else holds too.
    #[must_use]
    pub fn shared(hand: Arc<AtomicI64>) -> Self {
        Self(Source::Manual(hand))
    }

    /// The present instant.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that may ask the system clock")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Manual(ms) => at_ms(ms.load(Ordering::SeqCst)),
        }
    }

    /// The present instant in Unix seconds, rounded down.
    #[must_use]
    pub fn now_secs(&self) -> i64 {
        self.now().as_second()
    }

    /// The machine's stopwatch, for what is over in an instant. None for a manual clock: nobody knows how long its
    /// moments are.
    #[must_use]
    pub fn stopwatch(&self) -> Option<Instant> {
        matches!(self.0, Source::System).then(Instant::now)
    }

    /// Waits. A manual clock does not wait: it moves its hand by `pause` and yields once.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that may sleep")]
    pub async fn sleep(&self, pause: Duration) {
        match &self.0 {
            Source::System => tokio::time::sleep(pause).await,
            #[cfg(feature = "simulation")]
            Source::Manual(_) if crate::failpoint::sleep(pause).await => {}
            Source::Manual(_) => {
                self.advance(pause);
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for company: as [`Clock::sleep`], but a manual clock stays where it is, and only lets the others run first.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that may sleep")]
    pub async fn pause(&self, pause: Duration) {
        match &self.0 {
            Source::System => tokio::time::sleep(pause).await,
            #[cfg(feature = "simulation")]
            Source::Manual(_) if crate::failpoint::sleep(pause).await => {}
            Source::Manual(_) => tokio::task::yield_now().await,
        }
    }

    /// Moves a manual clock forward; the system clock cannot be moved, and the call does nothing there.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(ms) = &self.0 {
            ms.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX / 4), Ordering::SeqCst);
        }
    }

    /// Sets a manual clock, forwards or backwards; does nothing to the system clock.
    pub fn set(&self, to: Timestamp) {
        if let Source::Manual(ms) = &self.0 {
            ms.store(to.as_millisecond(), Ordering::SeqCst);
        }
    }
}

fn at_ms(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_moves_only_by_hand_and_by_sleep() {
        let clock = Clock::manual(Timestamp::from_second(1_000).unwrap());
        assert_eq!(clock.now_secs(), 1_000);
        clock.clone().sleep(Duration::from_secs(5)).await;
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.now_secs(), 1_007);
    }
}
