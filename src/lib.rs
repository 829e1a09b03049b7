//! `recurd` collects recurring charges on Stripe from customers who are not present, and never twice.
//!
//! Two ideas carry it:
//!
//! 1. Every worker is `run_once(ctx, limit) -> Report` ([`flows`]). The daemon ticks it, `recurd run` drains it, tests
//!    read its report.
//! 2. Every change of a charge is the pure function [`billing::apply::apply`]: Stripe's answer, a webhook, an
//!    operator's command and an expired lease all go through it.
//!
//! To read: [`billing::charge`], [`billing::apply`], then [`flows::collect`]. Around the core stand three neighbours
//! that do not know each other ([`store`], [`stripe`], [`mail`]); [`flows`] asks one, then the core, then writes.
#![forbid(unsafe_code)]
#![recursion_limit = "256"]

#[macro_use]
pub mod failpoint;

pub mod billing;
pub mod chance;
pub mod clock;
pub mod config;
pub mod mail;
mod nearest;
pub mod process;
pub mod store;
pub mod stripe;
pub mod template;

pub mod flows;

pub mod cli;
pub mod daemon;
pub mod http;
pub mod telemetry;

pub mod demo;
pub mod sandbox;
#[cfg(feature = "simulation")]
pub mod simulation;
