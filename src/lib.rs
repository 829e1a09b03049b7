//! `recurd` collects recurring charges on Stripe from customers who are not present.
#![forbid(unsafe_code)]

pub mod billing;
pub mod clock;
pub mod http;
pub mod mail;
pub mod template;
