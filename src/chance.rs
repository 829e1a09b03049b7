//! The only place that draws lots: random ids and tokens.
//!
//! A simulation must repeat itself, so it may set what comes out (feature `simulation`).

use ring::rand::{SecureRandom, SystemRandom};
use uuid::Uuid;

/// Fills `bytes` from the system's generator.
///
/// # Panics
/// When the system has no random numbers. It does not fail once it is seeded, and a guessable token would be worse.
pub fn fill(bytes: &mut [u8]) {
    #[cfg(feature = "simulation")]
    if seeded::fill(bytes) {
        return;
    }
    SystemRandom::new().fill(bytes).expect("the system's random generator works");
}

/// A random UUID.
#[must_use]
pub fn uuid() -> Uuid {
    let mut bytes = [0; 16];
    fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(feature = "simulation")]
pub use seeded::seed;

#[cfg(feature = "simulation")]
mod seeded {
    use std::cell::Cell;

    thread_local! {
        static STATE: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// From now on everything drawn on this thread follows from `seed`; `None` gives chance back to the system.
    pub fn seed(seed: Option<u64>) {
        STATE.set(seed);
    }

    pub(super) fn fill(bytes: &mut [u8]) -> bool {
        let Some(mut state) = STATE.get() else { return false };
        for chunk in bytes.chunks_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let drawn = (mixed ^ (mixed >> 31)).to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
        STATE.set(Some(state));
        true
    }
}
