//! `recurd` collects recurring charges on Stripe from customers who are not present.
#![forbid(unsafe_code)]
// The sandbox writes objects of up to 60 fields with `json!`, which recurses for each.
#![recursion_limit = "256"]

pub mod billing;
pub mod clock;
pub mod sandbox;
