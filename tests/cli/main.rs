//! The program as people run it: real processes on loopback, killed, stopped, misconfigured and looked at in a browser.

mod answers;
mod bad_input;
mod browser;
mod chromium;
mod collecting;
mod database;
mod http;
mod process;
mod scene;
mod serving;
mod words;
