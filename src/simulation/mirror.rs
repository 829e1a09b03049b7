//! One database as its committed changes tell it, and what changed since the last look.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::rows::{
    AttemptRow, AuditRow, ChargeRow, CollectorRow, CustomerRow, EventRow, InstanceRow, PromiseRow,
    SubscriptionRow, TryRow,
};
use super::truth::Post;
use crate::store::journal::Change;

/// One database.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    /// Charges by id.
    pub charges: BTreeMap<String, ChargeRow>,
    /// Attempts by charge and number.
    pub attempts: BTreeMap<(String, i64), AttemptRow>,
    /// Keys of attempts.
    pub keys: BTreeMap<String, (String, i64)>,
    /// Collectors by charge and generation.
    pub collectors: BTreeMap<(String, i64), CollectorRow>,
    /// Subscriptions by id.
    pub subscriptions: BTreeMap<String, SubscriptionRow>,
    /// Charges by subscription and period.
    pub periods: BTreeMap<(String, i64), String>,
    /// Promises by id.
    pub promises: BTreeMap<String, PromiseRow>,
    /// Promises to tell of a charge before it is tried, by charge.
    pub notices: BTreeMap<String, String>,
    /// Customers by id.
    pub customers: BTreeMap<String, CustomerRow>,
    /// Stored events by id, with their state.
    pub events: BTreeMap<String, String>,
    /// When what a charge last waited for was due, Unix seconds.
    pub waited_for: BTreeMap<String, i64>,
    /// When a charge was first seen paid, Unix milliseconds.
    pub paid_ms: BTreeMap<String, i64>,
    /// Charges that were past due because no card was saved.
    pub without_card: BTreeSet<String>,
    /// The saved card of charges when they became past due, or were declined again.
    pub refused_card: BTreeMap<String, String>,
    /// Tries of cards that are counted for the networks' limits, by Stripe's id: when they were first, Unix milliseconds.
    pub tried: BTreeMap<String, i64>,
    /// Attempts that began before their time, by key: the instant each was planned for. What a database had forgotten gets one
    /// at once, and it never leaves.
    pub early: BTreeMap<String, i64>,
    /// Charges that a person had collected all the same.
    pub ordered: BTreeSet<String>,
    /// When an address was first seen dead, by customer, Unix milliseconds.
    pub dead_ms: BTreeMap<String, i64>,
    /// The installation.
    pub instance: Option<InstanceRow>,
    /// Every nonce that was ever committed.
    pub nonces: BTreeSet<String>,
    /// Since when nothing may be charged, Unix milliseconds.
    pub halted_ms: Option<i64>,
    /// Which job has work for a row of a table, and when, Unix seconds.
    pub waking: BTreeMap<(String, String), (String, i64)>,
}

/// What changed since the last look.
#[derive(Debug, Default)]
pub struct Touched {
    /// Charges that changed in the database or at Stripe.
    pub charges: BTreeSet<String>,
    /// Subscriptions that changed.
    pub subscriptions: BTreeSet<String>,
    /// Charges that left a finished state: id, from, to.
    pub reopened: Vec<(String, String, String)>,
    /// Attempts that went where they may not: key, from, to.
    pub odd_attempts: Vec<(String, String, String)>,
    /// Charges with an attempt that has become unknown.
    pub unknown: Vec<String>,
    /// Attempts that were declined: charge and number.
    pub declined: Vec<(String, i64)>,
    /// Charges of periods that are new: subscription, period, instant it falls due at.
    pub new_periods: Vec<(String, i64, i64)>,
    /// Charges that are new, with the instant they are due at and the one they are collected at, if they are.
    pub new_charges: Vec<(String, i64, Option<i64>)>,
    /// Attempts that began, or were first marked as sent, after their subscription was canceled or held.
    pub begun_after_end: Vec<String>,
    /// Events that were stored or applied.
    pub events: Vec<(String, String, Option<String>)>,
    /// Events that were acknowledged.
    pub acknowledged: Vec<String>,
    /// First tries of charges of which their customers were to be told before, and which nobody had collected all the same:
    /// key and id of the promise.
    pub announced: Vec<(String, String)>,
    /// Keys of attempts that were on their way and are unknown now, without a 5xx on record.
    pub doubted: Vec<String>,
    /// Attempts that began after one that ended without an effect although a 5xx was answered to it: charge, number,
    /// instant the one before was sent.
    pub after_5xx: Vec<(String, i64, i64)>,
    /// POSTs that left.
    pub posts: Vec<Post>,
    /// Mails that arrived, as positions.
    pub letters: Vec<usize>,
    /// Tries that reached a card.
    pub tries: Vec<String>,
}

impl Touched {
    /// What concerns a copy of the database: its own requests and mails, and whatever changed at Stripe.
    #[must_use]
    pub fn part_of_copy(&mut self) -> Self {
        let (posts, own) = std::mem::take(&mut self.posts).into_iter().partition(|one| one.sender.is_copy);
        self.posts = own;
        let letters = self.letters.clone();
        Self { charges: self.charges.clone(), posts, letters, ..Self::default() }
    }
}

/// Clocks may differ by two minutes.
const EARLY_SECS: i64 = 120;
/// Limit: what a worker knows of a customer is not older than its lease.
const JUST_NOW_MS: i64 = 10 * 60_000;
const FINISHED: [&str; 4] = ["paid", "uncollectible", "canceled", "settled"];

/// Whether a charge's state is final.
#[must_use]
pub fn is_finished(state: &str) -> bool {
    FINISHED.contains(&state)
}

/// Whether an attempt's state is open.
#[must_use]
pub fn is_open(state: &str) -> bool {
    matches!(state, "prepared" | "sending" | "unknown")
}

impl Mirror {
    /// Takes in committed changes, in order.
    ///
    /// # Panics
    /// When the journal's own columns do not read back: a mistake in the simulator.
    pub fn learn(&mut self, changes: Vec<Change>, now_ms: i64, touched: &mut Touched) {
        for Change { kind, row } in changes {
            match kind.as_str() {
                "charge" => self.charge(read(&row), now_ms, touched),
                "attempt" => self.attempt(read(&row), now_ms, touched),
                "collector" => {
                    let row: CollectorRow = read(&row);
                    touched.charges.insert(row.charge.clone());
                    self.collectors.insert((row.charge.clone(), row.generation), row);
                }
                "subscription" => {
                    let row: SubscriptionRow = read(&row);
                    touched.subscriptions.insert(row.id.clone());
                    self.subscriptions.insert(row.id.clone(), row);
                }
                "outbox" => {
                    let row: PromiseRow = read(&row);
                    if row.template.as_deref() == Some("upcoming_charge") {
                        self.notices.insert(row.subject.clone(), row.id.clone());
                    }
                    self.promises.insert(row.id.clone(), row);
                }
                "network_budget" => {
                    let row: TryRow = read(&row);
                    self.tried.entry(row.id).or_insert(now_ms);
                }
                "audit" => {
                    let row: AuditRow = read(&row);
                    if row.what == "collect" {
                        self.ordered.insert(row.subject);
                    }
                }
                "webhook_event" => {
                    let row: EventRow = read(&row);
                    let before = self.events.insert(row.id.clone(), row.state.clone());
                    touched.events.push((row.id, row.state, before));
                }
                "customer" => {
                    let row: CustomerRow = read(&row);
                    if row.mail == "dead" {
                        self.dead_ms.entry(row.id.clone()).or_insert(now_ms);
                    }
                    let before = self.customers.get(&row.id);
                    let card_since_ms = match before {
                        Some(before) if before.cardless && !row.cardless => now_ms,
                        Some(before) => before.card_since_ms,
                        None => i64::MIN,
                    };
                    self.customers.insert(row.id.clone(), CustomerRow { card_since_ms, ..row });
                }
                "instance" => self.instance(read(&row), now_ms),
                "wake" => {
                    let (table, id, job, at): (String, String, Option<String>, Option<i64>) = read(&row);
                    match job.zip(at) {
                        Some(wake) => self.waking.insert((table, id), wake),
                        None => self.waking.remove(&(table, id)),
                    };
                }
                other => unreachable!("the journal has no {other}"),
            }
        }
    }

    fn instance(&mut self, row: InstanceRow, now_ms: i64) {
        self.nonces.extend(row.before.split_whitespace().map(str::to_owned));
        self.nonces.extend(row.nonce.clone());
        self.halted_ms = row.halted.as_ref().map(|_| self.halted_ms.unwrap_or(now_ms));
        self.instance = Some(row);
    }

    fn charge(&mut self, row: ChargeRow, now_ms: i64, touched: &mut Touched) {
        touched.charges.insert(row.id.clone());
        if row.state == "paid" {
            self.paid_ms.entry(row.id.clone()).or_insert(now_ms);
        }
        if let (Some(subscription), Some(period)) = (&row.subscription, row.period) {
            self.periods.insert((subscription.clone(), period), row.id.clone());
            touched.subscriptions.insert(subscription.clone());
        }
        let declined_before = self.charges.get(&row.id).and_then(|one| one.declines);
        if row.declines > declined_before
            && self
                .customers
                .get(&row.customer)
                .is_some_and(|one| one.cardless || now_ms.saturating_sub(one.card_since_ms) < JUST_NOW_MS)
        {
            self.without_card.insert(row.id.clone());
        }
        if row.declines > declined_before
            && let Some(card) = self.customers.get(&row.customer).and_then(|one| one.fingerprint.clone())
        {
            self.refused_card.insert(row.id.clone(), card);
        }
        if let Some(next_at) = row.next_at {
            self.waited_for.insert(row.id.clone(), next_at);
        }
        if let (false, Some(subscription), Some(period)) =
            (self.charges.contains_key(&row.id), &row.subscription, row.period)
        {
            touched.new_periods.push((subscription.clone(), period, row.due_at));
        }
        // What falls due now, or is told of before it does, is not caught up with.
        let is_reached = row.due_at <= now_ms / 1000 - EARLY_SECS;
        if !self.charges.contains_key(&row.id) && row.state == "due" && is_reached {
            // What was planned for the past is collected now.
            let planned = row.next_at.map(|at| at.max(now_ms / 1000));
            touched.new_charges.push((row.subscription.clone().unwrap_or_default(), row.due_at, planned));
        }
        if let Some(before) = self.charges.insert(row.id.clone(), row.clone())
            && is_finished(&before.state)
            && before.state != row.state
        {
            touched.reopened.push((row.id, before.state, row.state));
        }
    }

    fn attempt(&mut self, row: AttemptRow, now_ms: i64, touched: &mut Touched) {
        let place = (row.charge.clone(), row.number);
        touched.charges.insert(row.charge.clone());
        let before = self.attempts.insert(place.clone(), row.clone());
        self.keys.insert(row.key.clone(), place.clone());
        let sends = before.as_ref().map_or(0, |one| one.sends);
        // One that is only written down belongs to what a recovery found at Stripe.
        if sends == 0 && row.sends > 0 && row.state != "unknown" {
            self.begun(&row, now_ms, touched);
        }
        if row.state == "unknown" {
            touched.unknown.push(row.charge.clone());
            if row.poisoned.is_none() && before.as_ref().is_some_and(|one| one.state == "sending") {
                touched.doubted.push(row.key.clone());
            }
        }
        if row.state == "declined" {
            touched.declined.push(place);
        }
        if let Some(before) = before
            && !is_open(&before.state)
            && !(matches!(before.state.as_str(), "processing" | "void") && row.state == "declined")
        {
            touched.odd_attempts.push((row.key, before.state, row.state));
        }
    }

    fn begun(&mut self, row: &AttemptRow, now_ms: i64, touched: &mut Touched) {
        let before = self.attempts.get(&(row.charge.clone(), row.number - 1));
        if let Some(sent_at) = before
            .filter(|one| one.poisoned.is_some() && one.state == "void")
            .and_then(|one| one.first_sent_at)
        {
            touched.after_5xx.push((row.charge.clone(), row.number, sent_at));
        }
        let Some(charge) = self.charges.get(&row.charge) else { return };
        if let Some(planned) = self.waited_for.get(&row.charge).filter(|at| **at > now_ms / 1000 + EARLY_SECS)
        {
            self.early.insert(row.key.clone(), *planned);
        }
        let told =
            self.notices.get(&row.charge).filter(|_| row.number == 1 && !self.ordered.contains(&row.charge));
        touched.announced.extend(told.map(|promise| (row.key.clone(), promise.clone())));
        let subscription = charge.subscription.as_ref().and_then(|id| self.subscriptions.get(id));
        if let Some(ended) = subscription.filter(|one| one.state == "canceled") {
            touched.begun_after_end.push(format!("{} after subscription {} was canceled", row.key, ended.id));
        }
        if self.customers.get(&charge.customer).is_some_and(|one| one.hold.is_some()) {
            touched.begun_after_end.push(format!("{} although the customer is on hold", row.key));
        }
    }

    /// When each job has work next, Unix seconds.
    #[must_use]
    pub fn wakes(&self) -> BTreeMap<&str, i64> {
        let mut wakes = BTreeMap::new();
        for (job, at) in self.waking.values() {
            let first = wakes.entry(job.as_str()).or_insert(*at);
            *first = (*first).min(*at);
        }
        wakes
    }

    /// How many charges are in which state.
    #[must_use]
    pub fn states(&self) -> BTreeMap<String, u64> {
        let mut states = BTreeMap::new();
        for charge in self.charges.values() {
            *states.entry(charge.state.clone()).or_default() += 1;
        }
        states
    }

    /// Charges that are not finished.
    #[must_use]
    pub fn open_charges(&self) -> Vec<String> {
        self.charges.values().filter(|one| !is_finished(&one.state)).map(|one| one.id.clone()).collect()
    }

    /// Charges that wait for a person.
    #[must_use]
    pub fn waiting_charges(&self) -> Vec<String> {
        let waiting =
            self.charges.values().filter(|one| matches!(one.state.as_str(), "needs_review" | "missed"));
        waiting.map(|one| one.id.clone()).collect()
    }

    /// Whether the operator was told of something about this charge.
    #[must_use]
    pub fn has_alarm(&self, charge: &str) -> bool {
        self.promises.values().any(|one| one.subject == charge && one.kind == "alarm")
    }

    /// The open attempts of a charge.
    #[must_use]
    pub fn open_attempts(&self, charge: &str) -> usize {
        self.attempts_of(charge).filter(|one| is_open(&one.state)).count()
    }

    /// The attempts of a charge.
    pub fn attempts_of(&self, charge: &str) -> impl Iterator<Item = &AttemptRow> {
        let range = (charge.to_owned(), i64::MIN)..=(charge.to_owned(), i64::MAX);
        self.attempts.range(range).map(|(_, one)| one)
    }

    /// The living collectors of a charge.
    #[must_use]
    pub fn living(&self, charge: &str) -> Vec<&CollectorRow> {
        let range = (charge.to_owned(), i64::MIN)..=(charge.to_owned(), i64::MAX);
        self.collectors.range(range).map(|(_, one)| one).filter(|one| one.state == "live").collect()
    }
}

fn read<T: for<'a> Deserialize<'a>>(row: &str) -> T {
    serde_json::from_str(row).unwrap_or_else(|error| panic!("{row}: {error}"))
}
