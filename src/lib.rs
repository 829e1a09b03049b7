//! `recurd` collects recurring charges on Stripe from customers who are not present.
#![forbid(unsafe_code)]
#![recursion_limit = "256"]

pub mod billing;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod flows;
pub mod http;
pub mod mail;
pub mod sandbox;
pub mod store;
pub mod stripe;
pub mod telemetry;
pub mod template;
