//! Real processes for tests: the program, a sandbox that plays Stripe, databases, and a little HTTP. Several test binaries
//! include these files; what only one of them needs stands there.

pub(crate) mod database;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod scene;
