//! The program as people run it: real processes on loopback, killed, stopped, misconfigured and looked at in a browser.

mod answers;
mod bad_input;
mod browser;
mod chromium;
mod collecting;
mod looks;
mod pictures;
#[path = "../real/mod.rs"]
mod real;
mod serving;
mod words;
