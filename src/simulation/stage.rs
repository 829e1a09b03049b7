//! What all actors of one run share: the true clock, Stripe, chance, the truth. One per thread.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::faults::{Faults, Kind};
use super::mirror::Touched;
use super::rng::Rng;
use super::truth::{Sender, Truth};
use super::world::SECRET_KEY;
use crate::sandbox::{self, Sandbox};
use crate::store::journal::StoredRequest;
use crate::stripe::Request;

/// What is not carried out while everything else is.
const PAYMENTS: &str = "POST /v1/payment_intents";

/// See the module.
pub struct Stage {
    /// The true clock, Unix milliseconds; Stripe's clock is the same.
    pub hand: Arc<AtomicI64>,
    /// Stripe.
    pub sandbox: Sandbox,
    /// What goes wrong.
    pub faults: Faults,
    /// What requests meet for a while: until when, Unix milliseconds, which kind of fault, and how their paths
    /// begin, after "POST " if others are spared.
    pub spell: (i64, Kind, &'static str),
    /// Until when the mail server takes nothing, Unix milliseconds.
    pub mail_down_until_ms: i64,
    /// How long things take.
    pub rng: Rng,
    /// What happened.
    pub truth: Truth,
    /// What changed since the last look.
    pub touched: Touched,
    /// What happened, in words, if anybody wants to read it.
    pub trace: Option<Vec<String>>,
    /// A hash of everything that happened: two runs of one seed must agree.
    pub digest: u64,
}

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

/// Sets the stage of this thread, or clears it.
pub fn set(stage: Option<Stage>) {
    STAGE.with_borrow_mut(|place| *place = stage);
}

/// Takes the stage away.
pub fn take() -> Option<Stage> {
    STAGE.with_borrow_mut(Option::take)
}

/// Uses the stage. Not from within itself.
///
/// # Panics
/// When none is set: a mistake in the simulator.
pub fn with<T>(use_it: impl FnOnce(&mut Stage) -> T) -> T {
    STAGE.with_borrow_mut(|stage| use_it(stage.as_mut().expect("a stage is set")))
}

/// The true time, Unix milliseconds.
#[must_use]
pub fn now_ms() -> i64 {
    with(|stage| stage.now_ms())
}

/// Writes a line of the trace.
pub fn note(line: impl FnOnce() -> String) {
    with(|stage| stage.note(line));
}

impl Stage {
    /// The stage of a run.
    #[must_use]
    pub fn new(options: &super::Options, hand: Arc<AtomicI64>, sandbox: Sandbox) -> Self {
        Self {
            hand,
            sandbox,
            faults: Faults::new(options.seed, options.disabled.clone(), options.suppressed.clone()),
            spell: (0, Kind::Outage, "/"),
            mail_down_until_ms: 0,
            rng: Rng::new(options.seed, "wire"),
            truth: Truth::default(),
            touched: Touched::default(),
            trace: options.traces.then(Vec::new),
            digest: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// The true time, Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.hand.load(Ordering::SeqCst)
    }

    /// Moves the true clock forward.
    pub fn move_to(&self, ms: i64) {
        self.hand.fetch_max(ms, Ordering::SeqCst);
    }

    /// Writes a line of the trace.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        let now_ms = self.now_ms();
        if let Some(trace) = &mut self.trace {
            let at = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default();
            let mut text = format!("{at:.0} ");
            let _ = write!(text, "{}", line());
            trace.push(text);
        }
    }

    /// Stirs something that happened into the digest.
    pub fn stir(&mut self, what: &str) {
        let now = self.now_ms().to_le_bytes();
        for byte in what.bytes().chain(now) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// What goes wrong with this request, in the sandbox's words.
    pub fn fault_of(&mut self, request: &Request) -> Option<String> {
        let now_ms = self.now_ms();
        let outage = |rng: &mut Rng| {
            let hours = if rng.chance(3000) { rng.between(14, 40) } else { rng.between(1, 14) };
            (hours, *rng.pick(&["/", "/v1/payment_intents"]))
        };
        if let Some((hours, paths)) = self.faults.strike(Kind::Outage).map(outage) {
            self.note(|| format!("  fault: Stripe does not answer to {paths}* for {hours} hours"));
            self.spell = (now_ms + hours * 3_600_000, Kind::Outage, paths);
        }
        if request.method == http::Method::POST
            && request.path.starts_with("/v1/payment_intents")
            && let Some(hours) = self.faults.strike(Kind::Payments).map(|rng| rng.between(1, 40))
        {
            self.note(|| format!("  fault: Stripe carries out no payments for {hours} hours"));
            self.spell = (now_ms + hours * 3_600_000, Kind::Outage, PAYMENTS);
        }
        if self.spell_lasts() && self.is_under_spell(request) {
            return Some(self.in_spell(request));
        }
        let kind = |faults: &mut Faults, kind, words: fn(&mut Rng) -> String| faults.strike(kind).map(words);
        let is_fresh = self.is_fresh(request);
        let faults = &mut self.faults;
        let found = kind(faults, Kind::NotSent, |_| "not-sent".into())
            .or_else(|| kind(faults, Kind::RequestLost, |_| "no-answer not-executed".into()))
            .or_else(|| kind(faults, Kind::AnswerLost, |_| "no-answer".into()))
            .or_else(|| kind(faults, Kind::AnswerCut, |rng| format!("cut {}", rng.below(900))))
            .or_else(|| kind(faults, Kind::AnswerLate, |rng| format!("late {}s", rng.between(3, 110))))
            .or_else(|| kind(faults, Kind::ArrivesLate, arrives_late))
            .or_else(|| kind(faults, Kind::ServerError, server_error))
            .or_else(|| {
                // What has been answered before is answered the same again, and not carried out once more.
                if is_fresh { kind(faults, Kind::Forward, forward) } else { None }
            })
            .or_else(|| kind(faults, Kind::Conflict, |_| "409".into()))
            .or_else(|| {
                kind(faults, Kind::RateLimit, |rng| {
                    format!("429 {}", rng.pick(&["endpoint-rate", "global-rate", "resource-specific"]))
                })
            })
            .or_else(|| kind(faults, Kind::LockTimeout, |_| "lock-timeout".into()));
        if found.as_ref().is_some_and(|fault| fault.starts_with("429")) && self.rng.chance(4000) {
            self.spell = (now_ms + self.rng.between(1_000, 300_000), Kind::RateLimit, "/");
        }
        if let Some(fault) = &found {
            let line = format!("  fault: {fault} on {} {}", request.method, request.path);
            self.note(|| line);
        }
        found
    }

    /// Whether Stripe answers nobody.
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.spell_lasts() && self.spell.1 == Kind::Outage && self.spell.2 == "/"
    }

    fn spell_lasts(&self) -> bool {
        self.now_ms() < self.spell.0 && !self.faults.is_quiet
    }

    fn is_under_spell(&self, request: &Request) -> bool {
        let (is_post, paths) = match self.spell.2.strip_prefix("POST ") {
            Some(paths) => (request.method == http::Method::POST, paths),
            None => (true, self.spell.2),
        };
        is_post && request.path.starts_with(paths)
    }

    fn is_fresh(&self, request: &Request) -> bool {
        request.idempotency_key().is_none_or(|key| !self.truth.keys.contains_key(key))
    }

    /// The fault of a request while something lasts.
    fn in_spell(&mut self, request: &Request) -> String {
        match (self.spell.1, self.rng.below(10)) {
            (Kind::RateLimit, _) => "429 global-rate".into(),
            // In the midst of it Stripe takes work that it finishes afterwards.
            (_, 0..3) if self.is_fresh(request) => forward(&mut self.rng),
            (_, 0..6) => "no-answer not-executed".into(),
            (_, 6..8) => "not-sent".into(),
            (_, _) => arrives_late(&mut self.rng),
        }
    }

    /// The nonces that a witness shows to whoever asks now.
    #[must_use]
    pub fn shown_nonces(&self, witness: &str) -> Option<Vec<String>> {
        let request = sandbox::Request::new(http::Method::GET, format!("/v1/customers/{witness}"));
        let outcome = self.sandbox.handle(&request.header("authorization", &format!("Bearer {SECRET_KEY}")));
        let customer: serde_json::Value = serde_json::from_slice(&outcome.response()?.body).ok()?;
        let fields = customer["metadata"].as_object()?.iter();
        let nonces = fields.filter(|(key, _)| key.starts_with("recurd_nonce"));
        Some(nonces.filter_map(|(_, nonce)| nonce.as_str().map(str::to_owned)).collect())
    }

    /// Remembers a POST that leaves now: the how many-th use of its key it is.
    pub fn post(&mut self, request: &Request, stored: Option<StoredRequest>, sender: Sender) -> u32 {
        let Some(key) = request.idempotency_key() else { return 0 };
        let body =
            request.body.as_ref().map_or_else(String::new, |body| String::from_utf8_lossy(body).into_owned());
        let post = self.truth.post(self.now_ms(), key, &request.path, &body, stored, sender);
        let times = post.times;
        self.touched.posts.push(post);
        times
    }
}

/// A 500 that is carried out later; of half of them nobody hears.
fn forward(rng: &mut Rng) -> String {
    let heard = rng.pick(&["", " lost"]);
    format!("500{heard} forward {}m", rng.between(1, 2880))
}

fn arrives_late(rng: &mut Rng) -> String {
    format!("arrives-late {}s", rng.between(1, 6600))
}

fn server_error(rng: &mut Rng) -> String {
    let status = rng.pick(&[500, 502, 503, 504]);
    let executed = rng.pick(&["", " not-executed"]);
    let retry = rng.pick(&["", " retry=true", " retry=false"]);
    format!("{status}{executed}{retry}")
}
