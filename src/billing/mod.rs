//! The pure core: what is due, what a decline means, what happens next. No I/O, no clock, no SQL, no HTTP.

pub mod money;
