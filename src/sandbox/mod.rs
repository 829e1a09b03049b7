//! A Stripe of your own: stateful, on loopback, with a movable clock and faults on demand.
//!
//! It is built from Stripe's documentation and knows nothing of this project's Stripe client. Tests and
//! the simulator call [`Sandbox::handle`] without sockets; `recurd sandbox` serves the same bytes over HTTP,
//! with the hosted Checkout page and real webhooks. What goes in is a [`Request`], what comes out is an
//! [`Outcome`], which may also be silence.
//!
//! To read: `api` (one request from arrival to answer), `attempts` (what happens when an intent is confirmed),
//! `issuer` (the bank), `faults`, then the endpoints, a file for each kind of object.

mod account;
mod amounts;
mod api;
mod attempts;
mod auth;
mod books;
mod cards;
#[cfg(feature = "simulation")]
mod changes;
mod charges;
mod checkout;
mod checkout_pay;
mod clock;
mod control;
mod customers;
mod disputes;
mod errors;
mod events;
mod expand;
mod faults;
mod form;
mod http;
mod idempotency;
mod ids;
mod intent;
mod intent_search;
mod issuer;
mod line_items;
mod lists;
mod method_details;
mod options;
mod pages;
mod params;
mod payment_intents;
mod payment_methods;
mod post;
mod rate_limits;
mod refunds;
mod router;
mod schema;
mod seeds;
mod serve;
mod session;
mod setup_intents;
mod state;
mod table;
mod webhook_endpoints;
mod webhooks;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use books::{
    Books, ChargeRow, CustomerRow, DisputeRow, LoggedRequest, PaymentIntentRow, PaymentMethodRow, RefundRow,
    SessionRow, SetupIntentRow,
};
#[cfg(feature = "simulation")]
pub use changes::Changes;
pub use checkout_pay::{CardEntry, PageStep};
pub use clock::NowSource;
pub use faults::{Effect, Rule};
pub use http::{Answer, Outcome, Request, Response};
pub use issuer::{Attempt, Decline, Issuer, Verdict};
pub use options::Options;
pub use rate_limits::RateLimits;
pub use seeds::{Refusal, SeedCard};
#[cfg(feature = "simulation")]
pub(crate) use webhooks::signature;
pub use webhooks::{Delivery, WebhookRules};

use state::State;

/// A Stripe. Clones share it.
#[derive(Clone)]
pub struct Sandbox(Arc<Mutex<State>>);

impl Sandbox {
    /// An empty account.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self(Arc::new(Mutex::new(State::new(options))))
    }

    /// Answers one request: API, Checkout pages, and what is under `/_sandbox/`.
    #[must_use]
    pub fn handle(&self, request: &Request) -> Outcome {
        let mut state = self.lock();
        state.pass_time();
        let path = request.path();
        if path.starts_with("/v1/") || path == "/v1" {
            api::answer(&mut state, request)
        } else if path == "/_sandbox" || path.starts_with("/_sandbox/") {
            Outcome::at_once(control::answer(&mut state, request))
        } else {
            Outcome::at_once(pages::answer(&mut state, request))
        }
    }

    /// What really happened.
    #[must_use]
    pub fn books(&self) -> Books {
        let mut state = self.lock();
        state.pass_time();
        books::read(&state)
    }

    /// Lets everything happen that is due at the present of its clock. Every request does the same.
    pub fn tick(&self) {
        self.lock().pass_time();
    }

    /// Moves its clock by some seconds and lets happen what was due until then.
    pub fn advance(&self, secs: i64) {
        let mut state = self.lock();
        state.options.now.advance_ms(secs.saturating_mul(1000));
        state.pass_time();
    }

    /// The present of its clock, Unix seconds.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.lock().options.now.now_ms().div_euclid(1000)
    }

    /// Lets requests go wrong.
    pub fn add_fault(&self, rule: Rule) {
        self.lock().rules.push(rule);
    }

    /// Nothing goes wrong any more.
    pub fn clear_faults(&self) {
        self.lock().rules.clear();
    }

    /// Changes how events travel from now on.
    pub fn set_webhook_rules(&self, rules: WebhookRules) {
        self.lock().options.webhooks = rules;
    }

    /// Enforces rate limits, or no longer.
    pub fn set_rate_limits(&self, limits: Option<RateLimits>) {
        self.lock().options.rate_limits = limits;
    }

    /// From now on requests with this key are refused, as after it was rolled.
    pub fn revoke_key(&self, key: &str) {
        self.lock().options.revoked_keys.push(key.to_owned());
    }

    /// Makes a customer with a given id exist.
    ///
    /// # Errors
    /// When it exists already.
    pub fn seed_customer(&self, id: &str, email: Option<&str>, name: Option<&str>) -> Result<(), Refusal> {
        seeds::customer(&mut self.lock(), id, email, name)
    }

    /// Makes a saved card with a given id exist.
    ///
    /// # Errors
    /// When it exists already, or when its customer or its kind does not.
    pub fn seed_card(&self, card: &SeedCard) -> Result<(), Refusal> {
        seeds::card(&mut self.lock(), card)
    }

    /// Says what the next charges of a card get, in the words of `data/sandbox_payment_methods.csv`:
    /// `insufficient_funds x2, ok`.
    ///
    /// # Errors
    /// When the card does not exist or the words are not understood.
    pub fn script_card(&self, payment_method: &str, script: &str) -> Result<(), Refusal> {
        seeds::script(&mut self.lock(), payment_method, script)
    }

    /// Registers a webhook endpoint and returns its secret.
    pub fn add_webhook(&self, url: &str, events: &[&str], secret: Option<&str>) -> String {
        let mut state = self.lock();
        let events = events.iter().map(|kind| (*kind).to_owned()).collect();
        let id = webhook_endpoints::insert(&mut state, url, events, secret.map(str::to_owned));
        state.endpoints.get(&id).map(|endpoint| endpoint.secret.clone()).unwrap_or_default()
    }

    /// Events that are due, signed, for callers without sockets. They count as delivered at the next call,
    /// unless [`Sandbox::delivery_failed`] is called.
    #[must_use]
    pub fn take_deliveries(&self) -> Vec<Delivery> {
        let mut state = self.lock();
        state.pass_time();
        webhooks::settle_taken(&mut state);
        webhooks::take(&mut state)
    }

    /// Events that are due; each must be reported.
    fn due_deliveries(&self) -> Vec<Delivery> {
        let mut state = self.lock();
        state.pass_time();
        webhooks::take(&mut state)
    }

    /// The receiver answered a delivery with a 2xx.
    pub fn delivery_succeeded(&self, delivery: &Delivery) {
        webhooks::succeeded(&mut self.lock(), delivery.id);
    }

    /// The receiver did not take a delivery: it comes again later.
    pub fn delivery_failed(&self, delivery: &Delivery) {
        webhooks::failed(&mut self.lock(), delivery.id);
    }

    /// Does what a person does on the Checkout page with a card.
    ///
    /// # Errors
    /// When there is no such session or it is no longer open.
    pub fn submit_card(&self, session: &str, entry: &CardEntry) -> Result<PageStep, Refusal> {
        self.person(|state| checkout_pay::submit(state, session, entry))
    }

    /// Answers 3-D Secure for a session that asks for it.
    ///
    /// # Errors
    /// When the session does not ask.
    pub fn answer_three_d_secure(&self, session: &str, passed: bool) -> Result<PageStep, Refusal> {
        self.person(|state| checkout_pay::authenticate(state, session, passed))
    }

    /// Completes a session with a card, authenticating where that is asked for.
    ///
    /// # Errors
    /// When there is no such session or it is no longer open.
    pub fn complete_session(&self, session: &str, card: &str) -> Result<PageStep, Refusal> {
        let entry = CardEntry { card: card.to_owned(), terms_accepted: true, ..CardEntry::default() };
        match self.submit_card(session, &entry)? {
            PageStep::Authenticate => self.answer_three_d_secure(session, true),
            step => Ok(step),
        }
    }

    /// The bank disputes a charge.
    pub fn dispute(&self, charge: &str) {
        let mut state = self.lock();
        state.pass_time();
        disputes::open(&mut state, charge, "fraudulent", false);
    }

    /// The bank decides about a dispute: `won`, `lost` or `warning_closed`. Whether there is such a dispute.
    pub fn close_dispute(&self, dispute: &str, status: &'static str) -> bool {
        let mut state = self.lock();
        state.pass_time();
        disputes::close(&mut state, dispute, status).is_some()
    }

    /// Something happens to an object that this sandbox does not have: a mandate, a review, a payout. Only its event can be
    /// read.
    pub fn announce(&self, event: &'static str, object: &serde_json::Value) {
        let mut state = self.lock();
        state.pass_time();
        state.call = state::CallFacts::default();
        state.emit(event, object);
    }

    /// Stripe lets the account charge, or no longer.
    pub fn enable_charges(&self, enabled: bool) {
        let mut state = self.lock();
        state.pass_time();
        state.call = state::CallFacts::default();
        state.options.charges_enabled = enabled;
        let account = account::render(&state);
        state.emit("account.updated", &account);
    }

    /// The issuer reports fraud before any dispute.
    pub fn warn_of_fraud(&self, charge: &str) {
        let mut state = self.lock();
        state.pass_time();
        disputes::warn(&mut state, charge);
    }

    /// The network sends the new number and date of a card.
    pub fn update_card(&self, payment_method: &str) {
        let mut state = self.lock();
        state.pass_time();
        payment_methods::update_card(&mut state, payment_method);
    }

    /// Somebody acts outside the API, such as a person on the page.
    fn person<T>(&self, act: impl FnOnce(&mut State) -> Result<T, errors::ApiError>) -> Result<T, Refusal> {
        let mut state = self.lock();
        state.pass_time();
        state.call = state::CallFacts::default();
        act(&mut state).map_err(|error| Refusal(error.message().to_owned()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held may have left half a change; the sandbox goes on with it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a sandbox on `listen` until the process is told to stop. Its first line of output is its address.
///
/// # Errors
/// When the address cannot be had.
pub async fn main(listen: &str, mut options: Options) -> io::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    if options.public_url.is_empty() {
        options.public_url = format!("http://{address}");
    }
    println!("The sandbox plays Stripe on {}", options.public_url);
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "The sandbox listens beyond this machine, and whoever reaches it can control it");
    }
    Sandbox::new(options).serve(listener, stop_signal()).await
}

async fn stop_signal() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::error!(%error, "SIGTERM cannot be heard");
            return std::future::pending().await;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
