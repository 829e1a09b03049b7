//! What the client does, seen from outside: bytes in and bytes out, over a Stripe that answers by script.

mod resends;
mod script;
mod status_table;
