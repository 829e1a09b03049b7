//! What mails say, and what they must never let through.

mod headers;
mod letters;
mod scripted;
mod sending;

use std::sync::LazyLock;

use super::*;
use crate::template::{Templates, samples};

fn templates() -> Templates {
    static LOADED: LazyLock<Templates> = LazyLock::new(|| Templates::load(None).unwrap());
    LOADED.clone()
}

/// A sample context: 0 full, 1 with as little as possible, 2 several charges, 3 several currencies.
fn sample(number: usize) -> MailContext {
    serde_json::from_value(samples("mail", "*")[number].clone()).unwrap()
}

fn clock() -> Clock {
    Clock::manual("2025-11-21T09:05:00Z".parse().unwrap())
}

fn mail_to(name: Option<&str>, email: &str) -> Mail {
    let letter = write(&templates(), MailName::PaymentFailed, &sample(0)).unwrap();
    let from = "Acme Studio <billing@acme.example>".parse().unwrap();
    let to = Mailbox::of_customer(name, email).unwrap();
    let id = MessageId::new("<ch_7Q2M.1@acme.example>").unwrap();
    Mail::new(id, from, to, letter, clock().now()).unwrap()
}
