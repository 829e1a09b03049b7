//! What really happened outside of the database: at Stripe, on the wire, in the mailboxes.

use std::collections::{BTreeMap, BTreeSet};

use crate::sandbox::{Changes, ChargeRow, PaymentIntentRow, SessionRow};
use crate::store::journal::StoredRequest;

/// Limit: a payment that is processing is asked after within this time.
const POLLED_SECS: i64 = 7 * 3600;
/// What Stripe carries out so long after the request left, who sent it hears of later.
const LATE_SECS: i64 = 600;
/// Limit: clocks differ by less.
const SKEW_MS: i64 = 120_000;

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

/// What a key was used for.
#[derive(Clone, Debug)]
pub struct Uses {
    /// When first, Unix milliseconds.
    pub first_ms: i64,
    /// When last, Unix milliseconds.
    pub last_ms: i64,
    /// How often.
    pub times: u32,
    /// With which path first.
    pub path: String,
    /// With which body first.
    pub body: String,
    /// To its last use came an answer that says what happened.
    pub answered: bool,
    /// When somebody heard that Stripe keeps a 500 under it, Unix milliseconds, and to the how many-th use.
    pub failed: Option<(i64, u32)>,
}

impl Uses {
    fn new(at_ms: i64, path: &str, body: &str) -> Self {
        let (path, body) = (path.to_owned(), body.to_owned());
        Self { first_ms: at_ms, last_ms: at_ms, times: 0, path, body, answered: false, failed: None }
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
    /// POSTs by key.
    pub keys: BTreeMap<String, Uses>,
    /// Events that Stripe signed.
    pub signed: BTreeSet<String>,
    /// Mails that arrived.
    pub letters: Vec<Letter>,
    /// When each Message-ID arrived first, Unix milliseconds, and how often it did.
    pub arrivals: BTreeMap<String, (i64, u32)>,
    /// When a database was last lost, got a copy, or the copy ended, Unix milliseconds: what one did before, another need
    /// not know.
    pub lost_ms: i64,
    /// All instants of that kind.
    pub losses: Vec<i64>,
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
        if self.keys.get(key).is_some_and(|known| self.is_forgotten(known, stored.as_ref())) {
            self.keys.remove(key);
        }
        let known = self.keys.entry(key.to_owned()).or_insert_with(|| Uses::new(at_ms, path, body));
        (known.times, known.last_ms, known.answered) = (known.times + 1, at_ms, false);
        let differs = known.path != path || known.body != body;
        let (first_ms, times) = (known.first_ms, known.times);
        Post {
            at_ms,
            key: key.to_owned(),
            path: path.to_owned(),
            body: body.to_owned(),
            first_ms,
            times,
            differs,
            poisoned: stored.as_ref().is_some_and(|one| one.poisoned_at.is_some()),
            stored,
            sender,
        }
    }

    /// Whether the database that sends now was restored to before the first use of a key, and begins anew with what Stripe
    /// does not have.
    fn is_forgotten(&self, known: &Uses, stored: Option<&StoredRequest>) -> bool {
        let remembered = stored.and_then(|one| one.first_sent_at).map(|at| at * 1000);
        known.first_ms < self.lost_ms && remembered.is_none_or(|at| at > known.first_ms + SKEW_MS)
    }

    /// An answer came to whoever sent a POST.
    pub fn answered(&mut self, key: &str, times: u32, status: u16, now_ms: i64) {
        let Some(known) = self.keys.get_mut(key).filter(|known| known.times == times) else { return };
        known.failed = (status == 500).then_some((now_ms, times));
        known.answered = match status {
            409 | 424 | 500.. => false,
            // That this one was not carried out says nothing of those before it.
            429 => times == 1,
            _ => true,
        };
    }

    /// How often a database was lost, or got a copy, since an instant.
    #[must_use]
    pub fn losses_since(&self, ms: i64) -> u32 {
        u32::try_from(self.losses.iter().filter(|at| **at >= ms).count()).unwrap_or(u32::MAX)
    }

    /// A database is lost, gets a copy, or loses it again.
    pub fn lose(&mut self, now_ms: i64) {
        self.lost_ms = now_ms;
        self.losses.push(now_ms);
    }

    /// Whether a decline came later than its try.
    #[must_use]
    pub fn was_slow(&self, declined: &ChargeRow) -> bool {
        let is_late = declined.created > declined.left_at + LATE_SECS;
        is_late || self.failed_at.get(&declined.id).is_some_and(|at| *at > declined.created)
    }

    /// Whether we could know of a decline at an instant. A bank that was slow is asked for its answer every six hours.
    #[must_use]
    pub fn could_know(&self, declined: &ChargeRow, at: i64) -> bool {
        let failed_at = self.failed_at.get(&declined.id).copied().unwrap_or(declined.created);
        let heard_at = if failed_at > declined.created { failed_at + POLLED_SECS } else { failed_at };
        heard_at <= at
    }

    /// A use of a key was none after all.
    pub fn unused(&mut self, key: &str) {
        match self.keys.get_mut(key) {
            Some(uses) if uses.times > 1 => uses.times -= 1,
            _ => drop(self.keys.remove(key)),
        }
    }

    /// PaymentIntents of a charge that took its money.
    #[must_use]
    pub fn succeeded(&self, charge: &str) -> Vec<&PaymentIntentRow> {
        let ids = self.of_charge.get(charge).into_iter().flatten();
        ids.filter_map(|id| self.intents.get(id)).filter(|one| one.status == "succeeded").collect()
    }

    /// Whether Stripe made or tried something for a charge at or after an instant, Unix seconds, or a PaymentIntent of it died.
    #[must_use]
    pub fn happened_since(&self, charge: &str, since: i64) -> bool {
        let objects = self.of_charge.get(charge).into_iter().flatten();
        let intents = objects.filter_map(|id| self.intents.get(id));
        let tries = self.tries_of.get(charge).into_iter().flatten().filter_map(|id| self.tries.get(id));
        intents.into_iter().any(|one| one.created >= since || one.status == "canceled")
            || tries.into_iter().any(|one| one.created >= since)
    }

    /// Objects of a charge that may still take its money.
    #[must_use]
    pub fn living(&self, charge: &str) -> Vec<String> {
        let ids = self.of_charge.get(charge).into_iter().flatten();
        ids.filter(|id| self.lives(id)).cloned().collect()
    }

    /// Whether nobody who lives knows a PaymentIntent of this charge, and nobody confirms it: it was declined before a database was
    /// lost, or Stripe made it later of a request that the lost one had sent.
    #[must_use]
    pub fn is_left_behind(&self, charge: &str, id: &str) -> bool {
        let Some(one) = self.intents.get(id) else { return false };
        let of_lost = |(key, uses): (&String, &Uses)| {
            key.contains(charge) && uses.path == "/v1/payment_intents" && uses.first_ms < self.lost_ms
        };
        let is_late = one.created > self.lost_ms / 1000 && self.keys.iter().any(of_lost);
        is_late || (one.created <= self.lost_ms / 1000 && one.status == "requires_payment_method")
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
