//! What the client does, seen from outside: bytes in and bytes out, over a Stripe that answers by script.

mod bodies;
mod encoding;
mod fixtures;
mod http;
mod lists;
mod pacing;
mod resends;
mod script;
mod secrets;
mod signatures;
mod status_table;
