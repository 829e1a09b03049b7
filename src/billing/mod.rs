//! The pure core: what is due, what a decline means, what happens next. No I/O, no clock, no SQL, no HTTP.

pub mod apply;
pub mod calendar;
pub mod caps;
pub mod charge;
pub mod decline;
pub mod dunning;
pub mod expiry;
pub mod farewell;
pub mod ids;
pub mod ladder;
pub mod money;
pub mod network_rules;
pub mod page_methods;
pub mod plan;
pub mod retry;
pub mod share;
pub mod subscription;
pub mod unknown;
pub mod what_if;
