//! Everything is torn down again and again while it collects: replicas, PostgreSQL, connections, Stripe's answers. Real
//! processes on loopback. Afterwards the sandbox's books and ours must agree to the charge.
//!
//! `make test` runs small sizes, `make chaos` the full ones (`RECURD_CHAOS=full`) and says what it did. Moments are drawn
//! from a seed, which is said; `RECURD_CHAOS_SEED` draws them again.

mod audit;
mod cluster;
mod faults;
mod kills;
mod line;
mod overlaps;
#[path = "../real/mod.rs"]
mod real;
mod replicas;
mod restarts;
mod town;
mod zombies;
