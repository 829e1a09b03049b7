//! Everything the sandbox knows, and the passing of its time.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::Options;
use super::books::RequestLog;
use super::charges::Charge;
use super::customers::Customer;
use super::disputes::Dispute;
use super::errors::ApiError;
use super::events::Events;
use super::faults::{Effect, Rule};
use super::http::Request;
use super::idempotency::Keys;
use super::ids::Rng;
use super::intent::PaymentIntent;
use super::issuer::Verdict;
use super::payment_methods::PaymentMethod;
use super::rate_limits::Counters;
use super::refunds::Refund;
use super::session::Session;
use super::setup_intents::SetupIntent;
use super::table::{Record, Table};
use super::webhook_endpoints::Endpoint;
use super::webhooks::Outgoing;

pub(super) struct State {
    pub(super) options: Options,
    /// The instant of the request or job that runs now.
    pub(super) now_ms: i64,
    pub(super) rng: Rng,
    /// Of the request that runs now.
    pub(super) call: CallFacts,
    pub(super) customers: Table<Customer>,
    pub(super) payment_methods: Table<PaymentMethod>,
    pub(super) payment_intents: Table<PaymentIntent>,
    pub(super) setup_intents: Table<SetupIntent>,
    pub(super) charges: Table<Charge>,
    pub(super) sessions: Table<Session>,
    pub(super) refunds: Table<Refund>,
    pub(super) disputes: Table<Dispute>,
    pub(super) endpoints: Table<Endpoint>,
    pub(super) events: Events,
    pub(super) outgoing: BTreeMap<u64, Outgoing>,
    pub(super) outgoing_count: u64,
    pub(super) keys: Keys,
    pub(super) rules: Vec<Rule>,
    /// Charges a card of a customer has had: (customer, fingerprint).
    pub(super) attempts: HashMap<(String, String), u32>,
    pub(super) counters: Counters,
    /// Objects that an unanswered request still holds, until when.
    pub(super) locks: HashMap<String, i64>,
    pub(super) log: RequestLog,
    jobs: BTreeMap<(i64, u64), Job>,
    job_count: u64,
}

/// What belongs to the request that runs now.
#[derive(Clone, Debug, Default)]
pub(super) struct CallFacts {
    pub(super) request_id: Option<String>,
    pub(super) idempotency_key: Option<String>,
    /// When it was sent, which may be long before it runs.
    pub(super) left_ms: i64,
    /// What a card wants to happen to the answer.
    pub(super) effect: Option<Effect>,
}

/// Something that happens by itself when its time comes.
#[derive(Clone, Debug)]
pub(super) enum Job {
    ExpireSession(String),
    /// A request that was on its way all the time, or an answer 500 that is carried through after all.
    Run {
        request: Box<Request>,
        /// When whoever sent it did so.
        left_ms: i64,
    },
    Finish {
        payment_intent: String,
        verdict: Verdict,
    },
    Book {
        charge: String,
    },
    Dispute {
        charge: String,
        reason: &'static str,
        inquiry: bool,
    },
    WarnOfFraud {
        charge: String,
    },
    FinishRefund {
        refund: String,
        succeeds: bool,
    },
    UpdateCard {
        payment_method: String,
    },
    Detach {
        payment_method: String,
    },
}

impl State {
    pub(super) fn new(options: Options) -> Self {
        Self {
            now_ms: options.now.now_ms(),
            rng: Rng::new(options.seed),
            log: RequestLog::new(options.requests_kept_max),
            options,
            call: CallFacts::default(),
            customers: Table::default(),
            payment_methods: Table::default(),
            payment_intents: Table::default(),
            setup_intents: Table::default(),
            charges: Table::default(),
            sessions: Table::default(),
            refunds: Table::default(),
            disputes: Table::default(),
            endpoints: Table::default(),
            events: Events::default(),
            outgoing: BTreeMap::new(),
            outgoing_count: 0,
            keys: Keys::default(),
            rules: Vec::new(),
            attempts: HashMap::new(),
            counters: Counters::default(),
            locks: HashMap::new(),
            jobs: BTreeMap::new(),
            job_count: 0,
        }
    }

    /// Unix seconds.
    pub(super) fn now(&self) -> i64 {
        self.now_ms.div_euclid(1000)
    }

    pub(super) fn schedule(&mut self, in_ms: i64, job: Job) {
        self.job_count += 1;
        self.jobs.insert((self.now_ms.saturating_add(in_ms), self.job_count), job);
    }

    /// Lets everything happen that was due up to the present, each at its own instant.
    pub(super) fn pass_time(&mut self) {
        let present = self.options.now.now_ms();
        while let Some(entry) = self.jobs.first_entry() {
            let due_ms = entry.key().0;
            if due_ms > present {
                break;
            }
            let job = entry.remove();
            self.now_ms = due_ms;
            self.call = CallFacts::default();
            self.run(job);
        }
        self.now_ms = present;
    }

    /// When the next thing happens by itself, Unix milliseconds.
    #[cfg(feature = "simulation")]
    pub(super) fn next_job_ms(&self) -> Option<i64> {
        self.jobs.keys().next().map(|(due_ms, _)| *due_ms)
    }

    fn run(&mut self, job: Job) {
        match job {
            Job::ExpireSession(id) => super::checkout::expire_by_time(self, &id),
            Job::Run { request, left_ms } => super::api::run_late(self, &request, left_ms),
            Job::Finish { payment_intent, verdict } => {
                super::attempts::finish_processing(self, &payment_intent, verdict);
            }
            Job::Book { charge } => super::charges::book(self, &charge),
            Job::Dispute { charge, reason, inquiry } => super::disputes::open(self, &charge, reason, inquiry),
            Job::WarnOfFraud { charge } => super::disputes::warn(self, &charge),
            Job::FinishRefund { refund, succeeds } => super::refunds::finish(self, &refund, succeeds),
            Job::UpdateCard { payment_method } => super::payment_methods::update_card(self, &payment_method),
            Job::Detach { payment_method } => super::payment_methods::detach_quietly(self, &payment_method),
        }
    }

    /// The object with this id as the API shows it.
    pub(super) fn render(&self, id: &str) -> Option<Value> {
        let prefix = id.split('_').next().unwrap_or_default();
        match prefix {
            "cus" => self.customers.get(id).map(Customer::render),
            "pm" | "card" => self.payment_methods.get(id).map(PaymentMethod::render),
            "pi" => self.payment_intents.get(id).map(PaymentIntent::render),
            "seti" => self.setup_intents.get(id).map(SetupIntent::render),
            "setatt" => super::setup_intents::attempt(self, id),
            "ch" => self.charges.get(id).map(Charge::render),
            "cs" => self.sessions.get(id).map(|session| session.render(self)),
            "re" => self.refunds.get(id).map(Refund::render),
            "du" => self.disputes.get(id).map(Dispute::render),
            "txn" => super::charges::balance_transaction(self, id),
            _ => self.payment_methods.get(id).map(PaymentMethod::render),
        }
    }
}

/// The row named in the path, or 404.
pub(super) fn in_path<'a, T: Record>(table: &'a Table<T>, param: &str, id: &str) -> Result<&'a T, ApiError> {
    table.get(id).ok_or_else(|| ApiError::not_found(T::OBJECT, param, id))
}

/// The row named in a parameter, or 400.
pub(super) fn in_param<'a, T: Record>(table: &'a Table<T>, param: &str, id: &str) -> Result<&'a T, ApiError> {
    table.get(id).ok_or_else(|| ApiError::no_such(T::OBJECT, param, id))
}
