//! How a sandbox behaves.

use std::time::Duration;

use super::clock::NowSource;
use super::issuer::Issuer;
use super::rate_limits::RateLimits;
use super::webhooks::WebhookRules;

/// How a sandbox behaves.
#[derive(Clone)]
pub struct Options {
    /// Ids and every chance follow from it.
    pub seed: u64,
    /// Its clock.
    pub now: NowSource,
    /// Where people reach its pages, without a slash at the end.
    pub public_url: String,
    /// The version of requests and events that name none.
    pub api_version: String,
    /// Refuse unknown parameters and missing return URLs, as Stripe does.
    pub strict: bool,
    /// Take card numbers in API requests.
    pub raw_cards_allowed: bool,
    /// `acct_...`
    pub account: String,
    /// Shown on the Checkout page.
    pub merchant_name: String,
    /// What the account says of itself.
    pub charges_enabled: bool,
    /// Keys that are refused.
    pub revoked_keys: Vec<String>,
    /// A bank of your own.
    pub issuer: Option<Issuer>,
    /// Rate limits, if they are enforced.
    pub rate_limits: Option<RateLimits>,
    /// How events travel.
    pub webhooks: WebhookRules,
    /// How long after the payment a dispute card's dispute comes.
    pub disputes_after: Duration,
    /// Search lags up to this many seconds behind.
    pub search_lag_secs_max: i64,
    /// Limit: older requests leave the log. 0 keeps none.
    pub requests_kept_max: usize,
    /// Limit: older events are forgotten.
    pub events_kept_max: usize,
}

impl Options {
    /// A strict sandbox with a clock that is moved by hand.
    #[must_use]
    pub fn manual(seed: u64, start_secs: i64) -> Self {
        Self::new(seed, NowSource::manual(start_secs))
    }

    /// A strict sandbox for people and programs on this machine: the machine's clock, ids that no earlier one had,
    /// and the address it will listen on as its public URL.
    #[must_use]
    pub fn standalone() -> Self {
        let now = NowSource::system();
        let seed = now.now_ms().unsigned_abs() ^ (u64::from(std::process::id()) << 40);
        Self { public_url: String::new(), ..Self::new(seed, now) }
    }

    /// A strict sandbox with this clock.
    #[must_use]
    pub fn new(seed: u64, now: NowSource) -> Self {
        Self {
            seed,
            now,
            public_url: "http://127.0.0.1:12111".to_owned(),
            api_version: "2026-05-27.dahlia".to_owned(),
            strict: true,
            raw_cards_allowed: false,
            account: "acct_1SandboxAccount00".to_owned(),
            merchant_name: "Sandbox Merchant".to_owned(),
            charges_enabled: true,
            revoked_keys: Vec::new(),
            issuer: None,
            rate_limits: None,
            webhooks: WebhookRules::default(),
            disputes_after: Duration::from_secs(60),
            search_lag_secs_max: 3600,
            requests_kept_max: 10_000,
            events_kept_max: 100_000,
        }
    }
}
