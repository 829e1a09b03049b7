//! The paths through the flows: one story each, with the real flows, a real database and a stateful Stripe under one
//! clock that is moved by hand. What counts is what the outside saw: Stripe's books and the mailbox.

mod card_links;
mod collecting;
mod debits;
mod declines;
mod disputes;
mod elsewhere;
mod enrolment;
mod faults;
mod ideal;
mod ladder;
mod links;
mod mails;
mod notices;
mod operators;
mod scene;
mod web;
mod webhooks;

use scene::{DUE, Scene};
