//! The whole story on one machine: a sandbox, a fresh database, customers with cards of every temper, and 90 days
//! of virtual time through the very flows that the daemon uses.

mod audit;
mod ends;
mod people;
mod serve;
mod walk;
pub mod world;

pub use audit::{Audit, Line, audit, audit_demo, shown};
pub use ends::Ended;
pub use serve::serve;
pub use walk::{DAYS, Walked, walk};
pub use world::{InProcess, World, WorldOptions};
