//! The truth, for tests: what was really charged, whatever the client believes.

use std::collections::VecDeque;

use serde::Serialize;

use super::http::{Answer, Outcome, Request};
use super::ids::hash;
use super::params::Metadata;
use super::state::{CallFacts, State};

/// Everything that exists, oldest first.
#[derive(Clone, Debug, Serialize)]
pub struct Books {
    /// The instant of the snapshot, Unix seconds.
    pub now: i64,
    /// Customers, deleted ones too.
    pub customers: Vec<CustomerRow>,
    /// Cards.
    pub payment_methods: Vec<PaymentMethodRow>,
    /// Intents to take money.
    pub payment_intents: Vec<PaymentIntentRow>,
    /// Intents to save a card.
    pub setup_intents: Vec<SetupIntentRow>,
    /// Checkout Sessions.
    pub sessions: Vec<SessionRow>,
    /// Attempts that reached the card, paid or not.
    pub charges: Vec<ChargeRow>,
    /// Money given back.
    pub refunds: Vec<RefundRow>,
    /// Money asked back by banks.
    pub disputes: Vec<DisputeRow>,
    /// The requests of the API, oldest first, as far as they are kept.
    pub requests: Vec<LoggedRequest>,
}

/// A customer.
#[derive(Clone, Debug, Serialize)]
pub struct CustomerRow {
    /// `cus_...`
    pub id: String,
    /// Mail address.
    pub email: Option<String>,
    /// Whether it was deleted.
    pub deleted: bool,
    /// Its pairs.
    pub metadata: Metadata,
}

/// A card.
#[derive(Clone, Debug, Serialize)]
pub struct PaymentMethodRow {
    /// `pm_...`
    pub id: String,
    /// Whose it is.
    pub customer: Option<String>,
    /// The same for the same card number.
    pub fingerprint: String,
    /// Last digits.
    pub last4: String,
    /// Whether it was detached.
    pub detached: bool,
}

/// A `PaymentIntent`.
#[derive(Clone, Debug, Serialize)]
pub struct PaymentIntentRow {
    /// `pi_...`
    pub id: String,
    /// Unix seconds.
    pub created: i64,
    /// Whom it charges.
    pub customer: Option<String>,
    /// Minor units asked for.
    pub amount: i64,
    /// Minor units taken.
    pub amount_received: i64,
    /// Lowercase code.
    pub currency: String,
    /// As the API names it.
    pub status: &'static str,
    /// Its pairs.
    pub metadata: Metadata,
    /// The Checkout Session behind it.
    pub session: Option<String>,
    /// How often it was confirmed.
    pub confirms: u32,
    /// The charge of the last attempt.
    pub latest_charge: Option<String>,
}

/// A `SetupIntent`.
#[derive(Clone, Debug, Serialize)]
pub struct SetupIntentRow {
    /// `seti_...`
    pub id: String,
    /// Whose card.
    pub customer: Option<String>,
    /// The card.
    pub payment_method: Option<String>,
    /// As the API names it.
    pub status: &'static str,
    /// Its pairs.
    pub metadata: Metadata,
}

/// A Checkout Session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionRow {
    /// `cs_test_...`
    pub id: String,
    /// Unix seconds.
    pub created: i64,
    /// Unix seconds.
    pub expires_at: i64,
    /// `payment` or `setup`.
    pub mode: &'static str,
    /// `open`, `complete` or `expired`.
    pub status: &'static str,
    /// `paid`, `unpaid` or `no_payment_required`.
    pub payment_status: &'static str,
    /// Whose it is.
    pub customer: Option<String>,
    /// Minor units.
    pub amount: Option<i64>,
    /// Lowercase code.
    pub currency: Option<String>,
    /// Made at the first confirmation.
    pub payment_intent: Option<String>,
    /// Of setup mode.
    pub setup_intent: Option<String>,
    /// Its pairs.
    pub metadata: Metadata,
}

/// A charge: one attempt that reached the card.
#[derive(Clone, Debug, Serialize)]
pub struct ChargeRow {
    /// `ch_...`
    pub id: String,
    /// Unix seconds.
    pub created: i64,
    /// When the request that made it was sent, Unix seconds: Stripe may carry one out days later.
    pub left_at: i64,
    /// Its intent.
    pub payment_intent: String,
    /// Whom it charged.
    pub customer: Option<String>,
    /// The card.
    pub payment_method: String,
    /// The card's number in other words.
    pub fingerprint: String,
    /// When the card was entered, Unix seconds.
    pub card_entered_at: i64,
    /// Minor units.
    pub amount: i64,
    /// Minor units given back.
    pub amount_refunded: i64,
    /// Lowercase code.
    pub currency: String,
    /// `succeeded`, `failed` or `pending`.
    pub status: &'static str,
    /// Why it was declined.
    pub decline_code: Option<String>,
    /// Whether the network saw it.
    pub sent_to_network: bool,
    /// Whether the customer was there.
    pub on_session: bool,
    /// Of the intent, then.
    pub metadata: Metadata,
}

/// A refund.
#[derive(Clone, Debug, Serialize)]
pub struct RefundRow {
    /// `re_...`
    pub id: String,
    /// Of which charge.
    pub charge: String,
    /// Minor units.
    pub amount: i64,
    /// As the API names it.
    pub status: &'static str,
}

/// A dispute.
#[derive(Clone, Debug, Serialize)]
pub struct DisputeRow {
    /// `du_...`
    pub id: String,
    /// Of which charge.
    pub charge: String,
    /// As the API names it.
    pub status: &'static str,
}

/// One request of the API.
#[derive(Clone, Debug, Serialize)]
pub struct LoggedRequest {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// `req_...`
    pub id: String,
    /// GET, POST or DELETE.
    pub method: String,
    /// With its query.
    pub path: String,
    /// If one was sent.
    pub idempotency_key: Option<String>,
    /// Equal for equal bodies.
    pub body_hash: u64,
    /// The status that arrived; none if nothing whole arrived.
    pub status: Option<u16>,
    /// Whether a kept answer was repeated.
    pub replayed: bool,
}

pub(super) struct RequestLog {
    rows: VecDeque<LoggedRequest>,
    rows_max: usize,
}

impl RequestLog {
    pub(super) fn new(rows_max: usize) -> Self {
        Self { rows: VecDeque::new(), rows_max }
    }

    pub(super) fn add(&mut self, call: &CallFacts, at_ms: i64, request: &Request, outcome: &Outcome) {
        if self.rows_max == 0 {
            return;
        }
        if self.rows.len() >= self.rows_max {
            self.rows.pop_front();
        }
        let arrived = match &outcome.answer {
            Answer::Response(response) => Some(response),
            Answer::NotSent | Answer::NoAnswer | Answer::CutAfter { .. } => None,
        };
        self.rows.push_back(LoggedRequest {
            at_ms,
            id: call.request_id.clone().unwrap_or_default(),
            method: request.method.to_string(),
            path: request.path_and_query.clone(),
            idempotency_key: call.idempotency_key.clone(),
            body_hash: hash([&request.body]),
            status: arrived.map(|response| response.status),
            replayed: arrived.is_some_and(|response| response.headers.contains_key("idempotent-replayed")),
        });
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &LoggedRequest> {
        self.rows.iter()
    }
}

pub(super) fn read(state: &State) -> Books {
    Books {
        now: state.now(),
        customers: state.customers.iter().map(super::customers::Customer::row).collect(),
        payment_methods: state
            .payment_methods
            .iter()
            .map(super::payment_methods::PaymentMethod::row)
            .collect(),
        payment_intents: state.payment_intents.iter().map(super::intent::PaymentIntent::row).collect(),
        setup_intents: state.setup_intents.iter().map(super::setup_intents::SetupIntent::row).collect(),
        sessions: state.sessions.iter().map(super::session::Session::row).collect(),
        charges: state.charges.iter().map(super::charges::Charge::row).collect(),
        refunds: state.refunds.iter().map(super::refunds::Refund::row).collect(),
        disputes: state.disputes.iter().map(super::disputes::Dispute::row).collect(),
        requests: state.log.rows().cloned().collect(),
    }
}
