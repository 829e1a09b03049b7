//! What really happened outside of the database: at Stripe, on the wire, in the mailboxes.

use std::collections::{BTreeMap, BTreeSet};

use crate::sandbox::{Changes, ChargeRow, PaymentIntentRow, SessionRow};
use crate::store::journal::StoredRequest;

/// Limit: a payment that is processing is asked after within this time.
const POLLED_SECS: i64 = 7 * 3600;

/// A POST that left.
#[derive(Clone, Debug)]
pub struct Post {
    /// When, Unix milliseconds of the true clock.
    pub at_ms: i64,
    /// Its idempotency key.
    pub key: String,
    /// Its path.
    pub path: String,
    /// Its body.
    pub body: String,
    /// What was stored under its key at that moment.
    pub stored: Option<StoredRequest>,
    /// When the key was used first.
    pub first_ms: i64,
    /// The how many-th use of its key.
    pub times: u32,
    /// The same key carried other bytes, or another path, before.
    pub differs: bool,
    /// The database said, at that moment, that a 5xx was answered to this key.
    pub poisoned: bool,
    /// Whose request it is.
    pub sender: Sender,
}

/// The process that sends a request.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// It runs on a copy of the database.
    pub is_copy: bool,
    /// When it began, Unix milliseconds.
    pub booted_ms: i64,
}

impl Post {
    /// Whether it may take money, or open a page that may.
    #[must_use]
    pub fn moves_money(&self) -> bool {
        self.path == "/v1/payment_intents"
            || self.path.ends_with("/confirm")
            || (self.is_page() && !self.body.contains("mode=setup"))
    }

    /// Whether it makes a Checkout Session.
    #[must_use]
    pub fn is_page(&self) -> bool {
        self.path == "/v1/checkout/sessions"
    }
}

/// A mail that a mail server accepted.
#[derive(Clone, Debug)]
pub struct Letter {
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// When it was written, by the clock of who wrote it, Unix milliseconds.
    pub written_ms: i64,
    /// Its Message-ID.
    pub id: String,
    /// To whom.
    pub to: String,
    /// It was sent by a process on a copy of the database.
    pub of_copy: bool,
    /// The promise it keeps: the Message-ID's left half.
    pub promise: String,
    /// Its text.
    pub text: String,
}

impl Letter {
    /// The token of its link.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        let (_, rest) = self.text.split_once("/pay/").or_else(|| self.text.split_once("/card/"))?;
        Some(rest.chars().take_while(char::is_ascii_alphanumeric).collect())
    }
}

/// Everything outside of the database.
#[derive(Debug, Default)]
pub struct Truth {
    /// PaymentIntents by id.
    pub intents: BTreeMap<String, PaymentIntentRow>,
    /// Checkout Sessions by id.
    pub sessions: BTreeMap<String, SessionRow>,
    /// Tries that reached a card, by id.
    pub tries: BTreeMap<String, ChargeRow>,
    /// Ids of the objects of a charge of ours.
    pub of_charge: BTreeMap<String, BTreeSet<String>>,
    /// Ids of the tries of a charge of ours.
    pub tries_of: BTreeMap<String, BTreeSet<String>>,
    /// When tries were declined, Unix seconds: a slow bank says so days after it was asked.
    pub failed_at: BTreeMap<String, i64>,
    /// Ids of the tries by fingerprint and amount, oldest first.
    pub tries_on: BTreeMap<(String, i64, String), Vec<String>>,
    /// POSTs by key: when first, with which path and body, how often.
    pub keys: BTreeMap<String, (i64, String, String, u32)>,
    /// When POSTs with a charge of ours in their key left, Unix seconds, oldest first.
    pub left: BTreeMap<String, Vec<i64>>,
    /// Events that Stripe signed.
    pub signed: BTreeSet<String>,
    /// Mails that arrived.
    pub letters: Vec<Letter>,
    /// How often each Message-ID arrived.
    pub arrivals: BTreeMap<String, u32>,
    /// When a database was last lost, or got a copy, Unix milliseconds: what was sent before, nobody need remember.
    pub lost_ms: i64,
    /// How often that was.
    pub losses: u32,
}

/// What a look at Stripe found changed.
#[derive(Debug, Default)]
pub struct Fresh {
    /// Our charges whose objects changed.
    pub charges: BTreeSet<String>,
    /// Tries that are new.
    pub tries: Vec<String>,
}

impl Truth {
    /// Takes in what changed at Stripe.
    pub fn learn(&mut self, changes: Changes, now_ms: i64) -> Fresh {
        let mut fresh = Fresh::default();
        for row in changes.sessions {
            if let Some(charge) = row.metadata.get("recurd_charge") {
                self.of_charge.entry(charge.clone()).or_default().insert(row.id.clone());
                fresh.charges.insert(charge.clone());
            }
            self.sessions.insert(row.id.clone(), row);
        }
        for row in changes.payment_intents {
            if let Some(charge) = row.metadata.get("recurd_charge") {
                self.of_charge.entry(charge.clone()).or_default().insert(row.id.clone());
                fresh.charges.insert(charge.clone());
            }
            self.intents.insert(row.id.clone(), row);
        }
        for row in changes.charges {
            if let Some(charge) = row.metadata.get("recurd_charge") {
                self.tries_of.entry(charge.clone()).or_default().insert(row.id.clone());
                fresh.charges.insert(charge.clone());
            }
            let place = (row.fingerprint.clone(), row.amount, row.currency.clone());
            if !self.tries.contains_key(&row.id) {
                self.tries_on.entry(place).or_default().push(row.id.clone());
                fresh.tries.push(row.id.clone());
            }
            if row.status == "failed" {
                self.failed_at.entry(row.id.clone()).or_insert(now_ms / 1000);
            }
            self.tries.insert(row.id.clone(), row);
        }
        fresh
    }

    /// Takes in a POST that leaves now.
    pub fn post(
        &mut self,
        at_ms: i64,
        key: &str,
        path: &str,
        body: &str,
        stored: Option<StoredRequest>,
        sender: Sender,
    ) -> Post {
        if let Some(charge) = key.split(':').nth(2) {
            self.left.entry(charge.to_owned()).or_default().push(at_ms / 1000);
        }
        // A database that was restored begins anew with what Stripe does not have.
        let lost_ms = self.lost_ms;
        if self.keys.get(key).is_some_and(|known| known.0 < lost_ms) {
            self.keys.remove(key);
        }
        let known = self.keys.entry(key.to_owned()).or_insert((at_ms, path.to_owned(), body.to_owned(), 0));
        known.3 += 1;
        let differs = known.1 != path || known.2 != body;
        Post {
            at_ms,
            key: key.to_owned(),
            path: path.to_owned(),
            body: body.to_owned(),
            first_ms: known.0,
            times: known.3,
            differs,
            poisoned: stored.as_ref().is_some_and(|one| one.poisoned_at.is_some()),
            stored,
            sender,
        }
    }

    /// When we last sent something for a charge, until an instant: what Stripe carries out later, it carries out on its own.
    #[must_use]
    pub fn last_left(&self, charge: &str, until: i64) -> i64 {
        let left = self.left.get(charge).into_iter().flatten();
        left.copied().take_while(|at| *at <= until).last().unwrap_or(until)
    }

    /// A database is lost, or gets a copy.
    pub fn lose(&mut self, now_ms: i64) {
        (self.lost_ms, self.losses) = (now_ms, self.losses + 1);
    }

    /// Whether we could know of a decline at an instant. A bank that was slow is asked for its answer every six hours.
    #[must_use]
    pub fn could_know(&self, declined: &ChargeRow, at: i64) -> bool {
        let failed_at = self.failed_at.get(&declined.id).copied().unwrap_or(declined.created);
        let heard_at = if failed_at > declined.created { failed_at + POLLED_SECS } else { failed_at };
        declined.created > self.lost_ms / 1000 && heard_at <= at
    }

    /// The first use of a key was none after all.
    pub fn unused(&mut self, key: &str) {
        if self.keys.get(key).is_some_and(|known| known.3 == 1) {
            self.keys.remove(key);
        }
    }

    /// PaymentIntents of a charge that took its money.
    #[must_use]
    pub fn succeeded(&self, charge: &str) -> Vec<&PaymentIntentRow> {
        let ids = self.of_charge.get(charge).into_iter().flatten();
        ids.filter_map(|id| self.intents.get(id)).filter(|one| one.status == "succeeded").collect()
    }

    /// Objects of a charge that may still take its money.
    #[must_use]
    pub fn living(&self, charge: &str) -> Vec<String> {
        let ids = self.of_charge.get(charge).into_iter().flatten();
        ids.filter(|id| self.lives(id)).cloned().collect()
    }

    /// Whether a PaymentIntent was declined before a database was lost: nobody who lives knows it, and nobody confirms it.
    #[must_use]
    pub fn is_left_behind(&self, id: &str) -> bool {
        self.losses > 0 && self.intents.get(id).is_some_and(|one| one.status == "requires_payment_method")
    }

    fn lives(&self, id: &str) -> bool {
        if let Some(session) = self.sessions.get(id) {
            let intent = session.payment_intent.as_ref().and_then(|id| self.intents.get(id));
            let processing = intent.is_some_and(|one| one.status == "processing");
            return session.status == "open" || (session.status == "complete" && processing);
        }
        // A Session's own intent lives and dies with it.
        self.intents.get(id).is_some_and(|intent| {
            intent.session.is_none() && !matches!(intent.status, "succeeded" | "canceled")
        })
    }
}
